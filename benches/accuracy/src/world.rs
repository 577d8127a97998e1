//! Large textures that a camera looks at.

use crate::chance::Chance;
use crate::raw::Raw;

/// Which generators: the sealed set is made by others than the sets for tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Value noise in octaves with scattered bodies; people of limbs.
    Noise,
    /// Cells, buildings with windows, oriented strokes; people of blocks.
    Cells,
}

/// A texture on a torus.
#[derive(Debug, Clone)]
pub struct World {
    width: usize,
    height: usize,
    y: Vec<u8>,
    /// Half the size in both directions.
    u: Vec<u8>,
    v: Vec<u8>,
}

/// Where a camera looks: the upper left corner in texture pixels, and texture pixels per picture pixel.
#[derive(Debug, Clone, Copy)]
pub struct Camera {
    /// Column.
    pub x: f64,
    /// Row.
    pub y: f64,
    /// Below 1 is nearer.
    pub scale: f64,
}

impl Camera {
    /// At a corner, pixel for pixel.
    pub fn at(x: f64, y: f64) -> Self {
        Self { x, y, scale: 1.0 }
    }
}

impl World {
    /// A landscape for pictures of this size: about two and a half pictures wide and twice as high.
    pub fn new(family: Family, chance: &mut Chance, width: usize, height: usize) -> Self {
        let (w, h) = ((width * 5 / 2) & !1, (height * 2) & !1);
        let unit = height as f64 / 360.0;
        match family {
            Family::Noise => noise_world(chance, w, h, unit),
            Family::Cells => cell_world(chance, w, h, unit),
        }
    }

    /// Without detail, as a background out of focus.
    #[must_use]
    pub fn blurred(mut self, reach: usize) -> Self {
        self.y = blur(&self.y, self.width, self.height, reach);
        self
    }

    /// Contrast and brightness: luma between two codes, colour accordingly.
    #[must_use]
    pub fn graded(mut self, low: f64, high: f64) -> Self {
        for v in &mut self.y {
            let at = (f64::from(*v) - 16.0) / 219.0;
            *v = (low + (high - low) * at).clamp(16.0, 235.0) as u8;
        }
        // Little light has little colour.
        let fade = ((high - low) / 219.0).clamp(0.0, 1.0).sqrt();
        for v in self.u.iter_mut().chain(&mut self.v) {
            *v = (128.0 + (f64::from(*v) - 128.0) * fade).round() as u8;
        }
        self
    }

    /// What a camera sees.
    pub fn look(&self, camera: Camera, width: usize, height: usize) -> Raw {
        let mut raw = Raw::flat(width, height, (16, 128, 128));
        let half = |c: Camera| Camera {
            x: c.x / 2.0,
            y: c.y / 2.0,
            scale: c.scale,
        };
        scan(&self.y, self.width, self.height, camera, &mut raw.y, width);
        let (cw, ch) = (self.width / 2, self.height / 2);
        scan(&self.u, cw, ch, half(camera), &mut raw.u, width / 2);
        scan(&self.v, cw, ch, half(camera), &mut raw.v, width / 2);
        raw
    }
}

/// One plane, bilinear, 1/256 pixel.
fn scan(from: &[u8], w: usize, h: usize, camera: Camera, to: &mut [u8], width: usize) {
    let place = |at: f64, size: usize| {
        let at = at.rem_euclid(size as f64);
        let whole = (at.floor() as usize).min(size - 1);
        let part = ((at - at.floor()) * 256.0) as i32;
        (whole, (whole + 1) % size, part)
    };
    let columns: Vec<(usize, usize, i32)> = (0..width)
        .map(|x| place(camera.x + x as f64 * camera.scale, w))
        .collect();
    for (y, row) in to.chunks_mut(width.max(1)).enumerate() {
        let (upper, lower, down) = place(camera.y + y as f64 * camera.scale, h);
        let a = &from[upper * w..(upper + 1) * w];
        let b = &from[lower * w..(lower + 1) * w];
        for (out, &(left, right, across)) in row.iter_mut().zip(&columns) {
            let top = i32::from(a[left]) * (256 - across) + i32::from(a[right]) * across;
            let bottom = i32::from(b[left]) * (256 - across) + i32::from(b[right]) * across;
            *out = ((top * (256 - down) + bottom * down + (1 << 15)) >> 16) as u8;
        }
    }
}

/// Smooth noise on a torus, added to `field`: cells of `cell` pixels, values between -1 and 1 times `gain`.
fn octave(field: &mut [f32], w: usize, h: usize, cell: f64, gain: f32, chance: &mut Chance) {
    let nx = ((w as f64 / cell).round() as usize).max(1);
    let ny = ((h as f64 / cell).round() as usize).max(1);
    let knots: Vec<f32> = (0..nx * ny)
        .map(|_| chance.between(-1.0, 1.0) as f32)
        .collect();
    let place = |at: usize, size: usize, n: usize| {
        let t = at as f64 * n as f64 / size as f64;
        let f = t - t.floor();
        let k = t.floor() as usize % n;
        (k, (k + 1) % n, (f * f * (3.0 - 2.0 * f)) as f32)
    };
    let columns: Vec<(usize, usize, f32)> = (0..w).map(|x| place(x, w, nx)).collect();
    for (y, row) in field.chunks_mut(w).enumerate() {
        let (upper, lower, down) = place(y, h, ny);
        let line: Vec<f32> = (0..nx)
            .map(|k| {
                let (a, b) = (knots[upper * nx + k], knots[lower * nx + k]);
                a + (b - a) * down
            })
            .collect();
        for (v, &(left, right, across)) in row.iter_mut().zip(&columns) {
            *v += gain * (line[left] + (line[right] - line[left]) * across);
        }
    }
}

fn chroma(chance: &mut Chance, w: usize, h: usize, unit: f64, strength: f32) -> (Vec<u8>, Vec<u8>) {
    let (cw, ch) = (w / 2, h / 2);
    let mut plane = || {
        let mut field = vec![chance.between(-8.0, 8.0) as f32; cw * ch];
        octave(&mut field, cw, ch, 90.0 * unit, strength, chance);
        octave(&mut field, cw, ch, 24.0 * unit, strength * 0.6, chance);
        octave(&mut field, cw, ch, 7.0 * unit, strength * 0.3, chance);
        field
            .iter()
            .map(|v| (128.0 + v).clamp(40.0, 216.0) as u8)
            .collect::<Vec<u8>>()
    };
    (plane(), plane())
}

fn noise_world(chance: &mut Chance, w: usize, h: usize, unit: f64) -> World {
    let mut field = vec![0f32; w * h];
    // How rough: natural pictures fall off with about one over frequency.
    let fall = chance.between(0.5, 0.78) as f32;
    let (mut cell, mut gain) = (180.0 * unit, 62.0f32);
    while cell >= 1.6 {
        octave(&mut field, w, h, cell, gain, chance);
        cell /= 2.1;
        gain *= fall;
    }
    let middle = chance.between(85.0, 150.0) as f32;
    let mut y: Vec<u8> = field
        .iter()
        .map(|v| (middle + v).clamp(16.0, 235.0) as u8)
        .collect();
    let (mut u, mut v) = chroma(chance, w, h, unit, 11.0);
    // Bodies with edges and a shading of their own; some textured, some plain.
    for _ in 0..chance.below(60) + 50 {
        let (cx, cy) = (chance.unit() * w as f64, chance.unit() * h as f64);
        let rx = unit * chance.between(4.0, 60.0);
        let ry = unit * chance.between(4.0, 60.0);
        let (square, plain) = (chance.hit(0.5), chance.hit(0.4));
        let luma = chance.between(25.0, 225.0);
        let tint = (chance.normal(13.0), chance.normal(13.0));
        let tilt = chance.between(-0.4, 0.4);
        for row in 0..(2.0 * ry) as usize {
            for column in 0..(2.0 * rx) as usize {
                let (dx, dy) = (column as f64 / rx - 1.0, row as f64 / ry - 1.0);
                if !square && dx * dx + dy * dy > 1.0 {
                    continue;
                }
                let x = (cx + column as f64) as usize % w;
                let yy = (cy + row as f64) as usize % h;
                let at = yy * w + x;
                let texture = if plain {
                    0.0
                } else {
                    f64::from(field[at]) * 0.5
                };
                y[at] = (luma + texture + 30.0 * tilt * (dx + dy)).clamp(16.0, 235.0) as u8;
                let half = yy / 2 * (w / 2) + x / 2;
                u[half] = (128.0 + tint.0).clamp(40.0, 216.0) as u8;
                v[half] = (128.0 + tint.1).clamp(40.0, 216.0) as u8;
            }
        }
    }
    World {
        width: w,
        height: h,
        y,
        u,
        v,
    }
}

fn cell_world(chance: &mut Chance, w: usize, h: usize, unit: f64) -> World {
    // Cells: each pixel belongs to the nearest of scattered points (on a torus, found by a grid of one point a box).
    let side = unit * chance.between(14.0, 46.0);
    let nx = ((w as f64 / side).round() as usize).max(3);
    let ny = ((h as f64 / side).round() as usize).max(3);
    let points: Vec<(f64, f64, f64, f64)> = (0..nx * ny)
        .map(|_| {
            (
                chance.unit(),
                chance.unit(),
                chance.between(30.0, 215.0),
                chance.between(-0.25, 0.25),
            )
        })
        .collect();
    let (bw, bh) = (w as f64 / nx as f64, h as f64 / ny as f64);
    let mut y = vec![0u8; w * h];
    for row in 0..h {
        let by = (row as f64 / bh) as usize;
        for column in 0..w {
            let bx = (column as f64 / bw) as usize;
            let mut best = (f64::MAX, 128.0);
            for oy in 0..3 {
                for ox in 0..3 {
                    let (gx, gy) = (bx + ox, by + oy);
                    let p = points[(gy + ny - 1) % ny * nx + (gx + nx - 1) % nx];
                    let dx = column as f64 - (gx as f64 - 1.0 + p.0) * bw;
                    let dy = row as f64 - (gy as f64 - 1.0 + p.1) * bh;
                    let far = dx * dx + dy * dy;
                    if far < best.0 {
                        best = (far, p.2 + p.3 * (dx + 0.6 * dy) * 4.0 / unit.max(0.2));
                    }
                }
            }
            y[row * w + column] = best.1.clamp(16.0, 235.0) as u8;
        }
    }
    // Strokes: short waves of one direction each, as hair, grass and cloth have them.
    for _ in 0..chance.below(50) + 60 {
        let (cx, cy) = (chance.unit() * w as f64, chance.unit() * h as f64);
        let reach = unit * chance.between(10.0, 48.0);
        let turn = chance.between(0.0, std::f64::consts::PI);
        let pitch = chance.between(2.6, 9.0);
        let depth = chance.between(8.0, 42.0);
        let (sin, cos) = turn.sin_cos();
        for row in 0..(2.0 * reach) as usize {
            for column in 0..(2.0 * reach) as usize {
                let (dx, dy) = (column as f64 - reach, row as f64 - reach);
                let near = (-(dx * dx + dy * dy) * 2.5 / (reach * reach)).exp();
                let wave = ((dx * cos + dy * sin) * std::f64::consts::TAU / pitch).sin();
                let at = (cy + row as f64) as usize % h * w + (cx + column as f64) as usize % w;
                let sum = f64::from(y[at]) + depth * near * wave;
                y[at] = sum.clamp(16.0, 235.0) as u8;
            }
        }
    }
    // Buildings: rows of windows, lit and dark.
    for _ in 0..chance.below(6) + 3 {
        let (x0, y0) = (chance.below(w), chance.below(h));
        let pane = (unit * chance.between(4.0, 11.0)).max(3.0) as usize;
        let (columns, rows) = (chance.below(9) + 3, chance.below(9) + 3);
        let wall = chance.between(40.0, 190.0) as u8;
        for row in 0..rows * pane * 2 {
            for column in 0..columns * pane * 2 {
                let window = row / pane % 2 == 1 && column / pane % 2 == 1;
                let lit = (row / pane / 2 * 7 + column / pane / 2 * 13 + x0).is_multiple_of(3);
                let at = (y0 + row) % h * w + (x0 + column) % w;
                y[at] = match (window, lit) {
                    (true, true) => 215,
                    (true, false) => 34,
                    _ => wall,
                };
            }
        }
    }
    let (u, v) = chroma(chance, w, h, unit, 15.0);
    World {
        width: w,
        height: h,
        y,
        u,
        v,
    }
}

/// Box blur on a torus, both directions.
fn blur(from: &[u8], w: usize, h: usize, reach: usize) -> Vec<u8> {
    let reach = reach.clamp(1, (w.min(h) - 1) / 2);
    let size = (2 * reach + 1) as u32;
    let mut across = vec![0u8; from.len()];
    for y in 0..h {
        let row = &from[y * w..(y + 1) * w];
        let mut sum: u32 = (0..size as usize)
            .map(|i| u32::from(row[(i + w - reach) % w]))
            .sum();
        for x in 0..w {
            across[y * w + x] = (sum / size) as u8;
            sum += u32::from(row[(x + reach + 1) % w]);
            sum -= u32::from(row[(x + w - reach) % w]);
        }
    }
    let mut out = vec![0u8; from.len()];
    let mut sums: Vec<u32> = (0..w)
        .map(|x| {
            (0..size as usize)
                .map(|i| u32::from(across[(i + h - reach) % h * w + x]))
                .sum()
        })
        .collect();
    for y in 0..h {
        let (enter, leave) = ((y + reach + 1) % h, (y + h - reach) % h);
        for (x, sum) in sums.iter_mut().enumerate() {
            out[y * w + x] = (*sum / size) as u8;
            *sum += u32::from(across[enter * w + x]);
            *sum -= u32::from(across[leave * w + x]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_one_picture_on_is_the_look_shifted() {
        for family in [Family::Noise, Family::Cells] {
            let world = World::new(family, &mut Chance::new(4), 64, 48);
            let a = world.look(Camera::at(10.0, 6.0), 64, 48);
            let b = world.look(Camera::at(13.0, 8.0), 64, 48);
            for y in 0..40 {
                assert_eq!(
                    a.y[(y + 2) * 64 + 3..(y + 3) * 64],
                    b.y[y * 64..y * 64 + 61]
                );
            }
            // Not flat, and not clipped to nothing.
            let distinct: std::collections::BTreeSet<u8> = a.y.iter().copied().collect();
            assert!(distinct.len() > 20, "{}", distinct.len());
        }
    }

    #[test]
    fn the_torus_has_no_end() {
        let world = World::new(Family::Noise, &mut Chance::new(4), 64, 48);
        let a = world.look(Camera::at(0.0, 0.0), 64, 48);
        let b = world.look(Camera::at(-160.0, 192.0), 64, 48);
        assert_eq!(a, b);
    }

    #[test]
    fn blurring_keeps_the_mean_and_takes_the_detail() {
        let mean = |w: &World| w.y.iter().map(|v| f64::from(*v)).sum::<f64>() / w.y.len() as f64;
        let steps =
            |w: &World| -> u64 { w.y.windows(2).map(|p| u64::from(p[0].abs_diff(p[1]))).sum() };
        let sharp = World::new(Family::Noise, &mut Chance::new(4), 64, 48);
        let soft = sharp.clone().blurred(4);
        assert!((mean(&sharp) - mean(&soft)).abs() < 2.0);
        assert!(steps(&soft) * 2 < steps(&sharp));
    }
}
