//! Sockets: who may connect, what a frame is, and in which order answers leave.
//!
//! Everything in here that waits has a deadline, and everything that grows has a bound: connections (in all and per
//! address), bytes of requests in flight, answers that are queued on a connection.

mod connection;
mod connections;
mod lane;
mod listener;
mod receiver;
mod replies;
mod requests;
mod sender;
mod unanswered;

pub use connections::{Connections, Listed};
pub use listener::Listener;
