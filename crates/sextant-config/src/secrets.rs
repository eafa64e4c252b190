//! The secrets of a configuration that must not appear in an algorithm's log, in every form in which they could.
//!
//! | setting | which values |
//! | --- | --- |
//! | `api_key`, passwords of `docker_registries` | always |
//! | `databases`: `env` | all, except those whose name (`user`, `schema` …) or wording shows that they are not secret |
//! | `databases`: `uri` | the password in an address, and its settings whose names indicate a secret |
//! | `algorithm_env`, `local.algorithms.*.env` | values whose names indicate a secret |
//!
//! [`secret_names`] decides what a name indicates. A database's secrets are searched for only in logs of runs that got the database.
//!
//! Values shorter than [`SHORTEST`] are not masked: they would match everywhere, as `test` matches in `latest`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use sextant_core::environment::encode;
use sextant_core::masks::Secrets;

use super::secret_names;
use crate::{Config, Database, LocalConfig, RuntimeConfig};

/// The shortest length of a secret, in characters.
const SHORTEST: usize = 6;
/// The shortest line of a multi-line secret that is masked by itself, in bytes. Logs show keys line by line.
const LINE: usize = 16;

/// The secrets of a configuration.
pub fn of(config: &Config) -> Secrets {
    let mut common = vec![config.api_key.expose_secret().to_owned()];
    common.extend(config.docker_registries.iter().map(|registry| registry.password.expose_secret().to_owned()));
    common.extend(told_by_name(&config.algorithm_env));
    if let RuntimeConfig::Local(local) = &config.runtime {
        common.extend(local.algorithms.values().flat_map(|algorithm| told_by_name(&algorithm.env)));
    }
    let of_database = |database: &Database| (database.label.clone(), of_database(database));
    Secrets { common: all_forms(&common), of_databases: config.databases.iter().map(of_database).collect() }
}

fn of_database(database: &Database) -> Vec<String> {
    let secret = database.env.iter().filter(|(name, value)| secret_names::in_database(name, value));
    let mut values: Vec<String> = secret.map(|(_, value)| value.clone()).collect();
    let mut addresses = Vec::new();
    // Parameters may be addresses, too.
    for uri in [&database.uri].into_iter().chain(database.env.values()) {
        let within = in_address(uri);
        if !within.is_empty() {
            addresses.push(uri);
            values.extend(within);
        }
    }
    let mut forms = all_forms(&values);
    // Only the password of an address is masked. In an encoded address it can't be told apart, so all of it is.
    forms.extend(addresses.into_iter().flat_map(|address| encoded(address)));
    forms
}

fn all_forms(values: &[String]) -> Vec<String> {
    let mut forms: Vec<String> = values.iter().flat_map(|value| forms(value)).collect();
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// The settings that contain secrets, besides the node's key.
pub(crate) fn settings(config: &Config) -> Vec<&'static str> {
    let in_a_database = |database: &Database| !of_database(database).is_empty();
    let in_an_algorithm =
        |local: &LocalConfig| local.algorithms.values().any(|one| told_by_name(&one.env).next().is_some());
    let local = match &config.runtime {
        RuntimeConfig::Local(local) => in_an_algorithm(local),
        RuntimeConfig::Kubernetes(_) => false,
    };
    [
        ("databases", config.databases.iter().any(in_a_database)),
        ("docker_registries", !config.docker_registries.is_empty()),
        ("algorithm_env", told_by_name(&config.algorithm_env).next().is_some()),
        ("local", local),
    ]
    .into_iter()
    .filter_map(|(key, is_there)| is_there.then_some(key))
    .collect()
}

/// The forms of a secret: as it is, line by line, in a JSON string, and as environment variables encode it.
fn forms(secret: &str) -> Vec<String> {
    let secret = secret.trim();
    if secret.chars().count() < SHORTEST {
        return Vec::new();
    }
    let mut forms = vec![secret.to_owned()];
    if secret.contains('\n') {
        forms.extend(secret.lines().map(str::trim).filter(|line| line.len() >= LINE).map(str::to_owned));
    }
    #[expect(clippy::disallowed_types, reason = "one text, to be written")]
    let json = serde_json::Value::from(secret).to_string();
    forms.push(json[1..json.len() - 1].to_owned());
    forms.extend(encoded(secret));
    forms
}

/// A value as vantage6 encodes it for variables, with and without padding.
fn encoded(value: &str) -> [String; 3] {
    let encoded = encode(value);
    [encoded.replace('!', "="), encoded.trim_end_matches('!').to_owned(), encoded]
}

fn told_by_name(env: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    env.iter().flat_map(|(name, value)| match secret_names::in_environment(name, value) {
        true => vec![value.clone()],
        false => in_address(value),
    })
}

/// The passwords in an address, as written and decoded: `scheme://user:password@host`, `…?password=…`, `…;Pwd=…`.
fn in_address(uri: &str) -> Vec<String> {
    // A password may contain any separator if it was not encoded, so the last @ counts.
    let user = uri.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(user, _)| user);
    let mut found: Vec<&str> =
        user.and_then(|user| user.split_once(':')).map(|(_, password)| password).into_iter().collect();
    for setting in uri.split(['?', '&', ';', ' ']) {
        if let Some((name, value)) = setting.split_once('=')
            && secret_names::in_address(name)
        {
            found.push(value.trim_matches(['\'', '"', '{', '}']));
        }
    }
    let mut all: Vec<String> = found.iter().map(|&value| value.to_owned()).collect();
    all.extend(found.iter().map(|value| percent_decode_str(value).decode_utf8_lossy().into_owned()));
    all.retain(|value| !value.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(yaml: &str) -> Config {
        let text = format!("server_url: http://localhost\nport: 5000\napi_path: /api\napi_key: the-node's-key\n{yaml}");
        Config::parse(&text, Path::new("/etc/node.yaml"), &|_| None).unwrap()
    }

    fn hidden(yaml: &str, text: &str) -> String {
        sextant_core::masks::Masks::new(of(&config(yaml))).unwrap().for_databases(["d"]).text(text)
    }

    #[test]
    fn what_is_hidden_and_what_is_not() {
        let database = |rest: &str| format!("databases: [{{label: d, type: sql, {rest}}}]");
        let uri = |uri: &str| database(&format!("uri: '{uri}'"));
        let env = |env: &str| database(&format!("uri: 'sqlite://x', env: {{{env}}}"));
        for (yaml, text, expected) in [
            (String::new(), "key: the-node's-key", "key: ***"),
            (
                "docker_registries: [{registry: r.example.org, username: puller, password: pull-it-5}]".into(),
                "puller pull-it-5",
                "puller ***",
            ),
            // Databases: only the password of an address is masked.
            (
                uri("postgresql://reader:p%40ssw0rd@db:5432/people"),
                "postgresql://reader:p%40ssw0rd@db:5432/people p@ssw0rd",
                "postgresql://reader:***@db:5432/people ***",
            ),
            (uri("postgresql://a:p@ss/w0rd@db/x"), "p@ss/w0rd", "***"),
            (uri("jdbc:sqlserver://db;user=reader;password=hunter-2"), "reader hunter-2", "reader ***"),
            (uri("Server=db;Uid=reader;Pwd={hunter-2}"), "reader hunter-2", "reader ***"),
            (uri("https://a.org/x?se=2030&sig=ab%2Bcdefg"), "ab%2Bcdefg ab+cdefg", "*** ***"),
            (uri("https://a.org/x?signature=abcdefg"), "abcdefg", "***"),
            (uri("https://a.org/x?key=abcdefg"), "abcdefg", "***"),
            (uri("https://a.org/x?code=abcdefg"), "abcdefg", "***"),
            (uri("https://a.org/x?X-Amz-Signature=abcdefg"), "abcdefg", "***"),
            (uri("https://a.org/x?X-Amz-Security-Token=abcdefg"), "abcdefg", "***"),
            (uri("https://a.org/x?X-Amz-Credential=abcdefg"), "abcdefg", "***"),
            (uri("https://a.org/x?region=abcdefg"), "abcdefg", "abcdefg"),
            (uri("postgresql://reader@db:5432/people"), "reader@db people", "reader@db people"),
            // Parameters of databases: secrets, unless known to be harmless.
            (env("password: hunter-2"), "hunter-2", "***"),
            (env("odd_thing: hunter-2"), "hunter-2", "***"),
            (env("user: reader, Schema_Name: public_data"), "reader", "reader"),
            (
                env("certificate: /etc/ssl/ca.pem, since: 2020-01-01, limit: 1000000"),
                "/etc/ssl/ca.pem 2020-01-01 1000000",
                "/etc/ssl/ca.pem 2020-01-01 1000000",
            ),
            // The usual parameters of an OMOP database.
            (
                env(
                    "CDM_SCHEMA: public, RESULTS_SCHEMA: results, VOCABULARY: athena, DBMS: postgresql, password: hunter-2",
                ),
                "public results athena postgresql hunter-2",
                "public results athena postgresql ***",
            ),
            (env("pin_password: '123456'"), "123456 times", "*** times"),
            (env("password: short"), "a short test", "a short test"),
            // Variables of all algorithms: secrets only by their names.
            ("algorithm_env: {HUGGINGFACE_TOKEN: hf_abcdef, MODE: careful}".into(), "hf_abcdef careful", "*** careful"),
            (
                "algorithm_env: {TOKENIZER: bert-base, PASSWORD_FILE: /run/password}".into(),
                "bert-base /run/password",
                "bert-base /run/password",
            ),
            (
                "algorithm_env: {PROXY: 'http://u:hunter-2@proxy:3128'}".into(),
                "http://u:hunter-2@proxy",
                "http://u:***@proxy",
            ),
            (
                "local: {algorithms: {i: {command: c, env: {API_KEY: abcdefgh, HOME: /nonexistent}}}}".into(),
                "abcdefgh /nonexistent",
                "*** /nonexistent",
            ),
        ] {
            assert_eq!(hidden(&yaml, text), expected, "{yaml}");
        }
    }

    #[test]
    fn of_a_database_that_a_run_did_not_get_nothing_is_hidden() {
        let yaml = "databases: [{label: a, type: sql, uri: 'postgresql://u:hunter-2@db/x'}, {label: d, type: sql, uri: 'sqlite://x'}]";
        assert_eq!(hidden(yaml, "hunter-2 the-node's-key"), "hunter-2 ***");
    }

    #[test]
    fn every_form_is_hidden() {
        let yaml = "databases: [{label: d, type: sql, uri: 'postgresql://u:hunter-2@db/x', env: {password: \"two\\nlines \\\"quoted\\\" and long\"}}]";
        let secret = "two\nlines \"quoted\" and long";
        let uri = "postgresql://u:hunter-2@db/x";
        for text in [
            secret.to_owned(),
            serde_json::json!({ "password": secret }).to_string(),
            encode(secret),
            encode(secret).replace('!', "="),
            encode(secret).replace('!', ""),
            encode(uri),
            "lines \"quoted\" and long".to_owned(),
        ] {
            let masked = hidden(yaml, &format!("<{text}>"));
            assert!(masked == "<***>" || masked == "<{\"password\":\"***\"}>", "{text}: {masked}");
        }
    }
}
