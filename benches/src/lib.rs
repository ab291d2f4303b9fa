//! Shared pieces of the benchmarks: twins that measure the bare hardware, and a client that costs next to nothing.

pub mod twin;
pub mod wire_client;
