//! A compacted log through random operations and crashes, against a plain list of all that was appended.
//!
//! After each compaction and each start, what a full read gives is compared with the list: of every key the
//! latest value, nothing that was not sent, offsets that rise and batches without holes between them, the
//! head untouched, tombstones for as long as they are promised, times and offsets found where they are, and
//! producers known by their last batches.

mod checks;
mod history;
mod list;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use log_core::log::{CleanupPolicy, LogConfig, PartitionLog};
use log_core::record::Compression;
use log_core::storage::Storage;
use log_core::storage::sim::{SimStorage, SyncPoint};

use crate::process::{KILLED, Stop, healthy};
use crate::{Ignored, first_failure, variable};
use checks::read_all;
use history::{Coverage, History};
use list::{Sent, produced};

const PARTITION: &str = "topics/table-0";
const PRODUCERS: i64 = 3;

fn run(
    seed: u64,
    ignored: Option<Ignored>,
    act: impl Fn(&mut History) -> Result<(), String>,
) -> Result<Coverage, String> {
    let sim = SimStorage::new(seed);
    if let Some(ignored) = ignored {
        sim.ignore_syncs(ignored);
    }
    if variable("HIGHWATER_CRASH_SEED").is_some() {
        sim.record_trace();
    }
    let mut history = History::new(seed, sim);
    let result = crate::caught(|| act(&mut history));
    history.process.sim.trace().iter().for_each(|line| println!("{line}"));
    result.map(|()| history.coverage)
}

/// Random histories: as many as a tenth of `HIGHWATER_CRASH_HISTORIES`, or the one that
/// `HIGHWATER_CRASH_SEED` names.
#[test]
fn compaction_keeps_the_latest_of_every_key() {
    let (first, count) = match variable("HIGHWATER_CRASH_SEED") {
        Some(seed) => (seed, 1),
        None => (0, variable("HIGHWATER_CRASH_HISTORIES").unwrap_or(10_000) / 10),
    };
    let coverage = Mutex::new(Coverage::default());
    let failure = first_failure(first, count, |seed| {
        let more = run(seed, None, History::run)?;
        let mut all = coverage.lock().expect("not poisoned");
        all.passes += more.passes;
        all.crashes_in_passes += more.crashes_in_passes;
        all.removed += more.removed;
        all.tombstones_removed += more.tombstones_removed;
        all.merged += more.merged;
        Ok(())
    });
    if let Some((seed, broken)) = failure {
        panic!("HIGHWATER_CRASH_SEED={seed}: {broken}");
    }
    let all = coverage.into_inner().expect("not poisoned");
    println!("{count} histories: {all:?}");
    if count >= 1000 {
        let seen = [all.passes, all.crashes_in_passes, all.removed, all.tombstones_removed, all.merged];
        assert!(seen.iter().all(|count| *count >= 10), "hardly tested: {all:?}");
    }
}

/// Two passes with appends between them, ended at each of their operations in turn.
#[test]
fn every_operation_of_a_compaction_can_be_the_last() {
    const OUTCOMES: u64 = 6;
    let begun = AtomicU64::new(0);
    let whole = |history: &mut History| -> Result<(), Stop> {
        history.process.config.min_compaction_lag_ms = 0;
        history.process.config.min_cleanable_dirty_millionths = 0;
        history.open()?;
        for _ in 0..60 {
            history.append()?;
        }
        begun.fetch_max(history.process.sim.operations(), Ordering::Relaxed);
        history.compact()?;
        for _ in 0..60 {
            history.append()?;
        }
        history.now_ms += 5000;
        history.compact()
    };
    for workload in 0..4 {
        begun.store(0, Ordering::Relaxed);
        let operations = AtomicU64::new(0);
        run(workload, None, |history| {
            healthy(whole(history))?;
            operations.store(history.process.sim.operations(), Ordering::Relaxed);
            Ok(())
        })
        .unwrap_or_else(|broken| panic!("workload {workload}, uncut: {broken}"));
        let (first, last) = (begun.load(Ordering::Relaxed), operations.into_inner());
        let failure = first_failure(first * OUTCOMES, (last - first) * OUTCOMES, |point| {
            run(workload, None, |history| {
                history.process.sim.cut_at(point / OUTCOMES);
                if let Err(Stop::Broken(broken)) = whole(history) {
                    return Err(broken);
                }
                let outcome = point % OUTCOMES;
                history.process.end(if outcome < 4 { 2 * outcome } else { KILLED });
                history.finish()
            })
            .map(|_| ())
        });
        if let Some((point, broken)) = failure {
            let (operation, outcome) = (point / OUTCOMES, point % OUTCOMES);
            panic!("workload {workload}, cut at operation {operation}, outcome {outcome}: {broken}");
        }
    }
}

fn changes(point: &SyncPoint<'_>, ending: &str) -> bool {
    point.is_directory && point.changed_names.iter().any(|name| name.ends_with(ending))
}

/// The suite would notice a sync that is missing from a pass.
#[test]
fn every_sync_of_a_compaction_is_missed() {
    const SYNCS: &[(&str, Ignored)] = &[
        ("a compacted segment", |point| !point.is_directory && point.path.ends_with(".cleaned")),
        ("its name", |point| changes(point, ".swap")),
        ("the removal of what it replaces", |point| {
            changes(point, ".log") && !changes(point, ".swap") && point.path.starts_with("topics/")
        }),
    ];
    let unnoticed: BTreeSet<&str> = SYNCS
        .iter()
        .filter(|(what, ignored)| {
            let failure = first_failure(0, 4000, |seed| run(seed, Some(*ignored), History::run).map(|_| ()));
            if let Some((seed, broken)) = &failure {
                println!("without {what}: seed {seed}: {broken}");
            }
            failure.is_none()
        })
        .map(|(what, _)| *what)
        .collect();
    assert!(unnoticed.is_empty(), "nothing is missed without {unnoticed:?}");
}

/// Two faults in a row: a process is killed in the middle of a pass, the next one finishes the swap that
/// it finds, and the power goes. Nothing that the swap replaces is removed on the word of a name that is
/// not durable.
#[test]
fn a_swap_of_a_killed_process_is_finished_or_undone() {
    const OUTCOMES: u64 = 30;
    let config = LogConfig {
        segment_bytes: 1500,
        cleanup: CleanupPolicy::COMPACT,
        min_cleanable_dirty_millionths: 0,
        ..LogConfig::default()
    };
    let open = |sim: &SimStorage| {
        PartitionLog::open(Arc::new(sim.clone()), PARTITION, Arc::default(), config.clone())
    };
    let fill = |seed: u64| {
        let sim = SimStorage::new(seed);
        sim.create_dir_all(PARTITION).expect("room");
        sim.sync_dir("").and_then(|()| sim.sync_dir("topics")).expect("healthy");
        let (mut log, _) = open(&sim).expect("healthy");
        for n in 0..40 {
            let key = Some(format!("k{}", n % 12).into_bytes());
            let record = Sent { timestamp: n, key, value: Some(vec![n as u8; 100]) };
            log.append(&produced(Compression::None, None, None, &[record]), 0, n).expect("room");
        }
        log.flush().and_then(|()| log.write_checkpoint()).expect("healthy");
        // Several of the small segments fit into one.
        log.set_config(LogConfig { segment_bytes: 6000, ..config.clone() });
        (sim, log)
    };
    let latest = |log: &PartitionLog| {
        let there = read_all(&log.reader(), 0, log.watermarks().high_watermark()).expect("readable");
        let of_key = there.into_iter().map(|(offset, sent)| (sent.key, (offset, sent.value)));
        of_key.collect::<BTreeMap<_, _>>()
    };
    let (sim, mut log) = fill(1);
    let expected = latest(&log);
    let first = sim.operations();
    log.compact(100, 1 << 20).expect("healthy").expect("due");
    let last = sim.operations();
    assert_eq!(latest(&log), expected);

    let mut swaps = 0;
    for killed_in in first..last {
        let (sim, mut log) = fill(1);
        sim.cut_at(killed_in);
        log.compact(100, 1 << 20).expect_err("the power is cut");
        drop(log);
        let names = sim.restart().list_dir(PARTITION).expect("there");
        swaps += u64::from(names.iter().any(|name| name.ends_with(".swap")));
        for operation in 0..12 {
            let next = sim.restart();
            next.cut_at(next.operations() + operation);
            drop(open(&next));
            for outcome in 0..OUTCOMES {
                let when = format!("killed in {killed_in}, cut in {operation}, outcome {outcome}");
                let (log, report) = open(&next.crash(outcome)).expect("a healthy disk");
                assert_eq!(report.corruption, None, "{when}");
                assert_eq!(latest(&log), expected, "{when}");
            }
        }
    }
    assert!(swaps > 0, "no process was killed between a commit and its end");
}
