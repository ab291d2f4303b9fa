//! The HTTP side: metrics, health and a JSON API, for people with curl, the console and other tools.
//!
//! One file a noun, each with a `router()` of its own. A route and its description are one thing: what is added by
//! `routes!` is served and is in `/api/v1/openapi.json`. To add one:
//!
//! 1. In the noun's file, write the handler: `async fn` of extractors, returning `Result<Json<T>, ApiError>`. Use
//!    `Path`, `Query`, `JsonBody` and `Whole` of [`extract`], which answer errors as JSON and bound what they read.
//! 2. Above it `#[utoipa::path(get, path = "/api/v1/…", tag = "…", params(…), responses(…))]`; its first comment line is
//!    the summary. `T` derives `Serialize` and `utoipa::ToSchema`, a query derives `Deserialize` and
//!    `utoipa::IntoParams`.
//! 3. Add it to the file's `router()` by `.routes(routes!(handler))`; handlers of one path but different methods go into
//!    one `routes!`.
//! 4. A new file is merged in [`described`] below. Whatever changes something calls [`health::check_ready`] first.
//! 5. A row in `docs/http-api.md`, which a test holds against the description.
//!
//! ```ignore
//! pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
//!     OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, delete))
//! }
//! ```
//! What is for browsers and no part of the API, [`console`], is beside all that. Errors are
//! `{"error": "what, with what, what to do"}`.

mod broker;
mod call;
mod configs;
mod console;
mod error;
mod extract;
mod gate;
mod groups;
mod guard;
mod health;
mod lag_metrics;
mod metrics;
mod openapi;
mod partition_metrics;
mod records;
mod scrub;
mod server;
mod slo;
mod topics;

use std::sync::Arc;

use axum::http::StatusCode;
use axum::{Extension, Router, middleware};
use utoipa_axum::router::OpenApiRouter;

use error::{ApiError, ErrorBody};
use gate::Gate;
pub use guard::Guard;
pub use server::HttpListener;

use crate::handler::Context;

/// All routes, behind the guard.
pub fn router(context: Arc<Context>, guard: Guard) -> Router {
    openapi::with_description(described())
        .merge(console::routes())
        .fallback(|| async { ApiError::not_found("there is no such path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "the path does not take this method")
        })
        .layer(Extension(Arc::new(Gate::new())))
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .with_state(context)
}

/// The routes that the description has.
fn described() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::with_openapi(openapi::description())
        .merge(health::router())
        .merge(metrics::router())
        .merge(broker::router())
        .merge(topics::router())
        .merge(records::router())
        .merge(configs::router())
        .merge(groups::router())
        .merge(slo::router())
        .merge(scrub::router())
}
