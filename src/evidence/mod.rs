//! Evidence: stills of a defect, a clip of the input as it came, and the numbers around it.
//!
//! A lane keeps *references* to at most four decoder buffers ([`Keeper`]): the last good picture, the first
//! bad one, and the worst ones of what goes on. When a defect of at least warning severity begins, they go to one writer
//! thread ([`Stills`]), which converts, scales, draws and writes; media threads and the detector pool never wait for it.
//! Everything is bounded: the queue (full: dropped and counted), a picture's width, and the total on disk (oldest first out).
//!
//! Encoded units are kept in a ring for each stream ([`Recorder`]), by reference as well, on their way to the
//! decoder. 2 s after a raise what lies around the defect's beginning goes to a second thread, which puts it into a
//! file without decoding it, and draws the numbers ([`Numbers`]); once the defect is over, or the clip lasts a minute, a
//! longer one takes its place.
//!
//! On disk: `<data_dir>/evidence/<stream>/<UTC start>_<detector>_<defect id>/` with `last_good.jpg`,
//! `first_bad.jpg` and `defect.json`, which appear together: they are written aside and renamed; and later `clip.mp4`
//! (`.webm`, `.mkv` where the codecs want it), `clip.json`, `signals.json`, `plot.svg`, `sound.svg` and `worst.jpg`, each
//! whole. What is there may be copied to a bucket ([`upload`]), later and by a task of its own.

mod clips;
mod keeper;
mod numbers;
mod plot;
mod recorder;
mod render;
mod ring;
#[cfg(feature = "aws")]
pub mod s3;
mod store;
pub mod upload;

pub use keeper::{Keeper, Measure, Suspicion};
pub use numbers::Numbers;
pub use recorder::Recorder;
pub use render::{MAX_WIDTH, RenderError, jpeg, render};
pub use store::{Counts, StillSet, Stills, relative_dir};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "clip_tests.rs"]
mod clip_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "upload_tests.rs"]
mod upload_tests;
