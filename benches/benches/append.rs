//! Appending: checking a batch and storing it, beside what the hardware does without us.
//!
//!     cargo bench -p benches --bench append
//!
//! Everything here writes the same bytes into fresh files on the same file system, allocated ahead in
//! the same steps, and takes a new file after the same number of bytes; making and removing files is
//! not measured. `BENCH_DIR` puts the files elsewhere than into the system's temporary directory, and
//! `BENCH_CLOCK=cpu` counts the thread's time on a processor, which others on a busy machine leave
//! alone.
//!
//! * `twin_map`: the checksum of the batch, and a copy into a mapped file.
//! * `twin_pwrite`: the checksum of the batch, and a `pwrite`.
//! * `twin_crc`: the checksum alone.
//! * `log_mapped`, `log_pwrite`: what a broker does between socket and acknowledgement with acks=1:
//!   `validate_produced` and `PartitionLog::append`.
//! * `log_append`: the append alone, of a batch that has been checked.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use log_core::log::{DirHealth, LogConfig, PartitionLog};
use log_core::record::{BatchBuilder, Compression, ProducedBatch, ValidateOptions, validate_produced};
use log_core::storage::{MmapStorage, WriteMode};
use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{FallocateFlags, fallocate};
use tempfile::TempDir;

/// (name, value bytes, records a batch): records of 1 KiB in batches of 16 KiB, 64 KiB and 1 MiB.
const SHAPES: [(&str, usize, usize); 3] =
    [("16KiB_16x1KiB", 1_000, 16), ("64KiB_64x1KiB", 1_000, 64), ("1MiB_1000x1KiB", 1_024, 1_000)];

/// Bytes that go into one file before the next is taken.
const FILE_BYTES: u64 = 512 << 20;
/// Bytes that are allocated ahead, as in the engine.
const STEP_BYTES: u64 = 16 << 20;

fn batch(value_bytes: usize, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for index in 0..records {
        let value: Vec<u8> = (0..value_bytes).map(|at| (at * 31 + index) as u8).collect();
        builder.append(index as i64, None, Some(&value), &[]).expect("below 2 GiB");
    }
    builder.build(0).expect("not empty")
}

fn directory() -> TempDir {
    match std::env::var_os("BENCH_DIR") {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    }
    .expect("a temporary directory")
}

/// Somewhere that takes batches, until it is full.
trait Target {
    fn new(directory: &TempDir) -> Self;
    fn take(&mut self, batch: &Bytes);
}

/// The time that `iterations` batches take, files of [`FILE_BYTES`] being made and removed unmeasured.
fn measure<T: Target>(iterations: u64, batch: &Bytes) -> Duration {
    let a_file = FILE_BYTES / batch.len() as u64;
    let mut left = iterations;
    let mut spent = Duration::ZERO;
    while left > 0 {
        let directory = directory();
        let mut target = T::new(&directory);
        let count = left.min(a_file);
        let start = Clock::start();
        for _ in 0..count {
            target.take(black_box(batch));
        }
        spent += start.elapsed();
        left -= count;
    }
    spent
}

/// The wall clock, or the thread's own.
enum Clock {
    Wall(Instant),
    Processor(Duration),
}

impl Clock {
    fn start() -> Clock {
        match std::env::var("BENCH_CLOCK").as_deref() {
            Ok("cpu") => Clock::Processor(on_processor()),
            _ => Clock::Wall(Instant::now()),
        }
    }

    fn elapsed(&self) -> Duration {
        match self {
            Clock::Wall(start) => start.elapsed(),
            Clock::Processor(start) => on_processor() - *start,
        }
    }
}

/// How long this thread has been running, as the scheduler counts it.
fn on_processor() -> Duration {
    // Giving the processor up makes the kernel bring its count up to date.
    std::thread::yield_now();
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = counts.split(' ').next().and_then(|count| count.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first number"))
}

struct Map {
    file: File,
    map: MmapMut,
    allocated: u64,
    end: usize,
}

impl Target for Map {
    #[expect(unsafe_code, reason = "the twin maps a file that nobody else knows")]
    fn new(directory: &TempDir) -> Map {
        let path = directory.path().join("twin");
        let file = File::options().read(true).write(true).create_new(true).open(path).expect("room");
        let len = (FILE_BYTES + STEP_BYTES) as usize;
        // SAFETY: nobody truncates the file while it is mapped; pages are touched once allocated.
        let map = unsafe { MmapOptions::new().len(len).map_mut(&file).expect("address space") };
        Map { file, map, allocated: 0, end: 0 }
    }

    fn take(&mut self, batch: &Bytes) {
        black_box(crc_fast::crc32_iscsi(&batch[21..]));
        allocate(&self.file, &mut self.allocated, (self.end + batch.len()) as u64);
        self.map[self.end..self.end + batch.len()].copy_from_slice(batch);
        self.end += batch.len();
    }
}

struct Pwrite {
    file: File,
    allocated: u64,
    end: u64,
}

impl Target for Pwrite {
    fn new(directory: &TempDir) -> Pwrite {
        let file = File::create_new(directory.path().join("twin")).expect("room");
        Pwrite { file, allocated: 0, end: 0 }
    }

    fn take(&mut self, batch: &Bytes) {
        black_box(crc_fast::crc32_iscsi(&batch[21..]));
        let end = self.end + batch.len() as u64;
        allocate(&self.file, &mut self.allocated, end);
        self.file.write_all_at(batch, self.end).expect("room");
        self.end = end;
    }
}

fn allocate(file: &File, allocated: &mut u64, end: u64) {
    if end > *allocated {
        let ahead = end.next_multiple_of(STEP_BYTES);
        fallocate(file, FallocateFlags::empty(), *allocated, ahead - *allocated).expect("room");
        *allocated = ahead;
    }
}

fn open(directory: &TempDir, mode: WriteMode) -> PartitionLog {
    let storage = Arc::new(MmapStorage::open(directory.path(), mode).expect("opens"));
    PartitionLog::create(storage, "log", Arc::new(DirHealth::default()), LogConfig::default()).expect("room")
}

fn options() -> ValidateOptions {
    ValidateOptions { max_message_bytes: 2 << 20, ..ValidateOptions::default() }
}

struct Log<const MAPPED: bool> {
    log: PartitionLog,
    options: ValidateOptions,
}

impl<const MAPPED: bool> Target for Log<MAPPED> {
    fn new(directory: &TempDir) -> Self {
        let mode = if MAPPED { WriteMode::Mapped } else { WriteMode::Pwrite };
        Log { log: open(directory, mode), options: options() }
    }

    fn take(&mut self, batch: &Bytes) {
        let produced = validate_produced(batch.clone(), &self.options).expect("sound");
        black_box(self.log.append(&produced, 0, 0).expect("room"));
    }
}

/// The append alone.
struct Checked {
    log: PartitionLog,
    produced: Option<ProducedBatch>,
}

impl Target for Checked {
    fn new(directory: &TempDir) -> Checked {
        Checked { log: open(directory, WriteMode::Mapped), produced: None }
    }

    fn take(&mut self, batch: &Bytes) {
        let produced =
            self.produced.get_or_insert_with(|| validate_produced(batch.clone(), &options()).expect("sound"));
        black_box(self.log.append(produced, 0, 0).expect("room"));
    }
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    for (name, value_bytes, records) in SHAPES {
        let bytes = batch(value_bytes, records);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut bench = |target: &str, run: fn(u64, &Bytes) -> Duration| {
            group.bench_with_input(BenchmarkId::new(target, name), &bytes, |b, bytes| {
                b.iter_custom(|iterations| run(iterations, bytes));
            });
        };
        bench("twin_map", measure::<Map>);
        bench("log_mapped", measure::<Log<true>>);
        bench("log_append", measure::<Checked>);
        bench("twin_pwrite", measure::<Pwrite>);
        bench("log_pwrite", measure::<Log<false>>);
        group.bench_with_input(BenchmarkId::new("twin_crc", name), &bytes, |b, bytes| {
            b.iter(|| crc_fast::crc32_iscsi(black_box(&bytes[21..])));
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
