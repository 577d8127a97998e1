//! Transform trees and coefficients (ITU-T H.265 7.3.8.8, 7.3.8.10 to 7.3.8.12).

use super::cabac::{Cabac, Engine};
use super::contexts::{self, Contexts};
use super::walk::{Cu, Walk};

/// Chroma modes of 4:2:2 by mode (table 8-3).
const MODES_422: [u8; 35] = [
    0, 1, 2, 2, 2, 2, 3, 5, 7, 8, 10, 11, 13, 15, 16, 18, 19, 20, 21, 22, 23, 23, 24, 24, 25, 25,
    26, 27, 27, 28, 28, 29, 29, 30, 31,
];

/// Orders of 4 x 4 positions: up-right diagonal, horizontal, vertical (6.5.3 to 6.5.5); each `y * 4 + x`.
const SCANS: [[u8; 16]; 3] = [
    [0, 4, 1, 8, 5, 2, 12, 9, 6, 3, 13, 10, 7, 14, 11, 15],
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15],
];

/// Places of the same in those orders.
const PLACES: [[u8; 16]; 3] = {
    let mut all = [[0; 16]; 3];
    let mut scan = 0;
    while scan < 3 {
        let mut at = 0;
        while at < 16 {
            all[scan][SCANS[scan][at] as usize] = at as u8;
            at += 1;
        }
        scan += 1;
    }
    all
};

/// Up-right diagonal order of sub-blocks, `y * 8 + x`, in squares of 1, 2, 4 and 8.
const DIAGONALS: [[u8; 64]; 4] = [diagonal(1), diagonal(2), diagonal(4), diagonal(8)];

/// Their places, by `y * 8 + x`.
const DIAGONAL_PLACES: [[u8; 64]; 4] = {
    let mut all = [[0; 64]; 4];
    let mut size = 0;
    while size < 4 {
        let mut at = 0;
        while at < 1 << (2 * size) {
            all[size][DIAGONALS[size][at] as usize] = at as u8;
            at += 1;
        }
        size += 1;
    }
    all
};

const fn diagonal(side: usize) -> [u8; 64] {
    let mut all = [0; 64];
    let mut at = 0;
    let mut sum = 0;
    while sum < 2 * side - 1 {
        let mut x = 0;
        while x <= sum {
            let y = sum - x;
            if x < side && y < side {
                all[at] = (y * 8 + x) as u8;
                at += 1;
            }
            x += 1;
        }
        sum += 1;
    }
    all
}

/// `sigCtx` within a sub-block by place in scan order (9.3.4.2.5): for `prevCsbf` 0 to 3, then for 4 x 4 blocks.
const PATTERNS: [[[u8; 16]; 5]; 3] = {
    // ctxIdxMap (table 9-50), its last entry never asked for.
    let small = [0, 1, 4, 5, 2, 3, 4, 5, 6, 6, 8, 8, 7, 7, 8, 8];
    let mut all = [[[0; 16]; 5]; 3];
    let mut scan = 0;
    while scan < 3 {
        let mut at = 0;
        while at < 16 {
            let place = SCANS[scan][at] as usize;
            let (x, y) = (place & 3, place >> 2);
            all[scan][0][at] = match x + y {
                0 => 2,
                1 | 2 => 1,
                _ => 0,
            };
            all[scan][1][at] = if y < 2 { 2 - y as u8 } else { 0 };
            all[scan][2][at] = if x < 2 { 2 - x as u8 } else { 0 };
            all[scan][3][at] = 2;
            all[scan][4][at] = small[place];
            at += 1;
        }
        scan += 1;
    }
    all
};

impl Walk<'_> {
    /// Prediction modes of an intra coding unit (7.3.8.5, 8.4.2, 8.4.3).
    pub fn intra_modes(&mut self, cu: &mut Cu) {
        let blocks = if cu.split { 4 } else { 1 };
        let size = if cu.split { cu.size / 2 } else { cu.size };
        let mut likely = [false; 4];
        for likely in likely.iter_mut().take(blocks) {
            *likely = self.cabac.flag(contexts::PREV_INTRA);
        }
        for (block, likely) in likely.into_iter().enumerate().take(blocks) {
            let x = cu.x + if block & 1 == 1 { size } else { 0 };
            let y = cu.y + if block & 2 == 2 { size } else { 0 };
            let mask = (1 << (self.coding.ctb - 2)) - 1;
            let (column, row) = ((x >> 2) as usize & mask, (y >> 2) as usize & mask);
            let candidates = candidates(self.modes_left[row & 15], self.modes_above[column & 15]);
            let mode = if likely {
                candidates[self.cabac.unary(2) as usize % 3]
            } else {
                let mut sorted = candidates;
                sorted.sort_unstable();
                let rest = self.cabac.bypass(5) as u8;
                sorted
                    .into_iter()
                    .fold(rest, |mode, c| mode + u8::from(mode >= c))
            };
            cu.luma[block & 3] = mode;
            self.note_mode(x, y, size, mode);
        }
        if !cu.split {
            cu.luma = [cu.luma[0]; 4];
        }
        let chroma = match self.coding.chroma {
            0 => 0,
            3 => blocks,
            _ => 1,
        };
        for block in 0..chroma {
            let luma = cu.luma[block & 3];
            let mode = if self.cabac.flag(contexts::INTRA_CHROMA) {
                let mode = [0, 26, 10, 1][self.cabac.bypass(2) as usize & 3];
                if mode == luma { 34 } else { mode }
            } else {
                luma
            };
            cu.chroma[block & 3] = match self.coding.chroma {
                2 => MODES_422.get(usize::from(mode)).copied().unwrap_or(0),
                _ => mode,
            };
        }
        if chroma == 1 {
            cu.chroma = [cu.chroma[0]; 4];
        }
    }

    /// One node; `block` is its number among four. `parent` tells which chroma blocks of its parent have
    /// coefficients: bits 0 and 1 for Cb (two in 4:2:2), 2 and 3 for Cr.
    pub fn transform_tree(
        &mut self,
        cu: &Cu,
        (x, y): (u32, u32),
        (log2, depth): (u32, u32),
        block: usize,
        parent: u8,
    ) -> Option<()> {
        let coding = self.coding;
        let forced = cu.split && depth == 0;
        let split =
            if log2 <= coding.max_tb && log2 > coding.min_tb && depth < cu.max_depth && !forced {
                self.cabac
                    .flag(contexts::SPLIT_TRANSFORM + (5 - log2) as usize)
            } else {
                log2 > coding.max_tb || forced || cu.inter_split && depth == 0
            };
        let mut chroma = 0;
        if log2 > 2 && coding.chroma != 0 || coding.chroma == 3 {
            let two = coding.chroma == 2 && (!split || log2 == 3);
            let context = contexts::CBF_CHROMA + depth as usize;
            for shift in [0, 2] {
                if parent >> shift & 3 != 0 {
                    chroma |= (self.cabac.bin(context) as u8) << shift;
                    if two {
                        chroma |= (self.cabac.bin(context) as u8) << (shift + 1);
                    }
                }
            }
        } else if log2 == 2 && depth > 0 && coding.chroma != 0 {
            chroma = parent;
        }
        if split {
            // Only sets in disagreement with each other lead here.
            if log2 <= 2 {
                return None;
            }
            let half = 1 << (log2 - 1);
            let children = [(x, y), (x + half, y), (x, y + half), (x + half, y + half)];
            for (block, child) in children.into_iter().enumerate() {
                self.transform_tree(cu, child, (log2 - 1, depth + 1), block, chroma)?;
            }
            return Some(());
        }
        let luma = if cu.intra || depth != 0 || chroma != 0 {
            self.cabac
                .flag(contexts::CBF_LUMA + usize::from(depth == 0))
        } else {
            true
        };
        self.transform_unit(cu, (x, y), (log2, block), luma, chroma)
    }

    fn transform_unit(
        &mut self,
        cu: &Cu,
        (x, y): (u32, u32),
        (log2, block): (u32, usize),
        luma: bool,
        chroma: u8,
    ) -> Option<()> {
        if !luma && chroma == 0 {
            return Some(());
        }
        if self.group.is_some() && !self.qp_delta_coded {
            self.qp_delta()?;
        }
        let half = cu.size / 2;
        let quarter = usize::from(x >= cu.x + half) | usize::from(y >= cu.y + half) << 1;
        if luma {
            let scan = scan(cu, log2 <= 3, cu.luma[quarter & 3]);
            self.residual(log2, false, scan, cu.lossless)?;
        }
        let full = self.coding.chroma == 3;
        let log2 = match (full, log2) {
            (true, log2) => log2,
            (false, 2) if block != 3 => return Some(()),
            (false, 2) => 2,
            (false, log2) => log2 - 1,
        };
        let mode = if full {
            cu.chroma[quarter & 3]
        } else {
            cu.chroma[0]
        };
        let scan = scan(cu, log2 == 2 || full && log2 == 3, mode);
        for bit in 0..4 {
            if chroma >> bit & 1 == 1 {
                self.residual(log2, true, scan, cu.lossless)?;
            }
        }
        Some(())
    }

    /// `cu_qp_delta_abs` and its sign (7.4.9.14).
    fn qp_delta(&mut self) -> Option<()> {
        self.qp_delta_coded = true;
        let c = &mut self.cabac;
        let mut size = 0;
        while size < 5 && c.flag(contexts::QP_DELTA + usize::from(size > 0)) {
            size += 1;
        }
        if size == 5 {
            size += c.exp_golomb(0)?;
        }
        let negative = size > 0 && c.bypass_flag();
        let most = 25 + u32::from(negative) + 3 * (self.coding.depth_luma - 8);
        (size <= most).then_some(())
    }

    /// Coefficients of one block (7.3.8.11).
    fn residual(&mut self, log2: u32, chroma: bool, scan: usize, lossless: bool) -> Option<()> {
        if self.cabac.is_past() {
            return None;
        }
        let block = Block {
            log2,
            chroma,
            scan: scan % 3,
            hiding: self.sign_hiding && !lossless,
            skips: self.transform_skip && !lossless && log2 == 2,
        };
        let Cabac { engine, contexts } = &mut self.cabac;
        let mut local = *engine;
        let done = block.parse(&mut local, contexts);
        *engine = local;
        done
    }
}

/// A block of coefficients.
struct Block {
    /// Binary logarithm of its side, 2 to 5.
    log2: u32,
    chroma: bool,
    /// `scanIdx`.
    scan: usize,
    hiding: bool,
    /// `transform_skip_flag` is there.
    skips: bool,
}

impl Block {
    #[inline(always)]
    fn parse(&self, c: &mut Engine<'_>, contexts: &mut Contexts) -> Option<()> {
        let &Self {
            log2,
            chroma,
            scan,
            hiding,
            skips,
        } = self;
        let mut bin = |c: &mut Engine<'_>, context| c.bin(contexts, context);
        if skips {
            bin(c, contexts::TRANSFORM_SKIP + usize::from(chroma));
        }
        let (offset, shift) = if chroma {
            (15, log2 - 2)
        } else {
            (3 * (log2 - 2) + ((log2 - 1) >> 2), (log2 + 1) >> 2)
        };
        let most = 2 * log2 - 1;
        let mut prefixes = [0; 2];
        for (prefix, first) in prefixes
            .iter_mut()
            .zip([contexts::LAST_X, contexts::LAST_Y])
        {
            while *prefix < most && bin(c, first + (offset + (*prefix >> shift)) as usize) == 1 {
                *prefix += 1;
            }
        }
        let [x, y] = prefixes.map(|prefix| {
            if prefix < 4 {
                return prefix;
            }
            let more = (prefix >> 1) - 1;
            ((2 + (prefix & 1)) << more) + c.bypass(more)
        });
        let (x, y) = if scan == 2 { (y, x) } else { (x, y) };
        let side = 1u32 << log2;
        if x >= side || y >= side {
            return None;
        }
        let sub = (log2 - 2) as usize & 3;
        // Only blocks of 8 or less are scanned otherwise than diagonally, and their sub-blocks likewise.
        let place = |x: u32, y: u32| match (scan, sub) {
            (0, _) => DIAGONAL_PLACES[sub][(y << 3 | x) as usize & 63],
            (1, _) => (y << 1 | x) as u8,
            _ => (x << 1 | y) as u8,
        };
        let position = |at: usize| match (scan, sub) {
            (0, _) => {
                let place = u32::from(DIAGONALS[sub][at & 63]);
                (place & 7, place >> 3)
            }
            (1, _) => (at as u32 & 1, at as u32 >> 1),
            _ => (at as u32 >> 1, at as u32 & 1),
        };
        let last = usize::from(place(x >> 2, y >> 2));
        let last_inside = PLACES[scan][((y & 3) << 2 | x & 3) as usize & 15];
        let base = contexts::SIGNIFICANT
            + match (chroma, log2) {
                (false, 2) => 0,
                (false, 3) => {
                    if scan == 0 {
                        9
                    } else {
                        15
                    }
                }
                (false, _) => 21,
                (true, 2) => 27,
                (true, 3) => 27 + 9,
                (true, _) => 27 + 12,
            };
        // A bit for each sub-block of a row that has coefficients, with room at the right and below.
        let mut coded = [0u16; 9];
        let mut greater = 1;
        let chroma_sets = usize::from(chroma);
        for at in (0..=last).rev() {
            let (sx, sy) = position(at);
            let row = sy as usize & 7;
            let around = (coded[row] >> (sx + 1) & 1 | (coded[row + 1] >> sx & 1) << 1) as usize;
            let outer = at == last;
            let mut infer = false;
            if !outer && at > 0 {
                let context =
                    contexts::CODED_SUB_BLOCK + usize::from(around != 0) + 2 * chroma_sets;
                if bin(c, context) == 0 {
                    continue;
                }
                infer = true;
            }
            coded[row] |= 1 << sx;
            // Places with a coefficient, the first in coding order in bit 0 of the highest: bit = place.
            let mut mask = 0u32;
            let mut from = 16;
            if outer {
                from = u32::from(last_inside);
                mask = 1 << from;
            }
            let (pattern, base) = if log2 == 2 {
                (&PATTERNS[scan][4], base)
            } else {
                let inner = if !chroma && at > 0 { 3 } else { 0 };
                (&PATTERNS[scan][around & 3], base + inner)
            };
            for place in (1..from).rev() {
                let context = base + usize::from(pattern[place as usize & 15]);
                mask |= bin(c, context) << place;
            }
            if from > 0 {
                if infer && mask == 0 {
                    mask = 1;
                } else {
                    // The very first coefficient has a context of its own.
                    let context = match (at, chroma) {
                        (0, false) => contexts::SIGNIFICANT,
                        (0, true) => contexts::SIGNIFICANT + 27,
                        _ => base + usize::from(pattern[0]),
                    };
                    mask |= bin(c, context);
                }
            }
            if mask == 0 {
                continue;
            }
            let mut set = if at == 0 || chroma { 0 } else { 2 };
            if !outer && greater == 0 {
                set += 1;
            }
            greater = 1;
            let count = mask.count_ones();
            let modelled = count.min(8);
            let first = contexts::GREATER1 + set * 4 + 16 * chroma_sets;
            let mut large = 0u32;
            for index in 0..modelled {
                let is = bin(c, first + greater);
                large |= is << index;
                greater = if is == 1 {
                    0
                } else if greater > 0 {
                    (greater + 1).min(3)
                } else {
                    0
                };
            }
            // The first that is greater than one says whether it is greater than two.
            let mut larger = 0;
            if large != 0 {
                let context = contexts::GREATER2 + set + 4 * chroma_sets;
                larger = bin(c, context) << large.trailing_zeros();
            }
            let spread = 31 - mask.leading_zeros() - mask.trailing_zeros();
            let hidden = hiding && spread > 3;
            c.bypass(count - u32::from(hidden));
            // Those that may be larger still.
            let single = large & large.wrapping_neg();
            let mut open = (large & !single) | larger | (0xFFFF << modelled & ((1 << count) - 1));
            let mut rice = 0;
            while open != 0 {
                let index = open.trailing_zeros();
                open &= open - 1;
                let base = 1 + (large >> index & 1) + (larger >> index & 1);
                let value = base + c.remaining(rice)?;
                if value > 32_768 {
                    return None;
                }
                if value > 3 << rice {
                    rice = (rice + 1).min(4);
                }
            }
        }
        Some(())
    }
}

/// `candModeList` (8.4.2).
fn candidates(left: u8, above: u8) -> [u8; 3] {
    match (left, above) {
        (a, b) if a != b => {
            let third = [0, 1, 26].into_iter().find(|c| *c != a && *c != b);
            [a, b, third.unwrap_or(26)]
        }
        (0 | 1, _) => [0, 1, 26],
        (a, _) => [a, 2 + (a + 29) % 32, 2 + (a - 2 + 1) % 32],
    }
}

/// `scanIdx` (7.4.9.11).
fn scan(cu: &Cu, small: bool, mode: u8) -> usize {
    match mode {
        6..=14 if cu.intra && small => 2,
        22..=30 if cu.intra && small => 1,
        _ => 0,
    }
}
