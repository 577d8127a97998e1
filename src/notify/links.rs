//! Links to evidence that need no token, and end by themselves.
//!
//! A link opens one set: its page and its files, for reading. It holds the time at which it ends and an HMAC-SHA256 over
//! both; nothing is kept of it. The key is made at the first start and lies in the data folder; without the file another
//! one is made, and links of before are void.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use url::Url;

use super::notice::Message;

/// Name of the key's file in the data folder.
const FILE: &str = "link-key";
/// Bytes of the key: a block of the hash.
const KEY_BYTES: usize = 64;
/// What evidence is called in messages.
const ROOT: &str = "evidence/";

/// Signs and checks links. Holds a secret, so it cannot be printed.
pub struct Links {
    base: Url,
    life: Duration,
    key: [u8; KEY_BYTES],
}

/// Why a link opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It was right.
    #[error("this link has expired")]
    Expired,
    /// It never was one of ours, or not for this.
    #[error("this link is not valid")]
    Wrong,
}

impl Links {
    /// Takes the key of a data folder, or makes one. Where none can be kept, links end with the process. `None` when the
    /// system gives no random numbers.
    pub fn open(base: Url, life: Duration, folder: &Path) -> Option<Self> {
        let path = folder.join(FILE);
        let kept = match read(&path) {
            Ok(Some(key)) => return Some(Self { base, life, key }),
            Ok(None) => None,
            // The key is there: it is not written over, and opens its links again when it can be read.
            Err(error) => Some(error),
        };
        let key = random()?;
        if let Some(error) = kept.or_else(|| write(&path, &key).err()) {
            tracing::warn!(path = %path.display(), %error, "the key of links cannot be kept: they end with this process");
        }
        Some(Self { base, life, key })
    }

    /// A copy of a message with a link for each set of evidence.
    pub fn added_to(&self, message: &Message, now: Timestamp) -> Message {
        let mut linked = message.clone();
        for defect in &mut linked.defects {
            let sets = defect.evidence.iter();
            let sets = sets.filter_map(|set| set.strip_prefix(ROOT));
            defect.links = sets.filter_map(|set| self.link(set, now)).collect();
        }
        linked
    }

    /// A link to a set that works from now on.
    fn link(&self, set: &str, now: Timestamp) -> Option<String> {
        let expires = now.checked_add(self.life).ok()?.as_second();
        let mut url = self.base.clone();
        let mut path = url.path_segments_mut().ok()?;
        path.pop_if_empty().extend(["api", "v1", "evidence"]);
        path.extend(set.split('/'));
        drop(path);
        url.set_query(Some(&self.query(set, expires)));
        Some(url.into())
    }

    /// What stands behind the `?` of a link.
    pub fn query(&self, set: &str, expires: i64) -> String {
        let signature = self.mac(set, expires).finalize().into_bytes();
        format!(
            "expires={expires}&sig={}",
            URL_SAFE_NO_PAD.encode(signature)
        )
    }

    /// Checks what came behind the `?` of a link to a set, or to a file in it. The signature is compared in
    /// constant time.
    ///
    /// # Errors
    /// It does not open this set, or not any more.
    pub fn check(&self, set: &str, query: &str, now: Timestamp) -> Result<i64, LinkError> {
        let (mut expires, mut signature) = (None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "expires" => expires = value.parse::<i64>().ok(),
                "sig" => signature = URL_SAFE_NO_PAD.decode(&*value).ok(),
                _ => {}
            }
        }
        let (Some(expires), Some(signature)) = (expires, signature) else {
            return Err(LinkError::Wrong);
        };
        let right = self.mac(set, expires).verify_slice(&signature);
        right.map_err(|_| LinkError::Wrong)?;
        match now.as_second() < expires {
            true => Ok(expires),
            false => Err(LinkError::Expired),
        }
    }

    fn mac(&self, set: &str, expires: i64) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.key.into());
        // The first line keeps the key from signing anything else.
        for part in ["glasswatch evidence 1\n", &expires.to_string(), "\n", set] {
            mac.update(part.as_bytes());
        }
        mac
    }
}

fn random() -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    let source = rustls::crypto::ring::default_provider().secure_random;
    if source.fill(&mut key).is_err() {
        tracing::error!("the system gives no random numbers: there are no links to evidence");
        return None;
    }
    Some(key)
}

/// The key of before; `None` when there is none, or none that is whole.
fn read(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_ascii()).ok();
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
}

fn write(path: &Path, key: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    // What an interrupted start left.
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(URL_SAFE_NO_PAD.encode(key).as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn links(folder: &Path) -> Links {
        let base = "https://watch.example:9464".parse().unwrap();
        Links::open(base, Duration::from_secs(3600), folder).unwrap()
    }

    #[test]
    fn a_link_opens_its_set_for_its_time_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let links = links(dir.path());
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let link = links.link("news/a b", now).unwrap();
        let start = "https://watch.example:9464/api/v1/evidence/news/a%20b?expires=1772370000&sig=";
        assert!(link.starts_with(start), "{link}");
        let query = link.split_once('?').unwrap().1;
        let at = |secs: i64| Timestamp::from_second(now.as_second() + secs).unwrap();
        assert_eq!(links.check("news/a b", query, at(3599)), Ok(1_772_370_000));
        let expired = links.check("news/a b", query, at(3600));
        assert_eq!(expired, Err(LinkError::Expired));
        let later = query.replace("1772370000", "1772370001");
        let short = &query[..query.len() - 1];
        for (set, query) in [
            ("news/a", query),
            ("news", query),
            ("", query),
            ("news/a b/", query),
            ("news/a b", &later),
            ("news/a b", short),
            ("news/a b", "expires=1772370000"),
            ("news/a b", "expires=1772370000&sig="),
            ("news/a b", "sig=x&expires=y"),
            ("news/a b", ""),
        ] {
            let checked = links.check(set, query, now);
            assert_eq!(checked, Err(LinkError::Wrong), "{set} {query}");
        }
    }

    #[test]
    fn the_key_stays_and_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        let query = links(&folder).query("a/b", 2_000_000_000);
        let now = Timestamp::from_second(1_900_000_000).unwrap();
        assert!(
            links(&folder).check("a/b", &query, now).is_ok(),
            "after a restart"
        );
        let path = folder.join(FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "broken").unwrap();
        let anew = links(&folder).check("a/b", &query, now);
        assert_eq!(anew, Err(LinkError::Wrong), "another key");
        let other = tempfile::tempdir().unwrap();
        assert!(links(other.path()).check("a/b", &query, now).is_err());
        // Nowhere to keep it.
        let way = dir.path().join("file");
        fs::write(&way, "").unwrap();
        let links = links(&way);
        assert!(
            links
                .check("a/b", &links.query("a/b", 2_000_000_000), now)
                .is_ok()
        );
    }
}
