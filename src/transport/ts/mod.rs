//! MPEG transport stream: packets, PSI, PES, continuity (ISO/IEC 13818-1), without a decoder.

mod checks;
mod counter;
mod pes;
mod psi;
mod sync;
#[cfg(test)]
mod tests;

use detectors::base::{EvidenceKind, Kind, TsCheck, TsErrors};

use super::Codec;
use checks::{Checks, Watch};
use counter::{Counter, FRESH, Step, print};
use pes::{Packet, Pes};
use psi::{PatEntry, Sections};
use sync::Sync;

pub(crate) use psi::crc32;

/// An elementary stream that the PMT announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsTrack {
    /// Packet identifier.
    pub pid: u16,
    /// Pictures or sound.
    pub kind: Kind,
    /// Codec; `None` when it is none that is decoded here.
    pub codec: Option<Codec>,
    /// What the PMT called it, for messages: stream type and registration.
    pub name: String,
    /// ISO 639 code from the descriptor.
    pub language: Option<String>,
    /// Channel count from the descriptor; Opus needs it.
    pub channels: Option<u8>,
    /// Samples are encrypted (SAMPLE-AES of HLS).
    pub encrypted: bool,
}

/// What a demultiplexer finds, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum TsEvent {
    /// The chosen program's tracks, first time and on every change of the PMT.
    Tracks(Vec<TsTrack>),
    /// One PES packet's payload, complete or as much as arrived.
    Pes {
        /// Its stream.
        pid: u16,
        /// Presentation time, 33 bit at 90 kHz.
        pts: Option<u64>,
        /// Decoding time, 33 bit at 90 kHz, when it differs from `pts`.
        dts: Option<u64>,
        /// Elementary stream bytes.
        data: Vec<u8>,
        /// `random_access_indicator` was set.
        random_access: bool,
        /// Packets were lost or flawed inside it.
        damaged: bool,
    },
    /// The payload of this stream is scrambled (told once per change).
    Scrambled {
        /// Its stream.
        pid: u16,
        /// Whether it now is.
        scrambled: bool,
    },
    /// Damage.
    Evidence {
        /// Affected stream; `None` when unknown.
        pid: Option<u16>,
        /// What.
        kind: EvidenceKind,
        /// How often, at least 1.
        count: u32,
    },
    /// A PCR of the chosen program, 27 MHz, 0..2^33*300.
    Pcr {
        /// Value.
        ticks: u64,
        /// `discontinuity_indicator` was set.
        discontinuity: bool,
    },
    /// A splice information section (SCTE 35) of the chosen program, from `table_id` to its CRC, which is right.
    Splice {
        /// The section.
        section: Vec<u8>,
    },
    /// What the checks of TR 101 290 found since the last such event. Twice a second of the stream's own clock, and
    /// where a piece or the input ends.
    Checked(TsErrors),
}

/// Packets counted since the start, over all PIDs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TsCounts {
    /// All packets.
    pub packets: u64,
    /// Null packets among them.
    pub null: u64,
    /// Packets with `transport_error_indicator`.
    pub transport_errors: u64,
    /// Continuity counter jumps of any PID, also of programs that are not followed.
    pub continuity_errors: u64,
    /// Losses of sync.
    pub sync_losses: u64,
}

const PIDS: usize = 8192;
const NULL_PID: u16 = 0x1FFF;
/// Most PES bytes held over all streams; beyond, the one that grows is handed out in pieces.
const MAX_HELD: usize = 32 << 20;
/// Most programs whose PMT is read.
const MAX_PROGRAMS: usize = 256;
/// How often a program's PMT must come before earlier programs without one are no longer waited for.
const PATIENCE: u32 = 3;
/// Packets between two changes of the track list: a flood of PMT versions cannot flood the consumer.
const CHANGE_PACKETS: u64 = 16;
/// Packets in a row that must agree before scrambling is believed: one flipped bit is none.
const SCRAMBLE_PACKETS: u8 = 3;

/// What a PID is to us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Other,
    Tables(u16),
    Stream(u8),
}

/// A program of the PAT.
#[derive(Debug)]
struct Program {
    entry: PatEntry,
    /// CRC of the PMT in use; equal ones need no second look.
    crc: Option<u32>,
    /// How often a PMT came.
    seen: u32,
    tracks: Vec<TsTrack>,
    pcr_pid: u16,
    /// Everything its PMT refers to.
    pids: Vec<u16>,
    /// Where its splice information comes.
    splice_pids: Vec<u16>,
    /// Its PMT.
    heard: Watch,
}

impl Program {
    fn decodable(&self) -> bool {
        self.tracks.iter().any(|t| t.codec.is_some())
    }
}

/// A followed elementary stream.
#[derive(Debug)]
struct Stream {
    pid: u16,
    codec: Option<Codec>,
    pes: Pes,
    /// `transport_scrambling_control` as believed, and how many packets in a row said otherwise.
    scrambled: bool,
    otherwise: u8,
    /// What was last told.
    told: bool,
    /// Its packets.
    heard: Watch,
    /// Its presentation times.
    stamped: Watch,
}

/// Demultiplexer with bounded memory: what the open PES packets hold, at most 32 MiB of payload in all.
/// Bytes may be cut anywhere.
#[derive(Debug)]
pub struct Demux {
    sync: Sync,
    core: Core,
}

impl Demux {
    /// Follows the program with this number, or the first one with media.
    pub fn new(program: Option<u16>) -> Self {
        Self {
            sync: Sync::default(),
            core: Core {
                wanted: program,
                chosen: None,
                programs: Vec::new(),
                pat_version: None,
                tables: vec![(0, Sections::default())],
                streams: Vec::new(),
                told: None,
                changed_at: None,
                roles: vec![Role::Other; PIDS],
                counters: vec![FRESH; PIDS],
                copied: Vec::new(),
                pcr_pid: NULL_PID,
                held: 0,
                counts: TsCounts::default(),
                checks: Checks::new(),
            }
            .with_roles(),
        }
    }

    /// The input is one continuous multiplex, not pieces that begin with tables of their own: how often tables, clock
    /// references and timestamps come is checked as well.
    pub fn continuous(mut self) -> Self {
        self.core.checks.errors.timed = true;
        self
    }

    /// The input is continuous, but may be a segment or segments put together, as files are: tables are missed only
    /// once they have been seen to come again in time.
    pub fn perhaps_segments(mut self) -> Self {
        self.core.checks.perhaps_segments = true;
        self.continuous()
    }

    /// Takes bytes, tells what was found.
    pub fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(TsEvent)) {
        let core = &mut self.core;
        self.sync.push(bytes, &mut |f| core.take(f, found));
    }

    /// A boundary that the transport knows of (next HLS segment): what has no announced length is handed out at
    /// once, and counters may start anew. Tables, and PES packets with a known length, go on.
    pub fn boundary(&mut self, found: &mut dyn FnMut(TsEvent)) {
        let core = &mut self.core;
        self.sync.finish(&mut |f| core.take(f, found));
        core.counters.fill(FRESH);
        core.copied.clear();
        core.changed_at = None;
        core.hand_out(found, Pes::boundary);
        core.checks.restart_clock();
        core.tell_checked(found);
    }

    /// Ends the input: hands out what is still held. Afterwards new input may come: tables are kept.
    pub fn finish(&mut self, found: &mut dyn FnMut(TsEvent)) {
        // A packet that the end cuts is no fault of the multiplex.
        self.core.checks.ending = true;
        self.boundary(found);
        self.core.checks.ending = false;
        if self.core.chosen.is_none() && self.core.wanted.is_none() {
            // Nothing better will come.
            for program in &mut self.core.programs {
                program.seen = program.seen.max(PATIENCE);
            }
            self.core.choose(found);
        }
        self.core.hand_out(found, Pes::finish);
    }

    /// What was counted so far.
    pub fn counts(&self) -> TsCounts {
        self.core.counts
    }

    /// Number of the program that is followed, once known.
    pub fn program(&self) -> Option<u16> {
        self.core.chosen
    }
}

/// All but the search for packets.
#[derive(Debug)]
struct Core {
    wanted: Option<u16>,
    chosen: Option<u16>,
    programs: Vec<Program>,
    pat_version: Option<(u16, u8)>,
    /// Section collectors by PID; the first is the PAT's.
    tables: Vec<(u16, Sections)>,
    streams: Vec<Stream>,
    /// Track list last told.
    told: Option<Vec<TsTrack>>,
    /// Packet count at its last change.
    changed_at: Option<u64>,
    roles: Vec<Role>,
    counters: Vec<Counter>,
    /// PIDs of tables whose counter began anew within this segment.
    copied: Vec<u16>,
    pcr_pid: u16,
    held: usize,
    counts: TsCounts,
    checks: Checks,
}

/// Optional fields of a packet that matter here.
#[derive(Default)]
struct Adaptation {
    discontinuity: bool,
    random_access: bool,
    pcr: Option<u64>,
}

fn adaptation(field: &[u8]) -> Adaptation {
    let Some(&flags) = field.first() else {
        return Adaptation::default();
    };
    let pcr = field.get(1..7).filter(|_| flags & 0x10 != 0).map(|b| {
        let all = b.iter().fold(0u64, |sum, &x| sum << 8 | u64::from(x));
        (all >> 15) * 300 + (all & 0x1FF)
    });
    Adaptation {
        discontinuity: flags & 0x80 != 0,
        random_access: flags & 0x40 != 0,
        pcr,
    }
}

impl Core {
    /// Whether the jump of a table's counter lies behind a copy: segments begin with tables (RFC 8216, 3.2), which a
    /// segmenter may have put there with a counter of its own. Once a segment and PID.
    fn is_copy(&mut self, pid: u16, role: Role) -> bool {
        let is = matches!(role, Role::Tables(_))
            && !self.checks.errors.timed
            && !self.copied.contains(&pid);
        if is {
            self.copied.push(pid);
        }
        is
    }

    fn take(&mut self, what: sync::Found<'_>, found: &mut dyn FnMut(TsEvent)) {
        match what {
            sync::Found::Packet { bytes, flawed } => self.packet(bytes, flawed, found),
            sync::Found::Loss => {
                self.counts.sync_losses += 1;
                self.checks.sync_loss();
                self.streams.iter_mut().for_each(|s| s.pes.damage());
                found(TsEvent::Evidence {
                    pid: None,
                    kind: EvidenceKind::SyncLoss,
                    count: 1,
                });
                if self.checks.tells_loss() {
                    self.tell_checked(found);
                }
            }
        }
    }

    fn packet(
        &mut self,
        bytes: &[u8; sync::PACKET],
        bad_sync: bool,
        found: &mut dyn FnMut(TsEvent),
    ) {
        self.counts.packets += 1;
        let [_, a, b, c, ..] = *bytes;
        let pid = u16::from_be_bytes([a, b]) & 0x1FFF;
        let flawed = bad_sync || a & 0x80 != 0;
        if flawed || self.checks.due(self.counts.packets) {
            self.seldom(bad_sync, a & 0x80 != 0, found);
        }
        if pid == NULL_PID {
            self.counts.null += 1;
            return;
        }
        let role = self
            .roles
            .get(usize::from(pid))
            .copied()
            .unwrap_or_default();
        let ours = role != Role::Other || pid == self.pcr_pid;
        if flawed {
            self.counts.transport_errors += 1;
            if ours {
                evidence(found, pid, EvidenceKind::TransportError, 1);
            }
        }
        let body = &bytes[4..];
        let (field, payload) = match c >> 4 & 3 {
            1 => (&[][..], Some(body)),
            // Value 0 is reserved and to be thrown away.
            0 => return,
            control => {
                let length = usize::from(body[0]);
                let field = body.get(1..1 + length).unwrap_or_default();
                (field, body.get(1 + length..).filter(|_| control == 3))
            }
        };
        let field = adaptation(field);
        if pid == self.pcr_pid
            && let Some(ticks) = field.pcr
            && !flawed
        {
            self.pcr(ticks, field.discontinuity, found);
        }
        if c & 0xC0 != 0 && !flawed {
            self.scrambled(pid, role);
        }
        let Some(counter) = self.counters.get_mut(usize::from(pid)) else {
            return;
        };
        if field.discontinuity {
            counter.last = None;
        }
        let Some(payload) = payload else { return };
        let print = if ours { print(payload) } else { 0 };
        match counter.step(c & 0x0F, print) {
            Step::Next => {}
            Step::Repeat => return,
            Step::Lost(_) if self.is_copy(pid, role) => {}
            Step::Lost(lost) => {
                self.counts.continuity_errors += 1;
                // Of a packet that is marked as damaged nothing more is to be concluded (2.1).
                let errors = u32::from(!flawed);
                self.checks
                    .errors
                    .add(TsCheck::ContinuityCountError, errors);
                if ours {
                    evidence(found, pid, EvidenceKind::ContinuityError, lost.max(1));
                }
                if lost == 0 {
                    return;
                }
                match role {
                    Role::Stream(at) => {
                        if let Some(stream) = self.streams.get_mut(usize::from(at)) {
                            stream.pes.damage();
                        }
                    }
                    Role::Tables(at) => {
                        if let Some((_, sections)) = self.tables.get_mut(usize::from(at)) {
                            sections.abort();
                        }
                    }
                    Role::Other => {}
                }
            }
        }
        let start = a & 0x40 != 0;
        match role {
            Role::Other => self.checks.unclaimed(pid),
            Role::Tables(at) => self.tables(usize::from(at), pid, payload, start, found),
            Role::Stream(at) => {
                let readable = start && !flawed && c & 0xC0 == 0;
                self.checked_stream(usize::from(at), readable, payload);
                let packet = Packet {
                    start,
                    random_access: field.random_access,
                    flawed,
                };
                self.stream(usize::from(at), payload, packet, c >> 6, found);
            }
        }
    }

    fn stream(
        &mut self,
        at: usize,
        payload: &[u8],
        packet: Packet,
        scrambling: u8,
        found: &mut dyn FnMut(TsEvent),
    ) {
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        let scrambled = scrambling != 0;
        if scrambled != stream.scrambled && !packet.flawed {
            stream.otherwise += 1;
            if stream.otherwise >= SCRAMBLE_PACKETS || (!scrambled && packet.start) {
                stream.scrambled = scrambled;
                stream.otherwise = 0;
            }
        } else {
            stream.otherwise = 0;
        }
        if scrambled && !packet.flawed {
            stream.pes.damage();
        } else if stream.codec.is_some() {
            let pid = stream.pid;
            let before = stream.pes.held();
            stream
                .pes
                .push(payload, packet, &mut |unit| tell(pid, unit, found));
            self.held = (self.held + stream.pes.held()).saturating_sub(before);
            if self.held > MAX_HELD {
                let before = stream.pes.held();
                stream.pes.damage();
                stream.pes.close(&mut |unit| tell(pid, unit, found));
                self.held = self.held.saturating_sub(before);
            }
        }
        let now = stream.scrambled || stream.pes.scrambled;
        if now != stream.told {
            stream.told = now;
            found(TsEvent::Scrambled {
                pid: stream.pid,
                scrambled: now,
            });
        }
    }

    fn tables(
        &mut self,
        at: usize,
        pid: u16,
        payload: &[u8],
        start: bool,
        found: &mut dyn FnMut(TsEvent),
    ) {
        let Some((_, sections)) = self.tables.get_mut(at) else {
            return;
        };
        let mut sections = std::mem::take(sections);
        let mut changed = false;
        sections.push(payload, start, &mut |section| {
            changed |= match pid {
                0 => self.pat(section),
                _ => self.pmt(pid, section),
            };
            if pid != 0 {
                self.other_table(pid, section, found);
            }
        });
        let flawed = sections.take_flawed();
        self.checks.errors.add(TsCheck::CrcError, flawed);
        if let Some((_, slot)) = self.tables.get_mut(at) {
            *slot = sections;
        }
        if changed {
            self.choose(found);
        }
    }

    /// Whether the list of programs changed.
    fn pat(&mut self, section: &[u8]) -> bool {
        self.checks.pat(section);
        let Some(pat) = psi::pat(section) else {
            return false;
        };
        self.checks.network_pid = pat.network_pid;
        let table = (pat.transport, pat.version);
        let single = section.get(7) == Some(&0);
        let fresh = self.pat_version != Some(table);
        let known = |e: &PatEntry| self.programs.iter().any(|p| p.entry == *e);
        let shrunk = single && pat.entries.len() != self.programs.len();
        if !fresh && !shrunk && pat.entries.iter().all(known) {
            return false;
        }
        self.pat_version = Some(table);
        let mut before = std::mem::take(&mut self.programs);
        let mut listed: Vec<Program> = Vec::new();
        for entry in pat.entries {
            if listed.len() >= MAX_PROGRAMS || listed.iter().any(|p| p.entry == entry) {
                continue;
            }
            let old = before.iter().position(|p| p.entry == entry);
            listed.push(old.map(|i| before.remove(i)).unwrap_or(Program {
                entry,
                crc: None,
                seen: 0,
                tracks: Vec::new(),
                pcr_pid: NULL_PID,
                pids: Vec::new(),
                splice_pids: Vec::new(),
                heard: Watch::default(),
            }));
        }
        // A table of many sections comes piece by piece: the other pieces stay while its version does.
        if !single && !fresh {
            before.retain(|p| listed.iter().all(|l| l.entry.program != p.entry.program));
            listed.splice(0..0, before);
            listed.truncate(MAX_PROGRAMS);
        }
        self.programs = listed;
        true
    }

    /// Whether a program's content changed, or came often enough to matter.
    fn pmt(&mut self, pid: u16, section: &[u8]) -> bool {
        if section.first() != Some(&psi::PMT) {
            return false;
        }
        let (Some(number), Some(crc)) = (
            section.get(3..5).and_then(|b| b.first_chunk::<2>()),
            section.last_chunk::<4>(),
        ) else {
            return false;
        };
        let entry = PatEntry {
            program: u16::from_be_bytes(*number),
            pmt_pid: pid,
        };
        let crc = u32::from_be_bytes(*crc);
        let Some(program) = self.programs.iter_mut().find(|p| p.entry == entry) else {
            return false;
        };
        program.seen = program.seen.saturating_add(1);
        program.heard.mark();
        if program.crc == Some(crc) {
            return self.chosen.is_none() && program.seen <= PATIENCE;
        }
        let soon = self
            .changed_at
            .is_some_and(|at| self.counts.packets < at + CHANGE_PACKETS);
        if soon && self.chosen == Some(entry.program) {
            return false;
        }
        let Some(pmt) = psi::pmt(section) else {
            return false;
        };
        program.crc = Some(crc);
        program.tracks = pmt.tracks;
        program.pcr_pid = pmt.pcr_pid;
        program.pids = pmt.pids;
        program.splice_pids = pmt.splice_pids;
        true
    }

    /// Settles which program is followed, and tells its tracks when they differ.
    fn choose(&mut self, found: &mut dyn FnMut(TsEvent)) {
        let listed = |n: u16| self.programs.iter().any(|p| p.entry.program == n);
        self.chosen = match self.wanted {
            Some(number) => Some(number).filter(|&n| listed(n)),
            None => self.chosen.filter(|&n| listed(n)).or_else(|| {
                let mut waiting = false;
                self.programs
                    .iter()
                    .find(|p| {
                        let ready = p.decodable() && (!waiting || p.seen >= PATIENCE);
                        waiting |= p.seen == 0;
                        ready
                    })
                    // Tracks that cannot be decoded are better told than passed over in silence.
                    .or_else(|| {
                        let known = |p: &&Program| !p.tracks.is_empty() && p.seen >= PATIENCE;
                        self.programs.iter().find(known).filter(|_| !waiting)
                    })
                    .map(|p| p.entry.program)
            }),
        };
        let program = self
            .programs
            .iter()
            .find(|p| Some(p.entry.program) == self.chosen && p.crc.is_some());
        let tracks = match program {
            Some(program) => {
                if self.pcr_pid != program.pcr_pid {
                    self.checks.restart_clock();
                }
                self.pcr_pid = program.pcr_pid;
                program.tracks.clone()
            }
            // A chosen program that left the table has no tracks; while none is chosen the old ones go on.
            None if self.wanted.is_some() && self.chosen.is_none() && self.told.is_some() => {
                Vec::new()
            }
            None => {
                self.set_roles();
                return;
            }
        };
        if self.told.as_ref() != Some(&tracks) {
            self.follow(&tracks, found);
            self.changed_at = Some(self.counts.packets);
            self.told = Some(tracks.clone());
            self.set_roles();
            found(TsEvent::Tracks(tracks));
        } else {
            self.set_roles();
        }
    }

    /// Keeps the streams that go on, ends the others, begins new ones.
    fn follow(&mut self, tracks: &[TsTrack], found: &mut dyn FnMut(TsEvent)) {
        let goes_on = |s: &Stream| tracks.iter().any(|t| t.pid == s.pid && t.codec == s.codec);
        let (mut stay, ended): (Vec<_>, Vec<_>) = std::mem::take(&mut self.streams)
            .into_iter()
            .partition(goes_on);
        for mut stream in ended {
            let pid = stream.pid;
            stream.pes.close(&mut |unit| tell(pid, unit, found));
            if let Some(counter) = self.counters.get_mut(usize::from(pid)) {
                *counter = FRESH;
            }
        }
        for track in tracks {
            if stay.iter().all(|s| s.pid != track.pid) {
                if let Some(counter) = self.counters.get_mut(usize::from(track.pid)) {
                    *counter = FRESH;
                }
                stay.push(Stream {
                    pid: track.pid,
                    codec: track.codec,
                    pes: Pes::default(),
                    scrambled: false,
                    otherwise: 0,
                    told: false,
                    heard: Watch::default(),
                    stamped: Watch::default(),
                });
            }
        }
        self.held = stay.iter().map(|s| s.pes.held()).sum();
        self.streams = stay;
    }

    fn with_roles(mut self) -> Self {
        self.set_roles();
        self
    }

    /// Writes the PID table anew from programs and streams.
    fn set_roles(&mut self) {
        self.roles.fill(Role::Other);
        for (at, stream) in self.streams.iter().enumerate() {
            if let Some(role) = self.roles.get_mut(usize::from(stream.pid)) {
                *role = Role::Stream(at as u8);
            }
        }
        let mut pids = vec![0];
        for program in &self.programs {
            // With a program chosen, the other ones' tables are of no interest.
            let number = self.chosen.or(self.wanted);
            let wanted = number.is_none_or(|n| n == program.entry.program);
            if wanted && !pids.contains(&program.entry.pmt_pid) {
                pids.push(program.entry.pmt_pid);
            }
        }
        pids.extend(self.other_tables(&pids));
        let mut before = std::mem::take(&mut self.tables);
        for (at, pid) in pids.into_iter().enumerate() {
            let old = before.iter().position(|(p, _)| *p == pid);
            let sections = old.map(|i| before.swap_remove(i).1).unwrap_or_default();
            self.tables.push((pid, sections));
            if let Some(role) = self.roles.get_mut(usize::from(pid)) {
                *role = Role::Tables(at as u16);
            }
        }
        self.refer();
    }

    fn hand_out(
        &mut self,
        found: &mut dyn FnMut(TsEvent),
        close: fn(&mut Pes, &mut dyn FnMut(pes::Unit)),
    ) {
        for stream in &mut self.streams {
            let pid = stream.pid;
            close(&mut stream.pes, &mut |unit| tell(pid, unit, found));
        }
        self.held = self.streams.iter().map(|s| s.pes.held()).sum();
    }
}

fn evidence(found: &mut dyn FnMut(TsEvent), pid: u16, kind: EvidenceKind, count: u32) {
    found(TsEvent::Evidence {
        pid: Some(pid),
        kind,
        count,
    });
}

fn tell(pid: u16, unit: pes::Unit, found: &mut dyn FnMut(TsEvent)) {
    if unit.short {
        evidence(found, pid, EvidenceKind::Truncated, 1);
    }
    if unit.data.is_empty() {
        return;
    }
    found(TsEvent::Pes {
        pid,
        pts: unit.pts,
        dts: unit.dts,
        data: unit.data,
        random_access: unit.random_access,
        damaged: unit.damaged,
    });
}
