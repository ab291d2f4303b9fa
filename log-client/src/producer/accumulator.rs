//! All partitions' batches of one producer: where `send` puts records in, and the sender takes batches
//! out. Pure but for the lock that its owner puts around it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use log_core::record::partition_of_key;

use super::batch::{Batch, BatchStyle, ID_SPAN};
use super::config::ProducerConfig;
use super::delivery::{AckReceiver, Delivery};
use super::error::ProduceError;
use super::queue::{Due, Identity, Queue, QueueLimits};
use super::record::ProducerRecord;
use crate::backoff::Backoff;
use crate::metadata::Topic;
use crate::topic_partition::TopicPartition;

/// Records that wait to be sent, by partition.
#[derive(Debug)]
pub(super) struct Accumulator {
    limits: QueueLimits,
    style: BatchStyle,
    delivery_timeout: std::time::Duration,
    request_bytes_max: usize,
    is_idempotent: bool,
    /// Set when the broker has given one.
    pub(super) identity: Option<Identity>,
    queues: Vec<(TopicPartition, Queue)>,
    index: HashMap<TopicPartition, usize>,
    /// The partition that each topic's records without a key go to for now, and how many bytes of them
    /// it still takes: a batch's worth.
    sticky: HashMap<Arc<str>, (i32, usize)>,
    next_batch_id: u64,
    /// Where the next draining begins, so that every partition has its turn.
    first: usize,
    /// Why nothing more is taken.
    closed: Option<ProduceError>,
}

/// Where a partition's batches go.
pub(super) enum Route {
    /// To the broker at this address.
    To(Arc<str>),
    /// The broker cannot take more at the moment.
    Busy,
    /// Nobody is known to lead it.
    Unknown,
}

/// What a draining found.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// Batches to send, at most one of each partition.
    pub(super) batches: Vec<(Arc<str>, TopicPartition, Batch)>,
    /// Batches that are given up: their time is over, or a hole before them makes them unsendable.
    pub(super) lost: Vec<(TopicPartition, Batch)>,
    /// Partitions with records for which no leader is known.
    pub(super) leaderless: Vec<TopicPartition>,
    /// When something falls due next.
    pub(super) next_due: Option<Instant>,
    /// Whether batches wait for an identity.
    pub(super) needs_identity: bool,
}

impl Drained {
    fn due_at(&mut self, due: Option<Instant>) {
        self.next_due = self.next_due.into_iter().chain(due).min();
    }
}

impl Accumulator {
    pub(super) fn new(config: &ProducerConfig, backoff: Backoff) -> Accumulator {
        Accumulator {
            limits: QueueLimits {
                linger: config.linger,
                batch_bytes_max: config.batch_bytes_max,
                in_flight_max: config.batches_in_flight_max(),
                may_renew: config.may_renew(),
                backoff,
            },
            style: BatchStyle {
                compression: config.compression,
                transactional: config.transactional_id.is_some(),
            },
            delivery_timeout: config.delivery_timeout,
            request_bytes_max: config.request_bytes_max,
            is_idempotent: config.is_idempotent(),
            identity: None,
            queues: Vec::new(),
            index: HashMap::new(),
            sticky: HashMap::new(),
            next_batch_id: 0,
            first: 0,
            closed: None,
        }
    }

    /// Adds a record. The flag says whether the sender has to look: a batch began or became full.
    pub(super) fn append(
        &mut self,
        now: Instant,
        topic: &Topic,
        record: &ProducerRecord,
        timestamp_ms: i64,
        reserved_bytes: usize,
    ) -> Result<(Delivery, bool), ProduceError> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        let number = self.choose_partition(topic, record, reserved_bytes)?;
        let partition = TopicPartition { topic: topic.name.clone(), partition: number };
        let queue = match self.index.get(&partition) {
            Some(&index) => &mut self.queues[index].1,
            None => {
                self.index.insert(partition.clone(), self.queues.len());
                self.queues.push((partition.clone(), Queue::default()));
                &mut self.queues.last_mut().expect("just pushed").1
            }
        };
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let mut wake = false;
        loop {
            if let Some(batch) = queue.open() {
                if let Some(index) =
                    batch.append(self.limits.batch_bytes_max, timestamp_ms, key, value, &record.headers)?
                {
                    batch.reserved_bytes += reserved_bytes;
                    let ack = batch.receiver();
                    return Ok((Delivery::new(partition, index, timestamp_ms, ack), wake));
                }
                queue.seal();
            }
            let batch = Batch::new(self.next_batch_id, self.style, now, now + self.delivery_timeout);
            self.next_batch_id += ID_SPAN;
            queue.set_open(batch);
            wake = true;
        }
    }

    fn choose_partition(
        &mut self,
        topic: &Topic,
        record: &ProducerRecord,
        record_bytes: usize,
    ) -> Result<i32, ProduceError> {
        let count = topic.partitions.len();
        let missing = |partition| ProduceError::NoSuchPartition {
            topic: topic.name.clone(),
            partition,
            partitions: count,
        };
        if let Some(partition) = record.partition {
            let exists = usize::try_from(partition).is_ok_and(|partition| partition < count);
            return if exists { Ok(partition) } else { Err(missing(partition)) };
        }
        if count == 0 {
            return Err(missing(0));
        }
        if let Some(key) = &record.key {
            return Ok(partition_of_key(key, count));
        }
        if let Some((partition, bytes_left)) = self.sticky.get_mut(&topic.name) {
            let place = TopicPartition { topic: topic.name.clone(), partition: *partition };
            let index = self.index.get(&place).copied();
            let has_open = index.is_some_and(|index| self.queues[index].1.open().is_some());
            if has_open && *bytes_left >= record_bytes {
                *bytes_left -= record_bytes;
                return Ok(*partition);
            }
        }
        let led: Vec<i32> = (0..)
            .zip(&topic.partitions)
            .filter(|(_, p)| p.leader.is_some())
            .map(|(index, _)| index)
            .collect();
        let partition = match led.len() {
            0 => fastrand::i32(0..count as i32),
            led_count => led[fastrand::usize(0..led_count)],
        };
        let bytes_left = self.limits.batch_bytes_max.saturating_sub(record_bytes);
        self.sticky.insert(topic.name.clone(), (partition, bytes_left));
        Ok(partition)
    }

    /// Takes what can be sent now: from each partition one batch at most, to each broker no more than
    /// one request carries.
    pub(super) fn drain(&mut self, now: Instant, mut route: impl FnMut(&TopicPartition) -> Route) -> Drained {
        let mut drained = Drained::default();
        let mut request_bytes: HashMap<Arc<str>, usize> = HashMap::new();
        let count = self.queues.len();
        for turn in 0..count {
            let (partition, queue) = &mut self.queues[(self.first + turn) % count];
            let expired = queue.expire(now);
            drained.lost.extend(expired.into_iter().map(|batch| (partition.clone(), batch)));
            drained.due_at(queue.deadline());
            match queue.due(now, &self.limits) {
                Due::Never => continue,
                Due::At(due) => {
                    drained.due_at(Some(due));
                    continue;
                }
                Due::Now => {}
            }
            if self.is_idempotent && self.identity.is_none() {
                drained.needs_identity = true;
                continue;
            }
            let address = match route(partition) {
                Route::To(address) => address,
                Route::Busy => continue,
                Route::Unknown => {
                    drained.leaderless.push(partition.clone());
                    continue;
                }
            };
            let bytes = request_bytes.entry(address.clone()).or_default();
            if *bytes > 0 && *bytes + self.limits.batch_bytes_max > self.request_bytes_max {
                continue;
            }
            let mut lost = Vec::new();
            if let Some(batch) = queue.take(now, &self.limits, &mut self.identity, &mut lost) {
                *bytes += batch.estimated_bytes();
                drained.batches.push((address, partition.clone(), batch));
            }
            drained.lost.extend(lost.into_iter().map(|batch| (partition.clone(), batch)));
        }
        self.first = self.first.wrapping_add(1) % count.max(1);
        drained
    }

    /// The partition's queue, for the answer to what was drained from it.
    pub(super) fn queue(&mut self, partition: &TopicPartition) -> &mut Queue {
        let index = self.index[partition];
        &mut self.queues[index].1
    }

    /// As [`Queue::failed`].
    pub(super) fn failed(&mut self, partition: &TopicPartition, batch: Batch, now: Instant) {
        let limits = self.limits;
        self.queue(partition).failed(batch, now, &limits);
    }

    /// As [`Queue::disowned`].
    pub(super) fn disowned(&mut self, partition: &TopicPartition, batch: Batch, now: Instant) {
        let limits = self.limits;
        self.queue(partition).disowned(batch, now, &limits);
    }

    /// The topics that records were sent to.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.queues.iter().map(|(partition, _)| partition.topic.clone()).collect()
    }

    /// Lets nothing wait for its linger, and returns every acknowledgement that is outstanding.
    pub(super) fn flush(&mut self) -> Vec<AckReceiver> {
        self.queues.iter_mut().for_each(|(_, queue)| queue.seal());
        self.queues.iter().flat_map(|(_, queue)| queue.unacknowledged()).collect()
    }

    /// Lets nothing wait for its linger, unless memory will come back from what is on its way already.
    pub(super) fn relieve(&mut self) {
        if self.queues.iter().all(|(_, queue)| queue.is_filling()) {
            self.queues.iter_mut().for_each(|(_, queue)| queue.seal());
        }
    }

    /// Goes on as `identity`, from the beginning of each partition's sequence. Nothing is on its way.
    pub(super) fn restart(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.queues.iter_mut().for_each(|(_, queue)| queue.restart());
    }

    /// Takes out what waits to be sent, retries among it.
    pub(super) fn discard(&mut self) -> Vec<Batch> {
        self.queues.iter_mut().flat_map(|(_, queue)| queue.drain()).collect()
    }

    /// Takes nothing more, and returns what has not been sent.
    pub(super) fn close(&mut self, reason: ProduceError) -> Vec<Batch> {
        self.closed.get_or_insert(reason);
        self.queues.iter_mut().flat_map(|(_, queue)| queue.drain()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use log_core::wire::Uuid;

    use super::*;
    use crate::metadata::Partition;

    fn topic(partitions: usize) -> Topic {
        let partition = Partition { leader: Some(1), leader_epoch: 0, replicas: vec![1], in_sync: vec![1] };
        Topic {
            name: "t".into(),
            id: Uuid::ZERO,
            is_internal: false,
            partitions: vec![partition; partitions],
            fetched_at: Instant::now(),
        }
    }

    fn accumulator() -> Accumulator {
        let config = ProducerConfig { batch_bytes_max: 400, idempotence: false, ..ProducerConfig::default() };
        Accumulator::new(&config, Backoff::default())
    }

    fn to_one(_: &TopicPartition) -> Route {
        Route::To("broker:1".into())
    }

    #[test]
    fn records_without_a_key_stay_until_the_batch_is_full() {
        let (mut accumulator, now, topic) = (accumulator(), Instant::now(), topic(8));
        let record = ProducerRecord::to("t").value(vec![b'x'; 100]);
        let partitions: Vec<i32> = (0..30)
            .map(|_| accumulator.append(now, &topic, &record, 0, 100).unwrap().0.partition().partition)
            .collect();
        assert!(partitions.windows(3).any(|window| window[0] == window[1] && window[1] == window[2]));
        assert!(partitions.iter().collect::<HashSet<_>>().len() > 1, "{partitions:?}");
    }

    #[test]
    fn keyed_and_numbered_records_go_where_they_must() {
        let (mut accumulator, now, topic) = (accumulator(), Instant::now(), topic(3));
        let keyed = ProducerRecord::to("t").key("foobar");
        let (delivery, wake) = accumulator.append(now, &topic, &keyed, 0, 0).unwrap();
        assert_eq!(delivery.partition().partition, partition_of_key(b"foobar", 3));
        assert!(wake);
        assert!(!accumulator.append(now, &topic, &keyed, 0, 0).unwrap().1, "the sender knows already");
        let numbered = ProducerRecord::to("t").key("foobar").partition(2);
        assert_eq!(accumulator.append(now, &topic, &numbered, 0, 0).unwrap().0.partition().partition, 2);
        for outside in [-1, 3] {
            let record = ProducerRecord::to("t").partition(outside);
            let error = accumulator.append(now, &topic, &record, 0, 0).unwrap_err();
            assert!(matches!(error, ProduceError::NoSuchPartition { partitions: 3, .. }));
        }
    }

    #[test]
    fn a_drain_takes_one_batch_of_each_partition_when_it_is_due() {
        let (mut accumulator, now, topic) = (accumulator(), Instant::now(), topic(2));
        for partition in [0, 0, 0, 0, 1] {
            let record = ProducerRecord::to("t").partition(partition).value(vec![b'x'; 150]);
            drop(accumulator.append(now, &topic, &record, 0, 150).unwrap());
        }
        // Partition 0 has a full batch, partition 1 lingers.
        let drained = accumulator.drain(now, to_one);
        assert_eq!(drained.batches.len(), 1);
        assert_eq!(drained.batches[0].2.reserved_bytes, 300);
        assert_eq!(drained.next_due, Some(now + Duration::from_millis(5)));
        let (_, partition, batch) = drained.batches.into_iter().next().unwrap();
        accumulator.queue(&partition).succeeded(&batch);
        let later = now + Duration::from_millis(5);
        assert_eq!(accumulator.drain(later, |_| Route::Unknown).leaderless.len(), 2);
        assert_eq!(accumulator.drain(later, to_one).batches.len(), 2);
        assert_eq!(accumulator.flush().len(), 2, "what is in flight is waited for as well");
    }

    #[test]
    fn an_idempotent_producer_waits_for_its_id() {
        let mut accumulator = Accumulator::new(&ProducerConfig::default(), Backoff::default());
        let (now, topic) = (Instant::now(), topic(1));
        drop(accumulator.append(now, &topic, &ProducerRecord::to("t"), 0, 0).unwrap());
        accumulator.flush();
        let drained = accumulator.drain(now, to_one);
        assert!(drained.batches.is_empty() && drained.needs_identity);
        accumulator.identity = Some(Identity { producer_id: 1, epoch: 0 });
        assert_eq!(accumulator.drain(now, to_one).batches.len(), 1);
    }

    #[test]
    fn a_numbered_batch_that_expires_in_a_transaction_lets_nothing_past_until_the_next_epoch() {
        let transactional =
            ProducerConfig { transactional_id: Some("id".to_owned()), ..ProducerConfig::default() };
        let mut accumulator = Accumulator::new(&transactional, Backoff::default());
        let (now, topic) = (Instant::now(), topic(1));
        let identity = Identity { producer_id: 1, epoch: 0 };
        accumulator.restart(identity);
        drop(accumulator.append(now, &topic, &ProducerRecord::to("t"), 0, 0).unwrap());
        accumulator.flush();
        let (_, partition, mut batch) = accumulator.drain(now, to_one).batches.pop().unwrap();
        batch.outcome_unknown = true;
        accumulator.failed(&partition, batch, now);
        let later = now + transactional.delivery_timeout;
        drop(accumulator.append(later, &topic, &ProducerRecord::to("t"), 0, 0).unwrap());
        accumulator.flush();
        let drained = accumulator.drain(later, to_one);
        assert_eq!((drained.lost.len(), drained.batches.len()), (1, 0));
        assert_eq!(accumulator.identity, Some(identity));
        accumulator.restart(Identity { epoch: 1, ..identity });
        let (.., batch) = accumulator.drain(later, to_one).batches.pop().unwrap();
        assert_eq!(batch.stamp().map(|it| (it.epoch, it.base_sequence)), Some((1, 0)));
    }

    #[test]
    fn nothing_is_taken_after_the_end() {
        let (mut accumulator, now, topic) = (accumulator(), Instant::now(), topic(1));
        drop(accumulator.append(now, &topic, &ProducerRecord::to("t"), 0, 0).unwrap());
        assert_eq!(accumulator.close(ProduceError::Closed).len(), 1);
        let refused = accumulator.append(now, &topic, &ProducerRecord::to("t"), 0, 0);
        assert!(matches!(refused, Err(ProduceError::Closed)));
    }
}
