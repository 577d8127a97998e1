//! SRT, calling or listening.

use std::net::SocketAddr;
use std::time::Duration;

use detectors::base::{Cause, InputEvent};

use super::{Decoding, Received, SourceContext, SourceEnd, begin, open};
use crate::config::SrtMode;
use crate::ingest::clock;
use crate::ingest::convert::{Container, Converter, Feed};
use crate::ingest::pipeline::network::SrtPlace;
use crate::ingest::pipeline::{Done, Pipeline};

/// How long a caller may take to bring the first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// A listener without a caller tells so this often.
const SILENT_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn run(context: SourceContext) -> SourceEnd {
    receive(&context)
        .await
        .err()
        .unwrap_or_else(SourceEnd::complete)
}

async fn receive(context: &SourceContext) -> Result<(), SourceEnd> {
    let input = &context.stream.input;
    let listening = input.srt.mode == SrtMode::Listener;
    let address = place(context).await?;
    let mut converter = Converter::new(context);
    let to = begin(&mut converter, Container::MpegTs)?;
    let hub = converter.hub();
    let srt = input.srt.clone();
    let opened = open(move || {
        let place = SrtPlace { address, srt: &srt };
        Pipeline::srt(&hub, &place)
    });
    let (pipeline, mut bytes) = opened.await.map_err(|error| match error.cause {
        Cause::Internal | Cause::Undecodable => {
            SourceEnd::failed(Cause::ConnectFailed, "the SRT socket cannot be opened")
        }
        cause => SourceEnd::failed(cause, error.detail),
    })?;
    let mut received = Received::new(context);
    let mut decoding = Decoding::default();
    let mut newest = clock::now();
    let mut connected = false;
    loop {
        let patience = match (connected, listening) {
            (true, _) => input.limits.idle,
            (false, true) => SILENT_EVERY,
            (false, false) => FIRST_BYTES,
        };
        let wait = newest.plus(patience).since(clock::now());
        let first = tokio::select! {
            () = context.cancel.cancelled() => return Ok(()),
            first = tokio::time::timeout(wait, bytes.recv()) => first,
        };
        match first {
            Ok(Some(first)) => {
                let batch = super::gather(first, &mut bytes);
                newest = clock::now();
                connected = true;
                received.note(batch.len());
                converter.feed(to, Feed::Data(batch))?;
                decoding.check(&converter)?;
            }
            Ok(None) => return Err(why(&pipeline.done, connected)),
            Err(_) if listening && !connected => {
                newest = clock::now();
                let cause = Cause::NoInput;
                context.tell(InputEvent::Failed { cause });
            }
            Err(_) if connected => {
                return Err(SourceEnd::failed(
                    Cause::Timeout,
                    "the SRT peer fell silent",
                ));
            }
            Err(_) => {
                return Err(SourceEnd::failed(
                    Cause::Timeout,
                    "the SRT peer sends nothing",
                ));
            }
        }
    }
}

/// Names the end of a connection.
fn why(done: &Done, connected: bool) -> SourceEnd {
    let told = done.ended().and_then(Result::err);
    let detail = told.map_or_else(String::new, |e| e.detail.to_ascii_lowercase());
    let has = |words: &[&str]| words.iter().any(|w| detail.contains(w));
    if has(&[
        "authenticate",
        "passphrase",
        "secret",
        "forbidden",
        "unauthorized",
    ]) {
        SourceEnd::failed(
            Cause::AuthRefused,
            "SRT: the peer refuses the passphrase or stream id",
        )
    } else if connected {
        SourceEnd::failed(Cause::PeerClosed, "SRT: the peer closed the connection")
    } else {
        SourceEnd::failed(Cause::ConnectFailed, "SRT: no connection")
    }
}

/// The peer to call, or the place to listen on.
async fn place(context: &SourceContext) -> Result<SocketAddr, SourceEnd> {
    let input = &context.stream.input;
    let bad = || SourceEnd::fatal(Cause::ConnectFailed, "the SRT URL has no host or port");
    let url = url::Url::parse(input.url.expose()).map_err(|_| bad())?;
    let port = url.port().ok_or_else(bad)?;
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if input.srt.mode == SrtMode::Listener {
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        let ip = host.parse().map_err(|_| bad())?;
        return Ok(SocketAddr::new(ip, port));
    }
    if host.is_empty() {
        return Err(bad());
    }
    super::resolve(host, port, input.allow_private).await
}
