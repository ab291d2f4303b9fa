//! Where a consumer stands in each of its partitions: pure bookkeeping, no socket, no clock.
//!
//! A partition has a *position* (the next offset that the application will see) and, ahead of it, the
//! offset up to which bytes have been fetched. Seeking, pausing a fetch's partition or losing it while an
//! answer is on its way makes that answer worthless: each such change raises the partition's `epoch`,
//! and an answer to an older epoch is dropped.

use std::collections::{BTreeMap, VecDeque};

use log_core::record::BatchError;
use tokio::time::Instant;

use super::fetched::{Fetched, ReadOptions};
use super::record::ConsumerRecord;
use crate::offsets::OffsetSpec;
use crate::topic_partition::TopicPartition;

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At this offset.
    Offset(i64),
    /// Where the log says.
    Log(OffsetSpec),
    /// Where the group has committed, else as `offset_reset` says.
    Committed,
}

/// One partition of a consumer.
#[derive(Debug)]
pub(super) struct State {
    /// `None` while it is still to be looked up.
    position: Option<i64>,
    start: StartAt,
    fetch_offset: i64,
    fetched: VecDeque<Fetched>,
    pub(super) is_paused: bool,
    epoch: u64,
    /// A look-up of the position is on its way.
    pub(super) is_resolving: bool,
    /// Nothing is asked before this, after an error.
    pub(super) blocked_until: Option<Instant>,
    pub(super) failures: u32,
    /// As of the last answer.
    pub(super) high_watermark: Option<i64>,
}

/// All partitions of a consumer.
#[derive(Debug, Default)]
pub(super) struct Positions {
    states: BTreeMap<TopicPartition, State>,
    next_epoch: u64,
    /// The partition that is read last, so that each has its turn.
    last_read: Option<TopicPartition>,
}

/// A partition whose position is to be looked up or that is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask<T> {
    pub(super) partition: TopicPartition,
    pub(super) epoch: u64,
    pub(super) what: T,
}

impl Positions {
    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.states.keys()
    }

    pub(super) fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut State> {
        self.states.get_mut(partition)
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&State> {
        self.states.get(partition)
    }

    /// Adds a partition, or moves it if it is there.
    pub(super) fn start(&mut self, partition: TopicPartition, start: StartAt) {
        self.next_epoch += 1;
        let is_paused = self.states.get(&partition).is_some_and(|state| state.is_paused);
        let position = match start {
            StartAt::Offset(offset) => Some(offset),
            _ => None,
        };
        let state = State {
            position,
            start,
            fetch_offset: position.unwrap_or(-1),
            fetched: VecDeque::new(),
            is_paused,
            epoch: self.next_epoch,
            is_resolving: false,
            blocked_until: None,
            failures: 0,
            high_watermark: None,
        };
        self.states.insert(partition, state);
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        self.states.remove(partition);
    }

    pub(super) fn clear(&mut self) {
        self.states.clear();
    }

    /// The state of a partition, if it has not changed since it was asked about.
    pub(super) fn if_current<T>(&mut self, ask: &Ask<T>) -> Option<&mut State> {
        self.states.get_mut(&ask.partition).filter(|state| state.epoch == ask.epoch)
    }

    /// Partitions whose position is to be looked up; they count as being looked up from now on.
    pub(super) fn take_unresolved(&mut self, now: Instant) -> Vec<Ask<StartAt>> {
        let due = self
            .states
            .iter_mut()
            .filter(|(_, state)| state.position.is_none() && !state.is_resolving && !state.is_blocked(now));
        due.map(|(partition, state)| {
            state.is_resolving = true;
            Ask { partition: partition.clone(), epoch: state.epoch, what: state.start }
        })
        .collect()
    }

    /// Partitions that can be fetched, with the offset to fetch from.
    pub(super) fn fetchable(&self, now: Instant) -> impl Iterator<Item = Ask<i64>> {
        let fetchable = self
            .states
            .iter()
            .filter(move |(_, state)| state.position.is_some() && !state.is_paused && !state.is_blocked(now));
        fetchable.map(|(partition, state)| Ask {
            partition: partition.clone(),
            epoch: state.epoch,
            what: state.fetch_offset,
        })
    }

    /// When the first of the blocked partitions is free again.
    pub(super) fn next_unblocked(&self, now: Instant) -> Option<Instant> {
        self.states.values().filter_map(|state| state.blocked_until).filter(|&until| until > now).min()
    }

    /// Bytes that have been fetched and not opened.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.states.values().flat_map(|state| &state.fetched).map(Fetched::remaining_bytes).sum()
    }

    /// Positions of all partitions that have one.
    pub(super) fn positions(&self) -> impl Iterator<Item = (&TopicPartition, i64)> {
        self.states.iter().filter_map(|(partition, state)| Some((partition, state.position?)))
    }

    /// Reads up to `records_max` records, and moves the positions past them. Every partition has its
    /// turn: reading begins with the one after the last.
    ///
    /// # Errors
    /// A batch that cannot be read, when nothing was read before it: with its partition and the position.
    pub(super) fn read(
        &mut self,
        records_max: usize,
        options: &ReadOptions,
    ) -> Result<Vec<ConsumerRecord>, (TopicPartition, i64, BatchError)> {
        let mut records = Vec::new();
        let after: Vec<TopicPartition> = match &self.last_read {
            Some(last) => {
                let later = self.states.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded));
                let earlier = self.states.range(..=last);
                later.chain(earlier).map(|(partition, _)| partition.clone()).collect()
            }
            None => self.states.keys().cloned().collect(),
        };
        for partition in after {
            let state = self.states.get_mut(&partition).expect("listed above");
            if state.is_paused || state.fetched.is_empty() {
                continue;
            }
            self.last_read = Some(partition.clone());
            match state.read(&partition, records_max, options, &mut records) {
                Err(error) if records.is_empty() => {
                    return Err((partition, state.position.unwrap_or(-1), error));
                }
                // What was read comes first; the error is found again by the next call.
                Err(_) => break,
                Ok(()) if records.len() >= records_max => break,
                Ok(()) => {}
            }
        }
        Ok(records)
    }
}

impl State {
    fn is_blocked(&self, now: Instant) -> bool {
        self.blocked_until.is_some_and(|until| until > now)
    }

    /// The next offset that the application will see.
    pub(super) fn position(&self) -> Option<i64> {
        self.position
    }

    /// Whether everything that was fetched has been read.
    pub(super) fn is_drained(&self) -> bool {
        self.fetched.is_empty()
    }

    /// The position has been looked up.
    pub(super) fn resolve(&mut self, offset: i64) {
        self.is_resolving = false;
        self.failures = 0;
        self.position = Some(offset);
        self.fetch_offset = offset;
    }

    /// The position has to be looked up (again), in another way perhaps.
    pub(super) fn restart(&mut self, start: StartAt) {
        self.position = None;
        self.start = start;
        self.is_resolving = false;
    }

    /// Whether this is the offset that bytes are wanted for next.
    pub(super) fn awaits(&self, offset: i64) -> bool {
        self.position.is_some() && self.fetch_offset == offset
    }

    /// Bytes have come for the offset that was asked for.
    pub(super) fn add(&mut self, fetched: Fetched) {
        self.failures = 0;
        self.fetch_offset = fetched.end_offset();
        self.fetched.push_back(fetched);
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        records_max: usize,
        options: &ReadOptions,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<(), BatchError> {
        while let Some(fetched) = self.fetched.front_mut() {
            while records.len() < records_max {
                let Some(record) = fetched.next(options) else { break };
                let record = record?;
                self.position = Some(fetched.next_offset());
                records.push(ConsumerRecord {
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                    offset: record.offset,
                    timestamp_ms: record.timestamp,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                });
            }
            if records.len() >= records_max {
                return Ok(());
            }
            // Past markers and what compaction removed, which no record stands for.
            self.position = Some(fetched.next_offset());
            self.fetched.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use log_core::record::{BatchBuilder, Compression, DecompressLimits};

    use super::*;

    const OPTIONS: ReadOptions = ReadOptions {
        check_crcs: true,
        limits: DecompressLimits { output_bytes_max: 1 << 20, ratio_max: 1024 },
    };

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("t", number)
    }

    fn fetched(base_offset: i64, count: usize) -> Fetched {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..count {
            builder.append(0, None, Some(b"v"), &[]).unwrap();
        }
        Fetched::new(builder.build(base_offset).unwrap(), base_offset, None).unwrap()
    }

    fn offsets(records: &[ConsumerRecord]) -> Vec<(i32, i64)> {
        records.iter().map(|record| (record.partition, record.offset)).collect()
    }

    #[test]
    fn partitions_take_turns_and_positions_follow_what_was_read() {
        let mut positions = Positions::default();
        for number in 0..2 {
            positions.start(partition(number), StartAt::Offset(10));
            positions.get_mut(&partition(number)).unwrap().add(fetched(10, 3));
        }
        assert_eq!(offsets(&positions.read(2, &OPTIONS).unwrap()), [(0, 10), (0, 11)]);
        assert_eq!(offsets(&positions.read(4, &OPTIONS).unwrap()), [(1, 10), (1, 11), (1, 12), (0, 12)]);
        assert_eq!(positions.positions().map(|(_, offset)| offset).collect::<Vec<_>>(), [13, 13]);
        assert!(positions.read(4, &OPTIONS).unwrap().is_empty());
        assert!(positions.get(&partition(0)).unwrap().is_drained());
    }

    #[test]
    fn a_seek_makes_answers_on_their_way_worthless() {
        let mut positions = Positions::default();
        positions.start(partition(0), StartAt::Log(OffsetSpec::Earliest));
        let now = Instant::now();
        let [ask] = &positions.take_unresolved(now)[..] else { panic!() };
        assert!(positions.take_unresolved(now).is_empty(), "asked once");
        assert_eq!(positions.fetchable(now).count(), 0);
        positions.start(partition(0), StartAt::Offset(7));
        assert!(positions.if_current(ask).is_none());
        let fetch = positions.fetchable(now).next().unwrap();
        assert_eq!(fetch.what, 7);
        positions.start(partition(0), StartAt::Offset(8));
        assert!(positions.if_current(&fetch).is_none());
    }

    #[test]
    fn paused_and_blocked_partitions_are_left_alone() {
        let mut positions = Positions::default();
        let now = Instant::now();
        positions.start(partition(0), StartAt::Offset(0));
        positions.start(partition(1), StartAt::Offset(0));
        let state = positions.get_mut(&partition(0)).unwrap();
        state.add(fetched(0, 1));
        state.is_paused = true;
        let until = now + Duration::from_secs(1);
        positions.get_mut(&partition(1)).unwrap().blocked_until = Some(until);
        assert_eq!(positions.fetchable(now).count(), 0);
        assert_eq!(positions.next_unblocked(now), Some(until));
        assert!(positions.read(9, &OPTIONS).unwrap().is_empty());
        positions.start(partition(0), StartAt::Offset(0));
        assert!(positions.get(&partition(0)).unwrap().is_paused, "a seek does not resume");
        assert_eq!(positions.fetchable(until).count(), 1);
    }

    #[test]
    fn records_before_an_error_are_returned_first() {
        let mut positions = Positions::default();
        positions.start(partition(0), StartAt::Offset(0));
        let state = positions.get_mut(&partition(0)).unwrap();
        state.add(fetched(0, 2));
        let mut flipped = BatchBuilder::new(Compression::None);
        flipped.append(0, None, Some(b"v"), &[]).unwrap();
        let mut bytes = flipped.build(2).unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        state.add(Fetched::new(bytes.into(), 2, None).unwrap());
        assert_eq!(positions.read(9, &OPTIONS).unwrap().len(), 2);
        let (at, offset, _) = positions.read(9, &OPTIONS).unwrap_err();
        assert_eq!((at, offset), (partition(0), 2));
    }
}
