//! Telling people: events and receivers.
//!
//! Lanes hand transitions to an [`Outlet`](lane::Outlet) that never waits. One task turns each into an
//! [`Event`](event::Event), writes it into the [`Ledger`], and passes it to the events file and
//! to every receiver's own queue. What is in a queue is in memory only: it survives a receiver's outage, not
//! the end of the process.

pub mod courier;
pub mod event;
pub mod jsonl;
pub mod ledger;
pub mod notice;
pub mod queue;
pub mod store;
pub mod stored;
pub mod webhook;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use detectors::base::Arrival;
use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::alert::Transition;
use crate::config::Receiver;
use crate::ingest::clock;
use crate::lane;

use courier::{Courier, CourierStats};
use event::{Composer, Epoch, EvidenceLookup};
use jsonl::{EventsTo, Jsonl, JsonlStats};
use ledger::Ledger;
use webhook::{AddressPolicy, WebhookError, any_address};

/// Transitions between the lanes and the dispatcher.
const OUTLET_TRANSITIONS: usize = 4096;

/// What a notifier works with.
pub struct Settings {
    /// Name of this process, in events.
    pub instance: String,
    /// Arrival clock to UTC.
    pub epoch: Epoch,
    /// Where alerts go.
    pub receivers: Vec<Receiver>,
    /// Where event lines go, if anywhere.
    pub events: Option<EventsTo>,
    /// Finds the stills of a defect. Called from the dispatcher, so it may take a lock but not wait.
    pub evidence: Option<EvidenceLookup>,
    /// Which addresses receivers without `allow_private` may have; see [`webhook::public_addresses`].
    pub addresses: AddressPolicy,
}

/// Why notifying could not be set up. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The events file.
    #[error("the events file cannot be opened: {0}")]
    Events(#[source] io::Error),
    /// A receiver.
    #[error("receiver `{name}`: {problem}")]
    Receiver {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: WebhookError,
    },
}

/// Counters of all that was told.
#[derive(Debug, Clone, Default)]
pub struct NotifyStats {
    /// Receivers, in the order configured.
    pub receivers: Vec<CourierStats>,
    /// The events file, when there is one.
    pub events: Option<JsonlStats>,
}

struct Shared {
    composer: Composer,
    ledger: Arc<Ledger>,
    jsonl: Option<Jsonl>,
    couriers: Mutex<Vec<Arc<Courier>>>,
    addresses: AddressPolicy,
    stop: Notify,
}

impl Shared {
    fn couriers(&self) -> MutexGuard<'_, Vec<Arc<Courier>>> {
        self.couriers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dispatch(&self, transition: &Transition, decided: Arrival) {
        let event = Arc::new(self.composer.compose(transition));
        self.ledger.note(&event, transition.at.arrival);
        if let Some(jsonl) = &self.jsonl {
            jsonl.push(event.to_json().into());
        }
        for courier in self.couriers().iter() {
            courier.push(&event, decided);
        }
    }
}

struct Door {
    transitions: mpsc::Sender<(Transition, Arrival)>,
}

impl lane::Outlet for Door {
    fn transition(&self, transition: Transition) -> Result<(), Transition> {
        self.transitions
            .try_send((transition, clock::now()))
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full((t, _))
                | mpsc::error::TrySendError::Closed((t, _)) => t,
            })
    }
}

/// Tells people and files about defects.
pub struct Notifier {
    shared: Arc<Shared>,
    door: Arc<Door>,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
}

impl Notifier {
    /// Starts the dispatcher, the events writer and every receiver. Needs a tokio runtime.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let jsonl = settings.events.as_ref().map(Jsonl::open).transpose();
        let shared = Arc::new(Shared {
            composer: Composer::new(settings.epoch, &settings.instance, settings.evidence),
            ledger: Arc::default(),
            jsonl: jsonl.map_err(StartError::Events)?,
            couriers: Mutex::default(),
            addresses: settings.addresses,
            stop: Notify::new(),
        });
        let (transitions, taken) = mpsc::channel(OUTLET_TRANSITIONS);
        let couriers = settings
            .receivers
            .iter()
            .map(|receiver| shared.hire(receiver))
            .collect::<Result<Vec<_>, _>>()?;
        *shared.couriers() = couriers;
        let dispatcher = tokio::spawn(run(Arc::clone(&shared), taken));
        Ok(Self {
            shared,
            door: Arc::new(Door { transitions }),
            dispatcher: Mutex::new(Some(dispatcher)),
        })
    }

    /// Where lanes hand over transitions. Never waits; gives back when full, or after [`Notifier::close`].
    pub fn outlet(&self) -> Arc<dyn lane::Outlet> {
        Arc::clone(&self.door) as Arc<dyn lane::Outlet>
    }

    /// Open defects and recent events.
    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.shared.ledger)
    }

    /// A copy of all counters.
    pub fn stats(&self) -> NotifyStats {
        NotifyStats {
            receivers: self.shared.couriers().iter().map(|c| c.stats()).collect(),
            events: self.shared.jsonl.as_ref().map(Jsonl::stats),
        }
    }

    /// Takes up a new list of receivers: unchanged ones go on, removed ones get `grace` to deliver what they
    /// hold, new ones start. Nothing changes when one of the new ones is unusable.
    pub fn set_receivers(&self, receivers: &[Receiver], grace: Duration) -> Result<(), StartError> {
        let mut couriers = self.shared.couriers();
        let kept = |receiver: &Receiver| couriers.iter().find(|c| c.config() == receiver);
        let next = receivers
            .iter()
            .map(|receiver| match kept(receiver) {
                Some(courier) => Ok(Arc::clone(courier)),
                None => self.shared.hire(receiver),
            })
            .collect::<Result<Vec<_>, _>>()?;
        for old in std::mem::replace(&mut *couriers, next) {
            if !couriers.iter().any(|c| Arc::ptr_eq(c, &old)) {
                tokio::spawn(async move { old.close(grace).await });
            }
        }
        Ok(())
    }

    /// Forgets a stream that is no longer watched: its open defects, tallies and metrics go. Call it when the
    /// stream's lane has handed over its last transitions, so that what was raised has been cleared.
    pub fn forget(&self, stream: &str) {
        self.shared.ledger.forget(stream);
        for courier in self.shared.couriers().iter() {
            courier.forget(stream);
        }
    }

    /// Opens the events file again (log rotation).
    pub fn reopen_events(&self) {
        if let Some(jsonl) = &self.shared.jsonl {
            jsonl.reopen();
        }
    }

    /// Takes nothing more, tells what was taken, and ends; at most `deadline`. Returns how many deliveries are
    /// left undone. Close the lanes first: their last transitions are still taken before this is called.
    pub async fn close(&self, deadline: Duration) -> usize {
        let end = tokio::time::Instant::now() + deadline;
        let left = || end.saturating_duration_since(tokio::time::Instant::now());
        self.shared.stop.notify_one();
        let dispatcher = self
            .dispatcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut dispatcher) = dispatcher
            && tokio::time::timeout(left(), &mut dispatcher).await.is_err()
        {
            dispatcher.abort();
        }
        let couriers = self.shared.couriers().clone();
        let closing = join_all(couriers.iter().map(|c| c.close(left())));
        let lines = async {
            if let Some(jsonl) = &self.shared.jsonl {
                jsonl.close(left()).await;
            }
        };
        let (undone, ()) = tokio::join!(closing, lines);
        undone.into_iter().sum()
    }
}

impl Shared {
    fn hire(&self, receiver: &Receiver) -> Result<Arc<Courier>, StartError> {
        let allowed = match receiver.allow_private {
            true => any_address(),
            false => Arc::clone(&self.addresses),
        };
        Courier::start(receiver, allowed)
            .map(Arc::new)
            .map_err(|problem| StartError::Receiver {
                name: receiver.name.clone(),
                problem,
            })
    }
}

async fn run(shared: Arc<Shared>, mut taken: mpsc::Receiver<(Transition, Arrival)>) {
    loop {
        tokio::select! {
            biased;
            () = shared.stop.notified() => taken.close(),
            next = taken.recv() => match next {
                Some((transition, decided)) => shared.dispatch(&transition, decided),
                None => return,
            },
        }
    }
}
