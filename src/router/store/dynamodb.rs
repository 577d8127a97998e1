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

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{Config, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, KeysAndAttributes, Put, TransactWriteItem,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use self::item::{Condition, Item, State, blob, number, text};
use super::{
    Clock, Guard, Hold, Record, Result, Store, StoreError, TIMEOUT, Version, Write, boot_clock,
    limits,
};
use crate::aws::{self, Connector, Failure};
use crate::config::Secret;

/// How often counters and heartbeats are looked at.
pub const POLL: Duration = Duration::from_secs(2);
/// The first pause before a question that the service had no time for is put again.
const PAUSE: Duration = Duration::from_millis(20);
/// Registrations that ended this long ago are removed by whoever comes across them.
const BURY_AFTER: Duration = Duration::from_secs(600);
/// Removed in one scan at most.
const BURIALS: usize = 10;
/// Partition of the counters; no key has a `#`.
const COUNTERS: &str = "#changes";
/// What says of an item all but its value.
const HEAD: &str = "pk, sk, v, h, l, x";

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
    settings: Settings,
    endpoint: Option<Url>,
    http: reqwest::Client,
    /// Instead of the chain's.
    credentials: Option<Credentials>,
    /// With the credentials of the chain as it was evaluated last.
    client: tokio::sync::Mutex<Option<Client>>,
    clock: Clock,
    observed: Mutex<HashMap<String, Observed>>,
    /// By [`Hold::token`].
    held: Mutex<HashMap<u64, Held>>,
    seen: Mutex<HashMap<String, Look>>,
}

impl fmt::Debug for DynamoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynamoDb").field(&self.settings).finish()
    }
}

impl DynamoDb {
    /// Checks the endpoint and builds the HTTP client. Credentials are asked for when there is something to sign.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an endpoint that cannot be used.
    pub fn new(settings: Settings) -> Result<Self> {
        let refused = |why: &str| StoreError::Refused(why.to_owned());
        let endpoint = settings.endpoint.as_ref().map(|url| {
            let url = Url::parse(url.expose()).ok();
            url.filter(|url| ["http", "https"].contains(&url.scheme()))
                .ok_or_else(|| refused("the endpoint is no http(s) URL"))
        });
        // Another part may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("glasswatch/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(settings.timeout)
            .timeout(settings.timeout)
            .build()
            .map_err(|_| refused("no HTTP client can be built"))?;
        Ok(Self {
            endpoint: endpoint.transpose()?,
            http,
            settings,
            credentials: None,
            client: tokio::sync::Mutex::default(),
            clock: boot_clock(),
            observed: Mutex::default(),
            held: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// The same with these credentials instead of the chain's.
    #[must_use]
    pub fn signing_with(self, credentials: Credentials) -> Self {
        Self {
            credentials: Some(credentials),
            ..self
        }
    }

    /// The same by another clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    async fn client(&self) -> Result<Client> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let region = &self.settings.region;
        let signs = match &self.credentials {
            Some(own) => SharedCredentialsProvider::new(own.clone()),
            None => SharedCredentialsProvider::new(
                aws::credentials(region, None)
                    .await
                    .map_err(|_| StoreError::Unreachable("credentials".to_owned()))?,
            ),
        };
        let config = Config::builder()
            .behavior_version(aws::behavior())
            .region(Region::new(region.clone()))
            .credentials_provider(signs)
            .http_client(Connector::new(self.http.clone()))
            // What may be put again, and how long all may take, is decided here.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled());
        let config = match &self.endpoint {
            Some(url) => config.endpoint_url(url.as_str()),
            None => config,
        };
        Ok(client.insert(Client::from_conf(config.build())).clone())
    }

    /// Asks until the service has time for it. `None`: a condition does not hold.
    async fn ask<T, E, F>(&self, question: impl Fn(Client) -> F) -> Result<Option<T>>
    where
        E: ProvideErrorMetadata + Error + 'static,
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut pause = PAUSE;
        let answer = async {
            loop {
                let failure = match question(self.client().await?).await {
                    Ok(answer) => return Ok(Some(answer)),
                    Err(error) => Failure::of(&error),
                };
                if failure.asks_for_fresh_credentials() {
                    *self.client.lock().await = None;
                }
                match Word::of(&failure) {
                    Word::No => return Ok(None),
                    Word::Later => {
                        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                        pause *= 2;
                    }
                    Word::Failed(error) => return Err(error),
                }
            }
        };
        self.within(answer).await
    }

    async fn within<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        match timeout(self.settings.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unreachable("timeout".to_owned())),
        }
    }

    fn place(&self, key: &str) -> (AttributeValue, AttributeValue) {
        item::place(&self.settings.prefix, key)
    }

    fn primary(&self, key: &str) -> Item {
        let (pk, sk) = self.place(key);
        [("pk".to_owned(), pk), ("sk".to_owned(), sk)].into()
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

    async fn read(&self, key: &str) -> Result<Option<Item>> {
        let found = self.ask(|client| {
            let get = client.get_item().table_name(&self.settings.table);
            let get = get.set_key(Some(self.primary(key)));
            get.consistent_read(true).send()
        });
        Ok(found.await?.and_then(|found| found.item))
    }

    /// What is at many keys.
    async fn states(&self, keys: Vec<&str>) -> Result<HashMap<String, State>> {
        let mut states: HashMap<_, _> =
            (keys.iter().map(|key| ((*key).to_owned(), State::Missing))).collect();
        let mut left: Vec<Item> = keys.into_iter().map(|key| self.primary(key)).collect();
        while !left.is_empty() {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(left))
                .consistent_read(true)
                .projection_expression(HEAD)
                .build()
                .map_err(odd)?;
            let found = self.ask(|client| {
                let table = &self.settings.table;
                let get = client.batch_get_item();
                get.request_items(table, wanted.clone()).send()
            });
            let found = found.await?.ok_or_else(|| odd("batch"))?;
            let items = found
                .responses
                .into_iter()
                .flatten()
                .flat_map(|(_, items)| items);
            for item in items {
                if let Some(key) = item::key(&self.settings.prefix, &item) {
                    states.insert(key, State::of(Some(&item)));
                }
            }
            let unread = found.unprocessed_keys.into_iter().flatten();
            left = unread.flat_map(|(_, keys)| keys.keys).collect();
        }
        Ok(states)
    }

    /// Writes an item if a condition holds, and says whether.
    async fn put(&self, item: Item, condition: Condition) -> Result<bool> {
        let put = self.ask(|client| {
            let put = client.put_item().table_name(&self.settings.table);
            let values = Some(condition.values()).filter(|values| !values.is_empty());
            put.set_item(Some(item.clone()))
                .condition_expression(condition.expression)
                .set_expression_attribute_values(values)
                .send()
        });
        Ok(put.await?.is_some())
    }

    /// Makes all writes if all conditions hold. Else the numbers of those that do not; none of them: others were writing.
    async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<Option<Vec<usize>>> {
        let done = self.ask(|client| {
            let write = client.transact_write_items();
            let write = write.set_transact_items(Some(items.clone()));
            async move {
                match write.send().await {
                    Ok(_) => Ok(None),
                    Err(error) => match canceled(&error) {
                        Some(unmet) => Ok(Some(unmet)),
                        None => Err(error),
                    },
                }
            }
        });
        done.await?.ok_or_else(|| odd("transaction"))
    }

    /// Tells who waits for changes. When it fails they see what was written when their patience is over.
    async fn raise(&self, keys: impl IntoIterator<Item = &str>) {
        let first = |key: &str| key.split('/').next().map(str::to_owned);
        let parts: BTreeSet<String> = keys.into_iter().filter_map(first).collect();
        for part in parts {
            let raised = self.ask(|client| {
                let raise = client.update_item().table_name(&self.settings.table);
                raise
                    .set_key(Some(self.counter(&part)))
                    .update_expression("ADD n :one")
                    .expression_attribute_values(":one", number(1))
                    .send()
            });
            if let Err(why) = raised.await {
                tracing::debug!(%why, "changes are told late");
            }
        }
    }

    fn counter(&self, part: &str) -> Item {
        let pk = text(format!("{}{COUNTERS}", self.settings.prefix));
        [("pk".to_owned(), pk), ("sk".to_owned(), text(part))].into()
    }

    async fn put_registration(&self, key: String, value: Bytes, ttl: Duration) -> Result<Hold> {
        let asked = self.now();
        let state = State::of(self.read(&key).await?.as_ref());
        if self.lives(&key, state, asked) {
            return Err(StoreError::Taken(key));
        }
        let (version, owner) = (state.next(), fastrand::u64(1..1 << 53));
        let item = item::registration(self.place(&key), version, value, owner, ttl);
        let renewed = self.now();
        if !self.put(item, state.untouched()).await? {
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
        self.raise([key.as_str()]).await;
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
        let condition = Condition::registration(hold.term, hold.token);
        let renewed = self.ask(|client| {
            let renew = client.update_item().table_name(&self.settings.table);
            let renew = renew
                .set_key(Some(self.primary(&hold.key)))
                .condition_expression(condition.expression)
                .set_expression_attribute_values(Some(condition.values()))
                .expression_attribute_values(":one", number(1));
            match &value {
                Some(value) => renew
                    .update_expression("SET h = h + :one, b = :b")
                    .expression_attribute_values(":b", blob(value.clone())),
                None => renew.update_expression("SET h = h + :one"),
            }
            .send()
        });
        let renewed = renewed.await?;
        match (renewed, lock(&self.held).get_mut(&hold.token)) {
            (Some(_), Some(held)) => {
                held.renewed = sent;
                Ok(())
            }
            _ => Err(lost()),
        }
    }

    async fn end(&self, hold: Hold) -> Result<()> {
        lock(&self.held).remove(&hold.token);
        let item = item::gone(self.place(&hold.key), hold.term.0 + 1);
        let condition = Condition::registration(hold.term, hold.token);
        if self.put(item, condition).await? {
            self.raise([hold.key.as_str()]).await;
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Record>> {
        let (first, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
        let pk = text(format!("{}{first}", self.settings.prefix));
        let (mut found, mut registered, mut ended) = (Vec::new(), HashSet::new(), Vec::new());
        let mut from = None;
        loop {
            let asked = self.now();
            let page = self.ask(|client| {
                let query = client.query().table_name(&self.settings.table);
                let query = query
                    .consistent_read(true)
                    .filter_expression("attribute_not_exists(x)")
                    .expression_attribute_values(":pk", pk.clone())
                    .set_exclusive_start_key(from.clone());
                match rest {
                    "" => query.key_condition_expression("pk = :pk"),
                    rest => query
                        .key_condition_expression("pk = :pk AND begins_with(sk, :rest)")
                        .expression_attribute_values(":rest", text(rest)),
                }
                .send()
            });
            let page = page.await?.ok_or_else(|| odd("query"))?;
            for item in page.items.unwrap_or_default() {
                let key = item::key(&self.settings.prefix, &item);
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
            let item = item::gone(self.place(&key), state.next());
            // The next scan tries again.
            if self.put(item, state.untouched()).await.is_err() {
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
                self.raise(
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
                    item::value(self.place(key), state.next(), value.clone())
                }
                Some(Write::Delete(_)) if !matches!(state, State::Missing | State::Gone { .. }) => {
                    item::gone(self.place(key), state.next())
                }
                // Nothing to delete, and nothing to watch over.
                Some(Write::Delete(_)) if step.guard.is_none() => continue,
                _ => {
                    items.push(self.check(key, &condition)?);
                    names.push((key, step.guard.is_some()));
                    continue;
                }
            };
            if steps.len() == 1 {
                return match (self.put(item, condition).await?, step.guard) {
                    (true, _) => Ok(Some(put)),
                    (false, Some(_)) => Err(StoreError::Conflict(key.clone())),
                    (false, None) => Ok(None),
                };
            }
            let values = Some(condition.values()).filter(|values| !values.is_empty());
            let write = Put::builder()
                .table_name(&self.settings.table)
                .set_item(Some(item))
                .condition_expression(condition.expression)
                .set_expression_attribute_values(values)
                .build()
                .map_err(odd)?;
            items.push(TransactWriteItem::builder().put(write).build());
            names.push((key, step.guard.is_some()));
        }
        if items.is_empty() {
            return Ok(Some(put));
        }
        let Some(unmet) = self.transact(items).await? else {
            return Ok(Some(put));
        };
        let guarded = (unmet.into_iter().filter_map(|n| names.get(n))).find(|(_, guard)| *guard);
        match guarded {
            Some((key, _)) => Err(StoreError::Conflict((*key).clone())),
            None => Ok(None),
        }
    }

    fn check(&self, key: &str, condition: &Condition) -> Result<TransactWriteItem> {
        let values = Some(condition.values()).filter(|values| !values.is_empty());
        let check = ConditionCheck::builder()
            .table_name(&self.settings.table)
            .set_key(Some(self.primary(key)))
            .condition_expression(condition.expression)
            .set_expression_attribute_values(values)
            .build()
            .map_err(odd)?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    async fn look(&self, prefix: &str) -> Result<Look> {
        let part = prefix.split('/').next().unwrap_or(prefix);
        let counter = self.ask(|client| {
            let get = client.get_item().table_name(&self.settings.table);
            let get = get.set_key(Some(self.counter(part)));
            get.consistent_read(true).send()
        });
        let counter = counter.await?.and_then(|found| found.item);
        let counter = counter.and_then(|item| item.get("n")?.as_n().ok()?.parse().ok());
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
        Ok((counter.unwrap_or_default(), digest))
    }
}

impl Store for DynamoDb {
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
            self.renew(hold, value).await
        }
        .boxed()
    }

    fn leave(&self, hold: Hold) -> BoxFuture<'_, Result<()>> {
        self.within(self.end(hold)).boxed()
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>> {
        let (checked, key) = (limits::key(key), key.to_owned());
        async move {
            checked?;
            let asked = self.now();
            let found = self.read(&key).await?;
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
            self.within(self.write(guards, writes)).await
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
                sleep(left.min(self.settings.poll)).await;
            }
        }
        .boxed()
    }
}

/// What a failure comes to.
enum Word {
    /// A condition does not hold.
    No,
    /// The service has no time, and has done nothing.
    Later,
    Failed(StoreError),
}

impl Word {
    fn of(failure: &Failure) -> Self {
        let told = failure.to_string();
        match failure {
            Failure::Unanswered(why) if why.what == "credentials: none found" => {
                Self::Failed(StoreError::Refused(told))
            }
            Failure::Unanswered(_) => Self::Failed(StoreError::Unreachable(told)),
            Failure::Answered { status, code, .. } => match code.as_deref().unwrap_or_default() {
                "ConditionalCheckFailedException" => Self::No,
                "ProvisionedThroughputExceededException"
                | "TransactionConflictException"
                | "TransactionInProgressException" => Self::Later,
                _ if failure.is_throttled() => Self::Later,
                _ if failure.asks_for_fresh_credentials() || !(400..500).contains(status) => {
                    Self::Failed(StoreError::Unreachable(told))
                }
                _ => Self::Failed(StoreError::Refused(told)),
            },
        }
    }
}

/// The numbers of the conditions that did not hold, if that or another's transaction is why nothing was written.
fn canceled(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> Option<Vec<usize>> {
    let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) =
        error.as_service_error()
    else {
        return None;
    };
    let (mut unmet, mut others) = (Vec::new(), false);
    for (n, reason) in canceled.cancellation_reasons().iter().enumerate() {
        match reason.code().unwrap_or("None") {
            "None" => {}
            "ConditionalCheckFailed" => unmet.push(n),
            "TransactionConflict" | "ProvisionedThroughputExceeded" | "ThrottlingError" => {
                others = true;
            }
            // The request itself: not for the caller to read again.
            _ => return None,
        }
    }
    (others || !unmet.is_empty()).then_some(unmet)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer that the service does not give, or a request that cannot be built.
fn odd<E>(_: E) -> StoreError {
    StoreError::Unreachable("an odd answer".to_owned())
}
