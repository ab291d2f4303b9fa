//! Every API in every version that is advertised, over sockets: with a request that is valid, and with damaged ones.
//!
//! A valid request is the message with its defaults, which names nothing that exists: what counts is that it is
//! answered, in the form of its version. A damaged one is a valid one cut short or with bytes changed: it may cost an
//! error or its connection, and nothing else.

mod support;

use bytes::Bytes;
use log_core::wire::messages::*;
use log_core::wire::{
    ApiKey, FetchRequest, FetchResponse, KafkaDecode, ProduceRequest, ProduceResponse, RequestHeader,
    RequestResponsePair, decode_response, encode_request,
};
use support::{Rig, Socket, start};

/// Requests with changed bytes, for each version.
const CHANGED: usize = 12;

/// A valid body, and whether an answer is one of that version.
struct Valid {
    body: Bytes,
    is_answer: Box<dyn Fn(Bytes) -> bool>,
}

fn library<Q: RequestResponsePair + Default>(version: i16) -> Valid
where
    Q::Response: KafkaDecode,
{
    let body = encode_request(&Q::default(), version).expect("defaults fit into every version");
    Valid { body, is_answer: Box::new(move |answer| decode_response::<Q::Response>(answer, version).is_ok()) }
}

fn produce(version: i16) -> Valid {
    let request = ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 1000, topics: Vec::new() };
    // What goes before version 3 is only read, never written, and differs by the transactional id.
    let body: Bytes = match version {
        0..3 => Bytes::from_static(&[0xff, 0xff, 0, 0, 3, 0xe8, 0, 0, 0, 0]),
        _ => request.encode(version).unwrap().concat().into(),
    };
    Valid { body, is_answer: Box::new(move |answer| ProduceResponse::decode(answer, version).is_ok()) }
}

fn fetch(version: i16) -> Valid {
    let body = FetchRequest::default().encode(version).unwrap();
    Valid { body, is_answer: Box::new(move |answer| FetchResponse::decode(answer, version).is_ok()) }
}

macro_rules! valid {
    ($api:expr, $version:expr, $($name:ident: $request:ident,)*) => {
        match $api {
            ApiKey::Produce => produce($version),
            ApiKey::Fetch => fetch($version),
            $(ApiKey::$name => library::<$request>($version),)*
        }
    };
}

fn valid(api: ApiKey, version: i16) -> Valid {
    valid! { api, version,
        ListOffsets: ListOffsetsRequest,
        Metadata: MetadataRequest,
        OffsetCommit: OffsetCommitRequest,
        OffsetFetch: OffsetFetchRequest,
        FindCoordinator: FindCoordinatorRequest,
        JoinGroup: JoinGroupRequest,
        Heartbeat: HeartbeatRequest,
        LeaveGroup: LeaveGroupRequest,
        SyncGroup: SyncGroupRequest,
        DescribeGroups: DescribeGroupsRequest,
        ListGroups: ListGroupsRequest,
        ApiVersions: ApiVersionsRequest,
        CreateTopics: CreateTopicsRequest,
        DeleteTopics: DeleteTopicsRequest,
        DeleteRecords: DeleteRecordsRequest,
        InitProducerId: InitProducerIdRequest,
        OffsetForLeaderEpoch: OffsetForLeaderEpochRequest,
        AddPartitionsToTxn: AddPartitionsToTxnRequest,
        AddOffsetsToTxn: AddOffsetsToTxnRequest,
        EndTxn: EndTxnRequest,
        WriteTxnMarkers: WriteTxnMarkersRequest,
        TxnOffsetCommit: TxnOffsetCommitRequest,
        DescribeAcls: DescribeAclsRequest,
        CreateAcls: CreateAclsRequest,
        DeleteAcls: DeleteAclsRequest,
        DescribeConfigs: DescribeConfigsRequest,
        AlterConfigs: AlterConfigsRequest,
        DescribeLogDirs: DescribeLogDirsRequest,
        CreatePartitions: CreatePartitionsRequest,
        DeleteGroups: DeleteGroupsRequest,
        ElectLeaders: ElectLeadersRequest,
        IncrementalAlterConfigs: IncrementalAlterConfigsRequest,
        AlterPartitionReassignments: AlterPartitionReassignmentsRequest,
        ListPartitionReassignments: ListPartitionReassignmentsRequest,
        OffsetDelete: OffsetDeleteRequest,
        DescribeClientQuotas: DescribeClientQuotasRequest,
        AlterClientQuotas: AlterClientQuotasRequest,
        DescribeUserScramCredentials: DescribeUserScramCredentialsRequest,
        DescribeQuorum: DescribeQuorumRequest,
        UpdateFeatures: UpdateFeaturesRequest,
        DescribeCluster: DescribeClusterRequest,
        DescribeProducers: DescribeProducersRequest,
        DescribeTransactions: DescribeTransactionsRequest,
        ListTransactions: ListTransactionsRequest,
        ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest,
        ConsumerGroupDescribe: ConsumerGroupDescribeRequest,
        GetTelemetrySubscriptions: GetTelemetrySubscriptionsRequest,
        PushTelemetry: PushTelemetryRequest,
        ListConfigResources: ListConfigResourcesRequest,
        DescribeTopicPartitions: DescribeTopicPartitionsRequest,
    }
}

fn frame(api: ApiKey, version: i16, body: Bytes) -> Vec<u8> {
    let header =
        RequestHeader { api_key: api.code(), api_version: version, correlation_id: 1, client_id: None };
    header.frame(api, vec![body]).unwrap().concat()
}

/// Asserts that the broker serves, and that no handler has panicked.
async fn assert_well(rig: &Rig, after: &str) {
    let versions: ApiVersionsResponse =
        Socket::connect(rig).await.ask(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await;
    assert_eq!(versions.api_keys.len(), ApiKey::ALL.len(), "{after}");
    assert_eq!(rig.broker.context().metrics.handler_panics.get(), 0, "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_every_api_is_answered() {
    let rig = start().await;
    let mut socket = Socket::connect(&rig).await;
    let told: ApiVersionsResponse = socket.ask(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await;
    for row in told.api_keys {
        let api = ApiKey::from_code(row.api_key).expect("only what is served is advertised");
        for version in row.min_version..=row.max_version {
            let Valid { body, is_answer } = valid(api, version);
            let id = socket.send(api, version, vec![body]).await;
            let answer = socket.receive_body(api, version, id).await;
            assert!(is_answer(answer.clone()), "{api} {version} is answered with {answer:?}");
        }
    }
    assert_well(&rig, "valid requests").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_request_costs_at_most_its_connection() {
    let rig = start().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for &api in ApiKey::ALL {
        for version in api.served().iter() {
            let body = valid(api, version).body;
            for length in 0..body.len() {
                Socket::connect(&rig).await.send_last(&frame(api, version, body.slice(..length))).await;
            }
            let whole = frame(api, version, body);
            for _ in 0..CHANGED {
                let mut damaged = whole.clone();
                for _ in 0..rng.usize(1..4) {
                    // Past length, key and version, or it would be another request.
                    let at = rng.usize(8..damaged.len());
                    damaged[at] = rng.u8(..);
                }
                Socket::connect(&rig).await.send_last(&damaged).await;
            }
        }
        assert_well(&rig, api.name()).await;
    }
}
