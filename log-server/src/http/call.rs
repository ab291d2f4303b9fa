//! Asks the broker's own handlers, as a Kafka client would and without a socket: what can be done both ways is done by
//! the same code, checked by the same rules, and refused with the same sentence.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use bytes::Bytes;
use log_core::wire::{
    ApiKey, ErrorCode, RequestHeader, RequestResponsePair, ResponseHeader, decode_response, encode_request,
};

use super::ApiError;
use crate::handler::{ConnectionInfo, Context, Reply, Request, dispatch};

/// What HTTP's clients are called where clients have names: in quotas, for one.
pub(super) const CLIENT_ID: &str = "http";

/// Bytes of the length in front of a frame.
const LENGTH_BYTES: usize = 4;

/// Asks a handler of the control plane, in the newest version that it serves.
///
/// # Errors
/// 500 for what only a bug brings about; what the handler refuses is in its answer.
pub(super) async fn call<Q: RequestResponsePair>(
    context: &Arc<Context>,
    message: Q,
) -> Result<Q::Response, ApiError> {
    let api = ApiKey::from_code(Q::API_KEY.value()).ok_or_else(|| internal("the API is not served"))?;
    let version = api.served().max;
    let body = encode_request(&message, version).map_err(internal)?;
    let answer = ask(context, api, version, body, unmuted()).await?;
    decode_response(answer, version).map_err(internal)
}

/// Hands a request to its handler and waits for the answer's body.
///
/// # Errors
/// As [`call`].
pub(super) async fn ask(
    context: &Arc<Context>,
    api: ApiKey,
    version: i16,
    body: Bytes,
    connection: Arc<ConnectionInfo>,
) -> Result<Bytes, ApiError> {
    let header = RequestHeader {
        api_key: api.code(),
        api_version: version,
        correlation_id: 0,
        client_id: Some(CLIENT_ID.into()),
    };
    let request = Request { api, header, body, connection, received_at: Instant::now() };
    let frame = match dispatch(context, request).await {
        Reply::Ready(frame) => frame,
        Reply::Pending(pending) => pending.await.map_err(internal)?,
        Reply::PendingSync(turn, pending) => {
            // The sync is the flusher's: this task shares its thread with others.
            drop(turn);
            pending.await.map_err(internal)?
        }
        Reply::None => return Err(internal("no answer")),
        Reply::Close(refusal) => return Err(internal(refusal)),
    };
    let mut frame = Bytes::from(frame.concat());
    let (_, body) = ResponseHeader::decode(frame.split_off(LENGTH_BYTES.min(frame.len())), api, version)
        .map_err(internal)?;
    Ok(body)
}

/// A connection for requests that no quota holds up.
fn unmuted() -> Arc<ConnectionInfo> {
    Arc::new(ConnectionInfo::new(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
}

fn internal(error: impl std::fmt::Display) -> ApiError {
    tracing::error!(%error, "HTTP could not ask a handler");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}; this is a bug, please report it"))
}

/// The outcome that a handler's answer has, by its code, with the handler's sentence.
///
/// # Errors
/// For every code but 0, with the status that stands for it.
pub(super) fn outcome(code: i16, message: Option<&str>) -> Result<(), ApiError> {
    let error = match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => return Ok(()),
        error => error.unwrap_or(ErrorCode::UnknownServerError),
    };
    let text = message.filter(|message| !message.is_empty()).unwrap_or(error.name());
    let status = match error {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => StatusCode::NOT_FOUND,
        ErrorCode::TopicAlreadyExists => StatusCode::CONFLICT,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RequestTimedOut => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::InvalidTopic
        | ErrorCode::InvalidPartitions
        | ErrorCode::InvalidReplicationFactor
        | ErrorCode::InvalidConfig
        | ErrorCode::InvalidRequest
        | ErrorCode::InvalidRecord
        | ErrorCode::InvalidTimestamp
        | ErrorCode::CorruptMessage
        | ErrorCode::UnsupportedCompressionType => StatusCode::BAD_REQUEST,
        ErrorCode::PolicyViolation => StatusCode::FORBIDDEN,
        error if error.is_retriable() => return Err(ApiError::unavailable(text)),
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Err(ApiError::new(status, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_succeed_later_is_503_and_what_never_will_is_not() {
        assert_eq!(outcome(0, None), Ok(()));
        assert_eq!(outcome(56, Some("full")), Err(ApiError::unavailable("full")));
        assert_eq!(outcome(3, None), Err(ApiError::not_found("UNKNOWN_TOPIC_OR_PARTITION")));
        assert_eq!(outcome(17, Some("no")), Err(ApiError::bad_request("no")));
    }
}
