//! Kafka's wire protocol: what goes between a four-byte length and the next one.
//!
//! Produce and Fetch carry the payload, so their bytes are ours ([`produce`], [`fetch`]): records
//! are slices of the frame they came in on and leave as the slices the log gave. The other messages
//! are plain structures with forty shapes between them; those come from the crate `kafka-wire`,
//! re-exported here, so that no other module names it (docs/decisions/0002).
//!
//! Every decoder here checks a length against the bytes at hand before it allocates, returns an
//! error and never panics, whatever the bytes are. Strings and payloads that a decoder returns are
//! slices of its input and keep the whole frame alive: copy what outlives the request.

use bytes::Bytes;

pub mod api_key;
pub mod error_code;
pub mod fetch;
pub mod fetch_response;
pub mod header;
pub mod primitive;
pub mod produce;
pub mod topic_ref;

pub use api_key::{ApiKey, Versions};
pub use error_code::ErrorCode;
pub use fetch::{FetchRequest, IsolationLevel};
pub use fetch_response::FetchResponse;
pub use header::{RequestHeader, ResponseHeader};
pub use kafka_wire::{self as messages, KafkaMessage, KafkaRequest, KafkaResponse, RequestResponsePair};
pub use kafka_wire_core::{
    ApiVersion, DecodeError, DecodeLimits, EncodeError, KafkaDecode, KafkaEncode, StrBytes, TaggedFields,
    Uuid, VersionRange,
};
pub use produce::{ProduceRequest, ProduceResponse};
pub use topic_ref::TopicRef;

/// The largest body of a request other than Produce, in bytes.
///
/// A decoded structure is larger than its bytes (a one-byte empty string is a 32-byte handle, and a
/// growing array doubles), so the frame size alone does not bound memory. Measured over the served
/// requests the factor stays under [`CONTROL_AMPLIFICATION_MAX`] (tests/hostile.rs); the largest
/// honest requests seen, commits for every partition of a large group, are two orders smaller.
pub const CONTROL_BODY_BYTES_MAX: usize = 8 << 20;

/// What decoding a request allocates at most, as a multiple of its body's size.
///
/// A connection that charges a byte budget for requests in flight multiplies by this.
pub const CONTROL_AMPLIFICATION_MAX: usize = 128;

/// The most elements one array of a request may hold.
pub const ARRAY_ELEMENTS_MAX: usize = 256 << 10;

/// Unknown tagged fields a structure may carry. They are kept to be forwarded by proxies; a broker
/// only skips them, and 40 bytes of memory for two on the wire is a poor trade.
const TAGGED_FIELDS_MAX: usize = 64;

/// Limits for a body that a client sent to the broker.
///
/// An element takes at least one byte on the wire in every message that is served, so an array's
/// count is also held to the bytes of the whole body.
pub fn request_limits(body_bytes: usize) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = CONTROL_BODY_BYTES_MAX;
    limits.max_string_bytes = i16::MAX as usize;
    limits.max_bytes_bytes = CONTROL_BODY_BYTES_MAX;
    limits.max_array_elements = ARRAY_ELEMENTS_MAX.min(body_bytes);
    limits.max_tagged_fields = TAGGED_FIELDS_MAX;
    limits.max_tag_bytes = 1 << 20;
    limits.max_total_tag_bytes = 1 << 20;
    limits
}

/// Limits for a body that a broker sent to the client: a broker is trusted with larger answers (the
/// metadata of a large cluster), not with unbounded ones.
pub fn response_limits(body_bytes: usize) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = 256 << 20;
    limits.max_string_bytes = 1 << 20;
    limits.max_array_elements = (4 << 20).min(body_bytes);
    limits.max_tagged_fields = TAGGED_FIELDS_MAX;
    limits
}

/// Decodes the request body of a control-plane message.
///
/// Bytes behind the message are passed over, as Kafka does: librdkafka 2.16 asks Metadata v9+ for all topics with an
/// array count of four bytes where one is due, and what it meant for the flags ends up behind the end.
///
/// # Errors
/// Whatever is wrong with the bytes of the message. Kafka closes the connection on it.
pub fn decode_request<T: KafkaDecode>(body: Bytes, version: i16) -> Result<T, DecodeError> {
    let limits = request_limits(body.len());
    T::decode(&mut kafka_wire_core::Decoder::new(body, limits)?, ApiVersion::new(version))
}

/// Decodes one whole response body of a control-plane message.
///
/// # Errors
/// Whatever is wrong with the bytes, trailing ones included.
pub fn decode_response<T: KafkaDecode>(body: Bytes, version: i16) -> Result<T, DecodeError> {
    let limits = response_limits(body.len());
    T::decode_from_bytes(body, ApiVersion::new(version), limits)
}

/// Encodes a response body (no header, no length) in one allocation of the exact size.
///
/// # Errors
/// A set field that `version` cannot represent: our own mistake, never the peer's.
pub fn encode_response<T: KafkaEncode>(message: &T, version: i16) -> Result<Bytes, EncodeError> {
    message.encode_to_bytes(ApiVersion::new(version))
}

/// Encodes a request body (no header, no length) in one allocation of the exact size.
///
/// # Errors
/// A set field that `version` cannot represent.
pub fn encode_request<T: KafkaRequest>(message: &T, version: i16) -> Result<Bytes, EncodeError> {
    message.encode_to_bytes(ApiVersion::new(version))
}

/// Builds one of `kafka-wire`'s messages: the named fields over the protocol's defaults.
///
/// Its structures are `#[non_exhaustive]` (a new protocol version adds fields), which rules out the
/// literal syntax outside their crate.
///
/// ```
/// use log_core::wire::{ErrorCode, message, messages::HeartbeatResponse};
/// let error_code = ErrorCode::RebalanceInProgress.code();
/// let response = message!(HeartbeatResponse { error_code, throttle_time_ms: 0 });
/// assert_eq!(response.error_code, 27);
/// ```
#[macro_export]
macro_rules! message {
    ($type:ty { $($field:ident $(: $value:expr)?),* $(,)? }) => {{
        #[allow(unused_mut)]
        let mut message: $type = ::core::default::Default::default();
        $($crate::message!(@set message $field $($value)?);)*
        message
    }};
    (@set $message:ident $field:ident $value:expr) => { $message.$field = $value };
    (@set $message:ident $field:ident) => { $message.$field = $field };
}
pub use message;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_request_is_passed_over() {
        // Metadata v13 for all topics as librdkafka 2.16 sends it: a null array in four bytes, then two flags and the
        // tags, of which the decoder sees the flags within the array's four.
        let body = Bytes::from_static(&[0, 0, 0, 0, 1, 0, 0]);
        let request: messages::MetadataRequest = decode_request(body, 13).unwrap();
        assert!(request.topics.is_none() && !request.allow_auto_topic_creation);
    }
}
