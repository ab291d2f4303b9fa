//! Every codec on any input: within its cap, and the inverse of compression.
#![no_main]

use libfuzzer_sys::fuzz_target;
use log_core::record::{Compression, DecompressLimits};

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, cap_log], rest)) = input.split_first_chunk::<2>() else { return };
    let codec = Compression::from_id(choice % 5).expect("ids are 0 to 4");
    let limits = DecompressLimits { output_bytes_max: 1 << (cap_log % 22), ratio_max: 1024 };
    if let Ok(output) = codec.decompress(rest, limits) {
        assert!(output.len() <= limits.cap(rest.len()));
        // The buffer is part of the promise: a cap that only the output keeps is none.
        assert!(output.capacity() <= limits.cap(rest.len()));
    }
    if choice >= 128 {
        let packed = codec.compress(rest);
        let unpacked = codec.decompress(&packed, DecompressLimits::default()).expect("our own bytes");
        assert_eq!(unpacked, rest);
    }
});
