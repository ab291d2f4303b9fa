//! A broker for tests of what is made of answers that a real one gives rarely: it has one topic of one partition,
//! coordinates everything, and leaves every other answer to the test.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use log_core::wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey};
use log_core::wire::messages::find_coordinator_response::Coordinator;
use log_core::wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use log_core::wire::messages::{
    ApiVersionsResponse, FindCoordinatorRequest, FindCoordinatorResponse, MetadataResponse,
};
use log_core::wire::{
    self, ApiKey, KafkaDecode, KafkaEncode, RequestHeader, ResponseHeader, StrBytes, Uuid, message,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::backoff::Backoff;
use crate::client::{Client, ClientConfig};

/// The topic.
pub(crate) const TOPIC: &str = "t";

/// A request.
pub(crate) struct Asked {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) body: Bytes,
}

impl Asked {
    /// What was asked.
    pub(crate) fn decode<R: KafkaDecode>(&self) -> R {
        wire::decode_request(self.body.clone(), self.version).unwrap()
    }

    /// The body of an answer.
    pub(crate) fn answer<R: KafkaEncode>(&self, response: &R) -> Vec<Bytes> {
        vec![wire::encode_response(response, self.version).unwrap()]
    }

    /// The body of an answer that does not come, on a connection that stays.
    pub(crate) fn answer_never(&self) -> Vec<Bytes> {
        vec![Bytes::new()]
    }
}

type Script = Arc<Mutex<dyn FnMut(&Asked) -> Vec<Bytes> + Send>>;

/// Starts a broker that is at this level of the feature `transaction.version`, and a client of it. `script` answers
/// with a body; an empty one ends the connection. The broker lasts as long as the runtime.
pub(crate) async fn client_of(
    transaction_version: i16,
    script: impl FnMut(&Asked) -> Vec<Bytes> + Send + 'static,
) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script: Script = Arc::new(Mutex::new(script));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, port, transaction_version, script.clone()));
        }
    });
    let mut config = ClientConfig::new(&format!("127.0.0.1:{port}"));
    config.backoff = Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(5) };
    Client::new(config).unwrap()
}

async fn serve(mut stream: TcpStream, port: u16, transaction_version: i16, script: Script) {
    while let Ok(length) = stream.read_i32().await {
        let mut frame = BytesMut::zeroed(usize::try_from(length).unwrap());
        stream.read_exact(&mut frame).await.unwrap();
        let (header, body) = RequestHeader::decode(frame.freeze()).unwrap();
        let asked = Asked { api: header.served().unwrap(), version: header.api_version, body };
        let body = match asked.api {
            ApiKey::ApiVersions => asked.answer(&versions(transaction_version)),
            ApiKey::Metadata => asked.answer(&metadata(port)),
            // Those that count look-ups see them.
            ApiKey::FindCoordinator => {
                (script.lock())(&asked);
                asked.answer(&coordinator(&asked.decode(), port))
            }
            _ => (script.lock())(&asked),
        };
        if body.is_empty() {
            return;
        }
        if body.iter().all(Bytes::is_empty) {
            continue;
        }
        let header = ResponseHeader { correlation_id: header.correlation_id };
        for part in header.frame(asked.api, asked.version, body).unwrap() {
            stream.write_all(&part).await.unwrap();
        }
    }
}

fn versions(transaction_version: i16) -> ApiVersionsResponse {
    let row = |&api: &ApiKey| {
        let (min_version, max_version) = (api.served().min, api.served().max);
        message!(ApiVersion { api_key: api.code(), min_version, max_version })
    };
    message!(ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().map(row).collect(),
        finalized_features: vec![message!(FinalizedFeatureKey {
            name: "transaction.version".into(),
            max_version_level: transaction_version,
            min_version_level: transaction_version,
        })],
    })
}

fn metadata(port: u16) -> MetadataResponse {
    let broker = message!(MetadataResponseBroker { node_id: 1, host: "127.0.0.1".into(), port: port.into() });
    let partition =
        message!(MetadataResponsePartition { leader_id: 1, replica_nodes: vec![1], isr_nodes: vec![1] });
    let topic = message!(MetadataResponseTopic {
        name: Some(TOPIC.into()),
        topic_id: Uuid::from_bytes([7; 16]),
        partitions: vec![partition],
    });
    message!(MetadataResponse { brokers: vec![broker], controller_id: 1, topics: vec![topic] })
}

fn coordinator(asked: &FindCoordinatorRequest, port: u16) -> FindCoordinatorResponse {
    let answer = |key: &StrBytes| {
        message!(Coordinator { key: key.clone(), node_id: 1, host: "127.0.0.1".into(), port: port.into() })
    };
    message!(FindCoordinatorResponse { coordinators: asked.coordinator_keys.iter().map(answer).collect() })
}
