//! The local runtime as the node uses it, short of starting algorithms: the program of these tests is no `sextant`.

use std::fs;

use futures::StreamExt;
use secrecy::SecretString;
use sextant_config::RuntimeConfig;
use sextant_core::assignment::sample;
use sextant_core::runtime::InputStream;
use sextant_core::situation::Exit;
use tempfile::TempDir;
use vantage6_types::NodeId;

use super::folder::{ASSIGNED, EXIT};
use super::*;

/// What the node would say of an input; the token is always there.
struct Supplies(Result<&'static str, SupplyError>);

#[async_trait::async_trait]
impl Supplier for Supplies {
    async fn input(&self, _: RunId) -> Result<InputStream, SupplyError> {
        // As one that is found wrong in its middle.
        let rest = self.0.clone().map(|text| text.as_bytes().into());
        Ok(futures::stream::iter([Ok("begun, ".as_bytes().into()), rest]).boxed())
    }

    async fn token(&self, _: RunId) -> Result<SecretString, SupplyError> {
        Ok(SecretString::from("t"))
    }
}

fn local(place: &TempDir, input: Result<&'static str, SupplyError>) -> Local {
    let text = format!(
        "server_url: http://localhost\nport: 5000\napi_path: /api\napi_key: k\ntask_dir: {}\nlocal: {{algorithms: {{average: 'true'}}}}",
        place.path().display()
    );
    let config = Config::parse(&text, std::path::Path::new("/etc/node.yaml"), &|_| None).unwrap();
    let RuntimeConfig::Local(settings) = &config.runtime else { panic!() };
    let identity = Identity::new("s".into(), NodeId(1), &config.api_key);
    Local::start(&config, settings, &identity, Arc::new(Supplies(input)), &Health::default(), &Supervisor::default())
        .unwrap()
}

fn assignment(task: u64, run: u64, assigned_at: &str) -> Assignment {
    Assignment { image: "average".into(), ..sample::assignment(task, run, assigned_at) }
}

/// What an earlier process left of a run whose algorithm has ended.
fn ended(local: &Local, run: &Assignment) -> Folder {
    let folder = Folder::new(&local.root, run.task, run.run);
    folder.make(&run.assigned_at).unwrap();
    fs::write(folder.path_of(EXIT), "code 0").unwrap();
    folder
}

#[tokio::test]
async fn what_is_left_of_a_run_is_not_taken_for_that_of_another_with_its_number() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let old = ended(&local, &assignment(3, 7, "yesterday"));
    assert_eq!(local.leftovers().await, [(TaskId(3), RunId(7))]);
    let seen = local.observe(RunId(7));
    assert_eq!(*seen.borrow(), Situation::Ended(Exit::with_code(0)));

    assert!(!local.holds_another(&assignment(3, 7, "yesterday")));
    assert!(!local.holds_another(&assignment(3, 8, "today")), "another number");
    assert!(local.holds_another(&assignment(4, 7, "yesterday")), "another task");
    assert!(local.holds_another(&assignment(3, 7, "today")));

    local.release(RunId(7), &RunStatus::UnknownError).await.unwrap();
    assert!(!local.holds_another(&assignment(3, 7, "today")));
    assert!(!old.path().exists());
    assert_eq!(*seen.borrow(), Situation::Absent, "who looked at the old one sees that it is gone");
}

#[tokio::test]
async fn a_folder_of_an_earlier_version_is_its_runs() {
    let place = tempfile::tempdir().unwrap();
    let local = local(&place, Ok("input"));
    let folder = ended(&local, &assignment(3, 7, "yesterday"));
    fs::remove_file(folder.path_of(ASSIGNED)).unwrap();
    assert!(!local.holds_another(&assignment(3, 7, "yesterday")));
}

#[tokio::test]
async fn nothing_stays_of_a_run_whose_input_is_refused() {
    for (error, forever) in
        [(SupplyError::Refused("no base64".into()), true), (SupplyError::Later("server away".into()), false)]
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
    cut_off.make("today").unwrap();
    assert_eq!(local.unreported(), []);
    assert!(cut_off.path().exists(), "a look leaves alone what may be on its way");
    fs::write(cut_off.path_of(INPUT), "half an inp").unwrap();
    ended(&local, &assignment(3, 8, "today"));
    assert_eq!(local.leftovers().await, [(TaskId(3), RunId(8))]);
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
    assert_eq!(planted.situation(), Situation::Ended(Exit::with_code(0)));
    std::os::unix::fs::chown(planted.path(), Some(65534), None).unwrap();
    assert_eq!(planted.situation(), Situation::Absent);
    assert!(planted.upload().problem.is_some());
    assert!(planted.read_log().is_err());
    assert!(local.holds_another(&assignment(3, 7, "today")));
    assert_eq!(local.leftovers().await, []);
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
