//! What a consumer that replays history does to producers, and how fast it is, beside a plain reader of the same files.
//!
//! `cargo bench -p benches --bench cold_replay [-- --gib 10 --rounds 3 --seconds 10]` makes that much history, drops
//! it from memory before every phase that reads it, and prints a table and a line of JSON. `-- --test` runs it once and
//! small.
//!
//! ```text
//! a round: replay alone │ pread alone │ producers alone │ producers + replay │ + the same from memory │ + pread
//! ```
//! Producers send by a timetable, one request in flight each, and a latency counts from when the request was due: one
//! that waits behind a slow answer is late too. The twin is a thread that reads the same files by `pread`, front to
//! back, with the kernel's readahead: the disk's own sequential speed, and what just reading costs producers.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use benches::wire_client::{Connection, expect_produced, fetch_frame, metadata_frame, produce_frame};
use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression};
use log_server::{Broker, BrokerConfig};
use rustix::fs::{Advice, fadvise};

const HISTORY: &str = "history";
const PRESENT: &str = "present";
const RECORD_BYTES: usize = 1 << 10;
const HISTORY_BATCH_RECORDS: usize = 64;
const PRESENT_BATCH_RECORDS: usize = 10;
const PRODUCERS: u32 = 8;
/// Time between two requests of one producer.
const PRODUCE_EVERY: Duration = Duration::from_millis(20);
/// What a consumer asks for at a time: the default of librdkafka and of the Java client.
const FETCH_BYTES: i32 = 1 << 20;
const PREAD_BYTES: usize = 1 << 20;
const SEGMENT_BYTES: u32 = 256 << 20;

struct Scale {
    history_bytes: usize,
    rounds: usize,
    /// How long producers are on their own in a round.
    alone: Duration,
}

fn main() -> io::Result<()> {
    let scale = scale()?;
    let dir = tempfile::tempdir_in(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"))?;
    let end = make_history(dir.path(), &scale)?;

    let (mut replays, mut preads) = (Vec::new(), Vec::new());
    let [mut alone, mut beside_replay, mut beside_hot, mut beside_pread] = [const { Phase::new() }; 4];
    for _ in 0..scale.rounds {
        drop_caches(dir.path())?;
        replays.push(with_broker(dir.path(), |broker| replay(broker, end))?);
        drop_caches(dir.path())?;
        preads.push(read_files(dir.path())?);
        drop_caches(dir.path())?;
        alone.add(with_broker(dir.path(), |broker| beside(broker, || wait(scale.alone)))?);
        beside_replay.add(with_broker(dir.path(), |broker| beside(broker, || replay(broker, end)))?);
        beside_hot.add(with_broker(dir.path(), |broker| beside(broker, || replay(broker, end)))?);
        drop_caches(dir.path())?;
        beside_pread.add(with_broker(dir.path(), |broker| beside(broker, || read_files(dir.path())))?);
    }
    let (replay, pread) = (median(replays.clone()), median(preads.clone()));
    let replay_ratio = median(replays.iter().zip(&preads).map(|(replay, pread)| replay / pread).collect());
    let p99_ratio = beside_replay.at(0.99) as f64 / alone.at(0.99) as f64;
    println!(
        "{:<32} {:>12} {:>10} {:>10} {:>9}",
        "phase (medians of rounds)", "read, MiB/s", "p50, us", "p99, us", "requests"
    );
    println!("{:<32} {replay:>12.0}", "replay alone");
    println!("{:<32} {pread:>12.0}", "pread alone (twin)");
    alone.print("producers alone");
    beside_replay.print("producers beside the replay");
    beside_hot.print("producers beside a hot replay");
    beside_pread.print("producers beside pread (twin)");
    println!(
        "replay to pread: {replay_ratio:.2}; producers' p99 beside a replay to p99 alone: {p99_ratio:.2}"
    );
    println!(
        "{{\"history_mib\":{},\"rounds\":{},\"replay_mib_s\":{replay:.0},\"pread_mib_s\":{pread:.0},\
         \"replay_ratio\":{replay_ratio:.3},\"alone\":{},\"beside_replay\":{},\"beside_hot_replay\":{},\
         \"beside_pread\":{},\
         \"p99_ratio\":{p99_ratio:.3}}}",
        scale.history_bytes >> 20,
        scale.rounds,
        alone.json(),
        beside_replay.json(),
        beside_hot.json(),
        beside_pread.json(),
    );
    Ok(())
}

/// What producers saw while something else went on, and how fast that was, in MiB/s.
struct Phase {
    latencies: Vec<Duration>,
    speeds: Vec<f64>,
}

impl Phase {
    const fn new() -> Self {
        Phase { latencies: Vec::new(), speeds: Vec::new() }
    }

    fn add(&mut self, (latencies, speed): (Vec<Duration>, f64)) {
        self.latencies.extend(latencies);
        self.latencies.sort_unstable();
        self.speeds.push(speed);
    }

    /// Microseconds at a quantile.
    fn at(&self, quantile: f64) -> u128 {
        let index = (self.latencies.len() as f64 * quantile) as usize;
        self.latencies.get(index).map_or(0, Duration::as_micros)
    }

    fn print(&self, phase: &str) {
        let (speed, p50, p99) = (median(self.speeds.clone()), self.at(0.5), self.at(0.99));
        println!("{phase:<32} {speed:>12.0} {p50:>10} {p99:>10} {:>9}", self.latencies.len());
    }

    fn json(&self) -> String {
        let (speed, p50, p99) = (median(self.speeds.clone()), self.at(0.5), self.at(0.99));
        format!(
            "{{\"read_mib_s\":{speed:.0},\"p50_us\":{p50},\"p99_us\":{p99},\"requests\":{}}}",
            self.latencies.len()
        )
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

fn mib_per_s(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / (1 << 20) as f64 / took.as_secs_f64()
}

fn scale() -> io::Result<Scale> {
    let mut scale = Scale { history_bytes: 10 << 30, rounds: 3, alone: Duration::from_secs(10) };
    let mut arguments = std::env::args().skip(1);
    let number = |arguments: &mut dyn Iterator<Item = String>| {
        arguments.next().and_then(|value| value.parse::<f64>().ok()).ok_or(io::ErrorKind::InvalidInput)
    };
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--test" => {
                scale = Scale { history_bytes: 64 << 20, rounds: 1, alone: Duration::from_millis(200) }
            }
            "--gib" => scale.history_bytes = (number(&mut arguments)? * (1 << 30) as f64) as usize,
            "--rounds" => scale.rounds = number(&mut arguments)?.max(1.0) as usize,
            "--seconds" => scale.alone = Duration::from_secs_f64(number(&mut arguments)?),
            // Of cargo's.
            _ => {}
        }
    }
    Ok(scale)
}

/// Runs a broker in this process for the length of `work`, so that its maps are gone when the caches are dropped.
fn with_broker<T>(dir: &Path, work: impl FnOnce(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let config = BrokerConfig {
        data_dir: dir.join("data"),
        listen: "127.0.0.1:0".into(),
        http: "off".into(),
        segment_bytes: SEGMENT_BYTES,
        ..BrokerConfig::default()
    };
    let broker = runtime.block_on(Broker::start(config)).map_err(io::Error::other)?;
    let done = work(broker.kafka_addr());
    runtime.block_on(broker.shutdown());
    done
}

/// A batch of records that do not compress to nothing.
fn batch(records: usize) -> Bytes {
    let value: Vec<u8> = (0..RECORD_BYTES).map(|i| (i * 31 % 251) as u8).collect();
    let mut builder = BatchBuilder::new(Compression::None);
    // Of now: records of 1970 are what retention is there to delete.
    let now_ms = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    for _ in 0..records {
        builder.append(now_ms, None, Some(&value), &[]).expect("a record within the limits");
    }
    builder.build(0).expect("a batch within the limits")
}

/// Writes the history and returns the offset that it ends at.
fn make_history(dir: &Path, scale: &Scale) -> io::Result<i64> {
    let frame = produce_frame(HISTORY, 0, -1, batch(HISTORY_BATCH_RECORDS));
    let requests = scale.history_bytes / (HISTORY_BATCH_RECORDS * RECORD_BYTES);
    with_broker(dir, |broker| {
        let mut connection = Connection::open(broker)?;
        for topic in [HISTORY, PRESENT] {
            connection.send(&metadata_frame(topic))?;
            connection.receive()?;
        }
        let in_flight = 16.min(requests);
        for sent in 0..requests + in_flight {
            if sent < requests {
                connection.send(&frame)?;
            }
            if sent >= in_flight {
                expect_produced(connection.receive()?, HISTORY);
            }
        }
        Ok((requests * HISTORY_BATCH_RECORDS) as i64)
    })
}

/// Consumes the whole history, one request after the other.
fn replay(broker: SocketAddr, end: i64) -> io::Result<f64> {
    let batch_bytes = batch(HISTORY_BATCH_RECORDS).len();
    let mut connection = Connection::open(broker)?;
    let started = Instant::now();
    let (mut offset, mut bytes) = (0, 0);
    while offset < end {
        connection.send(&fetch_frame(HISTORY, 0, offset, FETCH_BYTES))?;
        let (_, received) = connection.receive_head(64)?;
        let batches = received / batch_bytes;
        assert!(batches > 0, "the broker answered without records at offset {offset}");
        offset += (batches * HISTORY_BATCH_RECORDS) as i64;
        bytes += batches * batch_bytes;
    }
    Ok(mib_per_s(bytes, started.elapsed()))
}

/// The twin: reads the history's files from front to back.
fn read_files(dir: &Path) -> io::Result<f64> {
    let mut buffer = vec![0; PREAD_BYTES];
    let mut bytes = 0;
    let files = history_files(dir)?;
    let started = Instant::now();
    for path in files {
        let file = File::open(path)?;
        fadvise(&file, 0, None, Advice::Sequential)?;
        let mut at = 0;
        loop {
            match file.read_at(&mut buffer, at)? {
                0 => break,
                read => at += read as u64,
            }
        }
        bytes += at as usize;
    }
    Ok(mib_per_s(bytes, started.elapsed()))
}

fn history_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir.join("data/topics").join(format!("{HISTORY}-0")))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<_> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "log")).collect();
    files.sort_unstable();
    Ok(files)
}

/// Takes the history out of memory. While no broker maps it: what is mapped stays.
fn drop_caches(dir: &Path) -> io::Result<()> {
    for path in history_files(dir)? {
        let file = File::open(path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

fn wait(time: Duration) -> io::Result<f64> {
    thread::sleep(time);
    Ok(0.0)
}

/// Runs the producers for as long as `work` takes.
fn beside<T>(broker: SocketAddr, work: impl FnOnce() -> io::Result<T>) -> io::Result<(Vec<Duration>, T)> {
    let stop = AtomicBool::new(false);
    let frame = produce_frame(PRESENT, 0, -1, batch(PRESENT_BATCH_RECORDS));
    thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|n| {
                let (frame, stop) = (&frame, &stop);
                scope.spawn(move || produce(broker, frame, PRODUCE_EVERY * n / PRODUCERS, stop))
            })
            .collect();
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for producer in producers {
            all.extend(producer.join().expect("a producer does not panic")?);
        }
        Ok((all, done?))
    })
}

fn produce(
    broker: SocketAddr,
    frame: &[u8],
    offset: Duration,
    stop: &AtomicBool,
) -> io::Result<Vec<Duration>> {
    let mut connection = Connection::open(broker)?;
    let mut latencies = Vec::new();
    let mut due = Instant::now() + offset;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        connection.send(frame)?;
        expect_produced(connection.receive()?, PRESENT);
        latencies.push(due.elapsed());
        due += PRODUCE_EVERY;
    }
    Ok(latencies)
}
