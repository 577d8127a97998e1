//! What is uploaded, when, and what happens meanwhile to the sets on disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::tests::{defect, write};
use super::upload::{PutError, Uploads, Vault, key_base, media_type, set_key};
use super::{Stills, relative_dir};

/// Longest wait for anything that must happen.
const DEADLINE: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_millis(1);

/// A place in memory that can be away, or never answer.
#[derive(Default)]
struct Shelf {
    kept: Mutex<BTreeMap<String, (&'static str, Bytes)>>,
    away: AtomicBool,
    stuck: AtomicBool,
    /// Lets one that is stuck go on.
    freed: Notify,
    /// Keys that hold this are refused.
    refused: Mutex<Option<String>>,
    called: Notify,
}

impl Shelf {
    fn keys(&self) -> Vec<String> {
        self.kept.lock().unwrap().keys().cloned().collect()
    }
}

struct At(Arc<Shelf>);

impl Vault for At {
    fn put<'a>(
        &'a self,
        key: &'a str,
        media_type: &'static str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<(), PutError>> {
        async move {
            self.0.called.notify_one();
            if self.0.stuck.load(Ordering::SeqCst) {
                self.0.freed.notified().await;
            }
            let refused = self.0.refused.lock().unwrap().clone();
            let refused = refused.is_some_and(|part| key.contains(&part));
            if refused || self.0.away.load(Ordering::SeqCst) {
                let what = "connect".to_owned();
                return Err(PutError { what });
            }
            let kept = (media_type, bytes);
            self.0.kept.lock().unwrap().insert(key.to_owned(), kept);
            Ok(())
        }
        .boxed()
    }

    fn place(&self) -> String {
        "s3://shelf".to_owned()
    }
}

fn start(dir: &Path, shelf: &Arc<Shelf>) -> Arc<Uploads> {
    let base = key_base("wall/left", "Watch 1");
    Uploads::paced(dir, base, Box::new(At(Arc::clone(shelf))), WAIT)
}

fn set(dir: &Path, name: &str, files: &[&str]) -> std::path::PathBuf {
    let set = Path::new("evidence/news1").join(name);
    std::fs::create_dir_all(dir.join(&set)).unwrap();
    for file in files {
        std::fs::write(dir.join(&set).join(file), format!("{name}/{file}")).unwrap();
    }
    set
}

#[test]
fn keys_say_which_instance_stream_and_set() {
    let base = key_base("", "watch-1");
    let key = set_key(&base, Path::new("evidence/news1/20260301_black_d1"));
    assert_eq!(key, "watch-1/news1/20260301_black_d1");
    assert_eq!(key_base("a/b", "x y/z"), "a/b/x_y_z");
    assert_eq!(media_type("plot.svg"), Some("image/svg+xml"));
    assert_eq!(media_type("last_good.jpg"), Some("image/jpeg"));
    assert_eq!(media_type("clip.mkv"), Some("video/x-matroska"));
    assert_eq!(media_type("notes"), None);
}

#[tokio::test]
async fn every_file_arrives_once_with_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::default());
    let uploads = start(dir.path(), &shelf);
    let first = set(dir.path(), "s1", &["defect.json", "first_bad.jpg"]);
    uploads.submit(&first, ["defect.json", "first_bad.jpg"]);
    std::fs::write(dir.path().join(&first).join("clip.mp4"), "clip").unwrap();
    uploads.submit(&first, ["clip.mp4"]);
    assert_eq!(uploads.close(DEADLINE).await, 0);
    let kept = shelf.kept.lock().unwrap();
    let base = "wall/left/Watch_1/news1/s1";
    assert_eq!(kept.len(), 3);
    assert_eq!(
        kept[&format!("{base}/clip.mp4")],
        ("video/mp4", "clip".into())
    );
    let json = &kept[&format!("{base}/defect.json")];
    assert_eq!(*json, ("application/json", "s1/defect.json".into()));
    assert_eq!(uploads.uri(&first), format!("s3://shelf/{base}"));
    let counts = uploads.counts();
    assert_eq!((counts.uploaded, counts.failed, counts.waiting), (3, 0, 0));
}

#[tokio::test]
async fn what_is_written_anew_while_it_is_uploaded_is_uploaded_again() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::default());
    shelf.stuck.store(true, Ordering::SeqCst);
    let uploads = start(dir.path(), &shelf);
    let one = set(dir.path(), "s1", &["clip.mp4"]);
    uploads.submit(&one, ["clip.mp4"]);
    shelf.called.notified().await;
    std::fs::write(dir.path().join(&one).join("clip.mp4"), "longer").unwrap();
    uploads.submit(&one, ["clip.mp4"]);
    shelf.stuck.store(false, Ordering::SeqCst);
    shelf.freed.notify_one();
    assert_eq!(uploads.close(DEADLINE).await, 0);
    let kept = shelf.kept.lock().unwrap();
    let (_, clip) = &kept["wall/left/Watch_1/news1/s1/clip.mp4"];
    assert_eq!(*clip, "longer");
    assert_eq!(uploads.counts().uploaded, 2);
}

#[tokio::test]
async fn a_set_that_always_fails_where_others_do_not_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::default());
    *shelf.refused.lock().unwrap() = Some("bad".to_owned());
    let uploads = start(dir.path(), &shelf);
    let bad = set(dir.path(), "bad", &["defect.json", "clip.mp4"]);
    uploads.submit(&bad, ["defect.json", "clip.mp4"]);
    for n in 0.. {
        if !uploads.is_waiting(&bad) {
            break;
        }
        assert!(n < 1000, "it is tried for ever");
        let other = set(dir.path(), &format!("s{n}"), &["defect.json"]);
        uploads.submit(&other, ["defect.json"]);
        while uploads.is_waiting(&other) {
            shelf.called.notified().await;
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(uploads.counts().dropped, 2);
    assert_eq!(uploads.close(DEADLINE).await, 0);
}

#[tokio::test]
async fn what_cannot_be_uploaded_waits_and_goes_later() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::default());
    shelf.away.store(true, Ordering::SeqCst);
    let uploads = start(dir.path(), &shelf);
    let sets = ["s1", "s2"].map(|name| set(dir.path(), name, &["defect.json"]));
    for set in &sets {
        uploads.submit(set, ["defect.json"]);
    }
    // Of both sets: the first one does not hold up the other.
    for _ in 0..4 {
        shelf.called.notified().await;
    }
    assert!(sets.iter().all(|set| uploads.is_waiting(set)));
    assert!(uploads.counts().failed >= 3 && uploads.counts().waiting == 2);
    shelf.away.store(false, Ordering::SeqCst);
    assert_eq!(uploads.close(DEADLINE).await, 0);
    assert_eq!(shelf.keys().len(), 2);
    assert!(!uploads.is_waiting(&sets[0]));
}

#[tokio::test]
async fn what_the_quota_took_first_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::default());
    let uploads = start(dir.path(), &shelf);
    uploads.submit(
        Path::new("evidence/news1/gone"),
        ["defect.json", "clip.mp4"],
    );
    assert_eq!(uploads.close(DEADLINE).await, 0);
    assert_eq!((uploads.counts().dropped, shelf.keys().len()), (2, 0));
}

#[tokio::test]
async fn a_full_queue_leaves_out_and_counts_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::default());
    shelf.stuck.store(true, Ordering::SeqCst);
    let uploads = start(dir.path(), &shelf);
    for n in 0..5000 {
        uploads.submit(&Path::new("evidence/news1").join(n.to_string()), ["a.jpg"]);
    }
    let counts = uploads.counts();
    assert_eq!((counts.waiting, counts.dropped), (4096, 904));
}

#[tokio::test]
async fn a_place_that_never_answers_does_not_hold_up_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::default());
    shelf.stuck.store(true, Ordering::SeqCst);
    let uploads = start(dir.path(), &shelf);
    let one = set(dir.path(), "s1", &["defect.json"]);
    uploads.submit(&one, ["defect.json"]);
    shelf.called.notified().await;
    assert_eq!(uploads.close(Duration::from_millis(10)).await, 1);
}

#[tokio::test]
async fn the_quota_takes_what_is_uploaded_first_and_else_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let one_set = {
        let trial = tempfile::tempdir().unwrap();
        let stills = Stills::open(trial.path(), 10 << 20);
        write(&stills, 0..1);
        stills.counts().bytes
    };
    let sets = [0, 1, 2, 3].map(|n| relative_dir(&defect(n, None)));
    let shelf = Arc::new(Shelf::default());
    let name = sets[0].file_name().unwrap().to_str().unwrap();
    *shelf.refused.lock().unwrap() = Some(name.to_owned());
    let uploads = start(dir.path(), &shelf);
    let stills = Stills::open_with(dir.path(), one_set * 2 + 20, Some(Arc::clone(&uploads)));
    let left = || -> Vec<_> { stills.list("one").into_iter().map(|s| s.dir).collect() };
    write(&stills, 0..2);
    while uploads.is_waiting(&sets[1]) {
        shelf.called.notified().await;
        tokio::task::yield_now().await;
    }
    assert!(uploads.is_waiting(&sets[0]));
    write(&stills, 2..3);
    assert_eq!(left(), [sets[0].clone(), sets[2].clone()]);
    // Both wait now, and the room is needed.
    write(&stills, 3..4);
    assert_eq!(left(), [sets[2].clone(), sets[3].clone()]);
}
