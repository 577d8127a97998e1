//! What a well-behaved origin serves.

use std::time::Duration;

use aes::Aes128;
use axum::http::{StatusCode, header};
use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use detectors::base::{Cause, Fact, InputEvent, Kind};
use glasswatch::ingest::convert::Container;
use glasswatch::ingest::source::Retry;
use glasswatch::ingest::source::hls;
use glasswatch::ingest::stats::RequestResult;

use crate::rig::*;

#[tokio::test]
async fn a_complete_playlist_is_played_to_its_end() {
    let list = "#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:1,\ns3.ts";
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(list)),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    let end = rig.to_end().await;
    assert_eq!((end.cause, end.retry), (None, Retry::Never));
    assert_eq!(rig.recorder.marks(), [1, 2, 3]);
    let pieces = rig.recorder.pieces(0);
    let discontinuous: Vec<_> = pieces.iter().map(|piece| piece.discontinuity).collect();
    assert_eq!(discontinuous, [false, false, true]);
    assert!(rig.facts.has(&Fact::Input(InputEvent::Ended)));
    assert!(rig.facts.has(&Fact::Input(InputEvent::Receiving)));
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(rig.stats.input_bytes.get(), 3 * 8 * 188);
    assert_eq!(count(&rig.stats.segment_requests, RequestResult::Ok), 3);
    assert_eq!(count(&rig.stats.playlist_requests, RequestResult::Ok), 1);
    assert!(rig.stats.playlist_last_change_unix_ms.get() > 1_600_000_000_000);
}

#[tokio::test]
async fn a_live_playlist_starts_at_the_edge_and_goes_on() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(live(asked.since, 10)),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("five segments", |rig| rig.recorder.marks().len() >= 5)
        .await;
    assert_eq!(rig.recorder.marks()[..5], [7, 8, 9, 10, 11]);
    assert_eq!(rig.facts.causes(), []);
    let (visible_after, page_after) = hls::patience(Duration::from_secs(1));
    assert!(rig.facts.has(&Fact::Input(InputEvent::Patience {
        visible_after,
        page_after
    })));
    assert_paced(&origin.asked("a.m3u8"));
}

#[tokio::test]
async fn a_master_pins_one_variant_and_brings_its_audio_renditions() {
    const MASTER: &str = "#EXTM3U\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"e\",LANGUAGE=\"en\",URI=\"sub/en.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"d\",LANGUAGE=\"de\",URI=\"sub/de.m3u8\"\n\
        #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=9,URI=\"i.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nlow.m3u8\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO=\"a\"\nhigh.m3u8\n";
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/m.m3u8" => ok(MASTER),
        "/high.m3u8" => ok(vod("#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts")),
        "/sub/en.m3u8" => ok(vod("#EXTINF:2,\n../s3.ts")),
        "/sub/de.m3u8" => ok(vod("#EXTINF:2,\n../s4.ts")),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/m.m3u8", origin.url));
    rig.to_end().await;
    let audio = |language: &str| (Some(Kind::Audio), Some(language.to_owned()));
    assert_eq!(
        *rig.recorder.inputs.lock().unwrap(),
        [(None, None), audio("en"), audio("de")]
    );
    assert_eq!(rig.recorder.marks(), [1, 2]);
    assert_eq!(rig.recorder.pieces(1)[0].data, ts(3));
    assert_eq!(rig.recorder.pieces(2)[0].data, ts(4));
    assert_eq!(origin.asked("low.m3u8").len(), 0);
}

#[tokio::test]
async fn byte_ranges_are_asked_for_and_cut_out_when_ignored() {
    const LIST: &str =
        "#EXTINF:1,\n#EXT-X-BYTERANGE:1504@1504\nall\n#EXTINF:1,\n#EXT-X-BYTERANGE:1504\nall";
    for honours in [true, false] {
        let origin = Origin::start(move |asked| {
            if asked.path == "/a.m3u8" {
                return ok(vod(LIST));
            }
            let all = [ts(1), ts(2), ts(3), ts(4)].concat();
            let range = asked.headers[header::RANGE].to_str().unwrap();
            let (first, last) = range["bytes=".len()..].split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            if !honours {
                return ok(all);
            }
            let mut part = ok(all[first..=last].to_vec());
            *part.status_mut() = StatusCode::PARTIAL_CONTENT;
            let told = format!("bytes {first}-{last}/{}", all.len());
            with(part, header::CONTENT_RANGE, &told)
        })
        .await;
        let rig = rig(&format!("{}/a.m3u8", origin.url));
        rig.to_end().await;
        assert_eq!(rig.recorder.marks(), [2, 3], "honours: {honours}");
    }
}

fn mp4_box(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let size = 8 + payload.len() as u32;
    [&size.to_be_bytes()[..], kind, payload].concat()
}

#[tokio::test]
async fn initialisation_sections_are_fed_when_they_change() {
    let init = |n: u8| [mp4_box(b"ftyp", &[n]), mp4_box(b"moov", &[n; 30])].concat();
    let fragment = |n: u8| [mp4_box(b"moof", &[n; 20]), mp4_box(b"mdat", &[n; 700])].concat();
    let both = [init(1), init(2)].concat();
    let split = init(1).len();
    let list = format!(
        "#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"{split}@0\"\n#EXTINF:1,\n1.m4s\n#EXTINF:1,\n2.m4s\n\
         #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"{split}@{split}\"\n#EXTINF:1,\n3.m4s"
    );
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(&list)),
        "/i.mp4" => ok(both.clone()),
        path => ok(fragment(path.as_bytes()[1] - b'0')),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    let fed: Vec<_> = rig
        .recorder
        .pieces(0)
        .into_iter()
        .map(|piece| (piece.container, piece.init, piece.truncated, piece.data))
        .collect();
    let mp4 = Container::FragmentedMp4;
    assert_eq!(
        fed,
        [
            (mp4, Some(init(1).into()), Some(false), fragment(1)),
            (mp4, None, Some(false), fragment(2)),
            (mp4, Some(init(2).into()), Some(false), fragment(3)),
        ]
    );
    assert_eq!(origin.asked("i.mp4").len(), 2);
}

#[tokio::test]
async fn announced_gaps_are_told_and_not_loaded() {
    let list = "#EXTINF:1,\ns1.ts\n#EXT-X-GAP\n#EXTINF:0.8,\ns2.ts\n#EXTINF:1,\ns3.ts";
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(list)),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [1, 3]);
    let span = Duration::from_millis(800);
    assert!(rig.facts.has(&Fact::AnnouncedGap { span }));
    assert_eq!(origin.asked("s2.ts").len(), 0);
}

#[tokio::test]
async fn compressed_playlists_are_read() {
    let zipped = gzip_stored(vod("#EXTINF:1,\ns1.ts").as_bytes());
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.m3u8" => {
            assert_eq!(asked.headers[header::ACCEPT_ENCODING], "gzip");
            with(ok(zipped.clone()), header::CONTENT_ENCODING, "gzip")
        }
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [1]);
}

/// A gzip member (RFC 1952) with one stored block (RFC 1951, 3.2.4).
fn gzip_stored(data: &[u8]) -> Vec<u8> {
    let crc = !data.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    });
    let len = data.len() as u16;
    [
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1][..],
        &len.to_le_bytes(),
        &(!len).to_le_bytes(),
        data,
        &crc.to_le_bytes(),
        &u32::from(len).to_le_bytes(),
    ]
    .concat()
}

#[tokio::test]
async fn redirects_are_followed_and_relative_uris_hold_from_there() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => redirect("/deep/er/b.m3u8"),
        "/deep/er/b.m3u8" => ok(vod("#EXTINF:1,\n../s5.ts")),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [5]);
}

fn encrypt(key: u8, iv: u128, plain: &[u8]) -> Vec<u8> {
    let (key, iv) = ([key; 16], iv.to_be_bytes());
    cbc::Encryptor::<Aes128>::new(&key.into(), &iv.into()).encrypt_padded_vec::<Pkcs7>(plain)
}

#[tokio::test]
async fn encrypted_segments_with_rotating_keys_and_both_kinds_of_vector() {
    const LIST: &str = "#EXT-X-MEDIA-SEQUENCE:300\n\
        #EXT-X-KEY:METHOD=AES-128,URI=\"k1\"\n#EXTINF:1,\n0.ts\n#EXTINF:1,\n1.ts\n\
        #EXT-X-KEY:METHOD=AES-128,URI=\"k2\",IV=0x09\n#EXTINF:1,\n2.ts\n\
        #EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\ns3.ts";
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(LIST)),
        "/k1" => ok(vec![1; 16]),
        "/k2" => ok(vec![2; 16]),
        "/0.ts" => ok(encrypt(1, 300, &ts(0))),
        "/1.ts" => ok(encrypt(1, 301, &ts(1))),
        "/2.ts" => ok(encrypt(2, 9, &ts(2))),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [0, 1, 2, 3]);
    assert_eq!(origin.asked("k1").len(), 1);
    assert_eq!(rig.facts.causes(), []);
}

#[tokio::test]
async fn wrong_and_short_keys_are_told_as_such() {
    const LIST: &str = "#EXT-X-KEY:METHOD=AES-128,URI=\"wrong\",IV=0x1\n#EXTINF:1,\n1.ts\n\
        #EXT-X-KEY:METHOD=AES-128,URI=\"short\",IV=0x1\n#EXTINF:1,\n2.ts\n\
        #EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\ns4.ts";
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(LIST)),
        "/wrong" => ok(vec![66; 16]),
        "/short" => ok(vec![1; 15]),
        "/s4.ts" => ok(ts(4)),
        _ => ok(encrypt(1, 1, &ts(1))),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [4]);
    let causes = rig.facts.causes();
    assert!(causes.len() >= 2 && causes.iter().all(|cause| *cause == Cause::EncryptedNoKey));
}

#[tokio::test]
async fn bytes_that_are_no_media_do_not_end_an_outage() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(
            "#EXT-X-KEY:METHOD=AES-128,URI=\"wrong\",IV=0x1\n#EXTINF:1,\n1.ts\n\
            #EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\n2.ts",
        )),
        "/wrong" => ok(vec![66; 16]),
        "/1.ts" => ok(encrypt(1, 1, &ts(1))),
        _ => ok("<html>".repeat(1_000)),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert!(!rig.facts.has(&Fact::Input(InputEvent::Receiving)));
}

#[tokio::test]
async fn a_key_that_is_not_given_ends_a_complete_playlist() {
    let segments = "#EXTINF:1,\n1.ts\n".repeat(3);
    let list = format!("#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n{segments}");
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(&list)),
        _ => status(404),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    let end = rig.to_end().await;
    assert_eq!(end.cause, Some(Cause::EncryptedNoKey));
    assert_paced(&origin.asked("key"));
}
