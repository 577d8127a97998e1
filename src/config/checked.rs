//! The configuration after checking: every default applied, every reference resolved, no secrets left as files.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use detectors::base::{Descriptor, Options, RuleSpec, Track};
use detectors::registry::REGISTRY;

use super::added::Base;
use super::content_keys::{ContentKeys, Licence};
use super::evidence::Evidence;
use super::expected::Expected;
use super::http::Http;
use super::receivers::{Canary, Heartbeat, Incidents, Receiver};

/// A text that must not be shown: `Debug` prints `***`, or the part that may be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    shown: Option<String>,
}

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            shown: None,
        }
    }

    /// Wraps a text of which a masked form may be shown, such as a URL without its query.
    pub fn with_shown(text: impl Into<String>, shown: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            shown: Some(shown.into()),
        }
    }

    /// The secret itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What may be shown of it.
    pub fn shown(&self) -> &str {
        self.shown.as_deref().unwrap_or("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// This process.
    pub instance: Instance,
    /// HTTP API, metrics, health.
    pub http: Http,
    /// Named detector subsets, from `groups:`.
    pub groups: BTreeMap<String, Vec<&'static str>>,
    /// Static shard, if any: `index` of `count`.
    pub shard: Option<Shard>,
    /// Where alerts go.
    pub receivers: Vec<Receiver>,
    /// Where evidence goes besides the disk.
    pub evidence: Evidence,
    /// How incidents are made.
    pub incidents: Incidents,
    /// The proof that alerts arrive.
    pub canary: Canary,
    /// The sign of life.
    pub heartbeat: Heartbeat,
    /// Streams, in the order written, before sharding.
    pub streams: Vec<Arc<Stream>>,
    /// What streams begin from that are added later.
    pub base: Base,
}

impl Config {
    /// The detectors of the named groups together; `all` means every detector.
    pub fn detectors_of(&self, groups: &[String]) -> Result<Vec<&'static str>, UnknownGroup> {
        let mut wanted = Vec::new();
        for name in groups {
            match self.groups.get(name) {
                Some(group) => wanted.extend(group),
                None if name == "all" => wanted.extend(REGISTRY.iter().map(|d| d.name)),
                None => {
                    return Err(UnknownGroup {
                        name: name.clone(),
                        known: self.groups.keys().cloned().chain(["all".into()]).collect(),
                    });
                }
            }
        }
        Ok(wanted)
    }

    /// Restricts every stream to the detectors of the named groups together.
    pub fn select_groups(&self, groups: &[String]) -> Result<Self, UnknownGroup> {
        let wanted = self.detectors_of(groups)?;
        let streams = self.streams.iter().map(|s| Arc::new(s.only(&wanted)));
        Ok(Self {
            streams: streams.collect(),
            ..self.clone()
        })
    }

    /// Listens elsewhere than the file says. Refused without a token, unless the address is loopback.
    pub fn listen_on(&mut self, listen: SocketAddr) -> Result<(), TokenRequired> {
        if !listen.ip().is_loopback() && !self.http.asks_for_a_token() {
            return Err(TokenRequired { listen });
        }
        self.http.listen = Some(listen);
        Ok(())
    }
}

/// `--groups` names a group that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown group `{name}`; known are {}", known.join(", "))]
pub struct UnknownGroup {
    /// As written.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

/// The API would be open to the network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{listen} is not loopback, so `http.token` or `http.token_file` must be set")]
pub struct TokenRequired {
    /// Where it should have listened.
    pub listen: SocketAddr,
}

/// This process.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Name in logs and alerts; default: host name.
    pub name: String,
    /// Where evidence is kept.
    pub data_dir: PathBuf,
    /// Upper bound of evidence on disk, bytes.
    pub evidence_quota_bytes: u64,
    /// How long SIGTERM may take.
    pub drain: Duration,
    /// Threads of the detector pool; 0 = number of cores.
    pub pool_threads: usize,
}

/// A static part of all streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// 0..count.
    pub index: u32,
    /// At least 1.
    pub count: u32,
}

/// One monitored stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// `[a-z0-9][a-z0-9_-]{0,63}`.
    pub id: Arc<str>,
    /// Free labels, carried into alerts.
    pub labels: BTreeMap<String, String>,
    /// Where and how to read it.
    pub input: Input,
    /// Another place of the same programme to compare with.
    pub reference: Option<Against>,
    /// Bearer token of the other instance.
    pub reference_token: Option<Secret>,
    /// What every correct delivery holds.
    pub expect: Expect,
    /// Detectors to run, with options and rules.
    pub detectors: Vec<DetectorConfig>,
    /// A detector that cannot measure for this long raises the built-in blind rule.
    pub blind_after: Duration,
    /// When stills, blacks and silences are part of the programme.
    pub expected: Vec<Expected>,
    /// Sound tracks whose silence is never told.
    pub quiet_tracks: Vec<Track>,
    /// Whether stills and clips are kept.
    pub evidence: bool,
}

impl Stream {
    /// The same stream with only these of its detectors.
    pub fn only(&self, detectors: &[&str]) -> Self {
        let mut stream = self.clone();
        stream
            .detectors
            .retain(|d| detectors.contains(&d.descriptor.name));
        stream
    }
}

/// Tracks that must be there; a missing one is a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// Picture tracks: `None` = whatever is announced.
    pub video: Option<u8>,
    /// Sound tracks: `None` = whatever is announced.
    pub audio: Option<u8>,
}

/// One detector on one stream.
#[derive(Clone)]
pub struct DetectorConfig {
    /// Row of the registry.
    pub descriptor: &'static Descriptor,
    /// Options.
    pub options: Options,
    /// Enabled rules, with overrides applied.
    pub rules: Vec<RuleSpec>,
}

impl fmt::Debug for DetectorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetectorConfig")
            .field("name", &self.descriptor.name)
            .field("options", &self.options)
            .field("rules", &self.rules)
            .finish()
    }
}

impl PartialEq for DetectorConfig {
    fn eq(&self, other: &Self) -> bool {
        self.descriptor.name == other.descriptor.name
            && self
                .descriptor
                .options
                .iter()
                .all(|o| self.options.get(o.name) == other.options.get(o.name))
            && self.options.list() == other.options.list()
            && self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(|(a, b)| same(a, b))
    }
}

/// Whether two rules judge alike.
fn same(a: &RuleSpec, b: &RuleSpec) -> bool {
    let key = |r: &RuleSpec| {
        (
            (r.name, r.signal, r.says, r.cause),
            (r.raise, r.clear, r.hold, r.release, r.severity),
        )
    };
    key(a) == key(b)
}

/// Protocol of an input, from its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Local file.
    File,
    /// Progressive HTTP.
    Http,
    /// HLS over HTTP, or a local playlist file.
    Hls,
    /// DASH over HTTP, or a local manifest file.
    Dash,
    /// SRT.
    Srt,
    /// MPEG-TS in UDP.
    Udp,
    /// MPEG-TS in RTP.
    Rtp,
    /// RTMP, pulled.
    Rtmp,
    /// RTSP.
    Rtsp,
}

impl Protocol {
    /// Label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::File => "file",
            Protocol::Http => "http",
            Protocol::Hls => "hls",
            Protocol::Dash => "dash",
            Protocol::Srt => "srt",
            Protocol::Udp => "udp",
            Protocol::Rtp => "rtp",
            Protocol::Rtmp => "rtmp",
            Protocol::Rtsp => "rtsp",
        }
    }
}

/// Another place of the same programme.
#[derive(Debug, Clone, PartialEq)]
pub enum Against {
    /// A stream of this configuration, by its id.
    Stream(Arc<str>),
    /// A stream of another instance, by its URL in the API there.
    Instance(Secret),
}

/// How a stream is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Full URL with its secrets; `file:` URLs are absolute.
    pub url: Secret,
    /// From the scheme (and path, for HLS and DASH).
    pub protocol: Protocol,
    /// Extra HTTP request headers; values are secret.
    pub headers: Vec<(String, Secret)>,
    /// Which rendition of a master playlist or manifest is watched.
    pub rendition: Rendition,
    /// MPEG-TS program number; `None` = first with media.
    pub program: Option<u16>,
    /// SRT options.
    pub srt: Srt,
    /// RTSP options.
    pub rtsp: Rtsp,
    /// RTP jitter buffer.
    pub jitter: Duration,
    /// Multicast interface by name.
    pub interface: Option<String>,
    /// Keys of encrypted media.
    pub content_keys: ContentKeys,
    /// Where further keys are asked for.
    pub licence: Licence,
    /// Whether private, link-local and loopback addresses may be reached.
    pub allow_private: bool,
    /// Overrides how long media may stay away before it is visible; `None` = by protocol.
    pub visible_after: Option<Duration>,
    /// Overrides how long media may stay away before it pages; `None` = by protocol.
    pub page_after: Option<Duration>,
    /// Size and time limits.
    pub limits: Limits,
    /// Decoder threads for pictures wider or higher than `threads_above_height`.
    pub decode: Decode,
    /// Speed of files.
    pub pace: Pace,
}

/// Rule that picks what is watched of a master playlist or manifest: one rendition, or several as members of one
/// stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rendition {
    /// Highest bandwidth.
    Highest,
    /// Lowest bandwidth.
    Lowest,
    /// Nearest to this many rows.
    Height(u32),
    /// Largest bandwidth not above this many bits a second (else the lowest).
    Bandwidth(u64),
    /// `NAME` or `VIDEO` group name; the `id` of a DASH representation.
    Name(String),
    /// All of them, at most [`Rendition::MEMBERS_MAX`]: of more, the ends and evenly spaced ones between.
    All,
    /// The highest and the lowest.
    Ends,
    /// What each of these rules for one rendition picks.
    Several(Vec<Rendition>),
}

impl Rendition {
    /// Most renditions that are watched as members of one stream.
    pub const MEMBERS_MAX: usize = 8;

    /// Whether it picks members rather than one rendition.
    pub fn is_several(&self) -> bool {
        matches!(
            self,
            Rendition::All | Rendition::Ends | Rendition::Several(_)
        )
    }
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtMode {
    /// We call.
    Caller,
    /// We listen.
    Listener,
}

/// SRT options.
#[derive(Debug, Clone, PartialEq)]
pub struct Srt {
    /// Who calls.
    pub mode: SrtMode,
    /// Passphrase, 10..=79 bytes.
    pub passphrase: Option<Secret>,
    /// Stream id.
    pub stream_id: Option<Secret>,
    /// Receive latency.
    pub latency: Duration,
}

/// How RTSP media travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtspTransport {
    /// Inside the RTSP connection.
    Tcp,
    /// In datagrams beside it.
    Udp,
}

/// RTSP options.
#[derive(Debug, Clone, PartialEq)]
pub struct Rtsp {
    /// How media travels.
    pub transport: RtspTransport,
    /// Length of the jitter buffer.
    pub latency: Duration,
    /// User; one in the URL comes first.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
}

impl Default for Rtsp {
    fn default() -> Self {
        Self {
            transport: RtspTransport::Tcp,
            latency: Duration::from_millis(200),
            user: None,
            password: None,
        }
    }
}

/// Limits of what is fetched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Playlist bytes.
    pub playlist_bytes: usize,
    /// Segment bytes.
    pub segment_bytes: usize,
    /// Redirects in a row.
    pub redirects: usize,
    /// Connect and first-byte deadline.
    pub connect: Duration,
    /// Longest silence inside a body.
    pub idle: Duration,
    /// Largest picture, pixels.
    pub picture_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            playlist_bytes: 4 << 20,
            segment_bytes: 64 << 20,
            redirects: 3,
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(5),
            picture_pixels: 8192 * 4320,
        }
    }
}

/// Decoder threading: one mode everywhere, because concealment depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decode {
    /// Pictures with more rows than this get `large_threads` frame threads.
    pub large_above_height: u32,
    /// Frame threads of large pictures.
    pub large_threads: u8,
}

impl Default for Decode {
    fn default() -> Self {
        Self {
            large_above_height: 1440,
            large_threads: 2,
        }
    }
}

/// Speed at which files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the detectors follow.
    Fast,
    /// As a viewer would see it.
    RealTime,
}
