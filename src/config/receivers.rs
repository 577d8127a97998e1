//! Who is told, and of what.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use detectors::base::Severity;

use super::address;
use super::check::{Checker, Origin, Section};
use super::checked::Secret;
use super::raw::Node;
use super::schema;
use super::template::Template;

/// Where incidents are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Receiver {
    /// Unique name.
    pub name: String,
    /// How.
    pub kind: ReceiverKind,
    /// Deadline of one attempt.
    pub timeout: Duration,
    /// What it says instead of our own words.
    pub template: Template,
    /// HTTP proxy, if any.
    pub proxy: Option<Secret>,
    /// Only incidents of at least this severity.
    pub min_severity: Severity,
    /// Only incidents for which all of these fit: labels, `stream`, `topic`; a value may end in `*`.
    pub only: BTreeMap<String, String>,
    /// Whether private, link-local and loopback addresses may be called.
    pub allow_private: bool,
    /// Whether it gets the alerts of the canary, and only those.
    pub canary: bool,
}

/// The stream that proves that alerts arrive.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    /// How often; `None`: never.
    pub every: Option<Duration>,
    /// Its alert must arrive so soon.
    pub within: Duration,
}

/// A call to a service that pages when it stays away.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// Where to, if anywhere.
    pub endpoint: Option<Secret>,
    /// How often.
    pub every: Duration,
    /// Whether private, link-local and loopback addresses may be called.
    pub allow_private: bool,
}

/// Kind of receiver. URLs may carry tokens, so they are secret.
#[derive(Debug, Clone, PartialEq)]
pub enum ReceiverKind {
    /// HTTP POST with Standard Webhooks headers.
    Webhook {
        /// Endpoint.
        url: Secret,
        /// Signing keys (base64, without `whsec_`); none: not signed.
        keys: Vec<Secret>,
    },
    /// PagerDuty Events API v2.
    PagerDuty {
        /// Endpoint, if not the usual one.
        endpoint: Option<Secret>,
        /// Integration key.
        routing_key: Secret,
    },
    /// Prometheus Alertmanager API v2.
    Alertmanager {
        /// Base URLs of all members.
        peers: Vec<Secret>,
        /// Bearer token.
        token: Option<Secret>,
    },
    /// Slack incoming webhook.
    Slack {
        /// Its URL.
        url: Secret,
    },
    /// A topic of Amazon SNS; credentials come from where Amazon's tools look for them.
    Sns {
        /// `arn:aws:sns:REGION:ACCOUNT:NAME`.
        topic_arn: String,
        /// Region to call.
        region: String,
        /// Endpoint, if not the region's own.
        endpoint: Option<Secret>,
    },
}

/// How incidents are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Incidents {
    /// Labels whose values streams share with a common cause, the first is preferred among equals.
    pub group_by: Vec<String>,
    /// So many streams fail together, at least.
    pub together_min: usize,
    /// ... and at least this share of those with the label value.
    pub together_ratio: f64,
    /// ... within this time.
    pub together_within: Duration,
    /// A lost input that may be one of many is held for so long.
    pub hold: Duration,
    /// An incident ends when it was well for so long.
    pub resolve_after: Duration,
    /// An incident that comes again so soon after it was told waits until then.
    pub repage_after: Duration,
    /// Least time between two updates, unless it gets worse.
    pub update_every: Duration,
    /// A warning that comes so often within the time pages.
    pub escalate: Option<(u32, Duration)>,
    /// A break may last for so long beyond its announced end.
    pub break_slack: Duration,
    /// A slate, or a break of unknown length, may last for so long.
    pub unannounced_break: Duration,
}

impl Default for Incidents {
    fn default() -> Self {
        let env = super::Env::default();
        Checker::new(&env).incidents(&Node::empty("incidents"))
    }
}

impl Checker<'_> {
    pub(super) fn incidents(&mut self, node: &Node) -> Incidents {
        let s = self.open(node, &[schema::INCIDENTS]);
        let mut count = |name| self.whole(s, name).unwrap_or_default();
        let times = count("escalate_times");
        let (streams, percent) = (count("together_streams"), count("together_percent"));
        let mut span = |name| self.span(s, name).unwrap_or_default();
        let within = span("escalate_within");
        Incidents {
            together_min: usize::try_from(streams).unwrap_or(usize::MAX),
            together_ratio: percent as f64 / 100.0,
            together_within: span("together_within"),
            hold: span("hold"),
            resolve_after: span("resolve_after"),
            repage_after: span("repage_after"),
            update_every: span("update_every"),
            escalate: (u32::try_from(times).ok())
                .filter(|times| *times > 0)
                .map(|times| (times, within)),
            break_slack: span("break_slack"),
            unannounced_break: span("unannounced_break"),
            group_by: self.texts(s, "group_by"),
        }
    }

    pub(super) fn canary(&mut self, node: &Node) -> Canary {
        let s = self.open(node, &[schema::CANARY]);
        Canary {
            every: self.span(s, "every").filter(|every| !every.is_zero()),
            within: self.span(s, "within").unwrap_or_default(),
        }
    }

    pub(super) fn heartbeat(&mut self, node: &Node) -> Heartbeat {
        let s = self.open(node, &[schema::HEARTBEAT]);
        let allow_private = self.flag(s, "allow_private");
        let given = (s.node.get("endpoint")).or(s.node.get("endpoint_file"));
        Heartbeat {
            endpoint: given.and_then(|_| self.endpoint(s, "endpoint", allow_private)),
            every: self.span(s, "every").unwrap_or_default(),
            allow_private,
        }
    }

    pub(super) fn receiver(&mut self, node: &Node) -> Option<Receiver> {
        let s = self.open(node, &[schema::RECEIVER]);
        let name = self.text(s, "name");
        if s.node.get("name").is_none() {
            self.missing(node, "name", None);
        }
        let severity = self.choice(s, "min_severity");
        let allow_private = self.flag(s, "allow_private");
        let canary = self.flag(s, "canary");
        let only = (s.node.get("only")).map_or_else(BTreeMap::new, |node| self.labels(node));
        let proxy = self
            .secret(s, "proxy")
            .map(|(text, ..)| Secret::new(text.value));
        let template =
            (s.node.get("template")).map_or_else(Template::default, |n| self.template(n));
        let kinds = ["webhook", "pagerduty", "alertmanager", "slack", "sns"];
        let given: Vec<(&str, &Node)> = (kinds.iter())
            .filter_map(|kind| Some((*kind, s.node.get(kind)?)))
            .collect();
        let (kind, at) = match given.as_slice() {
            [] => {
                let hint = "or `pagerduty`, `alertmanager`, `slack`, `sns`".to_owned();
                self.missing(node, "webhook", hint);
                return None;
            }
            [one] => *one,
            [_, (name, more), ..] => {
                let message = format!("`{name}` besides another kind: write two receivers");
                self.wrong(more, message, None);
                return None;
            }
        };
        let (kind, timeout) = match kind {
            "webhook" => self.webhook(at, allow_private),
            "pagerduty" => self.pagerduty(at, allow_private),
            "alertmanager" => self.alertmanager(at, allow_private),
            "sns" => self.sns(at, allow_private),
            _ => self.slack(at, allow_private),
        }?;
        Some(Receiver {
            name: name?,
            kind,
            timeout,
            proxy,
            template,
            min_severity: Severity::parse(severity)?,
            only,
            allow_private,
            canary,
        })
    }

    fn webhook(&mut self, at: &Node, private: bool) -> Option<(ReceiverKind, Duration)> {
        let s = self.open(at, &[schema::WEBHOOK]);
        let timeout = self.span(s, "timeout").unwrap_or_default();
        let mut keys = Vec::new();
        if let Some((text, at, _)) = self.secret(s, "secret") {
            let engine = base64::engine::general_purpose::STANDARD;
            for word in text.value.split_whitespace() {
                let encoded = word
                    .strip_prefix("whsec_")
                    .filter(|key| engine.decode(key).is_ok_and(|bytes| !bytes.is_empty()));
                match encoded {
                    Some(key) => keys.push(Secret::new(key)),
                    None => self.wrong(at, "must be `whsec_` and base64", None),
                }
            }
        }
        let url = self.endpoint(s, "url", private)?;
        Some((ReceiverKind::Webhook { url, keys }, timeout))
    }

    fn pagerduty(&mut self, at: &Node, private: bool) -> Option<(ReceiverKind, Duration)> {
        let s = self.open(at, &[schema::PAGERDUTY]);
        let timeout = self.span(s, "timeout").unwrap_or_default();
        let given = s
            .node
            .get("endpoint")
            .or(s.node.get("endpoint_file"))
            .is_some();
        let endpoint = given.then(|| self.endpoint(s, "endpoint", private));
        let Some((key, ..)) = self.secret(s, "routing_key") else {
            self.missing(at, "routing_key", None);
            return None;
        };
        let kind = ReceiverKind::PagerDuty {
            endpoint: match endpoint {
                Some(endpoint) => Some(endpoint?),
                None => None,
            },
            routing_key: Secret::new(key.value.trim()),
        };
        Some((kind, timeout))
    }

    fn alertmanager(&mut self, at: &Node, private: bool) -> Option<(ReceiverKind, Duration)> {
        let s = self.open(at, &[schema::ALERTMANAGER]);
        let timeout = self.span(s, "timeout").unwrap_or_default();
        let token = self
            .secret(s, "token")
            .map(|(text, ..)| Secret::new(text.value.trim()));
        let mut peers = Vec::new();
        for node in self.items(s, "peers") {
            if let (Some(text), super::raw::Data::Text(raw)) = (self.text_in(node), &node.data) {
                let raw = super::raw::Text {
                    value: text,
                    ..raw.clone()
                };
                peers.extend(self.endpoint_of(&raw, node, Origin::Inline, private));
            }
        }
        if peers.is_empty() {
            self.missing(at, "peers", None);
            return None;
        }
        Some((ReceiverKind::Alertmanager { peers, token }, timeout))
    }

    fn slack(&mut self, at: &Node, private: bool) -> Option<(ReceiverKind, Duration)> {
        let s = self.open(at, &[schema::SLACK]);
        let timeout = self.span(s, "timeout").unwrap_or_default();
        let url = self.endpoint(s, "url", private)?;
        Some((ReceiverKind::Slack { url }, timeout))
    }

    fn sns(&mut self, at: &Node, private: bool) -> Option<(ReceiverKind, Duration)> {
        let s = self.open(at, &[schema::SNS]);
        self.needs_aws(at);
        let timeout = self.span(s, "timeout").unwrap_or_default();
        let region = self.region(s);
        let endpoint = self.other_endpoint(s, private)?;
        if s.node.get("topic_arn").is_none() {
            self.missing(at, "topic_arn", None);
        }
        let topic_arn = self.text(s, "topic_arn")?;
        let Some(own) = region_of(&topic_arn) else {
            self.wrong(
                s.node.get("topic_arn")?,
                "must be the ARN of a topic",
                "arn:aws:sns:REGION:ACCOUNT:NAME".to_owned(),
            );
            return None;
        };
        let kind = ReceiverKind::Sns {
            region: region.unwrap_or_else(|| own.to_owned()),
            topic_arn,
            endpoint,
        };
        Some((kind, timeout))
    }

    /// What only some builds can do.
    pub(super) fn needs_aws(&mut self, at: &Node) {
        if !self.env.aws {
            let hint = "build it with `--features aws`".to_owned();
            self.wrong(at, "this build has no `aws`", hint);
        }
    }

    /// A region of Amazon's, if one is given.
    pub(super) fn region(&mut self, s: Section<'_>) -> Option<String> {
        let region = self.text(s, "region")?;
        if !is_region(&region) {
            let hint = "such as `eu-central-1`".to_owned();
            self.wrong(s.node.get("region")?, "is no region", hint);
        }
        Some(region)
    }

    /// `endpoint`, where one is given; `None`: it cannot be used.
    pub(super) fn other_endpoint(
        &mut self,
        s: Section<'_>,
        private: bool,
    ) -> Option<Option<Secret>> {
        match s.node.get("endpoint").or(s.node.get("endpoint_file")) {
            Some(_) => self.endpoint(s, "endpoint", private).map(Some),
            None => Some(None),
        }
    }

    /// A required URL that may be called.
    fn endpoint(&mut self, s: Section<'_>, name: &str, private: bool) -> Option<Secret> {
        let twin = format!("{name}_file");
        if s.node.get(name).or(s.node.get(&twin)).is_none() {
            self.missing(s.node, name, None);
        }
        let (text, at, origin) = self.secret(s, name)?;
        self.endpoint_of(&text, at, origin, private)
    }

    fn endpoint_of(
        &mut self,
        text: &super::raw::Text,
        at: &Node,
        origin: Origin,
        private: bool,
    ) -> Option<Secret> {
        match address::endpoint(text, origin == Origin::File) {
            Ok((_, true)) if !private => {
                self.wrong(
                    at,
                    "points to a private address",
                    "set `allow_private: true`".to_owned(),
                );
                None
            }
            Ok((url, _)) => Some(url),
            Err(wrong) => {
                self.wrong(at, wrong.message, wrong.hint);
                None
            }
        }
    }
}

/// The region in the ARN of a topic.
fn region_of(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", partition, "sns", region, account, name] = parts.as_slice() else {
        return None;
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let topic = name.strip_suffix(".fifo").unwrap_or(name);
    let valid = partition.starts_with("aws")
        && is_region(region)
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && (1..=256).contains(&name.len())
        && !topic.is_empty()
        && topic.bytes().all(word);
    valid.then_some(region)
}

fn is_region(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(word)
}
