//! Reads for the API, on a connection of their own, so that they never wait for the writer nor it for them.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::{Row, Shown, Stored, sql};

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk does not work: all there is is in memory.
    #[error("the outbox is in memory only")]
    NoFile,
    /// The database.
    #[error("the outbox cannot be read: {0}")]
    Database(#[from] rusqlite::Error),
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message.
    pub row: Row,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub error: String,
}

/// A read-only connection that follows the file in use.
#[derive(Debug)]
pub(super) struct Reader {
    shown: Arc<Shown>,
    open: Mutex<Option<(u64, Connection)>>,
}

impl Reader {
    pub fn new(shown: Arc<Shown>) -> Self {
        Self {
            shown,
            open: Mutex::default(),
        }
    }

    fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        let (number, path) = self.shown.file().clone();
        let path = path.ok_or(ReadError::NoFile)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let db = match open.take() {
            Some((of, db)) if of == number => db,
            _ => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let db = Connection::open_with_flags(path, flags)?;
                db.busy_timeout(super::file::BUSY)?;
                db
            }
        };
        // A connection that failed is not used again.
        let answer = read(&db)?;
        *open = Some((number, db));
        Ok(answer)
    }

    pub fn mutes(&self) -> Result<Vec<String>, ReadError> {
        self.with(sql::mutes)
    }

    pub fn notes(&self, kind: &str, limit: usize) -> Result<Vec<String>, ReadError> {
        self.with(|db| sql::notes(db, kind, limit))
    }

    pub fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        let letters = self.with(|db| sql::dead_letters(db, limit))?;
        let letters = letters.into_iter();
        Ok(letters
            .map(|(row, at, error)| DeadLetter { row, at, error })
            .collect())
    }

    pub fn incidents(
        &self,
        limit: usize,
        before: Option<Timestamp>,
    ) -> Result<Vec<Stored>, ReadError> {
        self.with(|db| sql::history(db, limit, before))
    }
}
