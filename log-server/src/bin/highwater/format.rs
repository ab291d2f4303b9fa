//! How `highwater consume` writes records.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ValueEnum;
use log_client::ConsumerRecord;

/// What is written for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The value and a line end
    Value,
    /// The value alone, byte for byte
    Raw,
    /// Key, a tab, the value and a line end
    KeyValue,
    /// One JSON object a line: partition, offset, timestamp (ms), key, value, headers. What is not UTF-8 comes
    /// in base64, as key_base64 and value_base64
    #[value(alias = "ndjson")]
    Json,
}

impl Format {
    /// Writes one record.
    pub fn write(self, out: &mut impl Write, record: &ConsumerRecord) -> io::Result<()> {
        let value = record.value.as_deref().unwrap_or_default();
        match self {
            Format::Raw => out.write_all(value),
            Format::Value => {
                out.write_all(value)?;
                out.write_all(b"\n")
            }
            Format::KeyValue => {
                out.write_all(record.key.as_deref().unwrap_or_default())?;
                out.write_all(b"\t")?;
                out.write_all(value)?;
                out.write_all(b"\n")
            }
            Format::Json => write_json(out, record),
        }
    }
}

fn write_json(out: &mut impl Write, record: &ConsumerRecord) -> io::Result<()> {
    out.write_all(b"{\"topic\":")?;
    serde_json::to_writer(&mut *out, &*record.topic)?;
    write!(
        out,
        ",\"partition\":{},\"offset\":{},\"timestamp\":{}",
        record.partition, record.offset, record.timestamp_ms
    )?;
    write_field(out, ",", "key", record.key.as_deref())?;
    write_field(out, ",", "value", record.value.as_deref())?;
    out.write_all(b",\"headers\":[")?;
    for (index, header) in record.headers.iter().enumerate() {
        out.write_all(if index == 0 { b"{" } else { b",{" })?;
        write_field(out, "", "name", Some(&header.key))?;
        write_field(out, ",", "value", header.value.as_deref())?;
        out.write_all(b"}")?;
    }
    out.write_all(b"]}\n")
}

/// A member of an object: text, null, or base64 under a name that says so.
fn write_field(out: &mut impl Write, before: &str, name: &str, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes.map(std::str::from_utf8) {
        None => write!(out, "{before}\"{name}\":null"),
        Some(Ok(text)) => {
            write!(out, "{before}\"{name}\":")?;
            Ok(serde_json::to_writer(out, text)?)
        }
        Some(Err(_)) => {
            write!(out, "{before}\"{name}_base64\":\"{}\"", BASE64.encode(bytes.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use log_client::Header;

    use super::*;

    fn written(format: Format, key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> String {
        let record = ConsumerRecord {
            topic: "t".into(),
            partition: 1,
            offset: 2,
            timestamp_ms: 3,
            key: key.map(Into::into),
            value: value.map(Into::into),
            headers: vec![Header::new("h", Some("1")), Header::new("n", None::<&str>)],
        };
        let mut out = Vec::new();
        format.write(&mut out, &record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_tells_text_null_and_bytes_apart() {
        let line = written(Format::Json, Some(b"\xff\x00"), Some(b"a\"b"));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["key_base64"], "/wA=");
        assert_eq!(
            (&read["value"], &read["offset"], &read["timestamp"]),
            (&"a\"b".into(), &2.into(), &3.into())
        );
        assert_eq!(read["headers"][0]["value"], "1");
        assert!(written(Format::Json, None, None).contains("\"key\":null,\"value\":null"));
    }

    #[test]
    fn other_formats_write_bytes_as_they_are() {
        assert_eq!(written(Format::Value, None, Some(b"v")), "v\n");
        assert_eq!(written(Format::Raw, None, Some(b"v")), "v");
        assert_eq!(written(Format::KeyValue, Some(b"k"), Some(b"v")), "k\tv\n");
    }
}
