//! What producers, and whoever looks after the log, do to it in one process after another.

use log_core::log::{CleanupPolicy, LogConfig};
use log_core::record::{EndOfTransaction, Marker};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;

use super::list::{Sent, What};
use super::{PARTITION, PRODUCERS};
use crate::process::{KILLED, Process, Stop, append_error, compaction_error, healthy, storage_error};
use crate::variable;

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
    pub(super) process: Process,
    pub(super) random: fastrand::Rng,
    pub(super) sent: Vec<Sent>,
    /// An append that a crash may have interrupted.
    in_flight: Option<Sent>,
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
            process: Process::new(sim, PARTITION, config),
            random,
            sent: Vec::new(),
            in_flight: None,
            head: 0,
            now_ms: 10_000,
            coverage: Coverage::default(),
        }
    }

    /// Processes that end by a fault, or at their end.
    pub(super) fn run(&mut self, faults: bool) -> Result<(), String> {
        for _ in 0..self.random.usize(1..4) {
            match self.random.u8(0..10) {
                0..6 if faults => {
                    self.process.sim.cut_at(self.process.sim.operations() + self.random.u64(0..400))
                }
                6..8 if faults => {
                    self.process.sim.fail_sync(self.process.sim.syncs() + self.random.u64(0..80))
                }
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
        self.process.end(outcome);
        Ok(())
    }

    /// A start without faults, the end of all transactions, and a start after that.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        healthy((|| {
            self.open()?;
            for producer in 0..PRODUCERS {
                self.end(producer, false)?;
            }
            self.flush()?;
            self.process.end(KILLED);
            self.open()?;
            let watermarks = self.process.log().watermarks();
            if watermarks.last_stable() != watermarks.log_end() {
                return Err(format!("all have ended: {watermarks:?}").into());
            }
            Ok(())
        })())
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
                let rolled = self.process.log().roll_if_due(i64::MAX);
                self.process.certain(rolled, append_error).map(drop)
            }
            36 => self.delete(),
            37..39 => self.reopen(),
            _ => self.check(),
        }
    }

    fn append(&mut self, producer: i64) -> Result<(), Stop> {
        let base = self.process.log().watermarks().log_end();
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
        let appended = self.process.log().append(&sent.produced(), 0, now_ms);
        let appended = self.process.certain(appended, append_error)?;
        if appended.duplicate || appended.base_offset != base {
            return Err(format!("{sent:?} was answered with {appended:?}").into());
        }
        self.sent.extend(self.in_flight.take());
        Ok(())
    }

    /// Ends the producer's transaction, if it has one: as in the first protocol, or with the next epoch.
    fn end(&mut self, producer: i64, bump: bool) -> Result<(), Stop> {
        let base = self.process.log().watermarks().log_end();
        let (epoch, _) = self.standing(producer);
        let epoch = epoch + i16::from(bump);
        let marker = if self.random.bool() { Marker::Commit } else { Marker::Abort };
        self.in_flight = Some(Sent { base, producer, epoch, what: What::End(marker) });
        let (end, now_ms) = (EndOfTransaction { marker, coordinator_epoch: 0 }, self.now_ms);
        let appended = self.process.log().append_marker(producer, epoch, end, 0, now_ms);
        let appended = self.process.certain(appended, append_error)?;
        if appended.base_offset != base {
            return Err(format!("an end at {base} was answered with {appended:?}").into());
        }
        self.sent.extend(self.in_flight.take());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let flushed = self.process.log().flush();
        self.process.certain(flushed, storage_error)?;
        self.process.saw();
        if self.random.bool() {
            let written = self.process.log().write_checkpoint();
            self.process.certain(written, storage_error)?;
        }
        self.check()
    }

    /// A flush, while transactions go on and end.
    fn overlapping_flush(&mut self) -> Result<(), Stop> {
        let Some(flush) = self.process.log().begin_flush() else { return Ok(()) };
        for _ in 0..self.random.usize(1..6) {
            let producer = self.random.i64(0..PRODUCERS);
            if self.random.bool() { self.append(producer)? } else { self.end(producer, false)? }
        }
        let ran = flush.run();
        self.process.certain(ran, storage_error)?;
        self.process.log().complete_flush(&flush);
        self.process.saw();
        self.check()
    }

    fn compact(&mut self) -> Result<(), Stop> {
        if !self.process.config.cleanup.compact {
            return Ok(());
        }
        let now_ms = self.now_ms;
        self.head = self.head.max(self.process.log().segments().last().expect("active").base_offset);
        let compacted = self.process.log().compact(now_ms, 1 << 20);
        let compacted = self.process.certain(compacted, compaction_error)?;
        self.coverage.passes += u64::from(compacted.is_some());
        self.process.saw();
        self.check()
    }

    fn delete(&mut self) -> Result<(), Stop> {
        let before = self.random.i64(self.process.log_start..=self.process.high_watermark);
        self.process.delete_records(before)?;
        self.coverage.deletions += 1;
        self.check()
    }

    /// A clean stop and a start, between which files that can be made anew may be lost or damaged.
    fn reopen(&mut self) -> Result<(), Stop> {
        self.process.close()?;
        for name in self.process.sim.list_dir(PARTITION).unwrap_or_default() {
            let path = format!("{PARTITION}/{name}");
            let spoilt = match self.random.u8(0..6) {
                0 if name.ends_with(".aborted") => self.process.sim.remove_file(&path),
                1 if name.ends_with(".aborted") => {
                    let bits = self.process.sim.file_len(&path).unwrap_or(1) * 8;
                    self.process.sim.flip_bit(&path, self.random.u64(0..bits))
                }
                2 if name.ends_with(".producers") => self.process.sim.remove_file(&path),
                _ => continue,
            };
            self.process.certain(spoilt, storage_error)?;
            self.coverage.files_spoilt += 1;
        }
        self.open()
    }

    fn open(&mut self) -> Result<(), Stop> {
        let log_end = self.process.open()?;
        self.sent.extend(self.in_flight.take());
        self.sent.retain(|sent| sent.base < log_end);
        self.check()
    }
}
