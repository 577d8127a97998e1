//! The text of `glasswatch detectors`.

use std::fmt::Write;

use detectors::base::{Basis, Cost, Descriptor, Limit, RuleSpec, Scope};
use detectors::registry::{self, REGISTRY};

use crate::config::problem::suggest;
use crate::config::schema::{number_word, range_words, span_word};

/// No such detector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown detector `{name}`{}", hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct UnknownDetector {
    /// As written.
    pub name: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The detector of that name.
pub fn find(name: &str) -> Result<&'static Descriptor, UnknownDetector> {
    registry::find(name).ok_or_else(|| UnknownDetector {
        name: name.to_owned(),
        hint: suggest(name, REGISTRY.iter().map(|d| d.name)),
    })
}

/// All detectors, a line each.
pub fn all() -> String {
    let width = REGISTRY.iter().map(|d| d.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for d in REGISTRY {
        let margin = " ".repeat(width + 2);
        let text = wrapped(first_sentence(d.doc), &margin);
        // The first line has the name in its margin. Writing to a `String` cannot fail.
        let _ = writeln!(out, "{:width$}  {}", d.name, text.trim_start());
    }
    out.push_str("\n`glasswatch detectors NAME` tells signals, options and rules.\n");
    out
}

/// Everything about one detector.
pub fn one(d: &Descriptor) -> String {
    let mut out = format!("{}\n\n{}\n", d.name, wrapped(d.doc, "  "));
    let scope = match d.needs.scope {
        Scope::Stream => "the stream as a whole",
        Scope::VideoTrack => "every picture track",
        Scope::AudioTrack => "every sound track",
    };
    let cost = match d.needs.cost {
        Cost::Cheap => "never skipped",
        Cost::Costly => "skips pictures when the machine cannot keep up",
    };
    let media = if d.needs.media {
        ""
    } else {
        "; works without decoding"
    };
    let _ = writeln!(out, "  Watches {scope}; {cost}{media}.");
    section(&mut out, "Signals", d.signals, |out, s| {
        let clock = match s.basis {
            Basis::Media => "media time",
            Basis::Arrival => "arrival time",
        };
        let range = range_words(s.range.0, s.range.1);
        let _ = writeln!(out, "  {}  ({}; {range}; {clock})", s.name, s.unit);
        let _ = writeln!(out, "{}", wrapped(s.help, "      "));
    });
    section(&mut out, "Options", d.options, |out, o| {
        let range = range_words(o.range.0, o.range.1);
        let _ = writeln!(out, "  {}: {}  ({range})", o.name, number_word(o.default));
        let _ = writeln!(out, "{}", wrapped(o.help, "      "));
    });
    section(&mut out, "List", d.list.as_slice(), |out, l| {
        let _ = writeln!(out, "  {}: []  (at most {})", l.name, l.most);
        let _ = writeln!(out, "{}", wrapped(l.help, "      "));
    });
    section(&mut out, "Rules", d.rules, |out, r| {
        let _ = writeln!(out, "  {}  ({})", r.name, r.severity.as_str());
        let _ = writeln!(out, "      {}", r.says);
        let _ = writeln!(out, "{}", wrapped(&rule_words(r), "      "));
    });
    out
}

fn section<T>(out: &mut String, title: &str, rows: &[T], show: impl Fn(&mut String, &T)) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    for row in rows {
        show(out, row);
    }
}

/// A rule as a sentence: "raises when still_secs >= 2 …".
pub fn rule_words(r: &RuleSpec) -> String {
    let limit = |limit: Limit| match limit {
        Limit::AtLeast(v) => format!("at least {}", number_word(v)),
        Limit::AtMost(v) => format!("at most {}", number_word(v)),
    };
    let lasting = |span: std::time::Duration| match span.is_zero() {
        true => String::new(),
        false => format!(" for {}", span_word(span)),
    };
    format!(
        "Raised when `{}` is {}{}, cleared when {}{}.",
        r.signal,
        limit(r.raise),
        lasting(r.hold),
        limit(r.clear),
        lasting(r.release)
    )
}

/// The registry, or one row of it, as JSON.
pub fn json(only: Option<&Descriptor>) -> serde_json::Value {
    let row = |d: &Descriptor| {
        serde_json::json!({
            "name": d.name,
            "doc": d.doc,
            "scope": match d.needs.scope {
                Scope::Stream => "stream",
                Scope::VideoTrack => "video_track",
                Scope::AudioTrack => "audio_track",
            },
            "costly": d.needs.cost == Cost::Costly,
            "signals": d.signals.iter().map(|s| serde_json::json!({
                "name": s.name, "unit": s.unit, "min": s.range.0, "max": s.range.1, "help": s.help,
                "clock": match s.basis { Basis::Media => "media", Basis::Arrival => "arrival" },
            })).collect::<Vec<_>>(),
            "options": d.options.iter().map(|o| serde_json::json!({
                "name": o.name, "default": o.default, "min": o.range.0, "max": o.range.1,
                "help": o.help,
            })).collect::<Vec<_>>(),
            "list": d.list.map(|l| serde_json::json!({
                "name": l.name, "most": l.most, "help": l.help,
            })),
            "rules": d.rules.iter().map(|r| serde_json::json!({
                "name": r.name,
                "signal": r.signal,
                "direction": match r.raise {
                    Limit::AtLeast(_) => "at_least",
                    Limit::AtMost(_) => "at_most",
                },
                "raise": r.raise.value(),
                "clear": r.clear.value(),
                "hold_secs": r.hold.as_secs_f64(),
                "release_secs": r.release.as_secs_f64(),
                "severity": r.severity.as_str(),
                "cause": r.cause.as_str(),
                "says": r.says,
            })).collect::<Vec<_>>(),
        })
    };
    match only {
        Some(d) => row(d),
        None => REGISTRY.iter().map(|d| row(d)).collect(),
    }
}

/// Up to the first full stop that ends a sentence.
pub fn first_sentence(text: &str) -> &str {
    text.find(". ")
        .and_then(|at| text.get(..=at))
        .unwrap_or(text)
}

/// Breaks text at blanks into lines of at most 100 characters with a margin.
pub fn wrapped(text: &str, margin: &str) -> String {
    let mut out = String::from(margin);
    let mut used = margin.len();
    for (n, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if n > 0 && used + 1 + width > 100 {
            out.push('\n');
            out.push_str(margin);
            used = margin.len();
        } else if n > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += width;
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_row_tells_all_its_parts() {
        let list = all();
        for d in REGISTRY {
            assert!(list.lines().any(|l| l.starts_with(d.name)), "{}", d.name);
            let text = one(find(d.name).unwrap());
            let names = d.signals.iter().map(|s| s.name);
            let names = names.chain(d.options.iter().map(|o| o.name));
            for name in names.chain(d.rules.iter().map(|r| r.name)) {
                assert!(text.contains(&format!("  {name}")), "{}: {name}", d.name);
            }
            assert!(text.lines().all(|l| l.chars().count() <= 110), "{text}");
        }
        assert_eq!(json(None).as_array().unwrap().len(), REGISTRY.len());
    }

    #[test]
    fn unknown_names_get_a_hint() {
        let e = match find("freze") {
            Err(e) => e,
            Ok(_) => unreachable!(),
        };
        assert!(e.to_string().starts_with("unknown detector `freze`"));
    }

    #[test]
    fn text_is_wrapped_at_blanks() {
        let text = wrapped(&"word ".repeat(60), "  ");
        assert!(text.lines().all(|l| l.starts_with("  ") && l.len() <= 100));
        assert_eq!(text.split_whitespace().count(), 60);
        assert_eq!(first_sentence("One. Two."), "One.");
    }
}
