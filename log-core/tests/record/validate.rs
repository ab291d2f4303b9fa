//! The rules of Produce, one test each.

use bytes::{Bytes, BytesMut};
use log_core::record::{
    BatchBuilder, Compression, CompressionLevels, DecompressLimits, ProduceErrorKind, ProduceRejection,
    ProducedBatch, RECORD_ERRORS_MAX, RecordBatch, Records, TimestampType, ValidateOptions, crc32c,
    validate_produced,
};
use proptest::prelude::*;

use super::{Input, build, codec, fill, inputs};

const NOW: i64 = 1_700_000_000_000;

fn options() -> ValidateOptions {
    ValidateOptions { now_ms: NOW, ..ValidateOptions::default() }
}

fn two() -> Vec<Input> {
    vec![Input::new(NOW - 10, Some("k"), Some("v")), Input::new(NOW - 5, None, Some("w"))]
}

/// Changes bytes of a good batch and makes the checksum right again: what a wrong producer would send.
fn forged(change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = BytesMut::from(build(Compression::None, &two()));
    change(&mut bytes);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn rejection(bytes: impl Into<Bytes>) -> ProduceRejection {
    validate_produced(bytes.into(), &options()).expect_err("must be refused")
}

#[track_caller]
fn assert_kind(bytes: impl Into<Bytes>, kind: ProduceErrorKind) {
    let rejection = rejection(bytes);
    assert_eq!(rejection.kind, kind, "{rejection}");
    assert!(!rejection.message.is_empty());
}

#[test]
fn a_good_batch_is_taken_as_it_is() {
    for codec in Compression::ALL {
        let bytes = fill(BatchBuilder::new(codec).producer(5, 1, 2), &two()).build(0).unwrap();
        let batch = validate_produced(bytes.clone(), &options()).unwrap();
        assert_eq!(batch.payload().as_ptr(), bytes[61..].as_ptr(), "no copy");
        assert_eq!((batch.record_count(), batch.last_offset_delta(), batch.compression()), (2, 1, codec));
        assert_eq!((batch.producer_id(), batch.producer_epoch()), (5, 1));
        assert_eq!((batch.base_sequence(), batch.last_sequence()), (2, 3));
        assert_eq!((batch.max_timestamp(), batch.log_append_time_ms()), (NOW - 5, -1));
        assert_eq!(batch.size_bytes(), bytes.len());

        let stored = batch.to_bytes(1_000, 3);
        let view = RecordBatch::parse(&stored).unwrap();
        view.verify_crc().unwrap();
        assert_eq!((view.base_offset(), view.partition_leader_epoch(), view.crc()), (1_000, 3, batch.crc()));
        assert_eq!(stored[16..], bytes[16..], "only the prefix differs");
    }
}

#[test]
fn size_is_the_whole_batch() {
    let bytes = build(Compression::None, &two());
    let limited = |max_message_bytes| {
        validate_produced(bytes.clone(), &ValidateOptions { max_message_bytes, ..options() })
    };
    assert!(limited(bytes.len()).is_ok());
    assert_eq!(limited(bytes.len() - 1).unwrap_err().kind, ProduceErrorKind::MessageTooLarge);
}

#[test]
fn one_batch_and_nothing_else() {
    let bytes = build(Compression::None, &two());
    assert_kind(Bytes::new(), ProduceErrorKind::InvalidRecord);
    assert_kind([bytes.clone(), bytes.clone()].concat(), ProduceErrorKind::InvalidRecord);
    assert_kind([&bytes[..], b"x"].concat(), ProduceErrorKind::InvalidRecord);
    assert_kind(bytes.slice(..bytes.len() - 1), ProduceErrorKind::Corrupt);
}

#[test]
fn damage_is_corruption() {
    let mut bytes = build(Compression::None, &two()).to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert_kind(bytes, ProduceErrorKind::Corrupt);
}

#[test]
fn old_formats_have_their_own_error() {
    assert_kind(forged(|bytes| bytes[16] = 0), ProduceErrorKind::UnsupportedFormat);
    assert_kind(forged(|bytes| bytes[16] = 1), ProduceErrorKind::UnsupportedFormat);
    assert_kind(forged(|bytes| bytes[16] = 3), ProduceErrorKind::Corrupt);
}

#[test]
fn rules_of_the_header() {
    let set_i32 =
        |at: usize, value: i32| forged(|bytes| bytes[at..at + 4].copy_from_slice(&value.to_be_bytes()));
    assert_kind(set_i32(57, 0), ProduceErrorKind::InvalidRecord);
    assert_kind(set_i32(57, 1), ProduceErrorKind::InvalidRecord);
    assert_kind(set_i32(57, 3), ProduceErrorKind::Corrupt);
    assert_kind(set_i32(57, -1), ProduceErrorKind::Corrupt);
    assert_kind(set_i32(23, 2), ProduceErrorKind::InvalidRecord);
    assert_kind(set_i32(23, -1), ProduceErrorKind::Corrupt);
    assert_kind(forged(|bytes| bytes[22] = 1 << 5), ProduceErrorKind::InvalidRecord);
    assert_kind(forged(|bytes| bytes[22] = 1 << 6), ProduceErrorKind::InvalidRecord);
    assert_kind(forged(|bytes| bytes[22] = 1 << 4), ProduceErrorKind::InvalidRecord);
    assert_kind(forged(|bytes| bytes[22] = 1 << 3), ProduceErrorKind::InvalidTimestamp);
    for id in [5, 6, 7] {
        assert_kind(forged(|bytes| bytes[22] = id), ProduceErrorKind::UnsupportedCompression);
    }
    // Whoever knows an offset has read the batch somewhere, and may have the wrong place.
    assert_kind(forged(|bytes| bytes[7] = 1), ProduceErrorKind::InvalidRecord);
}

#[test]
fn a_producer_id_comes_with_epoch_and_sequence() {
    for (id, epoch, sequence) in [(1, -1, 0), (1, 0, -1), (-2, -1, -1)] {
        let bytes = fill(BatchBuilder::default().producer(id, epoch, sequence), &two()).build(0).unwrap();
        assert_kind(bytes, ProduceErrorKind::InvalidRecord);
    }
    let transactional = BatchBuilder::default().transactional(true).producer(1, 0, 0);
    assert!(validate_produced(fill(transactional, &two()).build(0).unwrap(), &options()).is_ok());
}

#[test]
fn records_are_walked() {
    // The first record is at 61: length, attributes, timestamp delta, offset delta, key length, key,
    // value length, value, headers.
    for (at, why) in [
        (61, "length"),
        (64, "offset delta"),
        (65, "key length"),
        (67, "value length"),
        (69, "headers"),
        (73, "offset delta of the second"),
    ] {
        for value in [0x03, 0x7e, 0xff] {
            let bytes = forged(|bytes| bytes[at] = value);
            let rejection = validate_produced(bytes, &options()).expect_err(why);
            assert_eq!(rejection.kind, ProduceErrorKind::InvalidRecord, "{why} {value}: {rejection}");
        }
    }
}

#[test]
fn timestamps_have_bounds_and_records_are_named() {
    let mut inputs = two();
    inputs[1].timestamp = NOW + 3_600_001;
    let named = |rejection: ProduceRejection| -> Vec<i32> {
        assert_eq!(rejection.kind, ProduceErrorKind::InvalidTimestamp, "{rejection}");
        rejection.record_errors.iter().map(|error| error.batch_index).collect()
    };
    let recent = ValidateOptions { timestamp_before_max_ms: 7, ..options() };
    for codec in Compression::ALL {
        assert_eq!(named(rejection(build(codec, &inputs))), [1], "{codec}");
        assert_eq!(named(validate_produced(build(codec, &two()), &recent).unwrap_err()), [0], "{codec}");
        // The oldest in the middle, which no field of the header is about.
        let old = [-1, -8, -2].map(|ago| Input::new(NOW + ago, None, Some("v")));
        assert_eq!(named(validate_produced(build(codec, &old), &recent).unwrap_err()), [1], "{codec}");
        // On the bounds is within them.
        let edges = [-7, 3_600_000].map(|ago| Input::new(NOW + ago, None, Some("v")));
        assert!(validate_produced(build(codec, &edges), &recent).is_ok(), "{codec}");
    }
    inputs[1].timestamp = -2;
    assert_kind(build(Compression::None, &inputs), ProduceErrorKind::InvalidTimestamp);

    // No timestamp is no offence, and with the broker's clock none counts.
    inputs[1].timestamp = -1;
    assert!(validate_produced(build(Compression::None, &inputs), &options()).is_ok());
    inputs[1].timestamp = i64::MAX;
    let broker_time = ValidateOptions { timestamp_type: TimestampType::LogAppendTime, ..options() };
    assert!(validate_produced(build(Compression::None, &inputs), &broker_time).is_ok());
}

#[test]
fn a_wrong_max_timestamp_is_put_right() {
    let bytes = forged(|bytes| bytes[35..43].copy_from_slice(&(NOW + 1).to_be_bytes()));
    let stored = validate_produced(bytes, &options()).unwrap().to_bytes(0, 0);
    let view = RecordBatch::parse(&stored).unwrap();
    view.verify_crc().unwrap();
    assert_eq!(view.max_timestamp(), NOW - 5);
}

#[test]
fn the_brokers_time_needs_no_decompression() {
    for codec in Compression::ALL {
        let bytes = build(codec, &two());
        let broker_time = ValidateOptions { timestamp_type: TimestampType::LogAppendTime, ..options() };
        let batch = validate_produced(bytes.clone(), &broker_time).unwrap();
        assert_eq!(batch.payload().as_ptr(), bytes[61..].as_ptr(), "no copy");
        assert_eq!(batch.log_append_time_ms(), NOW);
        let stored = batch.to_bytes(0, 0);
        RecordBatch::parse(&stored).unwrap().verify_crc().unwrap();
        let records = Records::of(&stored, DecompressLimits::default()).unwrap();
        assert!(records.map(Result::unwrap).all(|record| record.timestamp == NOW));
    }
}

#[test]
fn compacted_topics_need_keys() {
    let compacted = ValidateOptions { compacted: true, ..options() };
    for codec in Compression::ALL {
        let rejection = validate_produced(build(codec, &two()), &compacted).unwrap_err();
        assert_eq!(rejection.kind, ProduceErrorKind::InvalidRecord);
        assert_eq!(rejection.record_errors.len(), 1);
        assert_eq!(rejection.record_errors[0].batch_index, 1);
        assert!(validate_produced(build(codec, &two()[..1]), &compacted).is_ok());
    }
    let many = vec![Input::new(NOW, None, None); 1_000];
    let rejection = validate_produced(build(Compression::None, &many), &compacted).unwrap_err();
    assert_eq!(rejection.record_errors.len(), RECORD_ERRORS_MAX);
}

#[test]
fn a_bomb_is_refused_where_it_must_be_opened_and_only_there() {
    let bomb = build(Compression::Zstd, &[Input::new(NOW, None, Some(&"0".repeat(8 << 20)))]);
    assert!(validate_produced(bomb.clone(), &options()).is_ok(), "taken unopened");
    let opened = ValidateOptions { compacted: true, ..options() };
    assert_eq!(validate_produced(bomb, &opened).unwrap_err().kind, ProduceErrorKind::InvalidRecord);
}

#[test]
fn recompression_may_make_a_batch_too_large() {
    let bytes = build(Compression::Zstd, &[Input::new(NOW, None, Some(&"0".repeat(10_000)))]);
    let plain = ValidateOptions {
        max_message_bytes: 1_000,
        target_compression: Some(Compression::None),
        ..options()
    };
    assert_eq!(validate_produced(bytes, &plain).unwrap_err().kind, ProduceErrorKind::MessageTooLarge);
}

#[test]
fn the_brokers_own_batches_pass_by() {
    let mut builder = BatchBuilder::default().control(true).transactional(true).producer(1, 0, -1);
    builder.append(NOW, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 0]), &[]).unwrap();
    let bytes = builder.build(0).unwrap();
    let batch = ProducedBatch::internal(bytes.clone()).unwrap();
    assert!(batch.attributes().is_control());
    assert_eq!(batch.to_bytes(0, -1), bytes);
    assert!(ProducedBatch::internal([&bytes[..], b"x"].concat().into()).is_err());
    assert!(ProducedBatch::internal(bytes.slice(..70)).is_err());
}

#[test]
fn recompression_tries_as_hard_as_it_is_told() {
    let words = ["paid", "shipped", "cancelled", "refunded", "order", "customer", "2013-07-01"];
    let mut random = 1u64;
    let mut text = String::new();
    while text.len() < 100_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += words[(random >> 33) as usize % words.len()];
        text += &(random >> 40).to_string();
    }
    let inputs = [Input::new(NOW, None, Some(&text))];
    let size = |from, to, levels| {
        let options =
            ValidateOptions { target_compression: Some(to), compression_levels: levels, ..options() };
        let batch = validate_produced(build(from, &inputs), &options).unwrap();
        let stored = batch.to_bytes(0, 0);
        let records: Vec<_> = Records::of(&stored, DecompressLimits::default()).unwrap().collect();
        assert_eq!(records[0].as_ref().unwrap().value.as_deref(), Some(text.as_bytes()));
        batch.size_bytes()
    };
    let gzip = |gzip| CompressionLevels { gzip, ..CompressionLevels::default() };
    let zstd = |zstd| CompressionLevels { zstd, ..CompressionLevels::default() };
    let of_gzip = [0, 1, 9].map(|level| size(Compression::None, Compression::Gzip, gzip(level)));
    assert!(of_gzip.is_sorted_by(|larger, smaller| larger > smaller), "{of_gzip:?}");
    let of_zstd = [-100, 3, 19].map(|level| size(Compression::None, Compression::Zstd, zstd(level)));
    assert!(of_zstd.is_sorted_by(|larger, smaller| larger > smaller), "{of_zstd:?}");
    let usual = CompressionLevels::default();
    let by_default = size(Compression::None, Compression::Gzip, usual);
    assert_eq!(by_default, size(Compression::None, Compression::Gzip, gzip(6)));
    let as_it_came = build(Compression::Gzip, &inputs).len();
    assert_eq!(size(Compression::Gzip, Compression::Gzip, gzip(1)), as_it_came, "it is not compressed anew");
    for level in [i32::MIN, i32::MAX] {
        let levels = CompressionLevels { gzip: level, zstd: level };
        size(Compression::None, Compression::Gzip, levels);
        size(Compression::None, Compression::Zstd, levels);
    }
}

proptest! {
    /// Any codec to any other keeps the records, the producer and the sequence.
    #[test]
    fn recompression_keeps_everything(inputs in inputs(), from in codec(), to in codec(), broker_time: bool) {
        let bytes = fill(BatchBuilder::new(from).producer(9, 8, 7), &inputs).build(0).unwrap();
        let timestamp_type =
            if broker_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        let options = ValidateOptions {
            target_compression: Some(to),
            timestamp_type,
            timestamp_after_max_ms: i64::MAX,
            ..options()
        };
        let batch = validate_produced(bytes, &options).unwrap();
        prop_assert_eq!(batch.compression(), to);
        prop_assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (9, 8, 7));
        let stored = batch.to_bytes(50, 1);
        let view = RecordBatch::parse(&stored).unwrap();
        view.verify_crc().unwrap();
        prop_assert_eq!(view.size_bytes(), stored.len());
        let read: Vec<_> =
            Records::of(&stored, DecompressLimits::default()).unwrap().map(Result::unwrap).collect();
        let expected: Vec<_> = (50..)
            .zip(&inputs)
            .map(|(offset, input)| {
                let mut record = input.expected_at(offset);
                if broker_time {
                    record.timestamp = NOW;
                }
                record
            })
            .collect();
        prop_assert_eq!(read, expected);
    }

    /// Whatever is taken can be read back whole.
    #[test]
    fn what_is_taken_can_be_read(inputs in inputs(), at in any::<prop::sample::Index>(), value: u8) {
        let mut bytes = BytesMut::from(build(Compression::None, &inputs));
        let at = 16 + at.index(bytes.len() - 16);
        bytes[at] = value;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        if let Ok(batch) = validate_produced(bytes.freeze(), &options()) {
            let stored = batch.to_bytes(0, 0);
            let records = Records::of(&stored, DecompressLimits::default()).map(Iterator::collect::<Vec<_>>);
            if batch.compression() == Compression::None {
                let records = records.unwrap();
                prop_assert_eq!(records.len(), batch.record_count() as usize);
                prop_assert!(records.iter().all(Result::is_ok));
            }
        }
    }
}
