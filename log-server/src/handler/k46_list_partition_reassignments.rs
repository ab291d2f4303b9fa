//! ListPartitionReassignments (46), version 0: partitions that are being moved (KIP-455). None ever is: there is one
//! broker, and AlterPartitionReassignments (45) is done when it is answered.

use std::sync::Arc;

use log_core::wire::message;
use log_core::wire::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::{Context, Request};

/// Answers one request.
pub async fn handle(
    _context: &Arc<Context>,
    _request: &Request,
    _message: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    message!(ListPartitionReassignmentsResponse { error_message: None })
}
