//! The plan in the store: written in parts, and valid from the moment at which its head names them.
//!
//! Parts carry the revision in their keys, so that none is ever overwritten that a head names: a planner that dies
//! while it writes leaves the old plan whole.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::keys::{self, BUCKETS, Bucket, Fault, Head, Members, Placed};
use super::store::{COMMIT_BYTES, COMMIT_ITEMS, Guard, Hold, Record, Store, Version, Write};
use super::unit::{Placement, Plan, Unit};

/// How often a reader begins again because the plan changed while it read.
const TRIES: usize = 4;

/// A whole plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// What names the parts.
    pub head: Head,
    /// The parts, [`BUCKETS`] of them.
    pub buckets: Vec<Arc<Bucket>>,
    /// The instances that it counts on.
    pub members: Arc<Members>,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            head: Head {
                revision: 0,
                term: 0,
                buckets: vec![0; BUCKETS],
                members: 0,
            },
            buckets: vec![Arc::default(); BUCKETS],
            members: Arc::default(),
        }
    }
}

impl Published {
    /// Of the plan.
    pub fn revision(&self) -> u64 {
        self.head.revision
    }

    /// Whether it has all parts that the head names.
    pub fn is_whole(&self) -> bool {
        whole(&self.head) && self.buckets.len() == BUCKETS
    }

    /// All units with where they are.
    pub fn units(&self) -> impl Iterator<Item = (Unit, Placement)> + '_ {
        self.buckets
            .iter()
            .flat_map(|b| &b.units)
            .map(Placed::parts)
    }

    /// Streams that the planner knew, with the revision of their specs.
    pub fn specs(&self) -> impl Iterator<Item = (&Arc<str>, u64)> + '_ {
        self.buckets
            .iter()
            .flat_map(|b| &b.specs)
            .map(|(s, r)| (s, *r))
    }

    /// For planning.
    pub fn plan(&self) -> Plan {
        Plan {
            revision: self.head.revision,
            units: self.units().collect(),
        }
    }

    /// What comes after this: only parts that differ are new.
    pub fn next(
        &self,
        plan: &Plan,
        specs: &[(Arc<str>, u64)],
        members: Members,
        term: Version,
    ) -> Self {
        let mut buckets = vec![Bucket::default(); BUCKETS];
        for (unit, at) in &plan.units {
            let number = keys::bucket_of(&unit.stream);
            buckets[number].units.push(Placed::new(unit, at));
        }
        for (stream, rev) in specs {
            let number = keys::bucket_of(stream);
            buckets[number].specs.insert(Arc::clone(stream), *rev);
        }
        let mut next = self.clone();
        next.head.revision = plan.revision;
        next.head.term = term.0;
        for (number, bucket) in buckets.into_iter().enumerate() {
            if *self.buckets[number] != bucket {
                next.head.buckets[number] = plan.revision;
                next.buckets[number] = Arc::new(bucket);
            }
        }
        if *self.members != members {
            next.head.members = plan.revision;
            next.members = Arc::new(members);
        }
        next
    }

    /// The same plan as one that no head has named yet: all its parts are new, and its fences above all that were given.
    pub fn anew(&self, revision: u64) -> Self {
        let mut anew = self.clone();
        for bucket in &mut anew.buckets {
            let units = bucket.units.iter().map(|placed| placed.fenced(revision));
            *bucket = Arc::new(Bucket {
                units: units.collect(),
                specs: bucket.specs.clone(),
            });
        }
        anew.head.revision = revision;
        anew.head.buckets = vec![revision; BUCKETS];
        anew.head.members = revision;
        anew
    }
}

fn whole(head: &Head) -> bool {
    head.buckets.len() == BUCKETS
}

/// The plan, from the store and from what is known of it. `None` = nobody has planned yet.
///
/// # Errors
/// The store's, or a part that is not understood or is missing.
pub async fn read(
    store: &dyn Store,
    known: &Published,
) -> Result<Option<(Published, Version)>, Fault> {
    for _ in 0..TRIES {
        let Some(record) = store.get(keys::HEAD).await? else {
            return Ok(None);
        };
        let head: Head = keys::decode(&record)?;
        if !whole(&head) {
            return Err(Fault::Foreign(record.key));
        }
        if head == known.head {
            return Ok(Some((known.clone(), record.version)));
        }
        if let Some(found) = parts(store, known, head).await? {
            return Ok(Some((found, record.version)));
        }
    }
    Err(Fault::Foreign(keys::HEAD.to_owned()))
}

/// `None` when a part has been removed, because there is a newer head.
async fn parts(
    store: &dyn Store,
    known: &Published,
    head: Head,
) -> Result<Option<Published>, Fault> {
    // Of two planners that wrote the same revision only one committed the head; what the other wrote is not known
    // to be the same.
    let same_line = head.revision > known.head.revision;
    let stale = |now: u64, then: u64| now != 0 && (now != then || !same_line);
    let mut found = Published {
        head,
        ..Published::default()
    };
    let mut missing = Vec::new();
    for number in 0..BUCKETS {
        let revision = found.head.buckets[number];
        if stale(revision, known.head.buckets[number]) {
            missing.push((number, keys::bucket(number, revision)));
        } else if revision != 0 {
            found.buckets[number] = Arc::clone(&known.buckets[number]);
        }
    }
    if stale(found.head.members, known.head.members) {
        missing.push((BUCKETS, keys::members(found.head.members)));
    } else if found.head.members != 0 {
        found.members = Arc::clone(&known.members);
    }
    let records = try_join_all(missing.iter().map(|(_, key)| store.get(key))).await?;
    for ((number, _), record) in missing.iter().zip(records) {
        let Some(record) = record else {
            return Ok(None);
        };
        if *number == BUCKETS {
            found.members = Arc::new(keys::decode(&record)?);
        } else {
            found.buckets[*number] = Arc::new(keys::decode(&record)?);
        }
    }
    Ok(Some(found))
}

/// Writes a plan: its new parts, then its head, then away with the parts that it replaces. Who has lost the role of the
/// planner writes nothing.
///
/// # Errors
/// The store's; after [`super::store::StoreError::Unreachable`] the plan may have been written or not.
pub async fn write(
    store: &dyn Store,
    hold: &Hold,
    before: Option<(&Published, Version)>,
    next: &Published,
) -> Result<Version, Fault> {
    let term = Guard {
        key: keys::PLANNER.to_owned(),
        version: Some(hold.term),
    };
    let revision = next.head.revision;
    let mut writes = Vec::new();
    for (number, bucket) in next.buckets.iter().enumerate() {
        if next.head.buckets[number] == revision {
            let key = keys::bucket(number, revision);
            writes.push((key.clone(), keys::encode(&key, &**bucket)?));
        }
    }
    if next.head.members == revision {
        let key = keys::members(revision);
        writes.push((key.clone(), keys::encode(&key, &*next.members)?));
    }
    let (mut some, mut bytes) = (Vec::new(), 0);
    for (key, value) in writes {
        let size = key.len() + value.len();
        if some.len() + 2 > COMMIT_ITEMS || bytes + size > COMMIT_BYTES {
            let full = std::mem::take(&mut some);
            store.commit(vec![term.clone()], full).await?;
            bytes = 0;
        }
        bytes += size;
        some.push(Write::Put(key, value));
    }
    if !some.is_empty() {
        store.commit(vec![term.clone()], some).await?;
    }
    let head = Guard {
        key: keys::HEAD.to_owned(),
        version: before.map(|(_, version)| version),
    };
    let value = keys::encode(keys::HEAD, &next.head)?;
    let put = Write::Put(keys::HEAD.to_owned(), value);
    let versions = store.commit(vec![term.clone(), head], vec![put]).await?;
    let version = versions.first().copied();
    let version = version.ok_or_else(|| Fault::Foreign(keys::HEAD.to_owned()))?;
    if let Some((before, _)) = before {
        let old = replaced(&before.head, &next.head);
        // What stays behind is removed by the planner that begins next.
        let _ = remove(store, &term, old).await;
    }
    Ok(version)
}

/// Keys of the parts of a plan.
fn named(head: &Head) -> impl Iterator<Item = String> + '_ {
    let buckets = head.buckets.iter().enumerate().filter(|(_, r)| **r != 0);
    let members = Some(head.members).filter(|r| *r != 0).map(keys::members);
    buckets.map(|(n, r)| keys::bucket(n, *r)).chain(members)
}

fn replaced(before: &Head, next: &Head) -> Vec<String> {
    let kept: Vec<String> = named(next).collect();
    named(before).filter(|k| !kept.contains(k)).collect()
}

async fn remove(store: &dyn Store, term: &Guard, old: Vec<String>) -> Result<(), Fault> {
    for some in old.chunks(COMMIT_ITEMS - 1) {
        let deletes = some.iter().cloned().map(Write::Delete).collect();
        store.commit(vec![term.clone()], deletes).await?;
    }
    Ok(())
}

/// Removes parts that no head names, left behind by planners that died.
///
/// # Errors
/// The store's.
pub async fn tidy(store: &dyn Store, hold: &Hold, head: &Head) -> Result<(), Fault> {
    let term = Guard {
        key: keys::PLANNER.to_owned(),
        version: Some(hold.term),
    };
    let kept: Vec<String> = named(head).collect();
    let left = |r: &Record| r.key != keys::HEAD && !kept.contains(&r.key);
    let old = store.scan(keys::PLAN).await?.into_iter().filter(left);
    remove(store, &term, old.map(|r| r.key).collect()).await
}
