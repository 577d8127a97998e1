//! One elementary stream on its way through a decoder: clean starts, rebuilds, shedding.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use detectors::base::{Arrival, Kind, MediaTime, Track};

use super::{ConvertError, Core};
use crate::ingest::appsink::{Mark, Way};
use crate::ingest::clock;
use crate::ingest::pipeline::{BufferTime, Coding, Pipeline};
use crate::transport::Codec;

/// Encoded bytes that may wait for one decoder of a live input: about 3 s at 20 Mb/s.
const SHED_BYTES: usize = 8 << 20;
/// Encoded media time that may wait for one decoder of a live input.
const SHED_SPAN: Duration = Duration::from_secs(3);
/// Joining in the middle, pictures are held back this long for a point from which decoding is clean.
const CLEAN_START: Duration = Duration::from_secs(5);
/// The same, counted in access units, when they have no time.
const CLEAN_START_UNITS: u32 = 300;
/// A chain that failed is built again at most this often.
const REBUILD: Duration = Duration::from_secs(1);

/// Coded bytes with their time.
pub(super) struct Coded {
    pub(super) bytes: Bytes,
    pub(super) media: Option<MediaTime>,
    pub(super) decode_ahead_nanos: i64,
    /// Decoding may begin here.
    pub(super) random_access: bool,
    /// The stream's timestamps jumped, or an announced discontinuity lies before it.
    pub(super) discontinuity: bool,
}

/// Waiting for a clean start.
#[derive(Default)]
struct Joining {
    since: Option<MediaTime>,
    units: u32,
}

/// A track's decoder.
pub(super) struct Branch {
    pub(super) way: Arc<Way>,
    coding: Coding,
    pipeline: Option<Pipeline>,
    /// Pipelines that are still handing out what they were fed.
    draining: Vec<Pipeline>,
    built: Option<Arrival>,
    joining: Option<Joining>,
    /// Units thrown away since decoding began to lag; `None` while it does not.
    shed: Option<u32>,
    /// Where shedding ended last: a decoder that still stands before the gap does not lag by the gap's length.
    resumed: Option<MediaTime>,
    error: Option<ConvertError>,
}

impl Branch {
    pub(super) fn new(core: &Core, track: Track, codec: Codec, channels: Option<u8>) -> Self {
        Self::coded(core, track, Coding::Stream(codec, channels))
    }

    /// A branch for what its container describes.
    pub(super) fn coded(core: &Core, track: Track, coding: Coding) -> Self {
        Self {
            way: Way::new(track, &core.hub),
            coding,
            pipeline: None,
            draining: Vec::new(),
            built: None,
            joining: (track.kind == Kind::Video).then(Joining::default),
            shed: None,
            resumed: None,
            error: None,
        }
    }

    pub(super) fn is(&self, codec: Codec, channels: Option<u8>) -> bool {
        self.coding == Coding::Stream(codec, channels)
    }

    pub(super) fn is_coded(&self, coding: &Coding) -> bool {
        self.coding == *coding
    }

    pub(super) fn codec(&self) -> Option<Codec> {
        match self.coding {
            Coding::Stream(codec, _) => Some(codec),
            Coding::Described(_) => None,
        }
    }

    /// From here on the stream is coded otherwise.
    pub(super) fn change(&mut self, codec: Codec, channels: Option<u8>) {
        self.recode(Coding::Stream(codec, channels));
    }

    /// See [`Branch::change`].
    pub(super) fn recode(&mut self, coding: Coding) {
        self.end();
        self.coding = coding;
        self.built = None;
        self.join();
    }

    /// The next pipeline starts clean; what the one before still hands out keeps its own way.
    fn join(&mut self) {
        self.way = self.way.renewed();
        self.joining = (self.way.track.kind == Kind::Video).then(Joining::default);
    }

    /// Decodes a unit, now or later; what cannot be taken is counted and thrown away.
    pub(super) fn push(&mut self, core: &Core, coded: Coded) {
        self.draining.retain(|p| p.done.ended().is_none());
        if let Some(Err(error)) = self.pipeline.as_ref().and_then(|p| p.done.ended()) {
            self.error = Some(error);
            self.pipeline = None;
            self.join();
        }
        if !self.clean(&coded) || self.sheds(core, &coded) {
            return;
        }
        if self.pipeline.is_none() && !self.build(core, coded.media) {
            return;
        }
        if let (true, Some(media)) = (coded.discontinuity, coded.media) {
            self.way.mark(media, Mark::Discontinuity);
        }
        if let Some(pipeline) = &self.pipeline {
            let time = coded.media.map(|media| BufferTime {
                media,
                decode_ahead_nanos: coded.decode_ahead_nanos,
                discontinuity: coded.discontinuity,
            });
            pipeline.push(coded.bytes, time);
        }
    }

    /// Whether decoding has begun, or may begin with this unit.
    fn clean(&mut self, coded: &Coded) -> bool {
        let Some(joining) = &mut self.joining else {
            return true;
        };
        joining.units += 1;
        let since = *joining.since.get_or_insert(coded.media.unwrap_or_default());
        let waited = coded.media.is_some_and(|m| m.since(since) > CLEAN_START)
            || joining.units > CLEAN_START_UNITS;
        if coded.random_access {
            // Pictures shown before it refer to pictures that we never had.
            self.way.not_before(coded.media);
        } else if !waited {
            return false;
        }
        self.joining = None;
        true
    }

    fn build(&mut self, core: &Core, media: Option<MediaTime>) -> bool {
        let now = clock::now();
        if self.built.is_some_and(|at| now.since(at) < REBUILD) {
            return false;
        }
        let first = !self.way.has_format();
        self.built = Some(now);
        let after = self.draining.last().map(|p| Arc::clone(&p.done));
        match Pipeline::elementary(&self.coding, &self.way, core.settings, after) {
            Ok(pipeline) => self.pipeline = Some(pipeline),
            Err(error) => {
                self.error = Some(error);
                return false;
            }
        }
        if let (false, Some(media)) = (first, media) {
            self.way.mark(media, Mark::Discontinuity);
        }
        true
    }

    /// Whether the unit is thrown away because decoding lags behind a live input.
    fn sheds(&mut self, core: &Core, coded: &Coded) -> bool {
        let Some(pipeline) = self.pipeline.as_ref().filter(|_| core.sheds) else {
            return false;
        };
        let waiting = pipeline.load.bytes();
        let lag = match (coded.media, self.way.feeding_at()) {
            (Some(newest), Some(decoding)) if waiting > 0 => {
                newest.since(self.resumed.map_or(decoding, |at| at.max(decoding)))
            }
            _ => Duration::ZERO,
        };
        match &mut self.shed {
            None if waiting > SHED_BYTES || lag > SHED_SPAN => self.shed = Some(0),
            None => return false,
            Some(dropped) => {
                let caught_up = waiting < SHED_BYTES / 2 && lag < SHED_SPAN / 2;
                let usable = coded.random_access || self.way.track.kind == Kind::Audio;
                if caught_up && usable {
                    if let Some(media) = coded.media {
                        self.way.mark(media, Mark::Dropped(*dropped));
                    }
                    self.resumed = coded.media;
                    self.shed = None;
                    return false;
                }
            }
        }
        if let Some(dropped) = &mut self.shed {
            *dropped = dropped.saturating_add(1);
        }
        core.hub.stats.shed_bytes.add(coded.bytes.len() as u64);
        true
    }

    /// No more units follow; what was fed is still handed out.
    pub(super) fn end(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.end();
            self.draining.push(pipeline);
        }
    }

    pub(super) fn done(&self) -> bool {
        self.pipeline.is_none() && self.draining.iter().all(|p| p.done.ended().is_some())
    }

    pub(super) fn error(&self) -> Option<ConvertError> {
        let late = || self.draining.iter().find_map(|p| p.done.ended()?.err());
        self.error.clone().or_else(late)
    }
}
