//! What is done to the log, in one process after another.

use std::collections::BTreeMap;

use log_core::log::{CleanupPolicy, CompactionError, LogConfig};
use log_core::record::Compression;
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;

use super::list::{Sent, Stamped, produced};
use super::{PARTITION, PRODUCERS};
use crate::process::{KILLED, Process, Stop, append_error, compaction_error, healthy, storage_error};

/// What has been tested.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coverage {
    pub(super) passes: u64,
    pub(super) crashes_in_passes: u64,
    pub(super) removed: u64,
    pub(super) tombstones_removed: u64,
    pub(super) merged: u64,
}

pub(super) struct History {
    pub(super) process: Process,
    pub(super) random: fastrand::Rng,
    pub(super) sent: BTreeMap<i64, Sent>,
    pub(super) stamped: Vec<Stamped>,
    /// An append that a crash may have interrupted.
    in_flight: Option<(Vec<Sent>, Option<Stamped>)>,
    /// Nothing from here on has ever been in reach of a pass.
    pub(super) head: i64,
    /// When a pass may first have come by each tombstone, and when the last one was.
    pub(super) tombstones: BTreeMap<i64, i64>,
    pub(super) last_pass_ms: i64,
    pub(super) now_ms: i64,
    in_pass: bool,
    pub(super) coverage: Coverage,
}

impl History {
    pub(super) fn new(seed: u64, sim: SimStorage) -> History {
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
            process: Process::new(sim, PARTITION, config),
            random,
            sent: BTreeMap::new(),
            stamped: Vec::new(),
            in_flight: None,
            head: 0,
            tombstones: BTreeMap::new(),
            last_pass_ms: 0,
            now_ms: 10_000,
            in_pass: false,
            coverage: Coverage::default(),
        }
    }

    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.random.usize(1..4) {
            match self.random.u8(0..10) {
                0..6 => self.process.sim.cut_at(self.process.sim.operations() + self.random.u64(0..500)),
                6..8 => self.process.sim.fail_sync(self.process.sim.syncs() + self.random.u64(0..100)),
                8 => {
                    let used = u64::MAX - self.process.sim.free_bytes().expect("the power is on");
                    self.process.sim.set_capacity(used + self.random.u64(0..200_000));
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
        self.coverage.crashes_in_passes += u64::from(self.in_pass && self.process.sim.is_cut());
        self.in_pass = false;
        self.process.end(outcome);
        self.process.sim.set_capacity(u64::MAX);
        Ok(())
    }

    /// A start without faults, a pass over everything, and a start after that.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        healthy((|| {
            self.open()?;
            for _ in 0..40 {
                self.append()?;
            }
            self.now_ms += 10_000;
            self.compact()?;
            self.process.end(KILLED);
            self.open()
        })())
    }

    fn step(&mut self) -> Result<(), Stop> {
        self.now_ms += self.random.i64(0..300);
        match self.random.u8(0..24) {
            0..15 => self.append(),
            15..17 => {
                let flushed = self.process.log().flush();
                self.process.done(flushed, storage_error)?;
                let written = self.process.log().write_checkpoint();
                self.process.done(written, storage_error)?;
                self.process.saw();
                Ok(())
            }
            17..21 => self.compact(),
            21 => self.delete(),
            22 => {
                let (now_ms, before) = (self.now_ms, self.process.log_start);
                let retained = self.process.log().enforce_retention(now_ms);
                match self.process.done(retained, append_error)? {
                    Some(retained) if retained.log_start != before => {
                        Err(format!("retention deletes from a compacted log: {retained:?}").into())
                    }
                    _ => Ok(()),
                }
            }
            _ => self.reopen(),
        }
    }

    pub(super) fn append(&mut self) -> Result<(), Stop> {
        let codec = Compression::ALL[self.random.usize(..Compression::ALL.len())];
        let by_broker = self.random.u8(0..8) == 0;
        let base = self.process.log().watermarks().log_end();
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
        let appended = self.process.log().append(&batch, 0, now_ms);
        let appended = self.process.done(appended, append_error)?;
        let sent = self.in_flight.take().expect("set above");
        if let Some(appended) = appended {
            if appended.duplicate || appended.base_offset != base {
                return Err(format!("a batch for {base} was answered with {appended:?}").into());
            }
            self.note(base, sent);
        }
        Ok(())
    }

    pub(super) fn compact(&mut self) -> Result<(), Stop> {
        let now_ms = self.now_ms;
        // A budget of next to nothing holds a part of the keys only.
        let budget = if self.random.bool() { 1 << 20 } else { 0 };
        let segments = self.process.log().segments();
        self.head = self.head.max(segments.last().expect("active").base_offset);
        for (&offset, sent) in &self.sent {
            if sent.value.is_none() {
                self.tombstones.entry(offset).or_insert(now_ms);
            }
        }
        self.last_pass_ms = self.last_pass_ms.max(now_ms);
        self.in_pass = true;
        let bytes: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
        let compacted = self.process.log().compact(now_ms, budget);
        let compacted = match compacted {
            Err(CompactionError::MapTooSmall) if budget == 0 => None,
            other => self.process.done(other, compaction_error)?.flatten(),
        };
        self.in_pass = false;
        self.process.saw();
        if compacted.is_some() {
            let log = self.process.log();
            let (left, after) = (log.size_bytes(), log.segments().len());
            self.coverage.passes += 1;
            self.coverage.removed += u64::from(left < bytes);
            self.coverage.merged += u64::from(after < segments.len());
        }
        self.check()
    }

    fn delete(&mut self) -> Result<(), Stop> {
        let before = self.random.i64(self.process.log_start..=self.process.high_watermark);
        if self.random.u8(0..3) > 0 {
            return Ok(());
        }
        self.process.delete_records(before)
    }

    fn reopen(&mut self) -> Result<(), Stop> {
        self.process.close()?;
        if self.random.bool() {
            // Without snapshots the producers are known by the log alone.
            for name in self.process.sim.list_dir(PARTITION).unwrap_or_default() {
                if name.ends_with(".producers")
                    && self.process.sim.remove_file(&format!("{PARTITION}/{name}")).is_err()
                {
                    return Err(Stop::Down);
                }
            }
        }
        self.open()
    }

    pub(super) fn open(&mut self) -> Result<(), Stop> {
        let log_end = self.process.open()?;
        let end = self.sent.last_key_value().map_or(0, |(offset, _)| offset + 1);
        if let Some(sent) = self.in_flight.take()
            && log_end > end
        {
            self.note(end, sent);
        }
        self.sent.split_off(&log_end);
        self.tombstones.split_off(&log_end);
        self.stamped.retain(|batch| batch.base < log_end);
        self.check()?;
        self.check_producers()
    }
}
