//! Being a member of a group that the broker shares out (KIP-848): there is one request, which says what the member
//! holds and wants, and is answered with what it may hold.
//!
//! [`join`] is such a request with everything in it: the first one, and again whenever what the member holds, or may
//! hold, has changed. Between these, [`beat`] says "alive", and after an error everything again: an answer that is lost
//! may have raised the epoch, and the coordinator takes the one before from whoever says what it holds. A member's epoch
//! takes the place of the generation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use log_core::wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use log_core::wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use log_core::wire::{ErrorCode, Uuid, message};

use super::config::{GroupConfig, GroupProtocol};
use super::membership::{Join, Joined, millis};
use crate::client::{Client, Role};
use crate::error::ClientError;
use crate::offsets::by_topic;
use crate::topic_partition::TopicPartition;

/// Epochs that say what the member wants, and not where it stands.
const JOIN_EPOCH: i32 = 0;
const LEAVE_EPOCH: i32 = -1;
/// A static member goes away and means to come back.
const LEAVE_FOR_NOW_EPOCH: i32 = -2;

/// Says all that there is to say, and returns with what the member may hold.
pub(super) async fn join(client: &Client, join: &mut Join) -> Result<Joined, ClientError> {
    if join.member_id.is_empty() {
        // The member chooses its id, so that an answer that is lost leaves no stranger in the group (KIP-1082).
        join.be(format!("{:032x}", fastrand::u128(..)));
    }
    let config = &*join.config;
    let address = client.coordinator(&config.id).await?;
    let topics: Vec<&str> = join.subscription.topics.iter().map(|topic| &**topic).collect();
    client.refresh(&topics, false).await?;
    let request = everything(client, join);
    let response = client.call(&address, join.role, Duration::ZERO, |_| request).await?;
    let metadata = client.metadata();
    check(config, &response)?;
    let Some(assignment) = response.assignment else {
        // Everything was said, so everything is answered.
        return Err(ClientError::broker(context(config), ErrorCode::UnknownServerError));
    };
    let names: BTreeMap<Uuid, &Arc<str>> = metadata.topics.iter().map(|(name, it)| (it.id, name)).collect();
    let mut partitions = Vec::new();
    for topic in assignment.topic_partitions {
        // A topic that this client does not know of yet is asked for again by a new attempt.
        let name = names.get(&topic.topic_id).ok_or_else(|| {
            ClientError::broker(format!("topic {:?}", topic.topic_id), ErrorCode::UnknownTopicOrPartition)
        })?;
        partitions.extend(topic.partitions.iter().map(|&index| TopicPartition::new((*name).clone(), index)));
    }
    Ok(Joined {
        member_id: join.member_id.clone(),
        generation: response.member_epoch,
        assignment: partitions,
        partition_counts: None,
        heartbeat_interval: Duration::from_millis(u64::from(
            response.heartbeat_interval_ms.max(1).unsigned_abs(),
        )),
    })
}

/// A request that says all that there is to say.
fn everything(client: &Client, join: &Join) -> ConsumerGroupHeartbeatRequest {
    let config = &*join.config;
    let metadata = client.metadata();
    let owned = by_topic(join.subscription.owned.iter().map(|partition| (partition, ())));
    let owned = owned.into_iter().filter_map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, ())| index).collect();
        Some(message!(TopicPartitions { topic_id: metadata.topics.get(name)?.id, partitions }))
    });
    let topics = join.subscription.topics.iter().map(|topic| (&**topic).into());
    let epoch = if join.subscription.generation < 0 { JOIN_EPOCH } else { join.subscription.generation };
    let assignor = match &config.protocol {
        GroupProtocol::Consumer { assignor } => assignor.as_deref(),
        GroupProtocol::Classic => None,
    };
    message!(ConsumerGroupHeartbeatRequest {
        group_id: config.id.as_str().into(),
        member_id: join.member_id.as_str().into(),
        member_epoch: epoch,
        instance_id: config.instance_id.as_deref().map(Into::into),
        rebalance_timeout_ms: millis(config.poll_interval_max),
        subscribed_topic_names: Some(topics.collect()),
        server_assignor: assignor.map(Into::into),
        // A newcomer has nothing.
        topic_partitions: Some(if epoch == JOIN_EPOCH { Vec::new() } else { owned.collect() }),
    })
}

/// Says "alive", or everything if the last one has failed. A change of the epoch or of the assignment is
/// RebalanceInProgress, as it is for classic members, and so is an answer to everything. The new epoch is adopted at
/// once: the coordinator takes no second heartbeat with the old one, while what has changed is looked at only with the
/// next poll.
pub(super) async fn beat(
    client: &Client,
    member: &mut Join,
    has_failed: bool,
) -> Result<ErrorCode, ClientError> {
    let (config, epoch) = (&*member.config, member.subscription.generation);
    let response = if has_failed {
        // What it cannot name would be taken for given up: a broker that has just started may not have known a topic.
        let topics: BTreeSet<&str> = member.subscription.owned.iter().map(|place| &*place.topic).collect();
        client.refresh(&Vec::from_iter(topics), false).await?;
        let request = everything(client, member);
        let address = client.coordinator(&config.id).await?;
        client.call(&address, member.role, Duration::ZERO, |_| request).await?
    } else {
        send(client, member.role, config, &member.member_id, epoch).await?
    };
    let code = ErrorCode::from(response.error_code);
    if !code.is_ok() {
        return Ok(code);
    }
    let has_changed = response.assignment.is_some() || response.member_epoch != epoch;
    member.subscription.generation = response.member_epoch;
    Ok(if has_changed { ErrorCode::RebalanceInProgress } else { code })
}

/// Says good-bye; a static member, that it means to come back.
pub(super) async fn leave(
    client: &Client,
    role: Role,
    config: &GroupConfig,
    member_id: &str,
) -> Result<(), ClientError> {
    let epoch = if config.instance_id.is_some() { LEAVE_FOR_NOW_EPOCH } else { LEAVE_EPOCH };
    send(client, role, config, member_id, epoch).await.map(drop)
}

/// A request that says no more than who and when.
async fn send(
    client: &Client,
    role: Role,
    config: &GroupConfig,
    member_id: &str,
    epoch: i32,
) -> Result<ConsumerGroupHeartbeatResponse, ClientError> {
    let address = client.coordinator(&config.id).await?;
    let request = |_| {
        message!(ConsumerGroupHeartbeatRequest {
            group_id: config.id.as_str().into(),
            member_id: member_id.into(),
            member_epoch: epoch,
            instance_id: config.instance_id.as_deref().map(Into::into),
            rebalance_timeout_ms: -1,
        })
    };
    client.call(&address, role, Duration::ZERO, request).await
}

fn check(config: &GroupConfig, response: &ConsumerGroupHeartbeatResponse) -> Result<(), ClientError> {
    ErrorCode::from(response.error_code).into_result().map_err(|code| {
        if let Some(message) = &response.error_message {
            tracing::debug!(group = config.id, %code, %message, "heartbeat refused");
        }
        ClientError::broker(context(config), code)
    })
}

fn context(config: &GroupConfig) -> String {
    format!("membership of group {}", config.id)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use log_core::wire::ApiKey;
    use log_core::wire::messages::consumer_group_heartbeat_response::{
        Assignment, TopicPartitions as AssignedTopic,
    };
    use tokio::sync::mpsc;

    use super::super::{Consumer, ConsumerConfig};
    use super::*;
    use crate::fake_broker::{TOPIC, client_of};

    fn consumer_of(client: &Client) -> Consumer {
        let group = GroupConfig {
            protocol: GroupProtocol::Consumer { assignor: None },
            auto_commit: None,
            ..GroupConfig::new("group")
        };
        let config = ConsumerConfig { group: Some(group), ..ConsumerConfig::default() };
        let mut consumer = Consumer::new(client, config);
        consumer.subscribe([TOPIC]).unwrap();
        consumer
    }

    async fn join_by_polling(consumer: &mut Consumer) {
        while consumer.group_member().unwrap().generation < 0 {
            consumer.poll(Duration::from_millis(1)).await.unwrap();
        }
    }

    /// What the member holds, or is to hold: the topic's partition.
    fn held() -> Vec<(Uuid, Vec<i32>)> {
        vec![(Uuid::from_bytes([7; 16]), vec![0])]
    }

    #[tokio::test]
    async fn after_an_error_everything_is_said_again() {
        let (heard, mut beats) = mpsc::unbounded_channel();
        let mut count = 0;
        let client = client_of(0, move |asked| {
            if asked.api != ApiKey::ConsumerGroupHeartbeat {
                return Vec::new();
            }
            let request: ConsumerGroupHeartbeatRequest = asked.decode();
            let owned = request.topic_partitions.map(|owned| {
                owned.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect::<Vec<_>>()
            });
            let topics = request.subscribed_topic_names.map(|names| names.len());
            heard.send((request.member_epoch, topics, owned.clone(), request.rebalance_timeout_ms)).ok();
            count += 1;
            let answer = |error: ErrorCode| {
                let partitions = held()
                    .into_iter()
                    .map(|(topic_id, partitions)| message!(AssignedTopic { topic_id, partitions }));
                let assignment = message!(Assignment { topic_partitions: partitions.collect() });
                asked.answer(&message!(ConsumerGroupHeartbeatResponse {
                    error_code: error.code(),
                    member_epoch: if count < 3 { 1 } else { 2 },
                    heartbeat_interval_ms: 1,
                    assignment: owned.is_some().then_some(assignment),
                }))
            };
            match count {
                // Joined; and alive, with an answer that is lost and had another epoch in it.
                3 => Vec::new(),
                4 => answer(ErrorCode::CoordinatorLoadInProgress),
                _ => answer(ErrorCode::None),
            }
        })
        .await;
        let mut consumer = consumer_of(&client);
        join_by_polling(&mut consumer).await;
        let timeout = 300_000;
        assert_eq!(beats.recv().await, Some((0, Some(1), Some(vec![]), timeout)));
        assert_eq!(beats.recv().await, Some((1, None, None, -1)));
        assert_eq!(beats.recv().await, Some((1, None, None, -1)), "its answer is lost");
        for _ in 0..2 {
            assert_eq!(beats.recv().await, Some((1, Some(1), Some(held()), timeout)), "after an error");
        }
        assert_eq!(beats.recv().await, Some((2, None, None, -1)), "all is well again");
        assert_eq!(consumer.group_member().unwrap().generation, 2);
    }

    #[tokio::test]
    async fn an_epoch_that_changes_while_nobody_polls_is_adopted_at_once() {
        let (heard, mut beats) = mpsc::unbounded_channel();
        let (mut epoch, has_rebalanced) = (0, Arc::new(AtomicBool::new(false)));
        let is_rebalanced = has_rebalanced.clone();
        let client = client_of(0, move |asked| {
            if asked.api != ApiKey::ConsumerGroupHeartbeat {
                return Vec::new();
            }
            let request: ConsumerGroupHeartbeatRequest = asked.decode();
            let is_full = request.topic_partitions.is_some();
            let is_fenced = request.member_epoch != epoch;
            heard.send((if is_fenced { -1 } else { epoch }, is_full)).ok();
            if is_fenced {
                let error_code = ErrorCode::FencedMemberEpoch.code();
                return asked.answer(&message!(ConsumerGroupHeartbeatResponse { error_code }));
            }
            let next = if is_rebalanced.load(Ordering::SeqCst) { 2 } else { 1 };
            let is_new = std::mem::replace(&mut epoch, next) != next;
            asked.answer(&message!(ConsumerGroupHeartbeatResponse {
                member_epoch: epoch,
                heartbeat_interval_ms: 1,
                assignment: (is_new || is_full).then(Assignment::default),
            }))
        })
        .await;
        let mut consumer = consumer_of(&client);
        join_by_polling(&mut consumer).await;
        assert_eq!(beats.recv().await, Some((0, true)));
        has_rebalanced.store(true, Ordering::SeqCst);
        let mut beat = (1, false);
        while beat == (1, false) {
            beat = beats.recv().await.unwrap();
        }
        for _ in 0..3 {
            assert_eq!(beat, (2, false), "that of the last answer");
            beat = beats.recv().await.unwrap();
        }
        assert_eq!(consumer.group_member().unwrap().generation, 2);
        let rejoined = loop {
            consumer.poll(Duration::from_millis(1)).await.unwrap();
            match beats.try_recv() {
                Ok((2, false)) | Err(_) => {}
                Ok(beat) => break beat,
            }
        };
        assert_eq!(rejoined, (2, true), "with all that it holds, in the epoch that it has");
    }
}
