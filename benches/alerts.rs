//! What it takes to tell: from a detector's decision to the receiver's answer, and what an outage of the receiver leaves
//! behind: `cargo bench --bench alerts`.
//!
//! 1. 2,000 incidents at 50 a second: delay from decision to acceptance, and time of a commit, as shares below bounds.
//! 2. 10,000 changes while the receiver answers 503: how long until everything is told or named once it is back.
//!
//! Absolute times of this machine: they say something about its disk as well.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use detectors::base::{Arrival, Cause, Severity, Track};
use glasswatch::alert::{Change, Defect, Moment, Transition};
use glasswatch::config::template::Template;
use glasswatch::config::{Incidents, Receiver, ReceiverKind, Secret};
use glasswatch::ingest::clock;
use glasswatch::notify::courier::{AWAY, DELAY_BUCKETS_SECS};
use glasswatch::notify::event::Epoch;
use glasswatch::notify::receiver::http::public_addresses;
use glasswatch::notify::store::{self, COMMIT_SECS};
use glasswatch::notify::{Notifier, Settings};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Hook {
    down: AtomicBool,
    taken: AtomicU64,
}

async fn take(State(hook): State<Arc<Hook>>, _body: String) -> StatusCode {
    if hook.down.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    hook.taken.fetch_add(1, Ordering::Relaxed);
    StatusCode::OK
}

fn transition(change: Change, stream: usize, at: Arrival) -> Transition {
    let moment = Moment {
        media: None,
        arrival: at,
    };
    Transition {
        change,
        at: moment,
        defect: Defect {
            id: format!("{stream}-1"),
            fingerprint: format!("{stream}"),
            stream: format!("s{stream}").into(),
            labels: Arc::default(),
            detector: "freeze",
            rule: "frozen_long",
            track: Some(Track::video(0)),
            member: None,
            severity: Severity::Critical,
            cause: Cause::Frozen,
            place: None,
            av_offsets: Vec::new(),
            value: 10.0,
            limit: 10.0,
            unit: "seconds",
            says: "The picture stands still.".into(),
            start: moment,
            end: (change == Change::Clear).then_some(moment),
        },
    }
}

async fn tell(notifier: &Notifier, change: Change, stream: usize) {
    let outlet = notifier.outlet();
    let mut next = transition(change, stream, clock::now());
    while let Err(back) = outlet.transition(next) {
        next = back;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn shares(title: &str, bounds: &[f64], counts: &[u64]) {
    let all: u64 = counts.iter().sum();
    println!("{title} ({all}):");
    let mut below = 0;
    for (bound, count) in bounds.iter().zip(counts) {
        below += count;
        println!(
            "  <= {bound:>7} s  {:6.2} %",
            100.0 * below as f64 / all.max(1) as f64
        );
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let hook = Arc::new(Hook {
        down: AtomicBool::new(false),
        taken: AtomicU64::new(0),
    });
    let app = Router::new()
        .route("/", post(take))
        .with_state(Arc::clone(&hook));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let notifier = Notifier::start(Settings {
        instance: "bench".into(),
        epoch: Epoch::now(),
        data_dir: folder.path().to_owned(),
        store: store::Settings::default(),
        receivers: vec![Receiver {
            template: Template::default(),
            name: "ops".into(),
            kind: ReceiverKind::Webhook {
                url: Secret::new(url),
                keys: Vec::new(),
            },
            timeout: Duration::from_secs(5),
            proxy: None,
            min_severity: Severity::Info,
            only: std::collections::BTreeMap::new(),
            allow_private: true,
            canary: false,
        }],
        incidents: Incidents {
            resolve_after: Duration::ZERO,
            repage_after: Duration::ZERO,
            ..Incidents::default()
        },
        events: None,
        evidence: None,
        away: AWAY,
        links: None,
        addresses: public_addresses(),
    })?;

    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for stream in 0..2000 {
        pace.tick().await;
        tell(&notifier, Change::Raise, stream).await;
    }
    while notifier.stats().receivers[0].delivered < 2000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stats = notifier.stats();
    shares(
        "decision to acceptance",
        &DELAY_BUCKETS_SECS,
        &stats.receivers[0].delays,
    );
    shares("commits", &COMMIT_SECS, &stats.store.commit_secs);

    hook.down.store(true, Ordering::Relaxed);
    tell(&notifier, Change::Clear, 0).await;
    while notifier.stats().receivers[0].retried == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // 4,900 come and go, 200 stay.
    for stream in 10_000..14_900 {
        tell(&notifier, Change::Raise, stream).await;
        tell(&notifier, Change::Clear, stream).await;
    }
    for stream in 20_000..20_200 {
        tell(&notifier, Change::Raise, stream).await;
    }
    let waiting = notifier.stats().receivers[0].pending;
    // Away for more than a minute: then it is brought up to date with a digest.
    tokio::time::sleep(Duration::from_secs(65)).await;
    let before = hook.taken.load(Ordering::Relaxed);
    let back = Instant::now();
    hook.down.store(false, Ordering::Relaxed);
    while notifier.stats().receivers[0].pending > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stats = notifier.stats();
    println!(
        "outage: {waiting} messages waited; {:.1} s after its return {} were taken and {} left out for a digest",
        back.elapsed().as_secs_f64(),
        hook.taken.load(Ordering::Relaxed) - before,
        stats.receivers[0].compacted,
    );
    notifier.close(Duration::from_secs(10)).await;
    Ok(())
}
