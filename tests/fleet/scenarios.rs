//! Single faults with figures: what the simulation throws together, one by one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use glasswatch::router::planner::Alarm;
use glasswatch::router::reseed;
use glasswatch::router::streams;
use glasswatch::router::unit::Unit;
use tokio::time::{Instant, sleep};

use super::memory::{FAIR, Flaw, Memory, Weather};
use super::oracle::{Oracle, plan};
use super::simulation::{HONEST, Terms, campaign, in_virtual_time, spec, units};
use super::world::{Manners, World};

const SECOND: Duration = Duration::from_secs(1);
const DOWN: Weather = Weather { up: false, ..FAIR };

struct Fleet {
    world: World,
    oracle: Oracle,
    units: Vec<Unit>,
}

impl Fleet {
    async fn new(instances: usize, routers: usize, count: usize, replicas: u8) -> Self {
        Self::of(Manners::Good, instances, routers, count, replicas).await
    }

    async fn of(
        manners: Manners,
        instances: usize,
        routers: usize,
        count: usize,
        replicas: u8,
    ) -> Self {
        let memory = Memory::new(1, Flaw::None);
        let mut world = World::new(memory, 0, routers);
        world.manners = manners;
        world.add_instances(instances);
        let oracle = Oracle::new(Arc::clone(&world.truth));
        world.memory.watch(oracle.eye());
        let mut specs = Vec::new();
        for n in 0..count {
            let stream: Arc<str> = format!("s-{n}").into();
            let spec = spec(&stream, replicas);
            streams::put(&*world.api, spec.clone(), world.now_ms())
                .await
                .unwrap();
            specs.push(spec);
        }
        let fleet = Self {
            world,
            oracle,
            units: units(&specs),
        };
        sleep(40 * SECOND).await;
        assert_eq!(fleet.unwatched(), BTreeSet::new());
        fleet
    }

    /// Streams and groups that nobody analyses, whichever replica.
    fn unwatched(&self) -> BTreeSet<(Arc<str>, Arc<str>)> {
        let key = |unit: &Unit| (Arc::clone(&unit.stream), Arc::clone(&unit.group));
        let watched = self.units.iter().filter(|u| self.world.is_watched(u));
        let watched: BTreeSet<_> = watched.map(key).collect();
        self.units
            .iter()
            .map(key)
            .filter(|k| !watched.contains(k))
            .collect()
    }

    /// The longest time for which any stream and group was not analysed.
    async fn worst_gap(&mut self, lasts: Duration) -> Duration {
        let (ends, mut worst) = (Instant::now() + lasts, Duration::ZERO);
        let mut since = std::collections::BTreeMap::new();
        while Instant::now() < ends {
            let now = self.unwatched();
            since.retain(|key, _| now.contains(key));
            for key in now {
                let since: &mut Instant = since.entry(key).or_insert_with(Instant::now);
                worst = worst.max(since.elapsed() + Duration::from_millis(100));
            }
            sleep(Duration::from_millis(100)).await;
            self.world.bury();
        }
        worst
    }

    fn moves(&self) -> u64 {
        let seen = self.oracle.seen.lock().unwrap();
        assert!(seen.violations.is_empty(), "{:#?}", seen.violations);
        seen.moves
    }

    fn on(&self, id: &str) -> u64 {
        let (_, units) = self.world.memory.with(plan).unwrap();
        units.values().filter(|at| *at.node == *id).count() as u64
    }

    fn watched_by(&self, n: usize) -> BTreeSet<Unit> {
        let process = self.world.slots[n].process.as_ref();
        process.map(|p| p.watching.units()).unwrap_or_default()
    }

    fn went_back(&self) -> Option<u64> {
        let alarms = self.world.alarms.lock().unwrap();
        let seen = alarms.iter().filter_map(|alarm| match alarm {
            Alarm::WentBack { seen, .. } => Some(*seen),
            _ => None,
        });
        seen.max()
    }
}

#[test]
fn a_lost_instance_is_made_up_for_within_25_seconds_and_only_its_units_move() {
    in_virtual_time(1, async {
        let mut fleet = Fleet::new(4, 2, 12, 1).await;
        let lost = fleet.on("i-2");
        fleet.world.kill(2);
        let gap = fleet.worst_gap(60 * SECOND).await;
        assert!(gap <= 25 * SECOND, "{gap:?}");
        assert_eq!(fleet.moves(), lost);
    });
}

#[test]
fn half_of_the_instances_and_the_planner_lost_at_once_is_made_up_for() {
    in_virtual_time(2, async {
        let mut fleet = Fleet::new(8, 2, 24, 1).await;
        for n in 0..4 {
            fleet.world.kill(n);
        }
        fleet.world.kill_router(0);
        let gap = fleet.worst_gap(60 * SECOND).await;
        assert!(gap <= 30 * SECOND, "{gap:?}");
    });
}

#[test]
fn with_twins_the_loss_of_one_instance_leaves_no_gap() {
    in_virtual_time(3, async {
        let mut fleet = Fleet::new(4, 2, 12, 2).await;
        fleet.world.kill(1);
        assert_eq!(fleet.worst_gap(60 * SECOND).await, Duration::ZERO);
    });
}

#[test]
fn a_drain_and_a_rolling_restart_leave_no_gap() {
    in_virtual_time(4, async {
        let mut fleet = Fleet::new(4, 2, 12, 1).await;
        for n in 0..4 {
            let units = fleet.on(&format!("i-{n}"));
            let before = fleet.moves();
            fleet.world.drain(n);
            assert_eq!(fleet.worst_gap(60 * SECOND).await, Duration::ZERO);
            assert!(fleet.world.slots[n].process.is_none(), "i-{n} has left");
            assert_eq!(fleet.moves() - before, units);
            fleet.world.start(n);
            assert_eq!(fleet.worst_gap(20 * SECOND).await, Duration::ZERO);
        }
    });
}

#[test]
fn an_instance_that_restarts_at_once_keeps_its_units() {
    in_virtual_time(5, async {
        let mut fleet = Fleet::new(4, 2, 12, 1).await;
        fleet.world.kill(1);
        sleep(SECOND).await;
        fleet.world.start(1);
        let gap = fleet.worst_gap(60 * SECOND).await;
        assert!(gap <= 12 * SECOND, "{gap:?}");
        assert_eq!(fleet.moves(), 0);
    });
}

#[test]
fn a_day_without_the_store_stops_nothing() {
    in_virtual_time(6, async {
        let mut fleet = Fleet::new(3, 1, 4, 1).await;
        fleet.world.memory.weather(DOWN);
        for _ in 0..24 * 60 {
            sleep(60 * SECOND).await;
            assert_eq!(fleet.unwatched(), BTreeSet::new());
        }
        let refused = streams::put(&*fleet.world.api, spec(&"new".into(), 1), 0).await;
        assert!(refused.is_err(), "an edit is not acknowledged");
        fleet.world.memory.weather(FAIR);
        assert_eq!(fleet.worst_gap(120 * SECOND).await, Duration::ZERO);
        assert_eq!(fleet.moves(), 0);
    });
}

#[test]
fn without_the_store_others_start_shadows_within_30_seconds_and_end_them_later() {
    in_virtual_time(7, async {
        let mut fleet = Fleet::new(4, 2, 8, 1).await;
        fleet.world.memory.weather(DOWN);
        sleep(60 * SECOND).await;
        let lost = fleet.watched_by(3);
        fleet.world.kill(3);
        sleep(30 * SECOND).await;
        let begun = |unit: &Unit| fleet.world.begun(unit) > 0;
        assert!(!lost.is_empty() && lost.iter().all(begun));
        sleep(10 * SECOND).await;
        assert_eq!(fleet.unwatched(), BTreeSet::new());
        // Back with its cache: watched from there, the shadows end after a while.
        fleet.world.start(3);
        assert_eq!(fleet.worst_gap(60 * SECOND).await, Duration::ZERO);
        assert_eq!(fleet.watched_by(3), lost);
        assert!(lost.iter().all(|unit| fleet.world.begun(unit) == 1));
        // Lost again, and the store comes back first: the plan gives the units to others.
        fleet.world.kill(3);
        sleep(40 * SECOND).await;
        fleet.world.memory.weather(FAIR);
        assert_eq!(fleet.worst_gap(120 * SECOND).await, Duration::ZERO);
        assert!(lost.iter().all(|unit| fleet.world.begun(unit) == 1));
        assert_eq!(fleet.moves(), lost.len() as u64);
    });
}

#[test]
fn cut_off_from_everybody_an_instance_goes_on_and_is_relieved_when_it_is_back() {
    in_virtual_time(8, async {
        let mut fleet = Fleet::new(4, 2, 8, 1).await;
        let its = fleet.watched_by(0);
        fleet.world.memory.cut("i-0", false);
        fleet.world.net.cut("i-0");
        assert_eq!(fleet.worst_gap(120 * SECOND).await, Duration::ZERO);
        assert!(
            its.iter().all(|unit| fleet.world.begun(unit) == 2),
            "twice, not never"
        );
        fleet.world.memory.heal("i-0");
        fleet.world.net.heal("i-0");
        assert_eq!(fleet.worst_gap(30 * SECOND).await, Duration::ZERO);
        assert!(fleet.units.iter().all(|unit| fleet.world.begun(unit) == 1));
    });
}

#[test]
fn a_planner_killed_while_it_writes_leaves_the_old_plan_whole() {
    in_virtual_time(9, async {
        let mut fleet = Fleet::new(4, 2, 12, 1).await;
        let (before, _) = fleet.world.memory.with(plan).unwrap();
        for _ in 0..3 {
            fleet.world.kill(2);
            fleet.oracle.part_written.notified().await;
            fleet.world.kill_router(0);
            fleet.world.kill_router(1);
            sleep(5 * SECOND).await;
            let (now, _) = fleet.world.memory.with(plan).unwrap();
            assert_eq!(now, before);
            fleet.world.start_router(0);
            fleet.world.start_router(1);
            fleet.world.start(2);
        }
        let gap = fleet.worst_gap(60 * SECOND).await;
        assert!(gap <= 30 * SECOND, "{gap:?}");
        fleet.moves();
        // What the dead left behind is gone.
        let (head, _) = fleet.world.memory.with(plan).unwrap();
        let named = head.buckets.iter().filter(|r| **r != 0).count() + 2;
        let there = fleet.world.memory.with(|c| c.under("plan/").count());
        assert_eq!(there, named);
    });
}

#[test]
fn a_store_that_went_back_is_refused_and_told_until_it_is_seeded_anew() {
    in_virtual_time(10, async {
        let mut fleet = Fleet::new(4, 2, 8, 1).await;
        let old = fleet.world.memory.content();
        fleet.world.kill(1);
        sleep(60 * SECOND).await;
        let late: Arc<str> = "late".into();
        streams::put(&*fleet.world.api, spec(&late, 1), fleet.world.now_ms())
            .await
            .unwrap();
        sleep(30 * SECOND).await;
        let held = [0, 2, 3].map(|n| fleet.watched_by(n));
        fleet.oracle.restored(&old);
        fleet.world.memory.restore(old);
        assert_eq!(fleet.worst_gap(120 * SECOND).await, Duration::ZERO);
        assert_eq!([0, 2, 3].map(|n| fleet.watched_by(n)), held);
        let newest = fleet.went_back().expect("an alarm");
        let kept = fleet.world.slots[0]
            .process
            .as_ref()
            .map(|p| p.worker.kept())
            .unwrap();
        reseed::reseed(&*fleet.world.api, &kept, newest)
            .await
            .unwrap();
        assert_eq!(fleet.worst_gap(60 * SECOND).await, Duration::ZERO);
        let specs = streams::all(&*fleet.world.api).await.unwrap();
        assert!(
            specs.iter().any(|s| s.stream == late),
            "what was added since is there again"
        );
        // It is planned again.
        fleet.world.kill(2);
        let gap = fleet.worst_gap(60 * SECOND).await;
        assert!(gap <= 25 * SECOND, "{gap:?}");
        assert_eq!(fleet.unwatched(), BTreeSet::new());
    });
}

/// All streams turn good, an instance falls asleep while it says so, they turn bad again, and it wakes up.
async fn sleeper(manners: Manners, nap: Duration) -> Vec<String> {
    let mut fleet = Fleet::of(manners, 4, 2, 8, 1).await;
    let turn = |fleet: &Fleet, bad: bool| {
        for n in 0..8 {
            fleet.world.truth.turn(&format!("s-{n}").into(), bad);
        }
    };
    turn(&fleet, true);
    sleep(10 * SECOND).await;
    turn(&fleet, false);
    sleep(Duration::from_millis(1500)).await;
    fleet.world.slots[0].process.as_ref().unwrap().gate.close();
    turn(&fleet, true);
    sleep(nap).await;
    fleet.world.slots[0].process.as_ref().unwrap().gate.open();
    sleep(60 * SECOND).await;
    assert_eq!(fleet.worst_gap(SECOND).await, Duration::ZERO);
    fleet.oracle.seen.lock().unwrap().violations.clone()
}

#[test]
fn an_instance_that_slept_resolves_nothing() {
    in_virtual_time(11, async {
        for nap in [5, 60, 600] {
            assert_eq!(sleeper(Manners::Good, nap * SECOND).await, [""; 0]);
        }
        // The fence alone would do.
        assert_eq!(sleeper(Manners::Overconfident, 60 * SECOND).await, [""; 0]);
        // Without either it would go wrong, and be seen.
        let seen = sleeper(Manners::Fenceless, 60 * SECOND).await;
        assert!(
            seen.iter()
                .any(|s| s.contains("is resolved and has been bad")),
            "{seen:?}"
        );
    });
}

#[test]
fn a_slow_store_moves_nothing() {
    in_virtual_time(12, async {
        let mut fleet = Fleet::new(4, 2, 12, 1).await;
        for delay in [500, 1000, 5000] {
            let delay = Duration::from_millis(delay);
            fleet.world.memory.weather(Weather { delay, ..FAIR });
            assert_eq!(fleet.worst_gap(120 * SECOND).await, Duration::ZERO);
            fleet.world.memory.weather(FAIR);
            assert_eq!(fleet.worst_gap(60 * SECOND).await, Duration::ZERO);
        }
        assert_eq!(fleet.moves(), 0);
    });
}

/// The oracle itself: a store with a mistake does not pass.
#[test]
fn the_simulation_sees_a_store_that_ignores_guards() {
    let ignores = Terms {
        flaw: Flaw::IgnoresGuards,
        ..HONEST
    };
    let (failed, _) = campaign(40, ignores);
    assert!(!failed.is_empty(), "guards that do not hold are not seen");
}
