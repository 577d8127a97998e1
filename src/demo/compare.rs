//! Compares what was done to the demo streams with what the daemon said. Pure; times are passed in.

use std::fmt::Write as _;

use detectors::base::Severity;

use super::schedule::{Delivery, Fault, Plan, Planned};
use crate::alert::{Change, Transition};

/// How long after the end of a fault its defect may still be raised: delivery delay plus the longest hold.
fn slack_secs(delivery: Delivery) -> f64 {
    match delivery {
        // Three segments behind the live edge, plus one being made.
        Delivery::Hls => 14.0,
        Delivery::Srt | Delivery::Udp => 4.0,
    }
}

/// A raised defect, as the comparer keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Raised {
    /// `detector/rule`.
    pub name: String,
    /// Source time at which it was raised.
    pub at_secs: f64,
    /// Source time at which it was cleared.
    pub cleared_secs: Option<f64>,
    id: String,
    matched: bool,
}

/// The comparison of one stream over one loop.
#[derive(Debug)]
pub struct Comparison {
    plan: Plan,
    raised: Vec<Raised>,
    found: Vec<Option<f64>>,
    sizes_seen: Vec<(f64, u32)>,
}

impl Comparison {
    /// Nothing found yet.
    pub fn new(plan: Plan) -> Self {
        let found = vec![None; plan.faults.len()];
        Self {
            plan,
            raised: Vec::new(),
            found,
            sizes_seen: Vec::new(),
        }
    }

    /// The plan compared with.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes what the daemon said at `at_secs` of source time.
    pub fn take(&mut self, transition: &Transition, at_secs: f64) {
        let defect = &transition.defect;
        match transition.change {
            // What comes later belongs to the next loop.
            Change::Raise if at_secs >= self.judged_after_secs() => {}
            Change::Raise if defect.severity >= Severity::Warning => {
                let name = format!("{}/{}", defect.detector, defect.rule);
                let mut matched = false;
                for (planned, found) in self.plan.faults.iter().zip(&mut self.found) {
                    if !within(planned, self.plan.delivery, at_secs) {
                        continue;
                    }
                    if planned.fault.proofs().contains(&name.as_str()) {
                        found.get_or_insert(at_secs - planned.span_secs.start);
                        matched = true;
                    }
                    matched |= planned.fault.consequences().contains(&defect.detector);
                }
                self.raised.push(Raised {
                    name,
                    at_secs,
                    cleared_secs: None,
                    id: defect.id.clone(),
                    matched,
                });
            }
            Change::Clear => {
                if let Some(raised) = self.raised.iter_mut().find(|r| r.id == defect.id) {
                    raised.cleared_secs = Some(at_secs);
                }
            }
            Change::Raise | Change::Update => {}
        }
    }

    /// Notes the height of the decoded pictures at `at_secs`.
    pub fn picture_height(&mut self, height: u32, at_secs: f64) {
        if self
            .sizes_seen
            .last()
            .is_none_or(|&(_, last)| last != height)
        {
            if !self.sizes_seen.is_empty() {
                for (planned, found) in self.plan.faults.iter().zip(&mut self.found) {
                    if planned.fault == Fault::SizeChange
                        && within(planned, self.plan.delivery, at_secs)
                    {
                        found.get_or_insert(at_secs - planned.span_secs.start);
                    }
                }
            }
            self.sizes_seen.push((at_secs, height));
        }
    }

    /// Planned faults with the delay after which each was found.
    pub fn rows(&self) -> impl Iterator<Item = (&Planned, Option<f64>)> {
        self.plan.faults.iter().zip(self.found.iter().copied())
    }

    /// Defects that no fault explains.
    pub fn false_defects(&self) -> impl Iterator<Item = &Raised> {
        self.raised.iter().filter(|r| !r.matched)
    }

    /// Faults of which nothing was said.
    pub fn missed(&self) -> impl Iterator<Item = &Planned> {
        self.rows()
            .filter(|(_, found)| found.is_none())
            .map(|(planned, _)| planned)
    }

    /// Defects that never ended, although their fault did.
    pub fn still_open(&self) -> impl Iterator<Item = &Raised> {
        self.raised.iter().filter(|r| r.cleared_secs.is_none())
    }

    /// Whether a whole loop went by without a missed, false or everlasting defect.
    pub fn is_perfect(&self) -> bool {
        self.missed().next().is_none()
            && self.false_defects().next().is_none()
            && self.still_open().next().is_none()
    }

    /// Seconds of source time after which the loop can be judged.
    pub fn judged_after_secs(&self) -> f64 {
        self.plan.loop_secs + 2.0
    }

    /// A table of the stream at `now_secs`: expected beside found.
    pub fn table(&self, now_secs: f64) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", self.plan.delivery.id());
        for (planned, found) in self.rows() {
            let state = match found {
                Some(delay) => format!("found after {delay:.1} s"),
                None if now_secs < planned.span_secs.start => "to come".to_owned(),
                None if now_secs < planned.span_secs.end + slack_secs(self.plan.delivery) => {
                    "under way …".to_owned()
                }
                None => "MISSED".to_owned(),
            };
            let _ = writeln!(
                text,
                "  {:>6.1} s – {:>6.1} s  {:<20} {}",
                planned.span_secs.start,
                planned.span_secs.end,
                planned.fault.to_string(),
                state
            );
        }
        for raised in self.false_defects() {
            let _ = writeln!(
                text,
                "  {:>6.1} s             FALSE {}",
                raised.at_secs, raised.name
            );
        }
        text
    }
}

fn within(planned: &Planned, delivery: Delivery, at_secs: f64) -> bool {
    (planned.span_secs.start..planned.span_secs.end + slack_secs(delivery)).contains(&at_secs)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use detectors::base::{Arrival, Cause};

    use super::*;
    use crate::alert::{Defect, Moment};

    fn said(change: Change, detector: &'static str, rule: &'static str, id: &str) -> Transition {
        let at = Moment {
            media: None,
            arrival: Arrival::default(),
        };
        Transition {
            change,
            at,
            defect: Defect {
                id: id.into(),
                fingerprint: id.into(),
                stream: "demo-udp".into(),
                labels: Arc::new(BTreeMap::new()),
                detector,
                rule,
                track: None,
                member: None,
                severity: Severity::Critical,
                cause: Cause::Frozen,
                place: None,
                av_offsets: Vec::new(),
                value: 2.0,
                limit: 2.0,
                unit: "seconds",
                says: String::new(),
                start: at,
                end: None,
            },
        }
    }

    fn plan() -> Plan {
        let faults = vec![Planned {
            fault: Fault::Freeze,
            span_secs: 20.0..25.0,
            seed: 0,
        }];
        Plan {
            delivery: Delivery::Udp,
            faults,
            loop_secs: 40.0,
        }
    }

    #[test]
    fn a_found_and_cleared_fault_is_perfect() {
        let mut compared = Comparison::new(plan());
        assert!(!compared.is_perfect(), "missed so far");
        compared.take(&said(Change::Raise, "freeze", "frozen", "a"), 22.4);
        assert!(!compared.is_perfect(), "still open");
        compared.take(&said(Change::Clear, "freeze", "frozen", "a"), 25.8);
        assert!(compared.is_perfect());
    }

    #[test]
    fn a_defect_without_a_fault_or_of_another_kind_is_false() {
        let mut compared = Comparison::new(plan());
        compared.take(&said(Change::Raise, "freeze", "frozen", "a"), 12.0);
        compared.take(&said(Change::Raise, "black", "black", "b"), 22.0);
        assert_eq!(compared.false_defects().count(), 2);
        assert_eq!(compared.missed().count(), 1);
    }

    #[test]
    fn a_size_change_is_found_by_the_format_and_by_nothing_else() {
        let mut plan = plan();
        plan.faults[0].fault = Fault::SizeChange;
        let mut compared = Comparison::new(plan);
        compared.picture_height(360, 5.0);
        assert_eq!(compared.missed().count(), 1);
        compared.picture_height(180, 20.5);
        assert!(compared.is_perfect());
        compared.take(&said(Change::Raise, "freeze", "frozen", "a"), 21.0);
        assert_eq!(compared.false_defects().count(), 1);
    }
}
