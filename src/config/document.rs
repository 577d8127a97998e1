//! A parsed file before it is checked, and the one stream of a one-shot command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::check::{Checker, Env};
use super::checked::{Config, Stream};
use super::problem::{Mark, Problem, Problems};
use super::raw::{self, Data, Node, Unresolved};
use super::spans::{self, Spans};

/// A parsed, located and substituted file, not yet checked. Holds secrets, so it cannot be printed.
#[derive(Clone)]
pub struct Document {
    root: Node,
    problems: Vec<Problem>,
}

impl Document {
    /// Parses. A syntax error comes alone; everything else is kept for [`Document::check`].
    pub fn parse(
        text: &str,
        file: &str,
        vars: &BTreeMap<String, String>,
    ) -> Result<Self, Problems> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut root: Node = serde_yaml::from_str(text).map_err(|e| {
            let at = e.location().map(|l| Mark {
                line: l.line(),
                column: l.column(),
            });
            let message = e.to_string();
            // The parser ends its sentence with the place, which stands at the front here.
            let message = match at {
                Some(_) => message.split(" at line ").next().unwrap_or_default(),
                None => &message,
            };
            Problems(vec![Problem {
                file: file.into(),
                at,
                path: String::new(),
                message: format!("not valid YAML: {message}"),
                hint: None,
            }])
        })?;
        let places = spans::read(text);
        root.locate("", &places, None);
        let file: Arc<str> = file.into();
        let mut problems: Vec<Problem> = places
            .duplicates
            .iter()
            .map(|d| Problem {
                file: Arc::clone(&file),
                at: Some(d.at),
                path: d.path.clone(),
                message: "this key is written twice".to_owned(),
                hint: Some(format!("the first one is in line {}", d.first.line)),
            })
            .collect();
        expand(&mut root, &file, vars, &mut problems);
        Ok(Self { root, problems })
    }

    /// Paths of all `*_file` keys, as written, variables replaced.
    pub fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.root.each_file(&mut |path| {
            found.insert(path.to_owned());
        });
        found
    }

    /// Checks everything, and tells everything that is wrong.
    pub fn check(self, env: &Env) -> Result<Config, Problems> {
        let mut checker = Checker::new(env);
        checker.begin_with(self.problems);
        let config = checker.top(&self.root);
        checker.finish(config)
    }
}

impl Config {
    /// Parses and checks a text.
    pub fn parse(text: &str, env: &Env) -> Result<Self, Problems> {
        Document::parse(text, &env.file, &env.vars)?.check(env)
    }
}

/// Replaces `${NAME}` in all values.
fn expand(
    root: &mut Node,
    file: &Arc<str>,
    vars: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) {
    root.each_text(&mut |text, at, path| {
        let Err(wrong) = raw::substitute(text, &|name| vars.get(name).cloned()) else {
            return;
        };
        for unresolved in wrong {
            let (message, hint) = match unresolved {
                Unresolved::NotSet(name) => (
                    format!("the environment variable {name} is not set"),
                    "`$${` writes a plain `${`",
                ),
                Unresolved::Malformed => (
                    "`${` begins no valid reference".to_owned(),
                    "write `${NAME}`, or `$${` for a plain `${`",
                ),
            };
            problems.push(Problem {
                file: Arc::clone(file),
                at,
                path: path.to_owned(),
                message,
                hint: Some(hint.to_owned()),
            });
        }
    });
}

/// Builds the one stream of a one-shot command: `defaults:` and the named profile of `document`, if any, with
/// `sets` (`KEY=VALUE`, keys with dots) on top. Private addresses are allowed and files run fast unless the
/// document or `sets` say otherwise.
pub fn one_stream_of(
    document: Option<Document>,
    input: &str,
    sets: &[(String, String)],
    env: &Env,
) -> Result<Arc<Stream>, Problems> {
    let mut checker = Checker::new(env);
    let root = match document {
        Some(document) => {
            // The whole file must be right, not just the part that is used here.
            document.clone().check(env)?;
            document.root
        }
        None => Node::empty(""),
    };
    let text = |text: &str| Node::bare(Data::Text(text.into()));
    let implied = raw::merge(
        &nested("allow_private", Node::bare(Data::Bool(true)), "implied"),
        &nested("pace", text("fast"), "implied"),
    );
    let mut own = raw::merge(
        &nested("id", text(&id_of(input)), "INPUT"),
        &nested("url", text(input), "INPUT"),
    );
    let mut problems = Vec::new();
    for (key, value) in sets {
        let path = format!("--set {key}");
        let mut node = serde_yaml::from_str(value).unwrap_or_else(|_| text(value));
        node.locate(&path, &Spans::default(), None);
        expand(
            &mut node,
            &env.file.as_str().into(),
            &env.vars,
            &mut problems,
        );
        own = raw::merge(&own, &nested(key, node, &path));
    }
    checker.begin_with(problems);
    let stream = checker.stream(&own, &implied, &root);
    checker.finish(stream.map(Arc::new))
}

/// `a.b.c` and a value as a tree, all of it written at `path`.
fn nested(key: &str, value: Node, path: &str) -> Node {
    let value = Node {
        path: path.to_owned(),
        ..value
    };
    key.rsplit('.').fold(value, |node, name| Node {
        data: Data::Map(vec![raw::Entry {
            key: name.to_owned(),
            at: None,
            node,
        }]),
        at: None,
        path: path.to_owned(),
    })
}

/// A stream id from a path or URL: its last named part, or its host.
fn id_of(input: &str) -> String {
    let bare = input.split(['?', '#']).next().unwrap_or_default();
    let rest = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    let last = rest.rsplit('/').find(|p| !p.is_empty()).unwrap_or_default();
    let last = last.rsplit('@').next().unwrap_or_default();
    let stem = match last.rsplit_once('.') {
        Some((stem, _)) if rest.contains('/') || !bare.contains("://") => stem,
        _ => last,
    };
    let mut id: String = stem
        .to_lowercase()
        .chars()
        .map(|c| match c.is_ascii_alphanumeric() || c == '_' {
            true => c,
            false => '-',
        })
        .collect();
    id = id.trim_matches(['-', '_']).chars().take(64).collect();
    if id.is_empty() {
        "input".to_owned()
    } else {
        id
    }
}
