//! Streams that are not free, and what is moved a little at a time.

use super::*;

fn as_is(mut demands: Vec<Demand>, index: usize, mobility: Mobility) -> Vec<Demand> {
    demands[index].mobility = mobility;
    demands
}

#[test]
fn a_pinned_stream_is_on_one_instance_once_and_a_lost_one_must_be_repointed() {
    let nodes = fleet(6, 2);
    let demands = as_is(twice(demands(20)), 5, Mobility::Pinned);
    let plan = next(&Plan::default(), &demands, &nodes, Step::Necessary);
    assert_eq!(plan.repointed, [], "nobody sends yet");
    let plan = plan.plan;
    assert_eq!(on(&plan, "s0005", "audio"), on(&plan, "s0005", "video"));
    assert!(!plan.units.contains_key(&unit("s0005", "video", 2)));
    let at = on(&plan, "s0005", "video").to_owned();
    let lost = next(&plan, &demands, &without(&nodes, &[&at]), Step::Necessary);
    let [said] = &lost.repointed[..] else {
        panic!("{:?}", lost.repointed)
    };
    assert_eq!((&*said.stream, &*said.from), ("s0005", &*at));
    assert_eq!(&*said.to, on(&lost.plan, "s0005", "video"));
    let again = next(&lost.plan, &demands, &nodes, Step::Necessary);
    assert_eq!(again.repointed, [], "said once");
}

#[test]
fn what_becomes_pinned_gathers_where_most_of_it_is() {
    let mut nodes = fleet(2, 1);
    let whole = nodes.clone();
    nodes[0].groups = vec!["audio".into()];
    nodes[1].groups = vec!["video".into()];
    let wanted = as_is(demands(1), 0, Mobility::Pinned);
    let apart = first(&demands(1), &nodes);
    let pinned = on_the_way(&apart, &wanted, &whole);
    let audio = &pinned.plan.units[&unit("s0000", "audio", 1)];
    assert_eq!(
        (&*audio.node, audio.leaving.as_deref()),
        ("i001", Some("i000"))
    );
    assert_eq!((pinned.moves.required, pinned.repointed.len()), (1, 0));
    // A group that its instance does not run cannot be had.
    let half = next(&Plan::default(), &wanted, &nodes, Step::Necessary);
    assert_eq!(half.unplaced.len(), 1);
    assert_eq!(half.unplaced[0].1, Why::PinnedElsewhere);
    assert_eq!(
        next(&half.plan, &wanted, &nodes, Step::Necessary).plan,
        half.plan
    );
}

#[test]
fn a_quarantined_stream_gets_an_instance_of_its_own_and_neighbours_leave_slowly() {
    let nodes = fleet(8, 2);
    let free = twice(demands(48));
    let before = first(&free, &nodes);
    let struck: Arc<str> = on(&before, "s0007", "video").into();
    let mut demands = as_is(free.clone(), 7, Mobility::Quarantined);
    demands[7].avoid = Some(struck.clone());
    let ill = on_the_way(&before, &demands, &nodes);
    let placement = &ill.plan.units[&unit("s0007", "video", 1)];
    assert_ne!(placement.node, struck);
    assert_eq!(placement.leaving, None, "never on two instances at once");
    assert_eq!(on(&ill.plan, "s0007", "audio"), &*placement.node);
    assert_eq!(ill.moves.moved(), 2, "nobody else moves in haste");
    let ward = placement.node.clone();
    let (after, calls) = settle(ill.plan.clone(), &demands, &nodes);
    assert_eq!(units_on(&after, &ward), 2);
    assert!(calls.len() >= 8, "{} calls", calls.len());
    // What is new or lost goes elsewhere.
    let other = nodes.iter().find(|n| n.id != ward).unwrap();
    let lost = next(
        &after,
        &demands,
        &without(&nodes, &[&other.id]),
        Step::Necessary,
    );
    assert_eq!(units_on(&lost.plan, &ward), 2);
    // When it is well again, it is one of many.
    let (well, _) = settle(after, &free, &nodes);
    assert!(units_on(&well, &ward) > 10);
}

#[test]
fn quarantined_streams_share_when_there_are_many() {
    let nodes = fleet(8, 2);
    let mut demands = demands(48);
    for d in &mut demands[..6] {
        d.mobility = Mobility::Quarantined;
    }
    let (plan, _) = settle(first(&demands, &nodes), &demands, &nodes);
    let wards: BTreeSet<&str> = (demands[..6].iter())
        .map(|d| on(&plan, &d.stream, "video"))
        .collect();
    assert_eq!(wards.len(), 2, "a quarter of 8");
    let beside = demands[6..]
        .iter()
        .filter(|d| wards.contains(on(&plan, &d.stream, "video")));
    assert_eq!(beside.count(), 0);
    // The only instance that there is takes all.
    let one = next(&plan, &demands, &nodes[..1], Step::Necessary);
    assert_eq!(one.unplaced, []);
}

#[test]
fn streams_that_are_compared_are_on_one_instance() {
    let nodes = fleet(8, 2);
    let mut wanted = twice(demands(48));
    let apart = first(&wanted, &nodes);
    for n in [3, 9, 20] {
        wanted[n].together = Some("s0003".into());
    }
    let together = |plan: &Plan| {
        for replica in [1, 2] {
            let at = |s: &str, g: &str| plan.units[&unit(s, g, replica)].node.clone();
            let all: BTreeSet<_> = ["s0003", "s0009", "s0020"]
                .into_iter()
                .flat_map(|s| [at(s, "video"), at(s, "audio")])
                .collect();
            assert_eq!(all.len(), 1, "{all:?}");
        }
    };
    together(&first(&wanted, &nodes));
    let after = next(&apart, &wanted, &nodes, Step::Necessary);
    together(&after.plan);
    assert!(after.moves.required <= 12 && after.moves.moved() == after.moves.required);
    let at = on(&after.plan, "s0003", "video").to_owned();
    let lost = next(
        &after.plan,
        &wanted,
        &without(&nodes, &[&at]),
        Step::Necessary,
    );
    together(&lost.plan);
}

#[test]
fn what_is_compared_with_a_pinned_stream_goes_to_it_and_is_never_left_out_for_it() {
    let mut nodes = fleet(8, 2);
    nodes[0].groups = vec!["video".into()];
    let mut wanted = as_is(twice(demands(40)), 4, Mobility::Pinned);
    wanted[4].groups.remove(1);
    let before = first(&wanted, &nodes);
    let at = on(&before, "s0004", "video").to_owned();
    wanted[30].together = Some("s0004".into());
    let after = next(&before, &wanted, &nodes, Step::Necessary);
    assert_eq!(
        (on(&after.plan, "s0004", "video"), after.repointed.len()),
        (&*at, 0)
    );
    assert_eq!(on(&after.plan, "s0030", "video"), at);
    // Its sound is watched elsewhere when it cannot be there.
    let audio_less = |n: &mut Node| n.groups.retain(|g| **g == *"video" || *n.id != *at);
    nodes.iter_mut().for_each(audio_less);
    let apart = next(&after.plan, &wanted, &nodes, Step::Necessary);
    assert_eq!(apart.unplaced, []);
    assert_eq!(on(&apart.plan, "s0030", "video"), at);
    assert_ne!(on(&apart.plan, "s0030", "audio"), at);
}

#[test]
fn a_sick_instance_takes_none_and_sheds_a_tenth_in_a_call() {
    let nodes = roomy(8, 2);
    let mut wanted = demands(200);
    let before = first(&wanted, &nodes);
    let nodes = with_state(&nodes, "i002", NodeState::Sick);
    wanted.push(demand("new"));
    let load = |o: &Outcome| o.loads.iter().find(|(id, _)| **id == *"i002").unwrap().1;
    let held = next(&before, &wanted, &nodes, Step::Necessary);
    assert_eq!((held.moves.moved(), held.moves.placed), (0, 2));
    assert_ne!(on(&held.plan, "new", "video"), "i002");
    let shed = next(&held.plan, &wanted, &nodes, Step::Relieve);
    assert!(shed.moves.shed > 0 && shed.moves.shed == shed.moves.moved());
    assert!(load(&shed) < load(&held) && load(&shed) >= load(&held) * 0.9 - 0.001);
    let leaving = shed.plan.units.values().filter(|p| p.leaving.is_some());
    assert_eq!(leaving.count(), shed.moves.shed);
    // In the end, all but what is settled.
    let settled: Vec<Demand> = (wanted.iter().cloned())
        .map(|d| Demand {
            mobility: if on(&held.plan, &d.stream, "video") == "i002" && &*d.stream < "s0100" {
                Mobility::Settled
            } else {
                Mobility::Free
            },
            ..d
        })
        .collect();
    let stay = settled
        .iter()
        .filter(|d| d.mobility == Mobility::Settled)
        .count();
    let (end, _) = settle(held.plan, &settled, &nodes);
    assert_eq!(units_on(&end, "i002"), 2 * stay);
    // Where all are sick, they keep what they have, and what is lost goes to them.
    let mut all = nodes.clone();
    all.iter_mut().for_each(|n| n.state = NodeState::Sick);
    let lost = next(&end, &settled, &all[1..], Step::Relieve);
    assert_eq!((lost.unplaced.len(), lost.moves.shed), (0, 0));
}

#[test]
fn an_overloaded_instance_sheds_while_others_have_room() {
    let mut nodes = fleet(4, 1);
    let demands = demands(32);
    let before = first(&demands, &nodes);
    nodes[1].capacity_cores = 4.0;
    let (after, calls) = settle(before, &demands, &nodes);
    assert!(calls[0].moves.shed > 0, "{:?}", calls[0].moves);
    let end = next(&after, &demands, &nodes, Step::Necessary);
    assert!(end.overloaded.is_empty(), "{:?}", end.loads);
}

#[test]
fn a_new_instance_fills_slowly_and_only_with_what_is_free() {
    let nodes = roomy(10, 1);
    let mut wanted = twice(demands(200));
    for (n, d) in wanted.iter_mut().enumerate() {
        d.mobility = [Mobility::Free, Mobility::Settled][usize::from(n % 4 == 0)];
    }
    let before = first(&wanted, &nodes);
    let nodes = roomy(11, 1);
    let added = next(&before, &wanted, &nodes, Step::Relieve);
    assert_eq!(added.moves.moved(), 0, "not in haste");
    assert!(
        added.balance.uneven(&Rules::default()),
        "{:?}",
        added.balance
    );
    let (after, calls) = settle(before.clone(), &wanted, &nodes);
    // 1 % of 800.
    assert!(
        calls
            .iter()
            .all(|c| c.moves.rebalanced <= 8 && c.moves.moved() <= 8)
    );
    for unit in moved(&before, &after) {
        let number: usize = unit.stream[1..].parse().unwrap();
        assert_ne!(number % 4, 0, "{unit:?} is settled");
    }
    let end = next(&after, &wanted, &nodes, Step::Necessary).balance;
    assert!(!end.uneven(&Rules::default()), "{end:?}");
    assert!(
        units_on(&after, "i010") >= 64,
        "{}",
        units_on(&after, "i010")
    );
}

#[test]
fn what_is_on_the_way_is_not_rebalanced() {
    let (nodes, demands) = (fleet(11, 1), demands(100));
    let rules = Rules::default();
    let mut plan_now = first(&demands, &nodes[..10]);
    let mut seen = BTreeSet::new();
    for _ in 0..30 {
        let call = plan(
            &plan_now,
            &demands,
            &nodes,
            &rules,
            Step::Rebalance,
            &|_, _| false,
        );
        for unit in moved(&plan_now, &call.plan) {
            assert!(seen.insert(unit), "moved twice");
        }
        plan_now = call.plan;
    }
    assert!(seen.len() >= 10, "{}", seen.len());
}

#[test]
fn what_is_on_the_way_is_not_shed() {
    let wanted = demands(12);
    let before = first(&wanted, &fleet(1, 1));
    let nodes = with_state(&fleet(3, 1), "i000", NodeState::Draining);
    let going = on_the_way(&before, &wanted, &nodes).plan;
    assert!(units_on(&going, "i001") > 0);
    let nodes = with_state(&nodes, "i001", NodeState::Sick);
    let rules = Rules::default();
    let call = plan(&going, &wanted, &nodes, &rules, Step::Relieve, &|_, _| {
        false
    });
    assert_eq!(call.plan, going);
    let call = next(&going, &wanted, &nodes, Step::Relieve);
    assert!(
        call.moves.shed > 0 && call.moves.finished > 0,
        "{:?}",
        call.moves
    );
}
