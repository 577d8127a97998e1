//! What the outbox says to SQLite. Everything here runs inside the caller's transaction.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, Row as SqlRow, params};

use super::{Change, Compacted, Outcome, Outgoing, Phase, Row, Settings, Stored, Tried};

/// Rows that one pass of [`prune`] takes from a table, so that no pass keeps an alert waiting.
const PRUNE_ROWS: i64 = 1000;

/// Something to be kept that is nobody's message.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub kind: String,
    pub id: String,
    pub doc: String,
    pub at: Timestamp,
}

pub(super) fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

pub(super) fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn count(rows: i64) -> usize {
    usize::try_from(rows).unwrap_or(0)
}

fn millis(of: std::time::Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

/// Columns that [`row`] reads.
pub(super) const ROW: &str = "id, receiver, key, incarnation, sequence, news, body, created_ms, \
     due_ms, attempts, maybe_sent";

pub(super) fn row(r: &SqlRow<'_>) -> Result<Row> {
    Ok(Row {
        id: r.get(0)?,
        message: Outgoing {
            receiver: r.get::<_, String>(1)?.into(),
            key: r.get(2)?,
            incarnation: unsigned(r.get(3)?),
            sequence: unsigned(r.get(4)?),
            news: r.get::<_, String>(5)?.into(),
            body: r.get(6)?,
        },
        created: timestamp(r.get(7)?),
        due: timestamp(r.get(8)?),
        attempts: r.get(9)?,
        maybe_sent: r.get(10)?,
    })
}

/// Columns that [`stored`] reads.
pub(super) const STORED: &str = "key, incarnation, sequence, over, at_ms, doc";

pub(super) fn stored(r: &SqlRow<'_>) -> Result<Stored> {
    Ok(Stored {
        key: r.get(0)?,
        incarnation: unsigned(r.get(1)?),
        sequence: unsigned(r.get(2)?),
        phase: match r.get(3)? {
            false => Phase::Open,
            true => Phase::Over,
        },
        at: timestamp(r.get(4)?),
        doc: r.get(5)?,
    })
}

/// Whether a change was tried before, with an error that does not say whether it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// No.
    First,
    /// Yes: what is there already may be its own work.
    Again,
}

/// Writes a change with its messages; for each of them the row that is to be sent, if any.
pub(super) fn commit(
    db: &Connection,
    change: &Change,
    turn: Turn,
) -> Result<(Outcome, Vec<Option<Row>>)> {
    let outcome = keep(db, change)?;
    let own = turn == Turn::Again && outcome == Outcome::Repeated;
    let mut rows = Vec::with_capacity(change.outgoing.len());
    for message in &change.outgoing {
        rows.push(match outcome {
            Outcome::Durable => send(db, message, change.at)?,
            _ if own => find(db, message)?,
            _ => None,
        });
    }
    Ok((if own { Outcome::Durable } else { outcome }, rows))
}

/// Writes the state of an incident, unless it is older than what is known.
pub(super) fn keep(db: &Connection, change: &Change) -> Result<Outcome> {
    let (incarnation, sequence) = (integer(change.incarnation), integer(change.sequence));
    let known: Option<i64> = db
        .prepare_cached("SELECT sequence FROM incident WHERE key = ?1 AND incarnation = ?2")?
        .query_row(params![change.key, incarnation], |r| r.get(0))
        .optional()?;
    if known.is_some_and(|known| known >= sequence) {
        return Ok(Outcome::Repeated);
    }
    let newest: Option<i64> = db
        .prepare_cached("SELECT MAX(incarnation) FROM incident WHERE key = ?1")?
        .query_row([&change.key], |r| r.get(0))?;
    if change.phase == Phase::Open && newest.is_some_and(|newest| newest > incarnation) {
        return Ok(Outcome::Stale);
    }
    put_incident(
        db,
        &Stored {
            key: change.key.clone(),
            incarnation: change.incarnation,
            sequence: change.sequence,
            phase: change.phase,
            at: change.at,
            doc: change.doc.clone(),
        },
    )?;
    Ok(Outcome::Durable)
}

/// The row of a message, if it waits.
fn find(db: &Connection, message: &Outgoing) -> Result<Option<Row>> {
    db.prepare_cached(&format!(
        "SELECT {ROW} FROM outbox WHERE receiver = ?1 AND key = ?2 AND incarnation = ?3
             AND sequence = ?4 AND dead_ms IS NULL"
    ))?
    .query_row(
        params![
            &*message.receiver,
            message.key,
            integer(message.incarnation),
            integer(message.sequence)
        ],
        row,
    )
    .optional()
}

/// Writes an incident unless a later change of it is there.
pub(super) fn put_incident(db: &Connection, incident: &Stored) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO incident (key, incarnation, sequence, over, at_ms, doc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (key, incarnation) DO UPDATE
         SET sequence = excluded.sequence, over = excluded.over, at_ms = excluded.at_ms,
             doc = excluded.doc
         WHERE excluded.sequence > sequence",
    )?
    .execute(params![
        incident.key,
        integer(incident.incarnation),
        integer(incident.sequence),
        incident.phase == Phase::Over,
        ms(incident.at),
        incident.doc,
    ])
    .map(drop)
}

/// Adds a message; `None` when it was there.
fn send(db: &Connection, message: &Outgoing, at: Timestamp) -> Result<Option<Row>> {
    let id: Option<i64> = db
        .prepare_cached(
            "INSERT INTO outbox
                 (receiver, key, incarnation, sequence, news, body, created_ms, due_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
             ON CONFLICT (receiver, key, incarnation, sequence) DO NOTHING
             RETURNING id",
        )?
        .query_row(
            params![
                &*message.receiver,
                message.key,
                integer(message.incarnation),
                integer(message.sequence),
                &*message.news,
                message.body,
                ms(at),
            ],
            |r| r.get(0),
        )
        .optional()?;
    Ok(id.map(|id| Row {
        id,
        message: message.clone(),
        created: timestamp(ms(at)),
        due: timestamp(ms(at)),
        attempts: 0,
        maybe_sent: false,
    }))
}

pub(super) fn sending(db: &Connection, id: i64) -> Result<()> {
    db.prepare_cached("UPDATE outbox SET maybe_sent = 1 WHERE id = ?1")?
        .execute([id])
        .map(drop)
}

pub(super) fn gone(db: &Connection, id: i64) -> Result<()> {
    db.prepare_cached("DELETE FROM outbox WHERE id = ?1")?
        .execute([id])
        .map(drop)
}

pub(super) fn tried(db: &Connection, id: i64, tried: &Tried) -> Result<()> {
    db.prepare_cached(
        "UPDATE outbox SET due_ms = ?2, attempts = ?3, error = ?4, maybe_sent = ?5 WHERE id = ?1",
    )?
    .execute(params![
        id,
        ms(tried.due),
        tried.attempts,
        tried.error,
        tried.maybe_sent
    ])
    .map(drop)
}

pub(super) fn dead(db: &Connection, id: i64, error: &str, now: Timestamp) -> Result<()> {
    db.prepare_cached("UPDATE outbox SET dead_ms = ?2, error = ?3 WHERE id = ?1")?
        .execute(params![id, ms(now), error])
        .map(drop)
}

pub(super) fn mute(db: &Connection, id: &str, doc: Option<&str>) -> Result<()> {
    match doc {
        Some(doc) => db
            .prepare_cached(
                "INSERT INTO mute (id, doc) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET doc = excluded.doc",
            )?
            .execute([id, doc])
            .map(drop),
        None => db
            .prepare_cached("DELETE FROM mute WHERE id = ?1")?
            .execute([id])
            .map(drop),
    }
}

pub(super) fn note(db: &Connection, note: &Note) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO note (kind, id, at_ms, doc) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (kind, id) DO UPDATE SET at_ms = excluded.at_ms, doc = excluded.doc",
    )?
    .execute(params![note.kind, note.id, ms(note.at), note.doc])
    .map(drop)
}

/// See [`super::Store::compact`]. What nobody was told of goes first, so that its updates are not counted twice.
pub(super) fn compact(
    db: &Connection,
    receiver: &str,
    busy: &[i64],
    digest: &dyn Fn(&[String]) -> Outgoing,
    now: Timestamp,
) -> Result<Compacted> {
    let busy = format!(
        "[{}]",
        busy.iter()
            .map(i64::to_string)
            .collect::<Vec<_>>()
            .join(",")
    );
    // All that waits of it, from raised to resolved, and none of it ever left.
    let untold: Vec<(String, i64, String)> = db
        .prepare_cached(
            "SELECT o.key, o.incarnation, i.doc
             FROM outbox o JOIN incident i ON i.key = o.key AND i.incarnation = o.incarnation
             WHERE o.receiver = ?1 AND o.dead_ms IS NULL
             GROUP BY o.key, o.incarnation
             HAVING MIN(o.sequence) = MIN(CASE o.news WHEN 'raised' THEN o.sequence END)
                AND MAX(o.sequence) = MAX(CASE o.news WHEN 'resolved' THEN o.sequence END)
                AND MAX(o.maybe_sent) = 0
                AND MAX(o.id IN (SELECT value FROM json_each(?2))) = 0
             ORDER BY MIN(o.id)",
        )?
        .query_map([receiver, &busy], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
        .collect::<Result<_>>()?;
    let mut done = Compacted::default();
    for (key, incarnation, doc) in untold {
        let ids = db
            .prepare_cached(
                "DELETE FROM outbox
                 WHERE receiver = ?1 AND key = ?2 AND incarnation = ?3 AND dead_ms IS NULL
                 RETURNING id",
            )?
            .query_map(params![receiver, key, incarnation], |r| r.get::<_, i64>(0))?
            .collect::<Result<Vec<_>>>()?;
        done.removed.extend(ids);
        done.docs.push(doc);
    }
    let needless = db
        .prepare_cached(
            "DELETE FROM outbox
             WHERE receiver = ?1 AND news = 'updated' AND dead_ms IS NULL
               AND id NOT IN (SELECT value FROM json_each(?2))
               AND EXISTS (
                   SELECT 1 FROM outbox n
                   WHERE n.receiver = outbox.receiver AND n.key = outbox.key
                     AND n.incarnation = outbox.incarnation AND n.sequence > outbox.sequence
                     AND n.news IN ('updated', 'resolved') AND n.dead_ms IS NULL)
             RETURNING id",
        )?
        .query_map([receiver, &busy], |r| r.get::<_, i64>(0))?
        .collect::<Result<Vec<_>>>()?;
    done.removed.extend(needless);
    done.removed.sort_unstable();
    if !done.docs.is_empty() {
        let message = digest(&done.docs);
        // A digest that was there already would let the incidents vanish: then nothing is done at all.
        done.digest =
            Some(send(db, &message, now)?.ok_or(rusqlite::Error::StatementChangedRows(0))?);
    }
    Ok(done)
}

/// Open incidents and those that were resolved after `since`.
pub(super) fn incidents(db: &Connection, since: Timestamp) -> Result<Vec<Stored>> {
    db.prepare(&format!(
        "SELECT {STORED} FROM incident WHERE over = 0 OR (over = 1 AND at_ms >= ?1)
         ORDER BY at_ms, key, incarnation"
    ))?
    .query_map([ms(since)], stored)?
    .collect()
}

/// All that waits, in order.
pub(super) fn waiting(db: &Connection) -> Result<Vec<Row>> {
    db.prepare(&format!(
        "SELECT {ROW} FROM outbox WHERE dead_ms IS NULL ORDER BY id"
    ))?
    .query_map([], row)?
    .collect()
}

pub(super) fn mutes(db: &Connection) -> Result<Vec<String>> {
    db.prepare_cached("SELECT doc FROM mute ORDER BY id")?
        .query_map([], |r| r.get(0))?
        .collect()
}

/// Messages that wait, by receiver, and how many were given up.
pub(super) fn counts(db: &Connection) -> Result<(Vec<(String, usize)>, usize)> {
    let waiting = db
        .prepare_cached(
            "SELECT receiver, COUNT(*) FROM outbox WHERE dead_ms IS NULL GROUP BY receiver",
        )?
        .query_map([], |r| Ok((r.get(0)?, count(r.get(1)?))))?
        .collect::<Result<_>>()?;
    let dead = db
        .prepare_cached("SELECT COUNT(*) FROM outbox WHERE dead_ms IS NOT NULL")?
        .query_row([], |r| r.get(0).map(count))?;
    Ok((waiting, dead))
}

/// Deletes some of what is too old or too much; returns how many rows.
pub(super) fn prune(db: &Connection, settings: &Settings, now: Timestamp) -> Result<usize> {
    let before = |keep| ms(now).saturating_sub(millis(keep));
    let rows = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let old = db
        .prepare_cached(
            "DELETE FROM incident WHERE rowid IN
                 (SELECT rowid FROM incident WHERE over = 1 AND at_ms < ?1 LIMIT ?2)",
        )?
        .execute([before(settings.keep_resolved), PRUNE_ROWS])?;
    let many = db
        .prepare_cached(
            "DELETE FROM incident WHERE rowid IN
                 (SELECT rowid FROM incident WHERE over = 1
                  ORDER BY at_ms DESC LIMIT ?2 OFFSET ?1)",
        )?
        .execute([rows(settings.keep_resolved_rows), PRUNE_ROWS])?;
    let dead = db
        .prepare_cached(
            "DELETE FROM outbox WHERE id IN
                 (SELECT id FROM outbox WHERE dead_ms < ?1 LIMIT ?2)",
        )?
        .execute([before(settings.keep_dead), PRUNE_ROWS])?;
    let notes = db
        .prepare_cached(
            "DELETE FROM note WHERE rowid IN
                 (SELECT rowid FROM note ORDER BY at_ms DESC LIMIT ?2 OFFSET ?1)",
        )?
        .execute([rows(settings.keep_notes_rows), PRUNE_ROWS])?;
    Ok(old + many + dead + notes)
}

/// Given up, newest first.
pub(super) fn dead_letters(db: &Connection, limit: usize) -> Result<Vec<(Row, Timestamp, String)>> {
    db.prepare_cached(&format!(
        "SELECT {ROW}, dead_ms, COALESCE(error, '') FROM outbox WHERE dead_ms IS NOT NULL
         ORDER BY dead_ms DESC, id DESC LIMIT ?1"
    ))?
    .query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |r| {
        Ok((row(r)?, timestamp(r.get(11)?), r.get(12)?))
    })?
    .collect()
}

/// Incidents that last changed before a time, newest first.
pub(super) fn history(
    db: &Connection,
    limit: usize,
    before: Option<Timestamp>,
) -> Result<Vec<Stored>> {
    db.prepare_cached(&format!(
        "SELECT {STORED} FROM incident WHERE at_ms < ?1
         ORDER BY at_ms DESC, key, incarnation LIMIT ?2"
    ))?
    .query_map(
        [
            before.map_or(i64::MAX, ms),
            i64::try_from(limit).unwrap_or(i64::MAX),
        ],
        stored,
    )?
    .collect()
}

/// Notes of a kind, newest first.
pub(super) fn notes(db: &Connection, kind: &str, limit: usize) -> Result<Vec<String>> {
    db.prepare_cached("SELECT doc FROM note WHERE kind = ?1 ORDER BY at_ms DESC, id DESC LIMIT ?2")?
        .query_map(
            params![kind, i64::try_from(limit).unwrap_or(i64::MAX)],
            |r| r.get(0),
        )?
        .collect()
}

/// Writes a row as it was, under its own id.
pub(super) fn put_row(db: &Connection, row: &Row, died: Option<(i64, String)>) -> Result<()> {
    let (dead, error) = died.unzip();
    db.prepare_cached(&format!(
        "INSERT OR IGNORE INTO outbox ({ROW}, dead_ms, error)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
    ))?
    .execute(params![
        row.id,
        &*row.message.receiver,
        row.message.key,
        integer(row.message.incarnation),
        integer(row.message.sequence),
        &*row.message.news,
        row.message.body,
        ms(row.created),
        ms(row.due),
        row.attempts,
        row.maybe_sent,
        dead,
        error,
    ])
    .map(drop)
}

/// Gives a message that was held in memory its row, as it was tried meanwhile; returns the id.
pub(super) fn adopt(
    db: &Connection,
    held: &Row,
    died: Option<&(Timestamp, String)>,
) -> Result<Option<i64>> {
    let row = match send(db, &held.message, held.created)? {
        Some(row) => Some(row),
        None => find(db, &held.message)?,
    };
    let Some(Row { id, .. }) = row else {
        return Ok(None);
    };
    db.prepare_cached(
        "UPDATE outbox SET due_ms = ?2, attempts = ?3, maybe_sent = ?4 WHERE id = ?1",
    )?
    .execute(params![id, ms(held.due), held.attempts, held.maybe_sent])?;
    if let Some((at, error)) = died {
        dead(db, id, error, *at)?;
    }
    Ok(Some(id))
}
