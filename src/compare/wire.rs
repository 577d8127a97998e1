//! Prints as bytes, for another instance: less than 2 kbit/s.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `GWPR` |
//! | 1 | version, 1 |
//! | 8 | run of the sending process, least significant byte first |
//! | var | number of the print after the last one here |
//! | var | count of prints; each: |
//! | 8 | its time, ns |
//! | var | count of pictures; each: |
//! | var | the step from the one before (the first: from the time), as a change of that step, in 100 µs, zigzag |
//! | 2 | motion: four values of four bits |
//! | var | count of runs of sound; each: |
//! | 1 | track |
//! | 8 | time of the first bit, ns |
//! | var | count of bits, then the bits, first one lowest, filled up to a whole byte |
//!
//! `var` is LEB128. A version that is not known is refused as a whole: the instance that asked tells it in its log.

use detectors::base::{MediaTime, PicturePrint, Print, SoundPrint};

const MAGIC: &[u8; 4] = b"GWPR";
const VERSION: u8 = 1;
/// Most that one message may hold: what does not fit is not ours.
const PRINTS_MAX: u64 = 256;
const PICTURES_MAX: u64 = 1_024;
const SOUNDS_MAX: u64 = 64;
const BITS_MAX: u64 = 1 << 16;
/// Times of pictures are told this finely.
const STEP_NANOS: i64 = 100_000;

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Run of the sending process.
    pub run: u64,
    /// Number of the print that is read next.
    pub next: u64,
}

/// Why a message cannot be read. The other instance is at fault, or is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Something else answers there.
    #[error("the answer holds no prints: is the URL that of a stream's API?")]
    Foreign,
    /// Another version of the format.
    #[error("the other instance sends prints of version {0}, this one reads {VERSION}")]
    Version(u8),
    /// Cut short, or damaged.
    #[error("the answer is damaged")]
    Damaged,
}

/// Writes a message.
pub fn encode<'a>(place: Place, prints: impl ExactSizeIterator<Item = &'a Print>) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + 256 * prints.len());
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&place.run.to_le_bytes());
    put(&mut out, place.next);
    put(&mut out, prints.len() as u64);
    for print in prints {
        let from = print.pictures.first().map_or(0, |p| p.at.nanos());
        out.extend_from_slice(&from.to_le_bytes());
        put(&mut out, print.pictures.len() as u64);
        let (mut at, mut step) = (0i64, 0i64);
        for picture in &print.pictures {
            let here = (picture.at.nanos().saturating_sub(from) + STEP_NANOS / 2) / STEP_NANOS;
            let next = here.saturating_sub(at);
            put(&mut out, zigzag(next.saturating_sub(step)));
            (at, step) = (here, next);
            let [a, b, c, d] = picture.motion.map(|m| m.min(15));
            out.extend_from_slice(&[a | b << 4, c | d << 4]);
        }
        put(&mut out, print.sound.len() as u64);
        for run in &print.sound {
            out.push(run.track);
            out.extend_from_slice(&run.from.nanos().to_le_bytes());
            put(&mut out, run.bits.len() as u64);
            let byte = |bits: &[bool]| {
                let bits = bits.iter().enumerate();
                bits.fold(0u8, |byte, (n, bit)| byte | u8::from(*bit) << n)
            };
            out.extend(run.bits.chunks(8).map(byte));
        }
    }
    out
}

/// Reads a message.
///
/// # Errors
/// See [`WireError`]; nothing of a message that is wrong is taken.
pub fn decode(bytes: &[u8]) -> Result<(Place, Vec<Print>), WireError> {
    let mut reader = Reader(bytes);
    if reader.take(4) != Some(MAGIC) {
        return Err(WireError::Foreign);
    }
    match reader.byte() {
        Some(VERSION) => {}
        Some(other) => return Err(WireError::Version(other)),
        None => return Err(WireError::Damaged),
    }
    reader.message().ok_or(WireError::Damaged)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn message(&mut self) -> Option<(Place, Vec<Print>)> {
        let place = Place {
            run: u64::from_le_bytes(self.eight()?),
            next: self.number()?,
        };
        let count = self.count(PRINTS_MAX)?;
        let prints = (0..count).map(|_| self.print()).collect::<Option<_>>()?;
        self.0.is_empty().then_some((place, prints))
    }

    fn print(&mut self) -> Option<Print> {
        let from = i64::from_le_bytes(self.eight()?);
        let count = self.count(PICTURES_MAX)?;
        let (mut at, mut step) = (0i64, 0i64);
        let mut pictures = Vec::new();
        for _ in 0..count {
            step = step.checked_add(unzigzag(self.number()?))?;
            at = at.checked_add(step)?;
            let [a, b] = *self.take(2)?.first_chunk()?;
            pictures.push(PicturePrint {
                at: MediaTime::from_nanos(from.checked_add(at.checked_mul(STEP_NANOS)?)?),
                motion: [a & 15, a >> 4, b & 15, b >> 4],
            });
        }
        let count = self.count(SOUNDS_MAX)?;
        let sound = (0..count).map(|_| self.sound()).collect::<Option<_>>()?;
        Some(Print { pictures, sound })
    }

    fn sound(&mut self) -> Option<SoundPrint> {
        let track = self.byte()?;
        let from = MediaTime::from_nanos(i64::from_le_bytes(self.eight()?));
        let count = self.count(BITS_MAX)?;
        let bytes = self.take(count.div_ceil(8))?;
        let bits = bytes
            .iter()
            .flat_map(|b| (0..8).map(move |n| b >> n & 1 == 1));
        Some(SoundPrint {
            track,
            from,
            bits: bits.take(count).collect(),
        })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        self.take(8)?.first_chunk().copied()
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn count(&mut self, most: u64) -> Option<usize> {
        let count = self.number().filter(|n| *n <= most)?;
        usize::try_from(count).ok()
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    const PLACE: Place = Place {
        run: 0x0123_4567_89AB_CDEF,
        next: 1_234,
    };

    /// A second of `hz` pictures a second and one sound track.
    fn second(from: MediaTime, hz: f64) -> Print {
        let picture = |n: u32| PicturePrint {
            at: from.plus(Duration::from_secs_f64(f64::from(n) / hz)),
            motion: [n % 16, 15, n / 16 % 16, 3].map(|m| m as u8),
        };
        Print {
            pictures: (0..hz as u32).map(picture).collect(),
            sound: vec![SoundPrint {
                track: 2,
                from: from.plus(Duration::from_micros(1_041)),
                bits: (0..957).map(|n| n % 3 == 0).collect(),
            }],
        }
    }

    #[test]
    fn what_is_read_is_what_was_written_but_for_the_last_of_the_time() {
        let late = MediaTime::from_nanos(95_443_717_866_666);
        for hz in [23.976, 24.0, 25.0, 29.97, 30.0] {
            let early = MediaTime::from_millis(-500);
            let sent = [second(late, hz), Print::default(), second(early, hz)];
            let bytes = encode(PLACE, sent.iter());
            let (place, came) = decode(&bytes).unwrap();
            assert_eq!(place, PLACE);
            assert_eq!(came.len(), 3);
            for (sent, came) in sent.iter().zip(&came) {
                assert_eq!(sent.sound, came.sound);
                assert_eq!(sent.pictures.len(), came.pictures.len());
                for (a, b) in sent.pictures.iter().zip(&came.pictures) {
                    assert_eq!(a.motion, b.motion);
                    assert!(a.at.nanos().abs_diff(b.at.nanos()) <= STEP_NANOS.unsigned_abs() / 2);
                }
            }
        }
    }

    #[test]
    fn a_second_takes_less_than_two_kilobit() {
        for hz in [24.0, 25.0, 29.97, 30.0] {
            let print = second(MediaTime::from_millis(7_000), hz);
            let (none, one) = (encode(PLACE, [].iter()), encode(PLACE, [print].iter()));
            let bits = 8 * (one.len() - none.len());
            assert!(bits < 2_000, "{hz} Hz: {bits} bit");
        }
    }

    #[test]
    fn what_is_cut_short_or_foreign_is_refused() {
        let bytes = encode(PLACE, [second(MediaTime::from_millis(7_000), 25.0)].iter());
        for len in 0..bytes.len() {
            let refused = if len < 4 {
                WireError::Foreign
            } else {
                WireError::Damaged
            };
            assert_eq!(decode(&bytes[..len]), Err(refused), "{len}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode(&longer), Err(WireError::Damaged));
        let mut newer = bytes;
        newer[4] = 9;
        assert_eq!(decode(&newer), Err(WireError::Version(9)));
        assert_eq!(decode(b"<html>"), Err(WireError::Foreign));
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_comes_can_hurt(tail: Vec<u8>) {
            let head = [MAGIC.as_slice(), &[VERSION]].concat();
            let _ = decode(&[head, tail].concat());
        }
    }
}
