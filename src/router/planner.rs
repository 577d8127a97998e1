//! The planner: of all routers the one that registered as such. It reads who is there and what is wanted, has it
//! planned, and writes the plan.
//!
//! Losing the role without noticing (a process that was stopped for a while) is harmless: every write is guarded by the
//! term of the registration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::keys::{self, Fault, Head, Instance, Load, Member, Own, Spec};
use super::ledger;
use super::plan::{self, Balance, Moves, Outcome, Repointed, Rules, Step, Why};
use super::published::{self, Published};
use super::store::{COMMIT_ITEMS, Hold, Store, StoreError, Version, Write};
use super::streams;
use super::unit::{Demand, Mobility, Node, Plan, Unit};

/// How long the role and every other registration outlive the last heartbeat.
pub const TTL: Duration = Duration::from_secs(10);
/// Between heartbeats: two may fail.
pub const HEARTBEAT: Duration = Duration::from_secs(3);
/// Between rounds, when nothing is known to have changed.
const ROUND: Duration = Duration::from_secs(2);
/// Between rounds, when something has.
const BREATH: Duration = Duration::from_millis(500);
/// Between attempts to become the planner; as much again at random.
const CHALLENGE: Duration = Duration::from_secs(1);
/// How long the role is left free for whoever puts a restored store right.
const YIELD: Duration = Duration::from_secs(10);
/// Failed rounds after which another shall try.
const ROUNDS_FAILED: u32 = 3;
/// How long the store must have answered before an instance that is not registered is gone: after an outage instances
/// need this long to register again, a heartbeat later than [`TTL`].
const GRACE: Duration = Duration::from_secs(13);
/// How long the store must have answered before anything is planned: by then all instances have said which plan they
/// have seen, so that a store that was restored is known as such by routers that are new themselves.
const FRESH: Duration = Duration::from_secs(6);
/// Silence of the store after which registrations may have ended although nobody died.
const OUTAGE: Duration = Duration::from_secs(4);
/// How long instances have to come before the first plan of all is made: what is placed stays.
const SETTLING: Duration = Duration::from_secs(10);
/// How long load must have been uneven before units are moved for it.
pub const UNEVEN_FOR: Duration = Duration::from_secs(300);
/// Between two steps that do more than is necessary.
const SLOW: Duration = Duration::from_secs(60);
/// A stream that came later than this is not moved to even things out.
const YOUNG: Duration = Duration::from_secs(600);
/// Watches end, and alerts are read, at least this often, so that one that lost an event is repaired.
const PATIENCE: Duration = Duration::from_secs(20);
/// Own records that are read one by one; for more all are read at once.
const FEW: usize = 50;
/// Until it was measured: one group of detectors on one stream, in cores.
const GROUP_CORES: f64 = 0.1;
/// Until it was measured: decoding a stream, in cores.
const DECODE_CORES: f64 = 0.2;

/// What needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// The store knows an older plan than some instance does: it was restored. Nothing is planned, and no instance
    /// follows, until it is seeded anew ([`super::reseed`]).
    WentBack {
        /// Of the newest plan that anybody has seen.
        seen: u64,
        /// Of the plan in the store.
        stored: u64,
    },
    /// A plan that an instance does not believe; it stays with the one before.
    Refused {
        /// Of the plan.
        revision: u64,
        /// In words.
        why: String,
    },
    /// A stream that is sent to one address is listened for at another: its sender must be pointed there.
    Repointed(Repointed),
    /// The planner gave up its role.
    Resigned {
        /// In words.
        why: String,
    },
}

/// Who is told of an [`Alarm`].
pub type Tell = Arc<dyn Fn(Alarm) + Send + Sync>;

/// What the planner knows besides its plan. It begins anew with every planner.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Revision of the plan; 0 = this router is not the planner, or has not planned yet.
    pub revision: u64,
    /// Units that were changed since it became the planner.
    pub moves: Moves,
    /// What nobody watches, or no second instance does.
    pub unplaced: Vec<(Unit, Why)>,
    /// Instances with more load than capacity.
    pub overloaded: Vec<Arc<str>>,
    /// How even the load is.
    pub balance: Option<Balance>,
    /// Load of each instance, in cores, by id.
    pub loads: Vec<(Arc<str>, f64)>,
}

/// A router that may become the planner.
pub struct Planner {
    store: Arc<dyn Store>,
    id: Arc<str>,
    rules: Rules,
    tell: Tell,
    contact: Mutex<Contact>,
    /// Revision of the newest plan that this router has seen.
    newest: AtomicU64,
    /// Told already.
    told: Mutex<Option<Alarm>>,
    status: Mutex<Status>,
}

/// Since when the store has answered.
struct Contact {
    since: Instant,
    last: Instant,
}

/// What is kept from round to round.
struct Rounds {
    began: Instant,
    known: Published,
    version: Option<Version>,
    /// Highest revision that was tried: none is tried twice, since what was written under it may yet arrive.
    tried: u64,
    tidied: bool,
    specs: Option<Arc<Vec<Spec>>>,
    /// The specs that the plan was made for.
    planned: Option<Arc<Vec<Spec>>>,
    measured: BTreeMap<(Arc<str>, Arc<str>), f64>,
    troubled: BTreeSet<Arc<str>>,
    measured_at: Option<Instant>,
    alerts_at: Option<Instant>,
    first_seen: BTreeMap<Arc<str>, Instant>,
    uneven_since: Option<Instant>,
    slow_at: Instant,
}

/// What follows a round.
enum Next {
    Round,
    /// The role is left to whoever puts the store right ([`super::reseed`]).
    Yield,
}

/// What a watch saw.
#[derive(Default)]
struct Seen {
    notify: Notify,
    streams: Mutex<bool>,
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Planner {
    /// A router named `id`.
    pub fn new(store: Arc<dyn Store>, id: Arc<str>, rules: Rules, tell: Tell) -> Self {
        let now = Instant::now();
        Self {
            store,
            id,
            rules,
            tell,
            contact: Mutex::new(Contact {
                since: now,
                last: now,
            }),
            newest: AtomicU64::new(0),
            told: Mutex::new(None),
            status: Mutex::default(),
        }
    }

    /// For metrics and the API.
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// Competes for the role and fills it, for ever.
    pub async fn run(&self) {
        loop {
            let hold = self.elected().await;
            self.serve(&hold).await;
            *lock(&self.status) = Status::default();
            let _ = self.note(self.store.leave(hold).await);
            let pause = if lock(&self.told).is_some() {
                YIELD
            } else {
                CHALLENGE
            };
            sleep(pause + jitter(CHALLENGE)).await;
        }
    }

    async fn elected(&self) -> Hold {
        loop {
            let id = Bytes::copy_from_slice(self.id.as_bytes());
            let tried = self.note(self.store.register(keys::PLANNER, id, TTL).await);
            match tried {
                Ok(hold) => return hold,
                Err(StoreError::Taken(_)) => {
                    // So that the next planner knows too when the store goes back.
                    let _ = self.look().await;
                    sleep(CHALLENGE + jitter(CHALLENGE)).await;
                }
                Err(_) => sleep(CHALLENGE + jitter(CHALLENGE)).await,
            }
        }
    }

    async fn look(&self) -> Result<(), Fault> {
        if let Some(record) = self.note(self.store.get(keys::HEAD).await)? {
            let head: Head = keys::decode(&record)?;
            self.newest.fetch_max(head.revision, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn serve(&self, hold: &Hold) {
        let seen = Seen::default();
        *lock(&seen.streams) = true;
        tokio::select! {
            biased;
            () = self.keep(hold) => {}
            () = self.rounds(hold, &seen) => {}
            () = self.watch(keys::STREAMS, &seen) => {}
            () = self.watch(keys::INSTANCES, &seen) => {}
        }
    }

    /// Keeps the role; returns when it is lost.
    async fn keep(&self, hold: &Hold) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < TTL {
            let sent = Instant::now();
            match self.note(self.store.heartbeat(hold, None).await) {
                Ok(()) => {
                    renewed = sent;
                    sleep(HEARTBEAT).await;
                }
                Err(StoreError::Unreachable(_)) => sleep(BREATH).await,
                Err(_) => return,
            }
        }
    }

    async fn watch(&self, prefix: &str, seen: &Seen) {
        loop {
            // Not noted as an answer: a watch that hears nothing ends well without any.
            if self.store.changes(prefix, PATIENCE).await.is_err() {
                sleep(ROUND).await;
            }
            if prefix == keys::STREAMS {
                *lock(&seen.streams) = true;
            }
            seen.notify.notify_one();
        }
    }

    async fn rounds(&self, hold: &Hold, seen: &Seen) {
        let now = Instant::now();
        let mut rounds = Rounds {
            began: now,
            known: Published::default(),
            version: None,
            tried: 0,
            tidied: false,
            specs: None,
            planned: None,
            measured: BTreeMap::new(),
            troubled: BTreeSet::new(),
            measured_at: None,
            alerts_at: None,
            first_seen: BTreeMap::new(),
            uneven_since: None,
            slow_at: now,
        };
        let mut failed = 0;
        loop {
            if std::mem::take(&mut *lock(&seen.streams)) {
                rounds.specs = None;
            }
            match self.round(hold, &mut rounds).await {
                Ok(Next::Round) => failed = 0,
                Ok(Next::Yield) => return,
                Err(fault) => {
                    failed += 1;
                    rounds.specs = None;
                    if failed == ROUNDS_FAILED {
                        let why = fault.to_string();
                        return (self.tell)(Alarm::Resigned { why });
                    }
                }
            }
            sleep(BREATH).await;
            let _ = timeout(ROUND - BREATH, seen.notify.notified()).await;
        }
    }

    async fn round(&self, hold: &Hold, rounds: &mut Rounds) -> Result<Next, Fault> {
        // Instances before the head: what they have seen is then no newer than what is there, or the store went back.
        let instances = self.note(self.store.scan(keys::INSTANCES).await)?;
        let instances: Vec<Instance> = instances
            .iter()
            .map(keys::decode)
            .collect::<Result<_, _>>()?;
        let found = published::read(&*self.store, &rounds.known).await?;
        let stored = found.as_ref().map_or(0, |(p, _)| p.revision());
        let seen = instances.iter().map(|i| i.plan_seen).max().unwrap_or(0);
        let seen = self
            .newest
            .fetch_max(seen.max(stored), Ordering::Relaxed)
            .max(seen);
        if stored < seen {
            self.tell_once(Alarm::WentBack { seen, stored });
            return Ok(Next::Yield);
        }
        *lock(&self.told) = None;
        if lock(&self.contact).since.elapsed() < FRESH {
            return Ok(Next::Round);
        }
        if let Some((known, version)) = found {
            (rounds.known, rounds.version) = (known, Some(version));
        }
        if !rounds.tidied {
            published::tidy(&*self.store, hold, &rounds.known.head).await?;
            rounds.tidied = true;
        }
        let specs = match &rounds.specs {
            Some(specs) => Arc::clone(specs),
            None => {
                let specs = Arc::new(streams::all(&*self.store).await?);
                rounds.specs = Some(Arc::clone(&specs));
                specs
            }
        };
        self.measure(rounds, &instances).await?;
        self.alerts(rounds, &specs).await?;
        let mut before = rounds.known.plan();
        before.revision = before.revision.max(rounds.tried);
        if before.units.is_empty() && rounds.began.elapsed() < SETTLING {
            return Ok(Next::Round);
        }
        let members = self.members(&instances, &rounds.known.members);
        if members.is_empty() {
            return Ok(Next::Round);
        }
        let nodes: Vec<Node> = members.iter().map(|m| m.node.clone()).collect();
        let demands = demands(&specs, rounds);
        let step = rounds.step();
        let moving = before.units.values().any(|at| at.leaving.is_some());
        let same = rounds
            .planned
            .as_ref()
            .is_some_and(|p| Arc::ptr_eq(p, &specs))
            && *rounds.known.members == members;
        if same && !moving && step == Step::Necessary {
            return Ok(Next::Round);
        }
        let running = self.running(&before, &instances).await?;
        let runs = |unit: &Unit, node: &str| running.get(unit).is_some_and(|at| **at == *node);
        let outcome = plan::plan(&before, &demands, &nodes, &self.rules, step, &runs);
        rounds.weigh(outcome.balance.uneven(&self.rules), step);
        let planned = outcome.plan.clone();
        self.publish(hold, rounds, before, planned, &specs, members)
            .await?;
        self.account(outcome, rounds.known.revision());
        rounds.planned = Some(specs);
        Ok(Next::Round)
    }

    async fn publish(
        &self,
        hold: &Hold,
        rounds: &mut Rounds,
        before: Plan,
        mut plan: Plan,
        specs: &[Spec],
        members: Vec<Member>,
    ) -> Result<(), Fault> {
        let specs: Vec<_> = specs
            .iter()
            .map(|s| (Arc::clone(&s.stream), s.rev))
            .collect();
        let same_specs = specs.len() == rounds.known.specs().count() && {
            let known: BTreeMap<_, _> = rounds.known.specs().collect();
            specs.iter().all(|(s, r)| known.get(s) == Some(r))
        };
        if plan.units == before.units && same_specs && *rounds.known.members == members {
            return Ok(());
        }
        plan.revision = plan.revision.max(before.revision + 1);
        rounds.tried = plan.revision;
        let next = rounds.known.next(&plan, &specs, members, hold.term);
        let known = rounds.version.map(|version| (&rounds.known, version));
        let version = published::write(&*self.store, hold, known, &next).await?;
        self.newest.fetch_max(next.revision(), Ordering::Relaxed);
        (rounds.known, rounds.version) = (next, Some(version));
        Ok(())
    }

    fn account(&self, outcome: Outcome, revision: u64) {
        let mut status = lock(&self.status);
        let mut moves = status.moves;
        moves += outcome.moves;
        *status = Status {
            revision,
            moves,
            unplaced: outcome.unplaced,
            overloaded: outcome.overloaded,
            balance: Some(outcome.balance),
            loads: outcome.loads,
        };
        drop(status);
        for repointed in outcome.repointed {
            (self.tell)(Alarm::Repointed(repointed));
        }
    }

    /// The instances to count on: those registered, and those of the last plan that may only not have registered again
    /// since the store was away.
    fn members(&self, instances: &[Instance], last: &[Member]) -> Vec<Member> {
        let mut members: Vec<Member> = instances.iter().map(Instance::member).collect();
        if lock(&self.contact).since.elapsed() < GRACE {
            let here = |id: &str| instances.iter().any(|i| *i.node.id == *id);
            members.extend(last.iter().filter(|m| !here(&m.node.id)).cloned());
        }
        members.sort_by(|a, b| a.node.id.cmp(&b.node.id));
        members
    }

    /// Of units that are on the move: where they run.
    async fn running(
        &self,
        before: &Plan,
        instances: &[Instance],
    ) -> Result<BTreeMap<Unit, Arc<str>>, Fault> {
        let moving = || before.units.iter().filter(|(_, at)| at.leaving.is_some());
        let count = moving().count();
        let records = if count == 0 {
            Vec::new()
        } else if count <= FEW {
            let keys: Vec<String> = moving().map(|(unit, _)| keys::own(unit)).collect();
            let found = try_join_all(keys.iter().map(|k| self.store.get(k))).await?;
            found.into_iter().flatten().collect()
        } else {
            self.store.scan(keys::OWNED).await?
        };
        let records: BTreeMap<_, _> = records.iter().map(|r| (r.key.as_str(), r)).collect();
        let mut running = BTreeMap::new();
        for (unit, at) in moving() {
            let Some(record) = records.get(keys::own(unit).as_str()) else {
                continue;
            };
            let own: Own = keys::decode(record)?;
            let alive = |i: &Instance| i.node.id == own.node && i.boot == own.boot;
            if own.node == at.node && own.fence == at.fence && instances.iter().any(alive) {
                running.insert(unit.clone(), own.node);
            }
        }
        Ok(running)
    }

    /// Which streams have open alerts; what replicas said that nobody wants any more is struck off.
    async fn alerts(&self, rounds: &mut Rounds, specs: &[Spec]) -> Result<(), Fault> {
        if rounds.alerts_at.is_some_and(|at| at.elapsed() < PATIENCE) {
            return Ok(());
        }
        let wanted: BTreeMap<&str, &Spec> = specs.iter().map(|s| (&*s.stream, s)).collect();
        let open = ledger::open(&*self.store, keys::ALERTS).await?;
        for entry in &open {
            let spec = wanted.get(&*entry.stream);
            let spec = spec.filter(|s| s.groups.contains(&entry.group));
            let copies = spec.map_or(0, |s| s.copies());
            for replica in entry.says.keys().filter(|r| **r > copies) {
                ledger::forget(&*self.store, &entry.stream, &entry.alert, *replica).await?;
            }
        }
        rounds.troubled = open.into_iter().map(|a| a.stream).collect();
        rounds.alerts_at = Some(Instant::now());
        Ok(())
    }

    /// What streams cost, once a minute.
    async fn measure(&self, rounds: &mut Rounds, instances: &[Instance]) -> Result<(), Fault> {
        if rounds.measured_at.is_some_and(|at| at.elapsed() < SLOW) {
            return Ok(());
        }
        let live: BTreeSet<String> = instances.iter().map(|i| keys::load(&i.node.id)).collect();
        let mut measured: BTreeMap<_, f64> = BTreeMap::new();
        let mut left = Vec::new();
        for record in self.store.scan(keys::LOADS).await? {
            if !live.contains(&record.key) {
                left.push(Write::Delete(record.key));
                continue;
            }
            let Load(loads) = keys::decode(&record)?;
            for (stream, group, cores) in loads {
                // Twins cost alike; the higher is the safer.
                let known = measured.entry((stream, group)).or_default();
                *known = known.max(cores);
            }
        }
        left.truncate(COMMIT_ITEMS);
        if !left.is_empty() {
            self.store.commit(Vec::new(), left).await?;
        }
        rounds.measured = measured;
        rounds.measured_at = Some(Instant::now());
        Ok(())
    }

    fn tell_once(&self, alarm: Alarm) {
        let before = lock(&self.told).replace(alarm.clone());
        if before.as_ref() != Some(&alarm) {
            (self.tell)(alarm);
        }
    }

    /// Notes whether the store answered.
    fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if !matches!(result, Err(StoreError::Unreachable(_))) {
            let mut contact = lock(&self.contact);
            if contact.last.elapsed() > OUTAGE {
                contact.since = Instant::now();
            }
            contact.last = Instant::now();
        }
        result
    }
}

impl Rounds {
    fn step(&self) -> Step {
        if self.slow_at.elapsed() < SLOW {
            return Step::Necessary;
        }
        match self.uneven_since {
            Some(since) if since.elapsed() >= UNEVEN_FOR => Step::Rebalance,
            _ => Step::Relieve,
        }
    }

    fn weigh(&mut self, uneven: bool, step: Step) {
        if step != Step::Necessary {
            self.slow_at = Instant::now();
        }
        if uneven {
            self.uneven_since.get_or_insert_with(Instant::now);
        } else {
            self.uneven_since = None;
        }
    }
}

fn demands(specs: &[Spec], rounds: &mut Rounds) -> Vec<Demand> {
    let now = Instant::now();
    let wanted: BTreeSet<&str> = specs.iter().map(|s| &*s.stream).collect();
    rounds
        .first_seen
        .retain(|stream, _| wanted.contains(&**stream));
    let mut demands = Vec::with_capacity(specs.len());
    for spec in specs {
        let first = *rounds
            .first_seen
            .entry(Arc::clone(&spec.stream))
            .or_insert(now);
        let cost = |group: &Arc<str>, unknown: f64| {
            let of = (Arc::clone(&spec.stream), Arc::clone(group));
            rounds.measured.get(&of).copied().unwrap_or(unknown)
        };
        let settled = now - first < YOUNG || rounds.troubled.contains(&spec.stream);
        let mut demand = unmeasured(spec);
        for (group, cores) in &mut demand.groups {
            *cores = cost(group, *cores);
        }
        demand.decode_cores = cost(&"".into(), demand.decode_cores);
        if settled && demand.mobility == Mobility::Free {
            demand.mobility = Mobility::Settled;
        }
        demands.push(demand);
    }
    demands
}

/// What planning needs of a stream that nobody has measured: without the store, and the same everywhere.
pub fn unmeasured(spec: &Spec) -> Demand {
    let groups = spec.groups.iter().map(|g| (Arc::clone(g), GROUP_CORES));
    Demand {
        stream: Arc::clone(&spec.stream),
        groups: groups.collect(),
        decode_cores: DECODE_CORES,
        replicas: spec.copies(),
        mobility: if spec.pinned {
            Mobility::Pinned
        } else {
            Mobility::Free
        },
        together: spec.together.clone(),
        avoid: None,
    }
}

fn jitter(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
}
