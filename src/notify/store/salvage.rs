//! What can still be read of a damaged file. Tables are read from both ends up to the first damage.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row as SqlRow};

use super::{Row, Stored, sql};

/// Names of news; anything else is damage.
const NEWS: [&str; 5] = ["raised", "updated", "acknowledged", "resolved", "digest"];

type Dead = Option<(i64, String)>;

/// Rows that were readable, by their ids.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    incidents: BTreeMap<i64, Stored>,
    rows: BTreeMap<i64, (Row, Dead)>,
    mutes: BTreeMap<String, String>,
    notes: BTreeMap<i64, sql::Note>,
}

impl Salvage {
    pub fn of(path: &Path) -> Self {
        let mut found = Self::default();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Ok(db) = Connection::open_with_flags(path, flags) else {
            return found;
        };
        let (row, stored) = (sql::ROW, sql::STORED);
        for order in ["", " DESC"] {
            each(
                &db,
                &format!("SELECT {stored}, rowid FROM incident ORDER BY rowid{order}"),
                |r| {
                    let incident = sql::stored(r)?;
                    if is_json(&incident.doc) {
                        found.incidents.insert(r.get(6)?, incident);
                    }
                    Ok(())
                },
            );
            each(
                &db,
                &format!("SELECT {row}, dead_ms, error FROM outbox ORDER BY id{order}"),
                |r| {
                    let row = sql::row(r)?;
                    let dead: Option<i64> = r.get(11)?;
                    let error: Option<String> = r.get(12)?;
                    if NEWS.contains(&&*row.message.news) {
                        let dead = dead.map(|at| (at, error.unwrap_or_default()));
                        found.rows.insert(row.id, (row, dead));
                    }
                    Ok(())
                },
            );
            each(
                &db,
                &format!("SELECT id, doc FROM mute ORDER BY id{order}"),
                |r| {
                    let doc: String = r.get(1)?;
                    if is_json(&doc) {
                        found.mutes.insert(r.get(0)?, doc);
                    }
                    Ok(())
                },
            );
            each(
                &db,
                &format!("SELECT rowid, kind, id, at_ms, doc FROM note ORDER BY rowid{order}"),
                |r| {
                    let note = sql::Note {
                        kind: r.get(1)?,
                        id: r.get(2)?,
                        at: sql::timestamp(r.get(3)?),
                        doc: r.get(4)?,
                    };
                    found.notes.insert(r.get(0)?, note);
                    Ok(())
                },
            );
        }
        found
    }

    /// Writes all into a fresh file and says what it was.
    pub fn write(&self, db: &mut Connection) -> rusqlite::Result<String> {
        let tx = db.transaction()?;
        for incident in self.incidents.values() {
            sql::put_incident(&tx, incident)?;
        }
        for (row, dead) in self.rows.values() {
            sql::put_row(&tx, row, dead.clone())?;
        }
        for (id, doc) in &self.mutes {
            sql::mute(&tx, id, Some(doc))?;
        }
        for note in self.notes.values() {
            sql::note(&tx, note)?;
        }
        tx.commit()?;
        Ok(format!(
            "{} incidents, {} messages, {} mutes, {} notes",
            self.incidents.len(),
            self.rows.len(),
            self.mutes.len(),
            self.notes.len()
        ))
    }
}

/// Reads until it cannot go on; a row that makes no sense is left out.
fn each(db: &Connection, query: &str, mut take: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<()>) {
    let Ok(mut query) = db.prepare(query) else {
        return;
    };
    let Ok(mut rows) = query.query([]) else {
        return;
    };
    while let Ok(Some(row)) = rows.next() {
        let _ = take(row);
    }
}

fn is_json(doc: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(doc).is_ok()
}
