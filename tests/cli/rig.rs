//! What the tests share: media made here, the command as a child, a daemon under watch.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use serde_json::Value as Json;

/// Longest wait for anything that must happen.
pub const DEADLINE: Duration = Duration::from_secs(60);

const RATE_HZ: u64 = 48_000;
const PICTURES_A_SEC: u64 = 25;
const SIZE: (usize, usize) = (320, 180);

/// What a stretch of the programme shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Moving,
    Still,
    Black,
    /// A test signal: every two seconds a flash, and a beep that is earlier.
    Flashes {
        early_ms: i64,
    },
}

/// A programme: pictures and a tone, with at most one stretch that differs.
#[derive(Clone, Copy)]
pub struct Programme {
    pub secs: u64,
    pub show: Show,
    pub silent: bool,
    /// When `show` and `silent` hold, seconds.
    pub from: u64,
    pub to: u64,
    /// Seed of uneven motion and sound; `None` = even motion and a tone.
    pub lively: Option<u64>,
    /// By how much lively sound is later, milliseconds.
    pub sound_late_ms: u64,
}

/// Nothing wrong for so long.
pub fn clean(secs: u64) -> Programme {
    Programme {
        secs,
        show: Show::Moving,
        silent: false,
        from: 0,
        to: 0,
        lively: None,
        sound_late_ms: 0,
    }
}

/// Uneven motion and sound for so long; another seed is another programme.
pub fn lively(seed: u64, secs: u64) -> Programme {
    Programme {
        lively: Some(seed),
        ..clean(secs)
    }
}

/// Any number for a seed and a place.
fn any(seed: u64, at: u64) -> u64 {
    let mixed = (seed * 1_000_003 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
}

impl Programme {
    pub fn showing(self, show: Show, from: u64, to: u64) -> Self {
        Self {
            show,
            from,
            to,
            ..self
        }
    }

    pub fn silent(self, from: u64, to: u64) -> Self {
        Self {
            silent: true,
            from,
            to,
            ..self
        }
    }

    fn picture(&self, index: u64) -> Vec<u8> {
        let (width, height) = SIZE;
        let (from, to) = (self.from * PICTURES_A_SEC, self.to * PICTURES_A_SEC);
        let show = match (from..to).contains(&index) {
            true => self.show,
            false => Show::Moving,
        };
        let step = match show {
            Show::Still => from,
            _ => index,
        };
        // Another pace every three pictures.
        let step = match self.lively {
            Some(seed) => (0..step).map(|n| 1 + any(seed, n / 3) % 4).sum(),
            None => step,
        } as usize;
        let mut data = Vec::with_capacity(width * height * 3 / 2);
        let lit = index % (2 * PICTURES_A_SEC) < 3 && index > PICTURES_A_SEC;
        for y in 0..height {
            for x in 0..width {
                let inside = (40..90).contains(&x) && (100..150).contains(&y);
                data.push(match show {
                    Show::Black => 16,
                    Show::Flashes { .. } if lit && inside => 220,
                    Show::Flashes { .. } => 50,
                    _ => (40 + (x + 3 * step) % 97 + (y + 2 * step) % 61) as u8,
                });
            }
        }
        data.resize(width * height * 3 / 2, 128);
        data
    }

    fn sound(&self, block: u64) -> Vec<u8> {
        let mut data = Vec::with_capacity(1024 * 4);
        for frame in block * 1024..(block + 1) * 1024 {
            let quiet = self.silent && (self.from..self.to).contains(&(frame / RATE_HZ));
            let phase = frame as f32 * 440.0 / RATE_HZ as f32;
            let sample = if quiet {
                0.0
            } else if let Show::Flashes { early_ms } = self.show {
                let place = frame as i64 + early_ms * RATE_HZ as i64 / 1_000;
                let on = place.rem_euclid(2 * RATE_HZ as i64) < RATE_HZ as i64 / 20;
                let on = on && frame > RATE_HZ;
                f32::from(u8::from(on)) * 0.3 * (phase * std::f32::consts::TAU).sin()
            } else if let Some(seed) = self.lively {
                // Noise at another level every 70 ms.
                let frame =
                    (frame + 2 * RATE_HZ).saturating_sub(self.sound_late_ms * RATE_HZ / 1_000);
                let level = [0.01, 0.05, 0.2, 0.6][any(seed + 1, frame / 3_360) as usize % 4];
                level * (any(seed + 2, frame) % 2_000) as f32 / 1_000.0 - level
            } else {
                0.3 * (phase * std::f32::consts::TAU).sin()
            };
            data.extend(sample.to_le_bytes());
        }
        data
    }

    /// Encodes the programme into `dir/name`; the name tells the container.
    pub fn write(self, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        let shape = Shape {
            size: SIZE,
            pictures_hz: PICTURES_A_SEC,
            rate_hz: RATE_HZ,
            secs: self.secs,
        };
        shape.encode(
            &path,
            |index| self.picture(index),
            |block| self.sound(block),
        );
        path
    }
}

/// What a file is made of.
pub struct Shape {
    /// Width and height.
    pub size: (usize, usize),
    pub pictures_hz: u64,
    pub rate_hz: u64,
    pub secs: u64,
}

impl Shape {
    /// Encodes I420 pictures, by index, and blocks of 1024 samples of mono sound (F32LE) into a file; its name tells
    /// the container.
    pub fn encode(
        &self,
        path: &Path,
        picture: impl Fn(u64) -> Vec<u8>,
        sound: impl Fn(u64) -> Vec<u8>,
    ) {
        let mux = match path.extension().and_then(|e| e.to_str()) {
            Some("ts") => "mpegtsmux",
            Some("mp4") => "mp4mux",
            Some("mkv") => "matroskamux",
            other => panic!("no container for {other:?}"),
        };
        gst::init().unwrap();
        let ((width, height), pictures_hz, rate_hz) = (self.size, self.pictures_hz, self.rate_hz);
        let description = format!(
            "{mux} name=m ! filesink location={} \
             appsrc name=v format=time max-bytes=0 \
               caps=video/x-raw,format=I420,width={width},height={height},framerate={pictures_hz}/1 \
               ! x264enc speed-preset=ultrafast key-int-max=25 bframes=0 bitrate=800 threads=1 ! h264parse ! queue ! m. \
             appsrc name=a format=time max-bytes=0 \
               caps=audio/x-raw,format=F32LE,layout=interleaved,rate={rate_hz},channels=1 \
               ! audioconvert ! avenc_aac ! aacparse ! queue ! m.",
            path.display()
        );
        let pipeline = gst::parse::launch(&description).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let source = |name| -> gst_app::AppSrc {
            let element = pipeline.by_name(name).unwrap();
            element.downcast().unwrap()
        };
        let (video, audio) = (source("v"), source("a"));
        pipeline.set_state(gst::State::Playing).unwrap();
        let stamped = |data, nanos| {
            let mut buffer = gst::Buffer::from_mut_slice(data);
            let stamp = gst::ClockTime::from_nseconds(nanos);
            buffer.get_mut().unwrap().set_pts(stamp);
            buffer
        };
        for index in 0..self.secs * pictures_hz {
            let nanos = index * 1_000_000_000 / pictures_hz;
            let pushed = video.push_buffer(stamped(picture(index), nanos));
            pushed.unwrap();
        }
        for block in 0..self.secs * rate_hz / 1024 {
            let nanos = block * 1024 * 1_000_000_000 / rate_hz;
            let pushed = audio.push_buffer(stamped(sound(block), nanos));
            pushed.unwrap();
        }
        video.end_of_stream().unwrap();
        audio.end_of_stream().unwrap();
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline
            .bus()
            .unwrap()
            .timed_pop_filtered(gst::ClockTime::from_seconds(60), &wanted);
        let message = message.expect("the encoder ends");
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// How the command ended.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Standard output as JSON lines.
    pub fn lines(&self) -> Vec<Json> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// The defects of a report in JSON lines.
    pub fn defects(&self) -> Vec<Json> {
        let mut lines = self.lines();
        let summary = lines.pop().expect("a summary");
        assert_eq!(summary["type"], "summary", "{self:?}");
        lines.retain(|l| l["type"] != "av_sync");
        assert!(lines.iter().all(|l| l["type"] == "defect"), "{self:?}");
        lines
    }

    /// What a report in JSON lines says of sound against picture, by `source`.
    pub fn av_sync(&self, source: &str) -> Json {
        let mut lines = self.lines();
        lines.retain(|l| l["type"] == "av_sync" && l["source"] == source);
        assert_eq!(lines.len(), 1, "{self:?}");
        lines.remove(0)
    }

    /// The last line of a report in JSON lines.
    pub fn summary(&self) -> Json {
        self.lines().pop().expect("a summary")
    }
}

fn binary() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_glasswatch"));
    for name in ["GLASSWATCH_LOG", "GLASSWATCH_CONFIG", "GLASSWATCH_LISTEN"] {
        command.env_remove(name);
    }
    command
}

/// Runs the command to its end.
pub fn run<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Done {
    let mut command = assert_cmd::Command::from_std(binary());
    let output = command.args(args).timeout(DEADLINE).output().unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `analyze --format jsonl` of a file.
pub fn analyze(path: &Path, more: &[&str]) -> Done {
    let args = ["analyze", path.to_str().unwrap(), "--format", "jsonl"];
    run(args.iter().chain(more))
}

/// A daemon. Killed when dropped.
pub struct Daemon {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
    out: Arc<Mutex<String>>,
    address: SocketAddr,
}

impl Daemon {
    /// Runs `run` with these arguments on a free port, and waits until it serves.
    pub fn start(args: &[&str]) -> Self {
        Self::start_in(args, &[])
    }

    /// As [`Daemon::start`], with these variables in its environment.
    pub fn start_in(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = binary()
            .envs(variables.iter().copied())
            .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (line_in, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line_in.send(line).is_err() {
                    break;
                }
            }
        });
        let out = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn({
            let out = Arc::clone(&out);
            move || gather(stdout, &out)
        });
        let mut daemon = Self {
            child,
            log,
            seen: Vec::new(),
            out,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let line = daemon.logged("serving metrics");
        let line: Json = serde_json::from_str(&line).unwrap();
        let address = line["address"]
            .as_str()
            .or(line["fields"]["address"].as_str());
        daemon.address = address.expect("an address").parse().unwrap();
        daemon
    }

    /// Waits for a log line that holds `text`, not looking at lines that were waited for before.
    pub fn logged(&mut self, text: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(problem) => panic!("no {text:?} in the log ({problem}): {:#?}", self.seen),
            }
        }
    }

    /// Where it serves on the loopback address.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Threads of the process now.
    pub fn threads(&self) -> usize {
        let tasks = format!("/proc/{}/task", self.child.id());
        std::fs::read_dir(tasks).unwrap().count()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Status and body of the answer to JSON.
    pub fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, body.to_owned())
    }

    /// The body of an answer with status 200.
    pub fn get(&self, path: &str) -> String {
        let (status, body) = self.send("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The value of a series, written as on the metrics page; `None` while it is not there.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics");
        let line = page
            .lines()
            .find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Asks again until `check` holds.
    pub fn until<T>(&mut self, what: &str, mut check: impl FnMut(&Self) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = check(self) {
                return found;
            }
            assert!(Instant::now() < end, "{what}: {:#?}", self.seen);
            // Log lines pace the questions.
            match self.log.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(gone) => panic!("{what}: the daemon is gone ({gone}): {:#?}", self.seen),
            }
        }
    }

    /// Standard output so far.
    pub fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    /// SIGTERM, then the exit code, standard output, and the whole log.
    pub fn stop(mut self) -> Done {
        self.signal("TERM");
        self.wait()
    }

    fn wait(&mut self) -> Done {
        let end = Instant::now() + DEADLINE;
        // The log ends when the process does.
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not stop: {:#?}", self.seen),
            }
        }
        let code = self.child.wait().unwrap().code();
        Done {
            code,
            out: self.out(),
            err: self.seen.join("\n"),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(from: ChildStdout, into: &Mutex<String>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        let mut text = into.lock().unwrap();
        text.push_str(&line);
        text.push('\n');
    }
}
