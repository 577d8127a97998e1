//! What low-latency HLS adds to a media playlist (draft-pantos-hls-rfc8216bis, 4.4.3.7, 4.4.3.8, 4.4.4.9, 4.4.5).

use std::time::Duration;

use super::attributes::pairs;
use super::breaks::BreakTag;
use super::follow::path;
use super::media::{byte_range, seconds};
use super::{ByteRange, ENTRIES_MAX, Media, Segment};

/// Part target durations are taken as at least and at most this.
const PART_TARGET: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(30);

/// Most rendition reports read from one playlist.
const REPORTS_MAX: usize = 256;

/// Parts of a playlist without `PART-HOLD-BACK` are read this many part target durations before the end; it may not
/// be less than two.
const PART_HOLD_BACK_TARGETS: u32 = 3;
const PART_HOLD_BACK_TARGETS_MIN: u32 = 2;

/// A part of a segment (`EXT-X-PART`), there before the whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// As written; relative to the playlist.
    pub uri: String,
    /// Part of it.
    pub range: Option<ByteRange>,
    /// `DURATION`.
    pub duration: Duration,
    /// `INDEPENDENT`: decoding may begin here.
    pub independent: bool,
    /// `GAP`: announced as missing, not to be loaded.
    pub gap: bool,
}

/// What the server offers (`EXT-X-SERVER-CONTROL`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerControl {
    /// `CAN-BLOCK-RELOAD`: a reload may ask for what is not there yet, and is answered once it is.
    pub can_block_reload: bool,
    /// `CAN-SKIP-UNTIL`: segments further than this from the end may be left out on request.
    pub can_skip_until: Option<Duration>,
    /// `PART-HOLD-BACK`.
    pub part_hold_back: Option<Duration>,
}

/// Something that will be needed soon (`EXT-X-PRELOAD-HINT`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// As written; relative to the playlist.
    pub uri: String,
    /// `BYTERANGE-START`, 0 where it is not told.
    pub start: u64,
    /// `BYTERANGE-LENGTH`; `None` = up to the end of the resource.
    pub len: Option<u64>,
}

/// How far another rendition is (`EXT-X-RENDITION-REPORT`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionReport {
    /// Its playlist, relative to this one.
    pub uri: String,
    /// Media sequence number of its last segment.
    pub last_sequence: Option<u64>,
    /// Index of the last part of that segment.
    pub last_part: Option<u64>,
}

/// What was left out of a playlist on request (`EXT-X-SKIP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skip {
    /// So many segments at the beginning.
    pub segments: u64,
    /// So many of the listed segments stand before the first `EXT-X-KEY`; `None` = all.
    pub unkeyed: Option<usize>,
}

/// The low-latency side of a media playlist. Empty for any other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LowLatency {
    /// What the server offers.
    pub control: ServerControl,
    /// `PART-TARGET` of `EXT-X-PART-INF`, 50 ms to 30 s; only such a playlist has parts.
    pub part_target: Option<Duration>,
    /// The segment that is being made: parts, and no URI yet.
    pub open: Option<Box<Segment>>,
    /// The part after the last one.
    pub part_hint: Option<Hint>,
    /// The next initialisation section.
    pub map_hint: Option<Hint>,
    /// The other renditions.
    pub reports: Vec<RenditionReport>,
    pub(super) skip: Option<Skip>,
}

impl LowLatency {
    /// Takes a tag of its own.
    pub(super) fn tag(&mut self, tag: &str, value: &str, hold_back: &mut Option<Duration>) {
        match tag {
            "EXT-X-SERVER-CONTROL" => self.server_control(value, hold_back),
            "EXT-X-PART-INF" => {
                self.part_target = named(value, "PART-TARGET")
                    .and_then(seconds)
                    .filter(|target| !target.is_zero())
                    .map(|target| target.clamp(*PART_TARGET.start(), *PART_TARGET.end()));
            }
            "EXT-X-PRELOAD-HINT" => self.hint(value),
            "EXT-X-RENDITION-REPORT" if self.reports.len() < REPORTS_MAX => {
                self.reports.extend(report(value));
            }
            "EXT-X-SKIP" => {
                let segments = named(value, "SKIPPED-SEGMENTS").and_then(|n| n.parse().ok());
                self.skip = segments.map(|segments| Skip {
                    segments,
                    unkeyed: None,
                });
            }
            _ => {}
        }
    }

    fn server_control(&mut self, list: &str, hold_back: &mut Option<Duration>) {
        for (name, value) in pairs(list) {
            let span = seconds(value).filter(|span| !span.is_zero());
            match name {
                "CAN-BLOCK-RELOAD" => self.control.can_block_reload = value == "YES",
                "CAN-SKIP-UNTIL" => self.control.can_skip_until = span,
                "PART-HOLD-BACK" => self.control.part_hold_back = span,
                "HOLD-BACK" => *hold_back = span,
                _ => {}
            }
        }
    }

    fn hint(&mut self, list: &str) {
        let number = |name| named(list, name).and_then(|n| n.parse().ok());
        let Some(uri) = named(list, "URI").filter(|uri| !uri.is_empty()) else {
            return;
        };
        let hint = Hint {
            uri: uri.to_owned(),
            start: number("BYTERANGE-START").unwrap_or(0),
            len: number("BYTERANGE-LENGTH"),
        };
        let of = match named(list, "TYPE") {
            Some("PART") => &mut self.part_hint,
            Some("MAP") => &mut self.map_hint,
            _ => return,
        };
        of.get_or_insert(hint);
    }

    /// How many parts the segment has that is being made.
    pub fn open_parts(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.parts.len())
    }

    /// How far from the end parts are read, when there are any.
    pub fn part_hold_back(&self) -> Option<Duration> {
        let target = self.part_target?;
        let told = self.control.part_hold_back;
        Some(
            told.unwrap_or(target * PART_HOLD_BACK_TARGETS)
                .max(target * PART_HOLD_BACK_TARGETS_MIN),
        )
    }
}

impl Hint {
    /// Whether it can be requested ahead: one that goes on to the end of a growing resource would bring the parts
    /// after it as well.
    pub fn is_bounded(&self) -> bool {
        self.len.is_some() || self.start == 0
    }

    /// The part of the resource to ask for.
    pub fn range(&self) -> Option<ByteRange> {
        self.len.map(|len| ByteRange {
            start: self.start,
            len,
        })
    }
}

impl Media {
    /// Puts back what was left out of a delta update, from the state before it. `None` when that does not reach far
    /// enough, or is of another timeline: then the whole must be loaded.
    pub fn completed(mut self, before: Option<&Media>) -> Option<Media> {
        let Some(skip) = self.low_latency.skip.take() else {
            return Some(self);
        };
        let before = before?;
        let from = usize::try_from(self.sequence.checked_sub(before.sequence)?).ok()?;
        let to = from.checked_add(usize::try_from(skip.segments).ok()?)?;
        let skipped = before.segments.get(from..to)?;
        let both = before.segments.get(to).zip(self.segments.first());
        let agrees = both.is_none_or(|(old, new)| path(&old.uri) == path(&new.uri));
        if !agrees || skipped.len() + self.segments.len() > ENTRIES_MAX {
            return None;
        }
        if let Some(last) = skipped.last() {
            let unkeyed = skip.unkeyed.unwrap_or(usize::MAX);
            let open = self.low_latency.open.as_deref_mut();
            for (index, heir) in self.segments.iter_mut().chain(open).enumerate() {
                if heir.init.is_none() {
                    heir.init.clone_from(&last.init);
                }
                if index < unkeyed {
                    heir.encryption.clone_from(&last.encryption);
                }
            }
        }
        for tag in &mut self.breaks {
            tag.before += skipped.len();
        }
        let passed = before
            .breaks
            .iter()
            .filter(|tag| (from..to).contains(&tag.before));
        let kept = passed.map(|tag| BreakTag {
            before: tag.before - from,
            ..tag.clone()
        });
        self.breaks.splice(..0, kept.collect::<Vec<_>>());
        let listed = std::mem::replace(&mut self.segments, skipped.to_vec());
        self.segments.extend(listed);
        Some(self)
    }
}

/// Reads `EXT-X-PART`; `end`: where the previous part ended, and of what.
pub(super) fn part(list: &str, end: &mut Option<(String, u64)>) -> Option<Part> {
    let mut part = Part::default();
    let mut range = None;
    for (name, value) in pairs(list) {
        match name {
            "URI" => part.uri = value.to_owned(),
            "DURATION" => part.duration = seconds(value).unwrap_or_default(),
            "BYTERANGE" => range = byte_range(value),
            "INDEPENDENT" => part.independent = value == "YES",
            "GAP" => part.gap = value == "YES",
            _ => {}
        }
    }
    if part.uri.is_empty() {
        return None;
    }
    part.range = range.map(|(len, start)| {
        let implied = match end {
            Some((of, end)) if *of == part.uri => *end,
            _ => 0,
        };
        ByteRange {
            start: start.unwrap_or(implied),
            len,
        }
    });
    *end = part
        .range
        .map(|range| (part.uri.clone(), range.start.saturating_add(range.len)));
    Some(part)
}

fn report(list: &str) -> Option<RenditionReport> {
    let number = |name| named(list, name).and_then(|n| n.parse().ok());
    Some(RenditionReport {
        uri: named(list, "URI").filter(|uri| !uri.is_empty())?.to_owned(),
        last_sequence: number("LAST-MSN"),
        last_part: number("LAST-PART"),
    })
}

fn named<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    super::attributes::get(list, name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::super::{Encryption, Playlist, PlaylistError, parse};
    use super::*;

    fn media(text: &str) -> Media {
        match parse(text.as_bytes()).unwrap() {
            Playlist::Media(media) => media,
            Playlist::Master(_) => panic!("a master"),
        }
    }

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn parts_belong_to_the_segment_after_them_and_the_last_ones_to_none_yet() {
        let media = media(
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.02,CAN-SKIP-UNTIL=24,HOLD-BACK=13\n\
             #EXT-X-PART-INF:PART-TARGET=0.34\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:4,\na.mp4\n\
             #EXT-X-PART:DURATION=2,URI=\"b.1\",INDEPENDENT=YES\n\
             #EXT-X-PART:DURATION=2,URI=\"b.2\",GAP=YES\n#EXTINF:4,\nb.mp4\n\
             #EXT-X-DISCONTINUITY\n\
             #EXT-X-PART:DURATION=0.33,URI=\"c.mp4\",BYTERANGE=\"100@0\",INDEPENDENT=YES\n\
             #EXT-X-PART:DURATION=0.33,URI=\"c.mp4\",BYTERANGE=\"50\"\n\
             #EXT-X-PART:DURATION=0.33,URI=\"d.mp4\",BYTERANGE=\"50\"\n#EXT-X-PART:DURATION=1\n\
             #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"c.mp4\",BYTERANGE-START=150\n\
             #EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"j\",BYTERANGE-START=5,BYTERANGE-LENGTH=6\n\
             #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"later\"\n\
             #EXT-X-RENDITION-REPORT:URI=\"../x.m3u8\",LAST-MSN=9,LAST-PART=1\n#EXT-X-RENDITION-REPORT:LAST-MSN=1\n",
        );
        assert_eq!(media.segments.len(), 2);
        assert_eq!(media.hold_back, Some(Duration::from_secs(13)));
        assert!(media.segments[0].parts.is_empty());
        let [one, two] = &media.segments[1].parts[..] else {
            panic!()
        };
        assert!(one.independent && !one.gap && two.gap && !two.independent);
        let low = &media.low_latency;
        assert!(low.control.can_block_reload);
        assert_eq!(low.control.can_skip_until, Some(Duration::from_secs(24)));
        assert_eq!(low.part_target, Some(MS(340)));
        assert_eq!(low.part_hold_back(), Some(MS(1_020)));
        let open = low.open.as_ref().unwrap();
        assert!(open.discontinuity && open.init.is_some() && open.uri.is_empty());
        let ranges: Vec<_> = open
            .parts
            .iter()
            .map(|p| p.range.map(|r| (r.start, r.len)))
            .collect();
        assert_eq!(ranges, [Some((0, 100)), Some((100, 50)), Some((0, 50))]);
        let hint = low.part_hint.as_ref().unwrap();
        assert_eq!(
            (hint.uri.as_str(), hint.start, hint.len),
            ("c.mp4", 150, None)
        );
        assert!(!hint.is_bounded());
        assert_eq!(low.map_hint.as_ref().unwrap().len, Some(6));
        assert_eq!(
            low.reports,
            [RenditionReport {
                uri: "../x.m3u8".to_owned(),
                last_sequence: Some(9),
                last_part: Some(1)
            }]
        );
    }

    #[test]
    fn nonsense_is_survived_and_counts_are_bounded() {
        let odd = media(
            "#EXTM3U\n#EXT-X-PART-INF:PART-TARGET=-1\n#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=x,PART-HOLD-BACK=1e99\n\
             #EXT-X-SKIP:SKIPPED-SEGMENTS=-3\n#EXT-X-PRELOAD-HINT:TYPE=PART\n#EXT-X-PART:\n#EXTINF:1,\na",
        );
        assert_eq!(*odd.low_latency, LowLatency::default());
        let reports = "#EXT-X-RENDITION-REPORT:URI=\"a\"\n".repeat(REPORTS_MAX + 9);
        let many = media(&format!("#EXTM3U\n{reports}"));
        assert_eq!(many.low_latency.reports.len(), REPORTS_MAX);
        let parts = "#EXT-X-PART:URI=\"a\"\n".repeat(ENTRIES_MAX + 1);
        assert_eq!(
            parse(format!("#EXTM3U\n{parts}").as_bytes()),
            Err(PlaylistError::TooLong)
        );
    }

    fn window(first: u64, rest: &str) -> String {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{first}\n{rest}")
    }

    #[test]
    fn a_delta_update_is_the_same_as_the_whole() {
        let head = "#EXT-X-MAP:URI=\"i\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n";
        let inf = |names: &[&str]| -> String {
            names.iter().map(|n| format!("#EXTINF:4,\n{n}\n")).collect()
        };
        let tail = "#EXT-X-KEY:METHOD=NONE\n#EXTINF:4,\ne\n#EXT-X-PART:URI=\"f.1\"\n";
        let before = media(&window(5, &format!("{head}{}", inf(&["a", "b", "c"]))));
        let whole = media(&window(
            6,
            &format!("{head}{}{tail}", inf(&["b", "c", "d"])),
        ));
        let delta = |skipped: u64| {
            let listed = inf(&["c", "d"]);
            let skip = format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n");
            media(&window(6, &format!("{skip}{listed}{tail}")))
        };
        assert_eq!(delta(1).completed(Some(&before)), Some(whole.clone()));
        let d = whole.segment(8).unwrap();
        assert!(matches!(d.encryption, Encryption::Aes128 { .. }) && d.init.is_some());
        // Not what was loaded before, further than that, and nothing at all.
        let other = media(&window(5, &inf(&["a", "b", "x"])));
        assert_eq!(delta(1).completed(Some(&other)), None);
        assert_eq!(delta(3).completed(Some(&before)), None);
        let later = media(&window(7, &inf(&["c"])));
        assert_eq!(delta(1).completed(Some(&later)), None);
        assert_eq!(delta(1).completed(None), None);
        assert_eq!(delta(u64::MAX).completed(Some(&before)), None);
        assert_eq!(whole.clone().completed(None), Some(whole));
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_and_completes_or_fails_cleanly(lines in proptest::collection::vec(
            "(#EXTINF:|#EXT-X-PART:|#EXT-X-SKIP:SKIPPED-SEGMENTS=|#EXT-X-PRELOAD-HINT:|#EXT-X-PART-INF:PART-TARGET=|a|)[ -~]{0,30}",
            0..40,
        )) {
            let text = format!("#EXTM3U\n{}", lines.join("\n"));
            if let Ok(Playlist::Media(media)) = parse(text.as_bytes()) {
                let _ = media.clone().completed(Some(&media));
            }
        }
    }
}
