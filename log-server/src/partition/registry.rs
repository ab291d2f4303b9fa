//! The partitions that are served, by topic and index.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use log_core::wire::{TopicRef, Uuid};
use parking_lot::Mutex;

use super::Partition;

/// All partitions of this broker. Looked up on every request, without a lock; changed when topics come and go.
#[derive(Default)]
pub struct Registry {
    tables: ArcSwap<Tables>,
    /// Held while tables are copied and replaced, so that changes do not overwrite one another.
    change: Mutex<()>,
}

#[derive(Clone, Default)]
struct Tables {
    by_name: HashMap<Arc<str>, Arc<[Arc<Partition>]>>,
    by_id: HashMap<Uuid, Arc<[Arc<Partition>]>>,
}

impl Registry {
    /// One partition.
    pub fn get(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        let tables = self.tables.load();
        tables.by_name.get(topic)?.get(usize::try_from(index).ok()?).cloned()
    }

    /// The partitions of a topic, by index.
    pub fn topic(&self, topic: &str) -> Option<Arc<[Arc<Partition>]>> {
        self.tables.load().by_name.get(topic).cloned()
    }

    /// The partitions of a topic, by index, however it is named.
    pub fn resolve(&self, topic: &TopicRef) -> Option<Arc<[Arc<Partition>]>> {
        let tables = self.tables.load();
        match topic {
            TopicRef::Name(name) => tables.by_name.get(name.as_str()).cloned(),
            TopicRef::Id(id) => tables.by_id.get(id).cloned(),
        }
    }

    /// Every partition there is, in no order.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.tables.load().by_name.values().flat_map(|partitions| partitions.iter().cloned()).collect()
    }

    /// Serves a topic with these partitions, by index from 0; replaces what was served under the name.
    pub fn put(&self, topic: &Arc<str>, id: Uuid, partitions: Vec<Arc<Partition>>) {
        self.put_all([(topic.clone(), id, partitions)]);
    }

    /// Serves topics, each as [`put`](Registry::put) does, from the same moment on.
    pub fn put_all(&self, topics: impl IntoIterator<Item = (Arc<str>, Uuid, Vec<Arc<Partition>>)>) {
        self.update(|tables| {
            for (topic, id, partitions) in topics {
                if let Some(first) = tables.by_name.get(&topic).and_then(|before| before.first()) {
                    tables.by_id.remove(&first.topic_id());
                }
                let partitions: Arc<[Arc<Partition>]> = partitions.into();
                tables.by_name.insert(topic, partitions.clone());
                tables.by_id.insert(id, partitions);
            }
        });
    }

    /// Stops serving a topic and returns what its partitions were.
    pub fn remove(&self, topic: &str) -> Option<Arc<[Arc<Partition>]>> {
        let mut removed = None;
        self.update(|tables| {
            removed = tables.by_name.remove(topic);
            if let Some(first) = removed.as_ref().and_then(|partitions| partitions.first()) {
                tables.by_id.remove(&first.topic_id());
            }
        });
        removed
    }

    fn update(&self, change: impl FnOnce(&mut Tables)) {
        let _in_turn = self.change.lock();
        let mut tables = Tables::clone(&self.tables.load());
        change(&mut tables);
        self.tables.store(Arc::new(tables));
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} topics)", self.tables.load().by_name.len())
    }
}
