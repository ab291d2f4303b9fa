//! Every configuration of a group and of a subscription, with what it takes.

use std::collections::BTreeMap;

use regex::Regex;

use super::{Kind, objective};
use crate::config::BrokerConfig;
use crate::topic::config::ConfigType;

/// What a subscription can choose clients by (KIP-714).
pub const MATCH_KEYS: [&str; 6] = [
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// The values that a configuration takes.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Int(i32, i32),
    /// From 0 to below 1.
    Fraction,
    /// Nothing, or where `http` is spoken.
    HttpUrl,
    List,
    /// `name=pattern`, with the names of [`MATCH_KEYS`].
    Match,
}

/// Where a value comes from that is not set.
#[derive(Clone, Copy)]
enum Default {
    Fixed(&'static str),
    /// Of the broker, by its name there.
    Setting(&'static str, fn(&BrokerConfig) -> String),
}

/// One configuration.
pub struct Definition {
    /// Kafka's name.
    pub name: &'static str,
    /// Kafka's name for the broker's setting that stands in for it.
    pub broker_name: Option<&'static str>,
    /// What it means.
    pub doc: &'static str,
    kind: Kind,
    rule: Rule,
    default: Default,
}

const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "consumer.heartbeat.interval.ms",
        broker_name: Some("group.consumer.heartbeat.interval.ms"),
        doc: "How often a member of a consumer group (KIP-848) is to send a heartbeat, in milliseconds; below both the \
              group's and the broker's session timeout.",
        kind: Kind::Group,
        rule: Rule::Int(1, i32::MAX),
        default: Default::Setting("group_consumer_heartbeat_interval_ms", |broker| {
            broker.group_consumer_heartbeat_interval_ms.to_string()
        }),
    },
    Definition {
        name: "consumer.session.timeout.ms",
        broker_name: Some("group.consumer.session.timeout.ms"),
        doc: "Silence after which such a member is gone, in milliseconds. The broker's counts for members that were not \
              heard of since a restart.",
        kind: Kind::Group,
        rule: Rule::Int(1, i32::MAX),
        default: Default::Setting("group_consumer_session_timeout_ms", |broker| {
            broker.group_consumer_session_timeout_ms.to_string()
        }),
    },
    Definition {
        name: objective::LAG,
        broker_name: None,
        doc: "How far behind the group may be: the age of the first record that it has not consumed, in milliseconds; \
              0 sets no objective.",
        kind: Kind::Group,
        rule: Rule::Int(0, i32::MAX),
        default: Default::Fixed("0"),
    },
    Definition {
        name: objective::TARGET,
        broker_name: None,
        doc: "The part of the window in which the objective is to hold; what is left of it is the budget.",
        kind: Kind::Group,
        rule: Rule::Fraction,
        default: Default::Fixed(objective::TARGET_DEFAULT),
    },
    Definition {
        name: objective::WEBHOOK,
        broker_name: None,
        doc: "The http URL that changes of the objective's state are posted to; none takes the broker's setting.",
        kind: Kind::Group,
        rule: Rule::HttpUrl,
        default: Default::Fixed(""),
    },
    Definition {
        name: objective::WINDOW,
        broker_name: None,
        doc: "The time over which the objective's budget is counted, in milliseconds.",
        kind: Kind::Group,
        rule: Rule::Int(60_000, i32::MAX),
        default: Default::Fixed(objective::WINDOW_DEFAULT),
    },
    Definition {
        name: "interval.ms",
        broker_name: None,
        doc: "How often the clients push, in milliseconds; of several subscriptions the shortest counts.",
        kind: Kind::ClientMetrics,
        rule: Rule::Int(100, 3_600_000),
        default: Default::Fixed("300000"),
    },
    Definition {
        name: "match",
        broker_name: None,
        doc: "Which clients: patterns, separated by commas, all of which have to match the whole of what they name; none \
              stands for all clients.",
        kind: Kind::ClientMetrics,
        rule: Rule::Match,
        default: Default::Fixed(""),
    },
    Definition {
        name: "metrics",
        broker_name: None,
        doc: "Which metrics: prefixes of their names, separated by commas; * stands for all of them, none for no subscription.",
        kind: Kind::ClientMetrics,
        rule: Rule::List,
        default: Default::Fixed(""),
    },
];

/// Why a configuration is refused. The sentences go to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// No such name.
    #[error("Unknown {} config name: {name}", match kind { Kind::Group => "group", Kind::ClientMetrics => "client metrics" })]
    Unknown {
        /// Of what.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// One of Kafka's, about groups that are not served.
    #[error("{0} is about share or streams groups, which are not served here")]
    NotServed(String),
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
    #[error("Null value not supported for {0}")]
    Null(String),
}

/// Every configuration of that kind, by name.
pub fn definitions(kind: Kind) -> impl Iterator<Item = &'static Definition> {
    DEFINITIONS.iter().filter(move |definition| definition.kind == kind)
}

/// The configuration of that name.
///
/// # Errors
/// [`InvalidConfig::Unknown`] and [`InvalidConfig::NotServed`].
pub fn definition(kind: Kind, name: &str) -> Result<&'static Definition, InvalidConfig> {
    let is_of_others = kind == Kind::Group && (name.starts_with("share.") || name.starts_with("streams."));
    definitions(kind).find(|definition| definition.name == name).ok_or_else(|| match is_of_others {
        true => InvalidConfig::NotServed(name.to_owned()),
        false => InvalidConfig::Unknown { kind, name: name.to_owned() },
    })
}

/// Checks entries and collects them.
///
/// # Errors
/// The first entry's that is wrong.
pub fn collect(
    kind: Kind,
    entries: impl IntoIterator<Item = (String, Option<String>)>,
) -> Result<BTreeMap<String, String>, InvalidConfig> {
    let mut config = BTreeMap::new();
    for (name, value) in entries {
        let value = value.ok_or_else(|| InvalidConfig::Null(name.clone()))?;
        definition(kind, &name)?.check(&value)?;
        config.insert(name, value);
    }
    Ok(config)
}

/// Checks what the values of one resource have to do with each other, and with the broker's settings.
///
/// # Errors
/// [`InvalidConfig::Value`] for a group whose members would be put out between two heartbeats. The broker's session
/// timeout counts too: it is what holds for a member that was not heard of since a restart.
pub fn check(
    kind: Kind,
    config: &BTreeMap<String, String>,
    broker: &BrokerConfig,
) -> Result<(), InvalidConfig> {
    if kind == Kind::ClientMetrics {
        return Ok(());
    }
    let interval = definition(kind, "consumer.heartbeat.interval.ms")?;
    let session = definition(kind, "consumer.session.timeout.ms")?;
    let (interval_ms, session_ms) = (interval.number(config, broker), session.number(config, broker));
    let session_ms = session_ms.min(broker.group_consumer_session_timeout_ms);
    if interval_ms >= session_ms {
        let reason = format!("must be below the group's and the broker's session timeout ({session_ms})");
        return Err(interval.invalid(&interval_ms.to_string(), reason));
    }
    Ok(())
}

impl Definition {
    /// The type that DescribeConfigs shows.
    pub fn config_type(&self) -> ConfigType {
        match self.rule {
            Rule::Int(..) => ConfigType::Int,
            Rule::Fraction => ConfigType::Double,
            Rule::HttpUrl => ConfigType::String,
            Rule::List | Rule::Match => ConfigType::List,
        }
    }

    /// Whether the value is not for everybody who may read configurations: a URL may hold a token.
    pub fn is_sensitive(&self) -> bool {
        matches!(self.rule, Rule::HttpUrl)
    }

    /// The setting of the broker that counts where none is set, if there is one.
    pub fn setting(&self) -> Option<&'static str> {
        match self.default {
            Default::Fixed(_) => None,
            Default::Setting(name, _) => Some(name),
        }
    }

    /// The values that it takes, in words.
    pub fn values(&self) -> String {
        match self.rule {
            Rule::Int(min, max) => format!("{min} to {max}"),
            Rule::Fraction => "0 to below 1".to_owned(),
            Rule::HttpUrl => "http://HOST:PORT/PATH, or nothing".to_owned(),
            Rule::List => "words, separated by commas".to_owned(),
            Rule::Match => format!("name=pattern, with one of {}", MATCH_KEYS.join(", ")),
        }
    }

    /// The value under these settings of the broker, where none is set.
    pub fn broker_value(&self, broker: &BrokerConfig) -> String {
        match self.default {
            Default::Fixed(value) => value.to_owned(),
            Default::Setting(_, value) => value(broker),
        }
    }

    /// What holds for a resource with that configuration, where it is a number.
    pub fn number(&self, config: &BTreeMap<String, String>, broker: &BrokerConfig) -> i32 {
        let own = config.get(self.name).and_then(|value| value.trim().parse().ok());
        own.or_else(|| self.broker_value(broker).parse().ok()).unwrap_or(i32::MAX)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// [`InvalidConfig::Value`] with what would be valid.
    pub fn check(&self, value: &str) -> Result<(), InvalidConfig> {
        let reason = match self.rule {
            Rule::List => None,
            Rule::Int(min, max) => match value.trim().parse::<i32>() {
                Ok(number) if (min..=max).contains(&number) => None,
                _ => Some(format!("Value must be a number from {min} to {max}")),
            },
            Rule::Fraction => {
                let fits = value.trim().parse::<f64>().is_ok_and(|value| (0.0..1.0).contains(&value));
                (!fits).then(|| "Value must be a number from 0 to below 1".to_owned())
            }
            Rule::HttpUrl => objective::webhook_reason(value.trim()),
            Rule::Match => words(value).find_map(|word| match word.split_once('=') {
                Some((name, pattern)) if MATCH_KEYS.contains(&name.trim()) => {
                    Regex::new(pattern.trim()).err().map(|error| error.to_string())
                }
                _ => Some(format!("{word} is no name=pattern with one of {}", MATCH_KEYS.join(", "))),
            }),
        };
        reason.map_or(Ok(()), |reason| Err(self.invalid(value, reason)))
    }

    /// The error for a value that this configuration does not take.
    pub fn invalid(&self, value: &str, reason: impl Into<String>) -> InvalidConfig {
        InvalidConfig::Value { name: self.name, value: value.to_owned(), reason: reason.into() }
    }
}

/// The words of a list, without those that are empty.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_and_groups_heartbeats_fit_their_sessions() {
        let broker = BrokerConfig::default();
        for definition in definitions(Kind::Group).chain(definitions(Kind::ClientMetrics)) {
            assert_eq!(definition.check(&definition.broker_value(&broker)), Ok(()), "{}", definition.name);
        }
        let group = |entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
            check(Kind::Group, &collect(Kind::Group, entries).unwrap(), &broker)
        };
        assert_eq!(group(&[]), Ok(()));
        assert_eq!(group(&[("consumer.session.timeout.ms", "6000")]), Ok(()));
        assert!(group(&[("consumer.session.timeout.ms", "5000")]).is_err(), "the interval is as long");
        let both = [("consumer.session.timeout.ms", "90000"), ("consumer.heartbeat.interval.ms", "60000")];
        assert!(group(&both).is_err(), "the broker's session timeout is shorter");
    }

    #[test]
    fn what_does_not_work_is_refused() {
        for (kind, name, value) in [
            (Kind::Group, "consumer.session.timeout.ms", "soon"),
            (Kind::Group, "share.session.timeout.ms", "45000"),
            (Kind::Group, "interval.ms", "1000"),
            (Kind::ClientMetrics, "interval.ms", "99"),
            (Kind::ClientMetrics, "match", "client_id"),
            (Kind::ClientMetrics, "match", "client_name=x"),
            (Kind::ClientMetrics, "match", "client_id=("),
        ] {
            let refused = collect(kind, [(name.to_owned(), Some(value.to_owned()))]);
            assert!(refused.is_err(), "{name}={value}");
        }
        let refused = definition(Kind::Group, "streams.num.standby.replicas").err().expect("not served");
        assert!(refused.to_string().contains("not served"), "{refused}");
        let matches = "client_id=a.*, client_software_name=librdkafka";
        assert!(collect(Kind::ClientMetrics, [("match".to_owned(), Some(matches.to_owned()))]).is_ok());
    }
}
