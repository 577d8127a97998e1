//! Checking of stream settings, detectors and rules.

use std::collections::BTreeMap;
use std::time::Duration;

use detectors::base::{Descriptor, Limit, ListSpec, Options, RuleSpec, Severity, Track};
use detectors::registry::REGISTRY;

use super::address;
use super::check::{Checker, ID_HINT, Origin, Section, child, is_id};
use super::checked::{
    Against, Decode, DetectorConfig, Expect, Input, Limits, Pace, Protocol, Rendition, Rtsp,
    RtspTransport, Secret, Srt, SrtMode, Stream,
};
use super::content_keys::{ContentKeys, Licence};
use super::expected::Expected;
use super::problem::suggest;
use super::raw::{self, Data, Node};
use super::schema;

impl Checker<'_> {
    /// A stream: `implied`, then `defaults` and its profile from `root`, then what it says itself.
    pub(super) fn stream(&mut self, node: &Node, implied: &Node, root: &Node) -> Option<Stream> {
        let mut under = raw::merge(implied, &child(root, "defaults"));
        if let Some(name) = node.get("profile")
            && let Some(word) = self.text_in(name)
        {
            let profiles = child(root, "profiles");
            match profiles.get(&word) {
                Some(profile) => under = raw::merge(&under, profile),
                None if profiles.entries().iter().any(|e| e.key == word) => {}
                None => {
                    let shown = self.word(name);
                    let known = profiles.entries().iter().map(|e| e.key.as_str());
                    self.wrong(
                        name,
                        format!("unknown profile `{shown}`"),
                        suggest(&shown, known)
                            .or_else(|| Some("there is no `profiles:`".to_owned())),
                    );
                }
            }
        }
        if !matches!(node.data, Data::Map(_)) {
            self.open(node, &[]);
            return None;
        }
        let merged = raw::merge(&under, node);
        let s = self.open(&merged, &[schema::STREAM, schema::SETTINGS]);
        let id = match s.node.get("id") {
            None => {
                self.wrong(node, "`id` is missing", None);
                None
            }
            Some(id) => self.text_in(id).filter(|word| {
                let good = is_id(word);
                if !good {
                    let message = format!("`{}` is not a valid id", self.word(id));
                    self.wrong(id, message, ID_HINT.to_owned());
                }
                good
            }),
        };
        let settings = self.settings(s);
        if s.node.get("url").or(s.node.get("url_file")).is_none() {
            self.wrong(node, "`url` is missing", None);
        }
        let (text, at, origin) = self.secret(s, "url")?;
        let target = match address::input(&text, self.base(), origin == Origin::File) {
            Ok(target) => target,
            Err(wrong) => {
                self.wrong(at, wrong.message, wrong.hint);
                return None;
            }
        };
        let mut srt = settings.srt;
        srt.mode = target.srt.mode.unwrap_or(srt.mode);
        srt.latency = target.srt.latency.unwrap_or(srt.latency);
        if let Some(passphrase) = target.srt.passphrase {
            if !passphrase_fits(&passphrase) {
                self.wrong(at, PASSPHRASE, None);
            }
            srt.passphrase = Some(Secret::new(passphrase));
        }
        if let Some(stream_id) = target.srt.stream_id {
            if stream_id.len() > STREAM_ID_BYTES {
                self.wrong(at, STREAM_ID, None);
            }
            srt.stream_id = Some(Secret::new(stream_id));
        }
        let listens = target.protocol == Protocol::Srt && srt.mode == SrtMode::Listener;
        if target.private && !listens && !settings.allow_private {
            self.wrong(
                at,
                "points to a private address",
                "set `allow_private: true` on the stream or in `defaults`".to_owned(),
            );
        }
        Some(Stream {
            id: id?.into(),
            labels: settings.labels,
            input: Input {
                url: target.url,
                protocol: target.protocol,
                headers: settings.headers,
                rendition: settings.rendition,
                program: settings.program,
                srt,
                rtsp: settings.rtsp,
                jitter: settings.jitter,
                interface: settings.interface,
                content_keys: settings.content_keys,
                licence: settings.licence,
                allow_private: settings.allow_private,
                visible_after: settings.visible_after,
                page_after: settings.page_after,
                limits: settings.limits,
                decode: settings.decode,
                pace: settings.pace,
            },
            reference: self.reference(s, &settings.detectors),
            reference_token: self.reference_token(s),
            expect: settings.expect,
            detectors: settings.detectors,
            blind_after: settings.blind_after,
            expected: settings.expected,
            quiet_tracks: settings.quiet_tracks,
            evidence: settings.evidence,
        })
    }

    /// Checks settings that stand by themselves (`defaults`, profiles).
    pub(super) fn settings_alone(&mut self, node: &Node) {
        let section = self.open(node, &[schema::SETTINGS]);
        self.settings(section);
    }

    fn settings(&mut self, s: Section<'_>) -> Settings {
        let visible_after = self.span(s, "visible_after");
        let page_after = self.span(s, "page_after");
        if let (Some(visible), Some(page), Some(node)) =
            (visible_after, page_after, s.node.get("page_after"))
            && page < visible
        {
            let visible = schema::span_word(visible);
            self.wrong(
                node,
                format!("must not be shorter than `visible_after`, which is {visible}"),
                "set both".to_owned(),
            );
        }
        let expect = self.expect(&child(s.node, "expect"));
        Settings {
            labels: self.labels(&child(s.node, "labels")),
            headers: self.headers(&child(s.node, "headers")),
            rendition: self.rendition(s),
            program: self.whole(s, "program").and_then(|n| u16::try_from(n).ok()),
            srt: self.srt(&child(s.node, "srt")),
            rtsp: self.rtsp(&child(s.node, "rtsp")),
            jitter: self.span(s, "jitter").unwrap_or_default(),
            interface: self.text(s, "interface"),
            content_keys: self.content_keys(s),
            licence: self.licence(s),
            allow_private: self.flag(s, "allow_private"),
            visible_after,
            page_after,
            limits: self.limits(&child(s.node, "limits")),
            decode: self.decode(&child(s.node, "decode")),
            pace: match self.choice(s, "pace") {
                "fast" => Pace::Fast,
                _ => Pace::RealTime,
            },
            expect,
            evidence: self.flag(s, "evidence"),
            blind_after: self.span(s, "blind_after").unwrap_or_default(),
            expected: self.expected(s),
            quiet_tracks: self.quiet_tracks(s),
            detectors: self.detectors(&child(s.node, "detectors"), expect),
        }
    }

    pub(super) fn labels(&mut self, node: &Node) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        if !matches!(node.data, Data::Map(_)) {
            self.open(node, &[]);
        }
        for entry in node.entries() {
            let key = entry.key.as_str();
            let good = key.len() <= 64
                && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !good {
                self.wrong_at(
                    entry.at,
                    entry.node.path.clone(),
                    format!("`{key}` is not a valid label name"),
                    "use letters, digits and `_`, at most 64".to_owned(),
                );
            }
            let Some(value) = self.text_in(&entry.node) else {
                continue;
            };
            if value.len() > 256 {
                self.wrong(&entry.node, "longer than 256 bytes", None);
            }
            labels.insert(entry.key.clone(), value);
        }
        labels
    }

    fn headers(&mut self, node: &Node) -> Vec<(String, Secret)> {
        let mut headers = Vec::new();
        if !matches!(node.data, Data::Map(_)) {
            self.open(node, &[]);
        }
        for entry in node.entries() {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if entry.key.is_empty() || !entry.key.bytes().all(token) {
                self.wrong_at(
                    entry.at,
                    entry.node.path.clone(),
                    format!("`{}` is not a valid header name", entry.key),
                    None,
                );
            }
            let Some(value) = self.text_in(&entry.node) else {
                continue;
            };
            if value.chars().any(|c| c.is_control()) {
                self.wrong(
                    &entry.node,
                    "a header value must be one line of plain text",
                    None,
                );
            }
            headers.push((entry.key.clone(), Secret::new(value)));
        }
        headers
    }

    fn rendition(&mut self, s: Section<'_>) -> Rendition {
        let Some(node) = s.node.get("rendition") else {
            return Rendition::Highest;
        };
        let Data::List(rules) = &node.data else {
            return self.renditions(node, &["highest", "lowest", "all", "ends"]);
        };
        if !(1..=Rendition::MEMBERS_MAX).contains(&rules.len()) {
            let most = Rendition::MEMBERS_MAX;
            self.wrong(node, format!("must list 1 to {most} renditions"), None);
        }
        let one = |rule| self.renditions(rule, &["highest", "lowest"]);
        Rendition::Several(rules.iter().map(one).collect())
    }

    /// One rule for renditions, which may be one of these words.
    fn renditions(&mut self, node: &Node, words: &'static [&'static str]) -> Rendition {
        if !matches!(node.data, Data::Map(_)) {
            return match self.choice_in(node, words) {
                Some("lowest") => Rendition::Lowest,
                Some("all") => Rendition::All,
                Some("ends") => Rendition::Ends,
                _ => Rendition::Highest,
            };
        }
        let map = self.open(node, &[schema::RENDITION]);
        if node.entries().len() != 1 {
            self.wrong(
                node,
                "must have exactly one of `height`, `bandwidth_bps` and `name`",
                None,
            );
        }
        let height = self
            .whole(map, "height")
            .and_then(|n| u32::try_from(n).ok());
        let bandwidth = self.whole(map, "bandwidth_bps");
        let name = self.text(map, "name");
        height
            .map(Rendition::Height)
            .or(bandwidth.map(Rendition::Bandwidth))
            .or(name.map(Rendition::Name))
            .unwrap_or(Rendition::Highest)
    }

    fn content_keys(&mut self, s: Section<'_>) -> ContentKeys {
        let Some((text, at, _)) = self.secret(s, "content_keys") else {
            return ContentKeys::default();
        };
        ContentKeys::parse(&Secret::new(text.value.trim())).unwrap_or_else(|bad| {
            self.wrong(at, bad.to_string(), None);
            ContentKeys::default()
        })
    }

    fn licence(&mut self, s: Section<'_>) -> Licence {
        let Some((text, at, origin)) = self.secret(s, "licence_url") else {
            return Licence::None;
        };
        if text.value.trim() == "from_manifest" {
            return Licence::FromManifest;
        }
        match address::endpoint(&text, origin == Origin::File) {
            Ok((_, true)) if !self.flag(s, "allow_private") => {
                self.wrong(
                    at,
                    "points to a private address",
                    "set `allow_private: true` on the stream or in `defaults`".to_owned(),
                );
                Licence::None
            }
            Ok((url, _)) => Licence::At(url),
            Err(wrong) => {
                let hint = "give an http or https URL, or `from_manifest`".to_owned();
                self.wrong(at, wrong.message, wrong.hint.or(Some(hint)));
                Licence::None
            }
        }
    }

    /// Whether a stream that is named is there, [`Checker::streams`] sees.
    fn reference(&mut self, s: Section<'_>, detectors: &[DetectorConfig]) -> Option<Against> {
        let (text, at, origin) = self.secret(s, "reference")?;
        if !detectors
            .iter()
            .any(|d| d.descriptor.name == "av_reference")
        {
            let hint = "leave `reference` out, or `av_reference` on".to_owned();
            self.wrong(at, "`av_reference`, which would compare, is off", hint);
        }
        let word = text.value.trim();
        if is_id(word) {
            return Some(Against::Stream(word.into()));
        }
        match address::endpoint(&text, origin == Origin::File) {
            Ok((url, _)) => Some(Against::Instance(url)),
            Err(wrong) => {
                let hint = "give the id of a stream, or an http or https URL".to_owned();
                self.wrong(at, wrong.message, wrong.hint.or(Some(hint)));
                None
            }
        }
    }

    fn reference_token(&mut self, s: Section<'_>) -> Option<Secret> {
        let (text, at, _) = self.secret(s, "reference_token")?;
        if text.value.trim().chars().any(char::is_control) {
            self.wrong(at, "a token must be one line of plain text", None);
        }
        Some(Secret::new(text.value.trim()))
    }

    fn srt(&mut self, node: &Node) -> Srt {
        let s = self.open(node, &[schema::SRT]);
        let passphrase = self.secret(s, "passphrase").map(|(text, at, _)| {
            if !passphrase_fits(text.value.trim()) {
                self.wrong(at, PASSPHRASE, None);
            }
            Secret::new(text.value.trim())
        });
        let stream_id = self.secret(s, "stream_id").map(|(text, at, _)| {
            if text.value.trim().len() > STREAM_ID_BYTES {
                self.wrong(at, STREAM_ID, None);
            }
            Secret::new(text.value.trim())
        });
        Srt {
            mode: match self.choice(s, "mode") {
                "listener" => SrtMode::Listener,
                _ => SrtMode::Caller,
            },
            passphrase,
            stream_id,
            latency: self.span(s, "latency").unwrap_or_default(),
        }
    }

    fn rtsp(&mut self, node: &Node) -> Rtsp {
        let s = self.open(node, &[schema::RTSP]);
        let user = self.text(s, "user");
        let password = self
            .secret(s, "password")
            .map(|(text, ..)| Secret::new(text.value.trim()));
        Rtsp {
            transport: match self.choice(s, "transport") {
                "udp" => RtspTransport::Udp,
                _ => RtspTransport::Tcp,
            },
            latency: self.span(s, "latency").unwrap_or_default(),
            user,
            password,
        }
    }

    fn limits(&mut self, node: &Node) -> Limits {
        let s = self.open(node, &[schema::LIMITS]);
        let mut size = |name| self.whole(s, name).unwrap_or_default();
        let (playlist, segment, redirects, pixels) = (
            size("playlist_bytes"),
            size("segment_bytes"),
            size("redirects"),
            size("picture_pixels"),
        );
        Limits {
            playlist_bytes: usize::try_from(playlist).unwrap_or(usize::MAX),
            segment_bytes: usize::try_from(segment).unwrap_or(usize::MAX),
            redirects: usize::try_from(redirects).unwrap_or(usize::MAX),
            connect: self.span(s, "connect").unwrap_or_default(),
            idle: self.span(s, "idle").unwrap_or_default(),
            picture_pixels: pixels,
        }
    }

    fn decode(&mut self, node: &Node) -> Decode {
        let s = self.open(node, &[schema::DECODE]);
        Decode {
            large_above_height: self
                .whole(s, "large_above_height")
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or_default(),
            large_threads: self
                .whole(s, "large_threads")
                .and_then(|n| u8::try_from(n).ok())
                .unwrap_or(1),
        }
    }

    fn expect(&mut self, node: &Node) -> Expect {
        let s = self.open(node, &[schema::EXPECT]);
        let mut tracks = |name| self.whole(s, name).and_then(|n| u8::try_from(n).ok());
        Expect {
            video: tracks("video"),
            audio: tracks("audio"),
        }
    }

    fn detectors(&mut self, node: &Node, expect: Expect) -> Vec<DetectorConfig> {
        let names: Vec<&str> = REGISTRY.iter().map(|d| d.name).collect();
        self.known_keys(node, "detector", &names);
        REGISTRY
            .iter()
            .filter_map(|descriptor| self.detector(descriptor, node.get(descriptor.name), expect))
            .collect()
    }

    fn detector(
        &mut self,
        descriptor: &'static Descriptor,
        node: Option<&Node>,
        expect: Expect,
    ) -> Option<DetectorConfig> {
        let mut options = Options::defaults(descriptor.options);
        let none = Node::empty("");
        let node = match node {
            None => &none,
            Some(node) if matches!(node.data, Data::Map(_)) => node,
            Some(node) => {
                if !self.switch(node)? {
                    return None;
                }
                &none
            }
        };
        let mut known: Vec<&str> = descriptor.options.iter().map(|o| o.name).collect();
        known.extend(descriptor.list.map(|l| l.name));
        known.push("rules");
        self.known_keys(node, "option", &known);
        for option in descriptor.options {
            let Some(at) = node.get(option.name) else {
                continue;
            };
            if let Some(value) = self.number(at)
                && options.set(option.name, value).is_err()
            {
                let range = schema::range_words(option.range.0, option.range.1);
                let message = format!("must be {range}, not {}", self.word(at));
                self.wrong(at, message, None);
            }
        }
        if let Some(spec) = descriptor.list
            && let Some(at) = node.get(spec.name)
        {
            options.set_list(self.hashes(spec, at));
        }
        // A detector that wants to know what is expected declares options of these names; unless they are set
        // themselves, they follow `expect:`.
        for (name, tracks) in [
            ("expect_video", expect.video),
            ("expect_audio", expect.audio),
        ] {
            let spec = descriptor.options.iter().find(|o| o.name == name);
            if let (Some(spec), Some(tracks)) = (spec, tracks)
                && options.get(name) == spec.default
            {
                // Refused only where the detector cannot follow that many tracks.
                let _ = options.set(name, f64::from(tracks));
            }
        }
        let rules = child(node, "rules");
        let names: Vec<&str> = descriptor.rules.iter().map(|r| r.name).collect();
        self.known_keys(&rules, "rule", &names);
        let rules = descriptor
            .rules
            .iter()
            .filter_map(|spec| match rules.get(spec.name) {
                None => Some(*spec),
                Some(node) => self.rule(descriptor, spec, node),
            })
            .collect();
        Some(DetectorConfig {
            descriptor,
            options,
            rules,
        })
    }

    /// A list of 64-bit hashes.
    fn hashes(&mut self, spec: &ListSpec, node: &Node) -> Vec<u64> {
        let Data::List(items) = &node.data else {
            self.kind(node, "a list of hashes");
            return Vec::new();
        };
        if items.len() > spec.most {
            let message = format!("has {} entries, allowed are {}", items.len(), spec.most);
            self.wrong(node, message, None);
        }
        let mut hashes = Vec::new();
        for item in items {
            let Data::Text(text) = &item.data else {
                self.wrong(item, HASH, HASH_HINT.to_owned());
                continue;
            };
            let digits = text.value.trim();
            let hex = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            match u64::from_str_radix(digits, 16).ok().filter(|_| hex) {
                None => self.wrong(item, HASH, HASH_HINT.to_owned()),
                Some(hash) => match (spec.wrong)(hash) {
                    Some(why) => {
                        let shown = self.word(item);
                        self.wrong(item, format!("`{shown}` {why}"), HASH_HINT.to_owned());
                    }
                    None => hashes.push(hash),
                },
            }
        }
        hashes
    }

    /// A rule with its overrides; `None` when it is switched off.
    fn rule(&mut self, detector: &Descriptor, spec: &RuleSpec, node: &Node) -> Option<RuleSpec> {
        if !matches!(node.data, Data::Map(_)) {
            return self.switch(node)?.then_some(*spec);
        }
        self.known_keys(node, "key", schema::RULE);
        let range = detector
            .signals
            .iter()
            .find(|s| s.name == spec.signal)
            .map_or((f64::MIN, f64::MAX), |s| s.range);
        let mut rule = *spec;
        rule.raise = self.limit(node.get("raise"), rule.raise, range);
        rule.clear = self.limit(node.get("clear"), rule.clear, range);
        let crossed = match rule.raise {
            Limit::AtLeast(raise) => rule.clear.value() > raise,
            Limit::AtMost(raise) => rule.clear.value() < raise,
        };
        if crossed && let Some(at) = node.get("raise").or(node.get("clear")) {
            let side = match rule.raise {
                Limit::AtLeast(_) => "above",
                Limit::AtMost(_) => "below",
            };
            let (raise, clear) = (
                schema::number_word(rule.raise.value()),
                schema::number_word(rule.clear.value()),
            );
            self.wrong(
                at,
                format!("`clear` ({clear}) must not be {side} `raise` ({raise})"),
                "set both".to_owned(),
            );
        }
        let mut span = |key: &str, default: Duration| match node.get(key) {
            Some(at) => self
                .span_in(at, Duration::ZERO, schema::LONGEST_HOLD)
                .unwrap_or(default),
            None => default,
        };
        rule.hold = span("hold", rule.hold);
        rule.release = span("release", rule.release);
        if let Some(at) = node.get("severity")
            && let Some(word) = self.choice_in(at, schema::SEVERITIES)
        {
            rule.severity = Severity::parse(word).unwrap_or(rule.severity);
        }
        let enabled = match node.get("enabled") {
            Some(at) => self.flag_in(at).unwrap_or(true),
            None => true,
        };
        enabled.then_some(rule)
    }

    /// `false` or `true` where a mapping could stand.
    fn switch(&mut self, node: &Node) -> Option<bool> {
        let on = match &node.data {
            Data::Bool(on) => Some(*on),
            Data::Text(t) if t.substituted => t.value.trim().parse().ok(),
            _ => None,
        };
        if on.is_none() {
            self.kind(node, "true, false or a mapping");
        }
        on
    }

    fn limit(&mut self, node: Option<&Node>, default: Limit, range: (f64, f64)) -> Limit {
        let Some(node) = node else {
            return default;
        };
        match self.number(node) {
            Some(value) if (range.0..=range.1).contains(&value) => default.with_value(value),
            Some(_) => {
                let range = schema::range_words(range.0, range.1);
                let message = format!("must be {range}, not {}", self.word(node));
                self.wrong(node, message, None);
                default
            }
            None => default,
        }
    }
}

/// What `defaults`, a profile and a stream may all say, resolved.
struct Settings {
    labels: BTreeMap<String, String>,
    headers: Vec<(String, Secret)>,
    rendition: Rendition,
    program: Option<u16>,
    srt: Srt,
    rtsp: Rtsp,
    jitter: Duration,
    interface: Option<String>,
    content_keys: ContentKeys,
    licence: Licence,
    allow_private: bool,
    visible_after: Option<Duration>,
    page_after: Option<Duration>,
    limits: Limits,
    decode: Decode,
    pace: Pace,
    expect: Expect,
    evidence: bool,
    blind_after: Duration,
    expected: Vec<Expected>,
    quiet_tracks: Vec<Track>,
    detectors: Vec<DetectorConfig>,
}

const HASH: &str = "must be 16 hexadecimal digits in quotes";
const HASH_HINT: &str = "`glasswatch hash FILE` tells the hash of a picture or recording";
const PASSPHRASE: &str = "an SRT passphrase has 10 to 79 bytes";
/// Longest SRT stream id, bytes.
const STREAM_ID_BYTES: usize = 512;
const STREAM_ID: &str = "an SRT stream id has at most 512 bytes";

fn passphrase_fits(passphrase: &str) -> bool {
    (10..=79).contains(&passphrase.len())
}
