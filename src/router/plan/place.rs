//! Where what is to be placed goes.

use super::Why;
use super::table::{Cause, Host, Table};
use crate::router::unit::{Mobility, NodeState};

/// Sums of loads are not exact.
const SLACK: f64 = 1.0 + 1e-9;

/// How many instances a stream is to meet while there is room: the first of its rendezvous order.
const NEAR: usize = 3;

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

    /// Brings a bundle that must be together to where most of it is.
    fn join_up(&mut self, b: usize) {
        let bundle = &self.bundles[b];
        let items = bundle.items.clone();
        let here = self.most_of(&items);
        let all = |&h: &usize| {
            items
                .iter()
                .all(|&i| self.hosts[h].offers(self.items[i].group))
        };
        let whole = here.iter().copied().find(all);
        let pinned: Vec<usize> = items.iter().copied().filter(|&i| self.pinned(i)).collect();
        if let Some(&anchor) = self.most_of(&pinned).first() {
            self.join_at(anchor, &items);
            let lacks = |i: &usize| !self.hosts[anchor].offers(self.items[*i].group);
            let rest: Vec<usize> = pinned.into_iter().filter(lacks).collect();
            self.leave_out(&rest, Why::PinnedElsewhere);
        } else if let Some(anchor) = whole {
            self.join_at(anchor, &items);
        } else if bundle.mobility == Mobility::Quarantined && self.has_room_for_all(b) {
            for i in items {
                if self.items[i].at.is_some() {
                    self.displace(i);
                }
            }
        } else {
            // Nobody there runs all groups: at least each group is in one place.
            let mut rest = items;
            while let Some(&first) = rest.first() {
                let group = self.items[first].group;
                let same = |&i: &usize| self.items[i].group == group;
                let (of, others): (Vec<usize>, Vec<usize>) = rest.into_iter().partition(same);
                if let Some(&anchor) = self.most_of(&of).first() {
                    self.join_at(anchor, &of);
                }
                rest = others;
            }
        }
    }

    /// Whether somebody sends the stream to one address. Those that are compared with it may go elsewhere if they must.
    fn pinned(&self, item: usize) -> bool {
        let stream = &self.streams[self.items[item].stream];
        stream.demand.mobility == Mobility::Pinned
    }

    /// Hosts of some items, first those with the most cores of them.
    fn most_of(&self, items: &[usize]) -> Vec<usize> {
        let mut here: Vec<(f64, usize)> = Vec::new();
        for &i in items {
            let item = &self.items[i];
            let Some(host) = item.at else { continue };
            match here.iter_mut().find(|(_, h)| *h == host) {
                Some((cores, _)) => *cores += item.cores,
                None => here.push((item.cores, host)),
            }
        }
        here.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        here.into_iter().map(|(_, host)| host).collect()
    }

    /// Whether a host that is up, and not avoided, could take all of a bundle.
    fn has_room_for_all(&self, b: usize) -> bool {
        let items = &self.bundles[b].items;
        (0..self.hosts.len())
            .any(|h| self.class(b, h) <= Class::Ward && items.iter().all(|&i| self.takes(h, i)))
    }

    fn join_at(&mut self, anchor: usize, items: &[usize]) {
        for &i in items {
            let item = &self.items[i];
            let beside = item.twin.filter(|_| item.replica == 2);
            let beside = beside.and_then(|t| self.items[t].at) == Some(anchor);
            if beside || item.at == Some(anchor) || !self.hosts[anchor].offers(item.group) {
                continue;
            }
            let item = &mut self.items[i];
            // One that is new, lost or drained keeps that as its cause.
            if item.at.is_some() {
                item.cause = Cause::Required;
            }
            item.at = Some(anchor);
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
                    self.leave_out(&items, Why::NoSecondInstance);
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
        let mut pending: Vec<(f64, usize, Vec<usize>)> = Vec::new();
        for b in 0..self.bundles.len() {
            let items = self.pending_of(b);
            let cores = items.iter().map(|&i| self.items[i].cores).sum();
            if !items.is_empty() {
                pending.push((cores, b, items));
            }
        }
        pending.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, b, mut items) in pending {
            self.weigh(b);
            loop {
                self.follow(&mut items);
                if items.is_empty() {
                    break;
                }
                let Some((class, part)) = self.most(b, &items) else {
                    self.leave_out(&items, Why::NoSecondInstance);
                    break;
                };
                items.retain(|i| !part.contains(i));
                let ask = self.ask(b, part);
                self.place(&ask, class);
            }
        }
    }

    /// Places those of which the rest of their stream is pinned to a host already.
    fn follow(&mut self, items: &mut Vec<usize>) {
        items.retain(|&i| {
            let (first, end) = self.streams[self.items[i].stream].items;
            let host = (first..end).find_map(|other| self.items[other].at);
            let Some(host) = host.filter(|_| self.pinned(i)) else {
                return true;
            };
            if self.takes(host, i) {
                self.put(i, host);
            } else {
                self.leave_out(&[i], Why::PinnedElsewhere);
            }
            false
        });
    }

    fn pending_of(&self, b: usize) -> Vec<usize> {
        let items = self.bundles[b].items.iter().copied();
        items.filter(|&i| self.items[i].pending()).collect()
    }

    /// For a reason, unless it is that nobody runs the group.
    fn leave_out(&mut self, items: &[usize], why: Why) {
        for &i in items {
            let group = self.items[i].group;
            let offered = self.hosts.iter().any(|h| h.offers(group));
            let item = &mut self.items[i];
            item.at = None;
            item.out = Some(if offered { why } else { Why::NobodyOffers });
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

    /// A host that is up and has room: one that has a part of the bundle already, because it decodes the stream; the
    /// emptiest of the first three in rendezvous order, so that a stream that does harm meets few; the first below
    /// its fair share; the first below the limit.
    pub fn first(&self, ask: &Ask, zones: Zones, limit: Limit) -> Option<usize> {
        let up = |h: usize| self.class(ask.bundle, h) == Class::Up;
        let siblings = self.bundles[ask.bundle].items.iter();
        let mut decoding = siblings.filter_map(|&i| self.items[i].at);
        if let Some(host) = decoding.find(|&h| up(h) && self.fits(h, ask, zones, limit)) {
            return Some(host);
        }
        let near = self.nearest(ask).into_iter().flatten();
        let fill = |h: usize| self.hosts[h].load / self.hosts[h].capacity;
        let near = near.filter(|&h| self.fits(h, ask, zones, limit));
        if let Some(host) = near.min_by(|&a, &b| fill(a).total_cmp(&fill(b))) {
            return Some(host);
        }
        let any = |limit| {
            let mut best: Option<(u64, usize)> = None;
            for (h, &weight) in self.weights.iter().enumerate() {
                let heavier = best.is_none_or(|(least, _)| weight > least);
                if heavier && up(h) && self.fits(h, ask, zones, limit) {
                    best = Some((weight, h));
                }
            }
            best.map(|(_, host)| host)
        };
        any(Limit::Mean).or_else(|| any(limit))
    }

    /// The first in rendezvous order that are up and run the groups, full or not.
    fn nearest(&self, ask: &Ask) -> [Option<usize>; NEAR] {
        let mut near = [None; NEAR];
        let weight = |h: Option<usize>| h.map_or(0, |h| self.weights[h]);
        for h in 0..self.hosts.len() {
            let last = near[NEAR - 1];
            if last.is_some() && self.weights[h] <= weight(last)
                || self.class(ask.bundle, h) != Class::Up
                || !ask.groups.iter().all(|&g| self.hosts[h].offers(g))
            {
                continue;
            }
            near[NEAR - 1] = Some(h);
            let heavier = |&i: &usize| near[i].is_none() || self.weights[h] > weight(near[i]);
            let at = (0..NEAR).find(heavier).unwrap_or(NEAR - 1);
            near[at..].rotate_right(1);
        }
        near
    }

    /// The host that will be the least loaded of a class or (for `Ward`) better, with its load over its capacity.
    pub fn emptiest(
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
            ask.not.extend(self.beside(i));
            if let Some(host) = item.twin.and_then(|t| self.items[t].at) {
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
        self.hosts[host].offers(self.items[item].group) && self.beside(item) != Some(host)
    }

    /// Where the twin is. One that looks for a place may find none but the one that it has.
    fn beside(&self, item: usize) -> Option<usize> {
        let twin = &self.items[self.items[item].twin?];
        twin.at.or(twin.holder.filter(|_| twin.pending()))
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
