//! Finding a place in a large log: by offset, by time, and what a lag in seconds asks.
//!
//!     cargo bench -p benches --bench index
//!
//! The twin is a binary search over as many 8-byte entries as the log has index entries: what a look-up
//! would be if nothing but the search had to be done.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use log_core::log::{CountBudget, DirHealth, Isolation, LogConfig, PartitionLog};
use log_core::record::{BatchBuilder, Compression, ValidateOptions, validate_produced};
use log_core::storage::{MmapStorage, WriteMode};

/// Batches in the log: of one record of 1 KiB, so that every fourth has an index entry.
const BATCHES: i64 = 400_000;

fn find(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let storage = Arc::new(MmapStorage::open(directory.path(), WriteMode::Mapped).expect("opens"));
    let config = LogConfig { segment_ms: i64::MAX, ..LogConfig::default() };
    let mut log = PartitionLog::create(storage, "log", Arc::new(DirHealth::default()), config).expect("room");
    for timestamp in 0..BATCHES {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(timestamp, None, Some(&[b'x'; 1_000]), &[]).expect("below 2 GiB");
        let bytes: Bytes = builder.build(0).expect("not empty");
        let produced = validate_produced(bytes, &ValidateOptions::default()).expect("sound");
        log.append(&produced, 0, 0).expect("room");
    }
    log.flush().expect("a healthy disk");
    let reader = log.reader();
    let entries: Vec<u64> = (0..BATCHES as u64).step_by(4).collect();

    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut somewhere = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % BATCHES as u64) as i64
    };
    let mut group = c.benchmark_group("index");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.bench_function("twin_binary_search", |b| {
        b.iter(|| entries.partition_point(|&entry| entry <= black_box(somewhere()) as u64));
    });
    group.bench_function("by_offset", |b| {
        b.iter(|| reader.read(black_box(somewhere()), 1, Isolation::Uncommitted, true).expect("in range"));
    });
    group.bench_function("by_timestamp", |b| {
        b.iter(|| {
            reader.offset_for_timestamp(black_box(somewhere()), Isolation::Uncommitted).expect("sound")
        });
    });
    group.bench_function("first_visible", |b| {
        b.iter(|| {
            reader
                .first_visible(black_box(somewhere()), Isolation::Uncommitted, &CountBudget::unlimited())
                .expect("sound")
        });
    });
    group.finish();
}

criterion_group!(benches, find);
criterion_main!(benches);
