//! Still sets on disk: one writer thread, a bounded queue, a quota.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use detectors::base::Exhibit;
use serde_json::json;

use super::clips::{self, Addition, ClipJob, ClipOrder, ClipWriter};
use super::render::{RenderError, jpeg};
use super::upload::Uploads;
use crate::alert::Defect;
use crate::ingest::PictureBuffer;

/// Sets waiting for the writer, at most. They hold decoder buffers that their lanes mostly hold anyway.
pub(super) const QUEUE: usize = 64;
/// Who waits for a full queue looks again after this.
const FULL: Duration = Duration::from_millis(10);
/// Directory below the data directory.
pub(super) const ROOT: &str = "evidence";
/// A stream takes at most this part of the quota while others have sets.
const SHARE: u64 = 4;

/// What is written about one defect.
pub(super) struct Job {
    pub(super) defect: Defect,
    pub(super) good: Option<Arc<PictureBuffer>>,
    pub(super) bad: Option<Arc<PictureBuffer>>,
    pub(super) exhibit: Option<Exhibit>,
}

/// The worst picture of a defect so far.
pub(super) struct Worst {
    pub(super) defect: Defect,
    pub(super) picture: Arc<PictureBuffer>,
    pub(super) exhibit: Option<Exhibit>,
}

pub(super) enum Order {
    Write(Box<Job>),
    Worst(Box<Worst>),
    /// Files for a set that is there, or is begun with them.
    Add(Box<Addition>),
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
    /// Clips written, counted once for each set that holds one.
    pub clips_written: u64,
    /// Clips that could not be written.
    pub clips_failed: u64,
    /// Clips left out because the writer was behind, or too many of one stream were being recorded.
    pub clips_dropped: u64,
    /// Encoded bytes that all streams keep for clips now.
    pub ring_bytes: u64,
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
    clips: SyncSender<ClipOrder>,
    /// Coded bytes of the clips that wait.
    waiting_bytes: Arc<AtomicU64>,
    tally: Arc<Tally>,
}

#[derive(Default)]
pub(super) struct Tally {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    evicted: AtomicU64,
    bytes: AtomicU64,
    clips_written: AtomicU64,
    pub(super) clips_failed: AtomicU64,
    clips_dropped: AtomicU64,
    ring_bytes: AtomicU64,
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
pub(super) fn safe(text: &str) -> String {
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
        Self::open_with(data_dir, quota_bytes, None)
    }

    /// As [`Stills::open`]; what was written is uploaded as well.
    pub fn open_with(
        data_dir: &Path,
        quota_bytes: u64,
        uploads: Option<Arc<Uploads>>,
    ) -> Arc<Self> {
        let (orders, inbox) = sync_channel(QUEUE);
        let tally = Arc::new(Tally::default());
        let writer = Writer {
            data_dir: data_dir.to_owned(),
            quota_bytes,
            sets: VecDeque::new(),
            tally: Arc::clone(&tally),
            uploads,
            complained: AtomicBool::new(false),
        };
        let started = std::thread::Builder::new()
            .name("evidence".to_owned())
            .spawn(move || writer.run(&inbox));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for evidence: no stills are kept");
        }
        let (clips, cuttings) = sync_channel(clips::QUEUE);
        let waiting_bytes = Arc::new(AtomicU64::new(0));
        let writer = ClipWriter {
            evidence: data_dir.join(ROOT),
            tally: Arc::clone(&tally),
            waiting_bytes: Arc::clone(&waiting_bytes),
            orders: orders.clone(),
        };
        let started = std::thread::Builder::new()
            .name("clips".to_owned())
            .spawn(move || writer.run(&cuttings));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for clips: none are kept");
        }
        Arc::new(Self {
            data_dir: data_dir.to_owned(),
            orders,
            clips,
            waiting_bytes,
            tally,
        })
    }

    /// A store whose writer never comes; with what would reach it.
    #[cfg(test)]
    pub(super) fn unattended() -> (Arc<Self>, (Receiver<Order>, Receiver<ClipOrder>)) {
        let (orders, inbox) = sync_channel(QUEUE);
        let (clips, cuttings) = sync_channel(clips::QUEUE);
        let stills = Self {
            data_dir: PathBuf::new(),
            orders,
            clips,
            waiting_bytes: Arc::default(),
            tally: Arc::default(),
        };
        (Arc::new(stills), (inbox, cuttings))
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

    /// Hands a worst picture to the writer; never waits.
    pub(super) fn submit_worst(&self, worst: Worst) {
        if (self.orders.try_send(Order::Worst(Box::new(worst)))).is_err() {
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands a clip to its writer; never waits.
    pub(super) fn submit_clip(&self, job: ClipJob) {
        let bytes = job.bytes();
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = waiting == 0 || waiting.saturating_add(bytes) <= clips::QUEUE_BYTES;
        let taken = fits && self.clips.try_send(ClipOrder::Write(Box::new(job))).is_ok();
        if !taken {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.clip_dropped();
        }
    }

    pub(super) fn clip_dropped(&self) {
        self.tally.clips_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream keeps so many encoded bytes for clips instead of so many.
    pub(super) fn ring_bytes(&self, before: usize, now: usize) {
        let all = &self.tally.ring_bytes;
        all.fetch_add(now as u64, Ordering::Relaxed);
        all.fetch_sub(before as u64, Ordering::Relaxed);
    }

    /// Waits until everything submitted so far is written; `false` when `timeout` passed first. Blocks: for the
    /// end of a run.
    pub fn flush(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let (done, wait) = sync_channel(1);
        let mut order = ClipOrder::Report(done);
        loop {
            order = match self.clips.try_send(order) {
                Ok(()) => break,
                Err(TrySendError::Full(order)) if Instant::now() < until => order,
                Err(_) => return false,
            };
            std::thread::sleep(FULL);
        }
        let left = until.saturating_duration_since(Instant::now());
        wait.recv_timeout(left).is_ok()
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
            clips_written: get(&self.tally.clips_written),
            clips_failed: get(&self.tally.clips_failed),
            clips_dropped: get(&self.tally.clips_dropped),
            ring_bytes: get(&self.tally.ring_bytes),
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
    #[error("the set is larger than the evidence quota, or than a stream's share of it")]
    OverQuota,
}

struct Writer {
    data_dir: PathBuf,
    quota_bytes: u64,
    /// Sets on disk with their size, oldest first.
    sets: VecDeque<(PathBuf, u64)>,
    tally: Arc<Tally>,
    uploads: Option<Arc<Uploads>>,
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
                Order::Worst(worst) => self.worst(*worst),
                Order::Add(addition) => {
                    let clip = self.is_first_clip(&addition);
                    match self.add(&addition) {
                        Ok(()) if clip => {
                            self.tally.clips_written.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(()) => {}
                        Err(error) => {
                            if clip {
                                self.tally.clips_failed.fetch_add(1, Ordering::Relaxed);
                            }
                            self.complain(&error);
                        }
                    }
                }
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
            if stream.starts_with('.') {
                let _ = fs::remove_dir_all(root.join(&stream));
                continue;
            }
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

    /// Removes the oldest sets of a stream until it takes no more than its share with `bytes` more, as long as
    /// other streams have sets.
    fn keep_share(&mut self, stream: &Path, bytes: u64) -> Result<(), WriteError> {
        let share = self.quota_bytes / SHARE;
        loop {
            let own = |(dir, _): &&(PathBuf, u64)| dir.parent() == Some(stream);
            let taken: u64 = self.sets.iter().filter(own).map(|(_, size)| size).sum();
            let alone = self.sets.iter().all(|set| own(&set));
            if alone || taken.saturating_add(bytes) <= share {
                return Ok(());
            }
            let Some(at) = self.oldest(|set| own(&set)) else {
                return Err(WriteError::OverQuota);
            };
            if !self.evict(at) {
                return Ok(());
            }
        }
    }

    /// The oldest of these sets, if possible one that need not be uploaded any more.
    fn oldest(&self, of: impl Fn(&(PathBuf, u64)) -> bool) -> Option<usize> {
        let waits = |(dir, _): &(PathBuf, u64)| {
            let dir = dir.strip_prefix(&self.data_dir).unwrap_or(dir);
            (self.uploads.as_ref()).is_some_and(|uploads| uploads.is_waiting(dir))
        };
        let there = self.sets.iter().position(|set| of(set) && !waits(set));
        there.or_else(|| self.sets.iter().position(of))
    }

    /// Hands files of a set on that were written.
    fn upload<'a>(&self, dir: &Path, names: impl IntoIterator<Item = &'a str>) {
        if let Some(uploads) = &self.uploads {
            let dir = dir.strip_prefix(&self.data_dir).unwrap_or(dir);
            uploads.submit(dir, names);
        }
    }

    /// Removes a set; `false` when the disk refused.
    fn evict(&mut self, at: usize) -> bool {
        let Some((dir, size)) = self.sets.remove(at) else {
            return false;
        };
        if let Err(error) = fs::remove_dir_all(&dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            // It still takes its room; try again with the next set, behind the others.
            self.sets.push_back((dir, size));
            self.complain(&WriteError::Disk(error));
            return false;
        }
        self.tally.bytes.fetch_sub(size, Ordering::Relaxed);
        self.tally.evicted.fetch_add(1, Ordering::Relaxed);
        true
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
            match self.oldest(|_| true) {
                Some(at) if self.evict(at) => {}
                _ => return,
            }
        }
    }

    fn worst(&mut self, worst: Worst) {
        let bytes = match jpeg(&worst.picture, worst.exhibit.as_ref()) {
            Ok(bytes) => bytes,
            Err(error) => return self.cannot_draw(error),
        };
        let addition = Addition {
            defect: worst.defect,
            files: vec![("worst.jpg", bytes)],
            clip: None,
        };
        if let Err(error) = self.add(&addition) {
            self.complain(&error);
        }
    }

    /// Whether a set gets a clip that had none: a longer one that takes its place is not counted again.
    fn is_first_clip(&self, addition: &Addition) -> bool {
        let dir = self.data_dir.join(relative_dir(&addition.defect));
        let clip = addition.clip.as_ref();
        clip.is_some_and(|(_, name)| !dir.join(name).exists())
    }

    /// Adds files to the set of a defect; begins the set when it is not there (any more).
    fn add(&mut self, addition: &Addition) -> Result<(), WriteError> {
        let dir = self.data_dir.join(relative_dir(&addition.defect));
        let clip = addition.clip.as_ref();
        let clip_bytes = clip.map_or(Ok(0), |(from, _)| fs::metadata(from).map(|m| m.len()))?;
        let known = self.sets.iter().position(|(known, _)| *known == dir);
        let own = known.and_then(|at| self.sets.remove(at));
        let mut files: Vec<(&str, &[u8])> = Vec::new();
        let described = describe(&addition.defect);
        if own.is_none() {
            files.push(("defect.json", described.as_bytes()));
        }
        files.extend(addition.files.iter().map(|(name, bytes)| (*name, &**bytes)));
        let text: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        let size = clip_bytes.saturating_add(text as u64);
        let before = own.map_or(0, |(_, size)| size);
        let stream = dir.parent().unwrap_or(&dir).to_owned();
        let roomy = self.room_for(&stream, before, size);
        let added = roomy.and_then(|()| Ok(place(&dir, &files, clip)?));
        if added.is_ok() {
            let names = files.iter().map(|(name, _)| *name);
            self.upload(&dir, names.chain(clip.map(|(_, name)| *name)));
        }
        let there = size_of(&dir);
        self.tally.bytes.fetch_sub(before, Ordering::Relaxed);
        if there > 0 {
            self.sets.push_back((dir, there));
            self.tally.bytes.fetch_add(there, Ordering::Relaxed);
        }
        added
    }

    /// Makes room for `bytes` more of a stream, in whose set that is written now `own` bytes lie already.
    fn room_for(&mut self, stream: &Path, own: u64, bytes: u64) -> Result<(), WriteError> {
        if own.saturating_add(bytes) > self.quota_bytes {
            return Err(WriteError::OverQuota);
        }
        self.keep_share(stream, own.saturating_add(bytes))?;
        self.make_room(bytes);
        match self.tally.bytes.load(Ordering::Relaxed).checked_add(bytes) {
            Some(total) if total <= self.quota_bytes => Ok(()),
            _ => Err(WriteError::OverQuota),
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
        let dir = self.data_dir.join(relative_dir(&job.defect));
        // The same defect of an earlier run of a file is replaced: its room counts as free.
        if let Some(at) = self.sets.iter().position(|(known, _)| *known == dir)
            && let Some((_, old)) = self.sets.remove(at)
        {
            self.tally.bytes.fetch_sub(old, Ordering::Relaxed);
        }
        let written = self.make_room_and_put(&dir, size, &files);
        if written.is_ok() {
            self.upload(&dir, files.iter().map(|(name, _)| *name));
        }
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
        self.room_for(dir.parent().unwrap_or(dir), 0, size)?;
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

/// Puts files into a set, each whole or not at all.
fn place(dir: &Path, files: &[(&str, &[u8])], clip: Option<&(PathBuf, &str)>) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let aside = dir.join(".part");
    let swap = |name: &str| fs::rename(&aside, dir.join(name));
    for (name, bytes) in files {
        fs::write(&aside, bytes)?;
        swap(name)?;
    }
    if let Some((from, name)) = clip {
        let _ = fs::remove_file(&aside);
        // Sets share a clip; a file system without links gets a copy.
        if fs::hard_link(from, &aside).is_err() {
            fs::copy(from, &aside)?;
        }
        swap(name)?;
    }
    Ok(())
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
