//! Settings of the broker that are changed while it runs, by Kafka's names (KIP-226).
//!
//! A few settings have an effect that can be replaced at any moment. Clients set them for this broker or as the
//! cluster's default, and of the places where a value can stand the first counts:
//!
//! 1. set for this broker while it runs,
//! 2. set for the cluster while it runs,
//! 3. the settings that the broker was started with ([`crate::config`]).
//!
//! `dynamic-config.json` is replaced as a whole and durably before a change acts, as the catalog is (decision 3). A
//! data directory without the file has none.
//!
//! ```text
//! { "format": 1, "cluster": { "log.retention.ms": "86400000" }, "broker": {} }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clap::ValueEnum;
use log_core::log::LogConfig;
use log_core::storage::Storage;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::{BrokerConfig, CompressionType, TimestampType, word};

/// The file in the data directory.
const FILE: &str = "dynamic-config.json";

/// The layout that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// A setting that can be changed while the broker runs.
pub struct Changeable {
    /// Kafka's name.
    pub name: &'static str,
    /// Its name among the settings that the broker is started with.
    pub setting: &'static str,
    /// The values that it takes.
    pub values: Values,
    set: fn(&mut BrokerConfig, &str) -> Option<()>,
}

/// The values that such a setting takes.
pub enum Values {
    /// Whole numbers.
    Numbers(RangeInclusive<i64>),
    /// One of a few words.
    Words(fn() -> Vec<String>),
}

impl Values {
    const fn words<T: ValueEnum>() -> Values {
        Values::Words(|| T::value_variants().iter().map(word).collect())
    }

    /// What is wrong with `value`, in Kafka's words.
    fn check(&self, value: &str) -> Result<(), String> {
        match self {
            Values::Words(words) if words().iter().any(|word| word == value) => Ok(()),
            Values::Words(words) => Err(format!("String must be one of: {}", words().join(", "))),
            Values::Numbers(range) => {
                let (min, max) = (*range.start(), *range.end());
                match value.parse::<i64>() {
                    Err(_) => Err("Not a number of type LONG".to_owned()),
                    Ok(number) if number < min => Err(format!("Value must be at least {min}")),
                    Ok(number) if number > max => Err(format!("Value must be no more than {max}")),
                    Ok(_) => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Values::Words(words) => f.write_str(&words().join(", ")),
            Values::Numbers(range) if *range.end() == i64::MAX => write!(f, "{} and above", range.start()),
            Values::Numbers(range) => write!(f, "{} to {}", range.start(), range.end()),
        }
    }
}

/// Puts a value where it belongs, if there is one.
fn put<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

/// The value of that name. Only Kafka's own spelling counts.
fn value_of<T: ValueEnum>(name: &str) -> Option<T> {
    T::from_str(name, false).ok()
}

/// Every such setting, by name.
pub const CHANGEABLE: &[Changeable] = &[
    Changeable {
        name: "compression.type",
        setting: "compression_type",
        values: Values::words::<CompressionType>(),
        set: |config, value| put(&mut config.compression_type, value_of(value)),
    },
    Changeable {
        name: "log.message.timestamp.after.max.ms",
        setting: "timestamp_after_max_ms",
        values: Values::Numbers(0..=i64::MAX),
        set: |config, value| put(&mut config.timestamp_after_max_ms, value.parse().ok()),
    },
    Changeable {
        name: "log.message.timestamp.before.max.ms",
        setting: "timestamp_before_max_ms",
        values: Values::Numbers(0..=i64::MAX),
        set: |config, value| put(&mut config.timestamp_before_max_ms, value.parse().ok()),
    },
    Changeable {
        name: "log.message.timestamp.type",
        setting: "timestamp_type",
        values: Values::words::<TimestampType>(),
        set: |config, value| put(&mut config.timestamp_type, value_of(value)),
    },
    Changeable {
        name: "log.retention.bytes",
        setting: "retention_bytes",
        values: Values::Numbers(-1..=i64::MAX),
        set: |config, value| put(&mut config.retention_bytes, value.parse().ok()),
    },
    Changeable {
        name: "log.retention.ms",
        setting: "retention_ms",
        values: Values::Numbers(-1..=i64::MAX),
        set: |config, value| put(&mut config.retention_ms, value.parse().ok()),
    },
    Changeable {
        name: "log.roll.ms",
        setting: "segment_ms",
        values: Values::Numbers(1..=i64::MAX),
        set: |config, value| put(&mut config.segment_ms, value.parse().ok()),
    },
    Changeable {
        name: "log.segment.bytes",
        setting: "segment_bytes",
        values: Values::Numbers(LogConfig::SEGMENT_BYTES_MIN as i64..=i32::MAX as i64),
        set: |config, value| put(&mut config.segment_bytes, value.parse().ok()),
    },
    Changeable {
        name: "max.connections",
        setting: "connections_max",
        values: Values::Numbers(1..=i32::MAX as i64),
        set: |config, value| put(&mut config.connections_max, value.parse().ok()),
    },
    Changeable {
        name: "message.max.bytes",
        setting: "message_bytes_max",
        values: Values::Numbers(0..=i32::MAX as i64),
        set: |config, value| put(&mut config.message_bytes_max, value.parse().ok()),
    },
];

/// For whom a setting is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every broker of the cluster that has no value of its own.
    Cluster,
    /// This broker.
    Broker,
}

/// What was set while the broker ran, by Kafka's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    cluster: BTreeMap<String, String>,
    broker: BTreeMap<String, String>,
}

impl Overrides {
    /// What was set in that scope.
    pub fn of(&self, scope: Scope) -> &BTreeMap<String, String> {
        match scope {
            Scope::Cluster => &self.cluster,
            Scope::Broker => &self.broker,
        }
    }

    fn of_mut(&mut self, scope: Scope) -> &mut BTreeMap<String, String> {
        match scope {
            Scope::Cluster => &mut self.cluster,
            Scope::Broker => &mut self.broker,
        }
    }
}

/// Why a setting is not changed. The sentences go to the client.
#[derive(Debug, thiserror::Error)]
pub enum DynamicError {
    /// Not one of those that can be changed while the broker runs.
    #[error(
        "Cannot update these configs dynamically: {0}; change the broker's file, environment or flags and restart it"
    )]
    Fixed(String),
    /// A value that does not work.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Value {
        /// The setting.
        name: String,
        /// What it was to be set to.
        value: String,
        /// Why that does not work.
        reason: String,
    },
    /// The disk refused.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
}

/// The settings of this moment.
pub struct DynamicConfig {
    storage: Arc<dyn Storage>,
    /// What the broker was started with.
    fixed: Arc<BrokerConfig>,
    state: ArcSwap<State>,
    /// Held while a change is made durable, so that changes follow one another. Readers never take it.
    change: Mutex<()>,
}

struct State {
    overrides: Overrides,
    effective: Arc<BrokerConfig>,
}

impl DynamicConfig {
    /// Reads what earlier runs were told, over what this one was started with.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` for a file that is not ours.
    pub fn open(storage: Arc<dyn Storage>, fixed: Arc<BrokerConfig>) -> io::Result<DynamicConfig> {
        let overrides = match storage.read(FILE) {
            Ok(bytes) => decode(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Overrides::default(),
            Err(error) => return Err(error),
        };
        let effective = effective(&fixed, &overrides).unwrap_or_else(|error| {
            // It worked once; a setting that the broker is started with now contradicts it. Better to start.
            tracing::error!(%error, "ignoring what was set while the broker ran");
            BrokerConfig::clone(&fixed)
        });
        let state = ArcSwap::from_pointee(State { overrides, effective: Arc::new(effective) });
        Ok(DynamicConfig { storage, fixed, state, change: Mutex::new(()) })
    }

    /// The settings that the broker was started with.
    pub fn fixed(&self) -> &Arc<BrokerConfig> {
        &self.fixed
    }

    /// The settings of this moment, changes included. Cheap, and does not block.
    pub fn current(&self) -> Arc<BrokerConfig> {
        self.state.load().effective.clone()
    }

    /// What was changed.
    pub fn overrides(&self) -> Overrides {
        self.state.load().overrides.clone()
    }

    /// Whether a setting of that name can be changed while the broker runs.
    pub fn can_change(name: &str) -> bool {
        CHANGEABLE.iter().any(|row| row.name == name)
    }

    /// Changes settings: `change` makes the scope's new entries out of those of this moment. Durable on return;
    /// whoever copied settings has to look again. With `validate_only` nothing is changed. Blocks for two syncs.
    ///
    /// # Errors
    /// See [`DynamicError`]; nothing has changed then.
    pub fn update(
        &self,
        scope: Scope,
        validate_only: bool,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), DynamicError> {
        let _in_turn = self.change.lock();
        let mut overrides = self.overrides();
        change(overrides.of_mut(scope));
        // A value has to work where it stands, even while a stronger one hides it.
        for scope in [Scope::Cluster, Scope::Broker] {
            let mut alone = Overrides::default();
            *alone.of_mut(scope) = overrides.of(scope).clone();
            effective(&self.fixed, &alone)?;
        }
        let effective = Arc::new(effective(&self.fixed, &overrides)?);
        if !validate_only {
            self.storage.write_atomic(FILE, &encode(&overrides))?;
            self.state.store(Arc::new(State { overrides, effective }));
        }
        Ok(())
    }
}

fn effective(fixed: &BrokerConfig, overrides: &Overrides) -> Result<BrokerConfig, DynamicError> {
    let mut config = fixed.clone();
    for (name, value) in overrides.cluster.iter().chain(&overrides.broker) {
        let invalid = |reason| DynamicError::Value { name: name.clone(), value: value.clone(), reason };
        let Some(row) = CHANGEABLE.iter().find(|row| row.name == name) else {
            return Err(DynamicError::Fixed(name.clone()));
        };
        row.values.check(value.trim()).map_err(invalid)?;
        // A number that is in the range may still be spelled as the setting's type does not read it: -0.
        (row.set)(&mut config, value.trim())
            .ok_or_else(|| invalid("Not a number of type LONG".to_owned()))?;
        config.check().map_err(|error| invalid(error.to_string()))?;
    }
    Ok(config)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    cluster: BTreeMap<String, String>,
    broker: BTreeMap<String, String>,
}

fn encode(overrides: &Overrides) -> Vec<u8> {
    let Overrides { cluster, broker } = overrides.clone();
    serde_json::to_vec_pretty(&File { format: FORMAT, cluster, broker }).expect("strings always encode")
}

fn decode(bytes: &[u8]) -> io::Result<Overrides> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}: {reason}"));
    let file: File = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    match file.format {
        FORMAT => Ok(Overrides { cluster: file.cluster, broker: file.broker }),
        other => Err(invalid(format!("format {other} is not {FORMAT}, the one known here"))),
    }
}

#[cfg(test)]
mod tests {
    use log_core::storage::{MmapStorage, WriteMode};

    use super::*;

    fn open(dir: &tempfile::TempDir) -> io::Result<DynamicConfig> {
        let storage = Arc::new(MmapStorage::open(dir.path(), WriteMode::Mapped).unwrap());
        DynamicConfig::open(storage, Arc::new(BrokerConfig::default()))
    }

    fn set(config: &DynamicConfig, scope: Scope, name: &str, value: &str) -> Result<(), DynamicError> {
        config.update(scope, false, |entries| {
            entries.insert(name.to_owned(), value.to_owned());
        })
    }

    #[test]
    fn the_broker_s_own_value_counts_first_and_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let config = open(&dir).unwrap();
        set(&config, Scope::Cluster, "log.retention.ms", "5000").unwrap();
        set(&config, Scope::Cluster, "message.max.bytes", "2000").unwrap();
        assert_eq!(config.current().retention_ms, 5000);
        set(&config, Scope::Broker, "log.retention.ms", "-1").unwrap();
        let config = open(&dir).unwrap();
        assert_eq!((config.current().retention_ms, config.current().message_bytes_max), (-1, 2000));
        config.update(Scope::Broker, false, BTreeMap::clear).unwrap();
        assert_eq!(config.current().retention_ms, 5000);
        config.update(Scope::Cluster, true, BTreeMap::clear).unwrap();
        assert_eq!(config.current().retention_ms, 5000, "that was only asked");
    }

    #[test]
    fn every_value_that_a_row_takes_fits_its_setting() {
        for row in CHANGEABLE {
            let values = match &row.values {
                Values::Words(words) => words(),
                Values::Numbers(range) => vec![range.start().to_string(), range.end().to_string()],
            };
            for value in values {
                assert_eq!((row.set)(&mut BrokerConfig::default(), &value), Some(()), "{}={value}", row.name);
            }
        }
        assert!(CHANGEABLE.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn what_cannot_be_changed_or_does_not_work_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = open(&dir).unwrap();
        for name in ["num.partitions", "no.such.config"] {
            assert!(matches!(set(&config, Scope::Broker, name, "1"), Err(DynamicError::Fixed(_))));
        }
        set(&config, Scope::Broker, "log.roll.ms", "1000").unwrap();
        for (name, value) in [
            ("log.retention.ms", "soon"),
            ("log.retention.ms", "-2"),
            ("log.roll.ms", "0"),
            ("log.segment.bytes", "1"),
            ("max.connections", "0"),
            ("message.max.bytes", "2000000000"),
            ("message.max.bytes", "-0"),
            ("compression.type", "none"),
            ("log.message.timestamp.type", "createtime"),
            ("log.message.timestamp.before.max.ms", "-1"),
        ] {
            let refused = set(&config, Scope::Cluster, name, value);
            assert!(matches!(refused, Err(DynamicError::Value { .. })), "{name}={value}");
        }
        assert!(config.overrides().of(Scope::Cluster).is_empty());
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in ["", "{}", r#"{"format":2,"cluster":{},"broker":{}}"#] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            assert_eq!(open(&dir).err().unwrap().kind(), io::ErrorKind::InvalidData, "{damaged:?}");
        }
    }
}
