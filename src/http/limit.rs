//! How often a client may change something.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Changes at once, and changes a minute from then on.
const CHANGES: u32 = 60;
const EVERY: Duration = Duration::from_secs(60);

/// Addresses that are remembered at most.
const CLIENTS: usize = 4096;

/// One bucket of changes for each address.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    /// When the bucket is full again.
    full_at: HashMap<IpAddr, Instant>,
}

impl Limiter {
    /// Takes one; `Err` says how long to wait.
    pub(super) fn admit(&mut self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let step = EVERY / CHANGES;
        let from = network(from);
        if self.full_at.len() >= CLIENTS && !self.full_at.contains_key(&from) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= CLIENTS {
                return Err(EVERY);
            }
        }
        let full_at = self.full_at.entry(from).or_insert(now);
        let next = (*full_at).max(now) + step;
        let over = next.saturating_duration_since(now).saturating_sub(EVERY);
        match over.is_zero() {
            true => {
                *full_at = next;
                Ok(())
            }
            false => Err(over),
        }
    }
}

/// A client has a whole /64 of IPv6 addresses.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn sixty_at_once_and_one_a_second_after_that() {
        let mut limiter = Limiter::default();
        let (now, from) = (Instant::now(), "10.0.0.1".parse().unwrap());
        for _ in 0..60 {
            assert_eq!(limiter.admit(from, now), Ok(()));
        }
        assert_eq!(limiter.admit(from, now), Err(Duration::from_secs(1)));
        assert_eq!(
            limiter.admit("10.0.0.2".parse().unwrap(), now),
            Ok(()),
            "others are not held"
        );
        let later = now + Duration::from_secs(1);
        assert_eq!(limiter.admit(from, later), Ok(()));
        assert!(limiter.admit(from, later).is_err());
    }

    #[test]
    fn one_network_is_one_client_and_the_table_is_bounded() {
        let mut limiter = Limiter::default();
        let now = Instant::now();
        let at = |n: u64, host: u128| IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 64 | host));
        for host in 0..60 {
            assert!(limiter.admit(at(1, host), now).is_ok());
        }
        assert!(limiter.admit(at(1, 99), now).is_err());
        for n in 2..2 * CLIENTS as u64 {
            let _ = limiter.admit(at(n, 0), now);
        }
        assert!(limiter.full_at.len() <= CLIENTS);
        assert!(limiter.admit(at(1 << 40, 0), now).is_err());
        let later = now + EVERY;
        assert!(limiter.admit(at(1 << 40, 0), later).is_ok());
    }
}
