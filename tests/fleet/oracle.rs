//! What must never happen, seen from the store: every value that is written passes here.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glasswatch::router::keys::{self, Bucket, Head, Instance};
use glasswatch::router::ledger::{Entry, Verdict};
use glasswatch::router::store::{Record, Version};
use glasswatch::router::unit::{NodeState, Placement, Unit};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::memory::{Content, Eye};
use super::world::Truth;

/// An instance that has been registered for so long without a break is no reason to move anything.
const STEADY: Duration = Duration::from_secs(30);
/// After an outage of the store so long …
const OUTAGE: Duration = Duration::from_secs(7);
/// … instances have so long to register again.
const AFTER: Duration = Duration::from_secs(9);
/// A resolve so long after the stream turned bad again hides a fault.
const WRONG: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Seen {
    pub violations: Vec<String>,
    /// Units that changed their instance.
    pub moves: u64,
    pub heads: u64,
    pub resolves: u64,
    /// Of all that was written, in order.
    pub hash: DefaultHasher,
    /// Since when instances are registered without a break.
    steady: BTreeMap<String, Instant>,
    plan: BTreeMap<Unit, Placement>,
    revision: u64,
    /// Since when the store is down, and when it came back from an outage in which registrations may have ended.
    pub zero: Option<Instant>,
    down: Option<Instant>,
    back: Option<Instant>,
    draining: BTreeSet<String>,
    /// What the last plan counts as draining.
    planned_draining: BTreeSet<String>,
    /// While the store is being put back an older plan is no violation.
    restored: bool,
}

pub struct Oracle {
    pub seen: Arc<Mutex<Seen>>,
    /// Rung when a part of a plan is written.
    pub part_written: Arc<Notify>,
    truth: Arc<Truth>,
}

pub fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Option<T> {
    let record = Record {
        key: key.to_owned(),
        value: value.to_vec().into(),
        version: Version(0),
    };
    keys::decode(&record).ok()
}

/// The plan in the store, if it is whole.
pub fn plan(content: &Content) -> Result<(Head, BTreeMap<Unit, Placement>), String> {
    let head = content.value(keys::HEAD).ok_or("no head")?;
    let head: Head = parse(keys::HEAD, head).ok_or("a head that is not understood")?;
    let mut units = BTreeMap::new();
    for (number, revision) in head.buckets.iter().enumerate().filter(|(_, r)| **r != 0) {
        let key = keys::bucket(number, *revision);
        let bucket = content.value(&key).ok_or(format!("{key} is missing"))?;
        let bucket: Bucket = parse(&key, bucket).ok_or(format!("{key} is not understood"))?;
        units.extend(bucket.units.iter().map(keys::Placed::parts));
    }
    if head.members != 0 && content.value(&keys::members(head.members)).is_none() {
        return Err("the members are missing".into());
    }
    Ok((head, units))
}

fn is_named(head: &Head, key: &str) -> bool {
    let mut buckets = head.buckets.iter().enumerate();
    buckets.any(|(n, r)| keys::bucket(n, *r) == key) || keys::members(head.members) == key
}

impl Oracle {
    pub fn new(truth: Arc<Truth>) -> Self {
        Self {
            seen: Arc::default(),
            part_written: Arc::default(),
            truth,
        }
    }

    pub fn restored(&self, content: &Content) {
        let mut seen = self.seen.lock().unwrap();
        seen.steady.clear();
        seen.restored = true;
        if let Ok((_, units)) = plan(content) {
            seen.plan = units;
        }
    }

    /// The store goes down or comes back.
    pub fn weather(&self, up: bool) {
        let mut seen = self.seen.lock().unwrap();
        match (up, seen.down) {
            (false, None) => seen.down = Some(Instant::now()),
            (true, Some(since)) => {
                seen.down = None;
                if since.elapsed() > OUTAGE {
                    seen.back = Some(Instant::now());
                }
            }
            _ => {}
        }
    }

    pub fn eye(&self) -> Eye {
        let seen = Arc::clone(&self.seen);
        let truth = Arc::clone(&self.truth);
        let part_written = Arc::clone(&self.part_written);
        Box::new(move |who, key, before, after, content| {
            let mut seen = seen.lock().unwrap();
            seen.hash.write(who.as_bytes());
            seen.hash.write(key.as_bytes());
            seen.hash.write(after.unwrap_or(b"-"));
            if key.starts_with(keys::INSTANCES) {
                seen.instance(key, before, after);
            } else if key == keys::HEAD {
                seen.head(who, content);
            } else if key.starts_with(keys::PLAN) {
                if after.is_some() {
                    part_written.notify_one();
                }
                let named = plan(content).is_ok_and(|(head, _)| is_named(&head, key));
                if named && before.is_some() && before != after {
                    let told = format!("{key} is changed while the head names it");
                    seen.violations.push(told);
                }
                if let Err(why) = plan(content)
                    && content.value(keys::HEAD).is_some()
                {
                    seen.violations
                        .push(format!("the plan is not whole: {why}"));
                }
            } else if key.starts_with(keys::ALERTS) {
                seen.alert(key, before, after, &truth);
            }
        })
    }
}

impl Seen {
    fn instance(&mut self, key: &str, before: Option<&[u8]>, after: Option<&[u8]>) {
        let id = key.trim_start_matches(keys::INSTANCES).to_owned();
        let state = after
            .and_then(|v| parse::<Instance>(key, v))
            .map(|i| i.state());
        if state == Some(NodeState::Draining) {
            self.draining.insert(id.clone());
        } else if state.is_some() {
            self.draining.remove(&id);
        }
        let up = state == Some(NodeState::Up);
        if !up {
            self.steady.remove(&id);
        } else if before.is_none() || !self.steady.contains_key(&id) {
            self.steady.insert(id, Instant::now());
        }
    }

    fn head(&mut self, who: &str, content: &Content) {
        let (head, units) = match plan(content) {
            Ok(found) => found,
            Err(why) => {
                return self
                    .violations
                    .push(format!("the plan is not whole: {why}"));
            }
        };
        self.heads += 1;
        if head.revision <= self.revision && !self.restored {
            let told = format!("revision {} after {}", head.revision, self.revision);
            self.violations.push(told);
        }
        // Who seeds the store anew puts units back to where they are.
        let restored = std::mem::take(&mut self.restored) || who == "api";
        self.revision = head.revision;
        for (unit, at) in &units {
            let Some(before) = self.plan.get(unit) else {
                continue;
            };
            if before.node == at.node {
                if before.fence > at.fence {
                    self.violations.push(format!("a fence of {unit:?} falls"));
                }
                continue;
            }
            self.moves += 1;
            if at.fence <= before.fence {
                self.violations
                    .push(format!("{unit:?} moves without a higher fence"));
            }
            let early = self.back.is_some_and(|back| back.elapsed() < AFTER);
            let drains = [&self.draining, &self.planned_draining];
            let drains = drains.iter().any(|d| d.contains(&*before.node));
            if early && !restored && !drains {
                let told = format!("{unit:?} leaves {} right after an outage", before.node);
                let told = format!(
                    "{told} {:?}",
                    self.zero.get_or_insert_with(Instant::now).elapsed()
                );
                self.violations.push(told);
            }
            let steady = self.steady.get(&*before.node);
            if !restored && steady.is_some_and(|since| since.elapsed() > STEADY) {
                let told = format!("{unit:?} leaves {before:?} for {at:?} for no reason");
                self.violations.push(told);
            }
        }
        self.plan = units;
        let key = keys::members(head.members);
        let members = content
            .value(&key)
            .and_then(|v| parse::<keys::Members>(&key, v));
        let draining = members.into_iter().flatten().map(|m| m.node);
        let draining = draining.filter(|n| n.state == NodeState::Draining);
        self.planned_draining = draining.map(|n| n.id.to_string()).collect();
    }

    fn alert(&mut self, key: &str, before: Option<&[u8]>, after: Option<&[u8]>, truth: &Truth) {
        let before = before.and_then(|v| parse::<Entry>(key, v));
        let after = after.and_then(|v| parse::<Entry>(key, v));
        let (Some(before), Some(after)) = (before, after) else {
            return;
        };
        for (replica, says) in &after.says {
            let known = before.says.get(replica).map_or(0, |s| s.fence);
            if says.fence < known {
                self.violations.push(format!("{key}: a fence falls"));
            }
            if says.verdict == Verdict::Fine && says.fence < known {
                self.violations
                    .push(format!("{key}: resolved by the fenced {}", says.owner));
            }
        }
        // Without anybody who says anything the stream is no longer wanted.
        if before.open && !after.open && !after.says.is_empty() {
            self.resolves += 1;
            let (bad, since) = truth.of(&after.stream);
            if bad && since > WRONG {
                let told = format!("{key} is resolved and has been bad for {since:?}");
                self.violations.push(told);
            }
        }
        if before.open && after.open && before.incarnation != after.incarnation {
            self.violations.push(format!("{key}: opened twice"));
        }
    }
}
