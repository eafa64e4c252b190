//! Finds the HTTP proxy for an address from the environment. All clients use the same rules, which are those of Python
//! programs: `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`, in lower or upper case. Lower case takes precedence; an
//! empty lower-case variable cancels an upper-case one.

mod exceptions;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use self::exceptions::Exceptions;

/// The HTTP proxies of an environment.
#[derive(Debug, Clone, Default)]
pub struct HttpProxies {
    https: Option<HttpProxy>,
    http: Option<HttpProxy>,
    except: Exceptions,
}

/// One HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpProxy {
    url: Url,
    variable: String,
}

impl HttpProxies {
    /// Reads this process's environment.
    ///
    /// # Errors
    /// A variable's value is not an address. The message names the variable and contains no password.
    pub fn from_env() -> Result<Self, String> {
        Self::from_lookup(&|name| std::env::var(name).ok())
    }

    /// Reads an environment through a lookup function.
    ///
    /// # Errors
    /// As for [`from_env`](Self::from_env).
    pub fn from_lookup(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let all = variable(env, "all_proxy");
        let find = |name: &str, found: Option<(String, String)>| {
            // In CGI programs, a request's header `Proxy` becomes the variable HTTP_PROXY (CVE-2016-1000110).
            let forged = name == "http_proxy" && env("REQUEST_METHOD").is_some();
            let found = found.filter(|(variable, _)| !forged || variable == name).or_else(|| all.clone());
            found.map(|(variable, value)| HttpProxy::new(&value, variable)).transpose()
        };
        Ok(Self {
            https: find("https_proxy", variable(env, "https_proxy"))?,
            http: find("http_proxy", variable(env, "http_proxy"))?,
            except: Exceptions::of(&variable(env, "no_proxy").map(|(_, value)| value).unwrap_or_default()),
        })
    }

    /// Returns the proxy for this address, if there is one.
    #[must_use]
    pub fn for_url(&self, url: &Url) -> Option<&HttpProxy> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => None,
        };
        proxy.filter(|_| !self.except.has(url))
    }
}

/// Returns the name and value of the variable, in whichever case it is set.
fn variable(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<(String, String)> {
    let capital = name.to_ascii_uppercase();
    let (name, value) = match env(name) {
        Some(value) => (name.to_owned(), value),
        None => (capital.clone(), env(&capital)?),
    };
    let value = value.trim().to_owned();
    (!value.is_empty()).then_some((name, value))
}

impl HttpProxy {
    fn new(value: &str, variable: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "The environment variable {variable} is not the address of an HTTP proxy. Write it like \
                 http://proxy.example.org:3128 (special characters of a password encoded, such as %40 for @), or \
                 unset it."
            )
        };
        let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        let url = Url::parse(&whole).map_err(|_| wrong())?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        Ok(Self { url, variable })
    }

    /// Its address, including user name and password.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// `http`, or another scheme that may not be usable.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// Its host; an IPv6 address has no brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => self.url.host_str().unwrap_or_default().to_owned(),
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(1080)
    }

    /// The environment variable that it comes from.
    #[must_use]
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// The header `Proxy-Authorization`, marked as sensitive.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        if self.url.username().is_empty() && self.url.password().is_none() {
            return None;
        }
        let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let login =
            [plain(self.url.username()), b":".to_vec(), plain(self.url.password().unwrap_or_default())].concat();
        let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(login))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Omits the password: `HTTP proxy 127.0.0.1:9 of HTTPS_PROXY`.
impl fmt::Display for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP proxy {}:{} of {}", self.url.host_str().unwrap_or_default(), self.port(), self.variable)
    }
}

impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpProxy({self})")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails, panics")]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let variables = variables.to_vec();
        let env =
            move |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        HttpProxies::from_lookup(&env).unwrap().for_url(&url.parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn which_variable_counts() {
        let (https, http) = ("https://server.example/api", "http://server.example/api");
        let (a, b) = ("http://a.example:3128", "http://b.example:3128");
        let through = |host: &str, variable: &str| Some(format!("HTTP proxy {host}.example:3128 of {variable}"));
        for (variables, url, expected) in [
            (vec![], https, None),
            (vec![("HTTPS_PROXY", a)], https, through("a", "HTTPS_PROXY")),
            (vec![("HTTPS_PROXY", a)], http, None),
            (vec![("HTTP_PROXY", a)], http, through("a", "HTTP_PROXY")),
            (vec![("HTTP_PROXY", a), ("https_proxy", b)], https, through("b", "https_proxy")),
            (vec![("HTTPS_PROXY", a), ("https_proxy", b)], https, through("b", "https_proxy")),
            (vec![("HTTPS_PROXY", a), ("https_proxy", "")], https, None),
            (vec![("ALL_PROXY", a)], https, through("a", "ALL_PROXY")),
            (vec![("all_proxy", a), ("HTTP_PROXY", b)], http, through("b", "HTTP_PROXY")),
            (vec![("HTTP_PROXY", a), ("REQUEST_METHOD", "GET")], http, None),
            (vec![("http_proxy", a), ("REQUEST_METHOD", "GET")], http, through("a", "http_proxy")),
            (vec![("HTTPS_PROXY", "a.example:3128")], https, through("a", "HTTPS_PROXY")),
            (vec![("HTTPS_PROXY", a), ("NO_PROXY", "server.example")], https, None),
            (vec![("HTTPS_PROXY", a), ("no_proxy", "server.example")], https, None),
            (
                vec![("HTTPS_PROXY", a), ("no_proxy", "other.example"), ("NO_PROXY", "*")],
                https,
                through("a", "HTTPS_PROXY"),
            ),
        ] {
            assert_eq!(found(&variables, url), expected, "{variables:?} {url}");
        }
    }

    #[test]
    fn passwords_are_sent_and_not_told() {
        let env =
            |name: &str| (name == "HTTPS_PROXY").then(|| "http://some%40body:hush%3Ahush@[2001:db8::1]".to_owned());
        let proxies = HttpProxies::from_lookup(&env).unwrap();
        let proxy = proxies.for_url(&"https://server.example".parse().unwrap()).unwrap();
        assert_eq!(proxy.to_string(), "HTTP proxy [2001:db8::1]:80 of HTTPS_PROXY");
        assert_eq!((proxy.host().as_str(), proxy.port()), ("2001:db8::1", 80));
        let header = proxy.authorization().unwrap();
        assert_eq!(header, format!("Basic {}", STANDARD.encode("some@body:hush:hush")).as_str());
        assert!(header.is_sensitive() && !format!("{proxies:?}{proxy:?}").contains("hush"));
        let env = |name: &str| (name == "HTTPS_PROXY").then(|| "http://somebody:hush#hush@proxy:x:y".to_owned());
        let error = HttpProxies::from_lookup(&env).unwrap_err();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("hush"), "{error}");
    }
}
