//! Lag objectives, the workers that groups need, and what is shed.
//!
//! An objective is set in its group's configuration, as any client's admin API can (decision 19), so both ways show the
//! same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{JsonBody, Path};
use super::health::check_ready;
use super::{ApiError, ErrorBody};
use crate::clock::now_ms;
use crate::handler::Context;
use crate::resource_config::objective;
use crate::resource_config::{InvalidConfig, Kind, ResourceConfigError, collect};
use crate::shedding::Status;
use crate::slo::{NoScale, Report, Scale};

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put, delete))
        .routes(routes!(scale))
        .routes(routes!(shedding))
}

/// The names that an objective consists of.
const NAMES: [&str; 4] = [objective::LAG, objective::TARGET, objective::WEBHOOK, objective::WINDOW];

#[derive(Serialize, ToSchema)]
struct SloList {
    /// By group.
    slos: Vec<Report>,
}

/// An objective to be set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSlo {
    /// How far behind the group may be, in seconds.
    lag_seconds_objective: f64,
    /// The part of the window in which that is to hold; 0.99 without it.
    target: Option<f64>,
    /// The window, in seconds; an hour without it.
    window_seconds: Option<f64>,
    /// Where changes of state are posted; where the broker's setting says without it.
    webhook: Option<String>,
}

impl NewSlo {
    /// The entries of the group's configuration that it comes to.
    fn entries(self) -> Result<BTreeMap<String, String>, ApiError> {
        let millis = |name: &str, seconds: f64| match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time.as_millis() > 0 => Ok(time.as_millis().to_string()),
            _ => Err(ApiError::bad_request(format!("{name} is {seconds}; give a number of seconds above 0"))),
        };
        let lag = millis("lag_seconds_objective", self.lag_seconds_objective)?;
        let window = self.window_seconds.map(|seconds| millis("window_seconds", seconds)).transpose()?;
        let entries = [
            (objective::LAG, Some(lag)),
            (objective::TARGET, self.target.map(|target| target.to_string())),
            (objective::WINDOW, window),
            (objective::WEBHOOK, self.webhook.filter(|url| !url.is_empty())),
        ];
        let set = entries.into_iter().filter(|(_, value)| value.is_some());
        let set = set.map(|(name, value)| (name.to_owned(), value));
        collect(Kind::Group, set).map_err(ApiError::bad_request)
    }
}

/// All lag objectives, and where they stand.
#[utoipa::path(get, path = "/api/v1/slos", tag = "objectives", responses((status = 200, body = SloList)))]
async fn list(State(context): State<Arc<Context>>) -> Json<SloList> {
    refresh(&context);
    Json(SloList { slos: context.slos.reports(Instant::now()) })
}

/// A group's lag objective, and where it stands.
#[utoipa::path(
    get, path = "/api/v1/slos/{group}", tag = "objectives",
    params(("group", description = "The group's id")),
    responses(
        (status = 200, body = Report),
        (status = 404, description = "The group has no objective", body = ErrorBody),
    ),
)]
async fn show(
    State(context): State<Arc<Context>>,
    Path(group): Path<String>,
) -> Result<Json<Report>, ApiError> {
    refresh(&context);
    report(&context, &group)
}

/// Sets a group's lag objective, or another one in its place. Durable when it is answered.
#[utoipa::path(
    put, path = "/api/v1/slos/{group}", tag = "objectives",
    params(("group", description = "The group's id; the group need not exist yet")),
    request_body = NewSlo,
    responses(
        (status = 200, body = Report),
        (status = 400, description = "A value that an objective cannot have", body = ErrorBody),
        (status = 503, description = "The broker is not ready", body = ErrorBody),
    ),
)]
async fn put(
    State(context): State<Arc<Context>>,
    Path(group): Path<String>,
    JsonBody(new): JsonBody<NewSlo>,
) -> Result<Json<Report>, ApiError> {
    change(&context, &group, new.entries()?).await?;
    report(&context, &group)
}

/// Deletes a group's lag objective.
#[utoipa::path(
    delete, path = "/api/v1/slos/{group}", tag = "objectives",
    params(("group", description = "The group's id")),
    responses(
        (status = 204),
        (status = 404, description = "The group has no objective", body = ErrorBody),
        (status = 503, description = "The broker is not ready", body = ErrorBody),
    ),
)]
async fn delete(
    State(context): State<Arc<Context>>,
    Path(group): Path<String>,
) -> Result<StatusCode, ApiError> {
    refresh(&context);
    if context.slos.state(&group).is_none() {
        return Err(unknown(&group));
    }
    change(&context, &group, BTreeMap::new()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How many workers a group with an objective needs, as KEDA's metrics-api scaler reads it.
#[utoipa::path(
    get, path = "/api/v1/groups/{group}/scale", tag = "objectives",
    params(("group", description = "The group's id")),
    responses(
        (status = 200, body = Scale),
        (status = 404, description = "The group has no objective", body = ErrorBody),
        (status = 503, description = "Nothing is known yet of the group's lag, or of what comes in", body = ErrorBody),
    ),
)]
async fn scale(
    State(context): State<Arc<Context>>,
    Path(group): Path<String>,
) -> Result<Json<Scale>, ApiError> {
    context.slos.scale(&group).map(Json).map_err(|reason| match reason {
        NoScale::NoObjective => unknown(&group),
        NoScale::Unknown => ApiError::unavailable(format!(
            "nothing is known of the lag of group {group} yet, or of what comes in; it has to have committed an offset"
        )),
    })
}

/// Which producers are held up or refused, and why.
#[utoipa::path(get, path = "/api/v1/shedding", tag = "objectives", responses((status = 200, body = Status)))]
async fn shedding(State(context): State<Arc<Context>>) -> Json<Status> {
    Json(context.shedding.status(&context.catalog.topics()))
}

/// Has objectives that were set a moment ago, by whatever way, show at once.
fn refresh(context: &Context) {
    context.slos.set(context.resource_configs.objectives(), Instant::now(), now_ms());
}

fn report(context: &Context, group: &str) -> Result<Json<Report>, ApiError> {
    context.slos.report(group, Instant::now()).map(Json).ok_or_else(|| unknown(group))
}

fn unknown(group: &str) -> ApiError {
    ApiError::not_found(format!(
        "group {group} has no lag objective; set one with `highwater slo set --group {group} --lag 30s`"
    ))
}

/// Puts these entries in the place of a group's objective, and leaves the rest of its configuration.
async fn change(
    context: &Arc<Context>,
    group: &str,
    entries: BTreeMap<String, String>,
) -> Result<(), ApiError> {
    check_ready(context)?;
    if group.is_empty() {
        return Err(ApiError::bad_request("a group has a name"));
    }
    let (of, name) = (context.clone(), group.to_owned());
    let updated = tokio::task::spawn_blocking(move || {
        of.resource_configs.update(Kind::Group, &name, &of.config, false, |before| {
            let mut config = before.clone();
            config.retain(|name, _| !NAMES.contains(&name.as_str()));
            config.extend(entries);
            Ok::<_, InvalidConfig>(config)
        })
    });
    match updated.await {
        Ok(Ok(())) => {
            refresh(context);
            Ok(())
        }
        Ok(Err(reason)) => {
            let status = match &reason {
                ResourceConfigError::Invalid(_) => StatusCode::BAD_REQUEST,
                ResourceConfigError::TooMany => StatusCode::CONFLICT,
                ResourceConfigError::Io(_) => StatusCode::INSUFFICIENT_STORAGE,
            };
            Err(ApiError::new(status, reason))
        }
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
