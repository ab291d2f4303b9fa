//! Record batches: what a broker and a client do to every byte that passes.
//!
//!     cargo bench -p benches --bench batch
//!
//! The twin of validation is the checksum alone, over the same bytes in the same run: nobody who
//! keeps what was sent can do less.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use log_core::record::{
    BatchBuilder, Compression, DecompressLimits, RecordBatch, Records, TimestampType, ValidateOptions,
    validate_produced,
};

/// (name, record value bytes, records): batches from one small request to the largest allowed.
const SHAPES: [(&str, usize, usize); 4] = [
    ("1KiB_1x1KiB", 950, 1),
    ("64KiB_64x1KiB", 1_008, 64),
    ("64KiB_640x100B", 90, 640),
    ("1MiB_1000x1KiB", 1_024, 1_000),
];

/// A batch of values that look like JSON: half repeated names, half numbers.
fn batch(compression: Compression, value_bytes: usize, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for index in 0..records {
        let mut value = Vec::with_capacity(value_bytes + 40);
        while value.len() < value_bytes {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            value.extend_from_slice(format!("\"distance\":{seed:020},").as_bytes());
        }
        value.truncate(value_bytes);
        let key = format!("{index:08}");
        builder.append(index as i64, Some(key.as_bytes()), Some(&value), &[]).expect("below 2 GiB");
    }
    builder.build(0).expect("not empty")
}

fn validate(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate");
    let options = ValidateOptions { max_message_bytes: 2 << 20, ..ValidateOptions::default() };
    let broker_time = ValidateOptions { timestamp_type: TimestampType::LogAppendTime, ..options.clone() };
    for (name, value_bytes, records) in SHAPES {
        let bytes = batch(Compression::None, value_bytes, records);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("twin_crc_alone", name), &bytes, |b, bytes| {
            b.iter(|| crc_fast::crc32_iscsi(black_box(&bytes[21..])));
        });
        group.bench_with_input(BenchmarkId::new("create_time", name), &bytes, |b, bytes| {
            b.iter(|| validate_produced(black_box(bytes).clone(), &options));
        });
        group.bench_with_input(BenchmarkId::new("log_append_time", name), &bytes, |b, bytes| {
            b.iter(|| validate_produced(black_box(bytes).clone(), &broker_time));
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    for (name, value_bytes, records) in SHAPES {
        let bytes = batch(Compression::None, value_bytes, records);
        group.throughput(Throughput::Elements(records as u64));
        group.bench_with_input(BenchmarkId::new("borrowed", name), &bytes, |b, bytes| {
            b.iter(|| {
                let view = RecordBatch::parse(black_box(bytes)).expect("built here");
                view.record_refs(view.records_payload())
                    .map(|record| record.expect("built here").timestamp)
                    .sum::<i64>()
            });
        });
        group.bench_with_input(BenchmarkId::new("owned", name), &bytes, |b, bytes| {
            b.iter(|| {
                let records = Records::of(black_box(bytes), DecompressLimits::default()).expect("built here");
                records.map(|record| record.expect("built here").timestamp).sum::<i64>()
            });
        });
    }
    group.finish();
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    for (name, value_bytes, records) in SHAPES {
        let value = vec![b'v'; value_bytes];
        group.throughput(Throughput::Bytes((value_bytes * records) as u64));
        group.bench_function(BenchmarkId::new("uncompressed", name), |b| {
            b.iter(|| {
                let mut builder = BatchBuilder::new(Compression::None);
                for index in 0..records {
                    builder
                        .append(index as i64, Some(b"key"), Some(black_box(&value)), &[])
                        .expect("below 2 GiB");
                }
                builder.build(0)
            });
        });
    }
    group.finish();
}

fn codecs(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    for (name, value_bytes, records) in [SHAPES[0], SHAPES[1], SHAPES[3]] {
        let plain = batch(Compression::None, value_bytes, records);
        let payload = RecordBatch::parse(&plain).expect("built here").records_payload();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            group.bench_function(BenchmarkId::new(format!("compress_{codec}"), name), |b| {
                b.iter(|| codec.compress(black_box(payload)));
            });
            let packed = codec.compress(payload);
            group.bench_function(BenchmarkId::new(format!("decompress_{codec}"), name), |b| {
                b.iter(|| codec.decompress(black_box(&packed), DecompressLimits::default()));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, validate, read, build, codecs);
criterion_main!(benches);
