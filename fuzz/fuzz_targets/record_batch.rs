//! A batch as a producer could send it: checked, appended, and read in every way there is.
//!
//! The first byte of the input chooses what a topic demands, and whether length, magic and checksum
//! are made right first: without that, no input would get past them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use log_core::record::{
    Compression, DecompressLimits, OVERHEAD, RecordBatch, Records, TimestampType, ValidateOptions, batches,
    crc32c, validate_produced,
};

const LIMITS: DecompressLimits = DecompressLimits { output_bytes_max: 1 << 20, ratio_max: 1024 };

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if choice & 1 != 0 && bytes.len() >= OVERHEAD {
        repair(&mut bytes);
    }
    read(&bytes);

    let bytes = Bytes::from(bytes);
    let options = ValidateOptions {
        timestamp_type: if choice & 2 != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        },
        compacted: choice & 4 != 0,
        target_compression: Compression::from_id(choice >> 5),
        timestamp_after_max_ms: if choice & 8 != 0 { i64::MAX } else { 3_600_000 },
        decompress_limits: LIMITS,
        ..ValidateOptions::default()
    };
    if let Ok(batch) = validate_produced(bytes, &options) {
        let stored = batch.to_bytes(1_000, 1);
        let view = RecordBatch::parse(&stored).expect("what is taken can be parsed");
        view.verify_crc().expect("and has the right checksum");
        assert_eq!(view.size_bytes(), stored.len());
        let opened = batch.compression() == Compression::None || options.compacted;
        let records = Records::of(&stored, LIMITS).map(Iterator::collect::<Result<Vec<_>, _>>);
        if opened {
            let records = records.expect("within limits").expect("walked before");
            assert_eq!(records.len(), batch.record_count() as usize);
            if options.timestamp_type == TimestampType::CreateTime {
                assert_eq!(records.iter().map(|record| record.timestamp).max(), Some(view.max_timestamp()));
            }
        }
    }
});

fn repair(bytes: &mut [u8]) {
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn read(bytes: &[u8]) {
    for batch in batches(bytes).map_while(Result::ok) {
        let _ = batch.verify_crc();
        let found = batch.find_timestamp(1_000, LIMITS);
        let max = batch.max_timestamp_record(LIMITS);
        let _ = batch.record_at(batch.last_offset(), LIMITS);
        if let (Ok(Some(found)), Ok(Some(max))) = (found, max) {
            assert!(found.timestamp >= 1_000 && max.timestamp >= 1_000);
        }
        if let Ok(records) = batch.records(LIMITS) {
            let (_, at_most) = records.size_hint();
            let read = records.map_while(Result::ok).map(|record| record.offset).collect::<Vec<_>>();
            assert!(read.is_sorted() && at_most.is_some_and(|most| read.len() <= most));
        }
    }
}
