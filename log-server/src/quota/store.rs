//! The quotas that were set, in memory and on disk.
//!
//! `quotas.json` is replaced as a whole and durably before a change acts, as the catalog is (decision 3). A data
//! directory without the file has no quotas.
//!
//! ```text
//! { "format": 1,
//!   "default": { "producer_byte_rate": 1048576.0 },
//!   "clients": { "loader": { "producer_byte_rate": 8388608.0, "consumer_byte_rate": 1048576.0 } } }
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use log_core::storage::Storage;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The file in the data directory.
const FILE: &str = "quotas.json";

/// The layout that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// Clients that may have a quota of their own.
pub const MAX_ENTITIES: usize = 10_000;

/// Whom a quota is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    /// Every client id that has no quota of its own, each by itself.
    Default,
    /// The clients that call themselves this; together.
    Client(String),
}

/// Bytes a second, each unlimited unless it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Of Produce requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer_byte_rate: Option<f64>,
    /// Of records in answers to Fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_byte_rate: Option<f64>,
}

impl Rates {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Rates::default()
    }
}

/// Why quotas are not changed; they are as they were.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// The disk refused.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
    /// There are enough.
    #[error(
        "at most {MAX_ENTITIES} clients may have a quota of their own; a default quota holds for all others"
    )]
    TooMany,
}

/// All quotas.
#[derive(Debug)]
pub struct QuotaStore {
    storage: Arc<dyn Storage>,
    quotas: ArcSwap<BTreeMap<Entity, Rates>>,
    /// Held while a change is made durable, so that changes follow one another. Readers never take it.
    change: Mutex<()>,
}

impl QuotaStore {
    /// Reads the quotas of a data directory.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` for a file that is not ours: without its quotas a broker may be overrun.
    pub fn open(storage: Arc<dyn Storage>) -> io::Result<QuotaStore> {
        let quotas = match storage.read(FILE) {
            Ok(bytes) => decode(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(QuotaStore { storage, quotas: ArcSwap::from_pointee(quotas), change: Mutex::new(()) })
    }

    /// The quotas of this moment. Cheap, and does not block.
    pub fn all(&self) -> Arc<BTreeMap<Entity, Rates>> {
        self.quotas.load_full()
    }

    /// What holds for a client: each rate is its own, or else the default's.
    pub fn effective(&self, client_id: &str) -> Rates {
        let quotas = self.quotas.load();
        if quotas.is_empty() {
            return Rates::default();
        }
        let own = quotas.get(&Entity::Client(client_id.to_owned())).copied().unwrap_or_default();
        let default = quotas.get(&Entity::Default).copied().unwrap_or_default();
        Rates {
            producer_byte_rate: own.producer_byte_rate.or(default.producer_byte_rate),
            consumer_byte_rate: own.consumer_byte_rate.or(default.consumer_byte_rate),
        }
    }

    /// Changes quotas. They act and are durable on return. Blocks for two syncs.
    ///
    /// # Errors
    /// See [`QuotaError`].
    pub fn update(&self, change: impl FnOnce(&mut BTreeMap<Entity, Rates>)) -> Result<(), QuotaError> {
        let _in_turn = self.change.lock();
        let mut quotas = BTreeMap::clone(&self.quotas.load());
        change(&mut quotas);
        quotas.retain(|_, rates| !rates.is_empty());
        if quotas.len() > MAX_ENTITIES {
            return Err(QuotaError::TooMany);
        }
        self.storage.write_atomic(FILE, &encode(&quotas))?;
        self.quotas.store(Arc::new(quotas));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    #[serde(default)]
    default: Rates,
    #[serde(default)]
    clients: BTreeMap<String, Rates>,
}

fn encode(quotas: &BTreeMap<Entity, Rates>) -> Vec<u8> {
    let mut file = File { format: FORMAT, default: Rates::default(), clients: BTreeMap::new() };
    for (entity, &rates) in quotas {
        match entity {
            Entity::Default => file.default = rates,
            Entity::Client(name) => {
                file.clients.insert(name.clone(), rates);
            }
        }
    }
    serde_json::to_vec_pretty(&file).expect("strings and numbers always encode")
}

fn decode(bytes: &[u8]) -> io::Result<BTreeMap<Entity, Rates>> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}: {reason}"));
    let file: File = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    if file.format != FORMAT {
        return Err(invalid(format!("format {} is not {FORMAT}, the one known here", file.format)));
    }
    let clients = file.clients.into_iter().map(|(name, rates)| (Entity::Client(name), rates));
    let mut quotas: BTreeMap<Entity, Rates> = clients.collect();
    quotas.insert(Entity::Default, file.default);
    quotas.retain(|_, rates| !rates.is_empty());
    let rates = quotas.values().flat_map(|rates| [rates.producer_byte_rate, rates.consumer_byte_rate]);
    if let Some(rate) = rates.flatten().find(|rate| !(rate.is_finite() && *rate > 0.0)) {
        return Err(invalid(format!("{rate} is no number of bytes a second")));
    }
    Ok(quotas)
}

#[cfg(test)]
mod tests {
    use log_core::storage::{MmapStorage, WriteMode};

    use super::*;

    fn open(dir: &tempfile::TempDir) -> io::Result<QuotaStore> {
        QuotaStore::open(Arc::new(MmapStorage::open(dir.path(), WriteMode::Mapped).unwrap()))
    }

    #[test]
    fn quotas_outlive_a_restart_and_the_more_specific_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir).unwrap();
        assert_eq!(store.effective("a"), Rates::default());
        let default = Rates { producer_byte_rate: Some(100.0), consumer_byte_rate: Some(200.0) };
        let own = Rates { producer_byte_rate: Some(5.0), consumer_byte_rate: None };
        store
            .update(|quotas| {
                quotas.insert(Entity::Default, default);
                quotas.insert(Entity::Client("a".to_owned()), own);
                quotas.insert(Entity::Client("b".to_owned()), Rates::default());
            })
            .unwrap();
        let store = open(&dir).unwrap();
        assert_eq!(store.all().len(), 2, "what limits nothing is not kept");
        let expected = Rates { producer_byte_rate: Some(5.0), consumer_byte_rate: Some(200.0) };
        assert_eq!(store.effective("a"), expected);
        assert_eq!(store.effective("b"), default);
    }

    #[test]
    fn their_number_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir).unwrap();
        let rates = Rates { producer_byte_rate: Some(1.0), consumer_byte_rate: None };
        let names = |count: usize| (0..count).map(|n| (Entity::Client(n.to_string()), rates));
        let refused = store.update(|quotas| quotas.extend(names(MAX_ENTITIES + 1)));
        assert!(matches!(refused, Err(QuotaError::TooMany)));
        assert!(store.all().is_empty());
        store.update(|quotas| quotas.extend(names(MAX_ENTITIES))).unwrap();
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in [
            "",
            r#"{"format":2}"#,
            r#"{"format":1,"default":{"producer_byte_rate":-1.0}}"#,
            r#"{"format":1,"default":{"producer_byte_rat":1.0}}"#,
        ] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            assert_eq!(open(&dir).unwrap_err().kind(), io::ErrorKind::InvalidData, "{damaged:?}");
        }
    }
}
