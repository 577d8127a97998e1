//! Keys of samples on their way from where they are had to where samples are decrypted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use detectors::base::Kind;

use crate::config::{ContentKeys, KeyId};

/// A key of 16 bytes, and what became of it: no check value tells a right key from a wrong one, only what decodes.
/// Copies share what is known.
#[derive(Clone)]
pub struct ContentKey {
    bytes: [u8; 16],
    known: Arc<Known>,
}

#[derive(Default)]
struct Known {
    pictures: AtomicBool,
    sound: AtomicBool,
    refuted: AtomicBool,
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for ContentKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl ContentKey {
    /// A key of which nothing is known.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self {
            bytes,
            known: Arc::default(),
        }
    }

    /// For the cipher.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    /// What it decrypted of this kind has been decoded.
    pub fn prove(&self, kind: Kind) {
        self.proof(kind).store(true, Ordering::Relaxed);
        self.known.refuted.store(false, Ordering::Relaxed);
    }

    /// What it decrypted cannot be decoded.
    pub fn refute(&self) {
        self.known.refuted.store(true, Ordering::Relaxed);
    }

    /// Whether it was right for this kind of track.
    pub fn is_proved(&self, kind: Kind) -> bool {
        self.proof(kind).load(Ordering::Relaxed)
    }

    /// Whether it was wrong when it was last looked at.
    pub fn is_refuted(&self) -> bool {
        self.known.refuted.load(Ordering::Relaxed)
    }

    fn proof(&self, kind: Kind) -> &AtomicBool {
        match kind {
            Kind::Video => &self.known.pictures,
            Kind::Audio => &self.known.sound,
        }
    }
}

/// A key that a playlist names for samples, and the vector that goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedKey {
    /// Key.
    pub key: ContentKey,
    /// Initialisation vector.
    pub iv: [u8; 16],
}

/// Keys at hand for the samples of what is fed next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleKeys {
    /// What the playlist names; used where samples name no key, or one that is not at hand.
    pub named: Option<NamedKey>,
    by_id: Arc<BTreeMap<KeyId, ContentKey>>,
}

impl From<&ContentKeys> for SampleKeys {
    fn from(keys: &ContentKeys) -> Self {
        keys.iter()
            .map(|(id, key)| (*id, ContentKey::new(*key)))
            .collect()
    }
}

impl FromIterator<(KeyId, ContentKey)> for SampleKeys {
    fn from_iter<I: IntoIterator<Item = (KeyId, ContentKey)>>(keys: I) -> Self {
        Self {
            named: None,
            by_id: Arc::new(keys.into_iter().collect()),
        }
    }
}

impl SampleKeys {
    /// The key of that id, or else the one that the playlist names.
    pub fn get(&self, id: &KeyId) -> Option<&ContentKey> {
        let named = || self.named.as_ref().map(|named| &named.key);
        self.by_id.get(id).or_else(named)
    }

    /// The key of that id alone.
    pub fn by_id(&self, id: &KeyId) -> Option<&ContentKey> {
        self.by_id.get(id)
    }

    /// The only key there is.
    pub fn single(&self) -> Option<&ContentKey> {
        let mut keys = self.by_id.values();
        keys.next().filter(|_| keys.next().is_none())
    }

    /// The same with further keys.
    pub fn with(&self, more: impl IntoIterator<Item = (KeyId, ContentKey)>) -> Self {
        let own = self.by_id.iter().map(|(id, key)| (*id, key.clone()));
        Self {
            named: self.named.clone(),
            by_id: Arc::new(own.chain(more).collect()),
        }
    }

    /// The same with this key of a playlist.
    pub fn naming(&self, named: Option<NamedKey>) -> Self {
        Self {
            named,
            by_id: Arc::clone(&self.by_id),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_found_by_id_and_never_shown() {
        let key = |n: u8| ContentKey::new([n; 16]);
        let keys: SampleKeys = [([1; 16], key(0x41))].into_iter().collect();
        assert_eq!(keys.single(), Some(&key(0x41)));
        let keys = keys.with([([2; 16], key(0x42))]);
        assert_eq!(keys.single(), None);
        assert_eq!(keys.get(&[2; 16]), Some(&key(0x42)));
        assert_eq!(keys.get(&[3; 16]), None);
        let named = NamedKey {
            key: key(0x43),
            iv: [0; 16],
        };
        let keys = keys.naming(Some(named));
        assert_eq!(keys.get(&[3; 16]), Some(&key(0x43)));
        assert_eq!(keys.by_id(&[3; 16]), None);
        let shown = format!("{keys:?}");
        assert!(
            !shown.contains("65, 65") && shown.contains("***"),
            "{shown}"
        );
    }

    #[test]
    fn copies_share_what_is_known() {
        let key = ContentKey::new([1; 16]);
        let copy = key.clone();
        copy.refute();
        assert!(key.is_refuted());
        key.prove(Kind::Video);
        assert!(copy.is_proved(Kind::Video) && !copy.is_proved(Kind::Audio));
        assert!(!copy.is_refuted());
    }
}
