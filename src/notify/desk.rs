//! Where incidents are kept, written down and handed out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use detectors::base::{Arrival, BreakEdge, Cause, Severity};
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::courier::{Courier, Duty, Titles};
use super::event::{Composer, Epoch};
use super::links::Links;
use super::notice::Message;
use super::own::{Trouble, Troubles};
use super::receiver;
use super::receiver::http::{AddressPolicy, any_address};
use super::store::{self, Change, Commit, Outgoing, Phase, Row, Store, StoreState};
use super::{StartError, stored};
use crate::alert::incident::{About, Incident, Machine, Mute, MuteError, News, Notice};
use crate::alert::{Announced, Defect, Transition};
use crate::config::{Incidents, Receiver, Stream};
use crate::ingest::clock;

/// What a desk works with.
pub struct Settings {
    /// Puts incidents into words.
    pub composer: Arc<Composer>,
    /// Arrival clock to UTC.
    pub epoch: Epoch,
    /// Where everything is kept, in a folder `outbox`.
    pub data_dir: PathBuf,
    /// How it is kept.
    pub store: store::Settings,
    /// How incidents are made.
    pub incidents: Incidents,
    /// Who is told.
    pub receivers: Vec<Receiver>,
    /// See [`super::Settings::away`].
    pub away: Duration,
    /// Links to evidence, if receivers get them.
    pub links: Option<Arc<Links>>,
    /// Which addresses receivers may have that are not allowed private ones.
    pub addresses: AddressPolicy,
}

/// Note of the store that tells when the process lived last, and how often it is written.
const ALIVE: &str = "alive";
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// A receiver that has taken nothing for so long is told of to the others.
const RECEIVER_LOST: Duration = Duration::from_secs(120);
/// A disk that takes longer is not waited for: what is decided is sent.
const SLOW_DISK: Duration = Duration::from_millis(500);

/// Changes that a listener may be behind before it loses its place.
const BEHIND: usize = 256;

/// ... and when it was too slow before. A disk that works again is quicker.
const SLOW_AGAIN: Duration = Duration::from_millis(20);

type Couriers = Arc<Mutex<Vec<Arc<Courier>>>>;

/// Makes incidents, writes them down, and has them told.
pub struct Desk {
    machine: Mutex<Machine>,
    composer: Arc<Composer>,
    epoch: Epoch,
    store: Arc<Store>,
    commits: mpsc::UnboundedSender<Decided>,
    couriers: Couriers,
    listeners: broadcast::Sender<Arc<Message>>,
    links: Option<Arc<Links>>,
    addresses: AddressPolicy,
    away: Duration,
    troubles: Mutex<Troubles>,
    gap: Option<Duration>,
    alive_noted: Mutex<Option<Timestamp>>,
    /// When the canary's alert was handed to receivers last.
    canary: Arc<AtomicU64>,
    canary_lost: AtomicBool,
    /// Whether nothing could be read at the start.
    blind_start: AtomicBool,
    /// Open before a restart, by stream.
    before: Mutex<BTreeMap<Arc<str>, Vec<Defect>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Takes up what was open and what was not yet delivered. Needs a tokio runtime.
    pub fn open(settings: Settings) -> Result<Self, StartError> {
        let couriers = Couriers::default();
        let folder = settings.data_dir.join("outbox");
        let (store, loaded) = Store::open(&folder, settings.store);
        let alive = store.notes(ALIVE, 1).unwrap_or_default();
        let alive = alive.first().and_then(|at| at.parse::<Timestamp>().ok());
        let gap = alive.and_then(|at| Duration::try_from(Timestamp::now().duration_since(at)).ok());
        let (commits, committed) = mpsc::unbounded_channel();
        let canary = Arc::new(AtomicU64::new(0));
        tokio::spawn(deliver(
            committed,
            Arc::clone(&couriers),
            Arc::clone(&canary),
        ));
        let desk = Self {
            machine: Mutex::new(Machine::new(
                settings.composer.instance(),
                settings.incidents,
            )),
            composer: settings.composer,
            epoch: settings.epoch,
            store: Arc::new(store),
            commits,
            couriers,
            listeners: broadcast::Sender::new(BEHIND),
            links: settings.links,
            addresses: settings.addresses,
            away: settings.away,
            troubles: Mutex::default(),
            gap,
            alive_noted: Mutex::default(),
            canary,
            canary_lost: AtomicBool::new(false),
            blind_start: AtomicBool::new(loaded.degraded.is_some()),
            before: Mutex::default(),
        };
        let hired = settings
            .receivers
            .iter()
            .map(|config| Ok(desk.hire(config, desk.way(config)?)));
        *lock(&desk.couriers) = hired.collect::<Result<_, StartError>>()?;
        desk.take_up(loaded);
        desk.live(Timestamp::now());
        if let Some(gap) = desk.gap().filter(|gap| !gap.is_zero()) {
            tracing::info!(
                gap_secs = gap.as_secs_f64(),
                "nothing was watched since the process before"
            );
        }
        Ok(desk)
    }

    /// Goes on where the process before this one stopped.
    fn take_up(&self, loaded: store::Loaded) {
        let now = Timestamp::now();
        if let Some(aside) = &loaded.aside {
            tracing::error!(path = %aside.path.display(), why = %aside.why, "the outbox of before cannot be used");
        }
        if let Some(why) = &loaded.degraded {
            tracing::error!(
                why,
                "incidents cannot be written down: they are told from memory"
            );
        }
        let mut machine = lock(&self.machine);
        let mut over = Vec::new();
        let open = loaded.incidents.iter().filter(|i| i.phase == Phase::Open);
        for doc in open {
            let Some(incident) = stored::read(&doc.doc, &self.epoch) else {
                tracing::error!("an incident of before cannot be read, and is left out");
                continue;
            };
            if incident.told {
                let message = self.as_raised(incident.clone(), now);
                let told = self.linked(&message, now);
                let by = stored::receivers(&doc.doc);
                for courier in lock(&self.couriers).iter() {
                    let config = courier.config();
                    let was = match &by {
                        Some(names) => names.contains(&config.name),
                        None => {
                            courier.is_for(&message) && machine.concerns(&config.only, &incident)
                        }
                    };
                    if was {
                        courier.was_told(&told);
                    }
                }
            }
            let defects: Vec<Defect> = incident.open().cloned().collect();
            let about = incident.key.about.clone();
            match (machine.restore(incident, now), about) {
                (Some(ended), _) => over.push(ended),
                (None, About::Stream(id)) => {
                    lock(&self.before).entry(id).or_default().extend(defects);
                }
                (None, _) => {}
            }
        }
        for doc in &loaded.mutes {
            if let Some(mute) = stored::read_mute(doc) {
                // One that is over by now is no loss.
                let _ = machine.mute(mute, now);
            }
        }
        self.write(&machine, &over);
        drop(machine);
        let names: Vec<String> = (lock(&self.couriers).iter())
            .map(|courier| courier.config().name.clone())
            .collect();
        let (rows, nobodys): (Vec<Row>, Vec<Row>) = (loaded.waiting.into_iter())
            .partition(|row| names.iter().any(|name| **name == *row.message.receiver));
        for row in nobodys {
            let why = "there is no such receiver any more";
            self.store.dead(row.id, why.to_owned());
        }
        hand_out(&self.couriers, rows);
    }

    /// A defect began, changed or ended.
    pub fn hear(&self, transition: &Transition, now: Timestamp) {
        let mut machine = lock(&self.machine);
        let notices = machine.hear(transition, now);
        self.write(&machine, &notices);
    }

    /// Time has passed.
    pub fn tick(&self, now: Timestamp) {
        // What lies on a disk that did not work at the start is taken up when it does.
        if self.blind_start.load(Ordering::Relaxed)
            && let Some(loaded) = self.store.late()
        {
            self.blind_start
                .store(loaded.degraded.is_some(), Ordering::Relaxed);
            self.take_up(loaded);
        }
        self.live(now);
        let mut machine = lock(&self.machine);
        let notices = machine.tick(now);
        self.write(&machine, &notices);
        self.pass_on(&mut machine, now);
        let at = clock::now();
        let wrong = self.wrong(at);
        let instance = self.composer.instance();
        for transition in lock(&self.troubles).now(instance, wrong, at, now) {
            let notices = machine.hear(&transition, now);
            self.write(&machine, &notices);
        }
    }

    /// How long nothing was watched between the process before and this one, as far as that is known.
    pub fn gap(&self) -> Option<Duration> {
        self.gap
    }

    /// Writes down now and then that the process lives.
    fn live(&self, now: Timestamp) {
        let mut noted = lock(&self.alive_noted);
        // A clock that was set back is no reason to wait until it is as late again.
        if noted.is_none_or(|at| now < at || now >= at + ALIVE_EVERY) {
            *noted = Some(now);
            let note = self
                .store
                .put_note(ALIVE, ALIVE.to_owned(), now.to_string(), now);
            drop(note);
        }
    }

    /// What a receiver refused for good goes to the next one that was not told, whatever its severity.
    fn pass_on(&self, machine: &mut Machine, now: Timestamp) {
        let couriers = self.couriers();
        for (index, courier) in couriers.iter().enumerate() {
            let others = || {
                couriers
                    .iter()
                    .cycle()
                    .skip(index + 1)
                    .take(couriers.len() - 1)
            };
            for row in courier.take_refused() {
                let of = &row.message;
                let Some(notice) = machine.repeat(&of.key, of.incarnation, now) else {
                    continue;
                };
                let message = Message::of(&notice, &self.composer);
                let told = self.linked(&message, now);
                let outgoing = others().find_map(|other| other.instead(&told));
                self.commit(&notice, &message, outgoing.into_iter().collect());
            }
        }
    }

    /// When the canary's alert arrived last: at all receivers that are there for it, or, without such, where alerts are
    /// handed to receivers.
    pub fn canary_at(&self) -> Option<Arrival> {
        let couriers = self.couriers();
        let mut own = couriers.iter().filter(|c| c.config().canary).peekable();
        if own.peek().is_some() {
            let times: Option<Vec<Arrival>> = own.map(|courier| courier.delivered_at()).collect();
            return times?.into_iter().min();
        }
        let nanos = self.canary.load(Ordering::Relaxed);
        (nanos > 0).then(|| Arrival::from_nanos(nanos))
    }

    /// Says whether the canary's last alert failed to arrive.
    pub fn set_canary_lost(&self, lost: bool) {
        self.canary_lost.store(lost, Ordering::Relaxed);
    }

    /// Whether alerts arrive, as far as is known.
    pub fn is_well(&self) -> bool {
        !self.canary_lost.load(Ordering::Relaxed)
    }

    /// What is wrong with the monitor itself.
    fn wrong(&self, now: Arrival) -> Vec<Trouble> {
        let mut wrong = Vec::new();
        if let Some(why) = self.store.state().degraded {
            wrong.push(Trouble {
                rule: "not_durable",
                of: String::new(),
                cause: Cause::NotDurable,
                severity: Severity::Critical,
                says: format!("Alerts cannot be written down and are told from memory: {why}."),
            });
        }
        if !self.is_well() {
            wrong.push(Trouble {
                rule: "canary_lost",
                of: String::new(),
                cause: Cause::CanaryLost,
                severity: Severity::Critical,
                says:
                    "The alert of the canary did not arrive in time: other alerts may not arrive."
                        .to_owned(),
            });
        }
        for courier in self.couriers() {
            let (health, name) = (courier.health(), &courier.config().name);
            if health.refuses {
                wrong.push(Trouble {
                    rule: "receiver_refuses",
                    of: name.clone(),
                    cause: Cause::ReceiverRefuses,
                    severity: Severity::Critical,
                    says: format!("The receiver {name} refuses alerts."),
                });
            }
            let lost = health.failures > 0 && now.since(health.since) >= RECEIVER_LOST;
            if lost && courier.stats().pending > 0 {
                wrong.push(Trouble {
                    rule: "receiver_lost",
                    of: name.clone(),
                    cause: Cause::ReceiverLost,
                    severity: Severity::Critical,
                    says: format!("The receiver {name} has not taken an alert for minutes."),
                });
            }
        }
        wrong
    }

    /// A break was announced, or its end.
    pub fn announced(&self, mark: &Announced) {
        let at = self.epoch.utc(mark.at);
        let mut machine = lock(&self.machine);
        match mark.edge {
            BreakEdge::Start => {
                machine.expect(&mark.stream, at, mark.planned.map(|planned| at + planned));
            }
            BreakEdge::End => machine.expect_no_more(&mark.stream, at),
        }
    }

    /// Somebody takes an incident on; `false` when none with this id is open.
    pub fn acknowledge(&self, id: &str, by: &str, now: Timestamp) -> bool {
        let mut machine = lock(&self.machine);
        let notice = machine.acknowledge(id, by, now);
        self.write(&machine, notice.as_slice());
        notice.is_some()
    }

    /// Adds a mute, and keeps it over restarts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn mute(&self, mute: Mute, now: Timestamp) -> Result<(), MuteError> {
        let mut machine = lock(&self.machine);
        machine.mute(mute.clone(), now)?;
        let doc = stored::write_mute(&mute);
        drop(self.store.put_mute(mute.id, doc));
        let notices = machine.tick(now);
        self.write(&machine, &notices);
        Ok(())
    }

    /// Ends a mute early; `false` when there is none with this id.
    pub fn unmute(&self, id: &str, now: Timestamp) -> bool {
        let mut machine = lock(&self.machine);
        let was = machine.unmute(id);
        drop(self.store.remove_mute(id.to_owned()));
        let notices = machine.tick(now);
        self.write(&machine, &notices);
        was
    }

    /// Mutes that are not over.
    pub fn mutes(&self) -> Vec<Mute> {
        lock(&self.machine).mutes().cloned().collect()
    }

    /// Which streams a mute would cover.
    pub fn covered(&self, mute: &Mute) -> Vec<Arc<str>> {
        lock(&self.machine).covered(mute)
    }

    /// Incidents that have not ended, worst first, then oldest first.
    pub fn incidents(&self, now: Timestamp) -> Vec<Message> {
        let machine = lock(&self.machine);
        let mut open: Vec<&Incident> = machine.incidents().collect();
        open.sort_by_key(|i| (std::cmp::Reverse(i.severity), i.opened));
        let message = |incident: &Incident| {
            let notice = Notice {
                news: News::Recorded,
                at: now,
                incident: Arc::new(incident.clone()),
            };
            Message::of(&notice, &self.composer)
        };
        open.into_iter().map(message).collect()
    }

    /// How many are open: info, warning, critical.
    pub fn open_by_severity(&self) -> [u64; 3] {
        let mut open = [0; 3];
        for incident in lock(&self.machine).incidents() {
            open[incident.severity as usize] += 1;
        }
        open
    }

    /// Incidents that are over, newest first. Reads from disk.
    pub fn past(&self, limit: usize) -> Vec<Message> {
        let docs = self.store.incidents(limit, None).unwrap_or_else(|error| {
            tracing::warn!("past incidents cannot be read: {error}");
            Vec::new()
        });
        let over = docs.iter().filter(|doc| doc.phase == Phase::Over);
        let incidents = over.filter_map(|doc| stored::read(&doc.doc, &self.epoch));
        let message = |incident: Incident| {
            let notice = Notice {
                news: News::Resolved,
                at: incident.resolved.unwrap_or(incident.opened),
                incident: Arc::new(incident),
            };
            Message::of(&notice, &self.composer)
        };
        incidents.map(message).collect()
    }

    /// Every change of an incident from now on, told or not, but for the canary's. Who is too far behind to be served gets an error.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Message>> {
        self.listeners.subscribe()
    }

    /// Writes down who changed something, and what; `entry` is one JSON object.
    pub fn put_audit(&self, entry: &serde_json::Value, at: Timestamp) {
        let id = format!("{:x}{:08x}", at.as_nanosecond(), fastrand::u32(..));
        // Without a disk it is in the log alone.
        drop(self.store.put_note("audit", id, entry.to_string(), at));
    }

    /// What was written down by [`Desk::put_audit`], newest first. Reads from disk.
    ///
    /// # Errors
    /// The disk does not work.
    pub fn audit(&self, limit: usize) -> Result<Vec<serde_json::Value>, store::ReadError> {
        let lines = self.store.notes("audit", limit)?;
        Ok((lines.iter())
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// Keeps what somebody said of an incident; what was said last counts.
    pub fn put_feedback(
        &self,
        incident: &str,
        entry: &serde_json::Value,
        at: Timestamp,
    ) -> store::Receipt {
        (self.store).put_note("feedback", incident.to_owned(), entry.to_string(), at)
    }

    /// What was kept by [`Desk::put_feedback`], newest first. Reads from disk.
    ///
    /// # Errors
    /// The disk does not work.
    pub fn feedback(&self, limit: usize) -> Result<Vec<serde_json::Value>, store::ReadError> {
        let lines = self.store.notes("feedback", limit)?;
        let read = |line: &String| serde_json::from_str(line).ok();
        Ok(lines.iter().filter_map(read).collect())
    }

    /// Which streams are watched, with their labels.
    pub fn set_streams(&self, streams: &[Arc<Stream>]) {
        let labels = |s: &Arc<Stream>| (Arc::clone(&s.id), Arc::new(s.labels.clone()));
        let mut machine = lock(&self.machine);
        machine.set_streams(streams.iter().map(labels));
        for stream in streams {
            machine.set_programme(
                &stream.id,
                stream.expected.clone(),
                stream.quiet_tracks.clone(),
            );
        }
    }

    /// Defects of a stream that were open when the process before this one ended; each is given once.
    pub fn take_before(&self, stream: &str) -> Vec<Defect> {
        lock(&self.before).remove(stream).unwrap_or_default()
    }

    /// As [`Desk::take_before`], of all streams that nobody asked for.
    pub fn take_all_before(&self) -> Vec<Defect> {
        std::mem::take(&mut *lock(&self.before))
            .into_values()
            .flatten()
            .collect()
    }

    /// Receivers at work.
    pub fn couriers(&self) -> Vec<Arc<Courier>> {
        lock(&self.couriers).clone()
    }

    /// How the store does.
    pub fn store_state(&self) -> StoreState {
        self.store.state()
    }

    /// Waits until everything that was decided is written and with its couriers, at most `deadline`.
    pub async fn flush(&self, deadline: Duration) {
        let (done, handed_out) = oneshot::channel();
        // Fails when nothing hands out any more; then the answer fails as well.
        let _ = self.commits.send(Decided::Flush(done));
        let both = async { (self.store.flush().await, handed_out.await) };
        let flushed = tokio::time::timeout(deadline, both).await;
        if !matches!(flushed, Ok((Ok(_), Ok(())))) {
            tracing::warn!("incidents could not be written down in time");
        }
    }

    /// See [`super::Notifier::set_receivers`].
    pub fn set_receivers(&self, receivers: &[Receiver], grace: Duration) -> Result<(), StartError> {
        // Before anything is changed, because one that cannot be used leaves all as they were.
        let ready = receivers
            .iter()
            .map(|config| Ok((config, self.way(config)?)))
            .collect::<Result<Vec<_>, StartError>>()?;
        let mut machine = lock(&self.machine);
        let mut couriers = lock(&self.couriers);
        let before = std::mem::take(&mut *couriers);
        let mut replaced = Vec::new();
        for (config, receiver) in ready {
            let Some(old) = before.iter().find(|c| c.config().name == config.name) else {
                couriers.push(self.hire(config, receiver));
                continue;
            };
            let kind = |of: &Receiver| std::mem::discriminant(&of.kind);
            if kind(&old.config()) != kind(config) {
                let new = self.hire(config, receiver);
                replaced.push((Arc::clone(old), Arc::clone(&new)));
                couriers.push(new);
                continue;
            }
            if *old.config() != *config {
                old.change(config.clone(), receiver);
            }
            couriers.push(Arc::clone(old));
        }
        let kept = couriers.clone();
        drop(couriers);
        let now = Timestamp::now();
        let open: Vec<Incident> = machine.incidents().filter(|i| i.told).cloned().collect();
        for incident in open {
            // What is open is said in the words of now ...
            let (key, incarnation) = (incident.key.hash(), incident.incarnation);
            let message = self.as_raised(incident, now);
            let told = self.linked(&message, now);
            for courier in kept.iter().filter(|c| c.knows(&message.incident_id)) {
                courier.was_told(&told);
            }
            // ... and raised anew where it went to another service before.
            let moved = |(old, _): &&(Arc<Courier>, _)| old.knows(&message.incident_id);
            let anew = replaced.iter().filter(moved);
            let anew: Vec<&Arc<Courier>> = anew.map(|(_, new)| new).collect();
            if !anew.is_empty()
                && let Some(notice) = machine.repeat(&key, incarnation, now)
            {
                let message = Message::of(&notice, &self.composer);
                let told = self.linked(&message, now);
                let outgoing = anew.iter().filter_map(|new| new.instead(&told)).collect();
                self.commit(&notice, &message, outgoing);
            }
        }
        for old in before {
            if kept.iter().any(|c| Arc::ptr_eq(c, &old)) {
                continue;
            }
            let moved = replaced.iter().any(|(gone, _)| Arc::ptr_eq(gone, &old));
            tokio::spawn(async move {
                old.close(grace).await;
                if moved {
                    old.give_up("the receiver is of another kind now");
                }
            });
        }
        Ok(())
    }

    /// An open incident as if it had just been raised.
    fn as_raised(&self, incident: Incident, now: Timestamp) -> Message {
        let notice = Notice {
            news: News::Raised,
            at: now,
            incident: Arc::new(incident),
        };
        Message::of(&notice, &self.composer)
    }

    /// How a receiver is told.
    fn way(&self, config: &Receiver) -> Result<Box<dyn receiver::Receiver>, StartError> {
        let allowed = match config.allow_private {
            true => any_address(),
            false => Arc::clone(&self.addresses),
        };
        receiver::of(config, allowed).map_err(|problem| StartError::Receiver {
            name: config.name.clone(),
            problem,
        })
    }

    fn hire(&self, config: &Receiver, receiver: Box<dyn receiver::Receiver>) -> Arc<Courier> {
        Arc::new(Courier::start(Duty {
            config: config.clone(),
            instance: self.composer.instance().to_owned(),
            receiver,
            store: Arc::clone(&self.store),
            epoch: self.epoch,
            titles: self.titles(),
            away: self.away,
        }))
    }

    /// Names incidents by their documents.
    fn titles(&self) -> Titles {
        let (epoch, composer) = (self.epoch, Arc::clone(&self.composer));
        Arc::new(move |docs| {
            let incidents = docs.iter().filter_map(|doc| stored::read(doc, &epoch));
            let title = |incident: Incident| {
                let notice = Notice {
                    news: News::Resolved,
                    at: incident.resolved.unwrap_or(incident.opened),
                    incident: Arc::new(incident),
                };
                Message::of(&notice, &composer).title
            };
            incidents.map(title).collect()
        })
    }

    /// State and what goes out, in one transaction each. The machine is locked, so that the order is its own.
    fn write(&self, machine: &Machine, notices: &[Notice]) {
        for notice in notices {
            let message = Message::of(notice, &self.composer);
            let outgoing = match notice.is_told() {
                true => {
                    let told = self.linked(&message, notice.at);
                    (lock(&self.couriers).iter())
                        .filter(|c| {
                            // What it was told in place of another, or before its labels changed, it hears to the end.
                            machine.concerns(&c.config().only, &notice.incident)
                                || c.knows(&message.incident_id)
                        })
                        .filter_map(|courier| courier.outgoing(&told))
                        .collect()
                }
                false => Vec::new(),
            };
            if notice.is_told() {
                tracing::info!(
                    news = notice.news.as_str(),
                    incident_id = %message.incident_id,
                    severity = %message.severity,
                    stream = message.stream.as_deref().unwrap_or("-"),
                    "{}", message.title
                );
            }
            self.commit(notice, &message, outgoing);
            if !message.is_canary() {
                // Nobody listens: no harm.
                let _ = self.listeners.send(Arc::new(message));
            }
        }
    }

    /// What receivers are told; who asks the API has a token of its own.
    fn linked<'a>(&self, message: &'a Message, now: Timestamp) -> Cow<'a, Message> {
        match &self.links {
            Some(links) => Cow::Owned(links.added_to(message, now)),
            None => Cow::Borrowed(message),
        }
    }

    fn commit(&self, notice: &Notice, message: &Message, outgoing: Vec<Outgoing>) {
        let incident = &*notice.incident;
        let receivers = (lock(&self.couriers).iter())
            .filter(|courier| courier.knows(&message.incident_id))
            .map(|courier| courier.config().name.clone())
            .collect();
        let commit = self.store.commit(Change {
            key: message.key.clone(),
            incarnation: incident.incarnation,
            sequence: incident.sequence,
            phase: match incident.resolved {
                None => Phase::Open,
                Some(_) => Phase::Over,
            },
            doc: stored::write(incident, receivers, &self.epoch),
            at: notice.at,
            outgoing,
        });
        // Nobody takes it any more: the process ends, and the next one sends it.
        let _ = self
            .commits
            .send(match message.is_canary() && notice.news == News::Raised {
                true => Decided::Canary(commit),
                false => Decided::Commit(commit),
            });
    }
}

/// Hands out what is on disk, in the order of the decisions. A disk that is slow is not waited for.
async fn deliver(
    mut decided: mpsc::UnboundedReceiver<Decided>,
    couriers: Couriers,
    canary: Arc<AtomicU64>,
) {
    // A disk that was too slow once is not waited for again until it has caught up.
    let mut patience = SLOW_DISK;
    while let Some(decided) = decided.recv().await {
        let (commit, is_canary) = match decided {
            Decided::Commit(commit) => (commit, false),
            Decided::Canary(commit) => (commit, true),
            // Who waits for it may have given up.
            Decided::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let committed = commit.within(patience).await;
        patience = match committed.outcome {
            store::Outcome::InMemory => SLOW_AGAIN,
            _ => SLOW_DISK,
        };
        hand_out(&couriers, committed.rows);
        if is_canary {
            canary.store(clock::now().nanos(), Ordering::Relaxed);
        }
    }
}

/// What is handed out, in order.
enum Decided {
    Commit(Commit),
    /// The canary's.
    Canary(Commit),
    Flush(oneshot::Sender<()>),
}

fn hand_out(couriers: &Mutex<Vec<Arc<Courier>>>, rows: Vec<Row>) {
    let couriers = lock(couriers).clone();
    for row in rows {
        match couriers
            .iter()
            .find(|c| *c.config().name == *row.message.receiver)
        {
            Some(courier) => courier.push(row),
            None => {
                tracing::warn!(receiver = %row.message.receiver, "a message waits for a receiver that is gone")
            }
        }
    }
}
