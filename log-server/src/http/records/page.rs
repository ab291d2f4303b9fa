//! Some records out of some partitions, in the order of their times: forward from somewhere, or the last ones.
//!
//! Within a partition the order is that of the offsets, whatever the times say. A page ends with its number of records,
//! with its bytes, or when it has looked through as much as one request may; it is forward-going then all the same.

use std::collections::VecDeque;
use std::sync::Arc;

use log_core::log::Isolation;

use super::cursor::{Cursor, Next, Scan, ScanError};
use super::found::Found;
use super::tail::Tail;
use crate::partition::Partition;

/// Where each partition is read from, and how much.
#[derive(Clone)]
pub(super) struct Wanted {
    /// Partitions and offsets within their logs.
    pub(super) from: Vec<(Arc<Partition>, i64)>,
    pub(super) records_max: usize,
    /// Bytes of records in the answer, about. One record is there however large it is.
    pub(super) bytes_max: usize,
    /// Bytes that are shown of a key or a value.
    pub(super) value_bytes_max: usize,
}

/// What was found, and where to go on.
pub(super) struct Page {
    pub(super) records: Vec<Found>,
    /// By partition, in the order of [`Wanted::from`]: the offset to go on from.
    pub(super) next: Vec<(i32, i64)>,
    /// By partition: the end of what may be read.
    pub(super) end: Vec<(i32, i64)>,
    /// Of the last records: whether some are missing, which could not be read or lie too far back.
    pub(super) incomplete: bool,
}

/// The end of what a reader may see.
pub(super) fn end_of(partition: &Partition, isolation: Isolation) -> i64 {
    let watermarks = partition.reader().watermarks();
    match isolation {
        Isolation::Committed => watermarks.last_stable(),
        Isolation::Uncommitted | Isolation::LogEnd => watermarks.high_watermark(),
    }
}

/// Room in an answer.
pub(super) struct Room {
    records: usize,
    bytes: usize,
    value_bytes_max: usize,
    empty: bool,
}

impl Room {
    pub(super) fn of(wanted: &Wanted) -> Room {
        let (records, bytes) = (wanted.records_max, wanted.bytes_max);
        Room { records, bytes, value_bytes_max: wanted.value_bytes_max, empty: true }
    }

    /// Bytes that are left.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that a record takes of it.
    pub(super) fn bytes_of(&self, found: &Found) -> usize {
        found.shown_bytes(self.value_bytes_max)
    }

    /// Takes the place of a record, if there is one.
    fn take(&mut self, found: &Found) -> bool {
        let bytes = self.bytes_of(found);
        if self.records == 0 || (bytes > self.bytes && !self.empty) {
            return false;
        }
        self.records -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.empty = false;
        true
    }
}

/// Reads forward.
///
/// # Errors
/// See [`ScanError`].
pub(super) fn forward(wanted: &Wanted, scan: &mut Scan) -> Result<Page, ScanError> {
    let ends: Vec<i64> = wanted.from.iter().map(|(partition, _)| end_of(partition, scan.isolation)).collect();
    let mut cursors: Vec<Cursor> = wanted
        .from
        .iter()
        .zip(&ends)
        .map(|((partition, from), end)| Cursor::new(partition.clone(), *from, *end))
        .collect();
    let mut open = Vec::with_capacity(cursors.len());
    for (index, cursor) in cursors.iter_mut().enumerate() {
        // One that there is no allowance left for has its turn in a later page.
        if cursor.advance(scan)? == Next::Record {
            open.push(index);
        }
    }
    let (mut room, mut records) = (Room::of(wanted), Vec::new());
    while let Some(place) = earliest(&open, &cursors) {
        let cursor = &mut cursors[open[place]];
        if !cursor.head().is_some_and(|found| room.take(found)) {
            break;
        }
        records.extend(cursor.take());
        match cursor.advance(scan) {
            Ok(Next::Record) => {}
            Ok(Next::End) => {
                open.swap_remove(place);
            }
            // What comes there may be earlier than what the others have.
            Ok(Next::Unread) => break,
            // What is sound before damage is shown; the page that begins at the damage is refused.
            Err(ScanError::Unreadable { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    let index = |(partition, _): &(Arc<Partition>, i64)| partition.index();
    Ok(Page {
        records,
        next: wanted.from.iter().map(index).zip(cursors.iter().map(Cursor::position)).collect(),
        end: wanted.from.iter().map(index).zip(ends).collect(),
        incomplete: false,
    })
}

/// Which of the open cursors stands before the earliest record; of equals the one of the lowest partition.
fn earliest(open: &[usize], cursors: &[Cursor]) -> Option<usize> {
    let time = |place: &usize| {
        let found = cursors[open[*place]].head();
        found.map(|found| (found.record.timestamp, found.partition))
    };
    (0..open.len()).min_by_key(time)
}

/// Reads the last records of all partitions together; `from` of [`Wanted`] is how far back it goes at most.
///
/// # Errors
/// See [`ScanError`]. What is sound behind damage is shown; a partition whose last batch is damaged is refused.
pub(super) fn last(wanted: &Wanted, scan: &mut Scan) -> Result<Page, ScanError> {
    let mut room = Room::of(wanted);
    let (mut open, mut ends) = (Vec::with_capacity(wanted.from.len()), Vec::with_capacity(wanted.from.len()));
    let (mut unseen, mut unread) = (false, false);
    for (partition, floor) in &wanted.from {
        let end = end_of(partition, scan.isolation);
        ends.push((partition.index(), end));
        let mut tail = Tail::new(partition.clone(), *floor, end);
        match tail.advance(scan, &room)? {
            Next::Record => open.push(tail),
            Next::End => {}
            Next::Unread => unseen = true,
        }
    }
    let mut records = VecDeque::new();
    while let Some(place) = latest(&open) {
        let tail = &mut open[place];
        if !tail.head().is_some_and(|found| room.take(found)) {
            break;
        }
        tail.take().into_iter().for_each(|found| records.push_front(found));
        match tail.advance(scan, &room) {
            Ok(Next::Record) => {}
            Ok(Next::End) => {
                open.swap_remove(place);
            }
            // What comes there may be later than what the others have.
            Ok(Next::Unread) | Err(ScanError::Unreadable { .. }) => {
                unread = true;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    // Of a partition that was not come to, any record may belong among these, however many they are.
    let incomplete = unseen || unread && room.records > 0;
    Ok(Page { records: records.into(), next: ends.clone(), end: ends, incomplete })
}

/// Which of the tails stands behind the latest record; of equals the one of the highest partition.
fn latest(open: &[Tail]) -> Option<usize> {
    let time = |place: &usize| open[*place].head().map(|found| (found.record.timestamp, found.partition));
    (0..open.len()).max_by_key(time)
}
