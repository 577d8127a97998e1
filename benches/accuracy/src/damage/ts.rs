//! As much of MPEG-TS as one must know to damage it.

use std::ops::Range;

/// One packet (ISO/IEC 13818-1, 2.4.3.2).
pub type Packet = [u8; 188];

/// Clock of time stamps, ticks a second.
pub const HZ: u64 = 90_000;

/// Whole packets of a file; a rest is left out.
pub fn packets(bytes: &[u8]) -> Vec<Packet> {
    bytes.as_chunks().0.to_vec()
}

/// PID of a packet.
pub fn pid(packet: &Packet) -> u16 {
    u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2])
}

/// Whether a PES packet (or a section) begins in this packet.
pub fn begins(packet: &Packet) -> bool {
    packet[1] & 0x40 != 0
}

/// Where the payload begins; 188 when there is none.
pub fn payload_at(packet: &Packet) -> usize {
    match packet[3] >> 4 & 3 {
        1 => 4,
        3 => (5 + usize::from(packet[4])).min(188),
        _ => 188,
    }
}

/// The payload.
pub fn payload(packet: &Packet) -> &[u8] {
    packet.get(payload_at(packet)..).unwrap_or_default()
}

/// Head of a PES packet: stream id, presentation time (33 bit), and how long the head is.
fn pes_head(bytes: &[u8]) -> Option<(u8, Option<u64>, usize)> {
    let &[0, 0, 1, id, _, _, _, flags, rest] = bytes.first_chunk::<9>()? else {
        return None;
    };
    let pts = match flags & 0x80 {
        0 => None,
        _ => bytes.get(9..14).and_then(|b| b.first_chunk()).map(stamp),
    };
    Some((id, pts, 9 + usize::from(rest)))
}

fn stamp(bytes: &[u8; 5]) -> u64 {
    let [a, b, c, d, e] = bytes.map(u64::from);
    (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
}

/// PID of the first PES packet of pictures.
pub fn video_pid(packets: &[Packet]) -> Option<u16> {
    let video = |p: &&Packet| {
        begins(p) && pes_head(payload(p)).is_some_and(|(id, ..)| (0xE0..=0xEF).contains(&id))
    };
    packets.iter().find(video).map(pid)
}

/// The first presentation time in a file: the product's media time counts from it.
pub fn first_pts(packets: &[Packet]) -> Option<u64> {
    let mut begun = packets.iter().filter(|p| begins(p));
    begun.find_map(|p| pes_head(payload(p)).and_then(|(_, pts, _)| pts))
}

/// One PES packet: an access unit, as multiplexers cut pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its packets.
    pub at: Vec<usize>,
    /// Presentation time, 33 bit.
    pub pts: u64,
}

/// The units of one PID in stored order.
pub fn units(packets: &[Packet], of: u16) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for (at, packet) in packets.iter().enumerate().filter(|(_, p)| pid(p) == of) {
        if begins(packet) {
            let pts = pes_head(payload(packet)).and_then(|(_, pts, _)| pts);
            let before = units.last().map_or(0, |u| u.pts);
            let pts = pts.unwrap_or(before);
            units.push(Unit { at: vec![at], pts });
        } else if let Some(unit) = units.last_mut() {
            unit.at.push(at);
        }
    }
    units
}

/// Head and elementary stream of a unit, as one piece, and where the latter begins.
pub fn unit_bytes(packets: &[Packet], unit: &Unit) -> (Vec<u8>, usize) {
    let own = unit.at.iter().filter_map(|&at| packets.get(at));
    let bytes = own.flat_map(payload).copied().collect::<Vec<u8>>();
    let head = pes_head(&bytes).map_or(0, |(_, _, len)| len.min(bytes.len()));
    (bytes, head)
}

/// Puts other bytes (head and elementary stream, no more than before) into a unit's packets; those that are not
/// needed any more go. Clock references stay where they are.
pub fn refill(packets: &mut [Option<Packet>], unit: &Unit, bytes: &[u8]) {
    let mut rest = bytes;
    for &at in &unit.at {
        let Some(slot) = packets.get_mut(at) else {
            continue;
        };
        *slot = match *slot {
            Some(packet) if !rest.is_empty() => {
                let (filled, left) = fill(&packet, rest);
                rest = left;
                Some(filled)
            }
            _ => None,
        };
    }
}

/// The packet with as many of these bytes as it holds, and what is left of them.
fn fill<'a>(old: &Packet, bytes: &'a [u8]) -> (Packet, &'a [u8]) {
    let mut field: Vec<u8> = Vec::new();
    if old[3] & 0x20 != 0 && old[4] > 0 {
        let flags = old[5] & 0xF0;
        if flags & 0x10 != 0 {
            field.push(flags);
            field.extend_from_slice(&old[6..12]);
        } else if flags != 0 {
            field.push(flags);
        }
    }
    // With its length byte.
    let taken = if field.is_empty() { 0 } else { 1 + field.len() };
    let (now, left) = bytes.split_at(bytes.len().min(184 - taken));
    let mut stuffing = 184 - taken - now.len();
    let mut packet = vec![0x47, old[1], old[2], old[3] & 0xCF | 0x10];
    if taken > 0 || stuffing > 0 {
        packet[3] |= 0x20;
        if taken == 0 {
            stuffing -= 1;
            if stuffing > 0 {
                stuffing -= 1;
                field.push(0);
            }
        }
        packet.push((field.len() + stuffing) as u8);
        packet.append(&mut field);
        packet.extend(std::iter::repeat_n(0xFF, stuffing));
    }
    packet.extend_from_slice(now);
    let filled = packet.first_chunk().copied().unwrap_or(*old);
    (filled, left)
}

/// Writes continuity counters without a gap.
pub fn renumber(packets: &mut [Packet], of: u16) {
    let mut counter: Option<u8> = None;
    for packet in packets.iter_mut().filter(|p| pid(p) == of) {
        let has_payload = packet[3] & 0x10 != 0;
        let next = match counter {
            None => packet[3] & 0x0F,
            Some(last) if has_payload => (last + 1) & 0x0F,
            Some(last) => last,
        };
        packet[3] = packet[3] & 0xF0 | next;
        counter = Some(next);
    }
}

/// How an elementary stream is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    Hevc,
    /// ISO/IEC 13818-2.
    Mpeg2,
}

/// Pieces of an elementary stream, each with its start code.
pub fn pieces(stream: &[u8]) -> Vec<Range<usize>> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(found) = stream.get(at..).and_then(|s| find(s, &[0, 0, 1])) {
        let code = at + found;
        let begin = code.checked_sub(1).filter(|&b| stream.get(b) == Some(&0));
        starts.push(begin.unwrap_or(code));
        at = code + 3;
    }
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts
        .iter()
        .copied()
        .zip(ends)
        .map(|(a, b)| a..b)
        .collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// Whether a piece (with its start code) holds coded blocks.
pub fn is_slice(syntax: Syntax, piece: &[u8]) -> bool {
    let Some(&head) = find(piece, &[0, 0, 1]).and_then(|at| piece.get(at + 3)) else {
        return false;
    };
    match syntax {
        Syntax::H264 => matches!(head & 0x1F, 1 | 5),
        Syntax::Hevc => head >> 1 & 0x3F < 32,
        Syntax::Mpeg2 => (0x01..=0xAF).contains(&head),
    }
}

/// Whether an access unit begins a group of pictures: IDR, IRAP, or an I picture.
pub fn is_key(syntax: Syntax, stream: &[u8]) -> bool {
    pieces(stream).into_iter().any(|piece| {
        let piece = stream.get(piece).unwrap_or_default();
        let head = find(piece, &[0, 0, 1]).and_then(|at| piece.get(at + 3..));
        match (syntax, head) {
            (Syntax::H264, Some(&[head, ..])) => head & 0x1F == 5,
            (Syntax::Hevc, Some(&[head, ..])) => (16..=23).contains(&(head >> 1 & 0x3F)),
            (Syntax::Mpeg2, Some(&[0, _, kind, ..])) => kind >> 3 & 7 == 1,
            _ => false,
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A PES packet of pictures with these bytes, cut into packets as multiplexers do.
    pub fn pes(pts: u64, stream: &[u8]) -> Vec<Packet> {
        let mut bytes = vec![0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5];
        bytes.push(0x21 | (pts >> 29) as u8 & 0x0E);
        bytes.push((pts >> 22) as u8);
        bytes.push((pts >> 14) as u8 | 1);
        bytes.push((pts >> 7) as u8);
        bytes.push((pts << 1) as u8 | 1);
        bytes.extend_from_slice(stream);
        let mut first = [0u8; 188];
        first[..12].copy_from_slice(&[0x47, 0x41, 0, 0x30, 7, 0x50, 1, 2, 3, 4, 5, 6]);
        let mut plain = [0u8; 188];
        plain[..4].copy_from_slice(&[0x47, 0x01, 0, 0x10]);
        let (mut packets, mut rest) = (Vec::new(), bytes.as_slice());
        while !rest.is_empty() {
            let shape = if packets.is_empty() { &first } else { &plain };
            let (filled, left) = fill(shape, rest);
            packets.push(filled);
            rest = left;
        }
        packets
    }

    #[test]
    fn units_give_back_what_was_put_in_at_any_length() {
        for len in (0..600).chain([1000, 5000]) {
            let stream: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let packets = [pes(90_000, &stream), pes(93_600, &[7; 10])].concat();
            assert_eq!(video_pid(&packets), Some(0x100));
            assert_eq!(first_pts(&packets), Some(90_000));
            let units = units(&packets, 0x100);
            assert_eq!((units.len(), units[1].pts), (2, 93_600));
            let (bytes, head) = unit_bytes(&packets, &units[0]);
            assert_eq!(bytes[head..], stream);
        }
    }

    #[test]
    fn refilled_units_are_shorter_and_keep_their_clock() {
        let packets = pes(0, &[5; 1000]);
        let unit = units(&packets, 0x100).remove(0);
        let (bytes, head) = unit_bytes(&packets, &unit);
        let mut slots: Vec<Option<Packet>> = packets.iter().copied().map(Some).collect();
        refill(&mut slots, &unit, &bytes[..head + 300]);
        let mut after: Vec<Packet> = slots.into_iter().flatten().collect();
        assert_eq!((packets.len(), after.len()), (6, 2));
        assert_eq!(after[0][6..12], [1, 2, 3, 4, 5, 6]);
        renumber(&mut after, 0x100);
        assert_eq!((after[0][3] & 15, after[1][3] & 15), (0, 1));
        let unit = units(&after, 0x100).remove(0);
        assert_eq!(unit_bytes(&after, &unit).0, bytes[..head + 300]);
    }

    #[test]
    fn pieces_keep_all_bytes_and_their_kinds() {
        let stream = [0, 0, 0, 1, 0x67, 9, 0, 0, 1, 0x65, 8, 0, 0, 0, 1, 0x41, 7];
        assert_eq!(pieces(&stream), [0..6, 6..11, 11..17]);
        let slice = |p: Range<usize>| is_slice(Syntax::H264, &stream[p]);
        assert_eq!(
            pieces(&stream).into_iter().map(slice).collect::<Vec<_>>(),
            [false, true, true]
        );
        assert!(is_key(Syntax::H264, &stream));
        assert!(!is_key(Syntax::H264, &stream[11..]));
        assert!(is_key(Syntax::Hevc, &[0, 0, 1, 19 << 1, 1, 9]));
        assert!(!is_slice(Syntax::Hevc, &[0, 0, 1, 33 << 1, 1, 9]));
        assert!(is_key(Syntax::Mpeg2, &[0, 0, 1, 0, 0, 1 << 3, 9]));
        assert!(!is_key(Syntax::Mpeg2, &[0, 0, 1, 0, 0, 2 << 3, 9]));
        assert!(is_slice(Syntax::Mpeg2, &[0, 0, 1, 0xAF, 9]));
    }
}
