//! Decoding chains; with the files below it, the only place with GStreamer element names.
//!
//! Every chain is wired by hand and runs on one thread: the `appsrc` task (or, for files, the demuxer's), with a
//! single-threaded decoder and no queue.

mod coding;
pub(super) mod network;
pub(super) mod remux;
mod tap;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use detectors::base::{Cause, Kind, MediaTime};

use super::appsink::{self, Hub, Load, Way, lock};
use super::convert::ConvertError;
use super::{libav, teardown};
use crate::config;
use crate::transport::Codec;

pub(super) use coding::Coding;
use coding::{channels, is_layer_3, size};

/// Buffers carry media time plus this, so that media times before zero fit GStreamer's unsigned clock.
const HEADROOM_NANOS: i64 = 3_600_000_000_000;

/// Most channels of one sound track: as many as a MADI link (AES10) carries. What claims more is told as too costly.
const MAX_CHANNELS: u32 = 64;

/// How long a pipeline waits for the one before it to be drained.
const DRAIN: Duration = Duration::from_secs(10);

/// Layouts handed to detectors as they are; everything else is converted to one of them.
/// Plane 0 is luma (green for GBR) in all of them.
const PICTURE_FORMATS: &[&str] = &[
    "I420",
    "YV12",
    "NV12",
    "NV21",
    "Y42B",
    "Y444",
    "GRAY8",
    "I420_10LE",
    "I422_10LE",
    "Y444_10LE",
    "I420_12LE",
    "I422_12LE",
    "Y444_12LE",
    "Y444_16LE",
    "GRAY16_LE",
    "P010_10LE",
    "P012_LE",
    "P016_LE",
    "GBR",
    "GBR_10LE",
    "GBR_12LE",
];

/// Starts GStreamer once, with its log routed to ours.
pub(super) fn init() -> Result<(), ConvertError> {
    gst::init().map_err(|_| internal("GStreamer does not start"))?;
    libav::install();
    Ok(())
}

fn internal(detail: &str) -> ConvertError {
    ConvertError {
        cause: Cause::Internal,
        detail: detail.to_owned(),
    }
}

fn make(name: &str) -> Result<gst::Element, ConvertError> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|_| ConvertError {
            cause: Cause::UnsupportedCodec,
            detail: format!("GStreamer has no element `{name}`"),
        })
}

/// Sets a property if the element has it: versions and builds differ.
fn set(element: &gst::Element, name: &str, value: &str) {
    if element.has_property(name) {
        element.set_property_from_str(name, value);
    }
}

/// How pictures are decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) decode: config::Decode,
    pub(super) picture_pixels: u64,
    /// Hand units on at the pace of their timestamps.
    pub(super) paced: bool,
}

/// Parser and decoder of a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chain {
    codec: &'static str,
    parse: Option<&'static str>,
    decode: Option<&'static str>,
}

const fn chain(codec: &'static str, parse: &'static str, decode: &'static str) -> Chain {
    Chain {
        codec,
        parse: Some(parse),
        decode: Some(decode),
    }
}

const H264: Chain = chain("h264", "h264parse", "avdec_h264");
const HEVC: Chain = chain("hevc", "h265parse", "avdec_h265");
const MPEG2: Chain = chain("mpeg2", "mpegvideoparse", "avdec_mpeg2video");
const AAC: Chain = chain("aac", "aacparse", "avdec_aac");
const MPEG_AUDIO: Chain = chain("mp2", "mpegaudioparse", "mpg123audiodec");
const AC3: Chain = chain("ac3", "ac3parse", "avdec_ac3");
const EAC3: Chain = chain("eac3", "ac3parse", "avdec_eac3");
const OPUS: Chain = chain("opus", "opusparse", "opusdec");

/// Chain and input caps of an elementary stream in a transport stream.
fn elementary(codec: Codec, channels: Option<u8>) -> (Chain, gst::Caps) {
    // No alignment is claimed: PES packets may begin and end inside a NAL unit.
    let video = |name: &str| {
        gst::Caps::builder(name)
            .field("stream-format", "byte-stream")
            .build()
    };
    let aac = |format: &str| {
        gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 4)
            .field("stream-format", format)
            .build()
    };
    match codec {
        Codec::H264 => (H264, video("video/x-h264")),
        Codec::Hevc => (HEVC, video("video/x-h265")),
        Codec::Mpeg2 => (
            MPEG2,
            gst::Caps::builder("video/mpeg")
                .field("mpegversion", 2)
                .field("systemstream", false)
                .field("parsed", false)
                .build(),
        ),
        Codec::AacAdts => (AAC, aac("adts")),
        Codec::AacLatm => (chain("aac", "aacparse", "avdec_aac_latm"), aac("loas")),
        Codec::MpegAudio => (
            MPEG_AUDIO,
            gst::Caps::builder("audio/mpeg")
                .field("mpegversion", 1)
                .build(),
        ),
        Codec::Ac3 => (AC3, gst::Caps::new_empty_simple("audio/x-ac3")),
        Codec::Eac3 => (EAC3, gst::Caps::new_empty_simple("audio/x-eac3")),
        // Packets come framed: a parser would look for what is not there.
        Codec::Opus => (
            Chain {
                parse: None,
                ..OPUS
            },
            gst::Caps::builder("audio/x-opus")
                .field("channel-mapping-family", 0)
                .field("channels", i32::from(channels.unwrap_or(2)))
                .field("rate", 48_000)
                .build(),
        ),
    }
}

/// Chain for what a demuxer announces.
fn demuxed(caps: &gst::StructureRef) -> (Option<Kind>, Result<Chain, Cause>, String) {
    let name = caps.name().as_str();
    let plain = |codec, decode| {
        Ok(Chain {
            codec,
            parse: None,
            decode,
        })
    };
    let kind = match name {
        n if n.starts_with("video/") || n.starts_with("image/") => Some(Kind::Video),
        n if n.starts_with("audio/") => Some(Kind::Audio),
        _ => None,
    };
    if name == "application/x-cenc" || caps.has_field("original-media-type") {
        let inner = caps
            .get::<String>("original-media-type")
            .unwrap_or_default();
        let kind = if inner.starts_with("audio/") {
            Kind::Audio
        } else {
            Kind::Video
        };
        return (Some(kind), Err(Cause::EncryptedNoKey), inner);
    }
    let version = caps.get::<i32>("mpegversion").unwrap_or(0);
    let found = match name {
        "video/x-h264" => Ok(H264),
        "video/x-h265" => Ok(HEVC),
        "video/mpeg" if version == 4 => Ok(chain("mpeg4", "mpeg4videoparse", "avdec_mpeg4")),
        "video/mpeg" => Ok(MPEG2),
        "video/x-av1" => Ok(chain("av1", "av1parse", "av1dec")),
        "video/x-vp8" => plain("vp8", Some("avdec_vp8")),
        "video/x-vp9" => plain("vp9", Some("avdec_vp9")),
        "video/x-prores" => plain("prores", Some("avdec_prores")),
        "image/jpeg" => plain("mjpeg", Some("avdec_mjpeg")),
        "video/x-raw" => plain("raw", None),
        "audio/mpeg" if version == 1 => Ok(match caps.get::<i32>("layer") {
            Ok(3) => Chain {
                codec: "mp3",
                ..MPEG_AUDIO
            },
            _ => MPEG_AUDIO,
        }),
        "audio/mpeg" => Ok(AAC),
        "audio/x-ac3" => Ok(AC3),
        "audio/x-eac3" => Ok(EAC3),
        "audio/x-opus" => Ok(OPUS),
        "audio/x-flac" => Ok(chain("flac", "flacparse", "avdec_flac")),
        "audio/x-vorbis" => plain("vorbis", Some("vorbisdec")),
        "audio/x-raw" => plain("pcm", None),
        "audio/x-mulaw" => plain("pcmu", Some("mulawdec")),
        "audio/x-alaw" => plain("pcma", Some("alawdec")),
        _ => Err(Cause::UnsupportedCodec),
    };
    let word = found.map_or_else(|_| name.to_owned(), |c| c.codec.to_owned());
    (kind, found, word)
}

/// A track that a demuxer found.
#[derive(Debug, Clone)]
pub(super) struct Announced {
    /// Pictures or sound.
    pub(super) kind: Kind,
    /// Number in the container.
    pub(super) id: u32,
    /// Codec word.
    pub(super) codec: String,
    /// Why it cannot be decoded.
    pub(super) problem: Option<Cause>,
}

/// Decides what becomes of an announced track: its way out, or `None` to throw it away.
pub(super) type Claim = Box<dyn Fn(&Announced) -> Option<Arc<Way>> + Send + Sync>;

/// Whether a pipeline has come to its end, well or not.
pub(super) struct Done {
    hub: Arc<Hub>,
    ended: Mutex<Option<Result<(), ConvertError>>>,
    told: Condvar,
}

impl Done {
    fn new(hub: &Arc<Hub>) -> Arc<Self> {
        Arc::new(Self {
            hub: Arc::clone(hub),
            ended: Mutex::new(None),
            told: Condvar::new(),
        })
    }

    /// The first end counts.
    fn end(&self, how: Result<(), ConvertError>) {
        lock(&self.ended).get_or_insert(how);
        self.told.notify_all();
        self.hub.moved.notify_waiters();
    }

    pub(super) fn ended(&self) -> Option<Result<(), ConvertError>> {
        lock(&self.ended).clone()
    }

    fn wait(&self, limit: Duration) {
        let ended = lock(&self.ended);
        // Whether it ended or ran out of time, the next pipeline goes on.
        drop(
            self.told
                .wait_timeout_while(ended, limit, |e| e.is_none())
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

/// A running pipeline. Dropping it stops it in the background.
pub(super) struct Pipeline {
    pipeline: gst::Pipeline,
    source: Option<gst_app::AppSrc>,
    pub(super) load: Arc<Load>,
    pub(super) done: Arc<Done>,
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.done.end(Ok(()));
        self.load.clear();
        teardown::stop(self.pipeline.clone());
    }
}

impl Pipeline {
    fn empty(hub: &Arc<Hub>) -> Result<Self, ConvertError> {
        init()?;
        let pipeline = gst::Pipeline::new();
        let done = Done::new(hub);
        let load = Load::new(hub);
        let bus = pipeline.bus().ok_or_else(|| internal("no bus"))?;
        let (told, held) = (Arc::clone(&done), Arc::downgrade(&load));
        bus.set_sync_handler(move |_, message| {
            match message.view() {
                gst::MessageView::Eos(_) => told.end(Ok(())),
                gst::MessageView::Error(error) if goes_on(error.src()) && libav::lost_picture() => {
                    tracing::debug!(detail = %error.error(), "a picture could not be decoded");
                }
                gst::MessageView::Error(error) => {
                    let cause = cause_of(&error.error());
                    let debug = error.debug();
                    let reason = debug.as_ref().and_then(|d| d.lines().last());
                    let message = error.error().to_string();
                    let detail = format!("{message} {}", reason.unwrap_or_default());
                    let detail = libav::without_urls(&detail);
                    tracing::debug!(%detail, "pipeline error");
                    told.end(Err(ConvertError { cause, detail }));
                    if let Some(load) = held.upgrade() {
                        load.clear();
                    }
                }
                _ => {}
            }
            gst::BusSyncReply::Drop
        });
        Ok(Self {
            pipeline,
            source: None,
            load,
            done,
        })
    }

    /// Adds an `appsrc`, whose first buffer waits until `after` is done.
    fn with_source(
        mut self,
        caps: &gst::Caps,
        format: gst::Format,
        after: Option<Arc<Done>>,
    ) -> Result<(Self, gst_app::AppSrc), ConvertError> {
        let flowing = Arc::new(AtomicUsize::new(0));
        let (load, passed) = (Arc::clone(&self.load), Arc::clone(&flowing));
        let source = gst_app::AppSrc::builder()
            .caps(caps)
            .format(format)
            .stream_type(gst_app::AppStreamType::Stream)
            .block(false)
            .max_bytes(0)
            .callbacks(
                gst_app::AppSrcCallbacks::builder()
                    .need_data(move |_, _| load.take(passed.swap(0, Ordering::Relaxed)))
                    .build(),
            )
            .build();
        let pad = source
            .static_pad("src")
            .ok_or_else(|| internal("no source pad"))?;
        let load = Arc::clone(&self.load);
        let waiting = Mutex::new(after);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(before) = lock(&waiting).take() {
                before.wait(DRAIN);
            }
            let size = info.buffer().map_or(0, |b| b.size());
            load.take(flowing.swap(size, Ordering::Relaxed));
            gst::PadProbeReturn::Ok
        });
        self.add(source.upcast_ref())?;
        self.source = Some(source.clone());
        Ok((self, source))
    }

    fn add(&self, element: &gst::Element) -> Result<(), ConvertError> {
        self.pipeline
            .add(element)
            .map_err(|_| internal("element not added"))
    }

    fn play(self) -> Result<Self, ConvertError> {
        self.pipeline
            .set_state(gst::State::Playing)
            .map_err(|_| match self.done.ended() {
                Some(Err(error)) => error,
                _ => internal("pipeline does not start"),
            })?;
        Ok(self)
    }

    /// One elementary stream; buffers carry media time.
    pub(super) fn elementary(
        coding: &Coding,
        way: &Arc<Way>,
        settings: Settings,
        after: Option<Arc<Done>>,
    ) -> Result<Self, ConvertError> {
        let (chain, caps) = coding.chain()?;
        let (this, source) = Self::empty(&way.hub)?.with_source(&caps, gst::Format::Time, after)?;
        way.set_shift(-HEADROOM_NANOS);
        let pad = build_chain(&this.pipeline, chain, way, settings)?;
        source
            .static_pad("src")
            .ok_or_else(|| internal("no source pad"))?
            .link(&pad)
            .map_err(|_| internal("chain not linked"))?;
        this.play()
    }

    /// Fragmented MP4 as bytes.
    pub(super) fn fragments(
        hub: &Arc<Hub>,
        settings: Settings,
        after: Option<Arc<Done>>,
        claim: Claim,
    ) -> Result<Self, ConvertError> {
        let caps = gst::Caps::new_empty_simple("video/quicktime");
        let (this, source) = Self::empty(hub)?.with_source(&caps, gst::Format::Bytes, after)?;
        let demuxer = make("qtdemux")?;
        this.add(&demuxer)?;
        source
            .link(&demuxer)
            .map_err(|_| internal("demuxer not linked"))?;
        this.claim_pads(&demuxer, settings, claim);
        this.play()
    }

    /// A whole file in a container that GStreamer demultiplexes.
    pub(super) fn file(
        hub: &Arc<Hub>,
        path: &std::path::Path,
        demuxer: FileContainer,
        settings: Settings,
        claim: Claim,
    ) -> Result<Self, ConvertError> {
        let this = Self::empty(hub)?;
        let source = make("filesrc")?;
        source.set_property("location", path);
        let demuxer = make(match demuxer {
            FileContainer::Mp4 => "qtdemux",
            FileContainer::Matroska => "matroskademux",
            FileContainer::Wav => "wavparse",
        })?;
        this.add(&source)?;
        this.add(&demuxer)?;
        source
            .link(&demuxer)
            .map_err(|_| internal("demuxer not linked"))?;
        this.claim_pads(&demuxer, settings, claim);
        this.play()
    }

    /// Wires every pad the demuxer has or will have; an unlinked one would end the source.
    fn claim_pads(&self, demuxer: &gst::Element, settings: Settings, claim: Claim) {
        let pipeline = self.pipeline.downgrade();
        let wire = move |pad: &gst::Pad| {
            let Some(pipeline) = pipeline.upgrade() else {
                return;
            };
            if pad.is_linked() || wire_pad(&pipeline, pad, settings, &claim).is_some() {
                return;
            }
            if let Err(error) = network::throw_away(&pipeline, pad) {
                tracing::debug!(%error, "a pad stays unlinked");
            }
        };
        for pad in demuxer.src_pads() {
            wire(&pad);
        }
        demuxer.connect_pad_added(move |_, pad| wire(pad));
    }

    /// Pushes bytes; `media` and `decode_before` (presentation minus decoding time) when they have a time.
    pub(super) fn push(&self, bytes: Bytes, time: Option<BufferTime>) -> bool {
        let Some(source) = &self.source else {
            return false;
        };
        let size = bytes.len();
        let mut buffer = gst::Buffer::from_slice(bytes);
        if let (Some(time), Some(buffer)) = (time, buffer.get_mut()) {
            let clock = |nanos: i64| {
                u64::try_from(nanos.saturating_add(HEADROOM_NANOS))
                    .ok()
                    .map(gst::ClockTime::from_nseconds)
            };
            buffer.set_pts(clock(time.media.nanos()));
            buffer.set_dts(clock(
                time.media.nanos().saturating_sub(time.decode_ahead_nanos),
            ));
            if time.discontinuity {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        self.load.add(size);
        let taken = self.done.ended().is_none() && source.push_buffer(buffer).is_ok();
        if !taken {
            self.load.take(size);
        }
        taken
    }

    /// No more bytes follow.
    pub(super) fn end(&self) {
        match &self.source {
            Some(source) => {
                // A source that refuses the end is stopping already.
                let _ = source.end_of_stream();
            }
            None => self.done.end(Ok(())),
        }
    }
}

/// Time of a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct BufferTime {
    /// Presentation.
    pub(super) media: MediaTime,
    /// Presentation minus decoding time.
    pub(super) decode_ahead_nanos: i64,
    /// Bytes before it are missing.
    pub(super) discontinuity: bool,
}

/// Containers of files that GStreamer demultiplexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileContainer {
    /// MP4 or QuickTime, progressive or fragmented.
    Mp4,
    /// Matroska or WebM.
    Matroska,
    /// RIFF WAVE.
    Wav,
}

/// Wires a demuxer's pad; `None` when the track is unwanted or cannot be decoded.
fn wire_pad(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    settings: Settings,
    claim: &Claim,
) -> Option<()> {
    // A pad that is always there (WAV) has no caps yet; it will carry plain samples.
    let caps = pad
        .current_caps()
        .unwrap_or_else(|| gst::Caps::new_empty_simple("audio/x-raw"));
    let (kind, found, codec) = demuxed(caps.structure(0)?);
    let announced = Announced {
        kind: kind?,
        id: track_number(pad),
        codec,
        problem: found.err(),
    };
    let way = claim(&announced)?;
    let chain = found.ok()?;
    let first = build_chain(pipeline, chain, &way, settings)
        .inspect_err(|error| tracing::debug!(%error, "no chain for a track"))
        .ok()?;
    if way.track.kind == Kind::Video {
        tell_clean_points(pad, &way);
    }
    pad.link(&first).ok()?;
    Some(())
}

/// Tells where decoding may begin, as the container says.
fn tell_clean_points(pad: &gst::Pad, way: &Arc<Way>) {
    let way = Arc::clone(way);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data
            && !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT)
            && let Some(pts) = buffer.pts()
        {
            way.clean_point(running_time(pad, &way, pts));
        }
        gst::PadProbeReturn::Ok
    });
}

/// The time that media time counts from, of a buffer on a pad.
fn running_time(pad: &gst::Pad, way: &Way, pts: gst::ClockTime) -> gst::ClockTime {
    let event = pad.sticky_event::<gst::event::Segment>(0);
    let segment = event.as_ref().and_then(|e| e.segment().downcast_ref());
    way.time_of(segment, pts)
}

/// The track's number in its container, from the stream id or else the pad's name.
fn track_number(pad: &gst::Pad) -> u32 {
    let digits = |text: &str, by: char| text.rsplit(by).next().and_then(|t| t.parse::<u32>().ok());
    pad.stream_id()
        .and_then(|id| digits(&id, '/'))
        .or_else(|| digits(&pad.name(), '_'))
        .unwrap_or(0)
}

/// Decoders pad their pictures. Told that strides are read, they hand over their own memory; otherwise they copy
/// every picture into a plain one.
fn accept_padded_pictures(sink: &gst_app::AppSink) -> Result<(), ConvertError> {
    let pad = sink
        .static_pad("sink")
        .ok_or_else(|| internal("no sink pad"))?;
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        let Some(gst::QueryViewMut::Allocation(query)) = info.query_mut().map(|q| q.view_mut())
        else {
            return gst::PadProbeReturn::Ok;
        };
        query.add_allocation_meta::<gst_video::VideoMeta>(None);
        gst::PadProbeReturn::Handled
    });
    Ok(())
}

/// Builds parser, decoder and sink, started like the pipeline; returns the pad to feed.
fn build_chain(
    pipeline: &gst::Pipeline,
    chain: Chain,
    way: &Arc<Way>,
    settings: Settings,
) -> Result<gst::Pad, ConvertError> {
    let mut elements = Vec::new();
    if let Some(name) = chain.parse {
        elements.push(make(name)?);
    }
    let decoder = match chain.decode {
        Some(name) => {
            let decoder = make(name)?;
            for (property, value) in [
                ("max-threads", "1"),
                ("threads", "1"),
                ("qos", "false"),
                ("max-errors", "-1"),
                ("output-corrupt", "true"),
                // The automatic choice depends on whether the pipeline is live.
                ("std-compliance", "normal"),
                ("plc", "false"),
            ] {
                set(&decoder, property, value);
            }
            elements.push(decoder.clone());
            Some(decoder)
        }
        None => None,
    };
    let caps = match way.track.kind {
        Kind::Video => {
            // Passes decoder buffers through untouched unless their layout is none of ours.
            let convert = make("videoconvert")?;
            set(&convert, "n-threads", "1");
            set(&convert, "qos", "false");
            elements.push(convert);
            gst::Caps::builder("video/x-raw")
                .field("format", gst::List::new(PICTURE_FORMATS))
                .build()
        }
        Kind::Audio => {
            let convert = make("audioconvert")?;
            set(&convert, "dithering", "none");
            set(&convert, "noise-shaping", "none");
            elements.push(convert);
            gst::Caps::builder("audio/x-raw")
                .field("format", "F32LE")
                .field("layout", "interleaved")
                .build()
        }
    };
    let sink = gst_app::AppSink::builder()
        .caps(&caps)
        .sync(settings.paced)
        .async_(false)
        .max_buffers(1)
        .drop(false)
        .enable_last_sample(false)
        .wait_on_eos(false)
        .qos(false)
        .callbacks(appsink::callbacks(Arc::clone(way), || {}))
        .build();
    if way.track.kind == Kind::Video {
        accept_padded_pictures(&sink)?;
    }
    elements.push(sink.upcast());
    let not_linked = |_| internal("chain not linked");
    pipeline.add_many(&elements).map_err(not_linked)?;
    gst::Element::link_many(&elements).map_err(not_linked)?;
    for element in elements.iter().rev() {
        element.sync_state_with_parent().map_err(not_linked)?;
    }
    let first = elements
        .first()
        .and_then(|e| e.static_pad("sink"))
        .ok_or_else(|| internal("no pad to feed"))?;
    // What needs no decoder is watched where it comes in.
    let watched = decoder.as_ref().and_then(|d| d.static_pad("sink"));
    guard(watched.as_ref().unwrap_or(&first), decoder, way, settings);
    Ok(first)
}

/// Watches what is decoded: whose thread this is, how large pictures are and how many threads they get, how many
/// channels sound has.
fn guard(pad: &gst::Pad, decoder: Option<gst::Element>, way: &Arc<Way>, settings: Settings) {
    let owner = Arc::clone(way);
    let tap = tap::EncodedTap::new(way);
    let decoder = decoder.map(|d| d.downgrade());
    let too_large = AtomicBool::new(false);
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |pad, info| {
        libav::own(&owner);
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                if too_large.load(Ordering::Relaxed) {
                    // Not `Drop`, which unreferences what the bindings have taken already.
                    return gst::PadProbeReturn::Handled;
                }
                owner.feed(buffer.pts().map(|pts| running_time(pad, &owner, pts)));
                if let Some(tap) = &tap {
                    tap.buffer(pad, buffer);
                }
            }
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view()
                    && is_layer_3(caps.caps())
                {
                    owner.is_coded_as("mp3");
                }
                if let gst::EventView::Caps(caps) = event.view() {
                    let size = size(caps.caps());
                    let pixels = size.map_or(0, |(w, h)| u64::from(w) * u64::from(h));
                    let refused = pixels > settings.picture_pixels
                        || channels(caps.caps()).is_some_and(|n| n > MAX_CHANNELS);
                    if too_large.swap(refused, Ordering::Relaxed) != refused {
                        owner.too_costly(refused);
                    }
                    if refused {
                        return gst::PadProbeReturn::Handled;
                    }
                    if let (Some((_, height)), Some(decoder)) =
                        (size, decoder.as_ref().and_then(|d| d.upgrade()))
                        && height > settings.decode.large_above_height
                    {
                        set(&decoder, "thread-type", "frame");
                        let threads = settings.decode.large_threads.to_string();
                        set(&decoder, "max-threads", &threads);
                    }
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// Whether an element tells of every unit that it cannot decode as an error of the pipeline, yet takes the next one.
fn goes_on(element: Option<&gst::Object>) -> bool {
    let element = element.and_then(|object| object.downcast_ref::<gst::Element>());
    let factory = element.and_then(|element| element.factory());
    factory.is_some_and(|factory| factory.name() == "av1dec")
}

fn cause_of(error: &gst::glib::Error) -> Cause {
    use gst::{ResourceError, StreamError};
    match (error.kind::<StreamError>(), error.kind::<ResourceError>()) {
        (Some(StreamError::CodecNotFound), _) => Cause::UnsupportedCodec,
        (Some(StreamError::Decrypt | StreamError::DecryptNokey), _) => Cause::EncryptedNoKey,
        (Some(StreamError::TypeNotFound), _) => Cause::UnsupportedFormat,
        (Some(_), _) => Cause::Undecodable,
        (_, Some(ResourceError::NotFound | ResourceError::OpenRead)) => Cause::FileUnreadable,
        (_, Some(ResourceError::NotAuthorized)) => Cause::AuthRefused,
        _ => Cause::Undecodable,
    }
}
