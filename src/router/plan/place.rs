//! Where what is to be placed goes.

use super::Why;
use super::table::{Cause, Host, Table};
use crate::router::unit::{Mobility, NodeState};

/// Sums of loads are not exact.
const SLACK: f64 = 1.0 + 1e-9;

/// What kind of place a host is for a bundle, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Up,
    /// Kept for others that are quarantined.
    Ward,
    Sick,
    Draining,
    Avoided,
}

/// Which zones will do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zones {
    /// None that has a twin.
    Apart,
    Any,
}

/// How full a host may become.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    Mean,
    Cap,
    Capacity,
    None,
}

impl Limit {
    fn of(self, host: &Host) -> f64 {
        match self {
            Self::Mean => host.mean,
            Self::Cap => host.cap,
            Self::Capacity => host.capacity,
            Self::None => f64::INFINITY,
        }
    }
}

/// A part of a bundle that looks for one host.
pub(super) struct Ask {
    pub bundle: usize,
    pub items: Vec<usize>,
    groups: Vec<usize>,
    cores: f64,
    /// Streams with what decoding each costs.
    decodes: Vec<(usize, f64)>,
    /// Hosts that will not do: those of the twins, and the one that it comes from.
    pub not: Vec<usize>,
    /// Zones of the twins.
    zones: Vec<usize>,
}

impl Ask {
    /// What it costs on a host that has nothing of its streams, in cores.
    pub fn cores_alone(&self) -> f64 {
        self.cores + self.decodes.iter().map(|(_, d)| d).sum::<f64>()
    }
}

impl Table<'_> {
    /// Brings together what must be, and parts twins. Nothing is counted as load before.
    pub fn gather(&mut self) {
        for at in 0..self.bundles.len() {
            for i in self.bundles[at].items.clone() {
                // First replicas come before second ones, so they are settled by now.
                let twin = self.items[i].twin.filter(|_| self.items[i].replica == 2);
                let beside = twin.and_then(|t| self.items[t].at);
                if beside.is_some() && self.items[i].at == beside {
                    self.displace(i);
                }
            }
            if !self.bundles[at].splits() {
                self.join_up(at);
            }
        }
        for i in 0..self.items.len() {
            if let Some(host) = self.items[i].at {
                self.count(i, host);
            }
        }
    }

    fn displace(&mut self, item: usize) {
        let item = &mut self.items[item];
        item.at = None;
        item.cause = Cause::Required;
    }

    /// Puts a bundle that must be together to where most of it is.
    fn join_up(&mut self, at: usize) {
        let bundle = &self.bundles[at];
        let mut here: Vec<(f64, usize)> = Vec::new();
        for &i in &bundle.items {
            let item = &self.items[i];
            let Some(host) = item.at else { continue };
            match here.iter_mut().find(|(_, h)| *h == host) {
                Some((cores, _)) => *cores += item.cores,
                None => here.push((item.cores, host)),
            }
        }
        // On equal cores the first by id.
        here.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let Some(&(_, anchor)) = here.first() else {
            return;
        };
        let pinned = bundle.mobility == Mobility::Pinned;
        for i in bundle.items.clone() {
            let item = &self.items[i];
            let beside = item.twin.and_then(|t| self.items[t].at);
            let fits = self.hosts[anchor].offers(item.group);
            let twin_first = item.replica == 2 && beside == Some(anchor);
            let item = &mut self.items[i];
            if fits && !twin_first && item.at != Some(anchor) {
                // One that is new, lost or drained keeps that as its cause.
                if item.at.is_some() {
                    item.cause = Cause::Required;
                }
                item.at = Some(anchor);
            } else if !fits && pinned {
                item.at = None;
                item.out = Some(Why::PinnedElsewhere);
            }
        }
    }

    /// Gives quarantined streams instances of their own, as far as there are enough.
    pub fn quarantine(&mut self) {
        let up = |h: &&Host| h.node.state == NodeState::Up;
        let up = self.hosts.iter().filter(up).count();
        let mut wards = match up {
            0 | 1 => 0,
            _ => ((up as f64 * self.rules.ward_share) as usize).clamp(1, up - 1),
        };
        let ill: Vec<usize> = (0..self.bundles.len())
            .filter(|&b| self.bundles[b].mobility == Mobility::Quarantined)
            .collect();
        for &b in &ill {
            for i in self.bundles[b].items.clone() {
                if let Some(host) = self.items[i].at {
                    self.isolate(host, &mut wards);
                }
            }
        }
        let pinned = self.pinned_hosts();
        for &b in &ill {
            self.weigh(b);
            let mut items = self.pending_of(b);
            while !items.is_empty() {
                let Some((host, part)) = self.ward_for(b, &items, wards, &pinned) else {
                    self.leave_out(&items);
                    break;
                };
                for &i in &part {
                    self.put(i, host);
                }
                self.isolate(host, &mut wards);
                items.retain(|i| !part.contains(i));
            }
        }
    }

    fn isolate(&mut self, host: usize, wards: &mut usize) {
        let host = &mut self.hosts[host];
        if *wards > 0 && host.shares() {
            host.ward = true;
            *wards -= 1;
        }
    }

    /// The host that carries least, among those that are no worse and run no fewer of the groups.
    fn ward_for(
        &self,
        b: usize,
        items: &[usize],
        wards: usize,
        pinned: &[bool],
    ) -> Option<(usize, Vec<usize>)> {
        let choices = (0..self.hosts.len()).filter_map(|h| {
            let host = &self.hosts[h];
            let part = self.usable(h, items);
            // Its own one while there are any left, then that of another one.
            let shared = (wards > 0) == host.ward;
            let class = match self.class(b, h) {
                Class::Ward => Class::Up,
                class => class,
            };
            let key = (class, items.len() - part.len(), shared, pinned[h]);
            (!part.is_empty()).then(|| (key, host.load / host.capacity, h, part))
        });
        let best = choices.min_by(|a, b| {
            let by_load = a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
            by_load.then(self.weights[b.2].cmp(&self.weights[a.2]))
        });
        best.map(|(_, _, host, part)| (host, part))
    }

    /// By host, whether a stream is pinned to it, so that it cannot be cleared.
    fn pinned_hosts(&self) -> Vec<bool> {
        let mut pinned = vec![false; self.hosts.len()];
        for item in &self.items {
            if let Some(host) = item.at
                && self.bundles[item.bundle].mobility == Mobility::Pinned
            {
                pinned[host] = true;
            }
        }
        pinned
    }

    /// Places all that has no place, what costs most first: then what comes last finds room by its size.
    pub fn place_pending(&mut self) {
        let mut pending: Vec<(f64, usize)> = Vec::new();
        for b in 0..self.bundles.len() {
            let items = self.bundles[b].items.iter();
            let cores = items.map(|&i| &self.items[i]).filter(|i| i.pending());
            let cores = cores.map(|i| i.cores).reduce(|a, b| a + b);
            pending.extend(cores.map(|cores| (cores, b)));
        }
        pending.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, b) in pending {
            self.weigh(b);
            let mut items = self.pending_of(b);
            while !items.is_empty() {
                let Some((class, part)) = self.most(b, &items) else {
                    self.leave_out(&items);
                    break;
                };
                items.retain(|i| !part.contains(i));
                let ask = self.ask(b, part);
                self.place(&ask, class);
                if self.bundles[b].mobility == Mobility::Pinned {
                    for i in items.drain(..) {
                        self.items[i].out = Some(Why::PinnedElsewhere);
                    }
                }
            }
        }
    }

    fn pending_of(&self, b: usize) -> Vec<usize> {
        let items = self.bundles[b].items.iter().copied();
        items.filter(|&i| self.items[i].pending()).collect()
    }

    fn leave_out(&mut self, items: &[usize]) {
        for &i in items {
            let offered = self.hosts.iter().any(|h| h.offers(self.items[i].group));
            self.items[i].out = Some(if offered {
                Why::NoSecondInstance
            } else {
                Why::NobodyOffers
            });
        }
    }

    /// The best class of hosts that has any for some of the items, and as many of them as one host of it takes.
    fn most(&self, b: usize, items: &[usize]) -> Option<(Class, Vec<usize>)> {
        let mut best: Option<(Class, usize, u64, usize)> = None;
        for h in 0..self.hosts.len() {
            let count = items.iter().filter(|&&i| self.takes(h, i)).count();
            let class = self.class(b, h);
            if count == items.len() && class == Class::Up {
                return Some((class, items.to_vec()));
            }
            let better = best.is_none_or(|(c, n, weight, _)| {
                let order = c.cmp(&class).then(count.cmp(&n));
                order.then(self.weights[h].cmp(&weight)).is_gt()
            });
            if count > 0 && better {
                best = Some((class, count, self.weights[h], h));
            }
        }
        best.map(|(class, _, _, h)| (class, self.usable(h, items)))
    }

    /// Puts the items of an ask onto one host of a class, or of class `Up` onto several if they only fit so. There
    /// is at least one host of this class that takes them.
    fn place(&mut self, ask: &Ask, class: Class) {
        if class == Class::Up {
            let zones = [Zones::Apart, Zones::Any];
            for zone in &zones[usize::from(ask.zones.is_empty())..] {
                if let Some(host) = self.first(ask, *zone, Limit::Cap) {
                    return self.put_all(&ask.items, host);
                }
                if self.split(ask, *zone) {
                    return;
                }
                if let Some((_, host)) = self.emptiest(ask, *zone, Class::Up, Limit::Capacity) {
                    return self.put_all(&ask.items, host);
                }
            }
        }
        let holder = ask.items.iter().find_map(|&i| self.items[i].holder);
        let holder = holder.filter(|&h| class >= Class::Sick && self.class(ask.bundle, h) == class);
        let holder = holder.filter(|&h| self.fits(h, ask, Zones::Any, Limit::None));
        if let Some(host) = holder.or_else(|| self.least_evil(ask, class.max(Class::Ward))) {
            self.put_all(&ask.items, host);
        }
    }

    /// Nobody has room: the least loaded, in another zone than the twin if that is not much worse. A quarantined
    /// stream as a neighbour is the lesser evil.
    fn least_evil(&self, ask: &Ask, worst: Class) -> Option<usize> {
        let (least, host) = self.emptiest(ask, Zones::Any, worst, Limit::None)?;
        let apart = self.emptiest(ask, Zones::Apart, worst, Limit::None);
        let near = apart.filter(|(load, _)| *load <= least * self.rules.cap_over_mean);
        Some(near.map_or(host, |(_, host)| host))
    }

    fn put_all(&mut self, items: &[usize], host: usize) {
        for &i in items {
            self.put(i, host);
        }
    }

    /// Places the items one by one below the cap, if all find room so.
    fn split(&mut self, ask: &Ask, zones: Zones) -> bool {
        if ask.items.len() < 2 || !self.bundles[ask.bundle].splits() {
            return false;
        }
        let mut items = ask.items.clone();
        items.sort_by(|&a, &b| self.items[b].cores.total_cmp(&self.items[a].cores));
        for &i in &items {
            let one = self.ask(ask.bundle, vec![i]);
            let Some(host) = self.first(&one, zones, Limit::Cap) else {
                for &i in &items {
                    self.take(i);
                }
                return false;
            };
            self.put(i, host);
        }
        true
    }

    /// The first host in rendezvous order that is up and has room; before all others those that have a part of the
    /// bundle already, because they decode the stream.
    pub fn first(&self, ask: &Ask, zones: Zones, limit: Limit) -> Option<usize> {
        let siblings = self.bundles[ask.bundle].items.iter();
        let mut decoding = siblings.filter_map(|&i| self.items[i].at);
        let up = |h: &usize| self.class(ask.bundle, *h) == Class::Up;
        if let Some(host) = decoding.find(|h| up(h) && self.fits(*h, ask, zones, limit)) {
            return Some(host);
        }
        let mut best: Option<(u64, usize)> = None;
        for (h, &weight) in self.weights.iter().enumerate() {
            let heavier = best.is_none_or(|(least, _)| weight > least);
            if heavier && up(&h) && self.fits(h, ask, zones, limit) {
                best = Some((weight, h));
            }
        }
        best.map(|(_, host)| host)
    }

    /// The host that will be the least loaded of a class or (for `Ward`) better, with its load over its capacity.
    fn emptiest(
        &self,
        ask: &Ask,
        zones: Zones,
        worst: Class,
        limit: Limit,
    ) -> Option<(f64, usize)> {
        let of_class = |h: &usize| match self.class(ask.bundle, *h) {
            Class::Up => worst <= Class::Ward,
            class => class == worst,
        };
        let loads = (0..self.hosts.len())
            .filter(of_class)
            .filter(|&h| self.fits(h, ask, zones, limit))
            .map(|h| {
                (
                    (self.hosts[h].load + self.cost(h, ask)) / self.hosts[h].capacity,
                    h,
                )
            });
        loads.min_by(|a, b| {
            let by_load = a.0.total_cmp(&b.0);
            by_load.then(self.weights[b.1].cmp(&self.weights[a.1]))
        })
    }

    pub fn ask(&self, bundle: usize, items: Vec<usize>) -> Ask {
        let mut ask = Ask {
            bundle,
            groups: Vec::with_capacity(items.len()),
            cores: 0.0,
            decodes: Vec::new(),
            not: Vec::new(),
            zones: Vec::new(),
            items,
        };
        for &i in &ask.items {
            let item = &self.items[i];
            ask.groups.push(item.group);
            ask.cores += item.cores;
            if ask.decodes.last().is_none_or(|(s, _)| *s != item.stream) {
                let decode = self.streams[item.stream].decode;
                ask.decodes.push((item.stream, decode));
            }
            if let Some(host) = item.twin.and_then(|t| self.items[t].at) {
                ask.not.push(host);
                ask.zones.push(self.hosts[host].zone);
            }
        }
        ask
    }

    /// What the items of an ask add to the load of a host, in cores.
    pub fn cost(&self, host: usize, ask: &Ask) -> f64 {
        let new = |(stream, _): &&(usize, f64)| !self.streams[*stream].is_on(host);
        ask.cores + ask.decodes.iter().filter(new).map(|(_, d)| d).sum::<f64>()
    }

    pub fn fits(&self, h: usize, ask: &Ask, zones: Zones, limit: Limit) -> bool {
        let host = &self.hosts[h];
        let limit = limit.of(host) * SLACK;
        host.load + ask.cores <= limit
            && host.load + self.cost(h, ask) <= limit
            && !ask.not.contains(&h)
            && (zones == Zones::Any || !ask.zones.contains(&host.zone))
            && ask.groups.iter().all(|&g| host.offers(g))
    }

    fn takes(&self, host: usize, item: usize) -> bool {
        let item = &self.items[item];
        let beside = item.twin.and_then(|t| self.items[t].at);
        self.hosts[host].offers(item.group) && beside != Some(host)
    }

    fn usable(&self, host: usize, items: &[usize]) -> Vec<usize> {
        let items = items.iter().copied();
        items.filter(|&i| self.takes(host, i)).collect()
    }

    pub fn class(&self, bundle: usize, host: usize) -> Class {
        if self.bundles[bundle].avoid.contains(&host) {
            return Class::Avoided;
        }
        let host = &self.hosts[host];
        match host.node.state {
            NodeState::Up if host.ward => Class::Ward,
            NodeState::Up => Class::Up,
            NodeState::Sick => Class::Sick,
            NodeState::Draining => Class::Draining,
        }
    }

    /// Works out the rendezvous order of a bundle, unless it is that of the last one.
    pub fn weigh(&mut self, bundle: usize) {
        let bundle = &self.bundles[bundle];
        if self.weighed != Some(bundle.cluster) {
            self.weighed = Some(bundle.cluster);
            let weights = (self.hosts.iter()).map(|h| bundle.seed.weight(h.node.id.as_bytes()));
            self.weights = weights.collect();
        }
    }
}
