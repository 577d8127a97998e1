#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::tests::{change, message, now};
use super::*;

/// One message as the model knows it.
#[derive(Debug, Clone)]
struct Model {
    id: i64,
    incident: (String, u64),
    sequence: u64,
    news: String,
    touched: bool,
    busy: bool,
    dead: bool,
}

/// What the description of `compact` says, word for word: ids that stay, and incidents that are named.
fn model(rows: &[Model]) -> (BTreeSet<i64>, BTreeSet<(String, u64)>) {
    let mut by_incident: BTreeMap<_, Vec<&Model>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.dead) {
        by_incident
            .entry(row.incident.clone())
            .or_default()
            .push(row);
    }
    let mut stay: BTreeSet<i64> = rows.iter().filter(|r| r.dead).map(|r| r.id).collect();
    let mut named = BTreeSet::new();
    for (incident, mut waiting) in by_incident {
        waiting.sort_by_key(|row| row.sequence);
        let untold = waiting.first().unwrap().news == "raised"
            && waiting.last().unwrap().news == "resolved"
            && !waiting.iter().any(|row| row.touched || row.busy);
        if untold {
            named.insert(incident);
            continue;
        }
        for row in &waiting {
            let newer = |n: &&Model| {
                n.sequence > row.sequence && (n.news == "updated" || n.news == "resolved")
            };
            let needless = row.news == "updated" && !row.busy && waiting.iter().any(newer);
            if !needless {
                stay.insert(row.id);
            }
        }
    }
    (stay, named)
}

#[derive(Debug, Clone)]
struct Step {
    updates: Vec<bool>,
    resolved: bool,
    /// So many of its first messages are delivered already.
    delivered: usize,
    /// What happened to its first message that waits: nothing, tried, maybe sent, being sent, given up.
    head: u8,
    other: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        prop::collection::vec(any::<bool>(), 0..4),
        any::<bool>(),
        prop_oneof![3 => Just(0usize), 1 => 1usize..4],
        prop_oneof![3 => Just(0u8), 2 => 1u8..5],
        any::<bool>(),
    );
    let step = step.prop_map(|(updates, resolved, delivered, head, other)| Step {
        updates,
        resolved,
        delivered,
        head,
        other,
    });
    prop::collection::vec(step, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compacting_does_what_its_description_says(steps in steps()) {
        let mut db = rusqlite::Connection::open_in_memory().unwrap();
        for step in file::MIGRATIONS {
            db.execute_batch(step).unwrap();
        }
        let tx = db.transaction().unwrap();
        let mut rows: Vec<Model> = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            // Every third one is another occurrence of the same key.
            let (key, incarnation) = (format!("k{}", n % 3), 1 + n as u64);
            let updates = step.updates.iter().map(|ack| match ack {
                true => "acknowledged",
                false => "updated",
            });
            let news = std::iter::once("raised")
                .chain(updates)
                .chain(step.resolved.then_some("resolved"));
            let mut waiting = Vec::new();
            for (news, sequence) in news.zip(1u64..) {
                let mut sent = vec!["a"];
                sent.extend(step.other.then_some("b"));
                let change = change(&key, incarnation, sequence, news, &sent);
                let (_, written) = sql::commit(&tx, &change, sql::Turn::First).unwrap();
                waiting.push(Model {
                    id: written[0].as_ref().unwrap().id,
                    incident: (key.clone(), incarnation),
                    sequence,
                    news: news.to_owned(),
                    touched: false,
                    busy: false,
                    dead: false,
                });
            }
            for row in waiting.drain(..step.delivered.min(waiting.len())) {
                sql::gone(&tx, row.id).unwrap();
            }
            if let Some(head) = waiting.first_mut() {
                let tried = |attempts, maybe_sent| Tried {
                    due: now(),
                    attempts,
                    error: "refused".to_owned(),
                    maybe_sent,
                };
                match step.head {
                    1 => sql::tried(&tx, head.id, &tried(1, false)).unwrap(),
                    2 => sql::sending(&tx, head.id).unwrap(),
                    4 => sql::dead(&tx, head.id, "410", now()).unwrap(),
                    _ => {}
                }
                head.touched = step.head == 2;
                head.busy = step.head == 3;
                head.dead = step.head == 4;
            }
            rows.extend(waiting);
        }
        let others = |tx: &rusqlite::Connection| -> i64 {
            let count = "SELECT COUNT(*) FROM outbox WHERE receiver = 'b'";
            tx.query_row(count, [], |r| r.get(0)).unwrap()
        };
        let (stay, named) = model(&rows);
        let before = others(&tx);
        let busy: Vec<i64> = rows.iter().filter(|r| r.busy).map(|r| r.id).collect();
        let digest = |docs: &[String]| message("a", "digest", 1, 1, &format!("{}", docs.len()));
        let done = sql::compact(&tx, "a", &busy, &digest, now()).unwrap();

        let mut left: BTreeSet<i64> = tx
            .prepare("SELECT id FROM outbox WHERE receiver = 'a'").unwrap()
            .query_map([], |r| r.get(0)).unwrap()
            .collect::<rusqlite::Result<_>>().unwrap();
        if let Some(digest) = &done.digest {
            prop_assert!(left.remove(&digest.id));
            prop_assert_eq!(&digest.message.body, &format!("{}", named.len()));
        }
        prop_assert_eq!(done.digest.is_some(), !named.is_empty());
        prop_assert_eq!(&left, &stay);
        let removed: BTreeSet<i64> = done.removed.iter().copied().collect();
        let all: BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
        prop_assert_eq!(removed, all.difference(&stay).copied().collect::<BTreeSet<i64>>());
        let docs: BTreeSet<String> = done.docs.iter().cloned().collect();
        prop_assert_eq!(docs.len(), named.len());
        for (key, incarnation) in named {
            let of = format!("\"{key}/{incarnation}/");
            prop_assert!(docs.iter().any(|doc| doc.starts_with(&of)));
        }
        prop_assert_eq!(others(&tx), before);
        let again = sql::compact(&tx, "a", &busy, &digest, Timestamp::MAX).unwrap();
        prop_assert_eq!(again, Compacted::default());
    }
}
