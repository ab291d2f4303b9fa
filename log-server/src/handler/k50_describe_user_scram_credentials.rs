//! DescribeUserScramCredentials (50), version 0: users that have a password (KIP-554). There is no authentication, so
//! there are none: null or nothing asks for all and is answered with nobody, a user who is named is
//! RESOURCE_NOT_FOUND, and one who is named twice DUPLICATE_RESOURCE. `kafka-configs --entity-type users` asks this.

use std::collections::HashMap;
use std::sync::Arc;

use log_core::wire::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use log_core::wire::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::{ApiFailure, Context, Request};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let users = message.users.unwrap_or_default();
    let mut times: HashMap<StrBytes, usize> = HashMap::new();
    for user in &users {
        *times.entry(user.name.clone()).or_default() += 1;
    }
    let results = times.into_iter().map(|(user, times)| {
        let failure = match times {
            1 => ApiFailure::new(
                ErrorCode::ResourceNotFound,
                format!("Attempt to describe a user credential that does not exist: {user}"),
            ),
            _ => ApiFailure::new(
                ErrorCode::DuplicateResource,
                format!("the credentials of {user} are asked for more than once"),
            ),
        };
        failure.count(context, request);
        message!(DescribeUserScramCredentialsResult {
            user,
            error_code: failure.code(),
            error_message: failure.message(),
        })
    });
    message!(DescribeUserScramCredentialsResponse { results: results.collect(), error_message: None })
}
