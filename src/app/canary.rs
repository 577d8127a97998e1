//! A stream made inside the process whose defects must arrive as alerts: the proof, every few minutes, that the way from
//! a picture to a receiver works. What it does not prove is fetching and decoding, which every stream tells by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use detectors::base::{Arrival, MediaTime, Range, Track};
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoFormat, VideoFrame, VideoInfo};
use tokio::time::MissedTickBehavior;

use crate::alert::incident::CANARY;
use crate::config::{self, Config, Env};
use crate::ingest::{Content, OwnedUnit, PictureBuffer, clock};
use crate::lane::pool::Pool;
use crate::lane::{Lane, Mode, Outlet};
use crate::notify::desk::Desk;

/// Its pictures: few and small, so that it costs nothing.
const SIZE: (u32, u32) = (160, 96);
/// Time from one picture to the next.
const PACE: Duration = Duration::from_millis(200);
/// It begins with so much good programme, so that the detector knows it.
const FIRST: Duration = Duration::from_secs(60);
/// Its picture stands still for so long: by default `freeze` tells it after 2 s.
const STILL: Duration = Duration::from_secs(8);

/// What came of it so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Alerts that arrived in time.
    pub arrived: AtomicU64,
    /// Alerts that did not.
    pub lost: AtomicU64,
}

/// One defect and its alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is due.
    Idle,
    /// It is on its way.
    Waiting,
    /// It arrived in time, just now.
    Arrived,
    /// It did not, just now.
    Lost,
}

/// When the picture stands still, and what became of the alert. Pure.
#[derive(Debug)]
pub struct Schedule {
    every: Duration,
    within: Duration,
    begins: Arrival,
    waiting: Option<Arrival>,
}

impl Schedule {
    /// The first defect begins after [`FIRST`].
    pub fn new(every: Duration, within: Duration, now: Arrival) -> Self {
        Self {
            every: every.max(STILL * 2),
            within,
            begins: now.plus(FIRST.min(every)),
            waiting: None,
        }
    }

    /// Whether the picture stands still now.
    pub fn is_still(&mut self, now: Arrival) -> bool {
        if now < self.begins {
            return false;
        }
        if now < self.begins.plus(STILL) {
            self.waiting.get_or_insert(self.begins);
            return true;
        }
        self.begins = self.begins.plus(self.every).max(now);
        false
    }

    /// `arrived`: when an alert arrived last.
    pub fn verdict(&mut self, now: Arrival, arrived: Option<Arrival>) -> Verdict {
        let Some(began) = self.waiting else {
            return Verdict::Idle;
        };
        let verdict = match arrived {
            Some(at) if at >= began => Verdict::Arrived,
            _ if now >= began.plus(self.within) => Verdict::Lost,
            _ => return Verdict::Waiting,
        };
        // Still for a while yet: the same defect is not asked for again.
        if now >= began.plus(STILL) {
            self.waiting = None;
            return verdict;
        }
        Verdict::Waiting
    }
}

/// Watches itself for ever.
pub async fn run(
    pool: Pool,
    outlet: Arc<dyn Outlet>,
    desk: Arc<Desk>,
    config: config::Canary,
    counts: Arc<Counts>,
) {
    let (Some(every), Some(stream)) = (config.every, stream()) else {
        return;
    };
    let lane = Lane::open(&pool, stream, Mode::Live, outlet, None);
    let began = clock::now();
    let mut schedule = Schedule::new(every, config.within, began);
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pictures = 0u32;
    loop {
        pace.tick().await;
        let now = clock::now();
        if !schedule.is_still(now) {
            pictures = pictures.wrapping_add(1);
        }
        match schedule.verdict(now, desk.canary_at()) {
            Verdict::Arrived => {
                counts.arrived.fetch_add(1, Ordering::Relaxed);
                desk.set_canary_lost(false);
            }
            Verdict::Lost => {
                counts.lost.fetch_add(1, Ordering::Relaxed);
                tracing::error!("the alert of the canary did not arrive in time");
                desk.set_canary_lost(true);
            }
            Verdict::Idle | Verdict::Waiting => {}
        }
        let media = MediaTime::default().plus(now.since(began));
        if let Some(picture) = picture(pictures) {
            lane.intake().push(OwnedUnit {
                media: Some(media),
                arrival: now,
                discontinuity: false,
                dropped: 0,
                track: Some(Track::video(0)),
                content: Content::Picture(picture),
            });
        }
        lane.tick(now);
    }
}

/// The stream as configured: `freeze` alone, as it is by default.
fn stream() -> Option<Arc<config::Stream>> {
    let text =
        "version: 1\nstreams:\n  - {id: canary, url: 'http://canary.invalid/', evidence: false}\n";
    let config = Config::parse(text, &Env::default()).ok()?;
    let stream = config.streams.first()?;
    let mut stream = stream.only(&["freeze"]);
    stream.id = Arc::from(CANARY);
    stream.labels.insert("name".to_owned(), "canary".to_owned());
    Some(Arc::new(stream))
}

/// Squares that wander, another step in each picture.
fn picture(number: u32) -> Option<PictureBuffer> {
    let (width, height) = SIZE;
    let info = VideoInfo::builder(VideoFormat::Gray8, width, height)
        .build()
        .ok()?;
    let buffer = gstreamer::Buffer::with_size(info.size()).ok()?;
    let mut frame = VideoFrame::from_buffer_writable(buffer, &info).ok()?;
    let stride = usize::try_from(*frame.plane_stride().first()?).ok()?;
    let plane = frame.plane_data_mut(0).ok()?;
    for (y, row) in (0u32..).zip(plane.chunks_exact_mut(stride).take(height as usize)) {
        for (x, sample) in (0u32..).zip(row.iter_mut().take(width as usize)) {
            let square = (x + number * 5) / 16 + (y + number * 3) / 16;
            *sample = 60 + u8::try_from(square.wrapping_mul(37) % 120).unwrap_or(0);
        }
    }
    let frame = VideoFrame::from_buffer_readable(frame.into_buffer(), &info).ok()?;
    Some(PictureBuffer {
        frame,
        bits: 8,
        range: Range::Limited,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn at(secs: u64) -> Arrival {
        Arrival::from_millis(secs * 1000)
    }

    #[test]
    fn an_alert_is_awaited_once_for_each_defect() {
        let minute = Duration::from_secs(60);
        let mut schedule = Schedule::new(minute * 10, minute, at(0));
        let mut seen = Vec::new();
        for secs in 0..2000 {
            let still = schedule.is_still(at(secs));
            assert_eq!(still, secs >= 60 && (secs - 60) % 600 < 8, "{secs}");
            // The first arrives, the second does not, the third does, the fourth comes late.
            let arrived = [65, 1300, 1930].into_iter().filter(|at| *at <= secs).max();
            let arrived = arrived.map(at);
            match schedule.verdict(at(secs), arrived) {
                Verdict::Idle | Verdict::Waiting => {}
                other => seen.push((secs, other)),
            }
        }
        let lost = Verdict::Lost;
        let came = Verdict::Arrived;
        assert_eq!(seen, [(68, came), (720, lost), (1300, came), (1920, lost)]);
    }

    #[test]
    fn its_pictures_move_and_its_stream_is_nobody_elses() {
        gstreamer::init().unwrap();
        let bytes = |n| picture(n).unwrap().frame.plane_data(0).unwrap().to_vec();
        assert_eq!(bytes(3), bytes(3));
        assert_ne!(bytes(3), bytes(4));
        let stream = stream().unwrap();
        assert_eq!((&*stream.id, stream.detectors.len()), (CANARY, 1));
    }
}
