//! Transactions against the broker that `HIGHWATER_TEST_BOOTSTRAP` names; `tests/test_log_client.py` runs these against
//! Highwater and Apache Kafka.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{client, consume, unique, unique_topic};
use log_client::consumer::{GroupConfig, OffsetReset, StartAt};
use log_client::{
    Client, CommittedOffset, Consumer, ConsumerConfig, GroupMember, IsolationLevel, OffsetSpec, Producer,
    ProducerConfig, ProducerRecord, TopicPartition, TransactionError,
};

fn config(transactional_id: &str) -> ProducerConfig {
    ProducerConfig { transactional_id: Some(transactional_id.to_owned()), ..ProducerConfig::default() }
}

async fn producer(client: &Client, transactional_id: &str) -> Producer {
    let producer = Producer::new(client, config(transactional_id));
    producer.init_transactions().await.unwrap();
    producer
}

async fn send(producer: &Producer, topic: &Arc<str>, values: &[&str]) {
    for (value, number) in values.iter().zip(0..) {
        let record = ProducerRecord::to(topic.clone()).partition(number % 2).value(value.to_string());
        drop(producer.send(record).await.unwrap());
    }
}

/// Everything that a reader sees of both partitions, sorted. What ends the reading is a record of an ordinary producer
/// at the end of each partition.
async fn read(client: &Client, topic: &Arc<str>, isolation: IsolationLevel) -> Vec<String> {
    let marks = Producer::new(client, ProducerConfig::default());
    for partition in 0..2 {
        let mark = ProducerRecord::to(topic.clone()).partition(partition).key("mark").value("mark");
        drop(marks.send(mark).await.unwrap());
    }
    marks.close().await.unwrap();
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    let first = StartAt::Log(OffsetSpec::Earliest);
    consumer
        .assign((0..2).map(|number| (TopicPartition::new(topic.clone(), number), first)).collect::<Vec<_>>());
    // The ends of the log, whatever is still open before them: a commit is answered before its markers are written.
    let ends: Vec<_> =
        (0..2).map(|it| (TopicPartition::new(topic.clone(), it), OffsetSpec::Latest)).collect();
    let ends = Consumer::new(client, ConsumerConfig::default()).list_offsets(&ends).await.unwrap();
    let mut values = Vec::new();
    let is_done = |consumer: &Consumer| {
        ends.iter()
            .all(|(at, end)| consumer.position(at).is_some_and(|position| Some(position) >= end.offset))
    };
    while !is_done(&consumer) {
        for record in consume(&mut consumer, 1).await {
            if record.key.is_none() {
                values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            }
        }
    }
    values.sort();
    values
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn what_is_committed_is_seen_and_what_is_aborted_is_not() {
    let client = client().await;
    let topic = unique_topic(&client, "transactions", 2).await;
    let producer = producer(&client, &unique("id")).await;
    for (values, is_committed) in [(["a", "b"], true), (["c", "d"], false), (["e", "f"], true)] {
        producer.begin_transaction().unwrap();
        send(&producer, &topic, &values).await;
        if is_committed {
            producer.commit_transaction().await.unwrap();
        } else {
            producer.flush().await.unwrap();
            producer.abort_transaction().await.unwrap();
        }
    }
    // Nothing in it: nothing to end.
    producer.begin_transaction().unwrap();
    producer.commit_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    producer.abort_transaction().await.unwrap();
    assert_eq!(read(&client, &topic, IsolationLevel::ReadCommitted).await, ["a", "b", "e", "f"]);
    assert_eq!(read(&client, &topic, IsolationLevel::ReadUncommitted).await, ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn records_that_were_not_sent_yet_are_given_up_with_their_transaction() {
    let client = client().await;
    let topic = unique_topic(&client, "given-up", 2).await;
    let lingering = ProducerConfig { linger: Duration::from_secs(3600), ..config(&unique("id")) };
    let producer = Producer::new(&client, lingering);
    producer.init_transactions().await.unwrap();
    producer.begin_transaction().unwrap();
    let delivery = producer.send(ProducerRecord::to(topic.clone()).partition(0).value("x")).await.unwrap();
    producer.abort_transaction().await.unwrap();
    let error = delivery.await.unwrap_err().to_string();
    assert!(error.contains("aborted"), "{error}");
    producer.begin_transaction().unwrap();
    send(&producer, &topic, &["y", "z"]).await;
    producer.commit_transaction().await.unwrap();
    assert_eq!(read(&client, &topic, IsolationLevel::ReadCommitted).await, ["y", "z"]);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn a_producer_that_was_replaced_is_fenced_and_its_transaction_aborted() {
    let client = client().await;
    let topic = unique_topic(&client, "fenced", 2).await;
    let id = unique("id");
    let old = producer(&client, &id).await;
    old.begin_transaction().unwrap();
    send(&old, &topic, &["old"]).await;
    old.flush().await.unwrap();
    let new = producer(&client, &id).await;
    new.begin_transaction().unwrap();
    send(&new, &topic, &["new"]).await;
    new.commit_transaction().await.unwrap();
    let error = old.commit_transaction().await.unwrap_err();
    assert!(matches!(error, TransactionError::Fenced(_)), "{error}");
    assert!(error.is_fatal() && error.to_string().contains("close this one"), "{error}");
    assert!(old.begin_transaction().unwrap_err().is_fatal(), "for good");
    assert_eq!(read(&client, &topic, IsolationLevel::ReadCommitted).await, ["new"]);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn offsets_are_committed_with_the_transaction_or_not_at_all() {
    let client = client().await;
    let topic = unique_topic(&client, "offsets", 2).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let group = unique("group");
    let producer = producer(&client, &unique("id")).await;
    let member = GroupMember::outsider(&*group);
    let consumer = Consumer::new(&client, ConsumerConfig::in_group(&*group));
    for (offset, is_committed, expected) in [(3, false, None), (5, true, Some(5)), (7, false, Some(5))] {
        producer.begin_transaction().unwrap();
        send(&producer, &topic, &["x"]).await;
        producer.send_offsets(&[(at.clone(), CommittedOffset::at(offset))], &member).await.unwrap();
        match is_committed {
            true => producer.commit_transaction().await.unwrap(),
            false => producer.abort_transaction().await.unwrap(),
        }
        let committed = consumer.committed(std::slice::from_ref(&at)).await.unwrap();
        assert_eq!(committed.get(&at).map(|it| it.offset), expected);
    }
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn a_member_that_is_gone_cannot_commit_and_its_transaction_has_to_be_aborted() {
    let client = client().await;
    let topic = unique_topic(&client, "generation", 2).await;
    let group = GroupConfig { auto_commit: None, ..GroupConfig::new(&*unique("group")) };
    let config = ConsumerConfig {
        group: Some(group),
        offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let plain = Producer::new(&client, ProducerConfig::default());
    send(&plain, &topic, &["in"]).await;
    plain.close().await.unwrap();
    let mut consumer = Consumer::new(&client, config);
    consumer.subscribe([&*topic]).unwrap();
    consume(&mut consumer, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let producer = producer(&client, &unique("id")).await;
    let member = consumer.group_member().unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &topic, &["one"]).await;
    producer.send_offsets(&[(at.clone(), CommittedOffset::at(1))], &member).await.unwrap();
    producer.commit_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &topic, &["two"]).await;
    let stale = GroupMember { generation: member.generation - 1, ..member.clone() };
    let error = producer.send_offsets(&[(at.clone(), CommittedOffset::at(2))], &stale).await.unwrap_err();
    assert!(error.is_abortable(), "{error}");
    assert!(producer.commit_transaction().await.unwrap_err().is_abortable());
    producer.abort_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &topic, &["three"]).await;
    producer.send_offsets(&[(at.clone(), CommittedOffset::at(2))], &member).await.unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(consumer.committed(std::slice::from_ref(&at)).await.unwrap()[&at].offset, 2);
    consumer.close().await.unwrap();
    assert_eq!(read(&client, &topic, IsolationLevel::ReadCommitted).await, ["in", "one", "three"]);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn calls_out_of_place_say_so() {
    let client = client().await;
    let topic = unique_topic(&client, "misplaced", 2).await;
    let plain = Producer::new(&client, ProducerConfig::default());
    assert!(matches!(plain.begin_transaction(), Err(TransactionError::NotTransactional)));
    let producer = producer(&client, &unique("id")).await;
    let outside = producer.send(ProducerRecord::to(topic.clone()).value("x")).await;
    assert!(outside.unwrap_err().to_string().contains("no transaction is open"));
    assert!(producer.commit_transaction().await.is_err());
    assert!(producer.init_transactions().await.is_err(), "once is enough");
}
