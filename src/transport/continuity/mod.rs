//! Header-level continuity of coded pictures: H.264, HEVC, MPEG-2.

pub(super) mod bits;
mod h264;
mod hevc;
mod layout;
mod mpeg2;
#[cfg(test)]
mod tests;

use detectors::base::EvidenceKind;

use super::Codec;

/// Longest unit whose header may have been cut by the end of the bytes.
const CUT_HEADER: usize = 1024;

/// Something found in an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Damage, counted.
    Evidence(EvidenceKind, u32),
    /// Decoding is clean from this access unit on.
    RandomAccess,
    /// Coded picture size, from the sequence header or SPS, when new.
    Size {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// Follows one elementary stream, one access unit (or partial one) at a time.
///
/// What can be seen: in H.264, missing reference pictures (`frame_num`), a missing first slice, and other missing
/// slices where all pictures are cut alike; in HEVC, reference pictures that are missing from the set that a
/// picture declares, and slices as in H.264; in MPEG-2, any missing picture (`temporal_reference`) and missing
/// rows of slices. What cannot: damage inside slice data, and pictures in H.264 and HEVC that nothing refers to.
/// A missing slice, and in MPEG-2 a missing B picture, is told when a later picture begins.
///
/// Nothing is said of pictures before their parameter sets were seen, and a clean stream gives no evidence.
#[derive(Debug)]
pub struct Continuity {
    parser: Parser,
    /// End of the bytes so far: a header or start code that was cut.
    tail: Vec<u8>,
}

#[derive(Debug)]
enum Parser {
    H264(Box<h264::H264>),
    Hevc(Box<hevc::Hevc>),
    Mpeg2(Box<mpeg2::Mpeg2>),
}

impl Continuity {
    /// `None` for codecs without a header parser.
    pub fn new(codec: Codec) -> Option<Self> {
        let parser = match codec {
            Codec::H264 => Parser::H264(Box::default()),
            Codec::Hevc => Parser::Hevc(Box::default()),
            Codec::Mpeg2 => Parser::Mpeg2(Box::default()),
            _ => return None,
        };
        Some(Self {
            parser,
            tail: Vec::new(),
        })
    }

    /// Reads the headers of one access unit in byte-stream format. Several, or a part of one, will do too: a
    /// header may be cut between two calls.
    pub fn access_unit(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) {
        let mut tail = std::mem::take(&mut self.tail);
        if tail.is_empty() || bits::begins(bytes) {
            self.read(bytes, found);
        } else {
            tail.extend_from_slice(bytes);
            self.read(&tail, found);
        }
    }

    fn read(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) {
        let mut units = bits::units(bytes).peekable();
        while let Some(unit) = units.next() {
            let whole = match &mut self.parser {
                Parser::H264(p) => p.unit(unit, found),
                Parser::Hevc(p) => p.unit(unit, found),
                Parser::Mpeg2(p) => p.unit(unit, found),
            };
            if units.peek().is_none() && !whole && unit.len() < CUT_HEADER {
                self.tail.extend_from_slice(&[0, 0, 1]);
                self.tail.extend_from_slice(unit);
                return;
            }
        }
        self.tail.extend_from_slice(bits::cut_start(bytes));
    }

    /// Forgets what came before (discontinuity, reconnect); parameter sets stay.
    pub fn reset(&mut self) {
        self.tail.clear();
        match &mut self.parser {
            Parser::H264(p) => p.reset(),
            Parser::Hevc(p) => p.reset(),
            Parser::Mpeg2(p) => p.reset(),
        }
    }
}
