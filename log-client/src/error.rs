//! What can go wrong between this client and a broker, below any one operation.
//!
//! Each operation has an enum of its own ([`ProduceError`](crate::producer::ProduceError),
//! [`ConsumeError`](crate::consumer::ConsumeError), [`AdminError`](crate::admin::AdminError)) whose
//! `Client` variant holds one of these. All are cheap to clone, because one broken connection is the
//! answer to every request that was waiting on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log_core::wire::{ApiKey, DecodeError, EncodeError, ErrorCode, Versions};

/// Why a request has no usable response.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// A bootstrap address is not of the form `host:port`, or there is none.
    #[error("bootstrap address '{0}' is not of the form host:port")]
    InvalidBootstrap(String),
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}; is a broker listening there?")]
    Connect {
        /// Where to.
        address: Arc<str>,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The connection ended before the response came. The request may have been carried out.
    #[error("connection to {address} was lost: {reason}")]
    Disconnected {
        /// Which broker.
        address: Arc<str>,
        /// What ended it.
        reason: Arc<str>,
    },
    /// No response in time. The request may have been carried out.
    #[error("{api} was not answered by {address} within {} ms", after.as_millis())]
    Timeout {
        /// Which request.
        api: &'static str,
        /// Which broker.
        address: Arc<str>,
        /// How long the client waited.
        after: Duration,
    },
    /// The broker and this client have no version of the API in common.
    #[error("{address} does not serve {api} in the versions that this client speaks, {wanted}{}", serves(*offered))]
    UnsupportedApi {
        /// Which API.
        api: &'static str,
        /// Which broker.
        address: Arc<str>,
        /// What the client could use.
        wanted: Versions,
        /// What the broker serves; `None` when it does not know the API.
        offered: Option<Versions>,
    },
    /// The response's bytes are not what the protocol says.
    #[error("{address} answered {api} with bytes that do not decode: {source}")]
    Decode {
        /// Which API.
        api: &'static str,
        /// Which broker.
        address: Arc<str>,
        /// Where decoding stopped.
        source: Arc<DecodeError>,
    },
    /// The request cannot be written in the version that the broker speaks.
    #[error("{api} cannot be encoded: {source}")]
    Encode {
        /// Which API.
        api: &'static str,
        /// Which field.
        source: Arc<EncodeError>,
    },
    /// The broker refused the request as a whole, or a topic in metadata.
    #[error("{context}: {code}")]
    Broker {
        /// What was asked, in a few words.
        context: Arc<str>,
        /// The broker's answer.
        code: ErrorCode,
    },
    /// A broker that a partition or a group needs is not in the cluster's metadata.
    #[error("no broker is known for {0}")]
    NoBroker(Arc<str>),
}

fn serves(offered: Option<Versions>) -> String {
    match offered {
        Some(offered) => format!(" (it serves {offered})"),
        None => " (it does not know the API)".to_owned(),
    }
}

impl ClientError {
    /// Whether the same request may succeed later, perhaps elsewhere.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Disconnected { .. }
            | ClientError::Timeout { .. }
            | ClientError::NoBroker(_) => true,
            ClientError::Broker { code, .. } => code.is_retriable(),
            ClientError::InvalidBootstrap(_)
            | ClientError::UnsupportedApi { .. }
            | ClientError::Decode { .. }
            | ClientError::Encode { .. } => false,
        }
    }

    /// Whether the broker may have carried the request out although no answer came.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            ClientError::Disconnected { .. } | ClientError::Timeout { .. } | ClientError::Decode { .. }
        )
    }

    /// The broker's error code, where there is one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn broker(context: impl Into<Arc<str>>, code: ErrorCode) -> ClientError {
        ClientError::Broker { context: context.into(), code }
    }

    pub(crate) fn decode(api: ApiKey, address: &Arc<str>, source: DecodeError) -> ClientError {
        ClientError::Decode { api: api.name(), address: address.clone(), source: Arc::new(source) }
    }

    pub(crate) fn encode(api: ApiKey, source: EncodeError) -> ClientError {
        ClientError::Encode { api: api.name(), source: Arc::new(source) }
    }
}
