//! WebM (Matroska, RFC 9559) as it comes in segments: tracks and blocks, nothing else.

use bytes::{Buf, Bytes, BytesMut};
use detectors::base::Kind;

/// A track as it is described.
#[derive(Debug, Clone, PartialEq)]
pub struct WebmTrack {
    /// `TrackNumber`.
    pub number: u32,
    /// Pictures or sound.
    pub kind: Kind,
    /// `CodecID`, such as `V_VP9`.
    pub codec: String,
    /// `CodecPrivate`.
    pub config: Bytes,
    /// Channels of sound.
    pub channels: u32,
    /// Samples of sound a second.
    pub rate_hz: u32,
    /// `Language`, when told.
    pub language: Option<String>,
    /// Its blocks are encrypted.
    pub encrypted: bool,
    /// Its blocks are packed in a way that is not read.
    pub packed: bool,
}

/// What is found.
#[derive(Debug, Clone, PartialEq)]
pub enum WebmEvent {
    /// All tracks of pictures and sound.
    Tracks(Vec<WebmTrack>),
    /// A picture or a frame of sound.
    Frame {
        /// `TrackNumber`.
        track: u32,
        /// Presentation time, nanoseconds.
        at_nanos: u64,
        /// Decoding may begin here.
        random_access: bool,
        /// Coded bytes.
        bytes: Bytes,
    },
}

/// The bytes are not WebM, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not WebM")]
pub struct NotWebm;

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_NUMBER: u32 = 0xD7;
const TRACK_TYPE: u32 = 0x83;
const CODEC_ID: u32 = 0x86;
const CODEC_PRIVATE: u32 = 0x63A2;
const LANGUAGE: u32 = 0x22_B59C;
const AUDIO: u32 = 0xE1;
const CHANNELS: u32 = 0x9F;
const SAMPLING_FREQUENCY: u32 = 0xB5;
const CONTENT_ENCODINGS: u32 = 0x6D80;
const CONTENT_ENCODING: u32 = 0x6240;
const CONTENT_ENCRYPTION: u32 = 0x5035;
const CLUSTER: u32 = 0x1F43_B675;
const TIMESTAMP: u32 = 0xE7;
const SIMPLE_BLOCK: u32 = 0xA3;
const BLOCK_GROUP: u32 = 0xA0;
const BLOCK: u32 = 0xA1;
const REFERENCE_BLOCK: u32 = 0xFB;

/// Longest element that is held: a coded picture.
const HELD_MAX: u64 = 16 << 20;
/// Most tracks of a segment.
const TRACKS_MAX: usize = 32;
/// Nanoseconds a tick, unless told otherwise.
const SCALE: u64 = 1_000_000;

/// Whether these bytes begin like WebM: a document, or a cluster of one.
pub fn looks_like_webm(head: &[u8]) -> bool {
    head.starts_with(&EBML.to_be_bytes()) || head.starts_with(&CLUSTER.to_be_bytes())
}

/// Takes WebM apart. Holds at most one block, of at most 16 MiB.
#[derive(Debug)]
pub struct WebmDemux {
    held: BytesMut,
    /// Bytes that are passed over.
    skip: u64,
    scale: u64,
    cluster: u64,
}

impl Default for WebmDemux {
    fn default() -> Self {
        Self {
            held: BytesMut::new(),
            skip: 0,
            scale: SCALE,
            cluster: 0,
        }
    }
}

impl WebmDemux {
    /// What follows begins with an element, whatever came before.
    pub fn begin(&mut self) {
        self.held.clear();
        self.skip = 0;
    }

    /// Whether something is left of an element that has not come whole.
    pub fn is_within(&self) -> bool {
        !self.held.is_empty() || self.skip > 0
    }

    /// Takes bytes, and hands out what is whole.
    ///
    /// # Errors
    ///
    /// When the bytes are not WebM: nothing after that can be trusted until [`WebmDemux::begin`].
    pub fn push(&mut self, bytes: &[u8], take: &mut dyn FnMut(WebmEvent)) -> Result<(), NotWebm> {
        self.held.extend_from_slice(bytes);
        loop {
            let skipped = self
                .held
                .len()
                .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.held.advance(skipped);
            self.skip -= skipped as u64;
            if self.skip > 0 || self.held.is_empty() {
                return Ok(());
            }
            let Some((id, size, header)) = element(&self.held)? else {
                return Ok(());
            };
            match id {
                // What is inside is read one by one; both may be open.
                SEGMENT | CLUSTER => {
                    self.held.advance(header);
                    continue;
                }
                _ => {}
            }
            let size = size.ok_or(NotWebm)?;
            match id {
                INFO | TRACKS | TIMESTAMP | SIMPLE_BLOCK | BLOCK_GROUP => {}
                _ => {
                    if id == EBML {
                        self.scale = SCALE;
                    }
                    self.held.advance(header);
                    self.skip = size;
                    continue;
                }
            }
            if size > HELD_MAX {
                return Err(NotWebm);
            }
            let whole = header + usize::try_from(size).map_err(|_| NotWebm)?;
            if self.held.len() < whole {
                return Ok(());
            }
            let mut content = self.held.split_to(whole).freeze();
            content.advance(header);
            match id {
                INFO => {
                    let told = child(&content, TIMESTAMP_SCALE).and_then(|c| unsigned(&c));
                    self.scale = told.filter(|scale| *scale > 0).unwrap_or(SCALE);
                }
                TRACKS => take(WebmEvent::Tracks(tracks(&content))),
                TIMESTAMP => self.cluster = unsigned(&content).unwrap_or(0),
                SIMPLE_BLOCK => {
                    let random_access = content
                        .get(flags_at(&content))
                        .is_some_and(|f| f & 0x80 != 0);
                    self.block(content, random_access, take);
                }
                _ => {
                    if let Some(block) = child(&content, BLOCK) {
                        let refers = child(&content, REFERENCE_BLOCK).is_some();
                        self.block(block, !refers, take);
                    }
                }
            }
        }
    }

    /// A block of one frame. Laced ones do not occur with the codecs that are read.
    fn block(&self, mut block: Bytes, random_access: bool, take: &mut dyn FnMut(WebmEvent)) {
        let Some((Some(track), length)) = vint(&block) else {
            return;
        };
        let (Some(time), Some(flags)) = (block.get(length..length + 2), block.get(length + 2))
        else {
            return;
        };
        let mut time = time;
        let ticks = i128::from(self.cluster) + i128::from(time.get_i16());
        let at_nanos = u64::try_from(ticks * i128::from(self.scale));
        let laced = flags & 0x06 != 0;
        block.advance(length + 3);
        if let (Ok(track), Ok(at_nanos), false) = (u32::try_from(track), at_nanos, laced) {
            take(WebmEvent::Frame {
                track,
                at_nanos,
                random_access,
                bytes: block,
            });
        }
    }
}

/// Where the flags of a block are.
fn flags_at(block: &[u8]) -> usize {
    vint(block).map_or(usize::MAX, |(_, length)| length + 2)
}

/// Id, size (`None` = open) and length of the header of the element at the front; `None` while too little is there.
fn element(bytes: &[u8]) -> Result<Option<(u32, Option<u64>, usize)>, NotWebm> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    let id_length = first.leading_zeros() as usize + 1;
    if id_length > 4 {
        return Err(NotWebm);
    }
    let Some(id) = bytes.get(..id_length) else {
        return Ok(None);
    };
    let id = id.iter().fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
    match bytes.get(id_length) {
        Some(0) => return Err(NotWebm),
        None => return Ok(None),
        Some(_) => {}
    }
    let size = bytes.get(id_length..).and_then(vint);
    Ok(size.map(|(size, length)| (id, size, id_length + length)))
}

/// A number of variable length (`None` = all bits set), and its length.
fn vint(bytes: &[u8]) -> Option<(Option<u64>, usize)> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    let raw = bytes.get(..length).filter(|_| length <= 8)?;
    let number = raw.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let mask = (1_u64 << (7 * length)) - 1;
    let number = number & mask;
    Some(((number != mask).then_some(number), length))
}

/// The whole elements inside; ends at the first that is not.
fn children(content: &Bytes) -> impl Iterator<Item = (u32, Bytes)> + use<> {
    let mut rest = content.clone();
    std::iter::from_fn(move || {
        let (id, size, header) = element(&rest).ok()??;
        let end = header.checked_add(usize::try_from(size?).ok()?)?;
        if rest.len() < end {
            return None;
        }
        let mut whole = rest.split_to(end);
        whole.advance(header);
        Some((id, whole))
    })
}

fn child(content: &Bytes, id: u32) -> Option<Bytes> {
    children(content)
        .find(|(own, _)| *own == id)
        .map(|(_, content)| content)
}

fn unsigned(content: &[u8]) -> Option<u64> {
    let number = content.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    (content.len() <= 8).then_some(number)
}

fn float(content: &[u8]) -> Option<f64> {
    match content.len() {
        4 => Some(f64::from(f32::from_be_bytes(content.try_into().ok()?))),
        8 => Some(f64::from_be_bytes(content.try_into().ok()?)),
        _ => None,
    }
}

fn tracks(content: &Bytes) -> Vec<WebmTrack> {
    children(content)
        .filter(|(id, _)| *id == TRACK_ENTRY)
        .filter_map(|(_, entry)| track(&entry))
        .take(TRACKS_MAX)
        .collect()
}

fn track(entry: &Bytes) -> Option<WebmTrack> {
    let number = |of: &Bytes, id| child(of, id).and_then(|content| unsigned(&content));
    let text = |id| {
        Some(
            String::from_utf8_lossy(&child(entry, id)?)
                .trim_end_matches('\0')
                .to_owned(),
        )
    };
    let kind = match number(entry, TRACK_TYPE)? {
        1 => Kind::Video,
        2 => Kind::Audio,
        _ => return None,
    };
    let audio = child(entry, AUDIO).unwrap_or_default();
    let rate = child(&audio, SAMPLING_FREQUENCY).and_then(|content| float(&content));
    let encodings = child(entry, CONTENT_ENCODINGS);
    let encrypted = encodings.as_ref().is_some_and(|all| {
        let mut each = children(all).filter(|(id, _)| *id == CONTENT_ENCODING);
        each.any(|(_, one)| child(&one, CONTENT_ENCRYPTION).is_some())
    });
    Some(WebmTrack {
        number: u32::try_from(number(entry, TRACK_NUMBER)?).ok()?,
        kind,
        codec: text(CODEC_ID)?,
        config: child(entry, CODEC_PRIVATE).unwrap_or_default(),
        channels: number(&audio, CHANNELS).map_or(1, |n| u32::try_from(n.min(64)).unwrap_or(1)),
        rate_hz: rate.map_or(8000, |rate| rate.clamp(1.0, 1e6) as u32),
        language: text(LANGUAGE).filter(|language| language != "und"),
        encrypted,
        packed: encodings.is_some() && !encrypted,
    })
}

/// The three headers in the `CodecPrivate` of Vorbis (RFC 9559, 5.1.4.1.29; Xiph lacing).
pub fn vorbis_headers(config: &Bytes) -> Option<[Bytes; 3]> {
    let mut rest = config.clone();
    if rest.try_get_u8().ok()? != 2 {
        return None;
    }
    let mut size = || -> Option<usize> {
        let mut size = 0_usize;
        loop {
            let byte = rest.try_get_u8().ok()?;
            size += usize::from(byte);
            if byte < 255 {
                return Some(size);
            }
        }
    };
    let (first, second) = (size()?, size()?);
    if rest.len() < first.checked_add(second)? {
        return None;
    }
    let (first, second) = (rest.split_to(first), rest.split_to(second));
    Some([first, second, rest])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn made(id: u32, content: &[u8]) -> Vec<u8> {
        let id = id.to_be_bytes();
        let begin = id.iter().position(|byte| *byte != 0).unwrap();
        let size = (content.len() as u32 | 0x1000_0000).to_be_bytes();
        [&id[begin..], &size, content].concat()
    }

    fn open(id: u32) -> Vec<u8> {
        [
            &id.to_be_bytes()[..],
            &[0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        ]
        .concat()
    }

    fn entry(number: u8, kind: u8, codec: &[u8], more: &[u8]) -> Vec<u8> {
        let inside = [
            made(TRACK_NUMBER, &[number]),
            made(TRACK_TYPE, &[kind]),
            made(CODEC_ID, codec),
            more.to_vec(),
        ];
        made(TRACK_ENTRY, &inside.concat())
    }

    fn document() -> Vec<u8> {
        let audio = [
            made(SAMPLING_FREQUENCY, &48_000_f32.to_be_bytes()),
            made(CHANNELS, &[2]),
        ];
        let locked = made(CONTENT_ENCODING, &made(CONTENT_ENCRYPTION, &[]));
        let entries = [
            entry(1, 1, b"V_VP9\0", &made(CODEC_PRIVATE, &[9])),
            entry(
                2,
                2,
                b"A_OPUS",
                &[made(AUDIO, &audio.concat()), made(LANGUAGE, b"deu")].concat(),
            ),
            entry(3, 1, b"V_VP8", &made(CONTENT_ENCODINGS, &locked)),
            entry(4, 17, b"S_TEXT", &[]),
        ];
        [
            made(EBML, b"any"),
            open(SEGMENT),
            made(0x114D_9B74, &[0; 300]),
            made(INFO, &made(TIMESTAMP_SCALE, &500_000_u32.to_be_bytes())),
            made(TRACKS, &entries.concat()),
            cluster(4000),
        ]
        .concat()
    }

    fn cluster(time: u16) -> Vec<u8> {
        let group = [
            made(BLOCK, &[0x81, 0, 10, 0, 3, 3]),
            made(REFERENCE_BLOCK, &[0xFF]),
        ];
        [
            open(CLUSTER),
            made(TIMESTAMP, &time.to_be_bytes()),
            made(SIMPLE_BLOCK, &[0x81, 0, 0, 0x80, 1]),
            made(SIMPLE_BLOCK, &[0x82, 0xFF, 0xFE, 0x80, 2, 2]),
            made(SIMPLE_BLOCK, &[0x82, 0, 0, 0x82, 0, 9]),
            made(BLOCK_GROUP, &group.concat()),
        ]
        .concat()
    }

    fn events(demux: &mut WebmDemux, bytes: &[u8], chunk: usize) -> Vec<WebmEvent> {
        let mut found = Vec::new();
        for chunk in bytes.chunks(chunk) {
            demux.push(chunk, &mut |event| found.push(event)).unwrap();
        }
        found
    }

    fn frame(track: u32, millis: u64, random_access: bool, bytes: &'static [u8]) -> WebmEvent {
        WebmEvent::Frame {
            track,
            at_nanos: millis * 1_000_000,
            random_access,
            bytes: Bytes::from_static(bytes),
        }
    }

    #[test]
    fn tracks_and_frames_are_found_however_the_bytes_come() {
        for chunk in [1, 7, 10_000] {
            let mut demux = WebmDemux::default();
            let mut found = events(&mut demux, &document(), chunk);
            let WebmEvent::Tracks(tracks) = found.remove(0) else {
                unreachable!("tracks come first");
            };
            let known: Vec<_> = tracks
                .iter()
                .map(|t| (t.number, t.kind, t.codec.as_str(), t.encrypted))
                .collect();
            assert_eq!(
                known,
                [
                    (1, Kind::Video, "V_VP9", false),
                    (2, Kind::Audio, "A_OPUS", false),
                    (3, Kind::Video, "V_VP8", true)
                ]
            );
            assert_eq!((tracks[1].channels, tracks[1].rate_hz), (2, 48_000));
            assert_eq!(tracks[1].language.as_deref(), Some("deu"));
            assert_eq!(tracks[0].config, [9][..]);
            let expected = [
                frame(1, 2000, true, &[1]),
                frame(2, 1999, true, &[2, 2]),
                frame(1, 2005, false, &[3, 3]),
            ];
            assert_eq!(found, expected);
            assert!(!demux.is_within());
            // A segment is a cluster; one that was cut does not spoil the next.
            events(&mut demux, &cluster(6000)[..30], 100);
            assert!(demux.is_within());
            demux.begin();
            let found = events(&mut demux, &cluster(6000), chunk);
            assert_eq!(found[0], frame(1, 3000, true, &[1]));
        }
    }

    #[test]
    fn other_bytes_are_refused_and_sizes_are_bounded() {
        let push = |bytes: &[u8]| WebmDemux::default().push(bytes, &mut |_| {});
        assert_eq!(push(&[0]), Err(NotWebm));
        assert_eq!(push(b"\x0bnothing"), Err(NotWebm));
        let huge = [&[0xA3][..], &[0x08, 0xFF, 0xFF, 0xFF, 0xFF]].concat();
        assert_eq!(push(&huge), Err(NotWebm));
        let endless = [&[0xA3][..], &[0xFF]].concat();
        assert_eq!(push(&endless), Err(NotWebm));
        assert!(looks_like_webm(&document()) && looks_like_webm(&cluster(1)));
        assert!(!looks_like_webm(b"\x1a\x45"));
    }

    #[test]
    fn vorbis_headers_are_taken_apart() {
        let mut config = vec![2, 255, 1, 2];
        config.extend([7; 256]);
        config.extend([8, 8, 9]);
        let [a, b, c] = vorbis_headers(&config.clone().into()).unwrap();
        assert_eq!((a.len(), &b[..], &c[..]), (256, &[8, 8][..], &[9][..]));
        for end in 0..config.len() - 1 {
            assert_eq!(
                vorbis_headers(&config[..end].to_vec().into()),
                None,
                "{end}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(0_u8.., 0..200), at in 0_usize..400) {
            let mut document = document();
            let at = at.min(document.len());
            document.splice(at..at, bytes.drain(..));
            let mut demux = WebmDemux::default();
            let mut frames = 0;
            for chunk in document.chunks(13) {
                if demux.push(chunk, &mut |_| frames += 1).is_err() {
                    break;
                }
            }
            prop_assert!(frames < 100);
        }
    }
}
