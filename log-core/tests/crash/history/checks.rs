//! What has to hold of the partitions that are open, beside what the model itself compares.

use std::ops::ControlFlow;

use log_core::log::{AppendError, LeaderEpochs, ScrubEvent, SequenceError};
use log_core::storage::Storage;

use super::faults::{append_error, io_error};
use super::{History, PRODUCERS, Slot, Step, Stop};
use crate::model::Batch;

impl History {
    pub(super) fn check_epochs(&self, slot: usize) -> Step {
        let epochs = format!("topics/{}/leader-epochs", self.slots[slot].model.identity.directory_name());
        if self.sim.read(&epochs).is_ok_and(|bytes| LeaderEpochs::decode(&bytes).is_none()) {
            return Err(Stop::Broken(format!("{epochs} is neither the old nor the new")));
        }
        Ok(())
    }

    /// Producers are known by what has survived.
    pub(super) fn check_producers(&mut self, slot: usize) -> Step {
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

    pub(super) fn expect_duplicate(&mut self, slot: usize, batch: &Batch) -> Step {
        let now_ms = self.now_ms;
        let appended = self.log(slot).append(&batch.produced(), batch.leader_epoch, now_ms);
        let appended = self.check(appended, append_error)?;
        if !appended.duplicate || appended.base_offset != batch.base_offset {
            return Err(Stop::Broken(format!("{batch:?} was stored again: {appended:?}")));
        }
        self.coverage.duplicates += 1;
        Ok(())
    }

    pub(super) fn check_content(&mut self, slot: usize) -> Step {
        let Slot { model, open, .. } = &self.slots[slot];
        let reader = open.as_ref().expect("open").reader();
        let checked = model.check_content(&reader, &mut self.random);
        self.judge(checked)?;
        self.scrub(slot)
    }

    /// Whatever has become durable is sound on the disk itself, beneath what the page cache holds.
    pub(super) fn scrub(&mut self, slot: usize) -> Step {
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

    /// After the first failed sync nothing is written and nothing becomes durable any more.
    pub(super) fn check_offline(&mut self) -> Result<(), String> {
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
                log.complete_flush(&flush);
            }
            if log.watermarks().high_watermark() > slot.model.high_watermark {
                return Err("the high watermark moved after a failed sync".to_owned());
            }
        }
        Ok(())
    }
}
