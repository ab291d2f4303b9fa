//! Load shedding: while a lag objective is violated or the disk is past its soft limit, producers to topics of lower
//! classes are held up, then refused, until it is over.
//!
//! - [`ladder`]: how far, one step at a time. Pure; time is an argument.
//! - [`gaps`]: which batches were refused, so that none sent later is taken before them. Pure.
//! - [`spared`]: whose batches are taken all the same.
//! - [`shed`]: the gate that produced batches pass, and its counters.
//!
//! Which class suffers is for others to say: [`slo`](crate::slo) for lag, [`space`](crate::space) for the disk.

mod gaps;
mod ladder;
mod shed;
mod spared;

pub use gaps::{GAP_MAX, GAPS_MAX, Gaps, Place, Sent};
pub use ladder::{Action, Ladder, Pace, Pressure, action_at};
pub use shed::{ClassStatus, Demand, Reason, Shedding, Stamp, Status};
pub use spared::{Pressed, Spared};
