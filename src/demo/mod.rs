//! The built-in demonstration: a fault-injecting live source, the daemon, and a comparer.
