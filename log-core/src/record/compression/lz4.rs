//! The LZ4 frame format.
//!
//! ```text
//! magic        u32 LE   184d2204
//! flags        u8       bits 6-7 version = 1, 5 independent blocks, 4 block checksums,
//!                       3 content size, 2 content checksum, 0 dictionary id
//! block sizes  u8       bits 4-6: 4 to 7 for at most 64 KiB, 256 KiB, 1 MiB, 4 MiB a block
//! content size u64 LE   if flagged
//! checksum     u8       of the header
//! then blocks:
//!   size       u32 LE   bit 31: stored as it is; 0: the end
//!   block
//!   checksum   u32 LE   if flagged
//! checksum     u32 LE   of the content, if flagged
//! ```
//!
//! The frame is read here, and not by the library's reader, for two reasons: that one takes a stream
//! cut between blocks for a whole one, and it clears two buffers of the announced block size first,
//! which for the clients that announce 4 MiB (those in Go) is more work than the batch itself. The
//! frame's own checksums are passed over: the batch's CRC-32C has covered all these bytes.

use std::io::{self, Write};

use lz4_flex::block::{DecompressError as BlockError, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::{Compression, DecompressError, resize_within};

const MAGIC: u32 = 0x184d_2204;
/// Frames that decoders step over; the low four bits are free.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

const FLAG_INDEPENDENT: u8 = 1 << 5;
const FLAG_BLOCK_CHECKSUM: u8 = 1 << 4;
const FLAG_CONTENT_SIZE: u8 = 1 << 3;
const FLAG_CONTENT_CHECKSUM: u8 = 1 << 2;
const FLAG_DICTIONARY: u8 = 1 << 0;

/// A block's size field says with this bit that the block is not compressed.
const STORED: u32 = 1 << 31;

/// How far back a block may refer, where blocks depend on each other.
const WINDOW_BYTES: usize = 64 << 10;

/// No byte of a compressed block stands for more than 255 of output.
const RATIO_MAX: usize = 255;

/// The room a block is given at first, in its own sizes. What expands more is unpacked a second time
/// with all the room it may have.
const RATIO_USUAL: usize = 8;

/// Independent blocks of 64 KiB without checksums: all that the Java client's reader understands.
pub(super) fn compress(input: &[u8]) -> io::Result<Vec<u8>> {
    let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::with_capacity(input.len() / 2));
    encoder.write_all(input)?;
    encoder.finish().map_err(io::Error::other)
}

pub(super) fn decompress(input: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
    let mut rest = input;
    let mut output = Vec::new();
    // At least one frame, and then as many as there are.
    loop {
        read_frame(&mut rest, cap, &mut output)?;
        if rest.is_empty() {
            return Ok(output);
        }
    }
}

fn read_frame(rest: &mut &[u8], cap: usize, output: &mut Vec<u8>) -> Result<(), DecompressError> {
    let magic = take_u32(rest)?;
    if magic & !0xf == SKIPPABLE_MAGIC {
        let length = take_u32(rest)?;
        take(rest, length as usize)?;
        return Ok(());
    }
    if magic != MAGIC {
        return Err(malformed("not a frame"));
    }
    let &[flags, sizes] = take(rest, 2)? else { return Err(malformed("header is cut")) };
    if flags >> 6 != 1 {
        return Err(malformed("unknown version"));
    }
    if flags & FLAG_DICTIONARY != 0 {
        return Err(malformed("dictionaries are not supported"));
    }
    let block_bytes_max = match (sizes >> 4) & 7 {
        code @ 4..=7 => 1 << (2 * code + 8),
        _ => return Err(malformed("unknown block size")),
    };
    let content_size_bytes = if flags & FLAG_CONTENT_SIZE != 0 { 8 } else { 0 };
    take(rest, content_size_bytes + 1)?;

    let frame_start = output.len();
    loop {
        let size = take_u32(rest)?;
        if size == 0 {
            break;
        }
        let block = take(rest, (size & !STORED) as usize)?;
        if flags & FLAG_BLOCK_CHECKSUM != 0 {
            take(rest, 4)?;
        }
        if block.len() > block_bytes_max {
            return Err(malformed("block is larger than announced"));
        }
        if size & STORED != 0 {
            if block.len() > cap - output.len() {
                return Err(DecompressError::TooLarge { cap });
            }
            let start = output.len();
            resize_within(output, start + block.len(), cap);
            output[start..].copy_from_slice(block);
        } else {
            let window_bytes = if flags & FLAG_INDEPENDENT != 0 { 0 } else { WINDOW_BYTES };
            let dictionary_start = output.len().saturating_sub(window_bytes).max(frame_start);
            unpack_block(block, block_bytes_max, dictionary_start, cap, output)?;
        }
    }
    if flags & FLAG_CONTENT_CHECKSUM != 0 {
        take(rest, 4)?;
    }
    Ok(())
}

/// Unpacks one block behind `output`, whose bytes from `dictionary_start` it may refer to.
fn unpack_block(
    block: &[u8],
    block_bytes_max: usize,
    dictionary_start: usize,
    cap: usize,
    output: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let start = output.len();
    let possible = block_bytes_max.min(block.len().saturating_mul(RATIO_MAX));
    let allowed = possible.min(cap - start);
    let usual = allowed.min(block.len().saturating_mul(RATIO_USUAL));
    let mut result = Ok(0);
    for room in [usual, allowed] {
        resize_within(output, start + room, cap);
        let (before, out) = output.split_at_mut(start);
        result = decompress_into_with_dict(block, out, &before[dictionary_start..]);
        if !matches!(result, Err(BlockError::OutputTooSmall { .. })) {
            break;
        }
    }
    match result {
        Ok(written) => {
            output.truncate(start + written);
            Ok(())
        }
        Err(BlockError::OutputTooSmall { .. }) if allowed < possible => {
            Err(DecompressError::TooLarge { cap })
        }
        Err(error) => Err(malformed(error)),
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecompressError> {
    let (taken, after) = rest.split_at_checked(length).ok_or_else(|| malformed("frame is cut"))?;
    *rest = after;
    Ok(taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, DecompressError> {
    let (bytes, after) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("frame is cut"))?;
    *rest = after;
    Ok(u32::from_le_bytes(*bytes))
}

fn malformed(reason: impl std::fmt::Display) -> DecompressError {
    Compression::Lz4.malformed(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(info: FrameInfo, input: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(input).expect("to memory");
        encoder.finish().expect("to memory")
    }

    #[test]
    fn reads_frames_of_every_kind() {
        let input: Vec<u8> = (0..100_000u32).flat_map(|number| (number / 3).to_le_bytes()).collect();
        for block_size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
            for block_mode in [BlockMode::Independent, BlockMode::Linked] {
                for flagged in [false, true] {
                    let info = FrameInfo::new()
                        .block_size(block_size)
                        .block_mode(block_mode)
                        .block_checksums(flagged)
                        .content_checksum(flagged)
                        .content_size(flagged.then_some(input.len() as u64));
                    let packed = frame(info, &input);
                    assert_eq!(decompress(&packed, 1 << 20).as_ref(), Ok(&input));
                }
            }
        }
    }

    #[test]
    fn what_expands_beyond_the_usual_is_given_more_room() {
        let input = vec![b'a'; 300_000];
        for block_size in [BlockSize::Max64KB, BlockSize::Max4MB] {
            let packed = frame(FrameInfo::new().block_size(block_size), &input);
            assert_eq!(decompress(&packed, input.len()).as_ref(), Ok(&input));
            let cap = input.len() - 1;
            assert_eq!(decompress(&packed, cap), Err(DecompressError::TooLarge { cap }));
        }
    }

    #[test]
    fn skippable_frames_are_stepped_over() {
        let packed =
            [&[0x5f, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &frame(FrameInfo::new(), b"after")].concat();
        assert_eq!(decompress(&packed, 100).as_deref(), Ok(&b"after"[..]));
        assert!(decompress(&packed[..9], 100).is_err());
    }

    #[test]
    fn every_cut_is_an_error() {
        let packed = frame(FrameInfo::new(), &[7; 1_000]);
        for cut in 0..packed.len() {
            assert!(decompress(&packed[..cut], 10_000).is_err(), "{cut} of {}", packed.len());
        }
    }

    #[test]
    fn blocks_do_not_see_another_frame() {
        // A linked block that refers back past its own frame: token for no literals and a match of 4,
        // offset 5, then five literals to end the block.
        let block = [0x00, 5, 0, 0x50, 1, 2, 3, 4, 5];
        let mut linked = MAGIC.to_le_bytes().to_vec();
        linked.extend([0b0100_0000, 4 << 4, 0]);
        linked.extend((block.len() as u32).to_le_bytes());
        linked.extend(block);
        linked.extend([0; 4]);
        let packed = [frame(FrameInfo::new(), b"abcdefgh"), linked].concat();
        assert!(decompress(&packed, 100).is_err());
    }
}
