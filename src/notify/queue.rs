//! What waits for one receiver: bounded, in order for each fingerprint, with time passed in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use detectors::base::Arrival;

use super::event::Event;

/// An event on its way to a receiver.
#[derive(Debug, Clone)]
pub struct Item {
    /// The event.
    pub event: Arc<Event>,
    /// When the lane handed it over.
    pub decided: Arrival,
    /// Attempts that failed so far.
    pub attempts: u32,
    due: Arrival,
}

/// An item that was taken to be sent; give it back with [`Queue::done`] or [`Queue::retry`].
#[derive(Debug, Clone)]
pub struct Ticket {
    serial: u64,
    /// The item.
    pub item: Item,
}

/// Events of one receiver. Events of one fingerprint leave strictly one after another.
#[derive(Debug)]
pub struct Queue {
    capacity: usize,
    serial: u64,
    items: BTreeMap<u64, Item>,
    /// Waiting serials of each fingerprint, oldest first.
    rows: HashMap<Arc<str>, VecDeque<u64>>,
    /// Heads of the rows that are not being sent, by due time.
    heads: BTreeSet<(Arrival, u64)>,
    expendable: BTreeSet<u64>,
    sending: HashSet<u64>,
}

impl Queue {
    /// Holds at most `capacity` events, those being sent included.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            serial: 0,
            items: BTreeMap::new(),
            rows: HashMap::new(),
            heads: BTreeSet::new(),
            expendable: BTreeSet::new(),
            sending: HashSet::new(),
        }
    }

    /// Events waiting or being sent.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Events being sent.
    pub fn sending(&self) -> usize {
        self.sending.len()
    }

    /// When the oldest waiting event was decided.
    pub fn oldest(&self) -> Option<Arrival> {
        self.items.first_key_value().map(|(_, item)| item.decided)
    }

    /// Adds an event; when full, gives back the one that had to go (an oldest update or info event first).
    pub fn push(&mut self, event: Arc<Event>, decided: Arrival) -> Option<Arc<Event>> {
        let mut dropped = None;
        if self.items.len() >= self.capacity {
            let waiting = |serial: &&u64| !self.sending.contains(serial);
            let victim = self.expendable.iter().find(waiting).copied();
            let victim = match victim {
                Some(victim) => victim,
                None if event.is_expendable() => return Some(event),
                None => match self.items.keys().find(waiting).copied() {
                    Some(oldest) => oldest,
                    None => return Some(event),
                },
            };
            dropped = self.remove(victim).map(|item| item.event);
        }
        self.serial += 1;
        let serial = self.serial;
        if event.is_expendable() {
            self.expendable.insert(serial);
        }
        let row = self.rows.entry(Arc::clone(&event.fingerprint)).or_default();
        row.push_back(serial);
        if row.len() == 1 {
            self.heads.insert((decided, serial));
        }
        self.items.insert(
            serial,
            Item {
                event,
                decided,
                attempts: 0,
                due: decided,
            },
        );
        dropped
    }

    /// Takes the event that is due first, if any is due.
    pub fn take(&mut self, now: Arrival) -> Option<Ticket> {
        let (due, serial) = *self.heads.first()?;
        if due > now {
            return None;
        }
        self.heads.pop_first();
        let item = self.items.get(&serial)?.clone();
        self.sending.insert(serial);
        Some(Ticket { serial, item })
    }

    /// When the next event is due; `None` when nothing waits.
    pub fn next_due(&self) -> Option<Arrival> {
        self.heads.first().map(|(due, _)| *due)
    }

    /// The event needs no more attempts (delivered, or given up).
    pub fn done(&mut self, ticket: &Ticket) {
        self.remove(ticket.serial);
    }

    /// The event is tried again after `wait`; those behind it in its row wait with it.
    pub fn retry(&mut self, ticket: &Ticket, now: Arrival, wait: Duration) {
        self.sending.remove(&ticket.serial);
        if let Some(item) = self.items.get_mut(&ticket.serial) {
            item.attempts += 1;
            item.due = now.plus(wait);
            self.heads.insert((item.due, ticket.serial));
        }
    }

    /// Makes everything due at once; for the last attempts before the process ends.
    pub fn hurry(&mut self, now: Arrival) {
        let heads = std::mem::take(&mut self.heads);
        for (due, serial) in heads {
            self.heads.insert((due.min(now), serial));
            if let Some(item) = self.items.get_mut(&serial) {
                item.due = due.min(now);
            }
        }
    }

    fn remove(&mut self, serial: u64) -> Option<Item> {
        let item = self.items.remove(&serial)?;
        self.expendable.remove(&serial);
        self.sending.remove(&serial);
        self.heads.remove(&(item.due, serial));
        let key = &item.event.fingerprint;
        if let Some(row) = self.rows.get_mut(key) {
            row.retain(|s| *s != serial);
            match row.front() {
                None => {
                    self.rows.remove(key);
                }
                Some(head) if !self.sending.contains(head) => {
                    if let Some(next) = self.items.get(head) {
                        self.heads.insert((next.due, *head));
                    }
                }
                Some(_) => {}
            }
        }
        Some(item)
    }
}

/// Wait before attempt `attempts + 1`: 1 s doubling to 2 min, times 0.5..1 (`jitter` in 0..=1).
pub fn backoff(attempts: u32, jitter: f64) -> Duration {
    let ceiling = f64::from(1u32 << attempts.min(7)).min(120.0);
    Duration::from_secs_f64(ceiling * (0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::event::{Composer, Epoch, EventType, tests::transition};
    use super::*;
    use crate::alert::Change;
    use detectors::base::Severity;

    fn event(change: Change, fingerprint: &str, severity: Severity) -> Arc<Event> {
        let composer = Composer::new(Epoch::now(), "i", None);
        Arc::new(composer.compose(&transition(change, fingerprint, severity)))
    }

    fn at(ms: u64) -> Arrival {
        Arrival::from_millis(ms)
    }

    #[test]
    fn a_clear_never_overtakes_its_raise() {
        let mut q = Queue::new(10);
        q.push(event(Change::Raise, "a", Severity::Critical), at(0));
        q.push(event(Change::Clear, "a", Severity::Critical), at(1));
        q.push(event(Change::Raise, "b", Severity::Critical), at(2));
        let first = q.take(at(5)).unwrap();
        assert_eq!(&*first.item.event.fingerprint, "a");
        let second = q.take(at(5)).unwrap();
        assert_eq!(&*second.item.event.fingerprint, "b");
        assert!(q.take(at(5)).is_none(), "the clear waits behind its raise");
        q.retry(&first, at(5), Duration::from_millis(100));
        assert!(q.take(at(50)).is_none());
        assert_eq!(q.next_due(), Some(at(105)));
        let again = q.take(at(105)).unwrap();
        assert_eq!(
            (again.item.attempts, again.item.event.kind),
            (1, EventType::Raise)
        );
        q.done(&again);
        assert_eq!(q.take(at(105)).unwrap().item.event.kind, EventType::Clear);
        q.done(&second);
        assert_eq!((q.len(), q.sending()), (1, 1));
    }

    #[test]
    fn overflow_takes_updates_and_infos_first() {
        let mut q = Queue::new(3);
        let kinds = |q: &Queue| q.items.values().map(|i| i.event.kind).collect::<Vec<_>>();
        q.push(event(Change::Raise, "a", Severity::Critical), at(0));
        q.push(event(Change::Update, "a", Severity::Critical), at(1));
        q.push(event(Change::Raise, "b", Severity::Info), at(2));
        let gone = q
            .push(event(Change::Clear, "a", Severity::Critical), at(3))
            .unwrap();
        assert_eq!(gone.kind, EventType::Update);
        assert_eq!(
            kinds(&q),
            [EventType::Raise, EventType::Raise, EventType::Clear]
        );
        let gone = q
            .push(event(Change::Raise, "c", Severity::Warning), at(4))
            .unwrap();
        assert_eq!(gone.severity, Severity::Info);
        let gone = q
            .push(event(Change::Update, "c", Severity::Warning), at(5))
            .unwrap();
        assert_eq!(
            (gone.kind, q.len()),
            (EventType::Update, 3),
            "the newcomer goes itself"
        );
        let gone = q
            .push(event(Change::Raise, "d", Severity::Warning), at(6))
            .unwrap();
        assert_eq!((gone.kind, &*gone.fingerprint), (EventType::Raise, "a"));
        // Its row goes on with the clear.
        let order: Vec<_> = std::iter::from_fn(|| q.take(at(9)))
            .map(|t| t.item.event.fingerprint.to_string())
            .collect();
        assert_eq!(order, ["a", "c", "d"]);
    }

    #[test]
    fn what_is_being_sent_is_never_dropped() {
        let mut q = Queue::new(1);
        q.push(event(Change::Update, "a", Severity::Info), at(0));
        let ticket = q.take(at(0)).unwrap();
        assert!(
            q.push(event(Change::Raise, "b", Severity::Critical), at(1))
                .is_some()
        );
        q.done(&ticket);
        assert!(q.is_empty() && q.rows.is_empty() && q.heads.is_empty());
    }

    #[test]
    fn backoff_grows_to_two_minutes() {
        assert_eq!(backoff(0, 1.0), Duration::from_secs(1));
        assert_eq!(backoff(0, 0.0), Duration::from_millis(500));
        assert_eq!(backoff(3, 1.0), Duration::from_secs(8));
        assert_eq!(backoff(99, 1.0), Duration::from_secs(120));
    }

    #[test]
    fn hurry_makes_retries_due() {
        let mut q = Queue::new(4);
        q.push(event(Change::Raise, "a", Severity::Critical), at(0));
        let t = q.take(at(0)).unwrap();
        q.retry(&t, at(0), Duration::from_secs(100));
        assert!(q.take(at(10)).is_none());
        q.hurry(at(10));
        let t = q.take(at(10)).unwrap();
        q.done(&t);
        assert!(q.is_empty() && q.heads.is_empty());
    }
}
