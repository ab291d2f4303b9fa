//! Whether a record carries a correlation id, and where.
//!
//! It may stand in a header, as the trace id of a W3C `traceparent` header, as the key, in a field of a JSON value, or,
//! if that is asked for, anywhere in the value. Pure.

use log_client::ConsumerRecord;
use memchr::memmem::Finder;
use serde_json::Value;

/// Headers that are looked at unless others are named.
pub const HEADERS: [&str; 6] =
    ["correlation-id", "correlation_id", "correlationid", "x-correlation-id", "x-request-id", "traceparent"];

/// Fields of JSON values that are looked at unless others are named.
pub const FIELDS: [&str; 4] = ["correlation_id", "correlationId", "trace_id", "traceId"];

/// <https://www.w3.org/TR/trace-context/#traceparent-header>: version, trace id, parent id and flags.
const TRACEPARENT: &str = "traceparent";

/// What to look for, and where.
pub struct Marks {
    id: String,
    headers: Vec<String>,
    /// Each a path of names.
    fields: Vec<Vec<String>>,
    finder: Finder<'static>,
    anywhere: bool,
}

impl Marks {
    /// `id` in these headers, and in these fields (`meta.id` is a field in an object); with `anywhere` in any part of
    /// the value.
    pub fn new(id: &str, headers: &[String], fields: &[String], anywhere: bool) -> Marks {
        let path = |field: &String| field.split('.').map(str::to_owned).collect();
        Marks {
            id: id.to_owned(),
            headers: headers.to_vec(),
            fields: fields.iter().map(path).collect(),
            finder: Finder::new(id).into_owned(),
            anywhere,
        }
    }

    /// Where the record carries the id: `header correlation-id`, `key`, `field meta.id` or `value`.
    pub fn find(&self, record: &ConsumerRecord) -> Option<String> {
        for header in &record.headers {
            let (Ok(name), Some(value)) = (str::from_utf8(&header.key), &header.value) else { continue };
            let is_looked_at = self.headers.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
            if is_looked_at && self.is_in_header(name, value) {
                return Some(format!("header {name}"));
            }
        }
        if record.key.as_deref() == Some(self.id.as_bytes()) {
            return Some("key".to_owned());
        }
        let value = record.value.as_deref()?;
        // Far cheaper than to read every value as JSON. What JSON has to escape is not found this way.
        self.finder.find(value)?;
        self.field(value).or_else(|| self.anywhere.then(|| "value".to_owned()))
    }

    fn is_in_header(&self, name: &str, value: &[u8]) -> bool {
        if value == self.id.as_bytes() {
            return true;
        }
        let is_traceparent = name.eq_ignore_ascii_case(TRACEPARENT);
        let trace_id = str::from_utf8(value).ok().and_then(|value| value.split('-').nth(1));
        is_traceparent && trace_id.is_some_and(|trace_id| trace_id.eq_ignore_ascii_case(&self.id))
    }

    fn field(&self, value: &[u8]) -> Option<String> {
        // Only an object has fields, and the first byte tells most other values apart.
        if self.fields.is_empty() || value.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let json: Value = serde_json::from_slice(value).ok()?;
        let path = self.fields.iter().find(|path| {
            let found = path.iter().try_fold(&json, |json, name| json.get(name));
            match found {
                Some(Value::String(text)) => *text == self.id,
                Some(Value::Number(number)) => number.to_string() == self.id,
                _ => false,
            }
        });
        path.map(|path| format!("field {}", path.join(".")))
    }
}

#[cfg(test)]
mod tests {
    use log_client::Header;

    use super::*;

    fn record(
        headers: &[(&'static str, &'static str)],
        key: &'static str,
        value: &'static str,
    ) -> ConsumerRecord {
        ConsumerRecord {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: Some(key.into()),
            value: Some(value.into()),
            headers: headers.iter().map(|&(name, value)| Header::new(name, Some(value))).collect(),
        }
    }

    fn found(anywhere: bool, record: &ConsumerRecord) -> Option<String> {
        let fields = ["id".to_owned(), "meta.trace".to_owned()];
        Marks::new("ab12", &HEADERS.map(str::to_owned), &fields, anywhere).find(record)
    }

    #[test]
    fn an_id_is_found_in_each_place() {
        let found = |record| found(false, &record);
        assert_eq!(
            found(record(&[("X-Correlation-Id", "ab12")], "", "")).unwrap(),
            "header X-Correlation-Id"
        );
        assert_eq!(found(record(&[("traceparent", "00-AB12-1-01")], "", "")).unwrap(), "header traceparent");
        assert_eq!(found(record(&[], "ab12", "")).unwrap(), "key");
        assert_eq!(found(record(&[], "", " {\"id\":\"ab12\"}")).unwrap(), "field id");
        assert_eq!(found(record(&[], "", "{\"meta\":{\"trace\":\"ab12\"}}")).unwrap(), "field meta.trace");
    }

    #[test]
    fn what_only_looks_like_it_is_not_found() {
        let found = |record| found(false, &record);
        assert_eq!(found(record(&[("other", "ab12"), ("correlation-id", "ab123")], "ab1", "ab12")), None);
        assert_eq!(found(record(&[("traceparent", "00-1-ab12-01")], "", "")), None);
        assert_eq!(found(record(&[], "", "{\"id\":\"ab123\",\"meta\":\"ab12\"}")), None);
        assert_eq!(found(record(&[], "", "{\"id\":[\"ab12\"]")), None);
    }

    #[test]
    fn anywhere_in_the_value_only_if_asked_for() {
        assert_eq!(found(true, &record(&[], "", "x ab12 y")).unwrap(), "value");
        assert_eq!(found(true, &record(&[], "", "x ab1 2")), None);
        let number = Marks::new("17", &[], &["n".to_owned()], false);
        assert_eq!(number.find(&record(&[], "", "{\"n\":17}")).unwrap(), "field n");
    }
}
