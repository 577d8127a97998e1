//! Where every key and value of a YAML text stands, from parser events.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span};

use super::problem::Mark;

/// Places of one key and its value.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Of the key; of the value for list items.
    pub key: Mark,
    /// Of the value.
    pub value: Mark,
}

/// A key written twice in one mapping.
#[derive(Debug, Clone)]
pub struct Duplicate {
    /// Full path of the key.
    pub path: String,
    /// Second place.
    pub at: Mark,
    /// First place.
    pub first: Mark,
}

/// Places by path (`streams[1].url`).
#[derive(Debug, Default)]
pub struct Spans {
    /// First place of each path.
    pub places: HashMap<String, Place>,
    /// Keys written more than once.
    pub duplicates: Vec<Duplicate>,
}

/// An open list or mapping.
enum Open {
    /// Path of the list, number of the next item.
    List(String, usize),
    /// Path of the mapping; the key read, while its value is due.
    Map(String, Option<(String, Mark)>),
    /// A collection used as a key: nothing inside it has a path.
    Nameless(usize),
}

/// Reads the places. What the parser refuses has no place; the other parser tells why.
pub fn read(text: &str) -> Spans {
    let mut spans = Spans::default();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let mark = mark(span);
        match event {
            Event::Scalar(word, ..) => {
                if let Some(Open::Map(path, key @ None)) = open.last_mut() {
                    let full = child(path, &word);
                    if let Some(first) = spans.places.get(&full) {
                        spans.duplicates.push(Duplicate {
                            path: full,
                            at: mark,
                            first: first.key,
                        });
                    }
                    *key = Some((word.into_owned(), mark));
                } else {
                    value(&mut spans, &mut open, mark);
                }
            }
            Event::Alias(_) => {
                value(&mut spans, &mut open, mark);
            }
            Event::SequenceStart(..) => {
                let next = match value(&mut spans, &mut open, mark) {
                    Some(path) => Open::List(path, 0),
                    None => Open::Nameless(1),
                };
                push(&mut open, next);
            }
            Event::MappingStart(..) => {
                let next = match value(&mut spans, &mut open, mark) {
                    Some(path) => Open::Map(path, None),
                    None => Open::Nameless(1),
                };
                push(&mut open, next);
            }
            Event::SequenceEnd | Event::MappingEnd => match open.last_mut() {
                Some(Open::Nameless(depth)) if *depth > 1 => *depth -= 1,
                _ => {
                    open.pop();
                }
            },
            _ => {}
        }
    }
    spans
}

fn push(open: &mut Vec<Open>, next: Open) {
    match (open.last_mut(), &next) {
        (Some(Open::Nameless(depth)), Open::Nameless(_)) => *depth += 1,
        _ => open.push(next),
    }
}

/// A value begins: notes its place and returns its path; `None` inside a collection used as key.
fn value(spans: &mut Spans, open: &mut [Open], mark: Mark) -> Option<String> {
    let (path, key) = match open.last_mut() {
        None => (String::new(), mark),
        Some(Open::List(path, next)) => {
            let full = item(path, *next);
            *next += 1;
            (full, mark)
        }
        Some(Open::Map(path, key)) => match key.take() {
            Some((word, at)) => (child(path, &word), at),
            None => {
                // A collection as key: its value is the next event and has no name either.
                *key = Some((String::from("?"), mark));
                return None;
            }
        },
        Some(Open::Nameless(_)) => return None,
    };
    spans
        .places
        .entry(path.clone())
        .or_insert(Place { key, value: mark });
    Some(path)
}

/// Path of a key in a mapping. Unusual keys are quoted, so that no two places share a path.
pub fn child(path: &str, key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let quoted = match !key.is_empty() && key.bytes().all(plain) {
        true => key.to_owned(),
        false => format!("{key:?}"),
    };
    match path {
        "" => quoted,
        path => format!("{path}.{quoted}"),
    }
}

/// Path of an item in a list.
pub fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

fn mark(span: Span) -> Mark {
    Mark {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(spans: &Spans, path: &str) -> (usize, usize) {
        let mark = spans.places.get(path).unwrap().value;
        (mark.line, mark.column)
    }

    #[test]
    fn finds_values_in_block_and_flow_style() {
        let spans = read("a: 1\nlist:\n  - id: x\n    deep: {k: [1, 2]}\n  - 'y'\n");
        assert_eq!(at(&spans, "a"), (1, 4));
        assert_eq!(at(&spans, "list[0].id"), (3, 9));
        assert_eq!(at(&spans, "list[0].deep.k[1]"), (4, 19));
        assert_eq!(at(&spans, "list[1]"), (5, 5));
        assert_eq!(spans.places.get("list[0].deep").unwrap().key.column, 5);
    }

    #[test]
    fn notes_duplicates_with_both_places() {
        let spans = read("a: 1\nb: {c: 1, c: 2}\na: 3\n");
        let found: Vec<_> = spans
            .duplicates
            .iter()
            .map(|d| (d.path.as_str(), d.at.line, d.first.line))
            .collect();
        assert_eq!(found, [("b.c", 2, 2), ("a", 3, 1)]);
    }

    #[test]
    fn keys_with_dots_are_not_taken_for_paths() {
        let spans = read("a: {b: 1}\n'a.b': 2\n");
        assert!(spans.duplicates.is_empty());
        assert_eq!(at(&spans, "\"a.b\""), (2, 8));
    }

    #[test]
    fn odd_keys_and_broken_text_do_no_harm() {
        assert!(read("? [a, b]\n: c\nd: 1\n").places.contains_key("d"));
        assert!(read("a: [1, 2\nb: }").places.contains_key("a"));
        read("\u{0}\u{1}- - - ? ? :");
    }
}
