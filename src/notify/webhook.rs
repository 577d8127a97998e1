//! One attempt to hand an event to a webhook, with Standard Webhooks headers.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use super::receiver::ReceiverError as WebhookError;
use super::receiver::http::HttpOptions;
pub use super::receiver::http::{AddressPolicy, any_address, public_addresses};
use super::receiver::{self, Receiver as _, webhook};
use crate::config::Secret;

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Delivered,
    /// Worth another attempt, not before `after` when the receiver said so.
    Retry {
        /// From `Retry-After`.
        after: Option<Duration>,
        /// What happened, in a word: `timeout`, `connect`, `status 503`.
        what: String,
    },
    /// Final: the receiver will never take this event.
    Dead {
        /// Status code.
        status: u16,
    },
}

impl From<receiver::Outcome> for Outcome {
    fn from(outcome: receiver::Outcome) -> Self {
        match outcome {
            receiver::Outcome::Delivered => Self::Delivered,
            receiver::Outcome::Retry { after, what, .. } => Self::Retry { after, what },
            receiver::Outcome::Dead { status } => Self::Dead { status },
            // An event cannot be made smaller.
            receiver::Outcome::TooLarge => Self::Dead { status: 413 },
        }
    }
}

/// An endpoint.
pub struct Webhook(webhook::Webhook);

impl Webhook {
    /// Checks the endpoint and builds its client.
    pub fn new(
        url: &Secret,
        key: Option<&Secret>,
        timeout: Duration,
        allowed: AddressPolicy,
    ) -> Result<Self, WebhookError> {
        webhook::Webhook::new(&webhook::Options {
            url: url.clone(),
            keys: key.cloned().into_iter().collect(),
            http: HttpOptions {
                timeout,
                ..HttpOptions::new(allowed)
            },
        })
        .map(Self)
    }

    /// Scheme and host of the endpoint, fit for logs.
    pub fn place(&self) -> String {
        self.0.place()
    }

    /// Sends one event once. `now` goes into the signature.
    pub async fn send(&self, id: &str, body: Arc<str>, now: Timestamp) -> Outcome {
        let body = String::from(&*body);
        self.0.post(id, "application/json", body, now).await.into()
    }
}
