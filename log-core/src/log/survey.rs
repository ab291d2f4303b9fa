//! A segment from end to end, past damage: which batches are sound, and what lies between them.
//!
//! A reader stops at the first thing that is not the batch it expects. Whoever has to say what is lost
//! (a scrub, `verify`, `repair`) needs to know where the next sound batch is. After damage that is:
//!
//! 1. the batch behind the damaged one, if its length field still leads there: payload and most of the
//!    header may be anything;
//! 2. else the first place, byte by byte, at which a whole batch checks and is followed by another one
//!    or by the end. The second condition keeps a batch that somebody has sent as a record's value from
//!    being taken for one of the log's.
//!
//! Besides length, offsets and checksum the leader epoch is checked, the one field of a batch that
//! neither of them covers.

use std::io;
use std::ops::{ControlFlow, Range};

use rustix::io::Errno;

use crate::record::{LENGTH_FIELD_END, MAGIC, MAGIC_AT, OVERHEAD, RecordBatch};
use crate::storage::ReadAt;

use super::error::Corruption;
use super::leader_epoch::LeaderEpochs;
use super::scan::{BatchScanner, Depth, Step};

/// A stretch of a segment in which no batch is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The segment's file, relative to the data directory.
    pub file: String,
    /// Bytes of the file. Empty if batches are missing that should lie there.
    pub positions: Range<u64>,
    /// The offsets that cannot be read.
    pub offsets: Range<i64>,
    /// What was found at its beginning.
    pub reason: String,
}

impl From<Hole> for Corruption {
    fn from(hole: Hole) -> Corruption {
        Corruption {
            file: hole.file,
            position: hole.positions.start,
            offset: hole.offsets.start,
            reason: hole.reason,
        }
    }
}

/// What a survey comes by.
#[derive(Debug)]
pub(crate) enum Found<'b> {
    /// A sound batch and the byte at which it starts.
    Batch { position: u64, batch: RecordBatch<'b> },
    /// What is no sound batch.
    Hole(Hole),
}

/// What is to be surveyed: a range of a segment's file and the offsets that it has to hold.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) positions: Range<u64>,
    pub(crate) offsets: Range<i64>,
}

/// Shows every sound batch of the span and every hole to `visit`, in order, until that breaks off.
///
/// # Errors
/// Of the system. What the device cannot read is a hole.
pub(crate) fn survey(
    file: &dyn ReadAt,
    path: &str,
    span: &Span,
    epochs: &LeaderEpochs,
    visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let surveyor = Surveyor { file, end: span.positions.end, end_offset: span.offsets.end, epochs };
    let mut scanner = surveyor.scanner(span.positions.start, span.offsets.start);
    while scanner.next_offset() < span.offsets.end {
        let (position, offset, reason) = match surveyor.step(&mut scanner)? {
            Ok((position, batch)) => {
                if visit(Found::Batch { position, batch }).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                continue;
            }
            Err(bad) => bad,
        };
        let next = surveyor.find_sound(position, offset)?;
        let (to, next_offset) = next.unwrap_or((span.positions.end.max(position), span.offsets.end));
        let hole =
            Hole { file: path.to_owned(), positions: position..to, offsets: offset..next_offset, reason };
        if visit(Found::Hole(hole)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        scanner = surveyor.scanner(to, next_offset);
    }
    Ok(ControlFlow::Continue(()))
}

/// Position, offset and reason of what is not the batch that was due.
type Bad = (u64, i64, String);

/// Bytes looked through at a time for the next sound batch.
const WINDOW_BYTES: u64 = 256 << 10;
/// Bytes that are given up at once where the device cannot read.
const UNREADABLE_BYTES: u64 = 4096;

struct Surveyor<'a> {
    file: &'a dyn ReadAt,
    end: u64,
    end_offset: i64,
    epochs: &'a LeaderEpochs,
}

impl<'a> Surveyor<'a> {
    fn scanner(&self, position: u64, offset: i64) -> BatchScanner<'a> {
        BatchScanner::new(self.file, Depth::Whole, position, self.end, offset)
    }

    /// The next batch, or why it is none.
    fn step<'b>(&self, scanner: &'b mut BatchScanner<'_>) -> io::Result<Result<(u64, RecordBatch<'b>), Bad>> {
        let (at, due) = (scanner.position(), scanner.next_offset());
        Ok(match scanner.step() {
            Ok(Step::Batch { position, batch }) => match self.stranger(&batch) {
                None => Ok((position, batch)),
                Some(reason) => Err((position, due, reason)),
            },
            Ok(Step::Bad { position, next_offset, reason }) => Err((position, next_offset, reason)),
            Ok(Step::End) => {
                Err((at, due, format!("the batches end here, and go on at offset {}", self.end_offset)))
            }
            Err(error) if is_unreadable(&error) => Err((at, due, format!("cannot be read: {error}"))),
            Err(error) => return Err(error),
        })
    }

    /// Why a batch that checks does not belong where it is, if it does not.
    fn stranger(&self, batch: &RecordBatch<'_>) -> Option<String> {
        if batch.next_offset() > self.end_offset {
            return Some(format!("ends at offset {}, past {}", batch.next_offset(), self.end_offset));
        }
        let epoch = batch.partition_leader_epoch();
        let due = self.epochs.epoch_at(batch.base_offset()).filter(|&due| due != epoch)?;
        Some(format!("leader epoch {epoch} where {due} was due"))
    }

    /// The first sound batch behind damage at `position`, where the batch of `offset` was due.
    fn find_sound(&self, position: u64, offset: i64) -> io::Result<Option<(u64, i64)>> {
        let mut window = Window::new(self.file, self.end);
        if let Some(header) = window.header(position)?
            && let Some(size) = size_of(header)
            && let Some(next) = position.checked_add(size)
            && let Some(base) = self.plausible(&mut window, next, offset)?
            && self.is_sound(next, base)?
        {
            return Ok(Some((next, base)));
        }
        for at in position + 1..self.end {
            if let Some(base) = self.plausible(&mut window, at, offset)?
                && self.is_sound(at, base)?
                && self.is_followed(at, base)?
            {
                return Ok(Some((at, base)));
            }
        }
        Ok(None)
    }

    /// The base offset of what looks like the header of a batch at `position`: cheap, and right about
    /// all that is one.
    fn plausible(&self, window: &mut Window<'_>, position: u64, offset: i64) -> io::Result<Option<i64>> {
        let Some(header) = window.header(position)? else { return Ok(None) };
        let base = i64::from_be_bytes(header[..8].try_into().expect("eight bytes"));
        let fits = size_of(header).is_some_and(|size| size <= self.end - position);
        Ok((fits && (offset..self.end_offset).contains(&base)).then_some(base))
    }

    /// Whether the batch of `base` at `position` checks.
    fn is_sound(&self, position: u64, base: i64) -> io::Result<bool> {
        Ok(self.step(&mut self.scanner(position, base))?.is_ok())
    }

    /// Whether another sound batch, or the end, comes behind the one of `base` at `position`.
    fn is_followed(&self, position: u64, base: i64) -> io::Result<bool> {
        let mut scanner = self.scanner(position, base);
        if self.step(&mut scanner)?.is_err() {
            return Ok(false);
        }
        Ok(scanner.next_offset() == self.end_offset || self.step(&mut scanner)?.is_ok())
    }
}

/// The size of a batch in bytes as its header says, if that is the header of one.
fn size_of(header: &[u8; OVERHEAD]) -> Option<u64> {
    if header[MAGIC_AT] != MAGIC as u8 {
        return None;
    }
    let length = i32::from_be_bytes(header[8..12].try_into().expect("four bytes"));
    let size = u64::try_from(length).ok()? + LENGTH_FIELD_END as u64;
    (size >= OVERHEAD as u64).then_some(size)
}

/// Whether an error says that these bytes cannot be had, and others perhaps can.
fn is_unreadable(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// A part of the file in memory, moved along. What the device cannot read is zeros.
struct Window<'a> {
    file: &'a dyn ReadAt,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    fn new(file: &dyn ReadAt, end: u64) -> Window<'_> {
        Window { file, end, start: 0, bytes: Vec::new() }
    }

    /// The bytes of a header at `position`, `None` where the range has no room for one.
    fn header(&mut self, position: u64) -> io::Result<Option<&[u8; OVERHEAD]>> {
        let Some(header_end) = position.checked_add(OVERHEAD as u64).filter(|&end| end <= self.end) else {
            return Ok(None);
        };
        if position < self.start || header_end > self.start + self.bytes.len() as u64 {
            self.start = position;
            self.bytes.resize(WINDOW_BYTES.min(self.end - position) as usize, 0);
            self.load()?;
        }
        let at = (position - self.start) as usize;
        Ok(self.bytes[at..].first_chunk())
    }

    fn load(&mut self) -> io::Result<()> {
        match self.file.read_at(self.start, &mut self.bytes) {
            Ok(read) => self.bytes[read..].fill(0),
            Err(error) if is_unreadable(&error) => {
                for (part, at) in self.bytes.chunks_mut(UNREADABLE_BYTES as usize).zip(0_u64..) {
                    match self.file.read_at(self.start + at * UNREADABLE_BYTES, part) {
                        Ok(read) => part[read..].fill(0),
                        Err(error) if is_unreadable(&error) => part.fill(0),
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
