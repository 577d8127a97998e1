//! Streams, units and little detectors for tests of the lane and its neighbours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use detectors::base::{
    Arrival, Basis, Cause, Cost, Descriptor, Detector, Fact, Gap, Limit, Media, MediaTime, Needs,
    Options, Range, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink, Track, Unit,
};
use gstreamer_video::{VideoFormat, VideoFrame, VideoInfo};

use super::{Outlet, Sample, Tap};
use crate::alert::{Announced, Transition};
use crate::config::{self, Secret};
use crate::ingest::{Content, OwnedUnit, PictureBuffer, SoundBuffer};

pub fn needs(scope: Scope, cost: Cost) -> Needs {
    Needs {
        scope,
        cost,
        media: true,
    }
}

const fn signal(name: &'static str, basis: Basis) -> Signal {
    Signal {
        name,
        unit: "codes",
        range: (-1e12, 1e12),
        basis,
        help: "For tests.",
    }
}

/// Emits the first luma sample; panics at 13.
pub static LUMA: Descriptor = Descriptor {
    name: "luma",
    doc: "",
    needs: Needs {
        scope: Scope::VideoTrack,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &[signal("luma_codes", Basis::Media)],
    rules: &[],
    options: &[],
    list: None,
    build: |_| Box::new(Luma(&LUMA)),
};

/// The same, dear, and without the fear of 13.
pub static COSTLY: Descriptor = Descriptor {
    name: "costly",
    doc: "",
    needs: Needs {
        scope: Scope::VideoTrack,
        cost: Cost::Costly,
        media: true,
    },
    signals: &[signal("costly_codes", Basis::Media)],
    rules: &[],
    options: &[],
    list: None,
    build: |_| Box::new(Luma(&COSTLY)),
};

/// Tells of every unit: its place (ms; facts and ticks too) and gap.
pub static WITNESS: Descriptor = Descriptor {
    name: "witness",
    doc: "",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &[
        signal("picture_ms", Basis::Media),
        signal("sound_ms", Basis::Media),
        signal("fact_ms", Basis::Media),
        signal("tick_ms", Basis::Arrival),
        signal("gap", Basis::Media),
        signal("resets", Basis::Media),
    ],
    rules: &[],
    options: &[],
    list: None,
    build: |_| Box::new(Witness { resets: 0 }),
};

/// Plays the loss detector: brightness of the last sound sample is the overdue ratio, on every tick.
pub static LOSS: Descriptor = Descriptor {
    name: "loss",
    doc: "",
    needs: Needs {
        scope: Scope::Stream,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &[signal("input_overdue_ratio", Basis::Arrival)],
    rules: &[],
    options: &[],
    list: None,
    build: |_| Box::new(Loss(0.0)),
};

struct Luma(&'static Descriptor);

impl Detector for Luma {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        if let Media::Video(picture) = unit.media {
            let code = picture.luma().at_8bit(0, 0);
            assert!(code != 13 || self.0.name != "luma", "thirteen, on purpose");
            if let Some(signal) = self.0.signals.first() {
                out.put(signal, Reading::measured(f64::from(code)));
            }
        }
    }
    fn reset(&mut self, _: Reset) {}
}

struct Witness {
    resets: u32,
}

impl Detector for Witness {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let ms = unit
            .at
            .media
            .map_or(-1.0, |m| (m.nanos() / 1_000_000) as f64);
        let which = match unit.media {
            Media::Video(_) => 0,
            Media::Audio(_) => 1,
            Media::Fact(_) => 2,
            Media::Tick => 3,
        };
        let put = |out: &mut Sink<'_>, at: usize, value: f64| match unit.track {
            Some(track) => out.put_on(track, &WITNESS.signals[at], Reading::measured(value)),
            None => out.put(&WITNESS.signals[at], Reading::measured(value)),
        };
        put(out, which, ms);
        let gap = match unit.at.gap {
            Gap::None => 0.0,
            Gap::Discontinuity => -1.0,
            Gap::WeDropped(n) => f64::from(n),
        };
        if which < 2 && gap != 0.0 {
            put(out, 4, gap);
        }
        if self.resets > 0 {
            put(out, 5, f64::from(self.resets));
            self.resets = 0;
        }
    }
    fn reset(&mut self, _: Reset) {
        self.resets += 1;
    }
}

struct Loss(f64);

impl Detector for Loss {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match unit.media {
            Media::Audio(sound) => {
                self.0 = sound.samples().last().map_or(0.0, |s| f64::from(*s));
            }
            Media::Tick => out.put(
                &LOSS.signals[0],
                Reading::measured(self.0).cause(Cause::PeerClosed),
            ),
            _ => {}
        }
    }
    fn reset(&mut self, _: Reset) {}
}

/// Raises at 200 codes, clears at 100.
pub fn bright(signal: &'static str, hold_ms: u64, severity: Severity) -> RuleSpec {
    RuleSpec {
        name: "bright",
        signal,
        raise: Limit::AtLeast(200.0),
        clear: Limit::AtMost(100.0),
        hold: Duration::from_millis(hold_ms),
        release: Duration::ZERO,
        severity,
        cause: Cause::PictureDamage,
        says: "The picture glares.",
    }
}

pub fn stream(detectors: &[(&'static Descriptor, &[RuleSpec])]) -> config::Stream {
    config::Stream {
        id: Arc::from("one"),
        labels: BTreeMap::from([("site".to_owned(), "north".to_owned())]),
        input: config::Input {
            url: Secret::new("file:///none"),
            protocol: config::Protocol::File,
            headers: Vec::new(),
            rendition: config::Rendition::Highest,
            program: None,
            rtsp: config::Rtsp::default(),
            srt: config::Srt {
                mode: config::SrtMode::Caller,
                passphrase: None,
                stream_id: None,
                latency: Duration::ZERO,
            },
            jitter: Duration::ZERO,
            interface: None,
            content_keys: Default::default(),
            licence: Default::default(),
            allow_private: false,
            visible_after: None,
            page_after: None,
            limits: config::Limits::default(),
            decode: config::Decode::default(),
            pace: config::Pace::Fast,
        },
        reference: None,
        reference_token: None,
        expect: config::Expect {
            video: None,
            audio: None,
        },
        detectors: detectors
            .iter()
            .map(|(descriptor, rules)| config::DetectorConfig {
                descriptor,
                options: Options::defaults(descriptor.options),
                rules: rules.to_vec(),
            })
            .collect(),
        blind_after: Duration::from_secs(10),
        expected: Vec::new(),
        quiet_tracks: Vec::new(),
        evidence: true,
    }
}

/// A picture of one colour: component codes at the format's own depth.
pub fn picture_of(
    format: VideoFormat,
    width: u32,
    height: u32,
    codes: [u16; 3],
    range: Range,
) -> PictureBuffer {
    use gstreamer_video::prelude::*;
    gstreamer::init().unwrap();
    let info = VideoInfo::builder(format, width, height).build().unwrap();
    let buffer = gstreamer::Buffer::with_size(info.size()).unwrap();
    let mut frame = VideoFrame::from_buffer_writable(buffer, &info).unwrap();
    let description = frame.format_info();
    for component in 0..description.n_components() {
        let at = component as usize;
        let deep = description.depth()[at] > 8;
        let code = codes[at] << description.shift()[at];
        let (stride, step) = (
            frame.comp_stride(component) as usize,
            frame.comp_pstride(component) as usize,
        );
        let (columns, rows) = (
            frame.comp_width(component) as usize,
            frame.comp_height(component) as usize,
        );
        // The offset of Cr in P010 and its kin is wrong by one byte in GStreamer 1.22.
        let offset = frame.comp_poffset(component) as usize;
        let offset = if deep {
            offset.next_multiple_of(2)
        } else {
            offset
        };
        let plane = frame.comp_plane(component);
        let data = &mut frame.plane_data_mut(plane).unwrap()[offset..];
        for row in 0..rows {
            if !deep && step == 1 {
                data[row * stride..row * stride + columns].fill(code as u8);
                continue;
            }
            for column in 0..columns {
                let from = row * stride + column * step;
                if deep {
                    data[from..from + 2].copy_from_slice(&code.to_le_bytes());
                } else {
                    data[from] = code as u8;
                }
            }
        }
    }
    let bits = description.depth()[0] as u8;
    let frame = VideoFrame::from_buffer_readable(frame.into_buffer(), &info).unwrap();
    PictureBuffer { frame, bits, range }
}

pub fn grey(code: u8) -> PictureBuffer {
    let codes = [u16::from(code), 128, 128];
    picture_of(VideoFormat::I420, 32, 32, codes, Range::Limited)
}

pub fn unit(track: Option<Track>, media_ms: Option<i64>, content: Content) -> OwnedUnit {
    OwnedUnit {
        media: media_ms.map(MediaTime::from_millis),
        arrival: Arrival::from_millis(media_ms.unwrap_or(0).max(0) as u64),
        discontinuity: false,
        dropped: 0,
        track,
        content,
    }
}

pub fn picture(index: u8, media_ms: i64, code: u8) -> OwnedUnit {
    let content = Content::Picture(grey(code));
    unit(Some(Track::video(index)), Some(media_ms), content)
}

/// A block of 1000 Hz sound, `len_ms` long, of one level.
pub fn sound(index: u8, media_ms: i64, len_ms: usize, level: f32) -> OwnedUnit {
    let content = Content::Sound(SoundBuffer {
        samples: vec![level; len_ms],
        channels: 1,
        rate_hz: 1000,
    });
    unit(Some(Track::audio(index)), Some(media_ms), content)
}

pub fn fact(track: Option<Track>, media_ms: Option<i64>, fact: Fact) -> OwnedUnit {
    unit(track, media_ms, Content::Fact(fact))
}

/// Takes everything, and shows it.
#[derive(Default)]
pub struct Journal {
    pub transitions: Mutex<Vec<Transition>>,
    pub announced: Mutex<Vec<Announced>>,
    pub refusing: std::sync::atomic::AtomicBool,
}

impl Outlet for Journal {
    fn transition(&self, transition: Transition) -> Result<(), Transition> {
        if self.refusing.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(transition);
        }
        self.transitions.lock().unwrap().push(transition);
        Ok(())
    }

    fn announce(&self, mark: Announced) {
        self.announced.lock().unwrap().push(mark);
    }
}

impl Journal {
    pub fn ids(&self) -> Vec<String> {
        let transitions = self.transitions.lock().unwrap();
        transitions
            .iter()
            .map(|t| format!("{:?} {}", t.change, t.defect.id))
            .collect()
    }
}

/// Writes every reading down as a line.
pub fn recorder() -> (Tap, Arc<Mutex<Vec<String>>>) {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let pen = Arc::clone(&lines);
    let tap: Tap = Arc::new(move |sample: &Sample<'_>| {
        let track = sample.track.map(|t| t.to_string()).unwrap_or_default();
        let line = format!(
            "{} {track} {:?} @{}",
            sample.signal.name,
            sample.reading.value,
            sample.at.arrival.nanos() / 1_000_000
        );
        pen.lock().unwrap().push(line);
    });
    (tap, lines)
}
