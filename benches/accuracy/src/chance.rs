//! Repeatable chance: every clip is a function of its recipe.

/// A generator of repeatable numbers (splitmix64: Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Seeded by a number.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded by a number and a name, so that neighbours have nothing in common.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a, 64 bit.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut chance = Self(seed ^ hash.rotate_left(17));
        chance.bits();
        chance
    }

    /// Next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 (included) to 1 (excluded).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// 0 to `n` (excluded); 0 when there is nothing to choose.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 {
            0
        } else {
            (self.bits() % n as u64) as usize
        }
    }

    /// Whether something of this probability happens.
    pub fn hit(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of some values; `None` of none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// Normal around 0 with the given deviation (sum of twelve).
    pub fn normal(&mut self, deviation: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| self.unit()).sum();
        (sum - 6.0) * deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_part_and_seeds_repeat() {
        assert_eq!(Chance::named(1, "a").bits(), Chance::named(1, "a").bits());
        assert_ne!(Chance::named(1, "a").bits(), Chance::named(1, "b").bits());
        assert_ne!(Chance::named(1, "a").bits(), Chance::named(2, "a").bits());
    }

    #[test]
    fn normal_has_the_deviation_asked_for() {
        let mut chance = Chance::new(3);
        let n = 20_000;
        let values: Vec<f64> = (0..n).map(|_| chance.normal(2.0)).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.06 && (spread.sqrt() - 2.0).abs() < 0.06);
    }
}
