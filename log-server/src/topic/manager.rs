//! Creates, deletes, grows and configures topics: the catalog, the directories and the registry in step.
//!
//! Order of a creation: directories with their logs, catalog, registry. Of a deletion: catalog, registry,
//! directories. A crash in between leaves directories that the catalog does not know; [`TopicManager::open`] removes
//! them at the next start. Changes follow one another, and each runs off the runtime's threads because it syncs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use log_core::log::{
    Discovery, LogConfig, LogDir, LogDirError, PartitionIdentity, PartitionLog, RecoveryReport, Wanted,
};
use parking_lot::Mutex;

use super::catalog::{Catalog, CatalogError, Topic, Topics};
use super::config::{self, InvalidTopicConfig};
use super::name::{self, InvalidName};
use crate::dynamic::DynamicConfig;
use crate::limits::PartitionsMax;
use crate::partition::{Flusher, Partition, Registry};

/// Threads that open, create, close and delete partitions. They wait for the disk for the most part, and what they ask
/// of it at the same time it does together.
pub const DISK_THREADS: usize = 16;

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions; `None` takes the broker's default.
    pub partitions: Option<i32>,
    /// Configuration entries by Kafka's names.
    pub config: BTreeMap<String, String>,
}

impl NewTopic {
    /// With the default number of partitions and no configuration of its own.
    pub fn named(name: impl Into<String>) -> Self {
        NewTopic { name: name.into(), partitions: None, config: BTreeMap::new() }
    }
}

/// Why a topic is not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The name breaks the rule.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// There is one.
    #[error("topic {0} exists already")]
    Exists(String),
    /// There is one whose name differs only in '.' and '_'.
    #[error("the name collides with topic {0}: '.' and '_' cannot be told apart in metrics")]
    Collision(String),
    /// No such number of partitions.
    #[error("{0} partitions: a topic has at least 1")]
    Partitions(i32),
    /// More partitions than the broker is set to have.
    #[error("all topics together may have {} partitions ({}); {wanted} would be needed", max.count, max.because)]
    TooManyPartitions {
        /// With the new topic.
        wanted: usize,
        /// What there may be.
        max: PartitionsMax,
    },
    /// A configuration entry is not accepted.
    #[error(transparent)]
    Config(#[from] InvalidTopicConfig),
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] TopicStorageError),
}

/// Why an existing topic is not changed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// There is none of that name.
    #[error("there is no topic {0}")]
    Unknown(String),
    /// The broker's own topics are not for clients to change.
    #[error("topic {0} is the broker's own")]
    Internal(String),
    /// A configuration entry is not accepted.
    #[error(transparent)]
    Config(#[from] InvalidTopicConfig),
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] TopicStorageError),
}

/// Why a topic does not get more partitions.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// There is no such topic, or it cannot be changed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Partitions are only ever added.
    #[error("topic {topic} has {have} partitions, {wanted} are not more")]
    NotMore {
        /// The topic.
        topic: String,
        /// As it is.
        have: i32,
        /// As it was asked for.
        wanted: i32,
    },
    /// More partitions than the broker is set to have.
    #[error("all topics together may have {} partitions ({}); {wanted} would be needed", max.count, max.because)]
    TooManyPartitions {
        /// With the new ones.
        wanted: usize,
        /// What there may be.
        max: PartitionsMax,
    },
}

/// What the disk refused while topics changed. Nothing has changed then, as far as clients can see.
#[derive(Debug, thiserror::Error)]
pub enum TopicStorageError {
    /// The catalog cannot be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A partition's directory or log cannot be made.
    #[error(transparent)]
    Log(#[from] LogDirError),
}

/// Keeps catalog, directories and registry in step.
pub struct TopicManager {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<DynamicConfig>,
    log_dir: Arc<LogDir>,
    catalog: Arc<Catalog>,
    partitions: Arc<Registry>,
    flusher: Arc<Flusher>,
    partitions_max: PartitionsMax,
    /// Held for a whole change, syncs included, so that changes follow one another. Only threads that may block wait
    /// for it.
    change: Mutex<()>,
}

impl TopicManager {
    /// Opens the logs of all topics in the catalog and removes directories that it does not know. Blocks.
    ///
    /// # Errors
    /// A log cannot be opened; nothing was deleted then.
    pub fn open(
        config: Arc<DynamicConfig>,
        log_dir: Arc<LogDir>,
        catalog: Arc<Catalog>,
        partitions: Arc<Registry>,
        flusher: Arc<Flusher>,
        partitions_max: PartitionsMax,
    ) -> Result<TopicManager, LogDirError> {
        let change = Mutex::new(());
        let shared = Shared { config, log_dir, catalog, partitions, flusher, partitions_max, change };
        let topics = shared.catalog.topics();
        let found = shared.log_dir.partitions()?;
        shared.open_topics(&topics, &found)?;
        shared.remove_unknown(&topics, found)?;
        Ok(TopicManager { shared: Arc::new(shared) })
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.shared.catalog
    }

    /// Creates topics, each by itself: one that is refused does not keep the others from being made. Durable on
    /// return.
    pub async fn create(&self, topics: Vec<NewTopic>) -> Vec<Result<Arc<Topic>, CreateError>> {
        self.blocking(move |shared| shared.create(topics)).await
    }

    /// Says whether a topic would be created, without creating it.
    ///
    /// # Errors
    /// As creating it would.
    pub fn check_create(&self, topic: &NewTopic) -> Result<(), CreateError> {
        self.shared.check_create(topic, &self.shared.catalog.topics(), 0).map(|_| ())
    }

    /// Deletes a topic with all its records. Durable on return.
    ///
    /// # Errors
    /// See [`TopicError`].
    pub async fn delete(&self, name: &str) -> Result<(), TopicError> {
        let name = name.to_owned();
        self.blocking(move |shared| shared.delete(&name)).await
    }

    /// Gives a topic more partitions, `partitions` in all. Durable on return.
    ///
    /// # Errors
    /// See [`GrowError`].
    pub async fn grow(&self, name: &str, partitions: i32) -> Result<(), GrowError> {
        let name = name.to_owned();
        self.blocking(move |shared| shared.grow(&name, partitions)).await
    }

    /// Says whether a topic would get more partitions, without giving it any.
    ///
    /// # Errors
    /// As giving them would.
    pub fn check_grow(&self, name: &str, partitions: i32) -> Result<(), GrowError> {
        self.shared.check_grow(name, partitions).map(|_| ())
    }

    /// Changes a topic's configuration: `change` makes the new entries from the ones of that moment, and no other
    /// change comes in between. They act at once, and are durable on return.
    ///
    /// # Errors
    /// See [`TopicError`]; what `change` refuses among it.
    pub async fn reconfigure(
        &self,
        name: &str,
        change: impl FnOnce(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidTopicConfig>
        + Send
        + 'static,
    ) -> Result<(), TopicError> {
        let name = name.to_owned();
        self.blocking(move |shared| shared.reconfigure(&name, change)).await
    }

    /// Has all logs run with the broker's settings of this moment, after those were changed.
    pub async fn refresh(&self) {
        self.blocking(Shared::refresh).await;
    }

    async fn blocking<T: Send + 'static>(&self, change: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _in_turn = shared.change.lock();
            change(&shared)
        });
        match done.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Shared {
    fn open_topics(&self, topics: &Topics, found: &Discovery) -> Result<(), LogDirError> {
        let there: HashSet<&PartitionIdentity> = found.partitions.iter().collect();
        let mut wanted: Vec<Wanted> = Vec::with_capacity(found.partitions.len());
        let mut missing: Vec<Wanted> = Vec::new();
        for topic in topics.iter() {
            let settings = self.settings(topic);
            for index in 0..topic.partitions {
                let identity = topic.partition_identity(index);
                let known = there.contains(&identity);
                if !known {
                    tracing::error!(topic = %topic.name, index, "the partition's directory is missing, with all its records");
                }
                (if known { &mut wanted } else { &mut missing }).push((identity, settings.clone()));
            }
        }
        let opened = self.log_dir.open_partitions(&wanted, DISK_THREADS)?;
        let mut logs: BTreeMap<(String, i32), PartitionLog> = BTreeMap::new();
        for ((identity, _), opened) in wanted.into_iter().zip(opened) {
            let (log, report) = opened?;
            note_recovery(&identity, report);
            logs.insert((identity.topic, identity.partition), log);
        }
        let created = self.log_dir.create_partitions(&missing, DISK_THREADS)?;
        for ((identity, _), log) in missing.into_iter().zip(created) {
            logs.insert((identity.topic, identity.partition), log);
        }
        let served = topics.iter().map(|topic| {
            let mut log =
                |index| logs.remove(&(topic.name.to_string(), index)).expect("opened or created above");
            let partitions = (0..topic.partitions).map(|index| self.partition(topic, index, log(index)));
            (topic.name.clone(), topic.id, partitions.collect())
        });
        self.partitions.put_all(served);
        Ok(())
    }

    fn settings(&self, topic: &Topic) -> LogConfig {
        config::stored_log_config(&self.config.current(), &topic.config, |error| {
            // It was accepted once. Better to serve the topic without it than not to start.
            tracing::error!(topic = %topic.name, %error, "ignoring a part of the topic's configuration");
        })
    }

    fn partition(&self, topic: &Topic, index: i32, log: PartitionLog) -> Arc<Partition> {
        Arc::new(Partition::new(topic.name.clone(), topic.id, index, log, self.flusher.clone()))
    }

    /// Removes the partitions that the catalog does not have: left by a crash. What is no partition is left alone.
    fn remove_unknown(&self, topics: &Topics, found: Discovery) -> Result<(), LogDirError> {
        for (directory, reason) in found.strays {
            tracing::warn!(directory, reason, "not a partition, left alone");
        }
        let unknown = |partition: &PartitionIdentity| {
            !topics.get(&partition.topic).is_some_and(|topic| {
                (0..topic.partitions).contains(&partition.partition)
                    && partition.topic_id.as_bytes() == topic.id.as_bytes()
            })
        };
        let unknown: Vec<PartitionIdentity> = found.partitions.into_iter().filter(unknown).collect();
        for partition in &unknown {
            let (topic, partition) = (&partition.topic, partition.partition);
            tracing::info!(topic, partition, "removing a partition that is not in the catalog");
        }
        self.log_dir.delete_partitions(&unknown, DISK_THREADS)
    }

    fn create(&self, topics: Vec<NewTopic>) -> Vec<Result<Arc<Topic>, CreateError>> {
        let existing = self.catalog.topics();
        let mut names: Vec<String> = Vec::new();
        let mut planned = 0;
        let mut checked: Vec<Result<Topic, CreateError>> = Vec::new();
        for new in topics {
            let result = self.check_create(&new, &existing, planned).and_then(|partitions| {
                if let Some(other) =
                    names.iter().find(|other| **other == new.name || name::collide(other, &new.name)).cloned()
                {
                    return Err(CreateError::Collision(other));
                }
                planned += partitions as usize;
                let topic = Topic::new(&new.name, partitions, new.config);
                names.push(new.name);
                Ok(topic)
            });
            checked.push(result);
        }
        let made = self.make(checked);
        let new: Vec<Topic> = made.iter().flatten().map(|(topic, _)| topic.clone()).collect();
        if new.is_empty() {
            return made.into_iter().map(|result| result.map(|(topic, _)| Arc::new(topic))).collect();
        }
        if let Err(error) = self.catalog.put(new) {
            let reason = error.to_string();
            return made
                .into_iter()
                .map(|result| {
                    let (topic, logs) = result?;
                    self.abandon(&topic, &logs, 0);
                    let error = CatalogError::Io(std::io::Error::other(reason.clone()));
                    Err(CreateError::Storage(error.into()))
                })
                .collect();
        }
        made.into_iter()
            .map(|result| {
                let (topic, logs) = result?;
                self.partitions.put(&topic.name, topic.id, logs);
                tracing::info!(topic = %topic.name, partitions = topic.partitions, "created a topic");
                Ok(Arc::new(topic))
            })
            .collect()
    }

    /// Makes the logs of topics, all together if the disk lets them be, so that their syncs are shared. If it does
    /// not, each by itself, so that those for which it does are made.
    fn make(&self, topics: Vec<Result<Topic, CreateError>>) -> Vec<Result<Made, CreateError>> {
        let wanted: Vec<Wanted> = topics.iter().flatten().flat_map(|topic| self.wanted(topic, 0)).collect();
        let mut logs = self.create_partitions(&wanted).ok().map(Vec::into_iter);
        let made = topics.into_iter().map(|topic| {
            let topic = topic?;
            let logs = match &mut logs {
                Some(logs) => {
                    let own = (0..topic.partitions).zip(logs.by_ref());
                    own.map(|(index, log)| self.partition(&topic, index, log)).collect()
                }
                None => self.create_logs(&topic, 0).map_err(TopicStorageError::from)?,
            };
            Ok((topic, logs))
        });
        made.collect()
    }

    fn check_create(&self, new: &NewTopic, existing: &Topics, planned: usize) -> Result<i32, CreateError> {
        name::check(&new.name)?;
        if existing.get(&new.name).is_some() {
            return Err(CreateError::Exists(new.name.clone()));
        }
        if let Some(other) = existing.iter().find(|topic| name::collide(&topic.name, &new.name)) {
            return Err(CreateError::Collision(other.name.to_string()));
        }
        let partitions = new.partitions.unwrap_or(self.config.current().partitions_default);
        if partitions < 1 {
            return Err(CreateError::Partitions(partitions));
        }
        let (wanted, max) = (existing.partitions() + planned + partitions as usize, self.partitions_max);
        if wanted > max.count {
            return Err(CreateError::TooManyPartitions { wanted, max });
        }
        config::log_config(&self.config.current(), &new.config)?;
        Ok(partitions)
    }

    /// Makes the logs of the partitions from `first` on. On failure none of them is left.
    fn create_logs(&self, topic: &Topic, first: i32) -> Result<Vec<Arc<Partition>>, LogDirError> {
        let logs = self.create_partitions(&self.wanted(topic, first))?;
        Ok((first..).zip(logs).map(|(index, log)| self.partition(topic, index, log)).collect())
    }

    fn wanted(&self, topic: &Topic, first: i32) -> Vec<Wanted> {
        let settings = self.settings(topic);
        let identities = (first..topic.partitions).map(|index| topic.partition_identity(index));
        identities.map(|identity| (identity, settings.clone())).collect()
    }

    /// All of them, or none is left.
    fn create_partitions(&self, wanted: &[Wanted]) -> Result<Vec<PartitionLog>, LogDirError> {
        self.log_dir.create_partitions(wanted, DISK_THREADS).inspect_err(|_| {
            self.remove(wanted.iter().map(|(identity, _)| identity.clone()).collect());
        })
    }

    fn abandon(&self, topic: &Topic, logs: &[Arc<Partition>], first: i32) {
        logs.iter().for_each(|partition| partition.close());
        self.remove((first..).zip(logs).map(|(index, _)| topic.partition_identity(index)).collect());
    }

    /// Removes directories that the catalog does not have.
    fn remove(&self, partitions: Vec<PartitionIdentity>) {
        // What stays is removed at the next start.
        if let Err(error) = self.log_dir.delete_partitions(&partitions, DISK_THREADS) {
            tracing::warn!(%error, "cannot remove a partition's directory");
        }
    }

    fn existing(&self, name: &str) -> Result<Arc<Topic>, TopicError> {
        let topic = self.catalog.get(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        if topic.is_internal() {
            return Err(TopicError::Internal(name.to_owned()));
        }
        Ok(topic)
    }

    fn delete(&self, name: &str) -> Result<(), TopicError> {
        let topic = self.existing(name)?;
        self.catalog.remove(&[name]).map_err(TopicStorageError::from)?;
        if let Some(partitions) = self.partitions.remove(name) {
            self.abandon(&topic, &partitions, 0);
        }
        tracing::info!(topic = name, "deleted a topic");
        Ok(())
    }

    fn check_grow(&self, name: &str, partitions: i32) -> Result<Arc<Topic>, GrowError> {
        let topic = self.existing(name)?;
        if partitions <= topic.partitions {
            return Err(GrowError::NotMore {
                topic: name.to_owned(),
                have: topic.partitions,
                wanted: partitions,
            });
        }
        let wanted = self.catalog.topics().partitions() + (partitions - topic.partitions) as usize;
        let max = self.partitions_max;
        if wanted > max.count {
            return Err(GrowError::TooManyPartitions { wanted, max });
        }
        Ok(topic)
    }

    fn grow(&self, name: &str, partitions: i32) -> Result<(), GrowError> {
        let before = self.check_grow(name, partitions)?;
        let grown = Topic { partitions, ..Topic::clone(&before) };
        let storage = |error: TopicStorageError| GrowError::Topic(error.into());
        let added = self.create_logs(&grown, before.partitions).map_err(|error| storage(error.into()))?;
        if let Err(error) = self.catalog.put(vec![grown.clone()]) {
            self.abandon(&grown, &added, before.partitions);
            return Err(storage(error.into()));
        }
        let kept = self.partitions.topic(name);
        let all = kept.iter().flat_map(|kept| kept.iter().cloned()).chain(added).collect();
        self.partitions.put(&grown.name, grown.id, all);
        Ok(())
    }

    fn refresh(&self) {
        for topic in self.catalog.topics().iter() {
            self.set_config(&topic.name, &self.settings(topic));
        }
    }

    fn set_config(&self, topic: &str, settings: &LogConfig) {
        for partition in self.partitions.topic(topic).iter().flat_map(|partitions| partitions.iter()) {
            partition.set_config(settings.clone());
        }
    }

    fn reconfigure(
        &self,
        name: &str,
        change: impl FnOnce(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidTopicConfig>,
    ) -> Result<(), TopicError> {
        let before = self.existing(name)?;
        let entries = change(&before.config)?;
        let settings = config::log_config(&self.config.current(), &entries)?;
        let changed = Topic { config: entries, ..Topic::clone(&before) };
        self.catalog.put(vec![changed]).map_err(TopicStorageError::from)?;
        self.set_config(name, &settings);
        Ok(())
    }
}

/// Says what a start has found of a partition, if that is worth a line.
fn note_recovery(identity: &PartitionIdentity, report: RecoveryReport) {
    let partition = identity.directory_name();
    if report.truncated_bytes > 0 {
        let (bytes, kept_in) = (report.truncated_bytes, report.quarantined);
        tracing::warn!(partition, bytes, ?kept_in, "cut a torn tail, none of it acknowledged as durable");
    } else if report.scanned_batches > 0 {
        let batches = report.scanned_batches;
        tracing::info!(partition, batches, "recovered what lay past the last checkpoint");
    }
}

/// A topic with its logs, before clients can see it.
type Made = (Topic, Vec<Arc<Partition>>);
