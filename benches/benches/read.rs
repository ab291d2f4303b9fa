//! Reading: from an offset to a slice of the map, and to the bytes, beside what the hardware does
//! without us.
//!
//!     cargo bench -p benches --bench read
//!
//! * `slice`: `LogReader::read` alone. It copies nothing, so it has no twin: it takes what it takes.
//! * `bytes`: the same, and every byte of the answer copied out, as a socket would.
//! * `twin_copy`: as many bytes copied out of a map, from a place that is known.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use log_core::log::{DirHealth, Isolation, LogConfig, PartitionLog};
use log_core::record::{BatchBuilder, Compression, ValidateOptions, validate_produced};
use log_core::storage::{MmapStorage, WriteMode};
use tempfile::TempDir;

/// Bytes in the log, all of them in memory.
const LOG_BYTES: u64 = 256 << 20;

/// (name, records a batch): records of 1 KiB.
const SHAPES: [(&str, usize); 3] = [("1KiB", 1), ("16KiB", 16), ("64KiB", 64)];

fn filled(records: usize) -> (TempDir, PartitionLog) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let storage = Arc::new(MmapStorage::open(directory.path(), WriteMode::Mapped).expect("opens"));
    let mut log = PartitionLog::create(storage, "log", Arc::new(DirHealth::default()), LogConfig::default())
        .expect("room");
    let mut builder = BatchBuilder::new(Compression::None);
    for index in 0..records {
        builder.append(index as i64, None, Some(&[b'x'; 1_000]), &[]).expect("below 2 GiB");
    }
    let bytes: Bytes = builder.build(0).expect("not empty");
    let produced = validate_produced(bytes, &ValidateOptions::default()).expect("sound");
    while log.size_bytes() < LOG_BYTES {
        log.append(&produced, 0, 0).expect("room");
    }
    log.flush().expect("a healthy disk");
    (directory, log)
}

/// Offsets all over the log, in no order.
fn somewhere(seed: &mut u64, end: i64) -> i64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed % end as u64) as i64
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("log_read");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, records) in SHAPES {
        let (_directory, log) = filled(records);
        let reader = log.reader();
        let end = log.watermarks().log_end();
        for max_bytes in [64 << 10, 1 << 20] {
            let shape = format!("{name}_batches_{}KiB", max_bytes >> 10);
            let mut out = vec![0; max_bytes];
            let sample = reader.read(0, max_bytes, Isolation::Uncommitted, true).expect("in range").records;
            let len = sample.len();
            group.throughput(Throughput::Bytes(len as u64));
            let mut seed = 0x2545_f491_4f6c_dd1d;
            group.bench_function(BenchmarkId::new("slice", &shape), |b| {
                b.iter(|| {
                    let offset = somewhere(&mut seed, end);
                    reader.read(black_box(offset), max_bytes, Isolation::Uncommitted, true).expect("in range")
                });
            });
            group.bench_function(BenchmarkId::new("bytes", &shape), |b| {
                let mut offset = 0;
                b.iter(|| {
                    let read = reader
                        .read(black_box(offset), max_bytes, Isolation::Uncommitted, true)
                        .expect("in range");
                    out[..read.records.len()].copy_from_slice(&read.records);
                    black_box(&mut out);
                    offset = if read.records.len() < len { 0 } else { read.next_offset };
                });
            });
            // The whole log as one slice: the twin goes through the same pages of the same map.
            let all =
                reader.read(0, usize::MAX >> 1, Isolation::Uncommitted, true).expect("in range").records;
            group.bench_function(BenchmarkId::new("twin_copy", &shape), |b| {
                let mut at = 0;
                b.iter(|| {
                    out[..len].copy_from_slice(&all[at..at + len]);
                    black_box(&mut out);
                    at = if at + 2 * len > all.len() { 0 } else { at + len };
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, read);
criterion_main!(benches);
