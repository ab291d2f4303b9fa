//! The producers' state of a log that is opened: from the newest snapshot, and the batches behind it.
//!
//! The aborted transactions that ended below the snapshot have to be in their files. If one is not what
//! the snapshot says of it, the log is read from its beginning, and all of them are made anew.

use std::collections::BTreeMap;
use std::io;
use std::time::SystemTime;

use crate::record::{BatchError, EndOfTransaction, LENGTH_FIELD_END, OVERHEAD, RecordBatch, TimestampType};
use crate::storage::ReadAt;

use super::aborted_index::{self, ABORTED_SUFFIX, AbortedTransaction};
use super::error::Corruption;
use super::producer_snapshot::{self, ProducerSnapshot};
use super::producer_state::{ProducerBatch, ProducerStates};
use super::scan::{BatchScanner, Depth, Step, read_exact_at};
use super::segment::{PartitionDir, Segment};
use super::segments::Segments;
use super::watermarks::LogPosition;

/// Bytes of a control batch at most. They have one small record.
const CONTROL_BYTES_MAX: usize = 4096;

/// What a log says of its producers.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) producers: ProducerStates,
    /// How many aborted transactions end in each segment, by base offset.
    pub(super) aborted: BTreeMap<i64, u32>,
    /// The offset of the snapshot that it began with.
    pub(super) snapshot: i64,
    /// Batches that were read.
    pub(super) batches: u64,
    /// The files of aborted transactions had to be made anew, and are not on disk yet.
    pub(super) remade: bool,
    /// The first damage that it came by.
    pub(super) damage: Option<Corruption>,
}

/// What there is at one place of a log: a batch's position and header, or damage.
pub(super) type Found<'b> = Result<(u64, &'b RecordBatch<'b>), Corruption>;

/// Reads what there is, up to `end`, which is at offset `log_end`.
///
/// # Errors
/// Of the disk.
pub(super) fn replay(
    dir: &PartitionDir,
    segments: &Segments,
    end: LogPosition,
    log_end: i64,
) -> io::Result<Replayed> {
    let first = segments.as_slice()[0].base_offset();
    let mut snapshot = producer_snapshot::load(dir, log_end)?;
    let mut remade = false;
    if snapshot.offset < first {
        // Batches between the two have been deleted. A state without them would wait for ever
        // for sequences that have long been used; one without any takes what comes.
        snapshot = ProducerSnapshot { offset: first, ..ProducerSnapshot::default() };
    } else if !restore_aborted(dir, segments, &snapshot)? {
        tracing::warn!(partition = &*dir.path, "aborted transactions are made anew from the log");
        snapshot = ProducerSnapshot { offset: first, ..ProducerSnapshot::default() };
        remade = true;
    }
    let mut replayed = Replayed {
        producers: snapshot.producers,
        aborted: BTreeMap::new(),
        snapshot: snapshot.offset,
        batches: 0,
        remade,
        damage: None,
    };
    // Whoever is read back counts as heard of now: records may be about any time.
    let now_ms = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    for_each_header(segments, snapshot.offset, end, &mut |segment, found| {
        let noted = match found {
            Ok((position, batch)) => {
                replayed.batches += 1;
                replayed.note(segment, position, batch, now_ms)?
            }
            Err(damage) => Err(damage),
        };
        match noted {
            Ok(Some(aborted)) => segment.aborted().push(aborted),
            Ok(None) => {}
            Err(damage) => replayed.hold(damage),
        }
        Ok(())
    })?;
    for segment in segments.as_slice() {
        let count = segment.aborted().len();
        if count > 0 {
            replayed.aborted.insert(segment.base_offset(), count as u32);
        }
    }
    Ok(replayed)
}

impl Replayed {
    /// Notes damage, past which nothing is stable.
    fn hold(&mut self, damage: Corruption) {
        // The snapshot knows what was before it.
        self.producers.hold(damage.offset.max(self.snapshot));
        self.damage.get_or_insert(damage);
    }

    /// Notes a batch. Answers with the aborted transaction that it is the end of, or with what is wrong with it.
    fn note(
        &mut self,
        segment: &Segment,
        position: u64,
        batch: &RecordBatch<'_>,
        now_ms: i64,
    ) -> io::Result<Result<Option<AbortedTransaction>, Corruption>> {
        let (producer_id, epoch) = (batch.producer_id(), batch.producer_epoch());
        let attributes = batch.attributes();
        if producer_id < 0 {
            return Ok(Ok(None));
        }
        if attributes.is_control() {
            let offset = batch.base_offset();
            let file = &*segment.loaded().file;
            let end = match end_of_transaction(file, position)? {
                Ok(Some(end)) => end,
                Ok(None) => return Ok(Ok(None)),
                Err(error) => {
                    let (file, reason) = (file.path().to_owned(), error.to_string());
                    return Ok(Err(Corruption { file, position, offset, reason }));
                }
            };
            let aborted = self.producers.end_transaction(producer_id, epoch, end, offset, now_ms);
            // What is read back is durable, so that nothing has to be kept until it is.
            self.producers.last_stable(batch.next_offset());
            return Ok(Ok(aborted));
        }
        let by_broker = attributes.timestamp_type() == TimestampType::LogAppendTime;
        // Compaction leaves batches without records for their sequences' sake. It does not come near an open
        // transaction, and the end of theirs may be gone.
        let transactional = attributes.is_transactional() && batch.record_count() > 0;
        self.producers.update(
            producer_id,
            epoch,
            transactional,
            ProducerBatch {
                first_sequence: batch.base_sequence(),
                last_sequence: batch.last_sequence(),
                base_offset: batch.base_offset(),
                last_offset: batch.last_offset(),
                timestamp: if by_broker { batch.max_timestamp() } else { now_ms },
            },
        );
        Ok(Ok(None))
    }
}

/// Takes the aborted transactions that ended below the snapshot's offset from their files. Answers whether
/// the files hold what the snapshot says; if not, the segments have none.
fn restore_aborted(dir: &PartitionDir, segments: &Segments, snapshot: &ProducerSnapshot) -> io::Result<bool> {
    let list = segments.as_slice();
    let mut restored = Vec::new();
    for (&base_offset, &count) in snapshot.aborted.range(list[0].base_offset()..) {
        let path = dir.segment_file(base_offset, ABORTED_SUFFIX);
        let Ok(index) = list.binary_search_by_key(&base_offset, |segment| segment.base_offset()) else {
            return Ok(false);
        };
        let Some(mut entries) = aborted_index::load(&*dir.storage, &path, base_offset)? else {
            return Ok(false);
        };
        let saved = entries.len();
        // What ended later is read out of the log again, which may have come to another end since.
        entries.truncate(entries.partition_point(|aborted| aborted.last_offset < snapshot.offset));
        if entries.len() != count as usize {
            return Ok(false);
        }
        // A file that holds more counts for none, to be written again.
        let saved = if saved == entries.len() { saved } else { 0 };
        restored.push((index, entries, saved));
    }
    for (index, entries, saved) in restored {
        list[index].aborted().restore(entries, saved);
        // To the others the replay may add.
        if segments.end_offset(index).is_some_and(|end_offset| end_offset <= snapshot.offset) {
            list[index].aborted().forget();
        }
    }
    Ok(true)
}

/// What the control batch at `position` says of a transaction.
fn end_of_transaction(
    file: &dyn ReadAt,
    position: u64,
) -> io::Result<Result<Option<EndOfTransaction>, BatchError>> {
    let mut prefix = [0; LENGTH_FIELD_END];
    read_exact_at(file, position, &mut prefix)?;
    let length = i32::from_be_bytes(prefix[8..].try_into().expect("four bytes"));
    let size = usize::try_from(length).map_or(0, |length| length + LENGTH_FIELD_END);
    if !(OVERHEAD..=CONTROL_BYTES_MAX).contains(&size) {
        return Ok(Err(BatchError::Corrupt("length is not that of a control batch")));
    }
    let mut bytes = vec![0; size];
    read_exact_at(file, position, &mut bytes)?;
    Ok(RecordBatch::parse(&bytes).and_then(|batch| {
        batch.verify_crc()?;
        EndOfTransaction::of(&batch)
    }))
}

/// Shows the headers of all batches from the one that holds `from` on, with their segment. A damaged place is shown
/// too, and ends its segment.
///
/// # Errors
/// Of the device, and of `visit`.
pub(super) fn for_each_header(
    segments: &Segments,
    from: i64,
    end: LogPosition,
    visit: &mut dyn FnMut(&Segment, Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    for (index, segment) in segments.as_slice().iter().enumerate() {
        let end_offset = segments.end_offset(index);
        if end_offset.is_some_and(|end_offset| end_offset <= from) {
            continue;
        }
        let segment_end = match segment.end_position(end_offset, end) {
            Ok(segment_end) => segment_end,
            // What it holds is not known, ends of transactions among it.
            Err(error) => {
                visit(segment, Err(segment.damage(0, segment.base_offset(), error.to_string())))?;
                continue;
            }
        };
        let data = segment.loaded();
        let relative = u32::try_from(from - segment.base_offset()).unwrap_or(0);
        let (position, offset) = match data.offsets.lookup(relative) {
            Some(entry) => {
                (u64::from(entry.position), segment.base_offset() + i64::from(entry.relative_offset))
            }
            None => (0, segment.base_offset()),
        };
        let mut scanner = BatchScanner::new(&*data.file, Depth::Headers, position, segment_end, offset);
        let mut damage = loop {
            match scanner.step()? {
                Step::Batch { position, batch } if batch.last_offset() >= from => {
                    visit(segment, Ok((position, &batch)))?;
                }
                Step::Batch { .. } => {}
                Step::End => break None,
                Step::Bad { reason, .. } => break Some(reason),
            }
        };
        if damage.is_none() && end_offset.is_some_and(|end_offset| end_offset != scanner.next_offset()) {
            damage = Some("the segment ends before the next begins".to_owned());
        }
        if let Some(reason) = damage {
            let (position, offset) = (scanner.position(), scanner.next_offset());
            let file = data.file.path().to_owned();
            visit(segment, Err(Corruption { file, position, offset, reason }))?;
        }
    }
    Ok(())
}
