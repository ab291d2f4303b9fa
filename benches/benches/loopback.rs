//! Produce and fetch over loopback, each beside its bare-hardware twin in the same run.
//!
//! `cargo bench -p benches --bench loopback` prints one line a load: the median of several rounds, the twin's, the
//! ratio. `-- --test` runs each load once and small. Not criterion: a round moves a gigabyte and has many threads.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use benches::twin;
use benches::wire_client::{Connection, expect_produced, fetch_frame, metadata_frame, produce_frame};
use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression};
use log_server::config::WriteMode;
use log_server::{Broker, BrokerConfig};

const RECORD_BYTES: usize = 1 << 10;
const REQUESTS_IN_FLIGHT: usize = 16;
const PRODUCERS: usize = 64;

/// How much each load moves.
struct Scale {
    rounds: usize,
    stream_bytes: usize,
    requests_per_producer: usize,
}

fn main() -> io::Result<()> {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let scale = if smoke {
        Scale { rounds: 1, stream_bytes: 16 << 20, requests_per_producer: 10 }
    } else {
        Scale { rounds: 5, stream_bytes: 1 << 30, requests_per_producer: 400 }
    };
    let dir = bench_dir()?;
    println!("{:<52} {:>14} {:>14} {:>7}", "load (median of rounds)", "highwater", "twin", "ratio");
    for batch_bytes in [64 << 10, 1 << 20] {
        let mut produced = [Vec::new(), Vec::new()];
        let mut fetched = Vec::new();
        let mut bare_in = Vec::new();
        let mut bare_out = Vec::new();
        for _ in 0..scale.rounds {
            for (mode, produced) in [WriteMode::Mapped, WriteMode::Pwrite].into_iter().zip(&mut produced) {
                let broker = RunningBroker::start(dir.path(), mode)?;
                produced.push(produce(broker.address, batch_bytes, scale.stream_bytes)?);
                if mode == WriteMode::Mapped {
                    fetched.push(fetch_all(broker.address, batch_bytes, scale.stream_bytes)?);
                }
                broker.stop();
            }
            bare_in.push(twin::socket_to_map(dir.path(), scale.stream_bytes, batch_bytes)?);
            bare_out.push(twin::map_to_socket(dir.path(), scale.stream_bytes, batch_bytes)?);
        }
        let kib = batch_bytes >> 10;
        let [mapped, pwrite] = produced;
        report(&format!("produce acks=1, 1 KiB records, {kib} KiB batches"), &scale, mapped, bare_in.clone());
        report(&format!("the same with write_mode=pwrite, {kib} KiB batches"), &scale, pwrite, bare_in);
        report(&format!("hot fetch, 1 KiB records, {kib} KiB batches"), &scale, fetched, bare_out);
    }
    many_producers(dir.path(), &scale)?;
    round_trip(dir.path(), &scale)
}

/// A directory on the disk that the build is on, rather than a tmpfs that /tmp may be.
fn bench_dir() -> io::Result<tempfile::TempDir> {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    tempfile::tempdir_in(target)
}

/// A broker in this process on free ports, with a runtime and a data directory of its own.
struct RunningBroker {
    runtime: tokio::runtime::Runtime,
    broker: Broker,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl RunningBroker {
    fn start(dir: &Path, write_mode: WriteMode) -> io::Result<Self> {
        let data = tempfile::tempdir_in(dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let config = BrokerConfig {
            data_dir: data.path().to_path_buf(),
            listen: "127.0.0.1:0".into(),
            http: "off".into(),
            write_mode,
            ..BrokerConfig::default()
        };
        let broker = runtime.block_on(Broker::start(config)).map_err(io::Error::other)?;
        let address = broker.kafka_addr();
        Ok(Self { runtime, broker, address, _data: data })
    }

    fn stop(self) {
        self.runtime.block_on(self.broker.shutdown());
    }
}

/// One batch of `bytes` or a little less, of 1 KiB records that do not compress to nothing.
fn batch(bytes: usize) -> (Bytes, usize) {
    let value: Vec<u8> = (0..RECORD_BYTES - 16).map(|i| (i * 31 % 251) as u8).collect();
    let records = bytes / RECORD_BYTES;
    let mut builder = BatchBuilder::new(Compression::None);
    // Of now: records of 1970 are what retention is there to delete.
    let now_ms = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    for _ in 0..records {
        builder.append(now_ms, Some(b"key"), Some(&value), &[]).expect("a record within the limits");
    }
    (builder.build(0).expect("a batch within the limits"), records)
}

/// Streams `total` bytes on one connection, with a bounded number of requests in flight.
fn produce(broker: SocketAddr, batch_bytes: usize, total: usize) -> io::Result<Duration> {
    let topic = "stream";
    let (records, _) = batch(batch_bytes);
    let requests = total / records.len();
    let frame = produce_frame(topic, 0, 1, records);
    create_topic(broker, topic)?;
    let mut sender = Connection::open(broker)?;
    let mut receiver = sender.try_clone()?;
    let (permit, permits) = std::sync::mpsc::sync_channel::<()>(REQUESTS_IN_FLIGHT);
    let started = Instant::now();
    let sending = std::thread::spawn(move || -> io::Result<()> {
        for _ in 0..requests {
            permit.send(()).map_err(io::Error::other)?;
            sender.send(&frame)?;
        }
        Ok(())
    });
    for _ in 0..requests {
        expect_produced(receiver.receive()?, topic);
        permits.recv().map_err(io::Error::other)?;
    }
    let took = started.elapsed();
    sending.join().expect("the sender does not panic")?;
    Ok(took)
}

/// Reads back what [`produce`] wrote, one request after the other as a consumer does.
fn fetch_all(broker: SocketAddr, batch_bytes: usize, total: usize) -> io::Result<Duration> {
    let topic = "stream";
    let (batch, records) = batch(batch_bytes);
    let requests = total / batch.len();
    wait_until_durable(broker, topic, (requests * records) as i64)?;
    let mut connection = Connection::open(broker)?;
    let started = Instant::now();
    let mut offset = 0;
    let mut received = 0;
    while offset < (requests * records) as i64 {
        let bytes_max = batch_bytes.max(1 << 20) as i32;
        connection.send(&fetch_frame(topic, 0, offset, bytes_max))?;
        let (_, bytes) = connection.receive_head(64)?;
        let batches = bytes / batch.len();
        assert!(batches > 0, "the broker answered without records at offset {offset}");
        offset += (batches * records) as i64;
        received += batches * batch.len();
    }
    assert_eq!(received, requests * batch.len());
    Ok(started.elapsed())
}

/// Fetches the last record until it is there: what was acknowledged with acks=1 may not be synced yet.
fn wait_until_durable(broker: SocketAddr, topic: &str, end: i64) -> io::Result<()> {
    let mut connection = Connection::open(broker)?;
    loop {
        connection.send(&fetch_frame(topic, 0, end - 1, 1))?;
        if connection.receive_head(64)?.1 > RECORD_BYTES {
            return Ok(());
        }
    }
}

/// Creates the topic by asking for it, and waits until it is there.
fn create_topic(broker: SocketAddr, topic: &str) -> io::Result<()> {
    let mut connection = Connection::open(broker)?;
    connection.send(&metadata_frame(topic))?;
    connection.receive().map(drop)
}

/// 64 producers, one request in flight each: what durability costs when there is company.
fn many_producers(dir: &Path, scale: &Scale) -> io::Result<()> {
    let mut relaxed = Vec::new();
    let mut durable = Vec::new();
    for _ in 0..scale.rounds {
        for (acks, took) in [(1, &mut relaxed), (-1, &mut durable)] {
            let broker = RunningBroker::start(dir, WriteMode::Mapped)?;
            took.push(produce_together(broker.address, acks, scale.requests_per_producer)?);
            broker.stop();
        }
    }
    let moved = Scale {
        stream_bytes: PRODUCERS * scale.requests_per_producer * (16 << 10),
        ..Scale { rounds: 0, stream_bytes: 0, requests_per_producer: 0 }
    };
    report("64 producers x 16 KiB, acks=all (twin: acks=1)", &moved, durable, relaxed);
    Ok(())
}

fn produce_together(broker: SocketAddr, acks: i16, requests: usize) -> io::Result<Duration> {
    let topic = "together";
    create_topic(broker, topic)?;
    let frame = produce_frame(topic, 0, acks, batch(16 << 10).0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|_| {
                scope.spawn(|| -> io::Result<()> {
                    let mut connection = Connection::open(broker)?;
                    for _ in 0..requests {
                        connection.send(&frame)?;
                        expect_produced(connection.receive()?, topic);
                    }
                    Ok(())
                })
            })
            .collect();
        producers.into_iter().try_for_each(|producer| producer.join().expect("a producer does not panic"))
    })?;
    Ok(started.elapsed())
}

/// One producer, one 1 KiB record in flight, acks=all, beside a bare append and `fdatasync`: p50 of each.
fn round_trip(dir: &Path, scale: &Scale) -> io::Result<()> {
    let topic = "alone";
    let broker = RunningBroker::start(dir, WriteMode::Mapped)?;
    create_topic(broker.address, topic)?;
    let frame = produce_frame(topic, 0, -1, batch(RECORD_BYTES).0);
    let mut connection = Connection::open(broker.address)?;
    let mut acknowledged = Vec::new();
    for _ in 0..scale.requests_per_producer * 5 {
        let started = Instant::now();
        connection.send(&frame)?;
        expect_produced(connection.receive()?, topic);
        acknowledged.push(started.elapsed());
    }
    broker.stop();
    let (file, mut map) = twin::allocated_map(dir, 64 << 20)?;
    let mut bare = Vec::new();
    for i in 0..scale.requests_per_producer * 5 {
        let started = Instant::now();
        let at = i * RECORD_BYTES % (63 << 20);
        map[at..at + RECORD_BYTES].fill(0x5a);
        file.sync_data()?;
        bare.push(started.elapsed());
    }
    let (ours, twins) = (median(acknowledged), median(bare));
    println!(
        "{:<52} {:>11} us {:>11} us {:>7.2}",
        "1 KiB, acks=all, one in flight: p50 (twin: fdatasync)",
        ours.as_micros(),
        twins.as_micros(),
        ours.as_secs_f64() / twins.as_secs_f64()
    );
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn report(load: &str, scale: &Scale, ours: Vec<Duration>, twins: Vec<Duration>) {
    let mib_per_s = |took: Duration| scale.stream_bytes as f64 / (1 << 20) as f64 / took.as_secs_f64();
    let (ours, twins) = (mib_per_s(median(ours)), mib_per_s(median(twins)));
    println!("{load:<52} {ours:>8.0} MiB/s {twins:>8.0} MiB/s {:>7.2}", ours / twins);
}
