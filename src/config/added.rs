//! Streams that are not in the file: whoever may, adds them by the API.
//!
//! An [`Entry`] is what would stand in the file's `streams:`, and is checked in the same way, on top of the file's
//! `defaults:` and `profiles:`. Only what would read the host's secrets is refused: variables of the environment and
//! files by their names.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::{Checker, Env, ID_HINT, is_id};
use super::checked::{Config, Stream};
use super::problem::{Problem, Problems};
use super::raw::{self, Data, Entry as Pair, Node};
use super::spans::{self, Spans};

/// What a file gives to streams that are added to it: defaults, profiles, where relative paths begin.
#[derive(Clone, Default)]
pub struct Base {
    root: Arc<Option<Node>>,
    env: Arc<Env>,
}

impl Base {
    pub(super) fn new(root: &Node, env: &Env) -> Self {
        let mut root = root.clone();
        if let Data::Map(entries) = &mut root.data {
            entries.retain(|e| ["defaults", "profiles"].contains(&e.key.as_str()));
        }
        // `files` stay for what the defaults name; entries may name none.
        let env = Env {
            vars: Default::default(),
            ..env.clone()
        };
        Self {
            root: Arc::new(Some(root)),
            env: Arc::new(env),
        }
    }
}

/// Holds secrets.
impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Base")
    }
}

/// A stream as somebody sent it. Holds secrets, so it cannot be printed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Id of the stream.
    pub id: String,
    /// The item of `streams:`.
    stream: Value,
}

/// Why something is no [`Entry`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// Not JSON.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// Mistakes that show before anything is checked.
    #[error(transparent)]
    Wrong(Problems),
}

impl Entry {
    /// Reads the JSON of an item of `streams:`; its `id` may be missing.
    ///
    /// # Errors
    /// It is not JSON, has a key twice, or another id.
    pub fn parse(id: &str, text: &str) -> Result<Self, EntryError> {
        // The message of the parser quotes nothing but names of what it expected.
        let stream: Value = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            EntryError::Json(format!("line {line}, column {column}"))
        })?;
        let mut problems = Vec::new();
        if !is_id(id) {
            let message = "this is not a valid id";
            problems.push(problem("id", message, Some(ID_HINT)));
        } else if let Some(own) = stream.get("id")
            && own.as_str() != Some(id)
        {
            problems.push(problem("id", "is not the one of the path", None));
        }
        for twice in spans::read(text).duplicates {
            problems.push(problem(&twice.path, "this key is written twice", None));
        }
        match problems.is_empty() {
            true => Ok(Self {
                id: id.to_owned(),
                stream,
            }),
            false => Err(EntryError::Wrong(Problems(problems))),
        }
    }

    /// As a tree; every value's path is that within the entry.
    fn node(&self) -> Option<Node> {
        let mut node = Node::deserialize(&self.stream).ok()?;
        if let Data::Map(entries) = &mut node.data
            && !entries.iter().any(|e| e.key == "id")
        {
            entries.push(Pair {
                key: "id".to_owned(),
                at: None,
                node: Node::bare(Data::Text(self.id.as_str().into())),
            });
        }
        node.locate("", &Spans::default(), None);
        Some(node)
    }
}

fn problem(path: &str, message: impl Into<String>, hint: Option<&str>) -> Problem {
    Problem {
        file: "API".into(),
        at: None,
        path: path.to_owned(),
        message: message.into(),
        hint: hint.map(str::to_owned),
    }
}

/// An entry that is wrong: its id, and everything that is.
pub type Wrong = (String, Problems);

/// Checks entries as if each stood in the file's `streams:`. That the file names none of their ids, the caller sees to.
pub fn check(file: &Config, entries: &[Entry]) -> (Vec<Arc<Stream>>, Vec<Wrong>) {
    let ids = file.streams.iter().map(|s| &*s.id);
    let ids: Vec<&str> = ids.chain(entries.iter().map(|e| e.id.as_str())).collect();
    let (mut streams, mut wrong) = (Vec::new(), Vec::new());
    for entry in entries {
        match one(&file.base, entry, &ids) {
            Ok(stream) => streams.push(Arc::new(stream)),
            Err(problems) => wrong.push((entry.id.clone(), problems)),
        }
    }
    (streams, wrong)
}

fn one(base: &Base, entry: &Entry, ids: &[&str]) -> Result<Stream, Problems> {
    let mut checker = Checker::new(&base.env);
    let none = Node::empty("");
    let Some(mut node) = entry.node() else {
        let what = problem("", "must be a mapping with plain keys", None);
        return Err(Problems(vec![what]));
    };
    checker.begin_with(foreign(&mut node));
    let root = base.root.as_ref().as_ref().unwrap_or(&none);
    let stream = checker.stream(&node, &none, root);
    if let Some(stream) = &stream {
        checker.reference_is_there(stream, &node, ids);
    }
    let told = checker.finish(stream);
    told.map_err(|Problems(mut all)| {
        for problem in &mut all {
            problem.file = "API".into();
        }
        Problems(all)
    })
}

/// Variables and files: who sends an entry is not who may read the host's.
fn foreign(node: &mut Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    node.each_text(&mut |text, _, path| {
        if raw::substitute(text, &|_| None).is_err() {
            let message = "variables are not read from what the API is sent";
            let hint = "`$${` writes a plain `${`";
            problems.push(problem(path, message, Some(hint)));
        }
    });
    each_pair(node, &mut |pair| {
        if let Some(plain) = pair.key.strip_suffix("_file") {
            let message = "files are not read for what the API is sent";
            let hint = format!("give `{plain}` itself");
            problems.push(problem(&pair.node.path, message, Some(&hint)));
        }
    });
    problems
}

fn each_pair(node: &Node, f: &mut dyn FnMut(&Pair)) {
    match &node.data {
        Data::List(items) => items.iter().for_each(|item| each_pair(item, f)),
        Data::Map(pairs) => {
            for pair in pairs {
                f(pair);
                each_pair(&pair.node, f);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::super::effective::effective_stream;
    use super::*;

    fn file() -> Config {
        let mut env = Env {
            base: "/srv".into(),
            ..Env::default()
        };
        env.vars.insert("TOKEN".to_owned(), "s3cret".to_owned());
        env.files
            .insert("/run/secrets/t".to_owned(), Ok("s3cret-s3cret".to_owned()));
        let text = "version: 1
defaults: {labels: {region: eu}, headers: {x-token: '${TOKEN}'}, srt: {passphrase_file: /run/secrets/t}}
profiles: {radio: {expect: {video: 0}}}
streams: [{id: news, url: 'https://cdn.example.com/a.m3u8'}]";
        Config::parse(text, &env).unwrap()
    }

    fn told(id: &str, text: &str) -> Vec<String> {
        let problems = match Entry::parse(id, text) {
            Err(EntryError::Wrong(problems)) => problems,
            Err(error) => panic!("{error}"),
            Ok(entry) => match check(&file(), &[entry]).1.pop() {
                None => return Vec::new(),
                Some((_, problems)) => problems,
            },
        };
        let line = |p: &Problem| format!("{}: {}", p.path, p.message);
        problems.0.iter().map(line).collect()
    }

    #[test]
    fn an_entry_has_the_defaults_and_profiles_of_the_file() {
        let text = r#"{"url": "udp://239.0.0.1:5000", "profile": "radio", "reference": "news"}"#;
        let entry = Entry::parse("radio1", text).unwrap();
        let (streams, wrong) = check(&file(), &[entry]);
        assert_eq!(wrong, []);
        let stream = &streams[0];
        assert_eq!((&*stream.id, stream.expect.video), ("radio1", Some(0)));
        assert_eq!(stream.labels["region"], "eu");
        assert_eq!(stream.input.headers[0].1.expose(), "s3cret");
        let passphrase = stream.input.srt.passphrase.as_ref().unwrap();
        assert_eq!(passphrase.expose(), "s3cret-s3cret");
        let shown = effective_stream(stream);
        assert_eq!(
            (&shown["id"], &shown["labels"]["region"]),
            (&"radio1".into(), &"eu".into())
        );
        assert!(!shown.to_string().contains("s3cret"), "{shown}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_path() {
        let text = r#"{"url": "htp://x", "detectors": {"freez": true, "black": {"rules": {"black": {"hold": 3}}}},
            "labels": {"a b": "c"}, "reference": "nobody"}"#;
        let all = told("x", text).join("\n");
        for part in [
            "url: unknown scheme `htp`",
            "detectors.freez: unknown detector `freez`",
            "detectors.black.rules.black.hold: must be a duration",
            "labels.\"a b\": `a b` is not a valid label name",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
        let near = told("x", r#"{"url": "udp://:1", "reference": "nobody"}"#);
        assert_eq!(near, ["reference: no stream has this id"]);
        for (id, text, want) in [
            ("x", "[]", ": must be a mapping, not a list"),
            ("x", "{}", ": `url` is missing"),
            ("X", "{}", "id: this is not a valid id"),
            (
                "x",
                r#"{"id": "y", "url": "udp://:1"}"#,
                "id: is not the one of the path",
            ),
            (
                "x",
                r#"{"url": "udp://:1", "url": "udp://:2"}"#,
                "url: this key is written twice",
            ),
        ] {
            assert_eq!(told(id, text), [want], "{text}");
        }
        assert!(matches!(
            Entry::parse("x", "{s3cret"),
            Err(EntryError::Json(said)) if !said.contains("s3cret")
        ));
    }

    #[test]
    fn nothing_of_the_host_is_read() {
        for (text, path) in [
            (r#"{"url": "http://x.example/${TOKEN}"}"#, "url"),
            (r#"{"url_file": "/run/secrets/t"}"#, "url_file"),
            (
                r#"{"url": "udp://:1", "srt": {"passphrase_file": "/run/secrets/t"}}"#,
                "srt.passphrase_file",
            ),
        ] {
            let all = told("x", text);
            assert_eq!(all.len(), 1, "{all:?}");
            let expected = all[0].starts_with(&format!("{path}: "))
                && all[0].contains("the API is sent")
                && !all[0].contains("s3cret");
            assert!(expected, "{all:?}");
        }
        assert!(told("x", r#"{"url": "http://x.example/$${TOKEN}"}"#).is_empty());
    }
}
