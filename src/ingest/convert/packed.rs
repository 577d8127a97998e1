//! Raw sound input of a converter: ADTS AAC, MPEG audio, AC-3 or E-AC-3, possibly after an ID3 tag.

use bytes::{Buf, Bytes, BytesMut};
use detectors::base::{Cause, Evidence, EvidenceKind, Fact, Kind, MediaTime};

use super::branch::{Branch, Coded};
use super::{ConvertError, Core, timeline_key};
use crate::ingest::appsink::lock;
use crate::ingest::keys::ContentKey;
use crate::ingest::sample_aes;
use crate::ingest::tracks::Entry;
use crate::transport::Codec;

/// Bytes looked at for the first frame of a piece.
const MAX_HEAD: usize = 64 << 10;
/// Largest ID3 tag skipped (cover pictures).
const MAX_TAG: usize = 16 << 20;
/// Owner of the private frame that carries the start time (RFC 8216, 3.4).
const OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";

/// State of a packed audio input.
pub(super) struct Packed {
    input: usize,
    language: Option<String>,
    branch: Option<(Codec, Branch)>,
    /// Start of a piece, until its codec is known; `None` afterwards.
    head: Option<BytesMut>,
    /// Start time from the tag, 90 kHz.
    start: Option<u64>,
    newest: Option<MediaTime>,
    discontinuity: bool,
    /// Decrypts the samples of the piece, when the playlist names a key for them.
    sealed: Option<sample_aes::Sound>,
}

impl Packed {
    pub(super) fn new(input: usize, language: Option<String>) -> Self {
        Self {
            input,
            language,
            branch: None,
            head: Some(BytesMut::new()),
            start: None,
            newest: None,
            discontinuity: false,
            sealed: None,
        }
    }

    pub(super) fn begin(&mut self, core: &mut Core, discontinuity: bool) {
        if discontinuity {
            core.timeline.discontinuity();
        }
        self.head = Some(BytesMut::new());
        self.start = None;
        self.discontinuity |= discontinuity;
    }

    pub(super) fn data(&mut self, core: &mut Core, bytes: Bytes) -> Result<(), ConvertError> {
        let Some(head) = &mut self.head else {
            self.push(core, bytes, None);
            return Ok(());
        };
        head.extend_from_slice(&bytes);
        loop {
            match tag_length(head) {
                Tag::None => break,
                Tag::Unknown => return Ok(()),
                Tag::Length(length) if length > MAX_TAG => {
                    return Err(undecodable("the ID3 tag is too large"));
                }
                Tag::Length(length) if head.len() < length => return Ok(()),
                Tag::Length(length) => {
                    let tag = head.split_to(length);
                    self.start = start_time(&tag).or(self.start);
                }
            }
        }
        let Some(codec) = codec_at(head) else {
            // Not at a frame: look for the first one, byte by byte.
            if head.len() > MAX_HEAD {
                return Err(undecodable("no frame of sound in the first 64 KiB"));
            }
            let skip = (1..head.len()).find(|at| codec_at(&head[*at..]).is_some());
            match skip {
                Some(at) => head.advance(at),
                None => return Ok(()),
            }
            return self.data(core, Bytes::new());
        };
        let bytes = self.head.take().unwrap_or_default().freeze();
        self.announce(core, codec, &bytes);
        let sealed = core.keys.named.is_some() && codec != Codec::MpegAudio;
        self.sealed = sealed.then(|| sample_aes::Sound::new(codec));
        // Without a time of its own, a raw file begins at zero.
        let ticks = self.start.or_else(|| self.newest.is_none().then_some(0));
        let media = ticks.map(|ticks| {
            let mapped = core.timeline.map(timeline_key(self.input, 0), ticks);
            if let (Some(by_secs), Some((_, branch))) = (mapped.jump_secs, &self.branch) {
                self.discontinuity = true;
                let fact = Fact::TimelineJump { by_secs };
                core.hub
                    .fact(Some(branch.way.track), Some(mapped.media), fact);
            }
            mapped.media
        });
        if let (Some(media), Some((_, branch))) = (media, &self.branch) {
            core.piece_begins(self.input, Kind::Audio, media, Some(branch.way.track));
        }
        self.newest = media.or(self.newest);
        core.fed = core.fed.max(media);
        self.push(core, bytes, media);
        Ok(())
    }

    fn push(&mut self, core: &Core, bytes: Bytes, media: Option<MediaTime>) {
        if let Some((_, branch)) = &mut self.branch {
            let bytes = match (&mut self.sealed, &core.keys.named) {
                (Some(sealed), Some(named)) => {
                    let opened = sealed.push(&bytes, named);
                    let track = branch.way.track;
                    if unproved(&named.key, &opened) {
                        named.key.refute();
                        if lock(&core.hub.tracks).set_problem(track, Some(Cause::EncryptedNoKey)) {
                            core.hub.tell_tracks();
                        }
                        return;
                    }
                    if opened.intact > 0 {
                        named.key.prove(Kind::Audio);
                    }
                    if let (1.., Some(from)) = (opened.decrypted, media.or(self.newest)) {
                        branch.way.try_key(from, &named.key);
                    }
                    if !branch.way.is_on_trial() && lock(&core.hub.tracks).set_problem(track, None)
                    {
                        core.hub.tell_tracks();
                    }
                    Bytes::from(opened.bytes)
                }
                _ => {
                    if let (true, Some(from)) = (branch.way.is_on_trial(), media) {
                        branch.way.in_clear(from);
                    }
                    bytes
                }
            };
            let coded = Coded {
                bytes,
                media,
                decode_ahead_nanos: 0,
                random_access: true,
                discontinuity: std::mem::take(&mut self.discontinuity),
            };
            branch.push(core, coded);
        }
    }

    fn announce(&mut self, core: &Core, codec: Codec, head: &[u8]) {
        match &mut self.branch {
            Some((known, _)) if *known == codec => return,
            Some((known, branch)) => {
                *known = codec;
                branch.change(codec, None);
            }
            None => {}
        }
        let layer_3 = codec == Codec::MpegAudio && head.get(1).is_some_and(|b| b & 0x06 == 0x02);
        let entry = Entry {
            id: 0,
            kind: Kind::Audio,
            codec: if layer_3 { "mp3" } else { codec.as_str() }.to_owned(),
            language: self.language.clone(),
            problem: None,
        };
        let track = lock(&core.hub.tracks).add(self.input, entry);
        if let (None, Some(track)) = (&self.branch, track) {
            self.branch = Some((codec, Branch::new(core, track, codec, None)));
        }
        core.hub.tell_tracks();
    }

    pub(super) fn piece_end(
        &mut self,
        core: &mut Core,
        truncated: bool,
    ) -> Result<(), ConvertError> {
        if truncated {
            let from = self.newest;
            let evidence = Evidence::new(EvidenceKind::Truncated, from, 1);
            let own = self.branch.as_ref().map(|(_, b)| b.way.track);
            let blamed = core.blamed(own.into_iter());
            core.hub.fact(blamed, from, Fact::Evidence(evidence));
        }
        Ok(())
    }

    pub(super) fn end(&mut self) {
        if let Some((_, branch)) = &mut self.branch {
            branch.end();
        }
    }

    pub(super) fn done(&self) -> bool {
        self.branch.as_ref().is_none_or(|(_, b)| b.done())
    }

    pub(super) fn error(&self) -> Option<ConvertError> {
        let found = self.branch.as_ref().and_then(|(_, b)| b.error());
        found.or_else(|| Some(undecodable("no sound could be decoded")))
    }
}

/// Whether check sums speak against a key that nothing has spoken for.
fn unproved(key: &ContentKey, opened: &sample_aes::Opened) -> bool {
    opened.broken > 0 && opened.intact == 0 && !key.is_proved(Kind::Audio)
}

fn undecodable(detail: &str) -> ConvertError {
    ConvertError {
        cause: Cause::Undecodable,
        detail: detail.to_owned(),
    }
}

/// What the bytes at the front say about an ID3v2 tag.
enum Tag {
    None,
    Unknown,
    Length(usize),
}

fn tag_length(data: &[u8]) -> Tag {
    let known = data.len().min(3);
    if data[..known] != b"ID3"[..known] {
        return Tag::None;
    }
    let Some(size) = data.get(6..10) else {
        return Tag::Unknown;
    };
    let footer = if data[5] & 0x10 != 0 { 10 } else { 0 };
    Tag::Length(10 + footer + synchsafe(size))
}

/// ID3v2 number of seven bits a byte.
fn synchsafe(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |sum, b| (sum << 7) | usize::from(b & 0x7f))
}

/// Start time that the tag before packed sound tells, seconds; `None` where it does not, or is not whole.
pub(in crate::ingest) fn packed_start_secs(head: &[u8]) -> Option<f64> {
    let Tag::Length(length) = tag_length(head) else {
        return None;
    };
    Some(start_time(head.get(..length)?)? as f64 / 90_000.0)
}

/// Start time from the private frame, 33 bit at 90 kHz.
fn start_time(tag: &[u8]) -> Option<u64> {
    let version = *tag.get(3)?;
    let mut rest = tag.get(10..)?;
    while let Some(frame) = rest.get(..10) {
        let size = match version {
            4 => synchsafe(&frame[4..8]),
            _ => (&frame[4..8]).get_u32() as usize,
        };
        let body = rest.get(10..size.checked_add(10)?)?;
        if &frame[..4] == b"PRIV"
            && let Some(time) = body.strip_prefix(OWNER)
        {
            return Some(time.get(..8)?.get_u64() & ((1 << 33) - 1));
        }
        if size == 0 {
            break;
        }
        rest = &rest[10 + size..];
    }
    None
}

/// Codec of the frame that begins at the front.
fn codec_at(data: &[u8]) -> Option<Codec> {
    match data {
        [0x0b, 0x77, _, _, _, bsi, ..] => Some(if bsi >> 3 > 10 {
            Codec::Eac3
        } else {
            Codec::Ac3
        }),
        [0xff, b, c, ..] if b & 0xf6 == 0xf0 && (c >> 2) & 15 < 13 => Some(Codec::AacAdts),
        // Layer, bit rate and sample rate must not be reserved values.
        [0xff, b, c, ..]
            if b & 0xe0 == 0xe0
                && b & 0x18 != 0x08
                && b & 0x06 != 0
                && c >> 4 != 15
                && c >> 4 != 0
                && c & 0x0c != 0x0c =>
        {
            Some(Codec::MpegAudio)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_start_time_is_read_from_the_private_frame() {
        let mut body = OWNER.to_vec();
        body.extend_from_slice(&0x1_2345_6789_u64.to_be_bytes());
        let mut tag = b"ID3\x04\x00\x00\x00\x00\x00".to_vec();
        tag.push(body.len() as u8 + 10);
        tag.extend_from_slice(b"PRIV\x00\x00\x00");
        tag.push(body.len() as u8);
        tag.extend_from_slice(&[0, 0]);
        tag.extend_from_slice(&body);
        assert!(matches!(tag_length(&tag), Tag::Length(n) if n == tag.len()));
        assert_eq!(start_time(&tag), Some(0x1_2345_6789));
        for cut in 0..tag.len() {
            assert_eq!(start_time(&tag[..cut]), None);
        }
    }

    #[test]
    fn codecs_are_told_by_their_sync_words() {
        assert_eq!(codec_at(&[0xff, 0xf1, 0x50, 0x80]), Some(Codec::AacAdts));
        assert_eq!(codec_at(&[0xff, 0xfb, 0x90, 0x64]), Some(Codec::MpegAudio));
        assert_eq!(codec_at(&[0x0b, 0x77, 0, 0, 0, 8 << 3]), Some(Codec::Ac3));
        assert_eq!(codec_at(&[0x0b, 0x77, 0, 0, 0, 16 << 3]), Some(Codec::Eac3));
        assert_eq!(codec_at(&[0x47, 0x40, 0x11, 0x10]), None);
    }
}
