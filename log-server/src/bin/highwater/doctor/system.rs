//! Limits and clock of the system that the broker runs on, or will run on.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, getrlimit};

use super::check::Check;

/// Open files below which connections and partitions run out on an ordinary day.
const FILES_MIN: u64 = 16_384;

/// Maps below which sealed segments are closed and opened again all the time.
const MAPS_MIN: u64 = 65_530;

/// Between two readings a clock that is disciplined moves as the monotonic one does, to the millisecond.
const STEP_MAX: Duration = Duration::from_millis(50);

/// How long the clocks are watched.
const CLOCK_WATCH: Duration = Duration::from_millis(300);

/// All of them.
pub fn checks() -> Vec<Check> {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let maps = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    vec![
        open_files(hard),
        max_map_count(maps.and_then(|text| text.trim().parse().ok())),
        clock_steps(),
        clock_sync(timedatectl().as_deref()),
    ]
}

fn open_files(hard: u64) -> Check {
    const NAME: &str = "open files";
    let found = format!("{hard} may be open; the broker raises its limit up to that");
    match hard >= FILES_MIN {
        true => Check::ok(NAME, found),
        false => Check::warn(
            NAME,
            found,
            "raise the hard limit to 65536 or more: LimitNOFILE= in the systemd unit, nofile in \
             /etc/security/limits.conf, or --ulimit nofile=65536:65536 for a container",
        ),
    }
}

fn max_map_count(maps: Option<u64>) -> Check {
    const NAME: &str = "memory maps";
    match maps {
        None => Check::skipped(NAME, "/proc/sys/vm/max_map_count cannot be read"),
        Some(maps) if maps >= MAPS_MIN => Check::ok(NAME, format!("vm.max_map_count is {maps}")),
        Some(maps) => Check::warn(
            NAME,
            format!("vm.max_map_count is {maps}"),
            "sysctl -w vm.max_map_count=262144, and the same in /etc/sysctl.d/",
        ),
    }
}

/// Watches the wall clock beside the monotonic one for a moment.
fn clock_steps() -> Check {
    let (wall, monotonic) = (SystemTime::now(), Instant::now());
    std::thread::sleep(CLOCK_WATCH);
    let passed = monotonic.elapsed();
    clock_step(SystemTime::now().duration_since(wall).ok(), passed)
}

fn clock_step(wall: Option<Duration>, monotonic: Duration) -> Check {
    const NAME: &str = "clock steps";
    const ADVICE: &str = "find out who sets the clock: one time service should slew it, not step it";
    match wall {
        None => Check::fail(NAME, "the clock went back while it was watched", ADVICE),
        Some(wall) if wall.abs_diff(monotonic) > STEP_MAX => Check::fail(
            NAME,
            format!("the clock moved {} ms in {} ms", wall.as_millis(), monotonic.as_millis()),
            ADVICE,
        ),
        Some(_) => Check::ok(NAME, "the clock moves as time does"),
    }
}

/// What systemd knows of the clock; `None` where there is no systemd.
fn timedatectl() -> Option<String> {
    let output =
        Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn clock_sync(said: Option<&str>) -> Check {
    const NAME: &str = "clock synchronization";
    match said {
        Some("yes") => Check::ok(NAME, "the clock is synchronized"),
        Some("no") => Check::warn(
            NAME,
            "the clock is not synchronized",
            "run a time service (chrony, systemd-timesyncd): retention and lag in seconds go by times",
        ),
        _ => Check::skipped(NAME, "timedatectl does not say"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn limits_are_judged() {
        assert_eq!(open_files(1024).status, Status::Warn);
        assert_eq!(open_files(65_536).status, Status::Ok);
        assert_eq!(max_map_count(Some(65_530)).status, Status::Ok);
        assert!(max_map_count(Some(1000)).advice.unwrap().contains("sysctl"));
        assert_eq!(max_map_count(None).status, Status::Skipped);
    }

    #[test]
    fn a_clock_that_jumps_is_seen() {
        let (watched, hour) = (Duration::from_millis(300), Duration::from_secs(3600));
        assert_eq!(clock_step(None, watched).status, Status::Fail);
        assert_eq!(clock_step(Some(hour), watched).status, Status::Fail);
        assert_eq!(clock_step(Some(watched), watched).status, Status::Ok);
        assert_eq!(clock_sync(Some("no")).status, Status::Warn);
        assert_eq!(clock_sync(None).status, Status::Skipped);
    }
}
