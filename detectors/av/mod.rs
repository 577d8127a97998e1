//! Detectors of defects between sound and picture.

pub mod av_edges;
pub mod av_languages;
pub mod av_pattern;
pub mod av_reference;
pub mod av_timing;

use std::time::Duration;

use crate::base::{Cause, Limit, RuleSpec, Severity};

/// The middle value, of an even number the upper one of two; `None` of none.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut all: Vec<f64> = values.into_iter().collect();
    let middle = all.len() / 2;
    (!all.is_empty()).then(|| *all.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// A rule on an offset that must last for two seconds, and be back for as long.
const fn rule(
    name: &'static str,
    signal: &'static str,
    (raise, clear): (Limit, Limit),
    severity: Severity,
    cause: Cause,
    says: &'static str,
) -> RuleSpec {
    RuleSpec {
        name,
        signal,
        raise,
        clear,
        hold: Duration::from_secs(2),
        release: Duration::from_secs(2),
        severity,
        cause,
        says,
    }
}

/// Rules on `step_secs`: 45 ms, which a viewer notices (ITU-R BT.1359-1), off what was usual before.
const fn step_rules(cause: Cause, [earlier, later]: [&'static str; 2]) -> [RuleSpec; 2] {
    [
        rule(
            "step_earlier",
            "step_secs",
            (Limit::AtLeast(0.045), Limit::AtMost(0.030)),
            Severity::Warning,
            cause,
            earlier,
        ),
        rule(
            "step_later",
            "step_secs",
            (Limit::AtMost(-0.045), Limit::AtLeast(-0.030)),
            Severity::Warning,
            cause,
            later,
        ),
    ]
}

/// Rules on `audio_early_secs` where the offset itself is known, not only a change of it: warnings by EBU R37 for a whole
/// chain (40 ms early, 60 ms late), pages by the acceptability of ITU-R BT.1359-1 (90 ms early, 185 ms late). `says`: far
/// too early, far too late, too early, too late.
const fn offset_rules(cause: Cause, says: [&'static str; 4]) -> [RuleSpec; 4] {
    let [far_early, far_late, early, late] = says;
    [
        rule(
            "audio_early_unacceptable",
            "audio_early_secs",
            (Limit::AtLeast(0.090), Limit::AtMost(0.080)),
            Severity::Critical,
            cause,
            far_early,
        ),
        rule(
            "audio_late_unacceptable",
            "audio_early_secs",
            (Limit::AtMost(-0.185), Limit::AtLeast(-0.170)),
            Severity::Critical,
            cause,
            far_late,
        ),
        rule(
            "audio_early",
            "audio_early_secs",
            (Limit::AtLeast(0.040), Limit::AtMost(0.030)),
            Severity::Warning,
            cause,
            early,
        ),
        rule(
            "audio_late",
            "audio_early_secs",
            (Limit::AtMost(-0.060), Limit::AtLeast(-0.050)),
            Severity::Warning,
            cause,
            late,
        ),
    ]
}
