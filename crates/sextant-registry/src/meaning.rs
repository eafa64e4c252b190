//! Interprets the errors of a registry query: the registry does not have the image, or can't be queried at the moment. The texts are for
//! the operator.

use oci_client::errors::{OciDistributionError, OciErrorCode};
use outbound::error_chain;
use printable::excerpt;
use sextant_core::image_policy::Answer;
use sextant_core::image_reference::{Digest, ImageReference};

/// Advice for a registry that refuses this node.
const LOGIN: &str = "Does `docker_registries` have a login for it that may pull this image?";

/// Whether an error means that the registry, its login server or an HTTP proxy can't be reached, whatever image is queried.
pub fn is_unreachable(error: &OciDistributionError, gate: Option<&str>) -> bool {
    match error {
        OciDistributionError::RequestError(error) => error.is_connect(),
        // The gate itself sends 502 if a connection fails.
        OciDistributionError::ServerError { code: 502, .. } => gate.is_some(),
        _ => false,
    }
}

/// Converts an error to an answer. `gate` is the reason why its connection failed, if known.
pub fn of(error: &OciDistributionError, gate: Option<String>, image: &ImageReference) -> Answer<Digest> {
    let registry = &image.domain;
    let named = excerpt(&image.to_string());
    let denied = || Answer::No(format!("the registry {registry} does not let this node see {named}. {LOGIN}"));
    let unknown = || Answer::No(format!("the registry {registry} does not have {named}"));
    let failing =
        |words: String| Answer::Away(format!("the registry {registry} can't be asked for {named} now: {words}"));
    if let (OciDistributionError::ServerError { code: 502, .. }, Some(words)) = (error, &gate) {
        // The gate itself sends 502 if a connection fails.
        return failing(format!("{words}. Check that it runs, and that this node can reach it"));
    }
    match error {
        OciDistributionError::UnauthorizedError { .. } => denied(),
        OciDistributionError::RegistryError { envelope, .. } => {
            let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
            match () {
                () if has(&[OciErrorCode::Toomanyrequests]) => failing(
                    "it has had too many requests from here. A login in `docker_registries` may be allowed more".into(),
                ),
                () if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) => denied(),
                () if has(&[OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound]) => {
                    unknown()
                }
                () => failing(excerpt(&envelope.to_string())),
            }
        }
        OciDistributionError::ServerError { code, message, .. } => match code {
            401 | 403 => denied(),
            404 => unknown(),
            code => failing(format!("it answers {code}: {}", excerpt(message))),
        },
        OciDistributionError::ImageManifestNotFoundError(_) => unknown(),
        OciDistributionError::AuthenticationFailure(words) => {
            failing(format!("its login server refuses: {}. {LOGIN}", excerpt(words)))
        }
        OciDistributionError::RequestError(error) => {
            // The outermost error contains only the URL.
            let cause = std::error::Error::source(error).unwrap_or(error);
            let words = gate.unwrap_or_else(|| excerpt(&error_chain(cause)));
            let advice = if words.contains("certificate") {
                " Name its CA's certificate in `ca_certificates`: for registries, one counts that may issue others"
            } else {
                " Check that it runs, and that this node can reach it"
            };
            failing(format!("{words}.{advice}"))
        }
        other => failing(excerpt(&other.to_string())),
    }
}
