//! Plays an input just long enough.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::ingest::source::{SourceContext, SourceEnd};
use crate::ingest::stats::Stats;
use crate::ingest::{self, Intake};

/// How long an input may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// Plays until `enough` is told, the input ends, or `timeout` is over. How the input ended, if it did by itself.
pub(super) async fn glance(
    stream: Arc<config::Stream>,
    intake: Arc<dyn Intake>,
    enough: &Notify,
    timeout: Duration,
) -> Option<SourceEnd> {
    let cancel = CancellationToken::new();
    let cx = SourceContext {
        stream,
        intake,
        stats: Arc::new(Stats::default()),
        cancel: cancel.clone(),
    };
    let playing = ingest::play_once(&cx);
    tokio::pin!(playing);
    tokio::select! {
        end = &mut playing => return Some(end),
        () = enough.notified() => {}
        () = tokio::time::sleep(timeout) => {}
    }
    cancel.cancel();
    // It is told to stop; how it ends does not matter any more.
    let _ = tokio::time::timeout(STOP, playing).await;
    None
}
