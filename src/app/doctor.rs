//! `glasswatch doctor`: whether this machine has what streams need, and what to do where it has not.

use std::fmt::Write as _;
use std::fs;

use gstreamer as gst;
use serde::Serialize;

/// A GStreamer element that streams may need.
struct Need {
    element: &'static str,
    /// Debian package that brings it.
    package: &'static str,
    /// What does not work without it.
    without: &'static str,
}

const fn need(element: &'static str, package: &'static str, without: &'static str) -> Need {
    Need {
        element,
        package,
        without,
    }
}

const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";
const LIBAV: &str = "gstreamer1.0-libav";

const NEEDS: &[Need] = &[
    need("appsrc", BASE, "anything"),
    need("videoconvert", BASE, "pictures"),
    need("audioconvert", BASE, "sound"),
    need("h264parse", BAD, "H.264"),
    need("avdec_h264", LIBAV, "H.264"),
    need("h265parse", BAD, "HEVC"),
    need("avdec_h265", LIBAV, "HEVC"),
    need("mpegvideoparse", BAD, "MPEG-2 video"),
    need("avdec_mpeg2video", LIBAV, "MPEG-2 video"),
    need("mpeg4videoparse", BAD, "MPEG-4 part 2"),
    need("avdec_mpeg4", LIBAV, "MPEG-4 part 2"),
    need("av1parse", BAD, "AV1"),
    need("av1dec", BAD, "AV1"),
    need("avdec_vp8", LIBAV, "VP8"),
    need("avdec_vp9", LIBAV, "VP9"),
    need("avdec_prores", LIBAV, "ProRes"),
    need("avdec_mjpeg", LIBAV, "Motion JPEG"),
    need("aacparse", GOOD, "AAC"),
    need("avdec_aac", LIBAV, "AAC"),
    need("avdec_aac_latm", LIBAV, "AAC in LATM"),
    need("mpegaudioparse", GOOD, "MP2 and MP3"),
    need("mpg123audiodec", GOOD, "MP2 and MP3"),
    need("ac3parse", GOOD, "AC-3 and E-AC-3"),
    need("avdec_ac3", LIBAV, "AC-3"),
    need("avdec_eac3", LIBAV, "E-AC-3"),
    need("opusparse", BAD, "Opus"),
    need("opusdec", BASE, "Opus"),
    need("flacparse", GOOD, "FLAC"),
    need("avdec_flac", LIBAV, "FLAC"),
    need("vorbisdec", BASE, "Vorbis"),
    need("qtdemux", GOOD, "MP4, and HLS with fMP4 segments"),
    need("matroskademux", GOOD, "MKV and WebM"),
    need("wavparse", GOOD, "WAV"),
    need("srtsrc", BAD, "SRT"),
    need("rtpopusdepay", GOOD, "RTSP"),
    need("rtpL16depay", GOOD, "RTSP"),
    need("rtppcmadepay", GOOD, "RTSP"),
    need("rtppcmudepay", GOOD, "RTSP"),
    need("rtpac3depay", GOOD, "RTSP"),
    need("rtpmpadepay", GOOD, "RTSP"),
    need("rtpmp4adepay", GOOD, "RTSP"),
    need("rtpmp4gdepay", GOOD, "RTSP"),
    need("rtpmp2tdepay", GOOD, "RTSP"),
    need("rtpjpegdepay", GOOD, "RTSP"),
    need("rtpmpvdepay", GOOD, "RTSP"),
    need("rtph265depay", GOOD, "RTSP"),
    need("rtph264depay", GOOD, "RTSP"),
    need("rtspsrc", GOOD, "RTSP"),
    need("udpsrc", GOOD, "RTSP over UDP"),
    need("udpsink", GOOD, "RTSP over UDP"),
    need("rtmp2src", BAD, "RTMP"),
    need("alawdec", GOOD, "G.711"),
    need("mulawdec", GOOD, "G.711"),
];

/// Descriptors that a stream takes, at most: sockets, pipes of its pipelines, evidence being written.
const FDS_A_STREAM: f64 = 16.0;
/// Streams that a shard of ordinary size watches.
const STREAMS: f64 = 100.0;
/// Receive buffer asked for UDP inputs, bytes.
const UDP_BUFFER: f64 = 2_097_152.0;

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Fine,
    /// Works, but not for every stream or not for ever.
    Warning,
    /// Some streams cannot be watched.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is to be taken.
    pub health: Health,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What a machine looks like; separate from the judgement, so that any machine can be judged.
#[derive(Debug, Clone, Default)]
struct Machine {
    gstreamer: String,
    /// Elements that are not there.
    absent: Vec<&'static str>,
    max_fds: Option<f64>,
    udp_buffer_bytes: Option<f64>,
    /// Cores this process may use.
    cores: Option<usize>,
    /// Limit of the control group.
    memory_bytes: Option<f64>,
    clock_source: Option<String>,
    unix_secs: i64,
    arenas_limited: bool,
}

impl Machine {
    fn look() -> Self {
        let word = |path| fs::read_to_string(path).map(|text| text.trim().to_owned());
        let number = |path| word(path).ok()?.parse::<f64>().ok();
        Self {
            gstreamer: gst::version_string().replace("GStreamer ", ""),
            absent: (NEEDS.iter())
                .filter(|n| gst::ElementFactory::find(n.element).is_none())
                .map(|n| n.element)
                .collect(),
            max_fds: crate::telemetry::process::Process::read().max_fds,
            udp_buffer_bytes: number("/proc/sys/net/core/rmem_max"),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            memory_bytes: number("/sys/fs/cgroup/memory.max"),
            clock_source: word("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                .ok(),
            unix_secs: jiff::Timestamp::now().as_second(),
            arenas_limited: std::env::var_os("MALLOC_ARENA_MAX").is_some(),
        }
    }
}

/// Looks at this machine. Worst first.
pub fn examine() -> Vec<Finding> {
    judge(&Machine::look())
}

/// The findings as text.
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let mark = match finding.health {
            Health::Fine => "fine   ",
            Health::Warning => "warning",
            Health::Missing => "MISSING",
        };
        // Writing to a `String` cannot fail.
        let _ = writeln!(out, "{mark}  {}: {}", finding.what, finding.found);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(out, "         -> {remedy}");
        }
    }
    out
}

fn judge(machine: &Machine) -> Vec<Finding> {
    let mut all = vec![
        fine("glasswatch", env!("CARGO_PKG_VERSION").to_owned()),
        fine("GStreamer", machine.gstreamer.clone()),
    ];
    all.extend(elements(&machine.absent));
    let fds = machine.max_fds.unwrap_or(f64::INFINITY);
    all.push(at_least(
        "open files",
        (fds, FDS_A_STREAM * STREAMS),
        "raise `ulimit -n` (systemd: LimitNOFILE): a stream takes up to 16",
    ));
    all.push(at_least(
        "UDP receive buffer, bytes",
        (machine.udp_buffer_bytes.unwrap_or(0.0), UDP_BUFFER),
        "for UDP and RTP inputs: sysctl -w net.core.rmem_max=2097152",
    ));
    if let Some(cores) = machine.cores {
        all.push(fine("processor cores", cores.to_string()));
    }
    if let Some(bytes) = machine.memory_bytes {
        let mib = format!("{:.0} MiB", bytes / f64::from(1 << 20));
        all.push(fine("memory limit of the control group", mib));
    }
    all.extend(machine.clock_source.as_deref().map(clock_source));
    all.push(wall_clock(machine.unix_secs));
    if !machine.arenas_limited {
        let remedy = "set MALLOC_ARENA_MAX=2 where the daemon is started (see deploy/README.md)";
        all.push(warning(
            "memory",
            "an allocation arena per thread: resident memory creeps".to_owned(),
            remedy,
        ));
    }
    all.sort_by_key(|f| std::cmp::Reverse(f.health));
    all
}

fn fine(what: &str, found: String) -> Finding {
    Finding {
        health: Health::Fine,
        what: what.to_owned(),
        found,
        remedy: None,
    }
}

fn warning(what: &str, found: String, remedy: &str) -> Finding {
    Finding {
        health: Health::Warning,
        remedy: Some(remedy.to_owned()),
        ..fine(what, found)
    }
}

fn elements(absent: &[&str]) -> Vec<Finding> {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|n| absent.contains(&n.element))
        .collect();
    if missing.is_empty() {
        let found = format!("all {} are there", NEEDS.len());
        return vec![fine("GStreamer elements", found)];
    }
    (missing.into_iter())
        .map(|n| Finding {
            health: Health::Missing,
            what: format!("GStreamer element {}", n.element),
            found: format!("without it no {}", n.without),
            remedy: Some(format!("apt-get install {}", n.package)),
        })
        .collect()
}

fn at_least(what: &str, (is, wanted): (f64, f64), remedy: &str) -> Finding {
    let found = match is.is_finite() {
        true => format!("{is:.0}"),
        false => "no limit".to_owned(),
    };
    if is >= wanted {
        return fine(what, found);
    }
    warning(what, format!("{found}, wanted {wanted:.0}"), remedy)
}

/// Time is read for every picture: sources that need a device access each are slow.
fn clock_source(name: &str) -> Finding {
    match name {
        "hpet" | "acpi_pm" | "jiffies" => warning(
            "clock source",
            name.to_owned(),
            "slow or coarse; let the kernel use the processor's own (tsc) or the hypervisor's",
        ),
        _ => fine("clock source", name.to_owned()),
    }
}

/// Alerts carry wall time; TLS and signatures need it too.
fn wall_clock(unix_secs: i64) -> Finding {
    /// 2026-01-01: nothing of this program is older.
    const FIRST_SECS: i64 = 1_767_225_600;
    let now = jiff::Timestamp::from_second(unix_secs)
        .map_or_else(|_| "unreadable".to_owned(), |t| t.to_string());
    match unix_secs >= FIRST_SECS {
        true => fine("wall clock (UTC)", now),
        false => warning(
            "wall clock (UTC)",
            format!("{now}, which cannot be"),
            "run a time service such as chrony",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Machine {
        Machine {
            gstreamer: "GStreamer 1.22.0".to_owned(),
            absent: Vec::new(),
            max_fds: Some(65_536.0),
            udp_buffer_bytes: Some(UDP_BUFFER),
            cores: Some(2),
            memory_bytes: None,
            clock_source: Some("tsc".to_owned()),
            unix_secs: 1_800_000_000,
            arenas_limited: true,
        }
    }

    #[test]
    fn no_element_is_forgotten() {
        let source = concat!(
            include_str!("../ingest/pipeline.rs"),
            include_str!("../ingest/pipeline/coding.rs"),
            include_str!("../ingest/pipeline/network.rs"),
            include_str!("../ingest/source/rtsp.rs"),
        );
        gst::init().ok();
        // `filesrc` and `fakesink` come with GStreamer itself.
        let named = (source.lines())
            .flat_map(|line| line.split('"').skip(1).step_by(2))
            .filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| gst::ElementFactory::find(word).is_some())
            .filter(|word| !matches!(*word, "filesrc" | "fakesink"));
        let mut count = 0;
        for name in named {
            assert!(NEEDS.iter().any(|n| n.element == name), "{name}");
            count += 1;
        }
        assert!(count > 20, "{count}");
    }

    #[test]
    fn a_good_machine_is_fine() {
        assert!(judge(&good()).iter().all(|f| f.health == Health::Fine));
    }

    #[test]
    fn what_is_missing_comes_first_with_the_package_that_brings_it() {
        let machine = Machine {
            absent: vec!["srtsrc"],
            max_fds: Some(256.0),
            ..good()
        };
        let found = judge(&machine);
        assert_eq!(found[0].health, Health::Missing);
        let remedy = found[0].remedy.as_deref();
        assert_eq!(remedy, Some("apt-get install gstreamer1.0-plugins-bad"));
        assert_eq!(found[1].health, Health::Warning);
        assert_eq!(found[1].found, "256, wanted 1600");
        assert!(text(&found).starts_with("MISSING  GStreamer element srtsrc: without it no SRT\n"));
    }

    #[test]
    fn every_other_trouble_is_a_warning() {
        let troubles = [
            Machine {
                udp_buffer_bytes: Some(212_992.0),
                ..good()
            },
            Machine {
                clock_source: Some("hpet".to_owned()),
                ..good()
            },
            Machine {
                unix_secs: 86_400,
                ..good()
            },
            Machine {
                arenas_limited: false,
                ..good()
            },
        ];
        for machine in troubles {
            let warnings = judge(&machine);
            let warnings = warnings.iter().filter(|f| f.health == Health::Warning);
            assert_eq!(warnings.count(), 1, "{machine:?}");
        }
    }
}
