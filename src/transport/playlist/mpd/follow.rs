//! Following a pinned representation over the reloads of its manifest and over time.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::super::follow::{News, RELOAD_MIN, STALLED_AFTER_TARGETS};
use super::super::{BreakEvent, ByteRange, ENTRIES_MAX, Master, Media, Variant};
use super::segments::{Index, Layout, Slot, Unplayable, nanos};
use super::{AdaptationSet, Content, Mpd, Period, Representation, Segments, UnixNanos};
use crate::config::Rendition;

/// Of a live presentation this much is looked at, when it tells no shorter window.
const WINDOW: Duration = Duration::from_secs(600);
/// Most segments of a live window.
const WINDOW_SEGMENTS: u64 = 4096;
/// Most numbers that are given out below the first segment seen, for what turns out to lie before it.
const HISTORY: u64 = 1_000_000;
/// A live manifest that asks for no update is still loaded this often: the origin may have been restarted.
const RELOAD_UNASKED: Duration = Duration::from_secs(30);
/// Most indexes that are kept.
const INDEXES_MAX: usize = 1024;
/// Segment durations are taken as at least and at most this.
const TARGET: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(120);

/// Which part of the presentation is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The pinned representation: pictures, or sound where there are none.
    Main,
    /// The sound beside it.
    Audio,
}

/// One of several representations that are watched as one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Unique among its fellows, short enough for an alert: `720p@3000k`.
    pub name: String,
    /// What pins it.
    pub rule: Rendition,
    /// What stands for it in a period that does not know it.
    pub otherwise: Rendition,
    /// It holds pictures and sound.
    pub muxed: bool,
}

impl Mpd {
    /// What is watched by a rule for several, the highest first: those of the first period that has any.
    pub fn members(&self, rule: &Rendition) -> Vec<Member> {
        let of = |period| {
            let offers = offers(period, rule, Role::Main)?.0;
            let ladder = ladder(&offers);
            let members = ladder.members(rule).into_iter().map(|member| {
                let at = member
                    .pick
                    .and_then(|p| p.variant.uri.parse::<usize>().ok());
                let found = at.and_then(|at| offers.get(at));
                let id = found.map_or(&member.name, |(_, own)| &own.id);
                Member {
                    rule: Rendition::Name(id.clone()),
                    otherwise: match found {
                        Some((_, own)) => Rendition::Bandwidth(own.bandwidth),
                        None => Rendition::Highest,
                    },
                    muxed: found.is_some_and(|(set, _)| set.content == Content::Muxed),
                    name: member.name,
                }
            });
            Some(members.collect::<Vec<_>>()).filter(|all| !all.is_empty())
        };
        self.periods.iter().find_map(of).unwrap_or_default()
    }

    /// Whether sound is to be read beside the main representation, and in which language it is.
    pub fn audio_beside(&self, rule: &Rendition) -> Option<Option<String>> {
        self.periods.iter().find_map(|period| {
            let (set, _) = pick(period, rule, Role::Audio)?;
            Some(set.language.clone())
        })
    }
}

type Offer<'a> = (&'a AdaptationSet, &'a Representation);

/// The representation that is watched in a period, by the same rule as the variants of an HLS master playlist.
fn pick<'a>(period: &'a Period, rule: &Rendition, role: Role) -> Option<Offer<'a>> {
    let (offers, rule) = offers(period, rule, role)?;
    let at: usize = ladder(&offers).pick(&rule)?.variant.uri.parse().ok()?;
    offers.get(at).copied()
}

/// What a role may be given in a period, and by which rule one is picked.
fn offers<'a>(
    period: &'a Period,
    rule: &Rendition,
    role: Role,
) -> Option<(Vec<Offer<'a>>, Rendition)> {
    let of = |wanted: &[Content]| {
        let sets = period.sets.iter();
        let mut sets: Vec<_> = sets.filter(|set| wanted.contains(&set.content)).collect();
        // Main content that cannot be read is taken all the same, so that it is told rather than left out.
        let readable = |set: &&AdaptationSet| set.representations.iter().any(is_read);
        if role == Role::Audio || sets.iter().any(readable) {
            sets.retain(readable);
        }
        sets
    };
    let pictures = of(&[Content::Video, Content::Muxed]);
    let mut sound = of(&[Content::Audio]);
    // The main sound, else the first.
    sound.sort_by_key(|set| !set.main);
    sound.truncate(1);
    let (sets, rule) = match (role, pictures.is_empty()) {
        (Role::Main, false) => (pictures, rule.clone()),
        (Role::Main, true) => (sound, rule.clone()),
        (Role::Audio, true) => return None,
        (Role::Audio, false) => {
            let main = pick(period, rule, Role::Main)?;
            if main.0.content == Content::Muxed {
                return None;
            }
            let lowest = matches!(rule, Rendition::Lowest);
            (
                sound,
                if lowest {
                    Rendition::Lowest
                } else {
                    Rendition::Highest
                },
            )
        }
    };
    let offers: Vec<_> = sets
        .into_iter()
        .flat_map(|set| set.representations.iter().map(move |own| (set, own)))
        .filter(|(set, own)| is_read(own) || !set.representations.iter().any(is_read))
        .collect();
    Some((offers, rule))
}

/// Representations as an HLS master would list them; each is named by its place.
fn ladder(offers: &[Offer<'_>]) -> Master {
    let variants = offers.iter().enumerate().map(|(at, (_, own))| Variant {
        uri: at.to_string(),
        bandwidth: own.bandwidth,
        height: own.height,
        name: Some(own.id.clone()),
        ..Variant::default()
    });
    Master {
        variants: variants.collect(),
        audio: Vec::new(),
    }
}

fn is_read(representation: &Representation) -> bool {
    let family = representation.mime.rsplit('/').next().unwrap_or("");
    matches!(
        family,
        "" | "mp4" | "mp2t" | "webm" | "x-matroska" | "iso.segment"
    )
}

/// A live presentation of known length that will not be updated.
fn is_over(mpd: &Mpd, clock: UnixNanos) -> bool {
    let end = mpd
        .duration
        .map(|all| mpd.available_from.saturating_add(nanos(all)));
    mpd.update_every.is_none() && end.is_some_and(|end| end < clock)
}

/// A manifest at one moment.
struct Laid {
    media: Media,
    /// When each segment begins.
    starts: Vec<UnixNanos>,
    periods: Vec<(UnixNanos, u64)>,
    next_in: Option<Duration>,
}

/// Break events that take effect in what was laid out, or before it and still last.
fn breaks(mpd: &Mpd, available_from: UnixNanos, laid: &Laid) -> Vec<BreakEvent> {
    let mut found = Vec::new();
    let Some(first) = laid.starts.first() else {
        return found;
    };
    for period in &mpd.periods {
        let origin = available_from.saturating_add(nanos(period.start));
        for event in &period.events {
            let at = origin.saturating_add(event.at_nanos);
            let segment = laid
                .starts
                .partition_point(|start| *start <= at)
                .saturating_sub(1);
            let (Some(start), Some(own)) =
                (laid.starts.get(segment), laid.media.segments.get(segment))
            else {
                continue;
            };
            // What comes later is told when its segment is there.
            let newest = segment + 1 == laid.starts.len();
            if newest && at >= start.saturating_add(nanos(own.duration)) {
                continue;
            }
            for (number, mark) in event.marks.iter().enumerate() {
                let lasts = nanos(mark.planned.unwrap_or_default());
                if at.saturating_add(lasts) >= *first {
                    found.push(BreakEvent {
                        key: (origin, event.id, number),
                        mark: mark.clone(),
                        segment,
                        offset_nanos: at.saturating_sub(*start),
                    });
                }
            }
        }
    }
    found.sort_by_key(|mark| (mark.segment, mark.offset_nanos));
    found
}

/// The state of one followed representation.
#[derive(Debug)]
pub struct Follower {
    role: Role,
    rule: Rendition,
    /// What stands for a name that a later period does not know.
    otherwise: Rendition,
    epoch: u64,
    current: Option<Arc<Media>>,
    available_from: UnixNanos,
    /// When the newest segment ends.
    end: UnixNanos,
    /// Begin of the known periods, each with its place in the order of all.
    periods: Vec<(UnixNanos, u64)>,
    indexes: Vec<(Url, ByteRange, Index)>,
    changed_at: Duration,
    update_every: Duration,
    next_in: Option<Duration>,
    /// The next update begins anew.
    restart: bool,
}

impl Follower {
    /// Follows what the rule pins.
    pub fn new(role: Role, rule: Rendition) -> Self {
        Self {
            role,
            rule,
            otherwise: Rendition::Highest,
            epoch: 0,
            current: None,
            available_from: 0,
            end: 0,
            periods: Vec::new(),
            indexes: Vec::new(),
            changed_at: Duration::ZERO,
            update_every: Duration::ZERO,
            next_in: None,
            restart: false,
        }
    }

    /// The clock was another one all the time: the next update begins at its edge, with numbers of its own.
    pub fn restart(&mut self) {
        self.restart = self.current.is_some();
    }

    /// Follows one of several.
    pub fn member(member: &Member) -> Self {
        Self {
            otherwise: member.otherwise.clone(),
            ..Self::new(Role::Main, member.rule.clone())
        }
    }

    /// The next index (`sidx`) that is needed before [`Follower::update`] can tell segments.
    pub fn wants(&self, mpd: &Mpd) -> Option<(Url, ByteRange)> {
        let picked = mpd
            .periods
            .iter()
            .filter_map(|p| pick(p, &self.rule, self.role));
        let mut wanted = picked.filter_map(|(_, own)| match own.addressing.media {
            Segments::Whole { index: Some(place) } => Some((&own.base, place)),
            _ => None,
        });
        let (url, place) = wanted.find(|(url, place)| self.index(url, *place).is_none())?;
        (self.indexes.len() < INDEXES_MAX).then(|| (url.clone(), place))
    }

    /// Takes an index that was asked for.
    pub fn indexed(&mut self, url: Url, place: ByteRange, bytes: &[u8]) {
        self.indexes.push((url, place, Index::read(bytes, place)));
    }

    fn index(&self, url: &Url, place: ByteRange) -> Option<&Index> {
        let mut known = self.indexes.iter();
        let found = known.find(|(own, at, _)| (own, *at) == (url, place));
        found.map(|(_, _, index)| index)
    }

    /// The segments by now, and how often their numbers began anew before.
    pub fn current(&self) -> Option<(u64, Arc<Media>)> {
        self.current.clone().map(|media| (self.epoch, media))
    }

    /// Lays the manifest out at this time of the wall clock. `now`: since any fixed moment.
    pub fn update(
        &mut self,
        mpd: &Mpd,
        clock: UnixNanos,
        now: Duration,
    ) -> Result<News, Unplayable> {
        // A presentation that is over may no longer say when it began.
        let available_from = match (mpd.live, &self.current) {
            (false, Some(_)) => self.available_from,
            _ => mpd.available_from,
        };
        let Laid {
            mut media,
            starts,
            periods,
            next_in,
        } = self.lay_out(mpd, available_from, clock)?;
        (self.periods, self.next_in) = (periods, next_in);
        let restarted_clock =
            self.available_from != available_from || std::mem::take(&mut self.restart);
        self.available_from = available_from;
        let first = starts.first().copied().unwrap_or(clock);
        let (last_end, last_span) = match (starts.last(), media.segments.last()) {
            (Some(start), Some(last)) => {
                (start.saturating_add(nanos(last.duration)), last.duration)
            }
            _ => (clock, Duration::ZERO),
        };
        self.update_every = mpd.update_every.unwrap_or_default();
        let Some(old) = self.current.clone() else {
            media.sequence = match media.ended {
                true => 0,
                false => HISTORY,
            };
            return Ok(self.take(media, last_end, now, News::Changed));
        };
        let slack = nanos(last_span / 2);
        let fresh = starts
            .iter()
            .position(|start| start.saturating_add(slack) >= self.end);
        let restarted = restarted_clock
            || (fresh.is_none() && last_end.saturating_add(slack) < self.begin(&old));
        if restarted && mpd.live {
            self.epoch += 1;
            media.sequence = HISTORY;
            return Ok(self.take(media, last_end, now, News::Restarted));
        }
        let Some(fresh) = fresh else {
            if !media.ended || old.ended {
                return Ok(News::Same);
            }
            let ended = Media {
                ended: true,
                ..Media::clone(&old)
            };
            return Ok(self.take(ended, self.end, now, News::Changed));
        };
        // What left the manifest unseen.
        let gone = match fresh {
            0 => {
                u64::try_from(first.saturating_sub(self.end).saturating_add(slack)).unwrap_or(0)
                    / u64::try_from(nanos(last_span)).unwrap_or(0).max(1)
            }
            _ => 0,
        };
        let next = old.end().saturating_add(gone);
        media.sequence = match next.checked_sub(fresh as u64) {
            Some(sequence) => sequence,
            None => {
                self.epoch += 1;
                HISTORY
            }
        };
        Ok(self.take(media, last_end, now, News::Changed))
    }

    fn take(&mut self, media: Media, end: UnixNanos, now: Duration, news: News) -> News {
        self.current = Some(Arc::new(media));
        self.end = end;
        self.changed_at = now;
        news
    }

    /// When the oldest known segment begins.
    fn begin(&self, media: &Media) -> UnixNanos {
        let all: Duration = media.segments.iter().map(|s| s.duration).sum();
        self.end.saturating_sub(nanos(all))
    }

    fn lay_out(
        &self,
        mpd: &Mpd,
        available_from: UnixNanos,
        clock: UnixNanos,
    ) -> Result<Laid, Unplayable> {
        let sets = mpd.periods.iter().flat_map(|period| &period.sets);
        let mut all = sets.flat_map(|set| &set.representations).peekable();
        if all.peek().is_some() && !all.any(is_read) {
            return Err(Unplayable::Container);
        }
        let mut layouts = Vec::new();
        let mut offered = false;
        let mut next_in: Option<Duration> = None;
        for period in &mpd.periods {
            let origin = available_from.saturating_add(nanos(period.start));
            let known = period
                .sets
                .iter()
                .any(|set| !set.representations.is_empty());
            offered |= known;
            if period.duration.is_some_and(|length| length.is_zero()) {
                continue;
            }
            // A name that a later period (an advertisement) does not know stands for the best there, or for what
            // compares with it.
            let picked = pick(period, &self.rule, self.role).or_else(|| {
                let named = matches!(self.rule, Rendition::Name(_)) && !layouts.is_empty();
                named.then(|| pick(period, &self.otherwise, self.role))?
            });
            let Some((_, own)) = picked else {
                continue;
            };
            let index = match own.addressing.media {
                Segments::Whole { index: Some(place) } => self.index(&own.base, place),
                _ => None,
            };
            let clock = mpd.live.then_some(clock);
            let early = nanos(own.addressing.early);
            let clock_early = clock.map(|clock| clock.saturating_add(early));
            if clock_early.is_some_and(|clock| clock < origin) {
                let wait =
                    u64::try_from(origin.saturating_sub(clock_early.unwrap_or(0))).unwrap_or(0);
                next_in = next_in.or(Some(Duration::from_nanos(wait)));
                continue;
            }
            let layout = Layout::new(period, own, origin, clock, index)?;
            next_in = layout.next_in.or(next_in);
            layouts.push((origin, layout));
        }
        if layouts.is_empty() {
            return Err(match (offered, next_in) {
                (_, Some(_)) => Unplayable::NotYet,
                (true, _) => Unplayable::NoRendition,
                (false, _) if mpd.periods.is_empty() && mpd.live => Unplayable::NotYet,
                (false, _) => Unplayable::NoRendition,
            });
        }
        let mut laid = self.collect(mpd, layouts)?;
        laid.media.events = breaks(mpd, available_from, &laid);
        laid.media.ended = !mpd.live || (next_in.is_none() && is_over(mpd, clock));
        laid.next_in = next_in;
        match laid.media.segments.is_empty() {
            true if mpd.live => Err(Unplayable::NotYet),
            true => Err(Unplayable::NoSegments),
            false => Ok(laid),
        }
    }

    fn collect(
        &self,
        mpd: &Mpd,
        layouts: Vec<(UnixNanos, Layout<'_>)>,
    ) -> Result<Laid, Unplayable> {
        let window = mpd.window.unwrap_or(WINDOW).max(*TARGET.start());
        let early = layouts
            .last()
            .map_or(Duration::ZERO, |(_, layout)| layout.early());
        let end = layouts.iter().filter_map(|(_, layout)| layout.end()).max();
        let (from, most) = match mpd.live {
            true => (
                end.unwrap_or(0).saturating_sub(nanos(window)),
                WINDOW_SEGMENTS,
            ),
            false => (i64::MIN, u64::MAX),
        };
        let mut media = Media::default();
        let mut starts = Vec::new();
        let mut periods = Vec::new();
        let mut next = self.periods.last().map_or(0, |(_, place)| place + 1);
        for (origin, layout) in layouts {
            let known = self.periods.iter().find(|(own, _)| *own == origin);
            let place = known.map_or(next, |(_, place)| *place);
            next = next.max(place + 1);
            periods.push((origin, place));
            let (first, slots) = layout.slots(from, most)?;
            for (at, Slot { start, mut segment }) in slots.into_iter().enumerate() {
                if media.segments.is_empty() {
                    segment.discontinuity = first && place > 0;
                    media.discontinuity_sequence = place - u64::from(segment.discontinuity);
                } else {
                    segment.discontinuity = at == 0;
                }
                // A live manifest forgets the beginning of a period.
                let late = start.saturating_sub(origin) > nanos(segment.duration);
                let begins = at == 0 && first && !(mpd.live && late);
                segment.manifested = Some(layout.manifested(start, begins));
                starts.push(start);
                media.segments.push(segment);
            }
            if media.segments.len() > ENTRIES_MAX {
                return Err(Unplayable::TooLong);
            }
        }
        let longest = media.segments.iter().map(|s| s.duration).max();
        media.target = longest
            .unwrap_or_default()
            .clamp(*TARGET.start(), *TARGET.end());
        // Never so far back that the first segment leaves the window while it is being read.
        media.hold_back = mpd
            .latency
            .or(mpd.delay)
            .map(|delay| (delay + early).min(window * 3 / 4).max(media.target));
        Ok(Laid {
            media,
            starts,
            periods,
            next_in: None,
        })
    }

    /// When time alone makes a further segment available, from the last update on.
    pub fn next_in(&self) -> Option<Duration> {
        self.next_in.filter(|_| !self.ended())
    }

    /// Whether nothing will be added.
    pub fn ended(&self) -> bool {
        self.current.as_ref().is_some_and(|media| media.ended)
    }

    /// Longest time that may lie between two arrivals: a segment, or an update where only that tells of segments.
    pub fn rhythm(&self) -> Option<Duration> {
        let target = self.current.as_ref()?.target;
        Some(match self.next_in {
            Some(_) => target,
            None => target.max(self.update_every).min(*TARGET.end()),
        })
    }

    /// How long after a load the manifest is to be loaded again: as often as it asks for; where it asks for no
    /// certain rate, after a segment, and after half a segment when that brought nothing new. `None` when nothing
    /// will be added.
    pub fn reload_in(&self, mpd: &Mpd, news: News) -> Option<Duration> {
        let media = self.current.as_ref()?;
        if media.ended {
            return None;
        }
        let wait = match (mpd.update_every, news) {
            (None, _) => RELOAD_UNASKED,
            (Some(every), News::Changed | News::Restarted) if every.is_zero() => media.target,
            (Some(every), News::Same) if every < media.target => media.target / 2,
            (Some(every), _) => every,
        };
        Some(wait.max(RELOAD_MIN))
    }

    /// When the newest segment ends, on the wall clock.
    pub fn end(&self) -> UnixNanos {
        self.end
    }

    /// How long the manifest has brought nothing new.
    pub fn unchanged(&self, now: Duration) -> Duration {
        now.saturating_sub(self.changed_at)
    }

    /// Whether a live manifest has brought nothing new for too long.
    pub fn stalled(&self, now: Duration) -> bool {
        !self.ended()
            && self.rhythm().is_some_and(|rhythm| {
                now.saturating_sub(self.changed_at) > rhythm.mul_f64(STALLED_AFTER_TARGETS)
            })
    }
}
