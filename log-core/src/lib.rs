//! The record format, the wire codec and the storage engine of Highwater.

#![deny(unsafe_code)]

#[cfg(feature = "storage")]
pub mod log;
pub mod record;
#[cfg(feature = "storage")]
pub mod storage;
#[cfg(feature = "storage")]
mod sync;
pub mod wire;
