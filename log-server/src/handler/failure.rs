//! What an admin handler answers instead of success: a code for the program, a sentence for its user.

use std::fmt;

use log_core::wire::{ErrorCode, StrBytes};

use super::{Context, Request};

/// An error code with the sentence that goes beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiFailure {
    error: ErrorCode,
    message: String,
}

impl ApiFailure {
    /// Of this kind, for this reason.
    pub fn new(error: ErrorCode, reason: impl fmt::Display) -> Self {
        ApiFailure { error, message: reason.to_string() }
    }

    /// The code on the wire.
    pub fn code(&self) -> i16 {
        self.error.code()
    }

    /// The sentence, as answers carry it.
    pub fn message(&self) -> Option<StrBytes> {
        Some(self.message.as_str().into())
    }

    /// Counts it among the errors that were answered.
    pub fn count(&self, context: &Context, request: &Request) {
        context.metrics.error_answered(request.api, self.error.name());
    }
}
