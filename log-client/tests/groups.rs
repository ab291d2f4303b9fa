//! Consumer groups against the broker that `HIGHWATER_TEST_BOOTSTRAP` names; `tests/test_log_client.py` runs
//! these against Highwater and Apache Kafka.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::{PATIENCE, client, consume, produce_numbers, unique, unique_topic};
use log_client::consumer::{Assignor, ConsumerConfig, Event, GroupConfig, GroupProtocol, OffsetReset};
use log_client::{Admin, Client, CommittedOffset, Consumer, ErrorCode, TopicPartition};
use tokio::time::Instant;

fn config(group: &str, assignors: &[Assignor]) -> ConsumerConfig {
    let group = GroupConfig {
        assignors: assignors.to_vec(),
        heartbeat_interval: Duration::from_millis(100),
        ..GroupConfig::new(group)
    };
    ConsumerConfig { group: Some(group), offset_reset: OffsetReset::Earliest, ..ConsumerConfig::default() }
}

fn member(client: &Client, group: &str, assignors: &[Assignor], topic: &Arc<str>) -> Consumer {
    let mut consumer = Consumer::new(client, config(group, assignors));
    consumer.subscribe([topic.clone()]).unwrap();
    consumer
}

/// Polls both until each has `partitions` partitions, and returns the values that came.
async fn settle(members: &mut [&mut Consumer], partitions: &[usize]) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut values = Vec::new();
    loop {
        for member in members.iter_mut() {
            for record in member.poll(Duration::from_millis(50)).await.unwrap() {
                values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            }
        }
        let sizes: Vec<_> = members.iter().map(|member| member.assignment().len()).collect();
        if sizes == partitions {
            return values;
        }
        assert!(Instant::now() < deadline, "stuck at {sizes:?}");
    }
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn committed_offsets_are_where_the_next_member_begins() {
    let client = client().await;
    let (topic, group) = (unique_topic(&client, "commit", 2).await, unique("commit-group"));
    produce_numbers(&client, &topic, 2, 0..20).await;
    let mut first = member(&client, &group, &[Assignor::Range], &topic);
    assert_eq!(consume(&mut first, 20).await.len(), 20);
    first.commit().await.unwrap();
    let committed = first.committed(&first.assignment()).await.unwrap();
    assert!(committed.values().all(|committed| committed.offset == 10));
    first.close().await.unwrap();

    produce_numbers(&client, &topic, 2, 20..30).await;
    let mut second = member(&client, &group, &[Assignor::Range], &topic);
    let records = consume(&mut second, 10).await;
    assert!(records.iter().all(|record| record.offset >= 10));
    second.close().await.unwrap();
    let offsets = Admin::new(&client).group_offsets(&group).await.unwrap();
    assert_eq!(offsets.iter().map(|(_, committed)| committed.offset).collect::<Vec<_>>(), [15, 15]);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn two_members_share_and_nothing_is_missed_or_doubled() {
    let client = client().await;
    for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
        let (topic, group) = (unique_topic(&client, "share", 4).await, unique("share-group"));
        produce_numbers(&client, &topic, 4, 0..400).await;
        let mut first = member(&client, &group, &[assignor], &topic);
        let mut values = settle(&mut [&mut first], &[4]).await;
        let mut second = member(&client, &group, &[assignor], &topic);
        values.extend(settle(&mut [&mut first, &mut second], &[2, 2]).await);
        produce_numbers(&client, &topic, 4, 400..800).await;
        let deadline = Instant::now() + PATIENCE;
        while values.len() < 800 {
            values.extend(settle(&mut [&mut first, &mut second], &[2, 2]).await);
            assert!(Instant::now() < deadline, "{} of 800 came", values.len());
        }
        second.close().await.unwrap();
        values.extend(settle(&mut [&mut first], &[4]).await);
        first.close().await.unwrap();
        assert_eq!(values.len(), 800, "{assignor}");
        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), 800, "{assignor}");
    }
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn the_application_is_told_before_and_after() {
    let client = client().await;
    let (topic, group) = (unique_topic(&client, "events", 2).await, unique("events-group"));
    let mut first = member(&client, &group, &[Assignor::CooperativeSticky], &topic);
    let Some(Event::Assigned(assigned)) = first.event(PATIENCE).await.unwrap() else {
        panic!("not assigned")
    };
    assert_eq!(assigned.len(), 2);
    let mut second = member(&client, &group, &[Assignor::CooperativeSticky], &topic);
    let deadline = Instant::now() + PATIENCE;
    let revoked = loop {
        assert!(Instant::now() < deadline);
        assert!(second.poll(Duration::from_millis(50)).await.unwrap().is_empty());
        match first.event(Duration::from_millis(50)).await.unwrap() {
            Some(Event::Revoking(revoked)) => break revoked,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    };
    assert_eq!(first.assignment().len(), 2, "still there while it is told");
    settle(&mut [&mut first, &mut second], &[1, 1]).await;
    assert_eq!(second.assignment(), revoked);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn a_static_member_comes_back_to_its_share() {
    let client = client().await;
    let (topic, group) = (unique_topic(&client, "static", 2).await, unique("static-group"));
    let named = |name: &str| {
        let mut config = config(&group, &[Assignor::Range]);
        config.group.as_mut().unwrap().instance_id = Some(name.to_owned());
        let mut consumer = Consumer::new(&client, config);
        consumer.subscribe([topic.clone()]).unwrap();
        consumer
    };
    let (mut one, mut two) = (named("one"), named("two"));
    settle(&mut [&mut one, &mut two], &[1, 1]).await;
    let share = two.assignment();
    two.close().await.unwrap();
    let mut back = named("two");
    let Some(Event::Assigned(assigned)) = back.event(PATIENCE).await.unwrap() else { panic!("not assigned") };
    assert_eq!(assigned, share, "without a rebalance of the others");
    assert_eq!(one.assignment().len(), 1);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn groups_are_listed_described_reset_and_deleted() {
    let client = client().await;
    let (topic, group) = (unique_topic(&client, "admin", 1).await, unique("admin-group"));
    produce_numbers(&client, &topic, 1, 0..10).await;
    let admin = Admin::new(&client);
    let mut consumer = member(&client, &group, &[Assignor::Range], &topic);
    consume(&mut consumer, 10).await;
    let described = admin.describe_group(&group).await.unwrap();
    assert_eq!((&*described.state, &*described.assignor), ("Stable", "range"));
    assert_eq!(described.members.len(), 1);
    assert_eq!(described.members[0].assignment, [TopicPartition::new(topic.clone(), 0)]);
    assert!(admin.list_groups().await.unwrap().iter().any(|listed| *listed.id == *group));
    assert_eq!(admin.delete_group(&group).await.unwrap_err().code(), Some(ErrorCode::NonEmptyGroup));
    let reset = [(TopicPartition::new(topic.clone(), 0), CommittedOffset::at(3))];
    assert!(admin.reset_group_offsets(&group, &reset).await.is_err(), "not while it has members");
    consumer.close().await.unwrap();

    admin.reset_group_offsets(&group, &reset).await.unwrap();
    assert_eq!(admin.group_offsets(&group).await.unwrap(), reset);
    let mut consumer = member(&client, &group, &[Assignor::Range], &topic);
    assert_eq!(consume(&mut consumer, 7).await[0].offset, 3);
    consumer.close().await.unwrap();
    admin.delete_group_offsets(&group, &[TopicPartition::new(topic, 0)]).await.unwrap();
    assert!(admin.group_offsets(&group).await.unwrap().is_empty());
    admin.delete_group(&group).await.unwrap();
    assert!(!admin.list_groups().await.unwrap().iter().any(|listed| *listed.id == *group));
}

fn broker_side(client: &Client, group: &str, instance_id: Option<&str>, topic: &Arc<str>) -> Consumer {
    let mut config = config(group, &[]);
    let settings = config.group.as_mut().unwrap();
    settings.protocol = GroupProtocol::Consumer { assignor: Some("uniform".to_owned()) };
    settings.instance_id = instance_id.map(str::to_owned);
    let mut consumer = Consumer::new(client, config);
    consumer.subscribe([topic.clone()]).unwrap();
    consumer
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn two_members_share_what_the_broker_gives_them_and_nothing_is_missed_or_doubled() {
    let client = client().await;
    let (topic, group) = (unique_topic(&client, "given", 4).await, unique("given-group"));
    produce_numbers(&client, &topic, 4, 0..400).await;
    let mut first = broker_side(&client, &group, None, &topic);
    let mut values = settle(&mut [&mut first], &[4]).await;
    let mut second = broker_side(&client, &group, None, &topic);
    values.extend(settle(&mut [&mut first, &mut second], &[2, 2]).await);
    produce_numbers(&client, &topic, 4, 400..800).await;
    let deadline = Instant::now() + PATIENCE;
    while values.len() < 800 {
        values.extend(settle(&mut [&mut first, &mut second], &[2, 2]).await);
        assert!(Instant::now() < deadline, "{} of 800 came", values.len());
    }
    second.close().await.unwrap();
    values.extend(settle(&mut [&mut first], &[4]).await);
    first.commit().await.unwrap();
    first.close().await.unwrap();
    assert_eq!(values.len(), 800);
    assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), 800);
    let offsets = Admin::new(&client).group_offsets(&group).await.unwrap();
    assert_eq!(offsets.iter().map(|(_, committed)| committed.offset).collect::<Vec<_>>(), [200; 4]);
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn a_static_member_comes_back_to_what_the_broker_keeps_for_it() {
    let client = client().await;
    let (topic, group) = (unique_topic(&client, "kept", 2).await, unique("kept-group"));
    let mut one = broker_side(&client, &group, Some("one"), &topic);
    let mut two = broker_side(&client, &group, Some("two"), &topic);
    settle(&mut [&mut one, &mut two], &[1, 1]).await;
    let share = two.assignment();
    two.close().await.unwrap();
    let mut back = broker_side(&client, &group, Some("two"), &topic);
    let Some(Event::Assigned(assigned)) = back.event(PATIENCE).await.unwrap() else { panic!("not assigned") };
    assert_eq!(assigned, share, "without a change for the other");
    assert_eq!(one.assignment().len(), 1);
}
