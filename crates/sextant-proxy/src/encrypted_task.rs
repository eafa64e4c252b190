//! `POST task` in an encrypted collaboration: encrypts each organization's input before the task is sent.
//!
//! The length of the request must be known in advance, so the proxy first reads the whole task: its inputs into a [`Spool`], the rest into
//! memory. Then it sends the task once and encrypts it while it streams. Disk and memory are reserved from a [`Budget`], and a time limit
//! applies.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::StatusCode;
use http_body_util::BodyDataStream;
use tokio::time::{Duration, Instant, timeout_at};
use vantage6::BlobId;
use vantage6::encoding::{Base64Decoder, Encoded, Payload};
use vantage6::encryption::{PublicKey, encrypt_with_permit};
use vantage6::json::{Find, Part, Scan, Unescape};

use super::body::{IdleTimeoutBody, RequestBody};
use super::budget::{Budget, QuotaExceeded, Reservation};
use super::caller::Client;
use super::fair_queue::FairQueue;
use super::memory::Memory;
use super::pace;
use super::refusal::{Refusal, not_whole};
use super::spool::{Spool, SpoolError, Spooled};
use super::subtask::Subtask;

/// The largest task without its inputs, in bytes. No real task is larger.
const MAX_OUTLINE: usize = 256 * 1024;
/// The most inputs of a task.
const MAX_INPUTS: usize = 1_000;
/// The memory of an input besides its bytes: the recipient, its key, and the position in the text.
const MEMORY_PER_INPUT: u64 = 2 * 1024;
/// Each caller may hold a quarter of the memory for all tasks until they are sent, but at least this much.
const MIN_PER_CALLER: u64 = 4 * 1024 * 1024;

/// Budgets for tasks until they are sent, and for results until they are decrypted.
pub(crate) struct Quotas {
    disk: Arc<Budget>,
    memory: Arc<Budget>,
    pub results: Arc<Budget>,
}

impl Quotas {
    /// Divides this many bytes of disk, and this memory. One caller gets at most half of the disk. A sixteenth stays free for what the file
    /// system itself needs.
    pub fn new(disk: u64, memory: &Memory) -> Self {
        let disk = disk - disk / 16;
        Self {
            disk: Budget::new(disk, disk / 2),
            memory: Budget::new(memory.tasks, (memory.tasks / 4).max(MIN_PER_CALLER)),
            results: Budget::new(memory.results, memory.results / 4),
        }
    }

    /// Returns how many bytes of disk and of memory are reserved.
    #[cfg(test)]
    pub fn used(&self) -> (u64, u64) {
        (self.disk.used(), self.memory.used() + self.results.used())
    }
}

/// A complete task whose inputs can be encrypted.
pub(crate) struct Task {
    /// The JSON text without the inputs and their quotation marks.
    text: Vec<u8>,
    inputs: Vec<Input>,
    spooled: Spooled,
    memory: Reservation,
    /// The organization that each input is for.
    pub recipients: Vec<u64>,
}

struct Input {
    /// Its position in the text.
    at: usize,
    content: Content,
}

/// The content of an input.
enum Content {
    /// The decoded input's range in the spool.
    Bytes(Range<u64>),
    /// A blob in the server's blob store, which was encrypted when it was uploaded.
    Blob(BlobId),
}

impl Task {
    /// Reads a task of a caller with this image. It must arrive within this time; large tasks get more.
    ///
    /// # Errors
    /// If it can't be read or stored, if its inputs can't be encrypted, or if it has another image.
    pub async fn read(
        body: IdleTimeoutBody,
        within: Duration,
        quotas: &Quotas,
        client: Client,
        image: &str,
    ) -> Result<Self, Refusal> {
        let mut reading = TaskReader::new(quotas, client);
        let mut body = BodyDataStream::new(body);
        let end = Instant::now() + within;
        let slow = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "The task came too slowly.");
        loop {
            // Only stored bytes extend the time: an input may contain any amount of white space.
            let until = end + Duration::from_secs(reading.spool.length() / pace::BYTES_PER_SECOND);
            let piece = timeout_at(until, body.next()).await.map_err(|_| slow())?;
            let Some(piece) = piece else { return reading.finish(image) };
            // If data is always available, `timeout_at` never expires.
            if Instant::now() > until {
                return Err(slow());
            }
            reading.feed(&piece.map_err(not_whole)?).await?;
        }
    }

    /// Returns the inputs that are in the server's blob store.
    pub fn blobs(&self) -> Vec<&BlobId> {
        let blob = |input| match input {
            &Input { content: Content::Blob(ref blob), .. } => Some(blob),
            Input { content: Content::Bytes(_), .. } => None,
        };
        self.inputs.iter().filter_map(blob).collect()
    }

    /// Returns the task as it is sent to the server. The keys are those of its recipients, in the same order. Each key is used when its
    /// input is sent, and waits in the queue for that.
    ///
    /// # Errors
    /// If the cryptographic library fails, which is not expected.
    pub fn encrypted(self, keys: &[PublicKey], queue: &Arc<FairQueue>, client: Client) -> Result<RequestBody, Refusal> {
        let mut length = self.text.len() as u64;
        let mut pieces = Vec::new();
        let text = Bytes::from(self.text);
        let mut from = 0;
        for (input, key) in self.inputs.iter().zip(keys) {
            let message = match &input.content {
                Content::Bytes(Range { start, end }) => {
                    let payload = Payload::new(end - start, self.spooled.stream(*start, *end));
                    encrypt_with_permit(payload, key, queue.acquire(client)).map_err(|error| {
                        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The task's input could not be encrypted.")
                            .because(error)
                    })?
                }
                Content::Blob(blob) => Encoded::from(blob),
            };
            length += message.length() + 2;
            pieces.push((text.slice(from..input.at), Some(message)));
            from = input.at;
        }
        pieces.push((text.slice(from..), None));
        let memory = self.memory;
        let pieces = stream::iter(pieces).flat_map(move |(text, message)| {
            // The reservation is held until the last piece is sent.
            let _held = &memory;
            with_message(text, message)
        });
        let pieces = pieces.boxed();
        Ok(RequestBody::Generated { length: Some(length), pieces })
    }
}

fn with_message(text: Bytes, message: Option<Encoded>) -> stream::BoxStream<'static, io::Result<Bytes>> {
    let text = stream::iter([Ok(text)]);
    let mark = || stream::iter([Ok(Bytes::from_static(b"\""))]);
    match message {
        Some(message) => text.chain(mark()).chain(message.into_stream()).chain(mark()).boxed(),
        None => text.boxed(),
    }
}

/// Reads a task while it arrives.
pub(crate) struct TaskReader {
    scan: Scan,
    text: Vec<u8>,
    inputs: Vec<Input>,
    spool: Spool,
    memory: Reservation,
    open: Option<OpenInput>,
}

/// What the scan has found in one piece: beginnings, contents and ends of inputs.
enum Found {
    Begin,
    Bytes(Bytes),
    Blob(BlobId),
    End,
}

/// An input that is being read.
struct OpenInput {
    decoder: Base64Decoder,
    unescape: Unescape,
    /// The text so far, as long as it may be a blob id.
    begins: Option<Vec<u8>>,
}

impl OpenInput {
    fn new() -> Self {
        Self { decoder: Base64Decoder::default(), unescape: Unescape::default(), begins: Some(Vec::new()) }
    }

    fn feed(&mut self, text: &[u8]) -> Result<Bytes, String> {
        let plain = self.unescape.feed(text).ok_or_else(|| "it has characters that base64 has not".to_owned())?;
        match &mut self.begins {
            Some(begins) if begins.len() + plain.len() <= BlobId::LENGTH => {
                begins.extend_from_slice(&plain);
                Ok(Bytes::new())
            }
            begins => {
                let mut text = begins.take().unwrap_or_default();
                if text.is_empty() {
                    return self.decoder.feed(&plain);
                }
                text.extend_from_slice(&plain);
                self.decoder.feed(&text)
            }
        }
    }

    fn finish(mut self) -> Result<Found, String> {
        let text = self.begins.unwrap_or_default();
        if let Some(blob) = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()) {
            return Ok(Found::Blob(blob));
        }
        let bytes = self.decoder.feed(&text)?;
        self.decoder.finish()?;
        Ok(Found::Bytes(bytes))
    }
}

impl TaskReader {
    /// Starts to read a caller's task.
    pub fn new(quotas: &Quotas, client: Client) -> Self {
        let scan = Scan::new(Find::InListOf { list: "organizations", key: "input" });
        let (spool, memory) = (Spool::new(quotas.disk.reserve(client)), quotas.memory.reserve(client));
        Self { scan, text: Vec::new(), inputs: Vec::new(), spool, memory, open: None }
    }

    pub async fn feed(&mut self, piece: &Bytes) -> Result<(), Refusal> {
        let Self { scan, text, open, .. } = self;
        let (mut found, mut wrong) = (Vec::new(), None);
        let mut at = Vec::new();
        scan.feed(piece, &mut |part| match part {
            Part::Text(more) => text.extend_from_slice(more),
            Part::Begin => {
                *open = Some(OpenInput::new());
                at.push(text.len());
                found.push(Found::Begin);
            }
            Part::Value(more) => {
                if let Some(open) = open {
                    match open.feed(more) {
                        Ok(bytes) => found.push(Found::Bytes(bytes)),
                        Err(why) => wrong = wrong.take().or(Some(why)),
                    }
                }
            }
            Part::End => {
                match open.take().map(OpenInput::finish) {
                    Some(Ok(last)) => found.push(last),
                    Some(Err(why)) => wrong = wrong.take().or(Some(why)),
                    None => {}
                }
                found.push(Found::End);
            }
        });
        if let Some(why) = wrong {
            return Err(bad(format!("an organization's input is not base64: {why}")));
        }
        let inputs = self.inputs.len() + at.len();
        if self.text.len() > MAX_OUTLINE || inputs > MAX_INPUTS {
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "The task is too large, even without its inputs."));
        }
        let more: usize = found.iter().map(|found| if let Found::Bytes(bytes) = found { bytes.len() } else { 0 }).sum();
        let held = self.text.len() + more;
        self.memory
            .grow_to(held as u64 + self.spool.in_memory() + inputs as u64 * MEMORY_PER_INPUT)
            .map_err(too_many)?;
        let mut at = at.into_iter();
        for found in found {
            let here = self.spool.length();
            match found {
                Found::Begin => {
                    let at = at.next().unwrap_or_default();
                    self.inputs.push(Input { at, content: Content::Bytes(here..here) });
                }
                Found::Blob(blob) => {
                    if let Some(input) = self.inputs.last_mut() {
                        input.content = Content::Blob(blob);
                    }
                }
                Found::Bytes(bytes) => self.spool.push(&bytes).await.map_err(not_kept)?,
                Found::End => {
                    if let Some(Input { content: Content::Bytes(bytes), .. }) = self.inputs.last_mut() {
                        bytes.end = here;
                    }
                }
            }
        }
        Ok(())
    }

    /// Completes the task of a caller with this image.
    ///
    /// # Errors
    /// If its inputs can't be encrypted, or if it has another image.
    pub fn finish(self, image: &str) -> Result<Task, Refusal> {
        if !self.scan.is_whole() {
            return Err(bad("it ends in the middle"));
        }
        // Replaces each input by its number, so that a real JSON parser tells which organization it belongs to.
        let mut outline = Vec::with_capacity(self.text.len() + self.inputs.len() * 4);
        let mut from = 0;
        for (number, input) in self.inputs.iter().enumerate() {
            outline.extend_from_slice(&self.text[from..input.at]);
            outline.extend_from_slice(number.to_string().as_bytes());
            from = input.at;
        }
        outline.extend_from_slice(&self.text[from..]);
        let outline = Subtask::read(&outline).map_err(|why| bad(format!("it can't be read: {why}")))?;
        if outline.organizations.is_empty() {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "Organizations missing from input"));
        }
        let mut recipients = Vec::new();
        for organization in &outline.organizations {
            match (organization.id, organization.input) {
                (_, None) => {}
                (Some(id), Some(number)) if number.get() == recipients.len().to_string() => recipients.push(id),
                _ => return Err(bad("an organization needs an `id` that is a number and one `input` that is a text")),
            }
        }
        if recipients.len() != self.inputs.len() {
            return Err(bad("it has inputs of nobody"));
        }
        outline.has_image(image)?;
        Ok(Task { text: self.text, inputs: self.inputs, spooled: self.spool.finish(), memory: self.memory, recipients })
    }
}

fn bad(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, format!("The task's inputs can't be encrypted: {why}."))
}

fn not_kept(why: SpoolError) -> Refusal {
    match why {
        SpoolError::Full(QuotaExceeded::OverLimit(most)) => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The task's inputs are too large for this node's proxy, which keeps them until all have come: it has {most} bytes for an \
                 algorithm. The node's owner can give it more (kubernetes.proxy.tmp_size; with the chart, proxy.tmpSize)."
            ),
        ),
        SpoolError::Full(QuotaExceeded::InUse) => Refusal::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "This node's proxy has no room for the task's inputs: other tasks that are on their way have it. Try again later.",
        ),
        SpoolError::Io(error) => Refusal::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "The task's inputs are too large for this node's proxy, which keeps them until all have come.",
        )
        .because(format!("writing to a file in {} failed: {error}", std::env::temp_dir().display())),
    }
}

fn too_many(_: QuotaExceeded) -> Refusal {
    let message = "This node's proxy has too many tasks on their way to take another one. Try again later.";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// Returns an organization's key from the server's answer.
///
/// # Errors
/// If it has none, or one that can't be used.
pub(crate) fn key_of(organization: u64, answer: &[u8]) -> Result<PublicKey, Refusal> {
    let answer: vantage6::Organization = serde_json::from_slice(answer).map_err(|error| {
        let message = format!("The server's answer about organization {organization} can't be read.");
        Refusal::new(StatusCode::BAD_GATEWAY, message).because(error)
    })?;
    match vantage6::encryption::Recipient::organization(&answer) {
        Ok(vantage6::encryption::Recipient::Key(key)) => Ok(key),
        Ok(vantage6::encryption::Recipient::Plain) => Err(bad("the organization has no key")),
        Err(error) => Err(bad(error)),
    }
}
