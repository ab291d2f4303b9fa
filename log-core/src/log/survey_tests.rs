//! Damage of every kind, and that exactly what it took is said to be gone.

use super::super::testing::{Disk, PARTITION, batch};
use super::*;
use crate::record::{BatchBuilder, Compression, ProducedBatch};
use crate::storage::{RandomFile, create_segment};
use std::sync::Arc;

/// Bytes and offsets of a hole.
type Lost = (Range<u64>, Range<i64>);

/// A file of batches from offset 100 on, all of epoch 3, with where each starts and its base offset.
struct File {
    disk: Disk,
    path: String,
    starts: Vec<(u64, i64)>,
    end: (u64, i64),
}

impl File {
    fn of(values: &[&[&str]]) -> File {
        File::of_batches(values.iter().map(|values| batch(5, values)))
    }

    fn of_batches(batches: impl IntoIterator<Item = ProducedBatch>) -> File {
        let disk = Disk::new();
        disk.storage.create_dir_all(PARTITION).expect("room");
        let path = format!("{PARTITION}/00000000000000000100.log");
        let file = create_segment(&*disk.storage, &path, 8 << 20, 8 << 20).expect("room");
        let mut starts = Vec::new();
        let mut offset = 100;
        for batch in batches {
            starts.push((file.published(), offset));
            file.append(file.published(), &[&batch.to_bytes(offset, 3)]).expect("room");
            offset += i64::from(batch.last_offset_delta()) + 1;
        }
        let end = (file.published(), offset);
        File { disk, path, starts, end }
    }

    fn random(&self) -> Arc<dyn RandomFile> {
        self.disk.storage.open_random(&self.path, false).expect("there")
    }

    fn write(&self, position: u64, bytes: &[u8]) {
        self.random().write_at(position, bytes).expect("room");
    }

    fn flip(&self, bit: u64) {
        let mut byte = [0];
        self.random().read_at(bit / 8, &mut byte).expect("readable");
        self.write(bit / 8, &[byte[0] ^ 1 << (bit % 8)]);
    }

    /// The sound batches' positions, and the holes.
    fn survey(&self) -> (Vec<u64>, Vec<Lost>) {
        let mut epochs = LeaderEpochs::default();
        epochs.begin(3, 0);
        let span = Span { positions: 0..self.end.0, offsets: 100..self.end.1 };
        let (mut sound, mut holes) = (Vec::new(), Vec::new());
        let file = self.disk.storage.open_direct(&self.path).expect("there");
        let done = survey(&*file, &self.path, &span, &epochs, &mut |found| {
            match found {
                Found::Batch { position, .. } => sound.push(position),
                Found::Hole(hole) => holes.push((hole.positions, hole.offsets)),
            }
            ControlFlow::Continue(())
        });
        assert!(done.expect("readable").is_continue());
        (sound, holes)
    }

    /// Checks that exactly the batches `lost` are missed, as one hole.
    fn check_lost(&self, lost: Range<usize>, what: &str) {
        let start = |index: usize| self.starts.get(index).copied().unwrap_or(self.end);
        let ((from, first), (to, next)) = (start(lost.start), start(lost.end));
        let (sound, holes) = self.survey();
        assert_eq!(holes, [(from..to, first..next)], "{what}");
        let kept = self.starts.iter().enumerate().filter(|(index, _)| !lost.contains(index));
        assert_eq!(sound, kept.map(|(_, &(position, _))| position).collect::<Vec<_>>(), "{what}");
    }
}

const SMALL: [&[&str]; 5] = [&["a"], &["b", "c", "d"], &["e", "f"], &["g"], &["h", "i"]];

#[test]
fn every_flipped_bit_costs_its_batch_and_no_other() {
    let file = File::of(&SMALL);
    assert_eq!(file.survey(), (file.starts.iter().map(|&(position, _)| position).collect(), vec![]));
    for bit in 0..file.end.0 * 8 {
        file.flip(bit);
        let hit = file.starts.partition_point(|&(position, _)| position <= bit / 8) - 1;
        file.check_lost(hit..hit + 1, &format!("bit {bit}"));
        file.flip(bit);
    }
}

#[test]
fn a_lost_block_costs_the_batches_it_touches() {
    let large = "x".repeat(3000);
    let file = File::of(&vec![&[&*large][..]; 2000]);
    let block = 400 * 4096;
    file.write(block, &[0; 4096]);
    let touched = |position: u64| file.starts.partition_point(|&(start, _)| start <= position) - 1;
    file.check_lost(touched(block)..touched(block + 4095) + 1, "a block of zeros");
    // So much that no read sees both ends of it.
    file.write(block, &vec![0xee; 2 << 20]);
    file.check_lost(touched(block)..touched(block + (2 << 20) - 1) + 1, "two mebibytes of noise");
}

#[test]
fn a_batch_in_a_record_is_none_of_the_log() {
    // A mirror that keeps raw batches as values. What it holds claims the very offset that is due next.
    let inner = batch(5, &["not", "in", "this", "log"]).to_bytes(102, 3);
    let mut outer = BatchBuilder::new(Compression::None);
    outer.append(5, None, Some(&inner), &[]).expect("small");
    let outer = ProducedBatch::internal(outer.build(0).expect("small")).expect("well made");
    let file = File::of_batches([batch(5, &["a"]), outer, batch(5, &["b"]), batch(5, &["c"])]);
    // The length of the outer batch: only a search finds what follows.
    file.flip((file.starts[1].0 + 10) * 8);
    file.check_lost(1..2, "length of the outer batch");
}

#[test]
fn batches_that_are_missing_at_the_end_are_a_hole_without_bytes() {
    let mut file = File::of(&SMALL);
    file.end.1 = 200;
    let (sound, holes) = file.survey();
    assert_eq!((sound.len(), holes), (5, vec![(file.end.0..file.end.0, 109..200)]));
}

#[test]
fn a_survey_ends_when_it_is_told_to() {
    let file = File::of(&SMALL);
    let span = Span { positions: 0..file.end.0, offsets: 100..file.end.1 };
    let direct = file.disk.storage.open_direct(&file.path).expect("there");
    let mut seen = 0;
    let done = survey(&*direct, &file.path, &span, &LeaderEpochs::default(), &mut |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(done.expect("readable").is_break());
    assert_eq!(seen, 2);
}
