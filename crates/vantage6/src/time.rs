//! Dates in the server's format: ISO 8601 without an offset.
//!
//! `parse_datetime` (`server/resource/__init__.py`) of 4.5.5 accepts exactly `%Y-%m-%dT%H:%M:%S.%f`: no offset, and always a
//! fraction. (The regular node sends Python's `isoformat()`, which omits a fraction of zero, so one in a million of its
//! requests fails.) 4.15 accepts the same, and also `+00:00`. All times here are UTC, like the server's own.

use jiff::{Timestamp, civil::DateTime, tz::Offset};
use serde::de;

use crate::read;

/// The longest text that may be a date, in bytes.
const LONGEST: usize = 64;

/// Returns the current time in the server's precision (microseconds), so that the server returns the value that was sent.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Formats a time for the server.
pub fn to_server(moment: Timestamp) -> String {
    format!("{:.6}", Offset::UTC.to_datetime(moment))
}

/// Parses a date of the server: with or without a fraction, with or without an offset (none means UTC).
///
/// # Errors
/// The text is not a date.
pub fn from_server(text: &str) -> Result<Timestamp, jiff::Error> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    Offset::UTC.to_timestamp(text.parse::<DateTime>()?)
}

/// Returns the time of a response by its sender's clock (the `Date` header); `None` without a readable header.
pub fn answered_at(headers: &http::HeaderMap) -> Option<Timestamp> {
    let date = headers.get(http::header::DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp())
}

/// For serde: a date that may be missing or null.
pub(crate) fn optional<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    match read::short_text::<_, LONGEST>(deserializer)? {
        read::ShortText::None => Ok(None),
        read::ShortText::Text(text) if text.is_empty() => Ok(None),
        read::ShortText::Text(text) => from_server(&text).map(Some).map_err(de::Error::custom),
        read::ShortText::Other => Err(de::Error::custom("it is not a date")),
    }
}

/// For serde: a date that is optional; an unreadable one is `None`.
pub(crate) fn if_readable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    match read::short_text::<_, LONGEST>(deserializer)? {
        read::ShortText::Text(text) => Ok(from_server(&text).ok()),
        read::ShortText::None | read::ShortText::Other => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_the_server_parses() {
        for (moment, text) in [
            ("2024-05-06T07:08:09.123456Z", "2024-05-06T07:08:09.123456"),
            ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09.000000"),
            ("2024-05-06T07:08:09.1+02:00", "2024-05-06T05:08:09.100000"),
        ] {
            assert_eq!(to_server(moment.parse().unwrap()), text);
        }
    }

    #[test]
    fn reads_all_that_servers_write() {
        for (text, moment) in [
            ("2024-05-06T07:08:09.123456", "2024-05-06T07:08:09.123456Z"),
            ("2024-05-06T07:08:09", "2024-05-06T07:08:09Z"),
            ("2024-05-06T07:08:09.5+00:00", "2024-05-06T07:08:09.5Z"),
            ("2024-05-06 07:08:09", "2024-05-06T07:08:09Z"),
        ] {
            assert_eq!(from_server(text).unwrap(), moment.parse::<Timestamp>().unwrap(), "{text}");
        }
        assert!(from_server("yesterday").is_err());
    }

    #[test]
    fn now_survives_the_way_there_and_back() {
        let moment = now();
        assert_eq!(from_server(&to_server(moment)).unwrap(), moment);
    }

    #[test]
    fn when_the_server_answered() {
        for (text, expected) in
            [("Tue, 14 Nov 2023 22:13:20 GMT", Some("2023-11-14T22:13:20Z")), ("yesterday", None), ("", None)]
        {
            let headers = http::HeaderMap::from_iter([(http::header::DATE, text.parse().unwrap())]);
            assert_eq!(answered_at(&headers), expected.map(|text| text.parse().unwrap()), "{text}");
        }
    }
}
