//! A relay between a client and its server that can fail in the middle.
#![allow(dead_code, reason = "each program of tests uses its part of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How a relay behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// Nothing passes any more, and nobody is told: the peer's machine is gone.
    BlackHole = 1,
}

#[derive(Default)]
struct Shared {
    mood: AtomicU8,
    /// Connections taken so far.
    taken: AtomicUsize,
    /// Connections that the client has closed.
    left: AtomicUsize,
    /// Raised to reset all connections there are.
    resets: AtomicUsize,
    /// The first connection ends behind so many bytes of the server's; 0 = never.
    cut_behind: AtomicU64,
}

/// Relays connections until it is dropped; the last ones then end with their server.
pub struct Relay {
    pub port: u16,
    shared: Arc<Shared>,
}

/// How often a relay looks up from its work.
const LOOK: Duration = Duration::from_millis(20);

impl Relay {
    /// To this port of this machine.
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { continue };
                let first = all.taken.fetch_add(1, Ordering::SeqCst) == 0;
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                for (from, to, down) in [(&server, &client, true), (&client, &server, false)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let all = Arc::clone(&all);
                    std::thread::spawn(move || pass(&all, from, to, down, first));
                }
            }
        });
        Self { port, shared }
    }

    pub fn set(&self, mood: Mood) {
        self.shared.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// Ends the first connection behind so many bytes from the server.
    pub fn cut_first_behind(&self, bytes: u64) {
        self.shared.cut_behind.store(bytes, Ordering::SeqCst);
    }

    /// Resets (RST) every connection there is.
    pub fn reset(&self) {
        self.shared.resets.fetch_add(1, Ordering::SeqCst);
    }

    /// Connections taken so far.
    pub fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// Connections that the client closed by itself.
    pub fn left(&self) -> usize {
        self.shared.left.load(Ordering::SeqCst)
    }
}

fn pass(all: &Shared, mut from: TcpStream, mut to: TcpStream, down: bool, first: bool) {
    from.set_read_timeout(Some(LOOK)).unwrap();
    let resets = all.resets.load(Ordering::SeqCst);
    let (mut bytes, mut passed) = ([0; 16 << 10], 0_u64);
    loop {
        if all.resets.load(Ordering::SeqCst) != resets {
            for end in [&from, &to] {
                // A connection that is gone already cannot be reset.
                let _ = socket2::SockRef::from(end).set_linger(Some(Duration::ZERO));
            }
            return;
        }
        let mut size = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(size) => size,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock) => continue,
            Err(_) => break,
        };
        if all.mood.load(Ordering::SeqCst) == Mood::BlackHole as u8 {
            continue;
        }
        let limit = all.cut_behind.load(Ordering::SeqCst);
        let cut = down && first && limit > 0 && passed + size as u64 >= limit;
        if cut {
            size = (limit - passed) as usize;
        }
        passed += size as u64;
        if to.write_all(&bytes[..size]).is_err() || cut {
            break;
        }
    }
    if !down {
        all.left.fetch_add(1, Ordering::SeqCst);
    }
    for end in [&from, &to] {
        // The other direction may have ended both.
        let _ = end.shutdown(Shutdown::Both);
    }
}
