//! GetTelemetrySubscriptions (71), version 0: a client asks which metrics it is to push, and how often (KIP-714).
//!
//! - A zero client instance id gets a random one, which the client keeps.
//! - Settings `telemetry_metrics` and `telemetry_push_interval_ms` say what all clients are asked for: one empty prefix
//!   for all metrics, none at all for no metrics. Subscriptions that the client matches add theirs.
//! - Sums come since their start and not since the last push: a push that is lost loses nothing then.
//! - Asking again before the interval is over, or with too many clients already, is THROTTLING_QUOTA_EXCEEDED.

use std::sync::Arc;
use std::time::Instant;

use log_core::record::Compression;
use log_core::wire::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};
use log_core::wire::{ErrorCode, message};

use super::client_facts::subscription_of;
use super::{Context, Request};
use crate::telemetry::TELEMETRY_BYTES_MAX;

/// What pushes may be compressed with; clients take the first that they can.
const ACCEPTED: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: GetTelemetrySubscriptionsRequest,
) -> GetTelemetrySubscriptionsResponse {
    let subscription = subscription_of(context, request, message.client_instance_id);
    let push_interval_ms = i32::try_from(subscription.interval.as_millis()).unwrap_or(i32::MAX);
    match context.telemetry.subscribe(message.client_instance_id, &subscription, Instant::now()) {
        Ok(subscribed) => message!(GetTelemetrySubscriptionsResponse {
            client_instance_id: subscribed.instance,
            subscription_id: subscribed.subscription_id,
            accepted_compression_types: ACCEPTED.iter().map(|codec| codec.id() as i8).collect(),
            push_interval_ms,
            telemetry_max_bytes: TELEMETRY_BYTES_MAX as i32,
            delta_temporality: false,
            requested_metrics: subscription.metrics.iter().map(|prefix| prefix.as_str().into()).collect(),
        }),
        Err(_) => {
            let error = ErrorCode::ThrottlingQuotaExceeded;
            context.metrics.error_answered(request.api, error.name());
            message!(GetTelemetrySubscriptionsResponse {
                error_code: error.code(),
                client_instance_id: message.client_instance_id,
                push_interval_ms,
            })
        }
    }
}
