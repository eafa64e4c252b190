//! The client's requests about runs: list them, read their inputs, report their status, and finish them.

use std::{
    collections::VecDeque,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{json, value::RawValue};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{Client, list};
use crate::{
    Error, OrganizationId, Run, RunId, RunReport, RunStatus, TaskId,
    http::{Answer, Call},
    input_filter::{InputFilter, Scope},
    json::Unescape,
    long_strings::LongStrings,
    pages::{Page, Pages},
    read, time,
};

/// The largest page in bytes, without inputs. A larger one is requested in smaller parts.
const MAX_PAGE: u64 = 8 * 1024 * 1024;
/// The most bytes of a response besides an input. They are only checked to be JSON.
const BESIDE_INPUT: u64 = 1024 * 1024;
/// How many bytes of each string besides the input are kept.
const STRING_BESIDE_INPUT: usize = 1024;

/// Whether runs are listed with the fields of their tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tasks {
    Included,
    LeftOut,
}

/// A page of runs.
pub(super) struct RunsPage {
    pub entries: Entries,
    /// The next page, if there is one.
    pub next: Option<Pages>,
}

/// The runs of a page as text. Each is parsed only when it is needed, because a parsed run may be larger than its text.
pub(crate) struct Entries {
    json: Bytes,
    left: VecDeque<Range<usize>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Entries {
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// Returns the id and organization of the first run, which may have been listed without its task.
    pub fn first_run(&self) -> Option<(RunId, OrganizationId)> {
        #[derive(Deserialize)]
        struct Listed {
            id: RunId,
            #[serde(deserialize_with = "read::reference")]
            organization: OrganizationId,
        }
        let text = self.json.get(self.left.front()?.clone())?;
        serde_json::from_slice(text).ok().map(|Listed { id, organization }| (id, organization))
    }
}

impl Iterator for Entries {
    type Item = Result<Run, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.left.pop_front()?;
        let text = self.json.get(entry).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        // Callers may keep thousands of runs and do not need their logs.
        Some(Run::parse(text).map(|run| Run { log: None, ..run }))
    }
}

/// Which runs to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenRuns {
    /// Only the runs of one task.
    pub task: Option<TaskId>,
    /// Include inputs of up to this many characters. The server always sends the inputs; longer ones are dropped while they
    /// arrive.
    pub inputs_up_to: usize,
}

/// A run's input as it arrives, still encoded; see [`crate::encoding::decode`].
pub struct InputText(Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>);

impl Stream for InputText {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

fn patch(id: RunId) -> Call {
    Call::patch(format!("run/{id}"))
}

impl Client {
    /// Lists all runs of this node that have not ended, newest first, including those that it has already started.
    ///
    /// A run that can't be parsed is an [`Error::BrokenRun`] in its place, and one that is too large an [`Error::OversizedRun`]; the
    /// list goes on after both. Every other error ends the list, including [`Error::EndlessList`]; the runs before it are valid. Each
    /// run appears once. A run may be missing if others end while the list is read (the server counts its pages anew each
    /// time); the next list will have it.
    pub fn open_runs(&self, which: OpenRuns) -> impl Stream<Item = Result<Run, Error>> + Send + use<> {
        list::open_runs(self.clone(), which)
    }

    pub(super) async fn page_of_runs(&self, which: OpenRuns, pages: Pages, tasks: Tasks) -> Result<RunsPage, Error> {
        let (page, per_page) = pages.request();
        let mut call = Call::get("run").query("state", "open").query("node_id", self.node_id().await?);
        if tasks == Tasks::Included {
            call = call.query("include", "task");
        }
        if let Some(task) = which.task {
            call = call.query("task_id", task);
        }
        call = call.query("page", page).query("per_page", per_page);
        let limit = self.inner.transport.limit.min(MAX_PAGE);
        let mut tries = self.inner.backoff.begin();
        loop {
            let began = Instant::now();
            let page = async { read_page(&mut self.send_authenticated(&call).await?, which.inputs_up_to, limit).await };
            match page.await {
                Ok((entries, bytes, has_next)) => {
                    // A page that is not full is the last one, whatever its links say.
                    let next =
                        (has_next && entries.len() as u64 >= per_page).then(|| pages.after(bytes, began.elapsed()));
                    return Ok(RunsPage { entries, next });
                }
                Err(error) => tries.wait_or_fail(error).await?,
            }
        }
    }

    /// Returns one run, without its input.
    pub async fn run(&self, id: RunId) -> Result<Run, Error> {
        let call = Call::get(format!("run/{id}")).query("include", "task");
        let mut tries = self.inner.backoff.begin();
        loop {
            let run = async { read_run(&mut self.send_authenticated(&call).await?, self.inner.transport.limit).await };
            match run.await {
                Ok(run) => return Ok(run),
                Err(error) => tries.wait_or_fail(error).await?,
            }
        }
    }

    /// Streams the input of a run, of any size. Empty if the run has none. An error after the beginning of the stream is not
    /// retried here.
    pub async fn input(&self, id: RunId) -> Result<InputText, Error> {
        let call = Call::get(format!("run/{id}"));
        let mut tries = self.inner.backoff.begin();
        let answer = loop {
            match self.send_authenticated(&call).await {
                Ok(answer) => break answer,
                Err(error) => tries.wait_or_fail(error).await?,
            }
        };
        Ok(InputText(Box::pin(input_text(answer, self.inner.transport.limit.min(BESIDE_INPUT)))))
    }

    /// Reports a run's status, and with the first status also when this node started it. (This also clears the run's log and
    /// result on the server: `Run.patch` resets all fields that a request omits.)
    pub async fn set_status(&self, id: RunId, status: &RunStatus, started_at: Option<Timestamp>) -> Result<(), Error> {
        let mut change = json!({"status": status.as_str()});
        if let Some(started_at) = started_at {
            change["started_at"] = time::to_server(started_at).into();
        }
        self.change(id, patch(id).json(&change)).await
    }

    /// Reports when this node started a run, and leaves its status as it is.
    pub async fn set_started(&self, id: RunId, at: Timestamp) -> Result<(), Error> {
        self.change(id, patch(id).json(&json!({"started_at": time::to_server(at)}))).await
    }

    /// Replaces the log of a run that has not ended, and leaves its status as it is: the server may know of a kill by now.
    pub async fn set_log(&self, id: RunId, log: &str) -> Result<(), Error> {
        self.change(id, patch(id).json(&json!({"log": log.replace('\0', "\u{fffd}")}))).await
    }

    async fn change(&self, id: RunId, call: Call) -> Result<(), Error> {
        let mut tries = self.inner.backoff.begin();
        loop {
            let changed = async { self.acknowledged(id, &mut self.send_authenticated(&call).await?).await };
            match changed.await {
                Ok(_) => return Ok(()),
                Err(error) => tries.wait_or_fail(error).await?,
            }
        }
    }

    /// Finishes a run: sends result, log, status and time in one streamed request.
    ///
    /// The request is sent once, because the stream is used up. After an error, [`Error::delivery`] says whether the server may
    /// have received it anyway. If so, read the run with [`Client::run`]: its `finished_at` equals this report's if the report took
    /// effect. `Ok` means that the server has confirmed it.
    pub async fn finish_run(&self, id: RunId, report: RunReport) -> Result<(), Error> {
        let mut answer = self.send_once(&patch(id), report.into_body()).await?;
        if !self.acknowledged(id, &mut answer).await? {
            return Err(answer.unreadable(b"", "the run has no finished_at afterwards"));
        }
        Ok(())
    }

    /// Parses the response to a change of a run, which is the run. Returns whether the run has ended.
    async fn acknowledged(&self, id: RunId, answer: &mut Answer) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Changed {
            id: RunId,
            #[serde(default)]
            finished_at: Option<IgnoredAny>,
        }
        let (json, _) = without_inputs(answer, Scope::Outermost, 0, self.inner.transport.limit).await?;
        let changed: Changed = answer.parse(&json)?;
        if changed.id != id {
            return Err(answer.unreadable(&json, format!("it is about run {}", changed.id)));
        }
        Ok(changed.finished_at.is_some())
    }
}

/// Reads one page: its runs, its size on the wire, and whether there is another page.
pub(crate) async fn read_page(answer: &mut Answer, keep: usize, limit: u64) -> Result<(Entries, u64, bool), Error> {
    let (json, bytes) = without_inputs(answer, Scope::All, keep, limit).await?;
    let page: Page<'_> = answer.parse(&json)?;
    let begin = json.as_ptr() as usize;
    let place = |run: &&RawValue| {
        let from = run.get().as_ptr() as usize - begin;
        from..from + run.get().len()
    };
    let (left, has_next) = (page.data.iter().map(place).collect(), page.has_next());
    Ok((Entries { json, left, _room: answer.take_room() }, bytes, has_next))
}

/// Reads one run, without its input.
pub(crate) async fn read_run(answer: &mut Answer, limit: u64) -> Result<Run, Error> {
    let (json, _) = without_inputs(answer, Scope::Outermost, 0, limit).await?;
    let json = std::str::from_utf8(&json).map_err(|error| answer.unreadable(&json, error))?;
    Run::parse(json).map_err(|error| match error {
        Error::BrokenRun { id: None, problem } => answer.unreadable(json.as_bytes(), problem),
        other => other,
    })
}

/// Reads a response without its inputs. Also returns its size on the wire.
async fn without_inputs(answer: &mut Answer, of: Scope, keep: usize, limit: u64) -> Result<(Bytes, u64), Error> {
    let (mut filter, mut dropped) = (InputFilter::new(of, keep), BytesMut::new());
    // Nobody reads the logs in a list.
    let mut logs = (of == Scope::All).then(|| (InputFilter::of_logs(), BytesMut::new()));
    answer
        .filtered(limit, |chunk, kept| {
            match &mut logs {
                Some((logs, without_inputs)) => {
                    filter.feed(chunk, without_inputs, &mut dropped);
                    logs.feed(&without_inputs.split(), kept, &mut dropped);
                }
                None => filter.feed(chunk, kept, &mut dropped),
            }
            dropped.clear();
        })
        .await
}

/// Streams the input from a response about one run.
pub(crate) fn input_text(answer: Answer, limit: u64) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    struct State {
        answer: Answer,
        limit: u64,
        filter: InputFilter,
        unescape: Unescape,
        beside: LongStrings,
        rest: BytesMut,
        ended: bool,
    }
    impl State {
        /// Returns the next piece; `None` at the end of a valid response.
        async fn next(&mut self) -> Result<Option<Bytes>, Error> {
            let (mut input, mut beside) = (BytesMut::new(), BytesMut::new());
            while let Some(chunk) = self.answer.chunk().await? {
                self.filter.feed(&chunk, &mut beside, &mut input);
                self.beside.feed(&beside.split(), &mut self.rest);
                if self.rest.len() as u64 > self.limit {
                    return Err(self.answer.unreadable(
                        &self.rest,
                        format!("there are more than {} bytes besides the input", self.limit),
                    ));
                }
                if input.is_empty() {
                    continue;
                }
                let Some(text) = self.unescape.feed(&input) else {
                    return Err(self.answer.bad_input("the input holds characters that no encoded input has"));
                };
                if !text.is_empty() {
                    return Ok(Some(text.freeze()));
                }
            }
            self.ended = true;
            self.answer.parse::<serde::de::IgnoredAny>(&self.rest)?;
            if self.filter.is_whole() {
                Ok(None)
            } else {
                Err(self.answer.unreadable(&self.rest, "it ends in the middle"))
            }
        }
    }
    let filter = InputFilter::new(Scope::Outermost, 0);
    let begin = State {
        answer,
        limit,
        filter,
        unescape: Unescape::default(),
        beside: LongStrings::new(STRING_BESIDE_INPUT),
        rest: BytesMut::new(),
        ended: false,
    };
    stream::unfold(begin, |mut state| async move {
        if state.ended {
            return None;
        }
        let next = state.next().await;
        state.ended |= next.is_err();
        next.transpose().map(|piece| (piece, state))
    })
}
