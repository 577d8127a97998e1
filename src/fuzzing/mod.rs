//! Entry points of the fuzzers, one a parser of foreign bytes: `tests/fuzz` runs them guided by coverage, and a test
//! here runs them over damaged seeds.
//!
//! A target asserts what must hold for any input; a panic, a hang or memory without bound is a finding.

mod seeds;

use std::time::Duration;

use bytes::Bytes;
use url::Url;

use crate::config::{ContentKeys, Rendition, Secret};
use crate::ingest::cenc::Cenc;
use crate::ingest::keys::{ContentKey, NamedKey, SampleKeys};
use crate::ingest::sample_aes;
use crate::ingest::source::segment_pieces;
use crate::transport::continuity::Continuity;
use crate::transport::flv::FlvDemux;
use crate::transport::playlist::breaks::Breaks;
use crate::transport::playlist::follow::{Cursor, Passed, Step, Window};
use crate::transport::playlist::mpd::{self, Follower, Mpd, Role};
use crate::transport::playlist::{ByteRange, Playlist, audit, parse};
use crate::transport::span::Meter;
use crate::transport::testkit::{self, Muxer};
use crate::transport::ts::{Demux, TsEvent};
use crate::transport::webm::{WebmDemux, vorbis_headers};
use crate::transport::{Codec, mp4, scte35};

/// A parser under test.
pub struct Target {
    /// Name of the fuzzer.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]),
    /// Inputs from which to start.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every parser of foreign bytes. A fuzzer of the same name stands in `tests/fuzz/fuzz_targets`.
#[rustfmt::skip]
pub static TARGETS: &[Target] = &[
    Target { name: "ts", run: ts, seeds: seeds::ts },
    Target { name: "pes", run: pes, seeds: seeds::pes },
    Target { name: "nal", run: nal, seeds: seeds::nal },
    Target { name: "m3u8", run: m3u8, seeds: seeds::m3u8 },
    Target { name: "mpd", run: mpd, seeds: seeds::mpd },
    Target { name: "mp4", run: mp4, seeds: seeds::mp4 },
    Target { name: "webm", run: webm, seeds: seeds::webm },
    Target { name: "sample_aes", run: sample_aes, seeds: seeds::sample_aes },
    Target { name: "scte35", run: scte35, seeds: seeds::scte35 },
    Target { name: "flv", run: flv, seeds: seeds::flv },
];

/// Runs the target of that name.
///
/// # Panics
/// On a finding, and when there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    assert!(target.is_some(), "no target {name}");
    if let Some(target) = target {
        (target.run)(data);
    }
}

/// Writes the seeds of a target into the folder that `GLASSWATCH_SEEDS` names, where the fuzzer looks for inputs.
///
/// # Panics
/// When that cannot be.
pub fn write_seeds(name: &str) {
    let Some(folder) = std::env::var_os("GLASSWATCH_SEEDS").map(std::path::PathBuf::from) else {
        return;
    };
    for target in TARGETS.iter().filter(|target| target.name == name) {
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let written = std::fs::write(folder.join(format!("seed-{number}")), seed);
            assert!(written.is_ok(), "{written:?}");
        }
    }
}

/// The first byte, and the rest.
fn knob(data: &[u8]) -> (usize, &[u8]) {
    data.split_first()
        .map_or((0, data), |(first, rest)| (usize::from(*first), rest))
}

/// Parts between separators that no text holds.
fn texts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == 0).take(6)
}

/// Transport packets. How they are cut must change nothing.
fn ts(data: &[u8]) {
    let (size, data) = knob(data);
    let mut muxer = Muxer::default();
    muxer.tables();
    let mut bytes = muxer.bytes;
    bytes.extend_from_slice(data);
    let whole = testkit::demux(&bytes);
    let held: usize = whole.iter().map(size_of_event).sum();
    assert!(held <= bytes.len(), "more payload than packets");
    assert_eq!(testkit::demux_cut(&bytes, size + 1), whole);
}

fn size_of_event(event: &TsEvent) -> usize {
    match event {
        TsEvent::Pes { data, pts, dts, .. } => {
            for stamp in [pts, dts].into_iter().flatten() {
                assert!(*stamp < 1 << 33);
            }
            data.len()
        }
        TsEvent::Pcr { ticks, .. } => {
            assert!(*ticks < (1 << 33) * 300 + 512);
            0
        }
        _ => 0,
    }
}

/// PES packets inside sound transport packets.
fn pes(data: &[u8]) {
    let mut muxer = Muxer::default();
    muxer.tables();
    for (at, part) in data.split(|byte| *byte == 0x47).take(64).enumerate() {
        let (how, part) = knob(part);
        muxer.payload(0x100 + (how & 1) as u16, part);
        if at % 16 == 15 {
            muxer.tables();
        }
    }
    let mut demux = Demux::new(None);
    let mut held = 0;
    for packet in muxer.bytes.chunks(188) {
        demux.push(packet, &mut |event| held += size_of_event(&event));
        if packet.last() == Some(&0xB0) {
            demux.boundary(&mut |event| held += size_of_event(&event));
        }
    }
    demux.finish(&mut |event| held += size_of_event(&event));
    assert!(held <= muxer.bytes.len());
}

/// Headers of coded pictures.
fn nal(data: &[u8]) {
    let (which, data) = knob(data);
    let codec = [Codec::H264, Codec::Hevc, Codec::Mpeg2][which % 3];
    let Some(mut continuity) = Continuity::new(codec) else {
        return;
    };
    for unit in data.chunks(which / 3 * 16 + 64) {
        continuity.access_unit(unit, &mut |_| {});
    }
    continuity.reset();
    continuity.access_unit(data, &mut |_| {});
}

/// Successive loads of a playlist, delta updates among them, read as a live reader does.
fn m3u8(data: &[u8]) {
    let mut window = Window::default();
    let mut cursor = Cursor::default();
    let mut breaks = Breaks::default();
    for (load, text) in texts(data).enumerate() {
        let media = match parse(text) {
            Ok(Playlist::Media(media)) => media,
            Ok(Playlist::Master(master)) => {
                for rule in [
                    Rendition::Highest,
                    Rendition::Lowest,
                    Rendition::Height(720),
                ] {
                    let _ = master.pick(&rule);
                }
                assert!(master.members(&Rendition::All).len() <= Rendition::MEMBERS_MAX);
                continue;
            }
            Err(_) => continue,
        };
        let Some(media) = window.completed(media) else {
            continue;
        };
        let now = Duration::from_secs(load as u64 * 4);
        let before = window.current();
        let news = window.load(media, now);
        let _ = (window.reload_at(), window.stalled(now), window.ask(now));
        let Some((epoch, media)) = window.current() else {
            continue;
        };
        let _ = audit::faults(before.as_ref().map(|(_, media)| &**media), &media, news);
        let parts: usize = media.segments.iter().map(|s| s.parts.len() + 2).sum();
        let open = media.low_latency.open.as_ref();
        let mut left = parts + open.map_or(0, |open| open.parts.len()) + 4;
        let mut last = None;
        loop {
            match cursor.step(epoch, &media) {
                Step::Read { sequence, .. } => {
                    assert!(last.is_none_or(|last| sequence >= last), "read again");
                    last = Some(sequence);
                    let _ = breaks.passing(epoch, &media, sequence);
                    cursor.done(&media, sequence, Passed::Read);
                    if sequence == u64::MAX {
                        break;
                    }
                }
                Step::Part {
                    sequence, index, ..
                } => {
                    cursor.part_done(&media, sequence, index, Passed::Read);
                }
                Step::Close { sequence } => cursor.done(&media, sequence, Passed::Read),
                Step::Wait | Step::Ended => break,
            }
            assert!(left > 0, "no end");
            left -= 1;
        }
        let _ = cursor.hint(epoch, &media);
    }
}

/// Successive loads of a manifest, laid out as time passes.
fn mpd(data: &[u8]) {
    const NOW: i64 = 1_700_000_000_000_000_000;
    let Ok(url) = Url::parse("https://origin.example/live/manifest.mpd") else {
        return;
    };
    let mut followers =
        [Role::Main, Role::Audio].map(|role| Follower::new(role, Rendition::Highest));
    let mut last: Option<Mpd> = None;
    for (load, text) in texts(data).enumerate() {
        // What is no manifest may be a patch of the last one.
        let next = match mpd::parse(text, &url) {
            Ok(whole) => Some(whole),
            Err(_) => last.as_ref().and_then(|last| last.patched(text).ok()),
        };
        let Some(manifest) = &next else {
            continue;
        };
        for follower in &mut followers {
            while let Some((url, place)) = follower.wants(manifest) {
                follower.indexed(url, place, text);
            }
            for secs in [0, 1, 60, 86_400] {
                let clock = NOW + (load as i64 * 4 + secs) * 1_000_000_000;
                let _ = follower.update(manifest, clock, Duration::from_secs(secs.unsigned_abs()));
                let _ = (follower.next_in(), follower.rhythm());
            }
        }
        last = next;
    }
}

/// Boxes of fragmented MP4: cut into fragments, decrypted, indexed.
fn mp4(data: &[u8]) {
    let (size, data) = knob(data);
    let secret = format!("{}:{}", "1d".repeat(16), "07".repeat(16));
    let keys = ContentKeys::parse(&Secret::new(secret)).unwrap_or_default();
    let at = data.len() * (size % 8) / 8;
    let (head, tail) = data.split_at(at);
    let (mut init, mut fragment) = (head.to_vec(), tail.to_vec());
    let _ = Cenc::open(&mut init).decrypt(&mut fragment, &SampleKeys::from(&keys));
    assert_eq!((init.len(), fragment.len()), (head.len(), tail.len()));
    let fed = segment_pieces(data, size * 8 + 1, Some(&Bytes::copy_from_slice(head)));
    // What lies before a transport stream is fed as well.
    assert!(fed <= data.len() + head.len(), "more fed than came");
    let place = ByteRange {
        start: 0,
        len: data.len() as u64,
    };
    let _ = mpd::Index::read(data, place);
    let mut meter = Meter::default();
    meter.begin();
    (data.chunks(size + 1)).for_each(|part| meter.mp4(part));
    let _ = meter.end();
    if let Ok(Some(index)) = mp4::Index::read(data) {
        for piece in index.pieces().take(64) {
            let read = |_, len: usize| (len <= 1 << 20).then(|| vec![0; len]).ok_or(());
            let _ = index.fragment(piece, read);
        }
    }
    let _ = crate::ingest::convert::fragment_tracks(data);
}

/// WebM. How it is cut must change nothing.
fn webm(data: &[u8]) {
    let (size, data) = knob(data);
    let read = |size: usize| {
        let mut events = Vec::new();
        let mut demux = WebmDemux::default();
        let good =
            (data.chunks(size)).all(|part| demux.push(part, &mut |e| events.push(e)).is_ok());
        (events, good)
    };
    assert_eq!(read(size + 1), read(data.len().max(1)));
    let _ = vorbis_headers(&Bytes::copy_from_slice(data));
}

/// Samples encrypted after SAMPLE-AES. Nothing is added, and how sound is cut must change nothing.
fn sample_aes(data: &[u8]) {
    let (how, data) = knob(data);
    let key = NamedKey {
        key: ContentKey::new([7; 16]),
        iv: [9; 16],
    };
    let (clear, decrypted) = sample_aes::pictures(data, &key);
    assert!(clear.len() <= data.len() && decrypted <= data.len());
    let codec = [Codec::AacAdts, Codec::Ac3, Codec::Eac3][how % 3];
    let read = |size: usize| {
        let mut sound = sample_aes::Sound::new(codec);
        let opened = data.chunks(size).map(|part| sound.push(part, &key));
        opened.map(|opened| opened.decrypted).sum::<usize>()
    };
    assert_eq!(read(how / 3 + 1), read(data.len().max(1)));
}

/// Splice sections. With its right CRC, so that what lies behind is reached.
fn scte35(data: &[u8]) {
    let _ = scte35::parse(data);
    let body = data.get(..data.len().min(4000)).unwrap_or_default();
    let mut section = vec![0xFC];
    section.extend((0x3000 | (body.len() + 4) as u16).to_be_bytes());
    section.extend_from_slice(body);
    section.extend(crate::transport::ts::crc32(&section).to_be_bytes());
    for mark in scte35::parse(&section).unwrap_or_default() {
        assert!(mark.pts_90khz.is_none_or(|pts| pts < 1 << 33));
    }
}

/// FLV tags. How they are cut must change nothing.
fn flv(data: &[u8]) {
    let (size, data) = knob(data);
    let read = |size: usize| {
        let mut events = Vec::new();
        let mut demux = FlvDemux::default();
        let good =
            (data.chunks(size)).all(|part| demux.push(part, &mut |e| events.push(e)).is_ok());
        (events, good)
    };
    assert_eq!(read(size + 1), read(data.len().max(1)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    /// Small pseudo-random numbers (xorshift), the same in every run.
    struct Noise(u64);

    impl Noise {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % limit.max(1)
        }
    }

    fn damage(seed: &[u8], other: &[u8], noise: &mut Noise) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=noise.below(4) {
            let at = noise.below(bytes.len());
            match noise.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + noise.below(32)).min(bytes.len()))),
                2 => bytes
                    .splice(at..at, other.iter().copied().skip(at).take(40))
                    .for_each(drop),
                3 => bytes.extend_from_slice(&seed[at.min(seed.len())..]),
                _ => bytes
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|b| *b ^= 1 << noise.below(8)),
            }
        }
        bytes
    }

    #[test]
    fn no_parser_breaks_on_damaged_seeds() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
            (target.run)(&[]);
            for seed in &seeds {
                (target.run)(seed);
                for _ in 0..300 {
                    let other = &seeds[noise.below(seeds.len())];
                    (target.run)(&damage(seed, other, &mut noise));
                }
            }
        }
    }

    /// A seed that is refused at once guides no fuzzer anywhere.
    #[test]
    fn seeds_reach_behind_the_first_check() {
        let [ts, _, _, m3u8, mpd, mp4, .., flv] = TARGETS else {
            panic!("another table");
        };
        let found = testkit::demux(&(ts.seeds)()[0][1..]);
        assert!(found.iter().any(|e| matches!(e, TsEvent::Pes { .. })));
        let url = Url::parse("https://origin.example/m.mpd").unwrap();
        for text in (mpd.seeds)() {
            assert!(mpd::parse(texts(&text).next().unwrap(), &url).is_ok());
        }
        for text in (m3u8.seeds)() {
            assert!(parse(texts(&text).next().unwrap()).is_ok());
        }
        assert_eq!((mp4.seeds)().len(), 4);
        let first = &(mp4.seeds)()[0][1..];
        assert_eq!(crate::ingest::convert::fragment_tracks(first), (1, 1));
        let patched = &(mpd.seeds)()[3];
        let both: Vec<_> = texts(patched).collect();
        let whole = mpd::parse(both[0], &url).unwrap();
        whole.patched(both[1]).unwrap();
        let mut tags = 0;
        let seed = &(flv.seeds)()[0][1..];
        assert!(FlvDemux::default().push(seed, &mut |_| tags += 1).is_ok());
        assert!(tags >= 3, "{tags}");
    }
}
