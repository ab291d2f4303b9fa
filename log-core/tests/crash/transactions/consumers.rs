//! How clients take an answer apart: which of its records they hand out.

use std::collections::{BTreeMap, BTreeSet};

use log_core::log::ReadResult;
use log_core::record::{EndOfTransaction, Marker, RecordBatch, batches};

pub(super) type Records = Vec<(i64, (String, String))>;

/// The records of an answer that the Java client hands out: a producer counts for aborted from the first offset of
/// an aborted transaction up to the next control batch that aborts.
pub(super) fn as_java(read: &ReadResult) -> Result<Records, String> {
    let mut waiting = read.aborted.iter().peekable();
    let mut aborted = BTreeSet::new();
    taken(read, &mut |batch, end| {
        while let Some(next) = waiting.next_if(|next| next.first_offset <= batch.last_offset()) {
            aborted.insert(next.producer_id);
        }
        match end {
            Some(Marker::Abort) => !aborted.remove(&batch.producer_id()),
            Some(Marker::Commit) => true,
            None => !(batch.attributes().is_transactional() && aborted.contains(&batch.producer_id())),
        }
    })
}

/// Those that librdkafka hands out: first offsets by producer, of which each control batch that aborts takes the first
/// off if it has come so far.
pub(super) fn as_librdkafka(read: &ReadResult) -> Result<Records, String> {
    let mut waiting: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for aborted in &read.aborted {
        waiting.entry(aborted.producer_id).or_default().push(aborted.first_offset);
    }
    taken(read, &mut |batch, end| {
        let firsts = waiting.entry(batch.producer_id()).or_default();
        let is_aborted = firsts.first().is_some_and(|first| batch.base_offset() >= *first);
        if end == Some(Marker::Abort) && is_aborted {
            firsts.remove(0);
        }
        end.is_some() || !(batch.attributes().is_transactional() && is_aborted)
    })
}

/// The records of the batches of data that `takes` says yes to, which is also shown the control batches.
fn taken(
    read: &ReadResult,
    takes: &mut dyn FnMut(&RecordBatch<'_>, Option<Marker>) -> bool,
) -> Result<Records, String> {
    let mut records = Vec::new();
    for batch in batches(&read.records) {
        let batch = batch.map_err(|error| error.to_string())?;
        batch.verify_crc().map_err(|error| error.to_string())?;
        if batch.attributes().is_control() {
            let end = EndOfTransaction::of(&batch).map_err(|error| error.to_string())?;
            if let Some(end) = end {
                takes(&batch, Some(end.marker));
            }
            continue;
        }
        if !takes(&batch, None) {
            continue;
        }
        for record in batch.records(Default::default()).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let text = |bytes: Option<bytes::Bytes>| {
                String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap_or_default()
            };
            records.push((record.offset, (text(record.key), text(record.value))));
        }
    }
    Ok(records)
}
