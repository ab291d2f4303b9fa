//! Zstandard, in one call a batch and with contexts that a thread keeps: to set one up costs more than
//! to compress a batch of some kilobytes.
//!
//! Decompression in one call writes straight into its output and needs no window beside it, so that
//! the memory a hostile frame can ask for is the output's. The price is to guess the output's size
//! where the frame does not say it (Java's does not), and to start again with all the room there may
//! be when the guess was too low.

use std::cell::RefCell;

use zstd::zstd_safe::{self, CCtx, DCtx, ErrorCode};

use super::{Compression, DecompressError};

/// Room for the output of a frame that does not say its size, in sizes of the input and in bytes.
const RATIO_USUAL: usize = 16;
const ROOM_BYTES_MIN: usize = 4 << 10;

/// `ZSTD_error_dstSize_tooSmall`, whose number the library promises to keep. Codes are returned
/// negated.
const DESTINATION_TOO_SMALL: usize = 70;

thread_local! {
    static COMPRESS: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESS: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

pub(super) fn compress(input: &[u8], level: i32) -> Vec<u8> {
    let mut output = Vec::with_capacity(zstd_safe::compress_bound(input.len()));
    COMPRESS
        .with_borrow_mut(|context| context.compress(&mut output, input, level))
        .unwrap_or_else(|code| panic!("zstd refused to compress: {}", zstd_safe::get_error_name(code)));
    output.shrink_to_fit();
    output
}

pub(super) fn decompress(input: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
    // What the frame says of itself is a hint: it can lie, and other frames can follow it.
    let said = zstd_safe::get_frame_content_size(input).ok().flatten();
    let guess = match said {
        Some(size) => usize::try_from(size).unwrap_or(usize::MAX),
        None => input.len().saturating_mul(RATIO_USUAL).max(ROOM_BYTES_MIN),
    };
    let first = guess.min(cap);
    let result = match unpack(input, first) {
        Err(code) if is_too_small(code) && first < cap => unpack(input, cap),
        result => result,
    };
    match result {
        Ok(mut output) => {
            if output.capacity() / 2 > output.len() {
                output.shrink_to_fit();
            }
            Ok(output)
        }
        Err(code) if is_too_small(code) => Err(DecompressError::TooLarge { cap }),
        Err(code) => Err(Compression::Zstd.malformed(zstd_safe::get_error_name(code))),
    }
}

fn unpack(input: &[u8], room_bytes: usize) -> Result<Vec<u8>, ErrorCode> {
    let mut output = Vec::with_capacity(room_bytes);
    DECOMPRESS.with_borrow_mut(|context| context.decompress(&mut output, input))?;
    Ok(output)
}

fn is_too_small(code: ErrorCode) -> bool {
    code.wrapping_neg() == DESTINATION_TOO_SMALL
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pack(input: &[u8]) -> Vec<u8> {
        compress(input, zstd::DEFAULT_COMPRESSION_LEVEL)
    }

    /// A frame as a stream writes it: without its size.
    fn streamed(input: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("to memory");
        encoder.write_all(input).expect("to memory");
        encoder.finish().expect("to memory")
    }

    #[test]
    fn frames_that_do_not_say_their_size() {
        for input in [b"short".to_vec(), vec![7; 3 << 20], (0..=255).cycle().take(100_000).collect()] {
            let packed = streamed(&input);
            assert!(matches!(zstd_safe::get_frame_content_size(&packed), Ok(None)));
            assert_eq!(decompress(&packed, 4 << 20).as_ref(), Ok(&input));
            if let Some(cap) = input.len().checked_sub(1) {
                assert_eq!(decompress(&packed, cap), Err(DecompressError::TooLarge { cap }));
            }
        }
    }

    #[test]
    fn a_second_frame_may_be_larger_than_the_first() {
        let packed = [pack(b"a"), pack(&[b'b'; 100_000])].concat();
        assert_eq!(decompress(&packed, 1 << 20).map(|output| output.len()), Ok(100_001));
        assert_eq!(decompress(&packed, 100_000), Err(DecompressError::TooLarge { cap: 100_000 }));
    }

    #[test]
    fn the_number_of_the_error_is_the_librarys() {
        let code = unpack(&pack(&[7; 1_000]), 10).unwrap_err();
        assert_eq!(zstd_safe::get_error_name(code), "Destination buffer is too small");
        assert!(is_too_small(code));
    }

    #[test]
    fn a_context_is_good_after_a_failure() {
        assert!(decompress(&pack(&[7; 1_000])[..9], 1 << 20).is_err());
        assert_eq!(decompress(&pack(b"next"), 1 << 20).as_deref(), Ok(&b"next"[..]));
    }
}
