//! Patches of a manifest (ISO/IEC 23009-1, 5.15): what changed, in the words of RFC 5261 and as much of XPath as that
//! uses there.
//!
//! A patch is taken whole or not at all.

use super::xml::{DEPTH_MAX, Element};
use super::{MpdError, time};

/// Most elements that are looked at for one patch: bounds the work that it can ask for.
const LOOKS_MAX: usize = 2_000_000;
/// Most elements that a selector may name on its way to the one it means.
const CANDIDATES_MAX: usize = 4096;
/// Most conditions of one step.
const TESTS_MAX: usize = 8;

/// Why a patch cannot be applied. The whole manifest must be loaded instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The document, or what it makes of the manifest, is none that is accepted.
    #[error("the patch, or what it makes of the manifest, is not accepted: {0}")]
    Document(#[from] MpdError),
    /// Some other document.
    #[error("not a patch")]
    NotAPatch,
    /// It is for another manifest (`mpdId`).
    #[error("the patch is for another manifest")]
    OtherManifest,
    /// It is for another state of the manifest (`originalPublishTime`), or does not lead to the state that it names.
    #[error("the patch is for another state of the manifest")]
    OtherState,
    /// A selector that is not understood, or an operation that is none.
    #[error("the patch has an operation that is not understood")]
    Operation,
    /// A selector that does not name exactly one place.
    #[error("the patch names a place that is not there, or several")]
    Place,
}

/// The manifest that a patch makes of this one.
pub(super) fn apply(manifest: &Element, patch: &Element) -> Result<Element, PatchError> {
    if patch.name != "Patch" {
        return Err(PatchError::NotAPatch);
    }
    if patch.attribute("mpdId").is_none() || patch.attribute("mpdId") != manifest.attribute("id") {
        return Err(PatchError::OtherManifest);
    }
    let moment = |of: &Element, name| of.attribute(name).and_then(time);
    let known = moment(manifest, "publishTime").ok_or(PatchError::OtherState)?;
    let target = moment(patch, "publishTime").ok_or(PatchError::OtherState)?;
    if moment(patch, "originalPublishTime") != Some(known) || target < known {
        return Err(PatchError::OtherState);
    }
    let mut made = manifest.clone();
    let mut looks = LOOKS_MAX;
    for operation in &patch.children {
        change(&mut made, operation, &mut looks)?;
    }
    made.check()?;
    match moment(&made, "publishTime") == Some(target) {
        true => Ok(made),
        false => Err(PatchError::OtherState),
    }
}

fn change(root: &mut Element, operation: &Element, looks: &mut usize) -> Result<(), PatchError> {
    let selector = operation.attribute("sel").and_then(Selector::read);
    let selector = selector.ok_or(PatchError::Operation)?;
    let place = selector.locate(root, looks)?;
    match (operation.name.as_str(), &selector.target) {
        ("add", Target::Element) => add(root, &place, operation),
        ("replace", Target::Element) => {
            let [new] = operation.children.as_slice() else {
                return Err(PatchError::Operation);
            };
            *at(root, &place)? = new.clone();
            Ok(())
        }
        ("replace", Target::Text) => {
            at(root, &place)?.text = operation.text.clone();
            Ok(())
        }
        ("replace", Target::Attribute(name)) => {
            let mut attributes = at(root, &place)?.attributes.iter_mut();
            let found = attributes.find(|(own, _)| own == name);
            let (_, value) = found.ok_or(PatchError::Place)?;
            *value = operation.text.trim().to_owned();
            Ok(())
        }
        ("remove", Target::Element) => {
            let (parent, index) = parent(root, &place)?;
            if index >= parent.children.len() {
                return Err(PatchError::Place);
            }
            parent.children.remove(index);
            Ok(())
        }
        ("remove", Target::Text) => {
            at(root, &place)?.text.clear();
            Ok(())
        }
        ("remove", Target::Attribute(name)) => {
            let attributes = &mut at(root, &place)?.attributes;
            let found = attributes.iter().position(|(own, _)| own == name);
            attributes.remove(found.ok_or(PatchError::Place)?);
            Ok(())
        }
        _ => Err(PatchError::Operation),
    }
}

fn add(root: &mut Element, place: &[usize], operation: &Element) -> Result<(), PatchError> {
    if let Some(kind) = operation.attribute("type") {
        // Prefixes mean nothing here.
        if kind.starts_with("namespace::") {
            return Ok(());
        }
        let name = kind.strip_prefix('@').ok_or(PatchError::Operation)?;
        let name = local(name).ok_or(PatchError::Operation)?;
        let element = at(root, place)?;
        if element.attributes.iter().any(|(own, _)| own == name) {
            return Err(PatchError::Place);
        }
        let value = operation.text.trim().to_owned();
        element.attributes.push((name.to_owned(), value));
        return Ok(());
    }
    let new = operation.children.iter().cloned();
    let (into, index) = match operation.attribute("pos") {
        None => {
            let element = at(root, place)?;
            if operation.children.is_empty() {
                element.text.push_str(&operation.text);
            }
            let end = element.children.len();
            (element, end)
        }
        Some("prepend") => (at(root, place)?, 0),
        Some("before") => parent(root, place)?,
        Some("after") => {
            let (parent, index) = parent(root, place)?;
            (parent, index + 1)
        }
        Some(_) => return Err(PatchError::Operation),
    };
    if index > into.children.len() {
        return Err(PatchError::Place);
    }
    into.children.splice(index..index, new);
    Ok(())
}

/// The element at this place: the number of the child on every level.
fn at<'a>(root: &'a mut Element, place: &[usize]) -> Result<&'a mut Element, PatchError> {
    let mut element = root;
    for index in place {
        element = element.children.get_mut(*index).ok_or(PatchError::Place)?;
    }
    Ok(element)
}

/// The element that holds this place, which the root has none of.
fn parent<'a>(
    root: &'a mut Element,
    place: &[usize],
) -> Result<(&'a mut Element, usize), PatchError> {
    let (index, above) = place.split_last().ok_or(PatchError::Place)?;
    Ok((at(root, above)?, *index))
}

/// A name without its prefix.
fn local(name: &str) -> Option<&str> {
    let name = name.rsplit(':').next()?.trim();
    let sane = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '*');
    (!name.is_empty() && name.chars().all(sane)).then_some(name)
}

/// What a selector means in the end.
#[derive(Debug, PartialEq)]
enum Target {
    Element,
    Attribute(String),
    Text,
}

#[derive(Debug, PartialEq)]
enum Test {
    /// Counted from 1, among those that are left.
    Position(usize),
    Attribute(String, String),
    Child(String, String),
    Text(String),
}

#[derive(Debug, PartialEq)]
struct Step {
    name: String,
    tests: Vec<Test>,
}

#[derive(Debug, PartialEq)]
struct Selector {
    steps: Vec<Step>,
    target: Target,
}

impl Selector {
    fn read(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('/').unwrap_or(text);
        let mut steps = Vec::new();
        loop {
            if let Some(name) = rest.strip_prefix('@') {
                let target = Target::Attribute(local(name)?.to_owned());
                return (!steps.is_empty()).then_some(Self { steps, target });
            }
            if matches!(rest, "text()" | "text()[1]") {
                let target = Target::Text;
                return (!steps.is_empty()).then_some(Self { steps, target });
            }
            let end = rest.find(['/', '[']).unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            let name = local(name)?.to_owned();
            let mut tests = Vec::new();
            rest = behind;
            while let Some(inside) = rest.strip_prefix('[') {
                let end = closing(inside)?;
                tests.push(test(inside.get(..end)?)?);
                rest = inside.get(end + 1..)?;
            }
            steps.push(Step { name, tests });
            if steps.len() > DEPTH_MAX || steps.last()?.tests.len() > TESTS_MAX {
                return None;
            }
            if rest.is_empty() {
                let target = Target::Element;
                return Some(Self { steps, target });
            }
            rest = rest.strip_prefix('/')?;
        }
    }

    /// The one place that it names.
    fn locate(&self, root: &Element, looks: &mut usize) -> Result<Vec<usize>, PatchError> {
        let (first, steps) = self.steps.split_first().ok_or(PatchError::Operation)?;
        if first.matching(std::iter::once(root), looks)?.is_empty() {
            return Err(PatchError::Place);
        }
        let mut found: Vec<(Vec<usize>, &Element)> = vec![(Vec::new(), root)];
        for step in steps {
            let mut next = Vec::new();
            for (place, element) in found {
                for index in step.matching(element.children.iter(), looks)? {
                    if next.len() >= CANDIDATES_MAX {
                        return Err(PatchError::Place);
                    }
                    if let Some(child) = element.children.get(index) {
                        next.push(([&place[..], &[index]].concat(), child));
                    }
                }
            }
            found = next;
        }
        match found.pop() {
            Some((place, _)) if found.is_empty() => Ok(place),
            _ => Err(PatchError::Place),
        }
    }
}

impl Step {
    /// Numbers of those that it means.
    fn matching<'a>(
        &self,
        elements: impl Iterator<Item = &'a Element>,
        looks: &mut usize,
    ) -> Result<Vec<usize>, PatchError> {
        let mut left = Vec::new();
        for (index, element) in elements.enumerate() {
            *looks = looks.checked_sub(1).ok_or(MpdError::TooLong)?;
            if self.name == "*" || self.name == element.name {
                left.push((index, element));
            }
        }
        for test in &self.tests {
            match test {
                Test::Position(n) => {
                    let kept = n.checked_sub(1).and_then(|n| left.get(n).copied());
                    left = kept.into_iter().collect();
                }
                Test::Attribute(name, value) => {
                    left.retain(|(_, e)| e.attributes.iter().any(|(n, v)| (n, v) == (name, value)));
                }
                Test::Child(name, value) => {
                    let children: usize = left.iter().map(|(_, e)| e.children.len()).sum();
                    *looks = looks.checked_sub(children).ok_or(MpdError::TooLong)?;
                    left.retain(|(_, e)| e.all(name).any(|c| c.text() == Some(value)));
                }
                Test::Text(value) => left.retain(|(_, e)| e.text() == Some(value)),
            }
        }
        Ok(left.into_iter().map(|(index, _)| index).collect())
    }
}

/// Where the bracket that is open closes.
fn closing(inside: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in inside.char_indices() {
        match (c, quote) {
            (']', None) => return Some(at),
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

fn test(text: &str) -> Option<Test> {
    let text = text.trim();
    if let Ok(n) = text.parse() {
        return Some(Test::Position(n));
    }
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let value = value.strip_prefix(quote)?.strip_suffix(quote)?.to_owned();
    Some(match name.trim() {
        "." | "text()" => Test::Text(value),
        name => match name.strip_prefix('@') {
            Some(name) => Test::Attribute(local(name)?.to_owned(), value),
            None => Test::Child(local(name)?.to_owned(), value),
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::xml;
    use super::*;

    const MANIFEST: &str = "<MPD id='m' publishTime='2024-01-01T00:00:00Z'>\
        <Location>a</Location><Period id='1'><X id='7'><S t='0'/><S t='5'/></X></Period>\
        <Period id='2'><X id='7'><S t='9'/></X></Period></MPD>";

    /// A patch with these operations, of a second's difference.
    fn patch(operations: &str) -> Element {
        let text = format!(
            "<Patch xmlns='urn:mpeg:dash:schema:mpd-patch:2020' mpdId='m' \
             originalPublishTime='2024-01-01T00:00:00Z' publishTime='2024-01-01T00:00:01Z'>\
             <replace sel='/MPD/@publishTime'>2024-01-01T00:00:01Z</replace>{operations}</Patch>"
        );
        xml::read(&text).unwrap()
    }

    fn applied(operations: &str) -> Result<Element, PatchError> {
        apply(&xml::read(MANIFEST).unwrap(), &patch(operations))
    }

    /// What the operations make of the manifest, apart from its time.
    fn becomes(operations: &str, from: &str, to: &str) {
        let expected = MANIFEST
            .replace("00:00:00Z", "00:00:01Z")
            .replacen(from, to, 1);
        assert_eq!(
            applied(operations),
            Ok(xml::read(&expected).unwrap()),
            "{operations}"
        );
    }

    #[test]
    fn every_operation_changes_what_its_selector_names() {
        becomes("", "-", "-");
        becomes(
            "<add sel=\"/MPD/Period[@id='1']/X\"><S t='6'/><S t='7'/></add>",
            "<S t='5'/>",
            "<S t='5'/><S t='6'/><S t='7'/>",
        );
        becomes(
            "<add sel='MPD/Period[2]/X[1]' pos='prepend'><S t='8'/></add>",
            "<S t='9'/>",
            "<S t='8'/><S t='9'/>",
        );
        becomes(
            "<p:add xmlns:p='q' sel='/*/Period[1]/X/p:S[@t=\"5\"]' pos='before'><S/></p:add>",
            "<S t='5'/>",
            "<S/><S t='5'/>",
        );
        becomes(
            "<add sel='/MPD/Period[1]' pos='after'><Period id='x/]'/></add>\
             <add sel=\"/MPD/Period[@id='x/]']\" type='@start'> PT1S </add>",
            "<Period id='2'>",
            "<Period id='x/]' start='PT1S'/><Period id='2'>",
        );
        becomes(
            "<replace sel=\"/MPD/Period[@id='1']/X[@id='7']/S[2]/@t\">6</replace>",
            "t='5'",
            "t='6'",
        );
        becomes(
            "<replace sel=\"/MPD/*[.='a']/text()\">b</replace>",
            ">a<",
            ">b<",
        );
        becomes(
            "<replace sel=\"/MPD[Location='a']/Location\"><Other/></replace>",
            "<Location>a</Location>",
            "<Other/>",
        );
        becomes("<remove sel='/MPD/Period[1]/X/S[1]'/>", "<S t='0'/>", "");
        becomes("<remove sel='/MPD/Location/text()'/>", ">a<", "><");
        becomes("<remove sel='/MPD/Period[1]/X/@id'/>", "<X id='7'>", "<X>");
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        for (operations, expected) in [
            ("<remove sel='/MPD/Period'/>", PatchError::Place),
            ("<remove sel='/MPD/Period[3]'/>", PatchError::Place),
            ("<remove sel='/MPD/Period[0]'/>", PatchError::Place),
            ("<remove sel='/Other/Period[1]'/>", PatchError::Place),
            ("<remove sel='/MPD'/>", PatchError::Place),
            ("<remove sel='/MPD/@nothing'/>", PatchError::Place),
            (
                "<replace sel='/MPD/@nothing'>1</replace>",
                PatchError::Place,
            ),
            ("<add sel='/MPD' type='@id'>2</add>", PatchError::Place),
            ("<add sel='/MPD' pos='after'><A/></add>", PatchError::Place),
            ("<add sel='/MPD' pos='inside'/>", PatchError::Operation),
            ("<add sel='/MPD/@id'>2</add>", PatchError::Operation),
            ("<replace sel='/MPD/Location'/>", PatchError::Operation),
            ("<move sel='/MPD/Location'/>", PatchError::Operation),
            ("<remove/>", PatchError::Operation),
            ("<remove sel='//Location'/>", PatchError::Operation),
            ("<remove sel='/MPD/Period[last()]'/>", PatchError::Operation),
            ("<remove sel='/MPD/Period[1'/>", PatchError::Operation),
            ("<remove sel='@id'/>", PatchError::Operation),
            (
                "<replace sel='/MPD/@publishTime'>2024-01-01T00:00:02Z</replace>",
                PatchError::OtherState,
            ),
        ] {
            assert_eq!(applied(operations), Err(expected), "{operations}");
        }
        let manifest = xml::read(MANIFEST).unwrap();
        let changed = |from: &str, to: &str| {
            let mut patch = patch("");
            let mut attributes = patch.attributes.iter_mut();
            let value = attributes.find(|(name, _)| name == from);
            *value.map(|(_, value)| value).unwrap() = to.to_owned();
            apply(&manifest, &patch)
        };
        assert_eq!(changed("mpdId", "n"), Err(PatchError::OtherManifest));
        let before = "2023-12-31T23:59:59Z";
        assert_eq!(
            changed("originalPublishTime", before),
            Err(PatchError::OtherState)
        );
        assert_eq!(changed("publishTime", before), Err(PatchError::OtherState));
        assert_eq!(changed("publishTime", "soon"), Err(PatchError::OtherState));
        let other = apply(&manifest, &manifest);
        assert_eq!(other, Err(PatchError::NotAPatch));
    }

    #[test]
    fn no_patch_grows_a_manifest_beyond_its_limits() {
        let nested = "<A>".repeat(50) + &"</A>".repeat(50);
        let deeper = "/A".repeat(50);
        let operations = format!(
            "<add sel='/MPD/Location'>{nested}</add><add sel='/MPD/Location{deeper}'>{nested}</add>"
        );
        let deep = applied(&operations);
        assert_eq!(deep, Err(PatchError::Document(MpdError::TooDeep)));
        let many = "<S/>".repeat(150_000);
        let mut manifest = xml::read(MANIFEST).unwrap();
        manifest
            .children
            .push(xml::read(&format!("<B>{many}</B>")).unwrap());
        let twice = apply(
            &manifest,
            &patch(&format!("<add sel='/MPD/B'>{many}</add>")),
        );
        assert_eq!(twice, Err(PatchError::Document(MpdError::TooLong)));
        // Every look counts.
        let busy = xml::read("<add sel='/MPD/B/S[1]'/>").unwrap();
        let mut all = patch("");
        all.children.extend(vec![busy; 20]);
        let worked = apply(&manifest, &all);
        assert_eq!(worked, Err(PatchError::Document(MpdError::TooLong)));
    }
}
