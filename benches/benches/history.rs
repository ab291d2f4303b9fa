//! What a record costs with 1, 10 and 100 GiB of history behind it: it should not matter.
//!
//!     cargo bench -p benches --bench history
//!
//! Each log holds the same number of batches of 16 records of 1 KiB, spread evenly over its length, and between them
//! batches of one record of 1 MiB of zeros. The engine writes all of it; holes are then punched where the zeros were,
//! so that 100 GiB fit on the disk and the bytes that are read fit into memory at every size. Reads and look-ups are
//! of the real batches alone, drawn at random from the whole log. The sizes take turns; a figure is the median round's.

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::figures::{directory, head, is_smoke, median, microseconds, row};
use bytes::Bytes;
use log_core::log::{CountBudget, DirHealth, Isolation, LogConfig, PartitionLog};
use log_core::record::{BatchBuilder, Compression, ProducedBatch, ValidateOptions, validate_produced};
use log_core::storage::{MmapStorage, WriteMode};
use rustix::fs::{FallocateFlags, fallocate};

const RECORDS: usize = 16;
const VALUE_BYTES: usize = 1_000;
const FILLER_BYTES: usize = 1 << 20;
const PAGE_BYTES: u64 = 4096;
/// Milliseconds from one real batch to the next.
const STEP_MS: i64 = 1_000;
const PARTITION: &str = "history-0";

/// How much is built and measured.
struct Scale {
    rounds: usize,
    /// Bytes of the logs.
    sizes: [u64; 3],
    real_batches: usize,
    operations: usize,
}

fn main() {
    let scale = if is_smoke() {
        Scale { rounds: 1, sizes: [8 << 20, 16 << 20, 64 << 20], real_batches: 64, operations: 50 }
    } else {
        Scale { rounds: 5, sizes: [1 << 30, 10 << 30, 100 << 30], real_batches: 32_768, operations: 20_000 }
    };
    let directory = directory();
    let mut histories: Vec<History> = scale
        .sizes
        .iter()
        .map(|&bytes| History::build(directory.path(), bytes, scale.real_batches))
        .collect();
    let mut rounds: Vec<Vec<[Duration; 6]>> = vec![Vec::new(); histories.len()];
    for _ in 0..scale.rounds {
        for (history, rounds) in histories.iter_mut().zip(&mut rounds) {
            rounds.push(history.measure(scale.operations));
        }
    }
    head(1, &["µs", "1 GiB", "10 GiB", "100 GiB", "100 GiB ÷ 1 GiB"]);
    let names = [
        "start, after a clean stop",
        "start, after a kill",
        "append, a record",
        "fetch at a random offset, a record",
        "look-up of an offset",
        "look-up of a time",
    ];
    for (measure, name) in names.into_iter().enumerate() {
        let times = rounds.iter().map(|rounds| median(rounds.iter().map(|round| round[measure]).collect()));
        let times: Vec<Duration> = times.collect();
        let mut cells = vec![name.to_owned()];
        cells.extend(times.iter().map(|&time| microseconds(time)));
        cells.push(format!("{:.2}", times[2].as_secs_f64() / times[0].as_secs_f64()));
        row(cells);
    }
}

/// A log of some length, and where the real batches are in it.
struct History {
    storage: Arc<MmapStorage>,
    log: Option<PartitionLog>,
    /// The first offset of each real batch, whose first timestamp is its index times [`STEP_MS`].
    offsets: Vec<i64>,
    seed: u64,
}

impl History {
    fn build(directory: &Path, bytes: u64, real_batches: usize) -> History {
        let root = directory.join(format!("{bytes}"));
        let storage = Arc::new(MmapStorage::open(&root, WriteMode::Mapped).expect("opens"));
        let filler = filler();
        let mut log = open(&storage);
        let mut offsets = Vec::with_capacity(real_batches);
        let mut filled = 0;
        for index in 0..real_batches {
            let batch = real_batch(index as i64 * STEP_MS);
            offsets.push(log.append(&batch, 0, 0).expect("room").base_offset);
            filled += batch.size_bytes() as u64;
            while filled < bytes * (index as u64 + 1) / real_batches as u64 {
                log.append(&filler, 0, 0).expect("room");
                filled += filler.size_bytes() as u64;
                let active = log.segments().pop().expect("there is always one");
                let name = format!("{PARTITION}/{:020}.log", active.base_offset);
                punch(&root.join(name), active.size_bytes - filler.size_bytes() as u64, active.size_bytes);
            }
        }
        log.close().expect("a healthy disk");
        let mut history = History { storage, log: None, offsets, seed: 0x2545_f491_4f6c_dd1d };
        let reader = history.reopen().1.reader();
        // Every page of the real batches in memory and every segment open: what is measured is the hot path.
        for &offset in &history.offsets {
            let read = reader.read(offset, 0, Isolation::Uncommitted, true).expect("in range");
            assert!(
                read.records.len() > RECORDS * VALUE_BYTES && read.records.len() < 2 * RECORDS * VALUE_BYTES
            );
        }
        history
    }

    /// Opens the log anew, and says how long that took.
    fn reopen(&mut self) -> (Duration, &mut PartitionLog) {
        self.log = None;
        let started = Instant::now();
        let log = open(&self.storage);
        (started.elapsed(), self.log.insert(log))
    }

    /// One round: how long each operation takes, an append or a fetch divided by the records of its batch.
    fn measure(&mut self, operations: usize) -> [Duration; 6] {
        self.log.as_mut().expect("open between rounds").close().expect("a healthy disk");
        let (clean, log) = self.reopen();
        let append = append(log, operations);
        log.flush().expect("a healthy disk");
        let (killed, log) = self.reopen();
        let reader = log.reader();
        let picks: Vec<usize> = (0..operations).map(|_| self.pick()).collect();
        // Opening the segments is a start's share of the first reads, and not every read's.
        for pick in picks.iter().rev() {
            black_box(
                reader
                    .first_visible(self.offsets[*pick], Isolation::Uncommitted, &CountBudget::unlimited())
                    .expect("in range"),
            );
        }
        let mut out = vec![0_u8; 2 * RECORDS * VALUE_BYTES];
        let fetch = each(&picks, |pick| {
            let read = reader.read(self.offsets[pick], 0, Isolation::Uncommitted, true).expect("in range");
            out[..read.records.len()].copy_from_slice(&read.records);
            black_box(&mut out);
        });
        let by_offset = each(&picks, |pick| {
            let offset = self.offsets[pick] + RECORDS as i64 / 2;
            let found = reader
                .first_visible(offset, Isolation::Uncommitted, &CountBudget::unlimited())
                .expect("in range");
            assert_eq!(found.found().map(|found| found.offset), Some(offset));
        });
        let by_time = each(&picks, |pick| {
            let time = pick as i64 * STEP_MS;
            let found = reader.offset_for_timestamp(time, Isolation::Uncommitted).expect("in range");
            assert_eq!(found.map(|found| found.offset), Some(self.offsets[pick]));
        });
        [clean, killed, append, fetch / RECORDS as u32, by_offset, by_time]
    }

    /// A real batch somewhere.
    fn pick(&mut self) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed % self.offsets.len() as u64) as usize
    }
}

fn each(picks: &[usize], mut operation: impl FnMut(usize)) -> Duration {
    let started = Instant::now();
    picks.iter().for_each(|&pick| operation(pick));
    started.elapsed() / picks.len() as u32
}

/// The time that a record takes to be appended, at the end of all that history.
fn append(log: &mut PartitionLog, operations: usize) -> Duration {
    let batch = real_batch(i64::from(i32::MAX));
    let batches = (operations / RECORDS).max(1);
    let started = Instant::now();
    for _ in 0..batches {
        black_box(log.append(&batch, 0, 0).expect("room"));
    }
    started.elapsed() / (batches * RECORDS) as u32
}

fn open(storage: &Arc<MmapStorage>) -> PartitionLog {
    // All of it in one go: the records' times are those of hours, and nothing is to be rolled for them.
    let config = LogConfig { segment_ms: i64::MAX, ..LogConfig::default() };
    PartitionLog::create(storage.clone(), PARTITION, Arc::new(DirHealth::default()), config)
        .expect("a healthy disk")
}

fn checked(bytes: Bytes) -> ProducedBatch {
    let options = ValidateOptions {
        max_message_bytes: 2 * FILLER_BYTES,
        timestamp_after_max_ms: i64::MAX,
        ..ValidateOptions::default()
    };
    validate_produced(bytes, &options).expect("sound")
}

fn real_batch(timestamp_ms: i64) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    for index in 0..RECORDS as i64 {
        let value: Vec<u8> =
            (0..VALUE_BYTES).map(|at| (at as i64 * 31 + timestamp_ms + index) as u8 | 1).collect();
        builder.append(timestamp_ms + index, None, Some(&value), &[]).expect("below 2 GiB");
    }
    checked(builder.build(0).expect("not empty"))
}

/// A batch that is all zeros but for its first and its last bytes.
fn filler() -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, None, Some(&vec![0; FILLER_BYTES]), &[]).expect("below 2 GiB");
    checked(builder.build(0).expect("not empty"))
}

/// Gives back the whole pages of a filler that lies at `from..to`. They read as the zeros that they were.
fn punch(path: &Path, from: u64, to: u64) {
    let start = (from + 2 * PAGE_BYTES).next_multiple_of(PAGE_BYTES);
    let end = (to - PAGE_BYTES) / PAGE_BYTES * PAGE_BYTES;
    let file = File::options().write(true).open(path).expect("the segment's file");
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, end - start)
        .expect("ext4 or tmpfs");
}
