//! A planner of a few lines, so that the protocol is tested by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use glasswatch::router::planner::{Planned, Planning, Step};
use glasswatch::router::unit::{Demand, Node, NodeState, Placement, Plan, Unit};

pub struct StandIn;

fn hash(unit: &Unit, node: &str) -> u64 {
    let bytes = unit.stream.bytes().chain(node.bytes()).chain([unit.replica]);
    bytes.fold(0xCBF2_9CE4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3).rotate_left(7)
    })
}

impl Planning for StandIn {
    fn plan(
        &self,
        before: &Plan,
        demands: &[Demand],
        nodes: &[Node],
        running: &dyn Fn(&Unit, &str) -> bool,
        _: Step,
    ) -> Planned {
        let revision = before.revision + 1;
        let node = |id: &str| nodes.iter().find(|n| *n.id == *id);
        let up = |id: &str| node(id).is_some_and(|n| n.state == NodeState::Up);
        let mut units: BTreeMap<Unit, Placement> = BTreeMap::new();
        let mut load: BTreeMap<&str, u32> = BTreeMap::new();
        let all = demands.iter().flat_map(|demand| {
            let of = |group: &Arc<str>, replica| Unit {
                stream: Arc::clone(&demand.stream),
                group: Arc::clone(group),
                replica,
            };
            let groups = demand.groups.iter();
            groups.flat_map(move |(g, _)| (1..=demand.replicas).map(move |r| of(g, r)))
        });
        let all: Vec<Unit> = all.collect();
        let mut rest = Vec::new();
        for unit in &all {
            let Some(mut at) = before.units.get(unit).cloned() else {
                rest.push((unit, None));
                continue;
            };
            if at.leaving.as_ref().is_some_and(|l| node(l).is_none()) || running(unit, &at.node) {
                at.leaving = None;
            }
            if up(&at.node) {
                units.insert(unit.clone(), at);
            } else if at.leaving.as_ref().is_some_and(|l| up(l)) {
                at.node = at.leaving.take().unwrap_or(at.node);
                at.fence = revision;
                units.insert(unit.clone(), at);
            } else {
                let still = at.leaving.or_else(|| node(&at.node).map(|_| at.node));
                rest.push((unit, still));
            }
        }
        for at in units.values() {
            if let Some(n) = node(&at.node) {
                *load.entry(&*n.id).or_default() += 1;
            }
        }
        for (unit, leaving) in rest {
            let twin = Unit {
                replica: 3 - unit.replica,
                ..unit.clone()
            };
            let twin = units.get(&twin).map(|at| Arc::clone(&at.node));
            let offers = |n: &&Node| {
                n.state == NodeState::Up
                    && n.groups.contains(&unit.group)
                    && twin.as_ref() != Some(&n.id)
            };
            let free = |n: &&Node| (load.get(&*n.id).copied().unwrap_or(0), hash(unit, &n.id));
            if let Some(n) = nodes.iter().filter(offers).min_by_key(free) {
                *load.entry(&*n.id).or_default() += 1;
                let at = Placement {
                    node: Arc::clone(&n.id),
                    fence: revision,
                    leaving,
                };
                units.insert(unit.clone(), at);
            } else if let Some(before) = before.units.get(unit)
                && node(&before.node).is_some()
            {
                // Nobody else: who is there keeps it as long as it can.
                units.insert(unit.clone(), before.clone());
            }
        }
        let changed = units != before.units;
        let plan = Plan {
            revision: if changed { revision } else { before.revision },
            units,
        };
        Planned {
            plan,
            uneven: false,
        }
    }

    fn accept(
        &self,
        old: &Plan,
        new: &Plan,
        nodes: &[Node],
        gone: &dyn Fn(&str) -> bool,
    ) -> Result<(), String> {
        if let Some(at) = new.units.values().find(|at| nodes.iter().all(|n| n.id != at.node)) {
            return Err(format!("{} is not there", at.node));
        }
        let kept = old.units.keys().filter(|u| !gone(&u.stream));
        let (mut all, mut dropped) = (0, 0);
        for unit in kept.filter(|u| u.replica == 1) {
            all += 1;
            dropped += usize::from(!new.units.contains_key(unit));
        }
        if dropped * 5 > all {
            return Err(format!("{dropped} of {all} units are dropped"));
        }
        Ok(())
    }

    fn shadows(
        &self,
        plan: &Plan,
        nodes: &[Node],
        alive: &dyn Fn(&str) -> bool,
        me: &str,
    ) -> Vec<Unit> {
        let lost = plan.units.iter().filter(|(_, at)| !alive(&at.node));
        let mine = lost.filter(|(unit, _)| {
            let up = nodes.iter().filter(|n| alive(&n.id) && n.groups.contains(&unit.group));
            up.max_by_key(|n| hash(unit, &n.id)).is_some_and(|n| *n.id == *me)
        });
        mine.map(|(unit, _)| unit.clone()).collect()
    }
}
