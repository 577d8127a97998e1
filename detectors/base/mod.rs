//! The vocabulary: time, units, pictures, sound, facts, signals, rules, detectors.

pub mod detector;
pub mod fact;
pub mod picture;
pub mod print;
pub mod rule;
pub mod signal;
pub mod sound;
pub mod time;
pub mod ts;
pub mod unit;

pub use detector::{
    Cost, Descriptor, Detector, ListSpec, Needs, OptionError, OptionSpec, Options, PictureDetector,
    Reset, Scope, Snapshot,
};
pub use fact::{
    AudioFormat, BreakEdge, BreakMark, BreakSource, Cause, Evidence, EvidenceKind, Fact, Format,
    InputEvent, ListsBeside, PlaylistFault, PlaylistLoad, SegmentFate, SegmentReport, SkewBasis,
    TrackInfo, VideoFormat,
};
pub use picture::{Carry, Picture, Range, Transfer};
pub use print::{PicturePrint, Print, SOUND_BITS_HZ, SoundPrint};
pub use rule::{Limit, RuleSpec, Severity};
pub use signal::{Basis, Exhibit, Reading, Signal, Sink, Value, Why};
pub use sound::{SampleClock, Sound};
pub use time::{Arrival, MediaTime};
pub use ts::{TsCheck, TsErrors};
pub use unit::{Gap, Kind, Media, Stamp, Track, Unit};
