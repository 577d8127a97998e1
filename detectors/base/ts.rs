//! What the analyser of transport streams counts, by check of ETSI TR 101 290 V1.4.1, clause 5.2.

use super::Cause;

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $clause:literal, $priority:literal;)*) => {
        /// A check of ETSI TR 101 290, in its order. Named by the [`Cause`] of the same name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum TsCheck {
            $($(#[$doc])* $name,)*
        }

        impl TsCheck {
            /// Every check, in the standard's order.
            pub const ALL: &'static [TsCheck] = &[$(TsCheck::$name,)*];

            /// Clause, as tables of the standard number it.
            pub fn clause(self) -> &'static str {
                match self { $(TsCheck::$name => $clause,)* }
            }

            /// 1: needed for decoding at all; 2: recommended to watch; 3: depends on the application.
            pub fn priority(self) -> u8 {
                match self { $(TsCheck::$name => $priority,)* }
            }

            /// The cause that names it.
            pub fn cause(self) -> Cause {
                match self { $(TsCheck::$name => Cause::$name,)* }
            }
        }
    };
}

checks! {
    /// Sync lost (five packets in a row make it).
    TsSyncLoss = "1.1", 1;
    /// A sync byte other than 0x47 between packets that have it.
    SyncByteError = "1.2", 1;
    /// No PAT for 500 ms, another table on its PID, or scrambled.
    PatError = "1.3a", 1;
    /// Packets missing, out of order, or sent more than twice.
    ContinuityCountError = "1.4", 1;
    /// No PMT of the followed program for 500 ms, or scrambled.
    PmtError = "1.5a", 1;
    /// No packet of an announced picture or sound for 5 s.
    PidError = "1.6", 1;
    /// `transport_error_indicator` set.
    TransportError = "2.1", 2;
    /// Wrong CRC in a PAT, CAT, PMT, NIT, SDT, BAT, EIT, TOT or splice section.
    CrcError = "2.2", 2;
    /// More than 100 ms between PCRs (the limit of ISO/IEC 13818-1; DVB's 40 ms is a recommendation).
    PcrRepetitionError = "2.3a", 2;
    /// The PCR jumped by more than 100 ms without `discontinuity_indicator`.
    PcrDiscontinuityError = "2.3b", 2;
    /// More than 700 ms between the PTS of a picture or sound.
    PtsError = "2.5", 2;
    /// Scrambled packets without a CAT, or another table on its PID.
    CatError = "2.6", 2;
    /// A NIT of this network was there, and stayed away for 10 s.
    NitError = "3.1a", 3;
    /// What is on a PID that no table refers to for 500 ms.
    UnreferencedPid = "3.4", 3;
    /// An SDT of this stream was there, and stayed away for 2 s.
    SdtError = "3.5a", 3;
    /// An EIT (present and following) of this stream was there, and stayed away for 2 s.
    EitError = "3.6a", 3;
    /// A TDT was there, and stayed away for 30 s.
    TdtError = "3.8", 3;
}

impl TsCheck {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Label value.
    pub fn as_str(self) -> &'static str {
        self.cause().as_str()
    }
}

/// Errors found in a stretch of transport stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TsErrors {
    /// By number of the check.
    pub counts: [u32; TsCheck::COUNT],
    /// Whether intervals are judged: only where the multiplex is one continuous whole. Segments begin with tables of
    /// their own and hold none between.
    pub timed: bool,
    /// Worst distance of a PCR from a constant rate, nanoseconds (2.4); `None` when the rate is not constant, or not
    /// known yet.
    pub pcr_inaccuracy_nanos: Option<u32>,
}

impl TsErrors {
    /// Counts errors.
    pub fn add(&mut self, check: TsCheck, count: u32) {
        if let Some(slot) = self.counts.get_mut(check as usize) {
            *slot = slot.saturating_add(count);
        }
    }

    /// How many of a check.
    pub fn count(&self, check: TsCheck) -> u32 {
        self.counts.get(check as usize).copied().unwrap_or(0)
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.counts.iter().any(|n| *n > 0)
    }

    /// Adds what was found before; the rest of `self` is newer.
    pub fn absorb(&mut self, earlier: &Self) {
        for (slot, count) in self.counts.iter_mut().zip(&earlier.counts) {
            *slot = slot.saturating_add(*count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_stand_at_their_number_in_the_order_of_the_standard() {
        for (at, check) in TsCheck::ALL.iter().enumerate() {
            assert_eq!(*check as usize, at);
            let priority = check.priority().to_string();
            assert!(check.clause().starts_with(&priority), "{check:?}");
        }
        let clauses: Vec<_> = TsCheck::ALL.iter().map(|c| c.clause()).collect();
        assert!(clauses.is_sorted(), "{clauses:?}");
    }

    #[test]
    fn errors_are_added_and_never_overflow() {
        let mut early = TsErrors::default();
        early.add(TsCheck::CrcError, u32::MAX);
        assert!(early.any());
        let mut late = TsErrors {
            timed: true,
            pcr_inaccuracy_nanos: Some(7),
            ..TsErrors::default()
        };
        assert!(!late.any());
        late.add(TsCheck::CrcError, 5);
        late.add(TsCheck::PatError, 2);
        late.absorb(&early);
        assert_eq!(late.count(TsCheck::CrcError), u32::MAX);
        assert_eq!(late.count(TsCheck::PatError), 2);
        assert!(late.timed && late.pcr_inaccuracy_nanos == Some(7));
    }
}
