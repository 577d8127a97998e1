//! Command line types.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use detectors::base::Severity;

use crate::config::schema::parse_span;

/// Watches live audio/video streams and tells when a viewer would notice a defect.
#[derive(Debug, Parser)]
#[command(
    name = "glasswatch",
    version,
    about = "Watches live audio/video streams and tells when a viewer would notice a defect",
    after_help = "Exit status: 0 fine, 1 defects found (see --fail-on), 2 wrong usage, 3 input unreachable or \
                  undecodable, 4 configuration invalid, 70 internal error.",
    arg_required_else_help = true
)]
pub struct Cli {
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Logging; logs go to stderr.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Form of log lines [default: text on a terminal, else json]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Least important level shown: error, warn, info, debug, trace, or filters such as `info,glasswatch::ingest=debug`
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        env = "GLASSWATCH_LOG"
    )]
    pub log_level: String,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch all streams of a configuration until stopped
    Run(RunArgs),
    /// Check a configuration and tell every mistake in it
    Check(CheckArgs),
    /// Open a stream and tell what is in it
    Probe(ProbeArgs),
    /// Run the detectors over one file or stream and report what they find
    Analyze(AnalyzeArgs),
    /// Run a stream's detectors and rules over a clip of evidence, with a configuration that may be another one
    Replay(ReplayArgs),
    /// List the detectors, or describe one
    Detectors(DetectorsArgs),
    /// Tell the hash of a slate, for `detectors.slate.hashes`
    Hash(HashArgs),
    /// Look at this machine: versions, missing GStreamer elements, limits, clock
    Doctor(DoctorArgs),
    /// Watch a built-in faulty stream, and compare what was injected with what was found
    Demo(DemoArgs),
}

/// `run`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glasswatch run --config glasswatch.yaml
  glasswatch run --config glasswatch.yaml --groups sound --events events.jsonl

SIGHUP reloads the configuration: only streams that changed are restarted, and a wrong file changes nothing.
SIGTERM stops within `instance.drain`.")]
pub struct RunArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", env = "GLASSWATCH_CONFIG")]
    pub config: PathBuf,
    /// Run only the detectors of these groups, separated by commas; `all` means every detector
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Also append every event to this file as JSON lines; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Listen here instead of where the configuration says
    #[arg(long, value_name = "ADDRESS:PORT", env = "GLASSWATCH_LISTEN")]
    pub listen: Option<SocketAddr>,
}

/// `check`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glasswatch check glasswatch.yaml
  glasswatch check glasswatch.yaml --print-effective

Nothing is contacted. All mistakes are printed, one a line, as FILE:LINE:COLUMN: KEY: what is wrong.")]
pub struct CheckArgs {
    /// Configuration file
    #[arg(value_name = "FILE")]
    pub config: PathBuf,
    /// Print the configuration with every default written out; secrets are masked
    #[arg(long)]
    pub print_effective: bool,
}

/// `probe`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glasswatch probe https://cdn.example.com/channel/master.m3u8
  glasswatch probe 'srt://encoder.example.com:9000?streamid=read:a' --json
  glasswatch probe https://cdn.example.com/channel/master.m3u8 --set rendition=all
  glasswatch probe clip.ts --timeout 30s")]
pub struct ProbeArgs {
    /// URL or file
    #[arg(value_name = "URL")]
    pub url: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Give up after this long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span)]
    pub timeout: Duration,
    /// Refuse private, link-local and loopback addresses
    #[arg(long)]
    pub public_only: bool,
    /// Set one key of the stream, such as `rendition=all`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
}

/// `hash`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glasswatch hash slate.png
  glasswatch hash slate-recording.ts

Of a PNG or JPEG picture its hash is printed, of anything else that of the first second. It goes into the configuration as
`detectors: {slate: {hashes: [\"0123456789abcdef\"]}}`.")]
pub struct HashArgs {
    /// Picture, or anything that can be watched: file or URL
    #[arg(value_name = "FILE")]
    pub input: String,
    /// Give up after this long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span)]
    pub timeout: Duration,
    /// Set one key of the stream, such as `rendition=lowest`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
}

/// `doctor`
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 everything needed is there, 1 something is missing.")]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `analyze`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glasswatch analyze recording.ts
  glasswatch analyze recording.mp4 --format jsonl --fail-on critical
  glasswatch analyze recording.ts --set detectors.freeze.rules.frozen.hold=1s --set detectors.black=false
  glasswatch analyze recording.ts --config glasswatch.yaml --set profile=sports --signals signals.csv
  glasswatch analyze delivered.ts --reference contribution.ts

Files are read as fast as the detectors follow. `glasswatch detectors` lists what can be set.")]
pub struct AnalyzeArgs {
    /// File or URL
    #[arg(value_name = "INPUT")]
    pub input: String,
    /// Form of the report on standard output
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// Also write every reading to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub signals: Option<PathBuf>,
    /// Compare with this file or URL of the same programme: delay, A/V skew, or another programme
    #[arg(long, value_name = "OTHER")]
    pub reference: Option<String>,
    /// Take `defaults:` and `profiles:` from this configuration
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key of the stream, such as `detectors.silence=false`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
    /// Exit with status 1 when a defect of at least this severity is found
    #[arg(long, value_enum, value_name = "SEVERITY")]
    pub fail_on: Option<SeverityArg>,
    /// Threads for detectors [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Run only the detectors of these groups of the configuration, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "config")]
    pub groups: Vec<String>,
}

/// `replay`
#[derive(Debug, Args)]
#[command(after_help = "Example: would the alert have come with other limits?
  glasswatch replay data/evidence/news/20261123T160501Z_freeze_9b0c/clip.mp4 --config tried.yaml

The stream is the one that the evidence beside the clip names. What is found is told as `analyze` tells it; the last line
says whether the defect of the evidence is among it. A clip holds seconds: detectors that need minutes say nothing of it.")]
pub struct ReplayArgs {
    /// Clip, or the folder of a set of evidence
    #[arg(value_name = "CLIP")]
    pub clip: PathBuf,
    /// The configuration to try
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Settings of this stream [default: the one that the evidence names]
    #[arg(long, value_name = "ID")]
    pub stream: Option<String>,
    /// Form of the report on standard output
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
}

/// Form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Jsonl,
}

/// A severity on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SeverityArg {
    /// Recorded.
    Info,
    /// Ticket.
    Warning,
    /// Page.
    Critical,
}

impl From<SeverityArg> for Severity {
    fn from(arg: SeverityArg) -> Self {
        match arg {
            SeverityArg::Info => Severity::Info,
            SeverityArg::Warning => Severity::Warning,
            SeverityArg::Critical => Severity::Critical,
        }
    }
}

/// `detectors`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glasswatch detectors
  glasswatch detectors freeze
  glasswatch detectors --json")]
pub struct DetectorsArgs {
    /// Describe this detector: meaning, signals, options with ranges, default rules
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `demo`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glasswatch demo
  glasswatch demo --check --seed 7")]
pub struct DemoArgs {
    /// Run one round without a page, and exit with status 1 when a defect was missed or invented
    #[arg(long)]
    pub check: bool,
    /// Seed of the fault script; the same seed gives the same faults
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where the page and the metrics are served
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9464")]
    pub listen: SocketAddr,
}

fn span(word: &str) -> Result<Duration, String> {
    parse_span(word)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "write a duration such as 10s or 500ms".to_owned())
}

fn pair(word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn analyze_takes_repeated_sets() {
        let line =
            "glasswatch analyze a.ts --set a.b=1 --set c=x=y --fail-on critical --log-format json";
        let Command::Analyze(args) = parse(line).unwrap().command else {
            unreachable!()
        };
        let pairs: Vec<_> = args
            .sets
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(pairs, [("a.b", "1"), ("c", "x=y")]);
        assert_eq!(args.fail_on.map(Severity::from), Some(Severity::Critical));
    }

    #[test]
    fn groups_are_split_and_durations_read() {
        let Command::Run(args) = parse("glasswatch run -c f --groups a,b").unwrap().command else {
            unreachable!()
        };
        assert_eq!(args.groups, ["a", "b"]);
        let Command::Probe(args) = parse("glasswatch probe u").unwrap().command else {
            unreachable!()
        };
        assert_eq!(args.timeout, Duration::from_secs(10));
    }

    #[test]
    fn usage_errors_exit_with_2() {
        for line in [
            "glasswatch",
            "glasswatch frobnicate",
            "glasswatch check",
            "glasswatch probe u --timeout ten",
            "glasswatch analyze a --set b",
            "glasswatch analyze a --groups b",
            "glasswatch run -c f --listen here",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
