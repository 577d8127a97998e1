//! The shape of a detector.

use std::fmt;

use super::{Fact, InputEvent, Media, Picture, RuleSpec, Signal, Sink, Stamp, Unit};

/// Why a detector starts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The track's format changed.
    Format,
    /// The input was re-opened; detectors of one track only. Those of the whole stream follow
    /// [`InputEvent::Reopened`] themselves.
    Reconnect,
    /// The host skipped this detector for a while.
    Shed,
}

/// Warm state that survives a move or a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Layout version; unknown versions are ignored on restore.
    pub version: u32,
    /// Opaque bytes.
    pub bytes: Vec<u8>,
}

/// Measures one kind of defect.
///
/// One instance watches one track (or one stream, see [`Scope`]). Given the same units it gives the same
/// readings, whichever other detectors run.
pub trait Detector: Send {
    /// Takes the next unit. Cannot fail: bad input is a finding or unmeasurable.
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>);
    /// Starts over: afterwards equal to a fresh build.
    fn reset(&mut self, cause: Reset);
    /// Warm baselines, for a stream that moves or restarts.
    fn snapshot(&self) -> Option<Snapshot> {
        None
    }
    /// Takes up a snapshot; ignores versions it does not know.
    fn restore(&mut self, _from: &Snapshot) {}
}

/// What one instance of a detector watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The stream as a whole: sees every unit.
    Stream,
    /// One picture track: its pictures, all facts, all ticks.
    VideoTrack,
    /// One sound track: its sound, all facts, all ticks.
    AudioTrack,
}

/// How dear a detector is; the host sheds the dear ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// Never shed.
    Cheap,
    /// Skips pictures when the stream lags.
    Costly,
}

/// Declared needs.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// What an instance watches.
    pub scope: Scope,
    /// Cost class.
    pub cost: Cost,
    /// Sees decoded media at all (a facts-only detector runs without a decoder).
    pub media: bool,
}

/// One numeric option of a detector. Defaults exist here only.
#[derive(Debug)]
pub struct OptionSpec {
    /// Snake case with unit (`flat_below_codes`).
    pub name: &'static str,
    /// Default.
    pub default: f64,
    /// Allowed range, inclusive.
    pub range: (f64, f64),
    /// One sentence.
    pub help: &'static str,
}

/// The list of 64-bit picture hashes that a detector may be given besides its numbers. Empty by default.
#[derive(Debug)]
pub struct ListSpec {
    /// Snake case (`hashes`).
    pub name: &'static str,
    /// Most entries.
    pub most: usize,
    /// One sentence.
    pub help: &'static str,
    /// Why an entry cannot be meant; `None` when it may.
    pub wrong: fn(u64) -> Option<&'static str>,
}

/// Option values of one detector, checked against its [`OptionSpec`]s.
#[derive(Debug, Clone)]
pub struct Options {
    specs: &'static [OptionSpec],
    values: Vec<f64>,
    list: Vec<u64>,
}

impl Options {
    /// All defaults.
    pub fn defaults(specs: &'static [OptionSpec]) -> Self {
        Self {
            specs,
            values: specs.iter().map(|s| s.default).collect(),
            list: Vec::new(),
        }
    }

    /// Sets one option; an unknown name or a value out of range is refused.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), OptionError> {
        let Some(at) = self.specs.iter().position(|s| s.name == name) else {
            return Err(OptionError::Unknown {
                name: name.to_owned(),
            });
        };
        let spec = &self.specs[at];
        if !(spec.range.0..=spec.range.1).contains(&value) {
            return Err(OptionError::OutOfRange {
                name: spec.name,
                value,
                range: spec.range,
            });
        }
        self.values[at] = value;
        Ok(())
    }

    /// Sets the list; the host checks it against the [`ListSpec`].
    pub fn set_list(&mut self, list: Vec<u64>) {
        self.list = list;
    }

    /// The list as given; empty unless the detector declares one and it was given.
    pub fn list(&self) -> &[u64] {
        &self.list
    }

    /// Value of a declared option; 0 for a name that the detector never declared (contract tests catch that).
    pub fn get(&self, name: &str) -> f64 {
        self.specs
            .iter()
            .position(|s| s.name == name)
            .map_or(0.0, |at| self.values[at])
    }
}

/// Why an option was refused.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionError {
    /// No such option.
    Unknown {
        /// As written.
        name: String,
    },
    /// Outside the allowed range.
    OutOfRange {
        /// Option.
        name: &'static str,
        /// As written.
        value: f64,
        /// Inclusive.
        range: (f64, f64),
    },
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionError::Unknown { name } => write!(f, "unknown option `{name}`"),
            OptionError::OutOfRange { name, value, range } => {
                write!(
                    f,
                    "`{name}` is {value}, allowed are {} to {}",
                    range.0, range.1
                )
            }
        }
    }
}

impl std::error::Error for OptionError {}

/// A row of the registry: everything that the host, the docs and the tests need to know.
pub struct Descriptor {
    /// Config key, metric label and doc anchor in one.
    pub name: &'static str,
    /// What a viewer sees, in sentences.
    pub doc: &'static str,
    /// Declared needs.
    pub needs: Needs,
    /// Signals it may emit.
    pub signals: &'static [Signal],
    /// Default rules.
    pub rules: &'static [RuleSpec],
    /// Options.
    pub options: &'static [OptionSpec],
    /// The list that may be given besides.
    pub list: Option<&'static ListSpec>,
    /// Builds a fresh instance.
    pub build: fn(&Options) -> Box<dyn Detector>,
}

/// A detector of pictures alone: only a reopened input concerns it beside them.
pub trait PictureDetector: Send {
    /// Takes the next picture of the track.
    fn picture(&mut self, at: &Stamp, picture: &Picture<'_>, out: &mut Sink<'_>);

    /// Forgets all that it saw.
    fn restart(&mut self);
}

impl<T: PictureDetector> Detector for T {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        match unit.media {
            Media::Video(picture) => self.picture(&unit.at, picture, out),
            Media::Fact(Fact::Input(InputEvent::Reopened)) => self.restart(),
            Media::Fact(_) | Media::Audio(_) | Media::Tick => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        self.restart();
    }
}
