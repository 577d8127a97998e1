//! Who watches what, worked out: from what is to be watched, who is there and the plan before to the next plan.
//!
//! Pure: the caller keeps the time and says what this call may do ([`Step`]). What works stays where it is. The rest
//! goes, heaviest first, to the instance that comes first in the stream's rendezvous order ([`super::shard`]) and has
//! room below a cap on load, so that a stream keeps meeting the same few instances. Nothing is left out for load: a
//! missing monitor is the failure.
//!
//! In order of what gives way last: somebody watches it; twins on different instances; what must be together is
//! together; nobody above its capacity; twins in different zones; the cap; one decode a stream; rendezvous order.
//!
//! A move of something that runs is made before it is broken: the instance before is named as
//! [`Placement::leaving`] and keeps the unit until the new one reports that it runs.

use std::ops::AddAssign;
use std::sync::Arc;

use super::unit::{Demand, Node, Plan, Unit};

mod gate;
mod island;
mod place;
mod slow;
mod table;

pub use gate::{Refused, accept};
pub use island::Island;

use table::Table;

#[cfg(doc)]
use super::unit::Placement;

/// The planner's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Most load of an instance relative to its capacity, over the mean of all.
    pub cap_over_mean: f64,
    /// Load over the mean, from which on the caller should consider [`Step::Rebalance`]; as far below counts too.
    pub uneven_over_mean: f64,
    /// Share of all units that may be moved slowly in one call; at least one stream's.
    pub slow_share: f64,
    /// Share of its load that an instance may shed in one call; at least one stream.
    pub shed_share: f64,
    /// Most instances that may be kept for quarantined streams, as a share of those that are up; at least one.
    pub ward_share: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            cap_over_mean: 1.10,
            uneven_over_mean: 1.15,
            slow_share: 0.01,
            shed_share: 0.10,
            ward_share: 0.25,
        }
    }
}

/// How much a call may do. Each does what those before do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// What cannot wait: what is new, lost, draining, or where it must not be.
    Necessary,
    /// Once a minute: sick and overloaded instances shed a part, neighbours of quarantined streams leave, twins that
    /// share a zone part.
    Relieve,
    /// Once a minute while load has been uneven for some time ([`Balance::uneven`]).
    Rebalance,
}

/// The next plan, and what was done to get there.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Equals the plan before if nothing is to be changed.
    pub plan: Plan,
    /// Units that changed, by why.
    pub moves: Moves,
    /// What nobody watches, or no second instance does.
    pub unplaced: Vec<(Unit, Why)>,
    /// Instances with more load than capacity.
    pub overloaded: Vec<Arc<str>>,
    /// Pinned streams whose sender must be pointed at another instance.
    pub repointed: Vec<Repointed>,
    /// How even the load is.
    pub balance: Balance,
    /// Load of each instance once all moves are made, in cores, by id.
    pub loads: Vec<(Arc<str>, f64)>,
}

/// Counts of units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moves {
    /// Watched for the first time.
    pub placed: usize,
    /// Nobody wants them any more, or nobody can watch them.
    pub removed: usize,
    /// Their instance is gone, or no longer runs their group.
    pub lost: usize,
    /// Their instance is draining.
    pub drained: usize,
    /// They must not be where they were: apart from what they belong to, beside their twin, where they took an
    /// instance down.
    pub required: usize,
    /// Back where they still run, because the instance they were on the way to is gone or leaving.
    pub returned: usize,
    /// Their instance carries too much, is sick, or is being cleared for a quarantined stream.
    pub shed: usize,
    /// For evenness, or to bring twins into different zones.
    pub rebalanced: usize,
    /// Moves that ended: the instance before lets go.
    pub finished: usize,
}

impl Moves {
    /// Units that go from one instance to another.
    pub fn moved(&self) -> usize {
        let must = self.lost + self.drained + self.required + self.returned;
        must + self.shed + self.rebalanced
    }
}

impl AddAssign for Moves {
    fn add_assign(&mut self, more: Self) {
        self.placed += more.placed;
        self.removed += more.removed;
        self.lost += more.lost;
        self.drained += more.drained;
        self.required += more.required;
        self.returned += more.returned;
        self.shed += more.shed;
        self.rebalanced += more.rebalanced;
        self.finished += more.finished;
    }
}

/// Why a unit is not in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No instance that lives runs its group of detectors.
    NobodyOffers,
    /// Only the instance that has its twin runs the group: it is watched, but once only.
    NoSecondInstance,
    /// Its stream is pinned to an instance that does not run the group.
    PinnedElsewhere,
}

/// A pinned stream that somebody else listens for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repointed {
    /// Id of the stream.
    pub stream: Arc<str>,
    /// Instance that it is sent to.
    pub from: Arc<str>,
    /// Instance that it must be sent to.
    pub to: Arc<str>,
}

/// How even load is among the instances that are up and not kept for quarantined streams: load relative to capacity,
/// over the mean of all that share groups of detectors. 1 where there is no load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// Of the fullest.
    pub max_over_mean: f64,
    /// Of the emptiest.
    pub min_over_mean: f64,
}

impl Balance {
    /// Whether slow rebalancing would be of use, if it stays so. An instance that came back is nearly empty while
    /// all others are well within the cap, so what is low counts too.
    pub fn uneven(&self, rules: &Rules) -> bool {
        self.max_over_mean > rules.uneven_over_mean
            || self.min_over_mean < 2.0 - rules.uneven_over_mean
    }
}

/// The next plan.
///
/// `nodes` are those that live; who is missing there is lost. `running` says whether an instance reports that it
/// runs a unit, and is asked only about units on the way. The order of `demands` and `nodes` does not matter; of two
/// with the same id the first counts.
pub fn plan(
    before: &Plan,
    demands: &[Demand],
    nodes: &[Node],
    rules: &Rules,
    step: Step,
    running: &dyn Fn(&Unit, &str) -> bool,
) -> Outcome {
    let mut table = Table::new(before, demands, nodes, rules, running);
    table.gather();
    table.quarantine();
    table.level();
    table.place_pending();
    if step >= Step::Relieve {
        table.level();
        let mut budget = table.slow_budget();
        table.relieve(&mut budget);
        if step >= Step::Rebalance {
            table.level();
            table.rebalance(&mut budget);
        }
    }
    table.level();
    table.outcome(before)
}

#[cfg(test)]
mod tests;
