//! Which topics there are: their names, ids, partition counts and configurations.

mod catalog;
pub mod config;
mod config_table;
mod manager;
pub mod name;
mod priority;

pub use catalog::{CATALOG_FILE, Catalog, CatalogError, Topic, Topics};
pub use manager::{
    CreateError, DISK_THREADS, GrowError, NewTopic, TopicError, TopicManager, TopicStorageError,
    partition_identity,
};
pub use priority::{PRIORITY_CONFIG, Priority};
