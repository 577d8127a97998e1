//! Stutter: motion stops for a moment and goes on, or leaps, although pictures keep coming.
//!
//! A viewer notices a picture that stands 80 to 200 ms too long, and a single stop of 0.36 s is the limit of what is
//! accepted (van Kester et al., SPIE 7865, 2011); halts and skips are equally bad. Three things do it, and all are
//! measured as the time by which a picture stood, or motion leapt, beyond the ordinary:
//!
//! - **Repeats**: the same picture several times, then motion goes on (with a leap or without). A repeat that was
//!   encoded again is not bit-exact, so each tile that usually moves is judged against its own usual change; at
//!   least 85 % of them must stand at once, in the midst of full motion before *and* after. What slows down and
//!   sets off again is motion, not stutter.
//! - **Holes**: pictures are missing on the timeline. In a stream of regular rate any hole counts that is long
//!   enough, in others the rule of WebRTC's statistics: max(3 x mean, mean + 150 ms).
//! - **Skips** (option `skips`): one change stands out from both neighbours (pictures were dropped and the rest renumbered). Then, and
//!   only then, blocks are followed through four pictures: it is a skip when most of what moves made several of its own
//!   steps at once, in the direction in which it moved before and goes on.
//!
//! The cadence is removed: a programme of another rate than the stream's (3:2 pulldown, 25 in 50, 24 in 60, animation on
//! twos) lets each picture stand for *k* or *k* + 1 of the stream's, and only what goes beyond counts. In animation,
//! where held drawings are the style, a quarter of the picture must have moved.
//!
//! Cuts, flashes and fades start over. Where little moves, stutter cannot be seen and is not measured. Stops longer
//! than a second are `freeze`'s or the loss detector's. What the monitor itself dropped is no defect.
//!
//! Cost: one pass over the tile statistics and one halving of half-resolution luma, about 0.1 ms for 1080p; following
//! blocks costs a few milliseconds, on one picture in many seconds.
//! Limits: a camera of fewer than 17 pictures a second is taken for animation; stutter under a ticker that takes more
//! than 15 % of what moves; skips of motion slower than two pixels a picture (1080p), of less than eight blocks, or so
//! long that what moved cannot be found again (a third of a second before a camera that drives or turns); a keyframe
//! that redraws slow motion within a stop cuts the stop in two.

mod activity;
mod cadence;
mod leap;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Detector, Fact, Gap, InputEvent, Limit, Media, MediaTime,
    Needs, OptionSpec, Options, Picture, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink,
    Stamp, Unit, Why,
};
use crate::kernel::half::HalfLuma;

use activity::{Activity, Look};
use cadence::Cadence;
use window::Window;

static SIGNALS: [Signal; 3] = [
    Signal {
        name: "stutters_per_min",
        unit: "stutters per minute",
        range: (0.0, 6000.0),
        basis: Basis::Media,
        help: "Stutters in the last minute of media; unmeasurable while too little moved in it.",
    },
    Signal {
        name: "worst_gap_secs",
        unit: "seconds",
        range: (0.0, 60.0),
        basis: Basis::Media,
        help: "Longest stutter of the last minute of media: time by which a picture stood, or motion leapt, too far.",
    },
    Signal {
        name: "gap_secs",
        unit: "seconds",
        range: (0.0, 60.0),
        basis: Basis::Media,
        help: "Length of the stutter that ended with this picture; 0 when none did.",
    },
];
static STUTTERS_PER_MIN: &Signal = &SIGNALS[0];
static WORST_GAP_SECS: &Signal = &SIGNALS[1];
static GAP_SECS: &Signal = &SIGNALS[2];

static OPTIONS: [OptionSpec; 3] = [
    OptionSpec {
        name: "shortest_secs",
        default: 0.08,
        range: (0.02, 1.0),
        help: "A picture that stands longer than its cadence by this is a stutter.",
    },
    OptionSpec {
        name: "moving_area_ratio",
        default: 0.05,
        range: (0.005, 1.0),
        help: "Share of the picture that must move for stutter to be measured.",
    },
    OptionSpec {
        name: "skips",
        default: 0.0,
        range: (0.0, 1.0),
        help: "With 1, motion that leaps counts as well; it is often missed, and pulldown is sometimes taken for it.",
    },
];

/// The row of the registry.
pub static DETECTOR: Descriptor = Descriptor {
    name: "stutter",
    doc: "Motion jerks: pictures are repeated, missing or skipped for a moment. The regular cadence of pulldown \
          and other conversions of rate does not count, nor do still scenes, held drawings and cuts.",
    needs: Needs {
        scope: Scope::VideoTrack,
        cost: Cost::Costly,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[
        RuleSpec {
            name: "severe_stutter",
            signal: "stutters_per_min",
            raise: Limit::AtLeast(20.0),
            clear: Limit::AtMost(6.0),
            hold: Duration::ZERO,
            release: Duration::from_secs(2),
            severity: Severity::Warning,
            cause: Cause::Stutter,
            says: "Motion jerks all the time.",
        },
        RuleSpec {
            name: "stutter",
            signal: "stutters_per_min",
            raise: Limit::AtLeast(4.0),
            clear: Limit::AtMost(1.0),
            hold: Duration::ZERO,
            release: Duration::from_secs(2),
            severity: Severity::Info,
            cause: Cause::Stutter,
            says: "Motion jerks again and again.",
        },
        RuleSpec {
            name: "jerk",
            signal: "gap_secs",
            raise: Limit::AtLeast(0.06),
            clear: Limit::AtMost(0.0),
            hold: Duration::ZERO,
            release: Duration::from_millis(100),
            severity: Severity::Info,
            cause: Cause::Stutter,
            says: "Motion jerks once.",
        },
    ],
    options: &OPTIONS,
    list: None,
    build: |options| Box::new(Stutter::new(options)),
};

/// Longer stops are no stutter.
const LONGEST_SECS: f64 = 1.0;
/// After a stop motion must go on for a second picture within this.
const CONFIRMED_SECS: f64 = 0.25;
/// And the picture as a whole must change by this share of what it did before.
const STILL_MOVES_RATIO: f32 = 0.5;
/// Share of the picture that must have moved in animation.
const ANIMATION_AREA: f64 = 0.25;
/// A change is suspected to be a skip when it exceeds both neighbours by this factor, and so many codes.
const SKIP_RATIO: f32 = 1.4;
const SKIP_CODES: f32 = 0.8;
/// A shorter leap, in ordinary steps, may be motion that jolts.
const SKIP_STEPS: f32 = 2.7;
/// Blocks are followed no more often than this.
const FOLLOW_SECS: f64 = 0.2;
/// Media that must have been measurable for a count to mean something.
const MEASURED_SECS: f64 = 1.0;

#[derive(Debug)]
struct Stutter {
    shortest_secs: f64,
    moving_area: f64,
    /// Leaps are looked for.
    skips: bool,
    activity: Activity,
    cadence: Cadence,
    window: Window,
    /// The newest picture, whatever it was.
    before: Option<MediaTime>,
    shown: Option<Shown>,
    suspect: Option<Suspect>,
    /// The newest pictures of regular motion, at most four.
    trail: VecDeque<Step>,
    followed: Option<MediaTime>,
}

/// The newest picture that differs from the one before it.
#[derive(Debug, Clone, Copy)]
struct Shown {
    at: MediaTime,
    /// Motion was in full swing.
    full: bool,
    /// Mean change to the picture before, codes.
    level: f32,
    /// How often it was repeated.
    repeats: u32,
    /// Since when a picture has been shown that differs a little: a redrawn repeat, or the next motion.
    slow: Option<MediaTime>,
}

/// A stop after which motion went on, once so far.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    since: MediaTime,
    until: MediaTime,
    gap_secs: f64,
    /// Mean change before the stop, codes.
    level: f32,
}

/// A picture of regular motion.
#[derive(Debug)]
struct Step {
    at: MediaTime,
    /// Mean change to the picture before, codes.
    level: f32,
    small: HalfLuma,
}

impl Stutter {
    fn new(options: &Options) -> Self {
        Self {
            shortest_secs: options.get("shortest_secs"),
            moving_area: options.get("moving_area_ratio"),
            skips: options.get("skips") > 0.5,
            activity: Activity::default(),
            cadence: Cadence::default(),
            window: Window::default(),
            before: None,
            shown: None,
            suspect: None,
            trail: VecDeque::new(),
            followed: None,
        }
    }

    /// Another scene, or the same after a rest.
    fn forget_motion(&mut self) {
        self.activity.clear();
        self.break_off();
    }

    /// What comes next cannot be compared with what was.
    fn break_off(&mut self) {
        (self.shown, self.suspect) = (None, None);
        self.trail.clear();
    }

    fn restart(&mut self) {
        self.forget_motion();
        self.cadence.clear();
        self.window = Window::default();
        (self.before, self.followed) = (None, None);
    }

    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>) {
        let Some(now) = at.media else {
            self.restart();
            for signal in &SIGNALS {
                out.put(signal, Reading::unmeasurable(Why::NoTimestamps));
            }
            return;
        };
        let elapsed = self.before.map(|before| now.secs_after(before));
        self.before = Some(now);
        let found = match elapsed {
            Some(secs) if secs > 0.0 && secs <= LONGEST_SECS => match at.gap {
                Gap::None if picture.before().is_some() => self.compare(now, secs, picture),
                Gap::None | Gap::Discontinuity => {
                    self.forget_motion();
                    None
                }
                Gap::WeDropped(_) => {
                    self.break_off();
                    None
                }
            },
            Some(secs) if secs < 0.0 => {
                self.restart();
                self.before = Some(now);
                None
            }
            _ => {
                self.forget_motion();
                None
            }
        };
        if let Some((since, secs)) = found {
            self.window.count(secs);
            out.put(
                GAP_SECS,
                Reading::measured(secs.clamp(0.0, 60.0)).since(Some(since)),
            );
        } else {
            out.put(GAP_SECS, Reading::measured(0.0));
        }
        self.tell(out);
    }

    fn tell(&self, out: &mut Sink<'_>) {
        if self.window.measured_secs() < MEASURED_SECS {
            out.put(STUTTERS_PER_MIN, Reading::unmeasurable(Why::NotApplicable));
            out.put(WORST_GAP_SECS, Reading::unmeasurable(Why::NotApplicable));
            return;
        }
        let count = f64::from(self.window.stutters()).min(6000.0);
        let worst = self.window.worst_secs().clamp(0.0, 60.0);
        out.put(STUTTERS_PER_MIN, Reading::measured(count));
        out.put(WORST_GAP_SECS, Reading::measured(worst));
    }

    /// Compares with the picture before; gives back a stutter that is certain now: its begin and length.
    fn compare(
        &mut self,
        now: MediaTime,
        elapsed: f64,
        picture: &Picture<'_>,
    ) -> Option<(MediaTime, f64)> {
        let hole = elapsed > self.cadence.hole_secs();
        self.cadence.note_distance(elapsed);
        let usual = self.cadence.distance().unwrap_or(elapsed);
        let repeats = self.shown.map_or(0, |s| s.repeats);
        let steps = (elapsed / usual) as f32 + repeats as f32;
        let look = self.activity.judge(picture.tiles(), steps);
        let known = self.activity.is_known() && self.activity.area() >= self.moving_area;
        self.window.pass(now, if known { elapsed } else { 0.0 });
        match look {
            Look::Cut => {
                self.break_off();
                self.shown = Some(Shown::at(now, false));
                None
            }
            Look::Unknown => {
                self.activity.learn(picture.tiles());
                self.break_off();
                self.shown = Some(Shown::at(now, false));
                None
            }
            Look::Repeat => {
                if let Some(shown) = &mut self.shown {
                    shown.repeats += 1;
                    shown.slow = None;
                    if now.secs_after(shown.at) > LONGEST_SECS {
                        self.forget_motion();
                    }
                }
                None
            }
            Look::Slows => {
                if let Some(shown) = &mut self.shown
                    && shown.repeats > 0
                    && shown.slow.is_none()
                {
                    shown.slow = Some(now);
                    return None;
                }
                self.differs(now, false, hole, picture)
            }
            Look::Moves => {
                if let Some(slow) = self.shown.and_then(|s| s.slow) {
                    // It was the next motion, setting off gently.
                    self.shown = Some(Shown::at(slow, false));
                }
                self.differs(now, true, hole, picture)
            }
        }
    }

    /// Takes a picture that differs from the one before.
    fn differs(
        &mut self,
        now: MediaTime,
        full: bool,
        hole: bool,
        picture: &Picture<'_>,
    ) -> Option<(MediaTime, f64)> {
        // After a leap other tiles move: as much, all in all.
        let level = self.activity.level();
        let confirmed = (self.suspect.take())
            .filter(|s| full || level >= STILL_MOVES_RATIO * s.level)
            .filter(|s| now.secs_after(s.until) <= CONFIRMED_SECS)
            .map(|s| (s.since, s.gap_secs));
        let shown = self.shown.replace(Shown {
            level,
            ..Shown::at(now, full)
        });
        let stood = shown.map(|s| now.secs_after(s.at));
        let usual = self.cadence.usual_secs();
        let distance = self.cadence.distance().unwrap_or(0.0);
        if let (Some(shown), Some(stood)) = (shown, stood) {
            if let Some(usual) = usual
                && full
                && shown.full
                && (hole || shown.repeats > 0)
                && self.is_long(stood - usual, distance)
                && self.activity.area() >= self.least_area()
            {
                self.suspect = Some(Suspect {
                    since: shown.at,
                    until: now,
                    gap_secs: stood - usual,
                    level: shown.level,
                });
            }
            self.cadence.note_stood(now, stood);
        }
        let regular = match (stood, usual) {
            (Some(stood), Some(usual)) => !hole && stood <= usual + 0.5 * distance,
            _ => !hole && shown.is_some_and(|s| s.repeats == 0),
        };
        if regular {
            self.activity.learn(picture.tiles());
        } else {
            self.trail.clear();
        }
        let leapt = self.skips.then(|| self.follow(now, picture));
        confirmed.or(leapt.flatten())
    }

    /// Whether a stop, or leap, of this length beyond the ordinary is a stutter. Pictures come in whole numbers, so
    /// that half a picture is allowed for.
    fn is_long(&self, secs: f64, distance: f64) -> bool {
        secs >= (self.shortest_secs - 0.25 * distance).max(0.5 * self.shortest_secs)
    }

    fn least_area(&self) -> f64 {
        match self.cadence.is_animation() {
            true => self.moving_area.max(ANIMATION_AREA),
            false => self.moving_area,
        }
    }

    /// Looks for a leap two pictures ago, now that it is known how motion went on.
    fn follow(&mut self, now: MediaTime, picture: &Picture<'_>) -> Option<(MediaTime, f64)> {
        if self.activity.area() < self.moving_area {
            self.trail.clear();
            return None;
        }
        if self.trail.len() >= 4 {
            self.trail.pop_front();
        }
        self.trail.push_back(Step {
            at: now,
            level: self.activity.level(),
            small: leap::small(picture.half()),
        });
        let mut steps = self.trail.iter();
        let (Some(a), Some(b), Some(c), Some(d)) =
            (steps.next(), steps.next(), steps.next(), steps.next())
        else {
            return None;
        };
        let beside = b.level.max(d.level);
        let stands_out = c.level >= SKIP_RATIO * beside && c.level >= SKIP_CODES;
        let spans = [(a, b), (b, c), (c, d)].map(|(from, to)| to.at.secs_after(from.at));
        let even = spans
            .iter()
            .all(|s| (0.75..=1.34).contains(&(s / spans[1])));
        let lately = (self.followed).is_some_and(|at| now.secs_after(at) < FOLLOW_SECS);
        if !stands_out || !even || lately {
            return None;
        }
        self.followed = Some(now);
        let leapt = leap::leap([&a.small, &b.small, &c.small, &d.small])?;
        let gap = f64::from(leapt - 1.0) * spans[1];
        let distance = self.cadence.distance().unwrap_or(spans[1]);
        (leapt >= SKIP_STEPS && self.is_long(gap, distance)).then_some((b.at, gap))
    }
}

impl Shown {
    fn at(at: MediaTime, full: bool) -> Self {
        Self {
            at,
            full,
            level: 0.0,
            repeats: 0,
            slow: None,
        }
    }
}

impl Detector for Stutter {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match unit.media {
            Media::Video(picture) => self.picture(&unit.at, picture, out),
            Media::Fact(Fact::Input(InputEvent::Reopened)) => self.restart(),
            Media::Fact(_) | Media::Audio(_) | Media::Tick => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        self.restart();
    }
}

#[cfg(test)]
#[path = "stutter_tests.rs"]
mod tests;
