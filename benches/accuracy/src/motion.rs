//! Smooth chance over time, as a function of time: the same moment gives the same place, whatever the picture rate.

/// Smooth random movement between -1 and 1 that changes direction about once a unit of time.
#[derive(Debug, Clone, Copy)]
pub struct Wobble {
    seed: u64,
}

impl Wobble {
    /// Seeded.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Value at a time (value noise with a cubic ease).
    pub fn at(self, t: f64) -> f64 {
        let floor = t.floor();
        let (a, b) = (self.knot(floor as i64), self.knot(floor as i64 + 1));
        let f = ease(t - floor);
        a + (b - a) * f
    }

    /// Three octaves: a slow drift with quicker trembling on top.
    pub fn rough(self, t: f64) -> f64 {
        let finer = |n: u64| Self {
            seed: self.seed.wrapping_add(n.wrapping_mul(0x5bd1_e995)),
        };
        (self.at(t) + 0.5 * finer(1).at(t * 2.3) + 0.25 * finer(2).at(t * 5.1)) / 1.75
    }

    fn knot(self, n: i64) -> f64 {
        let mut z = self.seed ^ (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// 0 to 1 without a jerk at the ends.
pub fn ease(f: f64) -> f64 {
    f * f * (3.0 - 2.0 * f)
}

/// A triangle wave between 0 and `span` that moves one unit per unit of `t`.
pub fn bounce(t: f64, span: f64) -> f64 {
    if span <= 0.0 {
        return 0.0;
    }
    let phase = t.rem_euclid(2.0 * span);
    if phase > span {
        2.0 * span - phase
    } else {
        phase
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wobbles_stay_in_range_and_have_no_jumps() {
        let wobble = Wobble::new(5);
        let mut last = wobble.rough(0.0);
        for n in 1..5_000 {
            let now = wobble.rough(f64::from(n) * 0.01);
            assert!(now.abs() <= 1.0 && (now - last).abs() < 0.1);
            last = now;
        }
    }

    #[test]
    fn bounce_turns_at_its_ends() {
        assert_eq!(bounce(3.0, 4.0), 3.0);
        assert_eq!(bounce(5.0, 4.0), 3.0);
        assert_eq!(bounce(8.5, 4.0), 0.5);
        assert_eq!(bounce(1.0, 0.0), 0.0);
    }
}
