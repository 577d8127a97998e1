//! What instances and routers share: a few operations that every engine can give.
//!
//! Keys are paths of `[a-z0-9._~-]` parts joined by `/`, values at most [`VALUE_BYTES`]. Exclusion is for speed, not
//! for safety: who holds a key may have lost it without knowing, so what must not be overwritten is guarded by
//! [`Guard`]s on every commit.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Longest value, in bytes: DynamoDB's item limit of 400 KB with room for the key and what it is wrapped in.
pub const VALUE_BYTES: usize = 300_000;
/// Most guards and writes of a commit together: DynamoDB's limit is 100 items, etcd's 128 operations.
pub const COMMIT_ITEMS: usize = 90;

/// Of a key. Rises with every write of that key, also after it was deleted and made anew; versions of different keys do
/// not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A key with what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its path.
    pub key: String,
    /// What was written last.
    pub value: Bytes,
    /// Of this value.
    pub version: Version,
}

/// What must hold for a commit to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// A key, of a record or a registration.
    pub key: String,
    /// Its version, `None` = it is not there. For a registration: the [`Hold::term`].
    pub version: Option<Version>,
}

/// A part of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The key has this value from now on.
    Put(String, Bytes),
    /// The key is gone.
    Delete(String),
}

/// A registration of this process: its key is there until it ends, and nobody else can take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The key.
    pub key: String,
    /// Stays the same through heartbeats, and is higher for whoever takes the key next: for [`Guard`]s.
    pub term: Version,
    /// How the engine knows it (a lease, a token).
    pub token: u64,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nobody answers, or there is no quorum. Nobody is at fault; try again later. Whether a commit was made is unknown.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// A guard does not hold. Read again.
    #[error("`{0}` has changed in between")]
    Conflict(String),
    /// Somebody else has registered the key, and is alive.
    #[error("`{0}` is held by another")]
    Taken(String),
    /// The registration has ended.
    #[error("the registration of `{0}` has ended")]
    Lost(String),
    /// The operator is at fault: credentials, permissions, a missing table, an unreadable file.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The caller is at fault: a value, a key or a commit beyond the limits.
    #[error("not storable: {0}")]
    Invalid(String),
}

/// What an operation gives.
pub type Result<T> = std::result::Result<T, StoreError>;

/// An engine. Every operation ends within the engine's timeout, with [`StoreError::Unreachable`] if nothing else.
pub trait Store: Send + Sync {
    /// Takes a key until `ttl` after the last heartbeat.
    ///
    /// # Errors
    /// [`StoreError::Taken`] while another's registration lives.
    fn register(&self, key: &str, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<Hold>>;

    /// Keeps a registration alive, with another value if one is given.
    ///
    /// # Errors
    /// [`StoreError::Lost`] when it has ended.
    fn heartbeat(&self, hold: &Hold, value: Option<Bytes>) -> BoxFuture<'_, Result<()>>;

    /// Ends a registration at once. One that has ended already is no error.
    fn leave(&self, hold: Hold) -> BoxFuture<'_, Result<()>>;

    /// What is at a key; of registrations only those that live.
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>>;

    /// Everything under a path that ends with `/`, by key; of registrations only those that live.
    fn scan(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Record>>>;

    /// Makes all writes if all guards hold, or none. Returns the versions of the values put, in their order.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a guard does not hold.
    fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>)
    -> BoxFuture<'_, Result<Vec<Version>>>;

    /// Waits until something under the path may have changed since the last call with the same path, at most for
    /// `patience`. May return early; who reads afterwards misses nothing.
    fn changes(&self, prefix: &str, patience: Duration) -> BoxFuture<'_, Result<()>>;
}
