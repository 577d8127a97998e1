//! The `glasswatch` command: parse, load, run, exit codes.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use glasswatch::app::analyze::{Analysis, Extras, analyze, read_reference};
use glasswatch::app::doctor::{self, Health};
use glasswatch::app::replay::{Replay, ReplayError, replay};
use glasswatch::app::report::{DefectLine, SummaryLine, defect_text, worst};
use glasswatch::app::{App, Settings, StartError, hash, probe};
use glasswatch::cli::{
    AnalyzeArgs, Cli, Command, DemoArgs, HashArgs, LogFormat, ProbeArgs, ReplayArgs, ReportFormat,
    RunArgs,
};
use glasswatch::config::{self, LoadError};
use glasswatch::demo::run::{self as demo, DemoSettings};
use glasswatch::ingest::teardown;
use glasswatch::lane::pool::Pool;
use glasswatch::listing;
use glasswatch::notify::jsonl::EventsTo;
use glasswatch::telemetry::{log, process::Process};
use tokio::signal::unix::{SignalKind, signal};

const DEFECTS_FOUND: u8 = 1;
const SOMETHING_MISSING: u8 = 1;
const USAGE: u8 = 2;
const INPUT: u8 = 3;
const CONFIG: u8 = 4;
const INTERNAL: u8 = 70;
/// For pipelines that still stop when all else is done.
const LAST_WAIT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let style = match cli.log.log_format {
        None => log::Style::Auto,
        Some(LogFormat::Text) => log::Style::Text,
        Some(LogFormat::Json) => log::Style::Json,
    };
    // One-shot commands talk through their report; only trouble is logged unless asked for.
    let filter = match &cli.command {
        Command::Run(_) => cli.log.log_level.clone(),
        _ if cli.log.log_level == "info" => "warn".to_owned(),
        _ => cli.log.log_level.clone(),
    };
    if let Err(problem) = log::init(&filter, style) {
        eprintln!("glasswatch: {problem}");
        return ExitCode::from(USAGE);
    }
    let done = dispatch(cli.command);
    teardown::wait(LAST_WAIT);
    match done {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("glasswatch: {problem:#}");
            ExitCode::from(fault_of(&problem))
        }
    }
}

/// Who is at fault, as an exit code.
fn fault_of(problem: &anyhow::Error) -> u8 {
    if problem.is::<LoadError>() {
        return CONFIG;
    }
    match problem.downcast_ref::<StartError>() {
        Some(StartError::Config(_)) => CONFIG,
        Some(StartError::Groups(_) | StartError::Listen(_)) => USAGE,
        Some(
            StartError::Notify(_)
            | StartError::Heartbeat(_)
            | StartError::Http(_)
            | StartError::Bucket(_)
            | StartError::Added(_)
            | StartError::Folder(_),
        ) => CONFIG,
        Some(StartError::Pool(_) | StartError::Busy) | None => INTERNAL,
    }
}

fn dispatch(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Check(args) => {
            let config = config::load(&args.config)?;
            if args.print_effective {
                print!("{}", config::print_effective(&config));
            } else {
                println!(
                    "{}: fine, {} streams",
                    args.config.display(),
                    config.streams.len()
                );
            }
            Ok(0)
        }
        Command::Detectors(args) => detectors(args.name.as_deref(), args.json),
        Command::Doctor(args) => doctor(args.json),
        Command::Run(args) => runtime()?.block_on(run(args)),
        Command::Hash(args) => runtime()?.block_on(hash_one(args)),
        Command::Probe(args) => runtime()?.block_on(probe_one(args)),
        Command::Analyze(args) => runtime()?.block_on(analyze_one(args)),
        Command::Replay(args) => runtime()?.block_on(replay_one(args)),
        Command::Demo(args) => runtime()?.block_on(run_demo(args)),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    gstreamer::init().context("GStreamer does not start")?;
    // Network and timers are light beside decoding; two threads serve hundreds of streams.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn detectors(name: Option<&str>, json: bool) -> anyhow::Result<u8> {
    match name.map(listing::find).transpose() {
        Ok(only) => {
            let text = match (only, json) {
                (only, true) => format!("{:#}\n", listing::json(only)),
                (Some(row), false) => listing::one(row),
                (None, false) => listing::all(),
            };
            print!("{text}");
            Ok(0)
        }
        Err(unknown) => {
            eprintln!("glasswatch: {unknown}");
            Ok(USAGE)
        }
    }
}

fn doctor(json: bool) -> anyhow::Result<u8> {
    gstreamer::init().context("GStreamer does not start")?;
    let findings = doctor::examine();
    match json {
        true => println!("{}", serde_json::to_string_pretty(&findings)?),
        false => print!("{}", doctor::text(&findings)),
    }
    let missing = findings.iter().any(|f| f.health == Health::Missing);
    Ok(if missing { SOMETHING_MISSING } else { 0 })
}

async fn run(args: RunArgs) -> anyhow::Result<u8> {
    let path = args.config.clone();
    let config = tokio::task::spawn_blocking(move || config::load(&path)).await??;
    let drain = config.instance.drain;
    let settings = Settings {
        path: Some(args.config),
        groups: args.groups,
        events: args
            .events
            .map(|to| EventsTo::parse(&to.display().to_string())),
        listen: args.listen,
    };
    // Before anything is there that a signal would end without order.
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = App::start(config, settings, None).await?;
    loop {
        tokio::select! {
            _ = hang_up.recv() => app.reload().await,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tokio::select! {
        () = app.drain(drain) => {}
        // A second interrupt is meant.
        _ = interrupt.recv() => {}
    }
    Ok(0)
}

async fn probe_one(args: ProbeArgs) -> anyhow::Result<u8> {
    let allow = ("allow_private".to_owned(), (!args.public_only).to_string());
    let sets: Vec<_> = std::iter::once(allow).chain(args.sets).collect();
    let stream = config::one_stream(&args.url, &sets, None)?;
    let found = probe::probe(stream, args.timeout).await;
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!("{}", found.text());
    }
    Ok(if found.is_decodable() { 0 } else { INPUT })
}

async fn hash_one(args: HashArgs) -> anyhow::Result<u8> {
    let told = match hash::of_still(args.input.as_ref()) {
        Ok(Some(hash)) => Ok(hash),
        Err(problem) => Err(problem),
        Ok(None) => {
            let stream = config::one_stream(&args.input, &args.sets, None)?;
            hash::of_input(stream, args.timeout).await
        }
    };
    match told {
        Ok(hash) => {
            println!("{hash:016x}");
            Ok(0)
        }
        Err(problem) => {
            eprintln!("glasswatch: {}: {problem}", args.input);
            Ok(INPUT)
        }
    }
}

async fn analyze_one(args: AnalyzeArgs) -> anyhow::Result<u8> {
    let mut sets = args.sets;
    if args.config.is_none() && !sets.iter().any(|(key, _)| key == "allow_private") {
        // What someone names on the command line they mean to reach.
        sets.push(("allow_private".to_owned(), "true".to_owned()));
    }
    let mut stream = config::one_stream(&args.input, &sets, args.config.as_deref())?;
    if !args.groups.is_empty()
        && let Some(path) = &args.config
    {
        let wanted = config::load(path)?
            .detectors_of(&args.groups)
            .map_err(StartError::Groups)?;
        stream = Arc::new(stream.only(&wanted));
    }
    let pool = Pool::new(args.jobs.map_or(0, usize::from))?;
    let mut running = stream.detectors.iter().map(|d| d.descriptor.name);
    if args.reference.is_some() && !running.any(|name| name == "av_reference") {
        eprintln!("glasswatch: --reference needs the detector av_reference, which is off");
        return Ok(USAGE);
    }
    let progress = std::io::stderr().is_terminal();
    let reference = match &args.reference {
        Some(other) => {
            let other_stream = config::one_stream(other, &sets, args.config.as_deref())?;
            let (reference, end) = read_reference(other_stream, &pool, progress).await;
            if reference.is_empty() {
                let why = end.cause.map_or("undecodable", |c| c.as_str());
                eprintln!("glasswatch: reference: {why}: {}", end.detail);
                return Ok(INPUT);
            }
            Some(reference)
        }
        None => None,
    };
    let extras = Extras {
        signals: args.signals.as_deref(),
        reference,
        progress,
    };
    let analysis = analyze(stream, &pool, extras)
        .await
        .context("cannot write the signals")?;
    if let Some(code) = report(&analysis, args.format)? {
        return Ok(code);
    }
    let limit = args.fail_on.map(detectors::base::Severity::from);
    let failed = limit.is_some_and(|limit| worst(&analysis.defects).is_some_and(|w| w >= limit));
    Ok(if failed { DEFECTS_FOUND } else { 0 })
}

/// Tells what was found; an exit code when there was nothing to look at.
fn report(analysis: &Analysis, format: ReportFormat) -> anyhow::Result<Option<u8>> {
    let cause = analysis.end.cause.map(|c| c.as_str());
    let cpu_secs = Process::read().cpu_secs.unwrap_or_default();
    let summary = SummaryLine::of(&analysis.status, analysis.defects.len(), cpu_secs, cause);
    let mut out = std::io::stdout().lock();
    for defect in &analysis.defects {
        match format {
            ReportFormat::Jsonl => {
                let line = DefectLine::of(defect, analysis.raised.get(&defect.id).copied());
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            }
            ReportFormat::Text => writeln!(out, "{}", defect_text(defect))?,
        }
    }
    for sync in &analysis.av_sync {
        match format {
            ReportFormat::Jsonl => writeln!(out, "{}", serde_json::to_string(sync)?)?,
            ReportFormat::Text => writeln!(out, "{}", sync.text())?,
        }
    }
    match format {
        ReportFormat::Jsonl => writeln!(out, "{}", serde_json::to_string(&summary)?)?,
        ReportFormat::Text => writeln!(out, "{}", summary.text())?,
    }
    if summary.is_empty() {
        let why = cause.unwrap_or("undecodable");
        eprintln!("glasswatch: {why}: {}", analysis.end.detail);
        return Ok(Some(INPUT));
    }
    Ok(None)
}

async fn replay_one(args: ReplayArgs) -> anyhow::Result<u8> {
    let Replay { stream, kept } = match replay(&args.clip, &args.config, args.stream.as_deref()) {
        Ok(replay) => replay,
        Err(ReplayError::Config(problem)) => return Err(problem.into()),
        Err(problem) => {
            eprintln!("glasswatch: {problem}");
            return Ok(USAGE);
        }
    };
    let pool = Pool::new(0)?;
    let extras = Extras {
        signals: None,
        reference: None,
        progress: false,
    };
    let analysis = analyze(stream, &pool, extras).await?;
    if let Some(code) = report(&analysis, args.format)? {
        return Ok(code);
    }
    if let Some(kept) = kept {
        eprintln!("{}", kept.verdict(&analysis.defects));
    }
    Ok(0)
}

async fn run_demo(args: DemoArgs) -> anyhow::Result<u8> {
    let mut listen = args.listen;
    if args.check {
        // Several checks may run side by side.
        listen.set_port(0);
    }
    let settings = DemoSettings {
        check: args.check,
        seed: args.seed,
        listen,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    let perfect = demo::run(settings, stop).await?;
    Ok(if perfect { 0 } else { DEFECTS_FOUND })
}
