//! Hostile bytes against every request decoder: an error or a value, never a panic, and memory in
//! proportion to the bytes that came.
//!
//! The allocator counts, so a test binary of its own. Each test resets the count around one decode;
//! counts are per thread because the harness runs tests in parallel.

mod oracle_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Encodable, Message};
use log_core::wire::{
    ApiKey, CONTROL_AMPLIFICATION_MAX, DecodeError, FetchRequest, KafkaDecode, ProduceRequest, RequestHeader,
    decode_request, messages,
};
use oracle_support::for_each_control_api;
use oracle_support::random::{Draw, Random};

struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(freed: usize, allocated: usize) {
    // Both cells are plain numbers without destructors, so they can be used while a thread ends.
    let live = LIVE.get().saturating_sub(freed).saturating_add(allocated);
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout.size(), 0);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new may exist at once while the bytes move.
        count(0, new_size);
        count(layout.size(), 0);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Decode = fn(Bytes, i16) -> bool;

fn decodes<T: KafkaDecode>(body: Bytes, version: i16) -> bool {
    black_box(decode_request::<T>(body, version)).is_ok()
}

fn ours<T>(decode: fn(Bytes, i16) -> Result<T, DecodeError>, body: Bytes, version: i16) -> bool {
    black_box(decode(body, version)).is_ok()
}

/// Runs one decode and checks what it allocated: a little, and a bounded multiple of the body.
fn decode_within_bounds(api: ApiKey, version: i16, decode: Decode, body: Bytes) -> bool {
    let len = body.len();
    LIVE.set(0);
    PEAK.set(0);
    let ok = decode(body, version);
    let peak = PEAK.get();
    assert!(
        peak <= 4096 + len * CONTROL_AMPLIFICATION_MAX,
        "{api} {version}: {peak} bytes of memory for {len} on the wire"
    );
    ok
}

/// Every served request with its decoder and, where the oracle knows the version, a valid body.
fn for_each_request(mut visit: impl FnMut(ApiKey, i16, Decode, Option<Bytes>)) {
    fn sample<T: Random + Encodable + Message>(version: i16) -> Option<Bytes> {
        (T::VERSIONS.min..=T::VERSIONS.max).contains(&version).then(|| {
            let mut draw = Draw { rng: Rng::with_seed(version as u64 + 3), version, unknown_tags: true };
            let mut bytes = BytesMut::new();
            T::random(&mut draw).encode(&mut bytes, version).expect("kept encodable");
            bytes.freeze()
        })
    }
    let produce: Decode = |body, version| ours(ProduceRequest::decode, body, version);
    let fetch: Decode = |body, version| ours(FetchRequest::decode, body, version);
    for version in ApiKey::Produce.served().iter() {
        visit(ApiKey::Produce, version, produce, sample::<theirs::ProduceRequest>(version));
    }
    for version in ApiKey::Fetch.served().iter() {
        visit(ApiKey::Fetch, version, fetch, sample::<theirs::FetchRequest>(version));
    }
    macro_rules! visit {
        ($api:ident, $request:ident, $response:ident) => {
            for version in ApiKey::$api.served().iter() {
                let body = sample::<theirs::$request>(version);
                visit(ApiKey::$api, version, decodes::<messages::$request>, body);
            }
        };
    }
    for_each_control_api!(visit);
}

#[test]
fn every_truncation_is_an_error() {
    for_each_request(|api, version, decode, body| {
        let Some(body) = body else { return };
        for len in 0..body.len() {
            assert!(
                !decode_within_bounds(api, version, decode, body.slice(..len)),
                "{api} {version} cut to {len}"
            );
        }
        let mut longer = BytesMut::from(&body[..]);
        longer.extend_from_slice(&[0]);
        // Kafka passes over what follows a request, and librdkafka sends such bytes (`decode_request`).
        // The data plane's own decoders refuse them.
        let refused = matches!(api, ApiKey::Produce | ApiKey::Fetch);
        assert_eq!(
            decode_within_bounds(api, version, decode, longer.freeze()),
            !refused && decode_within_bounds(api, version, decode, body.clone()),
            "{api} {version} with a byte too many"
        );
    });
}

#[test]
fn every_four_bytes_may_be_a_huge_or_negative_length() {
    let lengths: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0x80, 0, 0, 0],
        &[0x00, 0x0f, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0x7f],
    ];
    for_each_request(|api, version, decode, body| {
        let Some(body) = body else { return };
        for position in 0..body.len() {
            for length in lengths {
                let mut bytes = BytesMut::from(&body[..]);
                let end = (position + length.len()).min(bytes.len());
                bytes[position..end].copy_from_slice(&length[..end - position]);
                decode_within_bounds(api, version, decode, bytes.freeze());
            }
        }
    });
}

/// The worst for memory is what repeats: arrays whose elements are as small as they can be.
#[test]
fn repetitive_bodies_stay_within_the_promised_factor() {
    let mut rng = Rng::with_seed(11);
    for_each_request(|api, version, decode, _| {
        for pattern in
            [&[0u8][..], &[1], &[2], &[0, 1], &[1, 0], &[0, 0, 0, 1], &[1, 1, 1, 0], &[0x80, 0x80, 1]]
        {
            for len in [64, 4 << 10, 256 << 10] {
                // An array count in front, in either encoding, as large as the bytes allow.
                let mut legacy = BytesMut::from(&(len as i32).to_be_bytes()[..]);
                let mut compact = BytesMut::from(&[0xff, 0xff, 0x03][..]);
                for bytes in [&mut legacy, &mut compact] {
                    bytes.extend(pattern.iter().cycle().take(len));
                }
                decode_within_bounds(api, version, decode, legacy.freeze());
                decode_within_bounds(api, version, decode, compact.freeze());
            }
        }
        for _ in 0..50 {
            let bytes: Bytes = (0..rng.usize(..512)).map(|_| rng.u8(..4)).collect();
            decode_within_bounds(api, version, decode, bytes);
        }
    });
}

#[test]
fn random_frames_never_panic() {
    let mut rng = Rng::with_seed(5);
    for _ in 0..50_000 {
        let len = rng.usize(..40);
        let mut frame: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        if len > 4 {
            let api = ApiKey::ALL[rng.usize(..ApiKey::ALL.len())];
            frame[..2].copy_from_slice(&api.code().to_be_bytes());
            frame[2..4].copy_from_slice(&rng.i16(0..20).to_be_bytes());
        }
        let _ = black_box(RequestHeader::decode(frame.into()));
    }
}

/// Gives the fuzz target `wire_request` a valid frame of every API and version to start from:
/// `cargo test -p log-core --test hostile -- --ignored` fills `fuzz/corpus/wire_request`.
#[test]
#[ignore = "writes the fuzzer's corpus"]
fn write_fuzz_corpus() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/wire_request");
    std::fs::create_dir_all(dir).unwrap();
    for_each_request(|api, version, _, body| {
        let Some(body) = body else { return };
        let client_id = Some("fuzz".into());
        let header =
            RequestHeader { api_key: api.code(), api_version: version, correlation_id: 1, client_id };
        let frame = header.frame(api, vec![body]).unwrap().concat();
        std::fs::write(format!("{dir}/{api}-{version}"), &frame[4..]).unwrap();
    });
}
