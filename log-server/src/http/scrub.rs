//! The scrub: how far it is, and the damage it has found.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::handler::Context;
use crate::scrub::ScrubStatus;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new().routes(routes!(scrub))
}

/// How far the scrub is, and the damage it has found.
#[utoipa::path(get, path = "/api/v1/scrub", tag = "broker", responses((status = 200, body = ScrubStatus)))]
async fn scrub(State(context): State<Arc<Context>>) -> Json<ScrubStatus> {
    Json(context.scrubber.status())
}
