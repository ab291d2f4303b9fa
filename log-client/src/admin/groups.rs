//! Consumer groups: who is in them, and what they have committed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_core::wire::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use log_core::wire::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
    OffsetDeleteRequest,
};
use log_core::wire::{ErrorCode, message};

use super::{Admin, AdminError};
use crate::client::Role;
use crate::consumer::protocol;
use crate::error::ClientError;
use crate::offsets::{CommittedOffset, Committer, by_topic};
use crate::topic_partition::TopicPartition;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub id: String,
    /// `consumer` for consumer groups; empty for one that only ever committed.
    pub protocol_type: String,
    /// `Stable`, `Empty`, `PreparingRebalance` and so on; empty from a broker that does not say.
    pub state: String,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub id: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance` or, for a group that does not exist, `Dead`;
    /// `Assigning` and `Reconciling` in groups of the newer protocol (KIP-848).
    pub state: String,
    /// `consumer` for consumer groups.
    pub protocol_type: String,
    /// The assignor that was agreed on.
    pub assignor: String,
    /// In the broker's order.
    pub members: Vec<GroupMember>,
    /// Where the group is coordinated, `host:port`.
    pub coordinator: Arc<str>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the broker gave it.
    pub id: String,
    /// Its own name, if it is a static member (KIP-345).
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// Its share; empty where the group's protocol is not `consumer`.
    pub assignment: Vec<TopicPartition>,
}

impl Admin {
    /// The groups of all brokers, by name.
    ///
    /// # Errors
    /// A broker did not answer or refused.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, AdminError> {
        self.client.refresh(&[], false).await?;
        let mut groups = Vec::new();
        for broker in self.client.metadata().brokers.values() {
            let request = |_| ListGroupsRequest::default();
            let response = self.client.call(&broker.address, Role::Control, Duration::ZERO, request).await?;
            AdminError::check(format!("groups of broker {}", broker.id), response.error_code, None)?;
            groups.extend(response.groups.into_iter().map(|group| GroupListing {
                id: group.group_id.into_string(),
                protocol_type: group.protocol_type.into_string(),
                state: group.group_state.into_string(),
            }));
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(groups)
    }

    /// A group with its members and their shares.
    ///
    /// # Errors
    /// Its coordinator did not answer, or refused; newer brokers say `GROUP_ID_NOT_FOUND` of a group
    /// that does not exist.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, AdminError> {
        if let Some(described) = self.describe_consumer_group(group).await? {
            return Ok(described);
        }
        let (coordinator, described) = self
            .client
            .call_coordinator(group, |address| async move {
                let request = |_| message!(DescribeGroupsRequest { groups: vec![group.into()] });
                let response = self.client.call(&address, Role::Control, Duration::ZERO, request).await?;
                let described = response.groups.into_iter().next();
                let described = described.ok_or_else(|| {
                    ClientError::broker(format!("group {group}"), ErrorCode::UnknownServerError)
                })?;
                match ErrorCode::from(described.error_code) {
                    code if code.is_retriable() => Err(ClientError::broker(format!("group {group}"), code)),
                    _ => Ok((address, described)),
                }
            })
            .await?;
        AdminError::check(
            format!("group {group}"),
            described.error_code,
            described.error_message.as_deref(),
        )?;
        let is_consumer = &*described.protocol_type == protocol::TYPE;
        let members = described.members.into_iter().map(|member| GroupMember {
            id: member.member_id.into_string(),
            instance_id: member.group_instance_id.map(|id| id.into_string()),
            client_id: member.client_id.into_string(),
            host: member.client_host.into_string(),
            assignment: if is_consumer { assignment(member.member_assignment) } else { Vec::new() },
        });
        Ok(GroupDescription {
            id: described.group_id.into_string(),
            state: described.group_state.into_string(),
            protocol_type: described.protocol_type.into_string(),
            assignor: described.protocol_data.into_string(),
            members: members.collect(),
            coordinator,
        })
    }

    /// A group of the newer protocol (KIP-848); `None` for others, and where the broker does not know that protocol.
    async fn describe_consumer_group(&self, group: &str) -> Result<Option<GroupDescription>, AdminError> {
        let described = self
            .client
            .call_coordinator(group, |address| async move {
                let request = |_| message!(ConsumerGroupDescribeRequest { group_ids: vec![group.into()] });
                let answer = self.client.call(&address, Role::Control, Duration::ZERO, request).await;
                let response = match answer {
                    Err(ClientError::UnsupportedApi { .. }) => return Ok(None),
                    answer => answer?,
                };
                let Some(described) = response.groups.into_iter().next() else { return Ok(None) };
                match ErrorCode::from(described.error_code) {
                    ErrorCode::GroupIdNotFound => Ok(None),
                    code if code.is_retriable() => Err(ClientError::broker(format!("group {group}"), code)),
                    _ => Ok(Some((address, described))),
                }
            })
            .await?;
        let Some((coordinator, described)) = described else { return Ok(None) };
        let reason = described.error_message.as_deref();
        AdminError::check(format!("group {group}"), described.error_code, reason)?;
        let members = described.members.into_iter().map(|member| {
            let topics = member.assignment.topic_partitions.into_iter();
            let assignment = topics.flat_map(|topic| {
                let name: Arc<str> = Arc::from(&*topic.topic_name);
                topic.partitions.into_iter().map(move |index| TopicPartition::new(name.clone(), index))
            });
            GroupMember {
                id: member.member_id.into_string(),
                instance_id: member.instance_id.map(|id| id.into_string()),
                client_id: member.client_id.into_string(),
                host: member.client_host.into_string(),
                assignment: assignment.collect(),
            }
        });
        Ok(Some(GroupDescription {
            id: described.group_id.into_string(),
            state: described.group_state.into_string(),
            protocol_type: protocol::TYPE.to_owned(),
            assignor: described.assignor_name.into_string(),
            members: members.collect(),
            coordinator,
        }))
    }

    /// Deletes a group with all it has committed.
    ///
    /// # Errors
    /// It has members (`NON_EMPTY_GROUP`), does not exist (`GROUP_ID_NOT_FOUND`), or its coordinator
    /// did not answer.
    pub async fn delete_group(&self, group: &str) -> Result<(), AdminError> {
        let code = self
            .client
            .call_coordinator(group, |address| async move {
                let request = |_| message!(DeleteGroupsRequest { groups_names: vec![group.into()] });
                let response = self.client.call(&address, Role::Control, Duration::ZERO, request).await?;
                let code = response.results.first().map_or(-1, |result| result.error_code);
                match ErrorCode::from(code) {
                    retriable if retriable.is_retriable() => {
                        Err(ClientError::broker(format!("group {group}"), retriable))
                    }
                    _ => Ok(code),
                }
            })
            .await?;
        AdminError::check(format!("group {group}"), code, None)
    }

    /// What a group has committed, ordered by partition.
    ///
    /// # Errors
    /// Its coordinator did not answer or refused.
    pub async fn group_offsets(
        &self,
        group: &str,
    ) -> Result<Vec<(TopicPartition, CommittedOffset)>, AdminError> {
        let mut offsets = self.client.committed_offsets(group, None).await?;
        offsets.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(offsets)
    }

    /// Commits offsets in the name of a group that has no members.
    ///
    /// # Errors
    /// The group has members (`UNKNOWN_MEMBER_ID`), a partition does not exist, or the coordinator did
    /// not answer.
    pub async fn reset_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), AdminError> {
        let answers = self.client.commit_offsets(group, &Committer::outsider(), offsets).await?;
        for (partition, code) in answers {
            AdminError::check(format!("offset of group {group} for {partition}"), code.code(), None)?;
        }
        Ok(())
    }

    /// Forgets what a group has committed for some partitions.
    ///
    /// # Errors
    /// The group is subscribed to a topic of them, does not exist, or its coordinator did not answer.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<(), AdminError> {
        let topics: Vec<_> = by_topic(partitions.iter().map(|partition| (partition, ())))
            .into_iter()
            .map(|(name, partitions)| {
                let partitions = partitions
                    .into_iter()
                    .map(|(partition_index, ())| message!(OffsetDeleteRequestPartition { partition_index }));
                message!(OffsetDeleteRequestTopic { name: name.into(), partitions: partitions.collect() })
            })
            .collect();
        let response = self
            .client
            .call_coordinator(group, |address| {
                let topics = topics.clone();
                async move {
                    let request = |_| message!(OffsetDeleteRequest { group_id: group.into(), topics });
                    let response = self.client.call(&address, Role::Control, Duration::ZERO, request).await?;
                    match ErrorCode::from(response.error_code) {
                        code if code.is_retriable() => {
                            Err(ClientError::broker(format!("group {group}"), code))
                        }
                        _ => Ok(response),
                    }
                }
            })
            .await?;
        AdminError::check(format!("group {group}"), response.error_code, None)?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let resource =
                    format!("offset of group {group} for {}-{}", &*topic.name, partition.partition_index);
                AdminError::check(resource, partition.error_code, None)?;
            }
        }
        Ok(())
    }
}

/// A member's share. What does not decode is shown as nothing: the bytes are the members' own affair.
fn assignment(bytes: Bytes) -> Vec<TopicPartition> {
    protocol::decode_assignment(bytes).unwrap_or_default()
}
