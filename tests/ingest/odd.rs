//! Media that is odd without being broken, or broken before it is decoded.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use detectors::base::{Cause, EvidenceKind, Fact, Kind, Track, TrackInfo, TsCheck};
use glasswatch::config::Protocol;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::rig::*;
use crate::servers::free_port;

const AAC: &str = "avenc_aac ! aacparse";
const PACKET: usize = 188;

/// A transport stream of these chains.
fn ts(dir: &Path, chains: &[String]) -> Vec<u8> {
    let path = dir.join("made.ts");
    let chains = chains.iter().map(|c| format!("{c} ! queue ! m. "));
    let chains = chains.collect::<String>();
    make(&format!(
        "mpegtsmux name=m alignment=7 ! filesink location={} {chains}",
        path.display()
    ));
    std::fs::read(path).unwrap()
}

fn play_bytes(dir: &Path, bytes: &[u8]) -> Vec<Seen> {
    let path = dir.join("played");
    std::fs::write(&path, bytes).unwrap();
    play(&path)
}

fn pid(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1f, packet[2]])
}

fn jumps(seen: &[Seen]) -> usize {
    let jump = |f: &Fact| matches!(f, Fact::TimelineJump { .. });
    facts(seen).filter(|(_, f)| jump(f)).count()
}

/// The seconds between the first and the last picture.
fn span(seen: &[Seen]) -> f64 {
    let times = pictures(seen, 0);
    let (first, last) = (times[0].unwrap(), times[times.len() - 1].unwrap());
    last.secs_after(first)
}

#[test]
fn a_wrap_of_the_timestamps_is_nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    // 2^33 ticks are 95,443.717 s.
    let late = |source: &str, chain: String| {
        chain.replace(source, &format!("{source} timestamp-offset=95441000000000"))
    };
    let bytes = ts(
        dir.path(),
        &[
            format!(
                "{} ! {X264}",
                late("videotestsrc", video(150, (320, 180), 25))
            ),
            format!("{} ! {AAC}", late("audiotestsrc", tone(282))),
        ],
    );
    let seen = play_bytes(dir.path(), &bytes);
    assert_eq!(cause(&seen), None, "{}", digest(&seen));
    assert_eq!(pictures(&seen, 0).len(), 150);
    assert_eq!((jumps(&seen), evidence(&seen)), (0, Vec::new()));
    assert!((span(&seen) - 149.0 / 25.0).abs() < 0.001);
    assert_monotone(&seen);
    let skews = facts(&seen).filter_map(|(_, f)| match f {
        Fact::AvSkew {
            audio_minus_video_secs,
            ..
        } => Some(*audio_minus_video_secs),
        _ => None,
    });
    let skews: Vec<f64> = skews.collect();
    assert!(
        skews.len() > 10 && skews.iter().all(|s| s.abs() < 1.0),
        "{skews:?}"
    );
}

#[test]
fn a_sound_track_may_go_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let picture = || format!("{} ! {X264}", video(50, (320, 180), 25));
    let with = ts(dir.path(), &[picture(), format!("{} ! {AAC}", tone(94))]);
    let without = ts(dir.path(), &[picture()]);
    let seen = play_bytes(dir.path(), &[with.clone(), without, with].concat());
    assert_eq!(cause(&seen), None, "{}", digest(&seen));
    let told: Vec<Vec<Track>> = facts(&seen)
        .filter_map(|(_, f)| match f {
            Fact::Tracks(infos) => Some(infos.iter().map(|i| i.track).collect()),
            _ => None,
        })
        .collect();
    let (v, a) = (Track::video(0), Track::audio(0));
    assert_eq!(told, [vec![v, a], vec![v], vec![v, a]]);
    assert_eq!(pictures(&seen, 0).len(), 150);
    assert!(
        frames(&seen, 0).abs_diff(2 * 94 * 1024) < 8192,
        "{}",
        frames(&seen, 0)
    );
}

/// What comes out of a transport stream, and what was counted.
fn counted(dir: &Path, bytes: &[u8]) -> (Vec<Seen>, u64) {
    let path = dir.join("lossy.ts");
    std::fs::write(&path, bytes).unwrap();
    let runtime = runtime();
    let _inside = runtime.enter();
    let watched = watch(input(&file_url(&path), Protocol::File));
    watched.sink.wait("the end", ended);
    (
        watched.sink.all(),
        watched.stats.ts_errors[TsCheck::ContinuityCountError as usize].get(),
    )
}

#[test]
fn every_lost_repeated_or_exchanged_datagram_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let noisy =
        video(250, (320, 180), 25).replace("pattern=smpte horizontal-speed=4", "pattern=snow");
    let bytes = ts(
        dir.path(),
        &[
            format!("{noisy} ! {X264} bitrate=4000"),
            format!("{} ! {AAC}", tone(470)),
        ],
    );
    let datagrams: Vec<&[u8]> = bytes.chunks(7 * PACKET).collect();
    assert!(datagrams.len() > 3000, "{}", datagrams.len());
    let (clean, errors) = counted(dir.path(), &bytes);
    assert_eq!((errors, evidence(&clean)), (0, Vec::new()));
    let mut random = fastrand::Rng::with_seed(17);
    for per_mille in [1, 10, 50] {
        // One error for each gap of a PID, told at the packet behind it. The counter has four bits: of sixteen packets
        // lost together none is seen.
        let (mut rest, mut missing, mut gaps) = (Vec::new(), BTreeMap::<u16, u64>::new(), 0);
        for (n, datagram) in datagrams.iter().enumerate() {
            // The first tables and the end prove nothing.
            let inside = (50..datagrams.len() - 50).contains(&n);
            let lost = inside && random.u32(..1000) < per_mille;
            let counts = |p: &&[u8]| pid(p) != 0x1fff && p[3] & 0x10 != 0;
            for packet in datagram.chunks(PACKET).filter(counts) {
                match lost {
                    true => *missing.entry(pid(packet)).or_default() += 1,
                    false => {
                        let before = missing.remove(&pid(packet)).unwrap_or(0);
                        gaps += u64::from(before % 16 != 0);
                    }
                }
            }
            if !lost {
                rest.extend_from_slice(datagram);
            }
        }
        let (seen, errors) = counted(dir.path(), &rest);
        assert!(gaps > 0);
        assert_eq!(errors, gaps, "{per_mille}");
        assert!(pictures(&seen, 0).len() > 150, "{}", digest(&seen));
        assert_monotone(&seen);
        let continuity = |kind| kind == EvidenceKind::ContinuityError;
        assert!(evidence(&seen).iter().any(|(_, e)| continuity(e.kind)));
    }
    for repeated in [true, false] {
        let mut odd = datagrams.clone();
        match repeated {
            true => odd.insert(501, datagrams[500]),
            false => odd.swap(500, 501),
        }
        let (seen, errors) = counted(dir.path(), &odd.concat());
        assert!(errors > 0, "repeated: {repeated}");
        assert!(pictures(&seen, 0).len() > 200, "{}", digest(&seen));
    }
}

#[test]
fn rtp_from_another_sender_is_followed() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let watched = watch(input(&format!("rtp://127.0.0.1:{port}"), Protocol::Rtp));
    let sender = |ssrc: u32| {
        Sender::start(&format!(
            "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 \
             ! x264enc tune=zerolatency key-int-max=10 threads=1 speed-preset=ultrafast \
             ! mpegtsmux alignment=7 ! rtpmp2tpay ssrc={ssrc} ! udpsink host=127.0.0.1 port={port}"
        ))
    };
    let decodes = |seen: &[Seen]| pictures(seen, 0).len() >= 20;
    let first = sender(7);
    watched.sink.wait("pictures", decodes);
    drop(first);
    watched.sink.clear();
    // Another source, port and sequence of numbers.
    let _second = sender(8);
    watched.sink.wait("pictures of the next sender", decodes);
    assert_eq!(cause(&watched.sink.all()), None);
    assert_eq!(
        watched.stats.rtp_lost.get(),
        0,
        "nothing was lost between them"
    );
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

/// Units between start codes.
fn nals(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut starts = Vec::new();
    for at in 0..bytes.len().saturating_sub(2) {
        if bytes[at..at + 3] == [0, 0, 1] {
            starts.push(at + 3);
        }
    }
    let ends = starts.iter().skip(1).map(|s| s - 3).chain([bytes.len()]);
    let trim = |nal: &[u8]| {
        let end = nal.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        nal[..end].to_vec()
    };
    starts
        .iter()
        .zip(ends)
        .map(|(s, e)| trim(&bytes[*s..e]))
        .collect()
}

/// 100 pictures of H.264, one key picture a second, with every NAL unit changed or left out by `edit`.
fn edited(dir: &Path, edit: impl Fn(u8, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let path = dir.join("plain.264");
    make(&format!(
        "{} ! x264enc tune=zerolatency key-int-max=25 threads=1 speed-preset=ultrafast aud=true \
         option-string=scenecut=0 ! video/x-h264,stream-format=byte-stream,alignment=au ! filesink location={}",
        video(100, (320, 180), 25),
        path.display()
    ));
    let mut pictures: Vec<Vec<u8>> = Vec::new();
    for nal in nals(&std::fs::read(path).unwrap()) {
        let kind = nal[0] & 31;
        if kind == 9 {
            pictures.push(Vec::new());
        }
        if let (Some(nal), Some(picture)) = (edit(kind, nal), pictures.last_mut()) {
            picture.extend_from_slice(&[0, 0, 0, 1]);
            picture.extend_from_slice(&nal);
        }
    }
    assert_eq!(pictures.len(), 100);
    let path = dir.join("edited.ts");
    gst::init().unwrap();
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=in format=time max-bytes=0 caps=video/x-h264,stream-format=byte-stream,alignment=au \
         ! mpegtsmux ! filesink location={}",
        path.display()
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("in").unwrap();
    let source = source.downcast::<gst_app::AppSrc>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for (n, picture) in (0..).zip(pictures) {
        let mut buffer = gst::Buffer::from_mut_slice(picture);
        let at = gst::ClockTime::from_mseconds(10_000 + 40 * n);
        let stamps = buffer.get_mut().unwrap();
        stamps.set_pts(at);
        stamps.set_dts(at);
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let bus = pipeline.bus().unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(Some(gst::ClockTime::from_seconds(60)), &end);
    pipeline.set_state(gst::State::Null).unwrap();
    let message = message.unwrap();
    assert!(
        matches!(message.view(), gst::MessageView::Eos(_)),
        "{message:?}"
    );
    std::fs::read(path).unwrap()
}

#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(&mut self, value: u32, bits: u32) {
        self.0
            .extend((0..bits).rev().map(|bit| value >> bit & 1 == 1));
    }

    /// Exponential Golomb.
    fn ue(&mut self, value: u32) {
        let bits = (value + 1).ilog2();
        self.put(0, bits);
        self.put(value + 1, bits + 1);
    }
}

/// A sequence parameter set (ISO/IEC 14496-10, 7.3.2.1.1) of pictures of so many macroblocks.
fn parameters(across: u32, down: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    for (value, size) in [(66, 8), (0xC0, 8), (62, 8)] {
        bits.put(value, size);
    }
    for value in [0, 0, 2, 1] {
        bits.ue(value);
    }
    bits.put(0, 1);
    bits.ue(across - 1);
    bits.ue(down - 1);
    // Frames only, direct inference, no cropping, no usability information, the stop bit.
    bits.put(0b1_1_0_0_1, 5);
    let mut nal = vec![0x67];
    for byte in bits.0.chunks(8) {
        let byte = (0..8).fold(0, |sum, n| sum << 1 | u8::from(byte.get(n) == Some(&true)));
        if byte <= 3 && nal.ends_with(&[0, 0]) {
            nal.push(3);
        }
        nal.push(byte);
    }
    nal
}

#[test]
fn pictures_and_sound_that_claim_too_much_are_refused_before_they_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let told = |seen: &[Seen]| {
        let problems = facts(seen).filter_map(|(_, f)| match f {
            Fact::Tracks(infos) => infos.iter().find_map(|i: &TrackInfo| i.problem),
            _ => None,
        });
        problems.collect::<Vec<_>>()
    };
    // 65,536 by 65,536; 16K; 65,536 by 16.
    for (across, down) in [(4096, 4096), (960, 540), (4096, 2500)] {
        let set = parameters(across, down);
        let change = |kind, nal| Some(if kind == 7 { set.clone() } else { nal });
        let seen = play_bytes(dir.path(), &edited(dir.path(), change));
        assert!(
            told(&seen).contains(&Cause::TooCostly),
            "{across}x{down} {}",
            digest(&seen)
        );
        assert_eq!(pictures(&seen, 0).len(), 0);
        assert!(cause(&seen).is_some());
    }
    let mut wave = b"RIFF\xff\xff\xff\x7fWAVEfmt ".to_vec();
    let (channels, rate) = (255_u16, 8_000_u32);
    let block = channels * 2;
    wave.extend(16_u32.to_le_bytes());
    wave.extend([1, 0]);
    wave.extend(channels.to_le_bytes());
    wave.extend(rate.to_le_bytes());
    wave.extend((rate * u32::from(block)).to_le_bytes());
    wave.extend(block.to_le_bytes());
    wave.extend([16, 0]);
    wave.extend(b"data\xff\xff\xff\x7f");
    wave.extend(vec![0x11; usize::from(block) * 4_000]);
    let seen = play_bytes(dir.path(), &wave);
    assert!(told(&seen).contains(&Cause::TooCostly), "{}", digest(&seen));
    assert_eq!(frames(&seen, 0), 0);
}

/// Sends a transport stream over and over, at its own pace, until stopped.
fn send_over_and_over(bytes: Vec<u8>, secs: f64, port: u16, stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagrams = bytes.len().div_ceil(7 * PACKET);
        let pause = Duration::from_secs_f64(secs / datagrams as f64);
        while !stop.load(Ordering::Relaxed) {
            for datagram in bytes.chunks(7 * PACKET) {
                let _ = socket.send_to(datagram, ("127.0.0.1", port));
                std::thread::sleep(pause);
            }
        }
    });
}

#[test]
fn pictures_without_parameters_are_named_within_ten_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = edited(dir.path(), |kind, nal| {
        (![7, 8].contains(&kind)).then_some(nal)
    });
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let watched = watch(input(&format!("udp://127.0.0.1:{port}"), Protocol::Udp));
    let stop = Arc::default();
    let began = Instant::now();
    send_over_and_over(bytes, 4.0, port, &stop);
    watched
        .sink
        .wait("a name", |s| cause(s) == Some(Cause::Undecodable));
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!(pictures(&watched.sink.all(), 0).len(), 0);
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn pictures_that_only_refer_to_others_are_never_passed_off_as_whole() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = edited(dir.path(), |kind, nal| (kind != 5).then_some(nal));
    let seen = play_bytes(dir.path(), &bytes);
    let damaged = evidence(&seen)
        .iter()
        .any(|(track, _)| track.is_some_and(|t| t.kind == Kind::Video));
    let shown = pictures(&seen, 0).len();
    assert!(
        cause(&seen) == Some(Cause::Undecodable) || damaged,
        "{shown} {}",
        digest(&seen)
    );
}

#[test]
fn one_still_picture_in_a_file_is_played_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    for (mux, name) in [("mp4mux", "still.mp4"), ("matroskamux", "still.mkv")] {
        let path = dir.path().join(name);
        make(&format!(
            "{} ! {X264} ! {mux} ! filesink location={}",
            video(1, (320, 180), 1),
            path.display()
        ));
        let seen = play(&path);
        assert_eq!(cause(&seen), None, "{name}: {}", digest(&seen));
        assert_eq!(pictures(&seen, 0).len(), 1, "{name}");
    }
}

#[test]
fn a_decoder_that_hangs_is_told_and_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = edited(dir.path(), |_, nal| Some(nal));
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let input = input(&format!("udp://127.0.0.1:{port}"), Protocol::Udp);
    let (mut context, sink, _) = context(input);
    // Its thread does not come back from handing over the first picture.
    let gate = Gate::before(&sink);
    context.intake = gate.clone();
    let running = glasswatch::ingest::spawn(context);
    let stop = Arc::default();
    let began = Instant::now();
    send_over_and_over(bytes, 4.0, port, &stop);
    sink.wait("a name", |s| cause(s) == Some(Cause::Undecodable));
    let took = began.elapsed();
    gate.open();
    sink.clear();
    sink.wait("pictures again", |s| pictures(s, 0).len() > 50);
    stop.store(true, Ordering::Relaxed);
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert!(runtime.block_on(running.stop(Duration::from_secs(5))));
}

/// Peak memory of an analysis, KiB.
fn peak_of_analysis(path: &Path) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_glasswatch"))
        .args(["analyze", "--format", "jsonl", "--jobs", "1"])
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let mut out = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        text
    });
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let now = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = reading.join().unwrap();
    assert!(text.contains("\"type\":\"summary\""), "{text}");
    assert!(!text.contains("\"input_cause\":\""), "{text}");
    peak
}

#[test]
fn changes_of_size_rate_and_channels_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let piece = |size, rate, channels: u32| {
        let sound = tone(10).replace("channels=2", &format!("channels={channels}"));
        ts(
            dir.path(),
            &[
                format!("{} ! {X264}", video(rate / 5, size, rate)),
                format!("{sound} ! {AAC}"),
            ],
        )
    };
    let both = [piece((320, 180), 25, 2), piece((160, 90), 50, 1)].concat();
    let peak = |changes: usize| {
        let path = dir.path().join(format!("{changes}.ts"));
        std::fs::write(&path, both.repeat(changes / 2)).unwrap();
        peak_of_analysis(&path)
    };
    let (few, many) = (peak(100), peak(500));
    println!("{few} KiB after 100 changes, {many} KiB after 500");
    assert!(many < few + (24 << 10), "{few} KiB, then {many} KiB");
}
