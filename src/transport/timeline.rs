//! Maps raw 33-bit timestamps of all tracks of a program onto one media clock that never jumps.

use detectors::base::MediaTime;

/// A mapped timestamp.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mapped {
    /// Place on the media clock.
    pub media: MediaTime,
    /// Set when this timestamp began a new timeline (or returned to a former one, as after a single corrupt
    /// timestamp): seconds by which it differs from what was expected. Tracks that follow it there are not told.
    pub jump_secs: Option<f64>,
}

/// Ticks a second.
const HZ: i64 = 90_000;
const WRAP: i64 = 1 << 33;
/// A track's timestamps may go back this far (B pictures are stored out of order).
const BACK: i64 = HZ;
/// They may go forward this far: beyond, it is a reset of the clock rather than lost media.
const FORWARD: i64 = 10 * HZ;
/// How far behind its own newest timestamp a track may come out when it follows another to a new timeline.
const FOLLOW_BACK: i64 = 5 * HZ;
/// A new track may start this far from the others.
const START: i64 = 60 * HZ;
/// What is still continuous across a signalled discontinuity.
const SMALL: i64 = HZ / 2;
/// Steps beyond this may be a single corrupt timestamp: the place before is remembered.
const LEAP: i64 = HZ;
/// Timelines kept.
const LINES: usize = 4;
/// Tracks kept.
const TRACKS: usize = 64;

/// One timeline: raw timestamps and the media clock differ by a constant.
#[derive(Debug)]
struct Line {
    id: u64,
    /// A pair that belongs together; it moves along, so that wraps unroll.
    raw: i64,
    media: i64,
    hits: u32,
    used: u64,
}

impl Line {
    fn place(&self, raw: i64) -> i64 {
        let ahead = (raw - self.raw).rem_euclid(WRAP);
        let ahead = if ahead >= WRAP / 2 {
            ahead - WRAP
        } else {
            ahead
        };
        self.media.saturating_add(ahead)
    }
}

#[derive(Debug)]
struct Seat {
    track: u32,
    line: u64,
    /// Latest place on the media clock.
    newest: i64,
    /// Newest place before a leap that nothing has confirmed yet.
    before_leap: Option<i64>,
    last: i64,
    /// Where what has come ends, if it is known to last longer than a step.
    end: i64,
    /// Smallest distance of neighbours: a picture's or block's length.
    step: Option<i64>,
    /// A discontinuity was signalled and this track has not shown a timestamp since.
    loose: bool,
    used: u64,
}

impl Seat {
    fn step(&self) -> i64 {
        self.step.unwrap_or(0)
    }

    fn expected(&self) -> i64 {
        self.newest + self.step()
    }

    /// Allowed step back: more for slow pictures, which reorder over longer times.
    fn back(&self) -> i64 {
        BACK.max(4 * self.step())
    }
}

/// One media clock for the tracks of a program.
///
/// Wraps are unrolled. When a track's timestamps jump (backward by more than 1 s, or forward by more than 10 s,
/// against the track's newest), a new timeline begins whose offset continues the clock behind everything mapped
/// so far; other tracks join it as their timestamps jump likewise, so that A/V offsets survive the jump exactly.
/// Smaller steps stay on the timeline: they are reordering, or media that is really missing. The last four
/// timelines are kept: a single corrupt timestamp jumps there and back, and leaves no error.
///
/// The first timestamp of all maps to 0; other tracks that begin earlier come out negative.
#[derive(Debug, Default)]
pub struct Timeline {
    lines: Vec<Line>,
    seats: Vec<Seat>,
    /// The line most recently begun or returned to.
    current: u64,
    /// Line that the first timestamp after a signalled discontinuity settled on.
    settled: Option<u64>,
    next_id: u64,
    clock: u64,
}

impl Timeline {
    /// A discontinuity was signalled (`EXT-X-DISCONTINUITY`, `discontinuity_indicator` with a PCR): the next
    /// timestamp of each track may begin a new timeline even for a small step; below 0.5 s it stays.
    pub fn discontinuity(&mut self) {
        self.settled = None;
        self.seats.iter_mut().for_each(|s| s.loose = true);
    }

    /// Maps a timestamp (90 kHz, 33 bit) of the track with this key (PID or input number).
    pub fn map(&mut self, track: u32, ticks: u64) -> Mapped {
        let raw = (ticks & (WRAP as u64 - 1)) as i64;
        self.clock += 1;
        let at = match self.seats.iter().position(|s| s.track == track) {
            Some(at) => at,
            None => return self.first(track, raw),
        };
        let (line, media, jump) = self.settle(at, raw);
        let jump_secs = jump.map(|ticks| ticks as f64 / HZ as f64);
        self.take(at, line, raw, media);
        Mapped {
            media: time(media),
            jump_secs,
        }
    }

    /// What came with a track's latest timestamp lasts for so many ticks (90 kHz): not one picture, but a fragment. A
    /// timeline that begins next begins behind it.
    pub fn lasts(&mut self, track: u32, ticks: u128) {
        // A fragment that claims more than a minute is wrong.
        let ticks = i64::try_from(ticks).map_or(0, |ticks| if ticks > START { 0 } else { ticks });
        if let Some(seat) = self.seats.iter_mut().find(|s| s.track == track) {
            seat.end = seat.last.saturating_add(ticks);
        }
    }

    /// Where a timestamp (90 kHz, 33 bit) that is no track's lies on the present timeline; `None` before there is one.
    pub fn locate(&self, ticks: u64) -> Option<MediaTime> {
        let raw = (ticks & (WRAP as u64 - 1)) as i64;
        Some(time(self.line(self.current)?.place(raw)))
    }

    /// Where a track's first timestamp belongs: on the timeline where it lies nearest to the others.
    fn first(&mut self, track: u32, raw: i64) -> Mapped {
        let near = self
            .lines
            .iter()
            .filter_map(|l| {
                let newest = self.newest_on(l.id)?;
                let media = l.place(raw);
                Some((media.abs_diff(newest), l.id, media))
            })
            .min();
        let (line, media, jump) = match near {
            Some((distance, id, media)) if distance <= START as u64 => (id, media, None),
            Some((_, id, media)) => {
                let begin = self.newest();
                let jump = media - begin;
                // A track with a clock of its own says nothing about the others' timeline.
                let current = self.current;
                let line = self.begin(raw, begin);
                if self.line(id).is_some() {
                    self.current = current;
                }
                (line, begin, Some(jump as f64 / HZ as f64))
            }
            None => (self.begin(raw, 0), 0, None),
        };
        if self.seats.len() >= TRACKS
            && let Some(oldest) = (0..self.seats.len()).min_by_key(|&i| self.seats[i].used)
        {
            self.seats.swap_remove(oldest);
        }
        self.seats.push(Seat {
            track,
            line,
            newest: media,
            before_leap: None,
            last: media,
            end: media,
            step: None,
            loose: false,
            used: self.clock,
        });
        self.take(self.seats.len() - 1, line, raw, media);
        Mapped {
            media: time(media),
            jump_secs: jump,
        }
    }

    /// Timeline and place of a known track's timestamp, and the jump when it begins a timeline.
    fn settle(&mut self, at: usize, raw: i64) -> (u64, i64, Option<i64>) {
        let seat = &self.seats[at];
        let expected = seat.expected();
        let place = |id: u64| self.line(id).map(|l| l.place(raw));
        let own = place(seat.line);
        let off = own.map_or(i64::MAX, |m| m.abs_diff(expected) as i64);
        let follows = |m: i64| {
            (expected - FOLLOW_BACK..=expected + FORWARD)
                .contains(&m)
                .then_some(m)
        };
        if seat.loose {
            // Whoever comes first after the signal decides, so that all tracks go the same way.
            let led = self.settled.and_then(|id| Some((id, follows(place(id)?)?)));
            if let Some((line, media)) = led {
                return (line, media, None);
            }
            // Another one may have come there before, and said so.
            let ahead = place(self.current).and_then(follows);
            if let (true, Some(media)) = (off >= SMALL && seat.line != self.current, ahead) {
                return (self.current, media, None);
            }
            if off >= SMALL && self.settled.is_none() {
                let jump = own.map_or(0, |m| m - expected);
                let begin = self.newest_end(at);
                let line = self.begin(raw, begin);
                return (line, begin, Some(jump));
            }
        }
        if seat.line != self.current
            && off > SMALL
            && let Some(media) = place(self.current).and_then(follows)
            && (media.abs_diff(expected) as i64) < off
        {
            return (self.current, media, None);
        }
        if let Some(media) = own
            && (self.fits(seat, media) || returns(seat, media))
        {
            return (seat.line, media, None);
        }
        let jump = own.map_or(0, |m| m - expected);
        let former = self
            .lines
            .iter()
            .filter(|l| l.id != seat.line)
            .map(|l| (l.id, l.place(raw)))
            .filter(|&(_, m)| (expected - seat.back()..=expected + FORWARD).contains(&m))
            .min_by_key(|&(_, m)| m.abs_diff(expected));
        if let Some((line, media)) = former {
            let jump = (line != self.current).then_some(jump);
            self.current = line;
            return (line, media, jump);
        }
        let begin = self.newest_end(at);
        (self.begin(raw, begin), begin, Some(jump))
    }

    /// Whether a place is plain continuation for a track on its own timeline.
    fn fits(&self, seat: &Seat, media: i64) -> bool {
        let after = media >= seat.newest - seat.back();
        // A track that paused may come back to where the others have gone.
        let others = self.newest_on(seat.line).unwrap_or(seat.newest);
        after && media <= others.max(seat.newest) + FORWARD
    }

    /// Books a timestamp.
    fn take(&mut self, at: usize, line: u64, raw: i64, media: i64) {
        let clock = self.clock;
        if let Some(line) = self.lines.iter_mut().find(|l| l.id == line) {
            line.raw = raw;
            line.media = media;
            line.hits = line.hits.saturating_add(1);
            line.used = clock;
        }
        let Some(seat) = self.seats.get_mut(at) else {
            return;
        };
        if std::mem::take(&mut seat.loose) {
            self.settled = self.settled.or(Some(line));
        }
        let moved = seat.line != line;
        seat.line = line;
        let apart = media.abs_diff(seat.last) as i64;
        seat.last = media;
        if apart > 0 && apart <= HZ && !moved {
            // The smallest of the recent ones: it rises slowly when the rate falls.
            let step = seat.step.map_or(apart, |s| apart.min(s + s / 64 + 1));
            seat.step = Some(step);
        }
        seat.used = clock;
        if returns(seat, media) && media < seat.newest - seat.back() {
            seat.newest = media;
            seat.before_leap = None;
        } else if media > seat.newest + LEAP {
            seat.before_leap = Some(seat.newest);
            seat.newest = media;
        } else {
            seat.before_leap = None;
            seat.newest = seat.newest.max(media);
        }
    }

    fn line(&self, id: u64) -> Option<&Line> {
        self.lines.iter().find(|l| l.id == id)
    }

    /// Newest place of any track on a line.
    fn newest_on(&self, line: u64) -> Option<i64> {
        let on = self.seats.iter().filter(|s| s.line == line);
        on.map(|s| s.newest).max()
    }

    /// Newest place of all.
    fn newest(&self) -> i64 {
        self.seats.iter().map(|s| s.newest).max().unwrap_or(0)
    }

    /// Where a new timeline begins: behind everything, so that no track goes back.
    fn newest_end(&self, at: usize) -> i64 {
        let step = self.seats.get(at).map_or(0, Seat::step);
        let ends = self.seats.iter().map(|seat| seat.end);
        ends.fold(self.newest() + step, i64::max)
    }

    /// Begins a timeline; the least useful one goes when there are too many.
    fn begin(&mut self, raw: i64, media: i64) -> u64 {
        if self.lines.len() >= LINES {
            let worth = |l: &Line| {
                let seated = self.seats.iter().any(|s| s.line == l.id);
                (seated, l.hits.min(3), l.used)
            };
            let least = (0..self.lines.len()).min_by_key(|&i| worth(&self.lines[i]));
            if let Some(least) = least {
                self.lines.swap_remove(least);
            }
        }
        self.next_id += 1;
        self.current = self.next_id;
        self.lines.push(Line {
            id: self.next_id,
            raw,
            media,
            hits: 0,
            used: self.clock,
        });
        self.next_id
    }
}

/// Whether a place continues what was before a leap: then the leap was a single corrupt timestamp.
fn returns(seat: &Seat, media: i64) -> bool {
    seat.before_leap
        .is_some_and(|b| (b - seat.back()..=b + LEAP + seat.step()).contains(&media))
}

/// Ticks to media time, to the nearest nanosecond below.
fn time(ticks: i64) -> MediaTime {
    let nanos = (i128::from(ticks) * 100_000).div_euclid(9);
    MediaTime::from_nanos(nanos.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const V: u32 = 0x100;
    const A: u32 = 0x101;
    const FRAME: u64 = 3600;

    fn ms(m: Mapped) -> i64 {
        (m.media.nanos() as f64 / 1e6).round() as i64
    }

    /// A second of pictures at 25 a second in stored order I P B B …, with audio beside, from `raw`.
    fn play(line: &mut Timeline, raw: u64, secs: u64) -> Vec<(u32, Mapped)> {
        let mut out = Vec::new();
        for group in 0..secs * 25 / 3 {
            for shown in [2u64, 0, 1] {
                let ticks = raw + (group * 3 + shown) * FRAME;
                out.push((V, line.map(V, ticks % (1 << 33))));
            }
            for block in 0..3 {
                let ticks = raw + (group * 3 + block) * FRAME;
                out.push((A, line.map(A, ticks % (1 << 33))));
            }
        }
        out
    }

    fn jumps(all: &[(u32, Mapped)]) -> usize {
        all.iter().filter(|(_, m)| m.jump_secs.is_some()).count()
    }

    #[test]
    fn plain_play_maps_exactly_from_zero() {
        let mut line = Timeline::default();
        assert_eq!(ms(line.map(V, 900_000)), 0);
        assert_eq!(ms(line.map(V, 903_600)), 40);
        assert_eq!(
            ms(line.map(A, 891_000)),
            -100,
            "audio that begins earlier is negative"
        );
    }

    #[test]
    fn renditions_that_begin_apart_keep_their_distance_up_to_a_minute() {
        // Which of them is meant to wait for the other, their lists tell, or nobody.
        let mut line = Timeline::default();
        line.map(V, 2_284_650);
        let sound = line.map(A, 305_280);
        assert_eq!((ms(sound), sound.jump_secs), (-21_993, None));
        // Beyond, they have clocks of their own, and it is told.
        let mut line = Timeline::default();
        line.map(V, 2_284_650);
        let sound = line.map(A, 2_284_650 + 100 * 90_000);
        assert_eq!((ms(sound), sound.jump_secs), (0, Some(100.0)));
    }

    #[test]
    fn what_is_no_tracks_is_located_ahead_behind_and_over_the_wrap() {
        let mut line = Timeline::default();
        assert_eq!(line.locate(5), None);
        line.map(V, (1 << 33) - 90_000);
        for (ticks, ms) in [
            ((1 << 33) - 90_000, 0),
            (90_000, 2_000),
            ((1 << 33) - 180_000, -1_000),
        ] {
            assert_eq!(line.locate(ticks), Some(MediaTime::from_millis(ms)));
        }
        // A jump begins another timeline; what follows is on that one.
        line.map(V, 500_000_000);
        let at = line.map(V, 500_003_600).media;
        assert_eq!(line.locate(500_003_600), Some(at));
    }

    #[test]
    fn wrap_is_no_jump() {
        let mut line = Timeline::default();
        let raw = (1u64 << 33) - 5 * 90_000;
        let all = play(&mut line, raw, 20);
        assert_eq!(jumps(&all), 0);
        let last = all.iter().map(|(_, m)| ms(*m)).max().unwrap();
        assert!((19_500..20_100).contains(&last), "{last}");
    }

    #[test]
    fn audio_that_wrapped_before_the_first_picture_is_in_place() {
        let mut line = Timeline::default();
        line.map(V, (1 << 33) - 9_000);
        assert_eq!(ms(line.map(A, 9_000)), 200);
        let mut line = Timeline::default();
        line.map(V, 9_000);
        assert_eq!(ms(line.map(A, (1 << 33) - 9_000)), -200);
    }

    #[test]
    fn many_wraps_go_on() {
        let mut line = Timeline::default();
        let mut last = line.map(V, 0);
        for n in 1..200_000u64 {
            let next = line.map(V, (n * 450_000) % (1 << 33));
            assert_eq!(next.jump_secs, None);
            assert_eq!(ms(next) - ms(last), 5_000);
            last = next;
        }
    }

    #[test]
    fn jump_back_continues_and_keeps_the_offset() {
        for to in [0u64, 90_000 * 3_600, 90_000 * 40_000] {
            let mut line = Timeline::default();
            play(&mut line, 90_000 * 1_000, 10);
            let end = line.newest() / 90;
            // Audio 150 ms behind the pictures from here on, first of either kind.
            for first in [V, A] {
                let mut line = Timeline::default();
                play(&mut line, 90_000 * 1_000, 10);
                let (v, a) = (to + 13_500, to);
                let (mv, ma) = if first == V {
                    let mv = line.map(V, v);
                    (mv, line.map(A, a))
                } else {
                    let ma = line.map(A, a);
                    (line.map(V, v), ma)
                };
                assert_eq!(ms(mv) - ms(ma), 150, "exact across the jump");
                let told = [mv, ma].iter().filter(|m| m.jump_secs.is_some()).count();
                assert_eq!(told, 1, "told once");
                let begin = ms(if first == V { mv } else { ma });
                assert!(
                    (0..=80).contains(&(begin - end)),
                    "no hole: {begin} after {end}"
                );
            }
        }
    }

    #[test]
    fn a_timeline_begins_behind_the_fragments_of_all() {
        let mut line = Timeline::default();
        let second = 90_000;
        for n in 0..4 {
            for (track, lasts) in [(0, second * 2), (1, second * 2 + 450)] {
                line.map(track, 900_000 + n * second * 2);
                line.lasts(track, lasts.into());
            }
        }
        // The sound's clock starts again first, the pictures' follows it.
        let sound = line.map(1, 180);
        assert_eq!((ms(sound), sound.jump_secs.is_some()), (8_005, true));
        assert_eq!(ms(line.map(0, 0)), 8_003);
    }

    #[test]
    fn forward_hole_within_the_limit_stays_a_hole() {
        let mut line = Timeline::default();
        play(&mut line, 0, 6);
        let next = line.map(V, 14 * 90_000);
        assert_eq!((ms(next), next.jump_secs), (14_000 - 80, None));
    }

    #[test]
    fn one_corrupt_timestamp_leaves_no_error() {
        for bad in [
            0u64,
            90_000 * 5,
            90_000 * 1_018,
            90_000 * 1_100,
            (1 << 33) - 1,
            1 << 32,
        ] {
            let mut line = Timeline::default();
            let all = play(&mut line, 90_000 * 1_000, 10);
            let newest = all.iter().map(|(_, m)| ms(*m)).max().unwrap();
            let end = 90_000 * 1_000 + 250 * FRAME;
            line.map(V, bad);
            let a = line.map(A, end);
            assert_eq!(a.jump_secs, None, "the other track does not follow");
            let v = line.map(V, end);
            assert_eq!(ms(v), ms(a));
            assert!(ms(v) - newest <= 160, "{bad}: {} after {newest}", ms(v));
            assert_eq!(line.map(V, end + FRAME).jump_secs, None);
        }
    }

    #[test]
    fn tracks_on_either_side_of_a_limit_stay_together() {
        // The pictures' step is just beyond the limit, the sound's just within; and the other way round.
        for (v, a) in [(10.2, 9.9), (9.9, 10.2), (-1.2, -0.9), (-0.9, -1.2)] {
            for first in [V, A] {
                let mut line = Timeline::default();
                for n in 0..250 {
                    line.map(V, 90_000 * 1_000 + n * FRAME);
                    line.map(A, 90_000 * 1_000 + n * FRAME);
                }
                let base = 90_000.0 * 1_000.0 + 250.0 * 3_600.0;
                let (v, a) = ((base + v * 90_000.0) as u64, (base + a * 90_000.0) as u64);
                let order = if first == V {
                    [(V, v), (A, a)]
                } else {
                    [(A, a), (V, v)]
                };
                for n in 0..3 {
                    let last: Vec<_> = order
                        .iter()
                        .map(|&(t, ticks)| (t, line.map(t, ticks + n * FRAME)))
                        .collect();
                    if n == 2 {
                        let of = |t| {
                            last.iter()
                                .find(|(x, _)| *x == t)
                                .map(|(_, m)| ms(*m))
                                .unwrap()
                        };
                        let raw = (v as i64 - a as i64) / 90;
                        assert!((of(V) - of(A) - raw).abs() <= 1, "{v} {a} {first}");
                    }
                }
            }
        }
    }

    #[test]
    fn signalled_small_step_begins_a_timeline_for_all() {
        let mut line = Timeline::default();
        play(&mut line, 0, 9);
        let newest = line.newest() / 90;
        line.discontinuity();
        let v = line.map(V, 9 * 90_000 + 2 * 90_000);
        assert!(
            v.jump_secs.is_some_and(|s| (1.5..2.5).contains(&s)),
            "{v:?}"
        );
        assert_eq!(ms(v), newest + 40);
        let a = line.map(A, 9 * 90_000 + 2 * 90_000 - 1_800);
        assert_eq!((ms(v) - ms(a), a.jump_secs), (20, None));

        line.discontinuity();
        let next = line.map(V, 9 * 90_000 + 2 * 90_000 + FRAME);
        assert_eq!(
            (ms(next) - ms(v), next.jump_secs),
            (40, None),
            "a small step stays"
        );
    }

    #[test]
    fn inputs_that_signal_the_same_discontinuity_in_turn_stay_together() {
        let mut line = Timeline::default();
        play(&mut line, 90_000, 9);
        let (old, new) = (10 * 90_000, 90_000 * 50_000);
        line.discontinuity();
        let first = line.map(V, new);
        assert!(first.jump_secs.is_some());
        // The other input is still before it.
        for block in 0..50 {
            assert_eq!(line.map(A, old + block * FRAME).jump_secs, None);
            line.map(V, new + (block + 1) * FRAME);
        }
        line.discontinuity();
        let other = line.map(A, new - 1_800);
        assert_eq!((ms(first) - ms(other), other.jump_secs), (20, None));
        let next = line.map(V, new + 51 * FRAME);
        assert_eq!((ms(next) - ms(first), next.jump_secs), (51 * 40, None));
    }

    #[test]
    fn loops_of_a_short_file_go_on_for_ever() {
        let mut line = Timeline::default();
        let mut told = 0;
        for _ in 0..50 {
            told += jumps(&play(&mut line, 126_000, 6));
        }
        assert_eq!(told, 49);
        let end = line.newest() as f64 / 90_000.0;
        assert!((50.0 * 5.9..50.0 * 6.1).contains(&end), "{end}");
        assert!(line.lines.len() <= LINES);
    }

    #[test]
    fn a_track_that_paused_comes_back_to_its_place() {
        let mut line = Timeline::default();
        line.map(A, 0);
        for n in 0..25 * 40 {
            line.map(V, n * FRAME);
        }
        let a = line.map(A, 39 * 90_000);
        assert_eq!((ms(a), a.jump_secs), (39_000, None));
    }

    proptest::proptest! {
        #[test]
        fn any_timestamps_stay_bounded(all in proptest::collection::vec((0u32..100, 0u64..u64::MAX), 0..400)) {
            let mut line = Timeline::default();
            for (track, ticks) in all {
                line.map(track, ticks);
                if ticks % 7 == 0 { line.discontinuity(); }
            }
            proptest::prop_assert!(line.lines.len() <= LINES && line.seats.len() <= TRACKS);
        }
    }
}
