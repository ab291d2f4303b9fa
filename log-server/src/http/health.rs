//! Whether the broker lives, and whether it serves.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::handler::Context;

/// `GET /healthz`.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`.
pub(super) async fn readyz(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    match not_ready(&context) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Why requests are not served, if they are not.
fn not_ready(context: &Context) -> Option<String> {
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
