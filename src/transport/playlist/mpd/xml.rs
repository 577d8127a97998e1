//! A small XML document, read whole under limits: no document type, bounded depth and number of elements.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;

use super::MpdError;

/// Deepest nesting that is read.
pub const DEPTH_MAX: usize = 64;
/// Most elements that are read.
pub const ELEMENTS_MAX: usize = 200_000;
/// Most attributes of one element.
const ATTRIBUTES_MAX: usize = 128;

/// An element; names are without their prefix.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
    pub text: String,
}

impl Element {
    /// An attribute's value, trimmed; an empty one is absent.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let (_, value) = self.attributes.iter().find(|(own, _)| own == name)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }

    /// Children with this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child with this name.
    pub fn first(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Its text, trimmed; an empty one is absent.
    pub fn text(&self) -> Option<&str> {
        Some(self.text.trim()).filter(|text| !text.is_empty())
    }

    /// The first element with this name below it, at any depth.
    pub fn find(&self, name: &str) -> Option<&Element> {
        self.children
            .iter()
            .find_map(|child| match child.name == name {
                true => Some(child),
                false => child.find(name),
            })
    }

    /// Checks the limits of [`read`] on what was put together from several documents.
    pub fn check(&self) -> Result<(), MpdError> {
        let mut count = 0;
        self.count(0, &mut count)
    }

    fn count(&self, depth: usize, count: &mut usize) -> Result<(), MpdError> {
        *count += 1;
        if *count > ELEMENTS_MAX {
            return Err(MpdError::TooLong);
        }
        if depth >= DEPTH_MAX {
            return Err(MpdError::TooDeep);
        }
        let mut children = self.children.iter();
        children.try_for_each(|child| child.count(depth + 1, count))
    }
}

/// Reads a document and gives its root.
pub(super) fn read(text: &str) -> Result<Element, MpdError> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut count = 0;
    loop {
        let (element, empty) = match reader.read_event().map_err(|_| MpdError::NotXml)? {
            Event::Start(start) => (element(&start)?, false),
            Event::Empty(start) => (element(&start)?, true),
            Event::End(_) => {
                let Some(done) = open.pop() else {
                    return Err(MpdError::NotXml);
                };
                match open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => return Ok(done),
                }
                continue;
            }
            Event::Text(piece) => {
                if let Some(inside) = open.last_mut() {
                    inside.text.push_str(&piece);
                }
                continue;
            }
            Event::CData(piece) => {
                if let Some(inside) = open.last_mut() {
                    inside.text.push_str(&piece);
                }
                continue;
            }
            Event::GeneralRef(reference) => {
                if let Some(inside) = open.last_mut() {
                    inside.text.extend(character(&reference));
                }
                continue;
            }
            Event::DocType(_) => return Err(MpdError::DocumentType),
            Event::Eof => return Err(MpdError::NotXml),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
        };
        count += 1;
        if count > ELEMENTS_MAX {
            return Err(MpdError::TooLong);
        }
        if open.len() >= DEPTH_MAX {
            return Err(MpdError::TooDeep);
        }
        match (empty, open.last_mut()) {
            (false, _) => open.push(element),
            (true, Some(parent)) => parent.children.push(element),
            (true, None) => return Ok(element),
        }
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, MpdError> {
    let mut attributes = Vec::new();
    for attribute in start.attributes().take(ATTRIBUTES_MAX) {
        let attribute = attribute.map_err(|_| MpdError::NotXml)?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|_| MpdError::NotXml)?;
        let name = attribute.key.local_name().into_inner().to_owned();
        attributes.push((name, value.into_owned()));
    }
    Ok(Element {
        name: start.local_name().into_inner().to_owned(),
        attributes,
        ..Element::default()
    })
}

fn character(reference: &BytesRef<'_>) -> Option<char> {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return Some(character);
    }
    match &**reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}
