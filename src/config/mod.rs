//! Configuration: `raw` (as written) -> `check` -> `checked` (resolved).

pub mod checked;

pub use checked::*;
