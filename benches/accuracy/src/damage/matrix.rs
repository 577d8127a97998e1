//! Which clips are damaged how: a pairwise sample of codecs' ways, sizes, rates and harms.

use super::impair::Harm;
use super::recode::{Recode, Shape};
use crate::chance::Chance;
use crate::encode::{Codec, Encoding};

/// Where the damage happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Population {
    /// On the way to the monitor: the transport shows it.
    A,
    /// Before the last multiplexer: only the bitstream shows it.
    B,
    /// Before the last encoder: only pixels show it.
    C,
}

impl Population {
    /// A letter for tables.
    pub fn name(self) -> &'static str {
        match self {
            Population::A => "A",
            Population::B => "B",
            Population::C => "C",
        }
    }
}

/// One clip before it is damaged.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Words for its way of coding: `4 slices`, `cavlc` ...
    pub ways: Vec<&'static str>,
    /// Number of its source.
    pub source: usize,
    /// Number of its row, a seed for its damage.
    pub row: u64,
}

/// One way to damage a clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// Where.
    pub population: Population,
    /// What is done.
    pub harm: Harm,
    /// What follows, in population C.
    pub recode: Option<Recode>,
}

impl Case {
    /// For file names.
    pub fn label(&self) -> String {
        let recode = self
            .recode
            .map_or(String::new(), |r| format!("-{}", r.label()));
        format!("{}-{}{recode}", self.population.name(), self.harm.label())
    }
}

/// Rows of levels, such that soon every pair of levels of any two factors stands in one of them.
pub fn pairwise(levels: &[usize], rows: usize, chance: &mut Chance) -> Vec<Vec<usize>> {
    let mut covered = std::collections::HashSet::new();
    let pairs = |row: &[usize]| {
        let numbered: Vec<(usize, usize)> = row.iter().copied().enumerate().collect();
        let mut all = Vec::new();
        for (i, &a) in numbered.iter().enumerate() {
            all.extend(numbered.iter().skip(i + 1).map(|&b| (a, b)));
        }
        all
    };
    (0..rows)
        .map(|_| {
            let mut best: Option<(usize, Vec<usize>)> = None;
            for _ in 0..40 {
                let row: Vec<usize> = levels.iter().map(|&n| chance.below(n)).collect();
                let new = pairs(&row).iter().filter(|p| !covered.contains(*p)).count();
                if best.as_ref().is_none_or(|(most, _)| new > *most) {
                    best = Some((new, row));
                }
            }
            let row = best.map(|(_, row)| row).unwrap_or_default();
            covered.extend(pairs(&row));
            row
        })
        .collect()
}

/// Size and bit rate.
type Size = (usize, usize, u32);

const SIZES: [Size; 7] = [
    (1280, 720, 500),
    (1280, 720, 1500),
    (1280, 720, 3000),
    (1920, 1080, 1500),
    (1920, 1080, 3000),
    (1920, 1080, 6000),
    (1920, 1080, 12000),
];
/// For a quick look.
const SMALL_SIZES: [Size; 3] = [(640, 360, 400), (640, 360, 800), (640, 360, 1500)];
/// Less than this no MPEG-2 encoder gives.
const MPEG2_SIZES: [Size; 4] = [
    (1280, 720, 2000),
    (1280, 720, 3000),
    (1920, 1080, 6000),
    (1920, 1080, 12000),
];
const RATES_HZ: [f64; 3] = [25.0, 30.0, 50.0];
const GOPS_SECS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

/// Ways of coding: what to call them, and options of `ffmpeg`.
type Ways = &'static [(&'static str, &'static [&'static str])];

const H264_SLICES: Ways = &[
    ("1 slice", &[]),
    ("4 slices", &["-slices", "4"]),
    ("8 slices", &["-slices", "8"]),
];
const H264_ENTROPY: Ways = &[("cabac", &[]), ("cavlc", &["-coder", "vlc"])];
const H264_GROUPS: Ways = &[
    ("closed", &[]),
    ("open", &["-flags", "-cgop"]),
    ("refresh", &["-intra-refresh", "1"]),
];
const NONE: Ways = &[("", &[])];

/// The clips of one codec, to be damaged.
pub fn bases(codec: Codec, sources: usize, rows: usize, small: bool, seed: u64) -> Vec<Base> {
    let sizes: &[Size] = match codec {
        _ if small => &SMALL_SIZES,
        Codec::Mpeg2 => &MPEG2_SIZES,
        _ => &SIZES,
    };
    let ways: [Ways; 3] = match codec {
        Codec::H264 => [H264_SLICES, H264_ENTROPY, H264_GROUPS],
        _ => [NONE; 3],
    };
    let levels = [
        sizes.len(),
        RATES_HZ.len(),
        GOPS_SECS.len(),
        ways[0].len(),
        ways[1].len(),
        ways[2].len(),
    ];
    let mut chance = Chance::named(seed, codec.name());
    // Sources in turn, so that all are seen before one is seen again.
    let mut order: Vec<usize> = (0..sources).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, chance.below(i + 1));
    }
    let table = pairwise(&levels, rows, &mut chance);
    let make = |(row, levels): (usize, &Vec<usize>)| {
        let &[size, rate, gop, a, b, c] = levels.first_chunk::<6>()?;
        let &(width, height, kbps) = sizes.get(size)?;
        let (rate, gop) = (*RATES_HZ.get(rate)?, *GOPS_SECS.get(gop)?);
        let mut encoding = Encoding::new(codec, width, height, rate, kbps, gop);
        let mut words = Vec::new();
        for (ways, level) in ways.iter().zip([a, b, c]) {
            let (word, options) = ways.get(level)?;
            words.extend(Some(*word).filter(|w| !w.is_empty()));
            encoding
                .options
                .extend(options.iter().map(|&o| o.to_owned()));
        }
        if codec == Codec::Av1 {
            let fragments = ["-movflags", "frag_keyframe+empty_moov+default_base_moof"];
            encoding.options.extend(fragments.map(str::to_owned));
        }
        Some(Base {
            encoding,
            ways: words,
            source: *order.get(row % order.len().max(1))?,
            row: row as u64,
        })
    };
    table.iter().enumerate().filter_map(make).collect()
}

const LOSSES: [Harm; 9] = [
    Harm::Packets(1e-3),
    Harm::Packets(1e-4),
    Harm::Packets(1e-5),
    Harm::Datagrams(1e-3),
    Harm::Datagrams(1e-4),
    Harm::Bursts(1e-3, 10.0),
    Harm::Bursts(1e-3, 50.0),
    Harm::Bursts(1e-3, 200.0),
    Harm::Flips(1e-3),
];
const HIDDEN: [Harm; 10] = [
    Harm::Packets(1e-3),
    Harm::Packets(1e-4),
    Harm::Datagrams(1e-4),
    Harm::Bursts(1e-3, 10.0),
    Harm::Bursts(1e-3, 200.0),
    Harm::Slices(1e-2),
    Harm::Slices(1e-3),
    Harm::Keyframe,
    Harm::Truncated(0.2),
    Harm::Truncated(0.6),
];

/// How a clip is damaged, `count` ways in each population; every harm comes in its turn.
pub fn cases(base: &Base, count: usize) -> Vec<Case> {
    let Encoding {
        codec,
        bitrate_kbps,
        ..
    } = base.encoding;
    let row = usize::try_from(base.row).unwrap_or(0);
    let turn = |list: &[Harm], i: usize| list.get((row * count + i) % list.len()).copied();
    let mut cases = Vec::new();
    for i in 0..count {
        if codec == Codec::Av1 {
            // Without packets there is no transport to tell: bytes are wrong, or pieces are empty.
            let harms = [
                Harm::Flips(1e-3),
                Harm::Packets(1e-3),
                Harm::Flips(1e-4),
                Harm::Packets(1e-4),
            ];
            cases.extend(turn(&harms, i).map(|harm| Case {
                population: Population::B,
                harm,
                recode: None,
            }));
            continue;
        }
        let plain = |population, harm| Case {
            population,
            harm,
            recode: None,
        };
        cases.extend(turn(&LOSSES, i).map(|harm| plain(Population::A, harm)));
        cases.extend(turn(&HIDDEN, i).map(|harm| plain(Population::B, harm)));
        let shape = Shape::ALL.get((row + i) % 3).copied();
        // Three rates: poorer than before, as before, richer.
        let kbps = [bitrate_kbps / 2, bitrate_kbps, bitrate_kbps * 2]
            .get((row / 3 + i) % 3)
            .copied();
        if let (Some(shape), Some(kbps)) = (shape, kbps) {
            let recode = Recode {
                shape,
                bitrate_kbps: kbps.clamp(500, 8000),
            };
            cases.extend(turn(&LOSSES, i + 1).map(|harm| Case {
                population: Population::C,
                harm,
                recode: Some(recode),
            }));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_levels_comes_up() {
        let levels = [7, 3, 4, 3, 2, 3];
        let rows = pairwise(&levels, 40, &mut Chance::new(1));
        for i in 0..levels.len() {
            for j in i + 1..levels.len() {
                let seen: std::collections::HashSet<_> =
                    rows.iter().map(|r| (r[i], r[j])).collect();
                assert_eq!(seen.len(), levels[i] * levels[j], "{i} {j}");
            }
        }
    }

    #[test]
    fn all_harms_and_all_sources_have_their_turn() {
        let bases = bases(Codec::H264, 7, 30, false, 1);
        assert_eq!(bases.len(), 30);
        let sources: std::collections::HashSet<_> =
            bases.iter().take(7).map(|b| b.source).collect();
        assert_eq!(sources.len(), 7);
        let labels = |p| {
            let cases = bases.iter().flat_map(|b| cases(b, 2));
            let of = cases.filter(move |c| c.population == p);
            of.map(|c| c.harm.label())
                .collect::<std::collections::HashSet<_>>()
        };
        assert_eq!(labels(Population::A).len(), LOSSES.len());
        assert_eq!(labels(Population::B).len(), HIDDEN.len());
        assert_eq!(labels(Population::C).len(), LOSSES.len());
        assert!(
            cases(&bases[0], 2)
                .iter()
                .all(|c| c.recode.is_some() == (c.population == Population::C))
        );
    }
}
