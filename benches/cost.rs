//! What watching costs, as ratios from one run: `cargo bench --bench cost`.
//!
//! 1. CPU of `analyze` with all detectors against a bare one-thread GStreamer decode of the same file, and
//!    against `ffmpeg` with its own detector filters.
//! 2. CPU, memory and threads of the daemon per stream at 1, 10 and 20 live 640x360 streams.
//! 3. Memory of the daemon at 1, 2 and 3 live 1920x1080 streams.
//!
//! Needs `ffmpeg` and `gst-launch-1.0`. CPU seconds are read from `/proc`; only ratios of one run mean anything.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use glasswatch::demo::scene::Scene;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Clock ticks a second in `/proc/*/stat` on Linux.
const TICKS_A_SEC: f64 = 100.0;
const REPEATS: usize = 3;
/// What `./run`, the image and the unit set.
const AS_DEPLOYED: [(&str, &str); 2] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
];

fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let large = clip(dir.path(), "large.ts", (1920, 1080), 30, 30, "6M")?;
    println!("== 1. CPU on 30 s of 1920x1080 at 30 Hz, H.264 6 Mb/s, AAC (median of {REPEATS})");
    let watch = median(|| {
        cpu(Command::new(glasswatch())
            .args(["analyze", "--format", "jsonl"])
            .arg(&large))
    })?;
    let decode = median(|| {
        let graph = format!(
            "filesrc location={} ! tsdemux name=d \
             d. ! h264parse ! avdec_h264 max-threads=1 ! fakesink async=false sync=false \
             d. ! aacparse ! avdec_aac ! fakesink async=false sync=false",
            large.display()
        );
        cpu(Command::new("gst-launch-1.0")
            .arg("-q")
            .args(graph.split_whitespace()))
    })?;
    let filters = median(|| {
        cpu(Command::new("ffmpeg")
            .args(["-v", "error", "-threads", "1", "-i"])
            .arg(&large)
            .args([
                "-vf",
                "freezedetect,blackdetect,blockdetect",
                "-af",
                "silencedetect,ebur128",
                "-f",
                "null",
                "-",
            ]))
    })?;
    println!("analyze {watch:.2} s, bare decode {decode:.2} s, ffmpeg with filters {filters:.2} s");
    println!(
        "analyze / bare decode       {:.3}  (goal 1.15, accepted 1.3)",
        watch / decode
    );
    println!(
        "analyze / ffmpeg + filters  {:.3}  (goal 0.15, accepted 0.25)",
        watch / filters
    );

    println!("== 2. Live 640x360 at 25 Hz over UDP, 20 s each");
    let small = clip(dir.path(), "small.ts", (640, 360), 25, 60, "1M")?;
    let mut first = None;
    for streams in [1, 10, 20] {
        let live = live(dir.path(), &small, streams, 60, Duration::from_secs(20))?;
        let share = live.cpu_ratio / streams as f64;
        let base = *first.get_or_insert(share);
        println!(
            "{streams:>2} streams: {:.4} cores a stream ({:.2} of one alone), {:.1} MB a stream, \
             {:.1} threads a stream beyond {} at rest",
            share,
            share / base,
            live.rss_mb / streams as f64,
            live.threads_added as f64 / streams as f64,
            live.threads_idle
        );
    }
    println!("== 3. Live 1920x1080 at 30 Hz over UDP, 15 s each");
    let mut last: Option<f64> = None;
    for streams in [1, 2, 3] {
        let live = live(dir.path(), &large, streams, 30, Duration::from_secs(15))?;
        let more = last.map_or(String::new(), |l| {
            format!(", {:.1} MB more than before", live.rss_mb - l)
        });
        println!("{streams} streams: {:.1} MB resident{more}", live.rss_mb);
        last = Some(live.rss_mb);
    }
    Ok(())
}

fn glasswatch() -> &'static str {
    env!("CARGO_BIN_EXE_glasswatch")
}

/// Encodes a generated clip.
fn clip(
    dir: &Path,
    name: &str,
    (width, height): (usize, usize),
    rate: u64,
    secs: u64,
    bits: &str,
) -> Outcome<PathBuf> {
    let path = dir.join(name);
    let mut encoder = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p"])
        .args([
            "-s",
            &format!("{width}x{height}"),
            "-r",
            &rate.to_string(),
            "-i",
            "-",
        ])
        .args(["-f", "lavfi", "-i", "anoisesrc=a=0.1:r=48000"])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-g",
            &(rate * 2).to_string(),
        ])
        .args([
            "-b:v", bits, "-minrate", bits, "-maxrate", bits, "-bufsize", bits,
        ])
        .args(["-c:a", "aac", "-b:a", "128k", "-t", &secs.to_string()])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()?;
    let scene = Scene::new(1);
    if let Some(mut input) = encoder.stdin.take() {
        for n in 0..rate * secs {
            input.write_all(&scene.picture(width, height, n as f64 / rate as f64))?;
        }
    }
    if !encoder.wait()?.success() {
        return Err("ffmpeg cannot make the clip".into());
    }
    Ok(path)
}

/// CPU seconds of all finished children of this process.
fn children_cpu() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat_fields(&stat);
    Ok((fields[13].parse::<f64>()? + fields[14].parse::<f64>()?) / TICKS_A_SEC)
}

/// CPU seconds of a running process.
fn process_cpu(pid: u32) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat_fields(&stat);
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_A_SEC)
}

/// Fields after the command name, which may hold spaces; the first is the state.
fn stat_fields(stat: &str) -> Vec<&str> {
    stat.rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect()
}

fn status_number(pid: u32, key: &str) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|l| l.starts_with(key))
        .ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

fn cpu(command: &mut Command) -> Outcome<f64> {
    let before = children_cpu()?;
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    // `analyze` exits 1 when it finds a defect: the cost is the same.
    if status.code().is_none_or(|code| code > 1) {
        return Err(format!("{command:?}: {status}").into());
    }
    Ok(children_cpu()? - before)
}

fn median(mut measure: impl FnMut() -> Outcome<f64>) -> Outcome<f64> {
    let mut runs = (0..REPEATS)
        .map(|_| measure())
        .collect::<Outcome<Vec<f64>>>()?;
    runs.sort_by(f64::total_cmp);
    Ok(runs[REPEATS / 2])
}

struct Live {
    cpu_ratio: f64,
    rss_mb: f64,
    threads_idle: usize,
    threads_added: usize,
}

/// Runs the daemon on `streams` copies of a clip sent at real-time pace.
fn live(dir: &Path, clip: &Path, streams: usize, clip_secs: u64, span: Duration) -> Outcome<Live> {
    let ports = (0..streams)
        .map(|_| Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port()))
        .collect::<Outcome<Vec<u16>>>()?;
    let mut text = format!(
        "version: 1\ninstance: {{data_dir: {}}}\nhttp: {{listen: off}}\ndefaults: {{allow_private: true}}\nstreams:\n",
        dir.join("data").display()
    );
    for (n, port) in ports.iter().enumerate() {
        text += &format!("  - {{id: s{n}, url: 'udp://127.0.0.1:{port}'}}\n");
    }
    let config = dir.join("live.yaml");
    fs::write(&config, text)?;
    let daemon = Daemon(
        Command::new(glasswatch())
            .args(["run", "--config"])
            .arg(&config)
            .envs(AS_DEPLOYED)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let pid = daemon.0.id();
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::sleep(Duration::from_secs(2));
    let threads_idle = status_number(pid, "Threads")? as usize;
    let sender = std::thread::spawn({
        let (stop, bytes) = (Arc::clone(&stop), fs::read(clip)?);
        move || send(&bytes, &ports, clip_secs, &stop)
    });
    std::thread::sleep(Duration::from_secs(5));
    let (before, began) = (process_cpu(pid)?, Instant::now());
    std::thread::sleep(span);
    let cpu_ratio = (process_cpu(pid)? - before) / began.elapsed().as_secs_f64();
    let rss_mb = status_number(pid, "VmRSS")? / 1024.0;
    let threads = status_number(pid, "Threads")? as usize;
    stop.store(true, Ordering::Relaxed);
    sender.join().map_err(|_| "the sender failed")??;
    Ok(Live {
        cpu_ratio,
        rss_mb,
        threads_idle,
        threads_added: threads - threads_idle,
    })
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a constant-rate multiplex to all ports, in real time, until told to stop or at its end.
fn send(bytes: &[u8], ports: &[u16], secs: u64, stop: &AtomicBool) -> Result<(), std::io::Error> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let began = Instant::now();
    let datagrams = bytes.len().div_ceil(1316);
    for (n, datagram) in bytes.chunks(1316).enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = Duration::from_secs_f64(n as f64 / datagrams as f64 * secs as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        for port in ports {
            // A full socket buffer is the daemon's affair.
            let _ = socket.send_to(datagram, ("127.0.0.1", *port));
        }
    }
    Ok(())
}
