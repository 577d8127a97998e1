//! Faults on the multiplexed bytes: lost packets, flipped bits, wrong timestamps.

use std::ops::Range;

use super::schedule::Fault;

/// Bytes of a transport packet.
pub const PACKET: usize = 188;

/// PIDs that the demo's multiplexer uses.
pub const VIDEO_PID: u16 = 0x41;
/// See [`VIDEO_PID`].
pub const AUDIO_PID: u16 = 0x42;

/// Offset of sound stamps under [`Fault::AudioEarly`] and [`Fault::AudioLate`], 90 kHz ticks.
const SHIFT_TICKS: i64 = 18_000;

/// Impairs packets of one stream.
pub struct Impair {
    random: fastrand::Rng,
    /// Packets still to be lost of the present burst.
    burst: u32,
}

impl Impair {
    /// With randomness of its own.
    pub fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            burst: 0,
        }
    }

    /// Applies a fault to whole packets, in place.
    pub fn apply(&mut self, fault: Option<Fault>, packets: &mut Vec<u8>) {
        match fault {
            Some(Fault::TsLoss) => {
                let mut kept = Vec::with_capacity(packets.len());
                for packet in packets.chunks_exact(PACKET) {
                    if pid(packet) == VIDEO_PID {
                        if self.burst == 0 && self.random.f64() < 0.02 {
                            self.burst = self.random.u32(1..=4);
                        }
                        if self.burst > 0 {
                            self.burst -= 1;
                            continue;
                        }
                    }
                    kept.extend_from_slice(packet);
                }
                *packets = kept;
            }
            Some(Fault::BitFlips) => {
                for packet in packets.chunks_exact_mut(PACKET) {
                    // Not the first packet of a PES: its header is not what this fault is about.
                    if pid(packet) == VIDEO_PID && packet[1] & 0x40 == 0 && self.random.f64() < 0.08
                    {
                        let at = self.random.usize(PACKET / 2..PACKET);
                        packet[at] ^= 1 << self.random.u32(0..8);
                        packet[at - 20] ^= 0x5A;
                    }
                }
            }
            Some(Fault::AudioEarly) => shift_audio(packets, -SHIFT_TICKS),
            Some(Fault::AudioLate) => shift_audio(packets, SHIFT_TICKS),
            _ => {}
        }
    }
}

/// PID of a packet.
pub fn pid(packet: &[u8]) -> u16 {
    u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2])
}

/// PID of the first program's table, from a packet with the whole PAT; it may be stuffed in front.
pub fn pmt_pid(packet: &[u8]) -> Option<u16> {
    let stuffing = match packet.get(3)? & 0x20 {
        0 => 0,
        _ => 1 + usize::from(*packet.get(4)?),
    };
    // Behind the packet's head and the pointer, in bytes 10 and 11 of the section.
    let at = 4 + stuffing + 1 + 10;
    let pid = packet.get(at..at + 2)?;
    Some(u16::from(pid[0] & 0x1F) << 8 | u16::from(pid[1]))
}

/// Whether a packet says that decoding may start here.
pub fn is_random_access(packet: &[u8]) -> bool {
    packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x40 != 0
}

/// Where the PTS of a PES that begins in this packet stands.
fn pts_place(packet: &[u8]) -> Option<Range<usize>> {
    let field = match packet[3] & 0x20 {
        0 => 0,
        _ => 1 + usize::from(packet[4]),
    };
    let at = 4 + field + 9;
    (packet[1] & 0x40 != 0 && at + 5 <= packet.len()).then_some(at..at + 5)
}

/// The PTS of a PES that begins in this packet, 33 bit at 90 kHz.
pub fn pts(packet: &[u8]) -> Option<u64> {
    let place = pts_place(packet)?;
    let [a, b, c, d, e] = *packet.get(place)?.first_chunk::<5>()?;
    let [a, b, c, d, e] = [a, b, c, d, e].map(u64::from);
    Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

/// Moves the PTS of every sound PES that begins in these packets.
fn shift_audio(packets: &mut [u8], ticks: i64) {
    for packet in packets.chunks_exact_mut(PACKET) {
        if pid(packet) != AUDIO_PID {
            continue;
        }
        let (Some(place), Some(old)) = (pts_place(packet), pts(packet)) else {
            continue;
        };
        let new = (old as i64 + ticks).rem_euclid(1 << 33) as u64;
        let pts = &mut packet[place];
        pts[0] = pts[0] & 0xF0 | (new >> 29) as u8 & 0x0E | 1;
        pts[1] = (new >> 22) as u8;
        pts[2] = (new >> 14) as u8 | 1;
        pts[3] = (new >> 7) as u8;
        pts[4] = (new << 1) as u8 | 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio_packet(pts: u64) -> Vec<u8> {
        let mut packet = vec![0u8; PACKET];
        packet[..4].copy_from_slice(&[0x47, 0x40, AUDIO_PID as u8, 0x10]);
        packet[4..13].copy_from_slice(&[0, 0, 1, 0xC0, 0, 0, 0x80, 0x80, 5]);
        packet[13] = 0x21 | (pts >> 29) as u8 & 0x0E;
        packet[14] = (pts >> 22) as u8;
        packet[15] = (pts >> 14) as u8 | 1;
        packet[16] = (pts >> 7) as u8;
        packet[17] = (pts << 1) as u8 | 1;
        packet
    }

    #[test]
    fn the_program_table_is_found_behind_any_stuffing() {
        let pat = [
            0, 0, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xE0, 0x20, 1, 2, 3, 4,
        ];
        let plain = [&[0x47, 0x40, 0, 0x10][..], &pat].concat();
        let stuffed = [&[0x47, 0x40, 0, 0x30, 2, 0, 0xFF][..], &pat].concat();
        assert_eq!(pmt_pid(&plain), Some(0x20));
        assert_eq!(pmt_pid(&stuffed), Some(0x20));
        assert_eq!(pmt_pid(&plain[..16]), None);
    }

    #[test]
    fn sound_stamps_move_by_200_ms_and_wrap() {
        let mut packets = audio_packet(900_000);
        Impair::new(0).apply(Some(Fault::AudioLate), &mut packets);
        assert_eq!(packets, audio_packet(918_000));
        let mut packets = audio_packet(1000);
        Impair::new(0).apply(Some(Fault::AudioEarly), &mut packets);
        assert_eq!(packets, audio_packet((1 << 33) + 1000 - 18_000));
    }

    #[test]
    fn loss_takes_only_pictures() {
        let mut packets = Vec::new();
        for n in 0..2000u16 {
            let mut packet = vec![0u8; PACKET];
            packet[..3].copy_from_slice(&[
                0x47,
                0,
                (if n % 4 == 0 { AUDIO_PID } else { VIDEO_PID }) as u8,
            ]);
            packets.extend(packet);
        }
        Impair::new(3).apply(Some(Fault::TsLoss), &mut packets);
        let left = |wanted| {
            packets
                .chunks_exact(PACKET)
                .filter(|p| pid(p) == wanted)
                .count()
        };
        assert_eq!(left(AUDIO_PID), 500);
        assert!(
            (1300..1480).contains(&left(VIDEO_PID)),
            "{}",
            left(VIDEO_PID)
        );
    }
}
