//! Arithmetic decoding (ITU-T H.265 9.3.4.3).

use super::contexts::Contexts;

/// `rangeTabLps` (table 9-52).
#[rustfmt::skip]
const LPS: [[u8; 4]; 64] = [
    [128, 176, 208, 240], [128, 167, 197, 227], [128, 158, 187, 216], [123, 150, 178, 205],
    [116, 142, 169, 195], [111, 135, 160, 185], [105, 128, 152, 175], [100, 122, 144, 166],
    [95, 116, 137, 158], [90, 110, 130, 150], [85, 104, 123, 142], [81, 99, 117, 135],
    [77, 94, 111, 128], [73, 89, 105, 122], [69, 85, 100, 116], [66, 80, 95, 110],
    [62, 76, 90, 104], [59, 72, 86, 99], [56, 69, 81, 94], [53, 65, 77, 89],
    [51, 62, 73, 85], [48, 59, 69, 80], [46, 56, 66, 76], [43, 53, 63, 72],
    [41, 50, 59, 69], [39, 48, 56, 65], [37, 45, 54, 62], [35, 43, 51, 59],
    [33, 41, 48, 56], [32, 39, 46, 53], [30, 37, 43, 50], [29, 35, 41, 48],
    [27, 33, 39, 45], [26, 31, 37, 43], [24, 30, 35, 41], [23, 28, 33, 39],
    [22, 27, 32, 37], [21, 26, 30, 35], [20, 24, 29, 33], [19, 23, 27, 31],
    [18, 22, 26, 30], [17, 21, 25, 28], [16, 20, 23, 27], [15, 19, 22, 25],
    [14, 18, 21, 24], [14, 17, 20, 23], [13, 16, 19, 22], [12, 15, 18, 21],
    [12, 14, 17, 20], [11, 14, 16, 19], [11, 13, 15, 18], [10, 12, 15, 17],
    [10, 12, 14, 16], [9, 11, 13, 15], [9, 11, 12, 14], [8, 10, 12, 14],
    [8, 9, 11, 13], [7, 9, 11, 12], [7, 9, 10, 12], [7, 8, 10, 11],
    [6, 8, 9, 11], [6, 7, 9, 10], [6, 7, 8, 9], [2, 2, 2, 2],
];

/// `transIdxLps` (table 9-53).
#[rustfmt::skip]
const AFTER_LPS: [u8; 64] = [
    0, 0, 1, 2, 2, 4, 4, 5, 6, 7, 8, 9, 9, 11, 11, 12, 13, 13, 15, 15, 16, 16, 18, 18, 19, 19, 21, 21, 22, 22, 23, 24,
    24, 25, 26, 26, 27, 27, 28, 29, 29, 30, 30, 30, 31, 32, 32, 33, 33, 33, 34, 34, 35, 35, 35, 36, 36, 36, 37, 37, 37,
    38, 38, 63,
];

/// Next state, with `valMps`, after the more probable bin.
const MORE: [u8; 128] = {
    let mut all = [0; 128];
    let mut at = 0;
    while at < 128 {
        all[at] = if at < 124 { at as u8 + 2 } else { at as u8 };
        at += 1;
    }
    all
};

/// The same after the less probable one.
const NEXT: [u8; 128] = {
    let mut all = [0; 128];
    let mut at = 0;
    while at < 128 {
        let turned = if at < 2 { 1 } else { 0 };
        all[at] = AFTER_LPS[at >> 1] << 1 | (at as u8 & 1 ^ turned);
        at += 1;
    }
    all
};

/// [`LPS`] by state with `valMps`, then quarter of the range.
const LESS: [u8; 512] = {
    let mut all = [0; 512];
    let mut at = 0;
    while at < 512 {
        all[at] = LPS[at >> 3][at & 3];
        at += 1;
    }
    all
};

/// The decoder of one run of arithmetic codes, without its contexts: small, so that loops keep it in registers.
///
/// Past the end it reads zeros; [`Cabac::is_past`] tells.
#[derive(Debug, Clone, Copy)]
pub struct Engine<'a> {
    bytes: &'a [u8],
    /// Bytes taken into `value`.
    at: usize,
    /// `ivlCurrRange`, 256..=510 between bins.
    range: u32,
    /// `ivlOffset` in the highest nine bits, then `bits` bits of what follows, then zeros.
    value: u64,
    /// Between bins at least 16, at most 55.
    bits: u32,
}

/// Place of `ivlOffset` in the value.
const SCALE: u32 = 64 - 9;

impl<'a> Engine<'a> {
    /// Begins at a byte (9.3.2.5).
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at: at.saturating_add(4),
            range: 510,
            value: u64::from(word(bytes, at)) << 32,
            bits: 32 - 9,
        }
    }

    /// Takes `shift` bits.
    #[inline(always)]
    fn renew(&mut self, shift: u32) {
        self.value <<= shift;
        self.bits -= shift;
        if self.bits < 16 {
            let next = u64::from(word(self.bytes, self.at));
            self.value |= next << (SCALE - 32 - self.bits);
            self.at += 4;
            self.bits += 32;
        }
    }

    /// A bin with this context.
    #[inline(always)]
    pub fn bin(&mut self, contexts: &mut Contexts, context: usize) -> u32 {
        let context = context & 0xFF;
        let state = contexts[context] & 0x7F;
        let less = u32::from(LESS[usize::from(state) << 2 | (self.range >> 6 & 3) as usize]);
        let more = self.range - less;
        let scaled = u64::from(more) << SCALE;
        if self.value < scaled {
            contexts[context] = MORE[usize::from(state)];
            self.range = more;
            if more < 256 {
                self.range = more << 1;
                self.renew(1);
            }
            u32::from(state & 1)
        } else {
            contexts[context] = NEXT[usize::from(state)];
            self.value -= scaled;
            // Nine bits again; no entry of the table has more than eight.
            let shift = 8 - ((less | 1).ilog2() & 7);
            self.range = less << shift;
            self.renew(shift);
            u32::from(state & 1) ^ 1
        }
    }

    /// A terminating bin.
    fn terminate(&mut self) -> bool {
        self.range -= 2;
        if self.value >= u64::from(self.range) << SCALE {
            return true;
        }
        let shift = u32::from(self.range < 256);
        self.range <<= shift;
        self.renew(shift);
        false
    }

    /// The next 16 bins that are not modelled: long division does them at once.
    #[inline(always)]
    fn ahead(&self) -> u32 {
        ((self.value >> (SCALE - 16)) as u32) / self.range.max(1)
    }

    /// Takes `count` (at most 16) of the bins that [`Engine::ahead`] showed.
    #[inline(always)]
    fn take(&mut self, ahead: u32, count: u32) -> u32 {
        let taken = ahead >> (16 - count);
        self.value -= u64::from(taken * self.range) << (SCALE - count);
        self.renew(count);
        taken
    }

    /// `count` bins that are not modelled, at most 16.
    #[inline(always)]
    pub fn bypass(&mut self, count: u32) -> u32 {
        self.take(self.ahead(), count)
    }

    /// One of them.
    #[inline(always)]
    fn bypass_flag(&mut self) -> bool {
        let scaled = u64::from(self.range) << (SCALE - 1);
        let set = self.value >= scaled;
        self.value -= if set { scaled } else { 0 };
        self.renew(1);
        set
    }

    /// Ones before a zero, at most `most`, which needs no zero (9.3.3.2).
    fn unary(&mut self, most: u32) -> u32 {
        let mut count = 0;
        while count < most && self.bypass_flag() {
            count += 1;
        }
        count
    }

    /// Exponential Golomb of order `k` (9.3.3.5); `None` when it has more than 15 ones.
    fn exp_golomb(&mut self, k: u32) -> Option<u32> {
        let ahead = self.ahead();
        let ones = (!(ahead << 16)).leading_zeros();
        if ones > 15 {
            return None;
        }
        self.take(ahead, ones + 1);
        let rest = self.bypass((ones + k).min(16));
        Some((((1 << ones) - 1) << k) + rest)
    }

    /// `coeff_abs_level_remaining` (9.3.3.11) without extended precision; `None` when no coefficient can be so large.
    #[inline(always)]
    pub fn remaining(&mut self, rice: u32) -> Option<u32> {
        let ahead = self.ahead();
        let ones = (!(ahead << 16)).leading_zeros();
        if ones <= 3 {
            let taken = self.take(ahead, ones + 1 + rice);
            return Some((ones << rice) + (taken & ((1 << rice) - 1)));
        }
        let (after, value) = self.large(ahead, ones, rice);
        *self = after;
        value
    }

    #[cold]
    fn large(mut self, ahead: u32, ones: u32, rice: u32) -> (Self, Option<u32>) {
        // Values to 2^15 take at most 18 ones.
        let mut ones = ones;
        if ones >= 16 {
            self.take(ahead, 16);
            ones = 16 + self.unary(3);
            if ones > 18 {
                return (self, None);
            }
        } else {
            self.take(ahead, ones + 1);
        }
        let length = ones - 3 + rice;
        if length > 16 {
            return (self, None);
        }
        let rest = self.bypass(length);
        (self, Some((((1 << (ones - 3)) + 2) << rice) + rest))
    }
}

/// The decoder with its contexts.
#[derive(Debug)]
pub struct Cabac<'a> {
    pub engine: Engine<'a>,
    pub contexts: Contexts,
}

impl<'a> Cabac<'a> {
    /// Begins at a byte.
    pub fn new(bytes: &'a [u8], at: usize, contexts: Contexts) -> Self {
        Self {
            engine: Engine::new(bytes, at),
            contexts,
        }
    }

    /// Begins anew at a byte; contexts stay.
    pub fn restart(&mut self, at: usize) {
        self.engine = Engine::new(self.engine.bytes, at);
    }

    /// Bits taken by the standard's decoder, counted from the first byte.
    fn position(&self) -> usize {
        let taken = self.engine.at.saturating_mul(8);
        taken.saturating_sub(self.engine.bits as usize)
    }

    /// Whether more was read than is there.
    #[inline]
    pub fn is_past(&self) -> bool {
        self.position() > self.engine.bytes.len().saturating_mul(8)
    }

    /// After a terminating bin that is 1: the byte behind its padding; `None` where padding is wrong (9.3.2.5).
    pub fn padded_end(&self) -> Option<usize> {
        let last = self.position().checked_sub(1)?;
        let byte = *self.engine.bytes.get(last / 8)?;
        ((byte << (last % 8)) == 0x80).then_some(last / 8 + 1)
    }

    /// A bin with this context.
    #[inline(always)]
    pub fn bin(&mut self, context: usize) -> u32 {
        self.engine.bin(&mut self.contexts, context)
    }

    /// The same as a flag.
    #[inline(always)]
    pub fn flag(&mut self, context: usize) -> bool {
        self.bin(context) == 1
    }

    /// See [`Engine::terminate`].
    pub fn terminate(&mut self) -> bool {
        self.engine.terminate()
    }

    /// See [`Engine::bypass`].
    pub fn bypass(&mut self, count: u32) -> u32 {
        self.engine.bypass(count)
    }

    /// See [`Engine::bypass_flag`].
    pub fn bypass_flag(&mut self) -> bool {
        self.engine.bypass_flag()
    }

    /// See [`Engine::unary`].
    pub fn unary(&mut self, most: u32) -> u32 {
        self.engine.unary(most)
    }

    /// See [`Engine::exp_golomb`].
    pub fn exp_golomb(&mut self, k: u32) -> Option<u32> {
        self.engine.exp_golomb(k)
    }
}

/// Four bytes from a place; zeros behind the end.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..).and_then(|b| b.first_chunk::<4>()) {
        Some(&four) => u32::from_be_bytes(four),
        None => last_word(bytes, at),
    }
}

#[cold]
fn last_word(bytes: &[u8], at: usize) -> u32 {
    let rest = bytes.get(at..).unwrap_or_default();
    let bytes = rest.iter().copied().chain([0; 4]).take(4);
    bytes.fold(0, |sum, b| sum << 8 | u32::from(b))
}
