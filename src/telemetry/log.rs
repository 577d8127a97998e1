//! Log lines on standard error: text for people, JSON for machines, at most ten a minute of the same kind.
//!
//! A line that repeats (same place in the code, same stream) more than [`LINES_PER_MINUTE`] times a minute is
//! held back; the next one let through carries how many were (`suppressed`). Nothing here looks into texts for
//! secrets: whoever logs a place uses [`redact`].

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use detectors::base::Arrival;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, registry};

use crate::ingest::clock;
use crate::notify::event::{TEXT_BYTES, clean, clean_to, rfc3339_millis};

/// Lines of one kind (call site and stream) a minute.
pub const LINES_PER_MINUTE: u32 = 10;

/// Kinds that are told apart; beyond, the table starts over.
const KINDS: usize = 4096;

/// Longest message; other fields are cut as texts in events are.
const MESSAGE_BYTES: usize = 1024;

static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Lines held back since start.
pub fn suppressed_total() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// Scheme and host of a URL, and nothing else: no user, port, path or query.
pub fn redact(text: &str) -> String {
    let Ok(url) = url::Url::parse(text) else {
        return "(unreadable address)".to_owned();
    };
    match url.host_str() {
        Some(host) if !host.is_empty() => format!("{}://{host}", url.scheme()),
        _ => format!("{}:", url.scheme()),
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Text when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operator's filter is unreadable.
    #[error("the log filter is unreadable: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// It was set up before.
    #[error("logging is already set up")]
    Twice,
}

/// Sets up logging for the whole process. `filter` is an `EnvFilter` directive list such as
/// `info,glasswatch::ingest=debug`.
pub fn init(filter: &str, style: Style) -> Result<(), LogError> {
    let json = match style {
        Style::Auto => !io::stderr().is_terminal(),
        Style::Text => false,
        Style::Json => true,
    };
    let lines = Lines::new(json, |line: &str| {
        // When standard error is gone there is nobody left to tell.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    });
    // Amazon's kit shows credentials, also to who asks for its lines alone.
    let ours = filter_fn(|meta| !meta.target().starts_with("aws_"));
    registry()
        .with(EnvFilter::try_new(filter)?)
        .with(ours)
        .with(lines)
        .try_init()
        .map_err(|_| LogError::Twice)
}

/// Fields of an event or span, in order of arrival.
#[derive(Default, Clone)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, clean(value).into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let bytes = match field.name() {
            "message" => MESSAGE_BYTES,
            _ => TEXT_BYTES,
        };
        self.put(field, clean_to(&format!("{value:?}"), bytes).into());
    }
}

#[derive(Clone, Copy)]
struct Window {
    began: Arrival,
    lines: u32,
    held: u64,
}

/// Lets through [`LINES_PER_MINUTE`] lines of each kind.
#[derive(Default)]
struct Limiter {
    kinds: HashMap<(tracing::callsite::Identifier, String), Window>,
}

impl Limiter {
    /// `None`: hold this line back. Otherwise how many were held back before it.
    fn admit(
        &mut self,
        site: tracing::callsite::Identifier,
        stream: &str,
        now: Arrival,
    ) -> Option<u64> {
        const MINUTE: Duration = Duration::from_secs(60);
        if self.kinds.len() >= KINDS {
            self.kinds.retain(|_, w| now.since(w.began) < MINUTE);
            if self.kinds.len() >= KINDS {
                self.kinds.clear();
            }
        }
        let fresh = Window {
            began: now,
            lines: 0,
            held: 0,
        };
        let window = self.kinds.entry((site, stream.to_owned())).or_insert(fresh);
        let mut held = 0;
        if now.since(window.began) >= MINUTE {
            held = window.held;
            *window = fresh;
        }
        if window.lines >= LINES_PER_MINUTE {
            window.held += 1;
            return None;
        }
        window.lines += 1;
        Some(held)
    }
}

/// The layer that writes lines.
struct Lines<W> {
    json: bool,
    write: W,
    limiter: Mutex<Limiter>,
}

impl<W: Fn(&str)> Lines<W> {
    fn new(json: bool, write: W) -> Self {
        Self {
            json,
            write,
            limiter: Mutex::default(),
        }
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn on_new_span(&self, attrs: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        if let Some(span) = ctx.span(id) {
            let mut fields = Fields::default();
            attrs.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in ctx.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                for (name, value) in &of_span.0 {
                    fields.0.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        event.record(&mut fields);
        let stream = fields.0.get("stream").and_then(Value::as_str).unwrap_or("");
        let held = self
            .limiter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(event.metadata().callsite(), stream, clock::now());
        let Some(held) = held else {
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if held > 0 {
            fields.0.insert("suppressed".to_owned(), held.into());
        }
        let ts = rfc3339_millis(Timestamp::now());
        let meta = event.metadata();
        let line = match self.json {
            true => json_line(ts, meta, fields.0),
            false => text_line(&ts, meta, fields.0),
        };
        (self.write)(&line);
    }
}

fn json_line(ts: String, meta: &tracing::Metadata<'_>, fields: Map<String, Value>) -> String {
    let mut line = Map::new();
    line.insert("ts".to_owned(), ts.into());
    line.insert(
        "level".to_owned(),
        meta.level().as_str().to_lowercase().into(),
    );
    line.insert("target".to_owned(), meta.target().into());
    for (name, value) in fields {
        line.entry(name).or_insert(value);
    }
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    text
}

fn text_line(ts: &str, meta: &tracing::Metadata<'_>, mut fields: Map<String, Value>) -> String {
    let mut line = format!("{ts} {:5} ", meta.level().as_str());
    let plain = |value: &Value| match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    if let Some(stream) = fields.remove("stream") {
        let _ = write!(line, "[{}] ", plain(&stream));
    }
    if let Some(message) = fields.remove("message") {
        line.push_str(&plain(&message));
    }
    for (name, value) in &fields {
        let _ = write!(line, " {name}={}", plain(value));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::sync::Arc;

    type Out = Arc<Mutex<String>>;

    fn capture(json: bool, work: impl FnOnce()) -> Vec<String> {
        let out = Out::default();
        let sink = Arc::clone(&out);
        let lines = Lines::new(json, move |line: &str| sink.lock().unwrap().push_str(line));
        tracing::subscriber::with_default(registry().with(lines), work);
        let text = out.lock().unwrap().clone();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn json_lines_carry_stream_and_defect() {
        let lines = capture(true, || {
            let _span = tracing::info_span!("lane", stream = "news1").entered();
            tracing::warn!(defect_id = "d7", count = 3, "odd\u{1b}[31m thing");
        });
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["stream"], "news1");
        assert_eq!(line["defect_id"], "d7");
        assert_eq!(line["level"], "warn");
        assert_eq!(line["count"], 3);
        assert_eq!(line["message"], "odd[31m thing");
        let ts = line["ts"].as_str().unwrap();
        assert!(
            ts.parse::<Timestamp>().is_ok() && ts.ends_with('Z') && ts.len() == 24,
            "{ts}"
        );
    }

    #[test]
    fn text_lines_are_for_people() {
        let lines = capture(false, || {
            tracing::info!(stream = "a", secs = 2, "started");
        });
        assert!(
            lines[0].ends_with(" INFO  [a] started secs=2"),
            "{}",
            lines[0]
        );
    }

    #[test]
    fn repeats_are_held_back_for_each_stream() {
        let lines = capture(true, || {
            for i in 0..30 {
                for stream in ["a", "b"] {
                    tracing::info!(stream, i, "again");
                }
            }
        });
        assert_eq!(lines.len(), 20);
        assert!(suppressed_total() >= 40);
    }

    #[test]
    fn the_next_minute_tells_what_was_held_back() {
        let mut limiter = Limiter::default();
        let site = tracing::callsite::Identifier(&SITE);
        let at = |secs: u64| Arrival::from_millis(secs * 1000);
        let passed = (0..15).filter(|_| limiter.admit(site.clone(), "a", at(1)).is_some());
        assert_eq!(passed.count(), 10);
        assert_eq!(limiter.admit(site.clone(), "b", at(1)), Some(0));
        assert_eq!(limiter.admit(site.clone(), "a", at(60)), None);
        assert_eq!(limiter.admit(site.clone(), "a", at(61)), Some(6));
        assert_eq!(limiter.admit(site.clone(), "a", at(61)), Some(0));
        for i in 0..KINDS + 10 {
            limiter.admit(site.clone(), &i.to_string(), at(62));
        }
        assert!(limiter.kinds.len() <= KINDS);
    }

    struct Site;
    static SITE: Site = Site;
    impl tracing::Callsite for Site {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}
        fn metadata(&self) -> &tracing::Metadata<'_> {
            static META: tracing::Metadata<'static> = tracing::metadata! {
                name: "test", target: "test", level: tracing::Level::INFO,
                fields: &[], callsite: &SITE, kind: tracing::metadata::Kind::EVENT
            };
            &META
        }
    }

    #[test]
    fn redaction_leaves_scheme_and_host() {
        assert_eq!(
            redact("https://user:pw@cdn.example.com:8443/live/s3cret.m3u8?token=x#y"),
            "https://cdn.example.com"
        );
        assert_eq!(redact("srt://h:9000?passphrase=x"), "srt://h");
        assert_eq!(redact("file:///home/me/a.ts"), "file:");
        assert_eq!(redact("not a url token"), "(unreadable address)");
    }
}
