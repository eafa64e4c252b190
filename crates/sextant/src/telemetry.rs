//! Logs: readable text or JSON lines, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For log collectors: one JSON object a line.
    Json,
}

/// Begins logging. `level` is Sextant's own (`info`, `debug`, …); of the libraries only warnings are shown.
/// The environment variable `SEXTANT_LOG` has the last word, in tracing's filter syntax.
pub fn init(format: LogFormat, level: &str) {
    let own = format!("warn,sextant={level},vantage6={level},socketio={level}");
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse_lossy(std::env::var("SEXTANT_LOG").unwrap_or(own));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}
