//! Ways of telling people: what is sent to each kind of receiver, and what its answer means.
//!
//! A receiver neither keeps nor retries anything. Its body is rendered once, when a change is stored, and holds no
//! secret; what must be fresh or secret (signatures, keys, the end of an alert) is added when it is sent.

pub mod alertmanager;
mod cloudevent;
pub mod http;
pub mod pagerduty;
pub mod slack;
#[cfg(feature = "aws")]
pub mod sns;
pub mod webhook;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;

use super::event::{LABELS, clean, clean_to};
use super::notice::{DEFECTS, Message, STREAMS};
use crate::alert::incident::News;
use crate::config::template::{Markup, Template, TemplateError, Words};
use crate::config::{self, ReceiverKind, Secret};

/// Longest word of ours, time or id, in bytes.
const WORD_BYTES: usize = 64;
/// Longest title, in bytes.
const TITLE_BYTES: usize = 1024;
/// Longest text, in bytes.
const TEXT_BYTES: usize = 2048;
/// Longest link, in bytes; longer ones are left out, since a part of one opens nothing.
const LINK_BYTES: usize = 1024;
/// Most sets of evidence of a defect.
const EVIDENCE: usize = 8;
/// Longest name of such a set, in bytes: that of one in a bucket.
const SET_BYTES: usize = 512;

/// One way of telling people.
pub trait Receiver: Send + Sync {
    /// What is to be sent for a message in our own words; rendered once, when the change is stored. `None`: this kind of
    /// receiver is not told of it.
    fn render(&self, message: &Message) -> Option<String> {
        self.render_in(message, &Words::default())
    }

    /// As [`Receiver::render`], in the words of a template, see [`words`].
    fn render_in(&self, message: &Message, words: &Words) -> Option<String>;

    /// How what a template is given is written for it.
    fn markup(&self) -> Markup {
        Markup::Plain
    }

    /// One attempt. `id`: stable over retries. `now` goes into signatures and stamps.
    fn send<'a>(&'a self, id: &'a str, body: &'a str, now: Timestamp) -> BoxFuture<'a, Outcome>;

    /// Scheme and host, fit for logs.
    fn place(&self) -> String;

    /// How fast it may be called.
    fn limit(&self) -> Limit;

    /// How often what is open must be sent again, if at all.
    fn resend_every(&self) -> Option<Duration> {
        None
    }

    /// A smaller body after [`Outcome::TooLarge`]; `None` when there is nothing left to leave out.
    fn shrink(&self, body: &str) -> Option<String>;

    /// One message that names what came and went while the receiver could not be reached.
    fn digest(&self, digest: &Digest) -> Option<String>;
}

impl fmt::Debug for dyn Receiver + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.place()).finish()
    }
}

/// The receiver that a configuration describes.
///
/// # Errors
/// It cannot be used like that.
pub fn of(
    config: &config::Receiver,
    allowed: http::AddressPolicy,
) -> Result<Box<dyn Receiver>, ReceiverError> {
    let http = http::HttpOptions {
        timeout: config.timeout,
        proxy: config.proxy.clone(),
        allowed,
    };
    Ok(match &config.kind {
        ReceiverKind::Webhook { url, keys } => {
            Box::new(webhook::Webhook::new(&webhook::Options {
                url: url.clone(),
                keys: keys.clone(),
                http,
            })?)
        }
        ReceiverKind::PagerDuty {
            endpoint,
            routing_key,
        } => Box::new(pagerduty::PagerDuty::new(&pagerduty::Options {
            routing_key: routing_key.clone(),
            endpoint: (endpoint.clone()).unwrap_or_else(|| Secret::new(pagerduty::ENDPOINT)),
            http,
        })?),
        ReceiverKind::Alertmanager { peers, token } => {
            Box::new(alertmanager::Alertmanager::new(&alertmanager::Options {
                peers: peers.clone(),
                auth: token.clone().map(alertmanager::Auth::Bearer),
                http,
            })?)
        }
        ReceiverKind::Slack { url } => Box::new(slack::Slack::new(&slack::Options {
            url: url.clone(),
            http,
        })?),
        #[cfg(feature = "aws")]
        ReceiverKind::Sns {
            topic_arn,
            region,
            endpoint,
        } => Box::new(sns::Sns::new(&sns::Options {
            topic_arn: topic_arn.clone(),
            region: region.clone(),
            endpoint: endpoint.clone(),
            http,
        })?),
        #[cfg(not(feature = "aws"))]
        ReceiverKind::Sns { .. } => return Err(ReceiverError::NotBuilt),
    })
}

/// How fast a receiver may be called: a bucket of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Tokens that come in, a minute.
    pub per_minute: u32,
    /// Tokens that it holds.
    pub burst: u32,
}

/// Whether the receiver may have acted on a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was never reached, or said that it did nothing.
    No,
    /// Cut off after sending: sending it again may tell it twice.
    Maybe,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took it.
    Delivered,
    /// Worth another attempt, not before `after` when the receiver said so.
    Retry {
        /// From `Retry-After`, at most an hour.
        after: Option<Duration>,
        /// What happened, in a word: `timeout`, `connect`, `status 503`.
        what: String,
        /// Whether it may have reached it.
        sent: Sent,
    },
    /// Final: the receiver will never take this.
    Dead {
        /// Status code; 0 when no request could be made of it.
        status: u16,
    },
    /// It takes only less: see [`Receiver::shrink`].
    TooLarge,
}

/// Why a receiver cannot be used as configured. The operator is at fault; trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverError {
    /// Not an `http:` or `https:` URL with a host.
    #[error("the URL is not one of http or https with a host")]
    Url,
    /// The host, or the proxy's, is an address that may not be called.
    #[error("the URL's address is private, link-local or loopback; `allow_private` permits it")]
    Address,
    /// Not base64 after `whsec_`.
    #[error("the signing key is not `whsec_` and base64")]
    Key,
    /// Empty, or with other characters than letters, digits, `-` and `_`.
    #[error("the routing key is not one of letters and digits")]
    RoutingKey,
    /// No peer at all.
    #[error("there is no URL to send to")]
    NoPeers,
    /// It cannot be a header's value.
    #[error("the token is empty or holds characters that a header cannot carry")]
    Token,
    /// Not an `http:` or `https:` URL with a host.
    #[error("the proxy is not a URL of http or https with a host")]
    Proxy,
    /// Not an ARN of a topic.
    #[error("the topic is not an ARN of SNS")]
    Topic,
    /// Feature `aws` was left out when this was built.
    #[error("this build has no `aws`")]
    NotBuilt,
    /// The HTTP client cannot be built (no trusted certificates).
    #[error("the HTTP client cannot be built")]
    Client,
}

/// What came and went while a receiver could not be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Which process saw it.
    pub instance: String,
    /// Since when it could not be reached, UTC.
    pub from: String,
    /// Until when, UTC.
    pub until: String,
    /// Titles of the incidents, newest last.
    pub titles: Vec<String>,
    /// Unique, and the same on every retry.
    pub id: String,
}

impl Digest {
    /// "3 incidents came and went between … and …, while this receiver could not be reached."
    fn headline(&self) -> String {
        let incidents = match self.titles.len() {
            1 => "1 incident".to_owned(),
            n => format!("{n} incidents"),
        };
        let (from, until) = (
            clean_to(&self.from, WORD_BYTES),
            clean_to(&self.until, WORD_BYTES),
        );
        format!(
            "{incidents} came and went between {from} and {until}, while this receiver could not be reached."
        )
    }

    /// The newest titles, each as `write` writes it, newest last, together at most `limit_bytes` as JSON; and how many
    /// older ones are left out.
    fn newest(&self, limit_bytes: usize, write: impl Fn(&str) -> String) -> (Vec<String>, usize) {
        let mut room = limit_bytes;
        let mut kept: Vec<String> = (self.titles.iter().rev())
            .map(|title| write(&clean(title)))
            .map_while(|title| {
                room = room.checked_sub(json(&title).len() + 1)?;
                Some(title)
            })
            .collect();
        kept.reverse();
        let left_out = self.titles.len() - kept.len();
        (kept, left_out)
    }

    /// [`Digest::newest`] one a line, and a line for those left out.
    fn lines(&self, limit_bytes: usize, write: impl Fn(&str) -> String) -> String {
        let (mut lines, left_out) = self.newest(limit_bytes, write);
        if left_out > 0 {
            lines.insert(0, format!("({left_out} older ones are not named.)"));
        }
        lines.join("\n")
    }
}

/// Whether receivers are told of it at all.
fn is_told(message: &Message) -> bool {
    message.news != News::Recorded.as_str()
}

/// What a template says of a message to this receiver; all ours when it is empty. It is given texts that are as clean and
/// bounded as those of our own words.
///
/// # Errors
/// The template does not fit the message.
pub fn words(
    template: &Template,
    message: &Message,
    receiver: &dyn Receiver,
) -> Result<Words, TemplateError> {
    if template.is_empty() {
        return Ok(Words::default());
    }
    let fields = serde_json::to_value(bounded(message)).unwrap_or_default();
    template.render(&fields, receiver.markup())
}

/// A message in the words of a template.
fn in_words<'a>(message: &'a Message, words: &Words) -> Cow<'a, Message> {
    if *words == Words::default() {
        return Cow::Borrowed(message);
    }
    let mut said = message.clone();
    if let Some(title) = &words.title {
        said.title.clone_from(title);
    }
    if let Some(text) = &words.text {
        said.text.clone_from(text);
    }
    Cow::Owned(said)
}

/// Clean lines, together at most `bytes`.
fn lines_to(text: &str, bytes: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| clean_to(line, bytes)).collect();
    let mut lines = lines.join("\n");
    lines.truncate(lines.floor_char_boundary(bytes));
    lines
}

/// Links to evidence, the worst defect's first.
fn links(message: &Message) -> impl Iterator<Item = &str> {
    let all = message.defects.iter().flat_map(|defect| &defect.links);
    all.map(String::as_str).take(EVIDENCE)
}

/// JSON of what cannot fail to be JSON.
fn json(of: &impl Serialize) -> String {
    serde_json::to_string(of).unwrap_or_default()
}

/// A copy with clean, bounded texts, of at most `limit_bytes` as JSON: defects are left out first, then streams, then
/// labels. What remains without them is below 16,000 bytes.
fn fitted(message: &Message, limit_bytes: usize) -> Message {
    let mut fitted = bounded(message);
    while json(&fitted).len() > limit_bytes {
        let cut = fitted.defects.pop().is_some()
            || fitted.streams.pop().is_some()
            || fitted.labels.pop_last().is_some();
        if !cut {
            break;
        }
    }
    fitted
}

/// A copy in which every text and list is as bounded as [`Message::of`] makes it, whoever made this one.
fn bounded(message: &Message) -> Message {
    let mut bounded = Message {
        labels: (message.labels.iter().take(LABELS))
            .map(|(name, value)| (clean(name), clean(value)))
            .collect(),
        streams: message
            .streams
            .iter()
            .take(STREAMS)
            .map(|s| clean(s))
            .collect(),
        defects: message.defects.iter().take(DEFECTS).cloned().collect(),
        ..message.clone()
    };
    let words = [
        &mut bounded.news,
        &mut bounded.state,
        &mut bounded.severity,
        &mut bounded.tier,
        &mut bounded.topic,
        &mut bounded.cause,
        &mut bounded.opened,
        &mut bounded.at,
    ];
    for word in words.into_iter().chain(&mut bounded.resolved) {
        *word = clean_to(word, WORD_BYTES);
    }
    let names = [
        &mut bounded.message_id,
        &mut bounded.incident_id,
        &mut bounded.key,
        &mut bounded.name,
        &mut bounded.instance,
    ];
    let known = [
        &mut bounded.stream,
        &mut bounded.quiet,
        &mut bounded.quiet_by,
        &mut bounded.acknowledged_by,
    ];
    for name in names.into_iter().chain(known.into_iter().flatten()) {
        *name = clean(name);
    }
    bounded.title = clean_to(&bounded.title, TITLE_BYTES);
    bounded.text = lines_to(&bounded.text, TEXT_BYTES);
    for defect in &mut bounded.defects {
        let texts = [
            &mut defect.defect_id,
            &mut defect.detector,
            &mut defect.rule,
            &mut defect.severity,
            &mut defect.cause,
            &mut defect.unit,
            &mut defect.says,
            &mut defect.start,
        ];
        let known = [
            &mut defect.place,
            &mut defect.track,
            &mut defect.member,
            &mut defect.end,
        ];
        defect.evidence.truncate(EVIDENCE);
        let whole = |link: &String| clean_to(link, LINK_BYTES) == *link && link.starts_with("http");
        defect.links.retain(whole);
        defect.links.truncate(EVIDENCE);
        for text in texts.into_iter().chain(known.into_iter().flatten()) {
            *text = clean(text);
        }
        for set in &mut defect.evidence {
            *set = clean_to(set, SET_BYTES);
        }
    }
    bounded
}
