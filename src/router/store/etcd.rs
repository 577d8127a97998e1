//! The store of a fleet that runs etcd.
//!
//! A registration is a key with a lease, written once, so that its version stays its term. What heartbeats write goes to
//! a second key beside it, with the same lease and `!` at its end: that sorts directly behind the first, and no key has it.
//!
//! Members may be as old as 3.4, which is known to renew leases that were revoked and to lose watch events after a
//! compaction. So a heartbeat looks for its key as well, and `changes` only ever says that it is time to read.

mod member;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, GetResponse, KeyValue,
    PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse, WatchOptions, WatchStream,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout, timeout_at};

use self::member::{Member, Trouble};
use super::{Guard, Hold, Record, Result, Store, StoreError, TIMEOUT, Version, Write, limits};
use crate::config::Secret;

/// How many keys a page of a scan has.
const PAGE_KEYS: i64 = 500;
/// Longest answer that is read, in bytes: a page of the longest values.
const ANSWER_BYTES: usize = PAGE_KEYS as usize * (super::VALUE_BYTES + 2 * super::KEY_BYTES);
/// How often a scan begins anew whose revision is compacted away under it.
const SCANS: u32 = 3;
/// Behind the key of a registration: what its heartbeats wrote.
const NEWS: char = '!';
/// Follows [`NEWS`].
const BEHIND_NEWS: char = '"';

/// Which members, and how they are called.
#[derive(Clone)]
pub struct Settings {
    /// `http://HOST:PORT` or `https://HOST:PORT` of every member, without user or password.
    pub endpoints: Vec<String>,
    /// Who we are, where etcd asks.
    pub user: Option<User>,
    /// Certificates that members' are signed with, as PEM; else the system's.
    pub ca_file: Option<PathBuf>,
    /// Of every key: `glasswatch/`.
    pub prefix: String,
    /// How long an operation may take, however many members are asked.
    pub timeout: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Endpoints are as somebody wrote them, perhaps with a password.
        f.debug_struct("Settings")
            .field("user", &self.user)
            .field("ca_file", &self.ca_file)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Who we are.
#[derive(Debug, Clone)]
pub struct User {
    /// As etcd knows it.
    pub name: String,
    /// Its password.
    pub password: Secret,
}

impl Settings {
    /// Without user, with the system's certificates and [`TIMEOUT`].
    pub fn new<T: Into<String>>(endpoints: impl IntoIterator<Item = T>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            ca_file: None,
            prefix: "glasswatch/".to_owned(),
            timeout: TIMEOUT,
        }
    }
}

/// Whether a question may be put twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It changes nothing, or nothing more the second time.
    Freely,
    /// Only when the first cannot have arrived.
    IfUnsent,
}

/// A cluster of etcd. Its connections live on the runtime that first asks something.
pub struct Etcd {
    members: Vec<Member>,
    /// The member that answered last.
    first: AtomicUsize,
    prefix: String,
    timeout: Duration,
    /// Revision up to which `changes` has told, by path.
    seen: Mutex<HashMap<String, i64>>,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Etcd").field(&self.members).finish()
    }
}

impl Etcd {
    /// Reads the certificates and checks the endpoints. Members are called when there is something to ask.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an endpoint or a file that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(Self {
            members: Member::all(settings)?,
            first: AtomicUsize::new(0),
            prefix: settings.prefix.clone(),
            timeout: settings.timeout,
            seen: Mutex::default(),
        })
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Asks the member that answered last, and the others when it does not.
    async fn ask<T, F>(&self, repeat: Repeat, question: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        let end = Instant::now() + self.timeout;
        let share = self.timeout / u32::try_from(self.members.len()).unwrap_or(1).max(1);
        let mut problem = StoreError::Unreachable("no endpoints".to_owned());
        for _ in 0..self.members.len() {
            let first = self.first.load(Ordering::Relaxed);
            let Some(member) = self.members.get(first % self.members.len()) else {
                break;
            };
            let until = match repeat {
                Repeat::Freely => end.min(Instant::now() + share),
                Repeat::IfUnsent => end,
            };
            let trouble = match timeout_at(until, member.ask(&question)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::unclear(format!("{member}: timeout")),
            };
            if !trouble.is_members_own {
                return Err(trouble.error);
            }
            // Unless somebody else has moved on already.
            let _ = self.first.compare_exchange(
                first,
                first.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            problem = trouble.error;
            if repeat == Repeat::IfUnsent && trouble.maybe_sent {
                break;
            }
        }
        Err(problem)
    }

    async fn transact(&self, repeat: Repeat, txn: Txn) -> Result<TxnResponse> {
        self.ask(repeat, |client| {
            let (mut kv, txn) = (client.kv_client(), txn.clone());
            async move { kv.txn(txn).await }
        })
        .await
    }

    async fn range(&self, from: &str, options: GetOptions) -> Result<GetResponse> {
        self.ask(Repeat::Freely, |client| {
            let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES);
            let (from, options) = (from.to_owned(), options.clone());
            async move { kv.get(from, Some(options)).await }
        })
        .await
    }

    /// Ends a lease, with what hangs on it.
    async fn revoke(&self, lease: i64) -> Result<()> {
        let revoked = self.ask(Repeat::Freely, |client| {
            let mut leases = client.lease_client();
            async move { leases.revoke(lease).await }
        });
        match revoked.await {
            Ok(_) | Err(StoreError::Lost(_)) => Ok(()),
            Err(why) => Err(why),
        }
    }

    async fn put_registration(&self, key: String, value: Bytes, ttl: Duration) -> Result<Hold> {
        let secs = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let granted = self
            .ask(Repeat::Freely, |client| {
                let mut leases = client.lease_client();
                async move { leases.grant(secs.max(1), None).await }
            })
            .await?;
        let (lease, path) = (granted.id(), self.path(&key));
        let put = PutOptions::new().with_lease(lease);
        let txn = Txn::new()
            .when([Compare::create_revision(path.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(path, Vec::from(value), Some(put))]);
        let done = self.transact(Repeat::IfUnsent, txn).await;
        let term = match done {
            Ok(done) if done.succeeded() => revision(done.header())?,
            Ok(_) => {
                // Else it would go by itself.
                let _ = self.revoke(lease).await;
                return Err(StoreError::Taken(key));
            }
            Err(StoreError::Lost(_)) => {
                return Err(StoreError::Unreachable(
                    "its lease ended at once".to_owned(),
                ));
            }
            // If it was made it ends with its lease.
            Err(why) => return Err(why),
        };
        Ok(Hold {
            key,
            term: Version(unsigned(term)),
            token: lease.cast_unsigned(),
        })
    }

    async fn renew(&self, hold: Hold, value: Option<Bytes>) -> Result<()> {
        let lease = hold.token.cast_signed();
        let lost = |why| match why {
            StoreError::Lost(_) => StoreError::Lost(hold.key.clone()),
            other => other,
        };
        self.ask(Repeat::Freely, |client| {
            let mut leases = client.lease_client();
            async move { leases.keep_alive(lease).await.map(drop) }
        })
        .await
        .map_err(lost)?;
        let path = self.path(&hold.key);
        let same = Compare::mod_revision(path.clone(), CompareOp::Equal, signed(hold.term));
        let op = match value {
            Some(value) => TxnOp::put(
                format!("{path}{NEWS}"),
                Vec::from(value),
                Some(PutOptions::new().with_lease(lease)),
            ),
            None => TxnOp::get(path, Some(GetOptions::new().with_keys_only())),
        };
        let txn = Txn::new().when([same]).and_then([op]);
        let done = self.transact(Repeat::Freely, txn).await.map_err(lost)?;
        match done.succeeded() {
            true => Ok(()),
            false => Err(StoreError::Lost(hold.key)),
        }
    }

    async fn scan_once(&self, prefix: &str) -> Result<Option<Vec<Record>>> {
        let (mut from, to) = (self.path(prefix), self.behind(prefix));
        let (mut found, mut at) = (Vec::new(), 0);
        loop {
            let page = GetOptions::new()
                .with_range(to.clone())
                .with_limit(PAGE_KEYS)
                .with_revision(at);
            let mut page = match self.range(&from, page).await {
                // Compacted away while its pages were read.
                Err(StoreError::Conflict(_)) if at > 0 => return Ok(None),
                other => other?,
            };
            at = revision(page.header())?;
            let more = page.more();
            found.append(&mut page.take_kvs());
            match found.last() {
                // Nothing is between a key and the key with a zero byte.
                Some(last) if more => from = format!("{}\0", last.key_str().map_err(odd)?),
                _ => return self.records(found).map(Some),
            }
        }
    }

    /// Keys with their values, in their order; what heartbeats wrote stands for what the registration began with.
    fn records(&self, found: Vec<KeyValue>) -> Result<Vec<Record>> {
        let mut records: Vec<Record> = Vec::with_capacity(found.len());
        let mut lease = 0;
        for pair in found {
            let of = pair.lease();
            let version = Version(unsigned(pair.mod_revision()));
            let (key, value) = pair.into_key_value();
            let key = String::from_utf8(key).map_err(|_| odd(""))?;
            let Some(key) = key.strip_prefix(&self.prefix) else {
                continue;
            };
            let value = Bytes::from(value);
            match key.strip_suffix(NEWS) {
                Some(key) => {
                    if let Some(last) = records.last_mut()
                        && last.key == key
                        && lease == of
                    {
                        last.value = value;
                    }
                }
                None => {
                    lease = of;
                    records.push(Record {
                        key: key.to_owned(),
                        value,
                        version,
                    });
                }
            }
        }
        Ok(records)
    }

    /// The first key behind a path.
    fn behind(&self, prefix: &str) -> String {
        // `0` follows `/`.
        format!("{}0", self.path(prefix.strip_suffix('/').unwrap_or(prefix)))
    }

    async fn write(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Vec<Version>> {
        let compare = |guard: &Guard| {
            let (path, version) = (self.path(&guard.key), guard.version.map_or(0, signed));
            // Of what is not there it is 0.
            Compare::mod_revision(path, CompareOp::Equal, version)
        };
        let look = |guard: &Guard| {
            let keys_only = GetOptions::new().with_keys_only();
            TxnOp::get(self.path(&guard.key), Some(keys_only))
        };
        let puts = writes.iter().filter(|w| matches!(w, Write::Put(..)));
        let puts = puts.count();
        let write = |write| match write {
            Write::Put(key, value) => TxnOp::put(self.path(&key), Vec::from(value), None),
            Write::Delete(key) => {
                let path = self.path(&key);
                let with_news = DeleteOptions::new().with_range(format!("{path}{BEHIND_NEWS}"));
                TxnOp::delete(path, Some(with_news))
            }
        };
        let txn = Txn::new()
            .when(guards.iter().map(compare).collect::<Vec<_>>())
            .and_then(writes.into_iter().map(write).collect::<Vec<_>>())
            .or_else(guards.iter().map(look).collect::<Vec<_>>());
        let done = self.transact(Repeat::IfUnsent, txn).await?;
        if done.succeeded() {
            let version = Version(unsigned(revision(done.header())?));
            return Ok(vec![version; puts]);
        }
        let found = done.op_responses().into_iter().map(|found| match found {
            TxnOpResponse::Get(found) => found.kvs().first().map(KeyValue::mod_revision),
            _ => None,
        });
        let mut changed = guards.into_iter().zip(found);
        let changed = changed.find(|(guard, found)| guard.version.map(signed) != *found);
        let key = changed.map(|(guard, _)| guard.key);
        Err(StoreError::Conflict(key.unwrap_or_default()))
    }

    /// Opens a watch from a revision on.
    async fn watch(&self, prefix: &str, from: i64) -> Result<WatchStream> {
        let (key, to) = (self.path(prefix), self.behind(prefix));
        self.ask(Repeat::Freely, |client| {
            let mut watches = client.watch_client();
            let options = WatchOptions::new()
                .with_range(to.clone())
                .with_start_revision(from);
            let key = key.clone();
            async move { watches.watch(key, Some(options)).await }
        })
        .await
    }

    async fn wait(&self, prefix: &str, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        let seen = self.seen().get(prefix).copied();
        let Some(seen) = seen else {
            let now = GetOptions::new().with_count_only();
            let now = self.range(&self.path(prefix), now).await?;
            let now = revision(now.header())?;
            self.seen().insert(prefix.to_owned(), now);
            return Ok(());
        };
        let mut stream = self.watch(prefix, seen + 1).await?;
        loop {
            let news = match timeout_at(end, stream.message()).await {
                Err(_) => return Ok(()),
                Ok(Ok(Some(news))) => news,
                // Ended by the member: it has no leader, or stops.
                Ok(Ok(None)) => return Err(StoreError::Unreachable("a watch ended".to_owned())),
                Ok(Err(why)) => return Err(Trouble::of("watch", &why).error),
            };
            if news.canceled() {
                // Most likely compacted away. Whoever reads now misses nothing.
                self.seen().remove(prefix);
                return Ok(());
            }
            if !news.events().is_empty() {
                let at = revision(news.header())?;
                self.seen().insert(prefix.to_owned(), at);
                return Ok(());
            }
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<String, i64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each question has the timeout; so have several together.
    async fn within<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        match timeout(self.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unreachable("timeout".to_owned())),
        }
    }
}

impl Store for Etcd {
    fn register(&self, key: &str, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<Hold>> {
        let checked = limits::key(key).and_then(|()| limits::value(&value));
        let key = key.to_owned();
        async move {
            checked?;
            self.within(self.put_registration(key, value, ttl)).await
        }
        .boxed()
    }

    fn heartbeat(&self, hold: &Hold, value: Option<Bytes>) -> BoxFuture<'_, Result<()>> {
        let checked = value.as_ref().map_or(Ok(()), limits::value);
        let hold = hold.clone();
        async move {
            checked?;
            self.within(self.renew(hold, value)).await
        }
        .boxed()
    }

    fn leave(&self, hold: Hold) -> BoxFuture<'_, Result<()>> {
        self.revoke(hold.token.cast_signed()).boxed()
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>> {
        let (checked, path) = (limits::key(key), self.path(key));
        async move {
            checked?;
            let with_news = GetOptions::new().with_range(format!("{path}{BEHIND_NEWS}"));
            let mut found = self.range(&path, with_news).await?;
            Ok(self.records(found.take_kvs())?.into_iter().next())
        }
        .boxed()
    }

    fn scan(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Record>>> {
        let (checked, prefix) = (limits::prefix(prefix), prefix.to_owned());
        async move {
            checked?;
            for _ in 0..SCANS {
                if let Some(found) = self.scan_once(&prefix).await? {
                    return Ok(found);
                }
            }
            Err(StoreError::Unreachable("compacted too often".to_owned()))
        }
        .boxed()
    }

    fn commit(
        &self,
        guards: Vec<Guard>,
        writes: Vec<Write>,
    ) -> BoxFuture<'_, Result<Vec<Version>>> {
        let checked = limits::commit(&guards, &writes);
        async move {
            checked?;
            self.write(guards, writes).await
        }
        .boxed()
    }

    fn changes(&self, prefix: &str, patience: Duration) -> BoxFuture<'_, Result<()>> {
        let (checked, prefix) = (limits::prefix(prefix), prefix.to_owned());
        async move {
            checked?;
            self.wait(&prefix, patience).await
        }
        .boxed()
    }
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> Result<i64> {
    header
        .map(etcd_client::ResponseHeader::revision)
        .ok_or_else(|| odd("no header"))
}

/// An answer that etcd does not give.
fn odd<E>(_: E) -> StoreError {
    StoreError::Unreachable("an odd answer".to_owned())
}

fn signed(version: Version) -> i64 {
    i64::try_from(version.0).unwrap_or(i64::MAX)
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}
