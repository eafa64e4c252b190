//! The server's address, the certificates to trust for it, and the key that the node logs in with.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use url::{Host, Url};

use super::Surroundings;
use super::names;
use super::reader::{Field, Section};
use super::redact;
use super::regular::certificates_of_the_node;
use super::trust::{Subject, may_be_read};

const KEY_VARIABLE: &str = "SEXTANT_API_KEY";
/// Where Python programs, and so regular nodes, look for certificates. The first variable that is set counts.
const CA_VARIABLES: [&str; 2] = ["REQUESTS_CA_BUNDLE", SYSTEMS_FILE];
/// The file that replaces the system's certificates, whether or not another file is configured.
const SYSTEMS_FILE: &str = "SSL_CERT_FILE";
/// The folders that do the same.
const SYSTEMS_FOLDERS: &str = "SSL_CERT_DIR";
const URL: &str = "the server's address, like `https://vantage6.example.org`";
const PORT: &str = "a port from 1 to 65535";

/// Where the server is.
pub(super) struct Address {
    pub url: String,
    pub port: Option<u16>,
    pub api_path: String,
}

/// Reads `server_url`, `port` and `api_path`. A regular node simply joins them, so every part must fit.
pub(super) fn address(file: &Section<'_>) -> Option<Address> {
    let url = file.require("server_url", URL);
    let port = file.get("port");
    let api_path = file.get("api_path").map_or(Some("/api".to_owned()), |field| path(&field));
    let given_port = port.as_ref().map_or(Some(None), number);
    let (url_field, port_given, api_path) = (url?, given_port?, api_path?);
    let url = base(&url_field)?;
    let port = match (&port, port_given) {
        (Some(field), Some(number)) => fitting_port(&url, field, number)?,
        _ => None,
    };
    advise(&url_field, &url);
    Some(Address { url: url.text, port, api_path })
}

/// A parsed server address.
struct Base {
    /// Without a trailing slash.
    text: String,
    url: Url,
}

fn base(field: &Field<'_>) -> Option<Base> {
    let text = field.word(URL)?.trim_end_matches('/');
    if let Some(right) = in_brackets(text) {
        field.wrong(
            URL,
            &format!("An address of IPv6 stands in brackets: `{right}`, and its port, if there is one, behind them."),
        );
        return None;
    }
    let url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && text.contains("://") => url,
        _ => {
            field.wrong(URL, "Begin it with `https://` (or `http://` for a trial).");
            return None;
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        field.wrong_secret(URL, "Take out the part before the `@`: a node logs in with its key.");
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        field.wrong(URL, "Take out what follows the `?` or `#`.");
        return None;
    }
    Some(Base { text: text.to_owned(), url })
}

/// The corrected address, if its host is an IPv6 address without brackets.
fn in_brackets(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    // A single bracket counts as none.
    let address = host.trim_matches(['[', ']']);
    let is_right = host.starts_with('[') && host.ends_with(']');
    (!is_right && address.parse::<Ipv6Addr>().is_ok()).then(|| format!("{scheme}://[{address}]{path}"))
}

/// The port to add to the address, unless the address contains it already.
fn fitting_port(base: &Base, field: &Field<'_>, port: u16) -> Option<Option<u16>> {
    let authority = base.text.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(rest));
    let after_host = authority.rsplit(']').next().unwrap_or(authority);
    if after_host.contains(':') {
        if base.url.port_or_known_default() == Some(port) {
            return Some(None);
        }
        field.wrong("the same port as in `server_url`", "Take one of them out.");
        return None;
    }
    if base.url.path() != "/" {
        let advice = "Move the path from `server_url` to `api_path`, since the port comes between them.";
        field.wrong("none, since `server_url` has a path", advice);
        return None;
    }
    Some(Some(port))
}

fn advise(field: &Field<'_>, base: &Base) {
    let local = match base.url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    };
    if base.url.host_str() == Some("host.docker.internal") {
        field.warn("`host.docker.internal` is a name that Docker gives to its host; outside of Docker, write the host's own name or address.");
    }
    if let Some(host) = base.url.host_str().filter(|_| !base.text.is_ascii()) {
        field.warn(format_args!(
            "has letters in it that others look like: the node will connect to `{host}`, and send its key there. Write the server's name so \
             if that is it."
        ));
    }
    if let Some(Host::Ipv4(address)) = base.url.host()
        && base.text.is_ascii()
        && written_host(&base.text) != address.to_string()
    {
        field.warn(format_args!(
            "is an IPv4 address in a form of its own: the node will connect to `{address}`, and send its key there. {}",
            names::PLAIN_ADDRESS
        ));
    }
    if base.url.scheme() == "http" && !local {
        field.warn(
            "keys, inputs and results travel unencrypted over `http://`. Use `https://` for anything but a trial.",
        );
    }
}

/// The host of an address as it is written, without the port; not for IPv6.
fn written_host(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split([':', '/', '\\', '?', '#']).next().unwrap_or(rest)
}

/// Reads a port. 0 and an empty text give `None`: for a regular node they mean that there is no port.
fn number(field: &Field<'_>) -> Option<Option<u16>> {
    if field.text(PORT)?.trim().is_empty() {
        return Some(None);
    }
    field.number::<u16>(PORT).map(|port| (port != 0).then_some(port))
}

fn path(field: &Field<'_>) -> Option<String> {
    let expected = "the path of the server's API, like `/api`, or an empty text";
    let path = field.text(expected)?.trim_matches('/');
    if path.contains(|c: char| c.is_whitespace() || "?#\\".contains(c)) || path.contains("://") {
        field.wrong(expected, "");
        return None;
    }
    Some(if path.is_empty() { String::new() } else { format!("/{path}") })
}

/// Finds the node's key: in the environment, else in the file named by `api_key_file`, else in the configuration.
pub(super) fn api_key(file: &Section<'_>, config: &Path, around: &Surroundings<'_>) -> Option<SecretString> {
    let in_environment = (around.env)(KEY_VARIABLE).filter(|key| !key.trim().is_empty());
    let (key_file, inline) = (file.get("api_key_file"), file.get("api_key"));
    if !around.with_key {
        return Some(SecretString::default());
    }
    if let Some(key) = in_environment {
        for field in [key_file, inline].iter().flatten() {
            field.warn(format_args!(
                "not used, since the environment variable {KEY_VARIABLE} is set. Keep one of them."
            ));
        }
        return Some(SecretString::from(key.trim()));
    }
    if let Some(field) = key_file {
        if let Some(inline) = inline {
            inline.warn("not used, since `api_key_file` is given. Keep one of them.");
        }
        return key_from_file(&field, config, around);
    }
    let Some(field) = inline else {
        let message = format!(
            "`api_key` is missing, expected the key that the server gave for this node. Write it here, or name a file with it in \
             `api_key_file`, or set the environment variable {KEY_VARIABLE}."
        );
        file.findings.error(None, message);
        return None;
    };
    let key = field.node.secret().map(str::trim).filter(|key| !key.is_empty());
    let Some(key) = key else {
        field.wrong_secret("the key that the server gave for this node", "");
        return None;
    };
    if may_be_read(config, around) {
        field.warn(
            "other people on this machine may read this file, and the key in it. Take that right away (`chmod 600`), or keep the key \
             elsewhere with `api_key_file`.",
        );
    }
    Some(SecretString::from(key))
}

fn key_from_file(field: &Field<'_>, config: &Path, around: &Surroundings<'_>) -> Option<SecretString> {
    let expected = "the path of a file with the node's key";
    let path = beside(config, field.word(expected)?);
    match around.files.text(&path) {
        Ok(text) if !text.trim().is_empty() => {
            let subject = Subject { findings: field.findings, at: Some(field.key_at), name: "`api_key_file`" };
            subject.must_be_ours(&path, around);
            subject.must_be_secret(&path, around);
            Some(SecretString::from(text.trim()))
        }
        Ok(_) => {
            field.wrong_secret(expected, "It is empty: write the key into it.");
            None
        }
        Err(error) if field.node.secret().is_some_and(redact::is_like_a_path) => {
            field.wrong(expected, &format!("Reading {} failed: {error}.", path.display()));
            None
        }
        // The value may be the key itself.
        Err(error) => {
            let kind = error.kind();
            field.wrong_secret(expected, &format!("Reading it failed: {kind}. A key itself belongs to `api_key`."));
            None
        }
    }
}

/// Finds the certificate authorities to trust: `ca_certificates`, else those that the environment names for Python programs, else those
/// that the file names for a regular node's environment. Whoever can change them can impersonate the server.
pub(super) fn ca_certificates(file: &Section<'_>, config: &Path, around: &Surroundings<'_>) -> Option<PathBuf> {
    let path = find_certificates(file, config, around);
    judge_the_systems(file, path.as_deref(), around);
    let path = path?;
    let at = file.get("ca_certificates").map(|field| field.key_at);
    let name = if at.is_some() { "`ca_certificates`" } else { "certificates of the server" };
    Subject { findings: file.findings, at, name }.must_be_ours(&path, around);
    Some(path)
}

/// Checks the files that the environment names in place of the system's certificates, which are trusted too.
fn judge_the_systems(file: &Section<'_>, already: Option<&Path>, around: &Surroundings<'_>) {
    let subject = |name| Subject { findings: file.findings, at: None, name };
    let named = |name: &str| (around.env)(name).filter(|value| !value.is_empty());
    if let Some(path) = named(SYSTEMS_FILE).map(PathBuf::from).filter(|path| Some(path.as_path()) != already) {
        subject("the environment variable SSL_CERT_FILE").must_be_ours(&path, around);
    }
    for folder in std::env::split_paths(&named(SYSTEMS_FOLDERS).unwrap_or_default()) {
        if !folder.as_os_str().is_empty() {
            subject("the environment variable SSL_CERT_DIR").must_hold_ours_alone(&folder, around);
        }
    }
}

fn find_certificates(file: &Section<'_>, config: &Path, around: &Surroundings<'_>) -> Option<PathBuf> {
    let expected = "the path of a PEM file with CA certificates";
    if let Some(field) = file.get("ca_certificates") {
        let path = beside(config, field.word(expected)?);
        match around.files.certificates(&path) {
            Ok(false) => {}
            Ok(true) => field.warn(format_args!(
                "{} also holds a private key, which nothing needs there. Take it out.",
                path.display()
            )),
            Err(problem) => field.wrong(expected, &problem),
        }
        return Some(path);
    }
    for name in CA_VARIABLES {
        let Some(path) = (around.env)(name).filter(|path| !path.is_empty()).map(PathBuf::from) else {
            continue;
        };
        if let Err(problem) = around.files.certificates(&path) {
            let path = path.display();
            let message = format!("the environment variable {name} is `{path}`, expected {expected}. {problem}");
            file.findings.error(None, message);
        }
        return Some(path);
    }
    let path = certificates_of_the_node(file, &CA_VARIABLES)?;
    if let Err(problem) = around.files.certificates(&path) {
        file.findings.warn(None, format!("the certificates that `node_extra_env` names are not used. {problem}"));
        return None;
    }
    Some(path)
}

/// Resolves a path relative to the configuration file's folder.
pub(super) fn beside(config: &Path, path: &str) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join(path)
}
