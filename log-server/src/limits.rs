//! What the system lets this process have, open files and memory maps, and how many partitions fit into that.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a partition keeps open: the segment that is appended to, and the checkpoint.
const FILES_PER_PARTITION: u64 = 2;
/// Open files that are left for connections, sealed segments that are read and everything else, where the limit
/// allows it; a quarter of them where it does not.
const FILES_RESERVED: u64 = 1024;
/// What Linux allows unless it is told otherwise, for where it does not say.
const MAPS_DEFAULT: u64 = 65_530;

/// The limits of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files and sockets that may be open at a time.
    pub open_files: u64,
    /// Ranges of memory that may be mapped at a time.
    pub maps: u64,
}

/// How many partitions there may be, and what it is that does not allow more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionsMax {
    /// Of all topics together.
    pub count: usize,
    /// What to change to have more, for a message.
    pub because: &'static str,
}

impl Limits {
    /// Raises the limit of open files as far as this process may, which is up to its hard limit, and answers with
    /// what the system allows.
    pub fn raise() -> Limits {
        let Rlimit { maximum: hard, .. } = getrlimit(Resource::Nofile);
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
        let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let maps = fs::read_to_string("/proc/sys/vm/max_map_count");
        let maps = maps.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(MAPS_DEFAULT);
        Limits { open_files, maps }
    }

    /// Segments that may be mapped where `configured` is 0: three eighths of the maps that the system allows. With
    /// what readers open until somebody looks at it again that stays below half of them (R14); the other half is for
    /// the allocator, threads and libraries.
    pub fn segments_mapped_max(&self, configured: usize) -> usize {
        match configured {
            0 => usize::try_from(self.maps / 8 * 3).unwrap_or(usize::MAX),
            configured => configured,
        }
    }

    /// How many partitions fit, if the settings allow `configured`.
    pub fn partitions_max(&self, configured: usize) -> PartitionsMax {
        let files = (self.open_files - FILES_RESERVED.min(self.open_files / 4)) / FILES_PER_PARTITION;
        let bounds = [
            (configured, "partitions_max"),
            (
                usize::try_from(files).unwrap_or(usize::MAX),
                "each keeps 2 files open; raise the limit of open files, with ulimit -n or LimitNOFILE=",
            ),
            // Two thirds, so that there are some left for the sealed segments that are read.
            (self.segments_mapped_max(0) / 3 * 2, "each has a memory map; raise the sysctl vm.max_map_count"),
        ];
        let (count, because) = bounds.into_iter().min_by_key(|(count, _)| *count).expect("there are three");
        PartitionsMax { count, because }
    }
}

/// Files and sockets that this process has open.
pub fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_counts_and_is_named() {
        let ample = Limits { open_files: 1 << 20, maps: 65_530 };
        assert_eq!(ample.partitions_max(10_000), PartitionsMax { count: 10_000, because: "partitions_max" });
        let few_files = Limits { open_files: 11_024, ..ample };
        let max = few_files.partitions_max(10_000);
        assert_eq!(max.count, 5_000);
        assert!(max.because.contains("ulimit -n"), "{max:?}");
        let tiny = Limits { open_files: 256, ..ample };
        assert_eq!(tiny.partitions_max(10_000).count, 96);
        let few_maps = Limits { maps: 8_000, ..ample };
        assert_eq!(few_maps.segments_mapped_max(0), 3_000);
        assert_eq!(few_maps.segments_mapped_max(70), 70);
        let max = few_maps.partitions_max(10_000);
        assert_eq!(max.count, 2_000);
        assert!(max.because.contains("vm.max_map_count"), "{max:?}");
    }

    #[test]
    fn the_system_answers() {
        let limits = Limits::raise();
        assert!(limits.maps > 0);
        assert!((open_files().expect("Linux") as u64) < limits.open_files, "{limits:?}");
    }
}
