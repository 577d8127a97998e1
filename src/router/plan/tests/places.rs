//! Where units go and stay.

use super::*;
use crate::router::shard::Seed;

#[test]
fn what_works_stays_and_an_unchanged_plan_keeps_its_revision() {
    let (nodes, demands) = (fleet(8, 2), twice(demands(40)));
    let plan = first(&demands, &nodes);
    assert_eq!(plan.revision, 1);
    assert!(
        plan.units
            .values()
            .all(|p| p.fence == 1 && p.leaving.is_none())
    );
    let again = next(&plan, &demands, &nodes, Step::Necessary);
    assert_eq!(again.plan, plan);
    assert_eq!(again.moves, Moves::default());
    // Neither does the order matter in which they come.
    let (mut others, mut wanted) = (nodes.clone(), demands.clone());
    others.reverse();
    wanted.reverse();
    assert_eq!(first(&wanted, &others), plan);
}

#[test]
fn only_what_was_lost_moves_and_only_its_fences_rise() {
    let (nodes, demands) = (fleet(8, 2), demands(48));
    let before = first(&demands, &nodes);
    let after = next(
        &before,
        &demands,
        &without(&nodes, &["i003"]),
        Step::Rebalance,
    );
    let lost = units_on(&before, "i003");
    assert!(lost >= 10, "{lost}");
    assert_eq!((after.moves.lost, after.moves.moved()), (lost, lost));
    assert_eq!(after.plan.revision, 2);
    for (unit, placement) in &after.plan.units {
        let was = &before.units[unit];
        let new = *was.node == *"i003";
        assert_eq!(
            (placement.node != was.node, placement.fence == 2),
            (new, new)
        );
        assert_eq!(placement.leaving, None, "who is lost keeps nothing");
    }
}

#[test]
fn a_drained_instance_keeps_each_unit_until_its_successor_runs() {
    let (nodes, demands) = (fleet(4, 1), demands(12));
    let before = first(&demands, &nodes);
    let nodes = with_state(&nodes, "i001", NodeState::Draining);
    let going = on_the_way(&before, &demands, &nodes);
    let count = units_on(&before, "i001");
    assert_eq!(
        (going.moves.drained, units_on(&going.plan, "i001")),
        (count, 0)
    );
    let leaving = |p: &Plan| p.units.values().filter(|p| p.leaving.is_some()).count();
    assert_eq!(leaving(&going.plan), count);
    // Nothing is moved again on the way.
    assert_eq!(on_the_way(&going.plan, &demands, &nodes).plan, going.plan);
    let gone = next(&going.plan, &demands, &nodes, Step::Necessary);
    assert_eq!(
        (gone.moves.finished, gone.moves.moved(), leaving(&gone.plan)),
        (count, 0, 0)
    );
    for (unit, placement) in &gone.plan.units {
        assert_eq!(placement.fence, going.plan.units[unit].fence);
    }
}

#[test]
fn who_is_lost_on_the_way_lets_go() {
    let (nodes, demands) = (fleet(4, 1), demands(12));
    let before = first(&demands, &nodes);
    let draining = with_state(&nodes, "i001", NodeState::Draining);
    let going = on_the_way(&before, &demands, &draining);
    let gone = on_the_way(&going.plan, &demands, &without(&nodes, &["i001"]));
    assert_eq!(gone.moves.moved(), 0);
    assert!(gone.plan.units.values().all(|p| p.leaving.is_none()));
}

/// One stream on the way from `i000` to another.
fn on_its_way() -> (Plan, Vec<Demand>, Vec<Node>, String) {
    let demands = demands(1);
    let before = first(&demands, &fleet(1, 1));
    let nodes = with_state(&fleet(3, 1), "i000", NodeState::Draining);
    let going = on_the_way(&before, &demands, &nodes).plan;
    let to = on(&going, "s0000", "video").to_owned();
    (going, demands, nodes, to)
}

#[test]
fn a_target_that_is_lost_gives_back_to_who_still_runs_it() {
    let (going, demands, nodes, to) = on_its_way();
    // The drain was called off.
    let nodes = with_state(&without(&nodes, &[&to]), "i000", NodeState::Up);
    let back = on_the_way(&going, &demands, &nodes);
    assert_eq!((back.moves.returned, back.moves.moved()), (2, 2));
    let placement = &back.plan.units[&unit("s0000", "video", 1)];
    assert_eq!((&*placement.node, &placement.leaving), ("i000", &None));
    // The lost one was told a fence that is now too low.
    assert_eq!(placement.fence, going.revision + 1);
}

#[test]
fn a_target_that_is_lost_while_the_holder_drains_is_replaced() {
    let (going, demands, nodes, to) = on_its_way();
    let third = on_the_way(&going, &demands, &without(&nodes, &[&to]));
    let placement = &third.plan.units[&unit("s0000", "video", 1)];
    assert!(*placement.node != *to && *placement.node != *"i000");
    assert_eq!(placement.leaving.as_deref(), Some("i000"));
    // As is one that begins to drain too; it is not what runs.
    let both = on_the_way(
        &going,
        &demands,
        &with_state(&nodes, &to, NodeState::Draining),
    );
    assert_eq!(both.plan.units[&unit("s0000", "video", 1)], *placement);
}

#[test]
fn groups_of_one_stream_share_an_instance_while_they_fit() {
    let (nodes, wanted) = (fleet(8, 1), demands(80));
    let plan = first(&wanted, &nodes);
    let apart = |plan: &Plan, ds: &[Demand]| {
        let apart = |d: &&Demand| on(plan, &d.stream, "video") != on(plan, &d.stream, "audio");
        ds.iter().filter(apart).count()
    };
    assert_eq!(apart(&plan, &wanted), 0);
    // 3 streams for 2 instances: parted, one of each group more evens it out.
    let costly = |d| Demand {
        groups: vec![("video".into(), 1.0), ("audio".into(), 1.0)],
        decode_cores: 0.01,
        ..d
    };
    let three: Vec<Demand> = demands(3).into_iter().map(costly).collect();
    let outcome = next(&Plan::default(), &three, &fleet(2, 1), Step::Necessary);
    assert_eq!(apart(&outcome.plan, &three), 1);
    assert!(outcome.balance.max_over_mean < 1.01, "{outcome:?}");
}

#[test]
fn a_group_that_is_added_goes_to_its_stream() {
    let nodes = fleet(8, 1);
    let mut demands = demands(79);
    let video = |d: &mut Demand| drop(d.groups.remove(1));
    demands.iter_mut().for_each(video);
    let before = first(&demands, &nodes);
    demands[7].groups.push(("audio".into(), 0.2));
    let after = next(&before, &demands, &nodes, Step::Necessary);
    assert_eq!((after.moves.placed, after.moves.moved()), (1, 0));
    assert_eq!(
        on(&after.plan, "s0007", "audio"),
        on(&before, "s0007", "video")
    );
    // What is wanted no more is gone.
    let less = next(&after.plan, &demands[1..], &nodes, Step::Necessary);
    assert_eq!((less.moves.removed, less.moves.moved()), (1, 0));
}

#[test]
fn twins_are_in_different_zones_and_come_apart_when_a_zone_returns() {
    let (nodes, demands) = (fleet(6, 2), twice(demands(30)));
    let zone_of = |id: &str| nodes.iter().find(|n| *n.id == *id).unwrap().zone.clone();
    let parted = |plan: &Plan| {
        let firsts = plan.units.iter().filter(|(u, _)| u.replica == 1);
        let apart = firsts.filter(|(u, p)| {
            let twin = &plan.units[&unit(&u.stream, &u.group, 2)];
            assert_ne!(twin.node, p.node);
            zone_of(&twin.node) != zone_of(&p.node)
        });
        apart.count()
    };
    let before = first(&demands, &nodes);
    assert_eq!(parted(&before), 60);
    let lost = without(&nodes, &["i000", "i002", "i004"]);
    let one_zone = next(&before, &demands, &lost, Step::Necessary);
    assert_eq!(
        (one_zone.plan.units.len(), parted(&one_zone.plan)),
        (120, 0)
    );
    let (after, calls) = settle(one_zone.plan, &demands, &nodes);
    assert_eq!(parted(&after), 60);
    assert!(calls.iter().all(|c| c.moves.rebalanced <= 4), "slowly");
}

#[test]
fn a_twin_without_a_second_instance_is_left_out_and_said() {
    let demands = twice(demands(1));
    let one = next(&Plan::default(), &demands, &fleet(1, 1), Step::Necessary);
    assert_eq!(one.plan.units.len(), 2);
    let left = [
        (unit("s0000", "audio", 2), Why::NoSecondInstance),
        (unit("s0000", "video", 2), Why::NoSecondInstance),
    ];
    assert_eq!(one.unplaced, left);
    let two = next(&one.plan, &demands, &fleet(2, 1), Step::Necessary);
    assert_eq!((two.moves.placed, two.moves.moved()), (2, 0));
    assert_eq!(two.unplaced, []);
}

#[test]
fn where_there_is_but_one_place_who_is_there_stays() {
    let mut nodes = fleet(2, 1);
    nodes[0].groups = vec!["audio".into()];
    nodes[0].state = NodeState::Draining;
    nodes[1].groups = vec!["video".into()];
    let mut wanted = twice(demands(1));
    let plan = first(&wanted, &nodes);
    assert_eq!(on(&plan, "s0000", "audio"), "i000");
    assert_eq!(next(&plan, &wanted, &nodes, Step::Necessary).plan, plan);
    // Nor do twins swap two places of which neither is good.
    nodes.push(node(2, 1));
    wanted[0].avoid = Some("i002".into());
    let plan = first(&wanted, &nodes);
    assert_eq!(plan.units.len(), 4);
    assert_eq!(next(&plan, &wanted, &nodes, Step::Necessary).plan, plan);
}

#[test]
fn a_group_that_nobody_offers_is_left_out_and_comes_back() {
    let mut nodes = fleet(2, 1);
    nodes[0].groups = vec!["audio".into()];
    nodes[1].groups = vec!["video".into()];
    let demands = demands(3);
    let before = first(&demands, &nodes);
    assert!(
        demands
            .iter()
            .all(|d| on(&before, &d.stream, "video") == "i001")
    );
    let half = next(&before, &demands, &nodes[..1], Step::Necessary);
    assert_eq!((half.plan.units.len(), half.moves.removed), (3, 3));
    assert!(
        half.unplaced
            .iter()
            .all(|(_, why)| *why == Why::NobodyOffers)
    );
    let still = next(&half.plan, &demands, &nodes[..1], Step::Necessary);
    assert_eq!(still.plan, half.plan);
    let back = next(&half.plan, &demands, &nodes, Step::Necessary);
    assert_eq!((back.plan.units.len(), back.moves.placed), (6, 3));
}

#[test]
fn above_capacity_all_are_placed_and_it_is_said() {
    let (nodes, demands) = (fleet(4, 2), twice(demands(60)));
    let full = next(&Plan::default(), &demands, &nodes, Step::Necessary);
    assert_eq!(full.plan.units.len(), 240);
    assert_eq!(full.overloaded.len(), 4);
    assert!(full.balance.max_over_mean < 1.1, "{:?}", full.balance);
    let fine = next(&Plan::default(), &demands[..20], &nodes, Step::Necessary);
    assert!(fine.overloaded.is_empty());
    let loads: f64 = fine.loads.iter().map(|(_, cores)| cores).sum();
    assert!((loads - 40.0).abs() < 0.001, "{loads}");
}

#[test]
fn a_stream_keeps_to_the_first_three_of_its_order_while_there_is_room() {
    let (nodes, demands) = (fleet(60, 1), twice(demands(400)));
    let plan = first(&demands, &nodes);
    let mut elsewhere = 0;
    for d in &demands {
        let seed = Seed::of(&d.stream);
        let mut order: Vec<&Node> = nodes.iter().collect();
        order.sort_by_key(|n| std::cmp::Reverse(seed.weight(n.id.as_bytes())));
        let near: BTreeSet<&str> = order[..3].iter().map(|n| &*n.id).collect();
        let own = plan.units.iter().filter(|(u, _)| u.stream == d.stream);
        elsewhere += own.filter(|(_, p)| !near.contains(&*p.node)).count();
    }
    assert!(elsewhere <= 160, "{elsewhere} of 1600 units");
}

#[test]
fn where_each_group_has_its_own_instances_each_has_its_own_mean() {
    let mut nodes = fleet(10, 1);
    for (n, node) in nodes.iter_mut().enumerate() {
        node.groups = vec![if n < 2 {
            "audio".into()
        } else {
            "video".into()
        }];
    }
    let even = next(&Plan::default(), &demands(80), &nodes, Step::Necessary);
    assert_eq!(even.unplaced, []);
    assert!(even.balance.max_over_mean <= 1.1, "{:?}", even.balance);
}

#[test]
fn load_goes_by_capacity() {
    let mut nodes = fleet(6, 1);
    nodes[0].capacity_cores = 80.0;
    let plan = first(&demands(100), &nodes);
    let large = units_on(&plan, "i000");
    assert!(
        (90..=110).contains(&large),
        "{large} of 200 units, half of the capacity"
    );
}

#[test]
fn numbers_that_are_none_do_no_harm() {
    let mut nodes = fleet(3, 1);
    nodes[0].capacity_cores = f64::NAN;
    nodes[1].capacity_cores = -1.0;
    let mut demands = demands(4);
    demands[0].decode_cores = f64::INFINITY;
    demands[1].groups[0].1 = f64::NAN;
    demands[2].groups[0].1 = -5.0;
    demands[3].replicas = 0;
    let outcome = next(&Plan::default(), &demands, &nodes, Step::Rebalance);
    assert_eq!(outcome.plan.units.len(), 8);
    assert!(outcome.loads.iter().all(|(_, cores)| cores.is_finite()));
    let none = next(&outcome.plan, &demands, &[], Step::Rebalance);
    assert_eq!((none.plan.units.len(), none.unplaced.len()), (0, 8));
}
