//! RTMP and RTSP against real servers on loopback: nginx with its RTMP module, and GStreamer's RTSP server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use detectors::base::{Cause, Fact, InputEvent};
use glasswatch::config::{Protocol, RtspTransport, Secret};

use crate::rig::*;

/// A server's process, which ends with its test.
pub struct Server {
    process: Child,
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

impl Server {
    /// Starts a server and waits until it listens.
    fn start(command: &mut Command, port: u16, folder: tempfile::TempDir) -> Self {
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut server = Self {
            process,
            port,
            _folder: folder,
        };
        let until = Instant::now() + DEADLINE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.process.try_wait().unwrap();
            assert_eq!(ended, None, "the server ended");
            assert!(Instant::now() < until, "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub fn rtmp(port: u16) -> Self {
        Self::rtmp_with(port, "")
    }

    /// With further options of the application.
    pub fn rtmp_with(port: u16, options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
             events {{}}\n\
             rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; {options} }} }} }}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(&config);
        command.arg("-e").arg(folder.path().join("start.log"));
        Self::start(&mut command, port, folder)
    }

    pub fn rtsp(port: u16, launch: &str, credentials: &[&str]) -> Self {
        Self::rtsp_from(&mut Self::rtsp_command(), port, launch, credentials)
    }

    /// With sessions of so many seconds.
    pub fn rtsp_with_sessions_of(secs: u32, port: u16, launch: &str) -> Self {
        let mut command = Self::rtsp_command();
        command.env("SESSION_SECS", secs.to_string());
        Self::rtsp_from(&mut command, port, launch, &[])
    }

    fn rtsp_command() -> Command {
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-c").arg(include_str!("rtsp_server.py"));
        command
    }

    fn rtsp_from(command: &mut Command, port: u16, launch: &str, credentials: &[&str]) -> Self {
        command.arg(port.to_string()).arg(launch).args(credentials);
        Self::start(command, port, tempfile::tempdir().unwrap())
    }
}

const PICTURES: &str =
    "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=25/1";
const H264: &str =
    "x264enc tune=zerolatency key-int-max=10 threads=1 speed-preset=ultrafast ! h264parse";
const SOUND: &str = "audiotestsrc is-live=true samplesperbuffer=1024";

/// A publisher's process, which ends with its test.
pub struct Publisher(pub Child);

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Publishes a programme until it is dropped.
pub fn publish(port: u16, size: &str, sound: &[&str]) -> Publisher {
    let pictures = format!("testsrc2=size={size}:rate=25");
    let mut command = Command::new("ffmpeg");
    command.args("-v error -nostdin -re -f lavfi -i".split(' '));
    command.arg(&pictures).args("-re -f lavfi -i".split(' '));
    command.arg("sine=frequency=440:sample_rate=44100");
    command
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -g 10 -pix_fmt yuv420p".split(' '));
    command.args(sound).args(["-f", "flv"]);
    command.arg(format!("rtmp://127.0.0.1:{port}/live/one"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Publisher(command.spawn().unwrap())
}

pub const AAC: &[&str] = &["-c:a", "aac"];
const MP3: &[&str] = &["-c:a", "libmp3lame"];

fn rtsp_launch(video: &str, audio: &str) -> String {
    format!("( {PICTURES} ! {video} name=pay0 {SOUND} ! {audio} name=pay1 )")
}

pub fn h264_aac() -> String {
    rtsp_launch(
        &format!("{H264} ! rtph264pay config-interval=-1 pt=96"),
        "audio/x-raw,rate=48000,channels=2 ! avenc_aac ! rtpmp4gpay pt=97",
    )
}

pub fn decodes(seen: &[Seen]) -> bool {
    pictures(seen, 0).len() >= 50 && frames(seen, 0) >= 12_000
}

/// Media times must grow by about the length of what comes, from the first unit to the last.
fn assert_continuous(seen: &[Seen]) {
    assert_monotone(seen);
    assert!(
        !facts(seen).any(|(_, f)| matches!(f, Fact::TimelineJump { .. })),
        "{}",
        digest(seen)
    );
    let times = pictures(seen, 0);
    let secs = |a: usize, b: usize| times[b].unwrap().secs_after(times[a].unwrap());
    let widest = (1..times.len()).map(|n| secs(n - 1, n)).fold(0.0, f64::max);
    assert!(widest < 0.2, "a hole of {widest} s between pictures");
    let whole = secs(0, times.len() - 1);
    let wanted = (times.len() - 1) as f64 / 25.0;
    assert!((whole - wanted).abs() < 0.3, "{whole} s, not {wanted} s");
}

pub fn stop(runtime: &Runtime, watched: Watched) {
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn rtmp_is_followed_while_publisher_and_server_come_and_go() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let server = Server::rtmp(port);
    let publisher = publish(server.port, "320x180", AAC);
    let mut input = input(&format!("rtmp://127.0.0.1:{port}/live/one"), Protocol::Rtmp);
    input.limits.idle = Duration::from_secs(2);
    let watched = watch(input);
    watched.sink.wait("pictures and sound", decodes);
    let seen = watched.sink.all();
    assert!(matches!(events(&seen)[0], InputEvent::Patience { .. }));
    let codecs = tracks(&seen).into_iter().map(|t| t.codec);
    assert_eq!(codecs.collect::<Vec<_>>(), ["h264", "aac"]);
    assert_continuous(&seen);
    assert!(facts(&seen).any(|(_, f)| matches!(f, Fact::AvSkew { .. })));

    watched.sink.clear();
    drop(publisher);
    watched.sink.wait("the missing publisher", |s| {
        cause(s).is_some_and(|c| matches!(c, Cause::Timeout | Cause::PeerClosed))
    });
    watched.sink.clear();
    let _publisher = publish(port, "320x180", AAC);
    watched.sink.wait("the publisher's return", decodes);

    watched.sink.clear();
    drop(server);
    watched.sink.wait("the end of the server", |s| {
        events(s).contains(&InputEvent::Failed {
            cause: Cause::ConnectFailed,
        })
    });
    let _server = Server::rtmp(port);
    watched.sink.clear();
    let _publisher = publish(port, "320x180", AAC);
    watched.sink.wait("the server's return", |s| {
        decodes(s) && events(s).contains(&InputEvent::Reopened)
    });
    stop(&runtime, watched);
}

#[test]
fn rtmp_without_publisher_is_named() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let server = Server::rtmp(free_port());
    let url = format!("rtmp://127.0.0.1:{}/live/nobody", server.port);
    let watched = watch(input(&url, Protocol::Rtmp));
    watched
        .sink
        .wait("a name", |s| cause(s) == Some(Cause::NoInput));
    stop(&runtime, watched);
}

#[test]
fn rtmp_server_that_accepts_and_says_nothing_is_named() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let watched = watch(input(
        &format!("rtmp://127.0.0.1:{port}/live/one"),
        Protocol::Rtmp,
    ));
    watched
        .sink
        .wait("a name", |s| cause(s) == Some(Cause::Timeout));
    stop(&runtime, watched);
}

#[test]
fn rtmp_brings_what_the_next_publisher_sends() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let server = Server::rtmp(free_port());
    let port = server.port;
    let publisher = publish(port, "320x180", AAC);
    let watched = watch(input(
        &format!("rtmp://127.0.0.1:{port}/live/one"),
        Protocol::Rtmp,
    ));
    watched.sink.wait("pictures and sound", decodes);
    drop(publisher);
    watched.sink.clear();
    let _publisher = publish(port, "160x90", MP3);
    watched.sink.wait("the change", |s| {
        decodes(s)
            && video_formats(s).iter().any(|v| v.width == 160)
            && tracks(s).iter().any(|t| t.codec == "mp3")
    });
    stop(&runtime, watched);
}

#[test]
fn rtsp_over_tcp_is_followed_while_the_camera_comes_and_goes() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let camera = Server::rtsp(port, &h264_aac(), &["viewer", "correct horse"]);
    let url = format!("rtsp://viewer:correct%20horse@127.0.0.1:{port}/live");
    let mut input = input(&url, Protocol::Rtsp);
    input.limits.idle = Duration::from_secs(2);
    let watched = watch(input);
    watched.sink.wait("pictures and sound", decodes);
    let seen = watched.sink.all();
    let codecs = tracks(&seen).into_iter().map(|t| t.codec);
    assert_eq!(codecs.collect::<Vec<_>>(), ["h264", "aac"]);
    assert_continuous(&seen);
    assert_eq!(evidence(&seen), []);

    watched.sink.clear();
    drop(camera);
    watched.sink.wait("the end of the camera", |s| {
        events(s).contains(&InputEvent::Failed {
            cause: Cause::ConnectFailed,
        })
    });
    watched.sink.clear();
    let _camera = Server::rtsp(port, &h264_aac(), &["viewer", "correct horse"]);
    watched.sink.wait("the camera's return", |s| {
        decodes(s) && events(s).contains(&InputEvent::Reopened)
    });
    stop(&runtime, watched);
}

#[test]
fn rtsp_over_udp_brings_hevc_and_pcma() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let launch = rtsp_launch(
        "x265enc tune=zerolatency key-int-max=10 speed-preset=ultrafast \
         ! rtph265pay config-interval=-1 pt=96",
        "audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay pt=8",
    );
    let server = Server::rtsp(free_port(), &launch, &[]);
    let mut input = input(
        &format!("rtsp://127.0.0.1:{}/live", server.port),
        Protocol::Rtsp,
    );
    input.rtsp.transport = RtspTransport::Udp;
    input.limits.idle = Duration::from_secs(2);
    let watched = watch(input);
    watched.sink.wait("pictures and sound", decodes);
    let seen = watched.sink.all();
    let codecs = tracks(&seen).into_iter().map(|t| t.codec);
    assert_eq!(codecs.collect::<Vec<_>>(), ["hevc", "pcma"]);
    assert_continuous(&seen);
    watched.sink.clear();
    drop(server);
    watched
        .sink
        .wait("the end of the server", |s| cause(s).is_some());
    stop(&runtime, watched);
}

#[test]
fn rtsp_carries_a_transport_stream_and_plain_sound() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let launch = format!(
        "( {PICTURES} ! {H264} ! mpegtsmux alignment=7 ! rtpmp2tpay name=pay0 pt=33 \
         {SOUND} ! audio/x-raw,rate=48000,channels=2 ! audioconvert ! rtpL16pay name=pay1 pt=97 )"
    );
    let server = Server::rtsp(free_port(), &launch, &[]);
    let watched = watch(input(
        &format!("rtsp://127.0.0.1:{}/live", server.port),
        Protocol::Rtsp,
    ));
    watched.sink.wait("pictures and sound", decodes);
    stop(&runtime, watched);
}

#[test]
fn rtsp_refusals_are_named() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let server = Server::rtsp(free_port(), &h264_aac(), &["viewer", "correct horse"]);
    let url = |path: &str| format!("rtsp://127.0.0.1:{}/{path}", server.port);
    let mut wrong = input(&url("live"), Protocol::Rtsp);
    wrong.rtsp.user = Some("viewer".to_owned());
    wrong.rtsp.password = Some(Secret::new("another horse"));
    let mut none = wrong.clone();
    (none.rtsp.user, none.rtsp.password) = (None, None);
    let mut elsewhere = input(&url("nowhere"), Protocol::Rtsp);
    elsewhere.rtsp.user = Some("viewer".to_owned());
    elsewhere.rtsp.password = Some(Secret::new("correct horse"));
    for (input, wanted) in [
        (wrong, Cause::AuthRefused),
        (none, Cause::AuthRefused),
        (elsewhere, Cause::HttpNotFound),
    ] {
        let watched = watch(input);
        watched.sink.wait("a name", |s| cause(s) == Some(wanted));
        stop(&runtime, watched);
    }
}

/// Answers RTSP requests with what `answer` makes of their methods; counts the bytes of requests.
fn fake_rtsp(answer: impl Fn(&str) -> String + Send + 'static) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            while let Ok(size @ 1..) = stream.read(&mut request) {
                count.fetch_add(size, Ordering::SeqCst);
                let text = String::from_utf8_lossy(&request[..size]).into_owned();
                let number = text.lines().find_map(|l| l.strip_prefix("CSeq: "));
                let status = answer(text.split(' ').next().unwrap());
                let number = number.unwrap_or("0");
                let reply = format!("RTSP/1.0 {status}\r\nCSeq: {number}\r\n\r\n");
                if stream.write_all(reply.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    (port, heard)
}

#[test]
fn rtsp_redirects_are_not_followed() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (elsewhere, heard) = fake_rtsp(|_| "200 OK".to_owned());
    let (port, asked) = fake_rtsp(move |method| match method {
        "DESCRIBE" => format!("302 Found\r\nLocation: rtsp://127.0.0.1:{elsewhere}/live"),
        _ => "200 OK\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY".to_owned(),
    });
    let watched = watch(input(
        &format!("rtsp://127.0.0.1:{port}/live"),
        Protocol::Rtsp,
    ));
    watched
        .sink
        .wait("refusal", |s| cause(s) == Some(Cause::RedirectRefused));
    stop(&runtime, watched);
    assert!(asked.load(Ordering::SeqCst) > 0);
    assert_eq!(heard.load(Ordering::SeqCst), 0);
}

#[test]
fn an_rtsp_server_in_trouble_is_named() {
    let runtime = runtime();
    let _inside = runtime.enter();
    for (status, wanted) in [
        ("503 Service Unavailable", Cause::HttpServerError),
        ("453 Not Enough Bandwidth", Cause::HttpClientError),
    ] {
        let (port, _) = fake_rtsp(move |method| match method {
            "DESCRIBE" => status.to_owned(),
            _ => "200 OK\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY".to_owned(),
        });
        let url = format!("rtsp://127.0.0.1:{port}/live");
        let watched = watch(input(&url, Protocol::Rtsp));
        watched.sink.wait("a name", |s| cause(s) == Some(wanted));
        stop(&runtime, watched);
    }
}

#[test]
fn an_rtsp_camera_that_hangs_is_told_and_let_go() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let server = Server::rtsp(free_port(), &h264_aac(), &[]);
    let mut input = input(
        &format!("rtsp://127.0.0.1:{}/live", server.port),
        Protocol::Rtsp,
    );
    input.limits.idle = Duration::from_secs(1);
    let watched = watch(input);
    watched.sink.wait("pictures and sound", decodes);
    let signal = |name: &str| {
        let command = format!("kill {name} {}", server.process.id());
        let done = Command::new("sh").args(["-c", &command]).status();
        assert!(done.unwrap().success());
    };
    watched.sink.clear();
    signal("-STOP");
    watched
        .sink
        .wait("a name", |s| cause(s) == Some(Cause::Timeout));
    watched.sink.clear();
    signal("-CONT");
    watched.sink.wait("the return", decodes);
    stop(&runtime, watched);
    glasswatch::ingest::teardown::wait(Duration::from_secs(10));
    assert_eq!(glasswatch::ingest::teardown::wedged(), 0);
}

#[test]
fn private_servers_are_called_only_when_allowed() {
    let runtime = runtime();
    let _inside = runtime.enter();
    for (url, protocol) in [
        ("rtmp://localhost:9/live/one", Protocol::Rtmp),
        ("rtmps://localhost:9/live/one", Protocol::Rtmp),
        ("rtsp://127.0.0.1:9/live", Protocol::Rtsp),
    ] {
        let mut input = input(url, protocol);
        input.allow_private = false;
        let watched = watch(input);
        watched
            .sink
            .wait("refusal", |s| cause(s) == Some(Cause::AddressRefused));
        stop(&runtime, watched);
    }
}
