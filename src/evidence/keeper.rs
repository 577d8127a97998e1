//! Which pictures of a stream are worth keeping, in case.

use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Arrival, Exhibit, Limit, Track};

use super::store::{Job, Stills, Worst};
use crate::alert::Defect;
use crate::ingest::PictureBuffer;

/// How often the good picture is renewed.
const RENEW: Duration = Duration::from_secs(1);
/// A mere hint keeps a good picture from being renewed for so long, no longer.
const HINT_HOLDS: Duration = Duration::from_secs(30);

/// The worst picture so far is written so long after the raise, and again at the end.
const SOON: Duration = Duration::from_secs(2);
/// Defects of which the worst picture is looked for, at most.
const MAX_ONGOING: usize = 2;

/// What the detectors think of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Nothing.
    None,
    /// A detector tells of a run that goes on; no rule is pending.
    Hinted,
    /// A rule is pending or firing.
    Troubled,
}

/// A rule's measure of how bad a picture is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// Signal that the rule judges.
    pub signal: &'static str,
    /// Which way it gets worse.
    pub limit: Limit,
}

/// A defect that goes on.
struct Ongoing {
    defect: Defect,
    measure: Measure,
    worst: f64,
    /// The picture of that value, until it is written.
    shows: Option<(Arc<PictureBuffer>, Option<Exhibit>)>,
    raised: Arrival,
    written: bool,
}

impl Ongoing {
    fn look(&mut self, picture: &Arc<PictureBuffer>, value: f64, exhibit: Option<&Exhibit>) {
        let worse = match self.measure.limit {
            Limit::AtLeast(_) => value > self.worst,
            Limit::AtMost(_) => value < self.worst,
        };
        if worse {
            self.worst = value;
            self.shows = Some((Arc::clone(picture), exhibit.cloned()));
        }
    }

    fn write(&mut self, stills: &Stills) {
        if let Some((picture, exhibit)) = self.shows.take() {
            self.written = true;
            stills.submit_worst(Worst {
                defect: self.defect.clone(),
                picture,
                exhibit,
            });
        }
    }
}

/// Keeps the last good and the first bad picture of one stream, and the worst ones of what goes on: four decoder
/// buffers at most, of the picture track with the lowest number seen.
pub struct Keeper {
    stills: Arc<Stills>,
    track: Option<Track>,
    good: Option<(Arc<PictureBuffer>, Arrival)>,
    bad: Option<(Arc<PictureBuffer>, Option<Exhibit>)>,
    ongoing: Vec<Ongoing>,
}

impl Keeper {
    /// Keeps nothing yet.
    pub fn new(stills: Arc<Stills>) -> Self {
        Self {
            stills,
            track: None,
            good: None,
            bad: None,
            ongoing: Vec::new(),
        }
    }

    /// A picture has been judged; `exhibit` is what its detectors would draw on it.
    pub fn picture(
        &mut self,
        track: Track,
        picture: impl Into<Arc<PictureBuffer>>,
        suspicion: Suspicion,
        exhibit: Option<&Exhibit>,
        now: Arrival,
    ) {
        if self.track.is_none_or(|kept| track < kept) {
            self.track = Some(track);
            (self.good, self.bad) = (None, None);
        }
        if self.track != Some(track) {
            return;
        }
        let age = self.good.as_ref().map(|(_, since)| now.since(*since));
        let good = match suspicion {
            Suspicion::None => true,
            Suspicion::Hinted => age.is_some_and(|age| age >= HINT_HOLDS),
            Suspicion::Troubled => false,
        };
        if good {
            self.bad = None;
            if age.is_none_or(|age| age >= RENEW) {
                self.good = Some((picture.into(), now));
            }
        } else if self.bad.is_none() {
            self.bad = Some((picture.into(), exhibit.cloned()));
        } else if let Some((_, drawn @ None)) = &mut self.bad
            && suspicion == Suspicion::Troubled
        {
            *drawn = exhibit.cloned();
        }
    }

    /// A defect began: what is kept goes to the writer. With a measure, the worst picture is looked for from now on.
    pub fn raised(
        &mut self,
        defect: Defect,
        exhibit: Option<Exhibit>,
        measure: Option<Measure>,
        now: Arrival,
    ) {
        if let Some(measure) = measure
            && defect.track.is_some()
            && defect.track == self.track
            && self.ongoing.len() < MAX_ONGOING
        {
            self.ongoing.push(Ongoing {
                defect: defect.clone(),
                worst: match measure.limit {
                    Limit::AtLeast(_) => f64::NEG_INFINITY,
                    Limit::AtMost(_) => f64::INFINITY,
                },
                measure,
                shows: None,
                raised: now,
                written: false,
            });
        }
        let (bad, drawn) = match &self.bad {
            // A defect of sound or of another track has no bad picture to show.
            Some((bad, drawn)) if defect.track == self.track => {
                (Some(Arc::clone(bad)), drawn.clone().or(exhibit))
            }
            _ => (None, None),
        };
        self.stills.submit(Job {
            defect,
            good: self.good.as_ref().map(|(good, _)| Arc::clone(good)),
            bad,
            exhibit: drawn,
        });
    }

    /// A picture of a track while defects go on, with what was measured of it for each.
    pub fn look<'a>(
        &mut self,
        track: Track,
        picture: &Arc<PictureBuffer>,
        measured: impl Fn(&Defect, Measure) -> Option<(f64, Option<&'a Exhibit>)>,
        now: Arrival,
    ) {
        for one in &mut self.ongoing {
            if one.defect.track != Some(track) {
                continue;
            }
            if let Some((value, exhibit)) = measured(&one.defect, one.measure) {
                one.look(picture, value, exhibit);
            }
            if !one.written && now.since(one.raised) >= SOON {
                one.write(&self.stills);
            }
        }
    }

    /// A defect is over.
    pub fn cleared(&mut self, defect: &Defect) {
        if let Some(at) = (self.ongoing.iter()).position(|one| one.defect.id == defect.id) {
            self.ongoing.remove(at).write(&self.stills);
        }
    }

    /// Nothing more comes.
    pub fn finish(&mut self) {
        for mut one in self.ongoing.drain(..) {
            one.write(&self.stills);
        }
    }
}
