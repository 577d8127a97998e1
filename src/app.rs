//! Starts, reloads and drains every part; the only place that knows them all.
