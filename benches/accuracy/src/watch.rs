//! The product as a black box: `glasswatch analyze` over a clip, its events and readings.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::score::Span;

/// Exit codes of `analyze` when it ran: nothing found, or defects.
const RAN: [i32; 2] = [0, 1];

/// By `detector.signal`: seconds and value; `None` where it was unmeasurable.
pub type Readings = BTreeMap<String, Vec<(f64, Option<f64>)>>;

/// One `glasswatch` binary.
#[derive(Debug, Clone)]
pub struct Product {
    binary: PathBuf,
    /// First half of the binary's SHA-256, hexadecimal.
    pub hash: String,
    detectors: Value,
}

/// What one clip is watched with.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Settings of the stream, as `--set` takes them.
    pub sets: Vec<(String, String)>,
    /// Readings to keep, as `detector.signal`, or `detector.signal video:1` for one track of several; without any the
    /// readings are not written at all.
    pub signals: Vec<String>,
    /// Another recording of the same programme.
    pub reference: Option<PathBuf>,
}

impl Ask {
    /// Only these detectors run, all of which exist in the product.
    pub fn only(product: &Product, wanted: &[&str]) -> Self {
        let sets = product
            .detector_names()
            .iter()
            .filter(|name| !wanted.contains(&name.as_str()))
            .map(|name| (format!("detectors.{name}"), "false".to_owned()))
            .collect();
        Self {
            sets,
            signals: Vec::new(),
            reference: None,
        }
    }

    /// With one more setting.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.sets.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Everything that decides the answer, as text.
    pub fn recipe(&self) -> String {
        // The clip of the reference is named by its recipe.
        let reference = self.reference.as_ref().and_then(|path| path.file_name());
        match reference {
            Some(name) => format!("{:?} {:?} {name:?}", self.sets, self.signals),
            None => format!("{:?} {:?}", self.sets, self.signals),
        }
    }
}

/// A defect that the product told.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Detector.
    pub detector: String,
    /// Rule.
    pub rule: String,
    /// Severity.
    pub severity: String,
    /// Track, unless it is the stream as a whole.
    pub track: Option<String>,
    /// Where it came in, if that is known.
    pub place: Option<String>,
    /// Seconds from the first picture.
    pub start_secs: f64,
    /// Seconds from the first picture; the end of the clip when it was still open.
    pub end_secs: f64,
    /// Seconds from the first picture to where a live watch would have told it.
    pub raised_secs: Option<f64>,
    /// The signal's worst value.
    pub value: f64,
}

impl Found {
    /// When.
    pub fn span(&self) -> Span {
        Span {
            start: self.start_secs,
            end: self.end_secs,
        }
    }
}

/// What the product said about a clip.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    /// In order of their start.
    pub defects: Vec<Found>,
    /// By `detector.signal`: seconds and value; `None` where it was unmeasurable.
    pub readings: Readings,
    /// Seconds of media.
    pub media_secs: f64,
    /// Pictures decoded.
    pub pictures: u64,
    /// Seconds that the run took.
    pub wall_secs: f64,
    /// Seconds of CPU that the run took, decoding included.
    pub cpu_secs: f64,
}

impl Watched {
    /// The events of one detector; of one rule only, when it is named.
    pub fn of<'a>(
        &'a self,
        detector: &'a str,
        rule: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Found> + 'a {
        self.defects
            .iter()
            .filter(move |d| d.detector == detector && rule.is_none_or(|r| d.rule == r))
    }

    /// Whether all of a clip with pictures for so many seconds was seen. Codecs hold some pictures back at the end,
    /// and damage may cost the last ones.
    pub fn covers(&self, clip_secs: f64) -> bool {
        self.media_secs >= clip_secs * 0.95 - 0.5
    }

    /// As it is kept.
    pub fn to_json(&self) -> Value {
        let defects: Vec<Value> = self
            .defects
            .iter()
            .map(|d| {
                json!({
                    "detector": d.detector, "rule": d.rule, "severity": d.severity,
                    "track": d.track, "place": d.place,
                    "start_secs": d.start_secs, "end_secs": d.end_secs,
                    "raised_secs": d.raised_secs, "value": d.value,
                })
            })
            .collect();
        json!({
            "defects": defects, "media_secs": self.media_secs, "pictures": self.pictures,
            "wall_secs": self.wall_secs, "cpu_secs": self.cpu_secs, "readings": self.readings,
        })
    }

    /// What [`Watched::to_json`] wrote; `None` when something is missing.
    pub fn from_json(value: &Value) -> Option<Self> {
        let number = |v: &Value, key: &str| v.get(key).and_then(Value::as_f64);
        let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
        let defects = value
            .get("defects")?
            .as_array()?
            .iter()
            .map(|d| {
                Some(Found {
                    detector: text(d, "detector")?,
                    rule: text(d, "rule")?,
                    severity: text(d, "severity")?,
                    track: text(d, "track"),
                    place: text(d, "place"),
                    start_secs: number(d, "start_secs")?,
                    end_secs: number(d, "end_secs")?,
                    raised_secs: number(d, "raised_secs"),
                    value: number(d, "value")?,
                })
            })
            .collect::<Option<_>>()?;
        let readings = value
            .get("readings")?
            .as_object()?
            .iter()
            .map(|(name, series)| {
                let series = series
                    .as_array()?
                    .iter()
                    .map(|pair| Some((pair.get(0)?.as_f64()?, pair.get(1)?.as_f64())))
                    .collect::<Option<Vec<_>>>()?;
                Some((name.clone(), series))
            })
            .collect::<Option<_>>()?;
        Some(Self {
            defects,
            readings,
            media_secs: number(value, "media_secs")?,
            pictures: value.get("pictures")?.as_u64()?,
            wall_secs: number(value, "wall_secs")?,
            cpu_secs: number(value, "cpu_secs")?,
        })
    }
}

impl Product {
    /// Looks at a binary: its bytes and its detectors.
    ///
    /// # Errors
    /// When it cannot be read or does not list its detectors.
    pub fn new(binary: &Path) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut file = BufReader::with_capacity(1 << 20, fs::File::open(binary)?);
        loop {
            let bytes = file.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            let n = bytes.len();
            file.consume(n);
        }
        let hash = hex(&hash.finalize()).chars().take(32).collect();
        let said = Command::new(binary)
            .args(["detectors", "--json"])
            .stderr(Stdio::null())
            .output()?;
        let detectors = serde_json::from_slice(&said.stdout)
            .map_err(|e| io::Error::other(format!("{}: {e}", binary.display())))?;
        Ok(Self {
            binary: binary.to_owned(),
            hash,
            detectors,
        })
    }

    /// Names of all detectors.
    pub fn detector_names(&self) -> Vec<String> {
        let rows = match &self.detectors {
            Value::Array(rows) => rows.as_slice(),
            Value::Object(all) => match all.get("detectors") {
                Some(Value::Array(rows)) => rows.as_slice(),
                _ => &[],
            },
            _ => &[],
        };
        rows.iter()
            .filter_map(|row| row.get("name").and_then(Value::as_str))
            .map(str::to_owned)
            .collect()
    }

    /// Whether a detector exists.
    pub fn has(&self, detector: &str) -> bool {
        self.detector_names().iter().any(|name| name == detector)
    }

    /// Whether a detector has an option of this name.
    pub fn has_option(&self, detector: &str, option: &str) -> bool {
        let row = Command::new(&self.binary)
            .args(["detectors", detector, "--json"])
            .stderr(Stdio::null())
            .output()
            .ok()
            .and_then(|said| serde_json::from_slice::<Value>(&said.stdout).ok());
        row.is_some_and(|row| names_option(&row, option))
    }

    /// The hash of a slate, of its recording.
    ///
    /// # Errors
    /// When the product tells none.
    pub fn hash_of(&self, recording: &Path) -> io::Result<String> {
        let said = Command::new(&self.binary)
            .args(["hash", "--log-level", "error"])
            .arg(recording)
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&said.stdout);
        let digits = |word: &&str| word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit());
        text.split(|c: char| !c.is_ascii_alphanumeric())
            .find(digits)
            .filter(|_| said.status.success())
            .map(str::to_owned)
            .ok_or_else(|| {
                let why = String::from_utf8_lossy(&said.stderr);
                let name = recording.display();
                io::Error::other(format!("no hash of {name}: {}", why.trim()))
            })
    }

    /// Runs over a clip that has pictures for so many seconds.
    ///
    /// # Errors
    /// When the product cannot be started, ends with a fault, prints what is no report, or gives the clip up before
    /// its end, as it does on a machine that starves it.
    pub fn watch(&self, clip: &Path, clip_secs: f64, ask: &Ask) -> io::Result<Watched> {
        let (watched, ()) = self.watch_beside(clip, clip_secs, ask, |_| ())?;
        Ok(watched)
    }

    /// The same, and what `beside` gave, which is called with the number of the process while that runs.
    ///
    /// # Errors
    /// The same.
    pub fn watch_beside<T: Send>(
        &self,
        clip: &Path,
        clip_secs: f64,
        ask: &Ask,
        beside: impl FnOnce(u32) -> T + Send,
    ) -> io::Result<(Watched, T)> {
        let readings_at = clip.with_extension(format!("readings{}", std::process::id()));
        let mut command = Command::new(&self.binary);
        command
            .arg("analyze")
            .arg(clip)
            .args(["--format", "jsonl", "--jobs", "1", "--log-level", "error"])
            .env("RUST_BACKTRACE", "0");
        for (key, value) in &ask.sets {
            command.args(["--set", &format!("{key}={value}")]);
        }
        if !ask.signals.is_empty() {
            command.arg("--signals").arg(&readings_at);
        }
        if let Some(reference) = &ask.reference {
            command.arg("--reference").arg(reference);
        }
        let began = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (said, noted) = std::thread::scope(|scope| {
            let pid = child.id();
            let noted = scope.spawn(move || beside(pid));
            (child.wait_with_output(), noted.join())
        });
        let said = said?;
        let noted = noted.map_err(|_| io::Error::other("what ran beside the product failed"))?;
        let wall_secs = began.elapsed().as_secs_f64();
        let kept = if ask.signals.is_empty() {
            Ok(Readings::new())
        } else {
            let kept = readings(&readings_at, &ask.signals);
            // Of a run that failed there may be none.
            let _ = fs::remove_file(&readings_at);
            kept
        };
        let failed = |why: &str| {
            io::Error::other(format!(
                "{} {why} ({}) on {}: {}",
                self.binary.display(),
                said.status,
                clip.display(),
                String::from_utf8_lossy(&said.stderr).trim()
            ))
        };
        if !said.status.code().is_some_and(|code| RAN.contains(&code)) {
            return Err(failed("failed"));
        }
        let mut watched = parse(&String::from_utf8_lossy(&said.stdout))
            .ok_or_else(|| failed("gave no report"))?;
        if !watched.covers(clip_secs) {
            let seen = watched.media_secs;
            return Err(failed(&format!("saw {seen:.2} of {clip_secs:.2} s")));
        }
        watched.wall_secs = wall_secs;
        watched.readings = kept?;
        Ok((watched, noted))
    }
}

fn names_option(value: &Value, option: &str) -> bool {
    match value {
        Value::Object(map) => {
            map.get("name").and_then(Value::as_str) == Some(option)
                || map.values().any(|v| names_option(v, option))
        }
        Value::Array(all) => all.iter().any(|v| names_option(v, option)),
        _ => false,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The JSON lines of a report; `None` without a last line.
fn parse(lines: &str) -> Option<Watched> {
    let mut watched = Watched::default();
    let mut whole = false;
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).ok()?;
        let number = |key: &str| value.get(key).and_then(Value::as_f64);
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        match value.get("type").and_then(Value::as_str) {
            Some("defect") => watched.defects.push(Found {
                detector: text("detector")?,
                rule: text("rule")?,
                severity: text("severity")?,
                track: text("track"),
                place: text("place"),
                start_secs: number("start_secs")?,
                end_secs: number("end_secs").unwrap_or(f64::INFINITY),
                raised_secs: number("raised_secs"),
                value: number("value")?,
            }),
            Some("summary") => {
                whole = true;
                watched.media_secs = number("duration_secs")?;
                watched.pictures = value.get("video_frames")?.as_u64()?;
                watched.cpu_secs = number("cpu_secs")?;
            }
            _ => {}
        }
    }
    for defect in &mut watched.defects {
        defect.end_secs = defect
            .end_secs
            .min(watched.media_secs.max(defect.start_secs));
    }
    whole.then_some(watched)
}

/// The wanted columns of a file of readings.
fn readings(path: &Path, wanted: &[String]) -> io::Result<Readings> {
    let mut all: Readings = BTreeMap::new();
    for line in BufReader::new(fs::File::open(path)?).lines().skip(1) {
        let line = line?;
        let mut cells = line.split(',');
        let (Some(at), Some(track), Some(detector), Some(signal), Some(value)) = (
            cells.next(),
            cells.next(),
            cells.next(),
            cells.next(),
            cells.next(),
        ) else {
            continue;
        };
        let name = format!("{detector}.{signal}");
        let Ok(at) = at.parse() else { continue };
        for name in [format!("{name} {track}"), name] {
            if wanted.contains(&name) {
                all.entry(name).or_default().push((at, value.parse().ok()));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const REPORT: &str = r#"{"type":"defect","detector":"freeze","rule":"frozen","track":"video:0","severity":"critical","cause":"frozen","start_secs":6.0,"end_secs":null,"value":4.0,"limit":2.0,"unit":"seconds","sentence":"","id":"x"}
{"type":"summary","duration_secs":10.0,"video_frames":250,"audio_secs":0.0,"coverage":{},"cpu_secs":0.5,"defects":1}
"#;

    #[test]
    fn an_open_defect_ends_with_the_clip_and_a_cut_report_is_refused() {
        let watched = parse(REPORT).unwrap();
        assert_eq!(watched.pictures, 250);
        assert_eq!(
            watched.defects[0].span(),
            Span {
                start: 6.0,
                end: 10.0
            }
        );
        assert_eq!(watched.of("freeze", Some("frozen")).count(), 1);
        assert_eq!(watched.of("black", None).count(), 0);
        assert!(parse(REPORT.lines().next().unwrap()).is_none());
    }

    #[test]
    fn what_fails_or_gives_up_is_no_answer() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("product");
        let listing = "if [ $1 = detectors ]; then echo '[]'; exit 0; fi";
        let product = |code: i32| {
            let report = REPORT.trim_end();
            let script = format!("#!/bin/sh\n{listing}\ncat <<'E'\n{report}\nE\nexit {code}\n");
            fs::write(&binary, script).unwrap();
            fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
            Product::new(&binary).unwrap()
        };
        let ask = Ask::default();
        let clip = dir.path().join("clip.ts");
        for code in [0, 1] {
            let watched = product(code).watch(&clip, 10.2, &ask).unwrap();
            assert_eq!(watched.defects.len(), 1);
        }
        let failed = product(3).watch(&clip, 10.2, &ask).unwrap_err();
        assert!(failed.to_string().contains("failed"), "{failed}");
        // Ten seconds of twenty: it gave up.
        let short = product(0).watch(&clip, 20.0, &ask).unwrap_err();
        assert!(short.to_string().contains("saw 10.00 of 20.00"), "{short}");
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let mut watched = parse(REPORT).unwrap();
        watched
            .readings
            .insert("a.b".to_owned(), vec![(0.04, Some(1.5)), (0.08, None)]);
        assert_eq!(Watched::from_json(&watched.to_json()), Some(watched));
    }

    #[test]
    fn readings_are_read_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.csv");
        fs::write(
            &path,
            "media_secs,track,detector,signal,value,unmeasurable\n0.040,video:0,a,b,1.5,\n0.080,video:0,a,b,,shed\n0.080,video:0,a,c,2,\n",
        )
        .unwrap();
        let all = readings(&path, &["a.b".to_owned()]).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all["a.b"], [(0.04, Some(1.5)), (0.08, None)]);
    }
}
