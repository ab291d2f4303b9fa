//! Records as a request brings them.
//!
//! They become bytes while they are read, and a list ends the reading at its bound: what is made of a body is a few times
//! as large as the body, whatever it says.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use log_core::record::Header;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Records in one request at most.
const RECORDS_MAX: usize = 10_000;

/// Headers of a record at most.
const HEADERS_MAX: usize = 1000;

/// Records to be produced.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRecords {
    /// 10,000 at most.
    #[serde(deserialize_with = "records")]
    pub(super) records: Vec<NewRecord>,
}

/// A record to be produced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRecord {
    /// The one that the key belongs to without it, as Kafka's Java client chooses; without a key each in turn.
    pub(super) partition: Option<i32>,
    #[serde(default, deserialize_with = "datum")]
    #[schema(value_type = Option<NewDatum>)]
    pub(super) key: Option<Bytes>,
    /// Null for a tombstone.
    #[serde(default, deserialize_with = "datum")]
    #[schema(value_type = Option<NewDatum>)]
    pub(super) value: Option<Bytes>,
    /// 1000 at most.
    #[serde(default, deserialize_with = "headers")]
    #[schema(value_type = Vec<NewHeader>)]
    pub(super) headers: Vec<Header>,
    /// Now without it.
    pub(super) timestamp_ms: Option<i64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewHeader {
    name: String,
    #[serde(default, deserialize_with = "datum")]
    #[schema(value_type = Option<NewDatum>)]
    value: Option<Bytes>,
}

impl From<NewHeader> for Header {
    fn from(new: NewHeader) -> Header {
        Header { key: Bytes::from(new.name), value: new.value }
    }
}

/// A key or a value: a string, or what it is decoded from.
#[derive(ToSchema)]
#[serde(untagged)]
enum NewDatum {
    /// UTF-8.
    Text(String),
    Encoded(Encoded),
}

/// Exactly one of these.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Encoded {
    text: Option<String>,
    base64: Option<String>,
    /// Any JSON, kept in the spelling that it has here.
    #[schema(value_type = Option<Value>)]
    #[serde(default, deserialize_with = "any_json")]
    json: Option<Box<RawValue>>,
}

/// JSON that is there, null included.
fn any_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for NewDatum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NewDatum, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = NewDatum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a string, {"base64": "…"}, {"json": …} or null"#)
            }

            fn visit_str<E>(self, text: &str) -> Result<NewDatum, E> {
                Ok(NewDatum::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NewDatum, A::Error> {
                Encoded::deserialize(MapAccessDeserializer::new(map)).map(NewDatum::Encoded)
            }
        }
        // Not untagged: that would read the JSON into values, and numbers would come out differently.
        deserializer.deserialize_any(Either)
    }
}

impl NewDatum {
    fn bytes<E: Error>(self) -> Result<Bytes, E> {
        match self {
            NewDatum::Text(text) => Ok(Bytes::from(text)),
            NewDatum::Encoded(Encoded { text: Some(text), base64: None, json: None }) => {
                Ok(Bytes::from(text))
            }
            NewDatum::Encoded(Encoded { text: None, base64: Some(text), json: None }) => BASE64_STANDARD
                .decode(&text)
                .map(Bytes::from)
                .map_err(|error| E::custom(format_args!("base64: {error}"))),
            NewDatum::Encoded(Encoded { text: None, base64: None, json: Some(json) }) => {
                Ok(Bytes::from(String::from(Box::<str>::from(json))))
            }
            NewDatum::Encoded(_) => Err(E::custom("a key or a value is one of text, base64 and json")),
        }
    }
}

/// The bytes of a [`NewDatum`], or null.
fn datum<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    Option::<NewDatum>::deserialize(deserializer)?.map(NewDatum::bytes).transpose()
}

fn records<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NewRecord>, D::Error> {
    deserializer.deserialize_seq(Few::<NewRecord, NewRecord, RECORDS_MAX>::new("records in a request"))
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Header>, D::Error> {
    deserializer.deserialize_seq(Few::<NewHeader, Header, HEADERS_MAX>::new("headers of a record"))
}

/// Reads a list of `Read`, each made `Kept` at once, and goes no further than `MAX` of them.
struct Few<Read, Kept, const MAX: usize> {
    what: &'static str,
    items: PhantomData<(Read, Kept)>,
}

impl<Read, Kept, const MAX: usize> Few<Read, Kept, MAX> {
    fn new(what: &'static str) -> Self {
        Few { what, items: PhantomData }
    }
}

impl<'de, Read: Deserialize<'de> + Into<Kept>, Kept, const MAX: usize> Visitor<'de> for Few<Read, Kept, MAX> {
    type Value = Vec<Kept>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", self.what)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Kept>, A::Error> {
        let mut kept = Vec::new();
        while let Some(item) = list.next_element::<Read>()? {
            if kept.len() == MAX {
                return Err(A::Error::custom(format_args!("more than {MAX} {}", self.what)));
            }
            kept.push(item.into());
        }
        kept.shrink_to_fit();
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Result<Option<Bytes>, String> {
        let record: Result<NewRecord, _> = serde_json::from_str(&format!(r#"{{"value": {json}}}"#));
        record.map(|record| record.value).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_text_or_base64_or_json_or_null() {
        let bytes = |text: &'static str| Ok(Some(Bytes::from(text)));
        assert_eq!(value("null"), Ok(None));
        assert_eq!(value(r#""a\u00e4""#), bytes("aä"));
        assert_eq!(value(r#"{"text": "x"}"#), bytes("x"));
        assert_eq!(value(r#"{"base64": "AP8="}"#), Ok(Some(Bytes::from_static(&[0, 255]))));
        assert_eq!(
            value(r#"{"json": {"b": 1.10, "a": 123456789012345678901}}"#),
            bytes(r#"{"b": 1.10, "a": 123456789012345678901}"#)
        );
        assert_eq!(value(r#"{"json": null}"#), bytes("null"));
        for wrong in ["1", "[]", "{}", r#"{"base64": "%"}"#, r#"{"text": "a", "json": 1}"#, r#"{"txt": "a"}"#]
        {
            assert!(value(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_is_read_to_its_bound_and_not_beyond() {
        let request =
            |records: &str| serde_json::from_str::<NewRecords>(&format!(r#"{{"records": [{records}"#));
        let full = vec!["{}"; RECORDS_MAX].join(",");
        assert_eq!(request(&format!("{full}]}}")).unwrap().records.len(), RECORDS_MAX);
        // The body does not even end behind it: nobody got there.
        let error = request(&format!("{full},{{}},")).err().unwrap().to_string();
        assert!(error.starts_with("more than 10000 records in a request at line 1"), "{error}");

        let header = r#"{"name": "n", "value": "v"}"#;
        let record = |headers: usize, rest: &str| {
            serde_json::from_str::<NewRecord>(&format!(
                r#"{{"headers": [{}{rest}"#,
                vec![header; headers].join(",")
            ))
        };
        assert_eq!(
            record(HEADERS_MAX, "]}").unwrap().headers,
            vec![Header::new("n", Some("v")); HEADERS_MAX]
        );
        let error = record(HEADERS_MAX + 1, ",").err().unwrap().to_string();
        assert!(error.starts_with("more than 1000 headers of a record at line 1"), "{error}");
    }
}
