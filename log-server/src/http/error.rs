//! What a request is answered with instead of what it asked for: a status, and a sentence that says what is wrong, with
//! what, and what to do.

use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::runtime::Unavailable;

/// The body of every answer that is no success.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What is wrong, with what, and what to do.
    error: String,
}

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// With this status, for this reason.
    pub(super) fn new(status: StatusCode, reason: impl fmt::Display) -> ApiError {
        ApiError { status, message: reason.to_string(), retry_after: None }
    }

    /// 400: the request cannot be served as it stands.
    pub(super) fn bad_request(reason: impl fmt::Display) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, reason)
    }

    /// 404.
    pub(super) fn not_found(reason: impl fmt::Display) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, reason)
    }

    /// 503: the same request may succeed later.
    pub(super) fn unavailable(reason: impl fmt::Display) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason).retry_after(Duration::from_secs(1))
    }

    /// 429: all that HTTP may produce or read for now is spent (client id `http` in quotas).
    pub(super) fn over_quota(wait: Duration) -> ApiError {
        let reason = "the quota of client id http is spent; try again later, or have it raised";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, reason).retry_after(wait)
    }

    /// Tells the client how long to wait before it tries again, in whole seconds, rounded up.
    pub(super) fn retry_after(mut self, wait: Duration) -> ApiError {
        self.retry_after = Some(wait);
        self
    }
}

impl ApiError {
    /// Whether the same request may succeed later.
    pub(super) fn is_retriable(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// How long the client is told to wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The body that it is answered with.
    pub(super) fn to_json(&self) -> String {
        serde_json::json!({ "error": self.message }).to_string()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.message })).into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(
                RETRY_AFTER,
                wait.as_millis()
                    .div_ceil(1000)
                    .max(1)
                    .to_string()
                    .parse()
                    .expect("digits are a header's value"),
            );
        }
        response
    }
}

impl From<Unavailable> for ApiError {
    fn from(reason: Unavailable) -> ApiError {
        ApiError::unavailable(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_whole_seconds_to_wait_and_never_too_few() {
        let response = ApiError::unavailable("busy").retry_after(Duration::from_millis(1001)).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let response = ApiError::unavailable("busy").retry_after(Duration::ZERO).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
