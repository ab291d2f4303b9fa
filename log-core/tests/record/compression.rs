//! Codecs: both framings of snappy, concatenation, names, and bombs.

use log_core::record::{Compression, DecompressError, DecompressLimits};
use proptest::prelude::*;

use super::codec;

fn limits(output_bytes_max: usize) -> DecompressLimits {
    DecompressLimits { output_bytes_max, ratio_max: usize::MAX }
}

#[test]
fn names_and_ids() {
    for codec in Compression::ALL {
        assert_eq!(codec.to_string().parse(), Ok(codec));
        assert_eq!(Compression::from_id(codec.id()), Some(codec));
    }
    assert_eq!("uncompressed".parse(), Ok(Compression::None));
    assert!("brotli".parse::<Compression>().unwrap_err().to_string().contains("brotli"));
    assert_eq!(Compression::from_id(5), None);
}

/// What the Java client wrote for one record "sdfdsf"; and the same as one plain block.
#[test]
fn snappy_in_both_framings() {
    let xerial = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x0f\x0d\x30\x18\0\0\0\x01\x0csdfdsf\0";
    let plain = b"\x0d\x30\x18\0\0\0\x01\x0csdfdsf\0";
    let expected = b"\x18\0\0\0\x01\x0csdfdsf\0";
    assert_eq!(Compression::Snappy.decompress(xerial, limits(100)).unwrap(), expected);
    assert_eq!(Compression::Snappy.decompress(plain, limits(100)).unwrap(), expected);
    assert_eq!(Compression::Snappy.compress(expected), xerial, "and that is what we write");
}

#[test]
fn concatenated_streams_are_one() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Zstd] {
        let two = [codec.compress(b"one "), codec.compress(b"two")].concat();
        assert_eq!(codec.decompress(&two, limits(100)).unwrap(), b"one two", "{codec}");
    }
}

/// Kafka's Java reader refuses LZ4 blocks that depend on each other.
#[test]
fn lz4_blocks_are_independent() {
    let frame = Compression::Lz4.compress(&vec![7; 200 << 10]);
    assert_eq!(frame[..4], 0x184d_2204u32.to_le_bytes());
    assert_eq!(frame[4], 0b0110_0000, "version 1, independent, no checksums");
    assert_eq!(frame[5], 4 << 4, "64 KiB blocks");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let plain = vec![0; 64 << 20];
    for codec in Compression::ALL {
        let bomb = codec.compress(&plain);
        for output_bytes_max in [0, 1, 4096, 1 << 20, plain.len() - 1] {
            let error = codec.decompress(&bomb, limits(output_bytes_max)).unwrap_err();
            assert_eq!(error, DecompressError::TooLarge { cap: output_bytes_max }, "{codec}");
        }
    }
}

#[test]
fn the_limit_itself_is_allowed() {
    let plain: Vec<u8> = (0..300_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
    for codec in Compression::ALL {
        let packed = codec.compress(&plain);
        assert_eq!(codec.decompress(&packed, limits(plain.len())).unwrap(), plain, "{codec}");
        let error = codec.decompress(&packed, limits(plain.len() - 1)).unwrap_err();
        assert_eq!(error, DecompressError::TooLarge { cap: plain.len() - 1 }, "{codec}");
    }
}

#[test]
fn a_ratio_beyond_the_limit_is_refused() {
    let bomb = Compression::Zstd.compress(&vec![0; 32 << 20]);
    let error = Compression::Zstd.decompress(&bomb, DecompressLimits::default()).unwrap_err();
    assert!(matches!(error, DecompressError::TooLarge { cap } if cap < 32 << 20), "{error}");
    let modest = vec![0; DecompressLimits::RATIO_FREE_BYTES];
    let packed = Compression::Zstd.compress(&modest);
    assert_eq!(Compression::Zstd.decompress(&packed, DecompressLimits::default()).unwrap(), modest);
}

/// A block that announces gigabytes in five bytes must not be believed.
#[test]
fn announced_lengths_are_not_believed() {
    let lie = b"\xff\xff\xff\xff\x0f\x00a";
    for output_bytes_max in [1 << 20, usize::MAX] {
        assert!(Compression::Snappy.decompress(lie, limits(output_bytes_max)).is_err());
    }
}

#[test]
fn garbage_is_an_error() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let error = codec.decompress(b"\xfe\xfe\xfe\xfe\xfe\xfe\xfe\xfe", limits(1000)).unwrap_err();
        assert!(matches!(error, DecompressError::Malformed { codec: said, .. } if said == codec), "{error}");
        assert!(error.to_string().contains(codec.name()));
    }
}

/// A cut stream is never taken for a whole one. Snappy's has no end mark: it can be cut between blocks,
/// and the records then miss.
#[test]
fn every_cut_is_seen() {
    let plain: Vec<u8> = (0..2_000u32).flat_map(|number| (number * number).to_le_bytes()).collect();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let packed = codec.compress(&plain);
        for cut in 0..packed.len() {
            if let Ok(output) = codec.decompress(&packed[..cut], limits(1 << 20)) {
                assert!(output.len() < plain.len() && plain.starts_with(&output), "{codec} at {cut}");
            }
        }
    }
}

proptest! {
    #[test]
    fn round_trip(
        codec in codec(),
        noise in prop::collection::vec(any::<u8>(), 0..3_000),
        repeats in 1..60usize,
    ) {
        let plain = noise.repeat(repeats);
        prop_assert_eq!(codec.decompress(&codec.compress(&plain), limits(1 << 20)).unwrap(), plain);
    }

    #[test]
    fn any_bytes_are_survived(codec in codec(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(output) = codec.decompress(&bytes, limits(5_000)) {
            prop_assert!(output.len() <= 5_000);
        }
    }

    #[test]
    fn damage_is_survived(
        codec in codec(),
        plain in prop::collection::vec(any::<u8>(), 0..200),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut packed = codec.compress(&plain.repeat(5));
        for (at, value) in flips {
            if !packed.is_empty() {
                let at = at.index(packed.len());
                packed[at] ^= value;
            }
        }
        if let Ok(output) = codec.decompress(&packed, limits(5_000)) {
            prop_assert!(output.len() <= 5_000);
        }
    }
}
