//! Protected media, from an origin to decoded pictures: licences, clear beginnings, and what can never be opened.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use detectors::base::{Cause, Fact, Kind, TrackInfo};
use glasswatch::config::{ContentKeys, Input, Licence, Protocol, Secret};
use glasswatch::transport::mp4::Index;

use crate::media::*;
use crate::origin::complete;
use crate::rig::{Origin, ok, status};

/// Key and key id, in hexadecimal digits and as licences write them.
const HEX: &str = "0123456789abcdef0123456789abcdef";
const WORD: &str = "ASNFZ4mrze8BI0VniavN7w";

/// Initialisation section and two fragments of one picture track of 4 s; encrypted if asked for.
fn fragments(dir: &Path, encrypted: bool) -> (Bytes, Vec<Bytes>) {
    let path = dir.join("film.mp4");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i"]);
    command.arg("testsrc2=size=320x180:rate=25:duration=4");
    command.args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "25",
        "-threads",
        "1",
    ]);
    command.args(["-pix_fmt", "yuv420p", "-f", "mp4"]);
    if encrypted {
        command.args(["-encryption_scheme", "cenc-aes-ctr"]);
        command.args(["-encryption_key", HEX, "-encryption_kid", HEX]);
    }
    assert!(command.arg(&path).status().expect("ffmpeg").success());
    let file = std::fs::read(path).unwrap();
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
    // A fragment of 50 pictures each.
    let build = |piece| Bytes::from(index.fragment(piece, read).unwrap());
    (
        index.init().to_vec().into(),
        [0..50, 50..100].map(build).to_vec(),
    )
}

const WIDEVINE: &str =
    "<ContentProtection schemeIdUri='urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed'/>";
const CLEAR_KEY: &str = "<ContentProtection schemeIdUri='urn:uuid:e2719d58-a985-b3c9-781a-b030af78d30e'>\
     <dashif:Laurl>/licence?token=s3cret</dashif:Laurl></ContentProtection>";

fn manifest(protection: &str) -> String {
    let set = format!(
        "<Period><AdaptationSet mimeType='video/mp4'>\
         <ContentProtection schemeIdUri='urn:mpeg:dash:mp4protection:2011' value='cenc'/>{protection}\
         <SegmentTemplate initialization='i.mp4' media='$Number$.m4s' duration='2'/>\
         <Representation id='v' bandwidth='1'/></AdaptationSet></Period>"
    );
    complete(4, &set).replace("<MPD ", "<MPD xmlns:dashif='https://dashif.org/CPS' ")
}

/// Plays what an origin with these segments and this licence serves.
fn run(
    protection: &'static str,
    (init, segments): (Bytes, [Bytes; 2]),
    licence: Option<String>,
    adjust: impl FnOnce(&mut Input),
) -> (Vec<Seen>, usize) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let origin = runtime.block_on(Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(manifest(protection)),
        "/i.mp4" => ok(init.clone()),
        "/1.m4s" => ok(segments[0].clone()),
        "/2.m4s" => ok(segments[1].clone()),
        _ => match &licence {
            Some(licence) => ok(licence.clone()),
            None => status(403),
        },
    }));
    let mut input = input(&format!("{}/a.mpd", origin.url), Protocol::Dash);
    adjust(&mut input);
    let watched = watch(input);
    // A source that fails begins again: its first end is enough.
    watched
        .sink
        .wait("an end", |seen| ended(seen) || cause(seen).is_some());
    let seen = watched.sink.all();
    runtime.block_on(watched.running.stop(DEADLINE));
    (seen, origin.asked("/licence").len())
}

fn problems(seen: &[Seen]) -> Vec<Option<Cause>> {
    let mut all: Vec<Option<Cause>> = facts(seen)
        .filter_map(|(_, fact)| match fact {
            Fact::Tracks(infos) => infos.iter().find(|info| info.track.kind == Kind::Video),
            _ => None,
        })
        .map(|info: &TrackInfo| info.problem)
        .collect();
    all.dedup();
    all
}

fn licence(key: &str) -> Option<String> {
    Some(format!(
        r#"{{"keys":[{{"kty":"oct","kid":"{WORD}","k":"{key}"}}]}}"#
    ))
}

#[test]
fn protected_media_plays_with_the_licence_that_the_manifest_names() {
    let dir = tempfile::tempdir().unwrap();
    let (init, media) = fragments(dir.path(), true);
    let media = [media[0].clone(), media[1].clone()];
    let from_manifest = |input: &mut Input| input.licence = Licence::FromManifest;
    let all = (init, media);
    let (seen, asked) = run(CLEAR_KEY, all.clone(), licence(WORD), from_manifest);
    assert_eq!(cause(&seen), None, "{}", digest(&seen));
    assert_eq!(
        (pictures(&seen, 0).len(), asked),
        (100, 1),
        "{}",
        digest(&seen)
    );
    assert_eq!(evidence(&seen), []);
    assert_eq!(problems(&seen), [None]);
    // Another key, none, and no leave to ask.
    let other = licence("AAAAAAAAAAAAAAAAAAAAAA");
    for (answer, agreed) in [(other, true), (None, true), (licence(WORD), false)] {
        let (seen, asked) = run(CLEAR_KEY, all.clone(), answer.clone(), |input| {
            if agreed {
                from_manifest(input);
            }
        });
        assert_eq!(
            cause(&seen),
            Some(Cause::EncryptedNoKey),
            "{answer:?} {}",
            digest(&seen)
        );
        assert_eq!(pictures(&seen, 0).len(), 0, "{answer:?}");
        assert_eq!(asked > 0, agreed);
    }
}

#[test]
fn protected_media_without_a_key_is_named_and_what_is_clear_plays() {
    let dir = tempfile::tempdir().unwrap();
    let (clear_init, clear) = fragments(dir.path(), false);
    let (init, sealed) = fragments(dir.path(), true);
    let key = Some(Cause::EncryptedNoKey);
    let pair = |a: &Bytes, b: &Bytes| [a.clone(), b.clone()];
    let (seen, _) = run(
        WIDEVINE,
        (init.clone(), pair(&sealed[0], &sealed[1])),
        None,
        |_| {},
    );
    assert_eq!(
        (cause(&seen), pictures(&seen, 0).len()),
        (key, 0),
        "{}",
        digest(&seen)
    );
    assert_eq!(problems(&seen).last(), Some(&key));
    // Announced as protected, and in the clear all the same.
    let (seen, _) = run(
        WIDEVINE,
        (clear_init, pair(&clear[0], &clear[1])),
        None,
        |_| {},
    );
    assert_eq!(
        (cause(&seen), pictures(&seen, 0).len()),
        (None, 100),
        "{}",
        digest(&seen)
    );
    assert_eq!(problems(&seen), [None]);
    // A clear lead.
    let (seen, _) = run(
        WIDEVINE,
        (init.clone(), pair(&clear[0], &sealed[1])),
        None,
        |_| {},
    );
    assert_eq!(pictures(&seen, 0).len(), 50, "{}", digest(&seen));
    assert_eq!(problems(&seen), [None, key]);
    // With the operator's key all of it plays.
    let (seen, _) = run(
        WIDEVINE,
        (init, pair(&clear[0], &sealed[1])),
        None,
        |input| {
            input.content_keys = ContentKeys::parse(&Secret::new(format!("{HEX}:{HEX}"))).unwrap();
        },
    );
    assert_eq!(pictures(&seen, 0).len(), 100, "{}", digest(&seen));
    assert_eq!(problems(&seen), [None]);
}

/// Real files of others; left out where they are not there.
#[test]
fn streams_of_other_packagers_end_in_their_own_causes() {
    let set = std::env::var_os("GLASSWATCH_MEDIA").map_or("../shared/media".into(), PathBuf::from);
    let shaka = "shaka-project_shaka-player/test/test/assets";
    let play = |path: String, keys: &str| {
        let path = set.join(path);
        let Ok(path) = path.canonicalize() else {
            eprintln!("left out: no {}", path.display());
            return None;
        };
        let runtime = runtime();
        let _inside = runtime.enter();
        let protocol = match path.extension() {
            Some(mpd) if mpd == "mpd" => Protocol::Dash,
            _ => Protocol::Hls,
        };
        let mut input = input(&file_url(&path), protocol);
        input.content_keys = ContentKeys::parse(&Secret::new(keys)).unwrap();
        let watched = watch(input);
        watched
            .sink
            .wait("an end", |seen| ended(seen) || cause(seen).is_some());
        let seen = watched.sink.all();
        runtime.block_on(watched.running.stop(DEADLINE));
        Some(seen)
    };
    // VVC: the sound plays, the pictures are named.
    let vvc = "Dash-Industry-Forum_livesim2/cmd/livesim2/app/testdata/assets/testpic_2s_vvc";
    if let Some(seen) = play(format!("{vvc}/Manifest.mpd"), "") {
        let found = tracks(&seen);
        assert_eq!(found[0].codec, "vvc", "{found:?}");
        assert_eq!(found[0].problem, Some(Cause::UnsupportedCodec));
        assert!(frames(&seen, 0) > 300_000, "{}", digest(&seen));
    }
    // Two periods of 8 s; the second one is announced as protected, and has clear fragments under a second sample
    // entry.
    if let Some(seen) = play(format!("{shaka}/clear-encrypted/manifest.mpd"), "") {
        assert!(pictures(&seen, 0).len() > 300, "{}", digest(&seen));
        assert!(frames(&seen, 0) > 600_000, "{}", digest(&seen));
        assert_eq!(problems(&seen), [None]);
        assert_eq!(evidence(&seen), []);
    }
    // Clear Key: four seconds in the clear, then encrypted.
    let clear_key = format!("{shaka}/dash-clearkey/dash.mpd");
    let id = "4060a865887842679cbf91ae5bae1e72";
    let key = "fc35340837310cc0fb53de97e22a69e0";
    if let Some(seen) = play(clear_key.clone(), &format!("{id}:{key}")) {
        assert_eq!(pictures(&seen, 0).len(), 480, "{}", digest(&seen));
        assert_eq!((problems(&seen), evidence(&seen)), (vec![None], vec![]));
    }
    for keys in [String::new(), format!("{id}:{id}")] {
        if let Some(seen) = play(clear_key.clone(), &keys) {
            assert_eq!(problems(&seen).last(), Some(&Some(Cause::EncryptedNoKey)));
            assert!(pictures(&seen, 0).len() < 300, "{keys} {}", digest(&seen));
            assert_eq!(evidence(&seen), []);
        }
    }
    for (path, wanted) in [
        (
            format!("{shaka}/dash-clearkey/dash.mpd"),
            Cause::EncryptedNoKey,
        ),
        (
            format!("{shaka}/hls-aes-256/media.m3u8"),
            Cause::EncryptionUnsupported,
        ),
    ] {
        if let Some(seen) = play(path.clone(), "") {
            assert_eq!(cause(&seen), Some(wanted), "{path} {}", digest(&seen));
            assert_eq!(pictures(&seen, 0).len(), 0, "{path}");
        }
    }
}
