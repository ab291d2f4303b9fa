//! How a producer batches, compresses, waits and retries.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use log_core::record::Compression;

/// Who must have a record before the broker answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Nobody, and there is no answer: a delivery then means "written to the socket".
    None,
    /// The leader of the partition, in memory.
    Leader,
    /// Every in-sync replica; with Highwater, durable storage.
    #[default]
    All,
}

impl Acks {
    pub(super) const fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// A word that is none of `0`, `1` and `all`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown acks '{0}': expected 0, 1 or all")]
pub struct UnknownAcks(pub String);

impl FromStr for Acks {
    type Err = UnknownAcks;

    fn from_str(word: &str) -> Result<Acks, UnknownAcks> {
        match word {
            "0" => Ok(Acks::None),
            "1" => Ok(Acks::Leader),
            "all" | "-1" => Ok(Acks::All),
            _ => Err(UnknownAcks(word.to_owned())),
        }
    }
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Acks::None => "0",
            Acks::Leader => "1",
            Acks::All => "all",
        })
    }
}

/// Settings of a [`Producer`](super::Producer).
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// Who must have a record before it counts as delivered. Default all.
    pub acks: Acks,
    /// Whether the broker is to recognise batches that are sent twice, so that a retry neither doubles
    /// nor reorders records. Default true; takes effect with [`Acks::All`] only.
    pub idempotence: bool,
    /// The name under which the producer has transactions: of all producers with that name, only the one
    /// that initialised last can write. Makes the producer idempotent, with [`Acks::All`]. Default none.
    pub transactional_id: Option<String>,
    /// How long a transaction may be open before the broker aborts it. Default 60 s.
    pub transaction_timeout: Duration,
    /// How batches are compressed. Default none.
    pub compression: Compression,
    /// How long a batch that is not full waits for more records. Default 5 ms.
    pub linger: Duration,
    /// Size at which a batch is full, in bytes before compression. Default 256 KiB. A larger record
    /// makes a batch of its own.
    pub batch_bytes_max: usize,
    /// The largest record that is taken, in bytes with its framing. Default 1 MiB, a little less than
    /// what brokers take by default.
    pub record_bytes_max: usize,
    /// How much one request carries, in bytes. Default 8 MiB.
    pub request_bytes_max: usize,
    /// Bytes of records that may wait in memory; beyond it [`send`](super::Producer::send) waits.
    /// Default 32 MiB.
    pub buffer_bytes_max: usize,
    /// How long `send` waits for the topic to be known or for memory. Default 60 s.
    pub block_max: Duration,
    /// How long a record may take from `send` to its acknowledgement, retries included. Default 2 min.
    pub delivery_timeout: Duration,
    /// How long the broker may wait for its replicas. Default 30 s.
    pub acks_timeout: Duration,
    /// Requests to one broker that may be unanswered at a time, 1 to 5. Default 5. Without idempotence
    /// a partition has one at a time whatever this says, since a retry would reorder.
    pub requests_in_flight_max: usize,
    /// Whether a topic that does not exist may be created by the broker, if that is set to. Default
    /// true.
    pub create_topics: bool,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        ProducerConfig {
            acks: Acks::All,
            idempotence: true,
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes_max: 256 << 10,
            record_bytes_max: 1 << 20,
            request_bytes_max: 8 << 20,
            buffer_bytes_max: 32 << 20,
            block_max: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            acks_timeout: Duration::from_secs(30),
            requests_in_flight_max: 5,
            create_topics: true,
        }
    }
}

impl ProducerConfig {
    /// Whether batches are stamped with a producer id and sequence numbers.
    pub(super) fn is_idempotent(&self) -> bool {
        self.transactional_id.is_some() || self.idempotence && self.acks == Acks::All
    }

    /// Whether the producer may go on under an epoch of its own choice. Those of transactions are the coordinator's.
    pub(super) fn may_renew(&self) -> bool {
        self.is_idempotent() && self.transactional_id.is_none()
    }

    /// Batches of one partition that may be unanswered at a time.
    pub(super) fn batches_in_flight_max(&self) -> usize {
        // Brokers remember the last five batches of a producer: a sixth in flight could not be
        // recognised when it is retried.
        if self.is_idempotent() { self.requests_in_flight_max.clamp(1, 5) } else { 1 }
    }
}
