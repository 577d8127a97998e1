//! How long the media of a segment lasts, by its own timestamps: measured from the bytes on their way, without
//! keeping them.
//!
//! One track counts: the first of pictures, else the first of sound.

use std::time::Duration;

use super::boxes::{self, Edit, Run, children, edit, inside, run, sample_ticks, track_id, u32_at};

/// Ticks a second of MPEG-2 timestamps, which count modulo 2^33.
const HZ: f64 = 90_000.0;
const WRAP: i64 = 1 << 33;
const PACKET: usize = 188;
/// Tracks of a segment that are looked at.
const TRACKS: usize = 32;
/// Largest header box that is read.
const HEADER_MAX: usize = 4 << 20;
/// Within a segment, timestamps go back at most this far (B pictures are stored out of order) and ...
const BACK_SECS: f64 = 1.0;
/// ... forward at most this far: beyond, another timeline begins.
const FORWARD_SECS: f64 = 10.0;

/// What a segment covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// First timestamp in order of presentation, seconds: of MPEG-2, modulo 2^33 ticks; of MP4, after the edit list.
    pub start_secs: f64,
    /// From there to the end of the last picture or block of sound.
    pub duration: Duration,
    /// Mean distance of two timestamps: what the measurement may be wrong by.
    pub step: Duration,
    /// Another timeline begins in the middle: the duration means nothing.
    pub broken: bool,
}

/// Measures one segment after the other.
#[derive(Debug, Default)]
pub struct Meter {
    ts: Ts,
    mp4: Mp4,
}

impl Meter {
    /// A segment begins. What is left of one that did not come to its end is forgotten.
    pub fn begin(&mut self) {
        self.ts = Ts::default();
        self.mp4.begin();
    }

    /// Takes bytes of an MPEG transport stream.
    pub fn ts(&mut self, bytes: &[u8]) {
        self.ts.push(bytes);
    }

    /// Takes bytes of a fragmented MP4 or of its initialisation segment, which holds until another one comes.
    pub fn mp4(&mut self, bytes: &[u8]) {
        self.mp4.push(bytes);
    }

    /// What the segment covers; `None` when its bytes did not tell.
    pub fn end(&mut self) -> Option<Span> {
        self.ts.span().or_else(|| self.mp4.span())
    }
}

/// Which tracks are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Pictures,
    Sound,
    /// Private streams: some are sound, some subtitles.
    Private,
}

#[derive(Debug)]
struct Stamps {
    pid: u16,
    class: Class,
    first: u64,
    newest: i64,
    least: i64,
    most: i64,
    count: u32,
    broken: bool,
}

#[derive(Debug, Default)]
struct Ts {
    held: Vec<u8>,
    tracks: Vec<Stamps>,
}

impl Ts {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.held.is_empty() && bytes.len() >= PACKET {
                let Some(packet) = bytes.first_chunk::<PACKET>() else {
                    return;
                };
                // Out of step: byte by byte, until one looks like the beginning of a packet.
                let whole = packet[0] == 0x47;
                if whole {
                    self.packet(packet);
                }
                bytes = bytes.get(if whole { PACKET } else { 1 }..).unwrap_or(&[]);
                continue;
            }
            let take = (PACKET - self.held.len().min(PACKET)).min(bytes.len());
            let (head, rest) = bytes.split_at(take);
            self.held.extend_from_slice(head);
            bytes = rest;
            if let Some(packet) = self.held.first_chunk::<PACKET>().copied() {
                self.held.clear();
                if packet[0] == 0x47 {
                    self.packet(&packet);
                }
            }
        }
    }

    fn packet(&mut self, packet: &[u8; PACKET]) {
        let starts = packet[1] & 0x40 != 0;
        let (has_field, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        if !starts || !has_payload {
            return;
        }
        let at = match has_field {
            true => 5 + usize::from(packet[4]),
            false => 4,
        };
        if let Some((class, stamp)) = packet.get(at..).and_then(pes) {
            let pid = u16::from_be_bytes([packet[1] & 0x1F, packet[2]]);
            self.stamp(pid, class, stamp);
        }
    }

    fn stamp(&mut self, pid: u16, class: Class, stamp: u64) {
        let Some(track) = self.tracks.iter_mut().find(|track| track.pid == pid) else {
            if self.tracks.len() < TRACKS {
                self.tracks.push(Stamps {
                    pid,
                    class,
                    first: stamp,
                    newest: 0,
                    least: 0,
                    most: 0,
                    count: 1,
                    broken: false,
                });
            }
            return;
        };
        let apart = (stamp as i64 - track.first as i64).rem_euclid(WRAP);
        let apart = match apart >= WRAP / 2 {
            true => apart - WRAP,
            false => apart,
        };
        let step = (apart - track.newest) as f64 / HZ;
        track.broken |= !(-BACK_SECS..=FORWARD_SECS).contains(&step);
        track.newest = apart;
        track.least = track.least.min(apart);
        track.most = track.most.max(apart);
        track.count += 1;
    }

    fn span(&self) -> Option<Span> {
        // More timestamps first: a subtitle stream has few.
        let track = self
            .tracks
            .iter()
            .min_by_key(|track| (track.class, u32::MAX - track.count))?;
        let steps = track.count.checked_sub(1).filter(|steps| *steps > 0)?;
        let spread = (track.most - track.least) as f64 / HZ;
        let step = spread / f64::from(steps);
        let start = (track.first as i64 + track.least).rem_euclid(WRAP);
        Some(Span {
            start_secs: start as f64 / HZ,
            duration: Duration::try_from_secs_f64(spread + step).ok()?,
            step: Duration::try_from_secs_f64(step).ok()?,
            broken: track.broken,
        })
    }
}

/// Class and PTS of a PES header (ISO/IEC 13818-1, 2.4.3.6).
fn pes(head: &[u8]) -> Option<(Class, u64)> {
    let &[0, 0, 1, id, _, _, _, flags, _, a, b, c, d, e] = head.first_chunk::<14>()? else {
        return None;
    };
    let class = match id {
        0xE0..=0xEF => Class::Pictures,
        0xC0..=0xDF => Class::Sound,
        0xBD | 0xFD => Class::Private,
        _ => return None,
    };
    if flags & 0x80 == 0 {
        return None;
    }
    let [a, b, c, d, e] = [a, b, c, d, e].map(u64::from);
    Some((
        class,
        (a & 0x0E) << 29 | b << 22 | (c & 0xFE) << 14 | d << 7 | e >> 1,
    ))
}

/// A track as the initialisation segment tells it.
#[derive(Debug, Clone, Copy)]
struct Track {
    id: u32,
    pictures: bool,
    timescale: u32,
    sample: u32,
    edit: Edit,
}

/// What fragments cover, in ticks of their track.
#[derive(Debug, Clone, Copy)]
struct Covered {
    start: u64,
    end: u64,
    /// From the start to the first picture that is shown.
    first_shown: i64,
    samples: u64,
    broken: bool,
}

#[derive(Debug, Default)]
struct Mp4 {
    held: Vec<u8>,
    /// Bytes of a box that is passed over.
    skip: u64,
    /// Nothing more can be made of this segment.
    lost: bool,
    track: Option<Track>,
    covered: Option<Covered>,
}

impl Mp4 {
    fn begin(&mut self) {
        self.held.clear();
        (self.skip, self.lost, self.covered) = (0, false, None);
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            if self.skip > 0 {
                let past = usize::try_from(self.skip)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                self.skip -= past as u64;
                bytes = bytes.get(past..).unwrap_or(&[]);
                continue;
            }
            // First the header of a box, then, of the two that matter, all of it.
            let wanted = match front(&self.held) {
                None if self.held.len() >= 16 => {
                    self.lost = true;
                    return;
                }
                None if self.held.len() < 8 => 8,
                None => 16,
                Some((name, length, size)) if matters(&name) => {
                    if size > HEADER_MAX as u64 {
                        self.lost = true;
                        return;
                    }
                    usize::try_from(size).unwrap_or(length)
                }
                Some((_, length, size)) => {
                    self.skip = size.saturating_sub(self.held.len().max(length) as u64);
                    self.held.clear();
                    continue;
                }
            };
            let take = wanted.saturating_sub(self.held.len()).min(bytes.len());
            let (head, rest) = bytes.split_at(take);
            self.held.extend_from_slice(head);
            bytes = rest;
            if let Some((name, length, size)) = front(&self.held)
                && matters(&name)
                && self.held.len() as u64 >= size
            {
                let is_init = &name == b"moov";
                let whole = std::mem::take(&mut self.held);
                let payload = whole.get(length..).unwrap_or(&[]);
                match is_init {
                    true => self.track = moov(payload),
                    false => self.moof(payload),
                }
            }
        }
        // A box without content ends with its header.
        if let Some((name, length, size)) = front(&self.held)
            && !matters(&name)
        {
            self.skip = size.saturating_sub(self.held.len().max(length) as u64);
            self.held.clear();
        }
    }

    fn moof(&mut self, payload: &[u8]) {
        let Some(track) = self.track else {
            return;
        };
        let runs = children(payload, b"traf").filter_map(|traf| run(traf, |_| track.sample));
        for run in runs.filter(|run| run.track_id == track.id) {
            let Run { start, samples, .. } = run;
            let end = start.saturating_add(run.ticks);
            let Some(covered) = &mut self.covered else {
                self.covered = Some(Covered {
                    start,
                    end,
                    first_shown: run.first_shown,
                    samples,
                    broken: false,
                });
                continue;
            };
            let step = (start as f64 - covered.end as f64) / f64::from(track.timescale.max(1));
            covered.broken |= !(-BACK_SECS..=FORWARD_SECS).contains(&step);
            covered.end = covered.end.max(end);
            covered.samples = covered.samples.saturating_add(samples);
        }
    }

    fn span(&self) -> Option<Span> {
        let (covered, track) = (self.covered?, self.track?);
        let secs = |ticks: u64| ticks as f64 / f64::from(track.timescale.max(1));
        let lasts = secs(covered.end.saturating_sub(covered.start));
        let step = lasts / covered.samples.max(1) as f64;
        let shown = covered.first_shown.saturating_add_unsigned(covered.start);
        Some(Span {
            start_secs: track.edit.presents_secs(shown, track.timescale),
            duration: Duration::try_from_secs_f64(lasts).ok()?,
            step: Duration::try_from_secs_f64(step).ok()?,
            broken: covered.broken,
        })
    }
}

fn matters(name: &[u8; 4]) -> bool {
    matches!(name, b"moov" | b"moof")
}

/// Name, length of the header and of the whole box; one to the end of the segment is without end.
fn front(bytes: &[u8]) -> Option<([u8; 4], usize, u64)> {
    let header = boxes::header(bytes)?;
    Some((header.name, header.length, header.size.unwrap_or(u64::MAX)))
}

/// The track that counts (ISO/IEC 14496-12, 8.3 to 8.8).
fn moov(payload: &[u8]) -> Option<Track> {
    let movie_hz = inside(payload, &[b"mvhd"])
        .and_then(|head| u32_at(head, if head.first() == Some(&1) { 20 } else { 12 }));
    let tracks = children(payload, b"trak").filter_map(|own| trak(own, movie_hz.unwrap_or(1)));
    let mut tracks: Vec<Track> = tracks.collect();
    tracks.sort_by_key(|track| !track.pictures);
    let mut track = tracks.into_iter().next()?;
    track.sample = sample_ticks(payload, track.id);
    Some(track)
}

fn trak(trak: &[u8], movie_hz: u32) -> Option<Track> {
    let id = track_id(trak)?;
    let media = inside(trak, &[b"mdia", b"mdhd"])?;
    let timescale = u32_at(media, if media.first() == Some(&1) { 20 } else { 12 })?;
    let handler = inside(trak, &[b"mdia", b"hdlr"])?.get(8..12)?;
    (handler == b"vide" || handler == b"soun").then_some(Track {
        id,
        pictures: handler == b"vide",
        timescale,
        sample: 0,
        edit: edit(trak, movie_hz),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::super::testkit::{Muxer, pes};
    use super::*;

    /// Pictures at 25 Hz from a stamp on, in coding order with one picture reordered, sound beside them.
    fn segment(from: u64, pictures: u64) -> Vec<u8> {
        let mut muxer = Muxer::default();
        muxer.tables();
        for n in 0..pictures {
            let shown = [n, n + 1, n - n.min(1)][n as usize % 3].min(pictures - 1);
            let pts = (from + shown * 3_600) & ((1 << 33) - 1);
            let packet = super::super::testkit::pes(0xE0, Some(pts), None, false, &[7; 700]);
            muxer.payload(0x100, &packet);
            if n % 5 == 0 {
                let sound = pes(0xC0, Some(pts + 900_000), None, true, &[9; 200]);
                muxer.payload(0x101, &sound);
            }
        }
        muxer.bytes
    }

    fn measure(bytes: &[u8], size: usize) -> Option<Span> {
        let mut meter = Meter::default();
        meter.begin();
        bytes.chunks(size).for_each(|piece| meter.ts(piece));
        meter.end()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn a_transport_stream_is_measured_by_its_pictures_however_it_is_cut() {
        for from in [90_000, (1 << 33) - 50_000] {
            let bytes = segment(from, 100);
            for size in [1, 100, 188, 5_000, 1 << 20] {
                let span = measure(&bytes, size).unwrap();
                assert!(near(span.start_secs, from as f64 / HZ), "{span:?}");
                assert!(
                    (span.duration.as_secs_f64() - 4.0).abs() < 0.001,
                    "{span:?}"
                );
                assert!(!span.broken);
            }
        }
    }

    #[test]
    fn noise_before_the_first_packet_is_passed_over() {
        let bytes = [&[1_u8; 77][..], &segment(0, 50)].concat();
        let span = measure(&bytes, 4_096).unwrap();
        assert!((span.duration.as_secs_f64() - 2.0).abs() < 0.001);
        assert_eq!(measure(&[0x47; 5_000], 188), None);
        assert_eq!(measure(&[], 1), None);
    }

    #[test]
    fn another_timeline_within_a_segment_is_told() {
        for to in [90_000 * 60, 90_000_u64] {
            let bytes = [segment(90_000 * 5, 50), segment(to, 50)].concat();
            assert!(measure(&bytes, 188).unwrap().broken);
        }
    }

    fn boxed(name: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        let size = 8 + payload.len() as u32;
        [&size.to_be_bytes()[..], name, payload].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn init() -> Vec<u8> {
        init_with(&[])
    }

    /// With an edit list of the pictures; a second of the movie has 1000 ticks.
    fn init_with(edits: &[u8]) -> Vec<u8> {
        let track = |id: u32, handler: &[u8; 4], timescale: u32, edits: &[u8]| {
            let media = [
                boxed(b"mdhd", &words(&[0, 0, 0, timescale, 0, 0])),
                boxed(b"hdlr", &[&[0; 8][..], handler, &[0; 12]].concat()),
            ];
            let inner = [
                boxed(b"tkhd", &words(&[0, 0, 0, id, 0])),
                edits.to_vec(),
                boxed(b"mdia", &media.concat()),
            ];
            boxed(b"trak", &inner.concat())
        };
        let extends = boxed(
            b"mvex",
            &[
                boxed(b"trex", &words(&[0, 1, 1, 1_024, 0, 0])),
                boxed(b"trex", &words(&[0, 2, 1, 512, 0, 0])),
            ]
            .concat(),
        );
        let inner = [
            boxed(b"mvhd", &words(&[0, 0, 0, 1_000, 0])),
            track(1, b"soun", 48_000, &[]),
            track(2, b"vide", 12_800, edits),
            extends,
        ];
        [boxed(b"ftyp", b"iso6"), boxed(b"moov", &inner.concat())].concat()
    }

    fn moof(start: u64, run: &[u8]) -> Vec<u8> {
        let time = [&words(&[1 << 24])[..], &start.to_be_bytes()].concat();
        let video = [
            boxed(b"tfhd", &words(&[0x20000, 2])),
            boxed(b"tfdt", &time),
            boxed(b"trun", run),
        ];
        let sound = [
            boxed(b"tfhd", &words(&[0x20008, 1, 1_024])),
            boxed(b"tfdt", &words(&[0, 77])),
            boxed(b"trun", &words(&[0, 500])),
        ];
        let inner = [
            boxed(b"traf", &sound.concat()),
            boxed(b"traf", &video.concat()),
        ];
        [
            boxed(b"moof", &inner.concat()),
            boxed(b"mdat", &[0x55; 3_000]),
        ]
        .concat()
    }

    #[test]
    fn fragments_are_measured_by_their_pictures_however_they_are_cut() {
        // 25 pictures of the default length, then 25 with lengths of their own.
        let plain = words(&[1, 25, 0]);
        let own: Vec<u32> = [0x301, 25, 0]
            .into_iter()
            .chain((0..25).flat_map(|_| [512, 100]))
            .collect();
        let first = 12_800 * 500;
        let bytes = [moof(first, &plain), moof(first + 12_800, &words(&own))].concat();
        for size in [1, 7, 1_000, 1 << 20] {
            let mut meter = Meter::default();
            init().chunks(size).for_each(|piece| meter.mp4(piece));
            for _ in 0..2 {
                meter.begin();
                bytes.chunks(size).for_each(|piece| meter.mp4(piece));
                let span = meter.end().unwrap();
                assert!(near(span.start_secs, 500.0), "{span:?}");
                assert_eq!(span.duration, Duration::from_secs(2));
                assert_eq!(span.step, Duration::from_millis(40));
                assert!(!span.broken);
            }
        }
        let mut meter = Meter::default();
        meter.mp4(&init());
        meter.begin();
        meter.mp4(&[moof(first, &plain), moof(0, &plain)].concat());
        assert!(meter.end().unwrap().broken);
    }

    #[test]
    fn a_segment_begins_where_its_first_picture_is_shown() {
        // Stored I P B: the picture that is shown first has an offset of two pictures, and the edit list takes it back.
        let shown = [1_024, 1_536, 0];
        let run = words(&[0x800, 3, shown[0], shown[1], shown[2]]);
        let fragment = moof(128_000, &run);
        let measured = |init: &[u8]| {
            let mut meter = Meter::default();
            meter.mp4(init);
            meter.begin();
            meter.mp4(&fragment);
            meter.end().unwrap().start_secs
        };
        assert!(near(measured(&init()), 10.08), "{}", measured(&init()));
        for (edits, secs) in [
            (vec![0, 1, 0, 1_024, 1 << 16], 10.0),
            // Nothing is shown for half a second.
            (vec![0, 2, 500, u32::MAX, 1 << 16, 0, 1_024, 1 << 16], 10.5),
            // What is before the edit is not presented.
            (vec![0, 1, 0, 129_100, 1 << 16], 0.0),
            (vec![0, 1], 10.08),
        ] {
            let list = boxed(b"edts", &boxed(b"elst", &words(&edits)));
            let whole = init_with(&list);
            assert!(
                near(measured(&whole), secs),
                "{edits:?}: {}",
                measured(&whole)
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
            at in 0..2_000_usize,
        ) {
            let mut damaged = [init(), moof(3, &words(&[0x101, 9, 9, 9]))].concat();
            let at = at.min(damaged.len());
            let end = (at + bytes.len()).min(damaged.len());
            damaged[at..end].copy_from_slice(&bytes[..end - at]);
            let mut meter = Meter::default();
            meter.mp4(&damaged);
            meter.mp4(&bytes);
            meter.ts(&bytes);
            let _ = meter.end();
        }
    }
}
