//! The one table of metrics: every name, type, label and help text that `/metrics` can show.
//!
//! Conventions: prefix `glasswatch_`; base units; `_total` on counters; timestamps instead of ages; a defect is
//! named by two labels, `detector` and `rule`, as in events. `stream` is the configured id; URLs and error texts
//! are never labels. Families that belong to a protocol exist only for streams of that protocol, and all series
//! of a stream go when it is removed. Process totals are never summed over streams here, so that a removed
//! stream does not look like a counter reset.

/// Type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up.
    Counter,
    /// Distribution.
    Histogram,
}

/// One metric family.
#[derive(Debug)]
pub struct Family {
    /// Full name.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Label names, in the order in which exporters give values.
    pub labels: &'static [&'static str],
    /// Help text.
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// Every family.
        pub static ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    BUILD_INFO = Gauge "glasswatch_build_info" ["version", "gstreamer"] "Versions of this process; always 1.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "User and system CPU time, seconds.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" [] "Resident memory.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" [] "Virtual memory.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" [] "Open file descriptors.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" [] "Limit of open file descriptors.";
    PROCESS_THREADS = Gauge "process_threads" [] "Threads.";
    PROCESS_START = Gauge "process_start_time_seconds" [] "Start of the process, Unix seconds.";
    CONFIG_OK = Gauge "glasswatch_config_last_reload_successful" [] "Whether the newest configuration was taken (1) or refused (0).";
    CONFIG_TIME = Gauge "glasswatch_config_last_reload_timestamp_seconds" [] "When a configuration was last taken, Unix seconds.";
    READY = Gauge "glasswatch_ready" [] "Whether /readyz answers yes.";
    PIPELINES_WEDGED = Gauge "glasswatch_pipelines_wedged" [] "Pipelines whose teardown did not end in time.";
    LOG_SUPPRESSED = Counter "glasswatch_log_lines_suppressed_total" [] "Log lines held back because they repeat.";

    STREAM_INFO = Gauge "glasswatch_stream_info" ["stream", "protocol"] "Streams that are watched; always 1.";
    STREAM_UP = Gauge "glasswatch_stream_up" ["stream"] "Whether all expected tracks deliver (1) or not (0).";
    STREAM_STATE = Gauge "glasswatch_stream_state" ["stream", "state"] "1 for the state the stream is in, 0 for the others.";
    STREAM_RESTARTS = Counter "glasswatch_stream_restarts_total" ["stream"] "Times the input was opened again.";
    STREAM_INPUT_BYTES = Counter "glasswatch_stream_input_bytes_total" ["stream"] "Media bytes received.";
    STREAM_SHED_BYTES = Counter "glasswatch_stream_shed_bytes_total" ["stream"] "Encoded bytes the monitor threw away because decoding lagged.";
    STREAM_MEDIA = Counter "glasswatch_stream_media_seconds_total" ["stream"] "Seconds of media seen.";
    STREAM_LAST_FRAME = Gauge "glasswatch_stream_last_frame_timestamp_seconds" ["stream", "track"] "When the newest picture or sound was decoded, Unix seconds.";
    TRACK_INFO = Gauge "glasswatch_track_info" ["stream", "track", "kind", "codec", "language", "member"] "Tracks the stream announces, and the rendition each is of where several are watched; always 1.";
    VIDEO_FRAMES = Counter "glasswatch_video_frames_total" ["stream", "track"] "Decoded pictures.";
    VIDEO_FRAMES_DROPPED = Counter "glasswatch_video_frames_dropped_total" ["stream"] "Decoded pictures the monitor itself dropped before analysis.";
    AUDIO_SAMPLES = Counter "glasswatch_audio_samples_total" ["stream", "track"] "Decoded sound, samples a channel.";
    DECODER_COMPLAINTS = Counter "glasswatch_decoder_complaints_total" ["stream"] "Messages in which the decoder told of damage.";
    LANE_QUEUE = Gauge "glasswatch_lane_queue_units" ["stream"] "Decoded units that wait for the detectors.";

    TS_PACKETS = Counter "glasswatch_ts_packets_total" ["stream"] "MPEG-TS packets.";
    TS_ERRORS = Counter "glasswatch_ts_errors_total" ["stream", "check"] "MPEG-TS errors by check of TR 101 290, named as the causes of the detector `ts` are; priority 1: ts_sync_loss, sync_byte_error, pat_error, continuity_count_error, pmt_error, pid_error.";
    BREAK_MARKERS = Counter "glasswatch_break_markers_total" ["stream", "edge"] "Break markers by what they announce: start or end of a break; repetitions of a marker are not counted.";
    RTP_LOST = Counter "glasswatch_rtp_packets_lost_total" ["stream"] "RTP packets missing by sequence number.";
    PLAYLIST_REQUESTS = Counter "glasswatch_playlist_requests_total" ["stream", "result"] "Requests for playlists by result.";
    PLAYLIST_CHANGE = Gauge "glasswatch_playlist_last_change_timestamp_seconds" ["stream"] "When the media playlist last changed, Unix seconds.";
    SEGMENT_REQUESTS = Counter "glasswatch_segment_requests_total" ["stream", "result"] "Requests for segments by result.";

    SIGNAL_VALUE = Gauge "glasswatch_signal_value" ["stream", "detector", "signal", "track"] "Newest value of every signal that can be measured now; the unit is the suffix of the signal's name.";
    SIGNAL_UNMEASURABLE = Gauge "glasswatch_signals_unmeasurable" ["stream", "detector", "reason"] "Signals of a detector that cannot be measured now, by reason.";
    AV_OFFSET = Gauge "glasswatch_av_offset_audio_early_seconds" ["stream", "track", "source"] "A/V offset by way of measuring: positive when audio is early, negative when it is late. pattern and reference tell the offset itself; timestamps tell its change since the stream's beginning, edges against what is usual on it.";
    AV_CONFIDENCE = Gauge "glasswatch_av_offset_confidence" ["stream", "track", "source"] "How sure the A/V offset is, 0 to 9; timestamps are exact and not listed. How much of the time it is measured: glasswatch_detector_measured_seconds_total by glasswatch_detector_due_seconds_total.";
    AUDIO_LEVEL = Gauge "glasswatch_audio_level_dbfs" ["stream", "track"] "Level of the loudest channel, dB of full scale.";
    VIDEO_STILL = Gauge "glasswatch_video_still_seconds" ["stream", "track"] "How long the picture has been standing still.";

    DEFECTS = Counter "glasswatch_defects_total" ["stream", "detector", "rule", "severity"] "Defects raised; 0 for enabled rules that never fired.";
    DEFECT_ACTIVE = Gauge "glasswatch_defect_active" ["stream", "detector", "rule"] "Open defects of a rule; 0 when none.";
    DEFECT_ACTIVE_SECONDS = Counter "glasswatch_defect_active_seconds_total" ["stream", "detector", "rule"] "Time with at least one defect of the rule open.";
    DETECTOR_CPU = Counter "glasswatch_detector_cpu_seconds_total" ["stream", "detector"] "Time spent in a detector.";
    DETECTOR_FRAMES = Counter "glasswatch_detector_frames_total" ["stream", "detector", "result"] "Units a detector analysed, and pictures it skipped (shed) because the stream lagged.";
    DETECTOR_MEASURED = Counter "glasswatch_detector_measured_seconds_total" ["stream", "detector"] "Media time in which the detector could measure.";
    DETECTOR_DUE = Counter "glasswatch_detector_due_seconds_total" ["stream", "detector"] "Media time in which the detector should have measured.";
    DETECTOR_FAILED = Gauge "glasswatch_detector_failed" ["stream", "detector"] "Whether the detector failed and is off on this stream.";

    NOTIFICATIONS = Counter "glasswatch_notifications_total" ["receiver", "result"] "Messages about incidents by what became of them: delivered, retried (attempts), dead (refused for good), compacted (left out after an outage: replaced, or told in a digest).";
    NOTIFICATION_DELAY = Histogram "glasswatch_notification_delay_seconds" ["receiver"] "Time from decision to the receiver's acceptance.";
    TEMPLATE_FAILURES = Counter "glasswatch_template_failures_total" ["receiver"] "Incidents told in our own words, because the receiver's template failed.";
    OUTBOX_PENDING = Gauge "glasswatch_outbox_pending" ["receiver"] "Messages that wait for a receiver.";
    OUTBOX_OLDEST = Gauge "glasswatch_outbox_oldest_timestamp_seconds" ["receiver"] "When the oldest waiting message was decided, Unix seconds; absent when none waits.";
    DEAD_LETTERS = Gauge "glasswatch_outbox_dead_letters" [] "Messages that no receiver took, and that are kept.";
    INCIDENTS_OPEN = Gauge "glasswatch_incidents_open" ["severity"] "Open incidents, told or not.";
    DEGRADED = Gauge "glasswatch_alert_durability_degraded" [] "Whether incidents cannot be written down, and are told from memory.";
    MONITORING_GAP = Counter "glasswatch_monitoring_gap_seconds_total" [] "Time in which nothing was watched: from the last sign of life of the process before to the beginning of this one, to 5 s. Blind time of detectors is due less measured time.";
    CANARY = Counter "glasswatch_canary_alerts_total" ["result"] "Alerts of the canary: arrived in time, lost.";
    CANARY_AT = Gauge "glasswatch_canary_last_arrival_timestamp_seconds" [] "When the canary's alert arrived last, Unix seconds; absent before the first.";
    HEARTBEAT_AT = Gauge "glasswatch_heartbeat_last_taken_timestamp_seconds" [] "When the heartbeat was taken last, Unix seconds; absent before the first, and without `heartbeat:`.";
    STORE_COMMIT = Histogram "glasswatch_store_commit_seconds" [] "Time from a decision's arrival at the store to its being on disk.";
    STORE_BYTES = Gauge "glasswatch_store_bytes" [] "Size of the store on disk, ballast included.";
    EVENTS_WRITTEN = Counter "glasswatch_events_written_total" ["result"] "Lines of the events file: written, failed, dropped.";
    EVIDENCE_WRITES = Counter "glasswatch_evidence_writes_total" ["result"] "Sets of stills: written, failed, dropped (the writer was behind).";
    EVIDENCE_EVICTED = Counter "glasswatch_evidence_evicted_total" [] "Sets of stills removed to stay within the quota.";
    EVIDENCE_BYTES = Gauge "glasswatch_evidence_bytes" [] "Evidence on disk.";
    EVIDENCE_UPLOADS = Counter "glasswatch_evidence_uploads_total" ["result"] "Files of evidence for the bucket: uploaded, failed (an attempt, tried again), dropped (too many waited, or the quota took them first).";
    EVIDENCE_UPLOADS_WAITING = Gauge "glasswatch_evidence_uploads_waiting" [] "Sets of evidence that wait for the bucket.";
    CLIPS = Counter "glasswatch_clips_total" ["result"] "Clips of the input for sets of evidence: written, failed, dropped (the writer was behind, or too many of one stream were being recorded).";
    CLIP_RING_BYTES = Gauge "glasswatch_clip_ring_bytes" [] "Encoded bytes that all streams keep in memory for clips.";
}

/// Signals that also have a family of their own: detector, signal, family. Label `source`: how the detector measures.
pub static SIGNAL_FAMILIES: &[(&str, &str, &Family)] = &[
    ("av_timing", "audio_early_secs", &AV_OFFSET),
    ("av_reference", "audio_early_secs", &AV_OFFSET),
    ("av_reference", "confidence", &AV_CONFIDENCE),
    ("av_pattern", "audio_early_secs", &AV_OFFSET),
    ("av_pattern", "confidence", &AV_CONFIDENCE),
    ("av_edges", "audio_early_secs", &AV_OFFSET),
    ("av_edges", "confidence", &AV_CONFIDENCE),
    ("silence", "level_dbfs", &AUDIO_LEVEL),
    ("freeze", "still_secs", &VIDEO_STILL),
];

/// The family of that name; for a histogram also by the names of its series.
pub fn find(name: &str) -> Option<&'static Family> {
    let plain = |name: &str| ALL.iter().copied().find(|f| f.name == name);
    plain(name).or_else(|| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find_map(|stem| plain(stem).filter(|f| f.kind == Kind::Histogram))
    })
}

/// The table as a Markdown page (`docs/metrics.md`).
pub fn reference() -> String {
    let mut out = String::from(
        "# Metrics\n\nEverything `/metrics` can show. Written from `src/telemetry/names.rs`.\n\n\
         | name | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for family in ALL {
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let row = [
            &format!("`{}`", family.name),
            kind,
            &labels.join(", "),
            family.help,
        ];
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::alert::av_offset::Source;

    #[test]
    fn names_keep_the_conventions() {
        for (i, family) in ALL.iter().enumerate() {
            let name = family.name;
            assert!(
                name.starts_with("glasswatch_") || name.starts_with("process_"),
                "{name}"
            );
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{name}"
            );
            assert!(family.help.ends_with('.'), "{name}");
            assert!(ALL[..i].iter().all(|f| f.name != name), "{name} twice");
            for label in family.labels {
                let words = ["type", "le", "quantile", "instance", "job", "url"];
                assert!(!words.contains(label), "{name}: {label}");
            }
        }
        assert_eq!(
            find("glasswatch_notification_delay_seconds_bucket")
                .unwrap()
                .labels,
            ["receiver"]
        );
        assert!(find("glasswatch_ready_bucket").is_none());
    }

    #[test]
    fn the_reference_page_is_up_to_date() {
        let page = include_str!("../../docs/metrics.md");
        for (is, should) in page.lines().zip(reference().lines()) {
            assert_eq!(is, should);
        }
        assert_eq!(page, reference());
    }

    #[test]
    fn signals_with_a_family_of_their_own_exist() {
        for (detector, signal, family) in SIGNAL_FAMILIES {
            let measures = matches!(family.labels, ["stream", "track", "source"]);
            assert!(
                measures || family.labels == ["stream", "track"],
                "{detector}"
            );
            assert_eq!(measures, Source::of(detector).is_some(), "{detector}");
            // A detector that is not built in has no series; one that is must have the signal.
            if let Some(row) = detectors::registry::find(detector) {
                assert!(
                    row.signals.iter().any(|s| s.name == *signal),
                    "{detector}/{signal}"
                );
            }
        }
    }
}
