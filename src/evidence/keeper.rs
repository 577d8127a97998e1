//! Which pictures of a stream are worth keeping, in case.

use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Arrival, Exhibit, Track};

use super::store::{Job, Stills};
use crate::alert::Defect;
use crate::ingest::PictureBuffer;

/// How often the good picture is renewed.
const RENEW: Duration = Duration::from_secs(1);
/// A mere hint keeps a good picture from being renewed for so long, no longer.
const HINT_HOLDS: Duration = Duration::from_secs(30);

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

/// Keeps the last good and the first bad picture of one stream: two decoder buffers at most, of the picture
/// track with the lowest number seen.
pub struct Keeper {
    stills: Arc<Stills>,
    track: Option<Track>,
    good: Option<(Arc<PictureBuffer>, Arrival)>,
    bad: Option<(Arc<PictureBuffer>, Option<Exhibit>)>,
}

impl Keeper {
    /// Keeps nothing yet.
    pub fn new(stills: Arc<Stills>) -> Self {
        Self {
            stills,
            track: None,
            good: None,
            bad: None,
        }
    }

    /// A picture has been judged; `exhibit` is what its detectors would draw on it.
    pub fn picture(
        &mut self,
        track: Track,
        picture: PictureBuffer,
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
                self.good = Some((Arc::new(picture), now));
            }
        } else if self.bad.is_none() {
            self.bad = Some((Arc::new(picture), exhibit.cloned()));
        } else if let Some((_, drawn @ None)) = &mut self.bad
            && suspicion == Suspicion::Troubled
        {
            *drawn = exhibit.cloned();
        }
    }

    /// A defect began: what is kept goes to the writer.
    pub fn raised(&mut self, defect: Defect, exhibit: Option<Exhibit>) {
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
}
