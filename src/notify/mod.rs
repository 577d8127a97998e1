//! Telling people: events, incidents and receivers.
//!
//! Lanes hand transitions to an [`Outlet`](lane::Outlet) that never waits. One task turns each into an
//! [`Event`](event::Event) for the [`Ledger`] and the events file, and gives it to the machine that makes incidents
//! ([`desk`]). What that says is written to the [`store`] together with what goes out, in one transaction, and only then
//! handed to the receivers' couriers: what was decided and written is told, whatever happens to this process.

pub mod courier;
pub mod desk;
pub mod event;
pub mod heartbeat;
pub mod jsonl;
pub mod ledger;
pub mod links;
pub mod notice;
pub mod own;
pub mod queue;
pub mod receiver;
pub mod store;
pub mod stored;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::alert::incident::CANARY;
use crate::alert::{Announced, Transition};
use crate::config::{Incidents, Receiver, Stream};
use crate::ingest::clock;
use crate::lane;

use courier::CourierStats;
use desk::Desk;
use event::{Composer, Epoch, EvidenceLookup};
use jsonl::{EventsTo, Jsonl, JsonlStats};
use ledger::Ledger;
use links::Links;
use receiver::ReceiverError;
use receiver::http::AddressPolicy;
use store::StoreState;

/// Transitions between the lanes and the dispatcher.
const OUTLET_TRANSITIONS: usize = 4096;
/// How often incidents are looked at when nothing happens.
const TICK: Duration = Duration::from_millis(500);

/// What a notifier works with.
pub struct Settings {
    /// Name of this process, in events.
    pub instance: String,
    /// Arrival clock to UTC.
    pub epoch: Epoch,
    /// Where incidents and what goes out are kept.
    pub data_dir: PathBuf,
    /// How they are kept.
    pub store: store::Settings,
    /// Where alerts go.
    pub receivers: Vec<Receiver>,
    /// How incidents are made.
    pub incidents: Incidents,
    /// Where event lines go, if anywhere.
    pub events: Option<EventsTo>,
    /// Finds the stills of a defect. Called from the dispatcher, so it may take a lock but not wait.
    pub evidence: Option<EvidenceLookup>,
    /// A receiver that was away for so long is brought up to date with a digest; [`courier::AWAY`].
    pub away: Duration,
    /// Links to evidence, if receivers get them.
    pub links: Option<Arc<Links>>,
    /// Which addresses receivers without `allow_private` may have; see [`receiver::http::public_addresses`].
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
        problem: ReceiverError,
    },
}

/// Counters of all that was told.
#[derive(Debug, Clone, Default)]
pub struct NotifyStats {
    /// Receivers, in the order configured.
    pub receivers: Vec<CourierStats>,
    /// The events file, when there is one.
    pub events: Option<JsonlStats>,
    /// How long nothing was watched before this process began, as far as that is known, seconds.
    pub gap_secs: f64,
    /// Open incidents: info, warning, critical.
    pub incidents: [u64; 3],
    /// Where incidents are kept.
    pub store: StoreState,
}

struct Shared {
    composer: Arc<Composer>,
    epoch: Epoch,
    ledger: Arc<Ledger>,
    jsonl: Option<Jsonl>,
    desk: Arc<Desk>,
    stop: Notify,
}

/// What comes from the lanes.
enum Told {
    Transition(Box<Transition>),
    Announced(Announced),
}

impl Shared {
    fn dispatch(&self, told: Told) {
        match told {
            Told::Transition(transition) => {
                // The canary is nobody's stream.
                if *transition.defect.stream != *CANARY {
                    let event = Arc::new(self.composer.compose(&transition));
                    self.ledger.note(&event, transition.at.arrival);
                    if let Some(jsonl) = &self.jsonl {
                        jsonl.push(event.to_json().into());
                    }
                }
                self.desk.hear(&transition, self.epoch.utc(clock::now()));
            }
            Told::Announced(mark) => self.desk.announced(&mark),
        }
    }
}

struct Door {
    told: mpsc::Sender<Told>,
}

impl lane::Outlet for Door {
    fn transition(&self, transition: Transition) -> Result<(), Transition> {
        match self.told.try_reserve() {
            Ok(room) => {
                room.send(Told::Transition(Box::new(transition)));
                Ok(())
            }
            Err(_) => Err(transition),
        }
    }

    fn announce(&self, mark: Announced) {
        if self.told.try_send(Told::Announced(mark)).is_err() {
            tracing::warn!("an announced break was lost: what it would have excused is told");
        }
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
        let epoch = settings.epoch;
        let composer = Arc::new(Composer::new(epoch, &settings.instance, settings.evidence));
        let desk = Desk::open(desk::Settings {
            composer: Arc::clone(&composer),
            epoch,
            data_dir: settings.data_dir,
            store: settings.store,
            incidents: settings.incidents,
            receivers: settings.receivers,
            away: settings.away,
            links: settings.links,
            addresses: settings.addresses,
        })?;
        let shared = Arc::new(Shared {
            composer,
            epoch,
            ledger: Arc::default(),
            jsonl: jsonl.map_err(StartError::Events)?,
            desk: Arc::new(desk),
            stop: Notify::new(),
        });
        let (told, taken) = mpsc::channel(OUTLET_TRANSITIONS);
        let dispatcher = tokio::spawn(run(Arc::clone(&shared), taken));
        Ok(Self {
            shared,
            door: Arc::new(Door { told }),
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

    /// Incidents, mutes, who was told.
    pub fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.shared.desk)
    }

    /// A copy of all counters.
    pub fn stats(&self) -> NotifyStats {
        NotifyStats {
            receivers: self
                .shared
                .desk
                .couriers()
                .iter()
                .map(|c| c.stats())
                .collect(),
            events: self.shared.jsonl.as_ref().map(Jsonl::stats),
            gap_secs: self.shared.desk.gap().unwrap_or_default().as_secs_f64(),
            incidents: self.shared.desk.open_by_severity(),
            store: self.shared.desk.store_state(),
        }
    }

    /// Takes up a new list of receivers: unchanged ones go on, removed ones get `grace` to deliver what they
    /// hold, new ones start. Nothing changes when one of the new ones is unusable.
    pub fn set_receivers(&self, receivers: &[Receiver], grace: Duration) -> Result<(), StartError> {
        self.shared.desk.set_receivers(receivers, grace)
    }

    /// Which streams are watched: incidents group by their labels.
    pub fn set_streams(&self, streams: &[Arc<Stream>]) {
        self.shared.desk.set_streams(streams);
    }

    /// Forgets a stream that is no longer watched: its open defects, tallies and metrics go. Call it when the
    /// stream's lane has handed over its last transitions, so that what was raised has been cleared.
    pub fn forget(&self, stream: &str) {
        self.shared.ledger.forget(stream);
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
        self.shared.desk.flush(left()).await;
        let couriers = self.shared.desk.couriers();
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

async fn run(shared: Arc<Shared>, mut taken: mpsc::Receiver<Told>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shared.stop.notified() => taken.close(),
            next = taken.recv() => match next {
                Some(told) => shared.dispatch(told),
                None => return,
            },
            _ = ticks.tick() => shared.desk.tick(shared.epoch.utc(clock::now())),
        }
    }
}
