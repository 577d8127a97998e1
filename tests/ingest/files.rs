//! Files of every container and codec.

use std::path::PathBuf;

use detectors::base::{Cause, Evidence, EvidenceKind, Fact, Track};

use crate::rig::*;

/// Writes a programme of 50 pictures (25 a second) and 94 blocks of 1024 frames (2 s) into a file.
fn file(
    dir: &tempfile::TempDir,
    name: &str,
    video_chain: &str,
    audio_chain: &str,
    mux: &str,
) -> PathBuf {
    let path = dir.path().join(name);
    let mut description = format!("{mux} name=m ! filesink location={} ", path.display());
    if !video_chain.is_empty() {
        description += &format!(
            "{} ! {video_chain} ! queue ! m. ",
            video(50, (320, 180), 25)
        );
    }
    if !audio_chain.is_empty() {
        description += &format!("{} ! {audio_chain} ! queue ! m. ", tone(94));
    }
    make(&description);
    path
}

const TONE: usize = 94 * 1024;

#[test]
fn every_codec_decodes_completely() {
    let dir = tempfile::tempdir().unwrap();
    let h265 = "x265enc key-int-max=25 speed-preset=ultrafast option-string=pools=1:frame-threads=1:log-level=0 ! h265parse";
    let h265_10 = format!("videoconvert ! video/x-raw,format=I420_10LE ! {h265}");
    let aac = "avenc_aac ! aacparse";
    // Container, pictures, sound, words, encoder delay or padding allowed in frames of sound.
    let rows: &[(&str, &str, &str, [&str; 2], usize)] = &[
        ("mpegtsmux", X264, aac, ["h264", "aac"], 3072),
        (
            "mpegtsmux",
            h265,
            "avenc_mp2 ! mpegaudioparse",
            ["hevc", "mp2"],
            2400,
        ),
        (
            "mpegtsmux",
            &h265_10,
            "avenc_ac3 ! ac3parse",
            ["hevc", "ac3"],
            3072,
        ),
        (
            "mpegtsmux",
            "mpeg2enc format=3 bitrate=2000 ! mpegvideoparse",
            "lamemp3enc ! mpegaudioparse",
            ["mpeg2", "mp3"],
            4800,
        ),
        (
            "matroskamux",
            X264,
            "avenc_eac3 ! ac3parse",
            ["h264", "eac3"],
            3072,
        ),
        (
            "mpegtsmux",
            X264,
            "opusenc ! opusparse",
            ["h264", "opus"],
            2400,
        ),
        ("mp4mux", X264, aac, ["h264", "aac"], 3072),
        (
            "mp4mux fragment-duration=500",
            X264,
            aac,
            ["h264", "aac"],
            3072,
        ),
        ("qtmux", h265, "avenc_ac3 ! ac3parse", ["hevc", "ac3"], 3072),
        ("mp4mux", &h265_10, "opusenc", ["hevc", "opus"], 2400),
        (
            "mp4mux",
            X264,
            "lamemp3enc ! mpegaudioparse",
            ["h264", "mp3"],
            4800,
        ),
        ("matroskamux", X264, "opusenc", ["h264", "opus"], 2400),
        (
            "matroskamux",
            "vp8enc threads=1 deadline=1",
            "vorbisenc",
            ["vp8", "vorbis"],
            4096,
        ),
        (
            "matroskamux",
            "vp9enc threads=1 deadline=1 cpu-used=8",
            "flacenc",
            ["vp9", "flac"],
            0,
        ),
        (
            "matroskamux",
            "av1enc threads=1 cpu-used=8 usage-profile=realtime ! av1parse",
            "audioconvert ! audio/x-raw,format=S16LE",
            ["av1", "pcm"],
            0,
        ),
        (
            "mp4mux",
            "av1enc threads=1 cpu-used=8 usage-profile=realtime ! av1parse",
            "opusenc",
            ["av1", "opus"],
            2400,
        ),
        (
            "mp4mux",
            "vp9enc threads=1 deadline=1 cpu-used=8 ! vp9parse",
            aac,
            ["vp9", "aac"],
            3072,
        ),
    ];
    for (mux, video, audio, words, slack) in rows {
        let what = format!("{mux} {words:?}");
        let path = file(&dir, "media", video, audio, mux);
        let seen = play(&path);
        assert_eq!(cause(&seen), None, "{what}: {}", digest(&seen));
        let found = tracks(&seen);
        let codecs = found.iter().map(|t| t.codec.as_str()).collect::<Vec<_>>();
        assert_eq!(codecs, words, "{what}");
        assert_eq!(pictures(&seen, 0).len(), 50, "{what}");
        let heard = frames(&seen, 0);
        assert!(heard.abs_diff(TONE) <= *slack, "{what}: {heard} frames");
        assert_monotone(&seen);
        let format = &video_formats(&seen)[..];
        assert_eq!(format.len(), 1, "{what}: {format:?}");
        assert_eq!((format[0].width, format[0].height), (320, 180), "{what}");
        assert_eq!(
            format[0].bits,
            if video.contains("10LE") { 10 } else { 8 },
            "{what}"
        );
        let loud = seen
            .iter()
            .any(|s| matches!(s.what, What::Sound { peak, .. } if peak > 0.5 && peak < 1.2));
        assert!(loud, "{what}: full-scale sound");
        let lit = seen
            .iter()
            .any(|s| matches!(s.what, What::Picture { luma } if (60..180).contains(&luma)));
        assert!(lit, "{what}: the bars");
        let times = pictures(&seen, 0);
        let span = times[49].unwrap().secs_after(times[0].unwrap());
        assert!((span - 1.96).abs() < 0.005, "{what}: {span}");
    }
}

#[test]
fn all_sound_tracks_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("two.ts");
    make(&format!(
        "mpegtsmux name=m ! filesink location={} {} ! {X264} ! queue ! m. {} ! avenc_aac ! queue ! m. {} ! avenc_ac3 ! queue ! m.",
        path.display(),
        video(50, (320, 180), 25),
        tone(94),
        tone(94)
    ));
    let seen = play(&path);
    assert_eq!(tracks(&seen).len(), 3);
    assert!(frames(&seen, 0).abs_diff(TONE) <= 3072);
    assert!(frames(&seen, 1).abs_diff(TONE) <= 3072);
    assert!(
        facts(&seen).any(|(t, f)| t == Some(Track::audio(1))
            && matches!(f, detectors::base::Fact::AvSkew { .. }))
    );
}

#[test]
fn raw_sound_files_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    for (chain, codec) in [
        (
            "avenc_aac ! aacparse ! audio/mpeg,stream-format=adts",
            "aac",
        ),
        ("lamemp3enc ! mpegaudioparse", "mp3"),
        ("avenc_ac3 ! ac3parse", "ac3"),
        ("wavenc", "pcm"),
    ] {
        let path = dir.path().join("sound");
        make(&format!(
            "{} ! {chain} ! filesink location={}",
            tone(94),
            path.display()
        ));
        let seen = play(&path);
        assert_eq!(cause(&seen), None, "{codec}: {}", digest(&seen));
        assert_eq!(tracks(&seen)[0].codec, codec);
        assert!(
            frames(&seen, 0).abs_diff(TONE) <= 4800,
            "{codec}: {}",
            frames(&seen, 0)
        );
        assert_monotone(&seen);
    }
}

#[test]
fn faults_of_files_have_names() {
    let dir = tempfile::tempdir().unwrap();
    let mp4 = std::fs::read(file(&dir, "whole.mp4", X264, "avenc_aac", "mp4mux")).unwrap();
    let ts = std::fs::read(file(&dir, "whole.ts", X264, "avenc_aac", "mpegtsmux")).unwrap();
    let mut noise = fastrand::Rng::with_seed(7);
    let mut random = (0..300_000).map(|_| noise.u8(..)).collect::<Vec<_>>();
    random[0] = 0; // not by chance a sync word
    let mut null_packets = Vec::new();
    for _ in 0..1000 {
        null_packets.extend_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
        null_packets.extend_from_slice(&[0xff; 184]);
    }
    let rows: Vec<(&str, Vec<u8>, Cause)> = vec![
        ("empty", Vec::new(), Cause::Truncated),
        (
            "text",
            b"this is no media file at all, just some words".to_vec(),
            Cause::UnsupportedFormat,
        ),
        ("random", random.clone(), Cause::UnsupportedFormat),
        (
            "mp4 without its index",
            mp4[..mp4.len() / 2].to_vec(),
            Cause::Truncated,
        ),
        ("null packets", null_packets, Cause::Undecodable),
        (
            "riff",
            [b"RIFF\0\0\0\0WAVE".as_slice(), &random].concat(),
            Cause::Undecodable,
        ),
        (
            "matroska noise",
            [[0x1a, 0x45, 0xdf, 0xa3].as_slice(), &random].concat(),
            Cause::Undecodable,
        ),
    ];
    for (name, bytes, wanted) in rows {
        let path = dir.path().join("broken");
        std::fs::write(&path, bytes).unwrap();
        let seen = play(&path);
        assert_eq!(cause(&seen), Some(wanted), "{name}: {}", digest(&seen));
    }
    assert_eq!(
        cause(&play(&dir.path().join("none.ts"))),
        Some(Cause::FileUnreadable)
    );
    assert_eq!(cause(&play(dir.path())), Some(Cause::FileUnreadable));
    // A transport stream that is cut, or damaged in the middle, still plays.
    for keep in [ts.len() / 2, ts.len() / 2 + 77] {
        let path = dir.path().join("cut.ts");
        std::fs::write(&path, &ts[..keep]).unwrap();
        let seen = play(&path);
        assert_eq!(cause(&seen), None);
        assert!(pictures(&seen, 0).len() > 5, "{}", digest(&seen));
        assert_monotone(&seen);
    }
}

#[test]
fn containers_tell_where_decoding_may_begin() {
    let dir = tempfile::tempdir().unwrap();
    for (n, mux) in ["mp4mux", "mp4mux fragment-duration=500", "matroskamux"]
        .into_iter()
        .enumerate()
    {
        let seen = play(&file(&dir, &format!("clean{n}"), X264, "", mux));
        let shown = pictures(&seen, 0);
        let clean: Vec<_> = facts(&seen)
            .filter_map(|(track, fact)| match fact {
                Fact::RandomAccess(at) => Some((track, Some(*at))),
                _ => None,
            })
            .collect();
        let track = Some(Track::video(0));
        assert_eq!(clean, [(track, shown[0]), (track, shown[25])], "{mux}");
    }
}

#[test]
fn pictures_that_the_av1_decoder_gives_up_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let chain = "av1enc threads=1 cpu-used=8 usage-profile=realtime ! av1parse";
    let path = file(&dir, "broken.mkv", chain, "", "matroskamux");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 600] {
        *byte ^= 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();
    let seen = play(&path);
    let told = evidence(&seen);
    assert!(!told.is_empty());
    let missing = |(track, evidence): &(Option<Track>, Evidence)| {
        *track == Some(Track::video(0)) && evidence.kind == EvidenceKind::PicturesMissing
    };
    assert!(told.iter().all(missing), "{told:?}");
    assert!(pictures(&seen, 0).len() < 50);
}
