//! The JSON API.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::coordinator::group::GroupCoordinator;
use crate::handler::Context;
use crate::lag;
use crate::runtime::Unavailable;

#[derive(Serialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    group: Arc<str>,
    state: &'static str,
    protocol_type: Arc<str>,
}

#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
}

/// An error of the API.
pub(super) fn error(status: StatusCode, error: &str) -> Response {
    (status, Json(Failure { error })).into_response()
}

fn unavailable(reason: Unavailable) -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string())
}

/// `GET /api/v1/groups`.
pub(super) async fn groups(State(context): State<Arc<Context>>) -> Response {
    let shards = match context.groups.query_all(GroupCoordinator::list).await {
        Ok(shards) => shards,
        Err(reason) => return unavailable(reason),
    };
    let mut groups: Vec<Group> = (shards.into_iter().flatten())
        .map(|group| Group {
            group: group.group_id,
            state: group.state.name(),
            protocol_type: group.protocol_type,
        })
        .collect();
    groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
    Json(Groups { groups }).into_response()
}

/// `GET /api/v1/groups/{group}/lag`.
pub(super) async fn group_lag(State(context): State<Arc<Context>>, Path(group): Path<String>) -> Response {
    match lag::of_group(&context, &group).await {
        Ok(Some(lag)) => Json(lag).into_response(),
        Ok(None) => error(StatusCode::NOT_FOUND, &format!("there is no group {group}")),
        Err(reason) => unavailable(reason),
    }
}

/// `GET /api/v1/scrub`.
pub(super) async fn scrub(State(context): State<Arc<Context>>) -> Response {
    Json(context.scrubber.status()).into_response()
}
