//! The contents of `run_context.json` besides the input's function and arguments, as a regular node since 4.14 writes them with
//! `run_context_file: true` (vantage6-node 4.15.2, `docker/task_manager.py`, `_write_run_context_file`).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use vantage6_types::{CollaborationId, NodeId, RunId, TaskId};

use super::assignment::Assignment;
use super::environment::{EnvironmentError, Locations, VisibleDatabase};

/// The maximum size in bytes. The file is part of the run's Secret, beside the algorithm's variables.
const MOST: usize = 48 * 1024;

/// The fields after `arguments`, as the text of a JSON object.
///
/// # Errors
/// If the task requests a database that is not a file, whose address may contain a password, or if the text is too large.
pub fn rest(
    locations: &Locations,
    assignment: &Assignment,
    node: NodeId,
    databases: &[VisibleDatabase],
) -> Result<String, EnvironmentError> {
    let mut inputs = Vec::new();
    for asked in &assignment.databases {
        // The environment has already checked that the database exists.
        let Some(database) = databases.iter().find(|database| database.label == asked.label) else { continue };
        if !database.is_file {
            return Err(EnvironmentError::NoFile(asked.label.clone()));
        }
        let Parameters { arguments } =
            asked.parameters.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        inputs.push(Input {
            id: &database.label,
            uri: &database.uri,
            kind: database.kind,
            arguments: arguments.filter(|json| json.get().starts_with('{')),
        });
    }
    let rest = Rest {
        executor: Executor { id: node, kind: "vantage6-node" },
        inputs,
        outputs: [Output { id: "result", uri: &locations.output }],
        vantage6: Vantage6 {
            run_id: assignment.run,
            task_id: assignment.task,
            collaboration_id: assignment.collaboration,
            token_file: &locations.token,
            api_proxy: ApiProxy { host: &locations.proxy_host, port: locations.proxy_port.to_string(), api_path: "" },
            temporary_directory: &locations.temporary,
        },
    };
    // Only numbers, texts and parsed JSON, so this can't fail.
    let text = serde_json::to_string(&rest).unwrap_or_default();
    if text.len() > MOST {
        return Err(EnvironmentError::LongRunContext { bytes: text.len(), most: MOST });
    }
    Ok(text)
}

#[derive(Serialize)]
struct Rest<'a> {
    executor: Executor,
    inputs: Vec<Input<'a>>,
    outputs: [Output<'a>; 1],
    #[serde(rename = "x-vantage6")]
    vantage6: Vantage6<'a>,
}

#[derive(Serialize)]
struct Executor {
    id: NodeId,
    kind: &'static str,
}

#[derive(Serialize)]
struct Input<'a> {
    id: &'a str,
    uri: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Output<'a> {
    id: &'a str,
    uri: &'a str,
}

#[derive(Serialize)]
struct Vantage6<'a> {
    run_id: RunId,
    task_id: TaskId,
    collaboration_id: Option<CollaborationId>,
    token_file: &'a str,
    api_proxy: ApiProxy<'a>,
    temporary_directory: &'a str,
}

#[derive(Serialize)]
struct ApiProxy<'a> {
    host: &'a str,
    port: String,
    api_path: &'static str,
}

/// The parameters of a task's database that this file repeats.
#[derive(Default, Deserialize)]
struct Parameters<'a> {
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::super::assignment::{RequestedDatabase, sample};
    use super::*;

    fn of(parameters: Option<&str>, is_file: bool) -> Result<String, EnvironmentError> {
        let locations = Locations {
            input: "/mnt/data/task-000000009/input".into(),
            output: "/mnt/data/task-000000009/output".into(),
            token: "/mnt/data/task-000000009/token".into(),
            temporary: "/mnt/tmp".into(),
            proxy_host: "http://proxyserver".into(),
            proxy_port: 8080,
            run_context: Some("/mnt/data/task-000000009/run_context.json".into()),
        };
        let database = VisibleDatabase {
            label: "staff".into(),
            uri: "/mnt/data/staff.csv".into(),
            kind: "csv",
            is_file,
            env: Default::default(),
        };
        let asked = RequestedDatabase { label: "staff".into(), parameters: parameters.map(Into::into), left_out: None };
        let assignment = Assignment {
            collaboration: Some(CollaborationId(3)),
            databases: vec![asked],
            ..sample::assignment(7, 9, "")
        };
        rest(&locations, &assignment, NodeId(17), &[database])
    }

    #[test]
    fn the_fields_are_those_of_a_regular_node() {
        let expected = |arguments: &str| {
            format!(
                "{{\"executor\":{{\"id\":17,\"kind\":\"vantage6-node\"}},\"inputs\":[{{\"id\":\"staff\",\"uri\":\"/mnt/data/staff.csv\",\
                 \"type\":\"csv\"{arguments}}}],\"outputs\":[{{\"id\":\"result\",\"uri\":\"/mnt/data/task-000000009/output\"}}],\
                 \"x-vantage6\":{{\"run_id\":9,\"task_id\":7,\"collaboration_id\":3,\"token_file\":\"/mnt/data/task-000000009/token\",\
                 \"api_proxy\":{{\"host\":\"http://proxyserver\",\"port\":\"8080\",\"api_path\":\"\"}},\"temporary_directory\":\"/mnt/tmp\"}}}}"
            )
        };
        for (parameters, arguments) in [
            (None, ""),
            (Some(r#"{"query": "SELECT 1", "arguments": {"bind": "dataset"}}"#), r#","arguments":{"bind": "dataset"}"#),
            (Some(r#"{"arguments": [1]}"#), ""),
            (Some(r#"{"arguments": null}"#), ""),
            (Some("{}"), ""),
            (Some("no JSON"), ""),
            (Some(""), ""),
        ] {
            assert_eq!(of(parameters, true).as_deref(), Ok(expected(arguments).as_str()), "{parameters:?}");
        }
    }

    #[test]
    fn addresses_and_large_arguments_are_refused() {
        assert_eq!(of(None, false), Err(EnvironmentError::NoFile("staff".into())));
        let large = format!("{{\"arguments\": {{\"a\": \"{}\"}}}}", "x".repeat(MOST));
        let error = of(Some(&large), true).unwrap_err();
        assert!(matches!(error, EnvironmentError::LongRunContext { .. }), "{error}");
        assert!(error.to_string().contains("`arguments`"), "{error}");
    }
}
