//! What an instance follows, and what it does not although the planner says so.

use std::collections::HashSet;
use std::sync::Arc;

use crate::router::unit::{Plan, Unit};

/// Share of what live instances watch that a plan may drop at once, although it is still wanted.
const DROP_SHARE: f64 = 0.20;

/// Why a plan is not followed. Who refuses keeps the plan before, and says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The store was restored from an older state, or an old planner wrote.
    #[error("plan {offered} is older than plan {have}")]
    Older {
        /// Revision of the plan before.
        have: u64,
        /// Revision of what was refused.
        offered: u64,
    },
    /// Two planners wrote.
    #[error("there are two plans of revision {revision}")]
    Differs {
        /// Of both.
        revision: u64,
    },
    /// It moves units to an instance that does not live.
    #[error("the plan moves {units} units to `{node}`, which does not live")]
    Dead {
        /// Id of one such instance.
        node: Arc<str>,
        /// Units that go to any such.
        units: usize,
    },
    /// It leaves out too much of what is wanted, runs, and could go on.
    #[error(
        "the plan drops {dropped} of {of} detector groups on streams that are wanted and watched"
    )]
    Drops {
        /// Groups of detectors on streams that nobody would watch any more.
        dropped: usize,
        /// Those that live instances watch.
        of: usize,
    },
}

/// Whether an instance may follow a plan after the one it has.
///
/// `lives` must have been read after the plan, or instances that are new seem dead. `wanted` says whether what is
/// configured still has the unit's stream and group. Units that were on a dead instance before are no reason to
/// refuse: the planner has not got to them yet.
///
/// # Errors
/// Why it may not.
pub fn accept(
    have: &Plan,
    offered: &Plan,
    lives: &dyn Fn(&str) -> bool,
    wanted: &dyn Fn(&Unit) -> bool,
) -> Result<(), Refused> {
    if offered.revision < have.revision {
        return Err(Refused::Older {
            have: have.revision,
            offered: offered.revision,
        });
    }
    if offered.revision == have.revision {
        return match offered.units == have.units {
            true => Ok(()),
            false => Err(Refused::Differs {
                revision: have.revision,
            }),
        };
    }
    let mut dead = (offered.units.iter()).filter(|(unit, to)| {
        let stays = have.units.get(unit).is_some_and(|p| p.node == to.node);
        !stays && !lives(&to.node)
    });
    if let Some((_, first)) = dead.next() {
        return Err(Refused::Dead {
            node: first.node.clone(),
            units: 1 + dead.count(),
        });
    }
    // A twin less is nothing that is not watched any more.
    let watched: HashSet<(&str, &str)> = (have.units.iter())
        .filter(|(unit, p)| {
            let leaving = p.leaving.as_deref().is_some_and(lives);
            (leaving || lives(&p.node)) && wanted(unit)
        })
        .map(|(unit, _)| (&*unit.stream, &*unit.group))
        .collect();
    let kept: HashSet<(&str, &str)> = (offered.units.keys())
        .map(|unit| (&*unit.stream, &*unit.group))
        .collect();
    let dropped = watched.difference(&kept).count();
    if dropped as f64 > watched.len() as f64 * DROP_SHARE {
        return Err(Refused::Drops {
            dropped,
            of: watched.len(),
        });
    }
    Ok(())
}
