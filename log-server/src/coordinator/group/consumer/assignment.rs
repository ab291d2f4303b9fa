//! A set of partitions by topic id: what a member is to have, has, or is to give up.

use super::TopicId;
use std::collections::{BTreeMap, BTreeSet};

/// Partitions of topics. No topic is in it without a partition, so that equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment(BTreeMap<TopicId, BTreeSet<i32>>);

impl Assignment {
    /// Adds a partition.
    pub fn insert(&mut self, topic: TopicId, partition: i32) {
        self.0.entry(topic).or_default().insert(partition);
    }

    /// Takes a partition out. False if it was not there.
    pub fn remove(&mut self, topic: TopicId, partition: i32) -> bool {
        let Some(partitions) = self.0.get_mut(&topic) else { return false };
        let removed = partitions.remove(&partition);
        if partitions.is_empty() {
            self.0.remove(&topic);
        }
        removed
    }

    /// Whether a partition is in it.
    pub fn contains(&self, topic: TopicId, partition: i32) -> bool {
        self.0.get(&topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// By topic, then by partition.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.0.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |index| (*topic, *index)))
    }

    /// Topics with their partitions.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (TopicId, &BTreeSet<i32>)> {
        self.0.iter().map(|(topic, partitions)| (*topic, partitions))
    }

    /// What is in both.
    pub fn intersection(&self, other: &Assignment) -> Assignment {
        self.iter().filter(|(topic, index)| other.contains(*topic, *index)).collect()
    }

    /// What is in this one and not in `other`.
    pub fn difference(&self, other: &Assignment) -> Assignment {
        self.iter().filter(|(topic, index)| !other.contains(*topic, *index)).collect()
    }

    /// Whether any partition is in both.
    pub fn intersects(&self, other: &Assignment) -> bool {
        self.iter().any(|(topic, index)| other.contains(topic, index))
    }

    /// Whether everything in this one is in `other`.
    pub fn is_subset_of(&self, other: &Assignment) -> bool {
        self.iter().all(|(topic, index)| other.contains(topic, index))
    }
}

impl FromIterator<(TopicId, i32)> for Assignment {
    fn from_iter<I: IntoIterator<Item = (TopicId, i32)>>(partitions: I) -> Self {
        let mut assignment = Assignment::default();
        assignment.extend(partitions);
        assignment
    }
}

impl Extend<(TopicId, i32)> for Assignment {
    fn extend<I: IntoIterator<Item = (TopicId, i32)>>(&mut self, partitions: I) {
        for (topic, partition) in partitions {
            self.insert(topic, partition);
        }
    }
}
