//! A Kafka client with no moving parts: requests are encoded before the clock starts, replies are read and counted.
//!
//! A real client library would be measured as much as the broker; this one costs a `write` and a `read`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::{Buf, Bytes};
use log_core::wire::fetch::{FetchPartition, FetchTopic};
use log_core::wire::messages::MetadataRequest;
use log_core::wire::messages::metadata_request::MetadataRequestTopic;
use log_core::wire::produce::{ProducePartition, ProduceTopic};
use log_core::wire::{
    ApiKey, FetchRequest, ProduceRequest, RequestHeader, TopicRef, encode_request, message,
};

use crate::twin::RECEIVE_BYTES;

/// The newest version that addresses topics by name, in both Produce and Fetch.
const VERSION_BY_NAME: i16 = 12;

fn frame(api: ApiKey, body: Vec<Bytes>) -> Bytes {
    let header = RequestHeader {
        api_key: api.code(),
        api_version: VERSION_BY_NAME,
        correlation_id: 1,
        client_id: Some("bench".into()),
    };
    header.frame(api, body).expect("a well-formed request encodes").concat().into()
}

/// A Produce request of one batch for one partition, ready for the socket.
pub fn produce_frame(topic: &str, partition: i32, acks: i16, batch: Bytes) -> Bytes {
    let partition = ProducePartition { index: partition, records: Some(batch) };
    let request = ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic { topic: TopicRef::Name(topic.into()), partitions: vec![partition] }],
    };
    frame(ApiKey::Produce, request.encode(VERSION_BY_NAME).expect("a well-formed request encodes"))
}

/// A Fetch request outside any session for one partition from `offset`, of at most `bytes_max` bytes.
pub fn fetch_frame(topic: &str, partition: i32, offset: i64, bytes_max: i32) -> Bytes {
    let partition = FetchPartition {
        index: partition,
        current_leader_epoch: -1,
        fetch_offset: offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: bytes_max,
    };
    let request = FetchRequest {
        max_wait_ms: 500,
        max_bytes: bytes_max,
        topics: vec![FetchTopic { topic: TopicRef::Name(topic.into()), partitions: vec![partition] }],
        ..FetchRequest::default()
    };
    frame(ApiKey::Fetch, vec![request.encode(VERSION_BY_NAME).expect("a well-formed request encodes")])
}

/// A Metadata request for one topic, which creates it.
pub fn metadata_frame(topic: &str) -> Bytes {
    let wanted = message!(MetadataRequestTopic { name: Some(topic.into()) });
    let request = message!(MetadataRequest { topics: Some(vec![wanted]), allow_auto_topic_creation: true });
    let body = encode_request(&request, VERSION_BY_NAME).expect("a well-formed request encodes");
    frame(ApiKey::Metadata, vec![body])
}

/// One blocking connection.
pub struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects with Nagle's algorithm off.
    pub fn open(broker: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(broker)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// The same connection for a second thread, so that one sends while the other receives.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Writes one encoded request.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.socket.write_all(frame)
    }

    /// Reads one reply and keeps it whole: for small replies.
    pub fn receive(&mut self) -> io::Result<Bytes> {
        let mut length = [0_u8; 4];
        self.socket.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut body)?;
        Ok(body.into())
    }

    /// Reads one reply, keeps its first `head` bytes and drops the rest unread by the CPU. Returns (head, reply bytes).
    pub fn receive_head(&mut self, head: usize) -> io::Result<(Bytes, usize)> {
        let mut length = [0_u8; 4];
        self.socket.read_exact(&mut length)?;
        let total = u32::from_be_bytes(length) as usize;
        let mut kept = vec![0; head.min(total)];
        self.socket.read_exact(&mut kept)?;
        let mut left = total - kept.len();
        while left > 0 {
            let want = left.min(self.buffer.len());
            match self.socket.read(&mut self.buffer[..want])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => left -= n,
            }
        }
        Ok((kept.into(), total))
    }
}

/// Panics unless `reply` is a successful answer to [`produce_frame`]; returns the base offset.
pub fn expect_produced(mut reply: Bytes, topic: &str) -> i64 {
    // Correlation id, header tags; topic array, name, partition array, index, error, base offset.
    reply.advance(4 + 1 + 1 + 1 + topic.len() + 1 + 4);
    let error = reply.get_i16();
    assert_eq!(error, 0, "the broker refused a batch of the benchmark");
    reply.get_i64()
}
