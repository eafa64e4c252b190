//! Runs a real python-socketio server (see `server.py`) in a virtual environment, which is created if missing.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::print_stderr, reason = "the test runner shows it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use socketio::{Client, Event, Events, Message, Transport};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

/// Longer than anything takes, also on a busy machine: only a failing test waits for this long.
pub const LONG: Duration = Duration::from_secs(60);

const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// How to start the server.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub mode: &'static str,
    pub websocket: bool,
    pub port: u16,
    /// Ping interval and timeout in seconds.
    pub ping: (u32, u32),
}

pub const POLLING: Options = Options { mode: "gevent", websocket: false, port: 0, ping: (25, 60) };
pub const WEBSOCKET: Options = Options { websocket: true, ..POLLING };

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
    pub port: u16,
    /// Said, but not yet asked for.
    earlier: Vec<Value>,
}

impl Server {
    /// Starts a server; `None` (and a loud line) where there is no Python.
    pub async fn start(options: Options) -> Option<Self> {
        Self::start_with(options, &[]).await
    }

    /// The same, with more arguments.
    pub async fn start_with(options: Options, more: &[&str]) -> Option<Self> {
        let python = tokio::task::spawn_blocking(python).await.unwrap()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server.py");
        let mut command = tokio::process::Command::new(python);
        command.arg(script).args(["--mode", options.mode, "--port", &options.port.to_string()]);
        command.args(["--ping-interval", &options.ping.0.to_string(), "--ping-timeout", &options.ping.1.to_string()]);
        command.args(more);
        if !options.websocket {
            command.arg("--polling-only");
        }
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut server = Self { child, lines, port: 0, earlier: Vec::new() };
        server.port = server.said("listening").await["listening"].as_u64().unwrap().try_into().unwrap();
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The first thing with this key that the server says, or has said and was not asked for yet.
    pub async fn said(&mut self, key: &str) -> Value {
        if let Some(index) = self.earlier.iter().position(|line| line.get(key).is_some()) {
            return self.earlier.remove(index);
        }
        let wait = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the server has ended");
                let line: Value = serde_json::from_str(&line).unwrap();
                if line.get(key).is_some() {
                    return line;
                }
                self.earlier.push(line);
            }
        };
        timeout(LONG, wait).await.unwrap_or_else(|_| panic!("the server never said {key:?}"))
    }

    /// Ends the server at once, as a crash does.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// The process stays, its sockets stay open, but nothing happens in it any more.
    pub fn freeze(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    }
}

/// The next event, whatever it is.
pub async fn next(events: &mut Events) -> Option<Event> {
    timeout(LONG, events.recv()).await.expect("no event came")
}

/// Waits for the connection; failed attempts before it are fine.
pub async fn connected(events: &mut Events) -> Transport {
    loop {
        match next(events).await.expect("the client has ended") {
            Event::Connected { transport, .. } => return transport,
            Event::ConnectFailed { error, .. } => eprintln!("(attempt failed: {error})"),
            other => panic!("not yet connected, but {other:?}"),
        }
    }
}

/// Waits for the end of the connection and says why it came.
pub async fn disconnected(events: &mut Events) -> socketio::Error {
    loop {
        match next(events).await.expect("the client has ended") {
            Event::Disconnected { reason } => return reason,
            Event::Message(_) => {}
            other => panic!("still connected, but {other:?}"),
        }
    }
}

/// Waits for the event of this name.
pub async fn message(events: &mut Events, name: &str) -> Message {
    loop {
        match next(events).await.expect("the client has ended") {
            Event::Message(message) if message.event == name => return message,
            Event::Message(_) => {}
            other => panic!("no message {name:?}, but {other:?}"),
        }
    }
}

/// An event's arguments, as values.
pub fn values(message: &Message) -> Vec<Value> {
    message.args.read().unwrap()
}

/// Connects to the namespace of `server.py`.
pub fn builder(server: &Server) -> socketio::Builder {
    let quick = (Duration::from_millis(100), Duration::from_secs(1));
    Client::builder(server.url()).namespace("/tasks").reconnect_delay(quick.0, quick.1)
}

/// The Python of the tests' own environment.
fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON.get_or_init(make_environment).clone()
}

fn make_environment() -> Option<PathBuf> {
    let python3 = Command::new("python3").arg("--version").output();
    if !python3.is_ok_and(|output| output.status.success()) {
        eprintln!("*** SKIPPED: there is no python3 here, so there is no Socket.IO server to test against ***");
        return None;
    }
    let cache = cache();
    fs::create_dir_all(&cache).unwrap();
    // Tests run side by side, in several processes: one makes it, the others wait.
    let lock = File::create(cache.join("venv-socketio.lock")).unwrap();
    lock.lock().unwrap();
    let folder = cache.join("venv-socketio");
    let python = folder.join("bin/python");
    let made = folder.join("made-from.txt");
    if !python.exists() || fs::read_to_string(&made).ok().as_deref() != Some(REQUIREMENTS) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let list = folder.join("requirements.txt");
        fs::write(&list, REQUIREMENTS).unwrap();
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&list));
        fs::rename(&list, &made).unwrap();
    }
    Some(python)
}

fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SEXTANT_CACHE").unwrap_or_else(|| {
        let home = || set("HOME").expect("HOME is not set").join(".cache");
        set("XDG_CACHE_HOME").unwrap_or_else(home).join("sextant")
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}
