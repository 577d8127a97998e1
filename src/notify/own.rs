//! Trouble of the monitor itself, told like any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use detectors::base::{Arrival, Cause, Severity};
use jiff::Timestamp;

use crate::alert::incident::MONITOR;
use crate::alert::judge::fingerprint;
use crate::alert::{Change, Defect, Moment, Transition};

/// Something that is wrong with the monitor.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// What kind.
    pub rule: &'static str,
    /// Of what, where there are several.
    pub of: String,
    /// Machine-readable cause.
    pub cause: Cause,
    /// How bad.
    pub severity: Severity,
    /// One sentence.
    pub says: String,
}

/// Which troubles are open.
#[derive(Debug, Default)]
pub struct Troubles {
    open: BTreeMap<String, Defect>,
}

impl Troubles {
    /// Takes all that is wrong now; answers what began and what ended.
    pub fn now(
        &mut self,
        instance: &str,
        troubles: Vec<Trouble>,
        arrival: Arrival,
        utc: Timestamp,
    ) -> Vec<Transition> {
        let at = Moment {
            media: None,
            arrival,
        };
        let mut over = std::mem::take(&mut self.open);
        let mut changes = Vec::new();
        for trouble in troubles {
            // A fingerprint has room for the name of a receiver where a stream has its id.
            let of = format!("{instance}/{}", trouble.of);
            let fingerprint = fingerprint(&of, MONITOR, trouble.rule, None);
            if let Some(known) = over.remove(&fingerprint) {
                self.open.insert(fingerprint, known);
                continue;
            }
            let defect = Defect {
                id: format!("{fingerprint}-{:x}", utc.as_millisecond()),
                fingerprint: fingerprint.clone(),
                stream: Arc::from(instance),
                labels: Arc::default(),
                detector: MONITOR,
                rule: trouble.rule,
                track: None,
                member: None,
                severity: trouble.severity,
                cause: trouble.cause,
                place: None,
                av_offsets: Vec::new(),
                value: 1.0,
                limit: 1.0,
                unit: "troubles",
                says: trouble.says,
                start: at,
                end: None,
            };
            self.open.insert(fingerprint, defect.clone());
            changes.push(Transition {
                change: Change::Raise,
                at,
                defect,
            });
        }
        for mut defect in over.into_values() {
            defect.end = Some(at);
            changes.push(Transition {
                change: Change::Clear,
                at,
                defect,
            });
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_begins_once_and_ends_once() {
        let mut troubles = Troubles::default();
        let lost = |of: &str| Trouble {
            rule: "receiver_lost",
            of: of.into(),
            cause: Cause::ReceiverLost,
            severity: Severity::Critical,
            says: "It cannot be reached.".into(),
        };
        let mut now = |what: Vec<Trouble>| {
            let at = Arrival::from_millis(5);
            let changes = troubles.now("watch-1", what, at, Timestamp::UNIX_EPOCH);
            changes.into_iter().map(|t| t.change).collect::<Vec<_>>()
        };
        assert_eq!(now(vec![lost("a")]), [Change::Raise]);
        assert_eq!(now(vec![lost("a"), lost("b")]), [Change::Raise]);
        assert_eq!(now(vec![lost("b")]), [Change::Clear]);
        assert_eq!(now(vec![]), [Change::Clear]);
        assert_eq!(now(vec![]), []);
    }
}
