//! Stutter: motion stops for a moment and goes on, or leaps, although pictures keep coming.
//!
//! A viewer notices a picture that stands 80 to 200 ms too long, and a single stop of 0.36 s is the limit of what is
//! accepted (van Kester et al., SPIE 7865, 2011); halts and skips are equally bad. Three things do it, and all are
//! measured as the time by which a picture stood, or motion leapt, beyond the ordinary:
//!
//! - **Repeats**: the same picture several times, then motion goes on (with a leap or without). A repeat that was
//!   encoded again is not bit-exact, so each tile that usually moves is judged against its own usual change; at
//!   least 85 % of them must stand at once, or all together change next to nothing, in the midst of full motion before
//!   *and* after. What slows down and sets off again is motion, not stutter; and where steps are often weak, as before a
//!   hand that trembles, a stop must be longer than chance makes them.
//! - **Holes**: pictures are missing on the timeline. In a stream of regular rate any hole counts that is long
//!   enough, in others the rule of WebRTC's statistics: max(3 x mean, mean + 150 ms).
//! - **Skips** (option `skips`): one change stands out from both neighbours and the ten before (pictures were dropped and
//!   the rest renumbered). Then, and only then, blocks are followed through four pictures: it is a skip when most of
//!   what moves made several of its own steps at once, in the direction in which it moved before and goes on. A change
//!   of twice the others is one too when the whole picture is found again elsewhere, or when before a camera that stands
//!   all that moves surged at once.
//!
//! The cadence is removed: a programme of another rate than the stream's (3:2 pulldown, 25 in 50, 24 in 60, animation on
//! twos) lets each picture stand for *k* or *k* + 1 of the stream's, and only what goes beyond counts. Its repeats tell
//! how much the codec redraws. In animation, where held drawings are the style, a third of the picture must have moved.
//!
//! Cuts, flashes and fades start over. Where little moves, stutter cannot be seen and is not measured. Stops longer
//! than a second are `freeze`'s or the loss detector's. What the monitor itself dropped is no defect.
//!
//! Cost: one pass over the tile statistics and one halving of half-resolution luma, about 0.1 ms for 1080p; following
//! blocks costs a few milliseconds, on one picture in many seconds.
//! Limits: a camera of fewer than 17 pictures a second is taken for animation, and one of its pictures too few is none;
//! a jump cut before a camera that stands is a skip; stutter under a ticker that takes more than 15 % of what moves;
//! short stops and skips of a hand that trembles as much; skips of waves, snow and confetti, of small things in
//! animation, of motion slower than two pixels a picture (1080p), or so long that what moved cannot be found again (a
//! third of a second before a camera that drives or turns).

mod activity;
mod cadence;
mod leap;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Gap, Limit, MediaTime, Needs, OptionSpec, Options, Picture,
    PictureDetector, Reading, RuleSpec, Scope, Severity, Signal, Sink, Stamp, Why,
};
use crate::kernel::half::HalfLuma;

use activity::{Activity, Look, Surge};
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
        default: 1.0,
        range: (0.0, 1.0),
        help: "Whether motion that leaps, as pictures were left out, counts.",
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

/// In a stop, what usually moves changes by no more than this share of what it does before and after, on the mean.
const STOPS_RATIO: f32 = 0.25;
/// Motion that is faster at once by this factor does not set off gently.
const SETS_OFF: f32 = 2.0;
/// Where pictures usually stand this long a stop takes so many of them: one step may be small because motion turns.
const SLOW_SECS: f64 = 0.06;
const LEAST_STEPS: f64 = 1.2;
/// A step is weak when what moves changes by less than this share of what is usual; so many of the newest steps tell how
/// often that happens, and at least this often.
const WEAK_RATIO: f32 = 0.55;
const WEAK_PACE: f32 = 1.0 / 24.0;
const WEAK_LEAST: f32 = 0.004;
/// Of a scene that is new it is not known: this often.
const WEAK_FIRST: f32 = 0.1;
/// A stop that weak steps make by chance is at most this likely.
const BY_CHANCE: f64 = 0.000_3;
/// Longer stops are no stutter.
const LONGEST_SECS: f64 = 1.0;
/// After a stop motion must go on for a second picture within this.
const CONFIRMED_SECS: f64 = 0.25;
/// And the picture as a whole must change by this share of what it did before.
const STILL_MOVES_RATIO: f32 = 0.5;
/// Share of the picture that must have moved in animation.
const ANIMATION_AREA: f64 = 0.35;
/// A change is suspected to be a skip when it exceeds both neighbours by this factor, and so many codes.
const SKIP_RATIO: f32 = 1.4;
const SKIP_CODES: f32 = 0.8;
/// A change that exceeds both neighbours by this factor may be a jump in any direction.
const JUMP_RATIO: f32 = 2.0;
/// What moves before a camera that stands may surge where so few steps are weak.
const SURGE_WEAK: f32 = 0.05;
/// So many pictures before the change it must exceed as well.
const LEVELS: usize = 10;
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
    /// Their levels, and those of some before.
    levels: VecDeque<f32>,
    followed: Option<MediaTime>,
    /// Share of weak steps lately.
    weak: f32,
}

/// The newest picture that differs from the one before it.
#[derive(Debug, Clone, Copy)]
struct Shown {
    at: MediaTime,
    /// Motion was in full swing.
    full: bool,
    /// Mean change to the picture before, codes.
    level: f32,
    /// What moves changed by this share of what is usual there.
    ratio: f32,
    /// How often it was repeated.
    repeats: u32,
    /// Sum of that share over the repeats.
    redrawn: f32,
    /// Since when a picture has been shown that differs a little, and how much: a redrawn repeat, or the next motion.
    slow: Option<(MediaTime, f32)>,
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
    surge: Surge,
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
            levels: VecDeque::new(),
            followed: None,
            weak: WEAK_FIRST,
        }
    }

    /// Another scene, or the same after a rest.
    fn forget_motion(&mut self) {
        self.activity.clear();
        self.weak = self.weak.max(WEAK_FIRST);
        self.break_off();
    }

    /// What comes next cannot be compared with what was.
    fn break_off(&mut self) {
        (self.shown, self.suspect) = (None, None);
        self.trail.clear();
        self.levels.clear();
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
                self.weak = self.weak.max(WEAK_FIRST);
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
                let limit = self.cadence.redrawn_limit().unwrap_or(f32::MAX);
                if let Some(shown) = &mut self.shown {
                    if let Some((at, ratio)) = shown.slow.take() {
                        if ratio > limit {
                            *shown = Shown::at(at, false);
                        } else {
                            shown.repeats += 1;
                            shown.redrawn += ratio;
                        }
                    }
                    shown.repeats += 1;
                    shown.redrawn += self.activity.ratio();
                    if now.secs_after(shown.at) > LONGEST_SECS {
                        self.forget_motion();
                    }
                }
                None
            }
            Look::Slows => {
                let ratio = self.activity.ratio();
                if let Some(shown) = &mut self.shown
                    && (shown.repeats > 0 || SETS_OFF * ratio <= shown.ratio.min(1.0))
                    && shown.slow.is_none()
                {
                    shown.slow = Some((now, ratio));
                    return None;
                }
                self.differs(now, false, hole, picture)
            }
            Look::Moves => {
                let ratio = self.activity.ratio();
                if let Some((slow, _)) = (self.shown)
                    .filter(|s| s.repeats == 0 || ratio < SETS_OFF * s.slow.map_or(0.0, |s| s.1))
                    .and_then(|s| s.slow)
                {
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
            ratio: self.activity.ratio(),
            ..Shown::at(now, full)
        });
        let stood = shown.map(|s| now.secs_after(s.at));
        let usual = self.cadence.usual_secs();
        let mean = self.cadence.mean_secs();
        let distance = self.cadence.distance().unwrap_or(0.0);
        if let (Some(shown), Some(stood)) = (shown, stood) {
            if let (Some(usual), Some(mean)) = (usual, mean)
                && full
                && shown.full
                && self.is_long(stood - mean, distance)
                && (hole
                    || shown.stops(self.activity.ratio())
                        && (mean < SLOW_SECS || stood > (1.0 + LEAST_STEPS) * usual)
                        && self.is_unlikely((stood - mean) / mean))
                && self.activity.area() >= self.least_area()
            {
                self.suspect = Some(Suspect {
                    since: shown.at,
                    until: now,
                    gap_secs: stood - mean,
                    level: shown.level,
                });
            }
            self.cadence.note_stood(now, stood);
        }
        let regular = match (stood, usual) {
            (Some(stood), Some(usual)) => !hole && stood <= usual + 0.5 * distance,
            _ => !hole && shown.is_some_and(|s| s.repeats == 0),
        };
        // A step that is missing is weaker than any.
        let missing = match (stood, usual, mean) {
            (Some(stood), Some(usual), Some(mean)) => ((stood - usual) / mean).round(),
            _ => 0.0,
        };
        if missing < 3.0 {
            for _ in 0..missing as u32 {
                self.weak += WEAK_PACE * (1.0 - self.weak);
            }
            let weak = f32::from(u8::from(self.activity.ratio() < WEAK_RATIO));
            self.weak += WEAK_PACE * (weak - self.weak);
        }
        if regular {
            if let Some(shown) = shown {
                self.cadence.note_repeats(shown.repeats, shown.redrawn);
            }
            self.activity.learn(picture.tiles());
        } else {
            self.trail.clear();
            self.levels.clear();
        }
        let leapt = self.skips.then(|| self.follow(now, picture));
        confirmed.or(leapt.flatten())
    }

    /// Whether a stop, or leap, of this length beyond the ordinary is a stutter. Pictures come in whole numbers, so
    /// that half a picture is allowed for.
    fn is_long(&self, secs: f64, distance: f64) -> bool {
        secs >= (self.shortest_secs - 0.25 * distance).max(0.5 * self.shortest_secs)
    }

    /// Whether motion as it is does not rest for so many steps by itself: a hand that trembles does.
    fn is_unlikely(&self, steps: f64) -> bool {
        f64::from(self.weak.max(WEAK_LEAST)).powf(steps) <= BY_CHANCE
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
            self.levels.clear();
            return None;
        }
        if self.trail.len() >= 4 {
            self.trail.pop_front();
        }
        if self.levels.len() >= LEVELS {
            self.levels.pop_front();
        }
        self.levels.push_back(self.activity.level());
        self.trail.push_back(Step {
            at: now,
            level: self.activity.level(),
            surge: self.activity.surge(),
            small: leap::small(picture.half()),
        });
        let mut steps = self.trail.iter();
        let (Some(a), Some(b), Some(c), Some(d)) =
            (steps.next(), steps.next(), steps.next(), steps.next())
        else {
            return None;
        };
        let beside = b.level.max(d.level);
        let earlier = self.levels.iter().take(self.levels.len().saturating_sub(2));
        let highest = earlier.fold(0.0f32, |most, level| most.max(*level));
        let stands_out = c.level >= SKIP_RATIO * beside.max(highest) && c.level >= SKIP_CODES;
        let spans = [(a, b), (b, c), (c, d)].map(|(from, to)| to.at.secs_after(from.at));
        // In a cadence a picture may stand for one of the stream's more, or less.
        let most = self.cadence.usual_secs()? + 0.5 * self.cadence.distance()?;
        let even = spans.iter().all(|s| *s <= most);
        let lately = (self.followed).is_some_and(|at| now.secs_after(at) < FOLLOW_SECS);
        if !stands_out || !even || lately || !self.cadence.is_regular() {
            return None;
        }
        self.followed = Some(now);
        let followed = leap::leap([&a.small, &b.small, &c.small, &d.small]);
        let ordinary = self.cadence.mean_secs().unwrap_or(spans[1]);
        let leapt = followed.filter(|l| *l >= SKIP_STEPS).or_else(|| {
            let jumps = c.level >= JUMP_RATIO * beside.max(highest);
            let still = !self.cadence.is_animation() && self.weak <= SURGE_WEAK;
            let jumped = jumps
                && (leap::jumped(&b.small, &c.small)
                    || still && c.surge.stands_out(&b.surge, &d.surge));
            // How far it went is not known, but that it is as much as one notices.
            let least = 1.0 + (self.shortest_secs / ordinary) as f32;
            jumped.then_some((c.level / beside).max(least))
        })?;
        let gap = f64::from(leapt - 1.0) * ordinary;
        let distance = self.cadence.distance().unwrap_or(spans[1]);
        self.is_long(gap, distance).then_some((b.at, gap))
    }
}

impl Shown {
    fn at(at: MediaTime, full: bool) -> Self {
        Self {
            at,
            full,
            level: 0.0,
            ratio: 0.0,
            repeats: 0,
            redrawn: 0.0,
            slow: None,
        }
    }

    /// Whether it was repeated, and motion by this share of what is usual followed at once.
    fn stops(&self, after: f32) -> bool {
        let moves = self.ratio.min(after).min(1.0);
        self.repeats > 0 && self.redrawn <= STOPS_RATIO * moves * self.repeats as f32
    }
}

impl PictureDetector for Stutter {
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

    fn restart(&mut self) {
        self.forget_motion();
        self.cadence.clear();
        self.window = Window::default();
        (self.before, self.followed) = (None, None);
    }
}

#[cfg(test)]
#[path = "stutter_tests.rs"]
mod tests;
