//! The bytes of the log, written by hand after Kafka's definitions of its records.

use super::testing::*;
use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn full() -> Transaction {
    Transaction {
        producer: Producer { id: 7, epoch: 3 },
        previous_id: Some(5),
        next_id: Some(9),
        last_epoch: Some(2),
        timeout_ms: 60_000,
        state: State::Prepare(Outcome::Commit),
        partitions: Partitions::from([("a".into(), BTreeSet::from([0, 1]))]),
        started_at_ms: Some(0x0102),
        updated_at_ms: 0x0304,
        protocol: Protocol::V2,
    }
}

#[test]
fn the_bytes_are_kafkas() {
    let entry = record::encode_transaction("tx", &full());
    assert_eq!(entry.key, [&[0, 0, 0, 2][..], b"tx"].concat());
    let expected = [
        &[0, 1][..],
        &[0, 0, 0, 0, 0, 0, 0, 7],
        &[0, 3],
        &[0, 0, 0xea, 0x60],
        &[2],
        &[2, 2, b'a', 3, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0, 0, 0, 0, 0, 0, 3, 4],
        &[0, 0, 0, 0, 0, 0, 1, 2],
        &[4],
        &[0, 8, 0, 0, 0, 0, 0, 0, 0, 5],
        &[1, 8, 0, 0, 0, 0, 0, 0, 0, 9],
        &[2, 2, 0, 2],
        &[0xe8, 7, 2, 0, 2],
    ]
    .concat();
    assert_eq!(entry.value.unwrap(), expected);
}

#[test]
fn an_empty_one_has_a_null_array_and_no_tags() {
    let now = Now { monotonic_ms: 0, wall_ms: 1 };
    let entry = record::encode_transaction("tx", &Transaction::new(7, 1, now));
    let expected = [
        &[0, 1][..],
        &[0, 0, 0, 0, 0, 0, 0, 7],
        &[0, 0],
        &[0, 0, 0, 1],
        &[0],
        &[0],
        &[0, 0, 0, 0, 0, 0, 0, 1],
        &[0xff; 8],
        &[0],
    ]
    .concat();
    assert_eq!(entry.value.unwrap(), expected);
}

#[test]
fn version_0_and_tags_of_later_versions_are_read() {
    let version_0 = [
        &[0, 0][..],
        &[0, 0, 0, 0, 0, 0, 0, 7],
        &[0, 3],
        &[0, 0, 0, 9],
        &[1],
        &[0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 4],
        &[0, 0, 0, 0, 0, 0, 0, 2],
        &[0, 0, 0, 0, 0, 0, 0, 1],
    ]
    .concat();
    let key = Bytes::from_static(&[0, 0, 0, 1, b't']);
    let entry = LogEntry { key: key.clone(), value: Some(version_0.into()) };
    let expected = Transaction {
        producer: Producer { id: 7, epoch: 3 },
        previous_id: None,
        next_id: None,
        last_epoch: None,
        timeout_ms: 9,
        state: State::Ongoing,
        partitions: Partitions::from([("a".into(), BTreeSet::from([4]))]),
        started_at_ms: Some(1),
        updated_at_ms: 2,
        protocol: Protocol::V1,
    };
    let stored = |transaction| Event::Stored { transactional_id: "t".into(), transaction };
    assert_eq!(record::decode(&entry), Ok(stored(expected)));

    let mut value = record::encode_transaction("t", &full()).value.unwrap().to_vec();
    let tags = value.len() - 30;
    assert_eq!(value[tags], 4);
    value[tags] = 5;
    value.extend([3, 2, 0, 0]);
    let entry = LogEntry { key: key.clone(), value: Some(value.into()) };
    assert_eq!(record::decode(&entry), Ok(stored(full())));
    let forgotten = Event::Forgotten { transactional_id: "t".into() };
    assert_eq!(record::decode(&LogEntry { key, value: None }), Ok(forgotten));
}

#[test]
fn what_is_not_understood_is_an_error() {
    let entry = record::encode_transaction(ID, &full());
    let value = entry.value.clone().unwrap();
    for length in 0..value.len() {
        let cut = LogEntry { value: Some(value.slice(..length)), ..entry.clone() };
        assert!(record::decode(&cut).is_err(), "{length} bytes");
    }
    for length in 0..entry.key.len() {
        assert!(record::decode(&LogEntry { key: entry.key.slice(..length), value: None }).is_err());
    }
    let of_key_version = |version| LogEntry { key: Bytes::from(vec![0, version, 0, 0]), value: None };
    let unknown = record::decode(&of_key_version(1));
    assert!(matches!(unknown, Err(EntryError::UnknownVersion { version: 1, .. })));
    let mut of_state_6 = value.to_vec();
    of_state_6[16] = 6;
    let of_state_6 = LogEntry { value: Some(of_state_6.into()), ..entry };
    assert!(matches!(record::decode(&of_state_6), Err(EntryError::Malformed { .. })));
}

proptest! {
    #[test]
    fn random_bytes_are_decoded_or_refused(
        key in proptest::collection::vec(any::<u8>(), 0..16),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..96)),
        is_version_1 in any::<bool>(),
    ) {
        let key = if is_version_1 { [&[0, 0, 0, 1, b't'][..]].concat() } else { key };
        let value = value.map(|mut value| {
            if is_version_1 && value.len() > 2 {
                value[..2].copy_from_slice(&[0, 1]);
            }
            value.into()
        });
        drop(record::decode(&LogEntry { key: key.into(), value }));
    }
}
