//! After the store was restored from an older snapshot: what an instance still knows is written over it.
//!
//! A person decides that, because it is the one thing that a machine cannot tell from a mistake. Streams that were removed
//! since the snapshot come back and are to be removed again: watching too much does no harm.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cache::Kept;
use super::keys::{self, Fault};
use super::planner::TTL;
use super::published;
use super::store::{Guard, Hold, Store, StoreError, Write};

/// Between attempts to take the role.
const AGAIN: Duration = Duration::from_millis(500);

/// Seeds the store with the plan and the specs of the instance that has seen the newest plan. Nobody plans meanwhile: the
/// role of the planner is taken for it. Returns the revision of the plan.
///
/// # Errors
/// The store's, or nothing to seed with. It may be repeated.
pub async fn reseed(store: &dyn Store, kept: &Kept, newest_seen: u64) -> Result<u64, Fault> {
    let nothing = || Fault::Foreign(keys::HEAD.to_owned());
    let plan = kept.plan().ok_or_else(nothing)?;
    let hold = role(store).await?;
    let done = async {
        for spec in kept.specs() {
            restore(store, spec).await?;
        }
        let head = store.get(keys::HEAD).await?;
        let before = head.as_ref().map(keys::decode::<keys::Head>).transpose()?;
        let stored = before.as_ref().map_or(0, |h| h.revision);
        let revision = newest_seen.max(plan.revision()).max(stored) + 1;
        let was = published::Published {
            head: before.unwrap_or_else(|| published::Published::default().head),
            ..published::Published::default()
        };
        let known = head.map(|r| (&was, r.version));
        published::write(store, &hold, known, &plan.anew(revision)).await?;
        Ok(revision)
    };
    let done = done.await;
    let _ = store.leave(hold).await;
    done
}

/// The role of the planner: planners leave it free most of the time while the store is older than they are.
async fn role(store: &dyn Store) -> Result<Hold, Fault> {
    let patience = Instant::now() + 2 * TTL;
    loop {
        match store.register(keys::PLANNER, "reseed".into(), TTL).await {
            Err(StoreError::Taken(_)) if Instant::now() < patience => sleep(AGAIN).await,
            made => return Ok(made?),
        }
    }
}

/// Writes a spec unless the store has one that is as new.
async fn restore(store: &dyn Store, spec: &keys::Spec) -> Result<(), Fault> {
    let key = keys::stream(&spec.stream);
    let record = store.get(&key).await?;
    let there = record
        .as_ref()
        .map(keys::decode::<keys::Spec>)
        .transpose()?;
    if there.is_some_and(|there| there.rev >= spec.rev) {
        return Ok(());
    }
    let guard = Guard {
        key: key.clone(),
        version: record.map(|r| r.version),
    };
    let put = Write::Put(key.clone(), keys::encode(&key, spec)?);
    match store.commit(vec![guard], vec![put]).await {
        // Somebody edits it now, which is newer.
        Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
