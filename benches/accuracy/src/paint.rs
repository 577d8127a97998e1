//! Shapes and signs on pictures, with soft edges and places between pixels.

use crate::raw::Raw;

/// Luma, blue difference, red difference.
pub type Colour = (u8, u8, u8);

/// White of limited range.
pub const WHITE: Colour = (235, 128, 128);
/// Black of limited range.
pub const BLACK: Colour = (16, 128, 128);
/// 75 % bars of BT.709 in limited range, from white to blue.
pub const BARS_75: [Colour; 7] = [
    (180, 128, 128),
    (168, 44, 136),
    (145, 147, 44),
    (133, 63, 52),
    (63, 193, 204),
    (51, 109, 212),
    (28, 212, 120),
];

/// Mixes one pixel: `cover` 0 leaves it, 1 replaces it.
fn mix(raw: &mut Raw, x: usize, y: usize, cover: f64, (luma, u, v): Colour) {
    let part = (cover.clamp(0.0, 1.0) * 256.0) as i32;
    let blend = |to: &mut u8, with: u8| {
        *to = (i32::from(*to) + (((i32::from(with) - i32::from(*to)) * part) >> 8)) as u8;
    };
    if let Some(to) = raw.y.get_mut(y * raw.width + x) {
        blend(to, luma);
    }
    if (x | y) & 1 == 0 {
        let at = y / 2 * (raw.width / 2) + x / 2;
        if let (Some(to_u), Some(to_v)) = (raw.u.get_mut(at), raw.v.get_mut(at)) {
            blend(to_u, u);
            blend(to_v, v);
        }
    }
}

/// Pixels from `low` to `high` that lie in a picture.
fn inside(low: f64, high: f64, limit: usize) -> std::ops::Range<usize> {
    let from = low.floor().clamp(0.0, limit as f64) as usize;
    let to = high.ceil().clamp(0.0, limit as f64) as usize;
    from..to.max(from)
}

/// A rectangle with edges between pixels.
pub fn rect(raw: &mut Raw, x: f64, y: f64, width: f64, height: f64, colour: Colour) {
    let (right, bottom) = (x + width, y + height);
    for row in inside(y, bottom, raw.height) {
        let down = (bottom.min(row as f64 + 1.0) - y.max(row as f64)).clamp(0.0, 1.0);
        for column in inside(x, right, raw.width) {
            let across = (right.min(column as f64 + 1.0) - x.max(column as f64)).clamp(0.0, 1.0);
            mix(raw, column, row, down * across, colour);
        }
    }
}

/// An ellipse, shaded a little towards its lower right, so that it is no flat spot.
pub fn ball(raw: &mut Raw, x: f64, y: f64, rx: f64, ry: f64, (luma, u, v): Colour) {
    let (rx, ry) = (rx.max(0.3), ry.max(0.3));
    let edge = rx.min(ry);
    for row in inside(y - ry - 1.0, y + ry + 1.0, raw.height) {
        for column in inside(x - rx - 1.0, x + rx + 1.0, raw.width) {
            let dx = (column as f64 + 0.5 - x) / rx;
            let dy = (row as f64 + 0.5 - y) / ry;
            let far = (dx * dx + dy * dy).sqrt();
            let cover = (1.0 - far) * edge + 0.5;
            if cover > 0.0 {
                let shade = 1.0 - 0.18 * (dx + dy).clamp(-1.0, 1.4);
                let luma = (f64::from(luma) * shade).clamp(16.0, 235.0) as u8;
                mix(raw, column, row, cover, (luma, u, v));
            }
        }
    }
}

/// A thick line with round ends: limbs, lines of a court.
pub fn limb(raw: &mut Raw, from: (f64, f64), to: (f64, f64), radius: f64, colour: Colour) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length2 = (dx * dx + dy * dy).max(1e-9);
    let radius = radius.max(0.3);
    let rows = inside(
        from.1.min(to.1) - radius - 1.0,
        from.1.max(to.1) + radius + 1.0,
        raw.height,
    );
    let columns = inside(
        from.0.min(to.0) - radius - 1.0,
        from.0.max(to.0) + radius + 1.0,
        raw.width,
    );
    for row in rows {
        for column in columns.clone() {
            let (px, py) = (column as f64 + 0.5 - from.0, row as f64 + 0.5 - from.1);
            let along = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
            let far = ((px - along * dx).powi(2) + (py - along * dy).powi(2)).sqrt();
            let cover = radius - far + 0.5;
            if cover > 0.0 {
                mix(raw, column, row, cover, colour);
            }
        }
    }
}

/// Strokes of a sign: top, upper left, upper right, middle, lower left, lower right, bottom.
fn strokes(sign: char) -> u8 {
    match sign {
        '0' | 'O' => 0b111_0111,
        '1' | 'I' => 0b001_0010,
        '2' | 'Z' => 0b101_1101,
        '3' => 0b101_1011,
        '4' => 0b011_1010,
        '5' | 'S' => 0b110_1011,
        '6' | 'G' => 0b110_1111,
        '7' => 0b101_0010,
        '8' | 'B' => 0b111_1111,
        '9' => 0b111_1011,
        'A' => 0b111_1110,
        'C' => 0b110_0101,
        'D' => 0b001_1111,
        'E' => 0b110_1101,
        'F' => 0b110_1100,
        'H' => 0b011_1110,
        'J' => 0b001_0111,
        'L' => 0b010_0101,
        'N' => 0b111_0110,
        'P' => 0b111_1100,
        'R' => 0b000_1100,
        'T' => 0b010_1101,
        'U' => 0b011_0111,
        'Y' => 0b011_1011,
        '-' => 0b000_1000,
        _ => 0,
    }
}

/// Signs of seven strokes, `height` pixels high. Returns the width.
pub fn text(raw: &mut Raw, x: f64, y: f64, height: f64, words: &str, colour: Colour) -> f64 {
    let (wide, pen) = (height * 0.5, (height * 0.14).max(1.0));
    let step = wide + pen * 1.6;
    let half = height / 2.0;
    for (n, sign) in words.chars().enumerate() {
        let left = x + step * n as f64;
        if left > raw.width as f64 || left + step < 0.0 {
            continue;
        }
        if sign == ':' || sign == '.' {
            rect(raw, left + wide / 2.0, y + height - pen, pen, pen, colour);
            if sign == ':' {
                rect(raw, left + wide / 2.0, y + half - pen, pen, pen, colour);
            }
            continue;
        }
        let on = strokes(sign);
        for (bit, (sx, sy, w, h)) in [
            (6, (0.0, 0.0, wide, pen)),
            (5, (0.0, 0.0, pen, half)),
            (4, (wide - pen, 0.0, pen, half)),
            (3, (0.0, half - pen / 2.0, wide, pen)),
            (2, (0.0, half, pen, half)),
            (1, (wide - pen, half, pen, half)),
            (0, (0.0, height - pen, wide, pen)),
        ] {
            if on >> bit & 1 == 1 {
                rect(raw, left + sx, y + sy, w, h, colour);
            }
        }
    }
    step * words.chars().count() as f64
}

/// Blends two pictures of one size: `part` 0 is `a`, 1 is `b`.
pub fn blend(a: &Raw, b: &Raw, part: f64) -> Raw {
    let part = (part.clamp(0.0, 1.0) * 256.0) as i32;
    let plane = |a: &[u8], b: &[u8]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (i32::from(*a) + (((i32::from(*b) - i32::from(*a)) * part) >> 8)) as u8)
            .collect()
    };
    Raw {
        width: a.width,
        height: a.height,
        y: plane(&a.y, &b.y),
        u: plane(&a.u, &b.u),
        v: plane(&a.v, &b.v),
    }
}

/// Changes exposure: luma about black, chroma about grey.
pub fn expose(raw: &mut Raw, gain: f64) {
    let luma: Vec<u8> = (0..256)
        .map(|v| (16.0 + (f64::from(v) - 16.0) * gain).clamp(16.0, 235.0) as u8)
        .collect();
    let chroma: Vec<u8> = (0..256)
        .map(|v| (128.0 + (f64::from(v) - 128.0) * gain.min(1.3)).clamp(16.0, 240.0) as u8)
        .collect();
    for v in &mut raw.y {
        *v = luma[usize::from(*v)];
    }
    for v in raw.u.iter_mut().chain(&mut raw.v) {
        *v = chroma[usize::from(*v)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pixel_covers_half() {
        let mut raw = Raw::flat(8, 8, (0, 128, 128));
        rect(&mut raw, 1.5, 2.0, 2.0, 1.0, (200, 128, 128));
        assert_eq!(raw.y[16..21], [0, 100, 200, 100, 0]);
    }

    #[test]
    fn shapes_beyond_the_edge_do_no_harm() {
        let mut raw = Raw::flat(16, 16, BLACK);
        ball(&mut raw, -3.0, 20.0, 9.0, 9.0, WHITE);
        limb(&mut raw, (-50.0, -50.0), (70.0, 70.0), 2.0, WHITE);
        text(&mut raw, -5.0, -5.0, 30.0, "12:34", WHITE);
        assert!(raw.y.contains(&235));
    }

    #[test]
    fn every_digit_differs() {
        let shape = |sign: char| {
            let mut raw = Raw::flat(24, 32, BLACK);
            text(&mut raw, 1.0, 1.0, 28.0, &sign.to_string(), WHITE);
            raw.y
        };
        for a in '0'..='9' {
            for b in '0'..a {
                assert_ne!(shape(a), shape(b), "{a} {b}");
            }
        }
    }
}
