//! From the plan that is followed to what is watched, and to what the store says of it.

use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::time::{sleep, timeout};

use super::{Held, IDLE, REPORT, STARTS, State, TICK, Worker};
use crate::router::keys::{self, Fault, Own, Spec};
use crate::router::store::{COMMIT_ITEMS, Guard, Write};
use crate::router::unit::Unit;

/// Units told of in one commit: a guard and a write for each.
const TOLD: usize = COMMIT_ITEMS / 2;

impl Worker {
    pub(super) async fn act(&self) {
        loop {
            self.pulse.tick();
            let (starts, stops) = self.lock().differences();
            for unit in &stops {
                self.parts.watcher.stop(unit);
            }
            let pause = if starts.is_empty() { IDLE } else { TICK };
            if !starts.is_empty() || !stops.is_empty() {
                self.begun.notify_one();
            }
            for (unit, spec, fence) in starts {
                self.parts.watcher.start(&unit, &spec, fence);
            }
            sleep(pause.min(TICK)).await;
            if pause > TICK {
                let _ = timeout(pause - TICK, self.changed.notified()).await;
            }
        }
    }

    /// Tells the store which units run.
    pub(super) async fn report(&self) {
        loop {
            // What failed is tried again: it is found anew every time.
            let _ = self.tell_running().await;
            let _ = self.strike_off().await;
            let due = {
                let state = self.lock();
                let told = |h: &Held| h.reported == Some((h.fence, h.rev));
                !state.ended.is_empty() || !state.held.values().all(told)
            };
            if due {
                sleep(REPORT).await;
            } else {
                self.begun.notified().await;
            }
        }
    }

    async fn tell_running(&self) -> Result<(), Fault> {
        let due: Vec<(Unit, Held)> = {
            let state = self.lock();
            let due = state.held.iter().filter(|(unit, held)| {
                matches!(state.wanted.get(unit), Some(Some(fence)) if *fence == held.fence)
                    && held.reported != Some((held.fence, held.rev))
                    && self.parts.watcher.runs(unit)
            });
            due.take(TOLD).map(|(u, h)| (u.clone(), *h)).collect()
        };
        if due.is_empty() {
            return Ok(());
        }
        let store = &*self.parts.store;
        let at: Vec<String> = due.iter().map(|(unit, _)| keys::own(unit)).collect();
        let records = try_join_all(at.iter().map(|key| store.get(key))).await?;
        let (mut guards, mut writes) = (Vec::new(), Vec::new());
        for (((_, held), key), record) in due.iter().zip(at).zip(records) {
            let before: Option<Own> = record.as_ref().map(keys::decode).transpose()?;
            if before.is_some_and(|own| own.fence > held.fence) {
                // Somebody was told later than this instance was; a newer plan is on its way here.
                continue;
            }
            let own = Own {
                node: Arc::clone(&self.id),
                boot: Arc::clone(&self.boot),
                fence: held.fence,
                rev: held.rev,
            };
            let value = keys::encode(&key, &own)?;
            let version = record.map(|r| r.version);
            guards.push(Guard {
                key: key.clone(),
                version,
            });
            writes.push(Write::Put(key, value));
        }
        if !writes.is_empty() {
            store.commit(guards, writes).await?;
        }
        let mut state = self.lock();
        for (unit, told) in due {
            if let Some(held) = state.held.get_mut(&unit) {
                held.reported = Some((told.fence, told.rev));
            }
        }
        Ok(())
    }

    /// Removes what the store says of units that nobody wants any more.
    async fn strike_off(&self) -> Result<(), Fault> {
        let ended: Vec<Unit> = self.lock().ended.iter().take(TOLD).cloned().collect();
        if ended.is_empty() {
            return Ok(());
        }
        let store = &*self.parts.store;
        let at: Vec<String> = ended.iter().map(keys::own).collect();
        let records = try_join_all(at.iter().map(|key| store.get(key))).await?;
        let (mut guards, mut writes) = (Vec::new(), Vec::new());
        for record in records.into_iter().flatten() {
            let own: Own = keys::decode(&record)?;
            if own.node == self.id {
                guards.push(Guard {
                    key: record.key.clone(),
                    version: Some(record.version),
                });
                writes.push(Write::Delete(record.key));
            }
        }
        if !writes.is_empty() {
            store.commit(guards, writes).await?;
        }
        let mut state = self.lock();
        state.ended.retain(|unit| !ended.contains(unit));
        Ok(())
    }
}

type Start = (Unit, Arc<Spec>, u64);

impl State {
    /// What is to be started or changed, and what stopped; taken as done.
    fn differences(&mut self) -> (Vec<Start>, Vec<Unit>) {
        let keep = |unit: &Unit| self.wanted.contains_key(unit) || self.shadows.contains(unit);
        let stops: Vec<Unit> = self.held.keys().filter(|u| !keep(u)).cloned().collect();
        let mut starts = Vec::new();
        let mut begun = 0;
        let shadows = self.shadows.iter().map(|unit| (unit, None));
        let shadows = shadows.filter(|(unit, _)| !self.wanted.contains_key(unit));
        for (unit, fence) in self.wanted.iter().map(|(u, f)| (u, *f)).chain(shadows) {
            let Some(spec) = self.specs.get(&unit.stream) else {
                continue;
            };
            let held = self.held.get(unit);
            // Who leaves keeps its fence; who only helps out has none.
            let fence = fence.unwrap_or(held.map_or(0, |h| h.fence));
            if held.is_none_or(|h| (h.fence, h.rev) != (fence, spec.rev)) {
                // Another fence is only noted, what begins costs.
                begun += usize::from(held.is_none_or(|h| h.rev != spec.rev));
                if begun > STARTS {
                    break;
                }
                starts.push((unit.clone(), Arc::clone(spec), fence));
            }
        }
        for unit in &stops {
            self.held.remove(unit);
        }
        let planned = |unit: &Unit| {
            let bucket = &self.plan.buckets[keys::bucket_of(&unit.stream)];
            bucket.units.iter().any(|placed| placed.parts().0 == *unit)
        };
        let ended: Vec<Unit> = stops.iter().filter(|u| !planned(u)).cloned().collect();
        self.ended.extend(ended);
        for (unit, spec, fence) in &starts {
            self.ended.remove(unit);
            let reported = self.held.get(unit).and_then(|held| held.reported);
            let held = Held {
                fence: *fence,
                rev: spec.rev,
                reported,
            };
            self.held.insert(unit.clone(), held);
        }
        (starts, stops)
    }
}
