//! A clip of evidence once more, with another configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::alert::Defect;
use crate::config::{self, LoadError, Stream};

/// Names under which a clip may lie in a set of evidence.
const CLIPS: [&str; 3] = ["clip.mp4", "clip.webm", "clip.mkv"];

/// Why nothing could be replayed. Whoever asked is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The folder has no clip.
    #[error("{0} holds no clip")]
    NoClip(PathBuf),
    /// Nothing says which stream it is.
    #[error("nothing beside the clip says which stream it is of: name it with --stream")]
    NoStream,
    /// The configuration has no such stream.
    #[error("the configuration has no stream `{0}`: name another one with --stream")]
    UnknownStream(String),
}

/// The defect that the evidence was kept for.
#[derive(Debug, Clone, Deserialize)]
pub struct Kept {
    stream: String,
    detector: String,
    rule: String,
}

/// What to run.
#[derive(Debug)]
pub struct Replay {
    /// The configured stream, reading the clip.
    pub stream: Arc<Stream>,
    /// What was found when the clip was kept, if that is known.
    pub kept: Option<Kept>,
}

/// Finds the clip and the settings of its stream.
///
/// # Errors
/// See [`ReplayError`].
pub fn replay(clip: &Path, config: &Path, stream: Option<&str>) -> Result<Replay, ReplayError> {
    let folder = match clip.is_dir() {
        true => clip,
        false => clip.parent().unwrap_or(Path::new(".")),
    };
    let file = match clip.is_dir() {
        true => {
            let mut files = CLIPS.iter().map(|name| clip.join(name));
            let found = files.find(|file| file.is_file());
            found.ok_or_else(|| ReplayError::NoClip(clip.to_owned()))?
        }
        false => clip.to_owned(),
    };
    let kept: Option<Kept> = (std::fs::read(folder.join("defect.json")).ok())
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let id = match (stream, &kept) {
        (Some(id), _) => id.to_owned(),
        (None, Some(kept)) => kept.stream.clone(),
        (None, None) => return Err(ReplayError::NoStream),
    };
    let read = config::one_stream(&file.to_string_lossy(), &[], Some(config))?;
    let config = config::load(config)?;
    let configured = config.streams.iter().find(|s| *s.id == *id);
    let configured = configured.ok_or(ReplayError::UnknownStream(id))?;
    let mut stream = Stream::clone(configured);
    stream.input = read.input.clone();
    stream.reference = None;
    Ok(Replay {
        stream: Arc::new(stream),
        kept,
    })
}

impl Kept {
    /// Whether it is among what was found, in words.
    pub fn verdict(&self, found: &[Defect]) -> String {
        let again = found
            .iter()
            .any(|d| d.detector == self.detector && d.rule == self.rule);
        let Self { detector, rule, .. } = self;
        match again {
            true => format!("{detector}/{rule} of the evidence is found again."),
            false => {
                format!("{detector}/{rule} of the evidence is not found with this configuration.")
            }
        }
    }
}
