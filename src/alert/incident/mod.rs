//! From defects to incidents: what a human is told about. Pure; time is passed in, so that one instance runs it for its
//! own streams and a router could run it for a fleet.
//!
//! Defects of one stream and one [`Topic`] are one incident. An incident is told once: it stays open while its defects
//! come and go, and ends when none of them has been open for a while. It may stay [`Quiet`]: recorded and shown, with
//! the reason, and told as soon as the reason is gone and it is still bad. Streams that fail together under one label
//! value make a parent, which is told instead of them.

mod flap;
mod group;
mod machine;
pub mod mute;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use detectors::base::Severity;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Defect;
use super::judge::BLIND;

pub use crate::config::Incidents as Policy;
pub use machine::Machine;
pub use mute::{Mute, MuteError, Mutes};

/// Stream id of the canary; no configured stream can have it.
pub const CANARY: &str = "_canary";

/// In place of a detector's name: defects of the monitor itself.
pub const MONITOR: &str = "monitor";

/// What kind of trouble it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Nothing arrives, or nothing of it can be decoded.
    Input,
    /// The programme itself is gone: it stands still, is black, a slate, a test pattern, silent, or a track is missing.
    Programme,
    /// The monitor cannot see.
    Blind,
    /// What this detector finds.
    Detector(&'static str),
    /// Many streams fail together.
    Together,
    /// The monitor itself.
    Monitor,
}

impl Topic {
    fn of(defect: &Defect) -> Self {
        match (defect.detector, defect.rule) {
            (MONITOR, _) => Topic::Monitor,
            (_, BLIND) => Topic::Blind,
            ("loss", "no_input") => Topic::Input,
            ("loss" | "freeze" | "black" | "bars" | "slate" | "silence", _) => Topic::Programme,
            ("blank", rule) if rule != "part_blank" => Topic::Programme,
            (detector, _) => Topic::Detector(detector),
        }
    }

    /// Machine-readable word: `input`, `programme`, `blind`, `together`, `monitor` or the detector's name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Topic::Input => "input",
            Topic::Programme => "programme",
            Topic::Blind => "blind",
            Topic::Detector(name) => name,
            Topic::Together => "together",
            Topic::Monitor => MONITOR,
        }
    }

    /// From [`Topic::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        let fixed = [
            Topic::Input,
            Topic::Programme,
            Topic::Blind,
            Topic::Together,
            Topic::Monitor,
        ];
        let known = fixed.into_iter().find(|topic| topic.as_str() == word);
        known.or_else(|| detectors::registry::find(word).map(|d| Topic::Detector(d.name)))
    }
}

/// Whom it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// One stream, by its id.
    Stream(Arc<str>),
    /// The streams with this value of a label.
    Label {
        /// Label name.
        name: String,
        /// Its value.
        value: String,
    },
    /// The instance of this name: all its streams, so that the fault may be on the monitor's side, or the monitor itself.
    Instance(Arc<str>),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::Stream(id) => f.write_str(id),
            About::Label { name, value } => write!(f, "{name}={value}"),
            About::Instance(name) => f.write_str(name),
        }
    }
}

/// Identity over occurrences.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whom it is about.
    pub about: About,
    /// What kind of trouble.
    pub topic: Topic,
}

impl Key {
    /// Short and stable: 128 bits of a hash, in hexadecimal.
    pub fn hash(&self) -> String {
        let about = match &self.about {
            About::Stream(id) => format!("stream\0{id}"),
            About::Label { name, value } => format!("label\0{name}\0{value}"),
            About::Instance(name) => format!("instance\0{name}"),
        };
        let digest = Sha256::digest(format!("{about}\0{}", self.topic.as_str()).as_bytes());
        digest.iter().take(16).map(|b| format!("{b:02x}")).collect()
    }
}

/// Why an incident is recorded and not told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quiet {
    /// The parent with this id is told instead.
    Child(String),
    /// The stream's input is lost: nothing else can be said of it.
    InputLost,
    /// A mute with this id covers it.
    Muted(String),
    /// A break, a slate or the schedule makes it expected.
    Expected,
    /// Held for a moment: it may be one of many.
    Held,
    /// It was told a moment ago, and came again.
    ToldLately,
}

impl Quiet {
    /// Machine-readable word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Quiet::Child(_) => "child",
            Quiet::InputLost => "input_lost",
            Quiet::Muted(_) => "muted",
            Quiet::Expected => "expected",
            Quiet::Held => "held",
            Quiet::ToldLately => "told_lately",
        }
    }

    /// From [`Quiet::as_str`], and the id of the parent or mute.
    pub fn parse(word: &str, by: String) -> Option<Self> {
        let all = [
            Quiet::Child(by.clone()),
            Quiet::InputLost,
            Quiet::Muted(by),
            Quiet::Expected,
            Quiet::Held,
            Quiet::ToldLately,
        ];
        all.into_iter().find(|quiet| quiet.as_str() == word)
    }
}

/// Who has taken it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Name.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// An incident as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Identity over occurrences.
    pub key: Key,
    /// Which occurrence: larger than that of any earlier one, also over restarts (Unix milliseconds of its opening).
    pub incarnation: u64,
    /// Counts what was said of it, from 1.
    pub sequence: u64,
    /// Worst severity so far.
    pub severity: Severity,
    /// Labels of the stream; of a parent those that all its streams share.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Its defects, oldest first, open and over; at most [`DEFECTS`].
    pub defects: Vec<Defect>,
    /// Of a parent: the streams that failed.
    pub streams: BTreeSet<Arc<str>>,
    /// Of a parent: how many streams there are with the label value.
    pub of_streams: usize,
    /// Of a parent: whether all streams of the instance are bad, so that the monitor itself is to be looked at first.
    pub whole_instance: bool,
    /// Why it is not told, if it is not.
    pub quiet: Option<Quiet>,
    /// Whether a break lasts longer than announced.
    pub overran: bool,
    /// Whether it comes and goes all the time.
    pub flapping: bool,
    /// Whether it pages because it came so often.
    pub escalated: bool,
    /// How often it turned bad since it was opened.
    pub times: u32,
    /// Whether it was loaded after a restart and nothing is known since.
    pub unknown: bool,
    /// Whether somebody was told.
    pub told: bool,
    /// Who has taken it on.
    pub acknowledged: Option<Acknowledged>,
    /// When it began to be bad.
    pub opened: Timestamp,
    /// When it ended.
    pub resolved: Option<Timestamp>,
}

/// Defects that an incident keeps; of more, those that are over go first.
pub const DEFECTS: usize = 32;

impl Incident {
    /// Unique for each occurrence: receivers deduplicate by it.
    pub fn id(&self) -> String {
        format!("{}-{:x}", self.key.hash(), self.incarnation)
    }

    /// Defects that are open.
    pub fn open(&self) -> impl Iterator<Item = &Defect> {
        self.defects.iter().filter(|d| d.end.is_none())
    }
}

/// What happened to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is told for the first time.
    Raised,
    /// It got worse, or more is known.
    Updated,
    /// Somebody took it on.
    Acknowledged,
    /// It ended.
    Resolved,
    /// Something that is only recorded.
    Recorded,
}

impl News {
    /// Machine-readable word.
    pub fn as_str(self) -> &'static str {
        match self {
            News::Raised => "raised",
            News::Updated => "updated",
            News::Acknowledged => "acknowledged",
            News::Resolved => "resolved",
            News::Recorded => "recorded",
        }
    }

    /// From [`News::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        let all = [
            News::Raised,
            News::Updated,
            News::Acknowledged,
            News::Resolved,
            News::Recorded,
        ];
        all.into_iter().find(|news| news.as_str() == word)
    }
}

/// A change of an incident, to be stored and, unless it is only [`News::Recorded`] or was never told, sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// What happened.
    pub news: News,
    /// When it was decided.
    pub at: Timestamp,
    /// The incident as it stands now.
    pub incident: Arc<Incident>,
}

impl Notice {
    /// Whether receivers are told.
    pub fn is_told(&self) -> bool {
        self.incident.told && self.news != News::Recorded
    }
}
