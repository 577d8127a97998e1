//! The part that a playlist hints at, requested before it is there.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use url::Url;

use super::{Session, join};
use crate::ingest::fetch::{FetchError, Request, What};
use crate::transport::playlist::follow::held;
use crate::transport::playlist::{ByteRange, Hint, Part};

/// After so many hints in a row that came to nothing, no more are followed.
const VAIN_MAX: u32 = 3;

type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + 'a>>;

/// Requests ahead what is hinted at, one thing at a time. What comes of it is nobody's fault.
pub(super) struct Ahead<'a> {
    session: &'a Session<'a>,
    asked: Option<Asked<'a>>,
    /// Hints in a row that came to nothing.
    vain: u32,
}

struct Asked<'a> {
    url: Url,
    range: Option<ByteRange>,
    state: State<'a>,
}

enum State<'a> {
    Fetching(Fetching<'a>),
    Fetched(Bytes),
    Failed,
}

impl<'a> Ahead<'a> {
    pub fn new(session: &'a Session<'a>) -> Self {
        Self {
            session,
            asked: None,
            vain: 0,
        }
    }

    /// Requests what is hinted at, unless that is under way.
    pub fn ask(&mut self, hint: &Hint, base: &Arc<Url>, target: Duration) {
        let Ok(url) = join(base, &hint.uri) else {
            return;
        };
        // By the whole address: what it is relative to differs from load to load, in its query.
        let range = hint.range();
        let under_way = |asked: &Asked<'_>| (&asked.url, asked.range) == (&url, range);
        if self.asked.as_ref().is_some_and(under_way) {
            return;
        }
        if self.asked.take().is_some() {
            self.vain += 1;
        }
        if self.vain >= VAIN_MAX || !hint.is_bounded() {
            return;
        }
        let (session, from, to) = (self.session, Arc::clone(base), url.clone());
        let fetching = async move {
            let request = Request {
                url: &to,
                referrer: Some(&from),
                what: What::Segment,
                range,
                skip: 0,
                total: held(target),
            };
            let (_, bytes) = session.fetcher.bytes_held(request, held(target)).await?;
            Ok(bytes)
        };
        self.asked = Some(Asked {
            url,
            range,
            state: State::Fetching(Box::pin(fetching)),
        });
    }

    /// Goes on with the request. Never returns.
    pub async fn wait(&mut self) {
        if let Some(asked) = &mut self.asked {
            asked.settle().await;
        }
        std::future::pending().await
    }

    /// The bytes of this part, if it is the one that was requested and they come.
    pub async fn take(&mut self, part: &Part, base: &Url) -> Option<Bytes> {
        let mut asked = self.asked.take()?;
        let meant =
            asked.range == part.range && join(base, &part.uri).is_ok_and(|url| url == asked.url);
        if meant {
            let first_byte = self.session.fetcher.limits().connect;
            let _ = timeout(first_byte, asked.settle()).await;
        }
        match asked.state {
            State::Fetched(bytes) if meant => {
                self.vain = 0;
                Some(bytes)
            }
            _ => {
                self.vain += 1;
                None
            }
        }
    }
}

impl Asked<'_> {
    async fn settle(&mut self) {
        if let State::Fetching(fetching) = &mut self.state {
            self.state = match fetching.await {
                Ok(bytes) => State::Fetched(bytes),
                Err(_) => State::Failed,
            };
        }
    }
}
