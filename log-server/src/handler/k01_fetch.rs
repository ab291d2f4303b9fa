//! Fetch (1), versions 4 to 18: record batches from given offsets on.
//!
//! - Answered when `min_bytes` are there, when `max_wait_ms` have passed, or at once when a partition has an error.
//!   Waiting: register with every partition, look, wait, look again. No wake-up is lost in that order.
//! - Whole batches, from the one that contains the offset on. The first partition that has any returns at least one,
//!   however small `max_bytes` are (KIP-74). Sizes are of records.
//! - Records up to the high watermark (what is on disk), or up to the last stable offset for read_committed, with the
//!   aborted transactions that they may belong to, each once, by first offset: librdkafka and franz-go take the first
//!   offset off a producer's list at each of its abort markers, so one that is named twice would hide what follows.
//! - An offset at the log's end is fine, one beyond it or before the start is OFFSET_OUT_OF_RANGE.
//! - Sessions (KIP-227, version 7 and later): see [`crate::partition::FetchSessions`].
//! - Leader epochs (KIP-320, version 9 and later): older than ours FENCED_LEADER_EPOCH, newer UNKNOWN_LEADER_EPOCH.
//! - zstd to a version before 10: UNSUPPORTED_COMPRESSION_TYPE (KIP-110).
//! - Topics by id from version 13 on; an unknown id is UNKNOWN_TOPIC_ID.
//! - A client that is over its quota gets an empty answer with the time to wait, and its connection is not read for
//!   as long (KIP-219). No answer is larger than what the quota's window holds, the first batch excepted.
//! - Records leave as slices of the log's memory map, checked against their checksums by every read. What is not in
//!   memory is brought in by a blocking thread ([`crate::partition::ColdReads`]), for the whole fetch.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_core::log::{AbortedTransaction as Aborted, Isolation, LogReader, ReadError, ReadResult};
use log_core::record::{Compression, batches};
use log_core::wire::fetch::IsolationLevel;
use log_core::wire::fetch_response::{AbortedTransaction, FetchPartitionResponse, FetchTopicResponse};
use log_core::wire::{ErrorCode, FetchRequest, FetchResponse, TopicRef};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Context, Refusal, Reply, Request, leader_epoch_error};
use crate::partition::{Awaited, Partition, ReaderId, SessionError, SessionFetch, SessionPartition};
use crate::quota::Direction;
use crate::spans::Budget;

/// The first version whose clients know zstd.
const ZSTD_SINCE: i16 = 10;

/// Answers one request.
///
/// # Errors
/// A body that is not a Fetch request.
pub async fn handle(context: &Arc<Context>, mut request: Request) -> Result<Reply, Refusal> {
    let body = std::mem::take(&mut request.body);
    let message = FetchRequest::decode(body, request.version()).map_err(Refusal::new)?;
    let Some(isolation) = IsolationLevel::from_code(message.isolation_level) else {
        return encode(&request, &FetchResponse::error(ErrorCode::InvalidRequest.code())).map(Reply::Ready);
    };
    let session = match context.fetch_sessions.begin(&message) {
        Ok(session) => session,
        Err(error) => {
            let code = match error {
                SessionError::UnknownSession => ErrorCode::FetchSessionIdNotFound,
                SessionError::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
                SessionError::MixedNames => ErrorCode::FetchSessionTopicIdError,
            };
            return encode(&request, &FetchResponse::error(code.code())).map(Reply::Ready);
        }
    };
    let mut max_bytes = (message.max_bytes.max(0) as usize).min(context.config.fetch_bytes_max as usize);
    if let Some(window) = context.quotas.window_bytes(Direction::Fetch, request.client_id()) {
        max_bytes = max_bytes.min(window);
    }
    let fetch = Fetch {
        version: request.version(),
        reader: request.reader_id(),
        isolation,
        min_bytes: (message.min_bytes.max(0) as usize).min(max_bytes),
        max_bytes,
        session,
    };
    let wait = Duration::from_millis(message.max_wait_ms.max(0) as u64);
    if let Some(read) = fetch.read_resident(context)
        && (read.is_enough(&fetch) || wait.is_zero())
    {
        return answer(context, &request, fetch, read).map(Reply::Ready);
    }
    let deadline = Instant::from_std(request.received_at) + wait;
    let context = context.clone();
    Ok(Reply::Pending(Box::pin(async move {
        let (fetch, read) = fetch.wait(&context, deadline).await;
        answer(&context, &request, fetch, read)
    })))
}

/// What is to be read.
struct Fetch {
    version: i16,
    reader: ReaderId,
    isolation: IsolationLevel,
    min_bytes: usize,
    max_bytes: usize,
    session: SessionFetch,
}

/// What one look at all partitions found: an answer for each of the session's partitions, in their order.
struct Read {
    answers: Vec<FetchPartitionResponse>,
    bytes: usize,
    /// Whether a partition has an error, which ends the wait.
    failed: bool,
}

/// How a log is read: waiting for the disk, or not.
type ReadLog = fn(&LogReader, i64, usize, Isolation, bool) -> Result<ReadResult, ReadError>;

/// Why a partition has not been read.
enum Unread {
    Error(ErrorCode),
    /// It would have had to wait for the disk.
    Cold,
}

impl Read {
    fn is_enough(&self, fetch: &Fetch) -> bool {
        self.failed || self.bytes >= fetch.min_bytes || fetch.session.partitions.is_empty()
    }
}

impl Fetch {
    /// Waits for enough, or for the deadline, and returns what there is then.
    async fn wait(mut self, context: &Arc<Context>, deadline: Instant) -> (Fetch, Read) {
        let wake = Arc::new(Notify::new());
        let awaited = match self.isolation {
            IsolationLevel::ReadUncommitted => Awaited::HighWatermark,
            IsolationLevel::ReadCommitted => Awaited::LastStable,
        };
        let _registrations: Vec<_> = self
            .session
            .partitions
            .iter()
            .filter_map(|wanted| {
                let partition = find(context, wanted).ok()?;
                Some(partition.waiters().register(wanted.wanted.fetch_offset + 1, awaited, wake.clone()))
            })
            .collect();
        loop {
            let read;
            (self, read) = self.look(context).await;
            if read.is_enough(&self) || deadline <= Instant::now() {
                break (self, read);
            }
            let over = tokio::select! {
                biased;
                () = context.shutdown.cancelled() => true,
                woken = timeout_at(deadline, wake.notified()) => woken.is_err(),
            };
            if over {
                break self.look(context).await;
            }
        }
    }

    /// Reads every partition once, on a blocking thread if any of it is not in memory.
    async fn look(self, context: &Arc<Context>) -> (Fetch, Read) {
        if let Some(read) = self.read_resident(context) {
            return (self, read);
        }
        let on_thread = context.clone();
        let read = move || {
            let read =
                self.read(&on_thread, LogReader::read).expect("a read that waits for the disk is never cold");
            (self, read)
        };
        context.cold_reads.run(read).await
    }

    /// Reads every partition once, without waiting for the disk; `None` if that is not possible.
    fn read_resident(&self, context: &Context) -> Option<Read> {
        self.read(context, LogReader::read_resident)
    }

    fn read(&self, context: &Context, read_log: ReadLog) -> Option<Read> {
        let mut read =
            Read { answers: Vec::with_capacity(self.session.partitions.len()), bytes: 0, failed: false };
        for wanted in &self.session.partitions {
            let answer = find(context, wanted)
                .map_err(Unread::Error)
                .and_then(|partition| self.read_partition(context, &partition, wanted, read.bytes, read_log));
            let answer = match answer {
                Ok(answer) => answer,
                Err(Unread::Error(error)) => FetchPartitionResponse::error(wanted.wanted.index, error.code()),
                Err(Unread::Cold) => return None,
            };
            read.bytes += answer.records_bytes();
            read.failed |= answer.error_code != 0;
            read.answers.push(answer);
        }
        Some(read)
    }

    fn read_partition(
        &self,
        context: &Context,
        partition: &Partition,
        wanted: &SessionPartition,
        bytes_before: usize,
        read_log: ReadLog,
    ) -> Result<FetchPartitionResponse, Unread> {
        let wanted = &wanted.wanted;
        if let Some(error) = leader_epoch_error(wanted.current_leader_epoch) {
            return Err(Unread::Error(error));
        }
        let isolation = match self.isolation {
            IsolationLevel::ReadUncommitted => Isolation::Uncommitted,
            IsolationLevel::ReadCommitted => Isolation::Committed,
        };
        partition.readers().note(self.reader, isolation);
        let mut aborted = Vec::new();
        let mut room = (wanted.max_bytes.max(0) as usize).min(self.max_bytes.saturating_sub(bytes_before));
        let mut records: Vec<Bytes> = Vec::new();
        let mut offset = wanted.fetch_offset;
        // A read ends with its segment; the rest of the answer may come out of the next ones.
        let watermarks = loop {
            let at_least_one = bytes_before == 0 && records.is_empty();
            let read = match read_log(partition.reader(), offset, room, isolation, at_least_one) {
                Ok(read) => read,
                // The log start may pass by between two reads; what was read is whole batches all the same.
                Err(ReadError::OutOfRange { watermarks, .. }) if !records.is_empty() => break watermarks,
                // What is sound before damage is served; the fetch that begins at the damage is refused.
                Err(ReadError::Corrupt(_) | ReadError::Storage(_)) if !records.is_empty() => {
                    break partition.reader().watermarks();
                }
                Err(error) => return Err(unread(partition, &error)),
            };
            if let Some(ahead) = read.ahead {
                context.cold_reads.ahead(ahead);
            }
            let end = match isolation {
                Isolation::Committed => read.watermarks.last_stable(),
                _ => read.watermarks.high_watermark(),
            };
            let nothing = read.records.is_empty();
            room = room.saturating_sub(read.records.len());
            learn(&mut aborted, offset..read.next_offset, read.aborted);
            offset = read.next_offset;
            if !nothing {
                records.push(read.records);
            }
            if nothing || room == 0 || offset >= end {
                break read.watermarks;
            }
        };
        if self.version < ZSTD_SINCE && records.iter().any(has_zstd) {
            return Err(Unread::Error(ErrorCode::UnsupportedCompressionType));
        }
        Ok(FetchPartitionResponse {
            high_watermark: watermarks.high_watermark(),
            last_stable_offset: watermarks.last_stable(),
            log_start_offset: watermarks.log_start(),
            aborted_transactions: (isolation == Isolation::Committed).then(|| in_order(aborted)),
            records,
            ..FetchPartitionResponse::error(wanted.index, 0)
        })
    }
}

fn find(context: &Context, wanted: &SessionPartition) -> Result<Arc<Partition>, ErrorCode> {
    let unknown = match &wanted.topic {
        TopicRef::Name(_) => ErrorCode::UnknownTopicOrPartition,
        TopicRef::Id(_) => ErrorCode::UnknownTopicId,
    };
    let partitions = context.partitions.resolve(&wanted.topic).ok_or(unknown)?;
    let index = usize::try_from(wanted.wanted.index).ok();
    index.and_then(|index| partitions.get(index).cloned()).ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn unread(partition: &Partition, error: &ReadError) -> Unread {
    Unread::Error(match error {
        ReadError::Cold => return Unread::Cold,
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Closed => ErrorCode::NotLeaderOrFollower,
        ReadError::Corrupt(_) => {
            tracing::error!(?partition, %error, "fetch refused");
            ErrorCode::CorruptMessage
        }
        ReadError::Storage(_) => {
            tracing::error!(?partition, %error, "fetch refused");
            ErrorCode::KafkaStorageError
        }
    })
}

/// Adds what the read of `offsets` was told to what those before it were. It has the last word on the ends that lie in
/// there: compaction may have taken one out since an earlier read has named its transaction, which then would hide
/// whatever its producer has written after that.
fn learn(aborted: &mut Vec<Aborted>, offsets: Range<i64>, told: Vec<Aborted>) {
    aborted.retain(|known| !offsets.contains(&known.last_offset));
    aborted.extend(told);
}

/// What several reads were told, as the answer says it.
fn in_order(mut aborted: Vec<Aborted>) -> Vec<AbortedTransaction> {
    // No two transactions begin at the same offset.
    aborted.sort_unstable_by_key(|aborted| aborted.first_offset);
    aborted.dedup();
    aborted
        .iter()
        .map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
        })
        .collect()
}

fn has_zstd(records: &Bytes) -> bool {
    batches(records)
        .map_while(Result::ok)
        .any(|batch| matches!(batch.attributes().compression(), Ok(Compression::Zstd)))
}

fn answer(context: &Context, request: &Request, fetch: Fetch, read: Read) -> Result<super::Frame, Refusal> {
    let spent = context.quotas.try_spend(Direction::Fetch, request.client_id(), read.bytes as u64);
    if let Err(hold) = spent {
        let session_id = context.fetch_sessions.abandon(fetch.session);
        let throttle_time_ms = request.hold_up(hold);
        return encode(request, &FetchResponse { session_id, throttle_time_ms, ..FetchResponse::default() });
    }
    context.metrics.fetched_bytes.inc_by(read.bytes as u64);
    let mut budget = Budget::default();
    for (wanted, answer) in fetch.session.partitions.iter().zip(&read.answers) {
        let bytes = answer.records_bytes();
        if bytes > 0
            && let Ok(partition) = find(context, wanted)
        {
            partition.traffic().fetched(bytes as u64);
            if let Some(spans) = &context.spans {
                spans.fetched(request, &partition, &answer.records, &mut budget);
            }
        }
    }
    let (session_id, partitions) = fetch.session.finish(read.answers);
    let mut response = FetchResponse { session_id, ..FetchResponse::default() };
    for (topic, partition) in partitions {
        if let Some(error) = ErrorCode::from_code(partition.error_code).filter(|_| partition.error_code != 0)
        {
            context.metrics.error_answered(request.api, error.name());
        }
        match response.topics.last_mut() {
            Some(last) if last.topic == topic => last.partitions.push(partition),
            _ => response.topics.push(FetchTopicResponse { topic, partitions: vec![partition] }),
        }
    }
    encode(request, &response)
}

fn encode(request: &Request, response: &FetchResponse) -> Result<super::Frame, Refusal> {
    let body =
        response.encode(request.version()).map_err(|error| Refusal::new(format!("answer: {error}")))?;
    request.frame(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_whose_end_is_gone_by_the_time_it_is_read_is_not_named() {
        let ended = |first_offset, last_offset| Aborted {
            producer_id: 7,
            first_offset,
            last_offset,
            last_stable: 90,
        };
        let mut aborted = Vec::new();
        learn(&mut aborted, 0..10, vec![ended(1, 4), ended(5, 15), ended(8, 25)]);
        // Compaction took the end at 15 out; the next transaction is committed.
        learn(&mut aborted, 10..20, vec![ended(8, 25), ended(18, 30)]);
        let named: Vec<i64> = in_order(aborted).iter().map(|named| named.first_offset).collect();
        assert_eq!(named, [1, 8, 18]);
    }
}
