//! A data directory as `verify`, `dump` and `repair` see it: opened for reading, with no lock and no recovery.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use log_core::log::{DIRECTORY_FORMAT, DirectoryIdentity, PartitionIdentity};
use log_core::storage::{MmapStorage, Storage, WriteMode};
use log_server::topic::Catalog;

/// Where partitions lie within a data directory.
const TOPICS_DIR: &str = "topics";
/// The end of a file's name until it has all of its content.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Which data directory.
#[derive(Args)]
pub struct DataDir {
    /// The data directory. `dump` and `verify` change nothing in it, and read that of a running broker too, though
    /// its end may look torn while it is being written
    #[arg(long, short, env = "HIGHWATER_DATA_DIR", default_value = "highwater-data", value_name = "DIR")]
    data_dir: PathBuf,
}

/// An opened data directory.
pub struct Opened {
    pub storage: Arc<dyn Storage>,
    pub identity: DirectoryIdentity,
    /// Names of the partitions' directories, ordered by topic and number.
    pub partitions: Vec<String>,
    /// Which topics there are; `None` if there is no catalog that can be read.
    catalog: Option<Catalog>,
}

impl DataDir {
    /// Opens it, if it is one that this version reads.
    pub fn open(&self) -> Result<Opened, String> {
        let shown = self.data_dir.display();
        let meta = self.data_dir.join("meta.json");
        let identity = std::fs::read(&meta).map_err(|error| {
            format!("{shown} is no data directory: cannot read {}: {error}\n  Say where it is with --data-dir DIR.", meta.display())
        })?;
        let identity: DirectoryIdentity = serde_json::from_slice(&identity)
            .map_err(|error| format!("{} is damaged: {error}", meta.display()))?;
        if identity.format != DIRECTORY_FORMAT {
            return Err(format!(
                "{shown} has layout {}, this version reads {DIRECTORY_FORMAT}: use the version that wrote it",
                identity.format
            ));
        }
        let failed = |error: std::io::Error| format!("cannot read {shown}: {error}");
        let storage: Arc<dyn Storage> =
            Arc::new(MmapStorage::open(&self.data_dir, WriteMode::Pwrite).map_err(failed)?);
        let mut partitions = match storage.exists(TOPICS_DIR).map_err(failed)? {
            true => storage.list_dir(TOPICS_DIR).map_err(failed)?,
            false => Vec::new(),
        };
        partitions.retain(|name| number(name).is_some());
        partitions
            .sort_by_key(|name| (name.rsplit_once('-').map(|(topic, _)| topic.to_owned()), number(name)));
        let catalog = Catalog::open(Arc::clone(&storage)).ok().flatten();
        Ok(Opened { storage, identity, partitions, catalog })
    }
}

impl Opened {
    /// The directory of a partition, relative to the data directory.
    pub fn path(&self, partition: &str) -> String {
        format!("{TOPICS_DIR}/{partition}")
    }

    /// Whether a partition's directory holds nothing yet: what it is gets written first, so a crash has
    /// interrupted its creation, which nobody was told of.
    pub fn is_unfinished(&self, partition: &str) -> std::io::Result<bool> {
        let names = self.storage.list_dir(&self.path(partition))?;
        Ok(names.iter().all(|name| name.ends_with(TEMPORARY_SUFFIX)))
    }

    /// Whether the catalog knows a partition: what it does not is no partition, whatever its directory holds.
    pub fn is_in_catalog(&self, partition: &str) -> bool {
        let Some(catalog) = &self.catalog else { return true };
        let topic = partition.rsplit_once('-').and_then(|(topic, _)| catalog.get(topic));
        topic
            .zip(number(partition))
            .is_some_and(|(topic, number)| i64::from(number) < i64::from(topic.partitions))
    }

    /// What a partition's directory says it is.
    pub fn partition_identity(&self, partition: &str) -> Result<PartitionIdentity, String> {
        let bytes = self.storage.read(&format!("{}/partition.json", self.path(partition)));
        let bytes = bytes.map_err(|error| format!("cannot be read: {error}"))?;
        let identity: PartitionIdentity =
            serde_json::from_slice(&bytes).map_err(|error| format!("is damaged: {error}"))?;
        match identity.directory_name() == partition {
            true => Ok(identity),
            false => Err(format!("says {}", identity.directory_name())),
        }
    }
}

/// The partition's number at the end of a directory's name; `None` for what is no partition.
fn number(name: &str) -> Option<u32> {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok())
}
