//! What is to be watched, as people edit it: durable before it is acknowledged.

use std::sync::Arc;

use super::keys::{self, Fault, Spec};
use super::store::{COMMIT_ITEMS, Guard, Store, StoreError, Write};

/// How often an edit begins again because somebody else edited in between.
const TRIES: usize = 5;

/// Adds a stream or changes it. The revision of its spec is set here, from the time (Unix, ms) and the one before.
/// Returns it.
///
/// # Errors
/// The store's; after [`StoreError::Unreachable`] the edit may have been made or not.
pub async fn put(store: &dyn Store, mut spec: Spec, now_ms: u64) -> Result<u64, Fault> {
    let key = keys::stream(&spec.stream);
    for _ in 0..TRIES {
        let before = store.get(&key).await?;
        let last = before.as_ref().map(keys::decode::<Spec>).transpose()?;
        spec.rev = now_ms.max(last.map_or(0, |s| s.rev + 1));
        let guard = Guard {
            key: key.clone(),
            version: before.map(|r| r.version),
        };
        let put = Write::Put(key.clone(), keys::encode(&key, &spec)?);
        match store.commit(vec![guard], vec![put]).await {
            Ok(_) => return Ok(spec.rev),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict(key).into())
}

/// Removes streams. Those that are not there are removed already.
///
/// # Errors
/// The store's; after [`StoreError::Unreachable`] some may have been removed.
pub async fn remove(store: &dyn Store, streams: &[Arc<str>]) -> Result<(), Fault> {
    for some in streams.chunks(COMMIT_ITEMS) {
        let deletes = some.iter().map(|id| Write::Delete(keys::stream(id)));
        store.commit(Vec::new(), deletes.collect()).await?;
    }
    Ok(())
}

/// All streams, by id.
///
/// # Errors
/// The store's, or a spec that is not understood: then nothing is known to be gone.
pub async fn all(store: &dyn Store) -> Result<Vec<Spec>, Fault> {
    let records = store.scan(keys::STREAMS).await?;
    records.iter().map(keys::decode).collect()
}
