//! Mutes and maintenance windows: what is known and not to be told, for a time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// Longest time that a mute may last.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest text, bytes.
const TEXT_BYTES: usize = 256;

/// Why a mute cannot be. Whoever asked for it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MuteError {
    /// No matcher.
    #[error("a mute needs at least one matcher: it would hide everything")]
    Everything,
    /// It ends before it begins, or has ended.
    #[error("the mute is over before it begins")]
    Over,
    /// Too long.
    #[error("a mute may last at most 7 days")]
    TooLong,
    /// No author, no reason, or too long a text.
    #[error("a mute needs an author and a reason, of at most 256 bytes each")]
    Words,
}

/// What is not told, for a time, and who wants that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mute {
    /// Unique.
    pub id: String,
    /// All of these must match: label names and values, besides `stream` (the id) and `topic`. A value may end in `*`.
    pub matchers: BTreeMap<String, String>,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// From when on.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Mute {
    /// Checks what a person asked for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, now: Timestamp) -> Result<(), MuteError> {
        let says = |text: &str| !text.trim().is_empty() && text.len() <= TEXT_BYTES;
        let lasts = self.until.duration_since(self.from);
        match () {
            () if self.matchers.is_empty() => Err(MuteError::Everything),
            () if !says(&self.author) || !says(&self.reason) => Err(MuteError::Words),
            () if self.until <= self.from || self.until <= now => Err(MuteError::Over),
            () if lasts.unsigned_abs() > LONGEST => Err(MuteError::TooLong),
            () => Ok(()),
        }
    }

    /// Whether it covers a stream, and a topic of it where one is asked for.
    pub fn covers(
        &self,
        stream: &str,
        labels: &BTreeMap<String, String>,
        topic: Option<&str>,
    ) -> bool {
        fits(&self.matchers, stream, labels, topic)
    }
}

/// Whether all matchers fit: label names and values, besides `stream` (the id) and `topic`. A value may end in `*`.
pub(super) fn fits(
    matchers: &BTreeMap<String, String>,
    stream: &str,
    labels: &BTreeMap<String, String>,
    topic: Option<&str>,
) -> bool {
    matchers.iter().all(|(name, wanted)| {
        let is = match name.as_str() {
            "stream" => Some(stream),
            "topic" => topic,
            name => labels.get(name).map(String::as_str),
        };
        match wanted.strip_suffix('*') {
            Some(start) => is.is_some_and(|is| is.starts_with(start)),
            None => is == Some(wanted),
        }
    })
}

/// All mutes that are not over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mutes {
    all: BTreeMap<String, Mute>,
}

impl Mutes {
    /// Adds one, or replaces the one with its id.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, mute: Mute, now: Timestamp) -> Result<(), MuteError> {
        mute.check(now)?;
        self.all.insert(mute.id.clone(), mute);
        Ok(())
    }

    /// Ends one early; whether there was one.
    pub fn remove(&mut self, id: &str) -> bool {
        self.all.remove(id).is_some()
    }

    /// Drops those that are over.
    pub fn forget(&mut self, now: Timestamp) {
        self.all.retain(|_, mute| mute.until > now);
    }

    /// All, by id.
    pub fn all(&self) -> impl Iterator<Item = &Mute> {
        self.all.values()
    }

    /// The one that covers this now, and ends last.
    pub fn covering(
        &self,
        stream: &str,
        labels: &BTreeMap<String, String>,
        topic: &str,
        now: Timestamp,
    ) -> Option<&Mute> {
        let now_on = |mute: &&Mute| mute.from <= now && now < mute.until;
        let covering = |mute: &&Mute| mute.covers(stream, labels, Some(topic));
        let mutes = self.all.values().filter(now_on).filter(covering);
        mutes.max_by_key(|mute| mute.until)
    }
}
