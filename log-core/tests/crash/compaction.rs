//! A compacted log through random operations and crashes, against a plain list of all that was appended.
//!
//! After each compaction and each start, what a full read gives is compared with the list: of every key the
//! latest value, nothing that was not sent, offsets that rise and batches without holes between them, the
//! head untouched, tombstones for as long as they are promised, times and offsets found where they are, and
//! producers known by their last batches.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use log_core::log::{
    AppendError, CleanupPolicy, CompactionError, DeleteRecordsError, DirHealth, Isolation, LogConfig,
    LogReader, OpenError, PartitionLog, inspect,
};
use log_core::record::{BatchBuilder, Compression, ProducedBatch, batches};
use log_core::storage::Storage;
use log_core::storage::sim::{SimStorage, SyncPoint};

use crate::{Ignored, first_failure, variable};

const PARTITION: &str = "topics/table-0";
const PRODUCERS: i64 = 3;

/// A record as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// A batch of an idempotent producer.
#[derive(Clone, Debug)]
struct Stamped {
    base: i64,
    producer: i64,
    sequence: i32,
    records: Vec<Sent>,
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
    passes: u64,
    crashes_in_passes: u64,
    removed: u64,
    tombstones_removed: u64,
    merged: u64,
}

struct History {
    sim: SimStorage,
    random: fastrand::Rng,
    config: LogConfig,
    log: Option<PartitionLog>,
    sent: BTreeMap<i64, Sent>,
    stamped: Vec<Stamped>,
    /// An append that a crash may have interrupted.
    in_flight: Option<(Vec<Sent>, Option<Stamped>)>,
    high_watermark: i64,
    log_start: i64,
    log_start_tried: i64,
    /// Nothing from here on has ever been in reach of a pass.
    head: i64,
    /// When a pass may first have come by each tombstone, and when the last one was.
    tombstones: BTreeMap<i64, i64>,
    last_pass_ms: i64,
    now_ms: i64,
    in_pass: bool,
    coverage: Coverage,
}

impl History {
    fn new(seed: u64, sim: SimStorage) -> History {
        let mut random = fastrand::Rng::with_seed(seed);
        let config = LogConfig {
            segment_bytes: random.u32(1024..4000),
            retention_ms: -1,
            index_interval_bytes: random.u32(1..1500),
            cleanup: CleanupPolicy::COMPACT,
            delete_retention_ms: random.i64(0..3000),
            min_compaction_lag_ms: if random.bool() { 0 } else { random.i64(0..1000) },
            min_cleanable_dirty_millionths: random.u32(0..500_000),
            ..LogConfig::default()
        };
        History {
            sim,
            random,
            config,
            log: None,
            sent: BTreeMap::new(),
            stamped: Vec::new(),
            in_flight: None,
            high_watermark: 0,
            log_start: 0,
            log_start_tried: 0,
            head: 0,
            tombstones: BTreeMap::new(),
            last_pass_ms: 0,
            now_ms: 10_000,
            in_pass: false,
            coverage: Coverage::default(),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.random.usize(1..4) {
            match self.random.u8(0..10) {
                0..6 => self.sim.cut_at(self.sim.operations() + self.random.u64(0..500)),
                6..8 => self.sim.fail_sync(self.sim.syncs() + self.random.u64(0..100)),
                8 => {
                    let used = u64::MAX - self.sim.free_bytes().expect("the power is on");
                    self.sim.set_capacity(used + self.random.u64(0..200_000));
                }
                _ => {}
            }
            let (steps, outcome) = (self.random.usize(20..120), self.random.u64(..));
            self.live(steps, outcome)?;
        }
        self.finish()
    }

    /// One process that works until the fault that the disk is armed with, or to its end.
    fn live(&mut self, steps: usize, outcome: u64) -> Result<(), String> {
        let lived = self.open().and_then(|()| (0..steps).try_for_each(|_| self.step()));
        if let Err(Stop::Broken(broken)) = lived {
            return Err(broken);
        }
        self.coverage.crashes_in_passes += u64::from(self.in_pass && self.sim.is_cut());
        self.in_pass = false;
        self.log = None;
        let power_cut = outcome.is_multiple_of(2);
        self.sim = if power_cut { self.sim.crash(outcome) } else { self.sim.restart() };
        self.sim.set_capacity(u64::MAX);
        Ok(())
    }

    /// A start without faults, a pass over everything, and a start after that.
    fn finish(&mut self) -> Result<(), String> {
        let finished = (|| {
            self.open()?;
            for _ in 0..40 {
                self.append()?;
            }
            self.now_ms += 10_000;
            self.compact()?;
            self.sim = self.sim.restart();
            self.open()
        })();
        match finished {
            Err(Stop::Broken(broken)) => Err(broken),
            Err(Stop::Down) => Err("a healthy disk was given up".to_owned()),
            Ok(()) => Ok(()),
        }
    }

    fn log(&mut self) -> &mut PartitionLog {
        self.log.as_mut().expect("open")
    }

    fn step(&mut self) -> Result<(), Stop> {
        self.now_ms += self.random.i64(0..300);
        match self.random.u8(0..24) {
            0..15 => self.append(),
            15..17 => {
                let flushed = self.log().flush();
                self.done(flushed, |error| Some(error.kind()))?;
                let written = self.log().write_checkpoint();
                self.done(written, |error| Some(error.kind()))?;
                self.saw();
                Ok(())
            }
            17..21 => self.compact(),
            21 => self.delete(),
            22 => {
                let (now_ms, before) = (self.now_ms, self.log_start);
                let retained = self.log().enforce_retention(now_ms);
                match self.done(retained, append_error)? {
                    Some(retained) if retained.log_start != before => {
                        Err(format!("retention deletes from a compacted log: {retained:?}").into())
                    }
                    _ => Ok(()),
                }
            }
            _ => self.reopen(),
        }
    }

    /// What an operation gave; `None` if the disk was full.
    fn done<T, E: std::fmt::Debug>(
        &self,
        result: Result<T, E>,
        kind: impl Fn(&E) -> Option<io::ErrorKind>,
    ) -> Result<Option<T>, Stop> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.sim.is_cut() || self.sim.has_failed_sync() => Err(Stop::Down),
            Err(error) if kind(&error) == Some(io::ErrorKind::StorageFull) => Ok(None),
            Err(error) => Err(Stop::Broken(format!("{error:?} on a healthy disk"))),
        }
    }

    fn saw(&mut self) {
        self.high_watermark = self.log().watermarks().high_watermark();
    }

    fn append(&mut self) -> Result<(), Stop> {
        let codec = Compression::ALL[self.random.usize(..Compression::ALL.len())];
        let by_broker = self.random.u8(0..8) == 0;
        let base = self.log().watermarks().log_end();
        let records: Vec<Sent> = (0..self.random.i64(1..7))
            .map(|index| Sent {
                timestamp: if by_broker { self.now_ms } else { self.now_ms + self.random.i64(-500..500) },
                key: (self.random.u8(0..30) > 0).then(|| format!("k{}", self.random.u8(0..30)).into_bytes()),
                value: (self.random.u8(0..4) > 0)
                    .then(|| format!("{}.", base + index).repeat(self.random.usize(1..9)).into_bytes()),
            })
            .collect();
        let stamped = self.random.bool().then(|| {
            let producer = self.random.i64(0..PRODUCERS);
            let sequence = self.next_sequence(producer);
            Stamped { base, producer, sequence, records: records.clone() }
        });
        let batch = produced(codec, by_broker.then_some(self.now_ms), stamped.as_ref(), &records);
        self.in_flight = Some((records, stamped));
        let now_ms = self.now_ms;
        let appended = self.log().append(&batch, 0, now_ms);
        let appended = self.done(appended, append_error)?;
        let sent = self.in_flight.take().expect("set above");
        if let Some(appended) = appended {
            if appended.duplicate || appended.base_offset != base {
                return Err(format!("a batch for {base} was answered with {appended:?}").into());
            }
            self.note(base, sent);
        }
        Ok(())
    }

    fn note(&mut self, base: i64, (records, stamped): (Vec<Sent>, Option<Stamped>)) {
        self.sent.extend((base..).zip(records));
        self.stamped.extend(stamped);
    }

    fn next_sequence(&self, producer: i64) -> i32 {
        let last = self.stamped.iter().rfind(|batch| batch.producer == producer);
        last.map_or(0, |batch| batch.sequence + batch.records.len() as i32)
    }

    fn compact(&mut self) -> Result<(), Stop> {
        let now_ms = self.now_ms;
        // A budget of next to nothing holds a part of the keys only.
        let budget = if self.random.bool() { 1 << 20 } else { 0 };
        let segments = self.log().segments();
        self.head = self.head.max(segments.last().expect("active").base_offset);
        for (&offset, sent) in &self.sent {
            if sent.value.is_none() {
                self.tombstones.entry(offset).or_insert(now_ms);
            }
        }
        self.last_pass_ms = self.last_pass_ms.max(now_ms);
        self.in_pass = true;
        let bytes: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
        let compacted = self.log().compact(now_ms, budget);
        let compacted = match compacted {
            Err(CompactionError::MapTooSmall) if budget == 0 => None,
            other => self.done(other, compaction_error)?.flatten(),
        };
        self.in_pass = false;
        self.saw();
        if compacted.is_some() {
            let log = self.log();
            let (left, after) = (log.size_bytes(), log.segments().len());
            self.coverage.passes += 1;
            self.coverage.removed += u64::from(left < bytes);
            self.coverage.merged += u64::from(after < segments.len());
        }
        self.check()
    }

    fn delete(&mut self) -> Result<(), Stop> {
        let before = self.random.i64(self.log_start..=self.high_watermark);
        if self.random.u8(0..3) > 0 {
            return Ok(());
        }
        self.log_start_tried = before;
        let deleted = self.log().delete_records(before);
        match self.done(deleted, |error| match error {
            DeleteRecordsError::Unwritable(error) => append_error(error),
            DeleteRecordsError::OutOfRange { .. } => None,
        })? {
            Some(log_start) => self.log_start = log_start,
            // It may have moved before there was no room for the rest.
            None => self.log_start = self.log().watermarks().log_start(),
        }
        self.log_start_tried = self.log_start;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), Stop> {
        let closed = self.log().close();
        if self.done(closed, |error| Some(error.kind()))?.is_some() {
            self.saw_after_close();
        }
        self.log = None;
        if self.random.bool() {
            // Without snapshots the producers are known by the log alone.
            for name in self.sim.list_dir(PARTITION).unwrap_or_default() {
                if name.ends_with(".producers")
                    && self.sim.remove_file(&format!("{PARTITION}/{name}")).is_err()
                {
                    return Err(Stop::Down);
                }
            }
        }
        self.open()
    }

    fn saw_after_close(&mut self) {
        self.high_watermark = self.log().watermarks().high_watermark();
    }

    fn open(&mut self) -> Result<(), Stop> {
        let storage = Arc::new(self.sim.clone());
        let health = Arc::new(DirHealth::default());
        let made = self.sim.create_dir_all(PARTITION).and_then(|()| {
            self.sim.sync_dir("")?;
            self.sim.sync_dir("topics")
        });
        if self.done(made, |error| Some(error.kind()))?.is_none() {
            return Err(Stop::Down);
        }
        if let Ok(found) = inspect(storage.clone(), PARTITION, &mut |_, _, _| {})
            && !found.is_sound()
        {
            return Err(format!("verify would say: {:?}", found.findings).into());
        }
        let opened = PartitionLog::open(storage, PARTITION, health, self.config.clone());
        let opened = self.done(opened, |error| match error {
            OpenError::Storage { source, .. } => Some(source.kind()),
            OpenError::Offline { .. } => None,
        })?;
        let Some((log, report)) = opened else { return Err(Stop::Down) };
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
        let end = self.sent.last_key_value().map_or(0, |(offset, _)| offset + 1);
        if let Some(sent) = self.in_flight.take()
            && log_end > end
        {
            self.note(end, sent);
        }
        self.sent.split_off(&log_end);
        self.tombstones.split_off(&log_end);
        self.stamped.retain(|batch| batch.base < log_end);
        self.high_watermark = log_end;
        self.check()?;
        self.check_producers()
    }

    fn check(&mut self) -> Result<(), Stop> {
        let reader = self.log().reader();
        let there = read_all(&reader, self.log_start, self.high_watermark)?;
        for (offset, record) in &there {
            if self.sent.get(offset) != Some(record) {
                return Err(format!("at {offset}: {record:?}, sent was {:?}", self.sent.get(offset)).into());
            }
        }
        let (mut latest, mut latest_there) = (BTreeMap::new(), BTreeMap::new());
        for (&offset, sent) in self.sent.range(self.log_start..self.high_watermark) {
            latest.extend(sent.key.clone().map(|key| (key, offset)));
            if offset >= self.head && !there.contains_key(&offset) {
                return Err(format!("{offset} is gone from the head, which begins at {}", self.head).into());
            }
        }
        for (&offset, record) in &there {
            latest_there.extend(record.key.clone().map(|key| (key, offset)));
        }
        for (key, offset) in latest {
            let is_tombstone = self.sent[&offset].value.is_none();
            match latest_there.get(&key) {
                Some(found) if *found == offset => {}
                None if is_tombstone => {
                    let since = self.tombstones.get(&offset).copied().unwrap_or(i64::MAX);
                    if since.saturating_add(self.config.delete_retention_ms) > self.last_pass_ms {
                        return Err(format!("the tombstone at {offset} is gone too early").into());
                    }
                    self.coverage.tombstones_removed += 1;
                }
                found => {
                    let sent = &self.sent[&offset];
                    return Err(format!("the latest of its key is {offset} {sent:?}, not {found:?}").into());
                }
            }
        }
        self.check_lookups(&reader, &there).map_err(Stop::from)
    }

    fn check_lookups(&mut self, reader: &LogReader, there: &BTreeMap<i64, Sent>) -> Result<(), String> {
        let isolation = Isolation::Uncommitted;
        for _ in 0..4 {
            let time = self.now_ms + self.random.i64(-3000..1000);
            let found = reader.offset_for_timestamp(time, isolation).map_err(|error| error.to_string())?;
            let expected = there.iter().find(|(_, record)| record.timestamp >= time);
            if found.map(|found| (found.offset, found.timestamp))
                != expected.map(|(offset, record)| (*offset, record.timestamp))
            {
                return Err(format!("time {time} is at {found:?}, not {expected:?}"));
            }
            let offset = self.random.i64(self.log_start..=self.high_watermark);
            let found = reader.record_timestamp(offset, isolation).map_err(|error| error.to_string())?;
            let expected = there.range(offset..).next();
            if found.map(|found| found.offset) != expected.map(|(offset, _)| *offset) {
                return Err(format!("from {offset} on comes {found:?}, not {expected:?}"));
            }
        }
        let found = reader.max_timestamp(isolation).map_err(|error| error.to_string())?;
        let largest = there.values().map(|record| record.timestamp).max();
        if found.map(|found| found.timestamp) != largest {
            return Err(format!("the largest timestamp is {largest:?}, not {found:?}"));
        }
        Ok(())
    }

    /// Producers are known by their last five batches, whatever is left of them.
    fn check_producers(&mut self) -> Result<(), Stop> {
        for producer in 0..PRODUCERS {
            let known: Vec<Stamped> = self
                .stamped
                .iter()
                .rev()
                .filter(|batch| batch.producer == producer)
                .take(5)
                .take_while(|batch| batch.base >= self.log_start)
                .cloned()
                .collect();
            for batch in known {
                let again = produced(Compression::None, None, Some(&batch), &batch.records);
                let now_ms = self.now_ms;
                let appended = self.log().append(&again, 0, now_ms);
                let appended = self.done(appended, append_error)?;
                if !appended.is_some_and(|appended| appended.duplicate && appended.base_offset == batch.base)
                {
                    return Err(format!("{batch:?} was stored again: {appended:?}").into());
                }
            }
        }
        Ok(())
    }
}

fn produced(
    codec: Compression,
    append_time: Option<i64>,
    stamped: Option<&Stamped>,
    records: &[Sent],
) -> ProducedBatch {
    let mut builder = BatchBuilder::new(codec);
    if let Some(batch) = stamped {
        builder = builder.producer(batch.producer, 0, batch.sequence);
    }
    if let Some(now_ms) = append_time {
        builder = builder.log_append_time(now_ms);
    }
    for Sent { timestamp, key, value } in records {
        builder.append(*timestamp, key.as_deref(), value.as_deref(), &[]).expect("small");
    }
    ProducedBatch::internal(builder.build(0).expect("small")).expect("well made")
}

/// Every record from `from` on, read batch by batch: offsets rise, and no batch leaves a hole.
fn read_all(reader: &LogReader, from: i64, end: i64) -> Result<BTreeMap<i64, Sent>, String> {
    let mut there = BTreeMap::new();
    let (mut offset, mut next) = (from, None);
    while offset < end {
        let read =
            reader.read(offset, 700, Isolation::Uncommitted, true).map_err(|error| error.to_string())?;
        for batch in batches(&read.records) {
            let batch = batch.map_err(|error| error.to_string())?;
            batch.verify_crc().map_err(|error| error.to_string())?;
            if next.is_some_and(|next| next != batch.base_offset()) {
                return Err(format!("{next:?} was due, and {batch:?} came"));
            }
            next = Some(batch.next_offset());
            for record in batch.records(Default::default()).map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                let owned = |bytes: Option<bytes::Bytes>| bytes.map(|bytes| bytes.to_vec());
                let sent =
                    Sent { timestamp: record.timestamp, key: owned(record.key), value: owned(record.value) };
                if record.offset >= from && there.insert(record.offset, sent).is_some() {
                    return Err(format!("{} comes twice", record.offset));
                }
            }
        }
        if read.next_offset <= offset {
            return Err(format!("nothing at {offset}, the high watermark is {end}"));
        }
        offset = read.next_offset;
    }
    Ok(there)
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

fn run(
    seed: u64,
    ignored: Option<Ignored>,
    act: impl Fn(&mut History) -> Result<(), String>,
) -> Result<Coverage, String> {
    let sim = SimStorage::new(seed);
    if let Some(ignored) = ignored {
        sim.ignore_syncs(ignored);
    }
    if variable("HIGHWATER_CRASH_SEED").is_some() {
        sim.record_trace();
    }
    let mut history = History::new(seed, sim);
    let result = crate::caught(|| act(&mut history));
    history.sim.trace().iter().for_each(|line| println!("{line}"));
    result.map(|()| history.coverage)
}

/// Random histories: as many as a tenth of `HIGHWATER_CRASH_HISTORIES`, or the one that
/// `HIGHWATER_CRASH_SEED` names.
#[test]
fn compaction_keeps_the_latest_of_every_key() {
    let (first, count) = match variable("HIGHWATER_CRASH_SEED") {
        Some(seed) => (seed, 1),
        None => (0, variable("HIGHWATER_CRASH_HISTORIES").unwrap_or(10_000) / 10),
    };
    let coverage = Mutex::new(Coverage::default());
    let failure = first_failure(first, count, |seed| {
        let more = run(seed, None, History::run)?;
        let mut all = coverage.lock().expect("not poisoned");
        all.passes += more.passes;
        all.crashes_in_passes += more.crashes_in_passes;
        all.removed += more.removed;
        all.tombstones_removed += more.tombstones_removed;
        all.merged += more.merged;
        Ok(())
    });
    if let Some((seed, broken)) = failure {
        panic!("HIGHWATER_CRASH_SEED={seed}: {broken}");
    }
    let all = coverage.into_inner().expect("not poisoned");
    println!("{count} histories: {all:?}");
    if count >= 1000 {
        let seen = [all.passes, all.crashes_in_passes, all.removed, all.tombstones_removed, all.merged];
        assert!(seen.iter().all(|count| *count >= 10), "hardly tested: {all:?}");
    }
}

/// Two passes with appends between them, ended at each of their operations in turn.
#[test]
fn every_operation_of_a_compaction_can_be_the_last() {
    const OUTCOMES: u64 = 6;
    let begun = AtomicU64::new(0);
    let whole = |history: &mut History| -> Result<(), Stop> {
        history.config.min_compaction_lag_ms = 0;
        history.config.min_cleanable_dirty_millionths = 0;
        history.open()?;
        for _ in 0..60 {
            history.append()?;
        }
        begun.fetch_max(history.sim.operations(), Ordering::Relaxed);
        history.compact()?;
        for _ in 0..60 {
            history.append()?;
        }
        history.now_ms += 5000;
        history.compact()
    };
    for workload in 0..4 {
        begun.store(0, Ordering::Relaxed);
        let operations = AtomicU64::new(0);
        run(workload, None, |history| {
            whole(history).map_err(|stop| match stop {
                Stop::Broken(broken) => broken,
                Stop::Down => "a healthy disk was given up".to_owned(),
            })?;
            operations.store(history.sim.operations(), Ordering::Relaxed);
            Ok(())
        })
        .unwrap_or_else(|broken| panic!("workload {workload}, uncut: {broken}"));
        let (first, last) = (begun.load(Ordering::Relaxed), operations.into_inner());
        let failure = first_failure(first * OUTCOMES, (last - first) * OUTCOMES, |point| {
            run(workload, None, |history| {
                history.sim.cut_at(point / OUTCOMES);
                if let Err(Stop::Broken(broken)) = whole(history) {
                    return Err(broken);
                }
                history.log = None;
                let outcome = point % OUTCOMES;
                history.sim = if outcome < 4 { history.sim.crash(outcome) } else { history.sim.restart() };
                history.finish()
            })
            .map(|_| ())
        });
        if let Some((point, broken)) = failure {
            let (operation, outcome) = (point / OUTCOMES, point % OUTCOMES);
            panic!("workload {workload}, cut at operation {operation}, outcome {outcome}: {broken}");
        }
    }
}

fn changes(point: &SyncPoint<'_>, ending: &str) -> bool {
    point.is_directory && point.changed_names.iter().any(|name| name.ends_with(ending))
}

/// The suite would notice a sync that is missing from a pass.
#[test]
fn every_sync_of_a_compaction_is_missed() {
    const SYNCS: &[(&str, Ignored)] = &[
        ("a compacted segment", |point| !point.is_directory && point.path.ends_with(".cleaned")),
        ("its name", |point| changes(point, ".swap")),
        ("the removal of what it replaces", |point| {
            changes(point, ".log") && !changes(point, ".swap") && point.path.starts_with("topics/")
        }),
    ];
    let unnoticed: BTreeSet<&str> = SYNCS
        .iter()
        .filter(|(what, ignored)| {
            let failure = first_failure(0, 4000, |seed| run(seed, Some(*ignored), History::run).map(|_| ()));
            if let Some((seed, broken)) = &failure {
                println!("without {what}: seed {seed}: {broken}");
            }
            failure.is_none()
        })
        .map(|(what, _)| *what)
        .collect();
    assert!(unnoticed.is_empty(), "nothing is missed without {unnoticed:?}");
}

/// Two faults in a row: a process is killed in the middle of a pass, the next one finishes the swap that
/// it finds, and the power goes. Nothing that the swap replaces is removed on the word of a name that is
/// not durable.
#[test]
fn a_swap_of_a_killed_process_is_finished_or_undone() {
    const OUTCOMES: u64 = 30;
    let config = LogConfig {
        segment_bytes: 1500,
        cleanup: CleanupPolicy::COMPACT,
        min_cleanable_dirty_millionths: 0,
        ..LogConfig::default()
    };
    let open = |sim: &SimStorage| {
        PartitionLog::open(Arc::new(sim.clone()), PARTITION, Arc::default(), config.clone())
    };
    let fill = |seed: u64| {
        let sim = SimStorage::new(seed);
        sim.create_dir_all(PARTITION).expect("room");
        sim.sync_dir("").and_then(|()| sim.sync_dir("topics")).expect("healthy");
        let (mut log, _) = open(&sim).expect("healthy");
        for n in 0..40 {
            let key = Some(format!("k{}", n % 12).into_bytes());
            let record = Sent { timestamp: n, key, value: Some(vec![n as u8; 100]) };
            log.append(&produced(Compression::None, None, None, &[record]), 0, n).expect("room");
        }
        log.flush().and_then(|()| log.write_checkpoint()).expect("healthy");
        // Several of the small segments fit into one.
        log.set_config(LogConfig { segment_bytes: 6000, ..config.clone() });
        (sim, log)
    };
    let latest = |log: &PartitionLog| {
        let there = read_all(&log.reader(), 0, log.watermarks().high_watermark()).expect("readable");
        let of_key = there.into_iter().map(|(offset, sent)| (sent.key, (offset, sent.value)));
        of_key.collect::<BTreeMap<_, _>>()
    };
    let (sim, mut log) = fill(1);
    let expected = latest(&log);
    let first = sim.operations();
    log.compact(100, 1 << 20).expect("healthy").expect("due");
    let last = sim.operations();
    assert_eq!(latest(&log), expected);

    let mut swaps = 0;
    for killed_in in first..last {
        let (sim, mut log) = fill(1);
        sim.cut_at(killed_in);
        log.compact(100, 1 << 20).expect_err("the power is cut");
        drop(log);
        let names = sim.restart().list_dir(PARTITION).expect("there");
        swaps += u64::from(names.iter().any(|name| name.ends_with(".swap")));
        for operation in 0..12 {
            let next = sim.restart();
            next.cut_at(next.operations() + operation);
            drop(open(&next));
            for outcome in 0..OUTCOMES {
                let when = format!("killed in {killed_in}, cut in {operation}, outcome {outcome}");
                let (log, report) = open(&next.crash(outcome)).expect("a healthy disk");
                assert_eq!(report.corruption, None, "{when}");
                assert_eq!(latest(&log), expected, "{when}");
            }
        }
    }
    assert!(swaps > 0, "no process was killed between a commit and its end");
}
