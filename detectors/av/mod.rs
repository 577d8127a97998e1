//! Detectors of defects between sound and picture.

pub mod av_edges;
pub mod av_pattern;
pub mod av_reference;
pub mod av_timing;

use std::time::Duration;

use crate::base::{Cause, Limit, RuleSpec, Severity};

/// Rules on `audio_early_secs` where the offset itself is known, not only a change of it: warnings by EBU R37 for a whole
/// chain (40 ms early, 60 ms late), pages by the acceptability of ITU-R BT.1359-1 (90 ms early, 185 ms late). `says`: far
/// too early, far too late, too early, too late.
const fn offset_rules(cause: Cause, says: [&'static str; 4]) -> [RuleSpec; 4] {
    const fn rule(
        name: &'static str,
        (raise, clear): (Limit, Limit),
        severity: Severity,
        cause: Cause,
        says: &'static str,
    ) -> RuleSpec {
        RuleSpec {
            name,
            signal: "audio_early_secs",
            raise,
            clear,
            hold: Duration::from_secs(2),
            release: Duration::from_secs(2),
            severity,
            cause,
            says,
        }
    }
    let [far_early, far_late, early, late] = says;
    [
        rule(
            "audio_early_unacceptable",
            (Limit::AtLeast(0.090), Limit::AtMost(0.080)),
            Severity::Critical,
            cause,
            far_early,
        ),
        rule(
            "audio_late_unacceptable",
            (Limit::AtMost(-0.185), Limit::AtLeast(-0.170)),
            Severity::Critical,
            cause,
            far_late,
        ),
        rule(
            "audio_early",
            (Limit::AtLeast(0.040), Limit::AtMost(0.030)),
            Severity::Warning,
            cause,
            early,
        ),
        rule(
            "audio_late",
            (Limit::AtMost(-0.060), Limit::AtLeast(-0.050)),
            Severity::Warning,
            cause,
            late,
        ),
    ]
}
