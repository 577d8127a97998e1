//! Parameter sets (ITU-T H.265 7.3.2).

use crate::transport::continuity::bits::{Bits, bits_for};

/// One entry of a short-term set: distance in picture order, and whether the present picture uses it.
pub type Entry = (i32, bool);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefSet {
    pub negative: Vec<Entry>,
    pub positive: Vec<Entry>,
}

/// What headers of slices need of a sequence parameter set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    pub separate_planes: bool,
    /// Luma samples that are shown.
    pub width: u32,
    pub height: u32,
    pub poc_bits: u32,
    /// Coding tree blocks of a picture.
    pub ctbs: u32,
    pub sets: Vec<RefSet>,
    pub long_term: bool,
    /// `lt_ref_pic_poc_lsb_sps` and `used_by_curr_pic_lt_sps_flag`.
    pub long_sets: Vec<(u32, bool)>,
    /// `None` where the set declares tools that the walk does not know, or could not be read to its end.
    pub coding: Option<Coding>,
}

/// What slice data needs of it. Sizes are binary logarithms of luma samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coding {
    /// `ChromaArrayType`.
    pub chroma: u32,
    /// Coded luma samples, whole smallest coding blocks.
    pub width: u32,
    pub height: u32,
    pub depth_luma: u32,
    pub depth_chroma: u32,
    pub min_cb: u32,
    pub ctb: u32,
    pub min_tb: u32,
    pub max_tb: u32,
    pub inter_depth: u32,
    pub intra_depth: u32,
    pub amp: bool,
    pub sao: bool,
    pub temporal_mvp: bool,
}

/// What headers of slices need of a picture parameter set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pps {
    pub sps: usize,
    pub dependent: bool,
    pub output_flag: bool,
    pub extra_bits: u32,
    /// See [`Sps::coding`].
    pub tools: Option<Tools>,
}

/// What slice data, and the later part of slice headers, need of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    pub sign_hiding: bool,
    pub cabac_init: bool,
    pub refs: [u32; 2],
    /// `init_qp_minus26` + 26.
    pub qp: i32,
    pub transform_skip: bool,
    /// `diff_cu_qp_delta_depth`.
    pub qp_delta_depth: Option<u32>,
    pub slice_chroma_qp: bool,
    pub weighted: bool,
    pub weighted_bi: bool,
    pub bypass: bool,
    pub tiles: Option<Tiles>,
    pub wavefront: bool,
    pub loop_filter_across: bool,
    pub deblocking_override: bool,
    pub deblocking_off: bool,
    pub lists_modification: bool,
    pub header_extension: bool,
}

/// Tiles; the last column and row take what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiles {
    pub columns: u32,
    pub rows: u32,
    /// Widths and heights in coding tree blocks; `None`: all alike.
    pub sizes: Option<(Vec<u32>, Vec<u32>)>,
}

pub fn ref_set(b: &mut Bits<'_>, at: usize, count: usize, sets: &[RefSet]) -> Option<RefSet> {
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

pub fn long_term(b: &mut Bits<'_>, sps: &Sps) -> Option<Vec<(u32, Option<u32>, bool)>> {
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

/// Reads a sequence parameter set behind its unit header: its number, and what it says.
pub fn sps(bytes: &[u8]) -> Option<(usize, Sps)> {
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
    let (depth_luma, depth_chroma) = (b.ue_to(8)? + 8, b.ue_to(8)? + 8);
    let poc_bits = b.ue_to(12)? + 4;
    let all_layers = b.flag()?;
    for _ in 0..if all_layers { layers + 1 } else { 1 } {
        b.ue()?;
        b.ue()?;
        b.ue()?;
    }
    let min_cb = b.ue_to(3)? + 3;
    let ctb = min_cb + b.ue_to(3)?;
    let min_tb = b.ue()?.saturating_add(2);
    let max_tb = min_tb.saturating_add(b.ue()?);
    let (inter_depth, intra_depth) = (b.ue()?, b.ue()?);
    if b.flag()? && b.flag()? {
        scaling(&mut b)?;
    }
    let (amp, sao) = (b.flag()?, b.flag()?);
    // Samples that are not coded at all: rare, so that no stream was there to prove a walk on.
    let pcm = b.flag()?;
    if pcm {
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
    let mut coding = Coding {
        chroma,
        width: coded_width,
        height: coded_height,
        depth_luma,
        depth_chroma,
        min_cb,
        ctb,
        min_tb,
        max_tb,
        inter_depth,
        intra_depth,
        amp,
        sao,
        temporal_mvp: false,
    };
    let known = sps_end(&mut b, layers, &mut coding).is_some() && !separate_planes && !pcm;
    let size = 1u32 << ctb.min(6);
    let sps = Sps {
        separate_planes,
        width,
        height,
        poc_bits,
        ctbs: coded_width.div_ceil(size) * coded_height.div_ceil(size),
        sets,
        long_term,
        long_sets,
        coding: Some(coding).filter(|c| known && c.is_allowed()),
    };
    Some((id, sps))
}

/// Most luma samples of a picture: level 6.2 (table A.8).
const MAX_SAMPLES: u32 = 35_651_584;
const MAX_SIDE: u32 = 16_888;

impl Coding {
    /// Whether sizes are in the ranges of 7.4.3.2.1.
    fn is_allowed(&self) -> bool {
        let whole =
            |side: u32| side > 0 && side <= MAX_SIDE && side.is_multiple_of(1 << self.min_cb);
        (4..=6).contains(&self.ctb)
            && self.min_tb < self.min_cb
            && self.max_tb <= self.ctb.min(5)
            && self.inter_depth.max(self.intra_depth) <= self.ctb - self.min_tb
            && whole(self.width)
            && whole(self.height)
            && self.width * self.height <= MAX_SAMPLES
    }
}

/// The rest of a sequence parameter set; `None` where it cannot be read, or declares an extension in use.
fn sps_end(b: &mut Bits<'_>, layers: u32, coding: &mut Coding) -> Option<()> {
    coding.temporal_mvp = b.flag()?;
    b.flag()?;
    if b.flag()? {
        vui(b, layers)?;
    }
    extensions(b, |b| (b.u(9)? == 0).then_some(()))?;
    b.ends()
}

/// Extension flags: only a range extension is read, by `range`, to see that it declares nothing.
fn extensions(b: &mut Bits<'_>, range: impl FnOnce(&mut Bits<'_>) -> Option<()>) -> Option<()> {
    if !b.flag()? {
        return Some(());
    }
    let has_range = b.flag()?;
    // Layers, depth, screen content, and what is not yet specified.
    if b.u(7)? != 0 {
        return None;
    }
    if has_range { range(b) } else { Some(()) }
}

/// Video usability information (E.2.1): only its end matters.
fn vui(b: &mut Bits<'_>, layers: u32) -> Option<()> {
    if b.flag()? && b.u(8)? == 255 {
        b.skip(32)?;
    }
    if b.flag()? {
        b.skip(1)?;
    }
    if b.flag()? {
        b.skip(4)?;
        if b.flag()? {
            b.skip(24)?;
        }
    }
    if b.flag()? {
        b.ue()?;
        b.ue()?;
    }
    b.skip(3)?;
    if b.flag()? {
        for _ in 0..4 {
            b.ue()?;
        }
    }
    if b.flag()? {
        b.skip(64)?;
        if b.flag()? {
            b.ue()?;
        }
        if b.flag()? {
            hrd(b, layers)?;
        }
    }
    if b.flag()? {
        b.skip(3)?;
        for _ in 0..5 {
            b.ue()?;
        }
    }
    Some(())
}

/// Parameters of the hypothetical decoder (E.2.2).
fn hrd(b: &mut Bits<'_>, layers: u32) -> Option<()> {
    let kinds = [b.flag()?, b.flag()?];
    let mut parts = false;
    if kinds.contains(&true) {
        parts = b.flag()?;
        b.skip(if parts { 19 } else { 0 } + 8)?;
        b.skip(if parts { 4 } else { 0 } + 15)?;
    }
    for _ in 0..=layers {
        let fixed = b.flag()? || b.flag()?;
        let mut low_delay = false;
        if fixed {
            b.ue()?;
        } else {
            low_delay = b.flag()?;
        }
        let buffers = if low_delay { 1 } else { b.ue_to(31)? + 1 };
        for _ in kinds.iter().filter(|kind| **kind) {
            for _ in 0..buffers {
                for _ in 0..if parts { 4 } else { 2 } {
                    b.ue()?;
                }
                b.flag()?;
            }
        }
    }
    Some(())
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

/// Reads a picture parameter set behind its unit header: its number, and what it says.
pub fn pps(bytes: &[u8]) -> Option<(usize, Pps)> {
    let mut b = Bits::new(bytes);
    let id = b.ue_to(63)? as usize;
    let sps = b.ue_to(15)? as usize;
    let mut pps = Pps {
        sps,
        dependent: b.flag()?,
        output_flag: b.flag()?,
        extra_bits: b.u(3)?,
        tools: None,
    };
    pps.tools = tools(&mut b);
    Some((id, pps))
}

fn tools(b: &mut Bits<'_>) -> Option<Tools> {
    let (sign_hiding, cabac_init) = (b.flag()?, b.flag()?);
    let refs = [b.ue_to(14)? + 1, b.ue_to(14)? + 1];
    let qp = b.se()?.checked_add(26)?;
    b.flag()?;
    let transform_skip = b.flag()?;
    let qp_delta_depth = if b.flag()? { Some(b.ue_to(3)?) } else { None };
    b.se()?;
    b.se()?;
    let slice_chroma_qp = b.flag()?;
    let (weighted, weighted_bi, bypass) = (b.flag()?, b.flag()?, b.flag()?);
    let (tiled, wavefront) = (b.flag()?, b.flag()?);
    let tiles = if tiled { Some(tiles(b)?) } else { None };
    let loop_filter_across = b.flag()?;
    let (mut deblocking_override, mut deblocking_off) = (false, false);
    if b.flag()? {
        deblocking_override = b.flag()?;
        deblocking_off = b.flag()?;
        if !deblocking_off {
            b.se()?;
            b.se()?;
        }
    }
    if b.flag()? {
        scaling(b)?;
    }
    let lists_modification = b.flag()?;
    b.ue()?;
    let header_extension = b.flag()?;
    extensions(b, |b| {
        let sizes = if transform_skip { b.ue()? } else { 0 };
        (sizes == 0 && b.u(2)? == 0 && b.ue()? == 0 && b.ue()? == 0).then_some(())
    })?;
    b.ends()?;
    Some(Tools {
        sign_hiding,
        cabac_init,
        refs,
        qp,
        transform_skip,
        qp_delta_depth,
        slice_chroma_qp,
        weighted,
        weighted_bi,
        bypass,
        tiles,
        wavefront,
        loop_filter_across,
        deblocking_override,
        deblocking_off,
        lists_modification,
        header_extension,
    })
}

/// At most 20 columns and 22 rows (table A.9).
fn tiles(b: &mut Bits<'_>) -> Option<Tiles> {
    let (columns, rows) = (b.ue_to(19)? + 1, b.ue_to(21)? + 1);
    let mut sizes = None;
    if !b.flag()? {
        let mut side = |count: u32| {
            (1..count)
                .map(|_| Some(b.ue_to(4095)? + 1))
                .collect::<Option<Vec<_>>>()
        };
        sizes = Some((side(columns)?, side(rows)?));
    }
    b.flag()?;
    Some(Tiles {
        columns,
        rows,
        sizes,
    })
}
