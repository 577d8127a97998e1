//! When stills, blacks and silences are part of the programme.

use detectors::base::{Kind, Track};
use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use super::check::{Checker, Section};
use super::raw::Node;
use super::schema;

/// Days of the week as written.
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A part of some days of the week in which a still, a black or a silence is expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Days on which it begins.
    days: Vec<Weekday>,
    from: Time,
    /// Up to `from`: of the next day.
    until: Time,
    zone: TimeZone,
}

impl Expected {
    /// Whether it is now.
    pub fn covers(&self, now: Timestamp) -> bool {
        let now = now.to_zoned(self.zone.clone());
        let (day, time) = (now.weekday(), now.time());
        let today = self.days.contains(&day);
        if self.from < self.until {
            return today && self.from <= time && time < self.until;
        }
        let yesterday = self.days.contains(&day.previous());
        today && self.from <= time || yesterday && time < self.until
    }

    /// As it may stand in the file, on one line.
    pub(super) fn written(&self) -> String {
        let day = |day: &Weekday| {
            DAYS.iter()
                .find(|(_, of)| of == day)
                .map_or("", |(name, _)| name)
        };
        let days: Vec<&str> = self.days.iter().map(day).collect();
        let zone = self.zone.iana_name().unwrap_or("UTC");
        format!(
            "{{days: [{}], from: \"{}\", until: \"{}\", time_zone: {zone}}}",
            days.join(", "),
            self.from.strftime("%H:%M"),
            self.until.strftime("%H:%M"),
        )
    }
}

impl Checker<'_> {
    pub(super) fn expected(&mut self, s: Section<'_>) -> Vec<Expected> {
        let items = self.items(s, "expected");
        items
            .iter()
            .filter_map(|node| self.expected_one(node))
            .collect()
    }

    fn expected_one(&mut self, node: &Node) -> Option<Expected> {
        let s = self.open(node, &[schema::EXPECTED]);
        let mut days = Vec::new();
        for name in self.texts(s, "days") {
            match DAYS.iter().find(|(known, _)| *known == name) {
                Some((_, day)) => days.push(*day),
                None => {
                    let at = s.node.get("days").unwrap_or(node);
                    let says =
                        format!("`{name}` is no day: write mon, tue, wed, thu, fri, sat, sun");
                    self.wrong(at, says, None);
                }
            }
        }
        let from = self.time(s, "from");
        let until = self.time(s, "until");
        let name = self.text(s, "time_zone").unwrap_or_default();
        let zone = TimeZone::get(&name).ok();
        if zone.is_none() {
            let at = s.node.get("time_zone").unwrap_or(node);
            let hint = "write a name such as `Europe/Berlin`, or `UTC`".to_owned();
            self.wrong(at, format!("`{name}` is no time zone"), hint);
        }
        Some(Expected {
            days,
            from: from?,
            until: until?,
            zone: zone?,
        })
    }

    fn time(&mut self, s: Section<'_>, name: &str) -> Option<Time> {
        let Some(node) = s.node.get(name) else {
            self.missing(s.node, name, None);
            return None;
        };
        let text = self.text_in(node)?;
        let time = Time::strptime("%H:%M", &text).ok();
        if time.is_none() {
            let hint = "write hours and minutes in quotes, such as \"02:30\"".to_owned();
            self.wrong(node, "must be a time of day", hint);
        }
        time
    }

    pub(super) fn quiet_tracks(&mut self, s: Section<'_>) -> Vec<Track> {
        let mut tracks = Vec::new();
        for word in self.texts(s, "quiet_tracks") {
            let index = word.strip_prefix("audio:").and_then(|n| n.parse().ok());
            match index {
                Some(index) => tracks.push(Track {
                    kind: Kind::Audio,
                    index,
                }),
                None => {
                    let at = s.node.get("quiet_tracks").unwrap_or(s.node);
                    let hint = "write `audio:0`, `audio:1`, …".to_owned();
                    self.wrong(at, format!("`{word}` is no sound track"), hint);
                }
            }
        }
        tracks
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn expected(days: &[Weekday], from: (i8, i8), until: (i8, i8), zone: &str) -> Expected {
        Expected {
            days: days.to_vec(),
            from: Time::constant(from.0, from.1, 0, 0),
            until: Time::constant(until.0, until.1, 0, 0),
            zone: TimeZone::get(zone).unwrap(),
        }
    }

    #[test]
    fn a_night_begins_on_its_day_and_ends_on_the_next() {
        let night = expected(&[Weekday::Friday], (23, 30), (5, 0), "UTC");
        for (time, covered) in [
            ("2026-11-20T23:29:59Z", false),
            ("2026-11-20T23:30:00Z", true),
            ("2026-11-21T04:59:59Z", true),
            ("2026-11-21T05:00:00Z", false),
            ("2026-11-21T23:45:00Z", false),
            ("2026-11-20T04:00:00Z", false),
        ] {
            assert_eq!(night.covers(at(time)), covered, "{time}");
        }
    }

    #[test]
    fn clocks_that_change_are_followed() {
        let morning = expected(&DAYS.map(|(_, day)| day), (3, 0), (4, 0), "Europe/Berlin");
        assert!(morning.covers(at("2026-07-01T01:30:00Z")), "UTC+2");
        assert!(!morning.covers(at("2026-07-01T02:30:00Z")));
        assert!(morning.covers(at("2026-12-01T02:30:00Z")), "UTC+1");
        assert!(morning.written().contains("time_zone: Europe/Berlin"));
    }
}
