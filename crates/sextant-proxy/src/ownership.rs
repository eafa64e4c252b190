//! Decides whether a request is for results of the caller's own subtasks. The results of the node's organization belong to all jobs of the
//! collaboration, and a container's token may read them all. The proxy decrypts only those of the caller's own subtasks.
//!
//! It relies on what the server tells the caller's token about the task: its parent must be the caller's task, and its creator the caller's
//! organization. So a result can be decrypted only if the request names its task (`result?task_id=`) or its run (`result/{id}`). All other
//! results pass unchanged.
//!
//! Tokens never expire, and some servers reuse the ids of deleted tasks. So the proxy also checks the caller's own task: it must have the
//! image that the token was issued for, and must not be newer than the token. A token that has outlived its task, or whose task is
//! completed, gets nothing decrypted and can't create subtasks. If the database's clock is ahead of UTC, ids are never reused, and a task
//! may be newer than its token: see [`database_clock`](super::database_clock).
//!
//! A server may serve many collaborations, and tokens of their nodes work at this proxy as well. Their algorithms could place encrypted
//! messages in jobs of their own to have them decrypted here. So a caller must belong to this organization. The node knows its id; a
//! separate proxy reads it from a setting (`encryption.organization_id`). Without the setting, the server's key for the caller's
//! organization must be this proxy's key. This is the weaker check, because anybody may publish a copy of a public key.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderMap, Response};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;
use url::form_urlencoded;
use vantage6::TaskOrigin;
use vantage6::encryption::Cryptor;

use super::access_log::Record;
use super::body::PooledBody;
use super::caller::{self, Caller};
use super::forward::Proxy;
use super::lookup::{Lookup, parsed};
use super::refusal::Refusal;
use super::route::number;
use super::token_cache;

/// How long a finding is cached: long enough for the pages of a task's results. Short, because some servers reuse the ids of deleted tasks.
pub(super) const TTL: Duration = Duration::from_secs(2);
/// The most findings in the cache.
const CAPACITY: usize = 1024;
/// Tolerance for token times: servers truncate them to whole seconds, and the clocks of a server's processes differ slightly.
const CLOCKS: SignedDuration = SignedDuration::from_secs(2);
/// Requests the newest tasks. One of them may reveal the database's clock.
const NEWEST: &str = "/task?sort=-id&per_page=4";

/// What a query is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// The task whose results are requested.
    Task(u64),
    /// The run whose result is requested.
    Run(u64),
    /// The caller's own task.
    Caller,
}

/// The owner of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The caller, through this subtask.
    Caller(u64),
    /// Another caller, or unknown.
    Other,
}

/// The result of a query for the owner.
pub(crate) enum OwnerLookup {
    Known(Owner),
    /// The server can't tell at the moment; the algorithm gets this answer.
    Relay(Box<Response<PooledBody>>),
}

/// How a caller's token relates to the task that it names.
pub(crate) enum TokenStatus {
    /// It was issued for this task.
    Current,
    /// It was issued for an earlier task with this id, or this can't be excluded.
    Stale,
    /// Its task is completed.
    Finished,
    /// It was issued for another organization's node.
    Foreign,
    /// The server does not return the task; the algorithm gets this answer.
    Relay(Box<Response<PooledBody>>),
}

/// The hash of a caller's token, and the subject of the query.
type CacheKey = ([u8; 32], Subject);

/// Recent findings about owners.
#[derive(Default)]
pub(crate) struct OwnerCache(Mutex<HashMap<CacheKey, (Instant, Owner)>>);

impl OwnerCache {
    fn get(&self, question: &CacheKey) -> Option<Owner> {
        let known = self.0.lock();
        known.get(question).filter(|(since, _)| since.elapsed() < TTL).map(|(_, whose)| *whose)
    }

    fn insert(&self, question: CacheKey, whose: Owner) {
        let mut known = self.0.lock();
        if known.len() >= CAPACITY {
            known.retain(|_, (since, _)| since.elapsed() < TTL);
        }
        if known.len() < CAPACITY {
            known.insert(question, (Instant::now(), whose));
        }
    }

    /// Makes a caller's token count as valid for its task for an hour.
    #[cfg(test)]
    pub fn trust(&self, headers: &HeaderMap) {
        let since = Instant::now() + Duration::from_secs(3600);
        self.0.lock().insert((token_cache::token_hash(headers), Subject::Caller), (since, Owner::Caller(0)));
    }
}

/// Returns the task that a query of `result` names, and the query in canonical form. Returns `None` if the query names no task or several,
/// or is ambiguous.
pub(crate) fn single_task(query: &str) -> Option<(u64, String)> {
    let mut task = None;
    let mut written = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == "task_id" {
            let id = number(&value)?;
            if task.replace(id).is_some() {
                return None;
            }
        }
        written.append_pair(&name, &value);
    }
    Some((task?, written.finish()))
}

#[derive(Deserialize)]
struct Link {
    id: u64,
}

/// How the task with the token's task id relates to the token. It is another task if it has another image or is newer than the token.
enum Match {
    Same,
    /// It is newer than the token, according to the database's clock.
    Newer,
    Other,
}

impl Match {
    fn of(task: &TaskOrigin, number: u64, headers: &HeaderMap) -> Self {
        let made = caller::issued_at(headers).and_then(|seconds| Timestamp::from_second(seconds).ok());
        let (Some(created), Some(made)) = (task.created_at, made) else { return Self::Other };
        if task.id.0 != number || task.image.is_none() || task.image != caller::image(headers) {
            Self::Other
        } else if created.duration_since(made) > CLOCKS {
            Self::Newer
        } else {
            Self::Same
        }
    }
}

/// A task's status.
#[derive(Deserialize)]
struct Progress {
    #[serde(default)]
    status: Option<String>,
}

impl Progress {
    /// Whether all of its runs have finished. The failed statuses do not tell this: a task is `failed` as soon as one of its runs is.
    fn is_over(&self) -> bool {
        self.status.as_deref() == Some("completed")
    }
}

/// A page of tasks with their creation times.
#[derive(Deserialize)]
struct Tasks {
    data: Vec<Created>,
}

#[derive(Deserialize)]
struct Created {
    #[serde(default)]
    created_at: Option<String>,
}

/// `RunSchema` and `TaskSchema` in `server/resource/common/output_schema.py`, 4.5.5 and 4.15.2 alike.
#[derive(Deserialize)]
struct Run {
    task: Link,
}

#[derive(Deserialize)]
pub(super) struct Task {
    pub id: u64,
    #[serde(default)]
    parent: Option<Link>,
    #[serde(default)]
    init_org: Option<Link>,
    #[serde(default)]
    image: Option<String>,
}

impl Task {
    /// Returns whose subtask this is. A subtask has its caller's image (see [`super::subtask`]). One with another image belongs to another
    /// job, whose task had the id of the caller's task: some servers reuse the ids of deleted tasks.
    pub fn owner(&self, asked: u64, caller: Caller, image: Option<&str>) -> Owner {
        let parent = self.parent.as_ref().map(|link| link.id);
        let is_own = self.id == asked
            && parent.is_some()
            && parent == caller.task
            && self.init_org.as_ref().is_some_and(|link| Some(link.id) == caller.organization)
            && self.image.as_deref().is_some_and(|own| Some(own) == image);
        if is_own { Owner::Caller(asked) } else { Owner::Other }
    }
}

impl Proxy {
    /// Returns the owner of the requested results.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub async fn owner(
        &self,
        named: Subject,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<OwnerLookup, Refusal> {
        let looked = self.owner_by_parent(named, headers, record).await?;
        if !matches!(looked, OwnerLookup::Known(Owner::Caller(_))) {
            return Ok(looked);
        }
        Ok(match self.token_status(headers, record).await? {
            TokenStatus::Current => looked,
            TokenStatus::Relay(answer) if answer.status().is_server_error() => OwnerLookup::Relay(answer),
            TokenStatus::Stale | TokenStatus::Finished | TokenStatus::Foreign | TokenStatus::Relay(_) => {
                OwnerLookup::Known(Owner::Other)
            }
        })
    }

    /// Returns how the caller's token relates to the task that it names.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub async fn token_status(&self, headers: &HeaderMap, record: &mut Record) -> Result<TokenStatus, Refusal> {
        let Some(task) = record.caller.task else { return Ok(TokenStatus::Stale) };
        let question = (token_cache::token_hash(headers), Subject::Caller);
        let whose = match self.shared.owners.get(&question) {
            Some(whose) => whose,
            None if !self.is_of_this_organization(headers, record).await? => return Ok(TokenStatus::Foreign),
            None => match self.lookup(&format!("/task/{task}"), headers, record).await? {
                Lookup::Found(text, answered_at) => {
                    let clock = &self.shared.database_clock;
                    let found = parsed::<TaskOrigin>(&text);
                    clock.observe(found.as_ref().and_then(|task| task.created_at), answered_at);
                    let is_its = match found.map(|found| Match::of(&found, task, headers)) {
                        Some(Match::Same) => true,
                        Some(Match::Newer) => clock.is_ahead() || self.newest_are_ahead(headers, record).await?,
                        Some(Match::Other) | None => false,
                    };
                    if is_its && parsed::<Progress>(&text).is_some_and(|task| task.is_over()) {
                        return Ok(TokenStatus::Finished);
                    }
                    let whose = if is_its { Owner::Caller(task) } else { Owner::Other };
                    self.shared.owners.insert(question, whose);
                    whose
                }
                Lookup::TooLong => Owner::Other,
                Lookup::NotFound(answer) | Lookup::Unavailable(answer) => {
                    return Ok(TokenStatus::Relay(Box::new(answer)));
                }
            },
        };
        Ok(if whose == Owner::Other { TokenStatus::Stale } else { TokenStatus::Current })
    }

    /// Whether the caller belongs to this node's organization. If the organization's id is unknown, its key is compared. Without encryption
    /// either, every caller is accepted.
    async fn is_of_this_organization(&self, headers: &HeaderMap, record: &mut Record) -> Result<bool, Refusal> {
        if let Some(own) = self.shared.organization {
            return Ok(record.caller.organization == Some(own.0));
        }
        let Cryptor::Encrypted(own) = &self.shared.cryptor else { return Ok(true) };
        let Some(organization) = record.caller.organization else { return Ok(false) };
        match self.keys_of(&[organization], headers, record).await {
            Ok(keys) => Ok(keys.first() == Some(own.public())),
            // The organization has no usable key, or the caller may not see it.
            Err(refusal) if refusal.status.is_client_error() => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether the newest tasks reveal a clock ahead of UTC. The caller's own task may be too old for that.
    async fn newest_are_ahead(&self, headers: &HeaderMap, record: &mut Record) -> Result<bool, Refusal> {
        let clock = &self.shared.database_clock;
        if let Lookup::Found(text, answered_at) = self.lookup(NEWEST, headers, record).await? {
            for task in parsed::<Tasks>(&text).into_iter().flat_map(|tasks| tasks.data) {
                let created_at = task.created_at.and_then(|text| vantage6::from_server(&text).ok());
                clock.observe(created_at, answered_at);
            }
        }
        Ok(clock.is_ahead())
    }

    async fn owner_by_parent(
        &self,
        named: Subject,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<OwnerLookup, Refusal> {
        let question = (token_cache::token_hash(headers), named);
        if let Some(whose) = self.shared.owners.get(&question) {
            return Ok(OwnerLookup::Known(whose));
        }
        let task = match named {
            Subject::Task(task) => task,
            Subject::Run(run) => match self.lookup(&format!("/run/{run}"), headers, record).await? {
                Lookup::Found(text, _) => match parsed::<Run>(&text) {
                    Some(run) => run.task.id,
                    None => return Ok(self.learned(question, Owner::Other)),
                },
                Lookup::NotFound(_) | Lookup::TooLong => return Ok(OwnerLookup::Known(Owner::Other)),
                Lookup::Unavailable(answer) => return Ok(OwnerLookup::Relay(Box::new(answer))),
            },
            Subject::Caller => return Ok(OwnerLookup::Known(Owner::Other)),
        };
        Ok(match self.lookup(&format!("/task/{task}"), headers, record).await? {
            Lookup::Found(text, _) => {
                let image = caller::image(headers);
                let whose = |said: Task| said.owner(task, record.caller, image.as_deref());
                let whose = parsed::<Task>(&text).map_or(Owner::Other, whose);
                self.learned(question, whose)
            }
            Lookup::NotFound(_) | Lookup::TooLong => OwnerLookup::Known(Owner::Other),
            Lookup::Unavailable(answer) => OwnerLookup::Relay(Box::new(answer)),
        })
    }

    fn learned(&self, question: CacheKey, whose: Owner) -> OwnerLookup {
        self.shared.owners.insert(question, whose);
        OwnerLookup::Known(whose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_task_or_none() {
        for (query, task) in [
            ("task_id=9", Some((9, "task_id=9"))),
            ("page=2&task%5Fid=%39&a=b+c", Some((9, "page=2&task_id=9&a=b+c"))),
            ("task_id=9;task_id=10", None),
            ("task_id=9&task_id=9", None),
            ("task_id=09", None),
            ("task_id=+9", None),
            ("task_id=9%00", None),
            ("task_id=%D9%A9", None),
            ("task_id=99999999999999999999", None),
            ("task_id", None),
            ("a=task_id=9", None),
            ("Task_id=9", None),
            ("", None),
        ] {
            assert_eq!(single_task(query), task.map(|(id, text)| (id, text.to_owned())), "{query}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_does_not_grow_and_not_last() {
        let relations = OwnerCache::default();
        for number in 0..CAPACITY as u64 + 10 {
            relations.insert(([0; 32], Subject::Task(number)), Owner::Caller(number));
        }
        assert_eq!(relations.0.lock().len(), CAPACITY);
        assert_eq!(relations.get(&([0; 32], Subject::Task(1))), Some(Owner::Caller(1)));
        assert_eq!(relations.get(&([1; 32], Subject::Task(1))), None, "another caller's");
        assert_eq!(relations.get(&([0; 32], Subject::Run(1))), None);
        tokio::time::advance(TTL).await;
        assert_eq!(relations.get(&([0; 32], Subject::Task(1))), None);
        relations.insert(([0; 32], Subject::Run(1)), Owner::Other);
        assert_eq!(relations.0.lock().len(), 1);
    }
}
