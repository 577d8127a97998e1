//! A ladder of renditions that are really decoded, shared with the DASH tests.

use std::sync::LazyLock;

use axum::response::Response;
use glasswatch::app::analyze::{Analysis, Extras, analyze};
use glasswatch::config;
use glasswatch::demo::impair::{PACKET, VIDEO_PID, is_random_access, pid};
use glasswatch::demo::scene::Scene;
use glasswatch::lane::pool::Pool;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::media::{X264, tone};
use crate::rig::{ok, status, vod};

/// Pictures of each rendition, 25 a second.
pub const PICTURES: u64 = 250;
/// The lowest stands still from this picture on.
const STILL_FROM: u64 = 100;
/// Seconds, each a segment.
pub const SECS: u64 = PICTURES / 25;

/// A rendition: where it lies, its size, bandwidth and what it is called in alerts.
pub const LADDER: [(&str, (u32, u32), u32, &str); 3] = [
    ("high", (384, 216), 900_000, "216p@900k"),
    ("mid", (320, 180), 500_000, "180p@500k"),
    ("low", (256, 144), 200_000, "144p@200k"),
];

/// Segments of a rendition, each beginning with a key frame.
static SEGMENTS: LazyLock<Vec<Vec<Vec<u8>>>> = LazyLock::new(|| {
    let all = LADDER.into_iter();
    all.map(|(name, size, ..)| segments(name, size)).collect()
});

fn segments(name: &str, (width, height): (u32, u32)) -> Vec<Vec<u8>> {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=video format=time block=true caps=video/x-raw,format=I420,width={width},height={height},framerate=25/1 \
           ! {X264} option-string=scenecut=0 ! h264parse ! mux.sink_65 \
         {} ! avenc_aac ! aacparse ! mux.sink_66 \
         mpegtsmux name=mux ! appsink name=out sync=false async=false",
        tone(u32::try_from(SECS * 48_000 / 1_024).unwrap()),
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let element = |name| pipeline.by_name(name).unwrap();
    let video = element("video").downcast::<gst_app::AppSrc>().unwrap();
    let out = element("out").downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let still_from = if name == "low" { STILL_FROM } else { PICTURES };
    let drawing = std::thread::spawn(move || {
        let scene = Scene::new(7);
        for n in 0..PICTURES {
            let shown = n.min(still_from) as f64 / 25.0;
            let picture = scene.picture(width as usize, height as usize, shown);
            let mut buffer = gst::Buffer::from_mut_slice(picture);
            let stamps = buffer.get_mut().unwrap();
            stamps.set_pts(gst::ClockTime::from_mseconds(40) * n);
            stamps.set_duration(gst::ClockTime::from_mseconds(40));
            video.push_buffer(buffer).unwrap();
        }
        video.end_of_stream().unwrap();
    });
    let mut all = Vec::new();
    while let Ok(sample) = out.pull_sample() {
        all.extend_from_slice(&sample.buffer().unwrap().map_readable().unwrap());
    }
    drawing.join().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let mut segments: Vec<Vec<u8>> = Vec::new();
    let mut before = Vec::new();
    for packet in all.chunks_exact(PACKET) {
        if pid(packet) == VIDEO_PID && is_random_access(packet) {
            segments.push(std::mem::take(&mut before));
        }
        segments
            .last_mut()
            .unwrap_or(&mut before)
            .extend_from_slice(packet);
    }
    assert_eq!(segments.len() as u64, SECS, "a key frame each second");
    segments
}

/// `/NAME/sN.ts`, from 1.
pub fn segment(path: &str) -> Response {
    let found = LADDER
        .iter()
        .position(|(name, ..)| path.starts_with(&format!("/{name}/")));
    let number = path
        .rsplit_once("/s")
        .and_then(|(_, n)| n.strip_suffix(".ts")?.parse().ok());
    match (found, number) {
        (Some(of), Some(number @ 1..=SECS)) => ok(SEGMENTS[of][number as usize - 1].clone()),
        _ => status(404),
    }
}

/// The playlist of every rendition.
pub fn playlist() -> Response {
    let lines = (1..=SECS).map(|n| format!("#EXTINF:1,\ns{n}.ts"));
    ok(vod(&lines.collect::<Vec<_>>().join("\n")))
}

/// Makes the media, which takes a while.
pub async fn ready() {
    let made = tokio::task::spawn_blocking(|| LazyLock::force(&SEGMENTS));
    made.await.unwrap();
}

/// Runs all detectors over the renditions that the rule picks.
pub async fn analysed(url: &str, rule: &str) -> Analysis {
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let sets = [set("allow_private", "true"), set("rendition", rule)];
    let stream = config::one_stream(url, &sets, None).unwrap();
    let pool = Pool::new(1).unwrap();
    ready().await;
    analyze(stream, &pool, Extras::default()).await.unwrap()
}
