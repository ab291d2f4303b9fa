//! Reads what a consumer says in its metadata: which topics it subscribes to and, where a group changes its protocol,
//! what it has; and reads and writes assignments there.
//!
//! ```text
//! subscription  version: i16 │ topics: array of string │ user data: nullable bytes
//!               │ from version 1 (KIP-429) owned: array of { topic: string │ partitions: array of i32 }
//!               │ from version 2 generation: i32 │ from version 3 rack: nullable string
//! assignment    version: i16 │ array of { topic: string │ partitions: array of i32 } │ user data: nullable bytes
//! ```
//! Notation as in `record.rs`. Every version begins like version 0.

use super::field::{Reader, put_i16, put_i32, put_string};
use crate::coordinator::machine::EntryError;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The protocol type of groups whose metadata has this form.
pub(super) const CONSUMER: &str = "consumer";

/// What a consumer says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Names of topics.
    pub(super) topics: BTreeSet<Arc<str>>,
    /// What it has and keeps until it is told otherwise; nothing if it gives everything up before it joins.
    pub(super) owned: Vec<(Arc<str>, i32)>,
    /// `client.rack`.
    pub(super) rack_id: Option<Arc<str>>,
}

/// A whole subscription; `None` if it has another form.
pub(super) fn parse(subscription: &Bytes) -> Option<Subscription> {
    let read = || -> Result<Subscription, EntryError> {
        let mut reader = Reader::new("subscription", subscription);
        let version = reader.i16()?;
        let mut parsed = Subscription::default();
        for _ in 0..reader.i32()? {
            parsed.topics.insert(reader.string()?);
        }
        reader.nullable_bytes()?;
        if version >= 1 {
            parsed.owned = partitions(&mut reader)?;
        }
        if version >= 2 {
            reader.i32()?;
        }
        if version >= 3 {
            parsed.rack_id = reader.nullable_string()?;
        }
        Ok(parsed)
    };
    read().ok()
}

/// The partitions in an assignment; `None` if it has another form.
pub(super) fn assigned(assignment: &Bytes) -> Option<Vec<(Arc<str>, i32)>> {
    let mut reader = Reader::new("assignment", assignment);
    reader.i16().ok()?;
    partitions(&mut reader).ok()
}

fn partitions(reader: &mut Reader) -> Result<Vec<(Arc<str>, i32)>, EntryError> {
    let mut partitions = Vec::new();
    for _ in 0..reader.i32()? {
        let topic = reader.string()?;
        for _ in 0..reader.i32()? {
            partitions.push((topic.clone(), reader.i32()?));
        }
    }
    Ok(partitions)
}

/// An assignment of version 0, without user data.
pub(super) fn encode_assigned(topics: &[(Arc<str>, Vec<i32>)]) -> Bytes {
    let count = |length: usize| i32::try_from(length).expect("partitions are far fewer than 2^31");
    let mut out = Vec::with_capacity(64);
    put_i16(&mut out, 0);
    put_i32(&mut out, count(topics.len()));
    for (topic, partitions) in topics {
        put_string(&mut out, topic);
        put_i32(&mut out, count(partitions.len()));
        for index in partitions {
            put_i32(&mut out, *index);
        }
    }
    put_i32(&mut out, -1);
    out.into()
}

/// The topics in `subscription`; `None` if it has another form.
pub(super) fn topics(subscription: &[u8]) -> Option<Vec<&str>> {
    let (_version, mut rest) = subscription.split_first_chunk::<2>()?;
    let (count, after) = rest.split_first_chunk::<4>()?;
    rest = after;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    // Each topic takes two bytes at least, so a count beyond that is a lie; it is refused before it is believed.
    if count > rest.len() / 2 {
        return None;
    }
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (name, after) = after.split_at_checked(length)?;
        topics.push(std::str::from_utf8(name).ok()?);
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
pub(super) fn encode(topics: &[&str]) -> bytes::Bytes {
    let mut out = vec![0, 1];
    out.extend(i32::try_from(topics.len()).expect("few").to_be_bytes());
    for topic in topics {
        out.extend(i16::try_from(topic.len()).expect("short").to_be_bytes());
        out.extend(topic.as_bytes());
    }
    out.extend((-1i32).to_be_bytes());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_topics_and_ignores_what_follows() {
        assert_eq!(topics(&encode(&["a", "flights"])), Some(vec!["a", "flights"]));
        assert_eq!(topics(&encode(&[])), Some(vec![]));
    }

    #[test]
    fn reads_what_a_member_has_and_where_it_is() {
        let mut bytes = encode(&["a"]).to_vec();
        bytes[1] = 3;
        bytes.extend(b"\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x04\0\0\0\x05\0\0\0\x09\0\x01r");
        let parsed = parse(&bytes.clone().into()).expect("a subscription");
        assert_eq!(parsed.owned, [("a".into(), 4), ("a".into(), 5)]);
        assert_eq!((parsed.topics, parsed.rack_id), (["a".into()].into(), Some("r".into())));
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end].to_vec().into()), None, "cut at {end}");
        }
    }

    #[test]
    fn assignments_round_trip() {
        let bytes = encode_assigned(&[("a".into(), vec![1, 2]), ("b".into(), vec![0])]);
        assert_eq!(assigned(&bytes), Some(vec![("a".into(), 1), ("a".into(), 2), ("b".into(), 0)]));
        assert_eq!(assigned(&Bytes::new()), None);
        assert_eq!(assigned(&bytes.slice(..12)), None);
    }

    #[test]
    fn refuses_what_is_cut_short_or_lies_about_its_count() {
        let whole = encode(&["a", "flights"]);
        for end in 0..whole.len() - 4 {
            assert_eq!(topics(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0]), None);
        assert_eq!(topics(&[0, 0, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(topics(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None);
    }
}
