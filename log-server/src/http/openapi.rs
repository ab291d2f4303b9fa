//! The description of this API, which the broker serves: OpenAPI 3.1, made of what stands beside each handler.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bytes::Bytes;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What there is to say of the whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Highwater",
        description = "Topics, records, groups and their lag over HTTP. `*_ms` are milliseconds since the epoch, \
                       `*_seconds` and rates are floats, and null stands for what is not known. Every error is \
                       `{\"error\": \"…\"}`.",
    ),
    tags(
        (name = "broker", description = "This broker: its state, its settings, who is connected"),
        (name = "topics", description = "Topics: what there is, creating, deleting, configuring"),
        (name = "records", description = "Records: reading, following, writing"),
        (name = "groups", description = "Consumer groups and what they are behind by"),
        (name = "objectives", description = "Lag objectives, the workers that they take, and what is shed for them"),
        (name = "objectives", description = "Lag objectives, workers that groups need, and what is shed"),
        (name = "health", description = "For probes and scrapers"),
    ),
)]
struct Description;

/// The description without any path yet.
pub(super) fn description() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Where the description is served.
const PATH: &str = "/api/v1/openapi.json";

/// The description of all routes, this one among them, as OpenAPI 3.1.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "broker",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
async fn openapi() {}

/// Serves the description of `routes` beside them.
pub(super) fn with_description<S: Clone + Send + Sync + 'static>(routes: OpenApiRouter<S>) -> Router<S> {
    let (router, mut api) = routes.split_for_parts();
    let (_, this) = OpenApiRouter::<S>::new().routes(routes!(openapi)).split_for_parts();
    api.merge(this);
    let text = Bytes::from(api.to_json().expect("a description consists of texts"));
    router.route(PATH, get(move || async move { ([(CONTENT_TYPE, "application/json")], text) }))
}
