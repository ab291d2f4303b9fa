//! Which topics there are: their names, ids, partition counts and configurations.

mod catalog;
#[cfg(feature = "broker")]
pub mod config;
#[cfg(feature = "broker")]
mod config_table;
#[cfg(feature = "broker")]
mod manager;
pub mod name;
#[cfg(feature = "broker")]
mod priority;

pub use catalog::{CATALOG_FILE, Catalog, CatalogError, Topic, Topics};
#[cfg(feature = "broker")]
pub use manager::{
    CreateError, DISK_THREADS, GrowError, NewTopic, TopicError, TopicManager, TopicStorageError,
};
#[cfg(feature = "broker")]
pub use priority::{PRIORITY_CONFIG, Priority};
