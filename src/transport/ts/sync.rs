//! Finds packets in bytes: sync, stride, loss and return of sync.

/// Bytes of a transport packet.
pub const PACKET: usize = 188;
const SYNC: u8 = 0x47;
/// Plain, with a 4-byte arrival stamp in front (BDAV), with 16 bytes of Reed-Solomon parity behind (DVB).
const STRIDES: [usize; 3] = [188, 192, 204];
/// Sync bytes in a row that make a lock (TR 101 290 1.1 asks for five).
const CONFIRM: usize = 5;
/// Bytes that must be there before a place can be judged.
const WINDOW: usize = (CONFIRM - 1) * 204 + 1;
/// Longest start without sync that is not yet called a loss: joining inside a packet is normal.
const JOIN: usize = 204;
/// Bytes without any sync after which a loss is told although none was ever found.
const NEVER: usize = 64 * 1024;

/// What the packet finder says.
#[derive(Debug)]
pub enum Found<'a> {
    /// A packet; `flawed` when its sync byte was wrong but its neighbours' right.
    Packet {
        bytes: &'a [u8; PACKET],
        flawed: bool,
    },
    /// Sync lost, or never found in a long stretch.
    Loss,
}

/// Sync state machine. What it finds does not depend on how the bytes were cut.
#[derive(Debug, Default)]
pub struct Sync {
    stride: Option<usize>,
    /// Bytes between packets still to be skipped.
    skip: usize,
    carry: Vec<u8>,
    /// Bytes passed over while hunting.
    hunted: usize,
    /// A loss was told and sync has not come back yet.
    told: bool,
}

impl Sync {
    /// Takes bytes cut anywhere.
    pub fn push(&mut self, mut bytes: &[u8], found: &mut dyn FnMut(Found<'_>)) {
        while !bytes.is_empty() {
            if self.carry.is_empty() {
                let used = self.scan(bytes, false, found);
                let rest = bytes.get(used..).unwrap_or_default();
                self.carry.extend_from_slice(rest);
                return;
            }
            // Complete the cut packet only, so that the rest is read in place.
            let want = match self.stride {
                Some(_) if self.carry.len() < PACKET => PACKET - self.carry.len(),
                _ => WINDOW,
            };
            let (now, later) = bytes.split_at(want.min(bytes.len()));
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(now);
            let used = self.scan(&carry, false, found);
            carry.drain(..used.min(carry.len()));
            self.carry = carry;
            bytes = later;
        }
    }

    /// Reads what is left, with as much confirmation as there is, and starts over.
    pub fn finish(&mut self, found: &mut dyn FnMut(Found<'_>)) {
        let carry = std::mem::take(&mut self.carry);
        let used = self.scan(&carry, true, found);
        let cut = self.stride.is_some() && carry.len() > used;
        if cut && !self.told {
            found(Found::Loss);
        }
        *self = Self::default();
    }

    /// Reads packets from the start of `bytes`; returns how many bytes are done with.
    fn scan(&mut self, bytes: &[u8], last: bool, found: &mut dyn FnMut(Found<'_>)) -> usize {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            at += skipped;
            self.skip -= skipped;
            let rest = &bytes[at..];
            let Some(stride) = self.stride else {
                match self.hunt(rest, last) {
                    Ok((skip, stride)) => {
                        self.hunted += skip;
                        if self.hunted > JOIN && !self.told {
                            found(Found::Loss);
                        }
                        at += skip;
                        self.stride = Some(stride);
                        self.hunted = 0;
                        self.told = false;
                        continue;
                    }
                    Err(skip) => {
                        self.hunted = self.hunted.saturating_add(skip);
                        if self.hunted > NEVER && !self.told {
                            found(Found::Loss);
                            self.told = true;
                        }
                        return at + skip;
                    }
                }
            };
            let Some(packet) = rest.first_chunk::<PACKET>() else {
                return at;
            };
            let mut flawed = false;
            if packet[0] != SYNC {
                match rest.get(stride) {
                    Some(&SYNC) => flawed = true,
                    None if !last => return at,
                    _ => {
                        found(Found::Loss);
                        self.told = true;
                        self.stride = None;
                        continue;
                    }
                }
            }
            found(Found::Packet {
                bytes: packet,
                flawed,
            });
            at += PACKET;
            self.skip = stride - PACKET;
        }
    }

    /// Place and stride of the first sync, or how many bytes surely hold none.
    fn hunt(&self, bytes: &[u8], last: bool) -> Result<(usize, usize), usize> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if !last && rest.len() < WINDOW {
                return Err(at);
            }
            let Some(next) = rest.iter().position(|&b| b == SYNC) else {
                return Err(bytes.len());
            };
            at += next;
            let rest = &bytes[at..];
            if !last && rest.len() < WINDOW {
                return Err(at);
            }
            if rest.len() < PACKET {
                return Err(bytes.len());
            }
            let fits = |stride: &usize| {
                let syncs = rest.iter().step_by(*stride).take(CONFIRM);
                let seen = syncs.clone().count();
                // At the very end fewer will do, but one alone only as a whole input.
                let enough = seen >= 2 || (last && rest.len() == PACKET);
                enough && syncs.into_iter().all(|&b| b == SYNC)
            };
            if let Some(&stride) = STRIDES.iter().find(|s| fits(s)) {
                return Ok((at, stride));
            }
            at += 1;
        }
    }
}
