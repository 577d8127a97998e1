//! Pipelines are stopped on threads of their own, because `set_state(Null)` can hang for ever.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::appsink::lock;

/// A pipeline that takes longer than this to stop counts as wedged.
pub const DEADLINE: Duration = Duration::from_secs(5);

static STOPPING: Mutex<Vec<(u64, Instant)>> = Mutex::new(Vec::new());
static STOPPED: Condvar = Condvar::new();

fn stopped(number: u64) {
    lock(&STOPPING).retain(|(n, _)| *n != number);
    STOPPED.notify_all();
}

/// Stops a pipeline in the background and lets go of it. A wedged one is leaked, and counted by [`wedged`].
pub fn stop(pipeline: gst::Pipeline) {
    let number = {
        let mut stopping = lock(&STOPPING);
        let number = stopping.last().map_or(0, |(n, _)| n + 1);
        stopping.push((number, Instant::now()));
        number
    };
    let work = {
        let pipeline = pipeline.clone();
        move || {
            // The result does not matter: there is nothing left to do with the pipeline.
            let _ = pipeline.set_state(gst::State::Null);
            if let Some(bus) = pipeline.bus() {
                bus.unset_sync_handler();
            }
            drop(pipeline);
            stopped(number);
        }
    };
    let spawned = std::thread::Builder::new()
        .name("teardown".to_owned())
        .spawn(work);
    if spawned.is_err() {
        // Out of threads: better to stop it here than to let it run on.
        let _ = pipeline.set_state(gst::State::Null);
        stopped(number);
    }
}

/// Pipelines that did not stop within [`DEADLINE`] and have not stopped since.
pub fn wedged() -> usize {
    lock(&STOPPING)
        .iter()
        .filter(|(_, since)| since.elapsed() > DEADLINE)
        .count()
}

/// Pipelines that are stopping now, wedged ones included.
pub fn stopping() -> usize {
    lock(&STOPPING).len()
}

/// Waits until all have stopped, or for `limit`. A process that ends while protocol libraries still stop may crash
/// in their destructors.
pub fn wait(limit: Duration) {
    // Whether they stopped or ran out of time, the caller goes on.
    drop(
        STOPPED
            .wait_timeout_while(lock(&STOPPING), limit, |s| !s.is_empty())
            .unwrap_or_else(PoisonError::into_inner),
    );
}
