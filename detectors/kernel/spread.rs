//! Distribution of tile values.

/// Bins per 8-bit code.
const FINE: f32 = 16.0;
/// Values of this many codes and beyond share the last bin.
const CODES: usize = 64;

/// A histogram of non-negative values in 8-bit codes, a sixteenth of a code fine up to 64 codes.
#[derive(Debug, Clone)]
pub struct Spread {
    bins: Vec<u32>,
    count: u32,
}

impl Spread {
    /// Counts the values; NaN and negative ones count as 0.
    pub fn of(values: impl Iterator<Item = f32>) -> Self {
        let mut bins = vec![0u32; CODES * FINE as usize];
        let last = bins.len() - 1;
        let mut count = 0;
        for value in values {
            bins[((value * FINE) as usize).min(last)] += 1;
            count += 1;
        }
        Self { bins, count }
    }

    /// Smallest bin edge that at least `share` (0..=1) of the values lie at or below, in codes; 0 when empty.
    pub fn quantile(&self, share: f32) -> f32 {
        self.beyond(((1.0 - share) * self.count as f32) as u32)
    }

    /// The value that no more than `rank` values exceed, in codes; 0 when empty.
    pub fn beyond(&self, rank: u32) -> f32 {
        let mut above = 0;
        for (i, &n) in self.bins.iter().enumerate().rev() {
            above += n;
            if above > rank {
                return i as f32 / FINE;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_ramp() {
        let spread = Spread::of((0..100).map(|v| v as f32 / 4.0));
        assert_eq!(spread.quantile(1.0), 24.75);
        assert_eq!(spread.quantile(0.5), 12.25);
        assert_eq!(spread.beyond(0), 24.75);
        assert_eq!(spread.beyond(4), 23.75);
        assert_eq!(spread.beyond(100), 0.0);
    }

    #[test]
    fn odd_values_stay_in_bins() {
        let spread = Spread::of([f32::NAN, -1.0, f32::INFINITY, 1e9].into_iter());
        assert_eq!(spread.beyond(0), 63.9375);
        assert_eq!(spread.beyond(2), 0.0);
        assert_eq!(Spread::of(std::iter::empty()).quantile(0.5), 0.0);
    }
}
