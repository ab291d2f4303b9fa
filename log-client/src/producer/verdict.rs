//! What a broker's answer means for a batch.

use log_core::wire::ErrorCode;
use log_core::wire::produce::ProducePartitionResponse;

use super::delivery::Ack;

/// What to do with a batch that was answered.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is in the log.
    Appended(Ack),
    /// It is not, and the same bytes may be taken later. `is_misrouted`: by another broker, perhaps.
    Retry {
        /// Metadata has to be asked for first.
        is_misrouted: bool,
    },
    /// It is not, because of its size; its halves may be.
    Split,
    /// It is not, because the broker does not know this producer (any more): under a new epoch it may.
    Disowned,
    /// It is not, and will not be.
    Refused(ErrorCode),
}

/// Judges one partition's answer. `may_renew` says whether the producer may go on under an epoch of its
/// own choice, `has_older` says whether an older batch of the partition is still
/// unacknowledged, `record_count` is the batch's.
pub(super) fn judge(
    response: &ProducePartitionResponse,
    may_renew: bool,
    has_older: bool,
    record_count: i32,
) -> Verdict {
    let code = ErrorCode::from(response.error_code);
    match code {
        ErrorCode::None => Verdict::Appended(Ack::Appended {
            base_offset: Some(response.base_offset).filter(|&offset| offset >= 0),
            log_append_time_ms: Some(response.log_append_time_ms).filter(|&time| time >= 0),
        }),
        // Older than the five batches that the broker remembers: it is there, who knows at which offset.
        ErrorCode::DuplicateSequenceNumber => {
            Verdict::Appended(Ack::Appended { base_offset: None, log_append_time_ms: None })
        }
        // The older one failed, and this one with it; it follows when the older one is through.
        ErrorCode::OutOfOrderSequenceNumber if has_older => Verdict::Retry { is_misrouted: false },
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge if record_count > 1 => Verdict::Split,
        ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch if may_renew => Verdict::Disowned,
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::InconsistentTopicId
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch => Verdict::Retry { is_misrouted: true },
        code if code.is_retriable() => Verdict::Retry { is_misrouted: false },
        code => Verdict::Refused(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(code: ErrorCode, has_older: bool, record_count: i32) -> Verdict {
        judge(&ProducePartitionResponse::error(0, code.code()), true, has_older, record_count)
    }

    #[test]
    fn duplicates_are_success() {
        assert!(matches!(
            verdict(ErrorCode::DuplicateSequenceNumber, false, 1),
            Verdict::Appended(Ack::Appended { base_offset: None, .. })
        ));
    }

    #[test]
    fn a_gap_is_retried_only_behind_an_older_batch() {
        let code = ErrorCode::OutOfOrderSequenceNumber;
        assert!(matches!(verdict(code, true, 1), Verdict::Retry { is_misrouted: false }));
        assert!(matches!(verdict(code, false, 1), Verdict::Refused(refused) if refused == code));
    }

    #[test]
    fn only_several_records_can_be_split() {
        assert!(matches!(verdict(ErrorCode::MessageTooLarge, false, 2), Verdict::Split));
        assert!(matches!(verdict(ErrorCode::MessageTooLarge, false, 1), Verdict::Refused(_)));
    }

    #[test]
    fn a_full_disk_is_waited_for_and_a_moved_leader_is_looked_for() {
        assert!(matches!(
            verdict(ErrorCode::KafkaStorageError, false, 1),
            Verdict::Retry { is_misrouted: false }
        ));
        assert!(matches!(
            verdict(ErrorCode::NotLeaderOrFollower, false, 1),
            Verdict::Retry { is_misrouted: true }
        ));
        assert!(matches!(verdict(ErrorCode::InvalidRecord, false, 9), Verdict::Refused(_)));
    }
}
