//! The later part of slice segment headers (ITU-T H.265 7.3.6).

use super::sets::{Coding, Tools};
use crate::transport::continuity::bits::{Bits, bits_for};

/// Most entry points: a row of 16 samples each, in 22 rows of 20 tiles at most.
const MAX_ENTRIES: u32 = 20 * 1056;

/// What an independent slice segment says of its slice's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// `slice_type`: 0 B, 1 P, 2 I.
    pub kind: u32,
    pub sao_luma: bool,
    pub sao_chroma: bool,
    /// `num_ref_idx_l0_active_minus1` + 1 and the same of list 1.
    pub refs: [u32; 2],
    pub mvd_l1_zero: bool,
    pub cabac_init: bool,
    /// `MaxNumMergeCand`.
    pub merge: u32,
    /// `SliceQpY`.
    pub qp: i32,
}

/// Reads on behind the reference picture sets. `None` where it cannot, or a value is out of its range: not judged.
///
/// `orders`: whether order counts were given (no IDR picture); `used`: pictures that this one may refer to.
pub fn segment(
    b: &mut Bits<'_>,
    (coding, tools): (&Coding, &Tools),
    kind: u32,
    (orders, used): (bool, u32),
) -> Option<Segment> {
    let temporal = orders && coding.temporal_mvp && b.flag()?;
    let mut segment = Segment {
        kind,
        sao_luma: coding.sao && b.flag()?,
        sao_chroma: coding.sao && coding.chroma != 0 && b.flag()?,
        refs: tools.refs,
        mvd_l1_zero: false,
        cabac_init: false,
        merge: 5,
        qp: 0,
    };
    let bi = kind == 0;
    if kind != 2 {
        if b.flag()? {
            segment.refs[0] = b.ue_to(14)? + 1;
            if bi {
                segment.refs[1] = b.ue_to(14)? + 1;
            }
        }
        let refs = segment.refs.iter().take(1 + usize::from(bi));
        if tools.lists_modification && used > 1 {
            for &count in refs.clone() {
                if b.flag()? {
                    b.skip((count * bits_for(used)) as usize)?;
                }
            }
        }
        segment.mvd_l1_zero = bi && b.flag()?;
        segment.cabac_init = tools.cabac_init && b.flag()?;
        if temporal {
            let second = bi && !b.flag()?;
            if segment.refs[usize::from(second)] > 1 {
                b.ue_to(14)?;
            }
        }
        if tools.weighted && kind == 1 || tools.weighted_bi && bi {
            b.ue_to(7)?;
            if coding.chroma != 0 {
                b.se()?;
            }
            for &count in refs {
                weights(b, count, coding.chroma != 0)?;
            }
        }
        segment.merge = 5 - b.ue_to(4)?;
    }
    let lowest = -6 * (coding.depth_luma as i32 - 8);
    let qp = tools.qp.checked_add(b.se()?)?;
    segment.qp = Some(qp).filter(|qp| (lowest..=51).contains(qp))?;
    if tools.slice_chroma_qp {
        b.se()?;
        b.se()?;
    }
    let mut off = tools.deblocking_off;
    if tools.deblocking_override && b.flag()? {
        off = b.flag()?;
        if !off {
            b.se()?;
            b.se()?;
        }
    }
    if tools.loop_filter_across && (segment.sao_luma || segment.sao_chroma || !off) {
        b.flag()?;
    }
    Some(segment)
}

/// `pred_weight_table` for one list (7.3.6.3).
fn weights(b: &mut Bits<'_>, count: u32, chroma: bool) -> Option<()> {
    let flags = |b: &mut Bits<'_>| b.u(count);
    let luma = flags(b)?;
    let chroma = if chroma { flags(b)? } else { 0 };
    for at in (0..count).rev() {
        let values = (luma >> at & 1) * 2 + (chroma >> at & 1) * 4;
        for _ in 0..values {
            b.se()?;
        }
    }
    Some(())
}

/// Reads entry points, extension and alignment: the byte at which slice data begins.
pub fn data_begins(b: &mut Bits<'_>, tools: &Tools) -> Option<usize> {
    if tools.tiles.is_some() || tools.wavefront {
        let entries = b.ue_to(MAX_ENTRIES)?;
        if entries > 0 {
            let size = b.ue_to(31)? + 1;
            b.skip((entries * size) as usize)?;
        }
    }
    if tools.header_extension {
        let size = b.ue_to(256)?;
        b.skip(size as usize * 8)?;
    }
    b.flag()?.then_some(())?;
    while !b.position().is_multiple_of(8) {
        (!b.flag()?).then_some(())?;
    }
    Some(b.position() / 8)
}
