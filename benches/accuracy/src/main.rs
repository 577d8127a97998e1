//! The command of the proving ground.

fn main() {}
