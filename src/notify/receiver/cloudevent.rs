//! An incident as a CloudEvent 1.0 (structured JSON): what webhooks and topics get.

use serde::Serialize;
use serde_json::Value;

use super::{Digest, fitted, json};
use crate::notify::event::clean;
use crate::notify::notice::Message;

/// Titles of a digest.
const TITLES_BYTES: usize = 12_000;

/// A change of an incident, with at most `data_bytes` of data.
pub(super) fn incident(message: &Message, data_bytes: usize) -> String {
    let data = fitted(message, data_bytes);
    json(&CloudEvent {
        specversion: "1.0",
        id: &data.message_id,
        source: source(&data.instance),
        kind: format!("glasswatch.incident.{}", data.news),
        time: &data.at,
        subject: data.stream.as_deref().unwrap_or(&data.name),
        datacontenttype: "application/json",
        data: &data,
    })
}

/// What came and went.
pub(super) fn missed(digest: &Digest) -> String {
    let (titles, not_named) = digest.newest(TITLES_BYTES, str::to_owned);
    let instance = clean(&digest.instance);
    json(&CloudEvent {
        specversion: "1.0",
        id: &clean(&digest.id),
        source: source(&instance),
        kind: "glasswatch.incidents.missed".to_owned(),
        time: &clean(&digest.until),
        subject: &instance,
        datacontenttype: "application/json",
        data: &Missed {
            instance: &instance,
            from: &clean(&digest.from),
            until: &clean(&digest.until),
            text: &digest.headline(),
            titles,
            not_named,
        },
    })
}

/// The same without its lists; `None` when they are empty.
pub(super) fn shrink(body: &str) -> Option<String> {
    let mut event: Value = serde_json::from_str(body).ok()?;
    let data = event.get_mut("data")?;
    let mut less = false;
    for list in ["defects", "streams", "titles"] {
        if let Some(list) = data.get_mut(list).and_then(Value::as_array_mut) {
            less |= !list.is_empty();
            list.clear();
        }
    }
    less.then(|| event.to_string())
}

/// The envelope.
#[derive(Serialize)]
struct CloudEvent<'a, T> {
    specversion: &'a str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    time: &'a str,
    subject: &'a str,
    datacontenttype: &'a str,
    data: &'a T,
}

/// Data of a digest.
#[derive(Serialize)]
struct Missed<'a> {
    instance: &'a str,
    from: &'a str,
    until: &'a str,
    text: &'a str,
    titles: Vec<String>,
    not_named: usize,
}

/// A relative URI reference: everything but RFC 3986's unreserved characters is escaped.
fn source(instance: &str) -> String {
    let mut out = "glasswatch/".to_owned();
    for byte in instance.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_uri_references() {
        assert_eq!(source("watch-1.a_b~"), "glasswatch/watch-1.a_b~");
        assert_eq!(source("a b/ü?#"), "glasswatch/a%20b%2F%C3%BC%3F%23");
    }
}
