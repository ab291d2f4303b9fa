//! What can be configured for a topic, by Kafka's names.

use std::collections::BTreeMap;

use log_core::log::LogConfig;
use log_core::record::{Compression, TimestampType};

use crate::config::BrokerConfig;

/// An entry that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value}: {reason}")]
pub struct InvalidTopicConfig {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Why not, and what would be.
    pub reason: String,
}

/// The settings of a topic's logs: the broker's defaults, and over them what was set for the topic.
///
/// # Errors
/// The first entry that is not accepted.
pub fn log_config(
    broker: &BrokerConfig,
    entries: &BTreeMap<String, String>,
) -> Result<LogConfig, InvalidTopicConfig> {
    let mut config = LogConfig {
        segment_bytes: broker.segment_bytes,
        segment_ms: broker.segment_ms,
        retention_ms: broker.retention_ms,
        retention_bytes: broker.retention_bytes,
        max_message_bytes: broker.message_bytes_max,
        ..LogConfig::default()
    };
    for (name, value) in entries {
        set(&mut config, name, value).map_err(|reason| InvalidTopicConfig {
            name: name.clone(),
            value: value.clone(),
            reason,
        })?;
    }
    Ok(config)
}

fn set(config: &mut LogConfig, name: &str, value: &str) -> Result<(), String> {
    match name {
        "segment.bytes" => {
            config.segment_bytes = number(
                value,
                i64::from(LogConfig::SEGMENT_BYTES_MIN),
                i64::from(LogConfig::SEGMENT_BYTES_MAX),
            )? as u32;
        }
        "segment.ms" => config.segment_ms = number(value, 1, i64::MAX)?,
        "retention.ms" => config.retention_ms = number(value, -1, i64::MAX)?,
        "retention.bytes" => config.retention_bytes = number(value, -1, i64::MAX)?,
        "max.message.bytes" => config.max_message_bytes = number(value, 0, i64::from(i32::MAX))? as u32,
        "message.timestamp.type" => {
            config.timestamp_type = match value {
                "CreateTime" => TimestampType::CreateTime,
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => return Err("CreateTime or LogAppendTime".to_owned()),
            };
        }
        "compression.type" => {
            config.compression_type = match value {
                "producer" => None,
                "uncompressed" => Some(Compression::None),
                codec => Some(codec.parse::<Compression>().map_err(|error| error.to_string())?),
            };
        }
        "cleanup.policy" if value == "delete" => {}
        "cleanup.policy" => return Err("only delete is supported".to_owned()),
        _ => return Err("no such topic configuration".to_owned()),
    }
    Ok(())
}

fn number(value: &str, least: i64, most: i64) -> Result<i64, String> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("a number from {least} to {most} is needed")),
    }
}
