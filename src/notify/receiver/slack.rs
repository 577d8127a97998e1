//! Slack, incoming webhooks; and what takes the same messages (Mattermost).

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::http::{Http, HttpOptions, Reply, ask};
use super::{
    Digest, Limit, Outcome, Receiver, ReceiverError, Sent, fitted, is_told, json, lines_to, links,
};
use crate::config::Secret;
use crate::config::template::{Markup, Words};
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
    fn render_in(&self, message: &Message, words: &Words) -> Option<String> {
        if !is_told(message) {
            return None;
        }
        let of = fitted(message, MESSAGE_BYTES);
        let room = BLOCK_BYTES - NAME_BYTES;
        let title = match &words.title {
            Some(title) => cut(title, room),
            None => escaped(&of.title, room),
        };
        let headline = format!("{} {title}", standing(&of));
        let text = match &words.text {
            Some(text) => cut(text, BLOCK_BYTES / 2),
            None => escaped(&of.text, BLOCK_BYTES / 2),
        };
        let said = context(&of, text);
        Some(json(&Post::new(headline, said, evidence(&of))))
    }

    fn markup(&self) -> Markup {
        Markup::Slack
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

/// What else is said, in one small line, behind `text`.
fn context(of: &Message, text: String) -> String {
    let name = |text: &str| escaped(text, NAME_BYTES);
    let mut said = Vec::new();
    said.extend(Some(text).filter(|text| !text.is_empty()));
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
fn escaped(text: &str, bytes: usize) -> String {
    cut(&Markup::Slack.escape(text), bytes)
}

/// Clean lines of markup of at most `bytes`, none of it cut in two.
fn cut(markup: &str, bytes: usize) -> String {
    let lines = lines_to(markup, usize::MAX);
    let mut out = &lines[..lines.floor_char_boundary(bytes)];
    if out.len() < lines.len() {
        for (begins, ends) in [('&', ';'), ('<', '>')] {
            if let Some(at) = out.rfind(begins)
                && !out[at..].contains(ends)
            {
                out = &out[..at];
            }
        }
        // A word to all begins with what keeps it from being one.
        out = out.strip_suffix('@').unwrap_or(out);
    }
    out.to_owned()
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
        assert_eq!(escaped("a@here", 3), "a");
        assert_eq!(cut("a <https://a.example|b> c", 20), "a ");
        assert_eq!(cut("a &lt; b", 5), "a ");
        assert_eq!(cut("a\u{1}\r\nb", 99), "a\nb");
    }
}
