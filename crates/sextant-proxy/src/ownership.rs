//! Whose results are asked for. Results of a node's organization come from all jobs of the collaboration, and a container's token may
//! read them all; decrypted are those of the caller's own subtasks alone.
//!
//! What counts is what the server says of the task to the caller's own token: the task's parent is the caller's task, and who created it
//! is the caller's organization. So a result can be decrypted only if the request names its task (`result?task_id=`) or its run
//! (`result/{id}`). Everything else passes as it is.
//!
//! Tokens never expire, and some servers use the numbers of deleted tasks again. So the caller's own task is looked at, too: it has the
//! image that the token was made for, and is not newer than the token. A token that has outlived its task gets nothing decrypted, and
//! makes no subtasks; neither does the token of a task that is completed. Where the database's clock is ahead of UTC, numbers stand for
//! one task alone, and a task may be newer than its token: see [`database_clock`](super::database_clock).
//!
//! A server may serve many collaborations, and their nodes' tokens reach this proxy as well: others plant messages in jobs of their own. So
//! a caller must be of this organization. Within the node its number is known, and for a proxy of its own it is a setting
//! (`encryption.organization_id`). Without it, the key that the server has for the caller's organization must be this one's: anybody may
//! publish a copy of a public key, so that is the weaker test.

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

/// How long what the server said counts: the pages of a task's results come within it. Short, because some servers use the numbers of
/// deleted tasks again.
pub(super) const TTL: Duration = Duration::from_secs(2);
/// How many answers are known at once.
const CAPACITY: usize = 1024;
/// Servers cut a token's time to whole seconds, and clocks of one server's processes differ a little.
const CLOCKS: SignedDuration = SignedDuration::from_secs(2);
/// The tasks that were created last, of which one may show what clock the database has.
const NEWEST: &str = "/task?sort=-id&per_page=4";

/// What names the results that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Their task.
    Task(u64),
    /// Their run.
    Run(u64),
    /// Nothing: the caller's own task is asked about.
    Caller,
}

/// Whose results they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Of a subtask of the caller's: this one.
    Caller(u64),
    /// Of anybody else, as far as anybody knows.
    Other,
}

/// What came of asking.
pub(crate) enum OwnerLookup {
    /// It is known.
    Known(Owner),
    /// The server doesn't say at this time; this is what it says instead.
    Relay(Box<Response<PooledBody>>),
}

/// What a caller's token is to the task whose number is in it.
pub(crate) enum TokenStatus {
    /// It was made for it.
    Current,
    /// It was made for an earlier task of this number, as far as anybody can tell.
    Stale,
    /// Its task is over.
    Finished,
    /// It was made for another organization's node.
    Foreign,
    /// The server says this instead.
    Relay(Box<Response<PooledBody>>),
}

/// A caller's token, hashed, and what it asked about.
type CacheKey = ([u8; 32], Subject);

/// What the server said lately.
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

    /// Has a caller's token count as its task's for an hour.
    #[cfg(test)]
    pub fn trust(&self, headers: &HeaderMap) {
        let since = Instant::now() + Duration::from_secs(3600);
        self.0.lock().insert((token_cache::token_hash(headers), Subject::Caller), (since, Owner::Caller(0)));
    }
}

/// The task that a query of `result` names, and the query in the one way of writing it; `None` if it names none, several, or something
/// that could be read in two ways.
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

/// What a task is to a token, by what it is: its number is another task's if that has another image, or is newer than the token.
enum Match {
    Same,
    /// It is newer than the token, by the database's clock.
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

/// How far a task is.
#[derive(Deserialize)]
struct Progress {
    #[serde(default)]
    status: Option<String>,
}

impl Progress {
    /// Whether all of its runs are. `failed` and its kinds say less: a task has failed as soon as one of its runs has.
    fn is_over(&self) -> bool {
        self.status.as_deref() == Some("completed")
    }
}

/// A list of tasks, and when they were created.
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
    /// A subtask has its caller's image (see [`super::subtask`]). So one of another image belongs to another job, whose task was given the
    /// number of the caller's own: some servers use numbers of deleted tasks again.
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
    /// Whose results a request is for.
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

    /// What the caller's token is to the task whose number is in it.
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

    /// Whether the caller is of this node's organization. Where its number is not known, whether its organization has this node's key;
    /// anybody where nothing is encrypted either.
    async fn is_of_this_organization(&self, headers: &HeaderMap, record: &mut Record) -> Result<bool, Refusal> {
        if let Some(own) = self.shared.organization {
            return Ok(record.caller.organization == Some(own.0));
        }
        let Cryptor::Encrypted(own) = &self.shared.cryptor else { return Ok(true) };
        let Some(organization) = record.caller.organization else { return Ok(false) };
        match self.keys_of(&[organization], headers, record).await {
            Ok(keys) => Ok(keys.first() == Some(own.public())),
            // It has none, or the caller may not see it.
            Err(refusal) if refusal.status.is_client_error() => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether the tasks that were created last show a clock that is ahead of UTC: the caller's own may be too old to show it.
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
