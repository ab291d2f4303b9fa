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

use super::{CommittedOffset, Event, GroupRecord, MemberRecord};
use crate::coordinator::machine::{EntryError, LogEntry};
use bytes::Bytes;
use std::sync::Arc;

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 3;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE: i16 = 3;

/// The entry of a durable event; `None` for a soft one.
pub(super) fn encode(event: &Event) -> Option<LogEntry> {
    match event {
        Event::GroupStored { group_id, record } => Some(encode_group(group_id, record)),
        Event::GroupRemoved { group_id } => Some(LogEntry { key: group_key(group_id), value: None }),
        Event::OffsetCommitted { group_id, topic, partition, committed } => {
            Some(encode_offset(group_id, topic, *partition, committed))
        }
        Event::OffsetRemoved { group_id, topic, partition } => {
            Some(LogEntry { key: offset_key(group_id, topic, *partition), value: None })
        }
        Event::MembershipChanged(_)
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
    let mut key = Reader { what: "key of a group's record", rest: entry.key.clone() };
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
        version => Err(EntryError::UnknownVersion { what: "key of a group's record", version }),
    }
}

fn decode_offset(value: &Bytes) -> Result<CommittedOffset, EntryError> {
    let mut value = Reader { what: "committed offset", rest: value.clone() };
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
    let mut value = Reader { what: "group", rest: value.clone() };
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

fn put_i16(out: &mut Vec<u8>, number: i16) {
    out.extend(number.to_be_bytes());
}

fn put_i32(out: &mut Vec<u8>, number: i32) {
    out.extend(number.to_be_bytes());
}

fn put_i64(out: &mut Vec<u8>, number: i64) {
    out.extend(number.to_be_bytes());
}

/// Strings come out of the protocol, where their length is an i16 or, in flexible versions, bounded alike by the
/// decoder; a longer one would be a fault of ours and is cut at a character rather than corrupting the record.
fn put_string(out: &mut Vec<u8>, string: &str) {
    let end = string.floor_char_boundary(string.len().min(i16::MAX as usize));
    put_i16(out, end as i16);
    out.extend(&string.as_bytes()[..end]);
}

fn put_nullable_string(out: &mut Vec<u8>, string: Option<&str>) {
    match string {
        Some(string) => put_string(out, string),
        None => put_i16(out, -1),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_i32(out, i32::try_from(bytes.len()).expect("a request is far below 2 GiB"));
    out.extend(bytes);
}

/// Reads a record's fields in order; every length is checked against what is there.
struct Reader {
    what: &'static str,
    rest: Bytes,
}

impl Reader {
    fn malformed(&self, reason: &'static str) -> EntryError {
        EntryError::Malformed { what: self.what, reason }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, EntryError> {
        if length > self.rest.len() {
            return Err(self.malformed("it ends before a field does"));
        }
        Ok(self.rest.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|i| bytes[i]))
    }

    fn i16(&mut self) -> Result<i16, EntryError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, EntryError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, EntryError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<Arc<str>, EntryError> {
        self.nullable_string()?.ok_or_else(|| self.malformed("a string is null that must not be"))
    }

    fn nullable_string(&mut self) -> Result<Option<Arc<str>>, EntryError> {
        let length = self.i16()?;
        let Ok(length) = usize::try_from(length) else {
            return if length == -1 { Ok(None) } else { Err(self.malformed("a length is negative")) };
        };
        let bytes = self.take(length)?;
        let string = std::str::from_utf8(&bytes).map_err(|_| self.malformed("a string is not UTF-8"))?;
        Ok(Some(Arc::from(string)))
    }

    /// Copied, so that a small piece does not keep a whole segment's memory alive.
    fn bytes(&mut self) -> Result<Bytes, EntryError> {
        let length = usize::try_from(self.i32()?).map_err(|_| self.malformed("a length is negative"))?;
        Ok(Bytes::copy_from_slice(&self.take(length)?))
    }
}
