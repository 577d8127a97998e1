//! WebM in DASH: VP8 and VP9, Opus and Vorbis.

use bytes::Bytes;
use glasswatch::config::Protocol;

use crate::media::*;
use crate::origin::{complete, period};
use crate::rig::{Origin, ok, status};

/// One track of WebM: its header, and its clusters.
fn webm(chain: &str) -> (Bytes, Vec<Bytes>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.webm");
    make(&format!(
        "{chain} ! webmmux streamable=true ! filesink location={}",
        path.display()
    ));
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let marks: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(b"\x1f\x43\xb6\x75"))
        .collect();
    let ends = marks.iter().skip(1).copied().chain([bytes.len()]);
    let clusters = marks
        .iter()
        .zip(ends)
        .map(|(from, to)| bytes.slice(*from..to));
    (bytes.slice(..marks[0]), clusters.collect())
}

fn played(mpd: String, files: Vec<(String, Bytes)>) -> Vec<Seen> {
    let runtime = runtime();
    let _inside = runtime.enter();
    let origin = runtime.block_on(Origin::start(move |asked| {
        if asked.path == "/a.mpd" {
            return ok(mpd.clone());
        }
        let found = files.iter().find(|(name, _)| *name == asked.path);
        found.map_or(status(404), |(_, bytes)| ok(bytes.clone()))
    }));
    let watched = watch(input(&format!("{}/a.mpd", origin.url), Protocol::Dash));
    watched.sink.wait("the end", ended);
    watched.sink.all()
}

#[test]
fn pictures_and_sound_come_out_of_webm_whole() {
    let vp9 = "vp9enc deadline=1 cpu-used=8 threads=1 keyframe-max-dist=25";
    let vp8 = "vp8enc deadline=1 cpu-used=8 threads=1 keyframe-max-dist=25";
    for (picture, sound, words) in [
        (vp9, "opusenc", ["vp9", "opus"]),
        (vp8, "vorbisenc", ["vp8", "vorbis"]),
    ] {
        let picture = webm(&format!("{} ! {picture}", video(75, (160, 96), 25)));
        let sound = webm(&format!(
            "{} ! audioconvert ! audioresample ! {sound}",
            tone(141)
        ));
        // Pictures as a header and segments, sound in one piece.
        let mut files = vec![("/v/init".to_owned(), picture.0)];
        let named = |(n, bytes): (usize, &Bytes)| (format!("/v/{n}"), bytes.clone());
        files.extend(picture.1.iter().enumerate().map(named));
        let whole = [&[sound.0][..], &sound.1].concat().concat();
        files.push(("/a.webm".to_owned(), whole.into()));
        let count = picture.1.len();
        assert!(count >= 2, "{count} clusters");
        let ticks = 3_000 / count;
        let sets = format!(
            "<AdaptationSet mimeType='video/webm' codecs='{}'><SegmentTemplate media='v/$Number$' \
             initialization='v/init' timescale='1000' duration='{ticks}' startNumber='0' endNumber='{}'/>\
             <Representation id='v' bandwidth='1'/></AdaptationSet>\
             <AdaptationSet mimeType='audio/webm' lang='en'><Representation id='a' bandwidth='1'>\
             <BaseURL>a.webm</BaseURL></Representation></AdaptationSet>",
            words[0],
            count - 1
        );
        let seen = played(complete(3, &period(&sets)), files);
        assert_eq!(cause(&seen), None, "{}", digest(&seen));
        assert_monotone(&seen);
        let times: Vec<_> = pictures(&seen, 0).into_iter().flatten().collect();
        assert_eq!(times.len(), 75, "{}", digest(&seen));
        let gaps = times.windows(2).map(|two| two[1].secs_after(two[0]));
        assert!(gaps.fold(0.0, f64::max) < 0.045);
        let heard = frames(&seen, 0);
        assert!((138_000..=146_000).contains(&heard), "{heard}");
        let mut told: Vec<_> = tracks(&seen).into_iter().map(|t| t.codec).collect();
        told.sort();
        let mut words = words.to_vec();
        words.sort();
        assert_eq!(told, words);
    }
}

#[test]
fn a_period_of_webm_follows_one_of_mp4() {
    let vp8 = "vp8enc deadline=1 cpu-used=8 threads=1 keyframe-max-dist=25";
    let second = webm(&format!("{} ! {vp8}", video(50, (160, 96), 25)));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    make(&format!(
        "{} ! x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max=25 ! h264parse ! mp4mux fragment-duration=1000 streamable=true ! filesink location={}",
        video(50, (160, 96), 25),
        path.display()
    ));
    let first = Bytes::from(std::fs::read(path).unwrap());
    let whole = [&[second.0][..], &second.1].concat().concat();
    let one = |kind: &str, name: &str| {
        format!(
            "<Period duration='PT2S'><AdaptationSet mimeType='video/{kind}'><Representation id='v'>\
             <BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period>"
        )
    };
    let periods = one("mp4", "a.mp4") + &one("webm", "b.webm") + &one("mp4", "a.mp4");
    let files = vec![
        ("/a.mp4".to_owned(), first),
        ("/b.webm".to_owned(), whole.into()),
    ];
    let seen = played(complete(6, &periods), files);
    assert_eq!(cause(&seen), None, "{}", digest(&seen));
    assert_monotone(&seen);
    assert_eq!(pictures(&seen, 0).len(), 150, "{}", digest(&seen));
}
