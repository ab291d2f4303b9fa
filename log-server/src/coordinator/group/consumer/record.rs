//! How consumer groups are written to the log: in the formats of Kafka's `__consumer_offsets`, see `field.rs` for the
//! notation. Values are of version 0 and end, as every structure in them does, with tagged fields, of which none are
//! written unless named here.
//!
//! ```text
//! key 3   group                     epoch: i32
//! key 4   group                     topics: array of { id: uuid │ name: compact string │ partitions: i32 │ racks: array }
//! key 5   group │ member            instance: compact nullable string │ rack: same │ client id: compact string
//!                                   │ client host: same │ topic names: array of compact string
//!                                   │ pattern: compact nullable string │ rebalance timeout: i32
//!                                   │ assignor: compact nullable string │ tag 0: 1: i8 │ session timeout: i32
//!                                     │ protocols: array of { name: compact string │ metadata: compact bytes }
//! key 6   group                     assignment epoch: i32
//! key 7   group │ member            topics: array of { id: uuid │ partitions: array of i32 }
//! key 8   group │ member            epoch: i32 │ previous epoch: i32 │ state: i8
//!                                   │ assigned: array as in key 7, with tag 0: assignment epochs: array of i32
//!                                   │ pending revocation: same
//! key 16  group │ pattern           topic names: array of compact string │ version: i64 │ resolved at: i64
//! ```
//! A key is its number as an i16 and the strings that stand beside it. Since 4.1 Kafka itself writes a hash in tag 0 of
//! key 3 instead of key 4, which it still reads.

use super::{Assignment, ClassicMember, ConsumerRecord, Current, MemberMetadata, MemberState, ResolvedRegex};
use super::{TopicId, TopicInfo};
use crate::coordinator::group::Event;
use crate::coordinator::group::field::{
    Reader, put_compact_bytes, put_compact_count, put_compact_nullable_string, put_compact_string, put_i16,
    put_i32, put_i64, put_string, put_varint,
};
use crate::coordinator::machine::{EntryError, LogEntry};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const VALUE: i16 = 0;
const NO_TAGS: u8 = 0;
const CLASSIC_TAG: u32 = 0;
const ASSIGNMENT_EPOCHS_TAG: u32 = 0;

/// The entry of a record of `group_id`.
pub(in crate::coordinator::group) fn encode(group_id: &str, record: &ConsumerRecord) -> LogEntry {
    let (kind, second, value) = match record {
        ConsumerRecord::Epoch(epoch) => (3, None, epoch.map(|epoch| value(|out| put_i32(out, epoch)))),
        ConsumerRecord::Topics(topics) => {
            (4, None, topics.as_ref().map(|topics| value(|out| put_topics(out, topics))))
        }
        ConsumerRecord::Member(id, metadata) => (5, Some(id), metadata.as_ref().map(member_value)),
        ConsumerRecord::TargetEpoch(epoch) => (6, None, epoch.map(|epoch| value(|out| put_i32(out, epoch)))),
        ConsumerRecord::Target(id, target) => {
            (7, Some(id), target.as_ref().map(|target| value(|out| put_assignment(out, target))))
        }
        ConsumerRecord::Current(id, current) => {
            (8, Some(id), current.as_ref().map(|current| value(|out| put_current(out, current))))
        }
        ConsumerRecord::Regex(pattern, found) => {
            (16, Some(pattern), found.as_ref().map(|found| value(|out| put_found(out, found))))
        }
    };
    let mut key = Vec::with_capacity(8 + group_id.len() + second.map_or(0, |second| second.len()));
    put_i16(&mut key, kind);
    put_string(&mut key, group_id);
    if let Some(second) = second {
        put_string(&mut key, second);
    }
    LogEntry { key: key.into(), value }
}

fn value(put: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(64);
    put_i16(&mut out, VALUE);
    put(&mut out);
    out.push(NO_TAGS);
    out.into()
}

fn put_topics(out: &mut Vec<u8>, topics: &BTreeMap<Arc<str>, TopicInfo>) {
    put_compact_count(out, topics.len());
    for (name, info) in topics {
        out.extend(info.id.0);
        put_compact_string(out, name);
        put_i32(out, info.partitions);
        put_compact_count(out, 0);
        out.push(NO_TAGS);
    }
}

fn member_value(member: &MemberMetadata) -> Bytes {
    let mut out = Vec::with_capacity(128);
    put_i16(&mut out, VALUE);
    put_compact_nullable_string(&mut out, member.instance_id.as_deref());
    put_compact_nullable_string(&mut out, member.rack_id.as_deref());
    put_compact_string(&mut out, &member.client_id);
    put_compact_string(&mut out, &member.client_host);
    put_compact_count(&mut out, member.topic_names.len());
    for name in &member.topic_names {
        put_compact_string(&mut out, name);
    }
    put_compact_nullable_string(&mut out, member.topic_regex.as_deref());
    put_i32(&mut out, member.rebalance_timeout_ms);
    put_compact_nullable_string(&mut out, member.assignor.as_deref());
    put_optional_tag(&mut out, CLASSIC_TAG, member.classic.as_ref(), |tagged, classic| {
        tagged.push(1);
        put_i32(tagged, classic.session_timeout_ms);
        put_compact_count(tagged, classic.protocols.len());
        for (name, metadata) in &classic.protocols {
            put_compact_string(tagged, name);
            put_compact_bytes(tagged, metadata);
            tagged.push(NO_TAGS);
        }
        tagged.push(NO_TAGS);
    });
    out.into()
}

/// Ends a structure with one tagged field, or with none where there is no `value`.
fn put_optional_tag<T>(out: &mut Vec<u8>, tag: u32, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    let Some(value) = value else { return out.push(NO_TAGS) };
    let mut tagged = Vec::new();
    put(&mut tagged, value);
    put_varint(out, 1);
    put_varint(out, tag);
    put_varint(out, u32::try_from(tagged.len()).expect("a request is far below 4 GiB"));
    out.extend(tagged);
}

fn put_assignment(out: &mut Vec<u8>, assignment: &Assignment) {
    put_compact_count(out, assignment.topics().len());
    for (topic, partitions) in assignment.topics() {
        out.extend(topic.0);
        put_compact_count(out, partitions.len());
        for index in partitions {
            put_i32(out, *index);
        }
        out.push(NO_TAGS);
    }
}

fn put_current(out: &mut Vec<u8>, current: &Current) {
    put_i32(out, current.epoch);
    put_i32(out, current.previous_epoch);
    out.push(current.state as u8);
    put_held(out, current, &current.assigned);
    put_held(out, current, &current.pending_revocation);
}

/// As [`put_assignment`], with the epochs at which the member got the partitions of each topic, in their order. A static
/// member that is away has none.
fn put_held(out: &mut Vec<u8>, current: &Current, held: &Assignment) {
    put_compact_count(out, held.topics().len());
    for (topic, partitions) in held.topics() {
        out.extend(topic.0);
        put_compact_count(out, partitions.len());
        for index in partitions {
            put_i32(out, *index);
        }
        let epoch = |index: &i32| current.assignment_epochs.get(&(topic, *index));
        let epochs: Option<Vec<&i32>> = partitions.iter().map(epoch).collect();
        put_optional_tag(out, ASSIGNMENT_EPOCHS_TAG, epochs, |tagged, epochs| {
            put_compact_count(tagged, epochs.len());
            for epoch in epochs {
                put_i32(tagged, *epoch);
            }
        });
    }
}

fn put_found(out: &mut Vec<u8>, found: &ResolvedRegex) {
    put_compact_count(out, found.topics.len());
    for name in &found.topics {
        put_compact_string(out, name);
    }
    put_i64(out, found.version);
    put_i64(out, found.resolved_at_ms);
}

/// The event of an entry with a key of this `kind`, whose number is read already; `None` if it is none of a consumer
/// group's.
pub(in crate::coordinator::group) fn decode(
    kind: i16,
    key: &mut Reader,
    value: Option<&Bytes>,
) -> Option<Result<Event, EntryError>> {
    let decoded = match kind {
        3..=8 | 16 => event(kind, key, value),
        _ => return None,
    };
    Some(decoded)
}

fn event(kind: i16, key: &mut Reader, value: Option<&Bytes>) -> Result<Event, EntryError> {
    let group_id = key.string()?;
    let record = match kind {
        3 => ConsumerRecord::Epoch(read(value, |value| value.i32())?),
        4 => ConsumerRecord::Topics(read(value, topics)?),
        5 => ConsumerRecord::Member(key.string()?, value.map(member).transpose()?),
        6 => ConsumerRecord::TargetEpoch(read(value, |value| value.i32())?),
        7 => ConsumerRecord::Target(key.string()?, read(value, assignment)?.map(Arc::new)),
        8 => ConsumerRecord::Current(key.string()?, read(value, current)?),
        _ => ConsumerRecord::Regex(key.string()?, read(value, found)?),
    };
    Ok(Event::ConsumerStored { group_id, record })
}

const WHAT: &str = "record of a consumer group";

/// Reads a value whose only tagged fields are those of later versions.
fn read<T>(
    value: Option<&Bytes>,
    fields: impl FnOnce(&mut Reader) -> Result<T, EntryError>,
) -> Result<Option<T>, EntryError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = begin(value)?;
    let fields = fields(&mut reader)?;
    reader.tagged(None)?;
    Ok(Some(fields))
}

fn begin(value: &Bytes) -> Result<Reader, EntryError> {
    let mut reader = Reader::new(WHAT, value);
    match reader.i16()? {
        VALUE => Ok(reader),
        version => Err(EntryError::UnknownVersion { what: WHAT, version }),
    }
}

fn topics(value: &mut Reader) -> Result<BTreeMap<Arc<str>, TopicInfo>, EntryError> {
    let mut topics = BTreeMap::new();
    for _ in 0..value.compact_count()? {
        let (id, name, partitions) = (TopicId(value.uuid()?), value.compact_string()?, value.i32()?);
        for _ in 0..value.compact_count()? {
            // Racks by partition, which brokers before 4.0 wrote.
            value.i32()?;
            for _ in 0..value.compact_count()? {
                value.compact_string()?;
            }
            value.tagged(None)?;
        }
        value.tagged(None)?;
        topics.insert(name, TopicInfo { id, partitions });
    }
    Ok(topics)
}

fn member(value: &Bytes) -> Result<MemberMetadata, EntryError> {
    let mut value = begin(value)?;
    let mut member = MemberMetadata {
        instance_id: value.compact_nullable_string()?,
        rack_id: value.compact_nullable_string()?,
        client_id: value.compact_string()?,
        client_host: value.compact_string()?,
        topic_names: names(&mut value)?,
        topic_regex: value.compact_nullable_string()?.filter(|pattern| !pattern.is_empty()),
        rebalance_timeout_ms: value.i32()?,
        assignor: value.compact_nullable_string()?,
        classic: None,
    };
    if let Some(tagged) = value.tagged(Some(CLASSIC_TAG))? {
        let mut tagged = Reader::new(WHAT, &tagged);
        if tagged.i8()? == 1 {
            member.classic = Some(classic(&mut tagged)?);
        }
    }
    Ok(member)
}

fn classic(value: &mut Reader) -> Result<ClassicMember, EntryError> {
    let session_timeout_ms = value.i32()?;
    let mut protocols = Vec::new();
    for _ in 0..value.compact_count()? {
        protocols.push((value.compact_string()?, value.compact_bytes()?));
        value.tagged(None)?;
    }
    Ok(ClassicMember { session_timeout_ms, protocols })
}

fn names(value: &mut Reader) -> Result<BTreeSet<Arc<str>>, EntryError> {
    let mut names = BTreeSet::new();
    for _ in 0..value.compact_count()? {
        names.insert(value.compact_string()?);
    }
    Ok(names)
}

fn assignment(value: &mut Reader) -> Result<Assignment, EntryError> {
    let mut assignment = Assignment::default();
    for _ in 0..value.compact_count()? {
        let topic = TopicId(value.uuid()?);
        for _ in 0..value.compact_count()? {
            assignment.insert(topic, value.i32()?);
        }
        value.tagged(None)?;
    }
    Ok(assignment)
}

/// Reads what a member holds, and puts the epochs at which it got it into `epochs`.
fn held(value: &mut Reader, epochs: &mut BTreeMap<(TopicId, i32), i32>) -> Result<Assignment, EntryError> {
    let mut held = Assignment::default();
    for _ in 0..value.compact_count()? {
        let topic = TopicId(value.uuid()?);
        let mut partitions = Vec::new();
        for _ in 0..value.compact_count()? {
            partitions.push(value.i32()?);
        }
        held.extend(partitions.iter().map(|index| (topic, *index)));
        let Some(tagged) = value.tagged(Some(ASSIGNMENT_EPOCHS_TAG))? else { continue };
        let mut tagged = Reader::new(WHAT, &tagged);
        let Some(count) = tagged.compact_nullable_count()? else { continue };
        if count as usize != partitions.len() {
            return Err(value.malformed("there are not as many assignment epochs as partitions"));
        }
        for index in partitions {
            epochs.insert((topic, index), tagged.i32()?);
        }
    }
    Ok(held)
}

fn current(value: &mut Reader) -> Result<Current, EntryError> {
    let mut assignment_epochs = BTreeMap::new();
    let mut current = Current {
        epoch: value.i32()?,
        previous_epoch: value.i32()?,
        state: match value.i8()? {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => return Err(value.malformed("a member's state is none that is known")),
        },
        assigned: held(value, &mut assignment_epochs)?,
        pending_revocation: held(value, &mut assignment_epochs)?,
        assignment_epochs: BTreeMap::new(),
    };
    if current.epoch > 0 {
        // Those that wrote none knew no other epoch than the one that the member had.
        for partition in current.held() {
            assignment_epochs.entry(partition).or_insert(current.epoch);
        }
        current.assignment_epochs = assignment_epochs;
    }
    Ok(current)
}

fn found(value: &mut Reader) -> Result<ResolvedRegex, EntryError> {
    Ok(ResolvedRegex { topics: names(value)?, version: value.i64()?, resolved_at_ms: value.i64()? })
}
