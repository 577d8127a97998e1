//! Local files: MPEG-TS, MP4, Matroska, WAV, raw sound.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use detectors::base::{Cause, Fact, InputEvent, MediaTime};

use super::tell::Teller;
use super::{Received, SourceContext, SourceEnd};
use crate::config::Pace;
use crate::ingest::appsink::{Hub, Way, lock};
use crate::ingest::convert::fragments::encrypted;
use crate::ingest::convert::{Container, ConvertError, Converter, Feed};
use crate::ingest::pipeline::{Claim, FileContainer, Pipeline, Settings};
use crate::ingest::tracks::Entry;
use crate::transport::mp4::Index;

/// Bytes read at once: whole TS packets.
const CHUNK: usize = 188 * 174;
/// Encoded bytes that may wait for decoding.
const BACKLOG: usize = 1 << 20;
/// Nothing decoded for this long, though bytes wait: the decoder hangs.
const STUCK: Duration = Duration::from_secs(10);
/// Bytes looked at to tell the container.
const HEAD: usize = 8 << 10;
/// Most of an MP4 index that is read for its tracks.
const INDEX_MAX: u64 = 16 << 20;
/// A real-time reader may be this far ahead.
const AHEAD: Duration = Duration::from_millis(200);

/// What a file holds, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sniffed {
    Bytes(Container),
    Whole(FileContainer),
}

pub(super) async fn run(context: SourceContext) -> SourceEnd {
    let path = url::Url::parse(context.stream.input.url.expose())
        .ok()
        .and_then(|url| url.to_file_path().ok());
    let Some(path) = path else {
        return SourceEnd::fatal(Cause::FileUnreadable, "not a local file URL");
    };
    play_path(context, path).await
}

/// Plays a file that another source has spooled.
pub(super) async fn play_spooled(context: &SourceContext, path: &Path) -> SourceEnd {
    play_path(context.clone(), path.to_owned()).await
}

async fn play_path(context: SourceContext, path: PathBuf) -> SourceEnd {
    let handle = tokio::runtime::Handle::current();
    // Handing over units may wait for room, which must not hold up other tasks.
    let played = tokio::task::spawn_blocking(move || handle.block_on(play(&context, path))).await;
    match played {
        Ok(Ok(())) => SourceEnd::complete(),
        Ok(Err(error)) => SourceEnd::fatal(error.cause, error.detail),
        Err(_) => SourceEnd::fatal(Cause::Internal, "reading the file panicked"),
    }
}

fn error(cause: Cause, detail: &str) -> ConvertError {
    ConvertError {
        cause,
        detail: detail.to_owned(),
    }
}

fn unreadable(io: &std::io::Error) -> ConvertError {
    let why = match io.kind() {
        ErrorKind::NotFound => "no such file",
        ErrorKind::PermissionDenied => "the file may not be read",
        ErrorKind::IsADirectory => "the path is a directory",
        _ => "the file cannot be read",
    };
    error(Cause::FileUnreadable, why)
}

async fn play(context: &SourceContext, path: PathBuf) -> Result<(), ConvertError> {
    let mut file = File::open(&path).map_err(|io| unreadable(&io))?;
    let length = file
        .metadata()
        .and_then(|m| {
            if m.is_file() {
                Ok(m.len())
            } else {
                Err(ErrorKind::IsADirectory.into())
            }
        })
        .map_err(|io| unreadable(&io))?;
    let mut head = Vec::with_capacity(HEAD);
    file.by_ref()
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(|io| unreadable(&io))?;
    if head.is_empty() {
        return Err(error(Cause::Truncated, "the file is empty"));
    }
    Teller::new(context).fact(Fact::Input(InputEvent::FromStart));
    match sniff(&head) {
        Some(Sniffed::Bytes(container)) => {
            file.rewind().map_err(|io| unreadable(&io))?;
            play_bytes(context, file, container).await
        }
        Some(Sniffed::Whole(container)) => {
            let (whole, index) = match container {
                FileContainer::Mp4 => mp4_shape(&mut file, length)?,
                FileContainer::Matroska | FileContainer::Wav => (Shape::Whole, None),
            };
            match index.and_then(|at| locked(&mut file, at)) {
                Some(moov) => play_locked(context, file, &moov).await?,
                None => play_whole(context, &path, container, length).await?,
            }
            match whole {
                Shape::Whole => Ok(()),
                Shape::CutShort => Err(error(Cause::Truncated, "the file ends inside a box")),
            }
        }
        None => Err(error(
            Cause::UnsupportedFormat,
            "none of the containers that are read (MPEG-TS, MP4, Matroska, WAV, ADTS, MP3, AC-3)",
        )),
    }
}

/// Tells the container by its first bytes.
fn sniff(head: &[u8]) -> Option<Sniffed> {
    let at = |from: usize, magic: &[u8]| head.get(from..).is_some_and(|h| h.starts_with(magic));
    let boxes: [&[u8]; 10] = [
        b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"sidx", b"pnot",
    ];
    if boxes.iter().any(|name| at(4, name)) {
        return Some(Sniffed::Whole(FileContainer::Mp4));
    }
    if at(0, &[0x1a, 0x45, 0xdf, 0xa3]) {
        return Some(Sniffed::Whole(FileContainer::Matroska));
    }
    if at(0, b"RIFF") && at(8, b"WAVE") {
        return Some(Sniffed::Whole(FileContainer::Wav));
    }
    if packets(head) {
        return Some(Sniffed::Bytes(Container::MpegTs));
    }
    let sound = at(0, b"ID3")
        || at(0, &[0x0b, 0x77])
        || (head.first() == Some(&0xff) && head.get(1).is_some_and(|b| b & 0xe0 == 0xe0));
    sound.then_some(Sniffed::Bytes(Container::PackedAudio))
}

/// Whether TS packets of 188, 192 or 204 bytes follow each other somewhere.
fn packets(head: &[u8]) -> bool {
    let sync = |at: usize| head.get(at) == Some(&0x47);
    [188, 192, 204].into_iter().any(|size| {
        (0..head.len().min(4 * size)).any(|first| {
            let whole = (head.len() - first) / size;
            sync(first)
                && (whole <= 1 || (1..whole.min(5)).all(|n| sync(first + n * size)))
                && (whole > 1 || first == 0)
        })
    })
}

async fn play_bytes(
    context: &SourceContext,
    mut file: File,
    container: Container,
) -> Result<(), ConvertError> {
    let mut chunk = vec![0; CHUNK];
    let next = || loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(n) => return Ok(chunk.get(..n).map(Bytes::copy_from_slice)),
            Err(io) if io.kind() == ErrorKind::Interrupted => {}
            Err(io) => return Err(unreadable(&io)),
        }
    };
    feed_all(context, container, None, next).await
}

/// Feeds bytes until there are no more.
async fn feed_all(
    context: &SourceContext,
    container: Container,
    init: Option<Bytes>,
    mut next: impl FnMut() -> Result<Option<Bytes>, ConvertError>,
) -> Result<(), ConvertError> {
    let mut converter = Converter::new(context);
    let mut received = Received::new(context);
    let input = converter.add_input(None, None);
    converter.continuous(input);
    let begin = Feed::Begin {
        container,
        init,
        discontinuity: false,
    };
    converter.feed(input, begin)?;
    let mut pace = PaceKeeper::new(context.stream.input.pace);
    while let Some(bytes) = next()? {
        received.note(bytes.len());
        converter.feed(input, Feed::Data(bytes))?;
        tokio::select! {
            done = unstuck(&converter) => done?,
            () = context.cancel.cancelled() => return Ok(()),
        }
        tokio::select! {
            () = pace.keep(converter.fed()) => {}
            () = context.cancel.cancelled() => return Ok(()),
        }
    }
    tokio::select! {
        finished = converter.finish(STUCK) => finished,
        () = context.cancel.cancelled() => Ok(()),
    }
}

/// Waits for room, unless nothing moves for too long.
async fn unstuck(converter: &Converter) -> Result<(), ConvertError> {
    let mut seen = (converter.decoded(), converter.backlog_bytes());
    loop {
        if let Ok(room) = tokio::time::timeout(STUCK, converter.room(BACKLOG)).await {
            return room;
        }
        let now = (converter.decoded(), converter.backlog_bytes());
        if now == seen && !converter.handing_over() {
            return Err(error(Cause::Timeout, "the decoder does not go on"));
        }
        seen = now;
    }
}

/// Slows reading down to the pace of the timestamps.
struct PaceKeeper {
    pace: Pace,
    start: Option<(Instant, MediaTime)>,
}

impl PaceKeeper {
    fn new(pace: Pace) -> Self {
        Self { pace, start: None }
    }

    async fn keep(&mut self, fed: Option<MediaTime>) {
        let (Pace::RealTime, Some(fed)) = (self.pace, fed) else {
            return;
        };
        let (began, first) = *self.start.get_or_insert_with(|| (Instant::now(), fed));
        let due = began + fed.since(first);
        let wait = due
            .saturating_duration_since(Instant::now())
            .saturating_sub(AHEAD);
        tokio::time::sleep(wait).await;
    }
}

/// Whether an MP4 file is all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Whole,
    CutShort,
}

/// The index of a file, when a track of it is encrypted: that is no matter for GStreamer, which tells it of some
/// schemes only, and as an error without a cause.
fn locked(file: &mut File, (at, size): (u64, u64)) -> Option<Vec<u8>> {
    let mut index = Vec::new();
    let read = file
        .seek(SeekFrom::Start(at))
        .and_then(|_| file.take(size.min(INDEX_MAX)).read_to_end(&mut index));
    (read.is_ok() && encrypted(&index)).then_some(index)
}

/// Plays an MP4 file with encrypted tracks, in fragments, which are decrypted as far as keys are there.
async fn play_locked(
    context: &SourceContext,
    mut file: File,
    moov: &[u8],
) -> Result<(), ConvertError> {
    let index = Index::read(moov).map_err(|why| error(Cause::Undecodable, &why.to_string()))?;
    let Some(index) = index else {
        file.rewind().map_err(|io| unreadable(&io))?;
        return play_bytes(context, file, Container::FragmentedMp4).await;
    };
    let init = Bytes::copy_from_slice(index.init());
    let mut pieces = index.pieces();
    let next = || -> Result<Option<Bytes>, ConvertError> {
        let Some(piece) = pieces.next() else {
            return Ok(None);
        };
        let fragment = index.fragment(piece, |at, len| {
            let mut bytes = vec![0; len];
            // Rarely a step: fragments follow the file.
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        });
        match fragment {
            Ok(fragment) => Ok(Some(fragment.into())),
            // What was cut off is told behind what is there.
            Err(io) if io.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(io) => Err(unreadable(&io)),
        }
    };
    feed_all(context, Container::FragmentedMp4, Some(init), next).await
}

/// Walks the top-level boxes: an MP4 file that was cut before its index cannot be played at all. Also tells where
/// the index is.
fn mp4_shape(file: &mut File, length: u64) -> Result<(Shape, Option<(u64, u64)>), ConvertError> {
    const MAX_BOXES: usize = 1 << 20;
    let mut at = 0_u64;
    let mut index = None;
    let mut shape = Shape::Whole;
    for _ in 0..MAX_BOXES {
        if at >= length {
            break;
        }
        let mut head = [0; 16];
        let have = (length - at).min(16) as usize;
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut head[..have]))
            .map_err(|io| unreadable(&io))?;
        if have < 8 {
            shape = Shape::CutShort;
            break;
        }
        let size = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
            0 => length - at,
            1 if have == 16 => u64::from_be_bytes([
                head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15],
            ]),
            size => u64::from(size),
        };
        if size < 8 {
            break;
        }
        let end = at.saturating_add(size);
        if end > length {
            shape = Shape::CutShort;
        } else if &head[4..8] == b"moov" {
            index = Some((at, size));
        }
        at = end;
    }
    match (index, shape) {
        (Some(_), shape) => Ok((shape, index)),
        (None, Shape::CutShort) => Err(error(
            Cause::Truncated,
            "the file ends before its `moov` box",
        )),
        (None, Shape::Whole) => Err(error(Cause::Undecodable, "the file has no `moov` box")),
    }
}

/// Plays a container that GStreamer demultiplexes, on one thread.
async fn play_whole(
    context: &SourceContext,
    path: &Path,
    container: FileContainer,
    length: u64,
) -> Result<(), ConvertError> {
    let input = &context.stream.input;
    let hub = Hub::new(Arc::clone(&context.intake), Arc::clone(&context.stats));
    let mut received = Received::new(context);
    received.note(usize::try_from(length).unwrap_or(usize::MAX));
    let settings = Settings {
        decode: input.decode,
        picture_pixels: input.limits.picture_pixels,
        paced: input.pace == Pace::RealTime,
    };
    let known = Arc::clone(&hub);
    let claim: Claim = Box::new(move |announced| {
        let entry = Entry {
            id: announced.id,
            kind: announced.kind,
            codec: announced.codec.clone(),
            language: None,
            problem: announced.problem,
        };
        let track = lock(&known.tracks).add(0, entry)?;
        known.tell_tracks();
        Some(Way::new(track, &known))
    });
    let pipeline = Pipeline::file(&hub, path, container, settings, claim)?;
    let mut seen = hub.decoded();
    loop {
        let moved = hub.moved.notified();
        tokio::pin!(moved);
        moved.as_mut().enable();
        if hub.closed() {
            return Err(error(Cause::Internal, "the lane is closed"));
        }
        if let Some(ended) = pipeline.done.ended() {
            let problem = lock(&hub.tracks).infos().iter().find_map(|i| i.problem);
            return match ended {
                _ if hub.decoded() > 0 => ended,
                _ if problem.is_some() => Err(error(
                    problem.unwrap_or(Cause::Undecodable),
                    "no track of the file can be decoded",
                )),
                Err(error) => Err(error),
                Ok(()) => Err(error(
                    Cause::Undecodable,
                    "nothing in the file could be decoded",
                )),
            };
        }
        tokio::select! {
            () = moved => {}
            () = context.cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(STUCK) => {
                if hub.decoded() == seen && !hub.pushing() {
                    return Err(error(Cause::Timeout, "the file does not play on"));
                }
            }
        }
        seen = hub.decoded();
        received.note(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_their_first_bytes() {
        let ts = |size: usize, before: usize| {
            let mut bytes = vec![0xff; before + 6 * size];
            (0..6).for_each(|n| bytes[before + n * size] = 0x47);
            bytes
        };
        let is_ts = Some(Sniffed::Bytes(Container::MpegTs));
        for (size, before) in [(188, 0), (192, 4), (204, 0), (188, 61)] {
            let mut bytes = ts(size, before);
            bytes[0] = if before == 0 { 0x47 } else { 0 };
            assert_eq!(sniff(&bytes), is_ts, "{size} {before}");
        }
        assert_eq!(
            sniff(b"\0\0\0\x18ftypisom"),
            Some(Sniffed::Whole(FileContainer::Mp4))
        );
        assert_eq!(
            sniff(&[0x1a, 0x45, 0xdf, 0xa3, 1]),
            Some(Sniffed::Whole(FileContainer::Matroska))
        );
        assert_eq!(
            sniff(b"ID3\x04"),
            Some(Sniffed::Bytes(Container::PackedAudio))
        );
        assert_eq!(sniff(b"hello world, this is text"), None);
        assert_eq!(sniff(&[0; 4096]), None);
    }
}
