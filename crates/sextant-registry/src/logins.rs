//! Selects the login of `docker_registries` for an image: as in kubelets, the one whose path is the longest prefix of the image's path.

use oci_client::secrets::RegistryAuth;
use secrecy::{ExposeSecret as _, SecretString};
use sextant_config::Registry;
use sextant_core::image_reference::ImageReference;

/// The logins of a configuration.
pub struct Logins(Vec<Login>);

struct Login {
    /// Host and port, or `.example.org` for all its direct subdomains.
    host: String,
    /// Without slashes at the ends; may be empty.
    path: String,
    username: String,
    password: SecretString,
}

impl Logins {
    pub fn new(registries: &[Registry]) -> Self {
        let login = |Registry { registry, username, password }: &Registry| {
            let plain =
                registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
            let (host, path) = plain.split_once('/').unwrap_or((plain, ""));
            let (host, path) = match host {
                // The names that Docker's own configuration files use.
                "index.docker.io" | "registry-1.docker.io" => ("docker.io", ""),
                host => (host.strip_prefix('*').unwrap_or(host), path),
            };
            Login {
                host: host.to_owned(),
                path: path.trim_matches('/').to_owned(),
                username: username.clone(),
                password: password.clone(),
            }
        };
        Self(registries.iter().map(login).collect())
    }

    /// Returns the login for an image. An exact host has priority over a wildcard.
    pub fn of(&self, image: &ImageReference) -> RegistryAuth {
        let fitting = self.0.iter().filter(|login| login.is_for(image));
        fitting
            .max_by_key(|login| (!login.host.starts_with('.'), login.path.len()))
            .map_or(RegistryAuth::Anonymous, |login| {
                RegistryAuth::Basic(login.username.clone(), login.password.expose_secret().to_owned())
            })
    }
}

impl Login {
    fn is_for(&self, image: &ImageReference) -> bool {
        let is_host = match self.host.strip_prefix('.') {
            // The wildcard stands for exactly one label.
            Some(domain) => {
                image.domain.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == domain)
            }
            None => image.domain == self.host,
        };
        let below = image.path.strip_prefix(&self.path);
        is_host && below.is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_to_its_registry_alone() {
        let entry = |registry: &str, username: &str| Registry {
            registry: registry.into(),
            username: username.into(),
            password: "hunter-2".to_owned().into(),
        };
        let logins = Logins::new(&[
            entry("r.example.org", "all"),
            entry("https://r.example.org/team/", "team"),
            entry("r.example.org:5000", "port"),
            entry("*.example.net", "below"),
            entry("https://index.docker.io/v1/", "hub"),
        ]);
        for (image, expected) in [
            ("r.example.org/x", Some("all")),
            ("r.example.org/team/x:1", Some("team")),
            ("r.example.org/team", Some("team")),
            ("r.example.org/teams/x", Some("all")),
            ("r.example.org:5000/x", Some("port")),
            ("r.example.org.evil.example/x", None),
            ("a.example.net/x", Some("below")),
            ("a.b.example.net/x", None),
            ("example.net/x", None),
            ("x", Some("hub")),
            ("account/x:1", Some("hub")),
        ] {
            let found = match logins.of(&ImageReference::parse(image).unwrap()) {
                RegistryAuth::Basic(username, _) => Some(username),
                _ => None,
            };
            assert_eq!(found.as_deref(), expected, "{image}");
        }
    }
}
