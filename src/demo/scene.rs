//! Generated pictures and sound: a scrolling texture with grain and moving boxes, a chord with a noise floor.

/// Edge of the texture.
const TEXTURE: usize = 1024;
/// Textures that differ in grain only; pictures take them in turn, so that nothing ever stands quite still.
const GRAINS: usize = 5;
/// Pictures a second for which the grain changes with every picture.
const GRAIN_HZ: f64 = 25.0;

/// Draws pictures.
pub struct Scene {
    textures: Vec<Vec<u8>>,
}

impl Scene {
    /// A scene of its own for each seed.
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut texture: Vec<u8> = (0..TEXTURE * TEXTURE).map(|_| random.u8(..)).collect();
        // Two coarse box blurs leave structure at several scales that an encoder can follow.
        for reach in [24, 6] {
            texture = blur(&texture, reach);
        }
        let mut grained = || {
            let grain = |&luma: &u8| (i16::from(luma) + random.i16(-2..=2)).clamp(20, 230) as u8;
            texture.iter().map(grain).collect()
        };
        Self {
            textures: (0..GRAINS).map(|_| grained()).collect(),
        }
    }

    /// An I420 picture of the scene at `at_secs`.
    pub fn picture(&self, width: usize, height: usize, at_secs: f64) -> Vec<u8> {
        let mut out = Vec::with_capacity(width * height * 3 / 2);
        let scale = 640.0 / width as f64;
        let (dx, dy) = ((at_secs * 37.0) as usize, (at_secs * 23.0) as usize);
        let texture = &self.textures[(at_secs * GRAIN_HZ) as usize % GRAINS];
        let columns: Vec<usize> = (0..width)
            .map(|x| ((x as f64 * scale) as usize + dx) % TEXTURE)
            .collect();
        for y in 0..height {
            let v = ((y as f64 * scale) as usize + dy) % TEXTURE;
            let row = &texture[v * TEXTURE..(v + 1) * TEXTURE];
            if width == 640 {
                // Not scaled: the row as it is, around the edge of the texture.
                let first = (TEXTURE - columns[0]).min(width);
                out.extend_from_slice(&row[columns[0]..columns[0] + first]);
                out.extend_from_slice(&row[..width - first]);
            } else {
                out.extend(columns.iter().map(|&u| row[u]));
            }
        }
        let boxes: [(f64, f64, u8); 3] = [(0.31, 0.23, 210), (0.17, 0.41, 60), (0.47, 0.13, 150)];
        for (speed_x, speed_y, level) in boxes {
            let (w, h) = (width / 8, height / 6);
            let left = bounce(at_secs * speed_x, width - w);
            let top = bounce(at_secs * speed_y + 0.3, height - h);
            for y in top..top + h {
                out[y * width + left..y * width + left + w].fill(level);
            }
        }
        for plane in 0..2 {
            let phase = at_secs * 0.4 + f64::from(plane);
            for y in 0..height / 2 {
                let value = 128.0 + 40.0 * (phase + y as f64 * 4.0 / height as f64).sin();
                out.resize(out.len() + width / 2, value as u8);
            }
        }
        out
    }

    /// A black I420 picture.
    pub fn black(width: usize, height: usize) -> Vec<u8> {
        let mut out = vec![16; width * height];
        out.resize(width * height * 3 / 2, 128);
        out
    }
}

/// Position 0..=span of something that moves to and fro once in 1/speed seconds.
fn bounce(phase: f64, span: usize) -> usize {
    let t = phase.fract() * 2.0;
    ((if t > 1.0 { 2.0 - t } else { t }) * span as f64) as usize
}

/// Separable box blur with wrap-around, contrast restored.
fn blur(from: &[u8], reach: usize) -> Vec<u8> {
    let pass = |from: &[u8], step: usize, line: usize| -> Vec<u8> {
        let mut out = vec![0; from.len()];
        for start in 0..TEXTURE {
            let base = start * line;
            let at = |i: usize| u32::from(from[base + (i % TEXTURE) * step]);
            let mut sum: u32 = (0..reach).map(at).sum();
            for i in 0..TEXTURE {
                out[base + i * step] = (sum / reach as u32) as u8;
                sum = sum + at(i + reach) - at(i);
            }
        }
        out
    };
    let once = pass(&pass(from, 1, TEXTURE), TEXTURE, 1);
    let (low, high) = once
        .iter()
        .fold((255u8, 0u8), |(l, h), &v| (l.min(v), h.max(v)));
    let span = u32::from(high - low).max(1);
    // Keep a part of the finer structure, or nothing is left to encode.
    once.iter()
        .zip(from)
        .map(|(&v, &fine)| {
            let stretched = 30 + u32::from(v - low) * 170 / span;
            ((stretched * 5 + u32::from(fine)) / 6) as u8
        })
        .collect()
}

/// `frames` stereo samples from sample number `from` at `rate_hz`: a slowly swelling chord over noise, -20 dBFS.
pub fn sound(from: u64, frames: usize, rate_hz: u32) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(from);
    let mut out = Vec::with_capacity(frames * 2);
    for n in 0..frames as u64 {
        let t = (from + n) as f64 / f64::from(rate_hz);
        let swell = 0.75 + 0.25 * (t * 1.7).sin();
        let tone = |hz: f64| (t * hz * std::f64::consts::TAU).sin();
        let noise = random.f64() * 0.02 - 0.01;
        out.push((0.08 * swell * (tone(220.0) + tone(277.2)) + noise) as f32);
        out.push((0.08 * swell * (tone(220.0) + tone(329.6)) + noise) as f32);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_move_and_have_the_right_size() {
        let scene = Scene::new(1);
        let (a, b) = (scene.picture(320, 180, 1.0), scene.picture(320, 180, 1.2));
        assert_eq!(a.len(), 320 * 180 * 3 / 2);
        let change: u32 = a[..320 * 180]
            .iter()
            .zip(&b)
            .map(|(&a, &b)| u32::from(a.abs_diff(b)))
            .sum::<u32>()
            / (320 * 180);
        assert!(change >= 3, "mean change {change}");
    }

    #[test]
    fn sound_does_not_depend_on_how_it_is_cut_in_level() {
        let block = sound(48_000, 4800, 48_000);
        let power = block.iter().map(|s| s * s).sum::<f32>() / block.len() as f32;
        let dbfs = 10.0 * power.log10();
        assert!((-30.0..-12.0).contains(&dbfs), "{dbfs}");
    }
}
