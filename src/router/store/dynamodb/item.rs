//! What an item of the table says, and how one is written.
//!
//! `pk` is the prefix and the first part of the key, `sk` the rest. `v` is the version, `b` the value. A registration has
//! also `h`, which counts heartbeats, `l`, how long it lives without one in ms, and `o`, a number that its owner drew.
//! What was deleted keeps its version, with `x`: when it may be cleaned away, in seconds since 1970.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use jiff::Timestamp;

use crate::router::store::{Record, Version};

/// An item as the service gives it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The rest of a key that has one part; no key has it.
const NO_REST: &str = "/";
/// How long a deleted key keeps its version, seconds: longer than anybody remembers one.
const GRAVE_SECS: i64 = 7 * 86_400;

/// Primary key of a key's item.
pub(super) fn place(prefix: &str, key: &str) -> (AttributeValue, AttributeValue) {
    let (first, rest) = key.split_once('/').unwrap_or((key, NO_REST));
    (text(format!("{prefix}{first}")), text(rest))
}

/// The key of an item.
pub(super) fn key(prefix: &str, item: &Item) -> Option<String> {
    let part = |name| item.get(name).and_then(|value| value.as_s().ok());
    let (first, rest) = (part("pk")?.strip_prefix(prefix)?, part("sk")?);
    Some(match rest.as_str() {
        NO_REST => first.to_owned(),
        rest => format!("{first}/{rest}"),
    })
}

/// What is at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing ever was, or long ago.
    Missing,
    /// It was deleted.
    Gone { version: u64 },
    /// A value.
    Value { version: u64 },
    /// A registration.
    Registered {
        version: u64,
        beat: u64,
        ttl: Duration,
    },
}

impl State {
    /// Reads an item, if there is one.
    pub(super) fn of(item: Option<&Item>) -> Self {
        let Some(item) = item else {
            return Self::Missing;
        };
        let n = |name| {
            item.get(name)
                .and_then(|value| value.as_n().ok()?.parse().ok())
        };
        let version = n("v").unwrap_or_default();
        match (item.contains_key("x"), n("h"), n("l")) {
            (true, ..) => Self::Gone { version },
            (_, Some(beat), Some(ms)) => Self::Registered {
                version,
                beat,
                ttl: Duration::from_millis(ms),
            },
            _ => Self::Value { version },
        }
    }

    fn version(self) -> Option<u64> {
        match self {
            Self::Missing => None,
            Self::Gone { version } | Self::Value { version } | Self::Registered { version, .. } => {
                Some(version)
            }
        }
    }

    /// The version of what is written next. Where nothing is known of the past the clock gives one that is higher than
    /// any of it: in all that time there was less than a write per millisecond.
    pub(super) fn next(self) -> u64 {
        match self.version() {
            Some(version) => version + 1,
            None => u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default(),
        }
    }

    /// That it has not been written since, heartbeats aside.
    pub(super) fn unwritten(self) -> Condition {
        match self.version() {
            Some(version) => Condition::version(version),
            None => Condition {
                expression: "attribute_not_exists(pk)",
                values: Vec::new(),
            },
        }
    }

    /// That not even a heartbeat came since.
    pub(super) fn untouched(self) -> Condition {
        match self {
            Self::Registered { version, beat, .. } => Condition {
                expression: "v = :v AND h = :h",
                values: vec![(":v", number(version)), (":h", number(beat))],
            },
            other => other.unwritten(),
        }
    }
}

/// What must hold for an item to be written.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub expression: &'static str,
    pub values: Vec<(&'static str, AttributeValue)>,
}

impl Condition {
    /// It has this version.
    pub(super) fn version(version: u64) -> Self {
        Self {
            expression: "v = :v",
            values: vec![(":v", number(version))],
        }
    }

    /// It is this registration.
    pub(super) fn registration(term: Version, owner: u64) -> Self {
        Self {
            expression: "v = :v AND o = :o",
            values: vec![(":v", number(term.0)), (":o", number(owner))],
        }
    }

    pub(super) fn values(&self) -> HashMap<String, AttributeValue> {
        let own = |(name, value): &(&str, AttributeValue)| ((*name).to_owned(), value.clone());
        self.values.iter().map(own).collect()
    }
}

/// An item with nothing but a key and a version.
fn bare(place: (AttributeValue, AttributeValue), version: u64) -> Item {
    let (pk, sk) = place;
    [("pk", pk), ("sk", sk), ("v", number(version))]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// A value.
pub(super) fn value(place: (AttributeValue, AttributeValue), version: u64, value: Bytes) -> Item {
    let mut item = bare(place, version);
    item.insert("b".to_owned(), blob(value));
    item
}

/// A registration that begins.
pub(super) fn registration(
    place: (AttributeValue, AttributeValue),
    version: u64,
    bytes: Bytes,
    owner: u64,
    ttl: Duration,
) -> Item {
    let mut item = value(place, version, bytes);
    let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    for (name, n) in [("h", 1), ("l", ms), ("o", owner)] {
        item.insert(name.to_owned(), number(n));
    }
    item
}

/// What is left of what was deleted.
pub(super) fn gone(place: (AttributeValue, AttributeValue), version: u64) -> Item {
    let mut item = bare(place, version);
    let until = Timestamp::now().as_second() + GRAVE_SECS;
    item.insert("x".to_owned(), AttributeValue::N(until.to_string()));
    item
}

/// A value with its key.
pub(super) fn record(key: String, item: Item) -> Record {
    let version = Version(State::of(Some(&item)).version().unwrap_or_default());
    let mut item = item;
    let value = match item.remove("b") {
        Some(AttributeValue::B(blob)) => Bytes::from(blob.into_inner()),
        _ => Bytes::new(),
    };
    Record {
        key,
        value,
        version,
    }
}

pub(super) fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn number(n: u64) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

pub(super) fn blob(bytes: Bytes) -> AttributeValue {
    AttributeValue::B(Vec::from(bytes).into())
}
