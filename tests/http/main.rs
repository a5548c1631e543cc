//! Feeds, history, ingest, health, metrics and server-sent events, as clients of HTTP see them.

#[path = "../common/mod.rs"]
mod common;

mod browser_client;
mod compression;
mod connections;
mod feeds;
mod health;
mod history;
mod hosts;
mod ingest;
mod large_rows;
mod metrics;
mod nginx;
mod origins;
mod request_lines;
mod routes;
mod sse;
