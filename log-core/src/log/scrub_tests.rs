//! Scrubs of a log on the simulated disk.

use std::sync::Arc;

use super::*;
use crate::log::testing::{PARTITION, batch};
use crate::log::{AppendError, DirHealth, Isolation, LogConfig, PartitionLog, ReadError};
use crate::storage::Storage;
use crate::storage::sim::SimStorage;

fn open(sim: &SimStorage) -> PartitionLog {
    let config = LogConfig { segment_bytes: 1024, ..LogConfig::default() };
    sim.create_dir_all(PARTITION).expect("room");
    let health = Arc::<DirHealth>::default();
    PartitionLog::open(Arc::new(sim.clone()), PARTITION, health, config).expect("a healthy disk").0
}

/// A log of several segments, all of it durable.
fn filled(sim: &SimStorage) -> PartitionLog {
    let mut log = open(sim);
    for n in 0..60 {
        log.append(&batch(n, &["a value", "another"]), 0, 1).expect("room");
    }
    log.flush().expect("a healthy disk");
    log.write_checkpoint().expect("a healthy disk");
    log
}

/// What a scrub of everything comes by, the number of sound bytes first.
fn scrub(reader: &LogReader) -> (u64, Vec<ScrubEvent>) {
    let (mut sound, mut others) = (0, Vec::new());
    for sealed in reader.sealed_segments() {
        let end = reader.scrub(&sealed, &mut |event| {
            match event {
                ScrubEvent::Sound { bytes } => sound += bytes,
                other => others.push(other),
            }
            ControlFlow::Continue(())
        });
        assert_eq!(end.expect("readable"), ScrubEnd::Whole);
    }
    (sound, others)
}

#[test]
fn every_sealed_byte_is_read_and_the_active_segment_is_not() {
    let sim = SimStorage::new(1);
    let mut log = filled(&sim);
    let sealed_bytes = |log: &PartitionLog| -> u64 {
        log.segments().iter().filter(|segment| !segment.active).map(|segment| segment.size_bytes).sum()
    };
    assert!(log.segments().len() > 3);
    assert_eq!(scrub(&log.reader()), (sealed_bytes(&log), vec![]));
    assert!(sealed_bytes(&log) > 0);

    // What is sealed and not durable yet is not what a disk answers for.
    let before = log.reader().sealed_segments().len();
    for n in 0..30 {
        log.append(&batch(n, &["a value"]), 0, 1).expect("room");
    }
    assert!(log.segments().len() > before + 2);
    assert_eq!(log.reader().sealed_segments().len(), before);
    log.flush().expect("a healthy disk");
    assert_eq!(scrub(&log.reader()), (sealed_bytes(&log), vec![]));

    // Closed segments, as a start finds them, with blocks that were allocated ahead.
    drop(log);
    let log = open(&sim.restart());
    assert_eq!(scrub(&log.reader()).1, vec![]);
}

#[test]
fn rot_beneath_the_page_cache_is_found_and_ends_writing() {
    let sim = SimStorage::new(1);
    let mut log = filled(&sim);
    let reader = log.reader();
    let second = log.segments()[1].clone();
    let path = format!("{PARTITION}/{:020}.log", second.base_offset);
    sim.rot_bit(&path, (second.size_bytes - 3) * 8).expect("there");
    reader.read(second.base_offset, 1 << 20, Isolation::Uncommitted, true).expect("the cache is sound");
    let (_, found) = scrub(&reader);
    let [ScrubEvent::Hole(hole)] = &found[..] else { panic!("{found:?}") };
    let third = log.segments()[2].base_offset;
    assert_eq!((&hole.file, hole.offsets.clone()), (&path, third - 2..third));
    assert!(hole.positions.contains(&(second.size_bytes - 3)) && hole.positions.end == second.size_bytes);
    let corruption = reader.corruption().expect("reported");
    assert_eq!((corruption.offset, corruption.position), (hole.offsets.start, hole.positions.start));
    assert!(matches!(log.append(&batch(1, &["x"]), 0, 1), Err(AppendError::Corrupt(_))));
}

#[test]
fn damage_that_cannot_be_read_any_more_is_no_sounder_for_that() {
    let sim = SimStorage::new(1);
    let log = filled(&sim);
    let sealed = log.segments()[1].base_offset;
    let path = format!("{PARTITION}/{sealed:020}.log");
    drop(log);
    sim.flip_bit(&path, 70 * 8).expect("there");
    let sim = sim.restart();
    let log = open(&sim);
    log.reader().read(sealed, 1, Isolation::Uncommitted, true).expect_err("damaged");
    drop(log);
    sim.sync_all().expect("healthy");
    sim.evict(&path).expect("there");
    sim.fail_reads(&path, 0..4096).expect("there");
    let mut log = open(&sim);
    let read = log.reader().read(sealed, 1, Isolation::Uncommitted, true);
    assert!(matches!(read, Err(ReadError::Storage(_))), "{read:?}");
    assert!(matches!(log.append(&batch(1, &["x"]), 0, 1), Err(AppendError::Corrupt(_))));
}

#[test]
fn a_file_that_somebody_has_removed_is_missed() {
    let sim = SimStorage::new(1);
    let log = filled(&sim);
    let [first, second] = [0, 1].map(|index| log.segments()[index].base_offset);
    sim.remove_file(&format!("{PARTITION}/{first:020}.log")).expect("there");
    let (_, found) = scrub(&log.reader());
    let [ScrubEvent::Hole(hole)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((hole.offsets.clone(), &*hole.reason), (first..second, "the file is missing"));
    assert!(log.reader().corruption().is_some());
}

#[test]
fn every_flipped_bit_is_found_and_none_is_served() {
    let sim = SimStorage::new(1);
    let mut log = filled(&sim);
    log.close().expect("a healthy disk");
    let sealed: Vec<_> = log.segments().into_iter().filter(|segment| !segment.active).collect();
    drop(log);
    for segment in &sealed[..2] {
        let path = format!("{PARTITION}/{:020}.log", segment.base_offset);
        for bit in 0..segment.size_bytes * 8 {
            sim.flip_bit(&path, bit).expect("there");
            let log = open(&sim.restart());
            let found = scrub(&log.reader()).1;
            assert!(matches!(&found[..], [ScrubEvent::Hole(_)]), "bit {bit} of {path}: {found:?}");
            assert_eq!(log.reader().corruption().expect("reported").file, path, "bit {bit}");
            sim.flip_bit(&path, bit).expect("there");
        }
    }
}

#[test]
fn a_segment_that_is_deleted_is_let_go_of() {
    let sim = SimStorage::new(1);
    let mut log = filled(&sim);
    let reader = log.reader();
    let sealed = reader.sealed_segments();
    let second = log.segments()[2].base_offset;
    let mut batches = 0;
    let end = reader.scrub(&sealed[1], &mut |_| {
        batches += 1;
        log.delete_records(second).expect("durable");
        ControlFlow::Continue(())
    });
    assert_eq!((end.expect("readable"), batches), (ScrubEnd::Gone, 1));
    // Its file is gone as well: nothing held it.
    let names = sim.list_dir(PARTITION).expect("there");
    assert!(!names.iter().any(|name| name.ends_with(".deleted")), "{names:?}");
    let gone = reader.scrub(&sealed[0], &mut |_| ControlFlow::Continue(()));
    assert_eq!(gone.expect("no error"), ScrubEnd::Gone);
}

#[test]
fn damage_below_the_log_start_is_nobodys() {
    let sim = SimStorage::new(1);
    let mut log = filled(&sim);
    let segment = log.segments()[1].clone();
    let path = format!("{PARTITION}/{:020}.log", segment.base_offset);
    sim.rot_bit(&path, 500).expect("there");
    log.delete_records(segment.base_offset + 2).expect("durable");
    assert_eq!(scrub(&log.reader()).1, vec![]);
    assert!(log.reader().corruption().is_none());
}

#[test]
fn a_scrub_stops_when_it_is_told_to() {
    let sim = SimStorage::new(1);
    let log = filled(&sim);
    let reader = log.reader();
    let end = reader.scrub(&reader.sealed_segments()[0], &mut |_| ControlFlow::Break(()));
    assert_eq!(end.expect("readable"), ScrubEnd::Stopped);
    assert!(!matches!(
        reader.read(0, 1 << 20, Isolation::Uncommitted, true),
        Err(ReadError::Corrupt(_) | ReadError::Closed)
    ));
}
