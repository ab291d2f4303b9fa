//! What a log must hold after a crash, kept in plain lists beside it.

use std::collections::BTreeMap;

use bytes::Bytes;
use log_core::log::{
    Appended, Isolation, LeaderEpochs, LogReader, PartitionIdentity, RecoveryReport, Watermarks,
    next_sequence,
};
use log_core::record::{BatchBuilder, Compression, ProducedBatch, batches};

/// The worst that has happened to a partition since it was last open, which says what may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Nothing: it was closed.
    Closed,
    /// The process was killed between two operations: nothing, the page cache lives on.
    Killed,
    /// The process was killed in the middle of an operation, or after a sync had failed: nothing yet, but
    /// the page cache shows what was not synced, or what no later sync is going to write.
    Interrupted,
    /// The power was cut: what was not durable.
    PowerCut,
}

/// One batch as a client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The offset it got, or would get next.
    pub base_offset: i64,
    pub leader_epoch: i32,
    /// Timestamp and value of each record. The values are unique.
    pub records: Vec<(i64, Vec<u8>)>,
    pub producer: Option<Stamp>,
}

/// What an idempotent producer puts on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

impl Batch {
    pub fn next_offset(&self) -> i64 {
        self.base_offset + self.records.len() as i64
    }

    pub fn produced(&self) -> ProducedBatch {
        let mut builder = BatchBuilder::new(Compression::None);
        if let Some(stamp) = self.producer {
            builder = builder.producer(stamp.id, stamp.epoch, stamp.sequence);
        }
        for (timestamp, value) in &self.records {
            builder.append(*timestamp, None, Some(value), &[]).expect("small records");
        }
        ProducedBatch::internal(builder.build(0).expect("small batches"))
            .expect("a batch that was just built")
    }
}

/// A client that sends each batch until it is acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub epoch: i16,
    pub next_sequence: i32,
    /// Sent and not yet below a high watermark that it saw, oldest first.
    pub unacknowledged: Vec<Batch>,
}

/// What is known about one partition.
#[derive(Clone, Debug)]
pub struct Partition {
    pub identity: PartitionIdentity,
    /// Everything appended, from offset 0 on, deleted records included.
    pub batches: Vec<Batch>,
    /// An append that a crash interrupted: it may be there or not.
    pub in_flight: Option<Batch>,
    /// Everything below has been acknowledged or shown to consumers.
    pub high_watermark: i64,
    /// What was answered as the log start, and what it may have been moved to in an interrupted call.
    pub log_start: i64,
    pub log_start_tried: i64,
    /// The high watermark that the last successful checkpoint has noted.
    pub checkpointed: i64,
    /// The newest producer snapshot at or below that.
    pub snapshot: i64,
    pub leader_epoch: i32,
    pub clients: BTreeMap<i64, Client>,
}

impl Partition {
    pub fn new(identity: PartitionIdentity) -> Partition {
        Partition {
            identity,
            batches: Vec::new(),
            in_flight: None,
            high_watermark: 0,
            log_start: 0,
            log_start_tried: 0,
            checkpointed: 0,
            snapshot: 0,
            leader_epoch: 0,
            clients: BTreeMap::new(),
        }
    }

    pub fn log_end(&self) -> i64 {
        self.batches.last().map_or(0, Batch::next_offset)
    }

    /// Notes an append that has succeeded.
    pub fn appended(&mut self, appended: &Appended) -> Result<(), String> {
        let batch = self.in_flight.take().expect("noted before it was sent");
        if appended.duplicate || appended.base_offset != batch.base_offset {
            return Err(format!(
                "a new batch for offset {} was answered with {appended:?}",
                batch.base_offset
            ));
        }
        self.batches.push(batch);
        Ok(())
    }

    /// Notes what consumers and producers are told: it never goes back, and never past the log's end.
    pub fn saw(&mut self, watermarks: Watermarks) -> Result<(), String> {
        let (before, now) = (self.high_watermark, watermarks.high_watermark());
        if now < before || now > self.log_end() {
            return Err(format!(
                "the high watermark went from {before} to {now}, the log ends at {}",
                self.log_end()
            ));
        }
        self.high_watermark = now;
        for client in self.clients.values_mut() {
            client.unacknowledged.retain(|batch| batch.next_offset() > now);
        }
        Ok(())
    }

    /// Compares what a start has found with what must be there, and goes on from what is.
    pub fn check_reopened(
        &mut self,
        end: End,
        reader: &LogReader,
        report: &RecoveryReport,
        random: &mut fastrand::Rng,
    ) -> Result<(), String> {
        if let Some(corruption) = &report.corruption {
            return Err(format!("a crash was taken for damage: {corruption}"));
        }
        let watermarks = reader.watermarks();
        let (log_start, log_end) = (watermarks.log_start(), watermarks.log_end());
        let appended_end = self.log_end();
        self.batches.extend(self.in_flight.take());
        if log_start < self.log_start || log_start > self.log_start_tried {
            return Err(format!(
                "log start {log_start}, not in [{}, {}]",
                self.log_start, self.log_start_tried
            ));
        }
        if log_end < self.high_watermark {
            return Err(format!("the log ends at {log_end}, {} had been acknowledged", self.high_watermark));
        }
        if end != End::PowerCut && log_end < appended_end {
            return Err(format!("the log ends at {log_end} instead of {appended_end} without a power cut"));
        }
        if watermarks.high_watermark() != log_end {
            return Err(format!("recovered {watermarks:?}: not all is durable"));
        }
        self.batches.retain(|batch| batch.base_offset < log_end);
        if self.log_end().max(log_start) != log_end {
            return Err(format!("the log ends at {log_end}, within a batch or past what was sent"));
        }
        let past =
            |offset: i64| self.batches.iter().filter(|batch| batch.next_offset() > offset).count() as u64;
        if report.scanned_batches > past(self.checkpointed) {
            let checkpointed = self.checkpointed;
            return Err(format!("{} batches scanned, checkpoint at {checkpointed}", report.scanned_batches));
        }
        if report.replayed_batches > past(self.snapshot) {
            return Err(format!(
                "{} batches replayed, snapshot at {}",
                report.replayed_batches, self.snapshot
            ));
        }
        // A start ends with a checkpoint on disk, whatever was there before.
        self.checkpointed = log_end;
        self.high_watermark = log_end;
        self.log_start = log_start;
        self.log_start_tried = log_start;
        self.check_content(reader, random)
    }

    /// Reads the whole log in every way there is.
    pub fn check_content(&self, reader: &LogReader, random: &mut fastrand::Rng) -> Result<(), String> {
        let visible: Vec<&Batch> =
            self.batches.iter().filter(|batch| batch.next_offset() > self.log_start).collect();
        let mut offset = self.log_start;
        let mut found = 0;
        while offset < self.high_watermark {
            let read = reader
                .read(offset, random.usize(1..4096), Isolation::Uncommitted, true)
                .map_err(|error| format!("read at {offset}: {error}"))?;
            if read.records.is_empty() || read.next_offset <= offset {
                return Err(format!("nothing at {offset}, the high watermark is {}", self.high_watermark));
            }
            for batch in decode(&read.records)? {
                let expected = visible.get(found).ok_or_else(|| format!("past the end: {batch:?}"))?;
                if batch != **expected {
                    return Err(format!("at {offset}: {batch:?} instead of {expected:?}"));
                }
                found += 1;
            }
            offset = read.next_offset;
        }
        if let Some(missing) =
            visible.iter().skip(found).find(|batch| batch.next_offset() <= self.high_watermark)
        {
            return Err(format!("missing: {missing:?}"));
        }
        self.check_lookups(reader, &visible, random)
    }

    fn check_lookups(
        &self,
        reader: &LogReader,
        visible: &[&Batch],
        random: &mut fastrand::Rng,
    ) -> Result<(), String> {
        let records: Vec<(i64, i64)> = visible
            .iter()
            .flat_map(|batch| {
                (batch.base_offset..).zip(&batch.records).map(|(offset, (time, _))| (offset, *time))
            })
            .filter(|(offset, _)| (self.log_start..self.high_watermark).contains(offset))
            .collect();
        for _ in 0..4 {
            let Some(&(offset, time)) = records.get(random.usize(0..records.len().max(1))) else { break };
            let read = reader
                .read(offset, 1, Isolation::Uncommitted, true)
                .map_err(|error| format!("read at {offset}: {error}"))?;
            let first =
                decode(&read.records)?.into_iter().next().map(|batch| batch.base_offset..batch.next_offset());
            if !first.as_ref().is_some_and(|range| range.contains(&offset)) {
                return Err(format!("a read at {offset} begins with {first:?}"));
            }
            let time = time + random.i64(-1..2);
            let expected = records.iter().find(|(_, other)| *other >= time).copied();
            let found = reader
                .offset_for_timestamp(time, Isolation::Uncommitted)
                .map_err(|error| format!("look-up of time {time}: {error}"))?
                .map(|found| (found.offset, found.timestamp));
            if found != expected {
                return Err(format!("time {time}: {found:?} instead of {expected:?}"));
            }
        }
        let mut epochs = LeaderEpochs::default();
        for batch in &self.batches {
            epochs.begin(batch.leader_epoch, batch.base_offset);
        }
        epochs.truncate_start(self.log_start);
        let log_end = self.log_end();
        for epoch in (0..=self.leader_epoch).filter(|_| self.log_start < log_end) {
            let (found, expected) = (reader.epoch_end_offset(epoch), epochs.end_offset(epoch, log_end));
            if found != expected {
                return Err(format!("epoch {epoch} ends at {found:?} instead of {expected:?}"));
            }
        }
        Ok(())
    }

    /// The batches of a producer that the log must know as such: its last five that are not deleted.
    pub fn remembered(&self, id: i64, epoch: i16) -> Vec<Batch> {
        let mut remembered: Vec<Batch> = self
            .batches
            .iter()
            .rev()
            .filter(|batch| batch.producer.is_some_and(|stamp| stamp.id == id && stamp.epoch == epoch))
            .take(5)
            .take_while(|batch| batch.base_offset >= self.log_start)
            .cloned()
            .collect();
        remembered.reverse();
        remembered
    }

    /// The next batch of a client's.
    pub fn stamp(&mut self, id: i64, records: usize) -> Stamp {
        let client = self.clients.entry(id).or_default();
        let stamp = Stamp { id, epoch: client.epoch, sequence: client.next_sequence };
        for _ in 0..records {
            client.next_sequence = next_sequence(client.next_sequence);
        }
        stamp
    }
}

/// Whole batches as the model writes them.
fn decode(bytes: &Bytes) -> Result<Vec<Batch>, String> {
    batches(bytes)
        .map(|batch| {
            let batch = batch.map_err(|error| format!("a batch that was read: {error}"))?;
            batch.verify_crc().map_err(|error| format!("a batch that was read: {error}"))?;
            let producer = (batch.producer_id() >= 0).then(|| Stamp {
                id: batch.producer_id(),
                epoch: batch.producer_epoch(),
                sequence: batch.base_sequence(),
            });
            let records = batch.records(Default::default()).map_err(|error| error.to_string())?;
            let records = records.map(|record| {
                let record = record.map_err(|error| error.to_string())?;
                Ok((record.timestamp, record.value.unwrap_or_default().to_vec()))
            });
            Ok(Batch {
                base_offset: batch.base_offset(),
                leader_epoch: batch.partition_leader_epoch(),
                records: records.collect::<Result<_, String>>()?,
                producer,
            })
        })
        .collect()
}
