//! The memory that the broker has, or will have: how much, whether it was killed for it, and the kernel's huge pages.

use std::fs;
use std::path::PathBuf;

use super::check::Check;
use crate::human;

/// Below it the broker's own memory leaves the page cache, which reads are served from, next to nothing.
const TOTAL_BYTES_MIN: u64 = 1 << 30;

/// Below this share of the total, whatever is asked for next has to be taken from somebody.
const AVAILABLE_SHARE: f64 = 0.10;

/// Swapped out beyond this, what is touched again is waited for.
const SWAPPED_SHARE: f64 = 0.05;

/// All of them.
pub fn checks() -> Vec<Check> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of_group = |file: &str| fs::read_to_string(control_group()?.join(file)).ok();
    let limit = of_group("memory.max").and_then(|text| text.trim().parse().ok());
    let setting = |name: &str| {
        let text = fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{name}"));
        text.ok().as_deref().and_then(chosen).map(str::to_owned)
    };
    let mut checks = vec![
        memory(&meminfo, limit),
        swap(&meminfo),
        huge_pages(setting("enabled").as_deref(), setting("defrag").as_deref()),
    ];
    checks.extend(of_group("memory.events").as_deref().and_then(kills));
    checks
}

/// The control group of this process, of the second kind; `None` where there is none.
fn control_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(PathBuf::from("/sys/fs/cgroup").join(path.trim_start_matches('/')))
}

/// A line of /proc/meminfo, in bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

fn memory(meminfo: &str, limit: Option<u64>) -> Check {
    const NAME: &str = "memory";
    let (total, available) = (field(meminfo, "MemTotal"), field(meminfo, "MemAvailable"));
    let Some((total, available)) = total.zip(available) else {
        return Check::skipped(NAME, "/proc/meminfo does not tell it");
    };
    let usable = limit.map_or(total, |limit| limit.min(total));
    let mut found = format!("{} of {} available", human::bytes(available), human::bytes(total));
    if usable < total {
        found += &format!(", of which this control group may use {}", human::bytes(usable));
    }
    if usable < TOTAL_BYTES_MIN {
        let advice = "give it 1 GiB or more (MemoryMax= in the unit, --memory for a container): what the page cache \
                      does not hold is read from the disk";
        Check::warn(NAME, found, advice)
    } else if (available as f64) < total as f64 * AVAILABLE_SHARE {
        let advice = "find out who uses it (ps, sorted by memory), or add memory";
        Check::warn(NAME, found, advice)
    } else {
        Check::ok(NAME, found)
    }
}

fn swap(meminfo: &str) -> Check {
    const NAME: &str = "swap";
    let fields = ["SwapTotal", "SwapFree", "MemTotal"].map(|name| field(meminfo, name));
    let [Some(total), Some(free), Some(memory)] = fields else {
        return Check::skipped(NAME, "/proc/meminfo does not tell it");
    };
    let used = total.saturating_sub(free);
    if used as f64 > memory as f64 * SWAPPED_SHARE {
        let advice = "sysctl -w vm.swappiness=1, and the same in /etc/sysctl.d/: the page cache can be given up \
                      instead, and costs nothing to write out";
        return Check::warn(NAME, format!("{} are swapped out", human::bytes(used)), advice);
    }
    let found = if total == 0 { "none".to_owned() } else { format!("{} in use", human::bytes(used)) };
    Check::ok(NAME, found)
}

/// The word in brackets, which is how the kernel shows a choice.
fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

fn huge_pages(enabled: Option<&str>, defrag: Option<&str>) -> Check {
    const NAME: &str = "huge pages";
    match (enabled, defrag) {
        (Some("always"), Some("always")) => Check::warn(
            NAME,
            "transparent huge pages are always made, and whoever needs one waits for it",
            "echo madvise >/sys/kernel/mm/transparent_hugepage/defrag, at every start of the machine",
        ),
        (Some(enabled), _) => Check::ok(NAME, format!("transparent huge pages: {enabled}")),
        (None, _) => Check::skipped(NAME, "the kernel does not tell"),
    }
}

/// Of a control group in which processes were killed for memory.
fn kills(events: &str) -> Option<Check> {
    let kills: u64 = events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()?;
    (kills > 0).then(|| {
        Check::warn(
            "memory kills",
            format!("the kernel has killed {kills} processes of this control group because memory ran out"),
            "raise its limit (MemoryMax= in the unit, --memory for a container)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn meminfo(available_mib: u64, swap_used_mib: u64) -> String {
        format!(
            "MemTotal:  {} kB\nMemFree: 1 kB\nMemAvailable:  {} kB\nSwapTotal: {} kB\nSwapFree: {} kB\n",
            8 << 20,
            available_mib << 10,
            2 << 20,
            (2 << 20) - (swap_used_mib << 10)
        )
    }

    #[test]
    fn memory_is_judged_by_the_least_of_machine_and_group() {
        assert_eq!(memory(&meminfo(4096, 0), None).status, Status::Ok);
        assert_eq!(memory(&meminfo(4096, 0), Some(2 << 30)).status, Status::Ok);
        let small = memory(&meminfo(4096, 0), Some(256 << 20));
        assert!(small.status == Status::Warn && small.found.ends_with("may use 256.0 MiB"), "{small:?}");
        assert_eq!(memory(&meminfo(300, 0), None).status, Status::Warn);
        assert_eq!(memory("", None).status, Status::Skipped);
        assert_eq!(
            [0, 100, 1000].map(|used| swap(&meminfo(4096, used)).status == Status::Warn),
            [false, false, true]
        );
    }

    #[test]
    fn what_the_kernel_chose_is_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("always\n"), None);
        assert_eq!(huge_pages(Some("always"), Some("always")).status, Status::Warn);
        assert_eq!(huge_pages(Some("always"), Some("madvise")).status, Status::Ok);
        assert_eq!(huge_pages(None, None).status, Status::Skipped);
        assert!(kills("low 0\noom 0\noom_kill 0\n").is_none());
        assert!(kills("oom 3\noom_kill 2\n").unwrap().found.contains("killed 2"));
    }
}
