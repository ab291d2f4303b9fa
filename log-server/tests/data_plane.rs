//! Produce, Fetch, ListOffsets and Metadata, by request values: Kafka's rules as the handlers keep them.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression, DecompressLimits, batches};
use log_core::wire::fetch::{FetchPartition, FetchTopic};
use log_core::wire::fetch_response::FetchPartitionResponse;
use log_core::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use log_core::wire::messages::metadata_request::MetadataRequestTopic;
use log_core::wire::messages::{ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse};
use log_core::wire::produce::{ProducePartition, ProducePartitionResponse, ProduceTopic};
use log_core::wire::{
    ApiKey, ErrorCode, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, TopicRef, Uuid, message,
};
use log_server::handler::{self, Reply};
use log_server::topic::NewTopic;
use support::{Rig, ask, body, dispatch, request, start, start_with};

fn named(topic: &str) -> TopicRef {
    TopicRef::Name(topic.into())
}

async fn create(rig: &Rig, topic: &str, config: &[(&str, &str)]) -> Uuid {
    let config = config.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let new = NewTopic { config, ..NewTopic::named(topic) };
    rig.broker.context().topics.create(vec![new]).await.remove(0).unwrap().id
}

/// A batch with one record a value, the first with timestamp 1000, each of the others a second later.
fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (at, value) in values.iter().enumerate() {
        builder.append(1000 * (at as i64 + 1), Some(b"key"), Some(value.as_bytes()), &[]).unwrap();
    }
    builder.build(0).unwrap()
}

fn produce_request(topic: TopicRef, index: i32, acks: i16, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            topic,
            partitions: vec![ProducePartition { index, records: Some(records) }],
        }],
    }
}

async fn produce_as(rig: &Rig, version: i16, request: &ProduceRequest) -> ProducePartitionResponse {
    let reply = dispatch(rig, ApiKey::Produce, version, request.encode(version).unwrap()).await;
    let answer = ProduceResponse::decode(body(reply, ApiKey::Produce, version).await, version).unwrap();
    answer.topics[0].partitions[0].clone()
}

async fn produce(rig: &Rig, topic: &str, acks: i16, records: Bytes) -> ProducePartitionResponse {
    produce_as(rig, 9, &produce_request(named(topic), 0, acks, records)).await
}

fn fetch_request(topic: TopicRef, fetch_offset: i64) -> FetchRequest {
    let partition = FetchPartition {
        index: 0,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1 << 20,
    };
    FetchRequest {
        max_wait_ms: 30_000,
        topics: vec![FetchTopic { topic, partitions: vec![partition] }],
        ..FetchRequest::default()
    }
}

async fn fetch_as(rig: &Rig, version: i16, request: &FetchRequest) -> FetchResponse {
    let reply = dispatch(rig, ApiKey::Fetch, version, vec![request.encode(version).unwrap()]).await;
    FetchResponse::decode(body(reply, ApiKey::Fetch, version).await, version).unwrap()
}

async fn fetch(rig: &Rig, topic: &str, offset: i64) -> FetchPartitionResponse {
    let answer = fetch_as(rig, 12, &fetch_request(named(topic), offset)).await;
    answer.topics[0].partitions[0].clone()
}

/// Offset and value of every record of a fetch.
fn records(partition: &FetchPartitionResponse) -> Vec<(i64, String)> {
    let bytes = partition.records.concat();
    let mut all = Vec::new();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        for record in batch.records(DecompressLimits::default()).unwrap() {
            let record = record.unwrap();
            all.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    all
}

fn error_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap()
}

/// The receive buffer, and who has it still.
struct Buffer {
    bytes: Vec<u8>,
    _in_use: Arc<()>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[tokio::test]
async fn who_waits_for_the_disk_holds_no_records_in_memory() {
    let rig = start().await;
    create(&rig, "orders", &[]).await;
    let in_use = Arc::new(());
    let bytes = produce_request(named("orders"), 0, -1, batch(&["a"])).encode(9).unwrap().concat();
    let body_of = Bytes::from_owner(Buffer { bytes, _in_use: in_use.clone() });
    let reply = handler::dispatch(rig.broker.context(), request(ApiKey::Produce, 9, body_of)).await;
    assert!(matches!(reply, Reply::Pending(_) | Reply::PendingSync(..)), "{reply:?}");
    assert_eq!(Arc::strong_count(&in_use), 1, "the answer keeps the buffer of its request");
    let answer = ProduceResponse::decode(body(reply, ApiKey::Produce, 9).await, 9).unwrap();
    assert_eq!(
        (answer.topics[0].topic.name(), answer.topics[0].partitions[0].base_offset),
        (Some("orders"), 0)
    );
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn what_is_produced_is_fetched_with_every_acks_and_version() {
    let rig = start().await;
    let id = create(&rig, "t", &[]).await;
    let mut expected = Vec::new();
    for version in 3..=13 {
        for acks in [-1, 0, 1] {
            let topic = if version >= 13 { TopicRef::Id(id) } else { named("t") };
            let request = produce_request(topic, 0, acks, batch(&["a", "b"]));
            let base = expected.len() as i64;
            if acks == 0 {
                let reply = dispatch(&rig, ApiKey::Produce, version, request.encode(version).unwrap()).await;
                assert!(matches!(reply, Reply::None), "{reply:?}");
            } else {
                let answer = produce_as(&rig, version, &request).await;
                assert_eq!(
                    (answer.error_code, answer.base_offset),
                    (0, base),
                    "version {version}, acks {acks}"
                );
            }
            expected.extend([(base, "a".to_owned()), (base + 1, "b".to_owned())]);
        }
    }
    for version in 4..=18 {
        let topic = if version >= 13 { TopicRef::Id(id) } else { named("t") };
        let mut request = fetch_request(topic.clone(), 0);
        // All of it has to be durable before it shows.
        request.min_bytes = i32::try_from(expected.len() / 2 * batch(&["a", "b"]).len()).unwrap();
        let answer = fetch_as(&rig, version, &request).await;
        assert_eq!(answer.topics[0].topic, topic);
        let partition = &answer.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, expected.len() as i64));
        assert_eq!(records(partition), expected, "version {version}");
    }
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn records_outlive_a_restart() {
    let rig = start().await;
    let id = create(&rig, "t", &[]).await;
    produce(&rig, "t", -1, batch(&["a"])).await;
    let support::Rig { broker, dir } = rig;
    broker.shutdown().await;
    let broker = log_server::Broker::start(log_server::BrokerConfig::for_test(dir.path())).await.unwrap();
    let rig = Rig { broker, dir };
    assert_eq!(records(&fetch(&rig, "t", 0).await), [(0, "a".to_owned())]);
    assert_eq!(rig.broker.context().catalog.get("t").unwrap().id, id);
    assert_eq!(produce(&rig, "t", -1, batch(&["b"])).await.base_offset, 1);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn a_stopped_broker_gives_its_partitions_up() {
    let rig = start().await;
    create(&rig, "t", &[]).await;
    produce(&rig, "t", -1, batch(&["a"])).await;
    let partition = std::sync::Arc::downgrade(&rig.broker.context().partitions.get("t", 0).unwrap());
    rig.broker.shutdown().await;
    assert_eq!(partition.strong_count(), 0, "its segments stay mapped, and their blocks taken");
}

#[tokio::test]
async fn produce_errors_are_kafkas() {
    let rig = start().await;
    create(&rig, "t", &[("max.message.bytes", "200")]).await;
    let error = async |version: i16, request: ProduceRequest| {
        error_of(produce_as(&rig, version, &request).await.error_code)
    };
    let good = batch(&["a"]);
    assert_eq!(
        error(9, produce_request(named("none"), 0, 1, good.clone())).await,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        error(9, produce_request(named("t"), 1, 1, good.clone())).await,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        error(9, produce_request(named("t"), -1, 1, good.clone())).await,
        ErrorCode::UnknownTopicOrPartition
    );
    let unknown = TopicRef::Id(Uuid::from_bytes([9; 16]));
    assert_eq!(error(13, produce_request(unknown, 0, 1, good.clone())).await, ErrorCode::UnknownTopicId);
    assert_eq!(
        error(9, produce_request(named("t"), 0, 2, good.clone())).await,
        ErrorCode::InvalidRequiredAcks
    );
    assert_eq!(
        error(2, produce_request(named("t"), 0, 1, good.clone())).await,
        ErrorCode::UnsupportedForMessageFormat
    );
    let large = batch(&["x".repeat(200).as_str()]);
    assert_eq!(error(9, produce_request(named("t"), 0, 1, large)).await, ErrorCode::MessageTooLarge);
    let mut corrupt = good.to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    assert_eq!(error(9, produce_request(named("t"), 0, 1, corrupt.into())).await, ErrorCode::CorruptMessage);
    let two = [good.clone(), good.clone()].concat();
    assert_eq!(error(9, produce_request(named("t"), 0, 1, two.into())).await, ErrorCode::InvalidRecord);
    assert_eq!(produce(&rig, "t", 1, good).await.base_offset, 0, "none of them was appended");
}

#[tokio::test]
async fn an_error_with_acks_0_closes_the_connection() {
    let rig = start().await;
    let request = produce_request(named("none"), 0, 0, batch(&["a"]));
    let reply = dispatch(&rig, ApiKey::Produce, 9, request.encode(9).unwrap()).await;
    assert!(matches!(reply, Reply::Close(_)), "{reply:?}");
}

#[tokio::test]
async fn repeated_sequences_get_the_original_offset_and_gaps_are_refused() {
    let rig = start().await;
    create(&rig, "t", &[]).await;
    let stamped = |sequence: i32, epoch: i16| {
        let mut builder = BatchBuilder::new(Compression::None).producer(77, epoch, sequence);
        builder.append(1, None, Some(b"v"), &[]).unwrap();
        builder.build(0).unwrap()
    };
    assert_eq!(produce(&rig, "t", -1, stamped(0, 0)).await.base_offset, 0);
    assert_eq!(produce(&rig, "t", -1, stamped(1, 0)).await.base_offset, 1);
    let again = produce(&rig, "t", -1, stamped(0, 0)).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let gap = produce(&rig, "t", -1, stamped(3, 0)).await;
    assert_eq!(error_of(gap.error_code), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(produce(&rig, "t", -1, stamped(0, 1)).await.base_offset, 2, "a new epoch starts at 0");
    let fenced = produce(&rig, "t", -1, stamped(2, 0)).await;
    assert_eq!(error_of(fenced.error_code), ErrorCode::InvalidProducerEpoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_producers_share_syncs_and_none_is_forgotten() {
    let rig = std::sync::Arc::new(start().await);
    create(&rig, "t", &[]).await;
    let producers: Vec<_> = (0..16)
        .map(|producer| {
            let rig = rig.clone();
            tokio::spawn(async move {
                let mut offsets = Vec::new();
                for round in 0..50 {
                    // Some that nobody waits for in between, so that lingering and waiting meet.
                    let acks = if (producer + round) % 3 == 0 { 1 } else { -1 };
                    let answer = produce(&rig, "t", acks, batch(&["v"])).await;
                    assert_eq!(answer.error_code, 0);
                    if acks == -1 {
                        let partition = rig.broker.context().partitions.get("t", 0).unwrap();
                        assert!(partition.reader().watermarks().high_watermark() > answer.base_offset);
                    }
                    offsets.push(answer.base_offset);
                }
                offsets
            })
        })
        .collect();
    let mut offsets = Vec::new();
    for producer in producers {
        offsets.extend(producer.await.unwrap());
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..16 * 50).collect::<Vec<i64>>());
    // What nobody waits for becomes durable all the same.
    let mut request = fetch_request(named("t"), 0);
    request.min_bytes = (16 * 50 * batch(&["v"]).len()) as i32;
    assert_eq!(records(&fetch_as(&rig, 12, &request).await.topics[0].partitions[0]).len(), 16 * 50);
}

#[tokio::test]
async fn a_long_poll_ends_with_the_first_record() {
    let rig = start().await;
    create(&rig, "t", &[]).await;
    let (fetched, produced) = tokio::join!(fetch(&rig, "t", 0), produce(&rig, "t", 1, batch(&["a", "b"])));
    assert_eq!(produced.error_code, 0);
    assert_eq!(records(&fetched), [(0, "a".to_owned()), (1, "b".to_owned())]);
}

#[tokio::test]
async fn an_error_ends_a_long_poll_at_once() {
    let rig = start().await;
    create(&rig, "t", &[]).await;
    produce(&rig, "t", -1, batch(&["a"])).await;
    for (topic, offset, error) in [
        ("t", 2, ErrorCode::OffsetOutOfRange),
        ("t", -1, ErrorCode::OffsetOutOfRange),
        ("none", 0, ErrorCode::UnknownTopicOrPartition),
    ] {
        assert_eq!(error_of(fetch(&rig, topic, offset).await.error_code), error, "{topic} at {offset}");
    }
    let mut fenced = fetch_request(named("t"), 0);
    fenced.topics[0].partitions[0].current_leader_epoch = 1;
    let answer = fetch_as(&rig, 12, &fenced).await;
    assert_eq!(error_of(answer.topics[0].partitions[0].error_code), ErrorCode::UnknownLeaderEpoch);
}

#[tokio::test]
async fn the_first_partition_returns_a_batch_however_small_the_limits() {
    let rig = start().await;
    create(&rig, "t", &[]).await;
    produce(&rig, "t", -1, batch(&["a", "b"])).await;
    produce(&rig, "t", -1, batch(&["c"])).await;
    let mut request = fetch_request(named("t"), 1);
    request.max_bytes = 1;
    request.topics[0].partitions[0].max_bytes = 1;
    let answer = fetch_as(&rig, 12, &request).await;
    // From the batch that contains the offset on, whole.
    assert_eq!(records(&answer.topics[0].partitions[0]), [(0, "a".to_owned()), (1, "b".to_owned())]);
}

#[tokio::test]
async fn an_answer_crosses_segments() {
    let rig = start().await;
    create(&rig, "t", &[("segment.bytes", "1024")]).await;
    let value = "x".repeat(300);
    for _ in 0..10 {
        produce(&rig, "t", -1, batch(&[&value])).await;
    }
    let segments = rig.broker.context().partitions.get("t", 0).unwrap().log().segments().len();
    assert!(segments > 1, "{segments} segments");
    assert_eq!(records(&fetch(&rig, "t", 0).await).len(), 10);
}

#[tokio::test]
async fn zstd_is_kept_from_clients_that_do_not_know_it() {
    let rig = start().await;
    create(&rig, "t", &[("compression.type", "zstd")]).await;
    assert_eq!(produce(&rig, "t", -1, batch(&["a"])).await.error_code, 0);
    let old = fetch_as(&rig, 9, &fetch_request(named("t"), 0)).await;
    assert_eq!(error_of(old.topics[0].partitions[0].error_code), ErrorCode::UnsupportedCompressionType);
    assert_eq!(records(&fetch(&rig, "t", 0).await), [(0, "a".to_owned())]);
}

#[tokio::test]
async fn zstd_is_taken_from_clients_that_may_send_it() {
    let rig = start().await;
    create(&rig, "t", &[]).await;
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.append(1000, None, Some(b"a"), &[]).unwrap();
    let request = produce_request(named("t"), 0, -1, builder.build(0).unwrap());
    let error = error_of(produce_as(&rig, 6, &request).await.error_code);
    assert_eq!(error, ErrorCode::UnsupportedCompressionType);
    assert_eq!(produce_as(&rig, 7, &request).await.base_offset, 0);
}

#[tokio::test]
async fn log_append_time_is_the_brokers() {
    let rig = start().await;
    create(&rig, "t", &[("message.timestamp.type", "LogAppendTime")]).await;
    let produced = produce(&rig, "t", -1, batch(&["a"])).await;
    assert!(produced.log_append_time_ms > 1_000_000, "{}", produced.log_append_time_ms);
    let fetched = fetch(&rig, "t", 0).await.records.concat();
    let batch = batches(&fetched).next().unwrap().unwrap();
    batch.verify_crc().unwrap();
    assert_eq!(batch.max_timestamp(), produced.log_append_time_ms);
}

#[tokio::test]
async fn sessions_name_what_changed_only() {
    let rig = start().await;
    create(&rig, "t", &[]).await;
    let mut request = fetch_request(named("t"), 0);
    request.session_epoch = 0;
    request.max_wait_ms = 0;
    let first = fetch_as(&rig, 12, &request).await;
    assert_ne!(first.session_id, 0);
    assert_eq!(first.topics.len(), 1);
    let next = FetchRequest {
        max_wait_ms: 0,
        session_id: first.session_id,
        session_epoch: 1,
        topics: vec![],
        ..request.clone()
    };
    assert!(fetch_as(&rig, 12, &next).await.topics.is_empty(), "nothing is new");
    produce(&rig, "t", -1, batch(&["a"])).await;
    let next = FetchRequest { session_epoch: 2, ..next };
    assert_eq!(records(&fetch_as(&rig, 12, &next).await.topics[0].partitions[0]), [(0, "a".to_owned())]);
    assert_eq!(error_of(fetch_as(&rig, 12, &next).await.error_code), ErrorCode::InvalidFetchSessionEpoch);
    let unknown = FetchRequest { session_id: first.session_id ^ 1, ..next };
    assert_eq!(error_of(fetch_as(&rig, 12, &unknown).await.error_code), ErrorCode::FetchSessionIdNotFound);
}

async fn list_offsets(rig: &Rig, version: i16, timestamp: i64) -> (ErrorCode, i64, i64) {
    let partition = message!(ListOffsetsPartition { partition_index: 0, timestamp });
    let topic = message!(ListOffsetsTopic { name: "t".into(), partitions: vec![partition] });
    let request = message!(ListOffsetsRequest { replica_id: -1, topics: vec![topic] });
    let answer: ListOffsetsResponse = ask(rig, ApiKey::ListOffsets, version, &request).await;
    let partition = &answer.topics[0].partitions[0];
    (error_of(partition.error_code), partition.offset, partition.timestamp)
}

#[tokio::test]
async fn offsets_are_found_by_timestamp_and_special_value() {
    let rig = start().await;
    create(&rig, "t", &[]).await;
    assert_eq!(list_offsets(&rig, 7, -3).await, (ErrorCode::None, -1, -1), "an empty log");
    assert_eq!(list_offsets(&rig, 7, 0).await, (ErrorCode::None, -1, -1));
    produce(&rig, "t", -1, batch(&["a", "b", "c"])).await;
    let found = |offset, timestamp| (ErrorCode::None, offset, timestamp);
    for version in 1..=11 {
        assert_eq!(list_offsets(&rig, version, -1).await, found(3, -1));
        assert_eq!(list_offsets(&rig, version, -2).await, found(0, -1));
        assert_eq!(list_offsets(&rig, version, 0).await, found(0, 1000));
        assert_eq!(list_offsets(&rig, version, 1001).await, found(1, 2000));
        assert_eq!(list_offsets(&rig, version, 3000).await, found(2, 3000));
        assert_eq!(list_offsets(&rig, version, 3001).await, found(-1, -1));
        for (special, since, expected) in
            [(-3, 7, found(2, 3000)), (-4, 8, found(0, -1)), (-5, 9, found(-1, -1)), (-6, 11, found(-1, -1))]
        {
            let expected = if version >= since { expected } else { (ErrorCode::UnsupportedVersion, -1, -1) };
            assert_eq!(
                list_offsets(&rig, version, special).await,
                expected,
                "{special} in version {version}"
            );
        }
        assert_eq!(list_offsets(&rig, version, -7).await.0, ErrorCode::UnsupportedVersion);
    }
}

async fn metadata(rig: &Rig, version: i16, request: &MetadataRequest) -> MetadataResponse {
    ask(rig, ApiKey::Metadata, version, request).await
}

fn metadata_of(names: &[&str]) -> MetadataRequest {
    let topics =
        names.iter().map(|name| message!(MetadataRequestTopic { name: Some((*name).into()) })).collect();
    message!(MetadataRequest { topics: Some(topics), allow_auto_topic_creation: true })
}

#[tokio::test]
async fn metadata_creates_what_is_asked_for() {
    let rig = start_with(|config| config.partitions_default = 3).await;
    let answer = metadata(&rig, 12, &metadata_of(&["new", "new", "bad/name"])).await;
    assert_eq!(answer.topics[0].error_code, 0);
    assert_eq!(answer.topics[0].partitions.len(), 3);
    assert!(!answer.topics[0].topic_id.is_zero());
    assert_eq!(answer.topics[0].topic_id, answer.topics[1].topic_id);
    assert_eq!(error_of(answer.topics[2].error_code), ErrorCode::InvalidTopic);
    let broker = &answer.brokers[0];
    assert_eq!(
        (broker.node_id, broker.port),
        (answer.controller_id, i32::from(rig.broker.kafka_addr().port()))
    );
    assert!(answer.cluster_id.is_some_and(|id| !id.is_empty()));
    assert_eq!(produce(&rig, "new", 1, batch(&["a"])).await.error_code, 0);
}

#[tokio::test]
async fn metadata_creates_nothing_unless_both_sides_allow() {
    let rig = start().await;
    let mut request = metadata_of(&["t"]);
    request.allow_auto_topic_creation = false;
    let answer = metadata(&rig, 9, &request).await;
    assert_eq!(error_of(answer.topics[0].error_code), ErrorCode::UnknownTopicOrPartition);
    let rig = start_with(|config| config.auto_create_topics = false).await;
    for version in [1, 9] {
        let answer = metadata(&rig, version, &metadata_of(&["t"])).await;
        assert_eq!(error_of(answer.topics[0].error_code), ErrorCode::UnknownTopicOrPartition);
    }
}

#[tokio::test]
async fn metadata_lists_all_none_or_by_id() {
    let rig = start().await;
    let id = create(&rig, "t", &[]).await;
    let all = message!(MetadataRequest { topics: None });
    let none = message!(MetadataRequest { topics: Some(Vec::new()) });
    for version in 0..=13 {
        let everything = if version == 0 { &none } else { &all };
        assert_eq!(metadata(&rig, version, everything).await.topics.len(), 1, "version {version}");
        if version > 0 {
            assert_eq!(metadata(&rig, version, &none).await.topics.len(), 0, "version {version}");
        }
    }
    let by_id = |id| {
        let topic = message!(MetadataRequestTopic { topic_id: id });
        message!(MetadataRequest { topics: Some(vec![topic]) })
    };
    let found = metadata(&rig, 12, &by_id(id)).await;
    assert_eq!(found.topics[0].name.as_deref(), Some("t"));
    let unknown = metadata(&rig, 12, &by_id(Uuid::from_bytes([9; 16]))).await;
    assert_eq!(error_of(unknown.topics[0].error_code), ErrorCode::UnknownTopicId);
}
