//! Runs `sextant receive` and `sextant return` as processes beside the folders of earlier jobs, and checks when they end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use secrecy::{ExposeSecret, SecretString};
use sextant_core::runtime::Upload;
use sextant_kubernetes::data_port::bounds::Limits;
use sextant_kubernetes::data_port::keys::{KeyOf, NodeSecret};
use sextant_kubernetes::data_port::protocol;
use sextant_kubernetes::data_port::server::{Answer, Input, PodApi, serve};
use sextant_kubernetes::data_port::tls;
use sextant_kubernetes::decisions::job::env;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use vantage6::RunId;

/// Far less than removing what is left takes, and far more than a process needs.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Gives everything at once, and lets `return` wait until it is told.
struct Giver(watch::Receiver<bool>);

#[async_trait::async_trait]
impl PodApi for Giver {
    fn key_of(&self, _: RunId, _: &str) -> Option<KeyOf> {
        Some(KeyOf::Job("a-uid".into()))
    }

    async fn input(&self, _: RunId) -> Result<Input, Answer> {
        Ok(futures::stream::iter([Ok("the input".into())]).boxed())
    }

    async fn token(&self, _: RunId) -> Result<SecretString, Answer> {
        Ok("a token".into())
    }

    async fn next(&self, _: RunId) -> protocol::Command {
        let _ = self.0.clone().wait_for(|go| *go).await;
        protocol::Command::Exit
    }

    async fn deliver(&self, _: RunId, _: Upload) -> Result<(), Answer> {
        Ok(())
    }
}

/// A volume with the folder of an old job, and a node that the run of another one asks.
struct Volume {
    place: TempDir,
    go: watch::Sender<bool>,
    variables: Vec<(&'static str, String)>,
    _server: JoinSet<()>,
}

impl Volume {
    async fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("volume/job-1")).unwrap();
        fs::create_dir(place.path().join("token")).unwrap();
        let secret = NodeSecret::from_bytes(&[7; 32]).unwrap();
        let (tls, pin) = tls::server(&secret).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let path = |name: &str| place.path().join(name).display().to_string();
        let variables = vec![
            (env::RUN, "7".into()),
            (env::JOB, "v6-task-1-run-7".into()),
            (env::ADDRESS, listener.local_addr().unwrap().to_string()),
            (env::PIN, pin),
            (env::KEY, secret.run_key(RunId(7), &KeyOf::Job("a-uid".into())).expose_secret().to_owned()),
            (env::TASK_DIR, path("data/task-000000007")),
            (env::TOKEN_DIR, path("token")),
            (env::SHARED_DIR, path("volume/job-2")),
            (env::SHARED_KEEP, "86400".into()),
        ];
        let go = watch::Sender::new(false);
        let mut server = JoinSet::new();
        let limits = Limits::within(1024);
        server.spawn(serve(listener, tls, Arc::new(secret), Arc::new(Giver(go.subscribe())), limits));
        Self { place, go, variables, _server: server }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join("volume").join(name)
    }

    /// Nobody has used the old job's folder for two days.
    fn age(&self) {
        let used = File::create(self.at("job-1.used")).unwrap();
        used.set_modified(SystemTime::now() - Duration::from_secs(2 * 86_400)).unwrap();
    }

    /// Starts a role behind some words of a shell.
    fn start(&self, before: &str, role: &str) -> Child {
        let script = format!("{before} exec {} {role}", env!("CARGO_BIN_EXE_sextant"));
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn is_clean(&self) -> bool {
        let is_empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        !self.at("job-1").exists() && is_empty(&self.at("removing"))
    }

    async fn until_clean(&self) {
        for _ in 0..12_000 {
            if self.is_clean() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("after ten minutes it is still not clean");
    }
}

/// Waits for a process's end without keeping the server from its work.
async fn end(mut child: Child) -> ExitStatus {
    tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap()
}

fn dig(top: &Path, levels: u32) {
    fs::create_dir_all(top).unwrap();
    let open = |at, name: &Path| openat(at, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut here = open(CWD, top);
    for _ in 0..levels {
        mkdirat(&here, "d", Mode::RWXU).unwrap();
        here = openat(&here, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_start_nor_an_end_waits_for_what_others_have_left() {
    let volume = Volume::new().await;
    for number in 0..200_000 {
        File::create(volume.at("job-1").join(number.to_string())).unwrap();
    }
    volume.age();

    let began = Instant::now();
    assert!(end(volume.start("", "receive")).await.success());
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(fs::read_to_string(volume.place.path().join("token/token")).unwrap(), "a token");
    assert!(volume.at("job-1").exists() && volume.at("job-2.used").exists());

    volume.go.send_replace(true);
    let began = Instant::now();
    assert!(end(volume.start("", "return")).await.success());
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());

    volume.go.send_replace(false);
    let waiting = volume.start("", "return");
    volume.until_clean().await;
    volume.go.send_replace(true);
    assert!(end(waiting).await.success());
    assert!(volume.at("job-2").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn depth_needs_neither_stack_nor_files() {
    let volume = Volume::new().await;
    dig(&volume.at("job-1"), 50_000);
    // An algorithm may own it, and give it any time.
    File::open(volume.at("job-1")).unwrap().set_modified(SystemTime::now() + Duration::from_secs(1 << 32)).unwrap();
    volume.age();
    let waiting = volume.start("ulimit -n 20; ulimit -s 1024;", "return");
    volume.until_clean().await;
    volume.go.send_replace(true);
    assert!(end(waiting).await.success());
    assert!(end(volume.start("ulimit -n 20; ulimit -s 1024;", "receive")).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_one_that_was_killed_the_next_goes_on() {
    let volume = Volume::new().await;
    for number in 0..40 {
        dig(&volume.at("job-1").join(number.to_string()), 500);
    }
    volume.age();
    for millis in [5, 10, 20, 30, 40, 60, 80] {
        let mut waiting = volume.start("", "return");
        tokio::time::sleep(Duration::from_millis(millis)).await;
        waiting.kill().unwrap();
        assert_eq!(waiting.wait().unwrap().signal(), Some(9));
    }
    let several = [volume.start("", "return"), volume.start("", "return")];
    volume.until_clean().await;
    volume.go.send_replace(true);
    for each in several {
        assert!(end(each).await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_is_left_alone() {
    let may = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: this user may not mount anything");
        return;
    }
    let volume = Volume::new().await;
    let mounted = volume.at("job-1/inner/mounted");
    dig(&volume.at("job-1/other"), 3);
    fs::create_dir_all(&mounted).unwrap();
    fs::create_dir_all(volume.place.path().join("elsewhere/folder/inner")).unwrap();
    fs::write(volume.place.path().join("elsewhere/folder/file"), "kept").unwrap();
    volume.age();
    // Of the same file system, so that only the mount tells.
    let bind = format!("mount --bind {}/elsewhere {};", volume.place.path().display(), mounted.display());
    let script = format!("{bind} exec {} return", env!("CARGO_BIN_EXE_sextant"));
    let waiting = volume.start(&format!("exec unshare --mount sh -c '{script}';"), "return");
    let other_is_gone = || fs::read_dir(volume.at("removing")).is_ok_and(|entries| entries.count() == 1);
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if other_is_gone() {
            break;
        }
    }
    volume.go.send_replace(true);
    assert!(end(waiting).await.success());
    assert!(other_is_gone(), "all but the folder with the mount");
    assert!(volume.place.path().join("elsewhere/folder/inner").exists());
    assert_eq!(fs::read_to_string(volume.place.path().join("elsewhere/folder/file")).unwrap(), "kept");
}
