//! From container bytes to decoded units: one converter per run of a source.

mod branch;
mod breaks;
pub(super) mod fragments;
mod opus;
mod packed;
pub(super) mod packets;
mod ts;
mod webm;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use detectors::base::{
    BreakMark, Cause, Evidence, EvidenceKind, Fact, Kind, MediaTime, SkewBasis, Track,
};

use super::appsink::{Hub, lock};
use super::keys::SampleKeys;
use super::pipeline::{self, Settings};
use super::source::SourceContext;
use crate::config::Protocol;
use crate::transport::timeline::Timeline;

pub(super) use breaks::break_mark;
use fragments::Fragments;
#[cfg(any(test, fuzzing))]
pub(crate) use fragments::told as fragment_tracks;
use packed::Packed;
pub(super) use packed::packed_start_secs;
use packets::{Flv, Packet, Packets};
use ts::Ts;
use webm::Webm;

/// Longest wait for what came in one container before what comes in another is fed.
const LEAVING: Duration = Duration::from_secs(5);

/// Container of a byte input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// MPEG-TS.
    MpegTs,
    /// Fragmented MP4: an init segment, then whole `moof`+`mdat` fragments.
    FragmentedMp4,
    /// Raw ADTS AAC, MP3, AC-3 or E-AC-3, possibly after an ID3 tag with a timestamp (HLS packed audio).
    PackedAudio,
    /// FLV.
    Flv,
    /// WebM: a document, or clusters of the one before.
    Webm,
    /// Coded units, which come by `Converter::packet`.
    Packets,
}

/// What is fed to one input of a converter.
#[derive(Debug, Clone)]
pub enum Feed {
    /// Keys for the samples of the pieces that follow; without it, those of the configuration hold.
    Keys(SampleKeys),
    /// A piece (segment) begins. With `init`, an fMP4 initialisation segment comes first (again).
    Begin {
        /// Container of the piece.
        container: Container,
        /// Initialisation segment, when new or changed.
        init: Option<Bytes>,
        /// The playlist announced a discontinuity before it.
        discontinuity: bool,
    },
    /// Bytes of the piece.
    Data(Bytes),
    /// A break marker, so many nanoseconds from the beginning of the piece that follows.
    Break(BreakMark, i64),
    /// The piece is complete. `truncated`: it was cut short (known from `Content-Length` or an aborted body).
    End {
        /// Cut short.
        truncated: bool,
    },
}

/// Why conversion cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ConvertError {
    /// Machine-readable cause.
    pub cause: Cause,
    /// A sentence, free of secrets.
    pub detail: String,
}

/// What inputs share while they are fed.
struct Core {
    context: SourceContext,
    hub: Arc<Hub>,
    timeline: Timeline,
    settings: Settings,
    /// Encoded data is thrown away, and counted, when decoding lags.
    sheds: bool,
    /// First media time of each input's piece of pictures that was fed last, for skew between inputs.
    video_pieces: BTreeMap<usize, MediaTime>,
    /// Inputs are renditions of one stream.
    members: bool,
    /// Newest media time fed.
    fed: Option<MediaTime>,
    /// Of the input that is being fed.
    keys: SampleKeys,
    told_breaks: breaks::Told,
}

/// Pictures this far behind those of another input have ended.
const PIECE_STALE: Duration = Duration::from_secs(60);

impl Core {
    /// The pictures that the sound of an input belongs to: its own, else those of the first input that goes on.
    fn video_piece(&self, input: usize) -> Option<MediaTime> {
        if let Some(own) = self.video_pieces.get(&input) {
            return Some(*own);
        }
        let newest = self.video_pieces.values().max()?;
        let mut pieces = self.video_pieces.values();
        pieces
            .find(|piece| newest.since(**piece) <= PIECE_STALE)
            .copied()
    }

    /// The first media of a kind in a piece: sound is held against the pictures that it belongs to.
    fn piece_begins(&mut self, input: usize, kind: Kind, media: MediaTime, track: Option<Track>) {
        if kind == Kind::Video {
            self.video_pieces.insert(input, media);
        } else if let Some(video) = self.video_piece(input) {
            let fact = Fact::AvSkew {
                audio_minus_video_secs: media.secs_after(video),
                basis: SkewBasis::Segment,
            };
            self.hub.fact(track, Some(media), fact);
        }
    }

    /// Whom damage concerns that is of no certain stream of an input: with several renditions, that one alone.
    fn blamed(&self, tracks: impl Iterator<Item = Track>) -> Option<Track> {
        tracks.min().filter(|_| self.members)
    }
}

struct Input {
    only: Option<Kind>,
    language: Option<String>,
    /// One unbroken multiplex, not pieces.
    continuous: bool,
    keys: SampleKeys,
    demuxer: Option<Demuxer>,
    /// The one before, of another container, while it hands out what it was fed.
    leaving: Option<Demuxer>,
    /// Break markers that wait for the media that follows them.
    breaks: Vec<(BreakMark, i64)>,
}

enum Demuxer {
    Ts(Box<Ts>),
    Fragments(Box<Fragments>),
    Packed(Box<Packed>),
    Flv(Box<Flv>),
    Webm(Box<Webm>),
    Packets(Box<Packets>),
}

/// Turns container bytes into units. Dropping it tears its pipelines down on a thread of their own.
pub struct Converter {
    core: Core,
    inputs: Vec<Input>,
}

impl Converter {
    /// A converter without inputs.
    pub fn new(context: &SourceContext) -> Self {
        let input = &context.stream.input;
        Self {
            core: Core {
                context: context.clone(),
                hub: Hub::new(Arc::clone(&context.intake), Arc::clone(&context.stats)),
                timeline: Timeline::default(),
                settings: Settings {
                    decode: input.decode,
                    picture_pixels: input.limits.picture_pixels,
                    paced: false,
                },
                sheds: matches!(
                    input.protocol,
                    Protocol::Udp | Protocol::Rtp | Protocol::Srt | Protocol::Rtmp | Protocol::Rtsp
                ),
                video_pieces: BTreeMap::new(),
                members: false,
                fed: None,
                keys: SampleKeys::default(),
                told_breaks: breaks::Told::default(),
            },
            inputs: Vec::new(),
        }
    }

    /// Adds a byte input and returns its number: 0 is the main one, others are separate renditions.
    /// `only`: take just this kind of track from it. `language`: as the playlist tells.
    pub fn add_input(&mut self, only: Option<Kind>, language: Option<String>) -> usize {
        self.inputs.push(Input {
            only,
            language,
            continuous: false,
            keys: SampleKeys::from(&self.core.context.stream.input.content_keys),
            demuxer: None,
            leaving: None,
            breaks: Vec::new(),
        });
        self.inputs.len() - 1
    }

    /// What the input brings is one unbroken multiplex: how often tables and clock references come in a transport
    /// stream is checked as well. Call before it is fed.
    pub fn continuous(&mut self, input: usize) {
        if let Some(input) = self.inputs.get_mut(input) {
            input.continuous = true;
        }
    }

    /// Tells before anything of an input has come that it is this rendition of several and brings these kinds of
    /// tracks; and again when its name changes.
    pub fn expect(&mut self, input: usize, member: &str, kinds: &[Kind]) {
        self.core.members = true;
        lock(&self.core.hub.tracks).expect(input, member, kinds);
        self.core.hub.tell_tracks();
    }

    /// Tells why nothing of an input can be had now, or that it can be again.
    pub fn trouble(&mut self, input: usize, cause: Option<Cause>) {
        let only = self.inputs.get(input).and_then(|i| i.only);
        let kind = only.unwrap_or(Kind::Video);
        let changed = lock(&self.core.hub.tracks).trouble(input, cause, kind);
        if changed {
            self.core.hub.tell_tracks();
        }
    }

    /// Feeds an input. Never waits: call [`Converter::room`] between pieces to keep the backlog bounded.
    pub fn feed(&mut self, input: usize, feed: Feed) -> Result<(), ConvertError> {
        self.health()?;
        let core = &mut self.core;
        let Some(to) = self.inputs.get_mut(input) else {
            return Err(ConvertError {
                cause: Cause::Internal,
                detail: format!("no input {input}"),
            });
        };
        core.keys.clone_from(&to.keys);
        to.leaving.take_if(|before| before.done());
        match feed {
            Feed::Keys(keys) => to.keys = keys,
            Feed::Begin {
                container,
                init,
                discontinuity,
            } => {
                let kept = matches!(
                    (&to.demuxer, container),
                    (Some(Demuxer::Ts(_)), Container::MpegTs)
                        | (Some(Demuxer::Fragments(_)), Container::FragmentedMp4)
                        | (Some(Demuxer::Packed(_)), Container::PackedAudio)
                        | (Some(Demuxer::Flv(_)), Container::Flv)
                        | (Some(Demuxer::Webm(_)), Container::Webm)
                        | (Some(Demuxer::Packets(_)), Container::Packets)
                );
                if !kept {
                    if let Some(mut before) = to.demuxer.take() {
                        before.end(core);
                        to.leaving = Some(before);
                    }
                    let (only, language) = (to.only, to.language.clone());
                    let continuous = to.continuous;
                    to.demuxer = Some(match container {
                        Container::MpegTs => {
                            Demuxer::Ts(Box::new(Ts::new(core, input, only, language, continuous)))
                        }
                        Container::FragmentedMp4 => {
                            Demuxer::Fragments(Box::new(Fragments::new(input, only, language)))
                        }
                        Container::PackedAudio => {
                            Demuxer::Packed(Box::new(Packed::new(input, language)))
                        }
                        Container::Flv => Demuxer::Flv(Box::new(Flv::new(input))),
                        Container::Webm => {
                            Demuxer::Webm(Box::new(Webm::new(input, only, language)))
                        }
                        Container::Packets => {
                            Demuxer::Packets(Box::new(Packets::new(input, false)))
                        }
                    });
                }
                match &mut to.demuxer {
                    Some(Demuxer::Ts(ts)) => ts.begin(core, discontinuity),
                    Some(Demuxer::Fragments(f)) => f.begin(core, init, discontinuity)?,
                    Some(Demuxer::Packed(p)) => p.begin(core, discontinuity),
                    Some(Demuxer::Flv(f)) => f.begin(),
                    Some(Demuxer::Webm(w)) => w.begin(core, discontinuity),
                    Some(Demuxer::Packets(_)) | None => {}
                }
            }
            Feed::Data(bytes) => match &mut to.demuxer {
                Some(Demuxer::Ts(ts)) => ts.data(core, &bytes)?,
                Some(Demuxer::Fragments(f)) => f.data(core, bytes)?,
                Some(Demuxer::Packed(p)) => p.data(core, bytes)?,
                Some(Demuxer::Flv(f)) => f.data(core, &bytes)?,
                Some(Demuxer::Webm(w)) => w.data(core, &bytes)?,
                Some(Demuxer::Packets(_)) | None => {
                    return Err(ConvertError {
                        cause: Cause::Internal,
                        detail: "data before the beginning of a piece".to_owned(),
                    });
                }
            },
            Feed::Break(mark, offset) => {
                if to.breaks.len() < breaks::MARKS_MAX {
                    to.breaks.push((mark, offset));
                }
                return Ok(());
            }
            Feed::End { truncated } => match &mut to.demuxer {
                Some(Demuxer::Ts(ts)) => ts.piece_end(core, truncated),
                Some(Demuxer::Fragments(f)) => f.piece_end(core, truncated)?,
                Some(Demuxer::Packed(p)) => p.piece_end(core, truncated)?,
                Some(Demuxer::Webm(w)) => w.piece_end(core, truncated),
                Some(Demuxer::Flv(_) | Demuxer::Packets(_)) | None => {}
            },
        }
        to.tell_breaks(core);
        Ok(())
    }

    /// Tells a track of an input of coded units.
    pub(super) fn announce(&mut self, input: usize, track: &pipeline::Announced) {
        if let Some(Demuxer::Packets(packets)) =
            self.inputs.get_mut(input).and_then(|i| i.demuxer.as_mut())
        {
            // The number is found again with the first unit.
            let _ = packets.announce(&self.core, track);
        }
    }

    /// Feeds a coded unit.
    pub(super) fn packet(&mut self, input: usize, packet: Packet) -> Result<(), ConvertError> {
        self.health()?;
        if let Some(Demuxer::Packets(packets)) =
            self.inputs.get_mut(input).and_then(|i| i.demuxer.as_mut())
        {
            packets.packet(&mut self.core, packet);
        }
        Ok(())
    }

    /// Encoded bytes fed and not yet decoded.
    pub fn backlog_bytes(&self) -> usize {
        self.core.hub.backlog()
    }

    /// Decoded units handed on so far.
    pub fn decoded(&self) -> u64 {
        self.core.hub.decoded()
    }

    /// Newest media time handed on.
    pub fn newest(&self) -> Option<MediaTime> {
        self.core.hub.newest()
    }

    /// Newest media time fed, decoded or not.
    pub fn fed(&self) -> Option<MediaTime> {
        self.core.fed
    }

    /// Whether a decoded unit is being handed over right now; when a file is read this may take long.
    pub fn handing_over(&self) -> bool {
        self.core.hub.pushing()
    }

    /// Why nothing is decoded, as far as it can be told.
    pub fn complaint(&self) -> ConvertError {
        let told = self.inputs.iter().find_map(|i| i.demuxer.as_ref()?.error());
        let error = told.unwrap_or_else(|| ConvertError {
            cause: Cause::Undecodable,
            detail: "nothing could be decoded".to_owned(),
        });
        self.named(error)
    }

    /// What is known of a track says more than that nothing could be decoded.
    fn named(&self, error: ConvertError) -> ConvertError {
        let infos = lock(&self.core.hub.tracks).infos();
        match infos.iter().find_map(|info| info.problem) {
            Some(cause) if error.cause == Cause::Undecodable => ConvertError { cause, ..error },
            _ => error,
        }
    }

    pub(super) fn hub(&self) -> Arc<Hub> {
        Arc::clone(&self.core.hub)
    }

    /// Damage that a protocol below the container saw; it lies at the newest media time.
    pub fn evidence(&self, kind: EvidenceKind, count: u32) {
        let from = self.core.hub.newest();
        let evidence = Evidence::new(kind, from, count);
        self.core.hub.fact(None, from, Fact::Evidence(evidence));
    }

    /// Waits until at most `bytes` are waiting to be decoded, or an error ended conversion.
    pub async fn room(&self, bytes: usize) -> Result<(), ConvertError> {
        let hub = &self.core.hub;
        let began = tokio::time::Instant::now();
        loop {
            let moved = hub.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            self.health()?;
            // What comes in another container comes after what came before it.
            let mut leaving = self.inputs.iter().filter_map(|i| i.leaving.as_ref());
            let leaving = leaving.any(|d| !d.done()) && began.elapsed() < LEAVING;
            if hub.backlog() <= bytes && !leaving {
                return Ok(());
            }
            match leaving {
                // Whether something moved or time is up is looked at above.
                true => drop(tokio::time::timeout(LEAVING, moved).await),
                false => moved.await,
            }
        }
    }

    /// No more input: waits until everything fed has been decoded and handed on, at most `deadline` without
    /// progress.
    pub async fn finish(mut self, deadline: Duration) -> Result<(), ConvertError> {
        for input in &mut self.inputs {
            if let Some(demuxer) = &mut input.demuxer {
                demuxer.end(&mut self.core);
            }
        }
        let hub = Arc::clone(&self.core.hub);
        let mut seen = hub.decoded();
        loop {
            let moved = hub.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            self.health()?;
            let open = self
                .inputs
                .iter()
                .flat_map(|i| i.demuxer.iter().chain(&i.leaving))
                .any(|d| !d.done());
            if !open {
                return match self.inputs.iter().find_map(|i| i.demuxer.as_ref()?.error()) {
                    Some(error) if hub.decoded() == 0 => Err(self.named(error)),
                    _ => Ok(()),
                };
            }
            let progressed = tokio::time::timeout(deadline, moved).await.is_ok()
                || hub.decoded() != seen
                || hub.pushing();
            seen = hub.decoded();
            if !progressed {
                return Err(ConvertError {
                    cause: Cause::Timeout,
                    detail: "the decoder does not come to an end".to_owned(),
                });
            }
        }
    }

    fn health(&self) -> Result<(), ConvertError> {
        pipeline::init()?;
        if self.core.hub.closed() {
            return Err(ConvertError {
                cause: Cause::Internal,
                detail: "the lane is closed".to_owned(),
            });
        }
        Ok(())
    }
}

impl Input {
    /// Tells the break markers that waited, once it is known where the piece that follows them begins.
    fn tell_breaks(&mut self, core: &mut Core) {
        if self.breaks.is_empty() {
            return;
        }
        let begins = match &self.demuxer {
            Some(Demuxer::Fragments(f)) => f.piece_begins(),
            Some(_) => core.fed,
            None => None,
        };
        let Some(begins) = begins else {
            return;
        };
        for (mark, offset) in self.breaks.drain(..) {
            let at = MediaTime::from_nanos(begins.nanos().saturating_add(offset));
            core.tell_break(BreakMark {
                at: Some(at),
                ..mark
            });
        }
    }
}

impl Demuxer {
    /// No more pieces follow: hands out what is held.
    fn end(&mut self, core: &mut Core) {
        match self {
            Demuxer::Ts(ts) => ts.end(core),
            Demuxer::Fragments(f) => f.end(),
            Demuxer::Packed(p) => p.end(),
            Demuxer::Flv(f) => f.end(),
            Demuxer::Webm(w) => w.end(),
            Demuxer::Packets(p) => p.end(),
        }
    }

    /// Whether everything has been decoded after the end.
    fn done(&self) -> bool {
        match self {
            Demuxer::Ts(ts) => ts.done(),
            Demuxer::Fragments(f) => f.done(),
            Demuxer::Packed(p) => p.done(),
            Demuxer::Flv(f) => f.done(),
            Demuxer::Webm(w) => w.done(),
            Demuxer::Packets(p) => p.done(),
        }
    }

    /// What went wrong, when nothing could be decoded.
    fn error(&self) -> Option<ConvertError> {
        match self {
            Demuxer::Ts(ts) => ts.error(),
            Demuxer::Fragments(f) => f.error(),
            Demuxer::Packed(p) => p.error(),
            Demuxer::Flv(f) => f.error(),
            Demuxer::Webm(w) => w.error(),
            Demuxer::Packets(p) => p.error(),
        }
    }
}

/// Key of a track on the timeline.
fn timeline_key(input: usize, id: u32) -> u32 {
    let input = u32::try_from(input).unwrap_or(u32::MAX);
    input.wrapping_shl(16) ^ id
}
