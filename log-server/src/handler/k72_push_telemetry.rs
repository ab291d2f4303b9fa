//! PushTelemetry (72), version 0: a client's metrics (KIP-714), which `/metrics` shows until it is silent for three
//! intervals.
//!
//! - The client has to have an instance id (INVALID_REQUEST) and name the subscription of this moment
//!   (UNKNOWN_SUBSCRIPTION_ID).
//! - Once an interval, at once after asking, and once more when it ends (`terminating`); earlier is
//!   THROTTLING_QUOTA_EXCEEDED, and a push after the last one INVALID_REQUEST.
//! - More than 1 MiB as it comes, or more than [`UNPACKED_BYTES_MAX`] unpacked, is TELEMETRY_TOO_LARGE; a codec that
//!   does not exist UNSUPPORTED_COMPRESSION_TYPE; what is not OpenTelemetry's MetricsData INVALID_RECORD.

use std::sync::Arc;
use std::time::Instant;

use log_core::record::{Compression, DecompressError, DecompressLimits};
use log_core::wire::messages::{PushTelemetryRequest, PushTelemetryResponse};
use log_core::wire::{ErrorCode, Uuid, message};

use super::client_facts::subscription_of;
use super::{Context, Request};
use crate::telemetry::{PushError, TELEMETRY_BYTES_MAX};

/// Bytes that a push may unpack to.
const UNPACKED_BYTES_MAX: usize = 4 << 20;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: PushTelemetryRequest,
) -> PushTelemetryResponse {
    let error_code = match push(context, request, &message) {
        Ok(()) => ErrorCode::None,
        Err(error) => {
            context.metrics.error_answered(request.api, error.name());
            error
        }
    };
    message!(PushTelemetryResponse { error_code: error_code.code() })
}

fn push(context: &Context, request: &Request, message: &PushTelemetryRequest) -> Result<(), ErrorCode> {
    let instance = message.client_instance_id;
    if instance == Uuid::ZERO {
        return Err(ErrorCode::InvalidRequest);
    }
    let clients = &context.telemetry;
    let wanted = subscription_of(context, request, instance);
    let (named, ends) = (message.subscription_id, message.terminating);
    clients.admit(instance, named, &wanted, ends, Instant::now()).map_err(code)?;
    if message.metrics.len() > TELEMETRY_BYTES_MAX {
        return Err(ErrorCode::TelemetryTooLarge);
    }
    let codec =
        u8::try_from(message.compression_type).ok().and_then(Compression::from_id).ok_or_else(|| {
            clients.may_ask_again(instance);
            ErrorCode::UnsupportedCompressionType
        })?;
    let limits = DecompressLimits { output_bytes_max: UNPACKED_BYTES_MAX, ..DecompressLimits::default() };
    let payload = match message.metrics.is_empty() {
        true => Vec::new(),
        false => codec.decompress(&message.metrics, limits).map_err(|error| match error {
            DecompressError::TooLarge { .. } => ErrorCode::TelemetryTooLarge,
            _ => ErrorCode::InvalidRecord,
        })?,
    };
    clients.take(instance, request.client_id(), &payload).map(|_| ()).map_err(code)
}

fn code(error: PushError) -> ErrorCode {
    match error {
        PushError::Throttled => ErrorCode::ThrottlingQuotaExceeded,
        PushError::UnknownSubscription => ErrorCode::UnknownSubscriptionId,
        PushError::Ended => ErrorCode::InvalidRequest,
        PushError::Malformed(_) => ErrorCode::InvalidRecord,
    }
}
