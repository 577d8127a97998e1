//! An instance's registration, kept alive beside whatever else it does.
//!
//! [`beat`] runs on a thread and runtime of its own, so that a busy decoder does not make an instance look dead; it
//! stops renewing when the control loop has not come round for [`STUCK`], so that one that hangs does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::cache::{self, Cache};
use super::keys::{self, Instance};
use super::planner::{HEARTBEAT, TTL};
use super::store::{Clock, Hold, Store, StoreError};
use super::unit::NodeState;

/// How long after its last renewal an instance counts itself as unconfirmed: before others count it as dead.
pub const CONFIRMED: Duration = Duration::from_secs(8);
/// Silence of the control loop after which the registration is left to end.
pub const STUCK: Duration = Duration::from_secs(5);
/// Between attempts after one that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether an instance may do what could hide a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its registration lives.
    Confirmed,
    /// It may have been given up: it watches and raises, but neither resolves nor mutes.
    Unconfirmed,
}

/// What the control loop and the heartbeat know of each other.
pub struct Pulse {
    clock: Clock,
    inner: Mutex<Inner>,
    wake: Notify,
}

struct Inner {
    instance: Instance,
    /// Last time that the control loop came round.
    ticked: Duration,
    /// When the last renewal that succeeded was sent.
    renewed: Option<Duration>,
    /// Last time that the store answered anything.
    contact: Option<Duration>,
    /// When it began.
    began: Duration,
    hold: Option<Hold>,
    left: Option<()>,
}

impl Pulse {
    /// Of an instance, with the registration of the process before it, if that may still live.
    pub fn new(clock: Clock, instance: Instance, hold: Option<Hold>) -> Self {
        let now = clock();
        Self {
            clock,
            inner: Mutex::new(Inner {
                instance,
                ticked: now,
                renewed: None,
                contact: None,
                began: now,
                hold,
                left: None,
            }),
            wake: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The control loop came round.
    pub fn tick(&self) {
        let now = (self.clock)();
        self.lock().ticked = now;
    }

    /// Whether the registration is known to live.
    pub fn standing(&self) -> Standing {
        let now = (self.clock)();
        match self.lock().renewed {
            Some(at) if now.saturating_sub(at) < CONFIRMED => Standing::Confirmed,
            _ => Standing::Unconfirmed,
        }
    }

    /// How long the store has not answered.
    pub fn silence(&self) -> Duration {
        let now = (self.clock)();
        let inner = self.lock();
        now.saturating_sub(inner.contact.unwrap_or(inner.began))
    }

    /// The instance as it registers.
    pub fn instance(&self) -> Instance {
        self.lock().instance.clone()
    }

    /// Changes what is registered, with the next heartbeat.
    pub fn change(&self, how: impl FnOnce(&mut Instance)) {
        how(&mut self.lock().instance);
    }

    /// Registers another state, now.
    pub fn turn(&self, state: NodeState) {
        self.change(|instance| instance.node.state = state);
        self.wake.notify_one();
    }

    /// Ends the registration.
    pub async fn leave(&self, store: &dyn Store) {
        let hold = {
            let mut inner = self.lock();
            (inner.left, inner.renewed) = (Some(()), None);
            inner.hold.take()
        };
        if let Some(hold) = hold {
            // Where it does not arrive the registration ends by itself.
            let _ = store.leave(hold).await;
        }
    }

    fn begin(&self) -> Option<(Option<Hold>, Instance)> {
        let now = (self.clock)();
        let inner = self.lock();
        let alive = inner.left.is_none() && now.saturating_sub(inner.ticked) < STUCK;
        alive.then(|| (inner.hold.clone(), inner.instance.clone()))
    }

    fn renewed(&self, sent: Duration, hold: Hold) {
        let now = (self.clock)();
        let mut inner = self.lock();
        if inner.left.is_some() {
            return;
        }
        inner.contact = Some(now);
        inner.renewed = Some(sent);
        inner.hold = Some(hold);
    }

    fn failed(&self, error: &StoreError) {
        let now = (self.clock)();
        let mut inner = self.lock();
        if !matches!(error, StoreError::Unreachable(_)) {
            inner.contact = Some(now);
        }
        if matches!(error, StoreError::Lost(_)) {
            (inner.hold, inner.renewed) = (None, None);
        }
    }
}

/// Registers and keeps it alive, for ever. New registrations are kept in the cache, so that the next process can go on
/// with them.
pub async fn beat(store: Arc<dyn Store>, pulse: Arc<Pulse>, cache: Arc<dyn Cache>) {
    loop {
        let pause = once(&*store, &pulse, &*cache).await;
        let _ = timeout(pause, pulse.wake.notified()).await;
    }
}

async fn once(store: &dyn Store, pulse: &Pulse, cache: &dyn Cache) -> Duration {
    let Some((hold, instance)) = pulse.begin() else {
        return AGAIN;
    };
    // Counted from before it was sent: how long the answer took is unknown to those who count us as dead.
    let sent = (pulse.clock)();
    let Ok(value) = keys::encode("", &instance) else {
        return HEARTBEAT;
    };
    let new = hold.is_none();
    let tried = match hold {
        Some(hold) => {
            // With its value every time, so that what a restored store says of it is soon right.
            store.heartbeat(&hold, Some(value)).await.map(|()| hold)
        }
        None => {
            let key = keys::instance(&instance.node.id);
            store.register(&key, value, TTL).await
        }
    };
    match tried {
        Ok(hold) => {
            pulse.renewed(sent, hold.clone());
            if new {
                cache::keep_hold(cache, &hold).await;
            }
            HEARTBEAT
        }
        Err(error) => {
            pulse.failed(&error);
            match error {
                StoreError::Lost(_) => Duration::ZERO,
                _ => AGAIN,
            }
        }
    }
}
