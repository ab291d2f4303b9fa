//! What the system says of this process, under the names that Prometheus' own clients have for it.
//!
//! Read from `/proc` when somebody scrapes, so between two scrapes it costs nothing. What the system does not tell is
//! left out.

use std::fmt;
use std::fs;
use std::sync::LazyLock;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};

use crate::limits;

/// Clock ticks a second in which `/proc` counts CPU time: a constant of Linux's interface, whatever the kernel's own
/// tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of this process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All pages in memory.
    pub resident_bytes: u64,
    /// Those of them that are the process's own: the heap and stacks.
    pub own_bytes: u64,
    /// Those of them that belong to mapped files: the page cache of the logs, which the system takes back when it
    /// needs it, and the binary.
    pub mapped_bytes: u64,
    /// Everything that is mapped, in memory or not.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
}

impl Memory {
    /// As of now; `None` where there is no `/proc`.
    pub fn now() -> Option<Memory> {
        Some(Memory::parse(&fs::read_to_string("/proc/self/status").ok()?))
    }

    /// Out of the lines of `/proc/self/status`; what is not there is 0.
    fn parse(status: &str) -> Memory {
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let kib = |name| number(name) << 10;
        Memory {
            resident_bytes: kib("VmRSS"),
            own_bytes: kib("RssAnon"),
            mapped_bytes: kib("RssFile") + kib("RssShmem"),
            virtual_bytes: kib("VmSize"),
            threads: number("Threads"),
        }
    }
}

/// CPU time that the process has taken, user and system, in seconds.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let ticks = |index| after_name(stat)?.nth(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// When the process was started, in seconds since the epoch.
fn start_seconds() -> Option<f64> {
    static START: LazyLock<Option<f64>> = LazyLock::new(|| {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let since_boot = after_name(&stat)?.nth(19)?.parse::<f64>().ok()? / TICKS_PER_SECOND;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
        Some(boot + since_boot)
    });
    *START
}

/// The fields of `/proc/self/stat` behind the name, which may hold spaces and brackets itself: from the third on.
fn after_name(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

/// Shows it.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let memory = Memory::now();
        let of = |bytes: fn(&Memory) -> u64| memory.as_ref().map(|memory| bytes(memory) as f64);
        let open_files_max = getrlimit(Resource::Nofile).current;
        gauge("process_start_time_seconds", "When the process was started.", start_seconds())?;
        gauge("process_resident_memory_bytes", "Memory in use.", of(|memory| memory.resident_bytes))?;
        gauge("process_virtual_memory_bytes", "Memory mapped.", of(|memory| memory.virtual_bytes))?;
        gauge("process_threads", "Threads.", of(|memory| memory.threads))?;
        gauge("process_open_fds", "Open files and sockets.", limits::open_files().map(|open| open as f64))?;
        gauge("process_max_fds", "Open files and sockets allowed.", open_files_max.map(|max| max as f64))?;
        gauge(
            "highwater_memory_own_bytes",
            "Memory in use by the process alone: heap and stacks.",
            of(|memory| memory.own_bytes),
        )?;
        gauge(
            "highwater_memory_mapped_bytes",
            "Memory in use by mapped files: the logs' page cache, which the system can take back.",
            of(|memory| memory.mapped_bytes),
        )?;
        let stat = fs::read_to_string("/proc/self/stat").ok();
        if let Some(seconds) = stat.as_deref().and_then(cpu_seconds) {
            let counter = ConstCounter::new(seconds);
            let help = "CPU time taken, user and system.";
            let name = "process_cpu_seconds";
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process_is_read_in_bytes() {
        let status = "Name:\thigh VmRSS: 1\nVmSize:\t  900 kB\nVmRSS:\t  300 kB\nRssAnon:\t 100 kB\nRssFile:\t \
                      150 kB\nRssShmem:\t 50 kB\nThreads:\t9\n";
        let memory = Memory::parse(status);
        assert_eq!((memory.resident_bytes, memory.own_bytes), (300 << 10, 100 << 10));
        assert_eq!((memory.mapped_bytes, memory.virtual_bytes, memory.threads), (200 << 10, 900 << 10, 9));
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194304 10 0 0 0 250 50 0 0 20 0 9 0 777 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(after_name(stat).unwrap().nth(19), Some("777"));
    }

    #[test]
    fn this_process_has_a_start_and_memory() {
        let now = crate::clock::now_ms() as f64 / 1000.0;
        assert!(start_seconds().is_some_and(|start| start > 0.0 && start < now + 60.0));
        assert!(Memory::now().is_some_and(|memory| memory.resident_bytes >= memory.own_bytes));
    }
}
