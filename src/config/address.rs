//! Input URLs: which protocol, and what may be shown of them.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use url::{Host, Url};

use super::checked::{Protocol, Secret, SrtMode};
use super::problem::suggest;
use super::raw::Text;

/// A URL as understood.
#[derive(Debug)]
pub struct Target {
    /// Normalised, absolute.
    pub url: Secret,
    /// From scheme and path.
    pub protocol: Protocol,
    /// SRT options found in the query.
    pub srt: SrtQuery,
    /// Host, when it is a literal private address or `localhost`.
    pub private: bool,
}

/// SRT options of a URL query.
#[derive(Debug, Default)]
pub struct SrtQuery {
    /// `mode`.
    pub mode: Option<SrtMode>,
    /// `passphrase`.
    pub passphrase: Option<String>,
    /// `streamid`.
    pub stream_id: Option<String>,
    /// `latency`, milliseconds in the URL.
    pub latency: Option<Duration>,
}

/// What is wrong with a URL; free of its secrets.
#[derive(Debug)]
pub struct Wrong {
    /// Sentence.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

fn wrong<T>(message: impl Into<String>, hint: impl Into<Option<String>>) -> Result<T, Wrong> {
    Err(Wrong {
        message: message.into(),
        hint: hint.into(),
    })
}

const SCHEMES: [&str; 10] = [
    "http", "https", "srt", "rtmp", "rtmps", "rtsp", "rtsps", "udp", "rtp", "file",
];
const SRT_PARAMETERS: [&str; 4] = ["latency", "mode", "passphrase", "streamid"];

/// Understands an input URL or file path. `hidden`: it came from a file, so nothing of it is shown.
pub fn input(text: &Text, base: &Path, hidden: bool) -> Result<Target, Wrong> {
    let word = text.value.trim();
    let Some((scheme, rest)) = word.split_once("://") else {
        return file(&base.join(word), text, hidden);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "file" if rest.starts_with('/') => match Url::parse(word).map(|u| u.to_file_path()) {
            Ok(Ok(path)) => file(&path, text, hidden),
            _ => wrong("not a valid file URL", None),
        },
        "file" => wrong(
            "a file URL must be absolute",
            "write `file:///path`, or just the path".to_owned(),
        ),
        "http" | "https" => http(word, text, hidden),
        "srt" => srt(rest, text, hidden),
        "udp" => plain(Protocol::Udp, "udp", rest, text, hidden),
        "rtp" => plain(Protocol::Rtp, "rtp", rest, text, hidden),
        "rtmp" | "rtmps" => rtmp(word, text, hidden),
        "rtsp" | "rtsps" => called(Protocol::Rtsp, word, text, hidden),
        other if text.substituted || hidden || !is_word(other) => {
            wrong("unknown scheme", suggest("", SCHEMES))
        }
        other => wrong(format!("unknown scheme `{other}`"), suggest(other, SCHEMES)),
    }
}

/// Short and plain enough to be a mistyped word rather than a misplaced secret.
fn is_word(text: &str) -> bool {
    text.len() <= 12 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn file(path: &Path, text: &Text, hidden: bool) -> Result<Target, Wrong> {
    let Ok(url) = Url::from_file_path(path) else {
        return wrong("not a valid file path", None);
    };
    // A path is shown in full, unless a part of it may be secret.
    let shown = match hidden || text.substituted {
        true => shown(text, hidden, None),
        false => url.to_string(),
    };
    Ok(Target {
        url: Secret::with_shown(url, shown),
        protocol: by_path(&path.to_string_lossy(), Protocol::File),
        srt: SrtQuery::default(),
        private: false,
    })
}

fn by_path(path: &str, other: Protocol) -> Protocol {
    let path = path.to_ascii_lowercase();
    if path.ends_with(".mpd") {
        Protocol::Dash
    } else if path.ends_with(".m3u8") {
        Protocol::Hls
    } else {
        other
    }
}

fn http(word: &str, text: &Text, hidden: bool) -> Result<Target, Wrong> {
    let url = parse(word)?;
    Ok(Target {
        protocol: by_path(url.path(), Protocol::Http),
        private: is_private(&url),
        url: Secret::with_shown(url.as_str(), shown(text, hidden, Some(&url))),
        srt: SrtQuery::default(),
    })
}

fn srt(rest: &str, text: &Text, hidden: bool) -> Result<Target, Wrong> {
    let url = parse(&with_host("srt", rest))?;
    let mut srt = SrtQuery::default();
    // In a query `+` means a blank to forms, but itself to SRT tools.
    let query = url.query().unwrap_or_default().replace('+', "%2B");
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "mode" => match value.as_ref() {
                "caller" => srt.mode = Some(SrtMode::Caller),
                "listener" => srt.mode = Some(SrtMode::Listener),
                _ => {
                    return wrong(
                        "SRT parameter `mode` must be caller or listener",
                        "rendezvous is not supported".to_owned(),
                    );
                }
            },
            "passphrase" => srt.passphrase = Some(value.into_owned()),
            "streamid" => srt.stream_id = Some(value.into_owned()),
            "latency" => match value.parse::<u32>() {
                Ok(ms) if ms <= 30_000 => srt.latency = Some(Duration::from_millis(ms.into())),
                _ => {
                    return wrong(
                        "SRT parameter `latency` must be milliseconds, 0 to 30000",
                        None,
                    );
                }
            },
            // Implied by the passphrase and by live reception.
            "pbkeylen" | "transtype" => {}
            other if text.substituted || hidden || !is_word(other) => {
                return wrong("unknown SRT parameter", suggest("", SRT_PARAMETERS));
            }
            other => {
                return wrong(
                    format!("unknown SRT parameter `{other}`"),
                    suggest(other, SRT_PARAMETERS),
                );
            }
        }
    }
    if url.port().is_none() {
        return wrong("the port is missing", "write `srt://host:port`".to_owned());
    }
    Ok(Target {
        private: srt.mode != Some(SrtMode::Listener) && is_private(&url),
        url: Secret::with_shown(url.as_str(), shown(text, hidden, Some(&url))),
        protocol: Protocol::Srt,
        srt,
    })
}

fn rtmp(word: &str, text: &Text, hidden: bool) -> Result<Target, Wrong> {
    let target = called(Protocol::Rtmp, word, text, hidden)?;
    let parts = Url::parse(target.url.expose()).ok().map(|url| {
        let parts = url.path().split('/').filter(|part| !part.is_empty());
        parts.count()
    });
    match parts {
        Some(2..) => Ok(target),
        _ => wrong(
            "the application or the stream is missing",
            "write `rtmp://host/application/stream`".to_owned(),
        ),
    }
}

/// A peer that is called, with a default port.
fn called(protocol: Protocol, word: &str, text: &Text, hidden: bool) -> Result<Target, Wrong> {
    let url = parse(word)?;
    Ok(Target {
        private: is_private(&url),
        url: Secret::with_shown(url.as_str(), shown(text, hidden, Some(&url))),
        protocol,
        srt: SrtQuery::default(),
    })
}

fn plain(
    protocol: Protocol,
    scheme: &str,
    rest: &str,
    text: &Text,
    hidden: bool,
) -> Result<Target, Wrong> {
    // `udp://@239.0.0.1:1234` is how some players write "listen here".
    let rest = rest.strip_prefix('@').unwrap_or(rest);
    let url = parse(&with_host(scheme, rest))?;
    if url.port().is_none() {
        return wrong(
            "the port is missing",
            format!("write `{scheme}://address:port`"),
        );
    }
    if url.query().is_some() {
        return wrong(
            format!("{scheme} URLs take no parameters"),
            "use the keys `interface` and `jitter`".to_owned(),
        );
    }
    Ok(Target {
        url: Secret::with_shown(url.as_str(), shown(text, hidden, Some(&url))),
        protocol,
        srt: SrtQuery::default(),
        private: false,
    })
}

/// `scheme://:port` means every local address.
fn with_host(scheme: &str, rest: &str) -> String {
    let any = if rest.starts_with(':') { "0.0.0.0" } else { "" };
    format!("{scheme}://{any}{rest}")
}

fn parse(word: &str) -> Result<Url, Wrong> {
    match Url::parse(word) {
        Ok(url) if url.has_host() => Ok(url),
        Ok(_) => wrong("the host is missing", None),
        Err(e) => wrong(format!("not a valid URL: {e}"), None),
    }
}

/// Endpoint of a receiver.
pub fn endpoint(text: &Text, hidden: bool) -> Result<(Secret, bool), Wrong> {
    let url = parse(text.value.trim())?;
    if !matches!(url.scheme(), "http" | "https") {
        return wrong("must be an http or https URL", None);
    }
    let shown = if hidden || text.substituted {
        "***".to_owned()
    } else {
        format!("{}/***", url.origin().ascii_serialization())
    };
    Ok((Secret::with_shown(url.as_str(), shown), is_private(&url)))
}

/// What may be shown: as written, with substituted parts, credentials, query and fragment masked.
fn shown(text: &Text, hidden: bool, url: Option<&Url>) -> String {
    if hidden {
        return "***".to_owned();
    }
    let masked = text.masked.trim();
    let Some(url) = url else {
        return masked.to_owned();
    };
    let (bare, query) = match masked.find(['?', '#']) {
        Some(at) => (&masked[..at], "?***"),
        None => (masked, ""),
    };
    let credentials = !url.username().is_empty() || url.password().is_some();
    match (credentials, bare.split_once("://"), bare.rsplit_once('@')) {
        (true, Some((scheme, _)), Some((_, rest))) => format!("{scheme}://***@{rest}{query}"),
        _ => format!("{bare}{query}"),
    }
}

fn is_private(url: &Url) -> bool {
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        // Hosts of schemes other than http are not parsed into addresses.
        Some(Host::Domain(name)) => match name.parse() {
            Ok(ip) => ip,
            Err(_) => return name == "localhost" || name.ends_with(".localhost"),
        },
        None => return false,
    };
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                // Shared address space, RFC 6598.
                || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64)
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(text: &str) -> Result<Target, Wrong> {
        input(&text.into(), Path::new("/base"), false)
    }

    fn protocol(text: &str) -> Protocol {
        of(text).unwrap().protocol
    }

    #[test]
    fn protocol_follows_scheme_and_path() {
        assert_eq!(protocol("https://a.example/x/Live.M3U8?t=1"), Protocol::Hls);
        assert_eq!(protocol("http://a.example/x.ts?f=a.m3u8"), Protocol::Http);
        assert_eq!(protocol("clips/a.ts"), Protocol::File);
        assert_eq!(protocol("file:///clips/a.m3u8"), Protocol::Hls);
        assert_eq!(protocol("https://a.example/x/Live.MPD?t=1"), Protocol::Dash);
        assert_eq!(protocol("clips/a.mpd"), Protocol::Dash);
        assert_eq!(protocol("UDP://@239.1.1.1:5000"), Protocol::Udp);
        assert_eq!(protocol("rtp://:5004"), Protocol::Rtp);
        assert_eq!(protocol("srt://a.example:9000"), Protocol::Srt);
        assert_eq!(protocol("RTMPS://a.example/live/one"), Protocol::Rtmp);
        assert_eq!(protocol("rtsp://u:p@a.example"), Protocol::Rtsp);
    }

    #[test]
    fn urls_are_made_absolute() {
        assert_eq!(of("a b.ts").unwrap().url.expose(), "file:///base/a%20b.ts");
        assert_eq!(of("a.ts").unwrap().url.shown(), "file:///base/a.ts");
        assert_eq!(of("/c.ts").unwrap().url.expose(), "file:///c.ts");
        assert_eq!(
            of("udp://@:1234").unwrap().url.expose(),
            "udp://0.0.0.0:1234"
        );
        assert_eq!(
            of("udp://@239.1.1.1:1").unwrap().url.expose(),
            "udp://239.1.1.1:1"
        );
    }

    #[test]
    fn srt_parameters_are_read() {
        let t = of("srt://h.example:9?passphrase=a+b%26cdefgh&streamid=%23!::r=x&latency=250&mode=listener")
            .unwrap();
        assert_eq!(t.srt.passphrase.as_deref(), Some("a+b&cdefgh"));
        assert_eq!(t.srt.stream_id.as_deref(), Some("#!::r=x"));
        assert_eq!(t.srt.latency, Some(Duration::from_millis(250)));
        assert_eq!(t.srt.mode, Some(SrtMode::Listener));
    }

    #[test]
    fn refused_with_a_reason() {
        for (text, part) in [
            ("rtmp://a.example/live", "stream is missing"),
            ("rtsp:///live", "host is missing"),
            ("srt://a.example", "port is missing"),
            ("udp://239.1.1.1", "port is missing"),
            ("udp://239.1.1.1:5?x=1", "no parameters"),
            ("htp://a.example/", "unknown scheme"),
            ("http://", "not a valid URL"),
            ("file://rel.ts", "must be absolute"),
            (
                "srt://a.example:1?latncy=2",
                "unknown SRT parameter `latncy`",
            ),
            ("srt://a.example:1?s3cret", "unknown SRT parameter"),
            ("u:s3cret@a.example://x", "unknown scheme"),
        ] {
            let message = of(text).unwrap_err().message;
            assert!(!message.contains("s3cret"), "{message}");
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = |t: &str| of(t).unwrap().url.shown().to_owned();
        assert_eq!(
            shown("https://u:p@a.example/x.m3u8?tok=s#f"),
            "https://***@a.example/x.m3u8?***"
        );
        assert_eq!(
            shown("srt://a.example:1?passphrase=0123456789"),
            "srt://a.example:1?***"
        );
        assert_eq!(
            shown("rtsp://u:s3cret@a.example/1?tok=s3cret"),
            "rtsp://***@a.example/1?***"
        );
        assert_eq!(
            shown("https://a.example/@x.m3u8"),
            "https://a.example/@x.m3u8"
        );
        let text = Text {
            written: "https://a.example/${T}/x".into(),
            value: "https://a.example/top/x".into(),
            masked: "https://a.example/***/x".into(),
            substituted: true,
        };
        let target = input(&text, Path::new("/"), false).unwrap();
        assert_eq!(target.url.shown(), "https://a.example/***/x");
        assert_eq!(
            input(&text, Path::new("/"), true).unwrap().url.shown(),
            "***"
        );
        let (hook, _) = endpoint(&"https://hooks.example/T/secret".into(), false).unwrap();
        assert_eq!(hook.shown(), "https://hooks.example/***");
    }

    #[test]
    fn private_addresses_are_known() {
        for yes in [
            "10.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "[::1]",
            "[fd00::1]",
            "localhost",
        ] {
            assert!(of(&format!("http://{yes}/a.ts")).unwrap().private, "{yes}");
            assert!(of(&format!("srt://{yes}:1")).unwrap().private, "{yes}");
            assert!(of(&format!("rtmp://{yes}/a/b")).unwrap().private, "{yes}");
            assert!(of(&format!("rtsp://{yes}/a")).unwrap().private, "{yes}");
        }
        for no in ["8.8.8.8", "100.128.0.1", "a.example", "[2001:db8::1]"] {
            assert!(!of(&format!("http://{no}/a.ts")).unwrap().private, "{no}");
        }
    }
}
