//! The record format from outside: drawn bytes, an independent implementation, damage and bombs.

mod compression;
mod format;
mod oracle;
mod validate;

use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression, Header, Record};
use proptest::prelude::*;

/// A record as a producer gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Input {
    fn new(timestamp: i64, key: Option<&str>, value: Option<&str>) -> Input {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Input { timestamp, key: key.map(bytes), value: value.map(bytes), headers: Vec::new() }
    }

    fn headers(&self) -> Vec<Header> {
        self.headers.iter().map(|(key, value)| Header::new(key.clone(), value.clone())).collect()
    }

    fn expected_at(&self, offset: i64) -> Record {
        Record {
            offset,
            timestamp: self.timestamp,
            key: self.key.clone().map(Bytes::from),
            value: self.value.clone().map(Bytes::from),
            headers: self.headers(),
        }
    }
}

fn fill(mut builder: BatchBuilder, inputs: &[Input]) -> BatchBuilder {
    for (index, input) in inputs.iter().enumerate() {
        let delta = builder
            .append(input.timestamp, input.key.as_deref(), input.value.as_deref(), &input.headers())
            .expect("small record");
        assert_eq!(delta as usize, index);
    }
    builder
}

fn build(compression: Compression, inputs: &[Input]) -> Bytes {
    fill(BatchBuilder::new(compression), inputs).build(0).expect("not empty")
}

fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..200))
}

prop_compose! {
    fn input()(
        timestamp in prop_oneof![Just(-1), 0..=4_000_000_000_000i64],
        key in some_bytes(),
        value in some_bytes(),
        headers in prop::collection::vec(("[a-c]{0,3}", some_bytes()), 0..4),
    ) -> Input {
        Input { timestamp, key, value, headers }
    }
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    prop::collection::vec(input(), 1..40)
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}
