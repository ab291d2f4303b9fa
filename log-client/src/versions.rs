//! Which versions of each API this client speaks, and what a broker answered about its own.
//!
//! The lower ends are those of Apache Kafka 3.0 (ids of topics, batched coordinator look-ups), so that
//! no call has to carry an older shape of its request. The upper ends are the newest that the client
//! uses in full: OffsetCommit and OffsetFetch stop before 10, which names topics by id.

use std::sync::Arc;

use log_core::wire::messages::ApiVersionsResponse;
use log_core::wire::{ApiKey, Versions};

use crate::error::ClientError;

/// The feature whose level says how transactions are done.
const TRANSACTION_VERSION: &str = "transaction.version";

/// The versions of `api` that the client can write and read, or `None` for what it never calls.
pub(crate) const fn spoken(api: ApiKey) -> Option<Versions> {
    let (min, max) = match api {
        ApiKey::Produce => (3, 13),
        ApiKey::Fetch => (4, 18),
        ApiKey::ListOffsets => (4, 10),
        ApiKey::Metadata => (10, 13),
        ApiKey::OffsetCommit => (7, 9),
        ApiKey::OffsetFetch => (8, 9),
        ApiKey::FindCoordinator => (4, 6),
        ApiKey::JoinGroup => (5, 9),
        ApiKey::Heartbeat => (3, 4),
        ApiKey::LeaveGroup => (3, 5),
        ApiKey::SyncGroup => (3, 5),
        ApiKey::DescribeGroups => (4, 6),
        ApiKey::ListGroups => (3, 5),
        ApiKey::ApiVersions => (0, 4),
        ApiKey::CreateTopics => (5, 7),
        ApiKey::DeleteTopics => (6, 6),
        ApiKey::DeleteRecords => (1, 2),
        ApiKey::InitProducerId => (3, 5),
        ApiKey::AddPartitionsToTxn => (0, 3),
        ApiKey::AddOffsetsToTxn => (0, 4),
        ApiKey::EndTxn => (0, 5),
        ApiKey::TxnOffsetCommit => (3, 5),
        ApiKey::DescribeConfigs => (2, 4),
        ApiKey::CreatePartitions => (1, 3),
        ApiKey::DeleteGroups => (1, 2),
        ApiKey::IncrementalAlterConfigs => (0, 1),
        ApiKey::OffsetDelete => (0, 0),
        ApiKey::ConsumerGroupHeartbeat => (1, 1),
        ApiKey::ConsumerGroupDescribe => (0, 1),
        ApiKey::DescribeCluster => (0, 2),
        _ => return None,
    };
    Some(Versions { min, max })
}

/// One broker's answer to ApiVersions.
#[derive(Clone, Debug, Default)]
pub(crate) struct BrokerVersions {
    /// By API key, ascending; only the APIs that the client calls.
    ranges: Vec<(ApiKey, Versions)>,
    transaction_version: i16,
}

impl BrokerVersions {
    pub(crate) fn from_response(response: &ApiVersionsResponse) -> BrokerVersions {
        let ranges = response.api_keys.iter().filter_map(|range| {
            let api = ApiKey::from_code(range.api_key)?;
            Some((api, Versions { min: range.min_version, max: range.max_version }))
        });
        let features = response.finalized_features.iter();
        let mut levels =
            features.filter(|it| &*it.name == TRANSACTION_VERSION).map(|it| it.max_version_level);
        BrokerVersions { ranges: ranges.collect(), transaction_version: levels.next().unwrap_or(0) }
    }

    /// The level of the feature `transaction.version`; 0 where there is none.
    pub(crate) fn transaction_version(&self) -> i16 {
        self.transaction_version
    }

    /// The highest version that both sides speak, and that is at most `cap`.
    pub(crate) fn pick(&self, api: ApiKey, cap: i16, address: &Arc<str>) -> Result<i16, ClientError> {
        let wanted = spoken(api).unwrap_or(api.served());
        let wanted = Versions { min: wanted.min, max: wanted.max.min(cap) };
        let offered = self.ranges.iter().find(|(offered, _)| *offered == api).map(|&(_, range)| range);
        offered.and_then(|offered| offered.intersect(wanted)).map(|both| both.max).ok_or_else(|| {
            ClientError::UnsupportedApi { api: api.name(), address: address.clone(), wanted, offered }
        })
    }
}

#[cfg(test)]
mod tests {
    use log_core::wire::message;
    use log_core::wire::messages::api_versions_response::ApiVersion;

    use super::*;

    fn broker(ranges: &[(i16, i16, i16)]) -> BrokerVersions {
        let api_keys = ranges
            .iter()
            .map(|&(api_key, min_version, max_version)| {
                message!(ApiVersion { api_key, min_version, max_version })
            })
            .collect();
        BrokerVersions::from_response(&message!(ApiVersionsResponse { api_keys }))
    }

    #[test]
    fn every_version_spoken_is_one_that_is_encoded() {
        for &api in ApiKey::ALL {
            if let Some(spoken) = spoken(api) {
                let both = spoken.intersect(api.served());
                assert_eq!(both, Some(spoken), "{api}: the codec table lacks what the client speaks");
            }
        }
    }

    #[test]
    fn highest_common_version_is_picked() {
        let address: Arc<str> = "broker:1".into();
        let versions = broker(&[(1, 0, 11), (3, 11, 99), (9, 0, 5), (30_000, 0, 1)]);
        assert_eq!(versions.pick(ApiKey::Fetch, i16::MAX, &address).unwrap(), 11);
        assert_eq!(versions.pick(ApiKey::Fetch, 7, &address).unwrap(), 7);
        assert_eq!(versions.pick(ApiKey::Metadata, i16::MAX, &address).unwrap(), 13);
        let refused = versions.pick(ApiKey::OffsetFetch, i16::MAX, &address).unwrap_err().to_string();
        assert!(refused.contains("8-9") && refused.contains("0-5"), "{refused}");
        assert!(versions.pick(ApiKey::Produce, i16::MAX, &address).is_err());
    }
}
