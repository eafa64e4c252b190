//! Lists the open runs page by page. The list always ends, whatever the server sends: an endless list would fill the
//! reader's memory.

use std::collections::HashSet;

use futures_util::{Stream, stream};

use super::Client;
use super::runs::{Entries, OpenRuns, RunsPage, Tasks};
use crate::pages::Pages;
use crate::{Error, Run, RunId};

/// The most entries in one list.
const MAX_ENTRIES: usize = 100_000;
/// The most bytes of texts in one list: names, images, parameters.
const MAX_TEXT_BYTES: usize = 64 * 1024 * 1024;
/// After this many consecutive full pages without a new run, the list counts as circular. Fewer such pages can occur in a list
/// that changes while it is read (a new run shifts all others by one position).
const MAX_STALE_PAGES: u32 = 3;
/// How many entries of a list may be too large to be read.
const MAX_OVERSIZED: u32 = 100;

struct List {
    client: Client,
    which: OpenRuns,
    /// `None` after the last page.
    pages: Option<Pages>,
    page: Option<Entries>,
    /// Whether the page has had a new run.
    fresh: bool,
    known: HashSet<RunId>,
    entries: usize,
    texts: usize,
    stale: u32,
    oversized: u32,
}

/// Implements [`Client::open_runs`].
pub(super) fn open_runs(client: Client, which: OpenRuns) -> impl Stream<Item = Result<Run, Error>> + Send + use<> {
    let begin = List {
        client,
        which,
        pages: Some(Pages::new()),
        page: None,
        fresh: false,
        known: HashSet::new(),
        entries: 0,
        texts: 0,
        stale: 0,
        oversized: 0,
    };
    stream::unfold(begin, |mut list| async move { list.next().await.map(|run| (run, list)) })
}

impl List {
    async fn next(&mut self) -> Option<Result<Run, Error>> {
        loop {
            match self.page.as_mut().and_then(Iterator::next) {
                // A page's last run may be the next page's first.
                Some(Ok(run)) if !self.known.insert(run.id) => continue,
                Some(run) => {
                    self.fresh = true;
                    self.texts += run.as_ref().map_or(0, Run::weight);
                    return Some(run);
                }
                None => {}
            }
            // Drop this page, which makes room for the next one.
            if self.page.take().is_some() {
                self.stale = if self.fresh { 0 } else { self.stale + 1 };
            }
            let pages = self.pages.take()?;
            if let Some(what) = self.limit_reached() {
                return Some(Err(Error::EndlessList { request: "GET run".into(), what }));
            }
            match self.client.page_of_runs(self.which, pages, Tasks::Included).await {
                Ok(page) => self.add_page(page),
                // The page as a whole exceeds the limit for a response; that must not hide the rest of the list.
                Err(Error::TooLarge { limit, .. }) => {
                    self.pages = pages.smaller();
                    if self.pages.is_none() {
                        self.oversized += 1;
                        self.entries += 1;
                        self.pages = Some(pages.skip());
                        return Some(Err(self.oversized_run(pages, limit).await));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Identifies the oversized run at the beginning of these pages. Without its task the run is small enough to be read.
    async fn oversized_run(&self, pages: Pages, limit: u64) -> Error {
        let problem = format!("it has more than {limit} bytes, long texts not counted");
        match self.client.page_of_runs(self.which, pages, Tasks::LeftOut).await {
            Ok(page) => match page.entries.first_run() {
                Some((id, organization)) => Error::OversizedRun { id, organization, limit },
                None => Error::BrokenRun { id: None, problem },
            },
            Err(Error::TooLarge { .. }) => Error::BrokenRun { id: None, problem },
            Err(error) => error,
        }
    }

    fn add_page(&mut self, RunsPage { entries, next }: RunsPage) {
        self.entries += entries.len();
        self.page = Some(entries);
        self.fresh = false;
        self.pages = next;
    }

    /// Returns why no further page may be read.
    fn limit_reached(&self) -> Option<String> {
        if self.entries >= MAX_ENTRIES {
            return Some(format!("it has more than {MAX_ENTRIES} entries"));
        }
        if self.texts >= MAX_TEXT_BYTES {
            return Some(format!(
                "its names, images and parameters have more than {} MiB",
                MAX_TEXT_BYTES / 1024 / 1024
            ));
        }
        if self.oversized >= MAX_OVERSIZED {
            return Some(format!("more than {MAX_OVERSIZED} of its runs are too large to be read"));
        }
        (self.stale >= MAX_STALE_PAGES).then(|| format!("{MAX_STALE_PAGES} consecutive pages contained no new run"))
    }
}
