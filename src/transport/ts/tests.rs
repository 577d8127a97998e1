#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::transport::testkit::{Muxer, demux, demux_cut, pat, pes, pmt};

const V: u16 = 0x100;
const A: u16 = 0x101;

fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed) | 0x10)
        .collect()
}

/// Pictures and sound for some rounds; payload sizes that straddle packets in every way.
fn programme(rounds: u64) -> Muxer {
    let mut mux = Muxer::default();
    for n in 0..rounds {
        if n % 10 == 0 {
            mux.tables();
        }
        mux.pcr(V, n * 1_080_000, false);
        let picture = pattern(n as u8, 400 + 97 * n as usize % 2000);
        let (pts, dts) = (n * 3600 + 7200, n * 3600);
        mux.payload(V, &pes(0xE0, Some(pts), Some(dts), false, &picture));
        let sound = pattern(n as u8 ^ 0x55, 300 + 13 * n as usize % 300);
        mux.payload(A, &pes(0xC0, Some(pts), None, true, &sound));
    }
    mux
}

fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.chunks(188).map(<[u8]>::to_vec).collect()
}

fn units(events: &[TsEvent], of: u16) -> Vec<(Option<u64>, Vec<u8>, bool)> {
    let unit = |e: &TsEvent| match e {
        TsEvent::Pes {
            pid,
            pts,
            data,
            damaged,
            ..
        } if *pid == of => Some((*pts, data.clone(), *damaged)),
        _ => None,
    };
    events.iter().filter_map(unit).collect()
}

fn damage(events: &[TsEvent]) -> Vec<(Option<u16>, EvidenceKind, u32)> {
    let one = |e: &TsEvent| match e {
        TsEvent::Evidence { pid, kind, count } => Some((*pid, *kind, *count)),
        _ => None,
    };
    events.iter().filter_map(one).collect()
}

fn tracks(events: &[TsEvent]) -> Vec<Vec<TsTrack>> {
    let one = |e: &TsEvent| match e {
        TsEvent::Tracks(t) => Some(t.clone()),
        _ => None,
    };
    events.iter().filter_map(one).collect()
}

#[test]
fn clean_programme_comes_out_whole() {
    let events = demux(&programme(40).bytes);
    assert_eq!(damage(&events), []);
    let told = tracks(&events);
    assert_eq!(told.len(), 1, "repeated tables are told once");
    assert_eq!(told[0][0].codec, Some(Codec::H264));
    assert_eq!(told[0][1].codec, Some(Codec::AacAdts));
    assert_eq!(told[0][1].language.as_deref(), Some("deu"));
    for (n, (pts, data, damaged)) in units(&events, V).into_iter().enumerate() {
        assert_eq!(pts, Some(n as u64 * 3600 + 7200));
        assert_eq!(data, pattern(n as u8, 400 + 97 * n % 2000));
        assert!(!damaged);
    }
    assert_eq!((units(&events, V).len(), units(&events, A).len()), (40, 40));
    let dts = events.iter().find_map(|e| match e {
        TsEvent::Pes { pid: V, dts, .. } => Some(*dts),
        _ => None,
    });
    assert_eq!(dts, Some(Some(0)));
    let pcrs = events
        .iter()
        .filter(|e| matches!(e, TsEvent::Pcr { .. }))
        .count();
    assert_eq!(pcrs, 40);
    assert!(events.contains(&TsEvent::Pcr {
        ticks: 39 * 1_080_000,
        discontinuity: false
    }));
}

#[test]
fn timestamps_hold_all_33_bits() {
    let mut mux = Muxer::default();
    mux.tables();
    let all = [0, 1, (1 << 33) - 1, 1 << 32, 0x1_5555_5555, 0x0_AAAA_AAAA];
    for pts in all {
        mux.payload(V, &pes(0xE0, Some(pts), None, false, b"xyz"));
    }
    let out: Vec<_> = units(&demux(&mux.bytes), V).iter().map(|u| u.0).collect();
    assert_eq!(out, all.map(Some));
}

#[test]
fn a_bounded_unit_comes_out_at_its_last_byte() {
    let mut mux = Muxer::default();
    mux.tables();
    mux.payload(A, &pes(0xC0, Some(1), None, true, &[7; 500]));
    // Sync needs four packets more to be sure of the first.
    for _ in 0..5 {
        mux.packet(0x1FFF, false, None, &[0; 184]);
    }
    let mut demux = Demux::new(None);
    let mut out = Vec::new();
    demux.push(&mux.bytes, &mut |e| out.push(e));
    assert_eq!(units(&out, A), [(Some(1), vec![7; 500], false)]);
}

#[test]
fn lost_packets_are_counted_and_the_rest_handed_on() {
    let all = packets(&programme(40).bytes);
    let first = |p: &Vec<u8>| {
        u16::from_be_bytes([p[1] & 0x1F, p[2]]) == V && p[1] & 0x40 == 0 && p[3] & 0x10 != 0
    };
    let at = all.iter().skip(60).position(first).unwrap() + 60;
    let lossy: Vec<u8> = all
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != at)
        .flat_map(|(_, p)| p.clone())
        .collect();
    let events = demux(&lossy);
    assert_eq!(
        damage(&events),
        [(Some(V), EvidenceKind::ContinuityError, 1)]
    );
    let pictures = units(&events, V);
    assert_eq!(pictures.len(), 40, "the damaged one too");
    let hurt: Vec<_> = pictures.iter().filter(|u| u.2).collect();
    assert_eq!(hurt.len(), 1);
    let n = (hurt[0].0.unwrap() - 7200) / 3600;
    let whole = pattern(n as u8, 400 + 97 * n as usize % 2000);
    assert!(
        hurt[0].1.len() >= whole.len() - 184,
        "only the packet is missing"
    );
}

#[test]
fn a_lost_header_leaves_payload_in_the_unit_before() {
    let mut mux = Muxer::default();
    mux.tables();
    for n in 0..4u8 {
        mux.payload(V, &pes(0xE0, Some(n.into()), None, false, &[n; 600]));
    }
    let starts = |p: &Vec<u8>| p[1] & 0x5F == 0x41 && p[2] == 0;
    let mut all = packets(&mux.bytes);
    let second = all
        .iter()
        .enumerate()
        .filter(|(_, p)| starts(p))
        .nth(2)
        .unwrap()
        .0;
    all.remove(second);
    let out = units(&demux(&all.concat()), V);
    assert_eq!(
        out.iter().map(|u| (u.0, u.2)).collect::<Vec<_>>(),
        [(Some(0), false), (Some(1), true), (Some(3), false)]
    );
    assert!(out[1].1.ends_with(&[2; 100]));
}

#[test]
fn repeats_are_dropped_once_and_null_or_empty_packets_do_not_count() {
    let all = packets(&programme(20).bytes);
    let mut twice = Vec::new();
    for p in &all {
        twice.extend(p.clone());
        twice.extend(p.clone());
        let mut null = vec![0xFF; 188];
        null[..4].copy_from_slice(&[0x47, 0x1F, 0xFF, 0x1A]);
        twice.extend(null);
    }
    let events = demux(&twice);
    assert_eq!(damage(&events), []);
    let plain = demux(&all.concat());
    assert_eq!(units(&events, V), units(&plain, V));
    let thrice: Vec<u8> = all
        .iter()
        .flat_map(|p| [p.clone(), p.clone(), p.clone()].concat())
        .collect();
    let events = demux(&thrice);
    assert_eq!(
        units(&events, V),
        units(&plain, V),
        "a third copy is an error, but no damage"
    );
    assert!(
        damage(&events)
            .iter()
            .all(|d| d.1 == EvidenceKind::ContinuityError && d.2 == 1)
    );
    assert!(!damage(&events).is_empty());
}

#[test]
fn sixteen_lost_packets_are_no_repeat() {
    let mut mux = Muxer::default();
    mux.tables();
    mux.payload(V, &pes(0xE0, Some(1), None, false, &pattern(1, 184 * 40)));
    let mut all = packets(&mux.bytes);
    all.drain(10..25);
    let events = demux(&all.concat());
    assert_eq!(
        damage(&events),
        [(Some(V), EvidenceKind::ContinuityError, 15)]
    );
}

#[test]
fn discontinuity_indicator_excuses_the_counter() {
    let mut mux = Muxer::default();
    mux.tables();
    mux.payload(V, &pes(0xE0, Some(1), None, false, &[1; 1000]));
    let mut all = packets(&mux.bytes);
    all.remove(4);
    let mut field = vec![0x47, 1, 0, 0x20, 183, 0x80];
    field.resize(188, 0xFF);
    all.insert(4, field);
    assert_eq!(damage(&demux(&all.concat())), []);
}

#[test]
fn error_indicator_is_told_and_the_payload_kept() {
    let mut all = packets(&programme(20).bytes);
    let at = all
        .iter()
        .position(|p| p[1] == 0x01 && p[2] == 0 && p[3] & 0x10 != 0)
        .unwrap();
    all[at][1] |= 0x80;
    let events = demux(&all.concat());
    assert_eq!(
        damage(&events),
        [(Some(V), EvidenceKind::TransportError, 1)]
    );
    assert_eq!(units(&events, V).iter().filter(|u| u.2).count(), 1);
    assert_eq!(
        units(&events, V).iter().map(|u| u.1.len()).sum::<usize>(),
        units(&demux(&programme(20).bytes), V)
            .iter()
            .map(|u| u.1.len())
            .sum::<usize>()
    );
}

#[test]
fn strides_of_192_and_204_are_found() {
    let mux = programme(10);
    let plain = demux(&mux.bytes);
    let bdav: Vec<u8> = packets(&mux.bytes)
        .into_iter()
        .flat_map(|p| [vec![1, 2, p[3], 4], p].concat())
        .collect();
    assert!(demux(&bdav) == plain);
    let coded: Vec<u8> = packets(&mux.bytes)
        .into_iter()
        .flat_map(|p| [p, vec![0x48; 16]].concat())
        .collect();
    assert!(demux(&coded) == plain);
}

#[test]
fn sync_is_lost_and_found_again() {
    let all = programme(40).bytes;
    let mut cut = all[..188 * 50 + 77].to_vec();
    cut.extend(&all[188 * 60 + 11..]);
    let events = demux(&cut);
    let losses = damage(&events)
        .iter()
        .filter(|d| d.1 == EvidenceKind::SyncLoss)
        .count();
    assert_eq!(losses, 1);
    assert!(units(&events, V).len() >= 36);
    // One wrong sync byte is no loss of sync.
    let mut flip = all.clone();
    flip[188 * 30] = 0x46;
    let events = demux(&flip);
    assert!(
        damage(&events)
            .iter()
            .all(|d| d.1 == EvidenceKind::TransportError),
        "{:?}",
        damage(&events)
    );
    assert_eq!(units(&events, V).len(), 40);
}

#[test]
fn joining_inside_a_packet_is_no_loss() {
    let all = programme(40).bytes;
    assert_eq!(damage(&demux(&all[100..])), []);
    let noise: Vec<u8> = (0..100_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x3F)
        .collect();
    assert_eq!(damage(&demux(&noise)), [(None, EvidenceKind::SyncLoss, 1)]);
}

#[test]
fn a_short_end_of_announced_length_is_truncated() {
    let mut mux = Muxer::default();
    mux.tables();
    mux.payload(A, &pes(0xC0, Some(1), None, true, &[7; 5000]));
    let events = demux(&mux.bytes[..188 * 12]);
    assert_eq!(damage(&events), [(Some(A), EvidenceKind::Truncated, 1)]);
    let out = units(&events, A);
    assert!(out.len() == 1 && out[0].2 && out[0].1.len() > 1500);
}

#[test]
fn segments_may_restart_counters_and_split_bounded_units() {
    let mut mux = programme(10);
    mux.payload(A, &pes(0xC0, Some(1), None, true, &[7; 500]));
    let (first, second) = mux.bytes.split_at(mux.bytes.len() - 188);
    let mut demux = Demux::new(None);
    let mut out = Vec::new();
    demux.push(first, &mut |e| out.push(e));
    demux.boundary(&mut |e| out.push(e));
    assert_eq!(units(&out, V).len(), 10, "no waiting for the next picture");
    demux.push(second, &mut |e| out.push(e));
    demux.boundary(&mut |e| out.push(e));
    demux.push(&programme(10).bytes, &mut |e| out.push(e));
    demux.finish(&mut |e| out.push(e));
    assert_eq!(damage(&out), []);
    assert_eq!(units(&out, A)[10], (Some(1), vec![7; 500], false));
    assert_eq!(
        (
            units(&out, V).len(),
            units(&out, A).len(),
            tracks(&out).len()
        ),
        (20, 21, 1)
    );
}

/// Kind, codec and part of the name that a PMT entry yields.
#[test]
fn stream_types_and_descriptors() {
    use Codec::*;
    let cases: &[(u8, &[u8], Option<Codec>, &str)] = &[
        (0x01, &[], Some(Mpeg2), "MPEG-1"),
        (0x02, &[], Some(Mpeg2), "MPEG-2"),
        (0x03, &[], Some(MpegAudio), "MPEG audio"),
        (0x0F, &[], Some(AacAdts), "ADTS"),
        (0x11, &[], Some(AacLatm), "LATM"),
        (0x1B, &[], Some(H264), "H.264"),
        (0x24, &[], Some(Hevc), "HEVC"),
        (0x33, &[], None, "VVC"),
        (0x81, &[], Some(Ac3), "AC-3"),
        (0x87, &[], Some(Eac3), "E-AC-3"),
        (0x06, &[0x6A, 1, 0], Some(Ac3), "AC-3"),
        (0x06, &[0x7A, 1, 0], Some(Eac3), "E-AC-3"),
        (0x06, &[0x7C, 1, 0], Some(AacAdts), "AAC"),
        (0x06, b"\x05\x04AC-3", Some(Ac3), "AC-3"),
        (0x06, b"\x05\x04EAC3", Some(Eac3), "E-AC-3"),
        (0x06, b"\x05\x04HEVC", Some(Hevc), "HEVC"),
        (0x06, b"\x05\x04Opus\x7F\x02\x80\x06", Some(Opus), "Opus"),
        (0xDB, &[], Some(H264), "encrypted (SAMPLE-AES)"),
        (0xCF, &[], Some(AacAdts), "encrypted (SAMPLE-AES)"),
        (0xC1, &[], Some(Ac3), "encrypted (SAMPLE-AES)"),
        (0xC2, &[], Some(Eac3), "encrypted (SAMPLE-AES)"),
    ];
    for (kind, descriptors, codec, name) in cases {
        let mut mux = Muxer::default();
        mux.table(0, &pat(0, &[(1, 0x1000)]));
        mux.table(
            0x1000,
            &pmt(1, 0, V, &[(0x1B, V, &[]), (*kind, A, descriptors)]),
        );
        let told = tracks(&demux(&mux.bytes));
        let track = &told[0][1];
        assert_eq!(track.codec, *codec, "{kind:02X}");
        assert!(track.name.contains(name), "{}", track.name);
        assert_eq!(track.encrypted, name.contains("SAMPLE-AES"));
        assert_eq!(track.channels, (*codec == Some(Opus)).then_some(6));
    }
    // Teletext, subtitles, metadata, unknown.
    for (kind, descriptors) in [
        (0x06, &[0x56, 0][..]),
        (0x06, &[0x59, 0]),
        (0x15, &[]),
        (0x06, &[]),
        (0x86, &[]),
    ] {
        let mut mux = Muxer::default();
        mux.table(0, &pat(0, &[(1, 0x1000)]));
        mux.table(
            0x1000,
            &pmt(1, 0, V, &[(0x1B, V, &[]), (kind, A, descriptors)]),
        );
        assert_eq!(tracks(&demux(&mux.bytes))[0].len(), 1);
    }
}

#[test]
fn the_wanted_program_is_waited_for() {
    let mut mux = Muxer::default();
    for _ in 0..5 {
        mux.table(0, &pat(0, &[(1, 0x1000), (2, 0x1001)]));
        mux.table(0x1000, &pmt(1, 0, V, &[(0x1B, V, &[])]));
        mux.table(0x1001, &pmt(2, 0, 0x200, &[(0x24, 0x200, &[])]));
    }
    let of = |wanted| {
        let mut demux = Demux::new(wanted);
        let mut out = Vec::new();
        demux.push(&mux.bytes, &mut |e| out.push(e));
        demux.finish(&mut |e| out.push(e));
        tracks(&out).iter().map(|t| t[0].pid).collect::<Vec<_>>()
    };
    assert_eq!(of(None), [V]);
    assert_eq!(of(Some(2)), [0x200]);
    assert_eq!(of(Some(3)), [] as [u16; 0]);
}

#[test]
fn without_a_wish_the_first_program_with_media_is_taken_whatever_comes_first() {
    // Program 1 has data only, 2 comes late, 3 early: 2 it is.
    let mut mux = Muxer::default();
    mux.table(0, &pat(0, &[(1, 0x1000), (2, 0x1001), (3, 0x1002)]));
    mux.table(0x1002, &pmt(3, 0, 0x300, &[(0x1B, 0x300, &[])]));
    mux.table(0x1000, &pmt(1, 0, V, &[(0x15, V, &[])]));
    mux.table(0x1001, &pmt(2, 0, 0x200, &[(0x0F, 0x200, &[])]));
    mux.table(0x1002, &pmt(3, 0, 0x300, &[(0x1B, 0x300, &[])]));
    assert_eq!(tracks(&demux(&mux.bytes))[0][0].pid, 0x200);
    // One that never comes is not waited for for ever.
    let mut mux = Muxer::default();
    mux.table(0, &pat(0, &[(1, 0x1000), (3, 0x1002)]));
    for _ in 0..5 {
        mux.table(0x1002, &pmt(3, 0, 0x300, &[(0x1B, 0x300, &[])]));
    }
    assert_eq!(tracks(&demux(&mux.bytes))[0][0].pid, 0x300);
}

#[test]
fn a_changed_table_is_followed_and_a_flood_is_not() {
    let mut mux = programme(10);
    mux.table(0x1000, &pmt(1, 1, V, &[(0x1B, V, &[]), (0x0F, 0x102, &[])]));
    mux.payload(0x102, &pes(0xC0, Some(9), None, true, &[9; 300]));
    let events = demux(&mux.bytes);
    assert_eq!(tracks(&events).len(), 2);
    assert_eq!(units(&events, 0x102).len(), 1);
    assert_eq!(
        units(&events, V).len(),
        10,
        "the stream that stays is not disturbed"
    );
    // A new version of the same content is no change.
    let mut mux = programme(10);
    mux.table(
        0x1000,
        &pmt(1, 1, V, &[(0x1B, V, &[]), (0x0F, A, b"\x0A\x04deu\0")]),
    );
    assert_eq!(tracks(&demux(&mux.bytes)).len(), 1);
    let mut mux = programme(1);
    for n in 0..1600u16 {
        mux.table(
            0x1000,
            &pmt(
                1,
                n as u8 & 31,
                V,
                &[(0x1B, V, &[]), (0x0F, 0x400 + n, &[])],
            ),
        );
    }
    let told = tracks(&demux(&mux.bytes)).len();
    assert!((50..=102).contains(&told), "{told}");
}

#[test]
fn a_program_that_moves_or_leaves() {
    let mut mux = programme(5);
    mux.table(0, &pat(1, &[(7, 0x1100)]));
    mux.table(0x1100, &pmt(7, 0, V, &[(0x24, V, &[])]));
    let told = tracks(&demux(&mux.bytes));
    assert_eq!(told.last().unwrap()[0].codec, Some(Codec::Hevc));
    let mut out = Vec::new();
    let mut wish = Demux::new(Some(1));
    wish.push(&mux.bytes, &mut |e| out.push(e));
    wish.finish(&mut |e| out.push(e));
    assert_eq!(
        tracks(&out).last().unwrap().len(),
        0,
        "the wanted program is gone"
    );
}

#[test]
fn a_flawed_section_is_ignored() {
    let mut mux = Muxer::default();
    mux.table(0, &pat(0, &[(1, 0x1000)]));
    let mut bad = pmt(1, 0, V, &[(0x1B, V, &[])]);
    bad[14] ^= 1;
    mux.table(0x1000, &bad);
    assert_eq!(tracks(&demux(&mux.bytes)).len(), 0);
}

#[test]
fn sections_span_packets_and_share_them() {
    let filler = [0x52u8; 100];
    let descriptors = [&[0x83, 100][..], &filler].concat();
    let streams: Vec<(u8, u16, &[u8])> = (0..8)
        .map(|i| (0x0F, 0x200 + i, &descriptors[..]))
        .collect();
    let table = pmt(1, 0, V, &streams);
    assert!(table.len() > 800);
    let mut mux = Muxer::default();
    mux.table(0, &pat(0, &[(1, 0x1000)]));
    // Two sections back to back; the second begins where a pointer says.
    let both = [&pmt(9, 0, V, &[])[..], &table].concat();
    let first = pmt(9, 0, V, &[]).len();
    let mut payload = vec![0];
    payload.extend(&both);
    assert!(first < 100);
    let whole = payload.len().div_ceil(184) * 184;
    payload.resize(whole, 0xFF);
    mux.payload(0x1000, &payload);
    let told = tracks(&demux(&mux.bytes));
    assert_eq!(told[0].len(), 8);
}

#[test]
fn scrambling_is_told_on_change() {
    let mut all = packets(&programme(30).bytes);
    let last = all.len() - 60;
    for p in all.iter_mut().take(last).skip(60) {
        if p[1] & 0x1F == 1 && p[2] == 0 && p[3] & 0x10 != 0 {
            p[3] |= 0x80;
        }
    }
    let events = demux(&all.concat());
    let told: Vec<_> = events
        .iter()
        .filter_map(|e| match e {
            TsEvent::Scrambled { pid, scrambled } => Some((*pid, *scrambled)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(V, true), (V, false)]);
    assert!(units(&events, V).len() < 25);
    assert_eq!(units(&events, A).len(), 30);
}

#[test]
fn a_hostile_endless_unit_comes_in_pieces() {
    let mut mux = Muxer::default();
    mux.tables();
    mux.payload(V, &pes(0xE0, Some(1), None, false, &[5; 1000]));
    let mut demux = Demux::new(None);
    let (mut sum, mut largest) = (0, 0);
    let mut take = |e| {
        if let TsEvent::Pes { data, .. } = e {
            sum += data.len();
            largest = largest.max(data.len());
        }
    };
    demux.push(&mux.bytes, &mut take);
    let goal = 20 << 20;
    mux.bytes.clear();
    mux.payload(V, &vec![5; goal]);
    for p in mux.bytes.chunks_mut(188) {
        p[1] &= !0x40;
    }
    demux.push(&mux.bytes, &mut take);
    assert!(demux.core.held <= MAX_HELD);
    demux.finish(&mut take);
    assert!(largest <= 8 << 20 && sum == goal + 1000, "{largest} {sum}");
}

#[test]
fn many_streams_share_one_bound() {
    let mut mux = Muxer::default();
    mux.table(0, &pat(0, &[(1, 0x1000)]));
    let streams: Vec<(u8, u16, &[u8])> = (0..60).map(|i| (0x1B, 0x200 + i, &[][..])).collect();
    mux.table(0x1000, &pmt(1, 0, V, &streams));
    for i in 0..60 {
        mux.payload(
            0x200 + i,
            &pes(0xE0, Some(1), None, false, &vec![5; 800_000]),
        );
    }
    let mut demux = Demux::new(None);
    let mut out = 0;
    for piece in mux.bytes.chunks(10_000) {
        demux.push(piece, &mut |e| {
            out += usize::from(matches!(e, TsEvent::Pes { .. }))
        });
        assert!(demux.core.held <= MAX_HELD);
        let really: usize = demux.core.streams.iter().map(|s| s.pes.held()).sum();
        assert_eq!(demux.core.held, really);
    }
    demux.finish(&mut |_| {});
    assert!(out > 0);
}

#[test]
fn every_pid_and_garbage_tables_stay_bounded() {
    let mut bytes = Vec::new();
    for round in 0..3u8 {
        for pid in 0..8192u16 {
            let [high, low] = pid.to_be_bytes();
            let mut p = vec![0x47, high | 0x40, low, 0x10 | round];
            p.resize(188, round.wrapping_mul(37));
            bytes.extend(p);
        }
    }
    let events = demux(&bytes);
    assert!(events.is_empty(), "{events:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    #[test]
    fn cutting_changes_nothing(size in 1usize..700, from in 0usize..400, hole in 1000usize..9000, gap in 0usize..500) {
        let mut bytes = programme(12).bytes;
        bytes.drain(hole..hole + gap);
        let bytes = &bytes[from..];
        proptest::prop_assert!(demux_cut(bytes, size) == demux(bytes));
    }

    #[test]
    fn noise_never_panics(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4000), sync in proptest::bool::ANY, size in 1usize..400) {
        if sync {
            bytes.iter_mut().step_by(188).for_each(|b| *b = 0x47);
        }
        proptest::prop_assert!(demux_cut(&bytes, size) == demux(&bytes));
    }

    #[test]
    fn flips_never_panic_and_lose_little(flips in proptest::collection::vec((0usize..40_000, 1u8..=255), 1..60)) {
        let mut bytes = programme(40).bytes;
        let length = bytes.len();
        for (at, mask) in flips {
            bytes[at % length] ^= mask;
        }
        let events = demux(&bytes);
        proptest::prop_assert!(demux_cut(&bytes, 777) == events);
        let held: usize = units(&events, V).iter().chain(&units(&events, A)).map(|u| u.1.len()).sum();
        proptest::prop_assert!(held <= length);
    }
}
