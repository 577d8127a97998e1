//! What the tests share: an intake that remembers, streams from URLs, media from encoders.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use detectors::base::{
    Evidence, Fact, Format, InputEvent, Kind, MediaTime, Track, TrackInfo, VideoFormat,
};
use glasswatch::config::{
    Decode, Expect, Input, Limits, Pace, Protocol, Rendition, Secret, Srt, SrtMode, Stream,
};
use glasswatch::ingest::source::SourceContext;
use glasswatch::ingest::stats::Stats;
use glasswatch::ingest::{Content, Intake, OwnedUnit, Pushed, Running, spawn, teardown};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video::prelude::*;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything that must happen.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What is remembered of a unit.
#[derive(Debug, Clone)]
pub struct Seen {
    pub media: Option<MediaTime>,
    pub track: Option<Track>,
    pub discontinuity: bool,
    pub dropped: u32,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// Mean luma (8 bit) of the first row.
    Picture {
        luma: u8,
    },
    Sound {
        frames: usize,
        peak: f32,
    },
    Fact(Fact),
}

#[derive(Default)]
pub struct Sink {
    seen: Mutex<Vec<Seen>>,
    more: Condvar,
}

impl Intake for Sink {
    fn push(&self, unit: OwnedUnit) -> Pushed {
        let what = match unit.content {
            Content::Picture(p) => {
                let data = p.frame.plane_data(0).unwrap();
                let width = p.frame.info().width() as usize;
                let luma = if p.bits == 8 {
                    data[..width].iter().map(|b| u64::from(*b)).sum::<u64>() / width as u64
                } else {
                    let row = data[..2 * width].chunks_exact(2);
                    let sum = row
                        .map(|b| u64::from(u16::from_le_bytes([b[0], b[1]])))
                        .sum::<u64>();
                    (sum / width as u64) >> (p.bits - 8)
                };
                What::Picture { luma: luma as u8 }
            }
            Content::Sound(s) => What::Sound {
                frames: s.samples.len() / s.channels,
                peak: s.samples.iter().fold(0.0, |m, v| v.abs().max(m)),
            },
            Content::Fact(fact) => What::Fact(fact),
            Content::Tick => return Pushed::Queued,
        };
        self.seen.lock().unwrap().push(Seen {
            media: unit.media,
            track: unit.track,
            discontinuity: unit.discontinuity,
            dropped: unit.dropped,
            what,
        });
        self.more.notify_all();
        Pushed::Queued
    }
}

/// Holds decoders up at their first picture until it is opened.
pub struct Gate {
    pub sink: Arc<Sink>,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn before(sink: &Arc<Sink>) -> Arc<Self> {
        Arc::new(Self {
            sink: Arc::clone(sink),
            open: Mutex::new(false),
            opened: Condvar::new(),
        })
    }

    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Intake for Gate {
    fn push(&self, unit: OwnedUnit) -> Pushed {
        if matches!(unit.content, Content::Picture(_)) {
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }
        self.sink.push(unit)
    }
}

impl Sink {
    /// Waits until `check` holds of everything seen so far.
    pub fn wait(&self, what: &str, check: impl Fn(&[Seen]) -> bool) {
        let until = Instant::now() + DEADLINE;
        let mut seen = self.seen.lock().unwrap();
        while !check(&seen) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited in vain for {what}: {}",
                digest(&seen)
            );
            seen = self.more.wait_timeout(seen, left).unwrap().0;
        }
    }

    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn clear(&self) {
        self.seen.lock().unwrap().clear();
    }
}

/// A short account for failing tests.
pub fn digest(seen: &[Seen]) -> String {
    let facts = seen
        .iter()
        .filter(|s| !matches!(s.what, What::Fact(Fact::Input(InputEvent::Receiving))))
        .filter(|s| matches!(s.what, What::Fact(_)))
        .take(40)
        .map(|s| format!("{:?}", s.what))
        .collect::<Vec<_>>();
    format!(
        "{} pictures, {} frames of sound; {facts:#?}",
        pictures(seen, 0).len(),
        frames(seen, 0)
    )
}

/// Media times of a picture track.
pub fn pictures(seen: &[Seen], index: u8) -> Vec<Option<MediaTime>> {
    let of =
        |s: &&Seen| s.track == Some(Track::video(index)) && matches!(s.what, What::Picture { .. });
    seen.iter().filter(of).map(|s| s.media).collect()
}

/// Sample frames of a sound track.
pub fn frames(seen: &[Seen], index: u8) -> usize {
    seen.iter()
        .filter(|s| s.track == Some(Track::audio(index)))
        .map(|s| match s.what {
            What::Sound { frames, .. } => frames,
            _ => 0,
        })
        .sum()
}

pub fn facts(seen: &[Seen]) -> impl Iterator<Item = (Option<Track>, &Fact)> {
    seen.iter().filter_map(|s| match &s.what {
        What::Fact(fact) => Some((s.track, fact)),
        _ => None,
    })
}

pub fn events(seen: &[Seen]) -> Vec<InputEvent> {
    facts(seen)
        .filter_map(|(_, f)| match f {
            Fact::Input(event) => Some(event.clone()),
            _ => None,
        })
        .collect()
}

pub fn ended(seen: &[Seen]) -> bool {
    events(seen).contains(&InputEvent::Ended)
}

pub fn cause(seen: &[Seen]) -> Option<detectors::base::Cause> {
    events(seen).into_iter().find_map(|e| match e {
        InputEvent::Failed { cause } => Some(cause),
        _ => None,
    })
}

pub fn evidence(seen: &[Seen]) -> Vec<(Option<Track>, Evidence)> {
    facts(seen)
        .filter_map(|(track, f)| match f {
            Fact::Evidence(e) => Some((track, e.clone())),
            _ => None,
        })
        .collect()
}

pub fn tracks(seen: &[Seen]) -> Vec<TrackInfo> {
    facts(seen)
        .filter_map(|(_, f)| match f {
            Fact::Tracks(t) => Some(t.clone()),
            _ => None,
        })
        .last()
        .unwrap_or_default()
}

pub fn video_formats(seen: &[Seen]) -> Vec<VideoFormat> {
    facts(seen)
        .filter_map(|(_, f)| match f {
            Fact::Format(Format::Video(v)) => Some(v.clone()),
            _ => None,
        })
        .collect()
}

/// Asserts that media times of every track only grow.
pub fn assert_monotone(seen: &[Seen]) {
    for kind in [Kind::Video, Kind::Audio] {
        for index in 0..4 {
            let of = seen.iter().filter(|s| {
                s.track == Some(Track { kind, index }) && !matches!(s.what, What::Fact(_))
            });
            let times = of
                .map(|s| s.media.expect("a media time"))
                .collect::<Vec<_>>();
            let back = times.windows(2).find(|w| w[1] <= w[0]);
            assert_eq!(back, None, "{kind:?} {index}");
        }
    }
}

pub fn input(url: &str, protocol: Protocol) -> Input {
    Input {
        url: Secret::new(url),
        protocol,
        headers: Vec::new(),
        rendition: Rendition::Highest,
        program: None,
        rtsp: Default::default(),
        srt: Srt {
            mode: SrtMode::Caller,
            passphrase: None,
            stream_id: None,
            latency: Duration::from_millis(120),
        },
        jitter: Duration::from_millis(100),
        interface: None,
        content_keys: Default::default(),
        licence: Default::default(),
        allow_private: true,
        visible_after: None,
        page_after: None,
        limits: Limits::default(),
        decode: Decode::default(),
        pace: Pace::Fast,
    }
}

pub fn file_url(path: &Path) -> String {
    url::Url::from_file_path(path).unwrap().to_string()
}

/// A running input and what came out of it.
pub struct Watched {
    pub sink: Arc<Sink>,
    pub stats: Arc<Stats>,
    pub running: Running,
}

pub fn context(input: Input) -> (SourceContext, Arc<Sink>, Arc<Stats>) {
    let sink = Arc::new(Sink::default());
    let stats = Arc::new(Stats::default());
    let stream = Stream {
        id: "test".into(),
        labels: Default::default(),
        input,
        reference: None,
        reference_token: None,
        expect: Expect {
            video: None,
            audio: None,
        },
        detectors: Vec::new(),
        blind_after: Duration::from_secs(10),
        expected: Vec::new(),
        quiet_tracks: Vec::new(),
        evidence: false,
    };
    let context = SourceContext {
        stream: Arc::new(stream),
        intake: Arc::clone(&sink) as Arc<dyn Intake>,
        stats: Arc::clone(&stats),
        cancel: CancellationToken::new(),
    };
    (context, sink, stats)
}

pub fn watch(input: Input) -> Watched {
    let (context, sink, stats) = context(input);
    let running = spawn(context);
    Watched {
        sink,
        stats,
        running,
    }
}

/// A runtime like the product's, which outlives the pipelines of its test.
pub struct Runtime(tokio::runtime::Runtime);

impl std::ops::Deref for Runtime {
    type Target = tokio::runtime::Runtime;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        teardown::wait(teardown::DEADLINE);
    }
}

pub fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    Runtime(runtime.unwrap())
}

/// Plays a file to its end.
pub fn play(path: &Path) -> Vec<Seen> {
    play_with(input(&file_url(path), Protocol::File))
}

pub fn play_with(input: Input) -> Vec<Seen> {
    let runtime = runtime();
    let _inside = runtime.enter();
    let watched = watch(input);
    watched.sink.wait("the end", ended);
    watched.sink.all()
}

/// Runs a GStreamer description to its end.
pub fn make(description: &str) {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(description).unwrap_or_else(|e| panic!("{description}: {e}"));
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let limit = gst::ClockTime::from_seconds(60);
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(Some(limit), &kinds);
    pipeline.set_state(gst::State::Null).unwrap();
    let message = message.unwrap_or_else(|| panic!("{description}: no end"));
    if let gst::MessageView::Error(e) = message.view() {
        panic!("{description}: {} {:?}", e.error(), e.debug());
    }
}

/// Moving test pictures, raw.
pub fn video(n: u32, size: (u32, u32), rate: u32) -> String {
    format!(
        "videotestsrc num-buffers={n} pattern=smpte horizontal-speed=4 ! video/x-raw,format=I420,width={},height={},framerate={rate}/1",
        size.0, size.1
    )
}

/// A tone: `n` buffers of 1024 frames at 48 kHz.
pub fn tone(n: u32) -> String {
    format!(
        "audiotestsrc num-buffers={n} samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2"
    )
}

pub const X264: &str =
    "x264enc key-int-max=25 bframes=2 threads=1 speed-preset=ultrafast b-pyramid=false";

/// A pipeline that sends until it is dropped.
pub struct Sender(gst::Element);

impl Sender {
    pub fn start(description: &str) -> Self {
        gst::init().unwrap();
        let pipeline =
            gst::parse::launch(description).unwrap_or_else(|e| panic!("{description}: {e}"));
        pipeline.set_state(gst::State::Playing).unwrap();
        Self(pipeline)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}
