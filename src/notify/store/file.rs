//! The database file: how it is opened, checked, brought to the present schema, and put aside when it is damaged.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, TransactionBehavior};

use super::salvage::Salvage;
use super::{Aside, SCHEMA_VERSION};

/// How long a lock of another process (a shell, a backup) is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(2);
/// The write-ahead log is cut to this size when it was larger, bytes.
const LOG_BYTES: i64 = 16 << 20;

/// The n-th makes version n + 1 of version n. What was once released is never changed.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE incident (
        key TEXT NOT NULL,
        incarnation INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        over INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        doc TEXT NOT NULL,
        UNIQUE (key, incarnation)
    );
    CREATE INDEX incident_over ON incident (over, at_ms);
    CREATE INDEX incident_at ON incident (at_ms);
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        receiver TEXT NOT NULL,
        key TEXT NOT NULL,
        incarnation INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        news TEXT NOT NULL,
        body TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        maybe_sent INTEGER NOT NULL DEFAULT 0,
        dead_ms INTEGER,
        error TEXT,
        UNIQUE (receiver, key, incarnation, sequence)
    );
    CREATE INDEX outbox_dead ON outbox (dead_ms, receiver);
    CREATE TABLE mute (id TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE note (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        doc TEXT NOT NULL,
        UNIQUE (kind, id)
    );
    CREATE INDEX note_at ON note (at_ms);
"];

/// What kind of error it is, which says what may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No space: free some.
    Full,
    /// The file is damaged: begin another.
    Corrupt,
    /// The disk, the folder or a lock: open the file anew, for what a handle has written after a failed sync is unknown.
    Failing,
    /// This write itself: without it the others work.
    Odd,
}

/// Which of them an error is.
pub(super) fn trouble(error: &rusqlite::Error) -> Trouble {
    use ErrorCode::*;
    match error.sqlite_error_code() {
        Some(DiskFull) => Trouble::Full,
        Some(DatabaseCorrupt | NotADatabase) => Trouble::Corrupt,
        Some(
            SystemIoFailure
            | CannotOpen
            | ReadOnly
            | PermissionDenied
            | DatabaseBusy
            | DatabaseLocked
            | FileLockingProtocolFailed
            | OutOfMemory
            | NoLargeFileSupport,
        ) => Trouble::Failing,
        _ => Trouble::Odd,
    }
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    Folder(#[from] io::Error),
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("the file cannot be written")]
    ReadOnly,
    #[error("schema version {0} is newer than {SCHEMA_VERSION}")]
    Newer(u32),
    #[error("damaged: {0}")]
    Damaged(String),
}

impl OpenError {
    fn is_damage(&self) -> bool {
        match self {
            Self::Database(error) => trouble(error) == Trouble::Corrupt,
            Self::Damaged(_) => true,
            _ => false,
        }
    }
}

/// What is known of the file before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: it is read and checked.
    Check,
    /// It was sound a moment ago.
    Sound,
    /// It is damaged: begin another.
    Damaged,
}

/// A file in use.
pub(super) struct Opened {
    pub db: Connection,
    pub path: PathBuf,
    pub aside: Option<Aside>,
}

/// Opens the outbox of a folder, or begins one.
pub(super) fn open(
    folder: &Path,
    migrations: &[&str],
    trust: Trust,
    now: Timestamp,
) -> Result<Opened, OpenError> {
    fs::create_dir_all(folder)?;
    let ours = migrations.len();
    let usual = folder.join("outbox.sqlite");
    let own = folder.join(format!("outbox-v{ours}.sqlite"));
    let newer = |version: u32| Aside {
        path: usual.clone(),
        why: format!("its schema version {version} is newer than {ours}; it was left as it is"),
    };
    // Read without SQLite, which would write its log back into a file that is not to be touched.
    if let Some(version) = header_version(&usual)
        && version as usize > ours
    {
        let mut opened = sound(folder, own, migrations, trust, now)?;
        opened.aside.get_or_insert(newer(version));
        return Ok(opened);
    }
    match sound(folder, usual.clone(), migrations, trust, now) {
        Err(OpenError::Newer(version)) => {
            let mut opened = sound(folder, own, migrations, trust, now)?;
            opened.aside.get_or_insert(newer(version));
            Ok(opened)
        }
        other => other,
    }
}

/// Opens the file of a folder that cannot be written, to read what waits in it.
pub(super) fn peek(folder: &Path) -> Option<Connection> {
    let usual = folder.join("outbox.sqlite");
    let path = match header_version(&usual)? > SCHEMA_VERSION {
        true => folder.join(format!("outbox-v{SCHEMA_VERSION}.sqlite")),
        false => usual,
    };
    let mut url = url::Url::from_file_path(std::path::absolute(&path).ok()?).ok()?;
    // Without a log nothing else can be in use, and SQLite need not make files beside it.
    let has_log = fs::metadata(with_end(&path, "-wal")).is_ok_and(|log| log.len() > 0);
    url.set_query(Some(match has_log {
        true => "mode=ro",
        false => "mode=ro&immutable=1",
    }));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(url.as_str(), flags).ok()?;
    db.busy_timeout(BUSY).ok()?;
    Some(db)
}

/// Opens a file, or puts it aside and begins another with what can still be read.
fn sound(
    folder: &Path,
    path: PathBuf,
    migrations: &[&str],
    trust: Trust,
    now: Timestamp,
) -> Result<Opened, OpenError> {
    let problem = match trust {
        Trust::Damaged => OpenError::Damaged("found while it was in use".to_owned()),
        _ => match connect(&path, migrations, trust, now) {
            Ok(db) => {
                return Ok(Opened {
                    db,
                    path,
                    aside: None,
                });
            }
            Err(problem) if problem.is_damage() => problem,
            Err(problem) => return Err(problem),
        },
    };
    let moved = folder.join(format!("outbox.corrupt-{}.sqlite", now.as_millisecond()));
    for end in ["", "-wal", "-shm"] {
        match fs::rename(with_end(&path, end), with_end(&moved, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    File::open(folder)?.sync_all()?;
    let salvage = Salvage::of(&moved);
    let mut db = connect(&path, migrations, Trust::Sound, now)?;
    let saved = salvage.write(&mut db)?;
    Ok(Opened {
        db,
        path,
        aside: Some(Aside {
            path: moved,
            why: format!("{problem}; {saved} could be read and were taken over"),
        }),
    })
}

/// Puts what lies in the log into the file, and both on disk. A flush that failed may have dropped what it should have
/// written, and the next one would succeed without it: it has to be written anew.
pub(super) fn flush(db: &Connection) -> rusqlite::Result<()> {
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    match busy {
        0 => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            None,
        )),
    }
}

fn connect(
    path: &Path,
    migrations: &[&str],
    trust: Trust,
    now: Timestamp,
) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    if db.is_readonly(MAIN_DB)? {
        return Err(OpenError::ReadOnly);
    }
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // NORMAL would lose the last commits with the power.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", "ON")?;
    db.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
    let version: u32 = db.pragma_query_value(None, "user_version", |r| r.get(0))?;
    if version as usize > migrations.len() {
        return Err(OpenError::Newer(version));
    }
    if trust == Trust::Check {
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
        if verdict != "ok" {
            return Err(OpenError::Damaged(verdict));
        }
    }
    migrate(&mut db, migrations, version, now)?;
    Ok(db)
}

fn migrate(
    db: &mut Connection,
    migrations: &[&str],
    from: u32,
    now: Timestamp,
) -> rusqlite::Result<()> {
    if from as usize == migrations.len() {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in migrations.iter().skip(from as usize) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", migrations.len() as i64)?;
    if from == 0 {
        // Ids go on above those of any file before it, which couriers may still hold: a thousand for each millisecond.
        tx.execute(
            "INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', ?1)",
            [now.as_millisecond().saturating_mul(1000)],
        )?;
    }
    tx.commit()?;
    // The version goes into the file itself, where an older program looks for it.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// The schema version in the header of a database file: bytes 60 to 63, big-endian
/// (sqlite.org/fileformat2.html, 1.3).
fn header_version(path: &Path) -> Option<u32> {
    let mut header = [0; 64];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    let (magic, rest) = header.split_at_checked(16)?;
    let version = rest.get(44..48)?.try_into().ok()?;
    (magic == b"SQLite format 3\0").then(|| u32::from_be_bytes(version))
}

pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}
