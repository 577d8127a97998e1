//! Bad input against the whole daemon, over real sockets: every fault is shown, paged with its cause, over by itself
//! when it is mended, and nobody else's business. `docs/faults.md` is the table of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

mod analyze;
mod dash;
mod hls;
mod media;
mod odd;
mod origin;
mod push;
#[path = "../ingest/relay.rs"]
mod relay;
mod watch;
