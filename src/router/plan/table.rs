//! What planning works on: everything interned once, then indices only.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Balance, Moves, Outcome, Repointed, Rules, Why};
use crate::router::shard::Seed;
use crate::router::unit::{Demand, Mobility, Node, NodeState, Placement, Plan, Unit};

/// What a unit costs at least, so that units whose cost nobody has measured yet spread out too.
const LEAST_CORES: f64 = 0.001;

/// An instance.
pub(super) struct Host<'a> {
    pub node: &'a Node,
    /// By group.
    pub offers: Vec<bool>,
    pub zone: usize,
    /// In cores, above 0.
    pub capacity: f64,
    /// Of what is to be here, in cores.
    pub load: f64,
    /// Kept for quarantined streams.
    pub ward: bool,
    /// Most load by the cap, in cores.
    pub cap: f64,
    /// Its fair share, in cores.
    pub mean: f64,
}

impl Host<'_> {
    pub fn offers(&self, group: usize) -> bool {
        self.offers.get(group).copied().unwrap_or(false)
    }

    /// More than it can carry, by more than sums are inexact.
    pub fn overloaded(&self) -> bool {
        self.load > self.capacity * (1.0 + 1e-6)
    }

    /// Takes part in evening out load.
    pub fn shares(&self) -> bool {
        self.node.state == NodeState::Up && !self.ward
    }
}

pub(super) struct Stream<'a> {
    pub demand: &'a Demand,
    pub decode: f64,
    /// Hosts with the number of units there: decoding is paid once on each.
    pub present: Vec<(usize, usize)>,
    /// Its items, from..to.
    pub items: (usize, usize),
}

impl Stream<'_> {
    pub fn is_on(&self, host: usize) -> bool {
        self.present.iter().any(|(h, _)| *h == host)
    }
}

/// Why a unit goes elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Lost,
    Drained,
    Required,
    Returned,
    Shed,
    Rebalanced,
}

/// A unit.
pub(super) struct Item<'a> {
    pub stream: usize,
    pub bundle: usize,
    /// Beyond all groups that hosts offer, if nobody does.
    pub group: usize,
    pub group_name: &'a Arc<str>,
    pub replica: u8,
    pub cores: f64,
    pub twin: Option<usize>,
    pub before: Option<(&'a Unit, &'a Placement)>,
    /// Where it is to be.
    pub at: Option<usize>,
    /// Who runs it until then, of those that live.
    pub holder: Option<usize>,
    pub cause: Cause,
    /// It is to be nowhere.
    pub out: Option<Why>,
}

impl Item<'_> {
    /// Whether it is still to be placed.
    pub fn pending(&self) -> bool {
        self.at.is_none() && self.out.is_none()
    }
}

/// What is placed as one where it can be: the groups of one stream, or of streams that are compared with each other,
/// once.
pub(super) struct Bundle {
    pub seed: Seed,
    /// Same for the bundle of the twins.
    pub cluster: usize,
    pub streams: usize,
    pub items: Vec<usize>,
    /// The strictest of its streams.
    pub mobility: Mobility,
    pub avoid: Vec<usize>,
}

impl Bundle {
    /// Whether its groups may go to different hosts for load.
    pub fn splits(&self) -> bool {
        self.streams == 1 && matches!(self.mobility, Mobility::Free | Mobility::Settled)
    }
}

pub(super) struct Table<'a> {
    pub rules: &'a Rules,
    pub hosts: Vec<Host<'a>>,
    pub streams: Vec<Stream<'a>>,
    /// In the order of units in a plan.
    pub items: Vec<Item<'a>>,
    pub bundles: Vec<Bundle>,
    /// Units of the plan before that nobody wants.
    gone: usize,
    /// Rendezvous weights of the hosts for one cluster.
    pub weights: Vec<u64>,
    pub weighed: Option<usize>,
}

impl<'a> Table<'a> {
    pub fn new(
        before: &'a Plan,
        demands: &'a [Demand],
        nodes: &'a [Node],
        rules: &'a Rules,
        running: &dyn Fn(&Unit, &str) -> bool,
    ) -> Self {
        let (hosts, groups) = hosts(nodes);
        let by_id: HashMap<&str, usize> = (hosts.iter().enumerate())
            .map(|(i, host)| (&*host.node.id, i))
            .collect();
        let mut sorted: Vec<&Demand> = demands.iter().collect();
        sorted.sort_by(|a, b| a.stream.cmp(&b.stream));
        sorted.dedup_by(|a, b| a.stream == b.stream);

        let mut table = Self {
            rules,
            hosts,
            streams: Vec::with_capacity(sorted.len()),
            items: Vec::with_capacity(before.units.len()),
            bundles: Vec::new(),
            gone: 0,
            weights: Vec::new(),
            weighed: None,
        };
        // The cluster's bundles of first and second replicas, by what it is placed by.
        let mut clusters: HashMap<&str, [Option<usize>; 2]> = HashMap::new();
        let mut old = before.units.iter().peekable();
        for demand in sorted {
            let key = demand.together.as_deref().unwrap_or(&demand.stream);
            let number = clusters.len();
            let cluster = clusters.entry(key).or_default();
            let stream = table.streams.len();
            let mut wanted: Vec<_> = demand.groups.iter().collect();
            wanted.sort_by(|a, b| a.0.cmp(&b.0));
            wanted.dedup_by(|a, b| a.0 == b.0);
            let first = table.items.len();
            for (name, cores) in wanted {
                for replica in 1..=replicas(demand) {
                    let key_of = (&*demand.stream, &**name, replica);
                    let mut held = None;
                    while let Some(next) = old.next_if(|(unit, _)| unit_key(unit) <= key_of) {
                        if unit_key(next.0) == key_of {
                            held = Some(next);
                        } else {
                            table.gone += 1;
                        }
                    }
                    let twin = replica == 2;
                    let bundle = *cluster[usize::from(twin)].get_or_insert(table.bundles.len());
                    if bundle == table.bundles.len() {
                        table.bundles.push(Bundle {
                            seed: Seed::of(key),
                            cluster: number,
                            streams: 0,
                            items: Vec::new(),
                            mobility: demand.mobility,
                            avoid: Vec::new(),
                        });
                    }
                    let index = table.items.len();
                    table.join(bundle, index, demand, &by_id);
                    table.items.push(Item {
                        stream,
                        bundle,
                        group: groups.get(&**name).copied().unwrap_or(usize::MAX),
                        group_name: name,
                        replica,
                        cores: cost(*cores).max(LEAST_CORES),
                        twin: match replica {
                            2 => Some(index - 1),
                            _ => (replicas(demand) == 2).then_some(index + 1),
                        },
                        before: held,
                        at: None,
                        holder: None,
                        cause: Cause::Lost,
                        out: None,
                    });
                }
            }
            table.streams.push(Stream {
                demand,
                decode: cost(demand.decode_cores),
                present: Vec::new(),
                items: (first, table.items.len()),
            });
        }
        table.gone += old.count();
        for index in 0..table.items.len() {
            table.stay(index, &by_id, running);
        }
        table
    }

    fn join(&mut self, bundle: usize, item: usize, demand: &Demand, by_id: &HashMap<&str, usize>) {
        let bundle = &mut self.bundles[bundle];
        let last = bundle.items.last().map(|&i| self.items[i].stream);
        if last != Some(self.streams.len()) {
            bundle.streams += 1;
            bundle.mobility = stricter(bundle.mobility, demand.mobility);
            let avoid = demand.avoid.as_deref();
            bundle.avoid.extend(avoid.and_then(|id| by_id.get(id)));
        }
        bundle.items.push(item);
    }

    /// Leaves a unit where it is, if it may stay. Nothing is counted as load yet.
    fn stay(
        &mut self,
        index: usize,
        by_id: &HashMap<&str, usize>,
        running: &dyn Fn(&Unit, &str) -> bool,
    ) {
        let item = &self.items[index];
        let Some((unit, placement)) = item.before else {
            return;
        };
        let alive = |id: &str| {
            let host = by_id.get(id).copied();
            host.filter(|&h| self.hosts[h].offers(item.group))
        };
        let node = alive(&placement.node);
        let old = placement.leaving.as_deref().and_then(alive);
        let arrived = node.is_some() && old.is_some() && running(unit, &placement.node);
        let holder = if arrived { node } else { old.or(node) };
        let avoid = &self.bundles[item.bundle].avoid;
        let keeps =
            |&h: &usize| self.hosts[h].node.state != NodeState::Draining && !avoid.contains(&h);
        let draining = |&h: &usize| self.hosts[h].node.state == NodeState::Draining;
        let (at, cause) = if node.as_ref().is_some_and(keeps) {
            (node, Cause::Lost)
        } else if holder != node && holder.as_ref().is_some_and(keeps) {
            (holder, Cause::Returned)
        } else if node.as_ref().is_some_and(draining) {
            (None, Cause::Drained)
        } else if node.is_some() {
            (None, Cause::Required)
        } else {
            (None, Cause::Lost)
        };
        let item = &mut self.items[index];
        (item.at, item.holder, item.cause) = (at, holder, cause);
    }

    /// Puts a unit onto a host.
    pub fn put(&mut self, item: usize, host: usize) {
        self.items[item].at = Some(host);
        self.count(item, host);
    }

    /// Counts the load of a unit that is on a host.
    pub fn count(&mut self, item: usize, host: usize) {
        let item = &self.items[item];
        let stream = &mut self.streams[item.stream];
        let load = &mut self.hosts[host].load;
        *load += item.cores;
        match stream.present.iter_mut().find(|(h, _)| *h == host) {
            Some((_, units)) => *units += 1,
            None => {
                stream.present.push((host, 1));
                *load += stream.decode;
            }
        }
    }

    /// Takes a unit off its host.
    pub fn take(&mut self, item: usize) {
        let item = &mut self.items[item];
        let Some(host) = item.at.take() else { return };
        let stream = &mut self.streams[item.stream];
        let load = &mut self.hosts[host].load;
        *load -= item.cores;
        if let Some(here) = stream.present.iter().position(|(h, _)| *h == host) {
            stream.present[here].1 -= 1;
            if stream.present[here].1 == 0 {
                stream.present.swap_remove(here);
                *load -= stream.decode;
            }
        }
    }

    /// Works out the fair share and the cap of every host, with what is still to be placed.
    ///
    /// Hosts share load as far as they have groups in common, also by way of others: where each group has its own
    /// instances, each has its own mean.
    pub fn level(&mut self) {
        let groups = self.hosts.first().map_or(0, |h| h.offers.len());
        let mut pools: Vec<usize> = (0..groups).collect();
        for host in self.hosts.iter().filter(|h| h.shares()) {
            let mut own = (0..groups).filter(|&g| host.offers[g]);
            let Some(first) = own.next() else { continue };
            for group in own {
                let (a, b) = (root(&pools, first), root(&pools, group));
                pools[a.max(b)] = a.min(b);
            }
        }
        let pool = |host: &Host| host.offers.iter().position(|o| *o).map(|g| root(&pools, g));
        let mut load = vec![0.0; groups];
        let mut capacity = vec![0.0; groups];
        for host in self.hosts.iter().filter(|h| h.shares()) {
            if let Some(pool) = pool(host) {
                load[pool] += host.load;
                capacity[pool] += host.capacity;
            }
        }
        for bundle in &self.bundles {
            let mut decoded = None;
            for &i in &bundle.items {
                let item = &self.items[i];
                if item.at.is_some() {
                    decoded = Some(item.stream);
                } else if item.pending() && item.group < groups {
                    let pool = root(&pools, item.group);
                    load[pool] += item.cores;
                    if decoded != Some(item.stream) {
                        decoded = Some(item.stream);
                        load[pool] += self.streams[item.stream].decode;
                    }
                }
            }
        }
        let means: Vec<f64> = (load.iter().zip(&capacity))
            .map(|(load, capacity)| {
                if *capacity > 0.0 {
                    load / capacity
                } else {
                    0.0
                }
            })
            .collect();
        for at in 0..self.hosts.len() {
            let mean = pool(&self.hosts[at]).map_or(0.0, |p| means[p]);
            let host = &mut self.hosts[at];
            host.mean = mean * host.capacity;
            // Above its capacity nobody is below a cap.
            host.cap = (host.mean * self.rules.cap_over_mean).min(host.capacity);
        }
    }

    /// The plan that the table says.
    pub fn outcome(self, before: &Plan) -> Outcome {
        let next = before.revision + 1;
        let mut moves = Moves {
            removed: self.gone,
            ..Moves::default()
        };
        let mut units = Vec::with_capacity(self.items.len());
        for item in &self.items {
            let Some(at) = item.at else {
                moves.removed += usize::from(item.before.is_some());
                continue;
            };
            let node = &self.hosts[at].node.id;
            let before = item.before.map(|(_, placement)| placement);
            let stays = before.filter(|b| b.node == *node);
            let quarantined = self.bundles[item.bundle].mobility == Mobility::Quarantined;
            let leaving = item.holder.filter(|&h| h != at && !quarantined);
            let leaving = leaving.map(|h| self.hosts[h].node.id.clone());
            match (stays, before, item.cause) {
                (Some(b), ..) => {
                    moves.finished += usize::from(b.leaving.is_some() && leaving.is_none());
                }
                (_, None, _) => moves.placed += 1,
                (.., Cause::Lost) => moves.lost += 1,
                (.., Cause::Drained) => moves.drained += 1,
                (.., Cause::Required) => moves.required += 1,
                (.., Cause::Returned) => moves.returned += 1,
                (.., Cause::Shed) => moves.shed += 1,
                (.., Cause::Rebalanced) => moves.rebalanced += 1,
            }
            let placement = Placement {
                node: node.clone(),
                fence: stays.map_or(next, |b| b.fence),
                leaving,
            };
            units.push((self.unit(item), placement));
        }
        let changed = moves != Moves::default();
        let plan = if changed {
            Plan {
                revision: next,
                units: units.into_iter().collect(),
            }
        } else {
            before.clone()
        };
        let out = |item: &Item| item.out.map(|why| (self.unit(item), why));
        let unplaced = self.items.iter().filter_map(out).collect();
        Outcome {
            plan,
            moves,
            unplaced,
            overloaded: (self.hosts.iter().filter(|h| h.overloaded()))
                .map(|h| h.node.id.clone())
                .collect(),
            repointed: self.repointed(),
            balance: self.balance(),
            loads: (self.hosts.iter())
                .map(|h| (h.node.id.clone(), h.load.max(0.0)))
                .collect(),
        }
    }

    fn unit(&self, item: &Item) -> Unit {
        Unit {
            stream: self.streams[item.stream].demand.stream.clone(),
            group: item.group_name.clone(),
            replica: item.replica,
        }
    }

    fn repointed(&self) -> Vec<Repointed> {
        let pinned = |s: &&Stream| s.demand.mobility == Mobility::Pinned;
        let mut all = Vec::new();
        for stream in self.streams.iter().filter(pinned) {
            let items = &self.items[stream.items.0..stream.items.1];
            let Some(was) = items.iter().find_map(|i| i.before) else {
                continue;
            };
            let Some(at) = items.iter().find_map(|i| i.at) else {
                continue;
            };
            let to = &self.hosts[at].node.id;
            let mut befores = items.iter().filter_map(|i| i.before);
            if !befores.any(|(_, b)| b.node == *to || b.leaving.as_ref() == Some(to)) {
                all.push(Repointed {
                    stream: stream.demand.stream.clone(),
                    from: was.1.node.clone(),
                    to: to.clone(),
                });
            }
        }
        all
    }

    fn balance(&self) -> Balance {
        let sharing = self.hosts.iter().filter(|h| h.shares() && h.mean > 0.0);
        let over = sharing.map(|h| h.load / h.mean);
        let ends = over.fold(None, |ends: Option<(f64, f64)>, x| {
            let (low, high) = ends.unwrap_or((x, x));
            Some((low.min(x), high.max(x)))
        });
        let (min_over_mean, max_over_mean) = ends.unwrap_or((1.0, 1.0));
        Balance {
            max_over_mean,
            min_over_mean,
        }
    }
}

/// By id, with the numbers of all groups that they offer.
fn hosts(nodes: &[Node]) -> (Vec<Host<'_>>, HashMap<&str, usize>) {
    let mut sorted: Vec<&Node> = nodes.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    sorted.dedup_by(|a, b| a.id == b.id);
    let mut groups: HashMap<&str, usize> = HashMap::new();
    let mut zones: HashMap<&str, usize> = HashMap::new();
    for node in &sorted {
        for group in &node.groups {
            let next = groups.len();
            groups.entry(group).or_insert(next);
        }
        let next = zones.len();
        zones.entry(&node.zone).or_insert(next);
    }
    let all = sorted.into_iter().map(|node| {
        let mut offers = vec![false; groups.len()];
        for group in &node.groups {
            offers[groups[&**group]] = true;
        }
        Host {
            node,
            offers,
            zone: zones[&*node.zone],
            capacity: cost(node.capacity_cores).max(LEAST_CORES),
            load: 0.0,
            ward: false,
            cap: 0.0,
            mean: 0.0,
        }
    });
    let all = all.collect();
    (all, groups)
}

fn unit_key(unit: &Unit) -> (&str, &str, u8) {
    (&unit.stream, &unit.group, unit.replica)
}

fn replicas(demand: &Demand) -> u8 {
    match demand.mobility {
        Mobility::Free | Mobility::Settled => demand.replicas.clamp(1, 2),
        Mobility::Pinned | Mobility::Quarantined => 1,
    }
}

fn stricter(a: Mobility, b: Mobility) -> Mobility {
    let rank = |m| match m {
        Mobility::Free => 0,
        Mobility::Settled => 1,
        Mobility::Pinned => 2,
        Mobility::Quarantined => 3,
    };
    if rank(a) < rank(b) { b } else { a }
}

/// Numbers come from measurements of others.
fn cost(cores: f64) -> f64 {
    if cores.is_finite() {
        cores.max(0.0)
    } else {
        0.0
    }
}

fn root(pools: &[usize], mut group: usize) -> usize {
    while pools[group] != group {
        group = pools[group];
    }
    group
}
