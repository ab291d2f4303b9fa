//! DeleteAcls (31), versions 1 to 3: removes access rules. SECURITY_DISABLED for each filter, see DescribeAcls (29).

use std::sync::Arc;

use log_core::wire::message;
use log_core::wire::messages::delete_acls_response::DeleteAclsFilterResult;
use log_core::wire::messages::{DeleteAclsRequest, DeleteAclsResponse};

use super::k29_describe_acls::security_disabled;
use super::{Context, Request};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DeleteAclsRequest,
) -> DeleteAclsResponse {
    let failure = security_disabled();
    let filter_results = message.filters.iter().map(|_| {
        failure.count(context, request);
        message!(DeleteAclsFilterResult { error_code: failure.code(), error_message: failure.message() })
    });
    message!(DeleteAclsResponse { filter_results: filter_results.collect() })
}
