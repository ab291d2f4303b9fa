//! Reading and changing the settings of topics and brokers.

use std::fmt;
use std::time::Duration;

use log_core::wire::message;
use log_core::wire::messages::describe_configs_request::DescribeConfigsResource;
use log_core::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use log_core::wire::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use super::{Admin, AdminError};

/// What has settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by id.
    Broker(i32),
}

impl ConfigResource {
    const fn code(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => 2,
            ConfigResource::Broker(_) => 4,
        }
    }

    fn name(&self) -> String {
        match self {
            ConfigResource::Topic(name) => name.clone(),
            ConfigResource::Broker(id) => id.to_string(),
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigResource::Topic(name) => write!(f, "topic {name}"),
            ConfigResource::Broker(id) => write!(f, "broker {id}"),
        }
    }
}

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set for the topic itself.
    Topic,
    /// Set for the broker, at run time or when it was started.
    Broker,
    /// Nobody set it.
    Default,
    /// Something else.
    Other,
}

impl From<i8> for ConfigSource {
    fn from(code: i8) -> ConfigSource {
        match code {
            1 => ConfigSource::Topic,
            2..=4 => ConfigSource::Broker,
            5 => ConfigSource::Default,
            _ => ConfigSource::Other,
        }
    }
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfigSource::Topic => "topic",
            ConfigSource::Broker => "broker",
            ConfigSource::Default => "default",
            ConfigSource::Other => "other",
        })
    }
}

/// A setting and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name, as in Kafka's documentation.
    pub name: String,
    /// Its value; `None` for one that is secret or not set.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed this way.
    pub is_read_only: bool,
}

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// To this value.
    Set(String),
    /// Back to the default.
    Reset,
}

impl Admin {
    /// All settings of `resource`, by name.
    ///
    /// # Errors
    /// It does not exist, or no broker answered.
    pub async fn describe_configs(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>, AdminError> {
        self.settled(|| self.describe_configs_once(resource)).await
    }

    async fn describe_configs_once(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>, AdminError> {
        let request = |_| {
            let described = message!(DescribeConfigsResource {
                resource_type: resource.code(),
                resource_name: resource.name().into(),
                configuration_keys: None,
            });
            message!(DescribeConfigsRequest { resources: vec![described] })
        };
        let response = self.client.call_any(request).await?;
        let answer = response.results.into_iter().next().ok_or_else(|| AdminError::unanswered(resource))?;
        AdminError::check(resource, answer.error_code, answer.error_message.as_deref())?;
        let mut entries: Vec<ConfigEntry> = answer
            .configs
            .into_iter()
            .map(|entry| ConfigEntry {
                name: entry.name.into_string(),
                value: entry.value.map(|value| value.into_string()),
                source: entry.config_source.into(),
                is_read_only: entry.read_only,
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Changes some settings of `resource`, all or none.
    ///
    /// # Errors
    /// A name or a value is not valid, the resource does not exist, or no broker answered.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[(String, ConfigChange)],
    ) -> Result<(), AdminError> {
        let configs = changes.iter().map(|(name, change)| {
            let (config_operation, value) = match change {
                ConfigChange::Set(value) => (0, Some(value.as_str().into())),
                ConfigChange::Reset => (1, None),
            };
            message!(AlterableConfig { name: name.as_str().into(), config_operation, value })
        });
        let altered = message!(AlterConfigsResource {
            resource_type: resource.code(),
            resource_name: resource.name().into(),
            configs: configs.collect(),
        });
        let request = |_| message!(IncrementalAlterConfigsRequest { resources: vec![altered.clone()] });
        let response = self.client.call_controller(Duration::ZERO, request).await?;
        let answer = response.responses.first().ok_or_else(|| AdminError::unanswered(resource))?;
        AdminError::check(resource, answer.error_code, answer.error_message.as_deref())
    }
}
