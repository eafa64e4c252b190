//! The environment variables of an algorithm, set and encoded as vantage6's own node does it
//! (vantage6-node 4.5.5, `docker/task_manager.py`, `_setup_environment_vars`).
//!
//! One difference is intended: a run gets only the databases that its task asks for, not all that the
//! node has, because a database's address often contains a password.

use std::collections::BTreeMap;

use data_encoding::BASE32;
use printable::{excerpt, excerpt_of};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use vantage6_types::RunStatus;

use super::assignment::RequestedDatabase;

/// The maximum size of a variable in bytes as Linux counts it, with its name, `=` and a NUL (`MAX_ARG_STRLEN`). No program starts with a
/// longer one.
const VARIABLE: usize = 128 * 1024;
/// The maximum size of all variables in bytes. A Secret has at most 1 MiB, and a program's arguments and variables at most 2 MiB with
/// the usual stack limit. The image also has variables.
const ALL: usize = 1024 * 1024 - 64 * 1024;
/// The maximum size in bytes of a task's JSON for one database: more than fits into the three variables that it sets. Parsed JSON takes
/// a multiple of its size in memory.
const PARAMETERS: usize = 256 * 1024;
/// How many characters of the node's labels an error message lists.
const KNOWN: usize = 1_000;

/// A variable with the run's folder as its value, which all processes of a run have in the local runtime.
pub const RUN_FOLDER: &str = "SEXTANT_RUN_FOLDER";

const INPUT_FILE: &str = "INPUT_FILE";
const OUTPUT_FILE: &str = "OUTPUT_FILE";
const TOKEN_FILE: &str = "TOKEN_FILE";
const TEMPORARY_FOLDER: &str = "TEMPORARY_FOLDER";
const HOST: &str = "HOST";
const PORT: &str = "PORT";
const API_PATH: &str = "API_PATH";
const REQUESTED_LABELS: &str = "USER_REQUESTED_DATABASE_LABELS";
const LABELS: &str = "DB_LABELS";
/// Not encoded, and only with `run_context_file: true`.
const RUN_CONTEXT_FILE: &str = "RUN_CONTEXT_FILE";
/// The variables that every algorithm gets.
const ALWAYS: [&str; 10] = [
    INPUT_FILE,
    OUTPUT_FILE,
    TOKEN_FILE,
    TEMPORARY_FOLDER,
    HOST,
    PORT,
    API_PATH,
    REQUESTED_LABELS,
    LABELS,
    RUN_CONTEXT_FILE,
];

// The suffixes after a database's label and `_`. Only databases use the first three.
const DATABASE_URI: &str = "DATABASE_URI";
const DATABASE_TYPE: &str = "DATABASE_TYPE";
const PARAMETER: &str = "DB_PARAM_";
const QUERY: &str = "QUERY";
const SHEET_NAME: &str = "SHEET_NAME";
const PREPROCESSING: &str = "PREPROCESSING";

/// Which algorithms get a variable with a name that the node sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// All algorithms.
    Always,
    /// Algorithms of tasks that ask for a database.
    OfADatabase,
}

impl Reserved {
    /// Whether a node with databases of these labels sets the variable.
    pub fn of(name: &str, labels: &[&str]) -> Option<Self> {
        if ALWAYS.contains(&name) {
            return Some(Self::Always);
        }
        let of_a_label = |label: &&str| {
            let end = name.strip_prefix(&label.to_uppercase()).and_then(|rest| rest.strip_prefix('_'));
            end.is_some_and(|end| [QUERY, SHEET_NAME, PREPROCESSING].contains(&end))
        };
        let ends = |end: &str| name.strip_suffix(end).is_some_and(|label| label.len() > 1 && label.ends_with('_'));
        let is_of_a_database = ends(DATABASE_URI)
            || ends(DATABASE_TYPE)
            || name.split_once(PARAMETER).is_some_and(|(label, _)| label.len() > 1 && label.ends_with('_'))
            || labels.iter().any(of_a_label);
        is_of_a_database.then_some(Self::OfADatabase)
    }
}

/// The locations of the algorithm's files and of the proxy, as the algorithm sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// The file with the input.
    pub input: String,
    /// The file to which the output is written.
    pub output: String,
    /// The file with the container token.
    pub token: String,
    /// The folder shared by all runs of a job.
    pub temporary: String,
    /// The URL of the node's proxy, for example `http://proxyserver`.
    pub proxy_host: String,
    /// The proxy's port.
    pub proxy_port: u16,
    /// The file that describes the run ([`super::run_context`]), if the node writes it.
    pub run_context: Option<String>,
}

/// A database as the algorithm sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibleDatabase {
    /// Its label.
    pub label: String,
    /// A path in the algorithm's container, or an address.
    pub uri: String,
    /// vantage6's name for its type.
    pub kind: &'static str,
    /// Whether the URI is the path of a file.
    pub is_file: bool,
    /// The parameters that the node's owner configured.
    pub env: BTreeMap<String, String>,
}

/// Why an environment can't be created. The texts are for the researcher.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// The task asks for a database that this node doesn't have.
    #[error(
        "The task asks for the database '{}', which this node does not have.{known} Ask the node's organization which labels there are.",
        excerpt(.label)
    )]
    UnknownDatabase {
        /// The label in the task.
        label: String,
        /// A sentence with the known labels, or empty if the node does not share its configuration.
        known: String,
    },
    /// The parameters of a requested database are not a JSON object.
    #[error(
        "The parameters that the task gives for the database '{}' are not a JSON object: {}",
        excerpt(.label),
        excerpt(.reason)
    )]
    Parameters {
        /// The database's label.
        label: String,
        /// What is wrong.
        reason: String,
    },
    /// A variable has an invalid name.
    #[error(
        "The environment variable '{}' can't be set: names consist of letters, digits and underscores and don't begin with a digit, and PKG_NAME belongs to the image.",
        excerpt(.0)
    )]
    Name(String),
    /// The parameters of a requested database exceed the limit.
    #[error(
        "The parameters that the task gives for the database '{}' are too large: {bytes} bytes of JSON, and this \
         node takes at most {PARAMETERS}. Put large data into the task's input.",
        excerpt(.label)
    )]
    LongParameters {
        /// The database's label.
        label: String,
        /// How many bytes they have.
        bytes: usize,
    },
    /// A variable is longer than a program may have.
    #[error(
        "The environment variable '{}' is too large: it would take {bytes} bytes in the form that the algorithm \
         gets, and a program may have at most {VARIABLE} in one variable. A database's query, sheet name and \
         preprocessing are such variables; put large data into the task's input.",
        excerpt(.name)
    )]
    TooLong {
        /// The variable's name.
        name: String,
        /// How many bytes it would take.
        bytes: usize,
    },
    /// The node writes `run_context.json`, and the task asks for a database that is no file.
    #[error(
        "The task asks for the database '{}', which is not a file. This node has `run_context_file: true`, and with it gives \
         algorithms only files. Ask the node's organization to take that setting out, or to give the data as a file.",
        excerpt(.0)
    )]
    NoFile(String),
    /// What `run_context.json` says of the run is too large.
    #[error(
        "The `arguments` that the task gives for its databases are too large: with them, the run's description takes {bytes} bytes, \
         and this node takes at most {most}. Put large data into the task's input."
    )]
    LongRunContext {
        /// How many bytes it would take.
        bytes: usize,
        /// How many it may take.
        most: usize,
    },
    /// All variables together are larger than a program may have.
    #[error(
        "The algorithm's environment variables are too large: together they would take {0} bytes, and this node \
         allows at most {ALL}. Put large data into the task's input, not into the parameters of its databases."
    )]
    TooMuch(usize),
}

impl EnvironmentError {
    /// vantage6's status for a run that fails with this error.
    pub fn status(&self) -> RunStatus {
        match self {
            Self::UnknownDatabase { .. } | Self::Parameters { .. } | Self::Name(_) => RunStatus::Failed,
            Self::LongParameters { .. }
            | Self::TooLong { .. }
            | Self::TooMuch(_)
            | Self::NoFile(_)
            | Self::LongRunContext { .. } => RunStatus::StartFailed,
        }
    }
}

/// The algorithm's environment: names to encoded values.
///
/// `databases` are the node's databases that the task may see. `share_labels` allows naming them in an error.
///
/// # Errors
/// If the task asks for an unknown database, or a name or parameter can't be used.
pub fn environment(
    locations: &Locations,
    databases: &[VisibleDatabase],
    requested: &[RequestedDatabase],
    algorithm_env: &BTreeMap<String, String>,
    share_labels: bool,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    bounded(requested)?;
    let mut env = BTreeMap::from(
        [
            (INPUT_FILE, locations.input.clone()),
            (OUTPUT_FILE, locations.output.clone()),
            (TOKEN_FILE, locations.token.clone()),
            (TEMPORARY_FOLDER, locations.temporary.clone()),
            (HOST, locations.proxy_host.clone()),
            (PORT, locations.proxy_port.to_string()),
            (API_PATH, String::new()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let mut labels = Vec::new();
    for request in requested {
        let database = databases.iter().find(|database| database.label == request.label).ok_or_else(|| {
            EnvironmentError::UnknownDatabase {
                label: request.label.clone(),
                known: known_labels(databases, share_labels),
            }
        })?;
        let prefix = request.label.to_uppercase();
        env.extend(parameters(request, &prefix)?);
        if labels.contains(&request.label) {
            continue;
        }
        labels.push(request.label.clone());
        env.insert(format!("{prefix}_{DATABASE_URI}"), database.uri.clone());
        env.insert(format!("{prefix}_{DATABASE_TYPE}"), database.kind.to_owned());
        for (key, value) in &database.env {
            env.insert(format!("{prefix}_{PARAMETER}{}", key.to_uppercase()), value.clone());
        }
    }
    let asked: Vec<&str> = requested.iter().map(|request| request.label.as_str()).collect();
    env.insert(REQUESTED_LABELS.into(), asked.join(","));
    env.insert(LABELS.into(), labels.join(","));
    env.extend(algorithm_env.clone());

    if let Some(name) = env.keys().find(|name| !is_identifier(name) || *name == "PKG_NAME") {
        return Err(EnvironmentError::Name(name.clone()));
    }
    let mut total = 0;
    for (name, value) in &env {
        // Check before encoding, which needs the same memory again.
        let bytes = name.len() + "=\0".len() + encoded_length(value.len());
        if bytes > VARIABLE {
            return Err(EnvironmentError::TooLong { name: name.clone(), bytes });
        }
        total += bytes;
    }
    if total > ALL {
        return Err(EnvironmentError::TooMuch(total));
    }
    let mut encoded: BTreeMap<_, _> = env.into_iter().map(|(name, value)| (name, encode(&value))).collect();
    if let Some(path) = &locations.run_context {
        encoded.entry(RUN_CONTEXT_FILE.to_owned()).or_insert_with(|| path.clone());
    }
    Ok(encoded)
}

/// Checks the sizes of a task's parameters for its databases, as far as they are known before parsing. A run that exceeds them then fails
/// without waiting for a slot.
///
/// # Errors
/// If they are too large.
pub fn bounded(requested: &[RequestedDatabase]) -> Result<(), EnvironmentError> {
    let length = |each: &RequestedDatabase| each.left_out.or(each.parameters.as_ref().map(String::len)).unwrap_or(0);
    for request in requested {
        let bytes = length(request);
        if bytes > PARAMETERS {
            return Err(EnvironmentError::LongParameters { label: request.label.clone(), bytes });
        }
    }
    if requested.iter().any(|request| request.left_out.is_some()) {
        return Err(EnvironmentError::TooMuch(requested.iter().map(length).sum()));
    }
    Ok(())
}

/// The length of this many bytes after [`encode`]: eight characters for each five bytes.
fn encoded_length(bytes: usize) -> usize {
    bytes.div_ceil(5) * 8
}

/// Base32 with `!` instead of `=`, by which vantage6 keeps special characters out of a container's environment.
pub fn encode(value: &str) -> String {
    BASE32.encode(value.as_bytes()).replace('=', "!")
}

fn known_labels(databases: &[VisibleDatabase], share: bool) -> String {
    match (share, databases) {
        (false, _) => String::new(),
        (true, []) => " It has no databases.".into(),
        (true, _) => {
            let labels: Vec<_> = databases.iter().map(|d| format!("'{}'", d.label)).collect();
            format!(" It has: {}.", excerpt_of(&labels.join(", "), KNOWN))
        }
    }
}

/// `<LABEL>_QUERY`, `<LABEL>_SHEET_NAME` and `<LABEL>_PREPROCESSING`, from the task's parameters for a database.
fn parameters(request: &RequestedDatabase, prefix: &str) -> Result<Vec<(String, String)>, EnvironmentError> {
    let Some(text) = request.parameters.as_deref().filter(|text| !text.trim().is_empty()) else {
        return Ok(Vec::new());
    };
    let wrong = |reason: String| EnvironmentError::Parameters { label: request.label.clone(), reason };
    let unreadable = |error: serde_json::Error| wrong(error.to_string());
    let text = text.trim();
    if text == "null" {
        return Ok(Vec::new());
    }
    if !text.starts_with('{') {
        let _: IgnoredAny = serde_json::from_str(text).map_err(unreadable)?;
        return Err(wrong("it is something else".into()));
    }
    let Parameters { query, sheet_name, preprocessing } = serde_json::from_str(text).map_err(unreadable)?;
    // A JSON string is passed as its text and any other value as JSON. Preprocessing is always passed as JSON.
    let plain = |json: &RawValue| serde_json::from_str::<String>(json.get()).unwrap_or_else(|_| json.get().to_owned());
    let all = [
        (QUERY, query.map(plain)),
        (SHEET_NAME, sheet_name.map(plain)),
        (PREPROCESSING, preprocessing.map(|json| json.get().to_owned())),
    ];
    Ok(all.into_iter().filter_map(|(suffix, value)| Some((format!("{prefix}_{suffix}"), value?))).collect())
}

/// A database's known parameters, still as text: parsed JSON takes a hundred times as much memory.
#[derive(Deserialize)]
struct Parameters<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    query: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    sheet_name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    preprocessing: Option<&'a RawValue>,
}

/// Deserializes a present null as a value.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locations() -> Locations {
        Locations {
            input: "/mnt/data/task-000000007/input".into(),
            output: "/mnt/data/task-000000007/output".into(),
            token: "/mnt/data/task-000000007/token".into(),
            temporary: "/mnt/tmp".into(),
            proxy_host: "http://proxyserver".into(),
            proxy_port: 8080,
            run_context: None,
        }
    }

    #[test]
    fn the_run_context_is_told_plainly_and_only_where_there_is_one() {
        let with = Locations { run_context: Some("/mnt/data/task-000000007/run_context.json".into()), ..locations() };
        let of = |locations: &Locations, own: &BTreeMap<String, String>| {
            environment(locations, &[], &[], own, true).unwrap().remove("RUN_CONTEXT_FILE")
        };
        let own = BTreeMap::from([("RUN_CONTEXT_FILE".to_owned(), "mine".to_owned())]);
        assert_eq!(of(&locations(), &BTreeMap::new()), None);
        assert_eq!(of(&with, &BTreeMap::new()), with.run_context);
        assert_eq!(of(&with, &own), Some(encode("mine")), "what the owner sets wins, as for other variables");
    }

    fn employees() -> VisibleDatabase {
        VisibleDatabase {
            label: "default".into(),
            uri: "/mnt/data/default.csv".into(),
            kind: "csv",
            is_file: true,
            env: BTreeMap::from([("user".to_owned(), "reader".to_owned())]),
        }
    }

    fn request(label: &str, parameters: Option<&str>) -> RequestedDatabase {
        RequestedDatabase { label: label.into(), parameters: parameters.map(Into::into), left_out: None }
    }

    fn decoded(
        requested: &[RequestedDatabase],
        extra: &[(&str, &str)],
    ) -> Result<BTreeMap<String, String>, EnvironmentError> {
        let secret = VisibleDatabase {
            label: "secret".into(),
            uri: "postgresql://u:p@db/x".into(),
            kind: "sql",
            is_file: false,
            env: BTreeMap::new(),
        };
        let extra = extra.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let env = environment(&locations(), &[employees(), secret], requested, &extra, true)?;
        Ok(env
            .into_iter()
            .map(|(name, value)| {
                let bytes = BASE32.decode(value.replace('!', "=").as_bytes()).unwrap();
                (name, String::from_utf8(bytes).unwrap())
            })
            .collect())
    }

    #[test]
    fn values_are_encoded_as_the_regular_node_does() {
        // The example from vantage6-node's documentation of `_encode`.
        assert_eq!(encode("abc"), "MFRGG!!!");
        assert_eq!(encode(""), "");
    }

    #[test]
    fn a_run_learns_of_what_it_asked_for_and_of_nothing_else() {
        let parameters = r#"{"query": "SELECT 1", "sheet_name": "a", "preprocessing": [{"f": 1}], "x": 2}"#;
        let env = decoded(&[request("default", Some(parameters))], &[("EXTRA", "1")]).unwrap();
        let expected: BTreeMap<String, String> = [
            ("API_PATH", ""),
            ("DB_LABELS", "default"),
            ("DEFAULT_DATABASE_TYPE", "csv"),
            ("DEFAULT_DATABASE_URI", "/mnt/data/default.csv"),
            ("DEFAULT_DB_PARAM_USER", "reader"),
            ("DEFAULT_PREPROCESSING", r#"[{"f": 1}]"#),
            ("DEFAULT_QUERY", "SELECT 1"),
            ("DEFAULT_SHEET_NAME", "a"),
            ("EXTRA", "1"),
            ("HOST", "http://proxyserver"),
            ("INPUT_FILE", "/mnt/data/task-000000007/input"),
            ("OUTPUT_FILE", "/mnt/data/task-000000007/output"),
            ("PORT", "8080"),
            ("TEMPORARY_FOLDER", "/mnt/tmp"),
            ("TOKEN_FILE", "/mnt/data/task-000000007/token"),
            ("USER_REQUESTED_DATABASE_LABELS", "default"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        assert_eq!(env, expected);
    }

    #[test]
    fn all_that_the_node_sets_is_reserved() {
        let parameters = r#"{"query": "q", "sheet_name": "s", "preprocessing": []}"#;
        let env = decoded(&[request("default", Some(parameters))], &[]).unwrap();
        let free: Vec<&String> = env.keys().filter(|name| Reserved::of(name, &["default"]).is_none()).collect();
        assert!(free.is_empty(), "{free:?}");
        for (name, expected) in [
            ("HOST", Some(Reserved::Always)),
            ("OTHER_DATABASE_URI", Some(Reserved::OfADatabase)),
            ("OTHER_DB_PARAM_PASSWORD", Some(Reserved::OfADatabase)),
            ("DEFAULT_QUERY", Some(Reserved::OfADatabase)),
            ("OTHER_QUERY", None),
            ("DATABASE_URI", None),
            ("DEFAULT_QUERY_SIZE", None),
            ("HTTPS_PROXY", None),
        ] {
            assert_eq!(Reserved::of(name, &["default"]), expected, "{name}");
        }
    }

    #[test]
    fn a_database_may_be_asked_for_twice() {
        let env = decoded(&[request("default", None), request("default", Some("null"))], &[]).unwrap();
        assert_eq!(env["USER_REQUESTED_DATABASE_LABELS"], "default,default");
        assert_eq!(env["DB_LABELS"], "default");
    }

    #[test]
    fn what_is_too_large_to_start_with_is_said_before_anything_is_made() {
        let query = |length: usize| format!(r#"{{"query": "{}"}}"#, "q".repeat(length));
        let error = |requested: &[RequestedDatabase], extra: &[(&str, &str)]| decoded(requested, extra).unwrap_err();
        // DEFAULT_QUERY= and a NUL are 15 bytes.
        let most = (VARIABLE - 15) / 8 * 5;
        assert!(decoded(&[request("default", Some(&query(most)))], &[]).is_ok());
        let just = error(&[request("default", Some(&query(most + 1)))], &[]);
        assert_eq!(just, EnvironmentError::TooLong { name: "DEFAULT_QUERY".into(), bytes: 131_079 });
        for (requested, words) in [
            (vec![request("default", Some(&query(300_000)))], "'default' are too large: 300013 bytes"),
            (vec![request("default", Some(&query(100_000)))], "'DEFAULT_QUERY' is too large: it would take 160015"),
            (
                vec![request("default", Some(&format!(r#"{{"preprocessing": [{}0]}}"#, "0,".repeat(60_000))))],
                "'DEFAULT_PREPROCESSING'",
            ),
            // A label that is requested many times.
            (vec![request("default", None); 20_000], "'USER_REQUESTED_DATABASE_LABELS' is too large"),
        ] {
            let error = error(&requested, &[]);
            assert_eq!(error.status(), RunStatus::StartFailed);
            assert!(error.to_string().contains(words), "{error}");
        }
        let large = "x".repeat(most - 100);
        let many: Vec<(String, &str)> = (0..8).map(|number| (format!("V{number}"), large.as_str())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert!(matches!(error(&[], &many), EnvironmentError::TooMuch(_)));
        assert!(decoded(&[], &many[..7]).is_ok());
    }

    #[test]
    fn texts_of_others_are_excerpts() {
        let label = format!("a\n\u{1b}[2J\u{202e}{}", "x".repeat(7_000));
        let error = decoded(&[request(&label, None)], &[]).unwrap_err();
        let words = error.to_string();
        assert!(words.contains(r"'a\n\u{1b}[2J\u{202e}xxx") && words.chars().count() < 500, "{words}");
        assert_eq!(error.status(), RunStatus::Failed);
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (requested, extra, message) in [
            (
                request("nosuch", None),
                ("A", ""),
                "'nosuch', which this node does not have. It has: 'default', 'secret'.",
            ),
            (request("default", Some("{")), ("A", ""), "'default' are not a JSON object: EOF"),
            (request("default", Some("[]")), ("A", ""), "'default' are not a JSON object: it is something else"),
            (request("default", None), ("1A", ""), "'1A' can't be set"),
            (request("default", None), ("PKG_NAME", ""), "'PKG_NAME' can't be set"),
        ] {
            let error = decoded(&[requested], &[extra]).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
