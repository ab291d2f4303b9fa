//! The record format, the wire codec and the storage engine of Highwater.

#![deny(unsafe_code)]

pub mod record;
#[cfg(feature = "storage")]
pub mod storage;
pub mod wire;
