//! Factors that all parts share: how a clip is coded, at which rate and size.

use crate::chance::Chance;
use crate::encode::{Codec, Encoding};
use crate::raw::Raw;
use crate::sources::Source;

/// Picture rates.
pub const RATES: [f64; 5] = [24.0, 25.0, 30.0, 50.0, 60.0];
/// Seconds between key pictures.
pub const GOPS: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];

/// Scan and depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 8 bit, progressive.
    Plain,
    /// 8 bit, interlaced.
    Interlaced,
    /// 10 bit, progressive.
    Deep,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 3] = [Form::Plain, Form::Interlaced, Form::Deep];

    /// As written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Form::Plain => "8 bit progressive",
            Form::Interlaced => "interlaced",
            Form::Deep => "10 bit",
        }
    }

    /// Whether a codec can be asked for it here, at a rate.
    pub fn fits(self, codec: Codec, rate_hz: f64) -> bool {
        match self {
            Form::Plain => true,
            Form::Interlaced => {
                matches!(codec, Codec::H264 | Codec::Mpeg2) && rate_hz < 31.0 && rate_hz > 24.5
            }
            Form::Deep => codec != Codec::Mpeg2,
        }
    }
}

/// A picture size: most are small, so that there are many of them.
pub fn size(chance: &mut Chance) -> (usize, usize) {
    match chance.below(10) {
        0 => (1280, 720),
        1..=3 => (512, 288),
        _ => (640, 360),
    }
}

/// A bit rate that a broadcaster would call low or high for a codec and a size.
pub fn bitrate_kbps(codec: Codec, high: bool, width: usize, height: usize, rate_hz: f64) -> u32 {
    let at_360p25 = match (codec, high) {
        (Codec::H264, false) => 350.0,
        (Codec::H264, true) => 2_000.0,
        (Codec::Hevc, false) => 250.0,
        (Codec::Hevc, true) => 1_500.0,
        (Codec::Mpeg2, false) => 1_000.0,
        (Codec::Mpeg2, true) => 4_000.0,
        (Codec::Av1, false) => 200.0,
        (Codec::Av1, true) => 1_200.0,
    };
    let area = (width * height) as f64 / (640.0 * 360.0);
    (at_360p25 * area.powf(0.75) * (rate_hz / 25.0).powf(0.5)).round() as u32
}

/// An encoding of given factors.
pub fn encoding(
    codec: Codec,
    high: bool,
    form: Form,
    (width, height): (usize, usize),
    rate_hz: f64,
    gop_secs: f64,
) -> Encoding {
    let rate = bitrate_kbps(codec, high, width, height, rate_hz);
    let mut encoding = Encoding::new(codec, width, height, rate_hz, rate, gop_secs);
    encoding.interlaced = form == Form::Interlaced;
    encoding.deep = form == Form::Deep;
    encoding
}

/// The pictures of a source as this encoding wants them: woven from two moments when interlaced.
pub fn programme(source: &Source, encoding: &Encoding) -> Box<dyn Iterator<Item = Raw> + Send> {
    let (w, h, hz) = (encoding.width, encoding.height, encoding.rate_hz);
    if encoding.interlaced {
        Box::new(weave(source.open(w, h, hz * 2.0)))
    } else {
        source.open(w, h, hz)
    }
}

/// Pairs of moments, the first in the upper rows.
fn weave(mut fields: Box<dyn Iterator<Item = Raw> + Send>) -> impl Iterator<Item = Raw> + Send {
    std::iter::from_fn(move || {
        let (mut upper, lower) = (fields.next()?, fields.next()?);
        let rows = |to: &mut [u8], from: &[u8], width: usize| {
            for (to, from) in to
                .chunks_mut(width.max(1))
                .zip(from.chunks(width.max(1)))
                .skip(1)
                .step_by(2)
            {
                to.copy_from_slice(from);
            }
        };
        let width = upper.width;
        rows(&mut upper.y, &lower.y, width);
        rows(&mut upper.u, &lower.u, width / 2);
        rows(&mut upper.v, &lower.v, width / 2);
        Some(upper)
    })
}

/// Shows pictures of one rate at a higher one by repeating, as telecine and cheap converters do.
pub fn cadence(
    mut pictures: Box<dyn Iterator<Item = Raw> + Send>,
    from_hz: f64,
    to_hz: f64,
) -> impl Iterator<Item = Raw> + Send {
    let (mut n, mut shown, mut held) = (0u64, None, None);
    std::iter::from_fn(move || {
        let wanted = (n as f64 * from_hz / to_hz + 1e-9).floor() as u64;
        n += 1;
        while shown.is_none_or(|at: u64| at < wanted) {
            held = pictures.next();
            shown = Some(shown.map_or(0, |at| at + 1));
        }
        held.clone()
    })
}

/// Repeats the upper field in the lower rows, as frame stores do that freeze one field.
pub fn one_field(raw: &mut Raw) {
    let width = raw.width.max(1);
    for pair in raw.y.chunks_mut(2 * width) {
        let (upper, lower) = pair.split_at_mut(width.min(pair.len()));
        let n = lower.len().min(upper.len());
        lower[..n].copy_from_slice(&upper[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered() -> Box<dyn Iterator<Item = Raw> + Send> {
        Box::new((0..200u8).map(|n| Raw::flat(4, 4, (n, n, n))))
    }

    #[test]
    fn cadences_repeat_as_telecine_does() {
        let shown = |from, to| -> Vec<u8> {
            cadence(numbered(), from, to)
                .take(10)
                .map(|r| r.y[0])
                .collect()
        };
        assert_eq!(shown(24.0, 60.0), [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]);
        assert_eq!(shown(25.0, 50.0), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn weaving_takes_every_other_row_from_the_later_moment() {
        let woven: Vec<Raw> = weave(numbered()).take(2).collect();
        let rows: Vec<u8> = woven[1].y.chunks(4).map(|row| row[0]).collect();
        assert_eq!(rows, [2, 3, 2, 3]);
        let mut single = woven[1].clone();
        one_field(&mut single);
        assert!(single.y.iter().all(|v| *v == 2));
    }
}
