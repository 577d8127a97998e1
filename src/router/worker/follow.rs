//! From the store to the plan that is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::{Alarm, Worker};
use crate::router::keys::{self, Fault, Spec};
use crate::router::plan;
use crate::router::published::{self, Published};
use crate::router::streams;
use crate::router::unit::Unit;

/// Watches end at least this often, so that one that lost an event is repaired.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// Specs that are read one by one; for more all are read at once.
const FEW: usize = 50;

impl Worker {
    pub(super) async fn follow(&self) {
        let store = &self.parts.store;
        loop {
            let read = self.refresh().await;
            if read.is_err() || store.changes(keys::PLAN, PATIENCE).await.is_err() {
                sleep(AGAIN).await;
            }
        }
    }

    async fn refresh(&self) -> Result<(), Fault> {
        let known = self.lock().plan.clone();
        let found = published::read(&*self.parts.store, &known).await?;
        let stored = found.as_ref().map_or(0, |(p, _)| p.revision());
        let Some((plan, _)) = found else {
            self.went_back(known.revision(), stored);
            return Ok(());
        };
        // One of the same revision that is another was written after the store went back by one.
        let other = stored == known.revision() && plan.head != known.head;
        if other || stored < known.revision() {
            self.went_back(known.revision(), stored - u64::from(other));
            return Ok(());
        }
        if stored == known.revision() {
            return Ok(());
        }
        let specs = self.specs(&plan).await?;
        // What was read since is of the same store, or it went back in between.
        let head = self.parts.store.get(keys::HEAD).await?;
        let head: Option<keys::Head> = head.as_ref().map(keys::decode).transpose()?;
        let stored = head.map_or(0, |h| h.revision);
        if self.went_back(plan.revision(), stored) {
            return Ok(());
        }
        self.judge(&known, plan, specs);
        Ok(())
    }

    fn went_back(&self, seen: u64, stored: u64) -> bool {
        if stored < seen {
            self.tell_once(Alarm::WentBack { seen, stored });
        }
        stored < seen
    }

    /// Specs of all streams of a plan, as far as they are there.
    async fn specs(&self, plan: &Published) -> Result<BTreeMap<Arc<str>, Arc<Spec>>, Fault> {
        let known = self.lock().specs.clone();
        let (mut specs, mut missing) = (BTreeMap::new(), Vec::new());
        for (stream, rev) in plan.specs() {
            match known.get(stream) {
                Some(spec) if spec.rev >= rev => {
                    specs.insert(Arc::clone(stream), Arc::clone(spec));
                }
                _ => missing.push(Arc::clone(stream)),
            }
        }
        let store = &*self.parts.store;
        let read = if missing.len() > FEW {
            let mut all = streams::all(store).await?;
            all.retain(|s| missing.contains(&s.stream));
            all
        } else {
            let keys: Vec<String> = missing.iter().map(|s| keys::stream(s)).collect();
            let found = try_join_all(keys.iter().map(|k| store.get(k))).await?;
            let found = found.iter().flatten();
            found.map(keys::decode).collect::<Result<_, _>>()?
        };
        specs.extend(
            read.into_iter()
                .map(|s| (Arc::clone(&s.stream), Arc::new(s))),
        );
        Ok(specs)
    }

    fn judge(&self, known: &Published, plan: Published, specs: BTreeMap<Arc<str>, Arc<Spec>>) {
        if known.revision() > 0 {
            // The members are of the same plan: one that moves units elsewhere contradicts itself.
            let members: BTreeSet<&str> = plan.members.iter().map(|m| &*m.node.id).collect();
            let lives = |id: &str| members.contains(id);
            let wanted = |unit: &Unit| {
                let spec = specs.get(&unit.stream);
                spec.is_some_and(|s| s.groups.contains(&unit.group))
            };
            let accepted = plan::accept(&known.plan(), &plan.plan(), &lives, &wanted);
            if let Err(why) = accepted {
                let why = why.to_string();
                let revision = plan.revision();
                return self.tell_once(Alarm::Refused { revision, why });
            }
        }
        let revision = plan.revision();
        let mut state = self.lock();
        state.specs = specs;
        state.follow(plan, &self.id);
        drop(state);
        self.changed.notify_one();
        self.pulse.change(|instance| instance.plan_seen = revision);
    }
}
