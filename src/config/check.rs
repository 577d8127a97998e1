//! From the tree as written to a checked configuration. Pure: files and variables come in with [`Env`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use detectors::registry::{self, REGISTRY};

use super::added::Base;
use super::checked::{Against, Config, Instance, Shard, Stream};
use super::problem::{Mark, Problem, Problems, suggest};
use super::raw::{self, Data, Node, Text};
use super::receivers::Receiver;
use super::schema::{self, Key, Shape};
use super::spans;

/// What the file refers to, looked up beforehand. Holds secrets, so it cannot be printed.
#[derive(Clone, Default)]
pub struct Env {
    /// File name for messages.
    pub file: String,
    /// Directory that relative input paths and `*_file` paths start from; absolute.
    pub base: PathBuf,
    /// Host name, the default name of the instance.
    pub host: String,
    /// Environment variables.
    pub vars: BTreeMap<String, String>,
    /// Contents of `*_file` files by the path as written, or why they cannot be read.
    pub files: BTreeMap<String, Result<String, String>>,
    /// Whether this build can call Amazon's services.
    pub aws: bool,
}

/// Gathers problems while it reads.
pub(super) struct Checker<'a> {
    pub(super) env: &'a Env,
    file: Arc<str>,
    problems: Vec<Problem>,
    /// Paths whose values could not even be read; what else is wrong with them only follows from that.
    judged: BTreeSet<String>,
}

/// A mapping under reading.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) node: &'a Node,
    keys: &'a [&'static [Key]],
}

impl Section<'_> {
    fn shape(&self, name: &str) -> Option<&'static Shape> {
        schema::find(self.keys, name).map(|k| &k.shape)
    }
}

impl<'a> Checker<'a> {
    pub(super) fn new(env: &'a Env) -> Self {
        Self {
            env,
            file: env.file.as_str().into(),
            problems: Vec::new(),
            judged: BTreeSet::new(),
        }
    }

    /// Takes over what was wrong before any checking; values that are part of it are not judged again.
    pub(super) fn begin_with(&mut self, problems: Vec<Problem>) {
        self.judged.extend(problems.iter().map(|p| p.path.clone()));
        self.problems.extend(problems);
    }

    /// The result, if nothing was wrong; else the problems in the order of the file, each once.
    pub(super) fn finish<T>(mut self, result: Option<T>) -> Result<T, Problems> {
        if let (true, Some(result)) = (self.problems.is_empty(), result) {
            return Ok(result);
        }
        self.problems.sort_by_key(|p| p.at);
        let mut seen: Vec<Problem> = Vec::new();
        for problem in self.problems {
            if !seen.contains(&problem) {
                seen.push(problem);
            }
        }
        Err(Problems(seen))
    }

    /// Notes a problem at a value.
    pub(super) fn wrong(
        &mut self,
        node: &Node,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.wrong_at(node.at, node.path.clone(), message, hint);
    }

    /// Notes a problem at a place.
    pub(super) fn wrong_at(
        &mut self,
        at: Option<Mark>,
        path: String,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        if self.judged.contains(&path) {
            return;
        }
        self.problems.push(Problem {
            file: Arc::clone(&self.file),
            at,
            path,
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// Notes that a value is of the wrong kind.
    pub(super) fn kind(&mut self, node: &Node, want: &str) {
        let found = match &node.data {
            Data::Text(t) if !t.written.is_empty() => format!("not `{}`", t.written),
            Data::Number(n) => format!("not {}", schema::number_word(*n)),
            Data::Bool(b) => format!("not {b}"),
            _ => format!("not {}", node.kind()),
        };
        self.wrong(node, format!("must be {want}, {found}"), None);
    }

    /// Notes that a required key is missing.
    pub(super) fn missing(&mut self, node: &Node, key: &str, hint: impl Into<Option<String>>) {
        self.wrong(node, format!("`{key}` is missing"), hint);
    }

    /// Checks that a mapping holds only known keys.
    pub(super) fn known_keys(&mut self, node: &Node, what: &str, known: &[&str]) {
        if !matches!(node.data, Data::Map(_) | Data::Null) {
            self.kind(node, "a mapping");
            return;
        }
        for entry in node.entries() {
            let key = entry.key.as_str();
            if known.contains(&key) {
                continue;
            }
            let hint = match key {
                "<<" => Some("YAML merge keys are not read; use `profiles:`".to_owned()),
                _ => suggest(key, known.iter().copied()),
            };
            let path = entry.node.path.clone();
            self.wrong_at(entry.at, path, format!("unknown {what} `{key}`"), hint);
        }
    }

    /// Opens a mapping with known keys.
    pub(super) fn open<'n>(&mut self, node: &'n Node, keys: &'n [&'static [Key]]) -> Section<'n> {
        let names = schema::names(keys);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.known_keys(node, "key", &names);
        Section { node, keys }
    }

    /// A whole number, or the key's default.
    pub(super) fn whole(&mut self, section: Section<'_>, name: &str) -> Option<u64> {
        let Some(Shape::Whole { default, min, max }) = section.shape(name) else {
            return None;
        };
        let Some(node) = section.node.get(name) else {
            return *default;
        };
        match self.number(node) {
            Some(n) if n.fract() == 0.0 && (*min as f64..=*max as f64).contains(&n) => {
                Some(n as u64)
            }
            Some(n) => {
                let message = if min == max {
                    format!("must be {min}, not {}", self.word(node))
                } else if n.fract() == 0.0 {
                    format!("must be {min} to {max}, not {}", self.word(node))
                } else {
                    format!("must be a whole number, not {}", self.word(node))
                };
                self.wrong(node, message, None);
                *default
            }
            None => *default,
        }
    }

    /// The number in a node; tells when it is none.
    pub(super) fn number(&mut self, node: &Node) -> Option<f64> {
        let number = match &node.data {
            Data::Number(n) => Some(*n),
            Data::Text(t) if t.substituted => t.value.trim().parse().ok(),
            _ => None,
        };
        match number.filter(|n| n.is_finite()) {
            None => {
                self.kind(node, "a number");
                None
            }
            some => some,
        }
    }

    /// A scalar as it may be shown.
    pub(super) fn word(&self, node: &Node) -> String {
        match &node.data {
            Data::Number(n) => schema::number_word(*n),
            _ => node.written().unwrap_or_else(|| node.kind().to_owned()),
        }
    }

    /// A duration, or the key's default.
    pub(super) fn span(&mut self, section: Section<'_>, name: &str) -> Option<Duration> {
        let Some(Shape::Span { default, min, max }) = section.shape(name) else {
            return None;
        };
        match section.node.get(name) {
            Some(node) => self.span_in(node, *min, *max).or(*default),
            None => *default,
        }
    }

    /// The duration in a node, within bounds.
    pub(super) fn span_in(
        &mut self,
        node: &Node,
        min: Duration,
        max: Duration,
    ) -> Option<Duration> {
        let parsed = match &node.data {
            Data::Text(t) => schema::parse_span(t.value.trim()),
            _ => None,
        };
        match parsed {
            Some(span) if span < min || span > max => {
                let message = format!(
                    "must be {} to {}, not {}",
                    schema::span_word(min),
                    schema::span_word(max),
                    self.word(node)
                );
                self.wrong(node, message, None);
                None
            }
            Some(span) => Some(span),
            None if matches!(node.data, Data::List(_) | Data::Map(_)) => {
                self.kind(node, "a duration");
                None
            }
            None => {
                let found = self.word(node);
                let hint = match &node.data {
                    Data::Number(n) if *n >= 0.0 => format!("write `{found}s` or `{found}ms`"),
                    _ => "write `2s`, `500ms`, `1m` or `1h`".to_owned(),
                };
                self.wrong(node, format!("must be a duration, not `{found}`"), hint);
                None
            }
        }
    }

    /// `true` or `false`, or the key's default.
    pub(super) fn flag(&mut self, section: Section<'_>, name: &str) -> bool {
        let default = matches!(section.shape(name), Some(Shape::Flag { default: true }));
        match section.node.get(name) {
            Some(node) => self.flag_in(node).unwrap_or(default),
            None => default,
        }
    }

    /// The flag in a node.
    pub(super) fn flag_in(&mut self, node: &Node) -> Option<bool> {
        let flag = match &node.data {
            Data::Bool(b) => Some(*b),
            Data::Text(t) if t.substituted => t.value.trim().parse().ok(),
            _ => None,
        };
        if flag.is_none() {
            self.kind(node, "true or false");
        }
        flag
    }

    /// One of the key's words, or its default.
    pub(super) fn choice(&mut self, section: Section<'_>, name: &str) -> &'static str {
        let Some(Shape::Word { default, of }) = section.shape(name) else {
            return "";
        };
        match section.node.get(name) {
            Some(node) => self.choice_in(node, of).unwrap_or(default),
            None => default,
        }
    }

    /// The word in a node, one of `of`.
    pub(super) fn choice_in(
        &mut self,
        node: &Node,
        of: &'static [&'static str],
    ) -> Option<&'static str> {
        let Some(found) = node.text() else {
            self.kind(node, &format!("one of {}", of.join(", ")));
            return None;
        };
        let word = of.iter().copied().find(|w| *w == found);
        if word.is_none() {
            let message = format!(
                "must be one of {}, not `{}`",
                of.join(", "),
                self.word(node)
            );
            let near = super::problem::nearest(&found, of.iter().copied());
            self.wrong(node, message, near.map(|n| format!("did you mean `{n}`?")));
        }
        word
    }

    /// Text, or the key's default.
    pub(super) fn text(&mut self, section: Section<'_>, name: &str) -> Option<String> {
        let default = match section.shape(name) {
            Some(Shape::Text { default, .. }) => default.map(str::to_owned),
            _ => None,
        };
        match section.node.get(name) {
            Some(node) => self.text_in(node).or(default),
            None => default,
        }
    }

    /// The text in a node; numbers and flags count as text.
    pub(super) fn text_in(&mut self, node: &Node) -> Option<String> {
        let text = node.text().map(|t| t.trim().to_owned());
        match &text {
            None => self.kind(node, "text"),
            Some(t) if t.is_empty() => self.wrong(node, "must not be empty", None),
            Some(_) => return text,
        }
        None
    }

    /// The text of a secret key or of its `_file` twin, and where it was written.
    pub(super) fn secret<'n>(
        &mut self,
        section: Section<'n>,
        name: &str,
    ) -> Option<(Text, &'n Node, Origin)> {
        let twin = format!("{name}_file");
        match (section.node.get(name), section.node.get(&twin)) {
            (Some(_), Some(file)) => {
                self.wrong(file, format!("both `{name}` and `{twin}` are given"), None);
                None
            }
            (Some(node), None) => {
                self.text_in(node)?;
                let text = match &node.data {
                    Data::Text(text) => text.clone(),
                    _ => node.text()?.as_str().into(),
                };
                Some((text, node, Origin::Inline))
            }
            (None, Some(node)) => {
                let path = self.text_in(node)?;
                let found = self.env.files.get(&path).cloned();
                match found.unwrap_or_else(|| Err("it was not looked up".to_owned())) {
                    Ok(text) if !text.trim().is_empty() => {
                        Some((text.trim().into(), node, Origin::File))
                    }
                    Ok(_) => {
                        self.wrong(node, "the file is empty", None);
                        None
                    }
                    Err(why) => {
                        let shown = self.word(node);
                        self.wrong(node, format!("cannot read `{shown}`: {why}"), None);
                        None
                    }
                }
            }
            (None, None) => None,
        }
    }

    /// A list of texts, or the key's default.
    pub(super) fn texts(&mut self, section: Section<'_>, name: &str) -> Vec<String> {
        if section.node.get(name).is_none()
            && let Some(Shape::Texts { default, .. }) = section.shape(name)
        {
            return default.iter().map(|text| (*text).to_owned()).collect();
        }
        let items = self.items(section, name);
        items.iter().filter_map(|node| self.text_in(node)).collect()
    }

    /// The items of a list.
    pub(super) fn items<'n>(&mut self, section: Section<'n>, name: &str) -> &'n [Node] {
        match section.node.get(name) {
            None => &[],
            Some(Node {
                data: Data::List(items),
                ..
            }) => items,
            Some(node) => {
                self.kind(node, "a list");
                &[]
            }
        }
    }

    pub(super) fn top(&mut self, root: &Node) -> Option<Config> {
        if root.data == Data::Null {
            self.wrong(root, "the file is empty", None);
            return None;
        }
        let top = self.open(root, &[schema::TOP]);
        if !matches!(root.data, Data::Map(_)) {
            return None;
        }
        if top.node.get("version").is_none() {
            self.missing(root, "version", "write `version: 1`".to_owned());
        }
        self.whole(top, "version");
        let instance = self.instance(&child(root, "instance"));
        let http = self.http(&child(root, "http"));
        let groups = self.groups(&child(root, "groups"));
        let shard = root.get("shard").and_then(|node| self.shard(node));
        let mut receivers: Vec<Receiver> = Vec::new();
        for node in self.items(top, "receivers") {
            if let Some(receiver) = self.receiver(node) {
                if receivers.iter().any(|r| r.name == receiver.name) {
                    let name = &receiver.name;
                    self.wrong(node, format!("a receiver `{name}` is already there"), None);
                }
                receivers.push(receiver);
            }
        }
        let evidence = self.evidence(&child(root, "evidence"));
        let incidents = self.incidents(&child(root, "incidents"));
        let canary = self.canary(&child(root, "canary"));
        let heartbeat = self.heartbeat(&child(root, "heartbeat"));
        let streams = self.streams(top, root);
        Some(Config {
            instance,
            http,
            groups,
            shard,
            receivers,
            evidence,
            incidents,
            canary,
            heartbeat,
            streams,
            base: Base::new(root, self.env),
        })
    }

    fn instance(&mut self, node: &Node) -> Instance {
        let s = self.open(node, &[schema::INSTANCE]);
        Instance {
            name: self
                .text(s, "name")
                .unwrap_or_else(|| match self.env.host.as_str() {
                    "" => "glasswatch".to_owned(),
                    host => host.to_owned(),
                }),
            data_dir: self.text(s, "data_dir").unwrap_or_default().into(),
            evidence_quota_bytes: self.whole(s, "evidence_quota_mib").unwrap_or_default() << 20,
            drain: self.span(s, "drain").unwrap_or_default(),
            pool_threads: self.whole(s, "pool_threads").unwrap_or_default() as usize,
        }
    }

    fn groups(&mut self, node: &Node) -> BTreeMap<String, Vec<&'static str>> {
        let mut groups = BTreeMap::new();
        if !matches!(node.data, Data::Map(_)) {
            self.kind(node, "a mapping from names to lists of detectors");
        }
        for entry in node.entries() {
            if !is_id(&entry.key) || entry.key == "all" {
                let (message, hint) = if entry.key == "all" {
                    let message = "the group `all` always exists and cannot be changed";
                    (message.to_owned(), None)
                } else {
                    let message = format!("`{}` is not a valid name", entry.key);
                    (message, Some(ID_HINT.to_owned()))
                };
                self.wrong_at(entry.at, entry.node.path.clone(), message, hint);
                continue;
            }
            let Data::List(items) = &entry.node.data else {
                if entry.node.data == Data::Null {
                    self.wrong_at(
                        entry.at,
                        entry.node.path.clone(),
                        "the group is empty",
                        None,
                    );
                } else {
                    self.kind(&entry.node, "a list of detectors");
                }
                continue;
            };
            if items.is_empty() {
                self.wrong(&entry.node, "the group is empty", None);
            }
            let mut names = Vec::new();
            for item in items {
                let Some(word) = self.text_in(item) else {
                    continue;
                };
                match registry::find(&word) {
                    Some(descriptor) if names.contains(&descriptor.name) => {
                        self.wrong(item, format!("`{word}` is already in the group"), None);
                    }
                    Some(descriptor) => names.push(descriptor.name),
                    None => {
                        let shown = self.word(item);
                        self.wrong(
                            item,
                            format!("unknown detector `{shown}`"),
                            suggest(&shown, REGISTRY.iter().map(|d| d.name)),
                        );
                    }
                }
            }
            groups.insert(entry.key.clone(), names);
        }
        groups
    }

    fn shard(&mut self, node: &Node) -> Option<Shard> {
        let s = self.open(node, &[schema::SHARD]);
        for key in ["index", "count"] {
            if s.node.get(key).is_none() {
                self.missing(node, key, None);
            }
        }
        let (index, count) = (self.whole(s, "index")?, self.whole(s, "count")?);
        if index >= count {
            self.wrong(
                s.node.get("index")?,
                format!("must be below `count`, which is {count}"),
                "parts are numbered from 0".to_owned(),
            );
        }
        Some(Shard {
            index: u32::try_from(index).ok()?,
            count: u32::try_from(count).ok()?,
        })
    }

    fn streams(&mut self, top: Section<'_>, root: &Node) -> Vec<Arc<Stream>> {
        // Defaults and profiles are checked by themselves too, so that what no stream uses is right as well.
        let defaults = child(root, "defaults");
        self.settings_alone(&defaults);
        if let Some(profiles) = root.get("profiles") {
            if !matches!(profiles.data, Data::Map(_)) {
                self.kind(profiles, "a mapping from names to settings");
            }
            for entry in profiles.entries() {
                self.settings_alone(&raw::merge(&defaults, &entry.node));
            }
        }
        if top.node.get("streams").is_none() {
            self.missing(root, "streams", None);
        }
        let mut streams: Vec<(Stream, &Node)> = Vec::new();
        let mut ids: BTreeMap<String, usize> = BTreeMap::new();
        for node in self.items(top, "streams") {
            if let Some(id) = node.get("id")
                && let Some(word) = id.text()
            {
                let line = id.at.map_or(0, |at| at.line);
                if let Some(first) = ids.get(&word) {
                    let message = format!("a stream `{}` is already there", self.word(id));
                    self.wrong(id, message, format!("see line {first}"));
                } else {
                    ids.insert(word, line);
                }
            }
            let none = Node::empty("");
            streams.extend(self.stream(node, &none, root).map(|s| (s, node)));
        }
        let ids: Vec<&str> = ids.keys().map(String::as_str).collect();
        for (stream, node) in &streams {
            self.reference_is_there(stream, node, &ids);
        }
        streams.into_iter().map(|(s, _)| Arc::new(s)).collect()
    }

    /// Whether the stream that one is compared with is another of these.
    pub(super) fn reference_is_there(&mut self, stream: &Stream, node: &Node, ids: &[&str]) {
        let Some(Against::Stream(other)) = &stream.reference else {
            return;
        };
        let at = (node.get("reference").or(node.get("reference_file"))).unwrap_or(node);
        if *other == stream.id {
            self.wrong(at, "a stream cannot be its own reference", None);
        } else if !ids.contains(&&**other) {
            let known = suggest(other, ids.iter().copied());
            self.wrong(at, "no stream has this id", known);
        }
    }

    /// The absolute form of an input's directory.
    pub(super) fn base(&self) -> &Path {
        &self.env.base
    }
}

/// Address and port, where `localhost` is the loopback address.
pub(super) fn socket(word: &str) -> Option<SocketAddr> {
    match word.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse().ok(),
        None => word.parse().ok(),
    }
}

/// Where a secret was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the configuration.
    Inline,
    /// In a file of its own.
    File,
}

/// What is said about bad ids and names.
pub(super) const ID_HINT: &str =
    "use a-z, 0-9, `_` and `-`, at most 64, beginning with a letter or digit";

/// Whether a word is a valid id.
pub(super) fn is_id(word: &str) -> bool {
    (1..=64).contains(&word.len())
        && word.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// The mapping at a key, or an empty one.
pub(super) fn child(node: &Node, key: &str) -> Node {
    match node.get(key) {
        Some(found) => found.clone(),
        None => Node::empty(&spans::child(&node.path, key)),
    }
}
