//! How groups and offsets are written to the log: in the formats of Kafka's `__consumer_offsets`, so that tools which
//! read that topic read this one. Numbers are big-endian, a string is an i16 length and UTF-8, bytes are an i32 length
//! and the bytes, a nullable string of length -1 is null, an array begins with an i32 count.
//!
//! ```text
//! offset key     version: i16 = 1 │ group: string │ topic: string │ partition: i32
//! offset value   version: i16 = 3 │ offset: i64 │ leader epoch: i32 │ metadata: string │ committed at: i64
//!                version: i16 = 1 │ offset: i64 │ metadata: string │ committed at: i64 │ expires at: i64
//! group key      version: i16 = 2 │ group: string
//! group value    version: i16 = 3 │ protocol type: string │ generation: i32 │ protocol: nullable string
//!                │ leader: nullable string │ state since: i64 │ members: array of
//!                  member id: string │ instance id: nullable string │ client id: string │ client host: string
//!                  │ rebalance timeout: i32 │ session timeout: i32 │ subscription: bytes │ assignment: bytes
//! ```
//! Times are wall-clock milliseconds, time spans milliseconds. Version 1 of the offset value is written when a client
//! chose a time of expiry, which version 3 has no field for; it costs the leader epoch. Older versions are read:
//! offset keys 0, offset values 0 to 2 and group values 0 to 2 are version 3 with fields left out.

use super::field::{Reader, put_bytes, put_i16, put_i32, put_i64, put_nullable_string, put_string};
use super::{CommittedOffset, Event, GroupRecord, MemberRecord, consumer, pending_record};
use crate::coordinator::machine::{EntryError, LogEntry};
use bytes::Bytes;

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 3;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE: i16 = 3;

/// The entry of a durable event; `None` for a soft one.
pub(super) fn encode(event: &Event) -> Option<LogEntry> {
    match event {
        Event::GroupStored { group_id, record } => Some(encode_group(group_id, record)),
        Event::ConsumerStored { group_id, record } => Some(consumer::encode(group_id, record)),
        Event::GroupRemoved { group_id } => Some(LogEntry { key: group_key(group_id), value: None }),
        Event::OffsetCommitted { group_id, topic, partition, committed } => {
            Some(encode_offset(group_id, topic, *partition, committed))
        }
        Event::OffsetRemoved { group_id, topic, partition } => {
            Some(LogEntry { key: offset_key(group_id, topic, *partition), value: None })
        }
        Event::OffsetPending { group_id, topic, partition, producer_id, pending } => {
            let place = (&**group_id, &**topic, *partition);
            Some(pending_record::encode_pending(*producer_id, place, Some(pending)))
        }
        Event::PendingOffsetRemoved { group_id, topic, partition, producer_id } => {
            let place = (&**group_id, &**topic, *partition);
            Some(pending_record::encode_pending(*producer_id, place, None))
        }
        Event::ProducerCompleted { producer_id, completion } => {
            Some(pending_record::encode_completion(*producer_id, completion.as_ref()))
        }
        Event::MembershipChanged(_)
        | Event::ConsumerChanged { .. }
        | Event::TopicsSet(_)
        | Event::MemberSeen { .. }
        | Event::DeadlinePassed { .. }
        | Event::GroupDropped { .. }
        | Event::Swept { .. } => None,
    }
}

pub(super) fn encode_offset(
    group_id: &str,
    topic: &str,
    partition: i32,
    committed: &CommittedOffset,
) -> LogEntry {
    let mut value = Vec::with_capacity(24 + committed.metadata.len());
    match committed.expires_at_ms {
        None => {
            put_i16(&mut value, OFFSET_VALUE);
            put_i64(&mut value, committed.offset);
            put_i32(&mut value, committed.leader_epoch);
            put_string(&mut value, &committed.metadata);
            put_i64(&mut value, committed.committed_at_ms);
        }
        Some(expires_at_ms) => {
            put_i16(&mut value, OFFSET_VALUE_WITH_EXPIRY);
            put_i64(&mut value, committed.offset);
            put_string(&mut value, &committed.metadata);
            put_i64(&mut value, committed.committed_at_ms);
            put_i64(&mut value, expires_at_ms);
        }
    }
    LogEntry { key: offset_key(group_id, topic, partition), value: Some(value.into()) }
}

pub(super) fn encode_group(group_id: &str, record: &GroupRecord) -> LogEntry {
    let mut value = Vec::with_capacity(64 + record.members.len() * 160);
    put_i16(&mut value, GROUP_VALUE);
    put_string(&mut value, record.protocol_type.as_deref().unwrap_or_default());
    put_i32(&mut value, record.generation);
    put_nullable_string(&mut value, record.protocol.as_deref());
    put_nullable_string(&mut value, record.leader.as_deref());
    put_i64(&mut value, record.state_since_ms.unwrap_or(-1));
    put_i32(&mut value, i32::try_from(record.members.len()).expect("group.max.size is far below 2^31"));
    for member in &record.members {
        put_string(&mut value, &member.member_id);
        put_nullable_string(&mut value, member.instance_id.as_deref());
        put_string(&mut value, &member.client_id);
        put_string(&mut value, &member.client_host);
        put_i32(&mut value, member.rebalance_timeout_ms);
        put_i32(&mut value, member.session_timeout_ms);
        put_bytes(&mut value, &member.subscription);
        put_bytes(&mut value, &member.assignment);
    }
    LogEntry { key: group_key(group_id), value: Some(value.into()) }
}

fn offset_key(group_id: &str, topic: &str, partition: i32) -> Bytes {
    let mut key = Vec::with_capacity(10 + group_id.len() + topic.len());
    put_i16(&mut key, OFFSET_KEY);
    put_string(&mut key, group_id);
    put_string(&mut key, topic);
    put_i32(&mut key, partition);
    key.into()
}

fn group_key(group_id: &str) -> Bytes {
    let mut key = Vec::with_capacity(4 + group_id.len());
    put_i16(&mut key, GROUP_KEY);
    put_string(&mut key, group_id);
    key.into()
}

/// The event of an entry; `Ok(None)` when the entry removes what its own version never had.
pub(super) fn decode(entry: &LogEntry) -> Result<Option<Event>, EntryError> {
    let mut key = Reader::new("key of a group's record", &entry.key);
    match key.i16()? {
        0 | OFFSET_KEY => {
            let (group_id, topic, partition) = (key.string()?, key.string()?, key.i32()?);
            Ok(Some(match &entry.value {
                None => Event::OffsetRemoved { group_id, topic, partition },
                Some(value) => {
                    Event::OffsetCommitted { group_id, topic, partition, committed: decode_offset(value)? }
                }
            }))
        }
        GROUP_KEY => {
            let group_id = key.string()?;
            Ok(Some(match &entry.value {
                None => Event::GroupRemoved { group_id },
                Some(value) => Event::GroupStored { group_id, record: decode_group(value)? },
            }))
        }
        kind => consumer::decode(kind, &mut key, entry.value.as_ref())
            .or_else(|| pending_record::decode(kind, &mut key, entry.value.as_ref()))
            .unwrap_or(Err(EntryError::UnknownVersion { what: "key of a group's record", version: kind }))
            .map(Some),
    }
}

fn decode_offset(value: &Bytes) -> Result<CommittedOffset, EntryError> {
    let mut value = Reader::new("committed offset", value);
    let version = value.i16()?;
    if !(0..=3).contains(&version) {
        return Err(EntryError::UnknownVersion { what: "committed offset", version });
    }
    let offset = value.i64()?;
    let leader_epoch = if version >= 3 { value.i32()? } else { -1 };
    let metadata = value.string()?;
    let committed_at_ms = value.i64()?;
    let expires_at_ms = if version == 1 { Some(value.i64()?).filter(|at| *at >= 0) } else { None };
    Ok(CommittedOffset { offset, leader_epoch, metadata, committed_at_ms, expires_at_ms })
}

fn decode_group(value: &Bytes) -> Result<GroupRecord, EntryError> {
    let mut value = Reader::new("group", value);
    let version = value.i16()?;
    if !(0..=3).contains(&version) {
        return Err(EntryError::UnknownVersion { what: "group", version });
    }
    let protocol_type = Some(value.string()?).filter(|kind| !kind.is_empty());
    let generation = value.i32()?;
    let protocol = value.nullable_string()?;
    let leader = value.nullable_string()?;
    let state_since_ms = if version >= 2 { Some(value.i64()?).filter(|at| *at >= 0) } else { None };
    let count = value.i32()?;
    // Grown as members are found, never by the count: the count is only a claim.
    let mut members = Vec::new();
    for _ in 0..count {
        let member_id = value.string()?;
        let instance_id = if version >= 3 { value.nullable_string()? } else { None };
        let (client_id, client_host) = (value.string()?, value.string()?);
        let rebalance_timeout_ms = if version >= 1 { Some(value.i32()?) } else { None };
        let session_timeout_ms = value.i32()?;
        members.push(MemberRecord {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: value.bytes()?,
            assignment: value.bytes()?,
        });
    }
    Ok(GroupRecord { protocol_type, generation, protocol, leader, state_since_ms, members })
}
