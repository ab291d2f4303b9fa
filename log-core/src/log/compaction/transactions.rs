//! How transactions ended, as far as compaction has to know: the records of an aborted one go, those of a
//! committed one count like any other, and one whose end is not known is left alone.
//!
//! The log itself says it: a control batch of the producer ends the transaction that its batches before it
//! belong to. So what is asked is answered by reading on from a transaction's batch to its end.

use std::collections::HashMap;
use std::io;

use crate::record::{EndOfTransaction, Marker, RecordBatch};

use super::super::scan::{BatchScanner, Depth, Step};
use super::super::segments::Segments;
use super::super::watermarks::LogPosition;

/// The ends of the transactions in one stretch of the log.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// By producer: offset of the control batch, rising, and what it says.
    ends: HashMap<i64, Vec<(i64, Marker)>>,
}

impl Transactions {
    /// Reads the control batches from the segment at `first` on, up to `end`. What cannot be read ends it: it may
    /// have ended a transaction, which the next end of its producer's would then be taken for the end of.
    ///
    /// # Errors
    /// Of the device.
    pub(super) fn read(segments: &Segments, first: usize, end: LogPosition) -> io::Result<Transactions> {
        let mut transactions = Transactions::default();
        'log: for (index, segment) in segments.as_slice().iter().enumerate().skip(first) {
            if segment.base_offset() > end.segment {
                break;
            }
            let Ok(segment_end) = segment.end_position(segments.end_offset(index), end) else { break };
            let file = &*segment.loaded().file;
            let base = segment.base_offset();
            let mut scanner = BatchScanner::new(file, Depth::Whole, 0, segment_end, base);
            loop {
                let batch = match scanner.step()? {
                    Step::Batch { batch, .. } => batch,
                    Step::End => break,
                    Step::Bad { .. } => break 'log,
                };
                if !batch.attributes().is_control() {
                    continue;
                }
                match EndOfTransaction::of(&batch) {
                    Ok(Some(end)) => {
                        let ends = transactions.ends.entry(batch.producer_id()).or_default();
                        ends.push((batch.base_offset(), end.marker));
                    }
                    Ok(None) => {}
                    Err(_) => break 'log,
                }
            }
        }
        Ok(transactions)
    }

    /// How the transaction ended that a batch of data belongs to; `None` if that is not known.
    pub(super) fn outcome(&self, batch: &RecordBatch<'_>) -> Option<Marker> {
        let ends = self.ends.get(&batch.producer_id())?;
        let next = ends.partition_point(|(offset, _)| *offset < batch.base_offset());
        ends.get(next).map(|(_, marker)| *marker)
    }
}
