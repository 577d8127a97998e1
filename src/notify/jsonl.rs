//! Events as JSON lines in a file or on standard output, written by a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Lines that wait to be written.
const QUEUE_LINES: usize = 10_000;

/// Where event lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsTo {
    /// `-`: standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

impl EventsTo {
    /// From the command line: a path, or `-`.
    pub fn parse(text: &str) -> Self {
        match text {
            "-" => EventsTo::Stdout,
            path => EventsTo::File(path.into()),
        }
    }
}

/// Counters of the writer, totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JsonlStats {
    /// Lines written and flushed.
    pub written: u64,
    /// Lines lost to write errors (disk full, reader gone).
    pub failed: u64,
    /// Lines lost because the writer was too slow.
    pub dropped: u64,
}

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

enum Order {
    Line(Arc<str>),
    Reopen,
}

/// A writer of event lines.
pub struct Jsonl {
    orders: Mutex<Option<SyncSender<Order>>>,
    finished: Mutex<Option<tokio::sync::oneshot::Receiver<()>>>,
    counts: Arc<Counts>,
}

impl Jsonl {
    /// Opens the file (appending, created when missing) and starts the writer.
    pub fn open(to: &EventsTo) -> io::Result<Self> {
        let sink = match to {
            EventsTo::Stdout => Sink::Stream(Box::new(io::stdout())),
            EventsTo::File(path) => Sink::File {
                file: append(path)?,
                path: path.clone(),
            },
        };
        Self::start(sink)
    }

    fn start(sink: Sink) -> io::Result<Self> {
        let (orders, taken) = sync_channel(QUEUE_LINES);
        let (done, finished) = tokio::sync::oneshot::channel();
        let counts = Arc::new(Counts::default());
        let writer = Writer {
            sink,
            torn: false,
            failing: false,
            counts: Arc::clone(&counts),
        };
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                writer.run(&taken);
                let _ = done.send(());
            })?;
        Ok(Self {
            orders: Mutex::new(Some(orders)),
            finished: Mutex::new(Some(finished)),
            counts,
        })
    }

    /// Takes a line; returns at once.
    pub fn push(&self, line: Arc<str>) {
        self.order(Order::Line(line));
    }

    /// Opens the file again, after it was moved away.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    fn order(&self, order: Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(orders) = &*orders else {
            return;
        };
        if let Err(TrySendError::Full(_)) = orders.try_send(order)
            && self.counts.dropped.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::error!("the events writer is too slow: lines are dropped and counted");
        }
    }

    /// A copy of the counters.
    pub fn stats(&self) -> JsonlStats {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        JsonlStats {
            written: read(&self.counts.written),
            failed: read(&self.counts.failed),
            dropped: read(&self.counts.dropped),
        }
    }

    /// Writes what is waiting, at most for `deadline`; whether it was all written.
    pub async fn close(&self, deadline: Duration) -> bool {
        let take =
            |slot: &Mutex<Option<_>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(
            self.orders
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        match take(&self.finished) {
            Some(finished) => tokio::time::timeout(deadline, finished).await.is_ok(),
            None => true,
        }
    }
}

enum Sink {
    Stream(Box<dyn Write + Send>),
    File { file: File, path: PathBuf },
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

struct Writer {
    sink: Sink,
    /// The last line may be there in part: the next one starts on a line of its own.
    torn: bool,
    failing: bool,
    counts: Arc<Counts>,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Line(line) => self.line(&line),
                Order::Reopen => self.reopen(),
            }
        }
    }

    fn line(&mut self, line: &str) {
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let out: &mut dyn Write = match &mut self.sink {
            Sink::Stream(out) => out,
            Sink::File { file, .. } => file,
        };
        match out.write_all(&bytes).and_then(|()| out.flush()) {
            Ok(()) => {
                self.counts.written.fetch_add(1, Ordering::Relaxed);
                if self.failing {
                    tracing::info!("event lines are written again");
                }
                (self.torn, self.failing) = (false, false);
            }
            Err(error) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                if !self.failing {
                    tracing::error!(kind = %error.kind(), "event lines cannot be written: they are counted and lost");
                }
                (self.torn, self.failing) = (true, true);
            }
        }
    }

    fn reopen(&mut self) {
        if let Sink::File { file, path } = &mut self.sink {
            match append(path) {
                Ok(new) => {
                    *file = new;
                    self.torn = false;
                }
                Err(error) => {
                    tracing::error!(kind = %error.kind(), "the events file cannot be opened again: going on with the old one");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Takes `room` bytes, then fails until told otherwise, like a disk that fills in the middle of a line.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let n = bytes.len().min(disk.1);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.1 -= n;
            disk.0.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_are_appended_and_drained() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        std::fs::write(&path, "old\n").unwrap();
        let jsonl = Jsonl::open(&EventsTo::File(path.clone())).unwrap();
        for i in 0..100 {
            jsonl.push(format!("{i}").into());
        }
        assert!(jsonl.close(Duration::from_secs(20)).await);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 101);
        assert!(text.starts_with("old\n0\n1\n") && text.ends_with("\n99\n"));
        assert_eq!(jsonl.stats().written, 100);
        jsonl.push("late".into());
        assert_eq!(jsonl.stats().dropped, 0);
    }

    #[test]
    fn a_full_disk_loses_lines_never_the_framing() {
        let disk = Disk::default();
        disk.0.lock().unwrap().1 = 5;
        let mut writer = Writer {
            sink: Sink::Stream(Box::new(disk.clone())),
            torn: false,
            failing: false,
            counts: Arc::default(),
        };
        writer.line("aa");
        writer.line("bbbb");
        disk.0.lock().unwrap().1 = 100;
        writer.line("cc");
        assert_eq!(disk.0.lock().unwrap().0, b"aa\nbb\ncc\n");
        assert_eq!(writer.counts.failed.load(Ordering::Relaxed), 1);
        assert_eq!(writer.counts.written.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn reopen_follows_a_moved_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        let jsonl = Jsonl::open(&EventsTo::File(path.clone())).unwrap();
        jsonl.push("one".into());
        std::fs::rename(&path, dir.path().join("e.1")).unwrap();
        jsonl.reopen();
        jsonl.push("two".into());
        assert!(jsonl.close(Duration::from_secs(20)).await);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_place_that_cannot_be_opened_is_an_error() {
        assert!(Jsonl::open(&EventsTo::File("/nonexistent/dir/e".into())).is_err());
        assert_eq!(EventsTo::parse("-"), EventsTo::Stdout);
    }
}
