//! The consumer against the broker that `HIGHWATER_TEST_BOOTSTRAP` names; `tests/test_log_client.py` runs
//! these against Highwater and Apache Kafka.

mod common;

use std::time::Duration;

use common::{client, consume, numbers, produce_numbers, unique_topic};
use log_client::consumer::{ConsumeError, ConsumerConfig, OffsetReset, OffsetSpec, StartAt};
use log_client::{Admin, Compression, Consumer, Producer, ProducerConfig, ProducerRecord, TopicPartition};

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn records_come_back_as_they_were_sent() {
    let client = client().await;
    for compression in Compression::ALL {
        let topic = unique_topic(&client, "roundtrip", 1).await;
        let producer = Producer::new(&client, ProducerConfig { compression, ..ProducerConfig::default() });
        let record =
            ProducerRecord::to(topic.clone()).key("key").value("value").timestamp_ms(1234).header("a", "1");
        let mut tombstone =
            ProducerRecord::to(topic.clone()).key(&b"\xff\x00"[..]).header("a", "2").header("a", "3");
        tombstone.timestamp_ms = Some(1235);
        drop(producer.send(record).await.unwrap());
        drop(producer.send(tombstone).await.unwrap());
        producer.flush().await.unwrap();

        let mut consumer = Consumer::new(&client, ConsumerConfig::default());
        consumer.assign([(TopicPartition::new(topic, 0), StartAt::Log(OffsetSpec::Earliest))]);
        let records = consume(&mut consumer, 2).await;
        assert_eq!((records[0].offset, records[0].timestamp_ms), (0, 1234));
        assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
        assert_eq!(records[0].value.as_deref(), Some(&b"value"[..]));
        assert_eq!(records[1].key.as_deref(), Some(&b"\xff\x00"[..]));
        assert_eq!((&records[1].value, records[1].headers.len()), (&None, 2));
        assert_eq!(records[1].headers[1].value.as_deref(), Some(&b"3"[..]));
    }
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn starts_at_offsets_and_at_times() {
    let client = client().await;
    let topic = unique_topic(&client, "seek", 2).await;
    produce_numbers(&client, &topic, 2, 0..1000).await;
    let partition = TopicPartition::new(topic, 1);
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    let first = |consumer: &mut Consumer, to| {
        consumer.assign([(partition.clone(), to)]);
    };
    // Partition 1 has the odd numbers: number 2n + 1 at offset n.
    for (to, number) in [
        (StartAt::Log(OffsetSpec::Earliest), 1),
        (StartAt::Offset(300), 601),
        (StartAt::Log(OffsetSpec::Time(1_000_000 + 600 * 1000)), 601),
        (StartAt::Log(OffsetSpec::Time(1_000_000 + 601 * 1000)), 601),
        (StartAt::Log(OffsetSpec::MaxTimestamp), 999),
    ] {
        first(&mut consumer, to);
        let records = consume(&mut consumer, 1).await;
        assert_eq!(numbers(&records)[&partition][0], number, "{to:?}");
    }
    // Later than every record, and at the end: nothing until something comes.
    for to in [StartAt::Log(OffsetSpec::Time(i64::MAX)), StartAt::Log(OffsetSpec::Latest)] {
        first(&mut consumer, to);
        assert!(consumer.poll(Duration::from_millis(300)).await.unwrap().is_empty());
        assert_eq!(consumer.position(&partition), Some(500), "{to:?}");
    }
    let listed = consumer.list_offsets(&[(partition.clone(), OffsetSpec::Latest)]).await.unwrap();
    assert_eq!(listed[&partition].offset, Some(500));
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn a_paused_partition_waits_and_a_seek_goes_back() {
    let client = client().await;
    let topic = unique_topic(&client, "pause", 2).await;
    produce_numbers(&client, &topic, 2, 0..100).await;
    let partitions: Vec<_> = (0..2).map(|number| TopicPartition::new(topic.clone(), number)).collect();
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    consumer.assign(partitions.iter().map(|p| (p.clone(), StartAt::Log(OffsetSpec::Earliest))));
    consumer.pause(&partitions[0]).unwrap();
    let records = consume(&mut consumer, 50).await;
    assert!(records.iter().all(|record| record.partition == 1));
    assert!(consumer.poll(Duration::from_millis(200)).await.unwrap().is_empty());
    consumer.resume(&partitions[0]).unwrap();
    assert!(consume(&mut consumer, 50).await.iter().all(|record| record.partition == 0));
    consumer.seek(&partitions[1], StartAt::Offset(40)).unwrap();
    let again = consume(&mut consumer, 10).await;
    assert_eq!(again.iter().map(|record| record.offset).collect::<Vec<_>>(), (40..50).collect::<Vec<_>>());
    let elsewhere = TopicPartition::new("elsewhere", 0);
    assert!(matches!(consumer.seek(&elsewhere, StartAt::Offset(0)), Err(ConsumeError::NotAssigned(_))));
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn an_offset_that_is_gone_is_reset_or_an_error() {
    let client = client().await;
    let topic = unique_topic(&client, "gone", 1).await;
    produce_numbers(&client, &topic, 1, 0..10).await;
    let partition = TopicPartition::new(topic, 0);
    assert_eq!(Admin::new(&client).delete_records(&partition, 5).await.unwrap(), 5);
    let config = |offset_reset| ConsumerConfig { offset_reset, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(&client, config(OffsetReset::Earliest));
    consumer.assign([(partition.clone(), StartAt::Offset(2))]);
    assert_eq!(numbers(&consume(&mut consumer, 5).await)[&partition], [5, 6, 7, 8, 9]);

    let mut consumer = Consumer::new(&client, config(OffsetReset::None));
    consumer.assign([(partition.clone(), StartAt::Offset(2))]);
    let error = consumer.poll(common::PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConsumeError::OffsetOutOfRange { offset: 2, .. }), "{error}");
    consumer.seek(&partition, StartAt::Offset(9)).unwrap();
    assert_eq!(consume(&mut consumer, 1).await[0].offset, 9);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn a_topic_that_comes_later_is_found() {
    let client = client().await;
    let topic = common::unique("later");
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    let partition = TopicPartition::new(topic.clone(), 0);
    consumer.assign([(partition, StartAt::Log(OffsetSpec::Earliest))]);
    assert!(consumer.poll(Duration::from_millis(200)).await.unwrap().is_empty());
    Admin::new(&client).create_topic(&log_client::admin::NewTopic::new(&*topic, 1), false).await.unwrap();
    produce_numbers(&client, &topic, 1, 0..3).await;
    assert_eq!(consume(&mut consumer, 3).await.len(), 3);
}
