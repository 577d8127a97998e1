//! One lane per stream: mailbox, strict order, detectors, rules.
