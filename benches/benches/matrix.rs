//! Storing through the map and by system call, in every combination that matters: which is the default, and from
//! how many bytes on, is decided by this table.
//!
//!     cargo bench -p benches --bench matrix
//!
//! One thread appends batches of one record each, to one partition after the other; with a sync, each append is
//! followed by the flush of its partition, as for a producer that is alone. What is timed is one append (and its
//! flush) of a batch that has been checked, through `PartitionLog`, so that everything which the two ways share is in
//! both figures. Rounds of the two take turns, each on fresh logs; throughput is the median round's, percentiles are
//! over all rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::figures::{Latencies, directory, head, is_smoke, mib_per_s, row, size};
use log_core::log::{DirHealth, LogConfig, PartitionLog};
use log_core::record::{BatchBuilder, Compression, ProducedBatch, ValidateOptions, validate_produced};
use log_core::storage::{MmapStorage, WriteMode};

const RECORD_BYTES: [usize; 4] = [100, 1 << 10, 10 << 10, 100 << 10];
const PARTITIONS: [usize; 3] = [1, 8, 64];

/// Bytes that a round stores at most, so that its pages stay in memory and off the disk's queue.
const ROUND_BYTES_MAX: u64 = 512 << 20;

/// How the bytes get into the file.
#[derive(Clone, Copy)]
enum Way {
    Map,
    Call,
}

/// What one round came to.
struct Round {
    bytes: u64,
    took: Duration,
    latencies: Latencies,
}

impl Round {
    fn mib_per_s(&self) -> f64 {
        mib_per_s(self.bytes, self.took)
    }
}

fn main() {
    let (rounds, round_time) =
        if is_smoke() { (1, Duration::from_millis(5)) } else { (3, Duration::from_millis(400)) };
    head(
        1,
        &[
            "record, partitions",
            "map MiB/s",
            "p50 µs",
            "p99",
            "p99.9",
            "call MiB/s",
            "p50 µs",
            "p99",
            "p99.9",
            "map ÷ call",
        ],
    );
    for sync in [false, true] {
        for partitions in PARTITIONS {
            for record_bytes in RECORD_BYTES {
                let batch = batch(record_bytes);
                let mut map = Vec::new();
                let mut call = Vec::new();
                for _ in 0..rounds {
                    map.push(measure(Way::Map, partitions, sync, &batch, round_time));
                    call.push(measure(Way::Call, partitions, sync, &batch, round_time));
                }
                let name =
                    format!("{}, {partitions}{}", size(record_bytes), if sync { ", synced" } else { "" });
                report(name, map, call);
            }
        }
    }
}

fn report(name: String, map: Vec<Round>, call: Vec<Round>) {
    let mut cells = vec![name];
    let mut throughputs = Vec::new();
    for mut rounds in [map, call] {
        rounds.sort_by(|a, b| a.mib_per_s().total_cmp(&b.mib_per_s()));
        let throughput = rounds[rounds.len() / 2].mib_per_s();
        let mut latencies = Latencies::default();
        rounds.iter().for_each(|round| latencies.add(&round.latencies));
        cells.push(if throughput < 10.0 { format!("{throughput:.2}") } else { format!("{throughput:.0}") });
        cells.extend(latencies.cells());
        throughputs.push(throughput);
    }
    cells.push(format!("{:.2}", throughputs[0] / throughputs[1]));
    row(cells);
}

/// A batch of one record, checked.
fn batch(record_bytes: usize) -> ProducedBatch {
    let value: Vec<u8> = (0..record_bytes).map(|at| (at * 31 % 251) as u8).collect();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, None, Some(&value), &[]).expect("below 2 GiB");
    validate_produced(builder.build(0).expect("not empty"), &ValidateOptions::default()).expect("sound")
}

fn measure(way: Way, partitions: usize, sync: bool, batch: &ProducedBatch, round_time: Duration) -> Round {
    let directory = directory();
    let mode = match way {
        Way::Map => WriteMode::Mapped,
        Way::Call => WriteMode::Pwrite,
    };
    let storage = MmapStorage::open(directory.path(), mode).expect("opens").with_calls_from(usize::MAX);
    let storage = Arc::new(storage);
    let health = Arc::new(DirHealth::default());
    let mut logs: Vec<PartitionLog> = (0..partitions)
        .map(|partition| {
            let (storage, health) = (Arc::clone(&storage), Arc::clone(&health));
            let path = format!("log-{partition}");
            PartitionLog::create(storage, &path, health, LogConfig::default()).expect("room")
        })
        .collect();
    // The first append notes a leader epoch, durably; that is not what a row is about.
    for log in &mut logs {
        log.append(batch, 0, 0).expect("room");
        log.flush().expect("a healthy disk");
    }
    let mut latencies = Latencies::default();
    let mut bytes = 0;
    let started = Instant::now();
    let mut before = started;
    'round: loop {
        for log in &mut logs {
            log.append(batch, 0, 0).expect("room");
            if sync {
                log.flush().expect("a healthy disk");
            }
            let now = Instant::now();
            latencies.record(now - before);
            before = now;
            bytes += batch.size_bytes() as u64;
            if now - started >= round_time || bytes >= ROUND_BYTES_MAX {
                break 'round;
            }
        }
    }
    Round { bytes, took: before - started, latencies }
}
