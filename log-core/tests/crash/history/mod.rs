//! One history: a broker's storage from an empty disk through several crashes, checked after each.
//!
//! `workload` and `partitions` are what a process does, `start` what the next one does first, `checks` what has to
//! hold of what it finds, and `faults` what may be wrong with the disk meanwhile.

mod checks;
mod coverage;
mod faults;
mod partitions;
mod start;
mod workload;

use std::collections::BTreeMap;

use log_core::log::{LogConfig, LogDir, PartitionLog};
use log_core::storage::sim::SimStorage;

pub use coverage::Coverage;

use crate::model::{End, Partition};
use partitions::identity;

/// Partitions that the history works on, by slot.
const SLOTS: usize = 3;
/// Idempotent producers of each partition.
const PRODUCERS: i64 = 3;

/// Why a history stops short.
#[derive(Debug)]
pub enum Stop {
    /// The power was cut or a sync has failed: on to the next incarnation.
    Down,
    /// The engine has broken a promise.
    Broken(String),
}

impl From<String> for Stop {
    fn from(broken: String) -> Stop {
        Stop::Broken(broken)
    }
}

type Step<T = ()> = Result<T, Stop>;

/// The existence of a partition, with the calls that a crash may have interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existence {
    Absent,
    Creating,
    Present,
    Deleting,
}

/// A place for a partition, which comes and goes.
struct Slot {
    existence: Existence,
    model: Partition,
    open: Option<PartitionLog>,
    end: End,
}

/// A process and the disk it works on.
pub struct History {
    sim: SimStorage,
    random: fastrand::Rng,
    log_dir: Option<LogDir>,
    slots: Vec<Slot>,
    config: LogConfig,
    now_ms: i64,
    next_value: u64,
    /// Whether the disk is kept too small on purpose.
    full: bool,
    /// What recovery has kept of torn tails, by path: it is never lost.
    quarantined: BTreeMap<String, Vec<u8>>,
    /// The log ends that the last clean shutdown noted, if there has been one since the last start.
    clean: Option<BTreeMap<String, i64>>,
    /// Whether that shutdown is known to have succeeded.
    clean_for_sure: bool,
    operations_before_end: u64,
    pub coverage: Coverage,
}

impl History {
    pub fn new(seed: u64, sim: SimStorage) -> History {
        let mut random = fastrand::Rng::with_seed(seed);
        let config = LogConfig {
            segment_bytes: random.u32(1500..5000),
            segment_ms: if random.bool() { i64::MAX } else { 2000 },
            retention_ms: -1,
            retention_bytes: if random.bool() { -1 } else { 2500 },
            index_interval_bytes: random.u32(1..1500),
            ..LogConfig::default()
        };
        let slots = (0..SLOTS).map(|slot| Slot {
            existence: Existence::Absent,
            model: Partition::new(identity(slot, &mut random)),
            open: None,
            end: End::Closed,
        });
        let slots = slots.collect();
        History {
            sim,
            random,
            log_dir: None,
            slots,
            config,
            now_ms: 1_000_000,
            next_value: 0,
            full: false,
            quarantined: BTreeMap::new(),
            clean: None,
            clean_for_sure: false,
            operations_before_end: 0,
            coverage: Coverage::default(),
        }
    }

    /// The disk as it is now.
    pub fn sim(&self) -> &SimStorage {
        &self.sim
    }

    /// Several processes, one after another, each ended in its own way; then one that ends well.
    pub fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.random.usize(1..4) {
            self.choose_fault();
            let (steps, outcome) = (self.random.usize(5..80), self.random.u64(..));
            self.live(steps, outcome)?;
        }
        self.sim.set_capacity(u64::MAX);
        self.full = false;
        self.finish()
    }

    /// One process that works until the fault that the disk has been armed with, or to its end.
    /// `outcome` chooses what is left of it.
    pub fn live(&mut self, steps: usize, outcome: u64) -> Result<(), String> {
        let lived = self.start().and_then(|()| (0..steps).try_for_each(|_| self.step()));
        match lived {
            Err(Stop::Broken(broken)) => return Err(broken),
            Err(Stop::Down) if self.sim.is_cut() => {
                self.coverage.power_cuts += 1;
                self.coverage.cuts_while_opening +=
                    u64::from(self.slots.iter().all(|slot| slot.open.is_none()));
            }
            Err(Stop::Down) if self.sim.has_failed_sync() => {
                self.coverage.failed_syncs += 1;
                self.check_offline()?;
            }
            // A start or a shutdown that found no room.
            Err(Stop::Down) => self.coverage.full_disks += 1,
            Ok(()) if self.random.u8(0..4) == 0 => match self.close() {
                Err(Stop::Broken(broken)) => return Err(broken),
                Err(Stop::Down) | Ok(()) => {}
            },
            Ok(()) => {}
        }
        self.end_process(outcome);
        Ok(())
    }

    /// The operations of the process that has ended last.
    pub fn operations_before_end(&self) -> u64 {
        self.operations_before_end
    }

    /// A start without faults, work, a clean shutdown, and a start that has nothing to do.
    pub fn finish(&mut self) -> Result<(), String> {
        let finished = (|| {
            self.start()?;
            for slot in 0..SLOTS {
                self.create(slot)?;
                self.append(slot)?;
                self.flush(slot)?;
            }
            self.close()?;
            self.end_process(0);
            self.start()?;
            self.close()
        })();
        match finished {
            Err(Stop::Broken(broken)) => Err(broken),
            Err(Stop::Down) => Err("a healthy disk was given up".to_owned()),
            Ok(()) => Ok(()),
        }
    }

    /// The process is gone, and with it all that was only in its memory; the power perhaps too.
    fn end_process(&mut self, outcome: u64) {
        self.operations_before_end = self.sim.operations();
        // A cut whose page cache lives on is a kill in the middle of an operation.
        let power_cut = outcome.is_multiple_of(2);
        let end = match (power_cut, self.sim.has_failed_sync() || self.sim.is_cut()) {
            (true, _) => End::PowerCut,
            (false, true) => End::Interrupted,
            (false, false) => End::Killed,
        };
        for slot in &mut self.slots {
            slot.open = None;
            slot.end = slot.end.max(end);
        }
        self.log_dir = None;
        self.sim = if power_cut { self.sim.crash(outcome) } else { self.sim.restart() };
        self.coverage.kills += u64::from(!power_cut);
        if self.full {
            self.sim.set_capacity(u64::MAX);
            self.full = false;
        }
    }

    fn log(&mut self, slot: usize) -> &mut PartitionLog {
        self.slots[slot].open.as_mut().expect("open")
    }

    fn saw(&mut self, slot: usize) -> Step {
        let Slot { model, open, .. } = &mut self.slots[slot];
        let watermarks = open.as_ref().expect("open").watermarks();
        self.sim.note(format_args!("{slot} shows {watermarks:?}"));
        Ok(model.saw(watermarks)?)
    }
}
