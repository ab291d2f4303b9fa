//! The same batches through an independent implementation, in both directions and for every codec.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use log_core::record::{BatchBuilder, Compression, DecompressLimits, Record, RecordBatch, Records};
use proptest::prelude::*;

use super::{Input, codec, fill, inputs};

fn theirs(codec: Compression) -> oracle::Compression {
    match codec {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    }
}

/// The oracle's records cannot hold a header twice.
fn without_duplicates(inputs: Vec<Input>) -> Vec<Input> {
    inputs
        .into_iter()
        .map(|mut input| {
            let mut unique = Vec::<(String, Option<Vec<u8>>)>::new();
            for header in input.headers.drain(..) {
                unique.retain(|known| known.0 != header.0);
                unique.push(header);
            }
            input.headers = unique;
            input
        })
        .collect()
}

fn their_record(input: &Input, index: usize, producer: (i64, i16, i32)) -> oracle::Record {
    oracle::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.0,
        producer_epoch: producer.1,
        timestamp_type: oracle::TimestampType::Creation,
        offset: index as i64,
        sequence: producer.2.wrapping_add(index as i32),
        timestamp: input.timestamp,
        key: input.key.clone().map(Bytes::from),
        value: input.value.clone().map(Bytes::from),
        headers: input
            .headers
            .iter()
            .map(|(key, value)| (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from)))
            .collect(),
    }
}

fn encode_theirs(inputs: &[Input], codec: Compression, producer: (i64, i16, i32)) -> Bytes {
    let records: Vec<_> =
        inputs.iter().enumerate().map(|(index, input)| their_record(input, index, producer)).collect();
    let options = oracle::RecordEncodeOptions { version: 2, compression: theirs(codec) };
    let mut out = BytesMut::new();
    oracle::RecordBatchEncoder::encode(&mut out, &records, &options).expect("the oracle encodes");
    out.freeze()
}

proptest! {
    #[test]
    fn it_reads_ours(inputs in inputs(), codec in codec(), id in 0..i64::MAX, epoch in 0..i16::MAX) {
        let inputs = without_duplicates(inputs);
        let producer = (id, epoch, 5);
        let mut bytes = fill(BatchBuilder::new(codec).producer(id, epoch, 5), &inputs).build(0).unwrap();
        let set = oracle::RecordBatchDecoder::decode(&mut bytes).expect("the oracle decodes");
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(set.compression, theirs(codec));
        let expected: Vec<_> =
            inputs.iter().enumerate().map(|(index, input)| their_record(input, index, producer)).collect();
        prop_assert_eq!(set.records, expected);
    }

    #[test]
    fn ours_reads_its(inputs in inputs(), codec in codec(), id in 0..i64::MAX, epoch in 0..i16::MAX) {
        let inputs = without_duplicates(inputs);
        let bytes = encode_theirs(&inputs, codec, (id, epoch, 9));
        let batch = RecordBatch::parse(&bytes).unwrap();
        batch.verify_crc().unwrap();
        prop_assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (id, epoch, 9));
        let read: Vec<Record> =
            Records::of(&bytes, DecompressLimits::default()).unwrap().map(Result::unwrap).collect();
        let expected: Vec<_> = (0..).zip(&inputs).map(|(offset, input)| input.expected_at(offset)).collect();
        prop_assert_eq!(read, expected);
    }

    /// Both put the earliest time first here, so that even the base timestamp is the same.
    #[test]
    fn uncompressed_batches_are_the_same_to_the_byte(inputs in inputs()) {
        let mut inputs = without_duplicates(inputs);
        inputs.sort_by_key(|input| input.timestamp);
        let ours = fill(BatchBuilder::new(Compression::None).producer(3, 2, 1), &inputs).build(0).unwrap();
        prop_assert_eq!(ours, encode_theirs(&inputs, Compression::None, (3, 2, 1)));
    }
}
