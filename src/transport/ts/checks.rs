//! The checks of ETSI TR 101 290 V1.4.1 (clause 5.2) on what the demultiplexer passes by.
//!
//! Whatever is judged by time is judged on the stream's own clock, its PCR: an input that falls silent is no fault of
//! the multiplexer, and a file has no other. A table, PID or timestamp is overdue when a PCR shows that the limit has
//! surely passed, so the place of packets between two PCRs makes no false error (and an excess of less than two PCR
//! intervals no true one). What stays overdue is counted again every second, or every limit when that is shorter.

use super::psi::{self, PatEntry};
use super::{Core, NULL_PID, Role, TsCounts, TsEvent, pes};
use detectors::base::{TsCheck, TsErrors};

/// A second of the 27 MHz clock.
const SECOND: u64 = 27_000_000;
/// A millisecond of it.
const MILLI: u64 = SECOND / 1000;
/// Where PCRs wrap.
const PCR_WRAP: u64 = (1 << 33) * 300;
/// Where timestamps wrap.
const STAMP_MASK: u64 = (1 << 33) - 1;
/// Ticks of the clock a tick of a timestamp.
const PER_STAMP: u64 = 300;

/// PAT and PMT (1.3a, 1.5a).
const TABLES: u64 = SECOND / 2;
/// Announced pictures and sound without a packet (1.6: as the user says; 5 s is usual).
const PID_MISSING: u64 = 5 * SECOND;
/// Between PCRs (2.3a, 2.3b; ISO/IEC 13818-1 2.7.2).
const PCR_APART: u64 = 100 * MILLI;
/// Between presentation times (2.5; ISO/IEC 13818-1 2.7.4).
const PTS_APART: u64 = 700 * MILLI;
/// Until a PID without reference counts (3.4).
const UNREFERENCED: u64 = SECOND / 2;
/// Scrambled packets for so long, or without a CAT for so long, are an error (2.6 tells no limit).
const SCRAMBLED_FOR: u64 = 2 * SECOND;
/// See [`SCRAMBLED_FOR`].
const CAT_AWAY: u64 = 10 * SECOND;

/// A later PCR is a new clock, whatever lies between.
const PCR_LEAP: u64 = 10 * SECOND;
/// Without timestamps to compare with, a PCR so much later is only late.
const PCR_LATE: u64 = SECOND;
/// Timestamps that go on for so long without a PCR: it is missing (90 kHz).
const PCR_MISSING: u64 = 90_000;

/// Time over which the pace of packets is averaged, twice.
const PACE_OVER: u64 = 2 * SECOND;

/// PIDs of service information that are read, beside the tables of programs.
const CAT_PID: u16 = 0x01;
const NIT_PID: u16 = 0x10;
const SDT_PID: u16 = 0x11;
const EIT_PID: u16 = 0x12;
const TDT_PID: u16 = 0x14;
/// Base PID of ATSC service information, whose tables refer to further PIDs.
const ATSC_PID: u16 = 0x1FFB;
/// PIDs up to here are reserved.
const LAST_RESERVED_PID: u16 = 0x1F;

/// Service information whose absence is noticed, once it was there: PID, table, limit, check.
const SERVICE: [(u16, u8, u64, TsCheck); 4] = [
    (NIT_PID, 0x40, 10 * SECOND, TsCheck::NitError),
    (SDT_PID, 0x42, 2 * SECOND, TsCheck::SdtError),
    (EIT_PID, 0x4E, 2 * SECOND, TsCheck::EitError),
    (TDT_PID, 0x70, 30 * SECOND, TsCheck::TdtError),
];

/// Time between two reports.
const TELL_EVERY: u64 = SECOND / 2;
/// Packets between two reports at most, should the clock stand still.
const TELL_PACKETS: u64 = 20_000;
/// PIDs without reference that are remembered.
const MAX_STRAYS: usize = 16;
/// Entitlement PIDs remembered.
const MAX_ENTITLEMENTS: usize = 64;
/// PCRs over which a constant rate is looked for: some seconds.
const RATE_POINTS: usize = 64;
/// What is further than this from a constant rate is none.
const CONSTANT_WITHIN_NANOS: f64 = 1e6;
/// PCRs without progress of the timestamps compared with: others are looked for.
const IDLE_PCRS: u32 = 100;

/// Notices that something which should come again and again stays away.
#[derive(Debug, Default)]
pub struct Watch {
    seen: bool,
    /// When it was surely there last.
    last: Option<u64>,
    /// When it came last.
    came: Option<u64>,
    /// It came again within its limit.
    repeats: bool,
}

impl Watch {
    /// It was there.
    pub fn mark(&mut self) {
        self.seen = true;
    }

    /// At a PCR: whether it has surely been away for longer than `limit`. The first PCR starts the watch.
    fn overdue(&mut self, now: u64, limit: u64) -> bool {
        let last = match self.last {
            Some(last) if !self.seen => last,
            _ => {
                if std::mem::take(&mut self.seen) {
                    let before = self.came.replace(now);
                    self.repeats |= before.is_some_and(|b| now.saturating_sub(b) <= limit);
                }
                self.last = Some(now);
                return false;
            }
        };
        let overdue = now.saturating_sub(last) > limit;
        if overdue {
            self.last = Some((now + limit.min(SECOND)).saturating_sub(limit));
        }
        overdue
    }

    /// At a PCR: notes the time of what was there.
    fn note(&mut self, now: u64) {
        if std::mem::take(&mut self.seen) {
            self.last = Some(now);
        }
    }

    /// As [`Watch::overdue`], of something that need not come at all.
    fn overdue_if_known(&mut self, now: u64, limit: u64) -> bool {
        (self.seen || self.last.is_some()) && self.overdue(now, limit)
    }

    /// Whether it was there within `limit`.
    fn within(&self, now: u64, limit: u64) -> bool {
        self.last
            .is_some_and(|last| now.saturating_sub(last) <= limit)
    }
}

/// Timestamps of one elementary stream, which show whether time passed between two PCRs.
#[derive(Debug)]
struct Reference {
    pid: u16,
    newest: u64,
    step: u64,
    at_pcr: u64,
    /// The first one since a PCR, or since a missing PCR was told.
    waits: Option<u64>,
    idle: u32,
}

/// The stream's clock: PCRs added up, jumps left out.
#[derive(Debug, Default)]
struct Clock {
    now: u64,
    last: Option<u64>,
    reference: Option<Reference>,
    /// Packet count at the newest PCR.
    packets: u64,
    /// Recent clock ticks, and the packets that they took.
    pace: (u64, u64),
}

impl Clock {
    /// A timestamp; whether PCRs have stayed away for too long.
    fn stamp(&mut self, pid: u16, stamp: u64) -> bool {
        let fresh = || Reference {
            pid,
            newest: stamp,
            step: 0,
            at_pcr: stamp,
            waits: Some(stamp),
            idle: 0,
        };
        let reference = self.reference.get_or_insert_with(fresh);
        if reference.pid != pid {
            return false;
        }
        let ahead = stamp.wrapping_sub(reference.newest) & STAMP_MASK;
        let behind = reference.newest.wrapping_sub(stamp) & STAMP_MASK;
        if ahead * PER_STAMP > PCR_LEAP {
            // Out of order by a little is nothing new; anything else is another timeline.
            if behind * PER_STAMP > SECOND {
                *reference = fresh();
            }
            return false;
        }
        reference.step = ahead;
        reference.newest = stamp;
        let waits = *reference.waits.get_or_insert(stamp);
        let missing = stamp.wrapping_sub(waits) & STAMP_MASK > PCR_MISSING;
        if missing {
            reference.waits = Some(stamp);
        }
        missing
    }

    /// A PCR behind so many packets; what is wrong with it.
    ///
    /// A clock reference that comes late and one that jumps ahead look alike. Time has passed when timestamps went on
    /// (at a variable rate they keep pace with the clock) or when as many packets came as otherwise in that time (at a
    /// constant rate a large picture takes long).
    fn pcr(&mut self, ticks: u64, discontinuity: bool, packets: u64) -> Option<TsCheck> {
        let ticks = ticks % PCR_WRAP;
        let count = packets - std::mem::replace(&mut self.packets, packets);
        // Time that the timestamps say has passed, and how finely they tell it.
        let mut passed = None;
        if let Some(reference) = &mut self.reference {
            let span = reference.newest.wrapping_sub(reference.at_pcr) & STAMP_MASK;
            passed = Some((span * PER_STAMP, reference.step * PER_STAMP));
            reference.at_pcr = reference.newest;
            reference.waits = None;
            reference.idle = if span == 0 { reference.idle + 1 } else { 0 };
            if reference.idle > IDLE_PCRS {
                self.reference = None;
            }
        }
        let last = self.last.replace(ticks)?;
        if discontinuity {
            return None;
        }
        let step = (ticks + PCR_WRAP - last) % PCR_WRAP;
        let paced = count.saturating_mul(self.pace.0).checked_div(self.pace.1);
        let passed = passed.filter(|(_, fine)| *fine > 0 && *fine <= step / 2);
        let passed = passed.map(|(span, _)| span);
        let shown = passed.max(paced).is_some_and(|span| span >= step / 2);
        let unsure = passed.is_none() || paced.is_none();
        let late = match step <= PCR_LATE {
            true => step <= PCR_APART || shown || unsure,
            false => step <= PCR_LEAP && shown,
        };
        if !late {
            return Some(TsCheck::PcrDiscontinuityError);
        }
        self.now += step;
        self.pace = (self.pace.0 + step, self.pace.1 + count);
        if self.pace.0 > PACE_OVER {
            self.pace = (self.pace.0 / 2, self.pace.1 / 2);
        }
        (step > PCR_APART).then_some(TsCheck::PcrRepetitionError)
    }
}

/// How exactly PCRs lie on a constant rate (2.4).
#[derive(Debug, Default)]
struct Rate {
    /// Packets and clock at each PCR.
    points: Vec<(u64, u64)>,
    /// Counts at the first of them.
    before: TsCounts,
}

impl Rate {
    /// A PCR; once in a while the verdict: the worst distance in nanoseconds, or that the rate is not constant.
    fn pcr(&mut self, counts: TsCounts, now: u64) -> Option<Option<u32>> {
        let undisturbed = counts.continuity_errors == self.before.continuity_errors
            && counts.transport_errors == self.before.transport_errors
            && counts.sync_losses == self.before.sync_losses;
        if self.points.is_empty() || !undisturbed {
            self.points.clear();
            self.before = counts;
        }
        self.points.push((counts.packets, now));
        if self.points.len() < RATE_POINTS {
            return None;
        }
        // Only stuffing makes a constant rate.
        let stuffed = counts.null > self.before.null;
        let worst = stuffed.then(|| self.worst_nanos()).flatten();
        self.points.clear();
        Some(worst)
    }

    /// Distance of the worst point from the straight line through all (least squares).
    fn worst_nanos(&self) -> Option<u32> {
        let &(first_packet, first_tick) = self.points.first()?;
        let points = || {
            self.points
                .iter()
                .map(|&(p, t)| ((p - first_packet) as f64, (t - first_tick) as f64))
        };
        let count = self.points.len() as f64;
        let (mean_x, mean_y) = points().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        let (mean_x, mean_y) = (mean_x / count, mean_y / count);
        let (square, product) = points().fold((0.0, 0.0), |(s, p), (x, y)| {
            (s + (x - mean_x).powi(2), p + (x - mean_x) * (y - mean_y))
        });
        if square <= 0.0 {
            return None;
        }
        let slope = product / square;
        let worst = points()
            .map(|(x, y)| (y - mean_y - slope * (x - mean_x)).abs() * 1000.0 / 27.0)
            .fold(0.0, f64::max);
        (worst <= CONSTANT_WITHIN_NANOS).then_some(worst.round() as u32)
    }
}

/// A PID that nothing refers to.
#[derive(Debug)]
struct Stray {
    pid: u16,
    since: u64,
    seen: bool,
}

/// State of the checks, apart from what belongs to a program or a stream. Bounded.
#[derive(Debug, Default)]
pub struct Checks {
    /// Found since last told.
    pub errors: TsErrors,
    /// From the PAT.
    pub network_pid: Option<u16>,
    /// The input ends here.
    pub ending: bool,
    /// The input may be a segment, or segments put together: tables are missed once they came again in time.
    pub perhaps_segments: bool,
    clock: Clock,
    rate: Rate,
    pat: Watch,
    service: [Watch; SERVICE.len()],
    cat: Watch,
    scrambled: Watch,
    scrambled_since: Option<u64>,
    cat_told: u64,
    entitlements: Vec<u16>,
    /// One bit a PID: some table refers to it. Empty when not everything that refers is read.
    referred: Vec<u64>,
    atsc: bool,
    strays: Vec<Stray>,
    strays_judged: u64,
    /// Clock when last told.
    told: Option<u64>,
    /// Packet count at which a report is due in any case.
    due_at: u64,
}

impl Checks {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            due_at: TELL_PACKETS,
            ..Self::default()
        }
    }

    /// What follows does not continue the clock.
    pub fn restart_clock(&mut self) {
        self.clock.last = None;
        self.clock.reference = None;
        self.rate.points.clear();
    }

    pub fn sync_loss(&mut self) {
        self.errors
            .add(TsCheck::TsSyncLoss, u32::from(!self.ending));
    }

    /// Whether this loss must be told now, because no packet may ever come.
    pub fn tells_loss(&self) -> bool {
        self.told.is_none()
    }

    /// Whether a report is due although the clock does not move.
    pub fn due(&self, packets: u64) -> bool {
        packets >= self.due_at
    }

    /// A section on the PID of the PAT.
    pub fn pat(&mut self, section: &[u8]) {
        match section.first() {
            Some(0) => self.pat.mark(),
            _ => self.errors.add(TsCheck::PatError, 1),
        }
    }

    /// A packet with payload that no followed program or table claims.
    #[inline]
    pub fn unclaimed(&mut self, pid: u16) {
        if !self.referred.is_empty() {
            self.stray(pid);
        }
    }

    fn stray(&mut self, pid: u16) {
        let word = self.referred.get(usize::from(pid) / 64);
        let referred = word.is_none_or(|word| word >> (pid % 64) & 1 == 1);
        if referred || pid <= LAST_RESERVED_PID {
            return;
        }
        if pid == ATSC_PID {
            self.atsc = true;
            self.referred.clear();
        } else if let Some(stray) = self.strays.iter_mut().find(|s| s.pid == pid) {
            stray.seen = true;
        } else if self.strays.len() < MAX_STRAYS {
            self.strays.push(Stray {
                pid,
                since: self.clock.now,
                seen: true,
            });
        }
    }

    /// What is overdue at a PCR, apart from what belongs to a program or a stream.
    fn overdue(&mut self) {
        let now = self.clock.now;
        let must_repeat = !self.perhaps_segments;
        if self.pat.overdue(now, TABLES) && (must_repeat || self.pat.repeats) {
            self.errors.add(TsCheck::PatError, 1);
        }
        for (watch, (_, _, limit, check)) in self.service.iter_mut().zip(SERVICE) {
            if watch.overdue_if_known(now, limit) && (must_repeat || watch.repeats) {
                self.errors.add(check, 1);
            }
        }
        self.overdue_cat(now);
        if now.saturating_sub(self.strays_judged) >= SECOND {
            self.strays_judged = now;
            self.strays.retain(|s| s.seen);
            for stray in &mut self.strays {
                stray.seen = false;
                if now.saturating_sub(stray.since) > UNREFERENCED {
                    self.errors.add(TsCheck::UnreferencedPid, 1);
                }
            }
        }
    }

    fn overdue_cat(&mut self, now: u64) {
        self.cat.note(now);
        self.scrambled.note(now);
        if !self.scrambled.within(now, SECOND) {
            self.scrambled_since = None;
            return;
        }
        let absent = !self.cat.within(now, CAT_AWAY);
        let since = *self.scrambled_since.get_or_insert(now);
        let lasting = now.saturating_sub(since) > SCRAMBLED_FOR;
        if lasting && absent && now.saturating_sub(self.cat_told) >= SECOND {
            self.cat_told = now;
            self.errors.add(TsCheck::CatError, 1);
        }
    }
}

impl Core {
    /// What few packets need.
    #[inline(never)]
    pub(super) fn seldom(&mut self, bad_sync: bool, marked: bool, found: &mut dyn FnMut(TsEvent)) {
        let errors = &mut self.checks.errors;
        errors.add(TsCheck::SyncByteError, u32::from(bad_sync));
        errors.add(TsCheck::TransportError, u32::from(marked));
        if self.checks.due(self.counts.packets) {
            self.tell_checked(found);
        }
    }

    /// Tells what was found, and that something was looked at.
    pub(super) fn tell_checked(&mut self, found: &mut dyn FnMut(TsEvent)) {
        let checks = &mut self.checks;
        checks.due_at = self.counts.packets + TELL_PACKETS;
        checks.told = Some(checks.clock.now);
        if !checks.errors.any() && self.chosen.is_none() {
            return;
        }
        let next = TsErrors {
            timed: checks.errors.timed,
            pcr_inaccuracy_nanos: checks.errors.pcr_inaccuracy_nanos,
            ..TsErrors::default()
        };
        found(TsEvent::Checked(std::mem::replace(
            &mut checks.errors,
            next,
        )));
    }

    /// A PCR of the chosen program.
    #[inline(never)]
    pub(super) fn pcr(&mut self, ticks: u64, discontinuity: bool, found: &mut dyn FnMut(TsEvent)) {
        found(TsEvent::Pcr {
            ticks,
            discontinuity,
        });
        let checks = &mut self.checks;
        let wrong = checks.clock.pcr(ticks, discontinuity, self.counts.packets);
        let now = checks.clock.now;
        if checks.errors.timed {
            if let Some(check) = wrong {
                checks.errors.add(check, 1);
            }
            if wrong.is_some() || discontinuity {
                checks.rate.points.clear();
            }
            if let Some(worst) = checks.rate.pcr(self.counts, now) {
                checks.errors.pcr_inaccuracy_nanos = worst;
            }
            self.overdue(now);
        }
        let told = self.checks.told.unwrap_or(0);
        if now.saturating_sub(told) >= TELL_EVERY {
            self.tell_checked(found);
        }
    }

    fn overdue(&mut self, now: u64) {
        self.checks.overdue();
        let must_repeat = !self.checks.perhaps_segments;
        let errors = &mut self.checks.errors;
        let chosen = self.chosen;
        let mut programs = self.programs.iter_mut();
        if let Some(program) = programs.find(|p| Some(p.entry.program) == chosen)
            && program.heard.overdue(now, TABLES)
            && (must_repeat || program.heard.repeats)
        {
            errors.add(TsCheck::PmtError, 1);
        }
        for stream in &mut self.streams {
            if stream.heard.overdue(now, PID_MISSING) {
                errors.add(TsCheck::PidError, 1);
            }
            if stream.stamped.overdue(now, PTS_APART) && stream.heard.within(now, PTS_APART) {
                errors.add(TsCheck::PtsError, 1);
            }
        }
    }

    /// A packet of a followed stream. `readable`: a PES packet begins in it, in the clear.
    pub(super) fn checked_stream(&mut self, at: usize, readable: bool, payload: &[u8]) {
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        stream.heard.mark();
        if stream.told {
            // Nobody can see its timestamps.
            stream.stamped.mark();
        }
        if !readable || !self.checks.errors.timed {
            return;
        }
        if let Some(time) = pes::decoding_time(payload) {
            stream.stamped.mark();
            if self.checks.clock.stamp(stream.pid, time) {
                self.checks.errors.add(TsCheck::PcrRepetitionError, 1);
            }
        }
    }

    /// A packet says that it is scrambled.
    #[inline(never)]
    pub(super) fn scrambled(&mut self, pid: u16, role: Role) {
        self.checks.scrambled.mark();
        let Role::Tables(_) = role else { return };
        let pmt = |p: &super::Program| p.entry.pmt_pid == pid;
        if pid == 0 {
            self.checks.errors.add(TsCheck::PatError, 1);
        } else if self.programs.iter().any(pmt) {
            self.checks.errors.add(TsCheck::PmtError, 1);
        }
    }

    /// A section that is neither of the PAT nor of a PMT.
    pub(super) fn other_table(&mut self, pid: u16, section: &[u8], found: &mut dyn FnMut(TsEvent)) {
        let Some(&table) = section.first() else {
            return;
        };
        if pid == CAT_PID {
            match psi::cat(section) {
                Some(mut pids) => {
                    self.checks.cat.mark();
                    pids.truncate(MAX_ENTITLEMENTS);
                    if self.checks.entitlements != pids {
                        self.checks.entitlements = pids;
                        self.refer();
                    }
                }
                None if table != psi::CAT => self.checks.errors.add(TsCheck::CatError, 1),
                None => {}
            }
        } else if table == psi::SPLICE && self.splice_pids().any(|p| p == pid) {
            found(TsEvent::Splice {
                section: section.to_vec(),
            });
        }
        let service = SERVICE
            .iter()
            .position(|(p, t, ..)| (*p, *t) == (pid, table));
        if let Some(watch) = service.and_then(|at| self.checks.service.get_mut(at)) {
            watch.mark();
        }
    }

    fn splice_pids(&self) -> impl Iterator<Item = u16> {
        let chosen = self.chosen;
        self.programs
            .iter()
            .filter(move |p| Some(p.entry.program) == chosen)
            .flat_map(|p| p.splice_pids.iter().copied())
    }

    /// PIDs of tables that are read beside those of programs.
    pub(super) fn other_tables(&self, tables: &[u16]) -> Vec<u16> {
        let service = [CAT_PID, NIT_PID, SDT_PID, EIT_PID, TDT_PID];
        let streams = || self.streams.iter().map(|s| s.pid);
        let mut pids: Vec<u16> = self.splice_pids().chain(service).collect();
        pids.retain(|pid| !tables.contains(pid) && streams().all(|s| s != *pid));
        pids
    }

    /// Notes every PID that some table refers to. Only a multiplex of one program is known well enough.
    pub(super) fn refer(&mut self) {
        let checks = &mut self.checks;
        checks.referred.clear();
        let [program] = self.programs.as_slice() else {
            return;
        };
        let known = program.crc.is_some() && !checks.atsc && checks.errors.timed;
        if !known {
            return;
        }
        checks.referred.resize(usize::from(NULL_PID) / 64 + 1, 0);
        let PatEntry { pmt_pid, .. } = program.entry;
        let tables = checks.network_pid.into_iter().chain([pmt_pid]);
        let pids = program.pids.iter().chain(&checks.entitlements).copied();
        for pid in pids.chain(tables) {
            if let Some(word) = checks.referred.get_mut(usize::from(pid) / 64) {
                *word |= 1 << (pid % 64);
            }
        }
        let referred = std::mem::take(&mut checks.referred);
        let free = |pid: u16| {
            let word = referred.get(usize::from(pid) / 64);
            word.is_some_and(|w| w >> (pid % 64) & 1 == 0)
        };
        checks.strays.retain(|s| free(s.pid));
        checks.referred = referred;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "checks_tests.rs"]
mod tests;
