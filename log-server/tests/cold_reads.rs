//! History that is not in memory, and history that the disk brings back changed, as a client sees them.

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log_core::log::{Isolation, ReadError};
use log_core::record::{BatchBuilder, Compression, batches};
use log_core::wire::fetch::{FetchPartition, FetchTopic};
use log_core::wire::fetch_response::FetchPartitionResponse;
use log_core::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use log_core::wire::messages::{ListOffsetsRequest, ListOffsetsResponse};
use log_core::wire::produce::{ProducePartition, ProducePartitionResponse, ProduceTopic};
use log_core::wire::{
    ApiKey, ErrorCode, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, TopicRef, message,
};
use log_server::handler::Reply;
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};
use support::{Rig, Socket, ask, body, dispatch, start};

const TOPIC: &str = "history";
/// The last version that names topics, in Produce and in Fetch.
const VERSION: i16 = 12;
/// Long enough for a loaded disk; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);
/// Batches of one record in each test's topic, a few to a segment.
const BATCHES: i64 = 40;

/// A broker with [`BATCHES`] durable batches in segments of a few each.
async fn filled() -> Rig {
    let rig = with_topic("2048").await;
    for n in 0..BATCHES {
        assert_eq!(produce(&rig, n).await.error_code, 0);
    }
    rig
}

async fn with_topic(segment_bytes: &str) -> Rig {
    let rig = start().await;
    // Kept for ever: retention opens segments to see how old they are.
    let config = [("segment.bytes", segment_bytes), ("retention.ms", "-1")];
    let config = config.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let created =
        rig.broker.context().topics.create(vec![NewTopic { config, ..NewTopic::named(TOPIC) }]).await;
    created.into_iter().for_each(|created| drop(created.unwrap()));
    rig
}

/// The same directory under a new broker, which has opened none of the sealed segments.
async fn restarted(rig: Rig) -> Rig {
    let Rig { broker, dir } = rig;
    broker.shutdown().await;
    Rig { broker: Broker::start(BrokerConfig::for_test(dir.path())).await.unwrap(), dir }
}

async fn produce(rig: &Rig, n: i64) -> ProducePartitionResponse {
    produce_value(rig, n, format!("{n:0300}").as_bytes()).await
}

async fn produce_value(rig: &Rig, n: i64, value: &[u8]) -> ProducePartitionResponse {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1_000 + n, None, Some(value), &[]).unwrap();
    let partition = ProducePartition { index: 0, records: Some(builder.build(0).unwrap()) };
    let topic = TopicRef::Name(TOPIC.into());
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic { topic, partitions: vec![partition] }],
    };
    let reply = dispatch(rig, ApiKey::Produce, VERSION, request.encode(VERSION).unwrap()).await;
    let body = body(reply, ApiKey::Produce, VERSION).await;
    ProduceResponse::decode(body, VERSION).unwrap().topics[0].partitions[0].clone()
}

/// A fetch of one batch, which waits for nothing but the disk.
fn fetch_request(fetch_offset: i64) -> Vec<Bytes> {
    let partition = FetchPartition {
        index: 0,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1,
    };
    let topic = FetchTopic { topic: TopicRef::Name(TOPIC.into()), partitions: vec![partition] };
    let request = FetchRequest { max_bytes: 1, topics: vec![topic], ..FetchRequest::default() };
    vec![request.encode(VERSION).unwrap()]
}

async fn fetch(rig: &Rig, offset: i64) -> (Reply, u64) {
    let before = cold_reads(rig);
    let reply = dispatch(rig, ApiKey::Fetch, VERSION, fetch_request(offset)).await;
    (reply, before)
}

async fn answered(reply: Reply) -> FetchPartitionResponse {
    let body = body(reply, ApiKey::Fetch, VERSION).await;
    FetchResponse::decode(body, VERSION).unwrap().topics[0].partitions[0].clone()
}

fn first_offset(answer: &FetchPartitionResponse) -> i64 {
    assert_eq!(answer.error_code, 0);
    batches(&answer.records[0]).next().unwrap().unwrap().base_offset()
}

fn cold_reads(rig: &Rig) -> u64 {
    rig.broker.context().metrics.cold_reads.get()
}

/// The log file of the segment that holds `offset`.
fn segment_of(rig: &Rig, offset: i64) -> PathBuf {
    let directory = rig.dir.path().join("topics").join(format!("{TOPIC}-0"));
    let names = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
    let bases = names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse::<i64>().ok());
    let base = bases.filter(|base| *base <= offset).max().unwrap();
    directory.join(format!("{base:020}.log"))
}

#[tokio::test]
async fn history_that_is_not_in_memory_is_read_on_a_blocking_thread() {
    let rig = restarted(filled().await).await;
    let (reply, before) = fetch(&rig, 0).await;
    assert!(matches!(reply, Reply::Pending(_)), "{reply:?}");
    assert_eq!(first_offset(&answered(reply).await), 0);
    assert_eq!(cold_reads(&rig), before + 1);

    let (reply, before) = fetch(&rig, 0).await;
    assert!(matches!(reply, Reply::Ready(_)), "it is in memory now: {reply:?}");
    assert_eq!(first_offset(&answered(reply).await), 0);
    assert_eq!(cold_reads(&rig), before);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn who_reads_history_front_to_back_finds_it_brought_in() {
    let rig = with_topic("1073741824").await;
    for n in 0..12 {
        assert_eq!(produce_value(&rig, n, &[7; 1_000_000]).await.error_code, 0);
    }
    let Rig { broker, dir } = rig;
    broker.shutdown().await;
    let path = dir.path().join("topics").join(format!("{TOPIC}-0")).join(format!("{:020}.log", 0));
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();

    let rig = Rig { broker: Broker::start(BrokerConfig::for_test(dir.path())).await.unwrap(), dir };
    let partition = rig.broker.context().partitions.get(TOPIC, 0).unwrap();
    let is_cold = |offset| {
        let read = partition.reader().read_resident(offset, 1, Isolation::Uncommitted, true);
        matches!(read, Err(ReadError::Cold))
    };
    // A start reads the last one.
    assert!((0..11).all(is_cold), "the directory is on a disk, and the system drops what it is asked to");
    let (reply, before) = fetch(&rig, 0).await;
    assert_eq!(first_offset(&answered(reply).await), 0);
    assert_eq!(cold_reads(&rig), before + 1);
    let begun = Instant::now();
    while (1..7).any(is_cold) {
        assert!(begun.elapsed() < PATIENCE, "nobody asks the disk for what the reader wants next");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_cold(10), "so much is ahead of no reader");
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn answers_keep_their_order_around_a_cold_read() {
    let rig = restarted(filled().await).await;
    let mut socket = Socket::connect(&rig).await;
    let offsets = [BATCHES - 1, 0, BATCHES - 1, 20, 0];
    let mut sent = Vec::new();
    for offset in offsets {
        sent.push(socket.send(ApiKey::Fetch, VERSION, fetch_request(offset)).await);
    }
    for (id, offset) in sent.into_iter().zip(offsets) {
        let body = socket.receive_body(ApiKey::Fetch, VERSION, id).await;
        let answer = FetchResponse::decode(body, VERSION).unwrap();
        assert_eq!(first_offset(&answer.topics[0].partitions[0]), offset);
    }
    assert_eq!(cold_reads(&rig), 2);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn times_are_looked_for_on_a_blocking_thread() {
    let rig = restarted(filled().await).await;
    for (timestamp, expected, reads) in [(-2, 0, 0), (-1, BATCHES, 0), (1_007, 7, 1), (-3, BATCHES - 1, 1)] {
        let before = cold_reads(&rig);
        let partition = message!(ListOffsetsPartition { timestamp, current_leader_epoch: -1 });
        let topic = message!(ListOffsetsTopic { name: TOPIC.into(), partitions: vec![partition] });
        let request = message!(ListOffsetsRequest { topics: vec![topic] });
        let answer: ListOffsetsResponse = ask(&rig, ApiKey::ListOffsets, 7, &request).await;
        assert_eq!(answer.topics[0].partitions[0].offset, expected, "timestamp {timestamp}");
        assert_eq!(cold_reads(&rig), before + reads, "timestamp {timestamp}");
    }
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn a_bit_that_flips_under_a_running_broker_is_never_served() {
    let rig = filled().await;
    assert_eq!(first_offset(&answered(fetch(&rig, 20).await.0).await), 20);
    let path = segment_of(&rig, 20);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let batch = batches(&bytes).map(Result::unwrap).find(|batch| batch.base_offset() == 20).unwrap();
    let position = batch.as_bytes().as_ptr().addr() - bytes.as_ptr().addr();
    // The last byte of the last digit: the record is well formed and says another number.
    let at = position + batch.size_bytes() - 2;
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();

    let answer = answered(fetch(&rig, 20).await.0).await;
    assert_eq!(ErrorCode::from_code(answer.error_code), Some(ErrorCode::CorruptMessage));
    assert!(answer.records.is_empty());
    let metrics = rig.broker.context().metrics.encode();
    assert!(metrics.contains("{api=\"Fetch\",error=\"CORRUPT_MESSAGE\"} 1"), "{metrics}");
    let refused = produce(&rig, BATCHES).await;
    assert_eq!(ErrorCode::from_code(refused.error_code), Some(ErrorCode::KafkaStorageError), "read-only");
    assert_eq!(first_offset(&answered(fetch(&rig, 0).await.0).await), 0, "the rest is served");
    assert_eq!(first_offset(&answered(fetch(&rig, BATCHES - 1).await.0).await), BATCHES - 1);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn what_the_disk_cannot_bring_is_an_error_of_that_fetch() {
    let rig = restarted(filled().await).await;
    assert_eq!(first_offset(&answered(fetch(&rig, 20).await.0).await), 20);
    // Short under an open map: as unreadable as a bad block, and a SIGBUS to whoever touches it.
    File::options().write(true).open(segment_of(&rig, 20)).unwrap().set_len(0).unwrap();
    let answer = answered(fetch(&rig, 20).await.0).await;
    assert_eq!(ErrorCode::from_code(answer.error_code), Some(ErrorCode::KafkaStorageError));
    assert_eq!(first_offset(&answered(fetch(&rig, 0).await.0).await), 0, "the rest is served");
    assert_eq!(produce(&rig, BATCHES).await.error_code, 0, "and written");
    rig.broker.shutdown().await;
}
