//! Produce and fetch over loopback, each beside its bare-hardware twin in the same run.
//!
//!     cargo bench -p benches --bench loopback
//!
//! A broker in this process is spoken to over a socket with requests that were encoded before the clock started. A
//! line is the median of several rounds, that of the twin named after the semicolon, their ratio, and the ratio to
//! reach. `-- streams`, `-- company` and `-- alone` run a part of them, `-- --test` each load once and small. Not
//! criterion: a round moves a gigabyte and has many threads.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use benches::figures::{Latencies, directory, head, is_smoke, median, mib_per_s, row, size};
use benches::twin::{self, Store};
use benches::wire_client::{Connection, expect_produced, fetch_frame, metadata_frame, produce_frame};
use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression};
use log_server::{Broker, BrokerConfig};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

const REQUESTS_IN_FLIGHT: usize = 16;
/// In flight where durability has company.
const COMPANY: usize = 64;
const COMPANY_BYTES: usize = 16 << 10;

/// (record bytes, batch bytes) of a stream, and what its produce is to reach of the twin.
const STREAMS: [(usize, usize, f64); 4] = [
    (1 << 10, 64 << 10, 0.65),
    (1 << 10, 1 << 20, 0.65),
    (100 << 10, 100 << 10, 0.8),
    (100 << 10, 1 << 20, 0.8),
];
const FETCH_GOAL: f64 = 0.85;
const DURABLE_GOAL: f64 = 0.6;
const ROUND_TRIP_GOAL: f64 = 1.5;

/// How much each load moves.
struct Scale {
    rounds: usize,
    stream_bytes: usize,
    requests_per_producer: usize,
}

fn main() -> io::Result<()> {
    let scale = if is_smoke() {
        Scale { rounds: 1, stream_bytes: 16 << 20, requests_per_producer: 10 }
    } else {
        Scale { rounds: 5, stream_bytes: 1 << 30, requests_per_producer: 400 }
    };
    let dir = directory();
    head(1, &["load", "Highwater", "twin", "ratio", "goal"]);
    if is_wanted("streams") {
        streams(dir.path(), &scale)?;
    }
    if is_wanted("company") {
        in_company(dir.path(), &scale)?;
    }
    if is_wanted("alone") {
        round_trip(dir.path(), &scale, "")?;
        on_one_processor(|| round_trip(dir.path(), &scale, ", all on one processor"))?;
    }
    Ok(())
}

/// Whether a part is to be run: all are unless some are named.
fn is_wanted(part: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|argument| argument == part)
}

/// One connection with many requests in flight, and one that reads it all back.
fn streams(dir: &Path, scale: &Scale) -> io::Result<()> {
    for (record_bytes, batch_bytes, produce_goal) in STREAMS {
        let batch = Batch::new(record_bytes, batch_bytes);
        let mut produced = Vec::new();
        let mut fetched = [Vec::new(), Vec::new()];
        let mut bare_in = [Vec::new(), Vec::new(), Vec::new()];
        let mut bare_out = Vec::new();
        for _ in 0..scale.rounds {
            let broker = RunningBroker::start(dir)?;
            produced.push(produce(broker.address, &batch, scale.stream_bytes, 1, REQUESTS_IN_FLIGHT)?);
            for fetched in &mut fetched {
                fetched.push(fetch_all(broker.address, &batch, scale.stream_bytes)?);
            }
            broker.stop();
            for (store, bare_in) in [Store::Map, Store::Call, Store::SyncedCall].into_iter().zip(&mut bare_in)
            {
                bare_in.push(twin::socket_to_file(dir, scale.stream_bytes, batch.bytes.len(), store)?);
            }
            bare_out.push(twin::map_to_socket(dir, scale.stream_bytes, batch.bytes.len())?);
        }
        let shape = format!("{} records, batches of {}", size(record_bytes), size(batch_bytes));
        let bytes = scale.stream_bytes;
        let [by_map, by_call, by_synced_call] = bare_in;
        let load = format!("produce, acks=1, {shape}");
        report(&format!("{load}; socket to map"), bytes, produced.clone(), by_map, Some(produce_goal));
        report(&format!("{load}; socket to file by `pwrite`"), bytes, produced.clone(), by_call, None);
        let synced = format!("{load}; the same, synced every {} ms", twin::SYNC_INTERVAL.as_millis());
        report(&synced, bytes, produced, by_synced_call, None);
        // Whoever reads first has the page faults: the twin's map, which the twin has filled itself, has none.
        for (reader, fetched) in ["first reader", "second reader"].into_iter().zip(fetched) {
            let load = format!("hot fetch, {reader}, {shape}; map to socket");
            report(&load, bytes, fetched, bare_out.clone(), Some(FETCH_GOAL));
        }
    }
    Ok(())
}

/// A broker in this process on free ports, with a runtime and a data directory of its own.
struct RunningBroker {
    runtime: tokio::runtime::Runtime,
    broker: Broker,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl RunningBroker {
    fn start(dir: &Path) -> io::Result<Self> {
        let data = tempfile::tempdir_in(dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let config = BrokerConfig {
            data_dir: data.path().to_path_buf(),
            listen: "127.0.0.1:0".into(),
            http: "off".into(),
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

/// A batch to send again and again.
struct Batch {
    bytes: Bytes,
    records: usize,
    record_bytes: usize,
}

impl Batch {
    /// Records of `record_bytes` each, as many as fit into `batch_bytes`.
    fn new(record_bytes: usize, batch_bytes: usize) -> Batch {
        let value: Vec<u8> = (0..record_bytes - 16).map(|i| (i * 31 % 251) as u8).collect();
        let records = batch_bytes / record_bytes;
        let mut builder = BatchBuilder::new(Compression::None);
        // Of now: records of 1970 are what retention is there to delete.
        let now_ms = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
        for _ in 0..records {
            builder.append(now_ms, Some(b"key"), Some(&value), &[]).expect("a record within the limits");
        }
        Batch { bytes: builder.build(0).expect("a batch within the limits"), records, record_bytes }
    }
}

/// Streams `total` bytes on one connection, with so many requests in flight.
fn produce(
    broker: SocketAddr,
    batch: &Batch,
    total: usize,
    acks: i16,
    in_flight: usize,
) -> io::Result<Duration> {
    let topic = "stream";
    let requests = total / batch.bytes.len();
    let frame = produce_frame(topic, 0, acks, batch.bytes.clone());
    create_topic(broker, topic)?;
    let mut sender = Connection::open(broker)?;
    let mut receiver = sender.try_clone()?;
    let (permit, permits) = std::sync::mpsc::sync_channel::<()>(in_flight);
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
fn fetch_all(broker: SocketAddr, batch: &Batch, total: usize) -> io::Result<Duration> {
    let topic = "stream";
    let requests = total / batch.bytes.len();
    let end = (requests * batch.records) as i64;
    wait_until_durable(broker, topic, end, batch.record_bytes)?;
    let mut connection = Connection::open(broker)?;
    let started = Instant::now();
    let mut offset = 0;
    let mut received = 0;
    while offset < end {
        let bytes_max = batch.bytes.len().max(1 << 20) as i32;
        connection.send(&fetch_frame(topic, 0, offset, bytes_max))?;
        let (_, bytes) = connection.receive_head(64)?;
        let batches = bytes / batch.bytes.len();
        assert!(batches > 0, "the broker answered without records at offset {offset}");
        offset += (batches * batch.records) as i64;
        received += batches;
    }
    assert_eq!(received, requests);
    Ok(started.elapsed())
}

/// Fetches the last record until it is there: what was acknowledged with acks=1 may not be synced yet.
fn wait_until_durable(broker: SocketAddr, topic: &str, end: i64, record_bytes: usize) -> io::Result<()> {
    let mut connection = Connection::open(broker)?;
    loop {
        connection.send(&fetch_frame(topic, 0, end - 1, 1))?;
        if connection.receive_head(64)?.1 > record_bytes {
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

/// What durability costs when there is company: 64 requests in flight, of as many producers or of one.
fn in_company(dir: &Path, scale: &Scale) -> io::Result<()> {
    let batch = Batch::new(1 << 10, COMPANY_BYTES);
    let total = COMPANY * scale.requests_per_producer * batch.bytes.len();
    let loads: [(&str, Load); 2] = [
        ("64 producers of one request each", |broker, batch, requests, acks| {
            produce_together(broker, batch, requests, acks)
        }),
        ("one producer of 64 requests", |broker, batch, requests, acks| {
            produce(broker, batch, COMPANY * requests * batch.bytes.len(), acks, COMPANY)
        }),
    ];
    for (name, load) in loads {
        let mut durable = Vec::new();
        let mut relaxed = Vec::new();
        for _ in 0..scale.rounds {
            for (acks, took) in [(1, &mut relaxed), (-1, &mut durable)] {
                let broker = RunningBroker::start(dir)?;
                took.push(load(broker.address, &batch, scale.requests_per_producer, acks)?);
                broker.stop();
            }
        }
        let load = format!("{name} in flight, {}, acks=all; acks=1", size(COMPANY_BYTES));
        report(&load, total, durable, relaxed, Some(DURABLE_GOAL));
    }
    Ok(())
}

/// Sends `requests` for each of 64 with this acks.
type Load = fn(SocketAddr, &Batch, usize, i16) -> io::Result<Duration>;

fn produce_together(broker: SocketAddr, batch: &Batch, requests: usize, acks: i16) -> io::Result<Duration> {
    let topic = "together";
    create_topic(broker, topic)?;
    let frame = produce_frame(topic, 0, acks, batch.bytes.clone());
    let started = Instant::now();
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..COMPANY)
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

/// Does something on the processor that the disk interrupts, with all threads that it starts. Where client and broker are
/// on two, each answer wakes one that may have gone to sleep, and where they are is up to the system.
fn on_one_processor(work: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            let file = tempfile::tempfile_in(directory().path())?;
            file.write_all_at(b"to be synced", 0)?;
            file.sync_data()?;
            let mut processor = CpuSet::new();
            processor.set(sched_getcpu());
            sched_setaffinity(None, &processor)?;
            work()
        });
        pinned.join().expect("a load does not panic")
    })
}

/// One producer, one record of 1 KiB in flight, acks=all, beside a bare append and `fdatasync` of as many bytes, and beside
/// a socket to a thread that does that.
fn round_trip(dir: &Path, scale: &Scale, place: &str) -> io::Result<()> {
    let topic = "alone";
    let broker = RunningBroker::start(dir)?;
    create_topic(broker.address, topic)?;
    let batch = Batch::new(1 << 10, 1 << 10);
    let frame = produce_frame(topic, 0, -1, batch.bytes.clone());
    let mut connection = Connection::open(broker.address)?;
    let (file, mut map) = twin::allocated_map(dir, 64 << 20)?;
    let mut acknowledged = Latencies::default();
    let (mut bare, mut echoed) = (Latencies::default(), Latencies::default());
    let total = scale.rounds * scale.requests_per_producer * batch.bytes.len();
    let mut echo = twin::echo_when_synced(dir, total, batch.bytes.len())?;
    let mut at = 0;
    for _ in 0..scale.rounds {
        for _ in 0..scale.requests_per_producer {
            let started = Instant::now();
            connection.send(&frame)?;
            expect_produced(connection.receive()?, topic);
            acknowledged.record(started.elapsed());
        }
        for _ in 0..scale.requests_per_producer {
            let started = Instant::now();
            map[at..at + batch.bytes.len()].copy_from_slice(&batch.bytes);
            file.sync_data()?;
            bare.record(started.elapsed());
            at += batch.bytes.len();
        }
        for _ in 0..scale.requests_per_producer {
            let started = Instant::now();
            echo.write_all(&batch.bytes)?;
            echo.read_exact(&mut [0])?;
            echoed.record(started.elapsed());
        }
    }
    broker.stop();
    let goal = format!("≤ {ROUND_TRIP_GOAL}");
    let none = "–".to_owned();
    let lines = [
        (0.5, "p50", &bare, "store and `fdatasync`", &goal),
        (0.99, "p99", &bare, "store and `fdatasync`", &none),
        (0.5, "p50", &echoed, "the same behind a socket", &none),
        (0.99, "p99", &echoed, "the same behind a socket", &none),
    ];
    for (quantile, name, twin, twin_name, goal) in lines {
        let (ours, twins) = (acknowledged.at(quantile), twin.at(quantile));
        row([
            format!("one producer of one request in flight, 1 KiB, acks=all{place}, {name}; {twin_name}"),
            format!("{} µs", ours.as_micros()),
            format!("{} µs", twins.as_micros()),
            format!("{:.2}", ours.as_secs_f64() / twins.as_secs_f64()),
            goal.clone(),
        ]);
    }
    Ok(())
}

fn report(load: &str, bytes: usize, ours: Vec<Duration>, twins: Vec<Duration>, goal: Option<f64>) {
    let [ours, twins] = [ours, twins].map(|rounds| mib_per_s(bytes as u64, median(rounds)));
    row([
        load.to_owned(),
        format!("{ours:.0} MiB/s"),
        format!("{twins:.0} MiB/s"),
        format!("{:.2}", ours / twins),
        goal.map_or_else(|| "–".to_owned(), |goal| format!("≥ {goal}")),
    ]);
}
