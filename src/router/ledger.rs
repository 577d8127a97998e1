//! Alerts as the fleet knows them: a unit that moves takes its open alerts along, so that nobody is paged twice and
//! nothing stays open for ever.
//!
//! An alert belongs to a stream and a group; each replica that watches it has a verdict of its own, and it is resolved
//! when no replica says or may still say that it stands. Whose fence is lower than the one that was last seen of its
//! replica has been replaced and says nothing any more: a late resolve of an instance that slept changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::heartbeat::Standing;
use super::keys::{self, Fault};
use super::store::{Guard, Store, StoreError, Version, Write};
use super::unit::Unit;

/// How often a change begins again because another was made in between.
const TRIES: usize = 8;

/// How often to [`adopt`] again, and to [`raise`] again what stands: the store may have been put back in between.
pub const AGAIN: Duration = Duration::from_secs(60);

/// An alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Id of the stream.
    pub stream: Arc<str>,
    /// Group of detectors that found it.
    pub group: Arc<str>,
    /// Its key: the same for the same fault at the same place.
    pub alert: Arc<str>,
    /// Of this opening: Unix time in milliseconds, never below the one before.
    pub incarnation: u64,
    /// Whether it stands.
    pub open: bool,
    /// When it was opened: Unix time in milliseconds.
    pub opened_ms: u64,
    /// What each replica says of it.
    pub says: BTreeMap<u8, Says>,
}

/// What a replica says of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Says {
    /// Id of the instance that said so.
    pub owner: Arc<str>,
    /// With which it watches.
    pub fence: u64,
    /// In short.
    pub verdict: Verdict,
}

/// What a replica says of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It stands.
    Bad,
    /// It has not been analysed since it was taken over: it stands until that has happened.
    Unknown,
    /// It is over.
    Fine,
}

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// The unit that it watches.
    pub unit: Unit,
    /// Id of the instance.
    pub owner: Arc<str>,
    /// With which it watches.
    pub fence: u64,
    /// Whether its registration lives.
    pub standing: Standing,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// See there. After [`StoreError::Unreachable`] it may have been changed or not: say it again.
    #[error(transparent)]
    Fault(Fault),
    /// Another has been told to watch the unit since.
    #[error("`{0}` is watched under a higher fence")]
    Fenced(Arc<str>),
    /// Its registration may have ended.
    #[error("an unconfirmed instance resolves nothing")]
    Unconfirmed,
    /// That opening is over; what stands now is another.
    #[error("`{0}` has been opened again")]
    Reopened(Arc<str>),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

/// What a change does to an entry: `None` = nothing to change.
type Change<'a> = dyn Fn(Option<Entry>) -> Result<Option<Entry>, Refusal> + Send + Sync + 'a;

/// Says that an alert stands. Raising is open to everybody but those that were replaced. Returns the incarnation: that
/// of the alert that is open already, or `now_ms`.
///
/// # Errors
/// [`Refusal::Fenced`], or the store's.
pub async fn raise(
    store: &dyn Store,
    alert: &str,
    speaker: &Speaker,
    now_ms: u64,
) -> Result<u64, Refusal> {
    let change = |before: Option<Entry>| {
        let mut entry = match before {
            Some(entry) if entry.open => entry,
            before => Entry {
                stream: Arc::clone(&speaker.unit.stream),
                group: Arc::clone(&speaker.unit.group),
                alert: alert.into(),
                incarnation: before.as_ref().map_or(0, |e| e.incarnation + 1).max(now_ms),
                open: true,
                opened_ms: now_ms,
                // What replaced instances had is remembered: their fences still count.
                says: before.map(|e| e.says).unwrap_or_default(),
            },
        };
        let changed = entry.hear(speaker, Verdict::Bad)?;
        Ok(changed.then_some(entry))
    };
    let entry = amend(store, &speaker.unit.stream, alert, &change).await?;
    Ok(entry.map_or(now_ms, |e| e.incarnation))
}

/// Says that an alert is over. Returns whether it is resolved by that: the last replica to say so does.
///
/// # Errors
/// [`Refusal::Fenced`], [`Refusal::Unconfirmed`], [`Refusal::Reopened`], or the store's.
pub async fn resolve(
    store: &dyn Store,
    alert: &str,
    incarnation: u64,
    speaker: &Speaker,
) -> Result<bool, Refusal> {
    if speaker.standing == Standing::Unconfirmed {
        return Err(Refusal::Unconfirmed);
    }
    let change = |before: Option<Entry>| {
        let Some(mut entry) = before.filter(|e| e.open) else {
            return Ok(None);
        };
        if entry.incarnation != incarnation {
            return Err(Refusal::Reopened(alert.into()));
        }
        let changed = entry.hear(speaker, Verdict::Fine)?;
        entry.open = entry.says.values().any(|s| s.verdict != Verdict::Fine);
        Ok(changed.then_some(entry))
    };
    let entry = amend(store, &speaker.unit.stream, alert, &change).await?;
    Ok(entry.is_none_or(|e| !e.open))
}

/// Takes over the open alerts of a unit's stream of which its replica has a part: what the instance before said stands as
/// [`Verdict::Unknown`] until it is analysed anew, and that instance is fenced off.
///
/// # Errors
/// [`Refusal::Fenced`], or the store's.
pub async fn adopt(store: &dyn Store, speaker: &Speaker) -> Result<Vec<Entry>, Refusal> {
    let mut adopted = Vec::new();
    let of_group = |entry: &Entry| entry.group == speaker.unit.group;
    let open = open_of(store, &speaker.unit.stream).await?;
    for entry in open.into_iter().filter(of_group) {
        let change = |before: Option<Entry>| {
            let Some(mut entry) = before.filter(|e| e.open) else {
                return Ok(None);
            };
            let said = entry.says.get(&speaker.unit.replica);
            let verdict = match said.map(|s| s.verdict) {
                None => return Ok(None),
                Some(Verdict::Fine) => Verdict::Fine,
                Some(_) if said.is_some_and(|s| s.fence == speaker.fence) => return Ok(None),
                Some(_) => Verdict::Unknown,
            };
            let changed = entry.hear(speaker, verdict)?;
            Ok(changed.then_some(entry))
        };
        let stream = &speaker.unit.stream;
        adopted.extend(amend(store, stream, &entry.alert, &change).await?);
    }
    let mine = |entry: &Entry| entry.says.contains_key(&speaker.unit.replica);
    adopted.retain(|entry| entry.open && mine(entry));
    Ok(adopted)
}

/// Strikes off a replica that is no longer wanted. Where it said that the alert stands, its twin must say anew that it does
/// not; without a twin the alert ends.
///
/// # Errors
/// The store's.
pub async fn forget(
    store: &dyn Store,
    stream: &str,
    alert: &str,
    replica: u8,
) -> Result<(), Fault> {
    let change = |before: Option<Entry>| {
        let Some(mut entry) = before.filter(|e| e.says.contains_key(&replica)) else {
            return Ok(None);
        };
        let said = entry.says.remove(&replica).map(|s| s.verdict);
        if entry.open && said != Some(Verdict::Fine) {
            // What the twin said may be from before that.
            entry
                .says
                .values_mut()
                .for_each(|s| s.verdict = Verdict::Unknown);
        }
        entry.open = entry.open && !entry.says.is_empty();
        Ok(Some(entry))
    };
    match amend(store, stream, alert, &change).await {
        Err(Refusal::Fault(fault)) => Err(fault),
        // Whoever speaks can be refused; here nobody does.
        _ => Ok(()),
    }
}

/// Open alerts of a stream.
///
/// # Errors
/// The store's.
pub async fn open_of(store: &dyn Store, stream: &str) -> Result<Vec<Entry>, Fault> {
    open(store, &keys::alert(stream, "")).await
}

/// Open alerts under a path.
///
/// # Errors
/// The store's.
pub async fn open(store: &dyn Store, prefix: &str) -> Result<Vec<Entry>, Fault> {
    let records = store.scan(prefix).await?;
    let mut all: Vec<Entry> = records.iter().map(keys::decode).collect::<Result<_, _>>()?;
    all.retain(|entry| entry.open);
    Ok(all)
}

impl Entry {
    /// Notes what a replica says; whether that is new.
    fn hear(&mut self, speaker: &Speaker, verdict: Verdict) -> Result<bool, Refusal> {
        let says = Says {
            owner: Arc::clone(&speaker.owner),
            fence: speaker.fence,
            verdict,
        };
        let replica = speaker.unit.replica;
        let before = self.says.get(&replica);
        if before.is_some_and(|b| b.fence > speaker.fence) {
            return Err(Refusal::Fenced(Arc::clone(&self.alert)));
        }
        let changed = before != Some(&says) || !self.open;
        self.says.insert(replica, says);
        Ok(changed)
    }
}

/// Changes an entry by compare-and-set; what it is then.
async fn amend(
    store: &dyn Store,
    stream: &str,
    alert: &str,
    change: &Change<'_>,
) -> Result<Option<Entry>, Refusal> {
    let key = keys::alert(stream, alert);
    for _ in 0..TRIES {
        let record = store.get(&key).await?;
        let before: Option<Entry> = record.as_ref().map(keys::decode).transpose()?;
        let version: Option<Version> = record.map(|r| r.version);
        let Some(after) = change(before.clone())? else {
            return Ok(before);
        };
        let guard = Guard {
            key: key.clone(),
            version,
        };
        let put = Write::Put(key.clone(), keys::encode(&key, &after)?);
        match store.commit(vec![guard], vec![put]).await {
            Ok(_) => return Ok(Some(after)),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict(key).into())
}
