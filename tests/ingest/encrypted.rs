//! Encrypted media from its bytes to pictures and sound: with the right key, another one, none, and keys that change.

use std::path::Path;
use std::process::Command;

use aes::Aes128;
use bytes::Bytes;
use cbc::cipher::{Block, BlockModeEncrypt, KeyIvInit};
use detectors::base::{Cause, Fact, Kind, Track, TrackInfo};
use glasswatch::config::{ContentKeys, Protocol, Secret};
use glasswatch::ingest::convert::{Container, Converter, Feed};
use glasswatch::ingest::keys::{ContentKey, NamedKey, SampleKeys};
use glasswatch::transport::mp4::Index;
use glasswatch::transport::ts::{Demux, TsEvent};

use crate::rig::*;

const IV: [u8; 16] = [9; 16];
/// Key and key id of what FFmpeg encrypts.
const HEX: &str = "0123456789abcdef0123456789abcdef";

fn named(key: u8) -> SampleKeys {
    let key = ContentKey::new([key; 16]);
    SampleKeys::default().naming(Some(NamedKey { key, iv: IV }))
}

/// Encrypts the first of `of` blocks while more than `but` bytes are left.
fn encrypt(bytes: &mut [u8], key: u8, of: usize, but: usize) {
    let mut cipher = cbc::Encryptor::<Aes128>::new((&[key; 16]).into(), (&IV).into());
    let mut at = 0;
    while bytes.len().saturating_sub(at) > but {
        let block = &mut bytes[at..at + 16];
        cipher.encrypt_block(<&mut Block<cbc::Encryptor<Aes128>>>::try_from(block).unwrap());
        at += 16 * of;
    }
}

/// SAMPLE-AES of H.264 in byte-stream form.
fn seal_pictures(data: &[u8], key: u8) -> Vec<u8> {
    let mut starts: Vec<usize> = (0..data.len().saturating_sub(2))
        .filter(|at| data[*at..at + 3] == [0, 0, 1])
        .collect();
    starts.push(data.len());
    let mut out = data[..starts[0]].to_vec();
    for pair in starts.windows(2) {
        let unit = &data[pair[0] + 3..pair[1]];
        let zeros = unit.iter().rev().take_while(|b| **b == 0).count();
        let (unit, tail) = unit.split_at(unit.len() - zeros);
        out.extend([0, 0, 1]);
        if matches!(unit[0] & 31, 1 | 5) && unit.len() > 48 {
            let mut sealed = unit.to_vec();
            encrypt(&mut sealed[32..], key, 10, 16);
            let mut zeros = 0;
            for byte in sealed {
                if zeros >= 2 && byte <= 3 {
                    out.push(3);
                    zeros = 0;
                }
                zeros = if byte == 0 { zeros + 1 } else { 0 };
                out.push(byte);
            }
        } else {
            out.extend(unit);
        }
        out.extend(tail);
    }
    out
}

/// SAMPLE-AES of ADTS, or of AC-3 frames of 512 bytes.
fn seal_sound(data: &[u8], key: u8) -> Vec<u8> {
    let mut out = data.to_vec();
    let mut at = 0;
    while at + 7 < out.len() {
        let (size, clear) = match out[at] {
            0x0b => (512, 16),
            _ => {
                let head = &out[at..at + 6];
                let size = usize::from(head[3] & 3) << 11
                    | usize::from(head[4]) << 3
                    | usize::from(head[5] >> 5);
                (size, 7 + 16)
            }
        };
        let end = at + size;
        let from = end.min(at + clear);
        encrypt(&mut out[from..end], key, 1, 15);
        at = end;
    }
    out
}

#[derive(Clone)]
struct Pes {
    pid: u16,
    pts: Option<u64>,
    dts: Option<u64>,
    data: Vec<u8>,
}

const PICTURES: u16 = 0x41;
const SOUND: u16 = 0x42;

/// 100 pictures (4 s) with sound, in transport stream packets taken apart, in four pieces of a second that begin with
/// a key frame.
fn programme(dir: &Path, sound: &str) -> Vec<Vec<Pes>> {
    let path = dir.join("clear.ts");
    make(&format!(
        "mpegtsmux name=m ! filesink location={} {} ! {X264} ! h264parse ! queue ! m.sink_65 \
         {} ! {sound} ! queue ! m.sink_66",
        path.display(),
        video(100, (320, 180), 25),
        tone(188)
    ));
    let mut pieces: Vec<Vec<Pes>> = Vec::new();
    let mut pictures = 0;
    let mut demux = Demux::new(None);
    let mut take = |event| {
        if let TsEvent::Pes {
            pid,
            pts,
            dts,
            data,
            ..
        } = event
        {
            if pid == PICTURES {
                if pictures % 25 == 0 {
                    pieces.push(Vec::new());
                }
                pictures += 1;
            }
            if pieces.is_empty() {
                pieces.push(Vec::new());
                pictures = 0;
            }
            let unit = Pes {
                pid,
                pts,
                dts,
                data,
            };
            pieces.last_mut().unwrap().push(unit);
        }
    };
    demux.push(&std::fs::read(path).unwrap(), &mut take);
    demux.finish(&mut take);
    // Sound that comes before the first picture belongs to its piece.
    if pieces.len() == 5 {
        let first = pieces.remove(0);
        pieces[0].splice(0..0, first);
    }
    assert_eq!((pieces.len(), pictures), (4, 100));
    pieces
}

fn sealed(piece: &[Pes], key: u8) -> Vec<Pes> {
    let seal = |unit: &Pes| Pes {
        data: match unit.pid {
            PICTURES => seal_pictures(&unit.data, key),
            _ => seal_sound(&unit.data, key),
        },
        ..unit.clone()
    };
    piece.iter().map(seal).collect()
}

fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            (crc << 1) ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}

fn section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0, table, 0xb0, (body.len() + 9) as u8];
    out.extend(id.to_be_bytes());
    out.extend([0xc1 | version << 1, 0, 0]);
    out.extend(body);
    let crc = crc(&out[1..]);
    out.extend(crc.to_be_bytes());
    out
}

fn stamp(mark: u8, time: u64) -> [u8; 5] {
    let high = (time >> 30 & 7) as u8;
    let middle = (time >> 15 & 0x7fff) as u16;
    let low = (time & 0x7fff) as u16;
    let [m1, m2] = (middle << 1 | 1).to_be_bytes();
    let [l1, l2] = (low << 1 | 1).to_be_bytes();
    [mark << 4 | high << 1 | 1, m1, m2, l1, l2]
}

/// Packets of one segment, with tables that call the streams by these types and descriptors.
fn segment(units: &[Pes], version: u8, types: [(u8, &[u8]); 2]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut counters = std::collections::BTreeMap::new();
    let mut send = |pid: u16, mut payload: &[u8]| {
        let mut start = 0x40;
        while !payload.is_empty() {
            let counter = counters.entry(pid).or_insert(0_u8);
            let size = payload.len().min(184);
            let [high, low] = pid.to_be_bytes();
            let stuffing = 184 - size;
            let control = if stuffing > 0 { 0x30 } else { 0x10 };
            out.extend([0x47, start | high, low, control | *counter & 15]);
            *counter = counter.wrapping_add(1);
            if stuffing > 0 {
                out.push((stuffing - 1) as u8);
                if stuffing > 1 {
                    out.push(0);
                    out.resize(out.len() + stuffing - 2, 0xff);
                }
            }
            out.extend(&payload[..size]);
            payload = &payload[size..];
            start = 0;
        }
    };
    send(0, &section(0, 1, 0, &[0, 1, 0xe1, 0]));
    let mut streams = vec![0xe0, PICTURES as u8, 0xf0, 0];
    for ((kind, descriptors), pid) in types.into_iter().zip([PICTURES, SOUND]) {
        streams.extend([kind, 0xe0, pid as u8, 0xf0, descriptors.len() as u8]);
        streams.extend(descriptors);
    }
    send(0x100, &section(2, 1, version, &streams));
    for unit in units {
        let id = if unit.pid == PICTURES { 0xe0 } else { 0xc0 };
        let stamps: Vec<u8> = match (unit.pts, unit.dts) {
            (Some(pts), Some(dts)) => [stamp(3, pts), stamp(1, dts)].concat(),
            (Some(pts), None) => stamp(2, pts).to_vec(),
            _ => Vec::new(),
        };
        let flags = match stamps.len() {
            10 => 0xc0,
            5 => 0x80,
            _ => 0,
        };
        let mut packet = vec![0, 0, 1, id, 0, 0, 0x80, flags, stamps.len() as u8];
        packet.extend(stamps);
        packet.extend(&unit.data);
        if unit.pid != PICTURES {
            let length = (packet.len() - 6) as u16;
            packet[4..6].copy_from_slice(&length.to_be_bytes());
        }
        send(unit.pid, &packet);
    }
    out
}

const CLEAR: [(u8, &[u8]); 2] = [(0x1b, &[]), (0x0f, &[])];
/// With the descriptors that the format asks for.
const SEALED: [(u8, &[u8]); 2] = [
    (0xdb, &[0x0f, 4, b'z', b'a', b'v', b'c']),
    (
        0xcf,
        &[
            0x0f, 4, b'a', b'a', b'c', b'd', 0x05, 8, b'a', b'p', b'a', b'd', b'z', b'a', b'a',
            b'c',
        ],
    ),
];

/// Feeds pieces, each with the keys before it.
fn convert(
    container: Container,
    pieces: Vec<(Option<SampleKeys>, Option<Bytes>, Bytes)>,
) -> Vec<Seen> {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (context, sink, _) = context(input("https://example.invalid/x.m3u8", Protocol::Hls));
    let mut converter = Converter::new(&context);
    let to = converter.add_input(None, None);
    for (keys, init, bytes) in pieces {
        if let Some(keys) = keys {
            converter.feed(to, Feed::Keys(keys)).unwrap();
        }
        let begin = Feed::Begin {
            container,
            init,
            discontinuity: false,
        };
        converter.feed(to, begin).unwrap();
        converter.feed(to, Feed::Data(bytes)).unwrap();
        converter.feed(to, Feed::End { truncated: false }).unwrap();
    }
    // Without a key nothing comes out, which is an error; the tracks say why.
    let finished = runtime.block_on(converter.finish(DEADLINE));
    if let Err(error) = finished {
        assert_eq!(error.cause, Cause::EncryptedNoKey);
    }
    sink.all()
}

fn ts(pieces: Vec<(Option<SampleKeys>, Vec<u8>)>) -> Vec<Seen> {
    let pieces = pieces
        .into_iter()
        .map(|(keys, bytes)| (keys, None, bytes.into()));
    convert(Container::MpegTs, pieces.collect())
}

fn locked(info: &TrackInfo) -> bool {
    info.problem == Some(Cause::EncryptedNoKey)
}

/// What was ever told of a track's problem, each change once.
fn problems(seen: &[Seen], track: Track) -> Vec<Option<Cause>> {
    let mut all: Vec<Option<Cause>> = facts(seen)
        .filter_map(|(_, fact)| match fact {
            Fact::Tracks(infos) => infos.iter().find(|info| info.track == track),
            _ => None,
        })
        .map(|info| info.problem)
        .collect();
    all.dedup();
    all
}

#[test]
fn sample_aes_in_transport_streams_is_decrypted_with_the_key_and_named_without() {
    let dir = tempfile::tempdir().unwrap();
    let programme = programme(dir.path(), "avenc_aac ! aacparse");
    let clear: Vec<_> = (programme.iter())
        .map(|piece| (None, segment(piece, 0, CLEAR)))
        .collect();
    let clear = ts(clear);
    assert_eq!(pictures(&clear, 0).len(), 100, "{}", digest(&clear));
    let sealed_with = |keys: &[(u8, Option<SampleKeys>)]| {
        let pieces = programme.iter().zip(keys);
        ts(pieces
            .map(|(piece, (key, given))| (given.clone(), segment(&sealed(piece, *key), 0, SEALED)))
            .collect())
    };
    // One key, then keys that change from segment to segment.
    for keys in [[1, 1, 1, 1], [1, 2, 3, 4]] {
        let opened = sealed_with(&keys.map(|key| (key, Some(named(key)))));
        assert_eq!(pictures(&opened, 0), pictures(&clear, 0), "{keys:?}");
        assert_eq!(frames(&opened, 0), frames(&clear, 0), "{keys:?}");
        assert_eq!(evidence(&opened), []);
        assert_monotone(&opened);
        let found = tracks(&opened);
        assert!(found.iter().all(|t| t.problem.is_none()), "{found:?}");
        let codecs: Vec<_> = found.iter().map(|t| t.codec.as_str()).collect();
        assert_eq!(codecs, ["h264", "aac"]);
    }
    // None, and another one.
    for given in [None, Some(named(7))] {
        let closed = sealed_with(&[1, 1, 1, 1].map(|key| (key, given.clone())));
        assert_eq!(
            pictures(&closed, 0).len(),
            0,
            "{given:?} {}",
            digest(&closed)
        );
        assert_eq!(frames(&closed, 0), 0, "{given:?}");
        assert_eq!(evidence(&closed), [], "{given:?}");
        assert!(
            tracks(&closed).iter().all(locked),
            "{given:?} {:?}",
            tracks(&closed)
        );
    }
    // A wrong one in the middle: what is under it is missing, the rest is whole.
    let wrong = sealed_with(&[
        (1, Some(named(1))),
        (2, Some(named(9))),
        (3, Some(named(3))),
        (4, Some(named(4))),
    ]);
    assert_eq!(pictures(&wrong, 0).len(), 75, "{}", digest(&wrong));
    assert_eq!(evidence(&wrong), []);
    let key = Some(Cause::EncryptedNoKey);
    assert_eq!(problems(&wrong, Track::video(0)), [None, key, None]);
    assert_eq!(problems(&wrong, Track::audio(0)), [None, key, None]);
    assert!(
        frames(&wrong, 0) > frames(&clear, 0) / 2,
        "{}",
        frames(&wrong, 0)
    );
}

#[test]
fn a_clear_lead_plays_before_samples_are_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let programme = programme(dir.path(), "avenc_aac ! aacparse");
    let key = Some(Cause::EncryptedNoKey);
    for (given, count, told) in [
        (Some(named(1)), 100, vec![None]),
        (Some(SampleKeys::default()), 50, vec![None, key]),
        (Some(named(5)), 50, vec![None, key]),
    ] {
        let mut pieces: Vec<_> = (programme[..2].iter())
            .map(|piece| (Some(SampleKeys::default()), segment(piece, 0, CLEAR)))
            .collect();
        let rest = programme[2..].iter();
        pieces.extend(rest.map(|piece| (given.clone(), segment(&sealed(piece, 1), 1, SEALED))));
        let seen = ts(pieces);
        assert_eq!(
            pictures(&seen, 0).len(),
            count,
            "{given:?} {}",
            digest(&seen)
        );
        assert_eq!(problems(&seen, Track::video(0)), told, "{given:?}");
        assert_eq!(problems(&seen, Track::audio(0)), told, "{given:?}");
        assert_monotone(&seen);
        assert!(!seen.iter().any(|s| s.discontinuity));
    }
}

#[test]
fn sample_aes_of_packed_sound_is_decrypted_with_the_key_and_named_without() {
    let dir = tempfile::tempdir().unwrap();
    for (chain, codec) in [
        (
            "avenc_aac ! aacparse ! audio/mpeg,stream-format=adts",
            "aac",
        ),
        ("avenc_ac3 bitrate=128000 ! ac3parse", "ac3"),
    ] {
        let path = dir.path().join(codec);
        make(&format!(
            "{} ! {chain} ! filesink location={}",
            tone(188),
            path.display()
        ));
        let clear = std::fs::read(path).unwrap();
        let play = |keys: Option<SampleKeys>, bytes: &[u8]| {
            let bytes = Bytes::copy_from_slice(bytes);
            convert(Container::PackedAudio, vec![(keys, None, bytes)])
        };
        let whole = frames(&play(None, &clear), 0);
        assert!(whole > 180 * 1024, "{codec}: {whole}");
        let sealed = seal_sound(&clear, 1);
        assert_ne!(sealed, clear);
        let opened = play(Some(named(1)), &sealed);
        assert_eq!(frames(&opened, 0), whole, "{codec}");
        assert_eq!(problems(&opened, Track::audio(0)), [None], "{codec}");
        let closed = play(Some(named(2)), &sealed);
        assert_eq!(frames(&closed, 0), 0, "{codec}: {}", digest(&closed));
        assert!(tracks(&closed).iter().all(locked), "{codec}");
    }
}

/// A whole MP4 of 100 pictures and 4 s of sound; encrypted (`cenc`, subsamples) if asked for.
fn mp4(dir: &Path, encrypted: bool) -> Vec<u8> {
    let path = dir.join(format!("{encrypted}.mp4"));
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i"]);
    command.arg("testsrc2=size=320x180:rate=25:duration=4");
    command.args([
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:sample_rate=48000:duration=4",
    ]);
    command.args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "25",
        "-bf",
        "2",
    ]);
    command.args([
        "-threads", "1", "-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "mp4",
    ]);
    if encrypted {
        command.args(["-encryption_scheme", "cenc-aes-ctr"]);
        command.args(["-encryption_key", HEX, "-encryption_kid", HEX]);
    }
    let status = command.arg(&path).status().expect("ffmpeg");
    assert!(status.success());
    std::fs::read(path).unwrap()
}

/// The same laid out in fragments.
fn fragments(file: &[u8]) -> (Bytes, Vec<Bytes>) {
    let mut at = 0;
    let moov = loop {
        let size = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        if &file[at + 4..at + 8] == b"moov" {
            break &file[at..at + size];
        }
        at += size;
    };
    let index = Index::read(moov).unwrap().unwrap();
    let read = |at: u64, len: usize| Ok::<_, ()>(file[at as usize..][..len].to_vec());
    let build = |piece| Bytes::from(index.fragment(piece, read).unwrap());
    let fragments: Vec<_> = index.pieces().map(build).collect();
    (Bytes::copy_from_slice(index.init()), fragments)
}

fn listed(id: &str, key: &str) -> ContentKeys {
    ContentKeys::parse(&Secret::new(format!("{id}:{key}"))).unwrap()
}

#[test]
fn whole_files_with_encrypted_tracks_are_played_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("film.mp4");
    std::fs::write(&path, mp4(dir.path(), true)).unwrap();
    let with = |keys| {
        let mut input = input(&file_url(&path), Protocol::File);
        input.content_keys = keys;
        play_with(input)
    };
    let opened = with(listed(HEX, HEX));
    assert_eq!(cause(&opened), None, "{}", digest(&opened));
    assert_eq!(pictures(&opened, 0).len(), 100);
    assert!(frames(&opened, 0) > 188_000, "{}", frames(&opened, 0));
    assert_eq!(evidence(&opened), []);
    assert_monotone(&opened);
    let skew = pictures(&opened, 0)[0].unwrap().secs();
    assert!(skew.abs() < 0.1, "{skew}");
    let other = "ee".repeat(16);
    for keys in [
        ContentKeys::default(),
        listed(&other, HEX),
        listed(HEX, &other),
    ] {
        let closed = with(keys.clone());
        assert_eq!(
            cause(&closed),
            Some(Cause::EncryptedNoKey),
            "{}",
            digest(&closed)
        );
        assert_eq!(pictures(&closed, 0).len() + frames(&closed, 0), 0);
        assert_eq!(evidence(&closed), []);
        let found = tracks(&closed);
        assert!(found.len() == 2 && found.iter().all(locked), "{found:?}");
        let codecs: Vec<_> = found.iter().map(|t| t.codec.as_str()).collect();
        assert_eq!(codecs, ["h264", "aac"]);
    }
}

#[test]
fn fragments_are_decrypted_as_keys_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (clear_init, clear) = fragments(&mp4(dir.path(), false));
    let (init, sealed) = fragments(&mp4(dir.path(), true));
    assert!(
        sealed.len() >= 2 && sealed.len() == clear.len(),
        "{}",
        sealed.len()
    );
    let run = |parts: &[(&Bytes, &Option<SampleKeys>)], init: &Bytes| {
        let piece = |(bytes, keys): &(&Bytes, &Option<SampleKeys>)| {
            ((*keys).clone(), Some(init.clone()), (*bytes).clone())
        };
        convert(Container::FragmentedMp4, parts.iter().map(piece).collect())
    };
    let all = |of: &[Bytes], keys: &Option<SampleKeys>, init: &Bytes| {
        run(&of.iter().map(|b| (b, keys)).collect::<Vec<_>>(), init)
    };
    let plain = all(&clear, &None, &clear_init);
    assert_eq!(pictures(&plain, 0).len(), 100, "{}", digest(&plain));
    let right = Some(SampleKeys::from(&listed(HEX, HEX)));
    let by_playlist = {
        let key = ContentKey::new(u128::from_str_radix(HEX, 16).unwrap().to_be_bytes());
        Some(SampleKeys::default().naming(Some(NamedKey { key, iv: IV })))
    };
    for keys in [&right, &by_playlist] {
        let opened = all(&sealed, keys, &init);
        assert_eq!(pictures(&opened, 0), pictures(&plain, 0));
        assert_eq!(frames(&opened, 0), frames(&plain, 0));
        assert_eq!(evidence(&opened), []);
    }
    let key = Some(Cause::EncryptedNoKey);
    for keys in [None, Some(named(3))] {
        let closed = all(&sealed, &keys, &init);
        assert_eq!(
            pictures(&closed, 0).len() + frames(&closed, 0),
            0,
            "{keys:?}"
        );
        assert_eq!(
            problems(&closed, Track::video(0)).last(),
            Some(&key),
            "{keys:?}"
        );
        assert_eq!(
            problems(&closed, Track::audio(0)).last(),
            Some(&key),
            "{keys:?}"
        );
    }
    // Fragments in the clear under an encrypted sample entry play without a key, and the rest is named.
    let none = None;
    let lead = run(&[(&clear[0], &none), (&sealed[1], &none)], &init);
    let count = pictures(&lead, 0).len();
    assert!((20..100).contains(&count), "{count}");
    assert_eq!(problems(&lead, Track::video(0)), [None, key]);
    assert_eq!(evidence(&lead), []);
}

#[test]
fn codecs_that_are_not_decoded_are_named_and_the_other_track_plays() {
    let dir = tempfile::tempdir().unwrap();
    let programme = programme(dir.path(), "avenc_aac ! aacparse");
    let av1: &[u8] = &[0x05, 4, b'A', b'V', b'0', b'1'];
    for (video, word) in [((0x33, &[][..]), "vvc"), ((0x06, av1), "av1")] {
        let types = [video, CLEAR[1]];
        let pieces = programme
            .iter()
            .map(|piece| (None, segment(piece, 0, types)));
        let seen = ts(pieces.collect());
        let found = tracks(&seen);
        assert_eq!(
            (found[0].codec.as_str(), found[0].problem),
            (word, Some(Cause::UnsupportedCodec))
        );
        assert_eq!(pictures(&seen, 0).len(), 0);
        assert_eq!(found[1].problem, None);
        assert!(frames(&seen, 0) > 180_000, "{}", digest(&seen));
    }
    let (init, media) = fragments(&mp4(dir.path(), false));
    let mut renamed = init.to_vec();
    let at = renamed.windows(4).position(|w| w == b"avc1").unwrap();
    // Not the brand, the sample entry.
    let at = renamed[at + 4..]
        .windows(4)
        .position(|w| w == b"avc1")
        .map_or(at, |n| at + 4 + n);
    renamed[at..at + 4].copy_from_slice(b"vvc1");
    let init = Bytes::from(renamed);
    let pieces = media
        .into_iter()
        .map(|bytes| (None, Some(init.clone()), bytes));
    let seen = convert(Container::FragmentedMp4, pieces.collect());
    let found = tracks(&seen);
    assert_eq!(
        (found[0].codec.as_str(), found[0].problem),
        ("vvc", Some(Cause::UnsupportedCodec))
    );
    assert!(
        found[1].problem.is_none() && frames(&seen, 0) > 180_000,
        "{}",
        digest(&seen)
    );
    assert_eq!(found[0].track.kind, Kind::Video);
}
