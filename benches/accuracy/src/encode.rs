//! Encoding with `ffmpeg`: one thread, so that the same recipe gives the same bytes.

use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::raw::Raw;

/// What to encode with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// x264.
    H264,
    /// x265.
    Hevc,
    /// FFmpeg's own MPEG-2 encoder.
    Mpeg2,
    /// SVT-AV1.
    Av1,
}

impl Codec {
    /// All of them.
    pub const ALL: [Codec; 4] = [Codec::H264, Codec::Hevc, Codec::Mpeg2, Codec::Av1];

    /// As written in reports and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::Hevc => "hevc",
            Codec::Mpeg2 => "mpeg2",
            Codec::Av1 => "av1",
        }
    }

    /// Container: transport streams have no agreed way to carry AV1.
    pub fn extension(self) -> &'static str {
        match self {
            Codec::Av1 => "mp4",
            _ => "ts",
        }
    }
}

/// How a clip is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    /// Codec.
    pub codec: Codec,
    /// Pixels a row, even.
    pub width: usize,
    /// Rows, even.
    pub height: usize,
    /// Pictures (pairs of fields) a second.
    pub rate_hz: f64,
    /// Constant bit rate (one second of buffer), kilobits a second.
    pub bitrate_kbps: u32,
    /// Seconds between key pictures.
    pub gop_secs: f64,
    /// Whether rows of a picture alternate between two moments, upper field first.
    pub interlaced: bool,
    /// Whether 10 bits a sample are coded (not MPEG-2).
    pub deep: bool,
    /// More options of `ffmpeg`, before the output.
    pub options: Vec<String>,
}

impl Encoding {
    /// 8 bit, progressive, without further options.
    pub fn new(
        codec: Codec,
        width: usize,
        height: usize,
        rate_hz: f64,
        bitrate_kbps: u32,
        gop_secs: f64,
    ) -> Self {
        Self {
            codec,
            width,
            height,
            rate_hz,
            bitrate_kbps,
            gop_secs,
            interlaced: false,
            deep: false,
            options: Vec::new(),
        }
    }

    /// Everything that decides the bytes, as text.
    pub fn recipe(&self) -> String {
        format!(
            "{}-{}x{}{}-{:.3}hz-{}k-gop{:.2}{}{}{}",
            self.codec.name(),
            self.width,
            self.height,
            if self.interlaced { "i" } else { "p" },
            self.rate_hz,
            self.bitrate_kbps,
            self.gop_secs,
            if self.deep { "-10bit" } else { "" },
            if self.options.is_empty() { "" } else { "-" },
            self.options.join(" ")
        )
    }

    /// Arguments of `ffmpeg` for the output, without its name.
    fn arguments(&self) -> Vec<String> {
        let gop = (self.gop_secs * self.rate_hz).round().max(1.0) as u32;
        let rate = self.bitrate_kbps;
        let mut args: Vec<String> = Vec::new();
        let mut push = |words: &[&str]| args.extend(words.iter().map(|w| (*w).to_owned()));
        push(&["-threads", "1", "-g", &gop.to_string()]);
        push(&["-b:v", &format!("{rate}k")]);
        if self.codec != Codec::Av1 {
            push(&["-maxrate", &format!("{rate}k")]);
            push(&["-bufsize", &format!("{rate}k")]);
        }
        let depth = if self.deep && self.codec != Codec::Mpeg2 {
            "yuv420p10le"
        } else {
            "yuv420p"
        };
        push(&["-pix_fmt", depth]);
        if self.interlaced && matches!(self.codec, Codec::H264 | Codec::Mpeg2) {
            push(&["-flags", "+ilme+ildct", "-top", "1"]);
        }
        match self.codec {
            Codec::H264 => push(&[
                "-c:v",
                "libx264",
                "-preset",
                "veryfast",
                "-x264-params",
                // Key pictures where they were asked for, as in segmented delivery.
                &format!("keyint={gop}:min-keyint={gop}:scenecut=0:sliced-threads=0"),
            ]),
            Codec::Hevc => push(&[
                "-c:v",
                "libx265",
                "-preset",
                "ultrafast",
                "-x265-params",
                &format!(
                    "keyint={gop}:min-keyint={gop}:scenecut=0:pools=none:frame-threads=1:\
                     wpp=0:log-level=error"
                ),
            ]),
            Codec::Mpeg2 => push(&[
                "-c:v",
                "mpeg2video",
                "-bf",
                "2",
                "-sc_threshold",
                "1000000000",
            ]),
            Codec::Av1 => push(&[
                "-c:v",
                "libsvtav1",
                "-preset",
                "11",
                "-svtav1-params",
                "lp=1:scd=0",
            ]),
        }
        push(&self.options.iter().map(String::as_str).collect::<Vec<_>>());
        let container = match self.codec.extension() {
            "mp4" => "mp4",
            _ => "mpegts",
        };
        push(&["-f", container]);
        args
    }
}

/// A rate as `ffmpeg` reads it, exact for the 1000/1001 family.
pub fn rate_text(rate_hz: f64) -> String {
    let whole = rate_hz.round();
    if (rate_hz - whole).abs() < 1e-6 {
        format!("{whole}")
    } else {
        format!("{}/1001", whole * 1000.0)
    }
}

/// Encodes pictures to a file: MPEG-TS, MP4 for AV1. The file appears only when it is whole.
///
/// # Errors
/// When `ffmpeg` cannot be started or refuses, or the file cannot be written.
pub fn encode(frames: impl Iterator<Item = Raw>, encoding: &Encoding, to: &Path) -> io::Result<()> {
    let part = to.with_extension(format!("part{}", std::process::id()));
    let mut child = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-y", "-f", "rawvideo"])
        .args(["-pix_fmt", "yuv420p", "-color_range", "tv"])
        .args(["-s", &format!("{}x{}", encoding.width, encoding.height)])
        .args(["-r", &rate_text(encoding.rate_hz), "-i", "pipe:0"])
        .args(encoding.arguments())
        .arg(&part)
        .env("SVT_LOG", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let complaint = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut from) = stderr {
            // What cannot be read is not told; the exit status still is.
            let _ = from.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let fed = stdin.map_or(Ok(()), |pipe| feed(frames, pipe));
    let status = child.wait()?;
    let complaint = complaint.join().unwrap_or_default();
    if !status.success() {
        let _ = fs::remove_file(&part);
        return Err(io::Error::other(format!(
            "ffmpeg failed on {}: {}",
            encoding.recipe(),
            complaint.trim()
        )));
    }
    fed?;
    fs::rename(&part, to)
}

fn feed(frames: impl Iterator<Item = Raw>, pipe: impl Write) -> io::Result<()> {
    let mut pipe = BufWriter::with_capacity(1 << 16, pipe);
    for frame in frames {
        pipe.write_all(&frame.y)?;
        pipe.write_all(&frame.u)?;
        pipe.write_all(&frame.v)?;
    }
    pipe.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_exact() {
        assert_eq!(rate_text(25.0), "25");
        assert_eq!(rate_text(30_000.0 / 1001.0), "30000/1001");
    }

    #[test]
    fn recipes_tell_encodings_apart() {
        let plain = Encoding::new(Codec::H264, 640, 360, 25.0, 800, 2.0);
        let mut other = plain.clone();
        other.interlaced = true;
        assert_ne!(plain.recipe(), other.recipe());
        other = plain.clone();
        other.options.push("-bf".to_owned());
        assert_ne!(plain.recipe(), other.recipe());
    }
}
