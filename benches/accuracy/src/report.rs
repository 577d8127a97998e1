//! What is written: tables as Markdown and JSON. What fails and why is written by people, below a mark that a new
//! report leaves alone.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::parts::{Extent, Outcome};

/// Below this line of a report people write.
pub const BY_HAND: &str = "<!-- Below this line nothing is overwritten. -->";
/// Above the rows of runs of the sealed set.
const RUNS: &str =
    "| date | commit | seed | slice | parts | figures |\n|---|---|---|---|---|---|\n";

/// A table of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// Heads of its columns.
    pub heads: Vec<String>,
    /// As many cells a row as there are heads.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows.
    pub fn new(title: &str, heads: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            heads: heads.iter().map(|h| (*h).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// One more row.
    pub fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: String = self.heads.iter().map(|_| "---|").collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("### {}\n\n{}|{rule}\n{rows}", self.title, line(&self.heads))
    }

    fn json(&self) -> Value {
        json!({"title": self.title, "heads": self.heads, "rows": self.rows})
    }
}

/// Where and when a run was made.
#[derive(Debug, Clone)]
pub struct Run {
    /// Set, seed and slice.
    pub extent: Extent,
    /// UTC day.
    pub date: String,
    /// Commit of the working tree, marked when something in it is not committed.
    pub commit: String,
    /// Hash of the binary.
    pub binary: String,
    /// Seconds that the run took.
    pub secs: f64,
}

impl Run {
    /// Asks the clock and the repository in a folder.
    pub fn now(extent: Extent, binary: &str, secs: f64, folder: &Path) -> Self {
        let say = |program: &str, args: &[&str]| {
            let said = Command::new(program)
                .args(args)
                .current_dir(folder)
                .output();
            said.ok()
                .filter(|s| s.status.success())
                .map(|s| String::from_utf8_lossy(&s.stdout).trim().to_owned())
        };
        let commit = say("git", &["rev-parse", "--short=12", "HEAD"]);
        let changed = say("git", &["status", "--porcelain", "--untracked-files=no"]);
        let mark = if changed.is_some_and(|c| !c.is_empty()) {
            "+"
        } else {
            ""
        };
        Self {
            extent,
            date: say("date", &["-u", "+%F"]).unwrap_or_else(|| "unknown".to_owned()),
            commit: format!("{}{mark}", commit.as_deref().unwrap_or("unknown")),
            binary: binary.to_owned(),
            secs,
        }
    }

    fn slice(&self) -> String {
        self.extent
            .slice
            .map_or("whole".to_owned(), |n| format!("{n} clips a part"))
            + if self.extent.small {
                ", small pictures only"
            } else {
                ""
            }
    }
}

/// All of a run as JSON.
pub fn as_json(run: &Run, outcomes: &[(&str, Outcome)]) -> Value {
    let parts: Vec<Value> = outcomes
        .iter()
        .map(|(part, outcome)| {
            let tables: Vec<Value> = outcome.tables.iter().map(Table::json).collect();
            json!({
                "part": part, "figures": outcome.figures, "tables": tables,
                "failures": outcome.failures,
            })
        })
        .collect();
    json!({
        "date": run.date, "commit": run.commit, "binary": run.binary,
        "set": run.extent.set.name(), "seed": run.extent.seed, "slice": run.extent.slice,
        "secs": run.secs.round(), "parts": parts,
    })
}

/// All of a run as text.
pub fn as_markdown(run: &Run, outcomes: &[(&str, Outcome)]) -> String {
    let mut out = format!(
        "Set **{}**, {}, seed {}, {}, commit {}, {:.0} s.\n\n",
        run.extent.set.name(),
        run.slice(),
        run.extent.seed,
        run.date,
        run.commit,
        run.secs
    );
    for (part, outcome) in outcomes {
        // Writing to a `String` cannot fail.
        let _ = writeln!(out, "## {}\n", title(part));
        for table in &outcome.tables {
            let _ = writeln!(out, "{}", table.markdown());
        }
    }
    out
}

fn title(part: &str) -> String {
    let mut letters = part.chars();
    letters.next().map_or_else(String::new, |first| {
        format!("{}{}", first.to_uppercase(), letters.as_str())
    })
}

/// Writes a run of the sealed set into `RESULTS.md` and `results.json` of a folder. The list of runs grows by one;
/// what people wrote stays.
///
/// # Errors
/// When a file cannot be read or written.
pub fn publish(folder: &Path, run: &Run, outcomes: &[(&str, Outcome)]) -> io::Result<()> {
    let file = folder.join("RESULTS.md");
    let before = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    fs::write(&file, page(&before, run, outcomes))?;
    let text = serde_json::to_string_pretty(&as_json(run, outcomes)).map_err(io::Error::other)?;
    fs::write(folder.join("results.json"), text + "\n")
}

/// The new page, given the old one.
fn page(before: &str, run: &Run, outcomes: &[(&str, Outcome)]) -> String {
    let by_hand = before
        .split_once(BY_HAND)
        .map_or("\n## What fails, and why\n", |(_, rest)| rest);
    let runs = before
        .split_once(RUNS)
        .map_or("", |(_, rest)| rest.split("\n\n").next().unwrap_or(""));
    let figures: Vec<String> = outcomes
        .iter()
        .flat_map(|(_, o)| &o.figures)
        .map(|(name, value)| format!("{name} {value:.4}"))
        .collect();
    let parts: Vec<&str> = outcomes.iter().map(|(part, _)| *part).collect();
    let row = format!(
        "| {} | {} | {} | {} | {} | {} |",
        run.date,
        run.commit,
        run.extent.seed,
        run.slice(),
        parts.join(", "),
        figures.join("; ")
    );
    let runs = [runs.trim_end(), &row].join("\n");
    format!(
        "# What the picture detectors find\n\nWritten by `benches/accuracy/run --set sealed`. How it is made and \
         counted: `benches/accuracy/README.md`.\n\n{}## Runs of the sealed set\n\n{RUNS}{}\n\n{BY_HAND}{by_hand}",
        as_markdown(run, outcomes),
        runs.trim_start()
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sources::Set;

    fn run(date: &str) -> Run {
        Run {
            extent: Extent {
                set: Set::Sealed,
                seed: 7,
                slice: None,
                small: false,
                peers: true,
            },
            date: date.to_owned(),
            commit: "abc".to_owned(),
            binary: "0".to_owned(),
            secs: 1.0,
        }
    }

    #[test]
    fn runs_are_added_and_what_people_wrote_stays() {
        let mut table = Table::new("T", &["a", "b"]);
        table.row(&["1".to_owned(), "2".to_owned()]);
        let outcome = Outcome {
            tables: vec![table],
            figures: BTreeMap::from([("x".to_owned(), 0.5)]),
            failures: Vec::new(),
        };
        let outcomes = [("freeze", outcome)];
        let first = page("", &run("2026-01-01"), &outcomes);
        let edited = first.replace(
            "## What fails, and why",
            "## What fails, and why\n\nBecause.",
        );
        let second = page(&edited, &run("2026-01-02"), &outcomes);
        assert!(
            second.contains("| 2026-01-01 | abc | 7 | whole | freeze | x 0.5000 |\n| 2026-01-02 |")
        );
        assert!(second.contains("Because."));
        assert!(second.contains("### T\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"));
        assert_eq!(second.matches("## Runs of the sealed set").count(), 1);
        let third = page(&second, &run("2026-01-03"), &outcomes);
        assert_eq!(third.matches("| abc | 7 |").count(), 3);
    }
}
