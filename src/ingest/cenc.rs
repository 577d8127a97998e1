//! Common Encryption of fragmented MP4 (ISO/IEC 23001-7): samples are decrypted before they are demultiplexed.
//!
//! The initialisation segment is made to look clear (sample entries get their original names back), and every
//! fragment is decrypted in place, so that what follows never knows. Schemes: `cenc`, `cens` (counter mode), `cbc1`,
//! `cbcs` (block chaining), whole samples, subsamples and patterns, keys per track and per sample group.

use std::collections::HashMap;
use std::ops::Range;

use aes::Aes128;
use cbc::cipher::{Block, BlockModeDecrypt, KeyIvInit};
use ctr::Ctr64BE;
use ctr::cipher::StreamCipher;

use detectors::base::Kind;

use super::keys::{ContentKey, SampleKeys};
use super::sample_aes;
use crate::config::KeyId;
use crate::transport::boxes::{Found, all, boxes, letters, one, track_id, u16_at, u32_at};

const BLOCK: usize = 16;
/// Samples read from one track run: more than any segment under the size limit can hold.
const MAX_SAMPLES: usize = 1 << 20;
/// Encrypted bytes that a decoder cannot miss.
const TELLING: usize = 256;
/// Sample entries read from one track.
const MAX_ENTRIES: usize = 16;

/// Why a fragment stays encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CencError {
    /// It is not at hand.
    #[error("no key is at hand for a key id of the stream")]
    NoKey,
    /// What it decrypts is no sound.
    #[error("the key for a key id of the stream is wrong")]
    WrongKey,
    /// Boxes contradict each other, or reach beyond the fragment.
    #[error("the encryption boxes of a fragment make no sense")]
    Malformed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Counter,
    Chained,
}

/// How samples are protected unless a sample group says otherwise (`tenc`, or an entry of `seig`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Protection {
    protected: bool,
    key: KeyId,
    /// Bytes of each sample's own vector: 0, 8 or 16.
    iv_bytes: usize,
    /// For samples without one, if the boxes tell.
    constant_iv: Option<[u8; BLOCK]>,
    /// Encrypted and clear blocks in turn; (0, 0): all are encrypted.
    pattern: (usize, usize),
}

impl Protection {
    /// From the pattern byte on: the same layout in `tenc` (after its first byte) and `seig`.
    fn read(data: &[u8], has_pattern: bool) -> Option<Self> {
        let pattern = *data.first()?;
        let (protected, iv_bytes) = (*data.get(1)? == 1, usize::from(*data.get(2)?));
        let mut constant_iv = None;
        let size = data.get(19).map_or(0, |size| usize::from(*size));
        if protected && iv_bytes == 0 && size > 0 {
            let mut iv = [0; BLOCK];
            iv.get_mut(..size)?
                .copy_from_slice(data.get(20..20 + size)?);
            constant_iv = Some(iv);
        }
        let pattern = match has_pattern {
            true => (usize::from(pattern >> 4), usize::from(pattern & 15)),
            false => (0, 0),
        };
        matches!(iv_bytes, 0 | 8 | 16).then_some(Self {
            protected,
            key: data.get(3..19)?.try_into().ok()?,
            iv_bytes,
            constant_iv,
            pattern,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Scheme {
    mode: Mode,
    /// `cbcs` starts the chain anew with every subsample.
    restarts: bool,
    default: Protection,
    /// What samples are when they are decrypted.
    original: [u8; 4],
}

#[derive(Debug, Clone, Default)]
struct Track {
    /// By sample entry; `None`: one in the clear.
    entries: Vec<Option<Scheme>>,
    /// Sample groups of the whole track.
    groups: Vec<Protection>,
    /// Sample size and flags, where a fragment tells none (`trex`).
    size: Option<u32>,
    flags: Option<u32>,
}

/// What an initialisation segment says of encryption.
#[derive(Debug, Clone, Default)]
pub struct Cenc {
    tracks: HashMap<u32, Track>,
    unknown: Vec<u32>,
}

/// What became of a track's part of a fragment.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// Track.
    pub track_id: u32,
    /// The key that the first encrypted sample needed; `None`: all were in the clear. What could not be decrypted is
    /// hidden in the fragment.
    pub result: Result<Option<ContentKey>, CencError>,
    /// Bytes that were encrypted.
    pub decrypted: usize,
    /// Decoding may begin with the first sample.
    pub sync: bool,
}

impl Cenc {
    /// Reads an initialisation segment and makes it look clear. Tracks under unknown schemes stay as they are.
    pub fn open(init: &mut [u8]) -> Self {
        let mut cenc = Self::default();
        for trak in all(init, 0..init.len(), &[b"moov", b"trak"]) {
            let Some(id) = init.get(trak.clone()).and_then(track_id) else {
                continue;
            };
            let entries = Entry::find(init, trak.clone()).unwrap_or_default();
            if entries.iter().all(Option::is_none) {
                continue;
            }
            let known = |entry: &Option<Entry>| match entry {
                None => Ok(None),
                Some(entry) => entry.scheme(init).map(Some).ok_or(()),
            };
            let Ok(schemes) = entries.iter().map(known).collect() else {
                cenc.unknown.push(id);
                continue;
            };
            let stbl = one(init, trak, &[b"mdia", b"minf", b"stbl"]);
            let groups = stbl.and_then(|stbl| Groups::entries(init, &stbl));
            let trex = all(init, 0..init.len(), &[b"moov", b"mvex", b"trex"])
                .into_iter()
                .find(|trex| u32_at(init, trex.start + 4) == Some(id));
            let default = |at| trex.as_ref().and_then(|trex| u32_at(init, trex.start + at));
            let track = Track {
                entries: schemes,
                groups: groups.unwrap_or_default(),
                size: default(16),
                flags: default(20),
            };
            cenc.tracks.insert(id, track);
            for entry in entries.iter().flatten() {
                entry.clear(init);
            }
        }
        cenc
    }

    /// Whether nothing is encrypted, or nothing can be decrypted.
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Whether the track is encrypted by a scheme that is not known.
    pub fn is_unknown(&self, track_id: u32) -> bool {
        self.unknown.contains(&track_id)
    }

    /// Decrypts a fragment, `moof` and `mdat` together, in place, as far as keys are there.
    pub fn decrypt(
        &self,
        fragment: &mut [u8],
        keys: &SampleKeys,
    ) -> Result<Vec<Opened>, CencError> {
        let mut all_opened = Vec::new();
        for traf in all(fragment, 0..fragment.len(), &[b"moof", b"traf"]) {
            let mut tfhd = Header::read(fragment, &traf).ok_or(CencError::Malformed)?;
            let Some(track) = self.tracks.get(&tfhd.track_id) else {
                continue;
            };
            tfhd.default_size = tfhd.default_size.or(track.size);
            tfhd.default_flags = tfhd.default_flags.or(track.flags);
            let mut opened = Opened {
                track_id: tfhd.track_id,
                result: Ok(None),
                decrypted: 0,
                sync: tfhd.starts_clean(fragment, &traf),
            };
            let entry = tfhd.description.saturating_sub(1);
            let scheme = track.entries.get(entry).or(track.entries.first());
            if let Some(Some(scheme)) = scheme {
                opened.result = scheme.decrypt(
                    fragment,
                    &traf,
                    (&tfhd, &track.groups),
                    keys,
                    &mut opened.decrypted,
                );
            }
            if opened.result.is_err()
                && let Some(name) = fragment.get_mut(traf.start.saturating_sub(4)..traf.start)
                && name == b"traf"
            {
                // The demultiplexer passes it over.
                name.copy_from_slice(b"free");
            }
            all_opened.push(opened);
        }
        Ok(all_opened)
    }
}

impl Opened {
    /// Whether what decodes of it says something of the key: enough was encrypted, and, where the key has failed before,
    /// decoding may begin here.
    pub fn tells(&self, failed: bool) -> bool {
        self.decrypted >= TELLING && (self.sync || !failed)
    }
}

/// Ids of all keys that an initialisation segment or a fragment names.
pub fn key_ids(data: &[u8]) -> Vec<KeyId> {
    let mut ids = Vec::new();
    let mut groups = all(data, 0..data.len(), &[b"moof", b"traf"]);
    for trak in all(data, 0..data.len(), &[b"moov", b"trak"]) {
        groups.extend(one(data, trak.clone(), &[b"mdia", b"minf", b"stbl"]));
        let entries = Entry::find(data, trak).unwrap_or_default();
        let schemes = entries.iter().flatten().filter_map(|e| e.scheme(data));
        ids.extend(schemes.map(|s| s.default).filter(|p| p.protected));
    }
    let entries = groups.iter().filter_map(|g| Groups::entries(data, g));
    ids.extend(entries.flatten().filter(|p| p.protected));
    let mut ids: Vec<KeyId> = ids.into_iter().map(|p| p.key).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl Scheme {
    fn decrypt(
        &self,
        fragment: &mut [u8],
        traf: &Range<usize>,
        (tfhd, groups): (&Header, &[Protection]),
        keys: &SampleKeys,
        decrypted: &mut usize,
    ) -> Result<Option<ContentKey>, CencError> {
        let samples = tfhd.samples(fragment, traf).ok_or(CencError::Malformed)?;
        let groups = Groups::read(fragment, traf, groups);
        let guards = Guards::read(fragment, traf, &groups, self, samples.len())
            .ok_or(CencError::Malformed)?;
        let mut first = None;
        let mut checks = (0_u32, 0_u32);
        for (sample, guard) in samples.into_iter().zip(guards.0) {
            if !guard.by.protected {
                continue;
            }
            let key = keys.get(&guard.by.key).ok_or(CencError::NoKey)?;
            let iv = guard.iv.or(keys.named.as_ref().map(|named| named.iv));
            let iv = iv.ok_or(CencError::Malformed)?;
            let sample = fragment.get_mut(sample).ok_or(CencError::Malformed)?;
            *decrypted += guard.decrypt(sample, key.bytes(), &iv, self)?;
            if first.is_none() {
                first = Some(key.clone());
            }
            // These have check sums: a wrong key need not be tried on a decoder.
            if matches!(&self.original, b"ac-3" | b"ec-3") {
                match sample_aes::intact(sample) {
                    Some(true) => checks.0 += 1,
                    _ => checks.1 += 1,
                }
            }
        }
        match (&first, checks) {
            (Some(key), (0, 1..)) => {
                key.refute();
                return Err(CencError::WrongKey);
            }
            (Some(key), (1.., _)) => key.prove(Kind::Audio),
            _ => {}
        }
        Ok(first)
    }
}

/// An encrypted sample entry inside a `trak`.
struct Entry {
    /// Place of its four letters.
    name: usize,
    /// Place of the letters of its `sinf`.
    sinf_name: usize,
    original: [u8; 4],
    scheme: [u8; 4],
    tenc: Range<usize>,
}

impl Entry {
    /// All sample entries of a track; `None` for those in the clear.
    fn find(init: &[u8], trak: Range<usize>) -> Option<Vec<Option<Self>>> {
        let stsd = one(init, trak, &[b"mdia", b"minf", b"stbl", b"stsd"])?;
        let entries = boxes(init, stsd.start + 8..stsd.end).take(MAX_ENTRIES);
        Some(entries.map(|entry| Self::read(init, &entry)).collect())
    }

    fn read(init: &[u8], entry: &Found) -> Option<Self> {
        // Fixed fields of visual and audio entries (ISO/IEC 14496-12, 12.1.3 and 12.2.3).
        let fixed = match &entry.name {
            b"encv" => 78,
            b"enca" => 28,
            _ => return None,
        };
        let inside = entry.payload.start + fixed..entry.payload.end;
        let sinf = boxes(init, inside).find(|b| &b.name == b"sinf")?;
        let frma = one(init, sinf.payload.clone(), &[b"frma"])?;
        let schm = one(init, sinf.payload.clone(), &[b"schm"])?;
        let tenc = one(init, sinf.payload.clone(), &[b"schi", b"tenc"]);
        Some(Self {
            name: entry.at + 4,
            sinf_name: sinf.at + 4,
            original: letters(init, frma.start)?,
            scheme: letters(init, schm.start + 4)?,
            tenc: tenc.unwrap_or_default(),
        })
    }

    fn scheme(&self, init: &[u8]) -> Option<Scheme> {
        let (mode, restarts) = match &self.scheme {
            b"cenc" | b"cens" => (Mode::Counter, false),
            b"cbc1" => (Mode::Chained, false),
            b"cbcs" => (Mode::Chained, true),
            _ => return None,
        };
        let tenc = init.get(self.tenc.clone())?;
        let default = Protection::read(tenc.get(5..)?, *tenc.first()? > 0)?;
        Some(Scheme {
            mode,
            restarts,
            default,
            original: self.original,
        })
    }

    fn clear(&self, init: &mut [u8]) {
        for (at, name) in [(self.name, &self.original), (self.sinf_name, b"free")] {
            if let Some(place) = init.get_mut(at..at + 4) {
                place.copy_from_slice(name);
            }
        }
    }
}

/// `tfhd`.
struct Header {
    track_id: u32,
    /// Sample entry, counted from 1.
    description: usize,
    default_size: Option<u32>,
    default_flags: Option<u32>,
}

impl Header {
    fn read(data: &[u8], traf: &Range<usize>) -> Option<Self> {
        let tfhd = one(data, traf.clone(), &[b"tfhd"])?;
        let flags = u32_at(data, tfhd.start)? & 0xff_ffff;
        let mut at = tfhd.start + 8;
        let mut field = |flag: u32, size: usize| -> Option<Option<u32>> {
            if flags & flag == 0 {
                return Some(None);
            }
            at += size;
            Some(Some(u32_at(data, at - 4)?))
        };
        field(0x1, 8)?;
        let description = field(0x2, 4)?;
        field(0x8, 4)?;
        let default_size = field(0x10, 4)?;
        let default_flags = field(0x20, 4)?;
        Some(Self {
            track_id: u32_at(data, tfhd.start + 4)?,
            description: description.map_or(1, |n| n as usize),
            default_size,
            default_flags,
        })
    }

    /// Whether decoding may begin with the first sample; also when nothing tells.
    fn starts_clean(&self, data: &[u8], traf: &Range<usize>) -> bool {
        const NOT_SYNC: u32 = 0x1_0000;
        let own = || {
            let trun = one(data, traf.clone(), &[b"trun"])?;
            let flags = u32_at(data, trun.start)?;
            let at = trun.start + 8 + if flags & 0x1 != 0 { 4 } else { 0 };
            let before = [0x100, 0x200].iter().filter(|f| flags & **f != 0).count();
            match (flags & 0x4, flags & 0x400) {
                (0, 0) => None,
                (0, _) => u32_at(data, at + 4 * before),
                _ => u32_at(data, at),
            }
        };
        let flags = own().or(self.default_flags).unwrap_or(0);
        flags & NOT_SYNC == 0
    }

    /// Where the samples of a fragment lie. Offsets count from its `moof`; without one, samples follow each other.
    fn samples(&self, data: &[u8], traf: &Range<usize>) -> Option<Vec<Range<usize>>> {
        let mdat = one(data, 0..data.len(), &[b"mdat"])?;
        let mut next = mdat.start;
        let mut samples = Vec::new();
        for trun in all(data, traf.clone(), &[b"trun"]) {
            let flags = u32_at(data, trun.start)? & 0xff_ffff;
            let count = u32_at(data, trun.start + 4)? as usize;
            let mut at = trun.start + 8;
            if flags & 0x1 != 0 {
                next = usize::try_from(u32_at(data, at)?.cast_signed()).ok()?;
                at += 4;
            }
            at += if flags & 0x4 != 0 { 4 } else { 0 };
            for _ in 0..count {
                at += if flags & 0x100 != 0 { 4 } else { 0 };
                let size = match flags & 0x200 {
                    0 => self.default_size?,
                    _ => u32_at(data, at)?,
                };
                let after = [0x200, 0x400, 0x800];
                at += 4 * after.iter().filter(|f| flags & **f != 0).count();
                let end = next.checked_add(size as usize)?;
                if end > data.len() || samples.len() >= MAX_SAMPLES {
                    return None;
                }
                samples.push(next..end);
                next = end;
            }
        }
        Some(samples)
    }
}

/// Sample groups of type `seig`: keys that change inside a track.
#[derive(Default)]
struct Groups<'a> {
    of_track: &'a [Protection],
    entries: Vec<Protection>,
    /// (samples, entry counted from 1, those of the fragment from 0x10001; 0: the track's default)
    runs: Vec<(usize, usize)>,
}

impl<'a> Groups<'a> {
    fn read(data: &[u8], traf: &Range<usize>, of_track: &'a [Protection]) -> Self {
        Self {
            of_track,
            entries: Self::entries(data, traf).unwrap_or_default(),
            runs: Self::runs(data, traf).unwrap_or_default(),
        }
    }

    /// The groups that a `traf` or `stbl` describes.
    fn entries(data: &[u8], within: &Range<usize>) -> Option<Vec<Protection>> {
        let sgpd =
            (all(data, within.clone(), &[b"sgpd"]).into_iter()).find(|b| is_seig(data, b))?;
        let version = *data.get(sgpd.start)?;
        let mut at = sgpd.start + 8;
        let fixed = match version {
            0 => return None,
            1 => u32_at(data, at)? as usize,
            _ => 0,
        };
        at += 4;
        let count = u32_at(data, at)?;
        at += 4;
        let mut entries = Vec::new();
        for _ in 0..count.min(1 << 12) {
            let size = match fixed {
                0 if version == 1 => {
                    at += 4;
                    u32_at(data, at - 4)? as usize
                }
                size => size,
            };
            // One reserved byte comes first.
            entries.push(Protection::read(data.get(at + 1..sgpd.end)?, true)?);
            at += size;
        }
        Some(entries)
    }

    fn runs(data: &[u8], traf: &Range<usize>) -> Option<Vec<(usize, usize)>> {
        let sbgp = (all(data, traf.clone(), &[b"sbgp"]).into_iter()).find(|b| is_seig(data, b))?;
        let wide = *data.get(sbgp.start)? == 1;
        let mut at = sbgp.start + if wide { 12 } else { 8 };
        let count = u32_at(data, at)?;
        let mut runs = Vec::new();
        for _ in 0..count.min(1 << 16) {
            at += 4;
            let samples = u32_at(data, at)? as usize;
            at += 4;
            runs.push((samples, u32_at(data, at)? as usize));
        }
        Some(runs)
    }

    /// The protection of a sample, or `None` for the track's default.
    fn of_sample(&self, mut sample: usize) -> Option<Protection> {
        for (count, entry) in &self.runs {
            if sample < *count {
                let own = entry.checked_sub(0x1_0001).map(|n| self.entries.get(n));
                let found = own.or_else(|| Some(self.of_track.get(entry.checked_sub(1)?)));
                return found?.copied();
            }
            sample -= count;
        }
        None
    }
}

fn is_seig(data: &[u8], at: &Range<usize>) -> bool {
    data.get(at.start + 4..at.start + 8) == Some(b"seig")
}

/// How one sample is protected.
struct Guard {
    by: Protection,
    iv: Option<[u8; BLOCK]>,
    /// (clear, encrypted) bytes in turn; empty: all of it is encrypted.
    parts: Vec<(usize, usize)>,
}

struct Guards(Vec<Guard>);

impl Guards {
    /// From `senc`, or from where `saiz` and `saio` point.
    fn read(
        data: &[u8],
        traf: &Range<usize>,
        groups: &Groups<'_>,
        track: &Scheme,
        samples: usize,
    ) -> Option<Self> {
        let by = |sample| groups.of_sample(sample).unwrap_or(track.default);
        let mut guards = Vec::with_capacity(samples);
        if let Some(senc) = one(data, traf.clone(), &[b"senc"]) {
            let parted = u32_at(data, senc.start)? & 2 != 0;
            let count = u32_at(data, senc.start + 4)? as usize;
            let mut at = senc.start + 8;
            for sample in 0..count.min(samples) {
                let has_parts = parted && by(sample).protected;
                guards.push(Guard::read(data, &mut at, by(sample), has_parts)?);
            }
        } else if let Some(saiz) = one(data, traf.clone(), &[b"saiz"]) {
            let saio = one(data, traf.clone(), &[b"saio"])?;
            let typed = |b: &Range<usize>| {
                Some(if *data.get(b.start + 3)? & 1 != 0 {
                    8
                } else {
                    0
                })
            };
            let sizes = saiz.start + 4 + typed(&saiz)?;
            let default = usize::from(*data.get(sizes)?);
            let offset = saio.start + 8 + typed(&saio)?;
            let mut at = match *data.get(saio.start)? {
                0 => u32_at(data, offset)? as usize,
                _ => u32_at(data, offset + 4)? as usize,
            };
            for sample in 0..samples {
                let size = match default {
                    0 => usize::from(*data.get(sizes + 5 + sample)?),
                    size => size,
                };
                let mut within = at;
                let has_parts = size > by(sample).iv_bytes;
                guards.push(Guard::read(data, &mut within, by(sample), has_parts)?);
                at += size;
            }
        } else {
            // Constant vector, whole samples: nothing else needs to be said. Samples that should have vectors of
            // their own, and have none, are in the clear.
            let whole = |sample| {
                let mut by = by(sample);
                by.protected &= by.iv_bytes == 0;
                Guard {
                    by,
                    iv: by.constant_iv,
                    parts: Vec::new(),
                }
            };
            guards.extend((0..samples).map(whole));
        }
        (guards.len() == samples).then_some(Self(guards))
    }
}

impl Guard {
    fn read(data: &[u8], at: &mut usize, by: Protection, has_parts: bool) -> Option<Self> {
        let mut iv = by.constant_iv;
        if by.iv_bytes > 0 {
            let mut own = [0; BLOCK];
            own.get_mut(..by.iv_bytes)?
                .copy_from_slice(data.get(*at..*at + by.iv_bytes)?);
            iv = Some(own);
            *at += by.iv_bytes;
        }
        let mut parts = Vec::new();
        if has_parts {
            let count = u16_at(data, *at)?;
            *at += 2;
            for _ in 0..count {
                let clear = usize::from(u16_at(data, *at)?);
                let encrypted = u32_at(data, *at + 2)? as usize;
                parts.push((clear, encrypted));
                *at += 6;
            }
        }
        Some(Self { by, iv, parts })
    }

    /// Gives the number of bytes in protected ranges.
    fn decrypt(
        &self,
        sample: &mut [u8],
        key: &[u8; 16],
        iv: &[u8; BLOCK],
        track: &Scheme,
    ) -> Result<usize, CencError> {
        let mut cipher = Cipher::new(track.mode, key, iv);
        let mut decrypted = 0;
        let whole = [(0, sample.len())];
        let parts = match self.parts.is_empty() {
            true => &whole[..],
            false => &self.parts[..],
        };
        let mut at = 0;
        for (clear, encrypted) in parts {
            at += clear;
            let part = sample.get_mut(at..at + encrypted);
            let part = part.ok_or(CencError::Malformed)?;
            if track.restarts {
                cipher = Cipher::new(track.mode, key, iv);
            }
            cipher.decrypt(part, self.by.pattern);
            decrypted += encrypted;
            at += encrypted;
        }
        Ok(decrypted)
    }
}

enum Cipher {
    Counter(Box<Ctr64BE<Aes128>>),
    Chained(Box<cbc::Decryptor<Aes128>>),
}

impl Cipher {
    fn new(mode: Mode, key: &[u8; 16], iv: &[u8; BLOCK]) -> Self {
        match mode {
            Mode::Counter => Self::Counter(Box::new(Ctr64BE::new(key.into(), iv.into()))),
            Mode::Chained => Self::Chained(Box::new(cbc::Decryptor::new(key.into(), iv.into()))),
        }
    }

    /// Decrypts a protected range; the blocks that its pattern leaves out stay.
    fn decrypt(&mut self, part: &mut [u8], (crypt, skip): (usize, usize)) {
        if crypt == 0 || skip == 0 {
            return self.run(part);
        }
        for stretch in part.chunks_mut((crypt + skip) * BLOCK) {
            let encrypted = stretch.len().min(crypt * BLOCK) / BLOCK * BLOCK;
            self.run(&mut stretch[..encrypted]);
        }
    }

    fn run(&mut self, bytes: &mut [u8]) {
        match self {
            Self::Counter(cipher) => cipher.apply_keystream(bytes),
            // A last block that is not whole is clear.
            Self::Chained(cipher) => {
                for block in bytes.chunks_exact_mut(BLOCK) {
                    if let Ok(block) = <&mut Block<cbc::Decryptor<Aes128>>>::try_from(block) {
                        cipher.decrypt_block(block);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "cenc_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
