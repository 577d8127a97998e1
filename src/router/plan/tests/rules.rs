//! What holds of every plan, whatever there is.

use proptest::prelude::*;

use super::*;

const STATES: [NodeState; 5] = [
    NodeState::Up,
    NodeState::Up,
    NodeState::Up,
    NodeState::Sick,
    NodeState::Draining,
];
const MOBILITIES: [Mobility; 6] = [
    Mobility::Free,
    Mobility::Free,
    Mobility::Free,
    Mobility::Settled,
    Mobility::Pinned,
    Mobility::Quarantined,
];
const GROUPS: [&str; 3] = ["audio", "transport", "video"];

fn some_groups() -> impl Strategy<Value = Vec<Arc<str>>> {
    proptest::sample::subsequence(GROUPS.to_vec(), 0..=3)
        .prop_map(|groups| groups.into_iter().map(Arc::from).collect())
}

/// Any number of instances in any state, of ids that come and go.
fn some_nodes() -> impl Strategy<Value = Vec<Node>> {
    let one = (
        0..10usize,
        0..3usize,
        some_groups(),
        0.0..20.0,
        0..STATES.len(),
    );
    let one = one.prop_map(|(id, zone, groups, capacity_cores, state)| Node {
        id: format!("i{id}").into(),
        zone: format!("z{zone}").into(),
        groups,
        capacity_cores,
        state: STATES[state],
    });
    proptest::collection::vec(one, 0..10).prop_map(|mut nodes| {
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes.dedup_by(|a, b| a.id == b.id);
        nodes
    })
}

fn some_demands() -> impl Strategy<Value = Vec<Demand>> {
    let kind = (0..MOBILITIES.len(), 0..12usize, 0..20usize);
    let one = (0..12usize, some_groups(), 0.0..4.0, 0.0..2.0, 1..=2u8, kind);
    let one = one.prop_map(|(id, groups, cores, decode_cores, replicas, kind)| Demand {
        stream: format!("s{id}").into(),
        groups: groups.into_iter().map(|g| (g, cores)).collect(),
        decode_cores,
        replicas,
        mobility: MOBILITIES[kind.0],
        together: (kind.1 < 3).then(|| format!("s{}", kind.1).into()),
        avoid: (kind.2 < 10).then(|| format!("i{}", kind.2).into()),
    });
    proptest::collection::vec(one, 0..12).prop_map(|mut all| {
        all.sort_by(|a, b| a.stream.cmp(&b.stream));
        all.dedup_by(|a, b| a.stream == b.stream);
        all
    })
}

/// Streams of many sizes, the largest a tenth of what one instance carries.
fn sizes() -> impl Strategy<Value = Vec<Demand>> {
    proptest::collection::vec(0..4usize, 200..300).prop_map(|kinds| {
        let cores = |kind| [0.04, 0.1, 0.24, 0.48][kind];
        let sized = |(n, kind): (usize, &usize)| Demand {
            groups: vec![("video".into(), cores(*kind)), ("audio".into(), 0.05)],
            decode_cores: 0.5 * cores(*kind),
            ..demand(&format!("s{n:04}"))
        };
        kinds.iter().enumerate().map(sized).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_plan_is_sound_whatever_comes_and_goes(
        rounds in proptest::collection::vec((some_nodes(), some_demands(), 0..3usize, any::<u64>()), 1..6),
    ) {
        let rules = Rules::default();
        let mut before = Plan::default();
        for (nodes, demands, step, arrived) in rounds {
            let step = [Step::Necessary, Step::Relieve, Step::Rebalance][step];
            let running = |unit: &Unit, _: &str| arrived >> (unit.stream.len() + unit.group.len()) & 1 == 1;
            let call = || plan(&before, &demands, &nodes, &rules, step, &running);
            let after = call();
            sound(&after, &demands, &nodes).map_err(TestCaseError::fail)?;
            prop_assert_eq!(&call(), &after);
            let changed = after.plan.units != before.units;
            prop_assert_eq!(after.plan.revision, before.revision + u64::from(changed));
            for (unit, placement) in &after.plan.units {
                let stays = before.units.get(unit).filter(|b| b.node == placement.node);
                prop_assert_eq!(placement.fence, stays.map_or(after.plan.revision, |b| b.fence));
            }
            // Once all has arrived, it comes to rest.
            let mut rest = after.plan.clone();
            for _ in 0..3 {
                rest = next(&rest, &demands, &nodes, Step::Necessary).plan;
            }
            let still = next(&rest, &demands, &nodes, Step::Necessary);
            prop_assert_eq!(still.plan, rest, "{:?}", still.moves);
            before = after.plan;
        }
    }

    #[test]
    fn one_loss_moves_what_was_lost_and_one_addition_little(
        demands in sizes(), count in 6..12usize, twin in any::<bool>(), lost in any::<prop::sample::Index>(),
    ) {
        let demands = if twin { twice(demands) } else { demands };
        let nodes = roomy(count, 3);
        let full = next(&Plan::default(), &demands, &nodes, Step::Necessary);
        prop_assert!(full.overloaded.is_empty());
        prop_assert!(full.balance.max_over_mean <= 1.101, "{:?}", full.balance);
        let lost = &*nodes[lost.index(count)].id;
        let after = next(&full.plan, &demands, &without(&nodes, &[lost]), Step::Necessary);
        prop_assert_eq!(after.moves.moved(), units_on(&full.plan, lost));
        prop_assert!(moved(&full.plan, &after.plan).iter().all(|u| *full.plan.units[u].node == *lost));
        // With the next one, what moves in a minute is a hundredth.
        let added = next(&full.plan, &demands, &roomy(count + 1, 3), Step::Rebalance);
        prop_assert!(added.moves.moved() <= full.plan.units.len() / 100);
    }
}
