//! Clips of the input as evidence: a picture that freezes, from all kinds of inputs, read back by a foreign player.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use detectors::base::Options;
use glasswatch::alert::{Change, Transition};
use glasswatch::config::{DetectorConfig, Input, Protocol, Stream};
use glasswatch::evidence::{Stills, relative_dir};
use glasswatch::ingest::source::SourceContext;
use glasswatch::ingest::{Running, clock, spawn};
use glasswatch::lane::{Lane, Mode, Outlet, Pool};
use serde_json::Value as Json;

use crate::rig::*;
use crate::servers::{Publisher, Server, free_port};

/// Where the picture freezes, for how long, and how long all is.
const FREEZES_AT_SECS: f64 = 8.0;
const FROZEN_SECS: u32 = 6;
const SECS: u32 = 20;
const RATE: f64 = 25.0;

const H264_AAC: &str = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -pix_fmt yuv420p -c:a aac";

/// Runs a foreign tool; it must find nothing wrong.
fn tool(name: &str, args: &[&str]) -> Vec<u8> {
    let done = Command::new(name)
        .args(["-v", "error"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success() && said.is_empty(),
        "{name} {args:?}: {said}"
    );
    done.stdout
}

/// A programme that moves, stands still, and moves again.
fn programme(dir: &Path, name: &str, coding: &str) -> PathBuf {
    let path = dir.join(name);
    let moving = |secs: u32| format!("testsrc2=size=320x180:rate={RATE}:duration={secs}");
    let rest = SECS - FREEZES_AT_SECS as u32 - FROZEN_SECS;
    let (first, last) = (moving(FREEZES_AT_SECS as u32), moving(rest));
    let sound = format!("sine=frequency=440:sample_rate=48000:duration={SECS}");
    let filter = format!(
        "[0]tpad=stop_mode=clone:stop_duration={FROZEN_SECS}[a];[a][1]concat=n=2:v=1:a=0[v]"
    );
    let mut args = vec!["-y"];
    for input in [&first, &last, &sound] {
        args.extend(["-f", "lavfi", "-i", input]);
    }
    args.extend(["-filter_complex", &filter, "-map", "[v]", "-map", "2"]);
    args.extend(coding.split(' '));
    args.push(path.to_str().unwrap());
    tool("ffmpeg", &args);
    path
}

/// Remembers what was raised.
#[derive(Default)]
struct Told(Mutex<Vec<Transition>>);

impl Outlet for Told {
    fn transition(&self, transition: Transition) -> Result<(), Transition> {
        self.0.lock().unwrap().push(transition);
        Ok(())
    }
}

/// A stream that is watched for freezes, with evidence.
struct Scene {
    dir: tempfile::TempDir,
    stills: Arc<Stills>,
    lane: Arc<Lane>,
    told: Arc<Told>,
    running: Running,
}

fn scene(input: Input, mode: Mode) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let stills = Stills::open(dir.path(), 1 << 30);
    let (context, _, _) = context(input);
    let freeze = detectors::registry::find("freeze").unwrap();
    let stream = Arc::new(Stream {
        detectors: vec![DetectorConfig {
            descriptor: freeze,
            options: Options::defaults(freeze.options),
            rules: freeze.rules.to_vec(),
        }],
        evidence: true,
        ..Stream::clone(&context.stream)
    });
    let told = Arc::new(Told::default());
    let lane = Lane::open(
        &Pool::new(1).unwrap(),
        Arc::clone(&stream),
        mode,
        Arc::clone(&told) as Arc<dyn Outlet>,
        Some(Arc::clone(&stills)),
    );
    let running = spawn(SourceContext {
        stream,
        intake: lane.intake(),
        ..context
    });
    Scene {
        dir,
        stills,
        lane,
        told,
        running,
    }
}

impl Scene {
    fn raised(&self) -> Option<Transition> {
        let told = self.told.0.lock().unwrap();
        told.iter().find(|t| t.change == Change::Raise).cloned()
    }

    /// Lets time pass until the whole clip of the first defect is there; tells how long after the raise the first part of
    /// it was.
    fn clip(&self) -> (PathBuf, Duration) {
        let until = Instant::now() + DEADLINE;
        let mut raised = None;
        let mut ready = None;
        loop {
            self.lane.tick(clock::now());
            if let Some(defect) = self.raised().map(|t| t.defect) {
                let since = *raised.get_or_insert_with(Instant::now);
                let set = self.dir.path().join(relative_dir(&defect));
                if set.join("clip.json").exists() {
                    let ready = *ready.get_or_insert_with(|| since.elapsed());
                    // The clip comes after its description, in the same breath.
                    assert!(self.stills.flush(DEADLINE));
                    if after_the_beginning(&json(&set.join("clip.json"))) > 8.0 {
                        return (set, ready);
                    }
                }
            }
            assert!(
                Instant::now() < until,
                "no clip: {:?}",
                self.stills.counts()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// How much of a clip lies behind the defect's beginning, seconds.
fn after_the_beginning(said: &Json) -> f64 {
    said["duration_secs"].as_f64().unwrap() - said["defect_at_secs"].as_f64().unwrap()
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The clip plays, begins before the defect and holds it where it says.
fn check(set: &Path, file: &str, tracks: &[&str]) {
    let clip = set.join(file);
    let name = clip.to_str().unwrap();
    let said = json(&set.join("clip.json"));
    assert_eq!(said["file"], file, "{said}");
    let of: Vec<_> = said["tracks"].as_array().unwrap().iter().collect();
    let types: Vec<_> = of
        .iter()
        .map(|t| t["media_type"].as_str().unwrap())
        .collect();
    assert_eq!(types, tracks, "{said}");
    let at = said["defect_at_secs"].as_f64().unwrap();
    assert!((4.9..=6.1).contains(&at), "{said}");
    // From the defect's beginning to its end, and 5 s.
    let after = f64::from(FROZEN_SECS) + 5.0;
    assert!((after_the_beginning(&said) - after).abs() < 0.6, "{said}");
    // Everything decodes without a complaint.
    tool("ffmpeg", &["-i", name, "-map", "0", "-f", "null", "-"]);
    let kinds = [
        "-show_entries",
        "stream=codec_type,start_time",
        "-of",
        "json",
        name,
    ];
    let probed: Json = serde_json::from_slice(&tool("ffprobe", &kinds)).unwrap();
    let streams = probed["streams"].as_array().unwrap();
    assert_eq!(streams.len(), tracks.len(), "{probed}");
    let starts = streams.iter().map(|s| s["start_time"].as_str().unwrap());
    let starts: Vec<f64> = starts.map(|s| s.parse().unwrap()).collect();
    assert!(starts.iter().all(|s| (0.0..0.2).contains(s)), "{probed}");

    let times = ["-select_streams", "v", "-show_entries", "frame=pts_time"];
    let times = tool("ffprobe", &[&times[..], &["-of", "csv=p=0", name]].concat());
    let times = String::from_utf8(times).unwrap();
    let times: Vec<f64> = (times.lines())
        .filter_map(|line| line.split(',').next()?.parse().ok())
        .collect();
    let scaled = ["-vf", "scale=64:36,format=gray", "-fps_mode", "passthrough"];
    let raw = ["-i", name, "-map", "0:v"];
    let pictures = tool(
        "ffmpeg",
        &[&raw[..], &scaled, &["-f", "rawvideo", "-"]].concat(),
    );
    let pictures: Vec<&[u8]> = pictures.chunks(64 * 36).collect();
    assert_eq!(pictures.len(), times.len());
    let differs = |pair: &[&[u8]]| {
        let pairs = pair[0].iter().zip(pair[1]);
        let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / pair[0].len() as f64
    };
    let moves: Vec<bool> = pictures.windows(2).map(|w| differs(w) > 0.4).collect();
    // The first of a second of pictures that are all like the one before.
    let still = moves
        .windows(25)
        .position(|w| w.iter().all(|m| !m))
        .unwrap();
    let found = times[still] - starts.iter().copied().fold(f64::MAX, f64::min);
    assert!(
        (found - at).abs() < 0.13,
        "still at {found} s, told at {at} s"
    );
    let before = moves[..still].iter().filter(|m| **m).count();
    assert!(before as f64 > 4.0 * RATE, "{before} pictures move before");

    let numbers = json(&set.join("signals.json"));
    let still_secs = (numbers["signals"].as_array().unwrap().iter())
        .find(|s| s["signal"] == "still_secs")
        .unwrap();
    let values = still_secs["values"].as_array().unwrap();
    assert!(values.len() > 20, "{numbers}");
    let most = values
        .iter()
        .filter_map(|v| v[2].as_f64())
        .fold(0.0, f64::max);
    assert!(most >= 2.0, "{numbers}");
    for plot in ["plot.svg", "sound.svg"] {
        let svg = std::fs::read_to_string(set.join(plot)).unwrap();
        assert!(
            svg.starts_with("<svg ") && svg.contains("defect begins"),
            "{svg}"
        );
    }
}

fn offline(name: &str, coding: &str, file: &str, tracks: &[&str]) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let dir = tempfile::tempdir().unwrap();
    let path = programme(dir.path(), name, coding);
    let scene = scene(input(&file_url(&path), Protocol::File), Mode::Offline);
    scene.lane.join();
    assert!(scene.stills.flush(DEADLINE));
    let defect = scene.raised().expect("a defect").defect;
    let set = scene.dir.path().join(relative_dir(&defect));
    check(&set, file, tracks);
    let counts = scene.stills.counts();
    assert_eq!(
        (
            counts.clips_written,
            counts.clips_failed,
            counts.clips_dropped
        ),
        (1, 0, 0)
    );
    assert!(runtime.block_on(scene.running.stop(DEADLINE)));
}

#[test]
fn a_clip_of_h264_and_aac_holds_the_freeze() {
    for name in ["a.ts", "a.mp4", "a.mkv"] {
        let tracks = ["video/x-h264", "audio/mpeg"];
        offline(name, H264_AAC, "clip.mp4", &tracks);
    }
}

#[test]
fn a_clip_of_hevc_and_ac3_holds_the_freeze() {
    let coding = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:pools=1 -pix_fmt yuv420p -c:a ac3";
    offline("a.ts", coding, "clip.mp4", &["video/x-h265", "audio/x-ac3"]);
}

#[test]
fn codecs_that_no_mp4_takes_get_another_container() {
    let coding = "-c:v mpeg2video -b:v 2M -g 12 -bf 2 -c:a mp2";
    offline("a.ts", coding, "clip.mkv", &["video/mpeg", "audio/mpeg"]);
    let coding = "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 1M -g 25 -c:a libopus";
    offline(
        "a.mkv",
        coding,
        "clip.webm",
        &["video/x-vp8", "audio/x-opus"],
    );
}

/// A part of addresses that no file of the evidence may hold.
const CANARY: &str = "CANARY-key";

/// Sends a file at its own pace.
fn send(path: &Path, more: &[&str]) -> Publisher {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-nostdin", "-re", "-i"])
        .arg(path);
    command.args(["-map", "0", "-c", "copy"]).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Publisher(command.spawn().unwrap())
}

/// The first part of a clip of a live input is there within 5 s after the raise.
fn live(input: Input, start: impl FnOnce() -> Publisher, late: Duration) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let scene = scene(input, Mode::Live);
    let publisher = start();
    let (set, after) = scene.clip();
    check(&set, "clip.mp4", &["video/x-h264", "audio/mpeg"]);
    for file in std::fs::read_dir(&set).unwrap() {
        let file = file.unwrap().path();
        let bytes = std::fs::read(&file).unwrap();
        let mut parts = bytes.windows(CANARY.len());
        assert!(!parts.any(|part| part == CANARY.as_bytes()), "{file:?}");
    }
    println!("the first part: {after:?} after the raise");
    assert!(after <= late, "{after:?} after the raise");
    assert!(scene.stills.counts().ring_bytes > 100_000);
    drop(publisher);
    assert!(runtime.block_on(scene.running.stop(DEADLINE)));
    scene.lane.close_and_wait(DEADLINE);
    let stills = Arc::clone(&scene.stills);
    drop(scene.lane);
    let until = Instant::now() + DEADLINE;
    while stills.counts().ring_bytes > 0 {
        assert!(Instant::now() < until, "the ring is not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// 5 s, and as much for a machine that does other things as well.
const READY: Duration = Duration::from_secs(10);

#[test]
fn a_clip_of_a_transport_stream_over_udp_holds_the_freeze() {
    let dir = tempfile::tempdir().unwrap();
    let path = programme(dir.path(), "a.ts", H264_AAC);
    let port = free_port();
    let to = format!("udp://127.0.0.1:{port}?pkt_size=1316");
    let input = input(&format!("udp://127.0.0.1:{port}"), Protocol::Udp);
    live(input, || send(&path, &["-f", "mpegts", &to]), READY);
}

#[test]
fn a_clip_of_rtmp_holds_the_freeze() {
    let dir = tempfile::tempdir().unwrap();
    let path = programme(dir.path(), "a.mp4", H264_AAC);
    let server = Server::rtmp(free_port());
    let url = format!("rtmp://127.0.0.1:{}/live/{CANARY}", server.port);
    let publisher = send(&path, &["-f", "flv", &url]);
    live(input(&url, Protocol::Rtmp), || publisher, READY);
}

/// Serves the files of a folder until the test ends.
fn origin(folder: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let folder = folder.clone();
            std::thread::spawn(move || answer(socket, &folder));
        }
    });
    port
}

fn answer(mut socket: TcpStream, folder: &Path) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n == 1) {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request);
    let name = request.split([' ', '/', '?']).nth(2).unwrap_or("none");
    let head = match std::fs::read(folder.join(name)) {
        Ok(body) => {
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            [head.into_bytes(), body].concat()
        }
        Err(_) => {
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()
        }
    };
    // Who went away needs no answer.
    let _ = socket.write_all(&head);
}

#[test]
fn a_clip_of_fragmented_mp4_over_hls_holds_the_freeze() {
    let dir = tempfile::tempdir().unwrap();
    let path = programme(dir.path(), "a.mp4", H264_AAC);
    let folder = dir.path().join("out");
    std::fs::create_dir(&folder).unwrap();
    let list = folder.join("live.m3u8");
    let fmp4 = "-f hls -hls_time 1 -hls_list_size 6 -hls_segment_type fmp4 -hls_flags temp_file+omit_endlist";
    let fmp4: Vec<&str> = fmp4.split(' ').chain([list.to_str().unwrap()]).collect();
    let publisher = send(&path, &fmp4);
    let until = Instant::now() + DEADLINE;
    while !list.exists() {
        assert!(Instant::now() < until, "no playlist");
        std::thread::sleep(Duration::from_millis(50));
    }
    let url = format!(
        "http://u:{CANARY}@127.0.0.1:{}/live.m3u8?token={CANARY}",
        origin(folder)
    );
    live(input(&url, Protocol::Hls), || publisher, READY);
}
