//! The engine against a plain list of batches: random operations, reopens and compaction included, on the
//! simulated disk and on the real one.
//!
//! A failure names its seed; `MODEL_SEED=<seed> cargo test -p log-core --test model` runs that history
//! alone, and `MODEL_HISTORIES=<n>` makes the run longer.

mod comparison;
mod history;
mod model;

use std::sync::Arc;

use history::{Disk, History};
use log_core::storage::sim::SimStorage;
use log_core::storage::{MmapStorage, WriteMode};

/// Names the seed when a history fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the history of MODEL_SEED={} failed", self.0);
        }
    }
}

fn seeds(default_histories: u64) -> Vec<u64> {
    let from_env = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match from_env("MODEL_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = fastrand::u64(..u64::MAX / 2);
            (first..first + from_env("MODEL_HISTORIES").unwrap_or(default_histories)).collect()
        }
    }
}

#[test]
fn histories_on_the_simulated_disk() {
    for seed in seeds(60) {
        let _named = Named(seed);
        History::new(seed, Disk::Simulated(SimStorage::new(seed))).run(200);
    }
}

#[test]
fn histories_on_the_real_disk() {
    for seed in seeds(4) {
        let _named = Named(seed);
        for mode in [WriteMode::Mapped, WriteMode::Pwrite] {
            let root = tempfile::tempdir().expect("a temporary directory");
            let disk = Arc::new(MmapStorage::open(root.path(), mode).expect("opens"));
            History::new(seed, Disk::Real(disk)).run(200);
        }
    }
}
