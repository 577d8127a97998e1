//! HTTP with limits: address policy, redirects, deadlines, body sizes, request pacing.
//!
//! Everything that an origin can do to a monitor is bounded here: where it may send us ([`policy`]), how long it may
//! stay silent, how much it may send ([`client`]), and how often we call while it fails ([`pace`]).

mod body;
pub mod client;
pub mod pace;
pub mod policy;

use std::time::Duration;

use detectors::base::Cause;

pub use body::Body;
pub use client::{Fetcher, Request, What};
pub use pace::{Backoff, Pacer};

use super::stats::RequestResult;

/// Why something could not be fetched.
///
/// [`Cause::AddressRefused`], [`Cause::SchemeRefused`], [`Cause::RedirectRefused`] and [`Cause::TooLarge`] are this
/// monitor's own refusals; all others are the origin's or the network's. Every cause may be gone at the next try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// Machine-readable cause.
    pub cause: Cause,
    /// What the origin asked for in `Retry-After`, at most [`pace::RETRY_AFTER_MAX`].
    pub retry_after: Option<Duration>,
    /// A sentence with scheme and host only: never a path, query or user.
    pub detail: String,
}

impl FetchError {
    /// An error without `Retry-After`.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            retry_after: None,
            detail: detail.into(),
        }
    }

    /// Class for the request counters.
    pub fn result(&self) -> RequestResult {
        match self.cause {
            Cause::HttpNotFound | Cause::AuthRefused | Cause::HttpClientError => {
                RequestResult::Http4xx
            }
            Cause::HttpServerError => RequestResult::Http5xx,
            Cause::Timeout => RequestResult::Timeout,
            Cause::TooLarge | Cause::PlaylistInvalid | Cause::Undecodable => RequestResult::Parse,
            _ => RequestResult::Connect,
        }
    }
}
