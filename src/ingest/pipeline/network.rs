//! Network elements: they bring bytes or packets, which are analysed here and decoded by chains of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use tokio::sync::mpsc;

use detectors::base::{Cause, Kind};

use super::{Announced, Coding, Done, Hub, Pipeline, internal, lock, make, set};
use crate::config;
use crate::ingest::convert::ConvertError;

/// Messages of a network element that may wait: with SRT, about 3 s at 14 Mb/s.
const WAITING: usize = 4096;

/// Name of the element that speaks RTMP.
const RTMP: &str = "rtmp";

/// Where SRT bytes come from.
pub(in crate::ingest) struct SrtPlace<'a> {
    /// Peer, or own place of a listener.
    pub(in crate::ingest) address: SocketAddr,
    /// Options.
    pub(in crate::ingest) srt: &'a config::Srt,
}

/// An RTMP stream to pull.
pub(in crate::ingest) struct RtmpPlace {
    /// `rtmp` or `rtmps`.
    pub(in crate::ingest) scheme: String,
    /// Checked address; for `rtmps` the name, which the certificate must bear.
    pub(in crate::ingest) host: String,
    pub(in crate::ingest) port: u16,
    pub(in crate::ingest) application: String,
    /// With its query.
    pub(in crate::ingest) stream: String,
    /// User and password.
    pub(in crate::ingest) credentials: Option<(String, String)>,
}

/// An RTSP presentation to play.
pub(in crate::ingest) struct RtspPlace<'a> {
    /// Without credentials.
    pub(in crate::ingest) url: String,
    /// The address that was checked, which alone datagrams may be sent to; with TLS there are none.
    pub(in crate::ingest) peer: Option<IpAddr>,
    /// User and password.
    pub(in crate::ingest) credentials: Option<(String, String)>,
    /// Options.
    pub(in crate::ingest) rtsp: &'a config::Rtsp,
    /// How long the server may say nothing.
    pub(in crate::ingest) patience: std::time::Duration,
}

/// What an RTSP server brings.
pub(in crate::ingest) enum Brought {
    /// A track, before its first unit.
    Track(Announced),
    /// A coded unit.
    Unit {
        track: u32,
        coding: Coding,
        bytes: Bytes,
        /// Running time, nanoseconds.
        at_nanos: Option<u64>,
        random_access: bool,
    },
    /// Bytes of a transport stream.
    Multiplex(Bytes),
    /// RTP packets that did not come in time.
    Lost(u32),
}

impl Pipeline {
    /// Bytes from an SRT peer; the channel closes when the connection ends or fails.
    pub(in crate::ingest) fn srt(
        hub: &Arc<Hub>,
        place: &SrtPlace<'_>,
    ) -> Result<(Self, mpsc::Receiver<Bytes>), ConvertError> {
        let this = Self::empty(hub)?;
        let source = make("srtsrc")?;
        let listener = place.srt.mode == config::SrtMode::Listener;
        if listener {
            // Without a host, or the element takes the address for a peer's.
            let uri = format!("srt://:{}?mode=listener", place.address.port());
            source.set_property("uri", uri);
            source.set_property("localaddress", place.address.ip().to_string());
        } else {
            source.set_property("uri", format!("srt://{}?mode=caller", place.address));
        }
        let latency = i32::try_from(place.srt.latency.as_millis()).unwrap_or(i32::MAX);
        source.set_property("latency", latency);
        for (property, value) in [
            // Reconnecting, with a limit and a cause, is the supervisor's.
            ("auto-reconnect", "false"),
            ("keep-listening", "false"),
            ("poll-timeout", "1000"),
        ] {
            set(&source, property, value);
        }
        for (property, secret) in [
            ("passphrase", &place.srt.passphrase),
            ("streamid", &place.srt.stream_id),
        ] {
            if let Some(secret) = secret {
                source.set_property(property, secret.expose());
            }
        }
        let receiver = this.bytes_of(hub, &source)?;
        Ok((this.play()?, receiver))
    }

    /// FLV bytes from an RTMP server; the channel closes when the connection ends or fails.
    pub(in crate::ingest) fn rtmp(
        hub: &Arc<Hub>,
        place: &RtmpPlace,
    ) -> Result<(Self, mpsc::Receiver<Bytes>), ConvertError> {
        let this = Self::empty(hub)?;
        let source = make("rtmp2src")?;
        source.set_property_from_str("scheme", &place.scheme);
        source.set_property("host", &place.host);
        source.set_property("port", i32::from(place.port));
        source.set_property("application", &place.application);
        source.set_property("stream", &place.stream);
        source.set_property("name", RTMP);
        // How long is too long, and why, is the source's to say.
        source.set_property("timeout", 30_u32);
        if let Some((user, password)) = &place.credentials {
            source.set_property("username", user);
            source.set_property("password", password);
        }
        let receiver = this.bytes_of(hub, &source)?;
        Ok((this.play()?, receiver))
    }

    /// Whether an RTMP server has accepted the connection and the application.
    pub(in crate::ingest) fn rtmp_answered(&self) -> bool {
        let source = self.pipeline.by_name(RTMP);
        source
            .map(|s| s.property::<gst::Structure>("stats"))
            .and_then(|stats| stats.get::<u64>("in-bytes-total").ok())
            .is_some_and(|bytes| bytes > 0)
    }

    /// Adds a source and takes what it brings; the channel closes at its end.
    fn bytes_of(
        &self,
        hub: &Arc<Hub>,
        source: &gst::Element,
    ) -> Result<mpsc::Receiver<Bytes>, ConvertError> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let stats = Arc::clone(&hub.stats);
        let sender = Arc::new(Mutex::new(Some(sender)));
        let (at_end, done) = (Arc::clone(&sender), Arc::clone(&self.done));
        let sink = taker(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let map = sample.buffer().and_then(|b| b.map_readable().ok());
                    if let (Some(map), Some(sender)) = (map, lock(&sender).as_ref())
                        && sender.try_send(Bytes::copy_from_slice(&map)).is_err()
                    {
                        stats.shed_bytes.add(map.len() as u64);
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .eos(move |_| {
                    done.end(Ok(()));
                    lock(&at_end).take();
                })
                .build(),
        );
        self.add(source)?;
        self.add(sink.upcast_ref())?;
        source
            .link(&sink)
            .map_err(|_| internal("source not linked"))?;
        Ok(receiver)
    }

    /// Coded units from an RTSP server. The channel does not close: see [`Pipeline::done`].
    pub(in crate::ingest) fn rtsp(
        hub: &Arc<Hub>,
        place: &RtspPlace<'_>,
    ) -> Result<(Self, mpsc::Receiver<Brought>), ConvertError> {
        let this = Self::empty(hub)?;
        let source = make("rtspsrc")?;
        source.set_property("location", &place.url);
        if let Some((user, password)) = &place.credentials {
            source.set_property("user-id", user);
            source.set_property("user-pw", password);
        }
        let latency = u32::try_from(place.rtsp.latency.as_millis()).unwrap_or(u32::MAX);
        source.set_property("latency", latency);
        let tls = place.url.starts_with("rtsps:");
        let protocols = match place.rtsp.transport {
            _ if tls => "tcp+tls",
            config::RtspTransport::Tcp => "tcp",
            config::RtspTransport::Udp => "udp",
        };
        let patience = place.patience.as_micros().to_string();
        for (property, value) in [
            ("protocols", protocols),
            ("tcp-timeout", &patience),
            // Reconnecting, with a limit and a cause, is the supervisor's.
            ("udp-reconnect", "false"),
            // Only the sender's clock counts: arrival must not bend it.
            ("buffer-mode", "none"),
            ("timeout", "0"),
            ("do-rtsp-keep-alive", "true"),
        ] {
            set(&source, property, value);
        }
        // A redirect changes the location: it would lead around the address policy.
        let (url, done) = (place.url.clone(), Arc::clone(&this.done));
        source.connect("before-send", false, move |values| {
            let source = values.first()?.get::<gst::Element>().ok()?;
            let same = source.property::<Option<String>>("location").as_ref() == Some(&url);
            if !same {
                done.end(Err(ConvertError {
                    cause: Cause::RedirectRefused,
                    detail: "the RTSP server redirects".to_owned(),
                }));
            }
            Some(same.to_value())
        });
        // The element itself does not tell a bad certificate from a peer that is not there.
        let done = Arc::clone(&this.done);
        source.connect("accept-certificate", false, move |_| {
            done.end(Err(ConvertError {
                cause: Cause::TlsFailed,
                detail: "the certificate cannot be trusted".to_owned(),
            }));
            Some(false.to_value())
        });
        if let Some(bin) = source.downcast_ref::<gst::Bin>() {
            let (peer, done) = (place.peer, Arc::clone(&this.done));
            bin.connect_element_added(move |_, element| keep_to(peer, element, &done));
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        let taker = Taker {
            sender,
            hub: Arc::clone(hub),
            tracks: AtomicU32::new(0),
        };
        let pipeline = this.pipeline.downgrade();
        source.connect_pad_added(move |_, pad| {
            let Some(pipeline) = pipeline.upgrade() else {
                return;
            };
            if let Err(error) = taker.take(&pipeline, pad) {
                tracing::debug!(%error, "an RTSP track could not be wired");
            }
        });
        this.add(&source)?;
        Ok((this.play()?, receiver))
    }
}

/// Where datagrams go to and come from is for the server to say (`source`, `destination`), and could lead around the
/// address policy: reports go to the checked peer whatever it says, and no group is joined.
fn keep_to(peer: Option<IpAddr>, element: &gst::Element, done: &Done) {
    let text = |name| element.property::<Option<String>>(name).unwrap_or_default();
    let factory = element.factory().map(|f| f.name());
    let astray = match (factory.as_deref(), peer) {
        (Some("udpsink"), Some(peer)) => {
            if text("host").parse() != Ok(peer) {
                element.set_property("host", peer.to_string());
            }
            false
        }
        (Some("udpsink"), None) => true,
        (Some("udpsrc"), _) => {
            let address = text("address").parse::<IpAddr>();
            address.is_ok_and(|a| a.is_multicast())
        }
        _ => false,
    };
    if astray {
        done.end(Err(ConvertError {
            cause: Cause::AddressRefused,
            detail: "the RTSP server chooses a transport that leads elsewhere".to_owned(),
        }));
    }
}

/// Element that unpacks an RTP payload (RFC 3551 and its kin), and its codec word.
fn depayloader(encoding: &str) -> Option<(&'static str, &'static str)> {
    Some(match encoding {
        "H264" => ("rtph264depay", "h264"),
        "H265" => ("rtph265depay", "hevc"),
        "MPV" => ("rtpmpvdepay", "mpeg2"),
        "JPEG" => ("rtpjpegdepay", "mjpeg"),
        "MP2T" => ("rtpmp2tdepay", "mpegts"),
        "MPEG4-GENERIC" => ("rtpmp4gdepay", "aac"),
        "MP4A-LATM" => ("rtpmp4adepay", "aac"),
        "MPA" => ("rtpmpadepay", "mp2"),
        "AC3" => ("rtpac3depay", "ac3"),
        "PCMU" => ("rtppcmudepay", "pcmu"),
        "PCMA" => ("rtppcmadepay", "pcma"),
        "L16" => ("rtpL16depay", "pcm"),
        "OPUS" => ("rtpopusdepay", "opus"),
        _ => return None,
    })
}

/// Takes the tracks of an RTSP source.
struct Taker {
    sender: mpsc::Sender<Brought>,
    hub: Arc<Hub>,
    tracks: AtomicU32,
}

impl Taker {
    fn take(&self, pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), ConvertError> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let text = |name| {
            caps.structure(0)
                .and_then(|c| c.get::<String>(name).ok())
                .unwrap_or_default()
        };
        let kind = match text("media").as_str() {
            "video" => Some(Kind::Video),
            "audio" => Some(Kind::Audio),
            _ => None,
        };
        let encoding = text("encoding-name").to_ascii_uppercase();
        let found = kind.and_then(|_| depayloader(&encoding));
        let track = self.tracks.fetch_add(1, Ordering::Relaxed);
        let (Some(kind), Some((name, codec))) = (kind, found) else {
            if let Some(kind) = kind {
                let announced = Announced {
                    kind,
                    id: track,
                    codec: encoding,
                    problem: Some(Cause::UnsupportedCodec),
                };
                // A full channel means a source that is about to be given up.
                let _ = self.sender.try_send(Brought::Track(announced));
            }
            return throw_away(pipeline, pad);
        };
        let multiplex = codec == "mpegts";
        if !multiplex {
            let announced = Announced {
                kind,
                id: track,
                codec: codec.to_owned(),
                problem: None,
            };
            let _ = self.sender.try_send(Brought::Track(announced));
        }
        self.count_losses(pad);
        let depay = make(name)?;
        let (sender, hub) = (self.sender.clone(), Arc::clone(&self.hub));
        let sink = taker(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    if let Some(brought) = unit(&sample, track, multiplex) {
                        let size = brought.size();
                        if sender.try_send(brought).is_err() {
                            hub.stats.shed_bytes.add(size as u64);
                        }
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        let not_linked = |_| internal("RTSP track not linked");
        pipeline
            .add_many([&depay, sink.upcast_ref()])
            .map_err(not_linked)?;
        depay.link(&sink).map_err(not_linked)?;
        sink.sync_state_with_parent().map_err(not_linked)?;
        depay.sync_state_with_parent().map_err(not_linked)?;
        let first = depay
            .static_pad("sink")
            .ok_or_else(|| internal("no pad to feed"))?;
        pad.link(&first)
            .map_err(|_| internal("RTSP track not linked"))?;
        Ok(())
    }

    /// Tells the steps in sequence numbers behind the jitter buffer.
    fn count_losses(&self, pad: &gst::Pad) {
        let sender = self.sender.clone();
        let newest = Mutex::new(None::<u16>);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let number = info.buffer().and_then(|buffer| {
                let mut bytes = [0; 2];
                (buffer.copy_to_slice(2, &mut bytes).is_ok()).then(|| u16::from_be_bytes(bytes))
            });
            if let Some(number) = number {
                let before = lock(&newest).replace(number);
                let lost = before.map_or(0, |b| number.wrapping_sub(b).wrapping_sub(1));
                // Larger steps are restarts of the sender, or packets that came twice.
                if (1..MAX_STEP).contains(&lost) {
                    let _ = sender.try_send(Brought::Lost(u32::from(lost)));
                }
            }
            gst::PadProbeReturn::Ok
        });
    }
}

/// Largest step of RTP sequence numbers that counts as loss.
const MAX_STEP: u16 = 3000;

impl Brought {
    fn size(&self) -> usize {
        match self {
            Brought::Unit { bytes, .. } | Brought::Multiplex(bytes) => bytes.len(),
            Brought::Track(_) | Brought::Lost(_) => 0,
        }
    }
}

fn unit(sample: &gst::Sample, track: u32, multiplex: bool) -> Option<Brought> {
    let buffer = sample.buffer()?;
    let bytes = Bytes::copy_from_slice(&buffer.map_readable().ok()?);
    if multiplex {
        return Some(Brought::Multiplex(bytes));
    }
    let at = buffer.pts().and_then(|pts| {
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        segment.to_running_time(pts)
    });
    Some(Brought::Unit {
        track,
        coding: Coding::Described(sample.caps_owned()?),
        bytes,
        at_nanos: at.map(gst::ClockTime::nseconds),
        random_access: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
    })
}

/// An unlinked pad would end the source.
pub(super) fn throw_away(pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), ConvertError> {
    let sink = make("fakesink")?;
    set(&sink, "async", "false");
    set(&sink, "sync", "false");
    let linked = pipeline.add(&sink).is_ok()
        && sink.sync_state_with_parent().is_ok()
        && sink
            .static_pad("sink")
            .is_some_and(|s| pad.link(&s).is_ok());
    match linked {
        true => Ok(()),
        false => Err(internal("an unwanted track could not be thrown away")),
    }
}

/// An end that hands everything on at once.
fn taker(callbacks: gst_app::AppSinkCallbacks) -> gst_app::AppSink {
    gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .max_buffers(1)
        .enable_last_sample(false)
        .wait_on_eos(false)
        .callbacks(callbacks)
        .build()
}
