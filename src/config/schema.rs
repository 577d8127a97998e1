//! Every key of the file, once: the checker reads defaults and ranges from here, the reference prints them.

use std::time::Duration;

mod receivers;

pub use receivers::*;

/// A key of a mapping.
#[derive(Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What may stand there.
    pub shape: Shape,
    /// One or two sentences.
    pub help: &'static str,
}

/// What may stand at a key.
#[derive(Debug)]
pub enum Shape {
    /// A whole number.
    Whole {
        /// Used when the key is missing.
        default: Option<u64>,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// A duration such as `2s`.
    Span {
        /// Used when the key is missing.
        default: Option<Duration>,
        /// Shortest allowed.
        min: Duration,
        /// Longest allowed.
        max: Duration,
    },
    /// `true` or `false`.
    Flag {
        /// Used when the key is missing.
        default: bool,
    },
    /// One of some words.
    Word {
        /// Used when the key is missing.
        default: &'static str,
        /// Allowed.
        of: &'static [&'static str],
    },
    /// Text.
    Text {
        /// Used when the key is missing.
        default: Option<&'static str>,
        /// For the reference.
        sample: &'static str,
    },
    /// Text that is never shown; `NAME_file` names a file that holds it.
    Secret {
        /// For the reference.
        sample: &'static str,
    },
    /// A mapping with known keys.
    Section(&'static [Key]),
    /// As [`Shape::Section`], instead of the section before it.
    Alternative(&'static [Key]),
    /// A list of texts.
    Texts {
        /// Used when the key is missing.
        default: &'static [&'static str],
        /// For the reference.
        sample: &'static str,
    },
    /// A list of mappings with known keys.
    List(&'static [&'static [Key]]),
    /// A list of mappings with known keys, none by default; `sample` is one of them on a line.
    Items {
        /// Keys of each.
        keys: &'static [Key],
        /// For the reference.
        sample: &'static str,
    },
    /// A mapping with free keys; `sample` is one entry.
    Free {
        /// For the reference.
        sample: &'static str,
    },
    /// The pinned rendition.
    Rendition,
    /// A mapping from detector names to their settings.
    Detectors,
    /// A mapping from names to stream settings.
    Profiles,
}

const fn whole(default: u64, min: u64, max: u64) -> Shape {
    Shape::Whole {
        default: Some(default),
        min,
        max,
    }
}

const fn maybe_whole(min: u64, max: u64) -> Shape {
    Shape::Whole {
        default: None,
        min,
        max,
    }
}

const fn span_ms(default: u64, min: u64, max: u64) -> Shape {
    Shape::Span {
        default: Some(Duration::from_millis(default)),
        min: Duration::from_millis(min),
        max: Duration::from_millis(max),
    }
}

const fn maybe_span_ms(min: u64, max: u64) -> Shape {
    Shape::Span {
        default: None,
        min: Duration::from_millis(min),
        max: Duration::from_millis(max),
    }
}

const fn text(sample: &'static str) -> Shape {
    Shape::Text {
        default: None,
        sample,
    }
}

const fn key(name: &'static str, shape: Shape, help: &'static str) -> Key {
    Key { name, shape, help }
}

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

/// Longest hold and release of a rule.
pub const LONGEST_HOLD: Duration = Duration::from_millis(24 * HOUR);

/// The file as a whole.
pub const TOP: &[Key] = &[
    key(
        "version",
        maybe_whole(1, 1),
        "Version of this format. Required.",
    ),
    key("instance", Shape::Section(INSTANCE), "This process."),
    key(
        "http",
        Shape::Section(HTTP),
        "API, metrics, health and the web page.",
    ),
    key(
        "receivers",
        Shape::List(&[RECEIVER]),
        "Where alerts are sent.",
    ),
    key(
        "evidence",
        Shape::Section(EVIDENCE),
        "Where sets of evidence go besides the disk.",
    ),
    key(
        "incidents",
        Shape::Section(INCIDENTS),
        "How defects become incidents, which are what people are told about.",
    ),
    key(
        "canary",
        Shape::Section(CANARY),
        "A stream made inside the process, with a defect now and then whose alert must arrive: the proof that the way \
         from a picture to a receiver works.",
    ),
    key(
        "heartbeat",
        Shape::Section(HEARTBEAT),
        "A call now and then to a service that pages when it stays away.",
    ),
    key(
        "groups",
        Shape::Free {
            sample: "basics: [DETECTOR]",
        },
        "Named subsets of detectors, for `run --groups NAME`. `all` always exists.",
    ),
    key(
        "shard",
        Shape::Section(SHARD),
        "This process takes only its part of the streams; the same file serves every part.",
    ),
    key(
        "defaults",
        Shape::Section(SETTINGS),
        "Settings of all streams. Profiles, then streams, are laid on top, key by key.",
    ),
    key(
        "profiles",
        Shape::Profiles,
        "Named settings that streams refer to by `profile:`. Same keys as `defaults`.",
    ),
    key(
        "streams",
        Shape::List(&[STREAM, SETTINGS]),
        "What is watched. Required. Besides the keys shown here, every key of `defaults` may be given.",
    ),
];

/// `instance:`
pub const INSTANCE: &[Key] = &[
    key(
        "name",
        text("monitor-1"),
        "Name in logs and alerts. Default: the host name.",
    ),
    key(
        "data_dir",
        Shape::Text {
            default: Some("data"),
            sample: "data",
        },
        "Where evidence and alerts are kept; relative to the working directory. One process uses it at a time.",
    ),
    key(
        "evidence_quota_mib",
        whole(1024, 1, 1 << 30),
        "Most that evidence may take on disk, MiB; the oldest goes first.",
    ),
    key(
        "drain",
        span_ms(25 * SECOND, 0, HOUR),
        "How long a clean stop may take.",
    ),
    key(
        "pool_threads",
        whole(0, 0, 1024),
        "Threads for detectors; 0 takes one per core.",
    ),
];

/// `http:`
pub const HTTP: &[Key] = &[
    key(
        "listen",
        Shape::Text {
            default: Some("127.0.0.1:9464"),
            sample: "127.0.0.1:9464",
        },
        "Address and port, or `off`. Anything but loopback needs a token.",
    ),
    key(
        "token",
        Shape::Secret {
            sample: "${GLASSWATCH_TOKEN}",
        },
        "Bearer token that clients must send; it may do everything.",
    ),
    key(
        "tokens",
        Shape::List(&[API_TOKEN]),
        "Further tokens, each with a name for the audit log and with what it may do.",
    ),
    key(
        "public_url",
        text("https://monitor-1.example.com:9464"),
        "Where people reach the page: scheme, host and port. With it alerts carry links to their evidence that need no token.",
    ),
    key(
        "link_hours",
        whole(168, 1, 8760),
        "Such a link ends after so many hours.",
    ),
];

/// An item of `http.tokens:`
pub const API_TOKEN: &[Key] = &[
    key("name", text("on-call"), "Unique name. Required."),
    key(
        "token",
        Shape::Secret {
            sample: "${GLASSWATCH_ON_CALL_TOKEN}",
        },
        "The token. Required.",
    ),
    key(
        "scope",
        Shape::Word {
            default: "read",
            of: &["read", "operate", "admin"],
        },
        "`read` sees everything; `operate` also acknowledges and mutes; `admin` also adds and removes streams.",
    ),
];

/// `shard:`
pub const SHARD: &[Key] = &[
    key(
        "index",
        maybe_whole(0, 65_535),
        "Which part, from 0. Required.",
    ),
    key("count", maybe_whole(1, 65_536), "How many parts. Required."),
];

/// Items of `expected:`
pub const EXPECTED: &[Key] = &[
    key(
        "days",
        Shape::Texts {
            default: &["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
            sample: "[sat, sun]",
        },
        "Days on which it begins.",
    ),
    key("from", text("\"02:00\""), "Time of day. Required."),
    key(
        "until",
        text("\"05:00\""),
        "Time of day; of the next day when it is not after `from`. Required.",
    ),
    key(
        "time_zone",
        Shape::Text {
            default: Some("UTC"),
            sample: "Europe/Berlin",
        },
        "Name of the IANA time zone of both.",
    ),
];

/// Keys of a stream that cannot stand in `defaults` or a profile.
pub const STREAM: &[Key] = &[
    key(
        "id",
        text("channel-1"),
        "Unique: a-z, 0-9, `_` and `-`, at most 64, not beginning with `_` or `-`. Required.",
    ),
    key(
        "url",
        Shape::Secret {
            sample: "https://cdn.example.com/channel-1/master.m3u8",
        },
        "http(s), srt, rtmp(s), rtsp(s), udp, rtp, or a file (relative to this file). HLS is known by `.m3u8`, DASH by \
         `.mpd`. Required.",
    ),
    key(
        "profile",
        text("sports"),
        "Name of a profile to lay between `defaults` and this stream.",
    ),
    key(
        "reference",
        Shape::Secret {
            sample: "https://monitor-2.example.com/api/v1/streams/channel-1",
        },
        "Another place of the same programme, with which `av_reference` compares sound and pictures: the `id` of a \
         stream of this file, or the URL of a stream in the API of another instance.",
    ),
    key(
        "reference_token",
        Shape::Secret {
            sample: "${GLASSWATCH_TOKEN}",
        },
        "Bearer token of that other instance.",
    ),
];

/// Settings of a stream.
pub const SETTINGS: &[Key] = &[
    key(
        "labels",
        Shape::Free {
            sample: "region: eu",
        },
        "Free labels, carried into alerts.",
    ),
    key(
        "headers",
        Shape::Free {
            sample: "Authorization: \"Bearer ${ORIGIN_TOKEN}\"",
        },
        "Extra HTTP request headers. Values are never shown.",
    ),
    key(
        "rendition",
        Shape::Rendition,
        "The variant of an HLS master playlist or the representation of a DASH manifest to watch: highest, lowest, \
         {height: 720} (nearest), {bandwidth_bps: 3000000} (largest not above) or {name: \"720p\"}. Several are \
         watched as members of one stream, track 0 being the highest: all, ends (highest and lowest), or a list as \
         [highest, {height: 360}], at most 8. Each member is decoded: it costs as much as a stream of its own.",
    ),
    key(
        "program",
        maybe_whole(1, 65_535),
        "MPEG-TS program number. Default: the first one with media.",
    ),
    key("srt", Shape::Section(SRT), "SRT."),
    key("rtsp", Shape::Section(RTSP), "RTSP."),
    key(
        "jitter",
        span_ms(200, 0, 10 * SECOND),
        "Length of the RTP jitter buffer.",
    ),
    key(
        "interface",
        text("eth0"),
        "Network interface for multicast. Default: as the system routes.",
    ),
    key(
        "content_keys",
        Shape::Secret {
            sample: "${CONTENT_KEYS}",
        },
        "Keys of encrypted media (Common Encryption, and SAMPLE-AES whose key a playlist does not give): KEYID:KEY, 32 \
         hexadecimal digits each, separated by spaces, commas or lines.",
    ),
    key(
        "licence_url",
        Shape::Secret {
            sample: "https://keys.example.com/clearkey?token=${ORIGIN_TOKEN}",
        },
        "Where keys of Common Encryption are asked for that are not in `content_keys` (W3C ClearKey: POST of JSON), or \
         `from_manifest` to ask where a DASH manifest says.",
    ),
    key(
        "allow_private",
        Shape::Flag { default: false },
        "Whether the URL, and what playlists and redirects lead to, may be private, link-local or loopback \
         addresses.",
    ),
    key(
        "visible_after",
        maybe_span_ms(100, HOUR),
        "Media missing for this long is shown. Default: by protocol.",
    ),
    key(
        "page_after",
        maybe_span_ms(100, HOUR),
        "Media missing for this long pages. Default: by protocol.",
    ),
    key(
        "limits",
        Shape::Section(LIMITS),
        "What may be fetched and decoded.",
    ),
    key("decode", Shape::Section(DECODE), "Decoder threads."),
    key(
        "pace",
        Shape::Word {
            default: "real_time",
            of: &["real_time", "fast"],
        },
        "Speed at which files are read: as a viewer would see it, or as fast as the detectors follow.",
    ),
    key(
        "expect",
        Shape::Section(EXPECT),
        "Tracks that every correct delivery holds; a missing one is a defect.",
    ),
    key(
        "evidence",
        Shape::Flag { default: true },
        "Whether stills, and clips of the input as it came, are kept as evidence; costs memory for about 20 s of the encoded input.",
    ),
    key(
        "expected",
        Shape::Items {
            keys: EXPECTED,
            sample: "days: [sat, sun], from: \"23:30\", until: \"05:00\", time_zone: Europe/Berlin",
        },
        "When stills, blacks and silences are part of the programme: they are recorded, and told only if they last longer. \
         From and until are times of day (of the next one when `until` is not after `from`); by default every day, and UTC.",
    ),
    key(
        "quiet_tracks",
        Shape::Texts {
            default: &[],
            sample: "[audio:1]",
        },
        "Sound tracks whose silence is recorded and never told, such as an audio description that speaks now and then.",
    ),
    key(
        "blind_after",
        span_ms(30 * SECOND, SECOND, 24 * HOUR),
        "A detector that cannot measure for this long is a defect of its own.",
    ),
    key(
        "detectors",
        Shape::Detectors,
        "All detectors run unless switched off with `NAME: false`.",
    ),
];

/// `rtsp:`
pub const RTSP: &[Key] = &[
    key(
        "transport",
        Shape::Word {
            default: "tcp",
            of: &["tcp", "udp"],
        },
        "How media travels: inside the RTSP connection, or in datagrams beside it.",
    ),
    key(
        "latency",
        span_ms(200, 0, 10 * SECOND),
        "Length of the jitter buffer.",
    ),
    key(
        "user",
        text("viewer"),
        "User. Also as `rtsp://user:password@` in the URL, which comes first.",
    ),
    key(
        "password",
        Shape::Secret {
            sample: "${RTSP_PASSWORD}",
        },
        "Password of `user`.",
    ),
];

/// `srt:`
pub const SRT: &[Key] = &[
    key(
        "mode",
        Shape::Word {
            default: "caller",
            of: &["caller", "listener"],
        },
        "Who calls. Also as `?mode=` in the URL.",
    ),
    key(
        "passphrase",
        Shape::Secret {
            sample: "${SRT_PASSPHRASE}",
        },
        "10 to 79 bytes. Also as `?passphrase=` in the URL.",
    ),
    key(
        "stream_id",
        Shape::Secret {
            sample: "read:channel-1",
        },
        "At most 512 bytes. Also as `?streamid=` in the URL.",
    ),
    key(
        "latency",
        span_ms(120, 0, 30 * SECOND),
        "Receive latency. Also as `?latency=` in the URL, there in milliseconds.",
    ),
];

/// `limits:`
pub const LIMITS: &[Key] = &[
    key(
        "playlist_bytes",
        whole(4 << 20, 1 << 10, 1 << 30),
        "Largest playlist.",
    ),
    key(
        "segment_bytes",
        whole(64 << 20, 1 << 16, 1 << 32),
        "Largest segment.",
    ),
    key("redirects", whole(3, 0, 20), "Redirects in a row."),
    key(
        "connect",
        span_ms(5 * SECOND, 100, 60 * SECOND),
        "Deadline for the connection and the first byte.",
    ),
    key(
        "idle",
        span_ms(5 * SECOND, 100, 60 * SECOND),
        "Longest silence inside a response.",
    ),
    key(
        "picture_pixels",
        whole(8192 * 4320, 1 << 12, 1 << 30),
        "Largest picture, width times height.",
    ),
];

/// `decode:`
pub const DECODE: &[Key] = &[
    key(
        "large_above_height",
        whole(1440, 0, 65_535),
        "Pictures with more rows than this get `large_threads`; all others one thread.",
    ),
    key(
        "large_threads",
        whole(2, 1, 64),
        "Threads of large pictures.",
    ),
];

/// `expect:`
pub const EXPECT: &[Key] = &[
    key(
        "video",
        maybe_whole(0, 8),
        "Picture tracks. Default: whatever is announced.",
    ),
    key(
        "audio",
        maybe_whole(0, 64),
        "Sound tracks. Default: whatever is announced.",
    ),
];

/// Forms of `rendition:` as a mapping.
pub const RENDITION: &[Key] = &[
    key(
        "height",
        maybe_whole(1, 65_535),
        "Nearest to this many rows.",
    ),
    key(
        "bandwidth_bps",
        maybe_whole(1, 10_000_000_000),
        "Largest bandwidth not above this; else the lowest.",
    ),
    key("name", text("720p"), "`NAME` or `VIDEO` group."),
];

/// Severity words.
pub const SEVERITIES: &[&str] = &["info", "warning", "critical"];

/// Keys of a rule of a detector.
pub const RULE: &[&str] = &["raise", "clear", "hold", "release", "severity", "enabled"];

/// The key of that name in one of the tables.
pub fn find(tables: &[&'static [Key]], name: &str) -> Option<&'static Key> {
    tables
        .iter()
        .flat_map(|t| t.iter())
        .find(|k| k.name == name)
}

/// All names that may be written, `NAME_file` included.
pub fn names(tables: &[&'static [Key]]) -> Vec<String> {
    let mut all = Vec::new();
    for key in tables.iter().flat_map(|t| t.iter()) {
        all.push(key.name.to_owned());
        if matches!(key.shape, Shape::Secret { .. }) {
            all.push(format!("{}_file", key.name));
        }
    }
    all
}

/// Reads `2s`, `500ms`, `1.5m`, `1h`.
pub fn parse_span(word: &str) -> Option<Duration> {
    let split = word.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = word.split_at(split);
    let factor = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    let nanos = number * factor * 1e9;
    (nanos < 1e18).then(|| Duration::from_nanos(nanos.round() as u64))
}

/// Writes a duration in the largest unit that keeps it whole, at worst in fractions of a millisecond.
pub fn span_word(span: Duration) -> String {
    let ms = span.as_millis();
    if Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)) != span {
        return format!("{}ms", span.as_nanos() as f64 / 1e6);
    }
    match ms {
        0 => "0s".to_owned(),
        ms if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        ms if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        ms if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// Writes a number without a needless fraction.
pub fn number_word(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value.abs() < 1e-4 || value.abs() >= 1e15 {
        format!("{value:e}")
    } else {
        format!("{value}")
    }
}

/// Writes a hash as it may stand in the file.
pub fn hash_word(hash: u64) -> String {
    format!("\"{hash:016x}\"")
}

/// An inclusive range in words; bounds beyond any real use are left out.
pub fn range_words(low: f64, high: f64) -> String {
    let open = |v: f64| v.abs() >= 1e15;
    match (open(low), open(high)) {
        (false, false) => format!("{} to {}", number_word(low), number_word(high)),
        (false, true) => format!("at least {}", number_word(low)),
        (true, false) => format!("at most {}", number_word(high)),
        (true, true) => "any number".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_write() {
        for (word, ms) in [
            ("2s", 2_000),
            ("500ms", 500),
            ("90s", 90_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(parse_span(word), Some(Duration::from_millis(ms)));
        }
        assert_eq!(parse_span("1.5m"), Some(Duration::from_secs(90)));
        for bad in [
            "",
            "2",
            "s",
            "-1s",
            "1e3s",
            "2 s",
            "2sec",
            ".s",
            "1e400h",
            "9999999999999999h",
        ] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
        for nanos in [
            0,
            500_000,
            40_000_000,
            1_000_000_000,
            90_000_000_000,
            7_200_000_000_000,
        ] {
            let span = Duration::from_nanos(nanos);
            assert_eq!(parse_span(&span_word(span)), Some(span));
        }
    }
}
