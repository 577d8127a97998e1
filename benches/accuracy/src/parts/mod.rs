//! The populations: what is made, asked and counted.

pub mod alive;
pub mod black;
pub mod clean;
pub mod cost;
pub mod damage;
pub mod form;
pub mod freeze;
pub mod overlay;
pub mod patterns;
pub mod rungs;
mod stamps;
pub mod stutter;
pub mod sync;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use crate::chance::Chance;
use crate::encode::Encoding;
use crate::report::Table;
use crate::score::{Share, Span, quantile};
use crate::sources::Set;
use crate::watch::{Found, Product};

/// How much of a set is run.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Which sources.
    pub set: Set,
    /// Decides the plan: which sources meet which factors.
    pub seed: u64,
    /// At most so many clips a part, drawn by the seed; all of them without.
    pub slice: Option<usize>,
    /// Only pictures of at most 360 rows: much quicker.
    pub small: bool,
    /// Whether FFmpeg's own detectors are asked as well.
    pub peers: bool,
}

impl Extent {
    /// The part of a plan that is to be run, in an order that the seed draws.
    fn take<T>(&self, mut plan: Vec<T>, part: &str, of: impl Fn(&T) -> &Encoding) -> Vec<T> {
        if self.small {
            plan.retain(|case| of(case).height <= 360);
        }
        let mut chance = Chance::named(self.seed, part);
        for n in (1..plan.len()).rev() {
            plan.swap(n, chance.below(n + 1));
        }
        if let Some(most) = self.slice {
            plan.truncate(most);
        }
        plan
    }
}

/// What came out of a part.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// For the report.
    pub tables: Vec<Table>,
    /// Single figures by name, for tests and for the JSON.
    pub figures: BTreeMap<String, f64>,
    /// What went wrong, one line each, worst first: where, when, what, and the clip.
    pub failures: Vec<String>,
}

/// What judges pictures, as far as the product has it.
pub fn known(product: &Product) -> Vec<String> {
    const ALL: [&str; 7] = [
        "freeze",
        "black",
        "stutter",
        "blank",
        "bars",
        "slate",
        "block_damage",
    ];
    let mut names = product.detector_names();
    names.retain(|name| ALL.contains(&name.as_str()));
    names
}

/// Does one thing for each of some cases on all cores; what cannot be done is told and left out.
fn each<C: Sync, R: Send>(
    part: &str,
    cases: &[C],
    work: impl Fn(&C) -> io::Result<R> + Sync,
) -> (Vec<(usize, R)>, usize) {
    let (began, done) = (Instant::now(), AtomicUsize::new(0));
    let results: Vec<Option<(usize, R)>> = cases
        .par_iter()
        .enumerate()
        // One by one: cases differ much in length.
        .with_max_len(1)
        .map(|(n, case)| {
            let result = work(case);
            let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
            if so_far.is_multiple_of(20) || so_far == cases.len() {
                let secs = began.elapsed().as_secs_f64();
                eprintln!("{part}: {so_far} of {} clips, {secs:.0} s", cases.len());
            }
            match result {
                Ok(result) => Some((n, result)),
                Err(problem) => {
                    eprintln!("{part}: {problem}");
                    None
                }
            }
        })
        .collect();
    let whole: Vec<(usize, R)> = results.into_iter().flatten().collect();
    let lost = cases.len() - whole.len();
    (whole, lost)
}

/// What is told of a part whose detector the product does not have.
fn without(detector: &str) -> Outcome {
    let mut table = Table::new(
        &format!("The product has no detector `{detector}`"),
        &["part"],
    );
    table.row(&["not run".to_owned()]);
    Outcome {
        tables: vec![table],
        ..Outcome::default()
    }
}

/// Spans that overlap or touch, within `gap_secs`, as one.
pub fn merged(mut spans: Vec<Span>, gap_secs: f64) -> Vec<Span> {
    spans.sort_by(|a, b| a.start.total_cmp(&b.start));
    let mut out: Vec<Span> = Vec::new();
    for span in spans {
        match out.last_mut() {
            Some(last) if span.start <= last.end + gap_secs => last.end = last.end.max(span.end),
            _ => out.push(span),
        }
    }
    out
}

/// Median and 95th of a hundred, in milliseconds.
fn pair_text(values: &mut [f64]) -> String {
    match (quantile(values, 0.5), quantile(values, 0.95)) {
        (Some(half), Some(most)) => format!("{:.0}, {:.0} ms", half * 1e3, most * 1e3),
        _ => "–".to_owned(),
    }
}

/// Seconds from the begin of an event to where a live watch would first have told it; `None` when it did not.
fn told_after<'a>(event: &Span, told: impl Iterator<Item = &'a Found>) -> Option<f64> {
    told.filter(|f| f.span().shared(event) > 0.0)
        .filter_map(|f| f.raised_secs)
        .min_by(f64::total_cmp)
        .map(|at| at - event.start)
}

/// A share as "98.2 % (96.1-99.3)  of 214".
fn share_text(share: &Share) -> String {
    let (low, high) = share.interval();
    if share.of == 0 {
        return "–".to_owned();
    }
    format!(
        "{:.1} % ({:.1}–{:.1}), {} of {}",
        share.ratio() * 100.0,
        low * 100.0,
        high * 100.0,
        share.hits,
        share.of
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Codec;

    #[test]
    fn spans_that_touch_are_one() {
        let span = |start, end| Span { start, end };
        let all = merged(vec![span(5.0, 6.0), span(0.0, 2.0), span(2.1, 3.0)], 0.2);
        assert_eq!(all, [span(0.0, 3.0), span(5.0, 6.0)]);
    }

    #[test]
    fn a_slice_is_drawn_by_the_seed_and_is_part_of_the_whole() {
        let extent = |seed, slice| Extent {
            set: Set::Tune,
            seed,
            slice,
            small: true,
            peers: false,
        };
        let plan: Vec<Encoding> = (0..100)
            .map(|n| Encoding::new(Codec::H264, 64, 348 + 12 * (n % 3), 25.0, n as u32, 2.0))
            .collect();
        let take = |seed, slice| -> Vec<u32> {
            let taken = extent(seed, slice).take(plan.clone(), "x", |e| e);
            assert!(taken.iter().all(|e| e.height <= 360));
            taken.iter().map(|e| e.bitrate_kbps).collect()
        };
        let a = take(1, Some(10));
        assert_eq!(a, take(1, Some(10)));
        assert_ne!(a, take(2, Some(10)));
        assert_eq!(a[..], take(1, None)[..10]);
    }
}
