//! Corruption: intact clips, damaged ones, and damaged ones that were encoded again.

use std::collections::BTreeMap;
use std::io;

use super::{Extent, Outcome, share_text};
use crate::damage::tally::Tally;
use crate::damage::{self, Options};
use crate::encode::Codec;
use crate::keep::Bench;
use crate::report::Table;
use crate::score::rate_bound;

/// Clips of each codec in a whole run. Each is damaged in [`HARMS`] ways in each population.
const CLIPS: [(Codec, usize); 4] = [
    (Codec::H264, 32),
    (Codec::Hevc, 18),
    (Codec::Mpeg2, 18),
    (Codec::Av1, 12),
];
const HARMS: usize = 2;
const CLIP_SECS: f64 = 8.0;

/// How many clips of each codec: all, or a slice that takes the codecs in turn.
fn clips(codecs: &[Codec], slice: Option<usize>) -> Vec<(Codec, usize)> {
    let wanted: Vec<(Codec, usize)> = CLIPS
        .into_iter()
        .filter(|(codec, _)| codecs.is_empty() || codecs.contains(codec))
        .collect();
    let Some(slice) = slice else { return wanted };
    let count = wanted.len().max(1);
    wanted
        .into_iter()
        .enumerate()
        .map(|(n, (codec, _))| (codec, slice / count + usize::from(n < slice % count)))
        .collect()
}

/// Runs the part, for all codecs or for some.
///
/// # Errors
/// When nothing can be written to the folder of clips.
pub fn run(bench: &Bench, extent: &Extent, codecs: &[Codec]) -> io::Result<Outcome> {
    if !bench.product.has("block_damage") {
        return Ok(super::without("block_damage"));
    }
    let options = Options {
        set: extent.set,
        codecs: clips(codecs, extent.slice),
        small: extent.small,
        cases: HARMS,
        secs: CLIP_SECS,
        seed: extent.seed,
        work: bench.folder.join("damage"),
        peers: extent.peers,
    };
    let all = damage::run(&bench.product, &options)?;
    let mut outcome = Outcome {
        tables: vec![events(&all.cells), pictures(&all.cells), intact(&all.cells)],
        figures: figures(&all.cells),
        failures: Vec::new(),
    };
    for f in &all.failures {
        let (failure, span) = (&f.failure, f.failure.span);
        outcome.failures.push(format!(
            "damage: {} {:.2}–{:.2} s (true peak {:.3}, reading {:.4}) of {} in {}",
            failure.kind,
            span.start,
            span.end,
            failure.peak,
            failure.reading,
            f.about,
            f.clip.display()
        ));
    }
    let broken = all.broken.iter().map(|b| format!("damage: broken: {b}"));
    outcome.failures.splice(0..0, broken);
    if !all.broken.is_empty() {
        let lost = all.broken.len();
        let line = format!("damage: {lost} clips could not be run");
        outcome.failures.insert(0, line);
    }
    Ok(outcome)
}

fn secs_text(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |v| format!("{v:.2}"))
}

/// Cells of damaged clips.
fn damaged(cells: &BTreeMap<String, Tally>) -> impl Iterator<Item = (&String, &Tally)> {
    cells.iter().filter(|(_, tally)| tally.clips > 0)
}

fn events(cells: &BTreeMap<String, Tally>) -> Table {
    let mut table = Table::new(
        "Corruption: events with damage of 1 % of the picture or more (Wilson interval, 95 %)",
        &[
            "cell",
            "clips",
            "told as damage that shows",
            "told at all",
            "of 5 % for 0.3 s or more",
            "true alerts",
            "latency median, p95",
        ],
    );
    for (name, tally) in damaged(cells) {
        let (median, p95) = tally.latency_secs();
        table.row(&[
            name.clone(),
            tally.clips.to_string(),
            share_text(&tally.visible),
            share_text(&tally.told),
            share_text(&tally.large),
            share_text(&tally.precise),
            format!("{}, {} s", secs_text(median), secs_text(p95)),
        ]);
    }
    table
}

fn pictures(cells: &BTreeMap<String, Tally>) -> Table {
    let mut table = Table::new(
        "Corruption: pictures, and FFmpeg's `blockdetect` on the same ones",
        &[
            "cell",
            "damaged pictures",
            "recall",
            "precision",
            "F1",
            "area error",
            "AUC",
            "AUC of blockdetect",
            "without a reading",
        ],
    );
    for (name, tally) in damaged(cells) {
        let (recall, precision, f1) = tally.by_picture();
        let (reading, peer) = tally.auc();
        let [hit, missed, ..] = tally.pictures;
        let curve = |v: Option<f64>| v.map_or("–".to_owned(), |v| format!("{v:.3}"));
        table.row(&[
            name.clone(),
            (hit + missed).to_string(),
            format!("{recall:.3}"),
            format!("{precision:.3}"),
            format!("{f1:.3}"),
            format!("{:.3}", tally.area_error()),
            curve(reading),
            curve(peer),
            tally.unread.to_string(),
        ]);
    }
    table
}

fn intact(cells: &BTreeMap<String, Tally>) -> Table {
    let mut table = Table::new(
        "Corruption told of intact clips (upper bound, 95 %, exact Poisson)",
        &[
            "cell",
            "hours",
            "damage that shows",
            "at most per hour",
            "any",
            "at most per hour",
        ],
    );
    for (name, tally) in cells.iter().filter(|(_, tally)| tally.intact_hours > 0.0) {
        let hours = tally.intact_hours;
        table.row(&[
            name.clone(),
            format!("{hours:.2}"),
            tally.false_visible.to_string(),
            format!("{:.2}", rate_bound(tally.false_visible, hours)),
            tally.false_any.to_string(),
            format!("{:.2}", rate_bound(tally.false_any, hours)),
        ]);
    }
    table
}

fn figures(cells: &BTreeMap<String, Tally>) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    let named = [
        ("ab", "A+B"),
        ("ab_h264", "A+B h264"),
        ("ab_hevc", "A+B hevc"),
        ("ab_mpeg2", "A+B mpeg2"),
        ("ab_av1", "A+B av1"),
        ("c", "C"),
    ];
    for (short, cell) in named {
        let Some(tally) = cells.get(cell).filter(|tally| tally.clips > 0) else {
            continue;
        };
        let mut put = |name: &str, value: f64| {
            figures.insert(format!("damage_{short}_{name}"), value);
        };
        if tally.visible.of > 0 {
            put("recall", tally.visible.ratio());
            put("told", tally.told.ratio());
            put("events", tally.visible.of as f64);
            put("f1", tally.by_picture().2);
            put("area_error", tally.area_error());
        }
        if tally.large.of > 0 {
            put("large_recall", tally.large.ratio());
        }
        if let (Some(here), peer) = tally.auc() {
            put("auc", here);
            if let Some(peer) = peer {
                put("auc_blockdetect", peer);
            }
        }
        if tally.intact_hours > 0.0 {
            put("false", tally.false_visible as f64);
            put("intact_hours", tally.intact_hours);
        }
    }
    if let Some(tally) = cells.get("intact") {
        let visible = tally.false_visible as f64;
        figures.insert("damage_intact_false".to_owned(), visible);
        figures.insert("damage_intact_hours".to_owned(), tally.intact_hours);
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_takes_the_codecs_in_turn() {
        use Codec::{Av1, H264, Hevc, Mpeg2};
        assert_eq!(
            clips(&[], Some(6)),
            [(H264, 2), (Hevc, 2), (Mpeg2, 1), (Av1, 1)]
        );
        assert_eq!(clips(&[Av1, Hevc], Some(3)), [(Hevc, 2), (Av1, 1)]);
        assert_eq!(clips(&[Mpeg2], None).len(), 1);
        assert_eq!(clips(&[], None), CLIPS);
    }
}
