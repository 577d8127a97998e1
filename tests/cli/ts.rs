//! Transport streams with faults of their own, and with break markers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use glasswatch::demo::impair::{PACKET, VIDEO_PID, pid, pmt_pid};
use serde_json::Value as Json;

use crate::rig::*;

const NULL_PID: u16 = 0x1FFF;
const SPLICE_PID: u16 = 0x1F0;

/// Packets of a clean programme.
fn packets(dir: &Path, secs: u64) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(clean(secs).write(dir, "clean.ts")).unwrap();
    bytes.chunks_exact(PACKET).map(<[u8]>::to_vec).collect()
}

fn tables_pid(packets: &[Vec<u8>]) -> u16 {
    let first = packets.iter().find(|p| pid(p) == 0).unwrap();
    pmt_pid(first).unwrap()
}

fn write(dir: &Path, packets: &[Vec<u8>]) -> PathBuf {
    let path = dir.join("faulty.ts");
    std::fs::write(&path, packets.concat()).unwrap();
    path
}

/// Where the payload of a packet begins.
fn payload(packet: &[u8]) -> usize {
    match packet[3] & 0x20 {
        0 => 4,
        _ => 5 + usize::from(packet[4]),
    }
}

/// CRC-32 of MPEG-2 systems, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            (crc << 1) ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    })
}

/// What the detector says of a file: rules with their causes.
fn told(path: &Path) -> BTreeSet<(String, String)> {
    let done = analyze(path, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let word = |line: &Json, key: &str| line[key].as_str().unwrap().to_owned();
    done.defects()
        .iter()
        .filter(|d| d["detector"] == "ts")
        .map(|d| (word(d, "rule"), word(d, "cause")))
        .collect()
}

fn pairs(rows: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    rows.iter()
        .map(|(rule, cause)| ((*rule).to_owned(), (*cause).to_owned()))
        .collect()
}

#[test]
fn faults_of_the_transport_stream_are_told_with_their_check() {
    let dir = tempfile::tempdir().unwrap();
    let clean = packets(dir.path(), 16);
    let tables = tables_pid(&clean);
    let middle = clean.len() / 4..clean.len() * 3 / 4;
    assert_eq!(told(&write(dir.path(), &clean)), pairs(&[]));

    // One packet, once.
    let mut lossy = clean.clone();
    let inside = |p: &Vec<u8>| pid(p) == VIDEO_PID && p[1] & 0x40 == 0 && p[3] & 0x10 != 0;
    let at = lossy[middle.start..].iter().position(inside).unwrap();
    lossy.remove(middle.start + at);
    let once = ("priority1", "continuity_count_error");
    assert_eq!(told(&write(dir.path(), &lossy)), pairs(&[once]));

    // One in a hundred, for seconds.
    let mut lossy = clean.clone();
    let mut at = 0;
    lossy.retain(|p| {
        at += 1;
        !(middle.contains(&at) && at % 100 == 0 && pid(p) == VIDEO_PID)
    });
    let lasting = ("priority1_lasting", "continuity_count_error");
    assert_eq!(told(&write(dir.path(), &lossy)), pairs(&[once, lasting]));

    // No PAT for seconds; its counter goes on as if nothing were missing.
    let mut bare = clean.clone();
    let mut counter = 0;
    for (at, packet) in bare.iter_mut().enumerate() {
        if pid(packet) == 0 && middle.contains(&at) {
            packet[1..3].copy_from_slice(&NULL_PID.to_be_bytes());
        } else if pid(packet) == 0 {
            packet[3] = packet[3] & 0xF0 | counter;
            counter = (counter + 1) & 15;
        }
    }
    let wanted = pairs(&[
        ("priority1", "pat_error"),
        ("priority1_lasting", "pat_error"),
    ]);
    assert_eq!(told(&write(dir.path(), &bare)), wanted);

    // Every second PMT is damaged: the others do, the CRC is told.
    let mut flawed = clean.clone();
    let hurt = flawed
        .iter_mut()
        .enumerate()
        .filter(|(at, p)| middle.contains(at) && pid(p) == tables);
    for (_, packet) in hurt.step_by(2) {
        let section = payload(packet) + 1;
        packet[section + 9] ^= 0x10;
    }
    let wanted = pairs(&[("priority2_lasting", "crc_error")]);
    assert_eq!(told(&write(dir.path(), &flawed)), wanted);
}

/// Adds a stream of splice information to a PMT that is one packet.
fn announce(packet: &mut Vec<u8>) {
    let at = payload(packet) + 1;
    let length = usize::from(packet[at + 1] & 0x0F) << 8 | usize::from(packet[at + 2]);
    let mut section = packet[at..at + 3 + length - 4].to_vec();
    let [high, low] = SPLICE_PID.to_be_bytes();
    section.extend([0x86, 0xE0 | high, low, 0xF0, 0]);
    section[2] += 5;
    section.extend(crc32(&section).to_be_bytes());
    packet.truncate(4);
    packet[3] &= !0x20;
    packet.push(0);
    packet.extend(section);
    assert!(packet.len() <= PACKET, "room for an entry");
    packet.resize(PACKET, 0xFF);
}

/// A packet with a splice_insert().
fn splice(counter: u8, event: u32, leaves: bool, pts: u64) -> Vec<u8> {
    let stamp = |first: u64, ticks: u64| (first << 32 | ticks).to_be_bytes()[3..].to_vec();
    let mut command = event.to_be_bytes().to_vec();
    command.extend([0x7F, if leaves { 0xEF } else { 0x4F }]);
    command.extend(stamp(0xFE, pts));
    if leaves {
        command.extend(stamp(0xFE, 30 * 90_000));
    }
    command.extend([0, 1, 0, 0]);
    let mut section = vec![0xFC, 0x30, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xF0];
    section.push(command.len() as u8);
    section.push(0x05);
    section.extend(command);
    section.extend([0, 0]);
    section[2] = (section.len() + 4 - 3) as u8;
    section.extend(crc32(&section).to_be_bytes());
    let mut packet = vec![0x47, 0x40 | (SPLICE_PID >> 8) as u8, SPLICE_PID as u8];
    packet.extend([0x10 | counter & 15, 0]);
    packet.extend(section);
    packet.resize(PACKET, 0xFF);
    packet
}

/// Presentation time of a packet that begins a picture.
fn stamp(packet: &[u8]) -> u64 {
    let at = payload(packet) + 9;
    let b: Vec<u64> = packet[at..at + 5].iter().map(|b| u64::from(*b)).collect();
    (b[0] >> 1 & 7) << 30 | b[1] << 22 | (b[2] >> 1) << 15 | b[3] << 7 | b[4] >> 1
}

#[test]
fn break_markers_are_counted_once_and_logged_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = packets(dir.path(), 12);
    let tables = tables_pid(&all);
    let begins = |p: &&Vec<u8>| pid(p) == VIDEO_PID && p[1] & 0x40 != 0;
    let first = stamp(all.iter().find(begins).unwrap());
    for packet in all.iter_mut().filter(|p| pid(p) == tables) {
        announce(packet);
    }
    // The start is announced three times, the end once.
    let marks = [
        (1, 7, true, 6),
        (2, 7, true, 6),
        (3, 7, true, 6),
        (4, 8, false, 9),
    ];
    for (counter, event, leaves, secs) in marks {
        let at = all.len() * usize::from(counter) / 8;
        let pts = first + secs * 90_000;
        all.insert(at, splice(counter, event, leaves, pts));
    }
    write(dir.path(), &all);
    let path = dir.path().join("watch.yaml");
    let config =
        "version: 1\ninstance: {data_dir: data}\nstreams:\n  - {id: news, url: faulty.ts}\n";
    std::fs::write(&path, config).unwrap();
    let mut daemon = Daemon::start(&["--config", path.to_str().unwrap()]);
    for (edge, event, secs) in [("start", 7, 6.0), ("end", 8, 9.0)] {
        let line: Json = serde_json::from_str(&daemon.logged("break marker")).unwrap();
        let field = |key: &str| match &line["fields"][key] {
            Json::Null => line[key].clone(),
            found => found.clone(),
        };
        assert_eq!(field("edge"), edge, "{line}");
        assert_eq!(field("event_id"), event, "{line}");
        let at = field("at_media_secs").as_f64().unwrap();
        assert!((at - secs).abs() < 0.2, "{line}");
    }
    let series =
        |edge| format!("glasswatch_break_markers_total{{stream=\"news\",edge=\"{edge}\"}}");
    daemon.until("both ends counted", |d| {
        let counted = ["start", "end"].map(|edge| d.metric(&series(edge)));
        (counted == [Some(1.0), Some(1.0)]).then_some(())
    });
    let lost = r#"glasswatch_ts_errors_total{stream="news",check="continuity_count_error"}"#;
    assert_eq!(daemon.metric(lost), Some(0.0));
    assert_eq!(daemon.stop().code, Some(0));
}
