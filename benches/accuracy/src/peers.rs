//! FFmpeg's own detectors on the same clips, in one decoding.

use std::io;
use std::path::Path;
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
    let chain: Vec<String> = peers.iter().map(Peer::filter).collect();
    let said = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-hide_banner",
            "-nostats",
            "-threads",
            "1",
            "-i",
        ])
        .arg(clip)
        .args(["-an", "-vf", &chain.join(","), "-f", "null", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()?;
    if !said.status.success() {
        return Err(io::Error::other(format!(
            "ffmpeg ended with {} on {}",
            said.status,
            clip.display()
        )));
    }
    let log = String::from_utf8_lossy(&said.stderr);
    Ok((0..peers.len())
        .map(|n| events(&log, n, clip_secs))
        .collect())
}

/// Events of the `n`th filter in a log; one without an end lasts to the end of the clip.
fn events(log: &str, n: usize, clip_secs: f64) -> Vec<Span> {
    let freeze = format!("[Parsed_freezedetect_{n} ");
    // `blackdetect` logs under its short name and without a number in some versions.
    let black = format!("[Parsed_blackdetect_{n} ");
    let number = |line: &str, key: &str| -> Option<f64> {
        let rest = line.split(key).nth(1)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let mut all: Vec<Span> = Vec::new();
    for line in log.lines() {
        if line.contains(&freeze) {
            if let Some(start) = number(line, "freeze_start: ") {
                all.push(Span {
                    start,
                    end: clip_secs.max(start),
                });
            } else if let (Some(end), Some(last)) = (number(line, "freeze_end: "), all.last_mut()) {
                last.end = end;
            }
        } else if (line.contains(&black) || line.starts_with("[blackdetect "))
            && let (Some(start), Some(end)) =
                (number(line, "black_start:"), number(line, "black_end:"))
        {
            all.push(Span { start, end });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_read_by_filter() {
        let log = "\
[freezedetect @ 0x1] nothing of ours
[Parsed_freezedetect_0 @ 0x55] lavfi.freezedetect.freeze_start: 5.2
[Parsed_freezedetect_1 @ 0x56] lavfi.freezedetect.freeze_start: 6
[Parsed_freezedetect_0 @ 0x55] lavfi.freezedetect.freeze_duration: 2
[Parsed_freezedetect_0 @ 0x55] lavfi.freezedetect.freeze_end: 7.2
[blackdetect @ 0x57] black_start:1.5 black_end:4 black_duration:2.5
";
        let span = |start, end| Span { start, end };
        assert_eq!(events(log, 0, 10.0)[..1], [span(5.2, 7.2)]);
        assert!(events(log, 1, 10.0).contains(&span(6.0, 10.0)));
        assert!(events(log, 2, 10.0).contains(&span(1.5, 4.0)));
    }
}
