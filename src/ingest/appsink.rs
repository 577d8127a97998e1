//! The end of every decoding chain: stamp, map, wrap, push, return at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_audio as gst_audio;
use gstreamer_video as gst_video;

use detectors::base::{
    AudioFormat, Cause, Evidence, EvidenceKind, Fact, Format, Kind, MediaTime, Range, Track,
    VideoFormat,
};
use tokio::sync::Notify;

use super::encoded::EncodedUnit;
use super::keys::ContentKey;
use super::stats::Stats;
use super::tracks::Tracks;
use super::trial::{Found, Trials};
use super::{Content, Intake, OwnedUnit, PictureBuffer, Pushed, SoundBuffer, clock};

/// Marks that wait for their unit; more than this and the oldest are forgotten.
const MAX_MARKS: usize = 64;
/// Disposable pictures remembered: more than are ever on their way to the decoder.
const MAX_DISPOSABLE: usize = 256;

/// Locks even after a panic elsewhere: all guarded values stay consistent between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all tracks of a converter share: where units go, and how far things are.
pub(super) struct Hub {
    intake: Arc<dyn Intake>,
    pub(super) stats: Arc<Stats>,
    pub(super) tracks: Mutex<Tracks>,
    backlog: AtomicUsize,
    decoded: AtomicU64,
    /// Newest decoded media time, nanoseconds; `i64::MIN` = none.
    newest: AtomicI64,
    /// Threads that are handing over a unit now; they may wait there when a file is read.
    pushing: AtomicUsize,
    closed: AtomicBool,
    /// Told whenever something above changes.
    pub(super) moved: Notify,
}

impl Hub {
    pub(super) fn new(intake: Arc<dyn Intake>, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Self {
            intake,
            stats,
            tracks: Mutex::default(),
            backlog: AtomicUsize::new(0),
            decoded: AtomicU64::new(0),
            newest: AtomicI64::new(i64::MIN),
            pushing: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            moved: Notify::new(),
        })
    }

    /// Whether anybody keeps encoded units.
    pub(super) fn keeps_encoded(&self) -> bool {
        self.intake.keeps_encoded()
    }

    /// An encoded unit is about to be decoded.
    pub(super) fn encoded(&self, unit: EncodedUnit) {
        self.intake.encoded(unit);
    }

    pub(super) fn push(&self, unit: OwnedUnit) -> Pushed {
        self.pushing.fetch_add(1, Ordering::Relaxed);
        let pushed = self.intake.push(unit);
        self.pushing.fetch_sub(1, Ordering::Relaxed);
        if pushed == Pushed::Closed {
            self.closed.store(true, Ordering::Relaxed);
            self.moved.notify_waiters();
        }
        pushed
    }

    /// Pushes a fact; `media` defaults to the newest media time.
    pub(super) fn fact(&self, track: Option<Track>, media: Option<MediaTime>, fact: Fact) {
        self.push(OwnedUnit {
            media: media.or_else(|| self.newest()),
            arrival: clock::now(),
            discontinuity: false,
            dropped: 0,
            track,
            content: Content::Fact(fact),
        });
    }

    /// Tells the full set of tracks.
    pub(super) fn tell_tracks(&self) {
        let infos = lock(&self.tracks).infos();
        self.fact(None, None, Fact::Tracks(infos));
    }

    /// Newest decoded media time.
    pub(super) fn newest(&self) -> Option<MediaTime> {
        let nanos = self.newest.load(Ordering::Relaxed);
        (nanos != i64::MIN).then(|| MediaTime::from_nanos(nanos))
    }

    /// Decoded units so far.
    pub(super) fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Whether a unit is being handed over right now.
    pub(super) fn pushing(&self) -> bool {
        self.pushing.load(Ordering::Relaxed) > 0
    }

    pub(super) fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }
}

/// Encoded bytes that wait in one pipeline, counted in the hub's total as well.
pub(super) struct Load {
    hub: Arc<Hub>,
    bytes: AtomicUsize,
}

impl Load {
    pub(super) fn new(hub: &Arc<Hub>) -> Arc<Self> {
        Arc::new(Self {
            hub: Arc::clone(hub),
            bytes: AtomicUsize::new(0),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.hub.backlog.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn take(&self, bytes: usize) {
        let had = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |had| {
                Some(had.saturating_sub(bytes))
            })
            .unwrap_or(0);
        self.hub
            .backlog
            .fetch_sub(had.min(bytes), Ordering::Relaxed);
        self.hub.moved.notify_waiters();
    }

    pub(super) fn clear(&self) {
        self.take(usize::MAX);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What the next unit at or after a media time must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The stream is discontinuous here.
    Discontinuity,
    /// We dropped this many encoded units before it.
    Dropped(u32),
}

impl State {
    /// Trials that are over are forgotten.
    fn settle(&mut self) {
        self.trials = self.trials.take().filter(|trials| !trials.is_over());
    }

    /// The decoder concealed so many blocks, or could not make sense of something (0): it may be the key.
    fn hold_against_key(&mut self, blocks: u32) {
        if let Some(trials) = &mut self.trials {
            trials.complain(self.feeding, blocks);
        }
    }
}

/// One track's way out of its pipeline.
pub(super) struct Way {
    pub(super) track: Track,
    pub(super) hub: Arc<Hub>,
    /// Shared with the ways that take over from this one.
    format: Arc<Mutex<Option<Format>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Media time minus running time, nanoseconds; minus stream time when it was told.
    shift: i64,
    /// The shift was told. A demultiplexer of fragments lets running time begin with the first one, wherever that
    /// lies; stream time is that of the fragments.
    placed: bool,
    marks: VecDeque<(MediaTime, Mark)>,
    /// Pictures before this are damaged only because we joined late, and are not handed on.
    not_before: Option<MediaTime>,
    /// What the decoder is working on.
    feeding: Option<MediaTime>,
    /// Pictures on their way to the decoder that no other refers to, by media time.
    disposable: VecDeque<MediaTime>,
    /// Blocks concealed in what the decoder is working on.
    concealed: u32,
    /// Pictures that the decoder gave up since then.
    lost: u32,
    /// Keys whose worth is not known yet, or that are wrong.
    trials: Option<Trials>,
}

impl Way {
    pub(super) fn new(track: Track, hub: &Arc<Hub>) -> Arc<Self> {
        Arc::new(Self {
            track,
            hub: Arc::clone(hub),
            format: Arc::default(),
            state: Mutex::default(),
        })
    }

    /// A way for the same track through the next pipeline, with a clock of its own.
    pub(super) fn renewed(&self) -> Arc<Self> {
        let state = State {
            trials: lock(&self.state).trials.as_ref().map(Trials::anew),
            ..State::default()
        };
        Arc::new(Self {
            track: self.track,
            hub: Arc::clone(&self.hub),
            format: Arc::clone(&self.format),
            state: Mutex::new(state),
        })
    }

    /// From here on the track is decrypted with this key: nothing is handed on before the key has proved right.
    /// Call where decoding may begin.
    pub(super) fn try_key(&self, from: MediaTime, key: &ContentKey) {
        let now = clock::now();
        let drained = self.hub.backlog() == 0;
        let codec = lock(&self.hub.tracks).codec(self.track);
        let mut found = Vec::new();
        {
            let mut state = lock(&self.state);
            let trials = (state.trials).get_or_insert_with(|| Trials::new(self.track.kind, &codec));
            if drained {
                trials.idle(now, &mut found);
            }
            trials.begin(from, now, Some(key));
            state.settle();
        }
        self.found(found);
    }

    /// Whether a key is being tried, or has failed.
    pub(super) fn is_on_trial(&self) -> bool {
        lock(&self.state).trials.is_some()
    }

    /// From here on the track is in the clear.
    pub(super) fn in_clear(&self, from: MediaTime) {
        let mut state = lock(&self.state);
        if let Some(trials) = &mut state.trials {
            trials.begin(from, clock::now(), None);
        }
    }

    /// What trials found; gives the units that were held back and are good.
    fn found(&self, found: Vec<Found>) -> Vec<OwnedUnit> {
        let mut good = Vec::new();
        for found in found {
            let problem = match found {
                Found::Good(held) => {
                    good.extend(held);
                    None
                }
                Found::Bad => Some(Cause::EncryptedNoKey),
            };
            if lock(&self.hub.tracks).set_problem(self.track, problem) {
                self.hub.tell_tracks();
            }
        }
        good
    }

    fn hand_on(&self, unit: OwnedUnit) -> Result<(), gst::FlowError> {
        let media = unit.media;
        let pushed = self.hub.push(unit);
        self.hub.decoded.fetch_add(1, Ordering::Relaxed);
        if let Some(media) = media {
            self.hub.newest.fetch_max(media.nanos(), Ordering::Relaxed);
        }
        match pushed {
            Pushed::Closed => Err(gst::FlowError::Eos),
            _ => Ok(()),
        }
    }

    /// Whether anything has been decoded on this track.
    pub(super) fn has_format(&self) -> bool {
        lock(&self.format).is_some()
    }

    /// Sets media time minus stream time.
    pub(super) fn set_shift(&self, nanos: i64) {
        let mut state = lock(&self.state);
        (state.shift, state.placed) = (nanos, true);
    }

    /// The time of a buffer that media time counts from.
    pub(super) fn time_of(
        &self,
        segment: Option<&gst::FormattedSegment<gst::ClockTime>>,
        pts: gst::ClockTime,
    ) -> gst::ClockTime {
        let placed = lock(&self.state).placed;
        let time = segment.and_then(|segment| match placed {
            true => segment.to_stream_time(pts),
            false => segment.to_running_time(pts),
        });
        time.unwrap_or(pts)
    }

    pub(super) fn mark(&self, at: MediaTime, mark: Mark) {
        let mut state = lock(&self.state);
        if state.marks.len() >= MAX_MARKS {
            state.marks.pop_front();
        }
        state.marks.push_back((at, mark));
    }

    pub(super) fn not_before(&self, at: Option<MediaTime>) {
        lock(&self.state).not_before = at;
    }

    /// Media time of what the decoder works on.
    pub(super) fn feeding_at(&self) -> Option<MediaTime> {
        lock(&self.state).feeding
    }

    /// Media time of what [`Way::time_of`] gave.
    pub(super) fn media_of(&self, time: gst::ClockTime) -> Option<MediaTime> {
        media_time(time, lock(&self.state).shift)
    }

    /// Decoding may begin with the picture of this time.
    pub(super) fn clean_point(&self, running: gst::ClockTime) {
        let media = media_time(running, lock(&self.state).shift);
        if let Some(media) = media {
            let fact = Fact::RandomAccess(media);
            self.hub.fact(Some(self.track), Some(media), fact);
        }
    }

    /// The decoder is about to get a buffer: tells what it complained about in the one before.
    pub(super) fn feed(&self, running: Option<gst::ClockTime>) {
        self.tell_complaints();
        let mut state = lock(&self.state);
        state.feeding = running.and_then(|t| media_time(t, state.shift));
        let feeding = state.feeding;
        let mut found = Vec::new();
        if let Some(trials) = &mut state.trials {
            trials.feed(running.is_some(), feeding, &mut found);
        }
        drop(state);
        for unit in self.found(found) {
            // A lane that is gone is noticed with the next unit.
            let _ = self.hand_on(unit);
        }
    }

    /// The decoder could not make sense of something.
    pub(super) fn stumble(&self) {
        lock(&self.state).hold_against_key(0);
    }

    /// No other picture refers to the one at this media time, which is on its way to the decoder.
    pub(super) fn note_disposable(&self, at: MediaTime) {
        let mut state = lock(&self.state);
        if state.disposable.len() >= MAX_DISPOSABLE {
            state.disposable.pop_front();
        }
        state.disposable.push_back(at);
    }

    /// A decoder's complaint on this track; `blocks` concealed.
    pub(super) fn complain(&self, blocks: u32) {
        self.hub.stats.decoder_complaints.add(1);
        // Audio decoders repeat themselves about sound that is fine: counted, but no evidence.
        if self.track.kind == Kind::Video {
            let mut state = lock(&self.state);
            state.concealed = state.concealed.saturating_add(blocks);
            state.hold_against_key(blocks);
        }
    }

    /// The decoder gave up a picture of this track, and shows none in its place.
    pub(super) fn lose_picture(&self) {
        self.hub.stats.decoder_complaints.add(1);
        if self.track.kind == Kind::Video {
            let mut state = lock(&self.state);
            state.lost = state.lost.saturating_add(1);
            state.hold_against_key(1);
        }
    }

    /// The pictures are larger than may be decoded, or no longer are.
    pub(super) fn too_costly(&self, refused: bool) {
        let problem = refused.then_some(Cause::TooCostly);
        if lock(&self.hub.tracks).set_problem(self.track, problem) {
            self.hub.tell_tracks();
        }
    }

    /// The parser knows the codec better than the container did.
    pub(super) fn is_coded_as(&self, codec: &str) {
        if lock(&self.hub.tracks).set_codec(self.track, codec) {
            self.hub.tell_tracks();
        }
    }

    /// Tells what the decoder has concealed so far of the buffer it works on: before the picture goes out.
    fn tell_complaints(&self) {
        let mut state = lock(&self.state);
        let said = [
            (
                EvidenceKind::Concealment,
                std::mem::take(&mut state.concealed),
            ),
            (
                EvidenceKind::PicturesMissing,
                std::mem::take(&mut state.lost),
            ),
        ];
        let from = state.feeding;
        let trusted = state.trials.is_none();
        // Timestamps may be rounded on their way.
        let near = |at: MediaTime| from.is_some_and(|f| at.nanos().abs_diff(f.nanos()) < 1_000_000);
        let until = (from.filter(|_| said.iter().any(|(_, count)| *count > 0)))
            .filter(|_| state.disposable.iter().any(|&at| near(at)))
            .map(|at| at.plus(Duration::from_millis(1)));
        drop(state);
        // What a wrong key makes is no damage of the stream.
        for (kind, count) in said {
            if trusted && count > 0 {
                let evidence = Evidence {
                    until,
                    ..Evidence::new(kind, from, count)
                };
                (self.hub).fact(Some(self.track), from, Fact::Evidence(evidence));
            }
        }
    }

    /// Takes a decoded sample.
    fn take(
        &self,
        sample: &gst::Sample,
        shape: &mut Option<(gst::Caps, Shape)>,
        arrival: detectors::base::Arrival,
    ) -> Result<(), gst::FlowError> {
        let (Some(caps), Some(buffer)) = (sample.caps_owned(), sample.buffer_owned()) else {
            return Ok(());
        };
        if !shape.as_ref().is_some_and(|(known, _)| *known == caps) {
            let read = Shape::read(&caps, self.track.kind).ok_or(gst::FlowError::NotNegotiated)?;
            *shape = Some((caps, read));
        }
        let Some((_, shape)) = shape else {
            return Ok(());
        };
        self.tell_complaints();
        let running = buffer.pts().map(|pts| {
            let segment = sample.segment();
            self.time_of(segment.and_then(|s| s.downcast_ref()), pts)
        });
        let (media, marks) = {
            let mut state = lock(&self.state);
            let media = running.and_then(|t| media_time(t, state.shift));
            if let (Some(media), Some(first)) = (media, state.not_before) {
                if media < first {
                    return Ok(());
                }
                state.not_before = None;
            }
            let mut marks = Vec::new();
            while let Some((at, mark)) = state.marks.front().copied() {
                // Timestamps may be rounded on their way.
                if media.is_some_and(|m| m.nanos().saturating_add(1_000_000) < at.nanos()) {
                    break;
                }
                state.marks.pop_front();
                marks.push(mark);
            }
            (media, marks)
        };
        let format = shape.format();
        let changed = {
            let mut known = lock(&self.format);
            let changed = (known.as_ref() != Some(&format)).then(|| format.clone());
            *known = Some(format);
            changed
        };
        if let Some(format) = changed {
            self.hub.push(OwnedUnit {
                media,
                arrival,
                discontinuity: false,
                dropped: 0,
                track: Some(self.track),
                content: Content::Fact(Fact::Format(format)),
            });
        }
        let Some(content) = shape.wrap(buffer) else {
            return Ok(());
        };
        let unit = OwnedUnit {
            media,
            arrival,
            discontinuity: marks.contains(&Mark::Discontinuity),
            dropped: marks
                .iter()
                .map(|m| if let Mark::Dropped(n) = m { *n } else { 0 })
                .fold(0, u32::saturating_add),
            track: Some(self.track),
            content,
        };
        let mut found = Vec::new();
        let unit = {
            let mut state = lock(&self.state);
            let unit = match &mut state.trials {
                None => Some(unit),
                Some(trials) => trials.take(unit, &mut found),
            };
            state.settle();
            unit
        };
        for held in self.found(found) {
            self.hand_on(held)?;
        }
        unit.map_or(Ok(()), |unit| self.hand_on(unit))
    }
}

fn media_time(running: gst::ClockTime, shift: i64) -> Option<MediaTime> {
    let running = i64::try_from(running.nseconds()).ok()?;
    Some(MediaTime::from_nanos(running.saturating_add(shift)))
}

/// Decoded caps, read once.
enum Shape {
    Video {
        info: gst_video::VideoInfo,
        bits: u8,
        range: Range,
    },
    Audio(gst_audio::AudioInfo),
}

impl Shape {
    fn read(caps: &gst::Caps, kind: Kind) -> Option<Self> {
        match kind {
            Kind::Video => {
                let info = gst_video::VideoInfo::from_caps(caps)
                    .ok()
                    .filter(|i| i.is_valid())?;
                let luma = info.format_info();
                // P010 and its kin keep their bits at the top of each word: read as 16 bits deep.
                let bits = luma.depth()[0] + luma.shift()[0];
                let bits = u8::try_from(bits).ok().filter(|b| (8..=16).contains(b))?;
                let range = match info.colorimetry().range() {
                    gst_video::VideoColorRange::Range0_255 => Range::Full,
                    _ => Range::Limited,
                };
                Some(Shape::Video { info, bits, range })
            }
            Kind::Audio => gst_audio::AudioInfo::from_caps(caps).ok().map(Shape::Audio),
        }
    }

    fn format(&self) -> Format {
        match self {
            Shape::Video { info, bits, .. } => {
                let fps = info.fps();
                let rate_hz = if fps.denom() > 0 {
                    f64::from(fps.numer()) / f64::from(fps.denom())
                } else {
                    0.0
                };
                Format::Video(VideoFormat {
                    width: info.width(),
                    height: info.height(),
                    rate_hz,
                    bits: *bits,
                    interlaced: info.interlace_mode() != gst_video::VideoInterlaceMode::Progressive,
                })
            }
            Shape::Audio(info) => Format::Audio(AudioFormat {
                rate_hz: info.rate(),
                channels: u16::try_from(info.channels()).unwrap_or(u16::MAX),
            }),
        }
    }

    /// `None` for a buffer without content.
    fn wrap(&self, buffer: gst::Buffer) -> Option<Content> {
        match self {
            Shape::Video { info, bits, range } => {
                let frame = gst_video::VideoFrame::from_buffer_readable(buffer, info).ok()?;
                Some(Content::Picture(PictureBuffer {
                    frame,
                    bits: *bits,
                    range: *range,
                }))
            }
            Shape::Audio(info) => {
                // A gap holds made-up silence, not decoded sound: let the missing time show.
                if buffer.flags().contains(gst::BufferFlags::GAP) {
                    return None;
                }
                let map = buffer.map_readable().ok()?;
                let samples = map
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect::<Vec<_>>();
                (!samples.is_empty()).then(|| {
                    Content::Sound(SoundBuffer {
                        samples,
                        channels: info.channels() as usize,
                        rate_hz: info.rate(),
                    })
                })
            }
        }
    }
}

/// Callbacks of a track's appsink; `ended` is called at the end of the stream.
pub(super) fn callbacks(
    way: Arc<Way>,
    ended: impl Fn() + Send + 'static,
) -> gst_app::AppSinkCallbacks {
    let mut shape = None;
    let last = Arc::clone(&way);
    gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let arrival = clock::now();
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            way.take(&sample, &mut shape, arrival)?;
            Ok(gst::FlowSuccess::Ok)
        })
        .eos(move |_| {
            last.feed(None);
            ended();
        })
        .build()
}
