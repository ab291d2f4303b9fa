//! Creating, growing, describing and deleting topics, and deleting records.

use std::sync::Arc;
use std::time::Duration;

use log_core::wire::message;
use log_core::wire::messages::create_partitions_request::CreatePartitionsTopic;
use log_core::wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use log_core::wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use log_core::wire::messages::delete_topics_request::DeleteTopicState;
use log_core::wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
};

use super::{Admin, AdminError};
use crate::client::Role;
use crate::metadata::Topic;
use crate::topic_partition::TopicPartition;

/// How long a broker may take to create or delete.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
const OPERATION_TIMEOUT_MS: i32 = OPERATION_TIMEOUT.as_millis() as i32;

/// How long a topic that is asked about may take to be known.
const DESCRIBE_PATIENCE: Duration = Duration::from_secs(10);

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name: letters, digits, `.`, `_` and `-`, 249 at most.
    pub name: String,
    /// How many partitions; `None` for the broker's default.
    pub partitions: Option<i32>,
    /// How many copies of each; `None` for the broker's default.
    pub replication_factor: Option<i16>,
    /// Settings that differ from the broker's, by name.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// With this many partitions, and the broker's defaults for the rest.
    pub fn new(name: impl Into<String>, partitions: i32) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions: Some(partitions),
            replication_factor: None,
            configs: Vec::new(),
        }
    }

    /// With one more setting.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> NewTopic {
        self.configs.push((name.into(), value.into()));
        self
    }
}

/// What was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// How many partitions it has.
    pub partitions: i32,
    /// How many copies of each.
    pub replication_factor: i16,
}

impl Admin {
    /// Creates a topic, or with `validate_only` says whether it could be.
    ///
    /// # Errors
    /// It exists (`TOPIC_ALREADY_EXISTS`), its name or a setting is not valid, or no broker answered.
    pub async fn create_topic(
        &self,
        topic: &NewTopic,
        validate_only: bool,
    ) -> Result<CreatedTopic, AdminError> {
        let configs = topic.configs.iter().map(|(name, value)| {
            message!(CreatableTopicConfig { name: name.as_str().into(), value: Some(value.as_str().into()) })
        });
        let creatable = message!(CreatableTopic {
            name: topic.name.as_str().into(),
            num_partitions: topic.partitions.unwrap_or(-1),
            replication_factor: topic.replication_factor.unwrap_or(-1),
            configs: configs.collect(),
        });
        let request = |_| {
            let topics = vec![creatable.clone()];
            message!(CreateTopicsRequest { topics, timeout_ms: OPERATION_TIMEOUT_MS, validate_only })
        };
        let response = self.client.call_controller(OPERATION_TIMEOUT, request).await?;
        let resource = format!("topic {}", topic.name);
        let answer = response.topics.iter().find(|answer| *answer.name == *topic.name);
        let answer = answer.ok_or_else(|| AdminError::unanswered(&resource))?;
        AdminError::check(&resource, answer.error_code, answer.error_message.as_deref())?;
        Ok(CreatedTopic { partitions: answer.num_partitions, replication_factor: answer.replication_factor })
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// It does not exist, or no broker answered.
    pub async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        let request = |_| {
            let topics = vec![message!(DeleteTopicState { name: Some(name.into()) })];
            message!(DeleteTopicsRequest { topics, timeout_ms: OPERATION_TIMEOUT_MS })
        };
        let response = self.client.call_controller(OPERATION_TIMEOUT, request).await?;
        let answer =
            response.responses.first().ok_or_else(|| AdminError::unanswered(format!("topic {name}")))?;
        AdminError::check(format!("topic {name}"), answer.error_code, answer.error_message.as_deref())
    }

    /// Gives a topic more partitions, up to `count` in all. Keys go to other partitions from then on.
    ///
    /// # Errors
    /// It has as many already (`INVALID_PARTITIONS`), does not exist, or no broker answered.
    pub async fn create_partitions(&self, name: &str, count: i32) -> Result<(), AdminError> {
        let request = |_| {
            let topics =
                vec![message!(CreatePartitionsTopic { name: name.into(), count, assignments: None })];
            message!(CreatePartitionsRequest { topics, timeout_ms: OPERATION_TIMEOUT_MS })
        };
        let response = self.client.call_controller(OPERATION_TIMEOUT, request).await?;
        let answer =
            response.results.first().ok_or_else(|| AdminError::unanswered(format!("topic {name}")))?;
        AdminError::check(format!("topic {name}"), answer.error_code, answer.error_message.as_deref())
    }

    /// A topic and its partitions, as of now. It is not created by being asked about.
    ///
    /// # Errors
    /// It does not exist, or no broker answered.
    pub async fn describe_topic(&self, name: &str) -> Result<Arc<Topic>, AdminError> {
        Ok(self.client.fetch_topic(name, DESCRIBE_PATIENCE, false).await?)
    }

    /// Every topic, by name; internal ones too.
    ///
    /// # Errors
    /// No broker answered.
    pub async fn list_topics(&self) -> Result<Vec<Arc<Topic>>, AdminError> {
        self.client.refresh_all().await?;
        let mut topics: Vec<_> = self.client.metadata().topics.values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Deletes a partition's records below `before` (-1: all) and returns the first offset that is left.
    ///
    /// # Errors
    /// `before` lies past the end (`OFFSET_OUT_OF_RANGE`), the partition does not exist, or its broker
    /// did not answer.
    pub async fn delete_records(&self, partition: &TopicPartition, before: i64) -> Result<i64, AdminError> {
        self.describe_topic(&partition.topic).await?;
        let address = self.client.leader_address(&partition.topic, partition.partition)?;
        let request = |_| {
            let entry =
                message!(DeleteRecordsPartition { partition_index: partition.partition, offset: before });
            let topic =
                message!(DeleteRecordsTopic { name: (&*partition.topic).into(), partitions: vec![entry] });
            message!(DeleteRecordsRequest { topics: vec![topic], timeout_ms: OPERATION_TIMEOUT_MS })
        };
        let response = self.client.call(&address, Role::Control, OPERATION_TIMEOUT, request).await?;
        let answer = response.topics.first().and_then(|topic| topic.partitions.first());
        let answer = answer.ok_or_else(|| AdminError::unanswered(format!("partition {partition}")))?;
        AdminError::check(format!("partition {partition}"), answer.error_code, None)?;
        Ok(answer.low_watermark)
    }
}
