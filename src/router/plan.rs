//! Pure assignment of streams to instances.

