//! Nothing that was acknowledged is lost, whatever moment the power goes.
//!
//! The storage of a broker (a data directory with partitions that come and go, idempotent producers
//! that send again, flushes that overlap, checkpoints, retention, deletion, clean and unclean ends)
//! works on the simulated disk, and is compared after every crash with a model that is a plain list.
//! See docs/crash-testing.md.
//!
//! * `HIGHWATER_CRASH_HISTORIES`: how many random histories, 10,000 if not set.
//! * `HIGHWATER_CRASH_SEED`: one history alone, with the disk's operations.

mod compaction;
mod history;
mod model;
mod process;
mod syncs;
mod transactions;
mod two_faults;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use history::{Coverage, History};
use log_core::storage::sim::{SimStorage, SyncPoint};

/// Which syncs of the engine do nothing.
type Ignored = fn(&SyncPoint<'_>) -> bool;

/// Runs a history on a disk of its own. A panic of the engine's is a broken promise like any other.
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
    let result = caught(|| act(&mut history));
    history.sim().trace().iter().for_each(|line| println!("{line}"));
    result.map(|()| history.coverage)
}

/// Takes a panic for an error.
fn caught(act: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("a panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
    })
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?} and not a number")))
}

/// The first of `count` seeds for which `check` fails, on all processors.
fn first_failure(
    first: u64,
    count: u64,
    check: impl Fn(u64) -> Result<(), String> + Sync,
) -> Option<(u64, String)> {
    let next = AtomicU64::new(first);
    let failure: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || failure.lock().expect("not poisoned").is_some() {
                return;
            }
            if let Err(broken) = check(seed) {
                failure.lock().expect("not poisoned").get_or_insert((seed, broken));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    failure.into_inner().expect("not poisoned")
}

#[test]
fn no_history_loses_what_was_acknowledged() {
    let (first, count) = match variable("HIGHWATER_CRASH_SEED") {
        Some(seed) => (seed, 1),
        None => (0, variable("HIGHWATER_CRASH_HISTORIES").unwrap_or(10_000)),
    };
    let coverage = Mutex::new(Coverage::default());
    let failure = first_failure(first, count, |seed| {
        let more = run(seed, None, History::run)?;
        *coverage.lock().expect("not poisoned") += more;
        Ok(())
    });
    if let Some((seed, broken)) = failure {
        panic!("HIGHWATER_CRASH_SEED={seed}: {broken}");
    }
    let coverage = coverage.into_inner().expect("not poisoned");
    println!("{count} histories: {coverage:?}");
    if count >= 1000 {
        coverage.assert_complete();
    }
}

/// One workload, ended at each of its operations in turn, each end with several outcomes.
#[test]
fn every_operation_can_be_the_last() {
    const OUTCOMES: u64 = 4;
    const STEPS: usize = 60;
    for workload in 0..3 {
        let operations = AtomicU64::new(0);
        run(workload, None, |history| {
            history.live(STEPS, 0)?;
            operations.store(history.operations_before_end(), Ordering::Relaxed);
            Ok(())
        })
        .unwrap_or_else(|broken| panic!("workload {workload}, uncut: {broken}"));
        let operations = operations.into_inner();
        assert!(operations > 200, "workload {workload} has {operations} operations only");
        let failure = first_failure(0, operations * OUTCOMES, |point| {
            run(workload, None, |history| {
                history.sim().cut_at(point / OUTCOMES);
                history.live(STEPS, point % OUTCOMES)?;
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
