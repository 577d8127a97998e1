//! H.264: `frame_num`, slices, random access (ITU-T H.264 7.3, 7.4.3, D.2.8).

use detectors::base::EvidenceKind;

use super::Found;
use super::bits::{Bits, sei, unescape};
use super::layout::{Layout, MAX_SLICES};

/// Bytes read of a slice: its header with weights fits.
const SLICE_BYTES: usize = 1024;
const SET_BYTES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sps {
    /// Baseline without the constraint of Main: slices in any order, or in groups.
    any_order: bool,
    separate_planes: bool,
    chroma: bool,
    frame_num_bits: u32,
    poc: PocType,
    gaps_allowed: bool,
    frame_mbs_only: bool,
    /// Macroblocks of a frame.
    mbs: u32,
    adaptive: bool,
    width: u32,
    height: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PocType {
    Lsb { bits: u32 },
    Deltas { always_zero: bool },
    Order,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pps {
    sps: usize,
    poc_present: bool,
    grouped: bool,
    refs: [u32; 2],
    weighted: bool,
    weighted_bi: u32,
    /// `pic_init_qp_minus26` + 26.
    qp: i32,
    redundant_present: bool,
}

/// What tells pictures apart (7.4.1.2.4), and what the checks need.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slice {
    first_mb: u32,
    intra: bool,
    all_intra: bool,
    id: PictureId,
    redundant: bool,
    /// `memory_management_control_operation` 5; `None` when the header could not be read that far.
    resets: Option<bool>,
    /// `SliceQPY` of an I slice, as far as it was read.
    qp: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PictureId {
    frame_num: u32,
    pps: u32,
    /// `Some(bottom)` for a field.
    field: Option<bool>,
    reference: bool,
    idr: Option<u32>,
    poc: [i32; 2],
}

#[derive(Debug)]
struct Picture {
    id: PictureId,
    intra: bool,
    starts: Vec<u32>,
    told: u32,
    /// Slice starts say something about completeness.
    ordered: bool,
}

/// Follows one H.264 stream.
#[derive(Debug)]
pub struct H264 {
    sps: Vec<Option<Sps>>,
    pps: Vec<Option<Pps>>,
    scratch: Vec<u8>,
    picture: Option<Picture>,
    spare: Vec<u32>,
    /// An access unit began: the next slice is of a new picture whatever it looks like.
    fresh: bool,
    sps_here: bool,
    /// `recovery_frame_cnt` of a recovery point before the next picture.
    recovery: Option<u32>,
    /// Recovery points are in use, so that plain I pictures are none.
    has_recovery: bool,
    /// Recovery under way: `frame_num` at its start, and pictures to go from there.
    recovering: Option<(u32, u32)>,
    /// `PrevRefFrameNum`.
    before: Option<u32>,
    size: Option<(u32, u32)>,
    layouts: [Layout; 4],
}

impl Default for H264 {
    fn default() -> Self {
        Self {
            sps: vec![None; 32],
            pps: vec![None; 256],
            scratch: Vec::new(),
            picture: None,
            spare: Vec::new(),
            fresh: false,
            sps_here: false,
            recovery: None,
            has_recovery: false,
            recovering: None,
            before: None,
            size: None,
            layouts: Default::default(),
        }
    }
}

impl H264 {
    pub fn reset(&mut self) {
        self.picture = None;
        self.recovery = None;
        self.recovering = None;
        self.before = None;
    }

    /// Takes one unit; `false` when its header seems cut, and the unit may be given again with more bytes.
    pub fn unit(&mut self, unit: &[u8], found: &mut dyn FnMut(Found)) -> bool {
        let Some((&header, body)) = unit.split_first() else {
            return false;
        };
        if header & 0x80 != 0 {
            found(Found::Evidence(EvidenceKind::BrokenSlice, 1));
            return true;
        }
        let mut whole = true;
        let kind = header & 0x1F;
        let mut scratch = std::mem::take(&mut self.scratch);
        let limit = if kind <= 5 { SLICE_BYTES } else { SET_BYTES };
        if (1..=9).contains(&kind) {
            unescape(body, limit, &mut scratch);
        }
        match kind {
            1 | 2 | 5 => {
                let reference = header & 0x60 != 0;
                match self.slice(&scratch, kind, reference) {
                    Some(slice) => self.slice_found(slice, kind, found),
                    // Sets not seen yet, or a header that is cut off with its packet.
                    None => whole = false,
                }
            }
            6 => {
                whole = false;
                self.fresh = true;
                for (kind, content) in sei(&scratch) {
                    if kind == 6
                        && let Some(count) = Bits::new(content).ue()
                    {
                        self.recovery = Some(count);
                        self.has_recovery = true;
                    }
                }
            }
            7 => {
                self.fresh = true;
                self.sps_here = true;
                let sps = sps(&scratch);
                whole = sps.is_some();
                if let Some((id, sps)) = sps
                    && let Some(slot) = self.sps.get_mut(id)
                    && slot.as_ref() != Some(&sps)
                {
                    *slot = Some(sps);
                    self.before = None;
                }
            }
            8 => {
                self.fresh = true;
                let pps = pps(&scratch);
                whole = pps.is_some();
                if let Some((id, pps)) = pps
                    && let Some(slot) = self.pps.get_mut(id)
                {
                    *slot = Some(pps);
                }
            }
            9 => self.fresh = true,
            // End of sequence or stream: an IDR picture follows.
            10 | 11 => self.reset(),
            _ => {}
        }
        self.scratch = scratch;
        whole
    }

    fn sets(&self, pps: u32) -> Option<(&Sps, &Pps)> {
        let pps = self.pps.get(pps as usize)?.as_ref()?;
        Some((self.sps.get(pps.sps)?.as_ref()?, pps))
    }

    fn slice(&self, bytes: &[u8], kind: u8, reference: bool) -> Option<Slice> {
        let mut b = Bits::new(bytes);
        let first_mb = b.ue()?;
        let slice_type = b.ue_to(9)?;
        let pps_id = b.ue_to(255)?;
        let (sps, pps) = self.sets(pps_id)?;
        if sps.separate_planes {
            b.u(2)?;
        }
        let frame_num = b.u(sps.frame_num_bits)?;
        let mut field = None;
        if !sps.frame_mbs_only && b.flag()? {
            field = Some(b.flag()?);
        }
        let idr = if kind == 5 {
            Some(b.ue_to(65535)?)
        } else {
            None
        };
        let both = pps.poc_present && field.is_none();
        let poc = match sps.poc {
            PocType::Lsb { bits } => [b.u(bits)? as i32, if both { b.se()? } else { 0 }],
            PocType::Deltas { always_zero: false } => [b.se()?, if both { b.se()? } else { 0 }],
            _ => [0, 0],
        };
        let redundant = pps.redundant_present && b.ue_to(127)? > 0;
        let class = slice_type % 5;
        let resets = match reference && kind != 5 {
            true => resets(&mut b, sps, pps, class),
            false => Some(false),
        };
        let qp = (class == 2 && resets.is_some())
            .then(|| slice_qp(b, pps, kind == 5))
            .flatten();
        Some(Slice {
            first_mb,
            intra: class == 2 || class == 4,
            all_intra: slice_type == 7 || slice_type == 9,
            id: PictureId {
                frame_num,
                pps: pps_id,
                field,
                reference,
                idr,
                poc,
            },
            redundant,
            resets,
            qp,
        })
    }

    fn slice_found(&mut self, slice: Slice, kind: u8, found: &mut dyn FnMut(Found)) {
        if slice.redundant {
            return;
        }
        let Some((sps, pps)) = self.sets(slice.id.pps) else {
            return;
        };
        let mbs = match (slice.id.field, sps.adaptive) {
            (Some(_), _) | (None, true) => sps.mbs / 2,
            (None, false) => sps.mbs,
        };
        if slice.first_mb >= mbs {
            found(Found::Evidence(EvidenceKind::BrokenSlice, 1));
            return;
        }
        let ordered = !sps.any_order && !pps.grouped && !sps.separate_planes && kind != 2;
        let fresh = std::mem::take(&mut self.fresh);
        let same = self.picture.as_ref().is_some_and(|p| {
            let a = PictureId { pps: 0, ..p.id };
            let b = PictureId { pps: 0, ..slice.id };
            let goes_on = !ordered || p.starts.last().is_none_or(|&l| l < slice.first_mb);
            !fresh && a == b && goes_on
        });
        if !same {
            self.close(found);
            self.begin(&slice, ordered, found);
        }
        if let Some(picture) = &mut self.picture {
            picture.intra &= slice.intra;
            if picture.starts.len() < MAX_SLICES {
                picture.starts.push(slice.first_mb);
            } else {
                picture.ordered = false;
            }
        }
    }

    /// A picture's last slice was seen: is it whole?
    fn close(&mut self, found: &mut dyn FnMut(Found)) {
        let Some(picture) = self.picture.take() else {
            return;
        };
        if picture.ordered {
            let at = usize::from(picture.id.field.is_some()) * 2 + usize::from(picture.intra);
            let missing = self.layouts.get_mut(at);
            let missing = missing.map_or(0, |l| l.picture(&picture.starts));
            let missing = missing.saturating_sub(picture.told);
            if missing > 0 {
                found(Found::Earlier(EvidenceKind::BrokenSlice, missing));
            }
        }
        self.spare = picture.starts;
    }

    fn begin(&mut self, slice: &Slice, ordered: bool, found: &mut dyn FnMut(Found)) {
        let id = slice.id;
        let Some((sps, _)) = self.sets(id.pps) else {
            return;
        };
        let (size, max) = ((sps.width, sps.height), 1u32 << sps.frame_num_bits);
        let gaps_allowed = sps.gaps_allowed;
        if self.size != Some(size) {
            self.size = Some(size);
            found(Found::Size {
                width: size.0,
                height: size.1,
            });
        }
        let headless = ordered && slice.first_mb != 0;
        if headless {
            found(Found::Evidence(EvidenceKind::BrokenSlice, 1));
        }
        let mut gap = 0;
        if id.idr.is_none()
            && let Some(before) = self.before
        {
            let ahead = id.frame_num.wrapping_sub(before) & (max - 1);
            if ahead > 1 && !gaps_allowed {
                gap = ahead - 1;
                found(Found::Evidence(EvidenceKind::PictureNumberGap, gap));
                self.recovering = None;
            }
        }
        // A picture that is not referred to leaves the count where it was.
        let counted = match id.reference {
            true => id.frame_num,
            false => id.frame_num.wrapping_sub(1) & (max - 1),
        };
        self.before = match slice.resets {
            Some(true) => Some(0),
            Some(false) if id.reference || self.before.is_none() || gap > 0 => Some(counted),
            Some(false) => self.before,
            None => None,
        };
        self.random_access(slice, headless, max, found);
        let mut starts = std::mem::take(&mut self.spare);
        starts.clear();
        self.picture = Some(Picture {
            id,
            intra: true,
            starts,
            told: u32::from(headless),
            ordered,
        });
    }

    fn random_access(
        &mut self,
        slice: &Slice,
        headless: bool,
        max: u32,
        found: &mut dyn FnMut(Found),
    ) {
        let sps_here = std::mem::take(&mut self.sps_here);
        let recovery = self.recovery.take();
        let number = slice.id.frame_num;
        let done = self
            .recovering
            .is_some_and(|(start, count)| number.wrapping_sub(start) & (max - 1) >= count);
        if done {
            self.recovering = None;
        }
        // Without recovery points an I picture behind a parameter set is what players join at.
        let plain = sps_here && slice.all_intra && slice.id.reference && !self.has_recovery;
        let here = slice.id.idr.is_some() || recovery == Some(0) || plain;
        match recovery {
            Some(count) if count > 0 && count < max && self.recovering.is_none() => {
                self.recovering = Some((number, count));
            }
            _ => {}
        }
        if slice.id.idr.is_some() {
            self.recovering = None;
        }
        if done || (here && !headless) {
            found(Found::RandomAccess);
            if let Some(qp) = slice.qp {
                found(Found::Quantiser(qp));
            }
        }
    }
}

/// Reads the header of an I slice on behind its reference marking, which that of an IDR picture still has to come.
fn slice_qp(mut b: Bits<'_>, pps: &Pps, idr: bool) -> Option<i32> {
    if idr {
        b.u(2)?;
    }
    pps.qp.checked_add(b.se()?)
}

/// Reads a slice header on to its reference marking: whether operation 5 is there.
fn resets(b: &mut Bits<'_>, sps: &Sps, pps: &Pps, class: u32) -> Option<bool> {
    // 0 P, 1 B, 2 I, 3 SP, 4 SI.
    let lists = match class {
        0 | 3 => 1,
        1 => 2,
        _ => 0,
    };
    let mut refs = pps.refs;
    if class == 1 {
        b.flag()?;
    }
    if lists > 0 && b.flag()? {
        for r in refs.iter_mut().take(lists) {
            *r = b.ue_to(31)?;
        }
    }
    for _ in 0..lists {
        if b.flag()? {
            for _ in 0..=66 {
                if b.ue_to(5)? == 3 {
                    break;
                }
                b.ue()?;
            }
        }
    }
    let weights = (pps.weighted && lists == 1) || (pps.weighted_bi == 1 && lists == 2);
    if weights {
        b.ue_to(7)?;
        if sps.chroma {
            b.ue_to(7)?;
        }
        for &count in refs.iter().take(lists) {
            for _ in 0..=count {
                if b.flag()? {
                    b.se()?;
                    b.se()?;
                }
                if sps.chroma && b.flag()? {
                    for _ in 0..4 {
                        b.se()?;
                    }
                }
            }
        }
    }
    if !b.flag()? {
        return Some(false);
    }
    let mut resets = false;
    for _ in 0..=66 {
        match b.ue_to(6)? {
            0 => return Some(resets),
            3 => {
                b.ue()?;
                b.ue()?;
            }
            5 => resets = true,
            _ => {
                b.ue()?;
            }
        }
    }
    None
}

fn sps(bytes: &[u8]) -> Option<(usize, Sps)> {
    let mut b = Bits::new(bytes);
    let profile = b.u(8)?;
    let constraints = b.u(8)?;
    b.u(8)?;
    let id = b.ue_to(31)? as usize;
    let (mut chroma, mut separate_planes) = (1, false);
    if matches!(
        profile,
        44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
    ) {
        chroma = b.ue_to(3)?;
        if chroma == 3 {
            separate_planes = b.flag()?;
        }
        b.ue_to(6)?;
        b.ue_to(6)?;
        b.flag()?;
        if b.flag()? {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if b.flag()? {
                    scaling(&mut b, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    let frame_num_bits = b.ue_to(12)? + 4;
    let poc = match b.ue_to(2)? {
        0 => PocType::Lsb {
            bits: b.ue_to(12)? + 4,
        },
        1 => {
            let always_zero = b.flag()?;
            b.se()?;
            b.se()?;
            for _ in 0..b.ue_to(255)? {
                b.se()?;
            }
            PocType::Deltas { always_zero }
        }
        _ => PocType::Order,
    };
    b.ue()?;
    let gaps_allowed = b.flag()?;
    let columns = b.ue_to(65_535 / 16)? + 1;
    let map_rows = b.ue_to(65_535 / 16)? + 1;
    let frame_mbs_only = b.flag()?;
    let adaptive = !frame_mbs_only && b.flag()?;
    b.flag()?;
    let rows = map_rows * if frame_mbs_only { 1 } else { 2 };
    let (mut width, mut height) = (columns * 16, rows * 16);
    if b.flag()? {
        let crop = [b.ue()?, b.ue()?, b.ue()?, b.ue()?];
        let planar = chroma == 0 || separate_planes;
        let x = if !planar && chroma < 3 { 2 } else { 1 };
        let y = if !planar && chroma == 1 { 2 } else { 1 };
        let y = y * if frame_mbs_only { 1 } else { 2 };
        let cut = |a: u32, b: u32, unit: u32| a.saturating_add(b).saturating_mul(unit);
        width = width.checked_sub(cut(crop[0], crop[1], x))?;
        height = height.checked_sub(cut(crop[2], crop[3], y))?;
    }
    let sps = Sps {
        any_order: profile == 66 && constraints & 0x40 == 0 || profile == 88,
        separate_planes,
        chroma: chroma != 0 && !separate_planes,
        frame_num_bits,
        poc,
        gaps_allowed,
        frame_mbs_only,
        mbs: columns * rows,
        adaptive,
        width,
        height,
    };
    Some((id, sps))
}

fn scaling(b: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = (last + b.se()?.clamp(-128, 127) + 256) % 256;
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

fn pps(bytes: &[u8]) -> Option<(usize, Pps)> {
    let mut b = Bits::new(bytes);
    let id = b.ue_to(255)? as usize;
    let sps = b.ue_to(31)? as usize;
    b.flag()?;
    let poc_present = b.flag()?;
    let groups = b.ue_to(7)?;
    if groups > 0 {
        match b.ue_to(6)? {
            0 => {
                for _ in 0..=groups {
                    b.ue()?;
                }
            }
            2 => {
                for _ in 0..groups {
                    b.ue()?;
                    b.ue()?;
                }
            }
            3..=5 => {
                b.flag()?;
                b.ue()?;
            }
            6 => {
                let count = b.ue()? as usize + 1;
                let width = super::bits::bits_for(groups + 1) as usize;
                b.skip(count.saturating_mul(width))?;
            }
            _ => {}
        }
    }
    let refs = [b.ue_to(31)?, b.ue_to(31)?];
    let weighted = b.flag()?;
    let weighted_bi = b.u(2)?;
    let qp = b.se()?.checked_add(26)?;
    b.se()?;
    b.se()?;
    b.flag()?;
    b.flag()?;
    let redundant_present = b.flag()?;
    let pps = Pps {
        sps,
        poc_present,
        grouped: groups > 0,
        refs,
        weighted,
        weighted_bi,
        qp,
        redundant_present,
    };
    Some((id, pps))
}
