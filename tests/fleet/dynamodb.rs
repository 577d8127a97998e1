//! DynamoDB, as moto emulates it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::config::Credentials;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use glasswatch::config::Secret;
use glasswatch::router::store::dynamodb::{DynamoDb, Settings};
use glasswatch::router::store::{Store, StoreError, Write};
use serde_json::{Value as Json, json};

use crate::contract::{self, Bench, CHECKS};
use crate::local::Hands;
use crate::said;
use crate::servers::{Server, program};

const REGION: &str = "eu-central-1";
const TABLE: &str = "fleet";
/// One request at a time, as the service does it for one item: moto's own server answers many at once, and puts a whole
/// table back when a transaction fails.
const MOTO: &str = "
from werkzeug.serving import run_simple
from moto.server import DomainDispatcherApplication, create_backend_app
run_simple('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=False)
";

struct Moto {
    _server: Server,
    address: SocketAddr,
    hands: Hands,
}

impl Moto {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        // Only there is it known to have moto.
        let folder = target.join("moto/bin");
        let python = program("moto_server", Some(&folder), "`./test` installs it")?;
        let mut child = Command::new(python.with_file_name("python3"))
            .args(["-c", MOTO])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = said::address(&mut child);
        let moto = Self {
            _server: Server(child),
            address,
            hands: Hands::default(),
        };
        moto.ask(
            "CreateTable",
            &json!({
                "TableName": TABLE,
                "KeySchema": [
                    { "AttributeName": "pk", "KeyType": "HASH" },
                    { "AttributeName": "sk", "KeyType": "RANGE" },
                ],
                "AttributeDefinitions": [
                    { "AttributeName": "pk", "AttributeType": "S" },
                    { "AttributeName": "sk", "AttributeType": "S" },
                ],
                "BillingMode": "PAY_PER_REQUEST",
            }),
        );
        Some(moto)
    }

    fn ask(&self, action: &str, asked: &Json) -> Json {
        let body = asked.to_string();
        let mut socket = TcpStream::connect(self.address).unwrap();
        write!(
            socket,
            "POST / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\
             content-type: application/x-amz-json-1.0\r\nx-amz-target: DynamoDB_20120810.{action}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/dynamodb/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n{body}",
            self.address,
            body.len(),
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: Some(Secret::new(format!("http://{}/", self.address))),
            // One request at a time.
            timeout: Duration::from_secs(20),
            poll: Duration::from_millis(100),
            ..Settings::new(REGION, TABLE)
        }
    }

    fn open(&self, settings: Settings) -> DynamoDb {
        let store = DynamoDb::new(settings).unwrap().signing_with(credentials());
        store.with_clock(self.hands.clock())
    }
}

fn credentials() -> Credentials {
    Credentials::new("AKIAPLANTED", "planted/key", None, None, "test")
}

impl Bench for Moto {
    fn client(&self) -> Arc<dyn Store> {
        Arc::new(self.open(self.settings()))
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.hands.go_on(time);
        std::future::ready(()).boxed()
    }
}

fn put(key: &str) -> Vec<Write> {
    vec![Write::Put(key.to_owned(), Bytes::from_static(b"x"))]
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamodb_keeps_the_contract() {
    let Some(moto) = Moto::start() else { return };
    contract::run(&moto, CHECKS).await;
}

/// Fleets that share a table do not see each other.
#[tokio::test]
async fn a_prefix_is_a_fleet() {
    let Some(moto) = Moto::start() else { return };
    let [one, two] = ["one/", "two/"].map(|prefix| {
        moto.open(Settings {
            prefix: prefix.to_owned(),
            ..moto.settings()
        })
    });
    one.commit(vec![], put("a/b")).await.unwrap();
    assert_eq!(two.get("a/b").await.unwrap(), None);
    assert_eq!(two.scan("a/").await.unwrap(), []);
    assert_eq!(one.scan("a/").await.unwrap().len(), 1);
}

/// Who has only begun to look takes nobody for dead; who lets his own registration end knows it by his own clock.
#[tokio::test]
async fn nobody_is_dead_before_he_was_watched() {
    let Some(moto) = Moto::start() else { return };
    let (key, ttl) = ("watched/a", Duration::from_secs(10));
    let one = moto.open(moto.settings());
    let hold = one.register(key, Bytes::new(), ttl).await.unwrap();
    moto.hands.go_on(ttl * 100);
    let two = moto.open(moto.settings());
    let taken = Err(StoreError::Taken(key.to_owned()));
    assert_eq!(two.register(key, Bytes::new(), ttl).await, taken);
    let lost = Err(StoreError::Lost(key.to_owned()));
    assert_eq!(one.heartbeat(&hold, None).await, lost);
    moto.hands.go_on(ttl - Duration::from_millis(1));
    assert_eq!(two.register(key, Bytes::new(), ttl).await, taken);
    moto.hands.go_on(Duration::from_millis(1));
    assert!(two.register(key, Bytes::new(), ttl).await.unwrap().term > hold.term);
}

/// What instances that never come back leave behind goes away.
#[tokio::test]
async fn the_dead_are_buried() {
    let Some(moto) = Moto::start() else { return };
    let ttl = Duration::from_secs(10);
    let (one, two) = (moto.open(moto.settings()), moto.open(moto.settings()));
    let dead = one.register("bury/a", Bytes::new(), ttl).await.unwrap();
    let items = || {
        let all = moto.ask("Scan", &json!({ "TableName": TABLE }));
        let all = all["Items"].as_array().unwrap().clone();
        let of = |item: &Json| item["pk"]["S"] == "glasswatch/bury" && item.get("x").is_none();
        all.iter().filter(|item| of(item)).count()
    };
    assert_eq!(two.scan("bury/").await.unwrap().len(), 1);
    moto.hands.go_on(ttl);
    assert_eq!(two.scan("bury/").await.unwrap(), []);
    assert_eq!(items(), 1, "it may come back");
    moto.hands.go_on(Duration::from_secs(600));
    assert_eq!(two.scan("bury/").await.unwrap(), []);
    assert_eq!(items(), 0);
    assert!(
        one.register("bury/a", Bytes::new(), ttl)
            .await
            .unwrap()
            .term
            > dead.term
    );
}

#[tokio::test]
async fn a_silent_or_absent_endpoint_is_unreachable() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for address in [silent.local_addr().unwrap(), absent] {
        let store = DynamoDb::new(Settings {
            endpoint: Some(Secret::new(format!("http://{address}/"))),
            timeout: Duration::from_millis(500),
            ..Settings::new(REGION, TABLE)
        });
        let store = store.unwrap().signing_with(credentials());
        let ttl = Duration::from_secs(10);
        let start = Instant::now();
        let all = [
            store.get("a").await.map(drop),
            store.scan("a/").await.map(drop),
            store.commit(vec![], put("a")).await.map(drop),
            store.register("a", Bytes::new(), ttl).await.map(drop),
            store.changes("a/", Duration::ZERO).await,
        ];
        for told in all {
            assert!(matches!(told, Err(StoreError::Unreachable(_))), "{told:?}");
        }
        assert!(start.elapsed() < Duration::from_secs(8));
    }
}

#[tokio::test]
async fn a_missing_table_is_the_operators_fault() {
    let Some(moto) = Moto::start() else { return };
    let store = moto.open(Settings {
        table: "another".to_owned(),
        ..moto.settings()
    });
    for told in [
        store.get("a").await.map(drop),
        store.scan("a/").await.map(drop),
        store.commit(vec![], put("a")).await.map(drop),
    ] {
        let Err(StoreError::Refused(why)) = told else {
            panic!("{told:?}")
        };
        assert!(why.contains("ResourceNotFound"), "{why}");
    }
}

#[test]
fn an_endpoint_shows_no_secret() {
    let settings = Settings {
        endpoint: Some(Secret::new("planted")),
        ..Settings::new(REGION, TABLE)
    };
    assert!(!format!("{settings:?}").contains("planted"));
    let why = DynamoDb::new(settings).err().unwrap();
    assert!(matches!(&why, StoreError::Refused(_)) && !why.to_string().contains("planted"));
}
