//! Prints of a stream that another instance watches.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use url::Url;

use super::wire::{self, Place};
use crate::config::{Input, Limits, Secret};
use crate::ingest::fetch::{Backoff, FetchError, Fetcher, Request, What};
use crate::ingest::stats::Stats;
use crate::lane::Feed;
use detectors::base::Cause;

/// Prints come about once a second.
const EVERY: Duration = Duration::from_secs(1);

/// Asks another instance for prints until nobody holds the feed any more.
///
/// `url` is that of the stream in the other's API, `…/api/v1/streams/ID`. Redirects are not followed, so that the token
/// goes to the place that was named, and nowhere else. What goes wrong is told in the log when it begins; the detector
/// tells that nothing comes.
pub async fn follow(
    input: Input,
    url: Secret,
    token: Option<Secret>,
    stream: Arc<str>,
    feed: Weak<Feed>,
) {
    let other = match Other::new(&input, &url, token.as_ref()) {
        Ok(other) => other,
        Err(error) => {
            tracing::error!(%stream, "no reference: {error}");
            return;
        }
    };
    let mut place = None;
    let mut backoff = Backoff::default();
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while feed.strong_count() > 0 {
        pace.tick().await;
        let came = other.ask(place).await;
        let Some(feed) = feed.upgrade() else { return };
        match came {
            Ok((next, prints)) => {
                if backoff.failing() {
                    tracing::info!(%stream, "the reference is back");
                }
                backoff.worked();
                place = Some(next);
                prints.into_iter().for_each(|print| feed.push(print));
            }
            Err(error) => {
                if !backoff.failing() {
                    tracing::warn!(%stream, cause = error.cause.as_str(), "no reference: {error}");
                }
                drop(feed);
                sleep(backoff.failed(error.retry_after, fastrand::f64())).await;
            }
        }
    }
}

struct Other {
    fetcher: Fetcher,
    url: Url,
}

impl Other {
    /// Limits are those of the stream's own input.
    fn new(input: &Input, url: &Secret, token: Option<&Secret>) -> Result<Self, FetchError> {
        let bad = |_| {
            FetchError::new(
                Cause::SchemeRefused,
                "the URL of the reference cannot be read",
            )
        };
        let bearer = |token: &Secret| Secret::new(format!("Bearer {}", token.expose()));
        let input = Input {
            url: url.clone(),
            headers: (token.iter())
                .map(|token| ("Authorization".to_owned(), bearer(token)))
                .collect(),
            // The operator wrote it, and nothing leads on from there.
            allow_private: true,
            limits: Limits {
                redirects: 0,
                ..input.limits
            },
            ..input.clone()
        };
        let mut url = Url::parse(url.expose()).map_err(bad)?;
        let path = format!("{}/prints", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self {
            fetcher: Fetcher::new(&input, Arc::new(Stats::default()))?,
            url,
        })
    }

    async fn ask(
        &self,
        place: Option<Place>,
    ) -> Result<(Place, Vec<detectors::base::Print>), FetchError> {
        let mut url = self.url.clone();
        if let Some(place) = place {
            (url.query_pairs_mut())
                .append_pair("run", &place.run.to_string())
                .append_pair("next", &place.next.to_string());
        }
        let limits = self.fetcher.limits();
        let request = Request {
            url: &url,
            referrer: None,
            // As small as a key.
            what: What::Key,
            range: None,
            skip: 0,
            total: limits.connect + limits.idle,
        };
        let (_, bytes) = self.fetcher.bytes(request).await?;
        wire::decode(&bytes).map_err(|error| FetchError::new(Cause::Undecodable, error.to_string()))
    }
}
