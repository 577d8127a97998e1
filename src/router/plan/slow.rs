//! What is moved without need, a little at a time: away from instances that carry too much, and for evenness.

use super::place::{Ask, Class, Limit, Zones};
use super::table::{Cause, Table};
use crate::router::unit::{Mobility, NodeState};

/// All that a host has of a bundle.
struct Part {
    bundle: usize,
    items: Vec<usize>,
    cores: f64,
}

/// What may still be moved in this call, in units. The first move is allowed however large it is.
pub(super) struct Budget {
    units: usize,
    used: bool,
}

impl Budget {
    fn allows(&self, units: usize) -> bool {
        !self.used || units <= self.units
    }

    fn spend(&mut self, units: usize) {
        self.used = true;
        self.units = self.units.saturating_sub(units);
    }

    fn spent(&self) -> bool {
        self.used && self.units == 0
    }
}

impl Table<'_> {
    pub fn slow_budget(&self) -> Budget {
        Budget {
            units: (self.items.len() as f64 * self.rules.slow_share) as usize,
            used: false,
        }
    }

    /// Sick and overloaded hosts give a part away, wards their other streams, twins in one zone part.
    pub fn relieve(&mut self, budget: &mut Budget) {
        let parts = self.parts();
        for (h, parts) in parts.iter().enumerate() {
            let host = &self.hosts[h];
            let (share, load, capacity) = (self.rules.shed_share, host.load, host.capacity);
            if host.node.state == NodeState::Sick {
                self.shed(h, parts, load * share, 0.0);
            } else if host.ward {
                // Of the capacity: a share of what is left would never end.
                self.shed(h, parts, capacity * share, 0.0);
            } else if host.shares() && host.overloaded() {
                self.shed(h, parts, load * share, capacity);
            }
        }
        let mut zones = self.hosts.iter().filter(|h| h.shares()).map(|h| h.zone);
        let first = zones.next();
        if zones.all(|zone| Some(zone) == first) {
            return;
        }
        for (h, parts) in parts.iter().enumerate() {
            if !self.hosts[h].shares() {
                continue;
            }
            for part in parts {
                if budget.spent() {
                    return;
                }
                if !budget.allows(part.items.len()) || self.apart(h, part) || !self.is_on(h, part) {
                    continue;
                }
                if self.shift(h, part, Zones::Apart, Limit::Cap, Cause::Rebalanced) {
                    budget.spend(part.items.len());
                }
            }
        }
    }

    /// Moves parts off a host until it has no more than `enough`, and no more than `most` cores of them but at least
    /// one.
    fn shed(&mut self, h: usize, parts: &[Part], most: f64, enough: f64) {
        let mut left = most;
        let mut last = None;
        for part in parts {
            if self.hosts[h].load <= enough {
                return;
            }
            if part.cores > left {
                last = Some(part);
            } else if self.shift(h, part, Zones::Any, Limit::Cap, Cause::Shed) {
                left -= part.cores;
            }
        }
        // Nothing was small enough: the smallest.
        if left == most
            && let Some(part) = last
        {
            self.shift(h, part, Zones::Any, Limit::Cap, Cause::Shed);
        }
    }

    /// Moves parts from hosts far above the mean until they are within the cap, then to hosts as far below it until
    /// they are at the mean; never to above the mean, so that it ends.
    pub fn rebalance(&mut self, budget: &mut Budget) {
        let parts = self.parts();
        let over = |t: &Self, h: usize| t.hosts[h].load / t.hosts[h].mean;
        let mut sharing: Vec<usize> = (0..self.hosts.len())
            .filter(|&h| self.hosts[h].shares() && self.hosts[h].mean > 0.0)
            .collect();
        sharing.sort_by(|&a, &b| over(self, b).total_cmp(&over(self, a)));
        let (cap, uneven) = (self.rules.cap_over_mean, self.rules.uneven_over_mean);
        for &h in &sharing {
            if over(self, h) <= uneven {
                break;
            }
            for part in &parts[h] {
                if budget.spent() || over(self, h) <= cap {
                    break;
                }
                if budget.allows(part.items.len())
                    && self.is_on(h, part)
                    && self.shift(h, part, Zones::Any, Limit::Mean, Cause::Rebalanced)
                {
                    budget.spend(part.items.len());
                }
            }
        }
        for &h in sharing.iter().rev() {
            if budget.spent() || over(self, h) >= 2.0 - uneven {
                break;
            }
            self.fill(h, &sharing, &parts, budget);
        }
    }

    /// Moves parts onto a host from those above the mean. Those come first that bring twins into different zones,
    /// then those whose rendezvous order has this host highest: what it would have had if it had always been there.
    fn fill(&mut self, to: usize, sharing: &[usize], parts: &[Vec<Part>], budget: &mut Budget) {
        let above = |t: &Self, h: usize| t.hosts[h].load > t.hosts[h].mean;
        // Whether it parts no twins, and what is above.
        let mut offers: Vec<(bool, u64, usize, &Part)> = Vec::new();
        for &from in sharing.iter().filter(|&&from| above(self, from)) {
            for part in &parts[from] {
                let id = self.hosts[to].node.id.as_bytes();
                let weight = self.bundles[part.bundle].seed.weight(id);
                let (before, after) = (self.apart(from, part), self.apart(to, part));
                if after || !before {
                    offers.push((before || !after, weight, from, part));
                }
            }
        }
        offers.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
        for (_, _, from, part) in offers {
            let host = &self.hosts[to];
            if budget.spent() || host.load >= host.mean {
                return;
            }
            if !above(self, from) || !budget.allows(part.items.len()) || !self.is_on(from, part) {
                continue;
            }
            let ask = self.lift(from, part);
            let fits = self.class(part.bundle, to) == Class::Up
                && self.fits(to, &ask, Zones::Any, Limit::Mean);
            self.drop_at(&ask, if fits { to } else { from }, Cause::Rebalanced, from);
            if fits {
                budget.spend(part.items.len());
            }
        }
    }

    /// Moves a part to the first host with room. Twins in different zones stay so; others may be moved as `zones` says.
    fn shift(
        &mut self,
        from: usize,
        part: &Part,
        zones: Zones,
        limit: Limit,
        cause: Cause,
    ) -> bool {
        let within = zones == Zones::Any && !self.apart(from, part);
        self.weigh(part.bundle);
        let ask = self.lift(from, part);
        let will_do = [Some(Zones::Apart), within.then_some(Zones::Any)];
        let mut will_do = will_do.into_iter().flatten();
        let to = will_do.find_map(|zones| {
            let first = self.first(&ask, zones, limit);
            // For evenness alone no cap is broken.
            first.or_else(|| match cause {
                Cause::Shed => {
                    (self.emptiest(&ask, zones, Class::Up, Limit::Capacity)).map(|e| e.1)
                }
                _ => None,
            })
        });
        self.drop_at(&ask, to.unwrap_or(from), cause, from);
        to.is_some()
    }

    fn lift(&mut self, from: usize, part: &Part) -> Ask {
        for &i in &part.items {
            self.take(i);
        }
        let mut ask = self.ask(part.bundle, part.items.clone());
        ask.not.push(from);
        ask
    }

    fn drop_at(&mut self, ask: &Ask, to: usize, cause: Cause, from: usize) {
        for &i in &ask.items {
            self.put(i, to);
            if to != from {
                self.items[i].cause = cause;
            }
        }
    }

    fn is_on(&self, host: usize, part: &Part) -> bool {
        part.items.iter().all(|&i| self.items[i].at == Some(host))
    }

    /// Whether no twin of a part is in the zone of its host.
    fn apart(&self, host: usize, part: &Part) -> bool {
        let twins = part.items.iter().filter_map(|&i| self.items[i].twin);
        let mut hosts = twins.filter_map(|t| self.items[t].at);
        hosts.all(|twin| self.hosts[twin].zone != self.hosts[host].zone)
    }

    /// What may be moved, by host, what costs most first.
    fn parts(&self) -> Vec<Vec<Part>> {
        let mut parts: Vec<Vec<Part>> = self.hosts.iter().map(|_| Vec::new()).collect();
        for (b, bundle) in self.bundles.iter().enumerate() {
            if bundle.mobility != Mobility::Free {
                continue;
            }
            let mut of: Vec<(usize, Part)> = Vec::new();
            for &i in &bundle.items {
                let item = &self.items[i];
                let Some(host) = item.at else { continue };
                match of.iter_mut().find(|(h, _)| *h == host) {
                    Some((_, part)) => part.items.push(i),
                    None => of.push((
                        host,
                        Part {
                            bundle: b,
                            items: vec![i],
                            cores: 0.0,
                        },
                    )),
                }
            }
            for (host, mut part) in of {
                // What is new or on the way is left alone, and so is what would leave it behind.
                let settled = |&i: &usize| self.items[i].holder == Some(host);
                if part.items.iter().all(settled) {
                    part.cores = self.ask(b, part.items.clone()).cores_alone();
                    parts[host].push(part);
                }
            }
        }
        for parts in &mut parts {
            parts.sort_by(|a, b| b.cores.total_cmp(&a.cores).then(a.bundle.cmp(&b.bundle)));
        }
        parts
    }
}
