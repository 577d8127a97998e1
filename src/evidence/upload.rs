//! Copies what was written to a place away from this machine: one file after another, in the background.
//!
//! What waits are names of sets and files, not bytes, so that a place that is away for days costs little; what the quota
//! removes meanwhile is left out. A set that fails goes behind the others, and one that always
//! fails where others do not is left out.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::store::{ROOT, safe};
use crate::telemetry::export::UploadCounts;

/// Sets that wait, at most.
const QUEUE: usize = 4096;
/// Wait after the first failure; doubles with each in a row.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Wait between attempts while the process ends.
const LAST_WAIT: Duration = Duration::from_millis(250);

/// A set that fails so often where others do not is given up.
const BLAMED: u32 = 5;

/// A place that keeps files under keys.
pub trait Vault: Send + Sync {
    /// Keeps a file, whole or not at all; one that is there is replaced.
    fn put<'a>(
        &'a self,
        key: &'a str,
        media_type: &'static str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<(), PutError>>;

    /// Where it is, fit for logs.
    fn place(&self) -> String;
}

/// Why a file was not kept. Another attempt may help: the network's, the service's or the operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PutError {
    /// In a few words, without a secret: `connect`, `status 404 NoSuchBucket`.
    pub what: String,
}

/// Why a bucket cannot be used as configured. The operator is at fault; trying again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// The endpoint.
    #[error("the endpoint is not a URL of http or https that may be called")]
    Endpoint,
    /// The HTTP client cannot be built (no trusted certificates).
    #[error("the HTTP client cannot be built")]
    Client,
}

/// What keys begin with, for sets of an instance: `prefix/instance`, or `instance` when there is no prefix.
pub fn key_base(prefix: &str, instance: &str) -> String {
    match prefix {
        "" => safe(instance),
        prefix => format!("{prefix}/{}", safe(instance)),
    }
}

/// The key of a set: `base/stream/set`. `dir` is relative to the data directory.
pub fn set_key(base: &str, dir: &Path) -> String {
    let dir = dir.strip_prefix(ROOT).unwrap_or(dir);
    format!("{base}/{}", dir.display())
}

/// Media type of a file of evidence by its name; `None`: it is none.
pub fn media_type(name: &str) -> Option<&'static str> {
    Some(match Path::new(name).extension()?.to_str()? {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        _ => return None,
    })
}

/// Sets on their way to a [`Vault`]. Dropping it ends them.
pub struct Uploads {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    vault: Box<dyn Vault>,
    data_dir: PathBuf,
    base: String,
    first_wait: Duration,
    waiting: Mutex<Waiting>,
    wake: Notify,
    hurry: Notify,
    closing: AtomicBool,
    uploaded: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    /// Sets in turn, without the one that is being uploaded.
    turn: VecDeque<PathBuf>,
    /// Files of every set that are not there yet, that one included; without the file that is being uploaded, so that
    /// one that is written anew meanwhile is taken again.
    files: HashMap<PathBuf, VecDeque<String>>,
    /// How often a set failed where others did not.
    blamed: HashMap<PathBuf, u32>,
}

impl Uploads {
    /// Begins to wait for sets below `data_dir`; their keys begin with `base`. Needs a tokio runtime.
    pub fn start(data_dir: &Path, base: String, vault: Box<dyn Vault>) -> Arc<Self> {
        Self::paced(data_dir, base, vault, FIRST_WAIT)
    }

    pub(super) fn paced(
        data_dir: &Path,
        base: String,
        vault: Box<dyn Vault>,
        first_wait: Duration,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared {
            vault,
            data_dir: data_dir.to_owned(),
            base,
            first_wait,
            waiting: Mutex::default(),
            wake: Notify::new(),
            hurry: Notify::new(),
            closing: AtomicBool::new(false),
            uploaded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let task = tokio::spawn(run(Arc::clone(&shared)));
        Arc::new(Self {
            shared,
            task: Mutex::new(Some(task)),
        })
    }

    /// Takes files of a set that are on disk; never waits. `dir` is relative to the data directory.
    pub(super) fn submit<'a>(&self, dir: &Path, names: impl IntoIterator<Item = &'a str>) {
        let mut waiting = self.shared.waiting();
        let known = waiting.files.contains_key(dir);
        if !known && waiting.files.len() >= QUEUE {
            let left_out = names.into_iter().count() as u64;
            (self.shared.dropped).fetch_add(left_out, Ordering::Relaxed);
            return;
        }
        let files = waiting.files.entry(dir.to_owned()).or_default();
        for name in names {
            if !files.iter().any(|known| known == name) {
                files.push_back(name.to_owned());
            }
        }
        if !known {
            waiting.turn.push_back(dir.to_owned());
        }
        drop(waiting);
        self.shared.wake.notify_one();
    }

    /// Whether a set is not there yet as a whole. `dir` is relative to the data directory.
    pub(super) fn is_waiting(&self, dir: &Path) -> bool {
        self.shared.waiting().files.contains_key(dir)
    }

    /// Where a set can be found, once it is there: `PLACE/KEY`.
    pub fn uri(&self, dir: &Path) -> String {
        let place = self.shared.vault.place();
        format!("{place}/{}", set_key(&self.shared.base, dir))
    }

    /// Counters.
    pub fn counts(&self) -> UploadCounts {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        UploadCounts {
            uploaded: get(&self.shared.uploaded),
            failed: get(&self.shared.failed),
            dropped: get(&self.shared.dropped),
            waiting: self.shared.waiting().files.len() as u64,
        }
    }

    /// Uploads what waits, and ends; at most `deadline`. Returns how many sets are left.
    pub async fn close(&self, deadline: Duration) -> usize {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        self.shared.hurry.notify_one();
        let task = (self.task.lock().unwrap_or_else(PoisonError::into_inner)).take();
        if let Some(mut task) = task
            && tokio::time::timeout(deadline, &mut task).await.is_err()
        {
            task.abort();
        }
        self.shared.waiting().files.len()
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        if let Some(task) = (self.task.lock().unwrap_or_else(PoisonError::into_inner)).take() {
            task.abort();
        }
    }
}

async fn run(shared: Arc<Shared>) {
    let mut failures = 0u32;
    loop {
        let closing = shared.closing.load(Ordering::Acquire);
        let Some(dir) = shared.next() else {
            if closing {
                return;
            }
            shared.wake.notified().await;
            continue;
        };
        match shared.upload(&dir).await {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!(place = %shared.vault.place(), "evidence is uploaded again");
                }
                failures = 0;
            }
            Err(problem) => {
                shared.failed.fetch_add(1, Ordering::Relaxed);
                if failures == 0 && shared.blame(&dir) >= BLAMED {
                    let left = shared.give_up(&dir);
                    tracing::error!(
                        set = %dir.display(),
                        left,
                        %problem,
                        "a set of evidence is not uploaded: it always fails, and others do not"
                    );
                    continue;
                }
                if failures == 0 {
                    tracing::error!(
                        place = %shared.vault.place(),
                        %problem,
                        "evidence cannot be uploaded and is tried again; it stays on disk within the quota"
                    );
                }
                shared.behind(dir);
                let wait = shared.wait_after(failures);
                failures = failures.saturating_add(1);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shared.hurry.notified() => {}
                }
            }
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<PathBuf> {
        self.waiting().turn.pop_front()
    }

    fn behind(&self, dir: PathBuf) {
        self.waiting().turn.push_back(dir);
    }

    fn wait_after(&self, failures: u32) -> Duration {
        if self.closing.load(Ordering::Acquire) {
            return LAST_WAIT;
        }
        let wait = self.first_wait.saturating_mul(1 << failures.min(16));
        wait.min(LONGEST_WAIT).mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Uploads the files of a set, those included that come meanwhile.
    async fn upload(&self, dir: &Path) -> Result<(), PutError> {
        loop {
            let name = {
                let mut waiting = self.waiting();
                match waiting.files.get_mut(dir).and_then(VecDeque::pop_front) {
                    Some(name) => name,
                    None => {
                        waiting.files.remove(dir);
                        waiting.blamed.remove(dir);
                        return Ok(());
                    }
                }
            };
            match self.upload_file(dir, &name).await {
                Ok(counter) => counter.fetch_add(1, Ordering::Relaxed),
                Err(problem) => {
                    self.again(dir, name);
                    return Err(problem);
                }
            };
        }
    }

    /// What is to be counted.
    async fn upload_file(&self, dir: &Path, name: &str) -> Result<&AtomicU64, PutError> {
        let bytes = match tokio::fs::read(self.data_dir.join(dir).join(name)).await {
            Ok(bytes) => bytes,
            // The quota needed its room.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(&self.dropped),
            Err(error) => {
                return Err(PutError {
                    what: format!("it cannot be read: {}", error.kind()),
                });
            }
        };
        let key = format!("{}/{name}", set_key(&self.base, dir));
        let kind = media_type(name).unwrap_or("application/octet-stream");
        self.vault.put(&key, kind, Bytes::from(bytes)).await?;
        Ok(&self.uploaded)
    }

    /// A file that failed is the next, unless it has come again.
    fn again(&self, dir: &Path, name: String) {
        if let Some(files) = self.waiting().files.get_mut(dir)
            && !files.contains(&name)
        {
            files.push_front(name);
        }
    }

    /// How often this set failed where others did not, this time included.
    fn blame(&self, dir: &Path) -> u32 {
        let mut waiting = self.waiting();
        let times = waiting.blamed.entry(dir.to_owned()).or_default();
        *times += 1;
        *times
    }

    /// Leaves out what is left of a set; tells how many files.
    fn give_up(&self, dir: &Path) -> usize {
        let mut waiting = self.waiting();
        waiting.blamed.remove(dir);
        let left = waiting.files.remove(dir).map_or(0, |files| files.len());
        self.dropped.fetch_add(left as u64, Ordering::Relaxed);
        left
    }
}
