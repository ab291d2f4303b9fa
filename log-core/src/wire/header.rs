//! Request and response headers, and whole frames.
//!
//! ```text
//! request   length i32 │ api key i16 │ version i16 │ correlation id i32 │ client id │ [tags] │ body
//! response  length i32 │ correlation id i32 │ [tags] │ body
//! ```
//! The client id's length is an `i16` even where the rest is flexible. Which header version goes
//! with which body is [`ApiKey`]'s to say.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::{DecodeError, EncodeError, StrBytes};

use super::api_key::ApiKey;
use super::primitive::{Reader, Writer};

/// What precedes a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API's key, which may be none that is served.
    pub api_key: i16,
    /// The version of the body.
    pub api_version: i16,
    /// The client's number for this request; its response carries the same.
    pub correlation_id: i32,
    /// What the client calls itself. `None` too where the header could not be read to its end
    /// because the API or the version is not served.
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Reads the header of a frame (without its length) and returns it with the body.
    ///
    /// The layout past the correlation id depends on the API and the version. Where these are not
    /// served ([`RequestHeader::served`] is `None`) reading stops there, because that much suffices
    /// to answer ApiVersions with "unsupported version", and anything else closes the connection;
    /// the body is then whatever is left.
    ///
    /// # Errors
    /// A frame that ends early, or a client id that is not UTF-8.
    pub fn decode(frame: Bytes) -> Result<(RequestHeader, Bytes), DecodeError> {
        let mut reader = Reader::new(frame, false);
        let api_key = reader.i16()?;
        let api_version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let mut header = RequestHeader { api_key, api_version, correlation_id, client_id: None };
        let Some(api) = header.served() else { return Ok((header, reader.into_rest())) };
        header.client_id = reader.nullable_string()?;
        let mut body = reader.into_rest();
        if api.request_header_version(api_version) >= 2 {
            let mut reader = Reader::new(body, true);
            reader.skip_tags()?;
            body = reader.into_rest();
        }
        Ok((header, body))
    }

    /// The API, if it is served in this version.
    pub fn served(&self) -> Option<ApiKey> {
        ApiKey::from_code(self.api_key).filter(|api| api.served().contains(self.api_version))
    }

    /// A whole frame, length included, as parts: the header, then `body` as it is.
    ///
    /// # Errors
    /// A client id past 32,767 bytes, or a frame past 2 GiB.
    pub fn frame(&self, api: ApiKey, body: Vec<Bytes>) -> Result<Vec<Bytes>, EncodeError> {
        debug_assert_eq!(self.api_key, api.code());
        let mut writer = Writer::new(false, 64);
        writer.i16(self.api_key);
        writer.i16(self.api_version);
        writer.i32(self.correlation_id);
        writer.nullable_string(self.client_id.as_deref())?;
        if api.request_header_version(self.api_version) >= 2 {
            writer.i8(0);
        }
        frame(writer.finish(), body)
    }
}

/// What precedes a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The number of the request that is answered.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of a frame (without its length), answering `api` in `version`.
    ///
    /// # Errors
    /// A frame that ends early.
    pub fn decode(frame: Bytes, api: ApiKey, version: i16) -> Result<(ResponseHeader, Bytes), DecodeError> {
        let mut reader = Reader::new(frame, api.response_header_version(version) >= 1);
        let correlation_id = reader.i32()?;
        reader.skip_tags()?;
        Ok((ResponseHeader { correlation_id }, reader.into_rest()))
    }

    /// A whole frame, length included, as parts: the header, then `body` as it is.
    ///
    /// # Errors
    /// A frame past 2 GiB.
    pub fn frame(&self, api: ApiKey, version: i16, body: Vec<Bytes>) -> Result<Vec<Bytes>, EncodeError> {
        let mut writer = Writer::new(api.response_header_version(version) >= 1, 8);
        writer.i32(self.correlation_id);
        writer.no_tags();
        frame(writer.finish(), body)
    }
}

/// Puts the length in front: `length │ header │ body`, with length and header in one part.
fn frame(header: Vec<Bytes>, body: Vec<Bytes>) -> Result<Vec<Bytes>, EncodeError> {
    let header_bytes: usize = header.iter().map(Bytes::len).sum();
    let bytes = header_bytes + body.iter().map(Bytes::len).sum::<usize>();
    let length = i32::try_from(bytes).map_err(|_| EncodeError::FrameTooLarge { bytes })?;
    let mut front = BytesMut::with_capacity(4 + header_bytes);
    front.put_i32(length);
    header.iter().for_each(|part| front.put_slice(part));
    let mut parts = Vec::with_capacity(1 + body.len());
    parts.push(front.freeze());
    parts.extend(body);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(api: ApiKey, version: i16) -> RequestHeader {
        RequestHeader {
            api_key: api.code(),
            api_version: version,
            correlation_id: 77,
            client_id: Some("test-client".into()),
        }
    }

    fn concat(parts: Vec<Bytes>) -> Bytes {
        parts.concat().into()
    }

    #[test]
    fn frames_round_trip_for_every_served_version() {
        for &api in ApiKey::ALL {
            for version in api.served().iter() {
                let header = header(api, version);
                let body = Bytes::from_static(b"body");
                let mut frame = concat(header.frame(api, vec![body.clone()]).unwrap());
                let length = frame.split_to(4);
                assert_eq!(length.as_ref(), (frame.len() as i32).to_be_bytes());
                assert_eq!(RequestHeader::decode(frame).unwrap(), (header, body.clone()), "{api} {version}");

                let response = ResponseHeader { correlation_id: -3 };
                let frame = concat(response.frame(api, version, vec![body.clone()]).unwrap()).split_off(4);
                assert_eq!(ResponseHeader::decode(frame, api, version).unwrap(), (response, body));
            }
        }
    }

    #[test]
    fn unserved_version_still_yields_the_correlation_id() {
        let mut frame = BytesMut::new();
        frame.put_slice(&[0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xfe]);
        let (header, _) = RequestHeader::decode(frame.freeze()).unwrap();
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (18, 99, 5));
        assert_eq!(header.served(), None);
    }

    #[test]
    fn truncated_headers_are_errors() {
        let frame =
            concat(header(ApiKey::Metadata, 12).frame(ApiKey::Metadata, vec![]).unwrap()).split_off(4);
        for len in 0..frame.len() {
            assert!(RequestHeader::decode(frame.slice(..len)).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn unknown_header_tags_are_skipped() {
        let frame = Bytes::from_static(&[0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 1, 9, 3, 1, 2, 3, 0xaa]);
        let (header, body) = RequestHeader::decode(frame).unwrap();
        assert_eq!((header.client_id, body.as_ref()), (None, &[0xaa][..]));
    }
}
