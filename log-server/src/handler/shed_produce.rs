//! Load shedding at the batches of a Produce request ([`crate::shedding`]).
//!
//! - A batch for a topic whose class is refused, and one behind a refused one of the same producer, is
//!   NOT_ENOUGH_REPLICAS: the one error that says "not stored, nothing is wrong with what you know, come again" to every
//!   client. librdkafka gives a batch up at once for THROTTLING_QUOTA_EXCEEDED and asks for metadata again after
//!   KAFKA_STORAGE_ERROR, each time.
//! - A request with a batch for a topic whose class is throttled is taken, and its client held up as if it were over a
//!   quota: the answer has the time, and the connection is not read for as long. A connection that has carried batches
//!   of a class that goes on is not held up, since those would wait as well; refused it can be, since that is said of each
//!   partition. Where many clients share a connection, as all do that produce over HTTP, one cannot be held up without the
//!   others: there a batch is refused instead.
//! - The output of the groups that load is shed for is taken ([`crate::shedding::Spared`]).
//! - What was sent behind a batch that is refused for something that passes, be it by shedding, a full disk or a
//!   coordinator that is busy, is refused until that batch is in the log.

use std::time::{Duration, Instant};

use log_core::wire::ErrorCode;

use super::k00_produce::Refused;
use super::{Context, Request};
use crate::partition::Partition;
use crate::shedding::{Action, Stamp};
use crate::topic::Priority;

/// What a batch is refused for that its producer sends again as it is.
const PASSING: [ErrorCode; 3] =
    [ErrorCode::NotEnoughReplicas, ErrorCode::KafkaStorageError, ErrorCode::ConcurrentTransactions];

/// What becomes of one request.
pub(super) struct Gate<'a> {
    context: &'a Context,
    request: &'a Request,
    /// The highest class that was throttled in it.
    throttled: Option<Priority>,
}

impl<'a> Gate<'a> {
    pub(super) fn new(context: &'a Context, request: &'a Request) -> Gate<'a> {
        Gate { context, request, throttled: None }
    }

    /// Lets a batch by that may be appended.
    ///
    /// # Errors
    /// The refusal, after which producers send the batch again.
    pub(super) fn pass(
        &mut self,
        partition: &Partition,
        stamp: Option<Stamp>,
        bytes: usize,
    ) -> Result<(), Refused> {
        let shedding = &self.context.shedding;
        let shed = shedding.action(&self.context.catalog, partition.topic());
        let shed = shed.filter(|(_, action)| *action == Action::None || !self.is_spared(stamp));
        let (class, action) = shed.unwrap_or((Priority::default(), Action::None));
        let mute = &self.request.connection.mute;
        let refused = |why: &str| Err(Refused::new(ErrorCode::NotEnoughReplicas, why));
        if action == Action::Refused || action == Action::Throttled && mute.is_shared() {
            shedding.count_refused(class, bytes);
            return refused("the topic's priority is too low while load is shed; come again");
        }
        if stamp.is_some_and(|stamp| !shedding.admits(stamp, Instant::now())) {
            return refused("a batch that was sent before this one has yet to come again");
        }
        if action == Action::Throttled {
            self.throttled = self.throttled.max(Some(class));
        } else if shed.is_some() {
            mute.carries(class);
        }
        Ok(())
    }

    fn is_spared(&self, stamp: Option<Stamp>) -> bool {
        let spared = self.context.shedding.spared();
        spared.has(self.request.reader_id(), stamp.map(Stamp::producer_id))
    }

    /// Notes what has become of a batch: it is in the log, or why not.
    pub(super) fn settle(&self, stamp: Option<Stamp>, outcome: Result<(), ErrorCode>) {
        let Some(stamp) = stamp else { return };
        match outcome {
            Ok(()) => self.context.shedding.close_gap(stamp),
            Err(error) if PASSING.contains(&error) => self.context.shedding.open_gap(stamp, Instant::now()),
            // Its producer gives it up, or knows better than to send what comes behind it.
            Err(_) => {}
        }
    }

    /// How long the client is to be held up.
    pub(super) fn hold(&self) -> Duration {
        let Some(class) = self.throttled else { return Duration::ZERO };
        match self.request.connection.mute.highest() {
            Some(highest) if highest > class => Duration::ZERO,
            _ => self.context.shedding.throttle(class),
        }
    }
}
