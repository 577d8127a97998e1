//! Manifests of a scripted origin, and the stream that reads them.

use std::time::Duration;

use glasswatch::config::{Input, Protocol};

use crate::rig::{Rig, rig_with};

/// Seconds that the presentation has been live for when a test begins.
pub const AGE: u64 = 30;

pub fn dash(url: &str) -> Rig {
    dash_with(url, |_| {})
}

pub fn dash_with(url: &str, adjust: impl FnOnce(&mut Input)) -> Rig {
    rig_with(url, |input| {
        input.protocol = Protocol::Dash;
        adjust(input);
    })
}

/// One representation of TS segments, whose marks tell what was read.
pub fn set(inside: &str) -> String {
    format!(
        "<AdaptationSet mimeType='video/mp2t'>{inside}<Representation id='v' bandwidth='1'/>\
         </AdaptationSet>"
    )
}

/// A complete presentation of `secs` seconds with these periods.
pub fn complete(secs: u64, periods: &str) -> String {
    format!("<MPD type='static' mediaPresentationDuration='PT{secs}S'>{periods}</MPD>")
}

/// `s1.ts`, `s2.ts`, one second each.
pub const NUMBERS: &str = "<SegmentTemplate media='s$Number$.ts' duration='1'/>";

/// A live presentation that began [`AGE`] before `began`, the start of the origin.
pub fn dynamic(began: jiff::Timestamp, inside: &str) -> String {
    let from = began - Duration::from_secs(AGE);
    format!(
        "<MPD type='dynamic' availabilityStartTime='{from}' timeShiftBufferDepth='PT8S' \
         minimumUpdatePeriod='PT1S'>{inside}</MPD>"
    )
}

/// A timeline of one-second segments named by their time, the last of which ends at `end` seconds.
pub fn timeline(end: u64) -> String {
    let first = end - 8;
    set(&format!(
        "<SegmentTemplate media='s$Time$.ts'><SegmentTimeline><S t='{first}' d='1' r='7'/>\
         </SegmentTimeline></SegmentTemplate>"
    ))
}

pub fn period(inside: &str) -> String {
    format!("<Period start='PT0S'>{inside}</Period>")
}

/// At least so many marks that follow one another from the edge on, of an origin whose first list is loaded in its first
/// seconds: a busy machine may need the second one.
pub fn assert_from_edge(marks: &[u8], least: usize) {
    let first = marks.first().copied().unwrap_or_default();
    assert!((27..=28).contains(&first), "{marks:?}");
    assert!(marks.len() >= least, "{marks:?}");
    assert!(marks.iter().zip(first..).all(|(a, b)| *a == b), "{marks:?}");
}
