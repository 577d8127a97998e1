//! What the picture detectors must show, beside what was measured.

use std::collections::BTreeMap;

use crate::report::Table;
use crate::score::rate_bound;

/// How a figure is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Need {
    /// Shares, as hundredths.
    AtLeast(f64),
    /// Numbers.
    AtMost(f64),
    /// Events told where there was nothing, in the hours of another figure.
    NoneIn(&'static str),
    /// So many events in a day, in the hours of another figure.
    ADay(f64, &'static str),
}

/// What is measured, by which figure, and what it must be.
type Gate = (&'static str, &'static str, Need);

const GATES: [Gate; 46] = {
    use Need::{ADay, AtLeast, AtMost, NoneIn};
    [
        (
            "freeze of 1 s or more, `hold_secs` 0.9: recall",
            "freeze_1s_recall",
            AtLeast(0.99),
        ),
        (
            "the same, worst cell",
            "freeze_1s_worst_cell",
            AtLeast(0.95),
        ),
        (
            "freeze of 3 s or more, defaults: recall",
            "freeze_3s_recall",
            AtLeast(0.99),
        ),
        (
            "the same, worst cell",
            "freeze_3s_worst_cell",
            AtLeast(0.95),
        ),
        (
            "freeze told of clean programme",
            "clean_freeze_false",
            NoneIn("clean_freeze_hours"),
        ),
        (
            "freeze told of live programme that hardly moves, defaults",
            "freeze_live_false_default",
            NoneIn("freeze_live_hours"),
        ),
        (
            "freeze told of live programme that hardly moves, `hold_secs` 0.9",
            "freeze_live_false_short",
            NoneIn("freeze_live_hours"),
        ),
        (
            "freeze start error, median, pictures",
            "freeze_3s_start_error_median_pictures",
            AtMost(1.0),
        ),
        (
            "freeze start error, 95th of a hundred, s",
            "freeze_3s_start_error_p95_secs",
            AtMost(0.1),
        ),
        (
            "corruption A+B, 1 % of the picture, told as damage that shows: recall",
            "damage_ab_recall",
            AtLeast(0.99),
        ),
        (
            "the same, told at all, if only as slight",
            "damage_ab_told",
            AtLeast(0.99),
        ),
        (
            "told as damage that shows, H.264",
            "damage_ab_h264_recall",
            AtLeast(0.98),
        ),
        (
            "told as damage that shows, HEVC",
            "damage_ab_hevc_recall",
            AtLeast(0.98),
        ),
        (
            "told as damage that shows, MPEG-2",
            "damage_ab_mpeg2_recall",
            AtLeast(0.98),
        ),
        (
            "told as damage that shows, AV1",
            "damage_ab_av1_recall",
            AtLeast(0.95),
        ),
        (
            "corruption A+B, pictures: F1",
            "damage_ab_f1",
            AtLeast(0.95),
        ),
        (
            "corruption C, 5 % for 0.3 s: recall",
            "damage_c_large_recall",
            AtLeast(0.90),
        ),
        ("corruption C, pictures: AUC", "damage_c_auc", AtLeast(0.95)),
        (
            "corruption told of clean programme, C",
            "clean_block_damage_false",
            ADay(1.0, "clean_block_damage_hours"),
        ),
        (
            "corruption told of clean programme",
            "clean_block_damage_false",
            NoneIn("clean_block_damage_hours"),
        ),
        (
            "corruption told of intact clips at 0.5 to 12 Mb/s",
            "damage_intact_false",
            NoneIn("damage_intact_hours"),
        ),
        (
            "corruption told of intact clips that were encoded again",
            "damage_c_false",
            NoneIn("damage_c_intact_hours"),
        ),
        ("stutter of 0.1 s or more: F1", "stutter_f1", AtLeast(0.95)),
        (
            "stutter told of clean programme",
            "clean_stutter_false",
            NoneIn("clean_stutter_hours"),
        ),
        ("black: F1", "black_f1", AtLeast(0.99)),
        (
            "black told of clean programme",
            "clean_black_false",
            NoneIn("clean_black_hours"),
        ),
        ("one colour: recall", "blank_recall", AtLeast(0.99)),
        ("test pattern: recall", "bars_recall", AtLeast(0.99)),
        ("slate: recall", "slate_recall", AtLeast(0.99)),
        (
            "one colour told of other programme",
            "blank_false",
            NoneIn("blank_hours"),
        ),
        (
            "test pattern told of other programme",
            "bars_false",
            NoneIn("bars_hours"),
        ),
        (
            "slate told of other programme",
            "slate_false",
            NoneIn("slate_hours"),
        ),
        (
            "all picture detectors by decoding, CPU (goal 0.10)",
            "cost_detectors_by_decode",
            AtMost(0.20),
        ),
        (
            "sound and pictures found in a reference",
            "sync_found",
            AtLeast(0.99),
        ),
        (
            "another programme rejected as a reference",
            "sync_rejected",
            AtLeast(1.0),
        ),
        (
            "sound against a reference: error, 95th of a hundred, s",
            "sync_sound_p95_secs",
            AtMost(0.002),
        ),
        (
            "pictures against a reference, same picture rate: the same",
            "sync_pictures_p95_secs",
            AtMost(0.0166),
        ),
        (
            "pictures against a reference, another picture rate: the same",
            "sync_pictures_another_rate_p95_secs",
            AtMost(0.0166),
        ),
        (
            "decided against a reference after, 95th of a hundred, s",
            "sync_decided_p95_secs",
            AtMost(10.0),
        ),
        ("flash and beep found", "sync_pattern_found", AtLeast(1.0)),
        (
            "flash and beep within half a picture",
            "sync_pattern_half",
            AtLeast(1.0),
        ),
        (
            "faults of timestamps named rightly",
            "sync_stamps_named",
            AtLeast(1.0),
        ),
        (
            "the same: largest error, s",
            "sync_stamps_error_most_secs",
            AtMost(0.001),
        ),
        (
            "timestamps that wrap, jump together or vary told as faults",
            "sync_stamps_false",
            NoneIn("sync_stamps_hours"),
        ),
        (
            "corruption of one rendition, or of all, told apart",
            "rungs_compared",
            AtLeast(0.95),
        ),
        (
            "renditions said to differ where nothing is damaged",
            "rungs_clean_false",
            NoneIn("rungs_clean_hours"),
        ),
    ]
};

/// All gates with what was measured; what was not run says so.
pub fn table(figures: &BTreeMap<String, f64>) -> Table {
    let mut table = Table::new("Gates", &["what", "needed", "measured", "met"]);
    for (what, figure, need) in GATES {
        let needed = match need {
            Need::AtLeast(share) => format!("≥ {:.0} %", share * 100.0),
            Need::AtMost(most) => format!("≤ {most}"),
            Need::NoneIn(_) => "0".to_owned(),
            Need::ADay(most, _) => format!("≤ {most} in 24 h"),
        };
        let (measured, met) = match figures.get(figure) {
            None => ("–".to_owned(), "not run"),
            Some(value) => judge(*value, need, figures),
        };
        table.row(&[what.to_owned(), needed, measured, met.to_owned()]);
    }
    table
}

fn judge(value: f64, need: Need, figures: &BTreeMap<String, f64>) -> (String, &'static str) {
    let hours = |name: &str| figures.get(name).copied().unwrap_or(0.0);
    let told = |name: &str| {
        let bound = rate_bound(value as u64, hours(name));
        let hours = hours(name);
        format!("{value:.0} in {hours:.2} h, at most {bound:.2} per h")
    };
    let (text, met) = match need {
        Need::AtLeast(share) => (format!("{:.2} %", value * 100.0), value >= share),
        Need::AtMost(most) => (format!("{value:.3}"), value <= most),
        Need::NoneIn(name) => (told(name), value == 0.0),
        Need::ADay(most, name) => (told(name), value * 24.0 <= most * hours(name)),
    };
    (text, if met { "yes" } else { "**no**" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn figures_are_judged_and_what_was_not_run_says_so() {
        let figures = BTreeMap::from(
            [
                ("black_f1", 0.98),
                ("damage_ab_f1", 0.95),
                ("freeze_3s_start_error_p95_secs", 0.12),
                ("clean_black_false", 0.0),
                ("clean_black_hours", 10.0),
                ("clean_block_damage_false", 1.0),
                ("clean_block_damage_hours", 20.0),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let table = table(&figures);
        let row = |of: &str| table.rows.iter().find(|r| r[0].starts_with(of)).unwrap();
        assert_eq!(row("black: F1")[1..], ["≥ 99 %", "98.00 %", "**no**"]);
        assert_eq!(row("corruption A+B, pictures")[3], "yes");
        assert_eq!(row("freeze start error, 95th")[3], "**no**");
        assert_eq!(
            row("black told of clean")[1..],
            ["0", "0 in 10.00 h, at most 0.30 per h", "yes"]
        );
        assert_eq!(row("corruption told of clean programme, C")[3], "**no**");
        assert_eq!(row("stutter of")[3], "not run");
    }
}
