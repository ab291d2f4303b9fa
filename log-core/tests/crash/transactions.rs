//! Transactions of several producers in one log, through random operations and crashes, against a plain list of
//! all that was appended.
//!
//! After each flush, compaction and start the log is read as a consumer of committed records reads it: in answers of
//! random size from random offsets on, each taken apart by itself with the aborted transactions that come with it,
//! once as the Java client does that and once as librdkafka does. What is left has to be what the list says: the
//! records outside of transactions and those of committed ones, up to the first offset of the oldest transaction
//! whose end is not durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use log_core::log::{
    AppendError, CleanupPolicy, CompactionError, DeleteRecordsError, DirHealth, Isolation, LogConfig,
    OpenError, PartitionLog, ReadResult, inspect,
};
use log_core::record::{
    BatchBuilder, Compression, EndOfTransaction, Marker, ProducedBatch, RecordBatch, batches,
};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;

use crate::{caught, first_failure, variable};

const PARTITION: &str = "topics/payments-0";
const PRODUCERS: i64 = 4;

/// What was appended at an offset.
#[derive(Clone, Debug)]
struct Sent {
    base: i64,
    producer: i64,
    epoch: i16,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// Records: keys and values.
    Data { sequence: i32, transactional: bool, records: Vec<(String, String)> },
    /// The end of the producer's transaction.
    End(Marker),
}

impl Sent {
    fn next(&self) -> i64 {
        match &self.what {
            What::Data { records, .. } => self.base + records.len() as i64,
            What::End(_) => self.base + 1,
        }
    }

    fn produced(&self) -> ProducedBatch {
        let What::Data { sequence, transactional, records } = &self.what else {
            unreachable!("ends are made by the log")
        };
        let builder = BatchBuilder::new(Compression::None).producer(self.producer, self.epoch, *sequence);
        let mut builder = builder.transactional(*transactional);
        for (key, value) in records {
            builder.append(1000, Some(key.as_bytes()), Some(value.as_bytes()), &[]).expect("small");
        }
        ProducedBatch::internal(builder.build(0).expect("small")).expect("well made")
    }
}

/// Why a history stops short.
enum Stop {
    Down,
    Broken(String),
}

impl From<String> for Stop {
    fn from(broken: String) -> Stop {
        Stop::Broken(broken)
    }
}

/// What has been tested.
#[derive(Clone, Copy, Debug, Default)]
struct Coverage {
    open_over_crash: u64,
    ends_torn: u64,
    files_spoilt: u64,
    told: u64,
    passes: u64,
    deletions: u64,
}

struct History {
    sim: SimStorage,
    random: fastrand::Rng,
    config: LogConfig,
    log: Option<PartitionLog>,
    sent: Vec<Sent>,
    /// An append that a crash may have interrupted.
    in_flight: Option<Sent>,
    high_watermark: i64,
    log_start: i64,
    log_start_tried: i64,
    /// Nothing from here on has ever been in reach of a compaction.
    head: i64,
    now_ms: i64,
    coverage: Coverage,
}

impl History {
    fn new(seed: u64) -> History {
        let sim = SimStorage::new(seed);
        if variable("HIGHWATER_CRASH_SEED").is_some() {
            sim.record_trace();
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let compacted = random.u8(0..3) == 0;
        let config = LogConfig {
            segment_bytes: random.u32(1024..6000),
            retention_ms: -1,
            index_interval_bytes: random.u32(1..1500),
            cleanup: if compacted { CleanupPolicy::COMPACT } else { CleanupPolicy::DELETE },
            delete_retention_ms: random.i64(0..2000),
            min_cleanable_dirty_millionths: 0,
            ..LogConfig::default()
        };
        History {
            sim,
            random,
            config,
            log: None,
            sent: Vec::new(),
            in_flight: None,
            high_watermark: 0,
            log_start: 0,
            log_start_tried: 0,
            head: 0,
            now_ms: 10_000,
            coverage: Coverage::default(),
        }
    }

    /// Processes that end by a fault, or at their end.
    fn run(&mut self, faults: bool) -> Result<(), String> {
        for _ in 0..self.random.usize(1..4) {
            match self.random.u8(0..10) {
                0..6 if faults => self.sim.cut_at(self.sim.operations() + self.random.u64(0..400)),
                6..8 if faults => self.sim.fail_sync(self.sim.syncs() + self.random.u64(0..80)),
                _ => {}
            }
            let (steps, outcome) = (self.random.usize(20..120), self.random.u64(..));
            self.live(steps, outcome)?;
        }
        self.finish()
    }

    fn live(&mut self, steps: usize, outcome: u64) -> Result<(), String> {
        let lived = self.open().and_then(|()| (0..steps).try_for_each(|_| self.step()));
        if let Err(Stop::Broken(broken)) = lived {
            return Err(broken);
        }
        self.coverage.open_over_crash += u64::from(!self.open_transactions().is_empty());
        let end = self.in_flight.as_ref().is_some_and(|sent| matches!(sent.what, What::End(_)));
        self.coverage.ends_torn += u64::from(end);
        self.log = None;
        self.sim = if outcome.is_multiple_of(2) { self.sim.crash(outcome) } else { self.sim.restart() };
        Ok(())
    }

    /// A start without faults, the end of all transactions, and a start after that.
    fn finish(&mut self) -> Result<(), String> {
        let finished = (|| {
            self.open()?;
            for producer in 0..PRODUCERS {
                self.end(producer, false)?;
            }
            self.flush()?;
            self.log = None;
            self.sim = self.sim.restart();
            self.open()?;
            let watermarks = self.log().watermarks();
            if watermarks.last_stable() != watermarks.log_end() {
                return Err(format!("all have ended: {watermarks:?}").into());
            }
            Ok(())
        })();
        match finished {
            Err(Stop::Broken(broken)) => Err(broken),
            Err(Stop::Down) => Err("a healthy disk was given up".to_owned()),
            Ok(()) => Ok(()),
        }
    }

    fn step(&mut self) -> Result<(), Stop> {
        self.now_ms += self.random.i64(0..300);
        let producer = self.random.i64(0..PRODUCERS);
        match self.random.u8(0..40) {
            0..20 => self.append(producer),
            20..28 => {
                let bump = self.random.bool();
                self.end(producer, bump)
            }
            28..31 => self.flush(),
            31..33 => self.overlapping_flush(),
            33 => {
                for producer in 0..PRODUCERS {
                    self.end(producer, false)?;
                }
                self.compact()
            }
            34 => self.compact(),
            35 => {
                let rolled = self.log().roll_if_due(i64::MAX);
                self.done(rolled, append_error).map(drop)
            }
            36 => self.delete(),
            37..39 => self.reopen(),
            _ => self.check(),
        }
    }

    fn log(&mut self) -> &mut PartitionLog {
        self.log.as_mut().expect("open")
    }

    /// What an operation gave.
    fn done<T, E: std::fmt::Debug>(
        &self,
        result: Result<T, E>,
        kind: impl Fn(&E) -> Option<io::ErrorKind>,
    ) -> Result<T, Stop> {
        match result {
            Ok(value) => Ok(value),
            Err(error) if self.sim.is_cut() || self.sim.has_failed_sync() => {
                self.sim.note(format_args!("{error:?}, {:?}", kind(&error)));
                Err(Stop::Down)
            }
            Err(error) => Err(Stop::Broken(format!("{error:?} on a healthy disk"))),
        }
    }

    /// The epoch that a producer is in, and its next sequence.
    fn standing(&self, producer: i64) -> (i16, i32) {
        let of = self.sent.iter().filter(|sent| sent.producer == producer);
        let epoch = of.clone().map(|sent| sent.epoch).max().unwrap_or(0);
        let last = of.rev().find_map(|sent| match &sent.what {
            What::Data { sequence, records, .. } if sent.epoch == epoch => {
                Some(sequence + records.len() as i32)
            }
            _ => None,
        });
        (epoch, last.unwrap_or(0))
    }

    /// Whose transactions are open: the bases of their batches, by producer.
    fn open_transactions(&self) -> BTreeMap<i64, Vec<&Sent>> {
        let mut open: BTreeMap<i64, Vec<&Sent>> = BTreeMap::new();
        for sent in &self.sent {
            match &sent.what {
                What::Data { transactional: true, .. } => open.entry(sent.producer).or_default().push(sent),
                What::Data { .. } => {}
                What::End(_) => drop(open.remove(&sent.producer)),
            }
        }
        open
    }

    fn append(&mut self, producer: i64) -> Result<(), Stop> {
        let base = self.log().watermarks().log_end();
        let (epoch, sequence) = self.standing(producer);
        let transactional = self.open_transactions().contains_key(&producer) || self.random.u8(0..4) > 0;
        let records = (0..self.random.i64(1..5)).map(|index| {
            let key = format!("k{}", self.random.u8(0..12));
            (key, format!("{}.", base + index).repeat(self.random.usize(1..20)))
        });
        let what = What::Data { sequence, transactional, records: records.collect() };
        let sent = Sent { base, producer, epoch, what };
        self.in_flight = Some(sent.clone());
        let now_ms = self.now_ms;
        let appended = self.log().append(&sent.produced(), 0, now_ms);
        let appended = self.done(appended, append_error)?;
        if appended.duplicate || appended.base_offset != base {
            return Err(format!("{sent:?} was answered with {appended:?}").into());
        }
        self.sent.extend(self.in_flight.take());
        Ok(())
    }

    /// Ends the producer's transaction, if it has one: as in the first protocol, or with the next epoch.
    fn end(&mut self, producer: i64, bump: bool) -> Result<(), Stop> {
        let base = self.log().watermarks().log_end();
        let (epoch, _) = self.standing(producer);
        let epoch = epoch + i16::from(bump);
        let marker = if self.random.bool() { Marker::Commit } else { Marker::Abort };
        self.in_flight = Some(Sent { base, producer, epoch, what: What::End(marker) });
        let (end, now_ms) = (EndOfTransaction { marker, coordinator_epoch: 0 }, self.now_ms);
        let appended = self.log().append_marker(producer, epoch, end, 0, now_ms);
        let appended = self.done(appended, append_error)?;
        if appended.base_offset != base {
            return Err(format!("an end at {base} was answered with {appended:?}").into());
        }
        self.sent.extend(self.in_flight.take());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let flushed = self.log().flush();
        self.done(flushed, |error| Some(error.kind()))?;
        self.high_watermark = self.log().watermarks().high_watermark();
        if self.random.bool() {
            let written = self.log().write_checkpoint();
            self.done(written, |error| Some(error.kind()))?;
        }
        self.check()
    }

    /// A flush, while transactions go on and end.
    fn overlapping_flush(&mut self) -> Result<(), Stop> {
        let Some(flush) = self.log().begin_flush() else { return Ok(()) };
        for _ in 0..self.random.usize(1..6) {
            let producer = self.random.i64(0..PRODUCERS);
            if self.random.bool() { self.append(producer)? } else { self.end(producer, false)? }
        }
        let ran = flush.run();
        self.done(ran, |error| Some(error.kind()))?;
        self.log().complete_flush(flush);
        self.high_watermark = self.log().watermarks().high_watermark();
        self.check()
    }

    fn compact(&mut self) -> Result<(), Stop> {
        if !self.config.cleanup.compact {
            return Ok(());
        }
        let now_ms = self.now_ms;
        self.head = self.head.max(self.log().segments().last().expect("active").base_offset);
        let compacted = self.log().compact(now_ms, 1 << 20);
        let compacted = self.done(compacted, compaction_error)?;
        self.coverage.passes += u64::from(compacted.is_some());
        self.high_watermark = self.log().watermarks().high_watermark();
        self.check()
    }

    fn delete(&mut self) -> Result<(), Stop> {
        let before = self.random.i64(self.log_start..=self.high_watermark);
        self.log_start_tried = before;
        let deleted = self.log().delete_records(before);
        self.log_start = self.done(deleted, |error| match error {
            DeleteRecordsError::Unwritable(error) => append_error(error),
            DeleteRecordsError::OutOfRange { .. } => None,
        })?;
        self.log_start_tried = self.log_start;
        self.coverage.deletions += 1;
        self.check()
    }

    /// A clean stop and a start, between which files that can be made anew may be lost or damaged.
    fn reopen(&mut self) -> Result<(), Stop> {
        let closed = self.log().close();
        self.done(closed, |error| Some(error.kind()))?;
        self.high_watermark = self.log().watermarks().high_watermark();
        self.log = None;
        for name in self.sim.list_dir(PARTITION).unwrap_or_default() {
            let path = format!("{PARTITION}/{name}");
            let spoilt = match self.random.u8(0..6) {
                0 if name.ends_with(".aborted") => self.sim.remove_file(&path),
                1 if name.ends_with(".aborted") => {
                    let bits = self.sim.file_len(&path).unwrap_or(1) * 8;
                    self.sim.flip_bit(&path, self.random.u64(0..bits))
                }
                2 if name.ends_with(".producers") => self.sim.remove_file(&path),
                _ => continue,
            };
            self.done(spoilt, |error| Some(error.kind()))?;
            self.coverage.files_spoilt += 1;
        }
        self.open()
    }

    fn open(&mut self) -> Result<(), Stop> {
        let storage = Arc::new(self.sim.clone());
        let made = self.sim.create_dir_all(PARTITION).and_then(|()| {
            self.sim.sync_dir("")?;
            self.sim.sync_dir("topics")
        });
        self.done(made, |error| Some(error.kind()))?;
        if let Ok(found) = inspect(storage.clone(), PARTITION, &mut |_, _, _| {})
            && !found.is_sound()
        {
            return Err(format!("verify would say: {:?}", found.findings).into());
        }
        let health = Arc::new(DirHealth::default());
        let opened = PartitionLog::open(storage, PARTITION, health, self.config.clone());
        let (log, report) = self.done(opened, |error| match error {
            OpenError::Storage { source, .. } => Some(source.kind()),
            OpenError::Offline { .. } => None,
        })?;
        self.sim.note(format_args!("open: {:?}, {report:?}", log.watermarks()));
        if let Some(corruption) = report.corruption {
            return Err(format!("a crash was taken for damage: {corruption}").into());
        }
        let watermarks = log.watermarks();
        self.log = Some(log);
        let log_end = watermarks.log_end();
        if log_end < self.high_watermark {
            return Err(format!("ends at {log_end}, {} was acknowledged", self.high_watermark).into());
        }
        if !(self.log_start..=self.log_start_tried).contains(&watermarks.log_start()) {
            return Err(format!("starts at {}, not {}", watermarks.log_start(), self.log_start).into());
        }
        self.log_start = watermarks.log_start();
        self.log_start_tried = self.log_start;
        self.sent.extend(self.in_flight.take());
        self.sent.retain(|sent| sent.base < log_end);
        self.high_watermark = log_end;
        self.check()
    }

    /// First offset of each transaction that holds the last stable offset back, as far as it is known for certain: what
    /// was deleted of it may have been forgotten, or not.
    fn held_back(&self) -> (i64, i64) {
        let mut undecided: BTreeMap<i64, Vec<&Sent>> = BTreeMap::new();
        let mut firsts = Vec::new();
        for sent in &self.sent {
            match &sent.what {
                What::Data { transactional: true, .. } => {
                    undecided.entry(sent.producer).or_default().push(sent);
                }
                What::Data { .. } => {}
                What::End(_) if sent.base >= self.high_watermark => {
                    firsts.extend(undecided.remove(&sent.producer));
                }
                What::End(_) => drop(undecided.remove(&sent.producer)),
            }
        }
        firsts.extend(undecided.into_values());
        let least = firsts.iter().map(|batches| batches[0].base).min();
        let left = firsts.iter().filter_map(|batches| {
            batches.iter().find(|sent| sent.next() > self.log_start).map(|sent| sent.base)
        });
        let bound = |offset: Option<i64>| {
            offset.unwrap_or(self.high_watermark).clamp(self.log_start, self.high_watermark)
        };
        (bound(least), bound(left.min()))
    }

    /// The records that count, by offset: outside of transactions, and of those that were committed.
    fn committed(&self, last_stable: i64) -> BTreeMap<i64, (String, String)> {
        let mut committed = BTreeMap::new();
        let mut undecided: BTreeMap<i64, Vec<&Sent>> = BTreeMap::new();
        let mut put = |sent: &Sent| {
            if let What::Data { records, .. } = &sent.what {
                committed.extend((sent.base..).zip(records.iter().cloned()));
            }
        };
        for sent in self.sent.iter() {
            match &sent.what {
                What::Data { transactional: true, .. } => {
                    undecided.entry(sent.producer).or_default().push(sent);
                }
                What::Data { .. } => put(sent),
                What::End(marker) => {
                    let batches = undecided.remove(&sent.producer).unwrap_or_default();
                    if *marker == Marker::Commit {
                        batches.into_iter().for_each(&mut put);
                    }
                }
            }
        }
        committed.retain(|offset, _| (self.log_start..last_stable).contains(offset));
        committed
    }

    fn check(&mut self) -> Result<(), Stop> {
        let watermarks = self.log().watermarks();
        let last_stable = watermarks.last_stable();
        let (least, most) = self.held_back();
        if !(least..=most).contains(&last_stable) {
            return Err(format!("{watermarks:?}, and the last stable offset is in {least}..={most}").into());
        }
        let expected = self.committed(last_stable);
        let from =
            if self.random.bool() { self.log_start } else { self.random.i64(self.log_start..=last_stable) };
        let found = self.read_committed(from, last_stable)?;
        for (offset, record) in &found {
            if expected.get(offset) != Some(record) {
                return Err(format!("{record:?} at {offset} is shown, and does not count").into());
            }
        }
        let mut latest: BTreeMap<&String, i64> = BTreeMap::new();
        for (&offset, (key, _)) in expected.range(from..) {
            latest.insert(key, offset);
            if offset >= self.head && !found.contains_key(&offset) {
                return Err(format!("{offset} counts, and is not shown").into());
            }
        }
        match latest.iter().find(|(_, offset)| !found.contains_key(offset)) {
            Some((key, offset)) => Err(format!("{offset} is the latest of {key}, and is gone").into()),
            None => Ok(()),
        }
    }

    /// What a consumer of committed records gets.
    fn read_committed(
        &mut self,
        from: i64,
        last_stable: i64,
    ) -> Result<BTreeMap<i64, (String, String)>, Stop> {
        let reader = self.log().reader();
        let mut found = BTreeMap::new();
        let mut offset = from;
        while offset < last_stable {
            let max_bytes = self.random.usize(1..4096);
            let read = reader.read(offset, max_bytes, Isolation::Committed, true);
            let read = self.done(read, |_| None)?;
            if read.next_offset <= offset || read.next_offset > last_stable {
                let next = read.next_offset;
                return Err(format!("from {offset} to {next}, {last_stable} is stable").into());
            }
            self.coverage.told += read.aborted.len() as u64;
            let (java, librdkafka) = (as_java(&read)?, as_librdkafka(&read)?);
            if java != librdkafka {
                return Err(format!("at {offset}: {java:?} and {librdkafka:?} of {:?}", read.aborted).into());
            }
            found.extend(java.into_iter().filter(|(at, _)| *at >= offset));
            offset = read.next_offset;
        }
        Ok(found)
    }
}

type Records = Vec<(i64, (String, String))>;

/// The records of an answer that the Java client hands out: a producer counts for aborted from the first offset of
/// an aborted transaction up to the next control batch that aborts.
fn as_java(read: &ReadResult) -> Result<Records, String> {
    let mut waiting = read.aborted.iter().peekable();
    let mut aborted = BTreeSet::new();
    taken(read, &mut |batch, end| {
        while let Some(next) = waiting.next_if(|next| next.first_offset <= batch.last_offset()) {
            aborted.insert(next.producer_id);
        }
        match end {
            Some(Marker::Abort) => !aborted.remove(&batch.producer_id()),
            Some(Marker::Commit) => true,
            None => !(batch.attributes().is_transactional() && aborted.contains(&batch.producer_id())),
        }
    })
}

/// Those that librdkafka hands out: first offsets by producer, of which each control batch that aborts takes the first
/// off if it has come so far.
fn as_librdkafka(read: &ReadResult) -> Result<Records, String> {
    let mut waiting: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for aborted in &read.aborted {
        waiting.entry(aborted.producer_id).or_default().push(aborted.first_offset);
    }
    taken(read, &mut |batch, end| {
        let firsts = waiting.entry(batch.producer_id()).or_default();
        let is_aborted = firsts.first().is_some_and(|first| batch.base_offset() >= *first);
        if end == Some(Marker::Abort) && is_aborted {
            firsts.remove(0);
        }
        end.is_some() || !(batch.attributes().is_transactional() && is_aborted)
    })
}

/// The records of the batches of data that `takes` says yes to, which is also shown the control batches.
fn taken(
    read: &ReadResult,
    takes: &mut dyn FnMut(&RecordBatch<'_>, Option<Marker>) -> bool,
) -> Result<Records, String> {
    let mut records = Vec::new();
    for batch in batches(&read.records) {
        let batch = batch.map_err(|error| error.to_string())?;
        batch.verify_crc().map_err(|error| error.to_string())?;
        if batch.attributes().is_control() {
            let end = EndOfTransaction::of(&batch).map_err(|error| error.to_string())?;
            if let Some(end) = end {
                takes(&batch, Some(end.marker));
            }
            continue;
        }
        if !takes(&batch, None) {
            continue;
        }
        for record in batch.records(Default::default()).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let text = |bytes: Option<bytes::Bytes>| {
                String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap_or_default()
            };
            records.push((record.offset, (text(record.key), text(record.value))));
        }
    }
    Ok(records)
}

fn append_error(error: &AppendError) -> Option<io::ErrorKind> {
    match error {
        AppendError::Storage(error) => Some(error.kind()),
        _ => None,
    }
}

fn compaction_error(error: &CompactionError) -> Option<io::ErrorKind> {
    match error {
        CompactionError::Storage(error) => Some(error.kind()),
        _ => None,
    }
}

/// Runs a history. A panic of the engine's is a broken promise like any other.
fn run(seed: u64, act: impl Fn(&mut History) -> Result<(), String>) -> Result<Coverage, String> {
    let mut history = History::new(seed);
    let result = caught(|| act(&mut history));
    history.sim.trace().iter().for_each(|line| println!("{line}"));
    result.map(|()| history.coverage)
}

fn many(first: u64, count: u64, faults: bool) {
    let total = Mutex::new(Coverage::default());
    let failure = first_failure(first, count, |seed| {
        let one = run(seed, |history| history.run(faults))?;
        let mut total = total.lock().expect("not poisoned");
        total.open_over_crash += one.open_over_crash;
        total.ends_torn += one.ends_torn;
        total.files_spoilt += one.files_spoilt;
        total.told += one.told;
        total.passes += one.passes;
        total.deletions += one.deletions;
        Ok(())
    });
    if let Some((seed, broken)) = failure {
        panic!("HIGHWATER_CRASH_SEED={seed}: {broken}");
    }
    let total = total.into_inner().expect("not poisoned");
    println!("{count} histories: {total:?}");
    if count >= 400 {
        let Coverage { open_over_crash, ends_torn, files_spoilt, told, passes, deletions } = total;
        let reached = [open_over_crash, files_spoilt, told, passes, deletions];
        assert!(reached.iter().all(|reached| *reached > 0), "{total:?}");
        assert!(!faults || ends_torn > 0, "{total:?}");
    }
}

fn seeds(histories: u64) -> (u64, u64) {
    match variable("HIGHWATER_CRASH_SEED") {
        Some(seed) => (seed, 1),
        None => (0, variable("HIGHWATER_CRASH_HISTORIES").unwrap_or(histories)),
    }
}

#[test]
fn committed_reads_equal_the_list() {
    let (first, count) = seeds(400);
    many(first, count, false);
}

#[test]
fn no_crash_shows_what_was_aborted_or_hides_what_was_committed() {
    let (first, count) = seeds(800);
    many(first, count, true);
}

/// One workload, ended at each of its operations in turn.
#[test]
fn every_operation_of_transactions_can_be_the_last() {
    const OUTCOMES: u64 = 2;
    const STEPS: usize = 50;
    for workload in 0..2 {
        let operations = AtomicU64::new(0);
        run(workload, |history| {
            history.live(STEPS, 0)?;
            operations.store(history.sim.operations(), Ordering::Relaxed);
            Ok(())
        })
        .unwrap_or_else(|broken| panic!("workload {workload}, uncut: {broken}"));
        let operations = operations.into_inner();
        let failure = first_failure(0, operations * OUTCOMES, |point| {
            run(workload, |history| {
                history.sim.cut_at(point / OUTCOMES);
                history.live(STEPS, point % OUTCOMES)?;
                history.finish()
            })
            .map(drop)
        });
        if let Some((point, broken)) = failure {
            let (operation, outcome) = (point / OUTCOMES, point % OUTCOMES);
            panic!("workload {workload}, cut at operation {operation}, outcome {outcome}: {broken}");
        }
    }
}
