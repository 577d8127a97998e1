//! Codecs of the web in fragments, as HLS and DASH carry them.

use std::process::Command;

use bytes::Bytes;
use glasswatch::config::Protocol;
use glasswatch::ingest::convert::{Container, Converter, Feed};

use crate::rig::*;

#[test]
fn codecs_of_the_web_play_in_fragments() {
    let dir = tempfile::tempdir().unwrap();
    let rows: &[(&[&str], &[&str], [&str; 2])] = &[
        (
            &["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
            &["libopus"],
            ["vp9", "opus"],
        ),
        (
            &["libaom-av1", "-cpu-used", "8", "-usage", "realtime"],
            &["flac", "-strict", "-2"],
            ["av1", "flac"],
        ),
    ];
    for (video, audio, words) in rows {
        let path = dir.path().join("fragments.mp4");
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-y", "-f", "lavfi", "-i"]);
        command.arg("testsrc2=size=320x180:rate=25:duration=2");
        command.args(["-f", "lavfi", "-i"]);
        command.arg("sine=frequency=440:sample_rate=48000:duration=2");
        command.args(["-pix_fmt", "yuv420p", "-g", "25", "-threads", "1", "-c:v"]);
        command.args(*video).arg("-c:a").args(*audio);
        command.args(["-movflags", "frag_keyframe+empty_moov+default_base_moof"]);
        assert!(
            command
                .args(["-f", "mp4"])
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        let runtime = runtime();
        let _inside = runtime.enter();
        let (context, sink, _) = context(input("https://example.invalid/x.m3u8", Protocol::Hls));
        let mut converter = Converter::new(&context);
        let to = converter.add_input(None, None);
        let begin = Feed::Begin {
            container: Container::FragmentedMp4,
            init: None,
            discontinuity: false,
        };
        let bytes = Bytes::from(std::fs::read(path).unwrap());
        for feed in [begin, Feed::Data(bytes), Feed::End { truncated: false }] {
            converter.feed(to, feed).unwrap();
        }
        runtime.block_on(converter.finish(DEADLINE)).unwrap();
        let seen = sink.all();
        let found = tracks(&seen);
        let codecs: Vec<_> = found.iter().map(|t| t.codec.as_str()).collect();
        assert_eq!(codecs, words, "{}", digest(&seen));
        assert_eq!(pictures(&seen, 0).len(), 50, "{words:?} {}", digest(&seen));
        let heard = frames(&seen, 0);
        assert!(heard.abs_diff(96_000) <= 4_096, "{words:?}: {heard}");
        assert_monotone(&seen);
    }
}
