//! Break markers in DASH events: SCTE 35 in an `EventStream` of the manifest, or in `emsg` boxes of segments (ANSI/SCTE
//! 214-1, 6.7; 214-3, 7.3).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use detectors::base::BreakEdge;

use super::xml::{self, Element};
use crate::transport::scte35::{self, SpliceMark};

/// Most events read of one period.
const EVENTS_MAX: usize = 1024;
/// Longest message that is read.
const MESSAGE_MAX: usize = 64 << 10;
/// Most marks of one event.
const MARKS_MAX: usize = 16;

/// An event of the manifest that marks ends of breaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `id`; the time where there is none.
    pub id: u64,
    /// When it takes effect, nanoseconds from the beginning of its period.
    pub at_nanos: i64,
    /// What it marks. Its time is that of the event.
    pub marks: Vec<SpliceMark>,
}

/// Whether events with this scheme carry SCTE 35.
pub fn is_splice_scheme(scheme: &str) -> bool {
    matches!(
        scheme,
        "urn:scte:scte35:2013:xml"
            | "urn:scte:scte35:2013:bin"
            | "urn:scte:scte35:2014:xml+bin"
            | "urn:scte:scte35:2014:xml"
            | "urn:scte:scte35:2014:bin"
    )
}

/// The ends of breaks that a message marks: a section, or a document that holds one or tells the same in XML. Times
/// of sections are those of the transport stream that they were made for: the event has its own.
pub fn splices(message: &[u8], lasts: Option<Duration>) -> Vec<SpliceMark> {
    let message = message
        .get(..MESSAGE_MAX.min(message.len()))
        .unwrap_or_default();
    let text = std::str::from_utf8(message).unwrap_or("").trim();
    let marks = match text.starts_with('<') {
        true => xml::read(text).map_or(Vec::new(), |root| told(&root)),
        false => scte35::parse(message).unwrap_or_default(),
    };
    timed(marks, lasts)
}

/// Reads the event streams of a period.
pub(super) fn read(period: &Element) -> Vec<Event> {
    let mut found = Vec::new();
    for stream in period.all("EventStream") {
        let scheme = stream.attribute("schemeIdUri").unwrap_or("");
        if !is_splice_scheme(scheme) {
            continue;
        }
        let number = |of: &Element, name| of.attribute(name).and_then(|text| text.parse().ok());
        let timescale = number(stream, "timescale").unwrap_or(1_u64).max(1);
        let nanos = |ticks: i128| {
            let nanos = ticks.saturating_mul(1_000_000_000) / i128::from(timescale);
            i64::try_from(nanos).unwrap_or(i64::MAX)
        };
        let offset = number(stream, "presentationTimeOffset").unwrap_or(0_u64);
        for event in stream.all("Event") {
            let time = number(event, "presentationTime").unwrap_or(0_u64);
            let lasts = number(event, "duration").map(|ticks: u64| {
                let nanos = nanos(ticks.into());
                Duration::from_nanos(nanos.unsigned_abs())
            });
            let marks = timed(message(event), lasts);
            if !marks.is_empty() && found.len() < EVENTS_MAX {
                found.push(Event {
                    id: number(event, "id").unwrap_or(time),
                    at_nanos: nanos(i128::from(time) - i128::from(offset)),
                    marks,
                });
            }
        }
    }
    found
}

/// What an `Event` element marks: by its children, or by a section in its text or its `messageData`.
fn message(event: &Element) -> Vec<SpliceMark> {
    if !event.children.is_empty() {
        return told(event);
    }
    let text = event.text().or_else(|| event.attribute("messageData"));
    text.map_or(Vec::new(), binary)
}

/// What a `Signal` or `SpliceInfoSection` in or below the element tells.
fn told(element: &Element) -> Vec<SpliceMark> {
    let find = |name| match element.name == name {
        true => Some(element),
        false => element.find(name),
    };
    if let Some(section) = find("Binary").and_then(Element::text) {
        return binary(section);
    }
    find("SpliceInfoSection").map_or(Vec::new(), section)
}

fn binary(text: &str) -> Vec<SpliceMark> {
    let text: String = text
        .chars()
        .take(MESSAGE_MAX)
        .filter(|c| !c.is_whitespace())
        .collect();
    let bytes = STANDARD.decode(text).unwrap_or_default();
    scte35::parse(&bytes).unwrap_or_default()
}

/// A section in XML (ANSI/SCTE 35, 11).
fn section(section: &Element) -> Vec<SpliceMark> {
    let flag = |of: &Element, name| matches!(of.attribute(name), Some("1" | "true"));
    let ticks = |of: &Element, name| {
        let ticks = of.attribute(name)?.parse::<u64>().ok()?;
        Some(Duration::from_micros(ticks.saturating_mul(100) / 9))
    };
    let id = |of: &Element, name| of.attribute(name).and_then(|text| text.parse().ok());
    let inserts = section
        .all("SpliceInsert")
        .filter(|insert| !flag(insert, "spliceEventCancelIndicator"))
        .map(|insert| SpliceMark {
            edge: match flag(insert, "outOfNetworkIndicator") {
                true => BreakEdge::Start,
                false => BreakEdge::End,
            },
            pts_90khz: None,
            planned: insert
                .first("BreakDuration")
                .and_then(|e| ticks(e, "duration")),
            event_id: id(insert, "spliceEventId"),
        });
    let descriptors = section
        .all("SegmentationDescriptor")
        .filter(|one| !flag(one, "segmentationEventCancelIndicator"))
        .filter_map(|one| {
            Some(SpliceMark {
                edge: scte35::edge(one.attribute("segmentationTypeId")?.parse().ok()?)?,
                pts_90khz: None,
                planned: ticks(one, "segmentationDuration"),
                event_id: id(one, "segmentationEventId"),
            })
        });
    inserts.chain(descriptors).collect()
}

/// The time is the event's, and so is the length of a break that tells none.
fn timed(mut marks: Vec<SpliceMark>, lasts: Option<Duration>) -> Vec<SpliceMark> {
    marks.truncate(MARKS_MAX);
    for mark in &mut marks {
        mark.pts_90khz = None;
        if mark.edge == BreakEdge::Start {
            mark.planned = mark.planned.or(lasts.filter(|lasts| !lasts.is_zero()));
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// `splice_insert` of event 0x4800008F with a break of 60.293 s (ANSI/SCTE 35, 14.2).
    const INSERT: &str = "/DAvAAAAAAAA///wFAVIAACPf+/+c2nALv4AUsz1AAAAAAAKAAhDVUVJAAABNWLbowo=";

    fn mark(edge: BreakEdge, secs: Option<u64>, event_id: u32) -> SpliceMark {
        SpliceMark {
            edge,
            pts_90khz: None,
            planned: secs.map(Duration::from_secs),
            event_id: Some(event_id),
        }
    }

    fn events(scheme: &str, inside: &str) -> Vec<Event> {
        let text = format!(
            "<Period><EventStream schemeIdUri='{scheme}' timescale='10' presentationTimeOffset='100'>\
             {inside}</EventStream></Period>"
        );
        read(&xml::read(&text).unwrap())
    }

    #[test]
    fn all_forms_of_scte_35_are_read() {
        let mut own = scte35::parse(&STANDARD.decode(INSERT).unwrap()).unwrap();
        assert_eq!(own.len(), 1);
        let own = SpliceMark {
            pts_90khz: None,
            ..own.remove(0)
        };
        assert_eq!(
            (own.edge, own.event_id),
            (BreakEdge::Start, Some(0x4800_008F))
        );
        let signal = format!(
            "<scte35:Signal xmlns:scte35='u'><scte35:Binary>\n {INSERT} </scte35:Binary></scte35:Signal>"
        );
        let binary = "urn:scte:scte35:2013:bin";
        for (scheme, inside) in [
            ("urn:scte:scte35:2014:xml+bin", &signal),
            (binary, &INSERT.to_owned()),
        ] {
            let event =
                format!("<Event presentationTime='150' duration='20' id='7'>{inside}</Event>");
            let expected = Event {
                id: 7,
                at_nanos: 5_000_000_000,
                marks: vec![own.clone()],
            };
            assert_eq!(events(scheme, &event), [expected], "{scheme}");
        }
        let attribute = format!("<Event messageData='{INSERT}'/>");
        let found = &events(binary, &attribute)[0];
        assert_eq!((found.id, found.at_nanos), (0, -10_000_000_000));
        let own = [own];
        assert_eq!(splices(&STANDARD.decode(INSERT).unwrap(), None), own);
        assert_eq!(splices(signal.as_bytes(), None), own);
    }

    #[test]
    fn sections_in_xml_tell_the_same() {
        let event = "<Event presentationTime='1' duration='300'><s:SpliceInfoSection xmlns:s='u'>\
            <s:SpliceInsert spliceEventId='9' outOfNetworkIndicator='true'>\
            <s:BreakDuration autoReturn='true' duration='5400000'/></s:SpliceInsert>\
            </s:SpliceInfoSection></Event>\
            <Event><Signal><SpliceInfoSection><SpliceInsert spliceEventId='9' outOfNetworkIndicator='0'/>\
            </SpliceInfoSection></Signal></Event>\
            <Event duration='300'><SpliceInfoSection><TimeSignal/>\
            <SegmentationDescriptor segmentationEventId='3' segmentationTypeId='48'/>\
            <SegmentationDescriptor segmentationEventId='4' segmentationTypeId='53'/>\
            <SegmentationDescriptor segmentationEventId='5' segmentationTypeId='16'/>\
            </SpliceInfoSection></Event>\
            <Event><SpliceInfoSection><SpliceInsert spliceEventCancelIndicator='1'/></SpliceInfoSection></Event>";
        let marks: Vec<_> = events("urn:scte:scte35:2013:xml", event)
            .into_iter()
            .map(|event| event.marks)
            .collect();
        assert_eq!(
            marks,
            [
                vec![mark(BreakEdge::Start, Some(60), 9)],
                vec![mark(BreakEdge::End, None, 9)],
                vec![
                    mark(BreakEdge::Start, Some(30), 3),
                    mark(BreakEdge::End, None, 4)
                ],
            ]
        );
    }

    #[test]
    fn other_events_and_damage_mark_nothing() {
        let insert = format!("<Event>{INSERT}</Event>");
        assert!(events("urn:example:other", &insert).is_empty());
        let scheme = "urn:scte:scte35:2013:bin";
        for bad in [
            "",
            "====",
            "/DAvAAAAAAAA",
            "<Signal/>",
            "<Signal><Binary/></Signal>",
        ] {
            assert!(
                events(scheme, &format!("<Event>{bad}</Event>")).is_empty(),
                "{bad}"
            );
        }
        let many = events(scheme, &insert.repeat(EVENTS_MAX + 10));
        assert_eq!(many.len(), EVENTS_MAX);
        assert!(splices(b"<", None).is_empty() && splices(&[0xFC; 99], None).is_empty());
    }
}
