//! Administration: topics, configurations, groups and offsets.
//!
//! Each call is one question with one answer. What cannot do harm when it is asked twice is asked again
//! while no broker answers; creating and deleting is not.

mod configs;
mod groups;
mod topics;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use log_core::wire::{ErrorCode, IsolationLevel};
use tokio::time::{Instant, sleep};

pub use configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use topics::{CreatedTopic, NewTopic};

use crate::client::Client;
use crate::error::ClientError;
use crate::metadata::Metadata;
use crate::offsets::{ListedOffset, OffsetSpec};
use crate::topic_partition::TopicPartition;

/// How long brokers may take to hear of what one of them has done.
const SETTLING_PATIENCE: Duration = Duration::from_secs(3);

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
    /// Of each partition its own.
    pub async fn list_offsets(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
    ) -> Vec<(TopicPartition, Result<ListedOffset, AdminError>)> {
        self.list_offsets_as(asked, IsolationLevel::ReadUncommitted).await
    }

    /// As [`list_offsets`](Admin::list_offsets), with [`OffsetSpec::Latest`] as `isolation` has it.
    ///
    /// # Errors
    /// Of each partition its own.
    pub async fn list_offsets_as(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
        isolation: IsolationLevel,
    ) -> Vec<(TopicPartition, Result<ListedOffset, AdminError>)> {
        let started = Instant::now();
        let mut failures = 0;
        let mut answers = Vec::with_capacity(asked.len());
        let mut open = asked.to_vec();
        loop {
            let is_over = started.elapsed() > SETTLING_PATIENCE;
            let mut again = Vec::new();
            for (partition, answer) in self.client.list_offsets(&open, isolation).await {
                let spec = open.iter().find(|(asked, _)| *asked == partition).map(|&(_, spec)| spec);
                match (answer, spec) {
                    (Err(error), Some(spec)) if error.is_retriable() && !is_over => {
                        again.push((partition, spec))
                    }
                    (answer, _) => answers.push((partition, answer.map_err(AdminError::from))),
                }
            }
            if again.is_empty() {
                return answers;
            }
            failures += 1;
            sleep(self.client.config().backoff.delay(failures)).await;
            let topics: BTreeSet<&str> = again.iter().map(|(partition, _)| &*partition.topic).collect();
            // The next round says what is wrong, if this does not help.
            self.client.refresh(&topics.into_iter().collect::<Vec<_>>(), false).await.ok();
            open = again;
        }
    }

    /// Asks again for a while where a broker does not know what another has just done.
    async fn settled<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, AdminError>
    where
        F: Future<Output = Result<T, AdminError>>,
    {
        let started = Instant::now();
        let mut failures = 0;
        loop {
            match attempt().await {
                Err(error)
                    if error.code().is_some_and(ErrorCode::is_retriable)
                        && started.elapsed() < SETTLING_PATIENCE =>
                {
                    failures += 1;
                    sleep(self.client.config().backoff.delay(failures)).await;
                }
                done => return done,
            }
        }
    }
}
