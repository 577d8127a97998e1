//! Amazon SNS: a topic gets the CloudEvent that a webhook gets.
//!
//! What goes with it is read from the event when it is sent: a subject for mail, attributes for filter policies, and for
//! FIFO topics the group (the incident's key) and the id by which repeats are dropped.

use aws_sdk_sns::Client;
use aws_sdk_sns::config::{Config, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_sns::types::MessageAttributeValue;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::http::{Http, HttpOptions, judge};
use super::{Digest, Limit, Outcome, Receiver, ReceiverError, Sent, cloudevent, in_words, is_told};
use crate::aws::{self, Connector, Failure};
use crate::config::Secret;
use crate::config::template::Words;
use crate::notify::notice::Message;
use crate::telemetry::log::redact;

/// SNS takes 256 KiB, attributes included, and counts a message for each 64 KiB of it.
const DATA_BYTES: usize = 56_000;
/// SNS wants a subject to be shorter than 100 characters.
const SUBJECT_CHARS: usize = 99;
/// SNS's limit of the group and of the id of a message, characters.
const ID_CHARS: usize = 128;
/// Attribute and where it stands in the event.
const ATTRIBUTES: [(&str, &str); 5] = [
    ("type", "/type"),
    ("severity", "/data/severity"),
    ("tier", "/data/tier"),
    ("stream", "/data/stream"),
    ("state", "/data/state"),
];
/// The group of what is about no incident.
const NO_INCIDENT: &str = "missed";

/// Which topic.
#[derive(Debug, Clone)]
pub struct Options {
    /// `arn:aws:sns:REGION:ACCOUNT:NAME`; a name that ends in `.fifo` is a FIFO topic's.
    pub topic_arn: String,
    /// Region to call, usually the ARN's.
    pub region: String,
    /// Instead of the region's own, for emulators and private endpoints.
    pub endpoint: Option<Secret>,
    /// How it is called.
    pub http: HttpOptions,
}

/// A topic of Amazon SNS.
pub struct Sns {
    http: Http,
    topic_arn: String,
    region: String,
    endpoint: Option<Url>,
    proxy: Option<Url>,
    /// Instead of the chain's.
    credentials: Option<Credentials>,
    /// With the credentials of the chain as it was evaluated last.
    client: Mutex<Option<Client>>,
}

impl Sns {
    /// Checks topic and endpoint, and builds the HTTP client. Credentials are asked for when something is sent.
    pub fn new(options: &Options) -> Result<Self, ReceiverError> {
        if !options.topic_arn.starts_with("arn:") {
            return Err(ReceiverError::Topic);
        }
        let http = Http::new(&options.http)?;
        let endpoint = options.endpoint.as_ref();
        let proxy = options.http.proxy.as_ref();
        Ok(Self {
            endpoint: endpoint.map(|url| http.endpoint(url)).transpose()?,
            proxy: proxy.and_then(|url| Url::parse(url.expose()).ok()),
            http,
            topic_arn: options.topic_arn.clone(),
            region: options.region.clone(),
            credentials: None,
            client: Mutex::default(),
        })
    }

    /// The same with these credentials instead of the chain's.
    pub fn signing_with(self, credentials: Credentials) -> Self {
        Self {
            credentials: Some(credentials),
            ..self
        }
    }

    fn is_fifo(&self) -> bool {
        self.topic_arn.ends_with(".fifo")
    }

    async fn client(&self) -> Option<Client> {
        let mut client = self.client.lock().await;
        if client.is_none() {
            let signs = match &self.credentials {
                Some(own) => SharedCredentialsProvider::new(own.clone()),
                None => SharedCredentialsProvider::new(
                    aws::credentials(&self.region, self.proxy.as_ref())
                        .await
                        .ok()?,
                ),
            };
            let config = Config::builder()
                .behavior_version(aws::behavior())
                .region(Region::new(self.region.clone()))
                .credentials_provider(signs)
                .http_client(Connector::new(self.http.client()))
                // Attempts are the courier's, deadlines the HTTP client's.
                .retry_config(RetryConfig::disabled())
                .timeout_config(TimeoutConfig::disabled());
            let config = match &self.endpoint {
                Some(url) => config.endpoint_url(url.as_str()),
                None => config,
            };
            *client = Some(Client::from_conf(config.build()));
        }
        client.clone()
    }

    async fn publish(&self, id: &str, body: &str) -> Outcome {
        let Ok(event) = serde_json::from_str::<Value>(body) else {
            return Outcome::Dead { status: 0 };
        };
        let Some(client) = self.client().await else {
            return Outcome::Retry {
                after: None,
                what: "credentials".to_owned(),
                sent: Sent::No,
            };
        };
        let mut publish = client
            .publish()
            .topic_arn(&self.topic_arn)
            .subject(subject(&event))
            .message(plain(body));
        for (name, place) in ATTRIBUTES {
            let value = event.pointer(place).and_then(Value::as_str);
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                continue;
            };
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(plain(value));
            if let Ok(value) = value.build() {
                publish = publish.message_attributes(name, value);
            }
        }
        if self.is_fifo() {
            let key = event.pointer("/data/key").and_then(Value::as_str);
            publish = publish
                .message_group_id(word(key.unwrap_or(NO_INCIDENT)))
                .message_deduplication_id(word(id));
        }
        match publish.send().await {
            Ok(_) => Outcome::Delivered,
            Err(error) => {
                let failure = Failure::of(&error);
                if failure.is_about_credentials() {
                    *self.client.lock().await = None;
                }
                let outcome = outcome(&failure);
                if let Outcome::Dead { .. } = outcome {
                    tracing::warn!(place = %self.place(), %failure, "the topic refuses a message");
                }
                outcome
            }
        }
    }
}

impl Receiver for Sns {
    fn render_in(&self, message: &Message, words: &Words) -> Option<String> {
        is_told(message).then(|| cloudevent::incident(&in_words(message, words), DATA_BYTES))
    }

    fn send<'a>(&'a self, id: &'a str, body: &'a str, _now: Timestamp) -> BoxFuture<'a, Outcome> {
        self.publish(id, body).boxed()
    }

    fn place(&self) -> String {
        match &self.endpoint {
            Some(url) => redact(url.as_str()),
            None => format!("sns {}", self.region),
        }
    }

    fn limit(&self) -> Limit {
        Limit {
            per_minute: 6000,
            burst: 200,
        }
    }

    fn shrink(&self, body: &str) -> Option<String> {
        cloudevent::shrink(body)
    }

    fn digest(&self, digest: &Digest) -> Option<String> {
        Some(cloudevent::missed(digest))
    }
}

/// Throttling and what has no credentials yet pass, as do statuses that pass; a refusal is final.
fn outcome(failure: &Failure) -> Outcome {
    let retry = |after, sent| Outcome::Retry {
        after,
        what: failure.to_string(),
        sent,
    };
    match failure {
        Failure::Unanswered(why) => retry(
            None,
            match why.maybe_sent {
                true => Sent::Maybe,
                false => Sent::No,
            },
        ),
        Failure::Answered { after, .. }
            if failure.is_throttled() || failure.asks_for_fresh_credentials() =>
        {
            retry(*after, Sent::No)
        }
        // Not SNS: its own answer would have been read.
        Failure::Answered {
            status: 200..=299, ..
        } => retry(None, Sent::Maybe),
        Failure::Answered { status, after, .. } => judge(*status, *after),
    }
}

/// One line of ASCII: the title, or what came and went.
fn subject(event: &Value) -> String {
    let said = |place| event.pointer(place).and_then(Value::as_str);
    let text = said("/data/title").or(said("/data/text"));
    let text = text.filter(|text| !text.is_empty()).unwrap_or("Glasswatch");
    let ascii = text.chars().map(|c| match c {
        ' '..='~' => c,
        _ => '?',
    });
    let line: String = ascii.skip_while(|c| *c == ' ').collect();
    match line.len() > SUBJECT_CHARS {
        true => format!("{}...", &line[..SUBJECT_CHARS - 3]),
        false => line,
    }
}

/// Letters, digits and punctuation only, of bounded length.
fn word(text: &str) -> String {
    let graphic = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    text.chars().take(ID_CHARS).map(graphic).collect()
}

/// Without the two code points that XML does not know: queues behind a topic refuse them. They are no characters.
fn plain(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::aws::Unanswered;
    use serde_json::json;
    use std::time::Duration;

    fn answered(status: u16, code: Option<&str>) -> Outcome {
        outcome(&Failure::Answered {
            status,
            code: code.map(str::to_owned),
            after: None,
        })
    }

    #[test]
    fn what_passes_is_tried_again_and_what_is_refused_is_final() {
        let retried = |outcome: Outcome| match outcome {
            Outcome::Retry { sent, .. } => Some(sent),
            _ => None,
        };
        for (status, code, sent) in [
            (400, Some("Throttling"), Sent::No),
            (429, Some("ThrottledException"), Sent::No),
            (400, Some("KMSThrottling"), Sent::No),
            (403, Some("ExpiredToken"), Sent::No),
            (503, Some("ServiceUnavailable"), Sent::No),
            (500, Some("InternalError"), Sent::Maybe),
            (502, None, Sent::Maybe),
            (200, None, Sent::Maybe),
        ] {
            assert_eq!(
                retried(answered(status, code)),
                Some(sent),
                "{status} {code:?}"
            );
        }
        for (status, code) in [
            (400, "InvalidParameter"),
            (400, "ParameterValueInvalid"),
            (400, "EndpointDisabled"),
            (403, "AuthorizationError"),
            (403, "InvalidClientTokenId"),
            (404, "NotFound"),
        ] {
            assert_eq!(answered(status, Some(code)), Outcome::Dead { status });
        }
        assert_eq!(answered(413, None), Outcome::TooLarge);
    }

    #[test]
    fn who_was_not_reached_was_told_nothing() {
        let unanswered =
            |what, maybe_sent| outcome(&Failure::Unanswered(Unanswered { what, maybe_sent }));
        let retry = |what: &str, sent| Outcome::Retry {
            after: None,
            what: what.to_owned(),
            sent,
        };
        assert_eq!(unanswered("connect", false), retry("connect", Sent::No));
        assert_eq!(unanswered("timeout", true), retry("timeout", Sent::Maybe));
    }

    #[test]
    fn a_topic_that_asks_for_patience_gets_it() {
        let failure = Failure::Answered {
            status: 400,
            code: Some("Throttling".to_owned()),
            after: Some(Duration::from_secs(7)),
        };
        let expected = Outcome::Retry {
            after: Some(Duration::from_secs(7)),
            what: "status 400 Throttling".to_owned(),
            sent: Sent::No,
        };
        assert_eq!(outcome(&failure), expected);
    }

    #[test]
    fn subjects_are_short_lines_of_ascii() {
        let of = |title: &str| subject(&json!({"data": {"title": title}}));
        assert_eq!(
            of("News 1: the sound is late."),
            "News 1: the sound is late."
        );
        assert_eq!(of(" Süd\n1"), "S?d?1");
        assert_eq!(of(""), "Glasswatch");
        let long = of(&"ü".repeat(500));
        assert_eq!(long.len(), SUBJECT_CHARS);
        assert!(long.ends_with("?..."));
        let missed = json!({"data": {"text": "3 incidents came and went."}});
        assert_eq!(subject(&missed), "3 incidents came and went.");
    }

    #[test]
    fn ids_are_of_what_a_fifo_topic_takes() {
        assert_eq!(word("0123abcd-19a-1"), "0123abcd-19a-1");
        assert_eq!(word("a b\nü"), "a_b__");
        assert_eq!(word(&"x".repeat(500)).len(), ID_CHARS);
    }
}
