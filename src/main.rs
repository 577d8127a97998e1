//! The `glasswatch` command.

fn main() {}
