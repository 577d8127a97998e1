//! A store in memory, under virtual time, with everything that can go wrong between a client and it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_util::future::BoxFuture;
use glasswatch::router::store::{
    COMMIT_ITEMS, Guard, Hold, Record, Result, Store, StoreError, VALUE_BYTES, Version, Write,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// How long a client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is wrong with the store as a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    pub up: bool,
    /// Mean delay of an operation.
    pub delay: Duration,
    /// Share of the operations that fail, half of them after they were done.
    pub errors: f64,
    /// Share of the watches that see nothing until their patience ends.
    pub deaf: f64,
}

pub const FAIR: Weather = Weather {
    up: true,
    delay: Duration::from_millis(5),
    errors: 0.0,
    deaf: 0.0,
};

/// A mistake in the store, to show that the oracle sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Commits are made whatever their guards say.
    IgnoresGuards,
}

/// Told of every value that is written: who, key, value before, value after.
pub type Eye = Box<dyn FnMut(&str, &str, Option<&[u8]>, Option<&[u8]>, &Content) + Send>;

#[derive(Clone)]
struct Held {
    key: String,
    until: Instant,
    ttl: Duration,
}

#[derive(Clone, Default)]
pub struct Content {
    records: BTreeMap<String, (Bytes, u64, Option<u64>)>,
    holds: BTreeMap<u64, Held>,
}

impl Content {
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key).map(|(value, ..)| &value[..])
    }

    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> + 'a {
        let from = self.records.range(prefix.to_owned()..);
        let here = from.take_while(move |(key, _)| key.starts_with(prefix));
        here.map(|(key, (value, ..))| (key.as_str(), &value[..]))
    }
}

struct Inner {
    content: Content,
    counter: u64,
    /// Counter of the last change under the first part of a path.
    changed: BTreeMap<String, u64>,
    weather: Weather,
    /// Clients that reach nothing, and clients that hear nothing back.
    cut: BTreeSet<Arc<str>>,
    mute: BTreeSet<Arc<str>>,
    rng: Rng,
    flaw: Flaw,
    eye: Option<Eye>,
    operations: u64,
    /// Outages so far: what was on its way is lost with them.
    outages: u64,
}

pub struct Memory {
    inner: Mutex<Inner>,
    notify: Notify,
}

fn room(key: &str) -> String {
    key.split_inclusive('/').next().unwrap_or(key).to_owned()
}

impl Memory {
    pub fn new(seed: u64, flaw: Flaw) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                content: Content::default(),
                counter: 0,
                changed: BTreeMap::new(),
                weather: FAIR,
                cut: BTreeSet::new(),
                mute: BTreeSet::new(),
                rng: Rng::with_seed(seed),
                flaw,
                eye: None,
                operations: 0,
                outages: 0,
            }),
            notify: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn client(self: &Arc<Self>, name: &str) -> Arc<Client> {
        Arc::new(Client {
            memory: Arc::clone(self),
            name: name.into(),
            seen: Mutex::default(),
        })
    }

    pub fn watch(&self, eye: Eye) {
        self.lock().eye = Some(eye);
    }

    pub fn weather(&self, weather: Weather) {
        let mut inner = self.lock();
        inner.outages += u64::from(!weather.up);
        inner.weather = weather;
    }

    /// Nothing that the client sends arrives, or nothing comes back.
    pub fn cut(&self, client: &str, answers_only: bool) {
        let mut inner = self.lock();
        let set = if answers_only {
            &mut inner.mute
        } else {
            &mut inner.cut
        };
        set.insert(client.into());
    }

    pub fn heal(&self, client: &str) {
        let mut inner = self.lock();
        inner.cut.remove(client);
        inner.mute.remove(client);
    }

    pub fn content(&self) -> Content {
        self.lock().content.clone()
    }

    pub fn with<T>(&self, read: impl FnOnce(&Content) -> T) -> T {
        read(&self.lock().content)
    }

    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Puts an older content in place; registrations in it live on for their time.
    pub fn restore(&self, mut old: Content) {
        let mut inner = self.lock();
        for held in old.holds.values_mut() {
            held.until = Instant::now() + held.ttl;
        }
        inner.content = old;
        inner.counter += 1;
        let counter = inner.counter;
        for room in ["plan/", "stream/", "inst/", "own/", "alert/", "load/"] {
            inner.changed.insert(room.to_owned(), counter);
        }
        drop(inner);
        self.notify.notify_waiters();
    }

    /// Ends registrations whose time is up, for ever. To be run beside everything else.
    pub async fn reap(&self) {
        loop {
            sleep(Duration::from_millis(500)).await;
            if self.lock().expire() {
                self.notify.notify_waiters();
            }
        }
    }
}

impl Inner {
    fn put(&mut self, who: &str, key: &str, value: Option<Bytes>, token: Option<u64>) -> u64 {
        self.counter += 1;
        let counter = self.counter;
        self.changed.insert(room(key), counter);
        let before = match &value {
            Some(value) => {
                let entry = (value.clone(), counter, token);
                self.content.records.insert(key.to_owned(), entry)
            }
            None => self.content.records.remove(key),
        };
        if let Some(mut eye) = self.eye.take() {
            let before = before.as_ref().map(|(v, ..)| &v[..]);
            eye(who, key, before, value.as_deref(), &self.content);
            self.eye = Some(eye);
        }
        counter
    }

    fn expire(&mut self) -> bool {
        let now = Instant::now();
        let over = self.content.holds.iter().filter(|(_, h)| h.until <= now);
        let over: Vec<(u64, String)> = over.map(|(t, h)| (*t, h.key.clone())).collect();
        for (token, key) in &over {
            self.content.holds.remove(token);
            self.put("store", key, None, None);
        }
        !over.is_empty()
    }

    fn version(&self, key: &str) -> Option<Version> {
        let (_, counter, token) = self.content.records.get(key)?;
        Some(Version(token.unwrap_or(*counter)))
    }

    fn register(&mut self, who: &str, key: &str, value: Bytes, ttl: Duration) -> Result<Hold> {
        if self.content.records.contains_key(key) {
            return Err(StoreError::Taken(key.to_owned()));
        }
        // The term is the counter at which the key was made, and its token too.
        let token = self.counter + 1;
        let until = Instant::now() + ttl;
        let held = Held {
            key: key.to_owned(),
            until,
            ttl,
        };
        self.content.holds.insert(token, held);
        self.put(who, key, Some(value), Some(token));
        Ok(Hold {
            key: key.to_owned(),
            term: Version(token),
            token,
        })
    }

    fn heartbeat(&mut self, who: &str, hold: &Hold, value: Option<Bytes>) -> Result<()> {
        let Some(held) = self.content.holds.get_mut(&hold.token) else {
            return Err(StoreError::Lost(hold.key.clone()));
        };
        held.until = Instant::now() + held.ttl;
        if let Some(value) = value {
            self.put(who, &hold.key, Some(value), Some(hold.token));
        }
        Ok(())
    }

    fn commit(&mut self, who: &str, guards: &[Guard], writes: &[Write]) -> Result<Vec<Version>> {
        let count = guards.len() + writes.len();
        let large = |w: &Write| matches!(w, Write::Put(_, v) if v.len() > VALUE_BYTES);
        if count > COMMIT_ITEMS || writes.iter().any(large) {
            return Err(StoreError::Invalid(format!("{count} items")));
        }
        if self.flaw != Flaw::IgnoresGuards
            && let Some(guard) = guards.iter().find(|g| self.version(&g.key) != g.version)
        {
            return Err(StoreError::Conflict(guard.key.clone()));
        }
        let mut versions = Vec::new();
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    let counter = self.put(who, key, Some(value.clone()), None);
                    versions.push(Version(counter));
                }
                Write::Delete(key) => {
                    if self.content.records.contains_key(key) {
                        self.put(who, key, None, None);
                    }
                }
            }
        }
        Ok(versions)
    }
}

pub struct Client {
    memory: Arc<Memory>,
    name: Arc<str>,
    seen: Mutex<BTreeMap<String, u64>>,
}

fn unreachable<T>() -> Result<T> {
    Err(StoreError::Unreachable("no answer".into()))
}

impl Client {
    /// Does it in the store, or not, with what lies between.
    async fn across<T, F>(&self, mut act: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Inner, &str) -> Result<T> + Send + 'static,
    {
        let (reaches, delay, fails, late) = {
            let mut inner = self.memory.lock();
            inner.operations += 1;
            let weather = inner.weather;
            let delay = weather.delay.mul_f64(2.0 * inner.rng.f64());
            let fails = inner.rng.f64() < weather.errors;
            let reaches = weather.up && !inner.cut.contains(&self.name);
            (reaches, delay, fails, inner.rng.bool())
        };
        if !reaches || (fails && !late) {
            sleep(if fails { delay } else { TIMEOUT }).await;
            return unreachable();
        }
        if delay > TIMEOUT {
            // Given up, and half of the time it arrives all the same, some time later.
            if late {
                let (memory, name) = (Arc::clone(&self.memory), Arc::clone(&self.name));
                let outages = memory.lock().outages;
                tokio::spawn(async move {
                    sleep(delay * 3).await;
                    let mut inner = memory.lock();
                    if inner.weather.up && inner.outages == outages {
                        inner.expire();
                        let _ = act(&mut inner, &name);
                    }
                    drop(inner);
                    memory.notify.notify_waiters();
                });
            }
            sleep(TIMEOUT).await;
            return unreachable();
        }
        sleep(delay).await;
        let (done, hears, changed) = {
            let mut inner = self.memory.lock();
            let counter = inner.counter;
            let (done, hears) = if !inner.weather.up || inner.cut.contains(&self.name) {
                (unreachable(), true)
            } else {
                inner.expire();
                let hears = !fails && !inner.mute.contains(&self.name);
                (act(&mut inner, &self.name), hears)
            };
            (done, hears, inner.counter != counter)
        };
        if changed {
            self.memory.notify.notify_waiters();
        }
        if !hears {
            sleep(TIMEOUT - delay).await;
            return unreachable();
        }
        done
    }
}

impl Store for Client {
    fn register(&self, key: &str, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<Hold>> {
        let key = key.to_owned();
        Box::pin(self.across(move |inner, who| inner.register(who, &key, value.clone(), ttl)))
    }

    fn heartbeat(&self, hold: &Hold, value: Option<Bytes>) -> BoxFuture<'_, Result<()>> {
        let hold = hold.clone();
        Box::pin(self.across(move |inner, who| inner.heartbeat(who, &hold, value.clone())))
    }

    fn leave(&self, hold: Hold) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.across(move |inner, who| {
            if inner.content.holds.remove(&hold.token).is_some() {
                inner.put(who, &hold.key, None, None);
            }
            Ok(())
        }))
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>> {
        let key = key.to_owned();
        Box::pin(self.across(move |inner, _| {
            let found = inner.content.records.get(&key);
            Ok(found.map(|(value, counter, _)| Record {
                key: key.clone(),
                value: value.clone(),
                version: Version(*counter),
            }))
        }))
    }

    fn scan(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Record>>> {
        let prefix = prefix.to_owned();
        Box::pin(self.across(move |inner, _| {
            let from = inner.content.records.range(prefix.clone()..);
            let here = from.take_while(|(key, _)| key.starts_with(&prefix));
            let records = here.map(|(key, (value, counter, _))| Record {
                key: key.clone(),
                value: value.clone(),
                version: Version(*counter),
            });
            Ok(records.collect())
        }))
    }

    fn commit(
        &self,
        guards: Vec<Guard>,
        writes: Vec<Write>,
    ) -> BoxFuture<'_, Result<Vec<Version>>> {
        Box::pin(self.across(move |inner, who| inner.commit(who, &guards, &writes)))
    }

    fn changes(&self, prefix: &str, patience: Duration) -> BoxFuture<'_, Result<()>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            let deaf = {
                let mut inner = self.memory.lock();
                let share = inner.weather.deaf;
                inner.rng.f64() < share
            };
            if deaf {
                sleep(patience).await;
                return Ok(());
            }
            let waits = async {
                loop {
                    // Listening before looking, so that nothing falls in between.
                    let heard = self.memory.notify.notified();
                    tokio::pin!(heard);
                    heard.as_mut().enable();
                    let (now, reaches) = {
                        let inner = self.memory.lock();
                        let reaches = inner.weather.up && !inner.cut.contains(&self.name);
                        let now = inner.changed.get(&prefix).copied().unwrap_or(0);
                        (now, reaches)
                    };
                    if !reaches {
                        sleep(TIMEOUT).await;
                        return unreachable();
                    }
                    let last = self.seen.lock().unwrap().insert(prefix.clone(), now);
                    if last.unwrap_or(0) < now {
                        return Ok(());
                    }
                    heard.await;
                }
            };
            let waited = timeout(patience, waits).await;
            waited.unwrap_or(Ok(()))
        })
    }
}
