//! What `analyze` prints: JSON lines whose field names stay, or text for people.

use std::collections::BTreeMap;

use detectors::base::{Kind, Severity};
use serde::Serialize;

use crate::alert::{Defect, Moment, Place};
use crate::lane::Status;
use crate::notify::event::clean;

/// One line of `--format jsonl`, in start order.
#[derive(Debug, Serialize)]
pub struct DefectLine {
    r#type: &'static str,
    detector: &'static str,
    rule: &'static str,
    track: Option<String>,
    /// The rendition, where several are watched as one stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    severity: &'static str,
    cause: &'static str,
    /// Where it came in, where several renditions are watched and that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
    start_secs: f64,
    /// `null` when still open at the end.
    end_secs: Option<f64>,
    /// When a live watch would have told, on the media clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    raised_secs: Option<f64>,
    value: f64,
    limit: f64,
    unit: &'static str,
    sentence: String,
    id: String,
}

impl DefectLine {
    /// Of a defect found in a file, and when it was raised.
    pub fn of(defect: &Defect, raised: Option<Moment>) -> Self {
        Self {
            r#type: "defect",
            detector: defect.detector,
            rule: defect.rule,
            track: defect.track.map(|t| t.to_string()),
            member: defect.member.as_deref().map(clean),
            severity: defect.severity.as_str(),
            cause: defect.cause.as_str(),
            place: defect.place.map(Place::as_str),
            start_secs: millis(defect.start.media.map_or(0.0, |m| m.secs())),
            end_secs: defect
                .end
                .map(|end| millis(end.media.map_or(0.0, |m| m.secs()))),
            raised_secs: raised
                .and_then(|at| at.media)
                .map(|media| millis(media.secs())),
            value: millis(defect.value),
            limit: defect.limit,
            unit: defect.unit,
            sentence: defect.says.clone(),
            id: defect.id.clone(),
        }
    }
}

/// The last line of `--format jsonl`.
#[derive(Debug, Serialize)]
pub struct SummaryLine {
    r#type: &'static str,
    duration_secs: f64,
    video_frames: u64,
    audio_secs: f64,
    /// Share of the media in which each detector could measure; absent when nothing was due.
    coverage: BTreeMap<&'static str, f64>,
    cpu_secs: f64,
    defects: usize,
    /// Why the input could not be read to its end, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    input_cause: Option<&'static str>,
}

impl SummaryLine {
    /// Of the state of a lane after its input's end.
    pub fn of(
        status: &Status,
        defects: usize,
        cpu_secs: f64,
        input_cause: Option<&'static str>,
    ) -> Self {
        let tracks = |kind| {
            status
                .tracks
                .iter()
                .filter(move |t| t.info.track.kind == kind)
        };
        let audio_secs = tracks(Kind::Audio)
            .filter_map(|t| match &t.format {
                Some(detectors::base::Format::Audio(f)) => {
                    Some(t.decoded as f64 / f64::from(f.rate_hz))
                }
                _ => None,
            })
            .fold(0.0, f64::max);
        Self {
            r#type: "summary",
            duration_secs: millis(status.media_secs),
            video_frames: tracks(Kind::Video).map(|t| t.decoded).sum(),
            audio_secs: millis(audio_secs),
            coverage: status
                .detectors
                .iter()
                .filter(|d| d.due_secs > 0.0)
                .map(|d| {
                    (
                        d.detector,
                        millis((d.measured_secs / d.due_secs).clamp(0.0, 1.0)),
                    )
                })
                .collect(),
            cpu_secs: millis(cpu_secs),
            defects,
            input_cause,
        }
    }

    /// Whether anything was decoded.
    pub fn is_empty(&self) -> bool {
        self.video_frames == 0 && self.audio_secs == 0.0
    }

    /// For people.
    pub fn text(&self) -> String {
        let coverage: Vec<String> = self
            .coverage
            .iter()
            .map(|(name, share)| format!("{name} {:.0} %", share * 100.0))
            .collect();
        format!(
            "{:.1} s of media, {} pictures, {:.1} s of sound, {} defects, {:.2} s of CPU\nmeasured: {}",
            self.duration_secs,
            self.video_frames,
            self.audio_secs,
            self.defects,
            self.cpu_secs,
            if coverage.is_empty() {
                "nothing".to_owned()
            } else {
                coverage.join(", ")
            }
        )
    }
}

/// For people: one defect.
pub fn defect_text(defect: &Defect) -> String {
    let line = DefectLine::of(defect, None);
    let end = line.end_secs.map_or("the end".to_owned(), clock_text);
    let place = |m: &str| {
        let place = defect.place.filter(|place| !place.is_between());
        place.map(|place| place.phrase(m))
    };
    let member = (line.member).map_or(String::new(), |m| format!(" ({})", place(&m).unwrap_or(m)));
    let track = line
        .track
        .map_or(member.clone(), |t| format!(" on {t}{member}"));
    format!(
        "{} to {}  {:<8}  {}/{}{track}: {}{}",
        clock_text(line.start_secs),
        end,
        line.severity,
        line.detector,
        line.rule,
        defect.says,
        defect.av_words()
    )
}

/// The worst severity of some defects.
pub fn worst(defects: &[Defect]) -> Option<Severity> {
    defects.iter().map(|d| d.severity).max()
}

fn clock_text(secs: f64) -> String {
    let whole = secs.max(0.0);
    format!(
        "{:02}:{:02}:{:06.3}",
        whole as u64 / 3600,
        whole as u64 / 60 % 60,
        whole % 60.0
    )
}

fn millis(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_text_counts_hours() {
        assert_eq!(clock_text(3_725.5), "01:02:05.500");
    }
}
