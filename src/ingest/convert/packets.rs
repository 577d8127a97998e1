//! Input of a converter that comes as coded units: RTMP (FLV tags) and RTSP (RTP payloads).

use std::collections::HashMap;

use bytes::Bytes;
use detectors::base::{Cause, Fact, Kind, MediaTime, SkewBasis, Track};

use super::branch::{Branch, Coded};
use super::{ConvertError, Core, timeline_key};
use crate::ingest::appsink::lock;
use crate::ingest::pipeline::{Announced, Coding};
use crate::ingest::tracks::Entry;
use crate::transport::Codec;
use crate::transport::flv::{FlvCodec, FlvDemux, FlvEvent};

/// Skew is told at most this often per sound track, in media time.
const SKEW_EVERY_NANOS: u64 = 100_000_000;
/// Largest decoding delay believed.
const MAX_AHEAD_MS: i32 = 10_000;
/// Tracks of one input.
const MAX_TRACKS: usize = 32;

/// A coded picture or frame of sound.
pub(in crate::ingest) struct Packet {
    /// Number of its track in the input.
    pub(in crate::ingest) track: u32,
    pub(in crate::ingest) kind: Kind,
    pub(in crate::ingest) coding: Coding,
    pub(in crate::ingest) bytes: Bytes,
    /// Presentation time, 90 kHz.
    pub(in crate::ingest) ticks: Option<u64>,
    /// Presentation minus decoding time.
    pub(in crate::ingest) decode_ahead_nanos: i64,
    /// Decoding may begin here.
    pub(in crate::ingest) random_access: bool,
}

struct Stream {
    track: Track,
    branch: Branch,
    told_skew: Option<MediaTime>,
}

/// State of an input of coded units.
pub(super) struct Packets {
    input: usize,
    /// Units of all tracks come in one order, so that their places in it can be compared.
    multiplexed: bool,
    streams: HashMap<u32, Stream>,
    /// Tracks that cannot be decoded.
    refused: HashMap<u32, Cause>,
    /// Decoding time of the newest picture.
    video_clock: Option<MediaTime>,
}

impl Packets {
    pub(super) fn new(input: usize, multiplexed: bool) -> Self {
        Self {
            input,
            multiplexed,
            streams: HashMap::new(),
            refused: HashMap::new(),
            video_clock: None,
        }
    }

    /// A track is there, whether or not it can be decoded.
    pub(super) fn announce(&mut self, core: &Core, track: &Announced) -> Option<Track> {
        self.announce_in(core, track, None)
    }

    /// The same, in a language.
    pub(super) fn announce_in(
        &mut self,
        core: &Core,
        track: &Announced,
        language: Option<String>,
    ) -> Option<Track> {
        if let Some(cause) = track.problem
            && self.refused.len() < MAX_TRACKS
        {
            self.refused.insert(track.id, cause);
        }
        let (found, changed) = {
            let mut tracks = lock(&core.hub.tracks);
            let before = tracks.infos();
            let known = tracks.find(self.input, track.id, track.kind);
            let known = before.iter().find(|info| Some(info.track) == known);
            let entry = Entry {
                id: track.id,
                kind: track.kind,
                codec: track.codec.clone(),
                language: language.or_else(|| known?.language.clone()),
                problem: track.problem,
            };
            let found = tracks.add(self.input, entry);
            (found, tracks.infos() != before)
        };
        if changed {
            core.hub.tell_tracks();
        }
        found
    }

    /// The track with this number in its container, once units of it have come.
    pub(super) fn track(&self, number: u32) -> Option<Track> {
        self.streams.get(&number).map(|stream| stream.track)
    }

    /// Decodes a unit, and tells its place on the media clock.
    pub(super) fn packet(&mut self, core: &mut Core, packet: Packet) -> Option<MediaTime> {
        if !self.prepare(core, &packet) {
            return None;
        }
        let stream = self.streams.get_mut(&packet.track)?;
        let key = timeline_key(self.input, packet.track);
        let mapped = packet.ticks.map(|ticks| core.timeline.map(key, ticks));
        let media = mapped.map(|m| m.media);
        core.fed = core.fed.max(media);
        let jump = mapped.and_then(|m| m.jump_secs);
        if let Some(by_secs) = jump {
            let fact = Fact::TimelineJump { by_secs };
            core.hub.fact(Some(stream.track), media, fact);
        }
        match (media, packet.kind) {
            (Some(media), Kind::Video) => {
                let decoded = media.nanos().saturating_sub(packet.decode_ahead_nanos);
                if stream.track.index == 0 {
                    self.video_clock = Some(MediaTime::from_nanos(decoded));
                }
                if packet.random_access {
                    let fact = Fact::RandomAccess(media);
                    core.hub.fact(Some(stream.track), Some(media), fact);
                }
            }
            (Some(media), Kind::Audio) if self.multiplexed => {
                if let Some(video) = self.video_clock {
                    stream.tell_skew(core, media, video);
                }
            }
            _ => {}
        }
        let coded = Coded {
            bytes: packet.bytes,
            media,
            decode_ahead_nanos: packet.decode_ahead_nanos,
            random_access: packet.random_access,
            discontinuity: jump.is_some(),
        };
        stream.branch.push(core, coded);
        media
    }

    /// Whether the unit can go to a decoder, which is built or changed for it.
    fn prepare(&mut self, core: &Core, packet: &Packet) -> bool {
        let known = self.streams.get(&packet.track);
        if known.is_some_and(|s| s.branch.is_coded(&packet.coding)) {
            return true;
        }
        let (_, codec, problem) = packet.coding.announce();
        let announced = Announced {
            kind: packet.kind,
            id: packet.track,
            codec,
            problem,
        };
        let track = self.announce(core, &announced);
        let (Some(track), None) = (track, problem) else {
            return false;
        };
        self.refused.remove(&packet.track);
        let coding = packet.coding.clone();
        match self.streams.get_mut(&packet.track) {
            Some(stream) => stream.branch.recode(coding),
            None => {
                let stream = Stream {
                    track,
                    branch: Branch::coded(core, track, coding),
                    told_skew: None,
                };
                self.streams.insert(packet.track, stream);
            }
        }
        true
    }

    pub(super) fn end(&mut self) {
        for stream in self.streams.values_mut() {
            stream.branch.end();
        }
    }

    pub(super) fn done(&self) -> bool {
        self.streams.values().all(|s| s.branch.done())
    }

    pub(super) fn error(&self) -> Option<ConvertError> {
        let found = self.streams.values().find_map(|s| s.branch.error());
        let refused = self.refused.values().next();
        found.or_else(|| {
            Some(ConvertError {
                cause: match refused {
                    Some(cause) if self.streams.is_empty() => *cause,
                    _ => Cause::Undecodable,
                },
                detail: "nothing in the stream could be decoded".to_owned(),
            })
        })
    }
}

impl Stream {
    fn tell_skew(&mut self, core: &Core, audio: MediaTime, video: MediaTime) {
        let due = self.told_skew.is_none_or(|told| {
            audio.nanos().saturating_sub(told.nanos()).unsigned_abs() >= SKEW_EVERY_NANOS
        });
        if due {
            self.told_skew = Some(audio);
            let fact = Fact::AvSkew {
                audio_minus_video_secs: audio.secs_after(video),
                basis: SkewBasis::Multiplex,
            };
            core.hub.fact(Some(self.track), Some(audio), fact);
        }
    }
}

/// State of an FLV input.
pub(super) struct Flv {
    demux: FlvDemux,
    coding: HashMap<u32, (FlvCodec, Coding)>,
    packets: Packets,
}

/// FLV has one track of each kind.
const VIDEO: u32 = 0;
const AUDIO: u32 = 1;

impl Flv {
    pub(super) fn new(input: usize) -> Self {
        Self {
            demux: FlvDemux::default(),
            coding: HashMap::new(),
            packets: Packets::new(input, true),
        }
    }

    /// A new stream begins.
    pub(super) fn begin(&mut self) {
        self.demux = FlvDemux::default();
    }

    pub(super) fn data(&mut self, core: &mut Core, bytes: &[u8]) -> Result<(), ConvertError> {
        let (packets, coding) = (&mut self.packets, &mut self.coding);
        let take = &mut |event| flv_event(core, packets, coding, event);
        self.demux.push(bytes, take).map_err(|_| ConvertError {
            cause: Cause::Undecodable,
            detail: "the stream is not FLV".to_owned(),
        })
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

fn flv_event(
    core: &mut Core,
    packets: &mut Packets,
    coding: &mut HashMap<u32, (FlvCodec, Coding)>,
    event: FlvEvent,
) {
    match event {
        FlvEvent::Config { codec, config } => {
            let found = match codec {
                FlvCodec::Avc => Coding::avc(&config),
                FlvCodec::Hevc => Coding::hvc(&config),
                FlvCodec::Aac => Coding::aac(&config),
                FlvCodec::Mp3 => return,
            };
            coding.insert(place(codec).0, (codec, found));
        }
        FlvEvent::Frame {
            codec,
            at_ms,
            ahead_ms,
            random_access,
            bytes,
        } => {
            let (track, kind) = place(codec);
            let described = coding.get(&track).filter(|(of, _)| *of == codec);
            let coding = match (codec, described) {
                (FlvCodec::Mp3, _) => Coding::Stream(Codec::MpegAudio, None),
                (_, Some((_, coding))) => coding.clone(),
                // Cannot be decoded without its configuration, which servers send first.
                (_, None) => return,
            };
            let ahead_ms = Some(ahead_ms)
                .filter(|ms| ms.abs() <= MAX_AHEAD_MS)
                .unwrap_or(0);
            // 2^32 ms are a whole number of 2^33 ticks: the one wraps where the other does.
            let ticks = u64::from(at_ms.wrapping_add_signed(ahead_ms)) * 90;
            let packet = Packet {
                track,
                kind,
                coding,
                bytes,
                ticks: Some(ticks),
                decode_ahead_nanos: i64::from(ahead_ms) * 1_000_000,
                random_access,
            };
            packets.packet(core, packet);
        }
        FlvEvent::Unsupported { kind, word } => {
            let id = match kind {
                Kind::Video => VIDEO,
                Kind::Audio => AUDIO,
            };
            let announced = Announced {
                kind,
                id,
                codec: word,
                problem: Some(Cause::UnsupportedCodec),
            };
            packets.announce(core, &announced);
        }
    }
}

fn place(codec: FlvCodec) -> (u32, Kind) {
    match codec {
        FlvCodec::Avc | FlvCodec::Hevc => (VIDEO, Kind::Video),
        FlvCodec::Aac | FlvCodec::Mp3 => (AUDIO, Kind::Audio),
    }
}
