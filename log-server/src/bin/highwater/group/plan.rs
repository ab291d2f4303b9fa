//! What a reset comes to: for each partition the old offset, the new one, and why it is another than was asked for.
//!
//! Pure. The rules are those of Kafka's `kafka-consumer-groups --reset-offsets`: what lies outside of the log is moved
//! to its nearer end, a time that no record is as late as is the end, and a group that has committed nothing has no
//! offset to shift.

use std::collections::BTreeMap;

use log_client::TopicPartition;

use crate::human;

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This offset, in each partition.
    Offset(i64),
    /// What was looked up; a partition that is not in it has no record as late as was asked for.
    Found(BTreeMap<TopicPartition, i64>),
    /// So many records on from what is committed, or back.
    Shift(i64),
    /// What is committed, brought back into the log.
    Current,
}

/// What there is of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that is still there.
    pub first: i64,
    /// The offset of the next record.
    pub end: i64,
    /// What the group has committed.
    pub committed: Option<i64>,
}

/// One partition's part of a reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub partition: TopicPartition,
    pub old: Option<i64>,
    pub new: i64,
    /// Why it is not what was asked for.
    pub note: Option<String>,
}

/// The moves, by partition.
///
/// # Errors
/// A shift of a partition for which nothing is committed.
pub fn plan(target: &Target, partitions: &BTreeMap<TopicPartition, Bounds>) -> Result<Vec<Move>, String> {
    let moves = partitions.iter().map(|(partition, bounds)| {
        let (wanted, note) = wanted(target, partition, bounds)?;
        let (new, clamped) = clamp(wanted, bounds);
        Ok(Move { partition: partition.clone(), old: bounds.committed, new, note: clamped.or(note) })
    });
    moves.collect()
}

/// The offset that is asked for, before it is held against the log.
fn wanted(
    target: &Target,
    partition: &TopicPartition,
    bounds: &Bounds,
) -> Result<(i64, Option<String>), String> {
    Ok(match (target, bounds.committed) {
        (Target::Offset(offset), _) => (*offset, None),
        (Target::Found(found), _) => match found.get(partition) {
            Some(&offset) => (offset, None),
            None => (bounds.end, Some("no record is as late: the end".to_owned())),
        },
        (Target::Shift(by), Some(committed)) => (committed.saturating_add(*by), None),
        (Target::Shift(_), None) => {
            return Err(format!("the group has committed nothing for {partition} that could be shifted"));
        }
        (Target::Current, Some(committed)) => (committed, None),
        (Target::Current, None) => (bounds.end, Some("nothing is committed: the end".to_owned())),
    })
}

fn clamp(wanted: i64, bounds: &Bounds) -> (i64, Option<String>) {
    let shown = human::count(wanted);
    if wanted < bounds.first {
        (bounds.first, Some(format!("{shown} is before the first record")))
    } else if wanted > bounds.end {
        (bounds.end, Some(format!("{shown} is behind the end")))
    } else {
        (wanted, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(target: &Target, committed: Option<i64>) -> (i64, Option<String>) {
        let partition = TopicPartition::new("t", 0);
        let bounds = Bounds { first: 10, end: 100, committed };
        let mut moves = plan(target, &[(partition, bounds)].into()).unwrap();
        assert_eq!(moves[0].old, committed);
        (moves[0].new, moves.remove(0).note)
    }

    #[test]
    fn what_lies_outside_of_the_log_is_moved_to_its_nearer_end_and_said() {
        assert_eq!(moved(&Target::Offset(50), None), (50, None));
        assert_eq!(moved(&Target::Offset(10), None), (10, None));
        assert_eq!(moved(&Target::Offset(100), None), (100, None));
        assert_eq!(moved(&Target::Offset(9), None), (10, Some("9 is before the first record".to_owned())));
        assert_eq!(moved(&Target::Offset(2000), None), (100, Some("2,000 is behind the end".to_owned())));
        assert_eq!(moved(&Target::Shift(i64::MIN), Some(20)).0, 10);
        assert_eq!(moved(&Target::Shift(i64::MAX), Some(20)).0, 100);
        assert_eq!(moved(&Target::Current, Some(3)).0, 10);
    }

    #[test]
    fn where_nothing_is_found_or_committed_it_is_the_end() {
        assert_eq!(moved(&Target::Found(BTreeMap::new()), Some(20)).0, 100);
        assert!(moved(&Target::Found(BTreeMap::new()), None).1.is_some());
        assert_eq!(moved(&Target::Current, None).0, 100);
        assert_eq!(moved(&Target::Current, Some(20)), (20, None));
    }

    #[test]
    fn only_what_is_committed_can_be_shifted() {
        assert_eq!(moved(&Target::Shift(-5), Some(20)), (15, None));
        let bounds = Bounds { first: 0, end: 5, committed: None };
        let refused = plan(&Target::Shift(1), &[(TopicPartition::new("t", 3), bounds)].into());
        assert!(refused.unwrap_err().contains("t-3"));
    }
}
