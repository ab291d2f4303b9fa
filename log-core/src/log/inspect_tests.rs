//! Looks at directories that are sound, torn and damaged.

use super::super::testing::{Disk, PARTITION, batch};
use super::super::{LogConfig, PartitionLog};
use super::*;

fn filled(disk: &Disk) -> PartitionLog {
    let config = LogConfig { segment_bytes: 1024, index_interval_bytes: 128, ..LogConfig::default() };
    let (mut log, _) = disk.open(&config);
    for n in 0..50 {
        log.append(&batch(n, &["a value", "another"]), 0, 1).expect("room");
    }
    log
}

fn look(disk: &Disk) -> Inspection {
    let before = snapshot(disk);
    let found = inspect(Arc::clone(&disk.storage), PARTITION, &mut |_, _, _| {}).expect("readable");
    assert_eq!(snapshot(disk), before, "a look changes nothing");
    found
}

fn snapshot(disk: &Disk) -> Vec<(String, Vec<u8>)> {
    let read = |name: &String| (name.clone(), std::fs::read(disk.path(name)).expect("there"));
    disk.names().iter().map(read).collect()
}

#[test]
fn a_closed_log_is_sound_to_the_last_byte() {
    let disk = Disk::new();
    filled(&disk).close().expect("a healthy disk");
    let mut seen = 0;
    let found = inspect(Arc::clone(&disk.storage), PARTITION, &mut |_, _, _| seen += 1).expect("readable");
    assert_eq!((found.findings.len(), seen), (0, 50), "{:?}", found.findings);
    assert_eq!(found.segments.iter().map(|segment| segment.records).sum::<u64>(), 100);
    assert_eq!(found.segments.last().expect("some").next_offset, 100);
    assert!(found.segments[0].offset_index.len() > 2);
    assert_eq!(found.snapshots.last().expect("written at close").offset, 100);
}

#[test]
fn damage_and_a_torn_tail_are_told_apart_by_the_checkpoint() {
    let disk = Disk::new();
    let mut log = filled(&disk);
    log.flush().expect("a healthy disk");
    log.write_checkpoint().expect("a healthy disk");
    let durable = log.segments().last().expect("active").clone();
    for n in 50..52 {
        log.append(&batch(n, &["x"]), 0, 1).expect("room");
    }
    assert_eq!(log.segments().last().expect("active").base_offset, durable.base_offset);
    drop(log);
    assert_eq!(look(&disk).findings, []);
    let flip = |at: u64| {
        let path = disk.path(&format!("{:020}.log", durable.base_offset));
        let mut bytes = std::fs::read(&path).expect("there");
        bytes[at as usize] ^= 4;
        std::fs::write(&path, bytes).expect("room");
    };
    flip(durable.size_bytes + 40);
    let torn = look(&disk);
    assert_eq!((torn.findings.len(), torn.findings[0].severity), (1, Severity::Torn));
    assert_eq!(torn.findings[0].position, Some(durable.size_bytes));
    assert!(torn.is_sound());
    flip(40);
    let damaged = look(&disk);
    assert_eq!((damaged.findings[0].severity, damaged.findings[0].position), (Severity::Damage, Some(0)));
    assert!(!damaged.is_sound());
}

#[test]
fn every_hole_is_named_with_what_it_took() {
    let disk = Disk::new();
    let mut log = filled(&disk);
    log.close().expect("a healthy disk");
    let segments = log.segments();
    let (first, last) = (&segments[0], segments.last().expect("active"));
    for (segment, at) in [(first, 30), (first, first.size_bytes - 1), (last, 30)] {
        let path = disk.path(&format!("{:020}.log", segment.base_offset));
        let mut bytes = std::fs::read(&path).expect("there");
        bytes[at as usize] ^= 4;
        std::fs::write(&path, bytes).expect("room");
    }
    let found = look(&disk);
    let lost: Vec<_> = found.findings.iter().map(|finding| finding.offsets.clone()).collect();
    let [second, third] = [segments[1].base_offset, last.base_offset];
    assert_eq!(lost, [Some(0..2), Some(second - 2..second), Some(third..third + 2)]);
    assert!(found.findings.iter().all(|finding| finding.severity == Severity::Damage));
    assert_eq!(found.segments.iter().map(|segment| segment.records).sum::<u64>(), 100 - 6);
    assert!(found.findings[0].what.starts_with("offsets 0 to 1 are lost in "), "{:?}", found.findings[0]);
}

#[test]
fn a_missing_segment_is_damage_and_a_bad_snapshot_is_not() {
    let disk = Disk::new();
    let mut log = filled(&disk);
    log.close().expect("a healthy disk");
    let lost = log.segments()[1].base_offset;
    std::fs::remove_file(disk.path(&format!("{lost:020}.log"))).expect("there");
    std::fs::write(disk.path("00000000000000000100.producers"), b"nonsense").expect("room");
    let found = look(&disk);
    let severities: Vec<Severity> = found.findings.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Severity::Damage, Severity::Repairable], "{:?}", found.findings);
}

#[test]
fn aborted_transactions_are_shown_and_what_a_start_makes_anew_is_no_damage() {
    use crate::record::{BatchBuilder, Compression, EndOfTransaction, Marker, ProducedBatch};
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    let mut builder = BatchBuilder::new(Compression::None).producer(7, 0, 0).transactional(true);
    builder.append(1000, None, Some(b"a"), &[]).expect("small");
    let batch = ProducedBatch::internal(builder.build(0).expect("small")).expect("well made");
    log.append(&batch, 0, 1000).expect("room");
    let end = EndOfTransaction { marker: Marker::Abort, coordinator_epoch: 0 };
    log.append_marker(7, 0, end, 0, 1000).expect("room");
    log.close().expect("healthy");
    let found = look(&disk);
    assert_eq!(found.findings, []);
    let shown: Vec<_> = found.segments[0]
        .aborted
        .iter()
        .map(|one| (one.producer_id, one.first_offset, one.last_offset))
        .collect();
    assert_eq!(shown, [(7, 0, 1)]);
    let path = disk.path("00000000000000000000.aborted");
    std::fs::write(&path, b"nonsense").expect("room");
    let found = look(&disk);
    let [damaged, short] = &found.findings[..] else { panic!("{:?}", found.findings) };
    assert!(damaged.what.starts_with("damaged"), "{damaged:?}");
    assert!(short.what.starts_with("holds 0 aborted transactions below offset 2 instead of 1"), "{short:?}");
    std::fs::remove_file(path).expect("there");
    let found = look(&disk);
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    assert!(found.is_sound());
}
