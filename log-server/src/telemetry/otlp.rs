//! OpenTelemetry's MetricsData as far as Kafka's clients send it: numbers with attributes.
//!
//! ```text
//! MetricsData      1 ResourceMetrics*
//! ResourceMetrics  2 ScopeMetrics*
//! ScopeMetrics     2 Metric*
//! Metric           1 name │ 5 Gauge │ 7 Sum          histograms and summaries are passed over
//! Gauge, Sum       1 NumberDataPoint*
//! NumberDataPoint  4 double │ 6 sfixed64 │ 7 KeyValue*
//! KeyValue         1 key │ 2 AnyValue
//! AnyValue         1 string │ 2 bool │ 3 int64 │ 4 double
//! ```
//! Read in place, field by field: a generated decoder would build the whole message first, a hundred bytes of memory
//! for two on the wire, out of bytes that anybody may send.

/// Bytes of a name, a key or a value that are kept.
const TEXT_BYTES_MAX: usize = 256;

/// Attributes of a number that are kept.
const ATTRIBUTES_MAX: usize = 8;

/// A number with what it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The metric's name, as the client has it.
    pub name: String,
    /// What tells it from other numbers of the metric.
    pub attributes: Vec<(String, String)>,
    /// The number.
    pub value: f64,
}

/// The bytes are not MetricsData.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not OpenTelemetry's MetricsData")]
pub struct Malformed;

/// The first `series_max` numbers of a message; the rest is checked and left out.
///
/// # Errors
/// [`Malformed`].
pub fn decode(bytes: &[u8], series_max: usize) -> Result<Vec<Series>, Malformed> {
    let mut series = Vec::new();
    for resource in messages(bytes, 1) {
        for scope in messages(resource?, 2) {
            for metric in messages(scope?, 2) {
                decode_metric(metric?, series_max, &mut series)?;
            }
        }
    }
    Ok(series)
}

fn decode_metric(metric: &[u8], series_max: usize, series: &mut Vec<Series>) -> Result<(), Malformed> {
    let mut name = "";
    for field in Fields(metric) {
        if let (1, Value::Bytes(bytes)) = field? {
            name = text(bytes)?;
        }
    }
    for field in Fields(metric) {
        let (5 | 7, Value::Bytes(points)) = field? else { continue };
        for point in messages(points, 1) {
            let point = decode_point(name, point?)?;
            if series.len() < series_max {
                series.extend(point);
            }
        }
    }
    Ok(())
}

/// A number; `None` for a point that has none, which says that nothing was recorded.
fn decode_point(name: &str, point: &[u8]) -> Result<Option<Series>, Malformed> {
    let mut value = None;
    let mut attributes = Vec::new();
    for field in Fields(point) {
        match field? {
            (4, Value::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
            (6, Value::Fixed64(bits)) => value = Some(bits as i64 as f64),
            (7, Value::Bytes(attribute)) => {
                let attribute = decode_attribute(attribute)?;
                if attributes.len() < ATTRIBUTES_MAX {
                    attributes.extend(attribute);
                }
            }
            _ => {}
        }
    }
    Ok(value.map(|value| Series { name: kept(name), attributes, value }))
}

/// Key and value; `None` for a value that is no plain one.
fn decode_attribute(attribute: &[u8]) -> Result<Option<(String, String)>, Malformed> {
    let (mut key, mut value) = ("", None);
    for field in Fields(attribute) {
        match field? {
            (1, Value::Bytes(bytes)) => key = text(bytes)?,
            (2, Value::Bytes(any)) => {
                for field in Fields(any) {
                    value = match field? {
                        (1, Value::Bytes(bytes)) => Some(kept(text(bytes)?)),
                        (2, Value::Varint(flag)) => Some((flag != 0).to_string()),
                        (3, Value::Varint(number)) => Some((number as i64).to_string()),
                        (4, Value::Fixed64(bits)) => Some(f64::from_bits(bits).to_string()),
                        _ => value,
                    };
                }
            }
            _ => {}
        }
    }
    Ok(value.map(|value| (kept(key), value)))
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

/// The messages in the fields of that number.
fn messages(bytes: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields(bytes).filter_map(move |field| match field {
        Ok((found, Value::Bytes(message))) if found == number => Some(Ok(message)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// A field's value by its wire type.
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message: number and value. Ends after the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Malformed);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            // Groups were given up before OpenTelemetry began.
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A field of bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
        out
    }

    fn point(value: f64, attributes: &[(&str, &str)]) -> Vec<u8> {
        let mut point = vec![4 << 3 | 1];
        point.extend_from_slice(&value.to_bits().to_le_bytes());
        for (key, value) in attributes {
            let any = field(1, value.as_bytes());
            point.extend(field(7, &[field(1, key.as_bytes()), field(2, &any)].concat()));
        }
        point
    }

    /// A Metric with one number.
    pub(crate) fn gauge(name: &str, value: f64, attributes: &[(&str, &str)]) -> Vec<u8> {
        let points = field(1, &point(value, attributes));
        [field(1, name.as_bytes()), field(5, &points)].concat()
    }

    /// MetricsData of these metrics.
    pub(crate) fn metrics_data(metrics: &[Vec<u8>]) -> Vec<u8> {
        let metrics: Vec<u8> = metrics.iter().flat_map(|metric| field(2, metric)).collect();
        field(1, &[field(1, b""), field(2, &metrics)].concat())
    }

    #[test]
    fn numbers_come_with_their_names_and_attributes() {
        let sum = {
            // Attributes and the sum's own fields before the number, an int, and one point without a number.
            let mut point = field(7, &[field(1, b"n"), field(2, &[3 << 3, 5])].concat());
            point.push(6 << 3 | 1);
            point.extend_from_slice(&(-9_i64).to_le_bytes());
            let points = [vec![2 << 3, 2, 3 << 3, 1], field(1, &point), field(1, &[])].concat();
            [field(7, &points), field(1, b"sum")].concat()
        };
        let data = metrics_data(&[gauge("g", 2.5, &[("k", "v")]), sum]);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [
            Series { name: "g".to_owned(), attributes: vec![pair("k", "v")], value: 2.5 },
            Series { name: "sum".to_owned(), attributes: vec![pair("n", "5")], value: -9.0 },
        ];
        assert_eq!(decode(&data, 10), Ok(expected.to_vec()));
        assert_eq!(decode(&data, 1), Ok(expected[..1].to_vec()));
        assert_eq!(decode(&[], 10), Ok(Vec::new()));
    }

    #[test]
    fn what_is_cut_or_is_no_text_is_malformed() {
        let data = metrics_data(&[gauge("name", 1.0, &[("k", "v")])]);
        for length in 1..data.len() {
            assert_eq!(decode(&data[..length], 10), Err(Malformed), "cut to {length}");
        }
        assert_eq!(decode(&metrics_data(&[field(1, b"\xff")]), 10), Err(Malformed));
        assert_eq!(decode(&[0x0b], 10), Err(Malformed), "a group");
        assert_eq!(decode(&[0xff; 20], 10), Err(Malformed), "a number without an end");
    }

    #[test]
    fn random_bytes_are_an_error_or_bounded() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let data = metrics_data(&[gauge("name", 1.0, &[("k", "v"), ("l", "w")]), gauge("other", 2.0, &[])]);
        for _ in 0..20_000 {
            let mut damaged = data.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..damaged.len());
                damaged[at] = rng.u8(..);
            }
            if let Ok(series) = decode(&damaged, 5) {
                assert!(series.len() <= 5);
            }
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = "ä".repeat(TEXT_BYTES_MAX);
        let series = decode(&metrics_data(&[gauge(&name, 1.0, &[])]), 1).unwrap();
        assert_eq!(series[0].name, "ä".repeat(TEXT_BYTES_MAX / 2));
    }
}
