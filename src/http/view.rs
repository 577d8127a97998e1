//! What the API shows of a stream: plain structs that become JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use detectors::base::{Format, Kind, Track, Value};
use serde::Serialize;

use crate::alert::av_offset::{AvOffsets, Offset, Source};
use crate::lane::{Latest, Status, TrackStatus};
use crate::notify::event::{Epoch, clean, rfc3339_millis};
use crate::telemetry::export::Watched;

/// A stream in the list.
#[derive(Debug, Serialize)]
pub(super) struct Brief {
    pub id: String,
    /// `file` or `api`: who may change it.
    pub origin: &'static str,
    pub labels: BTreeMap<String, String>,
    pub protocol: &'static str,
    pub state: &'static str,
    pub cause: Option<&'static str>,
    pub tracks: Vec<String>,
    pub open_defects: usize,
    pub worst_severity: Option<&'static str>,
    /// When the newest picture arrived, UTC.
    pub last_picture_utc: Option<String>,
}

/// A stream with everything there is to tell.
#[derive(Debug, Serialize)]
pub(super) struct Full {
    #[serde(flatten)]
    pub brief: Brief,
    pub media_secs: f64,
    pub restarts: u64,
    pub input_bytes: u64,
    pub dropped_pictures: u64,
    pub queued_units: usize,
    pub track_details: Vec<TrackView>,
    pub readings: Vec<ReadingView>,
    pub detectors: Vec<DetectorView>,
}

/// A track.
#[derive(Debug, Serialize)]
pub(super) struct TrackView {
    pub track: String,
    pub codec: String,
    pub language: Option<String>,
    /// The rendition, where several are watched as one stream.
    pub member: Option<String>,
    pub problem: Option<&'static str>,
    pub format: Option<FormatView>,
    pub decoded: u64,
    pub last_utc: Option<String>,
    /// Of a sound track: where it lies against the picture by every way that measures now, the most believed first.
    pub av_offsets: Vec<Offset>,
}

/// A decoded format.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum FormatView {
    Video {
        width: u32,
        height: u32,
        rate_hz: f64,
        bits: u8,
        interlaced: bool,
    },
    Audio {
        rate_hz: u32,
        channels: u16,
    },
}

/// The newest reading of a signal: a value with its unit, or the reason for its absence.
#[derive(Debug, Serialize)]
pub(super) struct ReadingView {
    pub detector: &'static str,
    pub signal: &'static str,
    pub track: Option<String>,
    pub unit: &'static str,
    pub value: Option<f64>,
    pub unmeasurable: Option<&'static str>,
}

/// The work of a detector.
#[derive(Debug, Serialize)]
pub(super) struct DetectorView {
    pub detector: &'static str,
    pub analysed: u64,
    pub shed: u64,
    pub busy_secs: f64,
    pub measured_secs: f64,
    pub due_secs: f64,
    /// Share of the due time that was measured; `null` when nothing was due.
    pub coverage_ratio: Option<f64>,
    pub failed: bool,
}

/// Ids of streams that the API added.
type Added = BTreeSet<Arc<str>>;

pub(super) fn brief(status: &Status, added: &Added, epoch: Epoch) -> Brief {
    Brief {
        id: status.stream.id.to_string(),
        origin: match added.contains(&status.stream.id) {
            true => "api",
            false => "file",
        },
        labels: status
            .stream
            .labels
            .iter()
            .map(|(k, v)| (clean(k), clean(v)))
            .collect(),
        protocol: status.stream.input.protocol.as_str(),
        state: status.state.as_str(),
        cause: status.cause.map(|c| c.as_str()),
        tracks: status
            .tracks
            .iter()
            .map(|t| t.info.track.to_string())
            .collect(),
        open_defects: status.defects.len(),
        worst_severity: status
            .defects
            .iter()
            .map(|d| d.severity)
            .max()
            .map(|s| s.as_str()),
        last_picture_utc: (status.tracks.iter())
            .filter(|t| t.info.track.kind == Kind::Video)
            .filter_map(|t| t.last)
            .max()
            .map(|at| rfc3339_millis(epoch.utc(at))),
    }
}

pub(super) fn full((status, stats): &Watched, added: &Added, epoch: Epoch) -> Full {
    Full {
        brief: brief(status, added, epoch),
        media_secs: status.media_secs,
        restarts: stats.restarts.get(),
        input_bytes: stats.input_bytes.get(),
        dropped_pictures: status.dropped_pictures,
        queued_units: status.queued,
        track_details: (status.tracks.iter())
            .map(|t| track(t, av_offsets(status, t.info.track), epoch))
            .collect(),
        readings: status.latest.iter().map(reading).collect(),
        detectors: status
            .detectors
            .iter()
            .map(|d| DetectorView {
                detector: d.detector,
                analysed: d.analysed,
                shed: d.shed,
                busy_secs: d.busy_nanos as f64 / 1e9,
                measured_secs: d.measured_secs,
                due_secs: d.due_secs,
                coverage_ratio: (d.due_secs > 0.0).then(|| d.measured_secs / d.due_secs),
                failed: d.failed,
            })
            .collect(),
    }
}

fn av_offsets(status: &Status, track: Track) -> Vec<Offset> {
    let mut offsets = AvOffsets::default();
    for latest in status.latest.iter().filter(|l| l.track == Some(track)) {
        if let Some(source) = Source::of(latest.detector) {
            offsets.hear(source, latest.signal.name, &latest.reading);
        }
    }
    offsets.all().collect()
}

fn track(status: &TrackStatus, av_offsets: Vec<Offset>, epoch: Epoch) -> TrackView {
    TrackView {
        track: status.info.track.to_string(),
        codec: clean(&status.info.codec),
        language: status.info.language.as_deref().map(clean),
        member: status.info.member.as_deref().map(clean),
        problem: status.info.problem.map(|c| c.as_str()),
        format: status.format.as_ref().map(|format| match format {
            Format::Video(v) => FormatView::Video {
                width: v.width,
                height: v.height,
                rate_hz: v.rate_hz,
                bits: v.bits,
                interlaced: v.interlaced,
            },
            Format::Audio(a) => FormatView::Audio {
                rate_hz: a.rate_hz,
                channels: a.channels,
            },
        }),
        decoded: status.decoded,
        last_utc: status.last.map(|at| rfc3339_millis(epoch.utc(at))),
        av_offsets,
    }
}

fn reading(latest: &Latest) -> ReadingView {
    let (value, unmeasurable) = match latest.reading.value {
        Value::Measured(value) => (Some(value), None),
        Value::Unmeasurable(why) => (None, Some(why.as_str())),
    };
    ReadingView {
        detector: latest.detector,
        signal: latest.signal.name,
        track: latest.track.map(|t| t.to_string()),
        unit: latest.signal.unit,
        value,
        unmeasurable,
    }
}
