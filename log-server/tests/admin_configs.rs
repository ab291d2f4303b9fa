//! The handlers that show and change configurations, each version walked.

mod support;

use log_core::record::{Compression, TimestampType};
use log_core::wire::messages::alter_configs_request::{
    AlterConfigsResource as Replaced, AlterableConfig as ReplacedEntry,
};
use log_core::wire::messages::create_topics_request::CreatableTopic;
use log_core::wire::messages::describe_configs_request::DescribeConfigsResource;
use log_core::wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use log_core::wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource as Changed, AlterableConfig as ChangedEntry,
};
use log_core::wire::messages::{
    AlterConfigsRequest, CreateTopicsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};
use log_core::wire::{ApiKey, ErrorCode, message};

use log_server::BrokerConfig;
use support::{Rig, call, start, start_with};

/// Kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Operations on a configuration.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

async fn broker_with_topic() -> Rig {
    // With the retention that a broker has by default.
    let test = start_with(|config| config.retention_ms = BrokerConfig::default().retention_ms).await;
    let topic = message!(CreatableTopic { name: "t".into(), num_partitions: 2, replication_factor: 1 });
    let response = call(&test, 7, message!(CreateTopicsRequest { topics: vec![topic] })).await;
    assert_eq!(response.topics[0].error_code, 0);
    test
}

async fn describe(
    test: &Rig,
    version: i16,
    resource_type: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let configuration_keys = keys.map(|keys| keys.iter().map(|&key| key.into()).collect());
    let resource_name = name.into();
    let resource = message!(DescribeConfigsResource { resource_type, resource_name, configuration_keys });
    let mut request = message!(DescribeConfigsRequest { resources: vec![resource], include_synonyms: true });
    request.include_documentation = version >= 3;
    call(test, version, request).await.results.remove(0)
}

fn entry<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    result.configs.iter().find(|config| config.name.as_str() == name).unwrap_or_else(|| panic!("no {name}"))
}

fn value<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a str {
    entry(result, name).value.as_deref().expect("a value")
}

async fn change(
    test: &Rig,
    version: i16,
    validate_only: bool,
    changes: &[(&str, i8, Option<&str>)],
) -> ErrorCode {
    let configs = changes.iter().map(|&(name, config_operation, value)| {
        message!(ChangedEntry { name: name.into(), config_operation, value: value.map(Into::into) })
    });
    let resource =
        message!(Changed { resource_type: TOPIC, resource_name: "t".into(), configs: configs.collect() });
    let request = message!(IncrementalAlterConfigsRequest { resources: vec![resource], validate_only });
    call(test, version, request).await.responses[0].error_code.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_show_everything_with_sources_types_and_synonyms() {
    let test = broker_with_topic().await;
    assert_eq!(change(&test, 1, false, &[("retention.ms", SET, Some("1000"))]).await, ErrorCode::None);
    for version in ApiKey::DescribeConfigs.served().iter() {
        let result = describe(&test, version, TOPIC, "t", None).await;
        assert_eq!(result.error_code, 0);
        assert!(result.configs.iter().all(|config| config.config_source > 0 && !config.synonyms.is_empty()));
        let retention = entry(&result, "retention.ms");
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
        let sources: Vec<i8> = retention.synonyms.iter().map(|synonym| synonym.source).collect();
        assert_eq!(sources, [1, 5]);
        assert_eq!(retention.synonyms[1].name.as_str(), "log.retention.ms");
        assert_eq!(entry(&result, "segment.bytes").config_source, 5);
        assert!(!retention.read_only && !retention.is_sensitive);
        if version >= 3 {
            assert_eq!(retention.config_type, 5, "a long");
            assert!(result.configs.iter().all(|config| config.documentation.is_some()));
        }
        let one = describe(&test, version, TOPIC, "t", Some(&["segment.ms", "nonsense"])).await;
        assert_eq!(one.configs.len(), 1);
        let unknown = describe(&test, version, TOPIC, "x", None).await;
        assert_eq!(unknown.error_code, ErrorCode::UnknownTopicOrPartition.code());
        assert!(unknown.configs.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_shows_what_clients_look_for() {
    let test = start_with(|config| {
        config.partitions_default = 7;
        config.retention_ms = 5000;
    })
    .await;
    let node = test.broker.context().config.node_id.to_string();
    for version in ApiKey::DescribeConfigs.served().iter() {
        let result = describe(&test, version, BROKER, &node, None).await;
        assert_eq!(value(&result, "num.partitions"), "7");
        assert_eq!(value(&result, "auto.create.topics.enable"), "true");
        assert_eq!(value(&result, "message.max.bytes"), "1048588");
        let port = test.broker.kafka_addr().port().to_string();
        assert!(value(&result, "advertised.listeners").ends_with(&port));
        assert_eq!(entry(&result, "num.partitions").config_source, 4);
        assert!(result.configs.iter().all(|config| config.config_source > 0));
        let changeable = result.configs.iter().filter(|config| !config.read_only);
        let changeable: Vec<&str> = changeable.map(|config| config.name.as_str()).collect();
        let expected = [
            "compression.type",
            "log.message.timestamp.after.max.ms",
            "log.message.timestamp.before.max.ms",
            "log.message.timestamp.type",
            "log.retention.bytes",
            "log.retention.ms",
            "log.roll.ms",
            "log.segment.bytes",
            "max.connections",
            "message.max.bytes",
        ];
        assert_eq!(changeable, expected);

        assert_eq!(describe(&test, version, BROKER, "", None).await.configs.len(), 0);
        let wrong = describe(&test, version, BROKER, "99", None).await;
        assert_eq!(wrong.error_code, ErrorCode::InvalidRequest.code());
        let unknown = describe(&test, version, 77, "x", None).await;
        assert_eq!(unknown.error_code, ErrorCode::InvalidRequest.code());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_entries_change_and_act_at_once() {
    let test = broker_with_topic().await;
    for version in ApiKey::IncrementalAlterConfigs.served().iter() {
        let set = [("max.message.bytes", SET, Some("2000")), ("min.insync.replicas", SET, Some("2"))];
        assert_eq!(change(&test, version, true, &set).await, ErrorCode::None);
        assert!(test.broker.context().catalog.get("t").unwrap().config.is_empty(), "only validated");
        assert_eq!(change(&test, version, false, &set).await, ErrorCode::None);
        let partition = test.broker.context().partitions.get("t", 1).unwrap();
        assert_eq!(partition.log().config().max_message_bytes, 2000);

        let throttled = "leader.replication.throttled.replicas";
        assert_eq!(
            change(&test, version, false, &[(throttled, APPEND, Some("0:1, 1:1"))]).await,
            ErrorCode::None
        );
        assert_eq!(
            change(&test, version, false, &[(throttled, SUBTRACT, Some("0:1"))]).await,
            ErrorCode::None
        );
        assert_eq!(test.broker.context().catalog.get("t").unwrap().config[throttled], "1:1");

        for (changes, error) in [
            (vec![("nonsense", SET, Some("1"))], ErrorCode::InvalidConfig),
            (vec![("retention.ms", SET, Some("x"))], ErrorCode::InvalidConfig),
            (vec![("retention.ms", SET, None)], ErrorCode::InvalidConfig),
            (vec![("cleanup.policy", SET, Some("burn"))], ErrorCode::InvalidConfig),
            (vec![("cleanup.policy", APPEND, Some("burn"))], ErrorCode::InvalidConfig),
            (vec![("cleanup.policy", SUBTRACT, Some("delete"))], ErrorCode::InvalidConfig),
            (vec![("retention.ms", APPEND, Some("1"))], ErrorCode::InvalidConfig),
            (vec![("retention.ms", 9, Some("1"))], ErrorCode::InvalidRequest),
            (
                vec![("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)],
                ErrorCode::InvalidRequest,
            ),
            (vec![("segment.ms", SET, Some("1")), ("nonsense", SET, Some("1"))], ErrorCode::InvalidConfig),
        ] {
            assert_eq!(change(&test, version, false, &changes).await, error, "{changes:?}");
            assert_eq!(change(&test, version, true, &changes).await, error, "{changes:?}");
        }
        assert!(
            !test.broker.context().catalog.get("t").unwrap().config.contains_key("segment.ms"),
            "all or nothing"
        );

        let delete = ["max.message.bytes", "min.insync.replicas", throttled].map(|name| (name, DELETE, None));
        assert_eq!(change(&test, version, false, &delete).await, ErrorCode::None);
        assert!(test.broker.context().catalog.get("t").unwrap().config.is_empty());
        assert_eq!(partition.log().config().max_message_bytes, 1_048_588);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_configurations_are_replaced() {
    let test = broker_with_topic().await;
    for version in ApiKey::AlterConfigs.served().iter() {
        let resource = |resource_type: i8, name: &str, entries: &[(&str, &str)]| {
            let configs = entries.iter().map(|&(name, value)| {
                message!(ReplacedEntry { name: name.into(), value: Some(value.into()) })
            });
            message!(Replaced { resource_type, resource_name: name.into(), configs: configs.collect() })
        };
        let request = message!(AlterConfigsRequest {
            resources: vec![
                resource(TOPIC, "t", &[("retention.ms", "5"), ("segment.ms", "6")]),
                resource(TOPIC, "x", &[]),
                resource(BROKER, "1", &[("num.partitions", "5")]),
            ],
        });
        let response = call(&test, version, request).await;
        let errors: Vec<ErrorCode> =
            response.responses.iter().map(|result| result.error_code.into()).collect();
        assert_eq!(errors, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidRequest]);
        assert_eq!(test.broker.context().catalog.get("t").unwrap().config.len(), 2);

        let entries = [("retention.ms", "7")];
        let twice = vec![resource(TOPIC, "t", &entries), resource(TOPIC, "t", &entries)];
        let response = call(&test, version, message!(AlterConfigsRequest { resources: twice })).await;
        assert!(
            response.responses.iter().all(|result| result.error_code == ErrorCode::InvalidRequest.code())
        );

        let one = vec![resource(TOPIC, "t", &entries)];
        call(&test, version, message!(AlterConfigsRequest { resources: one })).await;
        let config = &test.broker.context().catalog.get("t").unwrap().config;
        assert_eq!(config.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), entries);
    }
}

async fn change_broker(
    test: &Rig,
    name: &str,
    validate_only: bool,
    changes: &[(&str, i8, Option<&str>)],
) -> ErrorCode {
    let configs = changes.iter().map(|&(name, config_operation, value)| {
        message!(ChangedEntry { name: name.into(), config_operation, value: value.map(Into::into) })
    });
    let resource =
        message!(Changed { resource_type: BROKER, resource_name: name.into(), configs: configs.collect() });
    let request = message!(IncrementalAlterConfigsRequest { resources: vec![resource], validate_only });
    call(test, 1, request).await.responses[0].error_code.into()
}

/// Value, source and synonyms (name and source) of an entry.
fn standing<'a>(result: &'a DescribeConfigsResult, name: &str) -> (&'a str, i8, Vec<(&'a str, i8)>) {
    let entry = entry(result, name);
    let synonyms = entry.synonyms.iter().map(|synonym| (synonym.name.as_str(), synonym.source)).collect();
    (entry.value.as_deref().unwrap(), entry.config_source, synonyms)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_s_settings_change_while_it_runs() {
    let test = broker_with_topic().await;
    let node = test.broker.context().config.node_id.to_string();
    let retention = |value| ("log.retention.ms", SET, Some(value));
    assert_eq!(change_broker(&test, "", true, &[retention("1")]).await, ErrorCode::None);
    assert_eq!(change_broker(&test, "", false, &[retention("5000")]).await, ErrorCode::None);
    assert_eq!(change_broker(&test, &node, false, &[retention("7000")]).await, ErrorCode::None);
    let partition = test.broker.context().partitions.get("t", 0).unwrap();
    assert_eq!(partition.config().retention_ms, 7000, "logs that are open run with it");

    let broker = [("log.retention.ms", 2), ("log.retention.ms", 3), ("log.retention.ms", 5)];
    let shown = describe(&test, 4, BROKER, &node, None).await;
    assert_eq!(standing(&shown, "log.retention.ms"), ("7000", 2, broker.to_vec()));
    assert!(!entry(&shown, "log.retention.ms").read_only && entry(&shown, "num.partitions").read_only);
    let shown = describe(&test, 4, BROKER, "", None).await;
    assert_eq!(shown.configs.len(), 1);
    assert_eq!(standing(&shown, "log.retention.ms"), ("5000", 3, vec![("log.retention.ms", 3)]));
    let shown = describe(&test, 4, TOPIC, "t", None).await;
    assert_eq!(standing(&shown, "retention.ms"), ("7000", 2, broker.to_vec()));
    assert_eq!(change(&test, 1, false, &[("retention.ms", SET, Some("9"))]).await, ErrorCode::None);
    let shown = describe(&test, 4, TOPIC, "t", None).await;
    let with_own = [&[("retention.ms", 1)], &broker[..]].concat();
    assert_eq!(standing(&shown, "retention.ms"), ("9", 1, with_own));
    assert_eq!(partition.config().retention_ms, 9);
    assert_eq!(change(&test, 1, false, &[("retention.ms", DELETE, None)]).await, ErrorCode::None);

    let Rig { broker, dir } = test;
    drop(partition);
    let config = broker.context().config.as_ref().clone();
    broker.shutdown().await;
    let test = Rig { broker: log_server::Broker::start(config).await.unwrap(), dir };
    let partition = test.broker.context().partitions.get("t", 0).unwrap();
    assert_eq!(partition.config().retention_ms, 7000, "it outlives a restart");
    assert_eq!(
        change_broker(&test, &node, false, &[("log.retention.ms", DELETE, None)]).await,
        ErrorCode::None
    );
    assert_eq!(partition.config().retention_ms, 5000);
    assert_eq!(change_broker(&test, "", false, &[("log.retention.ms", DELETE, None)]).await, ErrorCode::None);
    assert_eq!(partition.config().retention_ms, 604_800_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_topics_do_not_set_of_batches_is_the_broker_s() {
    let test = broker_with_topic().await;
    let set = [
        ("compression.type", SET, Some("zstd")),
        ("log.message.timestamp.type", SET, Some("LogAppendTime")),
        ("log.message.timestamp.before.max.ms", SET, Some("5")),
        ("log.message.timestamp.after.max.ms", SET, Some("6")),
    ];
    assert_eq!(change_broker(&test, "", false, &set).await, ErrorCode::None);
    let config = test.broker.context().partitions.get("t", 0).unwrap().config();
    assert_eq!(config.compression_type, Some(Compression::Zstd));
    assert_eq!(config.timestamp_type, TimestampType::LogAppendTime);
    assert_eq!((config.timestamp_before_max_ms, config.timestamp_after_max_ms), (5, 6));
    let shown = describe(&test, 4, TOPIC, "t", None).await;
    let kind = "log.message.timestamp.type";
    assert_eq!(standing(&shown, "message.timestamp.type"), ("LogAppendTime", 3, vec![(kind, 3), (kind, 5)]));
    assert_eq!(
        change(&test, 1, false, &[("compression.type", SET, Some("producer"))]).await,
        ErrorCode::None
    );
    assert_eq!(test.broker.context().partitions.get("t", 0).unwrap().config().compression_type, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_cannot_change_is_refused_by_name() {
    let test = start().await;
    let node = test.broker.context().config.node_id.to_string();
    for (name, change, expected) in [
        (node.as_str(), ("num.partitions", SET, Some("3")), ErrorCode::InvalidRequest),
        (&node, ("no.such.config", SET, Some("3")), ErrorCode::InvalidRequest),
        (&node, ("log.retention.ms", SET, Some("soon")), ErrorCode::InvalidRequest),
        (&node, ("log.retention.ms", SET, None), ErrorCode::InvalidRequest),
        (&node, ("log.retention.ms", APPEND, Some("3")), ErrorCode::InvalidConfig),
        (&node, ("message.max.bytes", SET, Some("2000000000")), ErrorCode::InvalidRequest),
        (&node, ("log.message.timestamp.type", SET, Some("Never")), ErrorCode::InvalidRequest),
        ("99", ("log.retention.ms", SET, Some("3")), ErrorCode::InvalidRequest),
        // As kafka-reassign-partitions does when it is done.
        (&node, ("leader.replication.throttled.rate", DELETE, None), ErrorCode::None),
    ] {
        assert_eq!(change_broker(&test, name, false, &[change]).await, expected, "{name} {change:?}");
    }
}
