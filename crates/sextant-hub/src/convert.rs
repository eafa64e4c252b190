//! Conversions between the types of a 4.x server and the node's own.

use sextant_core::host_limits::Asked;
use sextant_core::hub::{
    DatabaseInfo, Delivery, EncodedInput, HubError, HubErrorKind, HubEvent, InputError, Kill, LogOf, NodeEvent,
    NodeInfo, NodeMetrics, RequestedDatabase, Run, StatusChange, Task,
};
use sextant_core::image_policy::{self, Answer};
use sextant_core::image_reference::ImageReference;
use sextant_core::lineage::Link;
use vantage6::encoding::DecodeError;
use vantage6::live::LiveEvent;
use vantage6::{BlobId, Error, Incoming, Outgoing, StoreAlgorithm, StoreError};

/// Classifies an error of the client.
pub fn error(error: Error) -> HubError {
    let kind = match &error {
        Error::WrongApiKey { .. } => HubErrorKind::UnknownNode,
        Error::FinishedRun { .. } => HubErrorKind::RunHasEnded,
        Error::NoSuchRun { .. } => HubErrorKind::NoSuchRun,
        Error::EndlessList { .. } => HubErrorKind::EndlessList,
        Error::BrokenRun { id, .. } => HubErrorKind::BrokenRun(*id),
        Error::OversizedRun { id, organization, .. } => HubErrorKind::OversizedRun(*id, *organization),
        Error::Refused { status: 500.., own_words: true, .. } => HubErrorKind::Failing,
        error if error.is_transient() => HubErrorKind::Passing,
        Error::Refused { status: 413, .. } => HubErrorKind::TooLarge,
        Error::Refused { status, own_words: true, .. } => HubErrorKind::Refused(*status),
        // The body is the server's own JSON, but not in the expected format. An HTML page would come from a proxy in front of it.
        Error::Unreadable { excerpt, .. } if excerpt.starts_with(['{', '[']) => HubErrorKind::Unreadable,
        Error::TooLarge { .. } => HubErrorKind::Unreadable,
        _ => HubErrorKind::Other,
    };
    let delivery = delivery(error.delivery());
    HubError { kind, text: error.to_string(), delivery }
}

/// Whether the server may have something.
pub fn delivery(delivery: vantage6::Delivery) -> Delivery {
    match delivery {
        vantage6::Delivery::NotSent => Delivery::NotSent,
        vantage6::Delivery::Unknown => Delivery::Unknown,
    }
}

/// Classifies an error of an upload to the blob store.
pub fn not_stored(problem: Error) -> HubError {
    let HubError { kind, text, delivery } = error(problem.clone());
    let kind = match problem.own_status() {
        Some(status @ (400 | 403 | 404 | 501)) => HubErrorKind::NotStored(status),
        _ => kind,
    };
    HubError { kind, text: format!("the result could not be stored in the server's blob store: {text}"), delivery }
}

/// The error if a result could not be read to its end.
pub fn unread(cause: &dyn std::fmt::Display) -> HubError {
    error(Error::Source { request: "POST blobstream".into(), cause: cause.to_string() })
}

/// Why the blob store does not have an input, in the server's own words; `None` if that may change.
pub fn no_input(problem: &Error) -> Option<InputError> {
    let words = match problem.own_status()? {
        404 => "the server's blob store does not have it",
        501 => "the server has no blob store any more",
        400 | 401 | 403 => "the server does not let this node read it from the blob store",
        _ => return None,
    };
    Some(InputError::Unreadable(format!("{words} ({problem})")))
}

/// The error if nothing can be encoded for an organization, for this reason.
pub fn no_recipient(text: String) -> HubError {
    HubError { kind: HubErrorKind::NoRecipient, text, delivery: Delivery::NotSent }
}

/// Why the bytes of an input are not available.
pub fn input_error(problem: DecodeError) -> InputError {
    match problem {
        // The run's own content is wrong, and the server returns the same content each time.
        DecodeError::Transfer(Error::BadInput { problem, .. }) => InputError::Unreadable(problem.into()),
        DecodeError::Transfer(problem) => InputError::Transfer(error(problem)),
        problem @ (DecodeError::NotBase64(_) | DecodeError::Undecipherable(_)) => {
            InputError::Unreadable(problem.to_string())
        }
    }
}

pub fn run(run: vantage6::Run) -> Run {
    let unsupported = unsupported(&run);
    let vantage6::Run {
        id,
        status,
        input,
        task,
        organization,
        assigned_at,
        started_at,
        finished_at,
        blob_storage_used,
        ..
    } = run;
    // An input of the blob store is fetched when it is needed, like one that is too long to come along with its run.
    let is_blob = |input: &vantage6::Input| blob_storage_used == Some(true) && input.0.parse::<BlobId>().is_ok();
    let input = input.filter(|input| !is_blob(input));
    Run {
        id,
        status,
        input: input.map(|input| EncodedInput(input.0)),
        task: self::task(task),
        organization,
        assigned_at,
        started_at,
        finished_at,
        unsupported,
    }
}

fn unsupported(run: &vantage6::Run) -> Option<&'static str> {
    const { assert!(vantage6::DATABASES == 100) };
    (run.task.databases.left_out > 0)
        .then_some("The task asks for more than 100 databases, which is more than a node gives to an algorithm.")
}

fn task(task: vantage6::Task) -> Task {
    let vantage6::Task {
        id,
        name,
        image,
        created_at,
        job_id,
        parent,
        init_org,
        init_user,
        collaboration,
        algorithm_store,
        databases,
        ..
    } = task;
    let database = |vantage6::TaskDatabase { label, parameters, left_out }: vantage6::TaskDatabase| RequestedDatabase {
        label,
        parameters,
        left_out,
    };
    Task {
        id,
        name,
        image,
        created_at,
        job: job_id,
        parent,
        init_org,
        init_user,
        collaboration,
        store: algorithm_store,
        databases: databases.kept.into_iter().map(database).collect(),
    }
}

/// The origin of a task.
pub fn link(origin: vantage6::TaskOrigin) -> Link {
    let vantage6::TaskOrigin { id, image, created_at, job_id, parent, init_org, init_user } = origin;
    Link { task: id, job: job_id, parent, user: init_user, organization: init_org, image, created_at }
}

/// A store's answer about an image. Algorithms with an invalid digest are left out, and so is what is no image of the same repository: it
/// says nothing of this one, and answers are remembered.
pub fn approved(
    answer: Result<Vec<StoreAlgorithm>, StoreError>,
    image: &str,
) -> Asked<Vec<image_policy::StoreAlgorithm>> {
    let asked = ImageReference::parse(image).ok();
    let is_of_repository = |image: &str| {
        asked.as_ref().zip(ImageReference::parse(image).ok()).is_some_and(|(asked, own)| own.is_of_repository(asked))
    };
    let algorithm = |StoreAlgorithm { image, digest }: StoreAlgorithm| match digest {
        _ if !is_of_repository(&image) => None,
        None => Some(image_policy::StoreAlgorithm { image, digest: None }),
        Some(digest) => digest.parse().ok().map(|digest| image_policy::StoreAlgorithm { image, digest: Some(digest) }),
    };
    match answer {
        Ok(algorithms) => Asked::Answered(Answer::Known(algorithms.into_iter().filter_map(algorithm).collect())),
        Err(StoreError::Unreachable(why)) => Asked::Unreachable(why),
        Err(StoreError::Away(why)) => Asked::Answered(Answer::Away(why)),
        Err(StoreError::Refused(why)) => Asked::Answered(Answer::No(why)),
    }
}

/// The host and port of a store's address.
pub fn host(store: &str) -> String {
    let rest = store.split_once("://").map_or(store, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_ascii_lowercase()
}

pub fn node(node: &vantage6::Node) -> sextant_core::hub::Node {
    sextant_core::hub::Node { id: node.id, collaboration: node.collaboration, organization: node.organization }
}

/// Lines of an algorithm's log.
pub fn log(of: LogOf, text: &str) -> Outgoing {
    let LogOf { run, task, collaboration } = of;
    Outgoing::AlgorithmLog(vantage6::AlgorithmLog {
        collaboration_id: collaboration,
        run_id: run,
        task_id: task,
        log: text.to_owned(),
    })
}

/// An event that a node sends.
pub fn outgoing(event: NodeEvent) -> Outgoing {
    match event {
        NodeEvent::Online => Outgoing::Ping,
        NodeEvent::Status(change) => Outgoing::AlgorithmStatusChange(status_change(change)),
        NodeEvent::Info(info) => Outgoing::NodeInfoUpdate(node_info(info)),
        NodeEvent::Metrics(metrics) => Outgoing::NodeMetricsUpdate(node_metrics(metrics)),
    }
}

fn node_metrics(metrics: NodeMetrics) -> vantage6::NodeMetrics {
    let NodeMetrics { cpu_percent, memory_percent, cpu_count, memory_total, memory_available, algorithms } = metrics;
    vantage6::NodeMetrics {
        cpu_percent,
        memory_percent,
        num_algorithm_containers: algorithms,
        os: "posix",
        platform: "linux",
        cpu_count,
        memory_total,
        memory_available,
    }
}

fn status_change(change: StatusChange) -> vantage6::StatusChange {
    let StatusChange { status, run, task, parent, node } = change;
    vantage6::StatusChange {
        status,
        run_id: run,
        task_id: Some(task),
        job_id: None,
        collaboration_id: Some(node.collaboration),
        node_id: Some(node.id),
        organization_id: Some(node.organization),
        parent_id: parent,
    }
}

fn node_info(info: NodeInfo) -> vantage6::NodeInfo {
    let NodeInfo { encryption, allowed_algorithms, allowed_users, allowed_organizations, databases } = info;
    let database = |DatabaseInfo { label, kind, columns }| vantage6::DatabaseInfo { label, kind, columns };
    vantage6::NodeInfo {
        encryption,
        allowed_algorithms,
        allowed_users,
        allowed_organizations,
        databases: databases.into_iter().map(database).collect(),
    }
}

/// Converts an event of the live connection; `None` if it concerns only user interfaces. There may be thousands of those.
pub fn event(event: LiveEvent) -> Option<HubEvent> {
    let transport = |websocket| if websocket { "websocket" } else { "long polling" };
    match event {
        LiveEvent::Connected { websocket } => Some(HubEvent::Connected(transport(websocket))),
        LiveEvent::Disconnected { reason } => Some(HubEvent::Disconnected(reason)),
        LiveEvent::Incoming(incoming) => server_event(incoming),
    }
}

fn server_event(incoming: Incoming) -> Option<HubEvent> {
    Some(match incoming {
        Incoming::Sync => HubEvent::Welcome,
        Incoming::Missed => HubEvent::Missed,
        Incoming::NewTask { id, .. } => HubEvent::NewTask(id),
        Incoming::KillContainers(kill) => HubEvent::Kill(Kill {
            collaboration: kill.collaboration_id,
            node: kill.node_id,
            runs: kill.kill_list.map(|runs| runs.iter().map(|run| (run.run_id, run.organization_id)).collect()),
        }),
        Incoming::NodeOffline(node) => HubEvent::NodeOffline(node.id),
        Incoming::Message(text) => HubEvent::Other(format!("the server says: {text}")),
        Incoming::ExpiredToken | Incoming::InvalidToken => HubEvent::Other("reconnecting with a new token".into()),
        Incoming::AlgorithmStatusChange(_) | Incoming::NodeOnline(_) => return None,
        Incoming::Unknown { name } => {
            HubEvent::Other(format!("the server sent the event '{name}', which this node does not know"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error in a run's own content is final, whether the input is short or long.
    #[test]
    fn an_input_that_is_wrong_in_itself_is_told_from_one_that_did_not_arrive() {
        let bad = Error::BadInput { request: "GET run/7".into(), problem: "characters" };
        assert!(matches!(input_error(bad.into()), InputError::Unreadable(why) if why == "characters"));
        assert!(matches!(input_error(DecodeError::NotBase64("no".into())), InputError::Unreadable(_)));
        let away = Error::StaleToken { request: "GET run/7".into(), message: String::new() };
        assert!(matches!(input_error(away.into()), InputError::Transfer(error) if error.is_passing()));
    }

    /// Hundreds of answers are remembered, and each may list a hundred algorithms.
    #[test]
    fn of_a_stores_answer_only_what_is_about_the_image_is_kept() {
        let algorithm = |image: &str| StoreAlgorithm { image: image.to_owned(), digest: None };
        let listed = ["r.example/x", "r.example/x:2", "r.example/y:1", "s.example/x:1", "", "\u{10348}…"];
        let many = vec![algorithm(&"\u{10348}".repeat(1000)); 100];
        let answer = listed.iter().map(|image| algorithm(image)).chain(many).collect();
        let Asked::Answered(Answer::Known(kept)) = approved(Ok(answer), "r.example/x:1") else { panic!() };
        let kept: Vec<&str> = kept.iter().map(|algorithm| &*algorithm.image).collect();
        assert_eq!(kept, ["r.example/x", "r.example/x:2"]);
    }
}
