//! Progressive HTTP: one URL, one body.
//!
//! MPEG-TS, packed audio and fragmented MP4 are converted as they arrive, for as long as they come. What needs its
//! end before its beginning (MP4 with one `moov`, Matroska) is first spooled into a bounded temporary file. A URL that
//! turns out to be a playlist is played as HLS, one that turns out to be a manifest as DASH. Everything is told by the bytes, nothing by
//! the name; only where the bytes tell nothing does a media type that names a manifest or a playlist count.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use detectors::base::{Cause, Fact, InputEvent};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use super::file;
use super::segments::{
    self, BACKLOG_BYTES, FINISH, Feeder, HEAD_BYTES, box_size, container, layout,
};
use super::tell::Teller;
use super::{Retry, SourceContext, SourceEnd, begin};
use super::{dash, hls};
use crate::ingest::convert::{Container, ConvertError, Converter, Feed};
use crate::ingest::fetch::{Body, FetchError, Fetcher, Request, What};
use crate::transport::playlist::looks_like_playlist;
use crate::transport::playlist::mpd::looks_like_mpd;

/// Largest file that is spooled.
pub const SPOOL_BYTES: u64 = 2 << 30;

/// A body that stays silent for this long is shown, and paged.
const VISIBLE_AFTER: Duration = Duration::from_secs(5);
const PAGE_AFTER: Duration = Duration::from_secs(10);

/// Reads the URL until it ends or is cancelled.
pub async fn run(cx: &SourceContext) -> SourceEnd {
    play(cx, Converter::new(cx), file::play_spooled).await
}

/// As [`run`], into any feeder; a spooled file goes to `play_file`.
pub async fn play<F: Feeder>(
    cx: &SourceContext,
    feeder: F,
    play_file: impl AsyncFnOnce(&SourceContext, &Path) -> SourceEnd,
) -> SourceEnd {
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => segments::stopped(),
        end = read(cx, feeder, play_file) => end,
    }
}

/// Why reading ended before the body did.
enum Trouble {
    Fetch(FetchError),
    Convert(ConvertError),
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Trouble::Fetch(error)
    }
}

impl From<ConvertError> for Trouble {
    fn from(error: ConvertError) -> Self {
        Trouble::Convert(error)
    }
}

async fn read<F: Feeder>(
    cx: &SourceContext,
    mut feeder: F,
    play_file: impl AsyncFnOnce(&SourceContext, &Path) -> SourceEnd,
) -> SourceEnd {
    let tell = Teller::new(cx);
    tell.patience(VISIBLE_AFTER, PAGE_AFTER);
    let fetcher = match Fetcher::new(&cx.stream.input, cx.stats.clone()) {
        Ok(fetcher) => fetcher,
        Err(error) => return segments::failed(error.cause, Retry::Never, error.detail),
    };
    let failed = |error: FetchError| {
        tell.failed(error.cause);
        segments::failed(error.cause, Retry::Backoff, error.detail)
    };
    let mut input = match Incoming::open(&fetcher, &tell).await {
        Ok(input) => input,
        Err(error) => return failed(error),
    };
    // A body of known length is a file; one without is live, and should not end.
    let is_file = input.body.length().is_some();
    let converted = match input.kind() {
        Ok(Kind::Playlist) => {
            drop(input);
            return hls::play(cx, feeder).await;
        }
        Ok(Kind::Manifest) => {
            drop(input);
            return dash::play(cx, feeder).await;
        }
        Ok(Kind::WholeFile) => match Spool::fill(&mut input).await {
            Ok(spool) => return play_file(cx, &spool.path).await,
            Err(error) => return failed(error),
        },
        Ok(Kind::Stream(container)) => stream(&mut feeder, &mut input, container).await,
        Ok(Kind::Fragments) => {
            fragments(&mut feeder, &mut input, fetcher.limits().segment_bytes).await
        }
        Err(error) => return failed(error),
    };
    let converted = match converted {
        Err(Trouble::Convert(error)) => Err(error),
        Err(Trouble::Fetch(error)) => return finish(feeder, failed(error)).await,
        Ok(()) if is_file => feeder.finish(FINISH).await,
        Ok(()) => {
            let error = FetchError::new(Cause::PeerClosed, "the live body ended");
            return finish(feeder, failed(error)).await;
        }
    };
    match converted {
        Err(error) => segments::failed(error.cause, Retry::Backoff, error.detail),
        Ok(()) => {
            tell.fact(Fact::Input(InputEvent::Ended));
            SourceEnd {
                cause: None,
                retry: Retry::Never,
                detail: "the body has been played to its end".to_owned(),
            }
        }
    }
}

/// Lets what was fed be decoded before the source ends.
async fn finish<F: Feeder>(feeder: F, end: SourceEnd) -> SourceEnd {
    // The fault that ended the body is what matters.
    let _ = feeder.finish(FINISH).await;
    end
}

/// What a body is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Playlist,
    /// Of DASH.
    Manifest,
    Stream(Container),
    Fragments,
    WholeFile,
}

/// A body with its first bytes looked at.
struct Incoming<'a> {
    body: Body<'a>,
    tell: &'a Teller,
    head: BytesMut,
    media_type: Option<String>,
}

impl<'a> Incoming<'a> {
    async fn open(fetcher: &'a Fetcher, tell: &'a Teller) -> Result<Self, FetchError> {
        let body = fetcher
            .open(Request {
                url: fetcher.home(),
                referrer: None,
                what: What::Endless,
                range: None,
                skip: 0,
                total: Duration::MAX,
            })
            .await?;
        let mut input = Self {
            media_type: body.content_type(),
            body,
            tell,
            head: BytesMut::new(),
        };
        let limit = fetcher.limits().segment_bytes;
        while input.head.len() < HEAD_BYTES || mp4_kind(&input.head) == Mp4::Unclear {
            match input.receive().await? {
                Some(_) if input.head.len() > limit => {
                    return Err(FetchError::new(
                        Cause::TooLarge,
                        "the header of the MP4 file is beyond the segment limit",
                    ));
                }
                Some(bytes) => input.head.extend_from_slice(&bytes),
                None => break,
            }
        }
        Ok(input)
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, FetchError> {
        let chunk = self.body.chunk().await?;
        if chunk.is_some() {
            self.tell.receiving();
        }
        Ok(chunk)
    }

    /// The head first, then what follows.
    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        match self.head.is_empty() {
            true => self.receive().await,
            false => Ok(Some(self.head.split().freeze())),
        }
    }

    fn kind(&self) -> Result<Kind, FetchError> {
        const WHOLE: [&[u8]; 4] = [b"\x1a\x45\xdf\xa3", b"RIFF", b"OggS", b"FLV\x01"];
        if looks_like_playlist(&self.head) {
            return Ok(Kind::Playlist);
        }
        if looks_like_mpd(&self.head) {
            return Ok(Kind::Manifest);
        }
        if WHOLE.iter().any(|magic| self.head.starts_with(magic)) {
            return Ok(Kind::WholeFile);
        }
        match container(&self.head) {
            Some(Container::FragmentedMp4) => Ok(match mp4_kind(&self.head) {
                Mp4::Fragmented => Kind::Fragments,
                Mp4::Whole | Mp4::Unclear => Kind::WholeFile,
            }),
            Some(container) => Ok(Kind::Stream(container)),
            // A parser knows better what is wrong with it.
            None => match self.media_type.as_deref() {
                Some("application/dash+xml") => Ok(Kind::Manifest),
                Some("application/vnd.apple.mpegurl" | "application/x-mpegurl") => {
                    Ok(Kind::Playlist)
                }
                _ => Err(FetchError::new(
                    Cause::UnsupportedFormat,
                    "the body is in no container that is read here",
                )),
            },
        }
    }
}

/// What the top-level boxes tell so far.
#[derive(Debug, PartialEq, Eq)]
enum Mp4 {
    Fragmented,
    Whole,
    /// More bytes are needed.
    Unclear,
}

fn mp4_kind(head: &[u8]) -> Mp4 {
    if container(head) != Some(Container::FragmentedMp4) {
        return Mp4::Whole;
    }
    let mut rest = head;
    loop {
        let Some(kind) = rest.get(4..8) else {
            return Mp4::Unclear;
        };
        match kind {
            b"mdat" => return Mp4::Whole,
            b"moof" => return Mp4::Fragmented,
            _ => {}
        }
        let Some(size) = box_size(rest) else {
            // No sane header will come from more bytes, unless a 64-bit size is cut.
            return if rest.len() < 16 {
                Mp4::Unclear
            } else {
                Mp4::Whole
            };
        };
        let Some((whole, next)) = rest.split_at_checked(size) else {
            return Mp4::Unclear;
        };
        if kind == b"moov" {
            let children = whole.get(8..).unwrap_or_default();
            return match has_box(children, b"mvex") {
                true => Mp4::Fragmented,
                false => Mp4::Whole,
            };
        }
        rest = next;
    }
}

fn has_box(mut boxes: &[u8], kind: &[u8; 4]) -> bool {
    while let Some(size) = box_size(boxes) {
        if boxes.get(4..8) == Some(kind) {
            return true;
        }
        let Some((_, next)) = boxes.split_at_checked(size) else {
            return false;
        };
        boxes = next;
    }
    false
}

/// Feeds a container that can be cut anywhere.
async fn stream<F: Feeder>(
    feeder: &mut F,
    input: &mut Incoming<'_>,
    container: Container,
) -> Result<(), Trouble> {
    let number = begin(feeder, container)?;
    let ended = loop {
        match input.next().await {
            Ok(Some(bytes)) => {
                feeder.room(BACKLOG_BYTES).await?;
                feeder.feed(number, Feed::Data(bytes))?;
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let truncated = ended.is_err();
    feeder.feed(number, Feed::End { truncated })?;
    Ok(ended?)
}

/// Feeds whole fragments, as they become complete. `limit`: bytes a fragment may have.
async fn fragments<F: Feeder>(
    feeder: &mut F,
    input: &mut Incoming<'_>,
    limit: usize,
) -> Result<(), Trouble> {
    let number = feeder.add_input(None, None);
    let mut held = BytesMut::new();
    while let Some(bytes) = input.next().await? {
        held.extend_from_slice(&bytes);
        let found = layout(&held);
        if found.end > found.init_end {
            let whole = held.split_to(found.end).freeze();
            let init = (found.init_end > 0).then(|| whole.slice(..found.init_end));
            feeder.room(BACKLOG_BYTES).await?;
            let begin = Feed::Begin {
                container: Container::FragmentedMp4,
                init,
                discontinuity: false,
            };
            feeder.feed(number, begin)?;
            feeder.feed(number, Feed::Data(whole.slice(found.init_end..)))?;
            feeder.feed(number, Feed::End { truncated: false })?;
        } else if held.len() > limit {
            return Err(FetchError::new(Cause::TooLarge, "a fragment is beyond its limit").into());
        }
    }
    Ok(())
}

/// A temporary file that goes when dropped.
struct Spool {
    path: PathBuf,
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Nothing more can be done about a file that stays.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Spool {
    async fn fill(input: &mut Incoming<'_>) -> Result<Self, FetchError> {
        let too_large = || FetchError::new(Cause::TooLarge, "the file is beyond the spool limit");
        if input
            .body
            .length()
            .is_some_and(|length| length > SPOOL_BYTES)
        {
            return Err(too_large());
        }
        let full = |e: io::Error| {
            let detail = format!("the spool file cannot be written: {}", e.kind());
            FetchError::new(Cause::Internal, detail)
        };
        let name = format!("glasswatch-{:016x}.spool", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await
            .map_err(full)?;
        let spool = Self { path };
        let mut written = 0;
        while let Some(bytes) = input.next().await? {
            written += bytes.len() as u64;
            if written > SPOOL_BYTES {
                return Err(too_large());
            }
            file.write_all(&bytes).await.map_err(full)?;
        }
        file.flush().await.map_err(full)?;
        Ok(spool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mp4_box(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        let size = 8 + payload.len() as u32;
        [&size.to_be_bytes()[..], kind, payload].concat()
    }

    #[test]
    fn kinds_of_mp4_are_told_apart_as_soon_as_possible() {
        let ftyp = mp4_box(b"ftyp", b"isom0000");
        let fragmented = mp4_box(
            b"moov",
            &[mp4_box(b"mvhd", &[0; 9]), mp4_box(b"mvex", &[])].concat(),
        );
        let plain = mp4_box(b"moov", &mp4_box(b"mvhd", b"a mvex inside"));
        let kind = |parts: &[&[u8]]| mp4_kind(&parts.concat());
        assert_eq!(kind(&[&ftyp, &fragmented]), Mp4::Fragmented);
        assert_eq!(kind(&[&ftyp, &plain]), Mp4::Whole);
        assert_eq!(kind(&[&ftyp, &plain[..20]]), Mp4::Unclear);
        assert_eq!(kind(&[&ftyp]), Mp4::Unclear);
        assert_eq!(kind(&[&ftyp, b"\0\0\xff\xffmdat"]), Mp4::Whole);
        assert_eq!(kind(&[&ftyp, b"\0\0\xff\xffmoof"]), Mp4::Fragmented);
        assert_eq!(kind(&[&ftyp, b"\0\0\0\x03junk01234567"]), Mp4::Whole);
        assert_eq!(kind(&[b"\x47 no mp4 at all"]), Mp4::Whole);
    }
}
