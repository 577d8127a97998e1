//! Rung difference: of several renditions of one programme, one shows what the others do not.
//!
//! The renditions (rungs) of a ladder show the same pictures at the same media time, in other sizes and at other rates.
//! What was damaged before their encoders is damaged in all of them alike; what one encoder, or what comes behind it,
//! breaks is seen in one rung alone. So pictures of all rungs at one time are compared, which tells damage that leaves
//! no evidence and has no grid, and where any damage came in.
//!
//! - Of every picture a map of 128x72 mean lumas is kept for some seconds: rungs arrive out of step. Pictures of the
//!   slowest rung lead; those of the others are found by media time, within half a picture.
//! - Levels are made equal by a straight line; what most rungs show (the median) is what each is compared with, sample by
//!   sample, since damage often keeps the mean of a block and not what is in it. How much a rung differs is learned by
//!   kinds of places, that is by texture and motion: low rungs lose texture. A cell of 2x2 samples is off when it, with
//!   those around it, differs by more than is usual of such places and of itself. It must be off for three pictures,
//!   with neighbours. Cells that are mostly off from the beginning (a logo in one rung) do not count; a
//!   rung that is another picture as a whole from the beginning is not compared.
//! - Of two rungs only the difference is known. It is the fault of the one with transport or bitstream evidence, or of the
//!   one whose cells jump where those of the other go on; else `undecided_ratio` tells it, and neither is blamed.
//! - Maps at times around each other tell by how much a rung is late (`late_secs`), which is made up for before pictures
//!   are compared. A picture that is more like one of another time than like that of its own is late, not damaged. So that
//!   there is something on both sides, pictures are compared half a second after they came.
//!
//! Cost: one pass over the half-resolution luma, about 0.1 ms for 1080p, and a comparison of maps, less than 0.2 ms a
//! rung. Limits: a delay of more than 12 pictures is not found; where most rungs are damaged alike the others are
//! blamed.

use std::collections::VecDeque;

use crate::base::{
    Basis, Cause, Cost, Descriptor, Detector, Evidence, Fact, InputEvent, Kind, Limit, Media,
    MediaTime, Needs, OptionSpec, Options, Picture, Reading, Reset, RuleSpec, Scope, Severity,
    Signal, Sink, Track, TrackInfo, Unit, Why,
};
use crate::kernel::cells;

mod compare;
mod lag;
mod scene;

use compare::{STAND, Usual, around};
use lag::{Lag, REACH, Told, shifted};
use scene::{COLUMNS, ROWS, Scene, sample};

static SIGNALS: [Signal; 3] = [
    Signal {
        name: "differing_ratio",
        unit: "ratio 0..1",
        range: (0.0, 1.0),
        basis: Basis::Media,
        help: "Share of the picture in which this rendition shows what the others do not, beyond what is usual.",
    },
    Signal {
        name: "undecided_ratio",
        unit: "ratio 0..1",
        range: (0.0, 1.0),
        basis: Basis::Media,
        help: "Share of the picture in which two renditions differ and nothing tells which of them is at fault.",
    },
    Signal {
        name: "late_secs",
        unit: "seconds late",
        range: (-2.0, 2.0),
        basis: Basis::Media,
        help: "How much later by its timestamps this rendition shows the programme than the middle of all, of two than the higher; negative is early.",
    },
];
static DIFFERING_RATIO: &Signal = &SIGNALS[0];
static UNDECIDED_RATIO: &Signal = &SIGNALS[1];
static LATE_SECS: &Signal = &SIGNALS[2];

static OPTIONS: [OptionSpec; 1] = [OptionSpec {
    name: "off_codes",
    default: 1.5,
    range: (0.5, 60.0),
    help: "Luma by which a cell of one rendition must differ from the others, in 8-bit codes, beyond what is usual of such places.",
}];

/// The row of the registry.
pub static DETECTOR: Descriptor = Descriptor {
    name: "rung_difference",
    doc: "Several renditions of one programme are watched, and one of them shows damage that the others do not show, or \
          shows the programme later or earlier than they do.",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[
        // To be recorded: no clean ladder is told of, but ladders were watched for minutes and not for days. What it
        // says of the place of other defects counts all the same.
        RuleSpec {
            name: "rung_damaged",
            signal: "differing_ratio",
            raise: Limit::AtLeast(0.005),
            clear: Limit::AtMost(0.002),
            hold: std::time::Duration::ZERO,
            release: std::time::Duration::from_secs(2),
            severity: Severity::Info,
            cause: Cause::RungDiffers,
            says: "This rendition shows what the others do not.",
        },
        RuleSpec {
            name: "one_rung_damaged",
            signal: "undecided_ratio",
            raise: Limit::AtLeast(0.005),
            clear: Limit::AtMost(0.002),
            hold: std::time::Duration::ZERO,
            release: std::time::Duration::from_secs(2),
            severity: Severity::Info,
            cause: Cause::RungDiffers,
            says: "One of two renditions shows what the other does not.",
        },
        RuleSpec {
            name: "rung_late",
            signal: "late_secs",
            raise: Limit::AtLeast(0.06),
            clear: Limit::AtMost(0.03),
            hold: std::time::Duration::ZERO,
            release: std::time::Duration::from_secs(2),
            severity: Severity::Warning,
            cause: Cause::RungLate,
            says: "This rendition shows the programme later than the others.",
        },
        RuleSpec {
            name: "rung_early",
            signal: "late_secs",
            raise: Limit::AtMost(-0.06),
            clear: Limit::AtLeast(-0.03),
            hold: std::time::Duration::ZERO,
            release: std::time::Duration::from_secs(2),
            severity: Severity::Warning,
            cause: Cause::RungLate,
            says: "This rendition shows the programme earlier than the others.",
        },
    ],
    options: &OPTIONS,
    list: None,
    build: |options| Box::new(RungDifference::new(options)),
};

/// Renditions that are compared, at most.
const RUNGS: usize = 16;
/// Maps are kept for so long, and a rung that is further behind is not waited for.
const KEPT_SECS: f64 = 12.0;
/// ... and no more of them: a rung takes 3 MB at 25 pictures a second, 6 MB at most.
const KEPT: usize = 640;
/// Evidence explains a difference that begins so long before, or after it.
const EVIDENCE_SECS: (f64, f64) = (0.3, 4.0);
/// Evidence kept.
const EVIDENCE: usize = 32;
/// Of two rungs, the one is to blame whose cells jump by so many codes, and so many times as far as those of the other.
const JUMP_CODES: f32 = 6.0;
const JUMP: f32 = 3.0;
/// Share of the cells that must say so, and share that may say the opposite.
const AGREED: (f32, f32) = (0.6, 0.1);

#[derive(Debug, Clone)]
struct Map {
    at: MediaTime,
    cells: Vec<u8>,
}

#[derive(Debug)]
struct Rung {
    track: Track,
    member: String,
    /// In order of time.
    maps: VecDeque<Map>,
    /// Usual time from picture to picture.
    step_secs: f64,
    lag: Lag,
    /// It is more like a picture of another time.
    elsewhere: bool,
    usual: Usual,
    /// Evidence of damage, and whether the transport showed it.
    evidence: VecDeque<(MediaTime, bool)>,
    /// Since when it differs.
    since: Option<MediaTime>,
    /// When it was compared last.
    compared: Option<MediaTime>,
}

impl Rung {
    fn new(track: Track, member: &str) -> Self {
        Self {
            track,
            member: member.to_owned(),
            maps: VecDeque::new(),
            step_secs: 0.04,
            lag: Lag::default(),
            elsewhere: false,
            usual: Usual::default(),
            evidence: VecDeque::new(),
            since: None,
            compared: None,
        }
    }

    fn take(&mut self, map: Map) {
        if let Some(last) = self.maps.back() {
            let step = map.at.secs_after(last.at);
            if step <= 0.0 {
                // Out of order, or another timeline.
                if step > -KEPT_SECS {
                    return;
                }
                self.maps.clear();
            } else if step < 0.2 {
                self.step_secs += 0.1 * (step - self.step_secs);
            }
        }
        let now = map.at;
        self.maps.push_back(map);
        let old = |m: &Map| now.secs_after(m.at) > KEPT_SECS;
        while self.maps.len() > KEPT || self.maps.front().is_some_and(old) {
            self.maps.pop_front();
        }
    }

    fn newest(&self) -> Option<MediaTime> {
        self.maps.back().map(|map| map.at)
    }

    fn lag_secs(&self) -> f64 {
        self.lag.secs(self.step_secs).unwrap_or_default()
    }

    /// Place of the picture that is shown at this time, within half a picture of `step_secs`.
    fn at(&self, at: MediaTime, step_secs: f64) -> Option<usize> {
        let next = self.maps.partition_point(|map| map.at < at);
        let off = |i: &usize| {
            let secs = self.maps.get(*i).map(|map| map.at.secs_after(at).abs());
            secs.unwrap_or(f64::MAX)
        };
        let nearest = [next.checked_sub(1), Some(next)].into_iter().flatten();
        let nearest = nearest.min_by(|a, b| off(a).total_cmp(&off(b)))?;
        (off(&nearest) <= 0.5 * step_secs + 1e-3).then_some(nearest)
    }

    /// What explains a difference that began then.
    fn cause(&self, since: MediaTime) -> Cause {
        let explains =
            |at: MediaTime| (-EVIDENCE_SECS.0..EVIDENCE_SECS.1).contains(&since.secs_after(at));
        let mut told = self.evidence.iter().filter(|(at, _)| explains(*at));
        match told.clone().any(|(_, transport)| *transport) {
            true => Cause::TransportLoss,
            false if told.next().is_some() => Cause::BitstreamDamage,
            false => Cause::RungDiffers,
        }
    }
}

/// Which of two rungs is to blame, as far as their first pictures tell.
#[derive(Debug, Default, Clone, Copy)]
struct Votes {
    cells: f32,
    each: [f32; 2],
}

#[derive(Debug)]
struct RungDifference {
    off_codes: f32,
    rungs: Vec<Rung>,
    /// Up to where was compared.
    compared: Option<MediaTime>,
    /// What most showed then.
    scene: Scene,
    votes: Votes,
    /// Of two rungs the one to blame, once known.
    blamed: Option<Track>,
}

impl RungDifference {
    fn new(options: &Options) -> Self {
        Self {
            off_codes: options.get("off_codes") as f32,
            rungs: Vec::new(),
            compared: None,
            scene: Scene::default(),
            votes: Votes::default(),
            blamed: None,
        }
    }

    fn restart(&mut self) {
        self.rungs.clear();
        (self.compared, self.blamed) = (None, None);
        self.votes = Votes::default();
        self.scene = Scene::default();
    }

    fn announce(&mut self, tracks: &[TrackInfo]) {
        let mut before = std::mem::take(&mut self.rungs);
        for info in tracks.iter().filter(|i| i.track.kind == Kind::Video) {
            let Some(member) = &info.member else { continue };
            let twice = self
                .rungs
                .iter()
                .any(|r| r.track == info.track || r.member == *member);
            if twice || self.rungs.len() == RUNGS {
                continue;
            }
            let same = |r: &Rung| r.track == info.track && r.member == *member;
            let kept = before.iter().position(same).map(|i| before.swap_remove(i));
            self.rungs
                .push(kept.unwrap_or_else(|| Rung::new(info.track, member)));
        }
        self.rungs.sort_by_key(|r| r.track);
    }

    fn rung(&mut self, track: Option<Track>) -> Option<&mut Rung> {
        self.rungs.iter_mut().find(|r| Some(r.track) == track)
    }

    fn fact(&mut self, unit: &Unit<'_>, fact: &Fact) {
        match fact {
            Fact::Input(InputEvent::Reopened) => self.restart(),
            Fact::Tracks(tracks) => self.announce(tracks),
            Fact::Format(_) => {
                if let Some(rung) = self.rung(unit.track) {
                    *rung = Rung::new(rung.track, &rung.member);
                }
            }
            Fact::Evidence(Evidence { kind, from, .. }) => {
                let at = from.or(unit.at.media);
                if let (Some(rung), Some(at)) = (self.rung(unit.track), at) {
                    rung.evidence.push_back((at, kind.is_transport()));
                    while rung.evidence.len() > EVIDENCE {
                        rung.evidence.pop_front();
                    }
                }
            }
            _ => {}
        }
    }

    fn picture(&mut self, unit: &Unit<'_>, picture: &Picture<'_>, out: &mut Sink<'_>) {
        if self.rungs.len() < 2 {
            return;
        }
        let Some(rung) = self.rung(unit.track) else {
            return;
        };
        let Some(at) = unit.at.media else {
            for signal in [DIFFERING_RATIO, LATE_SECS] {
                out.put_on(rung.track, signal, Reading::unmeasurable(Why::NoTimestamps));
            }
            return;
        };
        rung.take(Map {
            at,
            cells: cells::means(picture.half(), COLUMNS, ROWS),
        });
        // Another timeline for all.
        if self
            .compared
            .is_some_and(|compared| compared.secs_after(at) > 2.0 * KEPT_SECS)
        {
            self.compared = None;
            self.scene.cut();
        }
        while let Some((at, leader, places)) = self.due() {
            self.compared = Some(at);
            self.compare(at, leader, &places, out);
        }
    }

    /// Rungs that deliver.
    fn living(&self) -> impl Iterator<Item = (usize, &Rung)> {
        let newest = self.rungs.iter().filter_map(Rung::newest).max();
        let lives = move |r: &Rung| {
            let behind = newest.zip(r.newest()).map(|(a, b)| a.secs_after(b));
            behind.is_some_and(|secs| secs < KEPT_SECS - 2.0)
        };
        (self.rungs.iter().enumerate()).filter(move |(_, r)| lives(r))
    }

    /// The next time at which all rungs have their pictures: which rung leads, and where the pictures are.
    fn due(&self) -> Option<(MediaTime, usize, Vec<Option<usize>>)> {
        // The slowest leads: the others have pictures at all of its times.
        let steps = |r: &Rung| (r.step_secs * 500.0).round() as i64;
        let (leads, leader) =
            (self.living()).max_by_key(|(i, r)| (steps(r), std::cmp::Reverse(*i)))?;
        if self.living().count() < 2 {
            return None;
        }
        let time = |map: &Map| shifted(map.at, -leader.lag_secs());
        let after = |map: &Map| self.compared.is_none_or(|compared| time(map) > compared);
        let next = leader.maps.partition_point(|map| !after(map));
        let at = time(leader.maps.get(next)?);
        let mut places = vec![None; self.rungs.len()];
        for (i, rung) in self.living() {
            let own = shifted(at, rung.lag_secs());
            let reach = f64::from(REACH) * rung.step_secs - 1e-3;
            if (rung.newest()).is_none_or(|newest| newest.secs_after(own) < reach) {
                return None;
            }
            if let Some(place) = places.get_mut(i) {
                *place = match i == leads {
                    true => Some(next),
                    false => rung.at(own, leader.step_secs),
                };
            }
        }
        Some((at, leads, places))
    }

    fn compare(
        &mut self,
        at: MediaTime,
        leads: usize,
        places: &[Option<usize>],
        out: &mut Sink<'_>,
    ) {
        self.look_for_lags(leads, places);
        let mut found: Vec<(usize, usize)> = Vec::with_capacity(self.rungs.len());
        let mut maps: Vec<Vec<f32>> = Vec::with_capacity(self.rungs.len());
        let mut apart = 0f64;
        for (i, (rung, place)) in self.rungs.iter().zip(places).enumerate() {
            let Some((place, map)) = place.and_then(|p| Some((p, rung.maps.get(p)?))) else {
                continue;
            };
            found.push((i, place));
            maps.push(map.cells.iter().map(|v| f32::from(*v)).collect());
            let off = map.at.secs_after(shifted(at, rung.lag_secs())).abs();
            apart = apart.max(off / rung.step_secs.max(0.005));
        }
        if found.len() < 2 {
            return;
        }
        let two = found.len() == 2;
        // Of two, the first stands for both.
        let most = match two {
            true => maps.first().cloned().unwrap_or_default(),
            false => compare::median(&maps),
        };
        let levelled: Vec<Vec<f32>> = maps.iter().map(|m| compare::levelled(m, &most)).collect();
        let most = match two {
            true => most,
            false => compare::median(&levelled),
        };
        let mut differences: Vec<Vec<f32>> = (levelled.iter())
            .map(|map| compare::differences(map, &most))
            .collect();
        if let (true, [one, other]) = (two, differences.as_mut_slice()) {
            // Both of two differ by the same.
            one.clone_from(other);
        }
        self.scene.follow(most, apart as f32);
        let mut largest = differences.first().cloned().unwrap_or_default();
        for differences in differences.iter().skip(1) {
            for (most, of_one) in largest.iter_mut().zip(differences) {
                *most = most.max(*of_one);
            }
        }
        for ((i, _), differences) in found.iter().zip(&differences) {
            if let Some(rung) = self.rungs.get_mut(*i) {
                // What was left out is not the next picture.
                if rung.compared.is_some_and(|then| at.secs_after(then) > 0.5) {
                    rung.usual.interrupt();
                }
                rung.compared = Some(at);
                match rung.elsewhere {
                    true => rung.usual.interrupt(),
                    false => (rung.usual).look(differences, &largest, &self.scene, self.off_codes),
                }
            }
        }
        match found.as_slice() {
            [one, other] => self.report_two(at, [*one, *other], out),
            _ => {
                for (i, _) in &found {
                    self.report(at, *i, out);
                }
                out.put(UNDECIDED_RATIO, Reading::measured(0.0).until(Some(at)));
            }
        }
        self.report_lags(leads, out);
    }

    fn look_for_lags(&mut self, leads: usize, places: &[Option<usize>]) {
        let place = places.get(leads).copied().flatten();
        let leader = self.rungs.get(leads).zip(place);
        let Some(map) = leader
            .and_then(|(leader, place)| leader.maps.get(place))
            .cloned()
        else {
            return;
        };
        let (mut others, mut elsewhere) = (0, 0);
        for (i, (rung, place)) in self.rungs.iter_mut().zip(places).enumerate() {
            if i == leads || place.is_none() {
                continue;
            }
            let mut lag = std::mem::take(&mut rung.lag);
            let find = |at| {
                let map = rung.maps.get(rung.at(at, rung.step_secs)?)?;
                Some((map.at, map.cells.as_slice()))
            };
            let told = lag.look(map.at, &map.cells, rung.step_secs, find);
            rung.lag = lag;
            rung.elsewhere = told != Told::Here;
            if told == Told::Moved {
                rung.usual = Usual::default();
            }
            others += 1;
            elsewhere += usize::from(rung.elsewhere);
        }
        // Where most are elsewhere, it is the leader that is.
        if let Some(leader) = self.rungs.get_mut(leads) {
            leader.elsewhere = 2 * elsewhere >= others.max(1);
        }
    }

    fn report(&mut self, at: MediaTime, i: usize, out: &mut Sink<'_>) {
        let Some(rung) = self.rungs.get_mut(i) else {
            return;
        };
        if let Some(why) = blind(rung) {
            out.put_on(rung.track, DIFFERING_RATIO, Reading::unmeasurable(why));
            return;
        }
        let share = rung.usual.share();
        out.put_on(rung.track, DIFFERING_RATIO, reading(rung, share, at));
    }

    /// Of two the difference is known, and which is to blame where something tells.
    fn report_two(&mut self, at: MediaTime, found: [(usize, usize); 2], out: &mut Sink<'_>) {
        let rungs = found.map(|(i, _)| self.rungs.get(i));
        let [Some(one), Some(other)] = rungs else {
            return;
        };
        if let Some(why) = blind(one).or(blind(other)) {
            out.put(UNDECIDED_RATIO, Reading::unmeasurable(why));
            for rung in [one, other] {
                out.put_on(rung.track, DIFFERING_RATIO, Reading::unmeasurable(why));
            }
            return;
        }
        let share = one.usual.share();
        let tracks = [one.track, other.track];
        // How far each cell and those around it went since the picture before, in either rung.
        let change = |rung: &Rung, place: usize, cell: usize| {
            let value = |place: usize, cell: usize| {
                let map = rung.maps.get(place)?;
                Some(f32::from(*map.cells.get(sample(cell))?))
            };
            let far = |cell: usize| {
                let before = place.checked_sub(1)?;
                Some((value(place, cell)? - value(before, cell)?).abs())
            };
            around(cell).filter_map(far).fold(0.0, f32::max)
        };
        let mut votes = self.votes;
        for cell in one.usual.newly_off() {
            let [a, b] = [
                change(one, found[0].1, cell),
                change(other, found[1].1, cell),
            ];
            votes.cells += 1.0;
            votes.each[0] += f32::from(u8::from(a > JUMP * b + JUMP_CODES));
            votes.each[1] += f32::from(u8::from(b > JUMP * a + JUMP_CODES));
        }
        let begins = share > 0.0 && one.since.is_none();
        let since = one.since.unwrap_or_else(|| began(one, at));
        let broken = [one, other].map(|rung| rung.cause(since) != Cause::RungDiffers);
        self.votes = votes;
        if share == 0.0 {
            // What was seen lately still tells of what has not stood for long enough yet.
            let quiet = one.usual.newly_off().next().is_none();
            let keep = match quiet {
                true => 0.8,
                false => 1.0,
            };
            self.votes.cells *= keep;
            self.votes.each = votes.each.map(|v| v * keep);
            self.blamed = None;
        } else if begins || self.blamed.is_none() {
            let wins = |a: f32, b: f32| {
                a >= AGREED.0 * votes.cells && b <= AGREED.1 * votes.cells && votes.cells > 0.0
            };
            self.blamed = match (broken, votes.each) {
                ([true, false], _) => Some(tracks[0]),
                ([false, true], _) => Some(tracks[1]),
                (_, [a, b]) if wins(a, b) => Some(tracks[0]),
                (_, [a, b]) if wins(b, a) => Some(tracks[1]),
                _ => None,
            };
        }
        let blamed = self.blamed;
        for (i, _) in found {
            let Some(rung) = self.rungs.get_mut(i) else {
                continue;
            };
            // Both keep where it began, whoever is blamed.
            let whole = reading(rung, share, at);
            let told = match blamed {
                _ if share == 0.0 => whole,
                Some(track) if track == rung.track => whole,
                Some(_) => Reading::measured(0.0).until(Some(at)),
                None => Reading::unmeasurable(Why::WarmingUp),
            };
            out.put_on(rung.track, DIFFERING_RATIO, told);
        }
        out.put(
            UNDECIDED_RATIO,
            match blamed {
                None if share > 0.0 => Reading::measured(share).since(Some(since)),
                _ => Reading::measured(0.0).until(Some(at)),
            },
        );
    }

    fn report_lags(&self, leads: usize, out: &mut Sink<'_>) {
        let delay = |(i, rung): (usize, &Rung)| match i == leads {
            true => Some(0.0),
            false => rung.lag.secs(rung.step_secs),
        };
        let mut known: Vec<f64> = self.living().filter_map(delay).collect();
        let middle = match known.len() {
            // Against the higher one.
            2 => known.first().copied().unwrap_or_default(),
            n => {
                known.sort_by(f64::total_cmp);
                known.get(n / 2).copied().unwrap_or_default()
            }
        };
        for (i, rung) in self.living() {
            let told = match delay((i, rung)).filter(|_| known.len() > 1) {
                Some(secs) => Reading::measured((secs - middle).clamp(-2.0, 2.0)),
                None => Reading::unmeasurable(Why::WarmingUp),
            };
            out.put_on(rung.track, LATE_SECS, told);
        }
    }

    /// What cannot be measured is said again and again.
    fn tick(&mut self, now: Option<MediaTime>, out: &mut Sink<'_>) {
        if self.rungs.len() < 2 {
            for signal in &SIGNALS {
                out.put(signal, Reading::unmeasurable(Why::NotApplicable));
            }
            return;
        }
        let living: Vec<Track> = self.living().map(|(_, r)| r.track).collect();
        for rung in &self.rungs {
            let lately = rung
                .compared
                .zip(now)
                .is_some_and(|(then, now)| now.secs_after(then) < KEPT_SECS);
            let why = match (living.contains(&rung.track), living.len()) {
                (false, _) => Why::NoTrack,
                (true, 1) => Why::NotApplicable,
                _ if lately => continue,
                _ => Why::WarmingUp,
            };
            for signal in [DIFFERING_RATIO, LATE_SECS] {
                out.put_on(rung.track, signal, Reading::unmeasurable(why));
            }
        }
        if living.len() < 2 {
            out.put(UNDECIDED_RATIO, Reading::unmeasurable(Why::NotApplicable));
        }
    }
}

/// Why nothing can be said of a rung.
fn blind(rung: &Rung) -> Option<Why> {
    match (
        rung.usual.is_learned() && !rung.elsewhere,
        rung.usual.is_unlike(),
    ) {
        (false, _) => Some(Why::WarmingUp),
        (true, true) => Some(Why::NotApplicable),
        (true, false) => None,
    }
}

/// Where a difference began that has just stood for long enough.
fn began(rung: &Rung, at: MediaTime) -> MediaTime {
    shifted(at, -f64::from(STAND - 1) * rung.step_secs)
}

/// The reading of a rung; keeps since when it differs.
fn reading(rung: &mut Rung, share: f64, at: MediaTime) -> Reading {
    if share == 0.0 {
        rung.since = None;
        return Reading::measured(0.0).until(Some(at));
    }
    let since = *rung.since.get_or_insert(began(rung, at));
    Reading::measured(share.min(1.0))
        .since(Some(since))
        .cause(rung.cause(since))
}

impl Detector for RungDifference {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match unit.media {
            Media::Video(picture) => self.picture(unit, picture, out),
            Media::Fact(fact) => self.fact(unit, fact),
            Media::Tick => self.tick(unit.at.media, out),
            Media::Audio(_) => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        self.restart();
    }
}

#[cfg(test)]
#[path = "rung_difference_tests.rs"]
mod tests;
