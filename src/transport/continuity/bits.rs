//! Start codes, emulation prevention, bits and Exp-Golomb numbers.

/// Start codes (00 00 01): each unit's bytes, from behind its start code to before the next one.
pub fn units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = start_code(bytes, 0);
    std::iter::from_fn(move || {
        let begin = next?;
        next = start_code(bytes, begin);
        let end = next.map_or(bytes.len(), |n| n - 3);
        bytes.get(begin..end)
    })
}

/// Whether a start code stands first (any zeros before it count as part of it).
pub fn begins(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().take_while(|&&b| b == 0).count();
    zeros >= 2 && bytes.get(zeros) == Some(&1)
}

/// The beginning of a start code at the very end of bytes.
pub fn cut_start(bytes: &[u8]) -> &[u8] {
    let begin = [&[0u8, 0, 1][..], &[0, 0], &[0]];
    let cut = begin
        .iter()
        .find(|b| bytes.ends_with(b))
        .map_or(0, |b| b.len());
    bytes.get(bytes.len() - cut..).unwrap_or_default()
}

/// The lowest bit of each byte.
const LOW: u64 = 0x0101_0101_0101_0101;

/// Place behind the next start code.
fn start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        // Eight bytes without a zero begin no start code; most of coded pictures is such.
        while let Some(word) = bytes.get(at..).and_then(|b| b.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*word);
            if word.wrapping_sub(LOW) & !word & (LOW << 7) != 0 {
                break;
            }
            at += 8;
        }
        let &[a, b, c] = bytes.get(at..)?.first_chunk::<3>()?;
        at += match (a, b, c) {
            (0, 0, 1) => return Some(at + 3),
            (_, _, 2..) => 3,
            (_, 1.., _) => 2,
            _ => 1,
        };
    }
}

/// Copies at most `limit` bytes without emulation prevention bytes.
pub fn unescape(bytes: &[u8], limit: usize, into: &mut Vec<u8>) {
    into.clear();
    let mut rest = bytes;
    let mut zeros = 0;
    while let Some((&b, after)) = rest.split_first() {
        if into.len() >= limit {
            return;
        }
        // Most of coded pictures is eight bytes without a zero, and then eight more.
        if zeros == 0
            && into.len().saturating_add(8) <= limit
            && let Some((eight, after)) = rest.split_first_chunk::<8>()
        {
            let word = u64::from_le_bytes(*eight);
            if word.wrapping_sub(LOW) & !word & (LOW << 7) == 0 {
                into.extend_from_slice(eight);
                rest = after;
                continue;
            }
        }
        rest = after;
        if zeros >= 2 && b == 3 {
            zeros = 0;
            continue;
        }
        zeros = if b == 0 { zeros + 1 } else { 0 };
        into.push(b);
    }
}

/// Reads bits from the most significant on; `None` at the end.
#[derive(Debug, Clone)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn flag(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// Unsigned number of `count` bits, at most 32.
    pub fn u(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |sum, _| Some(sum << 1 | u32::from(self.flag()?)))
    }

    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// Bits read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether nothing but trailing bits is left: a one, then zeros.
    pub fn ends(&mut self) -> Option<()> {
        let one = self.flag()?;
        let rest = self.bytes.len() * 8 - self.at;
        let zeros = (0..rest).all(|_| self.flag() == Some(false));
        (one && zeros).then_some(())
    }

    /// Exp-Golomb, unsigned; `None` also above 2^31.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.u(zeros)?)
    }

    /// Exp-Golomb, unsigned, at most `most`.
    pub fn ue_to(&mut self, most: u32) -> Option<u32> {
        self.ue().filter(|&v| v <= most)
    }

    /// Exp-Golomb, signed.
    pub fn se(&mut self) -> Option<i32> {
        let code = self.ue()?;
        let half = (code / 2 + code % 2) as i32;
        Some(if code % 2 == 1 { half } else { -half })
    }
}

/// Bits that hold 0..count.
pub fn bits_for(count: u32) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

/// SEI messages of a unit without its header: type and content.
pub fn sei(bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // The last byte holds the trailing bits.
        if rest.len() < 3 {
            return None;
        }
        let mut number = || {
            let mut sum = 0u32;
            loop {
                let (&b, after) = rest.split_first()?;
                rest = after;
                sum = sum.saturating_add(u32::from(b));
                if b != 0xFF {
                    return Some(sum);
                }
            }
        };
        let (kind, size) = (number()?, number()?);
        let (content, after) = rest.split_at_checked(size as usize)?;
        rest = after;
        Some((kind, content))
    })
}
