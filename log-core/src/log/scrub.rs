//! Reading sealed segments as the disk holds them, to find what has gone bad before somebody needs it.
//!
//! A scrub takes one segment at a time, without the log's lock, past the page cache. It is slow on
//! purpose, so it holds on to nothing: a segment that is deleted meanwhile is let go of at the next
//! batch.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};

use super::read::LogReader;
use super::segment::Segment;
use super::survey::{Found, Hole, Span, survey};

/// A sealed segment, all of it durable.
#[derive(Clone, Debug)]
pub struct SealedSegment {
    /// Weak: its files are to go when retention says so.
    segment: Weak<Segment>,
    base_offset: i64,
    end_offset: i64,
    size_bytes: u64,
}

impl SealedSegment {
    /// The offset of its first record.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Bytes to be read.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

/// What a scrub comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubEvent {
    /// So many bytes have been read and are sound.
    Sound {
        /// Bytes.
        bytes: u64,
    },
    /// No batch is sound here, in two readings. The partition is read-only.
    Hole(Hole),
    /// What looked like a hole was sound when it was read again: the memory, the bus or the disk is not
    /// to be trusted, but nothing is lost.
    Flaky(Hole),
}

/// How a scrub of a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubEnd {
    /// All of it was read.
    Whole,
    /// Whoever watched broke it off.
    Stopped,
    /// The segment has left the log.
    Gone,
}

impl LogReader {
    /// The sealed segments of which every byte is durable, oldest first.
    pub fn sealed_segments(&self) -> Vec<SealedSegment> {
        let high_watermark = self.watermarks().high_watermark();
        let segments = self.shared.segments.load();
        let sealed = segments.as_slice().iter().enumerate().filter_map(|(index, segment)| {
            let end_offset = segments.end_offset(index).filter(|&end| end <= high_watermark)?;
            Some(SealedSegment {
                segment: Arc::downgrade(segment),
                base_offset: segment.base_offset(),
                end_offset,
                size_bytes: segment.size_bytes(),
            })
        });
        sealed.collect()
    }

    /// Reads a sealed segment off the disk and checks every batch of it: length, offsets, checksum,
    /// leader epoch. `watch` is shown what comes up and paces the reading: it may sleep, and break it
    /// off. A hole at or past the log start makes the partition read-only, as if a reader had come
    /// across it.
    ///
    /// # Errors
    /// Of the system. What the device cannot read is a hole.
    pub fn scrub(
        &self,
        sealed: &SealedSegment,
        watch: &mut dyn FnMut(ScrubEvent) -> ControlFlow<()>,
    ) -> io::Result<ScrubEnd> {
        let Some(segment) = self.still_there(sealed) else { return Ok(ScrubEnd::Gone) };
        let path = segment.log_path();
        let file = match segment.open_direct() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if segment.is_replaced() || self.still_there(sealed).is_none() {
                    return Ok(ScrubEnd::Gone);
                }
                let offsets = sealed.base_offset..sealed.end_offset;
                let hole =
                    Hole { file: path, positions: 0..0, offsets, reason: "the file is missing".to_owned() };
                self.shared.report(hole.clone().into());
                return Ok(match watch(ScrubEvent::Hole(hole)) {
                    ControlFlow::Continue(()) => ScrubEnd::Whole,
                    ControlFlow::Break(()) => ScrubEnd::Stopped,
                });
            }
            opened => opened?,
        };
        let end = segment.sealed_end_if_loaded().unwrap_or(file.len()).min(file.len());
        drop(segment);
        let span = Span { positions: 0..end, offsets: sealed.base_offset..sealed.end_offset };
        let epochs = self.shared.epochs.load_full();
        let mut gone = false;
        let mut visit = |found: Found<'_>| {
            if self.still_there(sealed).is_none() {
                gone = true;
                return ControlFlow::Break(());
            }
            match found {
                Found::Batch { batch, .. } => watch(ScrubEvent::Sound { bytes: batch.size_bytes() as u64 }),
                Found::Hole(hole) if hole.offsets.end <= self.watermarks().log_start() => {
                    ControlFlow::Continue(())
                }
                Found::Hole(hole) => {
                    let again = Span { positions: hole.positions.clone(), offsets: hole.offsets.clone() };
                    let mut confirmed = false;
                    let read = survey(&*file, &path, &again, &epochs, &mut |found| {
                        confirmed |= matches!(found, Found::Hole(_));
                        ControlFlow::Continue(())
                    });
                    if read.is_ok() && !confirmed {
                        return watch(ScrubEvent::Flaky(hole));
                    }
                    self.shared.report(hole.clone().into());
                    watch(ScrubEvent::Hole(hole))
                }
            }
        };
        let done = survey(&*file, &path, &span, &epochs, &mut visit)?;
        Ok(match done {
            ControlFlow::Continue(()) => ScrubEnd::Whole,
            ControlFlow::Break(()) if gone => ScrubEnd::Gone,
            ControlFlow::Break(()) => ScrubEnd::Stopped,
        })
    }

    /// The segment, unless it has left the log.
    fn still_there(&self, sealed: &SealedSegment) -> Option<Arc<Segment>> {
        let segment = sealed.segment.upgrade()?;
        let segments = self.shared.segments.load();
        let index = segments.floor(sealed.base_offset)?;
        Arc::ptr_eq(&segments.as_slice()[index], &segment).then_some(segment)
    }
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
