//! What can be configured of a topic: every name with its type, range, default, and whether it acts.
//!
//! Names, types and ranges are Kafka 4.3's (<https://kafka.apache.org/documentation/#topicconfigs>), since clients and
//! deployment tools send whatever Kafka documents. Each of them is one of three:
//!
//! - it acts;
//! - it is accepted, kept, shown and without effect, because what it tunes is replication or tiering that does not
//!   exist here (and its documentation says so);
//! - it is refused with a sentence, because accepting it would promise something that does not happen: remote storage.
//!
//! `highwater.priority` is Highwater's own. Any other name is INVALID_CONFIG. Values are checked when they are set and kept as the strings they came as.

use std::collections::BTreeMap;

use log_core::log::{CleanupPolicy, LogConfig};
use log_core::record::TimestampType;

use super::config_table::DEFINITIONS;
use crate::config::BrokerConfig;

/// The types of Kafka's configuration, as DescribeConfigs numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean = 1,
    /// Text, or one of a few words.
    String = 2,
    /// 32 bits, signed.
    Int = 3,
    /// 64 bits, signed.
    Long = 5,
    /// A decimal fraction.
    Double = 6,
    /// Words, separated by commas.
    List = 7,
}

/// Whether a configuration changes what the broker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Acts,
    /// It is accepted for the sake of clients and tools that set it, and does nothing.
    Ignored,
}

/// The values that a configuration takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    Boolean,
    Int(i32, i32),
    /// -1, which stands for the usual one, or from so many to so many.
    UsualOr(i32, i32),
    Long(i64),
    Fraction,
    OneOf(&'static [&'static str]),
    List,
    /// `delete`, `compact`, or both.
    CleanupPolicy,
    /// Only `false`, for the stated reason.
    OnlyFalse(&'static str),
}

/// Where a topic's value comes from when the topic does not set it.
#[derive(Clone, Copy)]
pub(super) enum Default {
    Fixed(&'static str),
    /// Of the broker, by its name there.
    Setting(&'static str, fn(&BrokerConfig) -> String),
}

/// One configuration.
pub struct Definition {
    /// Kafka's name.
    pub name: &'static str,
    /// Kafka's name for the broker's setting that stands in for it, for DescribeConfigs' synonyms.
    pub broker_name: Option<&'static str>,
    /// Whether it acts.
    pub effect: Effect,
    /// What it means, in a sentence for `kafka-configs --describe`.
    pub doc: &'static str,
    pub(super) rule: Rule,
    pub(super) default: Default,
}

/// Where a value comes from, as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set for the topic.
    Topic = 1,
    /// Set for this broker while it runs.
    DynamicBroker = 2,
    /// Set for the cluster while it runs.
    DynamicDefault = 3,
    /// Set for the broker, in its file, environment or flags.
    Broker = 4,
    /// Set nowhere.
    Default = 5,
    /// Set for the subscription to clients' metrics.
    ClientMetrics = 7,
    /// Set for the group.
    Group = 8,
}

/// A value with where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The value, as text.
    pub value: String,
    /// Who has set it.
    pub source: Source,
}

/// Why a configuration is refused. The sentences go to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicConfig {
    /// No such name.
    #[error("Unknown topic config name: {0}")]
    Unknown(String),
    /// A value outside of what the name takes.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Value {
        /// The configuration.
        name: &'static str,
        /// What it was to be set to.
        value: String,
        /// What it takes.
        reason: String,
    },
    /// A null, where only removing a configuration has no value.
    #[error("Null value not supported for topic configs: {0}")]
    Null(String),
}

/// The configuration of that name.
///
/// # Errors
/// [`InvalidTopicConfig::Unknown`].
pub fn definition(name: &str) -> Result<&'static Definition, InvalidTopicConfig> {
    DEFINITIONS
        .iter()
        .find(|definition| definition.name == name)
        .ok_or_else(|| InvalidTopicConfig::Unknown(name.to_owned()))
}

/// Every configuration, by name.
pub fn definitions() -> &'static [Definition] {
    DEFINITIONS
}

/// Checks one entry, as CreateTopics and the Alter APIs bring it.
///
/// # Errors
/// See [`InvalidTopicConfig`].
pub fn check(name: &str, value: Option<&str>) -> Result<(), InvalidTopicConfig> {
    let definition = definition(name)?;
    let value = value.ok_or_else(|| InvalidTopicConfig::Null(name.to_owned()))?;
    definition.check(value)
}

/// Checks entries and collects them; of two with one name the later one counts.
///
/// # Errors
/// The first entry's that is wrong.
pub fn collect<'a>(
    entries: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<BTreeMap<String, String>, InvalidTopicConfig> {
    let mut config = BTreeMap::new();
    for (name, value) in entries {
        check(name, value)?;
        config.insert(name.to_owned(), value.unwrap_or_default().to_owned());
    }
    Ok(config)
}

impl Definition {
    /// The type that DescribeConfigs shows.
    pub fn config_type(&self) -> ConfigType {
        match self.rule {
            Rule::Boolean | Rule::OnlyFalse(_) => ConfigType::Boolean,
            Rule::Int(..) | Rule::UsualOr(..) => ConfigType::Int,
            Rule::Long(_) => ConfigType::Long,
            Rule::Fraction => ConfigType::Double,
            Rule::OneOf(_) => ConfigType::String,
            Rule::List | Rule::CleanupPolicy => ConfigType::List,
        }
    }

    /// The value of a topic that does not set it, under this broker's settings.
    pub fn broker_value(&self, broker: &BrokerConfig) -> String {
        match self.default {
            Default::Fixed(value) => value.to_owned(),
            Default::Setting(_, value) => value(broker),
        }
    }

    /// The setting of the broker that a topic without a value follows, if there is one.
    pub fn setting(&self) -> Option<&'static str> {
        match self.default {
            Default::Fixed(_) => None,
            Default::Setting(name, _) => Some(name),
        }
    }

    /// The values that it takes, in words.
    pub fn values(&self) -> String {
        match self.rule {
            Rule::Boolean => "true, false".to_owned(),
            Rule::Int(min, max) => format!("{min} to {max}"),
            Rule::UsualOr(min, max) => format!("-1, {min} to {max}"),
            Rule::Long(min) => format!("{min} and above"),
            Rule::Fraction => "0 to 1".to_owned(),
            Rule::OneOf(words) => words.join(", "),
            Rule::List => "any list".to_owned(),
            Rule::CleanupPolicy => "delete, compact, or both".to_owned(),
            Rule::OnlyFalse(_) => "false".to_owned(),
        }
    }

    /// The value without any setting at all.
    pub fn default_value(&self) -> String {
        self.broker_value(&BrokerConfig::default())
    }

    /// What a topic with this configuration is run with.
    pub fn effective(&self, topic: &BTreeMap<String, String>, broker: &BrokerConfig) -> Effective {
        match topic.get(self.name) {
            Some(value) => Effective { value: value.clone(), source: Source::Topic },
            None => self.broker_effective(broker),
        }
    }

    /// What a topic without a value of its own is run with.
    pub fn broker_effective(&self, broker: &BrokerConfig) -> Effective {
        let value = self.broker_value(broker);
        let source = if value == self.default_value() { Source::Default } else { Source::Broker };
        Effective { value, source }
    }

    /// Checks a value.
    ///
    /// # Errors
    /// [`InvalidTopicConfig::Value`] with what would be valid.
    pub fn check(&self, value: &str) -> Result<(), InvalidTopicConfig> {
        self.reason_against(value.trim()).map_or(Ok(()), |reason| Err(self.invalid(value, reason)))
    }

    /// The error for a value that this configuration does not take.
    pub fn invalid(&self, value: &str, reason: impl Into<String>) -> InvalidTopicConfig {
        InvalidTopicConfig::Value { name: self.name, value: value.to_owned(), reason: reason.into() }
    }

    fn apply(&self, config: &mut LogConfig, value: &str) -> Result<(), InvalidTopicConfig> {
        set(config, self.name, value.trim())
            .ok_or_else(|| self.invalid(value, "Not a value that the log can be run with"))
    }

    fn reason_against(&self, value: &str) -> Option<String> {
        match self.rule {
            Rule::Boolean => bool_reason(value),
            Rule::OnlyFalse(why) if value.eq_ignore_ascii_case("true") => Some(why.to_owned()),
            Rule::OnlyFalse(_) => bool_reason(value),
            Rule::UsualOr(..) if value == "-1" => None,
            Rule::Int(min, max) | Rule::UsualOr(min, max) => {
                range_reason(value.parse::<i32>().ok(), min, max)
            }
            Rule::Long(min) => range_reason(value.parse::<i64>().ok(), min, i64::MAX),
            Rule::Fraction => {
                let fits = value.parse::<f64>().is_ok_and(|value| (0.0..=1.0).contains(&value));
                (!fits).then(|| "Value must be a number from 0 to 1".to_owned())
            }
            Rule::OneOf(words) => {
                (!words.contains(&value)).then(|| format!("String must be one of: {}", words.join(", ")))
            }
            Rule::List => None,
            Rule::CleanupPolicy => cleanup_policy(value)
                .is_none()
                .then(|| "String must be one or both of: compact, delete".to_owned()),
        }
    }
}

/// A list of `compact` and `delete` that is not empty.
fn cleanup_policy(value: &str) -> Option<CleanupPolicy> {
    let mut policy = CleanupPolicy { delete: false, compact: false };
    for word in value.split(',').map(str::trim) {
        match word {
            "delete" => policy.delete = true,
            "compact" => policy.compact = true,
            _ => return None,
        }
    }
    Some(policy)
}

fn bool_reason(value: &str) -> Option<String> {
    let fits = value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
    (!fits).then(|| "Expected value to be either true or false".to_owned())
}

fn range_reason<T: PartialOrd + std::fmt::Display + Copy>(
    value: Option<T>,
    min: T,
    max: T,
) -> Option<String> {
    match value {
        None => Some("Not a number of this configuration's type".to_owned()),
        Some(value) if value < min => Some(format!("Value must be at least {min}")),
        Some(value) if value > max => Some(format!("Value must be no more than {max}")),
        Some(_) => None,
    }
}

/// The settings of a topic's logs: the broker's, and over them what was set for the topic.
///
/// # Errors
/// The first entry that is not accepted.
pub fn log_config(
    broker: &BrokerConfig,
    entries: &BTreeMap<String, String>,
) -> Result<LogConfig, InvalidTopicConfig> {
    let mut config = broker_log_config(broker)?;
    for (name, value) in entries {
        set_entry(&mut config, name, value)?;
    }
    check_lags(&config)?;
    Ok(config)
}

/// The same of entries that were accepted once, perhaps by an earlier version: `refused` hears of those that are not
/// accepted any more, and the others act.
pub fn stored_log_config(
    broker: &BrokerConfig,
    entries: &BTreeMap<String, String>,
    mut refused: impl FnMut(InvalidTopicConfig),
) -> LogConfig {
    let mut config = broker_log_config(broker).unwrap_or_default();
    for (name, value) in entries {
        if let Err(error) = set_entry(&mut config, name, value) {
            refused(error);
        }
    }
    if let Err(error) = check_lags(&config) {
        refused(error);
        config.max_compaction_lag_ms = config.min_compaction_lag_ms;
    }
    config
}

fn broker_log_config(broker: &BrokerConfig) -> Result<LogConfig, InvalidTopicConfig> {
    let mut config = LogConfig::default();
    for definition in definitions().iter().filter(|definition| definition.setting().is_some()) {
        definition.apply(&mut config, &definition.broker_value(broker))?;
    }
    Ok(config)
}

fn set_entry(config: &mut LogConfig, name: &str, value: &str) -> Result<(), InvalidTopicConfig> {
    let definition = definition(name)?;
    definition.check(value)?;
    definition.apply(config, value)
}

fn check_lags(config: &LogConfig) -> Result<(), InvalidTopicConfig> {
    if config.min_compaction_lag_ms <= config.max_compaction_lag_ms {
        return Ok(());
    }
    let reason = format!("Value must be at most max.compaction.lag.ms ({})", config.max_compaction_lag_ms);
    Err(definition("min.compaction.lag.ms")?.invalid(&config.min_compaction_lag_ms.to_string(), reason))
}

/// Puts a checked value where it acts. `None` would be a value that the rule lets through and the type does not hold.
fn set(config: &mut LogConfig, name: &str, value: &str) -> Option<()> {
    match name {
        "segment.bytes" => config.segment_bytes = value.parse().ok()?,
        "segment.ms" => config.segment_ms = value.parse().ok()?,
        "retention.ms" => config.retention_ms = value.parse().ok()?,
        "retention.bytes" => config.retention_bytes = value.parse().ok()?,
        "max.message.bytes" => config.max_message_bytes = value.parse().ok()?,
        "message.timestamp.before.max.ms" => config.timestamp_before_max_ms = value.parse().ok()?,
        "message.timestamp.after.max.ms" => config.timestamp_after_max_ms = value.parse().ok()?,
        "index.interval.bytes" => config.index_interval_bytes = value.parse().ok()?,
        "message.timestamp.type" => {
            config.timestamp_type = match value {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            };
        }
        "compression.type" => {
            config.compression_type = match value {
                "producer" => None,
                codec => Some(codec.parse().ok()?),
            };
        }
        "compression.gzip.level" => config.compression_levels.gzip = value.parse().ok()?,
        "compression.zstd.level" => config.compression_levels.zstd = value.parse().ok()?,
        "cleanup.policy" => config.cleanup = cleanup_policy(value)?,
        "delete.retention.ms" => config.delete_retention_ms = value.parse().ok()?,
        "min.compaction.lag.ms" => config.min_compaction_lag_ms = value.parse().ok()?,
        "max.compaction.lag.ms" => config.max_compaction_lag_ms = value.parse().ok()?,
        "min.cleanable.dirty.ratio" => {
            let ratio: f64 = value.parse().ok()?;
            config.min_cleanable_dirty_millionths = (ratio * 1e6).round() as u32;
        }
        // The others do not act.
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use log_core::record::{Compression, CompressionLevels};

    use super::*;
    use crate::config;

    #[test]
    fn every_default_is_valid_and_every_name_is_there_once() {
        for definition in definitions() {
            assert_eq!(definition.check(&definition.default_value()), Ok(()), "{}", definition.name);
            assert!(!definition.doc.is_empty());
        }
        assert!(definitions().is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn defaults_are_those_that_the_log_starts_with() {
        assert_eq!(log_config(&BrokerConfig::default(), &BTreeMap::new()), Ok(LogConfig::default()));
        let all: BTreeMap<String, String> =
            definitions().iter().map(|d| (d.name.to_owned(), d.default_value())).collect();
        assert_eq!(log_config(&BrokerConfig::default(), &all), Ok(LogConfig::default()));
    }

    #[test]
    fn an_entry_that_is_not_accepted_any_more_takes_no_other_with_it() {
        let stored = [
            ("compression.gzip.level", "0"),
            ("cleanup.policy", "compact"),
            ("gone.by.now", "1"),
            ("min.compaction.lag.ms", "5"),
            ("max.compaction.lag.ms", "4"),
            ("retention.ms", "-1"),
        ];
        let stored = stored.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let broker = BrokerConfig::default();
        log_config(&broker, &stored).unwrap_err();
        let mut refused = Vec::new();
        let config = stored_log_config(&broker, &stored, |error| refused.push(error.to_string()));
        let left = LogConfig {
            cleanup: CleanupPolicy { delete: false, compact: true },
            min_compaction_lag_ms: 5,
            max_compaction_lag_ms: 5,
            retention_ms: -1,
            ..LogConfig::default()
        };
        assert_eq!(config, left);
        assert_eq!(refused.len(), 3, "{refused:?}");
    }

    #[test]
    fn what_a_topic_sets_acts() {
        let set = [
            ("segment.bytes", "1048576"),
            ("segment.ms", "60000"),
            ("retention.ms", "-1"),
            ("retention.bytes", "5000000000"),
            ("max.message.bytes", "2000000"),
            ("message.timestamp.type", "LogAppendTime"),
            ("compression.type", "zstd"),
            ("compression.gzip.level", "1"),
            ("compression.zstd.level", "-7"),
            ("cleanup.policy", "compact, delete"),
            ("delete.retention.ms", "1000"),
            ("min.compaction.lag.ms", "2000"),
            ("max.compaction.lag.ms", "3000"),
            ("min.cleanable.dirty.ratio", "0.25"),
        ];
        let topic = collect(set.map(|(name, value)| (name, Some(value)))).unwrap();
        let broker = BrokerConfig {
            segment_ms: 7,
            compression_type: config::CompressionType::Gzip,
            timestamp_after_max_ms: 8,
            ..BrokerConfig::default()
        };
        let config = log_config(&broker, &topic).unwrap();
        assert_eq!(
            config,
            LogConfig {
                segment_bytes: 1 << 20,
                segment_ms: 60_000,
                retention_ms: -1,
                retention_bytes: 5_000_000_000,
                max_message_bytes: 2_000_000,
                timestamp_type: TimestampType::LogAppendTime,
                compression_type: Some(Compression::Zstd),
                compression_levels: CompressionLevels { gzip: 1, zstd: -7 },
                timestamp_after_max_ms: 8,
                cleanup: CleanupPolicy::COMPACT_AND_DELETE,
                delete_retention_ms: 1000,
                min_compaction_lag_ms: 2000,
                max_compaction_lag_ms: 3000,
                min_cleanable_dirty_millionths: 250_000,
                ..LogConfig::default()
            }
        );
        let uncompressed = collect([("compression.type", Some("uncompressed"))]).unwrap();
        let config = log_config(&BrokerConfig::default(), &uncompressed).unwrap();
        assert_eq!(config.compression_type, Some(Compression::None));
    }

    #[test]
    fn every_setting_that_topics_follow_takes_what_they_take() {
        for definition in definitions().iter().filter(|definition| definition.setting().is_some()) {
            let setting = config::settings().into_iter().find(|s| Some(s.name) == definition.setting());
            assert_eq!(setting.expect("it is one").values, definition.values(), "{}", definition.name);
        }
    }

    #[test]
    fn values_outside_of_kafkas_ranges_are_refused() {
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("retention.ms", "9223372036854775808"),
            ("segment.bytes", "0"),
            ("segment.bytes", "2147483648"),
            ("segment.ms", "0"),
            ("max.message.bytes", "-1"),
            ("message.timestamp.type", "create"),
            ("compression.type", "lzma"),
            ("compression.gzip.level", "10"),
            ("compression.gzip.level", "0"),
            ("compression.gzip.level", "-2"),
            ("compression.zstd.level", "23"),
            ("min.insync.replicas", "0"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("preallocate", "yes"),
            ("remote.storage.enable", "true"),
        ] {
            assert!(
                matches!(check(name, Some(value)), Err(InvalidTopicConfig::Value { .. })),
                "{name}={value}"
            );
        }
        for (name, value) in [("retention.ms", " 1000 "), ("preallocate", "TRUE"), ("retention.bytes", "-1")]
        {
            assert_eq!(check(name, Some(value)), Ok(()), "{name}={value}");
        }
    }

    #[test]
    fn a_cleanup_policy_is_one_or_both() {
        for (policy, parsed) in [
            ("delete", Some(CleanupPolicy::DELETE)),
            ("compact", Some(CleanupPolicy::COMPACT)),
            ("compact,delete", Some(CleanupPolicy::COMPACT_AND_DELETE)),
            ("delete, compact", Some(CleanupPolicy::COMPACT_AND_DELETE)),
            ("", None),
            ("compact,", None),
            ("burn", None),
        ] {
            assert_eq!(cleanup_policy(policy), parsed, "{policy}");
            assert_eq!(check("cleanup.policy", Some(policy)).is_ok(), parsed.is_some(), "{policy}");
        }
    }

    #[test]
    fn a_compaction_lag_that_ends_before_it_begins_is_refused() {
        let lags = [("min.compaction.lag.ms", Some("2000")), ("max.compaction.lag.ms", Some("1999"))];
        let error = log_config(&BrokerConfig::default(), &collect(lags).unwrap()).unwrap_err();
        assert!(error.to_string().contains("max.compaction.lag.ms"), "{error}");
    }

    #[test]
    fn unknown_names_and_nulls_are_refused_by_name() {
        assert_eq!(
            check("retention.mss", Some("1")),
            Err(InvalidTopicConfig::Unknown("retention.mss".to_owned()))
        );
        assert!(check("retention.ms", None).unwrap_err().to_string().contains("retention.ms"));
    }
}
