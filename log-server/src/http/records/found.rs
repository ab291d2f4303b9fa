//! A record that was found, with what its batch and partition say of it.

use log_core::record::{Record, TimestampType};

/// Headers that are kept of a record. Empty ones take a few bytes in a batch, and many times that in memory.
const HEADERS_MAX: usize = 1000;

/// A record, with 1000 headers at most.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) partition: i32,
    pub(super) timestamp_type: TimestampType,
    pub(super) record: Record,
    /// Whether it has more headers than are kept.
    pub(super) headers_truncated: bool,
    /// Bytes of its key, value and headers, with those that are not kept.
    pub(super) size_bytes: usize,
}

impl Found {
    pub(super) fn new(partition: i32, timestamp_type: TimestampType, mut record: Record) -> Found {
        let size_bytes = size_bytes(&record);
        let headers_truncated = record.headers.len() > HEADERS_MAX;
        record.headers.truncate(HEADERS_MAX);
        record.headers.shrink_to_fit();
        Found { partition, timestamp_type, record, headers_truncated, size_bytes }
    }

    /// Bytes that it takes in an answer, about, where keys and values are cut at `value_bytes_max`.
    pub(super) fn shown_bytes(&self, value_bytes_max: usize) -> usize {
        /// The names and numbers around it.
        const AROUND: usize = 160;
        const AROUND_HEADER: usize = 32;
        let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |it| it.len().min(value_bytes_max));
        let record = &self.record;
        let headers = record.headers.iter().map(|it| AROUND_HEADER + it.key.len() + len(&it.value));
        AROUND + len(&record.key) + len(&record.value) + headers.sum::<usize>()
    }
}

fn size_bytes(record: &Record) -> usize {
    let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|header| header.key.len() + len(&header.value)).sum();
    len(&record.key) + len(&record.value) + headers
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use log_core::record::Header;

    use super::*;

    #[test]
    fn a_record_of_more_headers_than_anybody_reads_keeps_some_and_its_size() {
        let record = Record {
            offset: 7,
            timestamp: 1,
            key: None,
            value: Some(Bytes::from_static(b"value")),
            headers: vec![Header::new("ab", None::<Bytes>); HEADERS_MAX + 1],
        };
        let found = Found::new(0, TimestampType::CreateTime, record);
        assert_eq!((found.record.headers.len(), found.headers_truncated), (HEADERS_MAX, true));
        assert_eq!(found.record.headers.capacity(), HEADERS_MAX);
        assert_eq!(found.size_bytes, 5 + 2 * (HEADERS_MAX + 1));
    }
}
