//! Made-up pictures, sound and units for tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use crate::base::{
    Arrival, BreakEdge, BreakMark, BreakSource, Carry, Cause, Descriptor, Detector, Evidence,
    EvidenceKind, Fact, Gap, InputEvent, Kind, ListsBeside, Media, MediaTime, Options, Picture,
    PicturePrint, PlaylistFault, PlaylistLoad, Print, Range, Reading, Scope, SegmentFate,
    SegmentReport, Signal, Sink, Sound, SoundPrint, Stamp, Track, TsCheck, TsErrors, Unit, Value,
};
use crate::plane::{Chroma, Layout, Plane, Samples};

/// A repeatable source of noise (xorshift).
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// Seeded.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Next 32 bits.
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Roughly normal around 0 with the given deviation.
    pub fn normal(&mut self, deviation: f64) -> f64 {
        let sum: f64 = self
            .bits()
            .to_le_bytes()
            .iter()
            .map(|b| f64::from(*b) / 255.0)
            .sum();
        (sum - 2.0) * 3f64.sqrt() * deviation
    }
}

/// An 8-bit luma picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Samples, row by row without padding.
    pub samples: Vec<u8>,
    /// Samples a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Frame {
    /// One value everywhere.
    pub fn flat(width: usize, height: usize, value: u8) -> Self {
        Self {
            samples: vec![value; width * height],
            width,
            height,
        }
    }

    /// Smooth shapes of mixed contrast, shifted by (`dx`, `dy`) pixels: a scene before a moving camera.
    pub fn scene(width: usize, height: usize, dx: f64, dy: f64) -> Self {
        let mut frame = Self::flat(width, height, 0);
        for y in 0..height {
            for x in 0..width {
                let (u, v) = (x as f64 + dx, y as f64 + dy);
                let value = 120.0
                    + 45.0 * (u / 37.0).sin() * (v / 29.0).cos()
                    + 30.0 * ((u + v) / 11.0).sin()
                    + 12.0 * (u / 5.0).cos() * (v / 7.0).sin();
                frame.samples[y * width + x] = value.clamp(16.0, 235.0) as u8;
            }
        }
        frame
    }

    /// The samples as a plane; `None` for a frame without any.
    pub fn plane(&self) -> Option<Plane<'_>> {
        let samples = Samples::U8(&self.samples);
        Plane::new(samples, self.width, self.height, self.width)
    }

    /// Fills a rectangle, clipped to the picture.
    pub fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, value: u8) {
        for row in y..(y + height).min(self.height) {
            let end = (x + width).min(self.width);
            if x < end {
                self.samples[row * self.width + x..row * self.width + end].fill(value);
            }
        }
    }

    /// Copies a rectangle of another frame of the same size.
    pub fn paste(&mut self, from: &Frame, x: usize, y: usize, width: usize, height: usize) {
        for row in y..(y + height).min(self.height) {
            let span = row * self.width + x..row * self.width + (x + width).min(self.width);
            self.samples[span.clone()].copy_from_slice(&from.samples[span]);
        }
    }

    /// Adds noise.
    pub fn grain(mut self, noise: &mut Noise, deviation: f64) -> Self {
        for v in &mut self.samples {
            *v = (f64::from(*v) + noise.normal(deviation))
                .round()
                .clamp(0.0, 255.0) as u8;
        }
        self
    }

    /// What a keyframe at a low rate leaves: every 8x8 block's samples pulled towards coarse steps, the
    /// rounding shifted by `phase`.
    pub fn coarse(mut self, step: u8, phase: u8) -> Self {
        let step = u16::from(step.max(1));
        for v in &mut self.samples {
            let shifted = u16::from(*v) + u16::from(phase);
            *v = (shifted / step * step + step / 2)
                .saturating_sub(u16::from(phase))
                .min(255) as u8;
        }
        self
    }
}

/// An 8-bit picture in colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Colour {
    /// Luma.
    pub luma: Frame,
    /// Blue difference.
    pub cb: Frame,
    /// Red difference.
    pub cr: Frame,
    /// How often chroma is halved across and down.
    pub halvings: (u8, u8),
}

impl Colour {
    /// 4:2:0 with these codes (Y, Cb, Cr) at every pixel; chroma is that of the upper left of its pixels.
    pub fn of(width: usize, height: usize, codes: impl Fn(usize, usize) -> [u8; 3]) -> Self {
        Self::halved(width, height, (1, 1), codes)
    }

    /// The same with any subsampling.
    pub fn halved(
        width: usize,
        height: usize,
        halvings: (u8, u8),
        codes: impl Fn(usize, usize) -> [u8; 3],
    ) -> Self {
        let frame = |component: usize, (across, down): (u8, u8)| {
            let (w, h) = (width.div_ceil(1 << across), height.div_ceil(1 << down));
            let codes = |i: usize| codes((i % w) << across, (i / w) << down)[component];
            Frame {
                samples: (0..w * h).map(codes).collect(),
                width: w,
                height: h,
            }
        };
        Self {
            luma: frame(0, (0, 0)),
            cb: frame(1, halvings),
            cr: frame(2, halvings),
            halvings,
        }
    }

    /// One colour everywhere.
    pub fn flat(width: usize, height: usize, codes: [u8; 3]) -> Self {
        Self::of(width, height, |_, _| codes)
    }

    /// [`Frame::scene`] in the mild colours of a landscape.
    pub fn scene(width: usize, height: usize, dx: f64) -> Self {
        let luma = Frame::scene(width, height, dx, 0.0);
        let mut scene = Self::of(width, height, |x, y| {
            let u = x as f64 + dx;
            let wave = |period: f64| (u / period).sin() * (y as f64 / period).cos();
            let code = |wide: f64| (128.0 + wide).round() as u8;
            [0, code(24.0 * wave(53.0)), code(20.0 * wave(31.0))]
        });
        scene.luma = luma;
        scene
    }

    /// Adds noise to all components.
    pub fn grain(self, noise: &mut Noise, deviation: f64) -> Self {
        Self {
            luma: self.luma.grain(noise, deviation),
            cb: self.cb.grain(noise, deviation),
            cr: self.cr.grain(noise, deviation),
            ..self
        }
    }

    /// Fills a rectangle with one colour; its corners should be even.
    pub fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, codes: [u8; 3]) {
        self.luma.fill(x, y, width, height, codes[0]);
        let (across, down) = self.halvings;
        for (frame, code) in [(&mut self.cb, codes[1]), (&mut self.cr, codes[2])] {
            frame.fill(
                x >> across,
                y >> down,
                width >> across,
                height >> down,
                code,
            );
        }
    }

    /// The chroma samples; `None` when they are none.
    pub fn chroma(&self) -> Option<Chroma<'_>> {
        let (cb, cr) = (self.cb.plane()?, self.cr.plane()?);
        Chroma::new(Layout::Planar { cb, cr }, self.halvings)
    }
}

/// What is handed to a detector, owned.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A picture.
    Picture(Frame),
    /// A picture in colour.
    Coloured(Colour),
    /// A picture of 16-bit samples, with padding: bytes, bits, width, height, stride.
    Deep(Vec<u8>, u8, usize, usize, usize),
    /// Interleaved sound, channels, rate.
    Sound(Vec<f32>, usize, u32),
    /// A fact.
    Fact(Fact),
    /// A tick.
    Tick,
}

/// A unit, owned.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When.
    pub at: Stamp,
    /// Track.
    pub track: Option<Track>,
    /// What.
    pub item: Item,
}

impl Step {
    /// At a media time in milliseconds, arriving then.
    pub fn at(millis: i64, track: Option<Track>, item: Item) -> Self {
        Self {
            at: Stamp {
                media: Some(MediaTime::from_millis(millis)),
                arrival: Arrival::from_millis(millis.max(0) as u64),
                gap: Gap::None,
            },
            track,
            item,
        }
    }

    /// A picture of the first picture track.
    pub fn picture(millis: i64, frame: Frame) -> Self {
        Self::at(millis, Some(Track::video(0)), Item::Picture(frame))
    }

    /// A picture in colour of the first picture track.
    pub fn coloured(millis: i64, colour: Colour) -> Self {
        Self::at(millis, Some(Track::video(0)), Item::Coloured(colour))
    }

    /// Sound of the first sound track.
    pub fn sound(millis: i64, samples: Vec<f32>, channels: usize, rate_hz: u32) -> Self {
        Self::at(
            millis,
            Some(Track::audio(0)),
            Item::Sound(samples, channels, rate_hz),
        )
    }

    /// A fact.
    pub fn fact(millis: i64, track: Option<Track>, fact: Fact) -> Self {
        Self::at(millis, track, Item::Fact(fact))
    }

    /// With another continuity.
    pub fn gap(mut self, gap: Gap) -> Self {
        self.at.gap = gap;
        self
    }
}

/// One emission.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// Place of the step in the sequence.
    pub step: usize,
    /// Signal name.
    pub signal: &'static str,
    /// Track, when told.
    pub track: Option<Track>,
    /// Reading.
    pub reading: Reading,
}

/// Runs one instance of a detector as a lane does: history per track, and only units in its scope.
pub struct Bench {
    detector: Box<dyn Detector>,
    descriptor: &'static Descriptor,
    carries: Vec<(Track, Carry)>,
    steps: usize,
    /// Everything emitted, unless [`Bench::forget`] is called.
    pub emitted: Vec<Emitted>,
}

impl Bench {
    /// With default options.
    pub fn new(descriptor: &'static Descriptor) -> Self {
        Self::with(descriptor, &Options::defaults(descriptor.options))
    }

    /// With given options.
    pub fn with(descriptor: &'static Descriptor, options: &Options) -> Self {
        Self {
            detector: (descriptor.build)(options),
            descriptor,
            carries: Vec::new(),
            steps: 0,
            emitted: Vec::new(),
        }
    }

    /// The instance.
    pub fn detector(&mut self) -> &mut dyn Detector {
        &mut *self.detector
    }

    /// Forgets what was emitted and the step count.
    pub fn forget(&mut self) {
        self.emitted.clear();
        self.steps = 0;
    }

    /// Forgets the previous pictures, as after a reconnect.
    pub fn drop_history(&mut self) {
        self.carries.clear();
    }

    /// Whether the unit is in the scope of the instance, which watches the first track of its kind.
    fn in_scope(&self, step: &Step) -> bool {
        let own = match self.descriptor.needs.scope {
            Scope::Stream => return true,
            Scope::VideoTrack => Track::video(0),
            Scope::AudioTrack => Track::audio(0),
        };
        match step.item {
            Item::Picture(_) | Item::Coloured(_) | Item::Deep(..) | Item::Sound(..) => {
                step.track == Some(own)
            }
            Item::Fact(_) | Item::Tick => true,
        }
    }

    /// Hands over one unit.
    pub fn step(&mut self, step: &Step) {
        let index = self.steps;
        self.steps += 1;
        if !self.in_scope(step) {
            return;
        }
        let deep;
        let plane = match &step.item {
            Item::Picture(frame) => frame.plane(),
            Item::Coloured(colour) => colour.luma.plane(),
            Item::Deep(bytes, bits, width, height, stride) => {
                deep = Samples::U16Le { bytes, bits: *bits };
                Plane::new(deep, *width, *height, *stride)
            }
            _ => None,
        };
        let track = step.track.unwrap_or(Track::video(0));
        let carry = self
            .carries
            .iter()
            .position(|(t, _)| *t == track)
            .filter(|_| plane.is_some() && step.at.gap != Gap::Discontinuity)
            .map(|i| self.carries.swap_remove(i).1);
        let chroma = match &step.item {
            Item::Coloured(colour) => colour.chroma(),
            _ => None,
        };
        let wrap = |plane| Picture::new(plane, Range::Limited, carry.as_ref()).with_chroma(chroma);
        let picture = plane.map(wrap);
        let sound;
        let media = match &step.item {
            Item::Picture(_) | Item::Coloured(_) | Item::Deep(..) => match &picture {
                Some(picture) => Media::Video(picture),
                None => return,
            },
            Item::Sound(samples, channels, rate) => {
                match Sound::new(samples, *channels, *rate) {
                    Some(s) => sound = s,
                    None => return,
                }
                Media::Audio(&sound)
            }
            Item::Fact(fact) => Media::Fact(fact),
            Item::Tick => Media::Tick,
        };
        let emitted = &mut self.emitted;
        let mut emit = |signal: &'static Signal, track, reading| {
            emitted.push(Emitted {
                step: index,
                signal: signal.name,
                track,
                reading,
            });
        };
        let unit = Unit {
            at: step.at,
            track: step.track,
            media,
        };
        self.detector.observe(&unit, &mut Sink::new(&mut emit));
        if let Some(picture) = picture {
            let carry = picture.into_carry();
            self.carries.retain(|(t, _)| *t != track);
            self.carries.push((track, carry));
        }
    }

    /// Hands over many.
    pub fn run(&mut self, steps: &[Step]) -> &mut Self {
        for step in steps {
            self.step(step);
        }
        self
    }

    /// Newest reading of a signal.
    pub fn newest(&self, signal: &str) -> Option<&Reading> {
        self.emitted
            .iter()
            .rev()
            .find(|e| e.signal == signal)
            .map(|e| &e.reading)
    }

    /// Newest measured value of a signal; NaN when unmeasurable or absent.
    pub fn value(&self, signal: &str) -> f64 {
        match self.newest(signal).map(|r| r.value) {
            Some(Value::Measured(v)) => v,
            _ => f64::NAN,
        }
    }

    /// Largest measured value of a signal; NaN when there is none.
    pub fn peak(&self, signal: &str) -> f64 {
        self.emitted
            .iter()
            .filter(|e| e.signal == signal)
            .filter_map(|e| match e.reading.value {
                Value::Measured(v) => Some(v),
                Value::Unmeasurable(_) => None,
            })
            .fold(f64::NAN, f64::max)
    }
}

/// Pictures at 25 Hz from `from` milliseconds on, made by index.
pub fn pictures(from: i64, count: usize, make: impl Fn(usize) -> Frame) -> Vec<Step> {
    (0..count)
        .map(|i| Step::picture(from + 40 * i as i64, make(i)))
        .collect()
}

/// Pictures in colour at 25 Hz from `from` milliseconds on, made by index.
pub fn coloured(from: i64, count: usize, make: impl Fn(usize) -> Colour) -> Vec<Step> {
    (0..count)
        .map(|i| Step::coloured(from + 40 * i as i64, make(i)))
        .collect()
}

/// Units as bad as they come: odd formats, broken time, NaN, evidence floods, jumps.
pub fn hostile(seed: u64, count: usize) -> Vec<Step> {
    let mut noise = Noise::new(seed);
    let mut millis = 10_000i64;
    let mut arrival = 0u64;
    let sizes = [
        (1, 1),
        (2, 2),
        (17, 9),
        (64, 48),
        (65, 47),
        (33, 1),
        (1, 33),
    ];
    let mut steps = Vec::new();
    for _ in 0..count {
        arrival += u64::from(noise.bits() % 300);
        millis += match noise.bits() % 12 {
            0 => -i64::from(noise.bits() % 20_000),
            1 => i64::from(noise.bits() % 60_000),
            _ => i64::from(noise.bits() % 60),
        };
        let (width, height) = sizes[noise.bits() as usize % sizes.len()];
        let item = match noise.bits() % 11 {
            10 => Item::Coloured(hostile_colour(&mut noise, width, height)),
            0..=3 => Item::Picture(Frame {
                samples: match noise.bits() % 3 {
                    0 => vec![(noise.bits() % 256) as u8; width * height],
                    _ => (0..width * height).map(|_| noise.bits() as u8).collect(),
                },
                width,
                height,
            }),
            4 => {
                let stride = width + 7;
                let bytes = (0..2 * stride * height)
                    .map(|_| noise.bits() as u8)
                    .collect();
                Item::Deep(bytes, 9 + (noise.bits() % 8) as u8, width, height, stride)
            }
            5 | 6 => {
                let channels = 1 + noise.bits() as usize % 8;
                let frames = [0, 1, 480, 1024][noise.bits() as usize % 4];
                let odd = [f32::NAN, f32::INFINITY, -1e30, 0.0, 0.5, 1.0];
                let samples: Vec<f32> = (0..channels * frames)
                    .map(|_| odd[noise.bits() as usize % 6])
                    .collect();
                let rate = [1, 8_000, 48_000, 192_000][noise.bits() as usize % 4];
                Item::Sound(samples, channels, rate)
            }
            7 => Item::Tick,
            _ => Item::Fact(hostile_fact(&mut noise, millis)),
        };
        let index = u8::from(noise.bits().is_multiple_of(9));
        let track = match &item {
            Item::Picture(_) | Item::Coloured(_) | Item::Deep(..) => Some(Track::video(index)),
            Item::Sound(..) => Some(Track::audio(index)),
            Item::Fact(Fact::Input(_)) | Item::Tick => None,
            Item::Fact(_) => [None, Some(Track::video(index)), Some(Track::audio(index))]
                [noise.bits() as usize % 3],
        };
        steps.push(Step {
            at: Stamp {
                media: (!noise.bits().is_multiple_of(10)).then(|| MediaTime::from_millis(millis)),
                arrival: Arrival::from_millis(arrival),
                gap: match noise.bits() % 20 {
                    0 => Gap::Discontinuity,
                    1 => Gap::WeDropped(1 + noise.bits() % 100),
                    _ => Gap::None,
                },
            },
            track,
            item,
        });
    }
    steps
}

/// Any subsampling, extreme codes, and sometimes chroma of another size.
fn hostile_colour(noise: &mut Noise, width: usize, height: usize) -> Colour {
    let halvings = ((noise.bits() % 4) as u8, (noise.bits() % 4) as u8);
    let flat = [(); 3].map(|()| [0, 16, 128, 255][noise.bits() as usize % 4]);
    let mut colour = Colour::halved(width, height, halvings, |_, _| flat);
    match noise.bits() % 4 {
        0 => colour = colour.grain(noise, 90.0),
        1 => colour.halvings = (1, 1),
        _ => {}
    }
    colour
}

fn hostile_fact(noise: &mut Noise, millis: i64) -> Fact {
    let at = MediaTime::from_millis(millis + i64::from(noise.bits() % 4_000) - 2_000);
    match noise.bits() % 15 {
        0 => Fact::RandomAccess(at),
        14 => Fact::KeyQuantiser {
            at,
            quantiser: noise.bits() as i32,
        },
        1 => Fact::AvSkew {
            audio_minus_video_secs: [f64::NAN, 1e300, -0.2][noise.bits() as usize % 3],
            basis: crate::base::SkewBasis::Multiplex,
        },
        2 => Fact::TimelineJump { by_secs: -1e12 },
        3 => Fact::AnnouncedGap {
            span: Duration::MAX,
        },
        4 => Fact::Input(
            [
                InputEvent::Receiving,
                InputEvent::Reopened,
                InputEvent::Ended,
            ][noise.bits() as usize % 3]
                .clone(),
        ),
        5 => Fact::Tracks(Vec::new()),
        6 => Fact::Break(BreakMark {
            edge: [BreakEdge::Start, BreakEdge::End][noise.bits() as usize % 2],
            source: BreakSource::Scte35,
            at: (!noise.bits().is_multiple_of(4)).then_some(at),
            planned: Some(Duration::MAX),
            event_id: Some(noise.bits()),
        }),
        7 => {
            let mut errors = TsErrors {
                timed: noise.bits().is_multiple_of(2),
                pcr_inaccuracy_nanos: noise.bits().is_multiple_of(2).then(|| noise.bits()),
                ..TsErrors::default()
            };
            for check in TsCheck::ALL {
                errors.add(*check, noise.bits() >> (noise.bits() % 32));
            }
            Fact::Ts(errors)
        }
        8 => Fact::Playlist(PlaylistLoad {
            list: noise.bits() as u8,
            live: !noise.bits().is_multiple_of(4),
            target: [Duration::ZERO, Duration::MAX, Duration::from_secs(2)]
                [noise.bits() as usize % 3],
            unchanged: [Duration::ZERO, Duration::MAX][noise.bits() as usize % 2],
            took: [None, Some(Duration::MAX)][noise.bits() as usize % 2],
            behind_secs: [None, Some(f64::NAN), Some(-1e300)][noise.bits() as usize % 3],
            faults: vec![
                [PlaylistFault::Renumbered, PlaylistFault::SegmentTooLong]
                    [noise.bits() as usize % 2];
                noise.bits() as usize % 3
            ],
        }),
        13 => {
            let secs = [None, Some(f64::NAN), Some(-1e300), Some(3.0)];
            Fact::ListsBeside(ListsBeside {
                list: noise.bits() as u8,
                audio_early_secs: secs[noise.bits() as usize % 4],
                discontinuity_apart_secs: secs[noise.bits() as usize % 4],
            })
        }
        9 => Fact::Segment(SegmentReport {
            list: noise.bits() as u8,
            duration: [Duration::ZERO, Duration::MAX][noise.bits() as usize % 2],
            fate: match noise.bits() % 3 {
                0 => SegmentFate::Failed(Cause::Timeout),
                1 => SegmentFate::Gone(u32::MAX),
                _ => SegmentFate::Read {
                    took: [None, Some(Duration::MAX)][noise.bits() as usize % 2],
                    excess_secs: [None, Some(f64::NAN), Some(-1e300)][noise.bits() as usize % 3],
                    jumps: noise.bits().is_multiple_of(2),
                },
            },
        }),
        10 => Fact::ReferencePrint(Print {
            pictures: vec![
                PicturePrint {
                    at,
                    motion: noise.bits().to_le_bytes(),
                };
                noise.bits() as usize % 3
            ],
            sound: vec![SoundPrint {
                track: noise.bits() as u8,
                from: [
                    at,
                    MediaTime::from_nanos(i64::MAX),
                    MediaTime::from_nanos(i64::MIN),
                ][noise.bits() as usize % 3],
                bits: vec![noise.bits().is_multiple_of(2); noise.bits() as usize % 2_000],
            }],
        }),
        _ => Fact::Evidence(Evidence {
            kind: [
                EvidenceKind::ContinuityError,
                EvidenceKind::Concealment,
                EvidenceKind::PictureNumberGap,
            ][noise.bits() as usize % 3],
            from: (!noise.bits().is_multiple_of(4)).then_some(at),
            until: noise.bits().is_multiple_of(2).then_some(at),
            count: noise.bits(),
        }),
    }
}

/// The kind of media an instance of this scope is fed with.
pub fn kind_of(scope: Scope) -> Option<Kind> {
    match scope {
        Scope::Stream => None,
        Scope::VideoTrack => Some(Kind::Video),
        Scope::AudioTrack => Some(Kind::Audio),
    }
}
