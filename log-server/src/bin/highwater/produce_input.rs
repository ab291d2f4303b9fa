//! Lines in, records out: reading, unpacking and taking keys and times from JSON, in a thread of its
//! own so that it overlaps with sending.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use log_client::{Header, ProducerRecord};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::record_line;

/// The longest line that is read, in bytes. A file without line ends must not fill the memory.
const LINE_BYTES_MAX: u64 = 16 << 20;

const BUFFER_BYTES: usize = 256 << 10;

/// What lines are read from.
pub type Source = BufReader<Box<dyn Read + Send>>;

/// What a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The value, whatever it is.
    Text,
    /// The value, which is a JSON object.
    Json,
    /// A whole record; see [`record_line`].
    Record,
}

/// How a line becomes a record.
#[derive(Clone)]
pub struct Shape {
    pub topic: Arc<str>,
    /// Instead of the partition that is chosen, or that a record names.
    pub partition: Option<i32>,
    /// Whether partitions are chosen although records name some.
    pub repartition: bool,
    pub key: Option<Bytes>,
    pub headers: Vec<Header>,
    pub content: Content,
    pub key_field: Option<String>,
    pub timestamp_field: Option<String>,
}

/// What a line came to.
pub enum Line {
    Record(ProducerRecord),
    /// Number from 1, and what is wrong with it.
    Malformed(u64, String),
}

/// Opens `path`, or standard input for `-`, and unpacks it if it begins as gzip does. The count follows
/// the bytes that were read before unpacking.
pub fn open(path: &Path, bytes_read: Arc<AtomicU64>) -> io::Result<Source> {
    let source: Box<dyn Read + Send> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path)?),
    };
    let mut source = BufReader::with_capacity(BUFFER_BYTES, Counted { source, bytes_read });
    let is_gzip = source.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let unpacked: Box<dyn Read + Send> = match is_gzip {
        true => Box::new(MultiGzDecoder::new(source)),
        false => Box::new(source),
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, unpacked))
}

struct Counted {
    source: Box<dyn Read + Send>,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        // Relaxed: it only moves a progress bar.
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Reads to the end and hands lines on in groups, until `hand_on` says that nobody wants more.
pub fn read(mut source: Source, shape: &Shape, mut hand_on: impl FnMut(Vec<Line>) -> bool) -> io::Result<()> {
    let mut number = 0;
    let mut group = Vec::new();
    loop {
        let mut line = Vec::new();
        let count = (&mut source).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if count == 0 {
            hand_on(group);
            return Ok(());
        }
        number += 1;
        if line.last() != Some(&b'\n') && count as u64 == LINE_BYTES_MAX {
            let message = format!("line {number} is longer than {LINE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            continue;
        }
        group.push(match record(shape, line) {
            Ok(record) => Line::Record(record),
            Err(reason) => Line::Malformed(number, reason),
        });
        // An interactive line is sent when it is typed, not when a group is full.
        if (group.len() >= 512 || !source.buffer().contains(&b'\n')) && !hand_on(std::mem::take(&mut group)) {
            return Ok(());
        }
    }
}

fn record(shape: &Shape, line: Vec<u8>) -> Result<ProducerRecord, String> {
    if shape.content == Content::Record {
        let mut record = record_line::parse(&line, &shape.topic)?;
        record.partition = match shape.repartition {
            true => None,
            false => shape.partition.or(record.partition),
        };
        record.headers.extend(shape.headers.iter().cloned());
        return Ok(record);
    }
    let mut key = shape.key.clone();
    let mut timestamp_ms = None;
    if shape.content == Content::Json {
        let fields = Fields { key: shape.key_field.as_deref(), timestamp: shape.timestamp_field.as_deref() };
        let mut json = serde_json::Deserializer::from_slice(&line);
        let found = fields.deserialize(&mut json).and_then(|found| json.end().map(|()| found));
        let found = found.map_err(|error| format!("not a JSON object: {error}"))?;
        if let Some(name) = &shape.key_field {
            key = key_of(found.key.ok_or_else(|| format!("no field '{name}' for the key"))?);
        }
        if let Some(name) = &shape.timestamp_field {
            let value = found.timestamp.ok_or_else(|| format!("no field '{name}' for the timestamp"))?;
            timestamp_ms = Some(time_of(&value).ok_or_else(|| {
                format!("field '{name}' is neither RFC 3339 nor milliseconds since the epoch: {value}")
            })?);
        }
    }
    Ok(ProducerRecord {
        topic: shape.topic.clone(),
        partition: shape.partition,
        key,
        value: Some(line.into()),
        headers: shape.headers.clone(),
        timestamp_ms,
    })
}

/// Text as it is, anything else as its JSON; null is no key.
fn key_of(value: Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.into()),
        other => Some(other.to_string().into()),
    }
}

fn time_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().filter(|&ms| ms >= 0),
        Value::String(text) => text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond),
        _ => None,
    }
}

/// Takes two fields out of an object and steps over the others without building them.
struct Fields<'a> {
    key: Option<&'a str>,
    timestamp: Option<&'a str>,
}

#[derive(Default)]
struct Found {
    key: Option<Value>,
    timestamp: Option<Value>,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Found;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::default();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let (is_key, is_timestamp) = (self.key == Some(&*name), self.timestamp == Some(&*name));
            if !is_key && !is_timestamp {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = map.next_value()?;
            if is_timestamp {
                found.timestamp = Some(value.clone());
            }
            if is_key {
                found.key = Some(value);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            topic: "t".into(),
            partition: None,
            key: None,
            headers: Vec::new(),
            repartition: false,
            content: Content::Json,
            key_field: Some("id".to_owned()),
            timestamp_field: Some("at".to_owned()),
        }
    }

    fn of(line: &str) -> Result<ProducerRecord, String> {
        record(&shape(), line.as_bytes().to_vec())
    }

    #[test]
    fn keys_and_times_come_from_fields() {
        let text = of(r#"{"x":[1,{}],"id":"a\"b","at":"1970-01-01T00:00:01Z"}"#).unwrap();
        assert_eq!((text.key.as_deref(), text.timestamp_ms), (Some(&b"a\"b"[..]), Some(1000)));
        let number = of(r#"{"id":17,"at":5}"#).unwrap();
        assert_eq!((number.key.as_deref(), number.timestamp_ms), (Some(&b"17"[..]), Some(5)));
        assert_eq!(of(r#"{"id":null,"at":5}"#).unwrap().key, None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, word) in [
            ("{", "JSON"),
            ("[1]", "JSON"),
            (r#"{"at":5,"id":1} x"#, "JSON"),
            (r#"{"at":5}"#, "'id'"),
            (r#"{"id":1}"#, "'at'"),
            (r#"{"id":1,"at":"yesterday"}"#, "RFC 3339"),
        ] {
            assert!(of(line).unwrap_err().contains(word), "{line}");
        }
    }

    #[test]
    fn lines_are_numbered_and_empty_ones_skipped() {
        let text = b"{\"id\":1,\"at\":2}\r\n\nbad\n{\"id\":1,\"at\":3}".to_vec();
        let source: Source = BufReader::new(Box::new(io::Cursor::new(text)));
        let mut lines = Vec::new();
        read(source, &shape(), |group| {
            lines.extend(group);
            true
        })
        .unwrap();
        assert_eq!(lines.len(), 3);
        assert!(matches!(&lines[1], Line::Malformed(3, _)));
        assert!(matches!(&lines[2], Line::Record(record) if record.timestamp_ms == Some(3)));
    }
}
