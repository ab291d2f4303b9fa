//! Partitions that come and go: created, deleted and closed, by themselves or all at once.

use std::collections::BTreeMap;

use log_core::log::{CleanShutdown, PartitionIdentity};
use uuid::Uuid;

use super::faults::{dir_error, io_error};
use super::{Existence, History, SLOTS, Step, Stop};
use crate::model::{End, Partition};

impl History {
    pub(super) fn create(&mut self, slot: usize) -> Step {
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

    /// All that are missing at once, as a topic with many partitions comes.
    pub(super) fn create_together(&mut self) -> Step {
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

    fn begin_creation(&mut self, slot: usize) {
        if self.slots[slot].existence == Existence::Absent {
            let identity = identity(slot, &mut self.random);
            self.slots[slot].model = Partition::new(identity);
            self.slots[slot].end = End::Closed;
            self.slots[slot].existence = Existence::Creating;
        }
    }

    pub(super) fn reopen(&mut self, slot: usize) -> Step {
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

    pub(super) fn delete(&mut self, slot: usize) -> Step {
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
    pub(super) fn close(&mut self) -> Step {
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
}

pub(super) fn identity(slot: usize, random: &mut fastrand::Rng) -> PartitionIdentity {
    let topic = if slot == 0 { "orders" } else { "events" };
    PartitionIdentity {
        topic_id: Uuid::from_u128(random.u128(1..)),
        topic: topic.to_owned(),
        partition: slot as i32,
    }
}
