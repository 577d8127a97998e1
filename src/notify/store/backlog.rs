//! What waits in memory for a disk that does not work. Bounded: the oldest rows go first, which were handed out for
//! sending long ago.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use rusqlite::Connection;

use super::{Change, Outcome, Phase, Row, Tried, sql};

/// What is to happen to a row of the file.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    Sending,
    Tried(Tried),
    Dead(Timestamp, String),
    Gone,
}

/// A message in memory.
#[derive(Debug)]
struct Letter {
    row: Row,
    dead: Option<(Timestamp, String)>,
}

/// A change without its messages, and those that are not delivered.
#[derive(Debug)]
struct Held {
    change: Change,
    letters: Vec<Letter>,
}

#[derive(Debug)]
pub(super) struct Backlog {
    limit: usize,
    changes: VecDeque<Held>,
    letters: usize,
    fates: BTreeMap<i64, Fate>,
    mutes: BTreeMap<String, Option<String>>,
    notes: VecDeque<sql::Note>,
}

impl Backlog {
    /// Holds at most `limit` changes, messages and notes each.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            changes: VecDeque::new(),
            letters: 0,
            fates: BTreeMap::new(),
            mutes: BTreeMap::new(),
            notes: VecDeque::new(),
        }
    }

    /// Changes held.
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// Messages that wait, by receiver.
    pub fn waiting(&self) -> HashMap<&str, usize> {
        let mut count = HashMap::new();
        for letter in self.changes.iter().flat_map(|held| &held.letters) {
            if letter.dead.is_none() {
                *count.entry(&*letter.row.message.receiver).or_default() += 1;
            }
        }
        count
    }

    /// Takes a change and its rows; returns how many older changes and messages had to go.
    pub fn change(&mut self, mut change: Change, rows: Vec<Row>) -> (Outcome, usize) {
        let same = |held: &&Held| held.change.key == change.key;
        for held in self.changes.iter().filter(same) {
            let known = &held.change;
            if known.incarnation == change.incarnation && known.sequence >= change.sequence {
                return (Outcome::Repeated, 0);
            }
            if known.incarnation > change.incarnation && change.phase == Phase::Open {
                return (Outcome::Stale, 0);
            }
        }
        change.outgoing.clear();
        self.letters += rows.len();
        let letters = rows.into_iter().map(|row| Letter { row, dead: None });
        self.changes.push_back(Held {
            change,
            letters: letters.collect(),
        });
        let mut lost = 0;
        while self.changes.len() > self.limit || self.letters > self.limit {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.letters -= oldest.letters.len();
            lost += 1 + oldest.letters.len();
        }
        (Outcome::InMemory, lost)
    }

    /// What is to happen to a row: of the file, or one that is here.
    pub fn fate(&mut self, id: i64, fate: Fate) {
        if id >= 0 {
            self.file_fate(id, fate);
            return;
        }
        for held in &mut self.changes {
            let Some(at) = held.letters.iter().position(|letter| letter.row.id == id) else {
                continue;
            };
            if let Fate::Gone = fate {
                held.letters.remove(at);
                self.letters -= 1;
            } else if let Some(letter) = held.letters.get_mut(at) {
                match fate {
                    Fate::Sending => letter.row.maybe_sent = true,
                    Fate::Tried(tried) => {
                        letter.row.due = tried.due;
                        letter.row.attempts = tried.attempts;
                        letter.row.maybe_sent |= tried.maybe_sent;
                    }
                    Fate::Dead(at, error) => letter.dead = Some((at, error)),
                    Fate::Gone => {}
                }
            }
            return;
        }
    }

    /// The last word counts, but that a receiver may have it is not forgotten.
    fn file_fate(&mut self, id: i64, mut fate: Fate) {
        let before = self.fates.get(&id);
        if let (Fate::Tried(tried), Some(before)) = (&mut fate, before) {
            tried.maybe_sent |= match before {
                Fate::Sending => true,
                Fate::Tried(earlier) => earlier.maybe_sent,
                Fate::Dead(..) | Fate::Gone => false,
            };
        }
        match (&fate, before) {
            (_, Some(Fate::Gone)) | (Fate::Sending, Some(_)) => {}
            _ => {
                self.fates.insert(id, fate);
            }
        }
    }

    pub fn mute(&mut self, id: String, doc: Option<String>) {
        self.mutes.insert(id, doc);
    }

    /// Returns how many older notes had to go.
    pub fn note(&mut self, note: sql::Note) -> usize {
        self.notes.push_back(note);
        let lost = self.notes.len().saturating_sub(self.limit);
        self.notes.drain(..lost);
        lost
    }

    /// Writes what is to happen to rows of the file. It comes first and by itself: on a full disk it makes room.
    pub fn write_fates(&self, db: &Connection) -> rusqlite::Result<()> {
        for (id, fate) in &self.fates {
            match fate {
                Fate::Sending => sql::sending(db, *id)?,
                Fate::Tried(tried) => sql::tried(db, *id, tried)?,
                Fate::Dead(at, error) => sql::dead(db, *id, error, *at)?,
                Fate::Gone => sql::gone(db, *id)?,
            }
        }
        Ok(())
    }

    pub fn forget_fates(&mut self) {
        self.fates.clear();
    }

    /// Writes all else; returns the ids of rows here and in the file.
    pub fn write(&self, db: &Connection) -> rusqlite::Result<Vec<(i64, i64)>> {
        let mut adopted = Vec::new();
        for held in &self.changes {
            if sql::keep(db, &held.change)? == Outcome::Stale {
                continue;
            }
            for letter in &held.letters {
                if let Some(id) = sql::adopt(db, &letter.row, letter.dead.as_ref())?
                    && letter.dead.is_none()
                {
                    adopted.push((letter.row.id, id));
                }
            }
        }
        for (id, doc) in &self.mutes {
            sql::mute(db, id, doc.as_deref())?;
        }
        for note in &self.notes {
            sql::note(db, note)?;
        }
        Ok(adopted)
    }
}
