//! The store alone: the child commits and has a small courier of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use glasswatch::notify::store::{
    Change, Commit, Loaded, Outcome, Outgoing, Phase, Row, Settings, Store, Tried,
};
use jiff::Timestamp;

use crate::{Life, words};

const ROUNDS: u64 = 200;
const CHANGES: usize = 5000;
const KEYS: u64 = 12;
/// What the child waits for an answer.
const PATIENCE: Duration = Duration::from_millis(15);

fn open(folder: &Path) -> (Store, Loaded) {
    let settings = Settings {
        ballast_bytes: 16 << 10,
        ..Settings::default()
    };
    let (store, loaded) = Store::open(folder, settings);
    assert_eq!((&loaded.aside, &loaded.degraded), (&None, &None));
    (store, loaded)
}

/// One message as it goes over the wire, and as it is told to be durable: key, incarnation, sequence.
type Name = (String, u64, u64);

fn name(words: &[&str]) -> Name {
    let number = |n: usize| words[n].parse().unwrap();
    (words[0].to_owned(), number(1), number(2))
}

// ---- the child

/// Not a test by itself: what the other one starts and kills.
#[test]
fn child() {
    let Some(life) = Life::given() else {
        return;
    };
    let (receiver, mut chance) = (life.receiver, fastrand::Rng::with_seed(life.round));
    let (store, loaded) = open(&life.folder);
    let store = Arc::new(store);
    println!("open");
    let mut newest: HashMap<String, (u64, u64, Phase)> = HashMap::new();
    for incident in &loaded.incidents {
        let at = (incident.incarnation, incident.sequence, incident.phase);
        let known = newest.entry(incident.key.clone()).or_insert(at);
        *known = (*known).max_by_incarnation(at);
    }
    let waiting = Arc::new(AtomicUsize::new(loaded.waiting.len()));
    let (rows, taken) = mpsc::channel();
    for row in loaded.waiting {
        rows.send(row).unwrap();
    }
    let courier = {
        let (store, waiting) = (Arc::clone(&store), Arc::clone(&waiting));
        move || deliver(&store, receiver, &taken, &waiting)
    };
    std::thread::spawn(courier);
    let begun = Instant::now();
    // Nobody leaves a child behind.
    while begun.elapsed() < Duration::from_secs(10) {
        let mut burst: Vec<(Name, Commit)> = Vec::new();
        for _ in 0..chance.usize(1..8) {
            let key = format!("k{}", chance.u64(..KEYS));
            let last = newest.get(&key).copied().unwrap_or((0, 0, Phase::Over));
            let (incarnation, sequence, news) = match last {
                (inc, _, Phase::Over) => (inc + 1, 1, "raised"),
                (inc, seq, Phase::Open) if chance.u8(..3) == 0 => (inc, seq + 1, "resolved"),
                (inc, seq, Phase::Open) => (inc, seq + 1, "updated"),
            };
            let change = change(&key, incarnation, sequence, news);
            newest.insert(key.clone(), (incarnation, sequence, change.phase));
            burst.push(((key, incarnation, sequence), store.commit(change)));
        }
        for ((key, incarnation, sequence), commit) in burst {
            let done = commit.wait();
            assert_eq!(done.outcome, Outcome::Durable);
            println!("ack {key} {incarnation} {sequence}");
            for row in done.rows {
                waiting.fetch_add(1, Ordering::Relaxed);
                rows.send(row).unwrap();
            }
        }
        while waiting.load(Ordering::Relaxed) > 200 {
            std::thread::yield_now();
        }
    }
}

trait Newer {
    fn max_by_incarnation(self, other: Self) -> Self;
}

impl Newer for (u64, u64, Phase) {
    fn max_by_incarnation(self, other: Self) -> Self {
        if other.0 > self.0 { other } else { self }
    }
}

pub(crate) fn change(key: &str, incarnation: u64, sequence: u64, news: &str) -> Change {
    Change {
        key: key.to_owned(),
        incarnation,
        sequence,
        phase: match news {
            "resolved" => Phase::Over,
            _ => Phase::Open,
        },
        doc: "{}".to_owned(),
        at: Timestamp::now(),
        outgoing: vec![Outgoing {
            receiver: "r".into(),
            key: key.to_owned(),
            incarnation,
            sequence,
            news: news.into(),
            body: format!("{news}:{key}:{incarnation}"),
        }],
    }
}

/// A small courier: one row of a key after the other, the keys in turn.
fn deliver(store: &Store, to: SocketAddr, taken: &mpsc::Receiver<Row>, waiting: &AtomicUsize) {
    let mut keys: BTreeMap<String, VecDeque<Row>> = BTreeMap::new();
    loop {
        let mut new: Vec<Row> = taken.try_iter().collect();
        if keys.is_empty() && new.is_empty() {
            let Ok(row) = taken.recv() else { return };
            new.push(row);
        }
        for row in new {
            let queue = keys.entry(row.message.key.clone()).or_default();
            queue.push_back(row);
        }
        for queue in keys.values_mut() {
            let Some(row) = queue.front_mut() else {
                continue;
            };
            if row.attempts == 0 {
                drop(store.sending(row.id));
            }
            match send(row, to) {
                Ok(()) => {
                    store.delivered(row.id);
                    queue.pop_front();
                    waiting.fetch_sub(1, Ordering::Relaxed);
                }
                Err(error) => {
                    row.attempts += 1;
                    let tried = Tried {
                        due: row.due,
                        attempts: row.attempts,
                        error,
                        maybe_sent: true,
                    };
                    store.tried(row.id, tried);
                }
            }
        }
        keys.retain(|_, queue| !queue.is_empty());
    }
}

fn send(row: &Row, to: SocketAddr) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(said)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    let m = &row.message;
    let line = format!(
        "{} {} {} {} {} {}\n",
        m.key, m.incarnation, m.sequence, row.id, m.news, m.body
    );
    stream.write_all(line.as_bytes()).map_err(said)?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .map_err(said)?;
    match answer.as_str() {
        "200\n" => Ok(()),
        other => Err(format!("answered `{other}`")),
    }
}

// ---- the receiver

#[derive(Debug, Clone)]
struct Arrival {
    name: Name,
    id: i64,
    news: String,
    body: String,
}

fn arrival(line: &str) -> Arrival {
    let words = words(line);
    Arrival {
        name: name(&words),
        id: words[3].parse().unwrap(),
        news: words[4].to_owned(),
        body: words[5].to_owned(),
    }
}

/// Answers until the process ends; what it has read, it has, whatever it answers but 429.
fn receive(listener: &TcpListener, seed: u64, arrivals: &Mutex<Vec<Arrival>>) {
    let mut chance = fastrand::Rng::with_seed(seed);
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mood = chance.u8(..100);
        if mood < 8 {
            continue;
        }
        let mut line = String::new();
        let whole = BufReader::new(&stream).read_line(&mut line);
        if whole.is_err() || !line.ends_with('\n') {
            continue;
        }
        if mood < 16 {
            let _ = stream.write_all(b"429\n");
            continue;
        }
        arrivals.lock().unwrap().push(arrival(&line));
        if mood < 24 {
            continue;
        }
        if mood < 27 {
            std::thread::sleep(PATIENCE * 4 / 3);
        }
        let _ = stream.write_all(b"200\n");
    }
}

// ---- the oracle

#[test]
fn kill_9_loses_nothing_that_was_acknowledged_and_keeps_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
    for seed in 0..3 {
        let (listener, arrivals) = (listener.try_clone().unwrap(), Arc::clone(&arrivals));
        std::thread::spawn(move || receive(&listener, seed, &arrivals));
    }
    let mut chance = fastrand::Rng::with_seed(41);
    let mut acknowledged: BTreeSet<Name> = BTreeSet::new();
    let mut round = 0;
    while round < ROUNDS || acknowledged.len() < CHANGES {
        assert!(round < ROUNDS * 5, "only {} changes", acknowledged.len());
        let life = Life {
            folder: folder.path().to_owned(),
            receiver: address,
            round,
        };
        let said = life.live_and_die("store::child", Duration::from_secs(5), &mut chance);
        acknowledged.extend(said.iter().map(|ack| name(&words(ack))));
        round += 1;
    }

    // What is left is delivered by one that nobody kills.
    let (store, loaded) = open(folder.path());
    let tried = arrivals.lock().unwrap().len();
    for row in &loaded.waiting {
        arrivals.lock().unwrap().push(Arrival {
            name: (
                row.message.key.clone(),
                row.message.incarnation,
                row.message.sequence,
            ),
            id: row.id,
            news: row.message.news.to_string(),
            body: row.message.body.clone(),
        });
        store.delivered(row.id);
    }
    store.close();
    assert!(tried > acknowledged.len() / 2, "most came over the wire");
    let arrivals = arrivals.lock().unwrap().clone();
    judge(&arrivals, &acknowledged);

    let (store, loaded) = open(folder.path());
    assert!(loaded.waiting.is_empty());
    let mut told: BTreeMap<(String, u64), (u64, bool)> = BTreeMap::new();
    for arrival in &arrivals {
        let (key, incarnation, sequence) = arrival.name.clone();
        let at = (sequence, arrival.news == "resolved");
        let last = told.entry((key, incarnation)).or_default();
        *last = at.max(*last);
    }
    let known: BTreeMap<_, _> = (loaded.incidents.iter())
        .map(|i| {
            (
                (i.key.clone(), i.incarnation),
                (i.sequence, i.phase == Phase::Over),
            )
        })
        .collect();
    assert_eq!(told, known, "receivers know what the outbox knows");
    store.close();
}

fn judge(arrivals: &[Arrival], acknowledged: &BTreeSet<Name>) {
    let mut first: BTreeMap<Name, (i64, String)> = BTreeMap::new();
    let mut last: HashMap<String, (u64, u64)> = HashMap::new();
    let mut over: BTreeSet<(String, u64)> = BTreeSet::new();
    for arrival in arrivals {
        let (key, incarnation, sequence) = arrival.name.clone();
        assert_eq!(
            arrival.body,
            format!("{}:{key}:{incarnation}", arrival.news)
        );
        if let Some(known) = first.get(&arrival.name) {
            assert_eq!(
                known,
                &(arrival.id, arrival.body.clone()),
                "a repeat of another name"
            );
            continue;
        }
        first.insert(arrival.name.clone(), (arrival.id, arrival.body.clone()));
        let before = last.insert(key.clone(), (incarnation, sequence));
        let (of, number) = before.unwrap_or((0, 0));
        let expected = match over.contains(&(key.clone(), of)) || before.is_none() {
            true => (of + 1, 1, "raised"),
            false => (of, number + 1, arrival.news.as_str()),
        };
        let came = (incarnation, sequence, arrival.news.as_str());
        assert_eq!(came, expected, "{key}: out of order, or one is missing");
        if arrival.news == "resolved" {
            over.insert((key, incarnation));
        }
    }
    let lost: Vec<&Name> = (acknowledged.iter())
        .filter(|name| !first.contains_key(*name))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
