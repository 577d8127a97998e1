//! Counting: intervals of shares, bounds of rates, and which event found which.

/// A stretch of a clip, in seconds from its first picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// First second.
    pub start: f64,
    /// Past the last second.
    pub end: f64,
}

impl Span {
    /// Seconds.
    pub fn len(&self) -> f64 {
        (self.end - self.start).max(0.0)
    }

    /// Whether nothing lies in it.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Seconds that two stretches share.
    pub fn shared(&self, other: &Span) -> f64 {
        (self.end.min(other.end) - self.start.max(other.start)).max(0.0)
    }
}

/// How many of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Hits.
    pub hits: u64,
    /// Tries.
    pub of: u64,
}

impl Share {
    /// Counts one try.
    pub fn add(&mut self, hit: bool) {
        self.of += 1;
        self.hits += u64::from(hit);
    }

    /// Hits by tries; 0 of none.
    pub fn ratio(&self) -> f64 {
        if self.of == 0 {
            0.0
        } else {
            self.hits as f64 / self.of as f64
        }
    }

    /// The interval that holds the true share with 95 % confidence (Wilson 1927, score interval).
    pub fn interval(&self) -> (f64, f64) {
        if self.of == 0 {
            return (0.0, 1.0);
        }
        let (z, n, p) = (1.959_964, self.of as f64, self.ratio());
        let scale = 1.0 + z * z / n;
        let middle = (p + z * z / (2.0 * n)) / scale;
        let reach = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt() / scale;
        ((middle - reach).max(0.0), (middle + reach).min(1.0))
    }
}

/// The rate that is not exceeded with 95 % confidence when `seen` events fell into `hours`: the exact Poisson
/// bound (Garwood 1936). 3.0 by the hours when none was seen; infinite without hours.
pub fn rate_bound(seen: u64, hours: f64) -> f64 {
    if hours <= 0.0 {
        return f64::INFINITY;
    }
    // The mean at which so few events would be seen in one of twenty runs only.
    let (mut low, mut high) = (seen as f64, seen as f64 + 10.0 + 5.0 * (seen as f64).sqrt());
    for _ in 0..80 {
        let mid = f64::midpoint(low, high);
        if poisson_at_most(seen, mid) > 0.05 {
            low = mid;
        } else {
            high = mid;
        }
    }
    high / hours
}

/// Probability of at most `seen` events where `mean` are expected.
fn poisson_at_most(seen: u64, mean: f64) -> f64 {
    // Summed from logarithms, so that large means do not vanish.
    let mut log_term = -mean;
    let mut sum = log_term.exp();
    for k in 1..=seen {
        log_term += (mean / k as f64).ln();
        sum += log_term.exp();
    }
    sum
}

/// The value below which a share of the values lies; `None` of none.
pub fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * share).round() as usize).copied()
}

/// What became of the true events of a clip, and of the found ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matched {
    /// For each true event the first found one that shares time with it.
    pub found_by: Vec<Option<usize>>,
    /// For each found event whether it touches a true one.
    pub is_true: Vec<bool>,
}

/// Pairs true and found events. A found event belongs to a true one when they share time once the true one is
/// widened by `slack_secs` at both ends; one found event may cover several true ones.
pub fn match_events(truth: &[Span], found: &[Span], slack_secs: f64) -> Matched {
    let touches = |t: &Span, f: &Span| {
        f.start < t.end + slack_secs && f.end.max(f.start + 1e-9) > t.start - slack_secs
    };
    let found_by = truth
        .iter()
        .map(|t| {
            // The one that shares most; of equals the first.
            let mut best: Option<(usize, f64)> = None;
            for (at, f) in found.iter().enumerate().filter(|(_, f)| touches(t, f)) {
                let shared = t.shared(f);
                if best.is_none_or(|(_, most)| shared > most) {
                    best = Some((at, shared));
                }
            }
            best.map(|(at, _)| at)
        })
        .collect();
    let is_true = found
        .iter()
        .map(|f| truth.iter().any(|t| touches(t, f)))
        .collect();
    Matched { found_by, is_true }
}

/// Harmonic mean of recall and precision; 0 when nothing was right.
pub fn f1(true_found: u64, missed: u64, false_found: u64) -> f64 {
    let twice = 2.0 * true_found as f64;
    if true_found == 0 {
        0.0
    } else {
        twice / (twice + missed as f64 + false_found as f64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn span(start: f64, end: f64) -> Span {
        Span { start, end }
    }

    #[test]
    fn wilson_gives_the_published_values() {
        // Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (hits, of, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (a, b) = Share { hits, of }.interval();
            assert!((a - low).abs() < 1e-4 && (b - high).abs() < 1e-4, "{a} {b}");
        }
        assert_eq!(Share::default().interval(), (0.0, 1.0));
    }

    #[test]
    fn poisson_bounds_are_exact() {
        // One-sided 95 % limits of a Poisson mean: 2.996, 4.744, 6.296, 16.962 for 0, 1, 2, 10.
        for (seen, mean) in [(0, 2.9957), (1, 4.7439), (2, 6.2958), (10, 16.9622)] {
            assert!((rate_bound(seen, 1.0) - mean).abs() < 1e-3, "{seen}");
        }
        assert!((rate_bound(0, 100.0) - 0.029_957).abs() < 1e-5);
        assert_eq!(rate_bound(0, 0.0), f64::INFINITY);
    }

    #[test]
    fn each_true_event_takes_the_found_one_that_shares_most() {
        let truth = [span(10.0, 15.0), span(20.0, 21.0), span(30.0, 31.0)];
        let found = [
            span(9.0, 10.5),
            span(10.6, 15.0),
            span(25.0, 26.0),
            span(20.9, 30.2),
        ];
        let m = match_events(&truth, &found, 0.0);
        assert_eq!(m.found_by, [Some(1), Some(3), Some(3)]);
        assert_eq!(m.is_true, [true, true, false, true]);
    }

    #[test]
    fn slack_forgives_a_short_distance_only() {
        let m = match_events(&[span(10.0, 11.0)], &[span(11.2, 12.0)], 0.3);
        assert_eq!(m.found_by, [Some(0)]);
        let m = match_events(&[span(10.0, 11.0)], &[span(11.4, 12.0)], 0.3);
        assert_eq!((m.found_by, m.is_true), (vec![None], vec![false]));
    }

    #[test]
    fn f1_and_quantiles() {
        assert!((f1(8, 2, 2) - 0.8).abs() < 1e-12);
        assert_eq!(f1(0, 0, 5), 0.0);
        let mut values = [3.0, 1.0, 2.0, 5.0, 4.0];
        assert_eq!(quantile(&mut values, 0.5), Some(3.0));
        assert_eq!(quantile(&mut values, 0.95), Some(5.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
