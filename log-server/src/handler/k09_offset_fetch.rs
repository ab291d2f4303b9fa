//! OffsetFetch (9), versions 1 to 10: how far groups have read.
//!
//! - No offset is -1 with no error. Topics null (v2 and later) asks for all offsets of the group.
//! - v7: RequireStable (KIP-447). A partition in which a transaction has an offset pending is UNSTABLE_OFFSET_COMMIT,
//!   and the client asks again; without it, the client is told the offset from before the transaction.
//! - v8 and later ask for many groups, each answered by itself (KIP-709); before that, for one.
//! - v9 has members identify themselves, which only consumer groups check: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH. v10: topics by id,
//!   UNKNOWN_TOPIC_ID where there is none.
//! - A coordinator that is not there is an error of the group (v8 and later), of the answer (v2 and later) or of each
//!   partition (v1).

use std::sync::Arc;

use log_core::wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use log_core::wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use log_core::wire::messages::{OffsetFetchRequest, OffsetFetchResponse};
use log_core::wire::{ErrorCode, StrBytes, Uuid, message};

use super::group_requests::own;
use super::{Context, Request};
use crate::coordinator::group::{CommittedOffset, GroupCoordinator, GroupError};

/// Begins to answer one request.
pub fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: OffsetFetchRequest,
) -> impl Future<Output = OffsetFetchResponse> + Send + use<> {
    let version = request.version();
    let require_stable = message.require_stable;
    let questions: Vec<Question> = if version >= 8 {
        message.groups.iter().map(|group| Question::of_group(context, version, group)).collect()
    } else {
        vec![Question::of_request(&message)]
    };
    let answers: Vec<_> = (questions.into_iter())
        .map(|question| {
            let group_id = question.group_id.clone();
            let (asked, topics, member) =
                (group_id.clone(), question.topics.clone(), question.member.clone());
            let answer = context.groups.query(&group_id, move |groups| {
                groups.check_fetch(&asked, member.0.as_deref(), member.1)?;
                Ok(offsets(groups, &asked, topics, require_stable))
            });
            (question, answer)
        })
        .collect();
    let catalog = context.catalog.clone();
    async move {
        let mut groups = Vec::with_capacity(answers.len());
        for (question, answer) in answers {
            let answer = answer.await.map_err(ErrorCode::from);
            groups
                .push((question, answer.and_then(|answer| answer.map_err(|error: GroupError| error.into()))));
        }
        if version >= 8 {
            let topics = catalog.topics();
            let id_of = |name: &str| match version {
                10.. => topics.get(name).map_or(Uuid::ZERO, |topic| topic.id),
                _ => Uuid::ZERO,
            };
            let groups = groups
                .into_iter()
                .map(|(question, answer)| group_response(question, answer, version, &id_of));
            return message!(OffsetFetchResponse { groups: groups.collect() });
        }
        let (question, answer) = groups.pop().expect("one was asked for");
        single_response(question, answer, version)
    }
}

/// What one group is asked.
struct Question {
    group_id: Arc<str>,
    /// The member that asks, if it says, and its epoch.
    member: (Option<Arc<str>>, i32),
    /// `None` asks for all.
    topics: Option<Vec<AskedTopic>>,
    /// Topics by ids that nobody has.
    unknown: Vec<(Uuid, Vec<i32>)>,
}

#[derive(Clone)]
struct AskedTopic {
    name: Arc<str>,
    partitions: Vec<i32>,
}

/// What a partition's answer is: the offset if there is one.
type Answer = Result<Option<CommittedOffset>, ErrorCode>;

/// What one group answers: topics with their partitions.
type Offsets = Vec<(Arc<str>, Vec<(i32, Answer)>)>;

impl Question {
    fn of_request(message: &OffsetFetchRequest) -> Self {
        let topics = message.topics.as_ref().map(|topics| {
            let asked = topics.iter().map(|topic| AskedTopic {
                name: own(&topic.name),
                partitions: topic.partition_indexes.clone(),
            });
            asked.collect()
        });
        Question { group_id: own(&message.group_id), member: (None, -1), topics, unknown: Vec::new() }
    }

    fn of_group(context: &Context, version: i16, group: &OffsetFetchRequestGroup) -> Self {
        let mut unknown = Vec::new();
        let topics = group.topics.as_ref().map(|topics| {
            let mut asked = Vec::with_capacity(topics.len());
            for topic in topics {
                let partitions = topic.partition_indexes.clone();
                match (version, context.catalog.get_by_id(&topic.topic_id)) {
                    (..10, _) => asked.push(AskedTopic { name: own(&topic.name), partitions }),
                    (_, Some(found)) => asked.push(AskedTopic { name: found.name.clone(), partitions }),
                    (_, None) => unknown.push((topic.topic_id, partitions)),
                }
            }
            asked
        });
        let member = (group.member_id.as_ref().map(own), group.member_epoch);
        Question { group_id: own(&group.group_id), member, topics, unknown }
    }
}

/// What a group has committed, for the topics asked for or for all.
fn offsets(
    groups: &GroupCoordinator,
    group_id: &str,
    topics: Option<Vec<AskedTopic>>,
    require_stable: bool,
) -> Offsets {
    let stable = |topic: &str, partition, committed: Option<&CommittedOffset>| -> Answer {
        match require_stable && groups.has_pending_offset(group_id, topic, partition) {
            true => Err(ErrorCode::UnstableOffsetCommit),
            false => Ok(committed.cloned()),
        }
    };
    if let Some(topics) = topics {
        let answer = topics.into_iter().map(|topic| {
            let answer = |partition| {
                let committed = groups.committed(group_id, &topic.name, partition);
                (partition, stable(&topic.name, partition, committed))
            };
            let partitions = topic.partitions.iter().copied().map(answer).collect();
            (topic.name.clone(), partitions)
        });
        return answer.collect();
    }
    let mut all: Offsets = Vec::new();
    for (topic, partition, committed) in groups.committed_all(group_id).into_iter().flatten() {
        let row = (partition, stable(topic, partition, Some(committed)));
        match all.last_mut() {
            Some((name, partitions)) if name == topic => partitions.push(row),
            _ => all.push((topic.clone(), vec![row])),
        }
    }
    all
}

fn group_response(
    question: Question,
    answer: Result<Offsets, ErrorCode>,
    version: i16,
    id_of: &impl Fn(&str) -> Uuid,
) -> OffsetFetchResponseGroup {
    let group_id = StrBytes::from(&*question.group_id);
    let offsets = match answer {
        Ok(offsets) => offsets,
        Err(error) => {
            let error_code = error.code();
            return message!(OffsetFetchResponseGroup { group_id: group_id, error_code: error_code });
        }
    };
    let known = offsets.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, answer)| row(index, answer)).collect();
        let topic_id = id_of(&name);
        let name = if version < 10 { StrBytes::from(&*name) } else { StrBytes::default() };
        message!(OffsetFetchResponseTopics { name: name, topic_id: topic_id, partitions: partitions })
    });
    let unknown = question.unknown.into_iter().map(|(topic_id, partitions)| {
        let refused = |index| row(index, Err(ErrorCode::UnknownTopicId));
        let partitions = partitions.into_iter().map(refused).collect();
        message!(OffsetFetchResponseTopics { topic_id: topic_id, partitions: partitions })
    });
    message!(OffsetFetchResponseGroup { group_id: group_id, topics: known.chain(unknown).collect() })
}

fn row(index: i32, answer: Answer) -> OffsetFetchResponsePartitions {
    let (offset, epoch, metadata, error) = parts(answer);
    message!(OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: offset,
        committed_leader_epoch: epoch,
        metadata: Some(metadata),
        error_code: error.code(),
    })
}

/// The answer of versions 1 to 7, which know one group.
fn single_response(
    question: Question,
    answer: Result<Offsets, ErrorCode>,
    version: i16,
) -> OffsetFetchResponse {
    let (offsets, error) = match answer {
        Ok(offsets) => (offsets, ErrorCode::None),
        Err(error) => {
            let asked = question.topics.unwrap_or_default().into_iter();
            let none = |topic: AskedTopic| {
                (topic.name, topic.partitions.into_iter().map(|p| (p, Err(error))).collect())
            };
            (asked.map(none).collect(), error)
        }
    };
    let topics = offsets.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, answer)| {
            let (offset, epoch, metadata, error) = parts(answer);
            message!(OffsetFetchResponsePartition {
                partition_index: index,
                committed_offset: offset,
                committed_leader_epoch: if version >= 5 { epoch } else { -1 },
                metadata: Some(metadata),
                error_code: error.code(),
            })
        });
        let partitions = partitions.collect();
        message!(OffsetFetchResponseTopic { name: StrBytes::from(&*name), partitions: partitions })
    });
    message!(OffsetFetchResponse {
        topics: topics.collect(),
        error_code: if version >= 2 { error.code() } else { ErrorCode::None.code() },
    })
}

fn parts(answer: Answer) -> (i64, i32, StrBytes, ErrorCode) {
    match answer {
        Ok(Some(committed)) => {
            let metadata = StrBytes::from(&*committed.metadata);
            (committed.offset, committed.leader_epoch, metadata, ErrorCode::None)
        }
        Ok(None) => (-1, -1, StrBytes::default(), ErrorCode::None),
        Err(error) => (-1, -1, StrBytes::default(), error),
    }
}
