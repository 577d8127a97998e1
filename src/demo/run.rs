//! Runs the demo: sources, the daemon on them, and the comparison of the two.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use detectors::base::{Arrival, Format};

use super::compare::Comparison;
use super::schedule::{Delivery, Plan};
use super::source::{DemoError, Source};
use crate::alert::Transition;
use crate::app::{App, Settings, StartError};
use crate::config::{Config, Env, Problems};
use crate::ingest::clock;

/// Why the demo failed to run; a fault that was not found is no error but the answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The sources.
    #[error(transparent)]
    Source(#[from] DemoError),
    /// The demo's own configuration.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The daemon.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Nowhere to keep evidence.
    #[error("cannot make a folder for evidence: {0}")]
    Folder(#[from] std::io::Error),
}

/// How the demo is run.
#[derive(Debug, Clone, Copy)]
pub struct DemoSettings {
    /// One loop without a terminal, then the verdict.
    pub check: bool,
    /// Seed of schedule and content.
    pub seed: u64,
    /// Where the daemon's page is served.
    pub listen: SocketAddr,
}

struct Watched {
    began: Arrival,
    compared: Comparison,
}

impl Watched {
    /// The sources repeat their loops; once a loop is judged, the comparison starts over with the next.
    fn begin_next_loop(&mut self, now: Arrival) {
        if source_secs(self.began, now) >= self.compared.judged_after_secs() {
            let plan = self.compared.plan().clone();
            self.began = self.began.plus(Duration::from_secs_f64(plan.loop_secs));
            self.compared = Comparison::new(plan);
        }
    }
}

type Board = Arc<Mutex<Vec<Watched>>>;

/// Runs until the loop is over (`check`) or `stop` resolves. Tells whether everything was found and nothing
/// invented.
pub async fn run(settings: DemoSettings, stop: impl Future<Output = ()>) -> Result<bool, RunError> {
    let mut sources = Vec::new();
    let mut watched = Vec::new();
    for delivery in Delivery::ALL {
        let plan = Plan::draw(delivery, settings.seed);
        let seed = settings.seed.wrapping_mul(31).wrapping_add(delivery as u64);
        let source = Source::start(Arc::new(plan.clone()), seed, None).await?;
        watched.push(Watched {
            began: source.began,
            compared: Comparison::new(plan),
        });
        sources.push((delivery, source));
    }
    // A player that comes too early would find a fault that nobody planned.
    for (_, source) in &mut sources {
        source.playable().await?;
    }
    let board: Board = Arc::new(Mutex::new(watched));
    let folder = std::env::temp_dir().join(format!("glasswatch-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut text = format!(
        // Errors of playlists count for less time than the demo is clean after each fault.
        "version: 1\ninstance: {{name: demo, data_dir: {folder:?}, evidence_quota_mib: 64}}\n\
         http: {{listen: {}}}\ndefaults:\n  allow_private: true\n\
         \x20 detectors: {{manifest: {{window_secs: 10}}}}\nstreams:\n",
        settings.listen
    );
    for (delivery, source) in &sources {
        text += &format!("  - {{id: {}, url: {:?}}}\n", delivery.id(), source.url);
    }
    let config = Config::parse(&text, &Env::default())?;
    let seen = Arc::clone(&board);
    let app = App::start(
        config,
        Settings::default(),
        Some(Arc::new(move |t| note(&seen, t))),
    )
    .await?;
    if let Some(address) = app.address() {
        eprintln!("The page, metrics and the API: http://{address}/   (stop with Ctrl-C)");
    }
    let result = follow(&app, &board, settings.check, stop).await;
    app.drain(Duration::from_secs(10)).await;
    drop(sources);
    // What is left of the demo is of no use to anybody.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(result)
}

fn note(board: &Board, transition: &Transition) {
    let mut watched = board.lock().unwrap_or_else(PoisonError::into_inner);
    let stream = &transition.defect.stream;
    if let Some(watched) = watched
        .iter_mut()
        .find(|w| w.compared.plan().delivery.id() == &**stream)
    {
        let at_secs = source_secs(watched.began, transition.at.arrival);
        watched.compared.take(transition, at_secs);
    }
}

fn source_secs(began: Arrival, at: Arrival) -> f64 {
    at.since(began).as_secs_f64()
}

async fn follow(app: &App, board: &Board, check: bool, stop: impl Future<Output = ()>) -> bool {
    tokio::pin!(stop);
    let mut pace = tokio::time::interval(Duration::from_millis(250));
    let mut turn = 0u32;
    let redraw = !check && std::io::stdout().is_terminal();
    loop {
        tokio::select! {
            () = &mut stop => return true,
            _ = pace.tick() => {}
        }
        let statuses = app.statuses();
        let now = clock::now();
        let mut over = true;
        {
            let mut watched = board.lock().unwrap_or_else(PoisonError::into_inner);
            for watched in watched.iter_mut() {
                let at_secs = source_secs(watched.began, now);
                over &= at_secs >= watched.compared.judged_after_secs();
                let id = watched.compared.plan().delivery.id();
                let format = statuses
                    .iter()
                    .filter(|s| &*s.stream.id == id)
                    .flat_map(|s| &s.tracks)
                    .find_map(|t| match &t.format {
                        Some(Format::Video(format)) => Some(format.height),
                        _ => None,
                    });
                if let Some(height) = format {
                    watched.compared.picture_height(height, at_secs);
                }
            }
            turn += 1;
            if redraw && turn.is_multiple_of(4) {
                print_board(&watched, now, Screen::Redraw);
            } else if !check && !redraw && turn.is_multiple_of(120) {
                print_board(&watched, now, Screen::Append);
            }
            if over && check {
                print_board(&watched, now, Screen::Append);
                return verdict(&watched);
            }
            if !check {
                watched.iter_mut().for_each(|w| w.begin_next_loop(now));
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Screen {
    Redraw,
    Append,
}

fn print_board(watched: &[Watched], now: Arrival, screen: Screen) {
    let mut text = String::new();
    if screen == Screen::Redraw {
        text.push_str("\x1b[H\x1b[2J");
    }
    text.push_str("What was done to the streams, and what was found:\n\n");
    for watched in watched {
        text.push_str(&watched.compared.table(source_secs(watched.began, now)));
        text.push('\n');
    }
    // A closed terminal does not stop the demo.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

fn verdict(watched: &[Watched]) -> bool {
    let perfect = watched.iter().all(|w| w.compared.is_perfect());
    let count =
        |of: fn(&Comparison) -> usize| watched.iter().map(|w| of(&w.compared)).sum::<usize>();
    let text = format!(
        "{} faults, {} missed, {} false defects, {} defects still open: {}\n",
        count(|c| c.rows().count()),
        count(|c| c.missed().count()),
        count(|c| c.false_defects().count()),
        count(|c| c.still_open().count()),
        if perfect { "passed" } else { "FAILED" }
    );
    let _ = std::io::stdout().write_all(text.as_bytes());
    perfect
}
