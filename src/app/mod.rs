//! Starts, reloads and drains every part; the only place that knows them all.

mod added;
pub mod analyze;
pub mod av_sync;
mod canary;
pub mod doctor;
mod folder;
mod glance;
pub mod hash;
pub mod probe;
pub mod replay;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use detectors::base::{Arrival, Severity};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::alert::{Change, Defect, Moment, Transition};
use crate::compare::wire::Place;
use crate::compare::{self, Exchange};
use crate::config::added::Entry;
use crate::config::{self, Against, Changes, Config, LoadError, Problems};
#[cfg(feature = "aws")]
use crate::evidence::s3::Bucket;
#[cfg(feature = "aws")]
use crate::evidence::upload::key_base;
use crate::evidence::upload::{BucketError, Uploads};
use crate::evidence::{Stills, relative_dir};
use crate::http::{self, HttpError, Put, Refusal};
use crate::ingest::source::SourceContext;
use crate::ingest::stats::Stats;
use crate::ingest::{self, Running, clock, teardown};
use crate::lane::pool::{Pool, PoolError};
use crate::lane::{Feed, Lane, Mode, Outlet, Reference, Status};
use crate::notify::desk::Desk;
use crate::notify::event::Epoch;
use crate::notify::heartbeat::Heartbeat;
use crate::notify::jsonl::EventsTo;
use crate::notify::ledger::Ledger;
use crate::notify::links::Links;
use crate::notify::receiver::ReceiverError;
use crate::notify::receiver::http::public_addresses;
use crate::notify::{self, Notifier, NotifyStats};
use crate::router::shard;
use crate::telemetry::export::{Engine, EvidenceCounts, Watched};

/// Time between the ticks that every lane gets.
const TICK: Duration = Duration::from_millis(250);
/// Wedged pipelines from which on the process asks to be replaced.
const WEDGED_LIMIT: usize = 8;
/// What uploads leave of the time to stop to what comes after them.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long one stream may take to stop on a reload.
const STOP: Duration = Duration::from_secs(5);

/// Why the daemon could not start. The operator is at fault, except for the pool.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// `--groups`.
    #[error(transparent)]
    Groups(#[from] config::UnknownGroup),
    /// `--listen`.
    #[error(transparent)]
    Listen(#[from] config::TokenRequired),
    /// The detector pool.
    #[error("cannot start the detector threads: {0}")]
    Pool(#[from] PoolError),
    /// Receivers or the events file.
    #[error(transparent)]
    Notify(#[from] notify::StartError),
    /// `evidence.s3:`
    #[error("the bucket for evidence: {0}")]
    Bucket(#[from] BucketError),
    /// `heartbeat:`
    #[error("the heartbeat: {0}")]
    Heartbeat(#[source] ReceiverError),
    /// HTTP server.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A file that makes streams wrong that the API added.
    #[error("streams that were added by the API would be wrong:\n{0}")]
    Added(Problems),
    /// Another process has the data folder.
    #[error(transparent)]
    Folder(#[from] folder::InUse),
    /// The API is changing streams, and takes long.
    #[error("a change by the API is still being made")]
    Busy,
}

/// What the command line adds to a configuration.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// File that SIGHUP reads again.
    pub path: Option<PathBuf>,
    /// Only the detectors of these groups; empty = all.
    pub groups: Vec<String>,
    /// Events file.
    pub events: Option<EventsTo>,
    /// Overrides `http.listen`.
    pub listen: Option<SocketAddr>,
}

impl Settings {
    /// The configuration as this process runs it: groups, shard and listening address applied.
    fn apply(&self, mut config: Config) -> Result<Config, StartError> {
        if !self.groups.is_empty() {
            config = config.select_groups(&self.groups)?;
        }
        if let Some(shard) = config.shard {
            let all = config.streams.clone();
            (config.streams).retain(|s| shard::owns(shard, shard::placed_by(s, &all)));
        }
        if let Some(listen) = self.listen {
            config.listen_on(listen)?;
        }
        Ok(config)
    }
}

/// Sees every transition that is told, beside the notifier; must not wait.
pub type Observer = Arc<dyn Fn(&Transition) + Send + Sync>;

struct Watch {
    lane: Arc<Lane>,
    stats: Arc<Stats>,
    running: Running,
}

/// A running daemon.
pub struct App {
    shared: Arc<Shared>,
    server: Mutex<Option<http::Server>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    folder: folder::Hold,
}

/// When the heartbeat was taken last.
type HeartbeatAt = Box<dyn Fn() -> Option<Arrival> + Send + Sync>;

struct Shared {
    settings: Settings,
    /// What is watched here: file and API, groups and shard applied.
    config: Arc<ArcSwap<Config>>,
    /// Locked by whoever changes what is watched.
    written: tokio::sync::Mutex<added::Written>,
    /// Ids of streams of the API.
    added: ArcSwap<BTreeSet<Arc<str>>>,
    pool: Pool,
    watched: Mutex<BTreeMap<Arc<str>, Watch>>,
    notifier: Notifier,
    outlet: Arc<dyn Outlet>,
    stills: Option<Arc<Stills>>,
    links: Option<Arc<Links>>,
    uploads: Option<Arc<Uploads>>,
    exchange: Exchange,
    epoch: Epoch,
    canary: Arc<canary::Counts>,
    heartbeat_at: HeartbeatAt,
    draining: AtomicBool,
    reload_ok: AtomicBool,
    reload_at_nanos: AtomicU64,
}

/// Hands transitions to an observer, then on.
struct Observed {
    observer: Observer,
    on: Arc<dyn Outlet>,
}

impl Outlet for Observed {
    fn transition(&self, transition: Transition) -> Result<(), Transition> {
        let seen = transition.clone();
        self.on.transition(transition)?;
        (self.observer)(&seen);
        Ok(())
    }
}

impl App {
    /// Starts everything that `config` asks for. Needs a tokio runtime.
    pub async fn start(
        config: Config,
        settings: Settings,
        observer: Option<Observer>,
    ) -> Result<Self, StartError> {
        // Before anything there is read or sent.
        let folder = folder::take(&config.instance.data_dir)?;
        let mut written = added::Written::read(config);
        let begun = written.begin(&settings)?;
        let config = begun.config;
        let epoch = Epoch::now();
        let uploads = uploads(&config)?;
        let stills = Stills::open_with(
            &config.instance.data_dir,
            config.instance.evidence_quota_bytes,
            uploads.clone(),
        );
        let links = config.http.public_url.clone().and_then(|base| {
            let life = config.http.link_life;
            Links::open(base, life, &config.instance.data_dir).map(Arc::new)
        });
        let config = Arc::new(ArcSwap::from_pointee(config));
        let current = config.load_full();
        let shown = Arc::clone(&config);
        let copies = uploads.clone();
        let notifier = Notifier::start(notify::Settings {
            instance: current.instance.name.clone(),
            epoch,
            data_dir: current.instance.data_dir.clone(),
            store: notify::store::Settings::default(),
            receivers: current.receivers.clone(),
            incidents: current.incidents.clone(),
            events: settings.events.clone(),
            evidence: Some(Arc::new(move |defect| {
                sets_of(&shown.load(), copies.as_deref(), defect)
            })),
            away: notify::courier::AWAY,
            links: links.clone(),
            addresses: public_addresses(),
        })?;
        let outlet = match observer {
            None => notifier.outlet(),
            Some(observer) => Arc::new(Observed {
                observer,
                on: notifier.outlet(),
            }),
        };
        let heartbeat = Heartbeat::new(&current.heartbeat, public_addresses())
            .map_err(StartError::Heartbeat)?;
        let shared = Arc::new(Shared {
            settings,
            pool: Pool::new(current.instance.pool_threads)?,
            config,
            written: tokio::sync::Mutex::new(written),
            added: ArcSwap::from_pointee(begun.added),
            watched: Mutex::default(),
            notifier,
            outlet,
            stills: Some(stills),
            links,
            uploads,
            exchange: Exchange::default(),
            epoch,
            canary: Arc::default(),
            heartbeat_at: match &heartbeat {
                Some(heartbeat) => Box::new(heartbeat.taken_at()),
                None => Box::new(|| None),
            },
            draining: AtomicBool::new(false),
            reload_ok: AtomicBool::new(begun.whole),
            reload_at_nanos: AtomicU64::new(clock::now().nanos()),
        });
        let config = current;
        // Who changes streams waits until those of the start are there.
        let starting = shared.written.lock().await;
        let server =
            http::start(&config.http, Arc::clone(&shared) as Arc<dyn http::Source>).await?;
        if let Some(server) = &server {
            info!(address = %server.address(), "serving metrics and the API");
        }
        shared.notifier.set_streams(&config.streams);
        for stream in &config.streams {
            shared.watch(stream);
        }
        for gone in shared.notifier.desk().take_all_before() {
            shared.go_on(gone);
        }
        drop(starting);
        info!(streams = config.streams.len(), "watching");
        let mut tasks = vec![tokio::spawn(tick(Arc::clone(&shared)))];
        tasks.push(tokio::spawn(canary::run(
            shared.pool.clone(),
            shared.notifier.outlet(),
            shared.notifier.desk(),
            config.canary.clone(),
            Arc::clone(&shared.canary),
        )));
        if let Some(heartbeat) = heartbeat {
            let watched = Arc::clone(&shared);
            tasks.push(tokio::spawn(heartbeat.run(move || {
                let ready = http::Source::engine(&*watched).unready().is_none();
                ready && watched.notifier.desk().is_well()
            })));
        }
        Ok(Self {
            shared,
            server: Mutex::new(server),
            tasks,
            folder,
        })
    }

    /// Where the API listens.
    pub fn address(&self) -> Option<SocketAddr> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(http::Server::address)
    }

    /// State of every stream.
    pub fn statuses(&self) -> Vec<Status> {
        self.shared
            .watched()
            .values()
            .map(|w| w.lane.status())
            .collect()
    }

    /// Reads the configuration file again; only streams that changed restart. A file with mistakes changes
    /// nothing but a metric.
    pub async fn reload(&self) {
        // Whatever becomes of the configuration: the file may have been moved away.
        self.shared.notifier.reopen_events();
        let Some(path) = self.shared.settings.path.clone() else {
            return;
        };
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let taken = match loaded {
            Ok(Ok(config)) => self.shared.reload(config).await,
            Ok(Err(problem)) => Err(problem.into()),
            Err(_) => return,
        };
        let well = taken.as_ref().is_ok_and(|(_, whole)| *whole);
        self.shared.reload_ok.store(well, Ordering::Relaxed);
        match taken {
            Ok((changes, _)) => {
                let now = clock::now().nanos();
                self.shared.reload_at_nanos.store(now, Ordering::Relaxed);
                info!(
                    added = changes.added.len(),
                    changed = changes.changed.len(),
                    removed = changes.removed.len(),
                    "configuration taken"
                );
            }
            Err(problem) => error!("the configuration is not taken, the old one stays: {problem}"),
        }
    }

    /// Stops everything within `deadline`: readiness off, inputs closed, what is queued handled and told.
    /// Open defects stay open at the receivers: stopping a monitor mends no stream.
    pub async fn drain(self, deadline: Duration) {
        let end = Instant::now() + deadline;
        let left = || end.saturating_duration_since(Instant::now());
        self.shared.draining.store(true, Ordering::Relaxed);
        // A change that is under way is made first, so that nothing is watched that nobody stops.
        let changed = tokio::time::timeout(left().min(STOP), self.shared.written.lock()).await;
        drop(changed);
        for task in &self.tasks {
            task.abort();
        }
        let watched = std::mem::take(&mut *self.shared.watched());
        let stops = watched
            .into_values()
            .map(|watch| watch.stop(left().min(STOP)));
        futures_util::future::join_all(stops).await;
        let (undone, ()) = tokio::join!(
            self.shared.notifier.close(left()),
            self.shared.keep_evidence(end)
        );
        if undone > 0 {
            warn!(undone, "some notifications could not be delivered in time");
        }
        let server = self
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(server) = server {
            server.stop(left().min(STOP)).await;
        }
        // Whoever comes next may have it.
        drop(self.folder);
        info!("drained");
    }
}

impl Watch {
    /// Ends the input, then the lane. Returns the last state.
    async fn stop(self, deadline: Duration) -> Status {
        self.running.stop(deadline).await;
        let lane = self.lane;
        let last = tokio::task::spawn_blocking(move || {
            lane.close_and_wait(deadline);
            lane.status()
        });
        match last.await {
            Ok(status) => status,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Watch>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, stream: &Arc<config::Stream>) {
        let stills = self.stills.clone().filter(|_| stream.evidence);
        let lane = Lane::open(
            &self.pool,
            Arc::clone(stream),
            Mode::Live,
            Arc::clone(&self.outlet),
            stills,
        );
        lane.set_print_tap(self.exchange.tap(&stream.id));
        // Nobody but `av_reference` reads what comes from there.
        let compares = (stream.detectors.iter()).any(|d| d.descriptor.name == "av_reference");
        if let Some(against) = stream.reference.as_ref().filter(|_| compares) {
            let feed = Arc::new(Feed::default());
            match against {
                Against::Stream(id) => self.exchange.subscribe(id, &feed),
                Against::Instance(url) => {
                    tokio::spawn(compare::fetch::follow(
                        stream.input.clone(),
                        url.clone(),
                        stream.reference_token.clone(),
                        Arc::clone(&stream.id),
                        Arc::downgrade(&feed),
                    ));
                }
            }
            lane.set_reference(Reference::live(feed));
        }
        for defect in self.notifier.desk().take_before(&stream.id) {
            if !lane.take_up(defect.clone()) {
                self.close(defect);
            }
        }
        let stats = Arc::new(Stats::default());
        let running = ingest::spawn(SourceContext {
            stream: Arc::clone(stream),
            intake: lane.intake(),
            stats: Arc::clone(&stats),
            cancel: CancellationToken::new(),
        });
        self.watched().insert(
            Arc::clone(&stream.id),
            Watch {
                lane,
                stats,
                running,
            },
        );
    }

    /// Stops a stream that the operator took away or changed: what was open on it is closed, because nobody
    /// watches for its end any more.
    async fn unwatch(&self, id: &str) {
        let Some(watch) = self.watched().remove(id) else {
            return;
        };
        let last = watch.stop(STOP).await;
        for defect in last.defects {
            self.close(defect);
        }
    }

    /// Goes on with a defect of before: its stream watches for its end, if there is one that can.
    fn go_on(&self, defect: Defect) {
        let lane = (self.watched().get(&defect.stream)).map(|watch| Arc::clone(&watch.lane));
        if !lane.is_some_and(|lane| lane.take_up(defect.clone())) {
            self.close(defect);
        }
    }

    /// Ends a defect whose end nobody watches for any more.
    fn close(&self, mut defect: Defect) {
        let at = Moment {
            media: None,
            arrival: clock::now(),
        };
        defect.end = Some(at);
        let stream = Arc::clone(&defect.stream);
        let cleared = Transition {
            change: Change::Clear,
            at,
            defect,
        };
        if self.outlet.transition(cleared).is_err() {
            warn!(%stream, "a defect of a stream that is no longer watched could not be closed");
        }
    }

    /// Has written, and uploaded where there is a bucket, what was kept so far.
    async fn keep_evidence(&self, end: Instant) {
        let left = || end.saturating_duration_since(Instant::now());
        if let Some(stills) = self.stills.clone() {
            let limit = left().min(STOP);
            let flushed = tokio::task::spawn_blocking(move || stills.flush(limit)).await;
            if !flushed.unwrap_or(false) {
                warn!("some evidence could not be written in time");
            }
        }
        if let Some(uploads) = &self.uploads {
            let undone = uploads.close(left().saturating_sub(FAREWELL)).await;
            if undone > 0 {
                warn!(
                    undone,
                    "some sets of evidence could not be uploaded in time: they stay on disk"
                );
            }
        }
    }

    async fn take_up(&self, config: Config) -> Result<Changes, StartError> {
        let changes = config::diff(&self.config.load(), &config);
        if changes.instance || changes.http || changes.incidents {
            warn!(
                "changes of `instance`, `http`, `evidence`, `incidents`, `canary` and `heartbeat` need a restart"
            );
        }
        if changes.receivers {
            self.notifier.set_receivers(&config.receivers, STOP)?;
        }
        self.take_streams(&changes, &config).await;
        self.config.store(Arc::new(self.as_started(config)));
        Ok(changes)
    }

    /// What only a restart changes stays as it is.
    fn as_started(&self, config: Config) -> Config {
        let running = self.config.load();
        Config {
            instance: running.instance.clone(),
            http: running.http.clone(),
            evidence: running.evidence.clone(),
            incidents: running.incidents.clone(),
            canary: running.canary.clone(),
            heartbeat: running.heartbeat.clone(),
            ..config
        }
    }

    /// Stops and starts what differs; everything else goes on.
    async fn take_streams(&self, changes: &Changes, config: &Config) {
        let gone = changes.removed.iter().cloned();
        let stopping = gone.chain(changes.changed.iter().map(|s| Arc::clone(&s.id)));
        for id in stopping.collect::<Vec<_>>() {
            self.unwatch(&id).await;
        }
        for id in &changes.removed {
            self.notifier.forget(id);
        }
        for stream in changes.changed.iter().chain(&changes.added) {
            self.watch(stream);
        }
        self.notifier.set_streams(&config.streams);
    }
}

impl http::Source for Shared {
    fn instance(&self) -> String {
        self.config.load().instance.name.clone()
    }

    fn streams(&self) -> Vec<Watched> {
        self.watched()
            .values()
            .map(|w| (w.lane.status(), Arc::clone(&w.stats)))
            .collect()
    }

    fn engine(&self) -> Engine {
        Engine {
            config_loaded: true,
            draining: self.draining.load(Ordering::Relaxed),
            wedged: teardown::wedged(),
            wedged_limit: WEDGED_LIMIT,
            reload_ok: self.reload_ok.load(Ordering::Relaxed),
            reload_at: Arrival::from_nanos(self.reload_at_nanos.load(Ordering::Relaxed)),
            canary_arrived: self.canary.arrived.load(Ordering::Relaxed),
            canary_lost: self.canary.lost.load(Ordering::Relaxed),
            canary_at: self.notifier.desk().canary_at(),
            heartbeat_at: (self.heartbeat_at)(),
        }
    }

    fn notify(&self) -> NotifyStats {
        self.notifier.stats()
    }

    fn ledger(&self) -> Arc<Ledger> {
        self.notifier.ledger()
    }

    fn desk(&self) -> Arc<Desk> {
        self.notifier.desk()
    }

    fn evidence(&self) -> EvidenceCounts {
        let Some(stills) = &self.stills else {
            return EvidenceCounts::default();
        };
        let counts = stills.counts();
        EvidenceCounts {
            folder: Some(self.config.load().instance.data_dir.join("evidence")),
            written: counts.written,
            failed: counts.failed,
            dropped: counts.dropped,
            evicted: counts.evicted,
            bytes: counts.bytes,
            clips_written: counts.clips_written,
            clips_failed: counts.clips_failed,
            clips_dropped: counts.clips_dropped,
            ring_bytes: counts.ring_bytes,
            uploads: self.uploads.as_ref().map(|uploads| uploads.counts()),
        }
    }

    fn links(&self) -> Option<Arc<Links>> {
        self.links.clone()
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn prints(&self, stream: &str, since: Option<Place>) -> Option<Vec<u8>> {
        let id = (self.watched().get_key_value(stream)).map(|(id, _)| Arc::clone(id))?;
        Some(self.exchange.since(&id, since, clock::now()))
    }

    fn added(&self) -> Arc<BTreeSet<Arc<str>>> {
        self.added.load_full()
    }

    fn put_stream(self: Arc<Self>, entry: Entry) -> BoxFuture<'static, Result<Put, Refusal>> {
        self.changed(added::Asked::Put(entry))
            .map(|done| done.and_then(|put| put.ok_or(Refusal::Unknown)))
            .boxed()
    }

    fn remove_stream(self: Arc<Self>, id: String) -> BoxFuture<'static, Result<(), Refusal>> {
        self.changed(added::Asked::Remove(id))
            .map(|done| done.map(drop))
            .boxed()
    }
}

/// The way of evidence to the bucket, if there is one.
#[cfg(feature = "aws")]
fn uploads(config: &Config) -> Result<Option<Arc<Uploads>>, StartError> {
    let Some(s3) = &config.evidence.s3 else {
        return Ok(None);
    };
    let instance = &config.instance;
    let base = key_base(&s3.prefix, &instance.name);
    let bucket = Box::new(Bucket::new(s3)?);
    Ok(Some(Uploads::start(&instance.data_dir, base, bucket)))
}

/// Checking a configuration has refused what this build cannot do.
#[cfg(not(feature = "aws"))]
fn uploads(_: &Config) -> Result<Option<Arc<Uploads>>, StartError> {
    Ok(None)
}

/// Where the evidence of a defect will be, for its events.
fn sets_of(config: &Config, copies: Option<&Uploads>, defect: &Defect) -> Vec<String> {
    let kept = config
        .streams
        .iter()
        .any(|s| s.id == defect.stream && s.evidence);
    if !kept || defect.severity < Severity::Warning {
        return Vec::new();
    }
    let dir = relative_dir(defect);
    let copy = copies.map(|copies| copies.uri(&dir));
    [dir.display().to_string()]
        .into_iter()
        .chain(copy)
        .collect()
}

/// Tells every lane four times a second that time passes.
async fn tick(shared: Arc<Shared>) {
    let mut pace = tokio::time::interval(TICK);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let lanes: Vec<Arc<Lane>> = shared
            .watched()
            .values()
            .map(|w| Arc::clone(&w.lane))
            .collect();
        for lane in lanes {
            lane.tick(clock::now());
        }
        // Of a disk that did not work at the start.
        for late in shared.notifier.desk().take_all_before() {
            shared.go_on(late);
        }
    }
}
