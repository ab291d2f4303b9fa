//! Computes lag from committed offsets and the state of the logs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use log_core::log::{Count, CountBudget, Isolation, Search};

use super::Board;
use super::allowance::Allowance;
use super::board::Place;
use super::sample::{GroupLag, LagSample, PartitionLag, Rates};
use crate::clock::now_ms;
use crate::coordinator::group::{GroupCoordinator, GroupOverview, MemberOverview, OffsetOverview};
use crate::handler::Context;
use crate::partition::{Partition, ReaderId, Registry};
use crate::runtime::{GroupRouter, Unavailable};

/// Bytes of log that one look may go through to find out what is not known, 131,072 batches at most. The next goes on
/// from there.
const LOOK_BYTES_MAX: u64 = 64 << 20;

/// The lag of one group at this moment, with the rates of the newest sample; `None` if there is no such group.
///
/// # Errors
/// The group's coordinator does not answer.
pub async fn of_group(context: &Arc<Context>, group: &str) -> Result<Option<GroupLag>, Unavailable> {
    let asked: Arc<str> = group.into();
    let overview = context.groups.query(group, move |groups| groups.overview(&asked)).await?;
    let Some(overview) = overview else { return Ok(None) };
    Ok(compute(context, vec![overview]).await.pop())
}

/// The lag of every group at this moment, ordered by group, with the rates of the newest sample.
///
/// # Errors
/// A coordinator does not answer.
pub async fn of_all_groups(context: &Arc<Context>) -> Result<Vec<GroupLag>, Unavailable> {
    let overviews = ordered(context.groups.query_all(GroupCoordinator::overviews).await?);
    Ok(compute(context, overviews).await)
}

/// Every group whose coordinator answers, ordered by name: one that does not is no reason to know nothing of the
/// others.
///
/// # Errors
/// No coordinator answers.
pub(super) async fn reachable_overviews(groups: &GroupRouter) -> Result<Vec<GroupOverview>, Unavailable> {
    Ok(ordered(groups.query_reachable(GroupCoordinator::overviews).await?))
}

fn ordered(shards: Vec<Vec<GroupOverview>>) -> Vec<GroupOverview> {
    let mut overviews: Vec<_> = shards.into_iter().flatten().collect();
    overviews.sort_unstable_by(|a, b| a.group_id.cmp(&b.group_id));
    overviews
}

/// Off the runtime's threads: what is not remembered is read from the log, perhaps from the disk.
async fn compute(context: &Arc<Context>, overviews: Vec<GroupOverview>) -> Vec<GroupLag> {
    let (partitions, board) = (context.partitions.clone(), context.lag.clone());
    let turn = context.lag.turn().await;
    let computed = tokio::task::spawn_blocking(move || {
        // Here: whoever asked may be gone before the look is over.
        let _turn = turn;
        let measure = Measure::new(&partitions, &board);
        let lags = measure.groups(overviews).into_iter();
        lags.map(|lag| lag.with_rates_of(&measure.sample)).collect()
    });
    match computed.await {
        Ok(lags) => lags,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// What a consumer waits for at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// A record with this timestamp, at this offset.
    For(i64, i64),
    /// A record that does not come before this offset: it has been searched for up to there.
    Beyond(i64),
    /// It has seen everything.
    Nothing,
}

/// One look at groups and logs.
pub(super) struct Measure<'a> {
    partitions: &'a Registry,
    board: &'a Board,
    /// The newest sample when the look began.
    sample: Arc<LagSample>,
    bytes_max: u64,
    pub(super) now_ms: i64,
}

impl<'a> Measure<'a> {
    /// A look at this moment.
    pub(super) fn new(partitions: &'a Registry, board: &'a Board) -> Measure<'a> {
        Measure { partitions, board, sample: board.latest(), bytes_max: LOOK_BYTES_MAX, now_ms: now_ms() }
    }

    /// What groups are behind by, in the same order, their rates left out. Blocks where the log has to be read.
    pub(super) fn groups(&self, overviews: Vec<GroupOverview>) -> Vec<GroupLag> {
        let mut groups: Vec<_> = overviews.into_iter().map(|overview| self.outline(overview)).collect();
        let mut places = Vec::new();
        for group in &mut groups {
            let before = self.sample.group(&group.group);
            for lag in &mut group.partitions {
                places.push((before.and_then(|group| group.partition(&lag.topic, lag.partition)), lag));
            }
        }
        let count = places.len();
        let first = self.board.first_place() % count.max(1);
        places.rotate_left(first);
        // To count, and to search.
        let allowance = Allowance::new(self.bytes_max, 2 * count, self.board.stopping().clone());
        let (mut missed, mut unfinished) = (None, Vec::new());
        for (number, (before, lag)) in places.into_iter().enumerate() {
            if allowance.is_spent() {
                missed.get_or_insert((first + number) % count);
            }
            self.measure(lag, before, &allowance);
            if !lag.exact {
                unfinished.push((before, lag));
            }
        }
        // What the others have not needed, turns included: most places are known and search for nothing.
        allowance.share_out(2 * unfinished.len());
        for (before, lag) in unfinished {
            if !allowance.is_spent() {
                self.measure(lag, before, &allowance);
            }
        }
        if let Some(place) = missed {
            self.board.begin_next_with(place);
        }
        groups
    }

    /// A group with all that is known of it without looking into the logs.
    fn outline(&self, overview: GroupOverview) -> GroupLag {
        let owners = owners(&overview.members);
        let before = self.sample.group(&overview.group_id);
        let committer = self.board.committer(&overview.group_id);
        // An offset may outlive its partition for a moment: the topic is being deleted.
        let lags = overview.offsets.iter().filter_map(|offset| {
            let partition = self.partitions.get(&offset.topic, offset.partition)?;
            let owner = owners.get(&(&*offset.topic, offset.partition)).copied();
            let isolation = isolation(&partition, owner, committer, before);
            Some(outline(&partition, offset, owner, isolation))
        });
        let partitions = lags.collect();
        GroupLag {
            group: overview.group_id,
            state: overview.state,
            protocol_type: overview.protocol_type,
            protocol: overview.protocol,
            partitions,
            members: overview.members,
            rates: Rates::default(),
        }
    }

    /// Looks into the log for the records and seconds of `lag`, which `before` was in the newest sample.
    fn measure(&self, lag: &mut PartitionLag, before: Option<&PartitionLag>, allowance: &Allowance) {
        let Some(partition) = self.partitions.get(&lag.topic, lag.partition) else { return };
        let next = next_offset(lag);
        let count = allowance.turn(|budget| self.count(lag, next..lag.log_end_offset.max(next), budget));
        lag.lag_records = i64::try_from(count.records).unwrap_or(i64::MAX);
        lag.exact = count.exact;
        let waiting = match count.records {
            0 => Waiting::Nothing,
            _ => self.waiting(&partition, next, lag.isolation, allowance),
        };
        match waiting {
            Waiting::For(timestamp_ms, offset) => {
                (lag.lag_seconds, lag.first_offset) =
                    (Some(age_seconds(timestamp_ms, self.now_ms)), Some(offset));
            }
            Waiting::Nothing => {
                (lag.lag_records, lag.exact, lag.lag_seconds) = (0, true, Some(0.0));
            }
            Waiting::Beyond(_) => {
                lag.exact = false;
                let since_ms = self.now_ms - self.sample.sampled_at_ms;
                lag.lag_seconds = before.and_then(|before| aged_seconds(before, since_ms, lag));
            }
        }
    }

    /// The records that a group sees in a range of offsets of a partition.
    pub(super) fn count(&self, lag: &PartitionLag, offsets: Range<i64>, budget: &CountBudget) -> Count {
        let uncounted =
            Count { records: u64::try_from(offsets.end - offsets.start).unwrap_or(0), exact: false };
        let Some(partition) = self.partitions.get(&lag.topic, lag.partition) else { return uncounted };
        partition.reader().count(offsets, lag.isolation, budget).unwrap_or_else(|error| {
            tracing::debug!(topic = %lag.topic, partition = lag.partition, %error, "offsets count as records");
            uncounted
        })
    }

    /// What a consumer at `next` waits for.
    fn waiting(
        &self,
        partition: &Partition,
        next: i64,
        isolation: Isolation,
        allowance: &Allowance,
    ) -> Waiting {
        let reader = partition.reader();
        let place = Place {
            topic: partition.topic_id(),
            partition: partition.index(),
            offset: next,
            committed: isolation == Isolation::Committed,
            compactions: reader.compactions(),
        };
        let known = self.board.waiting().get(&place).unwrap_or(Waiting::Beyond(next));
        let Waiting::Beyond(from) = known else { return known };
        let waiting = match allowance.turn(|budget| reader.first_visible(from, isolation, budget)) {
            Ok(Search::Found(record)) => Waiting::For(record.timestamp, record.offset),
            // For now: not to be remembered.
            Ok(Search::Nothing) => return Waiting::Nothing,
            Ok(Search::Unfinished(offset)) => Waiting::Beyond(offset),
            Err(error) => {
                tracing::debug!(?partition, %error, "no lag in seconds");
                return known;
            }
        };
        self.board.waiting().insert(place, waiting);
        waiting
    }
}

/// A partition of a group as it is without a look into the log: its offsets count as records.
fn outline(
    partition: &Partition,
    committed: &OffsetOverview,
    owner: Option<&MemberOverview>,
    isolation: Isolation,
) -> PartitionLag {
    let watermarks = partition.reader().watermarks();
    let mut lag = PartitionLag {
        topic: partition.topic().clone(),
        partition: partition.index(),
        committed_offset: committed.offset,
        committed_at_ms: committed.committed_at_ms,
        log_start_offset: watermarks.log_start(),
        log_end_offset: match isolation {
            Isolation::Committed => watermarks.last_stable(),
            Isolation::Uncommitted | Isolation::LogEnd => watermarks.high_watermark(),
        },
        isolation,
        lag_records: 0,
        exact: false,
        lag_seconds: None,
        first_offset: None,
        rates: Rates::default(),
        member_id: owner.map(|member| member.member_id.clone()),
        client_id: owner.map(|member| member.client_id.clone()),
    };
    lag.lag_records = (lag.log_end_offset - next_offset(&lag)).max(0);
    lag
}

/// Where the group goes on. An offset below the log start continues at the log start, one beyond the end has nothing
/// before it.
fn next_offset(lag: &PartitionLag) -> i64 {
    lag.committed_offset.max(lag.log_start_offset)
}

/// How the group reads a partition: as the member that has it fetches; else as who has committed without being a
/// member does; else as was known when there was one of them. Where none of that is known, as every consumer does that
/// is not told otherwise.
fn isolation(
    partition: &Partition,
    owner: Option<&MemberOverview>,
    committer: Option<ReaderId>,
    before: Option<&GroupLag>,
) -> Isolation {
    let seen = |reader| partition.readers().isolation_of(reader);
    let of_owner = owner.and_then(|owner| seen(ReaderId::of_member(&owner.client_id, &owner.client_host)?));
    let known = of_owner
        .or_else(|| committer.and_then(seen))
        .or_else(|| Some(before?.partition(partition.topic(), partition.index())?.isolation));
    known.unwrap_or(Isolation::Uncommitted)
}

/// Who works on what.
fn owners(members: &[MemberOverview]) -> HashMap<(&str, i32), &MemberOverview> {
    let mut owners = HashMap::new();
    for member in members {
        for (topic, partitions) in &member.assignment {
            owners.extend(partitions.iter().map(|partition| ((&**topic, *partition), member)));
        }
    }
    owners
}

/// How long ago `timestamp_ms` was; 0 without a timestamp. Never negative: clocks differ between machines, and go back.
fn age_seconds(timestamp_ms: i64, now_ms: i64) -> f64 {
    let age_ms = if timestamp_ms < 0 { 0 } else { now_ms.saturating_sub(timestamp_ms).max(0) };
    age_ms as f64 / 1_000.0
}

/// The lag in seconds of a group of which that was `before`, `since_ms` ago, and cannot be told now: it has grown by a
/// second a second at most, unless the group went back or reads other records than before.
fn aged_seconds(before: &PartitionLag, since_ms: i64, now: &PartitionLag) -> Option<f64> {
    let goes_on = before.isolation == now.isolation
        && before.committed_offset <= now.committed_offset
        && before.log_end_offset <= now.log_end_offset;
    let seconds = before.lag_seconds.filter(|_| goes_on)?;
    Some(seconds + since_ms.max(0) as f64 / 1_000.0)
}

#[cfg(test)]
#[path = "compute_tests.rs"]
mod tests;
