//! HEVC: reference picture sets, slices, random access (ITU-T H.265 7.3, 8.3.1, 8.3.2).

use detectors::base::EvidenceKind;

use super::Found;
use super::bits::{Bits, bits_for, sei, unescape};
use super::layout::{Layout, MAX_SLICES};

const SLICE_BYTES: usize = 1024;
const SET_BYTES: usize = 8192;
/// Most pictures remembered; the standard allows 16.
const MAX_PICTURES: usize = 32;

/// One entry of a short-term set: distance in picture order, and whether the present picture uses it.
type Entry = (i32, bool);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RefSet {
    negative: Vec<Entry>,
    positive: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sps {
    separate_planes: bool,
    width: u32,
    height: u32,
    poc_bits: u32,
    ctbs: u32,
    sets: Vec<RefSet>,
    long_term: bool,
    /// `lt_ref_pic_poc_lsb_sps` and `used_by_curr_pic_lt_sps_flag`.
    long_sets: Vec<(u32, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pps {
    sps: usize,
    dependent: bool,
    output_flag: bool,
    extra_bits: u32,
}

#[derive(Debug)]
struct Slice {
    first: bool,
    address: u32,
    /// What only an independent slice segment says.
    head: Option<Head>,
}

#[derive(Debug)]
struct Head {
    pps: u32,
    lsb: u32,
    short: RefSet,
    /// Low bits of the order, cycle of its high bits if given, used now.
    long: Vec<(u32, Option<u32>, bool)>,
}

#[derive(Debug)]
struct Picture {
    lsb: Option<u32>,
    intra_access: bool,
    starts: Vec<u32>,
    told: u32,
}

/// Follows one HEVC stream.
#[derive(Debug)]
pub struct Hevc {
    sps: Vec<Option<Sps>>,
    pps: Vec<Option<Pps>>,
    scratch: Vec<u8>,
    picture: Option<Picture>,
    /// Order counts of the pictures that may be referred to; `None` until a random access picture.
    known: Option<Vec<i32>>,
    /// The next random access picture begins a sequence: its RASL pictures cannot be decoded.
    begins: bool,
    /// The newest random access picture began a sequence.
    drops_leading: bool,
    /// Order count of the previous picture of the lowest temporal layer.
    before: i32,
    /// `recovery_poc_cnt` of a recovery point before the next picture.
    recovery: Option<i32>,
    /// Order count at which recovery is done.
    recovering: Option<i32>,
    size: Option<(u32, u32)>,
    layouts: [Layout; 2],
}

impl Default for Hevc {
    fn default() -> Self {
        Self {
            sps: vec![None; 16],
            pps: vec![None; 64],
            scratch: Vec::new(),
            picture: None,
            known: None,
            begins: true,
            drops_leading: true,
            before: 0,
            recovery: None,
            recovering: None,
            size: None,
            layouts: Default::default(),
        }
    }
}

impl Hevc {
    pub fn reset(&mut self) {
        self.picture = None;
        self.known = None;
        self.begins = true;
        self.recovery = None;
        self.recovering = None;
    }

    /// Takes one unit; `false` when its header seems cut, and the unit may be given again with more bytes.
    pub fn unit(&mut self, unit: &[u8], found: &mut dyn FnMut(Found)) -> bool {
        let Some((&[a, b], body)) = unit.split_first_chunk::<2>() else {
            return false;
        };
        if a & 0x80 != 0 || b & 7 == 0 {
            found(Found::Evidence(EvidenceKind::BrokenSlice, 1));
            return true;
        }
        let mut whole = true;
        let (kind, layer, temporal) = (a >> 1 & 0x3F, (a & 1) << 5 | b >> 3, (b & 7) - 1);
        // Other layers are enhancements that are not decoded.
        if layer != 0 {
            return true;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let limit = if kind < 32 { SLICE_BYTES } else { SET_BYTES };
        if kind <= 9 || (16..=21).contains(&kind) || (33..=39).contains(&kind) {
            unescape(body, limit, &mut scratch);
        }
        match kind {
            0..=9 | 16..=21 => match self.slice(&scratch, kind) {
                Some(slice) => self.slice_found(slice, kind, temporal, found),
                None => whole = false,
            },
            33 => {
                let sps = sps(&scratch);
                whole = sps.is_some();
                if let Some((id, sps)) = sps
                    && let Some(slot) = self.sps.get_mut(id)
                {
                    *slot = Some(sps);
                }
            }
            34 => {
                let pps = pps(&scratch);
                whole = pps.is_some();
                if let Some((id, pps)) = pps
                    && let Some(slot) = self.pps.get_mut(id)
                {
                    *slot = Some(pps);
                }
            }
            36 | 37 => {
                self.close(found);
                self.begins = true;
            }
            39 => {
                whole = false;
                for (kind, content) in sei(&scratch) {
                    if kind == 6 {
                        self.recovery = Bits::new(content).se();
                    }
                }
            }
            _ => {}
        }
        self.scratch = scratch;
        whole
    }

    fn slice(&self, bytes: &[u8], kind: u8) -> Option<Slice> {
        let mut b = Bits::new(bytes);
        let first = b.flag()?;
        if kind >= 16 {
            b.flag()?;
        }
        let pps_id = b.ue_to(63)?;
        let pps = self.pps.get(pps_id as usize)?.as_ref()?;
        let sps = self.sps.get(pps.sps)?.as_ref()?;
        let mut address = 0;
        if !first {
            let dependent = pps.dependent && b.flag()?;
            address = b.u(bits_for(sps.ctbs))?;
            if dependent {
                return Some(Slice {
                    first,
                    address,
                    head: None,
                });
            }
        }
        b.skip(pps.extra_bits as usize)?;
        b.ue_to(2)?;
        if pps.output_flag {
            b.flag()?;
        }
        if sps.separate_planes {
            b.u(2)?;
        }
        let mut head = Head {
            pps: pps_id,
            lsb: 0,
            short: RefSet::default(),
            long: Vec::new(),
        };
        if !matches!(kind, 19 | 20) {
            head.lsb = b.u(sps.poc_bits)?;
            head.short = if b.flag()? {
                let at = b.u(bits_for(sps.sets.len() as u32))?;
                sps.sets.get(at as usize)?.clone()
            } else {
                ref_set(&mut b, sps.sets.len(), sps.sets.len(), &sps.sets)?
            };
            if sps.long_term {
                head.long = long_term(&mut b, sps)?;
            }
        }
        Some(Slice {
            first,
            address,
            head: Some(head),
        })
    }

    fn slice_found(&mut self, slice: Slice, kind: u8, temporal: u8, found: &mut dyn FnMut(Found)) {
        let lsb = slice.head.as_ref().map(|h| h.lsb);
        let goes_on = !slice.first
            && self.picture.as_ref().is_some_and(|p| {
                (lsb.is_none() || p.lsb == lsb)
                    && p.starts.last().is_none_or(|&l| l < slice.address)
            });
        if !goes_on {
            self.close(found);
            self.begin(&slice, kind, temporal, found);
        }
        if let Some(picture) = &mut self.picture
            && picture.starts.len() < MAX_SLICES
        {
            picture.starts.push(slice.address);
        }
    }

    fn close(&mut self, found: &mut dyn FnMut(Found)) {
        let Some(picture) = self.picture.take() else {
            return;
        };
        if picture.starts.len() >= MAX_SLICES {
            return;
        }
        let layout = &mut self.layouts[usize::from(picture.intra_access)];
        let missing = layout.picture(&picture.starts).saturating_sub(picture.told);
        if missing > 0 {
            found(Found::Evidence(EvidenceKind::BrokenSlice, missing));
        }
    }

    fn begin(&mut self, slice: &Slice, kind: u8, temporal: u8, found: &mut dyn FnMut(Found)) {
        let irap = (16..=23).contains(&kind);
        let rasl = matches!(kind, 8 | 9);
        let begins = irap && (self.begins || kind <= 20);
        if irap {
            self.drops_leading = begins;
            self.begins = false;
        }
        // Leading pictures that refer to what came before the start are not decoded by anyone.
        let dropped = rasl && self.drops_leading;
        let checked = self.known.is_some() && !dropped;
        if !slice.first && (checked || irap) {
            found(Found::Evidence(EvidenceKind::BrokenSlice, 1));
        }
        self.picture = (!dropped).then(|| Picture {
            lsb: slice.head.as_ref().map(|h| h.lsb),
            intra_access: irap,
            starts: Vec::with_capacity(8),
            told: u32::from(!slice.first),
        });
        let recovery = self.recovery.take();
        let Some(head) = &slice.head else { return };
        let sps = self.pps.get(head.pps as usize).and_then(|p| p.as_ref());
        let Some(sps) = sps.and_then(|p| self.sps.get(p.sps)?.as_ref()) else {
            return;
        };
        let (size, poc_bits) = ((sps.width, sps.height), sps.poc_bits);
        if self.size != Some(size) {
            self.size = Some(size);
            found(Found::Size {
                width: size.0,
                height: size.1,
            });
        }
        let order = order(self.before, head.lsb, poc_bits, begins);
        // Leading pictures and those that no other of their layer uses are no base for the next order count.
        let plain = temporal == 0 && !matches!(kind, 0 | 2 | 4 | 6..=9);
        if plain {
            self.before = order;
        }
        if begins {
            self.known = Some(Vec::new());
        }
        if let Some(known) = &mut self.known
            && !dropped
        {
            let lost = if begins {
                0
            } else {
                keep(known, head, order, poc_bits)
            };
            if known.len() < MAX_PICTURES {
                known.push(order);
            }
            if lost > 0 {
                found(Found::Evidence(EvidenceKind::PictureNumberGap, lost));
                self.recovering = None;
            }
        }
        let reached = self.recovering.is_some_and(|at| order >= at);
        if irap || reached {
            self.recovering = None;
        }
        match recovery {
            Some(count) if count > 0 && !irap && self.recovering.is_none() && !reached => {
                self.recovering = Some(order.saturating_add(count));
            }
            _ => {}
        }
        if (irap || recovery == Some(0)) && slice.first || reached {
            found(Found::RandomAccess);
        }
    }
}

/// Picture order count (8.3.1).
fn order(before: i32, lsb: u32, bits: u32, begins: bool) -> i32 {
    let lsb = lsb as i32;
    if begins {
        return lsb;
    }
    let max = 1i32 << bits;
    let before_lsb = before & (max - 1);
    let high = before.wrapping_sub(before_lsb);
    let high = if lsb < before_lsb && before_lsb - lsb >= max / 2 {
        high.wrapping_add(max)
    } else if lsb > before_lsb && lsb - before_lsb > max / 2 {
        high.wrapping_sub(max)
    } else {
        high
    };
    high.wrapping_add(lsb)
}

/// Applies a picture's reference picture set (8.3.2); returns how many pictures it uses that never came.
/// Those are put in, as the standard does, so that each is told once.
fn keep(known: &mut Vec<i32>, head: &Head, order: i32, bits: u32) -> u32 {
    let mask = (1i32 << bits) - 1;
    let mut kept = Vec::with_capacity(known.len());
    let mut lost = 0;
    for &(delta, used) in head.short.negative.iter().chain(&head.short.positive) {
        let wanted = order.wrapping_add(delta);
        if known.contains(&wanted) {
            kept.push(wanted);
        } else if used {
            kept.push(wanted);
            lost += 1;
        }
    }
    for &(lsb, cycle, used) in &head.long {
        let low = lsb as i32 & mask;
        let full = cycle.map(|c| {
            let high = (order & !mask).wrapping_sub((c as i32).wrapping_mul(mask + 1));
            high.wrapping_add(low)
        });
        let there = known.iter().copied().find(|&k| match full {
            Some(full) => k == full,
            None => k & mask == low,
        });
        match there {
            Some(k) => kept.push(k),
            None if used => {
                kept.push(full.unwrap_or(low));
                lost += 1;
            }
            None => {}
        }
    }
    kept.truncate(MAX_PICTURES);
    *known = kept;
    lost
}

fn ref_set(b: &mut Bits<'_>, at: usize, count: usize, sets: &[RefSet]) -> Option<RefSet> {
    if at > 0 && b.flag()? {
        let back = if at == count {
            b.ue_to(63)? as usize + 1
        } else {
            1
        };
        let sign = b.flag()?;
        let size = b.ue_to(32_767)? as i32 + 1;
        let shift = if sign { -size } else { size };
        let from = sets.get(at.checked_sub(back)?)?;
        let total = from.negative.len() + from.positive.len();
        // For each entry of the other set, then for that picture itself: used, and kept at all.
        let mut flags = Vec::with_capacity(total + 1);
        for _ in 0..=total {
            let used = b.flag()?;
            flags.push((used, used || b.flag()?));
        }
        let negatives = from.negative.iter().map(|e| e.0).zip(&flags);
        let positives = from
            .positive
            .iter()
            .map(|e| e.0)
            .zip(flags.get(from.negative.len()..)?);
        let itself = (0, flags.last()?);
        let shifted =
            |(delta, &(used, kept)): (i32, &(bool, bool))| kept.then_some((delta + shift, used));
        let below = |e: &Entry| e.0 < 0;
        let above = |e: &Entry| e.0 > 0;
        let negative = positives
            .clone()
            .rev()
            .chain([itself])
            .chain(negatives.clone());
        let positive = negatives.rev().chain([itself]).chain(positives);
        return Some(RefSet {
            negative: negative
                .filter_map(shifted)
                .filter(below)
                .take(16)
                .collect(),
            positive: positive
                .filter_map(shifted)
                .filter(above)
                .take(16)
                .collect(),
        });
    }
    let (negatives, positives) = (b.ue_to(16)?, b.ue_to(16)?);
    let mut side = |count: u32, sign: i32| {
        let mut delta = 0i32;
        (0..count)
            .map(|_| {
                delta += sign * (b.ue_to(32_767)? as i32 + 1);
                Some((delta, b.flag()?))
            })
            .collect::<Option<Vec<_>>>()
    };
    Some(RefSet {
        negative: side(negatives, -1)?,
        positive: side(positives, 1)?,
    })
}

fn long_term(b: &mut Bits<'_>, sps: &Sps) -> Option<Vec<(u32, Option<u32>, bool)>> {
    let listed = sps.long_sets.len() as u32;
    let from_sps = if listed > 0 { b.ue_to(32)? } else { 0 };
    let own = b.ue_to(32)?;
    let mut all = Vec::new();
    let mut cycle = 0u32;
    for i in 0..from_sps + own {
        let (lsb, used) = if i < from_sps {
            let at = b.u(bits_for(listed))?;
            *sps.long_sets.get(at as usize)?
        } else {
            (b.u(sps.poc_bits)?, b.flag()?)
        };
        // The cycles add up within each of the two groups.
        if i == 0 || i == from_sps {
            cycle = 0;
        }
        let full = b.flag()?;
        if full {
            cycle = cycle.wrapping_add(b.ue()?);
        }
        all.push((lsb, full.then_some(cycle), used));
    }
    Some(all)
}

fn profile(b: &mut Bits<'_>, layers: u32) -> Option<()> {
    b.skip(96)?;
    let mut present = Vec::with_capacity(8);
    for _ in 0..layers {
        present.push((b.flag()?, b.flag()?));
    }
    if layers > 0 {
        b.skip(2 * (8 - layers as usize))?;
    }
    for (profile, level) in present {
        b.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

fn sps(bytes: &[u8]) -> Option<(usize, Sps)> {
    let mut b = Bits::new(bytes);
    b.u(4)?;
    let layers = b.u(3).filter(|&l| l <= 6)?;
    b.flag()?;
    profile(&mut b, layers)?;
    let id = b.ue_to(15)? as usize;
    let chroma = b.ue_to(3)?;
    let separate_planes = chroma == 3 && b.flag()?;
    let (coded_width, coded_height) = (b.ue_to(65_535)?, b.ue_to(65_535)?);
    let (mut width, mut height) = (coded_width, coded_height);
    if b.flag()? {
        let x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let y = if chroma == 1 { 2 } else { 1 };
        let cut = |b: &mut Bits<'_>, unit: u32| {
            let sum = b.ue()?.saturating_add(b.ue()?);
            Some(sum.saturating_mul(unit))
        };
        width = width.checked_sub(cut(&mut b, x)?)?;
        height = height.checked_sub(cut(&mut b, y)?)?;
    }
    b.ue_to(8)?;
    b.ue_to(8)?;
    let poc_bits = b.ue_to(12)? + 4;
    let all_layers = b.flag()?;
    for _ in 0..if all_layers { layers + 1 } else { 1 } {
        b.ue()?;
        b.ue()?;
        b.ue()?;
    }
    let ctb = 1u32 << (b.ue_to(3)? + 3 + b.ue_to(3)?).min(6);
    b.ue()?;
    b.ue()?;
    b.ue()?;
    b.ue()?;
    if b.flag()? && b.flag()? {
        scaling(&mut b)?;
    }
    b.flag()?;
    b.flag()?;
    if b.flag()? {
        b.u(8)?;
        b.ue()?;
        b.ue()?;
        b.flag()?;
    }
    let count = b.ue_to(64)? as usize;
    let mut sets = Vec::with_capacity(count);
    for at in 0..count {
        let set = ref_set(&mut b, at, count, &sets)?;
        sets.push(set);
    }
    let long_term = b.flag()?;
    let mut long_sets = Vec::new();
    if long_term {
        for _ in 0..b.ue_to(32)? {
            long_sets.push((b.u(poc_bits)?, b.flag()?));
        }
    }
    let ctbs = coded_width.div_ceil(ctb) * coded_height.div_ceil(ctb);
    let sps = Sps {
        separate_planes,
        width,
        height,
        poc_bits,
        ctbs,
        sets,
        long_term,
        long_sets,
    };
    Some((id, sps))
}

fn scaling(b: &mut Bits<'_>) -> Option<()> {
    for size in 0..4u32 {
        let matrices = if size == 3 { 2 } else { 6 };
        for _ in 0..matrices {
            if !b.flag()? {
                b.ue()?;
                continue;
            }
            if size > 1 {
                b.se()?;
            }
            for _ in 0..(1 << (4 + (size << 1))).min(64) {
                b.se()?;
            }
        }
    }
    Some(())
}

fn pps(bytes: &[u8]) -> Option<(usize, Pps)> {
    let mut b = Bits::new(bytes);
    let id = b.ue_to(63)? as usize;
    let sps = b.ue_to(15)? as usize;
    let pps = Pps {
        sps,
        dependent: b.flag()?,
        output_flag: b.flag()?,
        extra_bits: b.u(3)?,
    };
    Some((id, pps))
}
