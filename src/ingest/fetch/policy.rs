//! Where requests may go: schemes, addresses, files.
//!
//! Names are judged when they are resolved for a connection, by a guarded resolver, and the connection goes to the very
//! address that was judged: a name that answers differently the second time gains nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use detectors::base::Cause;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::FetchError;

/// Addresses of cloud metadata and credential services: refused always, no stream lives there.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(100, 100, 100, 200),
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
];

/// Whether a connection to this address may be made.
///
/// Never: metadata services, unspecified, multicast, broadcast. With `allow_private` only: loopback, RFC 1918, ULA,
/// link-local, carrier-grade NAT, and the other ranges that the IANA special-purpose registries keep off the public
/// internet. IPv6 forms that carry an IPv4 address (mapped, compatible, NAT64, 6to4) are judged by that address.
pub fn address_allowed(ip: IpAddr, allow_private: bool) -> bool {
    match ip {
        IpAddr::V4(v4) => v4_allowed(v4, allow_private),
        IpAddr::V6(v6) => match carried_v4(v6) {
            Some(v4) => v4_allowed(v4, allow_private),
            None => v6_allowed(v6, allow_private),
        },
    }
}

fn v4_allowed(ip: Ipv4Addr, allow_private: bool) -> bool {
    let [a, b, c, _] = ip.octets();
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || METADATA_V4.contains(&ip) {
        return false;
    }
    let private = ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18);
    allow_private || !private
}

fn v6_allowed(ip: Ipv6Addr, allow_private: bool) -> bool {
    let segments = ip.segments();
    if ip.is_unspecified() || ip.is_multicast() || METADATA_V6.contains(&ip) {
        return false;
    }
    let private = ip.is_loopback()
        || segments[0] & 0xfe00 == 0xfc00
        || segments[0] & 0xffc0 == 0xfe80
        || segments[0] & 0xffc0 == 0xfec0
        || (segments[0] == 0x2001 && segments[1] == 0x0db8)
        || segments[..4] == [0x0100, 0, 0, 0];
    allow_private || !private
}

fn carried_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let join = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(join(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(join(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// Scheme and host of a URL, for messages: no user, port, path or query.
pub fn shown(url: &Url) -> String {
    match url.host_str() {
        Some(host) => format!("{}://{host}", url.scheme()),
        None => url.scheme().to_owned(),
    }
}

/// Checks what can be known before a name is resolved: http or https, a host, and an allowed address when the host
/// is one.
pub fn check_url(url: &Url, allow_private: bool) -> Result<(), FetchError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FetchError::new(
            Cause::SchemeRefused,
            format!("the scheme {} may not be followed", url.scheme()),
        ));
    }
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        Some(Host::Domain(name)) if !name.is_empty() => return Ok(()),
        _ => {
            return Err(FetchError::new(
                Cause::SchemeRefused,
                "a URL without a host may not be followed",
            ));
        }
    };
    if address_allowed(ip, allow_private) {
        Ok(())
    } else {
        Err(FetchError::new(
            Cause::AddressRefused,
            format!("{} is not an address that may be reached", shown(url)),
        ))
    }
}

/// The local file behind `url`, when it lies below `root` after all links are followed.
///
/// `root` is the directory of a playlist that was itself configured as a local file.
pub fn local_file(url: &Url, root: &Path) -> Result<PathBuf, FetchError> {
    let refused = || {
        FetchError::new(
            Cause::SchemeRefused,
            "a local playlist may only name files below its own directory",
        )
    };
    let path = url.to_file_path().map_err(|()| refused())?;
    let unreadable = |e: io::Error| FetchError::new(Cause::FileUnreadable, e.kind().to_string());
    let root = root.canonicalize().map_err(unreadable)?;
    let real = path.canonicalize().map_err(unreadable)?;
    if !real.starts_with(&root) {
        return Err(refused());
    }
    if !real.is_file() {
        return Err(FetchError::new(Cause::FileUnreadable, "not a regular file"));
    }
    Ok(real)
}

/// A name had no allowed address.
#[derive(Debug)]
pub(super) struct Forbidden;

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name resolves to no address that may be reached")
    }
}

impl std::error::Error for Forbidden {}

/// A name could not be resolved.
#[derive(Debug)]
pub(super) struct Unresolved;

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name does not resolve")
    }
}

impl std::error::Error for Unresolved {}

/// Where names are looked up.
#[derive(Debug, Clone)]
pub(super) enum Names {
    /// As the system is set up.
    System,
    /// One answer after the other, whatever the name.
    #[cfg(test)]
    Script(std::sync::Arc<std::sync::Mutex<Vec<Vec<SocketAddr>>>>),
    /// Without an answer.
    #[cfg(test)]
    Silent,
}

impl Names {
    async fn look_up(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        match self {
            Names::System => Ok(tokio::net::lookup_host((name, 0)).await?.collect()),
            #[cfg(test)]
            Names::Script(answers) => {
                let mut answers = answers.lock().unwrap_or_else(|e| e.into_inner());
                answers.pop().ok_or(io::ErrorKind::NotFound.into())
            }
            #[cfg(test)]
            Names::Silent => std::future::pending().await,
        }
    }
}

/// Resolver that hands out allowed addresses only.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub names: Names,
    pub allow_private: bool,
    pub deadline: Duration,
}

/// How long a bare connection may take that tells whether anybody is there.
const KNOCK: Duration = Duration::from_millis(500);

impl Guard {
    async fn addresses(
        &self,
        name: &str,
    ) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let look_up = self.names.look_up(name);
        match tokio::time::timeout(self.deadline, look_up).await {
            Ok(Ok(found)) => allowed(found, self.allow_private),
            Ok(Err(_)) | Err(_) => Err(Unresolved.into()),
        }
    }

    /// Whether anybody accepts a bare connection there.
    pub(super) async fn answers(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return false;
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let Ok(found) = self.addresses(host).await else {
            return false;
        };
        let places: Vec<_> = found
            .into_iter()
            .map(|found| SocketAddr::new(found.ip(), port))
            .collect();
        let knock = tokio::net::TcpStream::connect(&places[..]);
        matches!(tokio::time::timeout(KNOCK, knock).await, Ok(Ok(_)))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = guard.addresses(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn allowed(
    found: Vec<SocketAddr>,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    if found.is_empty() {
        return Err(Unresolved.into());
    }
    let allowed: Vec<_> = found
        .into_iter()
        .filter(|addr| address_allowed(addr.ip(), allow_private))
        .collect();
    if allowed.is_empty() {
        return Err(Forbidden.into());
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn open(ip: &str) -> bool {
        address_allowed(ip.parse().unwrap(), false)
    }

    #[test]
    fn public_addresses_are_open_and_special_ones_are_not() {
        for ip in [
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "2002:808:808::1",
        ] {
            assert!(open(ip), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "198.19.0.1",
            "::",
            "::1",
            "fe80::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
        ] {
            assert!(!open(ip), "{ip}");
        }
    }

    #[test]
    fn allowing_private_never_opens_metadata_or_multicast() {
        for ip in ["127.0.0.1", "10.1.2.3", "::1", "fd12::1", "::ffff:10.0.0.1"] {
            assert!(address_allowed(ip.parse().unwrap(), true), "{ip}");
        }
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
            "224.0.0.1",
            "0.0.0.0",
        ] {
            assert!(!address_allowed(ip.parse().unwrap(), true), "{ip}");
        }
    }

    #[test]
    fn odd_spellings_of_loopback_are_seen_through() {
        for text in [
            "http://0x7f.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://[::ffff:7f00:1]/",
        ] {
            let error = check_url(&Url::parse(text).unwrap(), false).unwrap_err();
            assert_eq!(error.cause, Cause::AddressRefused, "{text}");
        }
    }

    #[test]
    fn only_http_and_https_are_followed() {
        for text in [
            "file:///etc/passwd",
            "udp://239.0.0.1:1",
            "data:,x",
            "concat:a",
        ] {
            let error = check_url(&Url::parse(text).unwrap(), true).unwrap_err();
            assert_eq!(error.cause, Cause::SchemeRefused, "{text}");
        }
        assert!(check_url(&Url::parse("https://example.org/a").unwrap(), false).is_ok());
    }

    #[test]
    fn a_name_with_no_allowed_address_is_refused_and_a_mixed_one_is_cut() {
        let private: SocketAddr = "10.0.0.1:0".parse().unwrap();
        let public: SocketAddr = "8.8.8.8:0".parse().unwrap();
        assert_eq!(allowed(vec![private, public], false).unwrap(), [public]);
        assert!(allowed(vec![private], false).unwrap_err().is::<Forbidden>());
        assert!(allowed(vec![], true).unwrap_err().is::<Unresolved>());
    }

    #[tokio::test]
    async fn a_name_service_that_says_nothing_is_given_up() {
        let guard = Guard {
            names: Names::Silent,
            allow_private: true,
            deadline: Duration::from_millis(20),
        };
        let given_up = guard.addresses("example.org").await.unwrap_err();
        assert!(given_up.is::<Unresolved>());
    }

    /// A name that answers differently the second time gains nothing: each connection goes where its own look-up
    /// was allowed to lead, and nowhere after one that was not.
    #[tokio::test]
    async fn a_name_that_flips_leads_only_to_addresses_that_were_judged() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        // Fails when one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            }
        });
        let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let metadata: SocketAddr = "169.254.170.2:0".parse().unwrap();
        // The last one is asked for first.
        let answers = vec![vec![metadata], vec![metadata, here], vec![here]];
        let answers = std::sync::Arc::new(std::sync::Mutex::new(answers));
        let guard = Guard {
            names: Names::Script(std::sync::Arc::clone(&answers)),
            allow_private: true,
            deadline: Duration::from_secs(1),
        };
        let client = reqwest::Client::builder()
            .no_proxy()
            .dns_resolver(guard)
            .build()
            .unwrap();
        let url = format!("http://flips.example:{port}/");
        for left in [2, 1] {
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), "ok");
            assert_eq!(
                answers.lock().unwrap().len(),
                left,
                "one look-up a connection"
            );
        }
        let refused = client.get(&url).send().await.unwrap_err();
        assert!(refused.is_connect(), "{refused:?}");
        assert!(format!("{refused:?}").contains("Forbidden"), "{refused:?}");
    }

    #[test]
    fn local_files_stay_below_their_playlist() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("show");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("a.ts"), b"a").unwrap();
        std::fs::write(dir.path().join("secret"), b"s").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).unwrap();
        let url = |path: PathBuf| Url::from_file_path(path).unwrap();
        assert!(local_file(&url(root.join("a.ts")), &root).is_ok());
        for bad in [root.join("../secret"), root.join("link")] {
            let error = local_file(&url(bad), &root).unwrap_err();
            assert_eq!(error.cause, Cause::SchemeRefused);
        }
        let error = local_file(&url(root.join("none")), &root).unwrap_err();
        assert_eq!(error.cause, Cause::FileUnreadable);
    }
}
