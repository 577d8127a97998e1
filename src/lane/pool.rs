//! The detector pool: a fixed number of threads that lanes take turns on.
//!
//! A lane that has work stands in one queue; each job takes the lane that has waited longest. A lane that has
//! more to do after its turn goes to the end of the queue, so that lanes share the threads fairly and a unit's
//! order within its lane is strict. No job ever waits.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// Something that takes turns.
pub(super) trait Turn: Send + Sync {
    /// One turn. Must not wait.
    fn turn(self: Arc<Self>);
}

/// The pool. Clones share the threads; they end when the last clone and the last lane are gone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    threads: rayon::ThreadPool,
    queue: Mutex<VecDeque<Arc<dyn Turn>>>,
}

/// The threads could not be started: the machine's fault, and no retry will help soon.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the detector threads: {0}")]
pub struct PoolError(#[from] rayon::ThreadPoolBuildError);

impl Pool {
    /// Starts `threads` threads; 0 means one for each core.
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|at| format!("detect-{at}"))
            // Turns catch their panics; without a handler one that slipped through would end the process.
            .panic_handler(|_| tracing::error!("a detector job panicked"))
            .build()?;
        Ok(Self {
            inner: Arc::new(Inner {
                threads,
                queue: Mutex::default(),
            }),
        })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.inner.threads.current_num_threads()
    }

    /// Lanes that wait for a turn.
    pub fn waiting(&self) -> usize {
        self.inner.lock().len()
    }

    /// Puts a lane at the end of the queue.
    pub(super) fn enqueue(&self, lane: Arc<dyn Turn>) {
        self.inner.lock().push_back(lane);
        let inner = Arc::clone(&self.inner);
        self.inner.threads.spawn(move || {
            let next = inner.lock().pop_front();
            if let Some(lane) = next
                && catch_unwind(AssertUnwindSafe(|| lane.turn())).is_err()
            {
                tracing::error!("a lane's turn panicked");
            }
        });
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<dyn Turn>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
