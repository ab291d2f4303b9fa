//! Features of the cluster (KIP-584): what ApiVersions (18) tells of them and UpdateFeatures (57) would change.
//!
//! A feature is listed when its protocol is served, at the one level that is served: the level follows from the
//! broker's version, and there is no other node that would have to agree.

/// A feature with its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Kafka's name.
    pub name: &'static str,
    /// The lowest level that is supported. 0 stands for "switched off".
    pub min: i16,
    /// The highest level that is supported, which is the one in force.
    pub level: i16,
}

/// Counts the changes of features in Kafka. Here there are none.
pub const EPOCH: i64 = 0;

/// The group protocol of KIP-848, and the second protocol of transactions of KIP-890: Produce 12 and TxnOffsetCommit 5
/// add partitions to a transaction by themselves, EndTxn 5 bumps the epoch. Clients go on with the first protocol by using
/// older versions.
const FEATURES: &[Feature] = &[
    Feature { name: "group.version", min: 0, level: 1 },
    Feature { name: "transaction.version", min: 0, level: 2 },
];

/// The features of this broker, by name.
pub const fn features() -> &'static [Feature] {
    FEATURES
}
