//! From XML to a manifest: inheritance and base URLs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::xml::Element;
use super::{
    AdaptationSet, Addressing, ByteRange, Clock, Content, Mpd, MpdError, PatchLocation, Period,
    Representation, Resource, Run, Segments, Source, Timing, UnixNanos, events, time,
};

/// What stands for nothing (5.5.3).
const RESOLVE_TO_ZERO: &str = "urn:mpeg:dash:resolve-to-zero:2013";
/// Longest `availabilityTimeOffset` that is believed.
const EARLY_MAX: Duration = Duration::from_secs(3600);
/// Most parts of one segment.
const PARTS_MAX: u64 = 1000;
/// A century.
const SECS_MAX: f64 = 100.0 * 365.0 * 86_400.0;

/// Most levels that one thing may inherit from.
type Chain<'a> = [&'a Element];

/// Timelines that several representations inherit are read once, by their place in memory.
type Timelines = HashMap<usize, Arc<[Run]>>;

pub(super) fn read(document: Element, url: &Url) -> Result<Mpd, MpdError> {
    let root = &document;
    if root.name != "MPD" {
        return Err(MpdError::NotAnMpd);
    }
    let base = base(url, root)?;
    let location = match root.first("Location").and_then(Element::text) {
        Some(text) => Some(url.join(text).map_err(|_| MpdError::BadUrl)?),
        None => None,
    };
    let span = |name| root.attribute(name).and_then(duration);
    let mut mpd = Mpd {
        live: root.attribute("type") == Some("dynamic"),
        available_from: root
            .attribute("availabilityStartTime")
            .and_then(time)
            .unwrap_or(0),
        duration: span("mediaPresentationDuration"),
        update_every: span("minimumUpdatePeriod"),
        window: span("timeShiftBufferDepth"),
        delay: span("suggestedPresentationDelay"),
        latency: latency(root),
        location,
        patch: patch_location(root, url),
        clocks: root
            .all("UTCTiming")
            .filter_map(|e| clock(e, url))
            .collect(),
        remote: root.all("Period").any(names_remote),
        periods: Vec::new(),
        source: None,
    };
    if !mpd.live {
        mpd.available_from = 0;
    }
    let mut timelines = Timelines::new();
    let mut next = (!mpd.live).then_some(Duration::ZERO);
    for element in root.all("Period").filter(|e| !is_zero(e)) {
        let told = element.attribute("start").and_then(duration);
        // Without a start it is announced early and nothing is known of its time.
        let Some(start) = told.or(next) else {
            continue;
        };
        let length = element.attribute("duration").and_then(duration);
        if let Some(before) = mpd.periods.last_mut()
            && before.duration.is_none()
        {
            before.duration = Some(start.saturating_sub(before.start));
        }
        // What is not followed takes no time, unless it says so.
        let nothing = is_remote(element) && element.children.is_empty();
        let length = length.or(nothing.then_some(Duration::ZERO));
        next = length.map(|length| start.saturating_add(length));
        mpd.periods.push(Period {
            start,
            duration: length,
            sets: sets(element, (&base, early(root)), &mut timelines)?,
            events: events::read(element),
        });
    }
    if let Some(last) = mpd.periods.last_mut()
        && last.duration.is_none()
    {
        last.duration = mpd.duration.map(|all| all.saturating_sub(last.start));
    }
    if mpd.patch.is_some() {
        mpd.source = Some(Arc::new(Source {
            root: document,
            url: url.clone(),
        }));
    }
    Ok(mpd)
}

/// Whether another document is meant to take the element's place.
fn is_remote(element: &Element) -> bool {
    element
        .attribute("href")
        .is_some_and(|href| href != RESOLVE_TO_ZERO)
}

fn is_zero(element: &Element) -> bool {
    element.attribute("href") == Some(RESOLVE_TO_ZERO)
}

fn names_remote(period: &Element) -> bool {
    is_remote(period) || period.children.iter().any(is_remote)
}

/// The first target of the `ServiceDescription` elements.
fn latency(root: &Element) -> Option<Duration> {
    let mut told = root
        .all("ServiceDescription")
        .flat_map(|e| e.all("Latency"));
    let millis = told.find_map(|e| e.attribute("target")?.parse().ok())?;
    Some(Duration::from_millis(millis))
}

/// Where the first patch is that is offered; without a time of publication none can be applied.
fn patch_location(root: &Element, url: &Url) -> Option<PatchLocation> {
    let published = root.attribute("publishTime").and_then(time)?;
    root.attribute("id")?;
    let element = root.first("PatchLocation")?;
    let until = element.attribute("ttl").and_then(seconds).map(|ttl| {
        let ttl = UnixNanos::try_from(ttl.as_nanos()).unwrap_or(UnixNanos::MAX);
        published.saturating_add(ttl)
    });
    Some(PatchLocation {
        url: url.join(element.text()?).ok()?,
        until,
    })
}

/// Seconds as a decimal number, at most a century.
fn seconds(text: &str) -> Option<Duration> {
    let secs: f64 = text.parse().ok()?;
    (0.0..=SECS_MAX)
        .contains(&secs)
        .then(|| Duration::from_secs_f64(secs))
}

/// `availabilityTimeOffset` of an element's `BaseURL`. One without end (`INF`) says nothing about live segments.
fn early(element: &Element) -> Duration {
    let told = element
        .first("BaseURL")
        .and_then(|e| e.attribute("availabilityTimeOffset"));
    told.and_then(seconds).unwrap_or_default()
}

fn clock(element: &Element, url: &Url) -> Option<Clock> {
    let scheme = element.attribute("schemeIdUri")?;
    let kind = scheme.strip_prefix("urn:mpeg:dash:utc:").unwrap_or("");
    let value = element.attribute("value").unwrap_or("");
    // One of several places may be taken.
    let place = || url.join(value.split_whitespace().next()?).ok();
    match kind.split(':').next()? {
        "direct" => time(value).map(Clock::Direct),
        "http-iso" | "http-xsdate" => place().map(Clock::Http),
        "http-head" => place().map(Clock::Head),
        "ntp" => Some(Clock::Unused("ntp")),
        "sntp" => Some(Clock::Unused("sntp")),
        "http-ntp" => Some(Clock::Unused("http-ntp")),
        _ => Some(Clock::Unused("unknown")),
    }
}

fn base(parent: &Url, element: &Element) -> Result<Url, MpdError> {
    match element.first("BaseURL").and_then(Element::text) {
        Some(text) => parent.join(text).map_err(|_| MpdError::BadUrl),
        None => Ok(parent.clone()),
    }
}

/// `parent`: base URL, and how early it makes segments available.
fn sets(
    period: &Element,
    parent: (&Url, Duration),
    timelines: &mut Timelines,
) -> Result<Vec<AdaptationSet>, MpdError> {
    let period_base = base(parent.0, period)?;
    let mut sets = Vec::new();
    for set in period.all("AdaptationSet").filter(|set| !is_zero(set)) {
        let set_base = base(&period_base, set)?;
        let mut content = None;
        let mut representations = Vec::new();
        for own in set.all("Representation") {
            let chain = [own, set, period];
            let Some(kind) = kind(&chain[..2]) else {
                continue;
            };
            content.get_or_insert(kind);
            let mut made = representation(&chain, base(&set_base, own)?, timelines);
            let bases = chain.iter().map(|element| early(element));
            let own_early = &mut made.addressing.early;
            *own_early = bases
                .fold(*own_early + parent.1, |all, one| all + one)
                .min(EARLY_MAX);
            representations.push(made);
        }
        if let Some(content) = content
            && !is_trick(set)
        {
            sets.push(AdaptationSet {
                content,
                language: set.attribute("lang").map(str::to_owned),
                main: set
                    .all("Role")
                    .any(|role| role.attribute("value") == Some("main")),
                representations,
            });
        }
    }
    Ok(sets)
}

/// Pictures for seeking only (DASH-IF IOP, trick modes).
fn is_trick(set: &Element) -> bool {
    set.all("EssentialProperty")
        .filter_map(|property| property.attribute("schemeIdUri"))
        .any(|scheme| scheme.ends_with("/trickmode"))
}

/// An attribute of the innermost element that has it.
fn inherited<'a>(chain: &Chain<'a>, name: &str) -> Option<&'a str> {
    chain.iter().find_map(|element| element.attribute(name))
}

fn kind(chain: &Chain<'_>) -> Option<Content> {
    let component = |wanted: &str| {
        chain.iter().any(|element| {
            element
                .all("ContentComponent")
                .any(|part| part.attribute("contentType") == Some(wanted))
        })
    };
    let codecs = inherited(chain, "codecs").unwrap_or("");
    let has = |families: &[&str]| {
        codecs
            .split(',')
            .any(|codec| families.iter().any(|f| codec.trim().starts_with(f)))
    };
    let pictures = has(&[
        "avc", "hvc", "hev", "dvh", "dva", "vvc", "vvi", "av01", "vp", "mp4v",
    ]);
    let sound = has(&[
        "mp4a", "ac-", "ec-", "opus", "Opus", "vorbis", "flac", "fLaC", "mha", "mhm", "dts",
    ]);
    if (component("video") && component("audio")) || (pictures && sound) {
        return Some(Content::Muxed);
    }
    let mime = inherited(chain, "mimeType").unwrap_or("");
    let family = mime.split('/').next().unwrap_or("");
    for word in [inherited(chain, "contentType").unwrap_or(""), family] {
        match word {
            "video" => return Some(Content::Video),
            "audio" => return Some(Content::Audio),
            "" | "application" => {}
            // Subtitles, thumbnails.
            _ => return None,
        }
    }
    match (pictures, sound) {
        (true, _) => Some(Content::Video),
        (_, true) => Some(Content::Audio),
        _ => None,
    }
}

fn representation(chain: &Chain<'_>, base: Url, timelines: &mut Timelines) -> Representation {
    let number = |name| inherited(chain, name).and_then(|text| text.parse().ok());
    let height = inherited(chain, "height").and_then(|text| text.parse().ok());
    Representation {
        id: inherited(&chain[..1], "id").unwrap_or("").to_owned(),
        bandwidth: number("bandwidth").unwrap_or(0),
        height,
        mime: inherited(chain, "mimeType")
            .unwrap_or("")
            .to_ascii_lowercase(),
        encrypted: chain
            .iter()
            .any(|element| element.first("ContentProtection").is_some()),
        licence: licence(chain, &base),
        base,
        addressing: addressing(chain, timelines),
    }
}

/// Where ClearKey licences are given (DASH-IF IOP, content protection).
fn licence(chain: &Chain<'_>, base: &Url) -> Option<Arc<str>> {
    const CLEAR_KEY: &str = "urn:uuid:e2719d58-a985-b3c9-781a-b030af78d30e";
    let protections = chain.iter().flat_map(|e| e.all("ContentProtection"));
    let clear_key = |e: &&Element| {
        e.attribute("schemeIdUri")
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(CLEAR_KEY))
    };
    protections
        .filter(clear_key)
        .flat_map(|e| &e.children)
        .find(|e| e.name.eq_ignore_ascii_case("laurl"))
        .and_then(Element::text)
        .and_then(|text| base.join(text).ok())
        .map(|url| url.as_str().into())
}

/// The innermost kind of addressing, with what it inherits from the same kind further out.
fn addressing(chain: &Chain<'_>, timelines: &mut Timelines) -> Addressing {
    const KINDS: [&str; 3] = ["SegmentTemplate", "SegmentList", "SegmentBase"];
    let kind = chain
        .iter()
        .find_map(|element| KINDS.into_iter().find(|kind| element.first(kind).is_some()))
        .unwrap_or("SegmentBase");
    let own: Vec<&Element> = chain.iter().filter_map(|e| e.first(kind)).collect();
    let child = |name: &str| own.iter().find_map(|element| element.first(name));
    let number = |name| inherited(&own, name).and_then(|text| text.parse::<u64>().ok());
    let init = match child("Initialization").or_else(|| child("Initialisation")) {
        Some(element) => Some(Resource {
            uri: element.attribute("sourceURL").unwrap_or("").to_owned(),
            range: element.attribute("range").and_then(range),
        }),
        None => inherited(&own, "initialization").map(|template| Resource {
            uri: template.to_owned(),
            range: None,
        }),
    };
    let timing = match (child("SegmentTimeline"), number("duration")) {
        (Some(element), _) => Timing::Timeline(timeline(element, timelines)),
        (None, Some(ticks)) if ticks > 0 => Timing::Every(ticks),
        _ => Timing::Untold,
    };
    let media = match kind {
        "SegmentTemplate" => Segments::Template(inherited(&own, "media").unwrap_or("").to_owned()),
        "SegmentList" => {
            let holder = own.iter().find(|e| e.first("SegmentURL").is_some());
            let entries = holder.into_iter().flat_map(|e| e.all("SegmentURL"));
            let resource = |element: &Element| Resource {
                uri: element.attribute("media").unwrap_or("").to_owned(),
                range: element.attribute("mediaRange").and_then(range),
            };
            Segments::List(entries.map(resource).collect())
        }
        _ => Segments::Whole {
            index: inherited(&own, "indexRange").and_then(range),
        },
    };
    Addressing {
        init,
        media,
        timing,
        timescale: number("timescale").unwrap_or(1).max(1),
        offset: number("presentationTimeOffset").unwrap_or(0),
        start_number: number("startNumber").unwrap_or(1),
        end_number: number("endNumber"),
        early: inherited(&own, "availabilityTimeOffset")
            .and_then(seconds)
            .unwrap_or_default(),
    }
}

fn timeline(element: &Element, timelines: &mut Timelines) -> Arc<[Run]> {
    let place = std::ptr::from_ref(element).addr();
    let known = timelines.entry(place).or_insert_with(|| {
        let run = |s: &Element| {
            let number = |name| s.attribute(name).and_then(|text| text.parse().ok());
            Some(Run {
                time: number("t"),
                duration: number("d").filter(|ticks| *ticks > 0)?,
                repeat: match s.attribute("r") {
                    None => Some(0),
                    Some(text) if text.starts_with('-') => None,
                    Some(text) => Some(text.parse().unwrap_or(0)),
                },
                parts: number("k").unwrap_or(1).clamp(1, PARTS_MAX),
            })
        };
        element.all("S").filter_map(run).collect()
    });
    Arc::clone(known)
}

/// `first-last`, both included.
fn range(text: &str) -> Option<ByteRange> {
    let (first, last) = text.split_once('-')?;
    let (start, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let len = last.checked_sub(start)?.checked_add(1)?;
    Some(ByteRange { start, len })
}

/// `xs:duration`, at most a century; a year has 365 days and a month 30. Negative ones count as absent.
fn duration(text: &str) -> Option<Duration> {
    let (mut day_units, mut time_units) = (
        [
            ('Y', 365.0 * 86_400.0),
            ('M', 30.0 * 86_400.0),
            ('D', 86_400.0),
        ]
        .iter(),
        [('H', 3_600.0), ('M', 60.0), ('S', 1.0)].iter(),
    );
    let mut rest = text.trim().strip_prefix('P')?;
    let mut in_time = false;
    let mut secs = 0.0;
    let mut any = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T').filter(|_| !in_time) {
            (rest, in_time) = (after, true);
            continue;
        }
        let at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let value: f64 = rest[..at].parse().ok().filter(|v: &f64| *v >= 0.0)?;
        let unit = rest[at..].chars().next()?;
        let units = match in_time {
            false => &mut day_units,
            true => &mut time_units,
        };
        let (_, factor) = units.find(|(own, _)| *own == unit)?;
        secs += value * factor;
        any = true;
        rest = &rest[at + 1..];
    }
    (any && secs <= SECS_MAX).then(|| Duration::from_secs_f64(secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_nonsense_is_absent() {
        let millis = |text| duration(text).map(|d| d.as_millis());
        for (text, expected) in [
            ("PT2S", Some(2_000)),
            ("PT0.5S", Some(500)),
            ("PT1H1M1.001S", Some(3_661_001)),
            ("P1DT1S", Some(86_401_000)),
            ("P1M", Some(30 * 86_400_000)),
            ("P0Y0M0DT0H3M30.000S", Some(210_000)),
            ("PT0S", Some(0)),
            ("-PT1S", None),
            ("PT", None),
            ("P", None),
            ("", None),
            ("PT1", None),
            ("PT1S1H", None),
            ("PTNaNS", None),
            ("PT1e400S", None),
            ("P1S", None),
            ("P9999Y", None),
            ("PT5\u{e9}S", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }

    #[test]
    fn byte_ranges_include_their_last_byte() {
        assert_eq!(range("10-19"), Some(ByteRange { start: 10, len: 10 }));
        for bad in ["", "5", "9-5", "-5", "0-18446744073709551615"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
