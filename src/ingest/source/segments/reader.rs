//! Reading the segments of one list in order, while somebody else keeps the list fresh.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use detectors::base::{Cause, Fact};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::piece::{InitFeed, NotMedia, Piece, Stage};
use super::{COMPLETE_FAILURES_MAX, Session, join};
use crate::config::Pace;
use crate::ingest::convert::Feed;
use crate::ingest::crypt::{SegmentDecryptor, sequence_iv};
use crate::ingest::fetch::{Backoff, FetchError, Request, What};
use crate::transport::playlist::follow::{Cursor, Passed, Step};
use crate::transport::playlist::{Encryption, Init, Media, Segment};

/// A segment may take this many target durations to arrive, and at least [`SEGMENT_TOTAL_MIN`].
const SEGMENT_TOTAL_TARGETS: u32 = 3;
const SEGMENT_TOTAL_MIN: Duration = Duration::from_secs(15);

/// Inputs of a complete playlist stay within this many target durations of each other.
const LEAD_TARGETS: u32 = 2;

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
    /// Length of what has been read of a complete playlist.
    position: Duration,
    began: Option<Instant>,
}

/// The segment at hand.
struct Task<'s> {
    loaded: &'s Loaded,
    sequence: u64,
    segment: &'s Segment,
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
            position: Duration::ZERO,
            began: None,
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
        let mut complete = None;
        loop {
            let loaded = latest.borrow_and_update().clone();
            let step = loaded
                .as_ref()
                .map(|loaded| (loaded, cursor.step(loaded.epoch, &loaded.media)));
            let (loaded, sequence, segment, discontinuity, missed) = match step {
                Some((_, Step::Ended)) => {
                    // Of a short playlist nothing may be left to fail on.
                    let lost = self.lost.take().filter(|_| !self.worked);
                    return lost.map_or(Stop::Ended, Stop::GaveUp);
                }
                None | Some((_, Step::Wait)) => {
                    let known = loaded.is_some();
                    if latest.changed().await.is_err() {
                        return if known { Stop::Ended } else { Stop::Absent };
                    }
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
                )) => (loaded, sequence, segment, discontinuity, missed),
            };
            if missed > 0 {
                let stream = &self.session.cx.stream.id;
                tracing::warn!(%stream, missed, "segments left the playlist before they were read");
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
            match self.segment(&task, discontinuity, &latest).await {
                Ok(passed) => cursor.done(&loaded.media, sequence, passed),
                Err(stop) => return stop,
            }
        }
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
        if task.segment.gap {
            if self.session.standings.speaks(self.number) {
                self.session.tell.fact(Fact::AnnouncedGap {
                    span: task.segment.duration,
                });
            }
            return Ok(Passed::Unread);
        }
        let first_try = Instant::now();
        let mut piece = Piece::new(discontinuity);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (error, lasting) = match self.attempt(task, &mut piece).await {
                Ok(()) => {
                    self.backoff.worked();
                    self.failed_in_a_row = 0;
                    self.worked = true;
                    self.session.standings.segment(self.number, None);
                    return Ok(Passed::Read);
                }
                Err(Trouble::Closed) => return Err(Stop::Closed),
                Err(Trouble::Passing(error)) => (error, false),
                Err(Trouble::Lasting(error)) => (error, true),
            };
            let standings = &self.session.standings;
            standings.segment(self.number, Some(error.cause));
            self.session.rest(&mut self.backoff, &error).await;
            if lasting || moved_on(task, first_try, attempts, latest) {
                return self.give_up(task, piece, error).await;
            }
        }
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
            loaded,
            sequence,
            segment,
        } = task;
        let session = self.session;
        let url = join(&loaded.base, &segment.uri)?;
        let key_url = self.prepare(task, piece).await?;
        let init = match &segment.init {
            Some(init) => Some(self.init(loaded, init).await?),
            None => None,
        };
        let total = (loaded.media.target * SEGMENT_TOTAL_TARGETS).max(SEGMENT_TOTAL_MIN);
        let mut body = session
            .fetcher
            .open(Request {
                url: &url,
                referrer: Some(&loaded.base),
                what: What::Segment,
                range: segment.range,
                skip: piece.received,
                total,
            })
            .await?;
        let not_media = |NotMedia| match &key_url {
            Some(key_url) => {
                session.keys.forget(key_url);
                Trouble::Lasting(FetchError::new(
                    Cause::EncryptedNoKey,
                    format!("segment {sequence} is no media after decryption: wrong key"),
                ))
            }
            None => Trouble::Lasting(FetchError::new(
                Cause::Undecodable,
                format!("segment {sequence} is in no container that is read here"),
            )),
        };
        while let Some(chunk) = body.chunk().await? {
            let mut init = InitFeed {
                bytes: init.as_ref(),
                fed: &mut self.fed_init,
            };
            let feeds = piece.push(chunk, &mut init).map_err(not_media)?;
            self.say_received(piece);
            self.send(feeds).await?;
        }
        let mut init = InitFeed {
            bytes: init.as_ref(),
            fed: &mut self.fed_init,
        };
        let rest = piece
            .finish(Stage::Complete, &mut init)
            .map_err(not_media)?;
        self.say_received(piece);
        self.send(rest).await
    }

    /// An outage does not end with a web page, nor with what a wrong key makes of a segment.
    fn say_received(&self, piece: &Piece) {
        if piece.is_media() {
            self.session.tell.receiving();
        }
    }

    /// With keys at hand, samples are decrypted behind the reader, and tell themselves when theirs is not among them.
    fn has_content_keys(&self) -> bool {
        !self.session.cx.stream.input.content_keys.is_empty()
    }

    /// Gives the piece its decryptor, when the segment needs one; tells where the key is from.
    async fn prepare(&self, task: &Task<'_>, piece: &mut Piece) -> Result<Option<Url>, Trouble> {
        match &task.segment.encryption {
            Encryption::None => Ok(None),
            Encryption::Unsupported if self.has_content_keys() => Ok(None),
            Encryption::Unsupported => Err(Trouble::Lasting(FetchError::new(
                Cause::EncryptedNoKey,
                "the playlist names an encryption method or key format without keys for monitors",
            ))),
            Encryption::Aes128 { uri, iv } => {
                let url = join(&task.loaded.base, uri)?;
                if !piece.decrypts() {
                    let key = self.session.key(&url, &task.loaded.base).await?;
                    let iv = iv.unwrap_or_else(|| sequence_iv(task.sequence));
                    piece.decrypt_with(SegmentDecryptor::new(&key, &iv));
                }
                Ok(Some(url))
            }
        }
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
        let no_key = |detail: &str| {
            Trouble::Lasting(FetchError::new(Cause::EncryptedNoKey, detail.to_owned()))
        };
        let bytes = match &init.encryption {
            Encryption::None => wire,
            Encryption::Unsupported if self.has_content_keys() => wire,
            Encryption::Aes128 { uri, iv: Some(iv) } => {
                let key_url = join(&loaded.base, uri)?;
                let key = self.session.key(&key_url, &loaded.base).await?;
                let mut decryptor = SegmentDecryptor::new(&key, iv);
                let head = decryptor.push(&wire);
                let tail = decryptor.finish().map_err(|_| {
                    self.session.keys.forget(&key_url);
                    no_key("the initialisation section cannot be decrypted: wrong key")
                })?;
                Bytes::from([head, tail].concat())
            }
            Encryption::Aes128 { iv: None, .. } | Encryption::Unsupported => {
                return Err(no_key("the initialisation section cannot be decrypted"));
            }
        };
        self.init = Some((url, Arc::clone(init), bytes.clone()));
        Ok(bytes)
    }

    async fn send(&self, feeds: Vec<Feed>) -> Result<(), Trouble> {
        for feed in feeds {
            self.feeds
                .send((self.feed_to, feed))
                .await
                .map_err(|_| Trouble::Closed)?;
        }
        Ok(())
    }
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
