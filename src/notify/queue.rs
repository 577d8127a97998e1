//! What waits for one receiver: in order for each incident key, with time passed in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use detectors::base::Arrival;

use super::store::Row;

/// A message on its way to a receiver.
#[derive(Debug, Clone)]
pub struct Item {
    /// As stored.
    pub row: Arc<Row>,
    /// When it was decided.
    pub decided: Arrival,
    /// Attempts that failed so far.
    pub attempts: u32,
    /// Whether one of them may have arrived.
    pub maybe_sent: bool,
    due: Arrival,
}

/// Messages of one receiver. Those of one key leave strictly one after another.
#[derive(Debug, Default)]
pub struct Queue {
    items: BTreeMap<i64, Item>,
    /// Waiting ids of each key, oldest first.
    rows: HashMap<String, VecDeque<i64>>,
    /// Heads of the rows that are not being sent, by due time.
    heads: BTreeSet<(Arrival, i64)>,
    sending: HashSet<i64>,
    /// Keys of which nothing leaves for now.
    held: HashSet<String>,
}

impl Queue {
    /// Messages waiting or being sent.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// When the oldest waiting message was decided.
    pub fn oldest(&self) -> Option<Arrival> {
        self.items.values().map(|item| item.decided).min()
    }

    /// Adds a message that was decided then, and is due then. One that is there already is left as it is.
    pub fn push(&mut self, row: Row, decided: Arrival, due: Arrival) {
        let id = row.id;
        if self.items.contains_key(&id) {
            return;
        }
        let waiting = self.rows.entry(row.message.key.clone()).or_default();
        waiting.push_back(id);
        if waiting.len() == 1 && !self.held.contains(&row.message.key) {
            self.heads.insert((due, id));
        }
        let item = Item {
            decided,
            attempts: row.attempts,
            maybe_sent: row.maybe_sent,
            row: Arc::new(row),
            due,
        };
        self.items.insert(id, item);
    }

    /// Takes the message that is due first, if any is due. Give it back with [`Queue::done`] or [`Queue::retry`].
    pub fn take(&mut self, now: Arrival) -> Option<Item> {
        let (due, id) = *self.heads.first()?;
        if due > now {
            return None;
        }
        self.heads.pop_first();
        let item = self.items.get(&id)?.clone();
        self.sending.insert(id);
        Some(item)
    }

    /// When the next message is due; `None` when nothing waits.
    pub fn next_due(&self) -> Option<Arrival> {
        self.heads.first().map(|(due, _)| *due)
    }

    /// The message needs no more attempts (delivered, or given up).
    pub fn done(&mut self, id: i64) {
        self.remove(id);
    }

    /// The message is tried again at `due`; those behind it in its row wait with it.
    pub fn retry(&mut self, id: i64, due: Arrival, maybe_sent: bool) {
        self.sending.remove(&id);
        if let Some(item) = self.items.get_mut(&id) {
            item.attempts += 1;
            item.maybe_sent |= maybe_sent;
            item.due = due;
            self.heads.insert((due, id));
        }
    }

    /// Lets nothing of this key leave until [`Queue::release`]; `false` when something of it is being sent.
    pub fn hold(&mut self, key: &str) -> bool {
        if let Some(head) = self.rows.get(key).and_then(VecDeque::front) {
            if self.sending.contains(head) {
                return false;
            }
            if let Some(item) = self.items.get(head) {
                self.heads.remove(&(item.due, *head));
            }
        }
        self.held.insert(key.to_owned())
    }

    /// Messages of this key may leave again.
    pub fn release(&mut self, key: &str) {
        self.held.remove(key);
        if let Some(head) = self.rows.get(key).and_then(VecDeque::front)
            && let Some(item) = self.items.get(head)
        {
            self.heads.insert((item.due, *head));
        }
    }

    /// Makes everything due at once; for the last attempts before the process ends.
    pub fn hurry(&mut self, now: Arrival) {
        let heads = std::mem::take(&mut self.heads);
        for (due, id) in heads {
            self.heads.insert((due.min(now), id));
            if let Some(item) = self.items.get_mut(&id) {
                item.due = due.min(now);
            }
        }
    }

    /// All messages.
    pub fn ids(&self) -> Vec<i64> {
        self.items.keys().copied().collect()
    }

    /// Messages that are being sent.
    pub fn sending(&self) -> Vec<i64> {
        self.sending.iter().copied().collect()
    }

    /// Leaves messages out that nobody needs any more.
    pub fn leave_out(&mut self, ids: &[i64]) {
        for id in ids {
            self.remove(*id);
        }
    }

    fn remove(&mut self, id: i64) {
        let Some(item) = self.items.remove(&id) else {
            return;
        };
        self.sending.remove(&id);
        self.heads.remove(&(item.due, id));
        let key = &item.row.message.key;
        let Some(row) = self.rows.get_mut(key) else {
            return;
        };
        row.retain(|waiting| *waiting != id);
        match row.front() {
            None => {
                self.rows.remove(key);
            }
            Some(head) if !self.sending.contains(head) && !self.held.contains(key) => {
                if let Some(next) = self.items.get(head) {
                    self.heads.insert((next.due, *head));
                }
            }
            Some(_) => {}
        }
    }
}

/// Wait before attempt `attempts + 1`: 1 s doubling to 2 min, times 0.5..1 (`jitter` in 0..=1).
pub fn backoff(attempts: u32, jitter: f64) -> Duration {
    let ceiling = f64::from(1u32 << attempts.min(7)).min(120.0);
    Duration::from_secs_f64(ceiling * (0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
}

/// How fast a receiver may be called: a token bucket, with time passed in.
#[derive(Debug)]
pub struct Bucket {
    per_sec: f64,
    burst: f64,
    tokens: f64,
    at: Arrival,
}

impl Bucket {
    /// Full.
    pub fn new(per_minute: f64, burst: f64, now: Arrival) -> Self {
        Self {
            per_sec: (per_minute / 60.0).max(1e-3),
            burst: burst.max(1.0),
            tokens: burst.max(1.0),
            at: now,
        }
    }

    /// Takes a token, or says how long to wait for one.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&mut self, now: Arrival) -> Result<(), Duration> {
        let new = now.since(self.at).as_secs_f64() * self.per_sec;
        self.tokens = (self.tokens + new).min(self.burst);
        self.at = self.at.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_sec))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use jiff::Timestamp;

    use super::super::store::Outgoing;
    use super::*;

    fn row(id: i64, key: &str, incarnation: u64, news: &str) -> Row {
        Row {
            id,
            message: Outgoing {
                receiver: "ops".into(),
                key: key.into(),
                incarnation,
                sequence: u64::try_from(id).unwrap(),
                news: news.into(),
                body: String::new(),
            },
            created: Timestamp::UNIX_EPOCH,
            due: Timestamp::UNIX_EPOCH,
            attempts: 0,
            maybe_sent: false,
        }
    }

    fn at(ms: u64) -> Arrival {
        Arrival::from_millis(ms)
    }

    fn queue(rows: &[(&str, u64, &str)]) -> Queue {
        let mut q = Queue::default();
        for (id, (key, incarnation, news)) in rows.iter().enumerate() {
            let id = id as i64 + 1;
            let then = at(id as u64);
            q.push(row(id, key, *incarnation, news), then, then);
        }
        q
    }

    const RAISED: &str = "raised";
    const RESOLVED: &str = "resolved";

    #[test]
    fn a_resolve_never_overtakes_its_raise() {
        let mut q = queue(&[("a", 1, RAISED), ("a", 1, RESOLVED), ("b", 1, RAISED)]);
        let first = q.take(at(5)).unwrap();
        assert_eq!(first.row.message.key, "a");
        let second = q.take(at(5)).unwrap();
        assert_eq!(second.row.message.key, "b");
        assert!(
            q.take(at(5)).is_none(),
            "the resolve waits behind its raise"
        );
        q.retry(first.row.id, at(105), true);
        assert!(q.take(at(50)).is_none());
        assert_eq!(q.next_due(), Some(at(105)));
        let again = q.take(at(105)).unwrap();
        assert_eq!((again.attempts, again.maybe_sent), (1, true));
        q.done(again.row.id);
        assert_eq!(&*q.take(at(105)).unwrap().row.message.news, "resolved");
        q.done(second.row.id);
        assert_eq!(q.len(), 1);
    }

    #[test]
    fn what_is_left_out_lets_the_next_go() {
        let mut q = queue(&[("a", 1, RAISED), ("a", 1, RESOLVED), ("a", 2, RAISED)]);
        let sent = q.take(at(5)).unwrap();
        assert_eq!(q.sending(), [sent.row.id]);
        q.retry(sent.row.id, at(50), false);
        q.leave_out(&[1, 2]);
        assert_eq!(q.take(at(9)).unwrap().row.message.incarnation, 2);
        assert!(q.take(at(99)).is_none());
        q.leave_out(&[3, 7]);
        assert!(q.is_empty() && q.heads.is_empty() && q.rows.is_empty());
    }

    #[test]
    fn what_is_held_waits_and_the_others_go() {
        let mut q = queue(&[("a", 1, RAISED), ("b", 1, RAISED), ("b", 1, RESOLVED)]);
        let sent = q.take(at(5)).unwrap();
        assert!(!q.hold("a"), "it is being sent");
        assert!(q.hold("b") && q.hold("c"));
        q.push(row(9, "c", 1, RAISED), at(5), at(5));
        q.leave_out(&[2]);
        assert!(q.take(at(99)).is_none());
        q.done(sent.row.id);
        q.release("b");
        q.release("c");
        assert_eq!(q.take(at(99)).unwrap().row.id, 3);
        assert_eq!(q.take(at(99)).unwrap().row.id, 9);
    }

    #[test]
    fn a_bucket_holds_the_rate() {
        let mut bucket = Bucket::new(60.0, 2.0, at(0));
        assert_eq!(bucket.take(at(0)), Ok(()));
        assert_eq!(bucket.take(at(0)), Ok(()));
        assert_eq!(bucket.take(at(0)), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(at(1000)), Ok(()));
        let taken = (1..=60)
            .filter(|s| bucket.take(at(1000 + s * 1000)).is_ok())
            .count();
        assert_eq!(taken, 60);
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
        let mut q = queue(&[("a", 1, RAISED)]);
        let t = q.take(at(1)).unwrap();
        q.retry(t.row.id, at(100_000), false);
        assert!(q.take(at(10)).is_none());
        q.hurry(at(10));
        let t = q.take(at(10)).unwrap();
        q.done(t.row.id);
        assert!(q.is_empty() && q.heads.is_empty() && q.rows.is_empty());
    }
}
