//! Opus in MPEG-TS: packets behind control headers (`opus_control_header` of the registration "Opus").

use std::ops::Range;

/// An Opus packet inside a PES payload and the time it begins, in nanoseconds after the PES.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) bytes: Range<usize>,
    pub(super) after_nanos: i64,
}

/// Finds the packets of a PES payload; stops at the first flaw.
pub(super) fn units(data: &[u8]) -> Vec<Unit> {
    let (mut found, mut at, mut after_nanos) = (Vec::new(), 0, 0);
    while let Some((start, size)) = header(data.get(at..).unwrap_or_default()) {
        let start = at + start;
        let end = start.saturating_add(size).min(data.len());
        if start < end {
            let length = length_nanos(&data[start..end]);
            found.push(Unit {
                bytes: start..end,
                after_nanos,
            });
            after_nanos += length;
        }
        at = end;
    }
    found
}

/// Length of the control header, and of the packet behind it.
fn header(data: &[u8]) -> Option<(usize, usize)> {
    let (&first, &flags) = (data.first()?, data.get(1)?);
    if first != 0x7f || flags & 0xe0 != 0xe0 {
        return None;
    }
    let (mut at, mut size) = (2, 0_usize);
    loop {
        let byte = *data.get(at)?;
        at += 1;
        size += usize::from(byte);
        if byte != 0xff {
            break;
        }
    }
    // Trim at the start, trim at the end, extension.
    at += if flags & 0x10 != 0 { 2 } else { 0 };
    at += if flags & 0x08 != 0 { 2 } else { 0 };
    if flags & 0x04 != 0 {
        at += 1 + usize::from(*data.get(at)?);
    }
    Some((at, size))
}

/// Length of a packet by its first bytes (RFC 6716, 3.1 and 3.2).
fn length_nanos(packet: &[u8]) -> i64 {
    let Some(&toc) = packet.first() else {
        return 0;
    };
    let frame_micros = match toc >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config & 3)],
        config @ 12..=15 => [10_000, 20_000][usize::from(config & 1)],
        config => [2_500, 5_000, 10_000, 20_000][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => i64::from(packet.get(1).copied().unwrap_or(0) & 63),
    };
    frame_micros * frames * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_behind_their_headers() {
        // 20 ms CELT, one frame; the second with both trims and an extension of two bytes.
        let mut data = vec![0x7f, 0xe0, 3, 0xf8, 1, 2];
        data.extend_from_slice(&[0x7f, 0xfc, 0xff, 1, 0, 0, 0, 0, 2, 9, 9]);
        data.extend_from_slice(&[0xf8; 256]);
        let found = units(&data);
        let starts = found
            .iter()
            .map(|u| (u.bytes.clone(), u.after_nanos))
            .collect::<Vec<_>>();
        assert_eq!(starts, [(3..6, 0), (17..273, 20_000_000)]);
    }

    #[test]
    fn any_cut_and_any_noise_is_survived() {
        let mut data = vec![0x7f, 0xfc, 0xff, 0xff, 7, 0, 0, 0, 0, 1, 9];
        data.extend_from_slice(&[0x7f; 600]);
        for cut in 0..data.len() {
            assert!(units(&data[..cut]).iter().all(|u| u.bytes.end <= cut));
        }
    }
}
