//! Rules as data: from a signal to a state. The machine that runs them lives in the host.

use std::time::Duration;

use super::Cause;

/// A threshold with a direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Met when the value is at or above.
    AtLeast(f64),
    /// Met when the value is at or below.
    AtMost(f64),
}

impl Limit {
    /// Whether `value` meets the limit. NaN never does.
    pub fn met(self, value: f64) -> bool {
        match self {
            Limit::AtLeast(limit) => value >= limit,
            Limit::AtMost(limit) => value <= limit,
        }
    }

    /// The number alone.
    pub fn value(self) -> f64 {
        match self {
            Limit::AtLeast(v) | Limit::AtMost(v) => v,
        }
    }

    /// The same direction with another number.
    pub fn with_value(self, value: f64) -> Self {
        match self {
            Limit::AtLeast(_) => Limit::AtLeast(value),
            Limit::AtMost(_) => Limit::AtMost(value),
        }
    }
}

/// What a defect asks for, by default: critical pages, warning opens a ticket, info is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Record.
    Info,
    /// Ticket.
    Warning,
    /// Page.
    Critical,
}

impl Severity {
    /// Label value and config word.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// Default tier: `page`, `ticket` or `record`.
    pub fn tier(self) -> &'static str {
        match self {
            Severity::Info => "record",
            Severity::Warning => "ticket",
            Severity::Critical => "page",
        }
    }

    /// From the config word.
    pub fn parse(word: &str) -> Option<Self> {
        [Severity::Info, Severity::Warning, Severity::Critical]
            .into_iter()
            .find(|s| s.as_str() == word)
    }
}

/// Default rule of a detector; every number can be overridden in the configuration.
#[derive(Debug, Clone, Copy)]
pub struct RuleSpec {
    /// Unique within its detector, snake case (`frozen`, `no_input`).
    pub name: &'static str,
    /// Name of the judged signal, of the same detector.
    pub signal: &'static str,
    /// Raises while met.
    pub raise: Limit,
    /// Clears while met. Between the two limits the state stays.
    pub clear: Limit,
    /// How long `raise` must be met, on the signal's clock, before the defect is raised.
    pub hold: Duration,
    /// How long `clear` must be met before the defect is cleared.
    pub release: Duration,
    /// Severity when raised.
    pub severity: Severity,
    /// Cause unless the reading names one.
    pub cause: Cause,
    /// What a viewer notices, a sentence without stream or numbers: "The picture stands still."
    pub says: &'static str,
}
