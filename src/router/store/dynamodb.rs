//! The store of a fleet on Amazon: one table of DynamoDB.
//!
//! The service knows no leases. A registration counts its heartbeats in its item; whoever sees the same count for the
//! whole time to live, by a clock of his own, takes it for ended. Whoever registered stops on his own a little earlier:
//! his time begins before a heartbeat is sent, theirs after it was seen. Clocks of two machines are never compared, and
//! an observer that has just begun to look takes everyone for alive.
//!
//! There is no watch either: each first part of a key has a counter, raised after every commit, which `changes` polls.
//!
//! The table has the keys `pk` and `sk`, both text; its time-to-live attribute is `x`.

mod item;
mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::config::Credentials;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use self::item::{Condition, State};
use self::table::{PAUSE, Table};
use super::{
    Clock, Guard, Hold, Record, Result, Store, StoreError, TIMEOUT, Version, Write, boot_clock,
    limits,
};
use crate::config::Secret;

/// How often counters and heartbeats are looked at.
pub const POLL: Duration = Duration::from_secs(2);
/// Registrations that ended this long ago are removed by whoever comes across them.
const BURY_AFTER: Duration = Duration::from_secs(600);
/// Removed in one scan at most.
const BURIALS: usize = 10;
/// Which table, and how it is called.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Region of the table.
    pub region: String,
    /// Name of the table.
    pub table: String,
    /// Instead of the region's own, for emulators and private endpoints.
    pub endpoint: Option<Secret>,
    /// Of every partition, so that fleets can share a table: `glasswatch/`.
    pub prefix: String,
    /// How long an operation may take.
    pub timeout: Duration,
    /// How often `changes` looks.
    pub poll: Duration,
}

impl Settings {
    /// The region's endpoint, [`TIMEOUT`] and [`POLL`].
    pub fn new(region: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            table: table.into(),
            endpoint: None,
            prefix: "glasswatch/".to_owned(),
            timeout: TIMEOUT,
            poll: POLL,
        }
    }
}

/// Another's registration as it was seen last.
struct Observed {
    version: u64,
    beat: u64,
    /// When it was first seen with this count.
    since: Duration,
}

/// A registration of ours.
struct Held {
    key: String,
    term: Version,
    ttl: Duration,
    /// Before its last heartbeat was sent.
    renewed: Duration,
}

impl Held {
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.renewed) >= self.ttl
    }
}

/// What a path looked like: its counter, and a digest of what is there if registrations are.
type Look = (u64, Option<u64>);

/// A part of a commit: what must hold of a key, what is written to it.
#[derive(Default)]
struct Step {
    guard: Option<Option<Version>>,
    write: Option<Write>,
}

/// A table of DynamoDB. Its connections live on the runtime that first asks something.
pub struct DynamoDb {
    table: Table,
    clock: Clock,
    observed: Mutex<HashMap<String, Observed>>,
    /// By [`Hold::token`].
    held: Mutex<HashMap<u64, Held>>,
    seen: Mutex<HashMap<String, Look>>,
}

impl fmt::Debug for DynamoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynamoDb")
            .field(&self.table.settings)
            .finish()
    }
}

impl DynamoDb {
    /// Checks the endpoint and builds the HTTP client. Credentials are asked for when there is something to sign.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an endpoint that cannot be used.
    pub fn new(settings: Settings) -> Result<Self> {
        Ok(Self {
            table: Table::new(settings)?,
            clock: boot_clock(),
            observed: Mutex::default(),
            held: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// The same with these credentials instead of the chain's.
    #[must_use]
    pub fn signing_with(mut self, credentials: Credentials) -> Self {
        self.table.credentials = Some(credentials);
        self
    }

    /// The same by another clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    fn now(&self) -> Duration {
        (self.clock)()
    }

    /// Whether there is something at a key, as far as can be told. `asked`: before it was read.
    fn lives(&self, key: &str, state: State, asked: Duration) -> bool {
        let mut observed = lock(&self.observed);
        match state {
            State::Value { .. } => true,
            State::Missing | State::Gone { .. } => {
                observed.remove(key);
                false
            }
            State::Registered { version, beat, ttl } => match observed.get(key) {
                Some(last) if (last.version, last.beat) == (version, beat) => {
                    asked.saturating_sub(last.since) < ttl
                }
                _ => {
                    let since = self.now();
                    let seen = Observed {
                        version,
                        beat,
                        since,
                    };
                    observed.insert(key.to_owned(), seen);
                    true
                }
            },
        }
    }

    async fn put_registration(&self, key: String, value: Bytes, ttl: Duration) -> Result<Hold> {
        let asked = self.now();
        let state = State::of(self.table.read(&key).await?.as_ref());
        if self.lives(&key, state, asked) {
            return Err(StoreError::Taken(key));
        }
        let (version, owner) = (state.next(), fastrand::u64(1..1 << 53));
        let item = item::registration(self.table.place(&key), version, value, owner, ttl);
        let renewed = self.now();
        if !self.table.put(item, state.untouched()).await? {
            return Err(StoreError::Taken(key));
        }
        let term = Version(version);
        let held = Held {
            key: key.clone(),
            term,
            ttl,
            renewed,
        };
        // One that ended stays for `is_lapsed`; now its term is history.
        lock(&self.held).retain(|_, old| old.key != key);
        lock(&self.held).insert(owner, held);
        self.table.raise([key.as_str()]).await;
        Ok(Hold {
            key,
            term,
            token: owner,
        })
    }

    async fn renew(&self, hold: Hold, value: Option<Bytes>) -> Result<()> {
        let lost = || StoreError::Lost(hold.key.clone());
        let sent = self.now();
        let is_over = |held: &Held| held.is_over(sent);
        if lock(&self.held).get(&hold.token).is_none_or(is_over) {
            return Err(lost());
        }
        let renewed = self.table.beat(&hold, value).await?;
        match (renewed, lock(&self.held).get_mut(&hold.token)) {
            (true, Some(held)) => {
                held.renewed = sent;
                Ok(())
            }
            _ => Err(lost()),
        }
    }

    async fn end(&self, hold: Hold) -> Result<()> {
        lock(&self.held).remove(&hold.token);
        let item = item::gone(self.table.place(&hold.key), hold.term.0 + 1);
        let condition = Condition::registration(hold.term, hold.token);
        if self.table.put(item, condition).await? {
            self.table.raise([hold.key.as_str()]).await;
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Record>> {
        let (first, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
        let (mut found, mut registered, mut ended) = (Vec::new(), HashSet::new(), Vec::new());
        let mut from = None;
        loop {
            let asked = self.now();
            let page = self.table.page(first, rest, from).await?;
            for item in page.items.unwrap_or_default() {
                let key = self.table.key(&item);
                // The item of the path's own name is not under it.
                let Some(key) = key.filter(|key| key.starts_with(prefix)) else {
                    continue;
                };
                let state = State::of(Some(&item));
                let lives = self.lives(&key, state, asked);
                if let State::Registered { .. } = state {
                    registered.insert(key.clone());
                    if !lives {
                        ended.push((key.clone(), state));
                    }
                }
                if lives {
                    found.push(item::record(key, item));
                }
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                break;
            }
        }
        lock(&self.observed).retain(|key, _| !key.starts_with(prefix) || registered.contains(key));
        self.bury(ended).await;
        Ok(found)
    }

    /// Removes registrations that ended long ago: nobody else does.
    async fn bury(&self, ended: Vec<(String, State)>) {
        let now = self.now();
        let is_old = |key: &str| {
            let observed = lock(&self.observed);
            observed
                .get(key)
                .is_some_and(|last| now.saturating_sub(last.since) >= BURY_AFTER)
        };
        for (key, state) in ended
            .into_iter()
            .filter(|(key, _)| is_old(key))
            .take(BURIALS)
        {
            let item = item::gone(self.table.place(&key), state.next());
            // The next scan tries again.
            if self.table.put(item, state.untouched()).await.is_err() {
                return;
            }
        }
    }

    async fn write(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Vec<Version>> {
        let order: Vec<String> = (writes.iter())
            .filter(|write| matches!(write, Write::Put(..)))
            .map(|write| write.key().to_owned())
            .collect();
        let mut steps: BTreeMap<String, Step> = BTreeMap::new();
        for guard in guards {
            if self.is_lapsed(&guard) {
                return Err(StoreError::Conflict(guard.key));
            }
            steps.entry(guard.key).or_default().guard = Some(guard.version);
        }
        for write in writes {
            let step = steps.entry(write.key().to_owned()).or_default();
            step.write = Some(write);
        }
        let mut pause = PAUSE;
        loop {
            if let Some(put) = self.try_write(&steps).await? {
                self.table
                    .raise(
                        (steps.iter())
                            .filter(|(_, s)| s.write.is_some())
                            .map(|(k, _)| &**k),
                    )
                    .await;
                let versions = order.iter().filter_map(|key| put.get(key.as_str()));
                return Ok(versions.copied().collect());
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause *= 2;
        }
    }

    /// Whether a guard is about a registration of ours that we have let end, though nobody may have taken it yet.
    fn is_lapsed(&self, guard: &Guard) -> bool {
        let now = self.now();
        lock(&self.held).values().any(|held| {
            held.key == guard.key && Some(held.term) == guard.version && held.is_over(now)
        })
    }

    /// `None`: others wrote to what is not guarded.
    async fn try_write<'a>(
        &self,
        steps: &'a BTreeMap<String, Step>,
    ) -> Result<Option<HashMap<&'a str, Version>>> {
        let asked = self.now();
        let unknown = steps
            .iter()
            .filter(|(_, step)| !matches!(step.guard, Some(Some(_))));
        let states = self
            .table
            .states(unknown.map(|(key, _)| key.as_str()).collect())
            .await?;
        let (mut items, mut names, mut put) = (Vec::new(), Vec::new(), HashMap::new());
        for (key, step) in steps {
            let state = match step.guard {
                Some(Some(version)) => State::Value { version: version.0 },
                _ => states.get(key).copied().unwrap_or(State::Missing),
            };
            let condition = match step.guard {
                Some(None) if self.lives(key, state, asked) => {
                    return Err(StoreError::Conflict(key.clone()));
                }
                Some(None) => state.untouched(),
                _ => state.unwritten(),
            };
            let item = match &step.write {
                Some(Write::Put(_, value)) => {
                    put.insert(key.as_str(), Version(state.next()));
                    item::value(self.table.place(key), state.next(), value.clone())
                }
                Some(Write::Delete(_)) if !matches!(state, State::Missing | State::Gone { .. }) => {
                    item::gone(self.table.place(key), state.next())
                }
                // Nothing to delete, and nothing to watch over.
                Some(Write::Delete(_)) if step.guard.is_none() => continue,
                _ => {
                    items.push(self.table.check_of(key, &condition)?);
                    names.push((key, step.guard.is_some()));
                    continue;
                }
            };
            if steps.len() == 1 {
                return match (self.table.put(item, condition).await?, step.guard) {
                    (true, _) => Ok(Some(put)),
                    (false, Some(_)) => Err(StoreError::Conflict(key.clone())),
                    (false, None) => Ok(None),
                };
            }
            items.push(self.table.put_of(item, &condition)?);
            names.push((key, step.guard.is_some()));
        }
        if items.is_empty() {
            return Ok(Some(put));
        }
        let Some(unmet) = self.table.transact(items).await? else {
            return Ok(Some(put));
        };
        let guarded = (unmet.into_iter().filter_map(|n| names.get(n))).find(|(_, guard)| *guard);
        match guarded {
            Some((key, _)) => Err(StoreError::Conflict((*key).clone())),
            None => Ok(None),
        }
    }

    async fn look(&self, prefix: &str) -> Result<Look> {
        let part = prefix.split('/').next().unwrap_or(prefix);
        let counter = self.table.count(part).await?;
        // Heartbeats raise no counter, and nobody tells when they cease. So registrations are best under a path of their
        // own: all of it is read each time.
        let observed = lock(&self.observed)
            .keys()
            .any(|key| key.starts_with(prefix));
        let digest = match observed {
            true => {
                let mut digest = DefaultHasher::new();
                for record in self.list(prefix).await? {
                    (record.key, record.version, record.value).hash(&mut digest);
                }
                Some(digest.finish())
            }
            false => None,
        };
        Ok((counter, digest))
    }
}

impl Store for DynamoDb {
    fn register(&self, key: &str, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<Hold>> {
        let checked = limits::key(key).and_then(|()| limits::value(&value));
        let key = key.to_owned();
        async move {
            checked?;
            self.table
                .within(self.put_registration(key, value, ttl))
                .await
        }
        .boxed()
    }

    fn heartbeat(&self, hold: &Hold, value: Option<Bytes>) -> BoxFuture<'_, Result<()>> {
        let checked = value.as_ref().map_or(Ok(()), limits::value);
        let hold = hold.clone();
        async move {
            checked?;
            self.renew(hold, value).await
        }
        .boxed()
    }

    fn leave(&self, hold: Hold) -> BoxFuture<'_, Result<()>> {
        self.table.within(self.end(hold)).boxed()
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>> {
        let (checked, key) = (limits::key(key), key.to_owned());
        async move {
            checked?;
            let asked = self.now();
            let found = self.table.read(&key).await?;
            let lives = self.lives(&key, State::of(found.as_ref()), asked);
            Ok(found.filter(|_| lives).map(|item| item::record(key, item)))
        }
        .boxed()
    }

    fn scan(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Record>>> {
        let (checked, prefix) = (limits::prefix(prefix), prefix.to_owned());
        async move {
            checked?;
            self.list(&prefix).await
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
            self.table.within(self.write(guards, writes)).await
        }
        .boxed()
    }

    fn changes(&self, prefix: &str, patience: Duration) -> BoxFuture<'_, Result<()>> {
        let (checked, prefix) = (limits::prefix(prefix), prefix.to_owned());
        async move {
            checked?;
            let end = Instant::now() + patience;
            loop {
                let look = self.look(&prefix).await?;
                let before = lock(&self.seen).insert(prefix.clone(), look);
                let left = end.saturating_duration_since(Instant::now());
                if before != Some(look) || left.is_zero() {
                    return Ok(());
                }
                sleep(left.min(self.table.settings.poll)).await;
            }
        }
        .boxed()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
