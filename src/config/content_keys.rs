//! Keys of encrypted media, as operators supply them.

use std::collections::BTreeMap;
use std::fmt;

use super::Secret;

/// Number of a key, as manifests and `tenc` name it.
pub type KeyId = [u8; 16];

/// Content keys by key id.
#[derive(Clone, Default, PartialEq)]
pub struct ContentKeys(BTreeMap<KeyId, [u8; 16]>);

impl fmt::Debug for ContentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// A word of a key list is not 32 hexadecimal digits, a colon, and 32 more. The word itself is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key {0} is not KEYID:KEY, 32 hexadecimal digits each")]
pub struct BadKey(pub usize);

/// Where keys are asked for that are not in the list (ClearKey of W3C Encrypted Media Extensions).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Licence {
    /// Nowhere.
    #[default]
    None,
    /// At this URL.
    At(Secret),
    /// Where a DASH manifest says.
    FromManifest,
}

impl ContentKeys {
    /// Reads `KEYID:KEY` words between white space or commas; dashes are ignored.
    pub fn parse(secret: &Secret) -> Result<Self, BadKey> {
        let words = (secret.expose())
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|word| !word.is_empty());
        let mut keys = BTreeMap::new();
        for (at, word) in words.enumerate() {
            let pair = word.split_once(':');
            let pair = pair.and_then(|(id, key)| Some((hex(id)?, hex(key)?)));
            let (id, key) = pair.ok_or(BadKey(at + 1))?;
            keys.insert(id, key);
        }
        Ok(Self(keys))
    }

    /// The key of that id.
    pub fn get(&self, id: &KeyId) -> Option<&[u8; 16]> {
        self.0.get(id)
    }

    /// All keys with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyId, &[u8; 16])> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads 32 hexadecimal digits; dashes are ignored.
pub fn hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.bytes().filter(|b| *b != b'-');
    let digits: Option<Vec<u32>> = digits.map(|b| char::from(b).to_digit(16)).collect();
    let bytes: Vec<u8> = digits?
        .chunks_exact(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect();
    let whole = text.bytes().filter(|b| *b != b'-').count() == 32;
    bytes.try_into().ok().filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ContentKeys, BadKey> {
        ContentKeys::parse(&Secret::new(text))
    }

    #[test]
    fn lists_are_read_and_never_shown() {
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        let key = "0f0e0d0c0b0a09080706050403020100";
        let keys = parse(&format!(" {id}:{key},\n{}:{key} ", "AB".repeat(16)));
        let keys = keys.unwrap_or_default();
        let mut wanted = [0; 16];
        (0..16u8).for_each(|n| wanted[usize::from(n)] = n * 0x11);
        assert_eq!(keys.get(&wanted).map(|k| k[0]), Some(0x0f));
        assert!(keys.get(&[0xab; 16]).is_some());
        assert_eq!(format!("{keys:?}"), "2 keys");
        assert!(parse("").is_ok_and(|keys| keys.is_empty()));
    }

    #[test]
    fn what_is_no_key_is_told_by_its_place() {
        let good = format!("{0}:{0}", "ab".repeat(16));
        for (text, at) in [
            ("x".to_owned(), 1),
            (format!("{good} {}:{}", "ab".repeat(16), "ab".repeat(15)), 2),
            (format!("{good},{good}0"), 2),
            (good.replace('a', "g"), 1),
            (good.replace('a', "ä"), 1),
        ] {
            assert_eq!(parse(&text), Err(BadKey(at)), "{text}");
        }
    }
}
