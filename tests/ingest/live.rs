//! UDP, RTP and SRT against real peers on loopback.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use detectors::base::{Cause, EvidenceKind, InputEvent};
use glasswatch::config::{Protocol, Secret, SrtMode};

use crate::rig::*;

/// A live programme into `sink`.
fn programme(sink: &str) -> Sender {
    Sender::start(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 \
         ! x264enc tune=zerolatency key-int-max=10 threads=1 speed-preset=ultrafast ! queue \
         ! mpegtsmux name=m alignment=7 ! {sink} \
         audiotestsrc is-live=true samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! queue ! m."
    ))
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn decodes(seen: &[Seen]) -> bool {
    pictures(seen, 0).len() >= 20 && frames(seen, 0) >= 20_000
}

#[test]
fn plain_udp_is_decoded_and_silence_is_told() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let mut input = input(&format!("udp://127.0.0.1:{port}"), Protocol::Udp);
    input.limits.idle = Duration::from_millis(500);
    let watched = watch(input);
    let sink = format!("udpsink host=127.0.0.1 port={port}");
    let sender = programme(&sink);
    watched.sink.wait("pictures and sound", decodes);
    let seen = watched.sink.all();
    assert!(matches!(events(&seen)[0], InputEvent::Patience { .. }));
    assert_eq!(tracks(&seen).len(), 2);
    assert_monotone(&seen);
    assert_eq!(evidence(&seen), []);
    assert!(watched.stats.input_bytes.get() > 10_000);
    drop(sender);
    watched
        .sink
        .wait("silence", |s| cause(s) == Some(Cause::NoInput));
    watched.sink.clear();
    let _sender = programme(&sink);
    watched.sink.wait("the return", decodes);
    assert_eq!(watched.stats.restarts.get(), 0, "the socket stays open");
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn ipv6_is_listened_on() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("left out: this machine has no IPv6");
        return;
    }
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let watched = watch(input(&format!("udp://[::1]:{port}"), Protocol::Udp));
    let _sender = programme(&format!("udpsink host=::1 port={port}"));
    watched.sink.wait("pictures and sound", decodes);
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn multicast_is_joined() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let mut input = input(&format!("udp://@239.255.77.1:{port}"), Protocol::Udp);
    input.interface = Some("lo".to_owned());
    let watched = watch(input);
    let _sender = programme(&format!(
        "udpsink host=239.255.77.1 port={port} multicast-iface=lo auto-multicast=true"
    ));
    watched.sink.wait("pictures and sound", decodes);
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

/// Passes datagrams on, swapping neighbours and losing some.
fn bad_network(to: u16, stop: &Arc<AtomicBool>, lost: &Arc<AtomicU64>) -> u16 {
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let port = from.local_addr().unwrap().port();
    let (stop, lost) = (Arc::clone(stop), Arc::clone(lost));
    std::thread::spawn(move || {
        let mut datagram = [0; 2048];
        let (mut n, mut kept) = (0, None::<Vec<u8>>);
        while !stop.load(Ordering::Relaxed) {
            let Ok(size) = from.recv(&mut datagram) else {
                continue;
            };
            n += 1;
            let send = |bytes: &[u8]| from.send_to(bytes, ("127.0.0.1", to)).unwrap();
            match n % 60 {
                30 => kept = Some(datagram[..size].to_vec()),
                50 => {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                _ => {
                    send(&datagram[..size]);
                    if let Some(kept) = kept.take() {
                        send(&kept);
                    }
                }
            }
        }
    });
    port
}

#[test]
fn rtp_is_put_in_order_and_its_losses_are_counted() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let watched = watch(input(&format!("rtp://127.0.0.1:{port}"), Protocol::Rtp));
    let (stop, lost) = (Arc::default(), Arc::default());
    let through = bad_network(port, &stop, &lost);
    let sender = programme(&format!(
        "rtpmp2tpay ! udpsink host=127.0.0.1 port={through}"
    ));
    let losses = |seen: &[Seen]| {
        evidence(seen)
            .into_iter()
            .filter(|(_, e)| e.kind == EvidenceKind::RtpLoss)
            .map(|(_, e)| u64::from(e.count))
            .sum::<u64>()
    };
    watched.sink.wait("losses and pictures", |seen| {
        decodes(seen) && losses(seen) >= 3
    });
    drop(sender);
    stop.store(true, Ordering::Relaxed);
    let seen = watched.sink.all();
    let (told, counted) = (losses(&seen), watched.stats.rtp_lost.get());
    assert!(
        told <= lost.load(Ordering::Relaxed),
        "swapped packets are none"
    );
    assert!(counted >= told);
    // What RTP lost the transport stream misses too, at its own level.
    assert!(
        evidence(&seen)
            .iter()
            .any(|(_, e)| e.kind == EvidenceKind::ContinuityError)
    );
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn rtp_in_a_udp_input_is_recognised() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let watched = watch(input(&format!("udp://127.0.0.1:{port}"), Protocol::Udp));
    let _sender = programme(&format!("rtpmp2tpay ! udpsink host=127.0.0.1 port={port}"));
    watched.sink.wait("pictures and sound", decodes);
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn noise_on_udp_is_named() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let watched = watch(input(&format!("udp://127.0.0.1:{port}"), Protocol::Udp));
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, socket) = (Arc::clone(&stop), UdpSocket::bind("127.0.0.1:0").unwrap());
    let noise = std::thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(3);
        while !stopped.load(Ordering::Relaxed) {
            let datagram = (0..1316).map(|_| random.u8(..)).collect::<Vec<_>>();
            let _ = socket.send_to(&datagram, ("127.0.0.1", port));
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    watched
        .sink
        .wait("a name", |s| cause(s) == Some(Cause::Undecodable));
    stop.store(true, Ordering::Relaxed);
    noise.join().unwrap();
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn srt_caller_with_passphrase_follows_a_peer_that_dies_and_returns() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let mut input = input(&format!("srt://127.0.0.1:{port}"), Protocol::Srt);
    input.srt.passphrase = Some(Secret::new("correct horse"));
    input.limits.idle = Duration::from_secs(1);
    let watched = watch(input);
    let sink = format!(
        "srtsink uri=srt://:{port}?mode=listener passphrase=\"correct horse\" wait-for-connection=false"
    );
    let sender = programme(&sink);
    watched.sink.wait("pictures and sound", decodes);
    assert_monotone(&watched.sink.all());
    drop(sender);
    watched.sink.clear();
    watched
        .sink
        .wait("the end of the peer", |s| cause(s).is_some());
    watched.sink.clear();
    let _sender = programme(&sink);
    watched.sink.wait("the return", |s| {
        decodes(s) && events(s).contains(&InputEvent::Reopened)
    });
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn a_wrong_srt_passphrase_is_named() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let _sender = programme(&format!(
        "srtsink uri=srt://:{port}?mode=listener passphrase=\"correct horse\" wait-for-connection=false"
    ));
    let mut input = input(&format!("srt://127.0.0.1:{port}"), Protocol::Srt);
    input.srt.passphrase = Some(Secret::new("another horse"));
    let watched = watch(input);
    watched
        .sink
        .wait("refusal", |s| cause(s) == Some(Cause::AuthRefused));
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn srt_listener_takes_callers_one_after_the_other() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let mut input = input(&format!("srt://127.0.0.1:{port}"), Protocol::Srt);
    input.srt.mode = SrtMode::Listener;
    input.limits.idle = Duration::from_secs(1);
    let watched = watch(input);
    let sink = format!("srtsink uri=srt://127.0.0.1:{port}?mode=caller wait-for-connection=false");
    let sender = programme(&sink);
    watched.sink.wait("pictures and sound", decodes);
    drop(sender);
    watched.sink.clear();
    watched
        .sink
        .wait("the end of the peer", |s| cause(s).is_some());
    watched.sink.clear();
    let _sender = programme(&sink);
    watched.sink.wait("the next caller", decodes);
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn an_srt_peer_that_is_not_there_is_named_again_and_again() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let port = free_port();
    let watched = watch(input(&format!("srt://127.0.0.1:{port}"), Protocol::Srt));
    watched.sink.wait("two attempts", |s| {
        let failed = events(s).into_iter().filter(|e| {
            matches!(e, InputEvent::Failed { cause } if *cause == Cause::ConnectFailed || *cause == Cause::Timeout)
        });
        failed.count() >= 2
    });
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}

#[test]
fn private_addresses_are_called_only_when_allowed() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut input = input("srt://127.0.0.1:9", Protocol::Srt);
    input.allow_private = false;
    let watched = watch(input);
    watched
        .sink
        .wait("refusal", |s| cause(s) == Some(Cause::AddressRefused));
    assert!(runtime.block_on(watched.running.stop(Duration::from_secs(5))));
}
