//! The coordinators: pure state machines that decide and never do I/O (see [`machine`]).
//!
//! Nothing below this module knows a socket, a clock or a runtime; the crate builds with
//! `--no-default-features` to prove it.

mod field;
pub mod group;
pub mod machine;
pub mod pattern;
pub mod transaction;
