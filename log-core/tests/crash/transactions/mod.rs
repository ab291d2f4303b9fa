//! Transactions of several producers in one log, through random operations and crashes, against a plain list of
//! all that was appended.
//!
//! After each flush, compaction and start the log is read as a consumer of committed records reads it: in answers of
//! random size from random offsets on, each taken apart by itself with the aborted transactions that come with it,
//! once as the Java client does that and once as librdkafka does. What is left has to be what the list says: the
//! records outside of transactions and those of committed ones, up to the first offset of the oldest transaction
//! whose end is not durable.

mod checks;
mod consumers;
mod history;
mod list;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{caught, first_failure, variable};
use history::{Coverage, History};

const PARTITION: &str = "topics/payments-0";
const PRODUCERS: i64 = 4;

/// Runs a history. A panic of the engine's is a broken promise like any other.
fn run(seed: u64, act: impl Fn(&mut History) -> Result<(), String>) -> Result<Coverage, String> {
    let mut history = History::new(seed);
    let result = caught(|| act(&mut history));
    history.process.sim.trace().iter().for_each(|line| println!("{line}"));
    result.map(|()| history.coverage)
}

fn many(first: u64, count: u64, faults: bool) {
    let total = Mutex::new(Coverage::default());
    let failure = first_failure(first, count, |seed| {
        let one = run(seed, |history| history.run(faults))?;
        let mut total = total.lock().expect("not poisoned");
        total.open_over_crash += one.open_over_crash;
        total.ends_torn += one.ends_torn;
        total.files_spoilt += one.files_spoilt;
        total.told += one.told;
        total.passes += one.passes;
        total.deletions += one.deletions;
        Ok(())
    });
    if let Some((seed, broken)) = failure {
        panic!("HIGHWATER_CRASH_SEED={seed}: {broken}");
    }
    let total = total.into_inner().expect("not poisoned");
    println!("{count} histories: {total:?}");
    if count >= 400 {
        let Coverage { open_over_crash, ends_torn, files_spoilt, told, passes, deletions } = total;
        let reached = [open_over_crash, files_spoilt, told, passes, deletions];
        assert!(reached.iter().all(|reached| *reached > 0), "{total:?}");
        assert!(!faults || ends_torn > 0, "{total:?}");
    }
}

fn seeds(histories: u64) -> (u64, u64) {
    match variable("HIGHWATER_CRASH_SEED") {
        Some(seed) => (seed, 1),
        None => (0, variable("HIGHWATER_CRASH_HISTORIES").unwrap_or(histories)),
    }
}

#[test]
fn committed_reads_equal_the_list() {
    let (first, count) = seeds(400);
    many(first, count, false);
}

#[test]
fn no_crash_shows_what_was_aborted_or_hides_what_was_committed() {
    let (first, count) = seeds(800);
    many(first, count, true);
}

/// One workload, ended at each of its operations in turn.
#[test]
fn every_operation_of_transactions_can_be_the_last() {
    const OUTCOMES: u64 = 2;
    const STEPS: usize = 50;
    for workload in 0..2 {
        let operations = AtomicU64::new(0);
        run(workload, |history| {
            history.live(STEPS, 0)?;
            operations.store(history.process.sim.operations(), Ordering::Relaxed);
            Ok(())
        })
        .unwrap_or_else(|broken| panic!("workload {workload}, uncut: {broken}"));
        let operations = operations.into_inner();
        let failure = first_failure(0, operations * OUTCOMES, |point| {
            run(workload, |history| {
                history.process.sim.cut_at(point / OUTCOMES);
                history.live(STEPS, point % OUTCOMES)?;
                history.finish()
            })
            .map(drop)
        });
        if let Some((point, broken)) = failure {
            let (operation, outcome) = (point / OUTCOMES, point % OUTCOMES);
            panic!("workload {workload}, cut at operation {operation}, outcome {outcome}: {broken}");
        }
    }
}
