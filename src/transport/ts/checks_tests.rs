use super::*;
use crate::transport::testkit::{Muxer, pat, pes, pmt, section};
use crate::transport::ts::Demux;
use detectors::base::TsCheck::*;

const PMT: u16 = 0x1000;
const V: u16 = 0x100;
const A: u16 = 0x101;
const MS: u64 = 27_000;

/// A multiplex that is played on, 20 ms a step: a PCR, and every 40 ms a picture and sound; tables every 100 ms.
struct Play {
    mux: Muxer,
    /// Milliseconds since the beginning.
    at: u64,
    /// Added to all stamps and clock references, 27 MHz.
    offset: u64,
    tables: bool,
    pmt: bool,
    clock: bool,
    video: bool,
    stamps: bool,
    /// More entries of the PMT.
    more: Vec<(u8, u16, Vec<u8>)>,
}

impl Play {
    fn new() -> Self {
        Self {
            mux: Muxer::default(),
            at: 0,
            offset: 0,
            tables: true,
            pmt: true,
            clock: true,
            video: true,
            stamps: true,
            more: Vec::new(),
        }
    }

    fn now(&self) -> u64 {
        (self.at * MS + self.offset) % PCR_WRAP
    }

    fn tables(&mut self) {
        if self.tables {
            self.mux.table(0, &pat(0, &[(1, PMT)]));
        }
        if self.pmt {
            let mut streams: Vec<(u8, u16, &[u8])> = vec![(0x1B, V, &[]), (0x0F, A, &[])];
            streams.extend(self.more.iter().map(|(t, p, d)| (*t, *p, &d[..])));
            self.mux.table(PMT, &pmt(1, 0, V, &streams));
        }
    }

    fn step(&mut self) {
        if self.at.is_multiple_of(100) {
            self.tables();
        }
        if self.clock {
            self.mux.pcr(V, self.now(), false);
        }
        if self.at.is_multiple_of(40) {
            let pts = self.stamps.then_some((self.now() / 300) & STAMP_MASK);
            if self.video {
                self.mux.payload(V, &pes(0xE0, pts, pts, false, &[5; 700]));
            }
            self.mux.payload(A, &pes(0xC0, pts, None, true, &[7; 300]));
        }
        self.at += 20;
    }

    fn run(&mut self, millis: u64) -> &mut Self {
        for _ in 0..millis / 20 {
            self.step();
        }
        self
    }

    /// What is found in everything so far, by check.
    fn found(&self) -> Vec<(TsCheck, u32)> {
        found(&self.mux.bytes)
    }
}

fn reports(demux: Demux, bytes: &[u8]) -> Vec<TsErrors> {
    let mut demux = demux;
    let mut out = Vec::new();
    let mut take = |event| {
        if let TsEvent::Checked(errors) = event {
            out.push(errors);
        }
    };
    demux.push(bytes, &mut take);
    demux.finish(&mut take);
    out
}

fn sum(reports: &[TsErrors]) -> Vec<(TsCheck, u32)> {
    let mut all = TsErrors::default();
    reports.iter().for_each(|r| all.absorb(r));
    let counted = TsCheck::ALL.iter().map(|c| (*c, all.count(*c)));
    counted.filter(|(_, n)| *n > 0).collect()
}

fn found(bytes: &[u8]) -> Vec<(TsCheck, u32)> {
    sum(&reports(Demux::new(None).continuous(), bytes))
}

/// The same bytes as a segment.
fn found_in_segment(bytes: &[u8]) -> Vec<(TsCheck, u32)> {
    sum(&reports(Demux::new(None), bytes))
}

#[test]
fn a_clean_multiplex_has_no_errors_and_is_told_twice_a_second() {
    let mut play = Play::new();
    // Over the wrap of the clock, which is no discontinuity.
    play.offset = PCR_WRAP - 3_000 * MS;
    play.run(10_000);
    let all = reports(Demux::new(None).continuous(), &play.mux.bytes);
    assert_eq!(sum(&all), []);
    assert!((20..=22).contains(&all.len()), "{}", all.len());
    assert!(all.iter().all(|r| r.timed));
    assert!(
        reports(Demux::new(None), &play.mux.bytes)
            .iter()
            .all(|r| !r.timed)
    );
}

#[test]
fn reports_do_not_depend_on_how_bytes_were_cut() {
    let mut play = Play::new();
    play.run(1_500);
    play.tables = false;
    play.run(1_500);
    play.mux.bytes.drain(188 * 60..188 * 62);
    let whole = reports(Demux::new(None).continuous(), &play.mux.bytes);
    for size in [1, 187, 1_000] {
        let mut demux = Demux::new(None).continuous();
        let mut out = Vec::new();
        let mut take = |event| {
            if let TsEvent::Checked(errors) = event {
                out.push(errors);
            }
        };
        play.mux
            .bytes
            .chunks(size)
            .for_each(|piece| demux.push(piece, &mut take));
        demux.finish(&mut take);
        assert_eq!(out, whole, "{size}");
    }
}

#[test]
fn sync_and_its_bytes() {
    let mut play = Play::new();
    play.run(2_000);
    let mut flipped = play.mux.bytes.clone();
    for at in [50, 70, 90] {
        flipped[188 * at] = 0x46;
    }
    assert_eq!(found(&flipped), [(SyncByteError, 3)]);
    let mut torn = play.mux.bytes.clone();
    torn.drain(188 * 100 + 50..188 * 101 + 90);
    let told = found(&torn);
    assert_eq!(told[0], (TsSyncLoss, 1));
    assert!(
        told[1..].iter().all(|(c, _)| *c == ContinuityCountError),
        "{told:?}"
    );
    // The end of the input may cut a packet, a segment may not.
    let cut = &play.mux.bytes[..play.mux.bytes.len() - 60];
    assert_eq!(found(cut), []);
    let mut demux = Demux::new(None);
    let mut losses = 0;
    let mut take = |event| {
        if let TsEvent::Checked(errors) = event {
            losses += errors.count(TsSyncLoss);
        }
    };
    demux.push(cut, &mut take);
    demux.boundary(&mut take);
    assert_eq!(losses, 1);
}

#[test]
fn noise_is_told_although_no_packet_ever_comes() {
    let noise = vec![0x55; 200_000];
    let mut demux = Demux::new(None).continuous();
    let mut told = 0;
    demux.push(&noise, &mut |event| {
        if let TsEvent::Checked(errors) = event {
            told += errors.count(TsSyncLoss);
        }
    });
    assert_eq!(told, 1);
}

#[test]
fn a_pat_that_stays_away_is_told_every_half_second() {
    let mut play = Play::new();
    play.run(1_000);
    play.tables = false;
    play.run(1_520);
    play.tables = true;
    play.run(1_000);
    // Away from 900 to 2520 ms: 500, 1000, 1500.
    assert_eq!(play.found(), [(PatError, 3)]);
    assert_eq!(found_in_segment(&play.mux.bytes), [], "one is enough there");
    // As long as allowed is no error.
    let mut slow = Play::new();
    for n in 0..40 {
        slow.tables = n % 5 == 0;
        slow.run(100);
    }
    assert_eq!(slow.found(), []);
}

#[test]
fn tables_of_a_file_that_never_repeat_are_not_missed() {
    let of_file = |play: &Play| {
        let demux = Demux::new(None).perhaps_segments();
        sum(&reports(demux, &play.mux.bytes))
    };
    // Segments of two seconds, put together.
    let mut segments = Play::new();
    for _ in 0..5 {
        segments.mux.table(SDT_PID, &section(0x42, 1, 0, &[0; 8]));
        (segments.tables, segments.pmt) = (true, true);
        segments.step();
        (segments.tables, segments.pmt) = (false, false);
        segments.run(2_980);
    }
    assert_eq!(of_file(&segments), []);
    let told: Vec<TsCheck> = segments.found().iter().map(|(c, _)| *c).collect();
    assert_eq!(told, [PatError, PmtError, SdtError], "pushed, it is wrong");
    // What came again and again is missed.
    let mut play = Play::new();
    play.run(1_000);
    (play.tables, play.pmt) = (false, false);
    play.run(700);
    assert_eq!(of_file(&play), [(PatError, 1), (PmtError, 1)]);
}

#[test]
fn a_large_picture_at_a_constant_rate_is_no_jump_of_the_clock() {
    let mut play = Play::new();
    play.run(2_000);
    // Sent over 200 ms, with the next clock reference behind it.
    play.mux.pcr(V, play.now(), false);
    let pts = Some(play.now() / 300);
    let share = play.mux.bytes.len() / 10;
    play.mux
        .payload(V, &pes(0xE0, pts, pts, false, &vec![5; share]));
    play.at += 200;
    play.offset = 0;
    play.run(1_000);
    let told = play.found();
    assert_eq!(told, [(PcrRepetitionError, 1)]);
}

#[test]
fn other_tables_and_scrambling_on_the_pid_of_the_pat() {
    let mut play = Play::new();
    play.run(400);
    play.mux.table(0, &section(0x42, 1, 0, &[0; 8]));
    play.run(400);
    assert_eq!(play.found(), [(PatError, 1)]);
    assert_eq!(found_in_segment(&play.mux.bytes), [(PatError, 1)]);
    let mut play = Play::new();
    play.run(400);
    let from = play.mux.bytes.len();
    play.tables();
    for at in [from, from + 188] {
        play.mux.bytes[at + 3] |= 0x80;
    }
    play.run(400);
    assert_eq!(play.found(), [(PatError, 1), (PmtError, 1)]);
}

#[test]
fn a_pmt_that_stays_away_is_told() {
    let mut play = Play::new();
    play.run(1_000);
    play.pmt = false;
    play.run(1_000);
    assert_eq!(play.found(), [(PmtError, 2)]);
    assert_eq!(found_in_segment(&play.mux.bytes), []);
}

#[test]
fn continuity_is_counted_on_every_pid_and_not_of_damaged_packets() {
    let mut play = Play::new();
    for _ in 0..50 {
        play.run(20);
        play.mux.payload(0x300, &[9; 100]);
    }
    play.more = vec![(0x06, 0x300, Vec::new())];
    play.run(200);
    let mut all: Vec<Vec<u8>> = play.mux.bytes.chunks(188).map(<[u8]>::to_vec).collect();
    let of = |all: &[Vec<u8>], pid: u16, skip: usize| {
        let is = |p: &Vec<u8>| {
            u16::from_be_bytes([p[1] & 0x1F, p[2]]) == pid && p[3] & 0x10 != 0 && p[1] & 0x40 == 0
        };
        let places = all.iter().enumerate().filter(|(_, p)| is(p));
        places.map(|(at, _)| at).nth(skip).unwrap()
    };
    let stray = all
        .iter()
        .position(|p| p[1] & 0x1F == 3 && p[2] == 0)
        .unwrap();
    all.remove(stray);
    let video = of(&all, V, 20);
    all.remove(video);
    let audio = of(&all, A, 10);
    // Marked as damaged: no more is concluded from it.
    all[audio][1] |= 0x80;
    all[audio][3] ^= 0x05;
    let told = found(&all.concat());
    let continuity = told.iter().find(|(c, _)| *c == ContinuityCountError);
    // The first packet of a PID that is taken away cannot be missed; the one behind the marked packet does not fit.
    assert_eq!(continuity, Some(&(ContinuityCountError, 2)), "{told:?}");
    assert!(told.contains(&(TransportError, 1)), "{told:?}");
}

#[test]
fn an_announced_stream_without_packets_is_told_after_five_seconds() {
    let mut play = Play::new();
    play.run(1_000);
    play.video = false;
    play.clock = false;
    // The clock goes on in the sound's stead.
    for _ in 0..360 {
        play.step();
        let now = play.now();
        play.mux.pcr(V, now, false);
    }
    assert_eq!(play.found(), [(PidError, 3)], "after 5, 6 and 7 s");
    assert_eq!(found_in_segment(&play.mux.bytes), []);
}

#[test]
fn transport_error_indicators_are_counted() {
    let mut play = Play::new();
    play.run(1_000);
    let packets = play.mux.bytes.len() / 188;
    for at in [packets / 3, packets / 2] {
        play.mux.bytes[188 * at + 1] |= 0x80;
    }
    assert_eq!(play.found(), [(TransportError, 2)]);
    assert_eq!(found_in_segment(&play.mux.bytes), [(TransportError, 2)]);
}

#[test]
fn damaged_tables_are_counted_also_those_of_service_information() {
    let mut play = Play::new();
    play.run(400);
    let event = section(0x4E, 1, 0, &[3; 900]);
    for (pid, mut table) in [
        (PMT, pmt(1, 0, V, &[(0x1B, V, &[])])),
        (0, pat(0, &[(1, PMT)])),
        (SDT_PID, section(0x42, 1, 0, &[1; 40])),
        (EIT_PID, event.clone()),
    ] {
        play.mux.table(pid, &table);
        let last = table.len() - 1;
        table[last] ^= 1;
        if pid == PMT {
            // What belongs to another version would be followed.
            table[5] ^= 0x3E;
        }
        play.mux.table(pid, &table);
    }
    // The time of day has no CRC.
    play.mux.table(TDT_PID, &[0x70, 0x70, 5, 1, 2, 3, 4, 5]);
    play.run(400);
    assert_eq!(play.found(), [(CrcError, 4)]);
    assert_eq!(found_in_segment(&play.mux.bytes), [(CrcError, 4)]);
}

#[test]
fn late_clock_references_and_jumps_are_told_apart() {
    // Away for 200 ms while pictures go on.
    let mut late = Play::new();
    late.run(1_000);
    late.clock = false;
    late.run(180);
    late.clock = true;
    late.run(1_000);
    assert_eq!(late.found(), [(PcrRepetitionError, 1)]);
    assert_eq!(found_in_segment(&late.mux.bytes), []);
    for by in [300, 5_000, 60_000, 3_600_000] {
        for back in [false, true] {
            let mut jump = Play::new();
            jump.offset = 2 * 3_600_000 * MS;
            jump.run(1_000);
            jump.offset = match back {
                true => jump.offset - by * MS,
                false => jump.offset + by * MS,
            };
            let before = jump.mux.bytes.len();
            jump.run(2_000);
            assert_eq!(jump.found(), [(PcrDiscontinuityError, 1)], "{by} {back}");
            assert_eq!(found_in_segment(&jump.mux.bytes), []);
            // Announced, it is none.
            let pcr = jump.mux.bytes[before..]
                .chunks(188)
                .position(|p| p[1] & 0x1F == 1 && p[2] == 0 && p[3] & 0x30 == 0x20)
                .unwrap();
            jump.mux.bytes[before + 188 * pcr + 5] |= 0x80;
            assert_eq!(jump.found(), [], "{by} {back}");
        }
    }
}

#[test]
fn a_clock_that_comes_too_rarely_goes_on() {
    let mut play = Play::new();
    for n in 0..40 {
        play.clock = n % 20 == 0;
        for _ in 0..10 {
            play.step();
            play.clock = false;
        }
    }
    // 4 s between the two: three seconds are told as they pass, and the late one when it comes.
    let told = play.found();
    assert!(
        matches!(told[..], [(PatError, _), ..] | [(PcrRepetitionError, _)]),
        "{told:?}"
    );
    let late = told.iter().find(|(c, _)| *c == PcrRepetitionError).unwrap();
    assert!((4..=8).contains(&late.1), "{told:?}");
    assert!(told.iter().all(|(c, _)| *c != PcrDiscontinuityError));
}

#[test]
fn a_clock_that_never_comes_is_told_by_the_timestamps() {
    let mut play = Play::new();
    play.clock = false;
    play.run(5_000);
    let told = play.found();
    assert!(matches!(told[..], [(PcrRepetitionError, 4)]), "{told:?}");
    assert_eq!(found_in_segment(&play.mux.bytes), []);
}

#[test]
fn timestamps_that_stay_away_are_told() {
    let mut play = Play::new();
    play.run(1_000);
    play.stamps = false;
    play.run(1_500);
    play.stamps = true;
    play.run(500);
    // Of two streams, after 0.7 and 1.4 s.
    assert_eq!(play.found(), [(PtsError, 4)]);
    assert_eq!(found_in_segment(&play.mux.bytes), []);
}

/// Marks the payload of a PID as scrambled.
fn scramble(bytes: &mut [u8], pid: u16) {
    for p in bytes.chunks_mut(188) {
        if u16::from_be_bytes([p[1] & 0x1F, p[2]]) == pid && p[3] & 0x10 != 0 {
            p[3] |= 0x80;
        }
    }
}

#[test]
fn scrambled_packets_need_a_cat() {
    let mut play = Play::new();
    play.run(5_000);
    scramble(&mut play.mux.bytes, V);
    let told = play.found();
    assert!(matches!(told[..], [(CatError, 3)]), "{told:?}");
    // With one, and with other things in its place.
    let mut play = Play::new();
    let entitled = b"\x09\x04\x06\x04\xE3\x00";
    for _ in 0..10 {
        play.mux
            .table(CAT_PID, &section(psi::CAT, 0xFFFF, 0, entitled));
        play.run(500);
        // What it refers to has a right to be there.
        play.mux.payload(0x300, &[1; 50]);
    }
    scramble(&mut play.mux.bytes, V);
    assert_eq!(play.found(), []);
    play.mux.table(CAT_PID, &section(0x42, 1, 0, &[0; 4]));
    play.run(100);
    assert_eq!(play.found(), [(CatError, 1)]);
}

#[test]
fn service_information_is_missed_only_where_it_was() {
    let rows = [
        (NIT_PID, section(0x40, 1, 0, &[0; 8]), NitError, 10),
        (SDT_PID, section(0x42, 1, 0, &[0; 8]), SdtError, 2),
        (EIT_PID, section(0x4E, 1, 0, &[0; 8]), EitError, 2),
        (TDT_PID, vec![0x70, 0x70, 5, 1, 2, 3, 4, 5], TdtError, 30),
    ];
    for (pid, table, check, limit) in rows {
        let mut play = Play::new();
        for _ in 0..3 {
            play.mux.table(pid, &table);
            play.run(limit * 1_000 - 100);
        }
        assert_eq!(play.found(), [], "{check:?}");
        play.run(1_500);
        let told = play.found();
        assert_eq!(told.first().map(|(c, _)| *c), Some(check));
        assert!((1..=2).contains(&told[0].1), "{told:?}");
        assert_eq!(found_in_segment(&play.mux.bytes), []);
    }
}

#[test]
fn packets_that_nothing_refers_to_are_told_each_second() {
    let mut play = Play::new();
    for n in 0..250 {
        if (50..200).contains(&n) {
            play.mux.payload(0x400, &[1; 20]);
        }
        play.step();
    }
    let told = play.found();
    assert!(matches!(told[..], [(UnreferencedPid, 2..=4)]), "{told:?}");
    assert_eq!(found_in_segment(&play.mux.bytes), []);
    // One that the PMT names, though it is neither picture nor sound.
    let mut named = Play::new();
    named.more = vec![(0x06, 0x400, vec![0x56, 0])];
    for _ in 0..250 {
        named.mux.payload(0x400, &[1; 20]);
        named.step();
    }
    assert_eq!(named.found(), []);
    // With several programs not everything that refers is read.
    let mut many = Play::new();
    many.tables = false;
    for n in 0..250 {
        if n % 5 == 0 {
            many.mux.table(0, &pat(0, &[(1, PMT), (2, 0x1001)]));
            many.mux
                .table(0x1001, &pmt(2, 0, 0x200, &[(0x1B, 0x200, &[])]));
        }
        many.mux.payload(0x400, &[1; 20]);
        many.step();
    }
    assert_eq!(many.found(), []);
}

/// PCRs on a constant rate, every other one off by `nanos`.
fn constant(nanos: u64, stuffing: bool) -> Option<u32> {
    let mut play = Play::new();
    play.tables();
    play.tables();
    play.tables();
    let pid = if stuffing { NULL_PID } else { 0x300 };
    let mut packets = play.mux.bytes.len() / 188;
    for n in 0..200 {
        let off = if n % 2 == 0 { nanos * 27 / 1000 } else { 0 };
        // 100 packets a PCR, 20 ms.
        play.mux.pcr(V, (packets * 5_400) as u64 + off, false);
        for _ in 1..100 {
            play.mux.packet(pid, false, None, &[1; 184]);
        }
        packets += 100;
    }
    let all = reports(Demux::new(None).continuous(), &play.mux.bytes);
    all.last().unwrap().pcr_inaccuracy_nanos
}

#[test]
fn the_accuracy_of_clock_references_is_measured_on_a_constant_rate_only() {
    let exact = constant(0, true).unwrap();
    assert!(exact < 40, "{exact}");
    let off = constant(2_000, true).unwrap();
    assert!((900..=1_100).contains(&off), "{off}");
    assert_eq!(
        constant(0, false),
        None,
        "nothing shows that the rate is constant"
    );
    assert_eq!(constant(4_000_000, true), None, "no constant rate");
}

#[test]
fn splice_sections_are_handed_on_and_checked() {
    let mut play = Play::new();
    play.more = vec![(0x86, 0x500, Vec::new())];
    // A splice_null() command.
    let mut null = vec![
        0xFC, 0x30, 0x11, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xF0, 0, 0, 0, 0,
    ];
    let crc = crate::transport::ts::crc32(&null);
    null.extend(crc.to_be_bytes());
    play.run(200);
    play.mux.table(0x500, &null);
    let mut bad = null.clone();
    bad[5] ^= 1;
    play.mux.table(0x500, &bad);
    play.run(200);
    let mut demux = Demux::new(None);
    let mut spliced = Vec::new();
    demux.push(&play.mux.bytes, &mut |event| {
        if let TsEvent::Splice { section } = event {
            spliced.push(section);
        }
    });
    assert_eq!(spliced, [null]);
    assert_eq!(play.found(), [(CrcError, 1)]);
}

#[test]
fn what_hostile_input_can_make_grow_is_bounded() {
    let mut play = Play::new();
    play.run(500);
    for pid in 0x20..0x1FF0 {
        if ![PMT, V, A].contains(&pid) {
            play.mux.payload(pid, &[1; 10]);
        }
    }
    let entitled: Vec<u8> = (0..150u16)
        .flat_map(|n| [0x09, 4, 6, 4, 0xFE, n as u8])
        .collect();
    play.mux.table(CAT_PID, &section(psi::CAT, 0, 0, &entitled));
    play.run(100);
    let mut demux = Demux::new(None).continuous();
    demux.push(&play.mux.bytes, &mut |_| {});
    assert_eq!(demux.core.checks.strays.len(), MAX_STRAYS);
    assert_eq!(demux.core.checks.entitlements.len(), MAX_ENTITLEMENTS);
    assert!(demux.core.checks.rate.points.len() <= RATE_POINTS);
}

#[test]
fn tables_that_a_segmenter_put_before_a_segment_are_no_error() {
    let mut play = Play::new();
    play.run(400);
    let bytes = std::mem::take(&mut play.mux.bytes);
    let is_table = |p: &[u8]| [0, PMT].contains(&(u16::from_be_bytes([p[1] & 0x1F, p[2]])));
    let tables = bytes.chunks(188).filter(|p| is_table(p));
    let copies: Vec<u8> = tables.take(2).flatten().copied().collect();
    play.run(1_000);
    let segment = [copies, play.mux.bytes].concat();
    let errors = |mut demux: Demux, losses: usize| {
        let mut count = 0;
        let mut bytes = segment.clone();
        let tables = (0..bytes.len()).step_by(188);
        let tables = tables.filter(|at| is_table(&segment[*at..*at + 188]));
        let lost: Vec<usize> = tables.skip(6).step_by(3).take(losses).collect();
        for at in lost.iter().rev() {
            bytes.drain(*at..*at + 188);
        }
        for _ in 0..3 {
            let mut take = |event| {
                if let TsEvent::Checked(errors) = event {
                    count += errors.count(ContinuityCountError);
                }
            };
            demux.push(&bytes, &mut take);
            demux.boundary(&mut take);
        }
        count
    };
    assert_eq!(errors(Demux::new(None), 0), 0);
    // What is lost further on is counted as ever.
    assert!(errors(Demux::new(None), 4) > 0);
    assert!(errors(Demux::new(None).continuous(), 0) > 0);
}
