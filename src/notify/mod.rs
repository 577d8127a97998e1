//! Telling people: events and receivers.
