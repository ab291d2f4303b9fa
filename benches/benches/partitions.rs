//! What durability costs with many partitions and with one request in flight.
//!
//! `cargo bench -p benches --bench partitions` prints three parts: ways to sync many files on the bare disk, acks=all over
//! many partitions beside the same load over one, and the round trip of a single producer beside a bare append and
//! `fdatasync`. `-- --test` runs each once and small. Rounds of the two sides alternate, so that what else the disk does
//! falls on both.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use benches::twin;
use benches::wire_client::{Connection, expect_produced, produce_frame};
use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression};
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};
use rustix::fs::{FallocateFlags, fallocate, syncfs};

const TOPIC: &str = "spread";
const PRODUCERS: usize = 64;
const BATCH_BYTES: usize = 16 << 10;

fn main() -> io::Result<()> {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let dir = bench_dir()?;
    let rounds = if smoke { 1 } else { 5 };
    sync_many_files(dir.path(), rounds, if smoke { &[8] } else { &[4, 16, 64, 1000] })?;
    let (partitions, requests) = if smoke { (10, 5) } else { (1000, 100) };
    over_many_partitions(dir.path(), rounds, partitions, requests)?;
    round_trip(dir.path(), rounds, if smoke { 20 } else { 300 })
}

/// A directory on the disk that the build is on, rather than a tmpfs that /tmp may be.
fn bench_dir() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"))
}

/// How many files with a new batch each become durable.
#[derive(Clone, Copy)]
enum Way {
    /// `fdatasync` of each, on so many threads.
    Each(usize),
    /// `syncfs`, once.
    Together,
}

/// The time until a batch in each of many files is durable, by each way to get there.
fn sync_many_files(dir: &Path, rounds: usize, counts: &[usize]) -> io::Result<()> {
    let ways = [Way::Each(1), Way::Each(2), Way::Each(16), Way::Each(64), Way::Together];
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "16 KiB into each, ms (median)", "x1", "x2", "x16", "x64", "syncfs"
    );
    for &count in counts {
        let dir = tempfile::tempdir_in(dir)?;
        let files = (0..count).map(|number| allocated_file(&dir.path().join(number.to_string())));
        let files = files.collect::<io::Result<Vec<File>>>()?;
        let whole = File::open(dir.path())?;
        syncfs(&whole)?;
        let mut took = [const { Vec::new() }; 5];
        for round in 0..rounds {
            for (number, (way, took)) in ways.iter().zip(&mut took).enumerate() {
                let at = (round * ways.len() + number) * BATCH_BYTES;
                took.push(durable(&files, &whole, *way, at as u64)?);
            }
        }
        let medians = took.map(|took| format!("{:>9.2}", median(took).as_secs_f64() * 1e3));
        println!("{:<44} {}", format!("{count} files"), medians.join(" "));
    }
    Ok(())
}

fn allocated_file(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, 1 << 20)?;
    Ok(file)
}

fn durable(files: &[File], whole: &File, way: Way, at: u64) -> io::Result<Duration> {
    use std::os::unix::fs::FileExt;
    let batch = vec![0x5a; BATCH_BYTES];
    files.iter().try_for_each(|file| file.write_all_at(&batch, at))?;
    let started = Instant::now();
    match way {
        Way::Together => syncfs(whole)?,
        Way::Each(threads) => {
            let next = AtomicUsize::new(0);
            let work = || -> io::Result<()> {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    file.sync_data()?;
                }
                Ok(())
            };
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                threads.into_iter().try_for_each(|thread| thread.join().expect("a sync does not panic"))
            })?;
        }
    }
    Ok(started.elapsed())
}

/// 64 producers with one request of 16 KiB in flight each, acks=all: all into one partition, and each request into the
/// next of many.
fn over_many_partitions(dir: &Path, rounds: usize, partitions: usize, requests: usize) -> io::Result<()> {
    let mut many = Vec::new();
    let mut one = Vec::new();
    for _ in 0..rounds {
        for (partitions, took) in [(partitions, &mut many), (1, &mut one)] {
            let broker = RunningBroker::start(dir, partitions)?;
            // Once around, so that no partition is new: files grow from nothing only once.
            produce(broker.address, partitions, partitions.div_ceil(PRODUCERS))?;
            took.push(produce(broker.address, partitions, requests)?);
            broker.stop();
        }
    }
    let mib = (PRODUCERS * requests * BATCH_BYTES) as f64 / f64::from(1 << 20);
    let (many, one) = (mib / median(many).as_secs_f64(), mib / median(one).as_secs_f64());
    println!(
        "{:<44} {many:>7.0} MiB/s {one:>7.0} MiB/s {:>6.2}",
        format!("acks=all over {partitions} partitions (twin: 1)"),
        many / one
    );
    Ok(())
}

fn produce(broker: SocketAddr, partitions: usize, requests: usize) -> io::Result<Duration> {
    let batch = batch(BATCH_BYTES);
    let next = AtomicUsize::new(0);
    let frames: Vec<Bytes> =
        (0..partitions).map(|index| produce_frame(TOPIC, index as i32, -1, batch.clone())).collect();
    let work = || -> io::Result<()> {
        let mut connection = Connection::open(broker)?;
        for _ in 0..requests {
            connection.send(&frames[next.fetch_add(1, Ordering::Relaxed) % partitions])?;
            expect_produced(connection.receive()?, TOPIC);
        }
        Ok(())
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS).map(|_| scope.spawn(work)).collect();
        producers.into_iter().try_for_each(|producer| producer.join().expect("a producer does not panic"))
    })?;
    Ok(started.elapsed())
}

/// One producer, one record of 1 KiB in flight, acks=all, and in turn with it a bare append and `fdatasync`.
fn round_trip(dir: &Path, rounds: usize, requests: usize) -> io::Result<()> {
    let broker = RunningBroker::start(dir, 1)?;
    let frame = produce_frame(TOPIC, 0, -1, batch(1 << 10));
    let mut connection = Connection::open(broker.address)?;
    let (file, mut map) = twin::allocated_map(dir, 64 << 20)?;
    let (mut acknowledged, mut bare) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for _ in 0..requests {
            let started = Instant::now();
            connection.send(&frame)?;
            expect_produced(connection.receive()?, TOPIC);
            acknowledged.push(started.elapsed());
        }
        for request in 0..requests {
            let at = ((round * requests + request) << 10) % (63 << 20);
            let started = Instant::now();
            map[at..at + (1 << 10)].fill(0x5a);
            file.sync_data()?;
            bare.push(started.elapsed());
        }
    }
    broker.stop();
    let (ours, twins) = (median(acknowledged), median(bare));
    println!(
        "{:<44} {:>10} us {:>10} us {:>6.2}",
        "1 KiB, acks=all, one in flight, p50 (twin)",
        ours.as_micros(),
        twins.as_micros(),
        ours.as_secs_f64() / twins.as_secs_f64()
    );
    Ok(())
}

/// A broker in this process with one topic, a runtime and a data directory of its own.
struct RunningBroker {
    runtime: tokio::runtime::Runtime,
    broker: Broker,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl RunningBroker {
    fn start(dir: &Path, partitions: usize) -> io::Result<Self> {
        let data = tempfile::tempdir_in(dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let config = BrokerConfig { http: "off".into(), ..BrokerConfig::for_test(data.path()) };
        let broker = runtime.block_on(Broker::start(config)).map_err(io::Error::other)?;
        let topic = NewTopic { partitions: Some(partitions as i32), ..NewTopic::named(TOPIC) };
        for created in runtime.block_on(broker.context().topics.create(vec![topic])) {
            created.map_err(io::Error::other)?;
        }
        let address = broker.kafka_addr();
        Ok(Self { runtime, broker, address, _data: data })
    }

    fn stop(self) {
        self.runtime.block_on(self.broker.shutdown());
    }
}

/// One batch of a record of about `bytes` that does not compress to nothing, of now: records of 1970 are what
/// retention is there to delete.
fn batch(bytes: usize) -> Bytes {
    let value: Vec<u8> = (0..bytes - 100).map(|i| (i * 31 % 251) as u8).collect();
    let now_ms = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(now_ms, Some(b"key"), Some(&value), &[]).expect("a record within the limits");
    builder.build(0).expect("a batch within the limits")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
