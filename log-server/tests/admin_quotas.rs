//! Quotas of clients: set and shown by request values in each version, kept over sockets.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression};
use log_core::wire::fetch::{FetchPartition, FetchTopic};
use log_core::wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use log_core::wire::messages::describe_client_quotas_request::ComponentData;
use log_core::wire::messages::{
    AlterClientQuotasRequest, ApiVersionsRequest, ApiVersionsResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
};
use log_core::wire::produce::{ProducePartition, ProduceTopic};
use log_core::wire::{
    ApiKey, ErrorCode, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, TopicRef, message,
};
use log_server::Broker;
use log_server::quota::{Entity, Rates};
use log_server::topic::NewTopic;
use support::{Rig, Socket, call, start, start_with};

/// What the sockets of the tests call themselves.
const CLIENT: &str = "socket-test";

type Part<'a> = (&'a str, Option<&'a str>);
type Op<'a> = (&'a str, Option<f64>);

async fn alter(
    rig: &Rig,
    version: i16,
    validate_only: bool,
    entries: &[(&[Part<'_>], &[Op<'_>])],
) -> Vec<ErrorCode> {
    let entry = |&(parts, ops): &(&[Part<'_>], &[Op<'_>])| {
        let entity = parts.iter().map(|&(entity_type, name)| {
            message!(EntityData { entity_type: entity_type.into(), entity_name: name.map(Into::into) })
        });
        let ops = ops.iter().map(|&(key, value)| {
            message!(OpData { key: key.into(), value: value.unwrap_or_default(), remove: value.is_none() })
        });
        message!(EntryData { entity: entity.collect(), ops: ops.collect() })
    };
    let request =
        message!(AlterClientQuotasRequest { entries: entries.iter().map(entry).collect(), validate_only });
    let response = call(rig, version, request).await;
    assert!(response.entries.iter().all(|entry| (entry.error_code == 0) == entry.error_message.is_none()));
    response.entries.iter().map(|entry| entry.error_code.into()).collect()
}

async fn describe(
    rig: &Rig,
    version: i16,
    strict: bool,
    components: &[(&str, i8, Option<&str>)],
) -> DescribeClientQuotasResponse {
    let components = components.iter().map(|&(entity_type, match_type, name)| {
        message!(ComponentData { entity_type: entity_type.into(), match_type, match_: name.map(Into::into) })
    });
    let components = components.collect();
    call(rig, version, message!(DescribeClientQuotasRequest { components, strict })).await
}

/// An entity's name, none for the default, and its quotas.
type Found = (Option<String>, Vec<(String, f64)>);

/// Names of the entities found, with their quotas.
fn found(response: DescribeClientQuotasResponse) -> Vec<Found> {
    assert_eq!(response.error_code, 0);
    let entries = response.entries.unwrap().into_iter().map(|entry| {
        assert_eq!(entry.entity[0].entity_type.as_str(), "client-id");
        let values = entry.values.iter().map(|value| (value.key.to_string(), value.value)).collect();
        (entry.entity[0].entity_name.as_ref().map(ToString::to_string), values)
    });
    entries.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_set_shown_removed_and_outlive_a_restart() {
    let rig = start().await;
    for version in ApiKey::AlterClientQuotas.served().iter() {
        let set: [Op<'_>; 2] = [("producer_byte_rate", Some(1000.0)), ("consumer_byte_rate", Some(2000.0))];
        let only_checked = alter(&rig, version, true, &[(&[("client-id", Some("a"))], &set)]).await;
        assert_eq!(only_checked, [ErrorCode::None]);
        assert!(found(describe(&rig, version, false, &[]).await).is_empty());
        let codes = alter(
            &rig,
            version,
            false,
            &[
                (&[("client-id", Some("a"))], &set),
                (&[("client-id", None)], &set[..1]),
                (&[("client-id", Some("b"))], &[("producer_byte_rate", Some(0.0))]),
            ],
        )
        .await;
        assert_eq!(codes, [ErrorCode::None, ErrorCode::None, ErrorCode::InvalidRequest]);
        let default = (None, vec![("producer_byte_rate".to_owned(), 1000.0)]);
        let a = (
            Some("a".to_owned()),
            vec![("producer_byte_rate".to_owned(), 1000.0), ("consumer_byte_rate".to_owned(), 2000.0)],
        );
        for (strict, components, expected) in [
            (false, &[][..], vec![default.clone(), a.clone()]),
            (true, &[], vec![]),
            (true, &[("client-id", 2, None)], vec![default.clone(), a.clone()]),
            (false, &[("client-id", 1, None)], vec![default.clone()]),
            (false, &[("client-id", 0, Some("a"))], vec![a.clone()]),
            (false, &[("client-id", 0, Some("b"))], vec![]),
            (false, &[("user", 2, None)], vec![]),
            (false, &[("user", 1, None), ("client-id", 2, None)], vec![]),
            (false, &[("ip", 1, None)], vec![]),
        ] {
            assert_eq!(found(describe(&rig, version, strict, components).await), expected, "{components:?}");
        }
        let removed = alter(
            &rig,
            version,
            false,
            &[
                (&[("client-id", Some("a"))], &[("producer_byte_rate", None), ("consumer_byte_rate", None)]),
                (&[("client-id", None)], &[("producer_byte_rate", None), ("consumer_byte_rate", None)]),
            ],
        )
        .await;
        assert_eq!(removed, [ErrorCode::None; 2]);
    }
    let kept =
        alter(&rig, 1, false, &[(&[("client-id", Some("a"))], &[("producer_byte_rate", Some(7.0))])]).await;
    assert_eq!(kept, [ErrorCode::None]);
    let Rig { broker, dir } = rig;
    let config = broker.context().config.as_ref().clone();
    broker.shutdown().await;
    let rig = Rig { broker: Broker::start(config).await.unwrap(), dir };
    let expected = (Some("a".to_owned()), vec![("producer_byte_rate".to_owned(), 7.0)]);
    assert_eq!(found(describe(&rig, 1, false, &[]).await), [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_quota_is_refused_by_name() {
    let rig = start().await;
    let rate: &[Op<'_>] = &[("producer_byte_rate", Some(1.0))];
    let cases: [(&[Part<'_>], &[Op<'_>]); 10] = [
        (&[("user", Some("alice"))], rate),
        (&[("user", None), ("client-id", Some("a"))], rate),
        (&[("ip", Some("127.0.0.1"))], &[("connection_creation_rate", Some(1.0))]),
        (&[("tenant", Some("a"))], rate),
        (&[], rate),
        (&[("client-id", Some(""))], rate),
        (&[("client-id", Some("a"))], &[("request_percentage", Some(1.0))]),
        (&[("client-id", Some("a"))], &[("bytes", Some(1.0))]),
        (&[("client-id", Some("a"))], &[("producer_byte_rate", Some(0.5))]),
        (&[("client-id", Some("a"))], &[("producer_byte_rate", Some(f64::NAN))]),
    ];
    for version in ApiKey::AlterClientQuotas.served().iter() {
        for case in &cases {
            assert_eq!(alter(&rig, version, false, &[*case]).await, [ErrorCode::InvalidRequest], "{case:?}");
        }
        let twice: (&[Part<'_>], &[Op<'_>]) = (&[("client-id", Some("a"))], rate);
        assert_eq!(alter(&rig, version, false, &[twice, twice]).await, [ErrorCode::InvalidRequest; 2]);
        assert!(found(describe(&rig, version, false, &[]).await).is_empty());
    }
    for version in ApiKey::DescribeClientQuotas.served().iter() {
        for (components, expected) in [
            (&[("tenant", 2, None)][..], ErrorCode::UnsupportedVersion),
            (&[("", 2, None)], ErrorCode::InvalidRequest),
            (&[("client-id", 0, None)], ErrorCode::InvalidRequest),
            (&[("client-id", 2, Some("a"))], ErrorCode::InvalidRequest),
            (&[("client-id", 3, None)], ErrorCode::InvalidRequest),
            (&[("client-id", 2, None), ("client-id", 1, None)], ErrorCode::InvalidRequest),
            (&[("ip", 2, None), ("user", 2, None)], ErrorCode::InvalidRequest),
        ] {
            let response = describe(&rig, version, false, components).await;
            assert_eq!(ErrorCode::from(response.error_code), expected, "{components:?}");
        }
    }
}

/// A broker with a topic and a quota for the sockets of the tests. What it allows at once is `window_ms` worth of it.
async fn limited(window_ms: u64, rates: Rates) -> Rig {
    let rig = start_with(|config| config.quota_window_ms = window_ms).await;
    rig.broker.context().topics.create(vec![NewTopic::named("t")]).await.remove(0).unwrap();
    rig.broker
        .context()
        .quotas
        .store()
        .update(|all| all.extend([(Entity::Client(CLIENT.to_owned()), rates)]))
        .unwrap();
    rig
}

fn batch(value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1000, None, Some(&vec![b'x'; value_bytes]), &[]).unwrap();
    builder.build(0).unwrap()
}

async fn produce(socket: &mut Socket, value_bytes: usize) -> ProduceResponse {
    let partition = ProducePartition { index: 0, records: Some(batch(value_bytes)) };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic { topic: TopicRef::Name("t".into()), partitions: vec![partition] }],
    };
    let id = socket.send(ApiKey::Produce, 9, request.encode(9).unwrap()).await;
    ProduceResponse::decode(socket.receive_body(ApiKey::Produce, 9, id).await, 9).unwrap()
}

async fn fetch(socket: &mut Socket, session: (i32, i32), offset: i64) -> FetchResponse {
    let partition = FetchPartition {
        index: 0,
        current_leader_epoch: -1,
        fetch_offset: offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1 << 20,
    };
    let request = FetchRequest {
        max_wait_ms: 30_000,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id: session.0,
        session_epoch: session.1,
        topics: vec![FetchTopic { topic: TopicRef::Name("t".into()), partitions: vec![partition] }],
        ..FetchRequest::default()
    };
    let id = socket.send(ApiKey::Fetch, 12, vec![request.encode(12).unwrap()]).await;
    FetchResponse::decode(socket.receive_body(ApiKey::Fetch, 12, id).await, 12).unwrap()
}

async fn ask_versions(socket: &mut Socket) -> ApiVersionsResponse {
    socket.ask(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_produces_too_much_is_told_and_not_read() {
    let rates = Rates { producer_byte_rate: Some(1.0), consumer_byte_rate: None };
    let rig = limited(10_000, rates).await;
    let mut socket = Socket::connect(&rig).await;
    let answer = produce(&mut socket, 10_000).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0, "what was sent is taken");
    assert!(answer.throttle_time_ms >= 3_600_000, "10,000 s are cut to an hour: {}", answer.throttle_time_ms);
    // An hour has not passed, so this cannot be answered yet, however slow the machine is.
    let silence = tokio::time::timeout(Duration::from_millis(100), ask_versions(&mut socket)).await;
    assert!(silence.is_err(), "a muted connection was read");
    let mut other = Socket::connect(&rig).await;
    ask_versions(&mut other).await;
    let text = rig.broker.context().metrics.encode();
    assert!(
        text.contains(r#"highwater_throttle_seconds_total{quota="produce",client_id="socket-test"} 3600"#),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_muted_connection_is_read_again_when_its_time_is_over() {
    let rates = Rates { producer_byte_rate: Some(100_000.0), consumer_byte_rate: None };
    let rig = limited(1, rates).await;
    let mut socket = Socket::connect(&rig).await;
    let start = Instant::now();
    let answer = produce(&mut socket, 20_000).await;
    assert!((100..=300).contains(&answer.throttle_time_ms), "{}", answer.throttle_time_ms);
    ask_versions(&mut socket).await;
    assert!(start.elapsed() >= Duration::from_millis(answer.throttle_time_ms as u64 - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fetches_too_much_gets_nothing_until_it_may() {
    let rates = Rates { producer_byte_rate: None, consumer_byte_rate: Some(20_000.0) };
    // A bucket of 10,000 bytes: one of the batches fits, a second one has to wait.
    let rig = limited(500, rates).await;
    let mut socket = Socket::connect(&rig).await;
    for _ in 0..3 {
        assert_eq!(produce(&mut socket, 9000).await.throttle_time_ms, 0);
    }
    let began = Instant::now();
    let first = fetch(&mut socket, (0, 0), 0).await;
    assert_eq!((first.throttle_time_ms, first.topics.len()), (0, 1));
    assert!(first.topics[0].partitions[0].records_bytes() < 10_000, "one batch, as the window says");
    let mut asked = 0;
    let second = loop {
        let answer = fetch(&mut socket, (first.session_id, 1 + asked), 1).await;
        if answer.throttle_time_ms == 0 {
            break answer;
        }
        assert!(answer.topics.is_empty() && answer.session_id == first.session_id);
        asked += 1;
    };
    // Of 10,000 bytes 9,000 are spent, and 20,000 a second come back.
    assert!(began.elapsed() >= Duration::from_millis(390), "the second batch was not waited for");
    assert!(asked > 0 || began.elapsed() >= Duration::from_millis(400));
    assert_eq!(second.topics[0].partitions[0].error_code, 0);
    assert!(second.topics[0].partitions[0].records_bytes() > 9000);

    let full = loop {
        let answer = fetch(&mut socket, (0, 0), 0).await;
        if answer.throttle_time_ms > 0 {
            break answer;
        }
    };
    assert!(full.topics.is_empty() && full.session_id == 0, "a full fetch that is held up has no session");
}
