//! What is known of the cluster: its brokers, and who leads each partition.
//!
//! A snapshot is immutable and shared; a refresh merges what a broker answered into a new one. Topics
//! that were not asked about stay as they were.

use std::collections::HashMap;
use std::sync::Arc;

use log_core::wire::messages::MetadataResponse;
use log_core::wire::{ErrorCode, Uuid};
use tokio::time::Instant;

/// The most partitions that a topic may claim to have. Partition arrays are indexed by number, so one
/// entry with a huge number must not size them.
const PARTITIONS_MAX: usize = 1_000_000;

/// The cluster as of the last answers.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// The cluster's id, once a broker has said it.
    pub cluster_id: Option<String>,
    /// The broker that serves administrative requests.
    pub controller_id: Option<i32>,
    /// By id.
    pub brokers: HashMap<i32, Broker>,
    /// By name.
    pub topics: HashMap<Arc<str>, Arc<Topic>>,
    names: HashMap<Uuid, Arc<str>>,
}

/// A broker and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id in the cluster.
    pub id: i32,
    /// Host and port, as [`std::net::ToSocketAddrs`] takes them.
    pub address: Arc<str>,
    /// The rack or zone it is in.
    pub rack: Option<String>,
}

/// A topic and its partitions.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id, zero from a broker that has none.
    pub id: Uuid,
    /// Whether the cluster keeps its own state there.
    pub is_internal: bool,
    /// By index, without gaps.
    pub partitions: Vec<Partition>,
    /// When a broker said so.
    pub(crate) fetched_at: Instant,
}

/// One partition of a [`Topic`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The broker to produce to and fetch from; `None` while there is none.
    pub leader: Option<i32>,
    /// The leader's epoch, -1 when unknown.
    pub leader_epoch: i32,
    /// Brokers that keep a copy, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those that are in sync.
    pub in_sync: Vec<i32>,
}

impl Metadata {
    /// The topic that has this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// The leader of a partition and, where there is one, its address.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let topic = self.topics.get(topic)?;
        topic.partitions.get(usize::try_from(partition).ok()?)?.leader
    }

    /// This snapshot with an answer merged in, and the error of each topic that has one.
    ///
    /// `all` says that the answer covers every topic, so that those it lacks are gone.
    pub(crate) fn merge(
        &self,
        response: &MetadataResponse,
        all: bool,
        now: Instant,
    ) -> (Metadata, Vec<(Arc<str>, ErrorCode)>) {
        let mut merged = if all { Metadata::default() } else { self.clone() };
        let mut errors = Vec::new();
        if !response.brokers.is_empty() {
            merged.brokers =
                response.brokers.iter().map(|broker| (broker.node_id, Broker::from(broker))).collect();
        }
        merged.cluster_id = response.cluster_id.as_deref().map(str::to_owned).or(self.cluster_id.clone());
        merged.controller_id = Some(response.controller_id).filter(|&id| id >= 0);
        for topic in &response.topics {
            let Some(name) = topic.name.as_deref() else { continue };
            let name: Arc<str> =
                merged.topics.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
            let code = ErrorCode::from(topic.error_code);
            if !code.is_ok() {
                // Gone, or never there: nobody may go on producing to what is cached of it.
                if code == ErrorCode::UnknownTopicOrPartition
                    && let Some(gone) = merged.topics.remove(&name)
                {
                    merged.names.remove(&gone.id);
                }
                errors.push((name, code));
                continue;
            }
            let last = topic.partitions.iter().map(|partition| partition.partition_index).max();
            let count = last.map_or(0, |last| usize::try_from(i64::from(last) + 1).unwrap_or(0));
            if count > PARTITIONS_MAX || count > topic.partitions.len() {
                // A gap, or a number that sizes memory by itself; Kafka numbers them from 0.
                errors.push((name, ErrorCode::InvalidPartitions));
                continue;
            }
            let absent =
                Partition { leader: None, leader_epoch: -1, replicas: Vec::new(), in_sync: Vec::new() };
            let mut partitions = vec![absent; count];
            for partition in &topic.partitions {
                let Some(slot) =
                    usize::try_from(partition.partition_index).ok().and_then(|i| partitions.get_mut(i))
                else {
                    continue;
                };
                *slot = Partition {
                    leader: Some(partition.leader_id).filter(|&id| id >= 0),
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes.clone(),
                    in_sync: partition.isr_nodes.clone(),
                };
            }
            if let Some(old) = merged.topics.get(&name) {
                merged.names.remove(&old.id);
            }
            if !topic.topic_id.is_zero() {
                merged.names.insert(topic.topic_id, name.clone());
            }
            let topic = Topic {
                name: name.clone(),
                id: topic.topic_id,
                is_internal: topic.is_internal,
                partitions,
                fetched_at: now,
            };
            merged.topics.insert(name, Arc::new(topic));
        }
        (merged, errors)
    }
}

impl From<&log_core::wire::messages::metadata_response::MetadataResponseBroker> for Broker {
    fn from(broker: &log_core::wire::messages::metadata_response::MetadataResponseBroker) -> Broker {
        Broker {
            id: broker.node_id,
            address: address(&broker.host, broker.port),
            rack: broker.rack.as_deref().map(str::to_owned),
        }
    }
}

/// `host:port`, with the brackets that an IPv6 address needs.
pub(crate) fn address(host: &str, port: i32) -> Arc<str> {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}").into(),
        false => format!("{host}:{port}").into(),
    }
}

#[cfg(test)]
mod tests {
    use log_core::wire::message;
    use log_core::wire::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };

    use super::*;

    fn topic(name: &str, id: u8, leaders: &[i32]) -> MetadataResponseTopic {
        let partitions = leaders
            .iter()
            .zip(0..)
            .map(|(&leader_id, partition_index)| {
                message!(MetadataResponsePartition { leader_id, partition_index })
            })
            .collect();
        message!(MetadataResponseTopic {
            name: Some(name.into()),
            topic_id: Uuid::from_bytes([id; 16]),
            partitions,
        })
    }

    fn answer(topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
        let brokers = vec![message!(MetadataResponseBroker { node_id: 1, host: "::1".into(), port: 9092 })];
        message!(MetadataResponse { brokers, controller_id: 1, topics })
    }

    #[test]
    fn topics_not_asked_about_stay() {
        let now = Instant::now();
        let (first, errors) = Metadata::default().merge(&answer(vec![topic("a", 1, &[1, -1])]), false, now);
        assert!(errors.is_empty());
        assert_eq!(first.leader("a", 0), Some(1));
        assert_eq!((first.leader("a", 1), first.leader("a", 2), first.leader("a", -1)), (None, None, None));
        assert_eq!(&*first.brokers[&1].address, "[::1]:9092");

        let (second, _) = first.merge(&answer(vec![topic("b", 2, &[1])]), false, now);
        assert_eq!(second.topics.len(), 2);
        let (third, _) = second.merge(&answer(vec![topic("b", 2, &[1])]), true, now);
        assert_eq!(third.topics.len(), 1);
    }

    #[test]
    fn a_topic_that_is_gone_is_forgotten_and_one_created_anew_has_one_id() {
        let now = Instant::now();
        let (first, _) = Metadata::default().merge(&answer(vec![topic("a", 1, &[1])]), false, now);
        let (anew, _) = first.merge(&answer(vec![topic("a", 2, &[1])]), false, now);
        assert!(anew.topic_by_id(Uuid::from_bytes([1; 16])).is_none());
        assert_eq!(&*anew.topic_by_id(Uuid::from_bytes([2; 16])).unwrap().name, "a");

        let mut gone = topic("a", 0, &[]);
        gone.error_code = ErrorCode::UnknownTopicOrPartition.code();
        let (without, errors) = anew.merge(&answer(vec![gone]), false, now);
        assert!(without.topics.is_empty() && without.names.is_empty());
        assert_eq!(errors, [("a".into(), ErrorCode::UnknownTopicOrPartition)]);
    }

    #[test]
    fn a_lying_partition_number_sizes_nothing() {
        let mut lying = topic("a", 1, &[1]);
        lying.partitions[0].partition_index = i32::MAX - 1;
        let (merged, errors) = Metadata::default().merge(&answer(vec![lying]), false, Instant::now());
        assert!(merged.topics.is_empty());
        assert_eq!(errors.len(), 1);
    }
}
