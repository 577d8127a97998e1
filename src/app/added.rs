//! Streams of the API: kept on disk, laid beside those of the file, and taken up one by one.
//!
//! They lie in one small file of the data folder, written whole and synced before anything is answered, so that a restart
//! watches the same streams. It is not in the outbox, which may be lost or full of alerts: what is watched must not depend
//! on it. It holds URLs with their secrets, so only the owner may read it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::{Settings, Shared, StartError};
use crate::config::added::{self, Entry, Wrong};
use crate::config::{self, Changes, Config, Problems, effective_stream};
use crate::http::{Put, Refusal};
use crate::router::shard;

/// Name of the file in the data folder.
const FILE: &str = "api-streams.json";
/// Version of its shape; a newer one is left alone.
const VERSION: u32 = 1;
/// As large as a configuration file may be.
const FILE_BYTES: usize = 16 << 20;
/// A disk that takes longer to write it does not work.
const DISK: Duration = Duration::from_secs(2);
/// How long a change waits for the one before it.
const TURN: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    streams: Vec<Entry>,
}

/// The file as it was written last, and what the API has added to it.
pub(super) struct Written {
    /// The configuration as the file says, before groups and shard.
    pub file: Config,
    path: PathBuf,
    /// Why nothing can be changed, when the file of before could not be read.
    unread: Option<String>,
    entries: Vec<Entry>,
    /// A write that the disk has not finished.
    writing: Option<JoinHandle<io::Result<()>>>,
}

/// What a process begins with, groups and shard applied.
pub(super) struct Begun {
    pub config: Config,
    /// Streams of the API among them.
    pub added: BTreeSet<Arc<str>>,
    /// Whether everything is watched that the API added.
    pub whole: bool,
}

/// What is watched, before groups and shard.
struct Merged {
    config: Config,
    /// Streams of the API among them.
    added: BTreeSet<Arc<str>>,
    wrong: Vec<Wrong>,
}

/// The file's streams, and those of the API that are right and that it does not name itself.
fn merge(file: &Config, entries: &[Entry]) -> Merged {
    let own: BTreeSet<&str> = file.streams.iter().map(|s| &*s.id).collect();
    let mut entries: Vec<Entry> = entries.to_vec();
    entries.retain(|e| !own.contains(e.id.as_str()));
    let mut all_wrong = Vec::new();
    // Without one that is wrong another may have lost its reference.
    let streams = loop {
        let (streams, wrong) = added::check(file, &entries);
        if wrong.is_empty() {
            break streams;
        }
        entries.retain(|e| wrong.iter().all(|(id, _)| *id != e.id));
        all_wrong.extend(wrong);
    };
    Merged {
        added: streams.iter().map(|s| Arc::clone(&s.id)).collect(),
        config: Config {
            streams: file.streams.iter().cloned().chain(streams).collect(),
            ..file.clone()
        },
        wrong: all_wrong,
    }
}

impl Written {
    /// Reads what was added before. What cannot be read is told, and never written over.
    pub fn read(file: Config) -> Self {
        let path = file.instance.data_dir.join(FILE);
        let mut written = Self {
            file,
            path,
            unread: None,
            entries: Vec::new(),
            writing: None,
        };
        let found = read(&written.path);
        written.take_up(found);
        written
    }

    fn take_up(&mut self, found: io::Result<Vec<Entry>>) {
        match found {
            Ok(entries) => (self.entries, self.unread) = (entries, None),
            Err(error) => {
                error!(path = %self.path.display(), %error, "streams that were added by the API cannot be read");
                self.unread = Some(error.to_string());
            }
        }
    }

    /// What is left when what the file names itself by now is forgotten: the file wins. `None` when that is nothing.
    fn left_by_the_file(&self) -> Option<Vec<Entry>> {
        let named = |e: &Entry| self.file.streams.iter().any(|s| *s.id == e.id);
        let (taken, left): (Vec<Entry>, Vec<Entry>) = self.entries.iter().cloned().partition(named);
        for entry in &taken {
            warn!(stream = %entry.id, "the configuration file names a stream that the API added: the file's is watched");
        }
        (!taken.is_empty()).then_some(left)
    }

    /// What is to be watched at the start. What is wrong by now is left out: the others are to be watched all the same.
    pub fn begin(&mut self, settings: &Settings) -> Result<Begun, StartError> {
        if let Some(left) = self.left_by_the_file() {
            match write(&self.path, &left, Instant::now() + DISK) {
                Ok(()) => self.entries = left,
                // It gives way again next time.
                Err(error) => warn!(%error, "streams of the API cannot be written down"),
            }
        }
        let merged = merge(&self.file, &self.entries);
        tell(&merged.wrong);
        let config = settings.apply(merged.config)?;
        let added = watched(&config, &merged.added);
        tell_not_ours(&merged.added, &added);
        Ok(Begun {
            config,
            added,
            whole: merged.wrong.is_empty() && self.unread.is_none(),
        })
    }
}

fn tell(wrong: &[Wrong]) {
    for (stream, Problems(problems)) in wrong {
        for problem in problems {
            error!(stream, "a stream of the API is not watched: {problem}");
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // The parser's own words might quote what is secret.
    let damaged = |_| io::Error::other("the file is damaged: mend it or take it away");
    let version: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
    if version["version"].as_u64() > Some(VERSION.into()) {
        let why = "the file is of a newer version of this program";
        return Err(io::Error::other(why));
    }
    let document: Document = serde_json::from_value(version).map_err(damaged)?;
    Ok(document.streams)
}

/// Writes the file whole: it is the old one or the new one, whatever happens. After `until` it stays the old one.
fn write(path: &Path, entries: &[Entry], until: Instant) -> io::Result<()> {
    let document = Document {
        version: VERSION,
        streams: entries.to_vec(),
    };
    let text = serde_json::to_vec(&document)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let new = path.with_extension("json.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = (OpenOptions::new().write(true).create_new(true))
        .mode(0o600)
        .open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    if Instant::now() > until {
        fs::remove_file(&new)?;
        return Err(io::ErrorKind::TimedOut.into());
    }
    fs::rename(&new, path)?;
    // Kept from here on: what a loss of power could still undo is worth a line, not a refusal.
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        warn!(path = %path.display(), %error, "the folder of the streams of the API cannot be flushed");
    }
    Ok(())
}

/// What is to become of a stream.
pub(super) enum Asked {
    Put(Entry),
    Remove(String),
}

impl Asked {
    fn id(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.id,
            Self::Remove(id) => id,
        }
    }
}

fn not_now(why: impl Into<String>) -> Refusal {
    Refusal::NotNow(why.into())
}

impl Shared {
    /// A change that is begun is made, whether or not somebody waits for the answer.
    pub(super) async fn changed(self: Arc<Self>, asked: Asked) -> Result<Option<Put>, Refusal> {
        let made = tokio::spawn(async move { self.change(asked).await });
        made.await.unwrap_or_else(|_| Err(not_now("it failed")))
    }

    /// Makes a change: checked, on disk, and only then taken up. `None` for what was removed.
    pub(super) async fn change(&self, asked: Asked) -> Result<Option<Put>, Refusal> {
        let id = asked.id().to_owned();
        let Ok(mut written) = timeout(TURN, self.written.lock()).await else {
            return Err(not_now("another change is being made: try again later"));
        };
        if self.draining.load(Ordering::Relaxed) {
            return Err(not_now("the process is ending"));
        }
        if let Some(why) = &written.unread {
            let why = format!("what was added before cannot be read: {why}");
            return Err(not_now(why));
        }
        if written.file.streams.iter().any(|s| *s.id == id) {
            return Err(Refusal::OfFile);
        }
        let mut entries = written.entries.clone();
        let before = entries.iter().position(|e| e.id == id);
        match (asked, before) {
            (Asked::Put(entry), Some(at)) => entries[at] = entry,
            (Asked::Put(entry), None) => entries.push(entry),
            (Asked::Remove(_), Some(at)) => drop(entries.remove(at)),
            (Asked::Remove(_), None) => return Err(Refusal::Unknown),
        }
        let merged = merge(&written.file, &entries);
        let is_put = entries.iter().any(|e| e.id == id);
        if let Some(problems) = self.newly_wrong(&merged.wrong, is_put.then_some(&*id)) {
            return Err(Refusal::Wrong(problems));
        }
        let whole = merged.config.streams.clone();
        // What groups and listening address there are, it has been started with.
        let config =
            (self.settings.apply(merged.config)).map_err(|error| not_now(error.to_string()))?;
        let added = watched(&config, &merged.added);
        let was = self.added.load_full();
        let lost = (whole.iter())
            .filter(|s| *s.id == id || was.contains(&s.id))
            .find(|s| merged.added.contains(&s.id) && !added.contains(&s.id));
        if let (Some(lost), Some(shard)) = (lost, config.shard) {
            return Err(Refusal::Elsewhere {
                owner: shard::owner(shard.count, shard::placed_by(lost, &whole)),
                count: shard.count,
            });
        }
        written.keep(entries).await?;
        let shown = config.streams.iter().find(|s| *s.id == id);
        let shown = shown.map(|stream| effective_stream(stream));
        self.take_streams(&config::diff(&self.config.load(), &config), &config)
            .await;
        self.config.store(Arc::new(config));
        self.added.store(Arc::new(added));
        info!(stream = %id, "streams changed by the API");
        Ok(shown.map(|stream| match before {
            None => Put::Added(stream),
            Some(_) => Put::Changed(stream),
        }))
    }

    /// What is wrong with this stream, or else with those that were right before.
    fn newly_wrong(&self, wrong: &[Wrong], id: Option<&str>) -> Option<Problems> {
        if let Some((_, own)) = wrong.iter().find(|(of, _)| Some(of.as_str()) == id) {
            return Some(own.clone());
        }
        let was = self.added.load();
        let mut told = Vec::new();
        for (of, Problems(problems)) in wrong.iter().filter(|(of, _)| was.contains(of.as_str())) {
            told.extend(problems.iter().cloned().map(|mut problem| {
                problem.message = format!("of the stream `{of}`: {}", problem.message);
                problem
            }));
        }
        (!told.is_empty()).then_some(Problems(told))
    }

    /// Takes up the file's configuration with what the API added. Tells what changed, and whether all is watched that the
    /// API added.
    pub(super) async fn reload(&self, file: Config) -> Result<(Changes, bool), StartError> {
        let Ok(mut written) = timeout(super::STOP, self.written.lock()).await else {
            return Err(StartError::Busy);
        };
        if !written.is_writing() {
            let path = written.path.clone();
            let reading = tokio::task::spawn_blocking(move || read(&path));
            match timeout(DISK, reading).await {
                Ok(Ok(found)) => written.take_up(found),
                // What is in memory was read or written before.
                Ok(Err(_)) | Err(_) => written.unread = Some("the disk takes too long".to_owned()),
            }
        }
        let merged = merge(&file, &written.entries);
        if let Some(problems) = self.newly_wrong(&merged.wrong, None) {
            return Err(StartError::Added(problems));
        }
        tell(&merged.wrong);
        let config = self.settings.apply(merged.config)?;
        let added = watched(&config, &merged.added);
        let changes = self.take_up(config).await?;
        tell_not_ours(&merged.added, &added);
        self.added.store(Arc::new(added));
        written.file = self.as_started(file);
        if let Some(left) = written.left_by_the_file()
            && let Err(refusal) = written.keep(left).await
        {
            warn!("streams of the API are not forgotten yet: {refusal}");
        }
        let whole = merged.wrong.is_empty() && written.unread.is_none();
        Ok((changes, whole))
    }
}

/// Those of the API that are watched here.
fn watched(config: &Config, added: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
    let here = config.streams.iter().map(|s| Arc::clone(&s.id));
    here.filter(|id| added.contains(id)).collect()
}

/// Those of the API that a shard keeps from being watched here.
fn tell_not_ours(added: &BTreeSet<Arc<str>>, here: &BTreeSet<Arc<str>>) {
    for stream in added.difference(here) {
        warn!(%stream, "another shard is to watch a stream that was added here: add it there");
    }
}

impl Written {
    fn is_writing(&mut self) -> bool {
        self.writing.take_if(|writing| writing.is_finished());
        self.writing.is_some()
    }

    /// Puts entries on disk; when that fails, those of before stay.
    async fn keep(&mut self, entries: Vec<Entry>) -> Result<(), Refusal> {
        let size = serde_json::to_vec(&entries).map_or(usize::MAX, |text| text.len());
        if size > FILE_BYTES {
            return Err(Refusal::Full(FILE_BYTES));
        }
        if self.is_writing() {
            return Err(not_now("the disk takes too long: try again later"));
        }
        let (path, kept) = (self.path.clone(), entries.clone());
        let until = Instant::now() + DISK;
        let mut writing = tokio::task::spawn_blocking(move || write(&path, &kept, until));
        match timeout(2 * DISK, &mut writing).await {
            Ok(Ok(Ok(()))) => {
                self.entries = entries;
                Ok(())
            }
            Ok(Ok(Err(error))) => Err(not_now(format!("it cannot be written down: {error}"))),
            Ok(Err(_)) => Err(not_now("it cannot be written down")),
            Err(_) => {
                self.writing = Some(writing);
                let says = "the disk takes too long, and may still keep it: look again later";
                Err(not_now(says))
            }
        }
    }
}
