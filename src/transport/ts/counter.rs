//! Continuity counters (ISO/IEC 13818-1 2.4.3.3).

/// Continuity of one PID (2.4.3.3).
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    /// Newest counter; `None` before the first packet.
    pub last: Option<u8>,
    /// The newest packet was already repeated once.
    repeated: bool,
    /// Of the newest payload, to tell a repetition from sixteen lost packets.
    print: u32,
}

pub const FRESH: Counter = Counter {
    last: None,
    repeated: false,
    print: 0,
};

/// What the counter says of a packet with payload.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Next,
    Repeat,
    Lost(u32),
}

impl Counter {
    pub fn step(&mut self, counter: u8, print: u32) -> Step {
        let before = std::mem::replace(
            self,
            Counter {
                last: Some(counter),
                repeated: false,
                print,
            },
        );
        let Some(last) = before.last else {
            return Step::Next;
        };
        if counter == last && print == before.print {
            self.repeated = true;
            return if before.repeated {
                Step::Lost(0)
            } else {
                Step::Repeat
            };
        }
        match counter.wrapping_sub(last + 1) & 0x0F {
            0 => Step::Next,
            lost => Step::Lost(u32::from(lost)),
        }
    }
}

/// Quick fingerprint of a payload, by samples: two payloads that agree in all of them and differ elsewhere would be
/// chance.
#[inline(never)]
pub fn print(payload: &[u8]) -> u32 {
    let mut sum = payload.len() as u64;
    let last = payload.len().saturating_sub(8);
    for at in [0, 64, last] {
        let Some(word) = payload.get(at..).and_then(|p| p.first_chunk::<8>()) else {
            continue;
        };
        sum = (sum ^ u64::from_le_bytes(*word))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
    }
    if payload.len() < 8 {
        sum = payload.iter().fold(sum, |sum, b| sum << 8 | u64::from(*b));
    }
    (sum ^ sum >> 32) as u32
}
