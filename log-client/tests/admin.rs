//! Topics and settings against the broker that `HIGHWATER_TEST_BOOTSTRAP` names; `tests/test_log_client.py` runs
//! these against Highwater and Apache Kafka.

mod common;

use std::time::Duration;

use common::{client, produce_numbers, unique};
use log_client::admin::{ConfigChange, ConfigResource, ConfigSource, NewTopic};
use log_client::{Admin, ErrorCode, OffsetSpec, TopicPartition};

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn a_topic_from_creation_to_deletion() {
    let client = client().await;
    let (admin, name) = (Admin::new(&client), unique("topic"));
    let topic = NewTopic::new(&*name, 2).config("retention.ms", "100000");
    admin.create_topic(&topic, true).await.unwrap();
    assert!(admin.describe_topic(&name).await.is_err(), "it was only asked whether");
    assert_eq!(admin.create_topic(&topic, false).await.unwrap().partitions, 2);
    let error = admin.create_topic(&topic, false).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
    assert!(error.to_string().contains(&*name), "{error}");

    admin.create_partitions(&name, 5).await.unwrap();
    assert_eq!(
        admin.create_partitions(&name, 3).await.unwrap_err().code(),
        Some(ErrorCode::InvalidPartitions)
    );
    // Kafka answers before all that describe a topic know of it.
    while admin.describe_topic(&name).await.unwrap().partitions.len() < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(admin.describe_topic(&name).await.unwrap().partitions.len(), 5);
    assert!(admin.list_topics().await.unwrap().iter().any(|topic| topic.name == name));
    admin.delete_topic(&name).await.unwrap();
    let gone = admin.delete_topic(&name).await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn settings_are_read_changed_and_reset() {
    let client = client().await;
    let (admin, name) = (Admin::new(&client), unique("settings"));
    admin.create_topic(&NewTopic::new(&*name, 1), false).await.unwrap();
    let resource = ConfigResource::Topic(name.to_string());
    let segment_ms = async || {
        let entries = admin.describe_configs(&resource).await.unwrap();
        entries.into_iter().find(|entry| entry.name == "segment.ms").unwrap()
    };
    assert_eq!(segment_ms().await.source, ConfigSource::Default);
    let set = [("segment.ms".to_owned(), ConfigChange::Set("123456".to_owned()))];
    admin.alter_configs(&resource, &set).await.unwrap();
    assert_eq!(
        (segment_ms().await.value.as_deref(), segment_ms().await.source),
        (Some("123456"), ConfigSource::Topic)
    );
    let bad = [("segment.ms".to_owned(), ConfigChange::Set("soon".to_owned()))];
    assert_eq!(
        admin.alter_configs(&resource, &bad).await.unwrap_err().code(),
        Some(ErrorCode::InvalidConfig)
    );
    admin.alter_configs(&resource, &[("segment.ms".to_owned(), ConfigChange::Reset)]).await.unwrap();
    assert_eq!(segment_ms().await.source, ConfigSource::Default);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn deleted_records_move_the_first_offset() {
    let client = client().await;
    let name = common::unique_topic(&client, "records", 1).await;
    produce_numbers(&client, &name, 1, 0..10).await;
    let (admin, partition) = (Admin::new(&client), TopicPartition::new(name, 0));
    let earliest = async || {
        let answers = admin.list_offsets(&[(partition.clone(), OffsetSpec::Earliest)]).await;
        answers[0].1.as_ref().unwrap().offset
    };
    assert_eq!(earliest().await, Some(0));
    assert_eq!(admin.delete_records(&partition, 4).await.unwrap(), 4);
    assert_eq!(earliest().await, Some(4));
    let past = admin.delete_records(&partition, 11).await.unwrap_err();
    assert_eq!(past.code(), Some(ErrorCode::OffsetOutOfRange));
    assert_eq!(admin.delete_records(&partition, -1).await.unwrap(), 10);
}
