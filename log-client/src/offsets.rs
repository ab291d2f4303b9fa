//! Offsets: those that the log has (ListOffsets), and those that a group has committed.
//!
//! What consumers and admins share. Each answer is by partition, since one partition's trouble is no
//! reason to keep the others' answers back.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use log_core::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use log_core::wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use log_core::wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use log_core::wire::messages::{ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest};
use log_core::wire::{ErrorCode, IsolationLevel, message};
use tokio::time::{Instant, sleep};

use crate::client::{Client, Coordinates, Role};
use crate::error::ClientError;
use crate::topic_partition::TopicPartition;

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that is still there.
    Earliest,
    /// The one that the next visible record will have.
    Latest,
    /// That of the record with the largest timestamp.
    MaxTimestamp,
    /// That of the first record with at least this time, in ms since the epoch.
    Time(i64),
}

impl OffsetSpec {
    /// The timestamp field's value; negative ones are special.
    const fn code(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::Time(ms) if ms < 0 => 0,
            OffsetSpec::Time(ms) => ms,
        }
    }
}

/// An offset that the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset, or `None` where no record is as late as was asked for.
    pub offset: Option<i64>,
    /// The record's time in ms since the epoch, for the specs that look for one.
    pub timestamp_ms: Option<i64>,
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to be consumed.
    pub offset: i64,
    /// What the committer noted with it.
    pub metadata: Option<String>,
}

impl CommittedOffset {
    /// `offset` without a note.
    pub fn at(offset: i64) -> CommittedOffset {
        CommittedOffset { offset, metadata: None }
    }
}

/// In whose name offsets are committed: a member's, or nobody's while the group is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committer {
    /// -1 outside of a group's membership.
    pub(crate) generation: i32,
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
}

/// A member of a group, as a transactional producer has to name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The group.
    pub group: String,
    /// The generation, or the member's epoch under the new protocol; -1 outside of the group's membership.
    pub generation: i32,
    /// Given by the coordinator; empty outside of the group's membership.
    pub member_id: String,
    /// The member's own name, if it is a static one.
    pub instance_id: Option<String>,
}

impl GroupMember {
    /// Nobody: for a consumer that assigns itself its partitions, whose producer is fenced by its transactional id
    /// alone.
    pub fn outsider(group: impl Into<String>) -> GroupMember {
        GroupMember { group: group.into(), generation: -1, member_id: String::new(), instance_id: None }
    }
}

impl Committer {
    pub(crate) fn outsider() -> Committer {
        Committer { generation: -1, ..Committer::default() }
    }
}

/// An answer for each partition that was asked about.
pub(crate) type ByPartition<T> = Vec<(TopicPartition, T)>;

impl Client {
    /// Asks each partition's leader once.
    pub(crate) async fn list_offsets(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
        isolation: IsolationLevel,
    ) -> ByPartition<Result<ListedOffset, ClientError>> {
        let mut answers = Vec::with_capacity(asked.len());
        let mut by_leader: BTreeMap<Arc<str>, Vec<(TopicPartition, OffsetSpec)>> = BTreeMap::new();
        for (partition, spec) in asked {
            match self.leader_address(&partition.topic, partition.partition) {
                Ok(address) => by_leader.entry(address).or_default().push((partition.clone(), *spec)),
                Err(error) => answers.push((partition.clone(), Err(error))),
            }
        }
        let requests =
            by_leader.into_iter().map(|(address, asked)| self.list_offsets_of(address, asked, isolation));
        answers.extend(join_all(requests).await.into_iter().flatten());
        answers
    }

    async fn list_offsets_of(
        &self,
        address: Arc<str>,
        asked: Vec<(TopicPartition, OffsetSpec)>,
        isolation: IsolationLevel,
    ) -> ByPartition<Result<ListedOffset, ClientError>> {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for (partition, spec) in &asked {
            let entry = message!(ListOffsetsPartition {
                partition_index: partition.partition,
                current_leader_epoch: -1,
                timestamp: spec.code(),
            });
            match topics.iter_mut().find(|topic| *topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(entry),
                None => topics.push(message!(ListOffsetsTopic {
                    name: (&*partition.topic).into(),
                    partitions: vec![entry],
                })),
            }
        }
        let response = self
            .call(&address, Role::Control, Duration::ZERO, |_| {
                message!(ListOffsetsRequest { replica_id: -1, isolation_level: isolation.code(), topics })
            })
            .await;
        let answer = |partition: &TopicPartition| -> Result<ListedOffset, ClientError> {
            let response = response.as_ref().map_err(Clone::clone)?;
            let topic = response.topics.iter().find(|topic| *topic.name == *partition.topic);
            let found = topic.and_then(|topic| {
                topic.partitions.iter().find(|answer| answer.partition_index == partition.partition)
            });
            let context = || format!("offsets of {partition}");
            let found =
                found.ok_or_else(|| ClientError::broker(context(), ErrorCode::UnknownTopicOrPartition))?;
            ErrorCode::from(found.error_code)
                .into_result()
                .map_err(|code| ClientError::broker(context(), code))?;
            Ok(ListedOffset {
                offset: Some(found.offset).filter(|&offset| offset >= 0),
                timestamp_ms: Some(found.timestamp).filter(|&timestamp| timestamp >= 0),
            })
        };
        asked.iter().map(|(partition, _)| (partition.clone(), answer(partition))).collect()
    }

    /// What `group` has committed, for `partitions` or for all. Partitions without a commit are left
    /// out.
    pub(crate) async fn committed_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<ByPartition<CommittedOffset>, ClientError> {
        let topics = partitions.map(|partitions| {
            by_topic(partitions.iter().map(|partition| (partition, ())))
                .into_iter()
                .map(|(name, partitions)| {
                    let partition_indexes = partitions.into_iter().map(|(index, ())| index).collect();
                    message!(OffsetFetchRequestTopics { name: name.into(), partition_indexes })
                })
                .collect::<Vec<_>>()
        });
        let response = self
            .call_coordinator(group, |address| {
                let topics = topics.clone();
                async move {
                    let groups = vec![message!(OffsetFetchRequestGroup {
                        group_id: group.into(),
                        member_epoch: -1,
                        topics,
                    })];
                    let request = move |_| message!(OffsetFetchRequest { groups, require_stable: true });
                    let response = self.call(&address, Role::Control, Duration::ZERO, request).await?;
                    let context = || format!("offsets of group {group}");
                    let answer = response.groups.into_iter().find(|answer| *answer.group_id == *group);
                    let answer = answer
                        .ok_or_else(|| ClientError::broker(context(), ErrorCode::UnknownServerError))?;
                    let mut codes = vec![answer.error_code];
                    codes.extend(
                        answer.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code),
                    );
                    match codes.into_iter().map(ErrorCode::from).find(|code| !code.is_ok()) {
                        Some(code) => Err(ClientError::broker(context(), code)),
                        None => Ok(answer),
                    }
                }
            })
            .await?;
        let mut committed = Vec::new();
        for topic in response.topics {
            let name: Arc<str> = (&*topic.name).into();
            for partition in topic.partitions.into_iter().filter(|partition| partition.committed_offset >= 0)
            {
                let offset = CommittedOffset {
                    offset: partition.committed_offset,
                    metadata: partition
                        .metadata
                        .as_deref()
                        .filter(|note| !note.is_empty())
                        .map(str::to_owned),
                };
                committed.push((TopicPartition::new(name.clone(), partition.partition_index), offset));
            }
        }
        Ok(committed)
    }

    /// Commits offsets. An error of a single partition is that partition's answer.
    pub(crate) async fn commit_offsets(
        &self,
        group: &str,
        committer: &Committer,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<ByPartition<ErrorCode>, ClientError> {
        let topics: Vec<_> = by_topic(offsets.iter().map(|(partition, offset)| (partition, offset)))
            .into_iter()
            .map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(partition_index, offset)| {
                    message!(OffsetCommitRequestPartition {
                        partition_index,
                        committed_offset: offset.offset,
                        committed_leader_epoch: -1,
                        committed_metadata: Some(offset.metadata.as_deref().unwrap_or_default().into()),
                    })
                });
                message!(OffsetCommitRequestTopic { name: name.into(), partitions: partitions.collect() })
            })
            .collect();
        let response = self
            .call_coordinator(group, |address| {
                let topics = topics.clone();
                async move {
                    let request = |_| {
                        message!(OffsetCommitRequest {
                            group_id: group.into(),
                            generation_id_or_member_epoch: committer.generation,
                            member_id: committer.member_id.as_str().into(),
                            group_instance_id: committer.instance_id.as_deref().map(Into::into),
                            topics,
                        })
                    };
                    let response = self.call(&address, Role::Control, Duration::ZERO, request).await?;
                    let mut codes = response.topics.iter().flat_map(|topic| &topic.partitions);
                    match codes.find_map(|partition| coordinator_trouble(partition.error_code.into())) {
                        Some(code) => Err(ClientError::broker(format!("commit of group {group}"), code)),
                        None => Ok(response),
                    }
                }
            })
            .await?;
        let answers = response.topics.into_iter().flat_map(|topic| {
            let name: Arc<str> = (&*topic.name).into();
            let answer = move |partition_index, code: i16| {
                (TopicPartition::new(name.clone(), partition_index), ErrorCode::from(code))
            };
            topic
                .partitions
                .into_iter()
                .map(move |partition| answer(partition.partition_index, partition.error_code))
        });
        Ok(answers.collect())
    }

    /// A request to a group's coordinator, sent again (to a new one, perhaps) while the answer is one
    /// that may change, for as long as a request may take.
    pub(crate) async fn call_coordinator<T, F>(
        &self,
        group: &str,
        attempt: impl FnMut(Arc<str>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.call_coordinator_of(Coordinates::Group, group, attempt).await
    }

    /// As [`call_coordinator`](Client::call_coordinator), to the coordinator of whatever it coordinates.
    pub(crate) async fn call_coordinator_of<T, F>(
        &self,
        what: Coordinates,
        name: &str,
        mut attempt: impl FnMut(Arc<str>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let deadline = Instant::now() + self.config().request_timeout;
        let mut failures = 0;
        loop {
            let error = match self.coordinator_of(what, name).await {
                Ok(address) => match attempt(address).await {
                    Ok(done) => return Ok(done),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            failures += 1;
            let delay = self.config().backoff.delay(failures);
            if !error.is_retriable() || Instant::now() + delay >= deadline {
                return Err(error);
            }
            let is_right_one = matches!(
                error.code(),
                Some(
                    ErrorCode::CoordinatorLoadInProgress
                        | ErrorCode::ConcurrentTransactions
                        | ErrorCode::UnstableOffsetCommit
                )
            );
            if !is_right_one {
                self.forget_coordinator_of(what, name);
            }
            sleep(delay).await;
        }
    }
}

/// The codes that say "ask another, or later", whichever partition they stand at.
pub(crate) fn coordinator_trouble(code: ErrorCode) -> Option<ErrorCode> {
    matches!(
        code,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::RequestTimedOut
            | ErrorCode::KafkaStorageError
    )
    .then_some(code)
}

/// Groups by topic, as requests have it.
pub(crate) fn by_topic<'a, T>(
    partitions: impl Iterator<Item = (&'a TopicPartition, T)>,
) -> BTreeMap<&'a str, Vec<(i32, T)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, T)>> = BTreeMap::new();
    for (partition, value) in partitions {
        topics.entry(&*partition.topic).or_default().push((partition.partition, value));
    }
    topics
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use log_core::wire::ApiKey;
    use log_core::wire::messages::OffsetFetchResponse;
    use log_core::wire::messages::offset_fetch_response::OffsetFetchResponseGroup;

    use super::*;
    use crate::fake_broker::client_of;

    #[tokio::test]
    async fn who_waits_for_a_transaction_to_end_looks_for_no_other_coordinator() {
        let look_ups = Arc::new(AtomicUsize::new(0));
        let (counted, mut unstable) = (look_ups.clone(), 3);
        let client = client_of(0, move |asked| match asked.api {
            ApiKey::OffsetFetch => {
                let code = if unstable > 0 { ErrorCode::UnstableOffsetCommit } else { ErrorCode::None };
                unstable -= 1;
                let group =
                    message!(OffsetFetchResponseGroup { group_id: "group".into(), error_code: code.code() });
                asked.answer(&message!(OffsetFetchResponse { groups: vec![group] }))
            }
            _ => {
                counted.fetch_add(1, Ordering::SeqCst);
                Vec::new()
            }
        })
        .await;
        assert_eq!(client.committed_offsets("group", None).await.unwrap(), []);
        assert_eq!(look_ups.load(Ordering::SeqCst), 1);
    }
}
