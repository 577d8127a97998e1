//! FLV as RTMP servers send it: one codec after the other in one connection, and damage.

use std::path::Path;

use bytes::Bytes;
use detectors::base::{Cause, Fact};
use glasswatch::config::Protocol;
use glasswatch::ingest::convert::{Container, Converter, Feed};

use crate::rig::*;

const AAC: &str = "audio/x-raw,rate=48000,channels=2 ! avenc_aac";
const MP3: &str = "audio/x-raw,rate=44100,channels=2 ! lamemp3enc ! mpegaudioparse";

/// Three seconds of a programme.
fn programme(dir: &Path, size: (u32, u32), audio: &str) -> Vec<u8> {
    let path = dir.join("a.flv");
    make(&format!(
        "flvmux name=m streamable=true ! filesink location={} \
         {} ! {X264} ! h264parse ! queue ! m. \
         audiotestsrc num-buffers=140 samplesperbuffer=1024 ! {audio} ! queue ! m.",
        path.display(),
        video(75, size, 25),
    ));
    std::fs::read(path).unwrap()
}

/// What comes of bytes, and how it ended.
fn convert(bytes: &[u8]) -> (Vec<Seen>, Option<Cause>) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (context, sink, _) = context(input("rtmp://127.0.0.1/live/one", Protocol::Rtmp));
    let mut converter = Converter::new(&context);
    let to = converter.add_input(None, None);
    let begin = Feed::Begin {
        container: Container::Flv,
        init: None,
        discontinuity: false,
    };
    converter.feed(to, begin).unwrap();
    for piece in bytes.chunks(4096) {
        let data = Feed::Data(Bytes::copy_from_slice(piece));
        if let Err(error) = converter.feed(to, data) {
            return (sink.all(), Some(error.cause));
        }
    }
    let ended = runtime.block_on(converter.finish(DEADLINE));
    (sink.all(), ended.err().map(|e| e.cause))
}

#[test]
fn codec_changes_inside_an_flv_stream_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = programme(dir.path(), (320, 180), AAC);
    // The header, with the flags of sound and pictures, comes only once.
    bytes.extend_from_slice(&programme(dir.path(), (160, 90), MP3)[13..]);
    let (seen, ended) = convert(&bytes);
    assert_eq!(ended, None);
    assert_eq!(pictures(&seen, 0).len(), 150);
    let sound = frames(&seen, 0);
    assert!((279_000..293_000).contains(&sound), "{sound}");
    let widths = video_formats(&seen).into_iter().map(|v| v.width);
    assert_eq!(widths.collect::<Vec<_>>(), [320, 160]);
    let codecs = tracks(&seen).into_iter().map(|t| t.codec);
    assert_eq!(codecs.collect::<Vec<_>>(), ["h264", "mp3"]);
    // The second programme begins at zero again, and continues on the media clock.
    assert_monotone(&seen);
    assert!(facts(&seen).any(|(_, f)| matches!(f, Fact::TimelineJump { .. })));
    let skews = facts(&seen).filter_map(|(_, f)| match f {
        Fact::AvSkew {
            audio_minus_video_secs,
            ..
        } => Some(*audio_minus_video_secs),
        _ => None,
    });
    let worst = skews.map(f64::abs).fold(0.0, f64::max);
    assert!(worst < 0.5, "{worst}");
}

#[test]
fn noise_in_place_of_flv_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = programme(dir.path(), (160, 90), AAC);
    let whole = bytes.len();
    bytes.extend_from_slice(&[0xa5; 64]);
    let (seen, ended) = convert(&bytes);
    assert_eq!(ended, Some(Cause::Undecodable), "{whole}");
    assert!(!seen.is_empty());
    assert_eq!(
        convert(b"HTTP/1.1 400 Bad Request\r\n").1,
        Some(Cause::Undecodable)
    );
}
