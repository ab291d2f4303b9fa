//! Which records a subcommand reads: of each partition a range of offsets that is fixed before the first one is read.

use std::collections::BTreeMap;

use log_client::{Admin, IsolationLevel, OffsetSpec, TopicPartition};

use crate::offsets::look_up;
use crate::place::Place;

/// Half-open, within what is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: i64,
    pub end: i64,
}

impl Range {
    /// How many offsets it spans; at most so many records are in it.
    pub fn len(self) -> u64 {
        u64::try_from(self.end - self.start).unwrap_or(0)
    }
}

/// Where each partition's range lies now. Empty ranges are left out.
///
/// # Errors
/// A partition cannot be asked.
pub async fn ranges(
    admin: &Admin,
    partitions: &[TopicPartition],
    from: Place,
    to: Option<Place>,
    isolation: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, Range>, String> {
    let find = async |spec| look_up(admin, partitions, spec, isolation).await;
    let (first, last) = (find(OffsetSpec::Earliest).await?, find(OffsetSpec::Latest).await?);
    let place = async |place| -> Result<BTreeMap<TopicPartition, i64>, String> {
        match place {
            Place::Offset(offset) => {
                Ok(partitions.iter().map(|partition| (partition.clone(), offset)).collect())
            }
            Place::Log(spec) => find(spec).await,
        }
    };
    let starts = place(from).await?;
    let ends = match to {
        Some(to) => place(to).await?,
        None => last.clone(),
    };
    let ranges = partitions.iter().filter_map(|partition| {
        let (first, last) = (first.get(partition).copied()?, last.get(partition).copied()?);
        // No record is as late as that: the end as it is now.
        let start = starts.get(partition).copied().unwrap_or(last);
        let end = ends.get(partition).copied().unwrap_or(last);
        clip(start, end, first, last).map(|range| (partition.clone(), range))
    });
    Ok(ranges.collect())
}

fn clip(start: i64, end: i64, first: i64, last: i64) -> Option<Range> {
    let range = Range { start: start.max(first), end: end.min(last) };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_lies_in_the_log() {
        assert_eq!(clip(0, 100, 10, 50), Some(Range { start: 10, end: 50 }));
        assert_eq!(clip(20, 30, 10, 50).map(Range::len), Some(10));
        assert_eq!(clip(30, 20, 10, 50), None);
        assert_eq!(clip(50, 100, 10, 50), None);
        assert_eq!(clip(0, 10, 10, 50), None);
    }
}
