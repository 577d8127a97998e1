//! One segment on its way into a converter: decrypted, its container told from its bytes, cut into feeds.

use bytes::{Bytes, BytesMut};

use crate::ingest::convert::{Container, Feed};
use crate::ingest::crypt::SegmentDecryptor;
use crate::transport::boxes::header;
use crate::transport::webm::looks_like_webm;

/// Enough to see three TS packets in a row.
pub(in crate::ingest::source) const HEAD_BYTES: usize = 3 * 188;

/// Nothing in the bytes is a container that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotMedia;

/// A segment that is being read, over as many requests as it takes.
pub(super) struct Piece {
    /// Bytes received so far, as they are on the wire; where a further request goes on.
    pub received: u64,
    decryptor: Option<SegmentDecryptor>,
    discontinuity: bool,
    container: Option<Container>,
    /// Not yet handed on: the head until the container is known, then (fMP4) everything.
    held: BytesMut,
    /// Something has been handed on.
    pub begun: bool,
    /// Clear bytes that came as parts.
    parts: u64,
    /// Clear bytes of the whole that have come as parts already, and are passed over.
    known: u64,
}

/// Initialisation section to feed before a segment.
pub(super) struct InitFeed<'a> {
    /// From `EXT-X-MAP`.
    pub bytes: Option<&'a Bytes>,
    /// The one this input was fed last.
    pub fed: &'a mut Option<Bytes>,
}

impl Piece {
    pub fn new(discontinuity: bool) -> Self {
        Self {
            received: 0,
            decryptor: None,
            discontinuity,
            container: None,
            held: BytesMut::new(),
            begun: false,
            parts: 0,
            known: 0,
        }
    }

    /// Takes a whole part of the segment, encrypted by itself if at all, and gives what can be fed. Nothing is taken
    /// of a part that is no media.
    pub fn push_part(
        &mut self,
        bytes: Bytes,
        init: &mut InitFeed<'_>,
    ) -> Result<Vec<Feed>, NotMedia> {
        let clear = match self.decryptor.take() {
            None => bytes,
            Some(mut decryptor) => {
                let head = decryptor.push(&bytes);
                let tail = decryptor.finish().map_err(|_| NotMedia)?;
                [head, tail].concat().into()
            }
        };
        let Layout { init_end, end } = layout(&clear);
        let own = match self.container {
            // It may begin with any box.
            Some(Container::FragmentedMp4) => Container::FragmentedMp4,
            known => container(&clear)
                .filter(|own| known.is_none_or(|known| known == *own))
                .ok_or(NotMedia)?,
        };
        if own == Container::FragmentedMp4 && end <= init_end {
            return Err(NotMedia);
        }
        self.parts += clear.len() as u64;
        let mut feeds = self.take(clear, init, Stage::Complete)?;
        if own == Container::FragmentedMp4 {
            feeds.extend(self.fragments(Stage::Complete, init)?);
        }
        Ok(feeds)
    }

    /// The rest comes from the whole segment, of which the parts so far are the beginning.
    pub fn go_on_whole(&mut self) {
        self.known = self.parts.saturating_sub(self.held.len() as u64);
        self.held.clear();
        self.decryptor = None;
        self.received = 0;
    }

    /// Whether a decryptor is at work.
    pub fn decrypts(&self) -> bool {
        self.decryptor.is_some()
    }

    /// Whether what came is known to be media.
    pub fn is_media(&self) -> bool {
        self.container.is_some()
    }

    /// What follows is encrypted.
    pub fn decrypt_with(&mut self, decryptor: SegmentDecryptor) {
        self.decryptor = Some(decryptor);
    }

    /// Takes bytes from the wire and gives what can be fed now.
    pub fn push(&mut self, bytes: Bytes, init: &mut InitFeed<'_>) -> Result<Vec<Feed>, NotMedia> {
        self.received += bytes.len() as u64;
        let clear = match &mut self.decryptor {
            Some(decryptor) => decryptor.push(&bytes),
            None => bytes,
        };
        let clear = self.unknown(clear);
        self.take(clear, init, Stage::More)
    }

    /// All has arrived (`Stage::Complete`) or no more will (`Stage::CutShort`): gives the rest, ended.
    pub fn finish(&mut self, stage: Stage, init: &mut InitFeed<'_>) -> Result<Vec<Feed>, NotMedia> {
        let mut truncated = stage == Stage::CutShort;
        let rest = match self.decryptor.take().map(SegmentDecryptor::finish) {
            None => Bytes::new(),
            Some(Ok(rest)) => rest,
            Some(Err(_)) => {
                truncated = true;
                Bytes::new()
            }
        };
        let rest = self.unknown(rest);
        let mut feeds = self.take(rest, init, stage)?;
        if self.container == Some(Container::FragmentedMp4) {
            feeds.extend(self.fragments(stage, init)?);
            truncated |= !is_appendix(&self.held);
        }
        if self.begun {
            feeds.push(Feed::End { truncated });
        }
        Ok(feeds)
    }

    fn unknown(&mut self, mut clear: Bytes) -> Bytes {
        let known = usize::try_from(self.known).map_or(clear.len(), |n| n.min(clear.len()));
        self.known -= known as u64;
        clear.split_off(known)
    }

    fn take(
        &mut self,
        clear: Bytes,
        init: &mut InitFeed<'_>,
        stage: Stage,
    ) -> Result<Vec<Feed>, NotMedia> {
        match self.container {
            Some(Container::FragmentedMp4) => {
                self.held.extend_from_slice(&clear);
                self.fragments(Stage::More, init)
            }
            Some(_) if clear.is_empty() => Ok(Vec::new()),
            Some(_) => Ok(vec![Feed::Data(clear)]),
            None => {
                self.held.extend_from_slice(&clear);
                if self.held.len() < HEAD_BYTES && stage == Stage::More {
                    return Ok(Vec::new());
                }
                let container = container(&self.held).ok_or(NotMedia)?;
                self.container = Some(container);
                if container == Container::FragmentedMp4 {
                    return self.fragments(Stage::More, init);
                }
                let mut feeds = vec![self.begin(container, None)];
                // TS tables and WebM headers may come as an initialisation section too.
                if let Some(tables) = init.bytes
                    && (self.discontinuity || init.fed.as_ref() != Some(tables))
                {
                    *init.fed = Some(tables.clone());
                    feeds.push(Feed::Data(tables.clone()));
                }
                feeds.push(Feed::Data(self.held.split().freeze()));
                Ok(feeds)
            }
        }
    }

    fn begin(&mut self, container: Container, init: Option<Bytes>) -> Feed {
        self.begun = true;
        Feed::Begin {
            container,
            init,
            discontinuity: self.discontinuity,
        }
    }

    /// Feeds the whole fragments that are held, as they become complete: a segment may arrive while it is made.
    fn fragments(&mut self, stage: Stage, init: &mut InitFeed<'_>) -> Result<Vec<Feed>, NotMedia> {
        let Layout { init_end, end } = layout_at(&self.held, stage);
        if end <= init_end {
            return match stage == Stage::More || self.begun {
                true => Ok(Vec::new()),
                false => Err(NotMedia),
            };
        }
        let whole = self.held.split_to(end).freeze();
        if self.begun {
            return Ok(vec![Feed::Data(whole)]);
        }
        let own = (init_end > 0).then(|| whole.slice(..init_end));
        let wanted = own.or_else(|| init.bytes.cloned());
        let changed = self.discontinuity || *init.fed != wanted;
        let fed = wanted.clone().filter(|_| changed);
        *init.fed = wanted;
        let begin = self.begin(Container::FragmentedMp4, fed);
        Ok(vec![begin, Feed::Data(whole.slice(init_end..))])
    }
}

/// How much of a segment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// More is to come.
    More,
    /// All of it.
    Complete,
    /// It broke off.
    CutShort,
}

/// Tells a container from the first bytes of a segment, never from its name.
pub(in crate::ingest::source) fn container(head: &[u8]) -> Option<Container> {
    const BOXES: [&[u8]; 11] = [
        b"ftyp", b"styp", b"moof", b"sidx", b"moov", b"emsg", b"prft", b"free", b"skip", b"uuid",
        b"mdat",
    ];
    let sync_at =
        |at: usize| (0..3).all(|n| head.get(at + n * 188).map_or(n > 0, |byte| *byte == 0x47));
    if head.get(4..8).is_some_and(|kind| BOXES.contains(&kind)) {
        return Some(Container::FragmentedMp4);
    }
    if sync_at(0) {
        return Some(Container::MpegTs);
    }
    if looks_like_webm(head) {
        return Some(Container::Webm);
    }
    let packed = match head {
        [b'I', b'D', b'3', ..] | [0x0b, 0x77, ..] => true,
        // ADTS or MPEG audio: twelve or eleven sync bits, and a layer that exists.
        [0xff, second, ..] => second & 0xf6 == 0xf0 || (second & 0xe0 == 0xe0 && second & 6 != 0),
        _ => false,
    };
    if packed {
        return Some(Container::PackedAudio);
    }
    let later = (1..188).any(|at| head.len() > at + 2 * 188 && sync_at(at));
    later.then_some(Container::MpegTs)
}

/// Whether whole boxes without media, such as an index, are all that is left.
fn is_appendix(mut rest: &[u8]) -> bool {
    while let Some((size, kind)) = box_size(rest).zip(rest.get(4..8)) {
        match rest.get(size..) {
            Some(next) if kind != b"moof" => rest = next,
            _ => return false,
        }
    }
    rest.is_empty()
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::ingest::source) struct Layout {
    /// End of a `moov` that comes before the first fragment, or 0.
    pub init_end: usize,
    /// End of the last whole `mdat` (or of the initialisation section).
    pub end: usize,
}

/// Finds the whole fragments among top-level boxes (ISO/IEC 14496-12, 4.2).
pub(in crate::ingest::source) fn layout(bytes: &[u8]) -> Layout {
    layout_at(bytes, Stage::Complete)
}

fn layout_at(bytes: &[u8], stage: Stage) -> Layout {
    let mut found = Layout {
        init_end: 0,
        end: 0,
    };
    let mut fragment = false;
    let mut at = 0;
    while let Some(size) = box_size(&bytes[at..]) {
        // A box that reaches to the end is whole at the end only.
        if stage == Stage::More && bytes[at..].starts_with(&[0; 4]) {
            break;
        }
        let kind = &bytes[at + 4..at + 8];
        let Some(next) = at.checked_add(size).filter(|next| *next <= bytes.len()) else {
            break;
        };
        at = next;
        match kind {
            b"moov" if !fragment => (found.init_end, found.end) = (at, at),
            b"moof" => fragment = true,
            b"mdat" if fragment => found.end = at,
            _ => {}
        }
    }
    found
}

/// Size of the box at the start of `bytes`; `None` without a whole, sane header.
pub(in crate::ingest::source) fn box_size(bytes: &[u8]) -> Option<usize> {
    let size = header(bytes)?.size;
    size.map_or(Some(bytes.len()), |size| usize::try_from(size).ok())
}

/// Feeds a segment that comes in chunks of that size.
#[cfg(any(test, fuzzing))]
fn feed_all(
    bytes: &[u8],
    size: usize,
    init: Option<&Bytes>,
    stage: Stage,
) -> Result<Vec<Feed>, NotMedia> {
    let mut piece = Piece::new(false);
    let mut fed = None;
    let mut init = InitFeed {
        bytes: init,
        fed: &mut fed,
    };
    let mut feeds = Vec::new();
    for chunk in bytes.chunks(size) {
        feeds.extend(piece.push(Bytes::copy_from_slice(chunk), &mut init)?);
    }
    feeds.extend(piece.finish(stage, &mut init)?);
    Ok(feeds)
}

/// Bytes of media that a segment in chunks of that size feeds.
#[cfg(any(test, fuzzing))]
pub(crate) fn segment_pieces(bytes: &[u8], size: usize, init: Option<&Bytes>) -> usize {
    let feeds = feed_all(bytes, size, init, Stage::Complete).unwrap_or_default();
    let size = |feed: &Feed| match feed {
        Feed::Data(bytes) => bytes.len(),
        _ => 0,
    };
    feeds.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn mp4_box(kind: &[u8; 4], payload: usize) -> Vec<u8> {
        let mut out = (8 + payload as u32).to_be_bytes().to_vec();
        out.extend_from_slice(kind);
        out.resize(8 + payload, 0);
        out
    }

    #[test]
    fn containers_are_told_by_their_bytes() {
        let mut ts = vec![0; 188 * 3];
        for at in [0, 188, 376] {
            ts[at] = 0x47;
        }
        assert_eq!(container(&ts), Some(Container::MpegTs));
        let shifted = [&[1, 2, 3][..], &ts].concat();
        assert_eq!(container(&shifted), Some(Container::MpegTs));
        ts[188] = 0;
        assert_eq!(container(&ts), None);
        assert_eq!(
            container(&mp4_box(b"styp", 8)),
            Some(Container::FragmentedMp4)
        );
        for audio in [
            &b"ID3\x04"[..],
            &[0xff, 0xf1, 0x50],
            &[0xff, 0xfb],
            &[0x0b, 0x77],
        ] {
            assert_eq!(container(audio), Some(Container::PackedAudio));
        }
        for other in [&b""[..], b"WEBVTT\n", b"<html><body>", &[0xff, 0xe0]] {
            assert_eq!(container(other), None);
        }
    }

    #[test]
    fn only_whole_fragments_are_fed() {
        let init = [mp4_box(b"ftyp", 8), mp4_box(b"moov", 90)].concat();
        let one = [mp4_box(b"moof", 60), mp4_box(b"mdat", 500)].concat();
        let all = [mp4_box(b"styp", 8), one.clone(), one.clone()].concat();
        let cut = &all[..all.len() - 1];
        let init_bytes = Bytes::from(init.clone());
        let feeds = feed_all(cut, 100, Some(&init_bytes), Stage::CutShort).unwrap();
        let [
            Feed::Begin { init: fed, .. },
            Feed::Data(data),
            Feed::End { truncated: true },
        ] = &feeds[..]
        else {
            panic!("{feeds:?}")
        };
        assert_eq!(fed.as_ref(), Some(&init_bytes));
        assert_eq!(data.len(), 16 + one.len());
        // A segment that brings its own initialisation section.
        let own = [init.clone(), one.clone()].concat();
        let feeds = feed_all(&own, 100, None, Stage::Complete).unwrap();
        let [
            Feed::Begin { init: fed, .. },
            Feed::Data(data),
            Feed::End { truncated: false },
        ] = &feeds[..]
        else {
            panic!("{feeds:?}")
        };
        assert_eq!(
            (fed.as_ref().unwrap().len(), data.len()),
            (init.len(), one.len())
        );
        assert!(feed_all(&one[..300], 100, None, Stage::CutShort).is_err());
        // An index behind the fragments is no cut; a fragment without its media is one.
        for (kind, cut) in [(b"mfra", false), (b"moof", true)] {
            let all = [own.clone(), mp4_box(kind, 62)].concat();
            let feeds = feed_all(&all, 100, None, Stage::Complete).unwrap();
            let Some(Feed::End { truncated }) = feeds.last() else {
                panic!("{feeds:?}")
            };
            assert_eq!(*truncated, cut);
        }
    }

    #[test]
    fn parts_are_fed_as_they_come_and_the_whole_goes_on_behind_them() {
        let fragment = |n| [mp4_box(b"moof", 60), mp4_box(b"mdat", n)].concat();
        let [one, two, three] = [fragment(500), fragment(600), fragment(700)].map(Bytes::from);
        let mut ts = vec![0; 188 * 4];
        for at in 0..4 {
            ts[at * 188] = 0x47;
        }
        let ts = Bytes::from(ts);
        for parts in [
            [one, two, three],
            [ts.slice(..188), ts.slice(188..376), ts.slice(376..)],
        ] {
            let whole = parts.concat();
            let mut fed = None;
            let mut init = InitFeed {
                bytes: None,
                fed: &mut fed,
            };
            let mut piece = Piece::new(true);
            let mut feeds = Vec::new();
            for part in &parts[..2] {
                feeds.extend(piece.push_part(part.clone(), &mut init).unwrap());
                assert_eq!(fed_bytes(&feeds).last(), part.last());
                let page = Bytes::from_static(b"<html>nothing of this is taken</html>");
                assert_eq!(piece.push_part(page, &mut init).unwrap_err(), NotMedia);
            }
            piece.go_on_whole();
            for chunk in whole.chunks(100) {
                feeds.extend(
                    piece
                        .push(Bytes::copy_from_slice(chunk), &mut init)
                        .unwrap(),
                );
            }
            feeds.extend(piece.finish(Stage::Complete, &mut init).unwrap());
            assert_eq!(fed_bytes(&feeds), whole);
            let begins = |f: &&Feed| matches!(f, Feed::Begin { .. });
            assert_eq!(feeds.iter().filter(begins).count(), 1);
            assert!(matches!(feeds.last(), Some(Feed::End { truncated: false })));
        }
    }

    fn fed_bytes(feeds: &[Feed]) -> Vec<u8> {
        let data = feeds.iter().filter_map(|feed| match feed {
            Feed::Data(data) => Some(&data[..]),
            _ => None,
        });
        data.collect::<Vec<_>>().concat()
    }

    #[test]
    fn fragments_are_fed_as_soon_as_they_are_whole() {
        let one = [mp4_box(b"moof", 600), mp4_box(b"mdat", 100)].concat();
        let mut open = one.clone();
        open[608..612].fill(0);
        let mut fed = None;
        let mut init = InitFeed {
            bytes: None,
            fed: &mut fed,
        };
        let mut piece = Piece::new(false);
        let sizes = |feeds: Vec<Feed>| -> Vec<usize> {
            let sizes = feeds.into_iter().filter_map(|feed| match feed {
                Feed::Data(bytes) => Some(bytes.len()),
                _ => None,
            });
            sizes.collect()
        };
        for (bytes, expected) in [
            (&one[..700], vec![]),
            (&one[700..], vec![one.len()]),
            (&open[..650], vec![]),
            (&open[650..], vec![]),
        ] {
            let feeds = piece
                .push(Bytes::copy_from_slice(bytes), &mut init)
                .unwrap();
            assert_eq!(sizes(feeds), expected);
        }
        let rest = piece.finish(Stage::Complete, &mut init).unwrap();
        assert!(matches!(rest.last(), Some(Feed::End { truncated: false })));
        assert_eq!(sizes(rest), [open.len()]);
    }

    #[test]
    fn box_sizes_that_make_no_sense_end_the_walk() {
        for bad in [
            &[0, 0, 0, 7, b'm', b'o', b'o', b'f'][..],
            &[0, 0, 0, 1, b'm', b'd', b'a', b't', 0],
            &[0, 0, 0],
        ] {
            assert_eq!(box_size(bad), None);
        }
        let huge = [&[0, 0, 0, 1][..], b"mdat", &[0xff; 8]].concat();
        assert_eq!(
            layout(&huge),
            Layout {
                init_end: 0,
                end: 0
            }
        );
    }

    #[test]
    fn short_segments_are_still_told() {
        let mut ts = vec![0; 188];
        ts[0] = 0x47;
        assert_eq!(feed_all(&ts, 100, None, Stage::Complete).unwrap().len(), 3);
        assert_eq!(
            feed_all(b"oops", 100, None, Stage::Complete).unwrap_err(),
            NotMedia
        );
        assert_eq!(
            feed_all(b"", 100, None, Stage::Complete).unwrap_err(),
            NotMedia
        );
    }
}
