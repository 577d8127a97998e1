//! Timestamps of a transport stream or of fragments written anew, so that the truth about them is known to a tick.

/// Clock of timestamps in a transport stream, ticks a second.
pub const HZ: i64 = 90_000;
/// They count modulo this.
pub const WRAP: i64 = 1 << 33;

/// What a timestamp is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Pictures.
    Picture,
    /// Sound.
    Sound,
    /// The clock reference.
    Reference,
}

/// Ticks of so many seconds.
pub fn ticks(secs: f64) -> i64 {
    (secs * HZ as f64).round() as i64
}

fn put(field: &mut [u8], ticks: i64) {
    let ticks = ticks.rem_euclid(WRAP) as u64;
    field[0] = (field[0] & 0xF1) | ((ticks >> 29) as u8 & 0x0E);
    field[1..3].copy_from_slice(&(((ticks >> 14) as u16) | 1).to_be_bytes());
    field[3..5].copy_from_slice(&(((ticks << 1) as u16) | 1).to_be_bytes());
}

fn get(field: &[u8]) -> i64 {
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|n| i64::from(field[n]));
    (a & 0x0E) << 29 | b << 22 | (c & 0xFE) << 14 | d << 7 | e >> 1
}

/// Writes the timestamps of a sound transport stream anew. A unit whose timestamp becomes `None` is left out.
pub fn restamp(bytes: &[u8], to: impl Fn(Of, i64) -> Option<i64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut lost = None;
    for packet in bytes.chunks_exact(188) {
        let mut packet = packet.to_vec();
        let pid = u16::from_be_bytes([packet[1] & 0x1F, packet[2]]);
        let mut at = 4;
        if packet[3] & 0x20 != 0 {
            let length = usize::from(packet[4]);
            if length > 0 && packet[5] & 0x10 != 0 {
                let base = packet[6..11]
                    .iter()
                    .fold(0_i64, |base, b| base << 8 | i64::from(*b));
                let ticks = to(Of::Reference, base >> 7)
                    .unwrap_or(base >> 7)
                    .rem_euclid(WRAP);
                packet[6..11].copy_from_slice(&(ticks << 7 | base & 0x7F).to_be_bytes()[3..]);
            }
            at += 1 + length;
        }
        let begins = packet[1] & 0x40 != 0;
        let head = packet
            .get(at..at + 14)
            .filter(|head| begins && head.starts_with(&[0, 0, 1]));
        let of = match head.map(|head| head[3]) {
            Some(0xE0..=0xEF) => Some(Of::Picture),
            Some(0xC0..=0xDF) => Some(Of::Sound),
            _ => None,
        };
        if let Some(of) = of {
            lost.take_if(|lost| *lost == pid);
            let fields = 1 + usize::from(packet[at + 7] & 0x40 != 0);
            for field in packet[at + 9..].chunks_exact_mut(5).take(fields) {
                match to(of, get(field)) {
                    Some(ticks) => put(field, ticks),
                    None => lost = Some(pid),
                }
            }
        }
        if lost != Some(pid) {
            out.extend_from_slice(&packet);
        }
    }
    out
}

/// Adds so many ticks of the track to the decode times of fragments (`tfdt`, version 1).
pub fn delay_fragments(bytes: &mut [u8], ticks: i64) {
    const LENGTH: usize = 16;
    let heads =
        (0..bytes.len().saturating_sub(LENGTH)).filter(|at| bytes[*at..].starts_with(b"tfdt\x01"));
    for at in heads.collect::<Vec<_>>() {
        if let Some(time) = bytes
            .get_mut(at + 8..)
            .and_then(|b| b.first_chunk_mut::<8>())
        {
            *time = (i64::from_be_bytes(*time) + ticks).to_be_bytes();
        }
    }
}
