//! One request on its way in and its answer on the way out.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log_core::wire::{self, ApiKey, KafkaDecode, KafkaEncode, RequestHeader, ResponseHeader};

use super::ConnectionInfo;
use crate::partition::{ReaderId, Turn};

/// A whole response, length and header included, as the parts to be sent one behind the other. Records among them
/// are slices of the log's memory map.
pub type Frame = Vec<Bytes>;

/// A request whose header is read and whose API and version are served.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which API.
    pub api: ApiKey,
    /// The header as it came.
    pub header: RequestHeader,
    /// What follows the header: a slice of the connection's receive buffer. Copy what outlives the request.
    pub body: Bytes,
    /// Where it came from.
    pub connection: Arc<ConnectionInfo>,
    /// When its last byte was there.
    pub received_at: Instant,
}

impl Request {
    /// The version that body and answer are encoded in.
    pub fn version(&self) -> i16 {
        self.header.api_version
    }

    /// What the client calls itself; empty for a client that does not say.
    pub fn client_id(&self) -> &str {
        self.header.client_id.as_deref().unwrap_or("")
    }

    /// The client, as readers of a partition are told apart.
    pub fn reader_id(&self) -> ReaderId {
        ReaderId::new(self.client_id(), self.connection.peer.ip())
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// A refusal that says what is wrong with the bytes. As in Kafka it costs the connection.
    pub fn decode<M: KafkaDecode>(&self) -> Result<M, Refusal> {
        wire::decode_request(self.body.clone(), self.version()).map_err(Refusal::new)
    }

    /// Has the connection not read for `time`, because its client is over a quota. Returns what the answer says of
    /// it, in milliseconds.
    pub fn hold_up(&self, time: Duration) -> i32 {
        if time.is_zero() {
            return 0;
        }
        self.connection.mute.impose(time);
        // Rounded up: a client that comes back early would be held up again.
        i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    }

    /// Puts length and header in front of an encoded body.
    ///
    /// # Errors
    /// A frame past 2 GiB.
    pub fn frame(&self, body: Vec<Bytes>) -> Result<Frame, Refusal> {
        ResponseHeader { correlation_id: self.header.correlation_id }
            .frame(self.api, self.version(), body)
            .map_err(|error| Refusal::new(format!("answer: {error}")))
    }

    /// Encodes a whole answer.
    ///
    /// # Errors
    /// A field that the version cannot represent: a bug of the handler's, which costs the connection because there
    /// is nothing correct to send.
    pub fn encode<M: KafkaEncode>(&self, message: &M) -> Result<Frame, Refusal> {
        let body = wire::encode_response(message, self.version())
            .map_err(|error| Refusal::new(format!("answer: {error}")))?;
        self.frame(vec![body])
    }
}

/// Why a connection is closed instead of answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    /// With the reason that goes into the log.
    pub fn new(reason: impl fmt::Display) -> Self {
        Refusal(reason.to_string())
    }
}

/// An answer that is being waited for.
pub type PendingFrame = Pin<Box<dyn Future<Output = Result<Frame, Refusal>> + Send>>;

/// What becomes of a request.
pub enum Reply {
    /// The answer.
    Ready(Frame),
    /// The answer, once the future has it. It is polled when all earlier answers are sent, and dropped with the
    /// connection: what must happen in any case has happened before.
    Pending(PendingFrame),
    /// An answer that is being waited for, and the sync that it waits for: whoever waits makes it himself or drops the
    /// turn, before anything else.
    PendingSync(Turn, PendingFrame),
    /// No answer is wanted (Produce with acks=0).
    None,
    /// Close the connection, once all earlier answers are sent.
    Close(Refusal),
}

impl Reply {
    /// The same, with the sync left to the flusher.
    pub fn without_turn(self) -> Reply {
        match self {
            Reply::PendingSync(_, pending) => Reply::Pending(pending),
            reply => reply,
        }
    }

    /// An encoded answer.
    pub fn message<M: KafkaEncode>(request: &Request, message: &M) -> Reply {
        request.encode(message).into()
    }

    /// An answer that is encoded once `message` is there.
    pub fn later<M: KafkaEncode>(
        request: &Request,
        message: impl Future<Output = M> + Send + 'static,
    ) -> Reply {
        // Without the body: it would keep the receive buffer from being used again.
        let request = Request { body: Bytes::new(), ..request.clone() };
        Reply::Pending(Box::pin(async move {
            let message = message.await;
            request.encode(&message)
        }))
    }
}

impl From<Result<Frame, Refusal>> for Reply {
    fn from(frame: Result<Frame, Refusal>) -> Self {
        match frame {
            Ok(frame) => Reply::Ready(frame),
            Err(refusal) => Reply::Close(refusal),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Ready(frame) => write!(f, "Ready({} parts)", frame.len()),
            Reply::Pending(_) | Reply::PendingSync(..) => f.write_str("Pending"),
            Reply::None => f.write_str("None"),
            Reply::Close(refusal) => write!(f, "Close({refusal})"),
        }
    }
}
