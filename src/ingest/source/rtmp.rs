//! RTMP, pulled from a server. GStreamer connects and plays; the FLV inside is taken apart here.

use std::time::Duration;

use detectors::base::Cause;
use url::Url;

use super::{Decoding, Received, SourceContext, SourceEnd, begin, call, ended, open};
use crate::ingest::clock;
use crate::ingest::convert::{Container, Converter, Feed};
use crate::ingest::pipeline::network::RtmpPlace;
use crate::ingest::pipeline::{Done, Pipeline};

/// How long a server may take to bring the first media.
const FIRST_MEDIA: Duration = Duration::from_secs(8);
/// Commands and metadata that may come without media.
const PRELUDE: u64 = 64 << 10;

pub(super) async fn run(context: SourceContext) -> SourceEnd {
    receive(&context)
        .await
        .err()
        .unwrap_or_else(SourceEnd::complete)
}

async fn receive(context: &SourceContext) -> Result<(), SourceEnd> {
    let input = &context.stream.input;
    let place = place(context).await?;
    let mut converter = Converter::new(context);
    let to = begin(&mut converter, Container::Flv)?;
    let hub = converter.hub();
    let (pipeline, mut bytes) = open(move || Pipeline::rtmp(&hub, &place)).await?;
    let mut received = Received::new(context);
    let mut decoding = Decoding::default();
    let mut newest = clock::now();
    let (mut count, mut fed) = (0_u64, None);
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
            // An orderly end closes the channel instead, behind the last bytes.
            () = ended(&pipeline.done, &converter, Result::is_err) => return Err(why(&pipeline.done, playing)),
            first = tokio::time::timeout(wait, bytes.recv()) => first,
        };
        match first {
            Ok(Some(first)) => {
                let batch = super::gather(first, &mut bytes);
                count = count.saturating_add(batch.len() as u64);
                let size = batch.len();
                converter.feed(to, Feed::Data(batch))?;
                // Without a publisher servers send metadata all the same.
                if converter.fed() != fed || count > PRELUDE {
                    fed = converter.fed();
                    playing = true;
                    newest = clock::now();
                    received.note(size);
                    decoding.check(&converter)?;
                }
            }
            Ok(None) => return Err(why(&pipeline.done, playing)),
            Err(_) if playing => {
                let detail = "RTMP: the stream stopped; its publisher may be gone";
                return Err(SourceEnd::failed(Cause::Timeout, detail));
            }
            Err(_) if !pipeline.rtmp_answered() => {
                let detail = "RTMP: the server does not answer";
                return Err(SourceEnd::failed(Cause::Timeout, detail));
            }
            Err(_) => {
                let detail = "RTMP: the server sends nothing; the stream has no publisher";
                return Err(SourceEnd::failed(Cause::NoInput, detail));
            }
        }
    }
}

/// Names the end of a connection.
fn why(done: &Done, playing: bool) -> SourceEnd {
    let Some(Err(error)) = done.ended() else {
        return match playing {
            true => SourceEnd::failed(Cause::PeerClosed, "RTMP: the server ended the stream"),
            false => SourceEnd::failed(Cause::NoInput, "RTMP: the server has no such stream"),
        };
    };
    let told = error.detail.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| told.contains(w));
    let (cause, detail) = if has(&["authenti", "not authorized", "unauthorized", "authmod"]) {
        (Cause::AuthRefused, "the server refuses the credentials")
    } else if has(&["tls", "certificate"]) {
        (
            Cause::TlsFailed,
            "the TLS handshake or the certificate failed",
        )
    } else if has(&["streamnotfound", "stream not found", "not found"]) {
        (Cause::HttpNotFound, "the server has no such stream")
    } else if has(&["timeout", "timed out"]) {
        (Cause::Timeout, "the server does not answer")
    } else if has(&["'play' cmd failed"]) {
        // Servers that ask a login service hang up rather than say no.
        let detail =
            "the server hangs up when asked to play: it refuses the stream or its arguments";
        (Cause::AuthRefused, detail)
    } else if has(&[
        "rejected",
        "denied",
        "connect error",
        "'connect' cmd failed",
    ]) {
        (Cause::AuthRefused, "the server refuses the application")
    } else if playing {
        (Cause::PeerClosed, "the connection broke")
    } else if has(&["eof", "closed", "end of file", "reset"]) {
        (Cause::PeerClosed, "the server closed the connection")
    } else {
        (Cause::ConnectFailed, "no connection")
    };
    SourceEnd::failed(cause, format!("RTMP: {detail}"))
}

async fn place(context: &SourceContext) -> Result<RtmpPlace, SourceEnd> {
    let input = &context.stream.input;
    let bad = || {
        SourceEnd::fatal(
            Cause::ConnectFailed,
            "the RTMP URL names no application and stream",
        )
    };
    let url = Url::parse(input.url.expose()).map_err(|_| bad())?;
    let (application, stream) = parts(&url).ok_or_else(bad)?;
    let port = match url.scheme() {
        "rtmps" => 443,
        _ => 1935,
    };
    let call = call(&url, port, "rtmps", input.allow_private).await?;
    Ok(RtmpPlace {
        scheme: url.scheme().to_owned(),
        host: call.host,
        port: call.port,
        application,
        stream,
        credentials: super::credentials(&url),
    })
}

/// Application, and stream with its query.
fn parts(url: &Url) -> Option<(String, String)> {
    let (application, stream) = url.path().trim_start_matches('/').rsplit_once('/')?;
    let stream = match url.query() {
        Some(query) => format!("{stream}?{query}"),
        None => stream.to_owned(),
    };
    (!application.is_empty() && !stream.is_empty()).then(|| (application.to_owned(), stream))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn application_and_stream_are_told_apart() {
        let of = |text: &str| parts(&Url::parse(text).unwrap());
        let pair = |a: &str, s: &str| Some((a.to_owned(), s.to_owned()));
        assert_eq!(of("rtmp://h/live/one"), pair("live", "one"));
        assert_eq!(of("rtmp://h/a/inst/one?k=1/2"), pair("a/inst", "one?k=1/2"));
        assert_eq!(of("rtmp://h/live"), None);
        assert_eq!(of("rtmp://h/live/"), None);
    }
}
