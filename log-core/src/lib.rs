//! The record format, the wire codec and the storage engine of Highwater.

pub mod wire;
