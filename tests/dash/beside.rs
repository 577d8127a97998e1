//! Sound of a period beside its pictures: `presentationTimeOffset`, edit lists aside, against what the manifest says.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use detectors::base::{Cause, Fact};

use crate::origin::*;
use crate::rig::*;

/// Segments of a second, in milliseconds of media time that begins with this offset.
fn set(name: &str, offset_ms: u64, first_ms: u64) -> String {
    format!(
        "<AdaptationSet mimeType='{name}/mp2t'><SegmentTemplate timescale='1000' media='{name}_$Time$.ts' \
         presentationTimeOffset='{offset_ms}'><SegmentTimeline><S t='{first_ms}' d='1000' r='3'/></SegmentTimeline>\
         </SegmentTemplate><Representation id='{name}' bandwidth='1'/></AdaptationSet>"
    )
}

/// Two periods of four seconds: the pictures count from zero in each, sound from what is given for each, with segments
/// that begin there by the manifest, and are stamped so much later.
async fn played(sound: [(u64, u64); 2], late_ms: u64) -> Rig {
    let mut periods = String::new();
    for (n, (offset, first)) in sound.into_iter().enumerate() {
        let sets = set("video", 0, 0) + &set("audio", offset, first);
        let _ = write!(
            periods,
            "<Period start='PT{}S' duration='PT4S'>{sets}</Period>",
            4 * n
        );
    }
    let origin = Origin::start(move |asked| {
        let Some(name) = asked.path.strip_suffix(".ts") else {
            return ok(complete(8, &periods));
        };
        let (kind, time) = name.rsplit_once('_').unwrap();
        let late = if kind.ends_with("audio") { late_ms } else { 0 };
        let at = time.parse::<u64>().unwrap() + late;
        ok(timed(Duration::from_millis(at), RATE))
    })
    .await;
    let rig = dash(&format!("{}/a.mpd", origin.url));
    rig.to_end().await;
    rig
}

fn early(rig: &Rig) -> Vec<f64> {
    rig.facts.flat(|fact| match fact {
        Fact::ListsBeside(told) => told.audio_early_secs.into_iter().collect(),
        _ => Vec::new(),
    })
}

#[tokio::test]
async fn sound_of_a_period_is_held_against_its_pictures() {
    // Sound counts from elsewhere in each period, and the manifest says so.
    let elsewhere = [(90_000_000, 90_000_000), (7_000, 7_000)];
    let rig = played(elsewhere, 0).await;
    assert_eq!(met(&rig), BTreeMap::new());
    assert!(early(&rig).len() > 4);
    assert!(
        early(&rig).iter().all(|told| *told == 0.0),
        "{:?}",
        early(&rig)
    );
    // Segments are stamped 3 s later than that.
    let rig = played(elsewhere, 3_000).await;
    assert_eq!(
        met(&rig),
        only("audio_stamped_late", Cause::RenditionOffset)
    );
    let told = early(&rig);
    assert!(
        told.iter().all(|told| (told + 3.0).abs() < 0.001),
        "{told:?}"
    );
    // By the manifest, sound begins the second period 2 s after the pictures.
    let rig = played([(0, 0), (7_000, 9_000)], 0).await;
    assert_eq!(
        met(&rig),
        only("discontinuity_mismatch", Cause::DiscontinuityMismatch)
    );
}
