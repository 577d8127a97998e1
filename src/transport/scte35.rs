//! Splice information sections (ANSI/SCTE 35, 9.6): where a stream announces that its programme is left and goes on.

use std::time::Duration;

use detectors::base::BreakEdge;
use thiserror::Error;

use super::continuity::bits::Bits;
use super::ts::crc32;

const TABLE_ID: u8 = 0xFC;
/// Bytes before the splice command.
const HEAD: usize = 14;
/// `splice_command_length` of old encoders that do not tell it.
const LENGTH_UNTOLD: usize = 0xFFF;
const SPLICE_INSERT: u8 = 0x05;
const TIME_SIGNAL: u8 = 0x06;
const SEGMENTATION: u8 = 0x02;
const CUEI: u32 = u32::from_be_bytes(*b"CUEI");
/// Stamps count modulo 2^33 at 90 kHz.
const PTS_MASK: u64 = (1 << 33) - 1;
/// Marks told of one section.
const MARKS_MAX: usize = 16;

/// One end of a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpliceMark {
    /// Which end.
    pub edge: BreakEdge,
    /// Presentation time, 33 bit at 90 kHz, `pts_adjustment` added; `None` = at once.
    pub pts_90khz: Option<u64>,
    /// Announced length.
    pub planned: Option<Duration>,
    /// `splice_event_id` or `segmentation_event_id`.
    pub event_id: Option<u32>,
}

/// Why a section tells nothing. Always the sender's fault; the next section may be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpliceError {
    /// Another table, or another version of this one.
    #[error("no splice information section of version 0")]
    NotSplice,
    /// It ends before what it announces.
    #[error("the splice information section is cut short")]
    Short,
    /// Its CRC is wrong.
    #[error("the splice information section is damaged")]
    Crc,
    /// Its command is encrypted.
    #[error("the splice command is encrypted")]
    Encrypted,
}

/// Reads a whole section, from `table_id` to CRC. Commands and segmentation types that end or begin no break give no
/// mark.
///
/// # Errors
/// See [`SpliceError`].
pub fn parse(section: &[u8]) -> Result<Vec<SpliceMark>, SpliceError> {
    if section.first() != Some(&TABLE_ID) {
        return Err(SpliceError::NotSplice);
    }
    let &[_, a, b] = section.first_chunk::<3>().ok_or(SpliceError::Short)?;
    let length = usize::from(u16::from_be_bytes([a, b]) & 0x0FFF);
    let section = section.get(..3 + length).ok_or(SpliceError::Short)?;
    if crc32(section) != 0 {
        return Err(SpliceError::Crc);
    }
    let body = section.get(..section.len().saturating_sub(4));
    body.and_then(marks).ok_or(SpliceError::Short)?
}

/// The marks of a section without its CRC; `None` when it is too short.
fn marks(section: &[u8]) -> Option<Result<Vec<SpliceMark>, SpliceError>> {
    let (head, rest) = section.split_at_checked(HEAD)?;
    let mut bits = Bits::new(head.get(3..)?);
    if bits.u(8)? != 0 {
        return Some(Err(SpliceError::NotSplice));
    }
    if bits.flag()? {
        return Some(Err(SpliceError::Encrypted));
    }
    bits.skip(6)?;
    let adjustment = number(&mut bits, 33)?;
    bits.skip(8 + 12)?;
    let length = bits.u(12)? as usize;
    let kind = bits.u(8)? as u8;
    let mut command = Bits::new(match length {
        LENGTH_UNTOLD => rest,
        told => rest.get(..told)?,
    });
    let mut found = Vec::new();
    let mut time = None;
    match kind {
        SPLICE_INSERT => found.extend(insert(&mut command)?),
        TIME_SIGNAL => time = splice_time(&mut command)?,
        _ => {}
    }
    let parsed = command.position().div_ceil(8);
    let length = match (length, kind) {
        (LENGTH_UNTOLD, SPLICE_INSERT | TIME_SIGNAL) => parsed,
        // Nothing else is looked into: where its descriptors begin is not known.
        (LENGTH_UNTOLD, _) => return Some(Ok(found)),
        (told, _) => told,
    };
    if kind == TIME_SIGNAL {
        found.extend(segmentations(rest.get(length..)?, time)?);
    }
    for mark in &mut found {
        mark.pts_90khz = mark.pts_90khz.map(|pts| (pts + adjustment) & PTS_MASK);
    }
    Some(Ok(found))
}

/// `splice_insert()` (9.7.3). The inner `None` is a cancelled event.
fn insert(bits: &mut Bits<'_>) -> Option<Option<SpliceMark>> {
    let event_id = bits.u(32)?;
    let cancelled = bits.flag()?;
    bits.skip(7)?;
    if cancelled {
        return Some(None);
    }
    let leaves = bits.flag()?;
    let whole = bits.flag()?;
    let timed = bits.flag()?;
    let at_once = bits.flag()?;
    bits.skip(4)?;
    let mut pts = None;
    if whole {
        if !at_once {
            pts = splice_time(bits)?;
        }
    } else {
        for _ in 0..bits.u(8)? {
            bits.skip(8)?;
            if !at_once {
                pts = pts.or(splice_time(bits)?);
            }
        }
    }
    let mut planned = None;
    if timed {
        bits.skip(7)?;
        planned = Some(span(number(bits, 33)?));
    }
    bits.skip(32)?;
    Some(Some(SpliceMark {
        edge: if leaves {
            BreakEdge::Start
        } else {
            BreakEdge::End
        },
        pts_90khz: pts,
        planned,
        event_id: Some(event_id),
    }))
}

/// `splice_time()` (9.8.1): the inner `None` is a time that is not told.
fn splice_time(bits: &mut Bits<'_>) -> Option<Option<u64>> {
    if !bits.flag()? {
        bits.skip(7)?;
        return Some(None);
    }
    bits.skip(6)?;
    number(bits, 33).map(Some)
}

/// The segmentation descriptors (10.3.3) of a descriptor loop.
fn segmentations(bytes: &[u8], pts: Option<u64>) -> Option<Vec<SpliceMark>> {
    let (&size, rest) = bytes.split_first_chunk::<2>()?;
    let mut rest = rest.get(..usize::from(u16::from_be_bytes(size)))?;
    let mut found = Vec::new();
    while let Some((&[tag, size], after)) = rest.split_first_chunk::<2>() {
        let (content, next) = after.split_at_checked(usize::from(size))?;
        rest = next;
        if tag == SEGMENTATION && found.len() < MARKS_MAX {
            found.extend(segmentation(&mut Bits::new(content), pts)?);
        }
    }
    Some(found)
}

fn segmentation(bits: &mut Bits<'_>, pts: Option<u64>) -> Option<Option<SpliceMark>> {
    if bits.u(32)? != CUEI {
        return Some(None);
    }
    let event_id = bits.u(32)?;
    let cancelled = bits.flag()?;
    bits.skip(7)?;
    if cancelled {
        return Some(None);
    }
    let whole = bits.flag()?;
    let timed = bits.flag()?;
    bits.skip(6)?;
    if !whole {
        let components = bits.u(8)? as usize;
        bits.skip(components * 48)?;
    }
    let mut planned = None;
    if timed {
        planned = Some(span(number(bits, 40)?));
    }
    bits.skip(8)?;
    let upid_bytes = bits.u(8)? as usize;
    bits.skip(upid_bytes * 8)?;
    Some(edge(bits.u(8)? as u8).map(|edge| SpliceMark {
        edge,
        pts_90khz: pts,
        planned,
        event_id: Some(event_id),
    }))
}

/// Segmentation types during which viewers may see something else (table 23): breaks, advertisements, promos,
/// placement opportunities. Overlays leave the programme in the picture.
pub(super) fn edge(kind: u8) -> Option<BreakEdge> {
    match kind {
        0x22 | 0x30 | 0x32 | 0x34 | 0x36 | 0x3C | 0x3E | 0x44 | 0x46 => Some(BreakEdge::Start),
        0x23 | 0x31 | 0x33 | 0x35 | 0x37 | 0x3D | 0x3F | 0x45 | 0x47 => Some(BreakEdge::End),
        _ => None,
    }
}

/// A number of 32 bits or more.
fn number(bits: &mut Bits<'_>, count: u32) -> Option<u64> {
    let high = u64::from(bits.u(count - 32)?);
    Some(high << 32 | u64::from(bits.u(32)?))
}

fn span(ticks_90khz: u64) -> Duration {
    Duration::from_micros(ticks_90khz.saturating_mul(100) / 9)
}

#[cfg(test)]
#[path = "scte35_tests.rs"]
mod tests;
