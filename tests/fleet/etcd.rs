//! etcd, as Debian packs it: one member, and three.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_client::{Certificate, Client, ConnectOptions, TlsOptions};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use glasswatch::config::Secret;
use glasswatch::router::store::etcd::{Etcd, Settings, User};
use glasswatch::router::store::{Guard, Store, StoreError, TIMEOUT, Write};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::contract::{self, Bench, CHECKS, number};
use crate::servers::{Server, free_ports, program};

/// Longest that a cluster may take to find a leader, on a busy machine.
const ELECTION: Duration = Duration::from_secs(30);

struct Cluster {
    dir: tempfile::TempDir,
    servers: Vec<Server>,
    endpoints: Vec<String>,
}

impl Cluster {
    /// `None` where it is not installed.
    async fn start<const N: usize>() -> Option<Self> {
        Self::start_with::<N>(&[], "http").await
    }

    async fn start_with<const N: usize>(more: &[&str], scheme: &str) -> Option<Self> {
        let sbin = Path::new("/usr/sbin");
        let etcd = program("etcd", Some(sbin), "apt-get install etcd-server")?;
        let dir = tempfile::tempdir().unwrap();
        let (clients, peers) = (free_ports::<N>(), free_ports::<N>());
        let peer = |n: usize| format!("http://127.0.0.1:{}", peers[n]);
        let cluster: Vec<_> = (0..N).map(|n| format!("m{n}={}", peer(n))).collect();
        let endpoints = clients.map(|port| format!("{scheme}://127.0.0.1:{port}"));
        let server = |n: usize| {
            let folder = dir.path().join(format!("m{n}"));
            let log = File::create(dir.path().join(format!("m{n}.log"))).unwrap();
            let child = Command::new(&etcd)
                .args(["--name", &format!("m{n}"), "--log-level", "warn"])
                .args(["--data-dir", folder.to_str().unwrap()])
                .args(["--listen-client-urls", &endpoints[n]])
                .args(["--advertise-client-urls", &endpoints[n]])
                .args(["--listen-peer-urls", &peer(n)])
                .args(["--initial-advertise-peer-urls", &peer(n)])
                .args(["--initial-cluster", &cluster.join(",")])
                .args(more)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn();
            Server(child.unwrap())
        };
        Some(Self {
            servers: (0..N).map(server).collect(),
            endpoints: endpoints.to_vec(),
            dir,
        })
    }

    async fn ready(self) -> Self {
        settled(&*self.client()).await;
        self
    }

    fn settings(&self) -> Settings {
        Settings::new(&self.endpoints)
    }

    async fn own_client(&self, n: usize) -> Client {
        Client::connect([&self.endpoints[n]], None).await.unwrap()
    }

    /// The number of the member that leads.
    async fn leader(&self) -> usize {
        for n in 0..self.servers.len() {
            let status = self.own_client(n).await.status().await.unwrap();
            if status.header().unwrap().member_id() == status.leader() {
                return n;
            }
        }
        panic!("nobody leads")
    }

    fn signal(&self, n: usize, signal: &str) {
        let pid = self.servers[n].0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }
}

impl Bench for Cluster {
    fn client(&self) -> Arc<dyn Store> {
        // The machine may be busy with other tests.
        let settings = Settings {
            timeout: TIMEOUT * 4,
            ..self.settings()
        };
        Arc::new(Etcd::new(&settings).unwrap())
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        // Its leases go by its own clock.
        tokio::time::sleep(time).boxed()
    }

    fn ttl(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn late(&self) -> Duration {
        Duration::from_secs(3)
    }
}

/// Waits until there is a leader.
async fn settled(store: &dyn Store) {
    let start = Instant::now();
    loop {
        let made = store.commit(vec![], put("settled", "")).await;
        match made {
            Ok(_) => return,
            Err(StoreError::Unreachable(_)) => {}
            Err(other) => panic!("{other}"),
        }
        assert!(start.elapsed() < ELECTION, "{made:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn put(key: &str, value: &str) -> Vec<Write> {
    vec![Write::Put(
        key.to_owned(),
        Bytes::copy_from_slice(value.as_bytes()),
    )]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_keeps_the_contract() {
    let Some(cluster) = Cluster::start::<1>().await else {
        return;
    };
    contract::run(&cluster.ready().await, CHECKS).await;
}

/// The leader dies in the middle; when a second one does, nothing is promised but an answer in time.
#[tokio::test(flavor = "multi_thread")]
async fn three_members_keep_the_contract_when_one_is_killed() {
    let Some(cluster) = Cluster::start::<3>().await else {
        return;
    };
    let mut cluster = cluster.ready().await;
    let (before, after) = CHECKS.split_at(CHECKS.len() / 2);
    contract::run(&cluster, before).await;
    let old = cluster.client();
    let ttl = Duration::from_secs(60);
    let hold = old.register("kill/held", Bytes::new(), ttl).await.unwrap();

    let leader = cluster.leader().await;
    cluster.servers[leader].kill();
    settled(&*old).await;
    contract::run(&cluster, after).await;
    old.heartbeat(&hold, Some(Bytes::from_static(b"still")))
        .await
        .unwrap();
    assert_eq!(
        &cluster
            .client()
            .get("kill/held")
            .await
            .unwrap()
            .unwrap()
            .value[..],
        b"still"
    );

    let old = Etcd::new(&cluster.settings()).unwrap();
    settled(&old).await;
    let second = (leader + 1) % 3;
    cluster.servers[second].kill();
    for store in [old, Etcd::new(&cluster.settings()).unwrap()] {
        let slow = TIMEOUT * 2;
        let in_time = |what: &'static str, start: Instant, told: Result<(), StoreError>| {
            assert!(
                matches!(told, Err(StoreError::Unreachable(_))),
                "{what}: {told:?}"
            );
            assert!(start.elapsed() < slow, "{what}: {:?}", start.elapsed());
        };
        let now = Instant::now;
        in_time("get", now(), store.get("a").await.map(drop));
        in_time("scan", now(), store.scan("a/").await.map(drop));
        in_time(
            "commit",
            now(),
            store.commit(vec![], put("a", "")).await.map(drop),
        );
        in_time(
            "register",
            now(),
            store.register("a", Bytes::new(), ttl).await.map(drop),
        );
        in_time("heartbeat", now(), store.heartbeat(&hold, None).await);
        in_time("leave", now(), store.leave(hold.clone()).await);
        in_time("changes", now(), store.changes("a/", Duration::ZERO).await);
    }
}

/// Two count while the leader dies: what was acknowledged is there, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_no_acknowledged_write() {
    let Some(cluster) = Cluster::start::<3>().await else {
        return;
    };
    let mut cluster = cluster.ready().await;
    let stop = Arc::new(AtomicBool::new(false));
    let count = |store: Arc<dyn Store>| {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            let (mut made, mut unclear) = (0u64, 0u64);
            while !stop.load(Ordering::Relaxed) {
                let Ok(found) = store.get("count").await else {
                    continue;
                };
                let n = found.as_ref().map_or(0, |found| number(&found.value));
                let guard = Guard {
                    key: "count".to_owned(),
                    version: found.map(|found| found.version),
                };
                match store
                    .commit(vec![guard], put("count", &(n + 1).to_string()))
                    .await
                {
                    Ok(_) => made += 1,
                    Err(StoreError::Conflict(_)) => {}
                    Err(StoreError::Unreachable(_)) => unclear += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            (made, unclear)
        })
    };
    let counting = [count(cluster.client()), count(cluster.client())];
    let store = cluster.client();
    let until = async |least: u64| {
        let start = Instant::now();
        loop {
            if let Ok(Some(found)) = store.get("count").await
                && number(&found.value) >= least
            {
                return number(&found.value);
            }
            assert!(start.elapsed() < ELECTION, "it does not go on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let before = until(10).await;
    let leader = cluster.leader().await;
    cluster.servers[leader].kill();
    until(before + 20).await;
    stop.store(true, Ordering::Relaxed);
    let (mut made, mut unclear) = (0, 0);
    for counted in counting {
        let (some, others) = counted.await.unwrap();
        made += some;
        unclear += others;
    }
    let found = number(&store.get("count").await.unwrap().unwrap().value);
    assert!(
        (made..=made + unclear).contains(&found),
        "{found}: {made} and {unclear}"
    );
}

/// A member that accepts connections and says nothing costs a part of the timeout, and is not asked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_member_is_passed_over() {
    let Some(cluster) = Cluster::start::<3>().await else {
        return;
    };
    let cluster = cluster.ready().await;
    let frozen = (cluster.leader().await + 1) % 3;
    let mut settings = cluster.settings();
    settings.endpoints.rotate_left(frozen);
    let used = Etcd::new(&settings).unwrap();
    used.get("a").await.unwrap();
    cluster.signal(frozen, "-STOP");
    for store in [used, Etcd::new(&settings).unwrap()] {
        let start = Instant::now();
        assert_eq!(store.get("a").await, Ok(None));
        assert!(start.elapsed() < TIMEOUT);
        // A commit asks one member only.
        store.commit(vec![], put("frozen", "")).await.unwrap();
    }
    cluster.signal(frozen, "-CONT");
}

/// Whoever was away for long is told to read, not that something is wrong.
#[tokio::test]
async fn changes_survive_compaction() {
    let Some(cluster) = Cluster::start::<1>().await else {
        return;
    };
    let cluster = cluster.ready().await;
    let store = cluster.client();
    let patience = Duration::from_secs(60);
    store.changes("compact/", patience).await.unwrap();
    for n in 0..5 {
        store
            .commit(vec![], put("compact/a", &n.to_string()))
            .await
            .unwrap();
    }
    let mut own = cluster.own_client(0).await;
    let now = own
        .get("settled", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    own.compact(now, None).await.unwrap();
    let start = Instant::now();
    store.changes("compact/", patience).await.unwrap();
    store.changes("compact/", patience).await.unwrap();
    assert!(start.elapsed() < patience);
    let (waited, made) = tokio::join!(store.changes("compact/", patience), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        store.commit(vec![], put("compact/a", "new")).await
    });
    waited.unwrap();
    made.unwrap();
    assert!(start.elapsed() < patience);
}

/// A lease that goes on without its key (3.4 has been seen to do that) is no registration.
#[tokio::test]
async fn a_lease_alone_is_no_registration() {
    let Some(cluster) = Cluster::start::<1>().await else {
        return;
    };
    let cluster = cluster.ready().await;
    let store = cluster.client();
    let (key, ttl) = ("lease/a", Duration::from_secs(60));
    let hold = store.register(key, Bytes::new(), ttl).await.unwrap();
    store.heartbeat(&hold, None).await.unwrap();
    let mut own = cluster.own_client(0).await;
    own.delete(format!("glasswatch/{key}"), None).await.unwrap();
    let lost = Err(StoreError::Lost(key.to_owned()));
    assert_eq!(store.heartbeat(&hold, None).await, lost);
    assert_eq!(store.heartbeat(&hold, Some(Bytes::new())).await, lost);
    assert!(store.register(key, Bytes::new(), ttl).await.unwrap().term > hold.term);
}

/// Certificates of our own authority, and a password.
#[tokio::test]
async fn tls_and_passwords_are_checked_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    fs::write(path("ca.pem"), authority.pem()).unwrap();
    fs::write(path("server.pem"), server.pem()).unwrap();
    fs::write(path("server.key"), key.serialize_pem()).unwrap();
    let more = [
        "--cert-file",
        &path("server.pem"),
        "--key-file",
        &path("server.key"),
    ];
    let Some(cluster) = Cluster::start_with::<1>(&more, "https").await else {
        return;
    };

    let mut settings = cluster.settings();
    settings.ca_file = Some(path("ca.pem").into());
    let open = Etcd::new(&settings).unwrap();
    settled(&open).await;
    // The system's authorities do not know it.
    let told = Etcd::new(&cluster.settings()).unwrap().get("a").await;
    assert!(matches!(told, Err(StoreError::Unreachable(_))), "{told:?}");

    let ca = Certificate::from_pem(fs::read(path("ca.pem")).unwrap());
    let tls = TlsOptions::new().ca_certificate(ca);
    let options = ConnectOptions::new().with_tls(tls);
    let mut own = Client::connect(&cluster.endpoints, Some(options))
        .await
        .unwrap();
    own.user_add("root", "rOOt", None).await.unwrap();
    own.user_grant_role("root", "root").await.unwrap();
    own.auth_enable().await.unwrap();

    let told = open.get("a").await;
    assert!(matches!(told, Err(StoreError::Refused(_))), "{told:?}");
    for (password, works) in [("rOOt", true), ("pLaNtEd", false)] {
        settings.user = Some(User {
            name: "root".to_owned(),
            password: Secret::new(password),
        });
        let store = Etcd::new(&settings).unwrap();
        assert!(!format!("{settings:?} {store:?}").contains(password));
        let told = store.get("settled").await;
        match works {
            true => assert!(told.unwrap().is_some()),
            false => {
                let Err(StoreError::Refused(why)) = told else {
                    panic!("{told:?}")
                };
                assert!(!why.contains(password), "{why}");
            }
        }
    }
    drop(cluster.dir);
}

#[test]
fn what_cannot_be_used_is_refused() {
    for endpoints in [
        &[][..],
        &["etcd:2379"],
        &["ftp://etcd:2379"],
        &["http://me:pLaNtEd@etcd:2379"],
    ] {
        let settings = Settings::new(endpoints.iter().copied());
        assert!(!format!("{settings:?}").contains("pLaNtEd"));
        let why = Etcd::new(&settings).unwrap_err();
        assert!(matches!(&why, StoreError::Refused(_)), "{why:?}");
        assert!(!why.to_string().contains("pLaNtEd"), "{why}");
    }
    let settings = Settings {
        ca_file: Some("/nowhere/ca.pem".into()),
        ..Settings::new(["https://etcd:2379"])
    };
    let why = Etcd::new(&settings).unwrap_err();
    assert!(why.to_string().contains("/nowhere/ca.pem"), "{why}");
}
