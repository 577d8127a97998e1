//! What healthy streams send: made once, in whole seconds that begin with a key frame.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glasswatch::demo::impair::{PACKET, VIDEO_PID, is_random_access, pid, pmt_pid};
use glasswatch::demo::scene::{Scene, sound};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use tokio::task::JoinHandle;

/// Length made; longer than any test looks.
const SECONDS: u64 = 100;
const SIZE: (usize, usize) = (320, 180);
const PICTURES_A_SEC: u64 = 25;
const RATE_HZ: u64 = 48_000;

static MEDIA: LazyLock<Media> = LazyLock::new(Media::make);

pub struct Media {
    /// PAT and PMT, for readers that join.
    tables: Vec<u8>,
    /// Transport packets of one second each, continuous.
    seconds: Vec<Bytes>,
}

pub fn media() -> &'static Media {
    &MEDIA
}

impl Media {
    /// The packets of second `n`; the programme repeats.
    pub fn second(&self, n: u64) -> &Bytes {
        &self.seconds[n as usize % self.seconds.len()]
    }

    /// Second `n` as a segment of its own.
    pub fn segment(&self, n: u64) -> Bytes {
        [&self.tables[..], self.second(n)].concat().into()
    }

    /// Whether second `n` does not continue the one before it.
    pub fn begins_anew(&self, n: u64) -> bool {
        n > 0 && (n as usize).is_multiple_of(self.seconds.len())
    }

    fn make() -> Self {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(
            "appsrc name=video format=time block=true \
               ! x264enc tune=zerolatency speed-preset=ultrafast trellis=false threads=1 bitrate=250 \
                 key-int-max=25 option-string=scenecut=0 ! h264parse ! mux.sink_65 \
             appsrc name=audio format=time block=true \
               ! audioconvert ! avenc_aac aac-coder=fast bitrate=64000 ! aacparse ! mux.sink_66 \
             mpegtsmux name=mux alignment=7 ! appsink name=out sync=false async=false",
        )
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let source = |name| {
            let element = pipeline.by_name(name).unwrap();
            element.downcast::<gst_app::AppSrc>().unwrap()
        };
        let (video, audio) = (source("video"), source("audio"));
        let out = pipeline.by_name("out").unwrap();
        let out = out.downcast::<gst_app::AppSink>().unwrap();
        let pictures = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", SIZE.0 as i32)
            .field("height", SIZE.1 as i32)
            .field("framerate", gst::Fraction::new(PICTURES_A_SEC as i32, 1));
        video.set_caps(Some(&pictures.build()));
        let samples = gst::Caps::builder("audio/x-raw")
            .field("format", "F32LE")
            .field("layout", "interleaved")
            .field("rate", RATE_HZ as i32)
            .field("channels", 2);
        audio.set_caps(Some(&samples.build()));
        pipeline.set_state(gst::State::Playing).unwrap();
        let sounds = std::thread::spawn(move || {
            let frames = RATE_HZ / PICTURES_A_SEC;
            each_picture(&audio, |n| {
                let samples = sound(n * frames, frames as usize, RATE_HZ as u32);
                samples.iter().flat_map(|s| s.to_le_bytes()).collect()
            });
        });
        let scenes = std::thread::spawn(move || {
            let scene = Scene::new(7);
            each_picture(&video, |n| {
                scene.picture(SIZE.0, SIZE.1, n as f64 / PICTURES_A_SEC as f64)
            });
        });
        let mut packets = Vec::new();
        while let Ok(sample) = out.pull_sample() {
            packets.extend_from_slice(&sample.buffer().unwrap().map_readable().unwrap());
        }
        sounds.join().unwrap();
        scenes.join().unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        Self::cut(&packets)
    }

    fn cut(packets: &[u8]) -> Self {
        let mut tables = [None, None];
        let mut table_pid = None;
        let mut seconds: Vec<Vec<u8>> = Vec::new();
        for packet in packets.chunks_exact(PACKET) {
            let id = pid(packet);
            if id == 0 && tables[0].is_none() {
                tables[0] = Some(packet);
                table_pid = pmt_pid(packet);
            } else if Some(id) == table_pid && tables[1].is_none() {
                tables[1] = Some(packet);
            }
            if id == VIDEO_PID && is_random_access(packet) {
                seconds.push(Vec::new());
            }
            if let Some(second) = seconds.last_mut() {
                second.extend_from_slice(packet);
            }
        }
        assert_eq!(seconds.len() as u64, SECONDS, "one key frame a second");
        Self {
            tables: tables.map(Option::unwrap).concat(),
            seconds: seconds.into_iter().map(Bytes::from).collect(),
        }
    }
}

/// Hands on the programme at its own speed, from second `now - began`, until aborted.
pub fn pace(began: Instant, mut deliver: impl FnMut(&[u8]) + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(40));
        let packets_until = |at: Duration| {
            let second = media().second(at.as_secs());
            let packets = (second.len() / PACKET) as f64;
            (
                at.as_secs(),
                (packets * at.subsec_nanos() as f64 / 1e9) as usize,
            )
        };
        let (mut second, mut sent) = packets_until(began.elapsed());
        loop {
            pace.tick().await;
            let (until_second, until) = packets_until(began.elapsed());
            while second < until_second {
                deliver(&media().second(second)[sent * PACKET..]);
                (second, sent) = (second + 1, 0);
            }
            deliver(&media().second(second)[sent * PACKET..until * PACKET]);
            sent = until;
        }
    })
}

fn each_picture(to: &gst_app::AppSrc, make: impl Fn(u64) -> Vec<u8>) {
    for n in 0..SECONDS * PICTURES_A_SEC {
        let mut buffer = gst::Buffer::from_mut_slice(make(n));
        let step = gst::ClockTime::SECOND / PICTURES_A_SEC;
        let stamps = buffer.get_mut().unwrap();
        stamps.set_pts(gst::ClockTime::from_seconds(10) + step * n);
        stamps.set_duration(step);
        to.push_buffer(buffer).unwrap();
    }
    to.end_of_stream().unwrap();
}
