//! One detector on one track (or on the stream): what it sees, what it is spared, and what its failure means.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use detectors::base::{
    Cost, Descriptor, Detector, Gap, Kind, Media, Options, Reading, Reset, Scope, Signal, Sink,
    Stamp, Track, Unit, Why,
};

use super::shed::Level;

/// A reading on its way to the judge.
pub(super) struct Said {
    pub(super) detector: usize,
    pub(super) signal: &'static Signal,
    pub(super) track: Option<Track>,
    pub(super) reading: Reading,
    /// Said by the lane for all tracks that the signal is known on.
    pub(super) everywhere: bool,
}

/// Work done, by detector.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) busy_nanos: u64,
    pub(super) analysed: u64,
    pub(super) shed: u64,
    pub(super) measured_secs: f64,
    pub(super) due_secs: f64,
    pub(super) failed: bool,
}

/// Whether the main signal is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    Measured,
    Missing,
    /// It cannot exist here.
    NotDue,
}

pub(super) struct Instance {
    pub(super) detector: usize,
    pub(super) track: Option<Track>,
    pub(super) descriptor: &'static Descriptor,
    pub(super) sight: Sight,
    code: Box<dyn Detector>,
    suspended: bool,
    skip_next: bool,
    /// Units it was spared, by track.
    owed: BTreeMap<Track, u32>,
}

/// The detector panicked.
pub(super) struct Panicked;

impl Instance {
    pub(super) fn build(
        detector: usize,
        descriptor: &'static Descriptor,
        options: &Options,
        track: Option<Track>,
    ) -> Result<Self, Panicked> {
        let code = guarded(|| (descriptor.build)(options))?;
        Ok(Self {
            detector,
            track,
            descriptor,
            sight: Sight::Missing,
            code,
            suspended: false,
            skip_next: false,
            owed: BTreeMap::new(),
        })
    }

    /// Whether a unit is for it.
    pub(super) fn wants(&self, unit: &Unit<'_>) -> bool {
        match unit.media {
            Media::Fact(_) | Media::Tick => true,
            Media::Video(_) | Media::Audio(_) if !self.descriptor.needs.media => false,
            Media::Video(_) | Media::Audio(_) => {
                self.descriptor.needs.scope == Scope::Stream || self.track == unit.track
            }
        }
    }

    pub(super) fn reset(&mut self, cause: Reset) -> Result<(), Panicked> {
        self.owed.clear();
        guarded(|| self.code.reset(cause))
    }

    /// Hands the unit on, or spares the detector it, as the ladder says. A panic's readings are discarded.
    pub(super) fn observe(
        &mut self,
        unit: &Unit<'_>,
        level: Level,
        tally: &mut Tally,
        said: &mut Vec<Said>,
    ) -> Result<(), Panicked> {
        let costly = self.descriptor.needs.cost == Cost::Costly && self.descriptor.needs.media;
        if costly && level == Level::Suspended {
            return self.sit_out(unit, tally, said);
        }
        if self.suspended {
            self.suspended = false;
            self.reset(Reset::Shed)?;
        }
        let mut unit = *unit;
        if let (Media::Video(_), Some(track)) = (unit.media, unit.track) {
            if costly && level == Level::Skipping {
                self.skip_next = !self.skip_next;
                if !self.skip_next {
                    tally.shed += 1;
                    let owed = self.owed.entry(track).or_default();
                    *owed = owed.saturating_add(1 + dropped(unit.at.gap));
                    self.say_all(Why::Shed, said);
                    return Ok(());
                }
            }
            if let Some(owed) = self.owed.remove(&track) {
                unit.at = with_drops(unit.at, owed);
            }
        }
        let before = said.len();
        let started = Instant::now();
        let (detector, own) = (self.detector, self.track);
        let result = guarded(|| {
            let mut emit = |signal, track: Option<Track>, reading| {
                said.push(Said {
                    detector,
                    signal,
                    track: track.or(own),
                    reading,
                    everywhere: false,
                });
            };
            self.code.observe(&unit, &mut Sink::new(&mut emit));
        });
        tally.busy_nanos += u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match result {
            Ok(()) => {
                tally.analysed += u64::from(is_media(&unit));
                Ok(())
            }
            Err(panicked) => {
                said.truncate(before);
                Err(panicked)
            }
        }
    }

    /// Suspended: facts keep it up to date, nothing else reaches it, and it says nothing itself.
    fn sit_out(
        &mut self,
        unit: &Unit<'_>,
        tally: &mut Tally,
        said: &mut Vec<Said>,
    ) -> Result<(), Panicked> {
        let first = !self.suspended;
        self.suspended = true;
        if first || matches!(unit.media, Media::Tick) {
            self.say_all(Why::Shed, said);
        }
        match unit.media {
            Media::Fact(_) => {
                let mut ignore = |_, _, _| {};
                guarded(|| self.code.observe(unit, &mut Sink::new(&mut ignore)))
            }
            Media::Video(_) => {
                tally.shed += 1;
                Ok(())
            }
            Media::Audio(_) | Media::Tick => Ok(()),
        }
    }

    /// The lane speaks for the detector.
    pub(super) fn say_all(&self, why: Why, said: &mut Vec<Said>) {
        say_all(self.detector, self.descriptor, self.track, why, said);
    }
}

/// All signals of a detector are unmeasurable.
pub(super) fn say_all(
    detector: usize,
    descriptor: &'static Descriptor,
    track: Option<Track>,
    why: Why,
    said: &mut Vec<Said>,
) {
    said.extend(descriptor.signals.iter().map(|signal| Said {
        detector,
        signal,
        track,
        reading: Reading::unmeasurable(why),
        everywhere: track.is_none(),
    }));
}

/// The kind of track that a scope watches; `None` for the stream as a whole.
pub(super) fn kind_of(scope: Scope) -> Option<Kind> {
    match scope {
        Scope::Stream => None,
        Scope::VideoTrack => Some(Kind::Video),
        Scope::AudioTrack => Some(Kind::Audio),
    }
}

fn is_media(unit: &Unit<'_>) -> bool {
    matches!(unit.media, Media::Video(_) | Media::Audio(_))
}

fn dropped(gap: Gap) -> u32 {
    match gap {
        Gap::WeDropped(n) => n,
        Gap::None | Gap::Discontinuity => 0,
    }
}

/// A discontinuity of the stream itself outweighs our own drops.
fn with_drops(at: Stamp, units: u32) -> Stamp {
    let gap = match at.gap {
        Gap::Discontinuity => Gap::Discontinuity,
        gap => Gap::WeDropped(dropped(gap).saturating_add(units)),
    };
    Stamp { gap, ..at }
}

fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
}
