//! The log's formats, byte for byte.

use super::record::{decode, encode};
use super::testing::bytes;
use super::*;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn committed(expires_at_ms: Option<i64>) -> Event {
    let leader_epoch = if expires_at_ms.is_some() { -1 } else { 7 };
    Event::OffsetCommitted {
        group_id: "g".into(),
        topic: "tp".into(),
        partition: 5,
        committed: CommittedOffset {
            offset: 66,
            leader_epoch,
            metadata: "m".into(),
            committed_at_ms: 0x0102_0304_0506_0708,
            expires_at_ms,
        },
    }
}

fn stored() -> Event {
    let member = MemberRecord {
        member_id: "m1".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        rebalance_timeout_ms: 2,
        session_timeout_ms: 1,
        subscription: bytes("s"),
        assignment: bytes("as"),
    };
    Event::GroupStored {
        group_id: "g".into(),
        record: GroupRecord {
            protocol_type: Some("consumer".into()),
            generation: 3,
            protocol: Some("range".into()),
            leader: Some("m1".into()),
            state_since_ms: Some(9),
            members: vec![member],
        },
    }
}

#[test]
fn offsets_are_written_as_kafka_writes_them() {
    let entry = encode(&committed(None)).expect("durable");
    assert_eq!(hex(&entry.key), "0001000167000274700000".to_owned() + "0005");
    assert_eq!(
        hex(&entry.value.expect("a value")),
        "0003".to_owned() + "0000000000000042" + "00000007" + "00016d" + "0102030405060708"
    );
    let entry = encode(&committed(Some(1))).expect("durable");
    assert_eq!(
        hex(&entry.value.expect("a value")),
        "0001".to_owned() + "0000000000000042" + "00016d" + "0102030405060708" + "0000000000000001"
    );
}

#[test]
fn groups_are_written_as_kafka_writes_them() {
    let entry = encode(&stored()).expect("durable");
    assert_eq!(hex(&entry.key), "0002000167");
    let expected = [
        "0003",
        "0008636f6e73756d6572",
        "00000003",
        "000572616e6765",
        "00026d31",
        "0000000000000009",
        "00000001",
        "00026d31",
        "ffff",
        "000163",
        "00022f68",
        "00000002",
        "00000001",
        "0000000173",
        "000000026173",
    ];
    assert_eq!(hex(&entry.value.expect("a value")), expected.concat());
}

#[test]
fn what_is_written_is_read() {
    let removed = Event::OffsetRemoved { group_id: "g".into(), topic: "t".into(), partition: 1 };
    let gone = Event::GroupRemoved { group_id: "g".into() };
    for event in [committed(None), committed(Some(1)), stored(), removed, gone] {
        let entry = encode(&event).expect("durable");
        assert_eq!(decode(&entry), Ok(Some(event)));
    }
}

#[test]
fn old_versions_are_read() {
    let key = encode(&committed(None)).expect("durable").key;
    let value =
        |bytes: &[u8]| LogEntry { key: key.clone(), value: Some(bytes::Bytes::copy_from_slice(bytes)) };
    let v2 = [&[0, 2][..], &66i64.to_be_bytes(), &[0, 0], &5i64.to_be_bytes()].concat();
    let Ok(Some(Event::OffsetCommitted { committed, .. })) = decode(&value(&v2)) else { panic!("not read") };
    assert_eq!((committed.offset, committed.leader_epoch, committed.committed_at_ms), (66, -1, 5));
    let v1 =
        [&[0, 1][..], &66i64.to_be_bytes(), &[0, 0], &5i64.to_be_bytes(), &(-1i64).to_be_bytes()].concat();
    let Ok(Some(Event::OffsetCommitted { committed, .. })) = decode(&value(&v1)) else { panic!("not read") };
    assert_eq!(committed.expires_at_ms, None);
}

#[test]
fn what_is_newer_is_named_and_what_is_cut_short_is_refused() {
    let entry = LogEntry { key: bytes("\0\u{9}whatever"), value: None };
    assert!(matches!(decode(&entry), Err(EntryError::UnknownVersion { version: 9, .. })));
    for event in [committed(None), committed(Some(1)), stored()] {
        let entry = encode(&event).expect("durable");
        let value = entry.value.expect("a value");
        for end in 0..value.len() {
            let cut = LogEntry { key: entry.key.clone(), value: Some(value.slice(..end)) };
            assert!(matches!(decode(&cut), Err(EntryError::Malformed { .. })), "cut at {end}");
        }
        for end in 0..entry.key.len() {
            let cut = LogEntry { key: entry.key.slice(..end), value: Some(value.clone()) };
            assert!(matches!(decode(&cut), Err(EntryError::Malformed { .. })), "key cut at {end}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(
        kind in 0u8..3,
        key in proptest::collection::vec(any::<u8>(), 0..40),
        version in 0u8..5,
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
    ) {
        let key = [&[0, kind][..], &key].concat();
        let value = value.map(|value| [&[0, version][..], &value].concat().into());
        // The outcome does not matter: it must not panic, and it must not believe a count.
        let _ = decode(&LogEntry { key: key.into(), value });
    }
}

#[test]
fn a_pending_offset_and_the_end_of_a_transaction_are_written_so() {
    let committed = CommittedOffset {
        offset: 42,
        leader_epoch: 3,
        metadata: "m".into(),
        committed_at_ms: 5,
        expires_at_ms: None,
    };
    let pending = PendingOffset { producer_epoch: 2, order: 9, committed: Some(committed) };
    let event = |pending| Event::OffsetPending {
        group_id: "g".into(),
        topic: "t".into(),
        partition: 1,
        producer_id: 4_000,
        pending,
    };
    let entry = record::encode(&event(pending.clone())).expect("durable");
    assert_eq!(&entry.key[..], b"\x40\0\0\0\0\0\0\0\x0f\xa0\0\x01g\0\x01t\0\0\0\x01");
    assert_eq!(
        &entry.value.clone().expect("a value")[..],
        b"\0\0\0\x02\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\x2a\0\0\0\x03\0\x01m\0\0\0\0\0\0\0\x05"
    );
    assert_eq!(record::decode(&entry), Ok(Some(event(pending.clone()))));

    let overtaken = event(PendingOffset { committed: None, ..pending });
    let entry = record::encode(&overtaken).expect("durable");
    assert_eq!(&entry.value.clone().expect("a value")[..], b"\0\0\0\x02\0\0\0\0\0\0\0\x09\x01");
    assert_eq!(record::decode(&entry), Ok(Some(overtaken)));

    let completion = Some(Completion { producer_epoch: 2, completed_at_ms: 5 });
    let completed = Event::ProducerCompleted { producer_id: 4_000, completion };
    let entry = record::encode(&completed).expect("durable");
    assert_eq!(&entry.key[..], b"\x40\x01\0\0\0\0\0\0\x0f\xa0");
    assert_eq!(&entry.value.clone().expect("a value")[..], b"\0\0\0\x02\0\0\0\0\0\0\0\x05");
    assert_eq!(record::decode(&entry), Ok(Some(completed)));
}

#[test]
fn pending_records_cut_anywhere_are_malformed() {
    let pending = PendingOffset { producer_epoch: 2, order: 9, committed: None };
    let (group_id, topic) = ("g".into(), "t".into());
    let event = Event::OffsetPending { group_id, topic, partition: 1, producer_id: 4_000, pending };
    let whole = record::encode(&event).expect("durable");
    for end in 2..whole.key.len() {
        let cut = LogEntry { key: whole.key.slice(..end), value: whole.value.clone() };
        assert!(matches!(record::decode(&cut), Err(EntryError::Malformed { .. })), "key cut at {end}");
    }
    let value = whole.value.clone().expect("a value");
    for end in 0..value.len() {
        let cut = LogEntry { key: whole.key.clone(), value: Some(value.slice(..end)) };
        assert!(matches!(record::decode(&cut), Err(EntryError::Malformed { .. })), "value cut at {end}");
    }
}
