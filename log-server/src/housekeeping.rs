//! What has to be done from time to time: look at the disk, roll and delete segments, forget idle producers, measure.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log_core::log::AppendError;
use log_core::storage::Storage;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::BrokerConfig;
use crate::metrics::Metrics;
use crate::partition::{Partition, Registry};
use crate::space::Space;

/// How often free space is looked at. A full disk is noticed, and its end too, within twice this.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that housekeeping needs.
pub struct Housekeeping {
    /// The settings.
    pub config: Arc<BrokerConfig>,
    /// Where sizes are shown.
    pub metrics: Arc<Metrics>,
    /// What is looked after.
    pub partitions: Arc<Registry>,
    /// The gate for produce.
    pub space: Arc<Space>,
    /// The disk.
    pub storage: Arc<dyn Storage>,
}

impl Housekeeping {
    /// Runs until `shutdown`. What blocks runs off the runtime's threads.
    pub async fn run(self, shutdown: CancellationToken) {
        let housekeeping = Arc::new(self);
        let interval = Duration::from_millis(housekeeping.config.housekeeping_interval_ms.max(1));
        let mut space = tokio::time::interval(SPACE_INTERVAL.min(interval));
        let mut pass = tokio::time::interval(interval);
        space.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pass.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let full_pass = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = pass.tick() => true,
                _ = space.tick() => false,
            };
            let work = housekeeping.clone();
            let done = tokio::task::spawn_blocking(move || {
                work.look_at_space();
                if full_pass {
                    work.look_after_partitions();
                }
            });
            if let Err(error) = done.await {
                tracing::error!(%error, "housekeeping failed; it goes on at the next turn");
            }
        }
    }

    fn look_at_space(&self) {
        let total = match total_bytes(&self.config.data_dir) {
            Ok(total) => total,
            Err(error) => return tracing::warn!(%error, "cannot tell the disk's size"),
        };
        if let Err(error) = self.space.check(self.storage.as_ref(), total) {
            tracing::warn!(%error, "cannot tell the disk's free space");
        }
    }

    fn look_after_partitions(&self) {
        let partitions = self.partitions.all();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let mut bytes = 0;
        for partition in &partitions {
            if let Err(error) = self.look_after(partition, now_ms) {
                tracing::warn!(?partition, %error, "retention failed; it is tried again");
            }
            bytes += partition.log().size_bytes();
        }
        self.metrics.partitions.set(partitions.len() as i64);
        self.metrics.log_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn look_after(&self, partition: &Partition, now_ms: i64) -> Result<(), AppendError> {
        if partition.is_closed() || partition.reader().corruption().is_some() {
            return Ok(());
        }
        let mut log = partition.log();
        // A full disk has no room for a new segment, which is all the more reason to delete old ones.
        let rolled = log.roll_if_due(now_ms);
        let retained = log.enforce_retention(now_ms)?;
        drop(log);
        if retained.segments_deleted > 0 {
            tracing::info!(
                ?partition,
                segments = retained.segments_deleted,
                bytes = retained.bytes_deleted,
                log_start = retained.log_start,
                "deleted what retention does not keep"
            );
        }
        rolled.map(drop)
    }
}

/// The size of the file system that holds `path`, in bytes.
pub(crate) fn total_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}
