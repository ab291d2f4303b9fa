//! Connections that get a thread of their own, because they have one request in flight that waits for a sync, and give
//! it back: what they do there is what they do anywhere.

mod support;

use std::time::Duration;

use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression};
use log_core::wire::fetch::{FetchPartition, FetchTopic};
use log_core::wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use log_core::wire::messages::{AlterClientQuotasRequest, MetadataRequest, MetadataResponse};
use log_core::wire::produce::{ProducePartition, ProduceTopic};
use log_core::wire::{
    ApiKey, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, TopicRef, message,
};
use log_server::topic::NewTopic;
use support::{PATIENCE, Rig, Socket, api_versions_frame, call, correlation_id, start};

/// So many more requests of one kind than of the other are a habit.
const HABIT: usize = 64;

fn produce_body() -> Vec<Bytes> {
    produce_body_of(b"value")
}

fn produce_body_of(value: &[u8]) -> Vec<Bytes> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1000, Some(b"key"), Some(value), &[]).unwrap();
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            topic: TopicRef::Name("orders".into()),
            partitions: vec![ProducePartition { index: 0, records: Some(builder.build(0).unwrap()) }],
        }],
    };
    request.encode(9).unwrap()
}

async fn produced(socket: &mut Socket, id: i32) -> (i16, i64) {
    let answer = ProduceResponse::decode(socket.receive_body(ApiKey::Produce, 9, id).await, 9).unwrap();
    let partition = &answer.topics[0].partitions[0];
    (partition.error_code, partition.base_offset)
}

/// Sends a record with acks=all, and expects this offset.
async fn produce(socket: &mut Socket, offset: i64) {
    let id = socket.send(ApiKey::Produce, 9, produce_body()).await;
    assert_eq!(produced(socket, id).await, (0, offset));
}

async fn metadata(socket: &mut Socket) -> usize {
    let request = message!(MetadataRequest { topics: None });
    let answer: MetadataResponse = socket.ask(ApiKey::Metadata, 12, &request).await;
    answer.topics.len()
}

async fn fetch(socket: &mut Socket, offset: i64) -> i32 {
    let partition = FetchPartition {
        index: 0,
        current_leader_epoch: -1,
        fetch_offset: offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1 << 20,
    };
    let topic = FetchTopic { topic: TopicRef::Name("orders".into()), partitions: vec![partition] };
    let request =
        FetchRequest { max_wait_ms: 600_000, min_bytes: 1, topics: vec![topic], ..FetchRequest::default() };
    socket.send(ApiKey::Fetch, 12, vec![request.encode(12).unwrap()]).await
}

async fn fetched(socket: &mut Socket, id: i32) -> usize {
    let answer = FetchResponse::decode(socket.receive_body(ApiKey::Fetch, 12, id).await, 12).unwrap();
    answer.topics[0].partitions[0].records.iter().map(Bytes::len).sum()
}

fn on_lanes(rig: &Rig) -> i64 {
    rig.broker.context().metrics.connections_on_lanes.get()
}

/// Waits until there is no connection on a lane.
async fn no_lane(rig: &Rig) {
    let gone = async {
        while on_lanes(rig) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("a lane is given back");
}

async fn with_topic(rig: Rig) -> Rig {
    rig.broker.context().topics.create(vec![NewTopic::named("orders")]).await.remove(0).unwrap();
    rig
}

/// Sends records from this offset on, one at a time, until that has brought the connection to a lane. Returns the next
/// offset.
async fn to_a_lane(rig: &Rig, socket: &mut Socket, mut offset: i64) -> i64 {
    let there = async {
        let from = offset;
        while on_lanes(rig) == 0 {
            produce(socket, offset).await;
            offset += 1;
        }
        assert!(offset - from >= HABIT as i64, "a habit of {}", offset - from);
    };
    tokio::time::timeout(PATIENCE, there).await.expect("a lane");
    offset
}

/// A connection on a lane, and the next offset.
async fn on_a_lane(rig: &Rig) -> (Socket, i64) {
    let mut socket = Socket::connect(rig).await;
    let end = to_a_lane(rig, &mut socket, 0).await;
    (socket, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_serves_whatever_is_asked_for() {
    let rig = with_topic(start().await).await;
    let (mut socket, end) = on_a_lane(&rig).await;
    produce(&mut socket, end).await;
    assert_eq!(metadata(&mut socket).await, 1);
    // A fetch that waits is woken by another connection's record, and what is behind it is answered after it.
    let waiting = fetch(&mut socket, end + 1).await;
    let behind = socket.send(ApiKey::ApiVersions, 0, vec![]).await;
    produce(&mut Socket::connect(&rig).await, end + 1).await;
    assert!(fetched(&mut socket, waiting).await > 0);
    socket.receive_body(ApiKey::ApiVersions, 0, behind).await;
    // Several at once.
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(socket.send(ApiKey::Produce, 9, produce_body()).await);
    }
    for (id, offset) in ids.into_iter().zip(end + 2..) {
        assert_eq!(produced(&mut socket, id).await, (0, offset));
    }
    rig.broker.shutdown().await;
    socket.expect_closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_front_of_a_produce_keeps_nobody_from_syncing_it() {
    let rig = with_topic(start().await).await;
    let mut socket = Socket::connect(&rig).await;
    let waiting = fetch(&mut socket, 0).await;
    let behind = socket.send(ApiKey::Produce, 9, produce_body()).await;
    assert!(fetched(&mut socket, waiting).await > 0);
    assert_eq!(produced(&mut socket, behind).await, (0, 0));
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_on_a_lane_is_still_listened_to() {
    let rig = with_topic(start().await).await;
    let (mut socket, end) = on_a_lane(&rig).await;
    let waiting = fetch(&mut socket, end).await;
    // For longer than an idle connection would keep its lane.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let behind = socket.send(ApiKey::Produce, 9, produce_body()).await;
    assert!(fetched(&mut socket, waiting).await > 0);
    assert_eq!(produced(&mut socket, behind).await, (0, end));
    // And is noticed to leave.
    fetch(&mut socket, end + 1).await;
    drop(socket);
    no_lane(&rig).await;
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_moves_along() {
    let rig = with_topic(start().await).await;
    let (mut socket, _) = on_a_lane(&rig).await;
    let frames: Vec<u8> = (0..10 * HABIT as i32).flat_map(|id| api_versions_frame(id).to_vec()).collect();
    socket.send_raw(&frames).await;
    for id in 0..10 * HABIT as i32 {
        assert_eq!(correlation_id(socket.receive().await), id);
    }
    assert_eq!(on_lanes(&rig), 0);
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_to_something_else_gives_the_lane_back() {
    let rig = with_topic(start().await).await;
    let (mut socket, end) = on_a_lane(&rig).await;
    for _ in 0..=HABIT {
        assert_eq!(metadata(&mut socket).await, 1);
    }
    assert_eq!(on_lanes(&rig), 0);
    to_a_lane(&rig, &mut socket, end).await;
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_to_several_requests_at_once_gives_the_lane_back() {
    let rig = with_topic(start().await).await;
    let (mut socket, end) = on_a_lane(&rig).await;
    for offset in (end..end + 4 * HABIT as i64).step_by(2) {
        let [first, second] = [(); 2].map(|()| socket.frame(ApiKey::Produce, 9, produce_body()));
        socket.send_raw(&[first.1, second.1].concat()).await;
        assert_eq!(produced(&mut socket, first.0).await, (0, offset));
        assert_eq!(produced(&mut socket, second.0).await, (0, offset + 1));
    }
    assert_eq!(on_lanes(&rig), 0);
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_held_up_for_his_quota_gives_the_lane_back() {
    let rig = with_topic(start().await).await;
    let (mut socket, end) = on_a_lane(&rig).await;
    let quota = message!(AlterClientQuotasRequest {
        entries: vec![message!(EntryData {
            entity: vec![message!(EntityData { entity_type: "client-id".into(), entity_name: None })],
            ops: vec![message!(OpData { key: "producer_byte_rate".into(), value: 1.0 })],
        })],
    });
    let answer = call(&rig, 1, quota).await;
    assert_eq!(answer.entries[0].error_code, 0);
    produce(&mut socket, end).await;
    // For minutes, which nobody has to wait for.
    no_lane(&rig).await;
    assert!(rig.broker.context().connections.all().iter().any(|info| info.mute.is_imposed()));
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_to_say_gives_the_lane_back_and_is_not_closed_for_it() {
    let rig = with_topic(start().await).await;
    let (mut socket, end) = on_a_lane(&rig).await;
    no_lane(&rig).await;
    produce(&mut socket, end).await;
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_leaves_the_lane() {
    let rig = with_topic(start().await).await;
    let (socket, end) = on_a_lane(&rig).await;
    drop(socket);
    no_lane(&rig).await;
    let mut socket = Socket::connect(&rig).await;
    to_a_lane(&rig, &mut socket, end).await;
    // What cannot be read closes the connection, there as anywhere.
    socket.send_raw(&i32::to_be_bytes(-1)).await;
    socket.expect_closed().await;
    no_lane(&rig).await;
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_compressed_anew_on_a_lane() {
    let rig = start().await;
    let config = [("compression.type".to_owned(), "zstd".to_owned())].into_iter().collect();
    let new = NewTopic { config, ..NewTopic::named("orders") };
    rig.broker.context().topics.create(vec![new]).await.remove(0).unwrap();
    let (mut socket, end) = on_a_lane(&rig).await;
    let id = socket.send(ApiKey::Produce, 9, produce_body_of(&[7; 900 << 10])).await;
    assert_eq!(produced(&mut socket, id).await, (0, end));
    rig.broker.shutdown().await;
}
