//! Clips of which only the noise of a camera tells that they are live.

use std::io;
use std::path::Path;

use crate::damage::decode::Decoder;
use crate::encode::Encoding;

/// Noise has survived an encoder where nine of ten pictures differ by so many codes from the one before, on average.
const NOISE_CODES: f64 = 0.1;
/// Where it has not, the rate is doubled, so often.
const RATES_TRIED: usize = 5;

/// Makes a clip of which only noise tells that it is live, at a rate that keeps it.
///
/// # Errors
/// When it cannot be made, or no rate does.
pub fn make<T>(
    path: &Path,
    encoding: &Encoding,
    mut encode: impl FnMut(&Encoding) -> io::Result<T>,
) -> io::Result<T> {
    let mut encoding = encoding.clone();
    for _ in 0..RATES_TRIED {
        let made = encode(&encoding)?;
        if noise_survives(path, &encoding)? {
            return Ok(made);
        }
        encoding.bitrate_kbps *= 2;
    }
    let problem = format!("{}: no rate keeps its noise", path.display());
    Err(io::Error::other(problem))
}

/// Whether the pictures of a clip still differ from the ones before, by [`NOISE_CODES`].
fn noise_survives(clip: &Path, encoding: &Encoding) -> io::Result<bool> {
    let size = (encoding.width, encoding.height);
    let mut decoder = Decoder::open(clip, encoding.codec, "format=yuv420p", size)?;
    let (mut before, mut all, mut live) = (None::<Vec<u8>>, 0u32, 0u32);
    while let Some(picture) = decoder.picture()? {
        if let Some(before) = &before {
            let codes: u64 = (before.iter().zip(&picture.rows))
                .map(|(a, b)| u64::from(a.abs_diff(*b)))
                .sum();
            all += 1;
            live += u32::from(codes as f64 >= NOISE_CODES * picture.rows.len() as f64);
        }
        before = Some(picture.rows);
    }
    Ok(10 * live >= 9 * all && all > 0)
}
