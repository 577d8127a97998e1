//! Lists that are odd, bodies that are bombs, connections that are kept, and an origin that fails for everybody.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::header;
use detectors::base::{Cause, Kind};
use glasswatch::ingest::convert::Container;
use glasswatch::ingest::source::http;

use crate::rig::*;

#[tokio::test]
async fn key_pictures_alone_are_named_at_once() {
    let list = vod("#EXT-X-I-FRAMES-ONLY\n#EXTINF:2,\n#EXT-X-BYTERANGE:700@0\ns1.ts");
    let master = "#EXTM3U\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=9,URI=\"a.m3u8\"\n";
    for body in [list, master.to_owned()] {
        let origin = Origin::start(move |_| ok(body.clone())).await;
        let rig = rig(&format!("{}/a.m3u8", origin.url));
        let began = Instant::now();
        rig.until("a name", |rig| !rig.facts.causes().is_empty())
            .await;
        assert!(began.elapsed() < Duration::from_secs(2));
        assert_eq!(rig.facts.causes()[0], Cause::PlaylistInvalid);
        assert_eq!(origin.asked("s1.ts").len(), 0);
    }
}

fn mp4_box(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let size = 8 + payload.len() as u32;
    [&size.to_be_bytes()[..], kind, payload].concat()
}

#[tokio::test]
async fn containers_may_be_mixed_and_subtitles_are_left_alone() {
    const MASTER: &str = "#EXTM3U\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"e\",LANGUAGE=\"en\",URI=\"en.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"v\",LANGUAGE=\"en\",URI=\"webvtt.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"i\",LANGUAGE=\"de\",URI=\"imsc1.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO=\"a\",SUBTITLES=\"s\"\nmain.m3u8\n";
    let init = [mp4_box(b"ftyp", &[1]), mp4_box(b"moov", &[1; 30])].concat();
    let fragment = [mp4_box(b"moof", &[2; 20]), mp4_box(b"mdat", &[2; 700])].concat();
    let sound = fragment.clone();
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/m.m3u8" => ok(MASTER),
        "/main.m3u8" => ok(vod("#EXTINF:1,\ns1.ts\n#EXTINF:1,\ns2.ts")),
        "/en.m3u8" => ok(vod("#EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:2,\n1.m4s")),
        "/i.mp4" => ok(init.clone()),
        "/1.m4s" => ok(sound.clone()),
        path if path.ends_with(".m3u8") => status(404),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/m.m3u8", origin.url));
    let end = rig.to_end().await;
    assert_eq!(end.cause, None);
    assert_eq!(rig.facts.causes(), []);
    let english = (Some(Kind::Audio), Some("en".to_owned()));
    assert_eq!(
        *rig.recorder.inputs.lock().unwrap(),
        [(None, None), english]
    );
    assert_eq!(rig.recorder.marks(), [1, 2]);
    let sound = &rig.recorder.pieces(1)[0];
    assert_eq!(
        (sound.container, &sound.data),
        (Container::FragmentedMp4, &fragment)
    );
    assert_eq!(
        origin.asked("webvtt").len() + origin.asked("imsc1").len(),
        0
    );
}

/// A gzip member (RFC 1952) that grows to about `size` bytes of `#EXTM3U` and noughts, a hundredfold.
fn bomb(size: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    let mut least_first = |value: u32, count: u32| {
        bits.extend((0..count).map(|n| value >> n & 1 == 1));
    };
    // Stored block with the head of a playlist (RFC 1951, 3.2.4).
    let head = b"#EXTM3U\n0";
    least_first(0, 8);
    for half in [head.len() as u32, !(head.len() as u32) & 0xffff] {
        least_first(half, 16);
    }
    for byte in head {
        least_first(u32::from(*byte), 8);
    }
    // Block of fixed codes (3.2.6): length 258 at distance 1, over and over, and the end of the block.
    least_first(0b011, 3);
    for _ in 0..size / 258 {
        bits.extend([1, 1, 0, 0, 0, 1, 0, 1].map(|bit| bit == 1));
        bits.extend([false; 5]);
    }
    bits.extend([false; 7]);
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for byte in bits.chunks(8) {
        out.push((0..8).fold(0, |sum, n| sum | u8::from(byte.get(n) == Some(&true)) << n));
    }
    // The check sum is never reached.
    out.extend([0; 8]);
    out
}

#[tokio::test]
async fn compressed_bombs_are_cut_at_their_size_in_the_clear() {
    let zipped = bomb(200 << 20);
    assert!(zipped.len() < 2 << 20);
    let origin = Origin::start(move |_| {
        let answer = with(ok(zipped.clone()), header::CONTENT_ENCODING, "gzip");
        with(
            answer,
            header::CONTENT_TYPE,
            "application/vnd.apple.mpegurl",
        )
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.until("a name", |rig| !rig.facts.causes().is_empty())
        .await;
    assert_eq!(rig.facts.causes()[0], Cause::TooLarge);
}

/// Takes one connection, sends the beginning of an endless body, and tells when the client lets go.
fn peer_that_vanishes() -> (u16, std::thread::JoinHandle<Duration>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let waiting = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n";
        stream.write_all(&[&head[..], &ts(1)].concat()).unwrap();
        let began = Instant::now();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // Zero bytes, or a reset: either way it is gone.
        let _ = stream.read(&mut request);
        began.elapsed()
    });
    (port, waiting)
}

#[tokio::test]
async fn the_socket_of_a_peer_that_vanished_is_freed() {
    let (port, waiting) = peer_that_vanishes();
    let rig = rig(&format!("http://127.0.0.1:{port}/live.ts"));
    let end = http::play(
        &rig.cx,
        rig.recorder.clone(),
        async |_, path: &std::path::Path| panic!("{} was to be played", path.display()),
    )
    .await;
    assert_eq!(end.cause, Some(Cause::Timeout));
    let kept = tokio::task::spawn_blocking(|| waiting.join().unwrap())
        .await
        .unwrap();
    // Half a second of patience here; five unless configured.
    assert!(kept < Duration::from_secs(4), "{kept:?}");
}

/// Streams on one origin.
const STREAMS: usize = 40;

#[tokio::test]
async fn streams_that_fail_together_spare_their_origin_and_come_back_one_by_one() {
    let broken = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&broken);
    let origin = Origin::start(move |asked| {
        if fails.load(Ordering::SeqCst) {
            return status(503);
        }
        let name = asked.path.rsplit('/').next().unwrap();
        match name {
            "a.m3u8" => ok(live(asked.since, 4)),
            _ => segment(&asked.path),
        }
    })
    .await;
    let rigs: Vec<_> = (0..STREAMS)
        .map(|n| rig(&format!("{}/{n}/a.m3u8", origin.url)))
        .collect();
    let failed = |rig: &Rig| rig.facts.causes().len();
    let segments = |rig: &Rig| rig.recorder.pieces(0).len();
    let all = async |what: &str, done: &dyn Fn(&Rig) -> bool| {
        let end = Instant::now() + Duration::from_secs(30);
        while !rigs.iter().all(done) {
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let outage = async {
        all("all play", &|rig| segments(rig) >= 2).await;
        let began = Instant::now();
        broken.store(true, Ordering::SeqCst);
        all("all fail", &|rig| failed(rig) >= 4).await;
        let ended = Instant::now();
        let before: Vec<usize> = rigs.iter().map(segments).collect();
        broken.store(false, Ordering::SeqCst);
        let mut back = vec![None; STREAMS];
        while back.contains(&None) {
            assert!(ended.elapsed() < Duration::from_secs(20), "{back:?}");
            for ((rig, before), back) in rigs.iter().zip(&before).zip(&mut back) {
                if back.is_none() && segments(rig) > *before {
                    *back = Some(ended.elapsed());
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for rig in &rigs {
            rig.cx.cancel.cancel();
        }
        let back: Vec<Duration> = back.into_iter().flatten().collect();
        (began, ended, back)
    };
    let playing = rigs.iter().map(|rig| rig.to_the_cancellation());
    let (_, (began, ended, back)) = tokio::join!(futures_util::future::join_all(playing), outage);
    // What was on its way when it began to fail is not the retries'.
    let asked = origin.asked("/");
    let retries = asked
        .iter()
        .filter(|at| **at > began + Duration::from_millis(500) && **at < ended);
    let secs = (ended - began).as_secs_f64() - 0.5;
    let a_second = retries.count() as f64 / secs / STREAMS as f64;
    assert!(a_second <= 2.1, "{a_second} requests a second and stream");
    let (first, last) = (back.iter().min().unwrap(), back.iter().max().unwrap());
    println!("{a_second:.2} requests a second and stream; back after {first:?} to {last:?}");
    assert!(
        *last - *first > Duration::from_millis(500),
        "{first:?} to {last:?}"
    );
    assert!(*last < Duration::from_secs(10), "{last:?}");
}
