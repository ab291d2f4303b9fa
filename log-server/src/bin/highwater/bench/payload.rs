//! The values that are sent: a stamp that says which run they are of and when they were due, then filling.
//!
//! ```text
//! | run: 8 bytes | due: 8 bytes, ns since the run's clock began | filling |
//! ```

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;

/// Bytes of a stamp, and so of the smallest value.
pub const STAMP_BYTES: usize = 16;

/// Filling is cut from a stretch so much longer than one value, so that neighbours in a batch differ.
const POOL_BYTES: usize = 1 << 20;

/// What values are filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fill {
    /// Bytes that do not compress
    Random,
    /// Words, which compress about as logs do
    Text,
}

/// Makes the values of one producer.
pub struct Payloads {
    run: u64,
    record_bytes: usize,
    pool: Bytes,
    at: usize,
}

impl Payloads {
    /// Values of `record_bytes` for the run. `producer` sets off its values from those of others.
    pub fn new(run: u64, record_bytes: usize, fill: Fill, producer: usize) -> Payloads {
        let mut random = fastrand::Rng::with_seed(run.wrapping_add(producer as u64));
        let pool_bytes = POOL_BYTES + record_bytes;
        let mut pool = Vec::with_capacity(pool_bytes);
        while pool.len() < pool_bytes {
            match fill {
                Fill::Random => pool.extend_from_slice(&random.u64(..).to_le_bytes()),
                Fill::Text => {
                    pool.extend_from_slice(WORDS[random.usize(..WORDS.len())].as_bytes());
                    pool.push(b' ');
                }
            }
        }
        Payloads { run, record_bytes: record_bytes.max(STAMP_BYTES), pool: pool.into(), at: 0 }
    }

    /// The next value, which was due then.
    pub fn next(&mut self, due: Duration) -> Bytes {
        let filling = self.record_bytes - STAMP_BYTES;
        let mut value = BytesMut::with_capacity(self.record_bytes);
        value.put_u64(self.run);
        value.put_u64(u64::try_from(due.as_nanos()).unwrap_or(u64::MAX));
        value.extend_from_slice(&self.pool[self.at..self.at + filling]);
        self.at = (self.at + filling) % POOL_BYTES;
        value.freeze()
    }
}

/// When a value of that run was due; `None` if it is none.
pub fn due(run: u64, value: &[u8]) -> Option<Duration> {
    let (front, rest) = value.split_first_chunk::<8>()?;
    let due = rest.first_chunk::<8>()?;
    (u64::from_be_bytes(*front) == run).then(|| Duration::from_nanos(u64::from_be_bytes(*due)))
}

const WORDS: [&str; 32] = [
    "level=info",
    "level=warn",
    "level=debug",
    "accepted",
    "connection",
    "from",
    "client",
    "request",
    "answered",
    "status=200",
    "status=404",
    "in",
    "12 ms",
    "40 ms",
    "order",
    "paid",
    "shipped",
    "customer",
    "user=1042",
    "user=77",
    "path=/api/orders",
    "path=/api/users",
    "method=GET",
    "method=POST",
    "retry",
    "timeout",
    "cache",
    "hit",
    "miss",
    "queue",
    "length",
    "done",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_by_its_run_alone() {
        for size in [STAMP_BYTES, 100, 3 << 20] {
            for fill in [Fill::Random, Fill::Text] {
                let mut payloads = Payloads::new(7, size, fill, 1);
                let due_at = Duration::from_micros(1_234_567);
                let values = [payloads.next(due_at), payloads.next(due_at)];
                for value in &values {
                    assert_eq!(value.len(), size);
                    assert_eq!(due(7, value), Some(due_at));
                    assert_eq!(due(8, value), None);
                }
            }
        }
        assert_eq!(due(7, b"short"), None);
        assert_eq!(due(7, &7u64.to_be_bytes()), None);
    }
}
