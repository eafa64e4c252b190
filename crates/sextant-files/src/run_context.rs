//! Writes `run_context.json`, which a regular node since 4.14 writes beside input and output with `run_context_file: true`.
//!
//! The file repeats the function and the arguments of the input, which may be larger than memory. So the input is parsed as a stream that
//! keeps only where these are, and then their bytes are copied.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::rc::Rc;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

/// The file's name in a run's folder.
pub const RUN_CONTEXT: &str = "run_context.json";
const SCHEMA_VERSION: &str = "0.1";

/// Writes the file: the version, what the input says, and the other fields, which are the JSON object `rest`.
///
/// An input that is not a JSON object has no function and no arguments.
///
/// # Errors
/// The input can't be read or the file can't be written.
pub fn write(mut input: File, rest: &str, to: File) -> io::Result<()> {
    let found = Found::read(&input)?;
    let mut to = BufWriter::new(to);
    let mut part = |to: &mut BufWriter<File>, span: &Option<Range<u64>>, without: &str| match span {
        Some(span) => {
            input.seek(SeekFrom::Start(span.start))?;
            io::copy(&mut (&input).take(span.end - span.start), to).map(|_| ())
        }
        None => to.write_all(without.as_bytes()),
    };
    write!(to, "{{\"schema_version\": \"{SCHEMA_VERSION}\", \"entrypoint\": {{\"name\": ")?;
    part(&mut to, &found.method, "\"\"")?;
    to.write_all(b"}, \"arguments\": {\"positional\": ")?;
    part(&mut to, &found.args, "[]")?;
    to.write_all(b", \"named\": ")?;
    part(&mut to, &found.kwargs, "{}")?;
    writeln!(to, "}}, {}", rest.trim_start().trim_start_matches('{'))?;
    to.flush()
}

/// Where the input has what the file repeats.
#[derive(Debug, Default, PartialEq)]
struct Found {
    method: Option<Range<u64>>,
    args: Option<Range<u64>>,
    kwargs: Option<Range<u64>>,
}

impl Found {
    fn read(input: &File) -> io::Result<Self> {
        let at = Rc::new(Cell::new(0));
        // Counts behind the buffer, so exactly what the parser has taken.
        let counted = Counted { inner: BufReader::with_capacity(64 * 1024, input), at: at.clone() };
        let mut parser = serde_json::Deserializer::from_reader(counted);
        let spans = match parser.deserialize_map(Spans(at)).and_then(|spans| parser.end().map(|()| spans)) {
            Ok(spans) => spans,
            Err(error) if error.is_io() => return Err(error.into()),
            Err(_) => return Ok(Self::default()),
        };
        let value = |span: Option<Range<u64>>| span.map(|span| trimmed(input, span)).transpose();
        Ok(Self { method: value(spans.method)?, args: value(spans.args)?, kwargs: value(spans.kwargs)? })
    }
}

/// Takes the colon, white space and, of a number, the character after it off the span of a value.
fn trimmed(mut input: &File, span: Range<u64>) -> io::Result<Range<u64>> {
    let mut start = span.start;
    input.seek(SeekFrom::Start(start))?;
    let mut bytes = BufReader::new(input).bytes();
    let first = loop {
        let byte = bytes.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        if byte != b':' && !byte.is_ascii_whitespace() {
            break byte;
        }
        start += 1;
    };
    let is_number = first == b'-' || first.is_ascii_digit();
    Ok(start..span.end - u64::from(is_number))
}

/// Reads an object and keeps the spans of three of its values; of a repeated key the last one, as Python does.
struct Spans(Rc<Cell<u64>>);

impl<'de> Visitor<'de> for Spans {
    type Value = Found;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::default();
        while let Some(key) = map.next_key::<String>()? {
            let start = self.0.get();
            let _: IgnoredAny = map.next_value()?;
            let span = Some(start..self.0.get());
            match key.as_str() {
                "method" => found.method = span,
                "args" => found.args = span,
                "kwargs" => found.kwargs = span,
                _ => {}
            }
        }
        Ok(found)
    }
}

struct Counted<R> {
    inner: R,
    at: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at.set(self.at.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(input: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("input"), input).unwrap();
        let (from, to) = (File::open(path("input")).unwrap(), File::create(path(RUN_CONTEXT)).unwrap());
        write(from, "{\"outputs\": []}", to).unwrap();
        std::fs::read_to_string(path(RUN_CONTEXT)).unwrap()
    }

    #[test]
    fn function_and_arguments_are_those_of_the_input() {
        let nothing = (r#""""#, "[]", "{}");
        for (input, (method, args, kwargs)) in [
            (
                r#"{"method": "f", "args": [1, {"a": "]}\""}], "kwargs": {"b": [2]}}"#,
                (r#""f""#, r#"[1, {"a": "]}\""}]"#, r#"{"b": [2]}"#),
            ),
            (" {\n\"kwargs\"\n: { } ,\"x\":{\"method\":1},\"method\":\"é\"} \n", (r#""é""#, "[]", "{ }")),
            (r#"{"method":1,"args":null,"kwargs":-2.5e3}"#, ("1", "null", "-2.5e3")),
            (r#"{"method":12 ,"args":true}"#, ("12", "true", "{}")),
            (r#"{"m\u0065thod":"f"}"#, (r#""f""#, "[]", "{}")),
            (r#"{"method":"f","method":"g"}"#, (r#""g""#, "[]", "{}")),
            ("{}", nothing),
            ("", nothing),
            ("[1]", nothing),
            (r#""text""#, nothing),
            ("null", nothing),
            (r#"{"method":"f""#, nothing),
            (r#"{"method":"f"} more"#, nothing),
            (r#"{"method":"f",}"#, nothing),
        ] {
            let expected = format!(
                "{{\"schema_version\": \"0.1\", \"entrypoint\": {{\"name\": {method}}}, \"arguments\": {{\"positional\": {args}, \
                 \"named\": {kwargs}}}, \"outputs\": []}}\n"
            );
            assert_eq!(written(input.as_bytes()), expected, "{input}");
        }
    }

    #[test]
    fn a_pickle_or_other_bytes_are_no_object() {
        for input in [&b"\x80\x04\x95"[..], b"{\xff", b"\0"] {
            assert!(written(input).contains("\"name\": \"\""));
        }
    }

    #[test]
    fn large_and_deep_values_are_copied() {
        let (long, deep) = ("x".repeat(1 << 20), 10_000);
        let input =
            format!("{{\"args\": [\"{long}\"], \"kwargs\": {{\"a\": {}{}}}}}", "[".repeat(deep), "]".repeat(deep));
        let text = written(input.as_bytes());
        assert!(text.contains(&long) && text.contains(&"[".repeat(deep)));
    }
}
