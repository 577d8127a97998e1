//! The store of one machine: several handles on one file, as several processes have them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use glasswatch::router::store::local::{Local, Settings};
use glasswatch::router::store::{Clock, Guard, Store, StoreError, Write};
use rusqlite::Connection;

use crate::contract::{self, Bench, CHECKS};

/// A clock that goes when it is told to.
#[derive(Clone, Default)]
pub struct Hands(Arc<AtomicU64>);

impl Hands {
    pub fn clock(&self) -> Clock {
        let ms = Arc::clone(&self.0);
        Arc::new(move || Duration::from_millis(ms.load(Ordering::SeqCst)))
    }

    pub fn go_on(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

struct OneMachine {
    dir: tempfile::TempDir,
    hands: Hands,
}

impl OneMachine {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            hands: Hands::default(),
        }
    }

    fn settings(&self) -> Settings {
        Settings::new(self.dir.path().join("fleet.sqlite"))
    }

    fn open(&self) -> Local {
        Local::with_clock(&self.settings(), self.hands.clock()).unwrap()
    }
}

impl Bench for OneMachine {
    fn client(&self) -> Arc<dyn Store> {
        Arc::new(self.open())
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.hands.go_on(time);
        std::future::ready(()).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_keeps_the_contract() {
    contract::run(&OneMachine::new(), CHECKS).await;
}

fn put(key: &str) -> Vec<Write> {
    vec![Write::Put(key.to_owned(), Bytes::from_static(b"kept"))]
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let bench = OneMachine::new();
    let store = bench.open();
    let made = store.commit(vec![], put("kept/a")).await.unwrap();
    let ttl = Duration::from_secs(10);
    let hold = store
        .register("kept/held", Bytes::new(), ttl)
        .await
        .unwrap();
    drop(store);
    let store = bench.open();
    assert_eq!(store.get("kept/a").await.unwrap().unwrap().version, made[0]);
    // Whoever opens the file knows at once who lives.
    store.heartbeat(&hold, None).await.unwrap();
    drop(store);
    bench.hands.go_on(ttl);
    let store = bench.open();
    assert_eq!(store.get("kept/held").await.unwrap(), None);
    let again = store
        .register("kept/held", Bytes::new(), ttl)
        .await
        .unwrap();
    assert!(again.term > hold.term);
}

/// Names the file in which [`a_process_counts`] counts.
const FILE: &str = "GLASSWATCH_TEST_STORE";
const TURNS: u64 = 40;

/// Does nothing unless [`processes_share_a_file`] starts it.
#[tokio::test]
async fn a_process_counts() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let store = Local::open(&Settings::new(path)).unwrap();
    for _ in 0..TURNS {
        loop {
            let found = store.get("count").await.unwrap();
            let n = found
                .as_ref()
                .map_or(0, |found| contract::number(&found.value));
            let guard = Guard {
                key: "count".to_owned(),
                version: found.map(|found| found.version),
            };
            let write = Write::Put("count".to_owned(), (n + 1).to_string().into());
            match store.commit(vec![guard], vec![write]).await {
                Ok(_) => break,
                Err(StoreError::Conflict(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[tokio::test]
async fn processes_share_a_file() {
    let bench = OneMachine::new();
    let path = bench.settings().path;
    let store = bench.open();
    let count = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["local::a_process_counts", "--exact"])
            .env(FILE, &path);
        child.stdout(Stdio::null()).spawn().unwrap()
    };
    for mut child in [count(), count(), count()] {
        assert!(child.wait().unwrap().success());
    }
    let found = store.get("count").await.unwrap().unwrap();
    assert_eq!(contract::number(&found.value), 3 * TURNS);
}

/// The machine was started anew: its clock began anew too, and says nothing of what was registered before.
#[tokio::test]
async fn a_registration_ends_with_the_boot() {
    let bench = OneMachine::new();
    let (key, ttl) = ("boot/a", Duration::from_secs(3600));
    bench.open().register(key, Bytes::new(), ttl).await.unwrap();
    let file = Connection::open(bench.settings().path).unwrap();
    assert_eq!(
        file.execute("UPDATE record SET boot = 'another'", []),
        Ok(1)
    );
    drop(file);
    let store = bench.open();
    assert_eq!(store.get(key).await.unwrap(), None);
    store.register(key, Bytes::new(), ttl).await.unwrap();
}

#[tokio::test]
async fn a_file_that_others_lock_is_unreachable_for_a_while() {
    let bench = OneMachine::new();
    let settings = Settings {
        timeout: Duration::from_millis(300),
        ..bench.settings()
    };
    let store = Local::with_clock(&settings, bench.hands.clock()).unwrap();
    store.commit(vec![], put("locked/a")).await.unwrap();
    let other = Connection::open(&settings.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    for _ in 0..2 {
        let late = store.commit(vec![], put("locked/b")).await;
        assert!(matches!(late, Err(StoreError::Unreachable(_))), "{late:?}");
        let late = store
            .register("locked/c", Bytes::new(), settings.timeout)
            .await;
        assert!(matches!(late, Err(StoreError::Unreachable(_))), "{late:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    // Who only reads does not wait.
    assert!(store.get("locked/a").await.unwrap().is_some());
    other.execute_batch("ROLLBACK").unwrap();
    store.commit(vec![], put("locked/b")).await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| match Local::open(&Settings::new(path)) {
        Err(StoreError::Refused(why)) => why,
        other => panic!("{:?}", other.err()),
    };
    // A folder is no file.
    refused(dir.path());
    let text = dir.path().join("text");
    std::fs::write(
        &text,
        "no database, and longer than a header of one would be".repeat(20),
    )
    .unwrap();
    refused(&text);
    let newer = dir.path().join("newer");
    let file = Connection::open(&newer).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    assert!(refused(&newer).contains("99"));
    let below = text.join("below");
    refused(&below);
}

/// Specs hold URLs with credentials.
#[tokio::test]
async fn only_the_owner_reads_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = OneMachine::new();
    let store = bench.open();
    store.commit(vec![], put("mine/a")).await.unwrap();
    let mut files = 0;
    for file in std::fs::read_dir(bench.dir.path()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        files += 1;
    }
    assert!(files >= 2, "the log too");
}
