//! RTMP and RTSP peers that break off, vanish, refuse, or send us elsewhere.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use detectors::base::{Cause, InputEvent};
use glasswatch::config::{Protocol, RtspTransport};

use crate::camera::{Camera, Manner};
use crate::relay::{Mood, Relay};
use crate::rig::*;
use crate::servers::{AAC, Server, decodes, free_port, h264_aac, publish, stop};

#[test]
fn rtmp_that_breaks_off_inside_a_tag_is_told_and_begun_again() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let server = Server::rtmp(free_port());
    let relay = Relay::to(server.port);
    // Behind the metadata and the first pictures, at no boundary of anything.
    relay.cut_first_behind(40_007);
    let _publisher = publish(server.port, "320x180", AAC);
    let url = format!("rtmp://127.0.0.1:{}/live/one", relay.port);
    let watched = watch(input(&url, Protocol::Rtmp));
    watched.sink.wait("the break and the return", |s| {
        cause(s) == Some(Cause::PeerClosed)
            && events(s).contains(&InputEvent::Reopened)
            && decodes(s)
    });
    assert_eq!(relay.taken(), 2);
    stop(&runtime, watched);
}

#[test]
fn a_peer_that_is_gone_without_a_word_is_told_and_its_socket_is_freed() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let rtmp = Server::rtmp(free_port());
    let _publisher = publish(rtmp.port, "320x180", AAC);
    let rtsp = Server::rtsp(free_port(), &h264_aac(), &[]);
    for (server, path, protocol) in [
        (&rtmp, "live/one", Protocol::Rtmp),
        (&rtsp, "live", Protocol::Rtsp),
    ] {
        let relay = Relay::to(server.port);
        let scheme = protocol.as_str();
        let url = format!("{scheme}://127.0.0.1:{}/{path}", relay.port);
        let mut input = input(&url, protocol);
        input.limits.idle = Duration::from_secs(1);
        input.limits.connect = Duration::from_secs(2);
        let watched = watch(input);
        watched.sink.wait("pictures and sound", decodes);
        watched.sink.clear();
        relay.set(Mood::BlackHole);
        let began = Instant::now();
        watched
            .sink
            .wait("a name", |s| cause(s) == Some(Cause::Timeout));
        assert!(began.elapsed() < Duration::from_secs(10), "{scheme}");
        let freed = || relay.left() > 0;
        while !freed() {
            assert!(began.elapsed() < DEADLINE, "{scheme}: the socket is kept");
            std::thread::sleep(Duration::from_millis(20));
        }
        stop(&runtime, watched);
    }
}

/// Answers a server's question whether somebody may play: yes, when the arguments hold `word`.
fn login_service(word: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let size = stream.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..size]).into_owned();
            let status = match text.lines().next().unwrap_or("").contains(word) {
                true => "200 OK",
                false => "403 Forbidden",
            };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // A server that does not wait for the answer has made up its mind.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn rtmp_logins_are_passed_on_and_refusals_named() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let login = login_service("key=right");
    let options = format!("on_play http://127.0.0.1:{login}/play; notify_method get;");
    let server = Server::rtmp_with(free_port(), &options);
    let _publisher = publish(server.port, "320x180", AAC);
    let url = |path: &str| format!("rtmp://127.0.0.1:{}/{path}", server.port);
    let watched = watch(input(&url("live/one?key=right"), Protocol::Rtmp));
    watched.sink.wait("pictures and sound", decodes);
    stop(&runtime, watched);
    for path in ["live/one?key=wrong", "live/one", "elsewhere/one"] {
        let watched = watch(input(&url(path), Protocol::Rtmp));
        watched.sink.wait("a name", |s| cause(s).is_some());
        assert_eq!(
            cause(&watched.sink.all()),
            Some(Cause::AuthRefused),
            "{path}"
        );
        stop(&runtime, watched);
    }
}

fn heard(seen: &[Seen]) -> bool {
    frames(seen, 0) >= 8_000
}

fn call(camera: &Camera, transport: RtspTransport) -> Watched {
    let url = format!("rtsp://127.0.0.1:{}/live", camera.port);
    let mut input = input(&url, Protocol::Rtsp);
    input.rtsp.transport = transport;
    input.limits.idle = Duration::from_secs(2);
    watch(input)
}

#[test]
fn an_rtsp_session_is_kept_alive_beyond_its_timeout() {
    let runtime = runtime();
    let _inside = runtime.enter();
    // A server that counts requests and reports.
    for transport in [RtspTransport::Tcp, RtspTransport::Udp] {
        let server = Server::rtsp_with_sessions_of(3, free_port(), &h264_aac());
        let url = format!("rtsp://127.0.0.1:{}/live", server.port);
        let mut input = input(&url, Protocol::Rtsp);
        input.rtsp.transport = transport;
        input.limits.idle = Duration::from_secs(2);
        let watched = watch(input);
        let secs = 10;
        watched.sink.wait("pictures", |s| {
            pictures(s, 0).len() >= 25 * secs || cause(s).is_some()
        });
        assert_eq!(cause(&watched.sink.all()), None, "{transport:?}");
        stop(&runtime, watched);
    }
    // A camera that counts requests only.
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port();
    let camera = Camera::start(Manner {
        session: Some(Duration::from_secs(4)),
        transport: Some(format!(
            "RTP/AVP;unicast;client_port={{client}};server_port={port}-{port}"
        )),
        datagrams: Some(Arc::new(udp)),
        ..Manner::default()
    });
    let watched = call(&camera, RtspTransport::Udp);
    watched.sink.wait("sound", |s| {
        frames(s, 0) >= 14 * 8_000 || cause(s).is_some()
    });
    assert_eq!(cause(&watched.sink.all()), None);
    assert_eq!(camera.asked("PLAY"), 1);
    stop(&runtime, watched);
}

/// Over TCP `rtspsrc` sends reports while media arrives, and no requests: to a camera that counts only those, the
/// session is over, and opened again.
#[test]
fn an_rtsp_session_that_the_camera_ends_is_told_and_opened_again() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let camera = Camera::start(Manner {
        session: Some(Duration::from_secs(1)),
        ..Manner::default()
    });
    let watched = call(&camera, RtspTransport::Tcp);
    watched
        .sink
        .wait("the end", |s| cause(s) == Some(Cause::PeerClosed));
    watched.sink.clear();
    watched.sink.wait("the next session", heard);
    stop(&runtime, watched);
}

#[test]
fn an_rtsp_session_that_the_camera_does_not_know_is_named() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let camera = Camera::start(Manner {
        refusal: Some("454 Session Not Found"),
        ..Manner::default()
    });
    let watched = call(&camera, RtspTransport::Tcp);
    watched
        .sink
        .wait("a name", |s| cause(s) == Some(Cause::HttpClientError));
    stop(&runtime, watched);
}

/// Two neighbouring ports that are free on both addresses, with sockets on the first one of each.
fn port_pair(here: &str, there: &str) -> (UdpSocket, UdpSocket) {
    loop {
        let own = UdpSocket::bind((here, 0)).unwrap();
        let port = own.local_addr().unwrap().port();
        if let Ok(other) = UdpSocket::bind((there, port)) {
            return (own, other);
        }
    }
}

#[test]
fn an_rtsp_server_cannot_send_our_datagrams_elsewhere() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (own, victim) = port_pair("127.0.0.1", "127.0.0.9");
    let port = own.local_addr().unwrap().port();
    let own = Arc::new(own);
    let camera = Camera::start(Manner {
        transport: Some(format!(
            "RTP/AVP;unicast;client_port={{client}};server_port={port}-{port};\
             source=127.0.0.9;destination=127.0.0.9"
        )),
        datagrams: Some(Arc::clone(&own)),
        ..Manner::default()
    });
    let watched = call(&camera, RtspTransport::Udp);
    watched.sink.wait("sound", heard);
    let mut datagram = [0; 2048];
    own.set_read_timeout(Some(DEADLINE)).unwrap();
    own.recv(&mut datagram).expect("reports come to the camera");
    victim.set_nonblocking(true).unwrap();
    let led = victim.recv(&mut datagram);
    assert!(led.is_err(), "a datagram went to another host");
    stop(&runtime, watched);

    let camera = Camera::start(Manner {
        transport: Some(
            "RTP/AVP;multicast;destination=239.255.77.9;port=15004-15005;ttl=1".to_owned(),
        ),
        ..Manner::default()
    });
    let watched = call(&camera, RtspTransport::Udp);
    watched
        .sink
        .wait("refusal", |s| cause(s) == Some(Cause::AddressRefused));
    stop(&runtime, watched);
}
