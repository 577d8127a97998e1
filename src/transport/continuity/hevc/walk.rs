//! Walks slice data: every syntax element is parsed, nothing is reconstructed (ITU-T H.265 7.3.8, 9.3).
//!
//! Arithmetic decoding that is out of step soon yields what no encoder writes, or ends elsewhere than the data.

use super::cabac::Cabac;
use super::contexts::{self, Contexts};
use super::segment::Segment;
use super::sets::{Coding, Tiles, Tools};

/// What a walk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// All is as it must be. The address that the next slice segment must have; `None`: the picture is complete.
    Sound(Option<u32>),
    Broken,
    /// The data ended too early.
    Short,
}

/// What outlives a slice segment within its picture.
#[derive(Debug)]
pub struct Walker {
    /// Of each 8 columns, what [`Cu`] left there.
    above: Vec<u8>,
    /// Contexts behind the second block of a row.
    wavefront: Contexts,
    /// Contexts at the end of the segment before.
    ended: Contexts,
    /// Address of the first block of the slice.
    slice: u32,
}

impl Default for Walker {
    fn default() -> Self {
        Self {
            above: Vec::new(),
            wavefront: [0; 256],
            ended: [0; 256],
            slice: 0,
        }
    }
}

/// Where a slice segment stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// First byte of slice data.
    pub begin: usize,
    pub address: u32,
    /// It continues the slice of the segment before.
    pub dependent: bool,
}

impl Walker {
    /// Walks one slice segment. `bytes` is the whole unit behind its header, without emulation prevention and
    /// trailing zeros. A dependent segment must follow the one before it in the same picture.
    pub fn walk(
        &mut self,
        bytes: &[u8],
        place: Place,
        (coding, tools): (&Coding, &Tools),
        segment: &Segment,
    ) -> Walked {
        if !place.dependent {
            self.slice = place.address;
        }
        let columns = (coding.width as usize).div_ceil(8) + 8;
        if self.above.len() != columns {
            self.above = vec![0; columns];
        }
        let size = 1u32 << coding.ctb;
        let columns = coding.width.div_ceil(size);
        let rows = coding.height.div_ceil(size);
        // initType (9.3.2.2).
        let first = match (segment.kind, segment.cabac_init) {
            (2, _) => 0,
            (1, false) | (0, true) => 1,
            _ => 2,
        };
        let initial = contexts::initial(first, segment.qp);
        let mut walk = Walk {
            cabac: Cabac::new(bytes, place.begin, initial),
            coding,
            segment,
            bypass: tools.bypass,
            sign_hiding: tools.sign_hiding,
            transform_skip: tools.transform_skip,
            group: (tools.qp_delta_depth).map(|depth| coding.ctb.saturating_sub(depth)),
            qp_delta_coded: false,
            above: &mut self.above,
            left: [0; 8],
            modes_above: [1; 16],
            modes_left: [1; 16],
            has_above: false,
            has_left: false,
        };
        let grid = Grid {
            columns,
            rows,
            tiles: tools.tiles.as_ref(),
        };
        let Some(mut at) = grid.at(place.address) else {
            return Walked::Broken;
        };
        let Some(from) = grid.at(self.slice) else {
            return Walked::Broken;
        };
        let mut begins = true;
        loop {
            let in_slice = |x: u32, y: u32| {
                at.holds(x, y) && (!at.same_tile(&from) || (y, x) >= (from.y, from.x))
            };
            let new_tile = at.x == at.left && at.y == at.top;
            let new_row = tools.wavefront && at.x == at.left;
            // Contexts at the begin of tiles, of rows and of dependent segments (9.3.1).
            if new_tile && !begins {
                walk.cabac.contexts = initial;
            } else if new_row && !new_tile {
                let synchronised = at.y > 0 && in_slice(at.x + 1, at.y - 1);
                walk.cabac.contexts = if synchronised {
                    self.wavefront
                } else {
                    initial
                };
            } else if begins && place.dependent && !new_tile {
                walk.cabac.contexts = self.ended;
            }
            begins = false;
            walk.has_left = at.x > 0 && in_slice(at.x - 1, at.y);
            walk.has_above = at.y > 0 && in_slice(at.x, at.y - 1);
            if walk.tree_unit(at.x, at.y).is_none() || walk.cabac.is_past() {
                return walk.failed();
            }
            let ended = walk.cabac.terminate();
            if tools.wavefront && at.x == at.left + 1 {
                self.wavefront = walk.cabac.contexts;
            }
            let next = grid.after(&at);
            if ended {
                if walk.cabac.is_past() {
                    return Walked::Short;
                }
                if walk.cabac.padded_end() != Some(bytes.len()) {
                    return Walked::Broken;
                }
                self.ended = walk.cabac.contexts;
                return Walked::Sound(next.map(|next| next.y * columns + next.x));
            }
            let Some(next) = next else {
                return walk.failed();
            };
            if !next.same_tile(&at) || tools.wavefront && next.x == next.left {
                let padded = if walk.cabac.terminate() {
                    walk.cabac.padded_end()
                } else {
                    None
                };
                match padded {
                    Some(byte) => walk.cabac.restart(byte),
                    None => return walk.failed(),
                }
            }
            at = next;
        }
    }
}

/// Coding tree blocks of a picture.
struct Grid<'a> {
    columns: u32,
    rows: u32,
    tiles: Option<&'a Tiles>,
}

/// A coding tree block and its tile.
#[derive(Debug, Clone, Copy)]
struct At {
    x: u32,
    y: u32,
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
}

impl At {
    fn holds(&self, x: u32, y: u32) -> bool {
        (self.left..self.right).contains(&x) && (self.top..self.bottom).contains(&y)
    }

    fn same_tile(&self, other: &At) -> bool {
        self.left == other.left && self.top == other.top
    }
}

/// The tile column or row around `at`: where it begins and ends (6.5.1).
fn span(at: u32, all: u32, count: u32, sizes: Option<&[u32]>) -> Option<(u32, u32)> {
    let mut begin = 0;
    for i in 0..count {
        let end = match sizes {
            None => (i + 1) * all / count,
            Some(sizes) => sizes.get(i as usize).map_or(all, |size| begin + size),
        };
        if end <= begin || end > all {
            return None;
        }
        if at < end {
            return Some((begin, end));
        }
        begin = end;
    }
    None
}

impl Grid<'_> {
    fn place(&self, x: u32, y: u32) -> Option<At> {
        let (mut counts, mut sizes) = ((1, 1), (None, None));
        if let Some(tiles) = self.tiles {
            counts = (tiles.columns, tiles.rows);
            if let Some((widths, heights)) = &tiles.sizes {
                sizes = (Some(&**widths), Some(&**heights));
            }
        }
        let (left, right) = span(x, self.columns, counts.0, sizes.0)?;
        let (top, bottom) = span(y, self.rows, counts.1, sizes.1)?;
        Some(At {
            x,
            y,
            left,
            right,
            top,
            bottom,
        })
    }

    fn at(&self, address: u32) -> Option<At> {
        self.place(address % self.columns, address / self.columns)
    }

    /// The next one in tile scan.
    fn after(&self, at: &At) -> Option<At> {
        if at.x + 1 < at.right {
            Some(At { x: at.x + 1, ..*at })
        } else if at.y + 1 < at.bottom {
            Some(At {
                x: at.left,
                y: at.y + 1,
                ..*at
            })
        } else if at.right < self.columns {
            self.place(at.right, at.top)
        } else if at.bottom < self.rows {
            self.place(0, at.bottom)
        } else {
            None
        }
    }
}

/// A walk under way.
pub struct Walk<'a> {
    pub cabac: Cabac<'a>,
    pub coding: &'a Coding,
    pub segment: &'a Segment,
    pub bypass: bool,
    pub sign_hiding: bool,
    pub transform_skip: bool,
    /// Smallest quantisation group, where quantisers change.
    pub group: Option<u32>,
    pub qp_delta_coded: bool,
    /// Depth of the coding unit above (bits 0 to 1), and whether it is skipped (bit 2), each 8 columns.
    above: &'a mut [u8],
    /// The same to the left, each 8 rows of the coding tree block.
    left: [u8; 8],
    /// Intra prediction modes each 4 columns, then rows, of the coding tree block.
    pub modes_above: [u8; 16],
    pub modes_left: [u8; 16],
    has_above: bool,
    pub has_left: bool,
}

/// A coding unit, and what parsing its transform tree needs to know of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cu {
    pub x: u32,
    pub y: u32,
    pub size: u32,
    pub intra: bool,
    /// `IntraSplitFlag`.
    pub split: bool,
    /// `interSplitFlag` of its tree.
    pub inter_split: bool,
    pub lossless: bool,
    /// `MaxTrafoDepth`.
    pub max_depth: u32,
    /// Intra modes of the four blocks, luma and chroma.
    pub luma: [u8; 4],
    pub chroma: [u8; 4],
}

impl Walk<'_> {
    /// The verdict where something is wrong: behind the end, nothing is known but that.
    fn failed(&self) -> Walked {
        if self.cabac.is_past() {
            Walked::Short
        } else {
            Walked::Broken
        }
    }

    fn tree_unit(&mut self, x: u32, y: u32) -> Option<()> {
        self.modes_above = [1; 16];
        if !self.has_left {
            self.modes_left = [1; 16];
        }
        if self.segment.sao_luma || self.segment.sao_chroma {
            self.sao();
        }
        let ctb = self.coding.ctb;
        self.quadtree(x << ctb, y << ctb, ctb, 0)
    }

    /// Sample adaptive offset (7.3.8.3).
    fn sao(&mut self) {
        let c = &mut self.cabac;
        if self.has_left && c.flag(contexts::SAO_MERGE)
            || self.has_above && c.flag(contexts::SAO_MERGE)
        {
            return;
        }
        let mut kind = 0;
        let components = if self.coding.chroma == 0 { 1 } else { 3 };
        for component in 0..components {
            let (on, depth) = if component == 0 {
                (self.segment.sao_luma, self.coding.depth_luma)
            } else {
                (self.segment.sao_chroma, self.coding.depth_chroma)
            };
            if !on {
                continue;
            }
            if component < 2 {
                kind = match c.flag(contexts::SAO_TYPE) {
                    false => 0,
                    true => 1 + c.bypass(1),
                };
            }
            if kind == 0 {
                continue;
            }
            let most = (1 << (depth.min(10) - 5)) - 1;
            let offsets = (0..4).filter(|_| c.unary(most) != 0).count() as u32;
            if kind == 1 {
                c.bypass(offsets + 5);
            } else if component < 2 {
                c.bypass(2);
            }
        }
    }

    fn quadtree(&mut self, x: u32, y: u32, log2: u32, depth: u32) -> Option<()> {
        let size = 1 << log2;
        let (width, height) = (self.coding.width, self.coding.height);
        let can = log2 > self.coding.min_cb;
        let split = if x + size <= width && y + size <= height {
            can && self.split_flag(x, y, depth)
        } else {
            can
        };
        if self.group.is_some_and(|group| log2 >= group) {
            self.qp_delta_coded = false;
        }
        if !split {
            return self.unit(x, y, log2, depth);
        }
        let half = size / 2;
        for (x, y) in [(x, y), (x + half, y), (x, y + half), (x + half, y + half)] {
            if x < width && y < height {
                self.quadtree(x, y, log2 - 1, depth + 1)?;
            }
        }
        Some(())
    }

    /// What is to the left and above, where it is available.
    fn neighbours(&self, x: u32, y: u32) -> [Option<u8>; 2] {
        let mask = (1 << self.coding.ctb) - 1;
        let left = (x & mask != 0 || self.has_left).then(|| self.left[(y >> 3) as usize & 7]);
        let above = if y & mask != 0 || self.has_above {
            self.above.get((x >> 3) as usize).copied()
        } else {
            None
        };
        [left, above]
    }

    fn split_flag(&mut self, x: u32, y: u32, depth: u32) -> bool {
        let around = self.neighbours(x, y).into_iter().flatten();
        let deeper = around.filter(|n| u32::from(n & 3) > depth).count();
        self.cabac.flag(contexts::SPLIT_CU + deeper)
    }

    fn skip_flag(&mut self, x: u32, y: u32) -> bool {
        let around = self.neighbours(x, y).into_iter().flatten();
        let skipped = around.filter(|n| n & 4 != 0).count();
        self.cabac.flag(contexts::SKIP + skipped)
    }

    /// Notes a coding unit for those that follow.
    fn note(&mut self, cu: &Cu, value: u8) {
        let units = (cu.size >> 3) as usize;
        let (column, row) = ((cu.x >> 3) as usize, (cu.y >> 3) as usize & 7);
        let above = self.above.iter_mut().skip(column).take(units);
        above.for_each(|a| *a = value);
        let left = self.left.iter_mut().skip(row).take(units);
        left.for_each(|l| *l = value);
    }

    /// Notes the mode of a prediction block for those that follow.
    pub fn note_mode(&mut self, x: u32, y: u32, size: u32, mode: u8) {
        let units = (size >> 2) as usize;
        let mask = (1 << (self.coding.ctb - 2)) - 1;
        let (column, row) = ((x >> 2) as usize & mask, (y >> 2) as usize & mask);
        let above = self.modes_above.iter_mut().skip(column).take(units);
        above.for_each(|a| *a = mode);
        let left = self.modes_left.iter_mut().skip(row).take(units);
        left.for_each(|l| *l = mode);
    }

    /// Coding unit (7.3.8.5).
    fn unit(&mut self, x: u32, y: u32, log2: u32, depth: u32) -> Option<()> {
        if self.cabac.is_past() {
            return None;
        }
        let size = 1 << log2;
        let mut cu = Cu {
            x,
            y,
            size,
            intra: true,
            ..Cu::default()
        };
        cu.lossless = self.bypass && self.cabac.flag(contexts::BYPASS_CU);
        if self.segment.kind != 2 {
            let skip = self.skip_flag(x, y);
            self.note(&cu, depth as u8 | u8::from(skip) << 2);
            if skip {
                self.merge_index();
                self.note_mode(x, y, size, 1);
                return Some(());
            }
            cu.intra = self.cabac.flag(contexts::PRED_MODE);
        } else {
            self.note(&cu, depth as u8);
        }
        let smallest = log2 == self.coding.min_cb;
        if cu.intra {
            cu.split = smallest && !self.cabac.flag(contexts::PART_MODE);
            self.intra_modes(&mut cu);
            cu.max_depth = self.coding.intra_depth + u32::from(cu.split);
        } else {
            self.note_mode(x, y, size, 1);
            let (whole, merged) = self.parts(log2, depth, smallest)?;
            let coded = whole && merged || self.cabac.flag(contexts::ROOT_CBF);
            if !coded {
                return Some(());
            }
            cu.max_depth = self.coding.inter_depth;
            cu.inter_split = cu.max_depth == 0 && !whole;
        }
        self.transform_tree(&cu, (x, y), (log2, 0), 0, 0b1111)
    }

    fn merge_index(&mut self) {
        let most = self.segment.merge - 1;
        if most > 0 && self.cabac.flag(contexts::MERGE_IDX) {
            self.cabac.unary(most - 1);
        }
    }

    /// Prediction units of an inter coding unit: whether there is one only, and whether the last is merged.
    fn parts(&mut self, log2: u32, depth: u32, smallest: bool) -> Option<(bool, bool)> {
        let c = &mut self.cabac;
        let (size, part) = (1u32 << log2, contexts::PART_MODE);
        let whole = c.flag(part);
        let (half, quarter) = (size / 2, size / 4);
        // Width and height of two parts, or four.
        let sizes: &[(u32, u32)] = if whole {
            &[(size, size)]
        } else {
            let wide = c.flag(part + 1);
            if smallest {
                // 8x8 has no quarters, and only the smallest blocks have them at all.
                if wide {
                    &[(size, half); 2]
                } else if log2 == 3 || c.flag(part + 2) {
                    &[(half, size); 2]
                } else {
                    &[(half, half); 4]
                }
            } else {
                let even = !self.coding.amp || c.flag(part + 3);
                let late = !even && c.bypass_flag();
                let (first, second) = match (even, late) {
                    (true, _) => (half, half),
                    (false, true) => (size - quarter, quarter),
                    (false, false) => (quarter, size - quarter),
                };
                if wide {
                    &[(size, first), (size, second)]
                } else {
                    &[(first, size), (second, size)]
                }
            }
        };
        let mut merged = false;
        for &(width, height) in sizes {
            merged = self.cabac.flag(contexts::MERGE_FLAG);
            if merged {
                self.merge_index();
            } else {
                self.prediction(width + height == 12, depth)?;
            }
        }
        Some((whole, merged))
    }

    /// References and motion of a prediction unit (7.3.8.6).
    fn prediction(&mut self, small: bool, depth: u32) -> Option<()> {
        let mut lists = [true, false];
        if self.segment.kind == 0 {
            let c = &mut self.cabac;
            if !small && c.flag(contexts::INTER_PRED + depth as usize) {
                lists = [true, true];
            } else if c.flag(contexts::INTER_PRED + 4) {
                lists = [false, true];
            }
        }
        let both = lists == [true, true];
        for (list, used) in lists.into_iter().enumerate() {
            if !used {
                continue;
            }
            self.ref_index(self.segment.refs[list & 1]);
            if !(list == 1 && both && self.segment.mvd_l1_zero) {
                self.difference()?;
            }
            self.cabac.flag(contexts::MVP);
        }
        Some(())
    }

    fn ref_index(&mut self, count: u32) {
        let most = count - 1;
        let modelled = most.min(2);
        for bin in 0..modelled {
            if !self.cabac.flag(contexts::REF_IDX + bin as usize) {
                return;
            }
        }
        self.cabac.unary(most - modelled);
    }

    /// Motion vector difference (7.3.8.9), within 16 bits.
    fn difference(&mut self) -> Option<()> {
        let c = &mut self.cabac;
        let moves = [(); 2].map(|()| c.flag(contexts::MVD_GREATER0));
        let far = moves.map(|moves| moves && c.flag(contexts::MVD_GREATER1));
        for (moves, far) in moves.into_iter().zip(far) {
            if far && c.exp_golomb(1)? > 32_766 {
                return None;
            }
            if moves {
                c.bypass_flag();
            }
        }
        Some(())
    }
}
