//! Small plots as SVG: no scripts, readable on light and dark ground.

use std::fmt::Write as _;

use detectors::base::MediaTime;

use super::numbers::{Level, Series};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
/// Room for the labels: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (64.0, 34.0, 14.0, 38.0);
/// What a strip of sound shows, dBFS.
const SOUND_RANGE: (f64, f64) = (-72.0, 0.0);

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}.t{font-size:14px}\
.g{stroke:#8888;stroke-width:1}.v{fill:none;stroke:#0b57a4;stroke-width:1.6}.b{fill:#0b57a4;fill-opacity:.3}\
.l{stroke:#b00020;stroke-width:1.4;stroke-dasharray:6 4}.z{stroke:#b05a00;stroke-width:1.4}\
@media(prefers-color-scheme:dark){text{fill:#eee}.v{stroke:#7db7ff}.b{fill:#7db7ff}.l{stroke:#ff8a8a}.z{stroke:#ffb454}}";

/// The axes of a plot: seconds from `zero`, and values.
struct Frame {
    zero: MediaTime,
    secs: (f64, f64),
    values: (f64, f64),
    out: String,
}

impl Frame {
    fn new(title: &str, zero: MediaTime, secs: (f64, f64), values: (f64, f64)) -> Self {
        let title = escape(title);
        let out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\"><title>{title}</title><style>{STYLE}</style>\
             <text class=\"t\" x=\"{}\" y=\"20\">{title}</text>",
            MARGIN.0
        );
        let mut frame = Self {
            zero,
            secs: (secs.0, secs.1.max(secs.0 + 1.0)),
            values,
            out,
        };
        frame.axes();
        frame
    }

    fn x(&self, secs: f64) -> f64 {
        let (from, to) = self.secs;
        let room = WIDTH - MARGIN.0 - MARGIN.2;
        MARGIN.0 + (secs.clamp(from, to) - from) / (to - from) * room
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let room = HEIGHT - MARGIN.1 - MARGIN.3;
        HEIGHT - MARGIN.3 - (value.clamp(low, high) - low) / (high - low) * room
    }

    fn at(&self, media: MediaTime) -> f64 {
        self.x(media.secs_after(self.zero))
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            self.out,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn text(&mut self, at: (f64, f64), anchor: &str, text: &str) {
        let _ = write!(
            self.out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            at.0,
            at.1,
            escape(text)
        );
    }

    fn axes(&mut self) {
        let (left, right) = (self.x(self.secs.0), self.x(self.secs.1));
        let (low, high) = self.values;
        for value in [low, (low + high) / 2.0, high] {
            let y = self.y(value);
            self.line("g", (left, y), (right, y));
            self.text((left - 6.0, y + 4.0), "end", &short(value));
        }
        let step = match self.secs.1 - self.secs.0 {
            span if span > 40.0 => 10.0,
            span if span > 12.0 => 5.0,
            _ => 1.0,
        };
        let bottom = HEIGHT - MARGIN.3;
        let mut tick = (self.secs.0 / step).ceil() * step;
        while tick <= self.secs.1 {
            let x = self.x(tick);
            self.line("g", (x, bottom), (x, bottom + 4.0));
            self.text((x, bottom + 18.0), "middle", &format!("{tick:+.0} s"));
            tick += step;
        }
        if self.secs.0 <= 0.0 && 0.0 <= self.secs.1 {
            let x = self.x(0.0);
            self.line("z", (x, MARGIN.1), (x, bottom));
            self.text((x, HEIGHT - 4.0), "middle", "defect begins");
        }
    }

    /// A band between low and high values, which runs out where there are none.
    fn band(&mut self, points: &[(f64, f64, f64)]) {
        let corner = |(x, y): (f64, f64)| format!("{x:.1},{y:.1} ");
        let there: String = points
            .iter()
            .map(|(x, _, high)| corner((*x, *high)))
            .collect();
        let back = points.iter().rev().map(|(x, low, _)| corner((*x, *low)));
        let back: String = back.collect();
        let _ = write!(
            self.out,
            "<polygon class=\"b\" points=\"{there}{back}\"/><polyline class=\"v\" points=\"{there}\"/>"
        );
    }

    fn finish(self) -> String {
        self.out + "</svg>\n"
    }
}

/// A number in few characters.
fn short(value: f64) -> String {
    match value.abs() {
        n if n >= 100.0 => format!("{value:.0}"),
        n if n >= 1.0 => format!("{value:.1}"),
        n if n >= 0.01 || n == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.1e}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A signal over time with the limit that it broke; `secs` is the time shown, from `zero`, the defect's beginning.
pub fn signal(series: &Series, limit: f64, zero: MediaTime, secs: (f64, f64)) -> String {
    let values = || series.points.iter().filter_map(|p| p.range);
    let (mut low, mut high) = values()
        .map(|(low, high)| (f64::from(low), f64::from(high)))
        .fold((limit, limit), |all, one| {
            (all.0.min(one.0), all.1.max(one.1))
        });
    if high - low < 1e-9 {
        (low, high) = (low - 1.0, high + 1.0);
    }
    // The limit is no edge of the plot.
    let room = (high - low) * 0.08;
    let (least, most) = series.signal.range;
    let values = (
        (low - room).max(least.min(low)),
        (high + room).min(most.max(high)),
    );
    let track = series.track.map_or(String::new(), |t| format!(" of {t}"));
    let title = format!(
        "{} {}{track}, {}",
        series.detector, series.signal.name, series.signal.unit
    );
    let mut frame = Frame::new(&title, zero, secs, values);
    let y = frame.y(limit);
    frame.line("l", (frame.x(secs.0), y), (frame.x(secs.1), y));
    frame.text(
        (WIDTH - MARGIN.2 - 2.0, y - 4.0),
        "end",
        &format!("limit {}", short(limit)),
    );
    let mut run = Vec::new();
    for point in &series.points {
        match point.range {
            Some((low, high)) => run.push((
                frame.at(point.at),
                frame.y(f64::from(low)),
                frame.y(f64::from(high)),
            )),
            None => frame.band(&std::mem::take(&mut run)),
        }
    }
    frame.band(&run);
    frame.finish()
}

/// A strip of sound: peaks as a line, root mean square as an area.
pub fn sound(levels: &[Level], zero: MediaTime, secs: (f64, f64)) -> String {
    let title = "Sound, dBFS: peak (line) and RMS (area)";
    let mut frame = Frame::new(title, zero, secs, SOUND_RANGE);
    let corner = |x: f64, y: f64| format!("{x:.1},{y:.1} ");
    let (mut peaks, mut area) = (String::new(), String::new());
    let ground = frame.y(SOUND_RANGE.0);
    for level in levels {
        let x = frame.at(level.at);
        let rms = frame.y(f64::from(level.rms_dbfs));
        peaks += &corner(x, frame.y(f64::from(level.peak_dbfs)));
        area += &corner(x, rms);
    }
    if let (Some(first), Some(last)) = (levels.first(), levels.last()) {
        let (first, last) = (frame.at(first.at), frame.at(last.at));
        area = corner(first, ground) + &area + &corner(last, ground);
    }
    let _ = write!(
        frame.out,
        "<polygon class=\"b\" points=\"{area}\"/><polyline class=\"v\" points=\"{peaks}\"/>"
    );
    frame.finish()
}
