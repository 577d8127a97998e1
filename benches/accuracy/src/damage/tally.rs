//! Counting what the product said of damaged clips.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::truth::{AREA, State, Truth};
use crate::score::{Share, Span, f1, match_events, quantile, rate_bound};
use crate::watch::{Found, Watched};

/// The detector that is judged, its signal, and its rules for damage that shows.
pub const DETECTOR: &str = "block_damage";
/// See [`DETECTOR`].
pub const SIGNAL: &str = "block_damage.damage_ratio";
/// Its signal that grades suspicion where only pixels tell.
pub const LONE_SIGNAL: &str = "block_damage.lone_damage_score";
const VISIBLE: [&str; 2] = ["visible_damage", "severe_damage"];

/// How far an alert may lie from the damage it is about, seconds.
const SLACK_SECS: f64 = 0.2;
/// Events of population C: this share of the picture ...
const C_AREA: f64 = 0.05;
/// ... for this long.
const C_SECS: f64 = 0.3;

/// A miss or a false alarm, for whoever wants to know why.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// `missed`, `only slight` (told, but not as damage that shows) or `false`.
    pub kind: &'static str,
    /// When.
    pub span: Span,
    /// Largest share of truly damaged blocks; 0 of a false alarm.
    pub peak: f64,
    /// The product's highest reading there.
    pub reading: f64,
}

/// Counts over any number of clips.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Clips.
    pub clips: u64,
    /// Seconds of damaged clips.
    pub secs: f64,
    /// Events told as damage that shows.
    pub visible: Share,
    /// Events told at all.
    pub told: Share,
    /// Large and long events (5 % of the picture for 0.3 s) told as damage that shows.
    pub large: Share,
    /// Alerts of damage that shows, in damaged clips, and how many of them were about a true event.
    pub precise: Share,
    /// Pictures rightly told, missed, wrongly told and rightly left alone.
    pub pictures: [u64; 4],
    /// Pictures without a reading.
    pub unread: u64,
    /// Missing or repeated pictures: counted neither way.
    pub neither: u64,
    areas: Vec<f64>,
    latencies: Vec<f64>,
    /// Readings of damaged and of undamaged pictures.
    readings: (Vec<f64>, Vec<f64>),
    /// The same of FFmpeg's `blockdetect`.
    peer: (Vec<f64>, Vec<f64>),
    /// Alerts of damage that shows on intact clips, and on their hours.
    pub false_visible: u64,
    /// Alerts of any kind on intact clips.
    pub false_any: u64,
    /// Hours of intact clips.
    pub intact_hours: f64,
}

fn is_visible(found: &Found) -> bool {
    VISIBLE.contains(&found.rule.as_str())
}

/// Readings in order of their times.
struct Series(Vec<(f64, f64)>);

impl Series {
    fn of(watched: &Watched, signal: &str) -> Self {
        let all = watched.readings.get(signal).map_or(&[][..], Vec::as_slice);
        Self::sorted(all.iter().filter_map(|&(at, v)| Some((at, v?))).collect())
    }

    fn sorted(mut all: Vec<(f64, f64)>) -> Self {
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self(all)
    }

    /// The reading of the picture at this time.
    fn at(&self, secs: f64, step: f64) -> Option<f64> {
        let from = self.0.partition_point(|r| r.0 < secs - step / 2.0);
        self.0
            .get(from)
            .filter(|r| r.0 < secs + step / 2.0)
            .map(|r| r.1)
    }

    fn within(&self, start: f64, end: f64) -> impl Iterator<Item = &(f64, f64)> {
        let from = self.0.partition_point(|r| r.0 < start);
        self.0.iter().skip(from).take_while(move |r| r.0 < end)
    }
}

/// What there is to say of one damaged clip.
pub struct Evaluated<'a> {
    /// What is true.
    pub truth: &'a Truth,
    /// What was said.
    pub watched: &'a Watched,
    /// What was said of the same clip without damage.
    pub twin: &'a Watched,
    /// Seconds and values of FFmpeg's `blockdetect`.
    pub peer: Option<&'a [(f64, f64)]>,
    /// Whether damaged pictures are set against those of the intact twin, instead of undamaged ones of the clip.
    pub against_twin: bool,
}

impl Tally {
    /// Counts a damaged clip; gives what went wrong.
    pub fn add(&mut self, clip: &Evaluated<'_>) -> Vec<Failure> {
        let Evaluated { truth, watched, .. } = clip;
        let step = truth.step_secs();
        let series = Series::of(watched, SIGNAL);
        self.clips += 1;
        self.secs += watched.media_secs;
        self.add_pictures(clip, &series, step);
        let mut failures = Vec::new();
        let events = truth.events(AREA);
        let spans: Vec<Span> = events.iter().map(|e| e.span).collect();
        let all: Vec<&Found> = watched.of(DETECTOR, None).collect();
        let of = |shows: bool| -> Vec<Span> {
            let wanted = all.iter().filter(|f| !shows || is_visible(f));
            wanted.map(|f| f.span()).collect()
        };
        let (shown, any) = (of(true), of(false));
        let by_shown = match_events(&spans, &shown, SLACK_SECS);
        let by_any = match_events(&spans, &any, SLACK_SECS);
        for ((event, shown), any) in events.iter().zip(&by_shown.found_by).zip(&by_any.found_by) {
            self.visible.add(shown.is_some());
            self.told.add(any.is_some());
            let near = series.within(event.span.start - step / 2.0, event.span.end + SLACK_SECS);
            let mut highest: f64 = 0.0;
            let mut first = None;
            for &(at, value) in near {
                highest = highest.max(value);
                if value >= AREA {
                    first.get_or_insert(at);
                }
            }
            if let Some(first) = first {
                self.latencies.push((first - event.span.start).max(0.0));
            }
            if shown.is_none() {
                failures.push(Failure {
                    kind: if any.is_some() {
                        "only slight"
                    } else {
                        "missed"
                    },
                    span: event.span,
                    peak: event.peak,
                    reading: highest,
                });
            }
        }
        for event in truth
            .events(C_AREA)
            .iter()
            .filter(|e| e.span.len() >= C_SECS)
        {
            let hit = match_events(&[event.span], &shown, SLACK_SECS);
            self.large.add(hit.found_by.iter().any(Option::is_some));
        }
        for (span, &right) in shown.iter().zip(&by_shown.is_true) {
            self.precise.add(right);
            if !right {
                let highest = series.within(span.start, span.end + step).map(|r| r.1);
                failures.push(Failure {
                    kind: "false",
                    span: *span,
                    peak: 0.0,
                    reading: highest.fold(0.0, f64::max),
                });
            }
        }
        failures
    }

    fn add_pictures(&mut self, clip: &Evaluated<'_>, series: &Series, step: f64) {
        // Where only pixels tell, another reading grades suspicion below what is an alert.
        let graded = match clip.against_twin {
            true => LONE_SIGNAL,
            false => SIGNAL,
        };
        let (own, twin) = (
            Series::of(clip.watched, graded),
            Series::of(clip.twin, graded),
        );
        let peer = clip.peer.map(|all| Series::sorted(all.to_vec()));
        for frame in &clip.truth.frames {
            if frame.state != State::Shown {
                self.neither += 1;
                continue;
            }
            let reading = series.at(frame.secs, step);
            self.unread += u64::from(reading.is_none());
            let reading = reading.unwrap_or(0.0);
            let kind = match (frame.is_damaged(), reading >= AREA) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => 3,
            };
            if let Some(count) = self.pictures.get_mut(kind) {
                *count += 1;
            }
            if frame.is_damaged() {
                self.areas.push((reading - frame.area).abs());
            }
            let block = peer.as_ref().and_then(|p| p.at(frame.secs, step));
            let damaged = match clip.against_twin {
                true => frame.area >= C_AREA,
                false => frame.is_damaged(),
            };
            if damaged {
                let graded = own.at(frame.secs, step).unwrap_or(0.0);
                self.readings.0.push(graded);
                self.peer.0.extend(block);
                if clip.against_twin {
                    self.readings
                        .1
                        .push(twin.at(frame.secs, step).unwrap_or(0.0));
                }
            } else if frame.area < AREA {
                self.peer.1.extend(block);
                if !clip.against_twin {
                    self.readings.1.push(reading);
                }
            }
        }
    }

    /// Counts an intact clip; gives what was wrongly told.
    pub fn add_intact(&mut self, watched: &Watched) -> Vec<Failure> {
        self.intact_hours += watched.media_secs / 3600.0;
        let mut failures = Vec::new();
        for found in watched.of(DETECTOR, None) {
            self.false_any += 1;
            self.false_visible += u64::from(is_visible(found));
            failures.push(Failure {
                kind: "false",
                span: found.span(),
                peak: 0.0,
                reading: found.value,
            });
        }
        failures
    }

    /// Share of damaged pictures that were told, of told ones that were damaged, and their harmonic mean.
    pub fn by_picture(&self) -> (f64, f64, f64) {
        let [hit, missed, wrong, _] = self.pictures;
        let ratio = |of: u64| Share { hits: hit, of }.ratio();
        (
            ratio(hit + missed),
            ratio(hit + wrong),
            f1(hit, missed, wrong),
        )
    }

    /// Mean error of the damaged share, over damaged pictures.
    pub fn area_error(&self) -> f64 {
        self.areas.iter().sum::<f64>() / self.areas.len().max(1) as f64
    }

    /// Seconds from the first damaged picture to the first that is told: median and 95th of a hundred.
    pub fn latency_secs(&self) -> (Option<f64>, Option<f64>) {
        let mut all = self.latencies.clone();
        (quantile(&mut all, 0.5), quantile(&mut all, 0.95))
    }

    /// Area under the curve of the reading, and of FFmpeg's `blockdetect`.
    pub fn auc(&self) -> (Option<f64>, Option<f64>) {
        (
            auc(&self.readings.0, &self.readings.1),
            auc(&self.peer.0, &self.peer.1),
        )
    }

    /// All figures.
    pub fn to_json(&self) -> Value {
        let share = |s: &Share| {
            let (low, high) = s.interval();
            json!({"hits": s.hits, "of": s.of, "ratio": s.ratio(), "low": low, "high": high})
        };
        let (recall, precision, f1) = self.by_picture();
        let (median, p95) = self.latency_secs();
        let (reading, peer) = self.auc();
        let bound = |seen| {
            let bound = rate_bound(seen, self.intact_hours);
            json!({"seen": seen, "per_hour_bound": bound.is_finite().then_some(bound)})
        };
        json!({
            "clips": self.clips, "secs": self.secs,
            "events_visible": share(&self.visible), "events_told": share(&self.told),
            "events_large": share(&self.large), "alerts_true": share(&self.precise),
            "pictures": {"recall": recall, "precision": precision, "f1": f1,
                "counts": self.pictures, "unread": self.unread, "neither": self.neither},
            "area_error": self.area_error(),
            "latency_secs": {"median": median, "p95": p95},
            "auc": reading, "auc_blockdetect": peer,
            "intact": {"hours": self.intact_hours, "visible": bound(self.false_visible),
                "any": bound(self.false_any)},
        })
    }

    /// Head of a table of [`Tally::row`]s.
    pub fn head() -> String {
        "| | clips | events told as visible | told at all | >= 5 %, 0.3 s | true alerts | picture recall / precision / F1 | area error | latency median / p95 | AUC (blockdetect) | false on intact / h (bound) |\n|---|---|---|---|---|---|---|---|---|---|---|\n".to_owned()
    }

    /// A row of a table.
    pub fn row(&self, name: &str) -> String {
        let share = |s: &Share| {
            let (low, high) = s.interval();
            format!(
                "{}/{} = {:.1} % ({:.1}..{:.1})",
                s.hits,
                s.of,
                100.0 * s.ratio(),
                100.0 * low,
                100.0 * high
            )
        };
        let number = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.2}"));
        let (recall, precision, f1) = self.by_picture();
        let (median, p95) = self.latency_secs();
        let (reading, peer) = self.auc();
        let mut row = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            row,
            "| {name} | {} | {} | {}/{} | {} | {}/{} | {recall:.3} / {precision:.3} / {f1:.3} | {:.3} | {} / {} s | {} ({}) | {} in {:.3} h (<= {:.1}) |",
            self.clips,
            share(&self.visible),
            self.told.hits,
            self.told.of,
            share(&self.large),
            self.precise.hits,
            self.precise.of,
            self.area_error(),
            number(median),
            number(p95),
            number(reading),
            number(peer),
            self.false_visible,
            self.intact_hours,
            rate_bound(self.false_visible, self.intact_hours),
        );
        row
    }
}

/// Chance that a value of the first kind is higher than one of the second; equal ones count half.
pub fn auc(high: &[f64], low: &[f64]) -> Option<f64> {
    if high.is_empty() || low.is_empty() {
        return None;
    }
    let mut low = low.to_vec();
    low.sort_by(f64::total_cmp);
    let below = |v: f64| {
        let less = low.partition_point(|&l| l < v);
        let not_more = low.partition_point(|&l| l <= v);
        (less + not_more) as f64 / 2.0
    };
    let sum: f64 = high.iter().map(|&v| below(v)).sum();
    Some(sum / (high.len() * low.len()) as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::truth::Frame;
    use super::*;

    fn found(rule: &str, start_secs: f64, end_secs: f64) -> Found {
        Found {
            detector: DETECTOR.to_owned(),
            rule: rule.to_owned(),
            severity: "warning".to_owned(),
            track: None,
            place: None,
            start_secs,
            end_secs,
            raised_secs: None,
            value: 0.02,
        }
    }

    /// 100 pictures of which 20 to 29 and 60 to 69 are damaged.
    fn truth() -> Truth {
        let area = |n: usize| match n {
            20..30 => 0.1,
            60..70 => 0.02,
            _ => 0.0,
        };
        let frame = |n: usize| Frame {
            secs: n as f64 * 0.04,
            state: if n == 50 {
                State::Missing
            } else {
                State::Shown
            },
            area: area(n),
            mask: Vec::new(),
        };
        Truth {
            frames: (0..100).map(frame).collect(),
            columns: 80,
            strangers: 0,
        }
    }

    fn watched(defects: Vec<Found>, reading: impl Fn(usize) -> f64) -> Watched {
        let readings = (0..100)
            .map(|n| (n as f64 * 0.04, Some(reading(n))))
            .collect();
        Watched {
            defects,
            readings: [(SIGNAL.to_owned(), readings)].into(),
            media_secs: 4.0,
            ..Watched::default()
        }
    }

    #[test]
    fn events_pictures_and_areas_are_counted() {
        let defects = vec![
            found("severe_damage", 0.88, 1.3),
            found("slight_damage", 2.4, 2.8),
            found("visible_damage", 3.4, 3.5),
        ];
        let watched = watched(defects, |n| match n {
            22..32 => 0.1,
            60..70 => 0.002,
            85..88 => 0.01,
            _ => 0.0,
        });
        let mut tally = Tally::default();
        let failures = tally.add(&Evaluated {
            truth: &truth(),
            watched: &watched,
            twin: &Watched::default(),
            peer: None,
            against_twin: false,
        });
        assert_eq!(tally.visible, Share { hits: 1, of: 2 });
        assert_eq!(tally.told, Share { hits: 2, of: 2 });
        assert_eq!(tally.large, Share { hits: 1, of: 1 });
        assert_eq!(tally.precise, Share { hits: 1, of: 2 });
        assert_eq!(tally.pictures, [8, 12, 5, 74]);
        assert_eq!((tally.neither, tally.unread), (1, 0));
        // Two of 0.1 and ten of 0.018, of twenty.
        assert!((tally.area_error() - 0.019).abs() < 1e-9);
        assert!((tally.latency_secs().0.unwrap() - 0.08).abs() < 1e-9);
        let kinds: Vec<&str> = failures.iter().map(|f| f.kind).collect();
        assert_eq!(kinds, ["only slight", "false"]);
    }

    #[test]
    fn the_curve_is_that_of_ranks() {
        assert_eq!(auc(&[2.0, 3.0], &[1.0, 0.0]), Some(1.0));
        assert_eq!(auc(&[1.0, 1.0], &[1.0]), Some(0.5));
        assert_eq!(auc(&[1.0, 3.0], &[2.0, 0.0]), Some(0.75));
        assert_eq!(auc(&[], &[1.0]), None);
    }

    #[test]
    fn intact_twins_count_hours_and_false_alerts() {
        let mut tally = Tally::default();
        let mut twin = watched(vec![found("visible_damage", 1.0, 2.0)], |_| 0.0);
        twin.media_secs = 1800.0;
        assert_eq!(tally.add_intact(&twin).len(), 1);
        assert_eq!((tally.false_visible, tally.intact_hours), (1, 0.5));
    }
}
