//! HLS playlists (RFC 8216): what they say, which rendition is pinned, which segment is next. Pure. DASH manifests
//! are in [`mpd`].
//!
//! Read line by line by our own parser: a playlist of a faulty origin must still tell as much as it can, several
//! `EXT-X-KEY` lines may hold for one segment, and `EXT-X-GAP` matters here. Unknown tags are passed over.

mod attributes;
pub mod audit;
pub mod beside;
pub mod breaks;
pub mod follow;
mod low_latency;
mod master;
mod media;
pub mod mpd;
mod reload;

pub use breaks::BreakTag;
pub use low_latency::{Hint, LowLatency, Part, RenditionReport, ServerControl};
pub use master::{AUDIO_RENDITIONS_MAX, AudioRendition, Master, Member, Pick, Variant};
pub use media::{BreakEvent, ByteRange, Encryption, Init, Manifested, Media, Segment};

/// Most segments, variants or renditions read from one playlist.
pub const ENTRIES_MAX: usize = 50_000;

/// A parsed playlist.
#[derive(Debug, Clone, PartialEq)]
pub enum Playlist {
    /// Lists variants.
    Master(Master),
    /// Lists segments.
    Media(Media),
}

/// Why a playlist is of no use. The origin is at fault; another load may mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaylistError {
    /// Does not begin with `#EXTM3U`, or is not UTF-8.
    #[error("not a playlist")]
    NotAPlaylist,
    /// More than [`ENTRIES_MAX`] entries.
    #[error("more than {ENTRIES_MAX} entries")]
    TooLong,
    /// A list of key pictures for seeking, not of media.
    #[error("holds only I-frames")]
    IFramesOnly,
}

/// Whether these bytes begin like a playlist.
pub fn looks_like_playlist(head: &[u8]) -> bool {
    without_mark(head).starts_with(b"#EXTM3U")
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Reads a playlist.
pub fn parse(bytes: &[u8]) -> Result<Playlist, PlaylistError> {
    if !looks_like_playlist(bytes) {
        return Err(PlaylistError::NotAPlaylist);
    }
    let text = std::str::from_utf8(without_mark(bytes)).map_err(|_| PlaylistError::NotAPlaylist)?;
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_master = lines().any(|line| {
        line.starts_with("#EXT-X-STREAM-INF:") || line.starts_with("#EXT-X-I-FRAME-STREAM-INF:")
    });
    if is_master {
        master::read(lines()).map(Playlist::Master)
    } else {
        media::read(lines()).map(Playlist::Media)
    }
}
