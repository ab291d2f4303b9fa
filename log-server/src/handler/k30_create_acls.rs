//! CreateAcls (30), versions 1 to 3: adds access rules. SECURITY_DISABLED for each of them, see DescribeAcls (29): a
//! rule that is accepted and not enforced would be worse than none.

use std::sync::Arc;

use log_core::wire::message;
use log_core::wire::messages::create_acls_response::AclCreationResult;
use log_core::wire::messages::{CreateAclsRequest, CreateAclsResponse};

use super::k29_describe_acls::security_disabled;
use super::{Context, Request};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: CreateAclsRequest,
) -> CreateAclsResponse {
    let failure = security_disabled();
    let results = message.creations.iter().map(|_| {
        failure.count(context, request);
        message!(AclCreationResult { error_code: failure.code(), error_message: failure.message() })
    });
    message!(CreateAclsResponse { results: results.collect() })
}
