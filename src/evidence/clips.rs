//! Writes clips, on a thread of their own: a storm of them delays no still.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use detectors::base::MediaTime;
use serde_json::{Value as Json, json};

use super::numbers::Excerpt;
use super::plot;
use super::recorder::Subject;
use super::ring::Cut;
use super::store::{Order, Tally};
use crate::alert::Defect;
use crate::ingest::{RemuxError, remux};

/// Clips waiting for the writer, at most.
pub(super) const QUEUE: usize = 64;
/// Coded bytes that wait for the writer, at most; they are shared with the rings that they come from.
pub(super) const QUEUE_BYTES: u64 = 256 << 20;
/// A multiplexer that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(20);
/// Folder for what is half done, in the evidence folder; cleared when the store opens.
const ASIDE: &str = ".clips";

/// What becomes one clip, with the numbers of its defects.
pub(super) struct ClipJob {
    pub(super) subjects: Vec<Subject>,
    /// `None` when nothing of the input was kept.
    pub(super) cut: Option<Cut>,
    pub(super) excerpt: Excerpt,
    /// Where the numbers end.
    pub(super) until: MediaTime,
}

impl ClipJob {
    /// Coded bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.cut.as_ref().map_or(0, |cut| cut.bytes() as u64)
    }
}

pub(super) enum ClipOrder {
    Write(Box<ClipJob>),
    /// Everything before it is done: say so.
    Report(SyncSender<()>),
}

/// Files for the set of one defect.
pub(super) struct Addition {
    pub(super) defect: Defect,
    /// Name and content.
    pub(super) files: Vec<(&'static str, Vec<u8>)>,
    /// A file that several sets may share, with its name.
    pub(super) clip: Option<(PathBuf, &'static str)>,
}

/// The thread's state.
pub(super) struct ClipWriter {
    pub(super) evidence: PathBuf,
    pub(super) tally: Arc<Tally>,
    pub(super) waiting_bytes: Arc<AtomicU64>,
    pub(super) orders: SyncSender<Order>,
}

impl ClipWriter {
    pub(super) fn run(self, inbox: &Receiver<ClipOrder>) {
        let mut number = 0u64;
        while let Ok(order) = inbox.recv() {
            match order {
                ClipOrder::Write(job) => {
                    let bytes = job.bytes();
                    // A multiplexer that is still stopping must not clear away what the next one writes.
                    number += 1;
                    let aside = self.evidence.join(ASIDE).join(number.to_string());
                    self.write(*job, &aside);
                    let _ = fs::remove_dir_all(&aside);
                    self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                }
                ClipOrder::Report(done) => {
                    // Told when the sets are on disk as well.
                    let _ = self.orders.send(Order::Report(done));
                }
            }
        }
    }

    fn write(&self, job: ClipJob, aside: &Path) {
        let written = job.cut.as_ref().map(|cut| self.remuxed(cut, aside));
        let clip = written.and_then(|written| match written {
            Ok(clip) => Some(clip),
            Err(error) => {
                self.tally.clips_failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a clip could not be written");
                None
            }
        });
        for subject in job.subjects {
            let mut files = numbers(&subject, &job.excerpt, job.until);
            if let Some(clip) = &clip {
                files.push(("clip.json", pretty(&clip.describe(&subject))));
            }
            let addition = Addition {
                defect: subject.defect,
                files,
                clip: clip.as_ref().map(|c| (aside.join(c.file), c.file)),
            };
            // The writer of the store ends after this one.
            let _ = self.orders.send(Order::Add(Box::new(addition)));
        }
        if clip.is_some() {
            // The sets have it before the next clip is begun.
            let (done, wait) = std::sync::mpsc::sync_channel(1);
            let told = self.orders.send(Order::Report(done));
            let _ = told.map(|()| wait.recv());
        }
    }

    fn remuxed(&self, cut: &Cut, aside: &Path) -> Result<Written, ClipError> {
        fs::create_dir_all(aside)?;
        let strands = cut.strands();
        let remuxed = remux(&strands, aside, LIMIT)?;
        let bytes = fs::metadata(aside.join(remuxed.file))?.len();
        let tracks = cut.parts.iter().enumerate();
        let kept = tracks.filter(|(at, _)| !remuxed.left_out.contains(at));
        let track = |part: &super::ring::Part| {
            json!({
                "track": part.track.to_string(),
                "media_type": part.encoding.media_type(),
                "units": part.len(),
            })
        };
        Ok(Written {
            file: remuxed.file,
            begins: cut.begins,
            duration: cut.ends.since(cut.begins),
            bytes,
            tracks: kept.map(|(_, part)| track(part)).collect(),
        })
    }
}

/// Why there is no clip.
#[derive(Debug, thiserror::Error)]
enum ClipError {
    #[error("{0}")]
    Disk(#[from] std::io::Error),
    #[error("{0}")]
    Remux(#[from] RemuxError),
}

struct Written {
    file: &'static str,
    begins: MediaTime,
    duration: Duration,
    bytes: u64,
    tracks: Vec<Json>,
}

impl Written {
    fn describe(&self, subject: &Subject) -> Json {
        json!({
            "file": self.file,
            "bytes": self.bytes,
            "starts_media_secs": self.begins.secs(),
            "defect_at_secs": subject.start.secs_after(self.begins),
            "duration_secs": self.duration.as_secs_f64(),
            "tracks": self.tracks,
        })
    }
}

/// The numbers of a defect, as files.
fn numbers(subject: &Subject, excerpt: &Excerpt, until: MediaTime) -> Vec<(&'static str, Vec<u8>)> {
    let zero = subject.start;
    let first = excerpt.series.iter().filter_map(|s| s.points.front());
    let first = first.map(|p| p.at).min().unwrap_or(zero).min(zero);
    let secs = (first.secs_after(zero), until.secs_after(zero));
    let mut files = vec![("signals.json", pretty(&excerpt.json(zero)))];
    let defect = &subject.defect;
    let judged = subject
        .signal
        .and_then(|signal| excerpt.find(defect.detector, signal, defect.track));
    if let Some(series) = judged {
        let drawn = plot::signal(series, defect.limit, zero, secs);
        files.push(("plot.svg", drawn.into_bytes()));
    }
    if !excerpt.levels.is_empty() {
        let drawn = plot::sound(&excerpt.levels, zero, secs);
        files.push(("sound.svg", drawn.into_bytes()));
    }
    files
}

fn pretty(json: &Json) -> Vec<u8> {
    format!("{json}\n").into_bytes()
}
