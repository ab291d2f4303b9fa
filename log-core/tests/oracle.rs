//! The wire codec against an independent one: the crate `kafka-protocol` (Kafka 4.1's messages).
//!
//! For every API and version that is served, requests and responses: random values of the oracle
//! are encoded by it, decoded and encoded again by us, and decoded by it once more. Bytes and field
//! values must agree at each step, which covers both directions of both codecs. The oracle stops
//! before Kafka 4.3 for a few messages; `BEYOND_THE_ORACLE` names them, and vectors written by hand
//! from Kafka's definitions stand in (tests/oracle_beyond.rs).

mod oracle_support;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use log_core::wire::{
    self, ApiKey, ApiVersion, DecodeError, FetchRequest, FetchResponse, KafkaMessage, ProduceRequest,
    ProduceResponse, RequestHeader, ResponseHeader, messages,
};
use oracle_support::for_each_control_api;
use oracle_support::random::{Draw, Random};

/// Random values for each message and version.
const ROUNDS: usize = 40;

/// Messages in served versions that Kafka 4.1's definitions, and so the oracle, do not have.
const BEYOND_THE_ORACLE: &[(&str, i16)] = &[
    ("ProduceRequest", 0),
    ("ProduceRequest", 1),
    ("ProduceRequest", 2),
    ("ProduceResponse", 0),
    ("ProduceResponse", 1),
    ("ProduceResponse", 2),
    ("ListOffsetsRequest", 11),
    ("ListOffsetsResponse", 11),
    ("OffsetCommitRequest", 10),
    ("OffsetFetchRequest", 10),
    ("WriteTxnMarkersRequest", 2),
    ("WriteTxnMarkersResponse", 2),
    ("DescribeLogDirsRequest", 5),
    ("DescribeLogDirsResponse", 5),
];

/// Messages with a field that may be null in some versions only. The oracle writes null in all of
/// them, where Kafka and we refuse it; such values are passed over.
const NULL_IN_SOME_VERSIONS: &[&str] = &[
    "MetadataRequest",
    "MetadataResponse",
    "OffsetFetchRequest",
    "JoinGroupResponse",
    "DeleteTopicsResponse",
];

/// Fields that Kafka 4.3 has and the oracle does not, at the defaults that they must keep, and two
/// that they spell differently: message, ours, theirs.
const DIFFERENT_FIELDS: &[(&str, &str, &str)] = &[
    ("ApiVersionsRequest", " cluster_id:None node_id:-1", ""),
    ("DescribeLogDirsResponse", " is_cordoned:false", ""),
    ("DeleteGroupsResponse", " error_message:None", ""),
    ("WriteTxnMarkersRequest", " transaction_version:0", ""),
    ("InitProducerIdRequest", "enable2_pc:", "enable_2_pc:"),
    ("TxnOffsetCommitRequest", "generation_id_or_member_epoch:", "generation_id:"),
    ("TxnOffsetCommitRequest", " topic_id:00000000-0000-0000-0000-000000000000", ""),
    ("TxnOffsetCommitResponse", " topic_id:00000000-0000-0000-0000-000000000000", ""),
    ("DescribeClientQuotasRequest", "match_:", "_match:"),
];

/// Draws `ROUNDS` values of the message `name` in each served version, some with unknown tags.
fn for_random_values<T>(api: ApiKey, name: &str, mut check: impl FnMut(&T, i16, bool))
where
    T: Random + Encodable + Decodable + Message,
{
    for version in api.served().iter() {
        let known = T::VERSIONS.min <= version && version <= T::VERSIONS.max;
        assert_eq!(
            known,
            !BEYOND_THE_ORACLE.contains(&(name, version)),
            "{name} {version}: is it the oracle's?"
        );
        for round in (0..ROUNDS).filter(|_| known) {
            let seed = (u64::from(api.code() as u16) << 32) | ((version as u64) << 16) | round as u64;
            let unknown_tags = round % 4 == 3;
            let mut draw = Draw { rng: Rng::with_seed(seed), version, unknown_tags };
            // Fields that a version lacks but may ignore come back as their defaults.
            let value: T = their_value(&their_bytes(&T::random(&mut draw), version), version);
            check(&value, version, unknown_tags);
        }
    }
}

fn their_bytes<T: Encodable>(value: &T, version: i16) -> Bytes {
    let mut buffer = BytesMut::new();
    value.encode(&mut buffer, version).expect("the generator keeps values encodable");
    buffer.freeze()
}

fn their_value<T: Decodable>(bytes: &Bytes, version: i16) -> T {
    let mut input = bytes.clone();
    let value = T::decode(&mut input, version).expect("the oracle decodes these bytes");
    assert!(input.is_empty(), "the oracle left bytes over");
    value
}

/// Theirs → ours → theirs, for messages of the library.
fn library_agrees<Theirs, Ours>(api: ApiKey, decode: fn(Bytes, i16) -> Result<Ours, DecodeError>)
where
    Theirs: Random + Encodable + Decodable + Message + std::fmt::Debug,
    Ours: KafkaMessage + std::fmt::Debug,
{
    let mut compared = 0;
    for_random_values::<Theirs>(api, Ours::NAME, |value, version, unknown_tags| {
        let bytes = their_bytes(value, version);
        let ours = match decode(bytes.clone(), version) {
            Err(DecodeError::NegativeLength { length: -1, .. } | DecodeError::NullNotAllowed { .. })
                if NULL_IN_SOME_VERSIONS.contains(&Ours::NAME) =>
            {
                return;
            }
            decoded => {
                decoded.unwrap_or_else(|error| panic!("{} {version}: {error} in {value:#?}", Ours::NAME))
            }
        };
        let again = wire::encode_response(&ours, version).expect("what was decoded can be encoded");
        assert_eq!(again, bytes, "{} {version}: {value:#?}\n{ours:#?}", Ours::NAME);
        assert_eq!(ours.encoded_len(ApiVersion::new(version)), Ok(bytes.len()));
        let theirs: Theirs = their_value(&again, version);
        // The bytes' order alone would not show two fields of one type swapped by name.
        if !unknown_tags {
            let mut ours = fields(&format!("{ours:?}"));
            for (_, our, their) in DIFFERENT_FIELDS.iter().filter(|(message, ..)| *message == Ours::NAME) {
                ours = ours.replace(our, their);
            }
            let theirs = fields(&format!("{theirs:?}"));
            assert_eq!(ours, theirs, "{} {version}", Ours::NAME);
        }
        compared += 1;
    });
    assert!(compared >= ROUNDS / 2, "{}: only {compared} values were compared", Ours::NAME);
}

#[test]
fn library_messages_agree_byte_for_byte_and_field_by_field() {
    let mut visited = vec![ApiKey::Produce, ApiKey::Fetch];
    macro_rules! visit {
        ($api:ident, $request:ident, $response:ident) => {
            library_agrees::<theirs::$request, messages::$request>(ApiKey::$api, wire::decode_request);
            library_agrees::<theirs::$response, messages::$response>(ApiKey::$api, wire::decode_response);
            visited.push(ApiKey::$api);
        };
    }
    for_each_control_api!(visit);
    visited.sort();
    assert_eq!(visited, ApiKey::ALL, "every served API is compared");
}

#[test]
fn produce_requests_agree() {
    for_random_values::<theirs::ProduceRequest>(
        ApiKey::Produce,
        "ProduceRequest",
        |value, version, unknown_tags| {
            let bytes = their_bytes(value, version);
            let ours = ProduceRequest::decode(bytes.clone(), version).unwrap();
            assert_eq!(
                ours.transactional_id.as_deref(),
                value.transactional_id.as_ref().map(|id| id.as_str())
            );
            assert_eq!((ours.acks, ours.timeout_ms), (value.acks, value.timeout_ms));
            for (ours, theirs) in ours.topics.iter().zip(&value.topic_data) {
                assert_topic(&ours.topic, &theirs.name, &theirs.topic_id, version);
                for (ours, theirs) in ours.partitions.iter().zip(&theirs.partition_data) {
                    assert_eq!((ours.index, &ours.records), (theirs.index, &theirs.records));
                }
            }
            if !unknown_tags {
                assert_eq!(ours.encode(version).unwrap().concat(), bytes, "{version}: {value:#?}");
            }
        },
    );
}

#[test]
fn produce_responses_agree() {
    for_random_values::<theirs::ProduceResponse>(
        ApiKey::Produce,
        "ProduceResponse",
        |value, version, unknown_tags| {
            // Leader hints are skipped, and not written.
            let ours = ProduceResponse::decode(their_bytes(value, version), version).unwrap();
            let mut value = value.clone();
            value.node_endpoints.clear();
            for topic in &mut value.responses {
                for partition in &mut topic.partition_responses {
                    partition.current_leader = Default::default();
                }
            }
            let bytes = their_bytes(&value, version);
            assert_eq!(ProduceResponse::decode(bytes.clone(), version).as_ref(), Ok(&ours));
            for (ours, theirs) in ours.topics.iter().zip(&value.responses) {
                assert_topic(&ours.topic, &theirs.name, &theirs.topic_id, version);
                for (ours, theirs) in ours.partitions.iter().zip(&theirs.partition_responses) {
                    let offsets = (theirs.base_offset, theirs.log_append_time_ms, theirs.log_start_offset);
                    assert_eq!((ours.index, ours.error_code), (theirs.index, theirs.error_code));
                    assert_eq!(ours.base_offset, offsets.0);
                    assert_eq!(ours.log_append_time_ms, offsets.1);
                    assert_eq!(ours.log_start_offset, if version >= 5 { offsets.2 } else { -1 });
                }
            }
            if !unknown_tags {
                assert_eq!(ours.encode(version).unwrap().concat(), bytes, "{version}: {value:#?}");
            }
        },
    );
}

#[test]
fn fetch_requests_agree() {
    for_random_values::<theirs::FetchRequest>(
        ApiKey::Fetch,
        "FetchRequest",
        |value, version, unknown_tags| {
            // What only replicas send is skipped, and a consumer does not send it.
            let ours = FetchRequest::decode(their_bytes(value, version), version).unwrap();
            let mut value = value.clone();
            value.cluster_id = None;
            value.replica_id = (-1).into();
            value.replica_state = Default::default();
            for topic in &mut value.topics {
                for partition in &mut topic.partitions {
                    partition.replica_directory_id = Default::default();
                    partition.high_watermark = i64::MAX;
                }
            }
            let bytes = their_bytes(&value, version);
            assert_eq!(FetchRequest::decode(bytes.clone(), version).as_ref(), Ok(&ours));
            let limits = (value.max_wait_ms, value.min_bytes, value.max_bytes, value.isolation_level);
            assert_eq!((ours.max_wait_ms, ours.min_bytes, ours.max_bytes, ours.isolation_level), limits);
            for (ours, theirs) in ours.topics.iter().zip(&value.topics) {
                assert_topic(&ours.topic, &theirs.topic, &theirs.topic_id, version);
                for (ours, theirs) in ours.partitions.iter().zip(&theirs.partitions) {
                    assert_eq!((ours.index, ours.fetch_offset), (theirs.partition, theirs.fetch_offset));
                    assert_eq!(ours.max_bytes, theirs.partition_max_bytes);
                    assert_eq!(ours.current_leader_epoch, theirs.current_leader_epoch);
                    assert_eq!(ours.last_fetched_epoch, theirs.last_fetched_epoch);
                }
            }
            if !unknown_tags {
                assert_eq!(ours.encode(version).unwrap(), bytes, "{version}: {value:#?}");
            }
        },
    );
}

#[test]
fn fetch_responses_agree() {
    for_random_values::<theirs::FetchResponse>(
        ApiKey::Fetch,
        "FetchResponse",
        |value, version, unknown_tags| {
            // Null records read as none, and none are written as empty ones; the rest is skipped.
            let ours = FetchResponse::decode(their_bytes(value, version), version).unwrap();
            let mut value = value.clone();
            value.node_endpoints.clear();
            for topic in &mut value.responses {
                for partition in &mut topic.partitions {
                    partition.current_leader = Default::default();
                    partition.diverging_epoch = Default::default();
                    partition.snapshot_id = Default::default();
                    partition.records.get_or_insert_default();
                }
            }
            let bytes = their_bytes(&value, version);
            assert_eq!(FetchResponse::decode(bytes.clone(), version).as_ref(), Ok(&ours));
            for (ours, theirs) in ours.topics.iter().zip(&value.responses) {
                assert_topic(&ours.topic, &theirs.topic, &theirs.topic_id, version);
                for (ours, theirs) in ours.partitions.iter().zip(&theirs.partitions) {
                    assert_eq!((ours.index, ours.error_code), (theirs.partition_index, theirs.error_code));
                    assert_eq!(ours.high_watermark, theirs.high_watermark);
                    assert_eq!(ours.last_stable_offset, theirs.last_stable_offset);
                    assert_eq!(ours.log_start_offset, theirs.log_start_offset);
                    assert_eq!(ours.records.concat(), theirs.records.as_deref().unwrap_or_default());
                }
            }
            if !unknown_tags {
                assert_eq!(ours.encode(version).unwrap().concat(), bytes, "{version}: {value:#?}");
            }
        },
    );
}

#[test]
fn headers_agree() {
    for &api in ApiKey::ALL {
        for version in api.served().iter() {
            let mut value = theirs::RequestHeader::default();
            value.request_api_key = api.code();
            value.request_api_version = version;
            value.correlation_id = 0x0102_0304;
            value.client_id = (version % 2 == 0).then(|| "client".into());
            let oracle_key = theirs::ApiKey::try_from(api.code()).unwrap();
            let bytes = their_bytes(&value, oracle_key.request_header_version(version));
            let (ours, body) = RequestHeader::decode(bytes.clone()).unwrap();
            assert!(body.is_empty());
            assert_eq!(ours.client_id.as_deref(), value.client_id.as_ref().map(|id| id.as_str()));
            assert_eq!(ours.frame(api, vec![]).unwrap().concat()[4..], bytes, "{api} {version}");

            let mut value = theirs::ResponseHeader::default();
            value.correlation_id = -9;
            let bytes = their_bytes(&value, oracle_key.response_header_version(version));
            let ours = ResponseHeader { correlation_id: -9 };
            assert_eq!(ours.frame(api, version, vec![]).unwrap().concat()[4..], bytes, "{api} {version}");
        }
    }
}

fn assert_topic(ours: &wire::TopicRef, name: &theirs::TopicName, id: &uuid::Uuid, version: i16) {
    if version >= 13 {
        assert_eq!(ours.id().map(|id| id.to_bytes()), Some(*id.as_bytes()));
    } else {
        assert_eq!(ours.name(), Some(name.as_str()));
    }
}

/// A `Debug` text reduced to field names and values: type names, newtypes and the two crates'
/// spellings of bytes, ids and tagged fields fall away.
fn fields(debug: &str) -> String {
    let debug = debug
        .replace("unknown_tagged_fields: TaggedFields { fields: [] }", "")
        .replace("unknown_tagged_fields: {}", "");
    let mut out = String::with_capacity(debug.len());
    let mut rest = debug.as_str();
    while let Some(c) = rest.chars().next() {
        if let Some(id) = rest.strip_prefix("Uuid([") {
            let (bytes, after) = id.split_once("])").expect("a closed list");
            let bytes: Vec<u8> = bytes.split(", ").map(|byte| byte.parse().unwrap()).collect();
            out.push_str(&uuid::Uuid::from_slice(&bytes).unwrap().to_string());
            rest = after;
        } else if c == '"' || rest.starts_with("b\"") {
            let start = rest.find('"').expect("an opening quote") + 1;
            let end = start + closing_quote(&rest[start..]);
            out.push_str(&rest[start - 1..=end]);
            rest = &rest[end + 1..];
        } else if c.is_ascii_uppercase() {
            // A type's name, or Some, None, and true names of fields never start in upper case.
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            if &rest[..end] == "None" {
                out.push_str("None");
            }
            rest = &rest[end..];
        } else {
            if !"() ,".contains(c) {
                out.push(c);
            } else if c == ',' {
                out.push(' ');
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    out.replace(" }", "}")
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    text.bytes()
        .position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        })
        .expect("a closing quote")
}
