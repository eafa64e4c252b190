//! Logs on standard error, as readable text or JSON lines. Whatever an event contains, it is one line of bounded length and cannot control
//! the terminal.

#![expect(clippy::disallowed_types, reason = "a line of this process's own log, bounded when it is written")]

use std::io::{self, IsTerminal, Write};

use printable::{excerpt_of, is_deceptive, line};
use serde_json::Value;
use sextant_core::log_text::colour;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;

/// The longest line in bytes; longer ones are cut. Legitimate lines are far shorter.
const LONGEST: usize = 16 * 1024;
/// The most characters of each text in a JSON line that is too long.
const LONGEST_TEXT: usize = 2_000;

/// The target of events that are logged whatever `logging.level` and `SEXTANT_LOG` say: what people must know to judge how safe the node is.
pub const SAFETY: &str = "safety";

/// The format of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For log collectors: one JSON object a line.
    Json,
}

/// Starts logging. `level` applies to Sextant itself (`info`, `debug`, …); libraries log only warnings. The environment variable
/// `SEXTANT_LOG` overrides this, in tracing's filter syntax. Neither takes anything from [`SAFETY`].
pub fn init(format: LogFormat, level: &str) {
    let filter = filter(std::env::var("SEXTANT_LOG").ok(), level);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Screen { format });
    match format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

fn filter(environment: Option<String>, level: &str) -> EnvFilter {
    let own = || format!("warn,sextant={level},vantage6={level},socketio={level}");
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse_lossy(environment.unwrap_or_else(own));
    match format!("{SAFETY}=warn").parse() {
        Ok(safety) => filter.add_directive(safety),
        Err(_) => filter,
    }
}

/// Writes to standard error. Each call gets a whole event with its line end.
#[derive(Debug, Clone, Copy)]
struct Screen {
    format: LogFormat,
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        *self
    }
}

impl Write for Screen {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let shown = match self.format {
            LogFormat::Text => for_people(text),
            LogFormat::Json => for_collectors(text),
        };
        io::stderr().lock().write_all((shown + "\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Formats an event as text. The formatter's own colours stay; it has already escaped all others.
fn for_people(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('\u{1b}') {
        shown.push_str(&line(&rest[..start]));
        let end = match colour(&rest[start..]) {
            Some(colour) => {
                shown.push_str(colour);
                start + colour.len()
            }
            None => {
                shown.push_str(r"\u{1b}");
                start + 1
            }
        };
        rest = &rest[end..];
    }
    shown.push_str(&line(rest));
    if shown.len() > LONGEST { excerpt_of(&shown, LONGEST / 4) } else { shown }
}

/// Formats an event as JSON. Only its texts can have invisible characters, and JSON texts can have any character as an escape.
fn for_collectors(text: &str) -> String {
    let cut = (text.len() > LONGEST).then(|| serde_json::from_str(text).ok()).flatten().map(|mut event| {
        shorten(&mut event);
        event.to_string()
    });
    let text = cut.as_deref().unwrap_or(text);
    let mut shown = String::with_capacity(text.len());
    let mut units = [0; 2];
    for character in text.chars() {
        if is_deceptive(character) {
            shown.extend(character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(character);
        }
    }
    shown
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => *text = excerpt_of(text, LONGEST_TEXT),
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn no_level_takes_away_what_people_must_know() {
        let heard = |environment: Option<&str>, level: &str| {
            let filter = filter(environment.map(str::to_owned), level);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(filter), || {
                (
                    tracing::enabled!(target: SAFETY, tracing::Level::WARN),
                    tracing::enabled!(target: "sextant", tracing::Level::WARN),
                )
            })
        };
        assert_eq!(heard(None, "info"), (true, true));
        assert_eq!(heard(None, "error"), (true, false));
        for quiet in ["error", "off", "sextant=error", "off,safety=off", "safety=error,sextant=off"] {
            assert_eq!(heard(Some(quiet), "info"), (true, false), "{quiet}");
        }
        for loud in ["debug", "info", "", "sextant=trace,safety=off"] {
            assert_eq!(heard(Some(loud), "error"), (true, true), "{loud}");
        }
    }

    #[test]
    fn an_event_is_one_line_that_steers_no_terminal() {
        for (text, shown) in [
            ("2026 INFO starting run=7", "2026 INFO starting run=7"),
            ("2026 WARN a\n2026 INFO forged\r\u{202e}\u{9b}2J", r"2026 WARN a\n2026 INFO forged\r\u{202e}\u{9b}2J"),
            (
                "\u{1b}[2m2026\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m \u{1b}[2J\u{1b}]0;x",
                "\u{1b}[2m2026\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m \\u{1b}[2J\\u{1b}]0;x",
            ),
        ] {
            assert_eq!(for_people(text), shown);
        }
        assert!(for_people(&"x".repeat(1_400_000)).len() <= LONGEST);
        assert!(for_people(&"é\n".repeat(700_000)).len() <= LONGEST);
    }

    #[test]
    fn a_long_json_line_is_cut_in_its_texts() {
        let event = serde_json::json!({"level": "WARN", "message": "y".repeat(1_400_000), "run": 7});
        let shown = for_collectors(&event.to_string());
        let again: Value = serde_json::from_str(&shown).unwrap();
        assert!(
            shown.len() < LONGEST && again["message"].as_str().unwrap().ends_with("y…") && again["run"] == 7,
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn json_says_the_same_in_visible_characters(text in ".*", odd in "[\\x00-\\x1f\\u{7f}-\\u{a0}\\u{2000}-\\u{2070}\\u{e0000}-\\u{e0100}]{0,20}") {
            let event = serde_json::json!({ "message": text + &odd });
            let shown = for_collectors(&event.to_string());
            prop_assert!(!shown.chars().any(is_deceptive), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), event);
        }
    }
}
