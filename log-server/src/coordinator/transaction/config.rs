//! What can be set about transactions.

/// Settings of a [`TransactionCoordinator`](super::TransactionCoordinator), fixed while it lives. The names in the
/// descriptions are those of Kafka's broker settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `transaction.max.timeout.ms`: the longest that a producer may have a transaction open. A transaction holds back
    /// everybody who reads only what is committed.
    pub timeout_max_ms: i32,
    /// `transactional.id.expiration.ms`: how long an id without an open transaction is remembered after its last use.
    pub expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`: how often ids to forget are looked for.
    pub expiration_check_interval_ms: u64,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        TransactionConfig {
            timeout_max_ms: 900_000,
            expiration_ms: 7 * 24 * 60 * 60 * 1_000,
            expiration_check_interval_ms: 3_600_000,
        }
    }
}
