//! Builds the Prometheus text exposition from a snapshot, at scrape time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use detectors::base::{Arrival, Kind as TrackKind, Severity, TsCheck, Value};
use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::names::{self, Family, Kind, SIGNAL_FAMILIES};
use super::process::Process;
use crate::alert::av_offset::Source;
use crate::config::Protocol;
use crate::ingest::stats::{RequestResult, Stats};
use crate::lane::{State, Status};
use crate::notify::NotifyStats;
use crate::notify::courier::DELAY_BUCKETS_SECS;
use crate::notify::event::{Epoch, clean};
use crate::notify::ledger::{RuleKey, Tally};
use crate::notify::store::COMMIT_SECS;

/// One stream with its input counters.
pub type Watched = (Status, Arc<Stats>);

/// Health of the process as a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Engine {
    /// A configuration is loaded.
    pub config_loaded: bool,
    /// Going down: readiness is off.
    pub draining: bool,
    /// Pipelines whose teardown did not end in time.
    pub wedged: usize,
    /// Wedged pipelines from which on the process is unready.
    pub wedged_limit: usize,
    /// Whether the newest configuration was taken.
    pub reload_ok: bool,
    /// When a configuration was last taken.
    pub reload_at: Arrival,
    /// Alerts of the canary that arrived in time.
    pub canary_arrived: u64,
    /// Alerts of the canary that did not.
    pub canary_lost: u64,
    /// When one arrived last.
    pub canary_at: Option<Arrival>,
    /// When the heartbeat was taken last.
    pub heartbeat_at: Option<Arrival>,
}

impl Engine {
    /// Why the process is not ready, if it is not. Streams being down is no reason.
    pub fn unready(&self) -> Option<&'static str> {
        match self {
            e if e.draining => Some("draining"),
            e if !e.config_loaded => Some("no configuration"),
            e if e.wedged >= e.wedged_limit => Some("too many pipelines are wedged"),
            _ => None,
        }
    }
}

/// Evidence on disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvidenceCounts {
    /// Where stills are (`<data_dir>/evidence`); `None` when none are kept.
    pub folder: Option<PathBuf>,
    /// Sets of stills written.
    pub written: u64,
    /// Sets that could not be written.
    pub failed: u64,
    /// Sets left out because the writer was behind.
    pub dropped: u64,
    /// Sets removed to stay within the quota.
    pub evicted: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Sets that got a clip.
    pub clips_written: u64,
    /// Clips that could not be written.
    pub clips_failed: u64,
    /// Clips left out because the writer was behind, or too many of one stream were being recorded.
    pub clips_dropped: u64,
    /// Encoded bytes kept in memory for clips.
    pub ring_bytes: u64,
    /// What goes to a bucket, if anything does.
    pub uploads: Option<UploadCounts>,
}

/// Evidence on its way to a bucket, totals since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadCounts {
    /// Files that are there.
    pub uploaded: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Files left out: too many waited, or the quota took them first.
    pub dropped: u64,
    /// Sets that wait now.
    pub waiting: u64,
}

/// Everything a scrape tells.
pub struct Snapshot {
    /// Streams.
    pub streams: Vec<Watched>,
    /// Process health.
    pub engine: Engine,
    /// Receivers and events file.
    pub notify: NotifyStats,
    /// Rules that fired.
    pub tallies: HashMap<RuleKey, Tally>,
    /// Stills.
    pub evidence: EvidenceCounts,
    /// Process numbers.
    pub process: Process,
    /// Arrival clock to UTC.
    pub epoch: Epoch,
    /// When this snapshot was taken.
    pub now: Arrival,
}

/// The text exposition (`text/plain; version=0.0.4`).
pub fn render(snapshot: &Snapshot) -> Result<String, prometheus::Error> {
    let mut page = Page::default();
    process(&mut page, snapshot);
    for (status, stats) in &snapshot.streams {
        stream(&mut page, snapshot, status);
        input(&mut page, status, stats);
        signals(&mut page, status);
    }
    defects(&mut page, snapshot);
    notifications(&mut page, snapshot);
    TextEncoder::new().encode_to_string(&page.families())
}

/// One series of the page.
#[derive(Debug, Clone)]
enum Series {
    Number(f64),
    Delays {
        /// Upper bounds, seconds; one count more than bounds.
        bounds: &'static [f64],
        counts: Vec<u64>,
        sum: f64,
    },
}

const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

/// Series of one family by label values.
type Table = BTreeMap<Vec<String>, Series>;

/// Series by family and label values; writing the same series twice keeps the later one.
#[derive(Default)]
struct Page {
    tables: BTreeMap<&'static str, (&'static Family, Table)>,
}

impl Page {
    fn put(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.insert(family, labels, Series::Number(value));
    }

    fn count(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.put(family, labels, value as f64);
    }

    fn flag(&mut self, family: &'static Family, labels: &[&str], value: bool) {
        self.put(family, labels, f64::from(u8::from(value)));
    }

    fn maybe(&mut self, family: &'static Family, value: Option<f64>) {
        if let Some(value) = value {
            self.put(family, &[], value);
        }
    }

    fn insert(&mut self, family: &'static Family, labels: &[&str], series: Series) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let fresh = || (family, Table::new());
        let (_, table) = self.tables.entry(family.name).or_insert_with(fresh);
        table.insert(labels.iter().map(|l| clean(l)).collect(), series);
    }

    fn families(self) -> Vec<MetricFamily> {
        self.tables
            .into_values()
            .map(|(family, table)| {
                let mut out = MetricFamily::default();
                out.set_name(family.name.to_owned());
                out.set_help(family.help.to_owned());
                out.set_field_type(match family.kind {
                    Kind::Gauge => MetricType::GAUGE,
                    Kind::Counter => MetricType::COUNTER,
                    Kind::Histogram => MetricType::HISTOGRAM,
                });
                let metric = |(labels, series)| metric(family, labels, &series);
                out.set_metric(table.into_iter().map(metric).collect());
                out
            })
            .collect()
    }
}

fn metric(family: &Family, labels: Vec<String>, series: &Series) -> Metric {
    let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value);
        pair
    });
    let mut out = Metric::from_label(pairs.collect());
    match (family.kind, series) {
        (Kind::Counter, Series::Number(value)) => {
            let mut counter = Counter::default();
            counter.set_value(*value);
            out.set_counter(counter);
        }
        (_, Series::Number(value)) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*value);
            out.set_gauge(gauge);
        }
        (
            _,
            Series::Delays {
                bounds,
                counts,
                sum,
            },
        ) => {
            let mut total = 0;
            let mut buckets = Vec::with_capacity(bounds.len());
            for (bound, count) in bounds.iter().zip(counts) {
                total += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(total);
                buckets.push(bucket);
            }
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets);
            histogram.set_sample_count(counts.iter().sum());
            histogram.set_sample_sum(*sum);
            out.set_histogram(histogram);
        }
    }
    out
}

fn process(page: &mut Page, snapshot: &Snapshot) {
    let (a, b, c, _) = gstreamer::version();
    let gstreamer = format!("{a}.{b}.{c}");
    page.put(
        &names::BUILD_INFO,
        &[env!("CARGO_PKG_VERSION"), &gstreamer],
        1.0,
    );
    let p = &snapshot.process;
    page.maybe(&names::PROCESS_CPU, p.cpu_secs);
    page.maybe(&names::PROCESS_RESIDENT, p.resident_bytes);
    page.maybe(&names::PROCESS_VIRTUAL, p.virtual_bytes);
    page.maybe(&names::PROCESS_OPEN_FDS, p.open_fds);
    page.maybe(&names::PROCESS_MAX_FDS, p.max_fds);
    page.maybe(&names::PROCESS_THREADS, p.threads);
    page.maybe(&names::PROCESS_START, p.start_unix_secs);
    let engine = &snapshot.engine;
    page.flag(&names::CONFIG_OK, &[], engine.reload_ok);
    page.put(
        &names::CONFIG_TIME,
        &[],
        snapshot.epoch.unix_secs(engine.reload_at),
    );
    page.flag(&names::READY, &[], engine.unready().is_none());
    page.count(&names::PIPELINES_WEDGED, &[], engine.wedged as u64);
    page.count(&names::LOG_SUPPRESSED, &[], super::log::suppressed_total());
    let evidence = &snapshot.evidence;
    if let Some(uploads) = &evidence.uploads {
        for (result, count) in [
            ("uploaded", uploads.uploaded),
            ("failed", uploads.failed),
            ("dropped", uploads.dropped),
        ] {
            page.count(&names::EVIDENCE_UPLOADS, &[result], count);
        }
        page.count(&names::EVIDENCE_UPLOADS_WAITING, &[], uploads.waiting);
    }
    if evidence.folder.is_some() {
        page.count(&names::EVIDENCE_WRITES, &["written"], evidence.written);
        page.count(&names::EVIDENCE_WRITES, &["failed"], evidence.failed);
        page.count(&names::EVIDENCE_WRITES, &["dropped"], evidence.dropped);
        page.count(&names::EVIDENCE_EVICTED, &[], evidence.evicted);
        page.count(&names::EVIDENCE_BYTES, &[], evidence.bytes);
        page.count(&names::CLIPS, &["written"], evidence.clips_written);
        page.count(&names::CLIPS, &["failed"], evidence.clips_failed);
        page.count(&names::CLIPS, &["dropped"], evidence.clips_dropped);
        page.count(&names::CLIP_RING_BYTES, &[], evidence.ring_bytes);
    }
}

fn stream(page: &mut Page, snapshot: &Snapshot, status: &Status) {
    let id = &*status.stream.id;
    page.put(
        &names::STREAM_INFO,
        &[id, status.stream.input.protocol.as_str()],
        1.0,
    );
    let up = matches!(status.state, State::Running | State::Degraded);
    page.flag(&names::STREAM_UP, &[id], up);
    for state in State::ALL {
        page.flag(
            &names::STREAM_STATE,
            &[id, state.as_str()],
            state == status.state,
        );
    }
    page.put(&names::STREAM_MEDIA, &[id], status.media_secs);
    page.count(&names::VIDEO_FRAMES_DROPPED, &[id], status.dropped_pictures);
    page.count(&names::LANE_QUEUE, &[id], status.queued as u64);
    for track in &status.tracks {
        let name = track.info.track.to_string();
        let (kind, frames) = match track.info.track.kind {
            TrackKind::Video => ("video", &names::VIDEO_FRAMES),
            TrackKind::Audio => ("audio", &names::AUDIO_SAMPLES),
        };
        let language = track.info.language.as_deref().unwrap_or("");
        let member = track.info.member.as_deref().unwrap_or("");
        let info = [id, &name, kind, &track.info.codec, language, member];
        page.put(&names::TRACK_INFO, &info, 1.0);
        page.count(frames, &[id, &name], track.decoded);
        if let Some(last) = track.last {
            let unix = snapshot.epoch.unix_secs(last);
            page.put(&names::STREAM_LAST_FRAME, &[id, &name], unix);
        }
    }
    for d in &status.detectors {
        let labels = [id, d.detector];
        page.put(&names::DETECTOR_CPU, &labels, d.busy_nanos as f64 / 1e9);
        page.count(
            &names::DETECTOR_FRAMES,
            &[id, d.detector, "analysed"],
            d.analysed,
        );
        page.count(&names::DETECTOR_FRAMES, &[id, d.detector, "shed"], d.shed);
        page.put(&names::DETECTOR_MEASURED, &labels, d.measured_secs);
        page.put(&names::DETECTOR_DUE, &labels, d.due_secs);
        page.flag(&names::DETECTOR_FAILED, &labels, d.failed);
    }
}

fn input(page: &mut Page, status: &Status, stats: &Stats) {
    let id = &*status.stream.id;
    page.count(&names::STREAM_RESTARTS, &[id], stats.restarts.get());
    page.count(&names::STREAM_INPUT_BYTES, &[id], stats.input_bytes.get());
    page.count(&names::STREAM_SHED_BYTES, &[id], stats.shed_bytes.get());
    page.count(
        &names::DECODER_COMPLAINTS,
        &[id],
        stats.decoder_complaints.get(),
    );
    page.count(
        &names::BREAK_MARKERS,
        &[id, "start"],
        stats.break_starts.get(),
    );
    page.count(&names::BREAK_MARKERS, &[id, "end"], stats.break_ends.get());
    let protocol = status.stream.input.protocol;
    let always_ts = matches!(protocol, Protocol::Udp | Protocol::Rtp | Protocol::Srt);
    let packets = stats.ts_packets.get();
    if always_ts || packets > 0 {
        page.count(&names::TS_PACKETS, &[id], packets);
        for (check, counter) in TsCheck::ALL.iter().zip(&stats.ts_errors) {
            page.count(&names::TS_ERRORS, &[id, check.as_str()], counter.get());
        }
    }
    if matches!(protocol, Protocol::Rtp | Protocol::Rtsp) {
        page.count(&names::RTP_LOST, &[id], stats.rtp_lost.get());
    }
    if matches!(protocol, Protocol::Hls | Protocol::Dash) {
        for result in RequestResult::ALL {
            let labels = [id, result.as_str()];
            let read = |all: &[crate::ingest::stats::Counter; 6]| {
                all.get(result as usize).map_or(0, |c| c.get())
            };
            page.count(
                &names::PLAYLIST_REQUESTS,
                &labels,
                read(&stats.playlist_requests),
            );
            page.count(
                &names::SEGMENT_REQUESTS,
                &labels,
                read(&stats.segment_requests),
            );
        }
        let change = stats.playlist_last_change_unix_ms.get();
        if change > 0 {
            page.put(&names::PLAYLIST_CHANGE, &[id], change as f64 / 1000.0);
        }
    }
}

fn signals(page: &mut Page, status: &Status) {
    let id = &*status.stream.id;
    let mut blind: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for latest in &status.latest {
        if let Value::Unmeasurable(why) = latest.reading.value {
            *blind.entry((latest.detector, why.as_str())).or_default() += 1;
        }
    }
    for ((detector, why), n) in blind {
        page.count(&names::SIGNAL_UNMEASURABLE, &[id, detector, why], n);
    }
    for latest in &status.latest {
        let Value::Measured(value) = latest.reading.value else {
            continue;
        };
        let track = latest.track.map(|t| t.to_string()).unwrap_or_default();
        let name = latest.signal.name;
        page.put(
            &names::SIGNAL_VALUE,
            &[id, latest.detector, name, &track],
            value,
        );
        for (detector, signal, family) in SIGNAL_FAMILIES {
            if *detector == latest.detector && *signal == name {
                let mut labels = vec![id, &*track];
                if family.labels.contains(&"source") {
                    labels.extend(Source::of(detector).map(Source::as_str));
                }
                page.put(family, &labels, value);
            }
        }
    }
}

/// Zeros for every enabled rule, then what really fired, on streams that are still watched.
fn defects(page: &mut Page, snapshot: &Snapshot) {
    for (status, _) in &snapshot.streams {
        let id = &*status.stream.id;
        for detector in &status.stream.detectors {
            for rule in &detector.rules {
                let (detector, severity) = (detector.descriptor.name, rule.severity.as_str());
                let labels = [id, detector, rule.name];
                page.count(&names::DEFECTS, &[id, detector, rule.name, severity], 0);
                page.count(&names::DEFECT_ACTIVE, &labels, 0);
                page.count(&names::DEFECT_ACTIVE_SECONDS, &labels, 0);
            }
        }
    }
    let watched: HashSet<&str> = snapshot
        .streams
        .iter()
        .map(|(s, _)| &*s.stream.id)
        .collect();
    for ((stream, detector, rule), tally) in &snapshot.tallies {
        let labels = [&**stream, detector, rule];
        if !watched.contains(labels[0]) {
            continue;
        }
        for severity in SEVERITIES {
            let raised = tally.raised(severity);
            if raised > 0 {
                let [stream, detector, rule] = labels;
                let labels = [stream, detector, rule, severity.as_str()];
                page.count(&names::DEFECTS, &labels, raised);
            }
        }
        let active = tally.active(snapshot.now).as_secs_f64();
        page.count(&names::DEFECT_ACTIVE, &labels, tally.open.into());
        page.put(&names::DEFECT_ACTIVE_SECONDS, &labels, active);
    }
}

fn notifications(page: &mut Page, snapshot: &Snapshot) {
    for r in &snapshot.notify.receivers {
        let name = r.receiver.as_str();
        for (result, count) in [
            ("delivered", r.delivered),
            ("retried", r.retried),
            ("dead", r.dead),
            ("compacted", r.compacted),
        ] {
            page.count(&names::NOTIFICATIONS, &[name, result], count);
        }
        page.count(&names::TEMPLATE_FAILURES, &[name], r.template_failed);
        page.count(&names::OUTBOX_PENDING, &[name], r.pending);
        if let Some(oldest) = r.oldest {
            let unix = snapshot.epoch.unix_secs(oldest);
            page.put(&names::OUTBOX_OLDEST, &[name], unix);
        }
        let delays = Series::Delays {
            bounds: &DELAY_BUCKETS_SECS,
            counts: r.delays.to_vec(),
            sum: r.delay_sum_secs,
        };
        page.insert(&names::NOTIFICATION_DELAY, &[name], delays);
    }
    for (severity, open) in SEVERITIES.iter().zip(snapshot.notify.incidents) {
        page.count(&names::INCIDENTS_OPEN, &[severity.as_str()], open);
    }
    let engine = &snapshot.engine;
    page.put(&names::MONITORING_GAP, &[], snapshot.notify.gap_secs);
    page.count(&names::CANARY, &["arrived"], engine.canary_arrived);
    page.count(&names::CANARY, &["lost"], engine.canary_lost);
    for (family, at) in [
        (&names::CANARY_AT, engine.canary_at),
        (&names::HEARTBEAT_AT, engine.heartbeat_at),
    ] {
        if let Some(at) = at {
            page.put(family, &[], snapshot.epoch.unix_secs(at));
        }
    }
    let store = &snapshot.notify.store;
    page.count(&names::DEGRADED, &[], store.degraded.is_some().into());
    page.count(&names::DEAD_LETTERS, &[], store.dead as u64);
    page.count(&names::STORE_BYTES, &[], store.size_bytes);
    let commits = Series::Delays {
        bounds: &COMMIT_SECS,
        counts: store.commit_secs.to_vec(),
        sum: store.commit_secs_sum,
    };
    page.insert(&names::STORE_COMMIT, &[], commits);
    if let Some(events) = snapshot.notify.events {
        for (result, count) in [
            ("written", events.written),
            ("failed", events.failed),
            ("dropped", events.dropped),
        ] {
            page.count(&names::EVENTS_WRITTEN, &[result], count);
        }
    }
}
