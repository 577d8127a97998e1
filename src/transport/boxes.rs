//! Boxes of MP4 (ISO/IEC 14496-12, 4.2), found where they lie.

use std::ops::Range;

/// The header of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its four letters.
    pub name: [u8; 4],
    /// Bytes of the header itself.
    pub length: usize,
    /// Bytes of the whole box; `None`: it reaches to the end of what holds it.
    pub size: Option<u64>,
}

/// The header of the box at the front; `None` when more is needed to tell, or when its size makes no sense.
pub fn header(bytes: &[u8]) -> Option<Header> {
    let name = letters(bytes, 4)?;
    let (length, size) = match u32_at(bytes, 0)? {
        0 => (8, None),
        1 => (16, Some(u64_at(bytes, 8)?)),
        size => (8, Some(u64::from(size))),
    };
    size.is_none_or(|size| size >= length as u64)
        .then_some(Header { name, length, size })
}

/// A box within bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its four letters.
    pub name: [u8; 4],
    /// Where its header begins.
    pub at: usize,
    /// What it holds.
    pub payload: Range<usize>,
}

/// The boxes in a range, up to the first that is not whole.
pub fn boxes(data: &[u8], within: Range<usize>) -> impl Iterator<Item = Found> {
    let mut at = within.start;
    std::iter::from_fn(move || {
        let rest = data.get(at..within.end)?;
        let Header { name, length, size } = header(rest)?;
        let size = size.map_or(Some(rest.len()), |size| usize::try_from(size).ok());
        let end = at.checked_add(size?).filter(|end| *end <= within.end)?;
        let found = Found {
            name,
            at,
            payload: at + length..end,
        };
        at = end;
        Some(found)
    })
}

/// Payloads of all boxes at a path.
pub fn all(data: &[u8], within: Range<usize>, path: &[&[u8; 4]]) -> Vec<Range<usize>> {
    let Some((name, rest)) = path.split_first() else {
        return vec![within];
    };
    boxes(data, within)
        .filter(|found| found.name == **name)
        .flat_map(|found| all(data, found.payload, rest))
        .collect()
}

/// Payload of the first box at a path: in each box on the way, the first of the wanted name.
pub fn one(data: &[u8], within: Range<usize>, path: &[&[u8; 4]]) -> Option<Range<usize>> {
    path.iter().try_fold(within, |within, name| {
        let found = boxes(data, within).find(|found| found.name == **name)?;
        Some(found.payload)
    })
}

/// The same of a whole payload, as its bytes.
pub fn inside<'a>(payload: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    payload.get(one(payload, 0..payload.len(), path)?)
}

/// The boxes of that name in a whole payload, as their bytes.
pub fn children<'a>(payload: &'a [u8], name: &'static [u8; 4]) -> impl Iterator<Item = &'a [u8]> {
    boxes(payload, 0..payload.len())
        .filter(move |found| found.name == *name)
        .filter_map(|found| payload.get(found.payload))
}

/// `track_ID` of the track header in a `trak` (8.3.2).
pub fn track_id(trak: &[u8]) -> Option<u32> {
    let header = inside(trak, &[b"tkhd"])?;
    u32_at(header, if *header.first()? == 1 { 20 } else { 12 })
}

/// Ticks of a track's samples where a fragment does not tell its own (`trex`, 8.8.3), from the payload of a `moov`; 0: it
/// is not told.
pub fn sample_ticks(moov: &[u8], track: u32) -> u32 {
    let extends = inside(moov, &[b"mvex"]).unwrap_or_default();
    children(extends, b"trex")
        .find(|trex| u32_at(trex, 4) == Some(track))
        .and_then(|trex| u32_at(trex, 12))
        .unwrap_or(0)
}

/// A track's part in a fragment, in ticks of the track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Whose.
    pub track_id: u32,
    /// Decode time of its first sample.
    pub start: u64,
    /// From there to the end of the last one.
    pub ticks: u64,
    /// Samples.
    pub samples: u64,
    /// From the decode time of the first sample to the earliest time at which any is presented.
    pub first_shown: i64,
}

/// What a `traf` tells (8.8.7, 8.8.8, 8.8.12); `None` without a track or a time. `ticks` gives what the initialisation
/// segment says of a track's samples.
pub fn run(traf: &[u8], ticks: impl Fn(u32) -> u32) -> Option<Run> {
    let header = inside(traf, &[b"tfhd"])?;
    let flags = u32_at(header, 0)?;
    let track_id = u32_at(header, 4)?;
    let at = 8 + 8 * usize::from(flags & 1 != 0) + 4 * usize::from(flags & 2 != 0);
    let own = u32_at(header, at).filter(|_| flags & 8 != 0);
    let sample = u64::from(own.unwrap_or_else(|| ticks(track_id)));
    let time = inside(traf, &[b"tfdt"])?;
    let start = match time.first()? {
        1 => u64_at(time, 4)?,
        _ => u64::from(u32_at(time, 4)?),
    };
    let (mut ticks, mut samples) = (0_u64, 0_u64);
    let mut first_shown: Option<i64> = None;
    for run in children(traf, b"trun") {
        let (Some(flags), Some(count)) = (u32_at(run, 0), u32_at(run, 4)) else {
            break;
        };
        samples = samples.saturating_add(u64::from(count));
        if flags & 0x900 == 0 {
            first_shown = first_shown.or(i64::try_from(ticks).ok());
            ticks = ticks.saturating_add(u64::from(count) * sample);
            continue;
        }
        let mut at = 8 + 4 * usize::from(flags & 1 != 0) + 4 * usize::from(flags & 4 != 0);
        let stride = 4 * (flags & 0xF00).count_ones() as usize;
        for _ in 0..count {
            // A run that is longer than its box ends there.
            let Some(own) = u32_at(run, at) else { break };
            let last = u32_at(run, at + stride - 4).filter(|_| flags & 0x800 != 0);
            // Offsets of version 0 are unsigned, and never so large that it matters.
            let shown = i64::from(last.unwrap_or(0) as i32).saturating_add_unsigned(ticks);
            first_shown = Some(first_shown.map_or(shown, |first| first.min(shown)));
            let own = if flags & 0x100 == 0 {
                sample
            } else {
                u64::from(own)
            };
            ticks = ticks.saturating_add(own);
            at += stride;
        }
    }
    Some(Run {
        track_id,
        start,
        ticks,
        samples,
        first_shown: first_shown.unwrap_or(0),
    })
}

/// The beginning of a track as its edit list (8.6.6) has it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Edit {
    /// Nothing is presented before this, seconds.
    pub begins_secs: f64,
    /// Ticks of the track's media that is presented then; what is before it is not presented, as the priming of an
    /// encoder.
    pub from_ticks: i64,
}

impl Edit {
    /// When what lies at these ticks of the media is presented, seconds. `hz`: ticks a second.
    pub fn presents_secs(&self, ticks: i64, hz: u32) -> f64 {
        let past = ticks.saturating_sub(self.from_ticks).max(0);
        self.begins_secs + past as f64 / f64::from(hz.max(1))
    }
}

/// The edit list of a track, from the payload of its `trak`; `movie_hz`: ticks of the movie a second. Lists that do more
/// than begin later or further in are read up to there.
pub fn edit(trak: &[u8], movie_hz: u32) -> Edit {
    let mut edit = Edit::default();
    let list = inside(trak, &[b"edts", b"elst"]).unwrap_or_default();
    let wide = list.first() == Some(&1);
    let count = u32_at(list, 4).unwrap_or(0).min(2) as usize;
    for at in (0..count).map(|n| 8 + n * if wide { 20 } else { 12 }) {
        let (span, media) = match wide {
            true => (u64_at(list, at), u64_at(list, at + 8).map(|t| t as i64)),
            false => (
                u32_at(list, at).map(u64::from),
                u32_at(list, at + 4).map(|t| i64::from(t as i32)),
            ),
        };
        match (span, media) {
            (Some(span), Some(-1)) => edit.begins_secs += span as f64 / f64::from(movie_hz.max(1)),
            (Some(_), Some(from)) => {
                edit.from_ticks = from;
                return edit;
            }
            _ => break,
        }
    }
    Edit::default()
}

/// Four letters.
pub fn letters(data: &[u8], at: usize) -> Option<[u8; 4]> {
    data.get(at..)?.first_chunk().copied()
}

/// A number of 16 bits.
pub fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_be_bytes)
}

/// A number of 32 bits.
pub fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    letters(data, at).map(u32::from_be_bytes)
}

/// A number of 64 bits.
pub fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    data.get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &[u8; 4], size: u32, content: &[u8]) -> Vec<u8> {
        [&size.to_be_bytes()[..], name, content].concat()
    }

    fn names(data: &[u8]) -> Vec<[u8; 4]> {
        boxes(data, 0..data.len()).map(|found| found.name).collect()
    }

    #[test]
    fn boxes_are_found_by_all_ways_to_tell_their_size() {
        let wide = [&made(b"wide", 1, &18u64.to_be_bytes())[..], b"ab"].concat();
        let open = made(b"open", 0, b"to the end");
        let data = [made(b"free", 8, b""), wide, open].concat();
        assert_eq!(names(&data), [*b"free", *b"wide", *b"open"]);
        assert_eq!(inside(&data, &[b"wide"]), Some(&b"ab"[..]));
        assert_eq!(inside(&data, &[b"open"]), Some(&b"to the end"[..]));
    }

    #[test]
    fn a_box_that_is_not_whole_or_makes_no_sense_ends_the_walk() {
        for bad in [
            made(b"long", 99, b"short"),
            made(b"tiny", 7, b"short"),
            made(b"wide", 1, &15u64.to_be_bytes()),
            made(b"huge", 1, &u64::MAX.to_be_bytes()),
            b"\0\0\0".to_vec(),
        ] {
            let data = [made(b"free", 8, b""), bad].concat();
            assert_eq!(names(&data), [*b"free"]);
        }
        // Not beyond the range either.
        let data = made(b"moov", 24, &made(b"trak", 17, b"reaches over"));
        assert!(all(&data, 0..data.len(), &[b"moov", b"trak"]).is_empty());
    }

    #[test]
    fn paths_lead_to_all_or_to_the_first() {
        let trak = |id: u8| {
            let tkhd = made(
                b"tkhd",
                24,
                &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, id],
            );
            made(b"trak", 32, &tkhd)
        };
        let data = made(b"moov", 72, &[trak(7), trak(9)].concat());
        assert_eq!(all(&data, 0..data.len(), &[b"moov", b"trak"]).len(), 2);
        let moov = inside(&data, &[b"moov"]).unwrap_or_default();
        let ids: Vec<_> = children(moov, b"trak").filter_map(track_id).collect();
        assert_eq!(ids, [7, 9]);
        assert_eq!(one(&data, 0..data.len(), &[b"moov", b"mvex"]), None);
    }
}
