//! Keys and values on their way out: as text where they are text, as JSON where they are a document, else in base64.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A key or a value: one of `text`, `json` and `base64` is there.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Datum {
    /// UTF-8 that is no JSON document.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// An object or an array, in the spelling of its producer.
    #[schema(value_type = Option<Value>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Box<RawValue>>,
    /// What is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Whether this is only the beginning, of what is longer than was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl Datum {
    /// Shows `bytes`, or the beginning of them if there are more than `bytes_max`.
    pub(super) fn of(bytes: &[u8], bytes_max: usize) -> Datum {
        let Some(beginning) = bytes.get(..bytes_max).filter(|beginning| beginning.len() < bytes.len()) else {
            return Datum::whole(bytes);
        };
        match beginning.utf8_chunks().next() {
            None => Datum { text: Some(String::new()), truncated: true, ..Datum::default() },
            // A character that the cut has divided is left out.
            Some(chunk) if beginning.len() - chunk.valid().len() < 4 && is_cut_text(beginning) => {
                Datum { text: Some(chunk.valid().to_owned()), truncated: true, ..Datum::default() }
            }
            Some(_) => {
                Datum { base64: Some(BASE64_STANDARD.encode(beginning)), truncated: true, ..Datum::default() }
            }
        }
    }

    fn whole(bytes: &[u8]) -> Datum {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Datum { base64: Some(BASE64_STANDARD.encode(bytes)), ..Datum::default() };
        };
        match document(text) {
            Some(json) => Datum { json: Some(json), ..Datum::default() },
            None => Datum { text: Some(text.to_owned()), ..Datum::default() },
        }
    }
}

/// Whether `bytes` are UTF-8 but for a last character that may be incomplete.
fn is_cut_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// How deep a document may nest and still be shown as one: what JSON's readers, serde_json first, give up at.
const DEPTH_MAX: usize = 128;

/// The JSON object or array that `text` is. Numbers stay as they are written, whatever a reader can hold of them.
fn document(text: &str) -> Option<Box<RawValue>> {
    let text = text.trim();
    // As it is: a line break within a string makes it no JSON.
    if !text.starts_with(['{', '[']) || serde_json::from_str::<&RawValue>(text).is_err() {
        return None;
    }
    // Line breaks are between values only, and would end a line of server-sent events.
    let document = RawValue::from_string(text.replace(['\n', '\r'], " ")).ok()?;
    (depth(document.get()) <= DEPTH_MAX).then_some(document)
}

/// How deep the objects and arrays of `json`, which is valid, lie in each other; a `RawValue` is read without a limit.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], bytes_max: usize) -> String {
        serde_json::to_string(&Datum::of(bytes, bytes_max)).unwrap()
    }

    #[test]
    fn each_kind_of_bytes_is_shown_as_what_it_is() {
        assert_eq!(shown(b"", 9), r#"{"text":""}"#);
        assert_eq!(shown("grüße\n".as_bytes(), 99), r#"{"text":"grüße\n"}"#);
        assert_eq!(shown(b"12", 9), r#"{"text":"12"}"#);
        assert_eq!(shown(b"\"quoted\"", 9), r#"{"text":"\"quoted\""}"#);
        assert_eq!(shown(b"{broken", 9), r#"{"text":"{broken"}"#);
        assert_eq!(shown(b"[\"a\nb\"]", 9), r#"{"text":"[\"a\nb\"]"}"#);
        assert_eq!(shown(&[0xff, 0xfe], 9), r#"{"base64":"//4="}"#);
        assert_eq!(shown(b" [1, 2]\n", 99), r#"{"json":[1, 2]}"#);
    }

    #[test]
    fn a_documents_numbers_and_order_stay_as_they_were_written() {
        let document = br#"{"z":12345678901234567890123,"a":1.10,"a":-0.0}"#;
        assert_eq!(shown(document, 99), format!(r#"{{"json":{}}}"#, str::from_utf8(document).unwrap()));
        assert_eq!(shown(b"{\"a\":\r\n1}", 99), "{\"json\":{\"a\":  1}}");
    }

    #[test]
    fn what_nests_deeper_than_anybody_reads_is_text() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(shown(deep.as_bytes(), usize::MAX).starts_with(r#"{"text":"#));
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let brackets = format!(r#"["\"{}"]"#, "[".repeat(1_000));
        assert_eq!(shown(brackets.as_bytes(), usize::MAX), format!(r#"{{"json":{brackets}}}"#));
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(shown(nested(DEPTH_MAX).as_bytes(), usize::MAX).starts_with(r#"{"json":"#));
        assert!(shown(nested(DEPTH_MAX + 1).as_bytes(), usize::MAX).starts_with(r#"{"text":"#));
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(shown(b"abcdef", 6), r#"{"text":"abcdef"}"#);
        assert_eq!(shown(b"abcdef", 3), r#"{"text":"abc","truncated":true}"#);
        assert_eq!(shown("aäö".as_bytes(), 4), r#"{"text":"aä","truncated":true}"#);
        assert_eq!(shown(b"[1,2,3]", 4), r#"{"text":"[1,2","truncated":true}"#);
        assert_eq!(shown(&[b'a', 0xff, b'b', b'c'], 3), r#"{"base64":"Yf9i","truncated":true}"#);
        assert_eq!(shown(b"abc", 0), r#"{"text":"","truncated":true}"#);
    }
}
