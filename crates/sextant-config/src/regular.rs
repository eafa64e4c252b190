//! A regular node's settings with less or no meaning for Sextant. Each gets a warning or an error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use sextant_core::image_reference::ImageReference;

use super::Surroundings;
use super::database::Database;
use super::databases::is_of_windows;
use super::kubernetes::{KubernetesConfig, PodSecurity, database_volumes};
use super::model::{LogLevel, Logging, Registry};
use super::names;
use super::policies::shared;
use super::reader::{Field, Section, Unknown};
use super::system;
use super::yaml::Value;

/// How often a regular node reports its machine's metrics to the server.
const REPORT_INTERVAL: Duration = Duration::from_secs(45);

/// Settings without meaning, and what to do instead. The warning appears only if the setting asks for something: `debug: {}` does not.
const WITHOUT_MEANING: [(&str, &str); 9] = [
    (
        "ssh-tunnels",
        "there are no SSH tunnels; algorithms reach nothing but vantage6, so those that need a tunnel will fail.",
    ),
    ("whitelist", "algorithms reach nothing but vantage6, also not these addresses; those that need them will fail."),
    ("images", "Sextant is one image, `kubernetes.image`; it has no helpers whose images could be replaced."),
    ("alpine", "Sextant needs no such helper."),
    (
        "node_extra_env",
        "set environment variables where Sextant is started (the chart's `node.env` and `proxy.env`), such as `HTTPS_PROXY`; for \
         certificates of the server there is `ca_certificates`, for variables of algorithms `algorithm_env`.",
    ),
    (
        "node_extra_mounts",
        "Sextant needs no other files; for certificates of the server there is `ca_certificates`, for data `databases` and \
         `kubernetes.databases`.",
    ),
    (
        "node_extra_hosts",
        "give these names to the DNS that Sextant uses, or to the hosts file of its machine; algorithms find services by \
         `kubernetes.services` and databases by `egress` with `host`.",
    ),
    ("directories", "Sextant keeps no folders of its own, and logs to standard error."),
    ("debug", "use `logging.level: DEBUG`."),
];

/// The same for the local runtime, which isolates nothing and pulls nothing.
const WITHOUT_MEANING_LOCALLY: [(&str, &str); 6] = [
    ("ssh-tunnels", "there are no SSH tunnels; algorithms reach what this machine reaches."),
    ("whitelist", "nothing is kept from algorithms that run locally; they reach what this machine reaches."),
    ("docker_services", "no services are started beside algorithms; those that need one will fail."),
    ("algorithm_device_requests", "algorithms that run locally find the devices of this machine."),
    ("images", "there are no images; algorithms are the commands in `local.algorithms`."),
    ("docker_registries", "nothing is pulled; algorithms are the commands in `local.algorithms`."),
];

/// Refuses a VPN between the algorithms of different nodes. Otherwise, algorithms that need one would fail one by one.
pub(super) fn refuse_vpn(file: &Section<'_>) {
    let Some(field) = file.get("vpn_subnet").filter(|field| field.node.asks()) else { return };
    field.findings.error(
        field.key_at,
        format!(
            "`{}`: found a VPN between the algorithms of different nodes, which Sextant does not offer: it needs privileged containers beside \
             the algorithms, and vantage6 5 has dropped it. Take it out. Algorithms exchange data by subtasks and their results; those that \
             need direct connections can't run at this node.",
            field.path
        ),
    );
}

/// Reads `run_context_file`, and warns of the databases whose runs will fail with it.
pub(super) fn run_context_file(file: &Section<'_>, databases: &[Database]) -> Option<bool> {
    let Some(field) = file.get("run_context_file") else { return Some(false) };
    let on = field.boolean()?;
    let volumes = database_volumes(file);
    let in_volume = |label: &str| {
        let place = volumes.iter().find(|(of, _)| *of == label);
        place.is_some_and(
            |(_, place)| matches!(&place.node.value, Value::Map(keys) if keys.iter().any(|key| key.key != "egress")),
        )
    };
    let others: Vec<&str> = databases
        .iter()
        .filter(|database| !database.is_single_file(in_volume(&database.label)))
        .map(|database| database.label.as_str())
        .collect();
    if on && !others.is_empty() {
        field.warn(format_args!(
            "runs that ask for {} will fail, as at a regular node: with it, algorithms get only databases that are files.",
            names::listed(&others, "or")
        ));
    }
    Some(on)
}

/// Warns of the settings that have no meaning here.
pub(super) fn warn_of_the_meaningless(file: &Section<'_>) {
    let locally = if super::is_local(file) { WITHOUT_MEANING_LOCALLY.as_slice() } else { &[] };
    let of = |key| locally.iter().find(|(local, _)| *local == key);
    let everywhere = WITHOUT_MEANING.iter().filter(|(key, _)| of(*key).is_none());
    for (key, instead) in everywhere.chain(locally) {
        let Some(field) = file.get(key) else { continue };
        if field.node.asks() {
            field.warn(format_args!("has no effect here: {instead}"));
        }
    }
}

/// Warns of settings without a value if that allows more, or drops what is needed to connect.
pub(super) fn warn_of_the_empty(file: &Section<'_>) {
    for (key, without) in [
        ("ca_certificates", "no certificates of your own are trusted but those that the environment names"),
        ("docker_registries", "images are pulled without a password"),
        ("policies", "it restricts nothing"),
    ] {
        if let Some(field) = file.given(key).filter(|field| field.node.is_null()) {
            field.warn(format_args!("has no value, so that {without}. Give it one, or take it out."));
        }
    }
}

/// The certificates that `node_extra_env` names for a regular node, translated to their path on this machine by `node_extra_mounts`.
pub(super) fn certificates_of_the_node(file: &Section<'_>, names: &[&str]) -> Option<PathBuf> {
    let extra = file.get("node_extra_env")?;
    let Value::Map(variables) = &extra.node.value else {
        return None;
    };
    let inside = names.iter().find_map(|name| variables.iter().find(|entry| entry.key == *name))?.value.secret()?;
    let mounts = match file.get("node_extra_mounts").map(|field| &field.node.value) {
        Some(Value::List(mounts)) => mounts.as_slice(),
        _ => &[],
    };
    // A mount has the form `here:inside` or `here:inside:mode`.
    let here = mounts.iter().filter_map(|mount| mount.secret()).find_map(|mount| {
        let mut parts = mount.split(':');
        let (here, target) = (parts.next()?, parts.next()?);
        let below = Path::new(inside).strip_prefix(target).ok()?;
        Some(if below.as_os_str().is_empty() { PathBuf::from(here) } else { Path::new(here).join(below) })
    });
    Some(here.unwrap_or_else(|| PathBuf::from(inside)))
}

/// Reads `prometheus`: how often the machine's metrics are reported to the server, if at all.
pub(super) fn report_metrics(file: &Section<'_>) -> Option<Option<Duration>> {
    let Some(field) = file.get("prometheus").filter(|field| field.node.asks()) else {
        return Some(None);
    };
    let section = field.section("a mapping with `enabled` and `report_interval_seconds`")?;
    let enabled = section.get("enabled").map_or(Some(false), |field| field.flag());
    let interval = section.get("report_interval_seconds").map_or(Some(REPORT_INTERVAL), |field| {
        let expected = "a whole number of seconds from 1 to 86400";
        let seconds: u64 = field.number(expected)?;
        if !(1..=86_400).contains(&seconds) {
            field.wrong(expected, "A regular node has 45.");
            return None;
        }
        Some(Duration::from_secs(seconds))
    });
    section.finish(Unknown::Warn);
    let interval = interval?;
    Some(enabled?.then_some(interval))
}

/// Refuses the layout of vantage6 before 4.0, with settings in blocks for environments.
///
/// Returns whether the file has that layout. If so, no other setting is in its expected place.
pub(super) fn refuse_environments(file: &Section<'_>) -> bool {
    let blocks: Vec<_> = ["application", "environments"].into_iter().filter_map(|key| file.given(key)).collect();
    for field in &blocks {
        let message = format!(
            "`{}`: found the layout of vantage6 3 and older, expected that of version 4. Move what is below it to the beginning of the \
             line, and take out `{}`.",
            field.path, field.path
        );
        field.findings.error(field.key_at, message);
    }
    !blocks.is_empty()
}

/// Refuses a `task_dir` if the pods' security level forbids folders of the machine, and warns if a volume takes its place.
pub(super) fn judge_task_dir(file: &Section<'_>, kubernetes: &KubernetesConfig) {
    let Some(field) = file.get("task_dir").filter(|field| field.node.asks()) else { return };
    if kubernetes.tmp.is_some() {
        field.warn("has no effect beside `kubernetes.tmp`, which is what algorithms have at /mnt/tmp.");
    } else if kubernetes.pod_security != PodSecurity::Baseline {
        let expected = "no folder of the machine: `kubernetes.pod_security: restricted` allows none";
        field.wrong(expected, "Take it out, or name a volume in `kubernetes.tmp`.");
    }
}

/// Reads `logging`, of which only the level has an effect.
pub(super) fn logging(file: &Section<'_>) -> Option<Logging> {
    const OF_FILES: [&str; 7] = ["file", "use_console", "backup_count", "max_size", "format", "datefmt", "loggers"];
    let Some(field) = file.get("logging") else {
        return Some(Logging::default());
    };
    let section = field.section("a mapping with `level`")?;
    let level = section.get("level").map_or(Some(LogLevel::default()), |field| level(&field));
    let given: Vec<&str> = OF_FILES.into_iter().filter(|key| section.given(key).is_some()).collect();
    if !given.is_empty() {
        let (names, have) = (names::listed(&given, "and"), if given.len() == 1 { "has" } else { "have" });
        field.warn(format_args!("{names} {have} no effect: Sextant logs to standard error, in its own format."));
    }
    section.finish(Unknown::Warn);
    Some(Logging { level: level? })
}

fn level(field: &Field<'_>) -> Option<LogLevel> {
    // A regular node accepts levels in lower case too.
    let lower = |level: LogLevel| field.node.secret().is_some_and(|text| text.eq_ignore_ascii_case(level.as_str()));
    LogLevel::ALL.into_iter().find(|&level| lower(level)).or_else(|| field.choice(&LogLevel::ALL, LogLevel::as_str))
}

/// Reads `docker_registries`.
pub(super) fn registries(file: &Section<'_>) -> Option<Vec<Registry>> {
    let Some(field) = file.get("docker_registries") else {
        return Some(Vec::new());
    };
    let items = field.list("a list of registries, each with `registry`, `username` and `password`")?;
    let registries: Vec<Option<Registry>> = items.iter().map(registry).collect();
    registries.into_iter().collect()
}

/// Reads a registry's host, with an optional port and path prefix. Kubelets treat it as a pattern and send the password to every match.
/// So only a host below a private domain may be a wildcard, with a warning.
fn registry_name<'a>(field: &Field<'a>) -> Option<&'a str> {
    let expected = "the registry's host, like `registry.example.org`";
    let text = field.word(expected)?;
    let plain =
        text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text).trim_end_matches('/');
    let (host, path) = plain.split_once('/').map_or((plain, None), |(host, path)| (host, Some(path)));
    let fixed = host.strip_prefix("*.");
    let domain = fixed.unwrap_or(host);
    // With a port, the host is not mistaken for a part of the path.
    let full = if domain.contains(':') { domain.to_owned() } else { format!("{domain}:443") };
    let is_registry = ImageReference::parse(&format!("{full}/{}", path.unwrap_or("image")))
        .is_ok_and(|image| image.domain == full && image.tag.is_none() && image.digest.is_none());
    let is_open = fixed.is_some_and(|fixed| !fixed.contains('.') || shared::is_shared(fixed));
    if !is_registry || is_open {
        let advice = if text.contains('*') {
            "Machines take `*` for any name, and would send the password to every registry that has one: write out the registry's."
        } else {
            ""
        };
        field.wrong(expected, advice);
        return None;
    }
    let name = domain.rsplit_once(':').map_or(domain, |(name, _)| name);
    if names::ends_in_number(name) && name.parse::<std::net::Ipv4Addr>().is_err() {
        field.wrong(expected, names::PLAIN_ADDRESS);
        return None;
    }
    if fixed.is_some() {
        field.warn(format_args!(
            "sends the password to every registry below {domain}. Write out the one that it is for."
        ));
    }
    Some(text)
}

fn registry(item: &Field<'_>) -> Option<Registry> {
    let section = item.section("a registry with `registry`, `username` and `password`")?;
    let host = "the registry's host, like `registry.example.org`";
    let registry = section.require("registry", host).and_then(|field| registry_name(&field));
    let username = section.require("username", "the account's name").and_then(|field| field.word("the account's name"));
    let password = section.require("password", "the account's password").and_then(|field| {
        let password = field.node.secret();
        if password.is_none() {
            field.wrong_secret("the account's password", "");
        }
        password
    });
    section.finish(Unknown::Warn);
    Some(Registry {
        registry: registry?.to_owned(),
        username: username?.to_owned(),
        password: SecretString::from(password?),
    })
}

/// Reads `task_dir`.
pub(super) fn task_dir(file: &Section<'_>, around: &Surroundings<'_>) -> Option<PathBuf> {
    let field = file.get("task_dir").filter(|field| field.node.asks())?;
    let text = field.word("the path of a folder")?;
    if is_of_windows(text) {
        field.warn("has no effect: it is a path of Windows. Take it out, or write one of this system.");
        return None;
    }
    let path = Path::new(text);
    let absolute = around.files.absolute(path);
    if path.is_relative() {
        let absolute = absolute.display();
        field.warn(format_args!(
            "is relative, and taken from the folder that Sextant is started in: {absolute}. Write it out."
        ));
    }
    system::judge_with_links(&field, &absolute.to_string_lossy(), around.files)?;
    Some(absolute)
}
