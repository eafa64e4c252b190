//! Parses the entries of a store's response. Each entry is parsed by itself, so that an invalid one does not hide others. Entries that
//! the store does not call approved are dropped. Stores list only approved algorithms unless they are asked for others
//! (`resource/algorithm.py`), and a regular node uses the first of the list; the status is checked here nevertheless.

use log_throttle::LogThrottle;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{StoreAlgorithm, StoreError};
use crate::{error::excerpt, read};

/// How many algorithms of a response are parsed. An image rarely has more than one.
const MOST: usize = 100;
/// The largest length of names.
const LONG: usize = 1000;
/// A store's status for algorithms that may be used (`AlgorithmStatus` in `model/common/enums.py`).
const APPROVED: &str = "approved";

/// The part of a response that is read.
#[derive(Deserialize)]
struct Page {
    #[serde(deserialize_with = "entries")]
    data: Vec<Box<RawValue>>,
}

/// The part of an entry that is read.
#[derive(Deserialize)]
struct Entry {
    #[serde(deserialize_with = "read::cut::<_, LONG>")]
    image: String,
    #[serde(default, deserialize_with = "read::optional_cut::<_, LONG>")]
    digest: Option<String>,
    /// Stores always send it. Without it, the rule applies that stores list only approved algorithms.
    #[serde(default, deserialize_with = "present")]
    status: Option<String>,
    /// When the algorithm was replaced, removed or rejected.
    #[serde(default)]
    invalidated_at: Option<Box<RawValue>>,
}

/// A JSON object. Without this type, a list of the fields' values would be accepted too.
struct Object<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Fields<T>(std::marker::PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        de.deserialize_map(Fields(std::marker::PhantomData)).map(Self)
    }
}

fn entries<'de, D: Deserializer<'de>>(de: D) -> Result<Vec<Box<RawValue>>, D::Error> {
    read::beginning::<_, Box<RawValue>, MOST>(de).map(|beginning| beginning.list)
}

/// A status must be a text if it is present: null is not a status.
fn present<'de, D: Deserializer<'de>>(de: D) -> Result<Option<String>, D::Error> {
    read::optional_cut::<_, LONG>(de)?.map(Some).ok_or_else(|| D::Error::custom("there is no status"))
}

/// Why an entry is dropped.
enum LeftOut {
    Malformed,
    /// The store's status for it.
    NotApproved(String),
}

fn read_entry(entry: &RawValue) -> Result<StoreAlgorithm, LeftOut> {
    let entry = serde_json::from_str::<Object<Entry>>(entry.get()).map_err(|_| LeftOut::Malformed)?.0;
    match entry.status {
        Some(status) if status != APPROVED => Err(LeftOut::NotApproved(status)),
        _ if entry.invalidated_at.is_some() => Err(LeftOut::NotApproved("invalidated".to_owned())),
        _ => Ok(StoreAlgorithm { image: entry.image, digest: entry.digest }),
    }
}

/// The approved algorithms of a response.
///
/// # Errors
/// If the response is not a store's, or if it lists only algorithms that are not approved or can't be read.
pub(super) fn read(body: &[u8], shown: &str) -> Result<Vec<StoreAlgorithm>, StoreError> {
    let page = serde_json::from_slice::<Object<Page>>(body).map_err(|_| {
        StoreError::Refused(format!(
            "what answers at {shown} is no algorithm store: its answer begins with: {}. Check the store's address at the server",
            excerpt(body)
        ))
    })?;
    let (mut algorithms, mut malformed, mut status) = (Vec::new(), None, None);
    for entry in &page.0.data {
        match read_entry(entry) {
            Ok(algorithm) => algorithms.push(algorithm),
            Err(LeftOut::Malformed) => malformed = malformed.or_else(|| Some(excerpt(entry.get().as_bytes()))),
            Err(LeftOut::NotApproved(other)) => status = status.or(Some(other)),
        }
    }
    if let Some(malformed) = &malformed {
        static MALFORMED: LogThrottle = LogThrottle::new();
        if let Some(times) = MALFORMED.happened() {
            tracing::warn!(
                times,
                "The algorithm store at {shown} lists an algorithm that can't be read, which is left out: {malformed}"
            );
        }
    }
    match (algorithms.is_empty(), status, malformed) {
        (true, Some(status), _) => Err(StoreError::Refused(format!(
            "the algorithm store at {shown} lists it as '{}', not as {APPROVED}",
            excerpt(status.as_bytes())
        ))),
        (true, None, Some(malformed)) => Err(StoreError::Refused(format!(
            "the algorithm store at {shown} lists nothing that can be read: {malformed}"
        ))),
        _ => Ok(algorithms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "https://store.example.org/api/algorithm";

    /// The approved images, or why there are none.
    fn images(data: &str) -> Result<Vec<String>, String> {
        match read(format!(r#"{{"data": {data}}}"#).as_bytes(), SHOWN) {
            Ok(algorithms) => Ok(algorithms.into_iter().map(|algorithm| algorithm.image).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_a_store_does_not_call_approved_does_not_count() {
        let good = r#"{"image": "good", "status": "approved", "invalidated_at": null}"#;
        for (entry, is_good) in [
            (good, true),
            (r#"{"image": "good"}"#, true),
            (r#"{"image": "x", "status": "rejected"}"#, false),
            (r#"{"image": "x", "status": "replaced", "invalidated_at": "2026-01-01T00:00:00"}"#, false),
            (r#"{"image": "x", "status": "removed"}"#, false),
            (r#"{"image": "x", "status": "under review"}"#, false),
            (r#"{"image": "x", "status": "awaiting reviewer assignment"}"#, false),
            (r#"{"image": "x", "status": "Approved"}"#, false),
            (r#"{"image": "x", "status": ""}"#, false),
            (r#"{"image": "x", "status": null}"#, false),
            (r#"{"image": "x", "status": true}"#, false),
            (r#"{"image": "x", "status": "approved", "invalidated_at": "2026-01-01T00:00:00"}"#, false),
            (r#"{"image": "x", "invalidated_at": 0}"#, false),
            (r#"{"image": "x", "status": "rejected", "status": "approved"}"#, false),
        ] {
            assert_eq!(images(&format!("[{entry}]")).is_ok(), is_good, "{entry}");
            let both = images(&format!("[{entry}, {good}]")).unwrap();
            assert!(both.iter().all(|image| image == "good") && both.len() == 1 + usize::from(is_good), "{both:?}");
        }
        let why = images(r#"[{"image": "x", "status": "rejected"}]"#).unwrap_err();
        assert!(why.contains("'rejected', not as approved") && why.contains(SHOWN), "{why}");
    }

    #[test]
    fn an_entry_that_makes_no_sense_hides_no_other() {
        let good = r#"{"image": "good", "status": "approved"}"#;
        for odd in [
            r#"["x", null, "approved", null]"#,
            r#"["x"]"#,
            "[]",
            "null",
            "7",
            r#""x""#,
            "{}",
            r#"{"image": null}"#,
            r#"{"image": ["x"]}"#,
            r#"{"image": "x", "digest": 7}"#,
            r#"{"image": "x", "digest": ["sha256:ab"]}"#,
        ] {
            assert_eq!(images(&format!("[{odd}, {good}]")), Ok(vec!["good".to_owned()]), "{odd}");
            let why = images(&format!("[{odd}]")).unwrap_err();
            assert!(why.contains("nothing that can be read"), "{odd}: {why}");
        }
    }

    #[test]
    fn a_list_is_no_object() {
        for body in
            [r#"[[{"image": "x"}]]"#, r#"[[["x"]]]"#, "[]", r#"{"data": {"image": "x"}}"#, r#"{"data": "x"}"#, "{}"]
        {
            let Err(StoreError::Refused(why)) = read(body.as_bytes(), SHOWN) else { panic!("{body}") };
            assert!(why.contains("no algorithm store"), "{body}: {why}");
        }
        assert_eq!(read(br#"{"data": []}"#, SHOWN), Ok(vec![]));
    }
}
