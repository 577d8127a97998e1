//! Still sets on disk: one writer thread, a bounded queue, a quota.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use detectors::base::Exhibit;
use serde_json::json;

use super::render::{RenderError, jpeg};
use crate::alert::Defect;
use crate::ingest::PictureBuffer;

/// Sets waiting for the writer, at most. They hold decoder buffers that their lanes mostly hold anyway.
pub(super) const QUEUE: usize = 64;
/// Directory below the data directory.
const ROOT: &str = "evidence";

/// What is written about one defect.
pub(super) struct Job {
    pub(super) defect: Defect,
    pub(super) good: Option<Arc<PictureBuffer>>,
    pub(super) bad: Option<Arc<PictureBuffer>>,
    pub(super) exhibit: Option<Exhibit>,
}

enum Order {
    Write(Box<Job>),
    /// Everything before it is done: say so.
    Report(SyncSender<()>),
}

/// Counters of the evidence store, totals since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sets written.
    pub written: u64,
    /// Sets dropped because the writer was behind.
    pub dropped: u64,
    /// Sets that could not be written (disk full, read-only, larger than the quota), or pictures that could not
    /// be drawn.
    pub failed: u64,
    /// Sets removed to stay within the quota.
    pub evicted: u64,
    /// Bytes on disk now.
    pub bytes: u64,
}

/// One set on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillSet {
    /// Directory, relative to the data directory.
    pub dir: PathBuf,
    /// File names in it, sorted.
    pub files: Vec<String>,
}

/// The evidence store. Dropping it lets the writer finish its queue and end.
pub struct Stills {
    data_dir: PathBuf,
    orders: SyncSender<Order>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    evicted: AtomicU64,
    bytes: AtomicU64,
}

/// Where a defect's stills are, relative to the data directory; known before they are written, and the same for
/// every transition of the defect.
pub fn relative_dir(defect: &Defect) -> PathBuf {
    let started_ms = defect
        .id
        .rsplit('-')
        .next()
        .and_then(|stamp| i64::from_str_radix(stamp, 16).ok())
        .unwrap_or(0);
    let started = jiff::Timestamp::from_millisecond(started_ms)
        .unwrap_or_default()
        .strftime("%Y%m%dT%H%M%S%3fZ");
    let name = format!("{started}_{}_{}", safe(defect.detector), safe(&defect.id));
    PathBuf::from(ROOT).join(safe(&defect.stream)).join(name)
}

/// A file name of letters, digits, `-` and `_` only, not empty, of bounded length.
fn safe(text: &str) -> String {
    let name: String = text
        .chars()
        .take(96)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c,
            _ => '_',
        })
        .collect();
    if name.is_empty() {
        "_".to_owned()
    } else {
        name
    }
}

impl Stills {
    /// Opens the store below `data_dir` (created when missing) and starts its writer. Never fails: what cannot be
    /// written later is counted and logged once.
    pub fn open(data_dir: &Path, quota_bytes: u64) -> Arc<Self> {
        let (orders, inbox) = sync_channel(QUEUE);
        let tally = Arc::new(Tally::default());
        let writer = Writer {
            data_dir: data_dir.to_owned(),
            quota_bytes,
            sets: VecDeque::new(),
            tally: Arc::clone(&tally),
            complained: AtomicBool::new(false),
        };
        let started = std::thread::Builder::new()
            .name("evidence".to_owned())
            .spawn(move || writer.run(&inbox));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for evidence: no stills are kept");
        }
        Arc::new(Self {
            data_dir: data_dir.to_owned(),
            orders,
            tally,
        })
    }

    /// A store whose writer never comes; with what would reach it.
    #[cfg(test)]
    pub(super) fn unattended() -> (Arc<Self>, impl Sized) {
        let (orders, inbox) = sync_channel(QUEUE);
        let stills = Self {
            data_dir: PathBuf::new(),
            orders,
            tally: Arc::default(),
        };
        (Arc::new(stills), inbox)
    }

    /// Hands a set to the writer; never waits.
    pub(super) fn submit(&self, job: Job) {
        match self.orders.try_send(Order::Write(Box::new(job))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.tally.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until everything submitted so far is written; `false` when `timeout` passed first. Blocks: for the
    /// end of a run.
    pub fn flush(&self, timeout: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        self.orders.send(Order::Report(done)).is_ok() && wait.recv_timeout(timeout).is_ok()
    }

    /// Counters.
    pub fn counts(&self) -> Counts {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Counts {
            written: get(&self.tally.written),
            dropped: get(&self.tally.dropped),
            failed: get(&self.tally.failed),
            evicted: get(&self.tally.evicted),
            bytes: get(&self.tally.bytes),
        }
    }

    /// All sets of a stream, oldest first. Reads the disk: not for media threads.
    pub fn list(&self, stream: &str) -> Vec<StillSet> {
        let below = PathBuf::from(ROOT).join(safe(stream));
        let mut sets: Vec<StillSet> = names(&self.data_dir.join(&below))
            .into_iter()
            .filter(|name| !name.starts_with('.'))
            .map(|name| {
                let dir = below.join(name);
                StillSet {
                    files: names(&self.data_dir.join(&dir)),
                    dir,
                }
            })
            .collect();
        sets.sort_by(|a, b| a.dir.cmp(&b.dir));
        sets
    }
}

/// Names in a directory, sorted; none when it cannot be read.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Why a set was not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    /// The disk's fault; the next set may succeed.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The quota's fault.
    #[error("the set is larger than the whole evidence quota")]
    OverQuota,
}

struct Writer {
    data_dir: PathBuf,
    quota_bytes: u64,
    /// Sets on disk with their size, oldest first.
    sets: VecDeque<(PathBuf, u64)>,
    tally: Arc<Tally>,
    complained: AtomicBool,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Order>) {
        self.take_stock();
        while let Ok(order) = inbox.recv() {
            match order {
                Order::Write(job) => match self.write(&job) {
                    Ok(()) => {
                        self.tally.written.fetch_add(1, Ordering::Relaxed);
                        self.complained.store(false, Ordering::Relaxed);
                    }
                    Err(error) => self.complain(&error),
                },
                Order::Report(done) => {
                    let _ = done.try_send(());
                }
            }
        }
    }

    /// Finds what earlier runs left, and clears away what they left half done.
    fn take_stock(&mut self) {
        let root = self.data_dir.join(ROOT);
        let mut found: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for stream in names(&root) {
            for name in names(&root.join(&stream)) {
                let dir = root.join(&stream).join(&name);
                if name.starts_with('.') {
                    let _ = fs::remove_dir_all(&dir);
                } else if let Ok(meta) = fs::metadata(&dir) {
                    let at = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    let size = size_of(&dir);
                    found.push((at, dir, size));
                }
            }
        }
        found.sort();
        self.sets = found
            .into_iter()
            .map(|(_, dir, size)| (dir, size))
            .collect();
        let total = self.sets.iter().map(|(_, size)| size).sum();
        self.tally.bytes.store(total, Ordering::Relaxed);
        self.make_room(0);
    }

    /// Removes the oldest sets until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) {
        while self
            .tally
            .bytes
            .load(Ordering::Relaxed)
            .saturating_add(bytes)
            > self.quota_bytes
        {
            let Some((dir, size)) = self.sets.pop_front() else {
                return;
            };
            if let Err(error) = fs::remove_dir_all(&dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                // It still takes its room; try again with the next set, behind the others.
                self.sets.push_back((dir, size));
                self.complain(&WriteError::Disk(error));
                return;
            }
            self.tally.bytes.fetch_sub(size, Ordering::Relaxed);
            self.tally.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&mut self, job: &Job) -> Result<(), WriteError> {
        let mut files = vec![("defect.json", describe(&job.defect).into_bytes())];
        let stills = [
            ("last_good.jpg", &job.good, None),
            ("first_bad.jpg", &job.bad, job.exhibit.as_ref()),
        ];
        for (name, picture, exhibit) in stills {
            let Some(picture) = picture else { continue };
            match jpeg(picture, exhibit) {
                Ok(bytes) => files.push((name, bytes)),
                // The numbers are worth writing without the picture.
                Err(error) => self.cannot_draw(error),
            }
        }
        let size: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        if size > self.quota_bytes {
            return Err(WriteError::OverQuota);
        }
        let dir = self.data_dir.join(relative_dir(&job.defect));
        // The same defect of an earlier run of a file is replaced: its room counts as free.
        if let Some(at) = self.sets.iter().position(|(known, _)| *known == dir)
            && let Some((_, old)) = self.sets.remove(at)
        {
            self.tally.bytes.fetch_sub(old, Ordering::Relaxed);
        }
        let written = self.make_room_and_put(&dir, size, &files);
        // Whatever is there now, new or old.
        let there = size_of(&dir);
        if there > 0 {
            self.sets.push_back((dir, there));
            self.tally.bytes.fetch_add(there, Ordering::Relaxed);
        }
        written
    }

    fn make_room_and_put(
        &mut self,
        dir: &Path,
        size: u64,
        files: &[(&str, Vec<u8>)],
    ) -> Result<(), WriteError> {
        self.make_room(size);
        if self
            .tally
            .bytes
            .load(Ordering::Relaxed)
            .saturating_add(size)
            > self.quota_bytes
        {
            return Err(WriteError::OverQuota);
        }
        let aside = match (dir.parent(), dir.file_name().and_then(|n| n.to_str())) {
            (Some(parent), Some(name)) => parent.join(format!(".{name}.tmp")),
            _ => return Err(WriteError::Disk(io::ErrorKind::InvalidInput.into())),
        };
        let written = put(&aside, dir, files);
        if written.is_err() {
            let _ = fs::remove_dir_all(&aside);
        }
        Ok(written?)
    }

    fn cannot_draw(&self, error: RenderError) {
        self.tally.failed.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%error, "a still could not be drawn");
    }

    /// Counts every failure, logs the first of a row.
    fn complain(&self, error: &WriteError) {
        self.tally.failed.fetch_add(1, Ordering::Relaxed);
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "evidence cannot be written");
        }
    }
}

fn put(aside: &Path, dir: &Path, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    if aside.exists() {
        fs::remove_dir_all(aside)?;
    }
    fs::create_dir_all(aside)?;
    for (name, bytes) in files {
        fs::File::create(aside.join(name))?.write_all(bytes)?;
    }
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::rename(aside, dir)
}

fn size_of(dir: &Path) -> u64 {
    names(dir)
        .iter()
        .filter_map(|name| fs::metadata(dir.join(name)).ok())
        .map(|meta| meta.len())
        .sum()
}

fn describe(defect: &Defect) -> String {
    let moment = |m: crate::alert::Moment| {
        json!({
            "media_secs": m.media.map(|t| t.secs()),
            "arrival_secs": m.arrival.nanos() as f64 / 1e9,
        })
    };
    let value = json!({
        "id": defect.id,
        "fingerprint": defect.fingerprint,
        "stream": &*defect.stream,
        "labels": &*defect.labels,
        "detector": defect.detector,
        "rule": defect.rule,
        "track": defect.track.map(|t| t.to_string()),
        "severity": defect.severity.as_str(),
        "cause": defect.cause.as_str(),
        "value": defect.value,
        "limit": defect.limit,
        "unit": defect.unit,
        "says": defect.says,
        "start": moment(defect.start),
    });
    format!("{value:#}\n")
}
