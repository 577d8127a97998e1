//! The outbox: incidents and what is still to be sent of them, on disk before anybody is told.
//!
//! One transaction holds the state of an incident and the messages that go out with it, so that neither is ever without
//! the other. One thread writes and commits in groups: what came while the disk was busy goes with the next sync. When
//! the disk does not work, messages are handed out from memory at once ([`Outcome::InMemory`]) and are written later;
//! nothing here ever keeps an alert from being sent.

mod backlog;
mod ballast;
mod engine;
mod file;
mod reader;
mod salvage;
mod sql;

#[cfg(test)]
mod compact_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use engine::{Engine, Op};
pub use reader::{DeadLetter, ReadError};

/// Version of the tables; a file of a newer one is left alone.
pub const SCHEMA_VERSION: u32 = file::MIGRATIONS.len() as u32;
/// Upper bounds of the buckets of [`StoreState::commit_secs`].
pub const COMMIT_SECS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Writes in one transaction.
const GROUP: usize = 256;
/// Writes that wait for the disk; beyond it nothing more is written, and rows are handed out from memory.
const QUEUE: usize = 50_000;

/// How the outbox is kept. The defaults are meant for production.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes that are set aside, to be freed when the disk is full.
    pub ballast_bytes: u64,
    /// Most bytes of the database and the ballast together; `None` for as many as the disk has.
    pub max_bytes: Option<u64>,
    /// Resolved incidents are kept for so long.
    pub keep_resolved: Duration,
    /// ... and so many of them.
    pub keep_resolved_rows: usize,
    /// Messages that could not be delivered are kept for so long.
    pub keep_dead: Duration,
    /// So many notes are kept.
    pub keep_notes_rows: usize,
    /// Rows held in memory while the disk does not work.
    pub memory_rows: usize,
    /// How often a disk that does not work is tried again.
    pub probe_every: Duration,
    /// Resolved incidents as young as this are loaded with the open ones.
    pub load_resolved: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            ballast_bytes: 64 << 20,
            max_bytes: None,
            keep_resolved: DAY * 30,
            keep_resolved_rows: 100_000,
            keep_dead: DAY * 30,
            keep_notes_rows: 100_000,
            memory_rows: 10_000,
            probe_every: Duration::from_secs(5),
            load_resolved: DAY,
        }
    }
}

/// A message to be sent to one receiver, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Name of the receiver.
    pub receiver: Arc<str>,
    /// Key of the incident; messages of one key are sent in the order of `incarnation` and `sequence`.
    pub key: String,
    /// Which occurrence; below 2^63.
    pub incarnation: u64,
    /// Which change of it; below 2^63.
    pub sequence: u64,
    /// `raised`, `updated`, `acknowledged`, `resolved` or `digest`.
    pub news: Arc<str>,
    /// What is sent.
    pub body: String,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name in this store, never used again; negative while it is in memory only.
    pub id: i64,
    /// The message.
    pub message: Outgoing,
    /// When it was decided.
    pub created: Timestamp,
    /// When it is tried next.
    pub due: Timestamp,
    /// Attempts that failed.
    pub attempts: u32,
    /// Whether the receiver may have it already.
    pub maybe_sent: bool,
}

/// Whether an incident goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It does.
    Open,
    /// It is resolved.
    Over,
}

/// The new state of an incident and what goes out with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Identity over occurrences.
    pub key: String,
    /// Which occurrence; below 2^63.
    pub incarnation: u64,
    /// Counts the changes of this occurrence, from 1; below 2^63.
    pub sequence: u64,
    /// Whether it goes on.
    pub phase: Phase,
    /// The incident, as JSON.
    pub doc: String,
    /// When it was decided.
    pub at: Timestamp,
    /// What is sent.
    pub outgoing: Vec<Outgoing>,
}

/// What became of a [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk.
    Durable,
    /// It is in memory; send it all the same. It is written as soon as the disk works again.
    InMemory,
    /// It, or a later change of the same occurrence, was there already; nothing goes out.
    Repeated,
    /// It would open an occurrence older than the newest of its key; refused.
    Stale,
}

/// Answer to [`Store::commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What is to be sent now.
    pub rows: Vec<Row>,
    /// What became of the change.
    pub outcome: Outcome,
}

/// How well something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is on disk.
    Durably,
    /// The disk does not work: it is in memory until it does.
    InMemory,
}

/// Tells when a write is done; may be dropped. It fails when the store was closed.
pub type Receipt = oneshot::Receiver<Kept>;

/// A commit under way.
#[derive(Debug)]
#[must_use = "its rows are sent by whoever waits for it"]
pub struct Commit {
    provisional: Vec<Row>,
    answer: oneshot::Receiver<Committed>,
}

impl Commit {
    /// Waits until it is on disk, or until it is known that the disk does not work.
    pub async fn done(self) -> Committed {
        let Self {
            provisional,
            answer,
        } = self;
        answer.await.unwrap_or_else(|_| in_memory(provisional))
    }

    /// As [`Commit::done`], but a disk that takes longer than `limit` is not waited for: the rows then have negative
    /// ids, which stay valid when they reach the disk after all.
    pub async fn within(mut self, limit: Duration) -> Committed {
        if let Ok(answer) = tokio::time::timeout(limit, &mut self.answer).await {
            return answer.unwrap_or_else(|_| in_memory(self.provisional));
        }
        // Closed first, so that either the answer is here or the writer knows that nobody took it.
        self.answer.close();
        let late = self.answer.try_recv();
        late.unwrap_or_else(|_| in_memory(self.provisional))
    }

    /// As [`Commit::done`], for threads that may wait.
    pub fn wait(self) -> Committed {
        let provisional = self.provisional;
        let answer = self.answer.blocking_recv();
        answer.unwrap_or_else(|_| in_memory(provisional))
    }
}

fn in_memory(rows: Vec<Row>) -> Committed {
    Committed {
        rows,
        outcome: Outcome::InMemory,
    }
}

/// An attempt that failed and will be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// When it is tried next.
    pub due: Timestamp,
    /// Attempts that failed so far.
    pub attempts: u32,
    /// Why; without secrets.
    pub error: String,
    /// Whether the receiver may have it, by this attempt or an earlier one.
    pub maybe_sent: bool,
}

/// Makes the message that names incidents by their documents.
pub type Digest = Box<dyn Fn(&[String]) -> Outgoing + Send>;

/// Answer to [`Store::compact`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Rows that are gone.
    pub removed: Vec<i64>,
    /// Incidents of which nothing is sent any more, oldest first.
    pub docs: Vec<String>,
    /// The message that names them instead, when there are any.
    pub digest: Option<Row>,
}

/// A file that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Where it lies.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// An incident as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Identity over occurrences.
    pub key: String,
    /// Which occurrence.
    pub incarnation: u64,
    /// Its last change.
    pub sequence: u64,
    /// Whether it goes on.
    pub phase: Phase,
    /// When it last changed.
    pub at: Timestamp,
    /// The incident, as JSON.
    pub doc: String,
}

/// What was there at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Open incidents and those resolved lately ([`Settings::load_resolved`]), oldest change first.
    pub incidents: Vec<Stored>,
    /// Messages to be sent, in order. Those of a file that can only be read are here too.
    pub waiting: Vec<Row>,
    /// Mutes.
    pub mutes: Vec<String>,
    /// A file that could not be used: a damaged one was renamed, a newer one left alone.
    pub aside: Option<Aside>,
    /// Why nothing is durable, when nothing is.
    pub degraded: Option<String>,
}

/// Counters and gauges; at most a second old.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreState {
    /// Why nothing is durable at the moment.
    pub degraded: Option<String>,
    /// Times that it became so.
    pub degradations: u64,
    /// Transactions.
    pub commits: u64,
    /// Changes of incidents that are on disk.
    pub changes: u64,
    /// Changes refused because a newer occurrence is known.
    pub stale: u64,
    /// Changes that were there already.
    pub repeated: u64,
    /// Writes that were dropped: the queue or the memory was full, or the database refused them.
    pub dropped: u64,
    /// Durations of transactions: one count for each of [`COMMIT_SECS`], and one for those above. Not cumulative.
    pub commit_secs: [u64; COMMIT_SECS.len() + 1],
    /// Their sum, s.
    pub commit_secs_sum: f64,
    /// Messages that wait, by receiver; those in memory included.
    pub waiting: BTreeMap<String, usize>,
    /// Messages that wait and are in memory only.
    pub in_memory_rows: usize,
    /// Messages that were given up.
    pub dead: usize,
    /// Size of the database and its log, bytes.
    pub size_bytes: u64,
    /// Whether the ballast is there.
    pub ballast: bool,
    /// The last file that could not be used.
    pub aside: Option<Aside>,
}

/// What the writer shows to others.
#[derive(Debug, Default)]
struct Shown {
    state: Mutex<StoreState>,
    /// The file in use; the number changes with it, even when the name does not.
    file: Mutex<(u64, Option<PathBuf>)>,
    /// What the file held, when it could not be read at the start.
    late: Mutex<Option<Loaded>>,
    /// Writes that wait.
    queued: AtomicUsize,
    /// Writes that were dropped before the writer saw them.
    dropped: AtomicUsize,
    /// Names for rows in memory, counted down.
    next_id: AtomicI64,
}

/// The outbox. Share it by `Arc`; its methods never wait, except for reads and [`Store::close`].
#[derive(Debug)]
pub struct Store {
    ops: Option<mpsc::Sender<Op>>,
    shown: Arc<Shown>,
    reader: reader::Reader,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens or makes the outbox in a folder. Never fails: when the folder cannot be used, everything is in memory until
    /// it can, and [`Loaded::degraded`] says why. Reads and checks the whole file, so it may take a second.
    pub fn open(folder: &Path, settings: Settings) -> (Self, Loaded) {
        let shown = Arc::new(Shown::default());
        let (engine, mut loaded) =
            Engine::open(folder, settings, Arc::clone(&shown), Timestamp::now());
        let (ops, taken) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("outbox".to_owned())
            .spawn(move || engine.run(&taken));
        let (ops, writer) = match writer {
            Ok(writer) => (Some(ops), Some(writer)),
            Err(error) => {
                let why = format!("no thread for the outbox: {error}");
                shown.lock().degraded = Some(why.clone());
                loaded.degraded = Some(why);
                (None, None)
            }
        };
        let reader = reader::Reader::new(Arc::clone(&shown));
        let store = Self {
            ops,
            shown,
            reader,
            writer,
        };
        (store, loaded)
    }

    /// Stores a change and the messages that go out with it, as one.
    pub fn commit(&self, change: Change) -> Commit {
        let provisional = change.outgoing.iter().map(|message| Row {
            id: self.shown.next_id.fetch_sub(1, Ordering::Relaxed) - 1,
            message: message.clone(),
            created: change.at,
            due: change.at,
            attempts: 0,
            maybe_sent: false,
        });
        let provisional: Vec<Row> = provisional.collect();
        let ids = provisional.iter().map(|row| row.id).collect();
        let (reply, answer) = oneshot::channel();
        self.push(Op::Commit { change, ids, reply });
        Commit {
            provisional,
            answer,
        }
    }

    /// The message is about to be sent for the first time. Who is far behind should wait for the receipt before sending:
    /// then no crash makes [`Store::compact`] believe that nobody was told.
    pub fn sending(&self, id: i64) -> Receipt {
        let (reply, receipt) = oneshot::channel();
        self.push(Op::Sending { id, reply });
        receipt
    }

    /// The receiver has it: the row goes.
    pub fn delivered(&self, id: i64) {
        self.push(Op::Gone { ids: vec![id] });
    }

    /// These are not sent any more: the rows go.
    pub fn superseded(&self, ids: Vec<i64>) {
        self.push(Op::Gone { ids });
    }

    /// An attempt failed and will be repeated.
    pub fn tried(&self, id: i64, tried: Tried) {
        self.push(Op::Tried { id, tried });
    }

    /// It is given up, for a reason without secrets; it stays in [`Store::dead_letters`].
    pub fn dead(&self, id: i64, error: String) {
        self.push(Op::Dead { id, error });
    }

    /// For a receiver that is far behind. Incidents that came and went without a word to it are taken out and named by one
    /// message that `digest` makes; updates that a later one or the end makes needless go. Rows in `busy` are being sent
    /// and stay. The removal and the new message are one transaction. `None` when nothing was done.
    pub fn compact(
        &self,
        receiver: Arc<str>,
        busy: Vec<i64>,
        digest: Digest,
    ) -> oneshot::Receiver<Option<Compacted>> {
        let (reply, answer) = oneshot::channel();
        self.push(Op::Compact {
            receiver,
            busy,
            digest,
            reply,
        });
        answer
    }

    /// Stores a mute, or replaces the one of that id.
    pub fn put_mute(&self, id: String, doc: String) -> Receipt {
        self.mute(id, Some(doc))
    }

    /// Forgets a mute.
    pub fn remove_mute(&self, id: String) -> Receipt {
        self.mute(id, None)
    }

    fn mute(&self, id: String, doc: Option<String>) -> Receipt {
        let (reply, receipt) = oneshot::channel();
        self.push(Op::Mute { id, doc, reply });
        receipt
    }

    /// Stores a note (an audit line, feedback), or replaces the one of that kind and id.
    pub fn put_note(&self, kind: &'static str, id: String, doc: String, at: Timestamp) -> Receipt {
        let (reply, receipt) = oneshot::channel();
        let note = sql::Note {
            kind: kind.to_owned(),
            id,
            doc,
            at,
        };
        self.push(Op::Note { note, reply });
        receipt
    }

    /// Done when all that was handed over before is written, and [`Store::state`] knows of it.
    pub fn flush(&self) -> Receipt {
        let (reply, receipt) = oneshot::channel();
        self.push(Op::Flush { reply });
        receipt
    }

    /// What the file held, once, when it could not even be read at the start and now it can. Ask for it while
    /// [`Loaded::degraded`] was set at the start.
    pub fn late(&self) -> Option<Loaded> {
        self.shown.late().take()
    }

    /// Counters and gauges.
    pub fn state(&self) -> StoreState {
        let mut state = self.shown.lock().clone();
        state.dropped += self.shown.dropped.load(Ordering::Relaxed) as u64;
        state
    }

    /// Mutes on disk. Reads the file: not for async threads.
    pub fn mutes(&self) -> Result<Vec<String>, ReadError> {
        self.reader.mutes()
    }

    /// Notes of a kind, newest first. Reads the file: not for async threads.
    pub fn notes(&self, kind: &str, limit: usize) -> Result<Vec<String>, ReadError> {
        self.reader.notes(kind, limit)
    }

    /// Messages that were given up, newest first. Reads the file: not for async threads.
    pub fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        self.reader.dead_letters(limit)
    }

    /// Incidents that last changed before a time, newest first. Reads the file: not for async threads.
    pub fn incidents(
        &self,
        limit: usize,
        before: Option<Timestamp>,
    ) -> Result<Vec<Stored>, ReadError> {
        self.reader.incidents(limit, before)
    }

    /// Writes what waits and closes the file. Waits for the disk: give it a thread of its own and a deadline. A store
    /// that is only dropped does the same behind the caller's back.
    pub fn close(mut self) {
        self.ops = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the outbox ended by a panic");
        }
    }

    /// What cannot be handed over is dropped with its reply, which tells the caller.
    fn push(&self, op: Op) {
        let queued = self.shown.queued.fetch_add(1, Ordering::Relaxed);
        let sent = match &self.ops {
            Some(ops) if queued < QUEUE => ops.send(op).is_ok(),
            _ => false,
        };
        if !sent {
            self.shown.queued.fetch_sub(1, Ordering::Relaxed);
            self.shown.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shown {
    fn lock(&self) -> std::sync::MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn late(&self) -> std::sync::MutexGuard<'_, Option<Loaded>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> std::sync::MutexGuard<'_, (u64, Option<PathBuf>)> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
