//! HTTP by real requests: metrics, health, and what a group is behind by.

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use log_core::record::{BatchBuilder, Compression, ProducedBatch};
use log_core::wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use log_core::wire::messages::{OffsetCommitRequest, OffsetCommitResponse};
use log_core::wire::{ApiKey, StrBytes, message};
use log_server::coordinator::transaction::{Protocol, TopicPartition};
use log_server::topic::NewTopic;
use support::{PATIENCE, Rig, ask, start, start_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status and body of a GET.
async fn get(rig: &Rig, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(rig.broker.http_addr().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Appends a record for each timestamp and waits until they are durable.
async fn produce(rig: &Rig, topic: &str, timestamps: &[i64]) {
    let mut builder = BatchBuilder::new(Compression::None);
    for timestamp in timestamps {
        builder.append(*timestamp, None, Some(b"value"), &[]).unwrap();
    }
    let batch = ProducedBatch::internal(builder.build(0).unwrap()).unwrap();
    let partition = rig.broker.context().partitions.get(topic, 0).unwrap();
    let appended = partition.append(&batch, now_ms(), true).unwrap();
    partition.wait_durable(appended.last_offset + 1).await.unwrap();
}

async fn commit(rig: &Rig, group: &str, topic: &str, offset: i64) {
    let partition = message!(OffsetCommitRequestPartition { committed_offset: offset });
    let topic =
        message!(OffsetCommitRequestTopic { name: StrBytes::from(topic), partitions: vec![partition] });
    let request = message!(OffsetCommitRequest {
        group_id: StrBytes::from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
    });
    let answer: OffsetCommitResponse = ask(rig, ApiKey::OffsetCommit, 8, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_counted_by_state() {
    let rig = start().await;
    let (_, before) = get(&rig, "/metrics").await;
    assert!(before.contains("highwater_transactional_ids{state=\"Empty\"} 0\n"), "{before}");
    let transactions = &rig.broker.context().transactions;
    transactions.init("payments".into(), 60_000, None).await.unwrap();
    let slow = transactions.init("refunds".into(), 1, None).await.unwrap();
    let topic = NewTopic::named("orders");
    rig.broker.context().topics.create(vec![topic]).await.remove(0).unwrap();
    let orders = TopicPartition { topic: "orders".into(), partition: 0 };
    transactions.add_partitions("refunds", slow, vec![orders], Protocol::V1).await.unwrap();
    loop {
        let (_, text) = get(&rig, "/metrics").await;
        assert!(text.contains("highwater_transactional_ids{state=\"Empty\"} 1\n"), "{text}");
        if text.contains("highwater_transactional_ids{state=\"CompleteAbort\"} 1\n") {
            assert!(text.contains("highwater_transactions_timed_out_total 1\n"), "{text}");
            assert!(text.contains("highwater_transaction_markers_pending 0\n"), "{text}");
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn lag(rig: &Rig, group: &str) -> serde_json::Value {
    let (status, body) = get(rig, &format!("/api/v1/groups/{group}/lag")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn rig_with_topic() -> Rig {
    let rig = start().await;
    rig.broker.context().topics.create(vec![NewTopic::named("flights")]).await.remove(0).unwrap();
    rig
}

#[tokio::test]
async fn lag_is_told_in_records_and_seconds_and_ends_when_the_group_has_caught_up() {
    let rig = rig_with_topic().await;
    let now = now_ms();
    produce(&rig, "flights", &[now - 90_000, now - 60_000, now - 30_000]).await;
    commit(&rig, "slow readers", "flights", 1).await;

    let answer = lag(&rig, "slow%20readers").await;
    let row = &answer["partitions"][0];
    assert_eq!(answer["group"], "slow readers");
    assert_eq!((&row["topic"], &row["partition"]), (&"flights".into(), &0.into()));
    assert_eq!((&row["committed_offset"], &row["log_end_offset"]), (&1.into(), &3.into()));
    assert_eq!(row["lag_records"], 2);
    let seconds = row["lag_seconds"].as_f64().unwrap();
    assert!((60.0..60.0 + PATIENCE.as_secs_f64()).contains(&seconds), "{seconds}");

    let (status, metrics) = get(&rig, "/metrics").await;
    assert_eq!(status, 200);
    let labels = r#"group="slow readers",topic="flights",partition="0""#;
    assert!(metrics.contains(&format!("highwater_group_lag_records{{{labels}}} 2\n")), "{metrics}");
    let seconds = metrics.split(&format!("highwater_group_lag_seconds{{{labels}}} ")).nth(1).unwrap();
    assert!(seconds.lines().next().unwrap().parse::<f64>().unwrap() >= 60.0);
    assert!(metrics.ends_with("# EOF\n"));

    commit(&rig, "slow readers", "flights", 3).await;
    let answer = lag(&rig, "slow%20readers").await;
    assert_eq!(
        (&answer["partitions"][0]["lag_records"], &answer["partitions"][0]["lag_seconds"]),
        (&0.into(), &0.0.into())
    );
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn lag_starts_where_the_log_does_and_is_never_negative() {
    let rig = rig_with_topic().await;
    let now = now_ms();
    produce(&rig, "flights", &[now - 50_000]).await;
    produce(&rig, "flights", &[now + 40_000]).await;
    let partition = rig.broker.context().partitions.get("flights", 0).unwrap();
    partition.log().delete_records(1).unwrap();
    commit(&rig, "behind", "flights", 0).await;
    commit(&rig, "beyond", "flights", 9).await;
    let row = &lag(&rig, "behind").await["partitions"][0];
    assert_eq!(
        (&row["lag_records"], &row["lag_seconds"]),
        (&1.into(), &0.0.into()),
        "what is left is from the future"
    );
    let row = &lag(&rig, "beyond").await["partitions"][0];
    assert_eq!((&row["lag_records"], &row["lag_seconds"]), (&0.into(), &0.0.into()));
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn groups_are_listed_and_what_is_not_there_is_404_with_a_reason() {
    let rig = rig_with_topic().await;
    commit(&rig, "b", "flights", 0).await;
    commit(&rig, "a", "flights", 0).await;
    let (status, body) = get(&rig, "/api/v1/groups").await;
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let named: Vec<_> = answer["groups"].as_array().unwrap().iter().map(|row| &row["group"]).collect();
    assert_eq!(named, ["a", "b"]);
    let mut row = answer["groups"][0].clone();
    // What a sample may or may not have told by now.
    for rate in ["consume_records_per_second", "produce_records_per_second"] {
        assert!(row.as_object_mut().unwrap().remove(rate).is_some(), "{row}");
    }
    let expected = serde_json::json!({
        "group": "a", "state": "Empty", "protocol_type": "", "protocol": "offsets only", "members": 0,
        "lag_records": 0, "lag_exact": true, "lag_seconds": 0.0, "catch_up_seconds": 0.0, "slo_state": null,
    });
    assert_eq!(row, expected);
    let (status, body) = get(&rig, "/api/v1/groups/a").await;
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &answer["group"], &answer["member_list"]),
        (200, &"a".into(), &serde_json::json!([]))
    );
    assert_eq!(get(&rig, "/api/v1/groups/nobody").await.0, 404);
    let (status, body) = get(&rig, "/api/v1/groups/nobody/lag").await;
    assert_eq!((status, &*body), (404, r#"{"error":"there is no group nobody"}"#));
    let (status, body) = get(&rig, "/nothing").await;
    assert_eq!((status, &*body), (404, r#"{"error":"there is no such path"}"#));
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_board_ticks_and_tells_how_fast_a_group_goes() {
    let rig = start_with(|config| config.lag_sample_interval_ms = 5).await;
    rig.broker.context().topics.create(vec![NewTopic::named("flights")]).await.remove(0).unwrap();
    let board = rig.broker.context().lag.clone();
    let mut ticks = board.subscribe();
    let mut committed = 0;
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            produce(&rig, "flights", &[now_ms(); 3]).await;
            committed += 2;
            commit(&rig, "slow", "flights", committed).await;
            ticks.changed().await.unwrap();
            let sample = board.latest();
            assert!(sample.number >= *ticks.borrow_and_update());
            let Some(group) = sample.group("slow") else { continue };
            let (consume, produce) =
                (group.rates.consume_records_per_second, group.rates.produce_records_per_second);
            if let (Some(consume), Some(produce)) = (consume, produce)
                && 0.0 < consume
                && consume < produce
            {
                break group.clone();
            }
        }
    });
    let group = told.await.expect("rates");
    assert_eq!(group.partitions.len(), 1);
    assert!(group.lag_records() > 0 && group.is_exact());
    let answer = lag(&rig, "slow").await;
    assert!(answer["consume_records_per_second"].as_f64().unwrap() > 0.0, "{answer}");
    assert!(answer["partitions"][0]["produce_records_per_second"].as_f64().unwrap() > 0.0, "{answer}");
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn health_and_readiness() {
    let rig = start().await;
    assert_eq!(get(&rig, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&rig, "/readyz").await, (200, "ready\n".to_owned()));
    rig.broker.context().log_dir.health().poison("a sync failed");
    let (status, reason) = get(&rig, "/readyz").await;
    assert_eq!((status, &*reason), (503, "the log directory is offline: a sync failed\n"));
    assert_eq!(get(&rig, "/healthz").await.0, 200);
    rig.broker.context().shutdown.cancel();
    assert_eq!(get(&rig, "/readyz").await, (503, "shutting down\n".to_owned()));
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_does_not_keep_the_broker_from_stopping() {
    let rig = start().await;
    let mut stream = TcpStream::connect(rig.broker.http_addr().unwrap()).await.unwrap();
    stream.write_all(b"GET /healthz HT").await.unwrap();
    // Gives the half a moment to be read; without it the test would show less, and not fail.
    assert_eq!(get(&rig, "/healthz").await.0, 200);
    tokio::time::timeout(PATIENCE, rig.broker.shutdown()).await.expect("to stop");
}
