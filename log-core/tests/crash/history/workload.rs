//! What a process does with the partitions that are open: appends, flushes, checkpoints, deletion.

use log_core::log::{CheckpointWrite, DeleteRecordsError, Flush, PartitionLog};
use log_core::storage::Storage;

use super::faults::{append_error, io_error};
use super::{History, PRODUCERS, SLOTS, Slot, Step, Stop};
use crate::model::Batch;

/// Batches that an idempotent client has under way at most, as librdkafka and the Java client do.
const IN_FLIGHT_MAX: usize = 5;

impl History {
    pub(super) fn step(&mut self) -> Step {
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

    pub(super) fn append(&mut self, slot: usize) -> Step {
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

    pub(super) fn send(&mut self, slot: usize, mut batch: Batch) -> Step {
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

    pub(super) fn flush(&mut self, slot: usize) -> Step {
        let Some(flush) = self.log(slot).begin_flush() else { return Ok(()) };
        if self.random.bool() {
            self.append(slot)?;
        }
        let run = flush.run();
        self.check(run, io_error)?;
        if self.random.bool() {
            self.append(slot)?;
        }
        self.log(slot).complete_flush(&flush);
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
            self.log(slot).complete_flush(&flush);
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
        self.log(slot).complete_flush(&second);
        self.saw(slot)?;
        let run = first.run();
        self.check(run, io_error)?;
        self.log(slot).complete_flush(&first);
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
    pub(super) fn snapshots(&mut self, slot: usize) -> Step<Vec<i64>> {
        let path = format!("topics/{}", self.slots[slot].model.identity.directory_name());
        let names = self.sim.list_dir(&path);
        let names = self.check(names, io_error)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".producers")?.parse().ok()).collect())
    }

    /// What a checkpoint has written is there for every start from now on.
    pub(super) fn checkpointed(&mut self, slot: usize, durable_end: i64, before: &[i64], after: &[i64]) {
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
}
