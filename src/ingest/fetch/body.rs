//! Reading the body of an answer: in time, within its limits, and cut to the wanted part.

use std::time::Duration;

use bytes::Bytes;
use detectors::base::Cause;
use reqwest::{Response, header};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};
use url::Url;

use super::client::{Fetcher, What, date, silent, too_large};
use super::policy::shown;
use super::{FetchError, RequestResult};

#[derive(Debug)]
pub(super) enum Bytesource {
    Http(Response),
    File(tokio::fs::File),
    Empty,
}

/// A body that is being read.
#[derive(Debug)]
pub struct Body<'a> {
    pub(super) fetcher: &'a Fetcher,
    /// Where it came from, after redirects.
    pub url: Url,
    pub(super) source: Bytesource,
    pub(super) what: What,
    pub(super) drop: u64,
    pub(super) wanted: Option<u64>,
    pub(super) budget: u64,
    pub(super) idle: Duration,
    pub(super) patience: Option<Duration>,
    pub(super) over: bool,
}

impl Body<'_> {
    /// `Content-Length` of an HTTP answer, when told.
    pub fn length(&self) -> Option<u64> {
        match &self.source {
            Bytesource::Http(response) => response.content_length(),
            Bytesource::File(_) | Bytesource::Empty => None,
        }
    }

    /// `Date` of an HTTP answer, when told.
    pub fn date(&self) -> Option<jiff::Timestamp> {
        match &self.source {
            Bytesource::Http(response) => date(response.headers()),
            Bytesource::File(_) | Bytesource::Empty => None,
        }
    }

    /// `Content-Type` of an HTTP answer without its parameters, in lower case, when told.
    pub fn content_type(&self) -> Option<String> {
        let Bytesource::Http(response) = &self.source else {
            return None;
        };
        let told = response
            .headers()
            .get(header::CONTENT_TYPE)?
            .to_str()
            .ok()?;
        let word = told.split(';').next()?.trim();
        Some(word.to_ascii_lowercase())
    }

    /// The next bytes, or `None` at the end. Waits at most [`Limits::idle`](crate::config::Limits::idle) for them, and never beyond the
    /// request's total deadline. After an error or the end there is nothing more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        while !self.over {
            let began = Instant::now();
            let read = self.read().await;
            if let Some(patience) = &mut self.patience {
                *patience = patience.saturating_sub(began.elapsed());
            }
            match read {
                Ok(Some(chunk)) => {
                    if let Some(bytes) = self.cut(chunk) {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => self.end(RequestResult::Ok),
                Err(error) => {
                    self.end(error.result());
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    fn end(&mut self, result: RequestResult) {
        if !self.over {
            self.over = true;
            self.source = Bytesource::Empty;
            // A playlist that arrived is counted when it has been read.
            if (self.what, result) != (What::Playlist, RequestResult::Ok) {
                self.fetcher.count(self.what, result);
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, FetchError> {
        let short = |url: &Url| {
            FetchError::new(
                Cause::PeerClosed,
                format!("{} ended the body early", shown(url)),
            )
        };
        let wait = self.patience.map_or(self.idle, |left| left.min(self.idle));
        let chunk = match &mut self.source {
            Bytesource::Http(response) => match timeout(wait, response.chunk()).await {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(error)) if error.is_timeout() => return Err(silent(&self.url)),
                Ok(Err(_)) => return Err(short(&self.url)),
                Err(_) => return Err(silent(&self.url)),
            },
            Bytesource::File(file) => {
                let mut buffer = vec![0; 64 << 10];
                let read = file
                    .read(&mut buffer)
                    .await
                    .map_err(|e| FetchError::new(Cause::FileUnreadable, e.kind().to_string()))?;
                buffer.truncate(read);
                (read > 0).then(|| buffer.into())
            }
            Bytesource::Empty => None,
        };
        let Some(chunk) = chunk else {
            return match self.wanted {
                Some(missing) if missing > 0 && self.what != What::Endless => Err(short(&self.url)),
                _ => Ok(None),
            };
        };
        let size = chunk.len() as u64;
        if matches!(self.what, What::Segment | What::Endless) {
            self.fetcher.stats.input_bytes.add(size);
        }
        self.budget = self
            .budget
            .checked_sub(size)
            .ok_or_else(|| too_large(&self.url))?;
        Ok(Some(chunk))
    }

    /// Takes the wanted part out of a chunk and ends the body when that was all.
    fn cut(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let dropped = usize::try_from(self.drop).map_or(chunk.len(), |n| n.min(chunk.len()));
        let mut chunk = chunk.split_off(dropped);
        self.drop -= dropped as u64;
        if let Some(wanted) = &mut self.wanted {
            chunk.truncate(usize::try_from(*wanted).unwrap_or(usize::MAX));
            *wanted -= chunk.len() as u64;
            if *wanted == 0 {
                self.end(RequestResult::Ok);
            }
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}
