//! What receivers are told of an incident: one versioned JSON object.
//!
//! Field names are stable within a `schema_version`; fields may be added, none is renamed or removed without a new
//! version. `docs/incidents.md` describes every field. No URL of an input and no secret is ever part of it.

use std::collections::BTreeMap;

use detectors::base::Severity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::{Composer, LABELS, clean, rfc3339_millis, viewer_words};
use crate::alert::Defect;
use crate::alert::incident::{About, CANARY, Incident, News, Notice, Quiet, Topic};

/// Version of the shape.
pub const SCHEMA_VERSION: u32 = 1;
/// Most streams of a parent that are named one by one.
pub const STREAMS: usize = 50;
/// Most defects that are told one by one; the worst go first.
pub const DEFECTS: usize = 10;

/// A defect of an incident, as far as receivers need it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DefectView {
    /// As in its events.
    pub defect_id: String,
    /// Detector.
    pub detector: String,
    /// Rule.
    pub rule: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// Machine-readable cause.
    pub cause: String,
    /// Where it came in, when that is known.
    pub place: Option<String>,
    /// `video:0`, `audio:1`; `null` for the stream as a whole.
    pub track: Option<String>,
    /// Rendition of the track.
    pub member: Option<String>,
    /// Measured value, worst so far.
    pub value: Option<f64>,
    /// The limit it broke.
    pub limit: f64,
    /// Unit of both.
    pub unit: String,
    /// What a viewer notices.
    pub says: String,
    /// Where it began, UTC.
    pub start: String,
    /// Where it ended, UTC; `null` while it is open.
    pub end: Option<String>,
    /// Sets of evidence, relative to the data folder.
    pub evidence: Vec<String>,
    /// A link to each of them that needs no token, for receivers; none without `http.public_url`, and none in the API.
    #[serde(default)]
    pub links: Vec<String>,
}

/// An incident, as receivers and the API tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique for each change, the same on every retry: drop repeats by it.
    pub message_id: String,
    /// `raised`, `updated`, `acknowledged`, `resolved`; in the API also `recorded`.
    pub news: String,
    /// One occurrence: the same from raised to resolved, another one next time.
    pub incident_id: String,
    /// The same for every occurrence, on every instance.
    pub key: String,
    /// Which occurrence: grows from one to the next.
    pub incarnation: u64,
    /// Counts the changes of this occurrence.
    pub sequence: u64,
    /// `open` or `resolved`.
    pub state: String,
    /// `info`, `warning` or `critical`: the worst so far.
    pub severity: String,
    /// `record`, `ticket` or `page`.
    pub tier: String,
    /// `input`, `programme`, `blind`, `together`, `monitor`, or a detector's name.
    pub topic: String,
    /// Stream id; `null` when it is about several.
    pub stream: Option<String>,
    /// Name for people: the stream's label `name`, else its id, or what several streams share.
    pub name: String,
    /// Labels of the stream, or those that the streams share.
    pub labels: BTreeMap<String, String>,
    /// Machine-readable cause of the worst defect; of a parent `many_streams`.
    pub cause: String,
    /// One sentence.
    pub title: String,
    /// What else there is to know, sentences.
    pub text: String,
    /// Which process saw it.
    pub instance: String,
    /// Why it is recorded and not told: `child`, `input_lost`, `muted`, `expected`, `held`, `told_lately`.
    pub quiet: Option<String>,
    /// Id of the parent or of the mute behind it.
    pub quiet_by: Option<String>,
    /// It comes and goes.
    pub flapping: bool,
    /// It pages because it came so often.
    pub escalated: bool,
    /// A break lasts longer than announced.
    pub overran: bool,
    /// It was loaded after a restart, and nothing is known since.
    pub unknown: bool,
    /// How often it turned bad since it was opened.
    pub times: u32,
    /// Streams that fail together, at most [`STREAMS`] of them.
    pub streams: Vec<String>,
    /// How many fail together.
    pub streams_bad: usize,
    /// How many there are that share it.
    pub streams_total: usize,
    /// Every stream of this instance is bad.
    pub whole_instance: bool,
    /// Who took it on.
    pub acknowledged_by: Option<String>,
    /// When it began, UTC.
    pub opened: String,
    /// When it ended, UTC.
    pub resolved: Option<String>,
    /// When this was decided, UTC.
    pub at: String,
    /// Its defects, at most [`DEFECTS`], open ones and bad ones first.
    pub defects: Vec<DefectView>,
}

impl Message {
    /// Of a notice.
    pub fn of(notice: &Notice, composer: &Composer) -> Self {
        let incident = &*notice.incident;
        let mut defects: Vec<&Defect> = incident.defects.iter().collect();
        defects.sort_by_key(|d| (d.end.is_some(), std::cmp::Reverse(d.severity)));
        let (stream, name) = match &incident.key.about {
            About::Stream(id) => {
                let name = incident.labels.get("name").map_or(&**id, String::as_str);
                (Some(clean(id)), clean(name))
            }
            About::Label { name, value } => (None, clean(&format!("{name}={value}"))),
            About::Instance(_) => (None, clean(composer.instance())),
        };
        let title = title(notice.news, incident, &name, defects.first().copied());
        let cause = match (&incident.key.topic, defects.first()) {
            (Topic::Together, _) => "many_streams",
            (_, Some(worst)) => worst.cause.as_str(),
            (_, None) => "unknown",
        };
        let utc = |at: Timestamp| rfc3339_millis(at);
        Self {
            schema_version: SCHEMA_VERSION,
            message_id: format!("{}-{}", incident.id(), incident.sequence),
            news: notice.news.as_str().to_owned(),
            incident_id: incident.id(),
            key: incident.key.hash(),
            incarnation: incident.incarnation,
            sequence: incident.sequence,
            state: match incident.resolved {
                None => "open".to_owned(),
                Some(_) => "resolved".to_owned(),
            },
            severity: incident.severity.as_str().to_owned(),
            tier: incident.severity.tier().to_owned(),
            topic: incident.key.topic.as_str().to_owned(),
            stream,
            name,
            labels: (incident.labels.iter())
                .take(LABELS)
                .map(|(k, v)| (clean(k), clean(v)))
                .collect(),
            cause: cause.to_owned(),
            title,
            text: text(incident, &defects),
            instance: composer.instance().to_owned(),
            quiet: incident
                .quiet
                .as_ref()
                .map(|quiet| quiet.as_str().to_owned()),
            quiet_by: match &incident.quiet {
                Some(Quiet::Child(id) | Quiet::Muted(id)) => Some(clean(id)),
                _ => None,
            },
            flapping: incident.flapping,
            escalated: incident.escalated,
            overran: incident.overran,
            unknown: incident.unknown,
            times: incident.times,
            streams: incident
                .streams
                .iter()
                .take(STREAMS)
                .map(|id| clean(id))
                .collect(),
            streams_bad: incident.streams.len(),
            streams_total: incident.of_streams,
            whole_instance: incident.whole_instance,
            acknowledged_by: incident.acknowledged.as_ref().map(|by| clean(&by.by)),
            opened: utc(incident.opened),
            resolved: incident.resolved.map(utc),
            at: utc(notice.at),
            defects: (defects.iter().take(DEFECTS))
                .map(|defect| composer.view(defect))
                .collect(),
        }
    }

    /// Whether it is of the canary.
    pub fn is_canary(&self) -> bool {
        self.stream.as_deref() == Some(CANARY)
    }

    /// Whether it says that the incident is over.
    pub fn is_resolved(&self) -> bool {
        self.news == News::Resolved.as_str()
    }

    /// Its severity.
    pub fn severity(&self) -> Severity {
        Severity::parse(&self.severity).unwrap_or(Severity::Critical)
    }
}

fn title(news: News, incident: &Incident, name: &str, worst: Option<&Defect>) -> String {
    let core = match incident.key.topic {
        Topic::Together => {
            let (bad, total) = (incident.streams.len(), incident.of_streams.max(1));
            match incident.key.about {
                About::Instance(_) => format!("all {total} streams of this instance fail together"),
                _ => format!("{bad} of {total} streams fail together"),
            }
        }
        _ => worst.map_or_else(|| "nothing is known".to_owned(), viewer_words),
    };
    match news {
        News::Resolved => format!("{name}: over: {core}."),
        _ => format!("{name}: {core}."),
    }
}

fn text(incident: &Incident, defects: &[&Defect]) -> String {
    let mut says = Vec::new();
    let silent = incident.open().any(|d| d.detector == "silence");
    if silent && defects.first().is_some_and(|d| d.detector != "silence") {
        says.push("There is no sound either.".to_owned());
    }
    if incident.whole_instance {
        says.push(
            "Every stream of this instance is bad: look at this instance and its network first."
                .to_owned(),
        );
    }
    if incident.overran {
        says.push("It lasts longer than the break was announced to.".to_owned());
    }
    if incident.flapping {
        says.push(format!(
            "It comes and goes: {} times so far.",
            incident.times
        ));
    }
    if incident.escalated {
        says.push("It pages because it came so often.".to_owned());
    }
    if incident.unknown {
        says.push("The monitor started anew, and nothing has been measured since.".to_owned());
    }
    let others = defects.iter().skip(1).filter(|d| d.end.is_none());
    let others: Vec<String> = others.take(3).map(|d| viewer_words(d)).collect();
    if !others.is_empty() {
        says.push(format!("Also: {}.", others.join("; ")));
    }
    says.join(" ")
}
