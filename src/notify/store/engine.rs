//! The writer: groups of writes into transactions, and what is done when one fails. Time is passed in; only
//! [`Engine::run`] looks at a clock.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::backlog::{Backlog, Fate};
use super::ballast::{Ballast, free_bytes};
use super::file::{self, MIGRATIONS, Trouble, Trust, trouble};
use super::sql::{self, Turn};
use super::{
    COMMIT_SECS, Change, Committed, Compacted, Digest, GROUP, Kept, Loaded, Outcome, Row, Settings,
    Shown, StoreState, Tried,
};

/// How often old rows are looked for, and the ballast is put back.
const UPKEEP: Duration = Duration::from_secs(60);
/// How often gauges are counted.
const SHOW: Duration = Duration::from_secs(1);
/// A disk with fewer free bytes is full.
const ROOM: u64 = 1 << 20;
/// Remedies that are tried for one group before it goes to memory.
const MENDS: u32 = 2;

/// A write.
pub(super) enum Op {
    Commit {
        change: Change,
        /// Names of the rows while they are not on disk.
        ids: Vec<i64>,
        reply: oneshot::Sender<Committed>,
    },
    Sending {
        id: i64,
        reply: oneshot::Sender<Kept>,
    },
    Tried {
        id: i64,
        tried: Tried,
    },
    Dead {
        id: i64,
        error: String,
    },
    Gone {
        ids: Vec<i64>,
    },
    Compact {
        receiver: Arc<str>,
        busy: Vec<i64>,
        digest: Digest,
        reply: oneshot::Sender<Option<Compacted>>,
    },
    Mute {
        id: String,
        doc: Option<String>,
        reply: oneshot::Sender<Kept>,
    },
    Note {
        note: sql::Note,
        reply: oneshot::Sender<Kept>,
    },
    Flush {
        reply: oneshot::Sender<Kept>,
    },
}

/// What a transaction did, for each write.
enum Done {
    Commit(Outcome, Vec<Option<Row>>),
    Compact(Compacted),
    Other,
}

pub(super) struct Engine {
    settings: Settings,
    folder: PathBuf,
    db: Option<Connection>,
    /// How far the file is trusted when it is opened again.
    trust: Trust,
    /// A write or flush failed: what was written since the last one that did not is on disk only once it is written again.
    unflushed: bool,
    ballast: Ballast,
    backlog: Backlog,
    /// Whether what the file held at the start was handed out.
    loaded: bool,
    /// Rows that were handed out under a name in memory, and reached the file after all.
    adopted: HashMap<i64, i64>,
    state: StoreState,
    /// As last counted in the file.
    waiting: Vec<(String, usize)>,
    shown: Arc<Shown>,
    probed: Timestamp,
    upkept: Option<Timestamp>,
    counted: Option<Timestamp>,
    changed: bool,
}

impl Engine {
    pub fn open(
        folder: &Path,
        settings: Settings,
        shown: Arc<Shown>,
        now: Timestamp,
    ) -> (Self, Loaded) {
        let mut engine = Self {
            ballast: Ballast::new(folder, settings.ballast_bytes),
            backlog: Backlog::new(settings.memory_rows),
            settings,
            folder: folder.to_owned(),
            db: None,
            trust: Trust::Check,
            unflushed: false,
            loaded: false,
            adopted: HashMap::new(),
            state: StoreState::default(),
            waiting: Vec::new(),
            shown,
            probed: now,
            upkept: None,
            counted: None,
            changed: true,
        };
        let mut loaded = engine.load(now);
        if engine.db.is_some() {
            engine.state.degraded = None;
        }
        loaded.aside = engine.state.aside.clone();
        loaded.degraded = engine.state.degraded.clone();
        engine.show(now);
        (engine, loaded)
    }

    fn load(&mut self, now: Timestamp) -> Loaded {
        for _ in 0..=MENDS {
            if let Err(why) = self.reopen(now) {
                self.degrade(why, now);
                break;
            }
            match self.db.as_ref().map(|db| read(db, &self.settings, now)) {
                Some(Ok(loaded)) => {
                    self.loaded = true;
                    return loaded;
                }
                Some(Err(error)) => self.distrust(&error, now),
                None => break,
            }
        }
        // What cannot be written may still be read.
        let there = file::peek(&self.folder).map(|db| read(&db, &self.settings, now));
        self.loaded = matches!(there, Some(Ok(_)));
        there.and_then(Result::ok).unwrap_or_default()
    }

    /// A file that was opened and cannot be read: values of another type than ours are damage too.
    fn distrust(&mut self, error: &rusqlite::Error, now: Timestamp) {
        self.trust = match trouble(error) {
            Trouble::Corrupt | Trouble::Odd => Trust::Damaged,
            Trouble::Full | Trouble::Failing => Trust::Check,
        };
        self.degrade(error.to_string(), now);
    }

    /// Writes until the store is closed.
    pub fn run(mut self, ops: &mpsc::Receiver<Op>) {
        let tick = self.settings.probe_every.min(SHOW);
        loop {
            self.tick(Timestamp::now());
            match ops.recv_timeout(tick) {
                Ok(first) => {
                    let mut group = vec![first];
                    group.extend(ops.try_iter().take(GROUP - 1));
                    self.shown.queued.fetch_sub(group.len(), Ordering::Relaxed);
                    self.write(group, Timestamp::now());
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.heal(Timestamp::now());
                    return;
                }
            }
        }
    }

    /// What is due.
    pub fn tick(&mut self, now: Timestamp) {
        if self.db.is_none() && due(Some(self.probed), self.settings.probe_every, now) {
            self.heal(now);
        }
        if due(self.upkept, UPKEEP, now) {
            self.upkept = Some(now);
            self.upkeep(now);
        }
        if self.changed && due(self.counted, SHOW, now) {
            self.show(now);
        }
    }

    /// Writes a group as one transaction, or holds it in memory.
    pub fn write(&mut self, ops: Vec<Op>, now: Timestamp) {
        self.changed = true;
        let mut turn = Turn::First;
        for mends in 0.. {
            let Some(db) = self.db.as_mut() else { break };
            let begun = Instant::now();
            let problem = match transact(db, &ops, &self.adopted, turn, now) {
                Ok(done) => {
                    self.count_commit(begun.elapsed());
                    self.answer(ops, done, now);
                    return;
                }
                Err(problem) => problem,
            };
            turn = Turn::Again;
            let kind = trouble(&problem);
            if kind == Trouble::Odd {
                return self.one_by_one(ops, &problem, now);
            }
            self.unflushed |= kind == Trouble::Failing;
            if mends >= MENDS || !self.mend(kind, &problem, now) {
                if self.db.is_some() {
                    self.trust = match kind {
                        Trouble::Full => Trust::Sound,
                        Trouble::Corrupt => Trust::Damaged,
                        Trouble::Failing | Trouble::Odd => Trust::Check,
                    };
                    self.degrade(problem.to_string(), now);
                }
                break;
            }
        }
        self.hold(ops, now);
    }

    /// One write spoils the group: the others go by themselves, and it is dropped.
    fn one_by_one(&mut self, ops: Vec<Op>, problem: &rusqlite::Error, now: Timestamp) {
        if ops.len() > 1 {
            for op in ops {
                self.write(vec![op], now);
            }
            return;
        }
        error!("the outbox refused a write: {problem}");
        self.state.dropped += 1;
        for op in ops {
            if let Op::Commit { change, ids, reply } = op {
                let _ = reply.send(Committed {
                    rows: rows(&change, &ids),
                    outcome: Outcome::InMemory,
                });
            }
        }
    }

    /// Tries to remove the cause of a failure; whether it is worth another try.
    fn mend(&mut self, kind: Trouble, problem: &rusqlite::Error, now: Timestamp) -> bool {
        warn!("the outbox could not be written: {problem}");
        match kind {
            Trouble::Full => {
                let freed = self.ballast.release();
                if freed {
                    error!("the disk is full: the ballast of the outbox was freed");
                    self.upkept = Some(now);
                }
                freed && self.limit().is_ok()
            }
            Trouble::Failing | Trouble::Corrupt => {
                self.trust = match kind {
                    Trouble::Corrupt => Trust::Damaged,
                    _ => Trust::Check,
                };
                match self.reopen(now) {
                    Ok(()) => true,
                    Err(why) => {
                        self.degrade(why, now);
                        false
                    }
                }
            }
            Trouble::Odd => false,
        }
    }

    /// Opens the file anew.
    fn reopen(&mut self, now: Timestamp) -> Result<(), String> {
        self.db = None;
        let opened = file::open(&self.folder, MIGRATIONS, self.trust, now);
        let opened = opened.map_err(|error| error.to_string())?;
        self.trust = Trust::Check;
        if let Some(aside) = opened.aside {
            if self.state.aside.as_ref() != Some(&aside) {
                error!("{} is not used: {}", aside.path.display(), aside.why);
            }
            self.state.aside = Some(aside);
        }
        if self.unflushed {
            file::flush(&opened.db).map_err(|error| error.to_string())?;
            self.unflushed = false;
        }
        self.db = Some(opened.db);
        self.limit().map_err(|error| error.to_string())?;
        let mut shown = self.shown.file();
        *shown = (shown.0 + 1, Some(opened.path));
        Ok(())
    }

    /// Leaves room for the ballast where the size is limited.
    fn limit(&self) -> rusqlite::Result<()> {
        let (Some(db), Some(most)) = (&self.db, self.settings.max_bytes) else {
            return Ok(());
        };
        let page: i64 = db.pragma_query_value(None, "page_size", |r| r.get(0))?;
        let pages = sql::integer(most.saturating_sub(self.ballast.bytes())) / page.max(1);
        db.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))
    }

    fn degrade(&mut self, why: String, now: Timestamp) {
        self.db = None;
        self.probed = now;
        if free_bytes(&self.folder) < ROOM && self.ballast.release() {
            error!("the disk is full: the ballast of the outbox was freed");
        }
        if self.state.degraded.is_none() {
            error!("the outbox is in memory only: {why}");
            self.state.degradations += 1;
        }
        self.state.degraded = Some(why);
        self.show(now);
    }

    /// Tries a disk that did not work, and writes what was held.
    pub fn heal(&mut self, now: Timestamp) {
        if self.db.is_some() {
            return;
        }
        self.probed = now;
        if let Err(why) = self.reopen(now) {
            return self.degrade(why, now);
        }
        // Before what was held is written, so that it is not handed out a second time.
        if !self.loaded
            && let Some(db) = &self.db
        {
            match read(db, &self.settings, now) {
                Ok(late) => {
                    self.loaded = true;
                    let aside = self.state.aside.clone();
                    *self.shown.late() = Some(Loaded { aside, ..late });
                }
                Err(error) => return self.distrust(&error, now),
            }
        }
        match self.catch_up() {
            Ok(adopted) => {
                self.adopted.extend(adopted);
                self.state.changes += self.backlog.changes() as u64;
                self.backlog = Backlog::new(self.settings.memory_rows);
                self.state.degraded = None;
                info!("the outbox is on disk again");
                self.show(now);
            }
            Err(problem) => {
                let kind = trouble(&problem);
                self.trust = match kind {
                    Trouble::Corrupt => Trust::Damaged,
                    Trouble::Full => Trust::Sound,
                    Trouble::Failing | Trouble::Odd => Trust::Check,
                };
                self.unflushed |= kind == Trouble::Failing;
                if kind == Trouble::Full {
                    self.ballast.release();
                }
                self.degrade(problem.to_string(), now);
            }
        }
    }

    fn catch_up(&mut self) -> rusqlite::Result<Vec<(i64, i64)>> {
        let Some(db) = self.db.as_mut() else {
            return Ok(Vec::new());
        };
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.backlog.write_fates(&tx)?;
        tx.commit()?;
        self.backlog.forget_fates();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let adopted = self.backlog.write(&tx)?;
        tx.commit()?;
        Ok(adopted)
    }

    fn answer(&mut self, ops: Vec<Op>, done: Vec<Done>, now: Timestamp) {
        let mut gone = Vec::new();
        for (op, done) in ops.into_iter().zip(done) {
            match (op, done) {
                (Op::Commit { change, ids, reply }, Done::Commit(outcome, rows)) => {
                    match outcome {
                        Outcome::Stale => {
                            warn!(
                                key = change.key,
                                "a change of an older occurrence was refused"
                            );
                            self.state.stale += 1;
                        }
                        Outcome::Repeated => self.state.repeated += 1,
                        _ => self.state.changes += 1,
                    }
                    let named = ids.iter().zip(&rows);
                    let named = named.filter_map(|(id, row)| Some((*id, row.as_ref()?.id)));
                    let named: Vec<(i64, i64)> = named.collect();
                    let rows = rows.into_iter().flatten().collect();
                    if reply.send(Committed { rows, outcome }).is_err() {
                        self.adopted.extend(named);
                    }
                }
                (Op::Compact { reply, .. }, Done::Compact(mut compacted)) => {
                    // Whoever sends some of them may know them by the names they had in memory.
                    let removed = &mut compacted.removed;
                    let known = |_: &i64, id: &mut i64| removed.binary_search(id).is_ok();
                    let named: Vec<i64> = self.adopted.extract_if(known).map(|(n, _)| n).collect();
                    removed.extend(named);
                    let _ = reply.send(Some(compacted));
                }
                (
                    Op::Sending { reply, .. } | Op::Mute { reply, .. } | Op::Note { reply, .. },
                    _,
                ) => {
                    let _ = reply.send(Kept::Durably);
                }
                (Op::Flush { reply }, _) => {
                    self.show(now);
                    let _ = reply.send(Kept::Durably);
                }
                (Op::Gone { ids }, _) => gone.extend(ids),
                (Op::Dead { id, .. }, _) => gone.push(id),
                _ => {}
            }
        }
        for id in gone {
            self.adopted.remove(&id);
        }
    }

    /// Keeps writes in memory and answers from there.
    fn hold(&mut self, ops: Vec<Op>, now: Timestamp) {
        for op in ops {
            match op {
                Op::Commit { change, ids, reply } => {
                    let rows = rows(&change, &ids);
                    let (outcome, lost) = self.backlog.change(change, rows.clone());
                    self.state.dropped += lost as u64;
                    let rows = match outcome {
                        Outcome::InMemory => rows,
                        _ => Vec::new(),
                    };
                    let _ = reply.send(Committed { rows, outcome });
                }
                Op::Sending { id, reply } => {
                    self.fate(id, Fate::Sending);
                    let _ = reply.send(Kept::InMemory);
                }
                Op::Tried { id, tried } => self.fate(id, Fate::Tried(tried)),
                Op::Dead { id, error } => self.fate(id, Fate::Dead(now, error)),
                Op::Gone { ids } => {
                    for id in ids {
                        self.fate(id, Fate::Gone);
                    }
                }
                Op::Compact { reply, .. } => {
                    let _ = reply.send(None);
                }
                Op::Mute { id, doc, reply } => {
                    self.backlog.mute(id, doc);
                    let _ = reply.send(Kept::InMemory);
                }
                Op::Note { note, reply } => {
                    self.state.dropped += self.backlog.note(note) as u64;
                    let _ = reply.send(Kept::InMemory);
                }
                Op::Flush { reply } => {
                    self.show(now);
                    let _ = reply.send(Kept::InMemory);
                }
            }
        }
    }

    fn fate(&mut self, id: i64, fate: Fate) {
        let last = matches!(fate, Fate::Gone | Fate::Dead(..));
        let named = self.adopted.get(&id).copied();
        self.backlog.fate(named.unwrap_or(id), fate);
        if last {
            self.adopted.remove(&id);
        }
    }

    fn upkeep(&mut self, now: Timestamp) {
        let pruned = match self.db.as_mut() {
            None => return,
            Some(db) => prune(db, &self.settings, now),
        };
        if let Err(problem) = pruned {
            warn!("old rows of the outbox could not be deleted: {problem}");
        }
        let free = self.free().unwrap_or(0);
        if let Err(problem) = self.ballast.restore(free) {
            warn!("the ballast of the outbox could not be written: {problem}");
        }
        if let Err(problem) = self.limit() {
            warn!("the size of the outbox could not be limited: {problem}");
        }
        self.changed = true;
    }

    /// Bytes that may still be written.
    fn free(&self) -> rusqlite::Result<u64> {
        let disk = free_bytes(&self.folder);
        let (Some(db), Some(most)) = (&self.db, self.settings.max_bytes) else {
            return Ok(disk);
        };
        let get = |name| db.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
        let used = (get("page_count")? - get("freelist_count")?) * get("page_size")?;
        let taken = u64::try_from(used).unwrap_or(0) + self.ballast.bytes();
        Ok(disk.min(most.saturating_sub(taken)))
    }

    fn count_commit(&mut self, took: Duration) {
        let secs = took.as_secs_f64();
        let bucket = COMMIT_SECS.partition_point(|bound| *bound < secs);
        if let Some(count) = self.state.commit_secs.get_mut(bucket) {
            *count += 1;
        }
        self.state.commit_secs_sum += secs;
        self.state.commits += 1;
    }

    /// Counts, and lets others see.
    fn show(&mut self, now: Timestamp) {
        self.changed = false;
        self.counted = Some(now);
        if let Some(Ok((waiting, dead))) = self.db.as_ref().map(sql::counts) {
            self.waiting = waiting;
            self.state.dead = dead;
        }
        self.state.waiting = self.waiting.iter().cloned().collect();
        self.state.in_memory_rows = 0;
        for (receiver, rows) in self.backlog.waiting() {
            *self.state.waiting.entry(receiver.to_owned()).or_default() += rows;
            self.state.in_memory_rows += rows;
        }
        if let Some(path) = &self.shown.file().1 {
            let size = |end| std::fs::metadata(file::with_end(path, end)).map_or(0, |f| f.len());
            self.state.size_bytes = size("") + size("-wal");
        }
        self.state.ballast = self.ballast.stands();
        *self.shown.lock() = self.state.clone();
    }
}

/// What there is to go on with.
fn read(db: &Connection, settings: &Settings, now: Timestamp) -> rusqlite::Result<Loaded> {
    let since = now.checked_sub(settings.load_resolved);
    Ok(Loaded {
        incidents: sql::incidents(db, since.unwrap_or(Timestamp::MIN))?,
        waiting: sql::waiting(db)?,
        mutes: sql::mutes(db)?,
        ..Loaded::default()
    })
}

/// Rows of a change that are not on disk.
fn rows(change: &Change, ids: &[i64]) -> Vec<Row> {
    let messages = change.outgoing.iter().zip(ids);
    let rows = messages.map(|(message, id)| Row {
        id: *id,
        message: message.clone(),
        created: change.at,
        due: change.at,
        attempts: 0,
        maybe_sent: false,
    });
    rows.collect()
}

fn prune(db: &mut Connection, settings: &Settings, now: Timestamp) -> rusqlite::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    sql::prune(&tx, settings, now)?;
    tx.commit()
}

/// A group as one transaction.
fn transact(
    db: &mut Connection,
    ops: &[Op],
    adopted: &HashMap<i64, i64>,
    turn: Turn,
    now: Timestamp,
) -> rusqlite::Result<Vec<Done>> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Rows of this group may be named by names in memory already, when their sender did not wait.
    let mut named = HashMap::new();
    let mut all = Vec::with_capacity(ops.len());
    for op in ops {
        let real = |id: &i64| named.get(id).or(adopted.get(id)).copied().unwrap_or(*id);
        let mut done = Done::Other;
        match op {
            Op::Commit { change, ids, .. } => {
                let (outcome, rows) = sql::commit(&tx, change, turn)?;
                let rows_named = ids.iter().zip(&rows);
                let rows_named = rows_named.filter_map(|(id, row)| Some((*id, row.as_ref()?.id)));
                named.extend(rows_named);
                done = Done::Commit(outcome, rows);
            }
            Op::Sending { id, .. } => sql::sending(&tx, real(id))?,
            Op::Tried { id, tried } => sql::tried(&tx, real(id), tried)?,
            Op::Dead { id, error } => sql::dead(&tx, real(id), error, now)?,
            Op::Gone { ids } => {
                for id in ids {
                    sql::gone(&tx, real(id))?;
                }
            }
            Op::Compact {
                receiver,
                busy,
                digest,
                ..
            } => {
                let busy: Vec<i64> = busy.iter().map(real).collect();
                done = Done::Compact(sql::compact(&tx, receiver, &busy, digest, now)?);
            }
            Op::Mute { id, doc, .. } => sql::mute(&tx, id, doc.as_deref())?,
            Op::Note { note, .. } => sql::note(&tx, note)?,
            Op::Flush { .. } => {}
        }
        all.push(done);
    }
    tx.commit()?;
    Ok(all)
}

/// Whether a time is over; a clock that was set back makes everything due.
fn due(last: Option<Timestamp>, every: Duration, now: Timestamp) -> bool {
    last.is_none_or(|last| now < last || now.duration_since(last).unsigned_abs() >= every)
}

#[cfg(test)]
impl Engine {
    /// Makes SQLite read the file again.
    pub fn forget_pages(&self) {
        if let Some(db) = &self.db {
            let _ = db.execute_batch("PRAGMA shrink_memory");
        }
    }
}
