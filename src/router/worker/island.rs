//! Without the store: instances probe each other, and start shadows for those that do not answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{ISLAND, PROBE, PROBES, Worker};
use crate::router::keys::{self, Fault, Instance, Own};
use crate::router::plan::Island;
use crate::router::planner::unmeasured;
use crate::router::unit::{Demand, Node, Unit};

impl Worker {
    pub(super) async fn isle(&self) {
        loop {
            sleep(PROBE).await;
            if self.pulse.silence() >= ISLAND {
                self.probe().await;
            } else {
                self.lock().answers.clear();
                // What failed is tried again with the next probe.
                let _ = self.relieve().await;
            }
        }
    }

    async fn probe(&self) {
        let members = Arc::clone(&self.lock().plan.members);
        let others = members.iter().filter(|m| m.node.id != self.id);
        let others: Vec<_> = others.collect();
        let answers = join_all(others.iter().map(|m| self.parts.peers.alive(m))).await;
        let mut state = self.lock();
        for (member, answered) in others.iter().zip(answers) {
            let id = Arc::clone(&member.node.id);
            let (last, times) = state.answers.entry(id).or_insert((answered, 0));
            *times = if *last == answered { *times + 1 } else { 1 };
            *last = answered;
        }
        if state.shadows.is_empty() && state.answers.values().all(|(said, _)| *said) {
            return;
        }
        let plan = state.plan.plan();
        let nodes: Vec<Node> = members.iter().map(|m| m.node.clone()).collect();
        let all_say = |id: &str, what: bool| {
            let last = state.answers.get(id);
            last.is_some_and(|(said, times)| *said == what && *times >= PROBES)
        };
        let answers = |id: &str| !all_say(id, false);
        let demands: Vec<Demand> = state.specs.values().map(|s| unmeasured(s)).collect();
        let island = Island::new(&plan, &demands, &nodes);
        let new = island.shadows(&self.id, &answers);
        let mut shadows: BTreeSet<Unit> = new.into_iter().cloned().collect();
        // One that is watched stays until its own instance has been back for a while.
        for unit in &state.shadows {
            let back = plan
                .units
                .get(unit)
                .is_none_or(|at| all_say(&at.node, true));
            if !back {
                shadows.insert(unit.clone());
            }
        }
        state.shadows = shadows;
        drop(state);
        self.changed.notify_one();
    }

    /// Back from the island: ends shadows that the plan gives to others, once those run.
    async fn relieve(&self) -> Result<(), Fault> {
        let (shadows, plan) = {
            let state = self.lock();
            if state.shadows.is_empty() {
                return Ok(());
            }
            (state.shadows.clone(), state.plan.plan())
        };
        let store = &*self.parts.store;
        for unit in shadows {
            let over = match plan.units.get(&unit) {
                None => true,
                Some(at) if at.node == self.id => true,
                Some(at) => {
                    let own = store.get(&keys::own(&unit)).await?;
                    let instance = store.get(&keys::instance(&at.node)).await?;
                    let own: Option<Own> = own.as_ref().map(keys::decode).transpose()?;
                    let instance: Option<Instance> =
                        instance.as_ref().map(keys::decode).transpose()?;
                    own.zip(instance).is_some_and(|(own, instance)| {
                        own.node == at.node && own.fence == at.fence && own.boot == instance.boot
                    })
                }
            };
            if over {
                self.lock().shadows.remove(&unit);
            }
        }
        Ok(())
    }
}
