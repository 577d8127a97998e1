//! Makes prints of pictures and sound.
//!
//! *Pictures*: mean luma in 16x9 cells, whatever the resolution; the mean absolute change of a cell against the picture
//! about 85 ms before, over each quarter, on a logarithmic scale. A fixed time between the two pictures makes the figure
//! the same at any picture rate, and its middle is where it is dated.
//!
//! *Sound*: mono, rectified; a bit tells whether the mean over 5.3 ms is above the mean over 171 ms (the constants of
//! SMPTE ST 2064-1, with both means kept across blocks and at unit gain). It does not depend on loudness.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{MediaTime, PicturePrint, Print, SOUND_BITS_HZ, SampleClock, Sound, SoundPrint};
use crate::kernel::tiles::Tiles;

/// Cells a row, and rows of cells.
const COLUMNS: usize = 16;
const ROWS: usize = 9;
const CELLS: usize = COLUMNS * ROWS;
/// The picture before is at least this much older: three pictures at 25 Hz, five at 60 Hz.
const LOOK_BACK_SECS: f64 = 0.084;
/// A picture this much older is no neighbour: after a gap nothing is said.
const LOOK_BACK_MAX_SECS: f64 = 0.3;
/// Prints of pictures lie at least this far apart, so that 50 and 60 pictures a second cost no more than 30.
const APART_SECS: f64 = 0.03;
/// Sound tracks that are printed.
const SOUNDS_MAX: u8 = 4;
/// Slower sound has no envelope to speak of.
const RATE_MIN_HZ: u32 = 8_000;
/// Time constants of the two levels of sound, seconds (256 and 8192 samples at 48 kHz).
const SHORT_SECS: f64 = 256.0 / 48_000.0;
const LONG_SECS: f64 = 8_192.0 / 48_000.0;
/// A print is handed out when it spans this much.
const SPAN_SECS: f64 = 1.0;

/// Makes prints of one stream.
#[derive(Debug, Default)]
pub struct Printer {
    pictures: Pictures,
    sounds: BTreeMap<u8, Envelope>,
    print: Print,
}

impl Printer {
    /// Takes in a picture of the first picture track.
    pub fn picture(&mut self, at: MediaTime, tiles: &Tiles) {
        self.print.pictures.extend(self.pictures.print(at, tiles));
    }

    /// Takes in sound; tracks beyond the fourth are left out.
    pub fn sound(&mut self, track: u8, at: MediaTime, sound: &Sound<'_>) {
        if track >= SOUNDS_MAX || sound.rate_hz() < RATE_MIN_HZ {
            return;
        }
        let envelope = self.sounds.entry(track).or_default();
        if envelope.anchor(at, sound) {
            self.print.sound.push(SoundPrint {
                track,
                from: at,
                bits: Vec::new(),
            });
        }
        let open = (self.print.sound.iter_mut()).rfind(|run| run.track == track);
        let run = match open {
            Some(run) => run,
            None => {
                self.print.sound.push(SoundPrint {
                    track,
                    from: envelope.next_bit(),
                    bits: Vec::new(),
                });
                let Some(run) = self.print.sound.last_mut() else {
                    return;
                };
                run
            }
        };
        envelope.follow(sound, &mut run.bits);
    }

    /// What was made, once it spans a second; `at` = now.
    pub fn take(&mut self, at: MediaTime) -> Option<Print> {
        let from = self.print.from()?;
        (at.secs_after(from).abs() >= SPAN_SECS).then(|| std::mem::take(&mut self.print))
    }

    /// What was made so far.
    pub fn finish(&mut self) -> Option<Print> {
        let print = std::mem::take(&mut self.print);
        (!print.is_empty()).then_some(print)
    }
}

/// Motion of pictures.
#[derive(Debug, Default)]
struct Pictures {
    before: VecDeque<(MediaTime, [f32; CELLS])>,
    printed: Option<MediaTime>,
}

impl Pictures {
    fn print(&mut self, at: MediaTime, tiles: &Tiles) -> Option<PicturePrint> {
        let cells = cells(tiles)?;
        if self.before.back().is_some_and(|b| b.0 >= at) {
            self.before.clear();
            self.printed = None;
        }
        // The newest that is old enough stays at the front.
        while (self.before.get(1)).is_some_and(|b| at.secs_after(b.0) >= LOOK_BACK_SECS) {
            self.before.pop_front();
        }
        let due = (self.printed).is_none_or(|last| at.secs_after(last) >= APART_SECS);
        let old = (self.before.front())
            .filter(|b| (LOOK_BACK_SECS..LOOK_BACK_MAX_SECS).contains(&at.secs_after(b.0)) && due);
        let print = old.map(|(then, old)| PicturePrint {
            at: then.plus(at.since(*then) / 2),
            motion: motion(&cells, old),
        });
        if print.is_some() {
            self.printed = Some(at);
        }
        self.before.push_back((at, cells));
        print
    }
}

/// Mean luma of each cell, whatever the number of tiles; `None` without tiles.
fn cells(tiles: &Tiles) -> Option<[f32; CELLS]> {
    let columns = tiles.columns();
    let rows = tiles.all().len().checked_div(columns)?;
    let mut cells = [0.0; CELLS];
    for (row, cells) in cells.chunks_exact_mut(COLUMNS).enumerate() {
        for (column, cell) in cells.iter_mut().enumerate() {
            let (mut sum, mut area) = (0.0, 0.0);
            for (y, high) in shares(row, ROWS, rows) {
                for (x, wide) in shares(column, COLUMNS, columns) {
                    let tile = tiles.all().get(y * columns + x)?;
                    sum += tile.mean * high * wide;
                    area += high * wide;
                }
            }
            *cell = sum / area;
        }
    }
    Some(cells)
}

/// Which of `tiles` tiles lie in the `n`-th of `cells` equal cells, and with which length.
fn shares(n: usize, cells: usize, tiles: usize) -> impl Iterator<Item = (usize, f32)> {
    let edge = |n: usize| n as f32 * tiles as f32 / cells as f32;
    let (from, to) = (edge(n), edge(n + 1));
    let last = (to.ceil() as usize).min(tiles);
    (from as usize..last).filter_map(move |tile| {
        let length = (tile as f32 + 1.0).min(to) - (tile as f32).max(from);
        (length > 1e-4).then_some((tile, length))
    })
}

/// The four quarters; the middle row of cells counts in both halves.
fn motion(now: &[f32; CELLS], then: &[f32; CELLS]) -> [u8; 4] {
    let quarter = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
        let count = (rows.len() * columns.len()) as f32;
        let change: f32 = rows
            .flat_map(|row| columns.clone().map(move |column| row * COLUMNS + column))
            .filter_map(|at| Some((now.get(at)? - then.get(at)?).abs()))
            .sum();
        (2.0 * (1.0 + 8.0 * change / count).log2())
            .round()
            .min(15.0) as u8
    };
    [
        quarter(0..5, 0..8),
        quarter(0..5, 8..16),
        quarter(4..9, 0..8),
        quarter(4..9, 8..16),
    ]
}

/// Levels of sound.
#[derive(Debug, Default)]
struct Envelope {
    clock: SampleClock,
    short: f64,
    long: f64,
    /// Samples and bits of the run.
    samples: u64,
    bits: u64,
}

impl Envelope {
    /// Begins a new run where the block does not follow the one before.
    fn anchor(&mut self, at: MediaTime, sound: &Sound<'_>) -> bool {
        let known = self.clock.rate_hz() == sound.rate_hz();
        let begins = self.clock.follow(at, sound);
        if !known {
            (self.short, self.long) = (0.0, 0.0);
        }
        if begins {
            (self.samples, self.bits) = (0, 0);
        }
        begins
    }

    /// When the next bit is due.
    fn next_bit(&self) -> MediaTime {
        let nanos = u128::from(self.bits) * 1_000_000_000 / u128::from(SOUND_BITS_HZ);
        let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
        MediaTime::from_nanos(self.clock.at(0).nanos().saturating_add(nanos))
    }

    fn follow(&mut self, sound: &Sound<'_>, bits: &mut Vec<bool>) {
        let weights = weights(sound.channels());
        let rate = f64::from(self.clock.rate_hz());
        let (short, long) = (1.0 / (SHORT_SECS * rate), 1.0 / (LONG_SECS * rate));
        let rate_hz = u64::from(self.clock.rate_hz());
        let due = |bits: u64| bits * rate_hz / u64::from(SOUND_BITS_HZ);
        let mut next = due(self.bits);
        for frame in sound.samples().chunks_exact(sound.channels()) {
            let mixed = frame.iter().zip(&weights).map(|(x, w)| x * w).sum::<f32>();
            let level = if mixed.is_finite() {
                f64::from(mixed.clamp(-4.0, 4.0).abs())
            } else {
                0.0
            };
            self.short += (level - self.short) * short.min(1.0);
            self.long += (level - self.long) * long.min(1.0);
            if self.samples >= next {
                bits.push(self.short > self.long && self.short > QUIET);
                self.bits += 1;
                next = due(self.bits);
            }
            self.samples += 1;
        }
    }
}

/// Below this level (-80 dBFS) sound is silence and the noise of its coding.
const QUIET: f64 = 1e-4;

/// Down-mix to mono; the LFE (the fourth of six or eight) is left out, surrounds count half.
fn weights(channels: usize) -> Vec<f32> {
    let front = std::f32::consts::FRAC_1_SQRT_2;
    (0..channels)
        .map(|channel| match (channels, channel) {
            (1, _) | (6 | 8, 2) => 1.0,
            (6 | 8, 3) => 0.0,
            (6 | 8, 4..) => 0.5,
            _ => front,
        })
        .collect()
}
