//! Program specific information: sections, PAT, PMT, CAT (ISO/IEC 13818-1 2.4.4; descriptors of EN 300 468 and
//! ATSC A/52).

use detectors::base::Kind;

use super::TsTrack;
use crate::transport::Codec;

/// Table id of a PMT.
pub const PMT: u8 = 0x02;
/// Table id of a CAT.
pub const CAT: u8 = 0x01;
/// Table id of splice information.
pub const SPLICE: u8 = 0xFC;
/// Table id of a TOT.
const TOT: u8 = 0x73;
/// Longest section of any table.
const MAX_SECTION: usize = 4096;
/// Stream type of splice information (SCTE 35).
const SPLICE_STREAM: u8 = 0x86;
/// Splice streams followed in a program.
const MAX_SPLICE_PIDS: usize = 4;
/// Most tracks followed in a program.
pub const MAX_TRACKS: usize = 64;

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

/// CRC-32 of MPEG-2 systems; over a section with its CRC it is 0.
pub fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &b| {
        let at = usize::from((crc >> 24) as u8 ^ b);
        (crc << 8) ^ CRC_TABLE[at]
    })
}

/// Collects the sections of one PID.
#[derive(Debug, Default)]
pub struct Sections {
    held: Vec<u8>,
    open: bool,
    /// Sections with a wrong CRC since they were last asked for.
    flawed: u32,
}

impl Sections {
    /// How many sections had a wrong CRC since the last call.
    pub fn take_flawed(&mut self) -> u32 {
        std::mem::take(&mut self.flawed)
    }

    /// Forgets a half section (packets were lost).
    pub fn abort(&mut self) {
        self.held.clear();
        self.open = false;
    }

    /// Takes a packet's payload; tells every whole section whose CRC is right, and those that have none.
    pub fn push(&mut self, payload: &[u8], start: bool, found: &mut dyn FnMut(&[u8])) {
        let mut rest = payload;
        if start {
            let Some((&pointer, after)) = payload.split_first() else {
                return;
            };
            let Some((tail, fresh)) = after.split_at_checked(usize::from(pointer)) else {
                return self.abort();
            };
            if self.open {
                self.extend(tail, found);
            }
            self.abort();
            self.open = true;
            rest = fresh;
        }
        if self.open {
            self.extend(rest, found);
        }
    }

    fn extend(&mut self, mut bytes: &[u8], found: &mut dyn FnMut(&[u8])) {
        while !bytes.is_empty() {
            if self.held.is_empty() && bytes[0] == 0xFF {
                return self.abort();
            }
            let want = match self.held.get(1..3) {
                Some(&[a, b]) => 3 + (usize::from(a & 0x0F) << 8 | usize::from(b)),
                _ => 3,
            };
            if want > MAX_SECTION {
                return self.abort();
            }
            let take = (want - self.held.len()).min(bytes.len());
            self.held.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            let whole = want > 3 && self.held.len() == want;
            let empty =
                want == 3 && self.held.len() == 3 && self.held[1] & 0x0F == 0 && self.held[2] == 0;
            if whole {
                // The short form has no CRC, except in these two tables.
                let checked = self.held[1] & 0x80 != 0 || matches!(self.held[0], SPLICE | TOT);
                match checked && crc32(&self.held) != 0 {
                    true => self.flawed += 1,
                    false => found(&self.held),
                }
            }
            if whole || empty {
                self.held.clear();
            }
        }
    }
}

/// One program that a PAT lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatEntry {
    pub program: u16,
    pub pmt_pid: u16,
}

/// A PAT section that applies now.
#[derive(Debug, PartialEq, Eq)]
pub struct Pat {
    pub version: u8,
    pub transport: u16,
    pub entries: Vec<PatEntry>,
    /// Where the NIT comes.
    pub network_pid: Option<u16>,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*pair))
}

/// Long-form section with table id and `current_next_indicator`: its body between header and CRC.
fn body(section: &[u8], table: u8) -> Option<&[u8]> {
    let head = section.first_chunk::<8>()?;
    let applies = head[0] == table && head[1] & 0x80 != 0 && head[5] & 1 == 1;
    applies
        .then(|| section.get(8..section.len().checked_sub(4)?))
        .flatten()
}

/// Reads a PAT section.
pub fn pat(section: &[u8]) -> Option<Pat> {
    let body = body(section, 0)?;
    let (networks, entries): (Vec<_>, Vec<_>) = body
        .chunks_exact(4)
        .filter_map(|c| {
            Some(PatEntry {
                program: be16(c, 0)?,
                pmt_pid: be16(c, 2)? & 0x1FFF,
            })
        })
        .filter(|e| (0x10..0x1FFF).contains(&e.pmt_pid))
        // Program 0 is the network PID.
        .partition(|e| e.program == 0);
    Some(Pat {
        version: section.get(5)? >> 1 & 0x1F,
        transport: be16(section, 3)?,
        entries,
        network_pid: networks.first().map(|n| n.pmt_pid),
    })
}

/// A PMT section that applies now.
#[derive(Debug, PartialEq, Eq)]
pub struct Pmt {
    pub program: u16,
    pub pcr_pid: u16,
    pub tracks: Vec<TsTrack>,
    /// Every PID that it refers to: clock, streams of any kind, entitlements.
    pub pids: Vec<u16>,
    /// Where splice information (SCTE 35) comes.
    pub splice_pids: Vec<u16>,
}

/// Reads a PMT section; entries that are neither pictures nor sound are no tracks.
pub fn pmt(section: &[u8]) -> Option<Pmt> {
    let body = body(section, PMT)?;
    let info = usize::from(be16(body, 2)? & 0x0FFF);
    let program_descriptors = body.get(4..4 + info)?;
    let mut rest = body.get(4 + info..)?;
    let pcr_pid = be16(body, 0)? & 0x1FFF;
    let disc = registration(program_descriptors) == Some(*b"HDMV");
    let mut tracks: Vec<TsTrack> = Vec::new();
    let mut pids = vec![pcr_pid];
    pids.extend(entitlements(program_descriptors));
    let mut splice_pids = Vec::new();
    while rest.len() >= 5 && tracks.len() < MAX_TRACKS {
        let pid = be16(rest, 1)? & 0x1FFF;
        let length = usize::from(be16(rest, 3)? & 0x0FFF);
        let descriptors = rest.get(5..5 + length)?;
        if let Some(track) = track(rest[0], pid, program_descriptors, descriptors)
            && (0x10..0x1FFF).contains(&pid)
            && tracks.iter().all(|t| t.pid != pid)
        {
            tracks.push(track);
        }
        pids.push(pid);
        pids.extend(entitlements(descriptors));
        if rest[0] == SPLICE_STREAM && !disc && splice_pids.len() < MAX_SPLICE_PIDS {
            splice_pids.push(pid);
        }
        rest = &rest[5 + length..];
    }
    Some(Pmt {
        program: be16(section, 3)?,
        pcr_pid,
        tracks,
        pids,
        splice_pids,
    })
}

/// Reads a CAT section: where entitlement messages come.
pub fn cat(section: &[u8]) -> Option<Vec<u16>> {
    Some(entitlements(body(section, CAT)?).collect())
}

/// PIDs of CA descriptors.
fn entitlements(bytes: &[u8]) -> impl Iterator<Item = u16> {
    descriptors(bytes)
        .filter(|(tag, _)| *tag == 0x09)
        .filter_map(|(_, content)| Some(be16(content, 2)? & 0x1FFF))
}

/// Descriptors: tag and content.
fn descriptors(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[tag, length], rest) = bytes.split_first_chunk::<2>()?;
        let (content, rest) = rest.split_at_checked(usize::from(length))?;
        bytes = rest;
        Some((tag, content))
    })
}

fn registration(bytes: &[u8]) -> Option<[u8; 4]> {
    descriptors(bytes)
        .find_map(|(tag, content)| (tag == 0x05).then(|| content.first_chunk::<4>().copied())?)
}

fn track(stream_type: u8, pid: u16, of_program: &[u8], own: &[u8]) -> Option<TsTrack> {
    let (kind, codec, what) = what(stream_type, registration(of_program), own)?;
    let name = match registration(own) {
        Some(id) => format!(
            "{what}, stream type 0x{stream_type:02X} \"{}\"",
            id.escape_ascii()
        ),
        None => format!("{what}, stream type 0x{stream_type:02X}"),
    };
    let language = descriptors(own).find_map(|(tag, content)| {
        let code = content.first_chunk::<3>().filter(|_| tag == 0x0A)?;
        let word = code.iter().all(u8::is_ascii_alphabetic);
        word.then(|| {
            code.iter()
                .map(|b| char::from(b.to_ascii_lowercase()))
                .collect()
        })
    });
    Some(TsTrack {
        pid,
        kind,
        codec,
        name,
        language,
        channels: opus_channels(own),
        // Apple, "MPEG-2 Stream Encryption Format for HTTP Live Streaming", 3.0.
        encrypted: matches!(stream_type, 0xC1 | 0xC2 | 0xCF | 0xDB),
    })
}

/// Kind, codec and name of a stream type; `None` for what is neither pictures nor sound.
fn what(
    stream_type: u8,
    of_program: Option<[u8; 4]>,
    own: &[u8],
) -> Option<(Kind, Option<Codec>, &'static str)> {
    use Kind::{Audio, Video};
    Some(match stream_type {
        0x01 => (Video, Some(Codec::Mpeg2), "MPEG-1 video"),
        0x02 => (Video, Some(Codec::Mpeg2), "MPEG-2 video"),
        0x03 | 0x04 => (Audio, Some(Codec::MpegAudio), "MPEG audio"),
        0x06 => return private(own),
        0x0F => (Audio, Some(Codec::AacAdts), "AAC (ADTS)"),
        0x10 => (Video, None, "MPEG-4 part 2"),
        0x11 => (Audio, Some(Codec::AacLatm), "AAC (LATM)"),
        0x1B => (Video, Some(Codec::H264), "H.264"),
        0x1C => (Audio, None, "MPEG-4 audio without transport syntax"),
        0x21 => (Video, None, "JPEG 2000"),
        0x24 => (Video, Some(Codec::Hevc), "HEVC"),
        0x2D => (Audio, None, "MPEG-H 3D audio"),
        0x32 => (Video, None, "JPEG XS"),
        0x33 => (Video, None, "VVC"),
        0x42 | 0xD2 | 0xD4 => (Video, None, "AVS"),
        0x80 if of_program == Some(*b"HDMV") => (Audio, None, "LPCM"),
        0x81 => (Audio, Some(Codec::Ac3), "AC-3"),
        0x82 | 0x85 | 0x86 if of_program == Some(*b"HDMV") => (Audio, None, "DTS"),
        0x83 if of_program == Some(*b"HDMV") => (Audio, None, "TrueHD"),
        0x84 if of_program == Some(*b"HDMV") => (Audio, Some(Codec::Eac3), "E-AC-3"),
        0x87 => (Audio, Some(Codec::Eac3), "E-AC-3"),
        0xC1 => (Audio, Some(Codec::Ac3), "AC-3, encrypted (SAMPLE-AES)"),
        0xC2 => (Audio, Some(Codec::Eac3), "E-AC-3, encrypted (SAMPLE-AES)"),
        0xCF => (Audio, Some(Codec::AacAdts), "AAC, encrypted (SAMPLE-AES)"),
        0xDB => (Video, Some(Codec::H264), "H.264, encrypted (SAMPLE-AES)"),
        0xEA => (Video, None, "VC-1"),
        _ => return None,
    })
}

/// PES private data: only its descriptors say what it is.
fn private(own: &[u8]) -> Option<(Kind, Option<Codec>, &'static str)> {
    use Kind::{Audio, Video};
    descriptors(own).find_map(|(tag, content)| {
        Some(match tag {
            0x05 => match content.first_chunk::<4>()? {
                b"AC-3" => (Audio, Some(Codec::Ac3), "AC-3"),
                b"EAC3" => (Audio, Some(Codec::Eac3), "E-AC-3"),
                b"Opus" => (Audio, Some(Codec::Opus), "Opus"),
                b"HEVC" => (Video, Some(Codec::Hevc), "HEVC"),
                b"AV01" => (Video, None, "AV1"),
                b"VVC " => (Video, None, "VVC"),
                b"AC-4" => (Audio, None, "AC-4"),
                b"BSSD" => (Audio, None, "SMPTE 302M"),
                b"DTS1" | b"DTS2" | b"DTS3" => (Audio, None, "DTS"),
                _ => return None,
            },
            0x6A => (Audio, Some(Codec::Ac3), "AC-3"),
            0x7A => (Audio, Some(Codec::Eac3), "E-AC-3"),
            0x7B => (Audio, None, "DTS"),
            0x7C => (Audio, Some(Codec::AacAdts), "AAC"),
            0x7F if content.first() == Some(&0x15) => (Audio, None, "AC-4"),
            _ => return None,
        })
    })
}

/// Channel count of the Opus extension descriptor; code 0 is dual mono.
fn opus_channels(own: &[u8]) -> Option<u8> {
    if registration(own) != Some(*b"Opus") {
        return None;
    }
    descriptors(own).find_map(|(tag, content)| match (tag, content) {
        (0x7F, [0x80, 0, ..]) => Some(2),
        (0x7F, [0x80, code @ 1..=8, ..]) => Some(*code),
        _ => None,
    })
}
