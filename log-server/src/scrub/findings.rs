//! The damage that the scrub knows of, as it last saw it.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::log::Hole;
use serde::Serialize;
use utoipa::ToSchema;

/// Findings that are named one by one, over all partitions. Beyond that they are counted.
const NAMED_MAX: usize = 1000;

/// A stretch of a sealed segment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Finding {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The segment's file, relative to the data directory.
    pub file: String,
    /// The byte at which the damage begins.
    pub position: u64,
    /// Bytes of it.
    pub bytes: u64,
    /// The first offset that cannot be read.
    pub first_offset: i64,
    /// The last one.
    pub last_offset: i64,
    /// What is wrong.
    pub reason: String,
}

/// Holes by partition and segment.
#[derive(Debug, Default)]
pub(super) struct Findings {
    segments: BTreeMap<(Arc<str>, i32), BTreeMap<i64, Damaged>>,
    named: usize,
}

#[derive(Debug, Default)]
struct Damaged {
    holes: u64,
    named: Vec<Finding>,
}

impl Findings {
    /// Forgets what is known of a partition's segments that `keep` does not want.
    pub(super) fn retain(&mut self, topic: &Arc<str>, partition: i32, keep: impl Fn(i64) -> bool) {
        let key = (topic.clone(), partition);
        let Some(segments) = self.segments.get_mut(&key) else { return };
        segments.retain(|&base, damaged| {
            let kept = keep(base);
            self.named -= if kept { 0 } else { damaged.named.len() };
            kept
        });
        if segments.is_empty() {
            self.segments.remove(&key);
        }
    }

    /// Forgets partitions that `keep` does not want.
    pub(super) fn retain_partitions(&mut self, keep: impl Fn(&str, i32) -> bool) {
        self.segments.retain(|(topic, partition), _| keep(topic, *partition));
        self.named = self.named().count();
    }

    /// Takes note of a hole.
    pub(super) fn add(&mut self, topic: &Arc<str>, partition: i32, segment: i64, hole: &Hole) {
        let damaged =
            self.segments.entry((topic.clone(), partition)).or_default().entry(segment).or_default();
        damaged.holes += 1;
        if self.named < NAMED_MAX {
            self.named += 1;
            damaged.named.push(Finding {
                topic: topic.clone(),
                partition,
                file: hole.file.clone(),
                position: hole.positions.start,
                bytes: hole.positions.end - hole.positions.start,
                first_offset: hole.offsets.start,
                last_offset: hole.offsets.end - 1,
                reason: hole.reason.clone(),
            });
        }
    }

    /// How many holes each partition has that has any.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&Arc<str>, i32, u64)> {
        let holes = |segments: &BTreeMap<i64, Damaged>| segments.values().map(|damaged| damaged.holes).sum();
        self.segments.iter().map(move |((topic, partition), segments)| (topic, *partition, holes(segments)))
    }

    /// Those that are named.
    pub(super) fn named(&self) -> impl Iterator<Item = &Finding> {
        self.segments.values().flat_map(BTreeMap::values).flat_map(|damaged| &damaged.named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(position: u64) -> Hole {
        Hole {
            file: "f".to_owned(),
            positions: position..position + 10,
            offsets: 5..8,
            reason: "r".to_owned(),
        }
    }

    #[test]
    fn a_segment_that_is_read_again_is_counted_again() {
        let mut findings = Findings::default();
        let topic: Arc<str> = "orders".into();
        for position in [0, 20] {
            findings.add(&topic, 1, 100, &hole(position));
        }
        findings.add(&topic, 1, 200, &hole(0));
        assert_eq!(findings.counts().collect::<Vec<_>>(), [(&topic, 1, 3)]);
        let named: Vec<_> = findings.named().map(|finding| (finding.position, finding.last_offset)).collect();
        assert_eq!(named, [(0, 7), (20, 7), (0, 7)]);
        findings.retain(&topic, 1, |segment| segment != 100);
        assert_eq!(findings.counts().collect::<Vec<_>>(), [(&topic, 1, 1)]);
        findings.retain_partitions(|topic, partition| (topic, partition) == ("orders", 1));
        assert_eq!(findings.named, 1);
        findings.retain(&topic, 1, |_| false);
        assert_eq!((findings.counts().count(), findings.named), (0, 0));
    }

    #[test]
    fn a_disk_full_of_damage_is_counted_and_not_remembered() {
        let mut findings = Findings::default();
        let topic: Arc<str> = "orders".into();
        for _ in 0..NAMED_MAX + 5 {
            findings.add(&topic, 0, 0, &hole(0));
        }
        assert_eq!(findings.named().count(), NAMED_MAX);
        assert_eq!(findings.counts().next().unwrap().2, NAMED_MAX as u64 + 5);
    }
}
