//! The source of the cluster's credentials: the pod's service account, or kubeconfigs and the files that they name. The files' stamps
//! show whether to read them again.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use jiff::Timestamp;
use kube::Config;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError};
use secrecy::{ExposeSecret, SecretString};
use sextant_config::KubernetesConfig;
use sextant_config::kubeconfig::of_kubectl;

use super::plugin;
use super::stamps::Stamps;

/// The source of the cluster's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The pod's service account.
    Pod,
    /// Kubeconfigs, which are merged, and a context to use instead of their current one.
    Kubeconfigs { paths: Vec<PathBuf>, context: Option<String> },
}

/// The result of reading a source.
pub struct Read {
    /// The cluster, and credentials that refer to no files.
    pub config: Config,
    /// When the credentials expire, if they say so.
    pub ends: Option<Timestamp>,
    /// Changes whenever the cluster or the credentials change.
    pub digest: Vec<u8>,
    /// The files that were read.
    pub files: Stamps,
}

impl Source {
    /// The source that the configuration names, or else the one that kubectl would use.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(config: &KubernetesConfig, inside: bool) -> Result<Self, String> {
        let paths = match &config.kubeconfig {
            Some(path) => vec![path.clone()],
            None if inside => return Ok(Self::Pod),
            None => of_kubectl(std::env::var_os("KUBECONFIG").as_deref(), std::env::home_dir().as_deref()),
        };
        if paths.is_empty() {
            return Err("there is no home directory to look for .kube/config in".into());
        }
        Ok(Self::Kubeconfigs { paths, context: config.context.clone() })
    }

    /// The source's name with a capital, for the beginning of a sentence.
    pub fn beginning(&self) -> String {
        let name = self.to_string();
        let (first, rest) = name.split_at(1);
        first.to_uppercase() + rest
    }

    /// Reads the source, and runs its exec plugin if it has one.
    ///
    /// # Errors
    /// What is wrong with the source, in a text that contains no secret.
    pub async fn read(&self) -> Result<Read, String> {
        let mut files = Stamps::default();
        let mut config = match self {
            Self::Pod => Config::incluster().map_err(|error| error.to_string())?,
            Self::Kubeconfigs { paths, context } => {
                files.take(paths);
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                let kubeconfig = merged(paths)?;
                let named = cluster_of(&kubeconfig, &options);
                if named.is_some_and(|cluster| cluster.proxy_url.as_ref().is_some_and(|proxy| !proxy.is_empty())) {
                    return Err(
                        "it reaches its cluster through a proxy (proxy-url), which Sextant does not support".into()
                    );
                }
                // Take its stamp before reading it, so that a change in between is noticed.
                files.take(named.and_then(|cluster| cluster.certificate_authority.as_ref()));
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| error_chain(&error))?
            }
        };
        must_be_sure(&config)?;
        // HTTPS_PROXY in the environment is for traffic that leaves the cluster; pods would not reach this node through it either.
        config.proxy_url = None;
        files.take(config.root_cert_file.take());
        let user = &config.auth_info;
        files.take([&user.token_file, &user.client_certificate, &user.client_key].into_iter().flatten());
        let ends = resolve(&mut config.auth_info).await?;
        let digest = digest_of(&config)?;
        Ok(Read { config, ends, digest, files })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod => out.write_str("this pod's service account"),
            Self::Kubeconfigs { paths, .. } => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                write!(out, "the kubeconfig{} {}", if paths.len() > 1 { "s" } else { "" }, paths.join(" and "))
            }
        }
    }
}

/// Refuses a cluster that anyone on the network path can impersonate. The configuration check does the same, but the file may have changed.
fn must_be_sure(config: &Config) -> Result<(), String> {
    let address = &config.cluster_url;
    let host = address.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_this_machine = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    let what = if address.scheme_str() != Some("https") {
        "its `server` is not an `https://` address"
    } else if config.accept_invalid_certs {
        "it says `insecure-skip-tls-verify: true`"
    } else {
        return Ok(());
    };
    if is_this_machine {
        return Ok(());
    }
    Err(format!(
        "{what}, so credentials and runs with their data would go to anyone who answers at {}. Name the cluster's \
         authority there (certificate-authority-data), and an https address",
        printable::excerpt_of(host, 100)
    ))
}

/// Merges the kubeconfigs. Like kubectl, it skips missing files if there are several.
fn merged(paths: &[PathBuf]) -> Result<Kubeconfig, String> {
    let (mut all, mut missing) = (None::<Kubeconfig>, None);
    for path in paths {
        match Kubeconfig::read_from(path) {
            Ok(next) => {
                let merged = match all {
                    Some(all) => all.merge(next).map_err(|error| of_several(path, paths, error_chain(&error)))?,
                    None => next,
                };
                all = Some(merged);
            }
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == std::io::ErrorKind::NotFound => {
                missing.get_or_insert(format!("reading {} failed: {error}", path.display()));
            }
            Err(error) => return Err(of_several(path, paths, error_chain(&error))),
        }
    }
    all.ok_or_else(|| missing.unwrap_or_else(|| "there is none".into()))
}

/// Adds which of several files an error is about.
fn of_several(path: &Path, paths: &[PathBuf], what: String) -> String {
    if paths.len() > 1 { format!("{}: {what}", path.display()) } else { what }
}

/// The cluster of the context in use.
fn cluster_of<'a>(kubeconfig: &'a Kubeconfig, options: &KubeConfigOptions) -> Option<&'a kube::config::Cluster> {
    let name = options.context.as_ref().or(kubeconfig.current_context.as_ref())?;
    let context = kubeconfig.contexts.iter().find(|each| &each.name == name)?.context.as_ref()?;
    kubeconfig.clusters.iter().find(|each| each.name == context.cluster)?.cluster.as_ref()
}

/// Describes what is wrong with a kubeconfig. A parser's own message quotes its input, which may be a token.
fn error_chain(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            let place = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
            format!("it is not YAML, or not a kubeconfig{}", place.unwrap_or_default())
        }
        error => error.to_string(),
    }
}

/// Reads the files and runs the plugin that the credentials refer to, so that they are complete. Returns when they expire, if they say so.
async fn resolve(user: &mut AuthInfo) -> Result<Option<Timestamp>, String> {
    if let Some(provider) = user.auth_provider.take() {
        return Err(unsupported(&provider.name));
    }
    embed(user.client_certificate.take(), &mut user.client_certificate_data)?;
    let mut key = user.client_key_data.take().map(|key| key.expose_secret().to_owned());
    embed(user.client_key.take(), &mut key)?;
    user.client_key_data = key.map(SecretString::from);

    let exec = user.exec.take();
    if let Some(path) = user.token_file.take() {
        match (std::fs::read_to_string(&path), &user.token) {
            (Ok(text), _) => user.token = Some(token(&text, &format!("the token in {path}"))?),
            // kubectl also uses the inline token if there are both.
            (Err(_), Some(_)) => {}
            (Err(error), None) => return Err(format!("the token can't be read from {path}: {error}")),
        }
    } else if let Some(text) = &user.token {
        user.token = Some(token(text.expose_secret(), "the token in it")?);
    }
    if user.token.is_some() || user.username.is_some() && user.password.is_some() {
        return Ok(None);
    }
    let Some(exec) = exec else { return Ok(None) };
    let given = plugin::run(&exec).await?;
    if let Some(text) = given.token {
        user.token = Some(token(text.expose_secret(), "the token that the exec plugin gave")?);
    }
    if let Some((certificate, key)) = given.certificate {
        user.client_certificate_data = Some(STANDARD.encode(certificate));
        user.client_key_data = Some(SecretString::from(STANDARD.encode(key.expose_secret())));
    }
    Ok(given.ends)
}

/// Replaces a file name with the file's content. Inline content takes precedence.
fn embed(path: Option<String>, data: &mut Option<String>) -> Result<(), String> {
    if let (Some(path), None) = (path, &data) {
        let content = std::fs::read(&path).map_err(|error| format!("reading {path} failed: {error}"))?;
        *data = Some(STANDARD.encode(content));
    }
    Ok(())
}

/// Checks a token and trims it, since editors and `echo` end a file with a newline.
fn token(text: &str, what: &str) -> Result<SecretString, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if text.contains(char::is_whitespace) || HeaderValue::from_str(text).is_err() {
        return Err(format!("{what} contains blanks, line ends or other characters that are not allowed in a token"));
    }
    Ok(SecretString::from(text))
}

/// Advice for a login method that Sextant does not support.
fn unsupported(provider: &str) -> String {
    let instead = match provider {
        "oidc" => "kubelogin: `kubectl oidc-login setup`, github.com/int128/kubelogin",
        "azure" => "Azure's kubelogin: `kubelogin convert-kubeconfig`, github.com/Azure/kubelogin",
        "gcp" => "gke-gcloud-auth-plugin: `gcloud container clusters get-credentials`",
        _ => "your provider's",
    };
    format!(
        "its user logs in by `auth-provider: {}`, which Sextant does not support. Use an exec plugin instead \
         ({instead}), or the token of a service account (docs/OPERATIONS.md)",
        printable::excerpt_of(provider, 60)
    )
}

/// A digest of the cluster and the credentials, which shows whether they have changed.
fn digest_of(config: &Config) -> Result<Vec<u8>, String> {
    let user = serde_json::to_vec(&config.auth_info).map_err(|_| "its user can't be understood")?;
    let cluster = (&config.cluster_url, &config.root_cert, config.accept_invalid_certs, &config.tls_server_name);
    let all = [format!("{cluster:?}").into_bytes(), user].concat();
    Ok(digest(&SHA256, &all).as_ref().to_vec())
}
