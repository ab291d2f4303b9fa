//! ApiVersions (18), versions 0 to 4: what this broker can do, the first question on every connection.
//!
//! - The answer's header is version 0 whatever the body's is (KIP-511): the wire table sees to that.
//! - A version that is not served is answered, in version 0 and without looking at the body, with error 35 and the
//!   range of this API alone, so that the client can ask again. See [`unsupported_version`].
//! - Only APIs with a handler are advertised.
//! - Client software name and version (KIP-511, v3 and later) must match `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`;
//!   anything else is INVALID_REQUEST. They are kept for the logs.
//! - Features (KIP-584) come with version 3: those that are in force. Of what is supported, a range that begins at 0
//!   is told from version 4 on only, because older Java clients fail on it (KAFKA-17011).

use std::sync::Arc;

use log_core::wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use log_core::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use log_core::wire::{ApiKey, ErrorCode, RequestHeader, ResponseHeader, encode_response, message};

use super::features::{self, features};
use super::{Context, Frame, HANDLED, Refusal, Request};

/// The first version whose clients understand a supported range that begins at 0.
const ZERO_MINIMUM_SINCE: i16 = 4;

/// The longest software name or version that is kept.
const SOFTWARE_BYTES_MAX: usize = 128;

/// Answers one request.
pub async fn handle(
    _context: &Arc<Context>,
    request: &Request,
    message: ApiVersionsRequest,
) -> ApiVersionsResponse {
    if request.version() >= 3 {
        let (name, version) = (&message.client_software_name, &message.client_software_version);
        if !is_software_name(name) || !is_software_name(version) {
            return message!(ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code() });
        }
        // Set once: a client that asks again on the same connection is the same client.
        let _ = request.connection.software.set((name.to_string(), version.to_string()));
    }
    let mut response = message!(ApiVersionsResponse { api_keys: HANDLED.iter().copied().map(row).collect() });
    if request.version() >= 3 {
        tell_features(&mut response, request.version());
    }
    response
}

fn tell_features(response: &mut ApiVersionsResponse, version: i16) {
    let told = features().iter().filter(|feature| feature.min > 0 || version >= ZERO_MINIMUM_SINCE);
    let supported = told.map(|feature| {
        message!(SupportedFeatureKey {
            name: feature.name.into(),
            min_version: feature.min,
            max_version: feature.level,
        })
    });
    let finalized = features().iter().map(|feature| {
        message!(FinalizedFeatureKey {
            name: feature.name.into(),
            min_version_level: feature.level,
            max_version_level: feature.level,
        })
    });
    response.supported_features = supported.collect();
    response.finalized_features = finalized.collect();
    response.finalized_features_epoch = features::EPOCH;
}

/// The answer to an ApiVersions request whose version is not served, as a whole frame.
///
/// # Errors
/// None in practice: the frame is of fixed size.
pub fn unsupported_version(header: &RequestHeader) -> Result<Frame, Refusal> {
    let answer = message!(ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![row(ApiKey::ApiVersions)],
    });
    let body = encode_response(&answer, 0).map_err(Refusal::new)?;
    ResponseHeader { correlation_id: header.correlation_id }
        .frame(ApiKey::ApiVersions, 0, vec![body])
        .map_err(Refusal::new)
}

fn row(api: ApiKey) -> ApiVersion {
    let served = api.served();
    message!(ApiVersion { api_key: api.code(), min_version: served.min, max_version: served.max })
}

fn is_software_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= SOFTWARE_BYTES_MAX
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kip_511() {
        assert!(is_software_name("apache-kafka-java"));
        assert!(is_software_name("2.3.0-SNAPSHOT"));
        for name in ["", "-x", "x-", "a b", "a\u{e4}", &"x".repeat(129)] {
            assert!(!is_software_name(name), "{name:?}");
        }
    }

    #[test]
    fn an_unknown_version_is_told_the_range_in_version_0() {
        let header = RequestHeader { api_key: 18, api_version: 99, correlation_id: 7, client_id: None };
        let frame = unsupported_version(&header).unwrap().concat();
        // Length, correlation id, error 35, one row: key 18, versions 0 to 4.
        assert_eq!(frame, [0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    }
}
