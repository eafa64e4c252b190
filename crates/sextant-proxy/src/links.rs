//! Rewrites the links between pages of a list to lead through the proxy, whose API has no path prefix. The server writes them with its API
//! path (`metadata_links` in `backend/common/resource/pagination.py`), or behind some front ends with its full URL.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, header};
use vantage6::json::{Find, Part, Scan};

use super::upstream::Origin;

/// Rewrites a text while it arrives.
pub(crate) struct Links {
    scan: Scan,
    /// The prefixes that are removed from links, the longest first.
    prefixes: [String; 2],
    /// The beginning of a link that may still have one of the prefixes.
    held: Option<Vec<u8>>,
}

impl Links {
    /// Starts with the beginning of a text.
    pub fn new(origin: &Origin) -> Self {
        let prefixes = [format!("{}/", origin.api_url), format!("{}/", origin.api_path)];
        Self { scan: Scan::new(Find::AllIn("links")), prefixes, held: None }
    }

    /// Reads the next piece of the text and appends the rewritten text to `out`.
    pub fn feed(&mut self, text: &[u8], out: &mut BytesMut) {
        let Self { scan, prefixes, held } = self;
        scan.feed(text, &mut |part| match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Begin => {
                out.extend_from_slice(b"\"");
                *held = Some(Vec::new());
            }
            Part::Value(text) => match held {
                Some(beginning) => {
                    beginning.extend_from_slice(text);
                    if beginning.len() >= prefixes[0].len() {
                        out.extend_from_slice(shortened(beginning, prefixes));
                        *held = None;
                    }
                }
                None => out.extend_from_slice(text),
            },
            Part::End => {
                if let Some(link) = held.take() {
                    out.extend_from_slice(shortened(&link, prefixes));
                }
                out.extend_from_slice(b"\"");
            }
        });
    }
}

fn shortened<'a>(link: &'a [u8], prefixes: &[String; 2]) -> &'a [u8] {
    let longest = prefixes.iter().find(|prefix| link.starts_with(prefix.as_bytes()));
    // The slash stays.
    longest.map_or(link, |prefix| &link[prefix.len() - 1..])
}

/// Rewrites a text in memory.
pub(crate) fn in_text(text: Bytes, origin: &Origin) -> Bytes {
    if memchr::memmem::find(&text, b"\"links\"").is_none() {
        return text;
    }
    let mut out = BytesMut::with_capacity(text.len());
    Links::new(origin).feed(&text, &mut out);
    out.freeze()
}

/// Rewrites a text while it streams.
pub(crate) fn in_stream<E: Send + 'static>(
    pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    origin: &Origin,
) -> impl Stream<Item = Result<Bytes, E>> + Send + 'static {
    let mut links = Links::new(origin);
    pieces.map(move |piece| {
        let mut out = BytesMut::new();
        links.feed(&piece?, &mut out);
        Ok(out.freeze())
    })
}

/// Rewrites the `Link` header, which has the same links.
pub(crate) fn in_headers(headers: &mut HeaderMap, origin: &Origin) {
    let Some(text) = headers.get(header::LINK).and_then(|value| value.to_str().ok()) else { return };
    let text = text.replace(&format!("<{}/", origin.api_url), "</").replace(&format!("<{}/", origin.api_path), "</");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(header::LINK, value);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use outbound::HttpProxies;

    use super::*;

    pub(crate) fn origin(server_url: &str) -> Origin {
        let text = format!("server_url: {server_url}\napi_key: k\n");
        let config = sextant_config::Config::parse(&text, std::path::Path::new("a.yaml"), &|_| None).unwrap();
        Origin::new(&config, &HttpProxies::default()).unwrap()
    }

    #[test]
    fn pages_lead_through_the_proxy() {
        let origin = origin("http://v6.example.org:5000");
        let text = r#"{"data": [{"links": {"next": "/api/x"}, "result": "/api/x"}], "links": {"first": "/api/result?task_id=1&page=1", "next": "http://v6.example.org:5000/api/result?page=2", "self": "/apiary", "last": "http://other.example.org/api/x", "": ""}}"#;
        let expected = r#"{"data": [{"links": {"next": "/api/x"}, "result": "/api/x"}], "links": {"first": "/result?task_id=1&page=1", "next": "/result?page=2", "self": "/apiary", "last": "http://other.example.org/api/x", "": ""}}"#;
        for piece in [1, 3, 10, 1000] {
            let (mut links, mut out) = (Links::new(&origin), BytesMut::new());
            for piece in text.as_bytes().chunks(piece) {
                links.feed(piece, &mut out);
            }
            assert_eq!(String::from_utf8_lossy(&out), expected, "in pieces of {piece}");
        }
        assert_eq!(in_text(Bytes::from(text), &origin), expected);
        assert_eq!(in_text(Bytes::from("{}"), &origin), "{}");
    }

    #[test]
    fn so_does_the_header() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LINK, "</api/task?page=1>; rel=first,</api/task?page=2>; rel=next".parse().unwrap());
        in_headers(&mut headers, &origin("http://v6.example.org"));
        assert_eq!(headers[header::LINK], "</task?page=1>; rel=first,</task?page=2>; rel=next");
    }

    #[test]
    fn an_api_without_a_path_has_its_links_right() {
        let text = "server_url: http://a\napi_path: ''\napi_key: k\n";
        let config = sextant_config::Config::parse(text, std::path::Path::new("a.yaml"), &|_| None).unwrap();
        let origin = Origin::new(&config, &HttpProxies::default()).unwrap();
        let text = r#"{"links": {"next": "/task?page=2"}}"#;
        assert_eq!(in_text(Bytes::from(text), &origin), text);
    }
}
