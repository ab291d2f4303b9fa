//! DescribeAcls (29), versions 1 to 3: access rules.
//!
//! SECURITY_DISABLED, as Kafka answers without an authorizer: there is no authentication, so there is nobody whom a
//! rule could be about. Served rather than left out, because tools show that answer for what it means.

use std::sync::Arc;

use log_core::wire::messages::{DescribeAclsRequest, DescribeAclsResponse};
use log_core::wire::{ErrorCode, message};

use super::{ApiFailure, Context, Request};

/// What every question about access rules is answered with.
pub(super) fn security_disabled() -> ApiFailure {
    ApiFailure::new(ErrorCode::SecurityDisabled, "No Authorizer is configured.")
}

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    _message: DescribeAclsRequest,
) -> DescribeAclsResponse {
    let failure = security_disabled();
    failure.count(context, request);
    message!(DescribeAclsResponse { error_code: failure.code(), error_message: failure.message() })
}
