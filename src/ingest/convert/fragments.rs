//! Fragmented MP4 input of a converter (ISO/IEC 14496-12): whole, box-checked fragments only.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use detectors::base::{Cause, Evidence, EvidenceKind, Fact, Kind, MediaTime};

use super::breaks::{InBand, MARKS_MAX};
use super::{ConvertError, Core, timeline_key};
use crate::ingest::appsink::{Mark, Way, lock};
use crate::ingest::cenc::{Cenc, CencError, Opened};
use crate::ingest::pipeline::{Claim, Pipeline};
use crate::ingest::tracks::Entry;
use crate::transport::boxes::{
    Header, Run, boxes, children, header, inside, run, sample_ticks, track_id, u16_at, u32_at,
};

/// Largest `moov` or other header box believed.
const MAX_HEADER: usize = 16 << 20;
/// Tracks read from one `moov`.
const MAX_TRACKS: usize = 32;
/// The longest header of a box.
const HEADER_BYTES: usize = 16;

/// A track of the `moov` box.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MoovTrack {
    id: u32,
    kind: Kind,
    timescale: u32,
    /// Of each sample, unless a fragment says otherwise.
    sample_ticks: u32,
    codec: String,
    language: Option<String>,
    problem: Option<Cause>,
}

/// One track's state.
struct Stream {
    way: Arc<Way>,
    info: MoovTrack,
    /// Newest `tfdt`.
    newest: Option<u64>,
    /// Whether the present pipeline knows the track's place on the media clock.
    placed: bool,
}

/// State of a fragmented MP4 input.
pub(super) struct Fragments {
    input: usize,
    only: Option<Kind>,
    language: Option<String>,
    init: Bytes,
    /// The same as the demultiplexer gets it: without signs of an encryption that is undone before.
    clear_init: Bytes,
    cenc: Cenc,
    streams: HashMap<u32, Stream>,
    pipeline: Option<Pipeline>,
    draining: Vec<Pipeline>,
    held: BytesMut,
    moof: Option<Bytes>,
    /// The next fragment starts a new pipeline.
    renew: bool,
    /// No fragment of this piece seen yet, by kind.
    fresh: [bool; 2],
    newest: Option<MediaTime>,
    /// Where the first fragment of this piece begins.
    piece_begins: Option<MediaTime>,
    /// Break markers that wait for their fragment.
    events: Vec<InBand>,
    announced: bool,
    error: Option<ConvertError>,
}

impl Fragments {
    pub(super) fn new(input: usize, only: Option<Kind>, language: Option<String>) -> Self {
        Self {
            input,
            only,
            language,
            init: Bytes::new(),
            clear_init: Bytes::new(),
            cenc: Cenc::default(),
            streams: HashMap::new(),
            pipeline: None,
            draining: Vec::new(),
            held: BytesMut::new(),
            moof: None,
            renew: true,
            fresh: [true; 2],
            newest: None,
            piece_begins: None,
            events: Vec::new(),
            announced: false,
            error: None,
        }
    }

    /// Where the first fragment of this piece begins, once there is one.
    pub(super) fn piece_begins(&self) -> Option<MediaTime> {
        self.piece_begins
    }

    pub(super) fn begin(
        &mut self,
        core: &mut Core,
        init: Option<Bytes>,
        discontinuity: bool,
    ) -> Result<(), ConvertError> {
        self.held.clear();
        self.moof = None;
        self.fresh = [true; 2];
        self.piece_begins = None;
        self.events.clear();
        if discontinuity {
            self.renew = true;
            core.timeline.discontinuity();
        }
        if let Some(init) = init {
            self.initialise(core, init)?;
        }
        Ok(())
    }

    fn initialise(&mut self, core: &mut Core, init: Bytes) -> Result<(), ConvertError> {
        if self.announced && init == self.init {
            return Ok(());
        }
        let mut clear = init.to_vec();
        // Tracks under schemes that nobody knows keep their sample entries, and are refused by those.
        self.cenc = Cenc::open(&mut clear);
        self.clear_init = clear.into();
        let mut tracks = read_moov(&self.clear_init).ok_or_else(|| ConvertError {
            cause: Cause::Undecodable,
            detail: "the initialisation segment holds no usable `moov`".to_owned(),
        })?;
        for track in &mut tracks {
            if self.cenc.is_unknown(track.id) {
                track.problem = Some(Cause::EncryptionUnsupported);
            }
        }
        self.renew = true;
        self.announced = true;
        self.init = init;
        let wanted = tracks
            .into_iter()
            .filter(|t| self.only.is_none_or(|kind| kind == t.kind))
            .collect::<Vec<_>>();
        let entries = wanted
            .iter()
            .map(|t| Entry {
                id: t.id,
                kind: t.kind,
                codec: t.codec.clone(),
                language: t.language.clone().or_else(|| self.language.clone()),
                problem: t.problem,
            })
            .collect::<Vec<_>>();
        let changed = lock(&core.hub.tracks).replace(self.input, &entries);
        let mut before = std::mem::take(&mut self.streams);
        for info in wanted {
            let found = lock(&core.hub.tracks).find(self.input, info.id, info.kind);
            let Some(track) = found else {
                continue;
            };
            let old = before.remove(&info.id).filter(|o| o.way.track == track);
            let (way, newest) = match old {
                Some(old) => (old.way, old.newest),
                None => (Way::new(track, &core.hub), None),
            };
            let stream = Stream {
                way,
                newest,
                placed: false,
                info: info.clone(),
            };
            self.streams.insert(info.id, stream);
        }
        if changed {
            core.hub.tell_tracks();
        }
        Ok(())
    }

    pub(super) fn data(&mut self, core: &mut Core, bytes: Bytes) -> Result<(), ConvertError> {
        self.held.extend_from_slice(&bytes);
        let largest = core.context.stream.input.limits.segment_bytes;
        loop {
            let front = header(&self.held);
            let senseless = front.is_none() && self.held.len() >= HEADER_BYTES;
            let (name, length, size) = match front {
                Some(Header {
                    name,
                    length,
                    size: Some(size),
                }) => (name, length, usize::try_from(size).unwrap_or(usize::MAX)),
                // More is needed to tell; a box that reaches to the end is none that can be waited for.
                _ if !senseless => break,
                _ => {
                    self.held.clear();
                    let detail = "an MP4 box whose size makes no sense".to_owned();
                    let cause = Cause::Undecodable;
                    return Err(ConvertError { cause, detail });
                }
            };
            let limit = match &name {
                b"mdat" => largest,
                _ => MAX_HEADER,
            };
            if size > limit {
                self.held.clear();
                return Err(ConvertError {
                    cause: Cause::TooLarge,
                    detail: format!("an MP4 box of {size} bytes"),
                });
            }
            if self.held.len() < size {
                break;
            }
            let whole = self.held.split_to(size).freeze();
            match &name {
                b"moov" => self.initialise(core, whole)?,
                b"moof" => self.moof = Some(whole),
                b"emsg" if self.events.len() < MARKS_MAX => {
                    let content = whole.get(length..).unwrap_or_default();
                    self.events.extend(InBand::read(content));
                }
                b"mdat" => {
                    if let Some(moof) = self.moof.take() {
                        self.fragment(core, &moof, &whole)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn piece_end(
        &mut self,
        core: &mut Core,
        truncated: bool,
    ) -> Result<(), ConvertError> {
        // A box that reaches to the end of the piece says so with size 0.
        if !truncated && self.held.starts_with(&[0, 0, 0, 0, b'm', b'd', b'a', b't']) {
            let whole = self.held.split().freeze();
            if let Some(moof) = self.moof.take() {
                self.fragment(core, &moof, &whole)?;
            }
        }
        if truncated || !self.held.is_empty() || self.moof.is_some() {
            let from = self.newest;
            let evidence = Evidence::new(EvidenceKind::Truncated, from, 1);
            let blamed = core.blamed(self.streams.values().map(|s| s.way.track));
            core.hub.fact(blamed, from, Fact::Evidence(evidence));
        }
        self.held.clear();
        self.moof = None;
        Ok(())
    }

    /// A whole fragment.
    fn fragment(&mut self, core: &mut Core, moof: &[u8], mdat: &[u8]) -> Result<(), ConvertError> {
        if !self.announced {
            return Err(ConvertError {
                cause: Cause::Undecodable,
                detail: "a fragment without an initialisation segment".to_owned(),
            });
        }
        if let Some(Err(error)) = self.pipeline.as_ref().and_then(|p| p.done.ended()) {
            self.error = Some(error);
            self.pipeline = None;
            self.renew = true;
        }
        self.draining.retain(|p| p.done.ended().is_none());
        let runs = read_moof(moof, |id| {
            self.streams.get(&id).map_or(0, |s| s.info.sample_ticks)
        });
        let mut placed = Vec::new();
        for run in runs {
            let (id, tfdt) = (run.track_id, run.start);
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let scale = u128::from(stream.info.timescale.max(1));
            let ticks = u128::from(tfdt) * 90_000 / scale;
            let nanos = i64::try_from(u128::from(tfdt) * 1_000_000_000 / scale).unwrap_or(i64::MAX);
            let key = timeline_key(self.input, id);
            let mapped = core.timeline.map(key, (ticks & ((1 << 33) - 1)) as u64);
            core.timeline
                .lasts(key, u128::from(run.ticks) * 90_000 / scale);
            if let Some(by_secs) = mapped.jump_secs {
                self.renew = true;
                let fact = Fact::TimelineJump { by_secs };
                core.hub
                    .fact(Some(stream.way.track), Some(mapped.media), fact);
            }
            // The demultiplexer and the decoders do not survive time going back.
            self.renew |= stream.newest.is_some_and(|newest| tfdt < newest);
            stream.newest = Some(tfdt);
            placed.push((id, mapped.media, nanos));
        }
        if self.renew {
            self.renew(core)?;
        }
        let media_of: HashMap<u32, MediaTime> = placed.iter().map(|p| (p.0, p.1)).collect();
        if let Some((_, media, nanos)) = placed.first() {
            self.piece_begins.get_or_insert(*media);
            for event in self.events.drain(..) {
                event
                    .marks(*media, *nanos)
                    .for_each(|mark| core.tell_break(mark));
            }
        }
        for (id, media, nanos) in placed {
            self.newest = Some(media);
            core.fed = core.fed.max(Some(media));
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            if !std::mem::replace(&mut stream.placed, true) {
                stream.way.set_shift(media.nanos().saturating_sub(nanos));
                stream.way.mark_renewed(media);
            }
            self.skew(core, id, media);
        }
        let mut whole = BytesMut::with_capacity(moof.len() + mdat.len());
        whole.extend_from_slice(moof);
        whole.extend_from_slice(mdat);
        if !self.cenc.is_empty() {
            let opened = self.cenc.decrypt(&mut whole, &core.keys);
            if !self.tell_encrypted(core, opened, &media_of) {
                return Ok(());
            }
        }
        if let Some(pipeline) = &self.pipeline {
            pipeline.push(whole.freeze(), None);
        }
        Ok(())
    }

    /// Keys may run out, come back, and prove wrong in the middle of a stream. Tells whether anything of the fragment
    /// is in the clear.
    fn tell_encrypted(
        &self,
        core: &Core,
        opened: Result<Vec<Opened>, CencError>,
        media_of: &HashMap<u32, MediaTime>,
    ) -> bool {
        let cause = |error: CencError| {
            tracing::debug!(stream = %core.context.stream.id, "{error}");
            match error {
                CencError::Malformed => Cause::Undecodable,
                CencError::NoKey | CencError::WrongKey => Cause::EncryptedNoKey,
            }
        };
        let (opened, rest) = match opened {
            Ok(opened) => (opened, None),
            Err(error) => (Vec::new(), Some(cause(error))),
        };
        let mut changed = false;
        // Tracks that were never encrypted.
        let mut clear = rest.is_none() && opened.is_empty();
        for (id, stream) in &self.streams {
            let way = &stream.way;
            let part = opened.iter().find(|part| part.track_id == *id);
            let problem = match part {
                // Not of this fragment.
                None if rest.is_none() && !media_of.contains_key(id) => continue,
                None => {
                    clear |= rest.is_none();
                    rest
                }
                Some(part) => match &part.result {
                    Ok(key) => {
                        clear |= stream.info.problem.is_none();
                        match (key, media_of.get(id)) {
                            (Some(key), Some(media)) if part.tells(key.is_refuted()) => {
                                way.try_key(*media, key);
                            }
                            (None, Some(media)) => way.in_clear(*media),
                            _ => {}
                        }
                        // Whether the key is right is for the decoder to tell.
                        if way.is_on_trial() {
                            continue;
                        }
                        None
                    }
                    Err(error) => Some(cause(*error)),
                },
            };
            let problem = stream.info.problem.or(problem);
            changed |= lock(&core.hub.tracks).set_problem(way.track, problem);
        }
        if changed {
            core.hub.tell_tracks();
        }
        clear
    }

    fn skew(&mut self, core: &mut Core, id: u32, media: MediaTime) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let kind = stream.info.kind;
        let at = match kind {
            Kind::Video => 0,
            Kind::Audio => 1,
        };
        if !std::mem::take(&mut self.fresh[at]) {
            return;
        }
        core.piece_begins(self.input, kind, media, Some(stream.way.track));
    }

    /// Ends the pipeline and starts a new one that waits for it.
    fn renew(&mut self, core: &mut Core) -> Result<(), ConvertError> {
        self.end();
        self.renew = false;
        let mut ways = HashMap::new();
        for (id, stream) in &mut self.streams {
            stream.way = stream.way.renewed();
            stream.placed = false;
            ways.insert(*id, Arc::clone(&stream.way));
        }
        let hub = Arc::clone(&core.hub);
        let claim: Claim = Box::new(move |announced| {
            let way = ways.get(&announced.id)?;
            if announced.problem.is_some()
                && lock(&hub.tracks).set_problem(way.track, announced.problem)
            {
                hub.tell_tracks();
            }
            Some(Arc::clone(way))
        });
        let after = self.draining.last().map(|p| Arc::clone(&p.done));
        let pipeline = Pipeline::fragments(&core.hub, core.settings, after, claim)?;
        pipeline.push(self.clear_init.clone(), None);
        self.pipeline = Some(pipeline);
        Ok(())
    }

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
        let problem = |cause| {
            let detail = "nothing in the fragments could be decoded".to_owned();
            Some(ConvertError { cause, detail })
        };
        let mut causes = self.streams.values().map(|s| s.info.problem);
        if let Some(Some(cause)) = causes.clone().find(Option::is_some)
            && causes.all(|c| c.is_some())
        {
            return problem(cause);
        }
        let late = || self.draining.iter().find_map(|p| p.done.ended()?.err());
        self.error
            .clone()
            .or_else(late)
            .or_else(|| problem(Cause::Undecodable))
    }
}

impl Way {
    /// Marks a decoder restart, unless nothing was decoded before it.
    fn mark_renewed(&self, media: MediaTime) {
        if self.has_format() {
            self.mark(media, Mark::Discontinuity);
        }
    }
}

/// Whether a track of pictures or sound in this `moov` is encrypted.
pub(in crate::ingest) fn encrypted(moov: &[u8]) -> bool {
    read_moov(moov).is_some_and(|tracks| {
        let locked = |t: &MoovTrack| t.problem == Some(Cause::EncryptedNoKey);
        tracks.iter().any(locked)
    })
}

/// Tracks and fragments that some boxes tell.
#[cfg(any(test, fuzzing))]
pub(crate) fn told(boxes: &[u8]) -> (usize, usize) {
    let tracks = read_moov(boxes).map_or(0, |tracks| tracks.len());
    (tracks, read_moof(boxes, |_| 0).len())
}

/// Tracks of an initialisation segment; `None` without any.
fn read_moov(init: &[u8]) -> Option<Vec<MoovTrack>> {
    let moov = inside(init, &[b"moov"])?;
    let tracks = children(moov, b"trak").filter_map(read_trak);
    let tracks = tracks.map(|track| MoovTrack {
        sample_ticks: sample_ticks(moov, track.id),
        ..track
    });
    let tracks = tracks.take(MAX_TRACKS).collect::<Vec<_>>();
    (!tracks.is_empty()).then_some(tracks)
}

fn read_trak(trak: &[u8]) -> Option<MoovTrack> {
    let id = track_id(trak)?;
    let mdhd = inside(trak, &[b"mdia", b"mdhd"])?;
    let at = if *mdhd.first()? == 1 { 20 } else { 12 };
    let timescale = u32_at(mdhd, at)?;
    let packed = u16_at(mdhd, at + if at == 20 { 12 } else { 8 })?;
    let kind = match inside(trak, &[b"mdia", b"hdlr"])?.get(8..12)? {
        b"vide" => Kind::Video,
        b"soun" => Kind::Audio,
        _ => return None,
    };
    let stsd = inside(trak, &[b"mdia", b"minf", b"stbl", b"stsd"])?;
    let (codec, problem) = codec_word(&boxes(stsd, 8..stsd.len()).next()?.name);
    Some(MoovTrack {
        id,
        kind,
        timescale,
        sample_ticks: 0,
        codec,
        language: language(packed),
        problem,
    })
}

/// Word for a sample entry, and why it cannot be decoded.
fn codec_word(entry: &[u8; 4]) -> (String, Option<Cause>) {
    let refused = |word: &str| (word.to_owned(), Some(Cause::UnsupportedCodec));
    let word = match entry {
        b"avc1" | b"avc3" => "h264",
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => "hevc",
        b"mp4a" => "aac",
        b"ac-3" => "ac3",
        b"ec-3" => "eac3",
        b"Opus" => "opus",
        b"fLaC" => "flac",
        b"av01" => "av1",
        b"vp08" => "vp8",
        b"vp09" => "vp9",
        b"mp4v" => "mpeg4",
        b"vvc1" | b"vvi1" => return refused("vvc"),
        b"evc1" => return refused("evc"),
        b"apv1" => return refused("apv"),
        b"ac-4" => return refused("ac4"),
        b"mha1" | b"mha2" | b"mhm1" | b"mhm2" => return refused("mpegh"),
        b"dtsc" | b"dtse" | b"dtsh" | b"dtsl" | b"dtsx" => return refused("dts"),
        b"encv" | b"enca" => return ("encrypted".to_owned(), Some(Cause::EncryptedNoKey)),
        other => return (other.escape_ascii().to_string(), None),
    };
    (word.to_owned(), None)
}

/// ISO 639-2/T code of `mdhd`: three letters of five bits.
fn language(packed: u16) -> Option<String> {
    let letters = [packed >> 10, packed >> 5, packed].map(|l| (l & 31) as u8 + 0x60);
    let text = std::str::from_utf8(&letters).ok()?;
    let known = letters.iter().all(u8::is_ascii_lowercase) && text != "und";
    known.then(|| text.to_owned())
}

/// What a `moof` brings of each track.
fn read_moof(moof: &[u8], sample_ticks: impl Fn(u32) -> u32) -> Vec<Run> {
    let fragments = inside(moof, &[b"moof"]).unwrap_or_default();
    children(fragments, b"traf")
        .take(MAX_TRACKS)
        .filter_map(|traf| run(traf, &sample_ticks))
        .collect()
}
