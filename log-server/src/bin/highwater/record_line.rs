//! A record as a line of JSON, read: what [`Format::Json`](crate::format::Format) writes.
//!
//! ```json
//! {"topic":"t","partition":0,"offset":5,"timestamp":1000,"key":null,"value_base64":"/wA=",
//!  "headers":[{"name":"n","value":"v"}]}
//! ```
//!
//! Bytes that are no UTF-8 have `_base64` behind their name. Topic and offset are where the record was, and are not
//! needed to write it elsewhere. Nothing else is lost: null is told from empty.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use log_client::{Header, ProducerRecord};
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
struct Line {
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<String>,
    key_base64: Option<String>,
    /// `None` without the field, `Some(None)` for null.
    #[serde(default, deserialize_with = "present")]
    value: Option<Option<String>>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: Vec<HeaderLine>,
}

#[derive(Deserialize)]
struct HeaderLine {
    name: Option<String>,
    name_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The record of a line, for `topic`.
///
/// # Errors
/// What is wrong with the line.
pub fn parse(line: &[u8], topic: &Arc<str>) -> Result<ProducerRecord, String> {
    let line: Line =
        serde_json::from_slice(line).map_err(|error| format!("not a record in JSON: {error}"))?;
    if line.value.is_none() && line.value_base64.is_none() {
        return Err("not a record: it has neither value nor value_base64".to_owned());
    }
    let headers = line.headers.into_iter().map(|header| {
        let name = bytes("name", header.name, header.name_base64)?.ok_or("a header without a name")?;
        Ok(Header { key: name, value: bytes("value", header.value, header.value_base64)? })
    });
    Ok(ProducerRecord {
        topic: topic.clone(),
        partition: line.partition.filter(|&partition| partition >= 0),
        key: bytes("key", line.key, line.key_base64)?,
        value: bytes("value", line.value.flatten(), line.value_base64)?,
        headers: headers.collect::<Result<_, String>>()?,
        timestamp_ms: line.timestamp.filter(|&timestamp| timestamp >= 0),
    })
}

fn bytes(name: &str, text: Option<String>, base64: Option<String>) -> Result<Option<Bytes>, String> {
    match base64 {
        Some(base64) => match BASE64.decode(base64) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(format!("{name}_base64: {error}")),
        },
        None => Ok(text.map(Bytes::from)),
    }
}

#[cfg(test)]
mod tests {
    use log_client::ConsumerRecord;

    use super::*;
    use crate::format::Format;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let values: [Option<&'static [u8]>; 4] = [None, Some(b""), Some(b"text \"\\\n"), Some(b"\xff\x00")];
        for key in values {
            for value in values {
                let headers: Vec<Header> = values
                    .map(|value| Header { key: key.unwrap_or(b"n").into(), value: value.map(Into::into) })
                    .into();
                let record = ConsumerRecord {
                    topic: "t".into(),
                    partition: 3,
                    offset: 7,
                    timestamp_ms: 11,
                    key: key.map(Into::into),
                    value: value.map(Into::into),
                    headers,
                };
                let mut line = Vec::new();
                Format::Json.write(&mut line, &record).unwrap();
                let read = parse(&line, &"u".into()).unwrap();
                assert_eq!((&*read.topic, read.partition, read.timestamp_ms), ("u", Some(3), Some(11)));
                assert_eq!((read.key, read.value, read.headers), (record.key, record.value, record.headers));
            }
        }
    }

    #[test]
    fn what_is_no_record_is_said() {
        for (line, says) in [
            ("{", "JSON"),
            ("{\"id\":1}", "neither"),
            ("{\"value_base64\":\"*\"}", "value_base64"),
            ("{\"value\":null,\"headers\":[{\"value\":\"v\"}]}", "name"),
            ("{\"value\":5}", "JSON"),
        ] {
            let error = parse(line.as_bytes(), &"t".into()).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
