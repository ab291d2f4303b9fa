//! The end of a partition, taken from behind: its last record first.
//!
//! A log can be read forward only. So the way back is made in stretches, each read forward from where it begins to where
//! the one behind it began, and as long as the ones before have shown to be worth it: one batch at first, more of them
//! where they are small or hold nothing that is wanted. Of a stretch only its last records are kept. What was cut off
//! is read again if it is needed after all.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cursor::{Cursor, Next, Scan, ScanError};
use super::found::Found;
use super::page::Room;
use crate::partition::Partition;

/// Bytes, uncompressed, that a stretch is to have, about. It is what may be read in vain.
const STRETCH_BYTES: usize = 1 << 20;

/// Bytes of a stretch that it is given up at, for a shorter one: records were small behind it, and are not here.
const STRETCH_BYTES_MAX: usize = 4 << 20;

/// How much longer a stretch is than the one behind it, or shorter.
const GROWTH: i64 = 4;

/// Records that are kept of a stretch at least. With every record that is taken one more may be: all tails of a page
/// together hold no more than the page and so many for each of them.
const RECORDS_AHEAD: usize = 100;

/// A place in a partition that moves towards its beginning.
pub(super) struct Tail {
    partition: Arc<Partition>,
    /// Nothing below it is wanted.
    floor: i64,
    /// Everything from it on has been gone through.
    until: i64,
    /// Offsets of the next stretch.
    length: i64,
    /// How long a stretch may become: one that was longer was given up.
    length_max: i64,
    /// What is found and not taken, by offset.
    found: VecDeque<Found>,
    /// How many were taken.
    taken: usize,
}

impl Tail {
    /// From `end` down to `floor`, both within the log.
    pub(super) fn new(partition: Arc<Partition>, floor: i64, end: i64) -> Tail {
        Tail {
            partition,
            floor,
            until: end,
            length: 1,
            length_max: i64::MAX,
            found: VecDeque::new(),
            taken: 0,
        }
    }

    /// The record that it stands behind.
    pub(super) fn head(&self) -> Option<&Found> {
        self.found.back()
    }

    /// Takes that record.
    pub(super) fn take(&mut self) -> Option<Found> {
        let found = self.found.pop_back()?;
        self.taken += 1;
        Some(found)
    }

    /// Goes back to the next record that is wanted. Finds none that `room` has no place for.
    ///
    /// # Errors
    /// See [`ScanError`].
    pub(super) fn advance(&mut self, scan: &mut Scan, room: &Room) -> Result<Next, ScanError> {
        loop {
            if !self.found.is_empty() {
                return Ok(Next::Record);
            }
            if self.until <= self.floor {
                return Ok(Next::End);
            }
            if scan.is_spent() {
                return Ok(Next::Unread);
            }
            self.read_stretch(scan, room)?;
        }
    }

    /// Reads the stretch before `until`, or finds that it is too long.
    fn read_stretch(&mut self, scan: &mut Scan, room: &Room) -> Result<(), ScanError> {
        let from = self.until.saturating_sub(self.length).max(self.floor);
        let mut cursor = Cursor::new(self.partition.clone(), from, self.until).down_to(self.floor);
        let (bytes_before, mut shown_bytes, mut cut) = (scan.bytes_left, 0, false);
        loop {
            match cursor.advance(scan) {
                Ok(Next::Record) => {}
                Ok(Next::End) => break,
                Ok(Next::Unread) => return self.shorten(),
                // It may lie before what is still to be shown.
                Err(ScanError::Unreadable { .. }) if self.length > 1 => return self.shorten(),
                Err(error) => return Err(error),
            }
            if self.length > 1 && bytes_before - scan.bytes_left > STRETCH_BYTES_MAX {
                return self.shorten();
            }
            let Some(found) = cursor.take() else { continue };
            shown_bytes += room.bytes_of(&found);
            self.found.push_back(found);
            while self.found.len() > 1
                && (self.found.len() > self.taken + RECORDS_AHEAD || shown_bytes > room.bytes())
            {
                shown_bytes -= self.found.pop_front().map_or(0, |found| room.bytes_of(&found));
                cut = true;
            }
        }
        self.until = match self.found.front() {
            Some(found) if cut => found.record.offset,
            _ => cursor.first_batch().unwrap_or(from).min(from),
        };
        let bytes = bytes_before - scan.bytes_left;
        if bytes > STRETCH_BYTES {
            self.length = (self.length / GROWTH).max(1);
        } else if bytes <= STRETCH_BYTES / GROWTH as usize && !cut {
            self.length = self.length.saturating_mul(GROWTH).min(self.length_max);
        }
        Ok(())
    }

    fn shorten(&mut self) -> Result<(), ScanError> {
        self.found.clear();
        self.length = (self.length / (GROWTH * GROWTH)).max(1);
        self.length_max = self.length;
        Ok(())
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
