//! Groups and their lag.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Path, Query};
use super::{ApiError, ErrorBody};
use crate::coordinator::group::MemberOverview;
use crate::handler::Context;
use crate::lag::{self, GroupLag, LagHistory, PartitionLag, Rates};
use crate::slo;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new()
        .routes(routes!(groups))
        .routes(routes!(group))
        .routes(routes!(group_lag))
        .routes(routes!(history))
}

#[derive(Serialize, ToSchema)]
struct Groups {
    groups: Vec<Group>,
}

/// A group in one line.
#[derive(Serialize, ToSchema)]
struct Group {
    group: Arc<str>,
    state: &'static str,
    protocol_type: Arc<str>,
    protocol: &'static str,
    members: usize,
    lag_records: i64,
    lag_exact: bool,
    /// `None` if it is not known of all partitions.
    lag_seconds: Option<f64>,
    #[serde(flatten)]
    rates: Rates,
    /// What its objective says, if it has one.
    slo_state: Option<&'static str>,
}

impl Group {
    fn of(context: &Context, lag: &GroupLag) -> Group {
        Group {
            group: lag.group.clone(),
            state: lag.state.name(),
            protocol_type: lag.protocol_type.clone(),
            protocol: lag.protocol.name(),
            members: lag.members.len(),
            lag_records: lag.lag_records(),
            lag_exact: lag.is_exact(),
            lag_seconds: lag.lag_seconds(),
            rates: lag.rates,
            slo_state: context.slos.state(&lag.group).map(slo::State::name),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct GroupInFull {
    #[serde(flatten)]
    group: Group,
    member_list: Vec<Member>,
}

#[derive(Serialize, ToSchema)]
struct Member {
    member_id: Arc<str>,
    instance_id: Option<Arc<str>>,
    client_id: Arc<str>,
    client_host: Arc<str>,
    assignment: Vec<Assigned>,
}

#[derive(Serialize, ToSchema)]
struct Assigned {
    topic: Arc<str>,
    partitions: Vec<i32>,
}

impl Member {
    fn of(member: MemberOverview) -> Member {
        let assigned = member.assignment.into_iter();
        Member {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            assignment: assigned.map(|(topic, partitions)| Assigned { topic, partitions }).collect(),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct LagInFull {
    group: Arc<str>,
    lag_records: i64,
    lag_exact: bool,
    /// `None` if it is not known of all partitions.
    lag_seconds: Option<f64>,
    #[serde(flatten)]
    rates: Rates,
    partitions: Vec<PartitionLag>,
}

/// All groups, with their members counted, lag and rates.
#[utoipa::path(
    get, path = "/api/v1/groups", tag = "groups",
    responses((status = 200, body = Groups), (status = 503, description = "The groups are being loaded", body = ErrorBody)),
)]
async fn groups(State(context): State<Arc<Context>>) -> Result<Json<Groups>, ApiError> {
    let groups = lag::of_all_groups(&context).await?;
    Ok(Json(Groups { groups: groups.iter().map(|lag| Group::of(&context, lag)).collect() }))
}

/// One group, with its members and who works on what.
#[utoipa::path(
    get, path = "/api/v1/groups/{group}", tag = "groups",
    params(("group", description = "The group's id")),
    responses(
        (status = 200, body = GroupInFull),
        (status = 404, description = "There is no such group", body = ErrorBody),
        (status = 503, description = "The groups are being loaded", body = ErrorBody),
    ),
)]
async fn group(
    State(context): State<Arc<Context>>,
    Path(group): Path<String>,
) -> Result<Json<GroupInFull>, ApiError> {
    let lag = known(&context, &group).await?;
    let row = Group::of(&context, &lag);
    let member_list = lag.members.into_iter().map(Member::of).collect();
    Ok(Json(GroupInFull { group: row, member_list }))
}

/// What a group is behind by, in all and by partition.
#[utoipa::path(
    get, path = "/api/v1/groups/{group}/lag", tag = "groups",
    params(("group", description = "The group's id")),
    responses(
        (status = 200, body = LagInFull),
        (status = 404, description = "There is no such group", body = ErrorBody),
        (status = 503, description = "The groups are being loaded", body = ErrorBody),
    ),
)]
async fn group_lag(
    State(context): State<Arc<Context>>,
    Path(group): Path<String>,
) -> Result<Json<LagInFull>, ApiError> {
    let lag = known(&context, &group).await?;
    Ok(Json(LagInFull {
        lag_records: lag.lag_records(),
        lag_exact: lag.is_exact(),
        lag_seconds: lag.lag_seconds(),
        rates: lag.rates,
        group: lag.group,
        partitions: lag.partitions,
    }))
}

/// How much of a history is wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Span {
    /// Seconds back from now; 3600 without it.
    seconds: Option<u32>,
    /// Points at most; 300 without it.
    points: Option<u32>,
}

/// What a group was behind by in the last hours. No points for a group that there is no room to remember.
#[utoipa::path(
    get, path = "/api/v1/groups/{group}/lag/history", tag = "groups",
    params(("group", description = "The group's id"), Span),
    responses(
        (status = 200, body = LagHistory),
        (status = 404, description = "There is no such group", body = ErrorBody),
        (status = 503, description = "The groups are being loaded", body = ErrorBody),
    ),
)]
async fn history(
    State(context): State<Arc<Context>>,
    Path(group): Path<String>,
    Query(span): Query<Span>,
) -> Result<Json<LagHistory>, ApiError> {
    let (seconds, points) = (span.seconds.unwrap_or(3600), span.points.unwrap_or(300));
    if let Some(history) = context.lag.history(&group, seconds, points) {
        return Ok(Json(history));
    }
    let group = known(&context, &group).await?.group;
    Ok(Json(LagHistory::empty(group)))
}

/// The group's lag.
async fn known(context: &Arc<Context>, group: &str) -> Result<GroupLag, ApiError> {
    lag::of_group(context, group)
        .await?
        .ok_or_else(|| ApiError::not_found(format!("there is no group {group}")))
}
