//! What is shared out, among whom, and the plan that says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What one instance watches as a whole: one group of detectors over one stream, once or twice over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unit {
    /// Id of the stream.
    pub stream: Arc<str>,
    /// Name of the group of detectors.
    pub group: Arc<str>,
    /// 1, or 2 for the twin.
    pub replica: u8,
}

/// A stream that is to be watched, as far as planning goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Id of the stream.
    pub stream: Arc<str>,
    /// Groups of detectors and what each costs, in cores, without decoding.
    pub groups: Vec<(Arc<str>, f64)>,
    /// What decoding costs, in cores; paid once on each instance that has any group of the stream.
    pub decode_cores: f64,
    /// 1 or 2.
    pub replicas: u8,
    /// How freely it may be moved.
    pub mobility: Mobility,
    /// Streams that are compared with each other have the same key here, and go to one instance. `None` = the
    /// stream's id.
    pub together: Option<Arc<str>>,
    /// An instance to keep it off while there is any other: the one that it took down last.
    pub avoid: Option<Arc<str>>,
}

/// How freely a stream may be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mobility {
    /// Anywhere, any time.
    Free,
    /// It has an open alert or came lately: moved only when its instance is lost or drained.
    Settled,
    /// Somebody sends it to one address: all groups on one instance, one replica, never rebalanced.
    Pinned,
    /// It is blamed for crashes: all groups on one instance that carries as few others as can be, one replica, and
    /// never on two instances at once.
    Quarantined,
}

/// An instance, as far as planning goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Id of the instance; survives restarts.
    pub id: Arc<str>,
    /// Availability zone or rack; twins go to different ones where they can.
    pub zone: Arc<str>,
    /// Groups of detectors that it runs.
    pub groups: Vec<Arc<str>>,
    /// What it may be loaded with, in cores.
    pub capacity_cores: f64,
    /// Whether it takes and keeps units.
    pub state: NodeState,
}

/// Whether an instance takes and keeps units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Takes and keeps.
    Up,
    /// Gives all away, each when its successor runs.
    Draining,
    /// Cannot keep up: takes none and gives a part away.
    Sick,
}

/// Where a unit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Id of the instance that is to watch it.
    pub node: Arc<str>,
    /// Revision of the plan that put it there. What comes from a holder of a lower fence is outdated.
    pub fence: u64,
    /// The instance that had it before and keeps it until the new one reports that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Arc<str>>,
}

/// Who watches what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rises with every change.
    pub revision: u64,
    /// Every unit that somebody watches.
    pub units: BTreeMap<Unit, Placement>,
}
