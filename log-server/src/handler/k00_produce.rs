//! Produce (0), versions 0 to 13: appends record batches.
//!
//! - acks=0: no answer; an error closes the connection, which is how the producer learns of it. acks=1: answered
//!   after the append. acks=-1: answered once the batch is on disk, or with REQUEST_TIMED_OUT after `timeout_ms`
//!   (the batch stays in the log then; on a lane the sync that is under way is waited for). Anything else:
//!   INVALID_REQUIRED_ACKS.
//! - Versions 0 to 2 carry message formats that are refused (UNSUPPORTED_FOR_MESSAGE_FORMAT). They are advertised
//!   because librdkafka 2.0 concludes from a minimum of 3 that no compression is supported (KAFKA-18659).
//! - zstd before version 7: UNSUPPORTED_COMPRESSION_TYPE (KIP-110).
//! - Topics by id from version 13 on; an unknown id is UNKNOWN_TOPIC_ID.
//! - One batch a partition. It is checked before any lock is taken, then appended under the partition's lock, in the
//!   order of the requests on a connection: idempotent producers with several requests in flight rely on that.
//! - INVALID_RECORD and INVALID_TIMESTAMP name the records at fault (version 8 and later).
//! - The first batch of a transaction in a partition: see [`super::transactional_produce`]. A batch outside of the
//!   transaction that its producer has open is INVALID_TXN_STATE.
//! - What a client sends beyond its quota is taken, and the client held up for it: the answer has the time, and the
//!   connection is not read for as long (KIP-219).
//! - Load shedding: see [`super::shed_produce`].
//! - Less free space than the hard limit: KAFKA_STORAGE_ERROR, which clients retry.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_core::log::{AppendError, LogConfig, SequenceError};
use log_core::record::{
    Compression, ProduceErrorKind, ProduceRejection, ProducedBatch, RecordBatch, ValidateOptions,
    validate_produced,
};
use log_core::wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceTopicResponse, RecordError,
};
use log_core::wire::{ErrorCode, ProduceRequest, ProduceResponse, TopicRef};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::shed_produce::Gate;
use super::transactional_produce::{self, Admitted};
use super::{Context, Refusal, Reply, Request};
use crate::clock::now_ms;
use crate::partition::{Partition, Turn};
use crate::quota::Direction;
use crate::shedding::Stamp;
use crate::spans::{Budget, ProduceSpans};
use crate::topic::name;

/// The first version whose records are in format v2.
const RECORD_BATCHES_SINCE: i16 = 3;

/// The first version that may carry zstd.
const ZSTD_SINCE: i16 = 7;

/// Bytes that are compressed anew by the thread that answers.
const COMPRESSED_AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// A batch that was appended and has to be on disk before the answer.
struct Undurable {
    partition: Arc<Partition>,
    /// The offset after the batch.
    end: i64,
    /// Where its answer is: topic and partition within the response.
    at: (usize, usize),
    spans: Option<Box<ProduceSpans>>,
}

/// How soon what is appended is to be synced.
enum Sync<'a> {
    /// Within the linger: nobody waits.
    Soon,
    /// At once.
    Urgent,
    /// At once, and perhaps by whoever sends the answer, if the turn comes back.
    Alone(&'a mut Option<Turn>),
}

/// Answers one request.
///
/// # Errors
/// A body that is not a Produce request, and any failure with acks=0.
pub async fn handle(context: &Arc<Context>, mut request: Request) -> Result<Reply, Refusal> {
    let body = std::mem::take(&mut request.body);
    let body_bytes = body.len() as u64;
    let message = ProduceRequest::decode(body, request.version()).map_err(Refusal::new)?;
    let acks = message.acks;
    let timeout = Duration::from_millis(message.timeout_ms.max(0) as u64);
    let admitted = match refuse_all(context, &request, &message) {
        Some(refused) => Err(refused),
        None => transactional_produce::admit(context, &request, &message).await,
    };
    let mut undurable = Vec::new();
    let mut turn = None;
    let mut gate = Gate::new(context, &request);
    let mut response =
        append_all(context, &request, message, &admitted, &mut gate, &mut undurable, &mut turn);
    let hold = context.quotas.spend(Direction::Produce, request.client_id(), body_bytes);
    response.throttle_time_ms = request.hold_up(hold.max(gate.hold()));
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        if partition.error_code != 0 {
            let error = ErrorCode::from_code(partition.error_code).unwrap_or(ErrorCode::UnknownServerError);
            context.metrics.error_answered(request.api, error.name());
            if acks == 0 {
                let why = partition.error_message.as_deref().unwrap_or_default();
                return Err(Refusal::new(format!("acks=0 and {}: {why}", error.name())));
            }
        }
    }
    if acks == 0 {
        return Ok(Reply::None);
    }
    if acks == 1 || undurable.is_empty() {
        return Ok(encode(&request, &response).into());
    }
    // The records are in the log. Their buffer is the connection's next one, however long the answer is waited for.
    response.topics.iter_mut().for_each(|topic| topic.topic = topic.topic.detached());
    let deadline = tokio::time::Instant::from_std(request.received_at) + timeout;
    let context = context.clone();
    let durable = Box::pin(async move {
        let response = wait_durable(&context, response, undurable, deadline).await;
        encode(&request, &response)
    });
    Ok(match turn {
        Some(turn) => Reply::PendingSync(turn, durable),
        None => Reply::Pending(durable),
    })
}

fn encode(request: &Request, response: &ProduceResponse) -> Result<super::Frame, Refusal> {
    let body =
        response.encode(request.version()).map_err(|error| Refusal::new(format!("answer: {error}")))?;
    request.frame(body)
}

/// Appends every batch of a request, and lists in `undurable` what acks=-1 has to wait for. If that is one batch, the
/// sync of it may come back in `turn`.
fn append_all(
    context: &Context,
    request: &Request,
    message: ProduceRequest,
    admitted: &Result<Admitted, Refused>,
    gate: &mut Gate<'_>,
    undurable: &mut Vec<Undurable>,
    turn: &mut Option<Turn>,
) -> ProduceResponse {
    let knows_zstd = request.version() >= ZSTD_SINCE;
    let batches: usize = message.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut sync = match message.acks {
        -1 if batches == 1 => Sync::Alone(turn),
        -1 => Sync::Urgent,
        _ => Sync::Soon,
    };
    let now_ms = now_ms();
    let mut budget = Budget::default();
    let mut response = ProduceResponse::default();
    for topic in message.topics {
        let partitions = context.partitions.resolve(&topic.topic);
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let index = wanted.index;
            let partition = usize::try_from(index).ok().and_then(|index| partitions.as_ref()?.get(index));
            let mut spans = match (&context.spans, partition) {
                (Some(spans), Some(partition)) => {
                    spans.produce(request, partition, wanted.records.as_deref(), &mut budget)
                }
                _ => None,
            };
            let records = wanted.records.as_deref().unwrap_or_default();
            let (stamp, bytes) = (partition.and_then(|it| Stamp::of(it, records)), records.len());
            let appended = match (admitted, partition) {
                (Err(refused), _) => Err(refused.clone()),
                _ if !knows_zstd && is_zstd(&wanted) => {
                    let why = "zstd needs version 7 of Produce or later";
                    Err(Refused::new(ErrorCode::UnsupportedCompressionType, why))
                }
                (Ok(_), None) => Err(unknown(&topic.topic)),
                (Ok(admitted), Some(partition)) => gate
                    .pass(partition, stamp, bytes)
                    .and_then(|()| {
                        append(context, partition, wanted, admitted, &mut sync, request.version(), now_ms)
                    })
                    .map(|(answer, end)| (answer, partition, end)),
            };
            gate.settle(stamp, appended.as_ref().map(|_| ()).map_err(|refused| refused.error));
            answers.push(match appended {
                Ok((answer, partition, end)) => {
                    if let Some(spans) = &mut spans {
                        spans.appended(answer.base_offset);
                    }
                    if message.acks == -1 {
                        let at = (response.topics.len(), answers.len());
                        undurable.push(Undurable { partition: partition.clone(), end, at, spans });
                    }
                    answer
                }
                Err(refused) => {
                    if let Some(spans) = &mut spans {
                        spans.failed(refused.error.name());
                    }
                    refused.answer(index)
                }
            });
        }
        response.topics.push(ProduceTopicResponse { topic: topic.topic, partitions: answers });
    }
    response
}

/// What every batch of a request is refused for, if anything.
fn refuse_all(context: &Context, request: &Request, message: &ProduceRequest) -> Option<Refused> {
    if !matches!(message.acks, -1..=1) {
        return Some(Refused::new(ErrorCode::InvalidRequiredAcks, "acks is 0, 1 or -1"));
    }
    if request.version() < RECORD_BATCHES_SINCE {
        let why = "message formats 0 and 1 are not supported; the producer has to use version 3 or later";
        return Some(Refused::new(ErrorCode::UnsupportedForMessageFormat, why));
    }
    context.space.is_exhausted().then(|| {
        Refused::new(
            ErrorCode::KafkaStorageError,
            "the broker's disk is full; produce resumes when there is space",
        )
    })
}

fn is_zstd(wanted: &ProducePartition) -> bool {
    let batch = wanted.records.as_ref().and_then(|records| RecordBatch::parse(records).ok());
    batch.is_some_and(|batch| matches!(batch.attributes().compression(), Ok(Compression::Zstd)))
}

/// Checks and appends one batch. Returns its answer and the offset behind it.
fn append(
    context: &Context,
    partition: &Arc<Partition>,
    wanted: ProducePartition,
    admitted: &Admitted,
    sync: &mut Sync<'_>,
    version: i16,
    now_ms: i64,
) -> Result<(ProducePartitionResponse, i64), Refused> {
    if name::is_internal(partition.topic()) {
        return Err(Refused::new(ErrorCode::InvalidTopic, "only the broker writes to its internal topics"));
    }
    let config = partition.config();
    let batch = validated(wanted.records.unwrap_or_default(), &validate_options(&config, now_ms))?;
    drop(config);
    let transactional = batch.attributes().is_transactional();
    let asked = transactional.then(|| admitted.of(partition)).transpose()?;
    let appended = match sync {
        Sync::Soon => partition.append_asked(&batch, asked, now_ms, false),
        Sync::Urgent => partition.append_asked(&batch, asked, now_ms, true),
        Sync::Alone(turn) => partition.append_alone(&batch, asked, now_ms).map(|(appended, own)| {
            **turn = own;
            appended
        }),
    };
    let appended = appended.map_err(|error| refuse_append(context, partition, version, &error))?;
    if !appended.duplicate {
        count(context, partition, &batch);
    }
    let answer = ProducePartitionResponse {
        base_offset: appended.base_offset,
        log_append_time_ms: appended.log_append_time_ms,
        log_start_offset: appended.log_start_offset,
        ..ProducePartitionResponse::error(wanted.index, 0)
    };
    Ok((answer, appended.last_offset + 1))
}

/// Checks a batch, and compresses it anew where the topic asks for that. That may take as long as a sync does, so another
/// thread takes over what this one has to do meanwhile.
fn validated(records: Bytes, options: &ValidateOptions) -> Result<ProducedBatch, ProduceRejection> {
    let is_slow = options.target_compression.is_some() && records.len() > COMPRESSED_AT_ONCE_BYTES_MAX;
    if is_slow && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(|| validate_produced(records, options))
    } else {
        validate_produced(records, options)
    }
}

fn validate_options(config: &LogConfig, now_ms: i64) -> ValidateOptions {
    ValidateOptions {
        max_message_bytes: config.max_message_bytes as usize,
        timestamp_type: config.timestamp_type,
        now_ms,
        timestamp_before_max_ms: config.timestamp_before_max_ms,
        timestamp_after_max_ms: config.timestamp_after_max_ms,
        compacted: config.cleanup.compact,
        target_compression: config.compression_type,
        compression_levels: config.compression_levels,
        ..ValidateOptions::default()
    }
}

fn count(context: &Context, partition: &Partition, batch: &ProducedBatch) {
    let (records, bytes) = (batch.record_count() as u64, batch.size_bytes() as u64);
    context.metrics.produced_bytes.inc_by(bytes);
    context.metrics.produced_records.inc_by(records);
    partition.traffic().produced(records, bytes);
}

/// Waits until all of it is on disk. What does not get there is answered with an error instead of its offset.
async fn wait_durable(
    context: &Context,
    mut response: ProduceResponse,
    undurable: Vec<Undurable>,
    deadline: tokio::time::Instant,
) -> ProduceResponse {
    for Undurable { partition, end, at, mut spans } in undurable {
        let error = match tokio::time::timeout_at(deadline, partition.wait_durable(end)).await {
            Ok(Ok(())) => {
                if let Some(spans) = &mut spans {
                    spans.durable();
                }
                continue;
            }
            Ok(Err(_)) => ErrorCode::KafkaStorageError,
            Err(_) => ErrorCode::RequestTimedOut,
        };
        context.metrics.error_answered(log_core::wire::ApiKey::Produce, error.name());
        if let Some(spans) = &mut spans {
            spans.failed(error.name());
        }
        let answer = &mut response.topics[at.0].partitions[at.1];
        *answer = ProducePartitionResponse::error(answer.index, error.code());
    }
    response
}

/// Why one batch is not appended, as the client is told.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) error: ErrorCode,
    message: String,
    records: Vec<RecordError>,
}

impl Refused {
    pub(super) fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Refused { error, message: message.into(), records: Vec::new() }
    }

    fn answer(self, index: i32) -> ProducePartitionResponse {
        ProducePartitionResponse {
            record_errors: self.records,
            error_message: Some(self.message.into()),
            ..ProducePartitionResponse::error(index, self.error.code())
        }
    }
}

fn unknown(topic: &TopicRef) -> Refused {
    match topic {
        TopicRef::Name(_) => Refused::new(ErrorCode::UnknownTopicOrPartition, "no such topic or partition"),
        TopicRef::Id(_) => {
            Refused::new(ErrorCode::UnknownTopicId, "no topic with this id, or no such partition")
        }
    }
}

impl From<ProduceRejection> for Refused {
    fn from(rejection: ProduceRejection) -> Self {
        let error = match rejection.kind {
            ProduceErrorKind::MessageTooLarge => ErrorCode::MessageTooLarge,
            ProduceErrorKind::Corrupt => ErrorCode::CorruptMessage,
            ProduceErrorKind::InvalidRecord => ErrorCode::InvalidRecord,
            ProduceErrorKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
            ProduceErrorKind::UnsupportedCompression => ErrorCode::UnsupportedCompressionType,
            ProduceErrorKind::UnsupportedFormat => ErrorCode::UnsupportedForMessageFormat,
        };
        let record = |record: log_core::record::RecordError| RecordError {
            batch_index: record.batch_index,
            message: Some(record.message.into()),
        };
        let records = rejection.record_errors.into_iter().map(record).collect();
        Refused { error, message: rejection.message, records }
    }
}

fn refuse_append(context: &Context, partition: &Partition, version: i16, error: &AppendError) -> Refused {
    let code = match error {
        AppendError::Sequence { error: SequenceError::TooManyTransactions, .. } => {
            transactional_produce::concurrent(version)
        }
        AppendError::Sequence { error, .. } => sequence_error(error),
        AppendError::TooLarge { .. } => ErrorCode::RecordListTooLarge,
        AppendError::Closed => ErrorCode::NotLeaderOrFollower,
        AppendError::Storage(error) => {
            // Shut the gate at once instead of asking the disk again for every batch that is on its way.
            if !context.space.note_failure(error) {
                tracing::warn!(?partition, %error, "append refused");
            }
            ErrorCode::KafkaStorageError
        }
        // Both were reported loudly when they began.
        AppendError::Corrupt(_) | AppendError::Offline { .. } => ErrorCode::KafkaStorageError,
    };
    Refused::new(code, error.to_string())
}

/// What a producer, or the coordinator of its transactions, is refused for.
pub(super) fn sequence_error(error: &SequenceError) -> ErrorCode {
    match error {
        SequenceError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
        SequenceError::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        SequenceError::OutsideTransaction { .. } | SequenceError::TransactionEnded { .. } => {
            ErrorCode::InvalidTxnState
        }
        SequenceError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        // Retriable: it passes as soon as another transaction ends.
        SequenceError::TooManyTransactions => ErrorCode::ConcurrentTransactions,
    }
}
