//! A decoded picture with products that are computed once, on first use, and shared by all detectors.

use std::sync::{Mutex, OnceLock};

use crate::kernel::{chroma::ChromaGrid, grid::Grid, half::HalfLuma, tiles::Tiles};
use crate::plane::{Chroma, Plane};

/// Signalled luma range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Range {
    /// Black is code 16 of 8 bit, white 235.
    #[default]
    Limited,
    /// Black is 0, white 255.
    Full,
}

/// Signalled transfer characteristic, as far as it matters how much light a code near black stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transfer {
    /// BT.1886 and its kin, or not told.
    #[default]
    Sdr,
    /// Perceptual quantiser (BT.2100, SMPTE ST 2084).
    Pq,
    /// Hybrid log-gamma (BT.2100).
    Hlg,
}

/// What the host keeps from one picture of a track for the next: small products, never the picture.
#[derive(Debug, Clone)]
pub struct Carry {
    /// Half-resolution luma of the previous picture.
    pub half: HalfLuma,
    /// Grid seams of the previous picture, when a detector asked for them.
    pub grid: Option<Grid>,
    /// What the picture before the previous one left, for its memory alone.
    pub spare: Option<HalfLuma>,
}

/// A decoded picture, borrowed.
#[derive(Debug)]
pub struct Picture<'a> {
    luma: Plane<'a>,
    chroma: Option<Chroma<'a>>,
    range: Range,
    transfer: Transfer,
    before: Option<&'a Carry>,
    spare: Mutex<Option<HalfLuma>>,
    half: OnceLock<HalfLuma>,
    tiles: OnceLock<Tiles>,
    grid: OnceLock<Grid>,
    chroma_grid: OnceLock<ChromaGrid>,
}

impl<'a> Picture<'a> {
    /// Wraps a luma plane. `before` is what was kept of the previous picture of the same track, and is ignored
    /// when its size differs.
    pub fn new(luma: Plane<'a>, range: Range, before: Option<&'a Carry>) -> Self {
        let before = before.filter(|c| c.half.matches(luma.width(), luma.height()));
        Self {
            luma,
            chroma: None,
            range,
            transfer: Transfer::default(),
            before,
            spare: Mutex::default(),
            half: OnceLock::new(),
            tiles: OnceLock::new(),
            grid: OnceLock::new(),
            chroma_grid: OnceLock::new(),
        }
    }

    /// Adds the chroma samples; those that do not fit the size of the picture are left out.
    pub fn with_chroma(mut self, chroma: Option<Chroma<'a>>) -> Self {
        self.chroma = chroma.filter(|c| c.fits(&self.luma));
        self
    }

    /// The same picture with another transfer characteristic than SDR.
    pub fn with_transfer(mut self, transfer: Transfer) -> Self {
        self.transfer = transfer;
        self
    }

    /// Uses memory again that nobody else needs.
    pub fn with_spare(mut self, spare: Option<HalfLuma>) -> Self {
        self.spare = Mutex::new(spare);
        self
    }

    /// Full-resolution luma.
    pub fn luma(&self) -> &Plane<'a> {
        &self.luma
    }

    /// Signalled range.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Signalled transfer characteristic.
    pub fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// What the previous picture left, when it had the same size.
    pub fn before(&self) -> Option<&'a Carry> {
        self.before
    }

    /// Half-resolution luma (mean of 2x2), 8 bit.
    pub fn half(&self) -> &HalfLuma {
        self.half.get_or_init(|| {
            let spare = self.spare.lock().ok().and_then(|mut spare| spare.take());
            HalfLuma::again(&self.luma, spare)
        })
    }

    /// Statistics of 8x8 tiles of the half-resolution luma (16x16 pixels of the picture), with the mean
    /// absolute difference to the previous picture when there is one.
    pub fn tiles(&self) -> &Tiles {
        self.tiles
            .get_or_init(|| Tiles::of(self.half(), self.before.map(|c| &c.half)))
    }

    /// Steps across the 16-pixel coding grid against steps beside it.
    pub fn grid(&self) -> &Grid {
        self.grid.get_or_init(|| Grid::of(self.half()))
    }

    /// Mean chroma of cells of 8x8 pixels, four to a tile; `None` for a picture without colour.
    pub fn chroma(&self) -> Option<&ChromaGrid> {
        let chroma = self.chroma.as_ref()?;
        Some((self.chroma_grid).get_or_init(|| ChromaGrid::of(chroma)))
    }

    /// What the next picture of the track needs; consumes the picture.
    pub fn into_carry(self) -> Carry {
        self.half();
        let half = self.half.into_inner();
        Carry {
            half: half.unwrap_or_else(|| HalfLuma::of(&self.luma)),
            grid: self.grid.into_inner(),
            spare: None,
        }
    }
}
