//! Unavailable images: what the messages of the kubelet and of registries mean for a run.

use printable::{excerpt, excerpt_of};
use vantage6_types::RunStatus;

use super::run_state::Failure;
use crate::image_reference::{ImageReference, NoReference};

/// How many characters of the runtime's message about a command are reported, since the command comes from the image and has any length.
const COMMAND: usize = 200;

/// Why an image with this message will certainly never be available. Waiting helps only if the registry is unavailable, or may
/// grant this node access later.
pub fn image_never_comes(detail: &str) -> Option<&'static str> {
    let detail = detail.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| detail.contains(words));
    if detail.starts_with("invalidimagename") {
        Some("that is not a valid name of an image")
    } else if detail.starts_with("errimageneverpull") {
        Some("it is not on the node's machine, and the node does not pull images")
    } else if says(&["no such host", "server misbehaving", "dial tcp", "i/o timeout"]) {
        None
    } else if says(&["manifest unknown", "does not exist", "name unknown", "repository name not known"])
        // containerd also reports "not found" for other things.
        || (detail.contains("not found") && says(&["resolve reference", "manifest"]))
    {
        Some("the registry does not have it")
    } else {
        None
    }
}

/// The container runtime's message about an image's command, without the rest of the message, which may contain paths of the
/// machine. `None` if the problem is another one.
pub fn bad_command(message: &str) -> Option<String> {
    if message.contains("no command specified") {
        return Some("The algorithm's image does not define what to run: it has no command.".into());
    }
    let start = message.find("exec: \"")?;
    Some(format!("The algorithm's container could not be started: {}", excerpt_of(message[start..].trim(), COMMAND)))
}

/// Validates the name of a task's image before anything is created for it.
///
/// # Errors
/// The failure to report for an invalid name. It has the status that vantage6's own node reports for an image that does not exist.
pub fn named(image: &str) -> Result<ImageReference, Failure> {
    ImageReference::parse(image).map_err(|why: NoReference| {
        let message = format!(
            "The algorithm's image '{}' can't be run: that is not a valid name of an image: {why}.",
            excerpt(image)
        );
        Failure::new(RunStatus::NoDockerImage, message, "before anything was launched")
    })
}

/// The failure to report for an unavailable image.
pub fn no_image(image: &str, detail: &str) -> Failure {
    let denied = ["unauthorized", "forbidden", "authorization failed", "access denied", "no basic auth"]
        .iter()
        .any(|words| detail.to_lowercase().contains(words));
    let why = match image_never_comes(detail) {
        _ if denied => "the registry does not let this node have it",
        Some(why) => why,
        None => "it could not be pulled in time",
    };
    Failure::new(
        RunStatus::NoDockerImage,
        format!("The algorithm's image '{}' can't be run: {why}.", excerpt(image)),
        detail,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_judged_before_anything_is_made_of_it() {
        assert_eq!(named("average:1").unwrap().path, "library/average");
        for (image, words) in [
            (
                format!("localhost/{}:1", "y".repeat(1_400_000)),
                "yyy…' can't be run: that is not a valid name of an image: it has",
            ),
            ("localhost/a b\n\u{1b}[31m:1".into(), r"'localhost/a b\n\u{1b}[31m:1' can't be run"),
            (String::new(), "it is empty"),
        ] {
            let failure = named(&image).unwrap_err();
            assert_eq!(failure.status, RunStatus::NoDockerImage);
            assert!(failure.message.contains(words) && failure.message.chars().count() < 700, "{failure:?}");
            assert!(!failure.message.chars().any(printable::is_deceptive), "{failure:?}");
        }
    }

    #[test]
    fn of_a_command_only_the_beginning_is_handed_on() {
        let words = format!("failed to create shim task: exec: \"{}\": no such file", "c".repeat(3000));
        let told = bad_command(&words).unwrap();
        assert!(told.contains("exec: \"ccc") && told.chars().count() < 300, "{told}");
    }

    #[test]
    fn pulls_that_cannot_succeed_later_are_told_from_those_that_can() {
        for (detail, final_, words) in [
            ("ErrImagePull: manifest unknown", true, "does not have it"),
            ("failed to resolve reference \"r/x:1\": r/x:1: not found", true, "does not have it"),
            ("failed to unpack image: snapshot sha256:00 does not match: content digest: not found", false, "in time"),
            ("dial tcp: lookup nosuch: no such host (not found)", false, "in time"),
            ("pull access denied: authorization failed", false, "does not let"),
            ("unexpected status: 401 Unauthorized", false, "does not let"),
            ("i/o timeout", false, "in time"),
            ("InvalidImageName: couldn't parse", true, "not a valid name"),
            ("ErrImageNeverPull: not present", true, "does not pull"),
        ] {
            assert_eq!(image_never_comes(detail).is_some(), final_, "{detail}");
            let failure = no_image("x:1", detail);
            assert!(failure.message.contains("'x:1'") && failure.message.contains(words), "{detail}: {failure:?}");
        }
    }
}
