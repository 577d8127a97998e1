//! The whole configuration as YAML, every default written out, secrets masked.

use std::fmt::Write;
use std::time::Duration;

use detectors::registry::REGISTRY;

use super::checked::{
    Against, Config, DetectorConfig, Pace, Rendition, RtspTransport, Secret, SrtMode, Stream,
};
use super::content_keys::Licence;
use super::receivers::{Incidents, ReceiverKind};
use super::schema::{hash_word, number_word, span_word};

/// Prints. Parsing the result gives an equal configuration, as far as nothing was masked.
pub fn print_effective(config: &Config) -> String {
    let mut out = Out::default();
    out.line(0, "version: 1");
    out.line(0, "instance:");
    out.pair(1, "name", &quoted(&config.instance.name));
    out.pair(
        1,
        "data_dir",
        &quoted(&config.instance.data_dir.to_string_lossy()),
    );
    out.pair(
        1,
        "evidence_quota_mib",
        &(config.instance.evidence_quota_bytes >> 20).to_string(),
    );
    out.pair(1, "drain", &span_word(config.instance.drain));
    out.pair(1, "pool_threads", &config.instance.pool_threads.to_string());
    out.line(0, "http:");
    let listen = config.http.listen.map(|a| a.to_string());
    out.pair(1, "listen", &quoted(listen.as_deref().unwrap_or("off")));
    out.secret(1, "token", config.http.token.as_ref());
    if !config.http.tokens.is_empty() {
        out.line(1, "tokens:");
    }
    for token in &config.http.tokens {
        out.pair(2, "- name", &quoted(&token.name));
        out.secret(3, "token", Some(&token.token));
        out.pair(3, "scope", token.scope.as_str());
    }
    if let Some(url) = &config.http.public_url {
        out.pair(1, "public_url", &quoted(url.as_str()));
    }
    let hours = config.http.link_life.as_secs() / 3600;
    out.pair(1, "link_hours", &hours.to_string());
    if !config.receivers.is_empty() {
        out.line(0, "receivers:");
    }
    for receiver in &config.receivers {
        out.pair(1, "- name", &quoted(&receiver.name));
        match &receiver.kind {
            ReceiverKind::Webhook { url, keys } => {
                out.line(2, "webhook:");
                out.secret(3, "url", Some(url));
                out.secret(3, "secret", keys.first());
            }
            ReceiverKind::PagerDuty {
                endpoint,
                routing_key,
            } => {
                out.line(2, "pagerduty:");
                out.secret(3, "endpoint", endpoint.as_ref());
                out.secret(3, "routing_key", Some(routing_key));
            }
            ReceiverKind::Alertmanager { peers, token } => {
                out.line(2, "alertmanager:");
                let peers: Vec<String> = peers.iter().map(|p| quoted(p.shown())).collect();
                out.pair(3, "peers", &format!("[{}]", peers.join(", ")));
                out.secret(3, "token", token.as_ref());
            }
            ReceiverKind::Slack { url } => {
                out.line(2, "slack:");
                out.secret(3, "url", Some(url));
            }
            ReceiverKind::Sns {
                topic_arn,
                region,
                endpoint,
            } => {
                out.line(2, "sns:");
                out.pair(3, "topic_arn", &quoted(topic_arn));
                out.pair(3, "region", &quoted(region));
                out.secret(3, "endpoint", endpoint.as_ref());
            }
        }
        out.pair(3, "timeout", &span_word(receiver.timeout));
        out.secret(2, "proxy", receiver.proxy.as_ref());
        let template = &receiver.template;
        if !template.is_empty() {
            out.line(2, "template:");
        }
        for (key, source) in [("title", &template.title), ("text", &template.text)] {
            if let Some(source) = source {
                out.pair(3, key, &quoted(source));
            }
        }
        out.pair(2, "min_severity", receiver.min_severity.as_str());
        out.pair(2, "allow_private", &receiver.allow_private.to_string());
        out.pair(2, "canary", &receiver.canary.to_string());
        if !receiver.only.is_empty() {
            out.line(2, "only:");
        }
        for (name, value) in &receiver.only {
            out.pair(3, name, &quoted(value));
        }
    }
    if let Some(s3) = &config.evidence.s3 {
        out.line(0, "evidence:");
        out.line(1, "s3:");
        out.pair(2, "bucket", &quoted(&s3.bucket));
        out.pair(2, "region", &quoted(&s3.region));
        if !s3.prefix.is_empty() {
            out.pair(2, "prefix", &quoted(&s3.prefix));
        }
        out.secret(2, "endpoint", s3.endpoint.as_ref());
        out.pair(2, "timeout", &span_word(s3.timeout));
        out.pair(2, "allow_private", &s3.allow_private.to_string());
    }
    incidents(&mut out, &config.incidents);
    out.line(0, "canary:");
    let canary = &config.canary;
    out.pair(1, "every", &span_word(canary.every.unwrap_or_default()));
    out.pair(1, "within", &span_word(canary.within));
    out.line(0, "heartbeat:");
    let heartbeat = &config.heartbeat;
    out.secret(1, "endpoint", heartbeat.endpoint.as_ref());
    out.pair(1, "every", &span_word(heartbeat.every));
    out.pair(1, "allow_private", &heartbeat.allow_private.to_string());
    if !config.groups.is_empty() {
        out.line(0, "groups:");
    }
    for (name, detectors) in &config.groups {
        out.pair(1, &quoted(name), &format!("[{}]", detectors.join(", ")));
    }
    if let Some(shard) = config.shard {
        out.line(0, "shard:");
        out.pair(1, "index", &shard.index.to_string());
        out.pair(1, "count", &shard.count.to_string());
    }
    if config.streams.is_empty() {
        out.line(0, "streams: []");
    } else {
        out.line(0, "streams:");
    }
    for s in &config.streams {
        stream(&mut out, s);
    }
    out.0
}

/// A stream as an item of `streams:`, every default written out, secrets masked.
pub fn effective_stream(of: &Stream) -> serde_json::Value {
    let mut out = Out::default();
    out.line(0, "streams:");
    stream(&mut out, of);
    // Our own YAML is readable.
    let mut read: serde_json::Value = serde_yaml::from_str(&out.0).unwrap_or_default();
    read["streams"][0].take()
}

fn incidents(out: &mut Out, i: &Incidents) {
    out.line(0, "incidents:");
    let by: Vec<String> = i.group_by.iter().map(|name| quoted(name)).collect();
    let (times, within) = i.escalate.unwrap_or((0, Duration::from_secs(600)));
    let percent = (i.together_ratio * 100.0).round();
    for (key, value) in [
        ("group_by", format!("[{}]", by.join(", "))),
        ("together_streams", i.together_min.to_string()),
        ("together_percent", percent.to_string()),
        ("together_within", span_word(i.together_within)),
        ("hold", span_word(i.hold)),
        ("resolve_after", span_word(i.resolve_after)),
        ("repage_after", span_word(i.repage_after)),
        ("update_every", span_word(i.update_every)),
        ("escalate_times", times.to_string()),
        ("escalate_within", span_word(within)),
        ("break_slack", span_word(i.break_slack)),
        ("unannounced_break", span_word(i.unannounced_break)),
    ] {
        out.pair(1, key, &value);
    }
}

#[derive(Default)]
struct Out(String);

impl Out {
    fn line(&mut self, depth: usize, text: &str) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.0, "{:1$}{text}", "", depth * 2);
    }

    fn pair(&mut self, depth: usize, key: &str, value: &str) {
        self.line(depth, &format!("{key}: {value}"));
    }

    fn secret(&mut self, depth: usize, key: &str, secret: Option<&Secret>) {
        if let Some(secret) = secret {
            self.pair(depth, key, &quoted(secret.shown()));
        }
    }
}

/// A text in quotes that every YAML parser reads back, and no `${` that would be replaced.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text.replace("${", "$${"));
    json.to_string()
}

fn rendition(rule: &Rendition) -> String {
    match rule {
        Rendition::Highest => "highest".to_owned(),
        Rendition::Lowest => "lowest".to_owned(),
        Rendition::Height(rows) => format!("{{height: {rows}}}"),
        Rendition::Bandwidth(bps) => format!("{{bandwidth_bps: {bps}}}"),
        Rendition::Name(name) => format!("{{name: {}}}", quoted(name)),
        Rendition::All => "all".to_owned(),
        Rendition::Ends => "ends".to_owned(),
        Rendition::Several(rules) => {
            let rules: Vec<String> = rules.iter().map(rendition).collect();
            format!("[{}]", rules.join(", "))
        }
    }
}

fn stream(out: &mut Out, s: &Stream) {
    let input = &s.input;
    out.pair(1, "- id", &quoted(&s.id));
    out.secret(2, "url", Some(&input.url));
    if !s.labels.is_empty() {
        out.line(2, "labels:");
    }
    for (name, value) in &s.labels {
        out.pair(3, &quoted(name), &quoted(value));
    }
    if !input.headers.is_empty() {
        out.line(2, "headers:");
    }
    for (name, value) in &input.headers {
        out.secret(3, &quoted(name), Some(value));
    }
    out.pair(2, "rendition", &rendition(&input.rendition));
    if let Some(program) = input.program {
        out.pair(2, "program", &program.to_string());
    }
    out.line(2, "srt:");
    let mode = match input.srt.mode {
        SrtMode::Caller => "caller",
        SrtMode::Listener => "listener",
    };
    out.pair(3, "mode", mode);
    out.secret(3, "passphrase", input.srt.passphrase.as_ref());
    out.secret(3, "stream_id", input.srt.stream_id.as_ref());
    out.pair(3, "latency", &span_word(input.srt.latency));
    out.line(2, "rtsp:");
    let transport = match input.rtsp.transport {
        RtspTransport::Tcp => "tcp",
        RtspTransport::Udp => "udp",
    };
    out.pair(3, "transport", transport);
    out.pair(3, "latency", &span_word(input.rtsp.latency));
    if let Some(user) = &input.rtsp.user {
        out.pair(3, "user", &quoted(user));
    }
    out.secret(3, "password", input.rtsp.password.as_ref());
    out.pair(2, "jitter", &span_word(input.jitter));
    if let Some(interface) = &input.interface {
        out.pair(2, "interface", &quoted(interface));
    }
    if !input.content_keys.is_empty() {
        out.pair(2, "content_keys", &quoted("***"));
    }
    match &input.licence {
        Licence::None => {}
        Licence::At(url) => out.secret(2, "licence_url", Some(url)),
        Licence::FromManifest => out.pair(2, "licence_url", "from_manifest"),
    }
    match &s.reference {
        None => {}
        Some(Against::Stream(id)) => out.pair(2, "reference", &quoted(id)),
        Some(Against::Instance(url)) => out.secret(2, "reference", Some(url)),
    }
    out.secret(2, "reference_token", s.reference_token.as_ref());
    out.pair(2, "allow_private", &input.allow_private.to_string());
    for (key, span) in [
        ("visible_after", input.visible_after),
        ("page_after", input.page_after),
    ] {
        if let Some(span) = span {
            out.pair(2, key, &span_word(span));
        }
    }
    out.line(2, "limits:");
    out.pair(
        3,
        "playlist_bytes",
        &input.limits.playlist_bytes.to_string(),
    );
    out.pair(3, "segment_bytes", &input.limits.segment_bytes.to_string());
    out.pair(3, "redirects", &input.limits.redirects.to_string());
    out.pair(3, "connect", &span_word(input.limits.connect));
    out.pair(3, "idle", &span_word(input.limits.idle));
    out.pair(
        3,
        "picture_pixels",
        &input.limits.picture_pixels.to_string(),
    );
    out.line(2, "decode:");
    out.pair(
        3,
        "large_above_height",
        &input.decode.large_above_height.to_string(),
    );
    out.pair(3, "large_threads", &input.decode.large_threads.to_string());
    let pace = match input.pace {
        Pace::Fast => "fast",
        Pace::RealTime => "real_time",
    };
    out.pair(2, "pace", pace);
    let expect = [("video", s.expect.video), ("audio", s.expect.audio)];
    if expect.iter().any(|(_, tracks)| tracks.is_some()) {
        out.line(2, "expect:");
    }
    for (key, tracks) in expect {
        if let Some(tracks) = tracks {
            out.pair(3, key, &tracks.to_string());
        }
    }
    out.pair(2, "evidence", &s.evidence.to_string());
    out.pair(2, "blind_after", &span_word(s.blind_after));
    if !s.expected.is_empty() {
        out.line(2, "expected:");
    }
    for expected in &s.expected {
        out.line(3, &format!("- {}", expected.written()));
    }
    let quiet: Vec<String> = s.quiet_tracks.iter().map(|t| t.to_string()).collect();
    out.pair(2, "quiet_tracks", &format!("[{}]", quiet.join(", ")));
    out.line(
        2,
        if REGISTRY.is_empty() {
            "detectors: {}"
        } else {
            "detectors:"
        },
    );
    for descriptor in REGISTRY {
        match s
            .detectors
            .iter()
            .find(|d| d.descriptor.name == descriptor.name)
        {
            None => out.pair(3, descriptor.name, "false"),
            Some(detector) => self::detector(out, detector),
        }
    }
}

fn detector(out: &mut Out, d: &DetectorConfig) {
    if d.descriptor.options.is_empty()
        && d.descriptor.list.is_none()
        && d.descriptor.rules.is_empty()
    {
        out.pair(3, d.descriptor.name, "true");
        return;
    }
    out.line(3, &format!("{}:", d.descriptor.name));
    for option in d.descriptor.options {
        out.pair(4, option.name, &number_word(d.options.get(option.name)));
    }
    if let Some(list) = d.descriptor.list {
        let hashes: Vec<String> = d.options.list().iter().map(|h| hash_word(*h)).collect();
        out.pair(4, list.name, &format!("[{}]", hashes.join(", ")));
    }
    if !d.descriptor.rules.is_empty() {
        out.line(4, "rules:");
    }
    for spec in d.descriptor.rules {
        match d.rules.iter().find(|r| r.name == spec.name) {
            None => out.pair(5, spec.name, "{enabled: false}"),
            Some(rule) => {
                let text = format!(
                    "{{raise: {}, clear: {}, hold: {}, release: {}, severity: {}}}",
                    number_word(rule.raise.value()),
                    number_word(rule.clear.value()),
                    span_word(rule.hold),
                    span_word(rule.release),
                    rule.severity.as_str()
                );
                out.pair(5, spec.name, &text);
            }
        }
    }
}
