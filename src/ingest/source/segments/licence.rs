//! Keys that a licence server gives (W3C Encrypted Media Extensions, 9.1: Clear Key).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use detectors::base::Cause;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::{Session, join};
use crate::config::content_keys::hex;
use crate::config::{KeyId, Licence};
use crate::ingest::fetch::{Backoff, FetchError};
use crate::ingest::keys::ContentKey;

/// Keys kept.
const KEYS_MAX: usize = 64;
/// Keys asked for at once.
const ASKED_MAX: usize = 32;

/// The newest licensed keys, and when a server may be asked again.
#[derive(Default)]
pub(super) struct Licences(Mutex<State>);

#[derive(Default)]
struct State {
    keys: Vec<(KeyId, ContentKey)>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

#[derive(Serialize)]
struct Asked {
    kids: Vec<String>,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Deserialize)]
struct Given {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    k: String,
}

impl Session<'_> {
    /// The operator's key for what a playlist calls by a name: the id in the name, or the only key there is.
    pub(super) fn content_key(&self, name: &str) -> Result<Option<ContentKey>, FetchError> {
        let keys = &self.content_keys;
        let found = id_in(name).and_then(|id| keys.by_id(&id));
        let found = found.or(keys.single()).cloned();
        let at_hand = found.is_some()
            || !self.cx.stream.input.content_keys.is_empty()
            || self.cx.stream.input.licence != Licence::None;
        // Samples may still name their key themselves.
        at_hand.then_some(found).ok_or_else(|| {
            let detail = "the playlist names a key of a key system, and no key is configured";
            FetchError::new(Cause::EncryptedNoKey, detail)
        })
    }

    /// Keys by licence, of those that are wanted and that the operator does not give. `told`: where the manifest says
    /// that licences are. What goes wrong is told in the log; the samples tell the rest.
    pub(super) async fn licensed(
        &self,
        wanted: &[KeyId],
        told: Option<&str>,
    ) -> Vec<(KeyId, ContentKey)> {
        let url = match (&self.cx.stream.input.licence, told) {
            (Licence::At(url), _) => Url::parse(url.expose()).ok(),
            (Licence::FromManifest, Some(told)) => join(self.fetcher.home(), told).ok(),
            (Licence::FromManifest, None) | (Licence::None, _) => None,
        };
        let Some(url) = url else { return Vec::new() };
        let mut state = self.licences.0.lock().await;
        let missing: Vec<KeyId> = wanted
            .iter()
            .filter(|id| self.content_keys.by_id(id).is_none() && !state.has(id))
            .copied()
            .take(ASKED_MAX)
            .collect();
        let due = state.not_before.is_none_or(|at| Instant::now() >= at);
        if !missing.is_empty() && due {
            self.ask(&mut state, &url, &missing).await;
        }
        let of_these = |(id, _): &&(KeyId, ContentKey)| wanted.contains(id);
        state.keys.iter().filter(of_these).cloned().collect()
    }

    async fn ask(&self, state: &mut State, url: &Url, missing: &[KeyId]) {
        let stream = &self.cx.stream.id;
        let answer = match self.fetcher.post_json(url, request(missing)).await {
            Ok(answer) => read(&answer),
            Err(error) => Err(error),
        };
        let wait = match answer {
            Ok(keys) => {
                keys.into_iter().for_each(|(id, key)| state.put(id, key));
                if missing.iter().all(|id| state.has(id)) {
                    state.backoff.worked();
                    state.not_before = None;
                    return;
                }
                tracing::warn!(%stream, "the licence lacks a key that was asked for");
                state.backoff.failed(None, fastrand::f64())
            }
            Err(error) => {
                tracing::warn!(%stream, cause = error.cause.as_str(), "no licence: {error}");
                state.backoff.failed(error.retry_after, fastrand::f64())
            }
        };
        state.not_before = Some(Instant::now() + wait);
    }
}

impl State {
    /// A key whose samples did not decode is asked for again.
    fn has(&self, id: &KeyId) -> bool {
        let known = self.keys.iter().find(|(own, _)| own == id);
        known.is_some_and(|(_, key)| !key.is_refuted())
    }

    fn put(&mut self, id: KeyId, key: ContentKey) {
        if self.keys.contains(&(id, key.clone())) {
            return;
        }
        self.keys.retain(|(own, _)| *own != id);
        if self.keys.len() >= KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push((id, key));
    }
}

fn request(ids: &[KeyId]) -> String {
    let asked = Asked {
        kids: ids.iter().map(|id| URL_SAFE_NO_PAD.encode(id)).collect(),
        kind: "temporary",
    };
    serde_json::to_string(&asked).unwrap_or_default()
}

/// Keys of a JWK set; others than symmetric ones of 16 bytes are passed over.
fn read(answer: &[u8]) -> Result<Vec<(KeyId, ContentKey)>, FetchError> {
    let given: Given = serde_json::from_slice(answer).map_err(|_| {
        FetchError::new(
            Cause::EncryptedNoKey,
            "the answer is no licence with Clear Keys",
        )
    })?;
    let key = |jwk: &Jwk| {
        let oct = jwk.kty == "oct";
        let (id, key) = (decode(&jwk.kid)?, decode(&jwk.k)?);
        oct.then(|| (id, ContentKey::new(key)))
    };
    Ok(given.keys.iter().take(KEYS_MAX).filter_map(key).collect())
}

/// 16 bytes in base64url; some servers write the other alphabet, or padding.
fn decode(text: &str) -> Option<[u8; 16]> {
    let bare = text.trim_end_matches('=');
    let decoded = URL_SAFE_NO_PAD
        .decode(bare)
        .or_else(|_| STANDARD_NO_PAD.decode(bare));
    decoded.ok()?.try_into().ok()
}

/// 32 hexadecimal digits somewhere in a name, with or without the dashes of a UUID.
fn id_in(name: &str) -> Option<KeyId> {
    let mut words = name.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    words.find_map(|word| hex(word.trim_matches('-')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_and_licences_are_those_of_the_standard() {
        let id: KeyId = hex("9eb4050de44b4802932e27d75083e266").unwrap();
        let asked = r#"{"kids":["nrQFDeRLSAKTLifXUIPiZg"],"type":"temporary"}"#;
        assert_eq!(request(&[id]), asked);
        let given =
            br#"{"keys":[{"kty":"oct","k":"FmY0xnWCPCNaSpRG-tUuTQ","kid":"nrQFDeRLSAKTLifXUIPiZg"},
            {"kty":"RSA","k":"FmY0xnWCPCNaSpRG-tUuTQ","kid":"nrQFDeRLSAKTLifXUIPiZg"},
            {"kty":"oct","k":"short","kid":"nrQFDeRLSAKTLifXUIPiZg"}],"type":"temporary"}"#;
        let keys = read(given).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].0, id);
        assert_eq!(keys[0].1.bytes()[..4], [0x16, 0x66, 0x34, 0xc6]);
        assert_eq!(decode("FmY0xnWCPCNaSpRG+tUuTQ=="), Some(*keys[0].1.bytes()));
        for bad in [&b""[..], b"<html>", b"[]", b"{\"keys\":{}}"] {
            assert_eq!(read(bad).unwrap_err().cause, Cause::EncryptedNoKey);
        }
    }

    #[test]
    fn ids_are_found_in_names() {
        let id = hex("9eb4050de44b4802932e27d75083e266");
        for name in [
            "skd://9eb4050d-e44b-4802-932e-27d75083e266",
            "skd://drm.example/asset/9EB4050DE44B4802932E27D75083E266?v=1",
        ] {
            assert_eq!(id_in(name), id, "{name}");
        }
        assert_eq!(id_in("skd://asset-1"), None);
    }

    #[test]
    fn newer_keys_take_the_place_of_older_ones() {
        let mut state = State::default();
        let (id, key) = ([1; 16], ContentKey::new([1; 16]));
        state.put(id, key.clone());
        key.refute();
        assert!(!state.has(&id));
        // The same key again is as wrong as before.
        state.put(id, ContentKey::new([1; 16]));
        assert!(!state.has(&id));
        state.put(id, ContentKey::new([2; 16]));
        assert!(state.has(&id));
        for n in 0..200 {
            state.put([n; 16], ContentKey::new([n; 16]));
        }
        assert_eq!(state.keys.len(), KEYS_MAX);
    }
}
