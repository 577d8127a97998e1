//! Encoded units into a file, as they are: never decoded, never encoded again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::{init, make};
use crate::ingest::convert::ConvertError;
use crate::ingest::encoded::Encoding;
use crate::ingest::teardown;

/// One track of a file to be.
#[derive(Debug, Clone)]
pub struct Strand {
    /// How it is coded.
    pub encoding: Arc<Encoding>,
    /// Pictures, not sound.
    pub pictures: bool,
    /// Units in decoding order.
    pub units: Vec<StrandUnit>,
}

/// A unit of a [`Strand`].
#[derive(Debug, Clone)]
pub struct StrandUnit {
    /// Presentation, from the beginning of the file.
    pub pts_nanos: u64,
    /// Decoding, from the beginning of the file; never before the unit before it.
    pub dts_nanos: u64,
    /// Decoding may begin here.
    pub key: bool,
    /// Coded bytes.
    pub bytes: Bytes,
}

/// What became of strands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remuxed {
    /// Name of the file in its folder: `clip.mp4`, `clip.webm` or `clip.mkv`.
    pub file: &'static str,
    /// Positions of strands that no container takes.
    pub left_out: Vec<usize>,
}

/// Why there is no file. A retry with the same units does not help, except after [`RemuxError::Timeout`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemuxError {
    /// No track of a codec that a container takes.
    #[error("no track can be put into a file")]
    Nothing,
    /// An element is not installed, or refused the units.
    #[error("{0}")]
    Refused(String),
    /// It took too long.
    #[error("the multiplexer does not come to an end")]
    Timeout,
}

impl From<ConvertError> for RemuxError {
    fn from(error: ConvertError) -> Self {
        RemuxError::Refused(error.detail)
    }
}

/// Parser before the multiplexer, and the containers that take the codec besides Matroska.
struct Fit {
    parse: Option<&'static str>,
    mp4: bool,
    webm: bool,
}

fn fit(encoding: &Encoding) -> Option<Fit> {
    let caps = encoding.caps.structure(0)?;
    let version = caps.get::<i32>("mpegversion").unwrap_or(0);
    let fit = |parse, mp4, webm| Some(Fit { parse, mp4, webm });
    match caps.name().as_str() {
        "video/x-h264" => fit(Some("h264parse"), true, false),
        "video/x-h265" => fit(Some("h265parse"), true, false),
        "video/x-av1" => fit(Some("av1parse"), true, false),
        "video/x-vp8" => fit(None, false, true),
        "video/x-vp9" => fit(Some("vp9parse"), false, true),
        "video/mpeg" if version == 4 => fit(Some("mpeg4videoparse"), true, false),
        "video/mpeg" => fit(Some("mpegvideoparse"), false, false),
        "video/x-prores" | "image/jpeg" => fit(None, false, false),
        // Frames under LOAS headers fit no file.
        "audio/mpeg" if caps.get::<&str>("stream-format") == Ok("loas") => None,
        "audio/mpeg" if version == 4 => fit(Some("aacparse"), true, false),
        "audio/mpeg" => fit(Some("mpegaudioparse"), true, false),
        "audio/x-ac3" => fit(Some("ac3parse"), true, false),
        "audio/x-eac3" => fit(Some("ac3parse"), false, false),
        "audio/x-opus" => fit(Some("opusparse"), true, true),
        "audio/x-vorbis" => fit(None, false, true),
        "audio/x-flac" => fit(Some("flacparse"), false, false),
        "audio/x-mulaw" | "audio/x-alaw" => fit(None, false, false),
        _ => None,
    }
}

/// Writes the strands into a file in `folder`: MP4 with its index first when all codecs fit, else WebM, else
/// Matroska. Blocks for at most `limit`: not for media threads.
pub fn remux(strands: &[Strand], folder: &Path, limit: Duration) -> Result<Remuxed, RemuxError> {
    init()?;
    let fits: Vec<Option<Fit>> = strands.iter().map(|s| fit(&s.encoding)).collect();
    let taken = || fits.iter().flatten();
    if taken().next().is_none() {
        return Err(RemuxError::Nothing);
    }
    let (muxer, file) = match () {
        () if taken().all(|f| f.mp4) => ("mp4mux", "clip.mp4"),
        () if taken().all(|f| f.webm) => ("webmmux", "clip.webm"),
        () => ("matroskamux", "clip.mkv"),
    };
    let pipeline = Stopping(gst::Pipeline::new());
    let refused = |what: &str| RemuxError::Refused(what.to_owned());
    let muxer = make(muxer)?;
    if muxer.has_property("faststart") {
        let aside = folder.join(".mdat");
        muxer.set_property("faststart", true);
        muxer.set_property_from_str("faststart-file", &aside.to_string_lossy());
    }
    let sink = make("filesink")?;
    sink.set_property("location", folder.join(file));
    sink.set_property("async", false);
    sink.set_property("sync", false);
    pipeline
        .0
        .add_many([&muxer, &sink])
        .map_err(|_| refused("elements not added"))?;
    muxer
        .link(&sink)
        .map_err(|_| refused("the file is not linked"))?;
    let mut sources = Vec::new();
    for (strand, fit) in strands.iter().zip(&fits) {
        let Some(fit) = fit else { continue };
        sources.push((strand, source(&pipeline.0, &muxer, strand, fit)?));
    }
    let bus = pipeline.0.bus().ok_or_else(|| refused("no bus"))?;
    pipeline
        .0
        .set_state(gst::State::Playing)
        .map_err(|_| refused("the multiplexer does not start"))?;
    for (strand, source) in &sources {
        for unit in &strand.units {
            // A source that refuses is stopping: the bus says why.
            let _ = source.push_buffer(buffer(unit));
        }
        let _ = source.end_of_stream();
    }
    let limit = gst::ClockTime::try_from(limit).unwrap_or(gst::ClockTime::MAX);
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let Some(message) = bus.timed_pop_filtered(limit, &kinds) else {
        return Err(RemuxError::Timeout);
    };
    if let gst::MessageView::Error(error) = message.view() {
        return Err(RemuxError::Refused(error.error().to_string()));
    }
    let left_out = (0..fits.len()).filter(|at| fits.get(*at).is_some_and(Option::is_none));
    Ok(Remuxed {
        file,
        left_out: left_out.collect(),
    })
}

/// Stops in the background, however the function is left.
struct Stopping(gst::Pipeline);

impl Drop for Stopping {
    fn drop(&mut self) {
        teardown::stop(self.0.clone());
    }
}

fn source(
    pipeline: &gst::Pipeline,
    muxer: &gst::Element,
    strand: &Strand,
    fit: &Fit,
) -> Result<gst_app::AppSrc, RemuxError> {
    let refused = |what: &str| RemuxError::Refused(what.to_owned());
    let source = gst_app::AppSrc::builder()
        .caps(&strand.encoding.caps)
        .format(gst::Format::Time)
        .block(false)
        .max_bytes(0)
        .build();
    let mut last: gst::Element = source.clone().upcast();
    pipeline
        .add(&last)
        .map_err(|_| refused("elements not added"))?;
    if let Some(name) = fit.parse {
        let parser = make(name)?;
        pipeline
            .add(&parser)
            .map_err(|_| refused("elements not added"))?;
        last.link(&parser)
            .map_err(|_| refused("a parser is not linked"))?;
        last = parser;
    }
    let template = match strand.pictures {
        true => "video_%u",
        false => "audio_%u",
    };
    let pad = muxer
        .request_pad_simple(template)
        .ok_or_else(|| refused("the multiplexer takes no more tracks"))?;
    last.static_pad("src")
        .and_then(|src| src.link(&pad).ok())
        .ok_or_else(|| refused("a track is not linked"))?;
    Ok(source)
}

fn buffer(unit: &StrandUnit) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(unit.bytes.clone());
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(gst::ClockTime::from_nseconds(unit.pts_nanos));
        buffer.set_dts(gst::ClockTime::from_nseconds(unit.dts_nanos));
        if !unit.key {
            buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
    }
    buffer
}
