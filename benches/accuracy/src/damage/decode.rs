//! Luma of decoded pictures with their times, from `ffmpeg` on one thread.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::encode::Codec;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Luma {
    /// Presentation time in the clip's own ticks: pictures are matched by it.
    pub pts: i64,
    /// The same in seconds.
    pub secs: f64,
    /// Samples a row.
    pub width: usize,
    /// Rows, one after another, as coded (limited range).
    pub rows: Vec<u8>,
}

/// A clip being decoded. What a damaged stream gives is handed on, as the product does.
#[derive(Debug)]
pub struct Decoder {
    child: Child,
    out: BufReader<ChildStdout>,
    times: Receiver<(i64, f64)>,
    width: usize,
    height: usize,
}

impl Decoder {
    /// Decodes a clip whose pictures have this size once `filters` (as `-vf` takes them) were applied.
    ///
    /// # Errors
    /// When `ffmpeg` cannot be started.
    pub fn open(
        clip: &Path,
        codec: Codec,
        filters: &str,
        (width, height): (usize, usize),
    ) -> io::Result<Self> {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-hide_banner", "-nostats", "-threads", "1"]);
        command.args(input_options(codec));
        let comma = if filters.is_empty() { "" } else { "," };
        // Planes are taken as they are: a conversion to grey would stretch their range.
        let chain = format!("{filters}{comma}extractplanes=y,showinfo=checksum=0");
        command
            .arg("-copyts")
            .arg("-i")
            .arg(clip)
            .args(["-map", "0:v:0", "-vf", &chain, "-filter_threads", "1"])
            .args(["-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (out, log) = (child.stdout.take(), child.stderr.take());
        let (Some(out), Some(log)) = (out, log) else {
            return Err(io::Error::other("ffmpeg without pipes"));
        };
        let (tell, times) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
                let time = shown(&String::from_utf8_lossy(&line));
                if time.is_some_and(|time| tell.send(time).is_err()) {
                    // Nobody listens, but the pipe must not fill.
                }
            }
        });
        Ok(Self {
            child,
            out: BufReader::with_capacity(1 << 20, out),
            times,
            width,
            height,
        })
    }

    /// The next picture; `None` at the end.
    ///
    /// # Errors
    /// When the pipe breaks in the middle of a picture, or a picture has no time.
    pub fn picture(&mut self) -> io::Result<Option<Luma>> {
        if self.out.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut rows = vec![0; self.width * self.height];
        self.out.read_exact(&mut rows)?;
        let (pts, secs) = (self.times.recv()).map_err(|_| io::Error::other("no time"))?;
        Ok(Some(Luma {
            pts,
            secs,
            width: self.width,
            rows,
        }))
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `ffmpeg` is told of an input of this codec: the decoders of the product.
pub fn input_options(codec: Codec) -> &'static [&'static str] {
    match codec {
        Codec::Av1 => &["-c:v", "libaom-av1"],
        _ => &["-flags", "+output_corrupt"],
    }
}

/// Ticks and seconds in a line of `showinfo`; `None` for other lines and pictures without a time.
fn shown(line: &str) -> Option<(i64, f64)> {
    let (_, rest) = line.split_once("] n:")?;
    let number = |key: &str| {
        let (_, rest) = rest.split_once(key)?;
        rest.split_whitespace().next()
    };
    Some((
        number(" pts:")?.parse().ok()?,
        number(" pts_time:")?.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_log() {
        let line =
            "[Parsed_showinfo_1 @ 0x55] n:   3 pts: 133200 pts_time:1.48    pos:  9 fmt:gray";
        assert_eq!(shown(line), Some((133_200, 1.48)));
        assert_eq!(
            shown("[h264 @ 0x1] concealing 3 DC, 3 AC, 3 MV errors"),
            None
        );
        assert_eq!(shown("[x] n:   3 pts:NOPTS   pts_time:NOPTS "), None);
    }
}
