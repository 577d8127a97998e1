//! Which streams fail together, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{About, Policy};

/// Labels of a stream.
pub type Labels = Arc<BTreeMap<String, String>>;

/// Streams that failed together.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    /// What they share.
    pub(super) about: About,
    /// Those that failed.
    pub(super) streams: BTreeSet<Arc<str>>,
    /// How many share it.
    pub(super) of_streams: usize,
}

/// Streams by the values of the labels that streams are grouped by.
#[derive(Debug)]
pub(super) struct Shared {
    instance: Arc<str>,
    by_value: BTreeMap<(usize, String), BTreeSet<Arc<str>>>,
    all: BTreeSet<Arc<str>>,
}

impl Shared {
    pub(super) fn new(
        instance: &Arc<str>,
        policy: &Policy,
        streams: &BTreeMap<Arc<str>, Labels>,
    ) -> Self {
        let mut by_value: BTreeMap<_, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (id, labels) in streams {
            for (rank, name) in policy.group_by.iter().enumerate() {
                if let Some(value) = labels.get(name) {
                    let with = by_value.entry((rank, value.clone())).or_default();
                    with.insert(Arc::clone(id));
                }
            }
        }
        Self {
            instance: Arc::clone(instance),
            by_value,
            all: streams.keys().cloned().collect(),
        }
    }

    /// Whether this stream shares a label value with enough others to be one of many.
    pub(super) fn has_company(&self, policy: &Policy, stream: &str) -> bool {
        let mut groups = self.by_value.values();
        groups.any(|with| with.len() >= policy.together_min && with.contains(stream))
    }

    /// The streams that a group is about.
    pub(super) fn members(&self, policy: &Policy, about: &About) -> Option<&BTreeSet<Arc<str>>> {
        match about {
            About::Stream(_) => None,
            About::Instance(_) => Some(&self.all),
            About::Label { name, value } => {
                let rank = policy.group_by.iter().position(|by| by == name)?;
                self.by_value.get(&(rank, value.clone()))
            }
        }
    }

    pub(super) fn all(&self) -> &BTreeSet<Arc<str>> {
        &self.all
    }

    /// The most specific group of streams that turned bad together and of which enough have no parent yet. `bad`: since
    /// when, and whether it has a parent.
    pub(super) fn together(
        &self,
        policy: &Policy,
        bad: &BTreeMap<Arc<str>, (Timestamp, bool)>,
    ) -> Option<Group> {
        let alone = |with: &BTreeSet<Arc<str>>| {
            let orphans = with.iter().filter(|id| bad.get(*id).is_some_and(|b| !b.1));
            orphans.count() >= policy.together_min
        };
        let of = |about: About, with: &BTreeSet<Arc<str>>, least: usize| {
            let streams = at_once(policy, bad, with);
            (streams.len() >= least.max(policy.together_min)).then_some(Group {
                about,
                streams,
                of_streams: with.len(),
            })
        };
        let mut values: Vec<_> = self
            .by_value
            .iter()
            .filter(|(_, with)| alone(with))
            .collect();
        values.sort_by_key(|((rank, _), with)| (with.len(), *rank));
        let by_label = values.into_iter().find_map(|((rank, value), with)| {
            let least = (with.len() as f64 * policy.together_ratio).ceil() as usize;
            let name = policy.group_by.get(*rank)?.clone();
            let value = value.clone();
            of(About::Label { name, value }, with, least)
        });
        by_label.or_else(|| {
            let all = alone(&self.all);
            let about = About::Instance(Arc::clone(&self.instance));
            all.then(|| of(about, &self.all, self.all.len()))?
        })
    }
}

/// Those of the streams that turned bad within the time that counts as together, the newest included.
fn at_once(
    policy: &Policy,
    bad: &BTreeMap<Arc<str>, (Timestamp, bool)>,
    with: &BTreeSet<Arc<str>>,
) -> BTreeSet<Arc<str>> {
    let since = |id: &Arc<str>| bad.get(id).map(|(since, _)| *since);
    let Some(newest) = with.iter().filter_map(since).max() else {
        return BTreeSet::new();
    };
    let first = newest - policy.together_within;
    let at_once = with
        .iter()
        .filter(|id| since(id).is_some_and(|since| since >= first));
    at_once.cloned().collect()
}
