//! Shared pieces of the benchmarks: twins that measure the bare hardware, a client that costs next to nothing, and how
//! figures are put together.

pub mod figures;
pub mod twin;
pub mod wire_client;
