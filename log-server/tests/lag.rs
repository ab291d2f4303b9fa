//! What a group is behind by, over HTTP: members, isolation, what is no record, history.

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use log_core::record::{BatchBuilder, Compression, EndOfTransaction, Marker, ProducedBatch};
use log_core::wire::fetch::{FetchPartition, FetchTopic};
use log_core::wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use log_core::wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use log_core::wire::messages::{
    InitProducerIdRequest, InitProducerIdResponse, OffsetCommitRequest, OffsetCommitResponse,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use log_core::wire::{ApiKey, FetchRequest, StrBytes, TopicRef, message};
use log_server::topic::NewTopic;
use serde_json::Value;
use support::{PATIENCE, Rig, Socket, start_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A version of Fetch with topics by name.
const FETCH: i16 = 11;
const COMMIT: i16 = 8;

async fn rig() -> Rig {
    let rig = start_with(|config| config.lag_sample_interval_ms = 5).await;
    rig.broker.context().topics.create(vec![NewTopic::named("flights")]).await.remove(0).unwrap();
    rig
}

/// Status and body of a GET.
async fn get(rig: &Rig, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(rig.broker.http_addr().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// The group's lag in the only partition.
async fn lag(rig: &Rig, group: &str) -> Value {
    let (status, answer) = get(rig, &format!("/api/v1/groups/{group}/lag")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["lag_records"], answer["partitions"][0]["lag_records"]);
    answer["partitions"][0].clone()
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Appends records of one age, of a producer's transaction if there is one, and waits until they are durable.
async fn produce(rig: &Rig, transaction: Option<(i64, i32)>, count: usize, age_ms: i64) {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, sequence)) = transaction {
        builder = builder.producer(id, 0, sequence).transactional(true);
    }
    for _ in 0..count {
        builder.append(now_ms() - age_ms, None, Some(b"value"), &[]).unwrap();
    }
    let batch = ProducedBatch::internal(builder.build(0).unwrap()).unwrap();
    let partition = rig.broker.context().partitions.get("flights", 0).unwrap();
    let asked = transaction.map(|(id, _)| partition.ask_about(id, 0, false));
    let appended = partition.append_asked(&batch, asked, now_ms(), true).unwrap();
    partition.wait_durable(appended.last_offset + 1).await.unwrap();
}

async fn end(rig: &Rig, id: i64, marker: Marker) {
    let partition = rig.broker.context().partitions.get("flights", 0).unwrap();
    let end = EndOfTransaction { marker, coordinator_epoch: 0 };
    let appended = partition.append_marker(id, 0, end, now_ms()).unwrap();
    partition.wait_durable(appended.last_offset + 1).await.unwrap();
}

async fn commit(socket: &mut Socket, group: &str, offset: i64) {
    assert_eq!(offer(socket, group, "flights", offset).await, 0);
}

/// Asks for a commit and returns the error code.
async fn offer(socket: &mut Socket, group: &str, topic: &str, offset: i64) -> i16 {
    let partition = message!(OffsetCommitRequestPartition { committed_offset: offset });
    let topic =
        message!(OffsetCommitRequestTopic { name: StrBytes::from(topic), partitions: vec![partition] });
    let request = message!(OffsetCommitRequest {
        group_id: StrBytes::from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
    });
    let answer: OffsetCommitResponse = socket.ask(ApiKey::OffsetCommit, COMMIT, &request).await;
    answer.topics[0].partitions[0].error_code
}

/// Commits in a transaction that stays open.
async fn commit_in_transaction(socket: &mut Socket, group: &str, offset: i64) {
    let init = message!(InitProducerIdRequest {
        transactional_id: Some("copy".into()),
        transaction_timeout_ms: 60_000
    });
    let producer = loop {
        let answer: InitProducerIdResponse = socket.ask(ApiKey::InitProducerId, 4, &init).await;
        if answer.error_code == 0 {
            break answer;
        }
    };
    let partition = message!(TxnOffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some("".into()),
    });
    let topic = message!(TxnOffsetCommitRequestTopic { name: "flights".into(), partitions: vec![partition] });
    let request = message!(TxnOffsetCommitRequest {
        transactional_id: "copy".into(),
        group_id: StrBytes::from(group),
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
    });
    let answer: TxnOffsetCommitResponse = socket.ask(ApiKey::TxnOffsetCommit, 5, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

/// Fetches once from the start, and says which records it wants.
async fn fetch(socket: &mut Socket, committed_only: bool) {
    let partition = FetchPartition {
        index: 0,
        current_leader_epoch: -1,
        fetch_offset: 0,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1000,
    };
    let topic = FetchTopic { topic: TopicRef::Name("flights".into()), partitions: vec![partition] };
    let request = FetchRequest {
        isolation_level: i8::from(committed_only),
        max_bytes: 1000,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    socket.send(ApiKey::Fetch, FETCH, vec![request.encode(FETCH).unwrap()]).await;
    socket.receive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_behind_by_what_it_will_see() {
    let rig = rig().await;
    produce(&rig, None, 2, 90_000).await; // 0, 1
    produce(&rig, Some((7, 0)), 3, 80_000).await; // 2 to 4
    end(&rig, 7, Marker::Abort).await; // 5
    produce(&rig, Some((7, 3)), 2, 70_000).await; // 6, 7
    end(&rig, 7, Marker::Commit).await; // 8
    produce(&rig, None, 1, 60_000).await; // 9
    produce(&rig, Some((7, 5)), 4, 50_000).await; // 10 to 13, open
    let mut socket = Socket::connect(&rig).await;
    commit(&mut socket, "app", 2).await;
    let within = |lag: &Value, seconds: f64| {
        let told = lag["lag_seconds"].as_f64().unwrap();
        assert!((seconds..seconds + PATIENCE.as_secs_f64()).contains(&told), "{lag}");
    };

    let told = lag(&rig, "app").await;
    assert_eq!(
        (&told["isolation"], &told["lag_records"]),
        (&"read_uncommitted".into(), &10.into()),
        "{told}"
    );
    assert_eq!(told["log_end_offset"], 14);
    within(&told, 80.0);

    // The client that has committed says how it reads when it fetches.
    fetch(&mut socket, true).await;
    let told = lag(&rig, "app").await;
    assert_eq!((&told["isolation"], &told["lag_records"]), (&"read_committed".into(), &3.into()), "{told}");
    assert_eq!((&told["log_end_offset"], &told["exact"]), (&10.into(), &true.into()));
    within(&told, 70.0);
    commit(&mut socket, "app", 8).await;
    within(&lag(&rig, "app").await, 60.0);
    commit(&mut socket, "app", 10).await;
    let told = lag(&rig, "app").await;
    assert_eq!((&told["lag_records"], &told["lag_seconds"]), (&0.into(), &0.0.into()), "{told}");

    fetch(&mut socket, false).await;
    let told = lag(&rig, "app").await;
    assert_eq!((&told["lag_records"], &told["log_end_offset"]), (&4.into(), &14.into()), "{told}");
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_reads_as_who_has_committed_for_it_and_not_as_who_was_refused() {
    let rig = rig().await;
    produce(&rig, None, 2, 0).await;
    let mut reader = Socket::connect_as(&rig, "reader").await;
    fetch(&mut reader, true).await;
    commit(&mut reader, "app", 1).await;
    assert_eq!(lag(&rig, "app").await["isolation"], "read_committed");

    let mut other = Socket::connect_as(&rig, "other").await;
    fetch(&mut other, false).await;
    assert_ne!(offer(&mut other, "app", "nowhere", 2).await, 0);
    assert_eq!(lag(&rig, "app").await["isolation"], "read_committed");

    commit_in_transaction(&mut other, "app", 2).await;
    assert_eq!(lag(&rig, "app").await["isolation"], "read_uncommitted");
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_kept_and_read_back() {
    let rig = rig().await;
    produce(&rig, None, 5, 0).await;
    let mut socket = Socket::connect(&rig).await;
    commit(&mut socket, "app", 1).await;
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            let (status, answer) = get(&rig, "/api/v1/groups/app/lag/history?seconds=60&points=10").await;
            assert_eq!(status, 200, "{answer}");
            if !answer["points"].as_array().unwrap().is_empty() {
                return answer;
            }
        }
    });
    let told = told.await.expect("a point");
    assert_eq!((&told["group"], &told["step_seconds"]), (&"app".into(), &6.0.into()));
    let point = told["points"].as_array().unwrap().last().unwrap();
    assert_eq!(point["lag_records"], 4, "{told}");
    assert_eq!(get(&rig, "/api/v1/groups/nobody/lag/history").await.0, 404);
    let (status, answer) = get(&rig, "/api/v1/groups/app/lag/history?seconds=x").await;
    assert_eq!(status, 400, "{answer}");
    rig.broker.shutdown().await;
}
