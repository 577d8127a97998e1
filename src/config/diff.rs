//! What a reload changes.

use std::sync::Arc;

use super::checked::{Config, Stream};

/// Difference of two configurations, by what is effective rather than by what is written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Streams to start.
    pub added: Vec<Arc<Stream>>,
    /// Ids of streams to stop.
    pub removed: Vec<Arc<str>>,
    /// Streams to restart, as they are now.
    pub changed: Vec<Arc<Stream>>,
    /// `instance:` or `evidence:` differs.
    pub instance: bool,
    /// `http:` differs.
    pub http: bool,
    /// `receivers:` differ.
    pub receivers: bool,
    /// `incidents:`, `canary:` or `heartbeat:` differs.
    pub incidents: bool,
    /// `groups:` or `shard:` differ, so other streams or detectors may be due here.
    pub assignment: bool,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares. The order of streams does not matter.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let find = |config: &Config, id: &str| config.streams.iter().find(|s| *s.id == *id).cloned();
    let mut changes = Changes {
        instance: (&old.instance, &old.evidence) != (&new.instance, &new.evidence),
        http: old.http != new.http,
        receivers: old.receivers != new.receivers,
        incidents: (&old.incidents, &old.canary, &old.heartbeat)
            != (&new.incidents, &new.canary, &new.heartbeat),
        assignment: old.groups != new.groups || old.shard != new.shard,
        ..Changes::default()
    };
    for stream in &new.streams {
        match find(old, &stream.id) {
            None => changes.added.push(Arc::clone(stream)),
            Some(before) if *before != **stream => changes.changed.push(Arc::clone(stream)),
            Some(_) => {}
        }
    }
    changes.removed = old
        .streams
        .iter()
        .filter(|s| find(new, &s.id).is_none())
        .map(|s| Arc::clone(&s.id))
        .collect();
    changes
}
