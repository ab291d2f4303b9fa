//! Repairs of logs on the simulated disk, cut at every operation.

use std::collections::BTreeMap;

use super::super::testing::{PARTITION, batch, read_all, records};
use super::super::{DirHealth, Isolation, LogConfig, PartitionLog, ReadError, RecoveryReport};
use super::*;
use crate::storage::sim::SimStorage;

fn open(sim: &SimStorage) -> (PartitionLog, RecoveryReport) {
    let config = LogConfig { segment_bytes: 1024, index_interval_bytes: 100, ..LogConfig::default() };
    let health = Arc::<DirHealth>::default();
    PartitionLog::open(Arc::new(sim.clone()), PARTITION, health, config).expect("a healthy disk")
}

/// A closed log of several segments, and what is in it.
fn filled(sim: &SimStorage) -> (Vec<i64>, BTreeMap<i64, String>) {
    sim.create_dir_all(PARTITION).expect("room");
    let (mut log, _) = open(sim);
    let mut content = BTreeMap::new();
    for n in 0..60 {
        let values = [format!("first of {n}"), format!("second of {n}")];
        log.append(&batch(n, &[&values[0], &values[1]]), 0, 1).expect("room");
        content.extend((2 * n..).zip(values));
    }
    log.close().expect("a healthy disk");
    sim.sync_dir("").and_then(|()| sim.sync_dir("topics")).expect("a healthy disk");
    (log.segments().iter().map(|segment| segment.base_offset).collect(), content)
}

fn flip(sim: &SimStorage, segment: i64, byte: u64) {
    sim.flip_bit(&format!("{PARTITION}/{segment:020}.log"), byte * 8 + 3).expect("there");
}

fn repair(sim: &SimStorage) -> io::Result<Vec<Loss>> {
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    skip_holes(&storage, PARTITION, 77)
}

/// Damages a sealed segment in two places and the active one in one, and answers with the offsets lost.
fn damage(sim: &SimStorage, bases: &[i64]) -> Vec<i64> {
    let last = *bases.last().expect("active");
    flip(sim, bases[1], 70);
    flip(sim, bases[1], 300);
    flip(sim, last, 20);
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let found = inspect(storage, PARTITION, &mut |_, _, _| {}).expect("readable");
    let lost: Vec<i64> = found.holes.iter().flat_map(|(_, hole)| hole.offsets.clone()).collect();
    assert_eq!((found.holes.len(), lost.len()), (3, 6));
    lost
}

/// Checks that everything but `lost` is there and that the log takes writes.
fn check(sim: &SimStorage, content: &BTreeMap<i64, String>, lost: &[i64]) {
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let found = inspect(storage, PARTITION, &mut |_, _, _| {}).expect("readable");
    assert!(found.is_sound() && found.holes.is_empty(), "{:?}", found.findings);
    let (mut log, report) = open(sim);
    assert_eq!((&report.corruption, report.truncated_bytes), (&None, 0));
    let there: Vec<_> = read_all(&log.reader(), 0);
    let sound = content.iter().filter(|(offset, _)| !lost.contains(offset));
    assert_eq!(there, sound.map(|(offset, value)| (*offset, value.clone())).collect::<Vec<_>>());
    // What lies behind in the same segment, by its own offset as well, for which the indexes are asked.
    for (offset, value) in
        there.iter().filter(|(offset, _)| lost.iter().any(|lost| (1..8).contains(&(offset - lost))))
    {
        let read = log.reader().read(*offset, 1, Isolation::Uncommitted, true).expect("readable");
        assert!(records(&read.records).contains(&(*offset, value.clone())), "{offset}");
    }
    // A fetch of what was skipped goes on behind it.
    let behind = read_all(&log.reader(), lost[0]).first().map(|(offset, _)| *offset);
    assert_eq!(behind, (lost[0]..).find(|offset| !lost.contains(offset)));
    let appended = log.append(&batch(1, &["after"]), 0, 1).expect("writable");
    assert_eq!(appended.base_offset, 120);
    log.flush().expect("a healthy disk");
    assert_eq!(read_all(&log.reader(), 120), [(120, "after".to_owned())]);
}

#[test]
fn a_skipped_hole_is_recorded_and_the_log_goes_on() {
    let sim = SimStorage::new(1);
    let (bases, content) = filled(&sim);
    let lost = damage(&sim, &bases);
    let (mut log, _) = open(&sim.restart());
    let refused = log.reader().read(lost[0], 1 << 20, Isolation::Uncommitted, true);
    assert!(matches!(refused, Err(ReadError::Corrupt(_))));
    assert!(log.append(&batch(1, &["x"]), 0, 1).is_err());
    drop(log);

    let losses = repair(&sim).expect("a healthy disk");
    assert_eq!(losses.len(), 3);
    let named: Vec<i64> = losses.iter().flat_map(|loss| loss.first_offset..=loss.last_offset).collect();
    assert_eq!(named, lost);
    for loss in &losses {
        assert!(loss.done && loss.skipped_ms == 77 && loss.bytes > 61, "{loss:?}");
        let kept = sim.read(loss.quarantined.as_ref().expect("kept")).expect("there");
        assert_eq!(kept.len() as u64, loss.bytes);
    }
    assert_eq!(repair(&sim).expect("nothing to do"), losses);
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let found = inspect(storage, PARTITION, &mut |_, _, _| {}).expect("readable");
    assert!(found.is_sound() && found.holes.is_empty(), "{:?}", found.findings);
    assert_eq!(found.losses, losses);
    check(&sim.crash(4), &content, &lost);
}

#[test]
fn a_repair_can_be_cut_at_every_operation_and_repeated() {
    let sim = SimStorage::new(1);
    let (bases, content) = filled(&sim);
    let lost = damage(&sim, &bases);
    let whole = sim.crash(0);
    let before = whole.operations();
    repair(&whole).expect("a healthy disk");
    let operations = whole.operations() - before;
    assert!(operations > 30, "{operations}");
    for cut in 0..operations {
        for seed in 0..18 {
            let disk = sim.crash(0);
            disk.cut_at(before + cut);
            let error = repair(&disk).expect_err("cut");
            assert!(disk.is_cut(), "{error}");
            // The power goes, or the process alone: then the next one finds what nobody has synced.
            let disk = if seed < 16 { disk.crash(seed) } else { disk.restart() };
            // A broker that is started in between changes nothing for the worse.
            if seed % 2 == 1 {
                drop(open(&disk));
            }
            let losses = repair(&disk).unwrap_or_else(|error| panic!("cut {cut}, seed {seed}: {error}"));
            let named: Vec<i64> =
                losses.iter().flat_map(|loss| loss.first_offset..=loss.last_offset).collect();
            let mut sorted = named.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, lost, "cut {cut}, seed {seed}");
            check(&disk.crash(seed), &content, &lost);
        }
    }
}

/// A process that ends before the name of the segment that the checkpoint names is durable, and a power cut while the next
/// one finishes that.
#[test]
fn a_repair_that_goes_on_after_a_kill_can_be_cut_as_well() {
    let sim = SimStorage::new(1);
    let (bases, content) = filled(&sim);
    let lost = damage(&sim, &bases);
    let active = *bases.last().expect("active");
    let start = sim.crash(0).operations();
    let killed = |cut: u64| {
        let disk = sim.crash(0);
        disk.cut_at(start + cut);
        repair(&disk).is_err().then(|| disk.restart())
    };
    let is_renamed = |disk: &SimStorage| {
        let dir = PartitionDir { storage: Arc::new(disk.clone()), path: PARTITION.into() };
        let begun = losses::load(&dir).expect("readable");
        begun.last().is_some_and(|loss| !loss.done && has_filler(&dir, active, loss).expect("readable"))
    };
    let mut tried = 0;
    for cut in (0..).take_while(|cut| killed(*cut).is_some()) {
        let disk = || killed(cut).expect("it was cut");
        if !is_renamed(&disk()) {
            continue;
        }
        for second in 0..10 {
            for seed in 0..8 {
                let disk = disk();
                disk.cut_at(disk.operations() + second);
                // Cut or not: it may be through by then.
                let _ = repair(&disk);
                let disk = disk.crash(seed);
                repair(&disk).unwrap_or_else(|error| panic!("cuts {cut} and {second}, seed {seed}: {error}"));
                check(&disk.crash(seed), &content, &lost);
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_missing_segment_is_skipped_as_well() {
    let sim = SimStorage::new(1);
    let (bases, content) = filled(&sim);
    sim.remove_file(&format!("{PARTITION}/{:020}.log", bases[1])).expect("there");
    let losses = repair(&sim).expect("a healthy disk");
    assert_eq!((losses.len(), losses[0].quarantined.clone(), losses[0].bytes), (1, None, 0));
    let lost: Vec<i64> = (bases[1]..bases[2]).collect();
    check(&sim.restart(), &content, &lost);
}

#[test]
fn a_sound_log_is_left_alone() {
    let sim = SimStorage::new(1);
    filled(&sim);
    let before = sim.operations();
    assert_eq!(repair(&sim).expect("readable"), []);
    assert_eq!(sim.operations(), before, "nothing was written");
}
