//! The image that vantage6 itself publishes for preparing data, under all names that it has had.

/// The names: up to 4.14, and since then.
pub const BASICS: [&str; 2] = ["harbor2.vantage6.ai/algorithms/basics", "ghcr.io/vantage6/algorithm-basics"];

/// Whether an image is vantage6's own for preparing data, with any tag or digest. `allow_basics_algorithm: false` refuses it. (A regular
/// node accepts every image whose name begins with one of these, including `…/basics-of-somebody-else`.)
#[must_use]
pub fn is_basics(image: &str) -> bool {
    let (registry, path) = image.split_once('/').unwrap_or(("", image));
    // Normalize other spellings of the same registry.
    let registry = registry.to_ascii_lowercase();
    let registry = match registry.rsplit_once(':') {
        // Leading zeros are allowed.
        Some((host, port)) if port.trim_start_matches('0') == "443" => host,
        _ => &registry,
    };
    let image = format!("{registry}/{path}");
    BASICS.iter().any(|name| is_of(&image, name))
}

/// Images below the name count too, since this is used to refuse images, not to allow them.
fn is_of(image: &str, repository: &str) -> bool {
    image.strip_prefix(repository).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_basics_is_known() {
        for name in BASICS {
            for version in ["", ":latest", ":2", "@sha256:0", ":2@sha256:0", "/x"] {
                assert!(is_basics(&format!("{name}{version}")), "{name}{version}");
            }
            let (registry, path) = name.split_once('/').unwrap();
            assert!(is_basics(&format!("{}/{path}:2", registry.to_uppercase())), "{name}");
            assert!(is_basics(&format!("{registry}:443/{path}:2")), "{name}");
            assert!(is_basics(&format!("{registry}:00443/{path}:2")), "{name}");
            assert!(!is_basics(&format!("{registry}:4430/{path}:2")), "{name}");
            assert!(!is_basics(&format!("{registry}:5000/{path}:2")), "{name}");
            assert!(!is_basics(&format!("{name}-of-somebody-else:2")), "{name}");
            assert!(!is_basics(&format!("example.org/{path}:2")), "{name}");
        }
        assert!(!is_basics("basics"));
        assert!(!is_basics(""));
    }
}
