//! What lies where in the store, and in which shape.
//!
//! | key | value | written by |
//! |---|---|---|
//! | `stream/<stream>` | [`Spec`] | routers, for whoever edits |
//! | `inst/<instance>` | [`Instance`], a registration | the instance, every 3 s |
//! | `planner` | id of the router, a registration | the planner |
//! | `plan/<00..3f>/<revision>` | [`Bucket`] | the planner |
//! | `plan/members/<revision>` | [`Members`] | the planner |
//! | `plan/head` | [`Head`] | the planner, last: the plan is what it names |
//! | `own/<stream>/<group>/<replica>` | [`Own`] | the instance, when the unit runs |
//! | `load/<instance>` | [`Load`] | the instance, once a minute |
//! | `alert/<stream>/<alert>` | [`super::ledger::Entry`] | instances |
//!
//! Values are JSON, wrapped with the number of their shape. What a newer build wrote in another shape is not read, and
//! whoever needs it does nothing rather than the wrong thing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::store::{Record, StoreError};
use super::unit::{Node, NodeState, Placement, Unit};

/// Number of the shape of all values.
pub const SCHEMA: u32 = 1;
/// Parts that a plan is written in: 40,000 units are 640 in each, about 50 KB.
pub const BUCKETS: usize = 64;

/// Where streams are.
pub const STREAMS: &str = "stream/";
/// Where instances are registered.
pub const INSTANCES: &str = "inst/";
/// Registration of the planner; its term guards what it writes.
pub const PLANNER: &str = "planner";
/// Where the plan is.
pub const PLAN: &str = "plan/";
/// Which parts the plan consists of.
pub const HEAD: &str = "plan/head";
/// Where it says what runs.
pub const OWNED: &str = "own/";
/// Where measured costs are.
pub const LOADS: &str = "load/";
/// Where alerts are.
pub const ALERTS: &str = "alert/";

/// Of a stream's [`Spec`].
pub fn stream(id: &str) -> String {
    format!("{STREAMS}{id}")
}

/// Of an instance's registration.
pub fn instance(id: &str) -> String {
    format!("{INSTANCES}{id}")
}

/// Of a part of a plan.
pub fn bucket(number: usize, revision: u64) -> String {
    format!("{PLAN}{number:02x}/{revision}")
}

/// Of the instances that a plan counts on.
pub fn members(revision: u64) -> String {
    format!("{PLAN}members/{revision}")
}

/// Of who runs a unit.
pub fn own(unit: &Unit) -> String {
    format!("{OWNED}{}/{}/{}", unit.stream, unit.group, unit.replica)
}

/// Of what an instance measured.
pub fn load(id: &str) -> String {
    format!("{LOADS}{id}")
}

/// Of an alert of a stream.
pub fn alert(stream: &str, alert: &str) -> String {
    format!("{ALERTS}{stream}/{alert}")
}

/// Which part of a plan a stream is in. A promise between versions (FNV-1a): it never changes.
pub fn bucket_of(stream: &str) -> usize {
    let hash = stream.bytes().fold(0x811C_9DC5_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    hash as usize % BUCKETS
}

/// A stream as it is to be watched. Holds secrets, so it cannot be printed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Its id.
    pub stream: Arc<str>,
    /// Rises with every edit: Unix time in milliseconds, or the one before + 1 where that is higher.
    pub rev: u64,
    /// What stands in `streams:`.
    pub entry: serde_json::Value,
    /// Groups of detectors that watch it.
    pub groups: Vec<Arc<str>>,
    /// 1 or 2.
    pub replicas: u8,
    /// Whether it is sent to one address, so that it cannot move.
    #[serde(default)]
    pub pinned: bool,
    /// Streams of one key are compared with each other and stay together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<Arc<str>>,
    /// For grouping.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Spec {
    /// How often it is watched: once or twice.
    pub fn copies(&self) -> u8 {
        if self.pinned {
            1
        } else {
            self.replicas.clamp(1, 2)
        }
    }
}

/// An instance as it registers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// What planning needs.
    #[serde(flatten)]
    pub node: Node,
    /// Drawn anew by every process, so that what the one before ran is known not to run.
    pub boot: Arc<str>,
    /// Where its API answers.
    pub address: String,
    /// Version of the build.
    pub build: String,
    /// What it is loaded with, in cores.
    pub used_cores: f64,
    /// Revision of the plan that it follows.
    pub plan_seen: u64,
}

/// An instance that a plan counts on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// What planning needs.
    #[serde(flatten)]
    pub node: Node,
    /// Where its API answers.
    pub address: String,
}

/// Which parts a plan consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Of the plan.
    pub revision: u64,
    /// Term of the planner that wrote it.
    pub term: u64,
    /// Revision of each bucket, 0 = nothing in it.
    pub buckets: Vec<u64>,
    /// Revision of the members, 0 = none.
    pub members: u64,
}

/// A part of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its units.
    pub units: Vec<Placed>,
    /// [`Spec::rev`] of each stream that the planner knew.
    pub specs: BTreeMap<Arc<str>, u64>,
}

/// A unit and where it is, as written: stream, group, replica, node, fence, leaving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed(
    Arc<str>,
    Arc<str>,
    u8,
    Arc<str>,
    u64,
    #[serde(default)] Option<Arc<str>>,
);

impl Placed {
    /// As written.
    pub fn new(unit: &Unit, at: &Placement) -> Self {
        Self(
            Arc::clone(&unit.stream),
            Arc::clone(&unit.group),
            unit.replica,
            Arc::clone(&at.node),
            at.fence,
            at.leaving.clone(),
        )
    }

    /// The same under another fence.
    pub fn fenced(&self, fence: u64) -> Self {
        let mut fenced = self.clone();
        fenced.4 = fence;
        fenced
    }

    /// As planned.
    pub fn parts(&self) -> (Unit, Placement) {
        let unit = Unit {
            stream: Arc::clone(&self.0),
            group: Arc::clone(&self.1),
            replica: self.2,
        };
        let at = Placement {
            node: Arc::clone(&self.3),
            fence: self.4,
            leaving: self.5.clone(),
        };
        (unit, at)
    }
}

/// The instances that a plan counts on.
pub type Members = Vec<Member>;

/// Who runs a unit. It is there from the moment at which the unit is analysed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Id of the instance.
    pub node: Arc<str>,
    /// Of the process.
    pub boot: Arc<str>,
    /// With which it was told to.
    pub fence: u64,
    /// Which [`Spec::rev`] it runs.
    pub rev: u64,
}

/// What units cost on an instance, in cores: (stream, group, cores), with an empty group for decoding.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Load(pub Vec<(Arc<str>, Arc<str>, f64)>);

impl Instance {
    /// As a plan counts on it.
    pub fn member(&self) -> Member {
        Member {
            node: self.node.clone(),
            address: self.address.clone(),
        }
    }

    /// Whether it takes and keeps units.
    pub fn state(&self) -> NodeState {
        self.node.state
    }
}

/// Why a value cannot be read or written, or the store's own trouble.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It says something else than this build expects. The value is not shown: it may hold secrets.
    #[error("what is at `{0}` is not understood")]
    Foreign(String),
    /// A newer build wrote it.
    #[error("what is at `{0}` is of shape {1}; this build knows {SCHEMA}")]
    Newer(String, u32),
    /// It does not serialise; nothing that is written does that.
    #[error("what is to be written at `{0}` cannot be written")]
    Unwritable(String),
}

#[derive(Serialize, Deserialize)]
struct Wrapped<T> {
    schema: u32,
    body: T,
}

/// A value as bytes.
///
/// # Errors
/// [`Fault::Unwritable`].
pub fn encode<T: Serialize>(key: &str, body: &T) -> Result<Bytes, Fault> {
    let wrapped = Wrapped {
        schema: SCHEMA,
        body,
    };
    let bytes = serde_json::to_vec(&wrapped).map_err(|_| Fault::Unwritable(key.to_owned()))?;
    Ok(bytes.into())
}

/// The value of a record.
///
/// # Errors
/// [`Fault::Foreign`], [`Fault::Newer`].
pub fn decode<T: DeserializeOwned>(record: &Record) -> Result<T, Fault> {
    match serde_json::from_slice::<Wrapped<T>>(&record.value) {
        Ok(wrapped) if wrapped.schema == SCHEMA => Ok(wrapped.body),
        _ => match serde_json::from_slice::<Wrapped<IgnoredAny>>(&record.value) {
            Ok(w) if w.schema > SCHEMA => Err(Fault::Newer(record.key.clone(), w.schema)),
            _ => Err(Fault::Foreign(record.key.clone())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::store::Version;

    fn record(value: &str) -> Record {
        Record {
            key: "x".into(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            version: Version(1),
        }
    }

    #[test]
    fn buckets_never_change() {
        assert_eq!(["", "news-1", "sport", "a"].map(bucket_of), [5, 0, 45, 44]);
    }

    #[test]
    fn newer_and_foreign_values_are_told_apart_without_their_text() {
        let newer = decode::<Own>(&record(r#"{"schema":2,"body":[]}"#));
        assert_eq!(newer, Err(Fault::Newer("x".into(), 2)));
        let foreign = decode::<Own>(&record(r#"{"schema":1,"body":"secret"}"#));
        assert_eq!(foreign, Err(Fault::Foreign("x".into())));
    }

    #[test]
    fn values_read_as_written() {
        let unit = Unit {
            stream: "news-1".into(),
            group: "picture".into(),
            replica: 2,
        };
        let at = Placement {
            node: "i-1".into(),
            fence: 7,
            leaving: Some("i-2".into()),
        };
        let written = Bucket {
            units: vec![Placed::new(&unit, &at)],
            specs: [("news-1".into(), 3)].into(),
        };
        let mut read = record("");
        read.value = encode("x", &written).unwrap();
        let read: Bucket = decode(&read).unwrap();
        assert_eq!(read, written);
        assert_eq!(read.units[0].parts(), (unit, at));
    }
}
