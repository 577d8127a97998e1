#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::router::unit::{Mobility, NodeState, Placement};

mod figures;
mod gates;
mod places;
mod rules;
mod slow;

pub(super) fn node(number: usize, zones: usize) -> Node {
    Node {
        id: format!("i{number:03}").into(),
        zone: format!("z{}", number % zones).into(),
        groups: vec!["audio".into(), "video".into()],
        capacity_cores: 16.0,
        state: NodeState::Up,
    }
}

pub(super) fn fleet(count: usize, zones: usize) -> Vec<Node> {
    (0..count).map(|n| node(n, zones)).collect()
}

/// With room for more than any test has.
pub(super) fn roomy(count: usize, zones: usize) -> Vec<Node> {
    let all = fleet(count, zones).into_iter();
    let roomy = |n| Node {
        capacity_cores: 64.0,
        ..n
    };
    all.map(roomy).collect()
}

/// 1 core: video 0.5, audio 0.2, decoding 0.3.
pub(super) fn demand(id: &str) -> Demand {
    Demand {
        stream: id.into(),
        groups: vec![("video".into(), 0.5), ("audio".into(), 0.2)],
        decode_cores: 0.3,
        replicas: 1,
        mobility: Mobility::Free,
        together: None,
        avoid: None,
    }
}

pub(super) fn demands(count: usize) -> Vec<Demand> {
    (0..count).map(|n| demand(&format!("s{n:04}"))).collect()
}

pub(super) fn twice(demands: Vec<Demand>) -> Vec<Demand> {
    let twice = |d| Demand { replicas: 2, ..d };
    demands.into_iter().map(twice).collect()
}

pub(super) fn unit(stream: &str, group: &str, replica: u8) -> Unit {
    Unit {
        stream: stream.into(),
        group: group.into(),
        replica,
    }
}

/// With all reported to run.
pub(super) fn next(before: &Plan, demands: &[Demand], nodes: &[Node], step: Step) -> Outcome {
    plan(before, demands, nodes, &Rules::default(), step, &|_, _| {
        true
    })
}

/// While nothing on the way has arrived.
pub(super) fn on_the_way(before: &Plan, demands: &[Demand], nodes: &[Node]) -> Outcome {
    let rules = Rules::default();
    plan(before, demands, nodes, &rules, Step::Necessary, &|_, _| {
        false
    })
}

pub(super) fn first(demands: &[Demand], nodes: &[Node]) -> Plan {
    next(&Plan::default(), demands, nodes, Step::Necessary).plan
}

/// The nodes without some.
pub(super) fn without(nodes: &[Node], lost: &[&str]) -> Vec<Node> {
    let stays = |n: &&Node| !lost.contains(&&*n.id);
    nodes.iter().filter(stays).cloned().collect()
}

pub(super) fn with_state(nodes: &[Node], id: &str, state: NodeState) -> Vec<Node> {
    let mut nodes = nodes.to_vec();
    nodes.iter_mut().find(|n| *n.id == *id).unwrap().state = state;
    nodes
}

pub(super) fn on<'a>(plan: &'a Plan, stream: &str, group: &str) -> &'a str {
    &plan.units[&unit(stream, group, 1)].node
}

/// Units whose instance differs.
pub(super) fn moved(before: &Plan, after: &Plan) -> Vec<Unit> {
    let differs =
        |(u, p): &(&Unit, &Placement)| after.units.get(u).is_some_and(|a| a.node != p.node);
    let all = before.units.iter().filter(differs);
    all.map(|(u, _)| u.clone()).collect()
}

pub(super) fn units_on(plan: &Plan, id: &str) -> usize {
    plan.units.values().filter(|p| *p.node == *id).count()
}

/// Rebalances until nothing moves, and returns the calls that moved something.
pub(super) fn settle(mut plan: Plan, demands: &[Demand], nodes: &[Node]) -> (Plan, Vec<Outcome>) {
    let mut calls = Vec::new();
    loop {
        let call = next(&plan, demands, nodes, Step::Rebalance);
        assert!(calls.len() < 1000, "does not end");
        if call.plan == plan {
            return (plan, calls);
        }
        plan = call.plan.clone();
        calls.push(call);
    }
}

/// What holds of every plan.
pub(super) fn sound(outcome: &Outcome, demands: &[Demand], nodes: &[Node]) -> Result<(), String> {
    let by_id: BTreeMap<&str, &Node> = nodes.iter().map(|n| (&*n.id, n)).collect();
    let mut expected = BTreeSet::new();
    for d in demands {
        let single = matches!(d.mobility, Mobility::Pinned | Mobility::Quarantined);
        for replica in 1..=if single { 1 } else { d.replicas } {
            for (group, _) in &d.groups {
                expected.insert(unit(&d.stream, group, replica));
            }
        }
    }
    for (unit, placement) in &outcome.plan.units {
        if !expected.remove(unit) {
            return Err(format!("{unit:?} is not wanted"));
        }
        let Some(node) = by_id.get(&*placement.node) else {
            return Err(format!("{unit:?} is on {placement:?}, which is lost"));
        };
        if !node.groups.contains(&unit.group) {
            return Err(format!("{unit:?} is on {node:?}"));
        }
        if placement.fence > outcome.plan.revision {
            return Err(format!("{unit:?}: fence {}", placement.fence));
        }
        let leaving = placement.leaving.as_ref();
        if leaving.is_some_and(|l| *l == placement.node || !by_id.contains_key(&**l)) {
            return Err(format!("{unit:?}: {placement:?}"));
        }
        let twin = Unit {
            replica: 3 - unit.replica,
            ..unit.clone()
        };
        if (outcome.plan.units.get(&twin)).is_some_and(|t| t.node == placement.node) {
            return Err(format!("{unit:?} and its twin are on {}", placement.node));
        }
    }
    for (unit, why) in &outcome.unplaced {
        if !expected.remove(unit) {
            return Err(format!("{unit:?} is placed and not"));
        }
        let offers = nodes
            .iter()
            .filter(|n| n.groups.contains(&unit.group))
            .count();
        let right = match why {
            Why::NobodyOffers => offers == 0,
            Why::NoSecondInstance => offers == 1,
            Why::PinnedElsewhere => offers > 0,
        };
        if !right {
            return Err(format!(
                "{unit:?} is not placed, {why:?}, {offers} offer it"
            ));
        }
    }
    match expected.first() {
        Some(unit) => Err(format!("{unit:?} is missing")),
        None => Ok(()),
    }
}
