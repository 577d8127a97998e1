//! Endurance: `cargo bench --bench soak -- 30` runs the daemon for 30 minutes on six live streams with faults
//! while their sources come and go, samples memory, threads and descriptors, and exits 1 when any of them grew.

use std::error::Error;
use std::fs;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use glasswatch::demo::schedule::{Delivery, Plan};
use glasswatch::demo::source::Source;

/// What `./run`, the image and the unit set.
const AS_DEPLOYED: [(&str, &str); 2] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
];
/// Growth of the last quarter's median over the second quarter's that is still noise.
const RSS_GROWTH: f64 = 1.05;
const SAMPLE: Duration = Duration::from_secs(5);
/// One source is stopped and started again this often.
const RESTART_EVERY: usize = 9;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let minutes: f64 = std::env::args()
        .filter_map(|a| a.parse().ok())
        .next()
        .unwrap_or(30.0);
    gstreamer::init()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(soak(minutes))
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Sample {
    rss_mb: f64,
    threads: f64,
    descriptors: f64,
}

fn sample(pid: u32) -> Result<Sample, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |key: &str| -> Option<f64> {
        status
            .lines()
            .find(|l| l.starts_with(key))?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    };
    Ok(Sample {
        rss_mb: number("VmRSS").ok_or("no VmRSS")? / 1024.0,
        threads: number("Threads").ok_or("no Threads")?,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64,
    })
}

async fn soak(minutes: f64) -> Result<ExitCode, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut text = format!(
        "version: 1\ninstance: {{data_dir: {}}}\nhttp: {{listen: off}}\ndefaults: {{allow_private: true}}\nstreams:\n",
        dir.path().join("data").display()
    );
    let mut sources = Vec::new();
    for n in 0..6u64 {
        let plan = Arc::new(Plan::draw(Delivery::ALL[n as usize % 3], n));
        let source = Source::start(Arc::clone(&plan), n, None).await?;
        text += &format!("  - {{id: s{n}, url: '{}'}}\n", source.url);
        let port = source
            .url
            .split(':')
            .nth(2)
            .and_then(|p| p.split('/').next()?.parse::<u16>().ok());
        sources.push((plan, port, Some(source)));
    }
    let config = dir.path().join("soak.yaml");
    fs::write(&config, text)?;
    let daemon = Daemon(
        Command::new(env!("CARGO_BIN_EXE_glasswatch"))
            .args(["run", "--config"])
            .arg(&config)
            .envs(AS_DEPLOYED)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let mut samples = Vec::new();
    let rounds = (minutes * 60.0 / SAMPLE.as_secs_f64()) as usize;
    for round in 0..rounds {
        tokio::time::sleep(SAMPLE).await;
        let now = sample(daemon.0.id())?;
        if round % 12 == 0 {
            println!(
                "{:>5.1} min: {:.1} MB, {} threads, {} descriptors",
                (round + 1) as f64 * SAMPLE.as_secs_f64() / 60.0,
                now.rss_mb,
                now.threads,
                now.descriptors
            );
        }
        samples.push(now);
        let at = round / RESTART_EVERY % sources.len();
        let (plan, port, source) = &mut sources[at];
        match round % RESTART_EVERY {
            1 => *source = None,
            3 => *source = Some(Source::start(Arc::clone(plan), round as u64, *port).await?),
            _ => {}
        }
    }
    let quarter = samples.len() / 4;
    let median = |from: usize, of: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples[from..from + quarter].iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut grew = false;
    type Figure = fn(&Sample) -> f64;
    let figures: [(&str, Figure, f64); 3] = [
        ("resident MB", |s| s.rss_mb, RSS_GROWTH),
        ("threads", |s| s.threads, 1.1),
        ("descriptors", |s| s.descriptors, 1.1),
    ];
    for (name, of, allowed) in figures {
        let (early, late) = (median(quarter, of), median(samples.len() - quarter, of));
        println!(
            "{name}: {early:.1} in the second quarter, {late:.1} in the last ({:.3})",
            late / early
        );
        grew |= late / early > allowed;
    }
    Ok(if grew {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
