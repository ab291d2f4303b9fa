//! The `consumer` protocol inside JoinGroup and SyncGroup: what members tell each other through the
//! coordinator, which does not look into it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use log_core::wire::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment,
    consumer_protocol_subscription, decode_consumer_protocol_assignment,
    decode_consumer_protocol_subscription, encode_consumer_protocol_assignment,
    encode_consumer_protocol_subscription,
};
use log_core::wire::{ApiVersion, DecodeError, EncodeError, message, response_limits};

use crate::offsets::by_topic;
use crate::topic_partition::TopicPartition;

/// The protocol type of consumer groups.
pub(crate) const TYPE: &str = "consumer";

/// Version 2 tells which generation the owned partitions are from, and every client reads its prefix.
const SUBSCRIPTION_VERSION: ApiVersion = ApiVersion::new(2);
const ASSIGNMENT_VERSION: ApiVersion = ApiVersion::new(1);

/// What a member wants and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Topics it is subscribed to.
    pub(crate) topics: Vec<Arc<str>>,
    /// Partitions it has at the moment; empty from members that revoke everything first.
    pub(crate) owned: Vec<TopicPartition>,
    /// The generation in which it got them, -1 when unknown.
    pub(crate) generation: i32,
}

pub(crate) fn encode_subscription(subscription: &Subscription) -> Result<Bytes, EncodeError> {
    let mut topics: Vec<_> = subscription.topics.iter().map(|topic| (&**topic).into()).collect();
    topics.sort();
    let owned = by_topic(subscription.owned.iter().map(|partition| (partition, ())));
    let owned_partitions = owned.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(index, ())| index).collect();
        message!(consumer_protocol_subscription::TopicPartition { topic: topic.into(), partitions })
    });
    let message = message!(ConsumerProtocolSubscription {
        topics,
        owned_partitions: owned_partitions.collect(),
        generation_id: subscription.generation,
    });
    let mut buffer = BytesMut::new();
    encode_consumer_protocol_subscription(&mut buffer, &message, SUBSCRIPTION_VERSION)?;
    Ok(buffer.freeze())
}

pub(crate) fn decode_subscription(bytes: Bytes) -> Result<Subscription, DecodeError> {
    let limits = response_limits(bytes.len());
    let (_, message) = decode_consumer_protocol_subscription(bytes, limits)?;
    let owned = message.owned_partitions.iter().flat_map(|topic| {
        let name: Arc<str> = (&*topic.topic).into();
        topic.partitions.iter().map(move |&index| TopicPartition::new(name.clone(), index))
    });
    Ok(Subscription {
        topics: message.topics.iter().map(|topic| (&**topic).into()).collect(),
        owned: owned.collect(),
        generation: message.generation_id,
    })
}

pub(crate) fn encode_assignment(partitions: &[TopicPartition]) -> Result<Bytes, EncodeError> {
    let topics = by_topic(partitions.iter().map(|partition| (partition, ())));
    let assigned_partitions = topics.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(index, ())| index).collect();
        message!(consumer_protocol_assignment::TopicPartition { topic: topic.into(), partitions })
    });
    let message = message!(ConsumerProtocolAssignment { assigned_partitions: assigned_partitions.collect() });
    let mut buffer = BytesMut::new();
    encode_consumer_protocol_assignment(&mut buffer, &message, ASSIGNMENT_VERSION)?;
    Ok(buffer.freeze())
}

/// No bytes at all are an empty share: coordinators give that to members the leader left out.
pub(crate) fn decode_assignment(bytes: Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let limits = response_limits(bytes.len());
    let (_, message) = decode_consumer_protocol_assignment(bytes, limits)?;
    let partitions = message.assigned_partitions.iter().flat_map(|topic| {
        let name: Arc<str> = (&*topic.topic).into();
        topic.partitions.iter().map(move |&index| TopicPartition::new(name.clone(), index))
    });
    Ok(partitions.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_and_assignments_round_trip() {
        let owned =
            vec![TopicPartition::new("a", 0), TopicPartition::new("a", 3), TopicPartition::new("b", 1)];
        let subscription =
            Subscription { topics: vec!["a".into(), "b".into()], owned: owned.clone(), generation: 4 };
        let bytes = encode_subscription(&subscription).unwrap();
        assert_eq!(decode_subscription(bytes).unwrap(), subscription);
        assert_eq!(decode_assignment(encode_assignment(&owned).unwrap()).unwrap(), owned);
        assert_eq!(decode_assignment(Bytes::new()).unwrap(), []);
    }

    #[test]
    fn a_member_without_owned_partitions_is_read() {
        // Version 0, as old clients write it: one topic "t", null user data.
        let bytes = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]);
        let subscription = decode_subscription(bytes.clone()).unwrap();
        assert_eq!((subscription.topics, subscription.generation), (vec!["t".into()], -1));
        for len in 0..bytes.len() {
            assert!(decode_subscription(bytes.slice(..len)).is_err(), "{len} bytes");
        }
    }
}
