//! Whether the broker lives, and whether it serves.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiError;
use crate::handler::Context;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz))
}

/// 200 as long as the process answers.
#[utoipa::path(
    get, path = "/healthz", tag = "health",
    responses((status = 200, content_type = "text/plain", body = String)),
)]
async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 while requests are served, or else why they are not.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 503, description = "Loading, stopping or offline", content_type = "text/plain", body = String),
    ),
)]
async fn readyz(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    match not_ready(&context) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Refuses what changes something while requests are not served.
///
/// # Errors
/// 503 with the reason.
pub(super) fn check_ready(context: &Context) -> Result<(), ApiError> {
    match not_ready(context) {
        None => Ok(()),
        Some(reason) => Err(ApiError::unavailable(format!("the broker is not ready: {reason}"))),
    }
}

/// Why requests are not served, if they are not.
pub(super) fn not_ready(context: &Context) -> Option<String> {
    if context.shutdown.is_cancelled() {
        return Some("shutting down".to_owned());
    }
    if let Some(reason) = context.log_dir.health().reason() {
        return Some(format!("the log directory is offline: {reason}"));
    }
    if !context.groups.is_ready() {
        return Some("loading the groups".to_owned());
    }
    (!context.transactions.is_ready()).then(|| "loading the transactions".to_owned())
}
