//! MPEG-1 and MPEG-2 video: `temporal_reference`, slice rows, random access (ITU-T H.262 6.3).

use detectors::base::EvidenceKind;

use super::Found;
use super::bits::Bits;

/// Largest height whose slice positions need no extension.
const PLAIN_HEIGHT: u32 = 2800;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Structure {
    TopField,
    BottomField,
    Frame,
}

#[derive(Debug)]
struct Picture {
    number: i32,
    /// 1 I, 2 P, 3 B.
    coding: u32,
    structure: Structure,
    /// Slices have begun: no more headers will come.
    counted: bool,
    rows: [u64; 3],
}

/// Sequence header and extension.
#[derive(Debug, Clone, Copy, Default)]
struct Sequence {
    width: u32,
    height: u32,
    /// MPEG-2: every row of macroblocks begins a slice.
    extended: bool,
    progressive: bool,
    low_delay: bool,
}

/// The pictures between two reference pictures.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Number of the reference picture shown before; `None` when it is not known.
    before: Option<i32>,
    /// Number of the newest reference picture.
    anchor: i32,
    between: i32,
    /// The newest reference picture is known only by the B pictures that need it.
    guessed: bool,
}

/// Follows one MPEG-1 or MPEG-2 video stream.
#[derive(Debug, Default)]
pub struct Mpeg2 {
    sequence: Option<Sequence>,
    /// The sequence header was read; its extension may follow.
    sequence_open: bool,
    size: Option<(u32, u32)>,
    picture: Option<Picture>,
    span: Option<Span>,
    /// First field of a frame waits for its second: number and structure.
    half: Option<(i32, Structure)>,
    /// A GOP header was read before the next picture; `true`: its leading B pictures may be absent.
    group: Option<bool>,
    groups_used: bool,
}

impl Mpeg2 {
    pub fn reset(&mut self) {
        self.picture = None;
        self.span = None;
        self.half = None;
        self.group = None;
    }

    /// Takes one unit; `false` when its header seems cut, and the unit may be given again with more bytes.
    pub fn unit(&mut self, unit: &[u8], found: &mut dyn FnMut(Found)) -> bool {
        let Some((&code, body)) = unit.split_first() else {
            return false;
        };
        // Of slices the start code says it all; of headers this much is read.
        let whole = matches!(code, 0x01..=0xAF) || body.len() >= 6;
        let mut b = Bits::new(body);
        match code {
            0x00 => {
                self.end_sequence_header(found);
                self.close(found);
                self.picture = picture(&mut b);
            }
            0x01..=0xAF => {
                self.end_sequence_header(found);
                self.count(b.u(5), found);
                if let Some(picture) = &mut self.picture {
                    let row = usize::from(code - 1);
                    if let Some(word) = picture.rows.get_mut(row / 64) {
                        *word |= 1 << (row % 64);
                    }
                }
            }
            0xB3 => {
                self.close(found);
                if let Some(header) = sequence(&mut b) {
                    let known = self.sequence.unwrap_or_default();
                    self.sequence = Some(Sequence {
                        width: header.0,
                        height: header.1,
                        ..known
                    });
                    self.sequence_open = true;
                }
            }
            0xB5 => {
                self.extension(&mut b);
            }
            0xB7 => {
                self.close(found);
                self.reset();
            }
            0xB8 => {
                self.end_sequence_header(found);
                self.close(found);
                if b.skip(25).is_some()
                    && let (Some(_closed), Some(broken)) = (b.flag(), b.flag())
                {
                    self.group = Some(broken);
                    self.groups_used = true;
                }
            }
            _ => {}
        }
        whole
    }

    fn extension(&mut self, b: &mut Bits<'_>) -> Option<()> {
        match b.u(4)? {
            1 if self.sequence_open => {
                b.u(8)?;
                let progressive = b.flag()?;
                b.u(2)?;
                let (x, y) = (b.u(2)?, b.u(2)?);
                b.skip(12 + 1 + 8)?;
                let low_delay = b.flag()?;
                let sequence = self.sequence.as_mut()?;
                *sequence = Sequence {
                    width: sequence.width & 0xFFF | x << 12,
                    height: sequence.height & 0xFFF | y << 12,
                    extended: true,
                    progressive,
                    low_delay,
                };
            }
            8 => {
                b.skip(18)?;
                let structure = match b.u(2)? {
                    1 => Structure::TopField,
                    2 => Structure::BottomField,
                    _ => Structure::Frame,
                };
                let picture = self.picture.as_mut().filter(|p| !p.counted)?;
                picture.structure = structure;
            }
            _ => {}
        }
        Some(())
    }

    /// The size is whole only behind the extension.
    fn end_sequence_header(&mut self, found: &mut dyn FnMut(Found)) {
        if !std::mem::take(&mut self.sequence_open) {
            return;
        }
        let Some(Sequence { width, height, .. }) = self.sequence else {
            return;
        };
        if self.size != Some((width, height)) && width > 0 && height > 0 {
            self.size = Some((width, height));
            found(Found::Size { width, height });
        }
    }

    /// All slices of a picture were seen: which rows of macroblocks have none?
    fn close(&mut self, found: &mut dyn FnMut(Found)) {
        let Some(picture) = self.picture.take() else {
            return;
        };
        let Some(sequence) = self.sequence.filter(|s| s.extended) else {
            return;
        };
        if !picture.counted || sequence.height > PLAIN_HEIGHT {
            return;
        }
        let rows = match (picture.structure, sequence.progressive) {
            (Structure::Frame, true) => sequence.height.div_ceil(16),
            (Structure::Frame, false) => sequence.height.div_ceil(32) * 2,
            _ => sequence.height.div_ceil(32),
        };
        let seen: u32 = picture.rows.iter().map(|w| w.count_ones()).sum();
        let missing = rows.saturating_sub(seen);
        if missing > 0 {
            found(Found::Earlier(EvidenceKind::BrokenSlice, missing));
        }
    }

    /// The first slice of a picture: its headers are complete.
    fn count(&mut self, quantiser: Option<u32>, found: &mut dyn FnMut(Found)) {
        let Some(picture) = self.picture.as_mut().filter(|p| !p.counted) else {
            return;
        };
        picture.counted = true;
        let Picture {
            number,
            coding,
            structure,
            ..
        } = *picture;
        match (self.half.take(), structure) {
            (Some((first, parity)), Structure::TopField | Structure::BottomField)
                if first == number && parity != structure =>
            {
                return;
            }
            (Some(_), _) if self.span.is_some() => {
                found(Found::Evidence(EvidenceKind::PictureNumberGap, 1));
            }
            _ => {}
        }
        if structure != Structure::Frame {
            self.half = Some((number, structure));
        }
        if coding == 3 {
            self.between(number, found);
        } else {
            self.anchor(number, coding == 1, found);
        }
        if coding == 1 {
            found(Found::RandomAccess);
            // Above, more of the row comes first.
            let plain = self.sequence.is_some_and(|s| s.height <= PLAIN_HEIGHT);
            if let Some(quantiser) = quantiser.filter(|_| plain) {
                found(Found::Quantiser(quantiser as i32));
            }
        }
    }

    fn between(&mut self, number: i32, found: &mut dyn FnMut(Found)) {
        let Some(span) = &mut self.span else { return };
        let ahead = number - span.anchor;
        if ahead > 0 && ahead < 512 {
            if span.guessed {
                span.anchor = number + 1;
            } else {
                // It is shown behind the newest reference picture, so another one was lost.
                let before = span.anchor;
                self.flush(false, found);
                found(Found::Evidence(EvidenceKind::PictureNumberGap, 1));
                self.span = Some(Span {
                    before: Some(before),
                    anchor: number + 1,
                    between: 1,
                    guessed: true,
                });
                return;
            }
        }
        span.between += 1;
    }

    /// Ends the present span: tells what was missing in it. An intra picture after it is not affected.
    fn flush(&mut self, intra: bool, found: &mut dyn FnMut(Found)) {
        let low_delay = self.sequence.is_some_and(|s| s.low_delay);
        if let Some(Span {
            before: Some(before),
            anchor,
            between,
            ..
        }) = self.span
            && !low_delay
        {
            let missing = (anchor - before - 1 - between).clamp(0, 512);
            if missing > 0 {
                let (kind, missing) = (EvidenceKind::PictureNumberGap, missing as u32);
                found(match intra {
                    true => Found::Earlier(kind, missing),
                    false => Found::Evidence(kind, missing),
                });
            }
        }
    }

    fn anchor(&mut self, number: i32, intra: bool, found: &mut dyn FnMut(Found)) {
        self.flush(intra, found);
        let group = self.group.take();
        let before = match (group, &self.span) {
            (_, None) | (Some(true), _) => None,
            (Some(false), Some(_)) => Some(-1),
            (None, Some(span)) => {
                // The counter wraps at 1024 where there are no GOP headers.
                let ahead = (number - span.anchor).rem_euclid(1024);
                if ahead > 0 && ahead < 512 {
                    Some(number - ahead)
                } else if intra || !self.groups_used {
                    None
                } else {
                    // It went back without a GOP header: that header and its I picture were lost.
                    found(Found::Evidence(EvidenceKind::PictureNumberGap, 1));
                    None
                }
            }
        };
        self.span = Some(Span {
            before,
            anchor: number,
            between: 0,
            guessed: false,
        });
    }
}

fn picture(b: &mut Bits<'_>) -> Option<Picture> {
    let number = b.u(10)? as i32;
    let coding = b.u(3).filter(|c| (1..=3).contains(c))?;
    Some(Picture {
        number,
        coding,
        structure: Structure::Frame,
        counted: false,
        rows: [0; 3],
    })
}

fn sequence(b: &mut Bits<'_>) -> Option<(u32, u32)> {
    Some((b.u(12)?, b.u(12)?))
}
