//! One URL, one body.

use std::path::Path;
use std::sync::Mutex;

use axum::body::Body;
use axum::http::header;
use detectors::base::{Cause, Fact, InputEvent};
use glasswatch::ingest::convert::Container;
use glasswatch::ingest::source::{Retry, SourceContext, SourceEnd, http};

use crate::rig::*;

async fn no_file(_cx: &SourceContext, path: &Path) -> SourceEnd {
    panic!("{} was to be played", path.display())
}

async fn play(rig: &Rig) -> SourceEnd {
    http::play(&rig.cx, rig.recorder.clone(), no_file).await
}

/// A body without a known length.
fn chunked(bytes: Vec<u8>) -> axum::response::Response {
    let whole = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes)]);
    ok(Body::from_stream(whole))
}

fn mp4_box(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let size = 8 + payload.len() as u32;
    [&size.to_be_bytes()[..], kind, payload].concat()
}

#[tokio::test]
async fn a_file_ends_and_a_live_body_breaks_off() {
    for (path, cause, retry) in [
        ("file", None, Retry::Never),
        ("live", Some(Cause::PeerClosed), Retry::Backoff),
    ] {
        let origin = Origin::start(|asked| match asked.path.as_str() {
            "/file" => ok([ts(1), ts(1)].concat()),
            _ => chunked([ts(1), ts(1)].concat()),
        })
        .await;
        let rig = rig(&format!("{}/{path}", origin.url));
        let end = play(&rig).await;
        assert_eq!((end.cause, end.retry), (cause, retry));
        let piece = &rig.recorder.pieces(0)[0];
        assert_eq!(piece.container, Container::MpegTs);
        assert_eq!(piece.data, [ts(1), ts(1)].concat());
        let ended = rig.facts.has(&Fact::Input(InputEvent::Ended));
        assert_eq!(ended, cause.is_none());
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_truncated_and_told() {
    let origin = Origin::start(|_| hang(&ts(1))).await;
    let rig = rig(&origin.url);
    let end = play(&rig).await;
    assert_eq!(
        (end.cause, end.retry),
        (Some(Cause::Timeout), Retry::Backoff)
    );
    assert_eq!(rig.facts.causes(), [Cause::Timeout]);
    assert_eq!(rig.recorder.pieces(0)[0].truncated, Some(true));
}

#[tokio::test]
async fn a_playlist_under_any_name_is_hls() {
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/watch" => ok(vod("#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts")),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/watch", origin.url));
    assert_eq!(play(&rig).await.cause, None);
    assert_eq!(rig.recorder.marks(), [1, 2]);
}

#[tokio::test]
async fn fragmented_mp4_is_fed_by_whole_fragments() {
    let init = [
        mp4_box(b"ftyp", b"iso6"),
        mp4_box(b"moov", &mp4_box(b"mvex", &[])),
    ]
    .concat();
    let fragment = |n: u8| [mp4_box(b"moof", &[n; 20]), mp4_box(b"mdat", &[n; 9_000])].concat();
    let whole = [init.clone(), fragment(1), fragment(2), fragment(3)].concat();
    let cut = whole.len() - 10;
    let origin = Origin::start(move |_| hang(&whole[..cut])).await;
    let rig = rig(&origin.url);
    assert_eq!(play(&rig).await.cause, Some(Cause::Timeout));
    let pieces = rig.recorder.pieces(0);
    assert_eq!(pieces[0].init.as_deref(), Some(&init[..]));
    let fed: Vec<u8> = pieces.iter().flat_map(|piece| piece.data.clone()).collect();
    assert_eq!(fed, [fragment(1), fragment(2)].concat());
}

#[tokio::test]
async fn what_cannot_be_streamed_is_spooled_and_the_spool_goes_away() {
    let movie = [
        mp4_box(b"ftyp", b"isom"),
        mp4_box(b"mdat", &[7; 40_000]),
        mp4_box(b"moov", &[0; 50]),
    ]
    .concat();
    let served = movie.clone();
    let origin = Origin::start(move |_| ok(served.clone())).await;
    let rig = rig(&origin.url);
    let seen = Mutex::new(None);
    let end = http::play(
        &rig.cx,
        rig.recorder.clone(),
        async |_: &SourceContext, path: &Path| {
            assert_eq!(std::fs::read(path).unwrap(), movie);
            *seen.lock().unwrap() = Some(path.to_owned());
            SourceEnd {
                cause: None,
                retry: Retry::Never,
                detail: String::new(),
            }
        },
    )
    .await;
    assert_eq!(end.cause, None);
    assert!(!seen.lock().unwrap().clone().unwrap().exists());
}

#[tokio::test]
async fn refusals_and_other_bodies_are_told() {
    for (path, cause) in [
        ("gone", Cause::HttpNotFound),
        ("secret", Cause::AuthRefused),
        ("page", Cause::UnsupportedFormat),
        ("away", Cause::RedirectRefused),
    ] {
        let origin = Origin::start(|asked| match asked.path.as_str() {
            "/gone" => status(410),
            "/secret" => with(status(401), header::WWW_AUTHENTICATE, "Basic"),
            "/away" => redirect("file:///etc/passwd"),
            _ => ok("<html></html>"),
        })
        .await;
        let rig = rig(&format!("{}/{path}", origin.url));
        let end = play(&rig).await;
        assert_eq!((end.cause, end.retry), (Some(cause), Retry::Backoff));
        assert_eq!(rig.facts.causes(), [cause]);
    }
}
