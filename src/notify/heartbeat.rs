//! A sign of life for a service that pages when it stays away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use detectors::base::Arrival;
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;
use url::Url;

use super::receiver::http::{AddressPolicy, Http, HttpOptions, any_address, attempt};
use super::receiver::{Outcome, ReceiverError};
use crate::config;
use crate::ingest::clock;

/// Longest call.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The caller.
pub struct Heartbeat {
    http: Http,
    url: Url,
    every: Duration,
    taken_nanos: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Checks the endpoint; `None` when none is configured.
    ///
    /// # Errors
    /// It cannot be called.
    pub fn new(
        config: &config::Heartbeat,
        allowed: AddressPolicy,
    ) -> Result<Option<Self>, ReceiverError> {
        let Some(endpoint) = &config.endpoint else {
            return Ok(None);
        };
        let http = Http::new(&HttpOptions {
            timeout: TIMEOUT,
            proxy: None,
            allowed: if config.allow_private {
                any_address()
            } else {
                allowed
            },
        })?;
        let url = http.endpoint(endpoint)?;
        Ok(Some(Self {
            http,
            url,
            every: config.every,
            taken_nanos: Arc::default(),
        }))
    }

    /// When it was taken last; for metrics.
    pub fn taken_at(&self) -> impl Fn() -> Option<Arrival> + Send + Sync + 'static {
        let nanos = Arc::clone(&self.taken_nanos);
        move || {
            let nanos = nanos.load(Ordering::Relaxed);
            (nanos > 0).then(|| Arrival::from_nanos(nanos))
        }
    }

    /// Calls for ever, while `well` says so.
    pub async fn run(self, well: impl Fn() -> bool + Send) {
        let mut pace = tokio::time::interval(self.every);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            if !well() {
                tracing::warn!("no heartbeat is sent: alerts may not arrive");
                continue;
            }
            let request = self.http.post(&self.url, "text/plain", String::new());
            match attempt(request, Timestamp::now()).await {
                Outcome::Delivered => {
                    self.taken_nanos
                        .store(clock::now().nanos(), Ordering::Relaxed);
                }
                // Never the URL: it is the secret.
                other => tracing::warn!(?other, "the heartbeat was not taken"),
            }
        }
    }
}
