//! Incidents on disk: enough to go on after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use detectors::base::{Cause, Kind, MediaTime, Severity, Track};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::Epoch;
use crate::alert::incident::{About, Acknowledged, Incident, Key, Mute, Quiet, Topic};
use crate::alert::{Defect, Moment, Place};

/// Version of the shape; documents of another one are not read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct IncidentDoc {
    version: u32,
    about: AboutDoc,
    topic: String,
    incarnation: u64,
    sequence: u64,
    severity: String,
    labels: BTreeMap<String, String>,
    defects: Vec<DefectDoc>,
    streams: BTreeSet<String>,
    of_streams: usize,
    whole_instance: bool,
    quiet: Option<(String, String)>,
    overran: bool,
    flapping: bool,
    escalated: bool,
    times: u32,
    told: bool,
    acknowledged: Option<(String, Timestamp)>,
    opened: Timestamp,
    resolved: Option<Timestamp>,
    /// Who was told of it and not yet of its end; before this was written down, nobody knows.
    receivers: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AboutDoc {
    Stream(String),
    Label(String, String),
    Instance(String),
}

#[derive(Serialize, Deserialize)]
struct DefectDoc {
    id: String,
    fingerprint: String,
    stream: String,
    detector: String,
    rule: String,
    track: Option<(String, u8)>,
    member: Option<String>,
    severity: String,
    cause: String,
    place: Option<String>,
    value: Option<f64>,
    limit: f64,
    says: String,
    start: MomentDoc,
    end: Option<MomentDoc>,
}

#[derive(Serialize, Deserialize)]
struct MomentDoc {
    media_nanos: Option<i64>,
    utc: Timestamp,
}

/// An incident as JSON, with the receivers that were told of it and not yet of its end.
pub fn write(incident: &Incident, receivers: Vec<String>, epoch: &Epoch) -> String {
    let doc = IncidentDoc {
        version: VERSION,
        about: match &incident.key.about {
            About::Stream(id) => AboutDoc::Stream(id.to_string()),
            About::Label { name, value } => AboutDoc::Label(name.clone(), value.clone()),
            About::Instance(name) => AboutDoc::Instance(name.to_string()),
        },
        topic: incident.key.topic.as_str().to_owned(),
        incarnation: incident.incarnation,
        sequence: incident.sequence,
        severity: incident.severity.as_str().to_owned(),
        labels: (*incident.labels).clone(),
        defects: incident
            .defects
            .iter()
            .map(|d| defect_doc(d, epoch))
            .collect(),
        streams: incident.streams.iter().map(|id| id.to_string()).collect(),
        of_streams: incident.of_streams,
        whole_instance: incident.whole_instance,
        quiet: incident.quiet.as_ref().map(|quiet| {
            let by = match quiet {
                Quiet::Child(id) | Quiet::Muted(id) => id.clone(),
                _ => String::new(),
            };
            (quiet.as_str().to_owned(), by)
        }),
        overran: incident.overran,
        flapping: incident.flapping,
        escalated: incident.escalated,
        times: incident.times,
        told: incident.told,
        acknowledged: incident.acknowledged.as_ref().map(|a| (a.by.clone(), a.at)),
        opened: incident.opened,
        resolved: incident.resolved,
        receivers: Some(receivers),
    };
    // Plain structs of strings and finite numbers always serialise.
    serde_json::to_string(&doc).unwrap_or_default()
}

/// Who was told of an incident and not yet of its end, by its JSON; `None` where that was not written down.
pub fn receivers(text: &str) -> Option<Vec<String>> {
    let doc: IncidentDoc = serde_json::from_str(text).ok()?;
    doc.receivers
}

/// An incident from JSON; `None` when it is of another version, or names what this version does not know.
pub fn read(text: &str, epoch: &Epoch) -> Option<Incident> {
    let doc: IncidentDoc = serde_json::from_str(text).ok()?;
    if doc.version != VERSION {
        return None;
    }
    let labels = Arc::new(doc.labels);
    let defects = doc.defects.into_iter();
    Some(Incident {
        key: Key {
            about: match doc.about {
                AboutDoc::Stream(id) => About::Stream(id.into()),
                AboutDoc::Label(name, value) => About::Label { name, value },
                AboutDoc::Instance(name) => About::Instance(name.into()),
            },
            topic: Topic::parse(&doc.topic)?,
        },
        incarnation: doc.incarnation,
        sequence: doc.sequence,
        severity: Severity::parse(&doc.severity)?,
        defects: defects.filter_map(|d| defect(d, &labels, epoch)).collect(),
        labels,
        streams: doc.streams.into_iter().map(Arc::from).collect(),
        of_streams: doc.of_streams,
        whole_instance: doc.whole_instance,
        quiet: doc.quiet.and_then(|(word, by)| Quiet::parse(&word, by)),
        overran: doc.overran,
        flapping: doc.flapping,
        escalated: doc.escalated,
        times: doc.times,
        unknown: false,
        told: doc.told,
        acknowledged: doc.acknowledged.map(|(by, at)| Acknowledged { by, at }),
        opened: doc.opened,
        resolved: doc.resolved,
    })
}

fn defect_doc(defect: &Defect, epoch: &Epoch) -> DefectDoc {
    let moment = |moment: Moment| MomentDoc {
        media_nanos: moment.media.map(MediaTime::nanos),
        utc: epoch.utc(moment.arrival),
    };
    DefectDoc {
        id: defect.id.clone(),
        fingerprint: defect.fingerprint.clone(),
        stream: defect.stream.to_string(),
        detector: defect.detector.to_owned(),
        rule: defect.rule.to_owned(),
        track: defect.track.map(|t| (t.kind.as_str().to_owned(), t.index)),
        member: defect.member.as_ref().map(|m| m.to_string()),
        severity: defect.severity.as_str().to_owned(),
        cause: defect.cause.as_str().to_owned(),
        place: defect.place.map(|p| p.as_str().to_owned()),
        value: Some(defect.value).filter(|v| v.is_finite()),
        limit: defect.limit,
        says: defect.says.clone(),
        start: moment(defect.start),
        end: defect.end.map(moment),
    }
}

/// `None` when this version has no such detector or rule any more: nothing would ever end it.
fn defect(doc: DefectDoc, labels: &Arc<BTreeMap<String, String>>, epoch: &Epoch) -> Option<Defect> {
    let moment = |doc: MomentDoc| Moment {
        media: doc.media_nanos.map(MediaTime::from_nanos),
        arrival: epoch.arrival_of(doc.utc),
    };
    let descriptor = detectors::registry::find(&doc.detector)?;
    let rule = descriptor.rules.iter().find(|r| r.name == doc.rule);
    let signal = rule.and_then(|r| descriptor.signals.iter().find(|s| s.name == r.signal));
    let blind = crate::alert::judge::BLIND;
    Some(Defect {
        id: doc.id,
        fingerprint: doc.fingerprint,
        stream: doc.stream.into(),
        labels: Arc::clone(labels),
        detector: descriptor.name,
        rule: match rule {
            Some(rule) => rule.name,
            None => (doc.rule == blind).then_some(blind)?,
        },
        track: match doc.track {
            Some((kind, index)) => Some(Track {
                kind: [Kind::Video, Kind::Audio]
                    .into_iter()
                    .find(|k| k.as_str() == kind)?,
                index,
            }),
            None => None,
        },
        member: doc.member.map(Arc::from),
        severity: Severity::parse(&doc.severity)?,
        cause: Cause::ALL
            .iter()
            .copied()
            .find(|c| c.as_str() == doc.cause)?,
        place: doc.place.and_then(|word| Place::parse(&word)),
        av_offsets: Vec::new(),
        value: doc.value.unwrap_or(f64::NAN),
        limit: doc.limit,
        unit: signal.map_or("seconds", |s| s.unit),
        says: doc.says,
        start: moment(doc.start),
        end: doc.end.map(moment),
    })
}

#[derive(Serialize, Deserialize)]
struct MuteDoc {
    id: String,
    matchers: BTreeMap<String, String>,
    author: String,
    reason: String,
    from: Timestamp,
    until: Timestamp,
}

/// A mute as JSON.
pub fn write_mute(mute: &Mute) -> String {
    let mute = mute.clone();
    let doc = MuteDoc {
        id: mute.id,
        matchers: mute.matchers,
        author: mute.author,
        reason: mute.reason,
        from: mute.from,
        until: mute.until,
    };
    serde_json::to_string(&doc).unwrap_or_default()
}

/// A mute from JSON.
pub fn read_mute(text: &str) -> Option<Mute> {
    let doc: MuteDoc = serde_json::from_str(text).ok()?;
    Some(Mute {
        id: doc.id,
        matchers: doc.matchers,
        author: doc.author,
        reason: doc.reason,
        from: doc.from,
        until: doc.until,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::event::tests::transition;
    use super::*;
    use crate::alert::Change;
    use crate::alert::incident::{Machine, Policy};
    use detectors::base::Arrival;

    fn epoch(secs_later: i64) -> Epoch {
        Epoch {
            arrival: Arrival::from_millis(1_000_000),
            unix: Timestamp::from_second(1_700_000_000 + secs_later).unwrap(),
        }
    }

    #[test]
    fn an_incident_is_the_same_after_a_restart() {
        let mut machine = Machine::new("watch-1", Policy::default());
        let mut raise = transition(Change::Raise, "f1", Severity::Critical);
        raise.defect.place = Some(Place::Encoder);
        raise.defect.member = Some("720p".into());
        let mut other = transition(Change::Raise, "f2", Severity::Warning);
        other.defect.rule = crate::alert::judge::BLIND;
        let now = epoch(0).unix;
        machine.hear(&raise, now);
        machine.hear(&other, now);
        let id = machine.incidents().next().unwrap().id();
        machine.acknowledge(&id, "kim", now);
        for incident in machine.incidents() {
            let ops = || vec!["ops".to_owned()];
            let text = write(incident, ops(), &epoch(0));
            assert_eq!(receivers(&text), Some(ops()));
            let old = text.replace(",\"receivers\":[\"ops\"]", "");
            assert_eq!(
                (receivers(&old), read(&old, &epoch(0)).is_some()),
                (None, true)
            );
            assert_eq!(read(&text, &epoch(0)).as_ref(), Some(incident));
            // Another process, whose clock stood at the same number an hour later.
            let later = read(&text, &epoch(3600)).unwrap();
            let at = |i: &Incident| i.defects[0].start.arrival;
            assert_eq!(at(&later), Arrival::default(), "before the clock began");
            assert_eq!(write(&later, ops(), &epoch(3600)).len(), text.len());
            assert!(read(&text.replace("\"version\":1", "\"version\":9"), &epoch(0)).is_none());
        }
        assert!(read("{}", &epoch(0)).is_none());
    }

    #[test]
    fn a_defect_whose_rule_is_gone_is_left_out() {
        let mut machine = Machine::new("watch-1", Policy::default());
        machine.hear(
            &transition(Change::Raise, "f1", Severity::Critical),
            epoch(0).unix,
        );
        let incident = machine.incidents().next().unwrap();
        let text = write(incident, Vec::new(), &epoch(0)).replace("\"frozen\"", "\"gone\"");
        assert!(read(&text, &epoch(0)).unwrap().defects.is_empty());
    }

    #[test]
    fn a_mute_is_the_same_after_a_restart() {
        let mute = Mute {
            id: "m".into(),
            matchers: [("origin".to_owned(), "a".to_owned())].into(),
            author: "kim".into(),
            reason: "works".into(),
            from: epoch(0).unix,
            until: epoch(60).unix,
        };
        assert_eq!(read_mute(&write_mute(&mute)), Some(mute));
    }
}
