//! An instance of a fleet: follows the plan, and goes on when there is nobody to follow.
//!
//! Watching twice does no harm and not watching does, so whenever it is unclear who watches a unit, it is watched.

mod act;
mod follow;
mod island;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::cache::{self, Cache, Kept};
use super::heartbeat::{Pulse, Standing};
use super::keys::{self, Instance, Load, Member, Spec};
use super::planner::{Alarm, Tell};
use super::published::Published;
use super::store::{Clock, Store, Write};
use super::unit::{NodeState, Unit};

/// Between rounds of the control loop while there is something to start.
const TICK: Duration = Duration::from_millis(250);
/// Between rounds of the control loop otherwise, unless something changes.
const IDLE: Duration = Duration::from_secs(2);
/// Between looks at what has come to run.
const REPORT: Duration = Duration::from_millis(500);
/// Units started in one round: 20 in a second.
const STARTS: usize = 5;
/// Silence of the store after which instances look after each other.
pub const ISLAND: Duration = Duration::from_secs(30);
/// Between probes of the others.
pub const PROBE: Duration = Duration::from_secs(5);
/// Probes in a row that must fail, or succeed, to change one's mind.
pub const PROBES: u32 = 4;
/// Between reports of what units cost.
const WEIGH: Duration = Duration::from_secs(60);
/// Most often that the plan is written to disk.
const PERSIST: Duration = Duration::from_secs(5);

/// What does the watching.
pub trait Watcher: Send + Sync {
    /// Watches a unit. One that is watched already takes up the new spec and fence.
    fn start(&self, unit: &Unit, spec: &Arc<Spec>, fence: u64);

    /// Ends it. One that is not watched is ended already.
    fn stop(&self, unit: &Unit);

    /// Whether it is analysed: the detectors have warmed up.
    fn runs(&self, unit: &Unit) -> bool;

    /// What all that costs, as measured.
    fn load(&self) -> Load;
}

/// The other instances, without the store.
pub trait Peers: Send + Sync {
    /// Whether it answers. Ends within 2 s.
    fn alive(&self, member: &Member) -> BoxFuture<'_, bool>;
}

/// What a worker is made from.
pub struct Parts {
    /// What instances share.
    pub store: Arc<dyn Store>,
    /// What does the watching.
    pub watcher: Arc<dyn Watcher>,
    /// The other instances.
    pub peers: Arc<dyn Peers>,
    /// What is kept on disk.
    pub cache: Arc<dyn Cache>,
    /// Time since the machine began.
    pub clock: Clock,
    /// Who is told what needs a person.
    pub tell: Tell,
}

/// An instance of a fleet.
pub struct Worker {
    parts: Parts,
    id: Arc<str>,
    boot: Arc<str>,
    pulse: Arc<Pulse>,
    state: Mutex<State>,
    /// The plan, or the shadows.
    changed: Notify,
    /// What is watched.
    begun: Notify,
}

#[derive(Default)]
struct State {
    /// The plan that is followed.
    plan: Published,
    /// All streams: also those of others, for their shadows.
    specs: BTreeMap<Arc<str>, Arc<Spec>>,
    /// What the plan wants here: the fence, `None` = keep what there is until the successor runs.
    wanted: BTreeMap<Unit, Option<u64>>,
    /// Watched because their instances do not answer.
    shadows: BTreeSet<Unit>,
    /// What is watched.
    held: BTreeMap<Unit, Held>,
    /// No longer wanted by anybody: to be struck off in the store.
    ended: BTreeSet<Unit>,
    /// How the others answered last: how often in a row, and what.
    answers: BTreeMap<Arc<str>, (bool, u32)>,
    /// Whether the disk has it.
    saved: bool,
    /// Told already.
    told: Option<Alarm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    fence: u64,
    rev: u64,
    /// Fence and spec of which the store knows that it runs.
    reported: Option<(u64, u64)>,
}

impl Worker {
    /// An instance with what it kept on disk. Its [`Pulse`] is to be kept beating ([`super::heartbeat::beat`]).
    pub fn new(parts: Parts, mut instance: Instance) -> Self {
        let mut state = State {
            saved: true,
            ..State::default()
        };
        if let Some(kept) = cache::load(&*parts.cache)
            && let Some(plan) = kept.plan()
        {
            let specs = kept.specs().iter().cloned().map(Arc::new);
            state.specs = specs.map(|s| (Arc::clone(&s.stream), s)).collect();
            state.follow(plan, &instance.node.id);
        }
        instance.plan_seen = state.plan.revision();
        let hold = cache::load_hold(&*parts.cache);
        Self {
            id: Arc::clone(&instance.node.id),
            boot: Arc::clone(&instance.boot),
            pulse: Arc::new(Pulse::new(Arc::clone(&parts.clock), instance, hold)),
            parts,
            state: Mutex::new(state),
            changed: Notify::new(),
            begun: Notify::new(),
        }
    }

    /// For the heartbeat, and for what else is registered.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Whether it may do what could hide a fault.
    pub fn standing(&self) -> Standing {
        self.pulse.standing()
    }

    /// Revision of the plan that it follows; 0 = it knows of none.
    pub fn revision(&self) -> u64 {
        self.lock().plan.revision()
    }

    /// The fence that it has for a unit that it watches.
    pub fn fence(&self, unit: &Unit) -> Option<u64> {
        self.lock().held.get(unit).map(|held| held.fence)
    }

    /// All that it knows, for seeding a store anew ([`super::reseed`]).
    pub fn kept(&self) -> Kept {
        let state = self.lock();
        Kept::new(&state.plan, &state.specs)
    }

    /// Works until it is to drain and has, or until the deadline that comes with it. Then nothing is watched and the
    /// registration has ended.
    pub async fn run(&self, drain: impl Future<Output = Instant>) {
        let work = async {
            tokio::join!(
                self.follow(),
                self.act(),
                self.report(),
                self.isle(),
                self.persist(),
                self.weigh()
            );
        };
        tokio::select! {
            biased;
            () = self.drained(drain) => {}
            () = work => {}
        }
        let held: Vec<Unit> = std::mem::take(&mut self.lock().held).into_keys().collect();
        for unit in &held {
            self.parts.watcher.stop(unit);
        }
        self.pulse.leave(&*self.parts.store).await;
        // What stays is removed by the planner.
        let load = Write::Delete(keys::load(&self.id));
        let _ = self.parts.store.commit(Vec::new(), vec![load]).await;
    }

    /// Tells the store what units cost.
    async fn weigh(&self) {
        let key = keys::load(&self.id);
        loop {
            sleep(WEIGH).await;
            let load = self.parts.watcher.load();
            let used: f64 = load.0.iter().map(|(_, _, cores)| cores).sum();
            self.pulse.change(|instance| instance.used_cores = used);
            if let Ok(value) = keys::encode(&key, &load) {
                // The next one says it too.
                let put = Write::Put(key.clone(), value);
                let _ = self.parts.store.commit(Vec::new(), vec![put]).await;
            }
        }
    }

    /// Waits until others watch everything.
    async fn drained(&self, drain: impl Future<Output = Instant>) {
        let deadline = drain.await;
        self.pulse.turn(NodeState::Draining);
        while Instant::now() < deadline && !self.lock().wanted.is_empty() {
            sleep(TICK).await;
        }
    }

    async fn persist(&self) {
        loop {
            sleep(PERSIST).await;
            let kept = {
                let mut state = self.lock();
                let kept = (!state.saved).then(|| Kept::new(&state.plan, &state.specs));
                state.saved = true;
                kept
            };
            if let Some(kept) = kept
                && cache::save(&*self.parts.cache, &kept).await.is_err()
            {
                self.lock().saved = false;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_once(&self, alarm: Alarm) {
        if self.lock().told.as_ref() != Some(&alarm) {
            self.lock().told = Some(alarm.clone());
            (self.parts.tell)(alarm);
        }
    }
}

impl State {
    fn follow(&mut self, plan: Published, me: &str) {
        let mut wanted = BTreeMap::new();
        for (unit, at) in plan.units() {
            if *at.node == *me {
                wanted.insert(unit, Some(at.fence));
            } else if at.leaving.as_deref() == Some(me) {
                wanted.insert(unit, None);
            }
        }
        self.wanted = wanted;
        self.plan = plan;
        self.saved = false;
        self.told = None;
    }
}
