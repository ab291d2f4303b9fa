//! One TCP connection to one broker: requests pipelined, responses matched in order.
//!
//! Two tasks own the socket. The writer numbers requests and remembers, in the order of their sending,
//! who waits for each answer; the reader takes frames off the socket and hands each to the next in that
//! order. A broker answers in order, so a correlation id that is not the expected one means that the two
//! sides no longer agree about anything, and the connection ends.
//!
//! A connection ends once, for all: on an I/O error, a malformed frame, a response that is overdue, or
//! when its last handle is dropped. Every request that still waits then fails with the same reason.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use log_core::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use log_core::wire::{
    self, ApiKey, ErrorCode, RequestHeader, RequestResponsePair, ResponseHeader, StrBytes, message,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::ClientError;
use crate::parts::Parts;
use crate::versions::{BrokerVersions, spoken};

/// Requests that may wait to be written, and as many again that may wait for their answers. Beyond
/// that, callers wait: a broker that does not answer cannot make the client hoard requests.
const REQUESTS_IN_FLIGHT_MAX: usize = 128;

/// What a read asks of the socket at most before more of the frame is there: a length prefix alone does
/// not make the client allocate the length.
const READ_CHUNK_BYTES: usize = 256 << 10;

/// How to connect and how long to wait.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionConfig {
    /// What the client calls itself in each request.
    pub client_id: Arc<str>,
    /// How long the TCP and the ApiVersions handshake may take.
    pub connect_timeout: Duration,
    /// How long a response may take before the connection is given up.
    pub request_timeout: Duration,
    /// The largest response that is accepted, in bytes.
    pub response_bytes_max: usize,
}

/// A handle to the connection. Dropping it ends the connection.
#[derive(Debug)]
pub(crate) struct Connection {
    address: Arc<str>,
    requests: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    versions: BrokerVersions,
    request_timeout: Duration,
    _end: DropGuard,
}

#[derive(Debug)]
struct Shared {
    address: Arc<str>,
    ended: CancellationToken,
    /// Why the connection ended: the first reason, which is set before `ended` is cancelled.
    reason: Mutex<Option<Arc<str>>>,
}

struct Outgoing {
    api: ApiKey,
    version: i16,
    body: Vec<Bytes>,
    answer: Answer,
}

enum Answer {
    /// The body of the response.
    Response(oneshot::Sender<Result<Bytes, ClientError>>),
    /// Nothing comes back (Produce with acks=0); resolved with no bytes when the socket has them.
    Written(oneshot::Sender<Result<Bytes, ClientError>>),
}

struct Expected {
    correlation_id: i32,
    api: ApiKey,
    version: i16,
    answer: oneshot::Sender<Result<Bytes, ClientError>>,
}

/// A request that has been queued in its place; resolve it for the response's body.
#[derive(Debug)]
pub(crate) struct PendingResponse {
    api: ApiKey,
    answer: oneshot::Receiver<Result<Bytes, ClientError>>,
    deadline: Instant,
    after: Duration,
    shared: Arc<Shared>,
}

impl Connection {
    /// Connects, and asks the broker which versions it serves.
    pub(crate) async fn open(
        address: Arc<str>,
        config: &ConnectionConfig,
    ) -> Result<Connection, ClientError> {
        let refused = |source: std::io::Error| ClientError::Connect {
            address: address.clone(),
            source: Arc::new(source),
        };
        let stream = timeout(config.connect_timeout, TcpStream::connect(&*address))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;

        let (reader, writer) = stream.into_split();
        let (requests, outgoing) = mpsc::channel(REQUESTS_IN_FLIGHT_MAX);
        let (expect, expected) = mpsc::channel(REQUESTS_IN_FLIGHT_MAX);
        let ended = CancellationToken::new();
        let shared =
            Arc::new(Shared { address: address.clone(), ended: ended.clone(), reason: Mutex::default() });
        tokio::spawn(write_loop(
            writer,
            outgoing,
            expect,
            StrBytes::from(&*config.client_id),
            shared.clone(),
        ));
        tokio::spawn(read_loop(reader, expected, config.response_bytes_max, shared.clone()));

        let mut connection = Connection {
            address,
            requests,
            shared,
            versions: BrokerVersions::default(),
            request_timeout: config.connect_timeout,
            _end: ended.drop_guard(),
        };
        connection.versions = connection.ask_versions().await?;
        connection.request_timeout = config.request_timeout;
        Ok(connection)
    }

    /// KIP-511: ask with the newest version; a broker that does not know it answers with version 0 and
    /// its own range, from which the second question is chosen.
    async fn ask_versions(&self) -> Result<BrokerVersions, ClientError> {
        let newest = spoken(ApiKey::ApiVersions).map_or(0, |spoken| spoken.max);
        let response = self.ask_versions_with(newest).await?;
        let response = match ErrorCode::from(response.error_code) {
            ErrorCode::UnsupportedVersion if newest > 0 => {
                let versions = BrokerVersions::from_response(&response);
                let version = versions.pick(ApiKey::ApiVersions, newest, &self.address).unwrap_or(0);
                self.ask_versions_with(version).await?
            }
            _ => response,
        };
        match ErrorCode::from(response.error_code) {
            ErrorCode::None => Ok(BrokerVersions::from_response(&response)),
            code => Err(ClientError::broker(format!("ApiVersions of {}", self.address), code)),
        }
    }

    async fn ask_versions_with(&self, version: i16) -> Result<ApiVersionsResponse, ClientError> {
        let api = ApiKey::ApiVersions;
        let request = if version >= 3 {
            message!(ApiVersionsRequest {
                client_software_name: "highwater".into(),
                client_software_version: env!("CARGO_PKG_VERSION").into(),
            })
        } else {
            ApiVersionsRequest::default()
        };
        let body =
            wire::encode_request(&request, version).map_err(|error| ClientError::encode(api, error))?;
        let body = self.send(api, version, vec![body]).await?.await_response().await?;
        // The refusal of a version is written in version 0, whatever was asked; its code comes first.
        let refused = body.get(..2) == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes());
        wire::decode_response(body, if refused { 0 } else { version })
            .map_err(|error| ClientError::decode(api, &self.address, error))
    }

    /// The broker's address, `host:port`.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether the connection can still be used.
    pub(crate) fn is_open(&self) -> bool {
        !self.shared.ended.is_cancelled()
    }

    /// The highest version of `api` that both sides speak, and that is at most `cap`.
    pub(crate) fn version(&self, api: ApiKey, cap: i16) -> Result<i16, ClientError> {
        self.versions.pick(api, cap, &self.address)
    }

    /// The level of the cluster's feature `transaction.version`, 0 where there is none (KIP-890).
    pub(crate) fn transaction_version(&self) -> i16 {
        self.versions.transaction_version()
    }

    /// Sends one control-plane request and decodes its response. `wait` is how long the broker itself
    /// may take by design (a long poll, a rebalance), on top of the ordinary time.
    pub(crate) async fn call<R: RequestResponsePair>(
        &self,
        wait: Duration,
        build: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        self.call_up_to(i16::MAX, wait, build).await
    }

    /// As [`call`](Connection::call), in a version that is at most `cap`.
    pub(crate) async fn call_up_to<R: RequestResponsePair>(
        &self,
        cap: i16,
        wait: Duration,
        build: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let api = ApiKey::from_code(R::API_KEY.value()).expect("the client only sends APIs of the table");
        let version = self.version(api, cap)?;
        let body = wire::encode_request(&build(version), version)
            .map_err(|error| ClientError::encode(api, error))?;
        let mut pending = self.send(api, version, vec![body]).await?;
        pending.allow(wait);
        let body = pending.await_response().await?;
        wire::decode_response(body, version).map_err(|error| ClientError::decode(api, &self.address, error))
    }

    /// Queues a request. Those queued by one caller, one after the other, are written in that order.
    pub(crate) async fn send(
        &self,
        api: ApiKey,
        version: i16,
        body: Vec<Bytes>,
    ) -> Result<PendingResponse, ClientError> {
        self.queue(api, version, body, Answer::Response).await
    }

    /// Queues a request that has no response; resolves with no bytes when it has been written.
    pub(crate) async fn send_oneway(
        &self,
        api: ApiKey,
        version: i16,
        body: Vec<Bytes>,
    ) -> Result<PendingResponse, ClientError> {
        self.queue(api, version, body, Answer::Written).await
    }

    async fn queue(
        &self,
        api: ApiKey,
        version: i16,
        body: Vec<Bytes>,
        answer: fn(oneshot::Sender<Result<Bytes, ClientError>>) -> Answer,
    ) -> Result<PendingResponse, ClientError> {
        let (resolve, receiver) = oneshot::channel();
        let outgoing = Outgoing { api, version, body, answer: answer(resolve) };
        if self.requests.send(outgoing).await.is_err() {
            return Err(self.shared.error());
        }
        Ok(PendingResponse {
            api,
            answer: receiver,
            deadline: Instant::now() + self.request_timeout,
            after: self.request_timeout,
            shared: self.shared.clone(),
        })
    }
}

impl PendingResponse {
    /// Extends the deadline by what the broker may take by design.
    pub(crate) fn allow(&mut self, wait: Duration) {
        self.deadline += wait;
        self.after += wait;
    }

    /// The response's body.
    ///
    /// An overdue response ends the connection: answers come in order, so those behind it are late too.
    pub(crate) async fn await_response(mut self) -> Result<Bytes, ClientError> {
        match tokio::time::timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_dropped)) => Err(self.shared.error()),
            Err(_elapsed) => {
                self.shared.end(format!("{} was not answered within {:?}", self.api, self.after));
                Err(ClientError::Timeout {
                    api: self.api.name(),
                    address: self.shared.address.clone(),
                    after: self.after,
                })
            }
        }
    }
}

impl Shared {
    fn end(&self, reason: impl Into<Arc<str>>) {
        self.reason.lock().get_or_insert_with(|| reason.into());
        self.ended.cancel();
    }

    fn error(&self) -> ClientError {
        let reason = self.reason.lock().clone().unwrap_or_else(|| "closed by this client".into());
        ClientError::Disconnected { address: self.address.clone(), reason }
    }
}

async fn write_loop(
    mut writer: OwnedWriteHalf,
    mut outgoing: mpsc::Receiver<Outgoing>,
    expected: mpsc::Sender<Expected>,
    client_id: StrBytes,
    shared: Arc<Shared>,
) {
    let ended = shared.ended.clone();
    let work = async {
        let mut correlation_id = 0i32;
        while let Some(Outgoing { api, version, body, answer }) = outgoing.recv().await {
            correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
            let header = RequestHeader {
                api_key: api.code(),
                api_version: version,
                correlation_id,
                client_id: Some(client_id.clone()),
            };
            let frame = match header.frame(api, body) {
                Ok(frame) => frame,
                Err(error) => {
                    let (Answer::Response(answer) | Answer::Written(answer)) = answer;
                    answer.send(Err(ClientError::encode(api, error))).ok();
                    continue;
                }
            };
            let written = match answer {
                Answer::Response(answer) => {
                    // Expected before written: the response may be there as soon as the bytes are.
                    let entry = Expected { correlation_id, api, version, answer };
                    if expected.send(entry).await.is_err() {
                        return "its reader has stopped".into();
                    }
                    None
                }
                Answer::Written(answer) => Some(answer),
            };
            if let Err(error) = writer.write_all_buf(&mut Parts::new(frame)).await {
                return error.to_string();
            }
            if let Some(answer) = written {
                answer.send(Ok(Bytes::new())).ok();
            }
        }
        "closed by this client".into()
    };
    let reason: String = tokio::select! {
        reason = work => reason,
        () = ended.cancelled() => return,
    };
    shared.end(reason);
}

async fn read_loop(
    mut reader: OwnedReadHalf,
    mut expected: mpsc::Receiver<Expected>,
    response_bytes_max: usize,
    shared: Arc<Shared>,
) {
    let ended = shared.ended.clone();
    let work = async {
        let mut buffer = BytesMut::with_capacity(16 << 10);
        loop {
            let frame = match read_frame(&mut reader, &mut buffer, response_bytes_max).await {
                Ok(frame) => frame,
                Err(reason) => return reason,
            };
            let Ok(Expected { correlation_id, api, version, answer }) = expected.try_recv() else {
                return "it sent a response to nothing that was asked".into();
            };
            match ResponseHeader::decode(frame, api, version) {
                Ok((header, _)) if header.correlation_id != correlation_id => {
                    return format!("response {} came where {correlation_id} was due", header.correlation_id);
                }
                // A caller that has given up is no reason to stop.
                Ok((_, body)) => drop(answer.send(Ok(body))),
                Err(source) => {
                    answer.send(Err(ClientError::decode(api, &shared.address, source))).ok();
                    return format!("the header of its answer to {api} does not decode");
                }
            }
        }
    };
    let reason: String = tokio::select! {
        reason = work => reason,
        () = ended.cancelled() => return,
    };
    shared.end(reason);
}

/// Reads one frame, without its length. Memory grows with the bytes that have come, not with what the
/// length promises.
async fn read_frame(
    reader: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    response_bytes_max: usize,
) -> Result<Bytes, String> {
    fill(reader, buffer, 4).await?;
    let length = buffer.get_i32();
    let length = usize::try_from(length)
        .ok()
        .filter(|&length| length <= response_bytes_max)
        .ok_or_else(|| format!("it announced a response of {length} bytes (limit {response_bytes_max})"))?;
    fill(reader, buffer, length).await?;
    Ok(buffer.split_to(length).freeze())
}

async fn fill(reader: &mut OwnedReadHalf, buffer: &mut BytesMut, length: usize) -> Result<(), String> {
    while buffer.len() < length {
        // At least doubling, so that a large frame is moved a few times at most.
        let missing = length - buffer.len();
        buffer.reserve(missing.min(buffer.len().max(READ_CHUNK_BYTES)));
        match reader.read_buf(buffer).await {
            Ok(0) if buffer.is_empty() => return Err("the broker closed it".into()),
            Ok(0) => return Err("the broker closed it in the middle of a response".into()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}
