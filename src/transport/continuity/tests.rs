#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use super::*;
use crate::transport::testkit::demux;
use crate::transport::ts::TsEvent;
use EvidenceKind::{BrokenSlice, PictureNumberGap};

fn evidence(found: &[Found]) -> Vec<(EvidenceKind, u32)> {
    let one = |f: &Found| match f {
        Found::Evidence(kind, count) | Found::Earlier(kind, count) => Some((*kind, *count)),
        _ => None,
    };
    found.iter().filter_map(one).collect()
}

fn run(codec: Codec, units: &[Vec<u8>]) -> Vec<Found> {
    let mut continuity = Continuity::new(codec).unwrap();
    let mut out = Vec::new();
    for unit in units {
        continuity.access_unit(unit, &mut |f| out.push(f));
    }
    out
}

fn random_accesses(found: &[Found]) -> usize {
    found.iter().filter(|f| **f == Found::RandomAccess).count()
}

/// Writes bits, and units with start code and emulation prevention.
#[derive(Default)]
struct Writer(Vec<bool>);

impl Writer {
    fn u(mut self, count: u32, value: u32) -> Self {
        self.0.extend((0..count).rev().map(|i| value >> i & 1 == 1));
        self
    }
    fn ue(self, value: u32) -> Self {
        let bits = 32 - (value + 1).leading_zeros();
        self.u(2 * bits - 1, value + 1)
    }
    fn bytes(mut self) -> Vec<u8> {
        self.0.push(true);
        let whole = self.0.len().div_ceil(8) * 8;
        self.0.resize(whole, false);
        let byte = |b: &[bool]| b.iter().fold(0u8, |sum, &x| sum << 1 | u8::from(x));
        self.0.chunks(8).map(byte).collect()
    }
    fn unit(self, header: u8) -> Vec<u8> {
        let mut out = vec![0, 0, 1, header];
        let mut zeros = 0;
        for b in self.bytes() {
            if zeros >= 2 && b <= 3 {
                out.push(3);
                zeros = 0;
            }
            zeros = if b == 0 { zeros + 1 } else { 0 };
            out.push(b);
        }
        out
    }
}

/// H.264 stream writer: Main profile, `frame_num` of four bits, order count from `frame_num` alone.
#[derive(Clone, Copy, Default)]
struct Avc {
    gaps_allowed: bool,
    interlaced: bool,
}

#[derive(Clone, Copy, Default)]
struct Pic {
    number: u32,
    idr: bool,
    non_reference: bool,
    bottom: Option<bool>,
    resets: bool,
    first_mb: u32,
}

impl Avc {
    /// 1920 x 1080 in 120 x 68 macroblocks.
    fn sets(self) -> Vec<u8> {
        let rows = if self.interlaced { 33 } else { 67 };
        let crop = if self.interlaced { 2 } else { 4 };
        let sps = Writer::default()
            .u(8, 77)
            .u(8, 0)
            .u(8, 40)
            .ue(0)
            .ue(0)
            .ue(2)
            .ue(4);
        let sps = sps.u(1, u32::from(self.gaps_allowed)).ue(119).ue(rows);
        let sps = sps.u(1, u32::from(!self.interlaced));
        let sps = if self.interlaced { sps.u(1, 0) } else { sps };
        let sps = sps.u(1, 1).u(1, 1).ue(0).ue(0).ue(0).ue(crop).u(1, 0);
        let pps = Writer::default()
            .ue(0)
            .ue(0)
            .u(2, 0)
            .ue(0)
            .ue(0)
            .ue(0)
            .u(1, 0)
            .u(2, 0);
        let pps = pps.ue(0).ue(0).ue(0).u(3, 0);
        [sps.unit(0x67), pps.unit(0x68)].concat()
    }

    fn slice(self, pic: Pic) -> Vec<u8> {
        let kind = if pic.idr { 7 } else { 0 };
        let mut w = Writer::default()
            .ue(pic.first_mb)
            .ue(kind)
            .ue(0)
            .u(4, pic.number % 16);
        if self.interlaced {
            w = w.u(1, u32::from(pic.bottom.is_some()));
            if let Some(bottom) = pic.bottom {
                w = w.u(1, u32::from(bottom));
            }
        }
        if pic.idr {
            w = w.ue(0).u(2, 0);
        } else {
            // No override, no reordering.
            w = w.u(2, 0);
            if !pic.non_reference {
                w = w.u(1, u32::from(pic.resets));
                if pic.resets {
                    w = w.ue(5).ue(0);
                }
            }
        }
        let w = w.u(32, 0xDEAD_BEEF);
        let header = match (pic.idr, pic.non_reference) {
            (true, _) => 0x65,
            (_, true) => 0x01,
            _ => 0x41,
        };
        w.unit(header)
    }

    /// One access unit: delimiter, sets before an IDR picture, slices that begin at these macroblocks.
    fn unit(self, pic: Pic, starts: &[u32]) -> Vec<u8> {
        let mut out = vec![0, 0, 1, 9, 0xF0];
        if pic.idr {
            out.extend(self.sets());
        }
        for &first_mb in starts {
            out.extend(self.slice(Pic { first_mb, ..pic }));
        }
        out
    }
}

/// I P b P b …: a picture that nothing refers to after each P; an IDR picture each 40.
fn avc_stream(count: u32, starts: &[u32]) -> Vec<Vec<u8>> {
    let avc = Avc::default();
    (0..count)
        .map(|n| {
            let m = n % 40;
            let pic = Pic {
                number: m.div_ceil(2),
                idr: m == 0,
                non_reference: m > 0 && m % 2 == 0,
                ..Pic::default()
            };
            // The one that nothing refers to has the number that the next reference will have.
            let number = if pic.non_reference {
                m / 2 + 1
            } else {
                pic.number
            };
            avc.unit(Pic { number, ..pic }, starts)
        })
        .collect()
}

#[test]
fn avc_clean_stream_is_clean() {
    let found = run(Codec::H264, &avc_stream(200, &[0]));
    assert_eq!(evidence(&found), []);
    assert_eq!(random_accesses(&found), 5);
    assert_eq!(
        found[0],
        Found::Size {
            width: 1920,
            height: 1080
        }
    );
    assert_eq!(
        found
            .iter()
            .filter(|f| matches!(f, Found::Size { .. }))
            .count(),
        1
    );
}

#[test]
fn avc_lost_references_are_counted() {
    let mut units = avc_stream(80, &[0]);
    units.drain(5..10);
    let found = run(Codec::H264, &units);
    assert_eq!(evidence(&found), [(PictureNumberGap, 3)], "5, 7 and 9");
    let mut units = avc_stream(80, &[0]);
    units.remove(6);
    assert_eq!(
        evidence(&run(Codec::H264, &units)),
        [],
        "nothing refers to it"
    );
    // Joining anywhere is no loss; a reset forgets.
    for from in 0..80 {
        let mut units = avc_stream(80, &[0]);
        units.drain(1..from.max(1));
        let mut continuity = Continuity::new(Codec::H264).unwrap();
        let mut out = Vec::new();
        for (n, unit) in units.iter().enumerate() {
            if n == 1 {
                continuity.reset();
            }
            continuity.access_unit(unit, &mut |f| out.push(f));
        }
        assert_eq!(evidence(&out), [], "{from}");
    }
}

#[test]
fn avc_gaps_that_are_allowed_are_none() {
    let avc = Avc {
        gaps_allowed: true,
        ..Avc::default()
    };
    let unit = |number, idr| {
        avc.unit(
            Pic {
                number,
                idr,
                ..Pic::default()
            },
            &[0],
        )
    };
    let units = [
        unit(0, true),
        unit(1, false),
        unit(4, false),
        unit(8, false),
    ];
    assert_eq!(evidence(&run(Codec::H264, &units)), []);
}

#[test]
fn avc_field_pairs_share_a_number() {
    let avc = Avc {
        interlaced: true,
        ..Avc::default()
    };
    let mut units = Vec::new();
    for n in 0..50u32 {
        for bottom in [false, true] {
            let pic = Pic {
                number: n,
                idr: n == 0 && !bottom,
                bottom: Some(bottom),
                ..Pic::default()
            };
            units.push(avc.unit(pic, &[0]));
        }
        // A frame that nothing refers to, and one that the others do.
        units.push(avc.unit(
            Pic {
                number: n + 1,
                non_reference: true,
                ..Pic::default()
            },
            &[0],
        ));
    }
    let found = run(Codec::H264, &units);
    assert_eq!(evidence(&found), []);
    assert_eq!(
        found[0],
        Found::Size {
            width: 1920,
            height: 1080
        }
    );
    units.drain(9..11);
    assert_eq!(evidence(&run(Codec::H264, &units)), [(PictureNumberGap, 1)]);
}

#[test]
fn avc_operation_5_starts_the_count_over() {
    let avc = Avc::default();
    let pic = |number, resets| Pic {
        number,
        resets,
        ..Pic::default()
    };
    let idr = Pic {
        idr: true,
        ..Pic::default()
    };
    let all = [
        idr,
        pic(1, false),
        pic(2, true),
        pic(1, false),
        pic(2, false),
    ];
    let units = all.map(|p| avc.unit(p, &[0]));
    assert_eq!(evidence(&run(Codec::H264, &units)), []);
    let all = [idr, pic(1, false), pic(2, false), pic(1, false)];
    let units = all.map(|p| avc.unit(p, &[0]));
    assert_eq!(
        evidence(&run(Codec::H264, &units)),
        [(PictureNumberGap, 14)]
    );
}

#[test]
fn avc_missing_slices() {
    let starts = [0, 2040, 4080, 6120];
    let units = avc_stream(120, &starts);
    assert_eq!(evidence(&run(Codec::H264, &units)), []);
    let slices = |unit: &[u8]| -> Vec<usize> {
        let at = |w: &[u8]| w[..3] == [0, 0, 1] && matches!(w[3], 0x01 | 0x41 | 0x65);
        unit.windows(4)
            .enumerate()
            .filter(|(_, w)| at(w))
            .map(|(i, _)| i)
            .collect()
    };
    for lost in 0..4 {
        let mut units = units.clone();
        let at = slices(&units[90]);
        let end = at.get(lost + 1).copied().unwrap_or(units[90].len());
        units[90].drain(at[lost]..end);
        assert_eq!(
            evidence(&run(Codec::H264, &units)),
            [(BrokenSlice, 1)],
            "slice {lost}"
        );
    }
    // An encoder that changes its mind for good is believed after few pictures.
    let mut units = avc_stream(80, &starts);
    units.extend(avc_stream(400, &[0, 4080]));
    let told: u32 = evidence(&run(Codec::H264, &units))
        .iter()
        .map(|e| e.1)
        .sum();
    assert!(told <= 8, "{told}");
}

#[test]
fn avc_recovery_point_with_a_count() {
    let avc = Avc::default();
    let mut units = vec![avc.unit(
        Pic {
            idr: true,
            ..Pic::default()
        },
        &[0],
    )];
    for number in 1..20 {
        let mut unit = vec![0, 0, 1, 9, 0xF0];
        if number == 5 {
            // recovery_frame_cnt 4, exact, not broken.
            let payload = Writer::default().ue(4).u(4, 0b1000).bytes();
            unit.extend([0, 0, 1, 6, 6, payload.len() as u8]);
            unit.extend(payload);
            unit.push(0x80);
        }
        unit.extend(avc.slice(Pic {
            number,
            ..Pic::default()
        }));
        units.push(unit);
    }
    let mut continuity = Continuity::new(Codec::H264).unwrap();
    let mut at = Vec::new();
    for (n, unit) in units.iter().enumerate() {
        continuity.access_unit(unit, &mut |f| {
            if f == Found::RandomAccess {
                at.push(n);
            }
        });
    }
    assert_eq!(at, [0, 9]);
}

/// MPEG-2 picture of 64 x 64 with all its rows.
fn mpeg2_picture(number: u32, coding: u32, rows: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 1, 0];
    out.extend(
        Writer::default()
            .u(10, number)
            .u(3, coding)
            .u(16, 0xFFFF)
            .u(7, 0)
            .bytes(),
    );
    out.extend([0, 0, 1, 0xB5]);
    out.extend(
        Writer::default()
            .u(4, 8)
            .u(16, 0xFFFF)
            .u(2, 0)
            .u(2, 3)
            .u(16, 0)
            .bytes(),
    );
    for &row in rows {
        out.extend([0, 0, 1, row, 0x22, 0x33, 0x44, 0x55]);
    }
    out
}

/// Groups of I B B P B B … in stored order, each with its header.
fn mpeg2_stream(groups: u32) -> Vec<Vec<u8>> {
    let rows = [1, 2, 3, 4];
    let mut out = Vec::new();
    for group in 0..groups {
        let mut head = vec![0, 0, 1, 0xB3];
        head.extend(
            Writer::default()
                .u(12, 64)
                .u(12, 64)
                .u(32, 0x1333_FFFF)
                .u(7, 0x70)
                .bytes(),
        );
        head.extend([0, 0, 1, 0xB5]);
        head.extend(
            Writer::default()
                .u(4, 1)
                .u(8, 0x48)
                .u(1, 1)
                .u(2, 1)
                .u(4, 0)
                .u(21, 1 << 8)
                .u(8, 0)
                .bytes(),
        );
        head.extend([0, 0, 1, 0xB8]);
        head.extend(
            Writer::default()
                .u(25, 0x0100_0000)
                .u(1, 0)
                .u(1, 0)
                .u(5, 0)
                .bytes(),
        );
        for (n, (number, coding)) in [
            (2, 1),
            (0, 3),
            (1, 3),
            (5, 2),
            (3, 3),
            (4, 3),
            (8, 2),
            (6, 3),
            (7, 3),
        ]
        .into_iter()
        .enumerate()
        {
            // The very first group has no B pictures to lean on anything before it.
            if group == 0 && (n == 1 || n == 2) {
                continue;
            }
            let picture = mpeg2_picture(number, coding, &rows);
            out.push(if n == 0 {
                [head.clone(), picture].concat()
            } else {
                picture
            });
        }
    }
    out
}

#[test]
fn mpeg2_every_lost_picture_is_told() {
    let units = mpeg2_stream(4);
    let found = run(Codec::Mpeg2, &units);
    assert_eq!(evidence(&found), []);
    assert_eq!(
        found[0],
        Found::Size {
            width: 64,
            height: 64
        }
    );
    assert_eq!(random_accesses(&found), 4);
    // From the second group to before the last one.
    for lost in 7..7 + 18 {
        let mut units = units.clone();
        units.remove(lost);
        let found = evidence(&run(Codec::Mpeg2, &units));
        assert!(!found.is_empty(), "picture {lost}");
        assert!(
            found.iter().all(|e| e.0 == PictureNumberGap && e.1 <= 3),
            "{lost} {found:?}"
        );
    }
    // Two B pictures together.
    let mut two = units.clone();
    two.drain(11..13);
    assert_eq!(evidence(&run(Codec::Mpeg2, &two)), [(PictureNumberGap, 2)]);
}

#[test]
fn mpeg2_what_is_missing_before_an_intra_picture_is_not_its_damage() {
    let mut units = mpeg2_stream(3);
    // The last B picture of the second group.
    units.remove(15);
    let found = run(Codec::Mpeg2, &units);
    assert!(
        found.contains(&Found::Earlier(PictureNumberGap, 1)),
        "{found:?}"
    );
    assert!(
        !found.contains(&Found::Evidence(PictureNumberGap, 1)),
        "{found:?}"
    );
}

#[test]
fn mpeg2_missing_rows_are_counted() {
    let mut units = mpeg2_stream(2);
    // The P picture of the second group.
    units[10] = mpeg2_picture(5, 2, &[1, 4]);
    assert_eq!(evidence(&run(Codec::Mpeg2, &units)), [(BrokenSlice, 2)]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn cuts_change_nothing(cuts in proptest::collection::vec(0usize..20_000, 0..30), lost in 1usize..100) {
        let mut avc = avc_stream(120, &[0, 4080]);
        avc.remove(lost);
        let mut mpeg = mpeg2_stream(8);
        mpeg.remove(lost % 50 + 1);
        for (codec, units) in [(Codec::H264, avc), (Codec::Mpeg2, mpeg)] {
            let whole = run(codec, &units);
            let all = units.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c % all.len()).chain([0, all.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<Vec<u8>> = cuts.windows(2).map(|w| all[w[0]..w[1]].to_vec()).collect();
            let cut = run(codec, &pieces);
            proptest::prop_assert_eq!(evidence(&cut), evidence(&whole));
            proptest::prop_assert_eq!(random_accesses(&cut), random_accesses(&whole));
        }
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000), flips in proptest::collection::vec((0usize..20_000, 1u8..=255), 0..40)) {
        for codec in [Codec::H264, Codec::Hevc, Codec::Mpeg2] {
            let starts: Vec<u8> = bytes.chunks(20).flat_map(|c| [&[0, 0, 1][..], c].concat()).collect();
            run(codec, &[bytes.clone(), starts]);
        }
        let mut avc = avc_stream(60, &[0, 4080]).concat();
        let mut mpeg = mpeg2_stream(6).concat();
        for (at, mask) in flips {
            let (a, m) = (at % avc.len(), at % mpeg.len());
            avc[a] ^= mask;
            mpeg[m] ^= mask;
        }
        run(Codec::H264, &[avc]);
        run(Codec::Mpeg2, &[mpeg]);
    }
}

/// Pictures of an encoder run, each a PES packet's payload; `None` (and a word) where ffmpeg or the encoder is
/// missing.
fn encode(options: &str) -> Option<(Codec, Vec<Vec<u8>>)> {
    let args = format!(
        "-v error -f lavfi -i testsrc2=s=192x128:r=25 -t 4 -threads 1 {options} -f mpegts -"
    );
    let output = Command::new("ffmpeg").args(args.split(' ')).output();
    let bytes = output.map(|o| o.stdout).unwrap_or_default();
    let mut codec = None;
    let mut units = Vec::new();
    for event in demux(&bytes) {
        match event {
            TsEvent::Tracks(tracks) => codec = tracks[0].codec,
            TsEvent::Pes { data, .. } => units.push(data),
            TsEvent::Evidence { .. } => panic!("clean transport"),
            _ => {}
        }
    }
    if codec.is_none() {
        eprintln!("not run: no ffmpeg that can do `{options}`");
    }
    Some((codec?, units))
}

const ENCODERS: [&str; 16] = [
    "-c:v libx264 -preset veryfast -x264-params keyint=30:bframes=3:b-pyramid=normal",
    "-c:v libx264 -preset veryfast -x264-params keyint=30:bframes=3:slices=3",
    "-c:v libx264 -preset veryfast -x264-params keyint=30:bframes=2:slice-max-size=300",
    "-c:v libx264 -preset veryfast -x264-params keyint=30:bframes=3:open-gop=1",
    "-c:v libx264 -preset veryfast -x264-params keyint=30:intra-refresh=1",
    "-c:v libx264 -preset veryfast -x264-params keyint=30:interlaced=1:bframes=2",
    "-c:v libx264 -preset veryfast -x264-params keyint=30:fake-interlaced=1",
    "-c:v libx264 -profile:v baseline -x264-params keyint=infinite:ref=3",
    "-c:v libx264 -preset slow -pix_fmt yuv444p10le -x264-params keyint=30:cqm=jvt:weightp=2",
    "-c:v libx265 -preset veryfast -x265-params log-level=none:keyint=30:bframes=4:open-gop=0",
    "-c:v libx265 -preset medium -x265-params log-level=none:keyint=30:open-gop=1:slices=2",
    "-c:v libx265 -preset veryfast -x265-params log-level=none:keyint=30:intra-refresh=1",
    "-c:v mpeg2video -g 12 -bf 2",
    "-c:v mpeg2video -g 15 -bf 0",
    "-c:v mpeg2video -g 12 -bf 2 -flags +ildct+ilme",
    "-c:v mpeg1video -g 12 -bf 2",
];

#[test]
fn encoders_give_no_evidence_and_losses_do() {
    for options in ENCODERS {
        let Some((codec, units)) = encode(options) else {
            continue;
        };
        let clean = run(codec, &units);
        assert_eq!(evidence(&clean), [], "{options}");
        assert!(
            clean.contains(&Found::Size {
                width: 192,
                height: 128
            }),
            "{options}"
        );
        assert!(clean.contains(&Found::RandomAccess), "{options}");
        assert!(units.len() >= 95, "{options}: {}", units.len());
        // Losing any picture that others need is told, unless decoding starts afresh right behind it.
        let class: Vec<Class> = units.iter().map(|u| class(codec, u)).collect();
        for lost in 1..units.len() - 8 {
            let next = class[lost + 1..].iter().find(|c| **c != Class::Spare);
            // Behind a lost IDR picture the four bits of frame_num may happen to go on.
            let lucky = codec == Codec::H264 && class[lost] == Class::Start;
            if class[lost] == Class::Spare || next == Some(&Class::Start) || lucky {
                continue;
            }
            let mut rest = units.clone();
            rest.remove(lost);
            let found = evidence(&run(codec, &rest));
            assert!(!found.is_empty(), "{options}: picture {lost}");
            let sum: u32 = found.iter().map(|e| e.1).sum();
            assert!(
                class[lost] == Class::Start || sum <= 3,
                "{options}: {lost} {found:?}"
            );
        }
    }
}

#[derive(Debug, PartialEq)]
enum Class {
    /// Nothing refers to it.
    Spare,
    Needed,
    /// Nothing behind it refers to what came before.
    Start,
}

fn class(codec: Codec, unit: &[u8]) -> Class {
    let headers = bits::units(unit).map(|u| u[0]);
    for header in headers {
        match codec {
            Codec::Mpeg2 if header == 0xB8 => return Class::Start,
            Codec::H264 if header & 0x1F == 5 => return Class::Start,
            Codec::H264 if header & 0x1F == 1 => {
                let spare = header & 0x60 == 0;
                return if spare { Class::Spare } else { Class::Needed };
            }
            Codec::Hevc if header >> 1 < 32 => {
                return match header >> 1 {
                    16..=31 => Class::Start,
                    n if n % 2 == 0 => Class::Spare,
                    _ => Class::Needed,
                };
            }
            _ => {}
        }
    }
    Class::Needed
}

#[test]
fn pictures_that_none_refers_to_are_known() {
    let avc = Avc::default();
    let mut h264 = Continuity::new(Codec::H264).unwrap();
    let mut is_disposable = |pic: Pic, starts: &[u32]| {
        let sets = if pic.idr { avc.sets() } else { Vec::new() };
        let unit = [sets, avc.unit(pic, starts)].concat();
        h264.access_unit(&unit, &mut |_| {});
        h264.is_disposable()
    };
    let idr = Pic {
        idr: true,
        ..Pic::default()
    };
    let b = Pic {
        number: 1,
        non_reference: true,
        ..Pic::default()
    };
    assert!(!is_disposable(idr, &[0]));
    assert!(is_disposable(b, &[0, 4080]));

    let mut hevc = Continuity::new(Codec::Hevc).unwrap();
    // TRAIL_N, TRAIL_R, RASL_N, IDR_W_RADL; parameter sets are no pictures.
    for (kind, disposable) in [(0u8, true), (1, false), (8, true), (19, false), (33, false)] {
        hevc.access_unit(&[0, 0, 1, kind << 1, 1, 0x80, 0], &mut |_| {});
        assert_eq!(hevc.is_disposable(), disposable, "{kind}");
    }

    let mut mpeg2 = Continuity::new(Codec::Mpeg2).unwrap();
    for (coding, disposable) in [(1, false), (2, false), (3, true)] {
        mpeg2.access_unit(&mpeg2_picture(0, coding, &[1, 2]), &mut |_| {});
        assert_eq!(mpeg2.is_disposable(), disposable, "{coding}");
    }
}

#[test]
fn quantisers_of_key_pictures_are_read() {
    let x264 = "-c:v libx264 -preset veryfast -x264-params";
    let x265 = "-c:v libx265 -preset veryfast -x265-params log-level=none:qp=24:ipratio=1";
    for (options, expected) in [
        (format!("{x264} keyint=30:qp=24:ipratio=1:slices=3"), 24),
        (format!("{x264} keyint=30:qp=33:ipratio=1:open-gop=1"), 33),
        (format!("{x264} keyint=30:qp=18:ipratio=1:interlaced=1"), 18),
        (format!("{x264} keyint=30:qp=30:ipratio=1:no-cabac=1"), 30),
        (format!("{x265}:keyint=30"), 24),
        ("-c:v mpeg2video -g 12 -bf 2 -q:v 7".to_owned(), 7),
    ] {
        let Some((codec, units)) = encode(&options) else {
            continue;
        };
        let found = run(codec, &units);
        let quantisers = found.iter().filter_map(|f| match f {
            Found::Quantiser(quantiser) => Some(*quantiser),
            _ => None,
        });
        let count = quantisers.clone().count();
        assert_eq!(count, random_accesses(&found), "{options}");
        assert!(count > 2, "{options}: {count}");
        assert!(quantisers.clone().all(|q| q == expected), "{options}");
    }
}
