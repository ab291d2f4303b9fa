//! Which records are asked for.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use log_core::log::{Isolation, ReadError};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::page::end_of;
use crate::http::ApiError;
use crate::partition::Partition;

/// Partitions that are read together at most; of a topic with more, one has to be named.
pub(super) const PARTITIONS_MAX: usize = 1000;

/// Records that are answered without a `limit`, and with any.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;

/// Bytes that are answered without `max_bytes`, and with any.
const BYTES_DEFAULT: usize = 1 << 20;
const BYTES_MAX: usize = 8 << 20;

/// Bytes that are shown of a key or a value without `value_bytes_max`.
const VALUE_BYTES_DEFAULT: usize = 64 << 10;

/// Where to read, and what.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Selection {
    /// One partition; all of them, merged by time, without it.
    partition: Option<i32>,
    /// The offset to begin at, or `0:12,1:40` for partitions each: the `next` of an earlier answer.
    offset: Option<String>,
    /// Begin at the first record of this time or a later one, in ms since the epoch.
    timestamp_ms: Option<i64>,
    /// Begin with the earliest record, or read the latest.
    from: Option<Edge>,
    /// Only records with this key.
    key: Option<String>,
    /// Whether records of open and of aborted transactions are read, as Kafka's consumers have it.
    isolation: Option<IsolationLevel>,
    /// Bytes that are shown of a key or a value; the default is 65536.
    value_bytes_max: Option<usize>,
    /// Records at most; of a page 100 without it, and 10000 at most. A stream ends after so many.
    limit: Option<usize>,
    /// Bytes of records in a page at most, about, and 8388608 at most; the default is 1048576. One record is there
    /// however large it is.
    max_bytes: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Edge {
    Earliest,
    Latest,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum IsolationLevel {
    ReadUncommitted,
    ReadCommitted,
}

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Earliest,
    /// Of a page: the last records. Of a stream: what comes from now on.
    Latest,
    /// The first record of that time.
    Time(i64),
    /// Of one partition, or of all if there is but one.
    Offset(i64),
    /// By partition; for the others somebody else says.
    Offsets(Vec<(i32, i64)>),
}

impl Selection {
    /// Records of a page.
    pub(super) fn page_limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX)
    }

    /// Records of a stream, if it is to end.
    pub(super) fn stream_limit(&self) -> Option<usize> {
        self.limit
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.max_bytes.unwrap_or(BYTES_DEFAULT).min(BYTES_MAX)
    }

    pub(super) fn isolation(&self) -> Isolation {
        match self.isolation {
            Some(IsolationLevel::ReadCommitted) => Isolation::Committed,
            Some(IsolationLevel::ReadUncommitted) | None => Isolation::Uncommitted,
        }
    }

    pub(super) fn key(&self) -> Option<Bytes> {
        self.key.clone().map(Bytes::from)
    }

    pub(super) fn value_bytes_max(&self) -> usize {
        self.value_bytes_max.unwrap_or(VALUE_BYTES_DEFAULT)
    }

    /// Which of a topic's partitions are meant.
    ///
    /// # Errors
    /// 404 for one that is not there, 400 for too many at once.
    pub(super) fn partitions(&self, all: &[Arc<Partition>]) -> Result<Vec<Arc<Partition>>, ApiError> {
        match self.partition {
            Some(index) => Ok(vec![one_of(all, index)?.clone()]),
            None if all.len() > PARTITIONS_MAX => Err(ApiError::bad_request(format!(
                "the topic has {} partitions, and {PARTITIONS_MAX} can be read together; name one by partition=",
                all.len()
            ))),
            None => Ok(all.to_vec()),
        }
    }

    /// Where to begin, if anything says so.
    ///
    /// # Errors
    /// 400 if several do, or an offset does not parse.
    pub(super) fn start(&self) -> Result<Option<Start>, ApiError> {
        let said = [self.offset.is_some(), self.timestamp_ms.is_some(), self.from.is_some()];
        if said.into_iter().filter(|said| *said).count() > 1 {
            return Err(ApiError::bad_request(
                "offset, timestamp_ms and from exclude one another; leave one",
            ));
        }
        let offset = self.offset.as_deref().map(parse_offsets).transpose()?;
        let edge = self.from.map(|edge| match edge {
            Edge::Earliest => Start::Earliest,
            Edge::Latest => Start::Latest,
        });
        Ok(offset.or(self.timestamp_ms.map(Start::Time)).or(edge))
    }
}

fn one_of(all: &[Arc<Partition>], index: i32) -> Result<&Arc<Partition>, ApiError> {
    let found = usize::try_from(index).ok().and_then(|index| all.get(index));
    found.ok_or_else(|| {
        ApiError::not_found(format!("there is no partition {index}; the topic has {} of them", all.len()))
    })
}

/// Reads `12` or `0:12,1:40`.
///
/// # Errors
/// 400.
pub(super) fn parse_offsets(text: &str) -> Result<Start, ApiError> {
    let malformed = || {
        ApiError::bad_request(format!("{text:?} is no offset; write 12, or 0:12,1:40 for partitions each"))
    };
    let offset = |text: &str| text.parse::<i64>().ok().filter(|offset| *offset >= 0).ok_or_else(malformed);
    if !text.contains(':') {
        return offset(text).map(Start::Offset);
    }
    let pairs = text.split(',').map(|pair| {
        let (partition, at) = pair.split_once(':').ok_or_else(malformed)?;
        Ok((partition.parse().map_err(|_| malformed())?, offset(at)?))
    });
    pairs.collect::<Result<_, ApiError>>().map(Start::Offsets)
}

/// The offset that each partition is read from; `otherwise`, earliest or latest, is for those that a list of offsets does
/// not have. Looks into the log for a time, and waits for the disk then.
///
/// # Errors
/// 400 for an offset past the end, or one for several partitions; 404 for a partition that is not there; 500 where the
/// log cannot be read.
pub(super) fn place(
    partitions: Vec<Arc<Partition>>,
    start: &Start,
    otherwise: &Start,
    isolation: Isolation,
) -> Result<Vec<(Arc<Partition>, i64)>, ApiError> {
    if let Start::Offset(_) = start
        && partitions.len() > 1
    {
        return Err(ApiError::bad_request(
            "an offset belongs to a partition; add partition=, or write offset=0:12,1:40",
        ));
    }
    if let Start::Offsets(pairs) = start {
        for (index, _) in pairs {
            if !partitions.iter().any(|partition| partition.index() == *index) {
                return Err(ApiError::not_found(format!("partition {index} is not among those to be read")));
            }
        }
    }
    let placed = partitions.into_iter().map(|partition| {
        let from = place_one(&partition, start, otherwise, isolation)?;
        Ok((partition, from))
    });
    placed.collect()
}

fn place_one(
    partition: &Partition,
    start: &Start,
    otherwise: &Start,
    isolation: Isolation,
) -> Result<i64, ApiError> {
    let log_start = partition.reader().watermarks().log_start();
    let end = end_of(partition, isolation);
    match start {
        Start::Earliest => Ok(log_start),
        Start::Latest => Ok(end),
        Start::Time(time) => {
            let found = partition.reader().offset_for_timestamp(*time, isolation);
            Ok(found.map_err(|error| unreadable(partition, &error))?.map_or(end, |found| found.offset))
        }
        Start::Offset(offset) => within(partition, *offset, log_start),
        Start::Offsets(pairs) => match pairs.iter().find(|(index, _)| *index == partition.index()) {
            Some((_, offset)) => within(partition, *offset, log_start),
            None => place_one(partition, otherwise, otherwise, isolation),
        },
    }
}

/// What was deleted cannot be read any more, and what is not there yet never could.
fn within(partition: &Partition, offset: i64, log_start: i64) -> Result<i64, ApiError> {
    let high_watermark = partition.reader().watermarks().high_watermark();
    if offset > high_watermark {
        return Err(ApiError::bad_request(format!(
            "offset {offset} is past the end of partition {}, which is {high_watermark}",
            partition.index()
        )));
    }
    Ok(offset.max(log_start))
}

fn unreadable(partition: &Partition, error: &ReadError) -> ApiError {
    let status = match error {
        ReadError::Closed => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::new(status, format!("partition {}: {error}", partition.index()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_one_or_one_for_each_partition() {
        assert_eq!(parse_offsets("12"), Ok(Start::Offset(12)));
        assert_eq!(parse_offsets("0:12,7:40"), Ok(Start::Offsets(vec![(0, 12), (7, 40)])));
        for text in ["", "-1", "0:-1", "0:1,", "x", "0:1:2", "9223372036854775808"] {
            assert!(parse_offsets(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_beginning_is_enough() {
        let both = Selection { offset: Some("1".to_owned()), timestamp_ms: Some(2), ..Selection::default() };
        assert!(both.start().is_err());
        assert_eq!(Selection::default().start(), Ok(None));
    }
}
