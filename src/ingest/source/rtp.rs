//! RTP (RFC 3550) carrying MPEG-TS (payload type 33, RFC 2250): order and loss. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use detectors::base::Arrival;

/// Packets held for reordering at most.
const MAX_HELD: usize = 1024;
/// Sequence numbers that far from the expected one mean that the sender started anew.
const RESTART: i64 = 3000;

/// What comes out, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ordered {
    /// The payload of the next packet.
    Payload(Bytes),
    /// Packets that did not come in time.
    Lost(u32),
}

/// Puts packets in order; waits for a missing one no longer than the jitter allows.
#[derive(Debug)]
pub(super) struct Reorder {
    jitter: Duration,
    source: Option<u32>,
    /// Extended sequence number expected next.
    next: Option<i64>,
    held: BTreeMap<i64, (Arrival, Bytes)>,
}

/// A parsed header and its payload.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    sequence: u16,
    source: u32,
    payload: Bytes,
}

/// Whether a datagram looks like RTP of version 2.
pub(super) fn is_rtp(datagram: &[u8]) -> bool {
    datagram.len() > 12 && datagram[0] >> 6 == 2
}

fn parse(datagram: &Bytes) -> Option<Packet> {
    if !is_rtp(datagram) {
        return None;
    }
    let first = datagram[0];
    let mut at = 12 + 4 * usize::from(first & 15);
    if first & 0x10 != 0 {
        let words = datagram.get(at + 2..at + 4)?;
        at += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    let mut end = datagram.len();
    if first & 0x20 != 0 {
        end = end.checked_sub(usize::from(*datagram.last()?))?;
    }
    (at < end).then(|| Packet {
        sequence: u16::from_be_bytes([datagram[2], datagram[3]]),
        source: u32::from_be_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]),
        payload: datagram.slice(at..end),
    })
}

impl Reorder {
    pub(super) fn new(jitter: Duration) -> Self {
        Self {
            jitter,
            source: None,
            next: None,
            held: BTreeMap::new(),
        }
    }

    /// Takes a datagram; tells whether it was RTP.
    pub(super) fn push(
        &mut self,
        datagram: &Bytes,
        now: Arrival,
        out: &mut dyn FnMut(Ordered),
    ) -> bool {
        let Some(packet) = parse(datagram) else {
            return false;
        };
        if self.source.replace(packet.source) != Some(packet.source) {
            self.restart(out);
        }
        let sequence = i64::from(packet.sequence);
        let mut place = match self.next {
            Some(next) => next + i64::from((packet.sequence.wrapping_sub(next as u16)) as i16),
            None => sequence,
        };
        if self.next.is_some_and(|next| (place - next).abs() > RESTART) {
            self.restart(out);
            place = sequence;
        }
        let next = *self.next.get_or_insert(place);
        // Late or repeated packets have had their turn.
        if place >= next {
            self.held.entry(place).or_insert((now, packet.payload));
        }
        self.release(now, out);
        true
    }

    /// Hands out what is due; call when [`Reorder::due`] has passed.
    pub(super) fn release(&mut self, now: Arrival, out: &mut dyn FnMut(Ordered)) {
        while let (Some(next), Some((&first, (came, _)))) = (self.next, self.held.first_key_value())
        {
            let waited = now.since(*came) >= self.jitter;
            if first > next {
                if !waited && self.held.len() < MAX_HELD {
                    break;
                }
                out(Ordered::Lost(
                    u32::try_from(first - next).unwrap_or(u32::MAX),
                ));
            }
            if let Some((_, (_, payload))) = self.held.pop_first() {
                out(Ordered::Payload(payload));
            }
            self.next = Some(first + 1);
        }
    }

    /// When the oldest held packet is no longer kept back.
    pub(super) fn due(&self) -> Option<Arrival> {
        let (_, (came, _)) = self.held.first_key_value()?;
        Some(came.plus(self.jitter))
    }

    /// A new sender: hands out everything, and counts nothing as lost in between.
    fn restart(&mut self, out: &mut dyn FnMut(Ordered)) {
        for (_, (_, payload)) in std::mem::take(&mut self.held) {
            out(Ordered::Payload(payload));
        }
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, source: u32) -> Bytes {
        let mut bytes = vec![0x80, 33];
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&source.to_be_bytes());
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.into()
    }

    /// Sequence numbers of payloads; losses as negative counts.
    fn run(packets: &[(u64, u16, u32)], end_millis: u64) -> Vec<i64> {
        let mut order = Reorder::new(Duration::from_millis(100));
        let mut out = Vec::new();
        let mut take = |o| {
            out.push(match o {
                Ordered::Payload(p) => i64::from(u16::from_be_bytes([p[0], p[1]])),
                Ordered::Lost(n) => -i64::from(n),
            });
        };
        for (millis, sequence, source) in packets {
            let now = Arrival::from_millis(*millis);
            assert!(order.push(&packet(*sequence, *source), now, &mut take));
        }
        order.release(Arrival::from_millis(end_millis), &mut take);
        out
    }

    #[test]
    fn packets_come_out_in_order_once() {
        let swapped = [(0, 5, 1), (1, 7, 1), (2, 6, 1), (3, 6, 1), (4, 8, 1)];
        assert_eq!(run(&swapped, 4), [5, 6, 7, 8]);
        let wrap = [(0, 65_534, 1), (1, 65_535, 1), (2, 1, 1), (3, 0, 1)];
        assert_eq!(run(&wrap, 4), [65_534, 65_535, 0, 1]);
    }

    #[test]
    fn a_missing_packet_is_lost_only_when_the_jitter_has_passed() {
        let gap = [(0, 1, 1), (10, 4, 1)];
        assert_eq!(run(&gap, 109), [1]);
        assert_eq!(run(&gap, 110), [1, -2, 4]);
    }

    #[test]
    fn a_new_sender_is_followed_without_loss() {
        assert_eq!(
            run(&[(0, 1, 1), (1, 900, 2), (2, 901, 2)], 3),
            [1, 900, 901]
        );
        assert_eq!(run(&[(0, 1, 1), (1, 20_000, 1)], 3), [1, 20_000]);
    }

    #[test]
    fn headers_with_extension_and_padding_are_read_and_cut_ones_refused() {
        let mut bytes = vec![0xb1, 33, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1];
        bytes.extend_from_slice(&[0; 4]); // one contributing source
        bytes.extend_from_slice(&[0xbe, 0xde, 0, 1, 0, 0, 0, 0]); // extension of one word
        bytes.extend_from_slice(&[0x47, 1, 0, 2]); // two bytes, two of padding
        let whole = Bytes::from(bytes);
        assert_eq!(
            parse(&whole).map(|p| p.payload),
            Some(Bytes::from_static(&[0x47, 1]))
        );
        // Cut short, the last byte no longer tells the padding; nothing may be read past the end.
        for cut in 0..whole.len() {
            if let Some(packet) = parse(&whole.slice(..cut)) {
                assert!(packet.payload.len() < cut);
            }
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut order = Reorder::new(Duration::from_secs(3600));
        let mut lost = 0;
        for n in 0..5000_u16 {
            // Every second packet is missing.
            order.push(
                &packet(n.wrapping_mul(2), 1),
                Arrival::default(),
                &mut |o| {
                    lost += u32::from(matches!(o, Ordered::Lost(_)));
                },
            );
            assert!(order.held.len() <= MAX_HELD);
        }
        assert!(lost > 3000);
    }
}
