//! The four codecs of Kafka, each with a bound on what it may unpack to.
//!
//! A batch of a megabyte can unpack to a thousand times that, and its CRC says nothing about it. So
//! every decompression states a limit, output grows only as it is produced, and never beyond the
//! limit.

mod lz4;
mod snappy;
mod zstd;

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Stored as they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of the Java library (xerial); plain blocks are read too.
    Snappy,
    /// The LZ4 frame format with independent blocks.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// How hard a codec tries. Snappy has one way, and so has lz4 as it is written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionLevels {
    /// 1 is fast, 9 small; -1 is the codec's usual one, 6.
    pub gzip: i32,
    /// -131,072 is fast, 22 small. Levels above 19 take hundreds of times as long as the usual one, 3.
    pub zstd: i32,
}

impl Default for CompressionLevels {
    /// The usual ones.
    fn default() -> CompressionLevels {
        CompressionLevels { gzip: -1, zstd: ::zstd::DEFAULT_COMPRESSION_LEVEL }
    }
}

/// What one decompression may produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecompressLimits {
    /// Bytes of output at most, whatever the input.
    pub output_bytes_max: usize,
    /// Times the input that the output may be, once it is above [`DecompressLimits::RATIO_FREE_BYTES`].
    pub ratio_max: usize,
}

impl DecompressLimits {
    /// Output up to here needs no justification by its input: a few bytes of zstd honestly stand for
    /// a megabyte of equal records.
    pub const RATIO_FREE_BYTES: usize = 4 << 20;

    /// The output allowed for `input_bytes`.
    #[must_use]
    pub fn cap(&self, input_bytes: usize) -> usize {
        input_bytes.saturating_mul(self.ratio_max).max(Self::RATIO_FREE_BYTES).min(self.output_bytes_max)
    }
}

impl Default for DecompressLimits {
    /// 128 MiB and 1,024 times the input, about what gzip can reach at most.
    fn default() -> DecompressLimits {
        DecompressLimits { output_bytes_max: 128 << 20, ratio_max: 1024 }
    }
}

/// Why bytes could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The output goes beyond what was allowed; what there was of it has been dropped.
    #[error("decompresses to more than {cap} bytes")]
    TooLarge {
        /// Bytes that were allowed.
        cap: usize,
    },
    /// The input is not what the codec writes.
    #[error("{codec} data is malformed: {reason}")]
    Malformed {
        /// The codec that refused it.
        codec: Compression,
        /// In the words of the codec.
        reason: String,
    },
}

/// A name that is none of Kafka's codecs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression '{0}': expected none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression(pub String);

impl Compression {
    /// All of them, by id.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The id in bits 0 to 2 of a batch's attributes.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The codec of an id, `None` for 5 to 7.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Compression> {
        Compression::ALL.get(usize::from(id)).copied()
    }

    /// Kafka's name: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Compresses at the codec's usual level, into bytes that every client can read.
    #[must_use]
    pub fn compress(self, input: &[u8]) -> Vec<u8> {
        self.compress_at(CompressionLevels::default(), input)
    }

    /// Compresses at the codec's level of `levels`; one out of bounds is taken for the nearest.
    #[must_use]
    pub fn compress_at(self, levels: CompressionLevels, input: &[u8]) -> Vec<u8> {
        let written = match self {
            Compression::None => return input.to_vec(),
            Compression::Snappy => return snappy::compress(input),
            Compression::Zstd => return zstd::compress(input, levels.zstd),
            Compression::Gzip => gzip_compress(input, levels.gzip),
            Compression::Lz4 => lz4::compress(input),
        };
        // Writing to memory has no way to fail, and every codec takes every input.
        written.unwrap_or_else(|error| panic!("{self} refused to compress: {error}"))
    }

    /// Decompresses `input`, all of it.
    ///
    /// # Errors
    /// [`DecompressError::TooLarge`] as soon as the output passes the limit,
    /// [`DecompressError::Malformed`] for what the codec cannot read.
    pub fn decompress(self, input: &[u8], limits: DecompressLimits) -> Result<Vec<u8>, DecompressError> {
        let cap = limits.cap(input.len());
        match self {
            Compression::None if input.len() > cap => Err(DecompressError::TooLarge { cap }),
            Compression::None => Ok(input.to_vec()),
            // Members may be concatenated, as `cat a.gz b.gz` does.
            Compression::Gzip => {
                self.read_capped(flate2::bufread::MultiGzDecoder::new(input), input.len(), cap)
            }
            Compression::Snappy => snappy::decompress(input, cap),
            Compression::Lz4 => lz4::decompress(input, cap),
            Compression::Zstd => zstd::decompress(input, cap),
        }
    }

    /// Reads to the end, or to one byte past `cap`. The buffer doubles as it fills, but never beyond
    /// the cap.
    fn read_capped(
        self,
        mut reader: impl Read,
        input_bytes: usize,
        cap: usize,
    ) -> Result<Vec<u8>, DecompressError> {
        let mut output = Vec::new();
        let mut filled = 0;
        loop {
            if filled == output.len() {
                if filled == cap {
                    // Full to the byte: the reader has to be at its end.
                    return match reader.read(&mut [0]).map_err(|error| self.malformed(error))? {
                        0 => Ok(output),
                        _ => Err(DecompressError::TooLarge { cap }),
                    };
                }
                let first = input_bytes.saturating_mul(4).max(READ_BYTES_MIN);
                resize_within(&mut output, filled.saturating_mul(2).max(first).min(cap), cap);
            }
            match reader.read(&mut output[filled..]) {
                Ok(0) => {
                    output.truncate(filled);
                    return Ok(output);
                }
                Ok(read) => filled += read,
                Err(error) => return Err(self.malformed(error)),
            }
        }
    }

    fn malformed(self, reason: impl fmt::Display) -> DecompressError {
        DecompressError::Malformed { codec: self, reason: reason.to_string() }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    /// Takes Kafka's names, and `uncompressed` as topic configurations spell `none`.
    fn from_str(name: &str) -> Result<Compression, UnknownCompression> {
        match name {
            "uncompressed" => Ok(Compression::None),
            name => Compression::ALL
                .into_iter()
                .find(|codec| codec.name() == name)
                .ok_or_else(|| UnknownCompression(name.to_owned())),
        }
    }
}

/// Makes `output` `len` bytes long, at most `cap`. Its capacity doubles as it grows, like any vector's,
/// but never beyond the cap either.
fn resize_within(output: &mut Vec<u8>, len: usize, cap: usize) {
    if len > output.capacity() {
        let capacity = output.capacity().saturating_mul(2).clamp(len, cap);
        output.reserve_exact(capacity - output.len());
    }
    output.resize(len, 0);
}

/// First size of an output buffer, where the input is small.
const READ_BYTES_MIN: usize = 4 << 10;

fn gzip_compress(input: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let level = u32::try_from(level)
        .map_or_else(|_| flate2::Compression::default(), |level| flate2::Compression::new(level.min(9)));
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(input.len() / 2), level);
    encoder.write_all(input)?;
    encoder.finish()
}
