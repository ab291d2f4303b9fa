//! How transactions are written to the log: in the formats of Kafka's `__transaction_state`, so that tools which read
//! that topic read this one. See `field.rs` for the notation.
//!
//! ```text
//! key     version: i16 = 0 │ transactional id: string
//! value   version: i16 = 1 │ producer id: i64 │ epoch: i16 │ timeout: i32 │ state: i8
//!         │ partitions: compact nullable array of { topic: compact string │ indexes: compact array of i32 │ tags }
//!         │ updated at: i64 │ started at: i64
//!         │ tags { 0: previous producer id: i64 │ 1: next producer id: i64 │ 2: protocol: i16
//!                │ 1000: last epoch: i16 }
//! value   version: i16 = 0 │ … the same without tags, arrays and strings not compact
//! ```
//! Times are wall-clock milliseconds, -1 for none. States are 0 Empty, 1 Ongoing, 2 PrepareCommit, 3 PrepareAbort, 4
//! CompleteCommit, 5 CompleteAbort. The protocol is 0 for the first one and 2 for the second. A tag is left out where
//! there is nothing to say. Tag 1000 is not Kafka's, which forgets the last epoch when its coordinator moves and then
//! fences a producer that only repeats its request; it passes over tags that it does not know. Version 0 is read only.

use super::field::{
    Reader, put_compact_count, put_compact_string, put_i16, put_i32, put_i64, put_string, put_varint,
};
use super::{Event, Outcome, Partitions, Producer, Protocol, State, Transaction};
use crate::coordinator::machine::{EntryError, LogEntry};
use bytes::Bytes;

const KEY: i16 = 0;
const VALUE: i16 = 1;
const NO_TAGS: u8 = 0;
const PREVIOUS_ID_TAG: u32 = 0;
const NEXT_ID_TAG: u32 = 1;
const PROTOCOL_TAG: u32 = 2;
const LAST_EPOCH_TAG: u32 = 1000;
const NONE: i64 = -1;
const WHAT: &str = "transaction";

/// The entry of a durable event; `None` for a soft one.
pub(super) fn encode(event: &Event) -> Option<LogEntry> {
    match event {
        Event::Stored { transactional_id, transaction } => {
            Some(encode_transaction(transactional_id, transaction))
        }
        Event::Forgotten { transactional_id } => Some(LogEntry { key: key(transactional_id), value: None }),
        Event::Started { .. }
        | Event::Sent { .. }
        | Event::MarkerWriterWaits(_)
        | Event::TimedOut
        | Event::Swept { .. } => None,
    }
}

pub(super) fn encode_transaction(transactional_id: &str, transaction: &Transaction) -> LogEntry {
    let mut value = Vec::with_capacity(96);
    put_i16(&mut value, VALUE);
    put_i64(&mut value, transaction.producer.id);
    put_i16(&mut value, transaction.producer.epoch);
    put_i32(&mut value, transaction.timeout_ms);
    value.push(state_code(transaction.state));
    match transaction.state {
        State::Empty => value.push(0),
        _ => put_partitions(&mut value, &transaction.partitions),
    }
    put_i64(&mut value, transaction.updated_at_ms);
    put_i64(&mut value, transaction.started_at_ms.unwrap_or(NONE));
    put_tags(&mut value, transaction);
    LogEntry { key: key(transactional_id), value: Some(value.into()) }
}

fn key(transactional_id: &str) -> Bytes {
    let mut key = Vec::with_capacity(4 + transactional_id.len());
    put_i16(&mut key, KEY);
    put_string(&mut key, transactional_id);
    key.into()
}

fn put_partitions(out: &mut Vec<u8>, partitions: &Partitions) {
    put_compact_count(out, partitions.len());
    for (topic, indexes) in partitions {
        put_compact_string(out, topic);
        put_compact_count(out, indexes.len());
        for index in indexes {
            put_i32(out, *index);
        }
        out.push(NO_TAGS);
    }
}

fn put_tags(out: &mut Vec<u8>, transaction: &Transaction) {
    let protocol = match transaction.protocol {
        Protocol::V1 => None,
        Protocol::V2 => Some(2i16.to_be_bytes().to_vec()),
    };
    let id = |id: i64| id.to_be_bytes().to_vec();
    let tags = [
        (PREVIOUS_ID_TAG, transaction.previous_id.map(id)),
        (NEXT_ID_TAG, transaction.next_id.map(id)),
        (PROTOCOL_TAG, protocol),
        (LAST_EPOCH_TAG, transaction.last_epoch.map(|epoch| epoch.to_be_bytes().to_vec())),
    ];
    let tags: Vec<_> = tags.into_iter().filter_map(|(tag, field)| Some((tag, field?))).collect();
    put_varint(out, tags.len() as u32);
    for (tag, field) in tags {
        put_varint(out, tag);
        put_varint(out, field.len() as u32);
        out.extend(field);
    }
}

/// The event of an entry.
pub(super) fn decode(entry: &LogEntry) -> Result<Event, EntryError> {
    const KEY_OF: &str = "key of a transaction's record";
    let mut key = Reader::new(KEY_OF, &entry.key);
    match key.i16()? {
        KEY => {}
        version => return Err(EntryError::UnknownVersion { what: KEY_OF, version }),
    }
    let transactional_id = key.string()?;
    Ok(match &entry.value {
        None => Event::Forgotten { transactional_id },
        Some(value) => Event::Stored { transactional_id, transaction: decode_transaction(value)? },
    })
}

fn decode_transaction(value: &Bytes) -> Result<Transaction, EntryError> {
    let mut value = Reader::new(WHAT, value);
    let version = value.i16()?;
    if !(0..=VALUE).contains(&version) {
        return Err(EntryError::UnknownVersion { what: WHAT, version });
    }
    let is_flexible = version >= 1;
    let producer = Producer { id: value.i64()?, epoch: value.i16()? };
    let timeout_ms = value.i32()?;
    let code = value.i8()?;
    let state = (State::ALL.into_iter().find(|state| i8::try_from(state_code(*state)) == Ok(code)))
        .ok_or_else(|| value.malformed("there is no such state"))?;
    let partitions = if is_flexible { compact_partitions(&mut value)? } else { partitions(&mut value)? };
    let updated_at_ms = value.i64()?;
    let started_at_ms = Some(value.i64()?).filter(|at| *at != NONE);
    let mut transaction = Transaction {
        producer,
        previous_id: None,
        next_id: None,
        last_epoch: None,
        timeout_ms,
        state,
        partitions,
        started_at_ms,
        updated_at_ms,
        protocol: Protocol::V1,
    };
    if is_flexible {
        value.each_tagged(|tag, field| {
            let mut field = Reader::new(WHAT, &field);
            match tag {
                PREVIOUS_ID_TAG => transaction.previous_id = Some(field.i64()?).filter(|id| *id != NONE),
                NEXT_ID_TAG => transaction.next_id = Some(field.i64()?).filter(|id| *id != NONE),
                PROTOCOL_TAG if field.i16()? >= 2 => transaction.protocol = Protocol::V2,
                LAST_EPOCH_TAG => transaction.last_epoch = Some(field.i16()?),
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(transaction)
}

/// Grown as elements are found, never by a count: a count is only a claim.
fn compact_partitions(value: &mut Reader) -> Result<Partitions, EntryError> {
    let mut partitions = Partitions::new();
    for _ in 0..value.compact_nullable_count()?.unwrap_or(0) {
        let indexes = partitions.entry(value.compact_string()?).or_default();
        for _ in 0..value.compact_count()? {
            indexes.insert(value.i32()?);
        }
        value.tagged(None)?;
    }
    Ok(partitions)
}

fn partitions(value: &mut Reader) -> Result<Partitions, EntryError> {
    let mut partitions = Partitions::new();
    for _ in 0..value.i32()? {
        let indexes = partitions.entry(value.string()?).or_default();
        for _ in 0..value.i32()? {
            indexes.insert(value.i32()?);
        }
    }
    Ok(partitions)
}

fn state_code(state: State) -> u8 {
    match state {
        State::Empty => 0,
        State::Ongoing => 1,
        State::Prepare(Outcome::Commit) => 2,
        State::Prepare(Outcome::Abort) => 3,
        State::Complete(Outcome::Commit) => 4,
        State::Complete(Outcome::Abort) => 5,
    }
}
