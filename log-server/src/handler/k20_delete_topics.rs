//! DeleteTopics (20), versions 1 to 6: by name, and from version 6 on by id too.
//!
//! - An id that does not exist is UNKNOWN_TOPIC_ID, a name UNKNOWN_TOPIC_OR_PARTITION.
//! - Both an id and a name, neither, or one topic twice is INVALID_REQUEST.
//! - The broker's own topics are INVALID_REQUEST: the offsets of all groups would go with them.
//! - The answer comes when the topic is gone, durably, and with it every group's offsets in it: a topic that is created
//!   again under the name begins unread. Its files go when the last reader has let go of them.

use std::collections::HashMap;
use std::sync::Arc;

use log_core::wire::messages::delete_topics_response::DeletableTopicResult;
use log_core::wire::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use log_core::wire::{ErrorCode, StrBytes, Uuid, message};

use super::{ApiFailure, Context, Request};
use crate::topic::TopicError;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let by_name = message.topic_names.into_iter().map(|name| (Some(name), Uuid::ZERO));
    let wanted: Vec<(Option<StrBytes>, Uuid)> =
        message.topics.into_iter().map(|topic| (topic.name, topic.topic_id)).chain(by_name).collect();
    let names: Vec<_> = wanted.iter().map(|(name, id)| resolve(context, name.as_ref(), *id)).collect();
    let mut times: HashMap<&StrBytes, usize> = HashMap::new();
    for name in names.iter().flatten() {
        *times.entry(name).or_default() += 1;
    }
    let mut responses = Vec::with_capacity(wanted.len());
    let mut gone: Vec<Arc<str>> = Vec::new();
    for ((asked_name, topic_id), name) in wanted.into_iter().zip(&names) {
        let deleted = match name {
            Ok(name) if times[name] > 1 => {
                Err(ApiFailure::new(ErrorCode::InvalidRequest, "the topic is in this request more than once"))
            }
            Ok(name) => context.topics.delete(name).await.map(|()| name.clone()).map_err(failure),
            Err(failure) => Err(failure.clone()),
        };
        responses.push(match deleted {
            Ok(name) => {
                gone.push((&*name).into());
                message!(DeletableTopicResult { name: Some(name), topic_id })
            }
            Err(failure) => {
                failure.count(context, request);
                let (error_code, error_message) = (failure.code(), failure.message());
                message!(DeletableTopicResult { name: asked_name, topic_id, error_code, error_message })
            }
        });
    }
    if !gone.is_empty() {
        context.groups.forget_topics(gone).await;
    }
    message!(DeleteTopicsResponse { responses })
}

/// The name of the topic that is meant.
fn resolve(context: &Context, name: Option<&StrBytes>, id: Uuid) -> Result<StrBytes, ApiFailure> {
    match name {
        Some(name) if id.is_zero() => Ok(name.clone()),
        None if !id.is_zero() => match context.catalog.get_by_id(&id) {
            Some(topic) => Ok((&*topic.name).into()),
            None => Err(ApiFailure::new(ErrorCode::UnknownTopicId, "there is no topic with this id")),
        },
        _ => Err(ApiFailure::new(ErrorCode::InvalidRequest, "a topic is given by its name or by its id")),
    }
}

fn failure(error: TopicError) -> ApiFailure {
    let code = match &error {
        TopicError::Unknown(_) => ErrorCode::UnknownTopicOrPartition,
        TopicError::Internal(_) => ErrorCode::InvalidRequest,
        TopicError::Config(_) => ErrorCode::InvalidConfig,
        TopicError::Storage(_) => ErrorCode::KafkaStorageError,
    };
    ApiFailure::new(code, error)
}
