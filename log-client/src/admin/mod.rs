//! Administration: topics, configurations, groups and offsets.
//!
//! Each call is one question with one answer. What cannot do harm when it is asked twice is asked again
//! while no broker answers; creating and deleting is not.

mod configs;
mod groups;
mod topics;

use std::fmt;

use log_core::wire::{ErrorCode, IsolationLevel};

pub use configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use topics::{CreatedTopic, NewTopic};

use crate::client::Client;
use crate::error::ClientError;
use crate::metadata::Metadata;
use crate::offsets::{ListedOffset, OffsetSpec};
use crate::topic_partition::TopicPartition;

/// Why an administrative request has not been carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AdminError {
    /// No usable answer came.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The broker refused.
    #[error("{resource}: {code}{}", message.as_ref().map(|message| format!(": {message}")).unwrap_or_default())]
    Refused {
        /// What was to be changed or asked, for example `topic orders`.
        resource: String,
        /// Why not.
        code: ErrorCode,
        /// The broker's words, where it has any.
        message: Option<String>,
    },
}

impl AdminError {
    /// The broker's error code, where there is one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            AdminError::Client(error) => error.code(),
            AdminError::Refused { code, .. } => Some(*code),
        }
    }

    /// Success, or the refusal that `code` says.
    fn check(resource: impl fmt::Display, code: i16, message: Option<&str>) -> Result<(), AdminError> {
        ErrorCode::from(code).into_result().map_err(|code| AdminError::Refused {
            resource: resource.to_string(),
            code,
            message: message.filter(|message| !message.is_empty()).map(str::to_owned),
        })
    }

    /// The broker's answer lacks what was asked about.
    fn unanswered(resource: impl fmt::Display) -> AdminError {
        let message = Some("the broker left it out of its answer".to_owned());
        AdminError::Refused { resource: resource.to_string(), code: ErrorCode::UnknownServerError, message }
    }
}

/// Administrates a cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// On the connections of `client`.
    pub fn new(client: &Client) -> Admin {
        Admin { client: client.clone() }
    }

    /// The cluster with all its topics, as of now.
    ///
    /// # Errors
    /// No broker answered.
    pub async fn describe_cluster(&self) -> Result<std::sync::Arc<Metadata>, AdminError> {
        self.client.refresh_all().await?;
        Ok(self.client.metadata())
    }

    /// Looks up offsets in the log: the first, the next, or by time.
    ///
    /// # Errors
    /// Of each partition its own, after one attempt.
    pub async fn list_offsets(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
    ) -> Vec<(TopicPartition, Result<ListedOffset, AdminError>)> {
        self.list_offsets_as(asked, IsolationLevel::ReadUncommitted).await
    }

    /// As [`list_offsets`](Admin::list_offsets), with [`OffsetSpec::Latest`] as `isolation` has it.
    ///
    /// # Errors
    /// Of each partition its own, after one attempt.
    pub async fn list_offsets_as(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
        isolation: IsolationLevel,
    ) -> Vec<(TopicPartition, Result<ListedOffset, AdminError>)> {
        let answers = self.client.list_offsets(asked, isolation).await;
        answers.into_iter().map(|(partition, answer)| (partition, answer.map_err(AdminError::from))).collect()
    }
}
