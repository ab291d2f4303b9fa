//! A partition's directory with a file in it that holds anything: it opens or is refused, reads give
//! whole batches or an error, and what a log recovered to is what the next start recovers to.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use log_core::log::{DirHealth, Isolation, LogConfig, PartitionLog};
use log_core::record::{BatchBuilder, Compression, EndOfTransaction, Marker, ProducedBatch, batches};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;

const PARTITION: &str = "topics/orders-0";
const FILES: [&str; 9] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000012.log",
    "checkpoint",
    "leader-epochs",
    "00000000000000000012.producers",
    "00000000000000000000.aborted",
    "00000000000000000012.aborted",
];

fn open(sim: &SimStorage) -> Option<PartitionLog> {
    let config = LogConfig { segment_bytes: 1024, index_interval_bytes: 200, ..LogConfig::default() };
    let opened = PartitionLog::open(Arc::new(sim.clone()), PARTITION, Arc::new(DirHealth::default()), config);
    opened.ok().map(|(log, _)| log)
}

/// A small log of two segments or so, in which transactions are aborted and one is open.
fn small_log() -> SimStorage {
    let sim = SimStorage::new(0);
    sim.create_dir_all(PARTITION).expect("room");
    let mut log = open(&sim).expect("an empty log");
    for sequence in 0..12 {
        let mut builder = BatchBuilder::new(Compression::None).producer(7, 0, sequence);
        builder.append(i64::from(sequence), None, Some(&[sequence as u8; 40]), &[]).expect("small");
        let batch = ProducedBatch::internal(builder.build(0).expect("small")).expect("sound");
        log.append(&batch, sequence / 5, 0).expect("room");
        let mut builder = BatchBuilder::new(Compression::None).producer(8, 0, sequence).transactional(true);
        builder.append(i64::from(sequence), None, Some(&[0]), &[]).expect("small");
        let batch = ProducedBatch::internal(builder.build(0).expect("small")).expect("sound");
        log.append(&batch, sequence / 5, 0).expect("room");
        if sequence % 4 == 1 {
            let end = EndOfTransaction { marker: Marker::Abort, coordinator_epoch: 0 };
            log.append_marker(8, 0, end, sequence / 5, 0).expect("room");
        }
        if sequence % 3 == 0 {
            log.flush().expect("healthy");
            log.write_checkpoint().expect("healthy");
        }
    }
    sim.restart()
}

fn read_all(log: &PartitionLog, isolation: Isolation) -> Vec<(i64, i64)> {
    let reader = log.reader();
    let mut found = Vec::new();
    let mut offset = log.watermarks().log_start();
    while let Ok(read) = reader.read(offset, 4096, isolation, true) {
        if read.records.is_empty() {
            break;
        }
        for batch in batches(&read.records) {
            let batch = batch.expect("reads give whole batches");
            batch.verify_crc().expect("and sound ones");
            found.push((batch.base_offset(), batch.last_offset()));
        }
        found.extend(read.aborted.iter().map(|aborted| (aborted.first_offset, aborted.last_offset)));
        assert!(read.next_offset > offset, "no progress at {offset}");
        offset = read.next_offset;
    }
    found
}

fuzz_target!(|input: (u8, u16, bool, Vec<u8>)| {
    let (file, at, whole, bytes) = input;
    let sim = small_log();
    let path = format!("{PARTITION}/{}", FILES[usize::from(file) % FILES.len()]);
    let mut content = if whole { Vec::new() } else { sim.read(&path).unwrap_or_default() };
    let at = usize::from(at) % (content.len() + 1);
    for (index, byte) in bytes.iter().enumerate() {
        match content.get_mut(at + index) {
            Some(there) => *there = *byte,
            None => content.push(*byte),
        }
    }
    sim.write_synced(&path, &content).expect("room");
    let Some(log) = open(&sim) else { return };
    let found = [Isolation::Uncommitted, Isolation::Committed].map(|isolation| read_all(&log, isolation));
    let _ = log.reader().offset_for_timestamp(5, Isolation::Uncommitted);
    let _ = log.reader().max_timestamp(Isolation::Uncommitted);
    let corrupt = log.reader().corruption().is_some();
    drop(log);
    if let Some(log) = open(&sim.restart()) {
        let again = [Isolation::Uncommitted, Isolation::Committed].map(|isolation| read_all(&log, isolation));
        assert!(corrupt || again == found, "two starts in a row differ");
    }
});
