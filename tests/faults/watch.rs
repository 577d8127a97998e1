//! The daemon under test, and what must be true of it while some of its streams are broken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use detectors::base::{Arrival, Cause, Kind, Severity};
use glasswatch::alert::{Change, Transition};
use glasswatch::app::{App, Settings};
use glasswatch::config::{Config, Env};
use glasswatch::ingest::clock;
use glasswatch::lane::{State, Status};

/// Longest wait for anything that must happen.
const DEADLINE: Duration = Duration::from_secs(45);
/// Faults last at least this long, so that a page that comes and goes meanwhile is noticed.
const FAULT: Duration = Duration::from_secs(14);
/// How often the state is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long the account of a healthy stream is watched before it is taken.
const ACCOUNT: Duration = Duration::from_secs(2);
/// Pictures a second of every healthy stream.
const RATE: f64 = 25.0;
/// Share of its pictures that a healthy stream's detectors must have seen.
const ANALYSED: f64 = 0.999;
/// Scheduling of a busy machine, on top of every promise.
const SLACK: Duration = Duration::from_millis(400);

/// One test at a time: they promise seconds, and share the machine.
static TURN: Mutex<()> = Mutex::new(());

/// Runs a test on a runtime like the product's, alone.
pub fn run(test: impl Future<Output = ()>) {
    let _turn: MutexGuard<'_, ()> = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    crate::media::media();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
    runtime.shutdown_background();
}

/// A stream that will be broken.
pub struct Case {
    pub id: &'static str,
    /// Any of these may be told: the peer's death has several honest names.
    pub causes: &'static [Cause],
    /// Shown this long after the last good media.
    pub shown_within: Duration,
    /// Paged this long after the last good media.
    pub paged_within: Duration,
    /// Broken from the start.
    pub never_worked: bool,
}

/// A stream that is odd, and none of anybody's business.
pub struct Odd {
    pub id: &'static str,
    /// Share of its pictures that must come out.
    pub shows: f64,
    /// Rules that may be right about it.
    pub excused: &'static [&'static str],
}

pub struct Watch {
    app: App,
    told: Arc<Mutex<Vec<Transition>>>,
    began: Arrival,
    _folder: tempfile::TempDir,
}

/// What a healthy stream has come to.
#[derive(Debug, Clone, Copy)]
struct Account {
    /// Decoded.
    pictures: u64,
    /// Dropped on the way to the detectors.
    dropped: u64,
    /// Skipped by the detector that skipped most.
    shed: u64,
    /// Pictures that its media clock has room for, less those that were decoded. Sound may be ahead of the pictures
    /// by a little: the least that is seen in a while is what counts.
    missing: f64,
}

impl Account {
    fn of(status: &Status) -> Self {
        let pictures = pictures(status);
        Self {
            pictures,
            dropped: status.dropped_pictures,
            shed: status.detectors.iter().map(|d| d.shed).max().unwrap_or(0),
            missing: status.media_secs * RATE - pictures as f64,
        }
    }

    /// Pictures analysed since `before`, and pictures that should have been.
    fn since(&self, before: &Account) -> (f64, f64) {
        let decoded = (self.pictures - before.pictures) as f64;
        let dropped = (self.dropped - before.dropped) as f64;
        // One picture more or less is a matter of the moment.
        let missing = (self.missing - before.missing - 1.0).max(0.0).floor();
        let shed = (self.shed - before.shed) as f64;
        (decoded - shed, decoded + dropped + missing)
    }
}

/// What was seen of a broken stream.
#[derive(Debug, Default)]
struct Seen {
    /// When it was down, and how long after the last good media.
    shown: Option<(Cause, Duration)>,
    /// Every state since it was down.
    states: Vec<State>,
}

impl Watch {
    /// Starts the daemon; `streams` are the lines of the list.
    pub async fn start(streams: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "version: 1\n\
             instance: {{name: test, data_dir: {:?}}}\n\
             http: {{listen: off}}\n\
             defaults:\n  allow_private: true\n  evidence: false\n  expect: {{video: 1, audio: 1}}\n\
             \x20 limits: {{connect: 1500ms, idle: 2s, playlist_bytes: 65536, segment_bytes: 262144}}\n\
             streams:\n{streams}",
            folder.path()
        );
        let config = Config::parse(&text, &Env::default()).unwrap_or_else(|e| panic!("{e}"));
        let told = Arc::<Mutex<Vec<Transition>>>::default();
        let log = Arc::clone(&told);
        let observer = Arc::new(move |t: &Transition| log.lock().unwrap().push(t.clone()));
        let app = App::start(config, Settings::default(), Some(observer)).await;
        Self {
            app: app.unwrap(),
            told,
            // Patience counts from when all streams were begun.
            began: clock::now(),
            _folder: folder,
        }
    }

    /// Breaks the cases' streams and mends them again, and proves what is promised: shown and paged in time, with
    /// the right cause and only once; recovered without help; neighbours untouched.
    pub async fn prove(
        self,
        cases: &[Case],
        neighbours: &[&str],
        break_them: impl AsyncFnOnce(),
        mend_them: impl AsyncFnOnce(),
    ) {
        let healthy = |status: &Status| status.state == State::Running && pictures(status) >= 25;
        let never: Vec<&Case> = cases.iter().filter(|c| c.never_worked).collect();
        let early = Mutex::<BTreeMap<&str, (Cause, Duration)>>::default();
        self.until("all streams run", |by_id| {
            for case in &never {
                let status = &by_id[case.id];
                if let (State::Down, Some(cause)) = (status.state, status.cause) {
                    let absent = clock::now().since(self.began);
                    early
                        .lock()
                        .unwrap()
                        .entry(case.id)
                        .or_insert((cause, absent));
                }
            }
            let starting = cases.iter().filter(|c| !c.never_worked).map(|c| c.id);
            let wanted = starting.chain(neighbours.iter().copied());
            let early = early.lock().unwrap();
            // What never works is to be seen down before anything that takes its time is done.
            let unseen = never
                .iter()
                .map(|c| c.id)
                .filter(|id| !early.contains_key(id));
            wanted
                .filter(|id| !healthy(&by_id[*id]))
                .chain(unseen)
                .collect()
        })
        .await;
        let before = self.accounts(neighbours).await;
        let healthy_since = clock::now();
        break_them().await;

        let broken_at = Instant::now();
        let early = early.into_inner().unwrap();
        let mut seen: BTreeMap<&str, Seen> = (cases.iter())
            .map(|case| {
                let seen = Seen {
                    shown: early.get(case.id).copied(),
                    ..Seen::default()
                };
                (case.id, seen)
            })
            .collect();
        loop {
            let now = clock::now();
            let statuses = self.statuses();
            for case in cases {
                let (status, seen) = (&statuses[case.id], seen.get_mut(case.id).unwrap());
                let down = status.state == State::Down;
                if seen.shown.is_none() && down {
                    let last = status.tracks.iter().filter_map(|t| t.last).min();
                    let absent = now.since(last.unwrap_or(self.began));
                    seen.shown = Some((status.cause.unwrap(), absent));
                }
                if seen.shown.is_some() && seen.states.last() != Some(&status.state) {
                    seen.states.push(status.state);
                }
            }
            let quiet: Vec<&str> = cases
                .iter()
                .filter(|c| seen[c.id].shown.is_none() || self.raised(c.id).is_empty())
                .map(|c| c.id)
                .collect();
            if quiet.is_empty() && broken_at.elapsed() >= FAULT {
                break;
            }
            assert!(
                broken_at.elapsed() < DEADLINE,
                "{quiet:?} were not shown or not paged: {seen:#?}"
            );
            tokio::time::sleep(LOOK).await;
        }
        let mut wrong = Vec::new();
        for case in cases {
            wrong.extend(self.faults_of(case, &seen[case.id]));
        }
        wrong.extend(self.faults_of_neighbours(&before, healthy_since).await);
        assert!(wrong.is_empty(), "{wrong:#?}\n{seen:#?}");

        let decoded: BTreeMap<_, _> = self
            .statuses()
            .iter()
            .map(|(id, s)| (id.clone(), pictures(s)))
            .collect();
        mend_them().await;
        self.until("all streams have recovered", |by_id| {
            let back = |id: &str| {
                let status = &by_id[id];
                status.state == State::Running && pictures(status) > decoded[id] + 50
            };
            let ids = cases.iter().map(|c| c.id);
            ids.filter(|id| !back(id) || self.is_open(id)).collect()
        })
        .await;
        let wrong = self.faults_of_neighbours(&before, healthy_since).await;
        assert!(wrong.is_empty(), "{wrong:#?}");
        self.app.drain(Duration::from_secs(10)).await;
    }

    /// Lets odd things happen to streams for a while, and proves that they go on and that nobody is told.
    pub async fn endure(self, streams: &[Odd], happens: impl AsyncFnOnce()) {
        self.until("all streams run", |by_id| {
            let starting = streams.iter().map(|odd| odd.id);
            let waits = |status: &Status| status.state != State::Running || pictures(status) < 25;
            starting.filter(|id| waits(&by_id[*id])).collect()
        })
        .await;
        let (before, began) = (self.statuses(), Instant::now());
        happens().await;
        let elapsed = began.elapsed().as_secs_f64();
        let statuses = self.statuses();
        let mut wrong = Vec::new();
        for odd in streams {
            let gained = pictures(&statuses[odd.id]) - pictures(&before[odd.id]);
            let wanted = RATE * (elapsed - 4.0) * odd.shows;
            if (gained as f64) < wanted {
                wrong.push(format!("{}: {gained} pictures in {elapsed:.1} s", odd.id));
            }
            let log = self.told.lock().unwrap();
            let own = log.iter().filter(|t| &*t.defect.stream == odd.id);
            let serious = own
                .filter(|t| t.defect.severity >= Severity::Warning)
                .filter(|t| !odd.excused.contains(&t.defect.rule));
            wrong.extend(serious.map(|t| format!("{:?} {:?}", t.change, t.defect)));
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        self.app.drain(Duration::from_secs(10)).await;
    }

    /// What is wrong about how a broken stream was told.
    fn faults_of(&self, case: &Case, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |right: bool, what: String| {
            if !right {
                wrong.push(format!("{}: {what}", case.id));
            }
        };
        let (cause, absent) = seen.shown.unwrap();
        check(case.causes.contains(&cause), format!("shown as {cause:?}"));
        check(
            absent <= case.shown_within + SLACK,
            format!("shown after {absent:?}"),
        );
        check(
            seen.states == [State::Down],
            format!("states {:?}", seen.states),
        );
        let log = self.told.lock().unwrap();
        for told in log.iter().filter(|t| is_loss(t, case.id)) {
            let defect = &told.defect;
            let late = told.at.arrival.since(defect.start.arrival);
            check(told.change != Change::Clear, format!("cleared: {defect:?}"));
            check(
                defect.severity == Severity::Critical,
                format!("told: {defect:?}"),
            );
            check(
                case.causes.contains(&defect.cause),
                format!("paged as {:?}", defect.cause),
            );
            if told.change == Change::Raise {
                check(
                    late <= case.paged_within + SLACK,
                    format!("paged after {late:?}"),
                );
            }
        }
        wrong
    }

    /// What healthy streams have come to.
    async fn accounts<'a>(&self, ids: &[&'a str]) -> BTreeMap<&'a str, Account> {
        let until = Instant::now() + ACCOUNT;
        let mut accounts: BTreeMap<&str, Account> = BTreeMap::new();
        while Instant::now() < until {
            let statuses = self.statuses();
            for id in ids {
                let mut account = Account::of(&statuses[*id]);
                if let Some(known) = accounts.get(id) {
                    account.missing = account.missing.min(known.missing);
                }
                accounts.insert(*id, account);
            }
            tokio::time::sleep(LOOK).await;
        }
        accounts
    }

    /// What was told of healthy streams, or what they did not decode or analyse.
    async fn faults_of_neighbours(
        &self,
        before: &BTreeMap<&str, Account>,
        since: Arrival,
    ) -> Vec<String> {
        let ids: Vec<&str> = before.keys().copied().collect();
        let accounts = self.accounts(&ids).await;
        let elapsed = clock::now().since(since).as_secs_f64();
        let statuses = self.statuses();
        let mut wrong = Vec::new();
        for id in ids {
            let (analysed, due) = accounts[id].since(&before[id]);
            println!("{id}: {analysed} of {due} pictures analysed in {elapsed:.1} s");
            if analysed < ANALYSED * due {
                wrong.push(format!("{id}: {analysed} of {due} pictures were analysed"));
            }
            // Segments arrive a second at a time.
            if due < RATE * (elapsed - 3.0) {
                wrong.push(format!("{id}: {due} pictures in {elapsed:.1} s"));
            }
            if statuses[id].state != State::Running {
                wrong.push(format!("{id}: {:?}", statuses[id].state));
            }
            let log = self.told.lock().unwrap();
            let told = log.iter().filter(|t| &*t.defect.stream == id);
            let serious = told.filter(|t| t.defect.severity >= Severity::Warning);
            wrong.extend(serious.map(|t| format!("{:?} {:?}", t.change, t.defect)));
        }
        wrong
    }

    fn raised(&self, id: &str) -> Vec<Transition> {
        let log = self.told.lock().unwrap();
        let raises = log
            .iter()
            .filter(|t| is_loss(t, id) && t.change == Change::Raise);
        raises.cloned().collect()
    }

    /// Whether a defect of loss has been raised and not cleared.
    fn is_open(&self, id: &str) -> bool {
        let log = self.told.lock().unwrap();
        let count = |change| {
            let told = log.iter().filter(|t| is_loss(t, id));
            told.filter(|t| t.change == change).count()
        };
        count(Change::Raise) > count(Change::Clear)
    }

    fn statuses(&self) -> BTreeMap<String, Status> {
        let statuses = self.app.statuses().into_iter();
        statuses.map(|s| (s.stream.id.to_string(), s)).collect()
    }

    /// Waits until no stream is `missing` any more.
    async fn until<'a>(
        &self,
        what: &str,
        missing: impl Fn(&BTreeMap<String, Status>) -> Vec<&'a str>,
    ) {
        let end = Instant::now() + DEADLINE;
        loop {
            let statuses = self.statuses();
            let missing = missing(&statuses);
            if missing.is_empty() {
                return;
            }
            if Instant::now() > end {
                let states = missing.iter().map(|id| {
                    let s = &statuses[*id];
                    let open: Vec<_> = s
                        .defects
                        .iter()
                        .map(|d| (d.detector, d.rule, d.cause))
                        .collect();
                    format!(
                        "{id}: {:?} {:?}, {} pictures, {open:?}",
                        s.state,
                        s.cause,
                        pictures(s)
                    )
                });
                panic!("{what}, but not {:#?}", states.collect::<Vec<_>>());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn is_loss(told: &Transition, id: &str) -> bool {
    &*told.defect.stream == id && told.defect.detector == "loss"
}

fn pictures(status: &Status) -> u64 {
    let pictures = status
        .tracks
        .iter()
        .filter(|t| t.info.track.kind == Kind::Video);
    pictures.map(|t| t.decoded).sum()
}
