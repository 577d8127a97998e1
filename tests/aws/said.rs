//! Where an emulator of Amazon's services listens.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::Child;

/// Waits until it says so.
pub fn address(emulator: &mut Child) -> SocketAddr {
    let mut said = BufReader::new(emulator.stderr.take().unwrap()).lines();
    let address = said.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, at) = line.split_once("Running on http://")?;
        at.split_whitespace().next()?.parse().ok()
    });
    // Read on, so that it never waits for us.
    std::thread::spawn(move || said.for_each(drop));
    address.expect("the emulator says where it listens")
}
