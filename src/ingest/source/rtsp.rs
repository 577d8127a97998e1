//! RTSP: cameras and servers. GStreamer speaks the protocol and unpacks RTP; decoding is as for every other input.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use detectors::base::{Cause, EvidenceKind, Kind};
use tokio::sync::mpsc;
use url::Url;

use super::{Decoding, Received, SourceContext, SourceEnd, begin, call, ended, open};
use crate::config::RtspTransport;
use crate::ingest::clock;
use crate::ingest::convert::packets::Packet;
use crate::ingest::convert::{Container, Converter, Feed};
use crate::ingest::pipeline::network::{Brought, RtspPlace};
use crate::ingest::pipeline::{Done, Pipeline};

/// How long a server may take to bring the first media.
const FIRST_MEDIA: Duration = Duration::from_secs(10);

pub(super) async fn run(context: SourceContext) -> SourceEnd {
    receive(&context)
        .await
        .err()
        .unwrap_or_else(SourceEnd::complete)
}

async fn receive(context: &SourceContext) -> Result<(), SourceEnd> {
    let input = &context.stream.input;
    let (url, peer, credentials) = place(context).await?;
    let mut converter = Converter::new(context);
    let hub = converter.hub();
    let (rtsp, patience) = (input.rtsp.clone(), input.limits.connect);
    let opened = open(move || {
        let place = RtspPlace {
            url,
            peer,
            credentials,
            rtsp: &rtsp,
            patience,
        };
        Pipeline::rtsp(&hub, &place)
    });
    let (pipeline, mut brought) = opened.await?;
    let mut inputs = Inputs::new(&mut converter)?;
    let mut received = Received::new(context);
    let mut decoding = Decoding::default();
    let mut newest = clock::now();
    let mut playing = false;
    loop {
        let patience = if playing {
            input.limits.idle
        } else {
            FIRST_MEDIA
        };
        let wait = newest.plus(patience).since(clock::now());
        let first = tokio::select! {
            () = context.cancel.cancelled() => return Ok(()),
            () = ended(&pipeline.done, &converter, |_| true) => return Err(why(&pipeline.done, playing)),
            first = tokio::time::timeout(wait, brought.recv()) => first,
        };
        match first {
            Ok(Some(first)) => {
                let bytes = inputs.take(context, &mut converter, first, &mut brought)?;
                if bytes > 0 {
                    playing = true;
                    newest = clock::now();
                    received.note(bytes);
                    decoding.check(&converter)?;
                }
            }
            Ok(None) => return Err(why(&pipeline.done, playing)),
            Err(_) if playing => {
                return Err(SourceEnd::failed(
                    Cause::Timeout,
                    "RTSP: the peer fell silent",
                ));
            }
            Err(_) => {
                let detail = match input.rtsp.transport {
                    RtspTransport::Tcp => "RTSP: the peer sends nothing",
                    RtspTransport::Udp => {
                        "RTSP: no datagrams arrive; a firewall may hold them back"
                    }
                };
                return Err(SourceEnd::failed(Cause::Timeout, detail));
            }
        }
    }
}

type Place = (String, Option<IpAddr>, Option<(String, String)>);

/// Where what arrives goes.
struct Inputs {
    packets: usize,
    multiplex: Option<usize>,
    kinds: HashMap<u32, Kind>,
}

impl Inputs {
    fn new(converter: &mut Converter) -> Result<Self, SourceEnd> {
        let packets = begin(converter, Container::Packets)?;
        Ok(Self {
            packets,
            multiplex: None,
            kinds: HashMap::new(),
        })
    }

    /// Takes what is there, and tells how many bytes of media it was.
    fn take(
        &mut self,
        context: &SourceContext,
        converter: &mut Converter,
        first: Brought,
        more: &mut mpsc::Receiver<Brought>,
    ) -> Result<usize, SourceEnd> {
        let (mut bytes, mut next) = (0, Some(first));
        while let Some(brought) = next {
            bytes += self.one(context, converter, brought)?;
            next = more.try_recv().ok().filter(|_| bytes < super::BATCH);
        }
        Ok(bytes)
    }

    fn one(
        &mut self,
        context: &SourceContext,
        converter: &mut Converter,
        brought: Brought,
    ) -> Result<usize, SourceEnd> {
        match brought {
            Brought::Track(announced) => {
                self.kinds.insert(announced.id, announced.kind);
                converter.announce(self.packets, &announced);
                Ok(0)
            }
            Brought::Unit {
                track,
                coding,
                bytes,
                at_nanos,
                random_access,
            } => {
                let Some(kind) = self.kinds.get(&track).copied() else {
                    return Ok(0);
                };
                let size = bytes.len();
                let ticks = |nanos: u64| (u128::from(nanos) * 9 / 100_000) as u64;
                let packet = Packet {
                    track,
                    kind,
                    coding,
                    bytes,
                    ticks: at_nanos.map(ticks),
                    decode_ahead_nanos: 0,
                    random_access,
                };
                converter.packet(self.packets, packet)?;
                Ok(size)
            }
            Brought::Multiplex(bytes) => {
                let size = bytes.len();
                let to = match self.multiplex {
                    Some(to) => to,
                    None => *self.multiplex.insert(begin(converter, Container::MpegTs)?),
                };
                converter.feed(to, Feed::Data(bytes))?;
                Ok(size)
            }
            Brought::Lost(packets) => {
                context.stats.rtp_lost.add(u64::from(packets));
                converter.evidence(EvidenceKind::RtpLoss, packets);
                Ok(0)
            }
        }
    }
}

/// Names the end of a session.
fn why(done: &Done, playing: bool) -> SourceEnd {
    let Some(Err(error)) = done.ended() else {
        return SourceEnd::failed(Cause::PeerClosed, "RTSP: the server ended the session");
    };
    if matches!(
        error.cause,
        Cause::RedirectRefused | Cause::AddressRefused | Cause::TlsFailed
    ) {
        return error.into();
    }
    let told = error.detail.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| told.contains(w));
    let (cause, detail) = match status(&told) {
        _ if error.cause == Cause::AuthRefused => (
            Cause::AuthRefused,
            "user or password are refused".to_owned(),
        ),
        Some(401 | 403 | 407) => (
            Cause::AuthRefused,
            "user or password are refused".to_owned(),
        ),
        Some(code @ (404 | 410)) => (Cause::HttpNotFound, format!("no such stream ({code})")),
        Some(code @ 400..=499) => (Cause::HttpClientError, format!("refused ({code})")),
        Some(code @ 500..=599) => (Cause::HttpServerError, format!("server error ({code})")),
        _ if has(&["tls", "certificate"]) => (
            Cause::TlsFailed,
            "the TLS handshake or the certificate failed".to_owned(),
        ),
        _ if has(&["timeout", "timed out", "timed-out"]) => {
            (Cause::Timeout, "the server does not answer".to_owned())
        }
        _ if playing => (Cause::PeerClosed, "the connection broke".to_owned()),
        _ if has(&[
            "failed to connect",
            "connection refused",
            "could not connect",
        ]) =>
        {
            (Cause::ConnectFailed, "no connection".to_owned())
        }
        _ => (
            Cause::PeerClosed,
            "the server closed the connection".to_owned(),
        ),
    };
    SourceEnd::failed(cause, format!("RTSP: {detail}"))
}

/// A status code in brackets, as in `Not Found (404)`.
fn status(told: &str) -> Option<u16> {
    told.split('(')
        .filter_map(|part| part.split_once(')'))
        .filter(|(code, _)| code.len() == 3)
        .find_map(|(code, _)| code.parse().ok())
}

/// The URL to ask for, without credentials; the peer's address, unless it is called by name; and the credentials.
async fn place(context: &SourceContext) -> Result<Place, SourceEnd> {
    let input = &context.stream.input;
    let bad = || SourceEnd::fatal(Cause::ConnectFailed, "not an RTSP URL");
    let url = Url::parse(input.url.expose()).map_err(|_| bad())?;
    let port = match url.scheme() {
        "rtsps" => 322,
        _ => 554,
    };
    let call = call(&url, port, "rtsps", input.allow_private).await?;
    let peer = call.host.parse::<IpAddr>().ok();
    let host = match peer {
        Some(ip) => SocketAddr::new(ip, call.port).to_string(),
        None => format!("{}:{}", call.host, call.port),
    };
    let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
    let credentials = super::credentials(&url).or_else(|| {
        let (user, password) = (&input.rtsp.user, &input.rtsp.password);
        let password_text = password.as_ref().map_or("", |p| p.expose());
        (user.is_some() || password.is_some())
            .then(|| (user.clone().unwrap_or_default(), password_text.to_owned()))
    });
    let location = format!("{}://{host}{}{query}", url.scheme(), url.path());
    Ok((location, peer, credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_found() {
        assert_eq!(status("not found not found (404)"), Some(404));
        assert_eq!(status("unhandled error (a) b (45) (503) (1)"), Some(503));
        assert_eq!(status("could not read from resource."), None);
    }
}
