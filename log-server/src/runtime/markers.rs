//! Ends transactions: writes their markers once the outcome is durable, and reports when all of them are, too.
//!
//! ```text
//! Prepare is durable ──► markers to every partition ──► all durable ──► Complete is logged
//!       ▲                                                                     │
//!       └── a crash anywhere on the way: the Prepare is found in the log, and all markers are written again
//! ```
//! A partition that is being written to for the second time has nothing open any more, and another marker changes
//! nothing in it. A partition that was deleted meanwhile has nothing to end. A transaction that cannot be ended at the
//! moment, as one of its partitions takes nothing, is laid aside and holds up no other.

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

/// Transactions of one shard that are being ended at a time. The others stay in the coordinator's state; those that are
/// laid aside do not count, and are no more than there are transactional ids.
pub(super) const ENDING_MAX: usize = 256;

/// Markers of one transaction that are waited for at a time.
const MARKERS_MAX: usize = 256;

/// How long to leave a transaction alone that could not be ended, as on a full disk.
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
    #[error("the log takes nothing before the next start")]
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
    let mut laid_aside = FuturesUnordered::new();
    let mut asked = Box::pin(shard.submit(Command::NextMarkers));
    loop {
        let has_room = ending.len() < ENDING_MAX;
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(ended) = ending.next() => match ended {
                Ended::Complete => completed.notify_waiters(),
                Ended::Later(again) => laid_aside.push(lay_aside(again)),
                Ended::NextStart => {}
            },
            Some(again) = laid_aside.next(), if has_room => ending.push(end(&shard, &*target, again)),
            answer = &mut asked, if has_room => match answer {
                Ok(Reply::Markers(transactions)) => {
                    let begun = transactions.into_iter().map(Ending::new);
                    ending.extend(begun.map(|begun| end(&shard, &*target, begun)));
                    asked = Box::pin(shard.submit(Command::NextMarkers));
                }
                Ok(other) => unreachable!("a request for markers is answered with {other:?}"),
                // It does not serve any more. What is being ended goes on at the next start.
                Err(_) => return,
            },
        }
    }
}

/// A transaction that is being ended.
struct Ending {
    /// The markers that are still to be written.
    left: Markers,
    /// Whether one of the others has to wait for the next start, and the transaction with it.
    is_stuck: bool,
    /// Whether it has been laid aside before, which is logged once.
    is_late: bool,
}

impl Ending {
    fn new(markers: Markers) -> Self {
        Ending { left: markers, is_stuck: false, is_late: false }
    }
}

/// What has become of a transaction that was to be ended.
enum Ended {
    /// All of it is written and logged.
    Complete,
    /// Some of it is to be tried again.
    Later(Ending),
    /// All that can be written is.
    NextStart,
}

async fn lay_aside(ending: Ending) -> Ending {
    tokio::time::sleep(RETRY).await;
    Ending { is_late: true, ..ending }
}

/// Writes the markers of one transaction and reports that.
async fn end<T: MarkerTarget>(
    shard: &ShardHandle<TransactionCoordinator>,
    target: &T,
    mut ending: Ending,
) -> Ended {
    let (producer, outcome) = (ending.left.producer, ending.left.outcome);
    let transactional_id = ending.left.transactional_id.clone();
    let partitions = std::mem::take(&mut ending.left.partitions).into_iter().flat_map(|(topic, indexes)| {
        indexes.into_iter().map(move |partition| TopicPartition { topic: topic.clone(), partition })
    });
    let marks = partitions.map(|partition| mark(target, partition, producer, outcome));
    let mut marked = std::pin::pin!(futures_util::stream::iter(marks).buffer_unordered(MARKERS_MAX));
    while let Some((TopicPartition { topic, partition }, marked)) = marked.next().await {
        match marked {
            Ok(()) => {}
            Err(error @ NotMarked::Offline) => {
                tracing::warn!(%topic, partition, ?producer, %error, "a transaction stays open there");
                ending.is_stuck = true;
            }
            Err(error @ NotMarked::Later(_)) => {
                if !ending.is_late && ending.left.partitions.is_empty() {
                    tracing::warn!(%topic, partition, ?producer, %error, "a transaction is ended later");
                }
                ending.left.partitions.entry(topic).or_default().insert(partition);
            }
        }
    }
    if !ending.left.partitions.is_empty() {
        return Ended::Later(ending);
    }
    if ending.is_stuck {
        return Ended::NextStart;
    }
    match shard.submit(Command::MarkersWritten { transactional_id, producer }).await {
        Err(Unavailable::NotWritten) => Ended::Later(ending),
        _ => Ended::Complete,
    }
}

/// Writes one marker.
async fn mark<T: MarkerTarget>(
    target: &T,
    partition: TopicPartition,
    producer: Producer,
    outcome: Outcome,
) -> (TopicPartition, Result<(), NotMarked>) {
    let marked = target.write(partition.clone(), producer, outcome).await;
    (partition, marked)
}
