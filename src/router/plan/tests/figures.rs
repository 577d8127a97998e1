//! A fleet as large as was asked for: 40,000 units on 500 instances in 3 zones. Work is bounded by counts; times are
//! what `benches/plan.rs` prints.

use super::*;

const GROUPS: [&str; 4] = ["audio", "reference", "transport", "video"];

/// Streams that cost 1, 2.5, 6 or 12 times as much (50, 40, 8, 2 % of them), in 4 groups, twice.
fn streams(count: usize) -> Vec<Demand> {
    let stream = |n: usize| {
        let size = match n * 37 % 100 {
            0..50 => 1.0,
            50..90 => 2.5,
            90..98 => 6.0,
            _ => 12.0,
        };
        Demand {
            stream: format!("channel-{n:05}").into(),
            groups: GROUPS.map(|g| (g.into(), 0.01 * size)).to_vec(),
            decode_cores: 0.02 * size,
            replicas: 2,
            ..demand("")
        }
    };
    (0..count).map(stream).collect()
}

fn instances(count: usize) -> Vec<Node> {
    let all = fleet(count, 3).into_iter().map(|n| Node {
        groups: GROUPS.map(Arc::from).to_vec(),
        capacity_cores: 4.0,
        ..n
    });
    all.collect()
}

#[test]
fn of_forty_thousand_units_one_loss_moves_its_own_and_one_addition_few() {
    let (demands, nodes) = (streams(5000), instances(500));
    let full = next(&Plan::default(), &demands, &nodes, Step::Necessary);
    assert_eq!((full.plan.units.len(), full.moves.placed), (40_000, 40_000));
    sound(&full, &demands, &nodes).unwrap();
    assert!(full.balance.max_over_mean <= 1.101, "{:?}", full.balance);

    // The first plan leaves a few low that come early in the order of few streams.
    let (even, calls) = settle(full.plan, &demands, &nodes);
    assert!(calls.len() <= 10, "{}", calls.len());

    let lost = "i123";
    let own = units_on(&even, lost);
    let after = next(&even, &demands, &without(&nodes, &[lost]), Step::Necessary);
    assert_eq!((after.moves.lost, after.moves.moved()), (own, own));
    assert!((40..=160).contains(&own), "{own}");
    assert!(after.balance.max_over_mean <= 1.15, "{:?}", after.balance);

    let nodes = instances(501);
    let added = next(&even, &demands, &nodes, Step::Necessary);
    assert_eq!(added.plan, even);
    let (end, calls) = settle(added.plan, &demands, &nodes);
    let all: usize = calls.iter().map(|c| c.moves.moved()).sum();
    assert!((40..=200).contains(&all), "{all} moves");
    assert!(calls.iter().all(|c| c.moves.moved() <= 400));
    assert!(units_on(&end, "i500") >= 40, "{}", units_on(&end, "i500"));
}

#[test]
fn a_rolling_restart_moves_what_it_must_and_evens_out() {
    let (demands, nodes) = (streams(250), instances(25));
    let mut now = first(&demands, &nodes);
    let (mut drained, mut other) = (0, 0);
    for node in &nodes {
        let count = units_on(&now, &node.id);
        let draining = with_state(&nodes, &node.id, NodeState::Draining);
        let going = on_the_way(&now, &demands, &draining);
        assert_eq!(going.moves.drained, count);
        let gone = next(
            &going.plan,
            &demands,
            &without(&nodes, &[&node.id]),
            Step::Necessary,
        );
        assert_eq!(gone.moves.moved(), 0);
        let back = next(&gone.plan, &demands, &nodes, Step::Rebalance);
        drained += count;
        other += back.moves.moved();
        now = back.plan;
    }
    let (end, calls) = settle(now, &demands, &nodes);
    let late: usize = calls.iter().map(|c| c.moves.moved()).sum();
    assert!(drained <= 3000 && other <= 25 * 20, "{drained} {other}");
    assert!(late <= 200, "{late}");
    let balance = next(&end, &demands, &nodes, Step::Necessary).balance;
    assert!(!balance.uneven(&Rules::default()), "{balance:?}");
}
