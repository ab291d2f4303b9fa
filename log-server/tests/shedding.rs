//! Load shedding at the produce handler, and objectives over HTTP: by request values, and over sockets where a connection
//! is what it is about.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression};
use log_core::wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use log_core::wire::messages::{EndTxnRequest, TxnOffsetCommitRequest};
use log_core::wire::produce::{ProducePartition, ProduceTopic};
use log_core::wire::{ApiKey, ErrorCode, ProduceRequest, ProduceResponse, TopicRef, message};
use log_server::BrokerConfig;
use log_server::coordinator::transaction::Producer;
use log_server::handler::Reply;
use log_server::shedding::{Demand, Pressed, Pressure, Reason, Stamp};
use log_server::topic::{NewTopic, PRIORITY_CONFIG, Priority};
use support::{PATIENCE, Rig, Socket, body, call, dispatch, start, start_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const VERSION: i16 = 9;
/// A version of Produce that adds partitions to transactions.
const IN_TRANSACTION: i16 = 12;
const ID: &str = "tx";
const THROTTLE_MS: u64 = 300;
/// A step's time. The broker itself takes steps too, but only in time that passes; these tests say what time it is.
const STEP: Duration = Duration::from_secs(10_000);

fn settings(config: &mut BrokerConfig) {
    config.shedding_step_ms = STEP.as_millis() as u64;
    config.shedding_heal_ms = STEP.as_millis() as u64;
    config.shedding_throttle_ms = THROTTLE_MS;
}

/// A broker with a topic of each class, named by it.
async fn start_shedding() -> Rig {
    let rig = start_with(settings).await;
    for class in Priority::ALL {
        let config = [(PRIORITY_CONFIG.to_owned(), class.name().to_owned())].into();
        let topic = NewTopic { config, ..NewTopic::named(class.name()) };
        rig.broker.context().topics.create(vec![topic]).await.remove(0).unwrap();
    }
    rig
}

/// Has the ladder take a step up for the sake of `protected`, or down for `None`, as the `turn`th of the test.
fn step(rig: &Rig, turn: u32, protected: Option<Priority>) {
    step_for(rig, turn, protected, Vec::new());
}

/// The same, with the groups that are under pressure.
fn step_for(rig: &Rig, turn: u32, protected: Option<Priority>, groups: Vec<Pressed>) {
    let reason = protected.map(|_| Reason::Group("payments".into()));
    let demand = Demand { pressure: Pressure { presses: protected, holds: None }, reason, groups };
    let context = rig.broker.context();
    let now = Instant::now() + 2 * STEP * turn;
    let level = || context.shedding.status(&context.catalog.topics()).level;
    let before = level();
    context.shedding.step(demand.clone(), &context.catalog.topics(), now, 0);
    if protected.is_none() && level() == before {
        // That nothing presses had to be noticed first.
        context.shedding.step(demand, &context.catalog.topics(), now + STEP, 0);
    }
}

fn batch(producer: Option<(i64, i16, i32)>) -> Bytes {
    batch_of(producer, false)
}

fn batch_of(producer: Option<(i64, i16, i32)>, transactional: bool) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).transactional(transactional);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    builder.append(1000, Some(b"key"), Some(b"value"), &[]).unwrap();
    builder.build(0).unwrap()
}

/// A batch of a transaction.
fn part(producer: Producer, sequence: i32) -> Bytes {
    batch_of(Some((producer.id, producer.epoch, sequence)), true)
}

/// Produces a batch of a transaction to one topic.
async fn produce_part(rig: &Rig, topic: &str, records: &Bytes) -> ErrorCode {
    let request = ProduceRequest { transactional_id: Some(ID.into()), ..request(&[topic], records) };
    let reply = dispatch(rig, ApiKey::Produce, IN_TRANSACTION, request.encode(IN_TRANSACTION).unwrap()).await;
    let answer = body(reply, ApiKey::Produce, IN_TRANSACTION).await;
    ProduceResponse::decode(answer, IN_TRANSACTION).unwrap().topics[0].partitions[0].error_code.into()
}

fn request(topics: &[&str], records: &Bytes) -> ProduceRequest {
    let topics = topics.iter().map(|topic| ProduceTopic {
        topic: TopicRef::Name((*topic).into()),
        partitions: vec![ProducePartition { index: 0, records: Some(records.clone()) }],
    });
    ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 30_000, topics: topics.collect() }
}

/// The errors of each topic, and the time that the answer holds the client up for.
async fn produce_to(rig: &Rig, topics: &[&str], records: &Bytes) -> (Vec<ErrorCode>, i32) {
    let encoded = request(topics, records).encode(VERSION).unwrap();
    let reply = dispatch(rig, ApiKey::Produce, VERSION, encoded).await;
    let answer = ProduceResponse::decode(body(reply, ApiKey::Produce, VERSION).await, VERSION).unwrap();
    let errors = answer.topics.iter().map(|topic| topic.partitions[0].error_code.into());
    (errors.collect(), answer.throttle_time_ms)
}

async fn produce(rig: &Rig, topic: &str) -> (ErrorCode, i32) {
    let (errors, hold) = produce_to(rig, &[topic], &batch(None)).await;
    (errors[0], hold)
}

const TAKEN: (ErrorCode, i32) = (ErrorCode::None, 0);
const HELD_UP: (ErrorCode, i32) = (ErrorCode::None, THROTTLE_MS as i32);
const REFUSED: (ErrorCode, i32) = (ErrorCode::NotEnoughReplicas, 0);

#[tokio::test(flavor = "multi_thread")]
async fn classes_are_held_up_then_refused_and_come_back_one_after_the_other() {
    let rig = start_shedding().await;
    let high = Some(Priority::High);
    let steps = [
        (high, [HELD_UP, TAKEN, TAKEN]),
        (high, [REFUSED, TAKEN, TAKEN]),
        (high, [REFUSED, HELD_UP, TAKEN]),
        (high, [REFUSED, REFUSED, TAKEN]),
        (high, [REFUSED, REFUSED, TAKEN]),
        (None, [REFUSED, HELD_UP, TAKEN]),
        (None, [REFUSED, TAKEN, TAKEN]),
        (None, [HELD_UP, TAKEN, TAKEN]),
        (None, [TAKEN, TAKEN, TAKEN]),
    ];
    for (turn, (protected, expected)) in steps.into_iter().enumerate() {
        step(&rig, turn as u32, protected);
        for (class, expected) in Priority::ALL.into_iter().zip(expected) {
            assert_eq!(produce(&rig, class.name()).await, expected, "{} at step {turn}", class.name());
        }
    }
    let text = rig.broker.context().metrics.encode();
    for line in [
        "highwater_shedding_level 0",
        "highwater_shedding_steps_total{direction=\"up\"} 4",
        "highwater_shedding_steps_total{direction=\"down\"} 4",
        "highwater_shedding_refused_batches_total{priority=\"low\"} 6",
        "highwater_shedding_refused_batches_total{priority=\"normal\"} 2",
        "highwater_shedding_refused_batches_total{priority=\"high\"} 0",
        "highwater_shedding_throttled_requests_total{priority=\"low\"} 2",
        "highwater_shedding_throttled_requests_total{priority=\"normal\"} 2",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_request_each_topic_is_judged_by_itself_and_high_ones_are_not_held_up() {
    let rig = start_shedding().await;
    let both = ["low", "high"];
    step(&rig, 0, Some(Priority::High));
    let (errors, hold) = produce_to(&rig, &both, &batch(None)).await;
    assert_eq!((errors, hold), (vec![ErrorCode::None, ErrorCode::None], 0), "the high one would wait too");
    step(&rig, 1, Some(Priority::High));
    let (errors, hold) = produce_to(&rig, &both, &batch(None)).await;
    assert_eq!((errors, hold), (vec![ErrorCode::NotEnoughReplicas, ErrorCode::None], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_up_connection_is_not_read_and_one_that_carries_a_higher_class_is() {
    let rig = start_shedding().await;
    step(&rig, 0, Some(Priority::High));
    for (first, held) in [(None, true), (Some("high"), false)] {
        let mut socket = Socket::connect(&rig).await;
        let mut send = async |topic: &str| {
            let encoded = request(&[topic], &batch(None)).encode(VERSION).unwrap();
            let id = socket.send(ApiKey::Produce, VERSION, encoded).await;
            let body = socket.receive_body(ApiKey::Produce, VERSION, id).await;
            ProduceResponse::decode(body, VERSION).unwrap().throttle_time_ms
        };
        if let Some(topic) = first {
            assert_eq!(send(topic).await, 0);
        }
        let began = Instant::now();
        assert_eq!(send("low").await, if held { THROTTLE_MS as i32 } else { 0 });
        send("low").await;
        if held {
            assert!(began.elapsed() >= Duration::from_millis(THROTTLE_MS), "the second one has waited");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_batch_overtakes_one_that_was_refused() {
    let rig = start_shedding().await;
    let sent = async |sequence| produce_to(&rig, &["low"], &batch(Some((7, 0, sequence)))).await.0[0];
    step(&rig, 0, Some(Priority::High));
    step(&rig, 1, Some(Priority::High));
    assert_eq!(sent(0).await, ErrorCode::NotEnoughReplicas);
    // Refusing ends while the second batch is on its way. The log does not know the producer, and would take it.
    step(&rig, 2, None);
    assert_eq!(sent(1).await, ErrorCode::NotEnoughReplicas);
    assert_eq!(sent(0).await, ErrorCode::None);
    assert_eq!(sent(1).await, ErrorCode::None);
    assert_eq!(sent(3).await, ErrorCode::OutOfOrderSequenceNumber, "from here on the log itself sees to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_let_by_and_not_appended_is_still_missing() {
    let rig = start_shedding().await;
    let sent = async |sequence| produce_to(&rig, &["low"], &batch(Some((7, 0, sequence)))).await.0[0];
    step(&rig, 0, Some(Priority::High));
    step(&rig, 1, Some(Priority::High));
    assert_eq!(sent(0).await, ErrorCode::NotEnoughReplicas);
    step(&rig, 2, None);
    let mut damaged = batch(Some((7, 0, 0))).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(produce_to(&rig, &["low"], &damaged.into()).await.0[0], ErrorCode::CorruptMessage);
    assert_eq!(sent(1).await, ErrorCode::NotEnoughReplicas);
    assert_eq!(sent(0).await, ErrorCode::None);
    assert_eq!(sent(1).await, ErrorCode::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_batch_overtakes_one_that_a_full_disk_has_refused() {
    let rig = start_with(|config| config.disk_free_hard_bytes = u64::MAX).await;
    let context = rig.broker.context();
    context.topics.create(vec![NewTopic::named("plain")]).await.remove(0).unwrap();
    let records = |sequence| batch(Some((7, 0, sequence)));
    assert_eq!(produce_to(&rig, &["plain"], &records(0)).await.0[0], ErrorCode::KafkaStorageError);
    // When there is room again.
    let partition = context.partitions.get("plain", 0).unwrap();
    let admits = |sequence| {
        let stamp = Stamp::of(&partition, &records(sequence)).unwrap();
        context.shedding.admits(stamp, Instant::now())
    };
    assert!(!admits(1));
    assert!(admits(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_goes_on_where_it_was_refused() {
    let rig = start_shedding().await;
    let producer = rig.broker.context().transactions.init(ID.into(), 60_000, None).await.unwrap();
    let low = async |sequence| produce_part(&rig, "low", &part(producer, sequence)).await;
    step(&rig, 0, Some(Priority::High));
    assert_eq!(low(0).await, ErrorCode::None, "throttled only");
    step(&rig, 1, Some(Priority::High));
    assert_eq!(low(1).await, ErrorCode::NotEnoughReplicas);
    assert_eq!(produce_part(&rig, "high", &part(producer, 0)).await, ErrorCode::None);
    step(&rig, 2, None);
    assert_eq!(low(2).await, ErrorCode::NotEnoughReplicas, "1 has yet to come again");
    assert_eq!(low(1).await, ErrorCode::None);
    assert_eq!(low(2).await, ErrorCode::None);
    let request = message!(EndTxnRequest {
        transactional_id: ID.into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        committed: true,
    });
    assert_eq!(call(&rig, 5, request).await.error_code, 0);
    let partition = rig.broker.context().partitions.get("low", 0).unwrap();
    let stable = || partition.reader().watermarks().last_stable();
    while stable() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(stable(), 4, "three records and the marker");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acknowledgements_a_refusal_costs_the_connection() {
    let rig = start_shedding().await;
    step(&rig, 0, Some(Priority::High));
    step(&rig, 1, Some(Priority::High));
    let send = async |topic: &str| {
        let request = ProduceRequest { acks: 0, ..request(&[topic], &batch(None)) };
        dispatch(&rig, ApiKey::Produce, VERSION, request.encode(VERSION).unwrap()).await
    };
    assert!(matches!(send("high").await, Reply::None));
    let refused = send("low").await;
    assert!(matches!(&refused, Reply::Close(why) if why.to_string().contains("priority")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_a_group_under_pressure_is_taken() {
    let rig = start_shedding().await;
    let groups = |members: &[(&str, &str)]| vec![Pressed::new(&"join".into(), members.iter().copied())];
    let high = Some(Priority::High);
    step_for(&rig, 0, high, groups(&[]));
    step_for(&rig, 1, high, groups(&[]));
    assert_eq!(produce(&rig, "low").await, REFUSED);
    // As what is dispatched says of its client.
    step_for(&rig, 2, high, groups(&[("test", "/127.0.0.1")]));
    assert_eq!(produce(&rig, "low").await, TAKEN);
    step_for(&rig, 3, high, groups(&[("test", "/127.0.0.2")]));
    assert_eq!(produce(&rig, "low").await, REFUSED);
    // A producer that commits the group's offsets in its transaction.
    let producer = rig.broker.context().transactions.init(ID.into(), 60_000, None).await.unwrap();
    assert_eq!(produce_part(&rig, "low", &part(producer, 0)).await, ErrorCode::NotEnoughReplicas);
    let partition = message!(TxnOffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 0,
        committed_metadata: Some("".into()),
    });
    let topic = message!(TxnOffsetCommitRequestTopic { name: "high".into(), partitions: vec![partition] });
    let commit = message!(TxnOffsetCommitRequest {
        transactional_id: ID.into(),
        group_id: "join".into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
    });
    assert_eq!(call(&rig, 5, commit).await.topics[0].partitions[0].error_code, 0);
    assert_eq!(produce_part(&rig, "low", &part(producer, 0)).await, ErrorCode::None);
    assert_eq!(produce(&rig, "low").await, REFUSED, "of anybody else");
    for turn in 4..8 {
        step(&rig, turn, None);
    }
    step(&rig, 8, high);
    step(&rig, 9, high);
    assert_eq!(produce_part(&rig, "low", &part(producer, 1)).await, ErrorCode::NotEnoughReplicas);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_what_would_be_held_up_is_refused_and_nobody_else_waits() {
    let rig = start_shedding().await;
    step(&rig, 0, Some(Priority::High));
    let send = async |topic: &str| {
        http(&rig, "POST", &format!("/topics/{topic}/records"), r#"{"records": [{"value": "x"}]}"#).await
    };
    assert_eq!(send("high").await.0, 200);
    let (status, answer) = send("low").await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("priority"), "{answer}");
    assert_eq!(send("normal").await.0, 200);
    let text = rig.broker.context().metrics.encode();
    assert!(text.contains("highwater_shedding_throttled_requests_total{priority=\"low\"} 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_shedding_off_or_without_lower_classes_nothing_is_shed() {
    let rig = start_with(|config| {
        settings(config);
        config.shedding = false;
    })
    .await;
    rig.broker.context().topics.create(vec![NewTopic::named("plain")]).await.remove(0).unwrap();
    step(&rig, 0, Some(Priority::High));
    assert_eq!(produce(&rig, "plain").await, TAKEN);
    let rig = start_with(settings).await;
    rig.broker.context().topics.create(vec![NewTopic::named("plain")]).await.remove(0).unwrap();
    for turn in 0..5 {
        step(&rig, turn, Some(Priority::Normal));
        assert_eq!(produce(&rig, "plain").await, TAKEN, "a topic that nobody has said anything about");
    }
}

/// Status and JSON of a request over HTTP.
async fn http(rig: &Rig, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(rig.broker.http_addr().unwrap()).await.unwrap();
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(serde_json::Value::Null))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_objective_is_set_shown_replaced_and_deleted() {
    let rig = start().await;
    assert_eq!(http(&rig, "GET", "/slos", "").await, (200, serde_json::json!({"slos": []})));
    assert_eq!(http(&rig, "GET", "/slos/billing", "").await.0, 404);
    assert_eq!(http(&rig, "DELETE", "/slos/billing", "").await.0, 404);
    let (status, shown) = http(&rig, "PUT", "/slos/billing", r#"{"lag_seconds_objective": 30}"#).await;
    assert_eq!(status, 200, "{shown}");
    let expected = [
        ("group", serde_json::json!("billing")),
        ("lag_seconds_objective", serde_json::json!(30.0)),
        ("target", serde_json::json!(0.99)),
        ("window_seconds", serde_json::json!(3600.0)),
        ("state", serde_json::json!("unknown")),
        ("lag_seconds", serde_json::Value::Null),
        ("budget_used", serde_json::json!(0.0)),
        ("webhook", serde_json::Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(shown[name], value, "{name} in {shown}");
    }
    assert!(shown["since_ms"].as_i64().unwrap() > 1_600_000_000_000);
    let full = r#"{"lag_seconds_objective": 1.5, "target": 0.9, "window_seconds": 60, "webhook": "http://127.0.0.1:1/x"}"#;
    let (_, shown) = http(&rig, "PUT", "/slos/billing", full).await;
    assert_eq!((&shown["target"], &shown["lag_seconds_objective"]), (&0.9.into(), &1.5.into()), "{shown}");
    for wrong in [
        "",
        "{}",
        r#"{"lag_seconds_objective": 0}"#,
        r#"{"lag_seconds_objective": -1}"#,
        r#"{"lag_seconds_objective": 1e300}"#,
        r#"{"lag_seconds_objective": 1, "target": 1}"#,
        r#"{"lag_seconds_objective": 1, "webhook": "https://127.0.0.1/"}"#,
        r#"{"lag_seconds_objective": 1, "tarket": 0.5}"#,
    ] {
        let (status, answer) = http(&rig, "PUT", "/slos/billing", wrong).await;
        assert!((400..500).contains(&status) && answer["error"].is_string(), "{wrong}: {status} {answer}");
    }
    assert_eq!(http(&rig, "GET", "/slos/billing", "").await.1["lag_seconds_objective"], 1.5);
    assert_eq!(http(&rig, "GET", "/groups/billing/scale", "").await.0, 503, "it has committed nothing");
    assert_eq!(http(&rig, "GET", "/groups/other/scale", "").await.0, 404);
    // As kept with the group's configuration, after a restart too.
    let (dir, config) = (rig.dir, BrokerConfig::clone(&rig.broker.context().config));
    rig.broker.shutdown().await;
    let rig = Rig { broker: log_server::Broker::start(config).await.unwrap(), dir };
    let (_, shown) = http(&rig, "GET", "/slos/billing", "").await;
    assert_eq!((&shown["window_seconds"], &shown["target"]), (&60.0.into(), &0.9.into()), "{shown}");
    assert_eq!(http(&rig, "DELETE", "/slos/billing", "").await.0, 204);
    assert_eq!(http(&rig, "GET", "/slos/billing", "").await.0, 404);
    let (status, shedding) = http(&rig, "GET", "/shedding", "").await;
    assert_eq!((status, &shedding["active"], &shedding["level"]), (200, &false.into(), &0.into()));
    assert_eq!(shedding["classes"].as_array().unwrap().len(), 3);
    assert_eq!(shedding["classes"][0]["action"], "none");
}
