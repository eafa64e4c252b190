//! Log lines while the server accepts no report: not one for each attempt.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;

/// Counts lines.
#[derive(Clone, Default)]
pub struct Lines(Arc<AtomicUsize>);

impl Lines {
    /// How many so far.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= &tracing::Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn each_run_has_a_few_lines_however_often_its_report_is_refused() {
    const RUNS: usize = 100;
    let lines = Lines::default();
    let _counting = tracing::subscriber::set_default(lines.clone());
    let node = Node::with(&["nobody"], None);
    node.hub.fail("finish", Fault::Status(503, false));
    for id in 100..100 + RUNS as u64 {
        node.hub.put(pending(id));
        node.registry.track(pending(id));
    }
    sleep(Duration::from_secs(3600)).await;
    assert!(node.count("finish 100") > 20);
    let told = lines.count();
    assert!((RUNS..4 * RUNS).contains(&told), "{told} lines");
    node.hub.heal("finish");
    assert_eq!(node.hub.reported(RunId(100)).await.status, RunStatus::NotAllowed);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_no_report_in_any_words_is_told_of_a_few_times() {
    const RUNS: usize = 20;
    for status in [400, 418] {
        let lines = Lines::default();
        let _counting = tracing::subscriber::set_default(lines.clone());
        let node = Node::with(&["nobody"], None);
        node.hub.fail("finish", Fault::Status(status, false));
        for id in 100..100 + RUNS as u64 {
            node.hub.put(pending(id));
            node.registry.track(pending(id));
        }
        sleep(Duration::from_secs(900)).await;
        let told = lines.count();
        assert!(told < 4 * RUNS, "{status}: {told} lines");
    }
}
