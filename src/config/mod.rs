//! Configuration: `raw` (as written) -> `check` -> `checked` (resolved).
//!
//! Only [`mod@load`] reads files and the environment; everything else is pure.

pub mod added;
mod address;
pub mod check;
pub mod checked;
pub mod content_keys;
pub mod diff;
pub mod document;
pub mod effective;
mod evidence;
mod expected;
mod http;
pub mod load;
pub mod problem;
pub mod raw;
mod receivers;
pub mod reference;
pub mod schema;
mod spans;
mod stream;
pub mod template;

#[cfg(test)]
mod tests;

pub use check::Env;
pub use checked::*;
pub use content_keys::{ContentKeys, KeyId, Licence};
pub use diff::{Changes, diff};
pub use document::{Document, one_stream_of};
pub use effective::{effective_stream, print_effective};
pub use evidence::{Evidence, S3};
pub use expected::Expected;
pub use http::{ApiToken, Http, Scope};
pub use load::{LoadError, load, one_stream};
pub use problem::{Mark, Problem, Problems};
pub use receivers::{Canary, Heartbeat, Incidents, Receiver, ReceiverKind};
