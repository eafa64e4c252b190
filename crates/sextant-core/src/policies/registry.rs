//! Tells registries with a port from tags. `average:5000/evil` is an image of the registry `average`, port 5000. An expression such as
//! `^average(@|:|$)` matches its beginning, but means the repository `average` and its tags.

use crate::image_reference::ImageReference;

/// A host that is neither a foreign registry nor a repository.
const OWN: &str = "localhost";
/// Tags that an expression for all tags, or for all numeric tags, matches.
const TAGS: [&str; 4] = ["latest", "1", "0", "1.0"];

/// Whether an expression that matches the beginning of an image refers to the image's registry with its port. Other names reveal that: an
/// expression that treats the host as a repository matches its tags or its end where the registry has its port.
pub(super) fn is_meant(image: &str, begins: &dyn Fn(&str) -> bool) -> bool {
    let Some((host, port, rest)) = with_port(image) else { return true };
    if host == OWN || begins(&format!("{host}{rest}")) {
        // The expression accepts anything after the host's name, or after its beginning.
        return true;
    }
    let is_repository = begins(host) || TAGS.iter().any(|tag| begins(&format!("{host}:{tag}")));
    // An expression that matches only this very number may mean a port, but only after a host name. A single word is more likely a
    // repository.
    let is_tag = !host.contains('.') && !host.starts_with('[') && begins(&format!("{host}:{port}"));
    !is_repository && !is_tag
}

/// Splits an image whose registry has a port into the host, the port, and the rest from the slash on.
fn with_port(image: &str) -> Option<(&str, &str, &str)> {
    let slash = image.find('/')?;
    let (registry, rest) = image.split_at(slash);
    let (host, port) = registry.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))?;
    // An invalid reference is refused before any policy is checked.
    ImageReference::parse(image).is_ok().then_some((host, port, rest))
}

#[cfg(test)]
mod tests {
    use crate::policies::AllowedAlgorithm;

    #[test]
    fn a_registry_is_not_taken_for_a_repository() {
        for entry in [
            "^average(@|:|$)",
            "^average(:|@sha256:|$)",
            "^average:",
            "^average:.*",
            "^average:.+$",
            r"^average:\d+",
            r"^average:[0-9a-z._/-]+$",
            "^average:5000",
            "^(average|other)(@|:|$)",
            "average(:.*)?$",
            r"^average\b[:@]",
        ] {
            let allowed = AllowedAlgorithm::new(entry).unwrap();
            for image in ["average:5000/evil", "average:5000/evil:1.0", "average:5000/a/b"] {
                assert!(!allowed.allows(image), "{entry} {image}");
            }
            assert!(allowed.allows("average:5000"), "{entry}: a tag");
        }
        let dotted = AllowedAlgorithm::new(r"^my\.average(@|:|$)").unwrap();
        assert!(dotted.allows("my.average:5000") && !dotted.allows("my.average:5000/evil"));
    }

    #[test]
    fn a_registry_that_is_meant_is_let_in() {
        for (entry, image) in [
            ("^registry:5000/average(@|:|$)", "registry:5000/average:1.0"),
            (r"^registry:\d+/", "registry:5000/average"),
            (r"^registry\.example\.org:5000/", "registry.example.org:5000/average"),
            (r"^registry\.example\.org:5000", "registry.example.org:5000/average"),
            (r"^registry\.example\.org(:5000)?/average$", "registry.example.org:5000/average"),
            (r"^10\.1\.2\.3:5000/.*", "10.1.2.3:5000/average"),
            (r"^\[fd00::1\]:5000/", "[fd00::1]:5000/average"),
            ("^localhost:", "localhost:5000/average"),
            // These cause a warning: they admit every name with that prefix.
            ("^registry", "registry:5000/average"),
            (".*", "registry:5000/average"),
            ("^.*/average", "registry:5000/average"),
        ] {
            assert!(AllowedAlgorithm::new(entry).unwrap().allows(image), "{entry} {image}");
        }
    }
}
