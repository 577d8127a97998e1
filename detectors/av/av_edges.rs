//! Sound against picture by the edges that they have in common.
//!
//! At cuts, at the ends of black and at splices the picture changes at once, and often the sound does too. By how
//! much one comes before the other is no offset: editors cut sound before or after the picture on purpose. But how
//! these differences are distributed is characteristic of a channel, and when the newest ones lie together at another
//! place than usual, something moved sound against picture, before or after the encoder.
//!
//! A pair counts when it is no coincidence: one edge of the picture and one of the sound, alone within 0.6 s, both so
//! rare lately that meeting by chance is unlikely, and the sound out of step with any beat. A cut in continuous talk,
//! or with a beat, pairs with nothing. Where a splice is announced, or the timestamps jump, the splicer decides what
//! lies where: such pairs are left out. Flat colour (mostly black) with a fall or rise of the sound is a kind of its
//! own beside cuts.
//!
//! The newest twelve pairs are judged by what was usual before: they must agree, their middle must be several standard
//! errors away, and so many pairs there must be next to impossible going by how often pairs lay there before; so a
//! channel with two habits is never told. Found after minutes to hours, and never more than 0.6 s.
//!
//! Limits: a step that comes while many pairs are chance can become usual before it is proven, and is then missed.

mod hearing;
mod sight;
mod usual;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use self::hearing::{Ear, SoundEdge};
use self::sight::{Eye, PictureEdge};
use self::usual::{Change, Pair, PairKind, Usual};
use crate::base::{
    Arrival, Basis, Cause, Cost, Descriptor, Detector, Fact, Gap, InputEvent, Limit, Media,
    MediaTime, Needs, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink, Stamp, Track, Unit,
    Why,
};

/// Edges further apart do not belong together.
const NEAR_SECS: f64 = 0.6;
/// How rare edges are is counted over this long.
const LATELY_SECS: f64 = 30.0;
/// Edges remembered of each track.
const EDGES: usize = 256;
/// A pair counts when meeting by chance is no more likely than this.
const CHANCE_MAX: f64 = 0.33;
/// A step of the sound is rivalled by others of this share of its size: in rarity, and within reach of the picture.
const LIKE: f64 = 0.7;
const RIVAL: f64 = 0.5;
/// Steps that follow each other evenly, no further apart than this, to such a share and so many seconds, are a beat.
const BEAT_MAX_SECS: f64 = 10.0;
const BEAT_SHARE: f64 = 0.02;
const BEAT_SECS: f64 = 0.01;
/// Pairs this close to a splice are left out, and so many splices are remembered.
const SPLICE_SECS: f64 = 1.5;
const SPLICES: usize = 16;
/// Pictures or sound may stay away this long before nothing can be said, unless the source tells its patience.
const ABSENT_AFTER: Duration = Duration::from_secs(10);
/// Longest time from picture to picture that counts as watched.
const WATCHED_MAX_SECS: f64 = 1.0;

/// Most pairs that are told.
const PAIRS_MAX: f64 = 1_000.0;

static SIGNALS: [Signal; 4] = [
    Signal {
        name: "audio_early_secs",
        unit: "seconds early",
        range: (-2.0 * NEAR_SECS, 2.0 * NEAR_SECS),
        basis: Basis::Media,
        help: "By how much sound is earlier at edges in common with the picture than it usually is on this track; \
               positive = audio early.",
    },
    Signal {
        name: "confidence",
        unit: "0 to 9",
        range: (0.0, 9.0),
        basis: Basis::Media,
        help: "How many of the newest pairs of edges agree, and how closely; 9 is all and exactly.",
    },
    Signal {
        name: "spread_secs",
        unit: "seconds",
        range: (0.0, 2.0 * NEAR_SECS),
        basis: Basis::Media,
        help: "Standard deviation of the newest pairs of edges that agree.",
    },
    Signal {
        name: "pairs",
        unit: "pairs",
        range: (0.0, PAIRS_MAX),
        basis: Basis::Media,
        help: "Pairs of edges that are known: those that tell what is usual, and the newest.",
    },
];
static AUDIO_EARLY: &Signal = &SIGNALS[0];
static CONFIDENCE: &Signal = &SIGNALS[1];
static SPREAD: &Signal = &SIGNALS[2];
static PAIRS: &Signal = &SIGNALS[3];

/// Generous, and never a page: it is statistics, and says nothing of where sound and picture lay at first.
static RULES: [RuleSpec; 2] = {
    const fn rule(
        name: &'static str,
        (raise, clear): (Limit, Limit),
        says: &'static str,
    ) -> RuleSpec {
        RuleSpec {
            name,
            signal: "audio_early_secs",
            raise,
            clear,
            hold: Duration::from_secs(30),
            release: Duration::from_secs(30),
            severity: Severity::Warning,
            cause: Cause::AvSkewEdges,
            says,
        }
    }
    [
        rule(
            "audio_early",
            (Limit::AtLeast(0.080), Limit::AtMost(0.050)),
            "The sound comes earlier at cuts and black than is usual here.",
        ),
        rule(
            "audio_late",
            (Limit::AtMost(-0.100), Limit::AtLeast(-0.065)),
            "The sound comes later at cuts and black than is usual here.",
        ),
    ]
};

/// Edges in common.
pub static DETECTOR: Descriptor = Descriptor {
    name: "av_edges",
    doc: "Lips and sound have moved apart, going by cuts and black: sound steps there earlier or later than it \
          usually does on this stream. It needs no reference, sees also what is wrong before the encoder, and takes \
          minutes to hours. It tells a change, never the offset itself, so its limits are generous and it never pages.",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &RULES,
    options: &[],
    list: None,
    build: |_| Box::new(AvEdges::new()),
};

/// Whether a level falls or rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Less,
    More,
}

/// One sound track.
#[derive(Debug, Default)]
struct Listener {
    ear: Ear,
    edges: VecDeque<SoundEdge>,
    /// How many of them, from the front, have been paired or not.
    judged: usize,
    usual: Usual,
    change: Option<Change>,
    heard: Arrival,
}

struct AvEdges {
    eye: Eye,
    edges: VecDeque<PictureEdge>,
    splices: VecDeque<MediaTime>,
    listeners: BTreeMap<u8, Listener>,
    absent_after: Duration,
    seen: Option<Arrival>,
    newest: Option<MediaTime>,
    watched_secs: f64,
}

impl AvEdges {
    fn new() -> Self {
        Self {
            eye: Eye::default(),
            edges: VecDeque::new(),
            splices: VecDeque::new(),
            listeners: BTreeMap::new(),
            absent_after: ABSENT_AFTER,
            seen: None,
            newest: None,
            watched_secs: 0.0,
        }
    }

    fn take_in(&mut self, stamp: Stamp, at: MediaTime, track: Track, media: Media<'_>) {
        let follows = stamp.gap == Gap::None;
        match media {
            Media::Video(picture) if track.index == 0 => {
                let after = self.newest.map_or(0.0, |newest| at.secs_after(newest));
                self.watched_secs += after.clamp(0.0, WATCHED_MAX_SECS);
                (self.seen, self.newest) = (Some(stamp.arrival), Some(at));
                let edges = self.eye.see(at, picture.tiles(), follows);
                keep(&mut self.edges, edges, |edge| edge.at);
            }
            Media::Audio(sound) => {
                let listener = self.listeners.entry(track.index).or_default();
                listener.heard = stamp.arrival;
                let edges = listener.ear.hear(at, sound, follows);
                let gone = keep(&mut listener.edges, edges, |edge| edge.at);
                listener.judged = listener.judged.saturating_sub(gone);
            }
            _ => return,
        }
        self.pair();
    }

    /// Pairs the edges of the sound whose surroundings are known by now.
    fn pair(&mut self) {
        let Some(seen) = self.eye.settled() else {
            return;
        };
        for listener in self.listeners.values_mut() {
            let Some(heard) = listener.ear.settled() else {
                continue;
            };
            while let Some(edge) = listener.edges.get(listener.judged) {
                if seen.min(heard).secs_after(edge.at) < 2.0 * NEAR_SECS {
                    break;
                }
                let partner = partner(edge, &listener.edges, &self.edges);
                let spliced = |at: MediaTime| {
                    let mut splices = self.splices.iter();
                    splices.any(|s| s.secs_after(at).abs() <= SPLICE_SECS)
                };
                if let Some(picture) = partner.filter(|p| !spliced(p.at)) {
                    listener.change = listener.usual.add(Pair {
                        kind: match picture.flat {
                            Some(_) => PairKind::Flat,
                            None => PairKind::Cut,
                        },
                        at_secs: self.watched_secs,
                        early_secs: picture.at.secs_after(edge.at),
                    });
                }
                listener.judged += 1;
            }
        }
    }

    fn splice(&mut self, at: Option<MediaTime>) {
        if self.splices.len() == SPLICES {
            self.splices.pop_front();
        }
        self.splices.extend(at);
    }

    /// The input begins anew. What is usual is a matter of the channel and stays.
    fn reopen(&mut self) {
        (self.eye, self.newest) = (Eye::default(), None);
        self.edges.clear();
        self.splices.clear();
        for listener in self.listeners.values_mut() {
            listener.ear = Ear::default();
            listener.edges.clear();
            listener.judged = 0;
        }
    }

    fn tell(&self, now: Arrival, out: &mut Sink<'_>) {
        let absent = |last: Arrival| now.since(last) > self.absent_after;
        for (index, listener) in &self.listeners {
            let track = Track::audio(*index);
            let change = listener.change.filter(|c| !c.is_old(self.watched_secs));
            let blind = match self.seen {
                None => Some(Why::NotApplicable),
                Some(seen) if absent(seen) || absent(listener.heard) => Some(Why::NoTrack),
                Some(_) => None,
            };
            let of_change = |value: fn(&Change) -> f64, signal: &Signal| match (blind, &change) {
                (Some(why), _) => Reading::unmeasurable(why),
                (None, None) => Reading::unmeasurable(Why::WarmingUp),
                (None, Some(change)) => {
                    Reading::measured(value(change).clamp(signal.range.0, signal.range.1))
                }
            };
            out.put_on(track, AUDIO_EARLY, of_change(|c| c.early_secs, AUDIO_EARLY));
            out.put_on(track, CONFIDENCE, of_change(Change::confidence, CONFIDENCE));
            out.put_on(track, SPREAD, of_change(|c| c.spread_secs, SPREAD));
            let pairs = (listener.usual.pairs() as f64).min(PAIRS_MAX);
            let pairs = blind.map_or(Reading::measured(pairs), Reading::unmeasurable);
            out.put_on(track, PAIRS, pairs);
        }
        if self.listeners.is_empty() {
            for signal in &SIGNALS {
                out.put(signal, Reading::unmeasurable(Why::NotApplicable));
            }
        }
    }
}

/// The edge of the picture that belongs to one of the sound, if it is no coincidence.
fn partner(
    edge: &SoundEdge,
    sounds: &VecDeque<SoundEdge>,
    pictures: &VecDeque<PictureEdge>,
) -> Option<PictureEdge> {
    let like = |s: &&SoundEdge| s.step_db >= LIKE * edge.step_db;
    let alike = || sounds.iter().filter(like).map(|s| s.at);
    if !edge.sharp || is_likely(edge.at, alike()) || is_beat(edge.at, alike()) {
        return None;
    }
    let near = |a: MediaTime, b: MediaTime| a.secs_after(b).abs() <= NEAR_SECS;
    let fits = |p: &PictureEdge, s: &SoundEdge| p.flat.is_none_or(|flat| flat == s.direction);
    let mut around = (pictures.iter()).filter(|p| near(p.at, edge.at) && fits(p, edge));
    let (Some(picture), None) = (around.next(), around.next()) else {
        return None;
    };
    let rivals = sounds.iter().filter(|s| {
        near(s.at, picture.at) && s.step_db >= RIVAL * edge.step_db && fits(picture, s)
    });
    let rarer = pictures
        .iter()
        .filter(|p| picture.flat.is_none() || p.flat.is_some());
    let likely = is_likely(picture.at, rarer.map(|p| p.at));
    (rivals.count() == 1 && !likely).then_some(*picture)
}

/// Whether edges have lately been so frequent that one lies near any place.
fn is_likely(at: MediaTime, edges: impl Iterator<Item = MediaTime>) -> bool {
    let lately = edges.filter(|e| (-2.0 * NEAR_SECS..=LATELY_SECS).contains(&at.secs_after(*e)));
    let others = lately.count().saturating_sub(1) as f64;
    1.0 - (-others * 2.0 * NEAR_SECS / LATELY_SECS).exp() > CHANCE_MAX
}

/// Whether the last edges up to one follow each other evenly.
fn is_beat(at: MediaTime, edges: impl Iterator<Item = MediaTime>) -> bool {
    let mut last = [None; 2];
    for edge in edges.filter(|e| *e < at) {
        last = [last[1], Some(edge)];
    }
    let [Some(first), Some(second)] = last else {
        return false;
    };
    let (before, after) = (second.secs_after(first), at.secs_after(second));
    after <= BEAT_MAX_SECS && (before - after).abs() <= BEAT_SHARE * after + BEAT_SECS
}

/// Adds edges, and gives how many old ones went. Time that goes back begins anew.
fn keep<T>(edges: &mut VecDeque<T>, new: Vec<T>, at: fn(&T) -> MediaTime) -> usize {
    let mut gone = 0;
    for edge in new {
        if edges.back().is_some_and(|last| at(last) > at(&edge)) {
            gone += edges.len();
            edges.clear();
        }
        if edges.len() == EDGES {
            edges.pop_front();
            gone += 1;
        }
        edges.push_back(edge);
    }
    gone
}

impl Detector for AvEdges {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match (unit.media, unit.at.media, unit.track) {
            (Media::Video(_) | Media::Audio(_), Some(at), Some(track)) => {
                self.take_in(unit.at, at, track, unit.media);
            }
            (Media::Fact(fact), at, _) => match fact {
                Fact::Input(InputEvent::Reopened) => self.reopen(),
                Fact::Input(InputEvent::Patience { visible_after, .. }) => {
                    self.absent_after = *visible_after;
                }
                Fact::TimelineJump { .. } => self.splice(at),
                Fact::Break(mark) => self.splice(mark.at.or(at)),
                _ => {}
            },
            (Media::Tick, ..) => self.tell(unit.at.arrival, out),
            _ => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        *self = Self::new();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
