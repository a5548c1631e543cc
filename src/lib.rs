//! walcast turns the tables of a SQLite file into live feeds: it sees each commit, reads the new rows and sends every
//! one of them to the subscribers that asked for it.
//!
//! ```text
//! commit ─▶ Wake ─▶ Reader ─▶ Block ─▶ Hub ─▶ Session ─▶ socket
//! ```
//!
//! Every subscriber is a position in a table, and the table is the log: live delivery, catch-up after a reconnect, a
//! slow client and history are all "rows above this id, a page at a time", from memory when they are recent and from
//! SQLite when they are not.

// Whatever can fail here is told or handled; where it can't fail, the line that allows it says why.
#![warn(clippy::unwrap_used, clippy::expect_used)]
// What only this crate uses says so. In the crates of tests and benches that would tell nothing.
#![warn(unreachable_pub)]

pub mod access;
pub mod address;
pub mod catchup;
pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod edge;
pub mod fanout;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod http;
pub mod hub;
pub mod model;
pub mod net;
pub mod os;
pub mod publish;
pub mod session;
pub mod sinks;
pub mod source;
pub mod sqlite;
pub mod telemetry;
pub mod text;
pub mod wire;
