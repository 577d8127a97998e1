//! Reading the segments of one list in order, while somebody else keeps the list fresh.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use detectors::base::{Cause, Fact, InputEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::ahead::Ahead;
use super::gauge::Gauge;
use super::piece::{InitFeed, NotMedia, Piece, Stage};
use super::{COMPLETE_FAILURES_MAX, Session, join};
use crate::config::{KeyId, Pace};
use crate::ingest::cenc::key_ids;
use crate::ingest::convert::{Feed, break_mark};
use crate::ingest::crypt::{SegmentDecryptor, sequence_iv};
use crate::ingest::fetch::{Backoff, FetchError, Request, What};
use crate::ingest::keys::{NamedKey, SampleKeys};
use crate::transport::playlist::follow::{Cursor, Passed, Step};
use crate::transport::playlist::{Encryption, Init, Media, Part, Segment};

/// A segment may take this many target durations to arrive, and at least [`SEGMENT_TOTAL_MIN`].
const SEGMENT_TOTAL_TARGETS: u32 = 3;
const SEGMENT_TOTAL_MIN: Duration = Duration::from_secs(15);

/// Most break markers that are remembered as told beyond those that the list still has.
const BREAKS_MAX: usize = 4096;

/// Inputs of a complete playlist stay within this many target durations of each other.
const LEAD_TARGETS: u32 = 2;

/// After this many segments in a row with a part that could not be read, only whole segments are.
const PART_FAILURES_MAX: u32 = 3;

/// Why an input stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// Played to its end.
    Ended,
    /// There never was a list.
    Absent,
    /// The converter takes no more.
    Closed,
    /// A complete playlist whose segments cannot be read.
    GaveUp(FetchError),
}

/// Why a segment could not be read.
enum Trouble {
    /// A further attempt may go better.
    Passing(FetchError),
    /// It will not.
    Lasting(FetchError),
    /// See [`Stop::Closed`].
    Closed,
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        match error.cause {
            Cause::SchemeRefused | Cause::AddressRefused | Cause::TooLarge => {
                Trouble::Lasting(error)
            }
            _ => Trouble::Passing(error),
        }
    }
}

/// A state of the list, as the reader sees it. HLS and DASH are told in the same words.
#[derive(Clone)]
pub(in crate::ingest::source) struct Loaded {
    /// How often the numbers of segments began anew before.
    pub epoch: u64,
    pub media: Arc<Media>,
    /// What its URLs are relative to.
    pub base: Arc<Url>,
}

pub(in crate::ingest::source) type Latest = watch::Receiver<Option<Loaded>>;

/// Reads segments in order.
pub(super) struct Reader<'a> {
    session: &'a Session<'a>,
    number: usize,
    feed_to: usize,
    feeds: mpsc::Sender<(usize, Feed)>,
    backoff: Backoff,
    failed_in_a_row: u32,
    /// Whether any segment has been read.
    worked: bool,
    /// Why the newest failing segment was given up.
    lost: Option<FetchError>,
    /// The newest initialisation section.
    init: Option<(Url, Arc<Init>, Bytes)>,
    fed_init: Option<Bytes>,
    /// The segment that parts have been read of.
    open: Option<Open>,
    /// Segments in a row with a part that could not be read.
    parts_failed: u32,
    /// The operator's keys for samples, with the one that the playlist names.
    sample_keys: SampleKeys,
    fed_keys: SampleKeys,
    /// Ids of the keys that the newest initialisation section names.
    init_keys: Vec<KeyId>,
    /// Length of what has been read of a complete playlist.
    position: Duration,
    began: Option<Instant>,
    gauge: Gauge,
    /// Break events that have been told; `None` before the first segment.
    told_events: Option<HashSet<(i64, u64, usize)>>,
}

/// A segment that is read part by part.
struct Open {
    epoch: u64,
    sequence: u64,
    piece: Piece,
    /// Nothing of the segment was left out before.
    from_start: bool,
    /// A discontinuity lies before it.
    discontinuity: bool,
}

/// The segment at hand.
struct Task<'s> {
    loaded: &'s Loaded,
    sequence: u64,
    segment: &'s Segment,
}

/// The part of it at hand.
struct PartTask<'s> {
    task: Task<'s>,
    index: usize,
    part: &'s Part,
    discontinuity: bool,
}

impl<'a> Reader<'a> {
    pub fn new(
        session: &'a Session<'a>,
        number: usize,
        feed_to: usize,
        feeds: mpsc::Sender<(usize, Feed)>,
    ) -> Self {
        Self {
            session,
            number,
            feed_to,
            feeds,
            backoff: Backoff::default(),
            failed_in_a_row: 0,
            worked: false,
            lost: None,
            init: None,
            fed_init: None,
            open: None,
            parts_failed: 0,
            sample_keys: session.content_keys.clone(),
            fed_keys: session.content_keys.clone(),
            init_keys: Vec::new(),
            position: Duration::ZERO,
            began: None,
            gauge: Gauge::new(number),
            told_events: None,
        }
    }

    /// Reads to the end. Live, that is for ever.
    pub async fn run(mut self, latest: Latest) -> Stop {
        let stop = self.read(latest).await;
        self.session.progress.send_modify(|all| {
            if let Some(own) = all.get_mut(self.number) {
                *own = Duration::MAX;
            }
        });
        stop
    }

    async fn read(&mut self, mut latest: Latest) -> Stop {
        let mut cursor = Cursor::default();
        let mut ahead = Ahead::new(self.session);
        let mut complete = None;
        loop {
            let loaded = latest.borrow_and_update().clone();
            let step = loaded
                .as_ref()
                .map(|loaded| (loaded, cursor.step(loaded.epoch, &loaded.media)));
            let (loaded, sequence, segment, part, discontinuity, missed) = match step {
                Some((_, Step::Ended)) => {
                    if self.close(Stage::Complete).await.is_err() {
                        return Stop::Closed;
                    }
                    // Of a short playlist nothing may be left to fail on.
                    let lost = self.lost.take().filter(|_| !self.worked);
                    return lost.map_or(Stop::Ended, Stop::GaveUp);
                }
                None | Some((_, Step::Wait)) => {
                    if let Some(loaded) = &loaded
                        && let Some(hint) = cursor.hint(loaded.epoch, &loaded.media)
                    {
                        ahead.ask(hint, &loaded.base, loaded.media.target);
                    }
                    let changed = tokio::select! {
                        changed = latest.changed() => changed,
                        () = ahead.wait() => Ok(()),
                    };
                    if changed.is_err() {
                        let closed = self.close(Stage::Complete).await;
                        let stop = if loaded.is_some() {
                            Stop::Ended
                        } else {
                            Stop::Absent
                        };
                        return closed.err().unwrap_or(stop);
                    }
                    continue;
                }
                Some((loaded, Step::Close { sequence })) => {
                    let whole = self.open.as_ref().filter(|open| open.from_start);
                    let whole = whole.map(|open| open.discontinuity);
                    if self.close(Stage::Complete).await.is_err() {
                        return Stop::Closed;
                    }
                    if let Some(discontinuity) = whole {
                        (self.gauge).read(self.session, loaded, sequence, discontinuity);
                    }
                    self.parts_failed = 0;
                    cursor.done(&loaded.media, sequence, Passed::Read);
                    continue;
                }
                Some((
                    loaded,
                    Step::Read {
                        sequence,
                        segment,
                        discontinuity,
                        missed,
                    },
                )) => (loaded, sequence, segment, None, discontinuity, missed),
                Some((
                    loaded,
                    Step::Part {
                        sequence,
                        segment,
                        index,
                        part,
                        discontinuity,
                        missed,
                    },
                )) => (
                    loaded,
                    sequence,
                    segment,
                    Some((index, part)),
                    discontinuity,
                    missed,
                ),
            };
            if missed > 0 {
                let stream = &self.session.cx.stream.id;
                tracing::warn!(%stream, missed, "segments left the playlist before they were read");
                self.gauge.gone(self.session, segment, missed);
            }
            let marks = self.gauge.marks(loaded, sequence);
            if self.send(marks).await.is_err() {
                return Stop::Closed;
            }
            let place = (loaded.epoch, sequence);
            if self
                .open
                .as_ref()
                .is_some_and(|open| (open.epoch, open.sequence) != place)
                && self.close(Stage::CutShort).await.is_err()
            {
                return Stop::Closed;
            }
            if complete.is_none() && loaded.media.ended && self.session.standings.leads(self.number)
            {
                (self.session.tell).fact(Fact::Input(InputEvent::FromStart));
            }
            if *complete.get_or_insert(loaded.media.ended) {
                self.keep_pace(loaded.media.target).await;
                self.position += segment.duration;
            }
            let task = Task {
                loaded,
                sequence,
                segment,
            };
            if let Some((index, part)) = part {
                let task = PartTask {
                    task,
                    index,
                    part,
                    discontinuity,
                };
                match self.part(&task, &mut ahead).await {
                    Ok(Some(passed)) => cursor.part_done(&loaded.media, sequence, index, passed),
                    Ok(None) => {
                        cursor.leave_parts(sequence);
                        if self.parts_failed >= PART_FAILURES_MAX {
                            cursor.only_whole_segments();
                        }
                    }
                    Err(stop) => return stop,
                }
                continue;
            }
            match self.segment(&task, discontinuity, &latest).await {
                Ok(passed) => cursor.done(&loaded.media, sequence, passed),
                Err(stop) => return stop,
            }
        }
    }

    /// Deals with one part of a segment; `None` when it could not be read, and the whole segment must do.
    async fn part(
        &mut self,
        task: &PartTask<'_>,
        ahead: &mut Ahead<'a>,
    ) -> Result<Option<Passed>, Stop> {
        if task.part.gap {
            if self.session.standings.speaks(self.number) {
                self.session.tell.fact(Fact::AnnouncedGap {
                    span: task.part.duration,
                });
            }
            let closed = self.close(Stage::Complete).await;
            return closed.map(|()| Some(Passed::Unread));
        }
        let error = match self.attempt_part(task, ahead).await {
            Ok(()) => {
                self.backoff.worked();
                self.failed_in_a_row = 0;
                self.worked = true;
                self.session.standings.segment(self.number, None);
                return Ok(Some(Passed::Read));
            }
            Err(Trouble::Closed) => return Err(Stop::Closed),
            Err(Trouble::Passing(error) | Trouble::Lasting(error)) => error,
        };
        self.parts_failed += 1;
        self.session.rest(&mut self.backoff, &error).await;
        Ok(None)
    }

    async fn attempt_part(
        &mut self,
        part: &PartTask<'_>,
        ahead: &mut Ahead<'a>,
    ) -> Result<(), Trouble> {
        let task = &part.task;
        let bytes = match ahead.take(part.part, &task.loaded.base).await {
            Some(bytes) => bytes,
            None => self.part_bytes(task, part.part).await?,
        };
        let mut open = self.open.take().unwrap_or_else(|| {
            self.gauge.begin_parts();
            Open {
                epoch: task.loaded.epoch,
                sequence: task.sequence,
                piece: Piece::new(part.discontinuity),
                from_start: part.index == 0,
                discontinuity: part.discontinuity,
            }
        });
        let feeds = self.take_part(task, bytes, &mut open.piece).await;
        self.open = Some(open).filter(|open| open.piece.begun);
        self.send_with_keys(task, feeds?).await
    }

    async fn take_part(
        &mut self,
        task: &Task<'_>,
        bytes: Bytes,
        piece: &mut Piece,
    ) -> Result<Vec<Feed>, Trouble> {
        let key_url = self.prepare(task, piece).await?;
        let init = match &task.segment.init {
            Some(init) => Some(self.init(task.loaded, init).await?),
            None => None,
        };
        let mut init = InitFeed {
            bytes: init.as_ref(),
            fed: &mut self.fed_init,
        };
        let feeds = piece
            .push_part(bytes, &mut init)
            .map_err(|NotMedia| self.not_media(task, key_url.as_ref()))?;
        self.say_received(piece);
        Ok(feeds)
    }

    async fn part_bytes(&self, task: &Task<'_>, part: &Part) -> Result<Bytes, Trouble> {
        let Task { loaded, .. } = task;
        let url = join(&loaded.base, &part.uri)?;
        let request = Request {
            url: &url,
            referrer: Some(&loaded.base),
            what: What::Segment,
            range: part.range,
            skip: 0,
            total: segment_total(&loaded.media),
        };
        let (_, bytes) = self.session.fetcher.bytes(request).await?;
        Ok(bytes)
    }

    /// Ends the segment that parts have been read of.
    async fn close(&mut self, stage: Stage) -> Result<(), Stop> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let mut init = InitFeed {
            bytes: None,
            fed: &mut self.fed_init,
        };
        let rest = open.piece.finish(stage, &mut init).unwrap_or_default();
        self.send(rest).await.map_err(|_| Stop::Closed)
    }

    /// In a complete playlist: waits for the other inputs, and for the time when a viewer would be here.
    async fn keep_pace(&mut self, target: Duration) {
        let lead = target * LEAD_TARGETS;
        let own = self.position;
        let mut progress = self.session.progress.subscribe();
        self.session.progress.send_modify(|all| {
            if let Some(entry) = all.get_mut(self.number) {
                *entry = own;
            }
        });
        // The sender lives as long as the session: this cannot fail.
        let _ = progress
            .wait_for(|all| all.iter().all(|other| other.saturating_add(lead) >= own))
            .await;
        let began = *self.began.get_or_insert_with(Instant::now);
        if self.session.cx.stream.input.pace == Pace::RealTime {
            sleep_until(began + own.saturating_sub(target)).await;
        }
    }

    /// Deals with one segment, over as many attempts as it is worth.
    async fn segment(
        &mut self,
        task: &Task<'_>,
        discontinuity: bool,
        latest: &Latest,
    ) -> Result<Passed, Stop> {
        let events = self.events(task);
        self.send(events).await.map_err(|_| Stop::Closed)?;
        if task.segment.gap {
            if self.session.standings.speaks(self.number) {
                self.session.tell.fact(Fact::AnnouncedGap {
                    span: task.segment.duration,
                });
            }
            self.close(Stage::Complete).await?;
            return Ok(Passed::Unread);
        }
        let first_try = Instant::now();
        if self.open.is_none() {
            self.gauge.begin();
        }
        let mut piece = Piece::new(discontinuity);
        if let Some(open) = self.open.take() {
            if !open.from_start {
                // Which bytes of the whole have been read, nobody knows.
                self.open = Some(open);
                self.close(Stage::CutShort).await?;
                return Ok(Passed::Read);
            }
            piece = open.piece;
            piece.go_on_whole();
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (error, lasting) = match self.attempt(task, &mut piece).await {
                Ok(()) => {
                    self.session.edge.send_modify(|edge| {
                        edge.read += 1;
                        edge.missing = 0;
                    });
                    self.backoff.worked();
                    self.failed_in_a_row = 0;
                    self.worked = true;
                    let (session, loaded) = (self.session, task.loaded);
                    self.gauge
                        .read(session, loaded, task.sequence, discontinuity);
                    self.session.standings.segment(self.number, None);
                    return Ok(Passed::Read);
                }
                Err(Trouble::Closed) => return Err(Stop::Closed),
                Err(Trouble::Passing(error)) => (error, false),
                Err(Trouble::Lasting(error)) => (error, true),
            };
            let newest = latest.borrow().as_ref().map(|now| now.epoch);
            if error.cause == Cause::HttpNotFound && newest == Some(task.loaded.epoch) {
                self.session.edge.send_modify(|edge| edge.missing += 1);
            }
            let standings = &self.session.standings;
            standings.segment(self.number, Some(error.cause));
            self.session.rest(&mut self.backoff, &error).await;
            if lasting || moved_on(task, first_try, attempts, latest) {
                let session = self.session;
                self.gauge.failed(session, task.segment, error.cause);
                return self.give_up(task, piece, error).await;
            }
        }
    }

    /// The break events that take effect in this segment or before it, and have not been told. Those that were over
    /// before the first segment are not told at all.
    fn events(&mut self, task: &Task<'_>) -> Vec<Feed> {
        let media = &task.loaded.media;
        let joining = self.told_events.is_none();
        let told = self.told_events.get_or_insert_default();
        let at = usize::try_from(task.sequence.saturating_sub(media.sequence));
        let at = at.unwrap_or(usize::MAX);
        let mut feeds = Vec::new();
        for one in media
            .events
            .iter()
            .filter(|one| self.number == 0 && one.segment <= at)
        {
            if !told.insert(one.key) {
                continue;
            }
            let between: Duration = media
                .segments
                .get(one.segment..at)
                .map_or(Duration::ZERO, |passed| {
                    passed.iter().map(|s| s.duration).sum()
                });
            let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
            let offset = one.offset_nanos.saturating_sub(nanos(between));
            let lasts = nanos(one.mark.planned.unwrap_or_default());
            if !joining || offset.saturating_add(lasts) >= 0 {
                feeds.push(Feed::Break(break_mark(&one.mark, None), offset));
            }
        }
        if told.len() > media.events.len() + BREAKS_MAX {
            told.retain(|key| media.events.iter().any(|one| one.key == *key));
        }
        feeds
    }

    async fn give_up(
        &mut self,
        task: &Task<'_>,
        mut piece: Piece,
        error: FetchError,
    ) -> Result<Passed, Stop> {
        let init = self.init.as_ref().map(|(_, _, bytes)| bytes.clone());
        let rest = piece.finish(
            Stage::CutShort,
            &mut InitFeed {
                bytes: init.as_ref(),
                fed: &mut self.fed_init,
            },
        );
        self.send(rest.unwrap_or_default())
            .await
            .map_err(|_| Stop::Closed)?;
        self.failed_in_a_row += 1;
        if task.loaded.media.ended && self.failed_in_a_row >= COMPLETE_FAILURES_MAX {
            return Err(Stop::GaveUp(error));
        }
        self.lost = Some(error);
        Ok(match piece.begun {
            true => Passed::Read,
            false => Passed::Unread,
        })
    }

    /// One attempt; goes on where the previous one broke off.
    async fn attempt(&mut self, task: &Task<'_>, piece: &mut Piece) -> Result<(), Trouble> {
        let Task {
            loaded, segment, ..
        } = task;
        let session = self.session;
        let url = join(&loaded.base, &segment.uri)?;
        let key_url = self.prepare(task, piece).await?;
        let init = match &segment.init {
            Some(init) => Some(self.init(loaded, init).await?),
            None => None,
        };
        let mut body = session
            .fetcher
            .open(Request {
                url: &url,
                referrer: Some(&loaded.base),
                what: What::Segment,
                range: segment.range,
                skip: piece.received,
                total: segment_total(&loaded.media),
            })
            .await?;
        while let Some(chunk) = body.chunk().await? {
            let mut init = InitFeed {
                bytes: init.as_ref(),
                fed: &mut self.fed_init,
            };
            let feeds = piece
                .push(chunk, &mut init)
                .map_err(|NotMedia| self.not_media(task, key_url.as_ref()))?;
            self.say_received(piece);
            self.send_with_keys(task, feeds).await?;
        }
        let mut init = InitFeed {
            bytes: init.as_ref(),
            fed: &mut self.fed_init,
        };
        let rest = piece
            .finish(Stage::Complete, &mut init)
            .map_err(|NotMedia| self.not_media(task, key_url.as_ref()))?;
        self.say_received(piece);
        self.send_with_keys(task, rest).await
    }

    fn not_media(&self, task: &Task<'_>, key_url: Option<&Url>) -> Trouble {
        let sequence = task.sequence;
        Trouble::Lasting(match key_url {
            Some(key_url) => {
                self.session.keys.forget(key_url);
                FetchError::new(
                    Cause::EncryptedNoKey,
                    format!("segment {sequence} is no media after decryption: wrong key"),
                )
            }
            None => FetchError::new(
                Cause::Undecodable,
                format!("segment {sequence} is in no container that is read here"),
            ),
        })
    }

    /// An outage does not end with a web page, nor with what a wrong key makes of a segment.
    fn say_received(&self, piece: &Piece) {
        if piece.is_media() {
            self.session.tell.receiving();
        }
    }

    /// Gives the piece its decryptor, when the segment needs one; tells where the key is from. Keys of samples are
    /// fed: those are decrypted behind the reader, and tell themselves when theirs is not among them.
    async fn prepare(
        &mut self,
        task: &Task<'_>,
        piece: &mut Piece,
    ) -> Result<Option<Url>, Trouble> {
        let session = self.session;
        let mut named = None;
        let mut key_url = None;
        match &task.segment.encryption {
            Encryption::None | Encryption::Told { .. } => {}
            Encryption::Unsupported => return Err(unsupported()),
            Encryption::NoKey => return Err(no_key("the playlist names a key for others only")),
            Encryption::Aes128 { uri, iv } => {
                let url = join(&task.loaded.base, uri)?;
                if !piece.decrypts() {
                    let key = session.key(&url, &task.loaded.base).await?;
                    let iv = iv.unwrap_or_else(|| sequence_iv(task.sequence));
                    piece.decrypt_with(SegmentDecryptor::new(key.bytes(), &iv));
                }
                key_url = Some(url);
            }
            Encryption::Samples { uri, identity, iv } => {
                let key = match identity {
                    true => {
                        let url = join(&task.loaded.base, uri)?;
                        Some(session.key(&url, &task.loaded.base).await?)
                    }
                    false => session.content_key(uri)?,
                };
                let iv = iv.unwrap_or_else(|| sequence_iv(task.sequence));
                named = key.map(|key| NamedKey { key, iv });
            }
        }
        self.sample_keys = self.sample_keys.naming(named);
        Ok(key_url)
    }

    /// Asks for licences that what was read needs, and feeds it behind the keys for it.
    async fn send_with_keys(&mut self, task: &Task<'_>, feeds: Vec<Feed>) -> Result<(), Trouble> {
        let mut begins = false;
        let mut wanted = Vec::new();
        for feed in &feeds {
            match feed {
                Feed::Begin { init, .. } => {
                    begins = true;
                    if let Some(init) = init {
                        self.init_keys = key_ids(init);
                    }
                }
                Feed::Data(bytes) if begins => wanted.extend(key_ids(bytes)),
                _ => {}
            }
        }
        if !begins {
            return self.send(feeds).await;
        }
        wanted.extend(&self.init_keys);
        let licence = match &task.segment.encryption {
            Encryption::Told { licence } => licence.as_deref(),
            _ => None,
        };
        let licensed = self.session.licensed(&wanted, licence).await;
        let keys = self.sample_keys.with(licensed);
        if self.fed_keys != keys {
            self.fed_keys = keys.clone();
            self.send(vec![Feed::Keys(keys)]).await?;
        }
        self.send(feeds).await
    }

    /// The initialisation section, from the origin when it is not the newest one.
    async fn init(&mut self, loaded: &Loaded, init: &Arc<Init>) -> Result<Bytes, Trouble> {
        let url = join(&loaded.base, &init.uri)?;
        if let Some((own_url, own, bytes)) = &self.init
            && (own_url, own) == (&url, init)
        {
            return Ok(bytes.clone());
        }
        let request = Request {
            url: &url,
            referrer: Some(&loaded.base),
            what: What::Segment,
            range: init.range,
            skip: 0,
            total: SEGMENT_TOTAL_MIN,
        };
        let (_, wire) = self.session.fetcher.bytes(request).await?;
        let bytes = match &init.encryption {
            Encryption::None | Encryption::Samples { .. } | Encryption::Told { .. } => wire,
            Encryption::Aes128 { uri, iv: Some(iv) } => {
                let key_url = join(&loaded.base, uri)?;
                let key = self.session.key(&key_url, &loaded.base).await?;
                let mut decryptor = SegmentDecryptor::new(key.bytes(), iv);
                let head = decryptor.push(&wire);
                let tail = decryptor.finish().map_err(|_| {
                    self.session.keys.forget(&key_url);
                    no_key("the initialisation section cannot be decrypted: wrong key")
                })?;
                Bytes::from([head, tail].concat())
            }
            Encryption::Aes128 { iv: None, .. } | Encryption::NoKey => {
                return Err(no_key("the initialisation section cannot be decrypted"));
            }
            Encryption::Unsupported => return Err(unsupported()),
        };
        self.init = Some((url, Arc::clone(init), bytes.clone()));
        Ok(bytes)
    }

    async fn send(&mut self, feeds: Vec<Feed>) -> Result<(), Trouble> {
        self.gauge.look(&feeds);
        let began = Instant::now();
        for feed in feeds {
            self.feeds
                .send((self.feed_to, feed))
                .await
                .map_err(|_| Trouble::Closed)?;
        }
        self.gauge.held(began.elapsed());
        Ok(())
    }
}

fn segment_total(media: &Media) -> Duration {
    (media.target * SEGMENT_TOTAL_TARGETS).max(SEGMENT_TOTAL_MIN)
}

fn no_key(detail: &str) -> Trouble {
    Trouble::Lasting(FetchError::new(Cause::EncryptedNoKey, detail.to_owned()))
}

fn unsupported() -> Trouble {
    let detail = "the playlist names an encryption method that is not known here";
    Trouble::Lasting(FetchError::new(Cause::EncryptionUnsupported, detail))
}

/// Whether a segment that fails is no longer worth another attempt: it left the playlist, or it has failed for a
/// target duration and at least twice, and there are newer ones.
fn moved_on(task: &Task<'_>, first_try: Instant, attempts: u32, latest: &Latest) -> bool {
    let latest = latest.borrow();
    let Some(now) = latest.as_ref() else {
        return false;
    };
    let gone = now.epoch != task.loaded.epoch || task.sequence < now.media.sequence;
    let newer = now.media.ended || now.media.end() > task.sequence.saturating_add(1);
    gone || (newer && attempts >= 2 && first_try.elapsed() >= now.media.target)
}
