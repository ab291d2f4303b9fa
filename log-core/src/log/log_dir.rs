//! The data directory of one broker: whose it is, that nobody else is in it, and what it holds.
//!
//! ```text
//! LOCK              flock, with the holder's process id
//! meta.json         identity of the directory, see `identity`
//! clean-shutdown    only while no broker runs and the last one stopped properly
//! topics/
//!   orders-0/       one directory a partition: partition.json and its log
//!   4f…-0.deleted/  a deleted partition that is being removed
//! ```
//! Files of others (the broker's catalog, for one) may lie beside these.

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use crate::storage::{LockError, Storage, StorageLock, TEMPORARY_SUFFIX};

use super::append::is_exhaustion;
use super::clean_shutdown::CleanShutdown;
use super::config::LogConfig;
use super::error::OpenError;
use super::for_all::for_all;
use super::health::DirHealth;
use super::identity::{DIRECTORY_FORMAT, DirectoryIdentity, PartitionIdentity};
use super::partition_log::PartitionLog;
use super::recovery::{RecoveryReport, Settled};
use super::segment::DELETED_SUFFIX;

const LOCK_FILE: &str = "LOCK";
const META_FILE: &str = "meta.json";
const CLEAN_SHUTDOWN_FILE: &str = "clean-shutdown";
/// The directory that the partitions' directories lie in.
pub(super) const TOPICS_DIR: &str = "topics";
const PARTITION_FILE: &str = "partition.json";
/// Threads that read the partitions' small files, of which there may be thousands that are not in memory.
const READ_THREADS: usize = 8;

/// What is asked of a directory that is opened.
#[derive(Clone, Debug)]
pub struct LogDirOptions {
    /// The broker's id. A directory of another broker is refused.
    pub node_id: i32,
    /// The cluster's id. `None` takes what the directory says, or a new one if that is new.
    pub cluster_id: Option<String>,
}

/// An open data directory. Other processes are kept out until it is dropped.
#[derive(Debug)]
pub struct LogDir {
    storage: Arc<dyn Storage>,
    health: Arc<DirHealth>,
    identity: DirectoryIdentity,
    clean: Option<CleanShutdown>,
    _lock: StorageLock,
}

/// Why a data directory, or something in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogDirError {
    /// Another broker runs in it.
    #[error("the data directory is in use by {owner}: stop that broker, or choose another directory")]
    Locked {
        /// Who has the lock.
        owner: String,
    },
    /// It belongs to another broker.
    #[error(
        "the data directory belongs to node {found} and this is node {expected}: correct node.id, or choose another directory"
    )]
    WrongNode {
        /// The node id in `meta.json`.
        found: i32,
        /// The node id that was asked for.
        expected: i32,
    },
    /// It belongs to another cluster.
    #[error(
        "the data directory belongs to cluster {found} and this is cluster {expected}: correct cluster.id, or choose another directory"
    )]
    WrongCluster {
        /// The cluster id in `meta.json`.
        found: String,
        /// The cluster id that was asked for.
        expected: String,
    },
    /// It was written by a version that this one does not understand.
    #[error(
        "the data directory has format {found} and this version reads format {DIRECTORY_FORMAT}: use the version that wrote it"
    )]
    WrongFormat {
        /// The format in `meta.json`.
        found: u32,
    },
    /// A file that says what the directory is cannot be understood.
    #[error("{path} is damaged or missing ({reason}): restore it from a backup, or move the directory away")]
    Damaged {
        /// The file, relative to the data directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No directory can have this name.
    #[error("topic {topic:?}, partition {partition}: the name is not valid")]
    InvalidName {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: i32,
    },
    /// There is a partition of this name, of another topic.
    #[error("{directory} holds a partition of another topic (id {found})")]
    PartitionExists {
        /// The partition's directory.
        directory: String,
        /// The topic that it belongs to.
        found: Uuid,
    },
    /// A partition's log could not be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// A file could not be read, written or synced.
    #[error("{path}: {source}")]
    Storage {
        /// The file or directory, relative to the data directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl LogDirError {
    fn at(path: &str) -> impl FnOnce(io::Error) -> LogDirError {
        move |source| LogDirError::Storage { path: path.to_owned(), source }
    }
}

/// What [`LogDir::partitions`] found.
#[derive(Debug, Default)]
pub struct Discovery {
    /// The partitions, by directory name.
    pub partitions: Vec<PartitionIdentity>,
    /// Directories that are no partition's, with the reason. They are left alone.
    pub strays: Vec<(String, String)>,
}

impl LogDir {
    /// Opens a data directory, making it one if it is new, and removes what a crash left half done.
    ///
    /// # Errors
    /// If another process is in it, if it belongs to another broker, or of the disk.
    pub fn open(storage: Arc<dyn Storage>, options: &LogDirOptions) -> Result<LogDir, LogDirError> {
        let owner = format!("process {}", std::process::id());
        let lock = storage.lock(LOCK_FILE, &owner).map_err(|error| match error {
            LockError::Held { owner } => LogDirError::Locked { owner },
            LockError::Io(source) => LogDirError::Storage { path: LOCK_FILE.into(), source },
        })?;
        let identity = open_identity(&*storage, options)?;
        // The process that made them may not have lived to sync the names of the lock, the identity and
        // the topics, and what is written from now on hangs on them.
        storage
            .create_dir_all(TOPICS_DIR)
            .and_then(|()| storage.sync_dir(""))
            .map_err(LogDirError::at(TOPICS_DIR))?;
        let clean = take_clean_shutdown(&*storage)?;
        let dir = LogDir { storage, health: Arc::default(), identity, clean, _lock: lock };
        dir.remove_leftovers()?;
        Ok(dir)
    }

    /// The disk that the directory lies on.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Whether it can still be written to. Shared by all that write.
    pub fn health(&self) -> &Arc<DirHealth> {
        &self.health
    }

    /// Whose directory this is.
    pub fn identity(&self) -> &DirectoryIdentity {
        &self.identity
    }

    /// The cluster, as clients see it.
    pub fn cluster_id(&self) -> &str {
        &self.identity.cluster_id
    }

    /// Whether the broker that was here before has stopped properly.
    pub fn was_clean(&self) -> bool {
        self.clean.is_some()
    }

    /// Where that broker's log of a partition ended; `None` if it has not stopped properly.
    pub fn clean_log_end(&self, partition: &PartitionIdentity) -> Option<i64> {
        self.clean.as_ref()?.log_end(&partition.directory_name())
    }

    /// The partitions that lie here.
    ///
    /// # Errors
    /// Of the disk. What is no partition, or not the one its name says, is among the strays.
    pub fn partitions(&self) -> Result<Discovery, LogDirError> {
        let mut found = Discovery::default();
        let names = self.storage.list_dir(TOPICS_DIR).map_err(LogDirError::at(TOPICS_DIR))?;
        let read = for_all(&names, READ_THREADS, |name| self.read_partition(name));
        for (name, read) in names.into_iter().zip(read) {
            match read {
                Ok(partition) if partition.directory_name() == name => found.partitions.push(partition),
                Ok(partition) => {
                    found
                        .strays
                        .push((name, format!("{PARTITION_FILE} says {}", partition.directory_name())));
                }
                Err(LogDirError::Damaged { reason, .. }) => {
                    found.strays.push((name, format!("{PARTITION_FILE}: {reason}")));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Creates a partition with an empty log, durable on return. One that is there already is opened:
    /// a creation that a crash interrupted is finished by repeating it.
    ///
    /// # Errors
    /// If the name is not valid, if another topic's partition has it, or of the disk.
    pub fn create_partition(
        &self,
        partition: &PartitionIdentity,
        config: LogConfig,
    ) -> Result<PartitionLog, LogDirError> {
        let path = self.create_partition_dir(partition)?;
        self.open_log(&path, config, Settled::No).map(|(log, _)| log)
    }

    /// Opens a partition that [`partitions`](LogDir::partitions) has found, recovering what the last
    /// process left undone.
    ///
    /// # Errors
    /// Of the disk, see [`PartitionLog::open`].
    pub fn open_partition(
        &self,
        partition: &PartitionIdentity,
        config: LogConfig,
    ) -> Result<(PartitionLog, RecoveryReport), LogDirError> {
        self.open_settled(partition, config, Settled::No)
    }

    pub(super) fn open_settled(
        &self,
        partition: &PartitionIdentity,
        config: LogConfig,
        settled: Settled,
    ) -> Result<(PartitionLog, RecoveryReport), LogDirError> {
        let path = self.partition_path(partition);
        let (log, report) = self.open_log(&path, config, settled)?;
        let log_end = log.watermarks().log_end();
        if let Some(noted) = self.clean_log_end(partition).filter(|&noted| noted != log_end) {
            tracing::error!(
                path,
                log_end,
                noted,
                "the log does not end where it ended at the clean shutdown"
            );
        }
        Ok((log, report))
    }

    /// Removes a partition with all its data, for good once this returns. Whoever reads from it keeps
    /// what is mapped. Does nothing if it is not there.
    ///
    /// # Errors
    /// Of the disk. The partition is gone or, if the renaming failed, whole.
    pub fn delete_partition(&self, partition: &PartitionIdentity) -> Result<(), LogDirError> {
        self.delete_partitions(std::slice::from_ref(partition), 1)
    }

    /// Removes partitions as [`delete_partition`](LogDir::delete_partition) does each, on up to `threads`
    /// threads.
    ///
    /// # Errors
    /// Of the disk. Each partition is gone or, if its renaming failed, whole.
    pub fn delete_partitions(
        &self,
        partitions: &[PartitionIdentity],
        threads: usize,
    ) -> Result<(), LogDirError> {
        let mut renamed = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let path = self.partition_path(partition);
            // By the topic's id: two topics of one name may be deleted in a row, and a name of 249
            // characters leaves no room for an ending.
            let (id, index) = (partition.topic_id.simple(), partition.partition);
            let deleted = format!("{TOPICS_DIR}/{id}-{index}{DELETED_SUFFIX}");
            match self.storage.rename(&path, &deleted) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                done => self.written(&path, done)?,
            }
            renamed.push(deleted);
        }
        if renamed.is_empty() {
            return Ok(());
        }
        // Durable before anything in them goes: after a crash a partition is whole or has the name that
        // says it is not.
        self.written(TOPICS_DIR, self.storage.sync_dir(TOPICS_DIR))?;
        let removed =
            for_all(&renamed, threads, |path| self.written(path, self.storage.remove_dir_all(path)));
        removed.into_iter().collect()
    }

    /// Leaves the note that everything is on disk. Every partition has been flushed and closed.
    ///
    /// # Errors
    /// Of the disk, and `Other` if the directory is offline: then not everything is on disk.
    pub fn close_clean(&self, clean: &CleanShutdown) -> Result<(), LogDirError> {
        if let Some(reason) = self.health.reason() {
            let source = io::Error::other(format!("the log directory is offline: {reason}"));
            return Err(LogDirError::Storage { path: CLEAN_SHUTDOWN_FILE.into(), source });
        }
        let written = self.storage.write_atomic(CLEAN_SHUTDOWN_FILE, clean.encode().as_bytes());
        self.written(CLEAN_SHUTDOWN_FILE, written)
    }

    pub(super) fn open_log(
        &self,
        path: &str,
        config: LogConfig,
        settled: Settled,
    ) -> Result<(PartitionLog, RecoveryReport), LogDirError> {
        let (storage, health) = (Arc::clone(&self.storage), Arc::clone(&self.health));
        Ok(PartitionLog::open_settled(storage, path, health, config, settled)?)
    }

    /// The path of a partition's directory.
    pub(super) fn partition_path(&self, partition: &PartitionIdentity) -> String {
        format!("{TOPICS_DIR}/{}", partition.directory_name())
    }

    /// Makes the directory of a partition, durable on return, with nothing in it but its identity.
    fn create_partition_dir(&self, partition: &PartitionIdentity) -> Result<String, LogDirError> {
        // What is found of it was made by a process that may not have lived to sync it.
        let path =
            self.partition_dir_with(partition, |_, file, bytes| self.storage.write_atomic(file, bytes))?;
        self.written(&path, self.storage.sync_dir(TOPICS_DIR))?;
        Ok(path)
    }

    /// The same, with nothing durable before everything is synced. A crash until then leaves a directory
    /// that creating the partition once more makes whole, or that no catalog knows.
    pub(super) fn make_partition_dir(&self, partition: &PartitionIdentity) -> Result<String, LogDirError> {
        self.partition_dir_with(partition, |found, file, bytes| {
            if found {
                // If the sync of the process that made it has failed, it is in the page cache alone and passes
                // for written (R4). Another file does not.
                return self.storage.write_atomic(file, bytes);
            }
            if self.storage.exists(file)? {
                // One that is damaged may be longer.
                self.storage.remove_file(file)?;
            }
            self.storage.open_random(file, true)?.write_at(0, bytes)
        })
    }

    fn partition_dir_with(
        &self,
        partition: &PartitionIdentity,
        write: impl FnOnce(bool, &str, &[u8]) -> io::Result<()>,
    ) -> Result<String, LogDirError> {
        if !partition.is_valid() {
            let PartitionIdentity { topic, partition, .. } = partition.clone();
            return Err(LogDirError::InvalidName { topic, partition });
        }
        let path = self.partition_path(partition);
        let file = format!("{path}/{PARTITION_FILE}");
        let found = match self.read_partition(&partition.directory_name()) {
            Ok(found) if found == *partition => true,
            Ok(found) => {
                return Err(LogDirError::PartitionExists { directory: path, found: found.topic_id });
            }
            // None yet, or one whose creation a crash has interrupted.
            Err(LogDirError::Damaged { .. }) => false,
            Err(error) => return Err(error),
        };
        let made = self.storage.create_dir_all(&path);
        self.written(&path, made.and_then(|()| write(found, &file, &to_json(partition))))?;
        Ok(path)
    }

    /// Says where an error belongs. Room that is lacking is nothing worse; any other error may have
    /// been a sync's, and takes the directory offline.
    pub(super) fn written(&self, path: &str, done: io::Result<()>) -> Result<(), LogDirError> {
        done.map_err(|source| {
            if !is_exhaustion(&source) {
                self.health.poison(format!("{path}: {source}"));
            }
            LogDirError::Storage { path: path.to_owned(), source }
        })
    }

    fn read_partition(&self, directory: &str) -> Result<PartitionIdentity, LogDirError> {
        let path = format!("{TOPICS_DIR}/{directory}/{PARTITION_FILE}");
        let bytes = read_or_damaged(&*self.storage, &path)?;
        from_json(&path, &bytes)
    }

    fn remove_leftovers(&self) -> Result<(), LogDirError> {
        for name in self.storage.list_dir("").map_err(LogDirError::at(""))? {
            if name.ends_with(TEMPORARY_SUFFIX) {
                self.storage.remove_file(&name).map_err(LogDirError::at(&name))?;
            }
        }
        let mut deleted = self.storage.list_dir(TOPICS_DIR).map_err(LogDirError::at(TOPICS_DIR))?;
        deleted.retain(|name| name.ends_with(DELETED_SUFFIX));
        if !deleted.is_empty() {
            // The process that gave them this name may not have lived to sync it.
            self.storage.sync_dir(TOPICS_DIR).map_err(LogDirError::at(TOPICS_DIR))?;
        }
        for name in deleted {
            let path = format!("{TOPICS_DIR}/{name}");
            tracing::info!(path, "removing what is left of a deleted partition");
            self.storage.remove_dir_all(&path).map_err(LogDirError::at(&path))?;
        }
        Ok(())
    }
}

/// Reads `meta.json`, or writes it if the directory is new.
fn open_identity(storage: &dyn Storage, options: &LogDirOptions) -> Result<DirectoryIdentity, LogDirError> {
    if !storage.exists(META_FILE).map_err(LogDirError::at(META_FILE))? {
        // The identity is durable before the first partition is made, so a directory with partitions
        // had one.
        if storage
            .exists(TOPICS_DIR)
            .and_then(|there| Ok(there && !storage.list_dir(TOPICS_DIR)?.is_empty()))
            .map_err(LogDirError::at(TOPICS_DIR))?
        {
            let reason = "there are partitions, but nothing says whose".into();
            return Err(LogDirError::Damaged { path: META_FILE.into(), reason });
        }
        let identity = DirectoryIdentity::new(options.node_id, options.cluster_id.clone());
        storage.write_atomic(META_FILE, &to_json(&identity)).map_err(LogDirError::at(META_FILE))?;
    }
    let bytes = read_or_damaged(storage, META_FILE)?;
    // The format first: the rest may look otherwise in another one.
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = from_json(META_FILE, &bytes)?;
    if format != DIRECTORY_FORMAT {
        return Err(LogDirError::WrongFormat { found: format });
    }
    let identity: DirectoryIdentity = from_json(META_FILE, &bytes)?;
    if identity.node_id != options.node_id {
        return Err(LogDirError::WrongNode { found: identity.node_id, expected: options.node_id });
    }
    match &options.cluster_id {
        Some(expected) if *expected != identity.cluster_id => {
            Err(LogDirError::WrongCluster { found: identity.cluster_id, expected: expected.clone() })
        }
        _ => Ok(identity),
    }
}

/// Reads the note of the broker that was here before and takes it away, durably, before anything is
/// written: it would be a lie from then on.
fn take_clean_shutdown(storage: &dyn Storage) -> Result<Option<CleanShutdown>, LogDirError> {
    let taken = match storage.read(CLEAN_SHUTDOWN_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => storage
            .remove_file(CLEAN_SHUTDOWN_FILE)
            .and_then(|()| storage.sync_dir(""))
            .map(|()| CleanShutdown::decode(&bytes)),
    };
    taken.map_err(LogDirError::at(CLEAN_SHUTDOWN_FILE))
}

fn read_or_damaged(storage: &dyn Storage, path: &str) -> Result<Vec<u8>, LogDirError> {
    storage.read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidData => {
            LogDirError::Damaged { path: path.to_owned(), reason: source.to_string() }
        }
        _ => LogDirError::Storage { path: path.to_owned(), source },
    })
}

fn from_json<T: serde::de::DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, LogDirError> {
    serde_json::from_slice(bytes)
        .map_err(|error| LogDirError::Damaged { path: path.to_owned(), reason: error.to_string() })
}

fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("strings and numbers are JSON");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
#[path = "log_dir_tests.rs"]
mod tests;
