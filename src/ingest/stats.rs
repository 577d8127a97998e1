//! Counters of one stream's input, written by sources and read by telemetry. All are totals since start.

use std::sync::atomic::{AtomicU64, Ordering};

use detectors::base::TsCheck;

/// Results of HTTP requests for playlists and segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum RequestResult {
    /// 2xx.
    Ok,
    /// 4xx.
    Http4xx,
    /// 5xx.
    Http5xx,
    /// No answer in time.
    Timeout,
    /// Name, connection, TLS, policy.
    Connect,
    /// Body unusable.
    Parse,
}

impl RequestResult {
    /// All results.
    pub const ALL: [RequestResult; 6] = [
        RequestResult::Ok,
        RequestResult::Http4xx,
        RequestResult::Http5xx,
        RequestResult::Timeout,
        RequestResult::Connect,
        RequestResult::Parse,
    ];

    /// Label value.
    pub fn as_str(self) -> &'static str {
        match self {
            RequestResult::Ok => "ok",
            RequestResult::Http4xx => "http_4xx",
            RequestResult::Http5xx => "http_5xx",
            RequestResult::Timeout => "timeout",
            RequestResult::Connect => "connect",
            RequestResult::Parse => "parse",
        }
    }
}

/// A counter that media threads may bump.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Overwrites; for the few gauges here.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// Input counters of one stream.
#[derive(Debug, Default)]
pub struct Stats {
    /// Media bytes received.
    pub input_bytes: Counter,
    /// Times the input was opened again after the first.
    pub restarts: Counter,
    /// TS packets seen.
    pub ts_packets: Counter,
    /// TS errors by [`TsCheck`].
    pub ts_errors: [Counter; TsCheck::COUNT],
    /// Break markers that announce a start, and an end.
    pub break_starts: Counter,
    /// See `break_starts`.
    pub break_ends: Counter,
    /// RTP packets lost.
    pub rtp_lost: Counter,
    /// Playlist requests by [`RequestResult`].
    pub playlist_requests: [Counter; 6],
    /// Segment requests by [`RequestResult`].
    pub segment_requests: [Counter; 6],
    /// Unix milliseconds of the last change of the media playlist; 0 = none yet.
    pub playlist_last_change_unix_ms: Counter,
    /// Encoded bytes the monitor itself threw away because decoding lagged.
    pub shed_bytes: Counter,
    /// Decoder complaints (concealment log lines).
    pub decoder_complaints: Counter,
}
