//! Facts: what is known about a stream besides its samples, and the causes that alerts name.

use std::time::Duration;

use super::{MediaTime, Print, Track, TsErrors};

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Machine-readable cause of a defect: a closed set, so that it can be a label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause {
            $($(#[$doc])* $name,)*
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Cause] = &[$(Cause::$name,)*];

            /// Label value.
            pub fn as_str(self) -> &'static str {
                match self { $(Cause::$name => $word,)* }
            }
        }
    };
}

causes! {
    /// Nothing arrives.
    NoInput = "no_input",
    /// The name does not resolve.
    DnsFailed = "dns_failed",
    /// No connection.
    ConnectFailed = "connect_failed",
    /// The TLS handshake or certificate failed.
    TlsFailed = "tls_failed",
    /// The server accepts, then says nothing (or stops in the middle).
    Timeout = "timeout",
    /// The peer closed the connection.
    PeerClosed = "peer_closed",
    /// HTTP 401/403, a wrong SRT passphrase or stream id.
    AuthRefused = "auth_refused",
    /// HTTP 404 or 410.
    HttpNotFound = "http_not_found",
    /// Other HTTP 4xx.
    HttpClientError = "http_client_error",
    /// HTTP 5xx.
    HttpServerError = "http_server_error",
    /// Redirects in a circle, too many, or to a forbidden place.
    RedirectRefused = "redirect_refused",
    /// Private, link-local or loopback address that the config does not allow.
    AddressRefused = "address_refused",
    /// A scheme that may not be followed, such as `file:` in a remote playlist.
    SchemeRefused = "scheme_refused",
    /// The live playlist no longer changes.
    PlaylistStalled = "playlist_stalled",
    /// The playlist cannot be parsed, or holds nothing to play.
    PlaylistInvalid = "playlist_invalid",
    /// Playlist or segment beyond its size limit.
    TooLarge = "too_large",
    /// Bytes arrive, but nothing in them can be decoded.
    Undecodable = "undecodable",
    /// The container is not one the monitor reads.
    UnsupportedFormat = "unsupported_format",
    /// A codec that the monitor has no decoder for.
    UnsupportedCodec = "unsupported_codec",
    /// Encrypted, and no key was given or had.
    EncryptedNoKey = "encrypted_no_key",
    /// Encrypted in a way that the monitor does not know (AES-256), whatever keys there are.
    EncryptionUnsupported = "encryption_unsupported",
    /// The file or segment ends in the middle.
    Truncated = "truncated",
    /// No such file, or it may not be read.
    FileUnreadable = "file_unreadable",
    /// No decoded picture.
    NoVideo = "no_video",
    /// No decoded sound.
    NoAudio = "no_audio",
    /// A track that the config expects is not announced.
    MissingTrack = "missing_track",
    /// The picture is larger than the monitor may decode.
    TooCostly = "too_costly",
    /// The picture stands still, and is encoded downstream of the fault: keyframes redraw it.
    Frozen = "frozen",
    /// The same picture comes again and again, equal to the last sample.
    FrozenRepeat = "frozen_repeat",
    /// The programme stands still under a clock, ticker or logo that runs: the fault lies upstream of the graphics.
    FrozenOverlay = "frozen_overlay",
    /// The picture is black.
    Black = "black",
    /// The picture is one flat colour.
    BlankColour = "blank_colour",
    /// The picture, or a part of it, is the mid grey of a decoder that has nothing to refer to.
    BlankGrey = "blank_grey",
    /// The picture, or a part of it, has chroma of zero: green.
    BlankGreen = "blank_green",
    /// The picture, or a part of it, has chroma of all ones: pink.
    BlankPink = "blank_pink",
    /// Colour bars in eight columns of full height (EBU, full field).
    Bars = "bars",
    /// Colour bars in seven columns across the picture (SMPTE ECR 1).
    BarsSmpte = "bars_smpte",
    /// Colour bars between grey sides (SMPTE RP 219, ARIB STD-B28).
    BarsHd = "bars_hd",
    /// The picture is black but for a small logo near a corner, so that what draws the logo still works.
    BlackWithLogo = "black_with_logo",
    /// Motion stops and starts, or leaps.
    Stutter = "stutter",
    /// A slate that the operator named is on screen.
    Slate = "slate",
    /// The sound is silent on all channels.
    Silence = "silence",
    /// One channel is silent while others are not.
    ChannelSilent = "channel_silent",
    /// Damage with transport evidence (lost or damaged packets).
    TransportLoss = "transport_loss",
    /// Damage with evidence inside the bitstream only.
    BitstreamDamage = "bitstream_damage",
    /// Damage visible in pixels only.
    PictureDamage = "picture_damage",
    /// One rendition shows what the others do not.
    RungDiffers = "rung_differs",
    /// The programme comes later, or earlier, in one rendition than in the others.
    RungLate = "rung_late",
    /// Sound and picture timestamps moved apart.
    AvSkew = "av_skew",
    /// Sound and picture lie apart, compared with the reference.
    AvSkewReference = "av_skew_reference",
    /// One sound track lies early or late beside another.
    AvSkewLanguages = "av_skew_languages",
    /// Flash and beep of a test signal lie apart.
    AvSkewPattern = "av_skew_pattern",
    /// Sound and picture have moved against each other, going by edges that they have in common.
    AvSkewEdges = "av_skew_edges",
    /// The programme is not that of the reference.
    WrongProgramme = "wrong_programme",
    /// Missing sound or pictures by timestamps.
    TimestampGap = "timestamp_gap",
    /// Overlapping sound or pictures by timestamps.
    TimestampOverlap = "timestamp_overlap",
    /// Sound and picture clocks drift apart.
    ClockDrift = "clock_drift",
    /// Transport stream: sync is lost (TR 101 290 1.1).
    TsSyncLoss = "ts_sync_loss",
    /// Transport stream: wrong sync bytes (1.2).
    SyncByteError = "sync_byte_error",
    /// Transport stream: the PAT is missing, misplaced or scrambled (1.3).
    PatError = "pat_error",
    /// Transport stream: packets are missing, out of order or sent too often (1.4).
    ContinuityCountError = "continuity_count_error",
    /// Transport stream: the PMT is missing or scrambled (1.5).
    PmtError = "pmt_error",
    /// Transport stream: an announced picture or sound sends no packets (1.6).
    PidError = "pid_error",
    /// Transport stream: packets marked as damaged by an earlier link (2.1).
    TransportError = "transport_error",
    /// Transport stream: damaged tables (2.2).
    CrcError = "crc_error",
    /// Transport stream: clock references come too rarely (2.3a).
    PcrRepetitionError = "pcr_repetition_error",
    /// Transport stream: the clock reference jumps unannounced (2.3b).
    PcrDiscontinuityError = "pcr_discontinuity_error",
    /// Transport stream: clock references are inaccurate (2.4).
    PcrAccuracyError = "pcr_accuracy_error",
    /// Transport stream: presentation times come too rarely (2.5).
    PtsError = "pts_error",
    /// Transport stream: scrambled packets without a CAT (2.6).
    CatError = "cat_error",
    /// Transport stream: the NIT stays away (3.1).
    NitError = "nit_error",
    /// Transport stream: packets that no table refers to (3.4).
    UnreferencedPid = "unreferenced_pid",
    /// Transport stream: the SDT stays away (3.5).
    SdtError = "sdt_error",
    /// Transport stream: the EIT stays away (3.6).
    EitError = "eit_error",
    /// Transport stream: the TDT stays away (3.8).
    TdtError = "tdt_error",
    /// The playlist's segment numbers went back, or stand for other segments than before.
    SequenceError = "sequence_error",
    /// A discontinuity is not announced, or not counted when it leaves the playlist.
    DiscontinuityError = "discontinuity_error",
    /// A segment is declared longer than the target duration of its playlist.
    SegmentTooLong = "segment_too_long",
    /// The playlist's target duration changed.
    TargetDurationChanged = "target_duration_changed",
    /// A playlist that was complete is live again.
    EndlistWithdrawn = "endlist_withdrawn",
    /// The live playlist dropped segments although it holds too few.
    WindowTooShort = "window_too_short",
    /// Segments last longer or shorter than declared.
    WrongDuration = "wrong_duration",
    /// Segments left the playlist before they could be read.
    SegmentsMissed = "segments_missed",
    /// Segments take longer to arrive than they last.
    Starving = "starving",
    /// The playlist takes long to arrive.
    SlowPlaylist = "slow_playlist",
    /// Playlists of one stream lie apart.
    OutOfStep = "out_of_step",
    /// Timestamps of sound and pictures lie otherwise than their playlists say.
    RenditionOffset = "rendition_offset",
    /// The playlists of sound and pictures have a discontinuity at different places.
    DiscontinuityMismatch = "discontinuity_mismatch",
    /// A detector has not been able to measure for long.
    Blind = "blind",
    /// A receiver of alerts refuses them.
    ReceiverRefuses = "receiver_refuses",
    /// A receiver of alerts cannot be reached.
    ReceiverLost = "receiver_lost",
    /// Alerts cannot be written down.
    NotDurable = "not_durable",
    /// The alert of the canary did not arrive in time.
    CanaryLost = "canary_lost",
    /// Something inside the monitor failed.
    Internal = "internal",
}

/// Decoded picture format.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoFormat {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Pictures a second; 0 when unknown or variable.
    pub rate_hz: f64,
    /// Bits a sample, 8..=16.
    pub bits: u8,
    /// Whether coded as fields.
    pub interlaced: bool,
}

/// Decoded sound format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioFormat {
    /// Samples a second.
    pub rate_hz: u32,
    /// Channels.
    pub channels: u16,
}

/// A decoded format.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Pictures.
    Video(VideoFormat),
    /// Sound.
    Audio(AudioFormat),
}

/// A track that the input announces (PMT, `moov`, playlist).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackInfo {
    /// Which.
    pub track: Track,
    /// Codec word: `h264`, `hevc`, `mpeg2`, `aac`, `mp2`, `mp3`, `ac3`, `eac3`, `opus`, or what the container
    /// called it.
    pub codec: String,
    /// ISO 639 language, when told.
    pub language: Option<String>,
    /// Why it cannot be decoded, when that is known at once ([`Cause::UnsupportedCodec`],
    /// [`Cause::EncryptedNoKey`], [`Cause::EncryptionUnsupported`], or why the rendition that brings it cannot be had).
    pub problem: Option<Cause>,
    /// The rendition it belongs to, where several are watched as one stream: `720p@3000k`. Sound and pictures of one
    /// rendition lie side by side; `None` = there is only one, or it is shared by all.
    pub member: Option<String>,
}

/// What became of the input.
#[derive(Debug, Clone, PartialEq)]
pub enum InputEvent {
    /// How long media may stay away before that is shown, and before it pages. Sent first, and again when a
    /// playlist's target duration changes.
    Patience {
        /// Shown in state and metrics after this long.
        visible_after: Duration,
        /// Paged after this long (the rule's limit of 1.0).
        page_after: Duration,
    },
    /// What follows is read from where the programme begins: a file, or a complete list of segments.
    FromStart,
    /// Media bytes arrived (at most ten a second are sent).
    Receiving,
    /// An attempt failed; another follows.
    Failed {
        /// What is wrong.
        cause: Cause,
    },
    /// The whole input was re-opened: timelines and tracks start anew.
    Reopened,
    /// A file or VOD playlist has been played to its end.
    Ended,
}

/// Kind of damage evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvidenceKind {
    /// TS continuity counter jump (TR 101 290 1.4).
    ContinuityError,
    /// TS transport error indicator (TR 101 290 2.1).
    TransportError,
    /// TS sync lost (TR 101 290 1.1).
    SyncLoss,
    /// RTP sequence gap.
    RtpLoss,
    /// A segment or PES ended short.
    Truncated,
    /// H.264 `frame_num` gap (7.4.3), MPEG-2 `temporal_reference` gap, HEVC missing reference.
    PictureNumberGap,
    /// Slices missing, or a syntax error in a header.
    BrokenSlice,
    /// The decoder said that it concealed damage.
    Concealment,
    /// Fewer pictures decoded than coded.
    PicturesMissing,
}

impl EvidenceKind {
    /// Whether it was seen on the transport, outside the coded pictures.
    pub fn is_transport(self) -> bool {
        matches!(
            self,
            EvidenceKind::ContinuityError
                | EvidenceKind::TransportError
                | EvidenceKind::SyncLoss
                | EvidenceKind::RtpLoss
                | EvidenceKind::Truncated
        )
    }
}

/// A record of damage before or in the decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// What was seen.
    pub kind: EvidenceKind,
    /// Media time from which pictures or sound are affected; `None` when no PTS is known yet.
    pub from: Option<MediaTime>,
    /// Media time of the first picture that is not affected, where known: nothing refers to the damaged one.
    pub until: Option<MediaTime>,
    /// How many packets, pictures or blocks (as the kind says); at least 1.
    pub count: u32,
}

impl Evidence {
    /// Evidence of which it is not known how far it reaches.
    pub fn new(kind: EvidenceKind, from: Option<MediaTime>, count: u32) -> Self {
        Self {
            kind,
            from,
            until: None,
            count,
        }
    }
}

/// How an A/V skew was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkewBasis {
    /// Audio PTS against the video PTS beside it in the multiplex.
    Multiplex,
    /// First audio against first video PTS of the same media segment.
    Segment,
}

/// Which end of a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakEdge {
    /// The programme is left.
    Start,
    /// The programme goes on.
    End,
}

/// How a break was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakSource {
    /// SCTE-35 section in the transport stream.
    Scte35,
    /// HLS tag (`EXT-X-CUE-OUT`, `EXT-X-CUE-IN`, `EXT-X-DATERANGE`).
    HlsTag,
    /// DASH event (`EventStream`, `emsg`).
    DashEvent,
}

/// A break marker: where the stream announces that its programme is left, for advertising or a regional window, and
/// where it goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakMark {
    /// Which end.
    pub edge: BreakEdge,
    /// Where it was read.
    pub source: BreakSource,
    /// When it takes effect; `None` = at once, or not told on this stream's clock.
    pub at: Option<MediaTime>,
    /// Announced length of the break.
    pub planned: Option<Duration>,
    /// `splice_event_id` or the like, when it fits 32 bits.
    pub event_id: Option<u32>,
}

/// A rule of RFC 8216 that a media playlist breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlaylistFault {
    /// The media sequence went back, or began anew (6.2.2).
    SequenceBack,
    /// A number stands for another segment than before, or a segment has another number (6.2.2).
    Renumbered,
    /// The discontinuity sequence did not count what left the playlist (6.2.2).
    DiscontinuityMiscounted,
    /// A segment's declared duration, rounded, is above the target duration (4.3.3.1).
    SegmentTooLong,
    /// The target duration changed (6.2.1).
    TargetChanged,
    /// `EXT-X-ENDLIST` disappeared (6.2.1).
    EndlistWithdrawn,
    /// Segments were removed and less than three target durations are left (6.2.2).
    WindowTooShort,
}

impl PlaylistFault {
    /// As alerts name it.
    pub fn cause(self) -> Cause {
        match self {
            PlaylistFault::SequenceBack | PlaylistFault::Renumbered => Cause::SequenceError,
            PlaylistFault::DiscontinuityMiscounted => Cause::DiscontinuityError,
            PlaylistFault::SegmentTooLong => Cause::SegmentTooLong,
            PlaylistFault::TargetChanged => Cause::TargetDurationChanged,
            PlaylistFault::EndlistWithdrawn => Cause::EndlistWithdrawn,
            PlaylistFault::WindowTooShort => Cause::WindowTooShort,
        }
    }

    /// Whether it is about the order of segments: it happens at one moment, and players lose their place.
    pub fn is_of_sequence(self) -> bool {
        matches!(
            self,
            PlaylistFault::SequenceBack
                | PlaylistFault::Renumbered
                | PlaylistFault::DiscontinuityMiscounted
        )
    }
}

/// What a load of a list of segments showed: an HLS media playlist, or a DASH representation as its manifest lays
/// it out.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaylistLoad {
    /// Which list of the stream: 0 is the main one.
    pub list: u8,
    /// Segments are still to come.
    pub live: bool,
    /// Longest time that may lie between two changes in the ordinary course: the target duration of HLS.
    pub target: Duration,
    /// How long the list had brought nothing new when this load began.
    pub unchanged: Duration,
    /// How long the load took; `None` when nothing was loaded, the origin was asked to hold its answer back, or the
    /// monitor has too little of the processor to tell.
    pub took: Option<Duration>,
    /// How far its end lies behind that of the main list, at least, seconds; negative = ahead. `None` for the main
    /// list, and when nothing tells.
    pub behind_secs: Option<f64>,
    /// Rules that it breaks: each at most once.
    pub faults: Vec<PlaylistFault>,
}

/// What a list of sound and that of the pictures say of each other; each is `None` where it cannot be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ListsBeside {
    /// The list of sound, as [`PlaylistLoad::list`].
    pub list: u8,
    /// How much earlier sound lies, against the pictures, by the timestamps of its segments than by the lists, seconds;
    /// 0 when that is within what the lists may be wrong by.
    pub audio_early_secs: Option<f64>,
    /// How far apart they put a discontinuity (in DASH, the beginning of a period), seconds.
    pub discontinuity_apart_secs: Option<f64>,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SegmentFate {
    /// Read to its end.
    Read {
        /// From the first request to the last byte, without the time that the monitor itself took; `None` when
        /// that says nothing, as where the monitor has too little of the processor.
        took: Option<Duration>,
        /// How far its media lasts longer (or shorter: negative) than declared, in seconds, less what the way it
        /// was measured and declared allows for. `None` when it could not be measured.
        excess_secs: Option<f64>,
        /// Its timestamps do not follow those of the segment before, and no discontinuity is announced.
        jumps: bool,
    },
    /// Given up.
    Failed(Cause),
    /// So many, this one among them, left the list before they were read.
    Gone(u32),
}

/// A segment that was dealt with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentReport {
    /// As [`PlaylistLoad::list`].
    pub list: u8,
    /// As declared.
    pub duration: Duration,
    /// What became of it.
    pub fate: SegmentFate,
}

/// Something known about the stream other than its samples.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// Connection and arrival. Track: none.
    Input(InputEvent),
    /// The full set of tracks now announced; replaces the previous one. Track: none.
    Tracks(Vec<TrackInfo>),
    /// Decoded format of the unit's track, on the first unit and on every change.
    Format(Format),
    /// Damage evidence for the unit's track (or the whole stream).
    Evidence(Evidence),
    /// A point in the unit's track from which decoding is clean again (IDR, closed GOP, recovery point).
    RandomAccess(MediaTime),
    /// How coarsely a key picture of the unit's track is quantised, where headers say: key pictures of one quantiser
    /// can be compared.
    KeyQuantiser {
        /// Its time.
        at: MediaTime,
        /// QP of its first slice (0 to 51), of MPEG-2 `quantiser_scale_code` (1 to 31).
        quantiser: i32,
    },
    /// Audio lags (positive) or leads (negative) the video by this many seconds by timestamps, before baseline.
    AvSkew {
        /// Audio timestamp minus video timestamp, seconds.
        audio_minus_video_secs: f64,
        /// How it was read.
        basis: SkewBasis,
    },
    /// The raw timestamps jumped; the media clock did not.
    TimelineJump {
        /// Seconds by which the raw timestamp differs from what was expected.
        by_secs: f64,
    },
    /// A playlist announced that media is missing on purpose (`EXT-X-GAP`).
    AnnouncedGap {
        /// Its length.
        span: Duration,
    },
    /// A break marker. Track: none.
    Break(BreakMark),
    /// What the checks of a transport stream found since the last such fact, errors or not; at most a few a second.
    /// Place: the end of what was checked. Track: none.
    Ts(TsErrors),
    /// A list of segments was loaded. Track: none.
    Playlist(PlaylistLoad),
    /// A list of sound was compared with that of the pictures. Track: none.
    ListsBeside(ListsBeside),
    /// A segment was dealt with. Track: none.
    Segment(SegmentReport),
    /// About a second of the stream that this one is compared with, on that stream's own media clock. Track: none.
    ReferencePrint(Print),
}
