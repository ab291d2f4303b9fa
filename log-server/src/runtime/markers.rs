//! Ends transactions: writes their markers once the outcome is durable, and reports when all of them are, too.
//!
//! ```text
//! Prepare is durable ──► markers to every partition ──► all durable ──► Complete is logged
//!       ▲                                                                     │
//!       └── a crash anywhere on the way: the Prepare is found in the log, and all markers are written again
//! ```
//! A partition that is being written to for the second time has nothing open any more, and another marker changes
//! nothing in it. A partition that was deleted meanwhile has nothing to end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::shard::{Phase, ShardHandle, Unavailable};
use crate::coordinator::transaction::{
    Command, Markers, Outcome, Producer, Reply, TopicPartition, TransactionCoordinator,
};

/// Transactions of one shard that are being ended at a time. The others stay in the coordinator's state.
const ENDING_MAX: usize = 256;

/// Markers of one transaction that are waited for at a time.
const MARKERS_MAX: usize = 256;

/// How long to leave a marker alone that could not be written, as on a full disk.
const RETRY: Duration = Duration::from_millis(500);

/// Where markers are written to.
pub trait MarkerTarget: Send + Sync + 'static {
    /// Ends the transaction that `producer` has open in `partition`, durably, if there is one.
    ///
    /// # Errors
    /// It has to be tried again.
    fn write(
        &self,
        partition: TopicPartition,
        producer: Producer,
        outcome: Outcome,
    ) -> impl Future<Output = Result<(), NotMarked>> + Send;
}

/// Why a marker has to be written again, or never will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMarked {
    /// It may succeed later.
    #[error("{0}")]
    Later(String),
    /// Not before the next start, which tries again.
    #[error("the log is offline")]
    Offline,
}

/// Ends the transactions of one shard, for as long as it serves, and tells whoever waits for `completed` of each.
pub async fn end_transactions<T: MarkerTarget>(
    shard: ShardHandle<TransactionCoordinator>,
    target: Arc<T>,
    completed: Arc<Notify>,
    shutdown: CancellationToken,
) {
    if shard.loaded().await == Phase::Failed {
        return;
    }
    let mut ending = FuturesUnordered::new();
    let mut asked = Box::pin(shard.submit(Command::NextMarkers));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(()) = ending.next() => completed.notify_waiters(),
            answer = &mut asked, if ending.len() < ENDING_MAX => match answer {
                Ok(Reply::Markers(transactions)) => {
                    ending.extend(transactions.into_iter().map(|markers| end(&shard, &*target, markers)));
                    asked = Box::pin(shard.submit(Command::NextMarkers));
                }
                Ok(other) => unreachable!("a request for markers is answered with {other:?}"),
                // It does not serve any more. What is being ended goes on at the next start.
                Err(_) => return,
            },
        }
    }
}

/// Writes the markers of one transaction and reports that.
async fn end<T: MarkerTarget>(shard: &ShardHandle<TransactionCoordinator>, target: &T, markers: Markers) {
    let Markers { transactional_id, producer, outcome, partitions } = markers;
    let partitions = partitions.into_iter().flat_map(|(topic, indexes)| {
        indexes.into_iter().map(move |partition| TopicPartition { topic: topic.clone(), partition })
    });
    let marks = partitions.map(|partition| mark(target, partition, producer, outcome));
    let marked = futures_util::stream::iter(marks).buffer_unordered(MARKERS_MAX);
    if !marked.all(async |is_marked| is_marked).await {
        return;
    }
    loop {
        let transactional_id = transactional_id.clone();
        match shard.submit(Command::MarkersWritten { transactional_id, producer }).await {
            Err(Unavailable::NotWritten) => tokio::time::sleep(RETRY).await,
            _ => return,
        }
    }
}

/// Writes one marker, however often it takes. False if that has to wait for the next start.
async fn mark<T: MarkerTarget>(
    target: &T,
    partition: TopicPartition,
    producer: Producer,
    outcome: Outcome,
) -> bool {
    loop {
        match target.write(partition.clone(), producer, outcome).await {
            Ok(()) => return true,
            Err(NotMarked::Offline) => return false,
            Err(NotMarked::Later(reason)) => {
                tracing::warn!(?partition, ?producer, reason, "a marker is written later");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
