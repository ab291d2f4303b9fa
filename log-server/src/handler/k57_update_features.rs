//! UpdateFeatures (57), versions 0 to 2: changes the levels of the cluster's features (KIP-584, KIP-778).
//!
//! - A feature is at the level that this version of the broker serves ([`features`](super::features)). Asking for
//!   that level succeeds and changes nothing; any other one, and any other feature, is INVALID_UPDATE_VERSION.
//! - All of a request is done or nothing. Up to version 1 each feature has its own answer; from version 2 on a
//!   refusal is the whole request's.

use std::sync::Arc;

use log_core::wire::messages::update_features_request::FeatureUpdateKey;
use log_core::wire::messages::update_features_response::UpdatableFeatureResult;
use log_core::wire::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use log_core::wire::{ErrorCode, message};

use super::features::features;
use super::{ApiFailure, Context, Request};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let mut response = message!(UpdateFeaturesResponse { error_message: None });
    for update in message.feature_updates {
        let mut result =
            message!(UpdatableFeatureResult { feature: update.feature.clone(), error_message: None });
        if let Err(failure) = check(&update) {
            failure.count(context, request);
            if request.version() >= 2 {
                response.error_code = failure.code();
                response.error_message = failure.message();
                response.results.clear();
                return response;
            }
            result.error_code = failure.code();
            result.error_message = failure.message();
        }
        if request.version() < 2 {
            response.results.push(result);
        }
    }
    response
}

fn check(update: &FeatureUpdateKey) -> Result<(), ApiFailure> {
    let (name, level) = (update.feature.as_str(), update.max_version_level);
    let reason = match features().iter().find(|feature| feature.name == name) {
        Some(feature) if feature.level == level => return Ok(()),
        Some(feature) => format!("this version of the broker serves level {} and no other", feature.level),
        None => "this broker does not have the feature".to_owned(),
    };
    let reason = format!("Invalid update version {level} for feature {name}: {reason}");
    Err(ApiFailure::new(ErrorCode::InvalidUpdateVersion, reason))
}
