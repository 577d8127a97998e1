//! The alert event: one versioned JSON object, the same for webhooks, `--events` files and the API.
//!
//! Field names are stable within a `schema_version`; fields may be added, none is renamed or removed without a
//! new version. `docs/events.md` describes every field. No URL and no secret is ever part of an event; texts
//! that come from outside lose control characters and are cut to [`TEXT_BYTES`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use detectors::base::{Arrival, MediaTime, Severity};
use jiff::Timestamp;
use serde::Serialize;

use super::notice::DefectView;
use crate::alert::av_offset::in_words;
use crate::alert::{Change, Defect, Moment, Offset, Place, Transition};
use crate::ingest::clock;

/// Version of the event's shape.
pub const SCHEMA_VERSION: u32 = 1;

/// Longest text from outside, in bytes of UTF-8.
pub const TEXT_BYTES: usize = 256;

/// Most labels an event carries; more are left out.
pub const LABELS: usize = 32;

/// Ties the process's arrival clock to UTC: one pair of readings, taken at start.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    /// Arrival clock at that instant.
    pub arrival: Arrival,
    /// UTC at that instant.
    pub unix: Timestamp,
}

impl Epoch {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self {
            arrival: clock::now(),
            unix: Timestamp::now(),
        }
    }

    /// UTC of an arrival time; the epoch itself when out of the calendar's range.
    pub fn utc(&self, at: Arrival) -> Timestamp {
        let nanos = i128::from(at.nanos()) - i128::from(self.arrival.nanos());
        Timestamp::from_nanosecond(self.unix.as_nanosecond() + nanos).unwrap_or(self.unix)
    }

    /// Arrival time of a UTC; before the clock's beginning that.
    pub fn arrival_of(&self, utc: Timestamp) -> Arrival {
        let nanos = utc.as_nanosecond() - self.unix.as_nanosecond();
        let at = i128::from(self.arrival.nanos()) + nanos;
        Arrival::from_nanos(u64::try_from(at.max(0)).unwrap_or(u64::MAX))
    }

    /// Unix seconds of an arrival time.
    pub fn unix_secs(&self, at: Arrival) -> f64 {
        self.utc(at).as_nanosecond() as f64 / 1e9
    }
}

/// RFC 3339 in UTC with milliseconds, as everywhere in events and logs.
pub fn rfc3339_millis(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// What an event tells about its defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// It began.
    Raise,
    /// Severity, cause, place or worst value changed.
    Update,
    /// It ended.
    Clear,
}

impl From<Change> for EventType {
    fn from(change: Change) -> Self {
        match change {
            Change::Raise => EventType::Raise,
            Change::Update => EventType::Update,
            Change::Clear => EventType::Clear,
        }
    }
}

/// A moment on both clocks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct When {
    /// Seconds on the stream's media clock; `null` when unknown.
    pub media_secs: Option<f64>,
    /// UTC, RFC 3339 with milliseconds.
    pub utc: String,
}

/// An alert event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique for each event; the same on every retry, so receivers can drop repeats.
    pub event_id: String,
    /// What it tells.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Unique for each occurrence; the same in its raise, updates and clear.
    pub defect_id: String,
    /// Stable over occurrences and instances.
    #[serde(serialize_with = "shared_text")]
    pub fingerprint: Arc<str>,
    /// Stream id.
    #[serde(serialize_with = "shared_text")]
    pub stream: Arc<str>,
    /// Labels of the stream.
    pub labels: BTreeMap<String, String>,
    /// Which process saw it.
    #[serde(serialize_with = "shared_text")]
    pub instance: Arc<str>,
    /// Detector.
    pub detector: &'static str,
    /// Rule.
    pub rule: &'static str,
    /// `info`, `warning` or `critical`.
    #[serde(serialize_with = "severity_word")]
    pub severity: Severity,
    /// `record`, `ticket` or `page`.
    pub tier: &'static str,
    /// Machine-readable cause.
    pub cause: &'static str,
    /// Where it came in: `upstream`, `encoder`, `delivery`, `packager` or `before_packager`; `null` while that is not
    /// known.
    pub place: Option<&'static str>,
    /// `video:0`, `audio:1`; `null` for the stream as a whole.
    pub track: Option<String>,
    /// The rendition of the track (`720p@3000k`), where several are watched as one stream.
    pub member: Option<String>,
    /// Of a defect between sound and picture: what every way of measuring says; else empty.
    pub av_offsets: Vec<Offset>,
    /// Measured value, worst so far.
    pub value: f64,
    /// The limit it broke.
    pub limit: f64,
    /// Unit of both.
    pub unit: &'static str,
    /// One sentence in viewer's words, with the stream's name.
    pub sentence: String,
    /// Where it began.
    pub start: When,
    /// Where it ended; `null` while it is open.
    pub end: Option<When>,
    /// When this was decided.
    pub at: When,
    /// Stills, relative to the data folder (`evidence/…`); served at `/api/v1/` and this path.
    pub evidence: Vec<String>,
}

fn shared_text<S: serde::Serializer>(text: &Arc<str>, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(text)
}

fn severity_word<S: serde::Serializer>(severity: &Severity, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(severity.as_str())
}

impl Event {
    /// The event as one line of JSON, without the line feed.
    pub fn to_json(&self) -> String {
        // Plain structs of strings and numbers always serialise; NaN becomes `null`.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether it may go first when a queue overflows.
    pub fn is_expendable(&self) -> bool {
        self.kind == EventType::Update || self.severity == Severity::Info
    }
}

/// Finds the stills of a defect: paths relative to the data folder (`evidence/…`).
pub type EvidenceLookup = Arc<dyn Fn(&Defect) -> Vec<String> + Send + Sync>;

/// Makes events of transitions.
pub struct Composer {
    epoch: Epoch,
    instance: Arc<str>,
    evidence: Option<EvidenceLookup>,
    run: u64,
    next: AtomicU64,
}

impl Composer {
    /// For one run of one instance.
    pub fn new(epoch: Epoch, instance: &str, evidence: Option<EvidenceLookup>) -> Self {
        Self {
            epoch,
            instance: clean(instance).into(),
            evidence,
            run: fastrand::u64(..),
            next: AtomicU64::new(0),
        }
    }

    /// The event that tells a transition.
    pub fn compose(&self, transition: &Transition) -> Event {
        let defect = &transition.defect;
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        Event {
            schema_version: SCHEMA_VERSION,
            event_id: format!("evt_{:016x}{serial:08x}", self.run),
            kind: transition.change.into(),
            defect_id: clean(&defect.id),
            fingerprint: clean(&defect.fingerprint).into(),
            stream: clean(&defect.stream).into(),
            labels: defect
                .labels
                .iter()
                .take(LABELS)
                .map(|(k, v)| (clean(k), clean(v)))
                .collect(),
            instance: Arc::clone(&self.instance),
            detector: defect.detector,
            rule: defect.rule,
            severity: defect.severity,
            tier: defect.severity.tier(),
            cause: defect.cause.as_str(),
            place: defect.place.map(Place::as_str),
            track: defect.track.map(|t| t.to_string()),
            member: defect.member.as_deref().map(clean),
            av_offsets: defect.av_offsets.clone(),
            value: defect.value,
            limit: defect.limit,
            unit: defect.unit,
            sentence: sentence(transition),
            start: self.when(defect.start),
            end: defect.end.map(|end| self.when(end)),
            at: self.when(transition.at),
            evidence: self
                .evidence
                .as_ref()
                .map(|find| find(defect))
                .unwrap_or_default(),
        }
    }

    /// Name of this process.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// A defect as a part of an incident.
    pub fn view(&self, defect: &Defect) -> DefectView {
        let utc = |moment: Moment| rfc3339_millis(self.epoch.utc(moment.arrival));
        DefectView {
            defect_id: clean(&defect.id),
            detector: defect.detector.to_owned(),
            rule: defect.rule.to_owned(),
            severity: defect.severity.as_str().to_owned(),
            cause: defect.cause.as_str().to_owned(),
            place: defect.place.map(|place| place.as_str().to_owned()),
            track: defect.track.map(|t| t.to_string()),
            member: defect.member.as_deref().map(clean),
            value: Some(defect.value).filter(|value| value.is_finite()),
            limit: defect.limit,
            unit: defect.unit.to_owned(),
            says: viewer_words(defect),
            start: utc(defect.start),
            end: defect.end.map(utc),
            evidence: (self.evidence.as_ref())
                .map(|find| find(defect))
                .unwrap_or_default(),
            links: Vec::new(),
        }
    }

    fn when(&self, moment: Moment) -> When {
        When {
            media_secs: moment.media.map(MediaTime::secs),
            utc: rfc3339_millis(self.epoch.utc(moment.arrival)),
        }
    }
}

/// Strips control and direction-changing characters, and cuts to [`TEXT_BYTES`] at a character boundary.
pub fn clean(text: &str) -> String {
    clean_to(text, TEXT_BYTES)
}

/// As [`clean`], with another bound.
pub fn clean_to(text: &str, bytes: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes));
    for c in text.chars() {
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
        if c.is_control() || turns {
            continue;
        }
        if out.len() + c.len_utf8() > bytes {
            break;
        }
        out.push(c);
    }
    out
}

/// "News 1: the picture stands still, for 2.4 s so far."
fn sentence(transition: &Transition) -> String {
    let defect = &transition.defect;
    let name = clean(defect.labels.get("name").map_or(&*defect.stream, |n| n));
    let says = clean(&defect.says);
    let (_, measured) = parts(&says);
    let core = core_words(defect);
    let track = track_words(defect);
    let lasted = |until: Moment| secs_words(span(defect.start, until));
    if transition.change == Change::Clear {
        let lasted = lasted(defect.end.unwrap_or(transition.at));
        return format!("{name}: over after {lasted}: {core}{track}.");
    }
    let lasted = lasted(transition.at);
    let offset = offset_words(defect);
    // An offset in words says it better than the bare number.
    let measured = if offset.is_empty() { measured } else { "" };
    let ways = defect.av_words();
    format!("{name}: {core}{track}{offset}, for {lasted} so far.{measured}{ways}")
}

/// What a viewer notices, without a name and without an end: "the picture stands still (rendition 720p)".
pub fn viewer_words(defect: &Defect) -> String {
    format!(
        "{}{}{}",
        core_words(defect),
        track_words(defect),
        offset_words(defect)
    )
}

fn core_words(defect: &Defect) -> String {
    let says = clean(&defect.says);
    lower_first(parts(&says).0.trim().trim_end_matches('.'))
}

fn track_words(defect: &Defect) -> String {
    match (defect.track, &defect.member) {
        (_, Some(member)) => {
            let place = defect.place.filter(|place| !place.is_between());
            let place = place.map(|place| place.phrase(&clean(member)));
            format!(
                " ({})",
                place.unwrap_or_else(|| format!("rendition {}", clean(member)))
            )
        }
        (Some(track), None) if track.index > 0 => format!(" (track {track})"),
        _ => String::new(),
    }
}

/// Splits what the rule says ("The picture stands still.") from the figures behind it; of those, only
/// " Measured … (limit …)." is kept, since how long it lasts is told afresh.
fn parts(says: &str) -> (&str, &str) {
    let figures = [" For ", " Measured ", " Over after ", " Audio "];
    let cut = figures
        .iter()
        .filter_map(|mark| says.find(&format!(".{mark}")))
        .min()
        .map_or(says.len(), |dot| dot + 1);
    let (core, rest) = says.split_at(cut);
    let measured = if rest.starts_with(" Measured ") {
        rest
    } else {
        ""
    };
    (core, measured)
}

/// In media time when both ends have it, else in arrival time.
fn span(from: Moment, to: Moment) -> Duration {
    match (from.media, to.media) {
        (Some(from), Some(to)) if to > from => to.since(from),
        _ => to.arrival.since(from.arrival),
    }
}

fn secs_words(span: Duration) -> String {
    let secs = span.as_secs_f64();
    match secs {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{} min {} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {} min", s as u64 / 3600, s as u64 % 3600 / 60),
    }
}

/// The judged signal's value in words, where its sign has a meaning that nobody should have to know.
fn offset_words(defect: &Defect) -> String {
    let signal = detectors::registry::find(defect.detector)
        .and_then(|d| d.rules.iter().find(|r| r.name == defect.rule))
        .map_or("", |r| r.signal);
    offset_of(signal, defect.value)
}

fn offset_of(signal: &str, value: f64) -> String {
    if signal != "audio_early_secs" || !value.is_finite() {
        return String::new();
    }
    format!(" ({})", in_words(value))
}

/// Lower-cases the first letter, unless the first word is an abbreviation ("A/V", "TS").
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else {
        return String::new();
    };
    if second.is_some_and(|c| !c.is_lowercase() && c != ' ') {
        return text.to_owned();
    }
    first.to_lowercase().chain(text.chars().skip(1)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use detectors::base::{Cause, Track};

    pub(crate) fn transition(change: Change, fingerprint: &str, severity: Severity) -> Transition {
        let at = |ms: u64| Moment {
            media: Some(MediaTime::from_millis(ms as i64 + 500)),
            arrival: Arrival::from_millis(ms),
        };
        Transition {
            change,
            at: at(4400),
            defect: Defect {
                id: format!("{fingerprint}-1"),
                fingerprint: fingerprint.into(),
                stream: "news1".into(),
                labels: Arc::new([("name".to_owned(), "News 1".to_owned())].into()),
                detector: "freeze",
                rule: "frozen",
                track: Some(Track::video(0)),
                member: None,
                severity,
                cause: Cause::Frozen,
                place: None,
                av_offsets: Vec::new(),
                value: 2.4,
                limit: 2.0,
                unit: "seconds",
                says: "The picture stands still.".into(),
                start: at(2000),
                end: (change == Change::Clear).then(|| at(16_200)),
            },
        }
    }

    fn composer() -> Composer {
        let epoch = Epoch {
            arrival: Arrival::from_millis(1000),
            unix: "2026-03-01T12:00:00Z".parse().unwrap(),
        };
        Composer::new(epoch, "watch-1", None)
    }

    #[test]
    fn an_event_names_the_rendition_at_fault() {
        let mut change = transition(Change::Raise, "f1", Severity::Critical);
        change.defect.track = Some(Track::video(2));
        change.defect.member = Some("360p@\u{7}800k".into());
        let event = composer().compose(&change);
        assert_eq!(event.member.as_deref(), Some("360p@800k"));
        let sentence = event.sentence;
        assert!(
            sentence.contains(" (rendition 360p@800k), for"),
            "{sentence}"
        );
        change.defect.place = Some(Place::Encoder);
        let event = composer().compose(&change);
        assert_eq!(event.place, Some("encoder"));
        let sentence = event.sentence;
        let there = " (only in 360p@800k: its encoder), for";
        assert!(sentence.contains(there), "{sentence}");
    }

    #[test]
    fn an_event_has_exactly_the_documented_fields() {
        let event = composer().compose(&transition(Change::Raise, "f1", Severity::Critical));
        let json: serde_json::Value = serde_json::from_str(&event.to_json()).unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        let docs = include_str!("../../docs/events.md");
        for name in &names {
            assert!(
                docs.contains(&format!("| `{name}` |")),
                "{name} is not documented"
            );
        }
        let fields = docs.split("\n## ").next().unwrap();
        assert_eq!(fields.matches("\n| `").count(), names.len());
        assert_eq!(json["type"], "raise");
        assert_eq!(json["tier"], "page");
        assert_eq!(json["track"], "video:0");
        assert_eq!(json["start"]["media_secs"], 2.5);
        assert_eq!(json["start"]["utc"], "2026-03-01T12:00:01.000Z");
        assert_eq!(json["end"], serde_json::Value::Null);
    }

    #[test]
    fn sentences_are_in_viewers_words() {
        let c = composer();
        let says = |change| {
            c.compose(&transition(change, "f1", Severity::Critical))
                .sentence
        };
        assert_eq!(
            says(Change::Raise),
            "News 1: the picture stands still, for 2.4 s so far."
        );
        assert_eq!(
            says(Change::Clear),
            "News 1: over after 14.2 s: the picture stands still."
        );
        let (core, measured) = parts("The sound is silent. Measured -80 dBFS (limit -60 dBFS).");
        assert_eq!(core, "The sound is silent.");
        assert_eq!(measured, " Measured -80 dBFS (limit -60 dBFS).");
        assert_eq!(
            parts("It stands still. For 2.4 s (limit 2 s). Over after 9 s."),
            ("It stands still.", "")
        );
        assert_eq!(
            parts("The sound comes too early. Audio 80 ms early (limit 40 ms early)."),
            ("The sound comes too early.", "")
        );
        assert_eq!(offset_of("audio_early_secs", -0.08), " (audio 80 ms late)");
        assert_eq!(offset_of("audio_early_secs", 0.2), " (audio 200 ms early)");
        assert_eq!(offset_of("still_secs", 0.2), "");
        assert_eq!(lower_first("A/V offset"), "A/V offset");
        assert_eq!(lower_first(""), "");
        assert_eq!(secs_words(Duration::from_secs(3725)), "62 min 5 s");
    }

    #[test]
    fn ids_differ_and_texts_are_cleaned() {
        let c = composer();
        let mut t = transition(Change::Raise, "f1", Severity::Info);
        t.defect.labels = Arc::new(
            [
                ("name".to_owned(), "a\u{1b}[31m\nb\u{202e}c".to_owned()),
                ("long".to_owned(), "é".repeat(200)),
            ]
            .into(),
        );
        let (a, b) = (c.compose(&t), c.compose(&t));
        assert_ne!(a.event_id, b.event_id);
        assert_eq!(a.labels["name"], "a[31mbc");
        assert_eq!(a.labels["long"].len(), 256);
        assert!(a.sentence.starts_with("a[31mbc: "));
        assert!(a.is_expendable());
    }

    #[test]
    fn epoch_maps_both_directions_of_time() {
        let epoch = composer().epoch;
        let before = epoch.utc(Arrival::from_millis(0));
        assert_eq!(rfc3339_millis(before), "2026-03-01T11:59:59.000Z");
    }
}
