//! What is truly damaged: the damaged stream beside the intact one, both through the same decoder.
//!
//! Pictures are matched by their presentation times. A block of 16x16 luma samples is damaged when it is off by at
//! least six codes on average; a picture when at least one block in a hundred is. An event is a run of damaged
//! pictures with gaps of at most two. Pictures that are missing, or that only repeat the one before, are no
//! corruption: they are told apart and count neither way.

use std::io;

use serde_json::{Value, json};

use super::decode::Luma;
use crate::score::Span;

/// Edge of a block, luma samples.
pub const BLOCK: usize = 16;
/// Mean absolute difference from which a block is damaged, 8-bit codes.
pub const BLOCK_CODES: f32 = 6.0;
/// Share of blocks from which a picture is damaged.
pub const AREA: f64 = 0.01;
/// Undamaged pictures that an event may span.
const GAP: usize = 2;
/// Below this mean difference a block is the same as before, 8-bit codes.
const SAME_CODES: f32 = 0.5;
/// How much of the re-encoding's own error is taken for difference between two re-encodings: two such errors that
/// know nothing of each other add to the root of two, and their mean varies from block to block.
const NOISE_FACTOR: f32 = 1.5;

/// What became of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is shown, for better or worse.
    Shown,
    /// The decoder did not give it.
    Missing,
    /// In its place the picture before is shown again.
    Repeated,
}

/// One picture of the intact stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Seconds on the product's media clock.
    pub secs: f64,
    /// What became of it.
    pub state: State,
    /// Share of blocks that are damaged, 0..1; 0 when missing.
    pub area: f64,
    /// Damaged blocks row by row, a bit each, lowest first; empty when there is none.
    pub mask: Vec<u8>,
}

impl Frame {
    /// Whether it counts as damaged.
    pub fn is_damaged(&self) -> bool {
        self.state == State::Shown && self.area >= AREA
    }
}

/// A run of damaged pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// From the first damaged picture to the end of the last one.
    pub span: Span,
    /// Largest share of blocks.
    pub peak: f64,
    /// Damaged pictures.
    pub pictures: usize,
}

/// A clip's pictures in order of their times.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Truth {
    /// All of the intact stream's.
    pub frames: Vec<Frame>,
    /// Blocks a row.
    pub columns: usize,
    /// Pictures of the damaged stream whose time no intact one has.
    pub strangers: usize,
}

impl Truth {
    /// Seconds from picture to picture.
    pub fn step_secs(&self) -> f64 {
        match (self.frames.first(), self.frames.last()) {
            (Some(a), Some(b)) if self.frames.len() > 1 => {
                (b.secs - a.secs) / (self.frames.len() - 1) as f64
            }
            _ => 0.04,
        }
    }

    /// Seconds of pictures that are shown, for better or worse.
    pub fn shown_secs(&self) -> f64 {
        let shown = self.frames.iter().filter(|f| f.state != State::Missing);
        shown.count() as f64 * self.step_secs()
    }

    /// Events in which pictures reach this share of blocks at least.
    pub fn events(&self, area: f64) -> Vec<Event> {
        let step = self.step_secs();
        let mut events: Vec<Event> = Vec::new();
        let mut gap = 0;
        let mut open = false;
        for frame in &self.frames {
            if frame.state != State::Shown {
                continue;
            }
            if frame.area < area.max(AREA) {
                gap += 1;
                open &= gap <= GAP;
                continue;
            }
            gap = 0;
            let end = frame.secs + step;
            match events.last_mut().filter(|_| open) {
                Some(event) => {
                    event.span.end = end;
                    event.peak = event.peak.max(frame.area);
                    event.pictures += 1;
                }
                None => events.push(Event {
                    span: Span {
                        start: frame.secs,
                        end,
                    },
                    peak: frame.area,
                    pictures: 1,
                }),
            }
            open = true;
        }
        events
    }

    /// For keeping; masks too.
    pub fn to_json(&self) -> Value {
        let frames: Vec<Value> = (self.frames.iter())
            .map(|f| {
                let state = match f.state {
                    State::Shown => 0,
                    State::Missing => 1,
                    State::Repeated => 2,
                };
                let mask: String = f.mask.iter().map(|b| format!("{b:02x}")).collect();
                json!([f.secs, state, f.area, mask])
            })
            .collect();
        json!({"frames": frames, "columns": self.columns, "strangers": self.strangers})
    }

    /// What [`Truth::to_json`] wrote.
    pub fn from_json(value: &Value) -> Option<Self> {
        let frame = |f: &Value| {
            let mask = f.get(3)?.as_str()?.as_bytes().chunks_exact(2);
            let byte = |b: &[u8]| u8::from_str_radix(std::str::from_utf8(b).ok()?, 16).ok();
            Some(Frame {
                secs: f.get(0)?.as_f64()?,
                state: match f.get(1)?.as_u64()? {
                    0 => State::Shown,
                    1 => State::Missing,
                    _ => State::Repeated,
                },
                area: f.get(2)?.as_f64()?,
                mask: mask.map(byte).collect::<Option<_>>()?,
            })
        };
        let frames = value.get("frames")?.as_array()?;
        Some(Self {
            frames: frames.iter().map(frame).collect::<Option<_>>()?,
            columns: usize::try_from(value.get("columns")?.as_u64()?).ok()?,
            strangers: usize::try_from(value.get("strangers")?.as_u64()?).ok()?,
        })
    }

    /// Pictures that were missing or repeated before a re-encoding are so in the re-encoded clip, where they stand
    /// as copies.
    pub fn mark_repeats(&mut self, before: &Truth) {
        let half = self.step_secs() / 2.0;
        for frame in &mut self.frames {
            let at = before
                .frames
                .partition_point(|b| b.secs < frame.secs - half);
            if let Some(b) = before.frames.get(at).filter(|b| b.secs < frame.secs + half) {
                frame.state = b.state;
            }
        }
    }
}

/// Mean absolute difference of every block, row by row.
pub fn differences(a: &Luma, b: &Luma) -> Vec<f32> {
    let width = a.width.max(1);
    let columns = width.div_ceil(BLOCK);
    let mut all = Vec::new();
    let strips = a
        .rows
        .chunks(width * BLOCK)
        .zip(b.rows.chunks(width * BLOCK));
    for (a, b) in strips {
        let mut sums = vec![0u32; columns];
        for (a, b) in a.chunks(width).zip(b.chunks(width)) {
            for ((a, b), sum) in a.chunks(BLOCK).zip(b.chunks(BLOCK)).zip(&mut sums) {
                *sum += (a.iter().zip(b))
                    .map(|(a, b)| u32::from(a.abs_diff(*b)))
                    .sum::<u32>();
            }
        }
        let tall = a.len() / width;
        all.extend(sums.iter().enumerate().map(|(x, &sum)| {
            let wide = BLOCK.min(width - x * BLOCK);
            sum as f32 / (wide * tall).max(1) as f32
        }));
    }
    all
}

fn share(values: &[f32], from: f32) -> f64 {
    values.iter().filter(|&&v| v >= from).count() as f64 / values.len().max(1) as f64
}

/// A source of pictures.
pub type Pictures<'a> = &'a mut dyn FnMut() -> io::Result<Option<Luma>>;

/// Compares two streams picture by picture. `origin_secs` is what the product's media clock counts from, the first
/// picture if `None`. `clean`
/// gives, for re-encoded clips, the pictures that went into the encoder of the intact one: blocks that encoding
/// alone changes must differ by more.
///
/// # Errors
/// When a decoder fails.
pub fn compare(
    intact: Pictures<'_>,
    damaged: Pictures<'_>,
    mut clean: Option<Pictures<'_>>,
    origin_secs: Option<f64>,
) -> io::Result<Truth> {
    let mut truth = Truth::default();
    let mut next = damaged()?;
    let mut before: Option<(Luma, Luma)> = None;
    // Whether the picture before was shown as it should be, or was itself a repeat of such a one.
    let mut sound = true;
    let mut origin = origin_secs;
    while let Some(a) = intact()? {
        let origin_secs = *origin.get_or_insert(a.secs);
        truth.columns = a.width.div_ceil(BLOCK);
        let noise = match &mut clean {
            Some(clean) => clean()?.map(|c| differences(&a, &c)),
            None => None,
        };
        // A time far ahead is a wrong one.
        while let Some(b) = &next
            && (b.pts < a.pts || b.secs > a.secs + 2.0)
        {
            truth.strangers += 1;
            next = damaged()?;
        }
        let mut frame = Frame {
            secs: a.secs - origin_secs,
            state: State::Missing,
            area: 0.0,
            mask: Vec::new(),
        };
        if next.as_ref().is_some_and(|b| b.pts == a.pts)
            && let Some(b) = next.take()
        {
            next = damaged()?;
            let mut off = differences(&a, &b);
            if let Some(noise) = noise {
                for (off, noise) in off.iter_mut().zip(noise) {
                    *off -= NOISE_FACTOR * noise;
                }
            }
            frame.area = share(&off, BLOCK_CODES);
            frame.mask = mask(&off);
            frame.state = State::Shown;
            if let Some((a_before, b_before)) = &before
                && frame.area >= AREA
                && sound
                && share(&differences(&b, b_before), SAME_CODES) < AREA / 2.0
                && share(&differences(&a, a_before), SAME_CODES) >= AREA
            {
                frame.state = State::Repeated;
            }
            sound = frame.state == State::Repeated || frame.area < AREA;
            before = Some((a, b));
        }
        truth.frames.push(frame);
    }
    Ok(truth)
}

/// Blocks that are off by so much that they are damaged, as [`Frame::mask`] keeps them.
pub fn mask(off: &[f32]) -> Vec<u8> {
    if off.iter().all(|&v| v < BLOCK_CODES) {
        return Vec::new();
    }
    let byte = |bits: &[f32]| {
        let set = bits.iter().enumerate().filter(|(_, v)| **v >= BLOCK_CODES);
        set.fold(0u8, |byte, (i, _)| byte | 1 << i)
    };
    off.chunks(8).map(byte).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SIDE: usize = 160;

    /// A picture of a gradient that moves, with some blocks off by ten codes.
    fn picture(n: i64, off: usize) -> Luma {
        let mut rows: Vec<u8> = (0..SIDE * SIDE)
            .map(|i| ((i % SIDE + 9 * n as usize) % 200) as u8)
            .collect();
        for block in 0..off {
            for y in 0..BLOCK {
                for x in 0..BLOCK {
                    rows[y * SIDE + block * BLOCK + x] += 10;
                }
            }
        }
        Luma {
            pts: n * 3600,
            secs: 1.4 + n as f64 * 0.04,
            width: SIDE,
            rows,
        }
    }

    fn run(damaged: Vec<Luma>, count: i64) -> Truth {
        let mut a = (0..count).map(|n| picture(n, 0));
        let mut b = damaged.into_iter();
        compare(&mut || Ok(a.next()), &mut || Ok(b.next()), None, Some(1.4)).unwrap()
    }

    #[test]
    fn damage_is_found_where_and_when_it_is() {
        let off = |n: i64| if (5..8).contains(&n) || n == 10 { 2 } else { 0 };
        let truth = run((0..20).map(|n| picture(n, off(n))).collect(), 20);
        assert_eq!(truth.frames[5].area, 0.02);
        assert_eq!(truth.frames[5].mask[0], 3);
        // Two sound pictures between: one event. No block in a hundred: none.
        let events = truth.events(AREA);
        assert_eq!(events.len(), 1);
        assert!((events[0].span.start - 0.2).abs() < 1e-9);
        assert!((events[0].span.end - 0.44).abs() < 1e-9);
        assert_eq!((events[0].peak, events[0].pictures), (0.02, 4));
        assert_eq!(truth.events(0.05), []);
        assert_eq!(Truth::from_json(&truth.to_json()), Some(truth));
    }

    #[test]
    fn missing_and_repeated_pictures_are_no_corruption() {
        let mut damaged: Vec<Luma> = (0..20).map(|n| picture(n, 0)).collect();
        let still = damaged[7].rows.clone();
        damaged[8].rows.clone_from(&still);
        damaged[9].rows = still;
        damaged[15].pts += 1;
        damaged.remove(12);
        let truth = run(damaged, 20);
        let states: Vec<State> = truth.frames.iter().map(|f| f.state).collect();
        for (n, state) in states.iter().enumerate() {
            let wanted = match n {
                8 | 9 => State::Repeated,
                12 | 15 => State::Missing,
                _ => State::Shown,
            };
            assert_eq!(*state, wanted, "{n}");
        }
        assert_eq!(truth.strangers, 1);
        assert_eq!(truth.events(AREA), []);
    }

    #[test]
    fn encoding_noise_raises_the_limit() {
        let off = |n: i64| usize::from(n > 5) * 4;
        let (mut a, mut b) = (
            (0..9).map(|n| picture(n, 0)),
            (0..9).map(|n| picture(n, off(n))),
        );
        // What went in differed as much in two of the four blocks.
        let mut c = (0..9).map(|n| picture(n, 2));
        let truth = compare(
            &mut || Ok(a.next()),
            &mut || Ok(b.next()),
            Some(&mut || Ok(c.next())),
            None,
        );
        assert_eq!(truth.unwrap().frames[7].area, 0.02);
    }

    #[test]
    fn repeats_before_a_re_encoding_stay_known() {
        let mut truth = run((0..9).map(|n| picture(n, 3)).collect(), 9);
        let mut before = truth.clone();
        before.frames[4].state = State::Missing;
        truth.mark_repeats(&before);
        assert_eq!(truth, before);
    }
}
