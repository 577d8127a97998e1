//! `template:` of a receiver: what it says instead of our own words.
//!
//! The language is Jinja (crate `minijinja`), without other templates, macros or loaders. A template sees the fields of the
//! message (docs/incidents.md) and nothing else. It is tried on a sample when the configuration is checked; what fails
//! later all the same is said in our own words.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectExt as _, Serde};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

use super::check::Checker;
use super::raw::Node;
use super::schema;

/// What one rendering may do: about so many steps, and so many pieces of 64 bytes. Ours takes some hundred.
const FUEL: u64 = 20_000;
/// Longest template, bytes.
const TEMPLATE_BYTES: usize = 16 << 10;

/// See [`sample`].
const SAMPLE: &str = r#"{
    "schema_version": 1, "message_id": "0123abcd-5-1", "news": "updated", "incident_id": "0123abcd-5",
    "key": "0123abcd", "incarnation": 5, "sequence": 1, "state": "open", "severity": "critical", "tier": "page",
    "topic": "freeze", "stream": "news1", "name": "News 1", "labels": {"name": "News 1"}, "cause": "frozen_repeat",
    "title": "News 1: the picture stands still.", "text": "There is no sound either.", "instance": "monitor-1",
    "quiet": "muted", "quiet_by": "mute-1", "flapping": true, "escalated": true, "overran": true, "unknown": true,
    "times": 2, "streams": ["news1"], "streams_bad": 1, "streams_total": 2, "whole_instance": true,
    "acknowledged_by": "kim", "opened": "2026-03-01T11:59:00.000Z", "resolved": "2026-03-01T12:01:00.000Z",
    "at": "2026-03-01T12:00:00.000Z",
    "defects": [{
        "defect_id": "news1-1", "detector": "freeze", "rule": "frozen", "severity": "critical",
        "cause": "frozen_repeat", "place": "delivery", "track": "video:0", "member": "720p", "value": 2.5,
        "limit": 2.0, "unit": "seconds", "says": "The picture stands still.",
        "start": "2026-03-01T11:59:00.000Z", "end": "2026-03-01T12:01:00.000Z",
        "evidence": ["evidence/news1/set"], "links": ["https://monitor-1.example.com/"]
    }]
}"#;

/// What a receiver says instead of our own words; what is missing stays ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    /// One sentence.
    pub title: Option<String>,
    /// What else there is to know.
    pub text: Option<String>,
}

/// What a template has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// One line, not empty.
    pub title: Option<String>,
    /// Lines.
    pub text: Option<String>,
}

/// How what a template is given becomes harmless to whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// As it is: the body's own format sees to it.
    Plain,
    /// Slack's mrkdwn.
    Slack,
}

impl Markup {
    /// A text in which nothing is markup.
    pub fn escape(self, text: &str) -> String {
        if self == Self::Plain {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                // Mattermost also reads a bare `@all`: a space of no width keeps it from that.
                '@' => out.push_str("@\u{200b}"),
                c => out.push(c),
            }
        }
        out
    }
}

/// Why a template says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the template: {what}")]
pub struct TemplateError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong; without what the template was given.
    pub what: String,
}

impl TemplateError {
    fn of(error: &Error, detailed: Detail) -> Self {
        let detail = error.detail().filter(|_| detailed == Detail::Full);
        let what = match detail {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        Self {
            line: error.line().unwrap_or(1),
            what,
        }
    }
}

/// How much of an error is told: its detail may quote what the template was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Full,
    Kind,
}

impl Template {
    /// Whether it leaves everything to us.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Says a message, given as JSON.
    ///
    /// # Errors
    /// It names what is not there, or does too much.
    pub fn render(
        &self,
        message: &serde_json::Value,
        markup: Markup,
    ) -> Result<Words, TemplateError> {
        let told = |error: &Error| TemplateError::of(error, Detail::Kind);
        let say = |source: &Option<String>| {
            let said = source
                .as_deref()
                .map(|source| render(source, message, markup));
            said.transpose().map_err(|error| told(&error))
        };
        let title = say(&self.title)?.map(|title| one_line(&title));
        if title.as_deref() == Some("") {
            return Err(TemplateError {
                line: 1,
                what: "the title is empty".to_owned(),
            });
        }
        Ok(Words {
            title,
            text: say(&self.text)?.map(|text| text.trim().to_owned()),
        })
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

fn render(source: &str, message: &serde_json::Value, markup: Markup) -> Result<String, Error> {
    let mut env = Environment::new();
    env.set_fuel(Some(FUEL));
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    // Everything is escaped, whatever a template says of it.
    for filter in ["safe", "escape", "e"] {
        env.remove_filter(filter);
    }
    env.set_formatter(move |out: &mut Output, _: &mut State, value: &Value| {
        if !value.is_none() {
            out.write_str(&markup.escape(&value.to_string()))?;
        }
        Ok(())
    });
    env.template_from_str(source)?.render(context(message))
}

/// The fields of a message; a label that is not there is an empty text.
fn context(message: &serde_json::Value) -> Value {
    let fields = message.as_object().into_iter().flatten();
    let value = |(name, value): (&String, &serde_json::Value)| {
        let value = match (name.as_str(), value.as_object()) {
            ("labels", Some(labels)) => {
                let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
                let labels = labels
                    .iter()
                    .map(|(name, value)| (name.clone(), text(value)));
                Value::from_object(Labels(labels.collect()))
            }
            _ => Value::from(Serde(value)),
        };
        (name.clone(), value)
    };
    Value::from_object(fields.map(value).collect::<BTreeMap<String, Value>>())
}

#[derive(Debug)]
struct Labels(BTreeMap<String, String>);

impl Object for Labels {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let label = self.0.get(key.as_str()?);
        Some(Value::from(label.map_or("", String::as_str)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|labels| Box::new(labels.0.keys().map(Value::from)))
    }
}

/// A message with something in every field that may be empty.
pub fn sample() -> serde_json::Value {
    // It is ours, and read in a test.
    serde_json::from_str(SAMPLE).unwrap_or_default()
}

/// What is wrong with a template, as far as a sample shows.
fn check(source: &str) -> Result<(), TemplateError> {
    if source.len() > TEMPLATE_BYTES {
        return Err(TemplateError {
            line: 1,
            what: format!("longer than {TEMPLATE_BYTES} bytes"),
        });
    }
    let sample = sample();
    let told = |error: &Error| TemplateError::of(error, Detail::Full);
    let env = Environment::new();
    let parsed = env.template_from_str(source).map_err(|e| told(&e))?;
    // Behind a condition too, where the sample may not come.
    let mut unknown: Vec<String> = (parsed.undeclared_variables(false).into_iter())
        .filter(|name| {
            sample.get(name).is_none() && env.globals().all(|(global, _)| global != name)
        })
        .collect();
    unknown.sort();
    if let Some(name) = unknown.first() {
        let line = source.lines().position(|line| line.contains(name.as_str()));
        return Err(TemplateError {
            line: line.unwrap_or(0) + 1,
            what: format!("there is no field `{name}`"),
        });
    }
    match render(source, &sample, Markup::Plain) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::OutOfFuel => Err(TemplateError {
            line: error.line().unwrap_or(1),
            what: "it takes too many steps".to_owned(),
        }),
        Err(error) => Err(told(&error)),
    }
}

impl Checker<'_> {
    pub(super) fn template(&mut self, node: &Node) -> Template {
        let s = self.open(node, &[schema::TEMPLATE]);
        let mut one = |name| {
            let source = self.text(s, name)?;
            if let (Err(wrong), Some(at)) = (check(&source), s.node.get(name)) {
                let hint = "docs/incidents.md has the fields of a message".to_owned();
                self.wrong(at, wrong.to_string(), hint);
            }
            Some(source)
        };
        Template {
            title: one("title"),
            text: one("text"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn said(source: &str, markup: Markup) -> Result<String, TemplateError> {
        let template = Template {
            title: None,
            text: Some(source.to_owned()),
        };
        let mut message = sample();
        message["name"] = "<!channel> @all {{7*7}} & {% raw %}".into();
        message["stream"] = serde_json::Value::Null;
        Ok(template.render(&message, markup)?.text.unwrap())
    }

    #[test]
    fn what_is_given_is_never_markup_nor_template() {
        let plain = said("*{{ name }}*", Markup::Plain).unwrap();
        assert_eq!(plain, "*<!channel> @all {{7*7}} & {% raw %}*");
        let escaped = "&lt;!channel&gt; @\u{200b}all {{7*7}} &amp; {% raw %}";
        let link = said("<https://a.example|{{ name }}>", Markup::Slack).unwrap();
        assert_eq!(link, format!("<https://a.example|{escaped}>"));
        for way_round in [
            "{% autoescape false %}{{ name }}{% endautoescape %}",
            "{% set x %}{{ name }}{% endset %}{{ x }}",
            "{{ [name, '<b>'] | join('<') }}",
            "{{ name | replace('&', '&') }}",
            "{{ {'a': name} }}",
            "{{ name ~ '<' }}",
        ] {
            let said = said(way_round, Markup::Slack).unwrap();
            assert!(
                !said.contains(['<', '>']) && !said.contains("@all"),
                "{way_round}: {said}"
            );
        }
        for gone in ["{{ name | safe }}", "{{ name | e }}"] {
            assert!(said(gone, Markup::Slack).is_err(), "{gone}");
        }
    }

    #[test]
    fn nothing_is_empty_and_so_is_a_label_that_is_not_there() {
        let text = "[{{ stream }}{{ labels.nowhere }}{{ labels['a b'] }}] {{ labels.name }}{% for l in labels %} {{ l }}{% endfor %}";
        assert_eq!(said(text, Markup::Plain).unwrap(), "[] News 1 name");
        let text = "{% if stream %}a{% else %}b{% endif %} {{ defects[0].value | round(1) }} {{ streams | length }}";
        assert_eq!(said(text, Markup::Plain).unwrap(), "b 2.5 1");
        assert!(said("{{ defects[5].says }}", Markup::Plain).is_err());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (source, line, part) in [
            ("{{ nmae }}", 1, "there is no field `nmae`"),
            (
                "a\n{% if flapping == 5 %}\n{{ nowhere }}{% endif %}",
                3,
                "no field `nowhere`",
            ),
            ("a\nb {{ title", 2, "syntax error"),
            ("{{ title | shout }}", 1, "unknown filter"),
            (
                "{% for d in defects %}\n{{ d.sayz }}\n{% endfor %}",
                2,
                "undefined",
            ),
            ("{% include 'other' %}", 1, "syntax error"),
            (
                "{% for a in range(9000) %}{% for b in range(9000) %}x{% endfor %}{% endfor %}",
                1,
                "too many steps",
            ),
            ("{{ 'x' * 99999999 }}", 1, ""),
        ] {
            let wrong = check(source).unwrap_err();
            assert_eq!(wrong.line, line, "{source}: {wrong}");
            assert!(wrong.what.contains(part), "{source}: {wrong}");
        }
        assert!(check(&"x".repeat(TEMPLATE_BYTES + 1)).is_err());
        for right in [
            "{{ title }}",
            "{{ labels.region }}",
            "{% for s in streams[:3] %}{{ s }}{% endfor %}",
            "plain",
        ] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
    }

    #[test]
    fn a_title_is_one_line_and_says_something() {
        let title = |title: &str| Template {
            title: Some(title.to_owned()),
            text: None,
        };
        let words = title(" a\n {{ name }}\t b ")
            .render(&sample(), Markup::Plain)
            .unwrap();
        assert_eq!(words.title.as_deref(), Some("a News 1 b"));
        assert!(
            title("{% if not flapping %}x{% endif %}")
                .render(&sample(), Markup::Plain)
                .is_err()
        );
    }
}
