//! What has to be done from time to time: look at the disk, roll and delete segments, forget idle producers, measure.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log_core::log::AppendError;
use log_core::storage::Storage;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::config::BrokerConfig;
use crate::map_budget::MapBudget;
use crate::metrics::Metrics;
use crate::partition::{LEADER_EPOCH, Partition, Registry};
use crate::pressure;
use crate::space::Space;
use crate::topic::name;

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
    /// What keeps the number of maps within its limit.
    pub map_budget: MapBudget,
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
            let done = tokio::task::spawn_blocking(move || work.look_after_all(full_pass));
            if let Err(error) = done.await {
                tracing::error!(%error, "housekeeping failed; it goes on at the next turn");
            }
        }
    }

    fn look_after_all(&self, full_pass: bool) {
        let missing_bytes = self.look_at_space();
        if full_pass || missing_bytes > 0 {
            self.look_after_partitions();
        }
        if missing_bytes > 0 {
            // What has expired is gone by now. Perhaps that was enough.
            let missing_bytes = self.look_at_space();
            let (partitions, floor_ms) = (&self.partitions, self.config.space_retention_floor_ms);
            if missing_bytes > 0
                && pressure::relieve(partitions, &self.metrics, missing_bytes, floor_ms, now_ms()) > 0
            {
                self.look_at_space();
            }
        }
        self.allocate_for_commits();
        self.map_budget.keep();
    }

    /// Measures the disk and opens or shuts the gate. Answers how many bytes are missing to the soft limit.
    pub fn look_at_space(&self) -> u64 {
        let missing = total_bytes(&self.config.data_dir)
            .and_then(|total_bytes| self.space.check(self.storage.as_ref(), total_bytes));
        missing.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot tell how much room the disk has");
            0
        })
    }

    /// Keeps blocks ahead of the ends of the logs that offsets and the ends of transactions are written to, so that both
    /// go on when others have filled the disk.
    fn allocate_for_commits(&self) {
        let internal = [name::CONSUMER_OFFSETS, name::TRANSACTION_STATE];
        for partition in
            internal.iter().filter_map(|topic| self.partitions.topic(topic)).flat_map(|it| it.to_vec())
        {
            if let Err(error) = partition.log().make_room_ahead(self.config.group_reserve_bytes, LEADER_EPOCH)
            {
                tracing::debug!(?partition, %error, "no room ahead for commits; what there is goes on being used");
            }
        }
    }

    fn look_after_partitions(&self) {
        let partitions = self.partitions.all();
        let now_ms = now_ms();
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
            self.metrics.retention_deleted_segments.inc_by(retained.segments_deleted as u64);
            self.metrics.retention_deleted_bytes.inc_by(retained.bytes_deleted);
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
