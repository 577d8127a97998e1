//! DASH manifests (ISO/IEC 23009-1): what they say, which representation is pinned, which segment is next. Pure.
//!
//! A pinned representation is laid out as the same list of segments that an HLS media playlist is, so that one
//! cursor and one reader serve both: see [`Follower`]. Remote elements (`xlink`) are not followed: what stands in
//! their place in the manifest counts.

mod events;
mod follow;
mod patch;
mod read;
mod segments;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::ByteRange;

pub use events::{Event, is_splice_scheme, splices};
pub use follow::{Follower, Member, Role};
pub use patch::PatchError;
pub use segments::{Index, Unplayable};
pub use xml::{DEPTH_MAX, ELEMENTS_MAX};

/// A moment of the wall clock, in nanoseconds since 1970.
pub type UnixNanos = i64;

/// Why a manifest is of no use. The origin is at fault; another load may mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MpdError {
    /// Not well-formed XML in UTF-8.
    #[error("not well-formed XML")]
    NotXml,
    /// Some other document.
    #[error("not a DASH manifest")]
    NotAnMpd,
    /// It has a document type, which may define entities.
    #[error("a document type is not accepted")]
    DocumentType,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("more than {DEPTH_MAX} levels of elements")]
    TooDeep,
    /// More than [`ELEMENTS_MAX`] elements.
    #[error("more than {ELEMENTS_MAX} elements")]
    TooLong,
    /// A base URL that makes no URL.
    #[error("it names a URL that cannot be read")]
    BadUrl,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Mpd {
    /// `type="dynamic"`: segments become available as time passes.
    pub live: bool,
    /// `availabilityStartTime`; 1970 when not told.
    pub available_from: UnixNanos,
    /// `mediaPresentationDuration`.
    pub duration: Option<Duration>,
    /// `minimumUpdatePeriod`; without it the manifest need not be loaded again.
    pub update_every: Option<Duration>,
    /// `timeShiftBufferDepth`.
    pub window: Option<Duration>,
    /// `suggestedPresentationDelay`.
    pub delay: Option<Duration>,
    /// `Latency@target` of the `ServiceDescription`.
    pub latency: Option<Duration>,
    /// `Location`: where to load it from next time.
    pub location: Option<Url>,
    /// `PatchLocation`: where to load what will have changed.
    pub patch: Option<PatchLocation>,
    /// `UTCTiming`, in the order of preference.
    pub clocks: Vec<Clock>,
    /// It names elements that stand elsewhere (`xlink:href`).
    pub remote: bool,
    /// Periods with a known start, in order.
    pub periods: Vec<Period>,
    /// What a patch is applied to; kept where patches are offered.
    source: Option<Arc<Source>>,
}

/// A manifest as it was written, and where.
#[derive(Debug, PartialEq)]
struct Source {
    root: xml::Element,
    url: Url,
}

impl Mpd {
    /// The manifest that a patch (5.15) makes of this one. The patch is held to the limits of a manifest.
    pub fn patched(&self, patch: &[u8]) -> Result<Self, PatchError> {
        let source = self.source.as_ref().ok_or(PatchError::OtherState)?;
        let made = patch::apply(&source.root, &document(patch)?)?;
        Ok(read::read(made, &source.url)?)
    }
}

/// Where patches are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchLocation {
    /// Where the next patch is.
    pub url: Url,
    /// Later than this there is none any more; `None` = always.
    pub until: Option<UnixNanos>,
}

/// Where to learn the time of the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clock {
    /// Told in the manifest itself.
    Direct(UnixNanos),
    /// A document that holds an ISO 8601 or XML Schema time.
    Http(Url),
    /// A place whose answers to `HEAD` have a `Date`.
    Head(Url),
    /// A scheme that is not used: a word for it. NTP and SNTP are UDP services, which the address policy of what is
    /// fetched does not cover.
    Unused(&'static str),
}

/// A period.
#[derive(Debug, Clone, PartialEq)]
pub struct Period {
    /// Since the beginning of the presentation.
    pub start: Duration,
    /// Its length, when told by itself, the next period or the presentation.
    pub duration: Option<Duration>,
    /// Adaptation sets of pictures and sound.
    pub sets: Vec<AdaptationSet>,
    /// Break markers of its event streams.
    pub events: Vec<Event>,
}

/// What an adaptation set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Both in one.
    Muxed,
}

/// An adaptation set.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptationSet {
    /// What is in it.
    pub content: Content,
    /// RFC 5646 language.
    pub language: Option<String>,
    /// Its role is `main`.
    pub main: bool,
    /// Its representations, in the order written.
    pub representations: Vec<Representation>,
}

/// A representation, with all that it inherits.
#[derive(Debug, Clone, PartialEq)]
pub struct Representation {
    /// `id`.
    pub id: String,
    /// Bits a second; 0 when not told.
    pub bandwidth: u64,
    /// Picture rows.
    pub height: Option<u32>,
    /// `mimeType`, in lower case.
    pub mime: String,
    /// It is announced as protected; what is loaded tells more.
    pub encrypted: bool,
    /// Where ClearKey licences are given (`Laurl`).
    pub licence: Option<Arc<str>>,
    /// What its URLs are relative to.
    pub base: Url,
    /// How its segments are found.
    pub addressing: Addressing,
}

/// How segments are found.
#[derive(Debug, Clone, PartialEq)]
pub struct Addressing {
    /// Initialisation section.
    pub init: Option<Resource>,
    /// Where the segments are.
    pub media: Segments,
    /// How long they are.
    pub timing: Timing,
    /// Ticks a second, at least 1.
    pub timescale: u64,
    /// `presentationTimeOffset`, ticks.
    pub offset: u64,
    /// `startNumber`.
    pub start_number: u64,
    /// `endNumber`.
    pub end_number: Option<u64>,
    /// `availabilityTimeOffset`: segments may be asked for so long before they are complete.
    pub early: Duration,
}

/// A URL as written (or a template for one), and a part of what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// As written; empty = the base URL.
    pub uri: String,
    /// Part of it.
    pub range: Option<ByteRange>,
}

/// Where segments are.
#[derive(Debug, Clone, PartialEq)]
pub enum Segments {
    /// `SegmentTemplate@media`.
    Template(String),
    /// `SegmentList`.
    List(Arc<[Resource]>),
    /// One resource, `SegmentBase`; its index, when told.
    Whole {
        /// Where the `sidx` box is.
        index: Option<ByteRange>,
    },
}

/// How long segments are.
#[derive(Debug, Clone, PartialEq)]
pub enum Timing {
    /// All the same, ticks.
    Every(u64),
    /// `SegmentTimeline`.
    Timeline(Arc<[Run]>),
    /// Not told.
    Untold,
}

/// Segments of one length in a row (`S`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Media time of the first, ticks; `None` = where the previous run ends.
    pub time: Option<u64>,
    /// Ticks.
    pub duration: u64,
    /// More of them after the first; `None` = until the next run or the end.
    pub repeat: Option<u64>,
    /// `k`: parts of each, of equal length; at least 1.
    pub parts: u64,
}

/// Whether these bytes begin like a manifest: its root, behind a byte order mark, declarations and comments. Also
/// when nothing but those is seen yet.
pub fn looks_like_mpd(head: &[u8]) -> bool {
    let mut rest = super::without_mark(head).trim_ascii_start();
    let mut declared = false;
    loop {
        let end: &[u8] = if rest.starts_with(b"<!--") {
            b"-->"
        } else if rest.starts_with(b"<?") {
            b"?>"
        } else {
            break;
        };
        declared = true;
        match rest.windows(end.len()).position(|window| window == end) {
            Some(at) => rest = rest.get(at + end.len()..).unwrap_or(&[]).trim_ascii_start(),
            None => return true,
        }
    }
    if rest.is_empty() {
        return declared;
    }
    let Some(tag) = rest.strip_prefix(b"<") else {
        return false;
    };
    let name = tag
        .split(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))
        .next()
        .unwrap_or_default();
    name.rsplit(|byte| *byte == b':').next() == Some(b"MPD")
}

/// Reads a manifest that was loaded from this URL.
pub fn parse(bytes: &[u8], url: &Url) -> Result<Mpd, MpdError> {
    read::read(document(bytes)?, url)
}

fn document(bytes: &[u8]) -> Result<xml::Element, MpdError> {
    let text = std::str::from_utf8(super::without_mark(bytes)).map_err(|_| MpdError::NotXml)?;
    xml::read(text)
}

/// Reads a time as `UTCTiming` gives it; without a zone it is taken as UTC.
pub fn time(text: &str) -> Option<UnixNanos> {
    let text = text.trim();
    let stamp = match text.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => text
            .parse::<jiff::civil::DateTime>()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp(),
    };
    i64::try_from(stamp.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests;
