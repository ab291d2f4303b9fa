//! How pending offsets are written to the log. Kafka has no records for them: there they are ordinary offsets in
//! transactional batches, which control batches commit or abort. These kinds are far above those that Kafka has given
//! out, so that tools which read the topic pass over them; once its transaction is committed, an offset is written as
//! an ordinary one. See `record.rs` for the notation.
//!
//! ```text
//! pending key       kind: i16 = 16384 │ producer id: i64 │ group: string │ topic: string │ partition: i32
//! pending value     version: i16 = 0 │ producer epoch: i16 │ order: i64 │ overtaken: i8
//!                   │ unless overtaken: offset: i64 │ leader epoch: i32 │ metadata: string │ committed at: i64
//! completion key    kind: i16 = 16385 │ producer id: i64
//! completion value  version: i16 = 0 │ producer epoch: i16 │ completed at: i64
//! ```

use super::field::{Reader, put_i16, put_i32, put_i64, put_string};
use super::pending::{Completion, PendingOffset};
use super::{CommittedOffset, Event};
use crate::coordinator::machine::{EntryError, LogEntry};
use bytes::Bytes;

const PENDING_KEY: i16 = 0x4000;
const COMPLETION_KEY: i16 = 0x4001;
const VALUE: i16 = 0;

/// The entry of a pending offset; `None` where it is pending no more.
pub(super) fn encode_pending(
    producer_id: i64,
    (group_id, topic, partition): (&str, &str, i32),
    pending: Option<&PendingOffset>,
) -> LogEntry {
    let mut key = Vec::with_capacity(18 + group_id.len() + topic.len());
    put_i16(&mut key, PENDING_KEY);
    put_i64(&mut key, producer_id);
    put_string(&mut key, group_id);
    put_string(&mut key, topic);
    put_i32(&mut key, partition);
    LogEntry { key: key.into(), value: pending.map(pending_value) }
}

fn pending_value(pending: &PendingOffset) -> Bytes {
    let mut value = Vec::with_capacity(40);
    put_i16(&mut value, VALUE);
    put_i16(&mut value, pending.producer_epoch);
    put_i64(&mut value, pending.order);
    value.push(u8::from(pending.committed.is_none()));
    if let Some(committed) = &pending.committed {
        put_i64(&mut value, committed.offset);
        put_i32(&mut value, committed.leader_epoch);
        put_string(&mut value, &committed.metadata);
        put_i64(&mut value, committed.committed_at_ms);
    }
    value.into()
}

/// The entry of the end of a producer's last transaction; `None` where the producer is forgotten.
pub(super) fn encode_completion(producer_id: i64, completion: Option<&Completion>) -> LogEntry {
    let mut key = Vec::with_capacity(10);
    put_i16(&mut key, COMPLETION_KEY);
    put_i64(&mut key, producer_id);
    let value = completion.map(|completion| {
        let mut value = Vec::with_capacity(12);
        put_i16(&mut value, VALUE);
        put_i16(&mut value, completion.producer_epoch);
        put_i64(&mut value, completion.completed_at_ms);
        value.into()
    });
    LogEntry { key: key.into(), value }
}

/// The event of an entry whose key begins with `kind`; `None` if that is none of these.
pub(super) fn decode(
    kind: i16,
    key: &mut Reader,
    value: Option<&Bytes>,
) -> Option<Result<Event, EntryError>> {
    match kind {
        PENDING_KEY => Some(decode_pending(key, value)),
        COMPLETION_KEY => Some(decode_completion(key, value)),
        _ => None,
    }
}

fn decode_pending(key: &mut Reader, value: Option<&Bytes>) -> Result<Event, EntryError> {
    let producer_id = key.i64()?;
    let (group_id, topic, partition) = (key.string()?, key.string()?, key.i32()?);
    let Some(value) = value else {
        return Ok(Event::PendingOffsetRemoved { group_id, topic, partition, producer_id });
    };
    let mut value = versioned("pending offset", value)?;
    let (producer_epoch, order) = (value.i16()?, value.i64()?);
    let committed = match value.i8()? {
        0 => Some(CommittedOffset {
            offset: value.i64()?,
            leader_epoch: value.i32()?,
            metadata: value.string()?,
            committed_at_ms: value.i64()?,
            expires_at_ms: None,
        }),
        _ => None,
    };
    let pending = PendingOffset { producer_epoch, order, committed };
    Ok(Event::OffsetPending { group_id, topic, partition, producer_id, pending })
}

fn decode_completion(key: &mut Reader, value: Option<&Bytes>) -> Result<Event, EntryError> {
    let producer_id = key.i64()?;
    let completion = match value {
        Some(value) => {
            let mut value = versioned("end of a producer's transaction", value)?;
            Some(Completion { producer_epoch: value.i16()?, completed_at_ms: value.i64()? })
        }
        None => None,
    };
    Ok(Event::ProducerCompleted { producer_id, completion })
}

fn versioned(what: &'static str, value: &Bytes) -> Result<Reader, EntryError> {
    let mut value = Reader::new(what, value);
    match value.i16()? {
        VALUE => Ok(value),
        version => Err(EntryError::UnknownVersion { what, version }),
    }
}
