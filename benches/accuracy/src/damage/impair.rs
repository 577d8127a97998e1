//! Seeded damage of a transport stream's pictures.
//!
//! Only packets of pictures are touched, and none of the first second: what is asked is how damage is seen, not how
//! a stream without tables or without a first key frame fares.

use super::ts::{self, HZ, Packet, Syntax, Unit};
use crate::chance::Chance;

/// Packets in a UDP datagram.
const DATAGRAM: usize = 7;
/// Left intact at the beginning, 90 kHz ticks.
const SPARED: u64 = HZ;

/// What is done to a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Harm {
    /// Single packets are lost, each with this probability.
    Packets(f64),
    /// Whole datagrams are lost; probability per packet.
    Datagrams(f64),
    /// Bursts of losses (Gilbert 1960): share of packets lost, mean length in packets.
    Bursts(f64, f64),
    /// A few bytes of a packet are wrong; probability per packet.
    Flips(f64),
    /// Slices are lost, each with this probability.
    Slices(f64),
    /// One key frame is lost.
    Keyframe,
    /// A segment of two seconds lacks its end, by this share.
    Truncated(f64),
}

impl Harm {
    /// A word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Harm::Packets(_) => "packets",
            Harm::Datagrams(_) => "datagrams",
            Harm::Bursts(..) => "bursts",
            Harm::Flips(_) => "flips",
            Harm::Slices(_) => "slices",
            Harm::Keyframe => "keyframe",
            Harm::Truncated(_) => "truncated",
        }
    }

    /// Word and strength, for file names.
    pub fn label(self) -> String {
        match self {
            Harm::Packets(p) | Harm::Datagrams(p) | Harm::Flips(p) | Harm::Slices(p) => {
                format!("{}{p:e}", self.name())
            }
            Harm::Bursts(p, mean) => format!("bursts{mean}x{p:e}"),
            Harm::Truncated(share) => format!("truncated{share}"),
            Harm::Keyframe => "keyframe".to_owned(),
        }
    }
}

/// How a stream is damaged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// What is done.
    pub harm: Harm,
    /// Continuity counters are written anew, so that the transport shows nothing.
    pub hidden: bool,
    /// Of the random numbers.
    pub seed: u64,
}

/// The damaged stream; at least one thing is damaged whatever the probabilities. `None` when there is nothing that
/// could be.
pub fn impair(packets: &[Packet], syntax: Syntax, plan: Plan) -> Option<Vec<Packet>> {
    let pid = ts::video_pid(packets)?;
    let units = ts::units(packets, pid);
    let begin = units.first()?.pts;
    let spared = |u: &&Unit| u.pts < begin + SPARED;
    let units: Vec<&Unit> = units.iter().skip_while(spared).collect();
    let first = *units.first()?.at.first()?;
    let mut chance = Chance::named(plan.seed, &plan.harm.label());
    let mut slots: Vec<Option<Packet>> = packets.iter().copied().map(Some).collect();
    let open: Vec<usize> = (first..packets.len())
        .filter(|&at| packets.get(at).is_some_and(|p| ts::pid(p) == pid))
        .collect();
    match plan.harm {
        Harm::Packets(p) => {
            lose(&mut slots, &drawn(&mut chance, open.len(), p), |i| {
                open.get(i..=i).unwrap_or_default()
            });
        }
        Harm::Datagrams(p) => {
            // Counted over all packets, as a sender cuts them.
            let groups: Vec<&[usize]> =
                open.chunk_by(|a, b| a / DATAGRAM == b / DATAGRAM).collect();
            lose(&mut slots, &drawn(&mut chance, groups.len(), p), |i| {
                groups.get(i).copied().unwrap_or_default()
            });
        }
        Harm::Bursts(share, mean) => {
            // The chain's share of time in its bad state is `share`; a burst ends with 1 / mean.
            let begins = share / mean / (1.0 - share).max(0.01);
            for start in drawn(&mut chance, open.len(), begins) {
                let mut length = 1;
                while !chance.hit(1.0 / mean) && length < 20 * mean as usize {
                    length += 1;
                }
                lose(&mut slots, &[0], |_| {
                    open.get(start..(start + length).min(open.len()))
                        .unwrap_or_default()
                });
            }
        }
        Harm::Flips(p) => {
            // The first packet of a unit holds its PES header, which is not what this is about.
            let inner: Vec<usize> = (open.iter().copied())
                .filter(|&at| packets.get(at).is_some_and(|p| !ts::begins(p)))
                .collect();
            for hit in drawn(&mut chance, inner.len(), p) {
                let slot = inner.get(hit).and_then(|&at| slots.get_mut(at));
                if let Some(Some(packet)) = slot {
                    flip(&mut chance, packet);
                }
            }
        }
        Harm::Slices(p) => {
            let mut all = Vec::new();
            for unit in &units {
                let (bytes, head) = ts::unit_bytes(packets, unit);
                let stream = bytes.get(head..).unwrap_or_default();
                for piece in ts::pieces(stream) {
                    let text = stream.get(piece.clone()).unwrap_or_default();
                    if ts::is_slice(syntax, text) {
                        all.push((*unit, head + piece.start..head + piece.end));
                    }
                }
            }
            let hits = drawn(&mut chance, all.len(), p);
            let hits: Vec<_> = hits.into_iter().filter_map(|i| all.get(i)).collect();
            for same in hits.chunk_by(|a, b| std::ptr::eq(a.0, b.0)) {
                let Some((unit, _)) = same.first() else {
                    continue;
                };
                let (mut bytes, _) = ts::unit_bytes(packets, unit);
                for (_, piece) in same.iter().rev() {
                    bytes.drain(piece.clone());
                }
                ts::refill(&mut slots, unit, &bytes);
            }
        }
        Harm::Keyframe => {
            let keys: Vec<&&Unit> = (units.iter())
                .filter(|unit| {
                    let (bytes, head) = ts::unit_bytes(packets, unit);
                    ts::is_key(syntax, bytes.get(head..).unwrap_or_default())
                })
                .collect();
            lose(&mut slots, &[0], |_| match chance.pick(&keys) {
                Some(unit) => &unit.at,
                None => &[],
            });
        }
        Harm::Truncated(share) => {
            let segment = |u: &Unit| (u.pts - begin) / (2 * HZ);
            let segments: Vec<&[&Unit]> = units.chunk_by(|a, b| segment(a) == segment(b)).collect();
            // The last one may be short already.
            let (_, whole) = segments.split_last()?;
            let of = chance.pick(whole)?;
            let all: Vec<usize> = of.iter().flat_map(|u| u.at.iter().copied()).collect();
            let kept = ((1.0 - share) * all.len() as f64) as usize;
            lose(&mut slots, &[0], |_| all.get(kept..).unwrap_or_default());
        }
    }
    let mut left: Vec<Packet> = slots.into_iter().flatten().collect();
    if left == packets {
        return None;
    }
    if plan.hidden {
        ts::renumber(&mut left, pid);
    }
    Some(left)
}

/// Which of `count` are hit; at least one if there is any.
fn drawn(chance: &mut Chance, count: usize, probability: f64) -> Vec<usize> {
    let mut hits: Vec<usize> = (0..count).filter(|_| chance.hit(probability)).collect();
    if hits.is_empty() && count > 0 {
        hits.push(chance.below(count));
    }
    hits
}

fn lose<'a>(
    slots: &mut [Option<Packet>],
    hits: &[usize],
    mut group: impl FnMut(usize) -> &'a [usize],
) {
    for &hit in hits {
        for &at in group(hit) {
            if let Some(slot) = slots.get_mut(at) {
                *slot = None;
            }
        }
    }
}

fn flip(chance: &mut Chance, packet: &mut Packet) {
    let from = ts::payload_at(packet);
    for _ in 0..=chance.below(3) {
        let at = from + chance.below(packet.len() - from);
        if let Some(byte) = packet.get_mut(at) {
            *byte ^= 1 + chance.below(255) as u8;
        }
    }
}

/// Damages samples in the media of a fragmented MP4, whose boxes and lengths stay as they are: bytes are wrong, or
/// pieces of a packet's size are zero (as a repaired download would leave them). Only `mdat` boxes behind the
/// first are touched, at `probability` per 188 bytes.
pub fn impair_fragments(file: &[u8], zeros: bool, probability: f64, seed: u64) -> Option<Vec<u8>> {
    let mut chance = Chance::named(seed, "fragments");
    let mut file = file.to_vec();
    let mut pieces = Vec::new();
    let (mut at, mut media) = (0, 0);
    while let Some(head) = file.get(at..at + 8) {
        let (size, kind) = head.split_at(4);
        let size = u32::from_be_bytes(*size.first_chunk()?) as usize;
        if kind == b"mdat" {
            media += 1;
            if media > 1 {
                // A temporal unit's head tells its length: without it the rest is lost to any decoder.
                pieces.extend((at + 8 + 188..(at + size).saturating_sub(188)).step_by(188));
            }
        }
        if size < 8 {
            break;
        }
        at += size;
    }
    for hit in drawn(&mut chance, pieces.len(), probability) {
        let from = *pieces.get(hit)?;
        let piece = file.get_mut(from..from + 188)?;
        if zeros {
            piece.fill(0);
        } else if let Some(byte) = piece.get_mut(chance.below(188)) {
            *byte ^= 1 + chance.below(255) as u8;
        }
    }
    (!pieces.is_empty()).then_some(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Eight seconds at 25 Hz of pictures with two slices each, 20 packets a picture; every 25th is a key frame.
    fn stream() -> Vec<Packet> {
        let mut packets = Vec::new();
        for n in 0..200u64 {
            let slice = |head: u8| [&[0, 0, 1, head][..], &[0x55; 1800]].concat();
            let head = if n % 25 == 0 { 0x65 } else { 0x41 };
            let picture = [slice(head), slice(head)].concat();
            packets.extend(ts::tests::pes(90_000 + n * 3600, &picture));
        }
        ts::renumber(&mut packets, 0x100);
        packets
    }

    fn plan(harm: Harm, hidden: bool, seed: u64) -> Plan {
        Plan { harm, hidden, seed }
    }

    /// Whether the counters run on without a gap.
    fn is_continuous(packets: &[Packet]) -> bool {
        packets
            .windows(2)
            .all(|w| (w[0][3] + 1) & 15 == w[1][3] & 15)
    }

    #[test]
    fn every_harm_repeats_by_its_seed_and_spares_the_first_second() {
        let whole = stream();
        let second = whole.len() / 8;
        for harm in [
            Harm::Packets(1e-3),
            Harm::Datagrams(1e-3),
            Harm::Bursts(1e-2, 10.0),
            Harm::Flips(1e-3),
            Harm::Slices(1e-2),
            Harm::Keyframe,
            Harm::Truncated(0.3),
        ] {
            let one = impair(&whole, Syntax::H264, plan(harm, false, 1)).unwrap();
            assert_eq!(
                impair(&whole, Syntax::H264, plan(harm, false, 1)).unwrap(),
                one
            );
            let other =
                |seed| impair(&whole, Syntax::H264, plan(harm, false, seed)).unwrap() != one;
            assert!((2..9).any(other), "{harm:?}");
            assert!(one != whole && one[..second] == whole[..second], "{harm:?}");
            let hidden = impair(&whole, Syntax::H264, plan(harm, true, 1)).unwrap();
            assert!(is_continuous(&hidden) && hidden.len() == one.len());
            let shows = !is_continuous(&one);
            assert_eq!(shows, one.len() < whole.len(), "{harm:?}");
        }
    }

    #[test]
    fn losses_have_their_size() {
        let whole = stream();
        let lost = |harm| {
            let left = impair(&whole, Syntax::H264, plan(harm, true, 4)).unwrap();
            whole.len() - left.len()
        };
        // At least one, whatever the probability.
        assert_eq!(lost(Harm::Packets(0.0)), 1);
        assert!((1..=7).contains(&lost(Harm::Datagrams(0.0))));
        assert_eq!(lost(Harm::Keyframe), 20);
        assert!([250, 500].contains(&lost(Harm::Truncated(0.5))));
        assert!((20..1400).contains(&lost(Harm::Bursts(0.1, 20.0))));
    }

    #[test]
    fn a_lost_slice_leaves_the_other_one_whole() {
        let whole = stream();
        let left = impair(&whole, Syntax::H264, plan(Harm::Slices(0.0), true, 5)).unwrap();
        let short: Vec<Unit> = (ts::units(&left, 0x100).into_iter())
            .filter(|u| u.at.len() < 20)
            .collect();
        assert_eq!(short.len(), 1);
        let (bytes, head) = ts::unit_bytes(&left, &short[0]);
        assert_eq!(bytes.len() - head, 1804);
    }

    #[test]
    fn fragments_keep_their_boxes() {
        let boxed = |kind: &[u8; 4], len: usize| {
            let size = (len as u32 + 8).to_be_bytes();
            [&size[..], kind, &vec![9; len]].concat()
        };
        let file = [
            boxed(b"moov", 50),
            boxed(b"mdat", 2000),
            boxed(b"moof", 50),
            boxed(b"mdat", 2000),
        ]
        .concat();
        let harmed = impair_fragments(&file, true, 0.0, 1).unwrap();
        let changed: Vec<usize> = (0..file.len()).filter(|&i| file[i] != harmed[i]).collect();
        assert_eq!(changed.len(), 188);
        assert!(changed[0] > 2000 + 58 + 8 + 58 + 8 + 180);
        assert_eq!(impair_fragments(&file[..2066], true, 0.5, 1), None);
    }
}
