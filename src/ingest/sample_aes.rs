//! SAMPLE-AES of elementary streams (Apple, "MPEG-2 Stream Encryption Format for HTTP Live Streaming").
//!
//! AES-128-CBC inside each NAL unit of a picture and each frame of sound, beginning anew with the same vector; the
//! beginning of each stays clear, so that streams can be taken apart before they are decrypted.

use aes::Aes128;
use cbc::Decryptor;
use cbc::cipher::{Block, BlockModeDecrypt, KeyIvInit};

use super::keys::NamedKey;
use crate::transport::Codec;

const BLOCK: usize = 16;
/// Clear bytes of a NAL unit (2.2).
const NAL_CLEAR: usize = 32;
/// Of so many blocks of a NAL unit the first is encrypted.
const NAL_PATTERN: usize = 10;
/// Clear bytes of a frame of sound, behind an ADTS header (2.3).
const FRAME_CLEAR: usize = 16;
/// Enough of a frame to tell its length.
const FRAME_HEAD: usize = 7;

fn cipher(key: &NamedKey) -> Decryptor<Aes128> {
    Decryptor::new(key.key.bytes().into(), (&key.iv).into())
}

fn decrypt_block(cipher: &mut Decryptor<Aes128>, bytes: &mut [u8]) {
    if let Ok(block) = <&mut Block<Decryptor<Aes128>>>::try_from(bytes) {
        cipher.decrypt_block(block);
    }
}

/// Decrypts H.264 in byte-stream form, whole NAL units; gives it back with the number of bytes that were encrypted.
///
/// Units of slices (types 1 and 5) longer than 48 bytes carry emulation prevention twice: the outer one, put in after
/// encryption, is taken out.
pub fn pictures(bytes: &[u8], key: &NamedKey) -> (Vec<u8>, usize) {
    let mut clear = Vec::with_capacity(bytes.len());
    let mut decrypted = 0;
    let mut at = 0;
    while at < bytes.len() {
        let start = start_code(bytes, at).unwrap_or(bytes.len());
        let begin = (start + 3).min(bytes.len());
        clear.extend_from_slice(&bytes[at..begin]);
        if begin == bytes.len() {
            break;
        }
        let next = start_code(bytes, begin).unwrap_or(bytes.len());
        // Zeros before a start code belong to it.
        let zeros = bytes[begin..next].iter().rev().take_while(|b| **b == 0);
        let end = next - zeros.count();
        let unit = &bytes[begin..end];
        match unit.first() {
            Some(head) if matches!(head & 0x1f, 1 | 5) && unit.len() > NAL_CLEAR + BLOCK => {
                let from = clear.len();
                without_prevention(unit, &mut clear);
                decrypted += slice(&mut clear[from..], key);
            }
            _ => clear.extend_from_slice(unit),
        }
        at = end;
    }
    (clear, decrypted)
}

/// Place of the next `00 00 01`.
fn start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        match *bytes.get(at..)?.first_chunk::<3>()? {
            [0, 0, 1] => return Some(at),
            [_, _, third] if third > 1 => at += 3,
            _ => at += 1,
        }
    }
}

/// H.264, 7.4.1: takes `03` out of `00 00 03`.
fn without_prevention(unit: &[u8], out: &mut Vec<u8>) {
    let mut zeros = 0;
    for byte in unit {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
}

fn slice(unit: &mut [u8], key: &NamedKey) -> usize {
    let mut cipher = cipher(key);
    let mut decrypted = 0;
    let mut at = NAL_CLEAR;
    // The last block, whole or not, stays clear.
    while unit.len().saturating_sub(at) > BLOCK {
        decrypt_block(&mut cipher, &mut unit[at..at + BLOCK]);
        decrypted += BLOCK;
        at += BLOCK * NAL_PATTERN;
    }
    decrypted
}

/// A frame on its way.
struct Frame {
    left: usize,
    clear: usize,
    cipher: Decryptor<Aes128>,
    /// CRC of what follows the sync word, where the codec has one.
    crc: Option<u16>,
    taken: usize,
}

/// What has been decrypted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// In the order of the stream, up to a part of a block short of what came.
    pub bytes: Vec<u8>,
    /// Bytes that were encrypted.
    pub decrypted: usize,
    /// Frames that ended here with a right check sum, and with a wrong one, where the codec has one.
    pub intact: usize,
    /// See `intact`.
    pub broken: usize,
}

/// Decrypts ADTS AAC, AC-3 or E-AC-3, cut anywhere.
pub struct Sound {
    codec: Codec,
    /// Part of a head or a block.
    rest: Vec<u8>,
    frame: Option<Frame>,
}

impl Sound {
    /// For a stream of this codec.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            rest: Vec::new(),
            frame: None,
        }
    }

    /// Bytes are missing before what comes next: it begins with a frame.
    pub fn reset(&mut self) {
        self.rest.clear();
        self.frame = None;
    }

    /// Takes encrypted bytes. A new key holds from the next frame on.
    pub fn push(&mut self, bytes: &[u8], key: &NamedKey) -> Opened {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut opened = Opened::default();
        let mut rest = &mut all[..];
        while !rest.is_empty() {
            let Some(frame) = &mut self.frame else {
                if rest.len() < FRAME_HEAD {
                    break;
                }
                match frame_head(self.codec, rest) {
                    Some((size, clear)) => {
                        self.frame = Some(Frame {
                            left: size,
                            clear: clear.min(size),
                            cipher: cipher(key),
                            crc: (self.codec != Codec::AacAdts).then_some(0),
                            taken: 0,
                        });
                    }
                    None => {
                        opened.bytes.push(rest[0]);
                        rest = &mut rest[1..];
                    }
                }
                continue;
            };
            let size = match (frame.clear, frame.left) {
                (0, BLOCK..) if rest.len() < BLOCK => break,
                (0, BLOCK..) => {
                    decrypt_block(&mut frame.cipher, &mut rest[..BLOCK]);
                    opened.decrypted += BLOCK;
                    BLOCK
                }
                (0, left) => left.min(rest.len()),
                (clear, _) => {
                    let size = clear.min(rest.len());
                    frame.clear -= size;
                    size
                }
            };
            let (part, after) = rest.split_at_mut(size);
            if let Some(crc) = &mut frame.crc {
                let covered = part.get(2_usize.saturating_sub(frame.taken)..);
                *crc = crc_16(*crc, covered.unwrap_or_default());
            }
            frame.left -= size;
            frame.taken += size;
            opened.bytes.extend_from_slice(part);
            rest = after;
            if frame.left == 0 {
                match frame.crc {
                    Some(0) => opened.intact += 1,
                    Some(_) => opened.broken += 1,
                    None => {}
                }
                self.frame = None;
            }
        }
        self.rest = rest.to_vec();
        opened
    }
}

/// Length of the frame at the front, and of its clear beginning.
fn frame_head(codec: Codec, head: &[u8]) -> Option<(usize, usize)> {
    let size = match codec {
        Codec::AacAdts => adts_size(head)?,
        Codec::Ac3 | Codec::Eac3 => ac3_size(head)?,
        _ => return None,
    };
    let header = match codec {
        Codec::AacAdts if head.get(1)? & 1 == 0 => 9,
        Codec::AacAdts => 7,
        _ => 0,
    };
    (size >= header).then_some((size, header + FRAME_CLEAR))
}

/// `aac_frame_length` (ISO/IEC 14496-3, 1.A.2.2).
fn adts_size(head: &[u8]) -> Option<usize> {
    let [a, b, _, d, e, f, ..] = *head else {
        return None;
    };
    let length = usize::from(d & 3) << 11 | usize::from(e) << 3 | usize::from(f >> 5);
    (a == 0xff && b & 0xf6 == 0xf0 && length >= 7).then_some(length)
}

/// Bytes of a sync frame of AC-3 or E-AC-3 (ETSI TS 102 366, 4.4.1.4 and E.1.3.1.3).
fn ac3_size(head: &[u8]) -> Option<usize> {
    const KBPS: [usize; 19] = [
        32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
    ];
    let [0x0b, 0x77, c, d, e, f, ..] = *head else {
        return None;
    };
    if f >> 3 > 10 {
        return Some(2 * (usize::from(c & 7) << 8 | usize::from(d)) + 2);
    }
    let kbps = *KBPS.get(usize::from(e & 0x3f) / 2)?;
    match e >> 6 {
        0 => Some(kbps * 4),
        1 => Some(2 * (kbps * 15_360 / 7_056 + usize::from(e & 1))),
        2 => Some(kbps * 6),
        _ => None,
    }
}

/// CRC-16 of AC-3 (polynomial x^16 + x^15 + x^2 + 1, most significant bit first); 0 over a whole frame.
fn crc_16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            (crc << 1) ^ if crc & 0x8000 != 0 { 0x8005 } else { 0 }
        })
    })
}

/// Whether a whole frame of AC-3 or E-AC-3 holds its check sum; `None` for what is none.
pub fn intact(frame: &[u8]) -> Option<bool> {
    let whole = frame.get(..ac3_size(frame)?)?;
    Some(crc_16(0, whole.get(2..)?) == 0)
}

#[cfg(test)]
#[path = "sample_aes_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
