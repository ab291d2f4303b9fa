//! The HTTP side: metrics, health and a small JSON API, for operators and their tools.
//!
//! | path | answer |
//! |---|---|
//! | `GET /metrics` | all metrics in the OpenMetrics text format, lag among them |
//! | `GET /healthz` | 200 as long as the process answers |
//! | `GET /readyz` | 200 when requests are served; 503 with the reason while loading, stopping or offline |
//! | `GET /api/v1/groups` | the groups |
//! | `GET /api/v1/groups/{group}/lag` | what a group is behind by; 404 for one that does not exist |
//! | `GET /api/v1/scrub` | how far the scrub is, and the damage it has found |
//!
//! Errors of the API are JSON as well: `{"error": "…"}`.

mod api;
mod health;
mod metrics;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::handler::Context;

/// How long requests that have begun may take to end when the broker stops.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// A bound socket that does not answer yet.
pub struct HttpListener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

impl HttpListener {
    /// Binds `address`.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(address: SocketAddr) -> io::Result<HttpListener> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(HttpListener { socket, address })
    }

    /// The address that is listened on, with the port that the system chose for 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, and what has begun by then for a moment longer.
    pub async fn run(self, context: Arc<Context>, stop: CancellationToken) {
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_WAIT).await;
        };
        let served = async {
            let socket = TcpListener::from_std(self.socket)?;
            let stopped = stop.clone().cancelled_owned();
            axum::serve(socket, router(context)).with_graceful_shutdown(stopped).await
        };
        tokio::select! {
            served = served => if let Err(error) = served {
                tracing::error!(%error, "HTTP is not served any more");
            },
            // Whoever sends half of a request must not keep the broker from stopping.
            () = overdue => {}
        }
    }
}

/// All routes.
pub fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/api/v1/groups", get(api::groups))
        .route("/api/v1/groups/{group}/lag", get(api::group_lag))
        .route("/api/v1/scrub", get(api::scrub))
        .fallback(|| async { api::error(StatusCode::NOT_FOUND, "there is no such path") })
        .with_state(context)
}
