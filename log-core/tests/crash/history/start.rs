//! A start on what the last process has left, and the clients that go on from there.

use std::collections::VecDeque;
use std::sync::Arc;

use log_core::log::{LogConfig, LogDir, LogDirOptions, PartitionIdentity, PartitionLog, RecoveryReport};
use log_core::storage::Storage;

use super::faults::{dir_error, io_error};
use super::{Existence, History, PRODUCERS, SLOTS, Slot, Step, Stop};
use crate::model::{Batch, End};

impl History {
    pub(super) fn start(&mut self) -> Step {
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

    pub(super) fn wanted(&self, slots: &[usize]) -> Vec<(PartitionIdentity, LogConfig)> {
        slots.iter().map(|&slot| (self.slots[slot].model.identity.clone(), self.config.clone())).collect()
    }

    pub(super) fn open(&mut self, slot: usize) -> Step {
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
}
