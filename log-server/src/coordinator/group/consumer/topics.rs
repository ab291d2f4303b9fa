//! What a coordinator knows about topics: told to it from outside whenever they change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A topic's id: another one when a topic is created again under the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a group has to know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its id.
    pub id: TopicId,
    /// The number of its partitions.
    pub partitions: i32,
}

/// All topics that groups can subscribe to, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicImage {
    /// Counts up with each change within a run of the broker.
    pub version: i64,
    /// By name.
    pub by_name: BTreeMap<Arc<str>, TopicInfo>,
    /// Those of the broker's own: found by their names, never by a pattern.
    pub internal: BTreeSet<Arc<str>>,
}

impl TopicImage {
    /// The topic of that name.
    pub fn get(&self, name: &str) -> Option<&TopicInfo> {
        self.by_name.get(name)
    }
}
