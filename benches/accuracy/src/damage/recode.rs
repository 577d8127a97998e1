//! Population C: damage that happened upstream, was decoded, scaled or cropped, and encoded again. The transport and
//! the bitstream are clean; only pixels tell.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::decode::input_options;
use crate::encode::{Encoding, rate_text};

/// What becomes of the picture between the decoder and the next encoder: the coding grid is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Cropped by odd numbers of pixels.
    Crop,
    /// Scaled to four fifths.
    Down,
    /// Scaled by a little, as to another pixel shape.
    Slight,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 3] = [Shape::Crop, Shape::Down, Shape::Slight];

    /// A word for tables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Crop => "crop",
            Shape::Down => "down",
            Shape::Slight => "slight",
        }
    }

    /// Size of what was `width` x `height`; even.
    pub fn size(self, (width, height): (usize, usize)) -> (usize, usize) {
        match self {
            Shape::Crop => (width - 14, height - 10),
            Shape::Down => ((width * 4 / 5) & !1, (height * 4 / 5) & !1),
            Shape::Slight => ((width * 71 / 72) & !1, (height * 71 / 72) & !1),
        }
    }

    fn filter(self, size: (usize, usize)) -> String {
        let (width, height) = self.size(size);
        match self {
            Shape::Crop => format!("crop={width}:{height}:7:5:exact=1"),
            Shape::Down | Shape::Slight => format!("scale={width}:{height}:flags=bicubic"),
        }
    }
}

/// How a clip is encoded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recode {
    /// What is done to the picture.
    pub shape: Shape,
    /// Constant bit rate, kilobits a second.
    pub bitrate_kbps: u32,
}

impl Recode {
    /// For file names.
    pub fn label(self) -> String {
        format!("{}-{}k", self.shape.name(), self.bitrate_kbps)
    }

    /// Filters between the decoder and the encoder: pictures at a constant rate, as a playout gives them (missing
    /// ones are shown again), counted from `origin_secs`.
    pub fn filters(self, of: &Encoding, origin_secs: f64) -> String {
        let rate = rate_text(of.rate_hz);
        let shape = self.shape.filter((of.width, of.height));
        format!("fps={rate}:start_time={origin_secs},{shape},setpts=N/({rate})/TB")
    }

    /// Decodes a clip and encodes it again to a transport stream, which appears only when it is whole.
    ///
    /// # Errors
    /// When `ffmpeg` cannot be started or refuses.
    pub fn run(self, of: &Encoding, clip: &Path, origin_secs: f64, to: &Path) -> io::Result<()> {
        let part = to.with_extension(format!("part{}", std::process::id()));
        let gop = (2.0 * of.rate_hz).round();
        let rate = format!("{}k", self.bitrate_kbps);
        let said = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "fatal", "-y", "-threads", "1"])
            .args(input_options(of.codec))
            .arg("-copyts")
            .arg("-i")
            .arg(clip)
            .args(["-map", "0:v:0", "-vf", &self.filters(of, origin_secs)])
            .args(["-pix_fmt", "yuv420p", "-fps_mode", "passthrough"])
            .args(["-c:v", "libx264", "-preset", "veryfast", "-threads", "1"])
            .args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate])
            .args([
                "-x264-params",
                &format!("keyint={gop}:min-keyint={gop}:scenecut=0"),
            ])
            .args(["-f", "mpegts"])
            .arg(&part)
            .stdin(Stdio::null())
            .output()?;
        if !said.status.success() {
            // What is left of a failed run helps nobody.
            let _ = fs::remove_file(&part);
            let why = String::from_utf8_lossy(&said.stderr).into_owned();
            return Err(io::Error::other(format!(
                "{}: {}",
                clip.display(),
                why.trim()
            )));
        }
        fs::rename(&part, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shape_keeps_the_grid_and_all_sizes_are_even() {
        for (size, shape) in [(1280, 720), (1920, 1080)].into_iter().zip(Shape::ALL) {
            let (width, height) = shape.size(size);
            assert!(width < size.0 && height < size.1);
            assert_eq!((width % 2, height % 2), (0, 0));
        }
        let base = Encoding::new(crate::encode::Codec::H264, 1280, 720, 25.0, 1500, 2.0);
        let filters = |shape| {
            Recode {
                shape,
                bitrate_kbps: 800,
            }
            .filters(&base, 1.48)
        };
        assert!(filters(Shape::Crop).contains("crop=1266:710:7:5:exact=1"));
        assert!(filters(Shape::Down).starts_with("fps=25:start_time=1.48,scale=1024:576"));
    }
}
