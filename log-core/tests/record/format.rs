//! Batches byte by byte, and what becomes of damaged ones.

use bytes::Bytes;
use log_core::record::{
    Attributes, BatchBuilder, BatchError, Compression, DecompressLimits, Header, OVERHEAD, RecordBatch,
    Records, TimestampType, TimestampedOffset, batches, set_log_append_time, write_prefix,
};
use proptest::prelude::*;

use super::{Input, build, codec, fill, inputs};

/// One record, "hello" → "world" at 1,000 ms, as Kafka's format page lays it out.
#[rustfmt::skip]
const DRAWN: [u8; 78] = [
    0, 0, 0, 0, 0, 0, 0, 42,                          // base offset
    0, 0, 0, 66,                                      // length: 78 - 12
    0, 0, 0, 7,                                       // partition leader epoch
    2,                                                // magic
    0x28, 0xc6, 0xcc, 0x8d,                           // crc
    0, 0,                                             // attributes
    0, 0, 0, 0,                                       // last offset delta
    0, 0, 0, 0, 0, 0, 0x03, 0xe8,                     // base timestamp
    0, 0, 0, 0, 0, 0, 0x03, 0xe8,                     // max timestamp
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,   // producer id
    0xff, 0xff,                                       // producer epoch
    0xff, 0xff, 0xff, 0xff,                           // base sequence
    0, 0, 0, 1,                                       // record count
    0x20,                                             // record length: 16
    0,                                                // attributes
    0,                                                // timestamp delta
    0,                                                // offset delta
    0x0a, b'h', b'e', b'l', b'l', b'o',               // key
    0x0a, b'w', b'o', b'r', b'l', b'd',               // value
    0,                                                // headers
];

fn three(compression: Compression) -> Bytes {
    let mut inputs = vec![
        Input::new(1_000, Some("a"), Some("first")),
        Input::new(3_000, None, Some("second")),
        Input::new(2_000, Some("c"), None),
    ];
    inputs[1].headers =
        vec![("h".into(), Some(b"1".to_vec())), ("h".into(), None), ("".into(), Some(Vec::new()))];
    fill(BatchBuilder::new(compression).producer(7, 1, i32::MAX - 1), &inputs)
        .build(10)
        .expect("three records")
}

#[test]
fn reads_drawn_bytes() {
    let batch = RecordBatch::parse(&DRAWN).expect("drawn by the book");
    batch.verify_crc().expect("checksum");
    assert_eq!((batch.base_offset(), batch.last_offset(), batch.next_offset()), (42, 42, 43));
    assert_eq!((batch.partition_leader_epoch(), batch.record_count()), (7, 1));
    assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (1_000, 1_000));
    assert_eq!((batch.producer_id(), batch.producer_epoch()), (-1, -1));
    assert_eq!((batch.base_sequence(), batch.last_sequence()), (-1, -1));
    let records: Vec<_> = batch.records(DecompressLimits::default()).unwrap().map(Result::unwrap).collect();
    assert_eq!(records, [Input::new(1_000, Some("hello"), Some("world")).expected_at(42)]);
}

#[test]
fn builds_drawn_bytes() {
    let mut builder = BatchBuilder::new(Compression::None).partition_leader_epoch(7);
    builder.append(1_000, Some(b"hello"), Some(b"world"), &[]).unwrap();
    assert_eq!(builder.estimated_bytes(), DRAWN.len());
    assert_eq!(builder.build(42).unwrap(), DRAWN[..]);
}

#[test]
fn headers_keep_order_and_duplicates() {
    for compression in Compression::ALL {
        let bytes = three(compression);
        let record = Records::of(&bytes, DecompressLimits::default()).unwrap().nth(1).unwrap().unwrap();
        let expected =
            [Header::new("h", Some("1")), Header::new("h", None::<&str>), Header::new("", Some(""))];
        assert_eq!(record.headers, expected);
        assert_eq!(record.headers[0].key_lossy(), "h");
    }
}

#[test]
fn sequences_wrap() {
    let bytes = three(Compression::None);
    let batch = RecordBatch::parse(&bytes).unwrap();
    assert_eq!(batch.base_sequence(), i32::MAX - 1);
    assert_eq!(batch.last_sequence(), 0);
}

#[test]
fn finds_times() {
    let limits = DecompressLimits::default();
    for compression in Compression::ALL {
        let bytes = three(compression);
        let batch = RecordBatch::parse(&bytes).unwrap();
        let at = |offset, timestamp| Some(TimestampedOffset { offset, timestamp });
        assert_eq!(batch.find_timestamp(0, limits).unwrap(), at(10, 1_000));
        assert_eq!(batch.find_timestamp(1_001, limits).unwrap(), at(11, 3_000));
        assert_eq!(batch.find_timestamp(3_001, limits).unwrap(), None);
        assert_eq!(batch.max_timestamp_record(limits).unwrap(), at(11, 3_000));
        assert_eq!(batch.record_at(12, limits).unwrap(), at(12, 2_000));
        assert_eq!(batch.record_at(13, limits).unwrap(), None);
    }
}

#[test]
fn brokers_write_outside_the_checksum() {
    let mut bytes = three(Compression::None).to_vec();
    write_prefix(&mut bytes, 99, 5);
    let batch = RecordBatch::parse(&bytes).unwrap();
    batch.verify_crc().expect("untouched");
    assert_eq!((batch.base_offset(), batch.partition_leader_epoch()), (99, 5));
}

#[test]
fn the_brokers_time_is_every_records_time() {
    let mut bytes = three(Compression::Zstd).to_vec();
    set_log_append_time(&mut bytes, 77).unwrap();
    let batch = RecordBatch::parse(&bytes).unwrap();
    batch.verify_crc().expect("made anew");
    assert_eq!(batch.attributes().timestamp_type(), TimestampType::LogAppendTime);
    let limits = DecompressLimits::default();
    assert!(batch.records(limits).unwrap().all(|record| record.unwrap().timestamp == 77));
    assert_eq!(
        batch.max_timestamp_record(limits).unwrap(),
        Some(TimestampedOffset { offset: 10, timestamp: 77 })
    );
}

#[test]
fn attribute_bits() {
    let attributes = Attributes::from_bits(0b111_1011);
    assert_eq!(attributes.compression(), Ok(Compression::Lz4));
    assert!(attributes.is_transactional() && attributes.is_control() && attributes.has_delete_horizon());
    assert_eq!(attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(Attributes::from_bits(5).compression(), Err(BatchError::UnsupportedCompression(5)));
}

#[test]
fn old_formats_are_named() {
    for magic in [0, 1] {
        let mut bytes = DRAWN;
        bytes[16] = magic;
        // A message of the old formats can be shorter than the header of the new one.
        for have in [17, 30, bytes.len()] {
            let error = RecordBatch::parse(&bytes[..have]).unwrap_err();
            assert_eq!(error, BatchError::UnsupportedMagic(magic as i8));
        }
    }
}

#[test]
fn batches_follow_each_other_to_the_cut() {
    let mut bytes = [three(Compression::None), three(Compression::Gzip)].concat();
    assert_eq!(batches(&bytes).filter(Result::is_ok).count(), 2);
    bytes.pop();
    let mut found = batches(&bytes);
    assert!(found.next().unwrap().is_ok());
    assert!(matches!(found.next(), Some(Err(BatchError::Truncated { needed, have })) if needed == have + 1));
    assert!(found.next().is_none());
}

#[test]
fn every_truncation_says_how_much_is_missing() {
    let bytes = three(Compression::None);
    for have in 0..bytes.len() {
        match RecordBatch::parse(&bytes[..have]).unwrap_err() {
            BatchError::Truncated { needed, have: said } => {
                assert_eq!(said, have);
                assert_eq!(needed, if have < OVERHEAD { OVERHEAD } else { bytes.len() });
            }
            other => panic!("{have} bytes: {other}"),
        }
    }
}

/// Everything that can be asked of bytes of any kind.
fn read_all(bytes: &[u8]) -> Result<usize, BatchError> {
    let limits = DecompressLimits { output_bytes_max: 1 << 20, ratio_max: 1024 };
    let batch = RecordBatch::parse(bytes)?;
    let _ =
        (batch.find_timestamp(0, limits), batch.max_timestamp_record(limits), batch.record_at(11, limits));
    let records: Vec<_> = batch.records(limits)?.collect::<Result<_, _>>()?;
    let again = Records::of(&Bytes::copy_from_slice(bytes), limits)?.map_while(Result::ok).count();
    assert_eq!(records.len(), again);
    assert_eq!(records.len(), batch.record_count() as usize);
    Ok(records.len())
}

#[test]
fn every_flipped_bit_under_the_checksum_is_seen() {
    for compression in Compression::ALL {
        let good = three(compression);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = read_all(&bytes);
            let sound = RecordBatch::parse(&bytes).and_then(|batch| batch.verify_crc().map(|()| batch));
            let outside = (0..8).contains(&(bit / 8)) || (12..16).contains(&(bit / 8));
            let negative_offset = bit == 7;
            assert_eq!(sound.is_ok(), outside && !negative_offset, "{compression}, bit {bit}");
        }
    }
}

#[test]
fn every_byte_value_at_every_place_is_survived() {
    for compression in Compression::ALL {
        let good = three(compression);
        for at in 0..good.len() {
            let mut bytes = good.to_vec();
            for value in 0..=255 {
                bytes[at] = value;
                let _ = read_all(&bytes);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(inputs in inputs(), codec in codec(), base in 0..i64::MAX / 2) {
        let builder = fill(BatchBuilder::new(codec), &inputs);
        let estimated = builder.estimated_bytes();
        let bytes = builder.build(base).unwrap();
        if codec == Compression::None {
            prop_assert_eq!(estimated, bytes.len());
        }
        let batch = RecordBatch::parse(&bytes).unwrap();
        batch.verify_crc().unwrap();
        let expected: Vec<_> = (base..).zip(&inputs).map(|(offset, input)| input.expected_at(offset)).collect();
        let limits = DecompressLimits::default();
        let read: Vec<_> = batch.records(limits).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(&read, &expected);
        let shared: Vec<_> = Records::of(&bytes, limits).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(&shared, &expected);
        prop_assert_eq!(batch.max_timestamp(), inputs.iter().map(|input| input.timestamp).max().unwrap());
    }

    #[test]
    fn a_record_is_as_large_as_foretold(inputs in inputs()) {
        let mut builder = BatchBuilder::default();
        for input in &inputs {
            let (key, value, headers) = (input.key.as_deref(), input.value.as_deref(), input.headers());
            let foretold = builder.estimated_bytes() + builder.record_bytes(input.timestamp, key, value, &headers);
            builder.append(input.timestamp, key, value, &headers).unwrap();
            prop_assert_eq!(builder.estimated_bytes(), foretold);
        }
    }

    #[test]
    fn any_bytes_are_survived(
        head in prop::collection::vec(any::<u8>(), 0..120),
        bits in 0u16..64,
        count in -2..5i32,
        delta in -2..5i32,
    ) {
        let _ = read_all(&head);
        // With a header that passes, so that the records are reached.
        let mut bytes = build(Compression::None, &[Input::new(0, None, None)]).to_vec();
        bytes.truncate(OVERHEAD);
        bytes.extend(&head);
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[21..23].copy_from_slice(&bits.to_be_bytes());
        bytes[23..27].copy_from_slice(&delta.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let _ = read_all(&bytes);
    }
}
