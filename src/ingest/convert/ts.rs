//! MPEG-TS input of a converter.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use detectors::base::{
    BreakMark, BreakSource, Cause, Evidence, EvidenceKind, Fact, Kind, MediaTime, SkewBasis, Track,
    TsCheck, TsErrors,
};

use super::branch::{Branch, Coded};
use super::{ConvertError, Core, opus, timeline_key};
use crate::config::Protocol;
use crate::ingest::appsink::lock;
use crate::ingest::sample_aes;
use crate::ingest::tracks::Entry;
use crate::transport::Codec;
use crate::transport::continuity::{Continuity, Found};
use crate::transport::scte35::{self, SpliceMark};
use crate::transport::ts::{Demux, TsEvent, TsTrack};

/// Skew is told at most this often per sound track, in media time.
const SKEW_EVERY_NANOS: i64 = 100_000_000;
/// Evidence that waits for the time of the access unit it belongs to.
const MAX_PENDING: usize = 16;
/// Without a program in this many bytes the input holds nothing to decode.
const NO_PROGRAM_BYTES: u64 = 32 << 20;
/// Break markers remembered, and for how long after they were last repeated: what is repeated is told once.
const MAX_BREAKS: usize = 32;
/// See [`MAX_BREAKS`].
const BREAK_REPEATS: Duration = Duration::from_secs(30);
/// Encrypted bytes that a decoder cannot miss.
const TELLING: usize = 32;
/// Largest decoding delay believed, 90 kHz ticks.
const MAX_DECODE_AHEAD: u64 = 10 * 90_000;

/// Pictures that damage affects.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    from: Option<MediaTime>,
    /// The first that is sound again; `None`: the next clean random access point tells.
    until: Option<MediaTime>,
}

/// One elementary stream.
struct Stream {
    track: Track,
    branch: Branch,
    continuity: Option<Continuity>,
    scrambled: bool,
    /// Time of the newest access unit.
    newest: Option<MediaTime>,
    pending: Vec<(EvidenceKind, u32)>,
    /// What damage in the newest access unit, and in the one before, affects.
    reach: Reach,
    before: Reach,
    told_skew: Option<MediaTime>,
    /// Media is discontinuous before the next access unit.
    discontinuity: bool,
    /// Its samples are encrypted.
    sealed: Option<Sealed>,
}

/// State of SAMPLE-AES in one stream.
enum Sealed {
    Pictures,
    Sound(Box<sample_aes::Sound>),
}

impl Sealed {
    fn of(track: &TsTrack) -> Option<Self> {
        let codec = track.codec.filter(|_| track.encrypted)?;
        Some(match codec {
            Codec::H264 => Sealed::Pictures,
            codec => Sealed::Sound(Box::new(sample_aes::Sound::new(codec))),
        })
    }
}

/// State of a transport stream input.
pub(super) struct Ts {
    demux: Demux,
    rest: Rest,
}

/// Everything but the demultiplexer, which lends out its events.
struct Rest {
    input: usize,
    only: Option<Kind>,
    language: Option<String>,
    announced: Vec<TsTrack>,
    streams: HashMap<u16, Stream>,
    /// Branches of streams that vanished, still handing out pictures.
    leaving: Vec<Branch>,
    /// The first picture track.
    lead: Option<Track>,
    /// Decoding time of its newest picture.
    video_clock: Option<MediaTime>,
    /// A piece began, and its first picture or sound has not been seen.
    began: bool,
    bytes: u64,
    /// Break markers told, with the media time at which each was last heard.
    breaks: VecDeque<(SpliceMark, Option<MediaTime>)>,
}

impl Ts {
    pub(super) fn new(
        core: &Core,
        number: usize,
        only: Option<Kind>,
        language: Option<String>,
        continuous: bool,
    ) -> Self {
        let input = &core.context.stream.input;
        let demux = Demux::new(input.program);
        let pushed = matches!(
            input.protocol,
            Protocol::Udp | Protocol::Rtp | Protocol::Srt
        );
        Self {
            demux: match (continuous, pushed) {
                (false, _) => demux,
                (true, true) => demux.continuous(),
                (true, false) => demux.perhaps_segments(),
            },
            rest: Rest {
                input: number,
                only,
                language,
                announced: Vec::new(),
                streams: HashMap::new(),
                leaving: Vec::new(),
                lead: None,
                video_clock: None,
                began: false,
                bytes: 0,
                breaks: VecDeque::new(),
            },
        }
    }

    pub(super) fn begin(&mut self, core: &mut Core, discontinuity: bool) {
        if discontinuity {
            self.flush(core);
            core.timeline.discontinuity();
            for stream in self.rest.streams.values_mut() {
                stream.discontinuity = true;
                if let Some(continuity) = &mut stream.continuity {
                    continuity.reset();
                }
            }
        }
        self.rest.began = true;
    }

    pub(super) fn data(&mut self, core: &mut Core, bytes: &[u8]) -> Result<(), ConvertError> {
        self.rest.bytes += bytes.len() as u64;
        let before = self.demux.counts().packets;
        let rest = &mut self.rest;
        self.demux.push(bytes, &mut |event| rest.event(core, event));
        let packets = self.demux.counts().packets.saturating_sub(before);
        core.hub.stats.ts_packets.add(packets);
        if self.rest.announced.is_empty() && self.rest.bytes > NO_PROGRAM_BYTES {
            return Err(no_program());
        }
        Ok(())
    }

    /// A piece is complete: packets of the next one need not continue it.
    pub(super) fn piece_end(&mut self, core: &mut Core, truncated: bool) {
        let rest = &mut self.rest;
        self.demux.boundary(&mut |event| rest.event(core, event));
        if truncated {
            let from = self.rest.video_clock;
            let kind = EvidenceKind::Truncated;
            let evidence = Evidence::new(kind, from, 1);
            let blamed = core.blamed(self.rest.lead.into_iter());
            core.hub.fact(blamed, from, Fact::Evidence(evidence));
        }
    }

    fn flush(&mut self, core: &mut Core) {
        let rest = &mut self.rest;
        self.demux.finish(&mut |event| rest.event(core, event));
    }

    pub(super) fn end(&mut self, core: &mut Core) {
        self.flush(core);
        for stream in self.rest.streams.values_mut() {
            stream.tell_pending(core, None);
            stream.branch.end();
        }
    }

    pub(super) fn done(&self) -> bool {
        let running = self.rest.streams.values().map(|s| &s.branch);
        running.chain(&self.rest.leaving).all(Branch::done)
    }

    pub(super) fn error(&self) -> Option<ConvertError> {
        if self.rest.announced.is_empty() {
            return Some(no_program());
        }
        if let Some(error) = self.rest.streams.values().find_map(|s| s.branch.error()) {
            return Some(error);
        }
        let scrambled = self.rest.streams.values().any(|s| s.scrambled);
        let cause = if scrambled {
            Cause::EncryptedNoKey
        } else if self.rest.announced.iter().all(|t| t.codec.is_none()) {
            Cause::UnsupportedCodec
        } else {
            Cause::Undecodable
        };
        Some(ConvertError {
            cause,
            detail: "nothing in the transport stream could be decoded".to_owned(),
        })
    }
}

fn no_program() -> ConvertError {
    ConvertError {
        cause: Cause::Undecodable,
        detail: "the transport stream announces no program with media".to_owned(),
    }
}

/// Word for what the PMT announces.
fn codec_word(track: &TsTrack) -> String {
    match track.codec {
        Some(codec) => codec.as_str().to_owned(),
        // "VVC, stream type 0x33"
        None => {
            let family = track.name.split([',', '(']).next().unwrap_or_default();
            family.trim().to_ascii_lowercase().replace(' ', "_")
        }
    }
}

impl Rest {
    fn event(&mut self, core: &mut Core, event: TsEvent) {
        match event {
            TsEvent::Tracks(tracks) => self.tracks(core, tracks),
            TsEvent::Pes {
                pid,
                pts,
                dts,
                data,
                random_access,
                damaged,
            } => self.pes(core, pid, (pts, dts), data, (random_access, damaged)),
            TsEvent::Scrambled { pid, scrambled } => {
                if let Some(stream) = self.streams.get_mut(&pid) {
                    stream.scrambled = scrambled;
                    let problem = scrambled.then_some(Cause::EncryptedNoKey);
                    if lock(&core.hub.tracks).set_problem(stream.track, problem) {
                        core.hub.tell_tracks();
                    }
                }
            }
            TsEvent::Evidence { pid, kind, count } => self.evidence(core, pid, kind, count),
            TsEvent::Checked(errors) => checked(core, errors),
            TsEvent::Splice { section } => self.splice(core, &section),
            TsEvent::Pcr { discontinuity, .. } => {
                if discontinuity {
                    core.timeline.discontinuity();
                }
            }
        }
    }

    fn tracks(&mut self, core: &mut Core, tracks: Vec<TsTrack>) {
        let wanted = tracks
            .iter()
            .filter(|t| self.only.is_none_or(|kind| kind == t.kind));
        let entries = wanted
            .clone()
            .map(|t| Entry {
                id: u32::from(t.pid),
                kind: t.kind,
                codec: codec_word(t),
                language: t.language.clone().or_else(|| self.language.clone()),
                problem: match t.codec {
                    Some(_) if t.encrypted && core.keys.named.is_none() => {
                        Some(Cause::EncryptedNoKey)
                    }
                    Some(_) => None,
                    None => Some(Cause::UnsupportedCodec),
                },
            })
            .collect::<Vec<_>>();
        let changed = lock(&core.hub.tracks).replace(self.input, &entries);
        let mut before = std::mem::take(&mut self.streams);
        for (track, codec) in wanted.filter_map(|t| t.codec.map(|c| (t, c))) {
            let found = lock(&core.hub.tracks).find(self.input, u32::from(track.pid), track.kind);
            let Some(number) = found else {
                continue;
            };
            let kept = before
                .remove(&track.pid)
                .filter(|old| old.track == number)
                .map(|mut old| {
                    if !old.branch.is(codec, track.channels) {
                        old.branch.change(codec, track.channels);
                        old.continuity = Continuity::new(codec);
                    }
                    if old.sealed.is_some() != track.encrypted {
                        old.sealed = Sealed::of(track);
                    }
                    old
                });
            let stream = kept.unwrap_or_else(|| Stream {
                track: number,
                branch: Branch::new(core, number, codec, track.channels),
                continuity: Continuity::new(codec),
                scrambled: false,
                newest: None,
                pending: Vec::new(),
                reach: Reach::default(),
                before: Reach::default(),
                told_skew: None,
                discontinuity: false,
                sealed: Sealed::of(track),
            });
            self.streams.insert(track.pid, stream);
        }
        self.leaving.retain(|branch| !branch.done());
        for mut gone in before.into_values() {
            gone.branch.end();
            self.leaving.push(gone.branch);
        }
        let numbers = self.streams.values().map(|s| s.track);
        self.lead = numbers.filter(|t| t.kind == Kind::Video).min();
        self.announced = tracks;
        if changed {
            core.hub.tell_tracks();
        }
    }

    fn pes(
        &mut self,
        core: &mut Core,
        pid: u16,
        (pts, dts): (Option<u64>, Option<u64>),
        data: Vec<u8>,
        (random_access, damaged): (bool, bool),
    ) {
        let Some(stream) = self.streams.get_mut(&pid) else {
            return;
        };
        let key = timeline_key(self.input, u32::from(pid));
        let mapped = pts.map(|pts| core.timeline.map(key, pts));
        let media = mapped.map(|m| m.media);
        core.fed = core.fed.max(media);
        let mut discontinuity = std::mem::take(&mut stream.discontinuity);
        if let Some(by_secs) = mapped.and_then(|m| m.jump_secs) {
            discontinuity = true;
            let fact = Fact::TimelineJump { by_secs };
            core.hub.fact(Some(stream.track), media, fact);
        }
        let ahead = match (pts, dts) {
            (Some(pts), Some(dts)) => pts.wrapping_sub(dts) & ((1 << 33) - 1),
            _ => 0,
        };
        let ahead = if ahead > MAX_DECODE_AHEAD { 0 } else { ahead };
        let decode_ahead_nanos = i64::try_from(ahead * 100_000 / 9).unwrap_or(0);
        stream.newest = media.or(stream.newest);
        let clean = stream.read_headers(core, &data, media) || random_access;
        match stream.track.kind {
            Kind::Video if self.lead == Some(stream.track) => {
                let decoded = media.map(|m| m.nanos() - decode_ahead_nanos);
                self.video_clock = decoded.map(MediaTime::from_nanos).or(self.video_clock);
                if let (true, Some(media)) = (self.began, media) {
                    self.began = false;
                    core.video_pieces.insert(self.input, media);
                }
            }
            Kind::Video => {}
            Kind::Audio => {
                let (beside, basis) = if self.only == Some(Kind::Audio) {
                    // A separate rendition: only the beginnings of pieces can be compared.
                    let first = std::mem::take(&mut self.began);
                    let piece = core.video_piece(self.input);
                    (piece.filter(|_| first), SkewBasis::Segment)
                } else {
                    (self.video_clock, SkewBasis::Multiplex)
                };
                if let (Some(audio), Some(video)) = (media, beside) {
                    stream.tell_skew(core, audio, video, basis);
                }
            }
        }
        if stream.scrambled || data.is_empty() {
            return;
        }
        let Some(data) = stream.unseal(core, data, media, (clean, damaged)) else {
            return;
        };
        let bytes = Bytes::from(data);
        if stream.branch.codec() == Some(Codec::Opus) {
            for unit in opus::units(&bytes) {
                let after = Duration::from_nanos(unit.after_nanos.unsigned_abs());
                let coded = Coded {
                    bytes: bytes.slice(unit.bytes),
                    media: media.map(|m| m.plus(after)),
                    decode_ahead_nanos: 0,
                    random_access: true,
                    discontinuity: std::mem::take(&mut discontinuity),
                };
                stream.branch.push(core, coded);
            }
            return;
        }
        let coded = Coded {
            bytes,
            media,
            decode_ahead_nanos,
            random_access: clean,
            discontinuity,
        };
        stream.branch.push(core, coded);
    }

    /// Tells the break markers of a section that are news.
    fn splice(&mut self, core: &Core, section: &[u8]) {
        if self.only == Some(Kind::Audio) {
            // The main input tells them.
            return;
        }
        let stream = &core.context.stream.id;
        let marks = match scte35::parse(section) {
            Ok(marks) => marks,
            Err(error) => return tracing::debug!(%stream, "{error}"),
        };
        let now = core.fed;
        let old = |heard: Option<MediaTime>| {
            heard
                .zip(now)
                .is_some_and(|(heard, now)| now.since(heard) > BREAK_REPEATS)
        };
        self.breaks.retain(|(_, heard)| !old(*heard));
        for mark in marks {
            if let Some((_, heard)) = self.breaks.iter_mut().find(|(known, _)| *known == mark) {
                *heard = now;
                continue;
            }
            if self.breaks.len() >= MAX_BREAKS {
                self.breaks.pop_front();
            }
            let at = mark.pts_90khz.and_then(|pts| core.timeline.locate(pts));
            let fact = Fact::Break(BreakMark {
                edge: mark.edge,
                source: BreakSource::Scte35,
                at,
                planned: mark.planned,
                event_id: mark.event_id,
            });
            core.hub.fact(None, now, fact);
            self.breaks.push_back((mark, now));
        }
    }

    fn evidence(&mut self, core: &Core, pid: Option<u16>, kind: EvidenceKind, count: u32) {
        match pid {
            None => {
                let from = self.video_clock;
                let evidence = Evidence::new(kind, from, count);
                let blamed = core.blamed(self.lead.into_iter());
                core.hub.fact(blamed, from, Fact::Evidence(evidence));
            }
            Some(pid) => {
                // Other streams (tables, subtitles) are counted, but are nobody's picture or sound.
                if let Some(stream) = self.streams.get_mut(&pid) {
                    stream.suspect(core, kind, count);
                }
            }
        }
    }
}

/// Counts what the checks found, and tells it.
fn checked(core: &Core, errors: TsErrors) {
    for (check, counter) in TsCheck::ALL.iter().zip(&core.hub.stats.ts_errors) {
        counter.add(u64::from(errors.count(*check)));
    }
    core.hub.fact(None, core.fed, Fact::Ts(errors));
}

impl Stream {
    /// Damage in the access unit that is being collected: its time is told with it.
    fn suspect(&mut self, core: &Core, kind: EvidenceKind, count: u32) {
        if let Some((_, known)) = self.pending.iter_mut().find(|(k, _)| *k == kind) {
            *known = known.saturating_add(count);
            return;
        }
        if self.pending.len() >= MAX_PENDING {
            self.tell_pending(core, None);
        }
        self.pending.push((kind, count));
    }

    /// Reads the headers of an access unit, tells what is wrong with it, and whether decoding may begin here.
    fn read_headers(&mut self, core: &Core, data: &[u8], media: Option<MediaTime>) -> bool {
        let mut all = Vec::new();
        if let Some(continuity) = self.continuity.as_mut().filter(|_| !self.scrambled) {
            continuity.access_unit(data, &mut |found| all.push(found));
            let reach = Reach {
                from: media,
                // Timestamps may be rounded on their way.
                until: (media.filter(|_| continuity.is_disposable()))
                    .map(|at| at.plus(Duration::from_millis(1))),
            };
            if let (Some(from), Some(_)) = (reach.from, reach.until) {
                self.branch.way.note_disposable(from);
            }
            self.before = std::mem::replace(&mut self.reach, reach);
        } else {
            self.reach = Reach {
                from: media,
                until: None,
            };
        }
        self.tell_pending(core, media);
        let mut clean = false;
        for found in all {
            match found {
                Found::Evidence(kind, count) => self.tell(core, kind, self.reach, count),
                Found::Earlier(kind, count) => self.tell(core, kind, self.before, count),
                Found::RandomAccess => {
                    clean = true;
                    if let Some(media) = media {
                        let fact = Fact::RandomAccess(media);
                        core.hub.fact(Some(self.track), Some(media), fact);
                    }
                }
                Found::Quantiser(quantiser) => {
                    if let Some(at) = media {
                        let fact = Fact::KeyQuantiser { at, quantiser };
                        core.hub.fact(Some(self.track), media, fact);
                    }
                }
                Found::Size { .. } => {}
            }
        }
        clean
    }

    fn tell_pending(&mut self, core: &Core, media: Option<MediaTime>) {
        let reach = match media {
            Some(_) => self.reach,
            None => Reach {
                from: self.newest,
                until: None,
            },
        };
        for (kind, count) in std::mem::take(&mut self.pending) {
            self.tell(core, kind, reach, count);
        }
    }

    fn tell(&self, core: &Core, kind: EvidenceKind, reach: Reach, count: u32) {
        let Reach { from, until } = reach;
        // A picture that is missing may have been referred to, whatever comes after it.
        let until = until.filter(|_| kind != EvidenceKind::PictureNumberGap);
        let evidence = Evidence {
            until,
            ..Evidence::new(kind, from, count)
        };
        core.hub
            .fact(Some(self.track), from, Fact::Evidence(evidence));
    }

    /// Decrypts an access unit, or frames of sound. `None`: nothing of it is for the decoder.
    fn unseal(
        &mut self,
        core: &Core,
        data: Vec<u8>,
        media: Option<MediaTime>,
        (clean, damaged): (bool, bool),
    ) -> Option<Vec<u8>> {
        let way = &self.branch.way;
        let from = media.or(self.newest).unwrap_or_default();
        let problem = |problem| {
            if lock(&core.hub.tracks).set_problem(self.track, problem) {
                core.hub.tell_tracks();
            }
        };
        let Some(sealed) = &mut self.sealed else {
            if way.is_on_trial() && clean {
                way.in_clear(from);
            }
            return Some(data);
        };
        let Some(named) = &core.keys.named else {
            problem(Some(Cause::EncryptedNoKey));
            return None;
        };
        let key = &named.key;
        let (data, decrypted) = match sealed {
            Sealed::Pictures => sample_aes::pictures(&data, named),
            Sealed::Sound(sound) => {
                if damaged {
                    sound.reset();
                }
                let opened = sound.push(&data, named);
                // Check sums spare the trial.
                match (opened.intact, opened.broken) {
                    (1.., _) => key.prove(Kind::Audio),
                    (0, 1..) if !key.is_proved(Kind::Audio) => {
                        key.refute();
                        problem(Some(Cause::EncryptedNoKey));
                        return None;
                    }
                    _ => {}
                }
                (opened.bytes, opened.decrypted)
            }
        };
        let may_begin = clean || self.track.kind == Kind::Audio;
        if decrypted >= TELLING && (may_begin || !key.is_refuted()) {
            way.try_key(from, key);
        }
        if !way.is_on_trial() {
            problem(None);
        }
        Some(data)
    }

    fn tell_skew(&mut self, core: &Core, audio: MediaTime, video: MediaTime, basis: SkewBasis) {
        let due = self.told_skew.is_none_or(|told| {
            audio.nanos().saturating_sub(told.nanos()).unsigned_abs() >= SKEW_EVERY_NANOS as u64
        });
        if due {
            self.told_skew = Some(audio);
            let audio_minus_video_secs = audio.secs_after(video);
            let fact = Fact::AvSkew {
                audio_minus_video_secs,
                basis,
            };
            core.hub.fact(Some(self.track), Some(audio), fact);
        }
    }
}
