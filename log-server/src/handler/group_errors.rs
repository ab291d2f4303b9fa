//! How what coordinators say is told to clients.

use log_core::wire::ErrorCode;

use crate::coordinator::group::GroupError;
use crate::runtime::Unavailable;

impl From<GroupError> for ErrorCode {
    fn from(error: GroupError) -> ErrorCode {
        match error {
            GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
            GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
            GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
            GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
            GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
            GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
            GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
            GroupError::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
            GroupError::StaleMemberEpoch => ErrorCode::StaleMemberEpoch,
            GroupError::UnreleasedInstanceId => ErrorCode::UnreleasedInstanceId,
            GroupError::UnsupportedAssignor => ErrorCode::UnsupportedAssignor,
            GroupError::InvalidRegularExpression => ErrorCode::InvalidRegularExpression,
            GroupError::UnsupportedVersion => ErrorCode::UnsupportedVersion,
            GroupError::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            GroupError::TransactionEnded => ErrorCode::InvalidTxnState,
            GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        }
    }
}

impl From<Unavailable> for ErrorCode {
    /// All of these make clients ask again, after looking for the coordinator where it may have moved.
    fn from(error: Unavailable) -> ErrorCode {
        match error {
            Unavailable::Loading => ErrorCode::CoordinatorLoadInProgress,
            Unavailable::NotWritten | Unavailable::Offline | Unavailable::Stopped => {
                ErrorCode::CoordinatorNotAvailable
            }
        }
    }
}

/// The code of an outcome: 0 for success.
pub(super) fn code_of<E: Into<ErrorCode>>(outcome: Result<(), E>) -> i16 {
    outcome.map_or_else(|error| error.into().code(), |()| ErrorCode::None.code())
}
