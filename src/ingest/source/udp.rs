//! MPEG-TS in UDP datagrams, plain or in RTP, unicast or multicast, on one socket of the tokio runtime.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use detectors::base::{Arrival, Cause, EvidenceKind, InputEvent};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};
use tokio::net::UdpSocket;

use super::rtp::{Ordered, Reorder, is_rtp};
use super::{Decoding, Received, SourceContext, SourceEnd, begin};
use crate::ingest::clock;
use crate::ingest::convert::{Container, Converter, Feed};

/// Receive buffer asked of the kernel: about 1 s at 30 Mb/s. The kernel may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Largest datagram.
const DATAGRAM: usize = 64 << 10;
/// Bytes gathered before they are analysed together.
const BATCH: usize = 128 << 10;
/// A silent input is told this often.
const SILENT_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn run(context: SourceContext) -> SourceEnd {
    listen(&context)
        .await
        .err()
        .unwrap_or_else(SourceEnd::complete)
}

async fn listen(context: &SourceContext) -> Result<(), SourceEnd> {
    let input = &context.stream.input;
    let address = address(input.url.expose())?;
    let interface = input.interface.as_deref();
    let mut socket = bind(address, interface)?;
    let mut converter = Converter::new(context);
    let to = begin(&mut converter, Container::MpegTs)?;
    let mut received = Received::new(context);
    let mut reorder = Reorder::new(input.jitter);
    let mut decoding = Decoding::default();
    let mut datagram = vec![0; DATAGRAM];
    let mut newest = clock::now();
    let mut told = None::<Arrival>;
    loop {
        let idle = newest.max(told.unwrap_or_default()).plus(match told {
            Some(_) => SILENT_EVERY,
            None => input.limits.idle,
        });
        let wake = reorder.due().map_or(idle, |due| due.min(idle));
        let wait = wake.since(clock::now());
        let first = tokio::select! {
            () = context.cancel.cancelled() => return Ok(()),
            first = tokio::time::timeout(wait, socket.recv(&mut datagram)) => first,
        };
        let mut batch = BytesMut::new();
        let mut lost = 0_u32;
        let mut take = |ordered| match ordered {
            Ordered::Payload(payload) => batch.extend_from_slice(&payload),
            Ordered::Lost(n) => lost = lost.saturating_add(n),
        };
        let now = clock::now();
        match first {
            Ok(Ok(mut size)) => {
                newest = now;
                told = None;
                let mut bytes = 0;
                loop {
                    bytes += size;
                    unwrap_rtp(&datagram[..size], &mut reorder, now, &mut take);
                    match socket.try_recv(&mut datagram) {
                        Ok(next) if bytes < BATCH => size = next,
                        Ok(next) => {
                            bytes += next;
                            unwrap_rtp(&datagram[..next], &mut reorder, now, &mut take);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                received.note(bytes);
            }
            // An ICMP error of an earlier datagram, or the like: the socket goes on.
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(_) => {
                reorder.release(now, &mut take);
                if now >= idle {
                    told = Some(now);
                    let cause = Cause::NoInput;
                    context.tell(InputEvent::Failed { cause });
                    if address.ip().is_multicast() {
                        // The group membership may be what was lost.
                        drop(socket);
                        socket = bind(address, interface)?;
                    }
                }
            }
        }
        if lost > 0 {
            context.stats.rtp_lost.add(u64::from(lost));
            converter.evidence(EvidenceKind::RtpLoss, lost);
        }
        if !batch.is_empty() {
            let data = Feed::Data(batch.freeze());
            converter.feed(to, data)?;
            decoding.check(&converter)?;
        }
    }
}

/// Hands on the TS packets of a datagram.
fn unwrap_rtp(datagram: &[u8], reorder: &mut Reorder, now: Arrival, take: &mut dyn FnMut(Ordered)) {
    let datagram = Bytes::copy_from_slice(datagram);
    let plain = datagram.first() == Some(&0x47) || !is_rtp(&datagram);
    if plain || !reorder.push(&datagram, now, take) {
        take(Ordered::Payload(datagram));
    }
}

/// Where to listen: `udp://@239.1.1.1:5000`, `udp://0.0.0.0:5000`, `udp://:5000`.
fn address(url: &str) -> Result<SocketAddr, SourceEnd> {
    let refuse = || SourceEnd::fatal(Cause::DnsFailed, "not an address and port to listen on");
    let rest = url.split_once("://").map(|(_, rest)| rest);
    let place = rest
        .and_then(|r| r.split(['/', '?', '#']).next())
        .and_then(|r| r.rsplit('@').next())
        .ok_or_else(refuse)?;
    let (host, port) = place.rsplit_once(':').ok_or_else(refuse)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip = match host {
        "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().map_err(|_| refuse())?,
    };
    Ok(SocketAddr::new(ip, port.parse().map_err(|_| refuse())?))
}

fn bind(address: SocketAddr, interface: Option<&str>) -> Result<UdpSocket, SourceEnd> {
    let index = interface.map(interface_index).transpose()?;
    let open = || -> std::io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        // The kernel may grant less than is asked for.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        if address.ip().is_multicast() {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())?;
        match address.ip() {
            IpAddr::V4(group) if group.is_multicast() => match index {
                Some(index) => {
                    socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
                }
                None => socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?,
            },
            IpAddr::V6(group) if Ipv6Addr::is_multicast(&group) => {
                socket.join_multicast_v6(&group, index.unwrap_or(0))?;
            }
            _ => {}
        }
        UdpSocket::from_std(socket.into())
    };
    open().map_err(|io| {
        let detail = match io.kind() {
            std::io::ErrorKind::AddrInUse => "the port is in use",
            std::io::ErrorKind::AddrNotAvailable => "the address is none of this machine",
            std::io::ErrorKind::PermissionDenied => "the port may not be opened",
            _ => "the socket cannot be opened",
        };
        SourceEnd::failed(Cause::ConnectFailed, detail)
    })
}

fn interface_index(name: &str) -> Result<u32, SourceEnd> {
    let fits = !name.contains('/') && name != ".." && name.len() < 16;
    fits.then(|| std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok())
        .flatten()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| SourceEnd::failed(Cause::ConnectFailed, "no such network interface"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn addresses_are_read_in_every_usual_form() {
        for (url, wanted) in [
            ("udp://@239.1.1.1:5000", "239.1.1.1:5000"),
            ("udp://239.1.1.1:5000?x=1", "239.1.1.1:5000"),
            ("rtp://:5004", "0.0.0.0:5004"),
            ("udp://@:5004/", "0.0.0.0:5004"),
            ("udp://[ff15::1]:5004", "[ff15::1]:5004"),
            ("udp://localhost:1", "127.0.0.1:1"),
        ] {
            assert_eq!(address(url).unwrap(), wanted.parse().unwrap(), "{url}");
        }
        for url in [
            "udp://host.example:5000",
            "udp://1.2.3.4",
            "udp://1.2.3.4:99999",
            "x",
        ] {
            assert!(address(url).is_err(), "{url}");
        }
    }
}
