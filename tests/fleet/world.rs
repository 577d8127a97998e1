//! A fleet in one thread under virtual time: instances and routers as they are, on a store, a network, disks and streams
//! that are made up.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use glasswatch::router::cache::Cache;
use glasswatch::router::heartbeat::{self, Standing};
use glasswatch::router::keys::{Instance, Load, Member, Spec};
use glasswatch::router::ledger::{self, Speaker};
use glasswatch::router::plan::Rules;
use glasswatch::router::planner::{Alarm, Planner};
use glasswatch::router::store::Store;
use glasswatch::router::unit::{Node, NodeState, Unit};
use glasswatch::router::worker::{Parts, Peers, Watcher, Worker};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::memory::{Client, Memory};

pub const GROUPS: [&str; 2] = ["picture", "sound"];

/// Stops a process as SIGSTOP does: time passes and it does not notice.
#[derive(Default)]
pub struct Gate {
    closed: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub fn open(&self) {
        self.closed.store(false, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

struct Stoppable {
    inner: BoxFuture<'static, ()>,
    gate: Arc<Gate>,
}

impl Future for Stoppable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.gate.is_closed() {
            *self.gate.waker.lock().unwrap() = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.inner.as_mut().poll(context)
    }
}

fn spawn(gate: &Arc<Gate>, process: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(Stoppable {
        inner: Box::pin(process),
        gate: Arc::clone(gate),
    })
}

/// What an instance watches; it takes some seconds until a unit is analysed.
#[derive(Default)]
pub struct Watching(Mutex<BTreeMap<Unit, (Instant, Duration, u64)>>);

impl Watching {
    pub fn units(&self) -> BTreeSet<Unit> {
        self.0.lock().unwrap().keys().cloned().collect()
    }
}

impl Watcher for Watching {
    fn start(&self, unit: &Unit, spec: &Arc<Spec>, _: u64) {
        let warm_up = Duration::from_millis(fastrand::u64(2000..8000));
        let mut all = self.0.lock().unwrap();
        let new = (Instant::now(), warm_up, spec.rev);
        let held = all.entry(unit.clone()).or_insert(new);
        held.2 = spec.rev;
    }

    fn stop(&self, unit: &Unit) {
        self.0.lock().unwrap().remove(unit);
    }

    fn load(&self) -> Load {
        let mut all = BTreeMap::new();
        for unit in self.units() {
            all.insert((Arc::clone(&unit.stream), unit.group), 0.1);
            all.insert((unit.stream, "".into()), 0.2);
        }
        Load(
            all.into_iter()
                .map(|((s, g), cores)| (s, g, cores))
                .collect(),
        )
    }

    fn runs(&self, unit: &Unit) -> bool {
        let all = self.0.lock().unwrap();
        all.get(unit)
            .is_some_and(|(since, warm_up, _)| since.elapsed() >= *warm_up)
    }
}

/// A disk that outlives processes.
#[derive(Default)]
pub struct Disk(Mutex<BTreeMap<String, Bytes>>);

impl Cache for Disk {
    fn read(&self, name: &str) -> io::Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap().get(name).cloned())
    }

    fn write(&self, name: &'static str, value: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0.lock().unwrap().insert(name.to_owned(), value);
        Box::pin(async { Ok(()) })
    }
}

/// Who answers whom.
#[derive(Default)]
pub struct Net {
    gates: Mutex<BTreeMap<Arc<str>, Arc<Gate>>>,
    cut: Mutex<BTreeSet<Arc<str>>>,
}

impl Net {
    pub fn cut(&self, id: &str) {
        self.cut.lock().unwrap().insert(id.into());
    }

    pub fn heal(&self, id: &str) {
        self.cut.lock().unwrap().remove(id);
    }

    fn answers(&self, from: &str, to: &str) -> bool {
        let cut = self.cut.lock().unwrap();
        let gates = self.gates.lock().unwrap();
        !cut.contains(from) && !cut.contains(to) && gates.get(to).is_some_and(|g| !g.is_closed())
    }
}

struct Line {
    net: Arc<Net>,
    from: Arc<str>,
}

impl Peers for Line {
    fn alive(&self, member: &Member) -> BoxFuture<'_, bool> {
        let to = Arc::clone(&member.node.id);
        Box::pin(async move {
            let answers = self.net.answers(&self.from, &to);
            sleep(Duration::from_millis(if answers { 5 } else { 2000 })).await;
            answers
        })
    }
}

/// Which streams are bad, and since when each is as it is.
#[derive(Default)]
pub struct Truth(Mutex<BTreeMap<Arc<str>, (bool, Instant)>>);

impl Truth {
    pub fn turn(&self, stream: &Arc<str>, bad: bool) {
        let mut all = self.0.lock().unwrap();
        let now = (bad, Instant::now());
        let is = all.entry(Arc::clone(stream)).or_insert(now);
        if is.0 != bad {
            *is = now;
        }
    }

    pub fn of(&self, stream: &str) -> (bool, Duration) {
        let all = self.0.lock().unwrap();
        all.get(stream)
            .map_or((false, Duration::MAX), |(bad, at)| (*bad, at.elapsed()))
    }
}

/// What instances do wrong on purpose, to show that the oracle sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    Good,
    /// They do, and they claim a fence above all others.
    Fenceless,
    /// They believe that their registrations live.
    Overconfident,
}

pub struct Process {
    pub watching: Arc<Watching>,
    pub worker: Arc<Worker>,
    pub gate: Arc<Gate>,
    pub task: JoinHandle<()>,
    drain: Arc<Notify>,
}

pub struct Slot {
    pub id: Arc<str>,
    zone: Arc<str>,
    disk: Arc<Disk>,
    client: Arc<Client>,
    pub process: Option<Process>,
    boots: u32,
}

pub struct Router {
    pub id: Arc<str>,
    client: Arc<Client>,
    pub gate: Arc<Gate>,
    pub task: Option<JoinHandle<()>>,
}

pub struct World {
    pub memory: Arc<Memory>,
    pub api: Arc<Client>,
    pub slots: Vec<Slot>,
    pub routers: Vec<Router>,
    pub net: Arc<Net>,
    pub truth: Arc<Truth>,
    pub alarms: Arc<Mutex<Vec<Alarm>>>,
    pub manners: Manners,
    zero: Instant,
}

pub fn now_ms(zero: Instant) -> u64 {
    1_800_000_000_000 + u64::try_from(zero.elapsed().as_millis()).unwrap_or(0)
}

impl World {
    pub fn new(memory: Arc<Memory>, instances: usize, routers: usize) -> Self {
        tokio::spawn({
            let memory = Arc::clone(&memory);
            async move { memory.reap().await }
        });
        let mut world = Self {
            api: memory.client("api"),
            slots: Vec::new(),
            routers: Vec::new(),
            net: Arc::default(),
            truth: Arc::default(),
            alarms: Arc::default(),
            manners: Manners::Good,
            zero: Instant::now(),
            memory,
        };
        world.add_instances(instances);
        for n in 0..routers {
            let id: Arc<str> = format!("r-{n}").into();
            world.routers.push(Router {
                client: world.memory.client(&id),
                gate: Arc::default(),
                task: None,
                id,
            });
            world.start_router(n);
        }
        world
    }

    pub fn add_instances(&mut self, count: usize) {
        for n in 0..count {
            let id: Arc<str> = format!("i-{n}").into();
            self.slots.push(Slot {
                client: self.memory.client(&id),
                zone: ["a", "b", "c"][n % 3].into(),
                disk: Arc::default(),
                process: None,
                boots: 0,
                id,
            });
            self.start(n);
        }
    }

    pub fn now_ms(&self) -> u64 {
        now_ms(self.zero)
    }

    fn tell(&self) -> Arc<dyn Fn(Alarm) + Send + Sync> {
        let alarms = Arc::clone(&self.alarms);
        Arc::new(move |alarm| alarms.lock().unwrap().push(alarm))
    }

    pub fn start(&mut self, n: usize) {
        let tell = self.tell();
        let zero = self.zero;
        let slot = &mut self.slots[n];
        slot.boots += 1;
        let store: Arc<dyn Store> = slot.client.clone();
        let watching = Arc::new(Watching::default());
        let parts = Parts {
            store: Arc::clone(&store),
            watcher: watching.clone(),
            peers: Arc::new(Line {
                net: Arc::clone(&self.net),
                from: Arc::clone(&slot.id),
            }),
            cache: slot.disk.clone(),
            clock: Arc::new(move || zero.elapsed()),
            tell,
        };
        let instance = Instance {
            node: Node {
                id: Arc::clone(&slot.id),
                zone: Arc::clone(&slot.zone),
                groups: GROUPS.map(Arc::from).to_vec(),
                capacity_cores: 100.0,
                state: NodeState::Up,
            },
            boot: format!("{}-{}", slot.id, slot.boots).into(),
            address: format!("https://{}", slot.id),
            build: "test".into(),
            used_cores: 0.0,
            plan_seen: 0,
        };
        let worker = Arc::new(Worker::new(parts, instance));
        let gate: Arc<Gate> = Arc::default();
        self.net
            .gates
            .lock()
            .unwrap()
            .insert(Arc::clone(&slot.id), Arc::clone(&gate));
        let drain = Arc::new(Notify::new());
        let judge = Judge {
            store: Arc::clone(&store),
            worker: Arc::clone(&worker),
            watching: Arc::clone(&watching),
            truth: Arc::clone(&self.truth),
            owner: Arc::clone(&slot.id),
            manners: self.manners,
            zero,
            open: BTreeMap::new(),
            adopted: BTreeMap::new(),
        };
        let process = {
            let (worker, cache, drain) =
                (Arc::clone(&worker), slot.disk.clone(), Arc::clone(&drain));
            async move {
                let drained = async {
                    drain.notified().await;
                    Instant::now() + Duration::from_secs(90)
                };
                let pulse = Arc::clone(worker.pulse());
                tokio::select! {
                    biased;
                    () = worker.run(drained) => {}
                    () = heartbeat::beat(store, pulse, cache) => {}
                    () = judge.run() => {}
                }
            }
        };
        let task = spawn(&gate, process);
        slot.process = Some(Process {
            watching,
            worker,
            gate,
            task,
            drain,
        });
    }

    pub fn kill(&mut self, n: usize) {
        if let Some(process) = self.slots[n].process.take() {
            process.task.abort();
        }
        self.net.gates.lock().unwrap().remove(&self.slots[n].id);
    }

    pub fn drain(&self, n: usize) {
        if let Some(process) = &self.slots[n].process {
            process.drain.notify_one();
        }
    }

    /// Takes note of processes that ended by themselves.
    pub fn bury(&mut self) {
        for n in 0..self.slots.len() {
            let over = self.slots[n]
                .process
                .as_ref()
                .is_some_and(|p| p.task.is_finished());
            if over {
                self.kill(n);
            }
        }
    }

    pub fn start_router(&mut self, n: usize) {
        let tell = self.tell();
        let router = &mut self.routers[n];
        let store: Arc<dyn Store> = router.client.clone();
        let planner = Planner::new(store, Arc::clone(&router.id), Rules::default(), tell);
        router.gate = Arc::default();
        router.task = Some(spawn(&router.gate, async move { planner.run().await }));
    }

    pub fn kill_router(&mut self, n: usize) {
        if let Some(task) = self.routers[n].task.take() {
            task.abort();
        }
    }

    /// Whether somebody that works analyses the unit.
    pub fn is_watched(&self, unit: &Unit) -> bool {
        let processes = self.slots.iter().filter_map(|s| s.process.as_ref());
        let mut live = processes.filter(|p| !p.gate.is_closed() && !p.task.is_finished());
        live.any(|p| p.watching.runs(unit))
    }

    /// How many take units.
    pub fn up(&self) -> usize {
        let processes = self.slots.iter().filter_map(|s| s.process.as_ref());
        let up = processes.filter(|p| p.worker.pulse().instance().state() == NodeState::Up);
        up.count()
    }

    /// Who watches it under which fence, and what is planned, for messages.
    pub fn holders(&self, stream: &str, group: &str) -> String {
        let plan = self.memory.with(super::oracle::plan);
        let mut told = String::new();
        for replica in 1..=2 {
            let unit = Unit {
                stream: stream.into(),
                group: group.into(),
                replica,
            };
            let at = plan
                .as_ref()
                .ok()
                .and_then(|(_, units)| units.get(&unit).cloned());
            told += &format!("\nreplica {replica}: planned {at:?}; held");
            for slot in &self.slots {
                if let Some(process) = &slot.process
                    && let Some(fence) = process.worker.fence(&unit)
                {
                    let runs = process.watching.runs(&unit);
                    let (standing, seen) = (process.worker.standing(), process.worker.revision());
                    told += &format!(" {} {fence} {runs} {standing:?} {seen}", slot.id);
                }
            }
        }
        told
    }

    /// How many have begun with it, analysed yet or not.
    pub fn begun(&self, unit: &Unit) -> usize {
        let processes = self.slots.iter().filter_map(|s| s.process.as_ref());
        let live = processes.filter(|p| !p.gate.is_closed() && !p.task.is_finished());
        live.filter(|p| p.watching.units().contains(unit)).count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for slot in &self.slots {
            if let Some(process) = &slot.process {
                process.task.abort();
            }
        }
    }
}

/// Raises and resolves as detectors would: one alert a stream and group.
struct Judge {
    store: Arc<dyn Store>,
    worker: Arc<Worker>,
    watching: Arc<Watching>,
    truth: Arc<Truth>,
    owner: Arc<str>,
    manners: Manners,
    zero: Instant,
    open: BTreeMap<Unit, u64>,
    adopted: BTreeMap<Unit, u64>,
}

impl Judge {
    async fn run(mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(Duration::from_secs(1)).await;
            if renewed.elapsed() > ledger::AGAIN / 4 {
                renewed = Instant::now();
                self.adopted.clear();
            }
            let units = self.watching.units();
            self.open.retain(|unit, _| units.contains(unit));
            self.adopted.retain(|unit, _| units.contains(unit));
            for unit in units {
                if self.watching.runs(&unit) {
                    self.judge(&unit).await;
                }
            }
        }
    }

    fn speaker(&self, unit: &Unit) -> Option<Speaker> {
        let fence = self.worker.fence(unit)?;
        let (fence, standing) = match self.manners {
            Manners::Good => (fence, self.worker.standing()),
            Manners::Overconfident => (fence, Standing::Confirmed),
            Manners::Fenceless => (u64::MAX, Standing::Confirmed),
        };
        Some(Speaker {
            unit: unit.clone(),
            owner: Arc::clone(&self.owner),
            fence,
            standing,
        })
    }

    async fn judge(&mut self, unit: &Unit) {
        let Some(speaker) = self.speaker(unit) else {
            return;
        };
        let alert = &*unit.group;
        if self.adopted.get(unit) != Some(&speaker.fence) {
            let Ok(taken) = ledger::adopt(&*self.store, &speaker).await else {
                return;
            };
            let mine = taken.iter().find(|e| *e.alert == *alert);
            match mine {
                Some(entry) => self.open.insert(unit.clone(), entry.incarnation),
                // Not there, or no longer: what stands is raised anew.
                None => self.open.remove(unit),
            };
            self.adopted.insert(unit.clone(), speaker.fence);
        }
        let (bad, _) = self.truth.of(&unit.stream);
        match (bad, self.open.get(unit).copied()) {
            (true, None) => {
                let now = now_ms(self.zero);
                if let Ok(n) = ledger::raise(&*self.store, alert, &speaker, now).await {
                    self.open.insert(unit.clone(), n);
                }
            }
            (false, Some(incarnation)) => {
                // It has been decided; much can happen until it is said.
                sleep(Duration::from_millis(fastrand::u64(0..1500))).await;
                let Some(speaker) = self.speaker(unit) else {
                    return;
                };
                let said = ledger::resolve(&*self.store, alert, incarnation, &speaker).await;
                match said {
                    Ok(_) | Err(ledger::Refusal::Reopened(_)) => {
                        self.open.remove(unit);
                    }
                    Err(_) => {}
                }
            }
            _ => {}
        }
    }
}
