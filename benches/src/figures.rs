//! Putting figures together: medians of rounds, percentiles of appends, tables in Markdown.

use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Whether a benchmark is to run once and small, for `cargo bench -- --test`.
pub fn is_smoke() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// A directory that goes with the benchmark: in `BENCH_DIR`, or on the disk that the build is on rather than a tmpfs
/// that /tmp may be.
pub fn directory() -> tempfile::TempDir {
    let parent = std::env::var_os("BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    tempfile::tempdir_in(parent).expect("a directory for the data")
}

/// The middle one of several rounds.
///
/// # Panics
/// Without a round.
pub fn median(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

/// How long single operations took, in nanoseconds to three digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Latencies(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("sound bounds"))
    }
}

impl Latencies {
    /// Counts one operation.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos() as u64);
    }

    /// Takes in the operations of another round.
    pub fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("the same bounds");
    }

    /// The time that this share of the operations did not exceed.
    pub fn at(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    /// p50, p99 and p99.9 as a table has them.
    pub fn cells(&self) -> [String; 3] {
        [0.5, 0.99, 0.999].map(|quantile| microseconds(self.at(quantile)))
    }
}

/// A time in microseconds, with as many digits as mean something.
pub fn microseconds(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        us if us < 10.0 => format!("{us:.2}"),
        us if us < 100.0 => format!("{us:.1}"),
        us => format!("{us:.0}"),
    }
}

/// Bytes moved in a time, in MiB a second.
pub fn mib_per_s(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / took.as_secs_f64()
}

/// Bytes as people say them: 100 B, 1 KiB, 64 KiB, 1 MiB.
pub fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes < 1 << 10 => format!("{bytes} B"),
        _ if bytes < 1 << 20 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// Prints one row of a table in Markdown.
pub fn row<S: AsRef<str>>(cells: impl IntoIterator<Item = S>) {
    let mut line = String::from("|");
    for cell in cells {
        line.push(' ');
        line.push_str(cell.as_ref());
        line.push_str(" |");
    }
    println!("{line}");
}

/// Prints the head of a table, whose first `left` columns are words and whose others are numbers.
pub fn head(left: usize, cells: &[&str]) {
    row(cells);
    row((0..cells.len()).map(|column| if column < left { "---" } else { "---:" }));
}
