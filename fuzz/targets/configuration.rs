//! A node's configuration: any text, read with given surroundings and no files. Mistakes have places that exist; a configuration
//! that is taken can be used; how its lines end makes no difference; and the key is never shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;
use sextant_config::{Config, ConfigError, Position};
use sextant_core::image_reference::ImageReference;
use sextant_core::policies::AllowedAlgorithm;
use sextant_core::policy;
use sextant_core::policy::{Initiator, Origin};
use vantage6::ServerUrl;

const KEY: &str = "4b0c5a0e-key-of-the-environment";

fuzz_target!(|text: &str| {
    let read = parse(text, None);
    match &read {
        Ok(config) => usable(config),
        Err(error) => explained(text, error),
    }
    if !text.contains('\r') {
        let other = parse(&text.replace('\n', "\r\n"), None);
        match (&read, &other) {
            (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
            (one, other) => assert_eq!(one.is_ok(), other.is_ok(), "{other:?}"),
        }
    }
    match parse(text, Some(KEY)) {
        Ok(config) => {
            assert_eq!(config.api_key.expose_secret(), KEY);
            assert!(text.contains(KEY) || !format!("{config:?}").contains(KEY));
        }
        Err(error) => {
            assert!(text.contains(KEY) || !format!("{error} {:?}", error.warnings).contains(KEY));
            assert!(read.is_err());
        }
    }
});

fn parse(text: &str, key: Option<&str>) -> Result<Config, ConfigError> {
    let surroundings = |name: &str| match name {
        "SEXTANT_API_KEY" => key.map(str::to_owned),
        "KUBERNETES_SERVICE_HOST" => Some("10.96.0.1".to_owned()),
        "REQUESTS_CA_BUNDLE" => Some("/etc/ssl/own.pem".to_owned()),
        _ => None,
    };
    Config::parse(text, Path::new("node.yaml"), &surroundings)
}

fn usable(config: &Config) {
    let url = ServerUrl::new(&config.server_url, config.port, &config.api_path);
    assert!(url.is_ok(), "{url:?}");
    assert!(config.kubernetes().is_none_or(|settings| ImageReference::parse(&settings.image).is_ok()));
    let anybody = Initiator { user: None, organization: None, organization_name: None };
    let open = config.policies.allowed_users.is_empty() && config.policies.allowed_organizations.is_empty();
    for origin in [Origin::Known(vec![anybody]), Origin::Known(Vec::new()), Origin::Unknown(String::new())] {
        assert_eq!(policy::admit_origin(&config.policies, &origin).is_ok(), open, "{origin:?}");
    }
    for algorithm in &config.policies.allowed_algorithms {
        let exact = matches!(algorithm, AllowedAlgorithm::Exact(_));
        assert!(!exact || algorithm.allows(algorithm.as_str()), "{algorithm:?}");
        // What needs nothing of an image would let in all.
        assert!(!algorithm.allows(""), "{algorithm:?}");
    }
    for store in &config.policies.allowed_stores {
        assert!(!store.allows(""), "{store:?}");
    }
}

fn explained(text: &str, error: &ConfigError) {
    assert!(!error.problems.is_empty());
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    let mut last = None;
    for problem in &error.problems {
        assert!(!problem.message.is_empty() && !problem.message.contains("got lost"), "{problem}");
        if let Some(Position { line, column }) = problem.position {
            assert!((1..=lines + 1).contains(&line) && column >= 1, "{problem} of {lines} lines");
        }
        assert!(last <= problem.position, "{error}");
        last = problem.position;
    }
}
