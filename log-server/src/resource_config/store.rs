//! What was set, in memory and on disk.
//!
//! `resource-configs.json` is replaced as a whole and durably before a change acts, as the catalog is (decision 3). A
//! data directory without the file has none.
//!
//! ```text
//! { "format": 1,
//!   "groups": { "billing": { "consumer.session.timeout.ms": "30000" } },
//!   "client_metrics": { "all": { "metrics": "*", "interval.ms": "10000" } } }
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use log_core::storage::Storage;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::definition::{InvalidConfig, collect};
use super::objective::Objective;
use super::{Kind, check};
use crate::config::BrokerConfig;

/// The file in the data directory.
const FILE: &str = "resource-configs.json";

/// The layout that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// Groups, or subscriptions, that may have a configuration.
const RESOURCES_MAX: usize = 10_000;

/// Configurations by the names of what they are for.
type Named = BTreeMap<String, BTreeMap<String, String>>;

/// Why nothing is changed.
#[derive(Debug, thiserror::Error)]
pub enum ResourceConfigError {
    /// A name or a value that does not work.
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    /// There are enough.
    #[error("at most {RESOURCES_MAX} of a kind may have a configuration of their own")]
    TooMany,
    /// The disk refused.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
}

/// The configurations of groups and of subscriptions.
#[derive(Debug)]
pub struct ResourceConfigs {
    storage: Arc<dyn Storage>,
    state: ArcSwap<File>,
    /// Held while a change is made durable, so that changes follow one another. Readers never take it.
    change: Mutex<()>,
}

impl ResourceConfigs {
    /// Reads what earlier runs were told.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` for a file that is not ours.
    pub fn open(storage: Arc<dyn Storage>) -> io::Result<ResourceConfigs> {
        let file = match storage.read(FILE) {
            Ok(bytes) => decode(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File { format: FORMAT, ..File::default() }
            }
            Err(error) => return Err(error),
        };
        Ok(ResourceConfigs { storage, state: ArcSwap::from_pointee(file), change: Mutex::new(()) })
    }

    /// What is set for a resource; nothing for one that was never named.
    pub fn get(&self, kind: Kind, name: &str) -> BTreeMap<String, String> {
        self.state.load().of(kind).get(name).cloned().unwrap_or_default()
    }

    /// Every resource of a kind that has a configuration.
    pub fn all(&self, kind: Kind) -> BTreeMap<String, BTreeMap<String, String>> {
        self.state.load().of(kind).clone()
    }

    /// Every group's lag objective, of groups that have one.
    pub fn objectives(&self) -> BTreeMap<Arc<str>, Objective> {
        let state = self.state.load();
        let read = |(group, config): (&String, _)| Some((group.as_str().into(), Objective::read(config)?));
        state.groups.iter().filter_map(read).collect()
    }

    /// Changes what is set for a resource; `change` makes it out of what there was. Durable on return. With
    /// `validate_only` nothing is changed. Blocks for two syncs.
    ///
    /// # Errors
    /// See [`ResourceConfigError`]; nothing has changed then.
    pub fn update(
        &self,
        kind: Kind,
        name: &str,
        broker: &BrokerConfig,
        validate_only: bool,
        change: impl FnOnce(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidConfig>,
    ) -> Result<(), ResourceConfigError> {
        let _in_turn = self.change.lock();
        let config = change(&self.get(kind, name))?;
        check(kind, &config, broker)?;
        let mut file = File::clone(&self.state.load());
        let named = file.of_mut(kind);
        match config.is_empty() {
            true => named.remove(name),
            false => named.insert(name.to_owned(), config),
        };
        if named.len() > RESOURCES_MAX {
            return Err(ResourceConfigError::TooMany);
        }
        if !validate_only {
            let bytes = serde_json::to_vec_pretty(&file).expect("strings always encode");
            self.storage.write_atomic(FILE, &bytes)?;
            self.state.store(Arc::new(file));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    groups: Named,
    client_metrics: Named,
}

impl File {
    fn of(&self, kind: Kind) -> &Named {
        match kind {
            Kind::Group => &self.groups,
            Kind::ClientMetrics => &self.client_metrics,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut Named {
        match kind {
            Kind::Group => &mut self.groups,
            Kind::ClientMetrics => &mut self.client_metrics,
        }
    }
}

fn decode(bytes: &[u8]) -> io::Result<File> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}: {reason}"));
    let file: File = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    if file.format != FORMAT {
        return Err(invalid(format!("format {} is not {FORMAT}, the one known here", file.format)));
    }
    for kind in [Kind::Group, Kind::ClientMetrics] {
        for config in file.of(kind).values() {
            let entries = config.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
            collect(kind, entries).map_err(|error| invalid(error.to_string()))?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use log_core::storage::{MmapStorage, WriteMode};

    use super::*;

    fn open(dir: &tempfile::TempDir) -> io::Result<ResourceConfigs> {
        ResourceConfigs::open(Arc::new(MmapStorage::open(dir.path(), WriteMode::Mapped).unwrap()))
    }

    #[test]
    fn what_was_set_outlives_a_restart_and_what_is_empty_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (configs, broker) = (open(&dir).unwrap(), BrokerConfig::default());
        let set = BTreeMap::from([("interval.ms".to_owned(), "1000".to_owned())]);
        let update = |validate_only, to: &BTreeMap<String, String>| {
            configs.update(Kind::ClientMetrics, "s", &broker, validate_only, |_| Ok(to.clone())).unwrap();
        };
        update(true, &set);
        assert!(configs.all(Kind::ClientMetrics).is_empty(), "that was only asked");
        update(false, &set);
        assert_eq!(open(&dir).unwrap().get(Kind::ClientMetrics, "s"), set);
        assert!(open(&dir).unwrap().all(Kind::Group).is_empty());
        update(false, &BTreeMap::new());
        assert!(open(&dir).unwrap().all(Kind::ClientMetrics).is_empty());
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in [
            "",
            r#"{"format":2,"groups":{},"client_metrics":{}}"#,
            r#"{"format":1,"groups":{"g":{"no.such.config":"1"}},"client_metrics":{}}"#,
        ] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            assert_eq!(open(&dir).unwrap_err().kind(), io::ErrorKind::InvalidData, "{damaged:?}");
        }
    }
}
