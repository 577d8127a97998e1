//! Brings messages to one receiver: a queue, a few sends at a time, retries. Receivers never wait for each other.
//!
//! What waits is in the store as well, and is taken up again after a restart. A receiver that was away for long gets
//! what is open one by one, and one digest of what came and went.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use detectors::base::Arrival;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::event::Epoch;
use super::notice::Message;
use super::queue::{Bucket, Item, Queue, backoff};
use super::receiver::{self, Digest, Outcome, Sent};
use super::store::{Outgoing, Row, Store, Tried};
use crate::alert::incident::News;
use crate::config::Receiver;
use crate::config::template::Words;
use crate::ingest::clock;

/// Sends to one receiver at a time; one while it is failing.
const CONCURRENT: usize = 4;
/// A message about what is over, that could not be delivered for this long, is given up.
const PATIENCE: Duration = Duration::from_secs(72 * 3600);
/// The news of a message that names what came and went.
const DIGEST: &str = "digest";
/// Refused messages that are passed on, at most, between two looks.
const REFUSED: usize = 1000;
/// Longest wait for the store to note that something is being sent.
const NOTED: Duration = Duration::from_secs(1);
/// A receiver that was away for so long is brought up to date with a digest.
pub const AWAY: Duration = Duration::from_secs(60);

/// Upper bounds of the delay histogram, seconds.
pub const DELAY_BUCKETS_SECS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// What a receiver got, as totals.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CourierStats {
    /// Receiver name.
    pub receiver: String,
    /// Taken by the receiver.
    pub delivered: u64,
    /// Attempts that failed and are or were tried again.
    pub retried: u64,
    /// Refused for good, or given up.
    pub dead: u64,
    /// Left out after an outage of the receiver: replaced by a later message, or told in a digest.
    pub compacted: u64,
    /// Told in our own words, because the template failed.
    pub template_failed: u64,
    /// Waiting or being sent.
    pub pending: u64,
    /// When the oldest waiting message was decided.
    pub oldest: Option<Arrival>,
    /// Deliveries by delay: one count for each of [`DELAY_BUCKETS_SECS`] and one above; not cumulative.
    pub delays: [u64; DELAY_BUCKETS_SECS.len() + 1],
    /// Sum of all delays, seconds.
    pub delay_sum_secs: f64,
}

#[derive(Default)]
struct Counts {
    delivered: AtomicU64,
    delivered_at_nanos: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    compacted: AtomicU64,
    template_failed: AtomicU64,
    delays: [AtomicU64; DELAY_BUCKETS_SECS.len() + 1],
    delay_sum_millis: AtomicU64,
}

/// Titles of incidents, from their documents.
pub type Titles = Arc<dyn Fn(&[String]) -> Vec<String> + Send + Sync>;

/// How a receiver is told, as it is configured now.
struct Way {
    config: Arc<Receiver>,
    receiver: Box<dyn receiver::Receiver>,
}

/// What a receiver was told of an open incident.
#[derive(Clone)]
struct Told {
    /// Of the incident; all its occurrences share it.
    key: String,
    /// What was said last.
    body: String,
}

struct Shared {
    way: ArcSwap<Way>,
    instance: String,
    store: Arc<Store>,
    epoch: Epoch,
    titles: Titles,
    away: Duration,
    queue: Mutex<Queue>,
    bucket: Mutex<Bucket>,
    /// Open incidents that this receiver was told of, by their ids. Locked after the queue.
    told: Mutex<HashMap<String, Told>>,
    /// What it refused for good, and nobody looked at yet.
    refused: Mutex<Vec<Arc<Row>>>,
    troubles: Mutex<Health>,
    counts: Counts,
    wake: Notify,
    closing: AtomicBool,
}

/// A receiver at work.
pub struct Courier {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What a courier works with.
pub struct Duty {
    /// As configured.
    pub config: Receiver,
    /// Name of this process.
    pub instance: String,
    /// How it is told.
    pub receiver: Box<dyn receiver::Receiver>,
    /// Where what waits is kept.
    pub store: Arc<Store>,
    /// Arrival clock to UTC.
    pub epoch: Epoch,
    /// Names what a digest tells.
    pub titles: Titles,
    /// Away for so long, a receiver is brought up to date with a digest; [`AWAY`].
    pub away: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Courier {
    /// Starts a receiver. Needs a tokio runtime.
    pub fn start(duty: Duty) -> Self {
        let bucket = bucket(&*duty.receiver);
        let shared = Arc::new(Shared {
            way: ArcSwap::from_pointee(Way {
                config: Arc::new(duty.config),
                receiver: duty.receiver,
            }),
            instance: duty.instance,
            store: duty.store,
            epoch: duty.epoch,
            titles: duty.titles,
            away: duty.away,
            queue: Mutex::default(),
            bucket: Mutex::new(bucket),
            told: Mutex::default(),
            refused: Mutex::default(),
            troubles: Mutex::default(),
            counts: Counts::default(),
            wake: Notify::new(),
            closing: AtomicBool::new(false),
        });
        let task = tokio::spawn(run(Arc::clone(&shared)));
        Self {
            shared,
            task: Mutex::new(Some(task)),
        }
    }

    /// As configured.
    pub fn config(&self) -> Arc<Receiver> {
        Arc::clone(&self.shared.way.load().config)
    }

    /// The same receiver is told in another way from now on: what waits and what it was told of stay.
    pub fn change(&self, config: Receiver, receiver: Box<dyn receiver::Receiver>) {
        *lock(&self.shared.bucket) = bucket(&*receiver);
        self.shared.way.store(Arc::new(Way {
            config: Arc::new(config),
            receiver,
        }));
        self.shared.wake.notify_one();
    }

    /// What is to be stored, and later sent, of a message; `None` when this receiver is not told of it. Severity hides
    /// whole incidents, never parts: what was raised here is resolved here, and what grows to the receiver's severity
    /// arrives as raised.
    pub fn outgoing(&self, message: &Message) -> Option<Outgoing> {
        if message.is_canary() != self.config().canary {
            return None;
        }
        let enough = self.is_for(message);
        let news = News::parse(&message.news)?;
        let told = self.knows(&message.incident_id);
        let news = match news {
            News::Recorded => return None,
            News::Resolved if told => News::Resolved,
            _ if told => news,
            News::Raised | News::Updated | News::Acknowledged if enough => News::Raised,
            _ => return None,
        };
        self.tell(message, news)
    }

    fn tell(&self, message: &Message, news: News) -> Option<Outgoing> {
        let shared = &self.shared;
        let message = &Message {
            news: news.as_str().to_owned(),
            ..message.clone()
        };
        let body = shared.body(message)?;
        match news {
            News::Resolved => drop(lock(&shared.told).remove(&message.incident_id)),
            _ => shared.remember(message, body.clone()),
        }
        Some(Outgoing {
            receiver: Arc::from(self.config().name.as_str()),
            key: message.key.clone(),
            incarnation: message.incarnation,
            sequence: message.sequence,
            news: Arc::from(news.as_str()),
            body,
        })
    }

    /// Whether severity and the canary's privacy let this receiver be told of an incident.
    pub fn is_for(&self, message: &Message) -> bool {
        let config = self.config();
        match message.is_canary() {
            true => config.canary,
            false => !config.canary && message.severity() >= config.min_severity,
        }
    }

    /// Whether it was told of an open incident, by its id.
    pub fn knows(&self, incident_id: &str) -> bool {
        lock(&self.shared.told).contains_key(incident_id)
    }

    /// Remembers that this receiver was told of an incident: before a restart, or in other words.
    pub fn was_told(&self, message: &Message) {
        if let Some(body) = self.shared.body(message) {
            self.shared.remember(message, body);
        }
    }

    /// When it took a message last; `None` so far never.
    pub fn delivered_at(&self) -> Option<Arrival> {
        let nanos = self
            .shared
            .counts
            .delivered_at_nanos
            .load(Ordering::Relaxed);
        (nanos > 0).then(|| Arrival::from_nanos(nanos))
    }

    /// How the receiver does.
    pub fn health(&self) -> Health {
        *lock(&self.shared.troubles)
    }

    /// What it refused for good since the last call.
    pub fn take_refused(&self) -> Vec<Arc<Row>> {
        std::mem::take(&mut *lock(&self.shared.refused))
    }

    /// As [`Courier::outgoing`], in place of a receiver that refused it: whatever the severity. `None` when this one was
    /// told already.
    pub fn instead(&self, message: &Message) -> Option<Outgoing> {
        let told = self.knows(&message.incident_id);
        (!told && !self.config().canary)
            .then(|| self.tell(message, News::Raised))
            .flatten()
    }

    /// Takes what was stored for it; returns at once.
    pub fn push(&self, row: Row) {
        let at = |utc| self.shared.epoch.arrival_of(utc);
        let (decided, due) = (at(row.created), at(row.due));
        lock(&self.shared.queue).push(row, decided, due);
        self.shared.wake.notify_one();
    }

    /// A copy of the counters.
    pub fn stats(&self) -> CourierStats {
        let counts = &self.shared.counts;
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let queue = lock(&self.shared.queue);
        CourierStats {
            receiver: self.config().name.clone(),
            delivered: read(&counts.delivered),
            retried: read(&counts.retried),
            dead: read(&counts.dead),
            compacted: read(&counts.compacted),
            template_failed: read(&counts.template_failed),
            pending: queue.len() as u64,
            oldest: queue.oldest(),
            delays: std::array::from_fn(|i| read(&counts.delays[i])),
            delay_sum_secs: read(&counts.delay_sum_millis) as f64 / 1000.0,
        }
    }

    /// Tries what is left at once and until `deadline` has passed; returns how many messages were not delivered. They
    /// stay in the store.
    pub async fn close(&self, deadline: Duration) -> usize {
        lock(&self.shared.queue).hurry(clock::now());
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        let task = lock(&self.task).take();
        if let Some(mut task) = task
            && tokio::time::timeout(deadline, &mut task).await.is_err()
        {
            task.abort();
        }
        let left = lock(&self.shared.queue).len();
        if left > 0 {
            tracing::warn!(receiver = %self.config().name, left, "closed with undelivered messages: they stay stored");
        }
        left
    }

    /// What is left after [`Courier::close`] is nobody's any more.
    pub fn give_up(&self, why: &str) {
        for id in lock(&self.shared.queue).ids() {
            self.shared.store.dead(id, why.to_owned());
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// As fast as this receiver may be called.
fn bucket(receiver: &dyn receiver::Receiver) -> Bucket {
    let limit = receiver.limit();
    Bucket::new(limit.per_minute.into(), limit.burst.into(), clock::now())
}

impl Shared {
    /// What is sent: in the words of the template, or, where that fails, in ours. No alert is lost to a template.
    fn body(&self, message: &Message) -> Option<String> {
        let way = self.way.load();
        let words = receiver::words(&way.config.template, message, &*way.receiver);
        let words = words.unwrap_or_else(|error| {
            self.counts.template_failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(receiver = %way.config.name, incident_id = %message.incident_id, %error,
                "a template failed: the incident is told in our own words");
            Words::default()
        });
        way.receiver.render_in(message, &words)
    }

    /// What it was told of an incident, if that is still open and nothing of it is being sent; then nothing is until it
    /// is released.
    fn hold(&self, incident_id: &str) -> Option<Told> {
        let mut queue = lock(&self.queue);
        let told = lock(&self.told);
        let told = told.get(incident_id)?;
        queue.hold(&told.key).then(|| told.clone())
    }

    fn remember(&self, message: &Message, body: String) {
        let key = message.key.clone();
        lock(&self.told).insert(message.incident_id.clone(), Told { key, body });
    }

    fn delivered(&self, item: &Item, now: Arrival) {
        let delay = now.since(item.decided);
        let secs = delay.as_secs_f64();
        let bucket = DELAY_BUCKETS_SECS.partition_point(|limit| *limit < secs);
        self.counts.delays[bucket].fetch_add(1, Ordering::Relaxed);
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        (self.counts.delay_sum_millis).fetch_add(millis, Ordering::Relaxed);
        self.counts.delivered.fetch_add(1, Ordering::Relaxed);
        (self.counts.delivered_at_nanos).store(now.nanos(), Ordering::Relaxed);
        self.store.delivered(item.row.id);
        lock(&self.queue).done(item.row.id);
    }

    fn dead(&self, item: &Item, why: &str) {
        self.counts.dead.fetch_add(1, Ordering::Relaxed);
        let (row, way) = (&*item.row, self.way.load());
        tracing::error!(
            receiver = %way.config.name,
            place = %way.receiver.place(),
            key = %row.message.key,
            incarnation = row.message.incarnation,
            news = %row.message.news,
            attempts = item.attempts + 1,
            why,
            "the receiver did not take a message about an incident"
        );
        self.store.dead(row.id, why.to_owned());
        lock(&self.queue).done(row.id);
        let mut refused = lock(&self.refused);
        if refused.len() < REFUSED {
            refused.push(Arc::clone(&item.row));
        }
    }

    /// Whether the incident of this message is still open: then it is tried for ever.
    fn is_open(&self, row: &Row) -> bool {
        let of = format!("{}-{:x}", row.message.key, row.message.incarnation);
        lock(&self.told).contains_key(&of)
    }

    /// What came and went while the receiver was away becomes one message.
    async fn catch_up(self: &Arc<Self>, away_since: Arrival) {
        let busy = lock(&self.queue).sending();
        let utc = |at| super::event::rfc3339_millis(self.epoch.utc(at));
        let (from, until) = (utc(away_since), utc(clock::now()));
        let shared = Arc::clone(self);
        let name: Arc<str> = Arc::from(self.way.load().config.name.as_str());
        let receiver = Arc::clone(&name);
        let digest = move |docs: &[String]| {
            let digest = Digest {
                instance: shared.instance.clone(),
                id: format!("digest-{:x}", Timestamp::now().as_millisecond()),
                from: from.clone(),
                until: until.clone(),
                titles: (shared.titles)(docs),
            };
            Outgoing {
                receiver: Arc::clone(&receiver),
                body: (shared.way.load().receiver.digest(&digest)).unwrap_or_default(),
                key: digest.id,
                incarnation: 0,
                sequence: 0,
                news: Arc::from(DIGEST),
            }
        };
        let Ok(Some(compacted)) = self.store.compact(name, busy, Box::new(digest)).await else {
            return;
        };
        let gone = compacted.removed.len() as u64;
        self.counts.compacted.fetch_add(gone, Ordering::Relaxed);
        let mut queue = lock(&self.queue);
        queue.leave_out(&compacted.removed);
        if let Some(row) = compacted.digest {
            let now = clock::now();
            queue.push(row, now, now);
        }
    }
}

/// How a receiver does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Failures in a row.
    pub failures: u32,
    /// Since when.
    pub since: Arrival,
    /// It is left alone until then.
    pub rest_until: Arrival,
    /// Whether it refused the last message for good.
    pub refuses: bool,
}

/// What comes back from a send; `None`: it was only said again.
type Answer = (Option<Item>, Outcome);

async fn run(shared: Arc<Shared>) {
    let mut sends: JoinSet<Answer> = JoinSet::new();
    let mut health = Health::default();
    let mut said_at = clock::now();
    let mut saying = false;
    loop {
        let closing = shared.closing.load(Ordering::Acquire);
        if closing {
            health.rest_until = Arrival::default();
        }
        let now = clock::now();
        let again = shared.way.load().receiver.resend_every();
        let again = again.filter(|_| !saying && !closing);
        let again = again.map(|every| every.saturating_sub(now.since(said_at)));
        if again.is_some_and(|wait| wait.is_zero()) {
            say_again(&shared, &mut sends);
            saying = true;
            continue;
        }
        let wait = start_sends(&shared, &health, &mut sends, usize::from(saying), now);
        let wait = again.map_or(wait, |again| wait.min(again));
        if closing && sends.is_empty() && lock(&shared.queue).is_empty() {
            return;
        }
        tokio::select! {
            Some(sent) = sends.join_next(), if !sends.is_empty() => {
                // A send neither panics nor is aborted; were it so, its message would stay in flight.
                if let Ok((item, outcome)) = sent {
                    if item.is_none() {
                        (saying, said_at) = (false, clock::now());
                    }
                    let back = settle(&shared, &mut health, item, outcome, closing);
                    *lock(&shared.troubles) = health;
                    if let Some(since) = back {
                        shared.catch_up(since).await;
                    }
                }
            }
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What is open is said again to a receiver that forgets: one after another, until one fails. Of an incident nothing
/// else is sent meanwhile, so that none that is over by now is said last.
fn say_again(shared: &Arc<Shared>, sends: &mut JoinSet<Answer>) {
    let open: Vec<String> = lock(&shared.told).keys().cloned().collect();
    let shared = Arc::clone(shared);
    sends.spawn(async move {
        let mut outcome = Outcome::Delivered;
        for id in open {
            let Some(told) = shared.hold(&id) else {
                continue;
            };
            let way = shared.way.load_full();
            outcome = way.receiver.send(&id, &told.body, Timestamp::now()).await;
            lock(&shared.queue).release(&told.key);
            shared.wake.notify_one();
            if matches!(outcome, Outcome::Retry { .. }) {
                break;
            }
        }
        (None, outcome)
    });
}

/// Starts what is due, beside `others` that are under way; tells how long to sleep when nothing else happens.
fn start_sends(
    shared: &Arc<Shared>,
    health: &Health,
    sends: &mut JoinSet<Answer>,
    others: usize,
    now: Arrival,
) -> Duration {
    let long = Duration::from_secs(3600);
    if now < health.rest_until {
        return health.rest_until.since(now);
    }
    let limit = others + if health.failures > 0 { 1 } else { CONCURRENT };
    let mut queue = lock(&shared.queue);
    while sends.len() < limit {
        if queue.next_due().is_none_or(|due| due > now) {
            break;
        }
        if let Err(wait) = lock(&shared.bucket).take(now) {
            return wait;
        }
        let Some(item) = queue.take(now) else {
            break;
        };
        let shared = Arc::clone(shared);
        sends.spawn(async move {
            let row = &*item.row;
            let told = &row.message;
            let id = format!("{}-{:x}-{}", told.key, told.incarnation, told.sequence);
            if told.body.is_empty() {
                return (Some(item), Outcome::Delivered);
            }
            if !item.maybe_sent {
                // Noted first, so that after a crash nobody believes that it was never sent.
                let _ = tokio::time::timeout(NOTED, shared.store.sending(row.id)).await;
            }
            let way = shared.way.load_full();
            let mut outcome = way.receiver.send(&id, &told.body, Timestamp::now()).await;
            if outcome == Outcome::TooLarge {
                outcome = match way.receiver.shrink(&told.body) {
                    Some(small) => way.receiver.send(&id, &small, Timestamp::now()).await,
                    None => Outcome::Dead { status: 413 },
                };
            }
            (Some(item), outcome)
        });
    }
    if sends.len() >= limit {
        return long;
    }
    queue
        .next_due()
        .map_or(long, |due| due.since(now).max(Duration::from_millis(1)))
}

/// Takes the result of a send. Answers since when the receiver was away, where it is back after long.
fn settle(
    shared: &Shared,
    health: &mut Health,
    item: Option<Item>,
    outcome: Outcome,
    closing: bool,
) -> Option<Arrival> {
    let now = clock::now();
    let well = !matches!(outcome, Outcome::Retry { .. });
    let mut back = None;
    if well && health.failures > 0 {
        back = Some(health.since).filter(|since| now.since(*since) >= shared.away);
        *health = Health::default();
    }
    if item.is_some() && well {
        health.refuses = outcome != Outcome::Delivered;
    }
    // What was only said again is said again anyway.
    let Some(item) = item else {
        return back;
    };
    match outcome {
        Outcome::Delivered => shared.delivered(&item, now),
        Outcome::Dead { status } => shared.dead(&item, &format!("status {status}")),
        Outcome::TooLarge => shared.dead(&item, "too large"),
        Outcome::Retry { what, .. }
            if now.since(item.decided) > PATIENCE && !shared.is_open(&item.row) =>
        {
            shared.dead(&item, &format!("{what}, given up after 72 h"));
        }
        Outcome::Retry { after, what, sent } => {
            shared.counts.retried.fetch_add(1, Ordering::Relaxed);
            let wait = match after {
                Some(after) => after,
                None if closing => Duration::from_millis(250),
                None => backoff(item.attempts, fastrand::f64()),
            };
            // The message waits by its own count, the receiver by its failures in a row: one message that always
            // fails does not hold up the others, and a receiver that is down is not hammered.
            let rest = after.unwrap_or_else(|| backoff(health.failures, fastrand::f64()));
            if health.failures == 0 {
                health.since = now;
            }
            health.failures = health.failures.saturating_add(1);
            health.rest_until = now.plus(rest);
            let due = now.plus(wait);
            let maybe = sent == Sent::Maybe;
            lock(&shared.queue).retry(item.row.id, due, maybe);
            let tried = Tried {
                due: shared.epoch.utc(due),
                attempts: item.attempts + 1,
                error: what.clone(),
                maybe_sent: item.maybe_sent || maybe,
            };
            shared.store.tried(item.row.id, tried);
            let way = shared.way.load();
            tracing::warn!(
                receiver = %way.config.name,
                place = %way.receiver.place(),
                key = %item.row.message.key,
                incarnation = item.row.message.incarnation,
                what,
                wait_secs = wait.as_secs_f64(),
                "a message about an incident could not be delivered and is tried again"
            );
        }
    }
    back
}
