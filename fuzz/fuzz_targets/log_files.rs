//! The small files beside a log: whatever lies in them, they are understood or refused, in bounded
//! memory, and what is understood is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use log_core::log::{CheckpointFile, CleanShutdown, LeaderEpochs, ProducerSnapshot};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;

fuzz_target!(|bytes: &[u8]| {
    if let Some(ProducerSnapshot { offset, producers, aborted }) = ProducerSnapshot::decode(bytes) {
        let again = ProducerSnapshot::encode(offset, &producers, &aborted);
        assert_eq!(ProducerSnapshot::decode(&again), Some(ProducerSnapshot { offset, producers, aborted }));
    }
    if let Some(epochs) = LeaderEpochs::decode(bytes) {
        assert!(epochs.entries().windows(2).all(|pair| pair[0].epoch < pair[1].epoch));
    }
    let _ = CleanShutdown::decode(bytes);
    let sim = SimStorage::new(0);
    sim.write_synced("checkpoint", bytes).expect("room");
    let (file, checkpoint) = CheckpointFile::open(&sim, "checkpoint").expect("readable");
    if let Some(checkpoint) = checkpoint {
        file.write(&checkpoint).expect("room");
        assert_eq!(CheckpointFile::open(&sim, "checkpoint").expect("readable").1, Some(checkpoint));
    }
});
