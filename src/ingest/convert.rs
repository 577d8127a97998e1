//! From container bytes to decoded units: one converter per run of a source.

use std::time::Duration;

use bytes::Bytes;
use detectors::base::{Cause, Kind};

use super::source::SourceContext;

/// Container of a byte input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// MPEG-TS.
    MpegTs,
    /// Fragmented MP4: an init segment, then whole `moof`+`mdat` fragments.
    FragmentedMp4,
    /// Raw ADTS AAC, MP3, AC-3 or E-AC-3, possibly after an ID3 tag with a timestamp (HLS packed audio).
    PackedAudio,
}

/// What is fed to one input of a converter.
#[derive(Debug, Clone)]
pub enum Feed {
    /// A piece (segment) begins. With `init`, an fMP4 initialisation segment comes first (again).
    Begin {
        /// Container of the piece.
        container: Container,
        /// Initialisation segment, when new or changed.
        init: Option<Bytes>,
        /// The playlist announced a discontinuity before it.
        discontinuity: bool,
    },
    /// Bytes of the piece.
    Data(Bytes),
    /// The piece is complete. `truncated`: it was cut short (known from `Content-Length` or an aborted body).
    End {
        /// Cut short.
        truncated: bool,
    },
}

/// Why conversion cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ConvertError {
    /// Machine-readable cause.
    pub cause: Cause,
    /// A sentence, free of secrets.
    pub detail: String,
}

/// Turns container bytes into units. Dropping it tears its pipelines down on a thread of their own.
pub struct Converter {
    context: SourceContext,
}

impl Converter {
    /// A converter without inputs.
    pub fn new(context: &SourceContext) -> Self {
        Self {
            context: context.clone(),
        }
    }

    /// Adds a byte input and returns its number: 0 is the main one, others are separate renditions.
    /// `only`: take just this kind of track from it. `language`: as the playlist tells.
    pub fn add_input(&mut self, _only: Option<Kind>, _language: Option<String>) -> usize {
        let _ = &self.context;
        0
    }

    /// Feeds an input. Never waits: call [`Converter::room`] between pieces to keep the backlog bounded.
    pub fn feed(&mut self, _input: usize, _feed: Feed) -> Result<(), ConvertError> {
        Ok(())
    }

    /// Encoded bytes fed and not yet decoded.
    pub fn backlog_bytes(&self) -> usize {
        0
    }

    /// Waits until at most `bytes` are waiting to be decoded, or an error ended conversion.
    pub async fn room(&self, _bytes: usize) -> Result<(), ConvertError> {
        Ok(())
    }

    /// No more input: waits until everything fed has been decoded and handed on, at most `deadline`.
    pub async fn finish(self, _deadline: Duration) -> Result<(), ConvertError> {
        Ok(())
    }
}
