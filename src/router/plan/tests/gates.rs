//! What instances follow, and what they do alone.

use super::*;

fn lives(_: &str) -> bool {
    true
}

fn wanted(_: &Unit) -> bool {
    true
}

#[test]
fn an_older_plan_and_a_second_one_are_refused() {
    let (nodes, demands) = (fleet(4, 1), demands(10));
    let old = first(&demands, &nodes);
    let new = next(&old, &demands, &nodes[1..], Step::Necessary).plan;
    assert_eq!(accept(&Plan::default(), &old, &lives, &wanted), Ok(()));
    assert_eq!(accept(&old, &new, &lives, &wanted), Ok(()));
    assert_eq!(accept(&new, &new, &lives, &wanted), Ok(()));
    let older = Refused::Older {
        have: 2,
        offered: 1,
    };
    assert_eq!(accept(&new, &old, &lives, &wanted), Err(older));
    let other = next(&old, &demands, &nodes[..2], Step::Necessary).plan;
    let differs = Refused::Differs { revision: 2 };
    assert_eq!(accept(&new, &other, &lives, &wanted), Err(differs));
}

#[test]
fn a_plan_that_moves_units_to_the_dead_is_refused() {
    let (nodes, demands) = (fleet(4, 1), demands(10));
    let old = first(&demands, &nodes);
    let new = next(&old, &demands, &nodes[1..], Step::Necessary).plan;
    let to: Vec<Arc<str>> = (moved(&old, &new).iter())
        .map(|u| new.units[u].node.clone())
        .collect();
    let dead = |id: &str| *id != *to[0];
    let units = to.iter().filter(|id| **id == to[0]).count();
    let node = to[0].clone();
    assert_eq!(
        accept(&old, &new, &dead, &wanted),
        Err(Refused::Dead { node, units })
    );
    // What was on a dead one before is no news.
    let gone = |id: &str| *id != *"i000";
    let edited = next(&old, &demands[1..], &nodes, Step::Necessary).plan;
    assert_eq!(accept(&old, &edited, &gone, &wanted), Ok(()));
}

#[test]
fn a_plan_that_drops_much_without_reason_is_refused() {
    let (nodes, demands) = (fleet(4, 1), twice(demands(10)));
    let old = first(&demands, &nodes);
    let dropping = |count| next(&old, &demands[count..], &nodes, Step::Necessary).plan;
    assert_eq!(accept(&old, &dropping(2), &lives, &wanted), Ok(()));
    let drops = Refused::Drops { dropped: 6, of: 20 };
    assert_eq!(accept(&old, &dropping(3), &lives, &wanted), Err(drops));
    let gone = |u: &Unit| &*u.stream >= "s0003";
    assert_eq!(accept(&old, &dropping(3), &lives, &gone), Ok(()));
    // Twins for whom there is no second instance are no loss.
    let one = next(&old, &demands, &nodes[..1], Step::Necessary).plan;
    assert_eq!(one.units.len(), 20);
    assert_eq!(accept(&old, &one, &lives, &wanted), Ok(()));
}

#[test]
fn alone_the_next_in_order_with_room_steps_in() {
    let (nodes, mut demands) = (fleet(6, 1), demands(24));
    demands[0].mobility = Mobility::Pinned;
    demands[1].mobility = Mobility::Quarantined;
    let plan = first(&demands, &nodes);
    let island = Island::new(&plan, &demands, &nodes);
    let dead = ["i001", "i002"];
    let answers = |id: &str| !dead.contains(&id);
    let mut taken = BTreeSet::new();
    for node in &nodes {
        for unit in island.shadows(&node.id, &answers) {
            if answers(&node.id) {
                assert!(taken.insert(unit.clone()), "{unit:?} twice");
            }
        }
    }
    let lost: BTreeSet<Unit> = (plan.units.iter())
        .filter(|(u, p)| dead.contains(&&*p.node) && &*u.stream >= "s0002")
        .map(|(u, _)| u.clone())
        .collect();
    assert!(lost.len() > 8);
    assert_eq!(taken, lost);
    // All groups of a stream go to one, as there is room.
    for unit in lost.iter().filter(|u| *u.group == *"video") {
        let audio = Unit {
            group: "audio".into(),
            ..unit.clone()
        };
        if lost.contains(&audio) {
            assert_eq!(
                island.shadow(unit, &answers),
                island.shadow(&audio, &answers)
            );
        }
    }
    let some = lost.first().unwrap();
    let by = island.shadow(some, &answers).unwrap();
    let full: Vec<Node> = (nodes.iter().cloned())
        .map(|n| Node {
            capacity_cores: if n.id == *by { 0.1 } else { 16.0 },
            ..n
        })
        .collect();
    let other = Island::new(&plan, &demands, &full);
    assert_ne!(other.shadow(some, &answers), Some(by), "it has no room");
    let all_full: Vec<Node> = (nodes.iter().cloned())
        .map(|n| Node {
            capacity_cores: 0.1,
            ..n
        })
        .collect();
    let none = Island::new(&plan, &demands, &all_full);
    assert_eq!(
        none.shadow(some, &answers),
        Some(by),
        "better late than never"
    );
}

#[test]
fn alone_a_stream_with_a_live_twin_needs_no_shadow() {
    let (nodes, demands) = (fleet(4, 2), twice(demands(8)));
    let plan = first(&demands, &nodes);
    let island = Island::new(&plan, &demands, &nodes);
    let one = |id: &str| id != "i001";
    assert!(plan.units.keys().all(|u| island.shadow(u, &one).is_none()));
    // Of two lost ones, one is started.
    let firsts = |alive: &dyn Fn(&str) -> bool| {
        let started = plan
            .units
            .keys()
            .filter(|u| island.shadow(u, alive).is_some());
        started.map(|u| u.replica).collect::<Vec<u8>>()
    };
    let last = firsts(&|id| id == "i003");
    assert!(!last.is_empty() && last.iter().all(|r| *r == 1));
}
