//! The WebSocket protocol, frame for frame.

#[path = "../common/mod.rs"]
mod common;

mod client_messages;
mod closing;
mod compression;
mod drain;
mod feeds;
mod handshake;
mod history_changes;
mod limits;
mod log;
mod multi;
mod plain;
mod raw;
mod resumable;
mod timeouts;
mod waiting;
