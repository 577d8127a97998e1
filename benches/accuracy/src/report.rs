//! What is written: tables as Markdown and JSON. What fails and why is written by people, below a mark that a new
//! report leaves alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::gates;
use crate::parts::{Extent, Outcome};
use crate::sources::Set;

/// Below this line of a report people write.
pub const BY_HAND: &str = "<!-- Below this line nothing is overwritten. -->";
/// Failures of a part that are kept in the JSON, and shown on the page.
const FAILURES: usize = 200;
const SHOWN: usize = 12;
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

    /// What [`Table::json`] gave; `None` when something is missing.
    fn from_json(value: &Value) -> Option<Self> {
        let texts = |value: &Value| -> Option<Vec<String>> {
            let all = value.as_array()?.iter();
            all.map(|v| v.as_str().map(str::to_owned)).collect()
        };
        Some(Self {
            title: value.get("title")?.as_str()?.to_owned(),
            heads: texts(value.get("heads")?)?,
            rows: (value.get("rows")?.as_array()?.iter())
                .map(texts)
                .collect::<Option<_>>()?,
        })
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: String = self.heads.iter().map(|_| "---|").collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!(
            "#### {}\n\n{}|{rule}\n{rows}",
            self.title,
            line(&self.heads)
        )
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
}

impl Run {
    /// Asks the clock and the repository in a folder.
    pub fn now(extent: Extent, binary: &str, folder: &Path) -> Self {
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

/// A run as JSON: each part with what it was run on, by its name.
pub fn as_json(run: &Run, outcomes: &[(&str, Outcome)]) -> Map<String, Value> {
    let part = |outcome: &Outcome| {
        let tables: Vec<Value> = outcome.tables.iter().map(Table::json).collect();
        let most = outcome.failures.len().min(FAILURES);
        json!({
            "date": run.date, "commit": run.commit, "binary": run.binary,
            "seed": run.extent.seed, "slice": run.slice(),
            "figures": outcome.figures, "tables": tables,
            "failed": outcome.failures.len(), "failures": outcome.failures.get(..most),
        })
    };
    outcomes
        .iter()
        .map(|(name, outcome)| ((*name).to_owned(), part(outcome)))
        .collect()
}

/// A run of a set as text: what [`as_json`] gave.
pub fn as_markdown(set: &str, parts: &Map<String, Value>) -> String {
    let mut figures = BTreeMap::new();
    for part in parts.values() {
        let of = part.get("figures").and_then(Value::as_object);
        for (name, value) in of.into_iter().flatten() {
            figures.extend(value.as_f64().map(|value| (name.clone(), value)));
        }
    }
    let gates = gates::table(&figures).markdown();
    let mut out = format!("## Set {set}\n\n{gates}\n");
    for (name, part) in parts {
        let text = |key: &str| part.get(key).and_then(Value::as_str).unwrap_or("?");
        let number = |key: &str| part.get(key).and_then(Value::as_u64).unwrap_or(0);
        let secs = figures.get(&format!("{name}_run_secs")).unwrap_or(&0.0);
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            out,
            "### {} of {set}\n\n{}, seed {}, {}, commit {}, product {}, {secs:.0} s.\n",
            title(name),
            title(text("slice")),
            number("seed"),
            text("date"),
            text("commit"),
            text("binary").get(..12).unwrap_or("?"),
        );
        let tables = part.get("tables").and_then(Value::as_array);
        for table in tables.into_iter().flatten().filter_map(Table::from_json) {
            let _ = writeln!(out, "{}", table.markdown());
        }
        let failures = part.get("failures").and_then(Value::as_array);
        let shown: Vec<&str> = failures
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .take(SHOWN)
            .collect();
        if !shown.is_empty() {
            let failed = number("failed");
            let _ = writeln!(out, "Failures: {failed}; the first {}:\n", shown.len());
            for line in shown {
                let _ = writeln!(out, "- {line}");
            }
            out.push('\n');
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

/// Writes a run into `RESULTS.md` and `results.json` of a folder: parts that ran are written anew, others stay. The
/// list of runs of the sealed set grows by one; what people wrote stays.
///
/// # Errors
/// When a file cannot be read or written.
pub fn publish(folder: &Path, run: &Run, outcomes: &[(&str, Outcome)]) -> io::Result<()> {
    let (page_at, all_at) = (folder.join("RESULTS.md"), folder.join("results.json"));
    let all = serde_json::from_str(&text_of(&all_at)?).unwrap_or_default();
    let all = with(all, run, outcomes);
    let text = serde_json::to_string_pretty(&all).map_err(io::Error::other)?;
    fs::write(&all_at, text + "\n")?;
    fs::write(&page_at, page(&text_of(&page_at)?, &all, run, outcomes))
}

fn text_of(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// All sets' parts, those of a run among them.
fn with(
    mut all: Map<String, Value>,
    run: &Run,
    outcomes: &[(&str, Outcome)],
) -> Map<String, Value> {
    let set = all
        .entry(run.extent.set.name())
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(parts) = set {
        parts.append(&mut as_json(run, outcomes));
    }
    all
}

/// The new page, given the old one.
fn page(before: &str, all: &Map<String, Value>, run: &Run, outcomes: &[(&str, Outcome)]) -> String {
    let by_hand = before
        .split_once(BY_HAND)
        .map_or("\n## What fails, and why\n", |(_, rest)| rest);
    let mut runs = before
        .split_once(RUNS)
        .map_or("", |(_, rest)| rest.split("\n\n").next().unwrap_or(""))
        .trim()
        .to_owned();
    if run.extent.set == Set::Sealed {
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
        runs = format!("{runs}\n{row}").trim().to_owned();
    }
    let sets: String = [Set::Sealed, Set::Validate]
        .iter()
        .filter_map(|set| all.get(set.name()).map(|parts| (set.name(), parts)))
        .filter_map(|(set, parts)| Some(as_markdown(set, parts.as_object()?)))
        .collect();
    format!(
        "# What the picture detectors find\n\nWritten by `benches/accuracy/run --publish`. How it is made and \
         counted: `benches/accuracy/README.md`. Figures of the set `validate` were looked at while detectors were \
         made; those of `sealed` were not.\n\n{sets}## Runs of the sealed set\n\n{RUNS}{runs}\n\n{BY_HAND}{by_hand}",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    fn run(set: Set, date: &str) -> Run {
        Run {
            extent: Extent {
                set,
                seed: 7,
                slice: None,
                small: false,
                peers: true,
            },
            date: date.to_owned(),
            commit: "abc".to_owned(),
            binary: "0123456789abcdef".to_owned(),
        }
    }

    fn outcome(recall: f64) -> Outcome {
        let mut table = Table::new("T", &["a", "b"]);
        table.row(&["1".to_owned(), "2".to_owned()]);
        Outcome {
            tables: vec![table],
            figures: BTreeMap::from([("freeze_1s_recall".to_owned(), recall)]),
            failures: vec!["missed one".to_owned()],
        }
    }

    #[test]
    fn sealed_runs_are_logged_and_what_people_wrote_stays() {
        let outcomes = [("freeze", outcome(0.5))];
        let sealed = |date| run(Set::Sealed, date);
        let next = |before: &str, run: &Run| {
            let all = with(Map::new(), run, &outcomes);
            page(before, &all, run, &outcomes)
        };
        let first = next("", &sealed("2026-01-01"));
        let edited = first.replace(
            "## What fails, and why",
            "## What fails, and why\n\nBecause.",
        );
        let second = next(&edited, &sealed("2026-01-02"));
        assert!(second.contains(
            "| 2026-01-01 | abc | 7 | whole | freeze | freeze_1s_recall 0.5000 |\n| 2026-01-02 |"
        ));
        assert!(second.contains("Because."));
        assert!(second.contains("#### T\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"));
        assert!(second.contains("- missed one\n"));
        assert_eq!(second.matches("## Runs of the sealed set").count(), 1);
        // A look at the other set is no run of the sealed one.
        let third = next(&second, &run(Set::Validate, "2026-01-03"));
        assert_eq!(third.matches("| abc | 7 |").count(), 2);
        let fourth = next(&third, &sealed("2026-01-04"));
        assert_eq!(fourth.matches("| abc | 7 |").count(), 3);
    }

    #[test]
    fn parts_that_did_not_run_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let (black, freeze) = ([("black", outcome(1.0))], [("freeze", outcome(0.995))]);
        publish(at, &run(Set::Validate, "2026-01-01"), &freeze).unwrap();
        publish(at, &run(Set::Sealed, "2026-01-02"), &black).unwrap();
        publish(at, &run(Set::Validate, "2026-01-03"), &black).unwrap();
        let page = fs::read_to_string(at.join("RESULTS.md")).unwrap();
        for head in [
            "### Freeze of validate",
            "### Black of validate",
            "### Black of sealed",
        ] {
            assert_eq!(page.matches(head).count(), 1, "{head}");
        }
        assert!(page.contains("Whole, seed 7, 2026-01-03, commit abc, product 0123456789ab"));
    }
}
