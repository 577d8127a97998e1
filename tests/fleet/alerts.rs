//! The ledger of alerts: who may say what.

use std::sync::Arc;

use glasswatch::router::heartbeat::Standing;
use glasswatch::router::ledger::{self, Refusal, Speaker, Verdict};
use glasswatch::router::unit::Unit;

use super::memory::{Client, Flaw, Memory};
use super::simulation::in_virtual_time;

fn store() -> Arc<Client> {
    Memory::new(1, Flaw::None).client("test")
}

fn speaker(owner: &str, replica: u8, fence: u64) -> Speaker {
    Speaker {
        unit: Unit {
            stream: "news-1".into(),
            group: "picture".into(),
            replica,
        },
        owner: owner.into(),
        fence,
        standing: Standing::Confirmed,
    }
}

#[test]
fn a_new_owner_goes_on_with_the_alert_and_the_old_one_is_not_heard() {
    in_virtual_time(1, async {
        let store = &*store();
        let (old, new) = (speaker("a", 1, 3), speaker("b", 1, 5));
        let n = ledger::raise(store, "frozen", &old, 1000).await.unwrap();
        assert_eq!(n, 1000);
        let taken = ledger::adopt(store, &new).await.unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].says[&1].verdict, Verdict::Unknown);
        assert_eq!(taken[0].incarnation, n, "nobody is paged again");
        // It is not resolved by not having been looked at.
        assert!(ledger::open_of(store, "news-1").await.unwrap()[0].open);
        let late = ledger::resolve(store, "frozen", n, &old).await;
        assert_eq!(late, Err(Refusal::Fenced("frozen".into())));
        let late = ledger::raise(store, "frozen", &old, 2000).await;
        assert_eq!(late, Err(Refusal::Fenced("frozen".into())));
        assert_eq!(ledger::raise(store, "frozen", &new, 3000).await, Ok(n));
        assert_eq!(ledger::resolve(store, "frozen", n, &new).await, Ok(true));
        assert!(ledger::open_of(store, "news-1").await.unwrap().is_empty());
        // The old one stays fenced off after that too.
        let late = ledger::raise(store, "frozen", &old, 4000).await;
        assert_eq!(late, Err(Refusal::Fenced("frozen".into())));
    });
}

#[test]
fn an_unconfirmed_instance_raises_and_resolves_nothing() {
    in_virtual_time(2, async {
        let store = &*store();
        let alone = Speaker {
            standing: Standing::Unconfirmed,
            ..speaker("a", 1, 3)
        };
        let n = ledger::raise(store, "frozen", &alone, 1000).await.unwrap();
        let said = ledger::resolve(store, "frozen", n, &alone).await;
        assert_eq!(said, Err(Refusal::Unconfirmed));
    });
}

#[test]
fn a_late_resolve_does_not_close_what_was_opened_again() {
    in_virtual_time(3, async {
        let store = &*store();
        let one = speaker("a", 1, 3);
        let first = ledger::raise(store, "frozen", &one, 1000).await.unwrap();
        assert_eq!(
            ledger::resolve(store, "frozen", first, &one).await,
            Ok(true)
        );
        // Also when the clock went back.
        let second = ledger::raise(store, "frozen", &one, 500).await.unwrap();
        assert!(second > first);
        let late = ledger::resolve(store, "frozen", first, &one).await;
        assert_eq!(late, Err(Refusal::Reopened("frozen".into())));
        assert_eq!(
            ledger::resolve(store, "frozen", second, &one).await,
            Ok(true)
        );
        assert_eq!(
            ledger::resolve(store, "frozen", second, &one).await,
            Ok(true)
        );
    });
}

#[test]
fn an_alert_is_over_when_no_twin_says_that_it_stands() {
    in_virtual_time(4, async {
        let store = &*store();
        let (one, two) = (speaker("a", 1, 3), speaker("b", 2, 4));
        let n = ledger::raise(store, "frozen", &one, 1000).await.unwrap();
        assert_eq!(ledger::raise(store, "frozen", &two, 1001).await, Ok(n));
        assert_eq!(ledger::resolve(store, "frozen", n, &one).await, Ok(false));
        assert_eq!(ledger::resolve(store, "frozen", n, &two).await, Ok(true));
        // A twin that is no longer wanted does not keep it open.
        let n = ledger::raise(store, "frozen", &one, 2000).await.unwrap();
        ledger::raise(store, "frozen", &two, 2001).await.unwrap();
        assert_eq!(ledger::resolve(store, "frozen", n, &one).await, Ok(false));
        ledger::forget(store, "news-1", "frozen", 2).await.unwrap();
        let left = ledger::adopt(store, &one).await.unwrap();
        assert_eq!(
            left[0].says[&1].verdict,
            Verdict::Unknown,
            "to be said anew"
        );
        assert_eq!(ledger::resolve(store, "frozen", n, &one).await, Ok(true));
        assert!(ledger::open_of(store, "news-1").await.unwrap().is_empty());
    });
}

#[test]
fn alerts_of_other_groups_and_twins_are_not_taken_over() {
    in_virtual_time(5, async {
        let store = &*store();
        let n = ledger::raise(store, "frozen", &speaker("a", 1, 3), 1000)
            .await
            .unwrap();
        let mut sound = speaker("b", 1, 9);
        sound.unit.group = "sound".into();
        assert!(ledger::adopt(store, &sound).await.unwrap().is_empty());
        assert!(
            ledger::adopt(store, &speaker("b", 2, 9))
                .await
                .unwrap()
                .is_empty()
        );
        let said = ledger::resolve(store, "frozen", n, &speaker("a", 1, 3)).await;
        assert_eq!(said, Ok(true));
    });
}
