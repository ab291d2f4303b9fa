//! Configurations of groups and of subscriptions to clients' metrics: shown, changed, listed, and what they do.

mod support;

use log_core::wire::messages::alter_configs_request::{
    AlterConfigsResource as Replaced, AlterableConfig as ReplacedEntry,
};
use log_core::wire::messages::describe_configs_request::DescribeConfigsResource;
use log_core::wire::messages::describe_configs_response::DescribeConfigsResult;
use log_core::wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource as Changed, AlterableConfig as ChangedEntry,
};
use log_core::wire::messages::{
    AlterConfigsRequest, ConsumerGroupHeartbeatRequest, DescribeConfigsRequest,
    GetTelemetrySubscriptionsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    PushTelemetryRequest,
};
use log_core::wire::{ApiKey, ErrorCode, Uuid, message};
use support::{Rig, call, start, start_with};

/// Kinds of resources.
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// Operations on a configuration.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

const SESSION: &str = "consumer.session.timeout.ms";
const INTERVAL: &str = "consumer.heartbeat.interval.ms";

async fn describe(rig: &Rig, version: i16, kind: i8, name: &str) -> DescribeConfigsResult {
    let resource = message!(DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: None,
    });
    let mut request = message!(DescribeConfigsRequest { resources: vec![resource], include_synonyms: true });
    request.include_documentation = version >= 3;
    call(rig, version, request).await.results.remove(0)
}

async fn change(rig: &Rig, version: i16, kind: i8, name: &str, changes: &[(&str, i8, &str)]) -> ErrorCode {
    let configs = changes.iter().map(|&(name, config_operation, value)| {
        message!(ChangedEntry { name: name.into(), config_operation, value: Some(value.into()) })
    });
    let resource =
        message!(Changed { resource_type: kind, resource_name: name.into(), configs: configs.collect() });
    let request = message!(IncrementalAlterConfigsRequest { resources: vec![resource] });
    call(rig, version, request).await.responses[0].error_code.into()
}

async fn replace(rig: &Rig, version: i16, kind: i8, name: &str, entries: &[(&str, &str)]) -> ErrorCode {
    let configs = entries
        .iter()
        .map(|&(name, value)| message!(ReplacedEntry { name: name.into(), value: Some(value.into()) }));
    let resource =
        message!(Replaced { resource_type: kind, resource_name: name.into(), configs: configs.collect() });
    let request = message!(AlterConfigsRequest { resources: vec![resource] });
    call(rig, version, request).await.responses[0].error_code.into()
}

/// What stands for a name, with its source.
fn value<'a>(result: &'a DescribeConfigsResult, name: &str) -> (&'a str, i8) {
    let entry = result.configs.iter().find(|entry| entry.name.as_str() == name).expect("that name");
    (entry.value.as_deref().expect("a value"), entry.config_source)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_s_timing_is_shown_with_its_sources_and_acts() {
    let rig = start_with(|config| config.group_consumer_session_timeout_ms = 30_000).await;
    for version in ApiKey::DescribeConfigs.served().iter() {
        let shown = describe(&rig, version, GROUP, "g").await;
        assert_eq!((shown.error_code, shown.configs.len()), (0, 6));
        assert_eq!(value(&shown, SESSION), ("30000", 4), "the broker's");
        assert_eq!(value(&shown, INTERVAL), ("5000", 5), "nobody's");
    }
    for version in ApiKey::IncrementalAlterConfigs.served().iter() {
        assert_eq!(change(&rig, version, GROUP, "g", &[(INTERVAL, SET, "1234")]).await, ErrorCode::None);
        let shown = describe(&rig, 4, GROUP, "g").await;
        assert_eq!(value(&shown, INTERVAL), ("1234", 8));
        let entry = &shown.configs[0];
        assert!(entry.documentation.is_some() && entry.synonyms.len() == 2, "its own, and the default");
        let enters = message!(ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: format!("m{version}").as_str().into(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec!["t".into()]),
            topic_partitions: Some(Vec::new()),
        });
        let answer = call(&rig, 1, enters.clone()).await;
        assert_eq!((answer.error_code, answer.heartbeat_interval_ms), (0, 1234));
        assert_eq!(change(&rig, version, GROUP, "g", &[(INTERVAL, DELETE, "")]).await, ErrorCode::None);
        assert_eq!(value(&describe(&rig, 4, GROUP, "g").await, INTERVAL), ("5000", 5));
        assert_eq!(call(&rig, 1, enters).await.heartbeat_interval_ms, 5000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_s_url_is_not_shown_to_who_reads_configurations() {
    let rig = start().await;
    let (name, url) = ("highwater.lag.objective.webhook", "http://hooks.internal/?token=secret");
    assert_eq!(change(&rig, 1, GROUP, "g", &[(name, SET, url)]).await, ErrorCode::None);
    for version in ApiKey::DescribeConfigs.served().iter() {
        let shown = describe(&rig, version, GROUP, "g").await;
        let entry = shown.configs.iter().find(|entry| entry.name.as_str() == name).expect("that name");
        assert!(entry.is_sensitive && entry.value.is_none(), "{entry:?}");
        assert!(!format!("{entry:?}").contains("secret"), "{entry:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_work_is_refused_and_changes_nothing() {
    let rig = start().await;
    let both = [(SESSION, SET, "6000"), ("share.session.timeout.ms", SET, "1")];
    for (kind, name, changes, expected) in [
        (GROUP, "", &[(SESSION, SET, "6000")][..], ErrorCode::InvalidRequest),
        (GROUP, "g", &both, ErrorCode::InvalidConfig),
        (GROUP, "g", &[(SESSION, SET, "soon")], ErrorCode::InvalidConfig),
        (GROUP, "g", &[(SESSION, SET, "5000")], ErrorCode::InvalidConfig),
        (GROUP, "g", &[(SESSION, APPEND, "5000")], ErrorCode::InvalidConfig),
        (CLIENT_METRICS, "", &[("metrics", SET, "*")], ErrorCode::InvalidRequest),
        (CLIENT_METRICS, "s", &[("interval.ms", SET, "99")], ErrorCode::InvalidConfig),
        (CLIENT_METRICS, "s", &[("match", SET, "client=x")], ErrorCode::InvalidConfig),
    ] {
        assert_eq!(change(&rig, 1, kind, name, changes).await, expected, "{name} {changes:?}");
    }
    for version in ApiKey::AlterConfigs.served().iter() {
        let refused = replace(&rig, version, GROUP, "g", &[(SESSION, "0")]).await;
        assert_eq!(refused, ErrorCode::InvalidConfig);
        assert_eq!(replace(&rig, version, GROUP, "g", &[(SESSION, "7000")]).await, ErrorCode::None);
        assert_eq!(replace(&rig, version, GROUP, "g", &[]).await, ErrorCode::None);
    }
    let listed = call(&rig, 1, message!(ListConfigResourcesRequest { resource_types: vec![16, 32] })).await;
    assert!(listed.config_resources.is_empty(), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_says_what_the_clients_that_match_it_push() {
    let rig = start_with(|config| config.telemetry_metrics = String::new()).await;
    let ask = |instance| message!(GetTelemetrySubscriptionsRequest { client_instance_id: instance });
    let asked = call(&rig, 0, ask(Uuid::ZERO)).await;
    assert!(asked.requested_metrics.is_empty());

    let set = [("metrics", SET, "org.a"), ("interval.ms", SET, "1000"), ("match", SET, "client_id=te.*")];
    assert_eq!(change(&rig, 1, CLIENT_METRICS, "s", &set).await, ErrorCode::None);
    assert_eq!(change(&rig, 1, CLIENT_METRICS, "s", &[("metrics", APPEND, "org.b")]).await, ErrorCode::None);
    let others = [("metrics", SET, "*"), ("match", SET, "client_id=other")];
    assert_eq!(change(&rig, 1, CLIENT_METRICS, "others", &others).await, ErrorCode::None);
    assert_eq!(value(&describe(&rig, 4, CLIENT_METRICS, "s").await, "metrics"), ("org.a,org.b", 7));
    assert_eq!(value(&describe(&rig, 4, CLIENT_METRICS, "s").await, "match"), ("client_id=te.*", 7));
    let listed = call(&rig, 0, ListConfigResourcesRequest::default()).await;
    let names: Vec<&str> = listed.config_resources.iter().map(|found| found.resource_name.as_str()).collect();
    assert_eq!(names, ["others", "s"]);

    // A client that was told otherwise learns of it when it pushes, and may ask again at once.
    let push = message!(PushTelemetryRequest {
        client_instance_id: asked.client_instance_id,
        subscription_id: asked.subscription_id,
    });
    let refused = call(&rig, 0, push).await;
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::UnknownSubscriptionId);
    let again = call(&rig, 0, ask(asked.client_instance_id)).await;
    assert_eq!((again.error_code, again.push_interval_ms), (0, 1000));
    let metrics: Vec<&str> = again.requested_metrics.iter().map(|prefix| prefix.as_str()).collect();
    assert_eq!(metrics, ["org.a", "org.b"]);
    let fewer = [("metrics", SUBTRACT, "org.a")];
    assert_eq!(change(&rig, 1, CLIENT_METRICS, "s", &fewer).await, ErrorCode::None);
    assert_eq!(call(&rig, 0, ask(Uuid::ZERO)).await.requested_metrics.len(), 1);
}
