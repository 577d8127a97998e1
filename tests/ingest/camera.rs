//! An RTSP camera of the tests' own, which keeps to the letter of its session, or breaks it: one track of PCMU.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a camera does otherwise than it should.
#[derive(Clone, Default)]
pub struct Manner {
    /// Timeout of its sessions: one in which nothing is asked for that long, and a little longer, is ended. Reports
    /// do not count.
    pub session: Option<Duration>,
    /// Answers `PLAY` with this.
    pub refusal: Option<&'static str>,
    /// Offers this transport; `{client}` stands for the client's ports.
    pub transport: Option<String>,
    /// Sends datagrams to the client from here.
    pub datagrams: Option<Arc<UdpSocket>>,
}

pub struct Camera {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What a camera adds to the timeout that it tells.
const GRACE: Duration = Duration::from_secs(2);

/// Samples of one packet: 20 ms.
const SAMPLES: u32 = 160;

impl Camera {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, manner, log) = (stream.unwrap(), manner.clone(), Arc::clone(&log));
                std::thread::spawn(move || Session::new(stream, manner, port).run(&log));
            }
        });
        Self { port, asked }
    }

    /// How often this method was asked for.
    pub fn asked(&self, method: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|m| *m == method).count()
    }
}

struct Session {
    stream: TcpStream,
    manner: Manner,
    port: u16,
    heard: Instant,
    /// Packets sent, once it plays, and since when.
    playing: Option<(u32, Instant)>,
    client_port: u16,
}

impl Session {
    fn new(stream: TcpStream, manner: Manner, port: u16) -> Self {
        let pause = Duration::from_millis(5);
        stream.set_read_timeout(Some(pause)).unwrap();
        Self {
            stream,
            manner,
            port,
            heard: Instant::now(),
            playing: None,
            client_port: 0,
        }
    }

    fn run(mut self, log: &Mutex<Vec<String>>) {
        let (mut held, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(size) => held.extend_from_slice(&bytes[..size]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            while let Some(request) = next_request(&mut held) {
                self.heard = Instant::now();
                let method = request.split(' ').next().unwrap().to_owned();
                let answer = self.answer(&method, &request);
                log.lock().unwrap().push(method);
                if self.stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            let over = |session: Duration| self.heard.elapsed() > session + GRACE;
            if self.manner.session.is_some_and(over) || self.send().is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, method: &str, request: &str) -> String {
        let header = |name: &str| {
            let line = request.lines().find(|l| l.starts_with(name));
            line.and_then(|l| l.split_once(": "))
                .map_or("", |(_, value)| value)
        };
        let secs = self.manner.session.map_or(60, |s| s.as_secs());
        let mut status = "200 OK";
        let mut body = String::new();
        let more = match method {
            "OPTIONS" => {
                "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n".to_owned()
            }
            "DESCRIBE" => {
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
                 a=control:*\r\nm=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track1\r\n"
                    .clone_into(&mut body);
                let port = self.port;
                format!(
                    "Content-Base: rtsp://127.0.0.1:{port}/live/\r\n\
                     Content-Type: application/sdp\r\nContent-Length: {}\r\n",
                    body.len()
                )
            }
            "SETUP" => {
                let client = header("Transport")
                    .split("client_port=")
                    .nth(1)
                    .map_or("0-0", |ports| ports.split([';', ',']).next().unwrap());
                self.client_port = client.split('-').next().unwrap().parse().unwrap();
                let chosen = self.manner.transport.clone().map_or_else(
                    || "RTP/AVP/TCP;unicast;interleaved=0-1".to_owned(),
                    |offer| offer.replace("{client}", client),
                );
                format!("Transport: {chosen}\r\nSession: 7;timeout={secs}\r\n")
            }
            "PLAY" => {
                match self.manner.refusal {
                    Some(refusal) => status = refusal,
                    None => self.playing = Some((0, Instant::now())),
                }
                "Session: 7\r\nRange: npt=0-\r\n".to_owned()
            }
            _ => "Session: 7\r\n".to_owned(),
        };
        let number = header("CSeq");
        format!("RTSP/1.0 {status}\r\nCSeq: {number}\r\n{more}\r\n{body}")
    }

    /// Sends what is due.
    fn send(&mut self) -> std::io::Result<()> {
        let Some((sent, since)) = &mut self.playing else {
            return Ok(());
        };
        while since.elapsed() >= Duration::from_millis(20) * *sent {
            let mut packet = vec![0x80, 0];
            packet.extend_from_slice(&(*sent as u16).to_be_bytes());
            packet.extend_from_slice(&(*sent * SAMPLES).to_be_bytes());
            packet.extend_from_slice(b"test");
            packet.extend((0..SAMPLES).map(|n| if n % 16 < 8 { 0x10 } else { 0x90 }));
            *sent += 1;
            match &self.manner.datagrams {
                Some(socket) => {
                    let _ = socket.send_to(&packet, ("127.0.0.1", self.client_port));
                }
                None => {
                    let head = [b'$', 0, 0, packet.len() as u8];
                    self.stream.write_all(&[&head[..], &packet].concat())?;
                }
            }
        }
        Ok(())
    }
}

/// Takes a whole request out of what was received; reports between them are passed over.
fn next_request(held: &mut Vec<u8>) -> Option<String> {
    while held.first() == Some(&b'$') {
        let size = usize::from(u16::from_be_bytes([*held.get(2)?, *held.get(3)?]));
        if held.len() < 4 + size {
            return None;
        }
        held.drain(..4 + size);
    }
    let end = held.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let request = held.drain(..end).collect();
    Some(String::from_utf8(request).unwrap())
}
