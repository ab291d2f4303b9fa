//! Who a data directory belongs to, and what a partition's directory holds (R11).
//!
//! Two small JSON files, written once, atomically: `meta.json` at the root and `partition.json` in
//! every partition's directory. A directory that was restored to the wrong place, mounted twice or
//! renamed by hand is noticed before anything is written into it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The layout of the data directory that this version writes, and the only one that it reads.
pub const DIRECTORY_FORMAT: u32 = 1;

/// The content of `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryIdentity {
    /// The layout of everything in the directory.
    pub format: u32,
    /// The cluster, as clients see it in Metadata: 22 characters, the same for the cluster's life.
    pub cluster_id: String,
    /// The broker that writes here.
    pub node_id: i32,
    /// This directory among all of the cluster's.
    pub directory_id: Uuid,
}

impl DirectoryIdentity {
    /// The identity of a new directory; of a new cluster, too, unless one is named.
    pub(crate) fn new(node_id: i32, cluster_id: Option<String>) -> DirectoryIdentity {
        DirectoryIdentity {
            format: DIRECTORY_FORMAT,
            cluster_id: cluster_id.unwrap_or_else(|| kafka_id(Uuid::new_v4())),
            node_id,
            directory_id: Uuid::new_v4(),
        }
    }
}

/// The content of `partition.json`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionIdentity {
    /// The topic's id, which another topic of the same name does not have.
    pub topic_id: Uuid,
    /// The topic's name.
    pub topic: String,
    /// The partition's index in the topic.
    pub partition: i32,
}

impl PartitionIdentity {
    /// The name of its directory: topic and index, as Kafka names them.
    pub fn directory_name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }

    /// Whether the name can be a directory's: Kafka's rule for topic names (1 to 249 of
    /// `[a-zA-Z0-9._-]`), and an index that is not negative.
    pub fn is_valid(&self) -> bool {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        (1..=249).contains(&self.topic.len())
            && self.topic != "."
            && self.topic != ".."
            && self.topic.bytes().all(legal)
            && self.partition >= 0
    }
}

/// A UUID as Kafka writes them: 22 characters of the URL-safe base64 alphabet, without padding.
pub fn kafka_id(id: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 128 bits fill 21 characters and two bits of the last, whose other four are zero.
    let bits = id.as_u128();
    (0..22)
        .map(|index| {
            let six = if index < 21 { bits >> (122 - 6 * index) } else { bits << 4 };
            char::from(ALPHABET[(six & 0x3f) as usize])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_kafka_writes_them() {
        assert_eq!(kafka_id(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(kafka_id(Uuid::max()), "_____________________w");
        let id = Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        assert_eq!(kafka_id(id), "AAECAwQFBgcICQoLDA0ODw");
    }

    #[test]
    fn only_names_that_stay_in_their_directory_are_valid() {
        let identity = |topic: &str, partition| PartitionIdentity {
            topic_id: Uuid::nil(),
            topic: topic.into(),
            partition,
        };
        for topic in ["a", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert!(identity(topic, 0).is_valid(), "{topic}");
        }
        for topic in ["", ".", "..", "a/b", "../a", "a b", "ä", "a\0", &"x".repeat(250)] {
            assert!(!identity(topic, 0).is_valid(), "{topic}");
        }
        assert!(!identity("a", -1).is_valid());
        assert_eq!(identity("a-1", 12).directory_name(), "a-1-12");
    }
}
