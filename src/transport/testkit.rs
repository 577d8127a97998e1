//! Makes transport streams for tests.

use super::ts::{Demux, TsEvent};

/// Writes transport packets, counting per PID.
#[derive(Debug, Default)]
pub struct Muxer {
    counters: std::collections::BTreeMap<u16, u8>,
    /// Everything written.
    pub bytes: Vec<u8>,
}

/// Long-form section of a table, with header and CRC.
pub fn section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u16 + 9;
    let mut out = vec![table, 0xB0 | (length >> 8) as u8, length as u8];
    out.extend(id.to_be_bytes());
    out.extend([0xC1 | version << 1, 0, 0]);
    out.extend(body);
    let crc = super::ts::crc32(&out);
    out.extend(crc.to_be_bytes());
    out
}

/// PAT section of programs and their PMT PIDs.
pub fn pat(version: u8, programs: &[(u16, u16)]) -> Vec<u8> {
    let body: Vec<u8> = programs
        .iter()
        .flat_map(|&(program, pid)| {
            let [a, b] = program.to_be_bytes();
            let [c, d] = (0xE000 | pid).to_be_bytes();
            [a, b, c, d]
        })
        .collect();
    section(0, 1, version, &body)
}

/// PMT section: PCR PID, and stream type, PID and descriptors of each stream.
pub fn pmt(program: u16, version: u8, pcr: u16, streams: &[(u8, u16, &[u8])]) -> Vec<u8> {
    let mut body = (0xE000 | pcr).to_be_bytes().to_vec();
    body.extend([0xF0, 0]);
    for (kind, pid, descriptors) in streams {
        body.push(*kind);
        body.extend((0xE000 | pid).to_be_bytes());
        body.extend((0xF000 | descriptors.len() as u16).to_be_bytes());
        body.extend(*descriptors);
    }
    section(2, program, version, &body)
}

/// PES packet; `bounded` writes its length.
pub fn pes(id: u8, pts: Option<u64>, dts: Option<u64>, bounded: bool, data: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut stamp = |mark: u8, t: u64| {
        fields.push(mark << 4 | (t >> 29) as u8 & 0x0E | 1);
        fields.extend((((t >> 14) as u16) | 1).to_be_bytes());
        fields.extend((((t << 1) as u16) | 1).to_be_bytes());
    };
    let flags = match (pts, dts) {
        (Some(p), Some(d)) => {
            stamp(3, p);
            stamp(1, d);
            0xC0
        }
        (Some(p), None) => {
            stamp(2, p);
            0x80
        }
        _ => 0,
    };
    let length = if bounded {
        data.len() + 3 + fields.len()
    } else {
        0
    };
    let mut out = vec![0, 0, 1, id];
    out.extend((length as u16).to_be_bytes());
    out.extend([0x80, flags, fields.len() as u8]);
    out.extend(fields);
    out.extend(data);
    out
}

impl Muxer {
    /// One packet. `payload` longer than fits is cut; the rest of the packet is stuffed. Returns what was taken.
    pub fn packet(&mut self, pid: u16, start: bool, field: Option<&[u8]>, payload: &[u8]) -> usize {
        let counter = self.counters.entry(pid).or_insert(15);
        if !payload.is_empty() {
            *counter = (*counter + 1) & 15;
        }
        let mut field = field.map(<[u8]>::to_vec);
        let room = 184 - field.as_ref().map_or(0, |f| f.len() + 1);
        let take = payload.len().min(room);
        let mut stuffing = room - take;
        if stuffing > 0 && field.is_none() {
            stuffing -= 1;
            field = Some(if stuffing > 0 {
                stuffing -= 1;
                vec![0]
            } else {
                Vec::new()
            });
        }
        let control = (0x20 * u8::from(field.is_some())) | (0x10 * u8::from(take > 0));
        let [high, low] = pid.to_be_bytes();
        let head = [
            0x47,
            high | (0x40 * u8::from(start)),
            low,
            control | *counter,
        ];
        self.bytes.extend(head);
        if let Some(field) = field {
            self.bytes.push((field.len() + stuffing) as u8);
            self.bytes.extend(field);
            self.bytes.extend(std::iter::repeat_n(0xFF, stuffing));
        }
        self.bytes.extend(&payload[..take]);
        assert_eq!(self.bytes.len() % 188, 0);
        take
    }

    /// A section in its own packets.
    pub fn table(&mut self, pid: u16, section: &[u8]) {
        let mut payload = vec![0];
        payload.extend(section);
        let whole = payload.len().div_ceil(184) * 184;
        payload.resize(whole, 0xFF);
        self.payload(pid, &payload);
    }

    /// Payload over as many packets as it takes; the first one starts a unit.
    pub fn payload(&mut self, pid: u16, payload: &[u8]) {
        let mut at = 0;
        while at < payload.len() {
            at += self.packet(pid, at == 0, None, &payload[at..]);
        }
    }

    /// A PCR alone in a packet.
    pub fn pcr(&mut self, pid: u16, ticks: u64, discontinuity: bool) {
        let value = (ticks / 300) << 15 | 0x7E00 | (ticks % 300);
        let mut field = vec![0x10 | (0x80 * u8::from(discontinuity))];
        field.extend(&value.to_be_bytes()[2..]);
        field.resize(183, 0xFF);
        self.packet(pid, false, Some(&field), &[]);
    }

    /// PAT and PMT of a plain program: H.264 at 0x100, ADTS at 0x101, PCR in the pictures.
    pub fn tables(&mut self) {
        self.table(0, &pat(0, &[(1, 0x1000)]));
        let streams: [(u8, u16, &[u8]); 2] = [(0x1B, 0x100, &[]), (0x0F, 0x101, b"\x0A\x04deu\0")];
        self.table(0x1000, &pmt(1, 0, 0x100, &streams));
    }
}

/// All events of some bytes, pushed in one piece.
pub fn demux(bytes: &[u8]) -> Vec<TsEvent> {
    demux_cut(bytes, bytes.len().max(1))
}

/// All events of some bytes, pushed in pieces of a size.
pub fn demux_cut(bytes: &[u8], size: usize) -> Vec<TsEvent> {
    let mut out = Vec::new();
    let mut demux = Demux::new(None);
    for piece in bytes.chunks(size) {
        demux.push(piece, &mut |e| out.push(e));
    }
    demux.finish(&mut |e| out.push(e));
    out
}
