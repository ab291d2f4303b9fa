//! Where this broker's markers go: into the logs of partitions with records, and to the coordinator of groups for those
//! with offsets.

use std::sync::Arc;

use log_core::log::{AppendError, SequenceError};
use log_core::record::Marker;

use super::markers::{MarkerTarget, NotMarked};
use super::router::{GroupRouter, NotCompleted};
use super::shard::Unavailable;
use crate::clock::now_ms;
use crate::coordinator::transaction::{Outcome, Producer, TopicPartition};
use crate::partition::{NotDurable, Registry};
use crate::topic::name::CONSUMER_OFFSETS;

/// The partitions of this broker: records in most of them, offsets of groups in those of the internal topic.
#[derive(Clone, Debug)]
pub struct PartitionMarkers {
    /// Those with records.
    pub partitions: Arc<Registry>,
    /// Those with offsets.
    pub groups: Arc<GroupRouter>,
}

impl MarkerTarget for PartitionMarkers {
    async fn write(&self, to: TopicPartition, producer: Producer, outcome: Outcome) -> Result<(), NotMarked> {
        if &*to.topic == CONSUMER_OFFSETS {
            let done = self.groups.complete_transaction(to.partition, producer.id, producer.epoch, outcome);
            return match done.await {
                Ok(()) => Ok(()),
                Err(NotCompleted::Fenced) => {
                    tracing::warn!(?to, ?producer, "a newer epoch of the producer has committed offsets");
                    Ok(())
                }
                Err(NotCompleted::Unavailable(Unavailable::Offline)) => Err(NotMarked::Offline),
                Err(error) => Err(NotMarked::Later(error.to_string())),
            };
        }
        let Some(partition) = self.partitions.get(&to.topic, to.partition) else { return Ok(()) };
        let marker = match outcome {
            Outcome::Commit => Marker::Commit,
            Outcome::Abort => Marker::Abort,
        };
        let appended = match partition.append_own_marker(producer.id, producer.epoch, marker, now_ms()) {
            Ok(appended) => appended,
            Err(error) => return refused(&to, &error),
        };
        match partition.wait_durable(appended.last_offset + 1).await {
            Ok(()) | Err(NotDurable::Closed) => Ok(()),
            Err(NotDurable::Offline) => Err(NotMarked::Offline),
        }
    }
}

/// What comes of a marker that a log of records has refused.
fn refused(to: &TopicPartition, error: &AppendError) -> Result<(), NotMarked> {
    match error {
        AppendError::Closed => Ok(()),
        AppendError::Sequence { error: SequenceError::InvalidEpoch { .. }, .. } => {
            // What an older epoch had open there was ended when the newer one came.
            tracing::warn!(?to, %error, "a marker came too late");
            Ok(())
        }
        AppendError::Corrupt(_) | AppendError::Offline { .. } => Err(NotMarked::Offline),
        AppendError::Sequence { .. } | AppendError::TooLarge { .. } | AppendError::Storage(_) => {
            Err(NotMarked::Later(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use log_core::log::Corruption;

    use super::*;

    #[test]
    fn only_a_newer_epoch_and_a_deleted_partition_need_no_marker() {
        let to = TopicPartition { topic: "orders".into(), partition: 0 };
        let sequence = |error| AppendError::Sequence { producer_id: 7, error };
        let corruption = Corruption { file: "0.log".into(), position: 0, offset: 0, reason: "a bit".into() };
        for error in [sequence(SequenceError::InvalidEpoch { epoch: 1, current: 2 }), AppendError::Closed] {
            assert_eq!(refused(&to, &error), Ok(()), "{error}");
        }
        for error in [AppendError::Corrupt(corruption.into()), AppendError::Offline { reason: "EIO".into() }]
        {
            assert_eq!(refused(&to, &error), Err(NotMarked::Offline), "{error}");
        }
        for error in [
            sequence(SequenceError::CoordinatorFenced { epoch: 0, current: 1 }),
            AppendError::Storage(std::io::ErrorKind::StorageFull.into()),
        ] {
            assert_eq!(refused(&to, &error), Err(NotMarked::Later(error.to_string())));
        }
    }
}
