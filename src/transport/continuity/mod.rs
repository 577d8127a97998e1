//! Continuity of coded pictures by their headers, and in HEVC by slice data: H.264, HEVC, MPEG-2.

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
    /// The same in the access unit before: it is told when a later picture begins.
    Earlier(EvidenceKind, u32),
    /// Decoding is clean from this access unit on.
    RandomAccess,
    /// The same access unit is an intra picture, whose first slice says this: QP (of 8 bits a sample, 0 to 51), or of MPEG-2
    /// `quantiser_scale_code`.
    Quantiser(i32),
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
/// picture declares, slices as in H.264, and slices whose data is damaged (it is parsed, not decoded); in MPEG-2, any
/// missing picture (`temporal_reference`) and missing rows of slices. What cannot: damage inside slice data of H.264
/// and MPEG-2, and of HEVC with PCM samples or extensions of the standard in use; in HEVC, turned bits that no parsing
/// hangs upon (signs of coefficients); pictures in H.264 and HEVC that nothing refers to.
/// A missing slice, and in MPEG-2 a missing B picture, is told when a later picture begins.
///
/// Nothing is said of pictures before their parameter sets were seen, and a clean stream gives no evidence.
#[derive(Debug)]
pub struct Continuity {
    parser: Parser,
    /// End of the bytes so far: a header or start code that was cut.
    tail: Vec<u8>,
    /// Whether any slice of the newest access unit may be referred to; `None` without a slice.
    referred: Option<bool>,
}

#[derive(Debug)]
enum Parser {
    H264(Box<h264::H264>),
    Hevc(Box<hevc::Hevc>),
    Mpeg2(Box<mpeg2::Mpeg2>),
}

impl Parser {
    /// Whether other pictures may refer to the one that this unit begins or belongs to; `None` for other units.
    fn is_referred(&self, unit: &[u8]) -> Option<bool> {
        let &header = unit.first()?;
        match self {
            // nal_ref_idc (7.4.1).
            Parser::H264(_) => matches!(header & 0x1F, 1..=5).then_some(header & 0x60 != 0),
            // Sub-layer non-reference pictures have even types below 16 (table 7-1).
            Parser::Hevc(_) => match header >> 1 & 0x3F {
                kind @ 0..16 => Some(kind % 2 == 1),
                16..32 => Some(true),
                _ => None,
            },
            // picture_coding_type of a picture header: B (6.2.3).
            Parser::Mpeg2(_) if header == 0 => unit.get(2).map(|b| b >> 3 & 7 != 3),
            Parser::Mpeg2(_) => None,
        }
    }
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
            referred: None,
        })
    }

    /// Whether no other picture refers to the newest access unit: what is wrong with it ends with it.
    pub fn is_disposable(&self) -> bool {
        self.referred == Some(false)
    }

    /// Reads one access unit in byte-stream format, in clear. Several, or a part of one, will do too: a
    /// header may be cut between two calls.
    pub fn access_unit(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) {
        self.referred = None;
        let mut tail = std::mem::take(&mut self.tail);
        if let Parser::Hevc(p) = &mut self.parser {
            p.goes_on(bits::begins(bytes), found);
        }
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
            if let Some(referred) = self.parser.is_referred(unit) {
                self.referred = Some(referred | self.referred.unwrap_or(false));
            }
            let whole = match &mut self.parser {
                Parser::H264(p) => p.unit(unit, found),
                Parser::Hevc(p) => p.unit(unit, units.peek().is_some(), found),
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

    /// Sound and failed walks of slice data so far, and whether walking ended.
    #[cfg(test)]
    pub fn walked(&self) -> (u32, u32, bool) {
        match &self.parser {
            Parser::Hevc(p) => p.walked(),
            _ => (0, 0, false),
        }
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
