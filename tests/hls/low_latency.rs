//! Low-latency HLS: parts are read as they come, completely and once, whatever of the offer is not kept.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use detectors::base::{Cause, Fact, InputEvent, MediaTime};
use glasswatch::demo::impair::{PACKET, VIDEO_PID, pid, pmt_pid};
use glasswatch::ingest::source::{SourceContext, hls};
use glasswatch::ingest::{Content, Intake, OwnedUnit, Pushed, teardown};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::ll_origin::*;
use crate::rig::*;

/// Parts of a made programme: longer than any test looks.
const LENGTH: u64 = 60 * PARTS;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Mp4,
    Ts,
}

fn mp4_box(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let size = 8 + payload.len() as u32;
    [&size.to_be_bytes()[..], kind, payload].concat()
}

/// Parts that carry their number.
fn marked(kind: Kind) -> Programme {
    let part = |n: u64| match kind {
        Kind::Ts => ts(n as u8),
        Kind::Mp4 => [
            mp4_box(b"moof", &[n as u8; 20]),
            mp4_box(b"mdat", &[n as u8; 900]),
        ]
        .concat(),
    };
    let init = [mp4_box(b"ftyp", &[1]), mp4_box(b"moov", &[1; 30])].concat();
    Programme {
        init: (kind == Kind::Mp4).then(|| init.into()),
        parts: (0..LENGTH).map(|n| part(n).into()).collect(),
    }
}

/// The numbers of the parts that were fed to the main input.
fn fed(rig: &Rig, kind: Kind) -> Vec<u64> {
    fed_to(0, rig, kind)
}

fn fed_to(input: usize, rig: &Rig, kind: Kind) -> Vec<u64> {
    let size = marked_size(kind);
    let pieces = rig.recorder.pieces(input);
    let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.data.clone()).collect();
    all.chunks_exact(size)
        .map(|part| u64::from(part[9]))
        .collect()
}

fn marked_size(kind: Kind) -> usize {
    match kind {
        Kind::Ts => ts(0).len(),
        Kind::Mp4 => 8 + 20 + 8 + 900,
    }
}

fn assert_complete(fed: &[u64]) {
    let all = (fed[0]..).take(fed.len()).collect::<Vec<_>>();
    assert_eq!(fed, all);
}

fn ll_rig(origin: &LlOrigin) -> Rig {
    ll_rig_of(origin, "a.m3u8")
}

fn ll_rig_of(origin: &LlOrigin, list: &str) -> Rig {
    rig_with(&format!("{}/{list}", origin.url), |input| {
        input.limits.connect = Duration::from_secs(3);
        input.limits.idle = Duration::from_secs(3);
    })
}

async fn until_fed(rig: &Rig, kind: Kind, parts: usize) -> Vec<u64> {
    rig.until("parts", |rig| fed(rig, kind).len() >= parts)
        .await;
    let fed = fed(rig, kind);
    assert!(fed.len() >= parts);
    fed
}

#[tokio::test]
async fn parts_are_read_near_the_edge_as_they_come_each_once() {
    for (kind, ranges) in [
        (Kind::Mp4, false),
        (Kind::Ts, false),
        (Kind::Mp4, true),
        (Kind::Ts, true),
    ] {
        let what = format!("{kind:?}, ranges: {ranges}");
        let offer = Offer {
            ranges,
            ..Offer::default()
        };
        let origin = LlOrigin::start(marked(kind), offer);
        let rig = ll_rig(&origin);
        let fed = until_fed(&rig, kind, 14).await;
        assert_complete(&fed);
        assert_eq!(rig.facts.causes(), [], "{what}");
        // Three parts behind the edge, where segments would be twelve.
        let there = origin.asked("/a.m3u8")[0].there;
        let behind = there + 1 - fed[0];
        assert!((1..=HOLD_BACK + 1).contains(&behind), "{what}: {behind}");
        // One request for each, of which most went out before the part was there; none for a whole segment.
        let (parts, path) = match ranges {
            false => (origin.asked("/p"), "/s"),
            true => (origin.asked("/s"), "/p"),
        };
        assert_eq!(origin.asked(path).len(), 0, "{what}");
        let different: HashSet<_> = parts.iter().map(|asked| &asked.path).collect();
        assert_eq!(different.len(), parts.len(), "{what}");
        assert!(parts.len() <= fed.len() + 4, "{what}: {}", parts.len());
        let early = fed.iter().filter(|n| {
            let before = |asked: &&Logged| !ranges && asked.path == format!("/p{n}");
            parts.iter().find(before).is_some_and(|a| a.there <= **n)
        });
        assert!(ranges || early.count() >= 5, "{what}");
        // One blocking reload for each, after the first; the list is not sent whole again.
        let lists = origin.asked("/a.m3u8");
        assert!(lists.len() <= fed.len() + 6, "{what}: {}", lists.len());
        let deltas = origin.asked("_HLS_skip=YES").len();
        assert!(deltas + 2 >= lists.len(), "{what}: {deltas} deltas");
        // Parts of a segment are one piece.
        let pieces = rig.recorder.pieces(0);
        assert!(pieces.len() <= fed.len() / 4 + 2, "{what}");
        let ended = &pieces[..pieces.len() - 1];
        assert!(ended.iter().all(|piece| piece.truncated == Some(false)));
        assert!(pieces.iter().all(|piece| !piece.discontinuity));
    }
}

#[tokio::test]
async fn without_blocking_hints_and_deltas_parts_are_read_all_the_same() {
    let offer = Offer {
        blocking: Blocking::No,
        hints: Hints::No,
        deltas: false,
        ..Offer::default()
    };
    let origin = LlOrigin::start(marked(Kind::Mp4), offer);
    let rig = ll_rig(&origin);
    assert_complete(&until_fed(&rig, Kind::Mp4, 14).await);
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(origin.asked("_HLS").len(), 0);
    assert_eq!(origin.asked("/s").len(), 0);
    assert_logged_paced(&origin.asked("/a.m3u8"));
}

fn assert_logged_paced(asked: &[Logged]) {
    assert_paced(&asked.iter().map(|a| a.at).collect::<Vec<_>>());
}

#[tokio::test]
async fn encrypted_parts_are_decrypted_each_by_itself() {
    for kind in [Kind::Mp4, Kind::Ts] {
        let offer = Offer {
            encrypted: true,
            ..Offer::default()
        };
        let mut programme = marked(kind);
        if let Some(init) = programme.init.take() {
            // In the clear, inside the first part of each segment: the key would hold for a map as well.
            for n in (0..LENGTH as usize).step_by(PARTS as usize) {
                programme.parts[n] = [&init[..], &programme.parts[n]].concat().into();
            }
        }
        let origin = LlOrigin::start(programme, offer);
        let rig = ll_rig(&origin);
        rig.until("parts", |rig| rig.recorder.pieces(0).len() >= 4)
            .await;
        assert_eq!(rig.facts.causes(), [], "{kind:?}");
        assert_eq!(origin.asked("/key").len(), 1);
        assert_eq!(origin.asked("/s").len(), 0);
        let pieces = rig.recorder.pieces(0);
        let size = marked_size(kind);
        let whole = &pieces[1];
        assert_eq!(whole.data.len(), size * PARTS as usize);
        let marks = whole.data.chunks(size).map(|part| u64::from(part[9]));
        assert_complete(&marks.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn whole_segments_do_where_parts_are_not_there() {
    let offer = Offer {
        hints: Hints::No,
        lost: |_| true,
        ..Offer::default()
    };
    let origin = LlOrigin::start(marked(Kind::Ts), offer);
    let rig = ll_rig(&origin);
    let fed = until_fed(&rig, Kind::Ts, 5 * PARTS as usize).await;
    assert_complete(&fed);
    assert_eq!(rig.facts.causes(), [Cause::HttpNotFound; 3]);
    // Three are tried, then none any more.
    assert_eq!(origin.asked("/p").len(), 3);
}

#[tokio::test]
async fn a_segment_goes_on_whole_where_one_of_its_parts_is_missing() {
    for (kind, encrypted) in [(Kind::Mp4, false), (Kind::Ts, true)] {
        let offer = Offer {
            encrypted,
            // In other places of their segments.
            lost: |n| n >= BEFORE + 12 && n % 7 == 6,
            ..Offer::default()
        };
        let origin = LlOrigin::start(marked(kind), offer);
        let rig = ll_rig(&origin);
        rig.until("the third loss", |rig| {
            fed(rig, kind).last() >= Some(&(BEFORE + 30))
        })
        .await;
        let fed = fed(&rig, kind);
        assert_complete(&fed);
        let causes = rig.facts.causes();
        assert!(causes.len() >= 2 && causes.iter().all(|c| *c == Cause::HttpNotFound));
        let wholes = origin.asked("/s").len();
        assert!(wholes <= causes.len(), "{wholes}: {causes:?}");
        let pieces = rig.recorder.pieces(0);
        let ended = &pieces[..pieces.len() - 1];
        assert!(ended.iter().all(|piece| piece.truncated == Some(false)));
    }
}

#[tokio::test]
async fn a_server_that_says_it_blocks_and_does_not_is_asked_twice_a_second() {
    let offer = Offer {
        blocking: Blocking::Lie,
        ..Offer::default()
    };
    let origin = LlOrigin::start(marked(Kind::Mp4), offer);
    let rig = ll_rig(&origin);
    let plain = |origin: &LlOrigin| {
        let mut lists = origin.asked("/a.m3u8");
        let last = lists.iter().rposition(|a| a.path.contains("_HLS_msn"));
        lists.split_off(last.map_or(0, |n| n + 1))
    };
    rig.until("plain reloads", |rig| {
        plain(&origin).len() >= 6 && fed(rig, Kind::Mp4).len() >= 14
    })
    .await;
    assert_complete(&fed(&rig, Kind::Mp4));
    assert_eq!(rig.facts.causes(), []);
    let blocking = origin.asked("_HLS_msn").len();
    assert!((3..=12).contains(&blocking), "{blocking}");
    assert_logged_paced(&plain(&origin));
}

#[tokio::test]
async fn a_server_that_never_answers_blocking_reloads_is_asked_without() {
    let offer = Offer {
        blocking: Blocking::Hang,
        ..Offer::default()
    };
    let origin = LlOrigin::start(marked(Kind::Mp4), offer);
    let rig = ll_rig(&origin);
    rig.until("plain reloads", |rig| {
        fed(rig, Kind::Mp4).last() >= Some(&(BEFORE + 28))
    })
    .await;
    assert_complete(&fed(&rig, Kind::Mp4));
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(origin.asked("_HLS_msn").len(), 3);
}

#[tokio::test]
async fn separate_sound_is_read_part_by_part_as_well() {
    let origin = LlOrigin::start(marked(Kind::Ts), Offer::default());
    let rig = ll_rig_of(&origin, "master.m3u8");
    let both = |rig: &Rig| [0, 1].map(|input| fed_to(input, rig, Kind::Ts));
    rig.until("parts of both", |rig| {
        both(rig).iter().all(|fed| fed.len() >= 12)
    })
    .await;
    both(&rig).iter().for_each(|fed| assert_complete(fed));
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(origin.asked("/s").len(), origin.asked("/sound").len());
}

#[tokio::test]
async fn hints_for_what_never_comes_do_no_harm_and_are_soon_ignored() {
    let offer = Offer {
        hints: Hints::Wrong,
        ..Offer::default()
    };
    let origin = LlOrigin::start(marked(Kind::Ts), offer);
    let rig = ll_rig(&origin);
    assert_complete(&until_fed(&rig, Kind::Ts, 16).await);
    assert_eq!(rig.facts.causes(), []);
    assert_eq!(origin.asked("/never").len(), 3);
}

#[tokio::test]
async fn an_origin_that_dies_and_returns_loses_nothing_of_its_window() {
    let origin = RefCell::new(LlOrigin::start(marked(Kind::Mp4), Offer::default()));
    let rig = ll_rig(&origin.borrow());
    let (phase, when_down) = (Cell::new(0), Cell::new(0));
    rig.until("all of it", |rig| {
        let parts = fed(rig, Kind::Mp4).len();
        match phase.get() {
            0 if parts >= 6 => {
                origin.borrow_mut().die();
                phase.set(1);
            }
            1 if rig.facts.causes().contains(&Cause::ConnectFailed) => {
                when_down.set(parts);
                origin.borrow_mut().live();
                phase.set(2);
            }
            _ => {}
        }
        phase.get() == 2 && parts >= when_down.get() + 16
    })
    .await;
    assert_complete(&fed(&rig, Kind::Mp4));
    // Again part by part, and with blocking reloads.
    let last = origin.borrow().asked("").pop().unwrap().path;
    assert!(
        last.contains("_HLS_msn") || last.starts_with("/p"),
        "{last}"
    );
}

#[tokio::test]
async fn a_blocking_playlist_without_news_is_told_and_not_hammered() {
    let offer = Offer {
        frozen_at: BEFORE + 6,
        ..Offer::default()
    };
    let origin = LlOrigin::start(marked(Kind::Mp4), offer);
    let rig = ll_rig(&origin);
    rig.until("three stalls", |rig| rig.facts.causes().len() >= 3)
        .await;
    assert!(
        (rig.facts.causes().iter()).all(|cause| *cause == Cause::PlaylistStalled),
        "{:?}",
        rig.facts.causes()
    );
    let fed = fed(&rig, Kind::Mp4);
    assert_complete(&fed);
    assert_eq!(fed.last(), Some(&(BEFORE + 5)));
    let lists = origin.asked("/a.m3u8");
    let stale: Vec<_> = lists
        .iter()
        .filter(|a| a.there == BEFORE + 6)
        .cloned()
        .collect();
    assert!(stale.len() <= 12, "{}", stale.len());
}

#[tokio::test]
async fn parts_that_are_announced_as_missing_are_told_and_not_asked_for() {
    let offer = Offer {
        hints: Hints::No,
        gap: |n| n == BEFORE + 5,
        ..Offer::default()
    };
    let origin = LlOrigin::start(marked(Kind::Ts), offer);
    let rig = ll_rig(&origin);
    let mut fed = until_fed(&rig, Kind::Ts, 14).await;
    let at = fed.iter().position(|n| *n == BEFORE + 6).unwrap();
    fed.insert(at, BEFORE + 5);
    assert_complete(&fed);
    assert!(rig.facts.has(&Fact::AnnouncedGap { span: PART }));
    assert_eq!(origin.asked(&format!("/p{}", BEFORE + 5)).len(), 0);
    assert_eq!(rig.facts.causes(), []);
}

/// Pictures of a second, and of a part.
const PICTURES: usize = 20;
const PICTURES_OF_PART: usize = 5;

fn encode(mux: &str) -> Vec<u8> {
    gst::init().unwrap();
    let pictures = LENGTH as usize * PICTURES_OF_PART;
    let description = format!(
        "videotestsrc num-buffers={pictures} pattern=ball \
         ! video/x-raw,format=I420,width=96,height=64,framerate={PICTURES}/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max=10 option-string=scenecut=0 \
         ! h264parse ! {mux} ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap();
    let out = out.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut bytes = Vec::new();
    while let Ok(sample) = out.pull_sample() {
        bytes.extend_from_slice(&sample.buffer().unwrap().map_readable().unwrap());
    }
    pipeline.set_state(gst::State::Null).unwrap();
    bytes
}

/// Real pictures in fragments of five.
fn fragments() -> Programme {
    let file = encode("mp4mux fragment-duration=250 streamable=true");
    let (mut init, mut parts) = (Vec::new(), Vec::<Vec<u8>>::new());
    let mut rest = &file[..];
    while let Some(head) = rest.first_chunk::<8>() {
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (own, after) = rest.split_at(size);
        match &head[4..] {
            b"ftyp" | b"moov" => init.extend_from_slice(own),
            b"moof" => parts.push(own.to_vec()),
            b"mdat" => parts.last_mut().unwrap().extend_from_slice(own),
            _ => {}
        }
        rest = after;
    }
    assert_eq!(parts.len() as u64, LENGTH);
    Programme {
        init: Some(init.into()),
        parts: parts.into_iter().map(Bytes::from).collect(),
    }
}

/// Real pictures in transport packets, five pictures a part; each segment begins with its tables.
fn packets() -> Programme {
    let file = encode("mux.sink_65 mpegtsmux name=mux alignment=7 ! identity");
    let (mut tables, mut table_pid) = (Vec::new(), None);
    let (mut parts, mut pictures) = (Vec::<Vec<u8>>::new(), 0);
    for packet in file.chunks_exact(PACKET) {
        if pid(packet) == 0 {
            table_pid = table_pid.or(pmt_pid(packet));
        }
        let is_table = pid(packet) == 0 || Some(pid(packet)) == table_pid;
        if is_table && tables.len() < 2 * PACKET {
            tables.extend_from_slice(packet);
        }
        let is_picture = pid(packet) == VIDEO_PID && packet[1] & 0x40 != 0;
        if is_picture && pictures % PICTURES_OF_PART == 0 {
            let begins = parts.len().is_multiple_of(PARTS as usize);
            parts.push(if begins { tables.clone() } else { Vec::new() });
        }
        pictures += usize::from(is_picture);
        if let Some(part) = parts.last_mut()
            && !is_table
        {
            part.extend_from_slice(packet);
        }
    }
    assert_eq!(parts.len() as u64, LENGTH);
    Programme {
        init: None,
        parts: parts.into_iter().map(Bytes::from).collect(),
    }
}

/// Media times of pictures, and causes.
#[derive(Default)]
struct Screen {
    pictures: Mutex<Vec<MediaTime>>,
    causes: Mutex<Vec<Cause>>,
}

impl Intake for Screen {
    fn push(&self, unit: OwnedUnit) -> Pushed {
        match unit.content {
            Content::Picture(_) => self.pictures.lock().unwrap().extend(unit.media),
            Content::Fact(Fact::Input(InputEvent::Failed { cause })) => {
                self.causes.lock().unwrap().push(cause);
            }
            _ => {}
        }
        Pushed::Queued
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_picture_of_every_part_is_seen_once_on_one_clock() {
    type Row = (&'static str, fn() -> Programme, fn(u64) -> bool);
    let rows: [Row; 3] = [
        ("fMP4", fragments, |_| false),
        ("TS", packets, |_| false),
        ("fMP4, with parts that are not there", fragments, |n| {
            n >= BEFORE + 6 && n % 7 == 6
        }),
    ];
    for (what, make, lost) in rows {
        let programme = tokio::task::spawn_blocking(make).await.unwrap();
        let offer = Offer {
            lost,
            ..Offer::default()
        };
        let origin = LlOrigin::start(programme, offer);
        let screen = Arc::new(Screen::default());
        let cx = SourceContext {
            intake: screen.clone(),
            ..ll_rig(&origin).cx
        };
        let cancel = cx.cancel.clone();
        let playing = tokio::spawn(async move { hls::run(&cx).await });
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let seen = || screen.pictures.lock().unwrap().len();
        while seen() < 4 * PICTURES {
            assert!(tokio::time::Instant::now() < deadline, "{what}: {}", seen());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
        playing.await.unwrap();
        let pictures = screen.pictures.lock().unwrap();
        for pair in pictures.windows(2) {
            let apart = pair[1].secs_after(pair[0]) * PICTURES as f64;
            assert!((apart - 1.0).abs() < 0.01, "{what}: {apart} of a picture");
        }
        let causes = screen.causes.lock().unwrap();
        assert!(
            causes.iter().all(|cause| *cause == Cause::HttpNotFound),
            "{what}: {causes:?}"
        );
    }
    teardown::wait(teardown::DEADLINE);
}
