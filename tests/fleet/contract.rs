//! What every engine of the store promises, as a list of checks. Each works under a path of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use glasswatch::router::store::{
    COMMIT_BYTES, COMMIT_ITEMS, Guard, KEY_BYTES, Record, Store, StoreError, VALUE_BYTES, Version,
    Write,
};

/// An engine, and how its time passes.
pub trait Bench: Sync {
    /// A client as another process would have it.
    fn client(&self) -> Arc<dyn Store>;

    /// Waits for as long, or has the engine's clock go on.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()>;

    /// The shortest time to live that the engine keeps to.
    fn ttl(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// How much later than that a registration may end.
    fn late(&self) -> Duration {
        Duration::ZERO
    }
}

type Check = for<'a> fn(&'a dyn Bench) -> BoxFuture<'a, ()>;

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        /// All of them, by name.
        pub const CHECKS: &[(&str, Check)] = &[$((stringify!($name), |bench| $name(bench).boxed())),*];
    };
}

checks! {
    a_key_has_one_holder,
    heartbeats_keep_a_registration,
    silence_ends_a_registration,
    guards_make_commits_whole,
    a_commit_of_many_items_is_whole,
    racing_writers_lose_nothing,
    racing_registrations_have_one_winner,
    versions_rise_through_deletes,
    scans_are_ordered_and_keep_to_their_path,
    scans_have_many_pages,
    changes_wake_and_end,
    changes_tell_of_registrations,
    values_come_back_as_they_were,
    limits_are_the_callers_fault,
}

/// Runs some of them, one after another.
pub async fn run(bench: &dyn Bench, checks: &[(&str, Check)]) {
    for (name, check) in checks {
        let start = Instant::now();
        println!("{name}");
        check(bench).await;
        println!("{name}: {} ms", start.elapsed().as_millis());
    }
}

/// Longest that news may take.
const SOON: Duration = Duration::from_secs(8);

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Write {
    Write::Put(key.to_owned(), bytes(value))
}

fn gone(key: &str) -> Write {
    Write::Delete(key.to_owned())
}

fn is(key: &str, version: Version) -> Guard {
    Guard {
        key: key.to_owned(),
        version: Some(version),
    }
}

fn absent(key: &str) -> Guard {
    Guard {
        key: key.to_owned(),
        version: None,
    }
}

fn keys(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| &*record.key).collect()
}

async fn text(store: &dyn Store, key: &str) -> Option<String> {
    let found = store.get(key).await.unwrap();
    found.map(|found| String::from_utf8(found.value.to_vec()).unwrap())
}

fn conflict<T>(key: &str) -> Result<T, StoreError> {
    Err(StoreError::Conflict(key.to_owned()))
}

async fn a_key_has_one_holder(bench: &dyn Bench) {
    let (one, two) = (bench.client(), bench.client());
    let (key, ttl) = ("one/holder", bench.ttl() * 20);
    let taken = Err(StoreError::Taken(key.to_owned()));
    let lost = Err(StoreError::Lost(key.to_owned()));

    let first = one.register(key, bytes("first"), ttl).await.unwrap();
    assert_eq!(first.key, key);
    assert_eq!(two.register(key, bytes("two"), ttl).await, taken);
    assert_eq!(one.register(key, bytes("one"), ttl).await, taken, "itself");
    let found = two.get(key).await.unwrap().unwrap();
    assert_eq!(
        (&found.value[..], found.version),
        (&b"first"[..], first.term)
    );
    assert_eq!(two.scan("one/").await.unwrap(), [found]);
    assert_eq!(
        two.commit(vec![is(key, first.term)], vec![put("one/a", "1")])
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        two.commit(vec![absent(key)], vec![put("one/a", "2")]).await,
        conflict(key)
    );

    one.leave(first.clone()).await.unwrap();
    assert_eq!(two.get(key).await.unwrap(), None);
    assert_eq!(keys(&two.scan("one/").await.unwrap()), ["one/a"]);
    assert_eq!(one.heartbeat(&first, None).await, lost);
    assert_eq!(one.heartbeat(&first, Some(bytes("late"))).await, lost);
    two.commit(vec![absent(key)], vec![put("one/a", "3")])
        .await
        .unwrap();

    let second = two.register(key, bytes("second"), ttl).await.unwrap();
    assert!(second.term > first.term, "{first:?} {second:?}");
    // Who has left ends nothing and writes nothing.
    one.leave(first.clone()).await.unwrap();
    assert_eq!(one.heartbeat(&first, Some(bytes("late"))).await, lost);
    assert_eq!(text(&*one, key).await.as_deref(), Some("second"));
    let late = one.commit(vec![is(key, first.term)], vec![put("one/a", "4")]);
    assert_eq!(late.await, conflict(key));
    one.commit(vec![is(key, second.term)], vec![put("one/a", "5")])
        .await
        .unwrap();
    two.heartbeat(&second, None).await.unwrap();
    two.leave(second).await.unwrap();

    // What is put is nobody's to take.
    one.commit(vec![], vec![put("one/put", "")]).await.unwrap();
    let taken = two.register("one/put", bytes("two"), ttl).await;
    assert_eq!(taken, Err(StoreError::Taken("one/put".to_owned())));
}

async fn heartbeats_keep_a_registration(bench: &dyn Bench) {
    let (one, two) = (bench.client(), bench.client());
    let (key, ttl) = ("beat/one", bench.ttl());
    let hold = one.register(key, bytes("0"), ttl).await.unwrap();
    assert_eq!(text(&*two, key).await.as_deref(), Some("0"));
    for turn in 1..=4 {
        bench.pass(ttl.mul_f64(0.4)).await;
        let news = (turn % 2 == 0).then(|| bytes(&turn.to_string()));
        one.heartbeat(&hold, news).await.unwrap();
        let found = two.get(key).await.unwrap().expect("it lives");
        assert_eq!(found.version, hold.term, "it stays the same");
        assert_eq!(&found.value[..], (turn / 2 * 2).to_string().as_bytes());
        assert_eq!(two.scan("beat/").await.unwrap(), [found]);
    }
    let other = two.register(key, bytes("two"), ttl).await;
    assert_eq!(other, Err(StoreError::Taken(key.to_owned())));
    two.commit(vec![is(key, hold.term)], vec![put("beat/guarded", "")])
        .await
        .unwrap();
    one.leave(hold).await.unwrap();
    assert_eq!(keys(&two.scan("beat/").await.unwrap()), ["beat/guarded"]);
}

async fn silence_ends_a_registration(bench: &dyn Bench) {
    let (one, two) = (bench.client(), bench.client());
    let (key, ttl) = ("silent/one", bench.ttl());
    let stays = one
        .register("silent/two", bytes("2"), ttl * 20)
        .await
        .unwrap();
    let hold = one.register(key, bytes("1"), ttl).await.unwrap();
    one.heartbeat(&hold, Some(bytes("1a"))).await.unwrap();
    let taken = two.register(key, bytes("two"), ttl).await;
    assert_eq!(taken, Err(StoreError::Taken(key.to_owned())));
    assert_eq!(
        keys(&two.scan("silent/").await.unwrap()),
        [key, "silent/two"]
    );

    bench.pass(ttl + bench.late()).await;
    assert_eq!(two.get(key).await.unwrap(), None);
    assert_eq!(keys(&two.scan("silent/").await.unwrap()), ["silent/two"]);
    let lost = Err(StoreError::Lost(key.to_owned()));
    assert_eq!(one.heartbeat(&hold, None).await, lost);
    assert_eq!(one.heartbeat(&hold, Some(bytes("1b"))).await, lost);
    // The one who has lost it knows, whether somebody has taken it or not.
    let late = one.commit(vec![is(key, hold.term)], vec![put("silent/x", "")]);
    assert_eq!(late.await, conflict(key));
    two.commit(vec![absent(key)], vec![put("silent/y", "")])
        .await
        .unwrap();

    let next = two.register(key, bytes("2"), ttl * 20).await.unwrap();
    assert!(next.term > hold.term, "{hold:?} {next:?}");
    assert_eq!(one.heartbeat(&hold, None).await, lost);
    let late = one.commit(vec![is(key, hold.term)], vec![put("silent/x", "")]);
    assert_eq!(late.await, conflict(key));
    assert_eq!(text(&*one, "silent/x").await, None);
    assert_eq!(text(&*one, key).await.as_deref(), Some("2"));
    two.leave(next).await.unwrap();
    one.leave(hold).await.unwrap();
    one.leave(stays).await.unwrap();
}

async fn guards_make_commits_whole(bench: &dyn Bench) {
    let (one, two) = (bench.client(), bench.client());
    let [a, b, c] = ["commit/a", "commit/b", "commit/c"];
    let made = one
        .commit(vec![absent(b), absent(a)], vec![put(b, "b1"), put(a, "a1")])
        .await
        .unwrap();
    let [of_b, of_a] = made[..] else {
        panic!("{made:?}")
    };
    assert_eq!(two.get(a).await.unwrap().unwrap().version, of_a);
    assert_eq!(two.get(b).await.unwrap().unwrap().version, of_b);

    // The guard that does not hold is named, and nothing is written.
    let writes = || vec![put(a, "a2"), put(c, "c2"), gone(b)];
    for (guards, named) in [
        (vec![is(a, of_a), absent(b)], b),
        (vec![absent(c), is(b, of_b), absent(a)], a),
        (vec![is(a, of_a), is(c, of_a)], c),
        (vec![is(a, Version(of_a.0 + 1))], a),
    ] {
        assert_eq!(two.commit(guards, writes()).await, conflict(named));
        assert_eq!(text(&*one, a).await.as_deref(), Some("a1"));
        assert_eq!(text(&*one, b).await.as_deref(), Some("b1"));
        assert_eq!(text(&*one, c).await, None);
    }

    let made = two
        .commit(vec![is(b, of_b), absent(c), is(a, of_a)], writes())
        .await
        .unwrap();
    assert_eq!(made.len(), 2, "of what was put");
    assert!(made[0] > of_a);
    let under = one.scan("commit/").await.unwrap();
    assert_eq!(keys(&under), [a, c]);
    assert_eq!(under.iter().map(|r| r.version).collect::<Vec<_>>(), made);
    // Outdated at once.
    assert_eq!(
        one.commit(vec![is(a, of_a)], vec![put(a, "a3")]).await,
        conflict(a)
    );
    assert_eq!(
        one.commit(vec![is(b, of_b)], vec![put(b, "b3")]).await,
        conflict(b)
    );
    assert_eq!(
        one.commit(vec![is(b, of_b)], vec![gone(b)]).await,
        conflict(b)
    );

    // Without writes it only looks, without guards it only writes; what is gone may be deleted.
    assert_eq!(
        one.commit(vec![is(a, made[0]), absent(b)], vec![]).await,
        Ok(vec![])
    );
    assert_eq!(
        one.commit(vec![is(a, of_a), absent(b)], vec![]).await,
        conflict(a)
    );
    assert_eq!(one.commit(vec![absent(a)], vec![]).await, conflict(a));
    assert_eq!(one.commit(vec![], vec![]).await, Ok(vec![]));
    assert_eq!(one.commit(vec![], vec![gone(b)]).await, Ok(vec![]));
    let last = one.commit(vec![], vec![put(a, "a4")]).await.unwrap();
    assert!(last[0] > made[0]);
    one.commit(vec![], vec![gone(a), gone(c)]).await.unwrap();
    assert_eq!(one.scan("commit/").await.unwrap(), []);
}

async fn a_commit_of_many_items_is_whole(bench: &dyn Bench) {
    let store = bench.client();
    let name = |n: usize| format!("many/{n:03}");
    let half = COMMIT_ITEMS / 2;
    let guards = |from| {
        (from..from + half)
            .map(|n| absent(&name(n)))
            .collect::<Vec<_>>()
    };
    let writes = |from| {
        (from..from + half)
            .map(|n| put(&name(n), "x"))
            .collect::<Vec<_>>()
    };
    let made = store.commit(guards(0), writes(0)).await.unwrap();
    assert_eq!(made.len(), half);
    // Its own keys and others'.
    store.commit(guards(200), writes(100)).await.unwrap();
    assert_eq!(
        store.commit(guards(half - 1), writes(300)).await,
        conflict(&name(half - 1))
    );
    assert_eq!(store.scan("many/").await.unwrap().len(), 2 * half);
}

async fn racing_writers_lose_nothing(bench: &dyn Bench) {
    const TURNS: u64 = 15;
    let key = "race/counter";
    let writer = |store: Arc<dyn Store>| async move {
        for _ in 0..TURNS {
            loop {
                let found = store.get(key).await.unwrap();
                let (n, guard) = match &found {
                    Some(found) => (number(&found.value), is(key, found.version)),
                    None => (0, absent(key)),
                };
                match store
                    .commit(vec![guard], vec![put(key, &(n + 1).to_string())])
                    .await
                {
                    Ok(_) => break,
                    Err(StoreError::Conflict(of)) => assert_eq!(of, key),
                    Err(other) => panic!("{other}"),
                }
            }
        }
    };
    tokio::join!(writer(bench.client()), writer(bench.client()));
    assert_eq!(
        text(&*bench.client(), key).await,
        Some((2 * TURNS).to_string())
    );
}

pub fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

async fn racing_registrations_have_one_winner(bench: &dyn Bench) {
    let ttl = bench.ttl() * 20;
    let clients = [bench.client(), bench.client(), bench.client()];
    for turn in 0..5 {
        let key = format!("winner/{turn}");
        let all = clients
            .iter()
            .map(|store| store.register(&key, bytes("me"), ttl));
        let all = futures_util::future::join_all(all).await;
        let (won, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "{won:?}");
        for lost in lost {
            assert_eq!(lost, Err(StoreError::Taken(key.clone())));
        }
    }
}

async fn versions_rise_through_deletes(bench: &dyn Bench) {
    let (one, two) = (bench.client(), bench.client());
    let key = "rise/a";
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(
            one.commit(vec![absent(key)], vec![put(key, "")])
                .await
                .unwrap(),
        );
        seen.extend(two.commit(vec![], vec![put(key, "")]).await.unwrap());
        let last = *seen.last().unwrap();
        one.commit(vec![is(key, last)], vec![gone(key)])
            .await
            .unwrap();
        for outdated in &seen {
            let late = two.commit(vec![is(key, *outdated)], vec![put(key, "late")]);
            assert_eq!(late.await, conflict(key));
        }
        // Twice changes nothing.
        two.commit(vec![], vec![gone(key)]).await.unwrap();
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    let mut terms = Vec::new();
    for store in [&one, &two, &one] {
        let hold = store
            .register("rise/b", bytes(""), bench.ttl() * 20)
            .await
            .unwrap();
        terms.push(hold.term);
        store.leave(hold).await.unwrap();
    }
    assert!(terms.is_sorted_by(|a, b| a < b), "{terms:?}");
}

async fn scans_are_ordered_and_keep_to_their_path(bench: &dyn Bench) {
    let store = bench.client();
    let all = [
        "order/a",
        "order/a-b",
        "order/a.b",
        "order/a/1",
        "order/a/1/x",
        "order/a/2",
        "order/a0",
        "order/a_b",
        "order/aa",
        "order/a~b",
        "order/b",
        "order-b",
        "order.b/a",
        "order",
        "order0/a",
        "orde/a",
    ];
    let writes = all.iter().rev().map(|key| put(key, key)).collect();
    store.commit(vec![], writes).await.unwrap();
    let ttl = bench.ttl() * 20;
    let hold = store
        .register("order/a/held", bytes("h"), ttl)
        .await
        .unwrap();
    store.heartbeat(&hold, Some(bytes("h2"))).await.unwrap();
    let under = |prefix: &str| {
        let under: BTreeSet<_> = all.iter().copied().chain(["order/a/held"]).collect();
        let under = under.into_iter().filter(|key| key.starts_with(prefix));
        under.map(str::to_owned).collect::<Vec<_>>()
    };
    for prefix in [
        "order/",
        "order/a/",
        "order/a/1/",
        "order/b/",
        "order.b/",
        "nothing/",
    ] {
        let found = store.scan(prefix).await.unwrap();
        assert_eq!(keys(&found), under(prefix), "{prefix}");
        for record in found {
            let wanted = match &*record.key {
                "order/a/held" => "h2",
                key => key,
            };
            assert_eq!(record.value, wanted.as_bytes());
            assert_eq!(store.get(&record.key).await.unwrap(), Some(record));
        }
    }
    assert_eq!(text(&*store, "order").await.as_deref(), Some("order"));
    store.leave(hold).await.unwrap();
}

async fn scans_have_many_pages(bench: &dyn Bench) {
    const RECORDS: usize = 1010;
    let store = bench.client();
    let name = |n: usize| format!("pages/{:02}/{n:04}", n % 7);
    let value = |n: usize| format!("{n}-{}", "x".repeat(1200));
    let all: Vec<usize> = (0..RECORDS).collect();
    for some in all.chunks(COMMIT_ITEMS) {
        let writes = some.iter().map(|n| put(&name(*n), &value(*n))).collect();
        store.commit(vec![], writes).await.unwrap();
    }
    let found = bench.client().scan("pages/").await.unwrap();
    let mut wanted: Vec<_> = all.iter().map(|n| (name(*n), value(*n))).collect();
    wanted.sort();
    assert_eq!(found.len(), RECORDS);
    for (found, (key, value)) in found.iter().zip(&wanted) {
        assert_eq!(&found.key, key);
        assert_eq!(found.value, value.as_bytes());
    }
    let part = store.scan("pages/03/").await.unwrap();
    assert_eq!(part.len(), all.iter().filter(|n| **n % 7 == 3).count());
}

/// How long `changes` takes.
async fn waited(store: &dyn Store, prefix: &str, patience: Duration) -> Duration {
    let start = Instant::now();
    store.changes(prefix, patience).await.unwrap();
    start.elapsed()
}

/// Calls `changes` until it has nothing to tell.
async fn quiet(store: &dyn Store, prefix: &str) {
    let patience = Duration::from_millis(300);
    for _ in 0..10 {
        if waited(store, prefix, patience).await >= patience {
            return;
        }
    }
    panic!("it never ends");
}

async fn changes_wake_and_end(bench: &dyn Bench) {
    let (one, two) = (bench.client(), bench.client());
    let (path, patience) = ("wake/", SOON * 4);
    two.commit(vec![], vec![put("wake/a", "0"), put("wake/gone", "0")])
        .await
        .unwrap();
    // The first call does not wait.
    assert!(waited(&*one, path, patience).await < SOON);
    quiet(&*one, path).await;

    let acts: [(Write, &[&str]); 3] = [
        (put("wake/b", "1"), &["wake/a", "wake/b", "wake/gone"]),
        (put("wake/a", "2"), &["wake/a", "wake/b", "wake/gone"]),
        (gone("wake/gone"), &["wake/a", "wake/b"]),
    ];
    for (act, after) in acts {
        // While somebody waits.
        let act = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            two.commit(vec![], vec![act]).await.unwrap();
        };
        let (waited, ()) = tokio::join!(waited(&*one, path, patience), act);
        assert!(waited < SOON, "{waited:?}");
        assert_eq!(keys(&one.scan(path).await.unwrap()), after);
        quiet(&*one, path).await;
    }
    // While nobody does.
    two.commit(vec![], vec![put("wake/c", "3")]).await.unwrap();
    assert!(waited(&*one, path, patience).await < SOON);
    quiet(&*one, path).await;

    let short = Duration::from_millis(700);
    let took = waited(&*one, path, short).await;
    assert!(took >= short && took < short + SOON, "{took:?}");
}

async fn changes_tell_of_registrations(bench: &dyn Bench) {
    let (one, two) = (bench.client(), bench.client());
    let (path, patience) = ("told/", SOON * 4);
    waited(&*one, path, patience).await;
    quiet(&*one, path).await;

    let hold = two
        .register("told/a", bytes("0"), bench.ttl() * 20)
        .await
        .unwrap();
    assert!(waited(&*one, path, patience).await < SOON, "one comes");
    assert_eq!(keys(&one.scan(path).await.unwrap()), ["told/a"]);
    quiet(&*one, path).await;

    two.heartbeat(&hold, Some(bytes("1"))).await.unwrap();
    assert!(
        waited(&*one, path, patience).await < SOON,
        "one says something new"
    );
    quiet(&*one, path).await;

    two.leave(hold).await.unwrap();
    assert!(waited(&*one, path, patience).await < SOON, "one goes");
    assert_eq!(one.scan(path).await.unwrap(), []);
    quiet(&*one, path).await;

    let silent = two
        .register("told/b", bytes("0"), bench.ttl())
        .await
        .unwrap();
    waited(&*one, path, patience).await;
    assert_eq!(keys(&one.scan(path).await.unwrap()), ["told/b"]);
    // A look may have been due.
    waited(&*one, path, Duration::from_millis(300)).await;
    bench.pass(bench.ttl() + bench.late()).await;
    assert!(
        waited(&*one, path, patience).await < SOON,
        "one falls silent"
    );
    assert_eq!(one.scan(path).await.unwrap(), []);
    two.leave(silent).await.unwrap();
}

async fn values_come_back_as_they_were(bench: &dyn Bench) {
    let store = bench.client();
    let every: Bytes = (0..=255u8).cycle().take(VALUE_BYTES).collect();
    let long = format!("value/{}", "k".repeat(KEY_BYTES - "value/".len()));
    for (key, value) in [
        ("value/longest", every.clone()),
        ("value/empty", Bytes::new()),
        (&*long, bytes("of a long key")),
        ("value", bytes("of one part")),
    ] {
        let made = store
            .commit(vec![], vec![Write::Put(key.to_owned(), value.clone())])
            .await
            .unwrap();
        let wanted = Record {
            key: key.to_owned(),
            value,
            version: made[0],
        };
        assert_eq!(bench.client().get(key).await.unwrap(), Some(wanted));
    }
    // As much as a commit may hold.
    let size = (COMMIT_BYTES - 100) / 4;
    let writes = (0..4).map(|n| Write::Put(format!("value/4/{n}"), every.slice(..size)));
    store.commit(vec![], writes.collect()).await.unwrap();
    let found = store.scan("value/4/").await.unwrap();
    assert!(found.len() == 4 && found.iter().all(|found| found.value == every[..size]));
    // A registration's is as long, from its beginning or later.
    let ttl = bench.ttl() * 20;
    for (first, then) in [(every.clone(), bytes("short")), (bytes("short"), every)] {
        let hold = store.register("value/held", first.clone(), ttl);
        let hold = hold.await.unwrap();
        let found = store.get("value/held").await.unwrap().unwrap();
        assert_eq!(found.value, first);
        store.heartbeat(&hold, Some(then.clone())).await.unwrap();
        let found = store.get("value/held").await.unwrap().unwrap();
        assert_eq!(found.value, then);
        store.leave(hold).await.unwrap();
    }
}

async fn limits_are_the_callers_fault(bench: &dyn Bench) {
    fn invalid<T: std::fmt::Debug>(what: &str, done: Result<T, StoreError>) {
        assert!(
            matches!(done, Err(StoreError::Invalid(_))),
            "{what}: {done:?}"
        );
    }
    let (store, ttl) = (bench.client(), bench.ttl());
    let too_long = "k".repeat(KEY_BYTES + 1);
    for key in [
        "", "/", "a/", "/a", "a//b", "A", "a b", "a!", "ä", "a\0", "a\n", "a\"", "a#", &too_long,
    ] {
        invalid(key, store.get(key).await);
        invalid(key, store.register(key, Bytes::new(), ttl).await);
        invalid(key, store.commit(vec![absent(key)], vec![]).await);
        invalid(key, store.commit(vec![], vec![put(key, "")]).await);
        invalid(key, store.commit(vec![], vec![gone(key)]).await);
    }
    for prefix in ["", "/", "a", "a//", "A/"] {
        invalid(prefix, store.scan(prefix).await);
        invalid(prefix, store.changes(prefix, Duration::ZERO).await);
    }
    let large = Bytes::from(vec![0; VALUE_BYTES + 1]);
    let write = Write::Put("limit/a".to_owned(), large.clone());
    invalid("value", store.commit(vec![], vec![write]).await);
    invalid("value", store.register("limit/b", large.clone(), ttl).await);
    let hold = store
        .register("limit/c", bytes("small"), ttl)
        .await
        .unwrap();
    invalid("value", store.heartbeat(&hold, Some(large)).await);
    let many = (0..=COMMIT_ITEMS).map(|n| put(&format!("limit/{n}"), ""));
    invalid("items", store.commit(vec![], many.collect()).await);
    let many = (0..=COMMIT_ITEMS).map(|n| absent(&format!("limit/{n}")));
    invalid("items", store.commit(many.collect(), vec![]).await);
    let large = Bytes::from(vec![0; VALUE_BYTES]);
    let much = (0..5).map(|n| Write::Put(format!("limit/{n}"), large.clone()));
    invalid("bytes", store.commit(vec![], much.collect()).await);
    let twice = vec![put("limit/a", "1"), gone("limit/a")];
    invalid("twice", store.commit(vec![], twice).await);
    let twice = vec![absent("limit/a"), absent("limit/a")];
    invalid("twice", store.commit(twice, vec![]).await);
    assert_eq!(keys(&store.scan("limit/").await.unwrap()), ["limit/c"]);
    store.leave(hold).await.unwrap();
}
