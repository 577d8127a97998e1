//! PES packets of one stream, put together again (ISO/IEC 13818-1 2.4.3.6).

/// Longest payload held; what comes beyond is handed out in pieces.
pub const MAX_PES: usize = 8 << 20;
/// Fixed part of the header with the optional fields' length.
const HEAD: usize = 9;

/// One PES packet's payload.
#[derive(Debug, PartialEq)]
pub struct Unit {
    pub pts: Option<u64>,
    pub dts: Option<u64>,
    pub data: Vec<u8>,
    pub random_access: bool,
    pub damaged: bool,
    /// The input ended before its announced length.
    pub short: bool,
}

/// What the packet header says of a payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct Packet {
    /// `payload_unit_start_indicator`.
    pub start: bool,
    /// `random_access_indicator`.
    pub random_access: bool,
    /// The packet was marked or found to be in error.
    pub flawed: bool,
}

#[derive(Debug, Default)]
struct Open {
    pts: Option<u64>,
    dts: Option<u64>,
    data: Vec<u8>,
    /// Payload bytes announced; `None` = until the next start.
    length: Option<usize>,
    random_access: bool,
    damaged: bool,
    /// Not for the decoder: padding, or scrambled.
    unusable: bool,
    /// The input ended, or changed segments, inside it.
    at_end: bool,
}

/// Assembler of one PID.
#[derive(Debug, Default)]
pub struct Pes {
    open: Option<Open>,
    /// Header bytes while the header is still incomplete.
    head: Vec<u8>,
    head_open: bool,
    random_access: bool,
    /// Something was lost and nothing open to pin it on.
    damage_pending: bool,
    /// A header was seen: payload without one may be handed on.
    started: bool,
    /// `PES_scrambling_control` of the newest header.
    pub scrambled: bool,
    size_hint: usize,
}

impl Pes {
    /// Bytes held.
    pub fn held(&self) -> usize {
        self.head.len() + self.open.as_ref().map_or(0, |o| o.data.len())
    }

    /// Packets were lost or flawed here.
    pub fn damage(&mut self) {
        match &mut self.open {
            Some(open) => open.damaged = true,
            None => self.damage_pending = true,
        }
    }

    /// Takes a packet's payload.
    pub fn push(&mut self, payload: &[u8], packet: Packet, found: &mut dyn FnMut(Unit)) {
        let Packet {
            start,
            random_access,
            flawed,
        } = packet;
        let begins = payload.len() >= 3 && payload[..3] == [0, 0, 1] || payload.len() < 3;
        if start && begins {
            self.close(found);
            self.head.clear();
            self.head_open = true;
            self.random_access = random_access;
            // What was lost before a start is not missing inside it.
            self.damage_pending = flawed;
        } else if start || flawed {
            // A start that starts nothing is a flipped bit, or a flawed header.
            self.damage();
        }
        if self.head_open {
            self.head.extend_from_slice(payload);
            self.parse_head(found);
        } else {
            self.payload(payload, found);
        }
    }

    fn parse_head(&mut self, found: &mut dyn FnMut(Unit)) {
        let Some(&fixed) = self.head.first_chunk::<HEAD>() else {
            return;
        };
        let id = fixed[3];
        let bare = bare(id);
        let size = if bare {
            6
        } else {
            HEAD + usize::from(fixed[8])
        };
        if self.head.len() < size {
            return;
        }
        let announced = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let mut open = Open {
            // The length counts from behind its own field, so a header may claim to be longer than the packet.
            length: (announced > 0).then(|| (announced + 6).saturating_sub(size)),
            random_access: self.random_access,
            damaged: std::mem::take(&mut self.damage_pending) || fixed[..3] != [0, 0, 1],
            unusable: bare,
            data: Vec::with_capacity(self.size_hint.min(1 << 20)),
            ..Open::default()
        };
        if !bare {
            self.scrambled = fixed[6] & 0x30 != 0;
            open.unusable = self.scrambled;
            let optional = &self.head[HEAD..size];
            if fixed[7] & 0x80 != 0 {
                open.pts = stamp(optional);
            }
            if fixed[7] & 0xC0 == 0xC0 {
                open.dts = optional.get(5..).and_then(stamp);
                open.dts = open.dts.filter(|_| open.dts != open.pts);
            }
        }
        self.started = true;
        self.head_open = false;
        self.open = Some(open);
        let head = std::mem::take(&mut self.head);
        self.payload(&head[size..], found);
        self.head = head;
        self.head.clear();
    }

    fn payload(&mut self, mut bytes: &[u8], found: &mut dyn FnMut(Unit)) {
        loop {
            if bytes.is_empty() && self.open.is_none() {
                return;
            }
            if self.open.is_none() {
                if !self.started {
                    return;
                }
                // The header was lost, or the announced length was too short: hand on what there is.
                self.open = Some(Open {
                    damaged: std::mem::take(&mut self.damage_pending),
                    ..Open::default()
                });
            }
            let Some(open) = &mut self.open else { return };
            let room = open.length.unwrap_or(MAX_PES).min(MAX_PES);
            let take = room.saturating_sub(open.data.len()).min(bytes.len());
            open.data.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if open.data.len() < room {
                return;
            }
            if open.length.is_none() {
                open.damaged = true;
            }
            self.close(found);
        }
    }

    /// Hands out what is open.
    pub fn close(&mut self, found: &mut dyn FnMut(Unit)) {
        self.head.clear();
        self.head_open = false;
        let Some(open) = self.open.take() else {
            return;
        };
        // Only at an end: some multiplexers announce more than they send, and no viewer sees that.
        let short = open.at_end && open.length.is_some_and(|l| open.data.len() < l);
        self.size_hint = open.data.len() + open.data.len() / 4;
        if open.unusable || (open.data.is_empty() && !short) {
            return;
        }
        found(Unit {
            pts: open.pts,
            dts: open.dts,
            data: open.data,
            random_access: open.random_access,
            damaged: open.damaged || short,
            short,
        });
    }

    /// A segment ended: hands out what has no announced length; a PES packet with one may go on in the next.
    pub fn boundary(&mut self, found: &mut dyn FnMut(Unit)) {
        match &mut self.open {
            Some(open) if open.length.is_some() => open.at_end = true,
            _ => self.close(found),
        }
    }

    /// The input ended: hands out what is open.
    pub fn finish(&mut self, found: &mut dyn FnMut(Unit)) {
        if let Some(open) = &mut self.open {
            open.at_end = true;
        }
        self.close(found);
    }
}

/// Whether packets with this id have no optional header: padding, private 2, program-wide and control streams.
fn bare(id: u8) -> bool {
    matches!(id, 0xBC | 0xBE | 0xBF | 0xF0 | 0xF1 | 0xF2 | 0xF8 | 0xFF)
}

/// Decoding time of the PES packet that begins with these bytes, 33 bit at 90 kHz, when it tells its presentation time.
pub fn decoding_time(payload: &[u8]) -> Option<u64> {
    let head = payload.first_chunk::<HEAD>()?;
    if head[..3] != [0, 0, 1] || bare(head[3]) || head[7] & 0x80 == 0 {
        return None;
    }
    match head[7] & 0xC0 {
        0xC0 => stamp(payload.get(HEAD + 5..)?),
        _ => stamp(payload.get(HEAD..)?),
    }
}

/// A 33-bit time stamp; its marker bits are not insisted on.
fn stamp(bytes: &[u8]) -> Option<u64> {
    let &[a, b, c, d, e] = bytes.first_chunk::<5>()?;
    let high = u64::from(a >> 1 & 7) << 30;
    let middle = u64::from(u16::from_be_bytes([b, c]) >> 1) << 15;
    Some(high | middle | u64::from(u16::from_be_bytes([d, e]) >> 1))
}
