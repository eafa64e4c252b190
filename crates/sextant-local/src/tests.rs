//! Tests the local runtime as the node uses it, except for starting algorithms: the test binary is not `sextant`.

use std::fs;
use std::os::unix::process::CommandExt as _;

use futures::StreamExt;
use secrecy::SecretString;
use sextant_config::RuntimeConfig;
use sextant_core::assignment::sample;
use sextant_core::run_state::Exit;
use sextant_core::runtime::InputStream;
use tempfile::TempDir;
use vantage6_types::NodeId;

use super::folder::{ASSIGNED, EXIT};
use super::*;

/// What the node would say of an input; the token is always there.
struct RunInputs(Result<&'static str, InputSourceError>);

#[async_trait::async_trait]
impl InputSource for RunInputs {
    async fn input(&self, _: RunId) -> Result<InputStream, InputSourceError> {
        // As one that is found wrong in its middle.
        let rest = self.0.clone().map(|text| text.as_bytes().into());
        Ok(futures::stream::iter([Ok("begun, ".as_bytes().into()), rest]).boxed())
    }

    async fn token(&self, _: RunId) -> Result<SecretString, InputSourceError> {
        Ok(SecretString::from("t"))
    }
}

fn local(place: &TempDir, input: Result<&'static str, InputSourceError>) -> Local {
    let text = format!(
        "server_url: http://localhost\nport: 5000\napi_path: /api\napi_key: k\ntask_dir: {}\nlocal: {{algorithms: {{average: 'true'}}}}",
        place.path().display()
    );
    let config = Config::parse(&text, std::path::Path::new("/etc/node.yaml"), &|_| None).unwrap();
    let RuntimeConfig::Local(settings) = &config.runtime else { panic!() };
    let identity = Identity::new("s".into(), NodeId(1), &config.api_key);
    Local::start(&config, settings, &identity, Arc::new(RunInputs(input)), &Health::default(), &Supervisor::default())
        .unwrap()
}

fn assignment(task: u64, run: u64, assigned_at: &str) -> Assignment {
    Assignment { image: "average".into(), ..sample::assignment(task, run, assigned_at) }
}

/// What an earlier process left of a run whose algorithm has ended.
fn ended(local: &Local, run: &Assignment) -> Folder {
    let folder = Folder::new(&local.root, run.task, run.run);
    folder.make(run).unwrap();
    fs::write(folder.path_of(EXIT), "code 0").unwrap();
    folder
}

#[tokio::test]
async fn a_command_stands_for_an_image_of_any_digest() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("x"));
    let digest = format!("sha256:{}", "a".repeat(64));
    for (image, known) in [
        ("average".to_owned(), true),
        (format!("average@{digest}"), true),
        (format!("average:1@{digest}"), false),
        (format!("other@{digest}"), false),
    ] {
        assert_eq!(local.algorithm(&image).is_some(), known, "{image}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_run_is_not_taken_for_that_of_another_with_its_number() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let old = ended(&local, &assignment(3, 7, "yesterday"));
    assert_eq!(local.list_existing().await, [(TaskId(3), RunId(7))]);
    let seen = local.observe(RunId(7));
    assert_eq!(*seen.borrow(), RunState::Ended(Exit::with_code(0)));

    assert!(!local.has_stale_job(&assignment(3, 7, "yesterday")));
    assert!(!local.has_stale_job(&assignment(3, 8, "today")), "another number");
    assert!(local.has_stale_job(&assignment(4, 7, "yesterday")), "another task");
    assert!(local.has_stale_job(&assignment(3, 7, "today")));

    local.release(RunId(7), &RunStatus::UnknownError).await.unwrap();
    assert!(!local.has_stale_job(&assignment(3, 7, "today")));
    assert!(!old.path().exists());
    assert_eq!(*seen.borrow(), RunState::Absent, "who looked at the old one sees that it is gone");
}

/// As of a server of 4.15.2, which says of all runs that they were assigned when it was started.
#[tokio::test]
async fn a_run_of_one_number_and_one_time_gets_nothing_of_another() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let first = assignment(27, 27, "when the server was started");
    let identity = sextant_core::run_identity::sample::identity("made later, of another image");
    let second = Assignment { identity, ..first.clone() };
    let folder = ended(&local, &first);
    fs::write(folder.path_of(OUTPUT), "for those who asked first").unwrap();
    assert_eq!(local.list_existing().await, [(TaskId(27), RunId(27))]);
    assert!(!local.has_stale_job(&first));
    assert!(local.has_stale_job(&second));
    let refused = local.launch(&second).await.unwrap_err();
    assert!(matches!(refused, LaunchError::Later(_)), "{refused}");
    assert_eq!(fs::read_to_string(folder.path_of(OUTPUT)).unwrap(), "for those who asked first");
    assert!(local.launch(&first).await.is_ok(), "to launch twice is harmless");

    local.release(RunId(27), &RunStatus::UnknownError).await.unwrap();
    assert!(!local.has_stale_job(&second) && !folder.exists());
}

#[tokio::test]
async fn a_folder_of_an_earlier_version_is_its_runs() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let folder = ended(&local, &assignment(3, 7, "yesterday"));
    let other = sextant_core::run_identity::sample::identity("of another image");
    let other = Assignment { identity: other, ..assignment(3, 7, "yesterday") };
    assert!(local.has_stale_job(&other));
    for said in [Some("yesterday"), None] {
        match said {
            Some(text) => fs::write(folder.path_of(ASSIGNED), text).unwrap(),
            None => fs::remove_file(folder.path_of(ASSIGNED)).unwrap(),
        }
        assert!(!local.has_stale_job(&assignment(3, 7, "yesterday")), "{said:?}");
        assert!(!local.has_stale_job(&other), "{said:?}");
        assert_eq!(local.has_stale_job(&assignment(3, 7, "today")), said.is_some(), "{said:?}");
    }
    for torn in ["yesterday\n", "yesterday\n00", "\n"] {
        fs::write(folder.path_of(ASSIGNED), torn).unwrap();
        assert!(local.has_stale_job(&assignment(3, 7, "yesterday")), "{torn:?}");
    }
}

#[tokio::test]
async fn nothing_stays_of_a_run_whose_input_is_refused() {
    for (error, forever) in
        [(InputSourceError::Refused("no base64".into()), true), (InputSourceError::Later("server away".into()), false)]
    {
        let place = tempfile::tempdir().unwrap();
        let local = local(&place, Err(error));
        let refused = local.launch(&assignment(3, 7, "today")).await.unwrap_err();
        assert_eq!(matches!(refused, LaunchError::Failed(_)), forever, "{refused}");
        assert!(Folder::all(&local.root).is_empty());
    }
}

#[tokio::test]
async fn what_a_launch_left_that_was_cut_off_is_removed() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let cut_off = Folder::new(&local.root, TaskId(3), RunId(7));
    cut_off.make(&assignment(3, 7, "today")).unwrap();
    assert_eq!(local.unreported(), []);
    assert!(cut_off.path().exists(), "a look leaves alone what may be on its way");
    fs::write(cut_off.path_of(INPUT), "half an inp").unwrap();
    ended(&local, &assignment(3, 8, "today"));
    assert_eq!(local.list_existing().await, [(TaskId(3), RunId(8))]);
    assert!(!cut_off.path().exists());
}

#[tokio::test]
async fn what_another_user_has_planted_is_not_believed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can make a folder that belongs to another user");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let planted = ended(&local, &assignment(3, 7, "today"));
    fs::write(planted.path_of(OUTPUT), "forged").unwrap();
    assert_eq!(planted.run_state(), RunState::Ended(Exit::with_code(0)));
    std::os::unix::fs::chown(planted.path(), Some(65534), None).unwrap();
    assert_eq!(planted.run_state(), RunState::Absent);
    assert!(planted.upload().problem.is_some());
    assert!(planted.read_log().is_err());
    assert!(local.has_stale_job(&assignment(3, 7, "today")));
    assert_eq!(local.list_existing().await, []);
    assert!(!planted.exists());
}

#[tokio::test]
async fn what_a_run_leaves_is_removed_whatever_it_is() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let folder = ended(&local, &assignment(3, 7, "today"));
    let mut here = folder.open().unwrap();
    for _ in 0..20_000 {
        here = here.make_subfolder("d").unwrap();
    }
    drop(here);
    rustix::fs::chmod(folder.path(), rustix::fs::Mode::empty()).unwrap();
    local.release(RunId(7), &RunStatus::Completed).await.unwrap();
    assert!(!folder.exists());
    for _ in 0..6000 {
        if fs::read_dir(local.root.path().join("removing")).unwrap().next().is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("it is still there after 5 min");
}

/// A run under way, with something else in the place of its supervisor.
async fn under_way(local: &Local, run: &Assignment) -> Folder {
    let folder = Folder::new(&local.root, run.task, run.run);
    folder.make(run).unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("600")
        .env(process::MARK, folder.path())
        .process_group(0)
        .spawn()
        .unwrap();
    folder::write_pid(&folder.open().unwrap(), child.id()).unwrap();
    std::thread::spawn(move || child.wait());
    local.list_existing().await;
    folder
}

async fn failure_of(seen: &mut watch::Receiver<RunState>) -> Failure {
    match &*seen.wait_for(|run_state| !matches!(run_state, RunState::Running { .. })).await.unwrap() {
        RunState::Failed(failure) => failure.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_run_whose_algorithm_removes_its_folder_ends_with_it() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let folder = under_way(&local, &assignment(3, 7, "today")).await;
    let mut seen = local.observe(RunId(7));
    fs::remove_dir_all(folder.path()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(matches!(*seen.borrow(), RunState::Running { .. }), "its supervisor lives");
    // It is also found to be stopped.
    let why = Failure::new(RunStatus::Killed, "killed", "killed");
    local.stop(RunId(7), &why).await.unwrap();
    let failure = failure_of(&mut seen).await;
    assert!(failure.message.contains("was removed") && failure.status == RunStatus::Crashed, "{failure:?}");
    local.release(RunId(7), &RunStatus::Crashed).await.unwrap();
    assert_eq!(*seen.borrow(), RunState::Absent);
}

#[tokio::test]
async fn what_a_run_was_stopped_for_outlives_the_node() {
    let place = tempfile::tempdir().unwrap();
    let text = "The run was killed at a user's request.";
    let folder = {
        let local = local(&place, Ok("input"));
        let folder = under_way(&local, &assignment(3, 7, "today")).await;
        let mut seen = local.observe(RunId(7));
        local.stop(RunId(7), &Failure::new(RunStatus::Killed, text, text).started(true)).await.unwrap();
        assert_eq!(failure_of(&mut seen).await.message, text);
        folder
    };
    // What its supervisor writes down of the signal.
    fs::write(folder.path_of(EXIT), "signal 15").unwrap();
    let local = local(&place, Ok("input"));
    assert_eq!(local.list_existing().await, [(TaskId(3), RunId(7))]);
    let failure = failure_of(&mut local.observe(RunId(7))).await;
    assert_eq!((failure.status, failure.message.as_str(), failure.started), (RunStatus::Killed, text, true));
}

#[tokio::test]
async fn any_word_of_an_end_can_be_read() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let folder = ended(&local, &assignment(3, 7, "today"));
    for (word, code) in [
        ("signal 9", Some(137)),
        ("signal 2147483647", Some(i32::MAX)),
        ("signal -2147483648", Some(128 + i32::MIN)),
        ("code 2147483647", Some(i32::MAX)),
        ("code -2147483648", Some(i32::MIN)),
        ("signal 2147483648", None),
        ("code", None),
        ("", None),
    ] {
        fs::write(folder.path_of(EXIT), word).unwrap();
        match (folder.run_state(), code) {
            (RunState::Ended(exit), Some(code)) => assert_eq!(exit.code, code, "{word}"),
            (RunState::Failed(_), None) => {}
            (other, _) => panic!("{word}: {other:?}"),
        }
    }
}

#[test]
fn what_an_algorithm_puts_beside_its_folder_holds_up_no_release() {
    let place = tempfile::tempdir().unwrap();
    let kept = place.path().join("kept");
    fs::create_dir(&kept).unwrap();
    for planted in ["file", "link", "pipe", "folder"] {
        let root = Dir::at(&place.path().join(planted), private::Missing::Create).unwrap().unwrap();
        let removing = root.path().join("removing");
        match planted {
            "file" => fs::write(&removing, "x").unwrap(),
            "link" => std::os::unix::fs::symlink(&kept, &removing).unwrap(),
            "pipe" => {
                rustix::fs::mknodat(rustix::fs::CWD, &removing, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
            }
            _ => fs::create_dir(&removing).unwrap(),
        }
        let folder = Folder::new(&Arc::new(root), TaskId(3), RunId(7));
        folder.make(&assignment(3, 7, "today")).unwrap();
        folder.put_aside().unwrap();
        assert!(!folder.exists(), "{planted}");
        assert_eq!(fs::read_dir(&removing).unwrap().count(), 1, "{planted}");
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 0, "{planted}");
    }
}

/// Also a file that has another name elsewhere.
#[tokio::test]
async fn what_lies_in_the_place_of_a_jobs_folder_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let run = assignment(3, 7, "today");
    let precious = place.path().join("precious");
    fs::write(&precious, "kept").unwrap();
    let shared = local.root.path().join(shared_folder(&run));
    fs::hard_link(&precious, &shared).unwrap();
    local.prepare(&run, &Folder::new(&local.root, run.task, run.run)).await.unwrap();
    assert!(shared.is_dir());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
}

#[tokio::test]
async fn a_run_is_described_where_the_owner_wants_it() {
    let place = tempfile::tempdir().unwrap();
    let mut local = local(&place, Ok("no JSON"));
    let run = Assignment { collaboration: Some(vantage6_types::CollaborationId(5)), ..assignment(3, 7, "today") };
    let folder = Folder::new(&local.root, run.task, run.run);
    assert!(!local.plan(&run, &folder).unwrap().environment.contains_key("RUN_CONTEXT_FILE"));

    local.config.run_context_file = true;
    let plan = local.plan(&run, &folder).unwrap();
    let path = folder.path_of(RUN_CONTEXT);
    assert_eq!(plan.environment["RUN_CONTEXT_FILE"], path.display().to_string(), "not encoded");
    let rest = plan.run_context;
    local.prepare(&run, &folder).await.unwrap();
    folder.describe(rest).await.unwrap();
    let text = fs::read_to_string(path).unwrap();
    assert!(text.starts_with(r#"{"schema_version": "0.1", "entrypoint": {"name": ""}, "#), "{text}");
    for part in [r#""executor":{"id":1,"#, r#""run_id":7,"task_id":3,"collaboration_id":5"#] {
        assert!(text.contains(part), "{text}");
    }
}
