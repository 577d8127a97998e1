//! The configuration as written: a tree that knows where each value stands.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::problem::Mark;
use super::spans::{self, Spans};

/// A value and its place. Merged trees keep the places of their parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Content.
    pub data: Data,
    /// Place of the value in the file; `None` when it was not written there.
    pub at: Option<Mark>,
    /// Path under which it was written.
    pub path: String,
}

/// Content of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Nothing, or `~`; means "not written".
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number; whole ones are exact up to 2^53.
    Number(f64),
    /// Text.
    Text(Text),
    /// List.
    List(Vec<Node>),
    /// Mapping, in the order written, each key once.
    Map(Vec<Entry>),
}

/// A text before and after substitution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// As written, to be shown.
    pub written: String,
    /// With `${NAME}` replaced; may be secret when it differs from `written`.
    pub value: String,
    /// With every replaced part shown as `***`.
    pub masked: String,
    /// Whether anything was replaced.
    pub substituted: bool,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Place of the key.
    pub at: Option<Mark>,
    /// Value.
    pub node: Node,
}

impl Node {
    /// Content without a place.
    pub fn bare(data: Data) -> Self {
        Self {
            data,
            at: None,
            path: String::new(),
        }
    }

    /// An empty mapping at a path.
    pub fn empty(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            ..Self::bare(Data::Map(Vec::new()))
        }
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key, unless it is missing or null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|e| e.key == key)
            .map(|e| &e.node)
            .filter(|n| n.data != Data::Null)
    }

    /// Kind of value, in words.
    pub fn kind(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "true/false",
            Data::Number(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// The scalar as written; `None` for lists, mappings and nothing.
    pub fn written(&self) -> Option<String> {
        match &self.data {
            Data::Bool(b) => Some(b.to_string()),
            Data::Number(n) => Some(n.to_string()),
            Data::Text(t) => Some(t.written.clone()),
            _ => None,
        }
    }

    /// The scalar's value as text.
    pub fn text(&self) -> Option<String> {
        match &self.data {
            Data::Text(t) => Some(t.value.clone()),
            _ => self.written(),
        }
    }

    /// Fills in paths and places. What has no place of its own, such as the parts of an alias, gets `outer`.
    pub fn locate(&mut self, path: &str, spans: &Spans, outer: Option<Mark>) {
        self.path = path.to_owned();
        self.at = spans.places.get(path).map(|p| p.value).or(outer);
        match &mut self.data {
            Data::List(items) => {
                for (n, item) in items.iter_mut().enumerate() {
                    item.locate(&spans::item(path, n), spans, self.at);
                }
            }
            Data::Map(entries) => {
                for entry in entries {
                    let full = spans::child(path, &entry.key);
                    entry.at = spans.places.get(&full).map(|p| p.key).or(self.at);
                    entry.node.locate(&full, spans, self.at);
                }
            }
            _ => {}
        }
    }

    /// Calls `f` for every text in the tree.
    pub fn each_text(&mut self, f: &mut dyn FnMut(&mut Text, Option<Mark>, &str)) {
        match &mut self.data {
            Data::Text(text) => f(text, self.at, &self.path),
            Data::List(items) => items.iter_mut().for_each(|n| n.each_text(f)),
            Data::Map(entries) => entries.iter_mut().for_each(|e| e.node.each_text(f)),
            _ => {}
        }
    }

    /// Calls `f` with the value of every `*_file` key in the tree.
    pub fn each_file(&self, f: &mut dyn FnMut(&str)) {
        match &self.data {
            Data::List(items) => items.iter().for_each(|n| n.each_file(f)),
            Data::Map(entries) => {
                for entry in entries {
                    match &entry.node.data {
                        Data::Text(text) if entry.key.ends_with("_file") => f(&text.value),
                        _ => entry.node.each_file(f),
                    }
                }
            }
            _ => {}
        }
    }
}

/// Keys whose value is replaced as a whole, because its parts exclude each other.
const ATOMIC: &[&str] = &["rendition"];

/// Lays `over` on top of `under`. Mappings merge key by key; anything else replaces; nothing (`~`) changes
/// nothing; `true` over a mapping keeps the mapping; `x` replaces `x_file` and the other way round.
pub fn merge(under: &Node, over: &Node) -> Node {
    match (&under.data, &over.data) {
        (_, Data::Null) | (Data::Map(_), Data::Bool(true)) => under.clone(),
        (Data::Map(low), Data::Map(high)) => {
            let mut entries: Vec<Entry> = low
                .iter()
                .filter(|e| !high.iter().any(|h| displaces(h, &e.key)))
                .cloned()
                .collect();
            for entry in high {
                match entries.iter_mut().find(|e| e.key == entry.key) {
                    Some(old) if ATOMIC.contains(&entry.key.as_str()) => *old = entry.clone(),
                    Some(old) => {
                        let node = merge(&old.node, &entry.node);
                        *old = Entry {
                            node,
                            ..entry.clone()
                        };
                    }
                    None => entries.push(entry.clone()),
                }
            }
            Node {
                data: Data::Map(entries),
                at: over.at,
                path: over.path.clone(),
            }
        }
        _ => over.clone(),
    }
}

/// Whether an entry takes the place of the other way to give the same thing.
fn displaces(over: &Entry, key: &str) -> bool {
    over.node.data != Data::Null
        && (over.key.strip_suffix("_file") == Some(key)
            || key.strip_suffix("_file") == Some(&over.key))
}

/// Replaces `${NAME}` by what `var` knows; `$${` stands for `${`. Returns the names that are not set, or the
/// broken reference.
pub fn substitute(
    text: &mut Text,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Vec<Unresolved>> {
    let written = text.written.clone();
    let (mut value, mut masked) = (String::new(), String::new());
    let mut wrong = Vec::new();
    let mut rest = written.as_str();
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            for out in [&mut value, &mut masked] {
                out.push_str(before);
                out.push_str("${");
            }
            rest = after;
            continue;
        }
        value.push_str(before);
        masked.push_str(before);
        let name = after.split_once('}').map(|(name, _)| name);
        match name.filter(|name| is_name(name)) {
            Some(name) => {
                match var(name) {
                    Some(found) => value.push_str(&found),
                    None => wrong.push(Unresolved::NotSet(name.to_owned())),
                }
                masked.push_str("***");
                text.substituted = true;
                rest = &after[name.len() + 1..];
            }
            None => {
                wrong.push(Unresolved::Malformed);
                rest = after;
            }
        }
    }
    value.push_str(rest);
    masked.push_str(rest);
    text.value = value;
    text.masked = masked;
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Why a `${…}` could not be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// No such variable.
    NotSet(String),
    /// Not of the form `${NAME}`.
    Malformed,
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self {
            written: text.to_owned(),
            value: text.to_owned(),
            masked: text.to_owned(),
            substituted: false,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plain YAML without tags")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::bare(Data::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::bare(Data::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        Node::deserialize(from)
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Node, E> {
        Ok(Node::bare(Data::Bool(v)))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Node, E> {
        Ok(Node::bare(Data::Number(v as f64)))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Node, E> {
        Ok(Node::bare(Data::Number(v as f64)))
    }

    fn visit_i128<E: de::Error>(self, v: i128) -> Result<Node, E> {
        Ok(Node::bare(Data::Number(v as f64)))
    }

    fn visit_u128<E: de::Error>(self, v: u128) -> Result<Node, E> {
        Ok(Node::bare(Data::Number(v as f64)))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Node, E> {
        Ok(Node::bare(Data::Number(v)))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Node, E> {
        Ok(Node::bare(Data::Text(v.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Node::bare(Data::List(items)))
    }

    /// Keeps the first of equal keys; the others are told by [`Spans::duplicates`].
    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some((key, node)) = from.next_entry::<Node, Node>()? {
            let Some(key) = key.written() else {
                return Err(de::Error::custom("a key must be plain text"));
            };
            if !entries.iter().any(|e| e.key == key) {
                entries.push(Entry {
                    key,
                    at: None,
                    node,
                });
            }
        }
        Ok(Node::bare(Data::Map(entries)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn node(text: &str) -> Node {
        serde_yaml::from_str(text).unwrap()
    }

    fn flat(text: &str, var: &dyn Fn(&str) -> Option<String>) -> (String, String) {
        let mut text = Text::from(text);
        substitute(&mut text, var).unwrap();
        (text.value, text.masked)
    }

    #[test]
    fn substitutes_and_escapes() {
        let var = |name: &str| (name == "A").then(|| "x${A}".to_owned());
        assert_eq!(
            flat("1${A}2$${A}3${A}", &var),
            ("1x${A}2${A}3x${A}".to_owned(), "1***2${A}3***".to_owned())
        );
        assert_eq!(flat("costs $5 {ok}", &var).0, "costs $5 {ok}");
        let wrong = |t: &str| substitute(&mut Text::from(t), &var).unwrap_err();
        assert_eq!(wrong("${B}"), [Unresolved::NotSet("B".into())]);
        assert_eq!(wrong("${"), [Unresolved::Malformed]);
        assert_eq!(wrong("${a-b}${B}").len(), 2);
    }

    #[test]
    fn merges_as_trees() {
        let under = node("{a: {x: 1, y: 2}, l: [1], rendition: {height: 1}, s: {key: k}, n: 1}");
        let over = node("{a: {y: 3, z: 4}, l: [2], rendition: {name: n}, s: {key_file: f}, n: ~}");
        let merged = merge(&under, &over);
        let want =
            node("{a: {x: 1, y: 3, z: 4}, l: [2], rendition: {name: n}, s: {key_file: f}, n: 1}");
        assert_eq!(merged, want);
    }

    #[test]
    fn true_keeps_what_false_and_values_replace() {
        let under = node("{d: {x: 1}}");
        assert_eq!(merge(&under, &node("{d: true}")), under);
        assert_eq!(merge(&under, &node("{d: false}")), node("{d: false}"));
        assert_eq!(merge(&node("{d: false}"), &under), under);
    }
}
