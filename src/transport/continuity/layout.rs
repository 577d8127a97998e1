//! Learns how pictures are cut into slices, to see when one is missing.

/// Pictures alike before the layout is relied upon.
const SETTLED: u32 = 32;
/// Pictures in a row that differ in the same way make a new layout.
const CHANGED: u32 = 3;
/// Most slices remembered.
pub const MAX_SLICES: usize = 512;

/// Where the slices of a kind of picture usually begin.
///
/// The headers do not tell how far a slice reaches, so a missing one shows only when an encoder cuts every
/// picture alike; most do. Layouts that vary (slices limited in bytes) never settle and never alarm.
#[derive(Debug, Default)]
pub struct Layout {
    usual: Vec<u32>,
    alike: u32,
    odd: Vec<u32>,
    odd_run: u32,
}

impl Layout {
    /// Takes the slice starts of a finished picture; returns how many usual ones are missing.
    pub fn picture(&mut self, starts: &[u32]) -> u32 {
        if self.usual == starts {
            self.alike = self.alike.saturating_add(1);
            self.odd_run = 0;
            return 0;
        }
        if self.odd_run > 0 && self.odd == starts {
            self.odd_run += 1;
        } else {
            starts.clone_into(&mut self.odd);
            self.odd_run = 1;
        }
        if self.alike < SETTLED || self.odd_run >= CHANGED {
            starts.clone_into(&mut self.usual);
            self.alike = self.odd_run;
            self.odd_run = 0;
            return 0;
        }
        let within = starts.iter().all(|s| self.usual.contains(s));
        let fewer = self.usual.len().saturating_sub(starts.len());
        if within { fewer as u32 } else { 0 }
    }
}
