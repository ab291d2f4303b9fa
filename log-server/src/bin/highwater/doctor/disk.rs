//! The disk below the data directory: what kind of file system it is, how it is mounted, what is free, and how long a
//! sync takes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::check::Check;
use crate::human;

/// How many syncs are timed, and how long that may take in all.
const SYNCS: usize = 64;
const SYNCS_MAX: Duration = Duration::from_secs(5);

/// What is synced at a time, in bytes: a small batch.
const SYNC_BYTES: usize = 4096;

/// A producer that waits for a sync of this length notices.
const SLOW: Duration = Duration::from_millis(50);

/// No disk is as fast: who answers so soon has not written anything down.
const TOO_FAST: Duration = Duration::from_micros(5);

/// Below these shares of the file system the broker warns, and refuses produce.
const SOFT_SHARE: f64 = 0.10;
const HARD_SHARE: f64 = 0.05;

/// Files that a partition has, by and large, with a few segments: below so many free ones a thousand more do not fit.
const FREE_FILES_MIN: u64 = 16_000;

/// All of them.
pub fn checks(data_dir: &Path) -> Vec<Check> {
    let (dir, mut checks) = match existing(data_dir) {
        Ok((dir, is_itself)) => {
            let shown = data_dir.display();
            let found = if is_itself { format!("{shown}") } else { format!("{shown} will be created") };
            (dir, vec![Check::ok("data directory", found)])
        }
        Err(error) => {
            let advice =
                "say where it is with --data-dir DIR, and let the user that runs the broker enter it";
            return vec![Check::fail("data directory", error, advice)];
        }
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match fs::metadata(&dir).ok().and_then(|meta| find_mount(&mounts, meta.dev())) {
        Some(mount) => {
            checks.push(file_system(&mount.kind));
            checks.push(options(&mount.options));
        }
        None => checks.push(Check::skipped("file system", "/proc/self/mountinfo does not name it")),
    }
    checks.extend(space(&dir));
    checks.push(sync_time(&dir));
    checks
}

/// The directory, or the nearest one above it that is there, and whether it is the one that was asked for.
fn existing(data_dir: &Path) -> Result<(PathBuf, bool), String> {
    let absolute =
        std::path::absolute(data_dir).map_err(|error| format!("{}: {error}", data_dir.display()))?;
    for (steps, dir) in absolute.ancestors().enumerate() {
        match fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => return Ok((dir.to_owned(), steps == 0)),
            Ok(_) => return Err(format!("{} is no directory", dir.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", dir.display())),
        }
    }
    Err(format!("{} is nowhere", data_dir.display()))
}

struct Mount {
    kind: String,
    /// Of the mount and of the file system.
    options: Vec<String>,
}

/// The mount of a device, in the words of proc_pid_mountinfo(5).
fn find_mount(mountinfo: &str, device: u64) -> Option<Mount> {
    let id = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        if mount.get(2) != Some(&id.as_str()) {
            return None;
        }
        let file_system: Vec<&str> = file_system.split(' ').collect();
        let options = [*mount.get(5)?, *file_system.get(2)?];
        let options = options.iter().flat_map(|options| options.split(',')).map(str::to_owned).collect();
        Some(Mount { kind: (*file_system.first()?).to_owned(), options })
    })
}

fn file_system(kind: &str) -> Check {
    const NAME: &str = "file system";
    match kind {
        "ext4" | "xfs" => Check::ok(NAME, kind),
        "tmpfs" | "ramfs" => Check::fail(
            NAME,
            format!("{kind} is memory: what is acknowledged does not survive a restart of the machine"),
            "put the data directory on a disk",
        ),
        "overlay" | "aufs" => Check::warn(
            NAME,
            format!("{kind}, a container's own layer, goes with the container"),
            "mount a volume for the data directory",
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "virtiofs" | "ceph" | "glusterfs" => Check::warn(
            NAME,
            format!("{kind} is elsewhere: a sync promises what the server promises, and maps may fail"),
            "put the data directory on a local disk with ext4 or xfs",
        ),
        other if other.starts_with("fuse") => Check::warn(
            NAME,
            format!("{other}: whether a sync reaches the disk is up to a program"),
            "put the data directory on ext4 or xfs",
        ),
        other => Check::warn(
            NAME,
            format!("{other}, which Highwater is not tested on"),
            "ext4 and xfs are what it is tested on",
        ),
    }
}

fn options(options: &[String]) -> Check {
    const NAME: &str = "mount options";
    let has = |wanted: &str| options.iter().any(|option| option == wanted);
    if let Some(option) = ["nobarrier", "barrier=0"].into_iter().find(|option| has(option)) {
        return Check::fail(
            NAME,
            format!("{option}: a power cut takes what the disk's cache held, synced or not"),
            format!("mount without {option}"),
        );
    }
    if has("ro") {
        return Check::fail(
            NAME,
            "the file system is mounted for reading only",
            "remount it for writing; the kernel's log says whether errors are the reason",
        );
    }
    Check::ok(NAME, "syncs reach the disk")
}

fn space(dir: &Path) -> Vec<Check> {
    match rustix::fs::statvfs(dir) {
        Ok(stat) => vec![
            space_of(stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize),
            free_files(stat.f_favail, stat.f_files),
        ],
        Err(error) => vec![Check::skipped("free space", error.to_string())],
    }
}

fn free_files(free: u64, total: u64) -> Check {
    const NAME: &str = "free files";
    match (free, total) {
        // btrfs and others make inodes as they go.
        (_, 0) => Check::ok(NAME, "the file system sets no limit"),
        (FREE_FILES_MIN.., _) => {
            Check::ok(NAME, format!("{} more can be created", human::count(free as i64)))
        }
        _ => Check::warn(
            NAME,
            format!("only {} more can be created", human::count(free as i64)),
            "a segment has three files: remove files that others have left, or use a file system made with more inodes \
             (mkfs.ext4 -i 16384)",
        ),
    }
}

fn space_of(free: u64, total: u64) -> Check {
    const NAME: &str = "free space";
    let share = free as f64 / total.max(1) as f64;
    let found = format!("{} of {} are free, {:.0} %", human::bytes(free), human::bytes(total), share * 100.0);
    if share < HARD_SHARE {
        let advice = "make room: unless disk_free_hard_bytes says less, the broker refuses produce now";
        Check::fail(NAME, found, advice)
    } else if share < SOFT_SHARE {
        let advice =
            "make room, or lower retention.ms and retention.bytes of large topics: at 5 % produce is refused";
        Check::warn(NAME, found, advice)
    } else {
        Check::ok(NAME, found)
    }
}

fn sync_time(dir: &Path) -> Check {
    const NAME: &str = "sync";
    match time_syncs(dir) {
        Ok(times) => sync_of(times),
        Err(error) => Check::fail(
            NAME,
            format!("cannot write in {}: {error}", dir.display()),
            "let the user that runs the broker write there",
        ),
    }
}

/// Times syncs of one file that is written to, as the log is. The file has no name that anybody could find.
fn time_syncs(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join(format!(".highwater-doctor-{}", std::process::id()));
    let file = File::options().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    // Blocks first, so that the syncs are of data alone.
    file.write_all_at(&vec![0; SYNC_BYTES * SYNCS], 0)?;
    file.sync_all()?;
    let started = Instant::now();
    let mut times = Vec::with_capacity(SYNCS);
    while times.len() < SYNCS && started.elapsed() < SYNCS_MAX {
        file.write_all_at(&[0xa5; SYNC_BYTES], (times.len() * SYNC_BYTES) as u64)?;
        let before = Instant::now();
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(times)
}

fn sync_of(mut times: Vec<Duration>) -> Check {
    const NAME: &str = "sync";
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let (median, slowest) = (at(50), times.last().copied().unwrap_or_default());
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let found = format!(
        "{} syncs of {}: median {:.2} ms, slowest {:.2} ms",
        times.len(),
        human::bytes(SYNC_BYTES as u64),
        ms(median),
        ms(slowest)
    );
    if median < TOO_FAST {
        let advice = "check what is below: memory, or a disk that acknowledges what it has not written";
        Check::warn(NAME, found, advice)
    } else if median > SLOW {
        let advice = "every acknowledgement waits for a sync: use a disk with a lower write latency";
        Check::warn(NAME, found, advice)
    } else {
        Check::ok(NAME, found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,barrier=0
30 22 0:26 / /tmp rw,nosuid - tmpfs tmpfs rw,size=100k
31 22 0:40 /a\\040b /mnt/a\\040b ro master:5 - xfs /dev/sdb rw,noquota";

    #[test]
    fn a_mount_is_found_by_its_device() {
        let mount = |major, minor| find_mount(MOUNTS, rustix::fs::makedev(major, minor));
        let root = mount(254, 0).unwrap();
        assert_eq!((&*root.kind, options(&root.options).status), ("ext4", Status::Fail));
        assert_eq!(file_system(&mount(0, 26).unwrap().kind).status, Status::Fail);
        let read_only = mount(0, 40).unwrap();
        assert_eq!(file_system(&read_only.kind).status, Status::Ok);
        assert!(options(&read_only.options).found.contains("reading only"));
        assert!(mount(8, 1).is_none());
        assert_eq!(options(&["rw".to_owned()]).status, Status::Ok);
        assert_eq!(
            ["overlay", "nfs4", "fuse.sshfs", "btrfs"].map(|kind| file_system(kind).status),
            [Status::Warn; 4]
        );
    }

    #[test]
    fn space_and_syncs_are_judged() {
        assert_eq!(
            [4, 9, 50].map(|free| space_of(free, 100).status),
            [Status::Fail, Status::Warn, Status::Ok]
        );
        assert_eq!(
            [(0, 0), (10, 1 << 20), (1 << 19, 1 << 20)].map(|(free, total)| free_files(free, total).status),
            [Status::Ok, Status::Warn, Status::Ok]
        );
        let sync = |micros: u64| sync_of(vec![Duration::from_micros(micros); 10]).status;
        assert_eq!([1, 500, 80_000].map(sync), [Status::Warn, Status::Ok, Status::Warn]);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_the_one_above() {
        let dir = tempfile::tempdir().unwrap();
        let (found, is_itself) = existing(&dir.path().join("a/b")).unwrap();
        assert_eq!((found.as_path(), is_itself), (dir.path(), false));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(existing(&file.join("x")).is_err());
        assert!(time_syncs(dir.path()).is_ok_and(|times| !times.is_empty()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
