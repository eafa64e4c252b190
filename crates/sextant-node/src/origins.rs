//! The lineage of a run's task: the chain of parents up to the first task of its job, as the server knows them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_throttle::LogThrottle;
use parking_lot::Mutex;
use sextant_core::assignment::FirstTask;
use sextant_core::hub::{Hub, HubError, HubErrorKind, Task};
use sextant_core::lineage::{self, Broken, Link, Next};
use tracing::info;
use vantage6_types::TaskId;

/// How long a task is cached, so that the parent of simultaneous subtasks is read once. Short, because some servers reuse the ids of
/// deleted tasks.
const FRESH: Duration = Duration::from_secs(2);
/// The largest number of cached tasks.
const MOST: usize = 1024;

/// A cache of tasks' origins.
pub struct Origins {
    hub: Arc<dyn Hub>,
    known: Mutex<HashMap<TaskId, (Instant, Link)>>,
}

/// The chain from a task to the first one of its job.
#[derive(Debug, PartialEq, Eq)]
pub enum Lineage {
    /// The task itself, its parent, and so on; the last is the first task of the job.
    Whole(Vec<Link>),
    /// The chain can't be determined, and a retry won't help.
    Broken(Broken),
}

impl Origins {
    /// Creates an empty cache.
    pub fn new(hub: Arc<dyn Hub>) -> Self {
        Self { hub, known: Mutex::default() }
    }

    /// The chain from a task to the first one of its job.
    ///
    /// # Errors
    /// If the server is unavailable.
    pub async fn of(&self, task: &Task) -> Result<Lineage, HubError> {
        let mut links = vec![Link::from(task)];
        loop {
            let parent = match lineage::next(&links) {
                Next::Whole => return Ok(Lineage::Whole(links)),
                Next::Broken(why) => return Ok(Lineage::Broken(why)),
                Next::Ask(parent) => parent,
            };
            if let Some(link) = self.remembered(parent) {
                links.push(link);
                continue;
            }
            match self.hub.task_origin(parent).await {
                Ok(link) => {
                    self.remember(parent, link.clone());
                    links.push(link);
                }
                Err(error) => return broken(parent, error).map(Lineage::Broken),
            }
        }
    }

    /// The first task of a task's job, or the task itself if that can't be determined.
    ///
    /// # Errors
    /// If the server is unavailable.
    pub async fn first(&self, task: &Task) -> Result<FirstTask, HubError> {
        let own = FirstTask { task: task.id, created_at: task.created_at };
        Ok(match self.of(task).await? {
            Lineage::Whole(links) => {
                links.last().map_or(own, |link| FirstTask { task: link.task, created_at: link.created_at })
            }
            Lineage::Broken(why) => {
                static BROKEN: LogThrottle = LogThrottle::new();
                if let Some(times) = BROKEN.happened() {
                    info!(task = %task.id, times, "The first task of the job can't be determined: {why}; the task \
                        shares its /mnt/tmp with no other task");
                }
                own
            }
        })
    }

    fn remembered(&self, task: TaskId) -> Option<Link> {
        let known = self.known.lock();
        known.get(&task).filter(|(since, _)| since.elapsed() < FRESH).map(|(_, link)| link.clone())
    }

    fn remember(&self, task: TaskId, link: Link) {
        let mut known = self.known.lock();
        if known.len() >= MOST {
            known.retain(|_, (since, _)| since.elapsed() < FRESH);
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(task, (Instant::now(), link));
    }
}

/// Whether an error breaks the chain for good, or the server is just unavailable.
fn broken(task: TaskId, error: HubError) -> Result<Broken, HubError> {
    match error.kind {
        HubErrorKind::Refused(400..=499) => Ok(Broken::Hidden(task)),
        HubErrorKind::Unreadable => Ok(Broken::Unreadable(task)),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "of the test's own making")]

    use serde_json::{Value, json};
    use vantage6::encryption::Cryptor;
    use vantage6::{Backoff, Client, ServerUrl};
    use vantage6_types::{CollaborationId, JobId, OrganizationId, UserId};
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate, Times};

    use super::*;
    use sextant_core::policies::Policies;
    use sextant_core::policy::{self, Initiator, Origin};
    use sextant_hub::Server;

    /// {"sub": 7, "iat": 1000000, "exp": 1003600}, without a signature.
    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOjcsImlhdCI6MTAwMDAwMCwiZXhwIjoxMDAzNjAwfQ.c2ln";

    async fn server() -> (MockServer, Origins) {
        let server = MockServer::start().await;
        let login = json!({"access_token": TOKEN, "refresh_token": TOKEN});
        Mock::given(method("POST"))
            .and(path("/api/token/node"))
            .respond_with(ResponseTemplate::new(200).set_body_json(login))
            .mount(&server)
            .await;
        let backoff = Backoff {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(2),
            patience: Some(Duration::from_millis(20)),
        };
        let url = ServerUrl::new(&server.uri(), None, "/api").unwrap();
        let client = Client::builder(url, "key".to_owned().into()).backoff(backoff).build().unwrap();
        (server, Origins::new(Arc::new(Server::new(client, Cryptor::Plain, None))))
    }

    /// Mocks the server's answer about a task, expected this many times.
    async fn says(server: &MockServer, task: u64, answer: ResponseTemplate, times: impl Into<Times>) {
        Mock::given(method("GET"))
            .and(path(format!("/api/task/{task}")))
            .respond_with(answer)
            .expect(times)
            .mount(server)
            .await;
    }

    fn described(task: u64, parent: Option<u64>, organization: u64) -> Value {
        let link = |id: u64| json!({"id": id, "link": format!("/api/x/{id}"), "methods": ["GET"]});
        json!({"id": task, "name": "x", "image": "x", "job_id": 9, "parent": parent.map(link),
            "init_org": link(organization), "init_user": link(2), "collaboration": link(1), "status": "active"})
    }

    fn task(id: u64, parent: Option<u64>, organization: u64) -> Task {
        Task {
            id: TaskId(id),
            name: None,
            image: "x".into(),
            created_at: None,
            job: JobId(9),
            parent: parent.map(TaskId),
            init_org: OrganizationId(organization),
            init_user: Some(UserId(2)),
            collaboration: CollaborationId(1),
            store: None,
            databases: vec![],
        }
    }

    fn link(task: u64, parent: Option<u64>, organization: u64) -> Link {
        let (job, parent) = (Some(JobId(9)), parent.map(TaskId));
        let (user, organization) = (Some(UserId(2)), Some(OrganizationId(organization)));
        let (image, created_at) = (Some("x".into()), None);
        Link { task: TaskId(task), job, parent, user, organization, image, created_at }
    }

    #[tokio::test]
    async fn the_first_task_of_a_subtask_is_found_and_remembered() {
        let (server, origins) = server().await;
        says(&server, 5, ResponseTemplate::new(200).set_body_json(described(5, Some(4), 1)), 1).await;
        says(&server, 4, ResponseTemplate::new(200).set_body_json(described(4, None, 2)), 1).await;
        let expected = vec![link(6, Some(5), 3), link(5, Some(4), 1), link(4, None, 2)];
        for _ in 0..3 {
            assert_eq!(origins.of(&task(6, Some(5), 3)).await.unwrap(), Lineage::Whole(expected.clone()));
        }
        // A first task costs no request.
        assert_eq!(origins.of(&task(8, None, 3)).await.unwrap(), Lineage::Whole(vec![link(8, None, 3)]));
    }

    #[tokio::test]
    async fn all_runs_of_a_job_have_one_first_task() {
        let (server, origins) = server().await;
        let mut first = described(4, None, 2);
        first["created_at"] = json!("2026-01-02T03:04:05.678");
        says(&server, 5, ResponseTemplate::new(200).set_body_json(described(5, Some(4), 1)), 1).await;
        says(&server, 4, ResponseTemplate::new(200).set_body_json(&first), 1).await;
        let expected = FirstTask { task: TaskId(4), created_at: "2026-01-02T03:04:05.678Z".parse().ok() };
        let own = Task { created_at: "2026-01-02T03:04:05.678Z".parse().ok(), ..task(4, None, 2) };
        for task in [task(6, Some(5), 3), task(7, Some(4), 3), own] {
            assert_eq!(origins.first(&task).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_task_whose_first_one_cannot_be_told_shares_with_nobody() {
        let (server, origins) = server().await;
        says(&server, 5, ResponseTemplate::new(404).set_body_json(json!({"msg": "no"})), 1).await;
        let own = FirstTask { task: TaskId(6), created_at: None };
        assert_eq!(origins.first(&task(6, Some(5), 3)).await.unwrap(), own);
        let (server, origins) = self::server().await;
        says(&server, 5, ResponseTemplate::new(503), 1..).await;
        assert!(origins.first(&task(6, Some(5), 3)).await.is_err(), "it is waited for");
    }

    #[tokio::test]
    async fn a_subtask_of_an_allowed_organizations_node_is_refused_if_another_began() {
        let (server, origins) = server().await;
        says(&server, 5, ResponseTemplate::new(200).set_body_json(described(5, None, 2)), 1).await;
        let Lineage::Whole(links) = origins.of(&task(6, Some(5), 1)).await.unwrap() else { panic!() };
        let origin = Origin::Known(links.iter().map(Initiator::from).collect());
        for (allowed, users, expected) in [
            (&["1"][..], &[][..], Err(policy::Refusal::Initiator)),
            (&["2"], &[], Err(policy::Refusal::Initiator)),
            (&["1", "2"], &[], Ok(())),
            (&[], &[2], Ok(())),
            (&[], &[3], Err(policy::Refusal::Initiator)),
        ] {
            let policies = Policies {
                allowed_organizations: allowed.iter().map(ToString::to_string).collect(),
                allowed_users: users.to_vec(),
                ..Policies::default()
            };
            assert_eq!(policy::admit_origin(&policies, &origin), expected, "{allowed:?} {users:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_told_is_told_from_a_server_that_is_away() {
        let json = |body: Value| ResponseTemplate::new(200).set_body_json(body);
        let mut without_parent = described(5, None, 2);
        without_parent.as_object_mut().unwrap().remove("parent");
        let mut another_job = described(5, None, 2);
        another_job["job_id"] = json!(8);
        let mut another_image = described(5, None, 2);
        another_image["image"] = json!("evil.example/x");
        let mut without_image = described(5, None, 2);
        without_image.as_object_mut().unwrap().remove("image");
        let message = json!({"msg": "no"});
        for (answer, expected) in [
            (ResponseTemplate::new(401).set_body_json(&message), Some(Broken::Hidden(TaskId(5)))),
            (ResponseTemplate::new(403).set_body_json(&message), Some(Broken::Hidden(TaskId(5)))),
            (ResponseTemplate::new(404).set_body_json(&message), Some(Broken::Hidden(TaskId(5)))),
            (json(without_parent), Some(Broken::Unreadable(TaskId(5)))),
            (json(json!({"id": 5, "parent": "four"})), Some(Broken::Unreadable(TaskId(5)))),
            (json(json!([])), Some(Broken::Unreadable(TaskId(5)))),
            (json(described(4, None, 1)), Some(Broken::AnotherTask(TaskId(5)))),
            (json(another_job), Some(Broken::AnotherJob(TaskId(5)))),
            (json(another_image), Some(Broken::AnotherImage(TaskId(5)))),
            (json(without_image), Some(Broken::AnotherImage(TaskId(5)))),
            (json(described(5, Some(9), 1)), Some(Broken::Newer(TaskId(9)))),
            (json(described(5, Some(6), 1)), Some(Broken::Circular(TaskId(6)))),
            (json(described(5, Some(5), 1)), Some(Broken::Circular(TaskId(5)))),
            (ResponseTemplate::new(503), None),
            (ResponseTemplate::new(500).set_body_json(&message), None),
            (ResponseTemplate::new(429).set_body_json(&message), None),
            (ResponseTemplate::new(404).set_body_string("<html>no such page</html>"), None),
            (ResponseTemplate::new(200).set_body_string("<html>back soon</html>"), None),
        ] {
            let (server, origins) = server().await;
            let shown = format!("{answer:?}");
            Mock::given(method("GET")).and(path("/api/task/5")).respond_with(answer).mount(&server).await;
            let found = origins.of(&task(6, Some(5), 1)).await;
            match expected {
                Some(broken) => assert_eq!(found.unwrap(), Lineage::Broken(broken), "{shown}"),
                None => assert!(found.is_err(), "{shown}: {found:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_chain_without_end_is_left() {
        let (server, origins) = server().await;
        for at in 0..40 {
            let answer = ResponseTemplate::new(200).set_body_json(described(100 - at, Some(99 - at), 1));
            Mock::given(method("GET"))
                .and(path(format!("/api/task/{}", 100 - at)))
                .respond_with(answer)
                .mount(&server)
                .await;
        }
        assert_eq!(origins.of(&task(101, Some(100), 1)).await.unwrap(), Lineage::Broken(Broken::TooLong));
        let asked = server.received_requests().await.unwrap().iter().filter(|request| request.method == "GET").count();
        assert_eq!(asked, lineage::LONGEST - 1);
    }

    #[tokio::test]
    async fn no_more_is_remembered_than_there_is_room_for() {
        let (_server, origins) = server().await;
        for id in 0..3 * MOST as u64 {
            origins.remember(TaskId(id), link(id, None, 1));
            assert!(origins.known.lock().len() <= MOST);
        }
        assert!(origins.remembered(TaskId(3 * MOST as u64 - 1)).is_some());
    }
}
