//! What every coordinator is: a state machine that decides and a log that remembers.
//!
//! A [`StateMachine`] never reads a clock, never waits and never writes. Its driver (`runtime`) asks it to
//! [`handle`](StateMachine::handle) a command, appends the durable events of the [`Decision`] to a partition
//! log as one batch, [`apply`](StateMachine::apply)s all of its events, and sends its replies once the batch is
//! durable. Because `handle` takes `&self`, a decision that could not be logged has not happened: the driver
//! drops it, and the machine, the log and every parked request are as they were.
//!
//! ```text
//! command ──► handle(&self) ──► Decision { events, replies }
//!                                  │           │
//!             log ◄── encode ◄─────┤           └──► client, after the log is durable
//!                                  └──► apply(&mut self)
//! restart:    log ──► decode ──► apply(&mut self) … ──► loaded(&mut self)
//! ```
//!
//! Events are durable (they have an encoding, and replaying them gives the durable state back) or soft (no
//! encoding: parked requests, heartbeat deadlines). Each machine documents what its soft state is; it is lost on
//! restart by design.

use bytes::Bytes;

/// An instant, seen by both clocks. The driver samples it once a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back. Deadlines are measured on it.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch, by a clock that an operator may set back. What is written to the log
    /// and has to mean something after a restart is measured on it.
    pub wall_ms: i64,
}

/// Names a request that waits for its answer. Unique within one run of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What a machine wants to happen because of one command or one deadline.
#[derive(Debug)]
pub struct Decision<E, R> {
    /// To be applied in this order. The durable ones among them are logged first, as one batch, so that a crash
    /// keeps all of them or none.
    pub events: Vec<E>,
    /// Answers to the command itself or to requests that were parked by earlier ones.
    pub replies: Vec<(Token, R)>,
}

impl<E, R> Decision<E, R> {
    /// Nothing happens and nobody is answered.
    pub fn none() -> Self {
        Decision { events: Vec::new(), replies: Vec::new() }
    }

    /// Nothing changes; `token` is answered.
    pub fn reply(token: Token, reply: R) -> Self {
        Decision { events: Vec::new(), replies: vec![(token, reply)] }
    }

    /// Appends all of `other` behind this decision.
    pub fn extend(&mut self, other: Self) {
        self.events.extend(other.events);
        self.replies.extend(other.replies);
    }
}

impl<E, R> Default for Decision<E, R> {
    fn default() -> Self {
        Decision::none()
    }
}

/// One record of a coordinator's log. A value of `None` is a tombstone: the key's state is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What the entry is about.
    pub key: Bytes,
    /// The key's new state.
    pub value: Option<Bytes>,
}

/// Why a log entry could not be read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by a version that knows more kinds of entries. Skipping it is right: it cannot concern this machine.
    #[error("unknown {what} version {version}")]
    UnknownVersion {
        /// Key or value, of which kind.
        what: &'static str,
        /// The version number found.
        version: i16,
    },
    /// The bytes do not form the entry that they claim to be.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// Key or value, of which kind.
        what: &'static str,
        /// What was expected there.
        reason: &'static str,
    },
}

/// A coordinator as its driver sees it. See the module's documentation for the cycle.
pub trait StateMachine {
    /// A request that may change state.
    type Command;
    /// A change of state, durable or soft.
    type Event;
    /// The answer to a command.
    type Reply;

    /// Decides what `command` leads to. The answer for `token` is among the decision's replies, or the decision's
    /// events park the token and a later decision answers it: exactly once in either case.
    fn handle(&self, now: Now, token: Token, command: Self::Command) -> Decision<Self::Event, Self::Reply>;

    /// Decides what the passing of time leads to. To be called when [`poll_timeout`](Self::poll_timeout) is due;
    /// a call that is early decides nothing. Bounded work: what is left is due again at once.
    fn handle_timeout(&self, now: Now) -> Decision<Self::Event, Self::Reply>;

    /// The monotonic time, in milliseconds, at which [`handle_timeout`](Self::handle_timeout) has to be called next.
    fn poll_timeout(&self) -> Option<u64>;

    /// Makes `event` part of the state. Cannot fail: whatever can be wrong was decided before.
    fn apply(&mut self, event: Self::Event);

    /// The log entry of a durable event; `None` for a soft one.
    fn encode(event: &Self::Event) -> Option<LogEntry>;

    /// The event of a log entry; `Ok(None)` when the entry is valid and says nothing any more.
    fn decode(entry: &LogEntry) -> Result<Option<Self::Event>, EntryError>;

    /// The durable state as entries that, replayed into an empty machine, give it back.
    fn snapshot(&self) -> Box<dyn Iterator<Item = LogEntry> + '_>;

    /// Called once after the last replayed event and before the first command: starts the deadlines that a
    /// restart has lost.
    fn loaded(&mut self, now: Now);
}
