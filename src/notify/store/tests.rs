#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::Connection;

use super::engine::{Engine, Op};
use super::*;

const SEC: Duration = Duration::from_secs(1);

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(super) fn message(receiver: &str, key: &str, inc: u64, seq: u64, news: &str) -> Outgoing {
    Outgoing {
        receiver: receiver.into(),
        key: key.to_owned(),
        incarnation: inc,
        sequence: seq,
        news: news.into(),
        body: news.to_owned(),
    }
}

pub(super) fn change(key: &str, inc: u64, seq: u64, news: &str, receivers: &[&str]) -> Change {
    Change {
        key: key.to_owned(),
        incarnation: inc,
        sequence: seq,
        phase: match news {
            "resolved" => Phase::Over,
            _ => Phase::Open,
        },
        doc: format!("\"{key}/{inc}/{seq}\""),
        at: now(),
        outgoing: receivers
            .iter()
            .map(|receiver| message(receiver, key, inc, seq, news))
            .collect(),
    }
}

fn small() -> Settings {
    Settings {
        ballast_bytes: 0,
        ..Settings::default()
    }
}

/// An engine without its thread, and names for rows as the store gives them.
struct Rig {
    engine: Engine,
    shown: Arc<Shown>,
    next: i64,
    now: Timestamp,
}

impl Rig {
    fn open(folder: &Path, settings: Settings) -> (Self, Loaded) {
        Self::open_at(folder, settings, now())
    }

    fn open_at(folder: &Path, settings: Settings, now: Timestamp) -> (Self, Loaded) {
        let shown = Arc::new(Shown::default());
        let (engine, loaded) = Engine::open(folder, settings, Arc::clone(&shown), now);
        let rig = Self {
            engine,
            shown,
            next: 0,
            now,
        };
        (rig, loaded)
    }

    fn op(&mut self, change: &Change) -> (Op, oneshot::Receiver<Committed>) {
        let ids = change.outgoing.iter().map(|_| {
            self.next -= 1;
            self.next
        });
        let (reply, answer) = oneshot::channel();
        let op = Op::Commit {
            ids: ids.collect(),
            change: change.clone(),
            reply,
        };
        (op, answer)
    }

    fn commit(&mut self, change: &Change) -> Committed {
        let (op, mut answer) = self.op(change);
        self.engine.write(vec![op], self.now);
        answer.try_recv().unwrap()
    }

    fn write(&mut self, op: Op) {
        self.engine.write(vec![op], self.now);
    }

    fn gone(&mut self, id: i64) {
        self.write(Op::Gone { ids: vec![id] });
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.engine.tick(self.now);
    }

    fn state(&self) -> StoreState {
        self.shown.lock().clone()
    }
}

fn keys(rows: &[Row]) -> Vec<(String, u64, u64)> {
    let name = |row: &Row| {
        let message = &row.message;
        (message.key.clone(), message.incarnation, message.sequence)
    };
    rows.iter().map(name).collect()
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, loaded) = Rig::open(folder.path(), small());
    assert_eq!(loaded, Loaded::default());
    let raised = rig.commit(&change("k", 7, 1, "raised", &["a", "b"]));
    assert_eq!(raised.outcome, Outcome::Durable);
    rig.commit(&change("k", 7, 2, "updated", &["a"]));
    rig.gone(raised.rows[0].id);
    let tried = Tried {
        due: now() + SEC,
        attempts: 3,
        error: "503".to_owned(),
        maybe_sent: true,
    };
    // What was only about to be sent and never left counts for nothing.
    rig.write(Op::Tried {
        id: raised.rows[1].id,
        tried: Tried {
            maybe_sent: false,
            ..tried.clone()
        },
    });
    drop(rig);
    let (mut rig, loaded) = Rig::open(folder.path(), small());
    assert!(!loaded.waiting[0].maybe_sent);
    rig.write(Op::Tried {
        id: raised.rows[1].id,
        tried,
    });
    drop(rig);

    let (_, loaded) = Rig::open(folder.path(), small());
    assert_eq!(
        keys(&loaded.waiting),
        [("k".into(), 7, 1), ("k".into(), 7, 2)]
    );
    let row = &loaded.waiting[0];
    assert_eq!((row.id, &*row.message.receiver), (raised.rows[1].id, "b"));
    assert_eq!((row.attempts, row.due), (3, now() + SEC));
    assert!(row.maybe_sent);
    assert_eq!(loaded.incidents.len(), 1);
    assert_eq!(loaded.incidents[0].doc, "\"k/7/2\"");
}

#[test]
fn the_same_change_twice_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(folder.path(), small());
    let raised = change("k", 1, 1, "raised", &["a"]);
    let first = rig.commit(&raised);
    let again = rig.commit(&raised);
    assert_eq!((again.rows.len(), again.outcome), (0, Outcome::Repeated));
    rig.gone(first.rows[0].id);
    let late = rig.commit(&raised);
    assert_eq!((late.rows.len(), late.outcome), (0, Outcome::Repeated));
}

#[test]
fn the_end_of_an_older_occurrence_leaves_the_newer_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(folder.path(), small());
    rig.commit(&change("k", 1, 1, "raised", &["a"]));
    rig.commit(&change("k", 2, 1, "raised", &["a"]));
    let over = rig.commit(&change("k", 1, 2, "resolved", &["a"]));
    assert_eq!(keys(&over.rows), [("k".into(), 1, 2)]);
    let stale = rig.commit(&change("k", 1, 3, "updated", &["a"]));
    assert_eq!((stale.rows.len(), stale.outcome), (0, Outcome::Stale));
    drop(rig);
    let (_, loaded) = Rig::open(folder.path(), small());
    let phases = loaded.incidents.iter().map(|i| (i.incarnation, i.phase));
    let phases: Vec<_> = phases.collect();
    assert!(phases.contains(&(1, Phase::Over)) && phases.contains(&(2, Phase::Open)));
    assert_eq!(loaded.waiting.len(), 3);
}

#[test]
fn one_refused_write_does_not_spoil_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(folder.path(), small());
    let (good, mut answer) = rig.op(&change("k", 1, 1, "raised", &["a"]));
    let closed = change("c", 1, 1, "raised", &["a"]);
    let over = change("c", 1, 2, "resolved", &["a"]);
    let digest = message("a", "digest", 1, 1, "digest");
    rig.commit(&Change {
        outgoing: vec![digest.clone()],
        ..change("digest", 1, 1, "resolved", &[])
    });
    rig.commit(&closed);
    rig.commit(&over);
    // A digest of a name that is taken cannot be written, so the incidents must not vanish.
    let (reply, mut compacted) = oneshot::channel();
    let compact = Op::Compact {
        receiver: "a".into(),
        busy: Vec::new(),
        digest: Box::new(move |_| digest.clone()),
        reply,
    };
    rig.engine.write(vec![compact, good], rig.now);
    assert!(compacted.try_recv().is_err());
    assert_eq!(answer.try_recv().unwrap().outcome, Outcome::Durable);
    drop(rig);
    let (_, loaded) = Rig::open(folder.path(), small());
    assert_eq!(loaded.waiting.len(), 4);
}

#[test]
fn a_full_disk_frees_the_ballast_then_goes_on_in_memory_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        ballast_bytes: 64 << 10,
        max_bytes: Some(288 << 10),
        ..Settings::default()
    };
    let (mut rig, _) = Rig::open(folder.path(), settings.clone());
    rig.pass(SEC);
    assert!(rig.state().ballast);
    let big = |n: u64| {
        let mut change = change(&format!("k{n}"), 1, 1, "raised", &["a"]);
        change.outgoing[0].body = "x".repeat(8000);
        change
    };
    let mut durable = Vec::new();
    let mut freed = None;
    let mut n = 0;
    let held = loop {
        n += 1;
        let done = rig.commit(&big(n));
        if done.outcome == Outcome::InMemory {
            break done.rows;
        }
        if freed.is_none() && !folder.path().join("ballast").exists() {
            freed = Some(n);
        }
        durable.extend(done.rows);
    };
    assert!(
        freed.is_some_and(|at| at < n - 1),
        "the ballast bought time"
    );
    assert!(rig.state().degraded.is_some_and(|why| why.contains("full")));
    assert!(held.iter().all(|row| row.id < 0));
    let also_held = rig.commit(&big(n + 1)).rows;
    rig.pass(SEC * 5);
    assert!(rig.state().degraded.is_some(), "still full");
    assert_eq!(rig.state().in_memory_rows, 2);

    // Rows that were delivered meanwhile make room.
    for row in durable.drain(..durable.len() - 1) {
        rig.gone(row.id);
    }
    rig.gone(held[0].id);
    rig.pass(SEC);
    assert!(
        rig.state().degraded.is_some(),
        "not tried more often than every 5 s"
    );
    rig.pass(SEC * 5);
    assert_eq!((rig.state().degraded, rig.state().degradations), (None, 1));
    assert_eq!(rig.state().waiting["a"], 2);
    rig.pass(SEC * 60);
    assert!(
        rig.state().ballast || folder.path().join("ballast").exists(),
        "put back"
    );
    // The name a row had in memory stays good.
    rig.gone(also_held[0].id);
    drop(rig);
    let (_, loaded) = Rig::open(folder.path(), settings);
    assert_eq!(keys(&loaded.waiting), keys(&durable));
    assert_eq!(loaded.incidents.len() as u64, n + 1);
}

#[test]
fn a_folder_that_cannot_be_used_is_in_memory_until_it_can() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("data");
    fs::write(&folder, "a file in the way").unwrap();
    let (mut rig, loaded) = Rig::open(&folder, small());
    assert!(loaded.degraded.is_some());
    let raised = rig.commit(&change("k", 1, 1, "raised", &["a", "b"]));
    assert_eq!((raised.rows.len(), raised.outcome), (2, Outcome::InMemory));
    let again = rig.commit(&change("k", 1, 1, "raised", &["a", "b"]));
    assert_eq!(again.outcome, Outcome::Repeated);
    rig.write(Op::Dead {
        id: raised.rows[1].id,
        error: "410".to_owned(),
    });
    let (reply, mut kept) = oneshot::channel();
    rig.write(Op::Mute {
        id: "m".to_owned(),
        doc: Some("{}".to_owned()),
        reply,
    });
    assert_eq!(kept.try_recv().unwrap(), Kept::InMemory);
    fs::remove_file(&folder).unwrap();
    rig.pass(SEC * 5);
    assert_eq!((rig.state().degraded, rig.state().changes), (None, 1));
    assert_eq!((rig.state().waiting["a"], rig.state().dead), (1, 1));
    drop(rig);
    let (_, loaded) = Rig::open(&folder, small());
    assert_eq!(keys(&loaded.waiting), [("k".into(), 1, 1)]);
    assert_eq!(loaded.mutes, ["{}"]);
}

#[test]
fn what_could_not_be_read_at_the_start_is_handed_out_later() {
    let outer = tempfile::tempdir().unwrap();
    let (folder, away) = (outer.path().join("data"), outer.path().join("away"));
    let (mut rig, _) = Rig::open(&folder, small());
    rig.commit(&change("old", 1, 1, "raised", &["a"]));
    drop(rig);
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "").unwrap();
    let (mut rig, loaded) = Rig::open(&folder, small());
    assert!(loaded.degraded.is_some() && loaded.waiting.is_empty());
    rig.commit(&change("new", 1, 1, "raised", &["a"]));
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    rig.pass(SEC * 5);
    let late = rig.shown.late().take().unwrap();
    assert_eq!(keys(&late.waiting), [("old".into(), 1, 1)]);
    assert_eq!(rig.state().waiting["a"], 2);
}

#[test]
fn a_folder_that_can_only_be_read_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(folder.path(), small());
    let raised = rig.commit(&change("old", 1, 1, "raised", &["a"]));
    drop(rig);
    let path = folder.path().join("outbox.sqlite");
    let mode = |folder_mode, file_mode| {
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(&path, file_mode);
        set(folder.path(), folder_mode);
    };
    mode(0o500, 0o400);
    if fs::write(folder.path().join("probe"), "").is_ok() {
        // Root may write everywhere; then there is nothing to see but the reading itself.
        let db = file::peek(folder.path()).unwrap();
        assert_eq!(sql::waiting(&db).unwrap(), raised.rows);
        return;
    }
    let (mut rig, loaded) = Rig::open(folder.path(), small());
    assert!(loaded.degraded.is_some());
    assert_eq!(loaded.waiting, raised.rows);
    rig.gone(raised.rows[0].id);
    let new = rig.commit(&change("new", 1, 1, "raised", &["a"]));
    assert_eq!((new.rows.len(), new.outcome), (1, Outcome::InMemory));
    mode(0o700, 0o600);
    rig.pass(SEC * 5);
    assert_eq!(rig.state().degraded, None);
    assert!(rig.shown.late().is_none());
    drop(rig);
    let (_, loaded) = Rig::open(folder.path(), small());
    assert_eq!(keys(&loaded.waiting), [("new".into(), 1, 1)]);
}

#[test]
fn memory_is_bounded_and_says_what_it_dropped() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("data");
    fs::write(&folder, "").unwrap();
    let settings = Settings {
        memory_rows: 10,
        ..small()
    };
    let (mut rig, _) = Rig::open(&folder, settings);
    for n in 0..30 {
        let done = rig.commit(&change(&format!("k{n}"), 1, 1, "raised", &["a"]));
        assert_eq!((done.rows.len(), done.outcome), (1, Outcome::InMemory));
    }
    rig.pass(SEC);
    assert_eq!(rig.state().in_memory_rows, 10);
    assert_eq!(rig.state().dropped, 40, "20 changes, 20 messages");
}

/// A file with enough rows to fill pages, closed properly.
fn filled(folder: &Path) -> usize {
    let (mut rig, _) = Rig::open(folder, small());
    for n in 0..200 {
        rig.commit(&change(&format!("k{n:03}"), 1, 1, "raised", &["a", "b"]));
    }
    400
}

fn overwrite(path: &Path, at: u64, len: usize) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&vec![0xA5; len]).unwrap();
}

#[test]
fn a_damaged_file_is_moved_aside_and_what_can_be_read_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let rows = filled(folder.path());
    let path = folder.path().join("outbox.sqlite");
    let middle = fs::metadata(&path).unwrap().len() / 2 / 4096 * 4096;
    overwrite(&path, middle, 4096);
    let (mut rig, loaded) = Rig::open(folder.path(), small());
    let aside = loaded.aside.unwrap();
    assert_eq!(
        aside.path.file_name().unwrap().to_str().unwrap(),
        format!("outbox.corrupt-{}.sqlite", now().as_millisecond())
    );
    assert!(aside.path.exists() && path.exists());
    assert!(
        loaded.waiting.len() > rows / 2,
        "{} {}",
        loaded.waiting.len(),
        aside.why
    );
    assert_eq!(rig.state().degraded, None);
    let done = rig.commit(&change("new", 1, 1, "raised", &["a"]));
    let newest = loaded.waiting.iter().map(|row| row.id).max().unwrap();
    assert!(done.rows[0].id > newest, "ids are never used again");
}

#[test]
fn damage_found_while_running_begins_another_file() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let path = folder.path().join("outbox.sqlite");
    let (mut rig, loaded) = Rig::open(folder.path(), small());
    assert_eq!(loaded.aside, None);
    // Every page but the first of a file that is open: nothing can be saved, nothing may be refused.
    let len = fs::metadata(&path).unwrap().len();
    overwrite(&path, 4096, usize::try_from(len).unwrap() - 4096);
    rig.engine.forget_pages();
    let mut moved = None;
    for n in 0..50 {
        let done = rig.commit(&change(&format!("n{n}"), 1, 1, "raised", &["a"]));
        assert_eq!((done.rows.len(), done.outcome), (1, Outcome::Durable));
        rig.pass(SEC);
        moved = moved.or(rig.state().aside);
    }
    assert!(moved.is_some_and(|aside| aside.path.exists()));
    drop(rig);
    let (_, loaded) = Rig::open(folder.path(), small());
    assert!(
        loaded
            .waiting
            .iter()
            .filter(|row| row.message.key.starts_with('n'))
            .count()
            >= 50
    );
}

#[test]
fn no_database_at_all_is_moved_aside() {
    for content in [
        &b"this is not a database, though it is long enough to be asked"[..],
        &[0; 5000],
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("outbox.sqlite"), content).unwrap();
        let (mut rig, loaded) = Rig::open(folder.path(), small());
        assert!(loaded.aside.is_some() && loaded.degraded.is_none());
        let done = rig.commit(&change("k", 1, 1, "raised", &["a"]));
        assert_eq!(done.outcome, Outcome::Durable);
    }
}

#[test]
fn a_log_cut_short_costs_what_was_cut_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let live = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(live.path(), small());
    for n in 0..20 {
        rig.commit(&change(&format!("k{n:02}"), 1, 1, "raised", &["a"]));
    }
    // Copied while it is open, so that the log is not written back.
    for name in ["outbox.sqlite", "outbox.sqlite-wal"] {
        fs::copy(live.path().join(name), folder.path().join(name)).unwrap();
    }
    let wal = folder.path().join("outbox.sqlite-wal");
    let len = fs::metadata(&wal).unwrap().len();
    assert!(len > 100_000);
    let file = fs::OpenOptions::new().write(true).open(&wal).unwrap();
    file.set_len(len - 5000).unwrap();
    drop(file);
    let (_, loaded) = Rig::open(folder.path(), small());
    assert_eq!(loaded.aside, None);
    assert!(
        (15..20).contains(&loaded.waiting.len()),
        "{}",
        loaded.waiting.len()
    );
    let wanted: Vec<_> = (0..loaded.waiting.len())
        .map(|n| (format!("k{n:02}"), 1, 1))
        .collect();
    assert_eq!(keys(&loaded.waiting), wanted);
}

#[test]
fn an_older_schema_is_brought_up_and_a_newer_one_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(folder.path(), small());
    rig.commit(&change("old", 1, 1, "raised", &["a"]));
    drop(rig);
    let mut newer = file::MIGRATIONS.to_vec();
    newer.push("ALTER TABLE mute ADD COLUMN until_ms INTEGER;");
    let opened = file::open(folder.path(), &newer, file::Trust::Check, now()).unwrap();
    assert_eq!(sql::waiting(&opened.db).unwrap().len(), 1);
    opened
        .db
        .execute("INSERT INTO mute VALUES ('m', '{}', 5)", [])
        .unwrap();
    drop(opened);

    let path = folder.path().join("outbox.sqlite");
    let before = fs::read(&path).unwrap();
    let (mut rig, loaded) = Rig::open(folder.path(), small());
    let aside = loaded.aside.unwrap();
    assert_eq!(aside.path, path);
    assert!(aside.why.contains("newer"), "{}", aside.why);
    assert_eq!((loaded.waiting.len(), loaded.degraded), (0, None));
    let done = rig.commit(&change("new", 1, 1, "raised", &["a"]));
    assert_eq!(done.outcome, Outcome::Durable);
    drop(rig);
    assert_eq!(fs::read(&path).unwrap(), before, "not a byte of it changed");
    let (_, loaded) = Rig::open(folder.path(), small());
    assert_eq!(keys(&loaded.waiting), [("new".into(), 1, 1)]);
    let name = format!("outbox-v{SCHEMA_VERSION}.sqlite");
    assert!(folder.path().join(name).exists());
}

#[test]
fn what_is_old_or_too_much_goes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        keep_resolved_rows: 3,
        keep_notes_rows: 2,
        ..small()
    };
    let (mut rig, _) = Rig::open(folder.path(), settings.clone());
    for n in 0..6 {
        let mut over = change(&format!("k{n}"), 1, 1, "resolved", &["a"]);
        over.at += SEC * n;
        let rows = rig.commit(&over).rows;
        let error = "410".to_owned();
        rig.write(Op::Dead {
            id: rows[0].id,
            error,
        });
        let (reply, _) = oneshot::channel();
        let note = sql::Note {
            kind: "audit".to_owned(),
            id: n.to_string(),
            doc: "{}".to_owned(),
            at: over.at,
        };
        rig.write(Op::Note { note, reply });
    }
    rig.commit(&change("open", 1, 1, "raised", &[]));
    let count = |table: &str| -> i64 {
        let db = Connection::open(folder.path().join("outbox.sqlite")).unwrap();
        db.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |r| r.get(0))
            .unwrap()
    };
    rig.pass(SEC * 60);
    assert_eq!(
        (count("incident"), count("outbox"), count("note")),
        (4, 6, 2)
    );
    rig.pass(Duration::from_secs(31 * 86_400));
    assert_eq!(
        (count("incident"), count("outbox"), count("note")),
        (1, 0, 2),
        "open ones stay"
    );
    drop(rig);
    let (_, loaded) = Rig::open(folder.path(), settings);
    assert_eq!(loaded.incidents[0].key, "open");
}

#[test]
fn a_locked_file_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(folder.path(), small());
    rig.commit(&change("a", 1, 1, "raised", &["a"]));
    let other = Connection::open(folder.path().join("outbox.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let held = rig.commit(&change("b", 1, 1, "raised", &["a"]));
    assert_eq!((held.rows.len(), held.outcome), (1, Outcome::InMemory));
    other.execute_batch("ROLLBACK").unwrap();
    rig.pass(SEC * 5);
    assert_eq!((rig.state().degraded, rig.state().waiting["a"]), (None, 2));
}

#[test]
fn an_answer_that_nobody_waited_for_keeps_its_names_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(folder.path(), small());
    let (op, answer) = rig.op(&change("k", 1, 1, "raised", &["a", "b"]));
    drop(answer);
    // In the same group, and in a later one.
    rig.engine
        .write(vec![op, Op::Gone { ids: vec![-1] }], rig.now);
    rig.pass(SEC);
    assert_eq!(rig.state().waiting.get("a"), None);
    assert_eq!(rig.state().waiting["b"], 1);
    rig.gone(-2);
    rig.pass(SEC);
    assert_eq!(rig.state().waiting.get("b"), None);
}

#[tokio::test]
async fn the_store_answers_and_can_be_read_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path(), small());
    let commits: Vec<Commit> = (0..100)
        .map(|n| store.commit(change(&format!("k{n:02}"), 1, 1, "raised", &["a"])))
        .collect();
    let mut rows = Vec::new();
    for commit in commits {
        let done = commit.within(Duration::from_secs(60)).await;
        assert_eq!(done.outcome, Outcome::Durable);
        rows.extend(done.rows);
    }
    store.delivered(rows[0].id);
    store.dead(rows[1].id, "410 gone".to_owned());
    drop(store.put_mute("m".to_owned(), "{}".to_owned()));
    drop(store.put_note("audit", "1".to_owned(), "{}".to_owned(), now()));
    assert_eq!(store.flush().await, Ok(Kept::Durably));
    let state = store.state();
    assert_eq!(
        (state.waiting["a"], state.dead, state.changes),
        (98, 1, 100)
    );
    assert!(state.commits <= 105 && state.commit_secs.iter().sum::<u64>() == state.commits);
    let dead = store.dead_letters(10).unwrap();
    assert_eq!((dead.len(), &*dead[0].error), (1, "410 gone"));
    assert_eq!(store.incidents(30, None).unwrap().len(), 30);
    assert_eq!(store.mutes().unwrap(), ["{}"]);
    assert_eq!(store.notes("audit", 5).unwrap(), ["{}"]);
    let _ = store.remove_mute("m".to_owned()).await;
    assert!(store.mutes().unwrap().is_empty());
    let digest = Box::new(|_: &[String]| message("a", "digest", 1, 1, "digest"));
    let compacted = store.compact("a".into(), Vec::new(), digest).await;
    assert_eq!(compacted, Ok(Some(Compacted::default())));
    store.close();
    let (store, loaded) = Store::open(folder.path(), small());
    assert_eq!((loaded.waiting.len(), loaded.degraded), (98, None));
    store.close();
}
