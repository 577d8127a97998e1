//! The reference of the whole file, generated from the key tables and the registry.
//!
//! The result is itself a valid configuration. Optional keys without a default, and keys that exclude one that
//! is written, stand behind `#` without a blank.

use std::fmt::Write;

use detectors::base::{Descriptor, Limit};
use detectors::registry::REGISTRY;

use super::schema::{self, Key, Shape, hash_word, number_word, range_words, span_word};
use crate::listing::wrapped;

/// Shown where hashes may stand.
const SAMPLE_HASH: u64 = 0xf0e1_d2c3_b4a5_9687;

/// Generates the reference.
pub fn reference() -> String {
    let mut page = Page::default();
    page.prose(
        0,
        "Reference of the configuration: every key with its default and range. Generated; \
         `example.yaml` is the place to start.",
    );
    page.prose(
        0,
        "Durations are written 500ms, 2s, 1m or 1h; all other units stand in the key. A value may hold \
         ${NAME}, replaced by that environment variable ($${ for a plain ${). A secret `x` may be given as \
         `x_file`, the path of a file that holds it. Keys behind `#` have no default.",
    );
    page.keys(0, schema::TOP);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn prose(&mut self, depth: usize, text: &str) {
        let margin = format!("{:1$}# ", "", depth * 2);
        self.text.push_str(&wrapped(text, &margin));
        self.text.push('\n');
    }

    fn line(&mut self, depth: usize, text: &str) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.text, "{:1$}{text}", "", depth * 2);
    }

    fn keys(&mut self, depth: usize, keys: &[Key]) {
        for key in keys {
            if depth == 0 {
                self.text.push('\n');
            }
            self.key(depth, key);
        }
    }

    fn key(&mut self, depth: usize, key: &Key) {
        let name = key.name;
        let help = key.help;
        match &key.shape {
            Shape::Whole { default, min, max } => {
                match min == max {
                    true => self.prose(depth, help),
                    false => self.prose(depth, &format!("{help} ({min} to {max})")),
                }
                match default {
                    Some(n) => self.line(depth, &format!("{name}: {n}")),
                    // The only required one at the top, and the two of a shard, are shown as they must be.
                    None if name == "version" => self.line(depth, "version: 1"),
                    None if name == "index" => self.line(depth, "index: 0"),
                    None if name == "count" => self.line(depth, "count: 1"),
                    None => self.line(depth, &format!("#{name}: {min}")),
                }
            }
            Shape::Span { default, min, max } => {
                let range = format!("{} to {}", span_word(*min), span_word(*max));
                self.prose(depth, &format!("{help} ({range})"));
                match default {
                    Some(span) => self.line(depth, &format!("{name}: {}", span_word(*span))),
                    None => self.line(depth, &format!("#{name}: 10s")),
                }
            }
            Shape::Flag { default } => {
                self.prose(depth, help);
                self.line(depth, &format!("{name}: {default}"));
            }
            Shape::Word { default, of } => {
                self.prose(depth, &format!("{help} ({})", of.join(", ")));
                self.line(depth, &format!("{name}: {default}"));
            }
            Shape::Text { default, sample } => {
                self.prose(depth, help);
                match default {
                    Some(text) => self.line(depth, &format!("{name}: {text}")),
                    None if matches!(name, "id") || help.ends_with("Required.") => {
                        self.line(depth, &format!("{name}: {sample}"));
                    }
                    None => self.line(depth, &format!("#{name}: {sample}")),
                }
            }
            Shape::Secret { sample } => {
                self.prose(depth, help);
                self.line(depth, &format!("{}{name}: {sample}", off(key)));
                self.line(depth, &format!("#{name}_file: /run/secrets/{name}"));
            }
            Shape::Section(keys) => {
                self.prose(depth, help);
                self.line(depth, &format!("{name}:"));
                self.keys(depth + 1, keys);
            }
            // Shown in an item of its own.
            Shape::Alternative(_) => {}
            Shape::Texts { default, sample } => {
                self.prose(depth, help);
                match default.is_empty() {
                    true => self.line(depth, &format!("{}{name}: {sample}", off(key))),
                    false => self.line(depth, &format!("{name}: [{}]", default.join(", "))),
                }
            }
            Shape::List(tables) => {
                self.prose(depth, help);
                self.line(depth, &format!("{name}:"));
                // Keys shared with `defaults` are shown there.
                self.line(depth + 1, "-");
                for table in tables.iter().take(1) {
                    self.keys(depth + 2, table);
                    for key in table.iter() {
                        if let Shape::Alternative(keys) = key.shape {
                            self.prose(depth + 1, key.help);
                            self.line(depth + 1, &format!("- name: {}", key.name));
                            self.line(depth + 2, &format!("{}:", key.name));
                            self.keys(depth + 3, keys);
                        }
                    }
                }
            }
            Shape::Items { sample, .. } => {
                self.prose(depth, help);
                self.line(depth, &format!("#{name}: [{{{sample}}}]"));
            }
            Shape::Free { sample } => {
                self.prose(depth, help);
                let first = REGISTRY.first().map_or("all", |d| d.name);
                let sample = sample.replace("DETECTOR", first);
                self.line(depth, &format!("#{name}: {{{sample}}}"));
            }
            Shape::Rendition => {
                self.prose(depth, help);
                self.line(depth, &format!("{name}: highest"));
            }
            Shape::Profiles => {
                self.prose(depth, help);
                self.line(depth, &format!("{name}:"));
                self.line(depth + 1, "sports:");
                self.line(depth + 2, "rendition: {height: 720}");
            }
            Shape::Detectors => {
                self.prose(depth, help);
                self.prose(
                    depth,
                    "A rule raises a defect when its signal has met `raise` for `hold`, and clears it when the \
                     signal has met `clear` for `release`.",
                );
                if REGISTRY.is_empty() {
                    self.line(depth, &format!("{name}: {{}}"));
                } else {
                    self.line(depth, &format!("{name}:"));
                }
                for descriptor in REGISTRY {
                    self.detector(depth + 1, descriptor);
                }
            }
        }
    }

    fn detector(&mut self, depth: usize, d: &Descriptor) {
        self.text.push('\n');
        self.prose(depth, d.doc);
        if d.options.is_empty() && d.list.is_none() && d.rules.is_empty() {
            self.line(depth, &format!("{}: true", d.name));
            return;
        }
        self.line(depth, &format!("{}:", d.name));
        for option in d.options {
            let range = range_words(option.range.0, option.range.1);
            self.prose(depth + 1, &format!("{} ({range})", option.help));
            self.line(
                depth + 1,
                &format!("{}: {}", option.name, number_word(option.default)),
            );
        }
        if let Some(list) = d.list {
            self.prose(depth + 1, &format!("{} (at most {})", list.help, list.most));
            let sample = hash_word(SAMPLE_HASH);
            self.line(depth + 1, &format!("#{}: [{sample}]", list.name));
        }
        if !d.rules.is_empty() {
            self.line(depth + 1, "rules:");
        }
        for rule in d.rules {
            let signal = d.signals.iter().find(|s| s.name == rule.signal);
            let unit = signal.map_or("", |s| s.unit);
            let range = signal.map_or_else(String::new, |s| range_words(s.range.0, s.range.1));
            let direction = match rule.raise {
                Limit::AtLeast(_) => "at or above",
                Limit::AtMost(_) => "at or below",
            };
            self.prose(
                depth + 2,
                &format!(
                    "{} Judges `{}`, {unit}, {range}; raises {direction} `raise`.",
                    rule.says, rule.signal
                ),
            );
            self.line(depth + 2, &format!("{}:", rule.name));
            for (key, value) in [
                ("enabled", "true".to_owned()),
                ("raise", number_word(rule.raise.value())),
                ("clear", number_word(rule.clear.value())),
                ("hold", span_word(rule.hold)),
                ("release", span_word(rule.release)),
                ("severity", rule.severity.as_str().to_owned()),
            ] {
                self.line(depth + 3, &format!("{key}: {value}"));
            }
        }
    }
}

/// What stands before a key without a default.
fn off(key: &Key) -> &'static str {
    match key.name == "url" || key.help.ends_with("Required.") {
        true => "",
        false => "#",
    }
}
