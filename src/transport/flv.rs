//! FLV, as RTMP servers send it (Adobe Flash Video File Format 10.1, annex E; Enhanced RTMP v1 for HEVC).

use bytes::{Buf, Bytes, BytesMut};
use detectors::base::Kind;

/// Codecs that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlvCodec {
    /// H.264, with an `AVCDecoderConfigurationRecord`.
    Avc,
    /// HEVC, with an `HEVCDecoderConfigurationRecord`.
    Hevc,
    /// AAC, with an `AudioSpecificConfig`.
    Aac,
    /// MP3, which needs no configuration.
    Mp3,
}

/// What is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlvEvent {
    /// The configuration of what follows.
    Config {
        /// Its codec.
        codec: FlvCodec,
        /// The record.
        config: Bytes,
    },
    /// A picture or a frame of sound.
    Frame {
        /// Its codec.
        codec: FlvCodec,
        /// Decoding time, milliseconds; wraps after 49.7 days.
        at_ms: u32,
        /// Presentation minus decoding time, milliseconds.
        ahead_ms: i32,
        /// Decoding may begin here.
        random_access: bool,
        /// Coded bytes.
        bytes: Bytes,
    },
    /// Media that is not read.
    Unsupported {
        /// Pictures or sound.
        kind: Kind,
        /// What the stream calls it.
        word: String,
    },
}

/// The bytes are not FLV, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not FLV")]
pub struct NotFlv;

const TAG_HEADER: usize = 11;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;
/// Longest file header believed.
const MAX_HEADER: usize = 1024;

/// Takes FLV apart. Holds at most one tag, of at most 16 MiB.
#[derive(Debug, Default)]
pub struct FlvDemux {
    held: BytesMut,
    began: bool,
}

impl FlvDemux {
    /// Takes bytes, and hands out what is whole.
    ///
    /// # Errors
    ///
    /// When the bytes are not FLV: nothing after that can be trusted.
    pub fn push(&mut self, bytes: &[u8], take: &mut dyn FnMut(FlvEvent)) -> Result<(), NotFlv> {
        self.held.extend_from_slice(bytes);
        if !self.began {
            let Some(head) = self.held.get(..9) else {
                return Ok(());
            };
            let length = (&head[5..]).get_u32() as usize;
            if !head.starts_with(b"FLV") || !(9..=MAX_HEADER).contains(&length) {
                return Err(NotFlv);
            }
            // The size of the tag before the first one follows.
            if self.held.len() < length + 4 {
                return Ok(());
            }
            self.held.advance(length + 4);
            self.began = true;
        }
        while let Some(head) = self.held.get(..TAG_HEADER) {
            let (kind, size) = (head[0], number(&head[1..4]));
            let at_ms = number(&head[4..7]) as u32 | u32::from(head[7]) << 24;
            if !matches!(kind, AUDIO | VIDEO | SCRIPT) {
                return Err(NotFlv);
            }
            if self.held.len() < TAG_HEADER + size + 4 {
                break;
            }
            self.held.advance(TAG_HEADER);
            let body = self.held.split_to(size).freeze();
            self.held.advance(4);
            let found = match kind {
                AUDIO => sound(body, at_ms),
                VIDEO => picture(body, at_ms),
                _ => None,
            };
            if let Some(event) = found {
                take(event);
            }
        }
        Ok(())
    }
}

/// Big-endian number of up to three bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
}

/// A signed number of 24 bits at the front.
fn signed(body: &mut Bytes) -> Option<i32> {
    let bytes = [*body.first()?, *body.get(1)?, *body.get(2)?, 0];
    body.advance(3);
    Some(i32::from_be_bytes(bytes) >> 8)
}

fn sound(mut body: Bytes, at_ms: u32) -> Option<FlvEvent> {
    let frame = |codec, bytes: Bytes| {
        (!bytes.is_empty()).then_some(FlvEvent::Frame {
            codec,
            at_ms,
            ahead_ms: 0,
            random_access: true,
            bytes,
        })
    };
    let format = body.try_get_u8().ok()? >> 4;
    match format {
        10 => match body.try_get_u8().ok()? {
            0 if !body.is_empty() => Some(FlvEvent::Config {
                codec: FlvCodec::Aac,
                config: body,
            }),
            1 => frame(FlvCodec::Aac, body),
            _ => None,
        },
        2 | 14 => frame(FlvCodec::Mp3, body),
        other => Some(FlvEvent::Unsupported {
            kind: Kind::Audio,
            word: match other {
                0 | 3 => "pcm".to_owned(),
                1 => "adpcm".to_owned(),
                4..=6 => "nellymoser".to_owned(),
                7 => "pcma".to_owned(),
                8 => "pcmu".to_owned(),
                11 => "speex".to_owned(),
                other => format!("flv sound {other}"),
            },
        }),
    }
}

fn picture(mut body: Bytes, at_ms: u32) -> Option<FlvEvent> {
    let first = body.try_get_u8().ok()?;
    let frame_type = first >> 4 & 7;
    // Commands to a player.
    if frame_type == 5 {
        return None;
    }
    let (codec, step, timed) = if first & 0x80 != 0 {
        let name = (body.len() >= 4).then(|| body.split_to(4))?;
        let codec = match &name[..] {
            b"avc1" => FlvCodec::Avc,
            b"hvc1" => FlvCodec::Hevc,
            other => {
                return Some(FlvEvent::Unsupported {
                    kind: Kind::Video,
                    word: other.escape_ascii().to_string(),
                });
            }
        };
        match first & 15 {
            0 => (codec, 0, false),
            1 => (codec, 1, true),
            3 => (codec, 1, false),
            _ => return None,
        }
    } else {
        let codec = match first & 15 {
            7 => FlvCodec::Avc,
            12 => FlvCodec::Hevc,
            other => {
                return Some(FlvEvent::Unsupported {
                    kind: Kind::Video,
                    word: match other {
                        2 => "h263".to_owned(),
                        4 | 5 => "vp6".to_owned(),
                        other => format!("flv picture {other}"),
                    },
                });
            }
        };
        (codec, body.try_get_u8().ok()?, true)
    };
    let ahead_ms = if timed { signed(&mut body)? } else { 0 };
    if body.is_empty() {
        return None;
    }
    match step {
        0 => Some(FlvEvent::Config {
            codec,
            config: body,
        }),
        1 => Some(FlvEvent::Frame {
            codec,
            at_ms,
            ahead_ms,
            random_access: frame_type == 1,
            bytes: body,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tag(kind: u8, at_ms: u32, body: &[u8]) -> Vec<u8> {
        let mut tag = vec![kind];
        tag.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
        tag.extend_from_slice(&at_ms.to_be_bytes()[1..]);
        tag.push((at_ms >> 24) as u8);
        tag.extend_from_slice(&[0; 3]);
        tag.extend_from_slice(body);
        tag.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
        tag
    }

    fn stream() -> Vec<u8> {
        let mut all = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, at_ms, body) in [
            (18, 0, &b"\x02\0\x0aonMetaData"[..]),
            (9, 0, b"\x17\0\0\0\0config"),
            (8, 0, b"\xaf\0\x12\x10"),
            (9, 40, b"\x17\x01\xff\xff\xd8key"),
            (9, 0x0100_0050, b"\x27\x01\0\0\x28inter"),
            (8, 23, b"\xaf\x01sound"),
            (8, 46, b"\x2fmp3"),
            (9, 80, b"\x90hvc1config"),
            (9, 80, b"\x91hvc1\0\0\x05key"),
            (9, 120, b"\xa3hvc1inter"),
            (9, 160, b"\x12h263"),
            (9, 160, b"\x57\x00"),
            (8, 69, b"\xb2speex"),
        ] {
            all.extend(tag(kind, at_ms, body));
        }
        all
    }

    fn events(bytes: &[u8], step: usize) -> Result<Vec<FlvEvent>, NotFlv> {
        let (mut demux, mut found) = (FlvDemux::default(), Vec::new());
        for piece in bytes.chunks(step) {
            demux.push(piece, &mut |event| found.push(event))?;
        }
        Ok(found)
    }

    #[test]
    fn tags_are_read_however_they_are_cut() {
        let all = stream();
        let whole = events(&all, all.len()).unwrap();
        let config = |codec, config: &'static [u8]| FlvEvent::Config {
            codec,
            config: Bytes::from_static(config),
        };
        let frame = |codec, at_ms, ahead_ms, random_access, bytes: &'static [u8]| FlvEvent::Frame {
            codec,
            at_ms,
            ahead_ms,
            random_access,
            bytes: Bytes::from_static(bytes),
        };
        let unsupported = |kind, word: &str| FlvEvent::Unsupported {
            kind,
            word: word.to_owned(),
        };
        assert_eq!(
            whole,
            [
                config(FlvCodec::Avc, b"config"),
                config(FlvCodec::Aac, b"\x12\x10"),
                frame(FlvCodec::Avc, 40, -40, true, b"key"),
                frame(FlvCodec::Avc, 0x0100_0050, 40, false, b"inter"),
                frame(FlvCodec::Aac, 23, 0, true, b"sound"),
                frame(FlvCodec::Mp3, 46, 0, true, b"mp3"),
                config(FlvCodec::Hevc, b"config"),
                frame(FlvCodec::Hevc, 80, 5, true, b"key"),
                frame(FlvCodec::Hevc, 120, 0, false, b"inter"),
                unsupported(Kind::Video, "h263"),
                unsupported(Kind::Audio, "speex"),
            ]
        );
        for step in [1, 2, 7, 64] {
            assert_eq!(events(&all, step).unwrap(), whole);
        }
    }

    #[test]
    fn any_cut_and_any_flip_is_survived() {
        let all = stream();
        for at in 0..all.len() {
            events(&all[..at], 5).unwrap();
            for flip in [1, 0x80, 0xff] {
                let mut bad = all.clone();
                bad[at] ^= flip;
                // Whether it is still FLV depends on the byte; it must not panic or run on.
                let _ = events(&bad, 9);
            }
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(events(b"HTTP/1.1 404 Not Found", 4), Err(NotFlv));
        let mut all = stream();
        all.extend_from_slice(&[0x47; 11]);
        assert_eq!(events(&all, 100), Err(NotFlv));
    }
}
