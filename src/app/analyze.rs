//! `analyze`: one input through all detectors, as fast as they follow.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use detectors::base::{MediaTime, Print, Value};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::av_sync::{AvSync, SyncTally};
use crate::alert::{Change, Defect, Moment, Transition};
use crate::config;
use crate::ingest;
use crate::ingest::source::{SourceContext, SourceEnd};
use crate::ingest::stats::Stats;
use crate::lane::pool::Pool;
use crate::lane::{Lane, Mode, Outlet, PrintTap, Reference, Sample, Status};

/// How an analysis ended.
#[derive(Debug)]
pub struct Analysis {
    /// Defects in start order.
    pub defects: Vec<Defect>,
    /// When each was raised, by its id.
    pub raised: BTreeMap<String, Moment>,
    /// The lane after the input's end.
    pub status: Status,
    /// How the input ended.
    pub end: SourceEnd,
    /// Sound against picture over the whole input.
    pub av_sync: Vec<AvSync>,
}

/// Keeps the newest version of every defect, and when it was raised.
#[derive(Default)]
struct Collected {
    newest: Mutex<BTreeMap<String, Defect>>,
    raised: Mutex<BTreeMap<String, Moment>>,
}

impl Outlet for Collected {
    fn transition(&self, transition: Transition) -> Result<(), Transition> {
        if transition.change == Change::Raise {
            lock(&self.raised).insert(transition.defect.id.clone(), transition.at);
        }
        lock(&self.newest).insert(transition.defect.id.clone(), transition.defect);
        Ok(())
    }
}

/// All prints of an input.
#[derive(Default)]
struct Prints(Mutex<Vec<Print>>);

impl PrintTap for Prints {
    fn take(&self, print: Print) {
        lock(&self.0).push(print);
    }
}

/// What may accompany an analysis.
#[derive(Default)]
pub struct Extras<'a> {
    /// Every reading as CSV.
    pub signals: Option<&'a Path>,
    /// Another place of the same programme.
    pub reference: Option<Reference>,
    /// A bar on standard error.
    pub progress: bool,
}

/// Reads an input once to its end for its prints, for an analysis that compares with it; how it ended stands beside
/// them.
pub async fn read_reference(
    stream: Arc<config::Stream>,
    pool: &Pool,
    progress: bool,
) -> (Reference, SourceEnd) {
    // The detector itself has nothing to do, but pictures and sound are to be decoded.
    let stream = Arc::new(stream.only(&["av_reference"]));
    let nobody = Arc::new(Collected::default());
    let lane = Lane::open(pool, Arc::clone(&stream), Mode::Offline, nobody, None);
    let prints = Arc::<Prints>::default();
    let tap: Arc<dyn PrintTap> = prints.clone();
    lane.set_print_tap(tap);
    let end = play(stream, &lane, progress).await;
    let prints = std::mem::take(&mut *lock(&prints.0));
    (Reference::new(prints), end)
}

/// Runs the stream's input once to its end through its detectors.
pub async fn analyze(
    stream: Arc<config::Stream>,
    pool: &Pool,
    extras: Extras<'_>,
) -> io::Result<Analysis> {
    let collected = Arc::new(Collected::default());
    let lane = Lane::open(
        pool,
        Arc::clone(&stream),
        Mode::Offline,
        Arc::clone(&collected) as Arc<dyn Outlet>,
        None,
    );
    let csv = extras.signals.map(Csv::create).transpose()?.map(Arc::new);
    let sync = Arc::new(SyncTally::default());
    let taps = (csv.clone(), Arc::clone(&sync));
    lane.set_signal_tap(Arc::new(move |sample| {
        if let Some(csv) = &taps.0 {
            csv.write(sample);
        }
        taps.1.note(sample);
    }));
    let compared = extras.reference.is_some();
    if let Some(reference) = extras.reference {
        lane.set_reference(reference);
    }
    let end = play(stream, &lane, extras.progress).await;
    if let Some(csv) = &csv {
        csv.finish()?;
    }
    let status = lane.status();
    let mut found = std::mem::take(&mut *lock(&collected.newest));
    // What is still open has grown since it was last told.
    found.extend(status.defects.iter().map(|d| (d.id.clone(), d.clone())));
    let mut defects: Vec<Defect> = found.into_values().collect();
    defects.sort_by_key(|d| {
        (
            d.start.media.unwrap_or_default(),
            d.detector,
            d.rule,
            d.track,
        )
    });
    Ok(Analysis {
        defects,
        raised: std::mem::take(&mut *lock(&collected.raised)),
        status,
        end,
        av_sync: sync.lines(compared),
    })
}

/// Plays the input to its end, and waits until the lane has handled all of it.
async fn play(stream: Arc<config::Stream>, lane: &Arc<Lane>, with_bar: bool) -> SourceEnd {
    let stats = Arc::new(Stats::default());
    let bytes = file_bytes(&stream);
    let cx = SourceContext {
        stream,
        intake: lane.intake(),
        stats: Arc::clone(&stats),
        cancel: CancellationToken::new(),
    };
    let bar = with_bar.then(|| progress(Arc::clone(lane), Arc::clone(&stats), bytes));
    let end = ingest::play_once(&cx).await;
    let waiting = Arc::clone(lane);
    // The lane has the end of the input in its mailbox; `join` returns when that has been handled.
    let joined = tokio::task::spawn_blocking(move || waiting.join()).await;
    if let Some(bar) = bar {
        bar.abort();
    }
    if let Err(failed) = joined
        && failed.is_panic()
    {
        std::panic::resume_unwind(failed.into_panic());
    }
    end
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bar that shows how much of a file was read, or of inputs that are not read from end to end how much media was
/// seen.
fn progress(
    lane: Arc<Lane>,
    stats: Arc<Stats>,
    file_bytes: Option<u64>,
) -> tokio::task::JoinHandle<()> {
    let bar = ProgressBar::new_spinner();
    let style = |template| ProgressStyle::with_template(template).ok();
    if let Some(style) = style("{spinner} {msg}") {
        bar.set_style(style);
    }
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            let status = lane.status();
            bar.set_message(format!(
                "{:.1} s of media, {} defects open",
                status.media_secs,
                status.defects.len()
            ));
            let read = stats.input_bytes.get();
            // Containers that are checked before they are played are "read" at once.
            if let Some(all) = file_bytes
                && (bar.length().is_some() || (1..all).contains(&read))
            {
                if bar.length().is_none()
                    && let Some(style) = style("{wide_bar} {percent:>3} %  {msg}  {eta} left")
                {
                    bar.set_length(all);
                    bar.set_style(style);
                }
                bar.set_position(read);
            } else {
                bar.tick();
            }
        }
    })
}

/// Length of the input, when it is a file.
fn file_bytes(stream: &config::Stream) -> Option<u64> {
    let url = url::Url::parse(stream.input.url.expose()).ok()?;
    let path = url.to_file_path().ok()?;
    std::fs::metadata(path).ok().map(|about| about.len())
}

/// Readings as lines: media_secs, track, detector, signal, value, unmeasurable.
struct Csv {
    out: Mutex<io::BufWriter<std::fs::File>>,
    failed: Mutex<Option<io::Error>>,
}

impl Csv {
    fn create(path: &Path) -> io::Result<Self> {
        let mut out = io::BufWriter::new(std::fs::File::create(path)?);
        writeln!(out, "media_secs,track,detector,signal,value,unmeasurable")?;
        Ok(Self {
            out: Mutex::new(out),
            failed: Mutex::default(),
        })
    }

    fn write(&self, sample: &Sample<'_>) {
        let at = sample
            .at
            .media
            .map(MediaTime::secs)
            .map_or(String::new(), |s| format!("{s:.3}"));
        let track = sample.track.map_or(String::new(), |t| t.to_string());
        let (value, why) = match sample.reading.value {
            Value::Measured(value) => (value.to_string(), ""),
            Value::Unmeasurable(why) => (String::new(), why.as_str()),
        };
        let mut out = lock(&self.out);
        let written = writeln!(
            out,
            "{at},{track},{},{},{value},{why}",
            sample.detector, sample.signal.name
        );
        if let Err(problem) = written {
            // Told once, at the end: a tap cannot fail.
            lock(&self.failed).get_or_insert(problem);
        }
    }

    fn finish(&self) -> io::Result<()> {
        if let Some(problem) = lock(&self.failed).take() {
            return Err(problem);
        }
        lock(&self.out).flush()
    }
}
