//! The records' formats, byte for byte.

use super::record::encode;
use super::testing::id;
use super::*;
use crate::coordinator::group::{Event, GroupCoordinator};
use crate::coordinator::machine::{LogEntry, StateMachine};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assignment() -> Assignment {
    [(id(0xaa), 1), (id(0xaa), 2)].into_iter().collect()
}

const AA: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const BB: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn member() -> MemberMetadata {
    MemberMetadata {
        instance_id: Some("i".into()),
        rack_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        topic_names: ["t".into(), "u".into()].into(),
        topic_regex: Some("x.*".into()),
        rebalance_timeout_ms: 7,
        assignor: Some("range".into()),
        classic: None,
    }
}

fn records() -> Vec<(ConsumerRecord, &'static str, String)> {
    let topics: BTreeMap<Arc<str>, TopicInfo> =
        [("t".into(), TopicInfo { id: id(0xaa), partitions: 3 })].into();
    let current = Current {
        epoch: 5,
        previous_epoch: 4,
        state: MemberState::UnrevokedPartitions,
        assigned: assignment(),
        pending_revocation: [(id(0xbb), 7)].into_iter().collect(),
        assignment_epochs: [((id(0xaa), 1), 3), ((id(0xaa), 2), 5), ((id(0xbb), 7), 4)].into(),
    };
    let found = ResolvedRegex { topics: ["t".into()].into(), version: 9, resolved_at_ms: 10 };
    let partitions = format!("02{AA}03000000010000000200");
    let said = "000002690002630 32f68 03 0274 0275 04782e2a 00000007 0672616e6765".replace(' ', "");
    let classic =
        ClassicMember { session_timeout_ms: 8, protocols: vec![("p".into(), Bytes::from_static(b"m"))] };
    vec![
        (ConsumerRecord::Epoch(Some(6)), "0003000167", "00000000000600".into()),
        (ConsumerRecord::Topics(Some(topics)), "0004000167", format!("000002{AA}0274000000030100") + "00"),
        (ConsumerRecord::Member("m".into(), Some(member())), "000500016700016d", said.clone() + "00"),
        (
            ConsumerRecord::Member("m".into(), Some(MemberMetadata { classic: Some(classic), ..member() })),
            "000500016700016d",
            said + "01000c" + "01" + "00000008" + "02" + "0270" + "026d" + "00" + "00",
        ),
        (ConsumerRecord::TargetEpoch(Some(6)), "0006000167", "00000000000600".into()),
        (
            ConsumerRecord::Target("m".into(), Some(Arc::new(assignment()))),
            "000700016700016d",
            format!("0000{partitions}00"),
        ),
        (
            ConsumerRecord::Current("m".into(), Some(current)),
            "000800016700016d",
            format!("00000000000500000004 01 02{AA}030000000100000002 01 00 09 03 00000003 00000005")
                .replace(' ', "")
                + &format!("02{BB}0200000007 01 00 05 02 00000004 00").replace(' ', ""),
        ),
        (
            ConsumerRecord::Regex("x.*".into(), Some(found)),
            "00100001670003782e2a",
            "0000020274000000000000000900000000 0000000a00".replace(' ', ""),
        ),
    ]
}

#[test]
fn records_are_written_as_kafka_writes_them() {
    for (record, key, value) in records() {
        let entry = encode("g", &record);
        assert_eq!(hex(&entry.key), key, "{record:?}");
        assert_eq!(hex(&entry.value.clone().expect("a value")), value, "{record:?}");
        let event = Event::ConsumerStored { group_id: "g".into(), record };
        assert_eq!(GroupCoordinator::decode(&entry), Ok(Some(event)));
    }
}

#[test]
fn tombstones_say_what_is_gone() {
    for (record, key, _) in records() {
        let entry = LogEntry { key: encode("g", &record).key, value: None };
        assert_eq!(hex(&entry.key), key);
        let Ok(Some(Event::ConsumerStored { record, .. })) = GroupCoordinator::decode(&entry) else {
            panic!()
        };
        assert!(record.is_tombstone(), "{record:?}");
        assert_eq!(encode("g", &record), entry);
    }
}

#[test]
fn what_is_cut_short_is_an_error() {
    for (record, _, _) in records() {
        let LogEntry { key, value } = encode("g", &record);
        let value = value.expect("a value");
        for end in 0..value.len() {
            let entry = LogEntry { key: key.clone(), value: Some(value.slice(..end)) };
            assert!(GroupCoordinator::decode(&entry).is_err(), "{record:?} cut at {end}");
        }
    }
}

#[test]
fn a_member_without_assignment_epochs_has_all_since_its_own() {
    let of = |epoch: &str| {
        let value = format!("0000{epoch}0000000400 02{AA}0300000001000000020001 00").replace(' ', "");
        let value: Vec<u8> = (0..value.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&value[at..at + 2], 16).unwrap())
            .collect();
        let entry = LogEntry { key: Bytes::from_static(b"\0\x08\0\x01g\0\x01m"), value: Some(value.into()) };
        let Ok(Some(Event::ConsumerStored { record: ConsumerRecord::Current(_, Some(current)), .. })) =
            GroupCoordinator::decode(&entry)
        else {
            panic!()
        };
        assert_eq!(current.assigned, assignment());
        current.assignment_epochs
    };
    assert_eq!(of("00000005"), [((id(0xaa), 1), 5), ((id(0xaa), 2), 5)].into());
    assert_eq!(of("fffffffe"), BTreeMap::new(), "a static member that is away");
}

#[test]
fn fields_of_later_versions_are_passed_over() {
    // Kafka 4.1 writes a hash of the topics into tag 0 of the group's record.
    let value = Bytes::from_static(b"\0\0\0\0\0\x06\x01\0\x08\0\0\0\0\0\0\0\x2a");
    let entry = LogEntry { key: Bytes::from_static(b"\0\x03\0\x01g"), value: Some(value) };
    let event = Event::ConsumerStored { group_id: "g".into(), record: ConsumerRecord::Epoch(Some(6)) };
    assert_eq!(GroupCoordinator::decode(&entry), Ok(Some(event)));
}
