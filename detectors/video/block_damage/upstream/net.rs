//! A small net that says of a patch whether damage was born or healed there.
//!
//! Four planes of 64x64; four convolutions 3x3 of stride 2 with 12, 24, 32 and 40 channels; mean and largest value
//! of every channel, with the numbers of the picture around, into 32 and then 1. 28,000 weights, learned by
//! `benches/accuracy/train` from damage of known extent, kept as bfloat16. 1.8 million multiplications a patch.

use std::sync::LazyLock;

use super::gate::PATCH;
use super::patch::{CONTEXT, PLANE, Patch};

const PLANES: usize = 4;
const CHANNELS: [usize; 4] = [12, 24, 32, 40];
const HIDDEN: usize = 32;
/// Differences to the mean of the moment, and what no motion explains, are divided by these.
const SHADE_CODES: f32 = 32.0;
const UNEXPLAINED_CODES: f32 = 16.0;

/// The learned net.
pub static NET: LazyLock<Net> = LazyLock::new(|| Net::read(include_bytes!("weights.bin")));

/// Weights, ready to use.
#[derive(Debug)]
pub struct Net {
    layers: Vec<Layer>,
    hidden: Dense,
    last: Dense,
}

#[derive(Debug)]
struct Layer {
    /// By tap, input and output channel.
    weights: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

#[derive(Debug)]
struct Dense {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// Takes numbers off a list of bfloat16, the upper halves of 32-bit ones; zeros past its end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Vec<f32> {
        let (now, rest) = self.0.split_at(self.0.len().min(2 * count));
        self.0 = rest;
        let (pairs, _) = now.as_chunks::<2>();
        let number = |&b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
        let mut all: Vec<f32> = pairs.iter().map(number).collect();
        all.resize(count, 0.0);
        all
    }
}

impl Net {
    fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader(bytes);
        let mut inputs = PLANES;
        let mut layers = Vec::new();
        for outputs in CHANNELS {
            // Kept by output, input and tap.
            let kept = reader.take(outputs * inputs * 9);
            let mut weights = vec![0.0; kept.len()];
            for (at, weight) in kept.into_iter().enumerate() {
                let (output, input, tap) = (at / 9 / inputs, at / 9 % inputs, at % 9);
                if let Some(to) = weights.get_mut((tap * inputs + input) * outputs + output) {
                    *to = weight;
                }
            }
            let bias = reader.take(outputs);
            layers.push(Layer {
                weights,
                bias,
                inputs,
            });
            inputs = outputs;
        }
        let mut dense = |inputs: usize, outputs: usize| Dense {
            weights: reader.take(inputs * outputs),
            bias: reader.take(outputs),
        };
        Self {
            layers,
            hidden: dense(2 * inputs + CONTEXT, HIDDEN),
            last: dense(HIDDEN, 1),
        }
    }

    /// Log odds that the patch shows damage that was born or healed at its moment.
    pub fn log_odds(&self, patch: &Patch, context: &[f32; CONTEXT]) -> f32 {
        let mut now = planes(patch);
        let mut edge = PATCH;
        for layer in &self.layers {
            let mut next = Vec::new();
            convolve(
                &layer.weights,
                &layer.bias,
                layer.inputs,
                &now,
                edge,
                &mut next,
            );
            (now, edge) = (next, edge / 2);
        }
        let channels = self.layers.last().map_or(1, |l| l.bias.len());
        let mut means = vec![0.0; channels];
        let mut most = vec![0.0f32; channels];
        for pixel in now.chunks_exact(channels) {
            for ((value, mean), most) in pixel.iter().zip(&mut means).zip(&mut most) {
                *mean += value / (edge * edge) as f32;
                *most = most.max(*value);
            }
        }
        means.extend(most);
        means.extend(context);
        let hidden = self.hidden.of(&means);
        let hidden: Vec<f32> = hidden.into_iter().map(|v| v.max(0.0)).collect();
        self.last.of(&hidden).first().copied().unwrap_or_default()
    }
}

impl Dense {
    fn of(&self, inputs: &[f32]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(inputs.len().max(1));
        let dot = |row: &[f32]| row.iter().zip(inputs).map(|(w, v)| w * v).sum::<f32>();
        rows.zip(&self.bias)
            .map(|(row, bias)| dot(row) + bias)
            .collect()
    }
}

/// Pixel by pixel, the four planes.
fn planes(patch: &Patch) -> Vec<f32> {
    let sum: u32 = patch.born.iter().map(|v| u32::from(*v)).sum();
    let mean = sum as f32 / PLANE as f32;
    let shade = |v: u8| (f32::from(v) - mean) / SHADE_CODES;
    let mut out = Vec::with_capacity(PLANES * PLANE);
    let pixels =
        (patch.before.iter().zip(&patch.born)).zip(patch.unexplained.iter().zip(&patch.later));
    for ((before, born), (unexplained, later)) in pixels {
        out.extend([
            shade(*before),
            shade(*born),
            f32::from(*unexplained) / UNEXPLAINED_CODES,
            shade(*later),
        ]);
    }
    out.resize(PLANES * PLANE, 0.0);
    out
}

/// A convolution 3x3 of stride 2 over a square of `edge` pixels, zeros around it; what is below zero becomes zero.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn convolve(
    weights: &[f32],
    bias: &[f32],
    inputs: usize,
    from: &[f32],
    edge: usize,
    out: &mut Vec<f32>,
) {
    let outputs = bias.len().max(1);
    out.clear();
    out.reserve(edge * edge / 4 * outputs);
    for y in (0..edge).step_by(2) {
        for x in (0..edge).step_by(2) {
            let at = out.len();
            out.extend_from_slice(bias);
            let Some(sums) = out.get_mut(at..) else {
                return;
            };
            for (tap, weights) in weights.chunks_exact(inputs * outputs).enumerate() {
                let (row, column) = ((y + tap / 3).wrapping_sub(1), (x + tap % 3).wrapping_sub(1));
                if row >= edge || column >= edge {
                    continue;
                }
                let first = (row * edge + column) * inputs;
                let Some(pixel) = from.get(first..first + inputs) else {
                    continue;
                };
                for (value, weights) in pixel.iter().zip(weights.chunks_exact(outputs)) {
                    if *value != 0.0 {
                        for (sum, weight) in sums.iter_mut().zip(weights) {
                            *sum += value * weight;
                        }
                    }
                }
            }
            for sum in sums {
                *sum = sum.max(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// The training script computes the same pattern and puts its answer behind the weights.
    #[test]
    fn the_answer_is_that_of_the_training_script() {
        let plane = |p: usize| -> Vec<u8> {
            (0..PLANE)
                .map(|i| {
                    let (x, y) = (i % PATCH, i / PATCH);
                    (((x * (3 + p) + y * 5 + p * 40) ^ (x * y / 7)) & 255) as u8
                })
                .collect()
        };
        let patch = Patch {
            before: plane(0),
            born: plane(1),
            unexplained: plane(2),
            later: plane(3),
        };
        let context = std::array::from_fn(|i| 0.1 * i as f32);
        let bytes = include_bytes!("weights.bin");
        let expected = f32::from_le_bytes(*bytes.last_chunk().unwrap());
        let given = NET.log_odds(&patch, &context);
        assert!(
            (given - expected).abs() < 0.02 * expected.abs().max(1.0),
            "{given} {expected}"
        );
        let weights: usize = (NET.layers.iter().map(|l| l.weights.len() + l.bias.len()))
            .chain([&NET.hidden, &NET.last].map(|d| d.weights.len() + d.bias.len()))
            .sum();
        assert_eq!(bytes.len(), 2 * weights + 4);
    }

    /// The definition of a convolution, sample by sample.
    #[test]
    fn a_convolution_equals_its_definition() {
        let (inputs, outputs, edge) = (2, 3, 6);
        let weights: Vec<f32> = (0..9 * inputs * outputs)
            .map(|i| (i as f32 * 0.7).sin())
            .collect();
        let from: Vec<f32> = (0..edge * edge * inputs)
            .map(|i| (i as f32 * 0.3).cos())
            .collect();
        let bias = [0.1, -0.2, 0.3];
        let mut out = Vec::new();
        convolve(&weights, &bias, inputs, &from, edge, &mut out);
        assert_eq!(out.len(), 9 * outputs);
        for (at, given) in out.iter().enumerate() {
            let (y, x, o) = (at / outputs / 3, at / outputs % 3, at % outputs);
            let mut sum = bias[o];
            for tap in 0..9 {
                let (row, column) = (
                    (2 * y + tap / 3) as isize - 1,
                    (2 * x + tap % 3) as isize - 1,
                );
                if (0..6).contains(&row) && (0..6).contains(&column) {
                    for i in 0..inputs {
                        let pixel = from[(row as usize * edge + column as usize) * inputs + i];
                        sum += pixel * weights[(tap * inputs + i) * outputs + o];
                    }
                }
            }
            assert!((given - sum.max(0.0)).abs() < 1e-5);
        }
    }
}
