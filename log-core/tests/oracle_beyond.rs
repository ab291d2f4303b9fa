//! Bytes written by hand from Kafka's message definitions, for what the oracle's Kafka 4.1 does not
//! have: versions that 4.2 and 4.3 added, and Produce 0 to 2, which 4.0 dropped.

use bytes::Bytes;
use log_core::wire::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetCommitRequest, OffsetFetchRequest, WriteTxnMarkersRequest,
};
use log_core::wire::{
    KafkaDecode, KafkaEncode, ProduceRequest, ProduceResponse, decode_request, decode_response,
    encode_response,
};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn request<T: KafkaDecode + KafkaEncode>(bytes: &Bytes, version: i16) -> T {
    let value: T = decode_request(bytes.clone(), version).unwrap();
    assert_eq!(&encode_response(&value, version).unwrap(), bytes);
    value
}

fn response<T: KafkaDecode + KafkaEncode>(bytes: &Bytes, version: i16) -> T {
    let value: T = decode_response(bytes.clone(), version).unwrap();
    assert_eq!(&encode_response(&value, version).unwrap(), bytes);
    value
}

#[test]
fn offset_commit_10_names_topics_by_id() {
    // group "g", generation 3, member "m", no instance, one topic by id, one partition, metadata "x"
    let bytes = hex("0267 00000003 026d 00 02 000102030405060708090a0b0c0d0e0f
                     02 00000007 0000000000000064 ffffffff 0278 00 00 00");
    let value: OffsetCommitRequest = request(&bytes, 10);
    let topic = &value.topics[0];
    assert_eq!(topic.topic_id.to_bytes(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!((topic.partitions[0].partition_index, topic.partitions[0].committed_offset), (7, 100));
}

#[test]
fn offset_fetch_10_names_topics_by_id() {
    // one group "g", no member, epoch -1, one topic by id with partition 7; require stable
    let bytes = hex("02 0267 00 ffffffff 02 000102030405060708090a0b0c0d0e0f 02 00000007 00 00 01 00");
    let value: OffsetFetchRequest = request(&bytes, 10);
    let topics = value.groups[0].topics.as_ref().unwrap();
    assert_eq!(topics[0].topic_id.as_bytes()[15], 15);
    assert_eq!(topics[0].partition_indexes, [7]);
    assert!(value.require_stable);
}

#[test]
fn list_offsets_11_only_adds_a_special_timestamp() {
    // replica -1, isolation 1, topic "t", partition 0, epoch -1, timestamp -6; timeout 1000
    let bytes = hex("ffffffff 01 02 0274 02 00000000 ffffffff fffffffffffffffa 00 00 000003e8 00");
    let value: ListOffsetsRequest = request(&bytes, 11);
    assert_eq!(value.topics[0].partitions[0].timestamp, -6);
    // throttle 0, topic "t", partition 0, no error, timestamp -1, offset 5, epoch 0
    let bytes = hex("00000000 02 0274 02 00000000 0000 ffffffffffffffff 0000000000000005 00000000 00 00 00");
    let value: ListOffsetsResponse = response(&bytes, 11);
    assert_eq!(value.topics[0].partitions[0].offset, 5);
}

#[test]
fn describe_log_dirs_5_says_whether_a_directory_is_cordoned() {
    let value: DescribeLogDirsRequest = request(&hex("00 00"), 5);
    assert_eq!(value.topics, None);
    // throttle 0, no error, directory "/d" with no topics, total 9, usable 8, cordoned
    let bytes = hex("00000000 0000 02 0000 032f64 01 0000000000000009 0000000000000008 01 00 00");
    let value: DescribeLogDirsResponse = response(&bytes, 5);
    assert!(value.results[0].is_cordoned);
}

#[test]
fn write_txn_markers_2_says_which_version_of_the_protocol_it_is_about() {
    // one marker: producer 7, epoch 3, commit, topic "t" with partition 2, coordinator epoch 9, protocol 2
    let bytes = hex("02 0000000000000007 0003 01 02 0274 02 00000002 00 00000009 02 00 00");
    let value: WriteTxnMarkersRequest = request(&bytes, 2);
    let marker = &value.markers[0];
    assert_eq!((marker.producer_id, marker.coordinator_epoch, marker.transaction_version), (7, 9, 2));
}

#[test]
fn produce_0_to_2_are_parsed_and_answered() {
    // acks -1, timeout 1500, topic "t", partition 2, three bytes that no batch has
    let bytes = hex("ffff 000005dc 00000001 0001 74 00000001 00000002 00000003 010203");
    for version in 0..=2 {
        let request = ProduceRequest::decode(bytes.clone(), version).unwrap();
        assert_eq!((request.acks, request.timeout_ms), (-1, 1500));
        let partition = &request.topics[0].partitions[0];
        assert_eq!((partition.index, partition.records.as_deref()), (2, Some(&[1u8, 2, 3][..])));
        assert_eq!(request.encode(version).unwrap().concat(), bytes);
    }
    // topic "t", partition 2, error 43, offset -1; append time -1 from 2; throttle 0 from 1
    let answers = [
        "00000001 0001 74 00000001 00000002 002b ffffffffffffffff",
        "00000001 0001 74 00000001 00000002 002b ffffffffffffffff 00000000",
        "00000001 0001 74 00000001 00000002 002b ffffffffffffffff ffffffffffffffff 00000000",
    ];
    for (version, bytes) in answers.map(hex).into_iter().enumerate() {
        let version = version as i16;
        let response = ProduceResponse::decode(bytes.clone(), version).unwrap();
        assert_eq!(response.topics[0].partitions[0].error_code, 43);
        assert_eq!(response.encode(version).unwrap().concat(), bytes);
    }
}
