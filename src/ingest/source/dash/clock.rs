//! The clock of the origin: which segments there are by now depends on it.
//!
//! What the manifest names (`UTCTiming`) counts, else our own clock. A clock is doubted when it leads to segments that
//! are not there; then the others that are known are tried, if they are plainly different.

use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::super::segments::Session;
use super::Manifest;
use crate::ingest::fetch::{FetchError, Request, What};
use crate::transport::playlist::mpd::{self, UnixNanos};

/// A clock that an origin names is asked again after this long, or after this long when it did not answer.
const GOOD_FOR: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_secs(30);

/// Clocks that are further apart than this contradict each other. Less is the way of an answer, a date in whole
/// seconds, or the pace of a packager.
const APART: i64 = 5_000_000_000;

/// The wall clock, as far as the origin has another one than we. All values are nanoseconds ahead of ours.
#[derive(Debug)]
pub(super) struct OriginClock {
    ahead: UnixNanos,
    /// What the manifest's clock told last.
    told: Option<UnixNanos>,
    /// Under it segments were found.
    proven: Option<UnixNanos>,
    /// Under these there were none.
    doubted: Vec<UnixNanos>,
    asked: Option<(Instant, Duration)>,
    /// The manifest is new.
    pub fresh: bool,
    /// Segments read when it was last looked.
    read: u64,
    said_unused: bool,
    said_contradiction: bool,
}

impl Default for OriginClock {
    fn default() -> Self {
        Self {
            ahead: 0,
            told: None,
            proven: None,
            doubted: Vec::new(),
            asked: None,
            fresh: true,
            read: 0,
            said_unused: false,
            said_contradiction: false,
        }
    }
}

fn near(a: UnixNanos, b: UnixNanos) -> bool {
    a.abs_diff(b) <= APART.unsigned_abs()
}

impl OriginClock {
    pub(super) fn now(&self) -> UnixNanos {
        local_clock().saturating_add(self.ahead)
    }

    /// Learns from the first clock of a new manifest that answers. Without any, our own counts.
    pub(super) async fn learn(&mut self, session: &Session<'_>, manifest: &Manifest) {
        let fresh = std::mem::take(&mut self.fresh);
        if !manifest.mpd.live || !fresh {
            return;
        }
        let stream = &session.cx.stream.id;
        for clock in &manifest.mpd.clocks {
            let told = match clock {
                mpd::Clock::Unused(scheme) => {
                    if !std::mem::replace(&mut self.said_unused, true) {
                        tracing::info!(%stream, scheme, "a clock of the manifest is not used; the next one counts");
                    }
                    continue;
                }
                mpd::Clock::Direct(time) => Some(*time),
                _ if !self.due() => return,
                mpd::Clock::Http(url) => ask(session, manifest, url, What::Key).await,
                mpd::Clock::Head(url) => ask(session, manifest, url, What::Head).await,
            };
            if !matches!(clock, mpd::Clock::Direct(_)) {
                let again = if told.is_some() { GOOD_FOR } else { RETRY };
                self.asked = Some((Instant::now(), again));
            }
            if let Some(told) = told {
                self.take(session, told.saturating_sub(local_clock()));
                return;
            }
        }
    }

    fn due(&self) -> bool {
        self.asked.is_none_or(|(at, again)| at.elapsed() >= again)
    }

    /// A clock was told. One that was found wrong, or contradicts one that leads to segments, waits for doubts.
    fn take(&mut self, session: &Session<'_>, told: UnixNanos) {
        self.told = Some(told);
        let doubted = self.doubted.iter().any(|other| near(*other, told));
        let contradicts = self.proven.is_some_and(|proven| !near(proven, told));
        if !doubted && !contradicts {
            self.ahead = told;
            self.said_contradiction = false;
        } else if contradicts && !std::mem::replace(&mut self.said_contradiction, true) {
            let stream = &session.cx.stream.id;
            let off_secs = (told.saturating_sub(self.ahead)) / 1_000_000_000;
            tracing::warn!(%stream, off_secs, "the clock that the manifest names contradicts the one in use, which leads to segments");
        }
    }

    /// Notes whether segments have been read under this clock.
    pub(super) fn note(&mut self, session: &Session<'_>) {
        let edge = *session.edge.borrow();
        if edge.read > self.read && edge.missing == 0 {
            self.proven = Some(self.ahead);
        }
        self.read = edge.read;
    }

    /// Under this clock segments are not there: tries another one. Tells whether there is one.
    pub(super) fn doubt(&mut self, session: &Session<'_>) -> bool {
        // What follows is to be judged anew.
        session.edge.send_modify(|edge| edge.missing = 0);
        let before = self.ahead;
        self.doubted.push(before);
        let dated = session.fetcher.date_ahead();
        let dated = dated.map(|secs| secs.saturating_mul(1_000_000_000));
        let known = [self.told, self.proven.take(), Some(0), dated];
        let mut known = known.into_iter().flatten();
        let other = known.find(|one| !self.doubted.iter().any(|other| near(*other, *one)));
        self.ahead = match other {
            Some(other) => other,
            None => {
                // All have failed: begin again with the first.
                self.doubted.clear();
                self.told.unwrap_or(0)
            }
        };
        let changed = !near(self.ahead, before);
        if changed {
            let stream = &session.cx.stream.id;
            let by_secs = (self.ahead.saturating_sub(before)) / 1_000_000_000;
            tracing::warn!(%stream, by_secs, "the clock in use leads to no segments; another one is tried");
        }
        changed
    }
}

async fn ask(
    session: &Session<'_>,
    manifest: &Manifest,
    url: &Url,
    what: What,
) -> Option<UnixNanos> {
    let limits = session.fetcher.limits();
    let request = Request {
        url,
        referrer: Some(&manifest.base),
        what,
        range: None,
        skip: 0,
        total: limits.connect + limits.idle,
    };
    let told = match what {
        What::Head => dated(session, request).await,
        _ => written(session, request).await,
    };
    let told = told.ok().flatten();
    if told.is_none() {
        let stream = &session.cx.stream.id;
        tracing::warn!(%stream, "a clock that the manifest names tells no time");
    }
    told
}

async fn dated(
    session: &Session<'_>,
    request: Request<'_>,
) -> Result<Option<UnixNanos>, FetchError> {
    let date = session.fetcher.open(request).await?.date();
    Ok(date.and_then(|date| UnixNanos::try_from(date.as_nanosecond()).ok()))
}

async fn written(
    session: &Session<'_>,
    request: Request<'_>,
) -> Result<Option<UnixNanos>, FetchError> {
    let (_, bytes) = session.fetcher.bytes(request).await?;
    Ok(std::str::from_utf8(&bytes).ok().and_then(mpd::time))
}

pub(super) fn local_clock() -> UnixNanos {
    UnixNanos::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(UnixNanos::MAX)
}
