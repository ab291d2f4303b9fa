//! The future of a record: one acknowledgement serves the whole batch.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use super::error::ProduceError;
use super::record::RecordMetadata;
use crate::topic_partition::TopicPartition;

/// What became of a batch.
#[derive(Clone, Debug)]
pub(super) enum Ack {
    Appended {
        /// The first record's offset, where it is known.
        base_offset: Option<i64>,
        /// The broker's time for all records, or `None` where they keep their own.
        log_append_time_ms: Option<i64>,
    },
    /// It was too large and went out in pieces: the index of each piece's first record, ascending from
    /// 0, and what became of the piece.
    Split(Arc<[(i32, AckReceiver)]>),
}

pub(super) type AckReceiver = Shared<oneshot::Receiver<Result<Ack, ProduceError>>>;
pub(super) type AckSender = oneshot::Sender<Result<Ack, ProduceError>>;

/// Both ends of one batch's acknowledgement.
pub(super) fn ack() -> (AckSender, AckReceiver) {
    let (sender, receiver) = oneshot::channel();
    (sender, receiver.shared())
}

/// Resolves when the record is acknowledged, or given up. Dropping it changes nothing: the record is
/// sent all the same.
#[derive(Clone, Debug)]
#[must_use = "without awaiting it, a failed delivery goes unnoticed"]
pub struct Delivery {
    partition: TopicPartition,
    /// Position within the batch.
    index: i32,
    timestamp_ms: i64,
    ack: AckReceiver,
}

impl Delivery {
    pub(super) fn new(
        partition: TopicPartition,
        index: i32,
        timestamp_ms: i64,
        ack: AckReceiver,
    ) -> Delivery {
        Delivery { partition, index, timestamp_ms, ack }
    }

    /// The partition that was chosen.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match ready!(self.ack.poll_unpin(cx)) {
                Err(_dropped) => return Poll::Ready(Err(ProduceError::Closed)),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Ok(Ok(Ack::Appended { base_offset, log_append_time_ms })) => {
                    return Poll::Ready(Ok(RecordMetadata {
                        partition: self.partition.clone(),
                        offset: base_offset.map(|base| base.saturating_add(self.index.into())),
                        timestamp_ms: log_append_time_ms.unwrap_or(self.timestamp_ms),
                    }));
                }
                Ok(Ok(Ack::Split(pieces))) => {
                    let piece = pieces.partition_point(|&(first, _)| first <= self.index) - 1;
                    let (first, ack) = pieces[piece].clone();
                    self.index -= first;
                    self.ack = ack;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(index: i32, ack: &AckReceiver) -> Delivery {
        Delivery::new(TopicPartition::new("t", 0), index, 5, ack.clone())
    }

    #[test]
    fn offsets_count_from_the_batch_and_from_its_pieces() {
        let (sender, receiver) = ack();
        let appended = |base| Ok(Ack::Appended { base_offset: Some(base), log_append_time_ms: None });
        let pieces: Vec<_> = [(0, 100), (3, 200)]
            .map(|(first, base)| {
                let (sender, receiver) = ack();
                sender.send(appended(base)).unwrap();
                (first, receiver)
            })
            .into();
        sender.send(Ok(Ack::Split(pieces.into()))).unwrap();
        let offsets: Vec<_> = (0..5)
            .map(|index| delivery(index, &receiver).now_or_never().unwrap().unwrap().offset.unwrap())
            .collect();
        assert_eq!(offsets, [100, 101, 102, 200, 201]);
    }

    #[test]
    fn a_dropped_producer_is_an_error_and_log_append_time_wins() {
        let (sender, receiver) = ack();
        assert!(delivery(0, &receiver).now_or_never().is_none());
        drop(sender);
        assert!(matches!(delivery(0, &receiver).now_or_never(), Some(Err(ProduceError::Closed))));

        let (sender, receiver) = ack();
        sender.send(Ok(Ack::Appended { base_offset: None, log_append_time_ms: Some(9) })).unwrap();
        let metadata = delivery(1, &receiver).now_or_never().unwrap().unwrap();
        assert_eq!((metadata.offset, metadata.timestamp_ms), (None, 9));
    }
}
