//! Progressive MP4 (ISO/IEC 14496-12) laid out anew as fragments, so that what decrypts and demultiplexes fragments
//! serves whole files too. Nothing but the index is held; samples are read when their fragment is built.

use std::ops::Range;

use super::boxes::{Found, all, boxes, one, track_id, u32_at, u64_at};

/// Samples of a file: at 48 bytes each, 100 MB.
const SAMPLES_MAX: usize = 2 << 20;
const TRACKS_MAX: usize = 32;
/// A fragment ends behind this many bytes of samples, or this many samples.
const FRAGMENT_BYTES: u64 = 1 << 20;
const FRAGMENT_SAMPLES: usize = 256;
/// Largest sample believed.
const SAMPLE_BYTES_MAX: u32 = 64 << 20;

/// Why an index is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mp4Error {
    /// Tables contradict each other, or are not there.
    #[error("the index of the file makes no sense")]
    Malformed,
    /// More samples than are believed.
    #[error("the file has more than {SAMPLES_MAX} samples")]
    TooLong,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    track: usize,
    offset: u64,
    size: u32,
    at: u64,
    duration: u32,
    ahead: i32,
    clean: bool,
    /// Sample entry, counted from 1.
    description: u32,
    /// Sample group of encryption; 0: none.
    group: u32,
    /// What decrypting it takes: place and length in the file.
    aux: (u64, usize),
}

/// The index of a file.
#[derive(Debug)]
pub struct Index {
    init: Vec<u8>,
    /// Track ids.
    tracks: Vec<u32>,
    /// In the order of the file.
    samples: Vec<Sample>,
}

impl Index {
    /// Reads a whole `moov` box. `None`: it has no samples, so that the file is fragmented already.
    pub fn read(moov: &[u8]) -> Result<Option<Self>, Mp4Error> {
        let Found {
            name,
            payload: body,
            ..
        } = boxes(moov, 0..moov.len())
            .next()
            .ok_or(Mp4Error::Malformed)?;
        if &name != b"moov" {
            return Err(Mp4Error::Malformed);
        }
        let (mut tracks, mut samples) = (Vec::new(), Vec::new());
        for Found {
            name,
            payload: trak,
            ..
        } in boxes(moov, body.clone())
        {
            if &name == b"trak" && tracks.len() < TRACKS_MAX {
                let id = moov
                    .get(trak.clone())
                    .and_then(track_id)
                    .ok_or(Mp4Error::Malformed)?;
                let stbl = one(moov, trak.clone(), &[b"mdia", b"minf", b"stbl"]);
                let stbl = stbl.ok_or(Mp4Error::Malformed)?;
                read_track(moov, &stbl, &trak, tracks.len(), &mut samples)?;
                tracks.push(id);
            }
        }
        if samples.is_empty() {
            return Ok(None);
        }
        samples.sort_by_key(|s| s.offset);
        let init = without_samples(moov, &body, &tracks).ok_or(Mp4Error::Malformed)?;
        Ok(Some(Self {
            init,
            tracks,
            samples,
        }))
    }

    /// An initialisation segment: the `moov` without samples.
    pub fn init(&self) -> &[u8] {
        &self.init
    }

    /// Samples of each fragment, in order.
    pub fn pieces(&self) -> impl Iterator<Item = Range<usize>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = self.samples.get(from)?;
            let mut bytes = 0;
            let more = self.samples[from..].iter().take_while(|s| {
                let fits = bytes < FRAGMENT_BYTES && s.description == first.description;
                bytes += u64::from(s.size);
                fits
            });
            let count = more.take(FRAGMENT_SAMPLES).count().max(1);
            from += count;
            Some(from - count..from)
        })
    }

    /// Builds the fragment of a piece; `read` gets bytes of the file by place and length.
    pub fn fragment<E>(
        &self,
        piece: Range<usize>,
        mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let samples = self.samples.get(piece).unwrap_or_default();
        let of = |track| samples.iter().filter(move |s| s.track == track);
        // Auxiliary data first, then samples, each track in one run.
        let mut data = Vec::new();
        let mut places = Vec::new();
        for track in 0..self.tracks.len() {
            let aux_at = data.len();
            for sample in of(track).filter(|s| s.aux.1 > 0) {
                data.extend(read(sample.aux.0, sample.aux.1)?);
            }
            let samples_at = data.len();
            for sample in of(track) {
                data.extend(read(sample.offset, sample.size as usize)?);
            }
            places.push((aux_at, samples_at));
        }
        let moof = |size: usize| {
            let trafs = self.tracks.iter().enumerate().map(|(track, id)| {
                let own: Vec<_> = of(track).collect();
                let (aux_at, samples_at) = places.get(track).copied().unwrap_or_default();
                traf(*id, &own, size + 8 + aux_at, size + 8 + samples_at)
            });
            let mut inside = boxed(b"mfhd", &[&[0; 8]]);
            trafs.for_each(|traf| inside.extend(traf));
            boxed(b"moof", &[&inside])
        };
        let mut fragment = moof(moof(0).len());
        fragment.extend(boxed(b"mdat", &[&data]));
        Ok(fragment)
    }
}

fn traf(id: u32, samples: &[&Sample], aux_at: usize, samples_at: usize) -> Vec<u8> {
    let Some(first) = samples.first() else {
        return Vec::new();
    };
    // Offsets count from the `moof`; the sample entry is told.
    let tfhd = boxed(
        b"tfhd",
        &[
            &[0, 2, 0, 2],
            &id.to_be_bytes(),
            &first.description.to_be_bytes(),
        ],
    );
    let tfdt = boxed(b"tfdt", &[&[1, 0, 0, 0], &first.at.to_be_bytes()]);
    let count = (samples.len() as u32).to_be_bytes();
    let mut run = vec![1, 0, 0x0f, 1];
    run.extend(count);
    run.extend((samples_at as u32).to_be_bytes());
    for sample in samples {
        let flags: u32 = if sample.clean {
            0x0200_0000
        } else {
            0x0101_0000
        };
        for word in [sample.duration, sample.size, flags] {
            run.extend(word.to_be_bytes());
        }
        run.extend(sample.ahead.to_be_bytes());
    }
    let mut inside = [tfhd, tfdt, boxed(b"trun", &[&run])].concat();
    if samples.iter().any(|s| s.aux.1 > 0) {
        let sizes: Vec<u8> = samples.iter().map(|s| s.aux.1 as u8).collect();
        inside.extend(boxed(b"saiz", &[&[0; 5], &count, &sizes]));
        let at = (aux_at as u32).to_be_bytes();
        inside.extend(boxed(b"saio", &[&[0, 0, 0, 0, 0, 0, 0, 1], &at]));
    }
    if samples.iter().any(|s| s.group > 0) {
        let mut groups = [&[0; 4][..], b"seig", &count].concat();
        for sample in samples {
            groups.extend([1_u32.to_be_bytes(), sample.group.to_be_bytes()].concat());
        }
        inside.extend(boxed(b"sbgp", &[&groups]));
    }
    boxed(b"traf", &[&inside])
}

/// Reads the tables of one track.
fn read_track(
    moov: &[u8],
    stbl: &Range<usize>,
    trak: &Range<usize>,
    track: usize,
    samples: &mut Vec<Sample>,
) -> Result<(), Mp4Error> {
    let table = |name: &[u8; 4]| one(moov, stbl.clone(), &[name]);
    let (Some(sizes), Some(chunks)) = (Sizes::read(moov, stbl), Chunks::read(moov, stbl)) else {
        return Ok(());
    };
    if sizes.count > SAMPLES_MAX.saturating_sub(samples.len()) {
        return Err(Mp4Error::TooLong);
    }
    let mut times = Runs::read(moov, table(b"stts"), 8);
    let mut aheads = Runs::read(moov, table(b"ctts"), 8);
    let mut groups = Runs::of_groups(moov, stbl);
    let clean = table(b"stss").map(|b| entries(moov, b.start + 4, 4).collect::<Vec<_>>());
    let mut clean = clean.map(|places| {
        let numbers = places.into_iter().filter_map(|at| u32_at(moov, at));
        numbers.peekable()
    });
    let mut aux = Aux::read(moov, stbl, trak);
    let mut number = 0;
    let mut at = 0_u64;
    for chunk in 0..chunks.count {
        let (mut offset, in_chunk, description) =
            chunks.at(moov, chunk).ok_or(Mp4Error::Malformed)?;
        for of_chunk in 0..in_chunk {
            if number >= sizes.count {
                return Ok(());
            }
            let size = sizes.at(moov, number).ok_or(Mp4Error::Malformed)?;
            if size > SAMPLE_BYTES_MAX {
                return Err(Mp4Error::Malformed);
            }
            let duration = times.next(moov).unwrap_or(0);
            let is_clean = match &mut clean {
                None => true,
                Some(numbers) => {
                    while numbers.peek().is_some_and(|n| (*n as usize) < number + 1) {
                        numbers.next();
                    }
                    numbers.peek().is_some_and(|n| *n as usize == number + 1)
                }
            };
            samples.push(Sample {
                track,
                offset,
                size,
                at,
                duration,
                ahead: aheads.next(moov).unwrap_or(0).cast_signed(),
                clean: is_clean,
                description,
                group: groups.next(moov).unwrap_or(0),
                aux: aux
                    .next(moov, number, (chunk, of_chunk))
                    .unwrap_or_default(),
            });
            at = at.saturating_add(u64::from(duration));
            offset = offset.saturating_add(u64::from(size));
            number += 1;
        }
    }
    Ok(())
}

/// `stsz`.
struct Sizes {
    count: usize,
    all: u32,
    table: usize,
}

impl Sizes {
    fn read(moov: &[u8], stbl: &Range<usize>) -> Option<Self> {
        let stsz = one(moov, stbl.clone(), &[b"stsz"])?;
        Some(Self {
            count: u32_at(moov, stsz.start + 8)? as usize,
            all: u32_at(moov, stsz.start + 4)?,
            table: stsz.start + 12,
        })
    }

    fn at(&self, moov: &[u8], number: usize) -> Option<u32> {
        match self.all {
            0 => u32_at(moov, self.table + 4 * number),
            all => Some(all),
        }
    }
}

/// `stsc` with `stco` or `co64`.
struct Chunks {
    count: usize,
    table: usize,
    wide: bool,
    /// First chunk (from 0), samples in each, sample entry.
    runs: Vec<(usize, usize, u32)>,
}

impl Chunks {
    fn read(moov: &[u8], stbl: &Range<usize>) -> Option<Self> {
        let narrow = one(moov, stbl.clone(), &[b"stco"]);
        let wide = narrow.is_none();
        let offsets = narrow.or_else(|| one(moov, stbl.clone(), &[b"co64"]))?;
        let stsc = one(moov, stbl.clone(), &[b"stsc"])?;
        let runs = entries(moov, stsc.start + 4, 12).filter_map(|at| {
            let word = |n: usize| u32_at(moov, at + 4 * n);
            Some((
                (word(0)? as usize).checked_sub(1)?,
                word(1)? as usize,
                word(2)?,
            ))
        });
        Some(Self {
            count: entries(moov, offsets.start + 4, if wide { 8 } else { 4 }).count(),
            table: offsets.start + 8,
            wide,
            runs: runs.collect(),
        })
    }

    fn at(&self, moov: &[u8], chunk: usize) -> Option<(u64, usize, u32)> {
        let run = self.runs.partition_point(|run| run.0 <= chunk);
        let (_, samples, description) = self.runs.get(run.checked_sub(1)?)?;
        let offset = match self.wide {
            true => u64_at(moov, self.table + 8 * chunk)?,
            false => u64::from(u32_at(moov, self.table + 4 * chunk)?),
        };
        Some((offset, *samples, *description))
    }
}

/// A table of (samples, value).
struct Runs {
    at: Vec<usize>,
    next: usize,
    left: u32,
    value: u32,
}

impl Runs {
    fn read(moov: &[u8], table: Option<Range<usize>>, size: usize) -> Self {
        let at = table.map(|table| entries(moov, table.start + 4, size).collect());
        Self {
            at: at.unwrap_or_default(),
            next: 0,
            left: 0,
            value: 0,
        }
    }

    fn of_groups(moov: &[u8], stbl: &Range<usize>) -> Self {
        let seig = |b: &Range<usize>| moov.get(b.start + 4..b.start + 8) == Some(b"seig");
        let mut found = all(moov, stbl.clone(), &[b"sbgp"]).into_iter().filter(seig);
        let from = found.next().map(|b| {
            let wide = moov.get(b.start) == Some(&1);
            b.start + if wide { 8 } else { 4 }..b.end
        });
        Self::read(moov, from, 8)
    }

    fn next(&mut self, moov: &[u8]) -> Option<u32> {
        while self.left == 0 {
            let at = *self.at.get(self.next)?;
            self.next += 1;
            (self.left, self.value) = (u32_at(moov, at)?, u32_at(moov, at + 4)?);
        }
        self.left -= 1;
        Some(self.value)
    }
}

/// `saiz` and `saio`: where the auxiliary data of each sample is.
struct Aux {
    all: usize,
    sizes: usize,
    count: usize,
    /// One place, or one for each chunk.
    places: Vec<u64>,
    at: u64,
}

impl Aux {
    fn read(moov: &[u8], stbl: &Range<usize>, trak: &Range<usize>) -> Self {
        let found = || {
            let of = |name: &'static [u8; 4]| {
                let in_trak = || one(moov, trak.clone(), &[name]);
                one(moov, stbl.clone(), &[name]).or_else(in_trak)
            };
            let (saiz, saio) = (of(b"saiz")?, of(b"saio")?);
            let typed = |b: &Range<usize>| {
                Some(match moov.get(b.start + 3)? & 1 {
                    0 => b.start + 4,
                    _ => b.start + 12,
                })
            };
            let (sizes, places) = (typed(&saiz)?, typed(&saio)?);
            let wide = *moov.get(saio.start)? != 0;
            let step = if wide { 8 } else { 4 };
            let places = entries(moov, places, step).filter_map(|at| match wide {
                true => u64_at(moov, at),
                false => u32_at(moov, at).map(u64::from),
            });
            Some(Self {
                all: usize::from(*moov.get(sizes)?),
                count: u32_at(moov, sizes + 1)? as usize,
                sizes: sizes + 5,
                places: places.collect(),
                at: 0,
            })
        };
        found().unwrap_or(Self {
            all: 0,
            sizes: 0,
            count: 0,
            places: Vec::new(),
            at: 0,
        })
    }

    /// Of the next sample, which is one of a chunk.
    fn next(
        &mut self,
        moov: &[u8],
        number: usize,
        (chunk, of_chunk): (usize, usize),
    ) -> Option<(u64, usize)> {
        if number >= self.count {
            return None;
        }
        let begins = number == 0 || (of_chunk == 0 && self.places.len() > 1);
        if begins {
            self.at = *self.places.get(if number == 0 { 0 } else { chunk })?;
        }
        let size = match self.all {
            0 => usize::from(*moov.get(self.sizes + number)?),
            all => all,
        };
        self.at += size as u64;
        Some((self.at - size as u64, size))
    }
}

/// The same `moov` with empty tables, made for fragments.
fn without_samples(moov: &[u8], body: &Range<usize>, tracks: &[u32]) -> Option<Vec<u8>> {
    let mut inside = moov.get(body.clone())?.to_vec();
    // A duration would cut off what lies behind it by a rounding.
    let mut endless = |at: Option<Range<usize>>, narrow: usize, wide: usize| {
        let at = at?;
        let field = match *moov.get(at.start)? {
            1 => at.start + wide..at.start + wide + 8,
            _ => at.start + narrow..at.start + narrow + 4,
        };
        let field = field.start.checked_sub(body.start)?..field.end.checked_sub(body.start)?;
        inside.get_mut(field)?.fill(0);
        Some(())
    };
    endless(one(moov, body.clone(), &[b"mvhd"]), 16, 24);
    for trak in all(moov, body.clone(), &[b"trak"]) {
        endless(one(moov, trak.clone(), &[b"tkhd"]), 20, 28);
        endless(one(moov, trak.clone(), &[b"mdia", b"mdhd"]), 16, 24);
        let edits = one(moov, trak, &[b"edts", b"elst"]);
        let last = edits.as_ref().and_then(|b| u32_at(moov, b.start + 4));
        if let Some(before) = last.and_then(|count| (count as usize).checked_sub(1))
            && before < 16
        {
            endless(edits, 8 + before * 12, 8 + before * 20);
        }
    }
    for Found {
        name,
        payload: trak,
        ..
    } in boxes(moov, body.clone())
    {
        if &name != b"trak" {
            continue;
        }
        let stbl = one(moov, trak, &[b"mdia", b"minf", b"stbl"])?;
        for Found {
            name,
            payload: table,
            ..
        } in boxes(moov, stbl)
        {
            let at = table.start.checked_sub(body.start)?;
            let zeros = match &name {
                b"stts" | b"ctts" | b"stsc" | b"stco" | b"co64" | b"stss" => at + 4..at + 8,
                b"stsz" => at + 4..at + 12,
                // The demultiplexer would look for what it describes.
                b"saiz" | b"saio" | b"sbgp" | b"sdtp" => {
                    inside.get_mut(at - 4..at)?.copy_from_slice(b"free");
                    continue;
                }
                _ => continue,
            };
            inside.get_mut(zeros)?.fill(0);
        }
    }
    let trex = tracks.iter().map(|id| {
        let words = [0, *id, 1, 0, 0, 0].map(u32::to_be_bytes);
        boxed(b"trex", &[&words.concat()])
    });
    inside.extend(boxed(b"mvex", &[&trex.collect::<Vec<_>>().concat()]));
    Some(boxed(b"moov", &[&inside]))
}

fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let size = u32::try_from(payload.len() + 8).unwrap_or(u32::MAX);
    [&size.to_be_bytes(), &name[..], &payload].concat()
}

/// Places of the entries of a table that begins with their number; as many as are there.
fn entries(data: &[u8], count_at: usize, size: usize) -> impl Iterator<Item = usize> + use<> {
    let told = u32_at(data, count_at).unwrap_or(0) as usize;
    let room = data.len().saturating_sub(count_at + 4) / size;
    (0..told.min(room)).map(move |n| count_at + 4 + n * size)
}

#[cfg(test)]
#[path = "mp4_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
