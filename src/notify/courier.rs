//! Brings events to one receiver: a queue, a few sends at a time, retries. Receivers never wait for each other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use detectors::base::Arrival;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::event::{Event, EventType};
use super::queue::{Queue, Ticket, backoff};
use super::webhook::{AddressPolicy, Outcome, Webhook, WebhookError};
use crate::config::{Receiver, ReceiverKind};
use crate::ingest::clock;

/// Events that wait for one receiver.
pub const QUEUE_EVENTS: usize = 10_000;

/// Sends to one receiver at a time; one while it is failing.
const CONCURRENT: usize = 4;

/// An event that could not be delivered for this long is given up.
const PATIENCE: Duration = Duration::from_secs(72 * 3600);

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
    /// Pushed out of a full queue.
    pub dropped: u64,
    /// Waiting or being sent.
    pub pending: u64,
    /// When the oldest waiting event was decided.
    pub oldest: Option<Arrival>,
    /// Deliveries by delay: one count for each of [`DELAY_BUCKETS_SECS`] and one above; not cumulative.
    pub delays: [u64; DELAY_BUCKETS_SECS.len() + 1],
    /// Sum of all delays, seconds.
    pub delay_sum_secs: f64,
}

#[derive(Default)]
struct Counts {
    delivered: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    dropped: AtomicU64,
    delays: [AtomicU64; DELAY_BUCKETS_SECS.len() + 1],
    delay_sum_millis: AtomicU64,
}

struct Shared {
    config: Receiver,
    webhook: Webhook,
    queue: Mutex<Queue>,
    /// Open defects that this receiver was told of, and their streams.
    told: Mutex<HashMap<String, Arc<str>>>,
    counts: Counts,
    wake: Notify,
    closing: AtomicBool,
}

/// A receiver at work.
pub struct Courier {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Courier {
    /// Starts a receiver. Needs a tokio runtime.
    pub fn start(config: &Receiver, allowed: AddressPolicy) -> Result<Self, WebhookError> {
        Self::with_capacity(config, allowed, QUEUE_EVENTS)
    }

    pub(super) fn with_capacity(
        config: &Receiver,
        allowed: AddressPolicy,
        capacity: usize,
    ) -> Result<Self, WebhookError> {
        let ReceiverKind::Webhook { url, key, timeout } = &config.kind;
        let shared = Arc::new(Shared {
            config: config.clone(),
            webhook: Webhook::new(url, key.as_ref(), *timeout, allowed)?,
            queue: Mutex::new(Queue::new(capacity)),
            told: Mutex::default(),
            counts: Counts::default(),
            wake: Notify::new(),
            closing: AtomicBool::new(false),
        });
        let task = tokio::spawn(run(Arc::clone(&shared)));
        Ok(Self {
            shared,
            task: Mutex::new(Some(task)),
        })
    }

    /// As configured.
    pub fn config(&self) -> &Receiver {
        &self.shared.config
    }

    /// Takes an event; returns at once.
    pub fn push(&self, event: &Arc<Event>, decided: Arrival) {
        let Some(event) = self.shared.admit(event) else {
            return;
        };
        let dropped = lock(&self.shared.queue).push(event, decided);
        if let Some(dropped) = dropped {
            self.shared.counts.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                receiver = %self.shared.config.name,
                stream = %dropped.stream,
                defect_id = %dropped.defect_id,
                event_id = %dropped.event_id,
                "the queue of this receiver is full: an event was dropped"
            );
        }
        self.shared.wake.notify_one();
    }

    /// Forgets which defects of a stream were told; what waits is still delivered.
    pub fn forget(&self, stream: &str) {
        lock(&self.shared.told).retain(|_, of| &**of != stream);
    }

    /// A copy of the counters.
    pub fn stats(&self) -> CourierStats {
        let counts = &self.shared.counts;
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let queue = lock(&self.shared.queue);
        CourierStats {
            receiver: self.shared.config.name.clone(),
            delivered: read(&counts.delivered),
            retried: read(&counts.retried),
            dead: read(&counts.dead),
            dropped: read(&counts.dropped),
            pending: queue.len() as u64,
            oldest: queue.oldest(),
            delays: std::array::from_fn(|i| read(&counts.delays[i])),
            delay_sum_secs: read(&counts.delay_sum_millis) as f64 / 1000.0,
        }
    }

    /// Tries what is left at once and until `deadline` has passed; returns how many events were not delivered.
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
            tracing::error!(receiver = %self.shared.config.name, left, "closed with undelivered events");
        }
        left
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

impl Shared {
    /// Severity filter that keeps pairs whole: what was raised here is cleared here, and what grows to the
    /// receiver's severity arrives as a raise.
    fn admit(&self, event: &Arc<Event>) -> Option<Arc<Event>> {
        let enough = event.severity >= self.config.min_severity;
        let mut told = lock(&self.told);
        match event.kind {
            EventType::Clear => told.remove(&event.defect_id).map(|_| Arc::clone(event)),
            EventType::Raise => enough.then(|| {
                told.insert(event.defect_id.clone(), Arc::clone(&event.stream));
                Arc::clone(event)
            }),
            EventType::Update if told.contains_key(&event.defect_id) => Some(Arc::clone(event)),
            EventType::Update => enough.then(|| {
                told.insert(event.defect_id.clone(), Arc::clone(&event.stream));
                Arc::new(Event {
                    kind: EventType::Raise,
                    ..Event::clone(event)
                })
            }),
        }
    }

    fn delivered(&self, ticket: &Ticket, now: Arrival) {
        let delay = now.since(ticket.item.decided);
        let secs = delay.as_secs_f64();
        let bucket = DELAY_BUCKETS_SECS.partition_point(|limit| *limit < secs);
        self.counts.delays[bucket].fetch_add(1, Ordering::Relaxed);
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.counts
            .delay_sum_millis
            .fetch_add(millis, Ordering::Relaxed);
        self.counts.delivered.fetch_add(1, Ordering::Relaxed);
    }

    fn dead(&self, ticket: &Ticket, why: &str) {
        self.counts.dead.fetch_add(1, Ordering::Relaxed);
        let event = &ticket.item.event;
        tracing::error!(
            receiver = %self.config.name,
            place = %self.webhook.place(),
            stream = %event.stream,
            defect_id = %event.defect_id,
            event_id = %event.event_id,
            attempts = ticket.item.attempts + 1,
            why,
            "the receiver did not take an alert event"
        );
    }
}

/// Failures of a receiver in a row, and how long it is left alone.
#[derive(Default)]
struct Health {
    failures: u32,
    rest_until: Arrival,
}

async fn run(shared: Arc<Shared>) {
    let mut sends: JoinSet<(Ticket, Outcome)> = JoinSet::new();
    let mut health = Health::default();
    loop {
        let closing = shared.closing.load(Ordering::Acquire);
        if closing {
            health.rest_until = Arrival::default();
        }
        let now = clock::now();
        let wait = start_sends(&shared, &health, &mut sends, now);
        if closing && sends.is_empty() && lock(&shared.queue).is_empty() {
            return;
        }
        tokio::select! {
            Some(sent) = sends.join_next(), if !sends.is_empty() => {
                // A send neither panics nor is aborted; were it so, its ticket would stay in flight.
                if let Ok((ticket, outcome)) = sent {
                    settle(&shared, &mut health, &ticket, outcome, closing);
                }
            }
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Starts what is due; tells how long to sleep when nothing else happens.
fn start_sends(
    shared: &Arc<Shared>,
    health: &Health,
    sends: &mut JoinSet<(Ticket, Outcome)>,
    now: Arrival,
) -> Duration {
    let long = Duration::from_secs(3600);
    if now < health.rest_until {
        return health.rest_until.since(now);
    }
    let limit = if health.failures > 0 { 1 } else { CONCURRENT };
    let mut queue = lock(&shared.queue);
    while sends.len() < limit {
        let Some(ticket) = queue.take(now) else {
            break;
        };
        let shared = Arc::clone(shared);
        sends.spawn(async move {
            let event = &ticket.item.event;
            let body: Arc<str> = event.to_json().into();
            let outcome = shared
                .webhook
                .send(&event.event_id, body, Timestamp::now())
                .await;
            (ticket, outcome)
        });
    }
    if sends.len() >= limit {
        return long;
    }
    queue
        .next_due()
        .map_or(long, |due| due.since(now).max(Duration::from_millis(1)))
}

fn settle(shared: &Shared, health: &mut Health, ticket: &Ticket, outcome: Outcome, closing: bool) {
    let now = clock::now();
    match outcome {
        Outcome::Delivered => {
            health.failures = 0;
            shared.delivered(ticket, now);
            lock(&shared.queue).done(ticket);
        }
        Outcome::Dead { status } => {
            health.failures = 0;
            shared.dead(ticket, &format!("status {status}"));
            lock(&shared.queue).done(ticket);
        }
        Outcome::Retry { what, .. } if now.since(ticket.item.decided) > PATIENCE => {
            shared.dead(ticket, &format!("{what}, given up after 72 h"));
            lock(&shared.queue).done(ticket);
        }
        Outcome::Retry { after, what } => {
            shared.counts.retried.fetch_add(1, Ordering::Relaxed);
            let wait = match after {
                Some(after) => after,
                None if closing => Duration::from_millis(250),
                None => backoff(ticket.item.attempts, fastrand::f64()),
            };
            // The event waits by its own count, the receiver by its failures in a row: one event that always
            // fails does not hold up the others, and a receiver that is down is not hammered.
            let rest = after.unwrap_or_else(|| backoff(health.failures, fastrand::f64()));
            health.failures = health.failures.saturating_add(1);
            health.rest_until = now.plus(rest);
            lock(&shared.queue).retry(ticket, now, wait);
            tracing::warn!(
                receiver = %shared.config.name,
                place = %shared.webhook.place(),
                event_id = %ticket.item.event.event_id,
                what,
                wait_secs = wait.as_secs_f64(),
                "an alert event could not be delivered and is tried again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::event::{Composer, Epoch, tests::transition};
    use super::super::webhook::any_address;
    use super::*;
    use crate::alert::Change;
    use crate::config::Secret;
    use detectors::base::Severity;

    #[tokio::test]
    async fn a_full_queue_is_counted_and_pairs_stay_whole() {
        // Takes connections into its backlog and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Receiver {
            name: "ops".into(),
            kind: ReceiverKind::Webhook {
                url: Secret::new(format!("http://{}/", silent.local_addr().unwrap())),
                key: None,
                timeout: Duration::from_secs(5),
            },
            min_severity: Severity::Info,
            allow_private: true,
        };
        let courier = Courier::with_capacity(&config, any_address(), 3).unwrap();
        let composer = Composer::new(Epoch::now(), "i", None);
        let push = |change, fingerprint: &str| {
            let event = composer.compose(&transition(change, fingerprint, Severity::Critical));
            courier.push(&Arc::new(event), clock::now());
        };
        push(Change::Raise, "a");
        push(Change::Update, "a");
        push(Change::Raise, "b");
        push(Change::Clear, "a");
        assert_eq!((courier.stats().pending, courier.stats().dropped), (3, 1));
        push(Change::Raise, "c");
        assert_eq!((courier.stats().pending, courier.stats().dropped), (3, 2));
        push(Change::Clear, "never raised");
        assert_eq!(
            courier.stats().dropped,
            2,
            "a clear without its raise is no event"
        );
        courier.forget("news1");
        push(Change::Clear, "b");
        assert_eq!(courier.stats().dropped, 2, "forgotten");
        assert!(courier.stats().oldest.is_some());
        assert_eq!(courier.close(Duration::ZERO).await, 3);
    }
}
