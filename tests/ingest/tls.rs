//! TLS, to the command as a child that trusts this test's authority alone: good, expired and foreign certificates,
//! and peers that never answer the handshake.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value as Json;
use tokio_rustls::TlsAcceptor;

use crate::rig::*;
use crate::servers::{AAC, Server, free_port, h264_aac, publish};

/// Signs certificates, and lies in a file for those who trust it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let name = "Authority of a test";
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("trusted.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("trusted.pem")
    }

    /// Answers handshakes with a certificate for `name` that is good until `year`.
    fn acceptor(&self, name: &str, year: i32) -> TlsAcceptor {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            );
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}

/// A port where TLS is answered for a plain server; `None` answers no handshake.
struct Front {
    port: u16,
    taken: Arc<AtomicUsize>,
}

impl Front {
    fn of(runtime: &Runtime, acceptor: Option<TlsAcceptor>, server: u16) -> Self {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let bound = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = runtime.block_on(bound).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            let mut unanswered = Vec::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let Some(acceptor) = acceptor.clone() else {
                    unanswered.push(client);
                    continue;
                };
                tokio::spawn(async move {
                    let mut client = acceptor.accept(client).await?;
                    let mut plain = tokio::net::TcpStream::connect(("127.0.0.1", server)).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut plain).await
                });
            }
        });
        Self { port, taken }
    }
}

/// A web server of one playlist and its only segment.
fn web_server(segment: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let size = stream.read(&mut request).unwrap_or(0);
            let list = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ns.ts\n#EXT-X-ENDLIST\n";
            let body = match request[..size].starts_with(b"GET /s.ts") {
                true => &segment[..],
                false => &list[..],
            };
            let size = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
            // A client may have seen enough.
            let _ = stream.write_all(&[head.as_bytes(), body].concat());
        }
    });
    port
}

/// What `probe` says of a URL.
#[derive(Debug)]
struct Told {
    cause: Option<String>,
    codecs: Vec<String>,
    #[allow(dead_code, reason = "for failing tests")]
    text: String,
}

impl Told {
    fn read(done: Output) -> Self {
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        let found: Json = out
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_default();
        let tracks = found["tracks"].as_array().into_iter().flatten();
        Self {
            cause: found["cause"].as_str().map(str::to_owned),
            codecs: tracks
                .filter(|track| !track["format"].is_null())
                .filter_map(|track| track["codec"].as_str().map(str::to_owned))
                .collect(),
            text: format!("{out}{}", String::from_utf8_lossy(&done.stderr)),
        }
    }
}

fn probe(url: &str) -> [String; 5] {
    let args = ["probe", url, "--json", "--timeout", "8s"];
    args.map(str::to_owned)
}

/// Runs the command where its HTTP client trusts the authority.
fn over_https(trusted: &Path, url: &str) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glasswatch"));
    command.args(probe(url)).env("SSL_CERT_FILE", trusted);
    Told::read(command.stdin(Stdio::null()).output().unwrap())
}

/// Runs the command where the whole system trusts the authority: in a mount name space of its own.
fn in_its_own_world(trusted: &Path, args: &[String]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /etc/ssl/certs/ca-certificates.crt && exec \"$@\"");
    command.arg(trusted).args(args).stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn https_certificates_and_handshakes_that_fail_are_named_without_a_storm() {
    let runtime = runtime();
    let authority = Authority::new();
    let stranger = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.ts");
    make(&format!(
        "mpegtsmux name=m ! filesink location={} {} ! {X264} ! m. {} ! avenc_aac ! aacparse ! m.",
        path.display(),
        video(50, (320, 180), 25),
        tone(94)
    ));
    let server = web_server(std::fs::read(path).unwrap());
    let rows = [
        ("good", Some(authority.acceptor("localhost", 2100))),
        ("expired", Some(authority.acceptor("localhost", 2021))),
        (
            "of another host",
            Some(authority.acceptor("other.example", 2100)),
        ),
        ("of a stranger", Some(stranger.acceptor("localhost", 2100))),
        ("silent", None),
    ];
    let trusted = authority.file();
    std::thread::scope(|scope| {
        for (what, acceptor) in rows {
            let front = Front::of(&runtime, acceptor, server);
            let trusted = &trusted;
            scope.spawn(move || {
                let began = Instant::now();
                let told = over_https(trusted, &format!("https://localhost:{}/a.m3u8", front.port));
                let secs = began.elapsed().as_secs() as usize;
                if what == "good" {
                    assert_eq!(told.cause, None, "{told:?}");
                    assert_eq!(told.codecs, ["h264", "aac"], "{told:?}");
                    return;
                }
                assert_eq!(
                    told.cause.as_deref(),
                    Some("tls_failed"),
                    "{what}: {told:?}"
                );
                let taken = front.taken.load(Ordering::SeqCst);
                assert!(
                    (1..=2 * secs + 2).contains(&taken),
                    "{what}: {taken} in {secs} s"
                );
            });
        }
    });
}

#[test]
fn rtmps_and_rtsps_play_when_the_certificate_is_good_and_are_named_when_not() {
    let runtime = runtime();
    let authority = Authority::new();
    let rtmp = Server::rtmp(free_port());
    let _publisher = publish(rtmp.port, "320x180", AAC);
    let rtsp = Server::rtsp(free_port(), &h264_aac(), &[]);
    let binary = env!("CARGO_BIN_EXE_glasswatch").to_owned();
    let allowed = in_its_own_world(&authority.file(), &["true".to_owned()]);
    for (server, scheme, path, codecs) in [
        (&rtmp, "rtmps", "live/one", &["h264", "aac"][..]),
        (&rtsp, "rtsps", "live", &["h264", "aac"]),
    ] {
        let url = |front: &Front| format!("{scheme}://localhost:{}/{path}", front.port);
        let run = |front: &Front| {
            let mut args = vec![binary.clone()];
            args.extend(probe(&url(front)));
            Told::read(in_its_own_world(&authority.file(), &args))
        };
        if allowed.status.success() {
            let good = Front::of(
                &runtime,
                Some(authority.acceptor("localhost", 2100)),
                server.port,
            );
            let told = run(&good);
            assert_eq!(told.cause, None, "{scheme}: {told:?}");
            assert!(!told.codecs.is_empty(), "{scheme}: {told:?}");
            assert!(
                told.codecs.iter().all(|c| codecs.contains(&&**c)),
                "{told:?}"
            );
            for (name, year) in [("localhost", 2021), ("other.example", 2100)] {
                let bad = Front::of(&runtime, Some(authority.acceptor(name, year)), server.port);
                let told = run(&bad);
                assert_eq!(
                    told.cause.as_deref(),
                    Some("tls_failed"),
                    "{scheme} {name}: {told:?}"
                );
            }
        } else {
            println!("left out: this machine lets nobody choose whom the system trusts");
        }
        // An authority that nobody trusts.
        let strange = Front::of(
            &runtime,
            Some(authority.acceptor("localhost", 2100)),
            server.port,
        );
        let mut command = Command::new(&binary);
        let told = Told::read(command.args(probe(&url(&strange))).output().unwrap());
        assert_eq!(
            told.cause.as_deref(),
            Some("tls_failed"),
            "{scheme}: {told:?}"
        );
    }
}
