//! The damage that the scrub knows of, as it last saw it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use log_core::log::Hole;
use log_core::wire::Uuid;
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

/// A partition of a topic. One that is created again under the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: Uuid,
    pub(super) partition: i32,
}

/// How many holes there are, by topic and partition.
pub(super) type Holes = BTreeMap<(Arc<str>, i32), u64>;

/// Holes by partition and segment.
#[derive(Debug, Default)]
pub(super) struct Findings {
    segments: BTreeMap<Key, BTreeMap<i64, Damaged>>,
    named: usize,
}

/// What is known of one segment. While it is read again, what was known stays, until the end shows that it is gone.
#[derive(Debug, Default)]
struct Damaged {
    holes: u64,
    /// By position, and whether this reading has seen it.
    named: BTreeMap<u64, (Finding, bool)>,
    /// How many this reading has seen.
    seen: u64,
}

impl Findings {
    /// Forgets segments that are not among those that a partition has now.
    pub(super) fn retain(&mut self, segments_of: impl Fn(&Key) -> BTreeSet<i64>) {
        self.segments.retain(|key, segments| {
            let there = segments_of(key);
            segments.retain(|base, _| there.contains(base));
            !segments.is_empty()
        });
        self.named = self.named().count();
    }

    /// A segment is read, for the first time or again.
    pub(super) fn begin(&mut self, key: &Key, segment: i64) {
        let Some(damaged) = self.segments.get_mut(key).and_then(|segments| segments.get_mut(&segment)) else {
            return;
        };
        damaged.seen = 0;
        damaged.named.values_mut().for_each(|(_, seen)| *seen = false);
    }

    /// Takes note of a hole.
    pub(super) fn see(&mut self, key: &Key, segment: i64, hole: &Hole) {
        let damaged = self.segments.entry(key.clone()).or_default().entry(segment).or_default();
        damaged.seen += 1;
        damaged.holes = damaged.holes.max(damaged.seen);
        let position = hole.positions.start;
        if !damaged.named.contains_key(&position) {
            if self.named == NAMED_MAX {
                return;
            }
            self.named += 1;
        }
        let finding = Finding {
            topic: key.topic.clone(),
            partition: key.partition,
            file: hole.file.clone(),
            position,
            bytes: hole.positions.end - position,
            first_offset: hole.offsets.start,
            last_offset: hole.offsets.end - 1,
            reason: hole.reason.clone(),
        };
        damaged.named.insert(position, (finding, true));
    }

    /// A segment has been read to its end: what this reading has not seen is not there any more.
    pub(super) fn end(&mut self, key: &Key, segment: i64) {
        let Some(segments) = self.segments.get_mut(key) else { return };
        if let Some(damaged) = segments.get_mut(&segment) {
            damaged.holes = damaged.seen;
            damaged.named.retain(|_, (_, seen)| *seen);
        }
        segments.retain(|_, damaged| damaged.holes > 0);
        if segments.is_empty() {
            self.segments.remove(key);
        }
        self.named = self.named().count();
    }

    /// A segment is not there any more, or another one is in its place.
    pub(super) fn forget(&mut self, key: &Key, segment: i64) {
        self.begin(key, segment);
        self.end(key, segment);
    }

    /// How many holes each partition has that has any.
    pub(super) fn counts(&self) -> Holes {
        let mut counts = Holes::new();
        for (key, segments) in &self.segments {
            // A topic of the same name that is gone may still be known.
            let count = counts.entry((key.topic.clone(), key.partition)).or_default();
            *count += segments.values().map(|damaged| damaged.holes).sum::<u64>();
        }
        counts
    }

    /// Those that are named.
    pub(super) fn named(&self) -> impl Iterator<Item = &Finding> {
        let damaged = self.segments.values().flat_map(BTreeMap::values);
        damaged.flat_map(|damaged| damaged.named.values()).map(|(finding, _)| finding)
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

    fn key(topic_id: u8, partition: i32) -> Key {
        Key { topic: "orders".into(), topic_id: Uuid::from_bytes([topic_id; 16]), partition }
    }

    fn positions(findings: &Findings) -> Vec<u64> {
        findings.named().map(|finding| finding.position).collect()
    }

    #[test]
    fn what_is_known_of_a_segment_stays_while_it_is_read_again() {
        let (mut findings, key) = (Findings::default(), key(1, 1));
        findings.begin(&key, 100);
        for position in [0, 20] {
            findings.see(&key, 100, &hole(position));
        }
        findings.end(&key, 100);
        findings.see(&key, 200, &hole(0));
        assert_eq!(findings.counts(), [((key.topic.clone(), 1), 3)].into());
        let named: Vec<_> = findings.named().map(|finding| (finding.position, finding.last_offset)).collect();
        assert_eq!(named, [(0, 7), (20, 7), (0, 7)]);
        // The first hole has gone, another one has come.
        findings.begin(&key, 100);
        assert_eq!(positions(&findings), [0, 20, 0]);
        findings.see(&key, 100, &hole(20));
        findings.see(&key, 100, &hole(30));
        assert_eq!(positions(&findings), [0, 20, 30, 0]);
        assert_eq!(findings.counts(), [((key.topic.clone(), 1), 3)].into());
        findings.end(&key, 100);
        assert_eq!(positions(&findings), [20, 30, 0]);
        assert_eq!(findings.counts(), [((key.topic.clone(), 1), 3)].into());
        findings.begin(&key, 100);
        findings.end(&key, 100);
        assert_eq!((positions(&findings), findings.named), (vec![0], 1));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut findings = Findings::default();
        let (old, new) = (key(1, 0), key(2, 0));
        for (key, segment) in [(&old, 0), (&new, 0), (&new, 100)] {
            findings.see(key, segment, &hole(0));
        }
        assert_eq!(findings.counts(), [((new.topic.clone(), 0), 3)].into(), "by name");
        findings.retain(|key| if *key == new { [100, 200].into() } else { BTreeSet::new() });
        assert_eq!(findings.counts(), [((new.topic.clone(), 0), 1)].into());
        assert_eq!(findings.named, 1);
        findings.see(&new, 200, &hole(0));
        findings.forget(&new, 100);
        assert_eq!((findings.counts()[&(new.topic.clone(), 0)], findings.named), (1, 1));
        findings.retain(|_| BTreeSet::new());
        assert_eq!((findings.counts().len(), findings.named), (0, 0));
    }

    #[test]
    fn a_disk_full_of_damage_is_counted_and_not_remembered() {
        let (mut findings, key) = (Findings::default(), key(1, 0));
        for _ in 0..2 {
            findings.begin(&key, 0);
            for position in 0..NAMED_MAX as u64 + 5 {
                findings.see(&key, 0, &hole(position));
            }
            assert_eq!(findings.named().count(), NAMED_MAX);
            assert_eq!(findings.counts()[&(key.topic.clone(), key.partition)], NAMED_MAX as u64 + 5);
        }
    }
}
