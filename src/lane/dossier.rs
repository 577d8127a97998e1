//! What a lane keeps as evidence: pictures, encoded units, numbers.

use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Arrival, Exhibit, Limit, Reading, RuleSpec, Severity, Stamp, Track, Value};

use super::super::instance::{Said, kind_of};
use super::{Latest, Worker};
use crate::alert::{Change, Defect, Moment, Transition};
use crate::config;
use crate::evidence::{Keeper, Measure, Numbers, Recorder, Stills, Suspicion};
use crate::ingest::PictureBuffer;

/// What one unit changed about defects.
#[derive(Default)]
pub(super) struct Told {
    raised: Vec<(Defect, Option<Exhibit>)>,
    cleared: Vec<Defect>,
}

impl Told {
    pub(super) fn turn(&mut self, turn: &Transition, said: &Said) {
        match turn.change {
            Change::Raise => {
                let exhibit = said.reading.exhibit.clone();
                self.raised.push((turn.defect.clone(), exhibit));
            }
            Change::Clear => self.cleared.push(turn.defect.clone()),
            Change::Update => {}
        }
    }
}

/// Evidence of one stream.
pub(super) struct Dossier {
    keeper: Keeper,
    pub(super) recorder: Arc<Recorder>,
    pub(super) numbers: Numbers,
}

impl Dossier {
    pub(super) fn new(stills: Arc<Stills>, stream: &config::Stream) -> Self {
        Self {
            keeper: Keeper::new(Arc::clone(&stills)),
            recorder: Recorder::new(stills, raised_after(stream)),
            numbers: Numbers::default(),
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Arrival) {
        self.recorder.tick(now, &self.numbers);
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self) {
        self.keeper.finish();
        self.recorder.finish(&self.numbers);
    }
}

/// How long after its beginning a defect of pictures or sound is raised, at most, as far as the rules tell: a run of so
/// many seconds, or a limit that is held. What is wrong with the input as a whole needs no more: while nothing comes,
/// nothing goes either.
fn raised_after(stream: &config::Stream) -> Duration {
    let tracks = |d: &&config::DetectorConfig| kind_of(d.descriptor.needs.scope).is_some();
    let rules = stream.detectors.iter().filter(tracks).flat_map(|detector| {
        let unit = |signal: &str| {
            let mut signals = detector.descriptor.signals.iter();
            signals.find(|s| s.name == signal).map(|s| s.unit)
        };
        detector
            .rules
            .iter()
            .map(move |rule| (rule, unit(rule.signal)))
    });
    rules
        .filter(|(rule, _)| rule.severity >= Severity::Warning)
        .map(|(rule, unit)| match (rule.raise, unit) {
            (Limit::AtLeast(secs), Some("seconds")) => {
                let secs = Duration::try_from_secs_f64(secs).unwrap_or_default();
                rule.hold.saturating_add(secs)
            }
            _ => rule.hold,
        })
        .max()
        .unwrap_or_default()
}

/// The unit of what is measured of one picture.
const SHARE: &str = "ratio 0..1";

/// The rule that a defect was judged by.
fn rule_of<'a>(stream: &'a config::Stream, defect: &Defect) -> Option<&'a RuleSpec> {
    let mut detectors = stream.detectors.iter();
    let detector = detectors.find(|d| d.descriptor.name == defect.detector)?;
    let mut rules = detector.rules.iter();
    rules.find(|r| r.name == defect.rule)
}

/// How bad a picture is by a rule, where a rule measures each picture by itself: shares of it. Of a run, which only grows,
/// every picture is as bad as the others, and what counts per minute or compares times is no picture's.
fn measure_of(rule: &RuleSpec, defect: &Defect) -> Option<Measure> {
    (defect.unit == SHARE).then_some(Measure {
        signal: rule.signal,
        limit: rule.raise,
    })
}

impl Worker {
    pub(super) fn keep_stills(
        &mut self,
        track: Track,
        picture: Option<PictureBuffer>,
        told: Told,
        at: &Stamp,
    ) {
        let Some(Dossier {
            keeper, recorder, ..
        }) = &mut self.dossier
        else {
            return;
        };
        let picture = picture.map(Arc::new);
        if let Some(picture) = &picture {
            let readings = self
                .latest
                .values()
                .filter(|l| l.track == Some(track))
                .map(|l| &l.reading);
            let hinted = readings.clone().any(is_run);
            let suspicion = match (self.judge.troubled(track), hinted) {
                (true, _) => Suspicion::Troubled,
                (false, true) => Suspicion::Hinted,
                (false, false) => Suspicion::None,
            };
            let exhibit = readings.filter_map(|r| r.exhibit.as_ref()).next();
            keeper.picture(track, Arc::clone(picture), suspicion, exhibit, at.arrival);
        }
        let now = Moment {
            media: at.media,
            arrival: at.arrival,
        };
        for (defect, exhibit) in told.raised {
            if defect.severity >= Severity::Warning {
                let rule = rule_of(&self.stream, &defect);
                recorder.raised(&defect, rule.map(|rule| rule.signal), now);
                let measure = rule.and_then(|rule| measure_of(rule, &defect));
                keeper.raised(defect, exhibit, measure, at.arrival);
            }
        }
        if let Some(picture) = &picture {
            let measured = |defect: &Defect, measure: Measure| {
                let mut latest = self.latest.values().filter(|l| l.track == defect.track);
                let of =
                    |l: &&Latest| (l.detector, l.signal.name) == (defect.detector, measure.signal);
                let reading = &latest.find(of)?.reading;
                let Value::Measured(value) = reading.value else {
                    return None;
                };
                Some((value, reading.exhibit.as_ref()))
            };
            keeper.look(track, picture, measured, at.arrival);
        }
        for defect in &told.cleared {
            recorder.cleared(defect, now);
            keeper.cleared(defect);
        }
    }
}

/// A detector tells of a run that goes on: what it shows may be no good picture, even before a rule says so.
fn is_run(reading: &Reading) -> bool {
    reading.since.is_some() && matches!(reading.value, Value::Measured(v) if v > 0.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::lane::testing;

    #[test]
    fn the_ring_reaches_back_as_far_as_rules_of_tracks_wait() {
        let of = |names: &[&str]| {
            let rows = names
                .iter()
                .map(|name| detectors::registry::find(name).unwrap());
            let rows: Vec<_> = rows.map(|row| (row, row.rules)).collect();
            raised_after(&testing::stream(&rows))
        };
        assert_eq!(of(&[]), Duration::ZERO);
        assert_eq!(of(&["freeze"]), Duration::from_secs(10));
        assert_eq!(of(&["loss", "manifest", "ts"]), Duration::ZERO);
    }
}
