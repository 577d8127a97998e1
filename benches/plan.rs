//! What planning a large fleet takes and moves: `cargo bench --bench plan`.
//!
//! 40,000 units (5,000 streams of four sizes, 4 groups of detectors, twice) on 500 instances in 3 zones. Prints the
//! milliseconds of a call (median; wanted: at most 200), and the share of all units that move when one instance is
//! lost (wanted: its own), when one is added (wanted: at most 5 %), when some streams come to cost more, and when all
//! are restarted in turn.

use std::sync::Arc;
use std::time::Instant;

use glasswatch::router::plan::{Outcome, Rules, Step, plan};
use glasswatch::router::unit::{Demand, Mobility, Node, NodeState, Plan};

const STREAMS: usize = 5000;
const INSTANCES: usize = 500;
const GROUPS: [&str; 4] = ["audio", "reference", "transport", "video"];
const REPEATS: usize = 7;
/// Instances that are drained together in the rolling restart: 2 %.
const ROLL: usize = 10;

fn main() {
    let (demands, nodes) = (streams(), instances(INSTANCES));
    let none = Plan::default();
    let units = 2 * GROUPS.len() * STREAMS;
    println!("== {units} units on {INSTANCES} instances");
    let full = timed("first plan", || {
        next(&none, &demands, &nodes, Step::Necessary)
    });
    say(&full, units);
    let (even, moved, _) = settle(full.plan, &demands, &nodes);
    println!("evened out: {}", share(moved, units));
    let still = timed("nothing changed", || {
        next(&even, &demands, &nodes, Step::Necessary)
    });
    assert_eq!(still.plan, even);
    timed("nothing changed, rebalance", || {
        next(&even, &demands, &nodes, Step::Rebalance)
    });

    println!("== One lost");
    let own = even
        .units
        .values()
        .filter(|p| p.node == nodes[123].id)
        .count();
    let mut left = nodes.clone();
    left.remove(123);
    let lost = timed("plan", || next(&even, &demands, &left, Step::Necessary));
    say(&lost, units);
    println!(
        "its own {}, others {}",
        share(own, units),
        lost.moves.moved() - own
    );

    println!("== One zone of three lost");
    let left: Vec<Node> = nodes.iter().filter(|n| *n.zone != *"z1").cloned().collect();
    let lost = timed("plan", || next(&even, &demands, &left, Step::Necessary));
    say(&lost, units);

    println!("== One added");
    let more = instances(INSTANCES + 1);
    let added = timed("plan", || next(&even, &demands, &more, Step::Necessary));
    say(&added, units);
    timed("rebalance", || {
        next(&even, &demands, &more, Step::Rebalance)
    });
    let (after, moved, _) = settle(added.plan, &demands, &more);
    let loads = next(&after, &demands, &more, Step::Necessary).loads;
    let mean = loads.iter().map(|(_, cores)| cores).sum::<f64>() / loads.len() as f64;
    let own = loads
        .iter()
        .find(|(id, _)| *id == more[INSTANCES].id)
        .map_or(0.0, |l| l.1);
    println!(
        "slowly {} in all, it has {:.2} of the mean",
        share(moved, units),
        own / mean
    );

    println!("== A twentieth of the streams costs 2.5 times as much");
    let mut heavier = demands.clone();
    for demand in heavier.iter_mut().step_by(20) {
        demand.decode_cores *= 2.5;
        demand
            .groups
            .iter_mut()
            .for_each(|(_, cores)| *cores *= 2.5);
    }
    let shed = timed("plan", || next(&even, &heavier, &nodes, Step::Relieve));
    say(&shed, units);

    println!("== All restarted, {ROLL} at a time");
    let (mut now, mut drained, mut longest) = (even, 0, 0.0_f64);
    for first in (0..INSTANCES).step_by(ROLL) {
        let mut leaving = nodes.clone();
        for node in &mut leaving[first..first + ROLL] {
            node.state = NodeState::Draining;
        }
        let mut gone = nodes.clone();
        gone.drain(first..first + ROLL);
        let begun = Instant::now();
        let going = next(&now, &demands, &leaving, Step::Necessary);
        longest = longest.max(begun.elapsed().as_secs_f64() * 1e3);
        let away = next(&going.plan, &demands, &gone, Step::Necessary);
        assert_eq!(away.moves.moved(), 0);
        drained += going.moves.drained;
        now = away.plan;
    }
    println!(
        "drained {}, longest call {longest:.0} ms",
        share(drained, units)
    );
    say(&next(&now, &demands, &nodes, Step::Necessary), units);
    let (end, moved, calls) = settle(now, &demands, &nodes);
    println!("then slowly {} in {calls} calls", share(moved, units));
    say(&next(&end, &demands, &nodes, Step::Necessary), units);
}

fn next(before: &Plan, demands: &[Demand], nodes: &[Node], step: Step) -> Outcome {
    plan(before, demands, nodes, &Rules::default(), step, &|_, _| {
        true
    })
}

/// Rebalances until nothing moves; with how many units did, in how many calls.
fn settle(mut plan: Plan, demands: &[Demand], nodes: &[Node]) -> (Plan, usize, usize) {
    let (mut moved, mut calls) = (0, 0);
    loop {
        let call = next(&plan, demands, nodes, Step::Rebalance);
        if call.plan == plan {
            return (plan, moved, calls);
        }
        moved += call.moves.moved();
        calls += 1;
        plan = call.plan;
    }
}

fn timed(what: &str, call: impl Fn() -> Outcome) -> Outcome {
    let mut took: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let begun = Instant::now();
            std::hint::black_box(call());
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    println!("{what}: {:.0} ms", took[REPEATS / 2]);
    call()
}

fn say(outcome: &Outcome, units: usize) {
    println!(
        "moved {}, max/mean {:.3}, min/mean {:.3}, {} overloaded, {} unplaced",
        share(outcome.moves.moved(), units),
        outcome.balance.max_over_mean,
        outcome.balance.min_over_mean,
        outcome.overloaded.len(),
        outcome.unplaced.len()
    );
}

fn share(some: usize, units: usize) -> String {
    format!("{some} ({:.2} %)", some as f64 * 100.0 / units as f64)
}

/// Streams that cost 1, 2.5, 6 or 12 times as much: 50, 40, 8 and 2 % of them.
fn streams() -> Vec<Demand> {
    let stream = |n: usize| {
        let size = match n * 37 % 100 {
            0..50 => 1.0,
            50..90 => 2.5,
            90..98 => 6.0,
            _ => 12.0,
        };
        Demand {
            stream: format!("channel-{n:05}").into(),
            groups: GROUPS.map(|g| (Arc::from(g), 0.01 * size)).to_vec(),
            decode_cores: 0.02 * size,
            replicas: 2,
            mobility: Mobility::Free,
            together: None,
            avoid: None,
        }
    };
    (0..STREAMS).map(stream).collect()
}

fn instances(count: usize) -> Vec<Node> {
    let instance = |n: usize| Node {
        id: format!("instance-{n:04}").into(),
        zone: format!("z{}", n % 3).into(),
        groups: GROUPS.map(Arc::from).to_vec(),
        capacity_cores: 4.0,
        state: NodeState::Up,
    };
    (0..count).map(instance).collect()
}
