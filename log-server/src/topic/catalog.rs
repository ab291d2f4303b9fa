//! The catalog: every topic with its id, partition count and configuration, in one file.
//!
//! `catalog.json` is replaced as a whole and durably (temporary file, sync, rename, sync of the directory) before a
//! change shows in memory, so a crash leaves the old catalog or the new one. It is the truth about which topics
//! exist: partition directories are made before a topic is in here, and removed after it is not any more; what a
//! crash leaves in between is cleaned at the next start.
//!
//! ```text
//! { "format": 1,
//!   "topics": { "orders": { "id": "9e4f…-…", "partitions": 8, "config": { "retention.ms": "1000" } } } }
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use log_core::log::PartitionIdentity;
use log_core::storage::Storage;
use log_core::wire::Uuid;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::name;

/// The catalog's file in the data directory.
pub const CATALOG_FILE: &str = "catalog.json";

/// The layout that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// One topic. Immutable: a change makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name, unique and valid.
    pub name: Arc<str>,
    /// Its id: random, never zero, another one when a topic is created again under the same name.
    pub id: Uuid,
    /// The number of partitions, which can only grow.
    pub partitions: i32,
    /// The configuration that was set for it, by Kafka's names. What is not in here follows the broker's defaults.
    pub config: BTreeMap<String, String>,
}

impl Topic {
    /// A topic with a fresh id.
    pub fn new(name: &str, partitions: i32, config: BTreeMap<String, String>) -> Self {
        Topic { name: name.into(), id: random_id(), partitions, config }
    }

    /// Whether the topic is the broker's own.
    pub fn is_internal(&self) -> bool {
        name::is_internal(&self.name)
    }

    /// What the directory of a partition says that it holds.
    pub fn partition_identity(&self, index: i32) -> PartitionIdentity {
        PartitionIdentity {
            topic_id: uuid::Uuid::from_bytes(self.id.to_bytes()),
            topic: self.name.to_string(),
            partition: index,
        }
    }
}

/// All topics at one moment.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

impl Topics {
    /// The topic of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of that id.
    pub fn get_by_id(&self, id: &Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(id)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Partitions of all topics together.
    pub fn partitions(&self) -> usize {
        self.iter().map(|topic| topic.partitions as usize).sum()
    }

    fn insert(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        if let Some(before) = self.by_name.insert(topic.name.clone(), topic.clone()) {
            self.by_id.remove(&before.id);
        }
        self.by_id.insert(topic.id, topic);
    }

    fn remove(&mut self, name: &str) {
        if let Some(topic) = self.by_name.remove(name) {
            self.by_id.remove(&topic.id);
        }
    }
}

impl FromIterator<Topic> for Topics {
    fn from_iter<T: IntoIterator<Item = Topic>>(topics: T) -> Topics {
        let mut all = Topics::default();
        topics.into_iter().for_each(|topic| all.insert(topic));
        all
    }
}

/// Why the catalog cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file system's answer.
    #[error("{CATALOG_FILE}: {0}")]
    Io(#[from] io::Error),
    /// The file is not a catalog that this version understands.
    #[error("{CATALOG_FILE}: {0}; restore it from a backup, nothing in the data directory was changed")]
    Malformed(String),
}

/// The topics, in memory and on disk.
pub struct Catalog {
    storage: Arc<dyn Storage>,
    topics: ArcSwap<Topics>,
    /// Held while a change is made durable, so that changes follow one another. Readers never take it.
    change: Mutex<()>,
    /// Told of every change, after it shows.
    changed: watch::Sender<()>,
}

impl Catalog {
    /// Reads the catalog of a data directory; `None` if there is no file.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub fn open(storage: Arc<dyn Storage>) -> Result<Option<Catalog>, CatalogError> {
        let bytes = match storage.read(CATALOG_FILE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let topics = decode(&bytes)?;
        Ok(Some(Catalog::of(storage, topics)))
    }

    /// Writes an empty catalog into a fresh data directory.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(storage: Arc<dyn Storage>) -> Result<Catalog, CatalogError> {
        let catalog = Catalog::of(storage, Topics::default());
        catalog.update(|_| ())?;
        Ok(catalog)
    }

    fn of(storage: Arc<dyn Storage>, topics: Topics) -> Self {
        let (changed, _) = watch::channel(());
        Catalog { storage, topics: ArcSwap::from_pointee(topics), change: Mutex::new(()), changed }
    }

    /// Says when topics have changed: created, deleted, grown or configured.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// All topics as of now. Cheap, and does not block.
    pub fn topics(&self) -> Arc<Topics> {
        self.topics.load_full()
    }

    /// The topic of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.load().get(name).cloned()
    }

    /// The topic of that id.
    pub fn get_by_id(&self, id: &Uuid) -> Option<Arc<Topic>> {
        self.topics.load().get_by_id(id).cloned()
    }

    /// Adds topics, or replaces those of the same name. Durable on return. Blocks for two syncs.
    ///
    /// # Errors
    /// The file system's; nothing has changed then.
    pub fn put(&self, topics: Vec<Topic>) -> Result<(), CatalogError> {
        self.update(|all| topics.into_iter().for_each(|topic| all.insert(topic)))
    }

    /// Removes topics. Durable on return. Blocks for two syncs.
    ///
    /// # Errors
    /// The file system's; nothing has changed then.
    pub fn remove(&self, names: &[&str]) -> Result<(), CatalogError> {
        self.update(|all| names.iter().for_each(|name| all.remove(name)))
    }

    fn update(&self, change: impl FnOnce(&mut Topics)) -> Result<(), CatalogError> {
        let _in_turn = self.change.lock();
        let mut topics = Topics::clone(&self.topics.load());
        change(&mut topics);
        self.storage.write_atomic(CATALOG_FILE, &encode(&topics))?;
        self.topics.store(Arc::new(topics));
        self.changed.send_replace(());
        Ok(())
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalog({} topics)", self.topics.load().len())
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    topics: BTreeMap<String, Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    id: String,
    partitions: i32,
    #[serde(default)]
    config: BTreeMap<String, String>,
}

fn encode(topics: &Topics) -> Vec<u8> {
    let row = |topic: &Topic| Row {
        id: uuid::Uuid::from_bytes(topic.id.to_bytes()).to_string(),
        partitions: topic.partitions,
        config: topic.config.clone(),
    };
    let topics = topics.iter().map(|topic| (topic.name.to_string(), row(topic))).collect();
    serde_json::to_vec_pretty(&File { format: FORMAT, topics }).expect("strings and numbers always encode")
}

fn decode(bytes: &[u8]) -> Result<Topics, CatalogError> {
    let malformed = |what: String| CatalogError::Malformed(what);
    let file: File = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if file.format != FORMAT {
        return Err(malformed(format!("format {} is not {FORMAT}, the one known here", file.format)));
    }
    let mut topics = Topics::default();
    for (name, row) in file.topics {
        name::check(&name).map_err(|error| malformed(format!("topic {name:?}: {error}")))?;
        let id = uuid::Uuid::parse_str(&row.id)
            .ok()
            .filter(|id| !id.is_nil())
            .ok_or_else(|| malformed(format!("topic {name}: {:?} is no topic id", row.id)))?;
        if row.partitions < 1 {
            return Err(malformed(format!("topic {name}: {} partitions", row.partitions)));
        }
        let id = Uuid::from_bytes(id.into_bytes());
        if let Some(other) = topics.get_by_id(&id) {
            return Err(malformed(format!("topics {name} and {} have the same id", other.name)));
        }
        topics.insert(Topic { name: name.into(), id, partitions: row.partitions, config: row.config });
    }
    Ok(topics)
}

/// A random id: version 4 of RFC 9562, so neither zero nor one of Kafka's reserved small ones.
fn random_id() -> Uuid {
    Uuid::from_bytes(uuid::Uuid::new_v4().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use log_core::storage::{MmapStorage, WriteMode};

    fn storage(dir: &tempfile::TempDir) -> Arc<dyn Storage> {
        Arc::new(MmapStorage::open(dir.path(), WriteMode::Mapped).unwrap())
    }

    #[test]
    fn topics_outlive_a_restart_with_their_ids() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Catalog::open(storage(&dir)).unwrap().is_none());
        let catalog = Catalog::create(storage(&dir)).unwrap();
        let config = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
        catalog
            .put(vec![Topic::new("orders", 8, config), Topic::new("payments", 1, BTreeMap::new())])
            .unwrap();
        let orders = catalog.get("orders").unwrap();
        catalog.remove(&["payments"]).unwrap();

        let catalog = Catalog::open(storage(&dir)).unwrap().unwrap();
        assert_eq!(catalog.get("orders").as_ref(), Some(&orders));
        assert_eq!(catalog.get_by_id(&orders.id).as_ref(), Some(&orders));
        assert_eq!((catalog.topics().len(), catalog.topics().partitions()), (1, 8));
    }

    #[test]
    fn a_replaced_topic_is_not_found_by_its_old_id() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::create(storage(&dir)).unwrap();
        catalog.put(vec![Topic::new("t", 1, BTreeMap::new())]).unwrap();
        let old = catalog.get("t").unwrap();
        catalog.put(vec![Topic::new("t", 1, BTreeMap::new())]).unwrap();
        assert_ne!(catalog.get("t").unwrap().id, old.id);
        assert!(catalog.get_by_id(&old.id).is_none());
    }

    #[test]
    fn what_cannot_be_a_catalog_is_an_error() {
        let id = "9e4f0000-0000-4000-8000-000000000001";
        let topic = |name: &str, id: &str, partitions: i32| {
            format!(r#"{{"format":1,"topics":{{"{name}":{{"id":"{id}","partitions":{partitions}}}}}}}"#)
        };
        assert!(decode(topic("t", id, 1).as_bytes()).is_ok());
        let nil = "00000000-0000-0000-0000-000000000000";
        for bad in [
            String::new(),
            "{}".to_owned(),
            r#"{"format":2,"topics":{}}"#.to_owned(),
            topic("../t", id, 1),
            topic("t", nil, 1),
            topic("t", "x", 1),
            topic("t", id, 0),
        ] {
            assert!(matches!(decode(bad.as_bytes()), Err(CatalogError::Malformed(_))), "{bad}");
        }
    }
}
