//! Streams that change, jump, break and come back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use detectors::base::{
    BreakEdge, BreakMark, BreakSource, Cause, EvidenceKind, Fact, Kind, SkewBasis, Track, TrackInfo,
};
use glasswatch::config::{ContentKeys, Pace, Protocol, Secret};
use glasswatch::ingest::convert::{Container, Converter, Feed};

use crate::rig::*;

const AAC: &str = "avenc_aac ! aacparse";

fn ts(dir: &Path, name: &str, video_chain: &str, audio_chain: &str) -> Vec<u8> {
    let path = dir.join(name);
    make(&format!(
        "mpegtsmux name=m ! filesink location={} {video_chain} ! queue ! m. {audio_chain} ! queue ! m.",
        path.display()
    ));
    std::fs::read(path).unwrap()
}

fn small() -> String {
    format!("{} ! {X264}", video(50, (320, 180), 25))
}

fn sound() -> String {
    format!("{} ! {AAC}", tone(94))
}

fn written(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("joined");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn jumps(seen: &[Seen]) -> Vec<f64> {
    facts(seen)
        .filter_map(|(_, f)| match f {
            Fact::TimelineJump { by_secs } => Some(*by_secs),
            _ => None,
        })
        .collect()
}

#[test]
fn size_rate_and_codec_may_change_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let first = ts(dir.path(), "a", &small(), &sound());
    let larger = ts(
        dir.path(),
        "b",
        &format!("{} ! {X264}", video(100, (640, 360), 50)),
        &format!("{} ! {AAC}", tone(94)),
    );
    let hevc = ts(
        dir.path(),
        "c",
        &format!(
            "{} ! x265enc key-int-max=25 speed-preset=ultrafast option-string=pools=1:log-level=0 ! h265parse",
            video(50, (320, 180), 25)
        ),
        &format!("{} ! avenc_ac3 ! ac3parse", tone(94)),
    );
    let seen = play(&written(dir.path(), &[first, larger, hevc].concat()));
    assert_eq!(cause(&seen), None, "{}", digest(&seen));
    let formats = video_formats(&seen);
    let sizes = formats
        .iter()
        .map(|f| (f.width, f.height))
        .collect::<Vec<_>>();
    assert_eq!(sizes, [(320, 180), (640, 360), (320, 180)]);
    assert_eq!(pictures(&seen, 0).len(), 200);
    assert_monotone(&seen);
    let last = tracks(&seen);
    assert_eq!(last.len(), 2);
    assert_eq!(
        last.iter()
            .map(|t| (t.track, t.codec.as_str()))
            .collect::<Vec<_>>(),
        [(Track::video(0), "hevc"), (Track::audio(0), "ac3")]
    );
}

#[test]
fn jumps_of_the_timestamps_are_told_and_the_media_clock_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let once = ts(dir.path(), "a", &small(), &sound());
    let late = format!(
        "{} ! {X264}",
        video(50, (320, 180), 25).replace(
            "videotestsrc",
            "videotestsrc timestamp-offset=3600000000000"
        )
    );
    let late_sound = sound().replace(
        "audiotestsrc",
        "audiotestsrc timestamp-offset=3600000000000",
    );
    let ahead = ts(dir.path(), "b", &late, &late_sound);
    let path = written(dir.path(), &[once.clone(), ahead, once].concat());
    let seen = play(&path);
    assert_eq!(cause(&seen), None, "{}", digest(&seen));
    assert_eq!(pictures(&seen, 0).len(), 150);
    assert_monotone(&seen);
    let jumps = jumps(&seen);
    assert!(jumps.iter().any(|j| *j > 3000.0), "{jumps:?}");
    assert!(jumps.iter().any(|j| *j < -3000.0), "{jumps:?}");
    let marked = seen
        .iter()
        .filter(|s| s.discontinuity && matches!(s.what, What::Picture { .. }));
    assert_eq!(marked.count(), 2);
    let times = pictures(&seen, 0);
    let span = times[149].unwrap().secs_after(times[0].unwrap());
    assert!((span - 6.0).abs() < 0.5, "{span}");
    // Pictures keep their distance all through: none is pinned to the one before.
    let steps = times
        .windows(2)
        .map(|w| w[1].unwrap().secs_after(w[0].unwrap()));
    assert!(
        steps
            .into_iter()
            .filter(|s| (s - 0.04).abs() > 0.001)
            .count()
            <= 2
    );
}

#[test]
fn lost_packets_leave_evidence_at_the_right_place() {
    let dir = tempfile::tempdir().unwrap();
    // Textured, so that pictures fill many packets.
    let noisy = small().replace("pattern=smpte horizontal-speed=4", "pattern=snow");
    let mut bytes = ts(dir.path(), "a", &noisy, &sound());
    let packets = bytes.len() / 188;
    let pid = |p: &[u8]| u16::from_be_bytes([p[1] & 0x1f, p[2]]);
    // Packets in the middle of a picture in the middle of the file.
    let middle = (packets / 2..packets)
        .find(|n| {
            let packet = &bytes[n * 188..][..188];
            let next = &bytes[(n + 1) * 188..][..188];
            pid(packet) == pid(next)
                && packet[1] & 0x40 == 0
                && next[1] & 0x40 == 0
                && pid(packet) == 65
        })
        .unwrap();
    bytes.drain(middle * 188..(middle + 6) * 188);
    let seen = play(&written(dir.path(), &bytes));
    let found = evidence(&seen);
    let lost = found
        .iter()
        .find(|(_, e)| e.kind == EvidenceKind::ContinuityError);
    let (track, lost) = lost.unwrap_or_else(|| panic!("{}", digest(&seen)));
    assert_eq!(track.map(|t| t.kind), Some(Kind::Video));
    assert!(lost.count >= 1);
    let at = lost.from.unwrap().secs();
    assert!((0.5..1.6).contains(&at), "{at}");
    let told = found
        .iter()
        .find(|(_, e)| e.kind == EvidenceKind::Concealment);
    let (_, told) = told.unwrap_or_else(|| panic!("the decoder says nothing: {}", digest(&seen)));
    assert!(
        (told.from.unwrap().secs() - at).abs() < 0.1,
        "{told:?} {at}"
    );
    assert_eq!(pictures(&seen, 0).len(), 50);
}

#[test]
fn joining_in_the_middle_shows_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{} ! {X264}", video(100, (320, 180), 25));
    let whole = ts(dir.path(), "a", &long, &format!("{} ! {AAC}", tone(188)));
    for part in [5, 3, 2] {
        let cut = whole.len() / part / 188 * 188;
        let seen = play(&written(dir.path(), &whole[cut..]));
        let kinds = evidence(&seen)
            .into_iter()
            .map(|(_, e)| e.kind)
            .collect::<Vec<_>>();
        assert!(!kinds.contains(&EvidenceKind::Concealment), "{kinds:?}");
        assert!(!pictures(&seen, 0).is_empty(), "{}", digest(&seen));
        assert_monotone(&seen);
    }
}

#[test]
fn real_time_pace_takes_as_long_as_the_media() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &ts(dir.path(), "a", &small(), &sound()));
    let mut slow = input(&file_url(&path), Protocol::File);
    slow.pace = Pace::RealTime;
    let began = std::time::Instant::now();
    let seen = play_with(slow);
    assert_eq!(pictures(&seen, 0).len(), 50);
    assert!(
        began.elapsed() > Duration::from_millis(1300),
        "{:?}",
        began.elapsed()
    );
}

/// Boxes of a file: name, bytes.
fn boxes(bytes: &[u8]) -> Vec<(String, &[u8])> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let name = String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned();
        found.push((name, &bytes[at..at + size]));
        at += size;
    }
    found
}

/// Initialisation segment and fragments of a fragmented MP4 with these chains.
fn fragments(dir: &Path, chains: &[String]) -> (Bytes, Vec<Bytes>) {
    let path = dir.join("fragmented.mp4");
    let chains = chains
        .iter()
        .map(|c| format!("{c} ! queue ! m. "))
        .collect::<String>();
    make(&format!(
        "mp4mux name=m fragment-duration=1000 streamable=true ! filesink location={} {chains}",
        path.display()
    ));
    let bytes = std::fs::read(path).unwrap();
    let all = boxes(&bytes);
    let first = all.iter().position(|(name, _)| name == "moof").unwrap();
    let init = all[..first]
        .iter()
        .flat_map(|(_, b)| b.to_vec())
        .collect::<Vec<_>>();
    let media = all[first..]
        .chunks(2)
        .filter(|pair| pair.len() == 2 && pair[0].0 == "moof")
        .map(|pair| Bytes::from([pair[0].1, pair[1].1].concat()))
        .collect();
    (init.into(), media)
}

fn begin(container: Container, init: Option<Bytes>, discontinuity: bool) -> Feed {
    Feed::Begin {
        container,
        init,
        discontinuity,
    }
}

#[test]
fn fragments_survive_jumps_truncation_and_new_initialisation() {
    let dir = tempfile::tempdir().unwrap();
    let (init, media) = fragments(dir.path(), &[small(), sound()]);
    assert!(media.len() >= 2, "{}", media.len());
    let (other_init, other) = fragments(
        dir.path(),
        &[format!("{} ! {X264}", video(50, (640, 360), 25)), sound()],
    );
    let runtime = runtime();
    let (context, sink, _) = context(input("https://example.invalid/x.m3u8", Protocol::Hls));
    let mut converter = Converter::new(&context);
    let to = converter.add_input(None, None);
    let mut feed = |f| converter.feed(to, f).unwrap();
    let piece = |whole: &Bytes, feed: &mut dyn FnMut(Feed)| {
        for bytes in whole.chunks(777) {
            feed(Feed::Data(Bytes::copy_from_slice(bytes)));
        }
    };
    feed(begin(Container::FragmentedMp4, Some(init.clone()), false));
    media.iter().for_each(|m| piece(m, &mut feed));
    feed(Feed::End { truncated: false });
    // The same again: time goes back.
    feed(begin(Container::FragmentedMp4, None, true));
    media.iter().for_each(|m| piece(m, &mut feed));
    feed(Feed::End { truncated: false });
    // A fragment that is cut short is left out.
    feed(begin(Container::FragmentedMp4, None, false));
    piece(&media[0].slice(..media[0].len() / 2), &mut feed);
    feed(Feed::End { truncated: true });
    feed(begin(Container::FragmentedMp4, Some(other_init), true));
    other.iter().for_each(|m| piece(m, &mut feed));
    feed(Feed::End { truncated: false });
    runtime.block_on(converter.finish(DEADLINE)).unwrap();
    let seen = sink.all();
    assert_eq!(pictures(&seen, 0).len(), 150, "{}", digest(&seen));
    assert_monotone(&seen);
    let sizes = video_formats(&seen)
        .iter()
        .map(|f| f.width)
        .collect::<Vec<_>>();
    assert_eq!(sizes, [320, 640]);
    assert!(
        evidence(&seen)
            .iter()
            .any(|(_, e)| e.kind == EvidenceKind::Truncated)
    );
    let times = pictures(&seen, 0);
    let span = times[149].unwrap().secs_after(times[0].unwrap());
    // A new timeline begins behind the last fragment, whose length only its neighbours tell.
    assert!((5.9..8.1).contains(&span), "{span}");
}

#[test]
fn a_live_input_that_decodes_too_slowly_loses_whole_groups_of_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = ts(
        dir.path(),
        "long",
        &format!("{} ! {X264}", video(300, (320, 180), 25)),
        &format!("{} ! {AAC}", tone(564)),
    );
    let runtime = runtime();
    let _inside = runtime.enter();
    let (mut context, sink, stats) = context(input("udp://127.0.0.1:1", Protocol::Udp));
    let gate = Gate::before(&sink);
    context.intake = gate.clone();
    let mut converter = Converter::new(&context);
    let to = converter.add_input(None, None);
    let feed = |converter: &mut Converter, bytes: &[u8]| {
        for piece in bytes.chunks(7 * 188) {
            let data = Feed::Data(Bytes::copy_from_slice(piece));
            converter.feed(to, data).unwrap();
        }
    };
    let start = begin(Container::MpegTs, None, false);
    converter.feed(to, start).unwrap();
    // What comes behind the backlog is shorter than what makes a backlog.
    let (before, after) = bytes.split_at(bytes.len() / 188 * 5 / 6 * 188);
    feed(&mut converter, before);
    assert!(stats.shed_bytes.get() > 0);
    gate.open();
    runtime.block_on(converter.room(0)).unwrap();
    feed(&mut converter, after);
    converter.feed(to, Feed::End { truncated: false }).unwrap();
    runtime.block_on(converter.finish(DEADLINE)).unwrap();
    let seen = sink.all();
    let dropped: u32 = (seen.iter())
        .filter(|s| s.track == Some(Track::video(0)))
        .map(|s| s.dropped)
        .sum();
    assert!(dropped >= 25, "{dropped}");
    assert_eq!(pictures(&seen, 0).len() + dropped as usize, 300);
    assert_monotone(&seen);
    // Our own doing is no evidence against the stream.
    assert_eq!(evidence(&seen), []);
    assert!(!seen.iter().any(|s| s.discontinuity));
}

#[test]
fn encrypted_fragments_are_decrypted_with_the_key_and_named_without() {
    let set = std::env::var_os("GLASSWATCH_MEDIA").map_or("../shared/media".into(), PathBuf::from);
    let folder = set.join("Eyevinn_mp4ff/mp4/testdata");
    let zero = "0".repeat(32);
    let id = "cd7eb9ff88f34caeb06185b00024e4c2";
    for (name, id, key) in [
        (
            "prog_8s_enc_dashinit.mp4",
            id,
            "63cb5f7184dd4b689a5c5ff11ee6a328",
        ),
        ("cbcs.mp4", &zero, "22bdb0063805260307ee5045c0f3835a"),
        ("cbcs_audio.mp4", &zero, "5ffd93861fa776e96cccd934898fc1c8"),
    ] {
        let Ok(bytes) = std::fs::read(folder.join(name)) else {
            eprintln!("left out: no {name} in {}", folder.display());
            continue;
        };
        let with = |list: String| {
            let runtime = runtime();
            let _inside = runtime.enter();
            let mut input = input("https://example.invalid/x.m3u8", Protocol::Hls);
            input.content_keys = ContentKeys::parse(&Secret::new(list)).unwrap();
            let (context, sink, _) = context(input);
            let mut converter = Converter::new(&context);
            let to = converter.add_input(None, None);
            let mut feed = |f| converter.feed(to, f).unwrap();
            feed(begin(Container::FragmentedMp4, None, false));
            feed(Feed::Data(bytes.clone().into()));
            feed(Feed::End { truncated: false });
            // Without a key nothing comes out, which is an error; the tracks say why.
            let _ = runtime.block_on(converter.finish(DEADLINE));
            sink.all()
        };
        let opened = with(format!("{id}:{key}"));
        let units = pictures(&opened, 0).len() + frames(&opened, 0);
        assert!(units >= 24, "{name}: {units} {}", digest(&opened));
        assert_eq!(evidence(&opened), [], "{name}");
        assert!(
            tracks(&opened).iter().all(|t| t.problem.is_none()),
            "{name}: {}",
            digest(&opened)
        );
        for list in [String::new(), format!("{}:{key}", "ee".repeat(16))] {
            let closed = with(list);
            assert_eq!(pictures(&closed, 0).len() + frames(&closed, 0), 0, "{name}");
            let named = |t: &TrackInfo| t.problem == Some(Cause::EncryptedNoKey);
            assert!(
                tracks(&closed).iter().all(named),
                "{name}: {:?}",
                tracks(&closed)
            );
        }
    }
}

#[test]
fn scrambled_pictures_are_named_and_come_back_when_they_are_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = ts(
        dir.path(),
        "clear",
        &format!("{} ! {X264}", video(225, (320, 180), 25)),
        &format!("{} ! {AAC}", tone(422)),
    );
    let pid = |packet: &[u8]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
    let mut count = std::collections::BTreeMap::new();
    for packet in bytes.chunks(188) {
        *count.entry(pid(packet)).or_insert(0) += 1;
    }
    let pictures_on = *count.iter().max_by_key(|(_, n)| **n).unwrap().0;
    let mut noise = fastrand::Rng::with_seed(5);
    let packets = bytes.len() / 188;
    for packet in bytes
        .chunks_mut(188)
        .take(packets * 2 / 3)
        .skip(packets / 3)
    {
        if pid(packet) == pictures_on && packet[3] & 0x20 == 0 {
            packet[3] |= 0x80;
            noise.fill(&mut packet[4..]);
        }
    }
    let seen = play(&written(dir.path(), &bytes));
    let problems: Vec<Option<Cause>> = (facts(&seen))
        .filter_map(|(_, f)| match f {
            Fact::Tracks(infos) => infos.iter().find(|i| i.track == Track::video(0)),
            _ => None,
        })
        .map(|info| info.problem)
        .collect();
    let key = Some(Cause::EncryptedNoKey);
    assert!(problems.contains(&key), "{problems:?}");
    assert_eq!(problems.last(), Some(&None), "{problems:?}");
    // Three seconds each of clear, scrambled and clear pictures, which begin again at a key frame.
    let shown = pictures(&seen, 0).len();
    assert!((120..=152).contains(&shown), "{shown}");
    assert!(frames(&seen, 0) > 420_000, "the sound was never scrambled");
}

#[test]
fn a_break_marker_lies_between_the_pieces_that_it_stands_between() {
    let dir = tempfile::tempdir().unwrap();
    let whole = ts(dir.path(), "a", &small(), &sound());
    let runtime = runtime();
    let (context, sink, _) = context(input("https://example.invalid/x.m3u8", Protocol::Hls));
    let mut converter = Converter::new(&context);
    let to = converter.add_input(None, None);
    let mark = BreakMark {
        edge: BreakEdge::Start,
        source: BreakSource::HlsTag,
        at: None,
        planned: None,
        event_id: None,
    };
    for discontinuity in [false, true] {
        let pieces = [
            begin(Container::MpegTs, None, discontinuity),
            Feed::Data(whole.clone().into()),
            Feed::End { truncated: false },
        ];
        for feed in pieces {
            converter.feed(to, feed).unwrap();
        }
        if !discontinuity {
            converter.feed(to, Feed::Break(mark.clone(), 0)).unwrap();
        }
    }
    runtime.block_on(converter.finish(DEADLINE)).unwrap();
    let seen = sink.all();
    let told = facts(&seen).find_map(|(_, fact)| match fact {
        Fact::Break(mark) => Some(mark.clone()),
        _ => None,
    });
    let told = told.unwrap();
    let at = told.at.unwrap();
    assert_eq!(
        told,
        BreakMark {
            at: Some(at),
            ..mark
        }
    );
    // Two seconds of pictures and sound in each piece.
    let times = pictures(&seen, 0);
    let away = at.secs_after(times[times.len() / 2].unwrap());
    assert!(away.abs() < 0.15, "{away}");
}

#[test]
fn separate_renditions_share_one_clock() {
    let dir = tempfile::tempdir().unwrap();
    let (video_init, pictures_only) = fragments(dir.path(), &[small()]);
    let (audio_init, sound_only) = fragments(dir.path(), &[sound()]);
    let runtime = runtime();
    let (context, sink, _) = context(input("https://example.invalid/x.m3u8", Protocol::Hls));
    let mut converter = Converter::new(&context);
    let main = converter.add_input(None, None);
    let other = converter.add_input(Some(Kind::Audio), Some("de".to_owned()));
    for (to, init, media) in [
        (main, video_init, pictures_only),
        (other, audio_init, sound_only),
    ] {
        converter
            .feed(to, begin(Container::FragmentedMp4, Some(init), false))
            .unwrap();
        for piece in media {
            converter.feed(to, Feed::Data(piece)).unwrap();
        }
        converter.feed(to, Feed::End { truncated: false }).unwrap();
    }
    runtime.block_on(converter.finish(DEADLINE)).unwrap();
    let seen = sink.all();
    // The last picture lies behind the duration that this muxer writes, and is cut off there.
    assert!(pictures(&seen, 0).len() >= 49, "{}", digest(&seen));
    assert!(frames(&seen, 0) > 90_000);
    let found = tracks(&seen);
    assert_eq!(found[1].track, Track::audio(0));
    assert_eq!(found[1].language.as_deref(), Some("de"));
    let skew = facts(&seen).find_map(|(_, f)| match f {
        Fact::AvSkew {
            audio_minus_video_secs,
            basis: SkewBasis::Segment,
        } => Some(*audio_minus_video_secs),
        _ => None,
    });
    assert!(skew.unwrap().abs() < 0.2, "{skew:?}");
}

#[test]
fn damage_of_any_kind_ends_in_pictures_or_in_a_named_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let whole = ts(dir.path(), "a", &small(), &sound());
    let mp4 = {
        let path = dir.path().join("whole.mp4");
        make(&format!(
            "mp4mux name=m ! filesink location={} {} ! queue ! m. {} ! queue ! m.",
            path.display(),
            small(),
            sound()
        ));
        std::fs::read(path).unwrap()
    };
    for media in [whole, mp4] {
        for flips in [3, 30, 300, 3000] {
            let mut bytes = media.clone();
            for _ in 0..flips {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u32(..8);
            }
            let seen = play(&written(dir.path(), &bytes));
            assert!(
                cause(&seen).is_some() || !pictures(&seen, 0).is_empty() || frames(&seen, 0) > 0
            );
        }
        for _ in 0..6 {
            let keep = random.usize(..media.len());
            let seen = play(&written(dir.path(), &media[..keep]));
            assert!(
                cause(&seen).is_some() || !pictures(&seen, 0).is_empty() || frames(&seen, 0) > 0
            );
        }
    }
}
