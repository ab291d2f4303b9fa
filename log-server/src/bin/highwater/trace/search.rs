//! Reads ranges of many partitions at once, and keeps the records that carry an id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use log_client::consumer::{ConsumeError, OffsetReset, StartAt};
use log_client::{Client, Consumer, ConsumerConfig, ConsumerRecord, Header, IsolationLevel, TopicPartition};
use tokio::task::JoinSet;

use super::marks::Marks;
use crate::connect::text;
use crate::range::Range;

const POLL: Duration = Duration::from_millis(200);

/// Bytes of records that are kept at most, by one search.
const KEPT_BYTES_MAX: u64 = 256 << 20;

/// A record that carries the id.
#[derive(Debug)]
pub struct Found {
    pub record: ConsumerRecord,
    /// Where in the record it stands.
    pub place: String,
}

/// What was found, and what could not be looked at.
#[derive(Debug, Default)]
pub struct Outcome {
    pub found: Vec<Found>,
    /// Partitions with the reason.
    pub unread: Vec<String>,
}

/// What all readers count together. Relaxed everywhere: a bar and limits that need not be met to the record.
#[derive(Debug, Default)]
pub struct Counts {
    pub records: AtomicU64,
    found: AtomicU64,
    kept_bytes: AtomicU64,
}

impl Counts {
    /// Whether more was found than is kept.
    pub fn is_full(&self, limit: u64) -> bool {
        self.found.load(Ordering::Relaxed) >= limit
            || self.kept_bytes.load(Ordering::Relaxed) >= KEPT_BYTES_MAX
    }
}

/// Looks through `ranges` with `readers` consumers, until `limit` records are found.
///
/// # Errors
/// The cluster cannot be read at all.
pub async fn search(
    client: &Client,
    ranges: &BTreeMap<TopicPartition, Range>,
    marks: Arc<Marks>,
    isolation: IsolationLevel,
    readers: usize,
    limit: u64,
    counts: Arc<Counts>,
) -> Result<Outcome, String> {
    let mut tasks = JoinSet::new();
    for share in shares(ranges, readers) {
        let reader =
            Reader { client: client.clone(), marks: marks.clone(), isolation, limit, counts: counts.clone() };
        tasks.spawn(reader.read(share));
    }
    let mut whole = Outcome::default();
    while let Some(joined) = tasks.join_next().await {
        let mut part = joined.map_err(text)??;
        whole.found.append(&mut part.found);
        whole.unread.append(&mut part.unread);
    }
    whole.found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let order = |found: &Found| {
        let record = &found.record;
        (record.timestamp_ms, record.topic.clone(), record.partition, record.offset)
    };
    whole.found.sort_by_key(order);
    Ok(whole)
}

/// The ranges in `count` parts of about one size: the largest first, each to whom has least.
fn shares(ranges: &BTreeMap<TopicPartition, Range>, count: usize) -> Vec<Vec<(TopicPartition, Range)>> {
    let mut largest_first: Vec<_> =
        ranges.iter().map(|(partition, range)| (partition.clone(), *range)).collect();
    largest_first.sort_by_key(|(_, range)| std::cmp::Reverse(range.len()));
    let mut shares: Vec<(u64, Vec<_>)> = vec![(0, Vec::new()); count.clamp(1, ranges.len().max(1))];
    for (partition, range) in largest_first {
        if let Some((size, share)) = shares.iter_mut().min_by_key(|(size, _)| *size) {
            *size += range.len();
            share.push((partition, range));
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

struct Reader {
    client: Client,
    marks: Arc<Marks>,
    isolation: IsolationLevel,
    limit: u64,
    counts: Arc<Counts>,
}

impl Reader {
    async fn read(self, share: Vec<(TopicPartition, Range)>) -> Result<Outcome, String> {
        let config = ConsumerConfig {
            // What retention takes away meanwhile is not there to be found.
            offset_reset: OffsetReset::Earliest,
            isolation: self.isolation,
            poll_records_max: 5000,
            ..ConsumerConfig::default()
        };
        let mut consumer = Consumer::new(&self.client, config);
        consumer
            .assign(share.iter().map(|(partition, range)| (partition.clone(), StartAt::Offset(range.start))));
        let mut unread = BTreeSet::new();
        let mut outcome = Outcome::default();
        let is_over = |consumer: &Consumer, unread: &BTreeSet<TopicPartition>| {
            share.iter().all(|(partition, range)| {
                unread.contains(partition)
                    || consumer.position(partition).is_some_and(|position| position >= range.end)
            })
        };
        let ends: BTreeMap<_, _> = share.iter().map(|(partition, range)| (partition, range.end)).collect();
        while !is_over(&consumer, &unread) && !self.counts.is_full(self.limit) {
            let records = match consumer.poll(POLL).await {
                Ok(records) => records,
                Err(error) => {
                    let Some(partition) = partition_of(&error) else { return Err(text(error)) };
                    consumer.pause(&partition).map_err(text)?;
                    if unread.insert(partition) {
                        outcome.unread.push(text(error));
                    }
                    continue;
                }
            };
            for record in &records {
                let partition = record.topic_partition();
                if ends.get(&partition).is_none_or(|&end| record.offset >= end) {
                    consumer.pause(&partition).map_err(text)?;
                } else if let Some(place) = self.marks.find(record) {
                    self.counts.found.fetch_add(1, Ordering::Relaxed);
                    self.counts.kept_bytes.fetch_add(bytes_of(record), Ordering::Relaxed);
                    outcome.found.push(Found { record: detached(record), place });
                }
            }
            self.counts.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        }
        Ok(outcome)
    }
}

/// The partition that cannot be read, where the others can.
fn partition_of(error: &ConsumeError) -> Option<TopicPartition> {
    match error {
        ConsumeError::Refused { partition, .. } | ConsumeError::Corrupt { partition, .. } => {
            Some(partition.clone())
        }
        _ => None,
    }
}

fn bytes_of(record: &ConsumerRecord) -> u64 {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|header| header.key.len() + len(&header.value)).sum();
    (len(&record.key) + len(&record.value) + headers) as u64
}

/// A copy that does not hold on to the whole answer that brought it.
fn detached(record: &ConsumerRecord) -> ConsumerRecord {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let headers = record.headers.iter();
    ConsumerRecord {
        key: record.key.as_ref().map(copy),
        value: record.value.as_ref().map(copy),
        headers: headers
            .map(|header| Header { key: copy(&header.key), value: header.value.as_ref().map(copy) })
            .collect(),
        ..record.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_about_one_size_and_none_is_left_out() {
        let lens = [100, 1, 50, 49, 2];
        let ranges: BTreeMap<_, _> =
            (0..).zip(lens).map(|(n, end)| (TopicPartition::new("t", n), Range { start: 0, end })).collect();
        let sizes = |count| -> Vec<i64> {
            shares(&ranges, count).iter().map(|share| share.iter().map(|(_, it)| it.end).sum()).collect()
        };
        assert_eq!(sizes(2), [101, 101]);
        assert_eq!(sizes(100).len(), 5);
        assert_eq!(shares(&BTreeMap::new(), 4).len(), 1);
    }
}
