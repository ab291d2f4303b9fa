//! A broker in a directory of its own, and a socket that speaks frames.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use log_core::wire::{
    ApiKey, KafkaDecode, KafkaRequest, RequestHeader, RequestResponsePair, ResponseHeader, decode_response,
    encode_request,
};
use log_server::handler::{self, ConnectionInfo, Reply, Request};
use log_server::{Broker, BrokerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a loaded machine; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A broker and the directory it lives in.
pub struct Rig {
    pub broker: Broker,
    pub dir: tempfile::TempDir,
}

pub async fn start() -> Rig {
    start_with(|_| ()).await
}

pub async fn start_with(adjust: impl FnOnce(&mut BrokerConfig)) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    // Most tests' records are of long ago, and the first look at retention comes when it comes.
    let mut config = BrokerConfig { retention_ms: -1, ..BrokerConfig::for_test(dir.path()) };
    adjust(&mut config);
    Rig { broker: Broker::start(config).await.unwrap(), dir }
}

/// A connection that sends and receives raw frames.
pub struct Socket {
    client_id: &'static str,
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Socket {
    pub async fn connect(rig: &Rig) -> Socket {
        Socket::connect_as(rig, "socket-test").await
    }

    /// A client that calls itself so.
    pub async fn connect_as(rig: &Rig, client_id: &'static str) -> Socket {
        let stream = TcpStream::connect(rig.broker.kafka_addr()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Socket { client_id, stream, next_correlation_id: 1 }
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a request with an encoded body and returns its correlation id.
    pub async fn send(&mut self, api: ApiKey, version: i16, body: Vec<Bytes>) -> i32 {
        let (correlation_id, frame) = self.frame(api, version, body);
        self.send_raw(&frame).await;
        correlation_id
    }

    /// The next request, and its correlation id.
    pub fn frame(&mut self, api: ApiKey, version: i16, body: Vec<Bytes>) -> (i32, Vec<u8>) {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let header = RequestHeader {
            api_key: api.code(),
            api_version: version,
            correlation_id,
            client_id: Some(self.client_id.into()),
        };
        (correlation_id, header.frame(api, body).unwrap().concat())
    }

    /// The next frame, without its length.
    pub async fn receive(&mut self) -> Bytes {
        let frame = tokio::time::timeout(PATIENCE, async {
            let length = self.stream.read_i32().await.unwrap();
            let mut frame = BytesMut::zeroed(length as usize);
            self.stream.read_exact(&mut frame).await.unwrap();
            frame.freeze()
        });
        frame.await.expect("an answer")
    }

    /// The body of the next answer, which must be the one to `correlation_id`.
    pub async fn receive_body(&mut self, api: ApiKey, version: i16, correlation_id: i32) -> Bytes {
        let (header, body) = ResponseHeader::decode(self.receive().await, api, version).unwrap();
        assert_eq!(header.correlation_id, correlation_id, "answers come in order");
        body
    }

    /// Sends a request of the control plane and waits for its answer.
    pub async fn ask<Q: KafkaRequest, A: KafkaDecode>(
        &mut self,
        api: ApiKey,
        version: i16,
        request: &Q,
    ) -> A {
        let body = encode_request(request, version).unwrap();
        let id = self.send(api, version, vec![body]).await;
        decode_response(self.receive_body(api, version, id).await, version).unwrap()
    }

    /// Sends bytes and nothing more, and returns when the broker has closed the connection, whatever it answers.
    pub async fn send_last(mut self, bytes: &[u8]) {
        // The broker may have closed already, over the first of the bytes.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.shutdown().await;
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "the broker keeps a connection that the client has ended");
    }

    /// Asserts that the broker closes the connection without sending anything more.
    pub async fn expect_closed(&mut self) {
        let mut byte = [0; 1];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut byte)).await.expect("to be closed");
        // A reset is what a close with unread bytes looks like from here.
        assert!(matches!(read, Ok(0) | Err(_)), "the broker answered instead of closing");
    }
}

/// An ApiVersions v0 request, the smallest that there is: 4 bytes of length, 10 of header.
pub fn api_versions_frame(correlation_id: i32) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(10);
    frame.put_i16(18);
    frame.put_i16(0);
    frame.put_i32(correlation_id);
    frame.put_i16(-1);
    frame.freeze()
}

/// The correlation id of an answer.
pub fn correlation_id(mut frame: Bytes) -> i32 {
    frame.get_i32()
}

/// Hands a request to its handler, without a socket.
pub async fn dispatch(rig: &Rig, api: ApiKey, version: i16, body: Vec<Bytes>) -> Reply {
    handler::dispatch(rig.broker.context(), request(api, version, body.concat().into())).await
}

/// A request as a connection hands it over.
pub fn request(api: ApiKey, version: i16, body: Bytes) -> Request {
    assert!(api.served().contains(version), "{api} {version} is not served");
    Request {
        api,
        header: RequestHeader {
            api_key: api.code(),
            api_version: version,
            correlation_id: 1,
            client_id: Some("test".into()),
        },
        body,
        connection: Arc::new(ConnectionInfo::new(0, SocketAddr::from(([127, 0, 0, 1], 1)))),
        received_at: Instant::now(),
    }
}

/// The body of a reply, waited for if need be.
pub async fn body(reply: Reply, api: ApiKey, version: i16) -> Bytes {
    let frame = match reply {
        Reply::Ready(frame) => frame,
        Reply::Pending(pending) => tokio::time::timeout(PATIENCE, pending).await.expect("an answer").unwrap(),
        Reply::PendingSync(turn, pending) => {
            // Left to the flusher, as by a connection that has more to do.
            drop(turn);
            tokio::time::timeout(PATIENCE, pending).await.expect("an answer").unwrap()
        }
        other => panic!("no answer but {other:?}"),
    };
    let frame = Bytes::from(frame.concat()).split_off(4);
    ResponseHeader::decode(frame, api, version).unwrap().1
}

/// Asks a handler of the control plane.
pub async fn ask<Q: KafkaRequest, A: KafkaDecode>(rig: &Rig, api: ApiKey, version: i16, request: &Q) -> A {
    let reply = dispatch(rig, api, version, vec![encode_request(request, version).unwrap()]).await;
    decode_response(body(reply, api, version).await, version).unwrap()
}

/// Asks a handler of the control plane; the request's type knows its API and its answer.
pub async fn call<Q: RequestResponsePair>(rig: &Rig, version: i16, request: Q) -> Q::Response {
    let api = ApiKey::from_code(Q::API_KEY.value()).expect("a served API");
    ask(rig, api, version, &request).await
}
