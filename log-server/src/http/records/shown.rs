//! A record as it is shown.

use log_core::record::TimestampType;
use serde::Serialize;
use utoipa::ToSchema;

use super::found::Found;
use super::value::Datum;

/// A record.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Record)]
pub(super) struct Shown {
    partition: i32,
    offset: i64,
    /// Null for a record without a time.
    timestamp_ms: Option<i64>,
    timestamp_type: Clock,
    key: Option<Datum>,
    /// Null for a tombstone.
    value: Option<Datum>,
    headers: Vec<ShownHeader>,
    /// Whether there are more headers than are shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    headers_truncated: bool,
    /// Bytes of key, value and headers.
    size_bytes: usize,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecordHeader)]
struct ShownHeader {
    name: String,
    value: Option<Datum>,
}

/// Whose clock the time is from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimestampType)]
#[serde(rename_all = "snake_case")]
enum Clock {
    /// The producer's.
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

impl Shown {
    /// With keys, values and headers' values of at most `bytes_max`.
    pub(super) fn of(found: &Found, bytes_max: usize) -> Shown {
        let record = &found.record;
        let datum = |bytes: &bytes::Bytes| Datum::of(bytes, bytes_max);
        let headers = record.headers.iter().map(|header| ShownHeader {
            name: header.key_lossy().into_owned(),
            value: header.value.as_ref().map(datum),
        });
        Shown {
            partition: found.partition,
            offset: record.offset,
            timestamp_ms: (record.timestamp >= 0).then_some(record.timestamp),
            timestamp_type: match found.timestamp_type {
                TimestampType::CreateTime => Clock::CreateTime,
                TimestampType::LogAppendTime => Clock::LogAppendTime,
            },
            key: record.key.as_ref().map(datum),
            value: record.value.as_ref().map(datum),
            headers: headers.collect(),
            headers_truncated: found.headers_truncated,
            size_bytes: found.size_bytes,
        }
    }
}
