//! Who gets what: the assignors that run here, as pure functions of members, topics and the last target.

use super::{Assignment, TopicId, assignor_range, assignor_uniform};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An assignor of the broker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// Everybody the same number of partitions, and as few as possible move. The default, as in Kafka.
    Uniform,
    /// Of each topic, everybody a range; partitions of the same number go together, which joins need.
    Range,
}

/// What is to be shared out.
#[derive(Debug, Default)]
pub(super) struct Problem {
    /// By member id: what it subscribes to. Only topics that are among `topics`.
    pub(super) members: BTreeMap<Arc<str>, Subscriber>,
    /// The number of partitions of each topic.
    pub(super) topics: BTreeMap<TopicId, i32>,
}

/// A member as an assignor sees it.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    /// Its instance id, if it is static.
    pub(super) instance_id: Option<Arc<str>>,
    /// What it subscribes to.
    pub(super) topics: BTreeSet<TopicId>,
    /// What the last target gave it.
    pub(super) before: Arc<Assignment>,
}

impl Assignor {
    /// Every assignor, the default first.
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// The name that clients ask for it by.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The assignor of that name.
    pub fn by_name(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// The one that most of `votes` name; of equals the first of [`ALL`](Self::ALL), so that a replay chooses alike.
    pub(super) fn elect<'a>(votes: impl Iterator<Item = &'a str>) -> Assignor {
        let mut counts = [0usize; Assignor::ALL.len()];
        for assignor in votes.filter_map(Assignor::by_name) {
            counts[assignor as usize] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(0);
        Assignor::ALL.into_iter().find(|it| counts[*it as usize] == most).unwrap_or(Assignor::Uniform)
    }

    /// A target for every member: each partition of a topic that somebody subscribes to goes to exactly one of them.
    pub(super) fn assign(self, problem: &Problem) -> BTreeMap<Arc<str>, Assignment> {
        match self {
            Assignor::Uniform => assignor_uniform::assign(problem),
            Assignor::Range => assignor_range::assign(problem),
        }
    }
}
