//! HEVC: reference picture sets, slices and their data, random access (ITU-T H.265 7.3, 8.3.1, 8.3.2).

mod cabac;
mod contexts;
mod residual;
mod segment;
mod sets;
#[cfg(test)]
mod tests;
mod trust;
mod walk;

use detectors::base::EvidenceKind;

use self::segment::{Segment, data_begins, segment};
use self::sets::{Pps, RefSet, Sps, long_term, pps, ref_set, sps};
use self::trust::Trust;
use self::walk::{Place, Walked, Walker};
use super::Found;
use super::bits::{Bits, bits_for, sei, unescape};
use super::layout::{Layout, MAX_SLICES};

const SLICE_BYTES: usize = 1024;
const SET_BYTES: usize = 8192;
/// `slice_type` of I slices.
const INTRA: u32 = 2;
/// Most pictures remembered; the standard allows 16.
const MAX_PICTURES: usize = 32;

#[derive(Debug)]
struct Slice {
    first: bool,
    address: u32,
    pps: usize,
    /// What only an independent slice segment says.
    head: Option<Head>,
    /// Of an independent one, what its data needs; of any, where that begins. `None`: it cannot be judged.
    segment: Option<Segment>,
    begin: Option<usize>,
}

#[derive(Debug)]
struct Head {
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
    /// What the newest independent slice segment says, as long as none since was left out.
    segment: Option<Segment>,
    /// What must come next, by the data of the newest slice segment.
    next: Next,
}

/// What must follow a slice segment in its picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Unknown,
    Address(u32),
    Nothing,
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
    walker: Walker,
    trust: Trust,
    /// Kind of a slice whose data ended with the bytes, perhaps to go on.
    open: Option<u32>,
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
            walker: Walker::default(),
            trust: Trust::default(),
            open: None,
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
        self.open = None;
    }

    /// More bytes came: whether a unit begins with them, so that the one before was whole.
    pub fn goes_on(&mut self, begins: bool, found: &mut dyn FnMut(Found)) {
        if let Some(kind) = self.open.take()
            && begins
            && self.trust.broken(kind)
        {
            found(Found::Earlier(EvidenceKind::BrokenSlice, 1));
        }
    }

    /// Takes one unit; `false` when its header seems cut, and the unit may be given again with more bytes.
    /// `ended`: another unit begins behind it.
    pub fn unit(&mut self, unit: &[u8], ended: bool, found: &mut dyn FnMut(Found)) -> bool {
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
        let limit = match kind {
            0..32 if self.trust.is_lost() => SLICE_BYTES,
            0..32 => usize::MAX,
            _ => SET_BYTES,
        };
        if kind <= 9 || (16..=21).contains(&kind) || (33..=39).contains(&kind) {
            unescape(body, limit, &mut scratch);
        }
        match kind {
            0..=9 | 16..=21 => match self.slice(&scratch, kind) {
                Some(slice) => {
                    self.slice_found(&slice, kind, temporal, found);
                    self.data(&scratch, &slice, ended, found);
                }
                None => whole = false,
            },
            33 => {
                let sps = sps(&scratch);
                whole = sps.is_some();
                if let Some((id, sps)) = sps
                    && let Some(slot) = self.sps.get_mut(id)
                {
                    let sps = Some(sps);
                    if *slot != sps {
                        self.trust = Trust::default();
                        *slot = sps;
                    }
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

    /// Sound and failed walks so far, and whether walking ended.
    #[cfg(test)]
    pub fn walked(&self) -> (u32, u32, bool) {
        let (sound, broken) = self.trust.counts();
        (sound, broken, self.trust.is_lost())
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
        let mut slice = Slice {
            first,
            address: 0,
            pps: pps_id as usize,
            head: None,
            segment: None,
            begin: None,
        };
        let begins = |b: &mut Bits<'_>| data_begins(b, pps.tools.as_ref()?);
        if !first {
            let dependent = pps.dependent && b.flag()?;
            slice.address = b.u(bits_for(sps.ctbs))?;
            if dependent {
                slice.begin = begins(&mut b);
                return Some(slice);
            }
        }
        b.skip(pps.extra_bits as usize)?;
        let slice_type = b.ue_to(2)?;
        if pps.output_flag {
            b.flag()?;
        }
        if sps.separate_planes {
            b.u(2)?;
        }
        let mut head = Head {
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
        let tools = sps.coding.as_ref().zip(pps.tools.as_ref());
        let used = (head.short.negative.iter().chain(&head.short.positive))
            .filter(|e| e.1)
            .count();
        let used = used + head.long.iter().filter(|l| l.2).count();
        let orders = (!matches!(kind, 19 | 20), used as u32);
        slice.segment = tools.and_then(|tools| segment(&mut b, tools, slice_type, orders));
        slice.begin = slice.segment.and_then(|_| begins(&mut b));
        slice.head = Some(head);
        Some(slice)
    }

    fn slice_found(&mut self, slice: &Slice, kind: u8, temporal: u8, found: &mut dyn FnMut(Found)) {
        let lsb = slice.head.as_ref().map(|h| h.lsb);
        // Addresses count along rows of the picture: beside each other, tiles do not ascend.
        let pps = self.pps.get(slice.pps).and_then(|p| p.as_ref());
        let tiled = pps.is_some_and(|p| p.tools.as_ref().is_some_and(|t| t.tiles.is_some()));
        let goes_on = !slice.first
            && self.picture.as_ref().is_some_and(|p| {
                (lsb.is_none() || p.lsb == lsb)
                    && (tiled || p.starts.last().is_none_or(|&l| l < slice.address))
            });
        if !goes_on {
            self.close(found);
            self.begin(slice, kind, temporal, found);
        }
        let Some(picture) = &mut self.picture else {
            return;
        };
        if picture.starts.len() < MAX_SLICES {
            picture.starts.push(slice.address);
        }
        if matches!(picture.next, Next::Address(next) if next != slice.address) {
            picture.told += 1;
            found(Found::Evidence(EvidenceKind::BrokenSlice, 1));
        }
    }

    /// Walks the data of a slice segment.
    fn data(&mut self, bytes: &[u8], slice: &Slice, ended: bool, found: &mut dyn FnMut(Found)) {
        // Before the first random access picture, and of pictures that nobody decodes, nothing is told.
        let Some(picture) = self.picture.as_mut().filter(|_| self.known.is_some()) else {
            return;
        };
        let follows = picture.next == Next::Address(slice.address);
        picture.next = Next::Unknown;
        let dependent = slice.head.is_none();
        if !dependent || !follows {
            picture.segment = slice.segment;
        }
        let pps = self.pps.get(slice.pps).and_then(|p| p.as_ref());
        let sps = pps.and_then(|p| self.sps.get(p.sps)?.as_ref());
        let sets = sps
            .and_then(|s| s.coding.as_ref())
            .zip(pps.and_then(|p| p.tools.as_ref()));
        let (Some(sets), Some(segment), Some(begin), false) =
            (sets, picture.segment, slice.begin, self.trust.is_lost())
        else {
            return;
        };
        let place = Place {
            begin,
            address: slice.address,
            dependent,
        };
        // Zeros behind the trailing bits may fill up a bit rate (7.3.2.10).
        let size = bytes
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        let bytes = bytes.get(..size).unwrap_or_default();
        let kind = segment.kind + if dependent { 3 } else { 0 };
        match self.walker.walk(bytes, place, sets, &segment) {
            Walked::Sound(next) => {
                if self.trust.sound(kind) {
                    picture.next = next.map_or(Next::Nothing, Next::Address);
                }
            }
            Walked::Short if !ended => self.open = Some(kind),
            Walked::Short | Walked::Broken => {
                if self.trust.broken(kind) {
                    found(Found::Evidence(EvidenceKind::BrokenSlice, 1));
                }
            }
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
        let last = u32::from(matches!(picture.next, Next::Address(_)));
        let missing = layout.picture(&picture.starts).saturating_sub(picture.told);
        let missing = missing.max(last);
        if missing > 0 {
            found(Found::Earlier(EvidenceKind::BrokenSlice, missing));
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
            segment: None,
            next: Next::Unknown,
        });
        let recovery = self.recovery.take();
        let Some(head) = &slice.head else { return };
        let sps = self.pps.get(slice.pps).and_then(|p| p.as_ref());
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
            if let Some(segment) = slice.segment.filter(|s| s.kind == INTRA) {
                found(Found::Quantiser(segment.qp));
            }
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
