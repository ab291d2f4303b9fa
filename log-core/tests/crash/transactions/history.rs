//! What producers, and whoever looks after the log, do to it in one process after another.

use std::io;
use std::sync::Arc;

use log_core::log::{
    AppendError, CleanupPolicy, CompactionError, DeleteRecordsError, DirHealth, LogConfig, OpenError,
    PartitionLog, inspect,
};
use log_core::record::{EndOfTransaction, Marker};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;

use super::list::{Sent, What};
use super::{PARTITION, PRODUCERS};
use crate::variable;

/// Why a history stops short.
pub(super) enum Stop {
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
pub(super) struct Coverage {
    pub(super) open_over_crash: u64,
    pub(super) ends_torn: u64,
    pub(super) files_spoilt: u64,
    pub(super) told: u64,
    pub(super) passes: u64,
    pub(super) deletions: u64,
}

pub(super) struct History {
    pub(super) sim: SimStorage,
    pub(super) random: fastrand::Rng,
    config: LogConfig,
    log: Option<PartitionLog>,
    pub(super) sent: Vec<Sent>,
    /// An append that a crash may have interrupted.
    in_flight: Option<Sent>,
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
    log_start_tried: i64,
    /// Nothing from here on has ever been in reach of a compaction.
    pub(super) head: i64,
    now_ms: i64,
    pub(super) coverage: Coverage,
}

impl History {
    pub(super) fn new(seed: u64) -> History {
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
    pub(super) fn run(&mut self, faults: bool) -> Result<(), String> {
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

    pub(super) fn live(&mut self, steps: usize, outcome: u64) -> Result<(), String> {
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
    pub(super) fn finish(&mut self) -> Result<(), String> {
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

    pub(super) fn log(&mut self) -> &mut PartitionLog {
        self.log.as_mut().expect("open")
    }

    /// What an operation gave.
    pub(super) fn done<T, E: std::fmt::Debug>(
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
