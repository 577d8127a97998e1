//! Walks over what an encoder writes, sound and damaged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use super::super::{Continuity, Found, bits};
use crate::transport::Codec;
use EvidenceKind::BrokenSlice;
use detectors::base::EvidenceKind;
use fastrand::Rng;

/// Access units of an encoder run.
fn encode(format: &str, params: &str) -> Vec<Vec<u8>> {
    let source = "testsrc2=s=208x144:r=25,noise=alls=10:allf=t:all_seed=7";
    let args = format!(
        "-v error -f lavfi -i {source} -t 1.4 -threads 1 -pix_fmt {format} -c:v libx265 \
         -x265-params log-level=none:pools=1:frame-threads=1:{params} -f hevc -"
    );
    let output = Command::new("ffmpeg")
        .args(args.split_whitespace())
        .output();
    let bytes = output.expect("ffmpeg runs").stdout;
    assert!(!bytes.is_empty(), "ffmpeg makes no `{format}` `{params}`");
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut sliced = true;
    for unit in bits::units(&bytes) {
        let kind = unit[0] >> 1;
        let begins = match kind {
            0..32 => unit[2] & 0x80 != 0,
            32..=35 | 39 => true,
            _ => false,
        };
        if sliced && begins {
            all.push(Vec::new());
            sliced = false;
        }
        sliced |= kind < 32;
        let now = all.last_mut().unwrap();
        now.extend([0, 0, 1]);
        now.extend(unit);
    }
    all
}

/// Slices of an access unit: where their units begin and end.
fn slices(unit: &[u8]) -> Vec<(usize, usize)> {
    let all = bits::units(unit).filter(|u| u[0] >> 1 < 32);
    let from = unit.as_ptr() as usize;
    all.map(|u| {
        (
            u.as_ptr() as usize - from,
            u.as_ptr() as usize - from + u.len(),
        )
    })
    .collect()
}

fn run(units: &[Vec<u8>]) -> (Vec<Vec<Found>>, (u32, u32, bool)) {
    let mut continuity = Continuity::new(Codec::Hevc).unwrap();
    let read = |unit: &Vec<u8>| {
        let mut found = Vec::new();
        continuity.access_unit(unit, &mut |f| found.push(f));
        found
    };
    let found = units.iter().map(read).collect();
    (found, continuity.walked())
}

fn is_evidence(found: &Found) -> bool {
    matches!(found, Found::Evidence(..) | Found::Earlier(..))
}

/// One for each part of the syntax that an encoder here can write.
const SETTINGS: [(&str, &str); 16] = [
    (
        "yuv420p",
        "preset=ultrafast:keyint=10:hrd=1:vbv-maxrate=400:vbv-bufsize=400:bitrate=300:aud=1:repeat-headers=1",
    ),
    (
        "yuv420p",
        "preset=medium:slices=2:wpp=1:ctu=32:temporal-layers=1",
    ),
    (
        "yuv420p",
        "preset=veryslow:crf=24:wpp=0:bframes=4:weightb=1",
    ),
    (
        "yuv420p10le",
        "preset=medium:crf=18:wpp=1:rect=1:amp=1:b-intra=1",
    ),
    ("yuv422p", "preset=medium:crf=18:ctu=16"),
    ("yuv422p10le", "preset=slow:crf=10"),
    ("yuv444p", "preset=slow:crf=14:tskip=1:tu-intra-depth=3"),
    ("yuv444p12le", "preset=veryfast:crf=2"),
    ("gray", "preset=fast"),
    ("yuv420p", "preset=fast:tskip=1:crf=12:scaling-list=default"),
    ("yuv420p", "preset=fast:cu-lossless=1:rd=6:crf=4"),
    (
        "yuv420p",
        "preset=medium:signhide=0:aq-mode=3:aq-strength=2:qg-size=8:ctu=64:cbqpoffs=4:crqpoffs=-3",
    ),
    (
        "yuv420p",
        "preset=medium:keyint=8:open-gop=1:interlace=tff:constrained-intra=1",
    ),
    (
        "yuv420p",
        "preset=medium:ctu=64:min-cu-size=32:max-tu-size=16",
    ),
    (
        "yuv420p",
        "preset=slow:tu-inter-depth=4:tu-intra-depth=4:limit-tu=0:intra-refresh=1",
    ),
    (
        "yuv420p",
        "preset=fast:strict-cbr=1:bitrate=1500:vbv-maxrate=1500:vbv-bufsize=1500:hrd=1:filler=1:no-sao=1",
    ),
];

#[test]
fn sound_slices_are_walked_to_their_ends() {
    for (format, params) in SETTINGS {
        let units = encode(format, params);
        let count: usize = units.iter().map(|unit| slices(unit).len()).sum();
        let (found, walked) = run(&units);
        let told: Vec<_> = found.iter().flatten().filter(|f| is_evidence(f)).collect();
        assert!(told.is_empty(), "{format} {params}: {told:?}");
        assert_eq!(walked, (count as u32, 0, false), "{format} {params}");
        assert!(count >= 30, "{format} {params}: {count}");
        // However the bytes are cut, nothing is wrong with them.
        let all = units.concat();
        for size in [97, 700, 5000] {
            let pieces: Vec<Vec<u8>> = all.chunks(size).map(<[u8]>::to_vec).collect();
            let (found, _) = run(&pieces);
            assert!(
                !found.iter().flatten().any(is_evidence),
                "{format} {params} {size}"
            );
        }
    }
}

/// Damages a slice somewhere behind its header.
fn damage(unit: &mut Vec<u8>, how: usize, random: &mut Rng) -> bool {
    let slices = slices(unit);
    let (begin, end) = slices[random.usize(..slices.len())];
    if end - begin < 64 {
        return false;
    }
    let at = begin + 24 + random.usize(..end - begin - 40);
    match how {
        // What packets of a transport stream carry.
        0 => drop(unit.drain(at..(at + 184 * (1 + random.usize(..7))).min(end - 4))),
        1 => drop(unit.drain(at..end)),
        2 => drop(unit.drain(at..(at + 1 + random.usize(..12)).min(end - 4))),
        _ => unit[at] ^= 1 + random.usize(..255) as u8,
    }
    true
}

#[test]
fn damage_inside_slices_is_told() {
    let mut random = Rng::with_seed(1);
    // Trials and hits: losses of packets, truncation, losses of bytes; flips of a byte.
    let mut counts = [(0u32, 0u32); 4];
    for (format, params) in [SETTINGS[1], SETTINGS[2], SETTINGS[3]] {
        let units = encode(format, params);
        for _ in 0..12 {
            let mut damaged = units.clone();
            let mut where_how = Vec::new();
            for at in (13..units.len() - 1).step_by(4) {
                let how = random.usize(..4);
                if damage(&mut damaged[at], how, &mut random) {
                    where_how.push((at, how));
                }
            }
            let (found, _) = run(&damaged);
            for &(at, how) in &where_how {
                let now = found[at]
                    .iter()
                    .any(|f| matches!(f, Found::Evidence(BrokenSlice, 1)));
                let later = |f: &Found| matches!(f, Found::Earlier(BrokenSlice, 1));
                counts[how].0 += 1;
                counts[how].1 += u32::from(now || found[at + 1].iter().any(later));
            }
            // Sound pictures are not blamed.
            for (at, found) in found.iter().enumerate() {
                let near = |shift: usize| where_how.iter().any(|(w, _)| w + shift == at);
                let blamed = |f: &Found| matches!(f, Found::Evidence(BrokenSlice, _));
                assert!(
                    near(0) || !found.iter().any(blamed),
                    "{params} {at} {found:?}"
                );
                assert!(
                    near(0) || near(1) || !found.iter().any(is_evidence),
                    "{params} {at} {found:?}"
                );
            }
        }
    }
    let [packets, cut, bytes, flips] = counts;
    assert!(packets.0 >= 30 && flips.0 >= 30, "{counts:?}");
    for (trials, hits) in [packets, cut, bytes] {
        assert!(hits * 100 >= trials * 99, "{counts:?}");
    }
    // Bins that are not modelled, signs most of all, may turn without a trace.
    assert!(flips.1 * 100 >= flips.0 * 95, "{counts:?}");
}

#[test]
fn a_missing_slice_is_told_by_the_one_before() {
    let units = encode("yuv420p", "preset=medium:slices=3:ctu=16:bframes=0");
    assert_eq!(slices(&units[20]).len(), 3);
    for lost in [1, 2] {
        let mut damaged = units.clone();
        let (begin, end) = slices(&damaged[20])[lost];
        damaged[20].drain(begin - 3..end);
        let (found, _) = run(&damaged);
        let told: Vec<_> = found.iter().flatten().filter(|f| is_evidence(f)).collect();
        assert_eq!(told.len(), 1, "{lost} {told:?}");
        let there = if lost == 1 { &found[20] } else { &found[21] };
        assert!(there.iter().any(is_evidence), "{lost}");
    }
}

#[test]
fn slices_of_other_parameter_sets_are_never_told() {
    let sets = encode("yuv420p", "preset=ultrafast:ctu=16:keyint=-1");
    let mut units = encode("yuv420p", "preset=medium:ctu=64:keyint=-1:bframes=0");
    let from = slices(&sets[0])[0].0 - 3;
    let until = slices(&units[0])[0].0 - 3;
    units[0].splice(0..until, sets[0][..from].iter().copied());
    let (found, (sound, broken, lost)) = run(&units);
    assert!(lost && broken > 4 * sound, "{sound} {broken}");
    assert!(!found.iter().flatten().any(is_evidence), "{found:?}");
}
