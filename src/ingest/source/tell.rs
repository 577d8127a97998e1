//! What a source tells its lane: facts about the input.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use detectors::base::{Cause, Fact, InputEvent};
use tokio::time::Instant;

use super::SourceContext;
use crate::config;
use crate::ingest::{Content, Intake, OwnedUnit, clock};

/// Shortest time between two [`InputEvent::Receiving`].
const RECEIVING_EVERY: Duration = Duration::from_millis(100);

/// Pushes input facts.
pub(super) struct Teller {
    intake: Arc<dyn Intake>,
    stream: Arc<config::Stream>,
    received: Mutex<Option<Instant>>,
    patience: Mutex<Option<(Duration, Duration)>>,
}

impl Teller {
    pub fn new(cx: &SourceContext) -> Self {
        Self {
            intake: Arc::clone(&cx.intake),
            stream: Arc::clone(&cx.stream),
            received: Mutex::new(None),
            patience: Mutex::new(None),
        }
    }

    /// Pushes a stream-wide fact.
    pub fn fact(&self, fact: Fact) {
        // A lane that is gone ends the source through its cancellation token.
        let _ = self.intake.push(OwnedUnit {
            media: None,
            arrival: clock::now(),
            discontinuity: false,
            dropped: 0,
            track: None,
            content: Content::Fact(fact),
        });
    }

    /// An attempt failed.
    pub fn failed(&self, cause: Cause) {
        self.fact(Fact::Input(InputEvent::Failed { cause }));
    }

    /// Media bytes arrived.
    pub fn receiving(&self) {
        let now = Instant::now();
        {
            let mut received = self.received.lock().unwrap_or_else(|e| e.into_inner());
            if received.is_some_and(|at| now.duration_since(at) < RECEIVING_EVERY) {
                return;
            }
            *received = Some(now);
        }
        self.fact(Fact::Input(InputEvent::Receiving));
    }

    /// How long media may stay away; the config's own values win. Told only when it changed.
    pub fn patience(&self, visible_after: Duration, page_after: Duration) {
        let input = &self.stream.input;
        let told = (
            input.visible_after.unwrap_or(visible_after),
            input.page_after.unwrap_or(page_after),
        );
        {
            let mut patience = self.patience.lock().unwrap_or_else(|e| e.into_inner());
            if patience.replace(told) == Some(told) {
                return;
            }
        }
        self.fact(Fact::Input(InputEvent::Patience {
            visible_after: told.0,
            page_after: told.1,
        }));
    }
}
