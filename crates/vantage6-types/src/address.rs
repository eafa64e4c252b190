use url::Url;

/// Parses the address of an API if its text has no other meaning for a parser than for a reader: no `\\`, `..`, `%2e` or upper-case host,
/// no login, and no query. A trailing slash and the scheme's default port are optional.
#[must_use]
pub fn plain_address(text: &str) -> Option<Url> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\%@#?".contains(&byte)) {
        return None;
    }
    let url = Url::parse(text).ok().filter(Url::has_host)?;
    let port = match url.scheme() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let (scheme, rest) = text.split_once("://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let written = format!("{scheme}://{}{path}", host.strip_suffix(port).unwrap_or(host));
    (written.trim_end_matches('/') == url.as_str().trim_end_matches('/')).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_it_says() {
        for text in [
            "https://store.example.org/api",
            "https://store.example.org/api/",
            "https://store.example.org",
            "https://store.example.org:443/api",
            "http://store.example.org:80",
            "http://127.0.0.1:7602/api",
            "http://[::1]:7602/api",
            "http://[2001:db8::443]/api",
        ] {
            assert!(plain_address(text).is_some(), "{text}");
        }
        for text in [
            "https:\\\\evil.example/store.example.org/api",
            "https://evil.example\\.store.example.org/api",
            "https:/store.example.org/api",
            "https:///store.example.org/api",
            "https:store.example.org/api",
            "https://store.example.org/stores/../evil/api",
            "https://store.example.org/stores/./api",
            "https://store.example.org/stores/%2e%2e/evil/api",
            "https://store.example.org/stores/..%2fevil/api",
            "https://store.example.org/api\n",
            " https://store.example.org/api",
            "https://store.exa\tmple.org/api",
            "https://store.example.org@evil.example/api",
            "https://store.example.org:80@evil.example/api",
            "https://store.example.org/api?x",
            "https://store.example.org/api#x",
            "https://evil.example#.store.example.org/api",
            "https://STORE.example.org/api",
            "https://st\u{f6}re.example.org/api",
            "https://store.example.org:/api",
            "https://store.example.org:0443/api",
            "https://0x7f.1/api",
            "ftp://store.example.org/api",
            "file:///etc/passwd",
            "store",
            "",
        ] {
            assert!(plain_address(text).is_none(), "{text}");
        }
    }
}
