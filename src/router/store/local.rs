//! The store of one machine: a file of SQLite in the data folder, which several processes may have open.
//!
//! Whether a registration lives is read off the machine's boot clock, which all its processes share: the file holds when
//! it ends and during which boot, so that whoever opens it knows at once, without having watched the heartbeats.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Row, Transaction, TransactionBehavior, params,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Clock, Guard, Hold, Record, Result, Store, StoreError, TIMEOUT, Version, Write, boot_clock,
    limits,
};

/// How often the file is looked at for what others have written.
const POLL: Duration = Duration::from_millis(200);
/// Of the schema below.
const SCHEMA_VERSION: u32 = 1;
/// `version` is the revision that put the record or registered it, `touched` the one that gave it its value.
const SCHEMA: &str = "
    CREATE TABLE record (
        key TEXT NOT NULL UNIQUE,
        value BLOB NOT NULL,
        version INTEGER NOT NULL,
        touched INTEGER NOT NULL,
        boot TEXT,
        ends_ms INTEGER,
        ttl_ms INTEGER
    );
    CREATE INDEX record_touched ON record (key, touched, boot, ends_ms);
    CREATE INDEX record_ends ON record (ends_ms) WHERE ends_ms IS NOT NULL;
    CREATE TABLE revision (last INTEGER NOT NULL);
    INSERT INTO revision VALUES (0);
";
/// A registration that has not ended, or a value. `?1` is the boot, `?2` the time.
const LIVES: &str = "(ends_ms IS NULL OR (boot = ?1 AND ends_ms > ?2))";

/// Which file, and how patient with it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file; made when it is missing.
    pub path: PathBuf,
    /// How long an operation may take, waiting for other processes included.
    pub timeout: Duration,
}

impl Settings {
    /// [`TIMEOUT`].
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            timeout: TIMEOUT,
        }
    }
}

/// What is done with the file, on the file's own thread.
type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// What a path looked like: records that live, and the highest revision among them. A put raises the second; a delete or
/// an end without a put lowers the first.
type Look = (i64, i64);

/// The store of one machine.
pub struct Local {
    jobs: mpsc::Sender<Job>,
    clock: Clock,
    boot: String,
    timeout: Duration,
    seen: Mutex<HashMap<String, Look>>,
}

impl Local {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it cannot be read or written, [`StoreError::Unreachable`] when others keep it locked.
    pub fn open(settings: &Settings) -> Result<Self> {
        Self::with_clock(settings, boot_clock())
    }

    /// The same by another clock, which all who open the file share.
    ///
    /// # Errors
    /// As of [`Local::open`].
    pub fn with_clock(settings: &Settings, clock: Clock) -> Result<Self> {
        let mut db = connect(settings)?;
        let (jobs, waiting) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || waiting.iter().for_each(|job| job(&mut db)))
            .map_err(|why| StoreError::Refused(format!("no thread: {why}")))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self {
            jobs,
            clock,
            boot: boot.trim().to_owned(),
            timeout: settings.timeout,
            seen: Mutex::default(),
        })
    }

    /// Has something done with the file. Nobody waits for longer than the timeout; what nobody waits for is not begun.
    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection, &Now) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let (reply, answer) = oneshot::channel();
        let (clock, boot) = (Clock::clone(&self.clock), self.boot.clone());
        let job: Job = Box::new(move |db| {
            if !reply.is_closed() {
                let now = Now {
                    boot,
                    ms: millis(clock()),
                };
                // Whoever asked may have gone.
                let _ = reply.send(job(db, &now));
            }
        });
        // Without the thread nobody answers, which is told below.
        let _ = self.jobs.send(job);
        async move {
            match timeout(self.timeout, answer).await {
                Ok(Ok(done)) => done,
                Ok(Err(_)) => Err(StoreError::Unreachable("its thread has ended".to_owned())),
                Err(_) => Err(StoreError::Unreachable("timeout".to_owned())),
            }
        }
        .boxed()
    }

    /// Remembers how a path looks; how it looked before.
    fn told(&self, prefix: &str, look: Look) -> Option<Look> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(prefix.to_owned(), look)
    }

    fn look(&self, prefix: &str) -> BoxFuture<'_, Result<Look>> {
        let (from, to) = range(prefix);
        self.run(move |db, now| {
            let look = format!(
                "SELECT count(*), coalesce(max(touched), 0) FROM record \
                 WHERE {LIVES} AND key >= ?3 AND key < ?4"
            );
            let mut look = db.prepare_cached(&look).map_err(failed)?;
            look.query_row(params![now.boot, now.ms, from, to], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .map_err(failed)
        })
    }
}

/// When a job runs.
struct Now {
    boot: String,
    ms: i64,
}

impl Store for Local {
    fn register(&self, key: &str, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<Hold>> {
        if let Err(why) = limits::key(key).and_then(|()| limits::value(&value)) {
            return refused(why);
        }
        let key = key.to_owned();
        self.run(move |db, now| {
            let tx = begin(db)?;
            let dead = format!("DELETE FROM record WHERE ends_ms IS NOT NULL AND NOT {LIVES}");
            tx.execute(&dead, params![now.boot, now.ms])
                .map_err(failed)?;
            if version(&tx, &key, now)?.is_some() {
                return Err(StoreError::Taken(key));
            }
            let term = raise(&tx)?;
            let ttl = millis(ttl);
            tx.execute(
                "INSERT INTO record (key, value, version, touched, boot, ends_ms, ttl_ms) \
                 VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6)",
                params![
                    key,
                    &value[..],
                    term,
                    now.boot,
                    now.ms.saturating_add(ttl),
                    ttl
                ],
            )
            .map_err(failed)?;
            tx.commit().map_err(failed)?;
            let term = unsigned(term);
            Ok(Hold {
                key,
                term: Version(term),
                token: term,
            })
        })
    }

    fn heartbeat(&self, hold: &Hold, value: Option<Bytes>) -> BoxFuture<'_, Result<()>> {
        if let Some(Err(why)) = value.as_ref().map(limits::value) {
            return refused(why);
        }
        let hold = hold.clone();
        self.run(move |db, now| {
            let tx = begin(db)?;
            let renew = format!(
                "UPDATE record SET ends_ms = ?2 + ttl_ms \
                 WHERE key = ?3 AND version = ?4 AND ends_ms IS NOT NULL AND {LIVES}"
            );
            let term = signed(hold.term);
            let renewed = tx.execute(&renew, params![now.boot, now.ms, hold.key, term]);
            if renewed.map_err(failed)? == 0 {
                return Err(StoreError::Lost(hold.key));
            }
            if let Some(value) = value {
                let touched = raise(&tx)?;
                tx.execute(
                    "UPDATE record SET value = ?2, touched = ?3 WHERE key = ?1",
                    params![hold.key, &value[..], touched],
                )
                .map_err(failed)?;
            }
            tx.commit().map_err(failed)
        })
    }

    fn leave(&self, hold: Hold) -> BoxFuture<'_, Result<()>> {
        self.run(move |db, _| {
            let gone = "DELETE FROM record WHERE key = ?1 AND version = ?2 AND ends_ms IS NOT NULL";
            db.execute(gone, params![hold.key, signed(hold.term)])
                .map(drop)
                .map_err(failed)
        })
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>> {
        if let Err(why) = limits::key(key) {
            return refused(why);
        }
        let key = key.to_owned();
        self.run(move |db, now| {
            let get = format!("SELECT key, value, version FROM record WHERE {LIVES} AND key = ?3");
            let mut get = db.prepare_cached(&get).map_err(failed)?;
            get.query_row(params![now.boot, now.ms, key], record)
                .optional()
                .map_err(failed)
        })
    }

    fn scan(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Record>>> {
        if let Err(why) = limits::prefix(prefix) {
            return refused(why);
        }
        let (from, to) = range(prefix);
        self.run(move |db, now| {
            let scan = format!(
                "SELECT key, value, version FROM record \
                 WHERE {LIVES} AND key >= ?3 AND key < ?4 ORDER BY key"
            );
            let mut scan = db.prepare_cached(&scan).map_err(failed)?;
            let rows = scan.query_map(params![now.boot, now.ms, from, to], record);
            rows.and_then(Iterator::collect).map_err(failed)
        })
    }

    fn commit(
        &self,
        guards: Vec<Guard>,
        writes: Vec<Write>,
    ) -> BoxFuture<'_, Result<Vec<Version>>> {
        if let Err(why) = limits::commit(&guards, &writes) {
            return refused(why);
        }
        self.run(move |db, now| {
            let tx = begin(db)?;
            for guard in guards {
                if version(&tx, &guard.key, now)? != guard.version {
                    return Err(StoreError::Conflict(guard.key));
                }
            }
            let revision = raise(&tx)?;
            let mut put = Vec::new();
            for write in writes {
                match write {
                    Write::Put(key, value) => {
                        tx.execute(
                            "INSERT OR REPLACE INTO record (key, value, version, touched) \
                             VALUES (?1, ?2, ?3, ?3)",
                            params![key, &value[..], revision],
                        )
                        .map_err(failed)?;
                        put.push(Version(unsigned(revision)));
                    }
                    Write::Delete(key) => {
                        tx.execute("DELETE FROM record WHERE key = ?1", [key])
                            .map_err(failed)?;
                    }
                }
            }
            tx.commit().map_err(failed)?;
            Ok(put)
        })
    }

    fn changes(&self, prefix: &str, patience: Duration) -> BoxFuture<'_, Result<()>> {
        if let Err(why) = limits::prefix(prefix) {
            return refused(why);
        }
        let prefix = prefix.to_owned();
        async move {
            let end = Instant::now() + patience;
            loop {
                let look = self.look(&prefix).await?;
                let before = self.told(&prefix, look);
                let left = end.saturating_duration_since(Instant::now());
                if before != Some(look) || left.is_zero() {
                    return Ok(());
                }
                sleep(left.min(POLL)).await;
            }
        }
        .boxed()
    }
}

fn connect(settings: &Settings) -> Result<Connection> {
    let refused = |why: &dyn std::fmt::Display| StoreError::Refused(why.to_string());
    if let Some(folder) = settings.path.parent() {
        fs::create_dir_all(folder).map_err(|why| refused(&why))?;
    }
    // What operators wrote may hold credentials. The files that SQLite puts beside it get the same permissions.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&settings.path)
        .map_err(|why| refused(&why))?;
    let mut db = Connection::open(&settings.path).map_err(failed)?;
    // Whoever waits is told before he gives up.
    db.busy_timeout(settings.timeout * 3 / 4).map_err(failed)?;
    let mode: String = db
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(refused(&"its folder cannot hold a write-ahead log"));
    }
    db.pragma_update(None, "synchronous", "FULL")
        .map_err(failed)?;
    let tx = begin(&mut db)?;
    let version: u32 = tx
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    match version {
        0 => {
            tx.execute_batch(SCHEMA).map_err(failed)?;
            tx.pragma_update(None, "user_version", SCHEMA_VERSION)
                .map_err(failed)?;
        }
        SCHEMA_VERSION => {}
        other => {
            return Err(refused(&format!(
                "schema version {other} is newer than {SCHEMA_VERSION}"
            )));
        }
    }
    tx.commit().map_err(failed)?;
    Ok(db)
}

/// Nobody else writes until it ends.
fn begin(db: &mut Connection) -> Result<Transaction<'_>> {
    db.transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)
}

/// The next revision. One row for all keys, so versions rise through deletes.
fn raise(tx: &Transaction<'_>) -> Result<i64> {
    let raise = "UPDATE revision SET last = last + 1 RETURNING last";
    tx.query_row(raise, [], |row| row.get(0)).map_err(failed)
}

/// Of what lives at a key.
fn version(tx: &Transaction<'_>, key: &str, now: &Now) -> Result<Option<Version>> {
    let version = format!("SELECT version FROM record WHERE {LIVES} AND key = ?3");
    let mut version = tx.prepare_cached(&version).map_err(failed)?;
    version
        .query_row(params![now.boot, now.ms, key], |row| row.get(0))
        .optional()
        .map(|version| version.map(|v| Version(unsigned(v))))
        .map_err(failed)
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        key: row.get(0)?,
        value: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        version: Version(unsigned(row.get(2)?)),
    })
}

/// First key under a path, and the first behind it.
fn range(prefix: &str) -> (String, String) {
    // `0` follows `/`.
    let end = prefix.strip_suffix('/').unwrap_or(prefix);
    (prefix.to_owned(), format!("{end}0"))
}

fn failed(error: rusqlite::Error) -> StoreError {
    use ErrorCode::*;
    match error.sqlite_error_code() {
        Some(
            DatabaseBusy
            | DatabaseLocked
            | SystemIoFailure
            | OutOfMemory
            | FileLockingProtocolFailed,
        ) => StoreError::Unreachable(error.to_string()),
        _ => StoreError::Refused(error.to_string()),
    }
}

fn refused<T: Send + 'static>(why: StoreError) -> BoxFuture<'static, Result<T>> {
    futures_util::future::ready(Err(why)).boxed()
}

fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

fn signed(version: Version) -> i64 {
    i64::try_from(version.0).unwrap_or(i64::MAX)
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
