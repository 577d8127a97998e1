//! Noise on pictures: sensor noise, fresh on every picture, and film grain, which has a size.

use crate::chance::Chance;
use crate::raw::Raw;

const SIDE: usize = 1024;
/// Deviation of the stored noise, in its own steps.
const STORED: f64 = 32.0;

/// A square of noise from which every picture takes another place.
#[derive(Debug, Clone)]
pub struct Grain {
    tile: Vec<i8>,
    chance: Chance,
    /// Deviation in 8-bit codes at mid grey.
    pub sigma: f64,
    /// Share of the deviation that grows with brightness, as photon noise does.
    pub photon: f64,
    rows_apart: bool,
}

impl Grain {
    /// Noise of a sensor: every sample on its own.
    pub fn sensor(seed: u64, sigma: f64) -> Self {
        Self::new(seed, sigma, 0.35, 0)
    }

    /// Grain of film: spots of two or three samples, stronger in the middle tones.
    pub fn film(seed: u64, sigma: f64) -> Self {
        Self::new(seed, sigma, 0.0, 1)
    }

    /// Noise that hangs together by rows, as cheap sensors and analogue lines have it.
    pub fn rows(seed: u64, sigma: f64) -> Self {
        let mut grain = Self::new(seed, sigma, 0.6, 0);
        let line: Vec<i8> = grain.tile.iter().take(SIDE).copied().collect();
        for (row, part) in grain.tile.chunks_mut(SIDE).zip(line) {
            for v in row {
                *v = v.saturating_add(part / 4);
            }
        }
        grain
    }

    fn new(seed: u64, sigma: f64, photon: f64, blur: usize) -> Self {
        let mut chance = Chance::named(seed, "grain");
        let mut field: Vec<f32> = (0..SIDE * SIDE)
            .map(|_| {
                // Sum of eight bytes: near enough to normal, and quick.
                let sum: u32 = chance
                    .bits()
                    .to_le_bytes()
                    .iter()
                    .map(|b| u32::from(*b))
                    .sum();
                (sum as f32 - 1020.0) / 209.0
            })
            .collect();
        for _ in 0..blur {
            field = soften(&field);
        }
        let power: f64 = field.iter().map(|v| f64::from(*v).powi(2)).sum();
        let scale = STORED / (power / field.len() as f64).sqrt();
        let tile = field
            .iter()
            .map(|v| (f64::from(*v) * scale).round().clamp(-127.0, 127.0) as i8)
            .collect();
        Self {
            tile,
            chance,
            sigma,
            photon,
            rows_apart: blur == 0,
        }
    }

    /// Adds noise to the luma, and half as much to the chroma.
    pub fn add(&mut self, to: &mut Raw) {
        if self.sigma <= 0.0 {
            return;
        }
        let (width, height) = (to.width, to.height);
        let gains: Vec<i32> = (0..256)
            .map(|code| {
                let bright = (f64::from(code) / 128.0).sqrt();
                let at = 1.0 - self.photon + self.photon * bright;
                (self.sigma * at * 256.0 / STORED).round() as i32
            })
            .collect();
        self.plane(&mut to.y, width, height, &gains);
        let half = [(self.sigma * 128.0 / STORED).round() as i32; 256];
        self.plane(&mut to.u, width / 2, height / 2, &half);
        self.plane(&mut to.v, width / 2, height / 2, &half);
    }

    fn plane(&mut self, plane: &mut [u8], width: usize, height: usize, gains: &[i32]) {
        let corner = self.chance.bits() as usize;
        for (y, row) in plane.chunks_mut(width.max(1)).take(height).enumerate() {
            let from = if self.rows_apart {
                self.chance.bits() as usize
            } else {
                corner
            };
            let line = (corner / SIDE + y) % SIDE;
            let noise = &self.tile[line * SIDE..(line + 1) * SIDE];
            let shift = from % SIDE;
            for (value, n) in row.iter_mut().zip(noise.iter().cycle().skip(shift)) {
                let gain = gains.get(usize::from(*value)).copied().unwrap_or(0);
                let sum = i32::from(*value) + ((i32::from(*n) * gain + 128) >> 8);
                *value = sum.clamp(0, 255) as u8;
            }
        }
    }
}

/// A 3x3 binomial blur on a torus.
fn soften(field: &[f32]) -> Vec<f32> {
    let at = |x: usize, y: usize| field[(y % SIDE) * SIDE + x % SIDE];
    let mut out = Vec::with_capacity(field.len());
    for y in 0..SIDE {
        for x in 0..SIDE {
            let row = |r: usize| at(x + SIDE - 1, r) + 2.0 * at(x, r) + at(x + 1, r);
            out.push((row(y + SIDE - 1) + 2.0 * row(y) + row(y + 1)) / 16.0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deviation(of: &Raw, from: f64) -> f64 {
        let power: f64 = of.y.iter().map(|v| (f64::from(*v) - from).powi(2)).sum();
        (power / of.y.len() as f64).sqrt()
    }

    #[test]
    fn noise_has_its_deviation_and_is_new_on_every_picture() {
        for (mut grain, sigma) in [
            (Grain::sensor(1, 2.0), 2.0),
            (Grain::film(2, 4.0), 4.0),
            (Grain::sensor(3, 0.5), 0.5),
        ] {
            let mut a = Raw::flat(640, 360, (128, 128, 128));
            let mut b = a.clone();
            grain.add(&mut a);
            grain.add(&mut b);
            // Rounding to whole codes adds a twelfth.
            let expected = f64::sqrt(sigma * sigma + 1.0 / 12.0);
            assert!((deviation(&a, 128.0) - expected).abs() < 0.15 * expected);
            assert_ne!(a.y, b.y);
        }
    }
}
