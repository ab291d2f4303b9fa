//! What requests bring, taken apart: axum's extractors with this API's errors, and with bounds of time and size.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::ApiError;
use super::gate::Gate;
use crate::handler::Context;

/// The parts of the path, as [`axum::extract::Path`].
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Context>> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, ApiError> {
        let found: Result<axum::extract::Path<T>, PathRejection> =
            axum::extract::Path::from_request_parts(parts, context).await;
        found.map(|path| Path(path.0)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}

/// What stands behind the question mark, as [`axum::extract::Query`].
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Context>> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, ApiError> {
        let found: Result<axum::extract::Query<T>, QueryRejection> =
            axum::extract::Query::from_request_parts(parts, context).await;
        found.map(|query| Query(query.0)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}

/// What all requests share.
pub(super) struct Shared(pub(super) Arc<Gate>);

impl FromRequestParts<Arc<Context>> for Shared {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _context: &Arc<Context>) -> Result<Self, ApiError> {
        Ok(Shared(parts.extensions.get::<Arc<Gate>>().expect("the router puts it on every request").clone()))
    }
}

/// The whole body: at most `http_body_bytes_max`, within `request_receive_ms`.
pub(super) struct Whole {
    pub(super) body: Bytes,
    /// The body's share of the memory for bodies; to be kept as long as what the body was made into.
    pub(super) share: OwnedSemaphorePermit,
}

impl FromRequest<Arc<Context>> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Arc<Context>) -> Result<Self, ApiError> {
        let bytes_max = context.config.http_body_bytes_max;
        let within = Duration::from_millis(context.config.request_receive_ms);
        let gate =
            request.extensions().get::<Arc<Gate>>().expect("the router puts it on every request").clone();
        let body = request.into_body();
        // What says no length may become as long as any.
        let bytes = body.size_hint().upper().unwrap_or(bytes_max);
        if bytes > bytes_max {
            return Err(too_long(bytes_max));
        }
        let share = gate.body(bytes).await?;
        let body = read(body, bytes_max, within).await?;
        Ok(Whole { body, share })
    }
}

/// A body of JSON, with the bounds of [`Whole`].
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Context>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Arc<Context>) -> Result<Self, ApiError> {
        let whole = Whole::from_request(request, context).await?;
        parse_json(&whole.body).map(JsonBody)
    }
}

/// Reads JSON.
pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("the body as JSON: {error}")))
}

fn too_long(bytes_max: u64) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {bytes_max} bytes (setting http_body_bytes_max); send less at once"),
    )
}

async fn read(body: Body, bytes_max: u64, within: Duration) -> Result<Bytes, ApiError> {
    let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    match tokio::time::timeout(within, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(too_long(bytes_max)),
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the body: {error}"))),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body was not there within {within:?} (setting request_receive_ms)"),
        )),
    }
}

/// Whether the body went past its limit, which the error's cause knows.
fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
