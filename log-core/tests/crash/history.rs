//! One history: a broker's storage from an empty disk through several crashes, checked after each.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use log_core::log::{
    AppendError, CheckpointWrite, CleanShutdown, DeleteRecordsError, Flush, LeaderEpochs, LogConfig, LogDir,
    LogDirError, LogDirOptions, OpenError, PartitionIdentity, PartitionLog, RecoveryReport, ScrubEvent,
    SequenceError,
};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;
use uuid::Uuid;

use crate::model::{Batch, End, Partition};

/// Partitions that the history works on, by slot.
const SLOTS: usize = 3;
/// Idempotent producers of each partition.
const PRODUCERS: i64 = 3;
/// Batches that an idempotent client has under way at most, as librdkafka and the Java client do.
const IN_FLIGHT_MAX: usize = 5;

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

/// What the histories have been through, so that a suite can tell that it tested something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coverage {
    pub appends: u64,
    pub duplicates: u64,
    pub power_cuts: u64,
    pub cuts_while_opening: u64,
    pub kills: u64,
    pub failed_syncs: u64,
    pub full_disks: u64,
    pub torn_tails: u64,
    pub segments_deleted: u64,
    pub clean_starts: u64,
    pub scrubs: u64,
}

impl Coverage {
    fn counts(&mut self) -> [&mut u64; 11] {
        let Coverage { appends, duplicates, power_cuts, cuts_while_opening, kills, .. } = self;
        let [a, b, c, d, e] = [appends, duplicates, power_cuts, cuts_while_opening, kills];
        let Coverage { failed_syncs, full_disks, torn_tails, segments_deleted, clean_starts, scrubs, .. } =
            self;
        [a, b, c, d, e, failed_syncs, full_disks, torn_tails, segments_deleted, clean_starts, scrubs]
    }

    /// # Panics
    /// If something that the suite is about has not happened.
    pub fn assert_complete(mut self) {
        let copy = self;
        assert!(self.counts().iter().all(|count| **count >= 10), "hardly tested: {copy:?}");
    }
}

impl std::ops::AddAssign for Coverage {
    fn add_assign(&mut self, mut other: Coverage) {
        for (count, more) in self.counts().into_iter().zip(other.counts()) {
            *count += *more;
        }
    }
}

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

    fn choose_fault(&mut self) {
        match self.random.u8(0..10) {
            0..6 => self.sim.cut_at(self.sim.operations() + self.random.u64(0..400)),
            6..8 => self.sim.fail_sync(self.sim.syncs() + self.random.u64(0..80)),
            8 => {
                let used = u64::MAX - self.sim.free_bytes().expect("the power is on");
                self.sim.set_capacity(used + self.random.u64(0..500_000));
                self.full = true;
            }
            _ => {}
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

    fn start(&mut self) -> Step {
        let storage: Arc<dyn Storage> = Arc::new(self.sim.clone());
        let log_dir = LogDir::open(storage, &LogDirOptions { node_id: 1, cluster_id: None });
        // A start that fails may have taken the note away.
        let clean_for_sure = std::mem::take(&mut self.clean_for_sure);
        let log_dir = self.check(log_dir, dir_error)?;
        if clean_for_sure && !log_dir.was_clean() {
            return Err(Stop::Broken("a clean shutdown is forgotten".to_owned()));
        }
        let found = log_dir.partitions();
        let found = self.check(found, dir_error)?;
        for slot in &mut self.slots {
            let identity = &slot.model.identity;
            let there = found.partitions.contains(identity);
            match slot.existence {
                Existence::Absent if there => {
                    return Err(Stop::Broken(format!("{identity:?} has come back")));
                }
                Existence::Present if !there => {
                    return Err(Stop::Broken(format!("{identity:?} is gone: {found:?}")));
                }
                Existence::Deleting if !there => slot.existence = Existence::Absent,
                _ => {}
            }
            if log_dir.was_clean() && there {
                let noted = log_dir.clean_log_end(identity);
                let truth =
                    self.clean.as_ref().and_then(|ends| ends.get(&identity.directory_name()).copied());
                if self.clean.is_none() || noted != truth {
                    return Err(Stop::Broken(format!(
                        "a shutdown passes for clean: {noted:?} instead of {truth:?}"
                    )));
                }
            }
        }
        self.coverage.clean_starts += u64::from(log_dir.was_clean());
        // From here on the note of a clean shutdown would be a lie.
        self.clean = None;
        for (path, kept) in &self.quarantined {
            if self.sim.read(path).ok().as_ref() != Some(kept) && !self.sim.is_cut() {
                return Err(Stop::Broken(format!("{path} was kept and is lost")));
            }
        }
        self.log_dir = Some(log_dir);
        let there =
            |slot: &usize| matches!(self.slots[*slot].existence, Existence::Present | Existence::Deleting);
        let there: Vec<usize> = (0..SLOTS).filter(there).collect();
        if self.random.bool() {
            self.open_together(&there)
        } else {
            there.iter().try_for_each(|&slot| self.open(slot))
        }
    }

    /// As a broker starts.
    fn open_together(&mut self, slots: &[usize]) -> Step {
        slots.iter().try_for_each(|&slot| self.check_epochs(slot))?;
        let log_dir = self.log_dir.as_ref().expect("open");
        let opened = log_dir.open_partitions(&self.wanted(slots), 1);
        let opened = self.check(opened, dir_error)?;
        // Those that are open have been shown, whatever has become of the others.
        let mut outcome = Ok(());
        for (&slot, opened) in slots.iter().zip(opened) {
            let taken = self.check(opened, dir_error).and_then(|opened| self.take(slot, opened));
            outcome = outcome.and(taken);
        }
        outcome
    }

    fn wanted(&self, slots: &[usize]) -> Vec<(PartitionIdentity, LogConfig)> {
        slots.iter().map(|&slot| (self.slots[slot].model.identity.clone(), self.config.clone())).collect()
    }

    fn check_epochs(&self, slot: usize) -> Step {
        let epochs = format!("topics/{}/leader-epochs", self.slots[slot].model.identity.directory_name());
        if self.sim.read(&epochs).is_ok_and(|bytes| LeaderEpochs::decode(&bytes).is_none()) {
            return Err(Stop::Broken(format!("{epochs} is neither the old nor the new")));
        }
        Ok(())
    }

    fn open(&mut self, slot: usize) -> Step {
        self.check_epochs(slot)?;
        let log_dir = self.log_dir.as_ref().expect("open");
        let opened = log_dir.open_partition(&self.slots[slot].model.identity, self.config.clone());
        let opened = self.check(opened, dir_error)?;
        self.take(slot, opened)
    }

    /// Checks what a start has found of a partition, and goes on with it.
    fn take(&mut self, slot: usize, (log, report): (PartitionLog, RecoveryReport)) -> Step {
        for path in &report.quarantined {
            self.coverage.torn_tails += 1;
            let kept = self.sim.read(path);
            let kept = self.check(kept, io_error)?;
            self.quarantined.insert(path.clone(), kept);
        }
        let Slot { model, open, existence, end } = &mut self.slots[slot];
        let end = std::mem::replace(end, End::Closed);
        self.sim.note(format_args!("{slot} is open: {:?}, {report:?}", log.watermarks()));
        let checked = model.check_reopened(end, &log.reader(), &report, &mut self.random);
        *open = Some(log);
        // A deletion that came to nothing.
        *existence = Existence::Present;
        self.judge(checked)?;
        self.scrub(slot)?;
        self.check_producers(slot)?;
        self.resend(slot)
    }

    /// Producers are known by what has survived.
    fn check_producers(&mut self, slot: usize) -> Step {
        for id in 0..PRODUCERS {
            let Some(epoch) = self.slots[slot].model.clients.get(&id).map(|client| client.epoch) else {
                continue;
            };
            for batch in self.slots[slot].model.remembered(id, epoch) {
                self.expect_duplicate(slot, &batch)?;
            }
            let Some(last) = self.slots[slot].model.remembered(id, epoch).pop() else { continue };
            let mut gap = last.clone();
            let stamp = gap.producer.as_mut().expect("of a producer");
            stamp.sequence += last.records.len() as i32 + 1;
            let now_ms = self.now_ms;
            match self.log(slot).append(&gap.produced(), gap.leader_epoch, now_ms) {
                Err(AppendError::Sequence { error: SequenceError::OutOfOrder { .. }, .. }) => {}
                Err(AppendError::Offline { .. }) => return Err(Stop::Down),
                other => return Err(Stop::Broken(format!("a gap was answered with {other:?}"))),
            }
        }
        Ok(())
    }

    fn expect_duplicate(&mut self, slot: usize, batch: &Batch) -> Step {
        let now_ms = self.now_ms;
        let appended = self.log(slot).append(&batch.produced(), batch.leader_epoch, now_ms);
        let appended = self.check(appended, append_error)?;
        if !appended.duplicate || appended.base_offset != batch.base_offset {
            return Err(Stop::Broken(format!("{batch:?} was stored again: {appended:?}")));
        }
        self.coverage.duplicates += 1;
        Ok(())
    }

    /// Clients send again what has not been acknowledged: what survived is known, the rest is new.
    fn resend(&mut self, slot: usize) -> Step {
        for id in 0..PRODUCERS {
            let Some(client) = self.slots[slot].model.clients.get_mut(&id) else { continue };
            let mut left: VecDeque<Batch> = std::mem::take(&mut client.unacknowledged).into();
            while let Some(batch) = left.pop_front() {
                if let Err(stop) = self.resend_one(slot, batch) {
                    // The client lives on and goes on from here.
                    let client = self.slots[slot].model.clients.entry(id).or_default();
                    client.unacknowledged.extend(left);
                    return Err(stop);
                }
            }
        }
        Ok(())
    }

    fn resend_one(&mut self, slot: usize, batch: Batch) -> Step {
        let survived = self.slots[slot].model.batches.iter().find(|other| other.producer == batch.producer);
        match survived.cloned() {
            Some(survived) if survived.base_offset >= self.slots[slot].model.log_start => {
                self.expect_duplicate(slot, &survived)
            }
            Some(_) => Ok(()),
            None => self.send(slot, batch),
        }
    }

    fn step(&mut self) -> Step {
        self.now_ms += self.random.i64(0..500);
        let slot = self.random.usize(0..SLOTS);
        if self.slots[slot].open.is_none() {
            return if self.random.bool() { self.create_together() } else { self.create(slot) };
        }
        let choice = self.random.u8(0..100);
        match choice {
            0..45 => self.append(slot),
            45..60 => self.flush(slot),
            60..63 => self.overlapping_flushes(slot),
            63..66 => self.flush_together(),
            66..73 => self.checkpoint(slot),
            73..76 => self.checkpoint_together(),
            76..80 => self.roll(slot),
            80..84 => self.retain(slot),
            84..88 => self.delete_records(slot),
            88..91 => {
                self.slots[slot].model.leader_epoch += 1;
                Ok(())
            }
            91..94 => self.check_content(slot),
            94..96 => self.new_producer_epoch(slot),
            96..98 => self.reopen(slot),
            98 => self.delete(slot),
            _ => {
                self.close()?;
                self.start()
            }
        }
    }

    fn append(&mut self, slot: usize) -> Step {
        let count = self.random.usize(1..5);
        let large = self.random.u8(0..20) == 0;
        let records = (0..count).map(|_| {
            self.next_value += 1;
            let mut value = self.next_value.to_be_bytes().to_vec();
            value.resize(8 + self.random.usize(0..if large { 300 } else { 100 }), self.next_value as u8);
            (self.now_ms + self.random.i64(-300..300), value)
        });
        let records: Vec<(i64, Vec<u8>)> = records.collect();
        let model = &mut self.slots[slot].model;
        let id = self.random.i64(-2..PRODUCERS);
        let full = model.clients.get(&id).is_some_and(|client| client.unacknowledged.len() >= IN_FLIGHT_MAX);
        let producer = (id >= 0 && !full).then(|| model.stamp(id, count));
        self.send(slot, Batch { base_offset: 0, leader_epoch: 0, records, producer })
    }

    fn send(&mut self, slot: usize, mut batch: Batch) -> Step {
        let now_ms = self.now_ms;
        let Slot { model, open, .. } = &mut self.slots[slot];
        batch.base_offset = model.log_end().max(model.log_start);
        batch.leader_epoch = model.leader_epoch;
        if let Some(stamp) = batch.producer {
            model.clients.entry(stamp.id).or_default().unacknowledged.push(batch.clone());
        }
        model.in_flight = Some(batch.clone());
        let log = open.as_mut().expect("open");
        let appended = log.append(&batch.produced(), batch.leader_epoch, now_ms);
        self.sim.note(format_args!(
            "append to {slot} at {} of {:?}: {appended:?}",
            batch.base_offset, batch.producer
        ));
        self.coverage.appends += 1;
        match self.check(appended, append_error) {
            Ok(appended) => Ok(self.slots[slot].model.appended(&appended)?),
            Err(Stop::Down) if !self.sim.is_cut() && !self.offline() => {
                // A full disk: the log is as it was, and the client will try again, in order.
                self.slots[slot].model.in_flight = None;
                self.give_room();
                let model = &mut self.slots[slot].model;
                if let Some(stamp) = batch.producer {
                    model.clients.entry(stamp.id).or_default().unacknowledged.pop();
                }
                self.send(slot, batch)
            }
            Err(stop) => {
                if !self.sim.is_cut() {
                    // Refused before it was stored, or because the directory was offline already.
                    self.slots[slot].model.in_flight = None;
                }
                Err(stop)
            }
        }
    }

    fn flush(&mut self, slot: usize) -> Step {
        let Some(flush) = self.log(slot).begin_flush() else { return Ok(()) };
        if self.random.bool() {
            self.append(slot)?;
        }
        let run = flush.run();
        self.check(run, io_error)?;
        if self.random.bool() {
            self.append(slot)?;
        }
        self.log(slot).complete_flush(flush);
        self.saw(slot)
    }

    /// One flush for all partitions that need one.
    fn flush_together(&mut self) -> Step {
        let mut slots = Vec::new();
        let mut flushes = Vec::new();
        for slot in 0..SLOTS {
            if let Some(flush) = self.slots[slot].open.as_mut().and_then(PartitionLog::begin_flush) {
                slots.push(slot);
                flushes.push(flush);
            }
        }
        let Some(&some) = slots.first() else { return Ok(()) };
        if self.random.bool() {
            self.append(some)?;
        }
        let run = Flush::run_together(&flushes, &self.sim);
        self.check(run, io_error)?;
        if self.random.bool() {
            self.append(some)?;
        }
        for (slot, flush) in slots.into_iter().zip(flushes) {
            self.log(slot).complete_flush(flush);
            self.saw(slot)?;
        }
        Ok(())
    }

    /// Two flushes of one partition that finish in the other order.
    fn overlapping_flushes(&mut self, slot: usize) -> Step {
        let Some(first) = self.log(slot).begin_flush() else { return Ok(()) };
        self.append(slot)?;
        let second = self.log(slot).begin_flush().expect("something was appended");
        let run = second.run();
        self.check(run, io_error)?;
        self.append(slot)?;
        self.log(slot).complete_flush(second);
        self.saw(slot)?;
        let run = first.run();
        self.check(run, io_error)?;
        self.log(slot).complete_flush(first);
        self.saw(slot)
    }

    fn checkpoint(&mut self, slot: usize) -> Step {
        let durable_end = self.slots[slot].model.high_watermark;
        let Some(checkpoint) = self.log(slot).begin_checkpoint() else { return Ok(()) };
        match self.random.u8(0..4) {
            0 => self.append(slot)?,
            1 => self.flush(slot)?,
            2 => self.delete_records(slot)?,
            _ => {}
        }
        let before = self.snapshots(slot)?;
        let run = checkpoint.run();
        if self.tolerate_full(run, io_error)? {
            let after = self.snapshots(slot)?;
            self.checkpointed(slot, durable_end, &before, &after);
        }
        Ok(())
    }

    /// The checkpoints of all partitions at once.
    fn checkpoint_together(&mut self) -> Step {
        let mut begun = Vec::new();
        let mut writes = Vec::new();
        for slot in 0..SLOTS {
            let durable_end = self.slots[slot].model.high_watermark;
            if let Some(write) = self.slots[slot].open.as_mut().and_then(PartitionLog::begin_checkpoint) {
                let before = self.snapshots(slot)?;
                begun.push((slot, durable_end, before));
                writes.push(write);
            }
        }
        if let Some((slot, ..)) = begun.first()
            && self.random.bool()
        {
            self.delete_records(*slot)?;
        }
        let done = CheckpointWrite::run_together(&writes, &self.sim);
        let (was_full, mut outcome) = (self.full, Ok(()));
        for ((slot, durable_end, before), done) in begun.into_iter().zip(done) {
            // One disk is full for all of them.
            self.full |= was_full && !self.sim.is_cut() && !self.offline();
            match self.tolerate_full(done, io_error) {
                Ok(true) if outcome.is_ok() => {
                    let after = self.snapshots(slot)?;
                    self.checkpointed(slot, durable_end, &before, &after);
                }
                Ok(_) => {}
                Err(stop) => outcome = Err(stop),
            }
        }
        outcome
    }

    /// Offsets of the producer snapshots.
    fn snapshots(&mut self, slot: usize) -> Step<Vec<i64>> {
        let path = format!("topics/{}", self.slots[slot].model.identity.directory_name());
        let names = self.sim.list_dir(&path);
        let names = self.check(names, io_error)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".producers")?.parse().ok()).collect())
    }

    /// What a checkpoint has written is there for every start from now on.
    fn checkpointed(&mut self, slot: usize, durable_end: i64, before: &[i64], after: &[i64]) {
        let model = &mut self.slots[slot].model;
        model.checkpointed = model.checkpointed.max(durable_end);
        let new = after.iter().filter(|&offset| *offset <= durable_end && !before.contains(offset)).max();
        model.snapshot = model.snapshot.max(new.copied().unwrap_or(0));
    }

    fn roll(&mut self, slot: usize) -> Step {
        let now_ms = self.now_ms;
        let rolled = self.log(slot).roll_if_due(now_ms);
        self.tolerate_full(rolled, append_error).map(|_| ())
    }

    fn retain(&mut self, slot: usize) -> Step {
        let now_ms = self.now_ms;
        let Slot { model, open, .. } = &mut self.slots[slot];
        model.log_start_tried = model.high_watermark;
        let retained = open.as_mut().expect("open").enforce_retention(now_ms);
        let retained = self.check(retained, append_error)?;
        self.coverage.segments_deleted += retained.segments_deleted as u64;
        self.started_at(slot, retained.log_start)
    }

    fn delete_records(&mut self, slot: usize) -> Step {
        let Slot { model, open, .. } = &mut self.slots[slot];
        let before = self.random.i64(model.log_start..=model.high_watermark);
        model.log_start_tried = model.log_start_tried.max(before);
        let deleted = open.as_mut().expect("open").delete_records(before);
        let log_start = self.check(deleted, |error| match error {
            DeleteRecordsError::Unwritable(error) => append_error(error),
            DeleteRecordsError::OutOfRange { .. } => None,
        })?;
        if log_start != before.max(self.slots[slot].model.log_start) {
            return Err(Stop::Broken(format!("deleted up to {log_start} instead of {before}")));
        }
        self.started_at(slot, log_start)
    }

    fn started_at(&mut self, slot: usize, log_start: i64) -> Step {
        let model = &mut self.slots[slot].model;
        model.log_start = log_start;
        model.log_start_tried = log_start;
        self.sim.note(format_args!("{slot} starts at {log_start}"));
        self.saw(slot)
    }

    fn check_content(&mut self, slot: usize) -> Step {
        let Slot { model, open, .. } = &self.slots[slot];
        let reader = open.as_ref().expect("open").reader();
        let checked = model.check_content(&reader, &mut self.random);
        self.judge(checked)?;
        self.scrub(slot)
    }

    /// Whatever has become durable is sound on the disk itself, beneath what the page cache holds.
    fn scrub(&mut self, slot: usize) -> Step {
        let reader = self.slots[slot].open.as_ref().expect("open").reader();
        for sealed in reader.sealed_segments() {
            let mut found = None;
            let scrubbed = reader.scrub(&sealed, &mut |event| match event {
                ScrubEvent::Sound { .. } => ControlFlow::Continue(()),
                other => {
                    found = Some(other);
                    ControlFlow::Break(())
                }
            });
            self.check(scrubbed, io_error)?;
            if let Some(found) = found {
                return self.judge(Err(format!("a scrub takes a crash for damage: {found:?}")));
            }
            self.coverage.scrubs += 1;
        }
        Ok(())
    }

    /// What was found wrong, unless the power went while it was looked for.
    fn judge(&self, checked: Result<(), String>) -> Step {
        match checked {
            Err(_) if self.sim.is_cut() => Err(Stop::Down),
            checked => Ok(checked?),
        }
    }

    /// A producer that has all its acknowledgements starts anew.
    fn new_producer_epoch(&mut self, slot: usize) -> Step {
        let id = self.random.i64(0..PRODUCERS);
        if let Some(client) = self.slots[slot].model.clients.get_mut(&id)
            && client.unacknowledged.is_empty()
        {
            self.sim.note(format_args!("producer {id} of {slot}: epoch {}", client.epoch + 1));
            client.epoch += 1;
            client.next_sequence = 0;
        }
        Ok(())
    }

    fn reopen(&mut self, slot: usize) -> Step {
        self.close_partition(slot)?;
        self.open(slot)
    }

    fn close_partition(&mut self, slot: usize) -> Step {
        let mut log = self.slots[slot].open.take().expect("open");
        let before = self.snapshots(slot)?;
        let closed = log.close();
        // Closing flushes: consumers may have seen the end even if what came after has failed.
        let seen = log.watermarks();
        self.slots[slot].model.saw(seen)?;
        self.check(closed, io_error)?;
        let model = &self.slots[slot].model;
        if model.high_watermark < model.log_end() {
            return Err(Stop::Broken(format!("closed at {} of {}", model.high_watermark, model.log_end())));
        }
        let (durable_end, after) = (model.high_watermark, self.snapshots(slot)?);
        self.checkpointed(slot, durable_end, &before, &after);
        Ok(())
    }

    /// All that are missing at once, as a topic with many partitions comes.
    fn create_together(&mut self) -> Step {
        let missing: Vec<usize> = (0..SLOTS).filter(|&slot| self.slots[slot].open.is_none()).collect();
        missing.iter().for_each(|&slot| self.begin_creation(slot));
        let log_dir = self.log_dir.as_ref().expect("open");
        let created = log_dir.create_partitions(&self.wanted(&missing), 1);
        let created = match self.check(created, dir_error) {
            Err(Stop::Down) if !self.sim.is_cut() && !self.offline() => {
                self.give_room();
                return self.create_together();
            }
            created => created?,
        };
        for (slot, log) in missing.into_iter().zip(created) {
            self.slots[slot].existence = Existence::Present;
            self.slots[slot].open = Some(log);
            self.saw(slot)?;
        }
        Ok(())
    }

    fn create(&mut self, slot: usize) -> Step {
        if self.slots[slot].open.is_some() {
            return Ok(());
        }
        self.begin_creation(slot);
        let log_dir = self.log_dir.as_ref().expect("open");
        let created = log_dir.create_partition(&self.slots[slot].model.identity, self.config.clone());
        let created = match self.check(created, dir_error) {
            Err(Stop::Down) if !self.sim.is_cut() && !self.offline() => {
                self.give_room();
                return self.create(slot);
            }
            created => created?,
        };
        self.slots[slot].existence = Existence::Present;
        self.slots[slot].open = Some(created);
        self.saw(slot)
    }

    fn begin_creation(&mut self, slot: usize) {
        if self.slots[slot].existence == Existence::Absent {
            let identity = identity(slot, &mut self.random);
            self.slots[slot].model = Partition::new(identity);
            self.slots[slot].end = End::Closed;
            self.slots[slot].existence = Existence::Creating;
        }
    }

    fn delete(&mut self, slot: usize) -> Step {
        let mut log = self.slots[slot].open.take().expect("open");
        log.mark_closed();
        self.slots[slot].existence = Existence::Deleting;
        let log_dir = self.log_dir.as_ref().expect("open");
        let deleted = log_dir.delete_partition(&self.slots[slot].model.identity);
        self.check(deleted, dir_error)?;
        self.slots[slot].existence = Existence::Absent;
        Ok(())
    }

    /// A shutdown as a broker does it.
    fn close(&mut self) -> Step {
        let mut clean = CleanShutdown::default();
        let mut ends = BTreeMap::new();
        for slot in 0..SLOTS {
            if self.slots[slot].open.is_some() {
                if let Err(stop) = self.close_partition(slot) {
                    self.log_dir = None;
                    return Err(stop);
                }
                let model = &self.slots[slot].model;
                let end = model.log_end().max(model.log_start);
                clean.add(model.identity.directory_name(), end);
                ends.insert(model.identity.directory_name(), end);
            }
        }
        // Noted before it is known to have been written: a note that tells the truth may survive.
        self.clean = Some(ends);
        let closed = self.log_dir.take().expect("open").close_clean(&clean);
        self.check(closed, dir_error)?;
        self.clean_for_sure = true;
        Ok(())
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

    fn offline(&self) -> bool {
        self.log_dir.as_ref().is_some_and(|log_dir| log_dir.health().is_offline())
    }

    fn give_room(&mut self) {
        self.coverage.full_disks += 1;
        self.sim.set_capacity(u64::MAX);
        self.full = false;
    }

    /// An error is what the fault calls for, or the engine has broken a promise.
    fn check<T, E: std::fmt::Debug>(
        &self,
        result: Result<T, E>,
        io: impl Fn(&E) -> Option<io::ErrorKind>,
    ) -> Step<T> {
        match result {
            Ok(value) => Ok(value),
            Err(_) if self.sim.is_cut() => Err(Stop::Down),
            Err(error) => match io(&error) {
                Some(io::ErrorKind::StorageFull) if self.full => Err(Stop::Down),
                // EIO has no kind of its own.
                Some(kind) if kind != io::ErrorKind::StorageFull && self.sim.has_failed_sync() => {
                    Err(Stop::Down)
                }
                _ => Err(Stop::Broken(format!("an error on a healthy disk: {error:?}"))),
            },
        }
    }

    /// As `check`, for what may be left undone on a full disk. Answers whether it was done.
    fn tolerate_full<T, E: std::fmt::Debug>(
        &mut self,
        result: Result<T, E>,
        io: impl Fn(&E) -> Option<io::ErrorKind>,
    ) -> Step<bool> {
        match self.check(result, io) {
            Err(Stop::Down) if !self.sim.is_cut() && !self.offline() && self.full => {
                self.give_room();
                Ok(false)
            }
            done => done.map(|_| true),
        }
    }

    /// After the first failed sync nothing is written and nothing becomes durable any more.
    fn check_offline(&mut self) -> Result<(), String> {
        let Some(log_dir) = &self.log_dir else { return Ok(()) };
        if !log_dir.health().is_offline() {
            return Err("a sync has failed and the directory is not offline".to_owned());
        }
        for slot in &mut self.slots {
            let Some(log) = &mut slot.open else { continue };
            let batch = Batch {
                base_offset: 0,
                leader_epoch: 0,
                records: vec![(0, b"late".to_vec())],
                producer: None,
            };
            match log.append(&batch.produced(), slot.model.leader_epoch, self.now_ms) {
                Err(AppendError::Offline { .. }) => {}
                other => return Err(format!("an append after a failed sync: {other:?}")),
            }
            if let Some(flush) = log.begin_flush() {
                if flush.run().is_ok() {
                    return Err("a flush succeeded after a failed sync".to_owned());
                }
                log.complete_flush(flush);
            }
            if log.watermarks().high_watermark() > slot.model.high_watermark {
                return Err("the high watermark moved after a failed sync".to_owned());
            }
        }
        Ok(())
    }
}

fn identity(slot: usize, random: &mut fastrand::Rng) -> PartitionIdentity {
    let topic = if slot == 0 { "orders" } else { "events" };
    PartitionIdentity {
        topic_id: Uuid::from_u128(random.u128(1..)),
        topic: topic.to_owned(),
        partition: slot as i32,
    }
}

fn io_error(error: &io::Error) -> Option<io::ErrorKind> {
    Some(error.kind())
}

fn append_error(error: &AppendError) -> Option<io::ErrorKind> {
    match error {
        AppendError::Storage(error) => Some(error.kind()),
        AppendError::Offline { .. } => Some(io::ErrorKind::Other),
        _ => None,
    }
}

fn dir_error(error: &LogDirError) -> Option<io::ErrorKind> {
    match error {
        LogDirError::Storage { source, .. } => Some(source.kind()),
        LogDirError::Log(OpenError::Storage { source, .. }) => Some(source.kind()),
        LogDirError::Log(OpenError::Offline { .. }) => Some(io::ErrorKind::Other),
        _ => None,
    }
}
