//! Where a defect came in: in pictures as far as the renditions of one stream tell by being compared, between sound and
//! picture as far as the ways of measuring differ ([`super::av_offset`]). Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use detectors::base::{Cause, MediaTime, Reading, Track, Value};

/// The detector that compares renditions, and its signal of one track.
const COMPARES: (&str, &str) = ("rung_difference", "differing_ratio");
/// Detectors of what stands in the pictures, which renditions therefore share or not.
const PICTURES: [&str; 7] = [
    "block_damage",
    "freeze",
    "black",
    "blank",
    "bars",
    "slate",
    COMPARES.0,
];
/// From this share of the picture on a rendition differs.
const DIFFERS: f64 = 0.005;
/// Renditions must have been compared for so long from the begin of a defect on before they are said to be alike.
const SETTLED: Duration = Duration::from_millis(400);
/// A difference may begin so much before the defect, or end so much before it is told: detectors date begins apart.
const AROUND: Duration = Duration::from_millis(500);
/// Differences remembered of each track.
const KEPT: usize = 16;

/// A part of the way of a programme, at which a defect came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All renditions show it alike: before their encoders.
    Upstream,
    /// One rendition alone shows it, and nothing tells of lost or broken data: its encoder.
    Encoder,
    /// Coded data were lost or broken: behind the encoder, at the packager or on the way.
    Delivery,
    /// Sound and picture moved apart by their timestamps: what makes these, or what changes them behind it.
    Packager,
    /// Sound and picture moved apart and their timestamps did not: before these were made.
    BeforePackager,
}

impl Place {
    /// Word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Upstream => "upstream",
            Place::Encoder => "encoder",
            Place::Delivery => "delivery",
            Place::Packager => "packager",
            Place::BeforePackager => "before_packager",
        }
    }

    /// From the word in events.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [
            Place::Upstream,
            Place::Encoder,
            Place::Delivery,
            Place::Packager,
            Place::BeforePackager,
        ];
        all.into_iter().find(|place| place.as_str() == word)
    }

    /// Whether it is of a defect between sound and picture.
    pub fn is_between(self) -> bool {
        matches!(self, Place::Packager | Place::BeforePackager)
    }

    /// For the engineer on call: where to look, of a defect of this rendition.
    pub fn phrase(self, member: &str) -> String {
        match self {
            Place::Upstream => "in all renditions: upstream of the encoders".to_owned(),
            Place::Encoder => format!("only in {member}: its encoder"),
            Place::Delivery => format!("coded data of {member} lost or broken: behind its encoder"),
            Place::Packager => "timestamps are made: the packager moved them".to_owned(),
            Place::BeforePackager => "timestamps were not made yet: before the packager".to_owned(),
        }
    }
}

/// A defect, as far as its place depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Detector.
    pub detector: &'static str,
    /// Track: one of several renditions.
    pub track: Track,
    /// What is wrong.
    pub cause: Cause,
    /// Where it began.
    pub start: Option<MediaTime>,
    /// Every other rendition has a defect of the same detector open.
    pub everywhere: bool,
}

/// What the comparison of renditions has said so far.
#[derive(Debug, Default)]
pub struct Places {
    tracks: BTreeMap<Track, Compared>,
}

/// One rendition against the others.
#[derive(Debug, Default)]
struct Compared {
    /// Since when it can be said that it is as the others, and up to where it was.
    alike: Option<(MediaTime, MediaTime)>,
    /// Where it differed: begin and the newest end.
    differing: VecDeque<(MediaTime, MediaTime)>,
}

impl Places {
    /// Takes a reading; gives back whether it may tell a place.
    pub fn hear(
        &mut self,
        detector: &str,
        signal: &str,
        track: Option<Track>,
        reading: &Reading,
    ) -> bool {
        let Some(track) = track.filter(|_| (detector, signal) == COMPARES) else {
            return false;
        };
        let compared = self.tracks.entry(track).or_default();
        match (reading.value, reading.since, reading.until) {
            (Value::Measured(ratio), Some(since), _) if ratio >= DIFFERS => {
                compared.alike = None;
                match compared.differing.back_mut().filter(|d| d.0 == since) {
                    Some(last) => last.1 = last.1.max(since),
                    None => compared.differing.push_back((since, since)),
                }
                if compared.differing.len() > KEPT {
                    compared.differing.pop_front();
                }
            }
            (Value::Measured(_), _, Some(until)) => {
                // Up to here, if it differed until now, it did.
                if let (None, Some(last)) = (compared.alike, compared.differing.back_mut()) {
                    last.1 = last.1.max(until);
                }
                let from = compared.alike.map_or(until, |(from, _)| from.min(until));
                compared.alike = Some((from, until));
            }
            (Value::Measured(_), ..) => {}
            (Value::Unmeasurable(_), ..) => compared.alike = None,
        }
        true
    }

    /// The place of a defect, once it is known.
    pub fn of(&self, asked: Asked) -> Option<Place> {
        if !PICTURES.contains(&asked.detector) {
            return None;
        }
        if matches!(asked.cause, Cause::TransportLoss | Cause::BitstreamDamage) {
            return Some(Place::Delivery);
        }
        if asked.detector == COMPARES.0 {
            return (asked.cause == Cause::RungDiffers).then_some(Place::Encoder);
        }
        let alike = match (self.tracks.get(&asked.track), asked.start) {
            (Some(compared), Some(start)) => {
                let reaches = |end: MediaTime| end.plus(AROUND) >= start;
                if compared.differing.iter().any(|(_, end)| reaches(*end)) {
                    return Some(Place::Encoder);
                }
                compared.alike.is_some_and(|(from, until)| {
                    from <= start.plus(AROUND) && until >= start.plus(SETTLED)
                })
            }
            _ => false,
        };
        (alike || asked.everywhere).then_some(Place::Upstream)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use detectors::base::Why;

    use super::*;

    const ME: Track = Track::video(1);

    fn at(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }

    fn hear(places: &mut Places, reading: Reading) {
        assert!(places.hear("rung_difference", "differing_ratio", Some(ME), &reading));
    }

    fn asked(detector: &'static str, start_ms: i64) -> Asked {
        Asked {
            detector,
            track: ME,
            cause: Cause::PictureDamage,
            start: Some(at(start_ms)),
            everywhere: false,
        }
    }

    /// Compared and alike, four times a second.
    fn alike(places: &mut Places, from_ms: i64, to_ms: i64) {
        for ms in (from_ms..=to_ms).step_by(250) {
            hear(places, Reading::measured(0.0).until(Some(at(ms))));
        }
    }

    #[test]
    fn what_all_renditions_show_alike_came_in_upstream_of_the_encoders() {
        let mut places = Places::default();
        alike(&mut places, 0, 10_000);
        // Not yet compared for long enough.
        assert_eq!(places.of(asked("freeze", 9_900)), None);
        assert_eq!(places.of(asked("freeze", 9_000)), Some(Place::Upstream));
        assert_eq!(places.of(asked("silence", 9_000)), None);
        // Of what was not compared nothing is known, unless all have it.
        hear(&mut places, Reading::unmeasurable(Why::WarmingUp));
        assert_eq!(places.of(asked("freeze", 9_000)), None);
        let all = Asked {
            everywhere: true,
            ..asked("freeze", 9_000)
        };
        assert_eq!(places.of(all), Some(Place::Upstream));
    }

    #[test]
    fn what_one_rendition_shows_alone_is_its_encoders_unless_data_were_lost() {
        let mut places = Places::default();
        alike(&mut places, 0, 5_000);
        for _ in 0..9 {
            hear(&mut places, Reading::measured(0.2).since(Some(at(5_100))));
        }
        assert_eq!(
            places.of(asked("block_damage", 5_040)),
            Some(Place::Encoder)
        );
        let lost = Asked {
            cause: Cause::TransportLoss,
            ..asked("block_damage", 5_040)
        };
        assert_eq!(places.of(lost), Some(Place::Delivery));
        // Alike again: what begins later did not come in there.
        alike(&mut places, 6_000, 9_000);
        assert_eq!(
            places.of(asked("block_damage", 5_040)),
            Some(Place::Encoder)
        );
        assert_eq!(
            places.of(asked("block_damage", 8_000)),
            Some(Place::Upstream)
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut places = Places::default();
        for ms in 0..1_000 {
            hear(&mut places, Reading::measured(1.0).since(Some(at(ms))));
        }
        assert!(places.tracks[&ME].differing.len() <= KEPT);
        assert!(!places.hear("freeze", "still_secs", Some(ME), &Reading::measured(1.0)));
    }
}
