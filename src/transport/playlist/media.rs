//! Media playlists: segments with all that is needed to read them.

use std::sync::Arc;
use std::time::Duration;

use super::attributes::{get, pairs};
use super::breaks::{self, BreakTag};
use super::low_latency::{self, LowLatency, Part};
use super::{ENTRIES_MAX, PlaylistError};
use crate::transport::scte35::SpliceMark;

/// Target durations are taken as at least and at most this.
const TARGET: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(120);

/// Part of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

/// Initialisation section of segments (`EXT-X-MAP`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// As written.
    pub uri: String,
    /// Part of it.
    pub range: Option<ByteRange>,
    /// It is encrypted likewise; needs an explicit IV.
    pub encryption: Encryption,
}

/// Encryption of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Encryption {
    /// In the clear.
    #[default]
    None,
    /// Whole segment, AES-128-CBC with PKCS#7 padding (RFC 8216, 5.2).
    Aes128 {
        /// Where the 16-byte key is.
        uri: Arc<str>,
        /// Initialisation vector; `None` = the media sequence number.
        iv: Option<[u8; 16]>,
    },
    /// Samples, each by itself (`SAMPLE-AES`, `SAMPLE-AES-CTR`).
    Samples {
        /// Where the key is; its bytes when `identity`, else a name that only a key system understands.
        uri: Arc<str>,
        /// The key format is `identity`: the URI leads to the 16-byte key.
        identity: bool,
        /// Initialisation vector; `None` = the media sequence number.
        iv: Option<[u8; 16]>,
    },
    /// Perhaps samples: what is loaded tells (content protection of DASH).
    Told {
        /// Where a manifest says that ClearKey licences are given.
        licence: Option<Arc<str>>,
    },
    /// Whole segments, by a key system: no key can be had.
    NoKey,
    /// Another method.
    Unsupported,
}

/// A media segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Segment {
    /// As written; relative to the playlist.
    pub uri: String,
    /// Part of it.
    pub range: Option<ByteRange>,
    /// `EXTINF`.
    pub duration: Duration,
    /// `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// `EXT-X-GAP`: announced as missing, not to be loaded.
    pub gap: bool,
    /// Initialisation section in force.
    pub init: Option<Arc<Init>>,
    /// Encryption in force.
    pub encryption: Encryption,
    /// `EXT-X-PROGRAM-DATE-TIME`, Unix milliseconds.
    pub program_date_time_unix_ms: Option<i64>,
    /// Where a manifest puts it; `None` in HLS.
    pub manifested: Option<Manifested>,
    /// Its parts, as far as they are listed.
    pub parts: Vec<Part>,
}

/// Where a DASH manifest puts a segment, in nanoseconds of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifested {
    /// Where it begins.
    pub begins: i64,
    /// Where its timestamps count from: the beginning of the period, less `presentationTimeOffset`.
    pub zero: i64,
    /// Where its period begins.
    pub period: i64,
    /// It is the first one of its period.
    pub first: bool,
    /// The manifest tells a nominal duration only, and segments may begin up to half of it off.
    pub nominal: bool,
}

/// A break marker of the list (DASH events), on its way to the segment in which it takes effect.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakEvent {
    /// The same for the same mark in every copy of the list.
    pub key: (i64, u64, usize),
    /// What is marked.
    pub mark: SpliceMark,
    /// Which segment it lies in: its place in the list.
    pub segment: usize,
    /// From the beginning of that segment, nanoseconds; negative for what began before the list does.
    pub offset_nanos: i64,
}

/// A media playlist.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Media {
    /// Target duration, 1..=120 s.
    pub target: Duration,
    /// Media sequence number of the first segment.
    pub sequence: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity_sequence: u64,
    /// Segments.
    pub segments: Vec<Segment>,
    /// `EXT-X-ENDLIST`: nothing will be added.
    pub ended: bool,
    /// How far from the end live playback begins, when the origin says so (`suggestedPresentationDelay` of DASH,
    /// `HOLD-BACK` of HLS).
    pub hold_back: Option<Duration>,
    /// Parts, hints, and what the server offers.
    pub low_latency: Box<LowLatency>,
    /// Break tags of HLS, in the order written.
    pub breaks: Vec<BreakTag>,
    /// Break events of DASH, in the order of their time.
    pub events: Vec<BreakEvent>,
}

impl Media {
    /// Sequence number after the last segment.
    pub fn end(&self) -> u64 {
        self.sequence.saturating_add(self.segments.len() as u64)
    }

    /// The segment with this sequence number.
    pub fn segment(&self, sequence: u64) -> Option<&Segment> {
        let index = sequence.checked_sub(self.sequence)?;
        self.segments.get(usize::try_from(index).ok()?)
    }
}

/// State of the parser between segments.
#[derive(Default)]
struct State {
    next: Segment,
    range: Option<(u64, Option<u64>)>,
    init: Option<Arc<Init>>,
    /// Encryption by key format; the last line of a format holds.
    keys: Vec<(String, Encryption)>,
    /// End of the previous byte range and what it was cut from.
    range_end: Option<(String, u64)>,
    /// The same of parts.
    part_end: Option<(String, u64)>,
    parts: usize,
}

const KEY_FORMATS_MAX: usize = 16;

pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Media, PlaylistError> {
    let mut media = Media::default();
    let mut target = None;
    let mut state = State::default();
    for line in lines {
        let (tag, value) = match line.strip_prefix('#') {
            Some(tag) => tag.split_once(':').unwrap_or((tag, "")),
            None => {
                if media.segments.len() >= ENTRIES_MAX {
                    return Err(PlaylistError::TooLong);
                }
                media.segments.push(state.finish(line));
                continue;
            }
        };
        match tag {
            "EXT-X-TARGETDURATION" => target = seconds(value).or(target),
            "EXT-X-MEDIA-SEQUENCE" => media.sequence = value.trim().parse().unwrap_or(0),
            "EXT-X-DISCONTINUITY-SEQUENCE" => {
                media.discontinuity_sequence = value.trim().parse().unwrap_or(0);
            }
            "EXT-X-ENDLIST" => media.ended = true,
            "EXT-X-I-FRAMES-ONLY" => return Err(PlaylistError::IFramesOnly),
            "EXT-X-PART" if state.parts >= ENTRIES_MAX => return Err(PlaylistError::TooLong),
            _ if breaks::is_break(tag) => {
                breaks::read(tag, value, media.segments.len(), &mut media.breaks);
            }
            _ => {
                let low_latency = &mut media.low_latency;
                low_latency.tag(tag, value, &mut media.hold_back);
                if let ("EXT-X-KEY", Some(skip)) = (tag, &mut low_latency.skip) {
                    skip.unkeyed.get_or_insert(media.segments.len());
                }
                state.tag(tag, value);
            }
        }
    }
    media.low_latency.open = state.finish_open();
    let longest = media.segments.iter().map(|s| s.duration).max();
    media.target = target
        .filter(|t| !t.is_zero())
        .or(longest)
        .unwrap_or_default()
        .clamp(*TARGET.start(), *TARGET.end());
    Ok(media)
}

impl State {
    fn tag(&mut self, tag: &str, value: &str) {
        match tag {
            "EXTINF" => {
                let text = value.split_once(',').map_or(value, |(secs, _)| secs);
                self.next.duration = seconds(text).unwrap_or_default();
            }
            "EXT-X-BYTERANGE" => self.range = byte_range(value),
            "EXT-X-DISCONTINUITY" => self.next.discontinuity = true,
            "EXT-X-GAP" => self.next.gap = true,
            "EXT-X-PART" => {
                self.parts += 1;
                (self.next.parts).extend(low_latency::part(value, &mut self.part_end));
            }
            "EXT-X-KEY" => self.key(value),
            "EXT-X-MAP" => self.map(value),
            "EXT-X-PROGRAM-DATE-TIME" => {
                self.next.program_date_time_unix_ms = value
                    .trim()
                    .parse::<jiff::Timestamp>()
                    .ok()
                    .map(jiff::Timestamp::as_millisecond);
            }
            _ => {}
        }
    }

    fn key(&mut self, list: &str) {
        let mut method = "";
        let mut uri = None;
        let mut iv = None;
        let mut format = "identity";
        for (name, value) in pairs(list) {
            match name {
                "METHOD" => method = value,
                "URI" => uri = Some(value),
                "IV" => iv = Some(value),
                "KEYFORMAT" => format = value,
                _ => {}
            }
        }
        if method == "NONE" {
            self.keys.clear();
            return;
        }
        let iv = match iv {
            None => Some(None),
            Some(text) => hex_iv(text).map(Some),
        };
        let identity = format == "identity";
        let uri = uri.filter(|uri| !uri.is_empty());
        let encryption = match (method, uri, iv) {
            ("AES-128", Some(uri), Some(iv)) if identity => Encryption::Aes128 {
                uri: uri.into(),
                iv,
            },
            ("SAMPLE-AES" | "SAMPLE-AES-CTR", Some(uri), Some(iv)) => Encryption::Samples {
                uri: uri.into(),
                identity,
                iv,
            },
            ("AES-128" | "SAMPLE-AES" | "SAMPLE-AES-CTR", ..) => Encryption::NoKey,
            _ => Encryption::Unsupported,
        };
        // RFC 8216, 4.3.2.4: a key holds until the next one with the same format.
        self.keys.retain(|(own, _)| own != format);
        if self.keys.len() < KEY_FORMATS_MAX {
            self.keys.push((format.to_owned(), encryption));
        }
    }

    fn encryption(&self) -> Encryption {
        self.keys
            .iter()
            .find(|(_, e)| {
                matches!(
                    e,
                    Encryption::Aes128 { .. } | Encryption::Samples { identity: true, .. }
                )
            })
            .or(self.keys.first())
            .map_or(Encryption::None, |(_, e)| e.clone())
    }

    fn map(&mut self, list: &str) {
        self.init = get(list, "URI").filter(|uri| !uri.is_empty()).map(|uri| {
            let range = get(list, "BYTERANGE")
                .and_then(byte_range)
                .map(|(len, start)| ByteRange {
                    start: start.unwrap_or(0),
                    len,
                });
            Arc::new(Init {
                uri: uri.to_owned(),
                range,
                encryption: self.encryption(),
            })
        });
    }

    /// The segment that has parts and no URI yet.
    fn finish_open(&mut self) -> Option<Box<Segment>> {
        let mut open = std::mem::take(&mut self.next);
        open.init.clone_from(&self.init);
        open.encryption = self.encryption();
        (!open.parts.is_empty()).then(|| Box::new(open))
    }

    fn finish(&mut self, uri: &str) -> Segment {
        let mut segment = std::mem::take(&mut self.next);
        segment.init = self.init.clone();
        segment.encryption = self.encryption();
        segment.range = self.range.take().map(|(len, start)| {
            let implied = match &self.range_end {
                Some((from, end)) if from == uri => *end,
                _ => 0,
            };
            ByteRange {
                start: start.unwrap_or(implied),
                len,
            }
        });
        self.range_end = segment
            .range
            .map(|range| (uri.to_owned(), range.start.saturating_add(range.len)));
        segment.uri = uri.to_owned();
        segment
    }
}

pub(super) fn seconds(text: &str) -> Option<Duration> {
    let secs: f64 = text.trim().parse().ok()?;
    (0.0..=86_400.0)
        .contains(&secs)
        .then(|| Duration::from_secs_f64(secs))
}

/// `length[@offset]`.
pub(super) fn byte_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (len, start) = match text.trim().split_once('@') {
        Some((len, start)) => (len, Some(start.trim().parse().ok()?)),
        None => (text.trim(), None),
    };
    let len = len.trim().parse().ok().filter(|len| *len > 0)?;
    Some((len, start))
}

fn hex_iv(text: &str) -> Option<[u8; 16]> {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"))?;
    (!digits.is_empty() && digits.len() <= 32 && !digits.starts_with('+')).then_some(())?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::super::{Playlist, parse};
    use super::*;

    fn media(text: &str) -> Media {
        match parse(text.as_bytes()).unwrap() {
            Playlist::Media(media) => media,
            Playlist::Master(_) => panic!("a master"),
        }
    }

    #[test]
    fn segments_with_byte_ranges_maps_and_marks() {
        let media = media(
            "\u{feff}#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:7\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"720@10\"\n\
             #EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:01.5Z\n\
             #EXTINF:5.96,title, more\n#EXT-X-BYTERANGE:100@50\na.mp4\n\
             #EXTINF:6\n#EXT-X-BYTERANGE:200\na.mp4\n\
             #EXTINF:6,\n#EXT-X-BYTERANGE:10\nb.mp4\n\
             #EXT-X-PART:DURATION=0.33,URI=\"p.mp4\"\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"j.mp4\"\n\
             #EXT-X-GAP\n#EXTINF:6,\nc.mp4\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"q.mp4\"",
        );
        assert_eq!(media.target, Duration::from_secs(6));
        assert_eq!((media.sequence, media.end()), (7, 11));
        assert_eq!(media.discontinuity_sequence, 3);
        assert!(!media.ended);
        let ranges: Vec<_> = media
            .segments
            .iter()
            .map(|s| s.range.map(|r| (r.start, r.len)))
            .collect();
        assert_eq!(
            ranges,
            [Some((50, 100)), Some((150, 200)), Some((0, 10)), None]
        );
        let first = media.segment(7).unwrap();
        assert_eq!(first.duration, Duration::from_millis(5_960));
        assert_eq!(first.program_date_time_unix_ms, Some(1_704_067_201_500));
        let init = first.init.as_ref().unwrap();
        assert_eq!(
            init.range,
            Some(ByteRange {
                start: 10,
                len: 720
            })
        );
        let last = media.segment(10).unwrap();
        assert!(last.discontinuity && last.gap);
        assert_eq!(last.init.as_ref().unwrap().uri, "j.mp4");
        assert!(media.segment(6).is_none() && media.segment(11).is_none());
    }

    #[test]
    fn keys_hold_until_replaced_and_are_told_apart() {
        let media = media(
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nclear.ts\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"k1\",IV=0x000102030405060708090A0B0C0D0E0F\n\
             #EXTINF:4,\n1.ts\n#EXTINF:4,\n2.ts\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"k2\"\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"skd\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n\
             #EXTINF:4,\n3.ts\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:4,\n4.ts\n\
             #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k3\"\n#EXTINF:4,\n5.ts\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"k4\",IV=0xzz\n#EXTINF:4,\n6.ts\n\
             #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://a\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n\
             #EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI=\"k5\",IV=0x1\n#EXTINF:4,\n7.ts\n\
             #EXT-X-KEY:METHOD=NONE\n\
             #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://b\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n\
             #EXTINF:4,\n8.ts\n#EXT-X-KEY:METHOD=NONE\n\
             #EXT-X-KEY:METHOD=AES-256,URI=\"k6\"\n#EXTINF:4,\n9.ts\n#EXT-X-ENDLIST\n",
        );
        let aes = |uri: &str, iv| Encryption::Aes128 {
            uri: uri.into(),
            iv,
        };
        let samples = |uri: &str, identity, iv| Encryption::Samples {
            uri: uri.into(),
            identity,
            iv,
        };
        let iv: [u8; 16] = std::array::from_fn(|i| i as u8);
        let found: Vec<_> = media
            .segments
            .iter()
            .map(|s| s.encryption.clone())
            .collect();
        assert_eq!(
            found,
            [
                Encryption::None,
                aes("k1", Some(iv)),
                aes("k1", Some(iv)),
                aes("k2", None),
                Encryption::None,
                samples("k3", true, None),
                Encryption::NoKey,
                samples("k5", true, Some(1_u128.to_be_bytes())),
                samples("skd://b", false, None),
                Encryption::Unsupported,
            ]
        );
        assert!(media.ended);
    }

    #[test]
    fn nonsense_is_survived() {
        let media = media(
            "#EXTM3U\n#EXT-X-TARGETDURATION:NaN\n#EXT-X-MEDIA-SEQUENCE:-5\n#EXTINF:-1e99,\na.ts\n\
             #EXTINF:\n#EXT-X-BYTERANGE:0@99999999999999999999\nb.ts\n#EXT-X-MAP:\n#EXT-X-KEY:\n#\n#EXTINF:3.5\nc.ts",
        );
        assert_eq!(media.target, Duration::from_millis(3_500));
        assert_eq!(media.sequence, 0);
        assert_eq!(media.segments.len(), 3);
        assert_eq!(media.segments[1].range, None);
        for bad in [&b""[..], b"<html>", b"#EXTM3U\n\xff\xfe"] {
            assert_eq!(parse(bad), Err(super::super::PlaylistError::NotAPlaylist));
        }
        let iframes = b"#EXTM3U\n#EXT-X-I-FRAMES-ONLY\n#EXTINF:1,\na.ts\n";
        assert_eq!(
            parse(iframes),
            Err(super::super::PlaylistError::IFramesOnly)
        );
        let long = format!("#EXTM3U\n{}", "#EXTINF:1,\na\n".repeat(ENTRIES_MAX + 1));
        assert_eq!(
            parse(long.as_bytes()),
            Err(super::super::PlaylistError::TooLong)
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_fails_cleanly(lines in proptest::collection::vec(
            "(#EXTINF:|#EXT-X-KEY:|#EXT-X-MAP:|#EXT-X-BYTERANGE:|#EXT-X-STREAM-INF:|)[ -~]{0,40}", 0..40,
        )) {
            let text = format!("#EXTM3U\n{}", lines.join("\n"));
            let _ = parse(text.as_bytes());
        }
    }
}
