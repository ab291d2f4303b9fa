//! Snappy in the framing of snappy-java, which the Java client writes and every client reads.
//!
//! ```text
//! header   82 "SNAPPY" 00, version i32 = 1, compatible with i32 = 1
//! then, to the end, blocks:
//!   length i32   of the block
//!   block        a plain snappy block, of 32 KiB of input at most
//! ```
//!
//! Some clients (librdkafka, and so kcat) write one plain block and no framing. The two cannot be taken
//! for each other: the header, read as a plain block, begins by copying from before its start.

use super::{Compression, DecompressError, resize_within};

/// Magic, then version 1 and "compatible with version 1", both big-endian.
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const MAGIC_BYTES: usize = 8;

/// Bytes of input to a block, as the Java library chooses.
const BLOCK_BYTES: usize = 32 << 10;

/// No element of a block unpacks to more than 64 bytes from 3, so a block that claims more than
/// 22 times its size lies.
const RATIO_MAX: usize = 22;

pub(super) fn compress(input: &[u8]) -> Vec<u8> {
    let mut encoder = snap::raw::Encoder::new();
    let mut output = Vec::with_capacity(HEADER.len() + input.len() / 2);
    output.extend_from_slice(&HEADER);
    for block in input.chunks(BLOCK_BYTES) {
        let length_at = output.len();
        let block_at = length_at + 4;
        output.resize(block_at + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder
            .compress(block, &mut output[block_at..])
            .expect("32 KiB fit into a buffer of max_compress_len");
        output[length_at..block_at].copy_from_slice(&(written as u32).to_be_bytes());
        output.truncate(block_at + written);
    }
    output
}

pub(super) fn decompress(input: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
    let mut output = Vec::new();
    if !input.starts_with(&HEADER[..MAGIC_BYTES]) {
        unpack_block(input, cap, &mut output)?;
        return Ok(output);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // Streams may be concatenated, so a header can come wherever a block can.
        if rest.starts_with(&HEADER[..MAGIC_BYTES]) {
            rest = rest.get(HEADER.len()..).ok_or_else(|| malformed("header is cut"))?;
            continue;
        }
        let (length, after) =
            rest.split_first_chunk::<4>().ok_or_else(|| malformed("block length is cut"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, after) = after.split_at_checked(length).ok_or_else(|| malformed("block is cut"))?;
        unpack_block(block, cap, &mut output)?;
        rest = after;
    }
    Ok(output)
}

fn unpack_block(block: &[u8], cap: usize, output: &mut Vec<u8>) -> Result<(), DecompressError> {
    let length = snap::raw::decompress_len(block).map_err(malformed)?;
    if length > cap - output.len() {
        return Err(DecompressError::TooLarge { cap });
    }
    if length > block.len().saturating_mul(RATIO_MAX) {
        return Err(malformed("length is more than the block can hold"));
    }
    let start = output.len();
    resize_within(output, start + length, cap);
    let written = snap::raw::Decoder::new().decompress(block, &mut output[start..]).map_err(malformed)?;
    output.truncate(start + written);
    Ok(())
}

fn malformed(reason: impl std::fmt::Display) -> DecompressError {
    Compression::Snappy.malformed(reason)
}
