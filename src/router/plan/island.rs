//! Who steps in while nobody can plan: the store cannot be reached, and an instance does not answer either.

use std::collections::HashMap;
use std::sync::Arc;

use crate::router::shard::Seed;
use crate::router::unit::{Demand, Mobility, Node, NodeState, Plan, Unit};

/// What an instance knew when it last could ask: the plan, what is wanted, and who there was.
///
/// Each instance works out for itself what it has to start, from this and from who answers it. Where two do not
/// reach the same others both start a unit, and nobody is harmed; so loads are those of the plan, which all know,
/// and never what somebody has started since.
#[derive(Debug)]
pub struct Island<'a> {
    plan: &'a Plan,
    demands: HashMap<&'a str, &'a Demand>,
    nodes: &'a [Node],
    loads: HashMap<&'a str, f64>,
}

impl<'a> Island<'a> {
    /// From the plan, the demands and the instances as they were known last.
    pub fn new(plan: &'a Plan, demands: &'a [Demand], nodes: &'a [Node]) -> Self {
        let demands: HashMap<&str, &Demand> = demands.iter().map(|d| (&*d.stream, d)).collect();
        let mut loads: HashMap<&str, f64> = HashMap::new();
        // Units of a stream follow each other; its decoding is paid once on each instance.
        let mut decoding: (&str, Vec<&str>) = ("", Vec::new());
        for (unit, placement) in &plan.units {
            let Some(demand) = demands.get(&*unit.stream) else {
                continue;
            };
            if decoding.0 != &*unit.stream {
                decoding = (&unit.stream, Vec::new());
            }
            let load = loads.entry(&placement.node).or_default();
            *load += group_cores(demand, &unit.group);
            if !decoding.1.contains(&&*placement.node) {
                decoding.1.push(&placement.node);
                *load += demand.decode_cores;
            }
        }
        Self {
            plan,
            demands,
            nodes,
            loads,
        }
    }

    /// Who is to watch a unit of the plan whose instances do not answer: the next that does in its stream's
    /// rendezvous order and has room, else the next that does.
    ///
    /// `None` = nobody: it, or its twin, is watched; nobody who answers runs the group; its stream is pinned, so that
    /// nobody else hears it; or it is quarantined, and may be what took the instance down.
    pub fn shadow(&self, unit: &Unit, answers: &dyn Fn(&str) -> bool) -> Option<&'a Arc<str>> {
        let demand = self.demands.get(&*unit.stream)?;
        if matches!(demand.mobility, Mobility::Pinned | Mobility::Quarantined) {
            return None;
        }
        let replica = |replica| Unit {
            replica,
            ..unit.clone()
        };
        for r in 1..=2 {
            let Some(p) = self.plan.units.get(&replica(r)) else {
                continue;
            };
            if answers(&p.node) || p.leaving.as_deref().is_some_and(answers) {
                return None;
            }
            // Of two that are both lost the first is started.
            if r < unit.replica {
                return None;
            }
        }
        let seed = Seed::of(demand.together.as_deref().unwrap_or(&demand.stream));
        let cores = demand.decode_cores + group_cores(demand, &unit.group);
        let order = |node: &&Node| {
            let load = self.loads.get(&*node.id).copied().unwrap_or(0.0);
            let room = load + cores <= node.capacity_cores;
            let rank = match node.state {
                NodeState::Up if room => 3,
                NodeState::Up => 2,
                NodeState::Sick => 1,
                NodeState::Draining => 0,
            };
            (rank, seed.weight(node.id.as_bytes()))
        };
        let takes = |node: &&Node| {
            node.groups.contains(&unit.group)
                && demand.avoid.as_ref() != Some(&node.id)
                && answers(&node.id)
        };
        let next = self.nodes.iter().filter(takes).max_by_key(order);
        next.map(|node| &node.id)
    }

    /// Units that an instance is to start. It answers itself.
    pub fn shadows(&self, me: &str, answers: &dyn Fn(&str) -> bool) -> Vec<&'a Unit> {
        let answers = |id: &str| id == me || answers(id);
        let mine = |unit: &&Unit| self.shadow(unit, &answers).is_some_and(|id| **id == *me);
        self.plan.units.keys().filter(mine).collect()
    }
}

fn group_cores(demand: &Demand, group: &str) -> f64 {
    let group = demand.groups.iter().find(|(name, _)| **name == *group);
    group.map_or(0.0, |(_, cores)| *cores)
}
