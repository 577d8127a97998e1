#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Fields, most significant bit first, as bytes; the last byte is filled with zeros.
fn packed(fields: &[(u64, u32)]) -> Vec<u8> {
    let bits: Vec<bool> = fields
        .iter()
        .flat_map(|&(value, width)| (0..width).rev().map(move |bit| value >> bit & 1 == 1))
        .collect();
    let byte = |bits: &[bool]| {
        let shifted = |(at, bit): (usize, &bool)| u8::from(*bit) << (7 - at);
        bits.iter().enumerate().map(shifted).sum()
    };
    bits.chunks(8).map(byte).collect()
}

/// A section with right length and CRC.
fn section(adjustment: u64, (kind, command): (u8, Vec<u8>), length: u64, loops: &[u8]) -> Vec<u8> {
    let mut body = packed(&[
        (0, 8),
        (0, 7),
        (adjustment, 33),
        (0, 8),
        (0xFFF, 12),
        (length, 12),
        (u64::from(kind), 8),
    ]);
    body.extend(command);
    body.extend((loops.len() as u16).to_be_bytes());
    body.extend(loops);
    let mut bytes = vec![TABLE_ID];
    bytes.extend((0x3000 | (body.len() + 4) as u16).to_be_bytes());
    bytes.extend(body);
    sealed(bytes)
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32(&bytes);
    bytes.extend(crc.to_be_bytes());
    bytes
}

fn insert_out(pts: u64, planned: u64) -> (u8, Vec<u8>) {
    let fields = [
        (0x4800_008F, 32),
        (0x7F, 8),
        (0b1110_1111, 8), // out, whole programme, with duration, not at once
        (0x7F, 7),        // time told, reserved
        (pts, 33),
        (0x7F, 7),
        (planned, 33),
        (0, 32),
    ];
    (SPLICE_INSERT, packed(&fields))
}

fn signal(pts: u64) -> (u8, Vec<u8>) {
    (TIME_SIGNAL, packed(&[(0x7F, 7), (pts, 33)]))
}

fn descriptor(event: u64, kind: u64, duration: Option<u64>) -> Vec<u8> {
    let mut fields = vec![
        (u64::from(CUEI), 32),
        (event, 32),
        (0x7F, 8),
        (1, 1),
        (u64::from(duration.is_some()), 1),
        (0x3F, 6),
    ];
    fields.extend(duration.map(|ticks| (ticks, 40)));
    fields.extend([
        (0x08, 8),
        (8, 8),
        (0x2CA0_A18A, 64),
        (kind, 8),
        (2, 8),
        (0, 8),
    ]);
    let content = packed(&fields);
    let mut bytes = vec![SEGMENTATION, content.len() as u8];
    bytes.extend(content);
    bytes
}

fn mark(edge: BreakEdge, pts: Option<u64>, planned_secs: Option<u64>, event: u32) -> SpliceMark {
    SpliceMark {
        edge,
        pts_90khz: pts,
        planned: planned_secs.map(Duration::from_secs),
        event_id: Some(event),
    }
}

#[test]
fn an_insert_tells_when_and_how_long() {
    for told in [20, 0xFFF] {
        let bytes = section(0, insert_out(900_000, 60 * 90_000), told, &[]);
        let expected = mark(BreakEdge::Start, Some(900_000), Some(60), 0x4800_008F);
        assert_eq!(parse(&bytes), Ok(vec![expected]), "{told}");
    }
}

/// The two messages that the standard prints with their meaning (chapter 14).
#[test]
fn the_standards_own_samples_read_as_it_says() {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    };
    let time_signal = bytes(
        "fc3034000000000000fffff00506fe72bd0050001e021c435545494800008e7fcf0001a599b00808000000002ca0a18a3402009ac9d17e",
    );
    let opportunity = SpliceMark {
        edge: BreakEdge::Start,
        pts_90khz: Some(0x0_72BD_0050),
        planned: Some(span(0x01A5_99B0)),
        event_id: Some(0x4800_008E),
    };
    assert_eq!(parse(&time_signal), Ok(vec![opportunity]));
    let insert = bytes(
        "fc302f000000000000fffff014054800008f7feffe7369c02efe0052ccf500000000000a0008435545490000013562dba30a",
    );
    let avail = SpliceMark {
        edge: BreakEdge::Start,
        pts_90khz: Some(0x0_7369_C02E),
        planned: Some(span(0x0052_CCF5)),
        event_id: Some(0x4800_008F),
    };
    assert_eq!(parse(&insert), Ok(vec![avail]));
}

#[test]
fn the_adjustment_is_added_modulo_33_bits() {
    let bytes = section(200, insert_out(PTS_MASK - 99, 90_000), 20, &[]);
    let marks = parse(&bytes).unwrap();
    assert_eq!(marks[0].pts_90khz, Some(100));
}

#[test]
fn an_insert_at_once_tells_no_time_and_a_cancelled_one_nothing() {
    let at_once = packed(&[(7, 32), (0x7F, 8), (0b0101_1111, 8), (0, 32)]);
    let bytes = section(
        5,
        (SPLICE_INSERT, at_once.clone()),
        at_once.len() as u64,
        &[],
    );
    assert_eq!(parse(&bytes), Ok(vec![mark(BreakEdge::End, None, None, 7)]));
    let cancelled = packed(&[(7, 32), (0xFF, 8)]);
    let bytes = section(0, (SPLICE_INSERT, cancelled), 5, &[]);
    assert_eq!(parse(&bytes), Ok(Vec::new()));
}

#[test]
fn a_time_signal_means_what_its_descriptors_say() {
    let loops = [
        vec![0x01, 4, 0, 0, 0, 0],
        descriptor(1, 0x34, Some(30 * 90_000)),
        descriptor(2, 0x10, None),
        descriptor(3, 0x31, None),
    ]
    .concat();
    for told in [5, 0xFFF] {
        let bytes = section(0, signal(450_000), told, &loops);
        let expected = vec![
            mark(BreakEdge::Start, Some(450_000), Some(30), 1),
            mark(BreakEdge::End, Some(450_000), None, 3),
        ];
        assert_eq!(parse(&bytes), Ok(expected), "{told}");
    }
}

#[test]
fn other_commands_give_no_mark() {
    for kind in [0x00, 0x04, 0x07, 0xFF] {
        for told in [0, 0xFFF] {
            assert_eq!(
                parse(&section(0, (kind, vec![]), told, &[])),
                Ok(Vec::new())
            );
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let good = section(0, insert_out(1, 1), 20, &[]);
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    assert_eq!(parse(&flipped), Err(SpliceError::Crc));
    assert_eq!(parse(&good[..good.len() - 1]), Err(SpliceError::Short));
    assert_eq!(parse(&[]), Err(SpliceError::NotSplice));
    assert_eq!(parse(&[0x00, 0xB0, 0x0D]), Err(SpliceError::NotSplice));
    let again = |at: usize, bit: u8| {
        let mut bytes = good[..good.len() - 4].to_vec();
        bytes[at] |= bit;
        parse(&sealed(bytes))
    };
    assert_eq!(again(3, 1), Err(SpliceError::NotSplice));
    assert_eq!(again(4, 0x80), Err(SpliceError::Encrypted));
}

#[test]
fn a_command_that_ends_early_is_short() {
    let (kind, command) = insert_out(1, 1);
    let bytes = section(0, (kind, command[..9].to_vec()), 9, &[]);
    assert_eq!(parse(&bytes), Err(SpliceError::Short));
}

proptest! {
    /// Behind a right CRC anything may stand.
    #[test]
    fn nothing_breaks_it(body in prop::collection::vec(any::<u8>(), 0..64), kind in 0u8..8) {
        let bytes = section(0, (kind, body.clone()), 0xFFF, &body);
        if let Ok(marks) = parse(&bytes) {
            for mark in marks {
                prop_assert!(mark.pts_90khz.is_none_or(|pts| pts <= PTS_MASK));
            }
        }
    }
}
