//! What it costs a request to be counted: its time, the four phases of it, and its bytes.
//!
//!     cargo bench -p benches --bench metrics
//!
//! Alone, and while another thread counts requests of the same API, so that both want the same cache lines. The twin
//! does the same with the histogram of Prometheus' client crate, which takes a lock for each value.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use log_core::wire::ApiKey;
use log_server::metrics::{Metrics, Phase};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

const PHASES: [Phase; 4] = [Phase::Handle, Phase::Queue, Phase::Wait, Phase::Send];

/// What a produce in a quiet broker looks like.
const TOOK: Duration = Duration::from_micros(350);

struct Twin {
    requests: Counter,
    bytes: [Counter; 2],
    histograms: Vec<Histogram>,
}

impl Twin {
    fn new() -> Twin {
        let histograms = (0..5).map(|_| Histogram::new(exponential_buckets(0.000_05, 2.0, 18)));
        Twin { requests: Counter::default(), bytes: Default::default(), histograms: histograms.collect() }
    }

    fn count(&self) {
        self.requests.inc();
        self.bytes.iter().for_each(|bytes| _ = bytes.inc_by(black_box(1024)));
        self.histograms.iter().for_each(|histogram| histogram.observe(black_box(TOOK).as_secs_f64()));
    }
}

fn count(metrics: &Metrics) {
    metrics.received_bytes.inc_by(black_box(1024));
    metrics.sent_bytes.inc_by(black_box(1024));
    metrics.requests.answered(ApiKey::Produce, black_box(TOOK));
    for phase in PHASES {
        metrics.requests.spent(ApiKey::Produce, phase, black_box(TOOK));
    }
}

fn requests(c: &mut Criterion) {
    let (metrics, twin) = (Metrics::new(), Twin::new());
    c.bench_function("request counted", |b| b.iter(|| count(&metrics)));
    c.bench_function("request counted, twin", |b| b.iter(|| twin.count()));
    beside(
        || count(&metrics),
        || c.bench_function("request counted beside another", |b| b.iter(|| count(&metrics))),
    );
    beside(
        || twin.count(),
        || c.bench_function("request counted beside another, twin", |b| b.iter(|| twin.count())),
    );
    c.bench_function("scrape of the registry", |b| b.iter(|| black_box(metrics.encode())));
}

/// Does `work` while another thread counts without a pause.
fn beside<T>(count: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Relaxed: that the other one ends some iterations later is no harm.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                count();
            }
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

criterion_group!(benches, requests);
criterion_main!(benches);
