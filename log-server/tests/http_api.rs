//! The HTTP API from its socket: what is described and what is served, its limits, and who may ask. What it answers is
//! tested in `tests/test_http.py`, beside Kafka clients.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use log_core::record::{BatchBuilder, Compression, ProducedBatch};
use log_server::quota::{Entity, Rates};
use log_server::shedding::{Demand, Pressure, Reason};
use log_server::topic::{NewTopic, PRIORITY_CONFIG, Priority};
use serde_json::{Value, json};
use support::{PATIENCE, Rig, Socket, api_versions_frame, start, start_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Seconds after which it may be asked again.
    fn retry_after(&self) -> u64 {
        let wait = self.head.split("retry-after: ").nth(1).unwrap_or_else(|| panic!("{self:?}"));
        wait.lines().next().unwrap().parse().unwrap()
    }
}

async fn connect(rig: &Rig) -> TcpStream {
    TcpStream::connect(rig.broker.http_addr().unwrap()).await.unwrap()
}

/// Asks on a connection of its own.
async fn ask(rig: &Rig, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = connect(rig).await;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await.expect("an answer")
}

/// All that is still sent; `None` if that is nothing.
async fn rest(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    // A reset is what a close with unread bytes looks like from here.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the end");
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

#[tokio::test]
async fn every_route_that_is_described_is_served() {
    let rig = start().await;
    let description = ask(&rig, "GET", "/api/v1/openapi.json", "").await.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 15, "{paths:?}");
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let summary = &methods[method]["summary"];
            assert!(summary.as_str().is_some_and(|it| !it.is_empty()), "{method} {path} says nothing");
            let path = path.replace("{topic}", "none").replace("{group}", "none");
            let answer = ask(&rig, &method.to_uppercase(), &path, "").await;
            assert_ne!(answer.status, 405, "{method} {path}");
            assert!(!answer.body.contains("there is no such path"), "{method} {path}");
        }
    }
    let answer = ask(&rig, "DELETE", "/api/v1/topics", "").await;
    assert_eq!((answer.status, answer.json()["error"].is_string()), (405, true));
}

#[test]
fn no_route_is_served_that_is_not_described() {
    // What `routes!` adds is described; what `route` adds is not.
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut files: Vec<_> = std::fs::read_dir(&room).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.extend(std::fs::read_dir(room.join("records")).unwrap().map(|entry| entry.unwrap().path()));
    for file in files.iter().filter(|file| file.extension().is_some_and(|it| it == "rs")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        let allowed = name.starts_with("console") || name == "openapi.rs";
        assert!(allowed || !text.contains(".route("), "{name} adds a route that nothing describes");
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_are_told_so_and_the_next_one_has_room() {
    let rig = start_with(|config| config.http_connections_max = 2).await;
    let held = [connect(&rig).await, connect(&rig).await];
    let refused = loop {
        // Accepting follows connecting.
        let mut third = connect(&rig).await;
        let _ =
            third.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        match rest(&mut third).await {
            Some(answer) if answer.status == 200 => continue,
            other => break other,
        }
    };
    if let Some(answer) = refused {
        assert_eq!(answer.status, 503);
        assert!(answer.json()["error"].as_str().unwrap().contains("http_connections_max"));
    }
    drop(held);
    loop {
        let mut stream = connect(&rig).await;
        let _ =
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        if rest(&mut stream).await.is_some_and(|answer| answer.status == 200) {
            return;
        }
    }
}

#[tokio::test]
async fn half_a_head_and_half_a_body_are_waited_for_only_so_long() {
    let rig = start_with(|config| config.request_receive_ms = 100).await;
    let mut head = connect(&rig).await;
    head.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").await.unwrap();
    assert!(rest(&mut head).await.is_none_or(|answer| answer.status == 408));
    let mut silent = connect(&rig).await;
    assert!(rest(&mut silent).await.is_none());
    let mut body = connect(&rig).await;
    let request = "POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    body.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(rest(&mut body).await.expect("an answer").status, 408);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_an_answer_is_given_up() {
    let rig = start_with(|config| {
        config.response_send_ms = 100;
        config.http_connections_max = 1;
    })
    .await;
    rig.broker.context().topics.create(vec![NewTopic::named("t")]).await.remove(0).unwrap();
    let partition = rig.broker.context().partitions.get("t", 0).unwrap();
    for _ in 0..8 {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(0, None, Some(&[b'x'; 1_000_000]), &[]).unwrap();
        let batch = ProducedBatch::internal(builder.build(0).unwrap()).unwrap();
        let appended = partition.append(&batch, 0, true).unwrap();
        partition.wait_durable(appended.last_offset + 1).await.unwrap();
    }
    let mut stalled = connect(&rig).await;
    let request = "GET /api/v1/topics/t/records?max_bytes=8388608&value_bytes_max=1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stalled.write_all(request.as_bytes()).await.unwrap();
    stalled.read_u8().await.unwrap();
    // It has the only place. It is to lose it without having read any more.
    tokio::time::timeout(PATIENCE, async {
        loop {
            let mut stream = connect(&rig).await;
            let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(request).await;
            if rest(&mut stream).await.is_some_and(|answer| answer.status == 200) {
                break;
            }
        }
    })
    .await
    .expect("its place is free again");
}

#[tokio::test]
async fn nothing_is_changed_while_the_broker_is_not_ready() {
    let rig = start().await;
    assert_eq!(ask(&rig, "POST", "/api/v1/topics", r#"{"topic": "t"}"#).await.status, 201);
    rig.broker.context().log_dir.health().poison("a sync failed");
    for (method, path, body) in [
        ("POST", "/api/v1/topics", r#"{"topic": "u"}"#),
        ("DELETE", "/api/v1/topics/t", ""),
        ("PATCH", "/api/v1/topics/t/configs", r#"{"set": {"retention.ms": "1"}}"#),
        ("PATCH", "/api/v1/broker/configs", r#"{"set": {"log.retention.ms": "1"}}"#),
        ("POST", "/api/v1/topics/t/records", r#"{"records": [{"value": "x"}]}"#),
    ] {
        let answer = ask(&rig, method, path, body).await;
        assert_eq!(answer.status, 503, "{method} {path}");
        assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
        assert!(answer.json()["error"].as_str().unwrap().contains("a sync failed"));
    }
    let broker = ask(&rig, "GET", "/api/v1/broker", "").await.json();
    assert_eq!((&broker["ready"], &broker["health"]), (&json!(false), &json!("offline")));
    let topics = ask(&rig, "GET", "/api/v1/topics", "").await.json();
    assert_eq!(topics["topics"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn reading_beyond_the_quota_of_http_is_told_when_to_come_back() {
    let rig = start_with(|config| config.quota_window_ms = 1_000_000).await;
    ask(&rig, "POST", "/api/v1/topics", r#"{"topic": "t"}"#).await;
    let body = json!({ "records": [{ "value": "x".repeat(10_000) }] }).to_string();
    assert_eq!(ask(&rig, "POST", "/api/v1/topics/t/records", &body).await.status, 200);
    let rates = Rates { producer_byte_rate: None, consumer_byte_rate: Some(0.015) };
    let store = rig.broker.context().quotas.store();
    store.update(|all| all.extend([(Entity::Client("http".into()), rates)])).unwrap();
    let read = ask(&rig, "GET", "/api/v1/topics/t/records", "").await;
    assert_eq!(read.status, 200, "the window holds 15000 bytes");
    let read = ask(&rig, "GET", "/api/v1/topics/t/records", "").await;
    assert_eq!(read.status, 429, "{}", read.body);
    assert!(read.retry_after() > 1000, "{read:?}");
}

#[tokio::test]
async fn producing_beyond_the_quota_of_http_is_told_when_to_come_back() {
    let rig = start_with(|config| config.quota_window_ms = 1_000_000).await;
    ask(&rig, "POST", "/api/v1/topics", r#"{"topic": "t"}"#).await;
    let rates = Rates { producer_byte_rate: Some(0.001), consumer_byte_rate: None };
    let store = rig.broker.context().quotas.store();
    store.update(|all| all.extend([(Entity::Client("http".into()), rates)])).unwrap();
    let body = json!({ "records": [{ "value": "x".repeat(10_000) }] }).to_string();
    let taken = ask(&rig, "POST", "/api/v1/topics/t/records", &body).await;
    assert_eq!(taken.status, 200, "what goes over the quota is taken, and waited for afterwards: {taken:?}");
    // As long as a request waits for its turn, and no longer.
    let refused = ask(&rig, "POST", "/api/v1/topics/t/records", &body).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.retry_after() >= 1 && refused.json()["error"].as_str().unwrap().contains("quota"));
    let topic = ask(&rig, "GET", "/api/v1/topics/t", "").await.json();
    assert_eq!(topic["records"], 1, "nothing of it is written");
}

#[tokio::test]
async fn producing_what_is_shed_is_told_to_come_back_and_more_important_topics_go_on() {
    const STEP: Duration = Duration::from_secs(10_000);
    let rig = start_with(|config| {
        config.shedding_step_ms = STEP.as_millis() as u64;
        config.shedding_heal_ms = STEP.as_millis() as u64;
        config.shedding_throttle_ms = 1;
    })
    .await;
    for class in Priority::ALL {
        let body = json!({"topic": class.name(), "configs": {PRIORITY_CONFIG: class.name()}}).to_string();
        assert_eq!(ask(&rig, "POST", "/api/v1/topics", &body).await.status, 201);
    }
    let shedding = &rig.broker.context().shedding;
    let topics = rig.broker.context().catalog.topics();
    let press = |protected, turn| {
        let reason = Some(Reason::Group("payments".into()));
        let pressure = Pressure { presses: protected, holds: None };
        let demand = Demand { pressure, reason, ..Demand::default() };
        shedding.step(demand, &topics, Instant::now() + 2 * STEP * turn, 0);
    };
    let produce = async |class: Priority| {
        let path = format!("/api/v1/topics/{}/records", class.name());
        ask(&rig, "POST", &path, r#"{"records": [{"value": "x"}]}"#).await
    };
    // All of HTTP is one client, which is not held up for one of many: what would be throttled is refused as well.
    for turn in [1, 2] {
        press(Some(Priority::High), turn);
        let refused = produce(Priority::Low).await;
        assert_eq!((refused.status, refused.retry_after()), (503, 1), "{refused:?}");
        let error = refused.json()["error"].take();
        assert!(error.as_str().unwrap().contains("priority is too low while load is shed"), "{error}");
    }
    assert_eq!(produce(Priority::High).await.status, 200);
    let low = ask(&rig, "GET", "/api/v1/topics/low", "").await.json();
    assert_eq!(low["records"], 0, "nothing of what was refused is written");
}

#[tokio::test]
async fn a_body_of_very_many_records_is_given_up_at_the_bound() {
    let rig = start().await;
    ask(&rig, "POST", "/api/v1/topics", r#"{"topic": "t"}"#).await;
    let body = format!("{{\"records\": [{{}}{}]}}", ",{}".repeat(2_000_000));
    let answer = ask(&rig, "POST", "/api/v1/topics/t/records", &body).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let error = answer.json()["error"].take();
    assert!(error.as_str().unwrap().contains("more than 10000 records in a request"), "{error}");
}

#[tokio::test]
async fn connections_are_listed_as_long_as_they_are_open() {
    let rig = start().await;
    let connections = async || ask(&rig, "GET", "/api/v1/connections", "").await.json()["connections"].take();
    let mut socket = Socket::connect(&rig).await;
    socket.send_raw(&api_versions_frame(7)).await;
    socket.receive().await;
    let listed = connections().await;
    let row = &listed[0];
    assert_eq!(
        (&row["requests"], &row["received_bytes"], &row["client_id"]),
        (&json!(1), &json!(14), &json!(null))
    );
    assert!(row["sent_bytes"].as_u64().unwrap() > 14, "{row}");
    assert!(row["last_request_at_ms"].as_i64() >= row["connected_at_ms"].as_i64(), "{row}");
    drop(socket);
    let gone = async {
        while connections().await != json!([]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is not listed any more");
}
