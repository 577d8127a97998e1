//! WebM input of a converter: segments with their blocks in order.

use std::collections::HashMap;

use bytes::Bytes;
use detectors::base::{Cause, Evidence, EvidenceKind, Fact, Kind, MediaTime};

use super::packets::{Packet, Packets};
use super::{ConvertError, Core};
use crate::ingest::pipeline::{Announced, Coding};
use crate::transport::webm::{WebmDemux, WebmEvent, WebmTrack};

/// State of a WebM input.
pub(super) struct Webm {
    input: usize,
    only: Option<Kind>,
    language: Option<String>,
    demux: WebmDemux,
    tracks: HashMap<u32, (Kind, Coding)>,
    packets: Packets,
    /// No unit of this piece seen yet, by kind.
    fresh: [bool; 2],
    newest: Option<MediaTime>,
}

impl Webm {
    pub(super) fn new(input: usize, only: Option<Kind>, language: Option<String>) -> Self {
        Self {
            input,
            only,
            language,
            demux: WebmDemux::default(),
            tracks: HashMap::new(),
            packets: Packets::new(input, false),
            fresh: [true; 2],
            newest: None,
        }
    }

    pub(super) fn begin(&mut self, core: &mut Core, discontinuity: bool) {
        self.demux.begin();
        self.fresh = [true; 2];
        if discontinuity {
            core.timeline.discontinuity();
        }
    }

    pub(super) fn data(&mut self, core: &mut Core, bytes: &[u8]) -> Result<(), ConvertError> {
        let mut found = Vec::new();
        let pushed = self.demux.push(bytes, &mut |event| found.push(event));
        for event in found {
            match event {
                WebmEvent::Tracks(tracks) => self.announce(core, tracks),
                WebmEvent::Frame {
                    track,
                    at_nanos,
                    random_access,
                    bytes,
                } => self.frame(core, track, at_nanos, random_access, bytes),
            }
        }
        pushed.map_err(|_| ConvertError {
            cause: Cause::Undecodable,
            detail: "the segment is not WebM".to_owned(),
        })
    }

    pub(super) fn piece_end(&mut self, core: &Core, truncated: bool) {
        if truncated || self.demux.is_within() {
            let evidence = Evidence::new(EvidenceKind::Truncated, self.newest, 1);
            core.hub.fact(None, self.newest, Fact::Evidence(evidence));
        }
        self.demux.begin();
    }

    fn announce(&mut self, core: &Core, tracks: Vec<WebmTrack>) {
        self.tracks.clear();
        for track in tracks {
            if self.only.is_some_and(|kind| kind != track.kind) {
                continue;
            }
            let coding = Coding::webm(&track);
            let problem = match (&coding, track.encrypted) {
                (_, true) => Some(Cause::EncryptedNoKey),
                (None, false) => Some(Cause::UnsupportedCodec),
                (Some(coding), false) => coding.announce().2,
            };
            let codec = coding.as_ref().map(|coding| coding.announce().1);
            let announced = Announced {
                kind: track.kind,
                id: track.number,
                codec: codec.unwrap_or(track.codec),
                problem,
            };
            let language = track.language.or_else(|| self.language.clone());
            self.packets.announce_in(core, &announced, language);
            if let (Some(coding), None) = (coding, problem) {
                self.tracks.insert(track.number, (track.kind, coding));
            }
        }
    }

    fn frame(
        &mut self,
        core: &mut Core,
        track: u32,
        at_nanos: u64,
        random_access: bool,
        bytes: Bytes,
    ) {
        let Some((kind, coding)) = self.tracks.get(&track) else {
            return;
        };
        let (kind, ticks) = (*kind, u128::from(at_nanos) * 9 / 100_000);
        let packet = Packet {
            track,
            kind,
            coding: coding.clone(),
            bytes,
            ticks: Some((ticks & ((1 << 33) - 1)) as u64),
            decode_ahead_nanos: 0,
            random_access,
        };
        let Some(media) = self.packets.packet(core, packet) else {
            return;
        };
        self.newest = Some(media);
        let fresh = match kind {
            Kind::Video => &mut self.fresh[0],
            Kind::Audio => &mut self.fresh[1],
        };
        if !std::mem::take(fresh) {
            return;
        }
        let track = self.packets.track(track);
        core.piece_begins(self.input, kind, media, track);
    }

    pub(super) fn end(&mut self) {
        self.packets.end();
    }

    pub(super) fn done(&self) -> bool {
        self.packets.done()
    }

    pub(super) fn error(&self) -> Option<ConvertError> {
        self.packets.error()
    }
}
