//! A client of the broker's HTTP API: one request a connection, typed answers, bounded in time and size.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, DATE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where the broker serves HTTP.
#[derive(Args, Clone, Debug)]
pub struct HttpAddress {
    /// Where the broker serves HTTP, HOST:PORT
    #[arg(long = "http", env = "HIGHWATER_HTTP", default_value = "127.0.0.1:9080", value_name = "HOST:PORT")]
    address: String,
}

/// A name as a segment of a path.
pub fn segment(name: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encoded = name.bytes().map(|byte| match is_plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nothing listens, or it did not answer in time.
    #[error("cannot reach HTTP on {address}: {reason}")]
    Unreachable { address: String, reason: String },
    /// It answered that it does not do that.
    #[error("{path} was answered with {status}: {reason}")]
    Refused { path: String, status: StatusCode, reason: String },
    /// The answer is not what the API promises.
    #[error("{path} was answered with something else than the API has: {reason}")]
    Unexpected { path: String, reason: String },
}

/// An answer and the broker's clock.
pub struct Answer {
    status: StatusCode,
    /// In whole seconds since the epoch, where the broker says it.
    pub date_seconds: Option<i64>,
    body: Bytes,
}

impl Answer {
    /// The body, of a success.
    fn success(self, path: &str) -> Result<Bytes, HttpError> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let told = serde_json::from_slice::<serde_json::Value>(&self.body).ok();
        let told = told.and_then(|json| Some(json.get("error")?.as_str()?.to_owned()));
        let reason = told.unwrap_or_else(|| crate::human::excerpt(&self.body));
        Err(HttpError::Refused { path: path.to_owned(), status: self.status, reason })
    }

    /// What is told with another status than 200.
    pub fn text_unless_ok(&self) -> Option<String> {
        (self.status != StatusCode::OK).then(|| crate::human::excerpt(&self.body))
    }
}

impl HttpAddress {
    /// HOST:PORT.
    pub fn at(address: String) -> HttpAddress {
        HttpAddress { address }
    }

    /// The object at `path`.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        let body = self.ask(path).await?.success(path)?;
        serde_json::from_slice(&body)
            .map_err(|error| HttpError::Unexpected { path: path.to_owned(), reason: error.to_string() })
    }

    /// Whatever is answered at `path`.
    ///
    /// # Errors
    /// [`HttpError::Unreachable`].
    pub async fn ask(&self, path: &str) -> Result<Answer, HttpError> {
        self.answer(Method::GET, path, Bytes::new()).await
    }

    /// Has something done at `path`, with a body of JSON or with none.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn send(&self, method: Method, path: &str, json: Vec<u8>) -> Result<(), HttpError> {
        self.answer(method, path, json.into()).await?.success(path).map(drop)
    }

    async fn answer(&self, method: Method, path: &str, json: Bytes) -> Result<Answer, HttpError> {
        let unreachable = |reason: String| HttpError::Unreachable { address: self.address.clone(), reason };
        match timeout(PATIENCE, self.exchange(method, path, json)).await {
            Ok(answered) => answered.map_err(unreachable),
            Err(_) => Err(unreachable(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn exchange(&self, method: Method, path: &str, json: Bytes) -> Result<Answer, String> {
        let text = |error: hyper::Error| error.to_string();
        let stream = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
        // Ends with the answer, or with what is wrong with it, which the request tells.
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header(HOST, &self.address);
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(json));
        let request = request.map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(text)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        connection.abort();
        let date = head.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        Ok(Answer {
            status: head.status,
            date_seconds: date.map(|date| date.timestamp().as_second()),
            body: body.to_bytes(),
        })
    }
}
