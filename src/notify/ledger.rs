//! What is open and what happened lately, in memory, for the API and for metrics.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use detectors::base::{Arrival, Severity};

use super::event::{Event, EventType};

/// Newest events that are kept.
pub const RECENT_EVENTS: usize = 1000;

/// Stream, detector, rule.
pub type RuleKey = (Arc<str>, &'static str, &'static str);

/// How often and how long a rule fired on a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Raises by severity: info, warning, critical.
    pub raised: [u64; 3],
    /// Defects open now.
    pub open: u32,
    /// Time with at least one defect open, up to the last change.
    active: Duration,
    /// Since when at least one is open.
    since: Arrival,
}

impl Tally {
    /// Time during which at least one defect of the rule was open, from decision to decision.
    pub fn active(&self, now: Arrival) -> Duration {
        match self.open {
            0 => self.active,
            _ => self.active + now.since(self.since),
        }
    }

    /// Raises with this severity.
    pub fn raised(&self, severity: Severity) -> u64 {
        self.raised[severity as usize]
    }
}

#[derive(Default)]
struct Inner {
    open: BTreeMap<String, Arc<Event>>,
    recent: VecDeque<Arc<Event>>,
    tallies: HashMap<RuleKey, Tally>,
}

/// Open defects, recent events, tallies.
#[derive(Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

impl Ledger {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an event down.
    pub fn note(&self, event: &Arc<Event>, at: Arrival) {
        let mut inner = self.inner();
        let key = (Arc::clone(&event.stream), event.detector, event.rule);
        let known = inner.open.contains_key(&event.defect_id);
        let tally = inner.tallies.entry(key).or_default();
        match event.kind {
            EventType::Clear => {
                if known {
                    tally.active = tally.active(at);
                    tally.since = at;
                    tally.open = tally.open.saturating_sub(1);
                }
                inner.open.remove(&event.defect_id);
            }
            EventType::Raise | EventType::Update => {
                if !known {
                    if tally.open == 0 {
                        tally.since = at;
                    }
                    tally.open += 1;
                }
                if event.kind == EventType::Raise {
                    tally.raised[event.severity as usize] += 1;
                }
                inner
                    .open
                    .insert(event.defect_id.clone(), Arc::clone(event));
            }
        }
        if inner.recent.len() == RECENT_EVENTS {
            inner.recent.pop_front();
        }
        inner.recent.push_back(Arc::clone(event));
    }

    /// Open defects, each as its newest event, worst first, then oldest first.
    pub fn open(&self) -> Vec<Arc<Event>> {
        let mut open: Vec<_> = self.inner().open.values().cloned().collect();
        open.sort_by(|a, b| {
            (b.severity.cmp(&a.severity)).then_with(|| a.start.utc.cmp(&b.start.utc))
        });
        open
    }

    /// Events, newest first.
    pub fn recent(&self) -> Vec<Arc<Event>> {
        self.inner().recent.iter().rev().cloned().collect()
    }

    /// Tallies of all rules that ever fired on streams that are still watched.
    pub fn tallies(&self) -> HashMap<RuleKey, Tally> {
        self.inner().tallies.clone()
    }

    /// Drops the open defects and tallies of a stream that is no longer watched.
    pub fn forget(&self, stream: &str) {
        let mut inner = self.inner();
        inner.open.retain(|_, event| &*event.stream != stream);
        inner.tallies.retain(|(of, _, _), _| &**of != stream);
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Composer, Epoch, tests::transition};
    use super::*;
    use crate::alert::Change;

    #[test]
    fn tallies_count_raises_and_open_time() {
        let ledger = Ledger::default();
        let composer = Composer::new(Epoch::now(), "i", None);
        let note = |change, fingerprint, secs: u64| {
            let event = composer.compose(&transition(change, fingerprint, Severity::Critical));
            ledger.note(&Arc::new(event), Arrival::from_millis(secs * 1000));
        };
        note(Change::Raise, "a", 10);
        note(Change::Raise, "b", 12);
        note(Change::Update, "a", 13);
        note(Change::Clear, "a", 15);
        let key: RuleKey = ("news1".into(), "freeze", "frozen");
        let tally = ledger.tallies()[&key].clone();
        assert_eq!((tally.raised(Severity::Critical), tally.open), (2, 1));
        assert_eq!(
            tally.active(Arrival::from_millis(20_000)),
            Duration::from_secs(10)
        );
        assert_eq!(ledger.open().len(), 1);
        note(Change::Clear, "b", 16);
        note(Change::Clear, "b", 17);
        let tally = ledger.tallies()[&key].clone();
        assert_eq!(
            tally.active(Arrival::from_millis(99_000)),
            Duration::from_secs(6)
        );
        assert_eq!(tally.open, 0);
        assert_eq!(ledger.recent().len(), 6);
        assert_eq!(ledger.recent()[0].kind, EventType::Clear);
        ledger.forget("news1");
        assert!(ledger.tallies().is_empty());
    }

    #[test]
    fn recent_events_are_bounded() {
        let ledger = Ledger::default();
        let composer = Composer::new(Epoch::now(), "i", None);
        for _ in 0..RECENT_EVENTS + 10 {
            let event = composer.compose(&transition(Change::Update, "a", Severity::Info));
            ledger.note(&Arc::new(event), Arrival::default());
        }
        assert_eq!(ledger.recent().len(), RECENT_EVENTS);
    }
}
