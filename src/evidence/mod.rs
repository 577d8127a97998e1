//! Evidence: stills of a defect, as JPEG, with its numbers beside them.
//!
//! A lane keeps *references* to at most two decoder buffers ([`Keeper`]): the last good picture and the first
//! bad one. When a defect of at least warning severity begins, they go to one writer thread ([`Stills`]), which
//! converts, scales, draws and writes; media threads and the detector pool never wait for it. Everything is
//! bounded: the queue (full: dropped and counted), a picture's width, and the total on disk (oldest first out).
//!
//! On disk: `<data_dir>/evidence/<stream>/<UTC start>_<detector>_<defect id>/{last_good.jpg,first_bad.jpg,
//! defect.json}`. A set appears whole or not at all: it is written aside and renamed.

mod keeper;
mod render;
mod store;

pub use keeper::{Keeper, Suspicion};
pub use render::{MAX_WIDTH, RenderError, jpeg, render};
pub use store::{Counts, StillSet, Stills, relative_dir};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
