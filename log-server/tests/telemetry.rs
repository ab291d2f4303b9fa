//! Metrics that clients push: asked for and taken by request values, shown over HTTP by `telemetry`'s own tests.

mod support;

use std::time::Duration;

use bytes::Bytes;
use log_core::record::Compression;
use log_core::wire::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, ListConfigResourcesRequest,
    PushTelemetryRequest,
};
use log_core::wire::{ApiKey, ErrorCode, Uuid, message};
use log_server::topic::NewTopic;
use support::{Rig, call, start, start_with};

/// MetricsData of one gauge, `org.apache.kafka.test.count`, that is 3.
fn payload() -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }
    let point = [&[4 << 3 | 1], &3.0_f64.to_bits().to_le_bytes()[..]].concat();
    let metric = [field(1, b"org.apache.kafka.test.count"), field(5, &field(1, &point))].concat();
    field(1, &field(2, &field(2, &metric)))
}

async fn ask(rig: &Rig, instance: Uuid) -> GetTelemetrySubscriptionsResponse {
    call(rig, 0, message!(GetTelemetrySubscriptionsRequest { client_instance_id: instance })).await
}

async fn push(
    rig: &Rig,
    asked: &GetTelemetrySubscriptionsResponse,
    codec: i8,
    metrics: Vec<u8>,
) -> ErrorCode {
    let request = message!(PushTelemetryRequest {
        client_instance_id: asked.client_instance_id,
        subscription_id: asked.subscription_id,
        compression_type: codec,
        metrics: Bytes::from(metrics),
    });
    call(rig, 0, request).await.error_code.into()
}

fn shown(rig: &Rig) -> String {
    let mut text = String::new();
    log_server::telemetry::append_metrics(&mut text, &rig.broker.context().telemetry);
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_with_any_codec_is_shown() {
    let rig = start().await;
    let asked = ask(&rig, Uuid::ZERO).await;
    assert_eq!((asked.error_code, asked.push_interval_ms), (0, 60_000));
    assert!(asked.client_instance_id != Uuid::ZERO && !asked.delta_temporality);
    assert_eq!(asked.requested_metrics.len(), 1, "one empty prefix asks for all");
    assert!(asked.requested_metrics[0].is_empty());
    assert_eq!(asked.accepted_compression_types, [4, 3, 1, 2]);
    for codec in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let asked = ask(&rig, Uuid::ZERO).await;
        let metrics = codec.compress(&payload());
        assert_eq!(push(&rig, &asked, codec.id() as i8, metrics).await, ErrorCode::None, "{codec:?}");
        let instance = uuid::Uuid::from_bytes(asked.client_instance_id.to_bytes());
        let line = format!(
            "highwater_client_test_count{{client_id=\"test\",client_instance_id=\"{instance}\"}} 3\n"
        );
        assert!(shown(&rig).contains(&line), "{}", shown(&rig));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_are_refused_as_kip_714_says() {
    let rig = start().await;
    let asked = ask(&rig, Uuid::ZERO).await;
    let again = ask(&rig, asked.client_instance_id).await;
    assert_eq!(ErrorCode::from(again.error_code), ErrorCode::ThrottlingQuotaExceeded);
    assert_eq!(again.push_interval_ms, 60_000, "it is told when to come back");
    assert_eq!(push(&rig, &asked, 0, payload()).await, ErrorCode::None);
    assert_eq!(push(&rig, &asked, 0, payload()).await, ErrorCode::ThrottlingQuotaExceeded);

    let nobody = GetTelemetrySubscriptionsResponse::default();
    assert_eq!(push(&rig, &nobody, 0, payload()).await, ErrorCode::InvalidRequest);
    for (codec, metrics, expected) in [
        (9, payload(), ErrorCode::UnsupportedCompressionType),
        (-1, payload(), ErrorCode::UnsupportedCompressionType),
        (0, vec![0; (1 << 20) + 1], ErrorCode::TelemetryTooLarge),
        (4, Compression::Zstd.compress(&vec![0; 5 << 20]), ErrorCode::TelemetryTooLarge),
        (0, vec![0xff; 10], ErrorCode::InvalidRecord),
        (1, vec![0xff; 10], ErrorCode::InvalidRecord),
    ] {
        let asked = ask(&rig, Uuid::ZERO).await;
        assert_eq!(push(&rig, &asked, codec, metrics).await, expected, "codec {codec}");
    }
    let mut other = ask(&rig, Uuid::ZERO).await;
    other.subscription_id ^= 1;
    assert_eq!(push(&rig, &other, 0, payload()).await, ErrorCode::UnknownSubscriptionId);
    assert_eq!(ask(&rig, other.client_instance_id).await.error_code, 0, "to be asked again at once");

    let last = |terminating| {
        message!(PushTelemetryRequest {
            client_instance_id: asked.client_instance_id,
            subscription_id: asked.subscription_id,
            terminating,
            metrics: Bytes::from(payload()),
        })
    };
    assert_eq!(call(&rig, 0, last(true)).await.error_code, 0, "before the interval is over");
    let more = call(&rig, 0, last(true)).await.error_code;
    assert_eq!(ErrorCode::from(more), ErrorCode::InvalidRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_say_what_is_asked_for_and_of_how_many() {
    let rig = start_with(|config| {
        config.telemetry_metrics = "org.apache.kafka.producer, org.apache.kafka.consumer".to_owned();
        config.telemetry_push_interval_ms = 5000;
        config.telemetry_clients_max = 1;
    })
    .await;
    let asked = ask(&rig, Uuid::ZERO).await;
    let prefixes: Vec<&str> = asked.requested_metrics.iter().map(|prefix| prefix.as_str()).collect();
    assert_eq!(prefixes, ["org.apache.kafka.producer", "org.apache.kafka.consumer"]);
    assert_eq!(Duration::from_millis(asked.push_interval_ms as u64), Duration::from_secs(5));
    let second = ask(&rig, Uuid::ZERO).await;
    assert_eq!(ErrorCode::from(second.error_code), ErrorCode::ThrottlingQuotaExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_the_broker_have_configurations() {
    let rig = start().await;
    rig.broker.context().topics.create(vec![NewTopic::named("t")]).await.remove(0).unwrap();
    for version in ApiKey::ListConfigResources.served().iter() {
        let all = call(&rig, version, ListConfigResourcesRequest::default()).await;
        let listed: Vec<(i8, &str)> = match version {
            0 => vec![],
            _ => vec![(2, "t"), (4, "1")],
        };
        let found =
            all.config_resources.iter().map(|found| (found.resource_type, found.resource_name.as_str()));
        assert_eq!(found.collect::<Vec<_>>(), listed);
    }
    let topics = call(&rig, 1, message!(ListConfigResourcesRequest { resource_types: vec![2] })).await;
    assert_eq!(topics.config_resources.len(), 1);
    let strange = call(&rig, 1, message!(ListConfigResourcesRequest { resource_types: vec![7] })).await;
    assert_eq!(ErrorCode::from(strange.error_code), ErrorCode::UnsupportedVersion);
}
