//! FFmpeg's own detectors on the same clips, in one decoding.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::score::Span;

/// One peer with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Peer {
    /// `freezedetect`: noise (share of full scale) and least duration.
    Freeze {
        /// Share of full scale.
        noise: f64,
        /// Seconds.
        secs: f64,
    },
    /// `blackdetect` at its thresholds, with a least duration.
    Black {
        /// Seconds.
        secs: f64,
    },
}

impl Peer {
    /// As written in reports.
    pub fn name(&self) -> String {
        match self {
            Peer::Freeze { noise, secs } => format!("freezedetect n={noise} d={secs}"),
            Peer::Black { secs } => format!("blackdetect d={secs}"),
        }
    }

    fn filter(&self) -> String {
        match self {
            Peer::Freeze { noise, secs } => format!("freezedetect=n={noise}:d={secs}"),
            Peer::Black { secs } => format!("blackdetect=d={secs}"),
        }
    }
}

/// The events that each peer tells of a clip of this length.
///
/// # Errors
/// When `ffmpeg` cannot be run.
pub fn ask(clip: &Path, peers: &[Peer], clip_secs: f64) -> io::Result<Vec<Vec<Span>>> {
    if peers.is_empty() {
        return Ok(Vec::new());
    }
    // Filters of one kind log under one name, so each has its findings written from the pictures behind it, and
    // nothing of it is left on them for the next.
    let notes: Vec<PathBuf> = (0..peers.len())
        .map(|n| clip.with_extension(format!("peer{n}-{}", std::process::id())))
        .collect();
    let chain: Vec<String> = peers
        .iter()
        .zip(&notes)
        .map(|(peer, note)| {
            format!(
                "{},metadata=mode=print:file={},metadata=mode=delete",
                peer.filter(),
                note.display()
            )
        })
        .collect();
    let said = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-threads", "1", "-i"])
        .arg(clip)
        .args(["-an", "-vf", &chain.join(","), "-f", "null", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()?;
    let all = notes
        .iter()
        .map(|note| {
            let text = fs::read_to_string(note).unwrap_or_default();
            // Where there was nothing to write there is no file.
            let _ = fs::remove_file(note);
            events(&text, clip_secs)
        })
        .collect();
    if !said.status.success() {
        return Err(io::Error::other(format!(
            "ffmpeg ended with {} on {}: {}",
            said.status,
            clip.display(),
            String::from_utf8_lossy(&said.stderr).trim()
        )));
    }
    Ok(all)
}

/// Events in the notes of one filter; one without an end lasts to the end of the clip.
fn events(notes: &str, clip_secs: f64) -> Vec<Span> {
    let mut all: Vec<Span> = Vec::new();
    for line in notes.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let Ok(at) = value.trim().parse::<f64>() else {
            continue;
        };
        if key.ends_with("_start") {
            all.push(Span {
                start: at,
                end: clip_secs.max(at),
            });
        } else if key.ends_with("_end")
            && let Some(last) = all.last_mut()
        {
            last.end = at;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_and_an_open_event_lasts_to_the_end() {
        let notes = "\
frame:150  pts:75000   pts_time:6
lavfi.freezedetect.freeze_start=5.2
frame:180  pts:90000   pts_time:7.2
lavfi.freezedetect.freeze_duration=2
lavfi.freezedetect.freeze_end=7.2
frame:220  pts:110000  pts_time:9
lavfi.black_start=8.5
";
        let span = |start, end| Span { start, end };
        assert_eq!(events(notes, 10.0), [span(5.2, 7.2), span(8.5, 10.0)]);
    }
}
