//! Slack, incoming webhooks; and what takes the same messages (Mattermost).

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::http::{Http, HttpOptions, Reply, ask};
use super::{Digest, Limit, Outcome, Receiver, ReceiverError, Sent, fitted, is_told, json, links};
use crate::config::Secret;
use crate::notify::notice::Message;
use crate::telemetry::log::redact;

/// What is read of a message.
const MESSAGE_BYTES: usize = 64_000;
/// Longest text of a block, in bytes when escaped; Slack takes 3000 characters.
const BLOCK_BYTES: usize = 2900;
/// Longest name within a line, in bytes when escaped.
const NAME_BYTES: usize = 300;

/// Where the webhook is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The whole URL is the secret.
    pub url: Secret,
    /// How it is called.
    pub http: HttpOptions,
}

/// A channel behind an incoming webhook.
pub struct Slack {
    http: Http,
    url: Url,
}

impl Slack {
    /// Checks the URL and builds the client.
    pub fn new(options: &Options) -> Result<Self, ReceiverError> {
        let http = Http::new(&options.http)?;
        Ok(Self {
            url: http.endpoint(&options.url)?,
            http,
        })
    }

    async fn post(&self, body: &str, now: Timestamp) -> Outcome {
        let request = (self.http).post(&self.url, "application/json", body.to_owned());
        match ask(request, now).await {
            Ok(reply) => judge(&reply),
            Err(outcome) => outcome,
        }
    }
}

/// Slack answers 200 and `ok`; another 2xx is somebody else's in between.
fn judge(reply: &Reply) -> Outcome {
    let ok = reply.status == 200 && reply.text.as_deref().map(str::trim) == Some("ok");
    match reply.judge() {
        Outcome::Delivered if !ok => Outcome::Retry {
            after: reply.after,
            what: format!("status {} without ok", reply.status),
            sent: Sent::Maybe,
        },
        outcome => outcome,
    }
}

impl Receiver for Slack {
    fn render(&self, message: &Message) -> Option<String> {
        if !is_told(message) {
            return None;
        }
        let of = fitted(message, MESSAGE_BYTES);
        let headline = format!(
            "{} {}",
            standing(&of),
            escaped(&of.title, BLOCK_BYTES - NAME_BYTES)
        );
        Some(json(&Post::new(headline, context(&of), evidence(&of))))
    }

    fn send<'a>(&'a self, _id: &'a str, body: &'a str, now: Timestamp) -> BoxFuture<'a, Outcome> {
        self.post(body, now).boxed()
    }

    fn place(&self) -> String {
        redact(self.url.as_str())
    }

    /// Slack takes one a second and bears short bursts.
    fn limit(&self) -> Limit {
        Limit {
            per_minute: 60,
            burst: 5,
        }
    }

    fn shrink(&self, body: &str) -> Option<String> {
        let mut post: Value = serde_json::from_str(body).ok()?;
        let blocks = post.get_mut("blocks")?.as_array_mut()?;
        if blocks.len() < 2 {
            return None;
        }
        blocks.truncate(1);
        Some(post.to_string())
    }

    fn digest(&self, digest: &Digest) -> Option<String> {
        let headline = format!("ℹ️ *Missed:* {}", escaped(&digest.headline(), BLOCK_BYTES));
        let lines = digest.lines(BLOCK_BYTES, |title| escaped(title, NAME_BYTES));
        Some(json(&Post::new(headline, lines, None)))
    }
}

/// What goes before the title: an icon and words.
fn standing(of: &Message) -> String {
    let (icon, severity) = match of.severity.as_str() {
        "info" => ("🔵", "Info"),
        "warning" => ("🟠", "Warning"),
        _ => ("🔴", "Critical"),
    };
    match of.news.as_str() {
        "resolved" => format!("✅ *Over* (was {}):", severity.to_lowercase()),
        "acknowledged" => format!("👀 *Acknowledged* ({}):", severity.to_lowercase()),
        "updated" => format!("{icon} *{severity}* (update):"),
        _ => format!("{icon} *{severity}:*"),
    }
}

/// What else is said, in one small line.
fn context(of: &Message) -> String {
    let name = |text: &str| escaped(text, NAME_BYTES);
    let mut said = Vec::new();
    if !of.text.is_empty() {
        said.push(escaped(&of.text, BLOCK_BYTES / 2));
    }
    if let Some(by) = &of.acknowledged_by {
        said.push(format!("Taken by {}", name(by)));
    }
    said.push(match &of.resolved {
        Some(resolved) => format!("From {} to {}", name(&of.opened), name(resolved)),
        None => format!("Since {}", name(&of.opened)),
    });
    said.push(format!("Seen by {}", name(&of.instance)));
    said.push(format!("Incident {}", name(&of.incident_id)));
    said.join(" · ")
}

/// A link to the evidence of the worst defect.
fn evidence(of: &Message) -> Option<String> {
    let safe = |link: &&str| !link.contains(['<', '>', '|', '"', ' ']);
    let link = links(of).find(safe)?.replace('&', "&amp;");
    Some(format!("<{link}|Evidence>"))
}

/// Escapes what Slack reads as markup, and cuts to `bytes`.
///
/// Mentions are written with `<`, which is escaped; Mattermost also reads a bare `@all`, so that a space of no width
/// goes behind every `@`.
fn escaped(text: &str, bytes: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let start = out.len();
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("@\u{200b}"),
            c => out.push(c),
        }
        if out.len() > bytes {
            out.truncate(start);
            break;
        }
    }
    out
}

/// A message: `text` is for notifications and for readers without blocks.
#[derive(Serialize)]
struct Post {
    text: String,
    blocks: Vec<Block>,
    unfurl_links: bool,
    unfurl_media: bool,
}

impl Post {
    fn new(headline: String, context: String, evidence: Option<String>) -> Self {
        let mut blocks = vec![Block::Section {
            text: Text::of(headline.clone()),
        }];
        // An empty text is refused.
        let said = Some(context).filter(|context| !context.is_empty());
        let elements: Vec<Text> = said.into_iter().chain(evidence).map(Text::of).collect();
        if !elements.is_empty() {
            blocks.push(Block::Context { elements });
        }
        Self {
            text: headline,
            blocks,
            unfurl_links: false,
            unfurl_media: false,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Block {
    Section { text: Text },
    Context { elements: Vec<Text> },
}

#[derive(Serialize)]
struct Text {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
    /// No links, channels or names are made of what looks like them.
    verbatim: bool,
}

impl Text {
    fn of(text: String) -> Self {
        Self {
            kind: "mrkdwn",
            text,
            verbatim: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped_and_never_cut_in_two() {
        assert_eq!(escaped("<!channel> & co", 99), "&lt;!channel&gt; &amp; co");
        assert_eq!(escaped("@here", 99), "@\u{200b}here");
        assert_eq!(escaped("a<b", 4), "a");
        assert_eq!(escaped("aü", 2), "a");
    }
}
